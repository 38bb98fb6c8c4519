//! Samples the machine every few seconds: CPU, memory and its cgroup limit, disk, KV bytes, GPU when there is one.
//!
//! Asks the worker what it keeps, too, and logs what each engine has done since the last sample. Emits each sample to
//! the resource log and the metrics, keeps the newest for `ps`, and tells the cache when memory runs out.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use actix::{
    Actor, ActorContext, ActorFutureExt, Addr, AsyncContext, Context, Handler, Supervised,
    WrapFuture,
};
use nvml_wrapper::Nvml;
use sysinfo::{Disks, Pid, ProcessRefreshKind, ProcessesToUpdate, System};
use tokio::sync::watch;

use super::cache::{Cache, Pressure};
use super::device::Device;
use super::restart::Restart;
use super::routes::{Computed, Routes};
use super::served::ServedModel;
use super::worker::MemoryCall;
use crate::ids::ModelId;
use crate::telemetry::{GpuSample, Metrics, ResourceSample, StatsLine};

/// Memory counts as short below this share of the limit.
const SHORT: f64 = 0.05;

/// The newest sample; `None` before the first.
pub type Snapshot = Option<ResourceSample>;

/// The probes of the machine; they move to a blocking thread for each sample and back.
struct Probes {
    /// Absent where the system cannot be asked; then its figures are 0.
    system: Option<System>,
    disks: Option<Disks>,
    nvml: Option<Nvml>,
    pid: Pid,
    folder: PathBuf,
}

impl Probes {
    fn new(folder: PathBuf) -> Self {
        Probes {
            system: System::new().ok(),
            disks: Disks::new_with_refreshed_list().ok(),
            // Loaded at run time; absent on most machines, and then silent.
            nvml: Nvml::init().ok(),
            pid: Pid::from_u32(std::process::id()),
            folder,
        }
    }

    fn sample(&mut self, kv_bytes: u64) -> ResourceSample {
        let mut sample = ResourceSample {
            kv_bytes,
            disk_free: self.disk_free(),
            gpus: self.gpus(),
            ..ResourceSample::default()
        };
        let Some(system) = &mut self.system else {
            return sample;
        };
        system.refresh_memory();
        system.refresh_processes_specifics(
            ProcessesToUpdate::Some(&[self.pid]),
            true,
            ProcessRefreshKind::nothing().with_cpu().with_memory(),
        );
        sample.memory_used = system.used_memory();
        sample.memory_total = system.total_memory();
        sample.cgroup_limit = system
            .cgroup_limits()
            .map(|limits| limits.total_memory)
            .filter(|&limit| limit > 0 && limit < sample.memory_total);
        if let Some(process) = system.process(self.pid) {
            let cpus = std::thread::available_parallelism().map_or(1, usize::from);
            sample.cpu_ratio = f64::from(process.cpu_usage()) / 100.0 / cpus as f64;
            sample.process_rss = process.memory();
        }
        sample
    }

    /// Free bytes of the disk that holds the program's folder: the longest mount point that is a prefix.
    fn disk_free(&mut self) -> u64 {
        let Some(disks) = &mut self.disks else {
            return 0;
        };
        disks.refresh(false);
        disks
            .iter()
            .filter(|disk| self.folder.starts_with(disk.mount_point()))
            .max_by_key(|disk| disk.mount_point().as_os_str().len())
            .map_or(0, |disk| disk.available_space())
    }

    fn gpus(&self) -> Vec<GpuSample> {
        let Some(nvml) = &self.nvml else {
            return Vec::new();
        };
        let sample = |index: u32| {
            let device = nvml.device_by_index(index).ok()?;
            let memory = device.memory_info().ok()?;
            Some(GpuSample {
                index,
                name: device.name().unwrap_or_default(),
                busy_ratio: device
                    .utilization_rates()
                    .map_or(0.0, |rates| f64::from(rates.gpu) / 100.0),
                memory_used: memory.used,
                memory_total: memory.total,
            })
        };
        (0..nvml.device_count().unwrap_or(0))
            .filter_map(sample)
            .collect()
    }
}

/// See the module.
pub(super) struct Monitor {
    interval: Duration,
    probes: Option<Probes>,
    /// A sample is being taken: on a slow machine the next tick is skipped.
    sampling: bool,
    /// The worker was asked what it keeps and has not said: it may be at a long step.
    asking: bool,
    folder: PathBuf,
    log_samples: bool,
    routes: Routes,
    cache: Addr<Cache>,
    worker: Device,
    metrics: Metrics,
    newest: watch::Sender<Snapshot>,
    kv_total: u64,
    /// What engines had computed when they were last told of, and when that was.
    told: HashMap<ModelId, Computed>,
    told_at: Instant,
}

/// What the monitor is given.
pub(super) struct Watched {
    pub(super) interval: Duration,
    /// A folder on the disk to watch.
    pub(super) folder: PathBuf,
    /// Whether samples go to the resource log.
    pub(super) log_samples: bool,
    pub(super) routes: Routes,
    pub(super) cache: Addr<Cache>,
    pub(super) worker: Device,
    pub(super) metrics: Metrics,
    pub(super) newest: watch::Sender<Snapshot>,
    pub(super) kv_total: u64,
}

impl Monitor {
    pub(super) fn new(watched: Watched) -> Self {
        Monitor {
            interval: watched.interval,
            probes: None,
            sampling: false,
            asking: false,
            folder: watched.folder,
            log_samples: watched.log_samples,
            routes: watched.routes,
            cache: watched.cache,
            worker: watched.worker,
            metrics: watched.metrics,
            newest: watched.newest,
            kv_total: watched.kv_total,
            told: HashMap::new(),
            told_at: Instant::now(),
        }
    }

    /// Takes a sample on a blocking thread, unless one is being taken.
    fn sample(&mut self, ctx: &mut Context<Self>) {
        let models = self.routes.all();
        let kv_bytes: usize = models.iter().map(|model| model.kv_bytes()).sum();
        self.tell(&models, kv_bytes as u64);
        self.ask_memory(ctx);
        if std::mem::replace(&mut self.sampling, true) {
            return;
        }
        let (folder, probes) = (self.folder.clone(), self.probes.take());
        let task = tokio::task::spawn_blocking(move || {
            let mut probes = probes.unwrap_or_else(|| Probes::new(folder));
            let sample = probes.sample(kv_bytes as u64);
            (probes, sample)
        });
        ctx.spawn(task.into_actor(self).map(|outcome, monitor, _| {
            if let Ok((probes, sample)) = outcome {
                monitor.probes = Some(probes);
                monitor.take(sample);
            }
            monitor.sampling = false;
        }));
    }

    /// Logs what each engine did since the last time, if anything.
    fn tell(&mut self, models: &[Arc<ServedModel>], kv_bytes: u64) {
        let now = Instant::now();
        let seconds = now.duration_since(self.told_at).as_secs_f64().max(1e-3);
        self.told_at = now;
        let mut told = HashMap::new();
        for model in models {
            let tokens = model.tokens();
            let before = self.told.get(&model.id).copied().unwrap_or_default();
            // A model that was loaded anew counts from nothing.
            let since = |now: u64, then: u64| now.checked_sub(then).unwrap_or(now) as f64;
            let read = since(tokens.read, before.read);
            let line = StatsLine {
                model: model.id.to_string(),
                running: model.running(),
                waiting: model.waiting(),
                prompt_rate: read / seconds,
                generation_rate: since(tokens.generated, before.generated) / seconds,
                kv_bytes,
                kv_ratio: kv_bytes as f64 / self.kv_total.max(1) as f64,
                prefix_hit_ratio: (read > 0.0).then(|| since(tokens.cached, before.cached) / read),
            };
            if line.active() {
                line.emit();
            }
            told.insert(model.id.clone(), tokens);
        }
        self.told = told;
    }

    /// Counts what is kept, by open sequences and beyond them.
    fn ask_memory(&mut self, ctx: &mut Context<Self>) {
        if std::mem::replace(&mut self.asking, true) {
            return;
        }
        let asked = self.worker.send(MemoryCall).into_actor(self);
        ctx.spawn(asked.map(|outcome, monitor, _| {
            if let Ok(Ok(memory)) = outcome {
                let prefix = (memory.prefix_bytes as u64, memory.prefix_blocks as u64);
                let parked = memory.parked_bytes as u64;
                let spilled = memory.spilled_session_bytes as u64;
                monitor.metrics.set_kept(prefix, parked, spilled);
                let (open, bytes) = (memory.open_sequences as u64, memory.open_bytes as u64);
                monitor.metrics.set_open(open, bytes);
            }
            monitor.asking = false;
        }));
    }

    fn take(&mut self, sample: ResourceSample) {
        if self.log_samples {
            sample.emit();
        }
        self.metrics.sample(&sample);
        let limit = sample.memory_limit().max(1);
        if (sample.memory_available() as f64) < SHORT * limit as f64 {
            let available = sample.memory_available();
            tracing::warn!(
                available,
                limit,
                "memory is short: unused kv cache is taken back"
            );
            self.cache.do_send(Pressure);
        }
        self.newest.send_replace(Some(sample));
    }
}

impl Actor for Monitor {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        self.sample(ctx);
        ctx.run_interval(self.interval, |monitor, ctx| monitor.sample(ctx));
    }
}

impl Supervised for Monitor {
    fn restarting(&mut self, _: &mut Self::Context) {
        tracing::warn!("the monitor was stopped and starts again");
        self.probes = None;
        self.sampling = false;
        self.asking = false;
    }
}

impl Handler<Restart> for Monitor {
    type Result = ();

    fn handle(&mut self, _: Restart, ctx: &mut Self::Context) {
        ctx.stop();
    }
}
