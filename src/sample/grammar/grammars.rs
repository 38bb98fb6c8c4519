//! Shapes compiled for the tokens of one model, those of late kept.

use std::fmt;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use llguidance::ParserFactory;
use llguidance::api::{GrammarWithLexer, ParserLimits, TopLevelGrammar};
use moka::sync::Cache;
use regex::Regex;
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};

use super::check::{Check, SchemaCheck, short};
use super::constraint::{Compiled, Constraint};
use super::shape::{BadShape, MAX_CHOICES, MAX_SHAPE_BYTES, Shape};
use super::{schema, vocabulary};
use crate::ids::TokenId;
use crate::text::{Thinking, Tokenizer};

/// Bytes of compiled shapes that are kept, as they are weighed.
const KEPT_BYTES: u64 = 64 << 20;
/// How long one is kept that nobody asks for.
const KEPT_FOR: Duration = Duration::from_secs(3600);
/// What a compiled shape weighs beside its text, and for each byte of it.
const WEIGHT: (usize, usize) = (64 << 10, 16);

type Key = [u8; 32];

/// Compiles shapes for one model. Clones share what is compiled.
#[derive(Clone)]
pub struct Grammars(Arc<Inner>);

struct Inner {
    tokenizer: Tokenizer,
    ends: Vec<TokenId>,
    /// Made when the first shape is asked for: a trie of a large vocabulary takes a second.
    factory: OnceLock<Result<ParserFactory, BadShape>>,
    kept: Cache<Key, (Constraint, u32)>,
}

impl fmt::Debug for Grammars {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Grammars").finish_non_exhaustive()
    }
}

impl Grammars {
    /// For the tokens of `tokenizer`, of which `ends` end a text.
    pub fn new(tokenizer: Tokenizer, ends: Vec<TokenId>) -> Self {
        let kept = Cache::builder()
            .max_capacity(KEPT_BYTES)
            .weigher(|_, (_, weight): &(Constraint, u32)| *weight)
            .time_to_idle(KEPT_FOR)
            .build();
        Grammars(Arc::new(Inner {
            tokenizer,
            ends,
            factory: OnceLock::new(),
            kept,
        }))
    }

    /// Compiles a shape, or finds it compiled. Takes milliseconds for most, at worst seconds: not for a thread that
    /// others wait for.
    ///
    /// # Errors
    /// [`BadShape`] with the place of what cannot be honoured.
    pub fn compile(&self, shape: &Shape, thinking: Thinking) -> Result<Constraint, BadShape> {
        let bytes = shape.bytes();
        if bytes > MAX_SHAPE_BYTES {
            let reason = format!("has {bytes} bytes, at most {MAX_SHAPE_BYTES} are allowed");
            return Err(BadShape::whole(reason));
        }
        let key: Key = Sha256::digest(format!("{thinking:?} {shape:?}")).into();
        let (fixed, each) = WEIGHT;
        let make = || {
            let weight = u32::try_from(fixed + each * bytes).unwrap_or(u32::MAX);
            Ok((self.made(shape, thinking)?, weight))
        };
        let made = self.0.kept.try_get_with(key, make);
        let (constraint, _) = made.map_err(|bad: Arc<BadShape>| (*bad).clone())?;
        Ok(constraint)
    }

    fn made(&self, shape: &Shape, thinking: Thinking) -> Result<Constraint, BadShape> {
        let factory = self.factory()?;
        let lowered = lower(shape)?;
        let grammars = wrapped(lowered.grammar, thinking);
        let start = factory.create_parser(TopLevelGrammar {
            grammars,
            max_tokens: None,
        });
        let start = start.map_err(|error| match shape {
            Shape::JsonSchema(schema) => {
                schema::at_fault(schema, factory.limits(), error.to_string())
            }
            _ => BadShape::whole(format!("cannot be read: {}", short(&error.to_string()))),
        })?;
        let made = Constraint::new(Compiled {
            kind: lowered.kind,
            start,
            check: lowered.check,
            arguments: lowered.arguments,
        });
        // What is too much for the first token is refused before anything is computed.
        let mut row = vec![0.0; self.0.tokenizer.vocab_size()];
        let first = made.matcher().restrict(&mut row);
        first.map_err(|stuck| BadShape::whole(stuck.reason()))?;
        Ok(made)
    }

    fn factory(&self) -> Result<&ParserFactory, BadShape> {
        let made = self.0.factory.get_or_init(|| {
            let environment = vocabulary::environment(&self.0.tokenizer, &self.0.ends);
            let environment = environment.ok_or_else(|| {
                BadShape::whole("needs a model that has a token to end its texts with")
            })?;
            let factory = ParserFactory::new_simple(&environment);
            let mut factory =
                factory.map_err(|error| BadShape::whole(short(&error.to_string())))?;
            factory.quiet();
            *factory.limits_mut() = limits();
            Ok(factory)
        });
        made.as_ref().map_err(Clone::clone)
    }
}

/// Bounds on what a client's shape may cost: about 20 ms of lexer and 10 MiB of grammar to compile, 15 ms and 100 MiB at
/// the very worst for a token.
fn limits() -> ParserLimits {
    ParserLimits {
        // An object of many optional properties may go on with any of them.
        max_items_in_row: 10_000,
        max_lexer_states: 50_000,
        max_grammar_size: 200_000,
        verbose_errors: false,
        ..ParserLimits::default()
    }
}

struct Lowered {
    kind: &'static str,
    grammar: GrammarWithLexer,
    check: Check,
    arguments: Vec<(String, SchemaCheck)>,
}

impl Lowered {
    fn new(kind: &'static str, grammar: GrammarWithLexer, check: Check) -> Self {
        Lowered {
            kind,
            grammar,
            check,
            arguments: Vec::new(),
        }
    }
}

fn lower(shape: &Shape) -> Result<Lowered, BadShape> {
    match shape {
        Shape::JsonObject => {
            let any = json!({"type": "object"});
            let any = schema::prepared(any.as_object().cloned().unwrap_or_default());
            let grammar = GrammarWithLexer::from_json_schema(Value::Object(any));
            Ok(Lowered::new("json_object", grammar, Check::Object))
        }
        Shape::JsonSchema(schema) => {
            schema::check(schema)?;
            let check = SchemaCheck::new(schema)?;
            let map: Map<String, Value> = schema.as_object().cloned().unwrap_or_default();
            let grammar = GrammarWithLexer::from_json_schema(Value::Object(schema::prepared(map)));
            Ok(Lowered::new("json_schema", grammar, Check::Schema(check)))
        }
        Shape::Regex(text) => {
            let grammar = GrammarWithLexer::from_regex(whole_match(text));
            Ok(Lowered::new("regex", grammar, Check::Nothing))
        }
        Shape::Choice(texts) => choice(texts),
        Shape::Grammar(text) => {
            // Its attributes and lists of ids would be taken and not kept to.
            let refused = [
                (r"<\[", "names tokens by id: write them as strings"),
                (
                    r"\btemperature\s*=",
                    "sets a temperature: set the request's",
                ),
                (
                    "x-guidance",
                    "changes how schemas are read: leave x-guidance out",
                ),
            ];
            for (sign, reason) in refused {
                if Regex::new(sign).is_ok_and(|sign| sign.is_match(text)) {
                    return Err(BadShape::whole(reason));
                }
            }
            let grammar = GrammarWithLexer::from_lark(text.clone());
            Ok(Lowered::new("grammar", grammar, Check::Nothing))
        }
        Shape::Calls(calls) => {
            let mut arguments = Vec::new();
            for (place, callable) in calls.functions.iter().enumerate() {
                let schema = Value::Object(calls.arguments(place)?);
                let check = SchemaCheck::new(&schema).map_err(|bad| BadShape {
                    pointer: format!("/{place}/function/parameters{}", bad.pointer),
                    ..bad
                })?;
                arguments.push((callable.name.clone(), check));
            }
            let grammar = GrammarWithLexer::from_lark(calls.lark()?);
            Ok(Lowered {
                arguments,
                ..Lowered::new("calls", grammar, Check::Nothing)
            })
        }
    }
}

fn choice(texts: &[String]) -> Result<Lowered, BadShape> {
    if texts.is_empty() || texts.len() > MAX_CHOICES {
        let reason = format!("has {} texts, use 1 to {MAX_CHOICES}", texts.len());
        return Err(BadShape::whole(reason));
    }
    if let Some(empty) = texts.iter().position(String::is_empty) {
        return Err(BadShape::at(
            format!("/{empty}"),
            "is empty: an answer has a text",
        ));
    }
    let literals: Vec<String> = texts.iter().map(|text| regex::escape(text)).collect();
    let grammar = GrammarWithLexer::from_regex(&format!("({})", literals.join("|")));
    Ok(Lowered::new(
        "choice",
        grammar,
        Check::Choice(texts.to_vec()),
    ))
}

/// An expression without the anchors at its ends: all of the answer is matched in any case.
fn whole_match(text: &str) -> &str {
    let text = text.strip_prefix('^').unwrap_or(text);
    match text.strip_suffix('$') {
        Some(rest) if !rest.ends_with('\\') => rest,
        _ => text,
    }
}

/// The grammar with thoughts before it.
fn wrapped(body: GrammarWithLexer, thinking: Thinking) -> Vec<GrammarWithLexer> {
    let start = match thinking {
        Thinking::Never => return vec![body],
        Thinking::Begun => "thought GAP? @body\nthought[lazy]: /(?s:.*)<\\/think>/",
        Thinking::Maybe => "thought GAP? @body | @body\nthought[lazy]: /<think>(?s:.*)<\\/think>/",
    };
    let outer = GrammarWithLexer::from_lark(format!("start: {start}\nGAP: /[\\n ]{{1,4}}/"));
    let body = GrammarWithLexer {
        name: Some("body".to_owned()),
        ..body
    };
    vec![outer, body]
}
