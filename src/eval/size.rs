//! How long a text is, and how many units of filler fit into a context.

/// Counts the tokens of a text, without the special tokens that a model puts around a whole prompt.
pub trait Count {
    /// Tokens of `text`.
    fn count(&self, text: &str) -> usize;
}

/// The largest number of units, `least` or more, at which `size` is `limit` or less.
///
/// `size` is taken to grow with the units; at most `4 * limit + least` of them are tried. The search guesses from the
/// first units, since each call of `size` tokenizes a whole context.
///
/// # Errors
/// The size of `least` units when that is over `limit`.
pub fn largest(
    least: usize,
    limit: usize,
    mut size: impl FnMut(usize) -> usize,
) -> Result<usize, usize> {
    const PROBE: usize = 8;
    let smallest = size(least);
    if smallest > limit {
        return Err(smallest);
    }
    let most = least + 4 * limit;
    let probed = size(least + PROBE).saturating_sub(smallest).max(1);
    let mut units = (least + (limit - smallest) * PROBE / probed).clamp(least + 1, most);
    let (mut fits, mut too_large) = (least, None);
    let mut step = 1;
    loop {
        if size(units) <= limit {
            fits = units;
        } else {
            too_large = Some(units);
        }
        units = match too_large {
            None if fits == most => return Ok(fits),
            None => (fits + step).min(most),
            Some(high) if high - fits <= 1 => return Ok(fits),
            Some(high) => high.saturating_sub(step).max(fits + (high - fits) / 2),
        };
        step *= 2;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn one_unit_more_would_not_fit(
            least in 0_usize..20,
            limit in 1_usize..5000,
            fixed in 0_usize..200,
            steps in prop::collection::vec(1_usize..40, 1..8),
        ) {
            let size = |units: usize| fixed + (0..units).map(|at| steps[at % steps.len()]).sum::<usize>();
            match largest(least, limit, size) {
                Ok(units) => {
                    prop_assert!(units >= least);
                    prop_assert!(size(units) <= limit);
                    prop_assert!(size(units + 1) > limit);
                }
                Err(needed) => {
                    prop_assert_eq!(needed, size(least));
                    prop_assert!(needed > limit);
                }
            }
        }
    }

    #[test]
    fn few_texts_are_counted() {
        let mut calls = 0;
        let units = largest(1, 32_000, |units| {
            calls += 1;
            100 + 13 * units + (units % 7)
        });
        assert_eq!(units, Ok(2453));
        assert!(calls <= 14, "{calls} calls");
    }

    #[test]
    fn units_without_tokens_end_the_search() {
        assert_eq!(largest(2, 10, |_| 3), Ok(42));
    }
}
