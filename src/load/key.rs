//! Callers that share a server.

use std::str::FromStr;

use super::arrivals::Rate;
use crate::units::Secret;

/// One caller: a name for the report, how much of the load is its own, and what it identifies itself by.
#[derive(Debug, Clone)]
pub struct Key {
    /// The name in the report.
    pub name: String,
    /// Its part of the load, in proportion to those of the others; alone, it is the rate or the number of streams.
    pub share: Rate,
    /// Sent as `Authorization: Bearer`; `None` sends no key.
    pub secret: Option<Secret>,
}

/// Why a text is no key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is no key: write NAME=SHARE, or NAME=SHARE:SECRET where the secret is not the name, such as light=1:sk-1"
)]
pub struct BadKey(String);

impl FromStr for Key {
    type Err = BadKey;

    /// `NAME=SHARE[:SECRET]`; without a secret the name is it.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        // Only the name is told: what follows may be secret.
        let (name, rest) = text
            .split_once('=')
            .ok_or_else(|| BadKey(text.to_owned()))?;
        let wrong = || BadKey(format!("{name}=…"));
        let (share, secret) = rest.split_once(':').unwrap_or((rest, name));
        let secret = Secret::new(secret).ok_or_else(wrong)?;
        if name.is_empty() {
            return Err(wrong());
        }
        Ok(Key {
            name: name.to_owned(),
            share: share.parse().map_err(|_| wrong())?,
            secret: Some(secret),
        })
    }
}

/// How a load of `total` is split, in proportion to the shares.
pub fn split(keys: &[Key], total: f64) -> Vec<f64> {
    let sum: f64 = keys.iter().map(|key| key.share.get()).sum();
    let part = |key: &Key| total * key.share.get() / sum;
    keys.iter().map(part).collect()
}

/// How `total` streams are split: at least one each, and the others so that each is as near as can be to its share.
pub fn split_streams(keys: &[Key], total: usize) -> Vec<usize> {
    let parts = split(keys, total as f64);
    let mut given = vec![1; keys.len()];
    for _ in keys.len()..total {
        let lacks = given.iter_mut().zip(&parts).rev();
        let most = lacks.max_by(|(a, x), (b, y)| (*x - **a as f64).total_cmp(&(*y - **b as f64)));
        if let Some((streams, _)) = most {
            *streams += 1;
        }
    }
    given
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn keys_are_read() {
        for (text, name, share, secret) in
            [("a=1", "a", 1.0, "a"), ("b=2.5:sk:x=y", "b", 2.5, "sk:x=y")]
        {
            let key: Key = text.parse().unwrap();
            assert_eq!((key.name.as_str(), key.share.get()), (name, share));
            assert_eq!(key.secret.unwrap().expose(), secret);
        }
        for bad in ["", "a", "=1", "a=", "a=0", "a=x:sk", "a=1:"] {
            assert!(bad.parse::<Key>().is_err(), "{bad:?}");
        }
        let told = "a=x:sk-1".parse::<Key>().unwrap_err().to_string();
        assert!(!told.contains("x:sk-1"), "{told}");
    }

    #[test]
    fn loads_are_split_by_share() {
        let keys: Vec<Key> = ["a=1", "b=10"]
            .iter()
            .map(|key| key.parse().unwrap())
            .collect();
        assert_eq!(split(&keys, 22.0), [2.0, 20.0]);
        assert_eq!(split_streams(&keys, 22), [2, 20]);
        assert_eq!(split_streams(&keys, 4), [1, 3]);
        assert_eq!(split_streams(&keys, 1), [1, 1]);
    }

    proptest! {
        #[test]
        fn no_stream_is_lost_or_added(shares in proptest::collection::vec(0.1f64..20.0, 1..8), total in 1usize..200) {
            let key = |share: &f64| format!("k={share}").parse().unwrap();
            let keys: Vec<Key> = shares.iter().map(key).collect();
            let streams = split_streams(&keys, total);
            prop_assert_eq!(streams.iter().sum::<usize>(), total.max(keys.len()));
            prop_assert!(streams.iter().all(|&n| n > 0));
        }
    }
}
