//! A sequence on disk: what a policy kept of its keys and values, and enough about them to refuse a wrong model.
//!
//! The file, all numbers little-endian:
//!
//! | bytes | what |
//! |---|---|
//! | 8 | the magic `LLHMKVST` |
//! | 4 | the version, 1 |
//! | 8 | the length of the header |
//! | 32 | the sha256 of the header |
//! | as said | the header, JSON: [`Header`], the name, number type and length of every section, the payload's sha256 |
//! | the rest | the payload: the sections in that order, without gaps |
//!
//! The hashes find damage, not malice: who can write the file can write the hashes. What keeps a made-up file harmless
//! is that every length is compared with the size of the file before anything is allocated for it.

mod digest;
mod error;
mod header;
#[cfg(test)]
mod hostile_tests;
mod read;
mod sections;
#[cfg(test)]
mod tests;
mod write;

pub use digest::{BadDigest, Sha256Hex};
pub use error::StateError;
pub use header::{Expect, Header, Shape};
pub use read::{read_header, read_state};
pub use sections::{Data, Element, Kind, Sections};
pub use write::write_state;
