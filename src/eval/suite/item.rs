//! The items of a task, read and checked.

use std::fs;

use serde_json::{Map, Value};

use super::error::{SuiteError, invalid};
use super::pattern::plain;
use super::task::{Items, Kind, TaskSpec};

/// What one item asks.
#[derive(Debug, Clone, PartialEq)]
pub enum Question {
    /// A text to predict.
    Text(String),
    /// A context and its continuations.
    Choice {
        /// The context.
        prompt: String,
        /// The continuations, two or more.
        choices: Vec<String>,
        /// Which is right, from 0.
        gold: usize,
    },
    /// Contexts and their continuation.
    Schema {
        /// The contexts, two or more.
        contexts: Vec<String>,
        /// The continuation.
        continuation: String,
        /// Which context is right, from 0.
        gold: usize,
    },
    /// A prompt and the replies that will do, at least one.
    Reply {
        /// The prompt.
        prompt: String,
        /// The replies.
        answers: Vec<String>,
    },
    /// A prompt for code; its tests are among the fields.
    Code {
        /// The prompt.
        prompt: String,
    },
}

/// One item.
#[derive(Debug, Clone, PartialEq)]
pub struct Item {
    /// What it asks.
    pub question: Question,
    /// Where it is from: file and line, or its number among the inline items.
    pub at: String,
    pub(super) fields: Map<String, Value>,
}

impl Item {
    /// The item as an example: prompt, `delimiter` and right answer. Texts and code have none.
    pub(super) fn shown(&self, delimiter: &str) -> Option<(String, String)> {
        let (prompt, answer) = match &self.question {
            Question::Choice {
                prompt,
                choices,
                gold,
            } => (prompt, choices.get(*gold)?),
            Question::Schema {
                contexts,
                continuation,
                gold,
            } => (contexts.get(*gold)?, continuation),
            Question::Reply { prompt, answers } => (prompt, answers.first()?),
            Question::Text(_) | Question::Code { .. } => return None,
        };
        Some((prompt.clone(), format!("{delimiter}{answer}")))
    }
}

impl TaskSpec {
    /// Reads the items, and checks each.
    ///
    /// # Errors
    /// A file that cannot be read, and with file and line an item that is not JSON or lacks what the kind asks for; a
    /// task without items, or with fewer than its examples need.
    pub fn load(&self) -> Result<Vec<Item>, SuiteError> {
        let mut items = Vec::new();
        match &self.items {
            Items::Inline(all) => {
                for (number, fields) in all.iter().enumerate() {
                    let at = format!("{}: items[{number}]", self.source);
                    items.push(self.item(fields.clone(), at)?);
                }
            }
            Items::Data(path) => {
                let text = fs::read_to_string(path).map_err(|source| SuiteError::Read {
                    path: path.clone(),
                    source,
                })?;
                let lines = text.lines().enumerate();
                for (number, line) in lines.filter(|(_, line)| !line.trim().is_empty()) {
                    let at = format!("{}:{}", path.display(), number + 1);
                    let fields = serde_json::from_str(line)
                        .map_err(|e| invalid(&at, format!("not a JSON object: {e}")))?;
                    items.push(self.item(fields, at)?);
                }
            }
        }
        if items.len() <= self.shots {
            return Err(invalid(
                &self.source,
                format!(
                    "task {} has {} items and needs more than its {} examples",
                    self.name,
                    items.len(),
                    self.shots
                ),
            ));
        }
        Ok(items)
    }

    fn item(&self, fields: Map<String, Value>, at: String) -> Result<Item, SuiteError> {
        let question = self.question(&fields).map_err(|why| invalid(&at, why))?;
        Ok(Item {
            question,
            at,
            fields,
        })
    }

    fn question(&self, fields: &Map<String, Value>) -> Result<Question, String> {
        let prompt = || self.template.fill(fields);
        Ok(match &self.kind {
            Kind::Loss => {
                let text = prompt()?;
                if text.is_empty() {
                    return Err("the text is empty; there is nothing to predict".to_owned());
                }
                Question::Text(text)
            }
            Kind::MultipleChoice { .. } => {
                let choices = texts(fields, "choices")?;
                Question::Choice {
                    gold: gold(fields, &choices, "choices")?,
                    prompt: prompt()?,
                    choices,
                }
            }
            Kind::Schema { .. } => {
                let contexts = texts(fields, "contexts")?;
                Question::Schema {
                    gold: gold(fields, &contexts, "contexts")?,
                    continuation: plain(fields, "continuation")?,
                    contexts,
                }
            }
            Kind::Generation { .. } | Kind::Chat { .. } => {
                let answers = match fields.get("answer") {
                    Some(Value::Array(_)) => texts(fields, "answer")?,
                    _ => vec![plain(fields, "answer")?],
                };
                if answers.iter().any(|answer| answer.trim().is_empty()) {
                    return Err("an answer is empty; every reply would be right or none".to_owned());
                }
                if answers.is_empty() {
                    return Err("field \"answer\" is an empty list".to_owned());
                }
                Question::Reply {
                    prompt: prompt()?,
                    answers,
                }
            }
            Kind::Code { program, .. } => {
                let mut known = fields.clone();
                known.insert("reply".to_owned(), Value::from(""));
                program.fill(&known)?;
                Question::Code { prompt: prompt()? }
            }
        })
    }
}

fn texts(fields: &Map<String, Value>, name: &str) -> Result<Vec<String>, String> {
    let wrong = || format!("field {name:?} is not a list of texts");
    let list = fields
        .get(name)
        .and_then(Value::as_array)
        .ok_or_else(wrong)?;
    let texts = list.iter().map(|value| value.as_str().map(str::to_owned));
    texts.collect::<Option<Vec<_>>>().ok_or_else(wrong)
}

fn gold(fields: &Map<String, Value>, among: &[String], name: &str) -> Result<usize, String> {
    if among.len() < 2 {
        return Err(format!(
            "field {name:?} holds {} texts; two or more make a choice",
            among.len()
        ));
    }
    fields
        .get("gold")
        .and_then(Value::as_u64)
        .and_then(|gold| usize::try_from(gold).ok())
        .filter(|&gold| gold < among.len())
        .ok_or_else(|| {
            format!(
                "field \"gold\" is not the number of one of {name:?}, from 0 to {}",
                among.len() - 1
            )
        })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    fn load(kind: &str, items: &str) -> Result<Vec<Item>, SuiteError> {
        let text = format!("name = 'x'\nkind = '{kind}'\nitems = [{items}]\n");
        TaskSpec::parse(&text, Path::new("x.toml")).unwrap().load()
    }

    #[test]
    fn items_are_read_and_shown() {
        for (kind, item, shown) in [
            ("loss", "{ text = 'a' }", None),
            (
                "multiple_choice",
                "{ query = 'q', choices = ['a', 'b'], gold = 1 }",
                Some("q b"),
            ),
            (
                "schema",
                "{ contexts = ['c', 'd'], continuation = 'e', gold = 1 }",
                Some("d e"),
            ),
            ("generation", "{ prompt = 'p', answer = 3 }", Some("p 3")),
            ("chat", "{ prompt = 'p', answer = ['x', 'y'] }", Some("p x")),
            ("code", "{ prompt = 'p', test = 't' }", None),
        ] {
            let items = load(kind, item).unwrap();
            let example = items[0].shown(" ").map(|(prompt, answer)| prompt + &answer);
            assert_eq!(example.as_deref(), shown, "{kind}");
            assert_eq!(items[0].at, "x.toml: items[0]");
        }
    }

    #[test]
    fn faulty_items_are_named() {
        for (kind, item, fault) in [
            ("loss", "{ text = '' }", "is empty"),
            ("loss", "{ txt = 'a' }", "no field \"text\""),
            (
                "multiple_choice",
                "{ query = 'q', choices = ['a'], gold = 0 }",
                "holds 1",
            ),
            (
                "multiple_choice",
                "{ query = 'q', choices = ['a', 1], gold = 0 }",
                "list of texts",
            ),
            (
                "multiple_choice",
                "{ query = 'q', choices = ['a', 'b'], gold = 2 }",
                "from 0 to 1",
            ),
            (
                "schema",
                "{ contexts = ['a', 'b'], gold = 0 }",
                "no field \"continuation\"",
            ),
            ("chat", "{ prompt = 'p' }", "no field \"answer\""),
            ("chat", "{ prompt = 'p', answer = '' }", "answer is empty"),
            ("chat", "{ prompt = 'p', answer = [] }", "empty list"),
            ("code", "{ prompt = 'p' }", "no field \"test\""),
        ] {
            let error = load(kind, item).unwrap_err().to_string();
            assert!(
                error.starts_with("x.toml: items[0]: ") && error.contains(fault),
                "{error}"
            );
        }
        assert!(
            load("loss", "")
                .unwrap_err()
                .to_string()
                .contains("has 0 items")
        );
    }

    #[test]
    fn data_files_are_read_line_by_line() {
        let folder = tempfile::tempdir().unwrap();
        let task = "name = 'x'\nkind = 'loss'\ndata = 'x.jsonl'\n";
        let spec = TaskSpec::parse(task, &folder.path().join("x.toml")).unwrap();
        assert!(matches!(spec.load(), Err(SuiteError::Read { .. })));
        let data = folder.path().join("x.jsonl");
        fs::write(&data, "{\"text\": \"a\"}\n\n{\"text\": \"b\"}\n").unwrap();
        let items = spec.load().unwrap();
        assert!(items.len() == 2 && items[1].at.ends_with("x.jsonl:3"));
        fs::write(&data, "{\"text\": \"a\"}\n[1]\n").unwrap();
        let error = spec.load().unwrap_err().to_string();
        assert!(error.contains("x.jsonl:2: not a JSON object"), "{error}");
    }
}
