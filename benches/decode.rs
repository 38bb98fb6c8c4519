//! Decode under h2o against full attention, at growing depth, in one run: what bounding the cache buys in time.
//!
//! `LLAMAHOME_TEST_MODEL` is set by cargo's configuration after the first `make test`. Prints tokens/s and the ratio to
//! full attention at the same depth; ratios travel between machines, tokens/s do not.

use llamahome::kv::Policy;
use llamahome::llama::{BenchSpec, Compute, Config, Llama, LlamaForward, bench, set_threads};
use llamahome::store::Model;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let path = std::env::var("LLAMAHOME_TEST_MODEL")?;
    let config = Config::default();
    let (threads, _) = set_threads(&config);
    let model = Model::open(path.as_ref())?;
    let compute = Compute::choose(config.dtype);
    let llama = Llama::load(&model.checkpoint, compute, config.prefill_chunk, None)?;
    let vocab = llama.config().vocab;
    let mut forward = LlamaForward::new(llama);
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
