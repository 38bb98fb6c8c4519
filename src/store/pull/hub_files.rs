//! Which files of a hub repository make up its model.

use serde::Deserialize;

use crate::store::source::is_inner_path;

/// Text and settings files that belong to a safetensors model.
const COMPANIONS: [&str; 6] = [
    "config.json",
    "generation_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "chat_template.jinja",
    "model.safetensors.index.json",
];
/// Those without which the model is of no use.
const NEEDED: [&str; 2] = ["config.json", "tokenizer.json"];

/// The hub's answer about a revision.
#[derive(Debug, Deserialize)]
pub struct RepoInfo {
    /// The commit.
    pub sha: String,
    /// The files.
    pub siblings: Vec<Sibling>,
}

/// One file as the hub lists it.
#[derive(Debug, Clone, Deserialize)]
pub struct Sibling {
    rfilename: String,
    size: Option<u64>,
    lfs: Option<Lfs>,
}

#[derive(Debug, Clone, Deserialize)]
struct Lfs {
    sha256: Option<String>,
}

/// A file to download.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HubFile {
    /// The path in the repository, checked to be plain.
    pub path: String,
    /// The length in bytes.
    pub size: u64,
    /// The sha256, for large files.
    pub sha256: Option<String>,
}

impl HubFile {
    /// The last part of the path.
    pub fn name(&self) -> &str {
        self.path.rsplit('/').next().unwrap_or(&self.path)
    }
}

impl RepoInfo {
    /// Parses the hub's answer.
    pub fn parse(text: &[u8]) -> Result<RepoInfo, String> {
        let info: RepoInfo = serde_json::from_slice(text)
            .map_err(|error| format!("the hub's list of files is not understood: {error}"))?;
        let hex = info.sha.chars().all(|c| c.is_ascii_hexdigit());
        if !hex || !(7..=64).contains(&info.sha.len()) {
            return Err("the hub names no commit".to_owned());
        }
        Ok(info)
    }
}

/// The file asked for; or all of a safetensors model; or the one GGUF file.
pub fn choose(siblings: &[Sibling], file: Option<&str>) -> Result<Vec<HubFile>, String> {
    if let Some(wanted) = file {
        let found = siblings.iter().find(|sibling| sibling.rfilename == wanted);
        return match found {
            Some(sibling) => Ok(vec![checked(sibling)?]),
            None => Err(format!(
                "the repository has no {wanted:?}; it has {}",
                ggufs_of(siblings)
            )),
        };
    }
    let top = |sibling: &&Sibling| !sibling.rfilename.contains('/');
    let weights: Vec<&Sibling> = siblings
        .iter()
        .filter(top)
        .filter(|s| is_weights(s))
        .collect();
    if !weights.is_empty() {
        return safetensors(siblings, weights);
    }
    let ggufs: Vec<&Sibling> = siblings.iter().filter(|s| is_gguf(s)).collect();
    match ggufs.as_slice() {
        [one] => Ok(vec![checked(one)?]),
        [] => Err("the repository has neither safetensors nor GGUF files".to_owned()),
        _ => Err(format!(
            "name one of its GGUF files after the repository: {}",
            ggufs_of(siblings)
        )),
    }
}

fn is_weights(sibling: &Sibling) -> bool {
    sibling.rfilename.starts_with("model") && sibling.rfilename.ends_with(".safetensors")
}

fn is_gguf(sibling: &Sibling) -> bool {
    sibling.rfilename.to_ascii_lowercase().ends_with(".gguf")
}

fn ggufs_of(siblings: &[Sibling]) -> String {
    let names: Vec<&str> = siblings
        .iter()
        .filter(|s| is_gguf(s))
        .map(|s| s.rfilename.as_str())
        .collect();
    if names.is_empty() {
        "no GGUF files".to_owned()
    } else {
        names.join(", ")
    }
}

fn safetensors(siblings: &[Sibling], weights: Vec<&Sibling>) -> Result<Vec<HubFile>, String> {
    let has = |name: &str| siblings.iter().find(|sibling| sibling.rfilename == name);
    if let Some(missing) = NEEDED.into_iter().find(|name| has(name).is_none()) {
        return Err(format!("the repository has safetensors but no {missing}"));
    }
    let companions = COMPANIONS.into_iter().filter_map(has);
    companions.chain(weights).map(checked).collect()
}

/// The file, if its name can be trusted with a folder and its length is known.
fn checked(sibling: &Sibling) -> Result<HubFile, String> {
    if !is_inner_path(&sibling.rfilename) {
        return Err(format!(
            "the repository's file name {:?} is refused",
            sibling.rfilename
        ));
    }
    let size = sibling
        .size
        .ok_or_else(|| format!("the hub gives no size of {}", sibling.rfilename))?;
    let sha256 = sibling.lfs.as_ref().and_then(|lfs| lfs.sha256.clone());
    Ok(HubFile {
        path: sibling.rfilename.clone(),
        size,
        sha256,
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn choice(names: &[&str], file: Option<&str>) -> Result<Vec<String>, String> {
        let sibling = |name: &&str| Sibling {
            rfilename: name.to_string(),
            size: Some(1),
            lfs: None,
        };
        let siblings: Vec<Sibling> = names.iter().map(sibling).collect();
        Ok(choose(&siblings, file)?
            .into_iter()
            .map(|file| file.path)
            .collect())
    }

    #[test]
    fn a_repository_gives_what_makes_a_model() {
        let folder = [
            "README.md",
            "config.json",
            "tokenizer.json",
            "model-1.safetensors",
        ];
        assert_eq!(
            choice(&folder, None).unwrap(),
            ["config.json", "tokenizer.json", "model-1.safetensors"]
        );
        assert_eq!(choice(&["README.md", "a.gguf"], None).unwrap(), ["a.gguf"]);
        assert_eq!(
            choice(&["d/a.gguf", "b.gguf"], Some("d/a.gguf")).unwrap(),
            ["d/a.gguf"]
        );
    }

    #[test]
    fn an_unclear_or_hostile_repository_is_refused() {
        for (names, file, part) in [
            (&["a.gguf", "b.gguf"][..], None, "a.gguf, b.gguf"),
            (&["README.md"][..], None, "neither"),
            (
                &["model.safetensors", "config.json"][..],
                None,
                "tokenizer.json",
            ),
            (&["a.gguf"][..], Some("c.gguf"), "it has a.gguf"),
            (&["../a.gguf"][..], None, "refused"),
            (&["a b.gguf"][..], None, "refused"),
        ] {
            let error = choice(names, file).unwrap_err();
            assert!(error.contains(part), "{names:?}: {error}");
        }
    }

    #[test]
    fn a_commit_is_hexadecimal() {
        assert!(RepoInfo::parse(br#"{"sha": "0123456789abcdef", "siblings": []}"#).is_ok());
        assert!(RepoInfo::parse(br#"{"sha": "../../x", "siblings": []}"#).is_err());
        assert!(RepoInfo::parse(b"<html>").is_err());
    }
}
