//! Parts of tasks, and several tasks as one.

use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;

use super::problem::{Problem, Reward, RewardTask, Split};

/// Some indices of a task: from `start`, before `stop` where given, each `step`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Slice {
    /// The first.
    pub start: usize,
    /// One past the last; none for the end.
    pub stop: Option<usize>,
    /// From one to the next, at least 1.
    pub step: std::num::NonZeroUsize,
}

impl Slice {
    /// Indices of a task of `total`.
    pub fn len(&self, total: usize) -> usize {
        let stop = self.stop.unwrap_or(total).min(total);
        stop.saturating_sub(self.start).div_ceil(self.step.get())
    }

    /// Whether none of `total` is in it.
    pub fn is_empty(&self, total: usize) -> bool {
        self.len(total) == 0
    }

    /// The task's own index of the slice's `index`, of a task of `total`.
    pub fn at(&self, index: usize, total: usize) -> Option<usize> {
        (index < self.len(total)).then(|| self.start + index * self.step.get())
    }
}

/// Several tasks as one: all problems of each once, in an order by a seed. A task given twice has twice the problems.
pub struct Mixture {
    tasks: Vec<Box<dyn RewardTask>>,
    train: Vec<(usize, usize)>,
    held_out: Vec<(usize, usize)>,
}

impl Mixture {
    /// Mixes all problems of `tasks`.
    pub fn new(tasks: Vec<Box<dyn RewardTask>>, seed: u64) -> Self {
        let order = |split| {
            let all = tasks.iter().enumerate();
            let mut order: Vec<(usize, usize)> = all
                .flat_map(|(task, of)| (0..of.len(split)).map(move |index| (task, index)))
                .collect();
            order.shuffle(&mut ChaCha8Rng::seed_from_u64(seed));
            order
        };
        let (train, held_out) = (order(Split::Train), order(Split::HeldOut));
        Mixture {
            tasks,
            train,
            held_out,
        }
    }

    /// Problems of a split, the sum over its tasks.
    pub fn len(&self, split: Split) -> usize {
        self.order(split).len()
    }

    /// Whether a split has no problem.
    pub fn is_empty(&self, split: Split) -> bool {
        self.order(split).is_empty()
    }

    /// Problem `index` of a split and the task that scores replies to it; none past its length.
    pub fn problem(&self, split: Split, index: usize) -> Option<(&dyn RewardTask, Problem)> {
        let &(task, index) = self.order(split).get(index)?;
        let task = self.tasks.get(task)?.as_ref();
        Some((task, task.problem(split, index)?))
    }

    /// What `reply` to problem `index` is worth; none past the length.
    pub fn score(&self, split: Split, index: usize, reply: &str) -> Option<Reward> {
        let (task, problem) = self.problem(split, index)?;
        Some(task.score(&problem, reply))
    }

    fn order(&self, split: Split) -> &[(usize, usize)] {
        match split {
            Split::Train => &self.train,
            Split::HeldOut => &self.held_out,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Arithmetic, Spelling};
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;
    use std::num::NonZeroUsize;

    fn mixture(seed: u64) -> Mixture {
        let sums = || Box::new(Arithmetic::new(&['+'], 9, 1, 0.2, 50));
        Mixture::new(vec![sums(), Box::new(Spelling::new(1, 0.2)), sums()], seed)
    }

    fn drawn(mixture: &Mixture, split: Split) -> Vec<(String, Problem)> {
        let problem = |index| mixture.problem(split, index);
        let all = (0..mixture.len(split)).map_while(problem);
        all.map(|(task, problem)| (task.name().to_owned(), problem))
            .collect()
    }

    #[test]
    fn n12_mixture() {
        let spelling = Spelling::new(1, 0.2);
        for split in [Split::Train, Split::HeldOut] {
            let (one, again) = (drawn(&mixture(3), split), drawn(&mixture(3), split));
            assert_eq!(one, again);
            assert_ne!(one, drawn(&mixture(4), split));
            let mut count: BTreeMap<&str, usize> = BTreeMap::new();
            for (name, _) in &one {
                *count.entry(name).or_default() += 1;
            }
            let sums = if split == Split::Train { 90 } else { 10 };
            assert_eq!(count["arithmetic"], sums);
            assert_eq!(count["spelling"], spelling.len(split));
            assert_eq!(one.len(), sums + spelling.len(split));
        }
        let mixture = mixture(3);
        let (_, problem) = mixture.problem(Split::Train, 0).unwrap();
        let reply = format!("<answer>{}</answer>", problem.answer);
        assert_eq!(mixture.score(Split::Train, 0, &reply).unwrap().value, 1.0);
        assert!(
            mixture
                .score(Split::Train, mixture.len(Split::Train), "")
                .is_none()
        );
        assert!(Mixture::new(Vec::new(), 0).is_empty(Split::Train));
    }

    proptest! {
        #[test]
        fn n12_slices(start in 0_usize..40, stop in prop::option::of(0_usize..40), step in 1_usize..7, total in 0_usize..40) {
            let slice = Slice { start, stop, step: NonZeroUsize::new(step).unwrap() };
            let expected: Vec<usize> = (start..stop.unwrap_or(total).min(total)).step_by(step).collect();
            let indices: Vec<usize> = (0..slice.len(total)).map_while(|at| slice.at(at, total)).collect();
            prop_assert_eq!(&indices, &expected);
            prop_assert_eq!(slice.is_empty(total), expected.is_empty());
            prop_assert_eq!(slice.at(expected.len(), total), None);
        }
    }
}
