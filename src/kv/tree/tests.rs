//! The tree against a table of prefixes that is searched from end to end.

use std::collections::BTreeMap;
use std::ops::Range;

use proptest::prelude::*;

use super::*;

const GRID: usize = 2;

/// A payload that can be told from every other.
#[derive(Debug)]
struct Block {
    id: usize,
    bytes: usize,
}

impl Weigh for Block {
    fn bytes(&self) -> usize {
        self.bytes
    }
}

#[derive(Debug, Clone, Copy)]
struct Entry {
    id: usize,
    bytes: usize,
    used: usize,
}

/// Every payload by namespace and whole prefix.
#[derive(Debug, Default)]
struct Model {
    now: usize,
    entries: BTreeMap<(usize, Vec<TokenId>), Entry>,
}

impl Model {
    fn bytes(&self) -> usize {
        self.entries.values().map(|entry| entry.bytes).sum()
    }

    fn touch(&mut self, space: usize, text: &[TokenId]) {
        self.now += 1;
        for ((at, prefix), entry) in &mut self.entries {
            if *at == space && text.starts_with(prefix) {
                entry.used = self.now;
            }
        }
    }

    fn add(&mut self, space: usize, prefix: &[TokenId], block: &Block) -> usize {
        let before = self.entries.len();
        let entry = Entry {
            id: block.id,
            bytes: block.bytes,
            used: self.now,
        };
        let key = (space, prefix.to_vec());
        self.entries.entry(key).or_insert(entry);
        self.entries.len() - before
    }

    fn lookup(&mut self, space: usize, text: &[TokenId]) -> Vec<usize> {
        let ids: Vec<usize> = (1..=text.len() / GRID)
            .map_while(|blocks| self.entries.get(&(space, text[..blocks * GRID].to_vec())))
            .map(|entry| entry.id)
            .collect();
        self.touch(space, &text[..ids.len() * GRID]);
        ids
    }

    fn deepest(&mut self, space: usize, text: &[TokenId]) -> Option<(usize, usize)> {
        let found = (1..=text.len() / GRID).rev().find_map(|blocks| {
            let prefix = text[..blocks * GRID].to_vec();
            let entry = self.entries.get(&(space, prefix))?;
            Some((blocks * GRID, entry.id))
        })?;
        self.touch(space, &text[..found.0]);
        Some(found)
    }

    fn shrink_to(&mut self, bytes: usize, held: &[usize]) -> usize {
        let before = self.bytes();
        while self.bytes() > bytes {
            let is_leaf = |key: &&(usize, Vec<TokenId>)| {
                let longer = |other: &&(usize, Vec<TokenId>)| {
                    other.0 == key.0 && other.1.len() > key.1.len() && other.1.starts_with(&key.1)
                };
                !self.entries.keys().any(|other| longer(&other))
            };
            let oldest = self
                .entries
                .iter()
                .filter(|(key, entry)| is_leaf(key) && !held.contains(&entry.id))
                .min_by_key(|(_, entry)| entry.used)
                .map(|(key, _)| key.clone());
            let Some(oldest) = oldest else { break };
            self.entries.remove(&oldest);
        }
        before - self.bytes()
    }
}

#[derive(Debug, Clone)]
enum Step {
    /// Looks a text up and holds what was found, if asked to.
    Lookup(usize, Vec<TokenId>, bool),
    Deepest(usize, Vec<TokenId>, bool),
    /// Publishes payloads of these bytes, and holds them, if asked to.
    Publish(usize, Vec<TokenId>, usize, bool),
    PublishAt(usize, Vec<TokenId>, usize, bool),
    /// Lets go of the holding at this place, if there is one.
    Release(usize),
    ShrinkTo(usize),
    Clear,
}

fn step(lengths: Range<usize>) -> impl Strategy<Value = Step> {
    let text = prop::collection::vec(0u32..2, lengths);
    let whole = text.clone().prop_map(|mut text| {
        text.truncate(text.len() / GRID * GRID);
        text
    });
    let some = whole.clone().prop_filter("not empty", |t| !t.is_empty());
    let (space, bytes, hold) = (0usize..3, 0usize..6, any::<bool>());
    prop_oneof![
        8 => (space.clone(), text.clone(), hold).prop_map(|(s, t, h)| Step::Lookup(s, t, h)),
        3 => (space.clone(), text, hold).prop_map(|(s, t, h)| Step::Deepest(s, t, h)),
        8 => (space.clone(), whole, bytes.clone(), hold)
            .prop_map(|(s, t, b, h)| Step::Publish(s, t, b, h)),
        3 => (space, some, bytes, hold).prop_map(|(s, t, b, h)| Step::PublishAt(s, t, b, h)),
        8 => (0usize..8).prop_map(Step::Release),
        1 => (0usize..20).prop_map(Step::ShrinkTo),
        1 => Just(Step::Clear),
    ]
}

fn namespace(index: usize) -> Namespace {
    Namespace {
        tenant: ["", "a", "a"][index].to_owned(),
        fingerprint: index as u64 / 2,
    }
}

fn ids(blocks: &[Arc<Block>]) -> Vec<usize> {
    blocks.iter().map(|block| block.id).collect()
}

/// The tree, its model, and what running sequences hold.
struct Pair {
    tree: PrefixTree<Block>,
    model: Model,
    budget: usize,
    held: Vec<Vec<Arc<Block>>>,
    made: usize,
}

impl Pair {
    fn make(&mut self, bytes: usize) -> Arc<Block> {
        self.made += 1;
        Arc::new(Block {
            id: self.made,
            bytes,
        })
    }

    fn keep(&mut self, blocks: Vec<Arc<Block>>, hold: bool) {
        if hold {
            self.held.push(blocks);
        }
    }

    fn held(&self) -> Vec<usize> {
        self.held.iter().flat_map(|blocks| ids(blocks)).collect()
    }

    fn take(&mut self, step: Step) -> Result<(), TestCaseError> {
        let held = self.held();
        match step {
            Step::Lookup(space, text, hold) => {
                let hit = self.tree.lookup(&namespace(space), &text);
                prop_assert_eq!(ids(&hit.blocks), self.model.lookup(space, &text));
                let covered = hit.blocks.len() * GRID;
                prop_assert_eq!(hit.missed.is_none(), covered == text.len());
                self.keep(hit.blocks, hold);
            }
            Step::Deepest(space, text, hold) => {
                let found = self.tree.lookup_deepest(&namespace(space), &text);
                let told = found.as_ref().map(|(covered, block)| (*covered, block.id));
                prop_assert_eq!(told, self.model.deepest(space, &text));
                self.keep(found.into_iter().map(|(_, block)| block).collect(), hold);
            }
            Step::Publish(space, text, bytes, hold) => {
                let count = text.len() / GRID;
                let blocks: Vec<Arc<Block>> = (0..count).map(|n| self.make(bytes + n)).collect();
                let told = self.tree.publish(&namespace(space), &text, &blocks);
                self.model.touch(space, &text);
                let added = (1..=count)
                    .map(|n| self.model.add(space, &text[..n * GRID], &blocks[n - 1]))
                    .sum();
                let held = [held, ids(&blocks)].concat();
                let evicted_bytes = self.model.shrink_to(self.budget, &held);
                prop_assert_eq!(
                    told,
                    Published {
                        added,
                        evicted_bytes
                    }
                );
                self.keep(blocks, hold);
            }
            Step::PublishAt(space, text, bytes, hold) => {
                let block = self.make(bytes);
                let mine: Vec<Arc<Block>> = hold.then(|| Arc::clone(&block)).into_iter().collect();
                self.model.touch(space, &text);
                let added = self.model.add(space, &text, &block);
                let told = self.tree.publish_at(&namespace(space), &text, block);
                let held = [held, ids(&mine)].concat();
                let evicted_bytes = self.model.shrink_to(self.budget, &held);
                prop_assert_eq!(
                    told,
                    Published {
                        added,
                        evicted_bytes
                    }
                );
                self.keep(mine, hold);
            }
            Step::Release(index) => {
                if index < self.held.len() {
                    self.held.remove(index);
                }
            }
            Step::ShrinkTo(bytes) => {
                let freed = self.model.shrink_to(bytes, &held);
                prop_assert_eq!(self.tree.shrink_to(bytes), freed);
            }
            Step::Clear => {
                self.tree.clear();
                self.model.entries.clear();
            }
        }
        // What this step published or released is held no more.
        let held = self.held();
        let freed = self.model.shrink_to(self.budget, &held);
        prop_assert_eq!(self.tree.trim(), freed);
        self.compare(&held)
    }

    fn compare(&self, held: &[usize]) -> Result<(), TestCaseError> {
        let entries = &self.model.entries;
        let in_use = entries.values().filter(|entry| held.contains(&entry.id));
        prop_assert_eq!(self.tree.bytes(), self.model.bytes());
        prop_assert_eq!(self.tree.blocks(), entries.len());
        prop_assert_eq!(self.tree.in_use(), in_use.count());
        prop_assert!(!held.is_empty() || self.tree.bytes() <= self.budget);
        let nodes = self.tree.nodes.iter().count();
        prop_assert!(
            !entries.is_empty() || nodes == 0,
            "{nodes} nodes lead nowhere"
        );
        Ok(())
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn the_tree_does_what_the_table_does(
        budget in 0usize..40,
        steps in prop::collection::vec(step(0..8), 0..80),
    ) {
        let mut pair = Pair {
            tree: PrefixTree::new(GRID, budget),
            model: Model::default(),
            budget,
            held: Vec::new(),
            made: 0,
        };
        for step in steps {
            pair.take(step)?;
        }
        drop(pair.held);
        pair.tree.shrink_to(0);
        prop_assert_eq!(pair.tree.bytes(), 0);
    }
}

fn tree_with(texts: &[&[TokenId]]) -> PrefixTree<Block> {
    let mut tree = PrefixTree::new(GRID, 100);
    for text in texts {
        let blocks: Vec<_> = (0..text.len() / GRID)
            .map(|id| Arc::new(Block { id, bytes: 1 }))
            .collect();
        tree.publish(&namespace(0), text, &blocks);
    }
    tree
}

#[test]
fn a_miss_says_where_and_why() {
    let mut tree = tree_with(&[&[1, 2, 3, 4], &[1, 2, 7, 7]]);
    for (space, text, missed) in [
        (1, &[1, 2][..], Some(Miss::OtherTenant)),
        (1, &[], None),
        (1, &[1], Some(Miss::TooShort { left: 1, grid: 2 })),
        (0, &[1, 2, 3, 4], None),
        (0, &[1, 2, 3], Some(Miss::TooShort { left: 1, grid: 2 })),
        (0, &[1, 2, 3, 5], Some(Miss::Diverged { at: 3 })),
        (0, &[1, 2, 5, 4], Some(Miss::Diverged { at: 2 })),
        (0, &[2, 2, 3, 4], Some(Miss::Diverged { at: 0 })),
        (0, &[1, 2, 3, 4, 5, 6], Some(Miss::Ended { at: 4 })),
    ] {
        assert_eq!(
            tree.lookup(&namespace(space), text).missed,
            missed,
            "{text:?}"
        );
    }
    for (tenant, fingerprint, missed) in [("", 5, Miss::OtherPolicy), ("b", 5, Miss::Cold)] {
        let space = Namespace {
            tenant: tenant.to_owned(),
            fingerprint,
        };
        assert_eq!(tree.lookup(&space, &[1, 2]).missed, Some(missed));
        assert_eq!(tree.why_left(&space, &[1, 2]), Some(missed));
    }
    assert_eq!(
        tree.why_left(&namespace(0), &[1, 2, 3, 5]),
        Some(Miss::Diverged { at: 3 })
    );
    assert_eq!(tree.why_left(&namespace(0), &[1, 2, 3, 4]), None);
    tree.lookup(&namespace(0), &[1, 2, 7, 7]);
    tree.shrink_to(2);
    let missed = tree.lookup(&namespace(0), &[1, 2, 3, 4]).missed;
    assert_eq!(missed, Some(Miss::Evicted { at: 2 }));
    tree.shrink_to(0);
    let missed = tree.lookup(&namespace(0), &[1, 2, 3, 4]).missed;
    assert_eq!(missed, Some(Miss::Evicted { at: 0 }));
    assert_eq!(missed.unwrap().to_string(), "token 0 and on were evicted");
}

#[test]
fn a_holder_at_the_end_keeps_the_whole_chain() {
    let mut tree = tree_with(&[&[1, 2, 3, 4, 5, 6], &[1, 2, 7, 7]]);
    let end = tree.lookup(&namespace(0), &[1, 2, 3, 4, 5, 6]).blocks.pop();
    assert_eq!((tree.shrink_to(0), tree.bytes()), (1, 3));
    drop(end);
    assert_eq!((tree.shrink_to(0), tree.bytes()), (3, 0));
}

#[test]
fn a_chain_of_ten_thousand_blocks_goes_from_its_end() {
    let text: Vec<TokenId> = (0..20_000).collect();
    let mut tree = tree_with(&[]);
    let blocks: Vec<_> = (0..10_000)
        .map(|id| Arc::new(Block { id, bytes: 1 }))
        .collect();
    tree.publish(&namespace(0), &text, &blocks);
    assert_eq!((tree.trim(), tree.in_use()), (0, 10_000));
    drop(blocks);
    assert_eq!(tree.trim(), 9_900);
    let hit = tree.lookup(&namespace(0), &text);
    assert_eq!(ids(&hit.blocks), (0..100).collect::<Vec<_>>());
    assert_eq!(hit.missed, Some(Miss::Evicted { at: 200 }));
}
