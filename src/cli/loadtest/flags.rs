//! The flags of `loadtest`, and the load that they ask for.

use std::num::{NonZeroU64, NonZeroUsize};
use std::path::PathBuf;

use anyhow::{Context, Result};
use serde_json::{Map, Value};

use crate::cli::exit::Usage;
use crate::load::{
    BaseUrl, Endpoint, Form, Key, Length, Order, Process, Rate, Shape, Slo, Think, TraceFormat,
    Traffic, parse_share, parse_trace,
};
use crate::units::{Duration, Secret};

const EXAMPLES: &str = "\
Examples:
  llamahome loadtest http://127.0.0.1:8085 --rate 2 --duration 60s --ignore-eos
  llamahome loadtest http://127.0.0.1:8085 --concurrency 16 --count 64 --prompt-tokens 128 --output-tokens 128
  llamahome loadtest https://host/v1 --model m --arrivals gamma:3 --rate 5 --slo ttft_p99=0.5s --slo itl_p90=50ms
  llamahome loadtest http://127.0.0.1:8085 --find-capacity --slo ttft_p99=1s --duration 30s --json
  llamahome loadtest http://127.0.0.1:8085 --key light=1 --key heavy=10 --duration 2m --ignore-eos
  llamahome loadtest http://127.0.0.1:8085 --trace day.csv --speed 10 --plot day.svg
  llamahome loadtest http://127.0.0.1:8085 --count 200 --rate 20 --abort-rate 1

Lengths are 128, 64-256, or zipf:64-4096:1.2. Goals are METRIC_STAT=TIME (ttft, itl, tpot, e2e, refusal, lag; mean,
p50 to p99.9, max), unserved=SHARE, goodput=SHARE. docs/loadtest.md says how all is measured.";

/// The flags of `loadtest`.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(in crate::cli) struct Args {
    /// The server, such as http://127.0.0.1:8085; /v1 is added where there is no path
    pub(super) url: BaseUrl,
    /// The model; may be left out for a server that lists only one
    #[arg(long, value_name = "NAME")]
    pub(super) model: Option<String>,
    /// Which way to ask
    #[arg(long, value_name = "WAY", default_value = "chat", value_parser = ["chat", "completions"])]
    endpoint: String,
    /// The key to send; http.api_key of the settings for a server on this machine
    #[arg(
        long,
        value_name = "KEY",
        env = "LOADTEST_API_KEY",
        hide_env_values = true,
        conflicts_with = "key"
    )]
    api_key: Option<String>,
    /// A caller with a share of the load and a key of its own (its name, if none is given); several share the server
    #[arg(long, value_name = "NAME=SHARE[:SECRET]")]
    key: Vec<Key>,
    /// A header to send
    #[arg(long, value_name = "NAME: VALUE")]
    pub(super) header: Vec<String>,
    /// Fields to add to each request, as a JSON object such as {"temperature":0}
    #[arg(long, value_name = "JSON", value_parser = fields)]
    body: Option<Map<String, Value>>,
    /// Give a request up after this
    #[arg(long, value_name = "TIME", default_value = "600s")]
    pub(super) timeout: Duration,

    #[command(flatten)]
    traffic: TrafficFlags,
    #[command(flatten)]
    shape: ShapeFlags,
    #[command(flatten)]
    pub(super) goals: GoalFlags,
    #[command(flatten)]
    pub(super) out: OutFlags,
}

#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Arrivals")]
struct TrafficFlags {
    /// Sessions a second, whatever the server does; 1, or the sum of the keys' shares
    #[arg(long, value_name = "R")]
    rate: Option<Rate>,
    /// How arrivals are spread: poisson, fixed, or gamma:CV (bursts above 1)
    #[arg(long, value_name = "PROCESS", default_value = "poisson")]
    arrivals: Process,
    /// A closed loop instead: so many sessions at a time
    #[arg(long, value_name = "N", conflicts_with_all = ["rate", "arrivals"])]
    concurrency: Option<NonZeroUsize>,
    /// Replay the arrivals and lengths of a file: JSON lines, or CSV if its name ends in .csv
    #[arg(long, value_name = "FILE", conflicts_with_all = ["rate", "arrivals", "concurrency", "prompt_tokens", "output_tokens", "turns"])]
    trace: Option<PathBuf>,
    /// Replay it so many times as fast
    #[arg(long, value_name = "X", default_value = "1", requires = "trace")]
    speed: Rate,
    /// Begin sessions for so long; 60s, if no --count or --trace ends the run
    #[arg(long, value_name = "TIME")]
    duration: Option<Duration>,
    /// Begin so many sessions at most
    #[arg(long, value_name = "N")]
    count: Option<NonZeroU64>,
}

#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Requests")]
struct ShapeFlags {
    /// Tokens of a prompt, roughly: one common word each
    #[arg(long, value_name = "LENGTH", default_value = "128")]
    prompt_tokens: Length,
    /// Tokens of an answer at most; exactly, with --ignore-eos on a server that knows it
    #[arg(long, value_name = "LENGTH", default_value = "64")]
    output_tokens: Length,
    /// Put the same so many tokens before each session's first prompt
    #[arg(long, value_name = "M", default_value_t = 0)]
    shared_prefix: u32,
    /// Turns of a session; each sends all that was said before
    #[arg(long, value_name = "LENGTH", default_value = "1")]
    turns: Length,
    /// Between an answer and the next turn: a time, or exp:MEAN
    #[arg(long, value_name = "TIME", default_value = "0s", requires = "turns")]
    think: Think,
    /// Ask for answers that go on past the model's end of text
    #[arg(long)]
    ignore_eos: bool,
    /// Leave this share of the requests at random points
    #[arg(long, value_name = "SHARE", value_parser = share)]
    abort_rate: Option<f64>,
    /// Half of those are left by the clock, within this
    #[arg(
        long,
        value_name = "TIME",
        default_value = "1s",
        requires = "abort_rate"
    )]
    abort_within: Duration,
    /// The same seed gives the same load
    #[arg(long, value_name = "N", default_value_t = 0)]
    seed: u64,
    /// Send so many requests one after another first, which count nowhere
    #[arg(long, value_name = "N", default_value_t = 0)]
    warmup: u64,
}

#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Goals")]
pub(super) struct GoalFlags {
    /// A goal, such as ttft_p99=0.5s; exit code 1 when one is broken
    #[arg(long, value_name = "GOAL")]
    pub(super) slo: Vec<Slo>,
    /// Look for the highest load that meets the goals: double it until one breaks, then bisect
    #[arg(long, requires = "slo")]
    pub(super) find_capacity: bool,
    /// End the search when what broke is within this share of what passed
    #[arg(long, value_name = "SHARE", default_value = "10%", value_parser = share, requires = "find_capacity")]
    pub(super) tolerance: f64,
    /// Try no higher load
    #[arg(
        long,
        value_name = "LOAD",
        default_value = "1024",
        requires = "find_capacity"
    )]
    pub(super) most: Rate,
}

#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Output")]
pub(super) struct OutFlags {
    /// The window over which the keys' shares of the tokens are told
    #[arg(long, value_name = "TIME", default_value = "30s", requires = "key")]
    pub(super) window: Duration,
    /// Print JSON
    #[arg(long)]
    pub(super) json: bool,
    /// Write one line of JSON a request
    #[arg(long, value_name = "FILE")]
    pub(super) requests: Option<PathBuf>,
    /// Draw latency over time and its spread, as SVG; of the run at capacity, when one is looked for
    #[arg(long, value_name = "FILE")]
    pub(super) plot: Option<PathBuf>,
}

fn fields(text: &str) -> Result<Map<String, Value>, String> {
    serde_json::from_str(text).map_err(|error| format!("not a JSON object: {error}"))
}

fn share(text: &str) -> Result<f64, String> {
    parse_share(text).ok_or_else(|| format!("{text:?} is no share: write 30% or 0.3"))
}

impl Args {
    /// Who sends: the keys, or one that sends `api_key`, of the flag before that of the settings.
    pub(super) fn keys(&self, of_settings: Option<&Secret>) -> Vec<Key> {
        if !self.key.is_empty() {
            return self.key.clone();
        }
        let of_settings = of_settings.filter(|_| self.url.is_loopback()).cloned();
        let named = self.api_key.clone().and_then(Secret::new);
        Rate::new(1.0)
            .map(|share| Key {
                name: "default".to_owned(),
                share,
                secret: named.or(of_settings),
            })
            .into_iter()
            .collect()
    }

    /// Requests before the run that count nowhere.
    pub(super) fn warmup(&self) -> u64 {
        self.shape.warmup
    }

    /// The load that the flags ask for, of `model`.
    ///
    /// # Errors
    /// A trace that cannot be read, or flags that contradict each other.
    pub(super) fn order(&self, keys: Vec<Key>, model: String) -> Result<Order> {
        let endpoint = match self.endpoint.as_str() {
            "completions" => Endpoint::Completions,
            _ => Endpoint::Chat,
        };
        let traffic = self.traffic(&keys)?;
        let endless = self.traffic.count.is_none() && self.traffic.trace.is_none();
        let duration = self.traffic.duration.map(Duration::get);
        if duration.is_some_and(|time| time.is_zero()) {
            return Err(Usage("--duration 0s leaves no time for a request".to_owned()).into());
        }
        Ok(Order {
            traffic,
            shape: self.shape.shape(),
            keys,
            form: Form {
                endpoint,
                model,
                ignore_eos: self.shape.ignore_eos,
                extra: self.body.clone().unwrap_or_default(),
            },
            shared_prefix: self.shape.shared_prefix,
            duration: duration.or(endless.then(|| std::time::Duration::from_secs(60))),
            sessions: self.traffic.count.map(NonZeroU64::get),
        })
    }

    fn traffic(&self, keys: &[Key]) -> Result<Traffic> {
        let flags = &self.traffic;
        if let Some(streams) = flags.concurrency {
            let streams = streams.get();
            if streams < keys.len() {
                let told =
                    format!("--concurrency {streams} is less than one stream for each --key");
                return Err(Usage(told).into());
            }
            return Ok(Traffic::Closed { streams });
        }
        if let Some(path) = &flags.trace {
            let text = std::fs::read_to_string(path)
                .with_context(|| format!("cannot read {}", path.display()))?;
            let format = match path.extension() {
                Some(end) if end.eq_ignore_ascii_case("csv") => TraceFormat::Csv,
                _ => TraceFormat::JsonLines,
            };
            let rows = parse_trace(&text, format)
                .with_context(|| format!("cannot replay {}", path.display()))?;
            return Ok(Traffic::Replay {
                rows: rows.into(),
                speed: flags.speed,
            });
        }
        let sum = keys.iter().map(|key| key.share.get()).sum();
        let rate = match flags.rate {
            Some(rate) => rate,
            None => Rate::new(sum).ok_or_else(|| {
                Usage(
                    "the shares of the keys are too much for a rate: name one with --rate"
                        .to_owned(),
                )
            })?,
        };
        Ok(Traffic::Open {
            process: flags.arrivals,
            rate,
        })
    }
}

impl ShapeFlags {
    fn shape(&self) -> Shape {
        Shape {
            prompt: self.prompt_tokens,
            output: self.output_tokens,
            turns: self.turns,
            think: self.think,
            abort_rate: self.abort_rate.unwrap_or(0.0),
            abort_within: self.abort_within.get(),
            seed: self.seed,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::LoadUnit;
    use clap::Parser;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        args: Args,
    }

    fn read(flags: &str) -> Result<Args, clap::Error> {
        let all = ["loadtest", "http://127.0.0.1:1"]
            .into_iter()
            .chain(flags.split_whitespace());
        Line::try_parse_from(all).map(|line| line.args)
    }

    fn order(flags: &str) -> Result<Order> {
        let args = read(flags)?;
        let keys = args.keys(None);
        args.order(keys, "m".to_owned())
    }

    #[test]
    fn flags_become_a_load() {
        for (flags, unit, load, seconds) in [
            ("", LoadUnit::SessionsPerSecond, 1.0, Some(60)),
            (
                "--key a=1 --key b=10",
                LoadUnit::SessionsPerSecond,
                11.0,
                Some(60),
            ),
            (
                "--key a=1 --key b=10 --rate 22",
                LoadUnit::SessionsPerSecond,
                22.0,
                Some(60),
            ),
            ("--concurrency 8 --count 9", LoadUnit::Streams, 8.0, None),
            (
                "--rate 0.5 --count 9 --duration 5s",
                LoadUnit::SessionsPerSecond,
                0.5,
                Some(5),
            ),
        ] {
            let order = order(flags).unwrap();
            assert_eq!(
                (order.traffic.unit(), order.traffic.load()),
                (unit, load),
                "{flags}"
            );
            assert_eq!(
                order.duration.map(|time| time.as_secs()),
                seconds,
                "{flags}"
            );
        }
    }

    #[test]
    fn flags_that_contradict_each_other_are_refused() {
        for flags in [
            "--rate 1 --concurrency 2",
            "--arrivals fixed --concurrency 2",
            "--trace x --rate 1",
            "--trace x --prompt-tokens 5",
            "--speed 2",
            "--abort-within 1s",
            "--think 1s",
            "--find-capacity",
            "--tolerance 5%",
            "--window 10s",
            "--api-key a --key b=1",
            "--rate 0",
            "--count 0",
            "--slo ttft=1s",
            "--body [1]",
            "--abort-rate 2",
        ] {
            assert!(read(flags).is_err(), "{flags}");
        }
        for flags in [
            "--duration 0s",
            "--concurrency 1 --key a=1 --key b=1",
            "--trace no-such-file",
        ] {
            assert!(order(flags).is_err(), "{flags}");
        }
    }

    #[test]
    fn the_key_of_the_settings_stays_on_this_machine() {
        let own = Secret::new("own");
        let secret = |args: &Args| {
            let keys = args.keys(own.as_ref());
            keys[0]
                .secret
                .as_ref()
                .map(|secret| secret.expose().to_owned())
        };
        assert_eq!(secret(&read("").unwrap()).as_deref(), Some("own"));
        assert_eq!(
            secret(&read("--api-key named").unwrap()).as_deref(),
            Some("named")
        );
        let away = Line::try_parse_from(["loadtest", "https://example.org"])
            .unwrap()
            .args;
        assert_eq!(secret(&away), None);
    }
}
