//! Pulls from a model hub over HTTP, resuming inside a file.
//!
//! The hub-client crates were weighed: the light one sends the token to the host that a download is
//! redirected to and appends whatever a server without ranges sends; the full one brings a second
//! HTTP stack. What is needed is two addresses, one list and one download, so they are asked here.

use std::ffi::OsString;
use std::fmt;
use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;
use std::time::Duration;

use ureq::http::{Response, StatusCode, Uri};
use ureq::{Agent, Body};

use super::Arrived;
use super::hub_files::{HubFile, RepoInfo, choose};
use super::local::copy_all;
use super::partial::Partial;
use super::progress::Monotone;
use crate::store::source::HubSource;
use crate::store::{StoreError, disk};

const ENDPOINT: &str = "https://huggingface.co";
const MOST_REDIRECTS: usize = 6;
/// The largest answer to a listing, in bytes.
const LARGEST_LISTING: u64 = 32 << 20;

/// Where the hub is and who asks.
#[derive(Clone)]
pub struct HubSettings {
    /// The hub's address, without a slash at the end.
    pub endpoint: String,
    /// The access token, sent to the endpoint's own host only.
    pub token: Option<String>,
    /// How often a download that brought nothing more is tried again.
    pub retries: u32,
}

impl fmt::Debug for HubSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HubSettings")
            .field("endpoint", &self.endpoint)
            .field("token", &self.token.as_ref().map(|_| "..."))
            .field("retries", &self.retries)
            .finish()
    }
}

impl HubSettings {
    /// From `HF_ENDPOINT` and `HF_TOKEN`.
    pub fn from_env(read: impl Fn(&str) -> Option<OsString>) -> HubSettings {
        let text = |name: &str| {
            let text = read(name)?.to_string_lossy().trim().to_owned();
            (!text.is_empty()).then_some(text)
        };
        let endpoint = text("HF_ENDPOINT").unwrap_or_else(|| ENDPOINT.to_owned());
        HubSettings {
            endpoint: endpoint.trim_end_matches('/').to_owned(),
            token: text("HF_TOKEN"),
            retries: 3,
        }
    }
}

/// Downloads the source's files into the partial folder; returns the commit and the files.
pub(super) fn fetch(
    settings: &HubSettings,
    source: &HubSource,
    partial: &Partial,
    progress: &mut Monotone<'_>,
) -> Result<(String, Vec<Arrived>), StoreError> {
    let hub = Hub::new(settings, source)?;
    let info = hub.info()?;
    let files = choose(&info.siblings, source.file.as_deref())
        .map_err(|reason| StoreError::fetch(&hub.what, reason))?;
    // Bytes of one commit must not be continued with those of another.
    partial.keep_only_if("commit", &info.sha)?;
    let missing = files.iter().map(|file| {
        let have = length(&partial.files().join(file.name()))
            .max(length(&partial.parts().join(file.name())));
        file.size.saturating_sub(have)
    });
    disk::check_room(&partial.files(), missing.fold(0, u64::saturating_add))?;
    let mut arrived = Vec::with_capacity(files.len());
    for file in &files {
        hub.download(&info.sha, file, partial, progress)?;
        arrived.push(Arrived {
            name: file.name().to_owned(),
            size: Some(file.size),
            sha256: file.sha256.clone(),
            linked: false,
        });
    }
    Ok((info.sha, arrived))
}

fn length(path: &Path) -> u64 {
    std::fs::metadata(path).map_or(0, |about| about.len())
}

/// One repository of the hub.
struct Hub<'a> {
    settings: &'a HubSettings,
    source: &'a HubSource,
    agent: Agent,
    home: Origin,
    what: String,
}

/// Scheme, host and port: what must agree before the token is sent.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Origin {
    scheme: String,
    authority: String,
}

impl Origin {
    fn of(uri: &Uri) -> Option<Origin> {
        let scheme = uri.scheme_str()?.to_ascii_lowercase();
        let authority = uri.authority()?.as_str().to_ascii_lowercase();
        matches!(scheme.as_str(), "http" | "https").then_some(Origin { scheme, authority })
    }
}

impl<'a> Hub<'a> {
    fn new(settings: &'a HubSettings, source: &'a HubSource) -> Result<Hub<'a>, StoreError> {
        let what = format!("hf:{}/{}", source.owner, source.repo);
        let uri = settings.endpoint.parse::<Uri>().ok();
        let home = uri.as_ref().and_then(Origin::of).ok_or_else(|| {
            StoreError::fetch(
                &what,
                format!("HF_ENDPOINT {:?} is no web address", settings.endpoint),
            )
        })?;
        let agent = Agent::config_builder()
            .max_redirects(0)
            .http_status_as_error(false)
            .user_agent(concat!("llamahome/", env!("CARGO_PKG_VERSION")))
            .timeout_connect(Some(Duration::from_secs(30)))
            .timeout_recv_response(Some(Duration::from_secs(60)))
            .timeout_per_read(Some(Duration::from_secs(60)))
            .build()
            .into();
        Ok(Hub {
            settings,
            source,
            agent,
            home,
            what,
        })
    }

    fn failed(&self, reason: impl Into<String>) -> StoreError {
        StoreError::fetch(&self.what, reason)
    }

    /// The commit that the revision stands for, and the files there.
    fn info(&self) -> Result<RepoInfo, StoreError> {
        let HubSource {
            owner,
            repo,
            revision,
            ..
        } = self.source;
        let revision = revision.as_deref().unwrap_or("main");
        let base = &self.settings.endpoint;
        let url = format!("{base}/api/models/{owner}/{repo}/revision/{revision}?blobs=true");
        let response = self.get(&url, 0)?;
        self.expect_ok(&response)?;
        let mut text = Vec::new();
        response
            .into_body()
            .into_reader()
            .take(LARGEST_LISTING)
            .read_to_end(&mut text)
            .map_err(|error| self.failed(format!("the list of files broke off: {error}")))?;
        RepoInfo::parse(&text).map_err(|reason| self.failed(reason))
    }

    /// Asks for `url` from byte `start` on, following redirects by hand so that the token stays home.
    fn get(&self, url: &str, start: u64) -> Result<Response<Body>, StoreError> {
        let mut uri: Uri = url
            .parse()
            .map_err(|_| self.failed(format!("{url:?} is no address")))?;
        for _ in 0..MOST_REDIRECTS {
            let mut request = self.agent.get(uri.clone());
            if start > 0 {
                request = request.header("range", format!("bytes={start}-"));
            }
            if let Some(token) = &self.settings.token
                && Origin::of(&uri).as_ref() == Some(&self.home)
            {
                request = request.header("authorization", format!("Bearer {token}"));
            }
            let response = request
                .call()
                .map_err(|error| self.failed(format!("the hub did not answer: {error}")))?;
            if !response.status().is_redirection() {
                return Ok(response);
            }
            uri = self.next(&uri, &response)?;
        }
        Err(self.failed(format!("more than {MOST_REDIRECTS} redirects")))
    }

    /// Where a redirect points; never from https back to http.
    fn next(&self, from: &Uri, response: &Response<Body>) -> Result<Uri, StoreError> {
        let header = response
            .headers()
            .get("location")
            .and_then(|value| value.to_str().ok());
        let bad = || {
            self.failed(format!(
                "a redirect to {:?} cannot be followed",
                header.unwrap_or("")
            ))
        };
        let target: Uri = header.and_then(|text| text.parse().ok()).ok_or_else(bad)?;
        let target = if target.host().is_some() {
            target
        } else {
            let mut parts = from.clone().into_parts();
            parts.path_and_query = target.into_parts().path_and_query;
            Uri::from_parts(parts).map_err(|_| bad())?
        };
        let origin = Origin::of(&target).ok_or_else(bad)?;
        if from.scheme_str() == Some("https") && origin.scheme != "https" {
            return Err(bad());
        }
        Ok(target)
    }

    fn expect_ok(&self, response: &Response<Body>) -> Result<(), StoreError> {
        let status = response.status();
        let reason = match status.as_u16() {
            200 | 206 => return Ok(()),
            401 | 403 => {
                "the hub refused: set HF_TOKEN to a token that may read it, and accept its licence on the hub if it asks for that"
            }
            404 => "there is no such repository, revision or file",
            429 => "the hub asks to slow down: try again in some minutes",
            _ => "the hub answered with an error: try again later",
        };
        Err(self.failed(format!("{reason} (status {})", status.as_u16())))
    }

    /// Brings one file whole into the finished files, going on from what is there.
    fn download(
        &self,
        commit: &str,
        file: &HubFile,
        partial: &Partial,
        progress: &mut Monotone<'_>,
    ) -> Result<(), StoreError> {
        let done = partial.files().join(file.name());
        progress.start(file.name(), Some(file.size));
        if length(&done) != file.size {
            let part = partial.parts().join(file.name());
            self.fill(commit, file, &part, progress)?;
            std::fs::rename(&part, &done).map_err(StoreError::io("keep", &done))?;
        }
        progress.advance(file.size);
        progress.finish();
        Ok(())
    }

    /// Appends to `part` until it is whole. A try that brought bytes is not counted.
    fn fill(
        &self,
        commit: &str,
        file: &HubFile,
        part: &Path,
        progress: &mut Monotone<'_>,
    ) -> Result<(), StoreError> {
        let HubSource { owner, repo, .. } = self.source;
        let url = format!(
            "{}/{owner}/{repo}/resolve/{commit}/{}",
            self.settings.endpoint, file.path
        );
        let mut fruitless = 0;
        loop {
            let before = length(part);
            let outcome = self.append(&url, file.size, part, progress);
            let after = length(part);
            if after == file.size && outcome.is_ok() {
                return Ok(());
            }
            if progress.cancelled() {
                return outcome;
            }
            fruitless = if after > before { 0 } else { fruitless + 1 };
            if fruitless > self.settings.retries {
                let broke = format!("{} broke off at {after} of {}", file.path, file.size);
                outcome.map_err(|error| {
                    self.failed(format!("{broke}: {error}; pull again to go on"))
                })?;
                return Err(self.failed(format!("{broke}: pull again to go on")));
            }
            if fruitless > 0 {
                std::thread::sleep(Duration::from_millis(250u64 << fruitless.min(5)));
            }
        }
    }

    /// One request, written to the end of `part`; from the start if the server cannot go on.
    fn append(
        &self,
        url: &str,
        size: u64,
        part: &Path,
        progress: &mut Monotone<'_>,
    ) -> Result<(), StoreError> {
        let io = |doing| StoreError::io(doing, part);
        let mut file = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .open(part)
            .map_err(io("open"))?;
        let mut start = length(part);
        if start > size {
            start = 0;
        }
        if start == size && size > 0 {
            return Ok(());
        }
        let response = self.get(url, start)?;
        if response.status() == StatusCode::RANGE_NOT_SATISFIABLE {
            return file.set_len(0).map_err(io("empty"));
        }
        self.expect_ok(&response)?;
        if !continues_at(&response, start) {
            start = 0;
        }
        write_from(&mut file, response, start, size, progress).map_err(io("download to"))
    }
}

/// True if the answer's bytes begin at `start`.
fn continues_at(response: &Response<Body>, start: u64) -> bool {
    let range = response
        .headers()
        .get("content-range")
        .and_then(|value| value.to_str().ok());
    let expected = format!("bytes {start}-");
    response.status() == StatusCode::PARTIAL_CONTENT
        && range.is_some_and(|range| range.starts_with(&expected))
}

fn write_from(
    file: &mut File,
    response: Response<Body>,
    start: u64,
    size: u64,
    progress: &mut Monotone<'_>,
) -> std::io::Result<()> {
    file.set_len(start)?;
    file.seek(SeekFrom::Start(start))?;
    let mut body = response
        .into_body()
        .into_reader()
        .take(size.saturating_sub(start));
    copy_all(&mut body, file, start, progress).map(|_| ())
}
