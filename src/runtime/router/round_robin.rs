//! Each in turn.

use super::{Call, Load, Router};

/// Smooth weighted round robin, as nginx does it: every replica earns its weight a turn, the richest is chosen and pays
/// what all have earned. With equal weights that is each in turn.
#[derive(Debug, Default)]
pub(super) struct RoundRobin {
    credit: Vec<i64>,
}

impl Router for RoundRobin {
    fn choose(&mut self, _: &Call<'_>, replicas: &[Load]) -> Option<usize> {
        self.credit.resize(replicas.len(), 0);
        let mut earned = 0;
        let mut richest: Option<(usize, i64)> = None;
        for (place, (credit, load)) in self.credit.iter_mut().zip(replicas).enumerate() {
            if !load.up {
                // One that comes back begins anew, or it would be sent all that it missed.
                *credit = 0;
                continue;
            }
            let weight = i64::from(load.weight.max(1));
            *credit += weight;
            earned += weight;
            if richest.is_none_or(|(_, most)| *credit > most) {
                richest = Some((place, *credit));
            }
        }
        let (place, _) = richest?;
        if let Some(credit) = self.credit.get_mut(place) {
            *credit -= earned;
        }
        Some(place)
    }
}
