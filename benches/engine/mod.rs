//! What benches share: the tests' model on the compute threads, and one answer of it.
#![allow(dead_code, reason = "each bench uses a part")]

use std::time::Instant;

use llamahome::ids::TokenId;
use llamahome::llama::{Compute, Config as ModelConfig, Llama, LlamaForward, set_threads};
use llamahome::sched::{Config, Event, Limits, Request, Scheduler, Stepper, Usage};
use llamahome::store::Model;

/// Why a bench ends early.
pub type Failure = Box<dyn std::error::Error>;

/// The model that `LLAMAHOME_TEST_MODEL` names, ready to compute.
pub struct Engine {
    pub threads: usize,
    pub compute: Compute,
    pub model: Model,
    pub forward: LlamaForward,
}

/// Loads it as the program does when nothing is set.
pub fn open() -> Result<Engine, Failure> {
    let path = std::env::var("LLAMAHOME_TEST_MODEL")?;
    let config = ModelConfig::default();
    let (threads, _) = set_threads(&config);
    let model = Model::open(path.as_ref())?;
    let compute = Compute::choose(config.dtype);
    let llama = Llama::load(&model.checkpoint, compute, config.prefill_chunk, None)?;
    Ok(Engine {
        threads,
        compute,
        model,
        forward: LlamaForward::new(llama),
    })
}

/// One request alone: its tokens, and what it took.
pub fn answer(
    stepper: &mut Stepper,
    config: Config,
    request: Request,
) -> Result<(Vec<TokenId>, Usage), Failure> {
    let limits = Limits {
        shape: stepper.kv_shape(),
        total_bytes: 1 << 32,
    };
    let mut scheduler = Scheduler::new(config, limits);
    scheduler.grant(limits.total_bytes);
    scheduler.submit(request, Instant::now())?;
    let (mut tokens, mut used) = (Vec::new(), Usage::default());
    while let Some(plan) = scheduler.plan(Instant::now()) {
        let drawn = stepper.step(&plan, None)?;
        for (_, event) in scheduler.commit(drawn, Instant::now()) {
            match event {
                Event::Prompt(_) | Event::States(..) => {}
                Event::Token { token, .. } => tokens.push(token),
                Event::Finished { usage, .. } => used = usage,
                Event::Failed(failure) => return Err(failure.into()),
            }
        }
    }
    Ok((tokens, used))
}
