//! From a read request to running generations.

use std::sync::Arc;
use std::time::{Instant, SystemTime};

use actix_web::http::StatusCode;
use actix_web::{HttpMessage, HttpRequest, HttpResponse};
use futures_util::future::try_join_all;

use super::edge::Deadline;
use super::form::{Form, Saying};
use super::keys::Caller;
use super::logprobs::{self, Teller};
use super::models::{unix_seconds, unknown};
use super::respond;
use super::serve::State;
use super::settings::UnknownFields;
use super::stream::{self, Stream};
use super::trail::{Asked, Trail};
use super::wire::{ApiError, Choice, Dialect, Endpoint, Envelope, Shared, Timings, UsageOut};
use crate::ids::{ModelId, RequestId, SessionId, TokenId};
use crate::runtime::{self, Ask, Collected, Draft, Finish, Held, ServedModel, TokenPiece};
use crate::sample::{SamplingParams, StopMatcher};
use crate::sched::{OfPrompt, Standing};
use crate::telemetry::TraceParent;
use crate::text::Controls;

/// A request under way, as handlers hand it on.
pub(super) struct Job {
    pub(super) id: RequestId,
    pub(super) deadline: Instant,
    pub(super) caller: Arc<Caller>,
    pub(super) trail: Trail,
    dialect: Dialect,
}

impl Job {
    /// What `edge` has put beside the request.
    pub(super) fn new(state: &State, req: &HttpRequest, asked: impl Into<Asked>) -> Self {
        let id = req.extensions().get::<RequestId>().cloned();
        let id = id.unwrap_or_else(RequestId::random);
        let deadline = req
            .extensions()
            .get::<Deadline>()
            .map(|deadline| deadline.0);
        let caller = state.caller(req);
        Job {
            trail: Trail::new(
                &state.runtime,
                id.clone(),
                asked.into(),
                &caller,
                parent(req),
            ),
            dialect: Dialect::of(req.path()),
            id,
            caller,
            deadline: deadline.unwrap_or_else(|| Instant::now() + state.live().timeout),
        }
    }

    /// Answers with an error and ends the record.
    pub(super) fn refuse(mut self, error: ApiError) -> HttpResponse {
        self.trail.ended(&error);
        respond::error_in(self.dialect, &error)
    }

    /// Refuses what a body said that nobody reads, or tells developers of it.
    pub(super) fn unknown(&self, state: &State, fields: &[String]) -> Result<(), ApiError> {
        let Some(first) = fields.first() else {
            return Ok(());
        };
        if state.live().unknown_fields == UnknownFields::Refuse {
            let shown: String = first.chars().take(96).collect();
            let text =
                format!("there is no field {shown:?}: see docs/api.md for those that there are");
            return Err(ApiError::new(400, "unknown_parameter", text).about(shown));
        }
        let some: Vec<&str> = fields.iter().take(16).map(String::as_str).collect();
        tracing::debug!(request = self.id.as_str(), fields = ?some, "unknown fields were passed over");
        Ok(())
    }
}

/// The span that the request is a part of.
fn parent(req: &HttpRequest) -> TraceParent {
    let text = |name| {
        req.headers()
            .get(name)
            .and_then(|value| value.to_str().ok())
    };
    TraceParent::of(text("traceparent"), text("tracestate"))
}

/// A request that was read, its prompts as ids.
pub(super) struct Prepared {
    pub(super) model: Held,
    pub(super) prompts: Vec<Vec<TokenId>>,
    /// How many of a prompt's first tokens are the system message.
    pub(super) system_tokens: usize,
    /// The session that it is a turn of.
    pub(super) draft: Option<Draft>,
    pub(super) shared: Shared,
}

/// One choice that is being generated.
pub(super) struct Running {
    pub(super) answer: runtime::Answer,
    pub(super) prompt: Vec<TokenId>,
    /// Whether it is the first of its prompt, whose tokens are counted once.
    pub(super) first: bool,
    /// What is made of its text.
    pub(super) saying: Saying,
}

/// What all choices of an answer share.
pub(super) struct Telling {
    pub(super) envelope: Envelope,
    pub(super) model: Held,
    pub(super) logprobs: bool,
    pub(super) token_ids: bool,
    pub(super) include_usage: bool,
    /// Prompts are told before their answers.
    pub(super) echo: bool,
}

/// The model of a job, which is noted in its record.
pub(super) async fn find_model(
    state: &State,
    job: &mut Job,
    name: Option<&str>,
) -> Result<Held, ApiError> {
    job.trail.model(name.unwrap_or_default());
    let model = by_name(state, name).await?;
    job.trail.model(model.id.as_str());
    Ok(model)
}

/// The model of this name. Only names of models are looked up: a path would let clients open files.
pub(super) async fn by_name(state: &State, name: Option<&str>) -> Result<Held, ApiError> {
    if let Some(name) = name.filter(|name| name.parse::<ModelId>().is_err()) {
        return Err(unknown(name));
    }
    Ok(state.runtime.model(name).await?)
}

/// Begins a turn of the session that was asked for.
pub(super) fn begin(
    state: &State,
    caller: &Caller,
    model: &ServedModel,
    session: Option<&SessionId>,
) -> Result<Option<Draft>, ApiError> {
    let begin = |session: &SessionId| {
        let session = session.of_key(caller.space.as_deref());
        state.runtime.sessions().begin(&model.id, &session)
    };
    Ok(session.map(begin).transpose()?)
}

/// Runs what takes long on a thread that is made for it.
pub(super) async fn off_thread<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, ApiError> {
    let lost = || {
        ApiError::new(
            500,
            "internal_error",
            "the work on the request failed: try again",
        )
    };
    actix_web::web::block(work).await.map_err(|_| lost())
}

/// Generates `n` choices of every prompt, and answers at once or in pieces.
pub(super) async fn answer(
    state: &State,
    mut job: Job,
    endpoint: Endpoint,
    prepared: Prepared,
) -> HttpResponse {
    let (model, shared) = (prepared.model.clone(), prepared.shared.clone());
    let prompt = prepared.prompts.first().map_or(&[][..], Vec::as_slice);
    let form = match Form::of(&model, endpoint, &shared, prompt).await {
        Ok(form) => form,
        Err(error) => return job.refuse(error),
    };
    job.trail
        .prompt(prepared.prompts.iter().map(Vec::len).sum());
    let running = match start(state, &job, prepared, &form).await {
        Ok(running) => running,
        Err(error) => return job.refuse(endpoint.rename(error)),
    };
    job.trail.charge_prompt();
    let created = unix_seconds(SystemTime::now());
    let name = model.id.to_string();
    let telling = Telling {
        envelope: Envelope::new(endpoint, &job.id, created, name, shared.include_usage),
        model,
        logprobs: shared.sampling.logprobs.is_some(),
        token_ids: shared.token_ids,
        include_usage: shared.include_usage,
        echo: shared.echo,
    };
    if shared.stream {
        return stream::response(Stream::new(telling, running, job));
    }
    match whole(telling, running, &mut job.trail).await {
        Ok(response) => response,
        Err(error) => job.refuse(error),
    }
}

/// Starts the one answer of a request that has one prompt.
pub(super) async fn start_one(
    state: &State,
    job: &mut Job,
    endpoint: Endpoint,
    prepared: Prepared,
) -> Result<Running, ApiError> {
    let prompt = prepared.prompts.first().map_or(&[][..], Vec::as_slice);
    let form = Form::of(&prepared.model, endpoint, &prepared.shared, prompt).await?;
    job.trail.prompt(prompt.len());
    let running = start(state, job, prepared, &form).await?;
    let running = running.into_iter().next();
    let running = running.ok_or_else(ApiError::stopping)?;
    job.trail.charge_prompt();
    Ok(running)
}

/// What is told of the prompts.
fn of_prompt(shared: &Shared) -> OfPrompt {
    let told = shared.sampling.logprobs.is_some() || shared.max_tokens == Some(0);
    match shared.echo && told {
        true => OfPrompt::Logprobs,
        false => OfPrompt::Nothing,
    }
}

/// Submits every choice; if one is refused, those before it are dropped and so cancelled.
async fn start(
    state: &State,
    job: &Job,
    prepared: Prepared,
    form: &Form,
) -> Result<Vec<Running>, ApiError> {
    let Prepared {
        model,
        prompts,
        system_tokens,
        mut draft,
        shared,
    } = prepared;
    let stop = StopMatcher::new(shared.stop.clone())?;
    let defaults = &state.live().sampling;
    let mut params = SamplingParams::checked(defaults.fill(shared.sampling.clone()))?;
    params.constraint = form.constraint();
    let default = defaults.max_tokens.map(|tokens| tokens as usize);
    let mut requests = Vec::new();
    for prompt in prompts {
        for place in 0..shared.n {
            let seed = match shared.sampling.seed {
                Some(seed) => seed.wrapping_add(place as u64),
                None => rand::random(),
            };
            let ask = Ask {
                id: job.id.clone(),
                prompt: prompt.clone(),
                max_tokens: shared.max_tokens.or(default),
                ignore_eos: shared.ignore_eos,
                sampling: SamplingParams {
                    seed,
                    ..params.clone()
                },
                kv: shared.kv.clone(),
                system_tokens,
                tenant: job.caller.tenant.clone(),
                session: None,
                of_prompt: of_prompt(&shared),
                standing: Standing {
                    priority: shared.priority,
                    key: job.caller.name.clone(),
                    deadline: shared.deadline,
                },
            };
            let request = match &mut draft {
                Some(draft) => model.turn(ask, draft)?,
                None => model.request(ask)?,
            };
            requests.push((place == 0, prompt.clone(), request));
        }
    }
    let mut running = Vec::new();
    for (first, prompt, request) in requests {
        let answer = state.runtime.generate(&model, request, stop.clone());
        let mut answer = answer.await?;
        // A session has one prompt and one choice.
        if let Some(draft) = draft.take() {
            answer = answer.in_session(draft);
        }
        running.push(Running {
            answer,
            prompt,
            first,
            saying: form.saying(),
        });
    }
    Ok(running)
}

/// The answer at once.
async fn whole(
    telling: Telling,
    running: Vec<Running>,
    trail: &mut Trail,
) -> Result<HttpResponse, ApiError> {
    let several = running.len() > 1;
    let mut prompts = Vec::new();
    let mut answers = Vec::new();
    for choice in running {
        prompts.push((choice.first, choice.prompt, choice.saying));
        answers.push(choice.answer.collect());
    }
    let told = try_join_all(answers).await?;
    let mut choices = Vec::new();
    let mut finishes: Vec<(bool, Finish)> = Vec::new();
    for (index, ((first, prompt, saying), answer)) in prompts.into_iter().zip(told).enumerate() {
        let Collected {
            text,
            mut tokens,
            prompt: of_prompt,
            finish,
        } = answer;
        trail.generated(finish.usage.completion_tokens);
        trail.finished(first, &finish);
        let (mut said, reason) = saying.whole(&text, finish.reason)?;
        let answered = ids(&tokens);
        if telling.echo {
            let before = telling.model.tokenizer.decode(&prompt, Controls::Keep);
            said.words.insert_str(0, &before);
            tokens.splice(0..0, logprobs::of_prompt(&prompt, of_prompt));
        }
        let mut choice = Choice::whole(telling.envelope.endpoint(), index, said);
        choice.finish_reason = Some(reason);
        choice.kv = several.then(|| finish.kv.clone());
        let mut teller = Teller::new(&telling.model.tokenizer, telling.envelope.endpoint());
        choice.logprobs = telling.logprobs.then(|| teller.tell(&tokens));
        if telling.token_ids {
            choice.prompt_token_ids = Some(prompt);
            choice.token_ids = Some(answered);
        }
        choices.push(choice);
        finishes.push((first, finish));
    }
    trail.answered();
    let (usage, timings) = totals(&finishes);
    let kv = finishes.first().map(|(_, finish)| finish.kv.clone());
    let answer = telling.envelope.whole(choices, usage, kv, timings);
    Ok(respond::json(StatusCode::OK, &answer))
}

pub(super) fn ids(tokens: &[TokenPiece]) -> Vec<TokenId> {
    tokens.iter().map(|piece| piece.token).collect()
}

pub(super) fn totals(finishes: &[(bool, Finish)]) -> (UsageOut, Timings) {
    let usage = UsageOut::sum(
        finishes
            .iter()
            .map(|(first, finish)| (*first, &finish.usage)),
    );
    let timings = Timings::longest(finishes.iter().map(|(_, finish)| &finish.usage));
    (usage, timings)
}
