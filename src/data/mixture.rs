//! Several sources in one: how often each is drawn in an epoch.

use std::ops::Range;

use serde::Serialize;

use super::DataError;
use super::order::{Use, shuffle, stream};

/// A source's samples within a corpus.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Part {
    /// Its name, for reports.
    pub name: String,
    /// Its samples.
    pub samples: Range<u32>,
    /// How often each is drawn in an epoch: 2 is twice each, 0.5 is half of them, others in each epoch.
    pub weight: f64,
}

impl Part {
    /// How many samples an epoch draws.
    fn draws(&self) -> usize {
        (self.samples.len() as f64 * self.weight).round() as usize
    }
}

/// Sources with weights. With all weights 1, an epoch is each sample once.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Mixture {
    parts: Vec<Part>,
}

impl Mixture {
    /// A mixture.
    ///
    /// # Errors
    /// [`DataError::Option`] for a weight that is negative, above 1000 or no number; [`DataError::Empty`] when an epoch
    /// would draw nothing.
    pub fn new(parts: Vec<Part>) -> Result<Self, DataError> {
        for part in &parts {
            if !(0.0..=1000.0).contains(&part.weight) {
                return Err(DataError::Option {
                    option: "weight of a source",
                    found: format!("{} for {}", part.weight, part.name),
                    allowed: "choose from 0 to 1000",
                });
            }
        }
        let mixture = Mixture { parts };
        match mixture.is_empty() {
            true => Err(DataError::Empty {
                what: "the mixture".to_owned(),
                advice: "give sources with records, and weights above 0",
            }),
            false => Ok(mixture),
        }
    }

    /// The sources.
    pub fn parts(&self) -> &[Part] {
        &self.parts
    }

    /// How many samples an epoch draws.
    pub fn len(&self) -> usize {
        self.parts.iter().map(Part::draws).sum()
    }

    /// Whether an epoch draws nothing.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The samples of an epoch, in order: source after source, or shuffled by the seed. Which samples a weight with a
    /// fraction draws follows from the seed either way.
    pub fn epoch(&self, seed: u64, epoch: u64, shuffled: bool) -> Vec<u32> {
        let mut order = Vec::with_capacity(self.len());
        let mut rng = stream(seed, epoch, Use::Parts);
        for part in &self.parts {
            let whole = part.draws().checked_div(part.samples.len()).unwrap_or(0);
            for _ in 0..whole {
                order.extend(part.samples.clone());
            }
            let rest = part.draws() - whole * part.samples.len();
            let mut some: Vec<u32> = part.samples.clone().collect();
            if rest > 0 {
                shuffle(&mut some, &mut rng);
            }
            some.truncate(rest);
            some.sort_unstable();
            order.extend(some);
        }
        if shuffled {
            shuffle(&mut order, &mut stream(seed, epoch, Use::Samples));
        }
        order
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn part(samples: Range<u32>, weight: f64) -> Part {
        Part {
            name: format!("{samples:?}"),
            samples,
            weight,
        }
    }

    /// Test N12: a mixture is as long as its sources together, and its order is fixed by the seed.
    #[test]
    fn n12_length_and_order_of_a_mixture() {
        let mixture = Mixture::new(vec![part(0..10, 1.0), part(10..25, 1.0)]).unwrap();
        assert_eq!(mixture.len(), 25);
        assert_eq!(mixture.epoch(1, 0, false), (0..25).collect::<Vec<_>>());
        let order = mixture.epoch(1, 0, true);
        assert_eq!(order, mixture.epoch(1, 0, true));
        assert_ne!(order, mixture.epoch(1, 1, true));
        assert_ne!(order, mixture.epoch(2, 0, true));
        let mut sorted = order;
        sorted.sort_unstable();
        assert_eq!(sorted, (0..25).collect::<Vec<_>>());
    }

    #[test]
    fn weights_say_how_often() {
        let mixture =
            Mixture::new(vec![part(0..10, 2.5), part(10..14, 0.5), part(14..20, 0.0)]).unwrap();
        assert_eq!(mixture.len(), 27);
        let order = mixture.epoch(3, 0, true);
        assert_eq!(order.len(), 27);
        let count = |range: Range<u32>| order.iter().filter(|n| range.contains(n)).count();
        assert_eq!((count(0..10), count(10..14), count(14..20)), (25, 2, 0));
        for sample in 0..10 {
            assert!((2..=3).contains(&count(sample..sample + 1)));
        }
        let drawn = |epoch| mixture.epoch(3, epoch, false);
        assert!((1..20).any(|epoch| drawn(epoch) != drawn(0)));
        assert_eq!(mixture.parts().len(), 3);
    }

    #[test]
    fn bad_mixtures_are_refused() {
        for weight in [-1.0, f64::NAN, f64::INFINITY] {
            assert!(matches!(
                Mixture::new(vec![part(0..3, weight)]),
                Err(DataError::Option { .. })
            ));
        }
        assert!(matches!(
            Mixture::new(vec![part(0..3, 0.0)]),
            Err(DataError::Empty { .. })
        ));
        assert!(Mixture::new(Vec::new()).is_err());
    }
}
