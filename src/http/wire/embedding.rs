//! The body of `/v1/embeddings`.

use serde_json::Value;

use super::completion::{Prompt, prompts};
use super::limits::MAX_INPUTS;
use super::{ApiError, Fields};
use crate::runtime::Pooling;

/// How vectors are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::http) enum Encoding {
    /// As numbers.
    Float,
    /// As the bytes of little-endian 32-bit floats, in base64.
    Base64,
}

/// Texts to be told as vectors.
#[derive(Debug, Clone, PartialEq)]
pub(in crate::http) struct EmbeddingAsk {
    /// The model; the default one if absent.
    pub(in crate::http) model: Option<String>,
    /// The texts, at least one.
    pub(in crate::http) inputs: Vec<Prompt>,
    /// How they are written.
    pub(in crate::http) encoding: Encoding,
    /// How long a vector is asked to be.
    pub(in crate::http) dimensions: Option<usize>,
    /// How the states of a text's tokens become one.
    pub(in crate::http) pooling: Pooling,
    /// Whether vectors are brought to length 1.
    pub(in crate::http) normalize: bool,
}

impl EmbeddingAsk {
    /// Reads a body; also says which fields nobody knows.
    pub(in crate::http) fn read(mut fields: Fields) -> Result<(Self, Vec<String>), ApiError> {
        // Who the caller says they are is taken and used for nothing.
        fields.string("user")?;
        let ask = EmbeddingAsk {
            model: fields.string("model")?,
            inputs: inputs(&mut fields)?,
            encoding: encoding(&mut fields)?,
            dimensions: fields.count("dimensions")?,
            pooling: pooling(&mut fields)?,
            normalize: !fields.has("normalize") || fields.flag("normalize")?,
        };
        Ok((ask, fields.left()))
    }
}

/// Texts under `input`.
pub(in crate::http) fn inputs(fields: &mut Fields) -> Result<Vec<Prompt>, ApiError> {
    let inputs = prompts(fields, "input")?;
    if inputs.len() > MAX_INPUTS {
        let reason = format!("has {} entries, use up to {MAX_INPUTS}", inputs.len());
        return Err(ApiError::bad("input", reason));
    }
    Ok(inputs)
}

fn encoding(fields: &mut Fields) -> Result<Encoding, ApiError> {
    match fields.string("encoding_format")?.as_deref() {
        None | Some("float") => Ok(Encoding::Float),
        Some("base64") => Ok(Encoding::Base64),
        Some(_) => Err(ApiError::bad(
            "encoding_format",
            "is not known, use float or base64",
        )),
    }
}

fn pooling(fields: &mut Fields) -> Result<Pooling, ApiError> {
    let Some(name) = fields.string("pooling")? else {
        return Ok(Pooling::default());
    };
    let pooling = serde_json::from_value(Value::String(name));
    pooling.map_err(|_| ApiError::bad("pooling", "is not known, use mean or last"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(body: &str) -> Result<(EmbeddingAsk, Vec<String>), ApiError> {
        EmbeddingAsk::read(Fields::parse(body.as_bytes())?)
    }

    #[test]
    fn what_is_said_is_read() {
        let (ask, left) = read(
            r#"{"model": "m", "input": ["a", [1, 2]], "encoding_format": "base64", "dimensions": 4, "user": "u",
                "pooling": "last", "normalize": false, "x": 1}"#,
        )
        .unwrap();
        let inputs = vec![Prompt::Text("a".to_owned()), Prompt::Ids(vec![1, 2])];
        assert_eq!(
            ask,
            EmbeddingAsk {
                model: Some("m".to_owned()),
                inputs,
                encoding: Encoding::Base64,
                dimensions: Some(4),
                pooling: Pooling::Last,
                normalize: false,
            }
        );
        assert_eq!(left, ["x"]);
        let (ask, _) = read(r#"{"input": "a"}"#).unwrap();
        assert_eq!(
            (ask.encoding, ask.pooling, ask.normalize),
            (Encoding::Float, Pooling::Mean, true)
        );
    }

    #[test]
    fn what_is_wrong_is_named() {
        let many = format!(r#"{{"input": [{}"a"]}}"#, r#""a","#.repeat(MAX_INPUTS));
        for (body, param) in [
            ("{}", "input"),
            (r#"{"input": []}"#, "input"),
            (r#"{"input": 5}"#, "input"),
            (many.as_str(), "input"),
            (
                r#"{"input": "a", "encoding_format": "hex"}"#,
                "encoding_format",
            ),
            (r#"{"input": "a", "dimensions": -1}"#, "dimensions"),
            (r#"{"input": "a", "pooling": "max"}"#, "pooling"),
            (r#"{"input": "a", "normalize": 1}"#, "normalize"),
        ] {
            let error = read(body).unwrap_err();
            assert_eq!(
                (error.status, error.param.as_deref()),
                (400, Some(param)),
                "{body}"
            );
        }
    }
}
