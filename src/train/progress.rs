//! How far a run is, on a terminal: a bar with rate and time left, or a line each logged step elsewhere.

use std::io::IsTerminal;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

use super::record::{Evaluated, Step};

/// Shows a run on standard error.
#[derive(Debug)]
pub struct Progress {
    steps: u64,
    shown: Shown,
}

#[derive(Debug)]
enum Shown {
    Not,
    Bar(ProgressBar),
    Lines,
}

impl Progress {
    /// Shows a run of `steps` steps that begins after `done` of them; nothing unless `wanted`.
    pub fn start(steps: u64, done: u64, wanted: bool) -> Progress {
        let shown = match (wanted, std::io::stderr().is_terminal()) {
            (false, _) => Shown::Not,
            (true, false) => Shown::Lines,
            (true, true) => {
                let bar = ProgressBar::new(steps).with_position(done);
                let style = ProgressStyle::with_template("{pos}/{len} [{bar:30}] {msg}");
                Shown::Bar(match style {
                    Ok(style) => bar.with_style(style.progress_chars("=> ")),
                    Err(_) => bar,
                })
            }
        };
        Progress { steps, shown }
    }

    /// A step was taken; `logged` when it has a line in the log.
    pub fn step(&self, step: &Step, logged: bool) {
        match &self.shown {
            Shown::Bar(bar) => {
                bar.set_position(step.step);
                bar.set_message(told(step));
            }
            Shown::Lines if logged => {
                eprintln!("step {}/{}: {}", step.step, self.steps, told(step))
            }
            Shown::Lines | Shown::Not => {}
        }
    }

    /// An evaluation was made.
    pub fn evaluation(&self, evaluated: &Evaluated) {
        self.tell(&format!(
            "step {}: {}",
            evaluated.step,
            evaluation(evaluated)
        ));
    }

    /// Something happened: shown above the bar.
    pub fn tell(&self, message: &str) {
        match &self.shown {
            Shown::Bar(bar) => bar.println(message),
            Shown::Lines => eprintln!("{message}"),
            Shown::Not => {}
        }
    }

    /// The run ended.
    pub fn finish(&self) {
        if let Shown::Bar(bar) = &self.shown {
            bar.abandon();
        }
    }
}

/// A step in a line.
pub fn told(step: &Step) -> String {
    let mut line = format!(
        "loss {:.4}, lr {:.2e}, {:.0} tok/s",
        step.loss, step.lr, step.tokens_per_s
    );
    if let Some(reward) = step.reward {
        line += &format!(", reward {reward:.3}");
    }
    if let Some(drawn) = step.drawn.filter(|drawn| drawn.skipped > 0) {
        line += &format!(
            ", {} of {} prompts rewarded alike",
            drawn.skipped, drawn.groups
        );
    }
    if let Some(left) = step
        .eta_s
        .and_then(|left| Duration::try_from_secs_f64(left.round()).ok())
    {
        line += &format!(", {} left", humantime::format_duration(left));
    }
    line
}

/// An evaluation in a line.
pub fn evaluation(evaluated: &Evaluated) -> String {
    let named = [
        ("loss", evaluated.loss),
        ("bits per byte", evaluated.bits_per_byte),
        ("reward", evaluated.reward),
        ("right", evaluated.right),
    ];
    let named = named
        .into_iter()
        .filter_map(|(name, value)| Some(format!("{name} {:.4}", value?)));
    let tasks = evaluated
        .tasks
        .iter()
        .map(|(name, score)| format!("{name} {score:.3}"));
    let best = evaluated.best.then(|| "the best so far".to_owned());
    format!(
        "evaluation: {}",
        named
            .chain(tasks)
            .chain(best)
            .collect::<Vec<_>>()
            .join(", ")
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::train::record::Drawn;

    #[test]
    fn lines_tell_rate_and_time_left() {
        let step = Step {
            loss: 2.34567,
            lr: 3e-4,
            tokens_per_s: 1234.5,
            eta_s: Some(61.2),
            reward: Some(0.5),
            drawn: Some(Drawn {
                groups: 8,
                skipped: 3,
                ..Drawn::default()
            }),
            ..Step::default()
        };
        assert_eq!(
            told(&step),
            "loss 2.3457, lr 3.00e-4, 1234 tok/s, reward 0.500, 3 of 8 prompts rewarded alike, 1m 1s left"
        );
        let evaluated = Evaluated {
            loss: Some(1.5),
            bits_per_byte: Some(2.0),
            best: true,
            tasks: [("copying".to_owned(), 0.5)].into(),
            ..Evaluated::default()
        };
        assert_eq!(
            evaluation(&evaluated),
            "evaluation: loss 1.5000, bits per byte 2.0000, copying 0.500, the best so far"
        );
        for wanted in [false, true] {
            let progress = Progress::start(10, 0, wanted);
            progress.step(&step, true);
            progress.evaluation(&evaluated);
            progress.finish();
        }
    }
}
