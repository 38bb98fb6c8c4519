//! `key=value` of the command line or a request.

use super::node::Node;
use super::{RecipeError, syntax};

/// A key and what it is set to.
#[derive(Debug, Clone)]
pub(super) struct Override {
    pub path: String,
    pub node: Node,
    pub text: String,
}

/// Reads one override. Its value is read as TOML's, else as the text it is; an empty one or `null` makes a key absent.
pub(super) fn read(text: &str) -> Result<Override, RecipeError> {
    let bad = |reason: &str| RecipeError::Override {
        text: text.to_owned(),
        reason: reason.to_owned(),
    };
    let (path, value) = text.split_once('=').ok_or_else(|| bad("there is no ="))?;
    let path = path.trim();
    if path.is_empty() {
        return Err(bad("there is no key before the ="));
    }
    Ok(Override {
        path: path.to_owned(),
        node: Node {
            line: None,
            value: syntax::value(value.trim()),
        },
        text: text.to_owned(),
    })
}
