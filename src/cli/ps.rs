//! `ps`: what the running server has loaded.

use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde_json::Value;
use ureq::Agent;

use super::daemon::Daemon;
use super::exit::Exit;
use super::flags::Global;
use super::host::Host;
use super::output;
use crate::config::Overrides;

/// The flags of `ps`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Ask the server at this address, such as http://127.0.0.1:8085, instead of the one of the home folder
    #[arg(long, value_name = "URL")]
    url: Option<String>,
    /// Print the server's own JSON
    #[arg(long)]
    json: bool,
}

/// Runs the command.
///
/// # Errors
/// When no server runs, or it does not answer as one.
pub(super) fn run(global: &Global, args: &Args) -> Result<Exit> {
    let host = Host::open(global, Overrides::new())?;
    let base = match &args.url {
        Some(url) => url.trim_end_matches('/').to_owned(),
        None => match Daemon::running(host.home()) {
            Some(daemon) => {
                let scheme = match host.settings().http.tls_cert {
                    Some(_) => "https",
                    None => "http",
                };
                format!("{scheme}://{}", daemon.reachable())
            }
            None => bail!(
                "no server runs from {}: start one with `llamahome serve`, or name another with --url",
                host.home().root().display()
            ),
        },
    };
    let key = host
        .settings()
        .http
        .api_key
        .as_ref()
        .map(|key| key.expose().to_owned());
    let answer = ask(&format!("{base}/v1/ps"), key.as_deref())?;
    if args.json {
        output::json(&answer)?;
    } else {
        output::text(&listing(&answer)?)?;
    }
    Ok(Exit::Done)
}

fn ask(url: &str, key: Option<&str>) -> Result<Value> {
    let config = Agent::config_builder()
        .timeout_global(Some(Duration::from_secs(10)))
        .http_status_as_error(false)
        .build();
    let mut request = Agent::new_with_config(config).get(url);
    if let Some(key) = key {
        request = request.header("Authorization", format!("Bearer {key}"));
    }
    let mut response = request
        .call()
        .with_context(|| format!("cannot ask {url}"))?;
    let status = response.status();
    let text = response
        .body_mut()
        .read_to_string()
        .with_context(|| format!("cannot read {url}"))?;
    if status == 401 {
        bail!("{url} asks for a key: set http.api_key to the one of the server");
    }
    if !status.is_success() {
        bail!("{url} answered {status}: is it a llamahome server?");
    }
    serde_json::from_str(&text)
        .with_context(|| format!("{url} did not answer with JSON: is it a llamahome server?"))
}

fn listing(answer: &Value) -> Result<String> {
    let models = answer.get("data").and_then(Value::as_array);
    let models = models.context("the answer has no list of models: is it a llamahome server?")?;
    let remotes = elsewhere(answer);
    if models.is_empty() {
        return Ok(format!("no model is loaded\n{remotes}"));
    }
    let row = |model: &Value| {
        let text = |key: &str| {
            model
                .get(key)
                .and_then(Value::as_str)
                .unwrap_or("-")
                .to_owned()
        };
        let number = |key: &str| model.get(key).and_then(Value::as_u64);
        let bytes = |key: &str| number(key).map_or("-".to_owned(), output::size);
        let count = |key: &str| number(key).map_or("-".to_owned(), |n| n.to_string());
        [
            text("name"),
            state(model),
            bytes("weight_bytes"),
            bytes("kv_bytes"),
            count("running"),
            count("waiting"),
            model
                .get("replicas")
                .and_then(Value::as_array)
                .map_or("-".to_owned(), |replicas| replicas.len().to_string()),
            number("idle_seconds").map_or("-".to_owned(), |s| format!("{s}s")),
            text("keep_alive"),
        ]
    };
    let rows: Vec<_> = models.iter().map(row).collect();
    let heading = [
        "NAME", "STATE", "WEIGHTS", "KV", "RUNNING", "WAITING", "REPLICAS", "IDLE", "KEPT",
    ];
    Ok(output::table(heading, &rows) + &remotes)
}

/// Replicas in other processes, if there are any.
fn elsewhere(answer: &Value) -> String {
    let remotes = answer.get("remotes").and_then(Value::as_array);
    let row = |remote: &Value| {
        let text = |key: &str| {
            let text = remote.get(key).and_then(Value::as_str);
            text.unwrap_or("-").to_owned()
        };
        let count = remote.get("running").and_then(Value::as_u64);
        let up = remote.get("up").and_then(Value::as_bool);
        [
            text("model"),
            text("url"),
            if up == Some(true) { "up" } else { "down" }.to_owned(),
            count.map_or("-".to_owned(), |n| n.to_string()),
            text("error"),
        ]
    };
    let rows: Vec<_> = remotes.into_iter().flatten().map(row).collect();
    if rows.is_empty() {
        return String::new();
    }
    let heading = ["MODEL", "ELSEWHERE", "STATE", "RUNNING", "ERROR"];
    format!("\n{}", output::table(heading, &rows))
}

/// Where a model is in its life, and how far a load is.
fn state(model: &Value) -> String {
    let state = model.get("state").and_then(Value::as_str).unwrap_or("-");
    match model.get("fraction").and_then(Value::as_f64) {
        Some(read) => format!("{state} {:.0}%", read * 100.0),
        None => state.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_listing_has_a_line_a_model() {
        let state = json!({"name": "m", "state": "loaded", "weight_bytes": 1024, "kv_bytes": 0, "running": 1,
            "waiting": 0, "idle_seconds": 3, "replicas": [{}, {}], "keep_alive": "5m", "fraction": null});
        let loading = json!({"name": "n", "state": "loading", "fraction": 0.42});
        let text = listing(&json!({ "data": [loading, state] })).unwrap();
        assert!(text.contains("loading 42%"), "{text}");
        let row: Vec<_> = text.lines().last().unwrap().split_whitespace().collect();
        assert_eq!(
            row,
            [
                "m", "loaded", "1.00", "KiB", "0", "B", "1", "0", "2", "3s", "5m"
            ]
        );
        let remote = json!({"model": "n", "url": "http://a/v1", "up": false, "running": 0, "error": "refused"});
        let text = listing(&json!({ "data": [], "remotes": [remote] })).unwrap();
        let last: Vec<_> = text.lines().last().unwrap().split_whitespace().collect();
        assert_eq!(last, ["n", "http://a/v1", "down", "0", "refused"]);
        assert!(listing(&json!({})).is_err());
        assert!(listing(&json!({"data": []})).unwrap().contains("no model"));
    }
}
