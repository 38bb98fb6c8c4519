//! Text from a model without actors: open, plan, step.
//!
//! `cargo run --release --example generate -- PATH_OF_A_GGUF "Once upon a time"`

use std::time::Instant;

use llamahome::ids::RequestId;
use llamahome::kv::Policy;
use llamahome::llama::{Compute, Config, Llama, LlamaForward, set_threads};
use llamahome::sample::SamplingParams;
use llamahome::sched::{self, Event, Forward, Limits, Request, Scheduler, Stepper};
use llamahome::store::Model;
use llamahome::text::{Detokenizer, Specials};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut args = std::env::args().skip(1);
    let path = args.next().ok_or("give the path of a model")?;
    let prompt = args.next().unwrap_or_else(|| "Once upon a time".to_owned());

    let config = Config::default();
    set_threads(&config);
    let model = Model::open(path.as_ref())?;
    let compute = Compute::choose(config.dtype);
    let llama = Llama::load(&model.checkpoint, compute, config.prefill_chunk, None)?;
    let forward = LlamaForward::new(llama);

    let limits = Limits {
        shape: forward.kv_shape(),
        total_bytes: 1 << 30,
    };
    let mut scheduler = Scheduler::new(sched::Config::default(), limits);
    scheduler.grant(limits.total_bytes);
    let mut stepper = Stepper::new(Box::new(forward));
    let request = Request {
        id: RequestId::random(),
        prompt: model.tokenizer.encode(&prompt, Specials::Parse)?,
        max_tokens: 48,
        stop_ids: model.eos.clone(),
        sampling: SamplingParams::default(),
        policy: Policy::h2o(32, 32)?,
        tenant: None,
        session: None,
        standing: sched::Standing::default(),
        of_prompt: sched::OfPrompt::Nothing,
    };
    scheduler.submit(request, Instant::now())?;

    let mut text = Detokenizer::new(&model.tokenizer);
    print!("{prompt}");
    while let Some(plan) = scheduler.plan(Instant::now()) {
        let drawn = stepper.step(&plan, scheduler.slice())?;
        for (_, event) in scheduler.commit(drawn, Instant::now()) {
            match event {
                Event::Prompt(_) | Event::States(..) => {}
                Event::Token { token, .. } => print!("{}", text.push(token)),
                Event::Finished { usage, kv, .. } => {
                    println!("{}\n\n{usage:?}\n{kv:?}", text.flush());
                }
                Event::Failed(failure) => return Err(failure.into()),
            }
        }
    }
    Ok(())
}
