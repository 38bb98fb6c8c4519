//! Log files that are put aside when they have grown large: beside the turn of the day or hour, which the appender knows.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use chrono::{DateTime, Utc};
use tracing_appender::rolling::{RollingFileAppender, Rotation as Period};

use super::{Config, Rotation, TelemetryError};

/// The files of one kind in a folder: `name.2026-11-24.log`, and before it, of the same day, `name.2026-11-24.1.log`.
pub(super) struct Capped {
    config: Config,
    folder: PathBuf,
    name: &'static str,
    file: RollingFileAppender,
    /// The file that was written to last, and its bytes.
    path: PathBuf,
    written: u64,
}

impl Capped {
    /// Goes on with the file of the present day or hour, or begins it.
    ///
    /// # Errors
    /// When it cannot be opened.
    pub(super) fn open(
        config: &Config,
        folder: &Path,
        name: &'static str,
    ) -> Result<Capped, TelemetryError> {
        let path = path(folder, name, config.rotation, Utc::now());
        let written = fs::metadata(&path).map_or(0, |metadata| metadata.len());
        Ok(Capped {
            config: config.clone(),
            folder: folder.to_owned(),
            name,
            file: appender(config, folder, name)?,
            path,
            written,
        })
    }

    /// Puts the present file aside and begins another one.
    fn put_aside(&mut self) -> io::Result<()> {
        let stem = self.path.with_extension("");
        let aside = (1u32..)
            .map(|number| {
                let mut name = stem.clone().into_os_string();
                name.push(format!(".{number}.log"));
                PathBuf::from(name)
            })
            .find(|path| !path.exists());
        if let Some(aside) = aside {
            fs::rename(&self.path, aside)?;
        }
        self.file = appender(&self.config, &self.folder, self.name)
            .map_err(|error| io::Error::other(error.to_string()))?;
        self.written = 0;
        Ok(())
    }
}

impl Write for Capped {
    /// One event, whole.
    fn write(&mut self, event: &[u8]) -> io::Result<usize> {
        let path = path(&self.folder, self.name, self.config.rotation, Utc::now());
        if path != self.path {
            // The appender turns with this event.
            (self.path, self.written) = (path, 0);
        }
        let cap = self.config.file_bytes.bytes();
        if cap > 0 && self.written > 0 && self.written + event.len() as u64 > cap {
            // An event that stands in a file that is too large is better than one that is lost.
            if let Err(error) = self.put_aside() {
                eprintln!("a log file could not be put aside: {error}");
                self.written = 0;
            }
        }
        let count = self.file.write(event)?;
        self.written += count as u64;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

/// What the appender calls its file.
fn path(folder: &Path, name: &str, rotation: Rotation, now: DateTime<Utc>) -> PathBuf {
    folder.join(match rotation {
        Rotation::Daily => format!("{name}.{}.log", now.format("%Y-%m-%d")),
        Rotation::Hourly => format!("{name}.{}.log", now.format("%Y-%m-%d-%H")),
        Rotation::Never => format!("{name}.log"),
    })
}

fn appender(
    config: &Config,
    folder: &Path,
    name: &str,
) -> Result<RollingFileAppender, TelemetryError> {
    let period = match config.rotation {
        Rotation::Daily => Period::DAILY,
        Rotation::Hourly => Period::HOURLY,
        Rotation::Never => Period::NEVER,
    };
    RollingFileAppender::builder()
        .rotation(period)
        .filename_prefix(name)
        .filename_suffix("log")
        .max_log_files(config.keep_files)
        .build(folder)
        .map_err(|error| TelemetryError::File {
            path: folder.to_owned(),
            reason: error.to_string(),
        })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::units::ByteSize;

    fn config(rotation: Rotation, cap: u64, keep_files: usize) -> Config {
        Config {
            rotation,
            keep_files,
            file_bytes: ByteSize(cap),
            ..Config::default()
        }
    }

    fn files(folder: &Path) -> Vec<(String, String)> {
        let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap());
        let mut found: Vec<_> = entries
            .map(|entry| {
                let name = entry.file_name().into_string().unwrap();
                (name, fs::read_to_string(entry.path()).unwrap())
            })
            .collect();
        found.sort_unstable();
        found
    }

    #[test]
    fn a_file_that_is_full_is_put_aside_and_the_newest_are_kept() {
        for rotation in [Rotation::Daily, Rotation::Hourly, Rotation::Never] {
            let folder = tempfile::tempdir().unwrap();
            let config = config(rotation, 10, 3);
            let mut log = Capped::open(&config, folder.path(), "log").unwrap();
            for event in [
                "one\n",
                "two\n",
                "three\n",
                "an event that is long\n",
                "five\n",
            ] {
                log.write_all(event.as_bytes()).unwrap();
                // Files that are made in one tick of the clock have no order.
                std::thread::sleep(std::time::Duration::from_millis(20));
            }
            let found = files(folder.path());
            assert_eq!(found.len(), 3, "{found:?}");
            let mut texts: Vec<&str> = found.iter().map(|(_, text)| text.as_str()).collect();
            texts.sort_unstable();
            // The first file went.
            assert_eq!(texts, ["an event that is long\n", "five\n", "three\n"]);
            let present = path(folder.path(), "log", rotation, Utc::now());
            assert_eq!(fs::read_to_string(present).unwrap(), "five\n");
        }
    }

    #[test]
    fn another_process_goes_on_with_a_file_up_to_its_cap() {
        let folder = tempfile::tempdir().unwrap();
        let config = config(Rotation::Never, 10, 9);
        for event in ["1234\n", "5678\n", "9\n"] {
            let mut log = Capped::open(&config, folder.path(), "log").unwrap();
            log.write_all(event.as_bytes()).unwrap();
        }
        let found = files(folder.path());
        let expected = [("log.1.log", "1234\n5678\n"), ("log.log", "9\n")];
        assert_eq!(found, expected.map(|(n, t)| (n.to_owned(), t.to_owned())));
    }

    #[test]
    fn no_cap_is_none() {
        let folder = tempfile::tempdir().unwrap();
        let config = config(Rotation::Never, 0, 9);
        let mut log = Capped::open(&config, folder.path(), "log").unwrap();
        (0..100).for_each(|_| log.write_all(b"a line of a log\n").unwrap());
        assert_eq!(files(folder.path()).len(), 1);
    }
}
