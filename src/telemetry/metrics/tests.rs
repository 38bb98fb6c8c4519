use std::time::Duration;

use super::*;
use crate::telemetry::{GpuSample, ResourceSample};

#[test]
fn every_method_shows_in_the_text() {
    let metrics = Metrics::new();
    let second = Duration::from_secs(1);
    let in_flight = metrics.request_started();
    metrics.request_finished("/v1/models", 200, second);
    metrics.set_queue_depth(2);
    metrics.queue_wait(second);
    metrics.rejected("busy");
    metrics.cancelled(Stage::Prefill);
    metrics.prefill(second);
    metrics.preempted();
    metrics.prefix_missed("evicted");
    metrics.set_running(6);
    metrics.set_open(3, 15);
    let step = StepCount {
        prompt_rows: 1,
        prompt_tokens: 100,
        decode_rows: 2,
        decode_tokens: 2,
    };
    metrics.step(step, second);
    metrics.first_token(second);
    metrics.next_token(second, false);
    metrics.prompt(7, 3);
    metrics.generated(5);
    metrics.set_kv(10, 20);
    metrics.kv_evicted(4);
    metrics.set_kept((11, 12), 13, 14);
    metrics.model_load(false, second);
    metrics.guessed(9, 8);
    metrics.set_model("a\"b", 30, 2);
    metrics.model_slept("c", "idle");
    metrics.model_woken(true, second);
    metrics.routed("prefix", Place::Local);
    metrics.routed("prefix", Place::Remote);
    metrics.set_remote("d", "http://e/v1", true);
    metrics.worker_restarted(Lost::Stalled);
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
        "llamahome_cancelled_total{stage=\"prefill\"} 1",
        "llamahome_prefill_seconds_count 1",
        "llamahome_preemptions_total 1",
        "llamahome_prefix_missed_total{reason=\"evicted\"} 1",
        "llamahome_requests_running 6",
        "llamahome_open_sequences 3",
        "llamahome_open_sequence_bytes 15",
        "llamahome_step_seconds_count{phase=\"mixed\"} 1",
        "llamahome_step_rows_bucket{le=\"2\"} 0",
        "llamahome_step_rows_sum 3",
        "llamahome_step_tokens_sum 102",
        "llamahome_time_to_first_token_seconds_bucket{le=\"1\"} 1",
        "llamahome_inter_token_latency_seconds_sum{preempted=\"no\"} 1",
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
        // Waking is loading, too.
        "llamahome_model_load_seconds_count 2",
        "llamahome_model_resident_bytes{model=\"a\\\"b\"} 30",
        "llamahome_drafted_tokens_total 9",
        "llamahome_accepted_drafted_tokens_total 8",
        "llamahome_model_replicas{model=\"a\\\"b\"} 2",
        "llamahome_model_sleeps_total{reason=\"idle\"} 1",
        "llamahome_model_resident_bytes{model=\"c\"} 0",
        "llamahome_remote_replica_up{model=\"d\",url=\"http://e/v1\"} 1",
        "llamahome_model_wakes_total{result=\"ok\"} 1",
        "llamahome_routed_requests_total{place=\"local\",policy=\"prefix\"} 1",
        "llamahome_routed_requests_total{place=\"remote\",policy=\"prefix\"} 1",
        "llamahome_worker_restarts_total{reason=\"stalled\"} 1",
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
    metrics.model_unloaded("a\"b", "idle");
    metrics.model_unloaded("c", "asked");
    let text = metrics.encode();
    assert!(
        text.contains("llamahome_requests_in_flight 0") && !text.contains("model_resident_bytes{"),
        "{text}"
    );
}
