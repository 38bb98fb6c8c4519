//! What operators are given names things that exist.

use std::collections::BTreeSet;

use serde_json::{Value, json};

mod support;
use support::{Call, Daemon, FakeSource, LETTER_A, Setup};

/// Names of our metrics in a text.
fn named(text: &str) -> BTreeSet<String> {
    let pattern = regex::Regex::new(r"llamahome_[a-z_]+").unwrap();
    let whole = |name: &str| {
        let name = ["_bucket", "_sum", "_count"]
            .iter()
            .find_map(|end| name.strip_suffix(end))
            .unwrap_or(name);
        name.to_owned()
    };
    pattern
        .find_iter(text)
        .map(|found| whole(found.as_str()))
        .collect()
}

#[test]
fn dashboards_and_alerts_ask_for_metrics_that_there_are() {
    let daemon = Daemon::start(Setup::fake(FakeSource {
        poison: Some(LETTER_A + 25),
        ..FakeSource::default()
    }));
    daemon.post("/v1/completions", &json!({"prompt": "a", "max_tokens": 3}));
    // Some are there once it happened: a request that is turned away, a worker that is lost.
    daemon.post("/v1/completions", &json!({"prompt": "z", "max_tokens": 3}));
    daemon.post("/v1/completions", &json!({"prompt": "a", "max_tokens": 3}));
    let stranger =
        Call::new(daemon.address, "GET", "/v1/models").header("Origin", "http://evil.example");
    assert_eq!(stranger.send().status, 403);
    let metrics = daemon.get("/metrics").body;
    let known: BTreeSet<String> = metrics
        .lines()
        .filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next())
        .map(str::to_owned)
        .collect();
    for (file, text) in [
        ("alerts.yml", include_str!("../packaging/alerts.yml")),
        ("grafana.json", include_str!("../packaging/grafana.json")),
    ] {
        let asked = named(text);
        assert!(asked.len() > 5, "{file}: {asked:?}");
        let missing: Vec<_> = asked.difference(&known).collect();
        assert!(missing.is_empty(), "{file}: {missing:?} of {known:?}");
    }
    let dashboard: Value = serde_json::from_str(include_str!("../packaging/grafana.json")).unwrap();
    let ids: Vec<u64> = dashboard["panels"]
        .as_array()
        .unwrap()
        .iter()
        .map(|panel| panel["id"].as_u64().unwrap())
        .collect();
    assert_eq!(
        ids.len(),
        ids.iter().collect::<BTreeSet<_>>().len(),
        "{ids:?}"
    );
}

#[test]
fn the_container_and_the_unit_start_what_there_is() {
    let unit = include_str!("../packaging/llamahome.service");
    let container = include_str!("../packaging/Dockerfile");
    assert!(
        unit.contains("Type=notify") && unit.contains("llamahome serve"),
        "{unit}"
    );
    // The flags that they give are flags of the command.
    let help = std::process::Command::new(env!("CARGO_BIN_EXE_llamahome"))
        .args(["serve", "--help"])
        .output()
        .unwrap();
    let help = String::from_utf8(help.stdout).unwrap();
    let compose = include_str!("../packaging/compose.yaml");
    let flags = regex::Regex::new(r#""(--[a-z-]+)""#).unwrap();
    for text in [container, compose] {
        for flag in flags.captures_iter(text) {
            assert!(help.contains(&flag[1]), "{}: {help}", &flag[1]);
        }
    }
    let address = regex::Regex::new("EXPOSE ([0-9]+)").unwrap();
    let port = llamahome::http::Config::default().port.to_string();
    assert_eq!(&address.captures(container).unwrap()[1], port);
    assert!(compose.contains(&format!("{port}:{port}")), "{compose}");
}
