//! Whether the process is ready for work: set by whoever starts it, told by `/ready`.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// A flag that clones share; not ready at first.
#[derive(Debug, Clone, Default)]
pub struct Readiness(Arc<AtomicBool>);

impl Readiness {
    /// Says that the models named at the start are loaded, or that they no longer serve.
    pub fn set(&self, ready: bool) {
        self.0.store(ready, Ordering::Release);
    }

    /// Whether they are.
    pub fn get(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }
}
