//! What a command stands on: settings, home, library, log, and the actors when it needs them.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::SystemTime;

use anyhow::{Context, Result};

use super::flags::Global;
use super::{progress, variable};
use crate::config::{self, Inputs, Loaded, Overrides, Reread, Settings};
use crate::llama::{self, KvMemory};
use crate::runtime::{self, DiskModels, Runtime, Sections, Training};
use crate::store::{Catalog, Fetch, Home, Installed, Library, PullRequest, StoreError};
use crate::telemetry::{self, AuditLog, Guard, Metrics, Mode, Traces};
use crate::units::ByteSize;

/// Settings and what they lead to. Nothing is written before [`Host::start_log`] or [`Host::boot`].
pub(super) struct Host {
    /// The settings and their origins.
    pub(super) loaded: Loaded,
    /// Models on this machine.
    pub(super) library: Library,
    inputs: Inputs,
    quiet: bool,
    verbose: u8,
    log: Option<Guard>,
}

impl Host {
    /// Loads the settings, the command line's over all others.
    ///
    /// # Errors
    /// The first wrong setting, a broken catalogue, or no folder to keep things in.
    pub(super) fn open(global: &Global, mut overrides: Overrides) -> Result<Host> {
        global.add_to(&mut overrides);
        let inputs = Inputs::of_process(overrides).context("cannot tell the working directory")?;
        let loaded = config::load(&inputs)?;
        let home = home_of(&loaded)?;
        let library = Library::new(home.clone(), catalog(&loaded.settings, &home)?);
        Ok(Host {
            loaded,
            library,
            inputs,
            quiet: global.quiet,
            verbose: global.verbose,
            log: None,
        })
    }

    /// Reads all settings anew, under the same flags and variables. What runs stays as it is.
    ///
    /// # Errors
    /// The first wrong setting.
    pub(super) fn reread(&self) -> Result<Reread> {
        let reread = config::reread(&self.inputs, &self.loaded)?;
        check(&reread.loaded.settings)?;
        Ok(reread)
    }

    /// Lets another level of the log through.
    ///
    /// # Errors
    /// When the log is gone.
    pub(super) fn set_level(&self, level: telemetry::Level) -> Result<()> {
        match &self.log {
            Some(log) => Ok(log.set_level(level)?),
            None => Ok(()),
        }
    }

    /// The settings.
    pub(super) fn settings(&self) -> &Settings {
        &self.loaded.settings
    }

    /// The program's folder.
    pub(super) fn home(&self) -> &Home {
        self.library.home()
    }

    /// Starts the log of a command, which shows its user warnings unless asked for more.
    ///
    /// # Errors
    /// When the log's folder cannot be written.
    pub(super) fn start_log(&mut self) -> Result<()> {
        self.start(Mode::Command {
            verbose: self.verbose > 0,
        })
    }

    /// Starts the log of a server.
    ///
    /// # Errors
    /// When the log's folder cannot be written.
    pub(super) fn start_daemon_log(&mut self) -> Result<()> {
        self.start(Mode::Daemon)
    }

    fn start(&mut self, mode: Mode) -> Result<()> {
        self.home().create()?;
        let guard = telemetry::start(&self.settings().telemetry, &self.home().logs(), mode)?;
        self.log = Some(guard);
        for path in &self.loaded.ignored {
            tracing::warn!(path = %path.display(), "this file of the configuration folder is not read");
        }
        Ok(())
    }

    /// Sets the compute threads and gives the models of the library. Returns the threads and why so many, too.
    pub(super) fn models(&self) -> (DiskModels, usize, String) {
        let settings = self.settings();
        let (threads, reason) = llama::set_threads(&settings.model);
        let memory = KvMemory {
            dtype: settings.kv.dtype,
            grid: settings.scheduler.prefill_tokens,
            prefix_bytes: bytes(settings.kv.prefix_bytes),
            parked_bytes: bytes(settings.kv.parked_bytes),
            folder: Some(self.home().root().to_owned()),
            ..KvMemory::default()
        };
        let models = DiskModels::new(self.library.clone(), settings.model.clone());
        let models = models.with_memory(memory);
        tracing::info!(threads, reason, device = %llama::describe(), "compute");
        (models, threads, reason)
    }

    /// Starts the actors. Must run inside of an actix system.
    ///
    /// # Errors
    /// When the home folder cannot be made.
    pub(super) fn boot(&self, audit: Option<AuditLog>) -> Result<Runtime> {
        self.home().create()?;
        let settings = self.settings();
        let (models, ..) = self.models();
        let sections = Sections {
            runtime: settings.runtime.clone(),
            scheduler: settings.scheduler.clone(),
            kv: settings.kv.clone(),
            log_samples: settings.telemetry.resources,
            folder: self.home().root().to_owned(),
            // A command that runs and ends is nobody's server.
            traces: match audit {
                Some(_) => self.traces()?,
                None => Traces::default(),
            },
            training: Some(Training {
                library: self.library.clone(),
                recipes: self.recipes(),
            }),
        };
        Ok(runtime::boot(
            sections,
            Arc::new(models),
            audit,
            Metrics::new(),
        ))
    }

    /// The folders of recipes that can be named.
    pub(super) fn recipes(&self) -> Vec<PathBuf> {
        vec![folder().join("train"), self.home().config().join("train")]
    }

    /// Where traces go: as the settings say, or else the variable that all programs share.
    fn traces(&self) -> Result<Traces> {
        let endpoint = self.settings().telemetry.otlp_endpoint.clone();
        let shared = || variable("OTEL_EXPORTER_OTLP_ENDPOINT")?.into_string().ok();
        Ok(match endpoint.or_else(shared) {
            Some(endpoint) => Traces::to(&endpoint)?,
            None => Traces::default(),
        })
    }

    /// The installed model of this name; one of the catalogue is pulled first.
    ///
    /// # Errors
    /// [`StoreError::UnknownModel`] with a hint for any other name, or why it could not be pulled.
    pub(super) fn ensure(&self, name: &str) -> Result<Installed> {
        ensure(&self.library, name, self.quiet)
    }

    /// Pulls a model, with its progress on standard error.
    ///
    /// # Errors
    /// Why it could not be pulled.
    pub(super) fn pull(&self, request: &PullRequest) -> Result<Installed> {
        pull(&self.library, request, self.quiet)
    }

    /// Whether only errors are to be told.
    pub(super) fn quiet(&self) -> bool {
        self.quiet
    }
}

/// Checks of settings what their types do not.
///
/// # Errors
/// What is wrong.
pub(super) fn check(settings: &Settings) -> Result<()> {
    let sampling = settings.sampling.check();
    sampling.context("[sampling] is not sound")
}

/// The installed model of this name.
///
/// # Errors
/// [`StoreError::UnknownModel`], always with a hint.
pub(super) fn find(library: &Library, name: &str) -> Result<Installed, StoreError> {
    library.find(name).map_err(|error| match error {
        StoreError::UnknownModel {
            name,
            closest: None,
        } => StoreError::UnknownModel {
            name,
            closest: Some(
                "`llamahome list` shows the installed ones, `llamahome pull` fetches others"
                    .to_owned(),
            ),
        },
        other => other,
    })
}

/// See [`Host::ensure`].
pub(super) fn ensure(library: &Library, name: &str, quiet: bool) -> Result<Installed> {
    match find(library, name) {
        Err(StoreError::UnknownModel { .. }) if library.catalog().lookup(name).is_ok() => {}
        found => return Ok(found?),
    }
    if !quiet {
        eprintln!("model {name} is not installed: pulling it");
    }
    let request = PullRequest {
        source: name.parse()?,
        id: None,
        link: false,
        pulled_at: now(),
    };
    pull(library, &request, quiet).with_context(|| format!("cannot pull {name}"))
}

/// What finds `model` again from any folder: its id, or the whole path of one that is not installed.
pub(super) fn lasting_name(library: &Library, model: &Installed) -> String {
    if model.path.starts_with(library.home().models()) {
        return model.id.to_string();
    }
    let path = std::path::absolute(&model.path).unwrap_or_else(|_| model.path.clone());
    path.display().to_string()
}

fn pull(library: &Library, request: &PullRequest, quiet: bool) -> Result<Installed> {
    library.home().create()?;
    let fetch = Fetch::from_env(variable);
    Ok(library.pull(&fetch, request, progress::on_stderr(quiet).as_mut())?)
}

/// The time now as manifests have it.
pub(super) fn now() -> String {
    humantime::format_rfc3339_seconds(SystemTime::now()).to_string()
}

/// The home that settings or the environment name.
pub(super) fn home_of(loaded: &Loaded) -> Result<Home> {
    match &loaded.home {
        Some(path) => Ok(Home::at(path)),
        None => Ok(Home::from_env(variable)?),
    }
}

/// The built-in catalogue; over it the project's, the user's, and the one of the settings.
pub(super) fn catalog(settings: &Settings, home: &Home) -> Result<Catalog> {
    let mut catalog = Catalog::built_in()?;
    let own = Some(home.config().join("models.json")).filter(|path| path.is_file());
    let files: [Option<PathBuf>; 3] = [project_catalog(), own, settings.store.catalog.clone()];
    for path in files.into_iter().flatten() {
        catalog = catalog.overlaid(Catalog::read(&path)?);
    }
    Ok(catalog)
}

/// `.config/models.json` of the working directory, unless that folder is the user's own, where the file would be some
/// other program's.
fn project_catalog() -> Option<PathBuf> {
    let folder = folder();
    let users = variable("XDG_CONFIG_HOME").map(PathBuf::from).or_else(|| {
        let home = variable("HOME")?;
        Some(PathBuf::from(home).join(".config"))
    });
    let same = |users: PathBuf| users.canonicalize().ok() == folder.canonicalize().ok();
    let file = folder.join("models.json");
    (file.is_file() && !users.is_some_and(same)).then_some(file)
}

/// The project's configuration folder.
fn folder() -> PathBuf {
    variable("LLAMAHOME_CONFIG").map_or_else(|| PathBuf::from(".config"), PathBuf::from)
}

fn bytes(size: ByteSize) -> usize {
    usize::try_from(size.bytes()).unwrap_or(usize::MAX)
}
