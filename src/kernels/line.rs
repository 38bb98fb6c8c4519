//! Cache lines of floats, the unit in which operands of long products are laid out, and slices that threads share.
#![allow(
    unsafe_code,
    reason = "the parts of a run write to different parts of the same slice"
)]

use std::marker::PhantomData;
use std::ops::Range;

/// Floats of a [`Line`].
pub(super) const LINE_FLOATS: usize = 16;

/// Bytes of a [`Line`].
pub(super) const LINE_BYTES: usize = size_of::<Line>();

/// 64 bytes on a cache line: 16 floats, or 16 pairs of `bf16`.
#[derive(Debug, Clone, Copy, Default)]
#[repr(C, align(64))]
pub(super) struct Line(pub(super) [f32; LINE_FLOATS]);

/// `len` elements of a buffer that grows as needed, with what the last use left in them.
pub(super) fn take<T: Copy + Default>(buffer: &mut Vec<T>, len: usize) -> &mut [T] {
    if buffer.len() < len {
        buffer.resize(len, T::default());
    }
    &mut buffer[..len]
}

/// A slice of which several threads write different parts.
pub(super) struct Shared<'a, T> {
    start: *mut T,
    len: usize,
    borrowed: PhantomData<&'a mut [T]>,
}

// SAFETY: it stands for a `&mut [T]`, which may go to other threads; that they take different parts, the callers of
// `part` vouch for.
unsafe impl<T: Send> Sync for Shared<'_, T> {}

impl<'a, T> Shared<'a, T> {
    pub(super) fn new(slice: &'a mut [T]) -> Self {
        Shared {
            start: slice.as_mut_ptr(),
            len: slice.len(),
            borrowed: PhantomData,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// Where element `i` lies, or the end of the slice. What is written there must be nobody else's.
    pub(super) fn at(&self, i: usize) -> *mut T {
        assert!(i <= self.len);
        // SAFETY: in bounds of the slice.
        unsafe { self.start.add(i) }
    }

    /// # Safety
    ///
    /// Nobody else has taken any of these elements.
    #[allow(
        clippy::mut_from_ref,
        reason = "parts that do not overlap, by the caller"
    )]
    pub(super) unsafe fn part(&self, range: Range<usize>) -> &mut [T] {
        assert!(range.start <= range.end && range.end <= self.len);
        // SAFETY: in bounds of a slice that is borrowed mutably for as long as this lives, and by the caller nobody else
        // has these.
        unsafe { std::slice::from_raw_parts_mut(self.start.add(range.start), range.len()) }
    }
}
