//! `keys`: the keys that clients of the server are given.

use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use clap::Subcommand;
use serde_json::json;
use tempfile::NamedTempFile;
use toml::{Table, Value};

use super::exit::Exit;
use super::flags::Global;
use super::host::Host;
use super::output;
use crate::config::Overrides;
use crate::http;
use crate::store::state_file::Sha256Hex;

/// The flags of `keys`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(subcommand)]
    act: Act,
    /// The key file; http.keys_file, or keys.toml in the home folder, if left out
    #[arg(long, global = true, value_name = "PATH")]
    file: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
enum Act {
    /// Make a key and show it, once: the file has its hash only
    Add {
        /// Whose it is: letters, digits, - and _
        name: String,
        /// It may also load, pull and delete models, train, and look into the engine
        #[arg(long)]
        manage: bool,
    },
    /// Show whose keys there are
    List {
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Take a key out
    Revoke {
        /// Whose it is
        name: String,
    },
}

/// Runs the command.
///
/// # Errors
/// When the file cannot be read or written, or has no such key.
pub(super) fn run(global: &Global, args: &Args) -> Result<Exit> {
    let host = Host::open(global, Overrides::new())?;
    let named = host.settings().http.keys_file.clone();
    let known = named.is_some();
    let usual = || host.home().root().join("keys.toml");
    let path = args.file.clone().or(named).unwrap_or_else(usual);
    match &args.act {
        Act::Add { name, manage } => {
            let key = add(&path, name, *manage)?;
            output::text(&format!("{key}\n"))?;
            let hint = match known {
                true => "restart the server to have it count".to_owned(),
                false => format!("set http.keys_file = {:?} for the server", path.display()),
            };
            eprintln!("{name} is in {}; {hint}", path.display());
        }
        Act::List { json } => list(&path, *json)?,
        Act::Revoke { name } => {
            revoke(&path, name)?;
            eprintln!("{name} is out; restart the server to have it count");
        }
    }
    Ok(Exit::Done)
}

/// Makes a key of 256 random bits.
fn add(path: &Path, name: &str, manage: bool) -> Result<String> {
    let mut table = match path.exists() {
        true => read(path)?,
        false => Table::new(),
    };
    let parts: [u64; 4] = std::array::from_fn(|_| rand::random());
    let key: String = parts.iter().map(|part| format!("{part:016x}")).collect();
    let key = format!("lh-{key}");
    let hash = Sha256Hex::of_content(key.as_bytes());
    let mut entry = Table::new();
    entry.insert("name".to_owned(), name.into());
    entry.insert("sha256".to_owned(), hash.as_str().into());
    let scopes = match manage {
        true => vec!["use", "manage"],
        false => vec!["use"],
    };
    entry.insert("scopes".to_owned(), scopes.into());
    match table
        .entry("keys")
        .or_insert_with(|| Value::Array(Vec::new()))
    {
        Value::Array(keys) => keys.push(Value::Table(entry)),
        _ => bail!("{}: keys is no list", path.display()),
    }
    write(path, &table)?;
    Ok(key)
}

fn list(path: &Path, as_json: bool) -> Result<()> {
    let table = read(path)?;
    let text = |entry: &Value, field: &str| {
        let value = entry.get(field).and_then(Value::as_str);
        value.unwrap_or_default().to_owned()
    };
    let scopes = |entry: &Value| -> Vec<String> {
        let list = entry.get("scopes").and_then(Value::as_array);
        let list = list.into_iter().flatten().filter_map(Value::as_str);
        let list: Vec<String> = list.map(str::to_owned).collect();
        match list.is_empty() {
            true => vec!["use".to_owned()],
            false => list,
        }
    };
    if as_json {
        let lines: Vec<_> = entries(&table)
            .map(|entry| json!({"name": text(entry, "name"), "scopes": scopes(entry)}))
            .collect();
        return output::json(&lines);
    }
    let lines: String = entries(&table)
        .map(|entry| format!("{:24} {}\n", text(entry, "name"), scopes(entry).join(", ")))
        .collect();
    output::text(&lines)
}

fn revoke(path: &Path, name: &str) -> Result<()> {
    let mut table = read(path)?;
    let Some(Value::Array(keys)) = table.get_mut("keys") else {
        bail!("{} has no keys", path.display());
    };
    let before = keys.len();
    keys.retain(|entry| entry.get("name").and_then(Value::as_str) != Some(name));
    if keys.len() == before {
        bail!(
            "{} has no key of {name:?}: see `llamahome keys list`",
            path.display()
        );
    }
    if keys.is_empty() {
        // A server would not start with an empty one, and without one it would ask for no key.
        bail!(
            "{name} has the last key: remove {} if none is to be asked for",
            path.display()
        );
    }
    write(path, &table)
}

fn entries(table: &Table) -> impl Iterator<Item = &Value> {
    let keys = table.get("keys").and_then(Value::as_array);
    keys.into_iter().flatten()
}

/// A file that a server would take.
fn read(path: &Path) -> Result<Table> {
    http::check_keys(path)?;
    let text = std::fs::read_to_string(path)
        .with_context(|| format!("{} cannot be read", path.display()))?;
    // It was parsed just now.
    Ok(toml::from_str(&text)?)
}

/// Writes a file that only its owner can read, whole or not at all, if a server would take it.
fn write(path: &Path, table: &Table) -> Result<()> {
    let folder = path
        .parent()
        .filter(|folder| !folder.as_os_str().is_empty());
    // Made readable by its owner only.
    let written = NamedTempFile::new_in(folder.unwrap_or(Path::new("."))).and_then(|mut file| {
        file.write_all(toml::to_string(table).unwrap_or_default().as_bytes())?;
        file.as_file().sync_all()?;
        Ok(file)
    });
    let fresh = written.with_context(|| format!("{} cannot be written", path.display()))?;
    if let Err(error) = http::check_keys(fresh.path()) {
        bail!("{}", error.reason());
    }
    let placed = fresh.persist(path);
    placed.with_context(|| format!("{} cannot be written", path.display()))?;
    Ok(())
}
