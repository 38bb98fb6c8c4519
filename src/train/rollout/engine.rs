//! The present weights in the engine.

use std::borrow::Cow;

use super::RolloutError;
use crate::llama::{Compute, KvMemory, Llama, LlamaForward};
use crate::store::{Checkpoint, FloatType, InMemory, Outgoing};
use crate::train::checkpoint::config_json;
use crate::train::network::{Network, Precision};

/// Positions of a block of KV cache that answers to a prompt share; what is left of a prompt is copied for each.
const BLOCK: usize = 16;
/// Queries of a prompt that attend together.
const TILE: usize = 64;

/// An engine of `network` as it is now, adapters folded in, on as many threads as it has. Products are in the type that it
/// is trained in, so that what is drawn is what is learnt from but for the rounding of embeddings and caches. `context`
/// positions at most.
///
/// # Errors
/// If the engine cannot compute the model.
pub fn engine(network: &Network, context: usize) -> Result<LlamaForward, RolloutError> {
    let bfloat16 = network.options().precision == Precision::Bfloat16;
    let outgoing = |name: String, shape: Vec<usize>, values| Outgoing {
        // Norms and biases multiply and add in float32 in both.
        stored: match bfloat16 && shape.len() > 1 {
            true => FloatType::Bf16,
            false => FloatType::F32,
        },
        name,
        shape,
        values,
    };
    let config = config_json(network, FloatType::F32);
    let memory = match network.options().lora {
        // Nothing to fold, and nothing in narrower types: no copy is needed.
        None => {
            let parameters = network.parameters().into_iter();
            let all =
                parameters.map(|p| outgoing(p.name.to_owned(), p.shape, Cow::Borrowed(p.values)));
            InMemory::new(config, all)?
        }
        Some(_) => {
            let merged = network.merged();
            let all = merged.map(|(name, shape, values)| outgoing(name, shape, values.into()));
            InMemory::new(config, all)?
        }
    };
    let threads = network.processor().pool.threads();
    let compute = Compute::of_training(bfloat16);
    let llama = Llama::load_on(
        threads,
        &Checkpoint::Memory(memory),
        compute,
        TILE,
        Some(context),
    )?;
    let memory = KvMemory {
        grid: BLOCK,
        ..KvMemory::default()
    };
    Ok(LlamaForward::with_memory(llama, memory))
}
