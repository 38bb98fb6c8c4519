//! Anthropic's API, as its clients meet it.

use serde_json::{Value, json};

use crate::support::{CONTEXT, Call, Daemon, FakeSource, Setup};

const MESSAGES: &str = "/v1/messages";
const COUNT: &str = "/v1/messages/count_tokens";

fn daemon() -> Daemon {
    Daemon::start(Setup::fake(FakeSource::default()))
}

fn ask(more: Value) -> Value {
    let mut ask =
        json!({"model": "fake", "max_tokens": 5, "messages": [{"role": "user", "content": "a"}]});
    ask.as_object_mut()
        .unwrap()
        .extend(more.as_object().unwrap().clone());
    ask
}

fn types(events: &[Value]) -> Vec<&str> {
    events
        .iter()
        .map(|event| event["type"].as_str().unwrap())
        .collect()
}

#[test]
fn a_message_is_answered_at_once_and_event_by_event() {
    let daemon = daemon();
    let whole = daemon.post(MESSAGES, &ask(json!({}))).json();
    assert_eq!(whole["content"], json!([{"type": "text", "text": "bcdef"}]));
    assert_eq!(
        (&whole["type"], &whole["role"], &whole["model"]),
        (&json!("message"), &json!("assistant"), &json!("fake"))
    );
    assert_eq!(
        (&whole["stop_reason"], &whole["stop_sequence"]),
        (&json!("max_tokens"), &Value::Null)
    );
    let usage = &whole["usage"];
    assert_eq!(
        (&usage["input_tokens"], &usage["output_tokens"]),
        (&json!(1), &json!(5)),
        "{whole}"
    );
    assert!(whole["id"].as_str().unwrap().starts_with("msg_"), "{whole}");

    let told = daemon
        .post(MESSAGES, &ask(json!({"stream": true})))
        .named_events();
    let expected = ["message_start", "content_block_start"]
        .into_iter()
        .chain(["content_block_delta"; 5])
        .chain(["content_block_stop", "message_delta", "message_stop"]);
    assert_eq!(types(&told), expected.collect::<Vec<_>>());
    assert_eq!(told[0]["message"]["usage"]["input_tokens"], 1);
    let text: String = told
        .iter()
        .filter_map(|event| event["delta"]["text"].as_str())
        .collect();
    assert_eq!(text, "bcdef");
    let end = &told[told.len() - 2];
    assert_eq!(end["delta"]["stop_reason"], "max_tokens");
    assert_eq!(end["usage"]["output_tokens"], 5);

    let stopped = ask(json!({"stop_sequences": ["x", "de"]}));
    let stopped = daemon.post(MESSAGES, &stopped).json();
    assert_eq!(stopped["content"][0]["text"], "bc");
    assert_eq!(
        (&stopped["stop_reason"], &stopped["stop_sequence"]),
        (&json!("stop_sequence"), &json!("de"))
    );
}

#[test]
fn tokens_are_counted_as_a_message_would_have_them() {
    let daemon = Daemon::start(Setup::real());
    let said = json!({"system": "Be brief.", "messages": [{"role": "user", "content":
        [{"type": "text", "text": "Hello"}, {"type": "text", "text": " there."}]}],
        "tools": [{"name": "now", "input_schema": {"type": "object"}}]});
    let counted = daemon.post(COUNT, &said).json();
    let counted = counted["input_tokens"].as_u64();
    assert!(counted > Some(20), "{counted:?}");
    let mut asked = said;
    asked["max_tokens"] = json!(1);
    let usage = daemon.post(MESSAGES, &asked).json()["usage"].clone();
    let read = usage["input_tokens"].as_u64().unwrap();
    let cached = usage["cache_read_input_tokens"].as_u64().unwrap();
    assert_eq!(Some(read + cached), counted);
}

#[test]
fn tools_are_used_and_their_results_heard() {
    let daemon = Daemon::start(Setup::real());
    let question = json!({"role": "user", "content": "What is the weather in Paris?"});
    let mut asked = json!({"max_tokens": 96, "temperature": 0, "messages": [question],
        "tool_choice": {"type": "any", "disable_parallel_tool_use": true}, "tools": [{"name": "weather",
        "description": "The weather of a city", "input_schema": {"type": "object", "properties":
            {"city": {"enum": ["Paris", "Rome"]}}, "required": ["city"], "additionalProperties": false}}]});
    let whole = daemon.post(MESSAGES, &asked).json();
    assert_eq!(whole["stop_reason"], "tool_use", "{whole}");
    let used = &whole["content"][0];
    assert_eq!(
        (&used["type"], &used["name"]),
        (&json!("tool_use"), &json!("weather"))
    );
    let city = used["input"]["city"].as_str().unwrap();
    assert!(["Paris", "Rome"].contains(&city), "{whole}");

    asked["stream"] = json!(true);
    let told = daemon.post(MESSAGES, &asked).named_events();
    let start = told
        .iter()
        .find(|event| event["content_block"]["type"] == "tool_use")
        .unwrap_or_else(|| panic!("{told:?}"));
    assert_eq!(start["content_block"]["name"], "weather");
    let input: String = told
        .iter()
        .filter_map(|event| event["delta"]["partial_json"].as_str())
        .collect();
    assert_eq!(
        serde_json::from_str::<Value>(&input).unwrap(),
        used["input"]
    );
    assert_eq!(told[told.len() - 2]["delta"]["stop_reason"], "tool_use");

    let result = json!({"role": "user", "content": [{"type": "tool_result", "tool_use_id": used["id"], "content":
        "18 degrees"}]});
    let back = json!({"role": "assistant", "content": whole["content"]});
    asked["stream"] = json!(false);
    asked["messages"] = json!([question, back, result]);
    asked["tool_choice"] = json!({"type": "none"});
    asked["max_tokens"] = json!(12);
    let answer = daemon.post(MESSAGES, &asked).json();
    assert_eq!(answer["content"][0]["type"], "text", "{answer}");
}

#[test]
fn an_answer_keeps_to_its_form() {
    let daemon = Daemon::start(Setup::real());
    let ask = json!({"max_tokens": 40, "messages": [{"role": "user", "content": "A colour?"}], "output_config": {"format":
        {"type": "json_schema", "schema": {"type": "object", "properties": {"c": {"enum": ["red", "blue"]}},
            "required": ["c"], "additionalProperties": false}}}});
    let answer = daemon.post(MESSAGES, &ask).json();
    let value: Value =
        serde_json::from_str(answer["content"][0]["text"].as_str().unwrap()).unwrap();
    assert!(
        ["red", "blue"].contains(&value["c"].as_str().unwrap()),
        "{answer}"
    );
}

#[test]
fn errors_have_this_apis_shape() {
    let daemon = Daemon::start(Setup::fake(FakeSource::default()).key("right"));
    let long = "a".repeat(CONTEXT + 1);
    for (path, body, status, kind, code, param) in [
        (
            MESSAGES,
            json!({}),
            400,
            "invalid_request_error",
            "invalid_value",
            Some("messages"),
        ),
        (
            MESSAGES,
            ask(json!({"model": "none"})),
            404,
            "not_found_error",
            "model_not_found",
            Some("model"),
        ),
        (
            MESSAGES,
            ask(json!({"temperature": 9})),
            400,
            "invalid_request_error",
            "invalid_value",
            Some("temperature"),
        ),
        (
            MESSAGES,
            ask(json!({"stop_sequences": [""]})),
            400,
            "invalid_request_error",
            "invalid_value",
            Some("stop_sequences"),
        ),
        (
            MESSAGES,
            ask(json!({"messages": [{"role": "user", "content": long}]})),
            400,
            "invalid_request_error",
            "context_length_exceeded",
            Some("messages"),
        ),
        (
            MESSAGES,
            ask(
                json!({"tools": [{"name": "f", "input_schema": {"type": "object", "properties": {"x": {"not": {}}}}}]}),
            ),
            400,
            "invalid_request_error",
            "invalid_value",
            Some("tools#/0/input_schema/properties/x/not"),
        ),
        (
            MESSAGES,
            ask(json!({"thinking": {"type": "adaptive"}})),
            400,
            "invalid_request_error",
            "invalid_value",
            Some("thinking"),
        ),
        (
            COUNT,
            json!({"messages": 5}),
            400,
            "invalid_request_error",
            "invalid_value",
            Some("messages"),
        ),
    ] {
        let reply = Call::json(daemon.address, path, &body)
            .header("Authorization", "Bearer right")
            .send();
        let said = reply.json();
        assert_eq!(said["type"], "error", "{said}");
        let error = &said["error"];
        assert_eq!(
            (
                reply.status,
                &error["type"],
                &error["code"],
                error["param"].as_str()
            ),
            (status, &json!(kind), &json!(code), param),
            "{body}: {said}"
        );
    }
    let keyless = Call::json(daemon.address, MESSAGES, &ask(json!({}))).send();
    assert_eq!(keyless.json()["error"]["type"], "authentication_error");
}
