//! Nothing is evicted, little is read: the pages whose bounds promise most attention to the query at hand
//! (<https://arxiv.org/abs/2406.10774>).

use super::{BadPolicy, Policy};
use crate::kv::PolicyKind;
use serde::{Deserialize, Serialize};

/// How pages are chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Select {
    /// Positions of a page.
    pub page: usize,
    /// Pages that a query attends to at most.
    pub pages: usize,
    /// The first layers read everything: their attention is spread out.
    pub full_layers: usize,
}

/// As published.
const PAGE: usize = 16;
const FULL_LAYERS: usize = 2;
const LEAST_PAGES: usize = 3;

impl Policy {
    /// Reads `capacity` positions a step, in whole pages, and keeps all of them.
    pub fn quest(capacity: usize) -> Result<Self, BadPolicy> {
        if capacity == 0 {
            return Err(BadPolicy::Empty(PolicyKind::Quest));
        }
        Ok(Policy {
            kind: PolicyKind::Quest,
            select: Some(Select {
                page: PAGE,
                pages: capacity.div_ceil(PAGE).max(LEAST_PAGES),
                full_layers: FULL_LAYERS,
            }),
            ..Policy::full()
        })
    }
}

impl Select {
    /// The pages to read, ascending: the newest always, of the rest those with the highest bounds.
    pub fn choose(&self, bounds: &[f32]) -> Vec<usize> {
        let Some(newest) = bounds.len().checked_sub(1) else {
            return Vec::new();
        };
        let mut ranked: Vec<usize> = (0..newest).collect();
        ranked.sort_by(|&a, &b| bounds[b].total_cmp(&bounds[a]).then(a.cmp(&b)));
        ranked.truncate(self.pages.saturating_sub(1));
        ranked.push(newest);
        ranked.sort_unstable();
        ranked
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_page_and_the_most_promising_are_read() {
        let select = Policy::quest(48).unwrap().select.unwrap();
        assert_eq!(select.pages, 3);
        assert_eq!(select.choose(&[0.1, 5.0, 5.0, 2.0, 0.0]), [1, 2, 4]);
        assert_eq!(select.choose(&[0.1]), [0]);
        assert!(select.choose(&[]).is_empty());
        assert!(Policy::quest(0).is_err());
    }
}
