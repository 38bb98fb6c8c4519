//! Sequences that nobody runs, kept for when they are wanted again: in memory up to a budget, on disk beyond it.
//!
//! Exact where a general cache is approximate: bytes are counted at once, the order is strictly by last use, and what
//! does not fit is spilled and never dropped. When spilling fails the parcel stays in memory.

mod error;
mod spill;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

pub use error::ParkError;
pub use spill::{Parcel, Spill};

/// Something that was moved to disk to make room.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Spilled {
    /// Its key.
    pub key: String,
    /// Bytes on disk.
    pub bytes: u64,
}

/// Where a parcel is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// In memory.
    Memory,
    /// On disk only.
    Disk,
}

/// One line of [`Parked::list`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The key.
    pub key: String,
    /// Bytes at its place.
    pub bytes: u64,
    /// Where it is.
    pub place: Place,
    /// The count of uses when it was last used: larger is later.
    pub last_used: u64,
}

#[derive(Debug)]
struct Slot<P> {
    /// With its weight in bytes when it was parked; `None` if it is on disk only.
    resident: Option<(Arc<P>, usize)>,
    /// Bytes under its key on disk. Beside a resident parcel these are an older one's.
    on_disk: Option<u64>,
    used: u64,
}

/// Parcels by key. Every key is here from [`park`](Self::park) until [`take`](Self::take) or [`erase`](Self::erase)
/// succeed.
#[derive(Debug)]
pub struct Parked<P, S> {
    budget: usize,
    spill: S,
    clock: u64,
    resident_bytes: usize,
    spilled_bytes: u64,
    slots: HashMap<Arc<str>, Slot<P>>,
    /// The resident keys by last use.
    order: BTreeMap<u64, Arc<str>>,
}

impl<P: Parcel, S: Spill<P>> Parked<P, S> {
    /// Nothing yet; at most `budget_bytes` of parcels in memory, the rest goes to `spill`.
    pub fn new(budget_bytes: usize, spill: S) -> Self {
        Parked {
            budget: budget_bytes,
            spill,
            clock: 0,
            resident_bytes: 0,
            spilled_bytes: 0,
            slots: HashMap::new(),
            order: BTreeMap::new(),
        }
    }

    /// Parks a parcel, in place of the one with the same key if there is one. Then, as long as the budget is exceeded,
    /// spills parcels that are larger than the whole of it, and after them the least recently used.
    ///
    /// # Errors
    /// [`ParkError::Spill`]: everything is still parked, this parcel too, but more of it in memory than allowed. What
    /// could not be spilled is tried again by the next call.
    pub fn park(&mut self, key: &str, parcel: Arc<P>) -> Result<Vec<Spilled>, ParkError> {
        let bytes = parcel.bytes();
        let on_disk = match self.slots.get(key) {
            Some(old) => {
                // The older parcel's file stays until it is replaced: better than nothing after a crash.
                let on_disk = old.on_disk;
                self.leave_memory(key);
                on_disk
            }
            None => None,
        };
        let used = self.tick();
        let key: Arc<str> = key.into();
        self.resident_bytes += bytes;
        self.order.insert(used, Arc::clone(&key));
        let slot = Slot {
            resident: Some((parcel, bytes)),
            on_disk,
            used,
        };
        self.slots.insert(key, slot);
        self.make_room()
    }

    /// Hands a parcel over and forgets the key; `None` if there is no such key. Says where the parcel was.
    ///
    /// # Errors
    /// [`ParkError::Fetch`] if it cannot be read back, [`ParkError::Erase`] if its file cannot be erased. Either way
    /// it stays parked, and [`peek`](Self::peek) may still read it.
    pub fn take(&mut self, key: &str) -> Result<Option<(Arc<P>, Place)>, ParkError> {
        let found = self.read(key)?;
        if found.is_some() {
            self.erase(key)?;
        }
        Ok(found)
    }

    /// A parcel that stays parked where it is and counts as used: to begin another sequence from it.
    ///
    /// # Errors
    /// [`ParkError::Fetch`] if it cannot be read back.
    pub fn peek(&mut self, key: &str) -> Result<Option<(Arc<P>, Place)>, ParkError> {
        let found = self.read(key)?;
        let now = self.tick();
        if let Some(slot) = self.slots.get_mut(key) {
            if let Some(name) = self.order.remove(&slot.used) {
                self.order.insert(now, name);
            }
            slot.used = now;
        }
        Ok(found)
    }

    /// Removes a parcel from memory and from disk; false if there is no such key.
    ///
    /// # Errors
    /// [`ParkError::Erase`] if its file cannot be erased; it stays parked.
    pub fn erase(&mut self, key: &str) -> Result<bool, ParkError> {
        let Some(slot) = self.slots.get(key) else {
            return Ok(false);
        };
        if let Some(bytes) = slot.on_disk {
            self.spill.erase(key).map_err(|reason| ParkError::Erase {
                key: key.to_owned(),
                reason,
            })?;
            self.spilled_bytes -= bytes;
        }
        self.leave_memory(key);
        self.slots.remove(key);
        Ok(true)
    }

    /// Everything parked, the least recently used first.
    pub fn list(&self) -> Vec<Entry> {
        let mut entries: Vec<Entry> = self
            .slots
            .iter()
            .map(|(key, slot)| slot.entry(key))
            .collect();
        entries.sort_by_key(|entry| entry.last_used);
        entries
    }

    /// Bytes of the parcels in memory. Above the budget only after an error of [`park`](Self::park).
    pub fn resident_bytes(&self) -> usize {
        self.resident_bytes
    }

    /// Bytes on disk, with those of older parcels whose successors are in memory.
    pub fn spilled_bytes(&self) -> u64 {
        self.spilled_bytes
    }

    /// Spills until the budget is kept. One failure does not end it: what is broken may be that parcel alone.
    fn make_room(&mut self) -> Result<Vec<Spilled>, ParkError> {
        let mut spilled = Vec::new();
        if self.resident_bytes <= self.budget {
            return Ok(spilled);
        }
        let (mut victims, fitting): (Vec<Arc<str>>, Vec<Arc<str>>) =
            self.order.values().cloned().partition(|key| {
                let resident = self.slots.get(key).and_then(|slot| slot.resident.as_ref());
                resident.is_some_and(|(_, bytes)| *bytes > self.budget)
            });
        victims.extend(fitting);
        let mut first_failure = None;
        for key in victims {
            if self.resident_bytes <= self.budget {
                break;
            }
            match self.spill_one(&key) {
                Ok(bytes) => spilled.push(Spilled {
                    key: key.to_string(),
                    bytes,
                }),
                Err(reason) => {
                    first_failure.get_or_insert((key, reason));
                }
            }
        }
        match first_failure {
            None => Ok(spilled),
            Some((key, reason)) => Err(ParkError::Spill {
                key: key.to_string(),
                reason,
                over: self.resident_bytes.saturating_sub(self.budget),
                spilled,
            }),
        }
    }

    /// Moves a resident parcel to disk and says how many bytes it takes there.
    fn spill_one(&mut self, key: &str) -> Result<u64, String> {
        let resident = self.slots.get(key).and_then(|slot| slot.resident.as_ref());
        let Some((parcel, _)) = resident else {
            return Err("it is not in memory".to_owned());
        };
        let bytes = self.spill.spill(key, parcel)?;
        self.leave_memory(key);
        if let Some(slot) = self.slots.get_mut(key) {
            self.spilled_bytes -= slot.on_disk.replace(bytes).unwrap_or(0);
            self.spilled_bytes += bytes;
        }
        Ok(bytes)
    }

    /// Drops a parcel from memory, if it is there, but not its key.
    fn leave_memory(&mut self, key: &str) {
        if let Some(slot) = self.slots.get_mut(key)
            && let Some((_, bytes)) = slot.resident.take()
        {
            self.resident_bytes -= bytes;
            self.order.remove(&slot.used);
        }
    }

    fn read(&mut self, key: &str) -> Result<Option<(Arc<P>, Place)>, ParkError> {
        match self.slots.get(key) {
            None => Ok(None),
            Some(Slot {
                resident: Some((parcel, _)),
                ..
            }) => Ok(Some((Arc::clone(parcel), Place::Memory))),
            Some(_) => match self.spill.fetch(key) {
                Ok(parcel) => Ok(Some((Arc::new(parcel), Place::Disk))),
                Err(reason) => Err(ParkError::Fetch {
                    key: key.to_owned(),
                    reason,
                }),
            },
        }
    }

    fn tick(&mut self) -> u64 {
        self.clock += 1;
        self.clock
    }
}

impl<P> Slot<P> {
    fn entry(&self, key: &str) -> Entry {
        let (place, bytes) = match &self.resident {
            Some((_, bytes)) => (Place::Memory, *bytes as u64),
            None => (Place::Disk, self.on_disk.unwrap_or(0)),
        };
        Entry {
            key: key.to_owned(),
            bytes,
            place,
            last_used: self.used,
        }
    }
}
