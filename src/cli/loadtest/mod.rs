//! `loadtest`: a server of the OpenAI API under load, and what it bears.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use indicatif::{ProgressBar, ProgressStyle};

use super::exit::{Exit, Signal, Usage};
use super::flags::Global;
use super::host::Host;
use super::output;
use super::signals::Signals;
use crate::config::Overrides;
use crate::load::{
    CapacityReport, Client, Order, RecordLine, Report, Run, Search, SearchBounds, Slo, Tally,
    Trial, drive, plot, table, warm_up,
};

mod flags;

pub(super) use flags::Args;

/// How often the progress is shown anew.
const REFRESH: Duration = Duration::from_millis(200);
/// Requests that may be refused or fail in a run that meets its goals, where none says so.
const UNSERVED: f64 = 0.01;

/// Runs the command.
///
/// # Errors
/// When the server cannot be asked for its models, or a file cannot be read or written.
pub(super) fn run(global: &Global, args: &Args) -> Result<Exit> {
    let host = Host::open(global, Overrides::new())?;
    let keys = args.keys(host.settings().http.api_key.as_ref());
    let client = Client::new(args.url.clone(), &keys, &args.header, args.timeout.get())
        .map_err(|error| Usage(error.to_string()))?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .context("cannot start the tester's threads")?;
    runtime.block_on(async {
        let model = match &args.model {
            Some(model) => model.clone(),
            None => client.only_model().await?,
        };
        let order = args.order(keys, model)?;
        let mut session = Session {
            client: Arc::new(client),
            url: args.url.to_string(),
            window_s: args.out.window.get().as_secs_f64(),
            signals: Signals::listen().context("cannot listen for signals")?,
            files: Files::create(args)?,
            quiet: global.quiet,
            stopped: None,
        };
        session.warm_up(&order, args.warmup()).await;
        let met = if args.goals.find_capacity {
            session.find_capacity(&order, args).await?
        } else {
            session.once(&order, args).await?
        };
        Ok(match session.stopped {
            Some(signal) => Exit::By(signal),
            None if met => Exit::Done,
            None => Exit::Failed,
        })
    })
}

/// What the runs of one command share.
struct Session {
    client: Arc<Client>,
    url: String,
    window_s: f64,
    signals: Signals,
    files: Files,
    quiet: bool,
    stopped: Option<Signal>,
}

impl Session {
    async fn warm_up(&self, order: &Order, count: u64) {
        let lost = warm_up(&self.client, order, count).await;
        if lost > 0 {
            eprintln!("warning: {lost} of {count} requests to warm up were not served");
        }
    }

    /// Runs one load. Returns whether anything was served and every goal was met.
    async fn once(&mut self, order: &Order, args: &Args) -> Result<bool> {
        let (run, report) = self.drive(order, &args.goals.slo).await?;
        self.files.draw(&run, &report)?;
        if args.out.json {
            output::json(&report)?;
        } else {
            output::text(&table(&report))?;
        }
        let requests = report.requests;
        let served = requests.served > 0 || requests.aborted == requests.sent;
        Ok(served && report.meets_all())
    }

    /// Looks for the load that the server still bears. Returns whether there is one.
    async fn find_capacity(&mut self, order: &Order, args: &Args) -> Result<bool> {
        let mut slos = args.goals.slo.clone();
        // A server that refuses all but one request would meet any goal on latency.
        if !slos.iter().any(Slo::bounds_unserved) {
            slos.push(Slo::unserved(UNSERVED));
        }
        let bounds = SearchBounds {
            start: order.traffic.load(),
            most: args.goals.most.get(),
            tolerance: args.goals.tolerance,
            unit: order.traffic.unit(),
        };
        if bounds.start > bounds.most {
            bail!(Usage(format!(
                "--most {} is below the first load, {}",
                bounds.most, bounds.start
            )));
        }
        let mut search = Search::new(bounds);
        let (mut trials, mut best) = (Vec::new(), None);
        while let Some(load) = search.next_load() {
            let order = Order {
                traffic: order.traffic.at_load(load),
                ..order.clone()
            };
            let (run, report) = self.drive(&order, &slos).await?;
            // A run that was cut short says nothing about its load.
            if self.stopped.is_some() {
                break;
            }
            let met = report.meets_all();
            self.tell_trial(&report, met);
            search.tell(load, met);
            trials.push(Trial::of(&report));
            if met {
                best = Some((run, report));
            }
        }
        let (run, report) = best.unzip();
        if let (Some(run), Some(report)) = (&run, &report) {
            self.files.draw(run, report)?;
        }
        let found = CapacityReport::new(&search, &bounds, trials, report);
        if args.out.json {
            output::json(&found)?;
        } else {
            if let Some(report) = &found.report {
                output::text(&table(report))?;
            }
            output::line(found.verdict())?;
        }
        Ok(found.capacity.is_some())
    }

    fn tell_trial(&self, report: &Report, met: bool) {
        if self.quiet {
            return;
        }
        let broken: Vec<&str> = report
            .slos
            .iter()
            .filter(|verdict| !verdict.met)
            .map(|verdict| verdict.slo.as_str())
            .collect();
        let outcome = if met {
            "met".to_owned()
        } else {
            format!("broke {}", broken.join(", "))
        };
        eprintln!("{:.3} {}: {outcome}", report.load.load, report.load.unit);
    }

    async fn drive(&mut self, order: &Order, slos: &[Slo]) -> Result<(Run, Report)> {
        let mut shown = Shown::new(order, self.quiet);
        let (signals, stopped) = (&mut self.signals, &mut self.stopped);
        let stop = async { *stopped = Some(signals.next().await) };
        let client = self.client.clone();
        let run = drive(client, order, &mut |tally| shown.update(tally), stop).await;
        shown.bar.finish_and_clear();
        let report = Report::new(&self.url, order, &run, slos, self.window_s);
        self.files.write(&run, order)?;
        Ok((run, report))
    }
}

/// The progress on a terminal.
struct Shown {
    bar: ProgressBar,
    kind: String,
    began: Instant,
    last: Option<Instant>,
}

impl Shown {
    fn new(order: &Order, quiet: bool) -> Self {
        let bar = if quiet {
            ProgressBar::hidden()
        } else {
            ProgressBar::new_spinner()
        };
        if let Ok(style) = ProgressStyle::with_template("{spinner} {elapsed} {wide_msg}") {
            bar.set_style(style);
        }
        bar.enable_steady_tick(REFRESH);
        Shown {
            bar,
            kind: order.traffic.describe(),
            began: Instant::now(),
            last: None,
        }
    }

    fn update(&mut self, tally: &Tally) {
        if self.last.is_some_and(|last| last.elapsed() < REFRESH) {
            return;
        }
        self.last = Some(Instant::now());
        let mut text = format!(
            "{}: {} sent, {} running, {} served",
            self.kind,
            tally.sent,
            tally.running(),
            tally.served
        );
        for (count, what) in [
            (tally.refused, "refused"),
            (tally.failed, "failed"),
            (tally.aborted, "aborted"),
        ] {
            if count > 0 {
                text += &format!(", {count} {what}");
            }
        }
        let rate = tally.output_tokens as f64 / self.began.elapsed().as_secs_f64().max(0.001);
        text += &format!(", {rate:.1} tokens/s in whole answers");
        self.bar.set_message(text);
    }
}

/// The files to be written, opened before the load so that a wrong path costs nothing.
struct Files {
    requests: Option<(BufWriter<File>, String)>,
    plot: Option<(File, String)>,
}

impl Files {
    fn create(args: &Args) -> Result<Self> {
        let open = |path: &Path| {
            let name = path.display().to_string();
            let file = File::create(path).with_context(|| format!("cannot write {name}"))?;
            anyhow::Ok((file, name))
        };
        let requests = args.out.requests.as_deref().map(open).transpose()?;
        Ok(Files {
            requests: requests.map(|(file, name)| (BufWriter::new(file), name)),
            plot: args.out.plot.as_deref().map(open).transpose()?,
        })
    }

    fn write(&mut self, run: &Run, order: &Order) -> Result<()> {
        let Some((file, name)) = &mut self.requests else {
            return Ok(());
        };
        let mut write = || -> Result<()> {
            for record in &run.records {
                let key = order
                    .keys
                    .get(record.origin.key)
                    .map(|key| key.name.as_str());
                let line = RecordLine::of(record, key, order.traffic.load());
                writeln!(file, "{}", serde_json::to_string(&line)?)?;
            }
            Ok(file.flush()?)
        };
        write().with_context(|| format!("cannot write {name}"))
    }

    /// Draws `run`, if that was asked for and there is something to draw.
    fn draw(&mut self, run: &Run, report: &Report) -> Result<()> {
        let Some((file, name)) = &mut self.plot else {
            return Ok(());
        };
        let title = format!(
            "{} at {}: {}",
            report.target.model, report.target.url, report.load.kind
        );
        match plot(&title, run) {
            Ok(drawn) => file
                .write_all(drawn.as_bytes())
                .with_context(|| format!("cannot write {name}")),
            Err(error) => {
                eprintln!("warning: {name} stays empty: {error}");
                Ok(())
            }
        }
    }
}
