//! One batch, as the model reads it.

use crate::ids::TokenId;

use super::{Corpus, DataError, Row};

/// What is learnt of a batch: the tokens that are to follow some of its tokens.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Objective {
    /// Places in the batch's `ids`, ascending.
    pub rows: Vec<usize>,
    /// One a place: the token that is to follow there.
    pub targets: Vec<TokenId>,
    /// One a place: its weight in the loss. Places of weight 0 are left out.
    pub weights: Vec<f32>,
}

/// All rows of a batch, end to end.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Batch {
    /// Token ids.
    pub ids: Vec<TokenId>,
    /// One an id: its place within its span, from 0.
    pub positions: Vec<u32>,
    /// Start and length of each span, in order and without gaps: attention is causal within a span and does not look
    /// beyond it.
    pub spans: Vec<(usize, usize)>,
    /// What is learnt.
    pub objective: Objective,
    /// Tokens without padding.
    pub tokens: usize,
    /// Samples, or parts of them.
    pub samples: usize,
    /// Rows.
    pub rows: usize,
}

impl Batch {
    /// The batch of some rows; `padding` is the token that pads.
    ///
    /// A span is a sample, a part of one, or one with its padding behind it, where nothing is learnt. Each token learns
    /// the next of its sample, also when that lies in another row.
    ///
    /// # Errors
    /// [`DataError::Scratch`] when the samples cannot be read.
    pub fn read(corpus: &Corpus, rows: &[Row], padding: TokenId) -> Result<Self, DataError> {
        let mut batch = Batch {
            rows: rows.len(),
            ..Batch::default()
        };
        for row in rows {
            for piece in &row.pieces {
                let sample = corpus.piece(*piece)?;
                let len = piece.len as usize;
                let start = batch.ids.len();
                let next = sample.ids.iter().zip(&sample.learnt).skip(1).take(len);
                for (place, (id, _)) in next.enumerate().filter(|(_, (_, learnt))| **learnt) {
                    batch.objective.rows.push(start + place);
                    batch.objective.targets.push(*id);
                    batch.objective.weights.push(1.0);
                }
                batch.ids.extend(sample.ids.iter().take(len));
                batch.spans.push((start, len));
                batch.tokens += len;
                batch.samples += 1;
            }
            let padded = batch.ids.len() + row.padding as usize;
            batch.ids.resize(padded, padding);
            if let Some((_, len)) = batch.spans.last_mut() {
                *len += row.padding as usize;
            }
        }
        batch.positions = batch
            .spans
            .iter()
            .flat_map(|(_, len)| 0..*len as u32)
            .collect();
        Ok(batch)
    }
}
