//! The conversation of a chat. Its words are kept here, and its cache in a session, so that a turn feeds only what is
//! new; whatever the cache has not seen is read again, and nothing is ever cut in silence.

use std::collections::BTreeSet;

use anyhow::{Context, Result, bail};

mod shelf;

use super::commands::nearest;
use super::exit::Signal;
use super::flags::Drawing;
use super::generate::{End, answer_json, chat_prompt, generate, kept_call, kv_words, tokens_per_s};
use super::keeper::Keeper;
use super::kept::Kept;
use super::output;
use super::signals::Signals;
use crate::history::{self, Beginning};
use crate::ids::SessionId;
use crate::kv::HeadChoice;
use crate::runtime::{Draft, Finish, Held, Runtime, SessionError, SessionPicture};
use crate::sched::FinishReason;
use crate::text::{Message, Role, pieces};

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
    pub(super) model: Held,
    /// What finds that model again.
    name: String,
    /// How answers are drawn.
    pub(super) drawing: Drawing,
    json: bool,
    system: Option<String>,
    turns: Vec<Message>,
    last: Option<Finish>,
    /// What puts the calls into the history.
    keeper: Keeper,
    /// Whose cache holds what was said.
    session: Current,
    /// Sessions that no file holds: they end with the chat.
    loose: BTreeSet<SessionId>,
    /// Tokens that the session's cache had evicted before the last answer; unknown of one that was loaded.
    evicted: Option<usize>,
}

/// The session that is gone on with.
struct Current {
    name: SessionId,
    /// Whether a person named it; otherwise it ends with its conversation.
    named: bool,
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
        (model, name): (Held, String),
        drawing: Drawing,
        json: bool,
        system: Option<String>,
        keeper: Keeper,
    ) -> Self {
        Conversation {
            runtime,
            model,
            name,
            drawing,
            json,
            system,
            turns: Vec::new(),
            last: None,
            keeper,
            session: Current::fresh(),
            loose: BTreeSet::new(),
            evicted: Some(0),
        }
    }

    /// Goes on after what a conversation of the history has; its cache is read anew with the next question.
    pub(super) fn go_on(&mut self, said: history::Conversation) {
        self.turns = said.messages();
        self.system = said.beginning.system;
    }

    /// Forgets the turns.
    pub(super) async fn clear(&mut self) {
        self.leave(Current::fresh()).await;
        self.turns.clear();
    }

    /// Forgets the turns, and sets the instructions.
    pub(super) async fn set_system(&mut self, text: Option<String>) {
        self.system = text;
        self.clear().await;
    }

    /// Goes on with another model, to which all that was said is new. Returns the one before.
    pub(super) async fn change_model(&mut self, model: Held, name: String) -> Held {
        self.end().await;
        self.leave(Current::fresh()).await;
        self.name = name;
        std::mem::replace(&mut self.model, model)
    }

    /// Ends all sessions that were not saved.
    pub(super) async fn end(&mut self) {
        for session in std::mem::take(&mut self.loose) {
            self.drop_session(&session).await;
        }
    }

    /// Goes on with another session; the one before ends, unless somebody named it.
    async fn leave(&mut self, next: Current) {
        let before = std::mem::replace(&mut self.session, next);
        if !before.named && self.loose.remove(&before.name) {
            self.drop_session(&before.name).await;
        }
        self.last = None;
        self.evicted = Some(0);
        self.keeper.begin_anew();
    }

    async fn drop_session(&self, session: &SessionId) {
        if let Err(error) = self.runtime.sessions().erase(&self.model, session).await {
            tracing::debug!(%session, %error, "a session could not be ended");
        }
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
        let draft = self.draft()?;
        let prompt = chat_prompt(&self.model, Some(draft), messages)?;
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
        if let Some((question, before)) = self.turns.split_last() {
            let call = kept_call("chat", &self.name, &question.content, &generated);
            let beginning = || Beginning {
                system: self.system.clone(),
                raw: false,
                before: before.to_vec(),
            };
            self.keeper.keep(beginning, &call);
        }
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
                let before = self.last.as_ref().map(|last| last.kv.evicted);
                self.evicted = before.or(self.evicted);
                self.last = Some(*finish);
                if !self.session.named {
                    self.loose.insert(self.session.name.clone());
                }
                Ok(if cut { Turn::Cut } else { Turn::Answered })
            }
        }
    }

    /// A turn of the session. When its cache is lost, another one begins: all that was said is here to be read again.
    fn draft(&self) -> Result<Draft, SessionError> {
        let sessions = self.runtime.sessions();
        match sessions.begin(&self.model.id, &self.session.name) {
            Err(SessionError::Unknown(_)) => sessions.begin(&self.model.id, &self.session.name),
            begun => begun,
        }
    }

    /// What the last turn evicted and took back, if it did.
    pub(super) fn moved(&self) -> Option<String> {
        let kv = &self.last.as_ref()?.kv;
        let evicted = self
            .evicted
            .map_or(0, |before| kv.evicted.saturating_sub(before));
        match (evicted, kv.recalled) {
            (0, 0) => None,
            (evicted, 0) => Some(format!("{evicted} tokens evicted")),
            (0, recalled) => Some(format!("{recalled} evicted tokens recalled")),
            (evicted, recalled) => Some(format!("{evicted} tokens evicted, {recalled} recalled")),
        }
    }

    /// What the KV cache of the last answer kept.
    pub(super) fn kv(&self) -> String {
        match &self.last {
            Some(finish) => kv_words(&finish.kv),
            None => "there is no answer yet".to_owned(),
        }
    }

    /// The tokens of the session, and which of them its cache keeps; none where there is no answer yet.
    ///
    /// # Errors
    /// When the engine fails.
    pub(super) async fn kept(&self) -> Result<Vec<Kept>> {
        let sessions = self.runtime.sessions();
        let which = HeadChoice::default();
        let looked = sessions.picture(&self.model, &self.session.name, which);
        let SessionPicture {
            picture, tokens, ..
        } = match looked.await {
            Err(SessionError::Unknown(_)) => return Ok(Vec::new()),
            looked => looked?,
        };
        let texts = pieces(&self.model.tokenizer, &tokens);
        let score = |position: usize| {
            let scores = picture.scores.as_ref();
            scores.and_then(|(_, scores)| scores.get(position)).copied()
        };
        let token = |(position, (token, text))| Kept {
            token,
            text,
            kept: picture.kept.get(position).copied().unwrap_or(0.0),
            score: score(position).unwrap_or(0.0),
        };
        let all = tokens.into_iter().zip(texts).enumerate();
        Ok(all.map(token).collect())
    }

    /// What the model is, and under which instructions it answers.
    pub(super) fn show(&self) -> String {
        let system = self.system.as_deref().unwrap_or("none");
        format!(
            "{}: {}, a context of {} tokens\ninstructions: {system}\n",
            self.model.id, self.model.about, self.model.context
        )
    }

    /// Forgets the last question and its answer, and returns the question. What was said before is read again; a session
    /// that somebody named stays as it is.
    pub(super) async fn undo(&mut self) -> Option<String> {
        let last = self
            .turns
            .iter()
            .rposition(|turn| turn.role == Role::User)?;
        let question = self.turns.get(last)?.content.clone();
        self.leave(Current::fresh()).await;
        self.turns.truncate(last);
        Some(question)
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

impl Current {
    fn fresh() -> Self {
        Current {
            name: SessionId::random(),
            named: false,
        }
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
