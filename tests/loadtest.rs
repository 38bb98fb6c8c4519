//! `loadtest` as a program: against a real daemon with a model that only counts, and against servers that misbehave.

mod support;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use serde_json::Value;
use support::{Daemon, FakeSource, Setup};

fn command(address: SocketAddr, flags: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_llamahome"));
    let ours = std::env::vars_os().filter(|(name, _)| {
        let name = name.to_string_lossy();
        name.starts_with("LLAMAHOME_") || name.starts_with("XDG_") || name == "LOADTEST_API_KEY"
    });
    for (name, _) in ours {
        command.env_remove(name);
    }
    command
        .args(["loadtest", &format!("http://{address}"), "--quiet"])
        .args(flags.split_whitespace())
        .env("LLAMAHOME_HOME", std::env::temp_dir())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

fn run(address: SocketAddr, flags: &str) -> Output {
    command(address, flags).output().unwrap()
}

/// The exit code and the report.
fn report(address: SocketAddr, flags: &str) -> (i32, Value) {
    let output = run(address, &format!("{flags} --model fake --json"));
    let report = serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|e| panic!("{e}: {}{}", text(&output.stdout), text(&output.stderr)));
    (output.status.code().unwrap(), report)
}

fn lines(path: &Path) -> Vec<Value> {
    let lines = std::fs::read_to_string(path).unwrap();
    lines
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

fn number(value: &Value) -> f64 {
    value
        .as_f64()
        .unwrap_or_else(|| panic!("{value} is no number"))
}

/// A daemon whose model takes so many milliseconds a step.
fn daemon(ms: u64) -> Daemon {
    Daemon::start(Setup::fake(FakeSource {
        delay: Duration::from_millis(ms),
        ..FakeSource::default()
    }))
}

#[test]
fn an_open_loop_is_measured() {
    let daemon = daemon(2);
    let folder = tempfile::tempdir().unwrap();
    let (requests, plot) = (folder.path().join("r.jsonl"), folder.path().join("p.svg"));
    let flags = format!(
        "--rate 40 --arrivals fixed --count 10 --prompt-tokens 8 --output-tokens 12 --ignore-eos --warmup 1 \
         --slo ttft_p99=60s --slo unserved=0% --requests {} --plot {}",
        requests.display(),
        plot.display()
    );
    let (code, report) = report(daemon.address, &flags);
    assert_eq!(code, 0, "{report}");
    assert_eq!(report["target"]["model"], "fake");
    assert_eq!(report["requests"]["served"], 10);
    assert_eq!(report["statuses"]["200"], 10);
    assert_eq!(report["tokens"]["output"], 120);
    assert_eq!(report["tokens"]["requests_counted_by_parts"], 0);
    assert_eq!(report["latency"]["ttft_s"]["count"], 10);
    assert_eq!(report["latency"]["itl_s"]["count"], 110);
    assert_eq!(report["goodput"]["requests"], 10);
    // Twelve tokens take at least twelve steps.
    assert!(number(&report["latency"]["e2e_from_send_s"]["p50"]) >= 0.024);
    // The last of ten arrivals at 40 a second comes after nine gaps.
    assert!((number(&report["load"]["arrival_s"]) - 0.225).abs() < 1e-6);
    let lines = lines(&requests);
    assert_eq!(lines.len(), 10);
    for line in &lines {
        assert_eq!(
            (&line["outcome"], &line["output_tokens"]),
            (&"served".into(), &12.into())
        );
        assert_eq!(line["finish_reason"], "length");
        assert_eq!(line["itl_s"].as_array().unwrap().len(), 11);
        let late = number(&line["ttft_s"]) - number(&line["ttft_from_send_s"]);
        assert!((late - number(&line["lag_s"])).abs() < 1e-5, "{line}");
    }
    assert!(
        std::fs::read_to_string(&plot)
            .unwrap()
            .starts_with("<svg role=\"img\"")
    );
}

#[test]
fn a_seed_gives_the_same_load_on_both_endpoints() {
    let daemon = daemon(0);
    let folder = tempfile::tempdir().unwrap();
    let asked = |endpoint: &str| -> Vec<(u64, u64, u64)> {
        let path = folder.path().join(endpoint);
        let flags = format!(
            "--rate 100 --arrivals gamma:2 --count 8 --prompt-tokens 2-9 --output-tokens zipf:1-9:1 --ignore-eos \
             --seed 4 --endpoint {endpoint} --requests {}",
            path.display()
        );
        let (code, report) = report(daemon.address, &flags);
        assert_eq!(
            (code, &report["requests"]["served"]),
            (0, &8.into()),
            "{report}"
        );
        let mut asked: Vec<_> = lines(&path)
            .iter()
            .map(|line| {
                let field = |name: &str| line[name].as_u64().unwrap();
                assert_eq!(field("output_tokens"), field("output_tokens_asked"));
                (
                    field("session"),
                    field("prompt_tokens_asked"),
                    field("prompt_tokens"),
                )
            })
            .collect();
        asked.sort_unstable();
        asked
    };
    assert_eq!(asked("chat"), asked("completions"));
}

#[test]
fn a_turn_sends_what_was_said_before() {
    let daemon = daemon(0);
    let folder = tempfile::tempdir().unwrap();
    let requests = folder.path().join("r.jsonl");
    let flags = format!(
        "--rate 100 --count 3 --turns 3 --think 20ms --prompt-tokens 4 --output-tokens 5 --ignore-eos --requests {}",
        requests.display()
    );
    let (code, report) = report(daemon.address, &flags);
    assert_eq!(
        (code, &report["requests"]["served"]),
        (0, &9.into()),
        "{report}"
    );
    for session in 0..3 {
        let own: Vec<Value> = lines(&requests)
            .into_iter()
            .filter(|line| line["session"] == session)
            .collect();
        let prompts: Vec<f64> = own
            .iter()
            .map(|line| number(&line["prompt_tokens"]))
            .collect();
        assert!(
            prompts[0] + 5.0 < prompts[1] && prompts[1] + 5.0 < prompts[2],
            "{prompts:?}"
        );
        // A turn is due after the answer before it, and the thinking.
        let ended = number(&own[0]["intended_s"]) + number(&own[0]["e2e_s"]);
        assert!((number(&own[1]["intended_s"]) - ended - 0.02).abs() < 1e-4);
    }
}

#[test]
fn a_closed_loop_holds_its_streams() {
    let daemon = daemon(2);
    let flags = "--concurrency 4 --count 12 --prompt-tokens 4 --output-tokens 6 --ignore-eos";
    let (code, report) = report(daemon.address, flags);
    assert_eq!(
        (code, &report["requests"]["served"]),
        (0, &12.into()),
        "{report}"
    );
    assert_eq!(report["load"]["in_flight_peak"], 4);
}

#[test]
fn a_trace_is_replayed() {
    let daemon = daemon(0);
    let folder = tempfile::tempdir().unwrap();
    let (trace, requests) = (folder.path().join("t.csv"), folder.path().join("r.jsonl"));
    std::fs::write(
        &trace,
        "arrived_at,num_prefill_tokens,num_decode_tokens\n7,3,4\n8,5,6\n",
    )
    .unwrap();
    let flags = format!(
        "--trace {} --speed 10 --ignore-eos --requests {}",
        trace.display(),
        requests.display()
    );
    let (code, report) = report(daemon.address, &flags);
    assert_eq!(
        (code, &report["tokens"]["output"]),
        (0, &10.into()),
        "{report}"
    );
    let intended: Vec<f64> = lines(&requests)
        .iter()
        .map(|line| number(&line["intended_s"]))
        .collect();
    assert_eq!(intended, [0.0, 0.1]);
}

#[test]
fn a_full_server_refuses_and_breaks_the_goal() {
    let mut setup = Setup::fake(FakeSource {
        delay: Duration::from_millis(20),
        ..FakeSource::default()
    });
    setup.sections.scheduler.max_batch = 1;
    setup.sections.scheduler.max_queue = 1;
    let daemon = Daemon::start(setup);
    let flags = "--rate 100 --count 40 --prompt-tokens 4 --output-tokens 10 --ignore-eos --slo unserved=10%";
    let (code, told) = report(daemon.address, flags);
    assert_eq!(code, 1, "{told}");
    let refused = number(&told["requests"]["refused"]);
    assert!(
        refused >= 20.0 && number(&told["requests"]["served"]) >= 1.0,
        "{told}"
    );
    assert_eq!(number(&told["refusals"]["latency_s"]["count"]), refused);
    assert!(number(&told["refusals"]["retry_after_s"]["p50"]) >= 1.0);
    assert!(
        told["messages"]["refused"]
            .as_str()
            .unwrap()
            .contains("queue")
    );
    assert_eq!(told["slos"][0]["met"], false);
    let shown = run(daemon.address, &format!("{flags} --model fake"));
    assert!(
        text(&shown.stdout).contains("goal unserved=10%: BROKEN"),
        "{}",
        text(&shown.stdout)
    );
}

#[test]
fn keys_are_sent_and_told_apart() {
    let daemon = Daemon::start(Setup::fake(FakeSource::default()).key("sk-1"));
    let shape =
        "--rate 50 --count 12 --arrivals fixed --prompt-tokens 4 --output-tokens 4 --ignore-eos";
    let (code, told) = report(daemon.address, shape);
    assert_eq!(
        (code, &told["errors"]["status"], &told["statuses"]["401"]),
        (1, &12.into(), &12.into())
    );
    let (code, told) = report(daemon.address, &format!("{shape} --api-key sk-1"));
    assert_eq!(
        (code, &told["requests"]["served"]),
        (0, &12.into()),
        "{told}"
    );
    let keys = "--key light=1:sk-1 --key heavy=3:sk-1 --key wrong=2:sk-2";
    let (code, told) = report(daemon.address, &format!("{shape} {keys}"));
    assert_eq!(code, 0, "{told}");
    let of_keys: Vec<_> = told["fairness"]["keys"]
        .as_array()
        .unwrap()
        .iter()
        .map(|key| {
            (
                key["name"].as_str().unwrap(),
                key["sent"].as_u64(),
                key["served"].as_u64(),
            )
        })
        .collect();
    assert_eq!(
        of_keys,
        [
            ("light", Some(2), Some(2)),
            ("heavy", Some(6), Some(6)),
            ("wrong", Some(4), Some(0))
        ]
    );
    assert!(
        !told.to_string().contains("sk-"),
        "a secret is told: {told}"
    );
}

#[test]
fn left_requests_leave_nothing_behind() {
    let daemon = daemon(5);
    let flags = "--rate 100 --count 40 --abort-rate 1 --abort-within 300ms --prompt-tokens 8 --output-tokens 100 \
                 --ignore-eos";
    let (code, report) = report(daemon.address, flags);
    assert_eq!(code, 0, "{report}");
    let (aborted, served) = (
        number(&report["requests"]["aborted"]),
        number(&report["requests"]["served"]),
    );
    assert!(aborted >= 35.0 && aborted + served == 40.0, "{report}");
    daemon.wait_busy((0, 0), Duration::from_secs(5));
}

#[test]
fn an_interrupted_run_is_reported() {
    let daemon = daemon(1);
    let mut child = command(
        daemon.address,
        "--rate 20 --duration 10m --prompt-tokens 4 --output-tokens 4 --model fake --json",
    );
    let child = child.spawn().unwrap();
    let generated = || -> f64 {
        let metrics = daemon.get("/metrics").body;
        let line = metrics
            .lines()
            .find(|line| !line.starts_with('#') && line.contains("generated_tokens_total"));
        line.and_then(|line| line.rsplit(' ').next()?.parse().ok())
            .unwrap_or(0.0)
    };
    let until = Instant::now() + Duration::from_secs(60);
    while generated() < 12.0 {
        assert!(Instant::now() < until, "nothing is asked of the daemon");
        std::thread::sleep(Duration::from_millis(20));
    }
    let pid = child.id().to_string();
    assert!(
        Command::new("kill")
            .args(["-INT", &pid])
            .status()
            .unwrap()
            .success()
    );
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(130), "{}", text(&output.stderr));
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert!(number(&report["requests"]["served"]) >= 1.0, "{report}");
    assert!(number(&report["load"]["arrival_s"]) < 600.0);
}

/// A server of one answer, for as many connections as come.
fn server(answer: impl Fn(TcpStream) + Send + Sync + 'static) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let answer = Arc::new(answer);
    std::thread::spawn(move || {
        for socket in listener.incoming().flatten() {
            let answer = answer.clone();
            std::thread::spawn(move || answer(socket));
        }
    });
    address
}

/// Reads one request. `None` at the end of the connection.
fn request(socket: &TcpStream) -> Option<String> {
    let mut reader = BufReader::new(socket);
    let mut length = 0;
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line).ok()? == 0 {
            return None;
        }
        if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse().unwrap();
        }
        if line == "\r\n" {
            break;
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    String::from_utf8(body).ok()
}

const STREAM: &str =
    "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n";
const PART: &str = "data: {\"choices\":[{\"delta\":{\"content\":\"a\"}}]}\n\n";

/// A server that answers each request with these bytes and closes.
fn saying(answer: String) -> SocketAddr {
    server(move |mut socket| {
        if request(&socket).is_some() {
            let _ = socket.write_all(answer.as_bytes());
        }
    })
}

#[test]
fn each_fault_is_counted_by_its_name() {
    let gone = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let silent = server(|socket| {
        let _ = request(&socket);
        std::thread::sleep(Duration::from_secs(5));
    });
    let chunked = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\nffff\r\n";
    let error = "{\"error\":{\"message\":\"broke\",\"code\":\"internal\"}}";
    let cases = [
        (gone, "connect", "refused"),
        (silent, "timeout", "400ms"),
        (saying(String::new()), "closed", ""),
        (
            saying(format!(
                "HTTP/1.1 500 No\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{error}",
                error.len()
            )),
            "status",
            "broke",
        ),
        (
            saying(
                "HTTP/1.1 404 No\r\nConnection: close\r\nContent-Length: 2\r\n\r\nno".to_owned(),
            ),
            "status",
            "404",
        ),
        (
            saying(format!("{STREAM}{PART}{PART}")),
            "truncated",
            "before the answer did",
        ),
        (saying(format!("{chunked}{PART}")), "truncated", ""),
        (
            saying(format!("{STREAM}{PART}data: {{\n\n")),
            "malformed",
            "JSON",
        ),
        (
            saying(format!("{STREAM}data: \u{fffd}\n\n")),
            "malformed",
            "JSON",
        ),
        (
            saying(format!("{STREAM}{PART}data: {error}\n\n")),
            "stream_error",
            "broke",
        ),
        (
            saying(
                "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\n{}".to_owned(),
            ),
            "malformed",
            "no stream",
        ),
        (saying("SSH-2.0-OpenSSH\r\n".to_owned()), "closed", ""),
    ];
    for (address, name, message) in cases {
        let flags = "--rate 100 --count 3 --timeout 400ms";
        let (code, report) = report(address, flags);
        assert_eq!(code, 1, "{name}: {report}");
        assert_eq!(report["errors"][name], 3, "{name}: {report}");
        assert_eq!(report["requests"]["failed"], 3);
        let told = report["messages"][name].as_str().unwrap();
        assert!(told.contains(message), "{name}: {told}");
    }
}

#[test]
fn bytes_that_are_no_text_are_malformed() {
    let address = server(|mut socket| {
        if request(&socket).is_some() {
            let _ = socket.write_all(STREAM.as_bytes());
            let _ = socket.write_all(b"data: \xff\xfe\n\n");
        }
    });
    let (code, report) = report(address, "--rate 100 --count 3");
    assert_eq!(
        (code, &report["errors"]["malformed"]),
        (1, &3.into()),
        "{report}"
    );
}

#[test]
fn a_slow_answer_counts_from_its_arrival() {
    let address = server(|mut socket| {
        if request(&socket).is_some() {
            let _ = socket.write_all(STREAM.as_bytes());
            std::thread::sleep(Duration::from_millis(200));
            let _ = socket.write_all(format!("{PART}{PART}data: [DONE]\n\n").as_bytes());
        }
    });
    let flags = "--rate 100 --count 5 --slo ttft_p50=100ms";
    let (code, report) = report(address, flags);
    assert_eq!(
        (code, &report["requests"]["served"]),
        (1, &5.into()),
        "{report}"
    );
    assert!(number(&report["latency"]["ttft_s"]["p50"]) >= 0.2);
    assert_eq!(report["goodput"]["requests"], 0);
    // Without usage, parts are counted, and the report says so.
    assert_eq!(
        (
            &report["tokens"]["output"],
            report["warnings"].as_array().unwrap().len()
        ),
        (&10.into(), 1)
    );
}

#[test]
fn the_capacity_of_a_server_is_found() {
    // Refuses what comes while three others are answered.
    let busy = AtomicUsize::new(0);
    let address = server(move |mut socket| {
        if request(&socket).is_none() {
            return;
        }
        let before = busy.fetch_add(1, Ordering::SeqCst);
        std::thread::sleep(Duration::from_millis(60));
        busy.fetch_sub(1, Ordering::SeqCst);
        let answer = match before {
            0..3 => format!("{STREAM}{PART}data: [DONE]\n\n"),
            _ => "HTTP/1.1 429 Busy\r\nRetry-After: 0\r\nContent-Length: 0\r\n\r\n".to_owned(),
        };
        let _ = socket.write_all(answer.as_bytes());
    });
    let flags = "--find-capacity --concurrency 1 --count 12 --slo e2e_p99=60s";
    let (code, report) = report(address, flags);
    assert_eq!(code, 0, "{report}");
    assert_eq!(
        (&report["capacity"], &report["broke_at"]),
        (&3.0.into(), &4.0.into()),
        "{report}"
    );
    let loads: Vec<f64> = report["trials"]
        .as_array()
        .unwrap()
        .iter()
        .map(|trial| number(&trial["load"]))
        .collect();
    assert_eq!(loads, [1.0, 2.0, 4.0, 3.0]);
    assert_eq!(report["report"]["load"]["load"], 3.0);
    assert_eq!(report["complete"], true);
}

#[test]
fn the_model_is_the_only_one_that_is_listed() {
    let listing = |models: &str| {
        let models = models.to_owned();
        server(move |mut socket| {
            let Some(asked) = request(&socket) else {
                return;
            };
            let answer = match asked.as_str() {
                "" => {
                    format!("HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n{{\"data\":[{models}]}}")
                }
                _ => format!("{STREAM}{PART}data: [DONE]\n\n"),
            };
            let _ = socket.write_all(answer.as_bytes());
        })
    };
    let one = run(listing("{\"id\":\"solo\"}"), "--rate 50 --count 2");
    assert_eq!(one.status.code(), Some(0), "{}", text(&one.stderr));
    assert!(text(&one.stdout).starts_with("solo at http://127.0.0.1:"));
    for (models, part) in [
        ("", "lists none"),
        (
            "{\"id\":\"a\"},{\"id\":\"b\"}",
            "several: a, b; name one with --model",
        ),
    ] {
        let output = run(listing(models), "--count 1");
        assert_eq!(output.status.code(), Some(1));
        assert!(
            text(&output.stderr).contains(part),
            "{}",
            text(&output.stderr)
        );
    }
}

#[test]
fn a_wrong_line_is_told_before_any_load() {
    let daemon = daemon(0);
    for (flags, part) in [
        ("--slo ttft=1s", "ttft_p99=0.5s"),
        ("--rate 0", "a number above 0"),
        ("--header nonsense", "Name: value"),
        (
            "--find-capacity --slo ttft_p99=1s --rate 9 --most 4 --model fake",
            "--most 4",
        ),
    ] {
        let output = run(daemon.address, flags);
        assert_eq!(
            output.status.code(),
            Some(2),
            "{flags}: {}",
            text(&output.stderr)
        );
        assert!(
            text(&output.stderr).contains(part),
            "{flags}: {}",
            text(&output.stderr)
        );
    }
    let output = run(
        daemon.address,
        "--count 1 --model fake --plot /no/such/folder/p.svg",
    );
    assert_eq!(output.status.code(), Some(1));
    assert!(
        text(&output.stderr).contains("cannot write"),
        "{}",
        text(&output.stderr)
    );
}
