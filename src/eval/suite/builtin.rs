//! Tasks that need no data from elsewhere.

use rand::seq::SliceRandom;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde_json::{Map, Value, json};

use super::judge::GenerateOptions;
use super::metric::Metric;
use super::pattern::Pattern;
use super::task::{Items, Kind, Normalise, TaskSpec};

/// Items of each task.
const ITEMS: usize = 200;

/// The seed of the items.
const SEED: u64 = 20_260_101;

pub(super) const WORDS: [&str; 32] = [
    "banana",
    "strawberry",
    "letter",
    "balloon",
    "committee",
    "garden",
    "window",
    "mississippi",
    "pepper",
    "summer",
    "winter",
    "yellow",
    "bottle",
    "cabbage",
    "dinner",
    "engine",
    "flower",
    "giraffe",
    "hammer",
    "island",
    "jungle",
    "kitten",
    "ladder",
    "mirror",
    "needle",
    "orange",
    "puzzle",
    "quarrel",
    "rabbit",
    "saddle",
    "tunnel",
    "village",
];

/// The built-in tasks: sums, counting and copying, each as a continuation and sums as a chat too. Their items are
/// drawn from a fixed seed and are the same everywhere.
pub fn builtins() -> Vec<TaskSpec> {
    let generation = |metric, max_new| Kind::Generation {
        metric,
        options: GenerateOptions {
            max_new,
            stop: vec!["\n".to_owned()],
            ..GenerateOptions::default()
        },
    };
    vec![
        TaskSpec {
            shots: 4,
            ..task(
                "arithmetic",
                "sums, differences and products of numbers up to 20, after four examples",
                generation(Metric::Numeric, 12),
                ("prompt", " "),
                sums("{a} {op} {b} ="),
            )
        },
        task(
            "arithmetic-chat",
            "the same sums, asked in a chat",
            Kind::Chat {
                metric: Metric::Numeric,
                options: GenerateOptions {
                    max_new: 128,
                    ..GenerateOptions::default()
                },
            },
            ("prompt", ""),
            sums("What is {a} {op} {b}? Answer with the number."),
        ),
        TaskSpec {
            shots: 4,
            baseline: 0.25,
            ..task(
                "spelling",
                "how often a letter stands in a word, as one of four counts",
                Kind::MultipleChoice {
                    normalise: Normalise::Tokens,
                },
                ("query", " "),
                letters(),
            )
        },
        TaskSpec {
            shots: 2,
            ..task(
                "copying",
                "repeating five words in order, after two examples",
                generation(Metric::Exact, 40),
                ("prompt", " "),
                copies(),
            )
        },
    ]
}

fn task(
    name: &str,
    about: &str,
    kind: Kind,
    (field, delimiter): (&str, &str),
    items: Vec<Map<String, Value>>,
) -> TaskSpec {
    TaskSpec {
        name: name.to_owned(),
        about: about.to_owned(),
        kind,
        source: "built in".to_owned(),
        shots: 0,
        delimiter: delimiter.to_owned(),
        baseline: 0.0,
        limit: None,
        template: Pattern::field(field),
        items: Items::Inline(items),
    }
}

fn fields(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(map) => map,
        other => Map::from_iter([("value".to_owned(), other)]),
    }
}

fn sums(wording: &str) -> Vec<Map<String, Value>> {
    let mut rng = ChaCha8Rng::seed_from_u64(SEED);
    let draw = |_| {
        let (a, b) = (rng.random_range(0..=20_i64), rng.random_range(0..=20_i64));
        let (op, value) = match rng.random_range(0..3) {
            0 => ("+", a + b),
            1 => ("-", a - b),
            _ => ("*", a * b),
        };
        let prompt = wording
            .replace("{a}", &a.to_string())
            .replace("{op}", op)
            .replace("{b}", &b.to_string());
        fields(json!({"prompt": prompt, "answer": value}))
    };
    (0..ITEMS).map(draw).collect()
}

fn letters() -> Vec<Map<String, Value>> {
    let mut rng = ChaCha8Rng::seed_from_u64(SEED + 1);
    let draw = |_| {
        let word = pick(&mut rng, &WORDS);
        let letters: Vec<char> = word.chars().collect();
        let letter = letters
            .get(rng.random_range(0..letters.len()))
            .copied()
            .unwrap_or('a');
        let count = word.matches(letter).count();
        let mut choices: Vec<String> = (1..=4).map(|count| count.to_string()).collect();
        choices.shuffle(&mut rng);
        let gold = choices
            .iter()
            .position(|choice| *choice == count.to_string());
        fields(json!({
            "query": format!("How many times does the letter {letter} appear in the word {word}? Answer:"),
            "choices": choices,
            "gold": gold,
        }))
    };
    (0..ITEMS).map(draw).collect()
}

fn copies() -> Vec<Map<String, Value>> {
    let mut rng = ChaCha8Rng::seed_from_u64(SEED + 2);
    let draw = |_| {
        let words: Vec<&str> = (0..5).map(|_| pick(&mut rng, &WORDS)).collect();
        let words = words.join(" ");
        fields(json!({"prompt": format!("Words: {words}\nThe same words again:"), "answer": words}))
    };
    (0..ITEMS).map(draw).collect()
}

fn pick(rng: &mut ChaCha8Rng, words: &[&'static str]) -> &'static str {
    let at = rng.random_range(0..words.len());
    words.get(at).copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::eval::suite::item::Question;

    #[test]
    fn items_are_the_same_each_time_and_load() {
        for (task, again) in builtins().iter().zip(builtins()) {
            let items = task.load().unwrap();
            assert_eq!(items, again.load().unwrap());
            assert_eq!(items.len(), ITEMS, "{}", task.name);
            assert!(task.source == "built in" && !task.about.is_empty());
        }
    }

    #[test]
    fn the_right_answers_are_right() {
        for task in builtins() {
            for item in task.load().unwrap() {
                match (task.name.as_str(), &item.question) {
                    ("arithmetic", Question::Reply { prompt, answers }) => {
                        let sum = prompt.strip_suffix(" =").unwrap();
                        assert_eq!(crate::eval::suite::calculate(sum).unwrap(), answers[0]);
                    }
                    (
                        "spelling",
                        Question::Choice {
                            prompt,
                            choices,
                            gold,
                        },
                    ) => {
                        let words: Vec<&str> = prompt.split(' ').collect();
                        let word = words[11].trim_end_matches('?');
                        let count = word.matches(words[6]).count();
                        assert_eq!(choices[*gold], count.to_string(), "{prompt}");
                    }
                    ("copying", Question::Reply { prompt, answers }) => {
                        assert!(prompt.starts_with(&format!("Words: {}\n", answers[0])));
                    }
                    ("arithmetic-chat", Question::Reply { .. }) => {}
                    other => panic!("{other:?}"),
                }
            }
        }
    }
}
