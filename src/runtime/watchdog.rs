//! The thread that watches the others: it sees a compute thread that hangs, replaces it, and tells systemd that the
//! process lives, all from the heartbeats of those who work and never from a timer of its own.

use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant};

use actix::System;

use super::device::Device;
use super::routes::Routes;
use super::systemd;

/// How many compute threads are given up in a row, without a step that ended between. What makes each of them hang
/// is then not theirs, and every one of them keeps its memory.
const IN_A_ROW: u32 = 3;

/// How often it looks, at most.
const LOOK: Duration = Duration::from_secs(1);

/// What is vitals.
#[derive(Clone)]
pub(super) struct Vitals {
    pub(super) device: Device,
    pub(super) routes: Routes,
    /// How long a step may take.
    pub(super) limit: Duration,
}

impl Vitals {
    /// The age of the heartbeat: how long the step in hand has taken, or how long an engine with work has stood still.
    pub(super) fn age(&self) -> Duration {
        let models = self.routes.all();
        let loops = models.iter().filter_map(|model| model.loop_age());
        let step = self.device.pulse().step_age();
        loops.chain(step).max().unwrap_or_default()
    }

    /// What does not move, if anything: a step that takes too long, an engine whose loop stands still, a model that
    /// could not be loaded again.
    pub(super) fn stuck(&self) -> Option<String> {
        let pulse = self.device.pulse();
        if let Some(age) = pulse.step_age().filter(|&age| age > self.limit) {
            let model = pulse.model().map(|id| id.to_string());
            let model = model.unwrap_or_default();
            return Some(format!("model {model} has computed one step for {age:?}"));
        }
        self.routes.all().iter().find_map(|model| {
            if model.failed() {
                return Some(format!("model {} could not be loaded again", model.id));
            }
            let age = model.loop_age().filter(|&age| age > self.limit)?;
            Some(format!(
                "the engine of model {} has work and has done nothing for {age:?}",
                model.id
            ))
        })
    }
}

/// Keeps the thread; it ends when this is dropped.
pub(super) struct Watchdog {
    _alive: Sender<()>,
}

impl Watchdog {
    /// Starts it. Must be called inside of an actix system.
    pub(super) fn start(vitals: Vitals) -> Self {
        let (alive, ended) = channel();
        let system = System::current();
        let run = move || {
            // A compute thread is started inside of a system.
            System::set_current(system);
            Look::new(vitals).run(&ended);
        };
        let thread = std::thread::Builder::new().name("watchdog".to_owned());
        if let Err(error) = thread.spawn(run) {
            tracing::error!(%error, "the watchdog could not be started: a step that hangs will not be ended");
        }
        Watchdog { _alive: alive }
    }
}

/// What the thread knows.
struct Look {
    vitals: Vitals,
    /// The step that hangs was told of.
    told: bool,
    given_up: u32,
    /// How often systemd is to be told, and when it was.
    systemd: Option<(Duration, Instant)>,
}

impl Look {
    fn new(vitals: Vitals) -> Self {
        Look {
            vitals,
            told: false,
            given_up: 0,
            systemd: systemd::interval().map(|every| (every, Instant::now())),
        }
    }

    fn run(mut self, ended: &Receiver<()>) {
        let mut every = LOOK.min(self.vitals.limit / 4);
        if let Some((interval, _)) = self.systemd {
            every = every.min(interval / 2);
        }
        let every = every.max(Duration::from_millis(5));
        while ended.recv_timeout(every) == Err(RecvTimeoutError::Timeout) {
            self.look();
            self.tell_systemd();
        }
    }

    fn look(&mut self) {
        let pulse = self.vitals.device.pulse();
        if pulse.steps() > 0 {
            self.given_up = 0;
        }
        let limit = self.vitals.limit;
        let Some(age) = pulse.step_age().filter(|&age| age > limit) else {
            self.told = false;
            return;
        };
        let model = pulse.model().map(|id| id.to_string());
        if !std::mem::replace(&mut self.told, true) {
            tracing::warn!(
                model,
                ?age,
                "a step takes longer than runtime.stall_timeout: it is given as long again"
            );
        }
        // A step that is only slow may still end.
        if age < limit * 2 || self.given_up > IN_A_ROW {
            return;
        }
        self.given_up += 1;
        if self.given_up > IN_A_ROW {
            tracing::error!(
                model,
                in_a_row = IN_A_ROW,
                "each compute thread hangs as the one before: none is started any more, restart the process"
            );
            return;
        }
        tracing::error!(
            model,
            ?age,
            in_a_row = self.given_up,
            "a step hangs: its requests fail, and a fresh compute thread takes over; the old one cannot be killed \
             and keeps its memory until the step ends, if ever"
        );
        self.vitals.device.abandon();
        self.told = false;
    }

    fn tell_systemd(&mut self) {
        let Some((every, last)) = &mut self.systemd else {
            return;
        };
        // It is looked at more often than that, so this is never later than the unit allows.
        if last.elapsed() * 2 >= *every && self.vitals.stuck().is_none() {
            *last = Instant::now();
            systemd::alive();
        }
    }
}
