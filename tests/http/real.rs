//! The same with a real model.

use serde_json::{Value, json};

use crate::support::{Daemon, Setup};

const CHAT: &str = "/v1/chat/completions";

fn ask(question: &str, seed: u64) -> Value {
    json!({"model": "smollm2", "messages": [{"role": "user", "content": question}], "max_tokens": 12, "seed": seed,
        "temperature": 0.8, "kv": {"policy": "h2o", "budget": 24}})
}

fn text(chunks: &[Value]) -> String {
    let piece = |chunk: &Value| {
        chunk["choices"][0]["delta"]["content"]
            .as_str()
            .unwrap_or_default()
            .to_owned()
    };
    chunks.iter().map(piece).collect()
}

#[test]
fn two_streams_together_say_what_each_says_alone() {
    let daemon = Daemon::start(Setup::real());
    let asks = [
        ask("What is the capital of France?", 1),
        ask("Name three colours.", 2),
    ];
    let alone: Vec<String> = asks
        .iter()
        .map(|ask| text(&daemon.stream(CHAT, ask).events()))
        .collect();
    let together: Vec<String> = std::thread::scope(|scope| {
        let streams: Vec<_> = asks
            .iter()
            .map(|ask| scope.spawn(|| text(&daemon.stream(CHAT, ask).events())))
            .collect();
        streams
            .into_iter()
            .map(|stream| stream.join().unwrap())
            .collect()
    });
    assert_eq!(together, alone);
    assert!(
        alone.iter().all(|text| !text.is_empty()) && alone[0] != alone[1],
        "{alone:?}"
    );
    let whole = daemon.post(CHAT, &asks[0]).json();
    assert_eq!(whole["choices"][0]["message"]["content"], alone[0].as_str());
    assert_eq!(whole["kv"]["budget"], 24);
    assert_eq!(whole["kv"]["tokens_kept"], 24);
}
