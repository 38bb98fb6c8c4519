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
        } else if self.known(|known| known.tenant == namespace.tenant) {
            Miss::OtherPolicy
        } else if self.known(|known| known.fingerprint == namespace.fingerprint) {
            Miss::OtherTenant
        } else {
            Miss::Cold
        })
    }

    /// Whether a namespace of this kind has anything in it.
    fn known(&self, kind: impl Fn(&Namespace) -> bool) -> bool {
        self.roots.keys().any(kind)
    }

    /// Where a text leaves what is there and why, when only some of it has payloads.
    pub fn why_left(&self, namespace: &Namespace, tokens: &[TokenId]) -> Option<Miss> {
        let Some(&root) = self.roots.get(namespace) else {
            return self.why_cold(namespace, tokens);
        };
        let mut at = root;
        for block in tokens.chunks(self.grid) {
            if block.len() < self.grid {
                return Some(self.too_short(block));
            }
            match self.nodes[at].edges.get(block) {
                Some(child) => at = child,
                None => return Some(self.why_missed(at, block)),
            }
        }
        None
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
