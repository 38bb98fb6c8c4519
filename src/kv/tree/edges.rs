//! The ways down from one node.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;

use crate::ids::TokenId;

use super::nodes::NodeId;

/// Children by the tokens of their block, compared token by token. Sorted, so that the child which shares the most
/// with a text is next to where the text would be.
#[derive(Debug, Default)]
pub(super) struct Edges(BTreeMap<Arc<[TokenId]>, NodeId>);

impl Edges {
    pub(super) fn get(&self, block: &[TokenId]) -> Option<NodeId> {
        self.0.get(block).copied()
    }

    pub(super) fn insert(&mut self, block: Arc<[TokenId]>, child: NodeId) {
        self.0.insert(block, child);
    }

    pub(super) fn remove(&mut self, block: &[TokenId]) {
        self.0.remove(block);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// How many tokens `block` shares with the child that is most like it; `None` without children.
    pub(super) fn common(&self, block: &[TokenId]) -> Option<usize> {
        let before = (Bound::Unbounded, Bound::Included(block));
        let after = (Bound::Included(block), Bound::Unbounded);
        let last = self.0.range::<[TokenId], _>(before).next_back();
        let first = self.0.range::<[TokenId], _>(after).next();
        let same = |child: &[TokenId]| block.iter().zip(child).take_while(|(a, b)| a == b).count();
        last.into_iter()
            .chain(first)
            .map(|(child, _)| same(child))
            .max()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn the_neighbours_share_as_much_as_any_child(
            children in prop::collection::vec(prop::collection::vec(0u32..3, 4), 0..12),
            block in prop::collection::vec(0u32..3, 4),
        ) {
            let mut edges = Edges::default();
            for (id, child) in children.iter().enumerate() {
                edges.insert(child.as_slice().into(), NodeId(id));
            }
            let shared = |child: &Vec<u32>| (0..=4).rev().find(|&n| child[..n] == block[..n]);
            prop_assert_eq!(edges.common(&block), children.iter().filter_map(shared).max());
        }
    }
}
