//! The lines of an answer of `/api/generate` and `/api/chat`.

use std::time::{Duration, Instant, SystemTime};

use actix_web::HttpResponse;
use actix_web::web::Bytes;
use futures_util::Stream;
use serde::Serialize;
use serde_json::{Value, json};

use super::ask::Route;
use super::generate::named;
use crate::http::logprobs::Teller;
use crate::http::narration::{Narrator, Whole};
use crate::http::respond::{self, line};
use crate::http::wire::{ApiError, ChatLogprob, Dialect, Reason, Said};
use crate::kv::KvReport;
use crate::runtime::{Finish, TokenPiece};
use crate::text::Part;

/// What all lines of an answer share.
pub(super) struct Lines {
    pub(super) route: Route,
    /// The model, by the name that it was asked by.
    pub(super) model: String,
    /// When the request came.
    pub(super) began: Instant,
    /// How long it took until the model was there.
    pub(super) load: Duration,
    /// Tells log-probabilities, when they are asked for.
    pub(super) teller: Option<Teller>,
    /// A call whose arguments are still coming, in a stream.
    pub(super) calling: Option<(String, String)>,
}

/// A line, or a whole answer.
#[derive(Debug, Serialize)]
struct Line<'a> {
    model: &'a str,
    created_at: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    response: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    thinking: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    message: Option<Spoken>,
    #[serde(skip_serializing_if = "Option::is_none")]
    logprobs: Option<Vec<ChatLogprob>>,
    done: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    done_reason: Option<&'static str>,
    #[serde(flatten)]
    took: Option<Took>,
}

#[derive(Debug, Serialize)]
struct Spoken {
    role: &'static str,
    content: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    thinking: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tool_calls: Vec<Called>,
}

#[derive(Debug, Serialize)]
struct Called {
    function: Function,
}

#[derive(Debug, Serialize)]
struct Function {
    name: String,
    arguments: Value,
}

/// What a line says.
#[derive(Debug, Default)]
struct Words {
    text: String,
    thought: Option<String>,
    calls: Vec<Called>,
}

impl Words {
    fn is_empty(&self) -> bool {
        self.text.is_empty() && self.thought.is_none() && self.calls.is_empty()
    }
}

impl From<Said> for Words {
    fn from(said: Said) -> Self {
        let calls = said.calls.into_iter().map(|call| call.function);
        let calls = calls
            .filter_map(|function| called(function.name.unwrap_or_default(), &function.arguments));
        Words {
            text: said.words,
            thought: said.thought,
            calls: calls.collect(),
        }
    }
}

/// A whole call. One that was cut by the limit of tokens has no arguments that could be told: the reason of the end says
/// that it was cut.
fn called(name: String, arguments: &str) -> Option<Called> {
    let arguments = serde_json::from_str(arguments).ok()?;
    Some(Called {
        function: Function { name, arguments },
    })
}

/// Counts of tokens, and times in nanoseconds.
#[derive(Debug, Clone, PartialEq, Serialize)]
struct Took {
    total_duration: u64,
    load_duration: u64,
    prompt_eval_count: usize,
    prompt_eval_duration: u64,
    eval_count: usize,
    eval_duration: u64,
    kv: KvReport,
}

/// A time as these answers have it.
pub(super) fn rfc3339(time: SystemTime) -> String {
    humantime::format_rfc3339_nanos(time).to_string()
}

fn nanoseconds(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

impl Lines {
    fn line(&self, words: Words) -> Line<'_> {
        let (response, thinking, message) = match self.route {
            Route::Generate => (Some(words.text), words.thought, None),
            Route::Chat => {
                let message = Spoken {
                    role: "assistant",
                    content: words.text,
                    thinking: words.thought,
                    tool_calls: words.calls,
                };
                (None, None, Some(message))
            }
        };
        Line {
            model: &self.model,
            created_at: rfc3339(SystemTime::now()),
            response,
            thinking,
            message,
            logprobs: None,
            done: false,
            done_reason: None,
            took: None,
        }
    }

    fn last(&self, words: Words, reason: Reason, finish: &Finish) -> Line<'_> {
        let usage = &finish.usage;
        let reason = match reason {
            Reason::Stop | Reason::ToolCalls => "stop",
            Reason::Length => "length",
        };
        Line {
            done: true,
            done_reason: Some(reason),
            took: Some(Took {
                total_duration: nanoseconds(self.began.elapsed()),
                load_duration: nanoseconds(self.load),
                prompt_eval_count: usage.prompt_tokens,
                prompt_eval_duration: nanoseconds(usage.first_token.saturating_sub(usage.queue)),
                eval_count: usage.completion_tokens,
                eval_duration: nanoseconds(usage.total.saturating_sub(usage.first_token)),
                kv: finish.kv.clone(),
            }),
            ..self.line(words)
        }
    }

    /// The answer to a request that says nothing: the model was loaded, or let go of.
    pub(super) fn nothing(&self, reason: &'static str) -> impl Serialize {
        Line {
            done: true,
            done_reason: Some(reason),
            ..self.line(Words::default())
        }
    }
}

impl Lines {
    /// The call whose arguments have all come.
    fn call(&mut self) -> Option<Called> {
        let (name, arguments) = self.calling.take()?;
        called(name, &arguments)
    }

    /// Parts as one line has them; a call is told when it is whole.
    fn words(&mut self, parts: Vec<Part>) -> Words {
        let mut words = Words::default();
        for part in parts {
            match part {
                Part::Words(text) => words.text += &text,
                Part::Thought(text) => *words.thought.get_or_insert_default() += &text,
                Part::Call { name, .. } => {
                    words.calls.extend(self.call());
                    self.calling = Some((name, String::new()));
                }
                Part::Arguments { text, .. } => {
                    if let Some((_, arguments)) = &mut self.calling {
                        arguments.push_str(&text);
                    }
                }
            }
        }
        words
    }
}

impl Narrator for Lines {
    fn whole(self, answer: Whole) -> Value {
        let teller = self.teller.as_ref();
        let logprobs = teller.map(|teller| teller.entries(&answer.tokens));
        json!(Line {
            logprobs,
            ..self.last(answer.said.into(), answer.reason, &answer.finish)
        })
    }

    fn response(parts: impl Stream<Item = Bytes> + 'static) -> HttpResponse {
        respond::lines(parts)
    }

    fn rename(&self, error: ApiError) -> ApiError {
        named(self.route, error)
    }

    fn say(&mut self, parts: Vec<Part>, tokens: &[TokenPiece]) -> Vec<Bytes> {
        let words = self.words(parts);
        let told = self.teller.as_ref().filter(|_| !tokens.is_empty());
        let logprobs = told.map(|teller| teller.entries(tokens));
        if words.is_empty() && logprobs.is_none() {
            return Vec::new();
        }
        vec![line(&Line {
            logprobs,
            ..self.line(words)
        })]
    }

    fn done(&mut self, reason: Reason, finish: &Finish) -> Vec<Bytes> {
        let words = Words {
            calls: self.call().into_iter().collect(),
            ..Words::default()
        };
        vec![line(&self.last(words, reason, finish))]
    }

    fn failed(&mut self, error: &ApiError) -> Vec<Bytes> {
        vec![line(&error.body_in(Dialect::Ollama))]
    }
}
