//! Bits per byte: a loss that tokenizers do not change.

use crate::text::Tokenizer;

/// The bytes of each token id; special tokens have none, since no text holds them.
pub fn bytes_of_tokens(tokenizer: &Tokenizer) -> Vec<u32> {
    let bytes = |id: u32| match tokenizer.is_special(id) {
        true => 0,
        false => u32::try_from(tokenizer.token_bytes(id).len()).unwrap_or(u32::MAX),
    };
    (0..).take(tokenizer.vocab_size()).map(bytes).collect()
}

/// Sums of losses and of the bytes they are for.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct BitsPerByte {
    nats: f64,
    bytes: u64,
}

impl BitsPerByte {
    /// Adds the loss of one target, in nats, and its bytes. A target without bytes (a special token, or one that is
    /// masked) does not count, its loss neither.
    pub fn add(&mut self, nats: f64, bytes: u32) {
        if bytes > 0 {
            self.nats += nats;
            self.bytes += u64::from(bytes);
        }
    }

    /// Bytes that were counted.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Total nats / (ln 2 · bytes); none before a byte has been counted.
    pub fn value(&self) -> Option<f64> {
        (self.bytes > 0).then(|| self.nats / (std::f64::consts::LN_2 * self.bytes as f64))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::encode::tests::tokenizer;
    use crate::text::Specials;

    /// Test N10: a uniform guess over V tokens costs log2(V) bits a token, and what is ignored does not count.
    #[test]
    fn n10_bits_per_byte() {
        let tokenizer = tokenizer();
        let table = bytes_of_tokens(&tokenizer);
        assert_eq!(table.len(), 300);
        assert_eq!(table[..4], [0, 0, 0, 0]);
        let text = "user and assistant talk about 7 small things";
        let ids = tokenizer.encode(text, Specials::Literal).unwrap();
        let uniform = 300f64.ln();
        let mut bits = BitsPerByte::default();
        assert_eq!(bits.value(), None);
        for id in &ids {
            bits.add(uniform, table[*id as usize]);
        }
        bits.add(99.0, table[1]);
        assert_eq!(bits.bytes(), text.len() as u64);
        let per_token = text.len() as f64 / ids.len() as f64;
        assert!((bits.value().unwrap() - 300f64.log2() / per_token).abs() < 1e-12);
    }
}
