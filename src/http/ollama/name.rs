//! Names of models as Ollama's clients write them.

use crate::http::models::unknown;
use crate::http::wire::{ApiError, Fields};
use crate::ids::ModelId;

/// The tag that a name without one has there.
const LATEST: &str = ":latest";

/// A name without the tag that says nothing.
pub(super) fn plain(name: &str) -> &str {
    name.strip_suffix(LATEST).unwrap_or(name)
}

/// The name in a body: `model`, or `name`, as it was called before.
pub(super) fn of(fields: &mut Fields) -> Result<Option<String>, ApiError> {
    let (model, name) = (fields.string("model")?, fields.string("name")?);
    let said = |name: &String| !name.is_empty();
    let name = model.filter(said).or(name.filter(said));
    Ok(name.map(|name| plain(&name).to_owned()))
}

/// The same where there has to be one.
pub(super) fn required(fields: &mut Fields) -> Result<String, ApiError> {
    of(fields)?.ok_or_else(|| ApiError::bad("model", "is missing: name a model"))
}

/// The id of a name.
pub(super) fn id(name: &str) -> Result<ModelId, ApiError> {
    name.parse().map_err(|_| unknown(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_under_one_of_two_fields_and_its_tag_may_say_nothing() {
        let read = |body: &str| of(&mut Fields::parse(body.as_bytes()).unwrap());
        for (body, expected) in [
            (r#"{"model": "a:latest"}"#, Some("a")),
            (r#"{"name": "a:1b"}"#, Some("a:1b")),
            (r#"{"model": "a", "name": "b"}"#, Some("a")),
            (r#"{"model": ""}"#, None),
            (r#"{"model": "", "name": "b"}"#, Some("b")),
            ("{}", None),
        ] {
            assert_eq!(read(body).unwrap().as_deref(), expected, "{body}");
        }
        assert!(read(r#"{"model": 3}"#).is_err());
        assert!(id("../a").is_err());
    }
}
