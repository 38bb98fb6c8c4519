//! Which cryptography outgoing connections use.
//!
//! `reqwest` takes the process's default and panics without one; its own choice brings a C library
//! that takes minutes to compile. `ring` is already here for downloads.

/// Makes `ring` the process's default, once. To be called before a `reqwest` client is built.
pub fn install() {
    // An error says that there is a default already: any will do.
    let _ = rustls::crypto::ring::default_provider().install_default();
}
