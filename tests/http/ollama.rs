//! Ollama's API, as its clients meet it.

use std::io::Write;
use std::path::PathBuf;

use llamahome::http::UnknownFields;
use llamahome::store::gguf::write::Writer;
use llamahome::store::{Catalog, DType, Fetch, Home, Library, PullRequest, Silent, Source};
use serde_json::{Value, json};

use crate::support::{CONTEXT, Call, Daemon, FakeSource, LETTER_A, Reply, Setup};

const GENERATE: &str = "/api/generate";
const CHAT: &str = "/api/chat";

fn daemon() -> Daemon {
    Daemon::start(Setup::fake(FakeSource::default()))
}

fn lines(reply: &Reply) -> Vec<Value> {
    assert_eq!(reply.header("content-type"), Some("application/x-ndjson"));
    let lines = reply.body.lines().map(serde_json::from_str);
    lines.collect::<Result<_, _>>().unwrap()
}

/// Status, text, code and parameter of an error.
fn refused(reply: &Reply) -> (u16, String, String, Option<String>) {
    let body = reply.json();
    let text = |field: &str| body[field].as_str().map(str::to_owned);
    let (message, code) = (text("error"), text("code"));
    let message = message.unwrap_or_else(|| panic!("no text: {body}"));
    (reply.status, message, code.unwrap(), text("param"))
}

#[test]
fn prompts_are_answered_line_by_line_and_at_once() {
    let daemon = daemon();
    let ask = json!({"model": "fake:latest", "prompt": "a", "options": {"num_predict": 3}});
    let told = lines(&daemon.post(GENERATE, &ask));
    let text: Vec<&str> = told
        .iter()
        .map(|line| line["response"].as_str().unwrap())
        .collect();
    assert_eq!(text, ["b", "c", "d", ""]);
    let done: Vec<bool> = told
        .iter()
        .map(|line| line["done"].as_bool().unwrap())
        .collect();
    assert_eq!(done, [false, false, false, true]);
    let mut whole = ask.clone();
    whole["stream"] = json!(false);
    let whole = daemon.post(GENERATE, &whole).json();
    assert_eq!(whole["response"], "bcd");
    for last in [&told[3], &whole] {
        assert_eq!(
            (&last["model"], &last["done_reason"]),
            (&json!("fake"), &json!("length"))
        );
        assert_eq!(
            (&last["prompt_eval_count"], &last["eval_count"]),
            (&json!(1), &json!(3))
        );
        let took = |field: &str| last[field].as_u64().unwrap();
        let parts = took("load_duration") + took("prompt_eval_duration") + took("eval_duration");
        assert!(parts > 0 && parts <= took("total_duration"), "{last}");
        assert!(
            took("total_duration") < 60_000_000_000,
            "nanoseconds: {last}"
        );
        assert_eq!(last["kv"]["tokens_seen"], 3, "{last}");
        let time = last["created_at"].as_str().unwrap();
        assert!(time.starts_with("20") && time.ends_with('Z'), "{time}");
    }
}

#[test]
fn chats_have_messages_and_prompts_may_be_raw() {
    let daemon = daemon();
    let said = json!([{"role": "system", "content": "x"}, {"role": "user", "content": "a"}]);
    let ask = json!({"messages": said, "options": {"num_predict": 2}, "logprobs": true, "top_logprobs": 1});
    let told = lines(&daemon.post(CHAT, &ask));
    let text: Vec<&Value> = told
        .iter()
        .map(|line| &line["message"]["content"])
        .collect();
    assert_eq!(text, ["b", "c", ""]);
    assert!(
        told.iter()
            .all(|line| line["message"]["role"] == "assistant")
    );
    assert!(told.iter().all(|line| line.get("response").is_none()));
    assert_eq!(told[0]["logprobs"][0]["token"], "b");
    assert_eq!(
        told[0]["logprobs"][0]["top_logprobs"]
            .as_array()
            .unwrap()
            .len(),
        1
    );
    assert_eq!(told[2]["prompt_eval_count"], 2);

    let raw = json!({"prompt": "a", "raw": true, "stream": false, "options": {"stop": ["d"]}});
    let raw = daemon.post(GENERATE, &raw).json();
    assert_eq!(
        (&raw["response"], &raw["done_reason"]),
        (&json!("bc"), &json!("stop"))
    );
    let system =
        json!({"prompt": "a", "system": "zz", "stream": false, "options": {"num_predict": 1}});
    assert_eq!(
        daemon.post(GENERATE, &system).json()["prompt_eval_count"],
        3
    );
}

#[test]
fn a_session_goes_on() {
    let daemon = daemon();
    let turn = |text: &str| {
        let said = json!([{"role": "user", "content": text}]);
        let ask = json!({"session": "s", "messages": said, "stream": false, "options": {"num_predict": 3}});
        daemon.post(CHAT, &ask).json()
    };
    assert_eq!(turn("a")["message"]["content"], "bcd");
    let second = turn("k");
    assert_eq!(second["message"]["content"], "lmn");
    assert_eq!(second["prompt_eval_count"], 5, "a to d, and k");
}

#[test]
fn the_context_is_bounded_and_nothing_is_cut() {
    let daemon = daemon();
    let ask = |text: &str, options: Value| {
        daemon.post(
            GENERATE,
            &json!({"prompt": text, "stream": false, "options": options}),
        )
    };
    let bounded = ask("aaa", json!({"num_ctx": 8, "num_predict": -1})).json();
    assert_eq!(
        (&bounded["eval_count"], &bounded["done_reason"]),
        (&json!(5), &json!("length"))
    );
    for (text, options, context) in [
        ("a".repeat(8), json!({"num_ctx": 8}), 8),
        ("a".repeat(CONTEXT + 1), json!({}), CONTEXT),
    ] {
        let reply = ask(&text, options);
        let (status, _, code, param) = refused(&reply);
        assert_eq!(
            (status, code.as_str(), param.as_deref()),
            (400, "context_length_exceeded", Some("prompt"))
        );
        let body = reply.json();
        assert_eq!(body["prompt_tokens"], text.len());
        assert_eq!(body["context_length"], context);
    }
    let (status, text, ..) = refused(&ask("a", json!({"num_ctx": CONTEXT + 1})));
    assert!(status == 400 && text.contains("model.context"), "{text}");
}

#[test]
fn errors_have_ollamas_shape_wherever_they_come_from() {
    let mut setup = Setup::fake(FakeSource::default()).key("right");
    setup.http.unknown_fields = UnknownFields::Refuse;
    let daemon = Daemon::start(setup);
    let call = |path: &str, body: Value| {
        let call = Call::json(daemon.address, path, &body);
        call.header("Authorization", "Bearer right").send()
    };
    let said = json!([{"role": "user", "content": "a"}]);
    let long = json!([{"role": "user", "content": "a".repeat(CONTEXT + 1)}]);
    for (path, body, status, code, param) in [
        (
            GENERATE,
            json!({"model": "no", "prompt": "a"}),
            404,
            "model_not_found",
            Some("model"),
        ),
        (
            GENERATE,
            json!({"model": "../no", "prompt": "a"}),
            404,
            "model_not_found",
            Some("model"),
        ),
        (
            GENERATE,
            json!({"model": "broken", "prompt": "a"}),
            500,
            "model_load_failed",
            Some("model"),
        ),
        (
            GENERATE,
            json!({"prompt": "a", "options": {"repeat_penalty": 9}}),
            400,
            "invalid_value",
            Some("options.repeat_penalty"),
        ),
        (
            GENERATE,
            json!({"prompt": "a", "options": {"num_gpu": 1}}),
            400,
            "unsupported_parameter",
            Some("options.num_gpu"),
        ),
        (
            GENERATE,
            json!({"prompt": "a", "options": {"colour": 1}}),
            400,
            "unknown_parameter",
            Some("options.colour"),
        ),
        (
            CHAT,
            json!({"messages": said, "format": {"type": "string", "format": "nothing"}}),
            400,
            "invalid_value",
            Some("format#/format"),
        ),
        (
            CHAT,
            json!({"messages": long}),
            400,
            "context_length_exceeded",
            Some("messages"),
        ),
        (
            CHAT,
            json!({"messages": said, "think": true}),
            400,
            "invalid_value",
            Some("think"),
        ),
        ("/api/nowhere", json!({}), 404, "unknown_route", None),
        ("/api/tags", json!({}), 405, "method_not_allowed", None),
        ("/api/show", json!({}), 400, "invalid_value", Some("model")),
        ("/api/show", json!({"model": "a"}), 404, "no_library", None),
        (
            "/api/pull",
            json!({"model": "/etc/passwd"}),
            400,
            "invalid_value",
            Some("model"),
        ),
        (
            "/api/pull",
            json!({"model": "a", "insecure": true}),
            400,
            "unsupported_parameter",
            Some("insecure"),
        ),
    ] {
        let reply = call(path, body.clone());
        let (got, text, kind, about) = refused(&reply);
        assert_eq!(
            (got, kind.as_str(), about.as_deref()),
            (status, code, param),
            "{path} {body}: {text}"
        );
    }
    let keyless = Call::json(daemon.address, CHAT, &json!({})).send();
    assert_eq!(refused(&keyless).2, "missing_api_key");
    // As curl sends it; a page of a browser says where it comes from, and cannot.
    let ask = json!({"model": "fake", "prompt": "a", "stream": false}).to_string();
    let here = format!("http://{}", daemon.address);
    let said = |more: &[(&str, &str)]| {
        let form = Call::new(daemon.address, "POST", "/api/generate");
        let form = form
            .header("Authorization", "Bearer right")
            .header("Content-Type", "application/x-www-form-urlencoded");
        let form = more
            .iter()
            .fold(form, |form, (name, value)| form.header(name, value));
        form.body(ask.as_str()).send()
    };
    assert_eq!(said(&[]).status, 200);
    for browser in [("Origin", here.as_str()), ("Sec-Fetch-Site", "none")] {
        assert_eq!(refused(&said(&[browser])).2, "unsupported_media_type");
    }
    let packed = said(&[("Content-Encoding", "gzip")]);
    assert_eq!(refused(&packed).2, "unsupported_media_type");
    // The other API's shape is as it was.
    let other = Call::json(daemon.address, "/v1/chat/completions", &json!({})).send();
    assert_eq!(other.error().1, "missing_api_key");
}

#[test]
fn an_error_after_the_start_is_the_last_line() {
    let daemon = Daemon::start(Setup::fake(FakeSource {
        poison: Some(LETTER_A + 3),
        ..FakeSource::default()
    }));
    let told = lines(&daemon.post(GENERATE, &json!({"prompt": "a"})));
    let last = told.last().unwrap();
    assert_eq!(last["code"], "worker_lost");
    assert!(
        last["error"].is_string() && last.get("done").is_none(),
        "{last}"
    );
    assert!(
        told[..told.len() - 1]
            .iter()
            .all(|line| line["done"] == false)
    );
}

#[test]
fn who_says_nothing_loads_a_model_and_lets_it_go() {
    let mut setup = Setup::fake(FakeSource::default());
    setup.preload = false;
    let daemon = Daemon::start(setup);
    let loaded = || daemon.get("/api/ps").json()["models"].clone();
    assert_eq!(loaded(), json!([]));
    let told = daemon.post(
        CHAT,
        &json!({"model": "fake", "keep_alive": "10m", "stream": false}),
    );
    let told = told.json();
    assert_eq!(
        (&told["done"], &told["done_reason"]),
        (&json!(true), &json!("load"))
    );
    assert_eq!(told["message"], json!({"role": "assistant", "content": ""}));
    let models = loaded();
    assert_eq!(
        (&models[0]["name"], &models[0]["context_length"]),
        (&json!("fake"), &json!(CONTEXT))
    );
    assert_eq!(models[0]["size"], 1 << 20);
    let expires = models[0]["expires_at"].as_str().unwrap();
    assert!(
        expires.starts_with("20"),
        "in ten minutes, and not for ever: {expires}"
    );
    daemon.post(GENERATE, &json!({"model": "fake", "keep_alive": -1}));
    let expires = loaded()[0]["expires_at"].clone();
    assert!(expires.as_str().unwrap().starts_with("23"), "{expires}");
    let gone = lines(&daemon.post(
        GENERATE,
        &json!({"model": "fake", "prompt": "", "keep_alive": 0}),
    ));
    assert_eq!((gone.len(), &gone[0]["done_reason"]), (1, &json!("unload")));
    assert_eq!(loaded(), json!([]));
}

#[test]
fn a_client_that_asks_whether_a_server_is_there_hears_so() {
    let daemon = daemon();
    assert_eq!(Call::new(daemon.address, "HEAD", "/").send().status, 200);
    let version = daemon.get("/api/version").json();
    assert_eq!(version, json!({"version": env!("CARGO_PKG_VERSION")}));
}

/// A home with the tests' model as `smollm2`, and a catalogue with a tiny one.
struct Shelf {
    folder: tempfile::TempDir,
    library: Library,
}

impl Shelf {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let tiny = folder.path().join("Tiny.gguf");
        let bytes = Writer::new()
            .tensor("t", &[4], DType::F32, vec![0; 16])
            .finish();
        std::fs::write(&tiny, bytes).unwrap();
        let version = |path: PathBuf| json!({"v": {"source": path, "min_memory": 1}});
        let model = |path: PathBuf| {
            json!({"formats": ["gguf"], "versions": version(path), "default_version": "v", "description": "d",
                "license": "MIT"})
        };
        let gone = folder.path().join("gone.gguf");
        let catalog = json!({"tiny": model(tiny), "gone": model(gone)}).to_string();
        let home = Home::at(folder.path().join("home"));
        let library = Library::new(home, Catalog::parse(&catalog, "test").unwrap());
        let file = std::env::var("LLAMAHOME_TEST_MODEL").expect("cargo sets LLAMAHOME_TEST_MODEL");
        let request = PullRequest {
            source: Source::Path(std::fs::canonicalize(file).unwrap()),
            id: Some("smollm2".parse().unwrap()),
            link: true,
            pulled_at: "2026-01-01T00:00:00Z".to_owned(),
        };
        library
            .pull(&Fetch::from_env(|_| None), &request, &mut Silent)
            .unwrap();
        Shelf { folder, library }
    }

    fn daemon(&self) -> Daemon {
        Daemon::start(Setup::fake(FakeSource {
            library: Some(self.library.clone()),
            ..FakeSource::default()
        }))
    }
}

fn names(daemon: &Daemon) -> Vec<String> {
    let told = daemon.get("/api/tags").json();
    let models = told["models"].as_array().unwrap().iter();
    models
        .map(|model| model["name"].as_str().unwrap().to_owned())
        .collect()
}

#[test]
fn installed_models_are_listed_and_shown() {
    let shelf = Shelf::new();
    let daemon = shelf.daemon();
    let listed = daemon.get("/api/tags").json();
    let model = &listed["models"][0];
    assert_eq!(
        (&model["name"], &model["model"]),
        (&json!("smollm2"), &json!("smollm2"))
    );
    assert_eq!(model["modified_at"], "2026-01-01T00:00:00.000000000Z");
    assert!(model["size"].as_u64().unwrap() > 1 << 20, "{model}");
    assert_eq!(model["digest"].as_str().unwrap().len(), 64);
    let details = json!({"parent_model": "", "format": "gguf", "family": "llama", "families": ["llama"],
        "parameter_size": "134.52M", "quantization_level": "Q4_1"});
    assert_eq!(model["details"], details);

    let shown = daemon
        .post("/api/show", &json!({"model": "smollm2:latest"}))
        .json();
    assert_eq!(shown["details"], details);
    assert_eq!(shown["capabilities"], json!(["completion", "tools"]));
    assert!(
        shown["template"].as_str().unwrap().contains("<|im_start|>"),
        "{shown}"
    );
    assert!(
        shown["parameters"]
            .as_str()
            .unwrap()
            .contains("temperature 0"),
        "{shown}"
    );
    let info = &shown["model_info"];
    assert_eq!(info["general.architecture"], "llama");
    assert_eq!(info["general.parameter_count"], 134_515_008);
    assert_eq!(info["llama.block_count"], 30);
    assert_eq!(info["tokenizer.ggml.tokens"], Value::Null);
    let verbose = daemon
        .post("/api/show", &json!({"name": "smollm2", "verbose": true}))
        .json();
    let tokens = verbose["model_info"]["tokenizer.ggml.tokens"]
        .as_array()
        .unwrap();
    assert_eq!(tokens.len(), 49_152);
    let (status, text, code, _) = refused(&daemon.post("/api/show", &json!({"model": "smollm"})));
    assert_eq!((status, code.as_str()), (404, "model_not_found"));
    assert!(text.contains("smollm2"), "{text}");
}

#[test]
fn models_are_pulled_copied_and_deleted() {
    let shelf = Shelf::new();
    let daemon = shelf.daemon();
    let told = lines(&daemon.post("/api/pull", &json!({"model": "tiny:latest"})));
    let status: Vec<&str> = told
        .iter()
        .map(|line| line["status"].as_str().unwrap())
        .collect();
    assert_eq!(status.first(), Some(&"pulling manifest"));
    assert!(status.contains(&"verifying sha256 digest"), "{status:?}");
    assert_eq!(status.last(), Some(&"success"));
    let whole = told
        .iter()
        .rfind(|line| line["completed"].is_u64())
        .unwrap();
    assert_eq!(whole["completed"], whole["total"], "{whole}");
    assert_eq!(
        (&whole["digest"], &whole["status"]),
        (&json!("Tiny.gguf"), &json!("pulling Tiny.gguf"))
    );
    assert_eq!(names(&daemon), ["smollm2", "tiny"]);
    let again = daemon.post("/api/pull", &json!({"name": "tiny", "stream": false}));
    assert_eq!(
        (again.status, again.json()),
        (200, json!({"status": "success"}))
    );

    let copy = |from: &str, to: &str| {
        daemon.post("/api/copy", &json!({"source": from, "destination": to}))
    };
    let reply = copy("tiny", "twin:latest");
    assert_eq!((reply.status, reply.body.as_str()), (200, ""));
    assert_eq!(names(&daemon), ["smollm2", "tiny", "twin"]);
    assert_eq!(refused(&copy("tiny", "twin")).2, "model_exists");
    assert_eq!(refused(&copy("none", "other")).2, "model_not_found");
    assert_eq!(
        refused(&copy("tiny", "a/b")).3.as_deref(),
        Some("destination")
    );

    let delete = |name: &str| {
        let call = Call::new(daemon.address, "DELETE", "/api/delete");
        let call = call.header("Content-Type", "application/json");
        call.body(json!({"model": name}).to_string()).send()
    };
    assert_eq!(delete("tiny").status, 200);
    assert_eq!(names(&daemon), ["smollm2", "twin"]);
    assert_eq!(refused(&delete("tiny")).0, 404);
    assert!(
        shelf.folder.path().join("Tiny.gguf").exists(),
        "only what was installed goes"
    );
}

#[test]
fn a_pull_that_fails_says_why_in_its_last_line_or_its_status() {
    let shelf = Shelf::new();
    let daemon = shelf.daemon();
    let told = lines(&daemon.post("/api/pull", &json!({"model": "gone"})));
    let last = told.last().unwrap();
    assert!(
        last["error"].as_str().unwrap().contains("gone.gguf"),
        "{last}"
    );
    let whole = daemon.post("/api/pull", &json!({"model": "gone", "stream": false}));
    assert_eq!(refused(&whole).2, "store_failed");
    let nobody = daemon.post("/api/pull", &json!({"model": "nobody", "stream": false}));
    assert_eq!(
        (nobody.status, refused(&nobody).2.as_str()),
        (404, "model_not_found")
    );
    assert_eq!(names(&daemon), ["smollm2"]);
}

#[test]
fn only_who_may_manage_changes_what_is_installed() {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(b"[[keys]]\nname = 'user'\nkey = 'use'\n")
        .unwrap();
    let shelf = Shelf::new();
    let mut setup = Setup::fake(FakeSource {
        library: Some(shelf.library.clone()),
        ..FakeSource::default()
    });
    setup.http.keys_file = Some(file.path().to_owned());
    let daemon = Daemon::start(setup);
    let call = |method: &str, path: &str, body: Value| {
        let call =
            Call::new(daemon.address, method, path).header("Content-Type", "application/json");
        call.header("Authorization", "Bearer use")
            .body(body.to_string())
            .send()
    };
    for (method, path, body) in [
        ("POST", "/api/pull", json!({"model": "tiny"})),
        (
            "POST",
            "/api/copy",
            json!({"source": "smollm2", "destination": "twin"}),
        ),
        ("DELETE", "/api/delete", json!({"model": "smollm2"})),
    ] {
        let reply = call(method, path, body);
        assert_eq!(
            (reply.status, refused(&reply).2.as_str()),
            (403, "scope_missing"),
            "{path}"
        );
    }
    let shown = call("POST", "/api/show", json!({"model": "smollm2"}));
    assert_eq!(shown.status, 200, "{}", shown.body);
    let listed = shelf.library.list().unwrap();
    assert_eq!(listed.len(), 1, "nothing was changed: {listed:?}");
}

#[test]
fn an_answer_keeps_to_its_format() {
    let daemon = Daemon::start(Setup::real());
    let format = json!({"type": "object", "properties": {"colour": {"enum": ["red", "blue"]}, "count":
        {"type": "integer", "minimum": 1, "maximum": 9}}, "required": ["colour", "count"], "additionalProperties": false});
    let options = json!({"temperature": 1, "seed": 3, "num_predict": 64});
    let asks = [
        (
            CHAT,
            json!({"messages": [{"role": "user", "content": "Name a colour."}]}),
        ),
        (GENERATE, json!({"prompt": "Name a colour."})),
        (GENERATE, json!({"prompt": "A colour:", "raw": true})),
    ];
    for (route, mut ask) in asks {
        ask["format"] = format.clone();
        ask["options"] = options.clone();
        let told = lines(&daemon.post(route, &ask));
        let piece = |line: &Value| match route {
            CHAT => line["message"]["content"].as_str().unwrap().to_owned(),
            _ => line["response"].as_str().unwrap().to_owned(),
        };
        let text: String = told.iter().map(piece).collect();
        let value: Value = serde_json::from_str(&text).unwrap_or_else(|e| panic!("{e}: {text}"));
        let colour = value["colour"].as_str().unwrap();
        let count = value["count"].as_u64().unwrap();
        assert!(
            ["red", "blue"].contains(&colour) && (1..=9).contains(&count),
            "{text}"
        );
        assert_eq!(told.last().unwrap()["done_reason"], "stop", "{told:?}");
        ask["stream"] = json!(false);
        assert_eq!(piece(&daemon.post(route, &ask).json()), text);
    }
}

#[test]
fn calls_are_told_whole_and_heard_again() {
    let daemon = Daemon::start(Setup::real());
    let tool = json!({"type": "function", "function": {"name": "weather", "parameters": {"type": "object",
        "properties": {"city": {"enum": ["Paris", "Rome"]}}, "required": ["city"], "additionalProperties": false}}});
    let question = json!({"role": "user", "content": "What is the weather in Paris?"});
    let mut ask = json!({"messages": [question], "tools": [tool], "tool_choice": "required", "parallel_tool_calls": false,
        "options": {"temperature": 0, "num_predict": 96}});
    let told = lines(&daemon.post(CHAT, &ask));
    let calls: Vec<&Value> = told
        .iter()
        .filter_map(|line| line["message"].get("tool_calls"))
        .collect();
    assert_eq!(calls.len(), 1, "{told:?}");
    let function = &calls[0][0]["function"];
    assert_eq!(function["name"], "weather", "{told:?}");
    let city = function["arguments"]["city"].as_str().unwrap();
    assert!(["Paris", "Rome"].contains(&city), "{told:?}");
    ask["stream"] = json!(false);
    let whole = daemon.post(CHAT, &ask).json();
    assert_eq!(&whole["message"]["tool_calls"], calls[0]);
    assert_eq!(whole["done_reason"], "stop");

    let result = json!({"role": "tool", "tool_name": "weather", "content": "18 degrees"});
    ask["messages"] = json!([question, whole["message"], result]);
    ask.as_object_mut().unwrap().remove("tool_choice");
    ask["options"]["num_predict"] = json!(8);
    let reply = daemon.post(CHAT, &ask);
    assert_eq!(reply.status, 200, "{}", reply.body);
}
