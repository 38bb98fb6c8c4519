//! Functions that are called: by a model that has to, over a socket.

use serde_json::{Value, json};

use crate::support::{Daemon, FakeSource, Setup};

const CHAT: &str = "/v1/chat/completions";

fn tools() -> Value {
    json!([
        {"type": "function", "function": {"name": "get_weather", "description": "The weather of a city", "strict": true,
            "parameters": {"type": "object", "properties": {"city": {"type": "string", "maxLength": 12},
                "unit": {"enum": ["celsius", "fahrenheit"]}}, "required": ["city", "unit"], "additionalProperties": false}}},
        {"type": "function", "function": {"name": "now"}}
    ])
}

fn ask(more: Value) -> Value {
    let mut ask = json!({"messages": [{"role": "user", "content": "What is the weather in Paris?"}], "tools": tools(),
        "max_tokens": 160, "temperature": 0});
    ask.as_object_mut()
        .unwrap()
        .extend(more.as_object().unwrap().clone());
    ask
}

fn is_weather(arguments: &str) -> bool {
    let value: Value =
        serde_json::from_str(arguments).unwrap_or_else(|error| panic!("{error}: {arguments}"));
    let unit = value["unit"].as_str().unwrap();
    value["city"].is_string()
        && ["celsius", "fahrenheit"].contains(&unit)
        && value.as_object().unwrap().len() == 2
}

/// Calls of a stream, put together as clients do it: id and name once, arguments in pieces.
fn put_together(chunks: &[Value]) -> Vec<(String, String, String)> {
    let mut calls: Vec<(String, String, String)> = Vec::new();
    for chunk in chunks {
        let Some(deltas) = chunk["choices"][0]["delta"]["tool_calls"].as_array() else {
            continue;
        };
        for delta in deltas {
            let index = delta["index"].as_u64().unwrap() as usize;
            let function = &delta["function"];
            if let Some(id) = delta["id"].as_str() {
                assert_eq!(
                    (index, &delta["type"]),
                    (calls.len(), &json!("function")),
                    "{delta}"
                );
                let name = function["name"].as_str().unwrap().to_owned();
                calls.push((id.to_owned(), name, String::new()));
            } else {
                assert!(function["name"].is_null(), "{delta}");
            }
            calls[index].2 += function["arguments"].as_str().unwrap();
        }
    }
    calls
}

#[test]
fn a_call_that_is_required_is_made_and_its_result_is_heard() {
    let daemon = Daemon::start(Setup::real());
    let named = json!({"tool_choice": {"type": "function", "function": {"name": "get_weather"}}});
    let reply = daemon.post(CHAT, &ask(named.clone()));
    assert_eq!(reply.status, 200, "{}", reply.body);
    let answer = reply.json();
    let choice = &answer["choices"][0];
    assert_eq!(choice["finish_reason"], "tool_calls", "{answer}");
    let message = &choice["message"];
    assert!(
        message["content"].is_null() && message.get("content").is_some(),
        "{message}"
    );
    let calls = message["tool_calls"].as_array().unwrap();
    assert_eq!(calls.len(), 1);
    let call = &calls[0];
    assert!(call["id"].as_str().unwrap().starts_with("call_"), "{call}");
    assert_eq!(
        (call.get("index"), &call["type"]),
        (None, &json!("function"))
    );
    assert_eq!(call["function"]["name"], "get_weather");
    let arguments = call["function"]["arguments"].as_str().unwrap();
    assert!(is_weather(arguments), "{arguments}");

    let chunks = daemon.stream(CHAT, &ask(named)).events();
    let streamed = put_together(&chunks);
    assert_eq!(
        (
            streamed.len(),
            streamed[0].1.as_str(),
            streamed[0].2.as_str()
        ),
        (1, "get_weather", arguments)
    );
    let pieces = chunks
        .iter()
        .filter(|c| c["choices"][0]["delta"]["tool_calls"].is_array());
    assert!(pieces.count() > 3, "the arguments come in pieces");
    let last = chunks
        .iter()
        .rev()
        .find(|chunk| !chunk["choices"][0]["finish_reason"].is_null());
    assert_eq!(last.unwrap()["choices"][0]["finish_reason"], "tool_calls");

    // The same messages as a client sends them back, with the result.
    let result =
        json!({"role": "tool", "tool_call_id": call["id"], "content": "18 degrees and sunny"});
    let question = json!({"role": "user", "content": "What is the weather in Paris?"});
    let chat =
        json!({"messages": [question, message, result], "tool_choice": "none", "max_tokens": 12});
    let reply = daemon.post(CHAT, &ask(chat));
    assert_eq!(reply.status, 200, "{}", reply.body);
    let choice = &reply.json()["choices"][0];
    assert!(
        choice["message"]["content"].is_string() && choice["message"].get("tool_calls").is_none(),
        "{choice}"
    );
}

#[test]
fn any_of_them_is_called_at_any_temperature() {
    let daemon = Daemon::start(Setup::real());
    for seed in 1..4 {
        let hot = json!({"tool_choice": "required", "parallel_tool_calls": false, "temperature": 1, "top_k": 0, "top_p": 1,
            "min_p": 0, "seed": seed});
        let answer = daemon.post(CHAT, &ask(hot)).json();
        let calls = &answer["choices"][0]["message"]["tool_calls"];
        assert_eq!(calls.as_array().map(Vec::len), Some(1), "{answer}");
        let function = &calls[0]["function"];
        let arguments = function["arguments"].as_str().unwrap();
        match function["name"].as_str().unwrap() {
            "get_weather" => assert!(is_weather(arguments), "{arguments}"),
            "now" => assert_eq!(serde_json::from_str::<Value>(arguments).unwrap(), json!({})),
            other => panic!("{other}"),
        }
    }
    // Left to itself it may talk or call; what it calls is right.
    let answer = daemon.post(CHAT, &ask(json!({"max_tokens": 40}))).json();
    let choice = &answer["choices"][0];
    let reason = choice["finish_reason"].as_str().unwrap();
    assert!(
        ["stop", "length", "tool_calls"].contains(&reason),
        "{answer}"
    );
    // A call that is cut is shown as far as it came.
    let cut = json!({"tool_choice": "required", "max_tokens": 4});
    let answer = daemon.post(CHAT, &ask(cut)).json();
    assert_eq!(answer["choices"][0]["finish_reason"], "length", "{answer}");
}

#[test]
fn what_is_wrong_with_tools_is_named() {
    let daemon = Daemon::start(Setup::fake(FakeSource::default()));
    let one = |function: Value| json!({"tools": [{"type": "function", "function": function}]});
    for (change, code, param) in [
        (
            json!({"tools": [{"type": "retrieval"}]}),
            "unsupported_parameter",
            "tools[0].type",
        ),
        (
            one(json!({"name": "a b"})),
            "invalid_value",
            "tools[0].function.name",
        ),
        (
            one(json!({"name": "f", "parameters": {"type": "array"}})),
            "invalid_value",
            "tools#/0/function/parameters/type",
        ),
        (
            one(json!({"name": "f", "parameters": {"properties": {"x": {"not": {}}}}})),
            "invalid_value",
            "tools#/0/function/parameters/properties/x/not",
        ),
        (
            json!({"tools": [tools()[1], {"type": "function", "function": {"name": "g", "parameters": {"not": {}}}}],
                "tool_choice": {"type": "function", "function": {"name": "g"}}}),
            "invalid_value",
            "tools#/1/function/parameters/not",
        ),
        (
            json!({"tool_choice": "perhaps"}),
            "invalid_value",
            "tool_choice",
        ),
        (
            json!({"tools": [], "tool_choice": "required"}),
            "invalid_value",
            "tool_choice",
        ),
        (
            json!({"response_format": {"type": "json_object"}}),
            "invalid_value",
            "response_format",
        ),
        (json!({"ignore_eos": true}), "invalid_value", "ignore_eos"),
        (
            json!({"messages": [{"role": "assistant", "tool_calls": [{"function": {"name": "f", "arguments": "{"}}]}]}),
            "invalid_value",
            "messages[0].tool_calls[0].function.arguments",
        ),
    ] {
        let reply = daemon.post(CHAT, &ask(change.clone()));
        assert_eq!(
            reply.error(),
            (400, code.to_owned(), Some(param.to_owned())),
            "{change}: {}",
            reply.body
        );
    }
    let text = json!({"prompt": "a", "tools": tools()});
    let reply = daemon.post("/v1/completions", &text);
    assert_eq!(
        reply.error(),
        (
            400,
            "unsupported_parameter".to_owned(),
            Some("tools".to_owned())
        )
    );
}
