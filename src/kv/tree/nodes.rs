//! The nodes of a prefix tree, by number: a chain of thousands of blocks is walked and dropped without recursion.

use std::cmp::Reverse;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::ops::{Index, IndexMut};
use std::sync::Arc;

use crate::ids::TokenId;

use super::edges::Edges;
use super::{Age, Namespace};

/// The number of a node. Numbers of removed nodes are given out again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct NodeId(pub(super) usize);

/// What a node hangs on.
#[derive(Debug)]
pub(super) enum Above {
    /// It is the root of a namespace.
    Nothing(Namespace),
    /// It continues the prefix of another node.
    Node(NodeId),
}

/// The end of one prefix.
#[derive(Debug)]
pub(super) struct Node<P> {
    pub(super) above: Above,
    /// Blocks from the start of the text.
    pub(super) depth: usize,
    /// The last block of the prefix.
    pub(super) tokens: Arc<[TokenId]>,
    /// Of the namespace and the whole prefix.
    pub(super) hash: u64,
    pub(super) edges: Edges,
    /// With its weight in bytes when it came.
    pub(super) payload: Option<(Arc<P>, usize)>,
    /// When it was last used.
    pub(super) used: u64,
}

impl<P> Node<P> {
    pub(super) fn root(namespace: &Namespace) -> Self {
        Node {
            above: Above::Nothing(namespace.clone()),
            depth: 0,
            tokens: Arc::default(),
            hash: seed(namespace),
            edges: Edges::default(),
            payload: None,
            used: 0,
        }
    }

    /// A node that continues `parent`, whose number is `id`.
    pub(super) fn below(parent: &Node<P>, id: NodeId, block: &[TokenId]) -> Self {
        Node {
            above: Above::Node(id),
            depth: parent.depth + 1,
            tokens: block.into(),
            hash: hash_below(parent.hash, block),
            edges: Edges::default(),
            payload: None,
            used: parent.used,
        }
    }

    pub(super) fn age(&self, id: NodeId) -> Age {
        (self.used, Reverse(self.depth), id)
    }

    pub(super) fn share(&self) -> Option<Arc<P>> {
        self.payload
            .as_ref()
            .map(|(payload, _)| Arc::clone(payload))
    }

    /// Whether somebody besides the tree holds the payload.
    pub(super) fn is_held(&self) -> bool {
        self.payload
            .as_ref()
            .is_some_and(|(payload, _)| Arc::strong_count(payload) > 1)
    }
}

/// The hash of an empty text.
pub(super) fn seed(namespace: &Namespace) -> u64 {
    let mut hasher = DefaultHasher::new();
    namespace.hash(&mut hasher);
    hasher.finish()
}

/// The hash of a text that goes on with `block` where the text with the hash `above` stops.
pub(super) fn hash_below(above: u64, block: &[TokenId]) -> u64 {
    let mut hasher = DefaultHasher::new();
    above.hash(&mut hasher);
    block.hash(&mut hasher);
    hasher.finish()
}

#[derive(Debug)]
pub(super) struct Nodes<P> {
    slots: Vec<Option<Node<P>>>,
    free: Vec<NodeId>,
}

impl<P> Default for Nodes<P> {
    fn default() -> Self {
        Nodes {
            slots: Vec::new(),
            free: Vec::new(),
        }
    }
}

impl<P> Nodes<P> {
    pub(super) fn insert(&mut self, node: Node<P>) -> NodeId {
        if let Some(id) = self.free.pop() {
            self.slots[id.0] = Some(node);
            return id;
        }
        self.slots.push(Some(node));
        NodeId(self.slots.len() - 1)
    }

    pub(super) fn remove(&mut self, id: NodeId) -> Node<P> {
        self.free.push(id);
        self.slots[id.0].take().expect(LINKED)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Node<P>> {
        self.slots.iter().flatten()
    }
}

/// Why indexing cannot fail: a node goes out of its parent's edges, the roots and the leaves when it is removed.
const LINKED: &str = "only numbers of present nodes are kept";

impl<P> Index<NodeId> for Nodes<P> {
    type Output = Node<P>;

    fn index(&self, id: NodeId) -> &Node<P> {
        self.slots[id.0].as_ref().expect(LINKED)
    }
}

impl<P> IndexMut<NodeId> for Nodes<P> {
    fn index_mut(&mut self, id: NodeId) -> &mut Node<P> {
        self.slots[id.0].as_mut().expect(LINKED)
    }
}
