//! Which cryptography connections use.
//!
//! `reqwest` takes the process's default and panics without one; its own choice brings a C library
//! that takes minutes to compile. `ring` is already here for downloads.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::ServerConfig;
use rustls::crypto::ring::default_provider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

/// Makes `ring` the process's default, once. To be called before a `reqwest` client is built.
pub fn install() {
    // An error says that there is a default already: any will do.
    let _ = default_provider().install_default();
}

/// Why nothing can be encrypted.
#[derive(Debug, thiserror::Error)]
#[error("{}: {reason}", path.display())]
pub struct TlsError {
    path: PathBuf,
    reason: String,
}

/// The settings of a listener: TLS 1.2 and 1.3, no certificates of clients.
///
/// # Errors
/// [`TlsError`] when a file cannot be read, or the two do not belong together.
pub fn listener(cert: &Path, key: &Path) -> Result<ServerConfig, TlsError> {
    let fault = |path: &Path, reason: String| TlsError {
        path: path.to_owned(),
        reason,
    };
    let chain =
        CertificateDer::pem_file_iter(cert).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    let chain = chain.map_err(|error| fault(cert, error.to_string()))?;
    if chain.is_empty() {
        return Err(fault(cert, "it has no certificate".to_owned()));
    }
    let secret =
        PrivateKeyDer::from_pem_file(key).map_err(|error| fault(key, error.to_string()))?;
    let versions = ServerConfig::builder_with_provider(Arc::new(default_provider()))
        .with_safe_default_protocol_versions();
    let versions = versions.map_err(|error| fault(cert, error.to_string()))?;
    versions
        .with_no_client_auth()
        .with_single_cert(chain, secret)
        .map_err(|error| fault(cert, format!("it cannot be used with its key: {error}")))
}
