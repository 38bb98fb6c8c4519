//! `doctor`: what this machine and this installation are like, what is wrong, and what to do.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Result;
use serde::Serialize;
use sysinfo::System;

use super::daemon::Daemon;
use super::exit::Exit;
use super::flags::Global;
use super::{host, output, variable};
use crate::config::{self, ConfigError, Inputs, Loaded, Overrides, Settings};
use crate::llama::{self, Compute};
use crate::store::{Home, Library, StoreError};

const GIB: u64 = 1 << 30;

/// The flags of `doctor`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum State {
    Ok,
    Warn,
    Fail,
}

/// One thing that was looked at.
#[derive(Debug, Serialize)]
struct Finding {
    name: &'static str,
    state: State,
    found: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    advice: Option<String>,
}

fn ok(name: &'static str, found: impl Into<String>) -> Finding {
    Finding {
        name,
        state: State::Ok,
        found: found.into(),
        advice: None,
    }
}

impl Finding {
    fn warn(self, advice: impl Into<String>) -> Finding {
        self.with(State::Warn, advice)
    }

    fn fail(self, advice: impl Into<String>) -> Finding {
        self.with(State::Fail, advice)
    }

    fn with(self, state: State, advice: impl Into<String>) -> Finding {
        Finding {
            state,
            advice: Some(advice.into()),
            ..self
        }
    }
}

/// Runs the command.
///
/// # Errors
/// When the working directory cannot be told or nobody reads the report.
pub(super) fn run(global: &Global, args: &Args) -> Result<Exit> {
    let mut overrides = Overrides::new();
    global.add_to(&mut overrides);
    let loaded = config::load(&Inputs::of_process(overrides)?);
    let defaults = Settings::default();
    let settings = loaded.as_ref().map_or(&defaults, |loaded| &loaded.settings);

    let mut findings = vec![
        settings_found(&loaded),
        device(settings),
        libtorch(),
        threads(settings),
        memory(),
    ];
    let home = match &loaded {
        Ok(loaded) => host::home_of(loaded),
        Err(_) => Home::from_env(variable).map_err(Into::into),
    };
    match home {
        Ok(home) => findings.extend(of_home(settings, &home)),
        Err(error) => {
            findings.push(ok("home", error.to_string()).fail("set LLAMAHOME_HOME to a folder"))
        }
    }
    findings.extend([hub(), pip()]);

    if args.json {
        output::json(&findings)?;
    } else {
        output::text(&findings.iter().map(line).collect::<String>())?;
    }
    let failed = findings.iter().any(|finding| finding.state == State::Fail);
    Ok(if failed { Exit::Failed } else { Exit::Done })
}

fn line(finding: &Finding) -> String {
    let state = match finding.state {
        State::Ok => "ok",
        State::Warn => "warn",
        State::Fail => "FAIL",
    };
    let mut line = format!("{state:4}  {:14} {}\n", finding.name, finding.found);
    if let Some(advice) = &finding.advice {
        line.push_str(&format!("{:21}-> {advice}\n", ""));
    }
    line
}

fn settings_found(loaded: &Result<Loaded, ConfigError>) -> Finding {
    let paths = |paths: &[PathBuf]| {
        let shown: Vec<_> = paths
            .iter()
            .map(|path| path.display().to_string())
            .collect();
        shown.join(", ")
    };
    match loaded {
        Err(error) => ok("settings", error.to_string())
            .fail("mend what it names; `llamahome config check` checks again"),
        Ok(loaded) => {
            let read = match loaded.read.as_slice() {
                [] => "built-in values, no file read".to_owned(),
                files => format!("read {}", paths(files)),
            };
            match loaded.ignored.as_slice() {
                [] => ok("settings", read),
                ignored => ok("settings", format!("{read}; not read: {}", paths(ignored)))
                    .warn("rename these files to a section or profile, or move them away"),
            }
        }
    }
}

fn device(settings: &Settings) -> Finding {
    let compute = Compute::choose(settings.model.dtype);
    ok(
        "device",
        format!("{}, computing in {}", llama::describe(), compute.about()),
    )
}

/// The library that this process has loaded says its version in a file of its folder.
fn libtorch() -> Finding {
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap_or_default();
    let library = maps.lines().find_map(|line| {
        let path = Path::new(line.get(line.find('/')?..)?);
        let name = path.file_name()?.to_str()?;
        name.starts_with("libtorch_cpu.so").then(|| path.to_owned())
    });
    let Some(folder) = library.as_deref().and_then(Path::parent) else {
        return ok(
            "libtorch",
            "linked, from a place that this system does not tell",
        );
    };
    let version = folder.parent().map(|root| root.join("build-version"));
    let version = version.and_then(|path| std::fs::read_to_string(path).ok());
    let version = version.as_deref().map_or("of unknown version", str::trim);
    ok("libtorch", format!("{version} in {}", folder.display()))
}

fn threads(settings: &Settings) -> Finding {
    let allowed = std::thread::available_parallelism().map_or(1, usize::from);
    let (threads, reason) = llama::set_threads(&settings.model);
    let found = ok("threads", format!("{threads}: {reason}"));
    if threads > allowed {
        return found.warn(format!(
            "more threads than cpus make each step slower: set model.threads to {allowed}"
        ));
    }
    found
}

fn memory() -> Finding {
    let Ok(mut system) = System::new() else {
        return ok("memory", "this system does not tell").warn("make sure that the weights fit");
    };
    system.refresh_memory();
    let mut total = system.total_memory();
    let mut free = system.available_memory();
    if let Some(limits) = system
        .cgroup_limits()
        .filter(|limits| limits.total_memory > 0)
    {
        total = total.min(limits.total_memory);
        free = free.min(limits.free_memory);
    }
    let found = ok(
        "memory",
        format!(
            "{} available of {}",
            output::size(free),
            output::size(total)
        ),
    );
    if free < GIB {
        return found.warn(
            "little is left for weights and KV cache: end other programs, or use a small model",
        );
    }
    found
}

fn of_home(settings: &Settings, home: &Home) -> Vec<Finding> {
    let mut findings = vec![writable(home), disk(home)];
    match host::catalog(settings, home) {
        Ok(catalog) => {
            let library = Library::new(home.clone(), catalog);
            findings.push(default_model(&library, &settings.runtime.default_model));
        }
        Err(error) => {
            findings.push(ok("catalogue", error.to_string()).fail("mend the file that it names"))
        }
    }
    findings.push(match Daemon::running(home) {
        Some(daemon) => ok(
            "server",
            format!("process {} serves at {}", daemon.pid, daemon.address),
        ),
        None => ok("server", "none runs from this home"),
    });
    findings
}

fn writable(home: &Home) -> Finding {
    let probe = home.run().join(format!("doctor.{}", std::process::id()));
    let tried = home
        .create()
        .map_err(|error| error.to_string())
        .and_then(|()| {
            let written = std::fs::write(&probe, "x").and_then(|()| std::fs::remove_file(&probe));
            written.map_err(|error| format!("{}: {error}", probe.display()))
        });
    match tried {
        Ok(()) => ok("home", format!("{} can be written", home.root().display())),
        Err(reason) => ok("home", reason).fail("set LLAMAHOME_HOME to a folder that you can write"),
    }
}

fn disk(home: &Home) -> Finding {
    let existing = home.root().ancestors().find(|path| path.exists());
    let Some(stat) = existing.and_then(|path| rustix::fs::statvfs(path).ok()) else {
        return ok("disk", "the free space of the home's disk is not told")
            .warn("make sure that a model fits");
    };
    let free = stat.f_bavail.saturating_mul(stat.f_frsize);
    let found = ok("disk", format!("{} free for models", output::size(free)));
    if free < GIB {
        return found.warn("free some, or set LLAMAHOME_HOME to a larger disk");
    }
    found
}

fn default_model(library: &Library, name: &str) -> Finding {
    let installed = match library.find(name) {
        Ok(installed) => installed,
        Err(error @ StoreError::UnknownModel { .. }) => {
            let advice = format!(
                "run `llamahome pull {name}`, or set runtime.default_model to one of `llamahome list`"
            );
            return ok("default model", error.to_string()).warn(advice);
        }
        Err(error) => {
            return ok("default model", error.to_string()).fail("remove it and pull it again");
        }
    };
    if installed.manifest.is_none() {
        return ok(
            "default model",
            format!("{name} is here, without a record to check it against"),
        );
    }
    match library.verify(&installed.id) {
        Ok(report) if report.is_whole() => ok("default model", format!("{name} is here and whole")),
        Ok(report) => {
            let reason = report
                .tensors
                .err()
                .unwrap_or_else(|| "its files changed since the pull".to_owned());
            ok("default model", format!("{name} is broken: {reason}")).fail(format!(
                "run `llamahome rm {}`, then `llamahome pull {name}`",
                installed.id
            ))
        }
        Err(error) => ok("default model", error.to_string()).fail("remove it and pull it again"),
    }
}

/// What the environment says about the model hub; the token's value is never shown.
fn hub() -> Finding {
    let endpoint = variable("HF_ENDPOINT").map(|text| text.to_string_lossy().into_owned());
    let endpoint = endpoint.unwrap_or_else(|| "https://huggingface.co".to_owned());
    let token = if variable("HF_TOKEN").is_some_and(|text| !text.is_empty()) {
        "HF_TOKEN is set (redacted)"
    } else {
        "no HF_TOKEN: public models only"
    };
    ok("hub", format!("{endpoint}, {token}"))
}

fn pip() -> Finding {
    let asked = Command::new("python3")
        .args(["-m", "pip", "--version"])
        .output();
    match asked {
        Ok(out) if out.status.success() => {
            let text = String::from_utf8_lossy(&out.stdout);
            let words: Vec<&str> = text.split_whitespace().take(2).collect();
            ok("pip", words.join(" "))
        }
        _ => ok("pip", "python3 -m pip does not run")
            .warn("install it to pull models of pypi: sources"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_home_that_cannot_be_written_fails() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("file");
        std::fs::write(&file, "").unwrap();
        assert_eq!(
            writable(&Home::at(folder.path().join("home"))).state,
            State::Ok
        );
        let bad = writable(&Home::at(file.join("home")));
        assert_eq!(bad.state, State::Fail);
        assert!(
            line(&bad).contains("-> set LLAMAHOME_HOME"),
            "{}",
            line(&bad)
        );
    }

    #[test]
    fn a_model_that_is_not_installed_is_a_warning_with_the_command() {
        let folder = tempfile::tempdir().unwrap();
        let home = Home::at(folder.path());
        let settings = Settings::default();
        let found = of_home(&settings, &home);
        let model = found
            .iter()
            .find(|finding| finding.name == "default model")
            .unwrap();
        assert_eq!(model.state, State::Warn);
        assert!(
            model
                .advice
                .as_ref()
                .unwrap()
                .contains("llamahome pull smollm2")
        );
    }
}
