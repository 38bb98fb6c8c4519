//! What it costs to keep an answer to a form: the same steps with and without one, in turns, in one run.
//!
//! `cargo bench --bench structured`, with `LLAMAHOME_TEST_MODEL` as for the others. Answers are drawn at temperature 1,
//! over several schemas and seeds; prints the time a token takes of decoding, each way, and their ratio. A form whose answer
//! ends early is counted by its own number of tokens.

use std::time::{Duration, Instant};

use llamahome::ids::RequestId;
use llamahome::kv::Policy;
use llamahome::sample::{Constraint, Grammars, Sampling, SamplingParams, Shape};
use llamahome::sched::{Config, OfPrompt, Request, Standing, Stepper};
use llamahome::text::{Thinking, Tokenizer};
use serde_json::{Value, json};

mod engine;
use engine::Failure;

const TURNS: u64 = 6;
const TOKENS: usize = 160;

/// Forms with nesting, choices, references, bounds and patterns.
fn forms() -> Vec<(&'static str, Value)> {
    let text = json!({"type": "string", "maxLength": 200});
    vec![
        (
            "flat",
            json!({"type": "object", "properties": {"name": text, "age": {"type": "integer", "minimum": 0,
                "maximum": 120}, "bio": text}, "required": ["name", "age", "bio"], "additionalProperties": false}),
        ),
        (
            "nested, $ref",
            json!({"$defs": {"node": {"type": "object", "properties": {"label": text, "children": {"type": "array",
                "items": {"$ref": "#/$defs/node"}, "maxItems": 3}}, "required": ["label", "children"]}},
                "$ref": "#/$defs/node"}),
        ),
        (
            "anyOf, enum, pattern",
            json!({"type": "array", "minItems": 4, "items": {"anyOf": [
                {"type": "object", "properties": {"kind": {"enum": ["circle"]}, "r": {"type": "number"}},
                    "required": ["kind", "r"]},
                {"type": "object", "properties": {"kind": {"enum": ["box"]}, "code": {"type": "string",
                    "pattern": "^[A-Z]{3}-[0-9]{4}$"}}, "required": ["kind", "code"]}]}}),
        ),
    ]
}

fn main() -> Result<(), Failure> {
    let engine::Engine {
        threads,
        compute,
        model,
        forward,
    } = engine::open()?;
    let mut stepper = Stepper::new(Box::new(forward));
    let grammars = Grammars::new(model.tokenizer.clone(), model.eos.clone());
    println!(
        "{threads} threads, {}, {TURNS} turns each",
        compute.dtype_name()
    );
    println!(
        "{:<24} {:>9} {:>9} {:>9} {:>7}",
        "form", "compile", "free", "kept to", "cost"
    );
    for (name, schema) in forms() {
        let began = Instant::now();
        let constraint = grammars.compile(&Shape::JsonSchema(schema), Thinking::Never)?;
        let compiled = began.elapsed();
        let (mut free, mut kept) = (Vec::new(), Vec::new());
        for seed in 0..TURNS {
            free.push(token_time(&mut stepper, &model.tokenizer, seed, None)?);
            let constraint = Some(constraint.clone());
            kept.push(token_time(
                &mut stepper,
                &model.tokenizer,
                seed,
                constraint,
            )?);
        }
        let (free, kept) = (median(free), median(kept));
        println!(
            "{name:<24} {:>6.1} ms {:>6.2} ms {:>6.2} ms {:>6.1}%",
            1e3 * compiled.as_secs_f64(),
            1e3 * free,
            1e3 * kept,
            100.0 * (kept / free - 1.0)
        );
    }
    Ok(())
}

fn median(mut times: Vec<f64>) -> f64 {
    times.sort_by(f64::total_cmp);
    times[times.len() / 2]
}

/// Seconds that a token of an answer takes behind its first.
fn token_time(
    stepper: &mut Stepper,
    tokenizer: &Tokenizer,
    seed: u64,
    constraint: Option<Constraint>,
) -> Result<f64, Failure> {
    let sampling = SamplingParams {
        sampling: Sampling::Random {
            temperature: 1.0,
            top_k: None,
            top_p: 1.0,
            min_p: 0.0,
        },
        seed,
        constraint,
        ..SamplingParams::default()
    };
    let request = Request {
        id: RequestId::random(),
        prompt: tokenizer.encode_prompt("Describe a house and who lives in it as JSON.\n")?,
        max_tokens: TOKENS,
        stop_ids: Vec::new(),
        sampling,
        policy: Policy::full(),
        tenant: None,
        session: None,
        standing: Standing::default(),
        of_prompt: OfPrompt::Nothing,
    };
    let (tokens, used) = engine::answer(stepper, Config::default(), request)?;
    let took: Duration = used.total.saturating_sub(used.first_token);
    Ok(took.as_secs_f64() / tokens.len().saturating_sub(1).max(1) as f64)
}
