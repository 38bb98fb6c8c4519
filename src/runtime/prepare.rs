//! From what a caller asks to a checked [`Request`]: past this point nothing is validated again.

use crate::ids::{RequestId, SessionId, TokenId};
use crate::kv::{BadPolicy, KvChoice, Policy, Reading};
use crate::sample::SamplingParams;
use crate::sched::{Continue, OfPrompt, Request, Standing};

use super::served::ServedModel;
use super::sessions::Draft;

/// What a caller asks of a model, prompt already as ids.
#[derive(Debug, Clone)]
pub struct Ask {
    /// The name in logs and answers.
    pub id: RequestId,
    /// The prompt.
    pub prompt: Vec<TokenId>,
    /// Tokens to generate at most; what the context leaves if `None`.
    pub max_tokens: Option<usize>,
    /// Go on after an end-of-text token.
    pub ignore_eos: bool,
    /// How tokens are drawn.
    pub sampling: SamplingParams,
    /// How the KV cache is bounded.
    pub kv: KvChoice,
    /// Tokens at the start of the prompt that are its system prompt, which the policy may protect.
    pub system_tokens: usize,
    /// Who may share the beginning of the prompt with later ones.
    pub tenant: String,
    /// The conversation that the prompt goes on with; [`ServedModel::turn`] sets it.
    pub session: Option<Continue>,
    /// Its place among others.
    pub standing: Standing,
    /// What is told of the prompt; without it `max_tokens` is at least 1.
    pub of_prompt: OfPrompt,
}

/// Why an ask is no request.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadAsk {
    /// Nothing to continue.
    #[error("the prompt is empty: give at least one token")]
    EmptyPrompt,
    /// Nothing to generate.
    #[error("max_tokens is 0: ask for at least one token")]
    NothingAsked,
    /// More than the context holds. Never cut in silence.
    #[error(
        "the prompt has {prompt_tokens} tokens and the context of {model} holds {context}, of which at least one is \
         for the answer: shorten the prompt"
    )]
    TooLong {
        /// The model.
        model: String,
        /// Tokens of the prompt.
        prompt_tokens: usize,
        /// Tokens of the context.
        context: usize,
    },
    /// An id that the model does not have.
    #[error("token id {token} is outside of the model's vocabulary of {vocab}")]
    BadToken {
        /// The id.
        token: TokenId,
        /// The size.
        vocab: usize,
    },
    /// The KV numbers make no policy.
    #[error(transparent)]
    Policy(#[from] BadPolicy),
    /// The KV numbers make another policy than the session has.
    #[error(
        "session {session} keeps the kv policy that it began with ({policy}): leave kv out, or begin another session"
    )]
    OtherPolicy {
        /// The session.
        session: SessionId,
        /// The name of its policy.
        policy: &'static str,
    },
}

impl ServedModel {
    /// Checks `ask` against this model.
    pub fn request(&self, ask: Ask) -> Result<Request, BadAsk> {
        self.checked(ask, None)
    }

    /// Checks `ask`, whose prompt is what the session under work has not seen, against this model.
    pub fn turn(&self, mut ask: Ask, draft: &mut Draft) -> Result<Request, BadAsk> {
        // Even when the last reply has a token left: it may have been computed already, and then nothing were.
        if ask.prompt.is_empty() {
            return Err(BadAsk::EmptyPrompt);
        }
        let talk = draft.talk();
        ask.prompt.splice(0..0, talk.pending);
        ask.session = Some(Continue {
            session: draft.session().clone(),
            seen: talk.seen,
        });
        let kept = talk.policy.clone();
        if let Some(kept) = &kept
            && ask.kv != KvChoice::default()
        {
            let mut wanted = self.policy(&ask.kv)?;
            // What the first turn protects is its own.
            wanted.protect.pins.clone_from(&kept.protect.pins);
            if wanted != *kept {
                return Err(BadAsk::OtherPolicy {
                    session: draft.session().clone(),
                    policy: kept.name(),
                });
            }
        }
        let request = self.checked(ask, kept)?;
        draft.bound(request.policy.clone());
        draft.feed(&request.prompt);
        Ok(request)
    }

    fn policy(&self, choice: &KvChoice) -> Result<Policy, BadPolicy> {
        choice.resolve(&self.kv, self.context, self.shape)
    }

    /// Checks `ask`, under the policy that its session has `kept` if there is one.
    fn checked(&self, ask: Ask, kept: Option<Policy>) -> Result<Request, BadAsk> {
        if ask.prompt.is_empty() {
            return Err(BadAsk::EmptyPrompt);
        }
        let asks = ask.of_prompt != OfPrompt::Nothing;
        if ask.max_tokens == Some(0) && !asks {
            return Err(BadAsk::NothingAsked);
        }
        let vocab = self.tokenizer.vocab_size();
        if let Some(&token) = ask.prompt.iter().find(|&&t| t as usize >= vocab) {
            return Err(BadAsk::BadToken { token, vocab });
        }
        let policy = match kept {
            Some(kept) => kept,
            None => {
                let mut policy = self.policy(&ask.kv)?;
                if self.kv.protect_system {
                    policy.protect_system(ask.system_tokens);
                }
                policy
            }
        };
        let before = ask.session.as_ref().map_or(0, |session| session.seen);
        // In bounded memory a prompt of any length can be read, when positions may be used again.
        let endless = policy.beyond_context && policy.capacity().is_some();
        let fits = endless && policy.reading == Reading::Streaming;
        let room = match endless {
            true => ask.max_tokens.unwrap_or(self.context),
            false => self.context.saturating_sub(before + ask.prompt.len()),
        };
        let answers = usize::from(ask.max_tokens != Some(0));
        if room < answers || (!fits && ask.prompt.len() + answers > self.context) {
            return Err(BadAsk::TooLong {
                model: self.id.to_string(),
                prompt_tokens: before + ask.prompt.len(),
                context: self.context,
            });
        }
        let stop_ids = if ask.ignore_eos {
            Vec::new()
        } else {
            self.eos.clone()
        };
        Ok(Request {
            id: ask.id,
            // The answer says finish reason "length" when the context ends it.
            max_tokens: ask.max_tokens.unwrap_or(room).min(room),
            stop_ids,
            sampling: ask.sampling,
            policy,
            tenant: Some(ask.tenant).filter(|_| !asks),
            session: ask.session,
            standing: ask.standing,
            prompt: ask.prompt,
            of_prompt: ask.of_prompt,
        })
    }
}
