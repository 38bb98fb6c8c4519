//! Answers over TLS.

use std::os::unix::fs::PermissionsExt;

use llamahome::http::{self, HttpError};
use serde_json::Value;

use crate::support::{Call, Daemon, FakeSource, Setup, certify, trusting};

#[test]
fn a_client_that_knows_the_certificate_is_answered() {
    let folder = tempfile::tempdir().unwrap();
    let (cert, key, pem) = certify(folder.path());
    let mut setup = Setup::fake(FakeSource::default()).key("right");
    (setup.http.tls_cert, setup.http.tls_key) = (Some(cert), Some(key));
    let daemon = Daemon::start(setup);
    let url = format!("https://localhost:{}/v1/models", daemon.address.port());
    let models: Value = daemon.block_on(async {
        let client = trusting(Some(&pem));
        let answer = client.get(&url).bearer_auth("right").send().await.unwrap();
        serde_json::from_slice(&answer.bytes().await.unwrap()).unwrap()
    });
    let models = models["data"].as_array().unwrap();
    assert!(
        models.iter().any(|model| model["id"] == "fake"),
        "{models:?}"
    );
    let stranger = daemon.block_on(async { trusting(None).get(&url).send().await });
    assert!(stranger.is_err(), "a certificate that nobody knows");
    // What is not encrypted is not answered.
    let plain = std::panic::catch_unwind(|| Call::new(daemon.address, "GET", "/health").send());
    assert!(plain.is_err() || plain.is_ok_and(|reply| reply.status != 200));
}

#[test]
fn bad_files_keep_the_server_from_starting() {
    let folder = tempfile::tempdir().unwrap();
    let (cert, key, _) = certify(folder.path());
    let other = tempfile::tempdir().unwrap();
    let (_, foreign, _) = certify(other.path());
    let empty = folder.path().join("empty.pem");
    std::fs::write(&empty, "").unwrap();
    let loose = folder.path().join("loose.key");
    std::fs::copy(&key, &loose).unwrap();
    std::fs::set_permissions(&loose, std::fs::Permissions::from_mode(0o644)).unwrap();
    let missing = folder.path().join("none.pem");
    for (cert, key, said) in [
        (Some(&cert), None, "belong together"),
        (None, Some(&key), "belong together"),
        (Some(&missing), Some(&key), "none.pem"),
        (Some(&empty), Some(&key), "no certificate"),
        (Some(&cert), Some(&loose), "chmod 600"),
        (Some(&cert), Some(&foreign), "with its key"),
        (Some(&cert), Some(&cert), "server.pem"),
    ] {
        let config = http::Config {
            tls_cert: cert.cloned(),
            tls_key: key.cloned(),
            port: 0,
            ..http::Config::default()
        };
        let error = actix_web::rt::System::new().block_on(async {
            let runtime = llamahome::runtime::boot(
                llamahome::runtime::Sections::default(),
                std::sync::Arc::new(FakeSource::default()),
                None,
                llamahome::telemetry::Metrics::new(),
            );
            let sampling = llamahome::sample::Defaults::default();
            let served = http::serve(config, runtime, sampling, http::Readiness::default());
            served.err()
        });
        let error = error.unwrap_or_else(|| panic!("{said}: it starts"));
        assert!(
            matches!(
                error,
                HttpError::Tls(_) | HttpError::TlsKey { .. } | HttpError::HalfTls
            ),
            "{error}"
        );
        let text = error.to_string();
        assert!(text.contains(said), "{said}: {text}");
    }
}
