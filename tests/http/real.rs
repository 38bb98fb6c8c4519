//! The same with a real model.

use serde_json::{Value, json};

use crate::support::{Call, Daemon, Setup};

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
fn a_model_takes_what_its_file_promised() {
    let daemon = Daemon::start(Setup::real());
    let promised = Setup::real().source.open("smollm2").unwrap().weight_bytes as f64;
    daemon.post(CHAT, &ask("What is the capital of France?", 1));
    let line = daemon.get("/v1/ps").json();
    let taken = line["data"][0]["weight_bytes"].as_f64();
    let taken = taken.unwrap_or_else(|| panic!("{line}"));
    assert!((taken / promised - 1.0).abs() < 0.05, "{taken} {promised}");
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

/// What a cache that was parked between turns says is what one says that reads the whole chat.
#[test]
fn a_session_says_what_the_whole_chat_would() {
    let daemon = Daemon::start(Setup::real());
    let ask = |messages: &Value, tokens: usize| json!({"messages": messages, "max_tokens": tokens, "temperature": 0, "kv": {"policy": "full"}});
    let answer = |ask: &Value| {
        let reply = daemon.post(CHAT, ask);
        assert_eq!(reply.status, 200, "{}", reply.body);
        reply.json()
    };
    let text = |answer: &Value| {
        let text = &answer["choices"][0]["message"]["content"];
        text.as_str().unwrap().to_owned()
    };
    // Answers that end by themselves and answers that are cut leave different tokens to be fed.
    for (name, tokens) in [("whole", 40), ("cut", 4)] {
        let mut said = Vec::new();
        for question in [
            "What is the capital of France? Answer in one word.",
            "And of Italy?",
            "Which of the two is larger?",
        ] {
            let new = json!({"role": "user", "content": question});
            said.push(new.clone());
            let whole = answer(&ask(&json!(said), tokens));
            let mut turn = ask(&json!([new]), tokens);
            turn["session"] = json!(name);
            let resumed = answer(&turn);
            assert_eq!(text(&resumed), text(&whole), "{name}: {question}");
            let usage = &resumed["usage"];
            assert_eq!(
                usage["prompt_tokens"], whole["usage"]["prompt_tokens"],
                "{name}"
            );
            let cached = usage["prompt_tokens_details"]["cached_tokens"]
                .as_u64()
                .unwrap();
            assert_eq!(cached > 0, said.len() > 1, "{name}: {usage}");
            said.push(json!({"role": "assistant", "content": text(&whole)}));
        }
    }
    // A file brings back what it was made of.
    let question = json!([{"role": "user", "content": "Name a river there."}]);
    let mut turn = ask(&question, 12);
    turn["session"] = json!("whole");
    let path = |what: &str| format!("/v1/sessions/whole/{what}");
    let saved = daemon.post(&path("save"), &json!({}));
    assert_eq!(saved.json()["saved"], true, "{}", saved.body);
    let first = text(&answer(&turn));
    let back = daemon.post(&path("restore"), &json!({}));
    assert_eq!(back.json()["turns"], 3, "{}", back.body);
    assert_eq!(text(&answer(&turn)), first);
    let erased = Call::new(daemon.address, "DELETE", "/v1/sessions/whole").send();
    assert_eq!(erased.status, 200, "{}", erased.body);
}
