//! What the allocator keeps for itself.

/// Arenas of the allocator. glibc makes up to eight a core, each keeps what its threads have freed, and engines come and go
/// on new threads: with one, a process that loads and unloads models grows least (docs/log.md). Steps
/// allocate next to nothing, and small things come from each thread's own cache.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
const ARENAS: libc::c_int = 1;

/// Keeps the allocator from setting stretches of memory apart for threads. Best called before threads are begun.
pub fn one_arena() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    // What the operator has set for the process counts.
    if std::env::var_os("MALLOC_ARENA_MAX").is_none() {
        #[allow(unsafe_code)]
        // SAFETY: mallopt takes no pointers and may be called at any time; arenas that exist stay.
        unsafe {
            libc::mallopt(libc::M_ARENA_MAX, ARENAS);
        }
    }
}

/// Returns what the allocator holds free to the system, so that unloading is seen in the process's size.
pub(super) fn give_memory_back() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    #[allow(unsafe_code)]
    // SAFETY: malloc_trim takes no pointers and may be called at any time from any thread.
    unsafe {
        libc::malloc_trim(0);
    }
}
