//! What guesses from the text itself buy: answers with and without them, in turns, in one run.
//!
//! `cargo bench --bench speculative`, with `LLAMAHOME_TEST_MODEL` as for the others. A copied text should gain; a free
//! one should lose next to nothing. Prints the ratio of the times, best of several turns each, and whether the tokens
//! are the same.

use std::time::Duration;

use llamahome::ids::{RequestId, TokenId};
use llamahome::kv::{Hybrid, Policy};
use llamahome::sample::{Sampling, SamplingParams};
use llamahome::sched::{Config, OfPrompt, Request, Speculate, Standing, Stepper, Usage};
use llamahome::text::Tokenizer;

mod engine;
use engine::Failure;

const TURNS: usize = 4;

const PASSAGE: &str = "The harbour master kept three ledgers. The first listed every vessel that had entered since the \
great storm of 1871, with its tonnage, its flag and the name of its captain. The second recorded debts: anchorage, \
water, coal, and the fees of the pilot Anselm Brouwer, who was never paid on time. The third was locked, and nobody \
but the harbour master's daughter knew that it held nothing except drawings of birds.";

struct Case {
    name: &'static str,
    prompt: String,
    tokens: usize,
    temperature: f32,
    policy: Policy,
}

fn main() -> Result<(), Failure> {
    let engine::Engine {
        threads,
        compute,
        model,
        forward,
    } = engine::open()?;
    let mut stepper = Stepper::new(Box::new(forward));
    println!(
        "{threads} threads, {}, best of {TURNS} turns each",
        compute.dtype_name()
    );
    println!(
        "{:<28} {:>9} {:>9} {:>6} {:>8} {:>9}  tokens",
        "case", "plain t/s", "fast t/s", "ratio", "guesses", "accepted"
    );
    for case in cases()? {
        run(&mut stepper, &model.tokenizer, &case)?;
    }
    Ok(())
}

fn cases() -> Result<Vec<Case>, Failure> {
    // Begun a fourth time, for between two passages it is anybody's guess whether one more follows.
    let begun = PASSAGE.split_inclusive(' ').take(8).collect::<String>();
    let copy = format!(
        "{PASSAGE}\n\n{PASSAGE}\n\n{PASSAGE}\n\n{}",
        begun.trim_end()
    );
    let story =
        "My grandmother used to say that every house remembers the people who lived in it. When I ";
    let hybrid = |budget| Policy::hybrid(budget, Hybrid::default());
    let case = |name, prompt: &str, temperature, policy| Case {
        name,
        prompt: prompt.to_owned(),
        tokens: 128,
        temperature,
        policy,
    };
    Ok(vec![
        case("copy, greedy", &copy, 0.0, hybrid(2048)?),
        case("copy, greedy, budget 256", &copy, 0.0, hybrid(256)?),
        case("free, greedy", story, 0.0, hybrid(2048)?),
        case("free, temperature 0.8", story, 0.8, hybrid(2048)?),
        case("free, temperature 1.0", PASSAGE, 1.0, hybrid(2048)?),
    ])
}

fn run(stepper: &mut Stepper, tokenizer: &Tokenizer, case: &Case) -> Result<(), Failure> {
    let mut best = [Duration::MAX; 2];
    let mut texts = [Vec::new(), Vec::new()];
    let mut guesses = Usage::default();
    for _ in 0..TURNS {
        for (index, speculate) in [Speculate::Off, Speculate::Lookup].into_iter().enumerate() {
            let (tokens, usage) = answer(stepper, tokenizer, case, speculate)?;
            best[index] = best[index].min(usage.total.saturating_sub(usage.first_token));
            texts[index] = tokens;
            guesses = usage;
        }
    }
    let rate = |time: Duration, text: &[TokenId]| (text.len() - 1) as f64 / time.as_secs_f64();
    let (plain, fast) = (rate(best[0], &texts[0]), rate(best[1], &texts[1]));
    let same = texts[0]
        .iter()
        .zip(&texts[1])
        .take_while(|(a, b)| a == b)
        .count();
    println!(
        "{:<28} {plain:>9.1} {fast:>9.1} {:>6.2} {:>8} {:>9}  {}",
        case.name,
        fast / plain,
        guesses.drafted_tokens,
        guesses.accepted_tokens,
        match texts[0] == texts[1] {
            true => "the same".to_owned(),
            false => format!("the same up to {same}"),
        }
    );
    Ok(())
}

fn answer(
    stepper: &mut Stepper,
    tokenizer: &Tokenizer,
    case: &Case,
    speculate: Speculate,
) -> Result<(Vec<TokenId>, Usage), Failure> {
    let config = Config {
        speculate,
        ..Config::default()
    };
    let sampling = match case.temperature {
        0.0 => Sampling::Greedy,
        temperature => Sampling::Random {
            temperature,
            top_k: None,
            top_p: 0.95,
            min_p: 0.0,
        },
    };
    let request = Request {
        id: RequestId::random(),
        prompt: tokenizer.encode_prompt(&case.prompt)?,
        max_tokens: case.tokens,
        stop_ids: Vec::new(),
        sampling: SamplingParams {
            sampling,
            seed: 7,
            ..SamplingParams::default()
        },
        policy: case.policy.clone(),
        tenant: None,
        session: None,
        standing: Standing::default(),
        of_prompt: OfPrompt::Nothing,
    };
    engine::answer(stepper, config, request)
}
