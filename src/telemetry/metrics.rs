//! Counters, gauges and histograms, read as Prometheus text (<https://prometheus.io/docs/instrumenting/exposition_formats/>).

use std::sync::Arc;
use std::time::Duration;

use prometheus::core::Collector;
use prometheus::{
    Gauge, GaugeVec, Histogram, HistogramOpts, IntCounter, IntCounterVec, IntGauge, IntGaugeVec,
    Opts, Registry, TextEncoder,
};

use super::ResourceSample;

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

/// All that the process counts. Clones share their values.
#[derive(Debug, Clone)]
pub struct Metrics(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    registry: Registry,
    requests: IntCounterVec,
    in_flight: IntGauge,
    queue_depth: IntGauge,
    queue_wait: Histogram,
    rejected: IntCounterVec,
    cancelled: IntCounter,
    first_token: Histogram,
    inter_token: Histogram,
    duration: Histogram,
    prompt_tokens: IntCounter,
    cached_tokens: IntCounter,
    generated_tokens: IntCounter,
    kv_bytes: IntGauge,
    kv_capacity: IntGauge,
    kv_evicted: IntCounter,
    prefix_bytes: IntGauge,
    prefix_blocks: IntGauge,
    parked_bytes: IntGauge,
    parked_disk_bytes: IntGauge,
    loads: IntCounterVec,
    load_seconds: Histogram,
    resident: IntGaugeVec,
    restarts: IntCounter,
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
            cancelled: new.counter(
                "cancelled_total",
                "Requests that their client left or took back",
            ),
            first_token: new.histogram(
                "time_to_first_token_seconds",
                "Time between arrival and first token",
                &LONG,
            ),
            inter_token: new.histogram(
                "inter_token_latency_seconds",
                "Time between two tokens",
                &SHORT,
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
            resident: new.whole_by(
                "model_resident_bytes",
                "Memory of a loaded model's weights",
                "model",
            ),
            restarts: new.counter(
                "worker_restarts_total",
                "Compute workers started again after a failure",
            ),
            heartbeat: new.gauge(
                "engine_heartbeat_age_seconds",
                "Time since the slowest engine's last step or idle tick",
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

    /// Counts a request as being answered until the guard is dropped.
    pub fn request_started(&self) -> InFlight {
        self.0.in_flight.inc();
        InFlight(self.0.in_flight.clone())
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

    /// A request left the queue for its first step.
    pub fn queue_wait(&self, waited: Duration) {
        self.0.queue_wait.observe(waited.as_secs_f64());
    }

    /// A request was refused before it ran, e.g. for `busy`, `unauthorized`, `invalid`.
    pub fn rejected(&self, reason: &'static str) {
        self.0.rejected.with_label_values(&[reason]).inc();
    }

    /// A client left or took its request back.
    pub fn cancelled(&self) {
        self.0.cancelled.inc();
    }

    /// The first token of an answer, since the request's arrival.
    pub fn first_token(&self, took: Duration) {
        self.0.first_token.observe(took.as_secs_f64());
    }

    /// A further token of an answer, since the token before.
    pub fn next_token(&self, took: Duration) {
        self.0.inter_token.observe(took.as_secs_f64());
    }

    /// A prompt was taken in; `cached` of its `tokens` were found in the KV cache.
    pub fn prompt(&self, tokens: usize, cached: usize) {
        self.0.prompt_tokens.inc_by(tokens as u64);
        self.0.cached_tokens.inc_by(cached as u64);
    }

    /// Tokens were generated.
    pub fn generated(&self, tokens: usize) {
        self.0.generated_tokens.inc_by(tokens as u64);
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

    /// A model's weights take this much memory. `model` must be the name of an installed model.
    pub fn set_model_resident(&self, model: &str, bytes: u64) {
        self.0
            .resident
            .with_label_values(&[model])
            .set(signed(bytes));
    }

    /// A model was unloaded: its series ends.
    pub fn model_unloaded(&self, model: &str) {
        // An error says that the series was not there, which is what is wanted.
        let _ = self.0.resident.remove_label_values(&[model]);
    }

    /// A compute worker was started again after a failure.
    pub fn worker_restarted(&self) {
        self.0.restarts.inc();
    }

    /// How long ago the slowest engine last did a step or an idle tick.
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

    /// All values as Prometheus text, version 0.0.4; its content type is [`CONTENT_TYPE`].
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

/// Makes and registers metrics. Names are constants of this file, so a bad one fails the first test that is run.
struct Maker(Registry);

impl Maker {
    fn register<M: Collector + Clone + 'static>(&self, made: prometheus::Result<M>) -> M {
        #[allow(clippy::expect_used, reason = "names are constants of this file")]
        let metric = made.expect("metric names and labels are valid");
        #[allow(clippy::expect_used, reason = "names are constants of this file")]
        self.0
            .register(Box::new(metric.clone()))
            .expect("metric names are different");
        metric
    }

    fn counter(&self, name: &str, help: &str) -> IntCounter {
        self.register(IntCounter::with_opts(options(name, help)))
    }

    fn counters(&self, name: &str, help: &str, labels: &[&str]) -> IntCounterVec {
        self.register(IntCounterVec::new(options(name, help), labels))
    }

    fn gauge(&self, name: &str, help: &str) -> Gauge {
        self.register(Gauge::with_opts(options(name, help)))
    }

    fn gauges(&self, name: &str, help: &str, labels: &[&str]) -> GaugeVec {
        self.register(GaugeVec::new(options(name, help), labels))
    }

    fn whole(&self, name: &str, help: &str) -> IntGauge {
        self.register(IntGauge::with_opts(options(name, help)))
    }

    fn whole_by(&self, name: &str, help: &str, label: &str) -> IntGaugeVec {
        self.register(IntGaugeVec::new(options(name, help), &[label]))
    }

    fn histogram(&self, name: &str, help: &str, bounds: &[f64]) -> Histogram {
        let options = HistogramOpts::from(options(name, help)).buckets(bounds.to_vec());
        self.register(Histogram::with_opts(options))
    }
}

fn options(name: &str, help: &str) -> Opts {
    Opts::new(name, help).namespace("llamahome")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::GpuSample;

    #[test]
    fn every_method_shows_in_the_text() {
        let metrics = Metrics::new();
        let second = Duration::from_secs(1);
        let in_flight = metrics.request_started();
        metrics.request_finished("/v1/models", 200, second);
        metrics.set_queue_depth(2);
        metrics.queue_wait(second);
        metrics.rejected("busy");
        metrics.cancelled();
        metrics.first_token(second);
        metrics.next_token(second);
        metrics.prompt(7, 3);
        metrics.generated(5);
        metrics.set_kv(10, 20);
        metrics.kv_evicted(4);
        metrics.set_kept((11, 12), 13, 14);
        metrics.model_load(false, second);
        metrics.set_model_resident("a\"b", 30);
        metrics.worker_restarted();
        metrics.set_heartbeat_age(second / 2);
        let gpu = GpuSample {
            index: 1,
            memory_used: 70,
            ..GpuSample::default()
        };
        metrics.sample(&ResourceSample {
            cpu_ratio: 0.25,
            memory_used: 40,
            memory_total: 100,
            cgroup_limit: None,
            process_rss: 50,
            disk_free: 60,
            kv_bytes: 10,
            gpus: vec![gpu],
        });
        let text = metrics.clone().encode();
        for line in [
            "# TYPE llamahome_requests_total counter",
            "llamahome_requests_total{route=\"/v1/models\",status=\"200\"} 1",
            "llamahome_requests_in_flight 1",
            "llamahome_queue_depth 2",
            "llamahome_queue_wait_seconds_count 1",
            "llamahome_rejected_total{reason=\"busy\"} 1",
            "llamahome_cancelled_total 1",
            "llamahome_time_to_first_token_seconds_bucket{le=\"1\"} 1",
            "llamahome_inter_token_latency_seconds_sum 1",
            "llamahome_request_duration_seconds_bucket{le=\"0.5\"} 0",
            "llamahome_prompt_tokens_total 7",
            "llamahome_cached_prompt_tokens_total 3",
            "llamahome_generated_tokens_total 5",
            "llamahome_kv_cache_bytes 10",
            "llamahome_kv_capacity_bytes 20",
            "llamahome_kv_evicted_tokens_total 4",
            "llamahome_prefix_cache_bytes 11",
            "llamahome_prefix_cache_blocks 12",
            "llamahome_session_parked_bytes 13",
            "llamahome_session_spilled_bytes 14",
            "llamahome_model_loads_total{result=\"failed\"} 1",
            "llamahome_model_load_seconds_count 1",
            "llamahome_model_resident_bytes{model=\"a\\\"b\"} 30",
            "llamahome_worker_restarts_total 1",
            "llamahome_engine_heartbeat_age_seconds 0.5",
            "llamahome_process_resident_memory_bytes 50",
            "llamahome_process_cpu_ratio 0.25",
            "llamahome_memory_limit_bytes 100",
            "llamahome_memory_available_bytes 60",
            "llamahome_disk_free_bytes 60",
            "llamahome_gpu_memory_used_bytes{gpu=\"1\"} 70",
            concat!(
                "llamahome_build_info{version=\"",
                env!("CARGO_PKG_VERSION"),
                "\"} 1"
            ),
        ] {
            assert!(
                text.lines().any(|known| known == line),
                "{line} is not in\n{text}"
            );
        }
        drop(in_flight);
        metrics.model_unloaded("a\"b");
        let text = metrics.encode();
        assert!(
            text.contains("llamahome_requests_in_flight 0")
                && !text.contains("model_resident_bytes{"),
            "{text}"
        );
    }
}
