//! `/monitor` of a chat: the machine and the engines, a line each, once a second.

use std::time::Duration;

use anyhow::Result;

use super::output::{self, size};
use super::signals::Signals;
use crate::runtime::{Runtime, ServedModel};
use crate::telemetry::ResourceSample;

/// Tokens of a model at one look, for the rate until the next.
type Counted = Vec<(String, u64)>;

/// Prints what there is to see, `times` times, or until a signal.
///
/// # Errors
/// When standard output is closed.
pub(super) async fn watch(runtime: &Runtime, times: u32, signals: &mut Signals) -> Result<()> {
    let mut before = Counted::new();
    for time in 0..times {
        if time > 0 {
            tokio::select! {
                () = tokio::time::sleep(Duration::from_secs(1)) => {}
                _ = signals.next() => return Ok(()),
            }
        }
        match runtime.newest_sample() {
            Some(sample) => output::line(machine(&sample))?,
            None => output::line("machine: not measured yet")?,
        }
        let models = runtime.loaded();
        let mut now = Counted::new();
        for model in &models {
            let tokens = model.tokens();
            let count = tokens.read + tokens.generated;
            let name = model.id.to_string();
            let last = before.iter().find(|(other, _)| *other == name);
            output::line(engine(
                model,
                last.map(|(_, last)| count.saturating_sub(*last)),
            ))?;
            now.push((name, count));
        }
        before = now;
    }
    Ok(())
}

fn machine(sample: &ResourceSample) -> String {
    let gpus = sample.gpus.iter().map(|gpu| {
        let used = (size(gpu.memory_used), size(gpu.memory_total));
        format!("; {}: {} of {}", gpu.name, used.0, used.1)
    });
    format!(
        "machine: {:.0} % of the processor, {} of {} in use, {} by this process, {} of disk free{}",
        100.0 * sample.cpu_ratio,
        size(sample.memory_used),
        size(sample.memory_limit()),
        size(sample.process_rss),
        size(sample.disk_free),
        gpus.collect::<String>()
    )
}

fn engine(model: &ServedModel, rate: Option<u64>) -> String {
    let rate = rate.map_or(String::new(), |rate| format!(", {rate} tokens/s"));
    let tokens = model.tokens();
    format!(
        "{}: {} running, {} waiting, {} of cache, {} of weights, {} tokens read, {} generated{rate}",
        model.id,
        model.running(),
        model.waiting(),
        size(model.kv_bytes() as u64),
        size(model.weight_bytes as u64),
        tokens.read,
        tokens.generated
    )
}
