//! The reference of all keys, written from the table: `docs/configuration.md`, `.config/default.toml`, `.env.example`.

use serde_json::Value as Json;

use super::ConfigError;
use super::keys::{Key, Keys};
use super::reload::LIVE;
use super::variables::RESERVED;

/// A file of the repository that is written from the table of keys.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Generated {
    /// Its path in the repository.
    pub path: &'static str,
    /// What it must hold.
    pub text: String,
}

/// All files that are written from the table of keys.
///
/// # Errors
/// When the table cannot be built, a defect of this program.
pub fn files() -> Result<Vec<Generated>, ConfigError> {
    let keys = Keys::new()?;
    Ok(vec![
        Generated {
            path: "docs/configuration.md",
            text: markdown(&keys),
        },
        Generated {
            path: ".config/default.toml",
            text: default_toml(&keys),
        },
        Generated {
            path: ".env.example",
            text: env_example(&keys),
        },
    ])
}

const INTRODUCTION: &str = "\
# Configuration

`llamahome config show --origin` lists every key, its value and the file, line, variable or flag that set it.

## Layers

A value of a later layer hides those before it:

| layer | where |
|---|---|
| built-in | the program; the tables below |
| project | the `.config` folder of the working directory, or the folder that `LLAMAHOME_CONFIG` names: `default.*`, then `llamahome.*`, `config.*`, `settings.*`, then files named after a section such as `kv.*`, then `local.*` |
| profile | the file of the same folder that `LLAMAHOME_ENV` names, such as `prod.*`; `dev` and `prod` are also built in |
| user | `$LLAMAHOME_HOME/config` when `LLAMAHOME_HOME` is set, else `$XDG_CONFIG_HOME/llamahome`, else `~/.config/llamahome`: `llamahome.*`, `config.*`, `settings.*`, then files named after a section |
| dotenv | `.env` in the working directory; it is not exported |
| environment | `LLAMAHOME_SECTION__KEY` |
| command-line | flags |

Files may be TOML, YAML (`.yaml`, `.yml`), JSON, JSON5 or INI. All have the same shape, also those named after a section: tables of keys, as in `.config/default.toml`, which lists every key with its default. Two files of one stem are read in the order of their names. When the working directory's `.config` is the user's own folder of settings (`~/.config`), it is not read as a project's. Other files of these formats are left alone, and `config show` lists them as ignored; `models.json`, `nextest.toml` and `training_config.*` are known to be somebody else's.

A key or variable that does not exist, a value of a wrong type and a broken file are errors that name the file and line, the variable or the flag.

Variables and flags are read as the type of their key; lists are separated by commas, and an empty text makes an optional key absent. In `.env`, `$NAME` stands for another variable unless the value is in single quotes.

Sizes are written `64MiB`, `4GiB` (powers of 1024) or `1GB` (powers of 1000), lengths of time `500ms`, `30s`, `5m`.

";

/// `docs/configuration.md`.
pub fn markdown(keys: &Keys) -> String {
    let mut out = INTRODUCTION.to_owned();
    let live = LIVE.map(|key| format!("`{key}`")).join(", ");
    out.push_str(&format!(
        "`llamahome serve` reads all of this anew at SIGHUP. These keys take effect then, all others at a restart: {live}.\n\n"
    ));
    out.push_str("## Variables that are not keys\n\n");
    out.push_str("| variable | meaning |\n|---|---|\n");
    for reserved in &RESERVED {
        out.push_str(&format!("| `{}` | {} |\n", reserved.name, reserved.meaning));
    }
    for (section, about) in &keys.about {
        out.push_str(&format!("\n## [{section}]\n\n{about}\n\n"));
        out.push_str("| key | value | default | variable | meaning |\n|---|---|---|---|---|\n");
        for key in keys.all.iter().filter(|key| key.section == *section) {
            let default = match &key.default {
                Json::Null => "absent".to_owned(),
                value => format!("`{value}`"),
            };
            let looks = key.looks.replace('|', "\\|");
            let (name, variable, meaning) = (&key.name, key.variable(), &key.meaning);
            out.push_str(&format!(
                "| `{name}` | {looks} | {default} | `{variable}` | {meaning} |\n"
            ));
        }
    }
    out
}

/// `.config/default.toml`: every key with its default, absent ones as a comment.
pub fn default_toml(keys: &Keys) -> String {
    let mut out =
        "# Every key with its built-in default. Absent ones are shown as comments.\n".to_owned();
    for (section, about) in &keys.about {
        out.push_str(&format!("\n# {about}\n[{section}]\n"));
        for key in keys.all.iter().filter(|key| key.section == *section) {
            // JSON texts, numbers, switches and lists of texts are TOML too.
            let (mark, value) = match &key.default {
                Json::Null => ("# ", sample(key)),
                value => ("", value.clone()),
            };
            out.push_str(&format!(
                "# {} ({})\n{mark}{} = {value}\n",
                key.meaning, key.looks, key.name
            ));
        }
    }
    out
}

/// `.env.example`: every variable as a comment.
pub fn env_example(keys: &Keys) -> String {
    let mut out =
        "# Copy to .env and uncomment what you need. The real environment wins over this file.\n\n"
            .to_owned();
    for reserved in &RESERVED {
        out.push_str(&format!(
            "# {}\n# {}={}\n",
            reserved.meaning, reserved.name, reserved.example
        ));
    }
    for (section, about) in &keys.about {
        out.push_str(&format!("\n# [{section}] {about}\n"));
        for key in keys.all.iter().filter(|key| key.section == *section) {
            let value = match &key.default {
                Json::Null => bare(&sample(key)),
                value => bare(value),
            };
            out.push_str(&format!(
                "# {} ({})\n# {}={value}\n",
                key.meaning,
                key.looks,
                key.variable()
            ));
        }
    }
    out
}

fn sample(key: &Key) -> Json {
    key.example
        .clone()
        .unwrap_or_else(|| Json::from("change-me"))
}

/// A value as a variable's text.
fn bare(value: &Json) -> String {
    match value {
        Json::String(text) => text.clone(),
        Json::Array(items) => items.iter().map(bare).collect::<Vec<_>>().join(","),
        other => other.to_string(),
    }
}
