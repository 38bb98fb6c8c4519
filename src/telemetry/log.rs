//! Where events go: standard error, `llamahome.*.log`, and samples of resources to `resources.*.log`.

use std::fs::DirBuilder;
use std::io::IsTerminal;
use std::path::Path;

use tracing::level_filters::LevelFilter;
use tracing::{Level as TracingLevel, Subscriber};
use tracing_appender::non_blocking::WorkerGuard;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::{Filter, SubscriberExt};
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::reload;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Layer, Registry};

use super::capped::Capped;
use super::escape::Escaped;
use super::{Config, Format, Level, RESOURCES, TelemetryError};

/// What kind of process is logging.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// A server: standard error has all that the level allows.
    Daemon,
    /// A command that runs and ends: standard error belongs to its user.
    Command {
        /// Whether the user asked for the log; otherwise only warnings and errors are shown.
        verbose: bool,
    },
}

/// Keeps the threads that write log files; dropping it writes what is left.
#[must_use = "log lines are lost when the guard is dropped early"]
pub struct Guard {
    _files: Vec<WorkerGuard>,
    /// Each changes what one destination is sent.
    levels: Vec<SetLevel>,
}

type SetLevel = Box<dyn Fn(Level) -> Result<(), reload::Error> + Send>;

impl std::fmt::Debug for Guard {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Guard").finish_non_exhaustive()
    }
}

impl Guard {
    /// Lets another level through from now on, to standard error and to the files.
    ///
    /// # Errors
    /// When the process's log is no longer there.
    pub fn set_level(&self, level: Level) -> Result<(), TelemetryError> {
        let all = self.levels.iter().try_for_each(|set| set(level));
        all.map_err(|error| TelemetryError::Level(error.to_string()))
    }
}

/// A filter that can be changed, and what changes it.
fn changeable<S: 'static>(
    level: Level,
    targets: impl Fn(Level) -> Targets + Send + 'static,
) -> (reload::Layer<Targets, S>, SetLevel) {
    let (filter, handle) = reload::Layer::new(targets(level));
    (filter, Box::new(move |level| handle.reload(targets(level))))
}

/// Sends the events of this process to standard error and to files in `config.dir`, or else in `logs_dir`.
///
/// # Errors
/// When the folder or a file cannot be made, or when logging was started before.
pub fn start(config: &Config, logs_dir: &Path, mode: Mode) -> Result<Guard, TelemetryError> {
    let format = stderr_format(config.format, mode, std::io::stderr().is_terminal());
    let (layers, mut guard) = layers(config, logs_dir)?;
    let (filter, set) = changeable(config.level, move |level| stderr_targets(level, mode));
    guard.levels.push(set);
    let screen = layer(std::io::stderr, format, filter);
    let all = tracing_subscriber::registry().with(layers).with(screen);
    all.try_init().map_err(|_| TelemetryError::Twice)?;
    Ok(guard)
}

type Boxed<S> = Box<dyn Layer<S> + Send + Sync>;

/// The layers that write files.
fn layers(
    config: &Config,
    logs_dir: &Path,
) -> Result<(Vec<Boxed<Registry>>, Guard), TelemetryError> {
    let folder = config.dir.as_deref().unwrap_or(logs_dir);
    make_folder(folder)?;
    let mut files = Vec::new();
    let mut layers = Vec::new();
    let mut open = |name: &'static str| {
        let (writer, guard) = tracing_appender::non_blocking(Capped::open(config, folder, name)?);
        files.push(guard);
        Ok(writer)
    };
    let (filter, set) = changeable(config.level, targets);
    layers.push(layer(open("llamahome")?, Format::Json, filter));
    if config.resources {
        let samples = Targets::new().with_target(RESOURCES, LevelFilter::TRACE);
        layers.push(layer(open("resources")?, Format::Json, samples));
    }
    let guard = Guard {
        _files: files,
        levels: vec![set],
    };
    Ok((layers, guard))
}

fn make_folder(path: &Path) -> Result<(), TelemetryError> {
    let mut builder = DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder
        .create(path)
        .map_err(|source| TelemetryError::Folder {
            path: path.to_owned(),
            source,
        })
}

/// One line an event, without colours: escapes of colour could not be told from those of a hostile text.
fn layer<S, W>(
    writer: W,
    format: Format,
    targets: impl Filter<S> + Send + Sync + 'static,
) -> Boxed<S>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    W: for<'w> MakeWriter<'w> + Send + Sync + 'static,
{
    let plain = tracing_subscriber::fmt::layer()
        .with_ansi(false)
        .with_writer(Escaped(writer));
    match format {
        Format::Json => plain
            .json()
            .flatten_event(true)
            .with_filter(targets)
            .boxed(),
        Format::Auto | Format::Text => plain.with_filter(targets).boxed(),
    }
}

fn stderr_format(format: Format, mode: Mode, is_terminal: bool) -> Format {
    match (format, mode) {
        (Format::Auto, Mode::Daemon) if !is_terminal => Format::Json,
        (Format::Auto, _) => Format::Text,
        (asked, _) => asked,
    }
}

fn stderr_targets(level: Level, mode: Mode) -> Targets {
    match mode {
        Mode::Command { verbose: false } => targets(level.min(Level::Warn)),
        Mode::Command { verbose: true } | Mode::Daemon => targets(level),
    }
}

/// This program at `level`, other crates one step less, samples of resources not at all.
fn targets(level: Level) -> Targets {
    let (own, others) = match level {
        Level::Error => (TracingLevel::ERROR, TracingLevel::ERROR),
        Level::Warn => (TracingLevel::WARN, TracingLevel::ERROR),
        Level::Info => (TracingLevel::INFO, TracingLevel::WARN),
        Level::Debug => (TracingLevel::DEBUG, TracingLevel::INFO),
        Level::Trace => (TracingLevel::TRACE, TracingLevel::DEBUG),
    };
    Targets::new()
        .with_default(others)
        .with_target("llamahome", own)
        .with_target(RESOURCES, LevelFilter::OFF)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::{Arc, Mutex};
    use tracing::subscriber::with_default;

    #[derive(Clone, Default)]
    struct Screen(Arc<Mutex<Vec<u8>>>);

    impl std::io::Write for Screen {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    fn screen(format: Format, targets: Targets, log: impl FnOnce()) -> String {
        let screen = Screen::default();
        let writer = screen.clone();
        let layer = layer(move || writer.clone(), format, targets);
        with_default(tracing_subscriber::registry().with(layer), log);
        let bytes = screen.0.lock().unwrap().clone();
        String::from_utf8(bytes).unwrap()
    }

    fn file(folder: &Path, name: &str) -> String {
        let entries = std::fs::read_dir(folder)
            .unwrap()
            .map(|entry| entry.unwrap().path());
        let found = entries.filter(|path| {
            path.file_name()
                .unwrap()
                .to_str()
                .unwrap()
                .starts_with(name)
        });
        found
            .map(|path| std::fs::read_to_string(path).unwrap())
            .collect()
    }

    #[test]
    fn samples_go_to_a_file_of_their_own() {
        let folder = tempfile::tempdir().unwrap();
        let logs = folder.path().join("logs");
        let (layers, guard) = layers(&Config::default(), &logs).unwrap();
        with_default(tracing_subscriber::registry().with(layers), || {
            tracing::info!(target: RESOURCES, cpu = 0.5, "sample");
            tracing::info!(target: "llamahome::http", user = "eve\n{\"level\":\"ERROR\"}", "hello");
            tracing::debug!(target: "llamahome::http", "hidden");
            tracing::info!(target: "some_crate", "hidden");
        });
        drop(guard);
        let (main, samples) = (file(&logs, "llamahome"), file(&logs, "resources"));
        assert_eq!(
            (main.lines().count(), samples.lines().count()),
            (1, 1),
            "{main}\n{samples}"
        );
        let event: serde_json::Value = serde_json::from_str(&main).unwrap();
        assert_eq!(event["user"], "eve\n{\"level\":\"ERROR\"}");
        let sample: serde_json::Value = serde_json::from_str(&samples).unwrap();
        assert_eq!(
            (&sample["target"], &sample["cpu"]),
            (&RESOURCES.into(), &0.5.into())
        );
    }

    #[test]
    fn hostile_text_stays_on_its_line() {
        let text = screen(Format::Text, targets(Level::Info), || {
            tracing::warn!(target: "llamahome", "name {}", "a\n2025 ERROR forged\x1b[2J");
        });
        assert_eq!(text.lines().count(), 1, "{text}");
        assert!(!text.contains('\x1b'), "{text}");
    }

    #[test]
    fn commands_show_warnings_only_unless_asked() {
        let said = |mode| {
            screen(Format::Text, stderr_targets(Level::Info, mode), || {
                tracing::info!(target: "llamahome", "one");
                tracing::warn!(target: "llamahome", "two");
            })
        };
        assert_eq!(said(Mode::Command { verbose: false }).lines().count(), 1);
        assert_eq!(said(Mode::Command { verbose: true }).lines().count(), 2);
        assert_eq!(said(Mode::Daemon).lines().count(), 2);
    }

    #[test]
    fn only_a_daemon_away_from_a_terminal_logs_json_by_itself() {
        let command = Mode::Command { verbose: true };
        for (format, mode, is_terminal, expected) in [
            (Format::Auto, Mode::Daemon, true, Format::Text),
            (Format::Auto, Mode::Daemon, false, Format::Json),
            (Format::Auto, command, false, Format::Text),
            (Format::Json, command, true, Format::Json),
            (Format::Text, Mode::Daemon, false, Format::Text),
        ] {
            assert_eq!(
                stderr_format(format, mode, is_terminal),
                expected,
                "{format:?} {mode:?}"
            );
        }
    }
}
