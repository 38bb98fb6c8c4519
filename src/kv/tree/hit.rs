//! The answers of a prefix tree.

use std::fmt;
use std::sync::Arc;

/// What was found for a text.
#[derive(Debug, Clone)]
pub struct Hit<P> {
    /// The payloads of the text's first blocks, in order.
    pub blocks: Vec<Arc<P>>,
    /// Why not more; `None` if the whole text was covered.
    pub missed: Option<Miss>,
}

/// Why a hit ended where it did. Positions count tokens from the start of the text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Miss {
    /// Nothing is there for this tenant, nor for another under this policy.
    Cold,
    /// Something is there for other tenants only.
    OtherTenant,
    /// Something is there for the tenant, read under a policy whose caches cannot be exchanged with this one's.
    OtherPolicy,
    /// The prefix cache is off.
    Off,
    /// What is there has another token at position `at`.
    Diverged {
        /// The first differing position, seen from the most similar text.
        at: usize,
    },
    /// What is there agrees and stops before position `at`.
    Ended {
        /// The first position that nobody published.
        at: usize,
    },
    /// The block at position `at` was there and had to make room.
    Evicted {
        /// The block's first position.
        at: usize,
    },
    /// The rest of the text is less than a block.
    TooShort {
        /// Tokens left over.
        left: usize,
        /// Tokens of a block.
        grid: usize,
    },
}

impl Miss {
    /// One word of few, for a metric's label.
    pub fn name(&self) -> &'static str {
        match self {
            Miss::Cold => "cold",
            Miss::OtherTenant => "other_tenant",
            Miss::OtherPolicy => "other_policy",
            Miss::Off => "off",
            Miss::Diverged { .. } => "diverged",
            Miss::Ended { .. } => "ended",
            Miss::Evicted { .. } => "evicted",
            Miss::TooShort { .. } => "too_short",
        }
    }
}

impl fmt::Display for Miss {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Miss::Cold => f.write_str("nothing is cached yet"),
            Miss::OtherTenant => f.write_str("what is cached belongs to other keys"),
            Miss::OtherPolicy => {
                f.write_str("what is cached was read under a kv policy that reads otherwise")
            }
            Miss::Off => f.write_str("the prefix cache is off (kv.prefix_bytes is 0)"),
            Miss::Diverged { at } => write!(f, "the text differs from token {at} on"),
            Miss::Ended { at } => write!(f, "nothing is cached from token {at} on"),
            Miss::Evicted { at } => write!(f, "token {at} and on were evicted"),
            Miss::TooShort { left, grid } => {
                write!(f, "the last {left} tokens are less than a block of {grid}")
            }
        }
    }
}

/// What publishing did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Published {
    /// Payloads that were not there before.
    pub added: usize,
    /// Bytes that had to make room.
    pub evicted_bytes: usize,
}
