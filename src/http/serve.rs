//! Binding the address, and the server that answers there.

use std::future::IntoFuture;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use actix_web::dev::ServerHandle;
use actix_web::middleware::from_fn;
use actix_web::web::Data;
use actix_web::{App, HttpMessage, HttpRequest, HttpServer};

use super::edge::edge;
use super::keys::{Caller, KeyFileError};
use super::live::{Live, Reloader, Slot, certificate};
use super::readiness::Readiness;
use super::remote::{self, Remotes};
use super::responses::Kept;
use super::routes::routes;
use super::settings::Config;
use crate::runtime::Runtime;
use crate::sample::Defaults;
use crate::telemetry::Metrics;
use crate::tls::{self, TlsError};

/// How long the last bytes of the last answer may take, once it was handed to its connection.
const FLUSH: Duration = Duration::from_millis(300);

/// How long the head of a request may take to come.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);

/// Why there is no server.
#[derive(Debug, thiserror::Error)]
pub enum HttpError {
    /// Somebody else listens there.
    #[error(
        "port {} is in use on {}: stop what listens there, or set http.port to another one (0 takes a free one)",
        .0.port(), .0.ip()
    )]
    PortTaken(SocketAddr),
    /// Everybody could use it.
    #[error(
        "http.host {0} can be reached from other machines: set http.api_key or http.keys_file, or listen on 127.0.0.1"
    )]
    NoKey(IpAddr),
    /// The key of a replica elsewhere is not where the settings say.
    #[error("runtime.remotes, {entry:?}: the key cannot be read: {reason}")]
    RemoteKey {
        /// The entry.
        entry: String,
        /// The variable or file, and what is wrong with it.
        reason: String,
    },
    /// Nothing can be sent to replicas elsewhere.
    #[error("the client for runtime.remotes cannot be made: {0}")]
    Client(String),
    /// The key file is of no use.
    #[error("http.keys_file: {0}")]
    Keys(#[from] KeyFileError),
    /// One of the two is missing.
    #[error("http.tls_cert and http.tls_key belong together: set both, or neither")]
    HalfTls,
    /// The key of the certificate is no secret.
    #[error("http.tls_key, {}: {reason}", path.display())]
    TlsKey {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// Nothing can be encrypted.
    #[error("http.tls: {0}")]
    Tls(#[from] TlsError),
    /// What listens cannot begin or cease to encrypt.
    #[error("http.tls_cert and http.tls_key: whether there is TLS changes at a restart only")]
    TlsSwitched,
    /// The system refuses the address.
    #[error("cannot listen on {address}: {source}; check http.host and http.port")]
    Bind {
        /// The address.
        address: SocketAddr,
        /// The system's message.
        source: io::Error,
    },
}

/// What every handler sees.
pub(super) struct State {
    pub(super) runtime: Runtime,
    pub(super) readiness: Readiness,
    pub(super) slot: Slot,
    pub(super) remotes: Arc<Remotes>,
    pub(super) responses: Kept,
    pub(super) started: SystemTime,
}

impl State {
    /// What may change while it serves.
    pub(super) fn live(&self) -> Arc<Live> {
        self.slot.live()
    }

    /// Who asks, as `edge` has found out.
    pub(super) fn caller(&self, req: &HttpRequest) -> Arc<Caller> {
        let found = req.extensions().get::<Arc<Caller>>().cloned();
        found.unwrap_or_else(|| Arc::clone(self.live().guard.anybody()))
    }
}

/// A server that is bound. It answers once it is awaited or spawned, and ends when its handle says so.
#[must_use = "a server does nothing until it is awaited"]
pub struct Server {
    address: SocketAddr,
    server: actix_web::dev::Server,
    metrics: Metrics,
    reloader: Reloader,
}

impl Server {
    /// Where it listens: the port that was taken when port 0 was asked for.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Stops it: `stop(true)` closes the listener and lets running answers end, `stop(false)` cuts them off.
    ///
    /// To drain, call [`Runtime::shutdown`] first: until the listener closes, new requests are told 503 and when to
    /// come back, and streams end as their sequences do.
    pub fn handle(&self) -> ServerHandle {
        self.server.handle()
    }

    /// What changes its keys, limits and the like while it serves.
    pub fn reloader(&self) -> Reloader {
        self.reloader.clone()
    }

    /// What closes it once the runtime has drained.
    pub fn closer(&self) -> Closer {
        Closer {
            handle: self.server.handle(),
            metrics: self.metrics.clone(),
        }
    }
}

/// Closes a [`Server`].
pub struct Closer {
    handle: ServerHandle,
    metrics: Metrics,
}

impl Closer {
    /// Closes the listener and waits until all answers are sent. A client that only keeps its connection for later is
    /// not waited for.
    pub async fn close(self) {
        let idle = async {
            while self.metrics.in_flight() > 0 {
                tokio::time::sleep(FLUSH / 10).await;
            }
            tokio::time::sleep(FLUSH).await;
        };
        tokio::select! {
            () = self.handle.stop(true) => {}
            () = idle => {}
        }
    }
}

impl IntoFuture for Server {
    type Output = io::Result<()>;
    type IntoFuture = actix_web::dev::Server;

    fn into_future(self) -> Self::IntoFuture {
        self.server
    }
}

/// Binds the server of `config`; must run inside of the runtime's actix system. Signals are the caller's.
///
/// # Errors
/// [`HttpError`] when the address cannot be had, or would serve other machines without a key.
pub fn serve(
    config: Config,
    runtime: Runtime,
    sampling: Defaults,
    readiness: Readiness,
) -> Result<Server, HttpError> {
    let live = Live::new(&config, sampling)?;
    let drain = runtime.config().drain_timeout.get();
    let remotes = Arc::new(Remotes::new(runtime.config())?);
    let interval = runtime.config().remote_interval.get();
    let watching = remote::watch(Arc::downgrade(&remotes), runtime.clone(), interval);
    let metrics = runtime.metrics().clone();
    let state = Data::new(State {
        runtime,
        readiness,
        slot: Slot::new(live),
        remotes,
        responses: Kept::default(),
        started: SystemTime::now(),
    });
    let reloader = Reloader {
        state: Data::clone(&state),
        certificate: certificate(&config)?,
    };
    let certificate = reloader.certificate.clone();
    let app = move || {
        App::new()
            .app_data(Data::clone(&state))
            .configure(routes)
            .wrap(from_fn(edge))
    };
    let address = SocketAddr::new(config.host, config.port);
    let tls = certificate.map(tls::listener).transpose()?;
    let server = HttpServer::new(app)
        .workers(config.workers)
        .disable_signals()
        .client_request_timeout(HEAD_TIMEOUT)
        // A client that closes its end has left: its work is to stop.
        .h1_allow_half_closed(false)
        // The runtime keeps the deadline of a drain; this one only backs it up.
        .shutdown_timeout(drain.as_secs() + 1);
    let bound = match tls {
        Some(tls) => server.bind_rustls_0_23(address, tls),
        None => server.bind(address),
    };
    let server = bound.map_err(|source| match source.kind() {
        io::ErrorKind::AddrInUse => HttpError::PortTaken(address),
        _ => HttpError::Bind { address, source },
    })?;
    let address = server.addrs().first().copied().unwrap_or(address);
    actix_web::rt::spawn(watching);
    Ok(Server {
        address,
        server: server.run(),
        metrics,
        reloader,
    })
}
