//! One generation of a command: prompt in, parts of text out, stopped by a signal.

use std::time::{Duration, SystemTime};

use anyhow::Result;
use serde_json::{Map, Value, json};

use super::exit::Signal;
use super::flags::Drawing;
use super::signals::Signals;
use crate::history::Call;
use crate::ids::{ModelId, RequestId};
use crate::kv::{KvChoice, KvReport};
use crate::runtime::{Ask, Draft, Fed, Finish, Piece, Runtime, ServedModel};
use crate::sched::{FinishReason, OfPrompt, Standing, Usage};
use crate::text::{Message, RenderOptions};

/// What is to be gone on with.
pub(super) struct Prompt {
    fed: Fed,
    /// The session that it is a turn of.
    draft: Option<Draft>,
}

/// What came of a generation.
pub(super) struct Generated {
    /// The text, as far as it came.
    pub(super) text: String,
    /// How it ended.
    pub(super) end: End,
}

impl Generated {
    /// Why it ended by itself, if it did.
    fn finish_reason(&self) -> Option<FinishReason> {
        match &self.end {
            End::Done(finish) => Some(finish.reason),
            End::Stopped(_) => None,
        }
    }
}

/// How a generation ended.
pub(super) enum End {
    /// By itself.
    Done(Box<Finish>),
    /// By a signal: the work is cancelled.
    Stopped(Signal),
}

/// Generates, and hands on each part of the text as it comes.
///
/// # Errors
/// When the prompt does not fit, the engine fails, or `part` fails.
pub(super) async fn generate(
    runtime: &Runtime,
    model: &ServedModel,
    prompt: Prompt,
    drawing: &Drawing,
    signals: &mut Signals,
    mut part: impl FnMut(&str) -> Result<()>,
) -> Result<Generated> {
    let Prompt { fed, mut draft } = prompt;
    let ask = Ask {
        id: RequestId::random(),
        prompt: fed.ids,
        max_tokens: drawing.limit(),
        ignore_eos: false,
        sampling: drawing.params()?,
        kv: KvChoice {
            // A conversation goes on past the context; one answer ends with it, as the configuration says.
            beyond_context: draft.as_ref().map(|_| true),
            ..KvChoice::default()
        },
        system_tokens: fed.system_tokens,
        tenant: String::new(),
        session: None,
        standing: Standing::default(),
        of_prompt: OfPrompt::Nothing,
    };
    let request = match &mut draft {
        Some(draft) => model.turn(ask, draft)?,
        None => model.request(ask)?,
    };
    let mut answer = runtime.generate(model, request, drawing.matcher()?).await?;
    if let Some(draft) = draft {
        answer = answer.in_session(draft);
    }
    let mut text = String::new();
    loop {
        let piece = tokio::select! {
            piece = answer.next() => piece,
            signal = signals.next() => {
                let end = End::Stopped(signal);
                return Ok(Generated { text, end });
            }
        };
        match piece {
            Some(Ok(Piece::Text { text: more, .. })) => {
                if !more.is_empty() {
                    part(&more)?;
                    text.push_str(&more);
                }
            }
            Some(Ok(Piece::Prompt(_))) => {}
            Some(Ok(Piece::Done(finish))) => {
                let end = End::Done(finish);
                return Ok(Generated { text, end });
            }
            Some(Err(failure)) => return Err(failure.into()),
            None => anyhow::bail!("the answer ended without an end: this is a defect of llamahome"),
        }
    }
}

/// The prompt of a chat: all of it, or what the session under work has not seen.
///
/// # Errors
/// When the template refuses the messages.
pub(super) fn chat_prompt(
    model: &ServedModel,
    mut draft: Option<Draft>,
    messages: Vec<Message>,
) -> Result<Prompt> {
    let fed = model.chat(draft.as_mut(), messages, &render_options())?;
    Ok(Prompt { fed, draft })
}

/// The prompt of a text, as it is.
///
/// # Errors
/// When the text is too long.
pub(super) fn text_prompt(model: &ServedModel, text: &str) -> Result<Prompt> {
    let fed = Fed {
        ids: model.text(None, text)?,
        system_tokens: 0,
    };
    Ok(Prompt { fed, draft: None })
}

/// How this program renders a chat.
pub(super) fn render_options() -> RenderOptions {
    RenderOptions {
        now: Some(SystemTime::now()),
        ..RenderOptions::default()
    }
}

/// An answer as one object; of one that was stopped there is only the text.
pub(super) fn answer_json(model: &ModelId, generated: &Generated) -> Value {
    let mut answer = Map::new();
    answer.insert("model".to_owned(), json!(model));
    answer.insert("text".to_owned(), json!(generated.text));
    answer.insert("finish_reason".to_owned(), json!(generated.finish_reason()));
    answer.extend(about_json(&generated.end));
    Value::Object(answer)
}

/// What an answer took; nothing is known of one that was stopped.
fn about_json(end: &End) -> Map<String, Value> {
    let mut about = Map::new();
    if let End::Done(finish) = end {
        about.insert("usage".to_owned(), usage_json(&finish.usage));
        about.insert("kv".to_owned(), json!(finish.kv));
        about.insert("timings".to_owned(), timings_json(&finish.usage));
    }
    about
}

/// An answer as the history keeps it.
pub(super) fn kept_call(command: &str, model: &str, prompt: &str, generated: &Generated) -> Call {
    let finish_reason = json!(generated.finish_reason());
    Call {
        at: super::host::now(),
        command: command.to_owned(),
        model: model.to_owned(),
        prompt: prompt.to_owned(),
        answer: generated.text.clone(),
        finish_reason: finish_reason.as_str().map(str::to_owned),
        about: Value::Object(about_json(&generated.end)),
    }
}

/// Token counts as the APIs give them.
fn usage_json(usage: &Usage) -> Value {
    json!({
        "prompt_tokens": usage.prompt_tokens,
        "cached_tokens": usage.cached_tokens,
        "completion_tokens": usage.completion_tokens,
        "total_tokens": usage.prompt_tokens + usage.completion_tokens,
    })
}

/// Times in milliseconds, and the rate of the tokens after the first.
fn timings_json(usage: &Usage) -> Value {
    let ms = |time: Duration| (time.as_secs_f64() * 1e6).round() / 1e3;
    json!({
        "queue_ms": ms(usage.queue),
        "first_token_ms": ms(usage.first_token),
        "total_ms": ms(usage.total),
        "tokens_per_s": tokens_per_s(usage),
    })
}

/// Decoded tokens a second, the first one left out; none when there were fewer than two.
pub(super) fn tokens_per_s(usage: &Usage) -> Option<f64> {
    let after_first = usage.completion_tokens.checked_sub(1).filter(|&n| n > 0)?;
    let seconds = usage.total.saturating_sub(usage.first_token).as_secs_f64();
    (seconds > 0.0).then(|| (after_first as f64 / seconds * 100.0).round() / 100.0)
}

/// A KV report in words.
pub(super) fn kv_words(kv: &KvReport) -> String {
    let budget = match kv.budget {
        Some(budget) => format!("keeps at most {budget} tokens per layer and KV head"),
        None => "keeps every token".to_owned(),
    };
    format!(
        "policy {} {budget}: {} seen, {} kept, {} evicted; {} of KV cache",
        kv.policy,
        kv.tokens_seen,
        kv.tokens_kept,
        kv.evicted,
        super::output::size(kv.bytes as u64)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rate_leaves_the_prompt_out() {
        let usage = Usage {
            completion_tokens: 11,
            first_token: Duration::from_secs(5),
            total: Duration::from_secs(7),
            ..Usage::default()
        };
        assert_eq!(tokens_per_s(&usage), Some(5.0));
        let one = Usage {
            completion_tokens: 1,
            ..usage
        };
        assert_eq!(tokens_per_s(&one), None);
    }
}
