//! A model whose next token is always the last one plus one.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use llamahome::ids::{ModelId, TokenId};
use llamahome::runtime::{ModelSource, Opened, SourceError};
use llamahome::sched::{FakeModel, Forward};
use llamahome::store::Library;
use llamahome::text::{ChatTemplate, Tokenizer, Vocab, VocabModel};

/// The token `a`; `b` to `z` follow it, then ` `, then `0.`, `1.` and so on up to the end of text.
pub const LETTER_A: TokenId = 256;
/// How many tokens there are; the last one ends a text.
pub const VOCAB: usize = 400;
/// Positions that there are.
pub const CONTEXT: usize = 256;

/// Offers a model, `fake`, and the same under the name `other`; `broken` cannot be opened.
#[derive(Clone)]
pub struct FakeSource {
    /// How long a step takes.
    pub delay: Duration,
    /// The token that makes a step panic.
    pub poison: Option<TokenId>,
    /// The token that makes a step hang, for as long as the flag is set.
    pub stall: Option<(TokenId, Arc<AtomicBool>)>,
    /// Whether `broken` is listed.
    pub broken: bool,
    /// Models on disk, which are listed and moved about and never loaded.
    pub library: Option<Library>,
    /// Written behind the messages.
    pub ending: &'static str,
}

impl Default for FakeSource {
    fn default() -> Self {
        FakeSource {
            delay: Duration::ZERO,
            poison: None,
            stall: None,
            broken: true,
            library: None,
            ending: "",
        }
    }
}

fn tokenizer() -> Tokenizer {
    let mut tokens: Vec<String> = (0..=255u8).map(|byte| format!("<0x{byte:02X}>")).collect();
    tokens.extend(('a'..='z').map(String::from));
    tokens.push("▁".to_owned());
    let last = VOCAB - 1;
    tokens.extend((0..last - tokens.len()).map(|n| format!("{n}.")));
    tokens.push("</s>".to_owned());
    Tokenizer::from_vocab(Vocab {
        model: VocabModel::Spm,
        pre: None,
        scores: vec![0.0; tokens.len()],
        tokens,
        types: Vec::new(),
        merges: Vec::new(),
        bos: None,
        eos: Some(last as TokenId),
        eot: None,
        unk: None,
        add_bos: false,
        add_eos: false,
        add_space_prefix: false,
    })
    .unwrap()
}

/// Only what was said, so that a test can choose the last token; an assistant may not begin.
const TEMPLATE: &str = "{% if messages[0].role == 'assistant' %}{{ raise_exception('the user must begin') }}\
    {% endif %}{% for m in messages %}{{ m.content }}{% endfor %}";

impl ModelSource for FakeSource {
    fn names(&self) -> Vec<ModelId> {
        let broken = self.broken.then_some("broken");
        let names = std::iter::once("fake").chain(broken);
        names.map(|name| name.parse().unwrap()).collect()
    }

    fn library(&self) -> Option<&Library> {
        self.library.as_ref()
    }

    fn open(&self, name: &str) -> Result<Opened, SourceError> {
        match name {
            "fake" | "other" => {}
            "broken" => return Err(SourceError::Unusable("it is broken".to_owned())),
            _ => {
                return Err(SourceError::NotFound(format!(
                    "there is no model {name:?}: did you mean \"fake\"?"
                )));
            }
        }
        let (delay, poison, stall) = (self.delay, self.poison, self.stall.clone());
        let make = move || {
            let mut model = FakeModel::new(VOCAB).with_delay(delay);
            if let Some(token) = poison {
                model = model.panicking_on(token);
            }
            if let Some((token, hangs)) = &stall {
                model = model.stalling_on(*token, Arc::clone(hangs));
            }
            model
        };
        Ok(Opened {
            id: name.parse().unwrap(),
            tokenizer: tokenizer(),
            template: Arc::new(
                ChatTemplate::new(&format!("{TEMPLATE}{}", self.ending), "", "</s>").unwrap(),
            ),
            context: CONTEXT,
            eos: vec![VOCAB as TokenId - 1],
            shape: make().kv_shape(),
            weight_bytes: 1 << 20,
            about: "a model without weights".to_owned(),
            build: Arc::new(move || Ok(Box::new(make()) as Box<dyn Forward>)),
        })
    }
}
