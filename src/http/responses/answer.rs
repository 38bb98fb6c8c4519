//! A response as a list of items, at once or event by event.

use actix_web::web::{Bytes, Data};
use serde_json::{Map, Value, json};

use super::ask::rename;
use super::kept::{self, Response};
use crate::http::narration::{Narrator, Whole};
use crate::http::respond::{self, named_event};
use crate::http::serve::State;
use crate::http::wire::fields::set;
use crate::http::wire::{ApiError, Reason};
use crate::ids::SessionId;
use crate::runtime::{Finish, Held, TokenPiece};
use crate::text::Part;

/// A response under way. Dropped before its end, it leaves no session behind.
pub(super) struct Items {
    pub(super) state: Data<State>,
    pub(super) model: Held,
    pub(super) id: String,
    pub(super) created: u64,
    /// Who asked, and what the talk began with.
    pub(super) who: String,
    pub(super) instructions: Option<String>,
    /// What it repeats of its request.
    pub(super) told: Map<String, Value>,
    /// The session that it leaves, if it is kept.
    pub(super) session: Option<SessionId>,
    pub(super) output: Vec<Value>,
    pub(super) open: Option<Open>,
    pub(super) events: u64,
}

/// An item that is being told.
pub(super) struct Open {
    kind: Kind,
    id: String,
    text: String,
}

enum Kind {
    Words,
    Thought,
    Call { call_id: String, name: String },
}

fn name(prefix: &str) -> String {
    let (high, low): (u64, u64) = (rand::random(), rand::random());
    format!("{prefix}_{high:016x}{low:016x}")
}

impl Open {
    fn item(&self, status: &str, text: &str) -> Value {
        match &self.kind {
            Kind::Words => {
                let content = match status {
                    "in_progress" => json!([]),
                    _ => json!([self.part(text)]),
                };
                json!({"id": self.id, "type": "message", "status": status, "role": "assistant", "content": content})
            }
            Kind::Thought => {
                let content = match status {
                    "in_progress" => json!([]),
                    _ => json!([self.part(text)]),
                };
                json!({"id": self.id, "type": "reasoning", "summary": [], "content": content, "status": status})
            }
            Kind::Call { call_id, name } => {
                json!({"id": self.id, "type": "function_call", "status": status,
                "call_id": call_id, "name": name, "arguments": text})
            }
        }
    }

    fn part(&self, text: &str) -> Value {
        match self.kind {
            Kind::Thought => json!({"type": "reasoning_text", "text": text}),
            Kind::Words | Kind::Call { .. } => {
                json!({"type": "output_text", "text": text, "annotations": [], "logprobs": []})
            }
        }
    }

    /// The name of its deltas.
    fn event(&self) -> &'static str {
        match self.kind {
            Kind::Words => "response.output_text",
            Kind::Thought => "response.reasoning_text",
            Kind::Call { .. } => "response.function_call_arguments",
        }
    }
}

impl Items {
    fn event(&mut self, name: &str, mut body: Value) -> Bytes {
        set(&mut body, "type", json!(name));
        set(&mut body, "sequence_number", json!(self.events));
        self.events += 1;
        named_event(name, &body)
    }

    /// The response as it is now.
    fn response(&self, status: &str) -> Value {
        let mut body = json!({
            "id": self.id,
            "object": "response",
            "created_at": self.created,
            "status": status,
            "background": false,
            "error": null,
            "incomplete_details": null,
            "model": self.model.id.as_str(),
            "output": self.output,
            "truncation": "disabled",
            "usage": null,
        });
        if let Some(map) = body.as_object_mut() {
            map.extend(self.told.clone());
        }
        body
    }

    /// Where the open item is, for its events.
    fn place(&self, open: &Open) -> Map<String, Value> {
        let mut place = Map::new();
        place.insert("item_id".to_owned(), json!(open.id));
        place.insert("output_index".to_owned(), json!(self.output.len()));
        if !matches!(open.kind, Kind::Call { .. }) {
            place.insert("content_index".to_owned(), json!(0));
        }
        place
    }

    fn about(&self, open: &Open, field: &str, value: Value) -> Value {
        let mut body = self.place(open);
        body.insert(field.to_owned(), value);
        Value::Object(body)
    }

    fn enter(&mut self, kind: Kind) -> Vec<Bytes> {
        let mut events = self.close("completed");
        let prefix = match kind {
            Kind::Words => "msg",
            Kind::Thought => "rs",
            Kind::Call { .. } => "fc",
        };
        let open = Open {
            kind,
            id: name(prefix),
            text: String::new(),
        };
        let added =
            json!({"output_index": self.output.len(), "item": open.item("in_progress", "")});
        events.push(self.event("response.output_item.added", added));
        if !matches!(open.kind, Kind::Call { .. }) {
            let added = self.about(&open, "part", open.part(""));
            events.push(self.event("response.content_part.added", added));
        }
        self.open = Some(open);
        events
    }

    fn add(&mut self, text: String) -> Vec<Bytes> {
        let Some(mut open) = self.open.take() else {
            return Vec::new();
        };
        open.text.push_str(&text);
        let mut delta = self.about(&open, "delta", json!(text));
        if matches!(open.kind, Kind::Words) {
            set(&mut delta, "logprobs", json!([]));
        }
        let name = format!("{}.delta", open.event());
        let event = self.event(&name, delta);
        self.open = Some(open);
        vec![event]
    }

    fn close(&mut self, status: &str) -> Vec<Bytes> {
        let Some(open) = self.open.take() else {
            return Vec::new();
        };
        let field = match open.kind {
            Kind::Call { .. } => "arguments",
            Kind::Words | Kind::Thought => "text",
        };
        let mut done = self.about(&open, field, json!(open.text));
        match &open.kind {
            Kind::Words => set(&mut done, "logprobs", json!([])),
            Kind::Call { name, .. } => set(&mut done, "name", json!(name)),
            Kind::Thought => {}
        }
        let mut events = vec![self.event(&format!("{}.done", open.event()), done)];
        if !matches!(open.kind, Kind::Call { .. }) {
            let part = self.about(&open, "part", open.part(&open.text));
            events.push(self.event("response.content_part.done", part));
        }
        let item = open.item(status, &open.text);
        let done = json!({"output_index": self.output.len(), "item": item});
        events.push(self.event("response.output_item.done", done));
        self.output.push(item);
        events
    }

    /// The response as it has ended; from now on others may go on from it.
    fn end(&mut self, reason: Reason, finish: &Finish) -> Value {
        let usage = &finish.usage;
        let cut = reason == Reason::Length;
        let mut body = self.response(if cut { "incomplete" } else { "completed" });
        if cut {
            set(
                &mut body,
                "incomplete_details",
                json!({"reason": "max_output_tokens"}),
            );
        }
        set(
            &mut body,
            "usage",
            json!({
                "input_tokens": usage.prompt_tokens,
                "input_tokens_details": {"cached_tokens": usage.cached_tokens, "cache_write_tokens": 0},
                "output_tokens": usage.completion_tokens,
                "output_tokens_details": {"reasoning_tokens": 0},
                "total_tokens": usage.prompt_tokens + usage.completion_tokens,
            }),
        );
        set(&mut body, "kv", json!(finish.kv));
        if let Some(session) = self.session.take() {
            let gone = self.state.responses.put(Response {
                id: self.id.clone(),
                session,
                who: self.who.clone(),
                model: self.model.id.to_string(),
                instructions: self.instructions.clone(),
                body: body.clone(),
            });
            if let Some(gone) = gone {
                forget(&self.state, gone);
            }
        }
        body
    }
}

/// What the last item of a response is.
fn status(reason: Reason) -> &'static str {
    match reason {
        Reason::Length => "incomplete",
        Reason::Stop | Reason::ToolCalls => "completed",
    }
}

/// Erases what a response that is no longer kept has left.
pub(super) fn forget(state: &Data<State>, gone: Response) {
    let state = Data::clone(state);
    actix_web::rt::spawn(async move {
        // A model that is not loaded now still has the files of its sessions.
        if let Ok(model) = state.runtime.model(Some(&gone.model)).await {
            kept::erase(state.runtime.clone(), model, gone.session).await;
        }
    });
}

impl Drop for Items {
    fn drop(&mut self) {
        if let Some(session) = self.session.take() {
            let erasing = kept::erase(self.state.runtime.clone(), self.model.clone(), session);
            actix_web::rt::spawn(erasing);
        }
    }
}

impl Narrator for Items {
    fn whole(mut self, answer: Whole) -> Value {
        let mut parts = Vec::new();
        parts.extend(answer.said.thought.map(Part::Thought));
        if !answer.said.words.is_empty() {
            parts.push(Part::Words(answer.said.words));
        }
        for (index, call) in answer.said.calls.into_iter().enumerate() {
            let name = call.function.name.unwrap_or_default();
            let text = call.function.arguments;
            parts.push(Part::Call { index, name });
            parts.push(Part::Arguments { index, text });
        }
        self.say(parts, &[]);
        self.close(status(answer.reason));
        self.end(answer.reason, &answer.finish)
    }

    fn rename(&self, error: ApiError) -> ApiError {
        rename(error)
    }

    fn open(&mut self) -> Vec<Bytes> {
        let begun = json!({"response": self.response("in_progress")});
        vec![
            self.event("response.created", begun.clone()),
            self.event("response.in_progress", begun),
        ]
    }

    fn say(&mut self, parts: Vec<Part>, _: &[TokenPiece]) -> Vec<Bytes> {
        let mut events = Vec::new();
        for part in parts {
            let is = |wanted: fn(&Kind) -> bool| {
                self.open.as_ref().is_some_and(|open| wanted(&open.kind))
            };
            match part {
                Part::Words(text) => {
                    if !is(|kind| matches!(kind, Kind::Words)) {
                        events.extend(self.enter(Kind::Words));
                    }
                    events.extend(self.add(text));
                }
                Part::Thought(text) => {
                    if !is(|kind| matches!(kind, Kind::Thought)) {
                        events.extend(self.enter(Kind::Thought));
                    }
                    events.extend(self.add(text));
                }
                Part::Call { name: called, .. } => {
                    let call_id = name("call");
                    events.extend(self.enter(Kind::Call {
                        call_id,
                        name: called,
                    }));
                }
                Part::Arguments { text, .. } => events.extend(self.add(text)),
            }
        }
        events
    }

    fn done(&mut self, reason: Reason, finish: &Finish) -> Vec<Bytes> {
        let mut events = self.close(status(reason));
        let body = self.end(reason, finish);
        let name = match reason {
            Reason::Length => "response.incomplete",
            Reason::Stop | Reason::ToolCalls => "response.completed",
        };
        events.push(self.event(name, json!({ "response": body })));
        events
    }

    fn failed(&mut self, error: &ApiError) -> Vec<Bytes> {
        let mut events = self.close("incomplete");
        let mut body = self.response("failed");
        set(
            &mut body,
            "error",
            json!({"code": error.code, "message": error.message}),
        );
        events.push(self.event("response.failed", json!({ "response": body })));
        events
    }

    fn waiting(&self) -> Option<Bytes> {
        Some(respond::comment())
    }
}
