//! Samples as people read them: tokens, and which of them are learnt.

use std::fmt;

use serde::Serialize;

use crate::ids::TokenId;
use crate::text::{Controls, Tokenizer};

use super::{DataError, Dataset, Encoder, Place, Sample, Side};

/// One token of a sample.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PreviewToken {
    /// Its id.
    pub id: TokenId,
    /// The id as a label: -100 where it is masked, as in other training programs.
    pub label: i64,
    /// Its text; half a character is shown as U+FFFD.
    pub text: String,
}

/// Neighbouring tokens that are all learnt, or all masked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Run {
    /// Whether they are learnt.
    pub learnt: bool,
    /// How many tokens.
    pub tokens: usize,
    /// Their text.
    pub text: String,
}

/// A sample to look at. Displayed, each run is a line that says `learnt` or `masked`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Preview {
    /// Where the record stands; none for a sample out of a corpus.
    pub place: Option<Place>,
    /// Tokens at the end that are not shown.
    pub left_out: usize,
    /// The tokens.
    pub tokens: Vec<PreviewToken>,
    /// The same in runs.
    pub runs: Vec<Run>,
    /// How many of them are learnt.
    pub learnt: usize,
}

impl Preview {
    /// The first `count` records of one side, encoded, with at most `max_tokens` tokens of each.
    ///
    /// # Errors
    /// The first record that cannot be read or encoded.
    pub fn of_dataset(
        dataset: &Dataset,
        side: Side,
        encoder: &Encoder,
        count: usize,
        max_tokens: usize,
    ) -> Result<Vec<Self>, DataError> {
        let mut previews = Vec::new();
        for located in dataset.records(side)?.take(count) {
            let located = located?;
            let sample = encoder.encode(&located.record);
            let sample = sample.map_err(|source| DataError::Encode {
                place: located.place.clone(),
                source,
            })?;
            previews.push(Preview {
                place: Some(located.place),
                ..Preview::new(&sample, encoder.tokenizer(), max_tokens)
            });
        }
        Ok(previews)
    }

    /// The preview of the first `max_tokens` tokens of a sample.
    pub fn new(sample: &Sample, tokenizer: &Tokenizer, max_tokens: usize) -> Self {
        let text = |ids: &[TokenId]| {
            let bytes: Vec<u8> = ids
                .iter()
                .flat_map(|id| tokenizer.token_bytes(*id))
                .collect();
            String::from_utf8_lossy(&bytes).into_owned()
        };
        // The first token follows nothing, so no loss is taken there.
        let learnt = sample.learnt.iter().enumerate().map(|(at, l)| at > 0 && *l);
        let pairs: Vec<(TokenId, bool)> = sample
            .ids
            .iter()
            .copied()
            .zip(learnt)
            .take(max_tokens)
            .collect();
        let token = |(id, learnt): &(TokenId, bool)| PreviewToken {
            id: *id,
            label: if *learnt { i64::from(*id) } else { -100 },
            text: tokenizer.decode(&[*id], Controls::Keep),
        };
        let run = |run: &[(TokenId, bool)]| {
            let ids: Vec<TokenId> = run.iter().map(|(id, _)| *id).collect();
            Run {
                learnt: run.first().is_some_and(|(_, learnt)| *learnt),
                tokens: run.len(),
                text: text(&ids),
            }
        };
        Preview {
            place: None,
            left_out: sample.ids.len() - pairs.len(),
            tokens: pairs.iter().map(token).collect(),
            runs: pairs.chunk_by(|a, b| a.1 == b.1).map(run).collect(),
            learnt: pairs.iter().filter(|(_, learnt)| *learnt).count(),
        }
    }
}

impl fmt::Display for Preview {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(place) = &self.place {
            writeln!(f, "{place}")?;
        }
        writeln!(f, "{} tokens, {} learnt", self.tokens.len(), self.learnt)?;
        for run in &self.runs {
            let side = if run.learnt { "learnt" } else { "masked" };
            writeln!(f, "{side} {:>5} | {:?}", run.tokens, run.text)?;
        }
        if self.left_out > 0 {
            writeln!(f, "and {} tokens more", self.left_out)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::corpus::tests::dataset;
    use crate::data::encode::tests::{encoder, tokenizer};
    use crate::data::{DatasetOptions, EncodeOptions, Record};

    #[test]
    fn masked_labels_are_marked() {
        let pair = Record::Pair {
            prompt: "hé?".into(),
            completion: "yés".into(),
        };
        let sample = encoder(EncodeOptions::default()).encode(&pair).unwrap();
        let preview = Preview::new(&sample, &tokenizer(), 100);
        let runs: Vec<(bool, &str)> = preview
            .runs
            .iter()
            .map(|r| (r.learnt, r.text.as_str()))
            .collect();
        let expected = [
            (
                false,
                "<|im_start|>user\nhé?<|im_end|>\n<|im_start|>assistant\n",
            ),
            (true, "yés<|im_end|>"),
            (false, "\n"),
        ];
        assert_eq!(runs, expected);
        let shown = preview.to_string();
        assert!(
            shown.contains("learnt") && shown.contains("| \"yés<|im_end|>\""),
            "{shown}"
        );
        let json = serde_json::to_value(&preview).unwrap();
        assert_eq!(json["tokens"][0]["label"], -100);
        assert_eq!(json["tokens"][0]["text"], "<|im_start|>");
        let labels = preview.tokens.iter().filter(|t| t.label != -100).count();
        assert_eq!((labels, labels), (preview.learnt, sample.learnt_tokens()));
        let document = encoder(EncodeOptions::default())
            .encode(&Record::text("a"))
            .unwrap();
        assert_eq!(
            Preview::new(&document, &tokenizer(), 100).runs[0].text,
            "<|begin_of_text|>"
        );
    }

    #[test]
    fn records_are_shown_with_their_place_and_what_is_left_out() {
        let folder = tempfile::tempdir().unwrap();
        let lines = "{\"text\": \"small things\"}\n{\"text\": \"b\"}\noops\n";
        let data = dataset(folder.path(), "a.jsonl", lines, DatasetOptions::default());
        let encoder = encoder(EncodeOptions::default());
        let show = |count| Preview::of_dataset(&data, Side::Whole, &encoder, count, 2);
        let shown = show(2).unwrap();
        assert_eq!((shown.len(), shown[0].tokens.len()), (2, 2));
        let text = shown[0].to_string();
        assert!(text.contains("a.jsonl:1\n2 tokens, 1 learnt"), "{text}");
        assert!(text.contains(&format!("and {} tokens more", shown[0].left_out)));
        assert!(shown[0].left_out > 0);
        assert!(show(3).is_err());
    }
}
