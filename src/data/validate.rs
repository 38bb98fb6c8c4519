//! What is wrong with data, all of it at once.

use std::collections::BTreeMap;

use serde::Serialize;

use super::{DataError, Dataset, Encoder, Located, Problem, Record, Side};

/// What was found in data.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Validation {
    /// Files read.
    pub files: u64,
    /// Records that can be used.
    pub records: u64,
    /// How many there are of each shape; `text_file` for passages of text files.
    pub shapes: BTreeMap<String, u64>,
    /// Fields that mean nothing here, and in how many records.
    pub unused: BTreeMap<String, u64>,
    /// How many tokens the usable records have; only with an encoder.
    pub tokens: u64,
    /// Tokens of the longest of them.
    pub longest: u64,
    /// The first problems, in order.
    pub problems: Vec<Problem>,
    /// How many problems there are, those beyond the cap included.
    pub problem_count: u64,
    /// How many of them each file has.
    pub problems_by_file: BTreeMap<String, u64>,
    /// Files that could not be read to their end, and why.
    pub broken_files: Vec<String>,
}

impl Validation {
    /// Whether everything can be used.
    pub fn is_clean(&self) -> bool {
        self.problem_count == 0 && self.broken_files.is_empty()
    }

    fn problem(&mut self, problem: Problem, cap: usize) {
        self.problem_count += 1;
        let file = problem.place.file.display().to_string();
        *self.problems_by_file.entry(file).or_default() += 1;
        if self.problems.len() < cap {
            self.problems.push(problem);
        }
    }

    fn usable(&mut self, located: &Located) {
        let shape = match located.shape {
            Some(shape) => serde_json::to_value(shape).ok(),
            None => None,
        };
        let shape = shape.as_ref().and_then(|name| name.as_str());
        let shape = shape.unwrap_or("text_file").to_owned();
        *self.shapes.entry(shape).or_default() += 1;
        self.records += 1;
    }
}

/// Reads all records, and encodes them when an encoder is given, keeping the first `cap` problems.
///
/// # Errors
/// Only when the files cannot be read at all, see [`Dataset::records`]; a file that breaks off is told in the result.
pub fn validate(
    dataset: &Dataset,
    encoder: Option<&Encoder>,
    cap: usize,
) -> Result<Validation, DataError> {
    let mut found = Validation {
        files: dataset.paths().count() as u64,
        ..Validation::default()
    };
    // Tokens of the document under way.
    let mut document = 0;
    for located in dataset.records(Side::Whole)? {
        let located = match located {
            Ok(located) => located,
            Err(DataError::Record(problem)) => {
                found.problem(problem, cap);
                continue;
            }
            Err(error) => {
                found.broken_files.push(error.to_string());
                continue;
            }
        };
        for field in &located.unused {
            *found.unused.entry(field.clone()).or_default() += 1;
        }
        if let Some(encoder) = encoder {
            match tokens(&located, encoder, &mut document) {
                Ok(tokens) => {
                    found.tokens += tokens;
                    found.longest = found.longest.max(document);
                }
                Err(error) => {
                    match error.problem() {
                        Some(problem) => found.problem(problem, cap),
                        None => found.broken_files.push(error.to_string()),
                    }
                    continue;
                }
            }
        }
        found.usable(&located);
    }
    Ok(found)
}

/// Tokens of a record; `document` counts those of the document that it belongs to.
fn tokens(located: &Located, encoder: &Encoder, document: &mut u64) -> Result<u64, DataError> {
    let place = &located.place;
    let sample = encoder.encode(&located.record);
    let sample = sample.map_err(|source| DataError::Encode {
        place: place.clone(),
        source,
    })?;
    let tokens = sample.ids.len() as u64;
    let goes_on = matches!(located.record, Record::Text { first: false, .. });
    let before = if goes_on { *document } else { 0 };
    *document = before + tokens;
    match encoder.options().context {
        // Told once for a document of many passages.
        Some(context) if *document > context as u64 && before <= context as u64 => {
            Err(DataError::Overlong {
                place: place.clone(),
                tokens: *document as usize,
                context,
            })
        }
        _ => Ok(tokens),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::corpus::tests::dataset;
    use crate::data::encode::tests::encoder;
    use crate::data::{DatasetOptions, EncodeOptions};

    const LINES: &str = "{\"text\": \"a\", \"id\": 1}\n{\"text\": \"\"}\nnope\n{\"text\": \"x\", \"label\": -1}\n{\"text\": null}\n{\"prompt\": \"p\", \"completion\": \"c\"}\n";

    /// Test L10 over a file: all bad samples are told with file, line and field, and the good ones counted.
    #[test]
    fn l10_problems_are_named_by_file_line_and_field() {
        let folder = tempfile::tempdir().unwrap();
        let data = dataset(folder.path(), "a.jsonl", LINES, DatasetOptions::default());
        let found = validate(&data, None, 100).unwrap();
        assert_eq!((found.files, found.records, found.problem_count), (1, 2, 4));
        let shown: Vec<String> = found.problems.iter().map(|p| p.to_string()).collect();
        let starts = [
            ":2: field `text`: is empty",
            ":3: is not JSON",
            ":4: field `label`: is -1",
            ":5: field `text`: is null",
        ];
        for (shown, start) in shown.iter().zip(starts) {
            assert!(shown.contains(&format!("a.jsonl{start}")), "{shown}");
        }
        assert_eq!(found.shapes["text"], 1);
        assert_eq!(found.shapes["prompt_completion"], 1);
        assert_eq!(found.unused["id"], 1);
        assert!(!found.is_clean());
        let capped = validate(&data, None, 1).unwrap();
        assert_eq!((capped.problems.len(), capped.problem_count), (1, 4));
        assert_eq!(capped.problems_by_file.values().sum::<u64>(), 4);
        let json = serde_json::to_value(&found).unwrap();
        assert_eq!(json["problems"][0]["place"]["number"], 2);
        assert_eq!(json["problems"][0]["place"]["unit"], "line");
    }

    #[test]
    fn an_encoder_finds_what_does_not_fit() {
        let folder = tempfile::tempdir().unwrap();
        let encoder = encoder(EncodeOptions {
            context: Some(30),
            ..EncodeOptions::default()
        });
        let long = format!(
            "{{\"text\": \"a\"}}\n{{\"text\": \"{}\"}}\n",
            "word ".repeat(50)
        );
        let data = dataset(folder.path(), "a.jsonl", &long, DatasetOptions::default());
        let found = validate(&data, Some(&encoder), 10).unwrap();
        assert_eq!(
            (found.records, found.problem_count, found.longest),
            (1, 1, 3)
        );
        assert!(found.problems[0].to_string().contains("a row has 30"));
        let text = "small things\n".repeat(200_000);
        let data = dataset(folder.path(), "b.txt", &text, DatasetOptions::default());
        assert_eq!(
            validate(&data, Some(&encoder), 10).unwrap().problem_count,
            1
        );
        assert_eq!(validate(&data, None, 10).unwrap().shapes["text_file"], 3);
    }

    #[test]
    fn a_broken_file_is_told_and_the_next_is_read() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("a.parquet"), "x").unwrap();
        std::fs::write(folder.path().join("b.jsonl"), "{\"text\": \"a\"}").unwrap();
        let data = Dataset::open(&[folder.path().to_owned()], DatasetOptions::default()).unwrap();
        let found = validate(&data, None, 10).unwrap();
        assert_eq!((found.records, found.broken_files.len()), (1, 1));
        assert!(
            found.broken_files[0].contains("not readable as parquet"),
            "{found:?}"
        );
    }
}
