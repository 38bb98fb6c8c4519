//! What the README and the guides say to type is typed here, from a clean home, and has to work.
//!
//! Each command of the documents has a line in [`COMMANDS`], and each line there is in a document: as it stands, or as it is
//! run here, shorter or with a name where the document has a placeholder.

use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Stdio;
use std::time::Instant;

mod support;

use How::{As, Elsewhere, Run};
use support::{PROGRAM, Served, in_home, install, test_model};

/// How a command is tried.
enum How {
    /// As it is written, with the daemon's address in place of the usual one.
    Run,
    /// As these words.
    As(&'static str),
    /// By another test, or by nobody; why.
    Elsewhere(&'static str),
}

/// What documents say to type, in the order in which it is tried here.
const COMMANDS: &[(&str, &str, How)] = &[
    (
        "README.md",
        "make run",
        Elsewhere("it builds the program and begins the chat of the next but one"),
    ),
    ("README.md", "make test", Elsewhere("it runs this")),
    (
        "README.md",
        "echo \"What is 2 + 2?\" | make run",
        As("echo \"What is 2 + 2?\" | llamahome"),
    ),
    (
        "README.md",
        "llamahome chat",
        As("echo 'Say hello.' | llamahome chat"),
    ),
    (
        "README.md",
        "llamahome run smollm2 'Write a haiku' --max-tokens 40",
        Run,
    ),
    (
        "README.md",
        "llamahome serve --model smollm2 --port 8085",
        Elsewhere("it is begun before the others"),
    ),
    (
        "README.md",
        "llamahome pull hf:owner/repo/file.gguf --as mine",
        As("llamahome pull $MODEL --link --as mine"),
    ),
    (
        "README.md",
        "llamahome list | show | verify | rm",
        As(
            "llamahome list && llamahome show mine && llamahome verify mine && llamahome pull $MODEL --link --as gone \
            && llamahome rm gone",
        ),
    ),
    (
        "README.md",
        "llamahome run smollm2 --show-kv --kv-budget 64 < text.txt",
        Run,
    ),
    (
        "README.md",
        "llamahome perplexity smollm2 --file text.txt --stepwise --kv-policy h2o --kv-heavy 256 --kv-recent 256",
        Run,
    ),
    (
        "README.md",
        "llamahome eval ppl smollm2 --file text.txt --report out",
        As(
            "llamahome eval ppl smollm2 --file text.txt --tokens 256 --budgets 0.5 --report out && test -d out",
        ),
    ),
    (
        "README.md",
        "llamahome eval suite smollm2 mine --limit 50",
        As("llamahome eval suite smollm2 mine --limit 1"),
    ),
    (
        "README.md",
        "llamahome calibrate smollm2 --file text.txt --out classes.json",
        As(
            "llamahome calibrate smollm2 --file text.txt --out classes.json --tokens 256 --after 32 --samples 1",
        ),
    ),
    (
        "README.md",
        "llamahome loadtest http://127.0.0.1:8085 --rate 2 --slo ttft_p99=1s",
        As(
            "llamahome loadtest http://127.0.0.1:8085 --rate 2 --count 3 --output-tokens 4 --slo ttft_p99=60s",
        ),
    ),
    (
        "README.md",
        "llamahome train run .config/train/pretrain-shakespeare.toml data.path=text.txt",
        As(
            "llamahome train run .config/train/pretrain-shakespeare.toml data.path=text.txt horizon.steps=2 $SMALL",
        ),
    ),
    ("README.md", "llamahome config show --origin", Run),
    ("README.md", "llamahome doctor", Run),
    (
        "docs/chat.md",
        "llamahome",
        As("echo 'Say hello.' | llamahome"),
    ),
    (
        "docs/chat.md",
        "llamahome chat smollm2 --kv-policy h2o --kv-budget 256",
        As("echo 'Say hello.' | llamahome chat smollm2 --kv-policy h2o --kv-budget 256"),
    ),
    (
        "docs/chat.md",
        "llamahome run smollm2 'Name a river in Egypt.' --max-tokens 20",
        Run,
    ),
    (
        "docs/chat.md",
        "llamahome run -c 'And one in France?' --max-tokens 20",
        Run,
    ),
    ("docs/chat.md", "llamahome log", Run),
    ("docs/chat.md", "llamahome log search river", Run),
    ("docs/chat.md", "llamahome log show", Run),
    (
        "docs/loadtest.md",
        "llamahome loadtest http://127.0.0.1:8085 --rate 2 --duration 60s --ignore-eos --slo ttft_p99=1s",
        As(
            "llamahome loadtest http://127.0.0.1:8085 --rate 2 --duration 1s --ignore-eos --output-tokens 4 --slo ttft_p99=60s",
        ),
    ),
    (
        "docs/loadtest.md",
        "llamahome loadtest http://127.0.0.1:8123 --rate 0.5 --duration 40s --prompt-tokens 32-256 --output-tokens 32 \
            --ignore-eos --warmup 1 --slo ttft_p99=2s --slo itl_p90=200ms --plot example.svg --requests example.jsonl",
        As(
            "llamahome loadtest http://127.0.0.1:8085 --rate 2 --duration 1s --prompt-tokens 32-64 --output-tokens 4 \
            --ignore-eos --warmup 1 --slo ttft_p99=99s --slo itl_p90=99s --plot example.svg --requests example.jsonl",
        ),
    ),
    (
        "docs/training.md",
        "llamahome train validate RECIPE",
        As(
            "llamahome train validate .config/train/pretrain-shakespeare.toml data.path=text.txt $SMALL",
        ),
    ),
    (
        "docs/training.md",
        "llamahome train preview RECIPE",
        As(
            "llamahome train preview .config/train/pretrain-shakespeare.toml data.path=text.txt $SMALL",
        ),
    ),
    (
        "docs/training.md",
        "llamahome train run RECIPE [key=value...]",
        As(
            "llamahome train run .config/train/pretrain-shakespeare.toml data.path=text.txt name=second horizon.steps=2 $SMALL",
        ),
    ),
    (
        "docs/training.md",
        "llamahome train ls | show ID | report ID [ID...]",
        As(
            "llamahome train ls && llamahome train show second-1 && llamahome train report second-1 shakespeare-1",
        ),
    ),
    (
        "docs/training.md",
        "llamahome train pause ID | resume ID | save ID | stop ID",
        Elsewhere("tests/cli.rs and tests/runs.rs steer runs that are under way"),
    ),
    (
        "docs/training.md",
        "llamahome train export ID",
        As("llamahome train export second-1"),
    ),
    (
        "docs/training.md",
        "llamahome train problems TASK [-n N]",
        As("llamahome train problems spelling -n 2"),
    ),
    (
        "docs/training.md",
        "llamahome train problems arithmetic:operations=+-,max=20 --count 200 --system \"Calculate.\" > data/sums.jsonl",
        As(
            "mkdir data && llamahome train problems arithmetic:operations=+-,max=20 --count 200 --system \"Calculate.\" \
            > data/sums.jsonl && test $(wc -l < data/sums.jsonl) = 200",
        ),
    ),
    (
        "docs/training.md",
        "llamahome train run .config/train/sft-arithmetic.toml",
        As(
            "llamahome train run .config/train/sft-arithmetic.toml horizon.steps=1 batch.rows=2 batch.micro_rows=1 \
            evaluation.every=1 optim.warmup_steps=0",
        ),
    ),
    (
        "docs/training.md",
        "llamahome train run .config/train/rl-arithmetic.toml",
        As("llamahome train run .config/train/rl-arithmetic.toml horizon.steps=1 $FEW"),
    ),
];

/// Makes a run of the stage pretrain one of seconds.
const SMALL: &str = "model.depth=1 model.context=64 tokenizer.vocab_size=300 batch.tokens=128 batch.micro_rows=1 optim.warmup_steps=0";

/// And one of the stage rl.
const FEW: &str = "rl.groups=1 rl.samples=2 rl.max_new_tokens=4 rl.eval_prompts=2 evaluation.every=1 optim.warmup_steps=0";

/// The commands of a document: lines of an indented block that begin with a program of ours.
fn said(document: &str) -> Vec<String> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(document);
    let text = std::fs::read_to_string(path).unwrap();
    let mut found = Vec::new();
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        let Some(line) = line.strip_prefix("    ") else {
            continue;
        };
        let line = line.strip_prefix("$ ").unwrap_or(line);
        let mut whole = line.to_owned();
        while let Some(begun) = whole.strip_suffix('\\') {
            whole = format!(
                "{} {}",
                begun.trim_end(),
                lines.next().unwrap_or_default().trim()
            );
        }
        let command = whole.split(" #").next().unwrap_or_default().trim();
        if ["llamahome", "make", "echo"].iter().any(|program| {
            command
                .strip_prefix(program)
                .is_some_and(|rest| rest.is_empty() || rest.starts_with(' '))
        }) {
            found.push(command.to_owned());
        }
    }
    found
}

#[test]
fn every_command_of_the_documents_is_listed_and_nothing_else() {
    let documents = [
        "README.md",
        "docs/chat.md",
        "docs/loadtest.md",
        "docs/training.md",
    ];
    let said: Vec<(&str, String)> = documents
        .iter()
        .flat_map(|document| {
            said(document)
                .into_iter()
                .map(|command| (*document, command))
        })
        .collect();
    for (document, command) in &said {
        let known = COMMANDS
            .iter()
            .any(|(where_, text, _)| where_ == document && text == command);
        assert!(known, "{document} says {command:?}: how is it tried?");
    }
    for (document, command, _) in COMMANDS {
        let there = said
            .iter()
            .any(|(where_, text)| where_ == document && text == command);
        assert!(there, "{document} does not say {command:?} any more");
    }
}

/// Fenced blocks of shell that nothing here runs, by their document and first line; why.
const NOT_RUN: &[(&str, &str, &str)] = &[(
    "docs/operations.md",
    "make build",
    "it installs into the system and starts a unit of systemd; tests/packaging.rs holds the unit against the program",
)];

/// What is written otherwise in blocks of shell, so that it ends soon and fails where it should.
const SHORTER: &[(&str, &str)] = &[
    ("curl ", "curl -fsS "),
    // A stream of events ends with its run, which is paused by the next line.
    ("curl -fsS -N ", "timeout 3 curl -fsS -N "),
    ("/events\n", "/events || test $? = 124\n"),
    (
        "\"set\": {\"horizon.steps\": 200}",
        "\"set\": {\"horizon.steps\": 100000, \"data.path\": \"text.txt\", \"model.depth\": 1, \"model.context\": 64, \
         \"tokenizer.vocab_size\": 300, \"batch.tokens\": 128, \"batch.micro_rows\": 1, \"optim.lr\": 1e-7}",
    ),
    ("?seconds=10", "?seconds=1"),
    (": 64,", ": 8,"),
    (": 64}", ": 8}"),
];

/// The fenced blocks of shell of a document.
fn blocks(document: &str) -> Vec<String> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(document);
    let text = std::fs::read_to_string(path).unwrap();
    let mut parts = text.split("```sh\n");
    parts.next();
    parts
        .map(|part| part.split("```").next().unwrap_or_default().to_owned())
        .collect()
}

#[test]
fn blocks_of_shell_in_the_documents_work() {
    let place = Place::new();
    let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs");
    let mut documents: Vec<String> = std::fs::read_dir(docs)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name.ends_with(".md"))
        .map(|name| format!("docs/{name}"))
        .collect();
    documents.push("README.md".to_owned());
    documents.sort_unstable();
    let all: Vec<String> = documents.iter().flat_map(|name| blocks(name)).collect();
    for (from, _) in SHORTER {
        // The second one is of what the first has left.
        let there = all
            .iter()
            .any(|block| block.contains(&from.replace("-fsS ", "")));
        assert!(there, "no document says {from:?} any more");
    }
    let (mut failed, mut ran) = (Vec::new(), 0);
    for document in &documents {
        for block in blocks(document) {
            let first = block.lines().next().unwrap_or_default();
            let reason = NOT_RUN
                .iter()
                .find(|(known, line, _)| known == document && *line == first);
            if let Some((_, _, why)) = reason {
                println!("{document}: {first}: {why}");
                continue;
            }
            let line = SHORTER
                .iter()
                .fold(block, |line, (from, to)| line.replace(from, to));
            let began = Instant::now();
            let (good, told) = place.run(&line);
            println!(
                "{document}: {line}{good}, {:.1} s",
                began.elapsed().as_secs_f64()
            );
            ran += 1;
            if !good {
                failed.push(format!("{document}: {line}\n{told}"));
            }
        }
    }
    assert!(ran > 0, "no document has a block of shell");
    assert!(failed.is_empty(), "{}", failed.join("\n\n"));
}

/// A folder to work in with a home of its own, and a daemon that answers in it.
struct Place {
    folder: tempfile::TempDir,
    daemon: Served,
}

impl Place {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path();
        let text = "The sea was calm that morning, and the boats lay at their moorings. Nobody spoke of the storm.\n";
        std::fs::write(path.join("text.txt"), text.repeat(130)).unwrap();
        std::fs::create_dir_all(path.join("bin")).unwrap();
        symlink(PROGRAM, path.join("bin/llamahome")).unwrap();
        let own = Path::new(env!("CARGO_MANIFEST_DIR")).join(".config");
        symlink(own, path.join(".config")).unwrap();
        // Short answers, for what is tried is the command.
        std::fs::create_dir(path.join("config")).unwrap();
        let settings = "[sampling]\nmax_tokens = 8\n";
        std::fs::write(path.join("config/llamahome.toml"), settings).unwrap();
        install(path, "smollm2");
        let daemon = Served::start(path, &["--model", "smollm2"]);
        Place { folder, daemon }
    }

    /// Runs a line of a shell; what it printed, and whether it went well.
    fn run(&self, line: &str) -> (bool, String) {
        let line = line
            .replace("127.0.0.1:8085", &self.daemon.address.to_string())
            .replace("$MODEL", &test_model().display().to_string())
            .replace("$SMALL", SMALL)
            .replace("$FEW", FEW);
        let path = std::env::var("PATH").unwrap_or_default();
        let path = format!("{}:{path}", self.folder.path().join("bin").display());
        let mut shell = in_home("bash", self.folder.path());
        shell.env("PATH", path).stdin(Stdio::null());
        let ran = shell.args(["-euo", "pipefail", "-c", &line]).output();
        let ran = ran.unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        (ran.status.success(), text(&ran.stdout) + &text(&ran.stderr))
    }
}

#[test]
fn what_the_documents_say_to_type_works() {
    let place = Place::new();
    let mut failed = Vec::new();
    for (document, command, how) in COMMANDS {
        let line = match how {
            Run => command,
            As(line) => line,
            Elsewhere(why) => {
                println!("{document}: {command}: {why}");
                continue;
            }
        };
        let began = Instant::now();
        let (good, told) = place.run(line);
        println!(
            "{document}: {line}: {good}, {:.1} s",
            began.elapsed().as_secs_f64()
        );
        if !good {
            failed.push(format!("{document}: {line}\n{told}"));
        }
    }
    assert!(failed.is_empty(), "{}", failed.join("\n\n"));
}
