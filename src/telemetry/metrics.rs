//! Counters, gauges and histograms, read as Prometheus text (<https://prometheus.io/docs/instrumenting/exposition_formats/>).
//!
//! Labels have few values, all of this program's choosing: a route's pattern, a status, a reason, the name of an
//! installed model. Nothing that a client makes up becomes one.

mod labels;
mod maker;
mod record;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use prometheus::{
    Gauge, GaugeVec, Histogram, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec,
    Registry,
};

pub use labels::{Lost, Place, Stage, StepCount};
use maker::Maker;
pub use record::InFlight;

/// The content type of [`Metrics::encode`].
pub const CONTENT_TYPE: &str = prometheus::TEXT_FORMAT;

/// Upper bounds in seconds for what a request waits for as a whole.
const LONG: [f64; 14] = [
    0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0,
];
/// Upper bounds in seconds for the time between two tokens.
const SHORT: [f64; 12] = [
    0.001, 0.0025, 0.005, 0.01, 0.02, 0.03, 0.05, 0.075, 0.1, 0.25, 0.5, 1.0,
];
/// Upper bounds in seconds for one step.
const STEP: [f64; 14] = [
    0.001, 0.0025, 0.005, 0.01, 0.02, 0.03, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0, 60.0,
];
/// Upper bounds for the sequences of one step.
const ROWS: [f64; 9] = [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0];
/// Upper bounds for the tokens of one step.
const TOKENS: [f64; 11] = [
    1.0, 4.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0, 1024.0, 2048.0, 4096.0,
];

/// All that the process counts. Clones share their values.
#[derive(Debug, Clone)]
pub struct Metrics(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    registry: Registry,
    requests: IntCounterVec,
    in_flight: IntGauge,
    queue_depth: IntGauge,
    running: IntGauge,
    queue_wait: Histogram,
    rejected: IntCounterVec,
    cancelled: IntCounterVec,
    prefill: Histogram,
    first_token: Histogram,
    inter_token: HistogramVec,
    step_seconds: HistogramVec,
    step_rows: Histogram,
    step_tokens: Histogram,
    preemptions: IntCounter,
    duration: Histogram,
    prompt_tokens: IntCounter,
    cached_tokens: IntCounter,
    generated_tokens: IntCounter,
    drafted_tokens: IntCounter,
    accepted_tokens: IntCounter,
    kv_bytes: IntGauge,
    kv_capacity: IntGauge,
    kv_evicted: IntCounter,
    prefix_bytes: IntGauge,
    prefix_blocks: IntGauge,
    parked_bytes: IntGauge,
    parked_disk_bytes: IntGauge,
    loads: IntCounterVec,
    load_seconds: Histogram,
    unloads: IntCounterVec,
    sleeps: IntCounterVec,
    wakes: IntCounterVec,
    resident: IntGaugeVec,
    replicas: IntGaugeVec,
    routed: IntCounterVec,
    remotes: GaugeVec,
    open_sequences: IntGauge,
    open_bytes: IntGauge,
    prefix_missed: IntCounterVec,
    restarts: IntCounterVec,
    heartbeat: Gauge,
    process_memory: IntGauge,
    process_cpu: Gauge,
    memory_limit: IntGauge,
    memory_available: IntGauge,
    disk_free: IntGauge,
    gpu_memory: IntGaugeVec,
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

impl Metrics {
    /// A registry of its own, with every count at 0.
    pub fn new() -> Self {
        let new = Maker(Registry::new());
        let build = new.gauges(
            "build_info",
            "1, with the version of the program as a label",
            &["version"],
        );
        build
            .with_label_values(&[env!("CARGO_PKG_VERSION")])
            .set(1.0);
        let inner = Inner {
            requests: new.counters("requests_total", "Requests answered", &["route", "status"]),
            in_flight: new.whole("requests_in_flight", "Requests being answered"),
            queue_depth: new.whole("queue_depth", "Requests waiting for their first step"),
            running: new.whole("requests_running", "Requests in the batch of an engine"),
            queue_wait: new.histogram(
                "queue_wait_seconds",
                "Time between arrival and first step",
                &LONG,
            ),
            rejected: new.counters(
                "rejected_total",
                "Requests refused before they ran",
                &["reason"],
            ),
            cancelled: new.counters(
                "cancelled_total",
                "Requests that their client left or took back",
                &["stage"],
            ),
            prefill: new.histogram(
                "prefill_seconds",
                "Time between first step and first token",
                &LONG,
            ),
            first_token: new.histogram(
                "time_to_first_token_seconds",
                "Time between arrival and first token",
                &LONG,
            ),
            inter_token: new.histograms(
                "inter_token_latency_seconds",
                "Time between two tokens, by whether the sequence was preempted between them",
                "preempted",
                &SHORT,
            ),
            step_seconds: new.histograms(
                "step_seconds",
                "Time of one step of a model, by whether it read prompts, generated, or both",
                "phase",
                &STEP,
            ),
            step_rows: new.histogram("step_rows", "Sequences of one step", &ROWS),
            step_tokens: new.histogram("step_tokens", "Tokens of one step", &TOKENS),
            preemptions: new.counter(
                "preemptions_total",
                "Sequences that made room for others and went on later",
            ),
            duration: new.histogram(
                "request_duration_seconds",
                "Time between arrival and end",
                &LONG,
            ),
            prompt_tokens: new.counter("prompt_tokens_total", "Tokens of prompts"),
            cached_tokens: new.counter(
                "cached_prompt_tokens_total",
                "Tokens of prompts found in the KV cache",
            ),
            generated_tokens: new.counter("generated_tokens_total", "Tokens of answers"),
            drafted_tokens: new.counter(
                "drafted_tokens_total",
                "Guesses of the next tokens that a model checked",
            ),
            accepted_tokens: new.counter(
                "accepted_drafted_tokens_total",
                "Guesses of the next tokens that were right",
            ),
            kv_bytes: new.whole("kv_cache_bytes", "Memory of keys and values in use"),
            kv_capacity: new.whole("kv_capacity_bytes", "Memory that keys and values may take"),
            kv_evicted: new.counter(
                "kv_evicted_tokens_total",
                "Tokens evicted, summed over layers and KV heads",
            ),
            prefix_bytes: new.whole(
                "prefix_cache_bytes",
                "Memory of prompt prefixes that later prompts may share",
            ),
            prefix_blocks: new.whole("prefix_cache_blocks", "Blocks that these prefixes are in"),
            parked_bytes: new.whole(
                "session_parked_bytes",
                "Memory of sessions between their turns",
            ),
            parked_disk_bytes: new.whole(
                "session_spilled_bytes",
                "Bytes on disk of sessions between their turns",
            ),
            loads: new.counters("model_loads_total", "Models loaded", &["result"]),
            load_seconds: new.histogram("model_load_seconds", "Time to load a model", &LONG),
            unloads: new.counters(
                "model_unloads_total",
                "Models unloaded: idle, asked (by a person) or memory (for another model)",
                &["reason"],
            ),
            sleeps: new.counters(
                "model_sleeps_total",
                "Models put to sleep: idle, asked or memory",
                &["reason"],
            ),
            wakes: new.counters("model_wakes_total", "Models woken", &["result"]),
            routed: new.counters(
                "routed_requests_total",
                "Requests sent to a replica, by the policy that chose it and where it is",
                &["policy", "place"],
            ),
            remotes: new.gauges(
                "remote_replica_up",
                "Whether a replica in another process answers",
                &["model", "url"],
            ),
            replicas: new.whole_by(
                "model_replicas",
                "Engines of a loaded model in this process",
                "model",
            ),
            resident: new.whole_by(
                "model_resident_bytes",
                "Memory of a loaded model's weights",
                "model",
            ),
            open_sequences: new.whole(
                "open_sequences",
                "Sequences whose cache the compute threads hold",
            ),
            open_bytes: new.whole("open_sequence_bytes", "Memory of these caches"),
            prefix_missed: new.counters(
                "prefix_missed_total",
                "Prompts of which the prefix cache did not hold all that it could",
                &["reason"],
            ),
            restarts: new.counters(
                "worker_restarts_total",
                "Compute workers started again after a failure",
                &["reason"],
            ),
            heartbeat: new.gauge(
                "engine_heartbeat_age_seconds",
                "How long the step in hand has taken, or an engine with work has stood still, whichever is more; 0 when idle",
            ),
            process_memory: new.whole("process_resident_memory_bytes", "Memory of the process"),
            process_cpu: new.gauge(
                "process_cpu_ratio",
                "Share of its CPUs that the process keeps busy",
            ),
            memory_limit: new.whole("memory_limit_bytes", "Memory of the cgroup or the machine"),
            memory_available: new.whole("memory_available_bytes", "Memory left below the limit"),
            disk_free: new.whole("disk_free_bytes", "Free space of the home folder's disk"),
            gpu_memory: new.whole_by("gpu_memory_used_bytes", "Memory of a GPU in use", "gpu"),
            registry: new.0,
        };
        Metrics(Arc::new(inner))
    }
}
