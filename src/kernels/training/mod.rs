//! Kernels of training: products of matrices of floats, and what goes backward through the parts of a block.
//!
//! Sums have the same order however many threads there are and whatever their timing, so a step gives the same bits.

mod adamw;
mod arithmetic;
mod attention;
mod gate;
mod gemm;
mod loss;
mod math;
mod norm;
mod rotation;
mod strided;
mod whole;

pub use adamw::{AdamW, adamw};
pub use arithmetic::Arithmetic;
pub use attention::{Causal, causal_attention, causal_attention_backward};
pub use gate::gate_backward;
pub use gemm::gemm;
pub use loss::cross_entropy;
pub use norm::rms_norm_backward;
pub use rotation::rotate_back;
pub use strided::Strided;
pub use whole::{add, scale, sum_of_squares};
