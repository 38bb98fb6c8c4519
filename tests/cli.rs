//! The real binary, with a home of its own whose only model is the test model.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::{Mutex, MutexGuard, OnceLock};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tempfile::TempDir;

mod support;

const PATIENCE: Duration = Duration::from_secs(180);

/// A home folder and the way to run the program in it.
struct Home(TempDir);

impl Home {
    fn empty() -> Home {
        Home(tempfile::tempdir().unwrap())
    }

    /// A home in which the test model is installed as `smollm2`, by link.
    fn with_model() -> Home {
        let home = Home::empty();
        let pulled = home.run(&["pull", &test_model(), "--as", "smollm2", "--link"]);
        assert_eq!(
            text(&pulled.stdout),
            "smollm2\n",
            "{}",
            text(&pulled.stderr)
        );
        home
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = support::in_home(support::PROGRAM, self.0.path());
        command
            .args(args)
            .env("LLAMAHOME_SAMPLING__TEMPERATURE", "0")
            .env("LLAMAHOME_RUNTIME__DRAIN_TIMEOUT", "170s")
            // On a machine that is busy with other tests, more threads wait for the one that has no cpu.
            .env("LLAMAHOME_MODEL__THREADS", "1")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }

    fn run(&self, args: &[&str]) -> Output {
        self.command(args).output().unwrap()
    }

    fn fed(&self, args: &[&str], input: &str) -> Output {
        feed(self.command(args), input)
    }

    fn model_file(&self) -> PathBuf {
        let folder = self.0.path().join("models/smollm2");
        let mut files = std::fs::read_dir(folder)
            .unwrap()
            .map(|entry| entry.unwrap().path());
        files
            .find(|path| path.extension().is_some_and(|e| e == "gguf"))
            .unwrap()
    }
}

/// The home that tests share which only read.
fn shared() -> &'static Home {
    static HOME: OnceLock<Home> = OnceLock::new();
    HOME.get_or_init(Home::with_model)
}

fn feed(mut command: Command, input: &str) -> Output {
    let mut child = command.stdin(Stdio::piped()).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(input.as_bytes()).unwrap();
    drop(stdin);
    child.wait_with_output().unwrap()
}

/// Held while a test computes: two models at a time would only wait for each other's threads.
fn alone() -> MutexGuard<'static, ()> {
    static COMPUTE: Mutex<()> = Mutex::new(());
    COMPUTE
        .lock()
        .unwrap_or_else(|poisoned| poisoned.into_inner())
}

fn test_model() -> String {
    support::test_model().display().to_string()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

fn parsed(output: &Output) -> Value {
    let shown = text(&output.stdout);
    serde_json::from_str(&shown).unwrap_or_else(|e| panic!("{e}: {shown}{}", text(&output.stderr)))
}

fn code(output: &Output) -> i32 {
    output.status.code().unwrap()
}

#[test]
fn each_piped_line_is_answered_in_one_conversation() {
    let _alone = alone();
    let asked = "What is the capital of France? Answer in one word.\n\n";
    let mut piped = shared().command(&[]);
    piped.env_remove("LLAMAHOME_SAMPLING__TEMPERATURE");
    let output = feed(piped, asked);
    assert_eq!(code(&output), 0, "{}", text(&output.stderr));
    let answer = text(&output.stdout);
    assert!(
        answer.contains("Paris") && answer.ends_with('\n'),
        "{answer}"
    );
}

#[test]
fn a_second_line_reads_only_what_is_new() {
    let _alone = alone();
    let asked = "My name is Ada. Remember it.\nWhat is my name?\n";
    let args = ["chat", "smollm2", "--json", "--max-tokens", "24"];
    let output = shared().fed(&args, asked);
    assert_eq!(code(&output), 0, "{}", text(&output.stderr));
    let shown = text(&output.stdout);
    let answers: Vec<Value> = shown
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let [first, second] = &answers[..] else {
        panic!("two lines, two answers: {shown}");
    };
    let count = |answer: &Value, name: &str| answer["usage"][name].as_u64().unwrap();
    assert_eq!(count(first, "cached_tokens"), 0);
    let seen = count(first, "prompt_tokens") + count(first, "completion_tokens") - 1;
    assert_eq!(count(second, "cached_tokens"), seen, "{shown}");
    assert!(count(second, "prompt_tokens") > seen);
    assert!(!second["text"].as_str().unwrap().is_empty(), "{shown}");
}

#[test]
fn run_tells_what_it_cost_and_what_was_evicted() {
    let _alone = alone();
    let args = [
        "run",
        "smollm2",
        "Count",
        "to",
        "ten.",
        "--json",
        "--max-tokens",
        "6",
    ];
    let kv = ["--kv-heavy", "8", "--kv-recent", "8", "--dtype", "float32"];
    let output = shared().run(&[&args[..], &kv].concat());
    assert_eq!(code(&output), 0, "{}", text(&output.stderr));
    let answer = parsed(&output);
    assert_eq!(answer["model"], "smollm2");
    assert_eq!(answer["finish_reason"], "length");
    assert_eq!(answer["usage"]["completion_tokens"], 6);
    assert!(!answer["text"].as_str().unwrap().is_empty());
    let kv = &answer["kv"];
    assert_eq!(
        (&kv["policy"], &kv["budget"]),
        (&json!("hybrid"), &json!(16))
    );
    assert_eq!(kv["tokens_kept"], 16);
    assert!(kv["evicted"].as_u64().unwrap() > 0);
    assert!(answer["timings"]["total_ms"].as_f64().unwrap() > 0.0);
}

#[test]
fn a_raw_prompt_is_read_from_standard_input_and_stops_at_a_text() {
    let _alone = alone();
    let args = [
        "run",
        "smollm2",
        "--raw",
        "-",
        "--max-tokens",
        "8",
        "--stop",
        "4",
    ];
    let output = shared().fed(&args, "1, 2, 3,");
    assert_eq!(code(&output), 0, "{}", text(&output.stderr));
    assert_eq!(text(&output.stdout), " \n");
}

#[test]
fn tokens_are_the_published_ones() {
    let output = shared().fed(&["tokenize", "smollm2", "--json"], "Hello, world!");
    assert_eq!(text(&output.stdout), "{\"ids\":[19556,28,905,17]}\n");
    let with_newline = shared().fed(&["tokenize", "smollm2", "--json"], "Hello, world!\n");
    assert_eq!(parsed(&with_newline)["ids"].as_array().unwrap().len(), 5);
    let lines = shared().fed(&["tokenize", "smollm2", "--bos"], "Hello");
    assert_eq!(
        text(&lines.stdout),
        "1\t\"<|im_start|>\"\n19556\t\"Hello\"\n"
    );
}

#[test]
fn the_template_ends_where_the_answer_begins() {
    let messages =
        r#"[{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi"}]"#;
    let expected = "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n";
    let output = shared().fed(&["template", "smollm2"], messages);
    assert_eq!(text(&output.stdout), expected);
    let request = format!("{{\"messages\": {messages}}}");
    let output = shared().fed(&["template", "smollm2", "--json"], &request);
    assert_eq!(parsed(&output)["text"], expected);
    let bad = shared().fed(&["template", "smollm2"], "{}");
    assert_eq!(code(&bad), 1);
}

#[test]
fn usage_errors_and_failures_have_codes_of_their_own() {
    let home = shared();
    for args in [
        &["--no-such-flag"][..],
        &["run", "smollm2", "x", "--kv-policy", "some"],
        &["run", "smollm2", "x", "--temperature", "9"],
        &["run", "smollm2", "x", "--kv-budget", "many"],
        &["pull", "smollm2", "--link"],
        &["completions", "cobol"],
    ] {
        let output = home.run(args);
        assert_eq!(code(&output), 2, "{args:?}: {}", text(&output.stderr));
        assert!(output.stdout.is_empty(), "{args:?}");
    }
    for (args, hint) in [
        (&["run", "smolm2", "x"][..], "did you mean \"smollm2\""),
        (&["run", "zzz", "x"], "llamahome list"),
        (&["show", "./none.gguf"], "no such path"),
        (&["rm", "zzz"], "no model"),
        (&["ps"], "llamahome serve"),
    ] {
        let output = home.run(args);
        let said = text(&output.stderr);
        assert_eq!(code(&output), 1, "{args:?}: {said}");
        assert!(
            said.starts_with("error: ") && said.contains(hint),
            "{args:?}: {said}"
        );
    }
}

#[test]
fn a_model_comes_and_goes() {
    let home = Home::empty();
    assert_eq!(parsed(&home.run(&["list", "--json"])), json!([]));
    let wrong = "0".repeat(64);
    let refused = home.run(&[
        "pull",
        &test_model(),
        "--as",
        "m",
        "--link",
        "--sha256",
        &wrong,
    ]);
    assert_eq!(code(&refused), 1);
    assert_eq!(
        parsed(&home.run(&["list", "--json"])),
        json!([]),
        "it was not kept"
    );

    let home = Home::with_model();
    let listed = parsed(&home.run(&["list", "--json"]));
    assert_eq!(listed[0]["name"], "smollm2");
    assert_eq!(
        listed[0]["bytes"],
        std::fs::metadata(test_model()).unwrap().len()
    );
    let shown = parsed(&home.run(&["show", "smollm2", "--json"]));
    assert_eq!(shown["summary"]["architecture"], "llama");
    assert_eq!(
        (&shown["chat_template"], &shown["eos"]),
        (&json!(true), &json!([2]))
    );
    assert_eq!(shown["manifest"]["files"][0]["linked"], true);

    let whole = home.run(&["verify", "smollm2", "--json"]);
    assert_eq!((code(&whole), &parsed(&whole)["whole"]), (0, &json!(true)));
    assert_eq!(code(&home.run(&["rm", "smollm2"])), 0);
    assert_eq!(parsed(&home.run(&["list", "--json"])), json!([]));
    assert!(Path::new(&test_model()).exists(), "what was linked stays");
}

#[test]
fn verify_and_doctor_see_a_flipped_byte() {
    let home = Home::empty();
    let pulled = home.run(&["pull", &test_model(), "--as", "smollm2"]);
    assert_eq!(code(&pulled), 0, "{}", text(&pulled.stderr));
    let well = home.run(&["doctor", "--json"]);
    assert_eq!(code(&well), 0, "{}", text(&well.stdout));
    let names: Vec<_> = parsed(&well)
        .as_array()
        .unwrap()
        .iter()
        .map(|f| f["name"].clone())
        .collect();
    for name in [
        "device",
        "libtorch",
        "threads",
        "memory",
        "disk",
        "home",
        "default model",
        "server",
    ] {
        assert!(names.contains(&json!(name)), "{name}: {names:?}");
    }

    let file = home.model_file();
    let mut bytes = std::fs::read(&file).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&file, bytes).unwrap();
    let broken = home.run(&["verify", "smollm2", "--json"]);
    assert_eq!(code(&broken), 1);
    assert_eq!(parsed(&broken)["files"][0]["state"], "changed");
    let ill = home.run(&["doctor"]);
    assert_eq!(code(&ill), 1);
    assert!(
        text(&ill.stdout).contains("llamahome rm smollm2"),
        "{}",
        text(&ill.stdout)
    );
}

#[test]
fn settings_tell_where_they_come_from() {
    let home = Home::empty();
    std::fs::create_dir(home.0.path().join(".config")).unwrap();
    std::fs::write(
        home.0.path().join(".config/kv.toml"),
        "[kv]\nbudget = \"64MiB\"\n",
    )
    .unwrap();
    let flags = [
        "config",
        "show",
        "--origin",
        "--json",
        "--kv-heavy",
        "77",
        "--set",
        "scheduler.max_batch=3",
    ];
    let by_flags = parsed(&home.run(&flags));
    for (key, value, place) in [
        ("kv.heavy", 77, "--kv-heavy"),
        ("scheduler.max_batch", 3, "--set"),
    ] {
        assert_eq!(by_flags[key]["value"], value);
        assert_eq!(by_flags[key]["origin"]["layer"], "command-line");
        assert_eq!(by_flags[key]["origin"]["place"], place);
    }
    let shown = parsed(&home.run(&["config", "show", "--origin", "--json"]));
    assert_eq!(shown["kv.budget"]["value"], "64MiB");
    assert_eq!(shown["kv.budget"]["origin"]["layer"], "project");
    assert_eq!(
        shown["sampling.temperature"]["origin"]["layer"],
        "environment"
    );
    assert!(text(&home.run(&["config", "path"]).stdout).contains("kv.toml"));
    assert_eq!(code(&home.run(&["config", "check"])), 0);
    std::fs::write(home.0.path().join(".config/kv.toml"), "[kv]\nbudgte = 3\n").unwrap();
    let bad = home.run(&["config", "check"]);
    assert_eq!(code(&bad), 1);
    assert!(
        text(&bad.stderr).contains("did you mean `kv.budget`"),
        "{}",
        text(&bad.stderr)
    );
    assert_eq!(
        code(&home.run(&["doctor"])),
        1,
        "doctor reports it and goes on"
    );
}

#[test]
fn nobody_reading_is_no_failure() {
    for args in [&["config", "show"][..], &["completions", "bash"]] {
        let mut child = shared().command(args).spawn().unwrap();
        drop(child.stdout.take());
        let output = child.wait_with_output().unwrap();
        assert_eq!(text(&output.stderr), "", "{args:?}");
        assert_eq!(code(&output), 0, "{args:?}");
    }
}

#[test]
fn perplexity_and_bench_measure() {
    let _alone = alone();
    let home = shared();
    let file = home.0.path().join("text.txt");
    std::fs::write(&file, "The sea is blue and the sky is blue. ".repeat(8)).unwrap();
    let file = file.display().to_string();
    let args = [
        "perplexity",
        "smollm2",
        "--file",
        &file,
        "--tokens",
        "24",
        "--json",
    ];
    let output = home.run(&args);
    assert_eq!(code(&output), 0, "{}", text(&output.stderr));
    let all = parsed(&output);
    assert_eq!(
        (&all["tokens"], &all["kv"]["policy"]),
        (&json!(24), &json!("full"))
    );
    let (mean, perplexity) = (
        all["mean_nll"].as_f64().unwrap(),
        all["perplexity"].as_f64().unwrap(),
    );
    assert!(
        (mean.exp() - perplexity).abs() < 1e-6 && perplexity < 100.0,
        "{all}"
    );
    let bounded = [&args[..], &["--kv-heavy", "8", "--kv-recent", "8"]].concat();
    let refused = home.run(&bounded);
    assert_eq!(code(&refused), 1);
    assert!(
        text(&refused.stderr).contains("--stepwise"),
        "{}",
        text(&refused.stderr)
    );

    let args = [
        "bench", "smollm2", "--prompt", "8", "--gen", "2", "--depth", "0", "16", "--repeat", "1",
        "--json",
    ];
    let output = home.run(&args);
    assert_eq!(code(&output), 0, "{}", text(&output.stderr));
    let lines: Vec<Value> = text(&output.stdout)
        .lines()
        .map(|l| serde_json::from_str(l).unwrap())
        .collect();
    let tests: Vec<_> = lines
        .iter()
        .map(|l| (l["test"].as_str().unwrap(), l["depth"].as_u64()))
        .collect();
    let expected = [
        ("pp8", Some(0)),
        ("tg2", Some(0)),
        ("pp8", Some(16)),
        ("tg2", Some(16)),
        ("resident", None),
    ];
    assert_eq!(tests, expected);
    assert!(
        lines[4]["bytes"].as_u64().unwrap() > 100_000_000,
        "the weights are resident"
    );
    for line in &lines[..4] {
        assert_eq!(
            (&line["engine"], &line["batch"], &line["kv_policy"]),
            (&json!("llamahome"), &json!(1), &json!("hybrid")),
        );
        assert!(line["kv_budget"].is_u64() && line["threads"].as_u64().unwrap() > 0);
        assert!(line["tokens_per_s"].as_f64().unwrap() > 0.0 && line["runs"][0].is_f64());
        assert!(line["share_of_limit"].as_f64().unwrap() > 0.0);
    }

    let tables = [
        ("--csv", "engine,model,", "llamahome,smollm2,"),
        ("--md", "| engine | model |", "| llamahome | smollm2 |"),
    ];
    for (form, head, row) in tables {
        let args = [
            "bench", "smollm2", "-p", "8", "-n", "0", "-d", "0,16", "-b", "2", "-r", "1",
        ];
        let output = home.run(&[&args[..], &[form, "--kv-policy", "full"]].concat());
        assert_eq!(code(&output), 0, "{}", text(&output.stderr));
        let all = text(&output.stdout);
        assert!(all.starts_with(head), "{all}");
        assert_eq!(
            all.lines().filter(|line| line.starts_with(row)).count(),
            2,
            "{all}"
        );
    }
    let output = home.run(&["bench", "smollm2", "-b", "0"]);
    assert_eq!(code(&output), 2);
    assert!(text(&output.stderr).contains("at least 1"));
}

#[test]
fn a_machine_is_described_without_a_model() {
    let _alone = alone();
    let home = Home::empty();
    let output = home.run(&["bench", "--machine", "--json"]);
    assert_eq!(code(&output), 0, "{}", text(&output.stderr));
    let all = parsed(&output);
    assert!(all["allowed"].as_u64().unwrap() > 0 && all["level"].is_string());
    assert!(all["read"][0]["bytes_per_s"].as_f64().unwrap() > 1e6);
    let kinds: Vec<_> = (0..3)
        .map(|i| all["products"][i]["kind"].as_str().unwrap())
        .collect();
    assert_eq!(kinds, ["float32", "bfloat16", "int8"]);
    let output = home.run(&["bench", "--machine", "smollm2"]);
    assert_eq!(code(&output), 2);
}

#[test]
fn an_interrupt_ends_an_answer_with_130() {
    let _alone = alone();
    let args = [
        "run",
        "smollm2",
        "Tell a long story.",
        "--max-tokens",
        "2000",
    ];
    let mut child = shared().command(&args).spawn().unwrap();
    let mut out = child.stdout.take().unwrap();
    out.read_exact(&mut [0; 1]).unwrap();
    signal(&child, "INT");
    let (code, _) = ended(&mut child, PATIENCE);
    assert_eq!(code, Some(130));
}

/// A running server. Killed when dropped.
struct Daemon {
    child: Child,
    address: String,
}

impl Daemon {
    /// Starts a server on a free port and waits until its model is loaded.
    fn start(home: &Home) -> Daemon {
        Daemon::start_with(home, &[])
    }

    /// With these variables, too.
    fn start_with(home: &Home, variables: &[(&str, &str)]) -> Daemon {
        let args = ["serve", "--port", "0", "--model", "smollm2", "--json"];
        let mut child = home
            .command(&args)
            .envs(variables.iter().copied())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let address = support::listening(&mut child, home.0.path()).to_string();
        let mut daemon = Daemon { child, address };
        let started = Instant::now();
        while !daemon.get("/ready").starts_with("HTTP/1.1 200") {
            assert!(started.elapsed() < PATIENCE, "it never became ready");
            assert_eq!(daemon.child.try_wait().unwrap(), None, "it ended by itself");
            std::thread::sleep(Duration::from_millis(50));
        }
        daemon
    }

    fn get(&self, path: &str) -> String {
        let mut stream = self.send(&format!("GET {path}"), "");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    }

    fn send(&self, head: &str, body: &str) -> TcpStream {
        let mut stream = TcpStream::connect(&self.address).unwrap();
        let length = body.len();
        let kind = "Content-Type: application/json";
        let rest =
            format!("Host: localhost\r\nConnection: close\r\n{kind}\r\nContent-Length: {length}");
        write!(stream, "{head} HTTP/1.1\r\n{rest}\r\n\r\n{body}").unwrap();
        stream
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn signal(child: &Child, name: &str) {
    let sent = Command::new("kill")
        .args(["-s", name, &child.id().to_string()])
        .status();
    assert!(sent.unwrap().success());
}

/// The exit code, once the process has ended, and how long that took.
fn ended(child: &mut Child, patience: Duration) -> (Option<i32>, Duration) {
    let started = Instant::now();
    loop {
        if let Some(status) = child.try_wait().unwrap() {
            return (status.code(), started.elapsed());
        }
        assert!(started.elapsed() < patience, "it did not end");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn a_drained_server_finishes_its_stream_and_exits_with_0() {
    let _alone = alone();
    let home = Home::with_model();
    let mut daemon = Daemon::start(&home);
    let listed = home.run(&["ps"]);
    assert_eq!(code(&listed), 0, "{}", text(&listed.stderr));
    assert!(
        text(&listed.stdout).contains("smollm2"),
        "{}",
        text(&listed.stdout)
    );
    let mode = std::fs::metadata(home.0.path().join("run/daemon.json"))
        .unwrap()
        .permissions();
    assert_eq!(
        std::os::unix::fs::PermissionsExt::mode(&mode) & 0o777,
        0o600
    );

    let body = json!({"model": "smollm2", "stream": true, "max_tokens": 24, "temperature": 0,
        "messages": [{"role": "user", "content": "Count to one hundred."}]});
    let mut lines =
        BufReader::new(daemon.send("POST /v1/chat/completions", &body.to_string())).lines();
    let first = lines
        .find(|line| line.as_ref().unwrap().starts_with("data: "))
        .unwrap()
        .unwrap();
    assert!(first.contains("chat.completion.chunk"), "{first}");
    signal(&daemon.child, "TERM");
    let rest: Vec<String> = lines.map(Result::unwrap).collect();
    assert!(
        rest.iter()
            .any(|line| line.contains("\"finish_reason\":\"length\"")),
        "{rest:?}"
    );
    assert!(rest.iter().any(|line| line == "data: [DONE]"), "{rest:?}");
    let (code, _) = ended(&mut daemon.child, PATIENCE);
    assert_eq!(code, Some(0));
    assert!(
        !home.0.path().join("run/daemon.json").exists(),
        "the note is gone"
    );
    assert_eq!(home.run(&["ps"]).status.code(), Some(1));
}

#[test]
fn an_idle_server_stops_at_once_for_either_signal() {
    let _alone = alone();
    let home = Home::with_model();
    for name in ["TERM", "INT"] {
        let mut daemon = Daemon::start(&home);
        // A client that keeps its connection for later does not hold it up.
        let mut kept = TcpStream::connect(&daemon.address).unwrap();
        write!(kept, "GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
        kept.read_exact(&mut [0; 64]).unwrap();
        signal(&daemon.child, name);
        let (code, took) = ended(&mut daemon.child, PATIENCE);
        assert_eq!(code, Some(0), "{name}");
        assert!(took < Duration::from_secs(3), "{name} took {took:?}");
    }
}

#[test]
fn a_second_signal_ends_a_drain() {
    let _alone = alone();
    let home = Home::with_model();
    let mut daemon = Daemon::start(&home);
    let body = json!({"model": "smollm2", "stream": true, "max_tokens": 4000, "temperature": 0, "ignore_eos": true,
        "messages": [{"role": "user", "content": "Tell a long story."}]});
    let mut lines =
        BufReader::new(daemon.send("POST /v1/chat/completions", &body.to_string())).lines();
    lines
        .find(|line| line.as_ref().unwrap().starts_with("data: "))
        .unwrap()
        .unwrap();
    signal(&daemon.child, "TERM");
    std::thread::sleep(Duration::from_millis(300));
    assert_eq!(daemon.child.try_wait().unwrap(), None, "it drains");
    signal(&daemon.child, "TERM");
    let (code, took) = ended(&mut daemon.child, PATIENCE);
    assert_eq!(code, Some(1));
    assert!(took < Duration::from_secs(3), "{took:?}");
}

#[test]
fn under_load_a_signal_ends_every_stream_with_a_frame_and_refuses_what_still_comes() {
    let _alone = alone();
    let home = Home::with_model();
    let mut daemon = Daemon::start_with(&home, &[("LLAMAHOME_RUNTIME__DRAIN_TIMEOUT", "4s")]);
    let body = |tokens: u32| {
        json!({"model": "smollm2", "stream": true, "max_tokens": tokens, "temperature": 0, "ignore_eos": true,
            "messages": [{"role": "user", "content": "Tell a long story."}]})
        .to_string()
    };
    // More than fit into a batch: the last ones wait.
    let mut streams: Vec<TcpStream> = (0..12)
        .map(|_| daemon.send("POST /v1/chat/completions", &body(4000)))
        .collect();
    // Every one of them is at work or waits before the signal comes.
    let started = Instant::now();
    let at_work = |text: &str| {
        let count = |name: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(name));
            line.map_or(0.0, |value| value.trim().parse::<f64>().unwrap())
        };
        count("llamahome_requests_running ") + count("llamahome_queue_depth ") == 12.0
    };
    while !at_work(&daemon.get("/metrics")) {
        assert!(started.elapsed() < PATIENCE, "the streams never began");
        std::thread::sleep(Duration::from_millis(20));
    }
    signal(&daemon.child, "TERM");
    while !daemon.get("/ready").starts_with("HTTP/1.1 503") {
        assert!(started.elapsed() < PATIENCE, "it never began to drain");
    }
    let mut refused = String::new();
    let mut late = daemon.send("POST /v1/chat/completions", &body(2));
    late.read_to_string(&mut refused).unwrap();
    assert!(refused.starts_with("HTTP/1.1 503"), "{refused}");
    assert!(
        refused.to_ascii_lowercase().contains("retry-after: "),
        "{refused}"
    );
    assert!(refused.contains("shutting_down"), "{refused}");
    for stream in &mut streams {
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        assert!(answer.contains("\"code\":\"shutting_down\""), "{answer}");
        assert!(answer.contains("data: [DONE]"), "{answer}");
    }
    let (code, _) = ended(&mut daemon.child, PATIENCE);
    assert_eq!(code, Some(0));
}

#[test]
fn systemd_is_told_of_the_start_the_heartbeat_and_the_end() {
    let _alone = alone();
    let home = Home::with_model();
    let path = home.0.path().join("notify.sock");
    let socket = std::os::unix::net::UnixDatagram::bind(&path).unwrap();
    // Read all the time, as systemd does: a sender waits for a full queue.
    let (send, told) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let mut text = [0; 256];
        while let Ok(length) = socket.recv(&mut text) {
            let text = String::from_utf8_lossy(&text[..length]).into_owned();
            if send.send(text).is_err() {
                break;
            }
        }
    });
    let next = || told.recv_timeout(PATIENCE).unwrap();
    let variables = [
        ("NOTIFY_SOCKET", path.to_str().unwrap()),
        ("WATCHDOG_USEC", "400000"),
    ];
    let mut daemon = Daemon::start_with(&home, &variables);
    let (mut ready, mut beats) = (false, 0);
    while !ready || beats < 3 {
        match next().trim() {
            "READY=1" => ready = true,
            "WATCHDOG=1" => beats += 1,
            other => panic!("{other}"),
        }
    }
    signal(&daemon.child, "TERM");
    loop {
        let text = next();
        if text.trim() != "WATCHDOG=1" {
            assert!(
                text.starts_with("STOPPING=1\nEXTEND_TIMEOUT_USEC="),
                "{text}"
            );
            break;
        }
    }
    assert_eq!(ended(&mut daemon.child, PATIENCE).0, Some(0));
}

#[test]
fn a_suite_measures_models_and_compares_them() {
    let _alone = alone();
    let home = shared();
    let folder = home.0.path().join("suite");
    std::fs::create_dir_all(&folder).unwrap();
    let write = |name: &str, text: &str| std::fs::write(folder.join(name), text).unwrap();
    write(
        "colours.toml",
        "name = 'colours'\nkind = 'multiple_choice'\nbaseline = 0.5\nitems = [\n\
         {query = 'The colour of the sky is', choices = ['blue', 'zxqj'], gold = 0},\n\
         {query = 'The colour of grass is', choices = ['wpfk', 'green'], gold = 1}]\n",
    );
    write(
        "sentence.toml",
        "name = 'sentence'\nkind = 'loss'\nitems = [{text = 'The sea is blue and the sky is blue.'}]\n",
    );
    let folder = folder.display().to_string();
    let file = home.0.path().join("suite.json");
    let written = file.display().to_string();
    let asked = ["eval", "suite", "--folder", &folder, "--limit", "2"];
    let some = ["--tasks", "colours,sentence,copying", "--output", &written];
    let one = home.run(&[&asked[..], &some, &["--json", "smollm2"]].concat());
    assert_eq!(code(&one), 0, "{}", text(&one.stderr));
    assert!(
        text(&one.stderr).contains("task 1 of 3, colours, 2 items"),
        "{}",
        text(&one.stderr)
    );
    let all = parsed(&one);
    let tasks = &all["models"][0]["tasks"];
    assert_eq!(
        (&tasks[0]["value"], &tasks[0]["centred"]),
        (&json!(1.0), &json!(1.0)),
        "{all}"
    );
    let perplexity = tasks[1]["perplexity"].as_f64().unwrap();
    assert!(perplexity > 1.0 && perplexity < 200.0, "{all}");
    assert_eq!(tasks[2]["items"], json!(2));
    let kept: Value = serde_json::from_str(&std::fs::read_to_string(&file).unwrap()).unwrap();
    assert_eq!(kept, all);
    let two = home.run(&[&asked[..], &["--tasks", "colours", "smollm2", "smollm2"]].concat());
    assert_eq!(code(&two), 0, "{}", text(&two.stderr));
    let shown = text(&two.stdout);
    assert!(
        shown.contains("compared with smollm2") && shown.contains("+0.0"),
        "{shown}"
    );
}

#[test]
fn a_suite_that_cannot_be_run_is_refused_before_the_model_is_loaded() {
    let home = shared();
    let gone = home.0.path().join("gone");
    let file = gone.join("x.json").display().to_string();
    let gone = gone.display().to_string();
    for (args, fault) in [
        (&["--limit", "0"][..], "--limit 0"),
        (&["--tasks", "nothing"][..], "\"nothing\"; there are"),
        (&["--folder", &gone][..], "gone"),
        (&["--output", &file][..], "its folder is not there"),
    ] {
        let output = home.run(&[&["eval", "suite", "smollm2"][..], args].concat());
        assert_eq!(code(&output), 1, "{args:?}");
        assert!(
            text(&output.stderr).contains(fault),
            "{args:?}: {}",
            text(&output.stderr)
        );
    }
    assert_eq!(code(&home.run(&["eval", "suite"])), 2);
    assert_eq!(code(&home.run(&["eval"])), 2);
    let alone = home.run(&["__sandbox"]);
    assert_eq!(code(&alone), 1);
    assert!(
        text(&alone.stderr).contains("LLAMAHOME_SANDBOX_JOB"),
        "{}",
        text(&alone.stderr)
    );
}

#[test]
fn keys_are_made_listed_and_revoked() {
    let home = Home::empty();
    let made = home.run(&["keys", "add", "alice", "--manage"]);
    let key = text(&made.stdout).trim().to_owned();
    assert!(
        made.status.success() && key.starts_with("lh-") && key.len() == 67,
        "{key}"
    );
    assert!(home.run(&["keys", "add", "bob"]).status.success());
    let file = home.0.path().join("keys.toml");
    let written = std::fs::read_to_string(&file).unwrap();
    assert!(!written.contains(&key), "the file has the hash only");
    let mode = std::os::unix::fs::PermissionsExt::mode(&file.metadata().unwrap().permissions());
    assert_eq!(mode & 0o777, 0o600);
    let listed = home.run(&["keys", "list", "--json"]);
    let listed: Value = serde_json::from_slice(&listed.stdout).unwrap();
    assert_eq!(
        listed,
        json!([{"name": "alice", "scopes": ["use", "manage"]}, {"name": "bob", "scopes": ["use"]}])
    );
    for (args, said) in [
        (&["keys", "add", "alice"][..], "taken"),
        (&["keys", "add", "a b"], "letters"),
        (&["keys", "revoke", "carol"], "no key of"),
    ] {
        let refused = home.run(args);
        assert_eq!(refused.status.code(), Some(1), "{args:?}");
        assert!(
            text(&refused.stderr).contains(said),
            "{}",
            text(&refused.stderr)
        );
    }
    assert!(home.run(&["keys", "revoke", "alice"]).status.success());
    let last = home.run(&["keys", "revoke", "bob"]);
    assert!(
        text(&last.stderr).contains("last key"),
        "{}",
        text(&last.stderr)
    );
    assert!(!std::fs::read_to_string(&file).unwrap().contains("alice"));
}

#[test]
fn manual_pages_are_written_for_every_command() {
    let home = Home::empty();
    let folder = home.0.path().join("man");
    assert!(
        home.run(&["man", folder.to_str().unwrap()])
            .status
            .success()
    );
    for page in [
        "llamahome",
        "llamahome-serve",
        "llamahome-keys-add",
        "llamahome-train-run",
    ] {
        let page = std::fs::read_to_string(folder.join(format!("{page}.1")));
        let page = page.unwrap_or_else(|error| panic!("{error}"));
        assert!(page.contains(".TH") && page.contains(".SH"), "{page}");
    }
}

#[test]
fn what_was_said_is_kept_found_and_gone_on_with() {
    let _alone = alone();
    let home = Home::with_model();
    let run = |args: &[&str]| {
        let output = home.run(args);
        assert_eq!(code(&output), 0, "{args:?}: {}", text(&output.stderr));
        output
    };
    let listed = || parsed(&run(&["log", "--json"]));
    assert_eq!(listed(), json!([]));

    let few = ["--max-tokens", "8"];
    let first = "My name is Ada Lovelace.";
    let ask = [
        &["run", "smollm2", first, "--system", "Be kind.", "--json"][..],
        &few,
    ]
    .concat();
    let answer = parsed(&run(&ask));
    let next = [&["run", "-c", "What", "is my name?", "--json"][..], &few].concat();
    let second = parsed(&run(&next));
    let count = |answer: &Value| answer["usage"]["prompt_tokens"].as_u64().unwrap();
    assert!(
        count(&second) > count(&answer) + 8,
        "what was said is read again: {second}"
    );

    let all = listed();
    assert_eq!(all.as_array().unwrap().len(), 1);
    assert_eq!(
        (&all[0]["calls"], &all[0]["prompt"]),
        (&json!(2), &json!(first))
    );
    let shown = parsed(&run(&["log", "show", "--json"]));
    assert_eq!(shown["system"], "Be kind.");
    assert_eq!(shown["calls"][0]["answer"], answer["text"]);
    assert_eq!(shown["calls"][1]["prompt"], "What is my name?");
    assert_eq!(shown["calls"][1]["usage"], second["usage"]);
    assert_eq!(shown["calls"][1]["finish_reason"], "length");

    // The chat goes on with it, and its calls are beside those of `run`.
    let chat = ["chat", "-c", "--json", "--max-tokens", "4"];
    let output = home.fed(&chat, "And now?\n");
    assert_eq!(code(&output), 0, "{}", text(&output.stderr));
    let third: Value = serde_json::from_str(text(&output.stdout).trim()).unwrap();
    assert!(count(&third) > count(&second) + 8, "{third}");
    assert_eq!(listed()[0]["calls"], 3);

    // Nothing of this one is kept.
    run(&[&["run", "smollm2", "A secret.", "--no-log"][..], &few].concat());
    let secret = home.run(&["log", "search", "secret"]);
    assert_eq!((code(&secret), text(&secret.stdout).as_str()), (1, ""));
    let hits = parsed(&run(&["log", "search", "lovelace", "--json"]));
    assert_eq!(hits[0]["prompt"], first);
    assert_eq!(hits[0]["conversation"], all[0]["id"]);
    assert!(text(&run(&["log", "search", "lovelace"]).stdout).contains("Ada Lovelace"));
    assert!(text(&run(&["log", "show"]).stdout).contains("> What is my name?"));

    // A text is no chat, and is not gone on with.
    run(&[&["run", "smollm2", "Once upon", "--raw"][..], &few].concat());
    let raw = home.run(&["run", "-c", "and then?"]);
    assert_eq!(code(&raw), 2);
    assert!(
        text(&raw.stderr).contains("is a text that was continued"),
        "{}",
        text(&raw.stderr)
    );

    run(&["log", "rm", all[0]["id"].as_str().unwrap()]);
    assert_eq!(listed().as_array().unwrap().len(), 1);
    run(&["log", "rm", "--all"]);
    let none = home.run(&["run", "-c", "and then?"]);
    assert_eq!(code(&none), 1);
    assert!(
        text(&none.stderr).contains("no conversation to go on with"),
        "{}",
        text(&none.stderr)
    );
    for wrong in [
        &["run", "-c", "x", "--system", "y"][..],
        &["run", "smollm2", "x", "--model", "y"],
        &["run"],
        &["log", "show", "xyz"],
        &["log", "rm"],
    ] {
        assert_eq!(code(&home.run(wrong)), 2, "{wrong:?}");
    }
}

#[test]
fn a_history_that_is_another_programs_file_costs_no_answer() {
    let _alone = alone();
    let home = Home::with_model();
    let folder = home.0.path().join("history");
    std::fs::create_dir_all(&folder).unwrap();
    let file = folder.join("calls.db");
    let foreign = "not a database, and long enough to be looked at ".repeat(30);
    std::fs::write(&file, &foreign).unwrap();
    let output = home.run(&["run", "smollm2", "Say hello.", "--max-tokens", "4"]);
    assert_eq!(code(&output), 0, "{}", text(&output.stderr));
    assert!(!output.stdout.is_empty());
    let told = text(&output.stderr);
    assert!(
        told.contains("this call is not kept in the history"),
        "{told}"
    );
    assert_eq!(std::fs::read_to_string(&file).unwrap(), foreign);
    let listed = home.run(&["log"]);
    assert_eq!(code(&listed), 1);
    assert!(text(&listed.stderr).contains("it is no SQLite file"));
}

#[test]
fn a_conversation_with_a_file_goes_on_from_another_folder() {
    let _alone = alone();
    let home = Home::empty();
    let work = tempfile::tempdir().unwrap();
    std::fs::copy(test_model(), work.path().join("mine.gguf")).unwrap();
    let mut first = home.command(&["run", "./mine.gguf", "Say hello.", "--max-tokens", "4"]);
    let output = first.current_dir(work.path()).output().unwrap();
    assert_eq!(code(&output), 0, "{}", text(&output.stderr));
    let output = home.run(&["run", "-c", "Again.", "--max-tokens", "4"]);
    assert_eq!(code(&output), 0, "{}", text(&output.stderr));
    let listed = parsed(&home.run(&["log", "--json"]));
    let model = listed[0]["model"].as_str().unwrap();
    assert!(
        model.starts_with('/') && model.ends_with("mine.gguf"),
        "{model}"
    );
    assert_eq!(listed[0]["calls"], 2);
}
