//! Pulls from a small server that imitates a hub: listings, redirects, ranges, cut transfers.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::sync::{Arc, Mutex};

use sha2::{Digest, Sha256};

use super::hub::HubSettings;
use super::{Fetch, PullRequest, Silent, pull};
use crate::store::gguf::write::Writer;
use crate::store::{Catalog, Checkpoint, DType, Home, StoreError};

const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";

/// What the server does and saw.
#[derive(Default)]
struct Hub {
    file: Vec<u8>,
    /// Bytes of the body after which a transfer is cut, one a download.
    cuts: Vec<usize>,
    /// Whether ranges are honoured.
    ranges: bool,
    /// The address that downloads are redirected to.
    elsewhere: Option<String>,
    /// Method line, range and token of every request.
    seen: Vec<(String, Option<String>, Option<String>)>,
}

type Shared = Arc<Mutex<Hub>>;

/// Starts the server; it ends with the test process.
fn serve(hub: Hub) -> (String, Shared) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    let shared: Shared = Arc::new(Mutex::new(hub));
    let state = shared.clone();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let _ = answer(stream, &state);
        }
    });
    (address, shared)
}

fn answer(mut stream: TcpStream, state: &Shared) -> std::io::Result<()> {
    let mut lines = BufReader::new(stream.try_clone()?).lines();
    let line = lines.next().transpose()?.unwrap_or_default();
    let (mut range, mut token) = (None, None);
    for header in lines
        .map_while(Result::ok)
        .take_while(|line| !line.is_empty())
    {
        let (name, value) = header.split_once(": ").unwrap_or_default();
        match name.to_ascii_lowercase().as_str() {
            "range" => range = Some(value.to_owned()),
            "authorization" => token = Some(value.to_owned()),
            _ => {}
        }
    }
    let path = line.split(' ').nth(1).unwrap_or_default().to_owned();
    let mut hub = state.lock().unwrap();
    hub.seen.push((path.clone(), range.clone(), token));
    if path.starts_with("/api/models/o/r/revision/main?") {
        let sha256 = hex(&hub.file);
        let size = hub.file.len();
        let text = format!(
            r#"{{"sha": "{COMMIT}", "siblings": [{{"rfilename": "README.md", "size": 1}},
            {{"rfilename": "m.gguf", "size": {size}, "lfs": {{"sha256": "{sha256}"}}}}]}}"#
        );
        return reply(&mut stream, "200 OK", "", text.as_bytes(), usize::MAX);
    }
    if !path.starts_with("/o/r/resolve/") && path != "/blob" {
        return reply(&mut stream, "404 Not Found", "", b"", usize::MAX);
    }
    if let Some(target) = hub.elsewhere.clone() {
        let location = format!("location: {target}/blob\r\n");
        return reply(&mut stream, "302 Found", &location, b"", usize::MAX);
    }
    let cut = if hub.cuts.is_empty() {
        usize::MAX
    } else {
        hub.cuts.remove(0)
    };
    let start = range.filter(|_| hub.ranges).and_then(|range| {
        range
            .strip_prefix("bytes=")?
            .strip_suffix('-')?
            .parse::<usize>()
            .ok()
    });
    match start {
        Some(start) => {
            let header = format!("content-range: bytes {start}-/{}\r\n", hub.file.len());
            reply(
                &mut stream,
                "206 Partial Content",
                &header,
                &hub.file[start..],
                cut,
            )
        }
        None => reply(&mut stream, "200 OK", "", &hub.file, cut),
    }
}

fn reply(
    stream: &mut TcpStream,
    status: &str,
    headers: &str,
    body: &[u8],
    cut: usize,
) -> std::io::Result<()> {
    let length = body.len();
    let head = format!(
        "HTTP/1.1 {status}\r\n{headers}connection: close\r\ncontent-length: {length}\r\n\r\n"
    );
    stream.write_all(head.as_bytes())?;
    stream.write_all(&body[..length.min(cut)])
}

fn hex(bytes: &[u8]) -> String {
    Sha256::digest(bytes)
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

fn model() -> Vec<u8> {
    let bytes = vec![7; 64 * 1024];
    Writer::new()
        .tensor("t", &[128, 128], DType::F32, bytes)
        .finish()
}

fn try_pull(
    endpoint: &str,
    home: &Path,
    retries: u32,
) -> Result<crate::store::Installed, StoreError> {
    let token = Some("secret".to_owned());
    let hub = HubSettings {
        endpoint: endpoint.to_owned(),
        token,
        retries,
    };
    let fetch = Fetch {
        hub,
        python: "python3".into(),
    };
    let request = PullRequest {
        source: "hf:o/r".parse().unwrap(),
        id: None,
        link: false,
        pulled_at: "2026-01-01T00:00:00Z".into(),
    };
    pull(
        &Home::at(home),
        &Catalog::default(),
        &fetch,
        &request,
        &mut Silent,
    )
}

/// The range of each request for the file itself.
fn ranges(state: &Shared) -> Vec<Option<String>> {
    let hub = state.lock().unwrap();
    let files = hub
        .seen
        .iter()
        .filter(|(path, _, _)| path.contains("/resolve/"));
    files.map(|(_, range, _)| range.clone()).collect()
}

#[test]
fn a_cut_transfer_leaves_no_model_and_the_next_pull_goes_on() {
    let home = tempfile::tempdir().unwrap();
    let file = model();
    // The second try of the first pull brings nothing, which with no retries ends that pull.
    let hub = Hub {
        file: file.clone(),
        cuts: vec![10_000, 0],
        ranges: true,
        ..Hub::default()
    };
    let (address, state) = serve(hub);
    let error = try_pull(&address, home.path(), 0).unwrap_err().to_string();
    assert!(error.contains("broke off at 10000"), "{error}");
    assert!(!home.path().join("models/r").exists());
    let installed = try_pull(&address, home.path(), 0).unwrap();
    assert_eq!(std::fs::read(installed.path.join("m.gguf")).unwrap(), file);
    let rest = Some("bytes=10000-".to_owned());
    assert_eq!(ranges(&state), [None, rest.clone(), rest]);
    let manifest = installed.manifest.unwrap();
    assert_eq!(manifest.revision.as_deref(), Some(COMMIT));
    assert_eq!(manifest.files[0].sha256, hex(&file));
    assert!(Checkpoint::open(&installed.path).is_ok());
    let left: Vec<_> = std::fs::read_dir(home.path().join("models/.partial"))
        .unwrap()
        .collect();
    assert_eq!(left.len(), 1, "only the lock file stays");
}

#[test]
fn a_server_without_ranges_is_read_from_the_start() {
    let home = tempfile::tempdir().unwrap();
    let file = model();
    let (address, _) = serve(Hub {
        file: file.clone(),
        cuts: vec![5_000],
        ..Hub::default()
    });
    let installed = try_pull(&address, home.path(), 1).unwrap();
    assert_eq!(std::fs::read(installed.path.join("m.gguf")).unwrap(), file);
}

#[test]
fn the_token_stays_with_the_endpoint() {
    let home = tempfile::tempdir().unwrap();
    let file = model();
    let (storage, there) = serve(Hub {
        file: file.clone(),
        ranges: true,
        ..Hub::default()
    });
    let hub = Hub {
        file,
        elsewhere: Some(storage),
        ..Hub::default()
    };
    let (address, here) = serve(hub);
    try_pull(&address, home.path(), 0).unwrap();
    let tokens = |state: &Shared| -> Vec<Option<String>> {
        state
            .lock()
            .unwrap()
            .seen
            .iter()
            .map(|(_, _, token)| token.clone())
            .collect()
    };
    assert_eq!(tokens(&here), vec![Some("Bearer secret".to_owned()); 2]);
    assert_eq!(tokens(&there), [None]);
}

#[test]
fn changed_bytes_are_refused_and_fetched_anew() {
    let home = tempfile::tempdir().unwrap();
    let file = model();
    let (address, state) = serve(Hub {
        file: file.clone(),
        cuts: vec![10_000, 0],
        ranges: true,
        ..Hub::default()
    });
    assert!(try_pull(&address, home.path(), 0).is_err());
    let part = home.path().join("models/.partial/r.d/parts/m.gguf");
    let mut damaged = std::fs::read(&part).unwrap();
    damaged[9_000] ^= 1;
    std::fs::write(&part, damaged).unwrap();
    let error = try_pull(&address, home.path(), 0).unwrap_err();
    assert!(
        matches!(error, StoreError::Mismatch { kind: "sha256", .. }),
        "{error}"
    );
    assert!(!home.path().join("models/r").exists());
    let installed = try_pull(&address, home.path(), 0).unwrap();
    assert_eq!(std::fs::read(installed.path.join("m.gguf")).unwrap(), file);
    assert_eq!(ranges(&state).last(), Some(&None), "from the start");
}

#[test]
fn a_repository_that_is_not_there_says_so() {
    let home = tempfile::tempdir().unwrap();
    let (address, _) = serve(Hub::default());
    let fetch = Fetch {
        hub: HubSettings {
            endpoint: address,
            token: None,
            retries: 0,
        },
        python: "python3".into(),
    };
    let request = PullRequest {
        source: "hf:o/other".parse().unwrap(),
        id: None,
        link: false,
        pulled_at: String::new(),
    };
    let error = pull(
        &Home::at(home.path()),
        &Catalog::default(),
        &fetch,
        &request,
        &mut Silent,
    )
    .unwrap_err();
    assert!(error.to_string().contains("no such repository"), "{error}");
}
