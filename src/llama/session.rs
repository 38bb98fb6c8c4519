//! Parked sessions of a model: in memory up to a budget, in files beyond it, and in files of their own when saved.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use serde_json::json;

use super::cache::SequenceCache;
use super::kv_rows::Place;
use super::memory::KvMemory;
use super::state::State;
use crate::ids::{SeqId, SessionId};
use crate::kv::parked::{Parcel, ParkError, Parked, Place as Whereabouts, Spill, Spilled};
use crate::kv::{HeadChoice, KvShape, Picture, Policy};
use crate::sched::{ForwardError, SessionOrder, SessionReply, SessionReport};
use crate::store::state_file::{self, Expect, Header, Sha256Hex, Shape};

/// Numbers the folders of spilled sessions.
static SPILLING: AtomicU64 = AtomicU64::new(0);

/// A state file is read up to this size: no sequence of a model of the family is larger.
const LARGEST_FILE: u64 = 1 << 40;

/// What the keys of paused sequences begin with. No session is named so.
const PAUSED: &str = "~";

/// See the module.
#[derive(Debug)]
pub(super) struct Sessions {
    parked: Parked<SequenceCache, Files>,
    saved: Files,
    /// Where the parked ones are spilled.
    spilled: Files,
}

impl Parcel for SequenceCache {
    fn bytes(&self) -> usize {
        self.report().bytes
    }
}

impl Sessions {
    pub(super) fn new(memory: &KvMemory, shape: KvShape, place: Place) -> Self {
        let folder = |name: &str| match &memory.folder {
            Some(folder) => folder.join(name),
            None => std::env::temp_dir()
                .join(format!("llamahome-{}", std::process::id()))
                .join(name),
        };
        let files = |name: &str| Files {
            folder: folder(name),
            model: memory.model.clone(),
            shape,
            place,
        };
        // What is spilled belongs to this process alone; what is saved belongs to the model.
        let all = folder("parked");
        forget_the_dead(&all);
        let mut spilled = files("parked");
        // Replicas of a model each have their own, so that the end of one takes nothing from another.
        let own = SPILLING.fetch_add(1, Ordering::Relaxed).to_string();
        spilled.folder = all.join(std::process::id().to_string()).join(own);
        Sessions {
            parked: Parked::new(memory.parked_bytes, spilled.clone()),
            spilled,
            saved: files("sessions"),
        }
    }

    /// Keeps a conversation's cache for its next request.
    pub(super) fn park(
        &mut self,
        session: &SessionId,
        mut cache: SequenceCache,
    ) -> Result<(), ForwardError> {
        cache.shrink();
        match self.parked.park(session.as_str(), Arc::new(cache)) {
            Ok(spilled) => {
                tell_spilled(&spilled);
                Ok(())
            }
            // Everything is still parked, in memory: no reason to fail the request.
            Err(error) => {
                tracing::warn!(%error, "parked sessions exceed their memory");
                Ok(())
            }
        }
    }

    /// A copy of a parked cache to go on with: should the request fail, the session is as it was.
    pub(super) fn resume(&mut self, session: &SessionId) -> Result<SequenceCache, ForwardError> {
        match self.parked.peek(session.as_str()) {
            Ok(Some((cache, _))) => Ok((*cache).clone()),
            Ok(None) => Err(ForwardError::UnknownSession(session.clone())),
            Err(error) => Err(failed(session, &error)),
        }
    }

    /// Keeps the cache of a sequence that gives way.
    pub(super) fn pause(&mut self, seq: SeqId, cache: SequenceCache) {
        match self.parked.park(&paused_key(seq), Arc::new(cache)) {
            Ok(spilled) => tell_spilled(&spilled),
            // Still in memory, as above.
            Err(error) => tracing::warn!(%error, "parked sessions exceed their memory"),
        }
    }

    /// The cache of a sequence that goes on.
    pub(super) fn unpause(&mut self, seq: SeqId) -> Result<SequenceCache, ForwardError> {
        let told = |error: ParkError| ForwardError::Paused {
            seq,
            message: error.to_string(),
        };
        let (cache, _) = self
            .parked
            .take(&paused_key(seq))
            .map_err(told)?
            .ok_or(ForwardError::UnknownSequence(seq))?;
        Ok(Arc::unwrap_or_clone(cache))
    }

    /// What a parked cache holds: that of a sequence that gives way, or of a session.
    pub(super) fn picture(
        &mut self,
        session: &SessionId,
        open: Option<SeqId>,
        which: HeadChoice,
    ) -> Result<Picture, ForwardError> {
        let keys = [open.map(paused_key), Some(session.to_string())];
        for key in keys.into_iter().flatten() {
            match self.parked.peek(&key) {
                Ok(Some((cache, _))) => return Ok(cache.picture(which)),
                Ok(None) => {}
                Err(error) => return Err(failed(session, &error)),
            }
        }
        Err(ForwardError::UnknownSession(session.clone()))
    }

    /// Forgets the cache of a paused sequence that is over.
    pub(super) fn drop_paused(&mut self, seq: SeqId) {
        if let Err(error) = self.parked.erase(&paused_key(seq)) {
            tracing::warn!(%error, "a paused sequence's file stays until the process ends");
        }
    }

    pub(super) fn obey(&mut self, order: SessionOrder) -> Result<SessionReply, ForwardError> {
        match order {
            SessionOrder::List => Ok(SessionReply::Sessions(self.list())),
            SessionOrder::Erase(session) => {
                let parked = self
                    .parked
                    .erase(session.as_str())
                    .map_err(|e| failed(&session, &e))?;
                let path = self.saved.path(session.as_str());
                let saved = path.exists();
                if saved {
                    std::fs::remove_file(&path).map_err(|e| {
                        wrong(&session, format!("cannot erase {}: {e}", path.display()))
                    })?;
                }
                match parked || saved {
                    true => Ok(SessionReply::Done),
                    false => Err(ForwardError::UnknownSession(session)),
                }
            }
            SessionOrder::Fork { from, to } => {
                let cache = self.resume(&from)?;
                self.park(&to, cache)?;
                Ok(SessionReply::Done)
            }
            SessionOrder::Save { session, notes } => {
                let cache = self.resume(&session)?;
                let path = self.saved.path(session.as_str());
                self.saved
                    .write(&path, session.as_str(), &cache, &notes)
                    .map_err(|message| wrong(&session, message))?;
                Ok(SessionReply::Done)
            }
            SessionOrder::Restore(session) => {
                let path = self.saved.path(session.as_str());
                if !path.exists() {
                    return Err(ForwardError::UnknownSession(session));
                }
                let (cache, notes) = self.saved.read(&path).map_err(|m| wrong(&session, m))?;
                self.park(&session, cache)?;
                Ok(SessionReply::Restored { notes })
            }
            SessionOrder::Picture {
                session,
                open,
                which,
            } => {
                let picture = self.picture(&session, open, which)?;
                Ok(SessionReply::Picture {
                    picture,
                    live: None,
                })
            }
        }
    }

    fn list(&self) -> Vec<SessionReport> {
        let mut found: Vec<SessionReport> = Vec::new();
        for entry in self.parked.list() {
            if entry.key.starts_with(PAUSED) {
                continue;
            }
            found.push(SessionReport {
                saved: self.saved.path(&entry.key).exists(),
                name: entry.key,
                place: match entry.place {
                    Whereabouts::Memory => "memory",
                    Whereabouts::Disk => "disk",
                },
                bytes: entry.bytes,
            });
        }
        for (name, bytes) in self.saved.all() {
            if found.iter().all(|report| report.name != name) {
                found.push(SessionReport {
                    name,
                    place: "saved",
                    bytes,
                    saved: true,
                });
            }
        }
        found.sort_by(|a, b| a.name.cmp(&b.name));
        found
    }

    pub(super) fn resident_bytes(&self) -> usize {
        self.parked.resident_bytes()
    }

    pub(super) fn spilled_bytes(&self) -> usize {
        usize::try_from(self.parked.spilled_bytes()).unwrap_or(usize::MAX)
    }
}

fn paused_key(seq: SeqId) -> String {
    format!("{PAUSED}{seq}")
}

fn tell_spilled(spilled: &[Spilled]) {
    for moved in spilled {
        tracing::info!(
            key = moved.key,
            bytes = moved.bytes,
            "parked cache moved to disk"
        );
    }
}

/// Removes what processes that have ended left behind, where the system says which those are.
fn forget_the_dead(parked: &Path) {
    let system = Path::new("/proc");
    let Ok(entries) = std::fs::read_dir(parked) else {
        return;
    };
    if !system.join("self").exists() {
        return;
    }
    for entry in entries.flatten() {
        let name = entry.file_name();
        let pid = name.to_str().and_then(|name| name.parse::<u32>().ok());
        if pid.is_some_and(|pid| !system.join(pid.to_string()).exists()) {
            let _ = std::fs::remove_dir_all(entry.path());
        }
    }
}

fn failed(session: &SessionId, error: &ParkError) -> ForwardError {
    wrong(session, error.to_string())
}

fn wrong(session: &SessionId, message: String) -> ForwardError {
    ForwardError::Session {
        session: session.clone(),
        message,
    }
}

/// State files of one model in one folder.
#[derive(Debug, Clone)]
struct Files {
    folder: PathBuf,
    model: Sha256Hex,
    shape: KvShape,
    place: Place,
}

impl Files {
    /// The first of the model's hash is enough for a folder's name; the whole is checked inside.
    fn model_folder(&self) -> PathBuf {
        let short: String = self.model.to_string().chars().take(16).collect();
        self.folder.join(short)
    }

    fn path(&self, key: &str) -> PathBuf {
        self.model_folder().join(format!("{key}.kv"))
    }

    fn all(&self) -> Vec<(String, u64)> {
        let Ok(entries) = std::fs::read_dir(self.model_folder()) else {
            return Vec::new();
        };
        entries
            .flatten()
            .filter_map(|entry| {
                let name = entry.file_name().into_string().ok()?;
                // A save that was cut off leaves a hidden file.
                let name = name.strip_suffix(".kv").filter(|n| !n.starts_with('.'))?;
                let name = name.to_owned();
                Some((name, entry.metadata().ok()?.len()))
            })
            .collect()
    }

    fn shape(&self) -> Shape {
        Shape {
            layers: self.shape.layers as u32,
            kv_heads: self.shape.kv_heads as u32,
            head_dim: self.shape.head_dim as u32,
        }
    }

    fn dtype(&self) -> String {
        format!("{:?}/{:?}", self.place.float, self.place.arena())
    }

    fn write(
        &self,
        path: &Path,
        name: &str,
        cache: &SequenceCache,
        notes: &str,
    ) -> Result<u64, String> {
        let mut own = cache.clone();
        own.own_all().map_err(|e| e.to_string())?;
        let state = State::of(&own).map_err(|e| e.to_string())?;
        std::fs::create_dir_all(self.model_folder())
            .map_err(|e| format!("cannot make {}: {e}", self.model_folder().display()))?;
        let policy = serde_json::to_value(cache.policy()).map_err(|e| e.to_string())?;
        let sections = state.sections();
        let header = Header {
            model: self.model.clone(),
            shape: self.shape(),
            dtype: self.dtype(),
            policy,
            meta: json!({ "session": name, "notes": notes }),
        };
        state_file::write_state(path, &header, &sections).map_err(|e| e.to_string())
    }

    fn read(&self, path: &Path) -> Result<(SequenceCache, String), String> {
        let expect = Expect {
            model: Some(self.model.clone()),
            shape: Some(self.shape()),
            dtype: Some(self.dtype()),
        };
        let (header, sections) =
            state_file::read_state(path, &expect, LARGEST_FILE).map_err(|e| e.to_string())?;
        let policy: Policy = serde_json::from_value(header.policy)
            .map_err(|e| format!("{}: its kv policy is not one of ours: {e}", path.display()))?;
        let policy = policy
            .checked()
            .map_err(|e| format!("{}: {e}", path.display()))?;
        let state = State::from_sections(sections).map_err(|e| e.to_string())?;
        // What was spilled to a scratch file comes back into memory: the scratch file of another process is gone.
        let cache = state
            .into_cache(policy, self.shape, self.place, None)
            .map_err(|e| format!("{}: {e}", path.display()))?;
        let notes = header.meta.get("notes").and_then(|n| n.as_str());
        Ok((cache, notes.unwrap_or_default().to_owned()))
    }
}

impl Drop for Sessions {
    fn drop(&mut self) {
        // Spilled sessions are known to nobody after this.
        let _ = std::fs::remove_dir_all(&self.spilled.folder);
    }
}

impl Spill<SequenceCache> for Files {
    fn spill(&mut self, key: &str, parcel: &SequenceCache) -> Result<u64, String> {
        self.write(&self.path(key), key, parcel, "")
    }

    fn fetch(&mut self, key: &str) -> Result<SequenceCache, String> {
        self.read(&self.path(key)).map(|(cache, _)| cache)
    }

    fn erase(&mut self, key: &str) -> Result<(), String> {
        match std::fs::remove_file(self.path(key)) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error.to_string()),
            _ => Ok(()),
        }
    }
}
