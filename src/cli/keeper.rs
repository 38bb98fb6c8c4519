//! What puts the calls of a command into the history, and takes a conversation out of it to go on with.

use std::path::PathBuf;

use anyhow::Result;

use super::exit::Usage;
use super::flags::HistoryFlags;
use super::host::Host;
use crate::history::{Beginning, Call, Conversation, ConversationId, History, Place};
use crate::store::Home;

/// The history's file.
pub(super) fn path(home: &Home) -> PathBuf {
    home.history().join("calls.db")
}

/// The history, made if there is none.
pub(super) fn open(home: &Home) -> Result<History> {
    home.create()?;
    Ok(History::open(&path(home))?)
}

/// Keeps the calls of a command. What cannot be kept is told, and the answer stands.
pub(super) struct Keeper {
    /// `None` where nothing is to be kept.
    history: Option<History>,
    /// The conversation that the next call belongs to; `None` when it begins one.
    conversation: Option<ConversationId>,
}

impl Keeper {
    /// As the flags and the settings say. Returns the conversation that is to be gone on with, too.
    ///
    /// # Errors
    /// When there is no such conversation, it is no chat, or the history cannot be read.
    pub(super) fn open(
        host: &Host,
        flags: &HistoryFlags,
    ) -> Result<(Keeper, Option<Conversation>)> {
        let keeps = host.settings().history.calls && !flags.no_log;
        if !flags.goes_on() {
            // A history that cannot be opened keeps nobody from an answer.
            let opened = keeps.then(|| open(host.home()));
            let keeper = Keeper {
                history: opened.and_then(|opened| opened.map_err(untold).ok()),
                conversation: None,
            };
            return Ok((keeper, None));
        }
        let history = open(host.home())?;
        let id = history.find_or_last(flags.conversation.as_ref())?;
        let said = history.conversation(&id)?;
        if said.beginning.raw {
            let what = format!(
                "conversation {id} is a text that was continued, and no chat: begin a new one, or name another with --conversation"
            );
            return Err(Usage(what).into());
        }
        let keeper = Keeper {
            history: keeps.then_some(history),
            conversation: Some(id),
        };
        Ok((keeper, Some(said)))
    }

    /// The next call begins a conversation.
    pub(super) fn begin_anew(&mut self) {
        self.conversation = None;
    }

    /// Keeps a call. `beginning` says what was there before it.
    pub(super) fn keep(&mut self, beginning: impl FnOnce() -> Beginning, call: &Call) {
        let Some(history) = &mut self.history else {
            return;
        };
        let kept = match &self.conversation {
            Some(id) => history.add(Place::In(id), call),
            None => history.add(Place::Begins(&beginning()), call),
        };
        match kept {
            Ok(id) => self.conversation = Some(id),
            Err(error) => untold(error.into()),
        }
    }
}

impl HistoryFlags {
    /// Whether a conversation of the history is gone on with.
    pub(super) fn goes_on(&self) -> bool {
        self.go_on || self.conversation.is_some()
    }
}

fn untold(error: anyhow::Error) {
    tracing::warn!(
        error = format!("{error:#}"),
        "this call is not kept in the history"
    );
}
