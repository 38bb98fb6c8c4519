//! The policy gradient: what is learnt of answers and their rewards.
//!
//! [GRPO](https://arxiv.org/abs/2402.03300) reduced to [REINFORCE](https://doi.org/10.1007/BF00992696) with the mean of a
//! group as its baseline, as nanochat does it: answers are drawn from the weights that learn from them, so there is no ratio
//! and nothing to clip; there is no KL term, and no division by the deviation of a group, which would weigh groups by how
//! sure they are ([Dr. GRPO](https://arxiv.org/abs/2503.20783)). The mean is over the tokens of all answers of a step, so
//! that a token weighs the same in long and short ones ([DAPO](https://arxiv.org/abs/2503.14476)).

mod advantage;
mod passes;
#[cfg(test)]
mod tests;

pub use advantage::advantages;
pub use passes::{Group, Learnt, learnt};
