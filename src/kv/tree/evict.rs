//! Making room: leaves first, least recently used first.

use std::ops::Bound;

use super::nodes::Above;
use super::{Age, PrefixTree, Weigh};

impl<P: Weigh> PrefixTree<P> {
    /// Evicts down to the budget, and says how many bytes went. For when sequences have let go of their payloads.
    pub fn trim(&mut self) -> usize {
        self.shrink_to(self.budget)
    }

    /// Evicts until at most `bytes` are left or all that is left is held, and says how many bytes went.
    pub fn shrink_to(&mut self, bytes: usize) -> usize {
        let before = self.bytes;
        let mut next = self.leaves.first().copied();
        while let Some(age) = next
            && self.bytes > bytes
        {
            if !self.nodes[age.2].is_held() {
                self.evict(age);
            }
            // A parent that became a leaf comes after its child, so one pass sees every candidate.
            let later = (Bound::Excluded(age), Bound::Unbounded);
            next = self.leaves.range(later).next().copied();
        }
        before - self.bytes
    }

    /// Takes a leaf out, and the ancestors that were there only to reach it.
    fn evict(&mut self, age: Age) {
        self.leaves.remove(&age);
        let mut id = age.2;
        loop {
            let node = self.nodes.remove(id);
            let parent = match node.above {
                Above::Nothing(namespace) => {
                    self.roots.remove(&namespace);
                    return;
                }
                Above::Node(parent) => parent,
            };
            if let Some((_, bytes)) = node.payload {
                self.bytes -= bytes;
                self.blocks -= 1;
                self.ghosts.remember(node.hash);
            }
            let above = &mut self.nodes[parent];
            above.edges.remove(&node.tokens);
            if !above.edges.is_empty() {
                return;
            }
            if above.payload.is_some() {
                self.leaves.insert(above.age(parent));
                return;
            }
            id = parent;
        }
    }
}
