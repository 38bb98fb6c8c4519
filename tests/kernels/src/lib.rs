//! `src/kernels` and nothing else.

#[path = "../../../src/kernels/mod.rs"]
pub mod kernels;
