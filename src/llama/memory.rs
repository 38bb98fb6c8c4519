//! Where caches go when no request is at work on them: prefixes that prompts share, snapshots of evicted state, and
//! parked sessions.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::PathBuf;
use std::sync::Arc;

use tch::Kind;

use super::cache::SequenceCache;
use super::kv_rows::Place;
use super::node::Node;
use super::{Compute, ModelConfig};
use crate::ids::TokenId;
use crate::kernels::Precision;
use crate::kv::tree::{Miss, Namespace, PrefixTree, Weigh};
use crate::kv::{KvDtype, KvShape, Policy, Reading, RowKind};
use crate::store::state_file::Sha256Hex;

/// How the caches of a model are kept.
#[derive(Debug, Clone)]
pub struct KvMemory {
    /// The type of keys and values.
    pub dtype: KvDtype,
    /// Tokens of a block that prompts share: the prefill chunk.
    pub grid: usize,
    /// The most bytes of shared blocks and snapshots that no request uses.
    pub prefix_bytes: usize,
    /// The most bytes of parked sessions in memory.
    pub parked_bytes: usize,
    /// Where spilled rows and parked sessions go; without it, to the system's folder for temporary files.
    pub folder: Option<PathBuf>,
    /// The hash of the model's file, which tells its states from others'.
    pub model: Sha256Hex,
}

impl Default for KvMemory {
    fn default() -> Self {
        KvMemory {
            dtype: KvDtype::Auto,
            grid: 512,
            prefix_bytes: 0,
            parked_bytes: usize::MAX,
            folder: None,
            model: Sha256Hex::of_content(b""),
        }
    }
}

impl KvMemory {
    /// What a token of a model of this shape costs.
    pub fn kv_shape(&self, config: &ModelConfig, compute: Compute) -> KvShape {
        let dim = config.head_dim;
        let bytes = self.place(compute).pair_bytes(dim);
        config.kv_shape(bytes.div_ceil(2 * dim))
    }

    /// Where rows lie, and in which type.
    pub(super) fn place(&self, compute: Compute) -> Place {
        let float = match (self.dtype, compute.kind) {
            (KvDtype::Float32, _) => RowKind::Float32,
            // Beside int8 rows, 2 bytes are full enough a precision for the newest.
            (KvDtype::Bfloat16 | KvDtype::Int8, _) | (_, Kind::BFloat16) => RowKind::Bfloat16,
            // Half of what a step reads at some depth, and as exact as the rest of it.
            (KvDtype::Auto, _) => match compute.decoding {
                Precision::Float32 => RowKind::Float32,
                _ => RowKind::Bfloat16,
            },
        };
        Place {
            float,
            int8: self.dtype == KvDtype::Int8 && !compute.device.is_cuda(),
            device: compute.device,
        }
    }
}

/// An evicted state at a position of the chunk grid.
#[derive(Debug)]
pub(super) struct Snapshot {
    pub(super) cache: SequenceCache,
}

impl Weigh for Node {
    fn bytes(&self) -> usize {
        Node::bytes(self)
    }
}

impl Weigh for Snapshot {
    fn bytes(&self) -> usize {
        self.cache.report().bytes
    }
}

/// What prompts share.
#[derive(Debug)]
pub(super) struct Prefixes {
    grid: usize,
    blocks: PrefixTree<Node>,
    snapshots: PrefixTree<Snapshot>,
}

/// A sequence's part in the sharing.
#[derive(Debug, Clone)]
pub(super) struct Share {
    prompt: Arc<[TokenId]>,
    namespace: Namespace,
    reading: Reading,
    /// The newest state at a grid position, in bounded reading.
    snapshot: Option<(usize, Arc<Snapshot>)>,
}

impl Prefixes {
    pub(super) fn new(memory: &KvMemory) -> Option<Self> {
        (memory.prefix_bytes > 0).then(|| Prefixes {
            grid: memory.grid,
            // Blocks are exact and serve every policy that reads alike; snapshots serve one.
            blocks: PrefixTree::new(memory.grid, memory.prefix_bytes / 4 * 3),
            snapshots: PrefixTree::new(memory.grid, memory.prefix_bytes / 4),
        })
    }

    /// What `prompt` can start from: it fills `cache`, and says what will be shared in turn, and why no more was there.
    pub(super) fn enter(
        &mut self,
        cache: &mut SequenceCache,
        prompt: &Arc<[TokenId]>,
        tenant: &str,
    ) -> (Share, Option<Miss>) {
        let policy = cache.policy();
        let share = Share {
            prompt: prompt.clone(),
            namespace: namespace(tenant, policy),
            reading: policy.reading,
            snapshot: None,
        };
        // The observed end of a prompt and its last token are always computed: they are this request's own.
        let window = policy.need().window().max(1);
        let usable = prompt.len().saturating_sub(window) / self.grid * self.grid;
        let tokens = &prompt[..usable];
        let missed = match share.reading {
            Reading::Exact => {
                let hit = self.blocks.lookup(&share.namespace, tokens);
                cache.adopt(hit.blocks);
                hit.missed
            }
            Reading::Streaming => {
                if let Some((_, snapshot)) = self.snapshots.lookup_deepest(&share.namespace, tokens)
                {
                    *cache = snapshot.cache.clone();
                }
                self.snapshots.why_left(&share.namespace, tokens)
            }
        };
        let short = || Miss::TooShort {
            left: prompt.len(),
            grid: self.grid,
        };
        (share, missed.or_else(|| (usable == 0).then(short)))
    }

    /// After a row of `share`'s prompt that ended at `at`.
    pub(super) fn pass(&self, share: &mut Share, cache: &SequenceCache, at: usize) {
        let inside = at > 0 && at < share.prompt.len() && at.is_multiple_of(self.grid);
        if share.reading == Reading::Streaming && inside {
            let snapshot = Snapshot {
                cache: cache.clone(),
            };
            share.snapshot = Some((at, Arc::new(snapshot)));
        }
    }

    /// A prompt was read to its end: what it computed is there for others.
    pub(super) fn publish(&mut self, share: Share, blocks: &[Arc<Node>]) {
        // A block without its own score history cannot be the end of a hit.
        let whole = blocks.iter().take_while(|node| !node.history.is_empty());
        let count = whole.count();
        if count > 0 && blocks.iter().all(|node| node.len == self.grid) {
            let tokens = &share.prompt[..count * self.grid];
            self.blocks
                .publish(&share.namespace, tokens, &blocks[..count]);
        }
        if let Some((at, snapshot)) = share.snapshot {
            self.snapshots
                .publish_at(&share.namespace, &share.prompt[..at], snapshot);
        }
    }

    /// Brings both down to their budgets, once the sequences that held blocks have ended.
    pub(super) fn trim(&mut self) {
        let freed = self.blocks.trim() + self.snapshots.trim();
        if freed > 0 {
            tracing::debug!(bytes = freed, "shared prefixes freed");
        }
    }

    pub(super) fn bytes(&self) -> usize {
        self.blocks.bytes() + self.snapshots.bytes()
    }

    /// Blocks that running sequences hold.
    pub(super) fn in_use(&self) -> usize {
        self.blocks.in_use()
    }

    pub(super) fn blocks(&self) -> usize {
        self.blocks.blocks() + self.snapshots.blocks()
    }
}

/// Who shares with whom: blocks between policies that read prompts alike, snapshots within one policy.
fn namespace(tenant: &str, policy: &Policy) -> Namespace {
    let mut hasher = DefaultHasher::new();
    match policy.reading {
        Reading::Exact => format!("{:?}", policy.need()).hash(&mut hasher),
        Reading::Streaming => policy.fingerprint().hash(&mut hasher),
    }
    Namespace {
        tenant: tenant.to_owned(),
        fingerprint: hasher.finish(),
    }
}
