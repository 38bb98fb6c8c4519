//! An answer as blocks, at once or event by event.

use actix_web::web::Bytes;
use serde_json::{Value, json};

use super::ask::rename;
use crate::http::narration::{Narrator, Whole};
use crate::http::respond::named_event;
use crate::http::wire::fields::set;
use crate::http::wire::{ApiError, Dialect, Reason};
use crate::runtime::{Finish, TokenPiece};
use crate::text::Part;

/// What all parts of an answer share.
pub(super) struct Blocks {
    pub(super) id: String,
    pub(super) model: String,
    pub(super) prompt_tokens: usize,
    /// The block that is open, and how many there were before it.
    pub(super) open: Option<Kind>,
    pub(super) closed: usize,
}

/// What a block is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Text,
    Thinking,
    /// A call, by its place among the calls.
    Call(usize),
}

fn tool_id() -> String {
    let (high, low): (u64, u32) = (rand::random(), rand::random());
    format!("toolu_{high:016x}{low:08x}")
}

/// Prompt tokens that a cache held are told apart.
fn usage(finish: &Finish) -> Value {
    let usage = &finish.usage;
    json!({
        "input_tokens": usage.prompt_tokens.saturating_sub(usage.cached_tokens),
        "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": usage.cached_tokens,
        "output_tokens": usage.completion_tokens,
    })
}

/// Why it ended, and the string that ended it.
fn end(reason: Reason, finish: &Finish) -> (&'static str, Option<&str>) {
    let stop = finish.stop.as_deref();
    match reason {
        Reason::Stop if stop.is_some() => ("stop_sequence", stop),
        Reason::Stop => ("end_turn", None),
        Reason::Length => ("max_tokens", None),
        Reason::ToolCalls => ("tool_use", None),
    }
}

impl Blocks {
    fn message(&self, content: Vec<Value>) -> Value {
        json!({
            "id": self.id,
            "type": "message",
            "role": "assistant",
            "model": self.model,
            "content": content,
            "stop_reason": null,
            "stop_sequence": null,
            "usage": {
                "input_tokens": self.prompt_tokens,
                "cache_creation_input_tokens": 0,
                "cache_read_input_tokens": 0,
                "output_tokens": 0,
            },
        })
    }

    fn close(&mut self) -> Option<Bytes> {
        self.open.take()?;
        let index = self.closed;
        self.closed += 1;
        Some(event("content_block_stop", json!({ "index": index })))
    }

    /// Opens a block, unless it is open; what was open is closed.
    fn enter(&mut self, kind: Kind, block: impl FnOnce() -> Value) -> Vec<Bytes> {
        if self.open == Some(kind) {
            return Vec::new();
        }
        let mut events: Vec<Bytes> = self.close().into_iter().collect();
        self.open = Some(kind);
        events.push(event(
            "content_block_start",
            json!({"index": self.closed, "content_block": block()}),
        ));
        events
    }

    fn delta(&self, delta: Value) -> Bytes {
        event(
            "content_block_delta",
            json!({"index": self.closed, "delta": delta}),
        )
    }
}

/// An event, whose name is its type.
fn event(name: &str, mut body: Value) -> Bytes {
    set(&mut body, "type", json!(name));
    named_event(name, &body)
}

impl Narrator for Blocks {
    /// A call that was cut by the limit of tokens has no input that could be told: the reason of the
    /// end says that it was cut.
    fn whole(self, answer: Whole) -> Value {
        let mut content = Vec::new();
        if let Some(thought) = answer.said.thought {
            content.push(json!({"type": "thinking", "thinking": thought, "signature": ""}));
        }
        if !answer.said.words.is_empty() {
            content.push(json!({"type": "text", "text": answer.said.words}));
        }
        for call in answer.said.calls {
            if let Ok(input) = serde_json::from_str::<Value>(&call.function.arguments) {
                let name = call.function.name;
                content.push(
                    json!({"type": "tool_use", "id": tool_id(), "name": name, "input": input}),
                );
            }
        }
        let mut message = self.message(content);
        let (reason, stop) = end(answer.reason, &answer.finish);
        set(&mut message, "stop_reason", json!(reason));
        set(&mut message, "stop_sequence", json!(stop));
        set(&mut message, "usage", usage(&answer.finish));
        set(&mut message, "kv", json!(answer.finish.kv));
        message
    }

    fn rename(&self, error: ApiError) -> ApiError {
        rename(error)
    }

    fn open(&mut self) -> Vec<Bytes> {
        let message = self.message(Vec::new());
        vec![event("message_start", json!({ "message": message }))]
    }

    fn say(&mut self, parts: Vec<Part>, _: &[TokenPiece]) -> Vec<Bytes> {
        let mut events = Vec::new();
        for part in parts {
            match part {
                Part::Words(text) => {
                    events.extend(self.enter(Kind::Text, || json!({"type": "text", "text": ""})));
                    events.push(self.delta(json!({"type": "text_delta", "text": text})));
                }
                Part::Thought(text) => {
                    let block = || json!({"type": "thinking", "thinking": "", "signature": ""});
                    events.extend(self.enter(Kind::Thinking, block));
                    events.push(self.delta(json!({"type": "thinking_delta", "thinking": text})));
                }
                Part::Call { index, name } => {
                    let block =
                        || json!({"type": "tool_use", "id": tool_id(), "name": name, "input": {}});
                    events.extend(self.enter(Kind::Call(index), block));
                }
                Part::Arguments { text, .. } => {
                    events.push(
                        self.delta(json!({"type": "input_json_delta", "partial_json": text})),
                    );
                }
            }
        }
        events
    }

    fn done(&mut self, reason: Reason, finish: &Finish) -> Vec<Bytes> {
        let mut events: Vec<Bytes> = self.close().into_iter().collect();
        let (reason, stop) = end(reason, finish);
        let delta = json!({"stop_reason": reason, "stop_sequence": stop});
        events.push(event(
            "message_delta",
            json!({"delta": delta, "usage": usage(finish), "kv": finish.kv}),
        ));
        events.push(event("message_stop", json!({})));
        events
    }

    fn failed(&mut self, error: &ApiError) -> Vec<Bytes> {
        vec![named_event("error", &error.body_in(Dialect::Anthropic))]
    }

    fn waiting(&self) -> Option<Bytes> {
        Some(event("ping", json!({})))
    }
}
