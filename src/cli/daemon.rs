//! The note that a running server leaves in the home folder, so that other commands find it.

use std::fs::OpenOptions;
use std::io::Write;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use crate::store::Home;

/// Who serves, and where.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Daemon {
    /// The process.
    pub(super) pid: u32,
    /// Where it listens.
    pub(super) address: SocketAddr,
}

impl Daemon {
    /// The note in `home`, if there is one and something listens where it says.
    pub(super) fn running(home: &Home) -> Option<Daemon> {
        let text = std::fs::read_to_string(path(home)).ok()?;
        let daemon: Daemon = serde_json::from_str(&text).ok()?;
        TcpStream::connect_timeout(&daemon.reachable(), Duration::from_millis(500)).ok()?;
        Some(daemon)
    }

    /// Where to reach it from this machine.
    pub(super) fn reachable(&self) -> SocketAddr {
        let mut address = self.address;
        if address.ip().is_unspecified() {
            address.set_ip(match address {
                SocketAddr::V4(_) => IpAddr::V4(Ipv4Addr::LOCALHOST),
                SocketAddr::V6(_) => IpAddr::V6(Ipv6Addr::LOCALHOST),
            });
        }
        address
    }
}

/// The note of this process. Dropping it removes it.
#[derive(Debug)]
pub(super) struct Note {
    path: PathBuf,
    text: String,
}

impl Note {
    /// Leaves the note, readable by its owner only.
    ///
    /// # Errors
    /// When it cannot be written.
    pub(super) fn leave(home: &Home, address: SocketAddr) -> Result<Note> {
        let path = path(home);
        let pid = std::process::id();
        let text = serde_json::to_string(&Daemon { pid, address })?;
        // Renamed into place, so that no reader sees half of it and the mode is that of a new file.
        let partial = path.with_extension(format!("{pid}.part"));
        let mut options = OpenOptions::new();
        options.write(true).create(true).truncate(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        let written = options
            .open(&partial)
            .and_then(|mut file| file.write_all(text.as_bytes()));
        let placed = written.and_then(|()| std::fs::rename(&partial, &path));
        placed.with_context(|| format!("cannot write {}", path.display()))?;
        Ok(Note { path, text })
    }
}

impl Drop for Note {
    fn drop(&mut self) {
        // Another server may have left its own since.
        if std::fs::read_to_string(&self.path).is_ok_and(|text| text == self.text) {
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

fn path(home: &Home) -> PathBuf {
    home.run().join("daemon.json")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_note_is_there_while_its_server_is() {
        let folder = tempfile::tempdir().unwrap();
        let home = Home::at(folder.path());
        home.create().unwrap();
        assert_eq!(Daemon::running(&home), None);
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let note = Note::leave(&home, address).unwrap();
        let pid = std::process::id();
        assert_eq!(Daemon::running(&home), Some(Daemon { pid, address }));
        drop(listener);
        assert_eq!(Daemon::running(&home), None, "nobody listens");
        let path = note.path.clone();
        drop(note);
        assert!(!path.exists());
    }

    #[test]
    fn the_note_of_another_server_stays() {
        let folder = tempfile::tempdir().unwrap();
        let home = Home::at(folder.path());
        home.create().unwrap();
        let first = Note::leave(&home, "127.0.0.1:1".parse().unwrap()).unwrap();
        let second = Note::leave(&home, "0.0.0.0:2".parse().unwrap()).unwrap();
        drop(first);
        let left: Daemon =
            serde_json::from_str(&std::fs::read_to_string(&second.path).unwrap()).unwrap();
        assert_eq!(left.reachable(), "127.0.0.1:2".parse().unwrap());
    }
}
