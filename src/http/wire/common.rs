//! What both endpoints read alike.

use std::time::Duration;

use serde::Deserialize;
use serde_json::Value;

use crate::ids::{BadSessionId, SessionId};
use crate::kv::KvChoice;
use crate::runtime::KeepAlive;
use crate::sample::RawSampling;

use super::fields::{strings, whole, wrong};
use super::limits::MAX_CHOICES;
use super::{ApiError, Fields, Format, Tools};

/// The parameters that do not depend on the endpoint.
#[derive(Debug, Clone, Default, PartialEq)]
pub(in crate::http) struct Shared {
    /// The model; the default one if absent.
    pub(in crate::http) model: Option<String>,
    /// Tokens to generate at most.
    pub(in crate::http) max_tokens: Option<usize>,
    /// Strings that end an answer.
    pub(in crate::http) stop: Vec<String>,
    /// How tokens are drawn; checked against their ranges later.
    pub(in crate::http) sampling: RawSampling,
    /// Go on after an end-of-text token.
    pub(in crate::http) ignore_eos: bool,
    /// Choices of each prompt.
    pub(in crate::http) n: usize,
    /// Whether the answer comes in pieces.
    pub(in crate::http) stream: bool,
    /// Whether a stream ends with a chunk of counts.
    pub(in crate::http) include_usage: bool,
    /// How the KV cache is bounded.
    pub(in crate::http) kv: KvChoice,
    /// Whether ids are told beside text.
    pub(in crate::http) token_ids: bool,
    /// The conversation to go on with.
    pub(in crate::http) session: Option<SessionId>,
    /// How long the model is kept after the answer; as configured if absent.
    pub(in crate::http) keep_alive: Option<KeepAlive>,
    /// Its class: lower runs first.
    pub(in crate::http) priority: i32,
    /// How soon its first token is wanted.
    pub(in crate::http) deadline: Option<Duration>,
    /// What the answer is asked to be.
    pub(in crate::http) format: Option<Format>,
    /// Functions that may be called; in chats only.
    pub(in crate::http) tools: Option<Tools>,
    /// The prompt is told before its answer; in completions only.
    pub(in crate::http) echo: bool,
}

impl Shared {
    pub(super) fn read(fields: &mut Fields) -> Result<Self, ApiError> {
        let older = fields.count("max_tokens")?;
        let newer = fields.count("max_completion_tokens")?;
        let stream = fields.flag("stream")?;
        // Who the caller says they are is taken and used for nothing.
        fields.string("user")?;
        let n = choices(fields)?;
        let session = session(fields)?;
        if session.is_some() && n > 1 {
            return Err(ApiError::bad(
                "n",
                format!("is {n}, a session goes on in one way: leave n out, or fork the session"),
            ));
        }
        Ok(Shared {
            model: fields.string("model")?,
            max_tokens: newer.or(older),
            stop: stop(fields)?,
            sampling: sampling(fields)?,
            ignore_eos: fields.flag("ignore_eos")?,
            n,
            stream,
            include_usage: stream_options(fields, stream)?,
            kv: kv(fields)?,
            token_ids: fields.flag("return_token_ids")?,
            session,
            keep_alive: keep_alive(fields)?,
            priority: priority(fields)?,
            deadline: deadline(fields)?,
            format: Format::read(fields)?,
            tools: None,
            echo: false,
        })
    }
}

/// How long the model is kept after the answer.
pub(in crate::http) fn keep_alive(fields: &mut Fields) -> Result<Option<KeepAlive>, ApiError> {
    let Some(value) = fields.take("keep_alive") else {
        return Ok(None);
    };
    let wanted = "seconds, a length of time such as \"5m\", 0 or -1";
    let time = KeepAlive::deserialize(&value);
    time.map(Some)
        .map_err(|_| wrong("keep_alive", &value, wanted))
}

/// The class of a request.
pub(in crate::http) fn priority(fields: &mut Fields) -> Result<i32, ApiError> {
    let Some(class) = fields.integer("priority")? else {
        return Ok(0);
    };
    i32::try_from(class)
        .map_err(|_| ApiError::bad("priority", format!("is {class}, use a 32-bit number")))
}

/// How soon the first token is wanted.
pub(in crate::http) fn deadline(fields: &mut Fields) -> Result<Option<Duration>, ApiError> {
    match fields.count("deadline_ms")? {
        Some(0) => Err(ApiError::bad("deadline_ms", "is 0, use 1 or more")),
        wanted => Ok(wanted.map(|ms| Duration::from_millis(ms as u64))),
    }
}

fn choices(fields: &mut Fields) -> Result<usize, ApiError> {
    match fields.count("n")? {
        None => Ok(1),
        Some(n) if (1..=MAX_CHOICES).contains(&n) => Ok(n),
        Some(n) => Err(ApiError::bad(
            "n",
            format!("is {n}, use 1 to {MAX_CHOICES}"),
        )),
    }
}

/// The conversation to go on with.
pub(in crate::http) fn session(fields: &mut Fields) -> Result<Option<SessionId>, ApiError> {
    let name = fields.string("session")?;
    name.map(|name| session_id("session", &name)).transpose()
}

/// The name of a session.
pub(in crate::http) fn session_id(param: &str, name: &str) -> Result<SessionId, ApiError> {
    let read = match name.contains('.') {
        // What is before a dot is a key: only routes for operators take that.
        true => Err(BadSessionId),
        false => name.parse(),
    };
    read.map_err(|bad| ApiError::new(400, "invalid_value", format!("{param}: {bad}")).about(param))
}

/// Strings that end an answer: one, or a list.
pub(in crate::http) fn stop(fields: &mut Fields) -> Result<Vec<String>, ApiError> {
    let wanted = "a string or a list of strings";
    match fields.take("stop") {
        None => Ok(Vec::new()),
        Some(Value::String(stop)) => Ok(vec![stop]),
        Some(Value::Array(list)) => strings("stop", list, wanted),
        Some(other) => Err(wrong("stop", &other, wanted)),
    }
}

fn sampling(fields: &mut Fields) -> Result<RawSampling, ApiError> {
    Ok(RawSampling {
        temperature: fields.number("temperature")?,
        top_k: fields.integer("top_k")?,
        top_p: fields.number("top_p")?,
        min_p: fields.number("min_p")?,
        repetition_penalty: fields.number("repetition_penalty")?,
        presence_penalty: fields.number("presence_penalty")?,
        frequency_penalty: fields.number("frequency_penalty")?,
        penalty_window: None,
        // A seed names a sequence of draws; which bits name it does not matter, so a negative one is as good.
        seed: seed(fields)?,
        logprobs: None,
        logit_bias: logit_bias(fields)?,
    })
}

/// What fixes the draws.
pub(in crate::http) fn seed(fields: &mut Fields) -> Result<Option<u64>, ApiError> {
    let Some(value) = fields.take("seed") else {
        return Ok(None);
    };
    let bits = |seed: i128| {
        let signed = || i64::try_from(seed).map(|seed| seed as u64);
        u64::try_from(seed).or_else(|_| signed()).ok()
    };
    let seed = whole(&value).and_then(bits);
    seed.map(Some)
        .ok_or_else(|| wrong("seed", &value, "a whole number"))
}

fn logit_bias(fields: &mut Fields) -> Result<Vec<(u32, f32)>, ApiError> {
    let value = match fields.take("logit_bias") {
        None => return Ok(Vec::new()),
        Some(Value::Object(map)) => map,
        Some(other) => {
            return Err(wrong(
                "logit_bias",
                &other,
                "an object of token ids and numbers",
            ));
        }
    };
    let pair = |(id, bias): (String, Value)| {
        let token = id.parse::<u32>();
        let token =
            token.map_err(|_| ApiError::bad("logit_bias", "has a key that is no token id"))?;
        let bias = bias
            .as_f64()
            .ok_or_else(|| wrong("logit_bias", &bias, "numbers"))?;
        Ok((token, bias as f32))
    };
    value.into_iter().map(pair).collect()
}

fn stream_options(fields: &mut Fields, stream: bool) -> Result<bool, ApiError> {
    let options = match fields.take("stream_options") {
        None => return Ok(false),
        Some(Value::Object(options)) => options,
        Some(other) => return Err(wrong("stream_options", &other, "an object")),
    };
    if !stream {
        return Err(ApiError::bad(
            "stream_options",
            "is for streams: set stream to true, or leave it out",
        ));
    }
    match options.get("include_usage") {
        None | Some(Value::Null) => Ok(false),
        Some(Value::Bool(flag)) => Ok(*flag),
        Some(other) => Err(wrong(
            "stream_options.include_usage",
            other,
            "true or false",
        )),
    }
}

/// How the KV cache is bounded.
pub(in crate::http) fn kv(fields: &mut Fields) -> Result<KvChoice, ApiError> {
    match fields.object("kv")? {
        None => Ok(KvChoice::default()),
        Some(map) => serde_json::from_value(Value::Object(map))
            .map_err(|error| ApiError::bad("kv", format!("cannot be read: {error}"))),
    }
}

/// A template of the client's is not run: the model's own is used.
pub(in crate::http) fn refuse_template(fields: &mut Fields) -> Result<(), ApiError> {
    let own = "the model's own template is used";
    fields.refuse("chat_template", own, |_| false)
}

/// Refuses what neither endpoint offers.
pub(super) fn refuse_unsupported(fields: &mut Fields) -> Result<(), ApiError> {
    let empty = |value: &Value| value.as_array().is_some_and(Vec::is_empty);
    let none = |value: &Value| matches!(value.as_str(), Some("none" | "auto"));
    let only_text = |value: &Value| {
        let list = value.as_array();
        list.is_some_and(|list| list.iter().all(|kind| kind.as_str() == Some("text")))
    };
    if fields.has("function_call") && !fields.has("functions") {
        let reason = "chooses among functions, and there are none: leave it out";
        return Err(ApiError::bad("function_call", reason));
    }
    refuse_template(fields)?;
    let own = "the model's own template is used";
    let yes = |value: &Value| value == &Value::Bool(true);
    let no = |value: &Value| value == &Value::Bool(false);
    fields.refuse("add_generation_prompt", own, yes)?;
    let begun = "an answer that was begun is not gone on with: use /v1/completions";
    fields.refuse("continue_final_message", begun, no)?;
    fields.refuse(
        "reasoning_effort",
        "say it in chat_template_kwargs, where the template knows it",
        |_| false,
    )?;
    fields.refuse("functions", "use tools", empty)?;
    fields.refuse("function_call", "use tool_choice", none)?;
    fields.refuse("modalities", "only text is offered", only_text)?;
    fields.refuse("audio", "only text is offered", |_| false)?;
    fields.refuse("prediction", "leave it out", |_| false)?;
    fields.refuse("web_search_options", "there is no search", |_| false)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kv::{Budget, PolicyKind};

    fn read(body: &str) -> Result<Shared, ApiError> {
        Shared::read(&mut Fields::parse(body.as_bytes())?)
    }

    #[test]
    fn what_is_said_is_read() {
        let shared = read(
            r#"{"model": "m", "max_tokens": 3, "max_completion_tokens": 5, "stop": ["a", "b"], "seed": -1,
                "temperature": 0, "top_k": 7, "logit_bias": {"5": -100}, "n": 2, "stream": true, "user": "u",
                "stream_options": {"include_usage": true}, "kv": {"policy": "h2o", "budget": "25%"}}"#,
        )
        .unwrap();
        assert_eq!(shared.max_tokens, Some(5));
        assert_eq!(shared.stop, ["a", "b"]);
        assert_eq!(shared.sampling.seed, Some(u64::MAX));
        assert_eq!(shared.sampling.temperature, Some(0.0));
        assert_eq!(shared.sampling.logit_bias, [(5, -100.0)]);
        assert!(shared.stream && shared.include_usage && shared.n == 2);
        assert_eq!(shared.kv.policy, Some(PolicyKind::H2o));
        assert_eq!(shared.kv.budget, Some(Budget::Share(0.25)));
        assert_eq!(read(r#"{"stop": "x"}"#).unwrap().stop, ["x"]);
        let urgent = read(r#"{"priority": -2, "deadline_ms": 1500}"#).unwrap();
        assert_eq!(urgent.priority, -2);
        assert_eq!(urgent.deadline, Some(Duration::from_millis(1500)));
        let session = read(r#"{"session": "a-1", "n": 1}"#).unwrap().session;
        assert_eq!(session, "a-1".parse().ok());
        let kept = |body| read(body).unwrap().keep_alive;
        assert_eq!(kept(r#"{"keep_alive": -1}"#), Some(KeepAlive::Forever));
        assert_eq!(kept(r#"{"keep_alive": "5m"}"#), "300".parse().ok());
        assert_eq!(kept(r#"{"keep_alive": null}"#), None);
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (body, param) in [
            (r#"{"n": 0}"#, "n"),
            (r#"{"n": 9}"#, "n"),
            (r#"{"model": 1}"#, "model"),
            (r#"{"max_tokens": -1}"#, "max_tokens"),
            (r#"{"max_tokens": 1.5}"#, "max_tokens"),
            (r#"{"temperature": "hot"}"#, "temperature"),
            (r#"{"stop": 3}"#, "stop"),
            (r#"{"stop": ["a", 3]}"#, "stop"),
            (r#"{"seed": "x"}"#, "seed"),
            (r#"{"logit_bias": {"x": 1}}"#, "logit_bias"),
            (r#"{"logit_bias": {"1": "x"}}"#, "logit_bias"),
            (r#"{"logit_bias": [1]}"#, "logit_bias"),
            (r#"{"stream": "yes"}"#, "stream"),
            (
                r#"{"stream_options": {"include_usage": true}}"#,
                "stream_options",
            ),
            (r#"{"kv": {"policy": "magic"}}"#, "kv"),
            (r#"{"kv": [null, null]}"#, "kv"),
            (r#"{"kv": {"unknown": 1}}"#, "kv"),
            (r#"{"kv": {"budget": 0}}"#, "kv"),
            (r#"{"user": 5}"#, "user"),
            (r#"{"priority": "high"}"#, "priority"),
            (r#"{"priority": 3000000000}"#, "priority"),
            (r#"{"deadline_ms": 0}"#, "deadline_ms"),
            (r#"{"deadline_ms": -1}"#, "deadline_ms"),
            (r#"{"session": 5}"#, "session"),
            (r#"{"session": "a b"}"#, "session"),
            (r#"{"session": "../a"}"#, "session"),
            (r#"{"session": "a", "n": 2}"#, "n"),
            (r#"{"keep_alive": "soon"}"#, "keep_alive"),
            (r#"{"keep_alive": true}"#, "keep_alive"),
        ] {
            let error = read(body).unwrap_err();
            assert_eq!(error.param.as_deref(), Some(param), "{body}");
            assert_eq!(error.status, 400, "{body}");
        }
    }

    #[test]
    fn what_is_not_offered_is_refused_unless_it_asks_for_nothing() {
        let run = |body: &str| refuse_unsupported(&mut Fields::parse(body.as_bytes()).unwrap());
        for (body, param) in [
            (r#"{"functions": [{}]}"#, "functions"),
            (
                r#"{"functions": [], "function_call": {"name": "f"}}"#,
                "function_call",
            ),
            (r#"{"modalities": ["text", "audio"]}"#, "modalities"),
            (r#"{"audio": {}}"#, "audio"),
        ] {
            let error = run(body).unwrap_err();
            assert_eq!(
                (error.code, error.param.as_deref()),
                ("unsupported_parameter", Some(param)),
                "{body}"
            );
        }
        let harmless = r#"{"functions": [], "function_call": "auto",
            "modalities": ["text"], "audio": null}"#;
        run(harmless).unwrap();
        let error = run(r#"{"function_call": "auto"}"#).unwrap_err();
        assert_eq!((error.code, error.status), ("invalid_value", 400));
    }
}
