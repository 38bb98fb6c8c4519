//! Decode under h2o against full attention, at growing depth, in one run: what bounding the cache buys in time.
//!
//! `LLAMAHOME_TEST_MODEL` is set by cargo's configuration after the first `make test`. Prints tokens/s and the ratio to
//! full attention at the same depth; ratios travel between machines, tokens/s do not.

use llamahome::kv::Policy;
use llamahome::llama::{BenchSpec, bench};

mod engine;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let engine::Engine {
        threads,
        compute,
        mut forward,
        ..
    } = engine::open()?;
    let vocab = forward.model().config().vocab;
    println!("{} threads, {}", threads, compute.dtype_name());
    println!(
        "{:>6}  {:<24} {:>10}  {:>7}  {:>9}",
        "depth", "policy", "tokens/s", "ratio", "KV MiB"
    );
    for depth in [512, 2048, 6144] {
        let mut full = None;
        for policy in [
            Policy::full(),
            Policy::h2o(512, 512)?,
            Policy::h2o(128, 128)?,
        ] {
            let spec = BenchSpec {
                prompts: Vec::new(),
                generate: vec![64],
                depths: vec![depth],
                batches: vec![1],
                repeat: 3,
                policy: policy.clone(),
                vocab,
                chunk: 512,
            };
            bench(&mut forward, &spec, &mut |line| {
                let base = *full.get_or_insert(line.tokens_per_s);
                println!(
                    "{depth:>6}  {:<24} {:>10.1}  {:>7.2}  {:>9.1}",
                    policy.to_string(),
                    line.tokens_per_s,
                    line.tokens_per_s / base,
                    line.kv_bytes as f64 / f64::from(1 << 20)
                );
            })?;
        }
    }
    Ok(())
}
