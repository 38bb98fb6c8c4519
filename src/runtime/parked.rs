//! What can be done with sessions between their turns. Each takes the host's side and the device's together.

use std::collections::BTreeMap;
use std::time::UNIX_EPOCH;

use serde::Serialize;
use tokio::sync::oneshot;

use super::orders::Parked;
use super::replica::Replica;
use super::served::ServedModel;
use super::sessions::{SessionError, Sessions, Talk};
use super::worker::StepError;
use crate::ids::{SessionId, TokenId};
use crate::kv::{HeadChoice, Picture};
use crate::sched::{ForwardError, SessionOrder, SessionReply, SessionReport};
use crate::text::Message;

/// One line of a listing: what the device has, and what is known of it here.
#[derive(Debug, Clone, Serialize)]
pub struct SessionLine {
    /// The device's part.
    #[serde(flatten)]
    pub report: SessionReport,
    /// Tokens that its cache has seen; unknown of one that is only saved.
    pub tokens_seen: Option<usize>,
    /// Turns that were answered.
    pub turns: Option<usize>,
    /// When the last one was: seconds since 1970.
    pub updated: Option<u64>,
}

/// The cache of a session at one moment.
#[derive(Debug, Clone, PartialEq)]
pub struct SessionPicture {
    /// What it holds.
    pub picture: Picture,
    /// The tokens by position, as many as are known: of a cache that was saved by an older version, none.
    pub tokens: Vec<TokenId>,
    /// Whether a turn of it is under way.
    pub live: bool,
}

impl Sessions {
    /// The sessions that the device of a model has, parked or saved.
    ///
    /// # Errors
    /// When the device was lost.
    pub async fn list(&self, model: &ServedModel) -> Result<Vec<SessionLine>, SessionError> {
        let mut reports: BTreeMap<String, SessionReport> = BTreeMap::new();
        for replica in &model.replicas {
            let SessionReply::Sessions(here) = obeyed(replica, SessionOrder::List).await? else {
                continue;
            };
            for report in here {
                // Every replica sees the saved files; the one that has it parked knows more.
                let known = reports.get(&report.name);
                if known.is_none_or(|known| known.place == "saved") {
                    reports.insert(report.name.clone(), report);
                }
            }
        }
        let line = |report: SessionReport| {
            let talk = report
                .name
                .parse()
                .ok()
                .and_then(|session| self.known(&model.id, &session, false));
            let updated = talk.as_ref().and_then(|talk| {
                let since = talk.updated.duration_since(UNIX_EPOCH);
                since.ok().map(|time| time.as_secs())
            });
            SessionLine {
                tokens_seen: talk.as_ref().map(|talk| talk.seen),
                turns: talk.as_ref().map(|talk| talk.turns),
                updated,
                report,
            }
        };
        Ok(reports.into_values().map(line).collect())
    }

    /// One of them, with its messages: none of a text, unknown of one that is only saved.
    ///
    /// # Errors
    /// [`SessionError::Unknown`], or when the device was lost.
    pub async fn show(
        &self,
        model: &ServedModel,
        session: &SessionId,
    ) -> Result<(SessionLine, Option<Vec<Message>>), SessionError> {
        let lines = self.list(model).await?;
        let line = lines
            .into_iter()
            .find(|line| line.report.name == session.as_str())
            .ok_or_else(|| SessionError::Unknown(session.clone()))?;
        let talk = self.known(&model.id, session, true);
        Ok((line, talk.map(|talk| talk.messages)))
    }

    /// What the cache of one holds now: of a turn that is under way, else as the last one left it.
    ///
    /// # Errors
    /// [`SessionError::Unknown`], also of a first turn that has not begun; or when the device was lost.
    pub async fn picture(
        &self,
        model: &ServedModel,
        session: &SessionId,
        which: HeadChoice,
    ) -> Result<SessionPicture, SessionError> {
        let order = SessionOrder::Picture {
            session: session.clone(),
            open: None,
            which,
        };
        let SessionReply::Picture { picture, live } =
            obeyed(self.at(model, session)?, order).await?
        else {
            return Err(SessionError::Unknown(session.clone()));
        };
        // Behind the order: a turn that has ended meanwhile only adds to what the picture has.
        let talk = self.known(&model.id, session, true);
        let mut tokens = talk.map(|talk| talk.tokens).unwrap_or_default();
        if let Some(live) = &live {
            tokens.truncate(live.start);
            match tokens.len() == live.start {
                true => tokens.extend_from_slice(&live.tokens),
                false => tokens.clear(),
            }
        }
        tokens.truncate(picture.seen());
        Ok(SessionPicture {
            tokens,
            live: live.is_some(),
            picture,
        })
    }

    /// Forgets one, its file too.
    ///
    /// # Errors
    /// [`SessionError::Unknown`], [`SessionError::Busy`], or what the device says.
    pub async fn erase(
        &self,
        model: &ServedModel,
        session: &SessionId,
    ) -> Result<(), SessionError> {
        let (draft, _) = self.hold(&model.id, session)?;
        let home = self.at(model, session)?;
        let erased = obeyed(home, SessionOrder::Erase(session.clone())).await;
        if matches!(erased, Ok(_) | Err(SessionError::Unknown(_))) {
            draft.forget();
        }
        erased.map(|_| ())
    }

    /// Copies one: the two go on apart, and share what they have in memory.
    ///
    /// # Errors
    /// [`SessionError::Unknown`], [`SessionError::Busy`], [`SessionError::Taken`] for a name that is in use, or what
    /// the device says.
    pub async fn fork(
        &self,
        model: &ServedModel,
        from: &SessionId,
        to: &SessionId,
    ) -> Result<(), SessionError> {
        if from == to {
            return Err(SessionError::Taken(to.clone()));
        }
        let (original, _) = self.hold(&model.id, from)?;
        if original.is_new() {
            return Err(SessionError::Unknown(from.clone()));
        }
        let (copy, _) = self.hold(&model.id, to)?;
        if !copy.is_new() {
            return Err(SessionError::Taken(to.clone()));
        }
        let home = self.at(model, from)?;
        let order = SessionOrder::Fork {
            from: from.clone(),
            to: to.clone(),
        };
        match obeyed(home, order).await {
            Ok(_) => {
                self.settle(to, &home.id);
                copy.put(original.talk().clone());
            }
            Err(error) => {
                if matches!(error, SessionError::Unknown(_)) {
                    original.forget();
                }
                return Err(error);
            }
        }
        Ok(())
    }

    /// Writes one to a file, from which [`restore`](Self::restore) brings it back, in another process too.
    ///
    /// # Errors
    /// [`SessionError::Unknown`], [`SessionError::Busy`], or what the device says.
    pub async fn save(&self, model: &ServedModel, session: &SessionId) -> Result<(), SessionError> {
        let (draft, _) = self.hold(&model.id, session)?;
        if draft.is_new() {
            return Err(SessionError::Unknown(session.clone()));
        }
        let notes = serde_json::to_string(draft.talk());
        let order = SessionOrder::Save {
            session: session.clone(),
            notes: notes.map_err(|error| SessionError::Failed(error.to_string()))?,
        };
        let saved = obeyed(self.at(model, session)?, order).await;
        if matches!(saved, Err(SessionError::Unknown(_))) {
            draft.forget();
        }
        saved.map(|_| ())
    }

    /// Reads a saved one back, in place of what is there under its name.
    ///
    /// # Errors
    /// [`SessionError::Unknown`], [`SessionError::Busy`], or what is wrong with the file.
    pub async fn restore(
        &self,
        model: &ServedModel,
        session: &SessionId,
    ) -> Result<(), SessionError> {
        let (draft, _) = self.hold(&model.id, session)?;
        let order = SessionOrder::Restore(session.clone());
        let home = self.at(model, session)?;
        let SessionReply::Restored { notes } = obeyed(home, order).await? else {
            return Err(SessionError::Unknown(session.clone()));
        };
        match talk(&notes) {
            Ok(talk) => {
                self.settle(session, &home.id);
                draft.put(talk);
            }
            Err(reason) => {
                // Its cache is parked now in place of the old one, so the old words are no longer of it.
                draft.forget();
                return Err(SessionError::Failed(format!(
                    "session {session}: what was said cannot be read from its file ({reason}): erase it"
                )));
            }
        }
        Ok(())
    }
}

impl Sessions {
    /// The replica that has a session's cache; the first when none has, which can read what is saved.
    fn at<'a>(
        &self,
        model: &'a ServedModel,
        session: &SessionId,
    ) -> Result<&'a Replica, SessionError> {
        let home = self.home(&model.id, session);
        let mut replicas = model.replicas.iter();
        let found = replicas
            .find(|replica| home.as_ref() == Some(&replica.id))
            .or_else(|| model.replicas.first());
        found.ok_or_else(|| SessionError::Lost(format!("model {} has no engine", model.id)))
    }
}

/// The notes of a file as they were saved.
fn talk(notes: &str) -> Result<Talk, String> {
    let talk: Talk = serde_json::from_str(notes).map_err(|error| error.to_string())?;
    let policy = talk.policy.map(|policy| policy.checked()).transpose();
    let policy = policy.map_err(|error| error.to_string())?;
    Ok(Talk { policy, ..talk })
}

/// What the device made of an order.
async fn obeyed(replica: &Replica, order: SessionOrder) -> Result<SessionReply, SessionError> {
    let (reply, told) = oneshot::channel();
    replica.engine.do_send(Parked { order, reply });
    match told.await {
        Ok(Ok(reply)) => Ok(reply),
        Ok(Err(StepError::Forward(ForwardError::UnknownSession(session)))) => {
            Err(SessionError::Unknown(session))
        }
        Ok(Err(StepError::Forward(error))) => Err(SessionError::Failed(error.to_string())),
        Ok(Err(error)) => Err(SessionError::Lost(error.to_string())),
        Err(_) => Err(SessionError::Lost("the engine was stopped".to_owned())),
    }
}
