//! Responses that others may go on from.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use serde_json::Value;

use crate::ids::SessionId;
use crate::runtime::{Held, Runtime, SessionError};

/// Most of them; the oldest give way, and going on from one of those is refused.
pub(super) const MOST: usize = 256;

/// How often it is tried to erase a session that is at work on a request, and how long is waited between.
const TRIES: usize = 100;
const PAUSE: Duration = Duration::from_millis(100);

/// One of them.
#[derive(Debug, Clone)]
pub(super) struct Response {
    /// Its name.
    pub(super) id: String,
    /// The session that it has left.
    pub(super) session: SessionId,
    /// Who asked for it: others do not see it.
    pub(super) who: String,
    /// The model, by name: its session is parked there.
    pub(super) model: String,
    /// What the talk began with.
    pub(super) instructions: Option<String>,
    /// As it was told.
    pub(super) body: Value,
}

/// The newest responses, oldest first.
#[derive(Debug, Default)]
pub(in crate::http) struct Kept(Mutex<VecDeque<Response>>);

impl Kept {
    /// Adds one, and returns that which gives way.
    pub(super) fn put(&self, response: Response) -> Option<Response> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.push_back(response);
        match all.len() > MOST {
            true => all.pop_front(),
            false => None,
        }
    }

    /// One of this caller's.
    pub(super) fn get(&self, id: &str, who: &str) -> Option<Response> {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut all = all.iter();
        all.find(|response| response.id == id && response.who == who)
            .cloned()
    }

    /// Takes one of this caller's out.
    pub(super) fn take(&self, id: &str, who: &str) -> Option<Response> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let place = all
            .iter()
            .position(|response| response.id == id && response.who == who)?;
        all.remove(place)
    }
}

/// Erases the session of a response, once no request is at work on it. One that is gone already is as well.
pub(super) async fn erase(runtime: Runtime, model: Held, session: SessionId) {
    for _ in 0..TRIES {
        match runtime.sessions().erase(&model, &session).await {
            Err(SessionError::Busy(_)) => tokio::time::sleep(PAUSE).await,
            Ok(()) | Err(SessionError::Unknown(_)) => return,
            Err(error) => {
                tracing::warn!(%session, %error, "a response's session was not erased");
                return;
            }
        }
    }
    tracing::warn!(%session, "a response's session was not erased: it is at work");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_are_kept_for_those_who_asked() {
        let response = |number: usize, who: &str| Response {
            id: format!("resp_{number}"),
            session: format!("resp_{number}").parse().unwrap(),
            who: who.to_owned(),
            model: "m".to_owned(),
            instructions: None,
            body: Value::Null,
        };
        let kept = Kept::default();
        for number in 0..MOST {
            assert!(kept.put(response(number, "a")).is_none());
        }
        assert_eq!(kept.put(response(MOST, "b")).unwrap().id, "resp_0");
        assert!(kept.get("resp_0", "a").is_none());
        assert!(kept.get("resp_1", "a").is_some() && kept.get("resp_1", "b").is_none());
        assert!(kept.take("resp_1", "b").is_none() && kept.take("resp_1", "a").is_some());
        assert!(kept.get("resp_1", "a").is_none());
    }
}
