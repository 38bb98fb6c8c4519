//! What each route takes and tells.

use serde_json::Value;

use super::schema::{one_of, text, whole};

/// How an answer is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Told {
    /// JSON of this shape.
    Json(&'static str),
    /// The same, or server-sent events where a stream is asked for.
    JsonOrEvents(&'static str),
    /// The same, or lines of JSON.
    JsonOrLines(&'static str),
    /// Server-sent events.
    Events,
    /// Text.
    Text,
    /// A file of the page.
    File,
    /// Nothing but the status.
    Nothing,
}

/// What a route does.
#[derive(Debug)]
pub(super) struct Operation {
    pub(super) group: &'static str,
    pub(super) summary: &'static str,
    /// Parameters behind the question mark.
    pub(super) query: Vec<(&'static str, Value, &'static str)>,
    pub(super) body: Option<&'static str>,
    pub(super) told: Told,
    /// The status of success.
    pub(super) status: &'static str,
}

fn told(group: &'static str, summary: &'static str, told: Told) -> Operation {
    Operation {
        group,
        summary,
        query: Vec::new(),
        body: None,
        told,
        status: "200",
    }
}

impl Operation {
    fn takes(self, body: &'static str) -> Self {
        Operation {
            body: Some(body),
            ..self
        }
    }

    fn asked(mut self, name: &'static str, schema: Value, about: &'static str) -> Self {
        self.query.push((name, schema, about));
        self
    }

    fn of_model(self) -> Self {
        self.asked("model", text(), "whose; the default model if left out")
    }

    fn after_step(self) -> Self {
        self.asked(
            "after_step",
            whole(0, super::common::MOST),
            "what follows this step",
        )
    }

    fn status(self, status: &'static str) -> Self {
        Operation { status, ..self }
    }
}

const OPENAI: &str = "OpenAI";
const OLLAMA: &str = "Ollama";
const ANTHROPIC: &str = "Anthropic";
const MODELS: &str = "Models";
const SESSIONS: &str = "Sessions";
const RUNS: &str = "Training runs";
const OPERATOR: &str = "Operator";
const PAGE: &str = "Page";

/// What a route of [`super::super::ROUTES`] does.
pub(super) fn operation(method: &str, path: &str) -> Option<Operation> {
    use Told::{Events, File, Json, JsonOrEvents, JsonOrLines, Nothing, Text};
    Some(match (method, path) {
        ("POST", "/v1/chat/completions") => told(
            OPENAI,
            "Goes on with a chat",
            JsonOrEvents("ChatCompletion"),
        )
        .takes("ChatRequest"),
        ("POST", "/v1/completions") => told(
            OPENAI,
            "Goes on with a text",
            JsonOrEvents("TextCompletion"),
        )
        .takes("CompletionRequest"),
        ("POST", "/v1/embeddings") => {
            told(OPENAI, "Texts as vectors", Json("Embeddings")).takes("EmbeddingRequest")
        }
        ("POST", "/v1/responses") => told(
            OPENAI,
            "Answers, or goes on from an earlier answer",
            JsonOrEvents("Response"),
        )
        .takes("ResponseRequest"),
        ("GET", "/v1/responses/{response}") => {
            told(OPENAI, "A response that is kept", Json("Response"))
        }
        ("DELETE", "/v1/responses/{response}") => {
            told(OPENAI, "Forgets a response", Json("ResponseDeleted"))
        }
        ("POST", "/tokenize") => {
            told(OPENAI, "A text as token ids", Json("Tokens")).takes("TokenizeRequest")
        }
        ("POST", "/detokenize") => {
            told(OPENAI, "Token ids as their text", Json("Text")).takes("DetokenizeRequest")
        }
        ("POST", "/v1/messages") => {
            told(ANTHROPIC, "Goes on with a chat", JsonOrEvents("Message")).takes("MessagesRequest")
        }
        ("POST", "/v1/messages/count_tokens") => {
            told(ANTHROPIC, "How many tokens a prompt has", Json("Counted")).takes("CountRequest")
        }
        ("GET", "/v1/models") => told(
            MODELS,
            "Models that could answer, and their states",
            Json("Models"),
        ),
        ("GET", "/v1/models/events") => told(MODELS, "Every change of a model's state", Events),
        ("GET", "/v1/models/{id}") => told(MODELS, "One model", Json("Model")),
        ("POST", "/v1/models/{id}/load") => {
            told(MODELS, "Loads or wakes a model", Json("ModelState"))
        }
        ("POST", "/v1/models/{id}/unload") => told(
            MODELS,
            "Frees a model's memory; its sessions end",
            Json("ModelState"),
        ),
        ("POST", "/v1/models/{id}/sleep") => told(
            MODELS,
            "Frees the memory of a model's weights, and keeps its sessions",
            Json("ModelState"),
        ),
        ("POST", "/v1/models/{id}/wake") => {
            told(MODELS, "Wakes a model that sleeps", Json("ModelState"))
        }
        ("GET", "/v1/ps") => told(
            MODELS,
            "What loaded, loading, sleeping and failed models are doing",
            Json("ModelStates"),
        ),
        ("GET", "/v1/sessions") => told(
            SESSIONS,
            "Conversations whose caches are kept",
            Json("Sessions"),
        )
        .of_model(),
        ("GET", "/v1/sessions/{name}") => {
            told(SESSIONS, "One of them, with what was said", Json("Session")).of_model()
        }
        ("DELETE", "/v1/sessions/{name}") => {
            told(SESSIONS, "Forgets one", Json("SessionDeleted")).of_model()
        }
        ("GET", "/v1/sessions/{name}/kv") => {
            let number = || whole(0, super::common::MOST);
            told(
                SESSIONS,
                "What the cache of one holds, token by token",
                Json("SessionKv"),
            )
            .of_model()
            .asked("layer", number(), "one layer")
            .asked("head", number(), "one KV head")
        }
        ("POST", "/v1/sessions/{name}/fork") => {
            told(SESSIONS, "A copy that goes its own way", Json("Session"))
                .of_model()
                .takes("ForkRequest")
        }
        ("POST", "/v1/sessions/{name}/save") => {
            told(SESSIONS, "Writes one to a file", Json("Session")).of_model()
        }
        ("POST", "/v1/sessions/{name}/restore") => {
            told(SESSIONS, "Reads one back", Json("Session")).of_model()
        }
        ("GET", "/v1/runs") => told(RUNS, "All runs in the daemon's home", Json("Runs")),
        ("POST", "/v1/runs") => told(RUNS, "Begins a run", Json("Run"))
            .takes("RunRequest")
            .status("201"),
        ("GET", "/v1/runs/{run}") => told(RUNS, "One of them, with its recipe", Json("Run")),
        ("GET", "/v1/runs/{run}/log") => told(RUNS, "Lines of its log", Json("RunLog"))
            .after_step()
            .asked("limit", whole(1, 10_000), "how many"),
        ("GET", "/v1/runs/{run}/events") => {
            told(RUNS, "What it logs from now on", Events).after_step()
        }
        ("POST", "/v1/runs/{run}/pause") => {
            told(RUNS, "Holds it after its present step", Json("Run")).status("202")
        }
        ("POST", "/v1/runs/{run}/resume") => told(RUNS, "Lets it go on", Json("Run")).status("202"),
        ("POST", "/v1/runs/{run}/stop") => {
            told(RUNS, "Saves a checkpoint and ends it", Json("Run")).status("202")
        }
        ("POST", "/v1/runs/{run}/save") => {
            told(RUNS, "Saves a checkpoint", Json("Run")).status("202")
        }
        ("GET", "/v1/config") => told(
            OPERATOR,
            "The settings that run, and where they come from",
            Json("Config"),
        ),
        ("GET", "/v1/evaluations") => told(RUNS, "Evaluations that are kept", Json("Evaluations")),
        ("GET", "/v1/evaluations/{id}") => told(RUNS, "One of them", Json("Anything")),
        ("POST", "/v1/debug/trace") => told(
            OPERATOR,
            "Records the steps of all engines as a Chrome trace",
            Json("Trace"),
        )
        .asked(
            "seconds",
            whole(1, 60),
            "for how long; within http.request_timeout",
        ),
        ("GET", "/v1/monitor") => told(
            OPERATOR,
            "The machine, the engines and their caches",
            Json("Monitor"),
        ),
        ("GET", "/v1/monitor/events") => told(OPERATOR, "The same again and again", Events).asked(
            "interval_ms",
            whole(100, 60_000),
            "how often",
        ),
        ("GET", "/metrics") => told(OPERATOR, "Counters as Prometheus text", Text),
        ("GET", "/health") => told(OPERATOR, "Whether the process works", Json("Health")),
        ("GET", "/ready") => told(OPERATOR, "Whether work may be sent", Json("Health")),
        ("GET", "/openapi.json") => told(OPERATOR, "This document", Json("Anything")),
        ("GET", "/docs") => told(PAGE, "This document, to be read", File),
        ("GET", "/") => told(PAGE, "The web page, to browsers", File),
        ("HEAD", "/") => told(PAGE, "Whether there is a server", Nothing),
        ("GET", "/page/{file}") => told(PAGE, "A file of the page", File),
        ("POST", "/api/generate") => {
            told(OLLAMA, "Answers a prompt", JsonOrLines("Generated")).takes("GenerateRequest")
        }
        ("POST", "/api/chat") => told(OLLAMA, "Goes on with a chat", JsonOrLines("OllamaAnswer"))
            .takes("OllamaChatRequest"),
        ("GET", "/api/tags") => told(OLLAMA, "Installed models", Json("OllamaModels")),
        ("POST", "/api/show") => {
            told(OLLAMA, "What is known of one", Json("Shown")).takes("ShowRequest")
        }
        ("GET", "/api/ps") => told(OLLAMA, "Loaded models", Json("OllamaModels")),
        ("POST", "/api/pull") => {
            told(OLLAMA, "Brings a model home", JsonOrLines("Status")).takes("PullRequest")
        }
        ("DELETE", "/api/delete") => {
            told(OLLAMA, "Removes a model from memory and disk", Nothing).takes("DeleteRequest")
        }
        ("POST", "/api/copy") => {
            told(OLLAMA, "Gives a model a second name", Nothing).takes("CopyRequest")
        }
        ("POST", "/api/embed") => {
            told(OLLAMA, "Texts as vectors", Json("Embedded")).takes("EmbedRequest")
        }
        ("POST", "/api/embeddings") => {
            told(OLLAMA, "A text as a vector, as it is", Json("EmbeddedOne"))
                .takes("EmbedOneRequest")
        }
        ("GET", "/api/version") => told(OLLAMA, "The version", Json("Version")),
        _ => return None,
    })
}

/// What a name in a path may be.
pub(super) fn segment(name: &str) -> (Value, &'static str) {
    match name {
        "id" => (text(), "a name"),
        "name" => (
            super::common::session(),
            "a session: 1 to 64 letters, digits, - and _",
        ),
        "run" => (text(), "a run of GET /v1/runs"),
        "response" => (text(), "the id of a response"),
        "file" => (
            one_of(&["main.js", "style.css", "icon.svg"]),
            "such as these",
        ),
        _ => (text(), ""),
    }
}
