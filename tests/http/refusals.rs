//! What is refused, and how it is said.

use std::time::Duration;

use llamahome::units::ByteSize;
use serde_json::{Value, json};

use crate::support::{CONTEXT, Call, Daemon, FakeSource, LETTER_A, Setup, VOCAB};

const CHAT: &str = "/v1/chat/completions";
const TEXT: &str = "/v1/completions";

fn daemon() -> Daemon {
    Daemon::start(Setup::fake(FakeSource::default()))
}

#[test]
fn bad_parameters_are_named() {
    let daemon = daemon();
    let said = json!([{"role": "user", "content": "a"}]);
    let table: [(&str, Value, &str, &str); 21] = [
        (
            TEXT,
            json!({"temperature": 3}),
            "invalid_value",
            "temperature",
        ),
        (TEXT, json!({"top_p": 0}), "invalid_value", "top_p"),
        (TEXT, json!({"top_k": -2}), "invalid_value", "top_k"),
        (TEXT, json!({"min_p": 2}), "invalid_value", "min_p"),
        (
            TEXT,
            json!({"repetition_penalty": 0}),
            "invalid_value",
            "repetition_penalty",
        ),
        (
            TEXT,
            json!({"presence_penalty": 3}),
            "invalid_value",
            "presence_penalty",
        ),
        (TEXT, json!({"logprobs": 21}), "invalid_value", "logprobs"),
        (
            TEXT,
            json!({"logit_bias": {"1": 101}}),
            "invalid_value",
            "logit_bias",
        ),
        (
            TEXT,
            json!({"max_tokens": 0}),
            "invalid_value",
            "max_tokens",
        ),
        (TEXT, json!({"stop": [""]}), "invalid_value", "stop"),
        (TEXT, json!({"n": 9}), "invalid_value", "n"),
        (TEXT, json!({"prompt": [VOCAB]}), "invalid_value", "prompt"),
        (TEXT, json!({"prompt": ""}), "invalid_value", "prompt"),
        (
            TEXT,
            json!({"kv": {"policy": "h2o", "heavy": 0, "recent": 0}}),
            "invalid_value",
            "kv",
        ),
        (TEXT, json!({"echo": "yes"}), "invalid_value", "echo"),
        (
            CHAT,
            json!({"chat_template": "{{ messages }}"}),
            "unsupported_parameter",
            "chat_template",
        ),
        (
            CHAT,
            json!({"chat_template_kwargs": {"messages": []}}),
            "unsupported_parameter",
            "chat_template_kwargs.messages",
        ),
        (
            CHAT,
            json!({"continue_final_message": true}),
            "unsupported_parameter",
            "continue_final_message",
        ),
        (
            CHAT,
            json!({"functions": [{"name": "f"}]}),
            "unsupported_parameter",
            "functions",
        ),
        (
            CHAT,
            json!({"modalities": ["audio"]}),
            "unsupported_parameter",
            "modalities",
        ),
        (
            CHAT,
            json!({"messages": [{"role": "assistant", "content": "x"}]}),
            "invalid_prompt",
            "messages",
        ),
    ];
    for (path, change, code, param) in table {
        let mut ask = match path {
            TEXT => json!({"prompt": "a"}),
            _ => json!({"messages": said}),
        };
        ask.as_object_mut()
            .unwrap()
            .extend(change.as_object().unwrap().clone());
        let reply = daemon.post(path, &ask);
        let expected = (400, code.to_owned(), Some(param.to_owned()));
        assert_eq!(reply.error(), expected, "{ask}: {}", reply.body);
        // A stream that cannot begin is refused by its status too.
        assert_eq!(daemon.stream(path, &ask).status, 400, "{ask}");
    }
}

#[test]
fn an_overlong_prompt_is_refused_with_both_counts() {
    let daemon = daemon();
    let reply = daemon.post(TEXT, &json!({"prompt": vec![LETTER_A; CONTEXT]}));
    assert_eq!(
        reply.error(),
        (
            400,
            "context_length_exceeded".to_owned(),
            Some("prompt".to_owned())
        )
    );
    let error = &reply.json()["error"];
    assert_eq!(error["prompt_tokens"], CONTEXT);
    assert_eq!(error["context_length"], CONTEXT);
    let chat = json!({"messages": [{"role": "user", "content": "a".repeat(CONTEXT + 5)}]});
    let reply = daemon.post(CHAT, &chat);
    assert_eq!(
        reply.error(),
        (
            400,
            "context_length_exceeded".to_owned(),
            Some("messages".to_owned())
        )
    );
    // One less fits, and the context ends the answer.
    let reply = daemon.post(
        TEXT,
        &json!({"prompt": vec![LETTER_A; CONTEXT - 1], "max_tokens": 9}),
    );
    assert_eq!(
        reply.json()["usage"]["completion_tokens"],
        1,
        "{}",
        reply.body
    );
}

#[test]
fn unknown_models_are_not_found_and_paths_are_no_models() {
    let daemon = daemon();
    let ask = |model: &str| daemon.post(TEXT, &json!({"model": model, "prompt": "a"}));
    let reply = ask("fakes");
    assert_eq!(
        reply.error(),
        (404, "model_not_found".to_owned(), Some("model".to_owned()))
    );
    assert!(reply.body.contains("did you mean"), "{}", reply.body);
    for path in ["/etc/passwd", "./fake", "../fake", "fake\u{0}", ""] {
        assert_eq!(ask(path).error().1, "model_not_found", "{path}");
    }
    assert_eq!(ask("broken").error().1, "model_load_failed");
}

#[test]
fn bodies_that_cannot_be_read_are_refused() {
    let mut setup = Setup::fake(FakeSource::default());
    setup.http.body_limit = ByteSize(1024);
    let daemon = Daemon::start(setup);
    let post = |kind: &str, body: &str| {
        let call = Call::new(daemon.address, "POST", TEXT).header("Content-Type", kind);
        let (status, code, _) = call.body(body).send().error();
        (status, code)
    };
    let json = "application/json; charset=utf-8";
    assert_eq!(post(json, "{\"prompt\":"), (400, "invalid_json".to_owned()));
    assert_eq!(post(json, "[]"), (400, "invalid_json".to_owned()));
    assert_eq!(
        post(json, &" ".repeat(2000)),
        (413, "body_too_large".to_owned())
    );
    assert_eq!(
        post("text/plain", "{}"),
        (415, "unsupported_media_type".to_owned())
    );
    let packed = Call::json(daemon.address, TEXT, &json!({"prompt": "a"}))
        .header("Content-Encoding", "gzip");
    assert_eq!(packed.send().status, 415);
    let fine = daemon.post(TEXT, &json!({"prompt": "a", "max_tokens": 1}));
    assert_eq!(fine.status, 200, "{}", fine.body);
}

#[test]
fn unknown_routes_and_methods_are_told_in_the_same_shape() {
    let daemon = daemon();
    assert_eq!(daemon.get("/nowhere").error().1, "unknown_route");
    let reply = daemon.get(CHAT);
    assert_eq!(reply.error(), (405, "method_not_allowed".to_owned(), None));
    assert_eq!(reply.header("allow"), Some("POST"));
    assert_eq!(
        Call::new(daemon.address, "DELETE", "/v1/models")
            .send()
            .status,
        405
    );
}

#[test]
fn a_full_queue_says_so_at_once() {
    let mut setup = Setup::fake(FakeSource {
        delay: Duration::from_millis(20),
        ..FakeSource::default()
    });
    setup.sections.scheduler.max_batch = 1;
    setup.sections.scheduler.max_queue = 1;
    let daemon = Daemon::start(setup);
    let ask = json!({"prompt": "a", "max_tokens": 250, "ignore_eos": true});
    let mut running = daemon.stream(TEXT, &ask);
    // How long others would wait is known once a step was seen.
    assert!(running.event().is_some());
    let _waiting = daemon.stream(TEXT, &ask);
    daemon.wait_busy((1, 1), Duration::from_secs(5));
    let reply = daemon.post(TEXT, &ask);
    assert_eq!(daemon.busy(), (1, 1), "it was told before anybody ended");
    assert_eq!(reply.error().0, 429, "{}", reply.body);
    assert_eq!(reply.error().1, "queue_full");
    let body: serde_json::Value = serde_json::from_str(&reply.body).unwrap();
    assert_eq!(body["error"]["queue_position"], 2);
    let wait = body["error"]["estimated_wait_ms"].as_u64().unwrap();
    assert!(wait > 0, "{body}");
    let retry: u64 = reply.header("retry-after").unwrap().parse().unwrap();
    assert_eq!(retry, wait.div_ceil(1000).clamp(1, 120), "{body}");
}

#[test]
fn a_clients_template_is_run_nowhere() {
    let daemon = Daemon::start(Setup::fake(FakeSource::default()));
    let said = json!([{"role": "user", "content": "a"}]);
    for (path, mut ask) in [
        (CHAT, json!({"messages": said})),
        (TEXT, json!({"prompt": "a"})),
        ("/v1/messages", json!({"max_tokens": 3, "messages": said})),
        ("/v1/responses", json!({"input": "a"})),
        ("/api/chat", json!({"messages": said})),
        ("/api/generate", json!({"prompt": "a"})),
    ] {
        ask["chat_template"] = json!("{{ messages }}");
        let reply = daemon.post(path, &ask);
        assert_eq!(reply.status, 400, "{path}: {}", reply.body);
        assert!(
            reply.body.contains("chat_template"),
            "{path}: {}",
            reply.body
        );
    }
}
