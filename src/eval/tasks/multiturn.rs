//! Five questions on one compressed context, as in SCBench (<https://arxiv.org/abs/2412.10319>): a policy that keeps
//! what the first question needs shows here what it lost.

use rand::seq::{IndexedRandom, SliceRandom};

use super::super::sample::{Question, Sample};
use super::super::task::Task;
use super::plant::plant;
use super::{Spec, TaskError, fit_sample, rng};

/// Facts of one context and where they stand.
const DEPTHS: [f32; 5] = [0.1, 0.3, 0.5, 0.7, 0.9];

const INTRODUCTION: &str =
    "Read the following text with care. Several questions about it come afterwards.\n\n";

/// A subject: what is said about it, how it is asked for, and what may be true of it.
struct Subject {
    statement: &'static str,
    question: &'static str,
    prefix: &'static str,
    values: [&'static str; 8],
}

const SUBJECTS: [Subject; 8] = [
    Subject {
        statement: "The keeper of the Gull Rock light named her dog {value}.",
        question: "What is the dog at Gull Rock called?",
        prefix: " The dog at Gull Rock is called",
        values: [
            "Biscuit", "Pepper", "Juniper", "Waffles", "Marble", "Clover", "Pickle", "Domino",
        ],
    },
    Subject {
        statement: "The new mayor had the doors of the town hall painted {value}.",
        question: "Which colour did the doors of the town hall get?",
        prefix: " The doors of the town hall are now",
        values: [
            "turquoise",
            "crimson",
            "lavender",
            "mustard",
            "ivory",
            "scarlet",
            "indigo",
            "maroon",
        ],
    },
    Subject {
        statement: "Old Mr Halloway practises the {value} every evening after supper.",
        question: "What instrument does Mr Halloway play?",
        prefix: " Mr Halloway plays the",
        values: [
            "bassoon",
            "mandolin",
            "oboe",
            "banjo",
            "cello",
            "trombone",
            "harmonica",
            "tuba",
        ],
    },
    Subject {
        statement: "The circus will spend the coming winter in {value}.",
        question: "Where does the circus stay during the winter?",
        prefix: " In the winter the circus stays in",
        values: [
            "Brackenford",
            "Elmsby",
            "Tarnwick",
            "Oldmere",
            "Quillhaven",
            "Stonebeck",
            "Farrowdale",
            "Windlecombe",
        ],
    },
    Subject {
        statement: "For the wedding of the two doctors a cake of {value} was ordered.",
        question: "What was the cake for the wedding of the doctors made of?",
        prefix: " The cake was made of",
        values: [
            "hazelnut",
            "rhubarb",
            "pistachio",
            "ginger",
            "marzipan",
            "quince",
            "blackcurrant",
            "almond",
        ],
    },
    Subject {
        statement: "The naval club bought a small model of a sailing ship, the {value}.",
        question: "Which ship does the model of the naval club show?",
        prefix: " The model of the naval club shows the",
        values: [
            "Nightingale",
            "Perseverance",
            "Halcyon",
            "Albatross",
            "Corsair",
            "Meridian",
            "Sea Thistle",
            "Polestar",
        ],
    },
    Subject {
        statement: "Before she opened the flower shop, Irene earned her living as a {value}.",
        question: "What was the job of Irene before the flower shop?",
        prefix: " Before the flower shop Irene was a",
        values: [
            "surveyor",
            "welder",
            "beekeeper",
            "translator",
            "jockey",
            "glazier",
            "locksmith",
            "bookbinder",
        ],
    },
    Subject {
        statement: "The spare ladder of the fire station is kept behind the {value}.",
        question: "Behind what does one find the spare ladder of the fire station?",
        prefix: " The spare ladder is behind the",
        values: [
            "chapel", "windmill", "stable", "granary", "sawmill", "bakery", "brewery", "laundry",
        ],
    },
];

/// Five facts about different subjects at five depths, and a question about each, in another order.
pub fn make(spec: &Spec) -> Result<Sample, TaskError> {
    let task = Task::Multiturn;
    let mut rng = rng(task, spec);
    let mut subjects: Vec<&Subject> = SUBJECTS.iter().collect();
    subjects.shuffle(&mut rng);
    let mut facts = Vec::with_capacity(DEPTHS.len());
    let mut questions = Vec::with_capacity(DEPTHS.len());
    for (subject, depth) in subjects.into_iter().zip(DEPTHS) {
        let value = subject.values.choose(&mut rng).copied().unwrap_or_default();
        facts.push((depth, subject.statement.replace("{value}", value)));
        questions.push(Question {
            text: subject.question.to_owned(),
            answers: vec![value.to_owned()],
            answer_prefix: subject.prefix.to_owned(),
            max_new_tokens: 16,
        });
    }
    questions.shuffle(&mut rng);
    let answers: Vec<&str> = questions
        .iter()
        .flat_map(|question| question.answers.iter().map(String::as_str))
        .collect();
    let series = spec.haystack.series(&answers, &mut rng);
    fit_sample(spec, task, DEPTHS.len(), |sentences| Sample {
        task,
        context: format!(
            "{INTRODUCTION}{}",
            plant(&series.take(sentences), &facts, " ")
        ),
        questions: questions.clone(),
        depth: None,
        length: spec.length,
    })
}

#[cfg(test)]
mod tests {
    use super::super::testing::sample;
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn five_facts_stand_once_at_five_depths() {
        let mut orders = HashSet::new();
        for seed in 0..40 {
            let sample = sample(Task::Multiturn, seed, 2500, None);
            let body = sample.context.strip_prefix(INTRODUCTION).unwrap();
            let sentences: Vec<&str> = body.split_inclusive(". ").collect();
            let mut found: Vec<usize> = Vec::new();
            for asked in &sample.questions {
                let answer = asked.answers[0].as_str();
                let all = body.to_lowercase().matches(&answer.to_lowercase()).count();
                assert_eq!(all, 1, "{answer}");
                found.push(sentences.iter().position(|s| s.contains(answer)).unwrap());
            }
            let texts: HashSet<&str> = sample.questions.iter().map(|q| q.text.as_str()).collect();
            assert_eq!(texts.len(), 5);
            let mut sorted = found.clone();
            sorted.sort_unstable();
            for (at, (sentence, depth)) in sorted.iter().zip(DEPTHS).enumerate() {
                let wanted = f64::from(depth) * (sentences.len() - 5) as f64 + at as f64;
                assert!(
                    (*sentence as f64 - wanted).abs() <= 1.0,
                    "{sentence} is not {wanted}"
                );
            }
            let order: Vec<usize> = found
                .iter()
                .map(|at| sorted.iter().position(|s| s == at).unwrap())
                .collect();
            orders.insert(order);
        }
        assert!(
            orders.len() > 10,
            "questions come in {} orders",
            orders.len()
        );
    }

    #[test]
    fn no_question_gives_another_answer_away() {
        let values: Vec<&str> = SUBJECTS.iter().flat_map(|subject| subject.values).collect();
        let different: HashSet<&&str> = values.iter().collect();
        assert_eq!(different.len(), values.len());
        for subject in &SUBJECTS {
            assert_eq!(subject.statement.matches("{value}").count(), 1);
            let told = format!(
                "{} {} {}",
                subject.statement, subject.question, subject.prefix
            );
            let told = told.to_lowercase();
            for value in &values {
                assert!(!told.contains(&value.to_lowercase()), "{value} in {told}");
            }
        }
    }
}
