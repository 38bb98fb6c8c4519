//! The chat template: messages to the text that a model was trained on.

use std::collections::BTreeMap;
use std::time::SystemTime;

use minijinja::Environment;
use minijinja::value::{Serde, Value};

use crate::ids::TokenId;

use super::literal::{encode_after, encode_rendered, with_placeholders};
use super::spoken::{Spoken, encode_spoken};
use super::template_env::{
    Bounded, Generation, MAX_OUTPUT, NAME, compile, has_generation_marks, strftime_now,
    template_error,
};
use super::turns;
use super::{Message, Role, TextError, Tokenizer};

/// Template arguments that a request may set beside the usual ones.
pub const EXTRA_ALLOWED: &[&str] = &[
    "enable_thinking",
    "thinking",
    "reasoning_effort",
    "documents",
    "date_string",
    "custom_tools",
    "builtin_tools",
    "xml_tools",
    "python_tools",
    "tools_in_user_message",
];

/// Writes a system prompt and turns between `<|im_start|>` and `<|im_end|>`.
const CHATML: &str = "{% for message in messages %}\
    {{ '<|im_start|>' + message.role + '\n' + message.content + '<|im_end|>\n' }}\
    {% endfor %}\
    {% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}";

/// What a rendering is given beside the messages.
#[derive(Debug, Clone)]
pub struct RenderOptions {
    /// Whether the text ends where the model is to go on as the assistant (default).
    pub add_generation_prompt: bool,
    /// Descriptions of tools, as the client sent them.
    pub tools: Option<serde_json::Value>,
    /// The time that `strftime_now` tells, in UTC; without it the template sees no clock.
    pub now: Option<SystemTime>,
    /// Further arguments, by name; see [`EXTRA_ALLOWED`].
    pub extra: serde_json::Map<String, serde_json::Value>,
}

impl Default for RenderOptions {
    fn default() -> Self {
        RenderOptions {
            add_generation_prompt: true,
            tools: None,
            now: None,
            extra: serde_json::Map::new(),
        }
    }
}

/// A compiled Jinja template with the names of the model's end tokens. `Send` and `Sync`.
///
/// Work, nesting, source and output are bounded; strings that a template builds on its way are
/// not, so a model file is still something that an operator chooses.
#[derive(Debug, Clone)]
pub struct ChatTemplate {
    env: Environment<'static>,
    /// The same with signs where `{% generation %}` begins and ends; for templates that have it.
    marked: Option<Environment<'static>>,
    source: String,
    bos: String,
    eos: String,
}

impl ChatTemplate {
    /// Whether its models write thoughts before their answers, between `<think>` and `</think>`.
    pub fn thinks(&self) -> bool {
        self.source().contains("<think>")
    }

    /// Compiles a template; `bos` and `eos` are the tokens as text, empty when the model has none.
    ///
    /// # Errors
    /// [`TextError::TemplateSize`], or [`TextError::Template`] with the line that does not parse.
    pub fn new(source: &str, bos: &str, eos: &str) -> Result<Self, TextError> {
        let env = compile(source, Generation::Plain)?;
        let marked = match has_generation_marks(source) {
            true => Some(compile(source, Generation::Marked)?),
            false => None,
        };
        Ok(ChatTemplate {
            env,
            marked,
            source: source.into(),
            bos: bos.into(),
            eos: eos.into(),
        })
    }

    /// ChatML, for models that come without a template.
    #[allow(
        clippy::expect_used,
        reason = "the source is a constant and a test compiles it"
    )]
    pub fn chatml() -> Self {
        ChatTemplate::new(CHATML, "", "<|im_end|>").expect("the constant template compiles")
    }

    /// The template's source as the model file has it.
    pub fn source(&self) -> &str {
        &self.source
    }

    /// Whether the template reads an argument of this name.
    pub fn names(&self, argument: &str) -> bool {
        let template = self.env.get_template(NAME);
        template.is_ok_and(|template| template.undeclared_variables(false).contains(argument))
    }

    /// The text of the messages.
    ///
    /// # Errors
    /// [`TextError::Template`] when the template fails or refuses the messages,
    /// [`TextError::TemplateSize`] when its output is too long, [`TextError::Argument`] for an
    /// extra argument that is not allowed.
    pub fn render(
        &self,
        messages: &[Message],
        options: &RenderOptions,
    ) -> Result<String, TextError> {
        self.render_by(&self.env, messages, options)
    }

    fn render_by(
        &self,
        env: &Environment<'static>,
        messages: &[Message],
        options: &RenderOptions,
    ) -> Result<String, TextError> {
        let template = env.get_template(NAME).map_err(template_error)?;
        let context = self.context(messages, options)?;
        let mut out = Bounded::default();
        let rendered = template.render_captured_to(context, &mut out).map(|_| ());
        if out.overflowed {
            return Err(TextError::TemplateSize {
                part: "output",
                max: MAX_OUTPUT,
            });
        }
        rendered.map_err(template_error)?;
        String::from_utf8(out.bytes).map_err(|error| TextError::Template {
            reason: error.to_string(),
        })
    }

    /// Ids of the messages: control tokens that the template writes are control tokens, those that
    /// a message spells are plain text.
    ///
    /// # Errors
    /// Those of [`ChatTemplate::render`]; [`TextError::ControlText`] when a message spells a
    /// control token and the template changes messages so that they cannot be told from its own
    /// text, or when names, tool calls, tools or extra arguments spell one.
    pub fn render_ids(
        &self,
        tokenizer: &Tokenizer,
        messages: &[Message],
        options: &RenderOptions,
    ) -> Result<Vec<TokenId>, TextError> {
        let text = self.render(messages, options)?;
        let render = |messages: &[Message]| self.render(messages, options).ok();
        encode_rendered(tokenizer, &text, messages, options, render)
    }

    /// Ids of what follows the reply at `messages[reply]`: what ends it, and all after it. The cache of a conversation
    /// that has seen the reply goes on with them, whatever its tokens were.
    ///
    /// # Errors
    /// Those of [`ChatTemplate::render_ids`]; [`TextError::Template`] when the template does not show the reply.
    pub fn render_ids_after(
        &self,
        tokenizer: &Tokenizer,
        messages: &[Message],
        reply: usize,
        options: &RenderOptions,
    ) -> Result<Vec<TokenId>, TextError> {
        let render = |messages: &[Message]| self.render(messages, options);
        encode_after(tokenizer, messages, reply, options, render)
    }

    /// Ids of a whole chat, and which of them the assistant says: its replies and calls with the token that ends the
    /// turn, for training. Where the template has `{% generation %}` marks they tell; else a turn is what the template
    /// adds to the prompt that asks for it. Each turn is encoded apart from what precedes it, as it is when a model
    /// answers. `add_generation_prompt` of the options plays no part.
    ///
    /// # Errors
    /// Those of [`ChatTemplate::render_ids`]; [`TextError::Turns`] with the message where the assistant's own words
    /// cannot be told from the rest.
    pub fn render_spoken(
        &self,
        tokenizer: &Tokenizer,
        messages: &[Message],
        options: &RenderOptions,
    ) -> Result<Spoken, TextError> {
        let closed = RenderOptions {
            add_generation_prompt: false,
            ..options.clone()
        };
        let text = self.render(messages, &closed)?;
        let turns = match &self.marked {
            Some(env) => turns::by_marks(&self.render_by(env, messages, &closed)?, &text)?,
            None => turns::by_prompts(messages, &text, |messages, add_generation_prompt| {
                let options = RenderOptions {
                    add_generation_prompt,
                    ..options.clone()
                };
                self.render(messages, &options)
            })?,
        };
        let placed = self.render(&with_placeholders(messages), &closed).ok();
        encode_spoken(
            tokenizer,
            &text,
            placed.as_deref(),
            messages,
            &closed,
            turns,
        )
    }

    /// How many of the first tokens of `prompt`, which is `messages` rendered, are the system message at their
    /// beginning; 0 when there is none, or the template does not write it in front of the rest.
    pub fn system_tokens(
        &self,
        tokenizer: &Tokenizer,
        messages: &[Message],
        options: &RenderOptions,
        prompt: &[TokenId],
    ) -> usize {
        let Some(system) = messages.first().filter(|m| m.role == Role::System) else {
            return 0;
        };
        let closed = RenderOptions {
            add_generation_prompt: false,
            ..options.clone()
        };
        // A template may refuse a chat that nobody has begun.
        let alone = self.render_ids(tokenizer, std::slice::from_ref(system), &closed);
        let alone = alone.ok().filter(|ids| prompt.starts_with(ids));
        alone.map_or(0, |ids| ids.len())
    }

    fn context(&self, messages: &[Message], options: &RenderOptions) -> Result<Value, TextError> {
        let mut pairs = vec![
            ("messages", Value::from(Serde(messages))),
            (
                "add_generation_prompt",
                Value::from(options.add_generation_prompt),
            ),
            ("bos_token", Value::from(self.bos.as_str())),
            ("eos_token", Value::from(self.eos.as_str())),
            (
                "tools",
                options
                    .tools
                    .as_ref()
                    .map_or(Value::from(()), |t| Value::from(Serde(t))),
            ),
        ];
        pairs.extend(options.now.map(|now| ("strftime_now", strftime_now(now))));
        for (name, value) in &options.extra {
            if !EXTRA_ALLOWED.contains(&name.as_str()) {
                let name = name.chars().take(80).collect();
                return Err(TextError::Argument {
                    name,
                    allowed: EXTRA_ALLOWED.join(", "),
                });
            }
            pairs.push((name, Value::from(Serde(value))));
        }
        Ok(Value::from(
            pairs.into_iter().collect::<BTreeMap<&str, Value>>(),
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn chat() -> Vec<Message> {
        vec![
            Message::new(Role::System, " be brief "),
            Message::new(Role::User, "2+2?"),
        ]
    }

    fn render(source: &str, options: &RenderOptions) -> Result<String, TextError> {
        ChatTemplate::new(source, "<s>", "</s>")
            .unwrap()
            .render(&chat(), options)
    }

    #[test]
    fn chatml_writes_every_turn() {
        let text = ChatTemplate::chatml()
            .render(&chat(), &RenderOptions::default())
            .unwrap();
        let expected = "<|im_start|>system\n be brief <|im_end|>\n<|im_start|>user\n2+2?<|im_end|>\n<|im_start|>assistant\n";
        assert_eq!(text, expected);
        let closed = RenderOptions {
            add_generation_prompt: false,
            ..Default::default()
        };
        let text = ChatTemplate::chatml().render(&chat(), &closed).unwrap();
        assert!(text.ends_with("2+2?<|im_end|>\n"));
    }

    #[test]
    fn a_llama_style_template_renders() {
        let source = "{{ bos_token }}{% for m in messages %}\n{{ '<|' ~ m['role'] ~ '|>' + m['content'] | trim + eos_token }}\n{%- endfor %}";
        let text = render(source, &RenderOptions::default()).unwrap();
        assert_eq!(text, "<s><|system|>be brief</s><|user|>2+2?</s>");
    }

    #[test]
    fn tools_and_allowed_arguments_reach_the_template() {
        let source = "{% if tools %}{% for t in tools %}{{ t | tojson }}{% endfor %}{% endif %}{{ enable_thinking }}{{ strftime_now is defined }}{{ messages[0].name is defined }}";
        let mut options = RenderOptions {
            tools: Some(json!([{"name": "f", "args": {"b": 1, "a": 2}}])),
            ..RenderOptions::default()
        };
        options.extra.insert("enable_thinking".into(), json!(false));
        let text = render(source, &options).unwrap();
        assert_eq!(
            text,
            r#"{"name": "f", "args": {"b": 1, "a": 2}}FalseFalseFalse"#
        );
        options.extra.insert("messages".into(), json!([]));
        assert!(matches!(
            render(source, &options),
            Err(TextError::Argument { .. })
        ));
    }

    #[test]
    fn output_beyond_the_bound_is_refused() {
        let source = "{% for _ in range(9999) %}{{ 'xxxxxxxxxx' * 100 }}{% endfor %}";
        let error = render(source, &RenderOptions::default()).unwrap_err();
        assert!(
            matches!(error, TextError::TemplateSize { part: "output", .. }),
            "{error}"
        );
    }
}
