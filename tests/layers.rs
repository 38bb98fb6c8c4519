//! The folders are the architecture: a module imports only lower ones, and a library is named only where it belongs.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// Lower to higher. Modules of one line do not import each other.
const LAYERS: [&[&str]; 12] = [
    &["ids", "tls", "units", "kernels"],
    &["telemetry"],
    &["text"],
    &["sample", "kv", "store", "eval", "history"],
    &["data"],
    &["sched", "load"],
    &["llama"],
    &["train"],
    &["runtime"],
    &["http"],
    &["config"],
    &["cli"],
];

/// Who alone may name a library.
const OWNERS: [(&str, &[&str]); 30] = [
    ("llguidance", &["sample"]),
    ("toktrie", &["sample"]),
    ("jsonschema", &["sample"]),
    ("moka", &["sample"]),
    ("rusqlite", &["history"]),
    ("plotters", &["eval"]),
    ("parquet", &["data"]),
    ("landlock", &["eval"]),
    ("seccompiler", &["eval"]),
    ("winnow", &["eval"]),
    ("num_rational", &["eval"]),
    ("tch", &["llama"]),
    ("actix", &["runtime", "cli"]),
    ("actix_web", &["http"]),
    ("reqwest", &["http", "load"]),
    ("rustls", &["tls"]),
    ("tokenizers", &["text"]),
    ("minijinja", &["text"]),
    ("memmap2", &["store", "kernels"]),
    ("safetensors", &["store"]),
    ("sysinfo", &["runtime", "cli"]),
    ("nvml_wrapper", &["runtime"]),
    ("dashmap", &["runtime"]),
    ("figment", &["config"]),
    ("clap", &["cli"]),
    ("opentelemetry", &["telemetry"]),
    ("sd_notify", &["runtime"]),
    ("crc32c", &["train"]),
    ("prost", &["train"]),
    ("yaml_rust2", &["train"]),
];

fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|e| e == "rs") {
            found.push(path);
        }
    }
}

/// `(module, file, code without comments and strings of doc tests)` of every source file.
fn files() -> Vec<(String, String, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut found = Vec::new();
    sources(&root, &mut found);
    let read = |path: PathBuf| {
        let inside = path.strip_prefix(&root).unwrap();
        let module = inside
            .components()
            .next()
            .unwrap()
            .as_os_str()
            .to_str()
            .unwrap();
        let code = fs::read_to_string(&path).unwrap();
        let code: Vec<&str> = code
            .lines()
            .filter(|l| !l.trim_start().starts_with("//"))
            .collect();
        (
            module.trim_end_matches(".rs").to_owned(),
            inside.display().to_string(),
            code.join("\n"),
        )
    };
    let mut files: Vec<_> = found.into_iter().map(read).collect();
    files.sort();
    assert!(
        files.len() > 50,
        "only {} source files were found",
        files.len()
    );
    files
}

/// The words that follow `prefix` in `code`, where the prefix is not the end of a longer word.
fn words_after<'a>(code: &'a str, prefix: &str) -> Vec<&'a str> {
    let word = |c: char| c.is_alphanumeric() || c == '_';
    code.match_indices(prefix)
        .filter(|(at, _)| !code[..*at].ends_with(|c| word(c) || c == ':'))
        .map(|(at, _)| {
            let rest = &code[at + prefix.len()..];
            &rest[..rest.find(|c| !word(c)).unwrap_or(rest.len())]
        })
        .collect()
}

/// Modules that `code` names: `crate::x`, and each of `crate::{x, y::z}`.
fn imported(code: &str) -> Vec<String> {
    let mut names: Vec<String> = words_after(code, "crate::")
        .into_iter()
        .map(String::from)
        .collect();
    for (at, prefix) in code.match_indices("crate::{") {
        let group = &code[at + prefix.len()..];
        let group = &group[..group.find("};").unwrap_or(group.len())];
        let mut depth = 0;
        for part in group.split_inclusive([',', '{', '}']) {
            if depth == 0 {
                let name: String = part
                    .trim()
                    .chars()
                    .take_while(|c| c.is_alphanumeric() || *c == '_')
                    .collect();
                names.push(name);
            }
            depth += part.matches('{').count() as i32 - part.matches('}').count() as i32;
        }
    }
    names.retain(|name| !name.is_empty());
    names
}

#[test]
fn imports_run_one_way() {
    let layer: BTreeMap<&str, usize> = LAYERS
        .iter()
        .enumerate()
        .flat_map(|(height, names)| names.iter().map(move |&name| (name, height)))
        .collect();
    let mut wrong = Vec::new();
    for (module, file, code) in files() {
        if module == "lib" || module == "main" {
            continue;
        }
        let here = *layer
            .get(module.as_str())
            .unwrap_or_else(|| panic!("{file}: {module} has no layer"));
        for name in imported(&code) {
            let Some(&there) = layer.get(name.as_str()) else {
                continue;
            };
            if name != module && there >= here {
                wrong.push(format!("{file} imports {name}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn libraries_are_named_where_they_belong() {
    let mut wrong = Vec::new();
    for (module, file, code) in files() {
        for (library, owners) in OWNERS {
            let named = !words_after(&code, &format!("{library}::")).is_empty();
            if named && !owners.contains(&module.as_str()) && module != "main" {
                wrong.push(format!("{file} names {library}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn the_scan_sees_what_it_should() {
    let code = "use crate::kv::{Policy, slots::Slot};\nuse crate::{http::x, cli::{a, b}};\ntch::Tensor other_tch::No";
    assert_eq!(imported(code), ["kv", "http", "cli"]);
    assert_eq!(words_after(code, "tch::"), ["Tensor"]);
}
