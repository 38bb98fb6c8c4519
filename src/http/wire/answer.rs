//! Answers and the chunks of streams, in OpenAI's shapes with our additions: `kv`, `timings`, ids.

use serde::Serialize;

use super::{ApiError, Logprobs, Timings, UsageOut};
use crate::ids::{RequestId, TokenId};
use crate::kv::KvReport;
use crate::sched::FinishReason;

/// Which endpoint is answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::http) enum Endpoint {
    /// `/v1/chat/completions`.
    Chat,
    /// `/v1/completions`.
    Completion,
}

impl Endpoint {
    /// The route.
    pub(in crate::http) fn route(self) -> &'static str {
        match self {
            Endpoint::Chat => "/v1/chat/completions",
            Endpoint::Completion => "/v1/completions",
        }
    }

    /// The error with the prompt under the name that a client of this endpoint knows.
    pub(in crate::http) fn rename(self, error: ApiError) -> ApiError {
        match (self, error.param.as_deref()) {
            (Endpoint::Chat, Some("prompt")) => error.about("messages"),
            _ => error,
        }
    }

    fn object(self, stream: bool) -> &'static str {
        match (self, stream) {
            (Endpoint::Chat, false) => "chat.completion",
            (Endpoint::Chat, true) => "chat.completion.chunk",
            (Endpoint::Completion, _) => "text_completion",
        }
    }
}

/// Why a choice ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(in crate::http) enum Reason {
    /// The model ended its text, or a stop string was met.
    Stop,
    /// `max_tokens` or the context was reached.
    Length,
    /// It calls functions.
    ToolCalls,
}

impl From<FinishReason> for Reason {
    fn from(reason: FinishReason) -> Self {
        match reason {
            FinishReason::Stop => Reason::Stop,
            FinishReason::Length => Reason::Length,
        }
    }
}

/// What is the same in an answer and all chunks of a stream.
#[derive(Debug, Clone)]
pub(in crate::http) struct Envelope {
    endpoint: Endpoint,
    id: String,
    created: u64,
    model: String,
    /// Chunks before the one with the counts say `usage: null`.
    counted: bool,
}

/// An answer or a chunk.
#[derive(Debug, Serialize)]
pub(in crate::http) struct Answer<'a> {
    id: &'a str,
    object: &'static str,
    created: u64,
    model: &'a str,
    system_fingerprint: Option<&'static str>,
    choices: Vec<Choice>,
    #[serde(skip_serializing_if = "Option::is_none")]
    usage: Option<Option<UsageOut>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    kv: Option<KvReport>,
    #[serde(skip_serializing_if = "Option::is_none")]
    timings: Option<Timings>,
}

/// What one choice says.
#[derive(Debug, Default, Serialize)]
pub(in crate::http) struct Choice {
    index: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    message: Option<Delta>,
    #[serde(skip_serializing_if = "Option::is_none")]
    delta: Option<Delta>,
    #[serde(skip_serializing_if = "Option::is_none")]
    text: Option<String>,
    /// Present even if `null`: typed clients ask for it.
    pub(in crate::http) logprobs: Option<Logprobs>,
    pub(in crate::http) finish_reason: Option<Reason>,
    /// Ids of the prompt.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(in crate::http) prompt_token_ids: Option<Vec<TokenId>>,
    /// Ids of what was generated (since the last chunk).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(in crate::http) token_ids: Option<Vec<TokenId>>,
    /// This choice's cache, when there are several.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(in crate::http) kv: Option<KvReport>,
}

/// A message or what is new of it.
#[derive(Debug, Default, Serialize)]
pub(in crate::http) struct Delta {
    #[serde(skip_serializing_if = "Option::is_none")]
    role: Option<&'static str>,
    /// `null` in a message that only calls.
    #[serde(skip_serializing_if = "Option::is_none")]
    content: Option<Option<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reasoning_content: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tool_calls: Vec<Call>,
}

/// A call of a function, or what is new of it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub(in crate::http) struct Call {
    /// Which, in streams.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(in crate::http) index: Option<usize>,
    /// Its name among others; in a stream's first chunk of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(in crate::http) id: Option<String>,
    /// `function`, beside the id.
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    pub(in crate::http) kind: Option<&'static str>,
    /// What is called.
    pub(in crate::http) function: CalledFunction,
}

/// The function of a call.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub(in crate::http) struct CalledFunction {
    /// Its name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(in crate::http) name: Option<String>,
    /// JSON text, in streams a part of it.
    pub(in crate::http) arguments: String,
}

/// What a whole choice says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(in crate::http) struct Said {
    /// The words.
    pub(in crate::http) words: String,
    /// The thoughts before them, if the model has any.
    pub(in crate::http) thought: Option<String>,
    /// Calls.
    pub(in crate::http) calls: Vec<Call>,
}

impl Call {
    /// A call as a whole or, without arguments, as it begins.
    pub(in crate::http) fn begin(index: Option<usize>, name: String) -> Self {
        let (high, low): (u64, u32) = (rand::random(), rand::random());
        Call {
            index,
            id: Some(format!("call_{high:016x}{low:08x}")),
            kind: Some("function"),
            function: CalledFunction {
                name: Some(name),
                arguments: String::new(),
            },
        }
    }

    /// More arguments.
    pub(in crate::http) fn more(index: usize, arguments: String) -> Self {
        Call {
            index: Some(index),
            function: CalledFunction {
                name: None,
                arguments,
            },
            ..Call::default()
        }
    }
}

impl Choice {
    /// A whole choice.
    pub(in crate::http) fn whole(endpoint: Endpoint, index: usize, said: Said) -> Self {
        match endpoint {
            Endpoint::Completion => Choice::piece(endpoint, index, said.words),
            Endpoint::Chat => {
                let only_calls = said.words.is_empty() && !said.calls.is_empty();
                let message = Delta {
                    role: Some("assistant"),
                    content: Some((!only_calls).then_some(said.words)),
                    reasoning_content: said.thought,
                    tool_calls: said.calls,
                };
                Choice {
                    index,
                    message: Some(message),
                    ..Choice::default()
                }
            }
        }
    }

    /// A chunk with a thought.
    pub(in crate::http) fn thought(index: usize, text: String) -> Self {
        Choice::delta(
            index,
            Delta {
                reasoning_content: Some(text),
                ..Delta::default()
            },
        )
    }

    /// A chunk with a part of a call.
    pub(in crate::http) fn call(index: usize, call: Call) -> Self {
        Choice::delta(
            index,
            Delta {
                tool_calls: vec![call],
                ..Delta::default()
            },
        )
    }

    fn delta(index: usize, delta: Delta) -> Self {
        Choice {
            index,
            delta: Some(delta),
            ..Choice::default()
        }
    }

    /// The first chunk of a choice: who speaks.
    pub(in crate::http) fn opening(endpoint: Endpoint, index: usize) -> Self {
        let mut choice = Choice::piece(endpoint, index, String::new());
        if let Some(delta) = &mut choice.delta {
            delta.role = Some("assistant");
        }
        choice
    }

    /// A chunk with text.
    pub(in crate::http) fn piece(endpoint: Endpoint, index: usize, text: String) -> Self {
        let (delta, text) = match endpoint {
            Endpoint::Completion => (None, Some(text)),
            Endpoint::Chat => {
                let content = Some(Some(text));
                let delta = Delta {
                    content,
                    ..Delta::default()
                };
                (Some(delta), None)
            }
        };
        Choice {
            index,
            delta,
            text,
            ..Choice::default()
        }
    }

    /// The last chunk of a choice.
    pub(in crate::http) fn last(endpoint: Endpoint, index: usize, reason: Reason) -> Self {
        let mut choice = Choice::piece(endpoint, index, String::new());
        choice.delta = choice.delta.map(|_| Delta::default());
        choice.finish_reason = Some(reason);
        choice
    }
}

impl Envelope {
    /// What is known at the start; `created` in seconds since 1970.
    pub(in crate::http) fn new(
        endpoint: Endpoint,
        request: &RequestId,
        created: u64,
        model: String,
        counted: bool,
    ) -> Self {
        let prefix = match endpoint {
            Endpoint::Chat => "chatcmpl",
            Endpoint::Completion => "cmpl",
        };
        Envelope {
            endpoint,
            id: format!("{prefix}-{request}"),
            created,
            model,
            counted,
        }
    }

    /// The endpoint.
    pub(in crate::http) fn endpoint(&self) -> Endpoint {
        self.endpoint
    }

    /// A whole answer.
    pub(in crate::http) fn whole(
        &self,
        choices: Vec<Choice>,
        usage: UsageOut,
        kv: Option<KvReport>,
        timings: Timings,
    ) -> Answer<'_> {
        Answer {
            usage: Some(Some(usage)),
            kv,
            timings: Some(timings),
            ..self.answer(choices, false)
        }
    }

    /// A chunk of a stream.
    pub(in crate::http) fn chunk(&self, choice: Choice) -> Answer<'_> {
        Answer {
            usage: self.counted.then_some(None),
            ..self.answer(vec![choice], true)
        }
    }

    /// The last chunk of a choice.
    pub(in crate::http) fn end(
        &self,
        choice: Choice,
        kv: KvReport,
        timings: Timings,
    ) -> Answer<'_> {
        Answer {
            kv: Some(kv),
            timings: Some(timings),
            ..self.chunk(choice)
        }
    }

    /// The chunk of counts.
    pub(in crate::http) fn counts(
        &self,
        usage: UsageOut,
        kv: Option<KvReport>,
        timings: Timings,
    ) -> Answer<'_> {
        Answer {
            usage: Some(Some(usage)),
            kv,
            timings: Some(timings),
            ..self.answer(Vec::new(), true)
        }
    }

    fn answer(&self, choices: Vec<Choice>, stream: bool) -> Answer<'_> {
        Answer {
            id: &self.id,
            object: self.endpoint.object(stream),
            created: self.created,
            model: &self.model,
            system_fingerprint: None,
            choices,
            usage: None,
            kv: None,
            timings: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn envelope(endpoint: Endpoint, counted: bool) -> Envelope {
        Envelope::new(endpoint, &"r1".parse().unwrap(), 7, "m".to_owned(), counted)
    }

    #[test]
    fn chunks_have_a_role_once_and_a_reason_at_the_end() {
        let chat = envelope(Endpoint::Chat, true);
        let value = |choice| serde_json::to_value(chat.chunk(choice)).unwrap();
        let first = value(Choice::opening(Endpoint::Chat, 1));
        assert_eq!(
            first,
            json!({"id": "chatcmpl-r1", "object": "chat.completion.chunk", "created": 7, "model": "m",
                "system_fingerprint": null, "usage": null, "choices": [{"index": 1, "logprobs": null,
                "finish_reason": null, "delta": {"role": "assistant", "content": ""}}]})
        );
        let piece = value(Choice::piece(Endpoint::Chat, 0, "x".to_owned()));
        assert_eq!(piece["choices"][0]["delta"], json!({"content": "x"}));
        let last = value(Choice::last(Endpoint::Chat, 0, Reason::Stop));
        assert_eq!(last["choices"][0]["delta"], json!({}));
        assert_eq!(last["choices"][0]["finish_reason"], "stop");
    }

    #[test]
    fn completions_have_text_and_uncounted_streams_no_usage() {
        let plain = envelope(Endpoint::Completion, false);
        let chunk = plain.chunk(Choice::piece(Endpoint::Completion, 0, "x".to_owned()));
        let chunk = serde_json::to_value(chunk).unwrap();
        assert_eq!(chunk["object"], "text_completion");
        assert_eq!(chunk["choices"][0]["text"], "x");
        assert!(chunk.get("usage").is_none() && chunk["choices"][0].get("delta").is_none());
    }
}
