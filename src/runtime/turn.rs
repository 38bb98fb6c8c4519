//! What a turn of a conversation feeds: the whole of it, or what a session's cache has not seen.

use super::served::ServedModel;
use super::sessions::Draft;
use crate::ids::{SessionId, TokenId};
use crate::text::{Message, RenderOptions, Specials, TextError};

/// What is to be fed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fed {
    /// Ids of the prompt, or of what is new of it.
    pub ids: Vec<TokenId>,
    /// How many of the first are the system message, which a policy may protect; 0 in a session that goes on.
    pub system_tokens: usize,
}

/// Why there is nothing to feed.
#[derive(Debug, thiserror::Error)]
pub enum BadTurn {
    /// All of it was answered.
    #[error("the messages say nothing that session {0} has not: add one")]
    NothingNew(SessionId),
    /// A session is a chat or a text, as it began.
    #[error("session {session} is {kind}: go on with it as that, or name another session")]
    OtherKind {
        /// The session.
        session: SessionId,
        /// What it is.
        kind: &'static str,
    },
    /// The template or the tokenizer refuses.
    #[error(transparent)]
    Text(#[from] TextError),
}

impl ServedModel {
    /// What a chat feeds. In a session `messages` are what is new, or all of it with what is new at the end.
    ///
    /// # Errors
    /// See [`BadTurn`].
    pub fn chat(
        &self,
        draft: Option<&mut Draft>,
        messages: Vec<Message>,
        options: &RenderOptions,
    ) -> Result<Fed, BadTurn> {
        let Some(draft) = draft else {
            return self.whole(&messages, options);
        };
        if !draft.is_new() && draft.talk().messages.is_empty() {
            return Err(other_kind(draft, "a text of /v1/completions"));
        }
        if draft.hear(messages) == 0 {
            return Err(BadTurn::NothingNew(draft.session().clone()));
        }
        let all = draft.messages();
        let Some(reply) = draft.talk().messages.len().checked_sub(1) else {
            return self.whole(&all, options);
        };
        let ids = self
            .template
            .render_ids_after(&self.tokenizer, &all, reply, options)?;
        Ok(Fed {
            ids,
            system_tokens: 0,
        })
    }

    /// What a text feeds. Control tokens in it are read as such; what the model expects around a text is put around the
    /// first of a session.
    ///
    /// # Errors
    /// See [`BadTurn`].
    pub fn text(&self, draft: Option<&Draft>, text: &str) -> Result<Vec<TokenId>, BadTurn> {
        if let Some(draft) = draft {
            draft.as_text()?;
        }
        Ok(match draft.is_some_and(|draft| !draft.is_new()) {
            true => self.tokenizer.encode(text, Specials::Parse)?,
            false => self.tokenizer.encode_prompt(text)?,
        })
    }

    fn whole(&self, messages: &[Message], options: &RenderOptions) -> Result<Fed, BadTurn> {
        let ids = self
            .template
            .render_ids(&self.tokenizer, messages, options)?;
        let system_tokens = self
            .template
            .system_tokens(&self.tokenizer, messages, options, &ids);
        Ok(Fed { ids, system_tokens })
    }
}

impl Draft {
    /// Takes the session for a text.
    ///
    /// # Errors
    /// [`BadTurn::OtherKind`]: its messages would not say what a text adds.
    pub fn as_text(&self) -> Result<(), BadTurn> {
        match self.talk().messages.is_empty() {
            true => Ok(()),
            false => Err(other_kind(self, "a chat")),
        }
    }
}

fn other_kind(draft: &Draft, kind: &'static str) -> BadTurn {
    BadTurn::OtherKind {
        session: draft.session().clone(),
        kind,
    }
}
