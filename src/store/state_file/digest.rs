//! Hashes as text.
#![deny(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic
)]

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// A sha256 as 64 lowercase hexadecimal digits.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Sha256Hex(String);

/// Why a text is not a sha256.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a sha256: it has 64 digits from 0-9 and a-f")]
pub struct BadDigest(String);

impl Sha256Hex {
    /// The digits.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Of `content`.
    pub fn of_content(content: &[u8]) -> Self {
        use sha2::{Digest, Sha256};
        Sha256Hex::of(&Sha256::digest(content))
    }

    /// From the 32 bytes of a hash.
    pub(super) fn of(bytes: &[u8]) -> Self {
        Sha256Hex(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
    }
}

impl FromStr for Sha256Hex {
    type Err = BadDigest;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let allowed = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
        if text.len() == 64 && text.bytes().all(allowed) {
            Ok(Sha256Hex(text.to_owned()))
        } else {
            Err(BadDigest(text.chars().take(80).collect()))
        }
    }
}

impl TryFrom<String> for Sha256Hex {
    type Error = BadDigest;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<Sha256Hex> for String {
    fn from(digest: Sha256Hex) -> String {
        digest.0
    }
}

impl fmt::Display for Sha256Hex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sixty_four_lowercase_digits_and_nothing_else() {
        let good = "0123456789abcdef".repeat(4);
        assert_eq!(
            good.parse::<Sha256Hex>().map(String::from),
            Ok(good.clone())
        );
        for bad in [
            "",
            &good[1..],
            &good.to_uppercase(),
            &format!("{good}0"),
            &good.replace('0', "g"),
        ] {
            assert!(bad.parse::<Sha256Hex>().is_err(), "{bad:?} must be refused");
        }
        assert!(Sha256Hex::of(&[0x0a; 32]).as_str().starts_with("0a0a"));
    }
}
