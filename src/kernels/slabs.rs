//! Memory that is read whole in every step: weights.
#![allow(
    unsafe_code,
    reason = "pieces of one mapping are written and read by different owners"
)]

use std::cell::RefCell;
use std::io;
use std::ops::{Deref, DerefMut};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use memmap2::MmapMut;

use super::line::LINE_BYTES;

/// Bytes of a large page.
const LARGE: usize = 2 << 20;

/// Memory of pieces that are taken one after the other, neighbours side by side in large pages where the system has them:
/// with pages of 4 KiB a step that reads all weights spends some of its time on looking up where they lie.
///
/// A slab is given back when the last of its pieces is dropped.
#[derive(Debug)]
pub struct Slabs {
    /// Bytes of a slab; what is longer than half of it has one of its own.
    size: usize,
    last: RefCell<Option<Arc<Slab>>>,
}

#[derive(Debug)]
struct Slab {
    /// Keeps the memory; it is reached through `start` only.
    _map: MmapMut,
    start: *mut u8,
    size: usize,
    used: AtomicUsize,
}

// SAFETY: `start` points into the mapping, which any thread may read, write and free; that no two pieces overlap, `take`
// sees to.
unsafe impl Send for Slab {}
// SAFETY: as above.
unsafe impl Sync for Slab {}

/// Bytes of a slab that are nobody else's, on a cache line, 0 at first.
#[derive(Debug)]
pub struct Piece {
    slab: Arc<Slab>,
    start: usize,
    len: usize,
}

impl Slabs {
    /// Slabs of `size` bytes.
    pub fn new(size: usize) -> Slabs {
        Slabs {
            size,
            last: RefCell::default(),
        }
    }

    /// The next `len` bytes.
    ///
    /// # Panics
    ///
    /// When the system has no such memory, as every allocation does.
    pub fn take(&self, len: usize) -> Piece {
        let mut last = self.last.borrow_mut();
        if let Some(piece) = last.as_ref().and_then(|slab| Slab::take(slab, len)) {
            return piece;
        }
        let own = len > self.size / 2;
        let slab = Slab::new(if own { len } else { self.size })
            .unwrap_or_else(|error| panic!("no memory for {len} bytes of weights: {error}"));
        let slab = Arc::new(slab);
        let piece = Slab::take(&slab, len).expect("a new slab has room for what it was made for");
        if !own {
            *last = Some(slab);
        }
        piece
    }
}

impl Slab {
    fn new(size: usize) -> io::Result<Slab> {
        let size = size.max(1).next_multiple_of(LINE_BYTES);
        let align = if size < LARGE { LINE_BYTES } else { LARGE };
        // Pages that are never touched take no memory.
        let mut map = MmapMut::map_anon(size + align)?;
        #[cfg(all(target_os = "linux", not(miri)))]
        if size >= LARGE {
            // Without them it is only slower.
            let _ = map.advise(memmap2::Advice::HugePage);
        }
        let start = map.as_mut_ptr();
        // `align_offset` may refuse to answer, and alignment is only for speed.
        let start = start.wrapping_add(start.align_offset(align).min(align));
        Ok(Slab {
            _map: map,
            start,
            size,
            used: AtomicUsize::new(0),
        })
    }

    fn take(slab: &Arc<Slab>, len: usize) -> Option<Piece> {
        let lines = len.checked_next_multiple_of(LINE_BYTES)?;
        let room = |used: usize| used.checked_add(lines).filter(|end| *end <= slab.size);
        let start = (slab.used)
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, room)
            .ok()?;
        Some(Piece {
            slab: Arc::clone(slab),
            start,
            len,
        })
    }
}

impl Deref for Piece {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        // SAFETY: `take` gave these bytes, which lie in the slab, to this piece alone, and the slab lives as long.
        unsafe { std::slice::from_raw_parts(self.slab.start.add(self.start), self.len) }
    }
}

impl DerefMut for Piece {
    fn deref_mut(&mut self) -> &mut [u8] {
        // SAFETY: as in `deref`.
        unsafe { std::slice::from_raw_parts_mut(self.slab.start.add(self.start), self.len) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_are_neighbours_on_cache_lines_and_do_not_overlap() {
        let slabs = Slabs::new(1000);
        let mut pieces: Vec<Piece> = [0, 1, 64, 65, 300, 500, 600, 2000, 7]
            .map(|len| slabs.take(len))
            .into();
        for (i, piece) in pieces.iter_mut().enumerate() {
            assert!(piece.iter().all(|&byte| byte == 0));
            assert_eq!(piece.as_ptr().addr() % LINE_BYTES, 0);
            piece.fill(i as u8 + 1);
        }
        let lens: Vec<usize> = pieces.iter().map(|piece| piece.len()).collect();
        assert_eq!(lens, [0, 1, 64, 65, 300, 500, 600, 2000, 7]);
        for (i, piece) in pieces.iter().enumerate() {
            assert!(piece.iter().all(|&byte| byte == i as u8 + 1), "piece {i}");
        }
        assert_eq!(pieces[2].as_ptr(), pieces[1].as_ptr().wrapping_add(64));
        // The last fits behind those of the second slab, and what is long is in none of them.
        assert_eq!(pieces[8].as_ptr(), pieces[5].as_ptr().wrapping_add(512));
        assert!(!Arc::ptr_eq(&pieces[6].slab, &pieces[8].slab));
    }

    #[test]
    fn a_slab_lives_as_long_as_its_last_piece() {
        let slabs = Slabs::new(1 << 10);
        let (first, second) = (slabs.take(100), slabs.take(100));
        let slab = Arc::downgrade(&first.slab);
        drop((slabs, first));
        assert!(slab.upgrade().is_some() && second.len() == 100);
        drop(second);
        assert!(slab.upgrade().is_none());
    }

    #[test]
    fn slabs_of_large_pages_begin_on_one() {
        let piece = Slabs::new(3 * LARGE).take(5);
        assert_eq!(piece.as_ptr().addr() % LARGE, 0);
    }
}
