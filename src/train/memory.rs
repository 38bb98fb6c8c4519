//! How much memory a run takes, estimated from its recipe before anything is read.

use super::network::{LOGITS, LoraSpec};
use super::plan::MICRO_TOKENS;
use super::recipe::{Precision, Recipe, Stage};
use super::scaling::Shape;

/// Bytes of the KV caches of answers under way, in the stage rl.
pub(super) const CACHES: usize = 1 << 30;
/// What the program takes beside: panels, tokenizer, batches that are read ahead.
const BESIDE: u64 = 64 << 20;
/// Bytes of 32 weights in blocks of 8-bit integers (Q8_0).
const BLOCK: u64 = 34;

/// Bytes of a run, by what takes them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Footprint {
    /// The weights in the form that the run holds them in, adapters included.
    pub weights: u64,
    /// Gradients of what is trained.
    pub gradients: u64,
    /// The optimizer's two moments of what is trained; muon has one of them only for most.
    pub moments: u64,
    /// What a forward pass keeps for its backward pass, and memory that blocks take turns in.
    pub activations: u64,
    /// In the stage rl, the engine's copy of the weights and its KV caches.
    pub engine: u64,
}

impl Footprint {
    /// The footprint of `recipe` on a model of `shape`, whose rows have `row_tokens` tokens.
    pub fn of(recipe: &Recipe, shape: &Shape, row_tokens: u64) -> Footprint {
        let parameters = shape.parameters();
        let (held, trained) = match &recipe.lora {
            Some(lora) => {
                let adapters = adapters(recipe, lora, shape);
                let frozen = match (recipe.stage, recipe.precision) {
                    (Stage::Qlora, _) => parameters * BLOCK / 32,
                    (_, Precision::Bf16) => 2 * parameters,
                    (_, Precision::Fp32) => 4 * parameters,
                };
                (frozen + 4 * adapters, adapters)
            }
            None => (4 * parameters, trained(recipe, shape)),
        };
        let micro = micro_tokens(recipe, row_tokens);
        Footprint {
            weights: held,
            gradients: 4 * trained,
            moments: 8 * trained,
            activations: activations(recipe, shape, micro) + BESIDE,
            engine: engine(recipe, shape, row_tokens),
        }
    }

    /// All of it.
    pub fn bytes(&self) -> u64 {
        self.weights + self.gradients + self.moments + self.activations + self.engine
    }
}

/// Weights that move when no adapters do.
fn trained(recipe: &Recipe, shape: &Shape) -> u64 {
    let tables = shape.vocab * shape.width;
    let outside = shape.width + if shape.tied { tables } else { 2 * tables };
    let blocks = shape.parameters().saturating_sub(outside);
    let layers = shape.layers.max(1);
    let frozen = u64::from(recipe.freeze.layers).min(layers) * blocks / layers;
    let embeddings = if recipe.freeze.embeddings { tables } else { 0 };
    shape.parameters() - frozen - embeddings
}

/// Weights of all adapters.
fn adapters(recipe: &Recipe, lora: &super::recipe::Lora, shape: &Shape) -> u64 {
    let spec = LoraSpec::from(lora);
    let (width, inner) = (shape.width, shape.intermediate);
    let (queries, keys) = (
        shape.heads * shape.head_dim,
        shape.kv_heads * shape.head_dim,
    );
    let linears = [
        ("self_attn.q_proj", width + queries),
        ("self_attn.k_proj", width + keys),
        ("self_attn.v_proj", width + keys),
        ("self_attn.o_proj", queries + width),
        ("mlp.gate_proj", width + inner),
        ("mlp.up_proj", width + inner),
        ("mlp.down_proj", inner + width),
    ];
    let layer = |layer: u64| -> u64 {
        let taken = linears
            .iter()
            .filter(|(name, _)| spec.selects(&format!("model.layers.{layer}.{name}")));
        taken.map(|(_, sides)| u64::from(lora.rank) * sides).sum()
    };
    (u64::from(recipe.freeze.layers)..shape.layers)
        .map(layer)
        .sum()
}

/// Tokens that go through the model at once.
fn micro_tokens(recipe: &Recipe, row: u64) -> u64 {
    let batch = &recipe.batch;
    let row = row.max(1);
    let rows = batch.rows.or(batch.tokens.map(|tokens| tokens / row));
    let shared = rows
        .zip(batch.accumulation)
        .map(|(rows, times)| rows.div_ceil(times.max(1)));
    let usual = (MICRO_TOKENS / row).clamp(1, rows.unwrap_or(u64::MAX).max(1));
    batch.micro_rows.or(shared).unwrap_or(usual) * row
}

fn activations(recipe: &Recipe, shape: &Shape, tokens: u64) -> u64 {
    let (queries, keys) = (
        shape.heads * shape.head_dim,
        shape.kv_heads * shape.head_dim,
    );
    // Queries, keys and values; what was attended, and its sums; the stream in the middle; gate and up.
    let block = (queries + 2 * keys) + queries + shape.heads + shape.width + 2 * shape.intermediate;
    let kept = match recipe.recompute {
        true => 1,
        false => shape.layers,
    };
    let streams = (shape.layers + 3) * shape.width;
    // Normed inputs and their gradients, the gated product and its gradient, the gradients of a block.
    let turns = 2 * shape.width + 2 * shape.intermediate + block;
    let logits = (tokens * shape.vocab * 4).min((LOGITS as u64).max(shape.vocab * 4));
    4 * tokens * (kept * block + streams + turns) + logits
}

fn engine(recipe: &Recipe, shape: &Shape, row_tokens: u64) -> u64 {
    let Some(rl) = recipe.rl.as_ref().filter(|_| recipe.stage == Stage::Rl) else {
        return 0;
    };
    let value = match recipe.precision {
        Precision::Bf16 => 2,
        Precision::Fp32 => 4,
    };
    // With adapters there is a copy that they are folded into, too.
    let copies = if recipe.lora.is_some() { 2 } else { 1 };
    let token = 2 * shape.layers * shape.kv_heads * shape.head_dim * 4;
    let answers = u64::from(rl.groups) * u64::from(rl.samples);
    copies * value * shape.parameters() + (answers * row_tokens * token).min(CACHES as u64)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::super::recipe;
    use super::*;

    fn smollm2() -> Shape {
        Shape {
            vocab: 49_152,
            width: 576,
            intermediate: 1536,
            layers: 30,
            heads: 9,
            kv_heads: 3,
            head_dim: 64,
            context: 8192,
            tied: true,
        }
    }

    fn footprint(stage: &str, overrides: &[&str]) -> Footprint {
        let text = format!("stage = \"{stage}\"\n[model]\nbase = \"m\"\n[data]\npath = \"d\"\n");
        let text = match stage {
            "rl" => text.replace("[data]\npath = \"d\"\n", ""),
            _ => text,
        };
        let overrides: Vec<String> = overrides.iter().map(|&text| text.to_owned()).collect();
        let recipe = recipe::parse(Path::new("r.toml"), &text, &overrides).unwrap();
        Footprint::of(&recipe.recipe, &smollm2(), 1024)
    }

    #[test]
    fn full_training_holds_each_weight_four_times() {
        let full = footprint("sft", &[]);
        assert_eq!(smollm2().parameters(), 134_515_008);
        assert_eq!(
            (full.weights, full.gradients, full.moments),
            (538_060_032, 538_060_032, 1_076_120_064)
        );
        assert_eq!(full.engine, 0);
        let less = footprint("sft", &["freeze.layers=30", "freeze.embeddings=true"]);
        assert_eq!(less.gradients, 4 * 576);
        let half = footprint("sft", &["freeze.layers=15"]);
        assert!(less.gradients < half.gradients && half.gradients < full.gradients);
    }

    #[test]
    fn adapters_hold_the_rest_in_narrower_types() {
        let lora = footprint("lora", &["lora.rank=8"]);
        // q_proj and v_proj of 30 blocks.
        let adapters = 30 * 8 * (2 * 576 + 576 + 192);
        assert_eq!(lora.gradients, 4 * adapters);
        assert_eq!(lora.weights, 4 * (134_515_008 + adapters));
        let narrow = footprint("lora", &["precision=bf16"]);
        assert!(narrow.weights < lora.weights * 51 / 100);
        let blocks = footprint("qlora", &[]);
        assert!(blocks.weights < narrow.weights * 54 / 100);
        let all = footprint("lora", &["lora.targets=[\"all-linear\"]"]);
        assert!(all.moments > 3 * lora.moments);
    }

    #[test]
    fn activations_follow_the_tokens_that_go_through_at_once() {
        let of = |overrides: &[&str]| footprint("sft", overrides).activations;
        assert_eq!(of(&["batch.micro_rows=4"]), of(&[]));
        assert_eq!(
            of(&["batch.rows=8", "batch.accumulation=4"]),
            of(&["batch.micro_rows=2"])
        );
        assert!(of(&["batch.micro_rows=8"]) > of(&[]) * 3 / 2);
        assert!(of(&["recompute=true"]) < of(&[]) / 3);
        let rl = footprint("rl", &["rl.task=arithmetic"]);
        assert!(rl.engine > 4 * 134_515_008);
    }
}
