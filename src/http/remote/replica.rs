//! One replica elsewhere: its address, its key, and how it is.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use reqwest::{Method, RequestBuilder};
use serde::Serialize;

use crate::http::serve::HttpError;
use crate::ids::ModelId;
use crate::runtime::{KeyPlace, Load, RemoteRule};
use crate::units::Secret;

/// A daemon that serves a model.
#[derive(Debug)]
pub(super) struct Remote {
    pub(super) url: String,
    /// What the model is called there.
    pub(super) model: String,
    key: Option<Secret>,
    client: reqwest::Client,
    weight: u32,
    running: AtomicUsize,
    waiting_tokens: AtomicUsize,
    /// Why it is down; it is up without.
    down: Mutex<Option<String>>,
}

/// What is told of one.
#[derive(Debug, Clone, Serialize)]
pub(in crate::http) struct RemoteLine {
    pub(in crate::http) model: ModelId,
    url: String,
    pub(in crate::http) up: bool,
    /// Why it is down.
    error: Option<String>,
    /// Requests of this process that it is answering.
    running: usize,
    weight: u32,
}

impl Remote {
    /// The one of an entry of the settings. It counts as up until it is found to be down.
    pub(super) fn new(rule: &RemoteRule, client: reqwest::Client) -> Result<Self, HttpError> {
        let key = match &rule.key {
            None => None,
            Some(place) => Some(key(place).map_err(|reason| HttpError::RemoteKey {
                entry: rule.to_string(),
                reason,
            })?),
        };
        Ok(Remote {
            url: rule.url.clone(),
            model: rule
                .theirs
                .clone()
                .unwrap_or_else(|| rule.model.to_string()),
            key,
            client,
            weight: rule.weight,
            running: AtomicUsize::new(0),
            waiting_tokens: AtomicUsize::new(0),
            down: Mutex::new(None),
        })
    }

    /// A request to a path under its base, with its key.
    pub(super) fn request(&self, method: Method, path: &str) -> RequestBuilder {
        let request = self.client.request(method, format!("{}{path}", self.url));
        match &self.key {
            Some(key) => request.bearer_auth(key.expose()),
            None => request,
        }
    }

    /// What a router is told.
    pub(super) fn load(&self) -> Load {
        Load {
            waiting_tokens: self.waiting_tokens.load(Ordering::Relaxed),
            running: self.running.load(Ordering::Relaxed),
            weight: self.weight,
            up: self.down().is_none(),
        }
    }

    pub(super) fn line(&self, model: &ModelId) -> RemoteLine {
        let error = self.down();
        RemoteLine {
            model: model.clone(),
            url: self.url.clone(),
            up: error.is_none(),
            error,
            running: self.running.load(Ordering::Relaxed),
            weight: self.weight,
        }
    }

    /// Why it is down.
    pub(super) fn down(&self) -> Option<String> {
        let down = self.down.lock().unwrap_or_else(PoisonError::into_inner);
        down.clone()
    }

    /// Notes how it is; told in the log when that is new.
    pub(super) fn found(&self, down: Option<String>) {
        let mut known = self.down.lock().unwrap_or_else(PoisonError::into_inner);
        match (&*known, &down) {
            (None, Some(reason)) => {
                tracing::warn!(
                    url = self.url,
                    model = self.model,
                    reason,
                    "a replica is down"
                );
            }
            (Some(_), None) => {
                tracing::info!(url = self.url, model = self.model, "a replica is up again");
            }
            _ => {}
        }
        *known = down;
    }

    /// Counts a request as being answered there, until it is dropped.
    pub(super) fn take(self: &Arc<Self>, tokens: usize) -> Taken {
        self.waiting_tokens.fetch_add(tokens, Ordering::Relaxed);
        Taken {
            remote: Arc::clone(self),
            tokens,
            running: false,
        }
    }
}

/// A request at a replica.
#[derive(Debug)]
pub(super) struct Taken {
    remote: Arc<Remote>,
    /// Of its prompt.
    tokens: usize,
    running: bool,
}

impl Taken {
    /// Its answer begins: its prompt no longer waits.
    pub(super) fn begins(&mut self) {
        if !std::mem::replace(&mut self.running, true) {
            let remote = &self.remote;
            remote
                .waiting_tokens
                .fetch_sub(self.tokens, Ordering::Relaxed);
            remote.running.fetch_add(1, Ordering::Relaxed);
        }
    }

    pub(super) fn remote(&self) -> &Remote {
        &self.remote
    }
}

impl Drop for Taken {
    fn drop(&mut self) {
        let remote = &self.remote;
        match self.running {
            true => remote.running.fetch_sub(1, Ordering::Relaxed),
            false => remote
                .waiting_tokens
                .fetch_sub(self.tokens, Ordering::Relaxed),
        };
    }
}

fn key(place: &KeyPlace) -> Result<Secret, String> {
    let (text, place) = match place {
        KeyPlace::Variable(name) => {
            let text = std::env::var(name).map_err(|error| format!("{name}: {error}"))?;
            (text, name.clone())
        }
        KeyPlace::File(path) => {
            let shown = path.display().to_string();
            let text =
                std::fs::read_to_string(path).map_err(|error| format!("{shown}: {error}"))?;
            (text, shown)
        }
    };
    Secret::new(text.trim()).ok_or_else(|| format!("{place} holds no key"))
}
