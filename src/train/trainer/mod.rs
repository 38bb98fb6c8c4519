//! A run: data, network, optimizer, checkpoints and records, one step at a time.
//!
//! Whoever drives it decides between steps: go on, save, pause, stop. Everything that decides the next step is in a
//! checkpoint, so that a run which goes on from one takes the same steps, to the bit, as one that was never interrupted.

mod asking;
mod checks;
mod error;
mod export;
mod judging;
mod lessons;
mod needs;
mod origin;
mod rewards;
mod sampling;
mod steering;
mod supply;
mod teacher;
#[cfg(test)]
mod tests;
mod words;

pub use checks::{Looked, PromptPreview, preview, validate};
pub use error::TrainError;
pub use needs::footprint;
pub use steering::Next;

use std::path::Path;
use std::time::{Duration, Instant, SystemTime};

use crate::data::Batch;
use crate::store::Library;
use crate::train::checkpoint::{self, Best as Judged};
use crate::train::early_stop::{Best, EarlyStop, Verdict};
use crate::train::network::{Network, Pass};
use crate::train::optimizer::{Optimizer, OptimizerSpec, Rates};
use crate::train::plan::{Filled, Plan};
use crate::train::recipe::{KeepBest, Loaded, OptimKind, Paths, Recipe, Stage, Unused};
use crate::train::record::{Entry, Evaluated, EventFile, JsonLines, Metrics, Step, Throughput};
use crate::train::runs::{Keep, RunFolder, RunLock, RunState, Status};
use crate::train::scaling::Shape;
use crate::train::watchdog::Watchdog;
use origin::Origin;
use supply::Files;
use teacher::Teacher;

/// What a step led to.
#[derive(Debug)]
pub struct Outcome {
    /// The evaluation before it, of a run that began with this step; see [`Trainer::look`].
    pub before: Option<Evaluated>,
    /// The step.
    pub step: Step,
    /// Whether it has a line in the log.
    pub logged: bool,
    /// The evaluation after it.
    pub evaluated: Option<Evaluated>,
    /// Whether a checkpoint was saved after it.
    pub saved: bool,
    /// Why it was the last, if it was.
    pub end: Option<End>,
}

/// Why a run takes no more steps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// All steps are taken.
    Finished,
    /// Evaluations get no better.
    NoBetter,
}

/// What the log says of [`End::NoBetter`].
pub const NO_BETTER: &str = "evaluations get no better: early_stopping ends the run";

/// What resumes beside weights, optimizer and place in the data.
#[derive(Debug, Clone, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Judgement {
    best: Best,
    early: Option<EarlyStop>,
}

/// A run that this process is at.
pub struct Trainer {
    folder: RunFolder,
    _lock: RunLock,
    recipe: Recipe,
    plan: Plan,
    shape: Shape,
    origin: Origin,
    teacher: Teacher,
    network: Network,
    optimizer: Optimizer,
    log: JsonLines,
    events: Option<EventFile>,
    throughput: Throughput,
    watchdog: Watchdog,
    judgement: Judgement,
    state: RunState,
    tokens: u64,
    /// Whether the model was evaluated before the first step, or nobody needs to any more.
    looked: bool,
    /// The value that the last evaluation is told apart by, and after which step.
    judged: Option<(u64, f64)>,
    saved: Option<u64>,
    /// Operations a second that this machine's products reach in the type that is trained in.
    peak: f64,
}

impl Trainer {
    /// Begins a new run in a folder of its own below the library's runs. `tell` hears what is done and what was assumed.
    ///
    /// # Errors
    /// Whatever is wrong with the recipe, its data or its model; the folder stays, with the state `failed`.
    pub fn begin(
        library: &Library,
        loaded: &Loaded,
        threads: usize,
        tell: &mut dyn FnMut(&str),
    ) -> Result<Trainer, TrainError> {
        let folder = Trainer::queue(library, loaded, tell)?;
        Trainer::guarded(library, folder, threads, tell)
    }

    /// Makes the folder of a new run, queued, for [`Trainer::resume`] to begin.
    ///
    /// # Errors
    /// The folder cannot be written.
    pub fn queue(
        library: &Library,
        loaded: &Loaded,
        tell: &mut dyn FnMut(&str),
    ) -> Result<RunFolder, TrainError> {
        for Unused { key, place, reason } in &loaded.unused {
            tell(&format!("{place}: {key} has no effect here: {reason}"));
        }
        let folder = RunFolder::create(&library.home().runs(), &loaded.recipe, now())?;
        folder.write_recipe(&absolute(&loaded.recipe)?)?;
        tell(&format!("run {}: {}", folder.id(), folder.path().display()));
        Ok(folder)
    }

    /// Goes on with a run from its last checkpoint, or from its beginning if it has none.
    ///
    /// # Errors
    /// There is no such run, another process is at it, or something of it cannot be read.
    pub fn resume(
        library: &Library,
        id: &str,
        threads: usize,
        tell: &mut dyn FnMut(&str),
    ) -> Result<Trainer, TrainError> {
        let folder = RunFolder::open(&library.home().runs(), id)?;
        Trainer::guarded(library, folder, threads, tell)
    }

    fn guarded(
        library: &Library,
        folder: RunFolder,
        threads: usize,
        tell: &mut dyn FnMut(&str),
    ) -> Result<Trainer, TrainError> {
        let lock = folder.lock()?;
        let mut state = folder.state()?;
        let opened = Trainer::open(library, folder.clone(), lock, state.clone(), threads, tell);
        if let Err(error) = &opened {
            state.status = Status::Failed;
            state.reason = Some(error.to_string());
            state.updated = now();
            folder.write_state(&state)?;
        }
        opened
    }

    fn open(
        library: &Library,
        folder: RunFolder,
        lock: RunLock,
        mut state: RunState,
        threads: usize,
        tell: &mut dyn FnMut(&str),
    ) -> Result<Trainer, TrainError> {
        let recipe = folder.recipe(&[])?.recipe;
        for name in folder.checkpoints().clean()? {
            tell(&format!(
                "removed {name}, which a process that was killed left behind"
            ));
        }
        let files = Files::open(&recipe)?;
        let (origin, mut network) = Origin::open(library, &folder, &recipe, &files, threads, tell)?;
        let words = &origin.words;
        let mut teacher = Teacher::open(&recipe, &files, words, &network, folder.path(), tell)?;
        let facts = teacher.facts(&recipe, &network)?;
        let plan = Plan::of(&recipe, &facts)?;
        for Filled { key, value, why } in &plan.filled {
            tell(&format!("{key} = {value}: {why}"));
        }
        let recipe = plan.resolved(&recipe);
        folder.write_recipe(&recipe)?;
        let spec = OptimizerSpec {
            muon: recipe.optim.kind == OptimKind::Muon,
            beta1: recipe.optim.beta1 as f32,
            beta2: plan.beta2 as f32,
            eps: recipe.optim.eps as f32,
        };
        let processor = network.processor().clone();
        let mut optimizer = Optimizer::new(spec, &network.parameters(), processor)?;
        let better = teacher.better();
        let mut judgement = Judgement {
            best: Best::new(better),
            early: recipe
                .early_stopping
                .clone()
                .map(|s| EarlyStop::new(s, better)),
        };
        let mut tokens = 0;
        let (mut step, mut saved, mut place) = (0, None, None);
        if let Some(last) = folder.checkpoints().last()? {
            let kept = checkpoint::restore(&last.path, &mut network, &mut optimizer)?;
            let bad = |error: serde_json::Error| TrainError::State {
                step: last.step,
                reason: error.to_string(),
            };
            place = Some(kept.data);
            judgement = serde_json::from_value(kept.schedule).map_err(bad)?;
            (step, tokens, saved) = (kept.step, kept.tokens, Some(kept.step));
            tell(&format!(
                "going on after step {step}, from {}",
                last.path.display()
            ));
        }
        let (log, dropped) =
            JsonLines::open(&folder.log(), saved).map_err(TrainError::io(folder.log()))?;
        if dropped > 0 {
            tell(&format!(
                "{dropped} lines of the log are of steps after the checkpoint, which are taken again"
            ));
        }
        let events = match recipe.logging.tensorboard {
            false => None,
            true => {
                let created = EventFile::create(&folder.events(), seconds(), std::process::id());
                Some(created.map_err(TrainError::io(folder.events()))?)
            }
        };
        teacher.start(&recipe, &plan, place)?;
        let peak = origin::peak(&network);
        tell(&format!(
            "{} weights, {} of them trained; {} steps of {}; {:.0} G operations/s at most",
            network.elements(),
            network.trained(),
            plan.steps,
            match &recipe.rl {
                Some(rl) => format!("{} answers to each of {} prompts", rl.samples, rl.groups),
                None => format!("{} tokens", plan.step_tokens),
            },
            peak / 1e9
        ));
        state.status = Status::Running;
        state.pid = Some(std::process::id());
        (state.step, state.steps) = (step, Some(plan.steps));
        state.reason = None;
        state.updated = now();
        folder.write_state(&state)?;
        Ok(Trainer {
            watchdog: Watchdog::new(watched(&recipe)),
            throughput: Throughput::default(),
            _lock: lock,
            folder,
            recipe,
            plan,
            shape: facts.shape,
            origin,
            teacher,
            network,
            optimizer,
            log,
            events,
            judgement,
            state,
            tokens,
            looked: saved.is_some(),
            judged: None,
            saved,
            peak,
        })
    }

    /// The run's folder.
    pub fn folder(&self) -> &RunFolder {
        &self.folder
    }

    /// The recipe, with all that it left open filled in.
    pub fn recipe(&self) -> &Recipe {
        &self.recipe
    }

    /// Steps in all.
    pub fn steps(&self) -> u64 {
        self.plan.steps
    }

    /// Steps taken.
    pub fn taken(&self) -> u64 {
        self.state.step
    }

    /// Takes a step, and does what is due after it: a line in the log, an evaluation, a checkpoint.
    ///
    /// # Errors
    /// The watchdog's alarm, before the weights are kept anywhere; or a file that cannot be read or written.
    pub fn step(&mut self) -> Result<Outcome, TrainError> {
        let before = self.look()?;
        let begun = Instant::now();
        let number = self.state.step + 1;
        let factor = self.plan.schedule.factor(self.state.step);
        self.network.zero_gradients();
        let lesson = self
            .teacher
            .learn(&mut self.network, &self.plan, self.state.step)?;
        let learns = lesson.divisor > 0.0;
        let (mean, scale) = match learns {
            true => (lesson.loss / lesson.divisor, 1.0 / lesson.divisor),
            false => (0.0, 0.0),
        };
        let clip = Some(self.recipe.optim.clip).filter(|clip| *clip > 0.0);
        let clipped = self.optimizer.clip(&self.network.parameters(), scale, clip);
        self.watchdog.observe(number, mean, clipped.norm)?;
        let rates = self.plan.rates;
        let lr = rates.lr * factor;
        let rates = Rates {
            lr: lr as f32,
            matrix_lr: (rates.matrix_lr.unwrap_or(rates.lr) * factor) as f32,
            weight_decay: rates.weight_decay as f32,
            momentum: self.recipe.optim.momentum as f32,
        };
        // Without a gradient, what the optimizer remembers of earlier ones would still move the weights.
        if learns {
            self.optimizer
                .step(&mut self.network.parameters_mut(), rates, clipped.scale)?;
        }
        self.tokens += lesson.tokens;
        self.state.step = number;
        self.state.loss = Some(mean);
        let took = begun.elapsed();
        self.throughput.observe(lesson.tokens, took);
        self.state.active_s += took.as_secs_f64();
        let step = Step {
            reward: lesson.reward,
            drawn: lesson.drawn,
            ..self.told(number, mean, lr, clipped.norm)
        };
        let last = number == self.plan.steps;
        let logged = last || number == 1 || number.is_multiple_of(self.recipe.logging.every.max(1));
        if logged {
            self.write(&Entry::Step(step.clone()))?;
            if let Some(events) = &mut self.events {
                events
                    .step(&step)
                    .map_err(TrainError::io(self.folder.events()))?;
            }
            self.write_state()?;
        }
        let mut end = last.then_some(End::Finished);
        let evaluated = match self.teacher.judges()
            && (last || number.is_multiple_of(self.recipe.evaluation.every.max(1)))
        {
            false => None,
            true => {
                let (evaluated, verdict) = self.judge()?;
                if verdict == Some(Verdict::Stop) && end.is_none() {
                    end = Some(End::NoBetter);
                }
                Some(evaluated)
            }
        };
        let due = self
            .recipe
            .checkpoint
            .every
            .is_some_and(|every| number.is_multiple_of(every.max(1)));
        let best = evaluated.as_ref().is_some_and(|e| e.best)
            && self.recipe.checkpoint.keep_best != KeepBest::Off;
        let saved = due || best || end.is_some();
        if saved {
            self.save()?;
        }
        if end == Some(End::NoBetter) {
            self.note(NO_BETTER)?;
        }
        Ok(Outcome {
            before,
            step,
            logged,
            evaluated,
            saved,
            end,
        })
    }

    fn told(&self, step: u64, loss: f64, lr: f64, grad_norm: f64) -> Step {
        let pace = self.throughput.pace();
        let eta = self.throughput.eta(self.plan.steps - step);
        let flops = self
            .shape
            .flops_per_token(u64::from(self.teacher.context()));
        Step {
            step,
            time: seconds(),
            loss,
            lr,
            grad_norm,
            tokens: self.tokens,
            tokens_per_s: pace.map_or(0.0, |pace| pace.tokens_per_s),
            memory_bytes: origin::resident(),
            mfu: self.throughput.utilisation(flops, self.peak),
            eta_s: eta.map(|eta| eta.as_secs_f64()),
            epoch: Some(step as f64 / self.plan.epoch_steps.max(1) as f64),
            reward: None,
            drawn: None,
            energy_j: None,
        }
    }

    /// Saves a checkpoint of the steps taken, if there is none.
    ///
    /// # Errors
    /// The disk is full or refuses; the checkpoints before are whole.
    pub fn save(&mut self) -> Result<(), TrainError> {
        let step = self.state.step;
        if self.saved == Some(step) {
            return Ok(());
        }
        let checkpoints = self.folder.checkpoints();
        let trained = self.network.trained();
        let whole = match self.network.options().lora {
            Some(_) => trained,
            None => self.network.elements(),
        };
        // Weights, and two moments of what is trained.
        let bytes = 4 * (whole + 2 * trained) as u64 + (1 << 20);
        let pending = checkpoints.begin(step, bytes)?;
        let json = |value: Result<serde_json::Value, serde_json::Error>| {
            value.map_err(|error| TrainError::State {
                step,
                reason: error.to_string(),
            })
        };
        let state = checkpoint::RunState {
            step,
            tokens: self.tokens,
            seeds: [("recipe".to_owned(), self.recipe.seed)].into(),
            data: json(self.teacher.place())?,
            schedule: json(serde_json::to_value(&self.judgement))?,
            best: self.judged.map(|(step, value)| Judged { step, value }),
        };
        checkpoint::save(pending.path(), &self.network, &self.optimizer, &state)?;
        let metric = self
            .judged
            .filter(|(judged, _)| *judged == step)
            .map(|(_, value)| value);
        let keep = Keep {
            last: self.recipe.checkpoint.keep_last as usize,
            best: (self.recipe.checkpoint.keep_best != KeepBest::Off)
                .then(|| self.teacher.better()),
        };
        pending.commit(metric, keep)?;
        self.saved = Some(step);
        Ok(())
    }

    /// Writes down that something happened.
    ///
    /// # Errors
    /// The log cannot be written.
    pub fn note(&mut self, message: &str) -> Result<(), TrainError> {
        let (step, time) = (self.state.step, seconds());
        self.write(&Entry::Event {
            step,
            time,
            message: message.to_owned(),
        })
    }

    /// Writes the state of the run, for others to see.
    ///
    /// # Errors
    /// The disk refuses.
    pub fn mark(&mut self, status: Status, reason: Option<String>) -> Result<(), TrainError> {
        self.state.status = status;
        self.state.reason = reason;
        self.write_state()
    }

    fn write_state(&mut self) -> Result<(), TrainError> {
        self.state.updated = now();
        Ok(self.folder.write_state(&self.state)?)
    }

    /// Ends the run: the lists of losses, and the model under its name. Returns the name, once the model can be served.
    ///
    /// # Errors
    /// A file cannot be written; the checkpoints stay.
    pub fn finish(&mut self, library: &Library) -> Result<String, TrainError> {
        self.save()?;
        let name = self.install(library)?;
        let read = crate::train::record::read(&self.folder.log());
        let log = read.map_err(TrainError::io(self.folder.log()))?;
        Metrics::of(&log)
            .write(&self.folder.metrics())
            .map_err(TrainError::io(self.folder.metrics()))?;
        self.mark(Status::Finished, None)?;
        Ok(name)
    }

    /// Installs the model as it is now under its name, which is returned.
    ///
    /// # Errors
    /// A file cannot be written.
    pub fn install(&mut self, library: &Library) -> Result<String, TrainError> {
        let name = self.export(library)?;
        self.state.exported = Some(name.clone());
        Ok(name)
    }

    fn write(&mut self, entry: &Entry) -> Result<(), TrainError> {
        self.log
            .write(entry)
            .map_err(TrainError::io(self.folder.log()))
    }
}

/// A batch as the network takes it.
fn pass(batch: Batch) -> Pass {
    Pass {
        ids: batch.ids,
        positions: batch.positions.iter().map(|p| *p as usize).collect(),
        spans: batch.spans,
        objective: batch.objective,
    }
}

/// What the watchdog watches: the loss of the stage rl is of either sign and says nothing of divergence.
fn watched(recipe: &Recipe) -> crate::train::recipe::Watchdog {
    let mut watchdog = recipe.watchdog.clone();
    if recipe.stage == Stage::Rl {
        watchdog.divergence = 0.0;
    }
    watchdog
}

/// The recipe with paths that hold wherever it is read from.
fn absolute(recipe: &Recipe) -> Result<Recipe, TrainError> {
    let mut recipe = recipe.clone();
    let data = &mut recipe.data;
    let mut paths: Vec<&mut String> = match &mut data.path {
        None => Vec::new(),
        Some(Paths::One(path)) => vec![path],
        Some(Paths::Several(paths)) => paths.iter_mut().collect(),
    };
    paths.extend(data.mixture.iter_mut().map(|source| &mut source.path));
    paths.extend(&mut data.validation_path);
    paths.extend(&mut data.template);
    paths.extend(recipe.rl.as_mut().and_then(|rl| rl.path.as_mut()));
    // A name of a model is no path, unless there is a file of that name.
    let base = recipe.model.base.as_mut();
    paths.extend(base.filter(|base| Path::new(base.as_str()).exists()));
    for path in paths {
        let full = std::path::absolute(path.as_str()).map_err(TrainError::io(path.as_str()))?;
        *path = full.display().to_string();
    }
    Ok(recipe)
}

fn since_1970() -> Duration {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    now.unwrap_or_default()
}

fn seconds() -> f64 {
    since_1970().as_secs_f64()
}

fn now() -> u64 {
    since_1970().as_secs()
}
