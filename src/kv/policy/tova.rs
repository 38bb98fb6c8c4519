//! The last query decides, for all heads of a layer alike: <https://arxiv.org/abs/2401.06104>.

use super::{BadPolicy, Policy, Protect, Score};
use crate::kv::PolicyKind;

impl Policy {
    /// The `capacity` positions that the last query attends to most, `sinks` first ones protected. The newest stays:
    /// it has just attended to itself, but a token that nobody has attended to yet cannot have lost.
    pub fn tova(capacity: usize, sinks: usize) -> Result<Self, BadPolicy> {
        let protect = Protect::ends(sinks, usize::from(capacity > sinks));
        Policy::bounded(PolicyKind::Tova, capacity, Score::LastRow, protect).checked()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kv::policy::HeadView;

    #[test]
    fn the_last_row_ranks() {
        let head = HeadView {
            positions: &[0, 1, 2, 3],
            fast: &[0.1, 0.5, 0.3, 0.1],
            seen: 4,
            ..HeadView::default()
        };
        assert_eq!(Policy::tova(3, 0).unwrap().keep(&head, 3), [1, 2, 3]);
        assert_eq!(Policy::tova(3, 1).unwrap().victim(&head, 3), Some(2));
    }
}
