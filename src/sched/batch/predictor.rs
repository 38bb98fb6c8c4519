//! How long a step takes, fitted to the engine's own steps while they run.
//!
//! Two linear models, each by least squares over what was seen of late: what a step of running answers takes, and what
//! the prompt tokens of a step add to it. Apart, because minutes can pass without a prompt, and a single model would
//! forget meanwhile what prompts cost.

use std::time::Duration;

/// What a past step of answers weighs after the next,
const FORGET: f64 = 0.99;
/// and what a past piece of a prompt does: they are few, and cost twice as much beside answers as they do alone.
const FORGET_PROMPTS: f64 = 0.8;
/// How much a weight holds to what it was, beside the sum of squares of its inputs: what the steps of late say nothing
/// of, as the price of a row while all steps have as many, stays as it was known.
const HOLD: f64 = 1e-2;
/// How often a step goes over the weights: each starts from the last one's, so few are needed.
const SWEEPS: usize = 8;
/// No step is predicted to take longer, in milliseconds: an hour, so that times can be added up without care.
const LONGEST: f64 = 3.6e6;
/// A step this many times longer or shorter than predicted counts as this many times: the machine was busy with
/// something else.
const OUTLIER: f64 = 2.5;
/// Steps before predictions are believed.
const ENOUGH: usize = 4;

/// What a step computes.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct StepCost {
    /// Rows of running answers, in tokens.
    pub decodes: usize,
    /// Tokens that those rows attend to, in all.
    pub context: usize,
    /// Prompt tokens.
    pub prefill: usize,
    /// Tokens that each of those attends to, in all.
    pub attended: f64,
    /// Prompts that are in the batch or could be; what they cost is in the other fields once they have a row.
    pub prompts: usize,
}

impl StepCost {
    /// A running answer's row of `tokens` after `context`.
    pub fn add_decode(&mut self, tokens: usize, context: usize) {
        self.decodes += tokens;
        self.context += tokens * context;
    }

    /// A prompt's row of `tokens` after `context`.
    pub fn add_prompt(&mut self, tokens: usize, context: usize) {
        self.prefill += tokens;
        self.attended += tokens as f64 * (context as f64 + tokens as f64 / 2.0);
    }

    /// The same with a prompt's row.
    #[must_use]
    pub fn with_prompt(mut self, tokens: usize, context: usize) -> Self {
        self.add_prompt(tokens, context);
        self
    }

    /// Takes out what is of prompts.
    pub fn take_prompts(&mut self) -> Self {
        StepCost {
            prefill: std::mem::take(&mut self.prefill),
            attended: std::mem::take(&mut self.attended),
            ..StepCost::default()
        }
    }

    /// All tokens.
    pub fn tokens(&self) -> usize {
        self.decodes + self.prefill
    }

    /// Inputs of about one.
    fn base(&self) -> [f64; 3] {
        [
            1.0,
            self.decodes as f64 / 8.0,
            self.context as f64 / 16_384.0,
        ]
    }

    fn added(&self) -> [f64; 2] {
        [
            self.prefill as f64 / 256.0,
            self.attended / (256.0 * 4096.0),
        ]
    }
}

/// See the module. Times are in milliseconds inside.
#[derive(Debug, Clone)]
pub struct Predictor {
    base: Fit<3>,
    added: Fit<2>,
    /// How many times as long as by `added` the last three pieces of prompts have taken.
    late: [f64; 3],
    slices: usize,
}

impl Default for Predictor {
    fn default() -> Self {
        Predictor {
            base: Fit::default(),
            added: Fit::default(),
            late: [1.0; 3],
            slices: 0,
        }
    }
}

impl Predictor {
    /// For a device that can cut a row into so many slices.
    pub fn with_slices(slices: usize) -> Self {
        Predictor {
            slices,
            ..Predictor::default()
        }
    }

    /// Into how many slices a row can be cut; at least 1.
    pub fn slices(&self) -> usize {
        self.slices.max(1)
    }

    /// A step took so long. One that took no time says nothing.
    pub fn observe(&mut self, step: &StepCost, took: Duration) {
        let took = took.as_secs_f64() * 1e3;
        if took <= 0.0 || step.tokens() == 0 {
            return;
        }
        let took = without_stall(took, self.millis(step));
        if step.prefill == 0 {
            self.base.observe(step.base(), took, FORGET);
        } else {
            self.observe_added(step, (took - self.base.predict(step.base())).max(0.0));
        }
    }

    /// Prompts took so long beside what else was in their steps.
    pub fn observe_prompts(&mut self, read: &StepCost, took: Duration) {
        let took = took.as_secs_f64() * 1e3;
        if took <= 0.0 || read.prefill == 0 {
            return;
        }
        let expected = self.added.predict(read.added()) * self.late();
        let expected = self.knows_prompts().then_some(expected);
        self.observe_added(read, without_stall(took, expected));
    }

    fn observe_added(&mut self, step: &StepCost, millis: f64) {
        let fitted = self.added.predict(step.added());
        if self.knows_prompts() && fitted > 0.0 {
            self.late.rotate_left(1);
            self.late[2] = millis / fitted;
        }
        self.added.observe(step.added(), millis, FORGET_PROMPTS);
    }

    /// Whether enough prompts were read to say what reading costs.
    pub fn knows_prompts(&self) -> bool {
        self.added.seen >= ENOUGH
    }

    /// How long a step will take; `None` while too little was seen of its like.
    pub fn step(&self, step: &StepCost) -> Option<Duration> {
        let millis = self.millis(step)?;
        Duration::try_from_secs_f64(millis / 1e3).ok()
    }

    /// How long reading a prompt will take, in chunks of so many tokens; zero while nothing is known.
    pub fn prompt(&self, tokens: usize, chunk: usize) -> Duration {
        let chunk = chunk.max(1);
        let mut all = 0.0;
        for start in (0..tokens).step_by(chunk) {
            let row = StepCost::default().with_prompt(chunk.min(tokens - start), start);
            all += self.millis(&row).unwrap_or(0.0);
        }
        Duration::try_from_secs_f64(all / 1e3).unwrap_or_default()
    }

    /// What the fit, which needs several pieces to follow, is to be multiplied with: the middle one of three, so that one
    /// that was stalled changes nothing.
    fn late(&self) -> f64 {
        let mut late = self.late;
        late.sort_by(f64::total_cmp);
        let [_, middle, _] = late;
        middle
    }

    fn millis(&self, step: &StepCost) -> Option<f64> {
        let known = match step.prefill {
            0 => self.base.seen >= ENOUGH,
            _ => self.knows_prompts(),
        };
        known.then(|| {
            // Without decoding steps the prompts' own fit holds what a step costs at least.
            let base = self.base.predict(step.base());
            (base + self.added.predict(step.added()) * self.late()).min(LONGEST)
        })
    }
}

/// A time, as far from the expected one as is believed.
fn without_stall(took: f64, expected: Option<f64>) -> f64 {
    match expected.filter(|&expected| expected > 0.0) {
        Some(expected) => took.clamp(expected / OUTLIER, expected * OUTLIER),
        None => took,
    }
}

/// Least squares of `N` inputs over fading observations, none of whose weights is below zero: no input can make a step
/// shorter. By coordinate descent on the sums of products, which cannot diverge: a sweep never makes the squares more.
#[derive(Debug, Clone)]
struct Fit<const N: usize> {
    weights: [f64; N],
    /// Fading sums of the inputs' products with each other,
    products: [[f64; N]; N],
    /// and with the times.
    times: [f64; N],
    seen: usize,
}

impl<const N: usize> Default for Fit<N> {
    fn default() -> Self {
        Fit {
            weights: [0.0; N],
            products: [[0.0; N]; N],
            times: [0.0; N],
            seen: 0,
        }
    }
}

impl<const N: usize> Fit<N> {
    fn predict(&self, inputs: [f64; N]) -> f64 {
        let pairs = self.weights.iter().zip(inputs);
        pairs.map(|(&weight, input)| weight * input).sum()
    }

    fn observe(&mut self, inputs: [f64; N], took: f64, keep: f64) {
        for (row, outer) in self.products.iter_mut().zip(inputs) {
            for (sum, inner) in row.iter_mut().zip(inputs) {
                *sum = *sum * keep + outer * inner;
            }
        }
        for (sum, input) in self.times.iter_mut().zip(inputs) {
            *sum = *sum * keep + took * input;
        }
        let held = self.weights;
        for _ in 0..SWEEPS {
            for place in 0..N {
                let row = &self.products[place];
                let others: f64 = (0..N)
                    .filter(|&other| other != place)
                    .map(|other| row[other] * self.weights[other])
                    .sum();
                let left = self.times[place] - others + HOLD * held[place];
                self.weights[place] = (left / (row[place] + HOLD)).max(0.0);
            }
        }
        self.seen += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A machine: 8 ms a step, 1.5 a row, 0.6 a prompt token, and attention.
    fn truth(step: &StepCost) -> Duration {
        let millis = 8.0
            + 1.5 * step.decodes as f64
            + step.context as f64 / 2_000.0
            + 0.6 * step.prefill as f64
            + step.attended / 50_000.0;
        Duration::from_secs_f64(millis / 1e3)
    }

    fn off(predictor: &Predictor, step: &StepCost) -> f64 {
        let told = predictor.step(step).unwrap().as_secs_f64();
        (told / truth(step).as_secs_f64() - 1.0).abs()
    }

    fn step(round: usize, prompts: bool) -> StepCost {
        let mut step = StepCost::default();
        for row in 0..1 + round % 9 {
            step.add_decode(1, 100 + (round * 37 + row * 211) % 1_500);
        }
        if prompts {
            step.add_prompt(32 + (round * 53) % 480, (round * 101) % 4_000);
        }
        step
    }

    #[test]
    fn it_learns_what_steps_take() {
        let mut predictor = Predictor::default();
        assert_eq!(predictor.step(&step(1, true)), None);
        assert_eq!(predictor.prompt(100, 10), Duration::ZERO);
        for round in 0..120 {
            let step = step(round, round % 3 == 2);
            predictor.observe(&step, truth(&step));
        }
        for round in 200..230 {
            assert!(off(&predictor, &step(round, false)) < 0.05);
            let step = step(round, true);
            assert!(off(&predictor, &step) < 0.1, "{}", off(&predictor, &step));
        }
        let long = predictor.prompt(4_000, 512);
        assert!(long > predictor.prompt(2_000, 512) * 2);
    }

    #[test]
    fn what_prompts_cost_is_not_forgotten_while_none_comes() {
        let mut predictor = Predictor::default();
        for round in 0..60 {
            let step = step(round, round % 2 == 0);
            predictor.observe(&step, truth(&step));
        }
        let alike = step(5, false);
        for _ in 0..20_000 {
            predictor.observe(&alike, truth(&alike));
        }
        assert!(off(&predictor, &step(77, true)) < 0.15);
        assert!(off(&predictor, &step(78, false)) < 0.15);
    }

    #[test]
    fn prompts_that_cost_twice_as_much_are_soon_believed() {
        let mut predictor = Predictor::default();
        for round in 0..100 {
            let step = step(round, round % 2 == 0);
            predictor.observe(&step, truth(&step));
        }
        let twice = |step: &StepCost| {
            let alone = StepCost {
                prefill: 0,
                attended: 0.0,
                ..*step
            };
            truth(step) * 2 - truth(&alone)
        };
        for round in 100..103 {
            let step = step(round, true);
            predictor.observe(&step, twice(&step));
        }
        let next = step(104, true);
        let told = predictor.step(&next).unwrap().as_secs_f64();
        let off = told / twice(&next).as_secs_f64() - 1.0;
        assert!(off.abs() < 0.3, "{off}");
    }

    #[test]
    fn prompts_beside_answers_are_learnt_apart_from_them() {
        let mut predictor = Predictor::default();
        let alone = |step: &StepCost| StepCost {
            prefill: 0,
            attended: 0.0,
            ..*step
        };
        for round in 0..120 {
            let both = step(round, true);
            let (mut read, answers) = (both, alone(&both));
            let read = read.take_prompts();
            predictor.observe(&answers, truth(&answers));
            predictor.observe_prompts(&read, truth(&both) - truth(&answers));
        }
        for round in 200..230 {
            let both = step(round, true);
            assert!(off(&predictor, &both) < 0.1, "{}", off(&predictor, &both));
            assert!(off(&predictor, &alone(&both)) < 0.05);
        }
    }

    /// Times as a shared machine has them: up to `spread` times the true one, by a fixed sequence.
    fn noisy(step: &StepCost, round: usize, spread: f64) -> Duration {
        let turn = (round * 7_919 % 1_000) as f64 / 1_000.0;
        truth(step).mul_f64(1.0 + (spread - 1.0) * turn * turn)
    }

    fn answers(rows: usize, context: usize) -> StepCost {
        let mut step = StepCost::default();
        (0..rows).for_each(|_| step.add_decode(1, context));
        step
    }

    #[test]
    fn thousands_of_steps_alike_and_then_others_are_predicted_within_reason() {
        let mut predictor = Predictor::default();
        for round in 0..200 {
            let step = step(round, round % 2 == 0);
            predictor.observe(&step, noisy(&step, round, 2.0));
        }
        for round in 0..16_000 {
            let step = answers(8, 500 + round / 4);
            predictor.observe(&step, noisy(&step, round, 2.0));
        }
        for rows in [1, 2, 4, 8, 16, 64] {
            let step = answers(rows, 120);
            let told = predictor.step(&step).unwrap().as_secs_f64();
            let ratio = told / truth(&step).as_secs_f64();
            assert!((0.3..3.0).contains(&ratio), "{rows} rows: {ratio}");
        }
    }

    proptest::proptest! {
        #[test]
        fn predictions_stay_near_what_was_seen(
            phases in proptest::collection::vec((1_usize..17, 0_usize..4_000, 0.2_f64..5.0, 1_usize..400), 1..12),
        ) {
            let mut predictor = Predictor::default();
            let (mut round, mut longest) = (0, 0.0_f64);
            for (rows, context, speed, steps) in phases {
                for added in 0..steps {
                    let step = answers(rows, context + added);
                    let took = noisy(&step, round, 3.0).mul_f64(speed);
                    longest = longest.max(took.as_secs_f64());
                    predictor.observe(&step, took);
                    if let Some(told) = predictor.step(&step) {
                        let told = told.as_secs_f64();
                        proptest::prop_assert!(told <= longest * 4.0, "{told} after at most {longest}");
                    }
                    round += 1;
                }
            }
        }
    }

    #[test]
    fn one_stalled_step_changes_little() {
        let mut predictor = Predictor::default();
        for round in 0..100 {
            let step = step(round, round % 2 == 0);
            predictor.observe(&step, truth(&step));
        }
        let stalled = step(3, true);
        predictor.observe(&stalled, Duration::from_secs(60));
        assert!(off(&predictor, &step(8, true)) < 0.5);
    }
}
