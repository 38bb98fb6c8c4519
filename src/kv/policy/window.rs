//! The last positions, with or without the first ones: `window` and `streaming`.

use super::{BadPolicy, Policy, Protect, Score};
use crate::kv::PolicyKind;

impl Policy {
    /// The last `recent` positions; at least one.
    pub fn window(recent: usize) -> Result<Self, BadPolicy> {
        let protect = Protect::ends(0, recent);
        Policy::bounded(PolicyKind::Window, recent, Score::Nothing, protect).checked()
    }

    /// The first `sinks` and the last `recent` positions, at their original positions; at least one in all
    /// ([StreamingLLM](https://arxiv.org/abs/2309.17453)).
    pub fn streaming(sinks: usize, recent: usize) -> Result<Self, BadPolicy> {
        let protect = Protect::ends(sinks, recent);
        Policy::bounded(
            PolicyKind::Streaming,
            sinks + recent,
            Score::Nothing,
            protect,
        )
        .checked()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kv::policy::HeadView;

    #[test]
    fn the_ends_stay() {
        let head = HeadView {
            positions: &[3, 1, 2, 0, 4],
            ..HeadView::default()
        };
        let streaming = Policy::streaming(1, 2).unwrap();
        assert_eq!(streaming.keep(&head, 3), [3, 0, 4]);
        assert_eq!(Policy::window(1).unwrap().keep(&head, 1), [4]);
        assert_eq!(Policy::window(4).unwrap().victim(&head, 4), Some(3));
    }
}
