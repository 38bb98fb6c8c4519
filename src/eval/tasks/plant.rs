//! Puts needles between the units of a haystack.

use rand::seq::IteratorRandom;
use rand_chacha::ChaCha8Rng;

/// Depths that needles without a chosen one are drawn from: RULER's 40 evenly spaced percentiles, as shares.
const DEPTHS: usize = 40;

/// `count` different depths of RULER's, in random order.
pub fn depths(count: usize, rng: &mut ChaCha8Rng) -> Vec<f32> {
    let mut drawn = (0..DEPTHS).sample(rng, count);
    rand::seq::SliceRandom::shuffle(drawn.as_mut_slice(), rng);
    drawn
        .into_iter()
        .map(|at| at as f32 / (DEPTHS - 1) as f32)
        .collect()
}

/// `units` with each needle after the share of them that its depth says, all joined by `separator`. Needles of one
/// depth keep their order.
pub fn plant(units: &[&str], needles: &[(f32, String)], separator: &str) -> String {
    let mut placed: Vec<(usize, &str)> = needles
        .iter()
        .map(|(depth, needle)| (position(*depth, units.len()), needle.as_str()))
        .collect();
    placed.sort_by_key(|&(at, _)| at);
    let mut all = Vec::with_capacity(units.len() + placed.len());
    let mut next = placed.into_iter().peekable();
    for (at, unit) in units.iter().copied().enumerate() {
        while let Some((_, needle)) = next.next_if(|&(before, _)| before <= at) {
            all.push(needle);
        }
        all.push(unit);
    }
    all.extend(next.map(|(_, needle)| needle));
    all.join(separator)
}

/// How many of `units` stand before a needle of `depth`.
fn position(depth: f32, units: usize) -> usize {
    (f64::from(depth) * units as f64).round() as usize
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::SeedableRng;

    #[test]
    fn needles_stand_at_their_depths() {
        let units = ["a", "b", "c", "d"];
        for (needles, expected) in [
            (vec![(0.0, "X")], "X a b c d"),
            (vec![(0.5, "X")], "a b X c d"),
            (vec![(1.0, "X")], "a b c d X"),
            (vec![(1.0, "X"), (0.25, "Y"), (0.25, "Z")], "a Y Z b c d X"),
            (vec![], "a b c d"),
        ] {
            let needles: Vec<_> = needles
                .into_iter()
                .map(|(d, n)| (d, n.to_owned()))
                .collect();
            assert_eq!(plant(&units, &needles, " "), expected);
        }
        assert_eq!(plant(&[], &[(0.3, "X".to_owned())], " "), "X");
    }

    #[test]
    fn drawn_depths_differ_and_reach_both_ends() {
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        let mut all = depths(40, &mut rng);
        all.sort_by(f32::total_cmp);
        assert_eq!((all[0], all[39]), (0.0, 1.0));
        assert!(all.windows(2).all(|pair| pair[0] < pair[1]));
        assert_ne!(depths(4, &mut rng), depths(4, &mut rng));
    }
}
