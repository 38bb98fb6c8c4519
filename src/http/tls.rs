//! What an encrypted connection is made with: a certificate and its key, both as PEM files.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::ServerConfig;
use rustls::crypto::ring::default_provider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use super::keys::check_mode;

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
/// [`TlsError`] when a file cannot be read, others than its owner may read the key, or the two do not belong together.
pub(super) fn config(cert: &Path, key: &Path) -> Result<ServerConfig, TlsError> {
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
    check_mode(key).map_err(|reason| fault(key, reason))?;
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
