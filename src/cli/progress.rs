//! How far a pull is: a bar on a terminal, a line a file elsewhere.

use std::io::IsTerminal;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

use crate::store::{Progress, Silent};

/// The progress of a pull on standard error.
pub(super) fn on_stderr(quiet: bool) -> Box<dyn Progress> {
    if quiet {
        Box::new(Silent)
    } else if std::io::stderr().is_terminal() {
        Box::new(Bar(ProgressBar::hidden()))
    } else {
        Box::new(Lines)
    }
}

/// A bar over `steps` of `unit`, for work that is no pull; hidden where nobody looks.
pub(super) fn counter(steps: usize, unit: &str, quiet: bool) -> ProgressBar {
    if quiet {
        return ProgressBar::hidden();
    }
    let bar = ProgressBar::new(steps as u64);
    let template = format!("{{msg}}{{pos}}/{{len}} {unit} [{{bar:30}}] {{per_sec}} {{eta}}");
    match ProgressStyle::with_template(&template) {
        Ok(style) => bar.with_style(style.progress_chars("=> ")),
        Err(_) => bar,
    }
}

struct Bar(ProgressBar);

impl Progress for Bar {
    fn start(&mut self, what: &str, total: Option<u64>) {
        let (bar, template) = match total {
            Some(total) => (
                ProgressBar::new(total),
                "{msg} [{bar:30}] {binary_bytes}/{binary_total_bytes} {binary_bytes_per_sec} {eta}",
            ),
            None => (ProgressBar::new_spinner(), "{spinner} {msg} {binary_bytes}"),
        };
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style.progress_chars("=> "));
        }
        bar.set_message(what.to_owned());
        bar.enable_steady_tick(Duration::from_millis(200));
        self.0 = bar;
    }

    fn advance(&mut self, bytes_done: u64) {
        self.0.set_position(bytes_done);
    }

    fn finish(&mut self) {
        self.0.finish();
    }
}

struct Lines;

impl Progress for Lines {
    fn start(&mut self, what: &str, total: Option<u64>) {
        match total {
            Some(total) => eprintln!("{what}: {}", super::output::size(total)),
            None => eprintln!("{what}"),
        }
    }

    fn advance(&mut self, _bytes_done: u64) {}

    fn finish(&mut self) {}
}
