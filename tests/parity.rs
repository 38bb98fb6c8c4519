//! The real model against reference figures: logits, greedy text and likelihoods made with transformers in float32
//! from the dequantised weights of the same file.

use llamahome::ids::{SeqId, TokenId};
use llamahome::kv::Policy;
use llamahome::llama::{
    Compute, Dtype, Llama, LlamaForward, PerplexityOptions, perplexity, set_threads,
};
use llamahome::sample::{SamplingParams, logsumexp};
use llamahome::sched::{Forward, Open, Origin, Phase, Plan, Row, Want};
use llamahome::store::Model;
use llamahome::text::Specials;
use serde_json::Value;

fn golden(name: &str) -> Value {
    let path = format!(
        "{}/tests/fixtures/golden/{name}",
        env!("CARGO_MANIFEST_DIR")
    );
    let text = std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{path}: {e}"));
    serde_json::from_str(&text).unwrap()
}

fn load(dtype: Dtype) -> (Model, LlamaForward) {
    let path =
        std::env::var("LLAMAHOME_TEST_MODEL").expect("LLAMAHOME_TEST_MODEL: run `make test`");
    set_threads(&llamahome::llama::Config::default());
    let model = Model::open(path.as_ref()).unwrap();
    let llama = Llama::load(&model.checkpoint, Compute::choose(dtype), 256, None).unwrap();
    (model, LlamaForward::new(llama))
}

fn ids(value: &Value) -> Vec<TokenId> {
    value
        .as_array()
        .unwrap()
        .iter()
        .map(|id| id.as_u64().unwrap() as TokenId)
        .collect()
}

/// Feeds `tokens` and returns the logits after the last.
fn feed(
    model: &mut LlamaForward,
    seq: u64,
    start: usize,
    tokens: &[TokenId],
    policy: &Policy,
) -> Vec<f32> {
    let row = Row {
        seq: SeqId(seq),
        open: (start == 0).then(|| Open {
            policy: policy.clone(),
            sampling: SamplingParams::default(),
            origin: Origin::Empty,
        }),
        tokens: tokens.to_vec(),
        start,
        want: Want::Last,
        phase: match start {
            0 => Phase::Prompt { left: 0 },
            _ => Phase::Decode,
        },
    };
    let outputs = model
        .forward(&Plan {
            rows: vec![row],
            paused: Vec::new(),
            ended: Vec::new(),
        })
        .unwrap();
    outputs.rows.into_iter().next().unwrap().logits
}

fn argmax(logits: &[f32]) -> TokenId {
    let best = logits
        .iter()
        .enumerate()
        .max_by(|a, b| a.1.total_cmp(b.1).then(b.0.cmp(&a.0)));
    best.unwrap().0 as TokenId
}

#[test]
fn logits_and_greedy_text_equal_the_reference() {
    let (model, mut forward) = load(Dtype::Float32);
    for (number, case) in golden("logits.json").as_array().unwrap().iter().enumerate() {
        let prompt = ids(&case["ids"]);
        let text = case["prompt"].as_str().unwrap();
        assert_eq!(
            model.tokenizer.encode(text, Specials::Parse).unwrap(),
            prompt,
            "{text}"
        );
        // A budget of at least the length: H2O must equal full attention, at every step.
        let budget = Policy::h2o(64, 64).unwrap();
        let mut logits = feed(&mut forward, number as u64, 0, &prompt, &budget);
        let norm = logsumexp(&logits);
        let expected_norm = case["logsumexp"].as_f64().unwrap();
        for entry in case["top"].as_array().unwrap() {
            let id = entry[0].as_u64().unwrap() as usize;
            let expected = entry[1].as_f64().unwrap() - expected_norm;
            let found = f64::from(logits[id]) - norm;
            assert!(
                (found - expected).abs() < 0.02,
                "{text}: token {id}: {found}, not {expected}"
            );
        }
        let greedy = ids(&case["greedy_ids"]);
        for (position, &expected) in (prompt.len()..).zip(&greedy) {
            let token = argmax(&logits);
            assert_eq!(token, expected, "{text}: position {position}");
            logits = feed(&mut forward, number as u64, position, &[token], &budget);
        }
    }
}

fn text_ids(model: &Model, tokens: usize) -> Vec<TokenId> {
    let path =
        std::env::var("LLAMAHOME_WIKITEXT").expect("LLAMAHOME_WIKITEXT: the path of the text");
    let text = std::fs::read_to_string(path).unwrap();
    let text: String = text.chars().take(60_000).collect();
    let mut all = model.tokenizer.encode(&text, Specials::Parse).unwrap();
    assert!(all.len() >= tokens);
    all.truncate(tokens);
    all
}

#[test]
#[ignore = "needs the wikitext-2 validation text, which is not ours to ship: set LLAMAHOME_WIKITEXT to its path"]
fn likelihoods_equal_the_reference() {
    let expected = golden("nll.json");
    for (dtype, tolerance) in [(Dtype::Float32, 0.002), (Dtype::Bfloat16, 0.01)] {
        let (model, mut forward) = load(dtype);
        for tokens in [256usize, 1024] {
            let ids = text_ids(&model, tokens);
            let options = PerplexityOptions {
                policy: Policy::full(),
                stepwise: false,
                chunk: 200,
                tail: None,
            };
            let found = perplexity(&mut forward, &ids, &options, &mut |_| {})
                .unwrap()
                .mean_nll;
            let wanted = expected["mean_nll_of_first_n_tokens"][tokens.to_string()]
                .as_f64()
                .unwrap();
            let allowed = if dtype == Dtype::Float32 {
                tolerance
            } else {
                tolerance * wanted
            };
            assert!(
                (found - wanted).abs() < allowed,
                "{dtype:?} {tokens}: {found}, not {wanted}"
            );
        }
    }
}

#[test]
#[ignore = "needs the wikitext-2 validation text, which is not ours to ship: set LLAMAHOME_WIKITEXT to its path"]
fn eviction_costs_what_the_reference_says() {
    let (model, mut forward) = load(Dtype::Float32);
    let expected = golden("h2o_nll.json");
    let ids = text_ids(&model, expected["tokens"].as_u64().unwrap() as usize);
    for row in expected["rows"].as_array().unwrap() {
        let heavy = row["heavy"].as_u64().unwrap() as usize;
        let recent = row["recent"].as_u64().unwrap() as usize;
        let policy = match row["policy"].as_str().unwrap() {
            "full" => continue,
            "h2o" => Policy::h2o(heavy, recent).unwrap(),
            "streaming" => Policy::streaming(heavy, recent).unwrap(),
            other => panic!("{other}"),
        };
        let options = PerplexityOptions {
            policy: policy.clone(),
            stepwise: true,
            chunk: 1,
            tail: None,
        };
        let found = perplexity(&mut forward, &ids, &options, &mut |_| {}).unwrap();
        let wanted = row["mean_nll"].as_f64().unwrap();
        assert!(
            (found.mean_nll - wanted).abs() < 0.003,
            "{policy}: {}, not {wanted}",
            found.mean_nll
        );
        assert_eq!(found.kv.tokens_kept, heavy + recent);
    }
}
