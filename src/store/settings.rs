//! The `[store]` section.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Which models can be fetched by name.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// A `models.json` whose entries are added to the built-in list.
    #[schemars(example = ".config/models.json")]
    pub catalog: Option<PathBuf>,
}
