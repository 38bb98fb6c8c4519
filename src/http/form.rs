//! What answers are to be, and what is made of their texts: thoughts, words and calls, judged when they are complete.

use serde_json::{Map, Value};

use super::generate::off_thread;
use super::wire::{ApiError, Call, Endpoint, Reason, Said, Shared, ToolChoice, Tools, refused};
use crate::ids::TokenId;
use crate::runtime::{Held, ServedModel};
use crate::sample::{BadShape, CallFormat, Constraint, Shape};
use crate::sched::FinishReason;
use crate::text::{CallSyntax, Controls, Message, Part, Presented, Speech, Thinking, ToolUse};

/// Last tokens of a prompt that say whether thoughts have begun.
const TAIL: usize = 8;

/// What the answers of a request are to be.
#[derive(Debug, Clone)]
pub(super) struct Form {
    thinking: Thinking,
    calls: Option<Calls>,
    constraint: Option<Constraint>,
}

/// The calls of an answer.
#[derive(Debug, Clone)]
struct Calls {
    syntax: CallSyntax,
    functions: Vec<String>,
    required: bool,
}

impl Form {
    /// What `shared` asks for, of answers to `prompt`.
    pub(super) async fn of(
        model: &Held,
        endpoint: Endpoint,
        shared: &Shared,
        prompt: &[TokenId],
    ) -> Result<Self, ApiError> {
        let thinking = match endpoint {
            Endpoint::Chat => thinking(model, prompt),
            Endpoint::Completion => Thinking::Never,
        };
        let offered = shared
            .tools
            .as_ref()
            .filter(|t| t.choice != ToolChoice::None);
        let format = offered.map(|tools| call_format(model, tools));
        let calls = format.as_ref().map(|format| Calls {
            syntax: format.syntax,
            functions: format.functions.iter().map(|f| f.name.clone()).collect(),
            required: format.required,
        });
        let asked = match (format, &shared.format) {
            (Some(_), Some(format)) => {
                let reason = "is about the text of an answer that may be calls: leave it out, or set tool_choice to \
                              \"none\"";
                return Err(ApiError::bad(format.param, reason));
            }
            (Some(format), None) => Some((Shape::Calls(format), "tools")),
            (None, Some(format)) => Some((format.shape.clone(), format.param)),
            (None, None) => None,
        };
        let constraint = match asked {
            None => None,
            Some(_) if shared.ignore_eos => {
                let reason = "goes on behind the end of an answer whose form ends it: leave it out";
                return Err(ApiError::bad("ignore_eos", reason));
            }
            Some((shape, param)) => {
                let grammars = model.grammars.clone();
                // What calls keep to may be text, and text may have thoughts.
                let before = match &calls {
                    Some(calls) if !calls.required => Thinking::Never,
                    _ => thinking,
                };
                let compiled = off_thread(move || grammars.compile(&shape, before)).await?;
                Some(compiled.map_err(|bad| refused(param, &original(shared, bad)))?)
            }
        };
        Ok(Form {
            thinking,
            calls,
            constraint,
        })
    }

    /// What tokens are kept to.
    pub(super) fn constraint(&self) -> Option<Constraint> {
        self.constraint.clone()
    }

    /// One answer, at its beginning.
    pub(super) fn saying(&self) -> Saying {
        let mut speech = Speech::new(self.thinking);
        if let Some(calls) = &self.calls {
            speech = speech.calling(calls.syntax, calls.functions.clone());
        }
        Saying {
            form: self.clone(),
            speech,
            said: Said::default(),
        }
    }
}

/// Messages as the model is told them, with the functions that `shared` offers it; `begun` is whether they go on with
/// a chat that was told of them.
pub(super) fn present(
    model: &ServedModel,
    shared: &Shared,
    messages: Vec<Message>,
    begun: bool,
) -> Presented {
    let offered = shared.tools.as_ref();
    let told = offered.filter(|tools| tools.choice != ToolChoice::None);
    let told = told.map(|tools| tools.described.clone());
    ToolUse::of(&model.template).present(messages, told, begun)
}

/// What a template is told about thinking, or why it cannot be.
pub(super) fn thoughts(
    model: &ServedModel,
    think: Option<bool>,
) -> Result<Map<String, Value>, ApiError> {
    let thinks = model.template.thinks();
    let switched = model.template.source().contains("enable_thinking");
    let refuse = |reason: &str| Err(ApiError::bad("think", format!("{reason}: leave it out")));
    match think {
        None => Ok(Map::new()),
        Some(think) if switched => {
            let named = ("enable_thinking".to_owned(), Value::Bool(think));
            Ok(Map::from_iter([named]))
        }
        Some(false) if thinks => refuse("is false, and this model's thoughts cannot be left out"),
        Some(true) if !thinks => {
            refuse("is true, and this model has no thoughts that are told apart")
        }
        Some(_) => Ok(Map::new()),
    }
}

fn call_format(model: &Held, tools: &Tools) -> CallFormat {
    let named = match &tools.choice {
        ToolChoice::Named(name) => Some(name),
        ToolChoice::Auto | ToolChoice::None | ToolChoice::Required => None,
    };
    let functions = tools.functions.iter();
    let functions = functions.filter(|f| named.is_none_or(|name| f.name == *name));
    CallFormat {
        functions: functions.cloned().collect(),
        syntax: ToolUse::of(&model.template).syntax,
        required: matches!(tools.choice, ToolChoice::Required | ToolChoice::Named(_)),
        several: tools.parallel && named.is_none(),
    }
}

/// The pointer of a list that has the chosen function only, as one of the whole list.
fn original(shared: &Shared, bad: BadShape) -> BadShape {
    let Some(tools) = &shared.tools else {
        return bad;
    };
    let ToolChoice::Named(name) = &tools.choice else {
        return bad;
    };
    let place = tools.functions.iter().position(|f| f.name == *name);
    match (place, bad.pointer.strip_prefix("/0/")) {
        (Some(place), Some(rest)) => BadShape {
            pointer: format!("/{place}/{rest}"),
            ..bad
        },
        _ => bad,
    }
}

/// Where the thoughts of an answer to `prompt` are.
fn thinking(model: &Held, prompt: &[TokenId]) -> Thinking {
    if !model.template.thinks() {
        return Thinking::Never;
    }
    let tail = prompt.get(prompt.len().saturating_sub(TAIL)..);
    let tail = model
        .tokenizer
        .decode(tail.unwrap_or_default(), Controls::Keep);
    match tail.trim_end() {
        tail if tail.ends_with("<think>") => Thinking::Begun,
        tail if tail.ends_with("</think>") => Thinking::Never,
        _ => Thinking::Maybe,
    }
}

/// One answer as it comes.
#[derive(Debug)]
pub(super) struct Saying {
    form: Form,
    speech: Speech,
    /// All of it so far.
    said: Said,
}

impl Saying {
    /// The parts that are certain with `text`.
    pub(super) fn push(&mut self, text: &str) -> Vec<Part> {
        let parts = self.speech.push(text);
        self.note(&parts);
        parts
    }

    /// The last parts, and why the answer ended. An answer that ended by itself is what was asked for, or there is an
    /// error; one that was cut is not judged.
    pub(super) fn finish(&mut self, reason: FinishReason) -> Result<(Vec<Part>, Reason), ApiError> {
        let parts = self.speech.finish();
        self.note(&parts);
        if reason == FinishReason::Stop {
            self.judge()?;
        }
        let reason = match Reason::from(reason) {
            Reason::Stop if !self.said.calls.is_empty() => Reason::ToolCalls,
            other => other,
        };
        Ok((parts, reason))
    }

    /// An answer whose whole text is `text`.
    pub(super) fn whole(
        mut self,
        text: &str,
        reason: FinishReason,
    ) -> Result<(Said, Reason), ApiError> {
        self.push(text);
        let (_, reason) = self.finish(reason)?;
        for call in &mut self.said.calls {
            call.index = None;
        }
        Ok((self.said, reason))
    }

    fn note(&mut self, parts: &[Part]) {
        for part in parts {
            match part {
                Part::Words(text) => self.said.words.push_str(text),
                Part::Thought(text) => self.said.thought.get_or_insert_default().push_str(text),
                Part::Call { index, name } => {
                    self.said
                        .calls
                        .push(Call::begin(Some(*index), name.clone()));
                }
                Part::Arguments { index, text } => {
                    if let Some(call) = self.said.calls.get_mut(*index) {
                        call.function.arguments.push_str(text);
                    }
                }
            }
        }
    }

    fn judge(&self) -> Result<(), ApiError> {
        let Some(constraint) = &self.form.constraint else {
            return Ok(());
        };
        match &self.form.calls {
            None => constraint.check(&self.said.words)?,
            Some(calls) if calls.required && self.said.calls.is_empty() => {
                let text =
                    "the answer is no call, though one was required: a stop string has cut it";
                return Err(ApiError::new(500, "invalid_output", text));
            }
            Some(_) => {}
        }
        for call in &self.said.calls {
            let name = call.function.name.as_deref().unwrap_or_default();
            constraint.check_call(name, &call.function.arguments)?;
        }
        Ok(())
    }
}
