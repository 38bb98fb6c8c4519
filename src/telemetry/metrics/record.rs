//! What happens, as it is counted.

use std::time::Duration;

use prometheus::{IntGauge, TextEncoder};

use super::{Lost, Metrics, Place, Stage, StepCount};
use crate::telemetry::ResourceSample;

impl Metrics {
    /// Counts a request as being answered until the guard is dropped.
    pub fn request_started(&self) -> InFlight {
        self.0.in_flight.inc();
        InFlight(self.0.in_flight.clone())
    }

    /// How many requests are being answered.
    pub fn in_flight(&self) -> i64 {
        self.0.in_flight.get()
    }

    /// A request got its answer. `route` is the route's pattern, never the path that a client sent.
    pub fn request_finished(&self, route: &'static str, status: u16, took: Duration) {
        self.0
            .requests
            .with_label_values(&[route, status.to_string().as_str()])
            .inc();
        self.0.duration.observe(took.as_secs_f64());
    }

    /// How many requests wait for their first step.
    pub fn set_queue_depth(&self, requests: usize) {
        self.0.queue_depth.set(signed(requests as u64));
    }

    /// How many requests are in a batch.
    pub fn set_running(&self, requests: usize) {
        self.0.running.set(signed(requests as u64));
    }

    /// Sequences that the compute threads hold caches of, and the bytes of these.
    pub fn set_open(&self, sequences: u64, bytes: u64) {
        self.0.open_sequences.set(signed(sequences));
        self.0.open_bytes.set(signed(bytes));
    }

    /// A request left the queue for its first step.
    pub fn queue_wait(&self, waited: Duration) {
        self.0.queue_wait.observe(waited.as_secs_f64());
    }

    /// A request was refused before it ran, e.g. for `busy`, `unauthorized`, `invalid`.
    pub fn rejected(&self, reason: &'static str) {
        self.0.rejected.with_label_values(&[reason]).inc();
    }

    /// A client left or took its request back.
    pub fn cancelled(&self, at: Stage) {
        self.0.cancelled.with_label_values(&[at.name()]).inc();
    }

    /// The first token of an answer, since the request's arrival.
    pub fn first_token(&self, took: Duration) {
        self.0.first_token.observe(took.as_secs_f64());
    }

    /// A further token of an answer, since the token before, and whether the sequence made room for others between.
    pub fn next_token(&self, took: Duration, preempted: bool) {
        let label = if preempted { "yes" } else { "no" };
        self.0
            .inter_token
            .with_label_values(&[label])
            .observe(took.as_secs_f64());
    }

    /// A prompt was read, since its first step.
    pub fn prefill(&self, took: Duration) {
        self.0.prefill.observe(took.as_secs_f64());
    }

    /// A step of a model came to its end.
    pub fn step(&self, step: StepCount, took: Duration) {
        self.0
            .step_seconds
            .with_label_values(&[step.phase()])
            .observe(took.as_secs_f64());
        self.0.step_rows.observe(step.rows() as f64);
        self.0.step_tokens.observe(step.tokens() as f64);
    }

    /// A sequence made room for others.
    pub fn preempted(&self) {
        self.0.preemptions.inc();
    }

    /// The prefix cache did not hold all that it could have of a prompt, e.g. for `diverged`, `evicted`.
    pub fn prefix_missed(&self, reason: &'static str) {
        self.0.prefix_missed.with_label_values(&[reason]).inc();
    }

    /// Prompt tokens were taken in; `cached` of these `tokens` were found in the KV cache.
    pub fn prompt(&self, tokens: usize, cached: usize) {
        self.0.prompt_tokens.inc_by(tokens as u64);
        self.0.cached_tokens.inc_by(cached as u64);
    }

    /// Tokens were generated.
    pub fn generated(&self, tokens: usize) {
        self.0.generated_tokens.inc_by(tokens as u64);
    }

    /// Guesses of next tokens were checked, and of them some were right.
    pub fn guessed(&self, checked: usize, right: usize) {
        self.0.drafted_tokens.inc_by(checked as u64);
        self.0.accepted_tokens.inc_by(right as u64);
    }

    /// Bytes of keys and values in use, and how many there may be.
    pub fn set_kv(&self, bytes: u64, capacity: u64) {
        self.0.kv_bytes.set(signed(bytes));
        self.0.kv_capacity.set(signed(capacity));
    }

    /// Tokens were evicted, summed over layers and KV heads.
    pub fn kv_evicted(&self, tokens: u64) {
        self.0.kv_evicted.inc_by(tokens);
    }

    /// What is kept beyond running sequences: bytes and blocks of shared prefixes, bytes of parked sessions in memory
    /// and on disk.
    pub fn set_kept(&self, (prefix_bytes, prefix_blocks): (u64, u64), parked: u64, spilled: u64) {
        self.0.prefix_bytes.set(signed(prefix_bytes));
        self.0.prefix_blocks.set(signed(prefix_blocks));
        self.0.parked_bytes.set(signed(parked));
        self.0.parked_disk_bytes.set(signed(spilled));
    }

    /// A load of a model ended.
    pub fn model_load(&self, succeeded: bool, took: Duration) {
        let result = if succeeded { "ok" } else { "failed" };
        self.0.loads.with_label_values(&[result]).inc();
        self.0.load_seconds.observe(took.as_secs_f64());
    }

    /// A model serves with this many engines, and its weights take this much memory. `model` must be the name of an
    /// installed model.
    pub fn set_model(&self, model: &str, bytes: u64, replicas: usize) {
        let (resident, engines) = (&self.0.resident, &self.0.replicas);
        resident.with_label_values(&[model]).set(signed(bytes));
        engines
            .with_label_values(&[model])
            .set(signed(replicas as u64));
    }

    /// A model was unloaded, for `idle`, `asked` or `memory`: its series end.
    pub fn model_unloaded(&self, model: &str, reason: &'static str) {
        self.0.unloads.with_label_values(&[reason]).inc();
        // An error says that the series was not there, which is what is wanted.
        let _ = self.0.resident.remove_label_values(&[model]);
        let _ = self.0.replicas.remove_label_values(&[model]);
    }

    /// A model was put to sleep, for `idle`, `asked` or `memory`: its engines stay, without weights.
    pub fn model_slept(&self, model: &str, reason: &'static str) {
        self.0.sleeps.with_label_values(&[reason]).inc();
        self.0.resident.with_label_values(&[model]).set(0);
    }

    /// A model that slept was woken, or could not be.
    pub fn model_woken(&self, succeeded: bool, took: Duration) {
        let result = if succeeded { "ok" } else { "failed" };
        self.0.wakes.with_label_values(&[result]).inc();
        self.0.load_seconds.observe(took.as_secs_f64());
    }

    /// Whether a replica in another process, at an address of the settings, answers.
    pub fn set_remote(&self, model: &str, url: &str, up: bool) {
        let gauge = self.0.remotes.with_label_values(&[model, url]);
        gauge.set(if up { 1.0 } else { 0.0 });
    }

    /// A policy chose a replica for a request.
    pub fn routed(&self, policy: &'static str, place: Place) {
        let routed = &self.0.routed;
        routed.with_label_values(&[policy, place.name()]).inc();
    }

    /// A compute worker was started again after a failure.
    pub fn worker_restarted(&self, why: Lost) {
        self.0.restarts.with_label_values(&[why.name()]).inc();
    }

    /// How long the step in hand has taken, or an engine with work has stood still, whichever is more.
    pub fn set_heartbeat_age(&self, age: Duration) {
        self.0.heartbeat.set(age.as_secs_f64());
    }

    /// Takes over a sample of the process and its machine. Its `kv_bytes` are left to [`Self::set_kv`].
    pub fn sample(&self, sample: &ResourceSample) {
        self.0.process_memory.set(signed(sample.process_rss));
        self.0.process_cpu.set(sample.cpu_ratio);
        self.0.memory_limit.set(signed(sample.memory_limit()));
        self.0
            .memory_available
            .set(signed(sample.memory_available()));
        self.0.disk_free.set(signed(sample.disk_free));
        for gpu in &sample.gpus {
            let gauge = self
                .0
                .gpu_memory
                .with_label_values(&[gpu.index.to_string().as_str()]);
            gauge.set(signed(gpu.memory_used));
        }
    }

    /// All values as Prometheus text, version 0.0.4; its content type is [`crate::telemetry::CONTENT_TYPE`].
    pub fn encode(&self) -> String {
        let mut text = String::new();
        if let Err(error) = TextEncoder::new().encode_utf8(&self.0.registry.gather(), &mut text) {
            tracing::error!(target: "llamahome::telemetry", %error, "metrics could not be written");
        }
        text
    }
}

/// Counts one request as being answered until it is dropped.
#[derive(Debug)]
#[must_use = "the request counts as finished once this is dropped"]
pub struct InFlight(IntGauge);

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.dec();
    }
}

fn signed(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}
