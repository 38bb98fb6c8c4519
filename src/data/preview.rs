//! Samples as people read them: tokens, and which of them are learnt.

use std::fmt;

use serde::Serialize;

use crate::ids::TokenId;
use crate::text::{Controls, Tokenizer};

use super::Sample;

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
    /// The tokens.
    pub tokens: Vec<PreviewToken>,
    /// The same in runs.
    pub runs: Vec<Run>,
    /// How many tokens are learnt.
    pub learnt: usize,
}

impl Preview {
    /// The preview of a sample.
    pub fn new(sample: &Sample, tokenizer: &Tokenizer) -> Self {
        let text = |ids: &[TokenId]| {
            let bytes: Vec<u8> = ids
                .iter()
                .flat_map(|id| tokenizer.token_bytes(*id))
                .collect();
            String::from_utf8_lossy(&bytes).into_owned()
        };
        // The first token follows nothing, so no loss is taken there.
        let learnt = sample.learnt.iter().enumerate().map(|(at, l)| at > 0 && *l);
        let pairs: Vec<(TokenId, bool)> = sample.ids.iter().copied().zip(learnt).collect();
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
            tokens: pairs.iter().map(token).collect(),
            runs: pairs.chunk_by(|a, b| a.1 == b.1).map(run).collect(),
            learnt: pairs.iter().filter(|(_, learnt)| *learnt).count(),
        }
    }
}

impl fmt::Display for Preview {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{} tokens, {} learnt", self.tokens.len(), self.learnt)?;
        for run in &self.runs {
            let side = if run.learnt { "learnt" } else { "masked" };
            writeln!(f, "{side} {:>5} | {:?}", run.tokens, run.text)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::encode::tests::{encoder, tokenizer};
    use crate::data::{EncodeOptions, Record};

    #[test]
    fn masked_labels_are_marked() {
        let pair = Record::Pair {
            prompt: "hé?".into(),
            completion: "yés".into(),
        };
        let sample = encoder(EncodeOptions::default()).encode(&pair).unwrap();
        let preview = Preview::new(&sample, &tokenizer());
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
            Preview::new(&document, &tokenizer()).runs[0].text,
            "<|begin_of_text|>"
        );
    }
}
