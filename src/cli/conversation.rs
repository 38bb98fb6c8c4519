//! The conversation of a chat: every turn is sent again through the chat template, so nothing is ever cut in silence.

use std::sync::Arc;

use anyhow::{Context, Result, bail};

use super::commands::nearest;
use super::exit::Signal;
use super::flags::Drawing;
use super::generate::{End, answer_json, chat_prompt, generate, kv_words, tokens_per_s};
use super::output;
use super::signals::Signals;
use crate::runtime::{Finish, Runtime, ServedModel};
use crate::sched::FinishReason;
use crate::text::{Message, Role};

const KEYS: [&str; 6] = [
    "temperature",
    "top_k",
    "top_p",
    "min_p",
    "seed",
    "max_tokens",
];

/// A conversation with a model.
pub(super) struct Conversation {
    runtime: Runtime,
    /// Who answers.
    pub(super) model: Arc<ServedModel>,
    /// How answers are drawn.
    pub(super) drawing: Drawing,
    json: bool,
    system: Option<String>,
    turns: Vec<Message>,
    last: Option<Finish>,
}

/// How a turn ended.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Turn {
    /// With a whole answer.
    Answered,
    /// At the token limit.
    Cut,
    /// By a signal; what came until then is part of the conversation.
    Stopped(Signal),
}

impl Conversation {
    /// A conversation that begins; answers are printed as text while they come, or whole as a line of JSON.
    pub(super) fn new(
        runtime: Runtime,
        model: Arc<ServedModel>,
        drawing: Drawing,
        json: bool,
    ) -> Self {
        Conversation {
            runtime,
            model,
            drawing,
            json,
            system: None,
            turns: Vec::new(),
            last: None,
        }
    }

    /// Forgets the turns.
    pub(super) fn clear(&mut self) {
        self.turns.clear();
        self.last = None;
    }

    /// Forgets the turns, and sets the instructions.
    pub(super) fn set_system(&mut self, text: Option<String>) {
        self.system = text;
        self.clear();
    }

    /// Asks, and prints the answer as it comes. A turn that fails leaves the conversation as it was.
    ///
    /// # Errors
    /// When the conversation with this turn does not fit the context, or the engine fails.
    pub(super) async fn ask(&mut self, question: &str, signals: &mut Signals) -> Result<Turn> {
        self.turns.push(Message::new(Role::User, question));
        let asked = self.answer(signals).await;
        if asked.is_err() {
            self.turns.pop();
        }
        asked
    }

    async fn answer(&mut self, signals: &mut Signals) -> Result<Turn> {
        let system = self
            .system
            .iter()
            .map(|text| Message::new(Role::System, text));
        let messages: Vec<Message> = system.chain(self.turns.iter().cloned()).collect();
        let prompt = chat_prompt(&self.model, &messages)?;
        let json = self.json;
        let show = |part: &str| if json { Ok(()) } else { output::answer(part) };
        let generated = generate(
            &self.runtime,
            &self.model,
            prompt,
            &self.drawing,
            signals,
            show,
        )
        .await?;
        if json {
            output::json_line(&answer_json(&self.model.id, &generated))?;
        } else {
            output::line("")?;
        }
        self.turns
            .push(Message::new(Role::Assistant, generated.text));
        match generated.end {
            End::Stopped(signal) => Ok(Turn::Stopped(signal)),
            End::Done(finish) => {
                let cut = finish.reason == FinishReason::Length;
                self.last = Some(finish);
                Ok(if cut { Turn::Cut } else { Turn::Answered })
            }
        }
    }

    /// What the KV cache of the last answer kept.
    pub(super) fn kv(&self) -> String {
        match &self.last {
            Some(finish) => kv_words(&finish.kv),
            None => "there is no answer yet".to_owned(),
        }
    }

    /// Tokens and times of the last answer.
    pub(super) fn stats(&self) -> String {
        let Some(Finish { usage, .. }) = &self.last else {
            return "there is no answer yet".to_owned();
        };
        let rate =
            tokens_per_s(usage).map_or(String::new(), |rate| format!(", {rate} tokens/s after it"));
        format!(
            "{} prompt tokens of a context of {}, {} answer tokens; first token after {:.2} s{rate}",
            usage.prompt_tokens,
            self.model.context,
            usage.completion_tokens,
            usage.first_token.as_secs_f64()
        )
    }

    /// Sets one value of the drawing.
    ///
    /// # Errors
    /// An unknown key, or a value out of its range; nothing is changed then.
    pub(super) fn set(&mut self, key: &str, value: &str) -> Result<()> {
        let mut changed = self.drawing.clone();
        let raw = &mut changed.raw;
        match key {
            "temperature" => raw.temperature = Some(number(key, value)?),
            "top_k" => raw.top_k = Some(number(key, value)?),
            "top_p" => raw.top_p = Some(number(key, value)?),
            "min_p" => raw.min_p = Some(number(key, value)?),
            "seed" => raw.seed = Some(number(key, value)?),
            "max_tokens" => {
                let tokens: std::num::NonZeroUsize = number(key, value)?;
                changed.max_tokens = Some(tokens.get());
            }
            _ => match nearest(key, &KEYS) {
                Some(near) => bail!("there is no {key} to set: did you mean {near}?"),
                None => bail!("there is no {key} to set, there are {}", KEYS.join(", ")),
            },
        }
        changed.params()?;
        self.drawing = changed;
        Ok(())
    }
}

fn number<T: std::str::FromStr>(key: &str, value: &str) -> Result<T>
where
    T::Err: std::error::Error + Send + Sync + 'static,
{
    value
        .parse()
        .with_context(|| format!("{value:?} is no value of {key}"))
}
