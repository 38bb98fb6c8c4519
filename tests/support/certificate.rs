//! A certificate for localhost, and clients that know it.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// Writes a new certificate and its key into a folder. Returns their paths, and the certificate as PEM.
pub fn certify(folder: &Path) -> (PathBuf, PathBuf, String) {
    let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    let (cert, key) = (folder.join("server.pem"), folder.join("server.key"));
    std::fs::write(&cert, made.cert.pem()).unwrap();
    std::fs::write(&key, made.signing_key.serialize_pem()).unwrap();
    std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o600)).unwrap();
    (cert, key, made.cert.pem())
}

/// A client that trusts this certificate, if any, and no other.
pub fn trusting(pem: Option<&str>) -> reqwest::Client {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let known = pem.map(|pem| reqwest::Certificate::from_pem(pem.as_bytes()).unwrap());
    let client = reqwest::Client::builder().no_proxy();
    client.tls_certs_only(known).build().unwrap()
}
