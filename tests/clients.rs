//! Clients that others wrote: async-openai here, OpenAI's and Ollama's own for Python beside this file.

use std::path::{Path, PathBuf};
use std::process::Command;

use async_openai::Client;
use async_openai::config::OpenAIConfig;
use async_openai::error::OpenAIError;
use async_openai::types::chat::{
    ChatCompletionRequestUserMessageArgs, ChatCompletionStreamOptions, CreateChatCompletionRequest,
    CreateChatCompletionRequestArgs, FinishReason,
};
use async_openai::types::completions::CreateCompletionRequestArgs;
use futures_util::StreamExt;
use llamahome::store::{Catalog, Home, Library};

mod support;
use support::{CONTEXT, Call, Daemon, FakeSource, LETTER_A, Setup};

fn client(daemon: &Daemon) -> Client<OpenAIConfig> {
    let base = format!("http://{}/v1", daemon.address);
    Client::with_config(
        OpenAIConfig::new()
            .with_api_base(base)
            .with_api_key("right"),
    )
}

fn daemon() -> Daemon {
    Daemon::start(Setup::fake(FakeSource::default()).key("right"))
}

fn chat(text: &str) -> CreateChatCompletionRequest {
    let message = ChatCompletionRequestUserMessageArgs::default()
        .content(text)
        .build()
        .unwrap();
    CreateChatCompletionRequestArgs::default()
        .model("fake")
        .messages([message.into()])
        .max_completion_tokens(5u32)
        .build()
        .unwrap()
}

#[test]
fn async_openai_reads_answers_and_streams() {
    let daemon = daemon();
    let client = client(&daemon);
    daemon.block_on(async {
        let answer = client.chat().create(chat("a")).await.unwrap();
        assert_eq!(answer.choices[0].message.content.as_deref(), Some("bcdef"));
        assert_eq!(answer.choices[0].finish_reason, Some(FinishReason::Length));
        assert_eq!(answer.usage.unwrap().total_tokens, 6);

        let mut ask = chat("a");
        ask.stream_options = Some(ChatCompletionStreamOptions {
            include_usage: Some(true),
            include_obfuscation: None,
        });
        let mut stream = client.chat().create_stream(ask).await.unwrap();
        let (mut text, mut reason, mut usage) = (String::new(), None, None);
        while let Some(chunk) = stream.next().await {
            let chunk = chunk.unwrap();
            for choice in &chunk.choices {
                text += choice.delta.content.as_deref().unwrap_or_default();
                reason = choice.finish_reason.or(reason);
            }
            usage = chunk.usage.or(usage);
        }
        assert_eq!(text, "bcdef");
        assert_eq!(reason, Some(FinishReason::Length));
        assert_eq!(usage.unwrap().completion_tokens, 5);

        let mut ask = CreateCompletionRequestArgs::default();
        let ask = ask
            .model("fake")
            .prompt("a")
            .max_tokens(2u32)
            .logprobs(1)
            .build()
            .unwrap();
        let answer = client.completions().create(ask).await.unwrap();
        assert_eq!(answer.choices[0].text, "bc");
        assert_eq!(
            answer.choices[0].logprobs.as_ref().unwrap().tokens,
            ["b", "c"]
        );

        let models = client.models().list().await.unwrap();
        assert!(
            models.data.iter().any(|model| model.id == "fake"),
            "{models:?}"
        );
    });
}

#[test]
fn async_openai_reads_errors() {
    let daemon = daemon();
    let client = client(&daemon);
    let mut unknown = chat("a");
    unknown.model = "fakes".to_owned();
    let mut hot = chat("a");
    hot.temperature = Some(9.0);
    let long = chat(&"a".repeat(CONTEXT + 1));
    daemon.block_on(async {
        for (ask, status, code, param) in [
            (unknown, 404, "model_not_found", "model"),
            (hot, 400, "invalid_value", "temperature"),
            (long, 400, "context_length_exceeded", "messages"),
        ] {
            match client.chat().create(ask).await {
                Err(OpenAIError::ApiError(error)) => {
                    assert_eq!(error.status_code.as_u16(), status, "{error}");
                    assert_eq!(error.api_error.code.as_deref(), Some(code), "{error}");
                    assert_eq!(error.api_error.param.as_deref(), Some(param), "{error}");
                }
                other => panic!("no typed error: {other:?}"),
            }
        }
    });
}

/// The folder of clients that `make test` installs.
fn clients() -> PathBuf {
    let folder = std::env::var_os("LLAMAHOME_CLIENTS");
    folder
        .expect("LLAMAHOME_CLIENTS is not set: run `make test`")
        .into()
}

/// Runs a script of `tests/clients` with the Python that has a client; it says when all is as it should be.
fn run(client: &str, script: &str, arguments: &[&str]) {
    let python = clients().join(format!("{client}-python"));
    let mut command = Command::new(&python);
    command.arg(format!("tests/clients/{script}"));
    passes(command.args(arguments));
}

fn passes(command: &mut Command) {
    let run = command
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let (out, err) = (text(&run.stdout), text(&run.stderr));
    assert!(run.status.success(), "{}\n{out}\n{err}", run.status);
    assert!(out.contains("all passed"), "{out}");
}

#[test]
#[ignore = "needs the clients that `make test` installs"]
fn openai_for_python_reads_answers_streams_and_errors() {
    let daemon = daemon();
    let url = format!("http://{}/v1", daemon.address);
    let (context, token) = (CONTEXT.to_string(), LETTER_A.to_string());
    let about = ["--key", "right", "--model", "fake", "--context", &context];
    let arguments = [&[url.as_str()], &about[..], &["--token", &token]].concat();
    run("openai", "openai_client.py", &arguments);
}

#[test]
#[ignore = "needs the clients that `make test` installs"]
fn openai_for_python_parses_forms_calls_functions_and_goes_on() {
    let daemon = Daemon::start(Setup::real().key("right"));
    let url = format!("http://{}/v1", daemon.address);
    let arguments = [
        url.as_str(),
        "--key",
        "right",
        "--model",
        "smollm2",
        "--forms",
    ];
    run("openai", "openai_client.py", &arguments);
}

#[test]
#[ignore = "needs the clients that `make test` installs"]
fn anthropic_for_python_reads_messages_streams_tools_and_errors() {
    let daemon = Daemon::start(Setup::real().key("right"));
    let url = format!("http://{}", daemon.address);
    let arguments = [url.as_str(), "--key", "right", "--model", "smollm2"];
    run("anthropic", "anthropic_client.py", &arguments);
}

#[test]
#[ignore = "needs the clients that `make test` installs"]
fn ollama_for_python_reads_answers_streams_lists_pulls_and_errors() {
    let folder = tempfile::tempdir().unwrap();
    let library = shelf(folder.path());
    let daemon = Daemon::start(
        Setup::fake(FakeSource {
            library: Some(library),
            ..FakeSource::default()
        })
        .key("right"),
    );
    let url = format!("http://{}", daemon.address);
    let context = CONTEXT.to_string();
    let arguments = [
        &url,
        "--key",
        "right",
        "--model",
        "fake",
        "--context",
        &context,
    ];
    run("ollama", "ollama_client.py", &arguments);
}

#[test]
#[ignore = "needs the clients that `make test` installs"]
fn openai_for_node_reads_answers_streams_tools_forms_and_errors() {
    let daemon = Daemon::start(Setup::real().key("right"));
    let url = format!("http://{}/v1", daemon.address);
    let mut command = Command::new("node");
    command.arg("tests/clients/openai_client.mjs");
    passes(
        command
            .arg(clients().join("openai-node"))
            .args([url.as_str(), "right", "smollm2"]),
    );
}

#[test]
#[ignore = "needs the clients that `make test` installs"]
fn langchain_instructor_and_llm_talk_to_it() {
    let daemon = Daemon::start(Setup::real().key("right"));
    let url = format!("http://{}/v1", daemon.address);
    for client in ["langchain", "instructor", "llm"] {
        let script = format!("{client}_client.py");
        run(client, &script, &[url.as_str(), "right", "smollm2"]);
    }
}

#[test]
#[ignore = "needs the clients that `make test` installs"]
fn litellm_talks_to_it_in_three_dialects() {
    let daemon = Daemon::start(Setup::real().key("right"));
    let url = format!("http://{}", daemon.address);
    run(
        "litellm",
        "litellm_client.py",
        &[url.as_str(), "right", "smollm2"],
    );
}

#[test]
#[ignore = "needs the clients that `make test` installs"]
fn lm_eval_generates_and_measures_likelihoods() {
    let daemon = Daemon::start(Setup::real());
    let url = format!("http://{}/v1", daemon.address);
    let folder = tempfile::tempdir().unwrap();
    write_tokenizer(folder.path());
    let arguments = [url.as_str(), "smollm2", folder.path().to_str().unwrap()];
    run("lm-eval", "lm_eval_client.py", &arguments);
}

#[test]
#[ignore = "needs the clients that `make test` installs"]
fn what_openapi_json_says_holds_under_thousands_of_made_up_requests() {
    let folder = tempfile::tempdir().unwrap();
    let source = FakeSource {
        broken: false,
        library: Some(shelf(folder.path())),
        ..FakeSource::default()
    };
    let daemon = Daemon::start(Setup::fake(source).key("right"));
    let url = format!("http://{}", daemon.address);
    run("schemathesis", "description.py", &[&url, "right"]);
}

#[test]
#[ignore = "needs promtool, which `make test` installs"]
fn promtool_accepts_the_metrics_and_the_alerts() {
    let daemon = daemon();
    daemon
        .block_on(client(&daemon).chat().create(chat("a")))
        .unwrap();
    let call = Call::new(daemon.address, "GET", "/metrics");
    let metrics = call.header("Authorization", "Bearer right").send();
    assert_eq!(metrics.status, 200);
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), &metrics.body).unwrap();
    let promtool = clients().join("promtool");
    let mut check = Command::new(&promtool);
    check
        .args(["check", "metrics"])
        .stdin(std::fs::File::open(file.path()).unwrap());
    let mut rules = Command::new(&promtool);
    rules.args([
        "check",
        "rules",
        concat!(env!("CARGO_MANIFEST_DIR"), "/packaging/alerts.yml"),
    ]);
    for command in [&mut check, &mut rules] {
        let told = command.output().unwrap();
        assert!(told.status.success(), "{command:?}: {told:?}");
    }
}

/// The tokenizer of the tests' model as transformers reads one.
fn write_tokenizer(folder: &Path) {
    let path = std::env::var_os("LLAMAHOME_TEST_MODEL").expect("cargo sets LLAMAHOME_TEST_MODEL");
    let tokenizer = llamahome::store::Model::open(Path::new(&path))
        .unwrap()
        .tokenizer;
    std::fs::write(folder.join("tokenizer.json"), tokenizer.to_json().unwrap()).unwrap();
    let config = r#"{"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": "<|im_end|>"}"#;
    std::fs::write(folder.join("tokenizer_config.json"), config).unwrap();
}

/// An empty home, and a catalogue with the tests' model as `smollm2`.
fn shelf(folder: &Path) -> Library {
    let file = std::env::var("LLAMAHOME_TEST_MODEL").expect("cargo sets LLAMAHOME_TEST_MODEL");
    let source = std::fs::canonicalize(file).unwrap();
    let catalog = serde_json::json!({"smollm2": {
        "formats": ["gguf"], "versions": {"v": {"source": source, "min_memory": 1}}, "default_version": "v",
        "description": "d", "license": "Apache-2.0"}});
    let catalog = Catalog::parse(&catalog.to_string(), "test").unwrap();
    Library::new(Home::at(folder.join("home")), catalog)
}
