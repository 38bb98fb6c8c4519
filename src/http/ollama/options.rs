//! The `options` of a request: how tokens are drawn, and how many.

use serde_json::Value;

use crate::http::wire::common::{seed, stop};
use crate::http::wire::{ApiError, Fields};
use crate::sample::RawSampling;

/// Names that differ from those of our own parameters.
const NAMES: [(&str, &str); 3] = [
    ("repetition_penalty", "repeat_penalty"),
    ("penalty_window", "repeat_last_n"),
    ("max_tokens", "num_predict"),
];

/// The parameters of sampling that go by the same name.
const SAME: [&str; 6] = [
    "temperature",
    "top_k",
    "top_p",
    "min_p",
    "presence_penalty",
    "frequency_penalty",
];

/// What a model is loaded with, which is the operator's to say.
const LOADING: [&str; 12] = [
    "num_batch",
    "num_gpu",
    "main_gpu",
    "num_thread",
    "use_mmap",
    "use_mlock",
    "numa",
    "low_vram",
    "f16_kv",
    "logits_all",
    "vocab_only",
    "num_gqa",
];

/// The most tokens that a penalty looks back.
const ALL: usize = 1 << 16;

/// How long an answer may become.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Length {
    /// This many tokens.
    Tokens(usize),
    /// What the context leaves.
    Context,
}

/// What `options` says.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Options {
    pub(super) sampling: RawSampling,
    pub(super) stop: Vec<String>,
    /// As configured if absent.
    pub(super) length: Option<Length>,
    /// Tokens that prompt and answer may have; the model's context if absent.
    pub(super) context: Option<usize>,
}

impl Options {
    /// Reads the object; also says which of its fields nobody knows.
    pub(super) fn read(fields: &mut Fields) -> Result<(Self, Vec<String>), ApiError> {
        let Some(map) = fields.object("options")? else {
            return Ok((Options::default(), Vec::new()));
        };
        let (options, left) = Options::of(Fields::of(map)).map_err(inside)?;
        let left = left.into_iter().map(|name| format!("options.{name}"));
        Ok((options, left.collect()))
    }

    fn of(mut fields: Fields) -> Result<(Self, Vec<String>), ApiError> {
        refuse(&mut fields)?;
        let sampling = RawSampling {
            temperature: fields.number("temperature")?,
            top_k: fields.integer("top_k")?,
            top_p: fields.number("top_p")?,
            min_p: fields.number("min_p")?,
            repetition_penalty: fields.number("repeat_penalty")?,
            presence_penalty: fields.number("presence_penalty")?,
            frequency_penalty: fields.number("frequency_penalty")?,
            penalty_window: window(&mut fields)?,
            seed: seed(&mut fields)?,
            logprobs: None,
            logit_bias: Vec::new(),
        };
        let options = Options {
            sampling,
            stop: stop(&mut fields)?,
            length: length(&mut fields)?,
            context: match fields.count("num_ctx")? {
                Some(0) => return Err(ApiError::bad("num_ctx", "is 0, use 1 or more")),
                context => context,
            },
        };
        Ok((options, fields.left()))
    }
}

fn refuse(fields: &mut Fields) -> Result<(), ApiError> {
    let off = |value: &Value| value.as_f64() == Some(0.0);
    let one = |value: &Value| value.as_f64() == Some(1.0);
    fields.refuse("typical_p", "use top_p or min_p", one)?;
    fields.refuse("tfs_z", "use top_p or min_p", one)?;
    fields.refuse("mirostat", "use top_p or min_p", off)?;
    fields.refuse("mirostat_tau", "use top_p or min_p", |_| false)?;
    fields.refuse("mirostat_eta", "use top_p or min_p", |_| false)?;
    let newline = |value: &Value| value.as_bool() == Some(true);
    fields.refuse("penalize_newline", "newlines are as other tokens", newline)?;
    let shift = "nothing is shifted out of the context: kv says what is kept";
    fields.refuse("num_keep", shift, off)?;
    for name in LOADING {
        fields.refuse(name, "the [model] settings of the server say it", |_| false)?;
    }
    Ok(())
}

fn window(fields: &mut Fields) -> Result<Option<usize>, ApiError> {
    match fields.integer("repeat_last_n")? {
        None => Ok(None),
        Some(-1) => Ok(Some(ALL)),
        Some(tokens) => usize::try_from(tokens)
            .map(Some)
            .map_err(|_| ApiError::bad("repeat_last_n", format!("is {tokens}, use -1 or more"))),
    }
}

fn length(fields: &mut Fields) -> Result<Option<Length>, ApiError> {
    let wanted = "use 1 or more, or -1 for what the context leaves";
    match fields.integer("num_predict")? {
        None => Ok(None),
        Some(-2 | -1) => Ok(Some(Length::Context)),
        Some(0) => Err(ApiError::bad("num_predict", format!("is 0, {wanted}"))),
        Some(tokens) => usize::try_from(tokens)
            .map(|tokens| Some(Length::Tokens(tokens)))
            .map_err(|_| ApiError::bad("num_predict", format!("is {tokens}, {wanted}"))),
    }
}

/// An error about a field of the object, named from outside.
fn inside(mut error: ApiError) -> ApiError {
    error.message = format!("options.{}", error.message);
    error.param = error.param.map(|param| format!("options.{param}"));
    error
}

/// An error about a parameter of ours, by the name that it has here.
pub(super) fn rename(mut error: ApiError) -> ApiError {
    let Some(param) = error.param.clone() else {
        return error;
    };
    let renamed = NAMES.iter().find(|(ours, _)| *ours == param);
    let name = match renamed {
        Some((_, name)) => name,
        None if SAME.contains(&param.as_str()) => param.as_str(),
        None => return error,
    };
    if let Some(rest) = error.message.strip_prefix(&param) {
        error.message = format!("options.{name}{rest}");
    }
    error.about(format!("options.{name}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(options: &str) -> Result<(Options, Vec<String>), ApiError> {
        let body = format!(r#"{{"options": {options}}}"#);
        Options::read(&mut Fields::parse(body.as_bytes()).unwrap())
    }

    #[test]
    fn what_is_said_is_read() {
        let (options, left) = read(
            r#"{"temperature": 0.5, "top_k": 3, "repeat_penalty": 1.1, "repeat_last_n": -1, "seed": -1,
                "num_predict": 7, "num_ctx": 100, "stop": "x", "typical_p": 1.0, "mirostat": 0, "num_keep": 0,
                "penalize_newline": true, "colour": 1}"#,
        )
        .unwrap();
        assert_eq!(options.sampling.temperature, Some(0.5));
        assert_eq!(options.sampling.repetition_penalty, Some(1.1));
        assert_eq!(options.sampling.penalty_window, Some(ALL));
        assert_eq!(options.sampling.seed, Some(u64::MAX));
        assert_eq!(options.length, Some(Length::Tokens(7)));
        assert_eq!(
            (options.context, options.stop),
            (Some(100), vec!["x".to_owned()])
        );
        assert_eq!(left, ["options.colour"]);
        let endless = read(r#"{"num_predict": -1}"#).unwrap().0;
        assert_eq!(endless.length, Some(Length::Context));
        let none = Options::read(&mut Fields::parse(b"{}").unwrap()).unwrap();
        assert_eq!(none, (Options::default(), Vec::new()));
    }

    #[test]
    fn what_is_wrong_or_not_offered_is_named() {
        for (options, code, param) in [
            (r#"{"temperature": "hot"}"#, "invalid_value", "temperature"),
            (r#"{"num_predict": 0}"#, "invalid_value", "num_predict"),
            (r#"{"num_predict": -3}"#, "invalid_value", "num_predict"),
            (r#"{"repeat_last_n": -2}"#, "invalid_value", "repeat_last_n"),
            (r#"{"num_ctx": 0}"#, "invalid_value", "num_ctx"),
            (r#"{"stop": [1]}"#, "invalid_value", "stop"),
            (r#"{"num_gpu": 0}"#, "unsupported_parameter", "num_gpu"),
            (r#"{"num_keep": 4}"#, "unsupported_parameter", "num_keep"),
            (r#"{"mirostat": 2}"#, "unsupported_parameter", "mirostat"),
            (
                r#"{"typical_p": 0.5}"#,
                "unsupported_parameter",
                "typical_p",
            ),
        ] {
            let error = read(options).unwrap_err();
            let param = format!("options.{param}");
            assert_eq!(
                (error.code, error.param.as_deref()),
                (code, Some(param.as_str())),
                "{options}"
            );
            assert!(error.message.starts_with(&param), "{}", error.message);
        }
    }

    #[test]
    fn errors_about_our_names_say_theirs() {
        for (ours, theirs) in [
            ("repetition_penalty", "options.repeat_penalty"),
            ("max_tokens", "options.num_predict"),
            ("top_p", "options.top_p"),
            ("model", "model"),
        ] {
            let error = rename(ApiError::bad(ours, "is 9"));
            assert_eq!(error.param.as_deref(), Some(theirs));
            assert_eq!(error.message, format!("{theirs} is 9"));
        }
    }
}
