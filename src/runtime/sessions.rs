//! Conversations whose caches outlive their requests, as this side knows them: what was said, how many tokens the
//! parked cache has seen, and the one that it has not.
//!
//! The caches are the device's (see [`crate::sched::SessionOrder`]). Both sides move together: a turn works on a
//! [`Draft`], which is dropped when the turn fails and committed when the engine has parked the turn's cache, and an
//! engine that loses its device calls [`Sessions::lost`].

#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::SystemTime;

use dashmap::DashMap;
use dashmap::mapref::entry::Entry;
use serde::{Deserialize, Serialize};

use super::replica::ReplicaId;
use crate::ids::{ModelId, SessionId, TokenId};
use crate::kv::Policy;
use crate::sched::ForwardError;
use crate::text::{Message, Role};

/// What is known of a conversation between two turns.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Talk {
    /// What was said, ending with a reply; empty when it is a text and no chat.
    pub messages: Vec<Message>,
    /// Tokens that the parked cache has seen.
    pub seen: usize,
    /// Those tokens; empty when they are not known, as of a file that an older version wrote.
    #[serde(default)]
    pub tokens: Vec<TokenId>,
    /// The last token of the last reply, if it was drawn and not fed. A token that ended a text is none.
    pub pending: Option<TokenId>,
    /// How the cache is bounded: decided by the first turn.
    pub policy: Option<Policy>,
    /// Turns that were answered.
    pub turns: usize,
    /// When the last of them was.
    pub updated: SystemTime,
}

impl Talk {
    fn new() -> Self {
        Talk {
            messages: Vec::new(),
            seen: 0,
            tokens: Vec::new(),
            pending: None,
            policy: None,
            turns: 0,
            updated: SystemTime::now(),
        }
    }
}

/// Why nothing can be done with a session.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SessionError {
    /// A request is at work on it.
    #[error("session {0} is at work on another request: wait until that one is answered")]
    Busy(SessionId),
    /// There is none, or its cache is gone.
    #[error("{}", ForwardError::UnknownSession(.0.clone()))]
    Unknown(SessionId),
    /// There is one already.
    #[error("session {0} exists already: erase it first, or choose another name")]
    Taken(SessionId),
    /// The device could not do it.
    #[error("{0}")]
    Failed(String),
    /// The device was lost.
    #[error("{0}; try it again")]
    Lost(String),
}

type Key = (ModelId, SessionId);

#[derive(Debug, Default)]
struct Slot {
    /// Absent before the first turn was answered.
    talk: Option<Talk>,
    busy: bool,
    /// Its cache is gone, and nobody was told yet.
    lost: bool,
    /// The engine that has its cache.
    home: Option<ReplicaId>,
}

/// All conversations of the process, by model and name. Clones share them.
#[derive(Debug, Clone, Default)]
pub struct Sessions(Arc<DashMap<Key, Slot>>);

impl Sessions {
    /// Begins a turn of a conversation, of a new one when there is none of the name.
    ///
    /// # Errors
    /// [`SessionError::Busy`] while another turn is under way; [`SessionError::Unknown`] once when its cache was lost:
    /// the next call begins anew.
    pub fn begin(&self, model: &ModelId, session: &SessionId) -> Result<Draft, SessionError> {
        let (draft, lost) = self.hold(model, session)?;
        match lost {
            true => Err(SessionError::Unknown(session.clone())),
            false => Ok(draft),
        }
    }

    /// Keeps others off a conversation, whatever is left of it; also says whether its cache was lost.
    pub(super) fn hold(
        &self,
        model: &ModelId,
        session: &SessionId,
    ) -> Result<(Draft, bool), SessionError> {
        let key = (model.clone(), session.clone());
        let mut slot = self.0.entry(key.clone()).or_default();
        if slot.busy {
            return Err(SessionError::Busy(session.clone()));
        }
        slot.busy = true;
        let lost = std::mem::take(&mut slot.lost);
        if lost {
            slot.talk = None;
        }
        let draft = Draft {
            table: self.clone(),
            talk: slot.talk.clone().unwrap_or_else(Talk::new),
            key,
            said: Vec::new(),
            fed: Vec::new(),
        };
        Ok((draft, lost))
    }

    /// The engine whose cache a session goes on with.
    pub(super) fn home(&self, model: &ModelId, session: &SessionId) -> Option<ReplicaId> {
        let slot = self.0.get(&(model.clone(), session.clone()))?;
        slot.home.clone()
    }

    /// Whether this process has the cache of a session.
    pub fn is_here(&self, model: &ModelId, session: &SessionId) -> bool {
        self.known(model, session, false).is_some()
    }

    /// A session's cache is, or will be, at this engine.
    pub(super) fn settle(&self, session: &SessionId, home: &ReplicaId) {
        if let Some(mut slot) = self.0.get_mut(&(home.model.clone(), session.clone())) {
            slot.home = Some(home.clone());
        }
    }

    /// The device of an engine was lost, and all that was parked there.
    pub(super) fn lost(&self, engine: &ReplicaId) {
        let here = |slot: &Slot| slot.home.as_ref() == Some(engine);
        for mut slot in self.0.iter_mut().filter(|slot| here(slot.value())) {
            slot.lost = true;
            // Their words are of no more use, and may be many.
            if let Some(talk) = &mut slot.talk {
                *talk = Talk::new();
            }
        }
    }

    /// Whether a session's cache is gone.
    pub(super) fn is_lost(&self, engine: &ReplicaId, session: &SessionId) -> bool {
        let slot = self.0.get(&(engine.model.clone(), session.clone()));
        slot.is_some_and(|slot| slot.lost)
    }

    /// What is known of one, without its words unless `whole`.
    pub(super) fn known(&self, model: &ModelId, session: &SessionId, whole: bool) -> Option<Talk> {
        let slot = self.0.get(&(model.clone(), session.clone()))?;
        let talk = slot.talk.as_ref().filter(|_| !slot.lost)?;
        let (messages, tokens) = match whole {
            true => (talk.messages.clone(), talk.tokens.clone()),
            false => (Vec::new(), Vec::new()),
        };
        Some(Talk {
            messages,
            tokens,
            policy: talk.policy.clone(),
            ..*talk
        })
    }
}

/// A conversation under work: nobody else gets it meanwhile. Dropped, it leaves the conversation as it was.
#[derive(Debug)]
pub struct Draft {
    table: Sessions,
    key: Key,
    talk: Talk,
    /// Messages of this turn.
    said: Vec<Message>,
    /// Tokens of this turn, as far as they are known.
    fed: Vec<TokenId>,
}

impl Draft {
    /// The name.
    pub fn session(&self) -> &SessionId {
        &self.key.1
    }

    /// The conversation as it was when the turn began.
    pub fn talk(&self) -> &Talk {
        &self.talk
    }

    /// Whether this is its first turn.
    pub fn is_new(&self) -> bool {
        self.talk.turns == 0
    }

    /// Takes in what is said in this turn: all of `messages`, or those after the conversation when they begin with all
    /// of it. Returns how many are new.
    pub fn hear(&mut self, mut messages: Vec<Message>) -> usize {
        let old = &self.talk.messages;
        if !old.is_empty() && messages.starts_with(old) {
            messages.drain(..old.len());
        }
        self.said = messages;
        self.said.len()
    }

    /// The conversation with what was heard in this turn.
    pub fn messages(&self) -> Vec<Message> {
        let old = self.talk.messages.iter();
        old.chain(&self.said).cloned().collect()
    }

    /// Decides how the cache is bounded.
    pub(super) fn bound(&mut self, policy: Policy) {
        self.talk.policy = Some(policy);
    }

    /// The tokens that the turn feeds, at its beginning, and each that it draws.
    pub(super) fn feed(&mut self, tokens: &[TokenId]) {
        self.fed.extend_from_slice(tokens);
    }

    /// The turn was answered and its cache is being parked: `seen` are the tokens that it will have seen, `pending` the
    /// one that was drawn and not fed.
    pub fn commit(mut self, reply: String, seen: usize, pending: Option<TokenId>) {
        let mut talk = std::mem::replace(&mut self.talk, Talk::new());
        // A text has no messages.
        if !self.said.is_empty() {
            talk.messages.append(&mut self.said);
            talk.messages.push(Message::new(Role::Assistant, reply));
        }
        // What is not known from the beginning is not known at all.
        if talk.tokens.len() == talk.seen {
            talk.tokens.append(&mut self.fed);
            talk.tokens.truncate(seen);
        } else {
            talk.tokens.clear();
        }
        talk.seen = seen;
        talk.pending = pending;
        talk.turns += 1;
        self.put(talk);
    }

    /// Sets the conversation to what its cache is now known to be.
    pub(super) fn put(self, talk: Talk) {
        if let Some(mut slot) = self.table.0.get_mut(&self.key) {
            let kept = Talk {
                updated: SystemTime::now(),
                ..talk
            };
            // A cache that went with its device meanwhile stays lost: whoever goes on is to be told.
            slot.talk = Some(if slot.lost { Talk::new() } else { kept });
        }
    }

    /// Forgets the conversation.
    pub(super) fn forget(self) {
        if let Some(mut slot) = self.table.0.get_mut(&self.key) {
            slot.talk = None;
        }
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        if let Entry::Occupied(mut slot) = self.table.0.entry(self.key.clone()) {
            slot.get_mut().busy = false;
            if slot.get().talk.is_none() {
                slot.remove();
            }
        }
    }
}
