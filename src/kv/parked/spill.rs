//! What is parked, and where it goes when memory is short.

/// What is parked.
pub trait Parcel: Send + Sync {
    /// Bytes of memory. Asked once, when it is parked.
    fn bytes(&self) -> usize;
}

/// The disk, or what stands for it.
pub trait Spill<P> {
    /// Writes a parcel under `key`, in place of what was there, and says how many bytes it takes.
    ///
    /// # Errors
    /// A reason; what was under the key is still there.
    fn spill(&mut self, key: &str, parcel: &P) -> Result<u64, String>;

    /// Reads back what was spilled under `key`, and leaves it there.
    ///
    /// # Errors
    /// A reason.
    fn fetch(&mut self, key: &str) -> Result<P, String>;

    /// Removes what was spilled under `key`.
    ///
    /// # Errors
    /// A reason; it is still there.
    fn erase(&mut self, key: &str) -> Result<(), String>;
}
