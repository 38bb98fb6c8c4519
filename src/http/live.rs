//! What of the server may change while it serves: who may ask, how much, and what requests get that say nothing.

use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use actix_web::HttpResponse;
use actix_web::web::Data;
use serde_json::Value;

use super::guard::Guard;
use super::keys::{Keys, check_mode};
use super::limits::Rules;
use super::respond;
use super::serve::{HttpError, State};
use super::settings::{Config, UnknownFields};
use super::wire::ApiError;
use crate::sample::Defaults;
use crate::tls::Certificate;

/// See the module. A request keeps those that it began with as far as it has asked for them.
#[derive(Debug)]
pub(super) struct Live {
    pub(super) guard: Guard,
    pub(super) sampling: Defaults,
    pub(super) body_limit: usize,
    pub(super) timeout: Duration,
    pub(super) unknown_fields: UnknownFields,
}

impl Live {
    /// As the settings say; the key file is read.
    ///
    /// # Errors
    /// [`HttpError`] when the key file is of no use, or other machines would be served without a key.
    pub(super) fn new(config: &Config, sampling: Defaults) -> Result<Live, HttpError> {
        let rules = Rules {
            requests: config.requests_per_minute,
            tokens: config.tokens_per_minute,
            concurrent: config.concurrent_requests,
            burst: config.rate_burst.get(),
        };
        let mut keys = Keys::new(config.api_key.as_ref(), rules);
        if let Some(path) = &config.keys_file {
            keys.add_file(path, rules)?;
        }
        if !config.host.is_loopback() && keys.is_open() {
            return Err(HttpError::NoKey(config.host));
        }
        Ok(Live {
            guard: Guard::new(
                keys,
                config.host,
                &config.allowed_hosts,
                &config.cors_origins,
            ),
            sampling,
            body_limit: usize::try_from(config.body_limit.bytes()).unwrap_or(usize::MAX),
            timeout: config.request_timeout.get(),
            unknown_fields: config.unknown_fields,
        })
    }
}

/// The certificate of the settings, if they have one.
///
/// # Errors
/// [`HttpError`] when only one of its two files is named, or they are of no use.
pub(super) fn certificate(config: &Config) -> Result<Option<Certificate>, HttpError> {
    match (&config.tls_cert, &config.tls_key) {
        (Some(cert), Some(key)) => {
            check_mode(key).map_err(|reason| HttpError::TlsKey {
                path: key.clone(),
                reason,
            })?;
            Ok(Some(Certificate::read(cert, key)?))
        }
        (None, None) => Ok(None),
        _ => Err(HttpError::HalfTls),
    }
}

/// What requests see of [`Live`], and of the settings.
#[derive(Debug)]
pub(super) struct Slot {
    live: RwLock<Arc<Live>>,
    /// What `GET /v1/config` tells, once it was said.
    settings: RwLock<Option<Value>>,
}

impl Slot {
    pub(super) fn new(live: Live) -> Slot {
        Slot {
            live: RwLock::new(Arc::new(live)),
            settings: RwLock::default(),
        }
    }

    pub(super) fn live(&self) -> Arc<Live> {
        Arc::clone(&self.live.read().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Changes what of a server may change. Outlives it without effect.
#[derive(Clone)]
pub struct Reloader {
    pub(super) state: Data<State>,
    pub(super) certificate: Option<Certificate>,
}

impl Reloader {
    /// Serves by these settings from now on: keys, limits, hosts, origins, certificate, defaults. The files that they name
    /// are read. A key that is still there under its name and limits keeps its account. Whether there is TLS at all, the
    /// address and the threads stay as they were.
    ///
    /// # Errors
    /// [`HttpError`] when they are of no use; then nothing has changed.
    pub fn apply(&self, config: &Config, sampling: Defaults) -> Result<(), HttpError> {
        let mut live = Live::new(config, sampling)?;
        let certificate = certificate(config)?;
        if certificate.is_some() != self.certificate.is_some() {
            return Err(HttpError::TlsSwitched);
        }
        let slot = &self.state.slot;
        live.guard.keep_accounts(&slot.live().guard);
        if let (Some(old), Some(new)) = (&self.certificate, &certificate) {
            old.replace(new);
        }
        *slot.live.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(live);
        Ok(())
    }

    /// What `GET /v1/config` tells from now on.
    pub fn tell(&self, settings: Value) {
        let slot = &self.state.slot.settings;
        *slot.write().unwrap_or_else(PoisonError::into_inner) = Some(settings);
    }
}

/// `GET /v1/config`: the settings that run, where each came from, and what waits for a restart.
pub(super) async fn settings(state: Data<State>) -> HttpResponse {
    let told = state.slot.settings.read();
    let told = told.unwrap_or_else(PoisonError::into_inner).clone();
    respond::answer(told.ok_or_else(|| {
        ApiError::new(
            404,
            "config_not_told",
            "this server was started by a program that does not tell its settings",
        )
    }))
}
