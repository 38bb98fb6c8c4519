//! OpenAI's Responses API, as its clients meet it.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::support::{Daemon, FakeSource, Reply, Setup};

const ROUTE: &str = "/v1/responses";

fn events(reply: &Reply) -> Vec<Value> {
    let events = reply.named_events();
    for (place, event) in events.iter().enumerate() {
        assert_eq!(event["sequence_number"], place, "{event}");
    }
    events
}

fn text(response: &Value) -> &str {
    response["output"][0]["content"][0]["text"]
        .as_str()
        .unwrap_or_else(|| panic!("{response}"))
}

#[test]
fn a_response_comes_at_once_and_event_by_event() {
    let daemon = Daemon::start(Setup::fake(FakeSource::default()));
    let ask =
        json!({"model": "fake", "input": "a", "max_output_tokens": 3, "metadata": {"k": "v"}});
    let whole = daemon.post(ROUTE, &ask).json();
    assert_eq!(text(&whole), "bcd");
    assert_eq!(
        (&whole["object"], &whole["status"]),
        (&json!("response"), &json!("incomplete"))
    );
    assert_eq!(whole["incomplete_details"]["reason"], "max_output_tokens");
    assert_eq!(whole["output"][0]["status"], "incomplete");
    assert_eq!(whole["usage"]["output_tokens"], 3);
    assert_eq!(whole["metadata"], json!({"k": "v"}));
    let id = whole["id"].as_str().unwrap();
    assert_eq!(daemon.get(&format!("{ROUTE}/{id}")).json(), whole);

    let mut streamed = ask;
    streamed["stream"] = json!(true);
    let told = events(&daemon.post(ROUTE, &streamed));
    let types: Vec<&str> = told.iter().map(|e| e["type"].as_str().unwrap()).collect();
    assert_eq!(
        types,
        [
            "response.created",
            "response.in_progress",
            "response.output_item.added",
            "response.content_part.added",
            "response.output_text.delta",
            "response.output_text.delta",
            "response.output_text.delta",
            "response.output_text.done",
            "response.content_part.done",
            "response.output_item.done",
            "response.incomplete",
        ]
    );
    let last = &told[told.len() - 1]["response"];
    assert_eq!(last["output"][0]["content"], whole["output"][0]["content"]);
    assert_eq!(told[7]["text"], "bcd");
    assert_eq!(told[4]["item_id"], last["output"][0]["id"]);
}

#[test]
fn one_goes_on_from_another() {
    let daemon = Daemon::start(Setup::real());
    let ask = json!({"input": "My name is Ada. Say hello.", "instructions": "Be brief.", "max_output_tokens": 8,
        "temperature": 0});
    let first = daemon.post(ROUTE, &ask).json();
    let id = first["id"].as_str().unwrap().to_owned();
    let more = json!({"input": "And what is my name?", "previous_response_id": id, "max_output_tokens": 8,
        "temperature": 0});
    let second = daemon.post(ROUTE, &more).json();
    assert_eq!(second["previous_response_id"], json!(id), "{second}");
    assert_eq!(second["instructions"], "Be brief.");
    let usage = |response: &Value| {
        let usage = &response["usage"];
        (
            usage["input_tokens"].as_u64().unwrap(),
            usage["input_tokens_details"]["cached_tokens"]
                .as_u64()
                .unwrap(),
        )
    };
    let before = first["usage"]["total_tokens"].as_u64().unwrap();
    let (read, cached) = usage(&second);
    assert!(read > before && cached + 2 >= before, "{second}");
    // Another one from the same place says the same, whatever was said meanwhile.
    let again = daemon.post(ROUTE, &more).json();
    assert_eq!(text(&again), text(&second));
    assert_eq!(usage(&again), usage(&second));

    let mut other = more.clone();
    other["instructions"] = json!("Be long.");
    assert_eq!(
        daemon.post(ROUTE, &other).error().2.as_deref(),
        Some("instructions")
    );
    other["instructions"] = json!("Be brief.");
    assert_eq!(daemon.post(ROUTE, &other).status, 200);

    let sessions = || {
        daemon.get("/v1/sessions").json()["data"]
            .as_array()
            .unwrap()
            .len()
    };
    let held = sessions();
    let path = format!("{ROUTE}/{id}");
    let erase = || crate::support::Call::new(daemon.address, "DELETE", &path).send();
    assert_eq!(erase().json()["deleted"], true);
    let gone = daemon.post(ROUTE, &more);
    assert_eq!(
        gone.error(),
        (
            404,
            "response_not_found".to_owned(),
            Some("previous_response_id".to_owned())
        )
    );
    assert_eq!((erase().status, daemon.get(&path).status), (404, 404));
    let until = Instant::now() + Duration::from_secs(20);
    while sessions() >= held {
        assert!(Instant::now() < until, "its session is still there");
        std::thread::sleep(Duration::from_millis(20));
    }
    // One that is not stored leaves nothing.
    let held = sessions();
    let mut unstored = ask;
    unstored["store"] = json!(false);
    let unstored = daemon.post(ROUTE, &unstored).json();
    let path = format!("{ROUTE}/{}", unstored["id"].as_str().unwrap());
    assert_eq!((daemon.get(&path).status, sessions()), (404, held));
}

#[test]
fn functions_are_called_and_forms_are_kept() {
    let daemon = Daemon::start(Setup::real());
    let mut ask = json!({"input": "What is the weather in Paris?", "temperature": 0, "max_output_tokens": 96,
        "tools": [{"type": "function", "name": "weather", "parameters": {"type": "object", "properties":
            {"city": {"enum": ["Paris", "Rome"]}}, "required": ["city"], "additionalProperties": false}}],
        "tool_choice": {"type": "function", "name": "weather"}});
    let whole = daemon.post(ROUTE, &ask).json();
    let call = &whole["output"][0];
    assert_eq!(
        (&call["type"], &call["name"], &call["status"]),
        (
            &json!("function_call"),
            &json!("weather"),
            &json!("completed")
        ),
        "{whole}"
    );
    let arguments: Value = serde_json::from_str(call["arguments"].as_str().unwrap()).unwrap();
    assert!(["Paris", "Rome"].contains(&arguments["city"].as_str().unwrap()));
    ask["stream"] = json!(true);
    let told = events(&daemon.post(ROUTE, &ask));
    let streamed: String = told
        .iter()
        .filter(|e| e["type"] == "response.function_call_arguments.delta")
        .filter_map(|e| e["delta"].as_str())
        .collect();
    assert_eq!(json!(streamed), call["arguments"]);

    let result = json!({"previous_response_id": whole["id"], "max_output_tokens": 8, "input":
        [{"type": "function_call_output", "call_id": call["call_id"], "output": "18 degrees"}]});
    let answer = daemon.post(ROUTE, &result).json();
    assert_eq!(answer["output"][0]["type"], "message", "{answer}");

    let formed = json!({"input": "A colour?", "text": {"format": {"type": "json_schema", "name": "c", "schema":
        {"type": "object", "properties": {"c": {"enum": ["red", "blue"]}}, "required": ["c"], "additionalProperties":
        false}}}, "max_output_tokens": 40});
    let formed = daemon.post(ROUTE, &formed).json();
    let value: Value = serde_json::from_str(text(&formed)).unwrap();
    assert!(
        ["red", "blue"].contains(&value["c"].as_str().unwrap()),
        "{formed}"
    );
}

#[test]
fn what_cannot_be_is_refused_and_strangers_see_nothing() {
    let daemon = Daemon::start(Setup::fake(FakeSource::default()));
    for (ask, status, param) in [
        (json!({}), 400, "input"),
        (json!({"input": "a", "temperature": 9}), 400, "temperature"),
        (json!({"input": "a", "model": "none"}), 404, "model"),
        (json!({"input": "a".repeat(400)}), 400, "input"),
        (
            json!({"input": "a", "previous_response_id": "resp_x"}),
            404,
            "previous_response_id",
        ),
        (
            json!({"input": "a", "text": {"format": {"type": "json_schema", "schema": {"type": "object", "properties":
            {"x": {"not": {}}}}}}}),
            400,
            "text.format.schema#/properties/x/not",
        ),
    ] {
        let reply = daemon.post(ROUTE, &ask);
        let (got, _, about) = reply.error();
        assert_eq!(
            (got, about.as_deref()),
            (status, Some(param)),
            "{ask}: {}",
            reply.body
        );
    }
}
