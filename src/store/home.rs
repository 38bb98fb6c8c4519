//! Where everything that the program writes lives.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use super::StoreError;

/// The program's folder. Nothing is made until [`Home::create`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Home {
    root: PathBuf,
}

impl Home {
    /// A home at `root`.
    pub fn at(root: impl Into<PathBuf>) -> Home {
        Home { root: root.into() }
    }

    /// The home that the environment names: `LLAMAHOME_HOME`, else `$XDG_DATA_HOME/llamahome`, else
    /// `~/.local/share/llamahome`. `read` looks a variable up; an empty one counts as unset, and so
    /// does a relative `XDG_DATA_HOME`, as its specification asks.
    ///
    /// # Errors
    /// [`StoreError::NoHome`] if no variable helps.
    pub fn from_env(read: impl Fn(&str) -> Option<OsString>) -> Result<Home, StoreError> {
        let path = |name: &str| {
            read(name)
                .filter(|text| !text.is_empty())
                .map(PathBuf::from)
        };
        if let Some(own) = path("LLAMAHOME_HOME") {
            let root = std::path::absolute(&own).map_err(StoreError::io("resolve", &own))?;
            return Ok(Home { root });
        }
        if let Some(data) = path("XDG_DATA_HOME").filter(|path| path.is_absolute()) {
            return Ok(Home {
                root: data.join("llamahome"),
            });
        }
        match path("HOME").filter(|path| path.is_absolute()) {
            Some(user) => Ok(Home {
                root: user.join(".local/share/llamahome"),
            }),
            None => Err(StoreError::NoHome(
                "there is no folder to keep models in: set LLAMAHOME_HOME".to_owned(),
            )),
        }
    }

    /// The folder itself.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Installed models, one folder each.
    pub fn models(&self) -> PathBuf {
        self.root.join("models")
    }

    /// Log files.
    pub fn logs(&self) -> PathBuf {
        self.root.join("logs")
    }

    /// What can be made again: parked sessions, compiled things.
    pub fn cache(&self) -> PathBuf {
        self.root.join("cache")
    }

    /// The folder of the user's own settings and catalogue.
    pub fn config(&self) -> PathBuf {
        self.root.join("config")
    }

    /// The folder of what was typed and said.
    pub fn history(&self) -> PathBuf {
        self.root.join("history")
    }

    /// The folder of running processes: pid files, sockets.
    pub fn run(&self) -> PathBuf {
        self.root.join("run")
    }

    /// Training runs, one folder each; made with the first of them.
    pub fn runs(&self) -> PathBuf {
        self.root.join("runs")
    }

    /// Results of evaluations, a file each; made with the first of them.
    pub fn evaluations(&self) -> PathBuf {
        self.root.join("evaluations")
    }

    /// Makes the folder and all of the above but those of runs and evaluations, readable by the user alone.
    ///
    /// # Errors
    /// If one cannot be made.
    pub fn create(&self) -> Result<(), StoreError> {
        for folder in [
            self.models(),
            self.logs(),
            self.cache(),
            self.config(),
            self.history(),
            self.run(),
        ] {
            create_private(&folder)?;
        }
        Ok(())
    }
}

/// Makes a folder, and those above it that are missing, readable by the user alone.
///
/// # Errors
/// If it cannot be made.
pub fn create_private(folder: &Path) -> Result<(), StoreError> {
    let mut builder = std::fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder
        .create(folder)
        .map_err(StoreError::io("make the folder", folder))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn home(variables: &[(&str, &str)]) -> Option<PathBuf> {
        let read = |name: &str| {
            variables
                .iter()
                .find(|(key, _)| *key == name)
                .map(|(_, value)| OsString::from(value))
        };
        Home::from_env(read).ok().map(|home| home.root)
    }

    #[test]
    fn the_nearest_variable_wins() {
        let user = ("HOME", "/u");
        let data = ("XDG_DATA_HOME", "/d");
        let own = ("LLAMAHOME_HOME", "/o");
        assert_eq!(home(&[user, data, own]), Some("/o".into()));
        assert_eq!(home(&[user, data]), Some("/d/llamahome".into()));
        assert_eq!(home(&[user]), Some("/u/.local/share/llamahome".into()));
        assert_eq!(
            home(&[user, ("XDG_DATA_HOME", "d")]),
            Some("/u/.local/share/llamahome".into())
        );
        assert_eq!(
            home(&[user, ("LLAMAHOME_HOME", "")]),
            Some("/u/.local/share/llamahome".into())
        );
        assert_eq!(home(&[]), None);
    }

    #[cfg(unix)]
    #[test]
    fn folders_are_private() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let home = Home::at(folder.path().join("deep/home"));
        home.create().unwrap();
        home.create().unwrap();
        for made in [home.root().to_path_buf(), home.models(), home.run()] {
            let mode = std::fs::metadata(&made).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o700, "{}", made.display());
        }
    }
}
