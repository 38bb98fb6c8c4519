//! The replicas of one model, here and elsewhere, and which of them a request goes to.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use serde_json::Value;

use super::replica::Remote;
use crate::http::wire::ApiError;
use crate::ids::{ModelId, SessionId, TokenId};
use crate::runtime::{Call, Load, Router, RouterKind, route};

/// Sessions whose replica is remembered.
const MOST_SESSIONS: usize = 1 << 16;
/// Bytes of text that count as a token.
const TOKEN: usize = 4;

/// Where a request goes.
#[derive(Debug)]
pub(super) enum Target {
    Here,
    There(usize, Arc<Remote>),
}

/// See the module. The first place is that of this process.
pub(super) struct Group {
    model: ModelId,
    pub(super) kind: RouterKind,
    /// Whether this process can serve it as well.
    pub(super) here: AtomicBool,
    pub(super) remotes: Vec<Arc<Remote>>,
    state: Mutex<State>,
}

struct State {
    router: Box<dyn Router>,
    /// For sessions that nobody has seen.
    by_name: Box<dyn Router>,
    /// The place of each session, and when it was last asked for.
    homes: HashMap<SessionId, (usize, u64)>,
    now: u64,
}

impl std::fmt::Debug for Group {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Group")
            .field("model", &self.model)
            .field("remotes", &self.remotes)
            .finish_non_exhaustive()
    }
}

/// What is known of a request.
pub(super) struct Wanted {
    /// Its prompt, for the router.
    pub(super) prompt: Vec<TokenId>,
    pub(super) session: Option<SessionId>,
    /// This process has the session's cache.
    pub(super) kept_here: bool,
}

impl Wanted {
    /// From a body.
    pub(super) fn of(body: &Value, kept_here: impl Fn(&SessionId) -> bool) -> Self {
        let session = body.get("session").and_then(Value::as_str);
        let session: Option<SessionId> = session.and_then(|name| name.parse().ok());
        Wanted {
            prompt: as_tokens(body),
            kept_here: session.as_ref().is_some_and(kept_here),
            session,
        }
    }
}

impl Group {
    pub(super) fn new(model: ModelId, kind: RouterKind) -> Self {
        Group {
            model,
            kind,
            here: AtomicBool::new(false),
            remotes: Vec::new(),
            state: Mutex::new(State {
                router: kind.router(),
                by_name: RouterKind::Session.router(),
                homes: HashMap::new(),
                now: 0,
            }),
        }
    }

    /// Chooses a replica. `here` is what this process has to do for the model; `failed` are places that did not answer
    /// this very request.
    ///
    /// # Errors
    /// 503 when none answers, or the one that has the session does not.
    pub(super) fn choose(
        &self,
        wanted: &Wanted,
        here: Load,
        failed: &[usize],
    ) -> Result<Target, ApiError> {
        let own = Load {
            up: self.here.load(Ordering::Relaxed),
            ..here
        };
        let mut loads = vec![own];
        loads.extend(self.remotes.iter().map(|remote| remote.load()));
        for &place in failed {
            if let Some(load) = loads.get_mut(place) {
                load.up = false;
            }
        }
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let state = &mut *state;
        let home = match &wanted.session {
            Some(_) if wanted.kept_here => Some(0),
            Some(session) => state.homes.get(session).map(|&(place, _)| place),
            None => None,
        };
        if let Some(away) = home.filter(|&home| loads.get(home).is_none_or(|load| !load.up)) {
            return Err(self.session_away(away));
        }
        let call = Call {
            prompt: &wanted.prompt,
            session: wanted.session.as_ref(),
            home,
        };
        let router = match wanted.session {
            // A session that began before this process did is found where its name says.
            Some(_) => &mut state.by_name,
            None => &mut state.router,
        };
        let place = route(router.as_mut(), &call, &loads);
        let place = place.ok_or_else(|| self.all_down())?;
        if let Some(session) = &wanted.session {
            state.settle(session, place);
        }
        match place
            .checked_sub(1)
            .and_then(|place| self.remotes.get(place))
        {
            Some(remote) => Ok(Target::There(place, Arc::clone(remote))),
            None => Ok(Target::Here),
        }
    }

    /// The session began nowhere after all.
    pub(super) fn forget(&self, session: &SessionId) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.homes.remove(session);
    }

    fn all_down(&self) -> ApiError {
        let reasons: Vec<String> = self
            .remotes
            .iter()
            .map(|r| {
                let reason = r.down().unwrap_or_else(|| "it did not answer".to_owned());
                format!("{}: {reason}", r.url)
            })
            .collect();
        // Addresses are for those who run this: the client learns what to do.
        tracing::warn!(model = %self.model, replicas = ?reasons, "no replica answers");
        let text = format!(
            "none of the {} replicas of model {} answers: try again later; whoever runs this server finds the reasons \
             in its log and in GET /v1/ps",
            self.remotes.len(),
            self.model
        );
        ApiError::new(503, "no_replica", text)
            .about("model")
            .retry(5)
    }

    fn session_away(&self, place: usize) -> ApiError {
        let url = place.checked_sub(1).and_then(|i| self.remotes.get(i));
        let url = url.map_or("this process", |remote| remote.url.as_str());
        tracing::warn!(model = %self.model, url, "a session's replica does not answer");
        let text = "the replica that has this session does not answer: try again later, or begin another session";
        ApiError::new(503, "session_away", text)
            .about("session")
            .retry(5)
    }
}

impl State {
    fn settle(&mut self, session: &SessionId, place: usize) {
        self.now += 1;
        self.homes.insert(session.clone(), (place, self.now));
        if self.homes.len() > MOST_SESSIONS {
            let half = self.now.saturating_sub(MOST_SESSIONS as u64 / 2);
            self.homes.retain(|_, &mut (_, time)| time > half);
        }
    }
}

/// A prompt as the routers compare it: four bytes of its text a token.
fn as_tokens(body: &Value) -> Vec<TokenId> {
    let mut text = String::new();
    let mut ids = Vec::new();
    match (body.get("messages"), body.get("prompt")) {
        (Some(messages), _) => text = messages.to_string(),
        (None, Some(Value::String(prompt))) => text.clone_from(prompt),
        (None, Some(Value::Array(prompt))) => {
            let all = prompt.iter().filter_map(Value::as_u64);
            ids = all.filter_map(|id| TokenId::try_from(id).ok()).collect();
            if ids.is_empty() {
                text = Value::Array(prompt.clone()).to_string();
            }
        }
        _ => {}
    }
    let bytes = text.as_bytes().chunks(TOKEN);
    ids.extend(bytes.map(|bytes| {
        let shifted = bytes.iter().map(|&byte| TokenId::from(byte));
        shifted.fold(0, |token, byte| token << 8 | byte)
    }));
    ids
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn group(kind: RouterKind) -> Group {
        let mut group = Group::new("m".parse().unwrap(), kind);
        let client = super::super::client().unwrap();
        for n in 0..3 {
            let rule = format!("m http://10.0.0.{n}/v1").parse().unwrap();
            group
                .remotes
                .push(Arc::new(Remote::new(&rule, client.clone()).unwrap()));
        }
        group
    }

    fn place(target: Target) -> usize {
        match target {
            Target::Here => 0,
            Target::There(place, _) => place,
        }
    }

    fn wanted(body: &Value) -> Wanted {
        Wanted::of(body, |_| false)
    }

    #[test]
    fn this_process_takes_part_when_it_can() {
        let group = group(RouterKind::RoundRobin);
        let ask = wanted(&json!({"prompt": "a"}));
        let next = || place(group.choose(&ask, Load::idle(), &[]).unwrap());
        assert_eq!([next(), next(), next(), next()], [1, 2, 3, 1]);
        group.here.store(true, Ordering::Relaxed);
        let mut four = [next(), next(), next(), next()];
        four.sort_unstable();
        assert_eq!(four, [0, 1, 2, 3]);
    }

    #[test]
    fn one_that_fails_is_passed_over_and_all_down_is_told() {
        let group = group(RouterKind::LeastLoad);
        let ask = wanted(&json!({"messages": []}));
        let after = |failed: &[usize]| group.choose(&ask, Load::idle(), failed);
        assert_eq!(place(after(&[1]).unwrap()), 2);
        group.remotes[1].found(Some("refused".to_owned()));
        assert_eq!(place(after(&[1]).unwrap()), 3);
        let error = after(&[1, 3]).unwrap_err();
        assert_eq!((error.status, error.code), (503, "no_replica"));
        assert_eq!(error.retry_after, Some(5));
        group.remotes[1].found(None);
        assert_eq!(place(after(&[1, 3]).unwrap()), 2);
    }

    #[test]
    fn a_session_waits_for_its_replica_rather_than_begin_anew() {
        let group = group(RouterKind::RoundRobin);
        let ask = wanted(&json!({"prompt": "a", "session": "s"}));
        let home = place(group.choose(&ask, Load::idle(), &[]).unwrap());
        for _ in 0..5 {
            assert_eq!(place(group.choose(&ask, Load::idle(), &[]).unwrap()), home);
        }
        group.remotes[home - 1].found(Some("refused".to_owned()));
        let error = group.choose(&ask, Load::idle(), &[]).unwrap_err();
        assert_eq!((error.status, error.code), (503, "session_away"));
        // One that never began goes on elsewhere.
        group.forget(ask.session.as_ref().unwrap());
        assert_ne!(place(group.choose(&ask, Load::idle(), &[]).unwrap()), home);
        // One whose cache is here stays here.
        group.here.store(true, Ordering::Relaxed);
        let here = Wanted::of(&json!({"session": "t"}), |_| true);
        assert_eq!(place(group.choose(&here, Load::idle(), &[]).unwrap()), 0);
    }

    #[test]
    fn prompts_of_any_shape_are_compared_by_their_beginnings() {
        let tokens = |body: Value| as_tokens(&body);
        assert_eq!(tokens(json!({"prompt": [1, 2, 3]})), [1, 2, 3]);
        assert_eq!(tokens(json!({"prompt": "abcde"})), [0x6162_6364, 0x65]);
        let chat = |text: &str| tokens(json!({"messages": [{"role": "user", "content": text}]}));
        let (short, long) = (chat("a long beginning"), chat("a long beginning, and more"));
        assert_eq!(short[..8], long[..8]);
        assert!(!tokens(json!({"prompt": ["a", "b"]})).is_empty());
        assert!(tokens(json!({})).is_empty());
    }
}
