//! Who goes when memory is needed.

use std::time::Duration;

use crate::ids::ModelId;

/// A model that takes memory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Tenant {
    pub(super) id: ModelId,
    pub(super) bytes: usize,
    /// How long nobody has used it; `None` while it may not go.
    pub(super) idle: Option<Duration>,
}

/// The idle models that must go so that `needed` bytes fit, the longest idle first, and none when they already do;
/// an error with the bytes that are free when all of them going would not be enough.
pub(super) fn make_room(
    needed: usize,
    budget: usize,
    tenants: &[Tenant],
) -> Result<Vec<ModelId>, usize> {
    let used: usize = tenants.iter().map(|tenant| tenant.bytes).sum();
    let mut free = budget.saturating_sub(used);
    let mut idle: Vec<&Tenant> = tenants.iter().filter(|t| t.idle.is_some()).collect();
    idle.sort_by_key(|tenant| std::cmp::Reverse(tenant.idle));
    let mut going = Vec::new();
    let before = free;
    // More may be in use than the budget allows: estimates of files are not exact.
    let mut over = used.saturating_sub(budget);
    for tenant in idle {
        if needed <= free && over == 0 {
            break;
        }
        let back = tenant.bytes.saturating_sub(over);
        over = over.saturating_sub(tenant.bytes);
        free += back;
        going.push(tenant.id.clone());
    }
    match needed <= free {
        true => Ok(going),
        false => Err(before),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]
    use super::*;
    use proptest::prelude::*;

    fn tenant(name: &str, bytes: usize, idle: Option<u64>) -> Tenant {
        Tenant {
            id: name.parse().unwrap(),
            bytes,
            idle: idle.map(Duration::from_secs),
        }
    }

    fn names(needed: usize, budget: usize, tenants: &[Tenant]) -> Result<Vec<String>, usize> {
        let going = make_room(needed, budget, tenants)?;
        Ok(going.iter().map(ModelId::to_string).collect())
    }

    #[test]
    fn the_longest_idle_go_first_and_no_more_than_needed() {
        let tenants = [
            tenant("a", 4, Some(1)),
            tenant("b", 4, Some(9)),
            tenant("c", 2, None),
        ];
        assert_eq!(names(2, 12, &tenants), Ok(vec![]));
        assert_eq!(names(5, 12, &tenants), Ok(vec!["b".to_owned()]));
        let both = Ok(vec!["b".to_owned(), "a".to_owned()]);
        assert_eq!(names(10, 12, &tenants), both);
        // Nobody is sent away for what would not fit even then.
        assert_eq!(names(11, 12, &tenants), Err(2));
        assert_eq!(names(1, 3, &tenants[2..]), Ok(vec![]));
        assert_eq!(names(2, 3, &tenants[2..]), Err(1));
        // A budget that was overdrawn is paid back first.
        assert_eq!(names(0, 7, &tenants), Ok(vec!["b".to_owned()]));
    }

    proptest! {
        #[test]
        fn what_stays_and_what_comes_fit_the_budget_and_the_busy_stay(
            needed in 0usize..50,
            budget in 0usize..100,
            sizes in prop::collection::vec((0usize..30, prop::option::of(0u64..9)), 0..8),
        ) {
            let tenants: Vec<Tenant> = sizes
                .iter()
                .enumerate()
                .map(|(i, &(bytes, idle))| tenant(&format!("m{i}"), bytes, idle))
                .collect();
            let kept = |going: &[ModelId]| -> usize {
                let stays = tenants.iter().filter(|t| !going.contains(&t.id));
                stays.map(|t| t.bytes).sum()
            };
            match make_room(needed, budget, &tenants) {
                Ok(going) => {
                    prop_assert!(tenants.iter().all(|t| t.idle.is_some() || !going.contains(&t.id)));
                    prop_assert!(needed == 0 || kept(&going) + needed <= budget);
                    // Without the last of them it would not have been enough.
                    if let Some((_, others)) = going.split_last() {
                        prop_assert!(kept(others) + needed > budget);
                    }
                }
                Err(_) => {
                    let busy: usize = tenants.iter().filter(|t| t.idle.is_none()).map(|t| t.bytes).sum();
                    prop_assert!(busy + needed > budget);
                }
            }
        }
    }
}
