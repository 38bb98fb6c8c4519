//! RULER's variable tracking: one chain of five variables in noise
//! (<https://github.com/NVIDIA/RULER/blob/main/scripts/data/synthetic/variable_tracking.py>,
//! <https://arxiv.org/abs/2404.06654>).

use rand::seq::index;
use rand_chacha::ChaCha8Rng;

use super::super::haystack::NOISE;
use super::super::sample::{Question, Sample};
use super::super::size::largest;
use super::super::task::Task;
use super::super::words::{distinct, letters, number};
use super::{Spec, TaskError, fit_sample, rng};

/// Assignments from one variable to the next.
const HOPS: usize = 4;
/// Lines of noise around the solved example at least, which are also the places of its chain.
const LEAST: usize = HOPS + 1;
/// Tokens of the solved example at most, if the least noise allows it.
const EXAMPLE: usize = 500;

struct Chain {
    value: String,
    variables: Vec<String>,
}

impl Chain {
    fn draw(name_letters: usize, rng: &mut ChaCha8Rng) -> Self {
        Chain {
            value: number(5, rng),
            variables: distinct(HOPS + 1, || letters(b'A', name_letters, rng)),
        }
    }

    /// The chain in its order among `lines` of noise. The space after a hop is the published one.
    fn hide(&self, lines: usize, rng: &mut ChaCha8Rng) -> String {
        let mut places = index::sample(rng, lines, self.variables.len()).into_vec();
        places.sort_unstable();
        let noise = NOISE.join(" ");
        let mut all = vec![noise; lines];
        let mut before: Option<&str> = None;
        for (at, (place, variable)) in places.into_iter().zip(&self.variables).enumerate() {
            let line = match before {
                None => format!("VAR {variable} = {}", self.value),
                Some(before) => format!("VAR {variable} = VAR {before} "),
            };
            all.insert(place + at, line);
            before = Some(variable);
        }
        format!(
            "Memorize and track the chain(s) of variable assignment hidden in the following text.\n\n{}",
            all.join("\n")
        )
    }

    /// Question and beginning of the answer; "assgined" is the published spelling, kept so that numbers compare.
    fn ask(&self) -> (String, String) {
        let value = &self.value;
        (
            format!(
                "Question: Find all variables that are assigned the value {value} in the text above."
            ),
            format!(
                " Answer: According to the chain(s) of variable assignment in the text above, {} variables are assgined \
                 the value {value}, they are: ",
                HOPS + 1
            ),
        )
    }
}

/// A solved example with variables of three letters, as long as 500 tokens and a quarter of the sample allow.
fn example(spec: &Spec, rng: &mut ChaCha8Rng) -> String {
    let chain = Chain::draw(3, rng);
    let (text, prefix) = chain.ask();
    let solved = |lines| {
        let context = chain.hide(lines, &mut rng.clone());
        format!("{context}\n{text}{prefix} {}\n", chain.variables.join(" "))
    };
    let limit = EXAMPLE.min(spec.length / 4);
    let lines = largest(LEAST, limit, |lines| spec.count.count(&solved(lines)));
    solved(lines.unwrap_or(LEAST))
}

/// The chain, after a solved example of another.
pub fn make(spec: &Spec) -> Result<Sample, TaskError> {
    let task = Task::VariableTracking;
    let mut rng = rng(task, spec);
    let example = example(spec, &mut rng);
    let chain = Chain::draw(5, &mut rng);
    let (text, answer_prefix) = chain.ask();
    let question = Question {
        text,
        answers: chain.variables.clone(),
        answer_prefix,
        max_new_tokens: 30,
    };
    fit_sample(spec, task, LEAST, |lines| Sample {
        task,
        context: format!("{example}\n{}", chain.hide(lines, &mut rng.clone())),
        questions: vec![question.clone()],
        depth: None,
        length: spec.length,
    })
}

#[cfg(test)]
mod tests {
    use super::super::testing::sample;
    use super::*;

    #[test]
    fn one_chain_of_five_variables_in_order() {
        for seed in 0..20 {
            let sample = sample(Task::VariableTracking, seed, 2000, None);
            let asked = &sample.questions[0];
            assert_eq!(asked.answers.len(), 5);
            assert_eq!(asked.max_new_tokens, 30);
            let body = sample.context.rsplit_once("following text.\n\n").unwrap().1;
            let chain: Vec<&str> = body.lines().filter(|l| l.starts_with("VAR ")).collect();
            let value = chain[0].rsplit_once(" = ").unwrap().1;
            assert_eq!(chain[0], format!("VAR {} = {value}", asked.answers[0]));
            assert!(asked.text.contains(value) && value.len() == 5);
            for hop in 0..4 {
                let (from, to) = (&asked.answers[hop], &asked.answers[hop + 1]);
                assert_eq!(chain[hop + 1], format!("VAR {to} = VAR {from} "));
                assert!(to.len() == 5 && to != from);
            }
            assert_eq!(chain.len(), 5);
            let noise = NOISE.join(" ");
            assert!(body.lines().all(|l| l == noise || l.starts_with("VAR ")));
        }
    }

    #[test]
    fn the_example_is_solved_and_short() {
        for (length, longest) in [(600, 260), (2000, 500), (8000, 500)] {
            let sample = sample(Task::VariableTracking, 2, length, None);
            let example = sample.context.split("\n\nMemorize").next().unwrap();
            let words = example.split_whitespace().count();
            assert!((150..=longest).contains(&words), "{words} of {length}");
            let answer = example.rsplit_once("they are:  ").unwrap().1;
            let variables: Vec<&str> = answer.split_whitespace().collect();
            assert_eq!(variables.len(), 5);
            for pair in variables.windows(2) {
                assert!(example.contains(&format!("VAR {} = VAR {} ", pair[1], pair[0])));
            }
            assert!(variables.iter().all(|variable| variable.len() == 3));
        }
    }
}
