//! The overlay: seven layers in, settings and the origin of each key out.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use figment::Figment;

use super::file::{self, Syntax};
use super::folder::{BUILT_IN_PROFILES, Folder, project_stems, user_stems};
use super::keys::Keys;
use super::source::Source;
use super::variables::{self, Dotenv};
use super::{ConfigError, Layer, Origin, Settings};

/// The command line's layer: key path (`kv.policy`), value, and the flag that gave it (`--kv-policy`). A JSON string is
/// read as the key's type, so flags may hand on their text as it is.
pub type Overrides = Vec<(String, serde_json::Value, String)>;

/// All that loading depends on, besides the files themselves.
#[derive(Debug, Clone, Default)]
pub struct Inputs {
    /// The working directory: its `.config` folder and `.env` file are read.
    pub cwd: PathBuf,
    /// The user's home directory.
    pub home_dir: Option<PathBuf>,
    /// The environment.
    pub env: BTreeMap<String, String>,
    /// What the command line sets.
    pub overrides: Overrides,
}

impl Inputs {
    /// The inputs of this process. Variables that are not UTF-8 are left out.
    ///
    /// # Errors
    /// When the working directory cannot be told, e.g. since it was deleted.
    pub fn of_process(overrides: Overrides) -> std::io::Result<Self> {
        let text = |(name, value): (std::ffi::OsString, std::ffi::OsString)| {
            Some((name.into_string().ok()?, value.into_string().ok()?))
        };
        Ok(Inputs {
            cwd: std::env::current_dir()?,
            home_dir: std::env::home_dir().filter(|path| !path.as_os_str().is_empty()),
            env: std::env::vars_os().filter_map(text).collect(),
            overrides,
        })
    }
}

/// Settings and where each of them came from.
#[derive(Debug, Clone)]
pub struct Loaded {
    /// The settings.
    pub settings: Settings,
    /// For each key (`kv.policy`), what set it.
    pub origins: BTreeMap<String, Origin>,
    /// Files of the configuration folders whose names mean nothing to us.
    pub ignored: Vec<PathBuf>,
    /// The files that were read, low to high.
    pub read: Vec<PathBuf>,
    /// `LLAMAHOME_HOME`, made absolute, when the environment or `.env` sets it.
    pub home: Option<PathBuf>,
    /// `LLAMAHOME_ENV`, when the environment or `.env` sets it.
    pub profile: Option<String>,
}

/// Reads all layers and overlays them. Depends on `inputs` and the files only.
///
/// # Errors
/// The first thing wrong in any layer, with its file and line, variable or flag.
pub fn load(inputs: &Inputs) -> Result<Loaded, ConfigError> {
    let keys = Keys::new()?;
    let dotenv = Dotenv::read(&inputs.cwd)?;
    let reserved = |name: &str| {
        let own = inputs.env.get(name).map(String::as_str);
        own.or_else(|| dotenv.get(name))
            .filter(|value| !value.is_empty())
    };
    let home = reserved("LLAMAHOME_HOME").map(|path| inputs.cwd.join(path));
    let profile = reserved("LLAMAHOME_ENV").map(str::to_owned);

    let mut files = Files {
        keys: &keys,
        sources: Vec::new(),
        read: Vec::new(),
        ignored: Vec::new(),
    };
    let project = project_folder(inputs, reserved("LLAMAHOME_CONFIG"))?;
    files.add_project(&project, profile.as_deref())?;
    if let Some(folder) = user_folder(inputs, home.as_deref()) {
        files.add_user(&Folder::list(&folder)?)?;
    }
    let Files {
        mut sources,
        mut read,
        ignored,
        ..
    } = files;
    read.extend(dotenv.path.clone());
    sources.extend(dotenv.sources(&keys)?);
    sources.extend(variables::environment(&keys, &inputs.env)?);
    sources.extend(variables::command_line(&keys, &inputs.overrides)?);

    let (settings, origins) = overlay(&keys, &sources)?;
    Ok(Loaded {
        settings,
        origins,
        ignored,
        read,
        home,
        profile,
    })
}

fn overlay(
    keys: &Keys,
    sources: &[Source],
) -> Result<(Settings, BTreeMap<String, Origin>), ConfigError> {
    let built_in = Source::built_in()?;
    for source in sources {
        source.check(&built_in)?;
    }
    let figment = sources
        .iter()
        .fold(Figment::from(&built_in), |below, source| {
            below.merge(source)
        });
    let settings = figment
        .extract()
        .map_err(|error| ConfigError::Compose(error.to_string()))?;
    let mut origins = BTreeMap::new();
    for key in &keys.all {
        let path = key.path();
        let metadata = figment.find_metadata(&path);
        let won = metadata.and_then(|metadata| {
            // Several variables share one `.env`: the last that has the key is the one that figment kept.
            let candidates = sources.iter().rev();
            candidates
                .filter(|source| source.is(metadata))
                .find(|source| source.has(&key.section, &key.name))
        });
        let origin = won.unwrap_or(&built_in).origin(&[&key.section, &key.name]);
        origins.insert(path, origin);
    }
    Ok((settings, origins))
}

/// The sources of files, and what was found on the way.
struct Files<'a> {
    keys: &'a Keys,
    sources: Vec<Source>,
    read: Vec<PathBuf>,
    ignored: Vec<PathBuf>,
}

impl Files<'_> {
    fn add_project(&mut self, folder: &Folder, profile: Option<&str>) -> Result<(), ConfigError> {
        let mut stems = project_stems(self.keys.sections());
        for (path, syntax) in folder.of_stems(&stems) {
            self.add(Layer::Project, path, *syntax)?;
        }
        if let Some(name) = profile {
            self.add_profile(folder, name, &stems)?;
            stems.push(name);
        }
        self.ignored.extend(folder.ignored(&stems));
        Ok(())
    }

    fn add_profile(
        &mut self,
        folder: &Folder,
        name: &str,
        taken: &[&str],
    ) -> Result<(), ConfigError> {
        let files: Vec<_> = folder
            .of_stem(name)
            .filter(|_| !taken.contains(&name))
            .collect();
        for (path, syntax) in &files {
            self.add(Layer::Profile, path, *syntax)?;
        }
        if !files.is_empty() {
            return Ok(());
        }
        let Some((_, text)) = BUILT_IN_PROFILES.iter().find(|(known, _)| *known == name) else {
            let known = folder.profiles(taken);
            return Err(ConfigError::NoProfile {
                name: name.to_owned(),
                known,
            });
        };
        let place = format!("built-in {name}.toml");
        let text = (*text).to_owned();
        let source = file::parse(self.keys, Layer::Profile, place, Syntax::Toml, text)?;
        self.sources.push(source);
        Ok(())
    }

    fn add_user(&mut self, folder: &Folder) -> Result<(), ConfigError> {
        let stems = user_stems(self.keys.sections());
        for (path, syntax) in folder.of_stems(&stems) {
            self.add(Layer::User, path, *syntax)?;
        }
        self.ignored.extend(folder.ignored(&stems));
        Ok(())
    }

    fn add(&mut self, layer: Layer, path: &Path, syntax: Syntax) -> Result<(), ConfigError> {
        self.sources
            .push(file::read(self.keys, layer, path, syntax)?);
        self.read.push(path.to_owned());
        Ok(())
    }
}

/// The project's folder: the one that `LLAMAHOME_CONFIG` names, else the working directory's `.config`, unless that is
/// where all of the user's programs keep their settings.
fn project_folder(inputs: &Inputs, named: Option<&str>) -> Result<Folder, ConfigError> {
    if let Some(named) = named {
        let path = inputs.cwd.join(named);
        if !path.is_dir() {
            return Err(ConfigError::NoFolder { path });
        }
        return Folder::list(&path);
    }
    let path = inputs.cwd.join(".config");
    let real = |path: &Path| path.canonicalize().ok();
    let is_users =
        config_home(inputs).is_some_and(|home| real(&home).is_some() && real(&home) == real(&path));
    if is_users {
        Ok(Folder::default())
    } else {
        Folder::list(&path)
    }
}

fn user_folder(inputs: &Inputs, home: Option<&Path>) -> Option<PathBuf> {
    match home {
        Some(home) => Some(home.join("config")),
        None => Some(config_home(inputs)?.join("llamahome")),
    }
}

/// The user's own folder of settings, see <https://specifications.freedesktop.org/basedir-spec/latest/>.
fn config_home(inputs: &Inputs) -> Option<PathBuf> {
    let named = inputs.env.get("XDG_CONFIG_HOME").map(PathBuf::from);
    let named = named.filter(|path| path.is_absolute());
    named.or_else(|| Some(inputs.home_dir.as_ref()?.join(".config")))
}
