//! Keys and values by the text they were computed from, so that a prompt which begins like an earlier one starts where
//! the earlier one stops differing.
//!
//! A radix tree (RadixAttention, <https://arxiv.org/abs/2312.07104>) whose edges are blocks of `grid` tokens, cut at
//! absolute positions `0, grid, 2 * grid, ...` (the blocks of PagedAttention, <https://arxiv.org/abs/2309.06180>).
//! Payloads are immutable and shared with the running sequences that use them.

mod edges;
mod evict;
mod ghosts;
mod hit;
mod nodes;
#[cfg(test)]
mod tests;
mod why;

use std::cmp::Reverse;
use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use crate::ids::TokenId;

use ghosts::Ghosts;
pub use hit::{Hit, Miss, Published};
use nodes::{Node, NodeId, Nodes};

/// What a payload weighs. Asked once, when the payload is published.
pub trait Weigh {
    /// Bytes of memory.
    fn bytes(&self) -> usize;
}

/// Sequences whose payloads may be exchanged: only a text of the same namespace can hit.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Namespace {
    /// The salt of a tenant; empty for the one namespace of all who gave none.
    pub tenant: String,
    /// Of everything else that makes keys and values differ: what the policy needs, the number type, the grid.
    pub fingerprint: u64,
}

/// A node without children, in the order of eviction. A chain is used as a whole, so a parent is never older than its
/// child; of the same age the deeper one comes first, and thus every parent comes after its children.
type Age = (u64, Reverse<usize>, NodeId);

/// Payloads by token prefix, under a budget of bytes.
///
/// What goes over the budget is evicted from the ends of the chains, least recently used first. A payload that
/// somebody else holds stays, and so does everything it continues.
#[derive(Debug)]
pub struct PrefixTree<P> {
    grid: usize,
    budget: usize,
    clock: u64,
    bytes: usize,
    blocks: usize,
    nodes: Nodes<P>,
    roots: HashMap<Namespace, NodeId>,
    leaves: BTreeSet<Age>,
    ghosts: Ghosts,
}

impl<P: Weigh> PrefixTree<P> {
    /// An empty tree of blocks of `grid` tokens that keeps `budget_bytes` of payloads.
    ///
    /// # Panics
    /// If `grid` is 0.
    pub fn new(grid: usize, budget_bytes: usize) -> Self {
        assert!(grid > 0, "a block has at least one token");
        PrefixTree {
            grid,
            budget: budget_bytes,
            clock: 0,
            bytes: 0,
            blocks: 0,
            nodes: Nodes::default(),
            roots: HashMap::new(),
            leaves: BTreeSet::new(),
            ghosts: Ghosts::default(),
        }
    }

    /// The payloads of the longest chain of whole blocks that `tokens` begins with, which count as used.
    ///
    /// The last token of a prompt must be computed to know what follows it: pass a prompt without it.
    pub fn lookup(&mut self, namespace: &Namespace, tokens: &[TokenId]) -> Hit<P> {
        let Some(&root) = self.roots.get(namespace) else {
            return Hit {
                blocks: Vec::new(),
                missed: self.why_cold(namespace, tokens),
            };
        };
        let now = self.tick();
        let mut blocks = Vec::new();
        let mut at = root;
        let mut missed = None;
        for block in tokens.chunks(self.grid) {
            if block.len() < self.grid {
                missed = Some(self.too_short(block));
                break;
            }
            let child = self.nodes[at].edges.get(block);
            let Some((child, payload)) = child.and_then(|id| Some((id, self.nodes[id].share()?)))
            else {
                missed = Some(self.why_missed(at, block));
                break;
            };
            blocks.push(payload);
            self.touch(child, now);
            at = child;
        }
        Hit { blocks, missed }
    }

    /// The payload of the longest prefix of `tokens` that has one, and how many tokens it covers. It counts as used,
    /// with all that it continues.
    pub fn lookup_deepest(
        &mut self,
        namespace: &Namespace,
        tokens: &[TokenId],
    ) -> Option<(usize, Arc<P>)> {
        let mut at = *self.roots.get(namespace)?;
        let now = self.tick();
        let mut deepest = None;
        for block in tokens.chunks_exact(self.grid) {
            let Some(child) = self.nodes[at].edges.get(block) else {
                break;
            };
            // Nodes without a payload have no age to speak of, so those below the deepest payload do not matter.
            self.touch(child, now);
            at = child;
            let node = &self.nodes[at];
            if let Some(payload) = node.share() {
                deepest = Some((node.depth * self.grid, payload));
            }
        }
        deepest
    }

    /// Shares the payloads of a text, one per block, then evicts down to the budget. A block that is there already
    /// keeps its payload. What the caller holds is not evicted: call [`trim`](Self::trim) after letting go. A payload
    /// that is published under two texts counts as held by each of them.
    ///
    /// # Panics
    /// If there is not exactly one payload per `grid` tokens: they would be found under another text than their own.
    pub fn publish(
        &mut self,
        namespace: &Namespace,
        tokens: &[TokenId],
        blocks: &[Arc<P>],
    ) -> Published {
        assert_eq!(
            tokens.len(),
            blocks.len() * self.grid,
            "every payload is of one whole block"
        );
        let path = self.grow(namespace, tokens);
        let added = path
            .iter()
            .zip(blocks)
            .filter(|&(&id, payload)| self.fill(id, payload))
            .count();
        Published {
            added,
            evicted_bytes: self.trim(),
        }
    }

    /// Shares a payload that stands for the whole of `tokens`, as a snapshot does; then evicts down to the budget. If
    /// that text has a payload already, that one is kept.
    ///
    /// # Panics
    /// If `tokens` is not a number of whole blocks, at least one.
    pub fn publish_at(
        &mut self,
        namespace: &Namespace,
        tokens: &[TokenId],
        payload: Arc<P>,
    ) -> Published {
        assert!(
            !tokens.is_empty() && tokens.len().is_multiple_of(self.grid),
            "a snapshot stands at the end of a whole block"
        );
        let path = self.grow(namespace, tokens);
        let added = path.last().is_some_and(|&id| self.fill(id, &payload));
        drop(payload);
        Published {
            added: usize::from(added),
            evicted_bytes: self.trim(),
        }
    }

    /// Bytes of all payloads in the tree.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Payloads in the tree.
    pub fn blocks(&self) -> usize {
        self.blocks
    }

    /// Payloads that somebody besides the tree holds. Walks the whole tree.
    pub fn in_use(&self) -> usize {
        self.nodes.iter().filter(|node| node.is_held()).count()
    }

    /// Drops everything. Those who hold a payload keep it.
    pub fn clear(&mut self) {
        *self = PrefixTree {
            clock: self.clock,
            ..PrefixTree::new(self.grid, self.budget)
        };
    }

    /// The nodes of every block of `tokens`, made where they are missing, and marked as used.
    fn grow(&mut self, namespace: &Namespace, tokens: &[TokenId]) -> Vec<NodeId> {
        if tokens.is_empty() {
            return Vec::new();
        }
        let now = self.tick();
        let mut at = match self.roots.get(namespace) {
            Some(&root) => root,
            None => {
                let root = self.nodes.insert(Node::root(namespace));
                self.roots.insert(namespace.clone(), root);
                root
            }
        };
        let mut path = Vec::with_capacity(tokens.len() / self.grid);
        for block in tokens.chunks_exact(self.grid) {
            at = match self.nodes[at].edges.get(block) {
                Some(child) => child,
                None => self.sprout(at, block),
            };
            self.touch(at, now);
            path.push(at);
        }
        path
    }

    /// A new node below `parent`, without a payload yet.
    fn sprout(&mut self, parent: NodeId, block: &[TokenId]) -> NodeId {
        let above = &self.nodes[parent];
        if above.edges.is_empty() {
            self.leaves.remove(&above.age(parent));
        }
        let node = Node::below(above, parent, block);
        let tokens = Arc::clone(&node.tokens);
        let child = self.nodes.insert(node);
        self.nodes[parent].edges.insert(tokens, child);
        child
    }

    /// Gives a node its payload unless it has one.
    fn fill(&mut self, id: NodeId, payload: &Arc<P>) -> bool {
        let node = &mut self.nodes[id];
        if node.payload.is_some() {
            return false;
        }
        let bytes = payload.bytes();
        node.payload = Some((Arc::clone(payload), bytes));
        self.bytes += bytes;
        self.blocks += 1;
        if node.edges.is_empty() {
            self.leaves.insert(node.age(id));
        }
        true
    }

    fn touch(&mut self, id: NodeId, now: u64) {
        let node = &mut self.nodes[id];
        let was_leaf = self.leaves.remove(&node.age(id));
        node.used = now;
        if was_leaf {
            self.leaves.insert(node.age(id));
        }
    }

    fn tick(&mut self) -> u64 {
        self.clock += 1;
        self.clock
    }
}
