//! Which cryptography connections use.
//!
//! `reqwest` takes the process's default and panics without one; its own choice brings a C library
//! that takes minutes to compile. `ring` is already here for downloads.

use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};

use rustls::ServerConfig;
use rustls::crypto::ring::default_provider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;

/// Makes `ring` the process's default, once. To be called before a `reqwest` client is built.
pub fn install() {
    // An error says that there is a default already: any will do.
    let _ = default_provider().install_default();
}

/// Why nothing can be encrypted.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file is of no use.
    #[error("{}: {reason}", path.display())]
    File {
        /// The certificate or its key.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The cryptography has no versions to offer.
    #[error("{0}")]
    Versions(String),
}

/// The certificate that a listener answers with, which may be changed while it listens. Clones share it.
#[derive(Debug, Clone)]
pub struct Certificate(Arc<RwLock<Arc<CertifiedKey>>>);

impl Certificate {
    /// Reads a certificate and its key.
    ///
    /// # Errors
    /// [`TlsError`] when a file cannot be read, or the two do not belong together.
    pub fn read(cert: &Path, key: &Path) -> Result<Certificate, TlsError> {
        let pair = certified(cert, key)?;
        Ok(Certificate(Arc::new(RwLock::new(Arc::new(pair)))))
    }

    /// From now on, answers with another one's pair; connections that are open keep theirs.
    pub fn replace(&self, by: &Certificate) {
        let new = by.pair();
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = new;
    }

    fn pair(&self) -> Arc<CertifiedKey> {
        Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner))
    }
}

impl ResolvesServerCert for Certificate {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.pair())
    }
}

/// The settings of a listener: TLS 1.2 and 1.3, no certificates of clients.
///
/// # Errors
/// [`TlsError::Versions`].
pub fn listener(certificate: Certificate) -> Result<ServerConfig, TlsError> {
    let versions = ServerConfig::builder_with_provider(Arc::new(default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| TlsError::Versions(error.to_string()))?;
    Ok(versions
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(certificate)))
}

fn certified(cert: &Path, key: &Path) -> Result<CertifiedKey, TlsError> {
    let fault = |path: &Path, reason: String| TlsError::File {
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
    CertifiedKey::from_der(chain, secret, &default_provider())
        .map_err(|error| fault(cert, format!("it cannot be used with its key: {error}")))
}
