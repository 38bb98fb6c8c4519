//! `serve`: the daemon, from its first log line to the end of its drain.

use std::future::IntoFuture;
use std::net::IpAddr;

use anyhow::{Context, Result, bail};

use super::daemon::Note;
use super::exit::{self, Exit, Signal};
use super::flags::{Global, ModelFlags, add};
use super::host::{self, Host};
use super::signals::{Asked, Signals, Terminal};
use crate::config::{self, Change, Overrides};
use crate::http::{self, Readiness, Reloader};
use crate::llama::Compute;
use crate::runtime::{Runtime, systemd};
use crate::store::Library;
use crate::telemetry::AuditLog;

/// The flags of `serve`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The address to listen on
    #[arg(long, value_name = "ADDRESS")]
    host: Option<IpAddr>,
    /// The port to listen on; 0 takes a free one
    #[arg(long)]
    port: Option<u16>,
    /// Load this model at the start; may be given several times, and requests that name none get the first
    #[arg(long, value_name = "NAME")]
    model: Vec<String>,
    /// Log JSON, also on a terminal
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    flags: ModelFlags,
}

impl Args {
    fn overrides(&self) -> Overrides {
        let mut overrides = Overrides::new();
        self.flags.add_to(&mut overrides);
        if let Some(host) = self.host {
            add(&mut overrides, "http.host", &host.to_string(), "--host");
        }
        if let Some(port) = self.port {
            add(&mut overrides, "http.port", &port.to_string(), "--port");
        }
        if let Some(first) = self.model.first() {
            add(&mut overrides, "runtime.default_model", first, "--model");
            add(
                &mut overrides,
                "runtime.preload",
                &self.model.join(","),
                "--model",
            );
        }
        if self.json {
            add(&mut overrides, "telemetry.format", "json", "--json");
        }
        overrides
    }
}

/// Runs the command until a signal ends it.
///
/// # Errors
/// When the address cannot be had, or a model that was named cannot be loaded.
pub(super) fn run(global: &Global, args: Args) -> Result<Exit> {
    let mut host = Host::open(global, args.overrides())?;
    host.start_daemon_log()?;
    actix::System::new().block_on(serve(host))
}

async fn serve(mut host: Host) -> Result<Exit> {
    let settings = host.settings().clone();
    let audit = AuditLog::open(&host.home().logs().join("audit.jsonl"))?;
    let runtime = host.boot(Some(audit))?;
    let readiness = Readiness::default();
    let server = http::serve(
        settings.http.clone(),
        runtime.clone(),
        settings.sampling.clone(),
        readiness.clone(),
    )?;
    let reloader = server.reloader();
    reloader.tell(config::told(&host.loaded, &[])?);
    // From here on a signal drains, or reloads.
    let terminal = Terminal::look();
    let mut signals = Signals::listen().context("cannot listen for signals")?;
    let (address, closer) = (server.address(), server.closer());
    let note = Note::leave(host.home(), address)?;
    say_hello(&host, address);

    let mut serving = actix::spawn(server.into_future());
    let mut loading = actix::spawn(load(
        Names::of(&host),
        host.library.clone(),
        runtime.clone(),
    ));
    let mut loaded = false;
    let signal = loop {
        tokio::select! {
            asked = signals.next_or_reload(terminal) => match asked {
                Asked::End(signal) => break signal,
                Asked::Reload => {
                    // While it loads it has not said that it is ready.
                    if loaded {
                        systemd::reloading();
                    }
                    if let Err(error) = reload(&mut host, &reloader) {
                        tracing::error!("nothing was reloaded: {error:#}");
                    }
                    if loaded {
                        systemd::ready();
                    }
                }
            },
            ended = &mut serving => {
                ended.context("the server's task failed")?.context("the server failed")?;
                bail!("the server ended by itself");
            }
            done = &mut loading, if !loaded => {
                done.context("the loading task failed")??;
                loaded = true;
                readiness.set(true);
                systemd::ready();
                tracing::info!("ready");
            }
        }
    };

    tracing::info!(
        ?signal,
        "draining: a second signal ends the process at once"
    );
    readiness.set(false);
    let deadline = settings.runtime.drain_timeout.get();
    systemd::stopping(deadline);
    let drain = async {
        let complete = runtime.shutdown(deadline).await;
        closer.close().await;
        complete
    };
    let complete = tokio::select! {
        complete = drain => complete,
        second = signals.next() => {
            tracing::warn!(signal = ?second, "not drained");
            drop((note, host));
            exit::at_once(match second {
                Signal::Interrupt => Signal::Interrupt.code(),
                Signal::Terminate => 1,
            });
        }
    };
    if complete {
        tracing::info!("drained");
    } else {
        tracing::warn!(
            ?deadline,
            "some answers were cut off: they took longer than runtime.drain_timeout"
        );
    }
    let traces = runtime.traces().clone();
    // The collector may be slow, or gone.
    let _ = tokio::task::spawn_blocking(move || traces.flush()).await;
    drop((note, host));
    if !complete || !loaded {
        // A download or a load may still run on a thread that the runtime would wait for.
        exit::at_once(0);
    }
    Ok(Exit::Done)
}

/// Reads the settings anew and runs with those of them that can change now. All or nothing: what is wrong changes
/// nothing.
fn reload(host: &mut Host, reloader: &Reloader) -> Result<()> {
    let reread = host.reread()?;
    let settings = &reread.loaded.settings;
    let told = config::told(&reread.loaded, &reread.waiting)?;
    reloader.apply(&settings.http, settings.sampling.clone())?;
    reloader.tell(told);
    host.set_level(settings.telemetry.level)?;
    for Change { key, old, new } in &reread.changed {
        tracing::info!(key, %old, %new, "a setting has changed");
    }
    for Change { key, old, new } in &reread.waiting {
        tracing::warn!(key, running = %old, %new, "a setting changes at a restart only");
    }
    for path in &reread.loaded.ignored {
        tracing::warn!(path = %path.display(), "this file of the configuration folder is not read");
    }
    tracing::info!(
        changed = reread.changed.len(),
        waiting = reread.waiting.len(),
        keys_file = settings
            .http
            .keys_file
            .as_ref()
            .map(|path| path.display().to_string()),
        tls_cert = settings
            .http
            .tls_cert
            .as_ref()
            .map(|path| path.display().to_string()),
        "reloaded: the files of keys and certificates were read, too"
    );
    host.loaded = reread.loaded;
    Ok(())
}

fn say_hello(host: &Host, address: std::net::SocketAddr) {
    let settings = host.settings();
    let kv = &settings.kv;
    let budget = match (kv.heavy, kv.recent, kv.budget) {
        (Some(heavy), Some(recent), _) => format!("{heavy} heavy and {recent} recent tokens"),
        (_, _, Some(budget)) => budget.to_string(),
        (_, _, None) => "the context".to_owned(),
    };
    tracing::info!(
        %address,
        dtype = Compute::choose(settings.model.dtype).dtype_name(),
        kv_policy = ?kv.policy,
        kv_budget = %budget,
        kv_total = %kv.total_bytes,
        key = settings.http.api_key.is_some() || settings.http.keys_file.is_some(),
        version = super::VERSION,
        home = %host.home().root().display(),
        "listening"
    );
}

/// The models to load at the start.
enum Names {
    /// Those that were named: all of them must load.
    Named(Vec<String>),
    /// The default one, which nobody named.
    Default(String),
}

impl Names {
    fn of(host: &Host) -> Names {
        let runtime = &host.settings().runtime;
        match runtime.preload.as_slice() {
            [] => Names::Default(runtime.default_model.clone()),
            names => Names::Named(names.to_vec()),
        }
    }
}

/// Loads the models; those of the catalogue are pulled when they are not installed.
async fn load(names: Names, library: Library, runtime: Runtime) -> Result<()> {
    match names {
        Names::Named(names) => {
            for name in names {
                let loaded = load_one(&name, &library, &runtime).await;
                loaded
                    .with_context(|| format!("cannot load {name}, which was named at the start"))?;
            }
        }
        Names::Default(name) => {
            if let Err(error) = load_one(&name, &library, &runtime).await {
                tracing::warn!(model = name, "the default model is not loaded: {error:#}");
            }
        }
    }
    Ok(())
}

async fn load_one(name: &str, library: &Library, runtime: &Runtime) -> Result<()> {
    let (library, wanted) = (library.clone(), name.to_owned());
    let ensure = move || {
        if host::find(&library, &wanted).is_err() && library.catalog().lookup(&wanted).is_ok() {
            tracing::info!(model = wanted, "not installed: pulling");
        }
        host::ensure(&library, &wanted, true)
    };
    tokio::task::spawn_blocking(ensure).await??;
    runtime.model(Some(name)).await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_become_settings() {
        let args = Args {
            host: Some("127.0.0.2".parse().unwrap()),
            port: Some(0),
            model: vec!["a".to_owned(), "b".to_owned()],
            json: true,
            flags: ModelFlags::default(),
        };
        let folder = tempfile::tempdir().unwrap();
        let inputs = crate::config::Inputs {
            cwd: folder.path().to_owned(),
            overrides: args.overrides(),
            ..crate::config::Inputs::default()
        };
        let settings = crate::config::load(&inputs).unwrap().settings;
        assert_eq!(
            (settings.http.host, settings.http.port),
            ([127, 0, 0, 2].into(), 0)
        );
        assert_eq!(settings.runtime.default_model, "a");
        assert_eq!(settings.runtime.preload, ["a", "b"]);
        assert_eq!(settings.telemetry.format, crate::telemetry::Format::Json);
    }
}
