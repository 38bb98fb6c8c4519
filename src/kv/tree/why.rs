//! Why a lookup found no more.

use crate::ids::TokenId;

use super::nodes::{NodeId, hash_below, seed};
use super::{Miss, Namespace, PrefixTree, Weigh};

impl<P: Weigh> PrefixTree<P> {
    /// Why a text of a namespace with nothing in it hit nothing.
    pub(super) fn why_cold(&self, namespace: &Namespace, tokens: &[TokenId]) -> Option<Miss> {
        let first = tokens.chunks(self.grid).next()?;
        Some(if first.len() < self.grid {
            self.too_short(first)
        } else if self.ghosts.knows(hash_below(seed(namespace), first)) {
            Miss::Evicted { at: 0 }
        } else {
            Miss::Cold
        })
    }

    /// For the tokens behind the last whole block.
    pub(super) fn too_short(&self, rest: &[TokenId]) -> Miss {
        Miss::TooShort {
            left: rest.len(),
            grid: self.grid,
        }
    }

    /// Why `block` was not found with a payload below the node `at`.
    pub(super) fn why_missed(&self, at: NodeId, block: &[TokenId]) -> Miss {
        let node = &self.nodes[at];
        let start = node.depth * self.grid;
        if self.ghosts.knows(hash_below(node.hash, block)) {
            return Miss::Evicted { at: start };
        }
        match node.edges.common(block) {
            Some(common) if common < self.grid => Miss::Diverged { at: start + common },
            _ => Miss::Ended { at: start },
        }
    }
}
