//! Clients that others wrote: async-openai here, OpenAI's and Ollama's own for Python beside this file.

use std::path::Path;

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
use support::{CONTEXT, Daemon, FakeSource, LETTER_A, Setup};

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

/// Runs a script of `tests/clients` with the Python that a variable names; it says when all is as it should be.
fn run(variable: &str, script: &str, arguments: &[&str]) {
    let python = std::env::var_os(variable)
        .unwrap_or_else(|| panic!("{variable} is not set: run `make test`"));
    let run = std::process::Command::new(&python)
        .arg(format!("tests/clients/{script}"))
        .args(arguments)
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .unwrap_or_else(|error| panic!("{variable} is {python:?}: {error}"));
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let (out, err) = (text(&run.stdout), text(&run.stderr));
    assert!(run.status.success(), "{}\n{out}\n{err}", run.status);
    assert!(out.contains("all passed"), "{out}");
}

#[test]
#[ignore = "needs a Python with the openai package in LLAMAHOME_OPENAI_PYTHON: run by `make test`"]
fn openai_for_python_reads_answers_streams_and_errors() {
    let daemon = daemon();
    let url = format!("http://{}/v1", daemon.address);
    let (context, token) = (CONTEXT.to_string(), LETTER_A.to_string());
    let about = ["--key", "right", "--model", "fake", "--context", &context];
    let arguments = [&[url.as_str()], &about[..], &["--token", &token]].concat();
    run("LLAMAHOME_OPENAI_PYTHON", "openai_client.py", &arguments);
}

#[test]
#[ignore = "needs a Python with the openai package in LLAMAHOME_OPENAI_PYTHON: run by `make test`"]
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
    run("LLAMAHOME_OPENAI_PYTHON", "openai_client.py", &arguments);
}

#[test]
#[ignore = "needs a Python with the anthropic package in LLAMAHOME_ANTHROPIC_PYTHON: run by `make test`"]
fn anthropic_for_python_reads_messages_streams_tools_and_errors() {
    let daemon = Daemon::start(Setup::real().key("right"));
    let url = format!("http://{}", daemon.address);
    let arguments = [url.as_str(), "--key", "right", "--model", "smollm2"];
    run(
        "LLAMAHOME_ANTHROPIC_PYTHON",
        "anthropic_client.py",
        &arguments,
    );
}

#[test]
#[ignore = "needs a Python with the ollama package in LLAMAHOME_OLLAMA_PYTHON: run by `make test`"]
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
    run("LLAMAHOME_OLLAMA_PYTHON", "ollama_client.py", &arguments);
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
