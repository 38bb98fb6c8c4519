//! Text to token ids and back: the tokenizer (from a `tokenizer.json` or from a vocabulary out of a
//! model file), the chat template that writes messages the way a model was trained on, and the
//! detokenizer that streams an answer without ever showing half a character. For training: which
//! tokens of a chat are the assistant's, and a byte-level BPE of one's own.
//!
//! Text from a client is untrusted: it is encoded with [`Specials::Literal`], so that writing
//! `<|im_end|>` in a message never ends the message.
#![deny(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic
)]
#![cfg_attr(
    test,
    allow(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::indexing_slicing,
        clippy::panic
    )
)]

mod control_names;
mod error;
mod literal;
mod message;
mod pretokenizer;
mod rebuild_bpe;
mod rebuild_spm;
mod speech;
mod spelling;
mod spoken;
mod stream;
mod template;
mod template_env;
mod tokenizer;
mod tokenizer_file;
mod tools;
mod train_bpe;
mod turns;
mod vocab;

pub use error::TextError;
pub use message::{Message, Role};
pub use speech::{CallSyntax, Part, Speech, Thinking, ToolUse};
pub use spoken::Spoken;
pub use stream::{Detokenizer, pieces};
pub use template::{ChatTemplate, EXTRA_ALLOWED, RenderOptions};
pub use tokenizer::{Controls, MAX_TEXT_BYTES, Specials, Tokenizer};
pub use tools::Presented;
pub use train_bpe::{BpeSpec, TrainedTokenizer, train_bpe};
pub use vocab::{MAX_TOKEN_BYTES, MAX_VOCAB, Vocab, VocabModel};
