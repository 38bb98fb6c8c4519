//! Where the least is to be done.

use super::{Call, Load, Router, least_loaded};

/// The replica with the fewest waiting prompt tokens and running sequences, by weight.
#[derive(Debug)]
pub(super) struct LeastLoad;

impl Router for LeastLoad {
    fn choose(&mut self, _: &Call<'_>, replicas: &[Load]) -> Option<usize> {
        least_loaded(replicas)
    }
}
