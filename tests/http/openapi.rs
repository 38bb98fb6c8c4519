//! The description of the API as clients get it, and a real answer held against it.

use serde_json::{Value, json};

use super::support::{Call, Daemon, FakeSource, Setup};

/// A schema of the document that can be followed by itself: references are to the whole of it.
fn schema(document: &Value, name: &str) -> Value {
    let mut schema = document["components"]["schemas"][name].clone();
    schema["components"] = document["components"].clone();
    schema
}

#[test]
fn schemas_are_valid_and_an_answer_fits_its_own() {
    let daemon = Daemon::start(Setup::fake(FakeSource::default()).key("right"));
    let reply = Call::new(daemon.address, "GET", "/openapi.json").send();
    assert_eq!(reply.status, 200);
    let document = reply.json();
    assert_eq!(document["openapi"], "3.1.0");
    for name in document["components"]["schemas"]
        .as_object()
        .unwrap()
        .keys()
    {
        let schema = schema(&document, name);
        jsonschema::draft202012::new(&schema).unwrap_or_else(|error| panic!("{name}: {error}"));
    }
    let ask = json!({"messages": [{"role": "user", "content": "a"}], "max_tokens": 2});
    let fits = |name: &str, value: &Value| {
        jsonschema::draft202012::is_valid(&schema(&document, name), value)
    };
    assert!(fits("ChatRequest", &ask));
    assert!(!fits("ChatRequest", &json!({"messages": [], "n": 9})));
    let call = Call::json(daemon.address, "/v1/chat/completions", &ask);
    let answer = call.header("Authorization", "Bearer right").send();
    assert_eq!(answer.status, 200, "{}", answer.body);
    assert!(fits("ChatCompletion", &answer.json()), "{}", answer.body);
    let refused = Call::json(daemon.address, "/v1/chat/completions", &ask).send();
    assert!(fits("Error", &refused.json()), "{}", refused.body);
}
