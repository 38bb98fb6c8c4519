//! What a process holds after models came and went. One test a run: others would be measured with it.

#[path = "support/mod.rs"]
mod support;

use std::sync::Arc;

use llamahome::ids::{ModelId, RequestId};
use llamahome::kv::KvChoice;
use llamahome::llama::testing::{tiny_config, tiny_gguf};
use llamahome::llama::{Compute, Dtype, Llama, LlamaForward, ModelConfig};
use llamahome::runtime::{
    Ask, LoadState, ModelSource, Opened, RouterKind, Runtime, Sections, SourceError, boot,
};
use llamahome::sample::{SamplingParams, StopMatcher};
use llamahome::sched::{Forward, OfPrompt, Standing};
use llamahome::store::Checkpoint;
use llamahome::telemetry::Metrics;
use llamahome::units::ByteSize;
use support::{FakeSource, Served};

/// How often each of two models comes and goes.
const CYCLES: usize = 20;
/// How many ask for a model that is not loaded.
const ASKING: usize = 20;

/// The same weights under any name.
struct Same<Open>(Open);

impl<Open: Fn() -> Opened + Send + Sync> ModelSource for Same<Open> {
    fn names(&self) -> Vec<ModelId> {
        ["a", "b"].map(|name| name.parse().unwrap()).to_vec()
    }

    fn open(&self, name: &str) -> Result<Opened, SourceError> {
        Ok(Opened {
            id: name.parse().unwrap(),
            ..(self.0)()
        })
    }
}

/// A model of 25 MB, large enough to be seen among all else that a process holds.
fn tiny(folder: &std::path::Path) -> impl Fn() -> Opened + Send + Sync + use<> {
    let config = ModelConfig {
        hidden: 256,
        intermediate: 1024,
        layers: 6,
        heads: 8,
        kv_heads: 4,
        head_dim: 32,
        ..tiny_config()
    };
    let path = folder.join("tiny.gguf");
    std::fs::write(&path, tiny_gguf(&config, 1).unwrap()).unwrap();
    let checkpoint = Arc::new(Checkpoint::open(&path).unwrap());
    let compute = Compute::choose(Dtype::Float32);
    let shape = config.kv_shape(4);
    move || {
        let checkpoint = Arc::clone(&checkpoint);
        Opened {
            shape,
            weight_bytes: checkpoint.file_bytes() as usize,
            build: Arc::new(move || {
                let llama = Llama::load(&checkpoint, compute, 16, None).unwrap();
                Ok(Box::new(LlamaForward::new(llama)) as Box<dyn Forward>)
            }),
            ..FakeSource::default().open("fake").unwrap()
        }
    }
}

/// Bytes of memory that the process holds, pages of files left out: the system takes those back by itself.
fn resident() -> u64 {
    held("self", "RssAnon:")
}

/// Bytes of one kind that a process holds.
fn held(process: &str, kind: &str) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).unwrap();
    let line = status.lines().find(|line| line.starts_with(kind));
    let kilobytes = line.unwrap().split_whitespace().nth(1).unwrap();
    kilobytes.parse::<u64>().unwrap() * 1024
}

async fn ask(runtime: &Runtime, name: &str, first: u32) {
    let model = runtime.model(Some(name)).await.unwrap();
    let ask = Ask {
        id: RequestId::random(),
        prompt: (first..first + 40).collect(),
        max_tokens: Some(4),
        ignore_eos: true,
        sampling: SamplingParams::default(),
        kv: KvChoice::default(),
        system_tokens: 0,
        tenant: String::new(),
        session: None,
        standing: Standing::default(),
        of_prompt: OfPrompt::Nothing,
    };
    let request = model.request(ask).unwrap();
    let stop = StopMatcher::new(Vec::new()).unwrap();
    let answer = runtime.generate(&model, request, stop).await.unwrap();
    answer.collect().await.unwrap();
}

/// `a` has two replicas and `b` one; the budget holds two replicas of one model, and not both models.
async fn come_and_go(source: Arc<dyn ModelSource>) {
    let bytes = source.open("a").unwrap().weight_bytes as u64;
    let mut sections = Sections::default();
    sections.runtime.memory = Some(ByteSize(bytes / 2 * 3));
    sections.runtime.router = RouterKind::RoundRobin;
    sections.runtime.models = vec!["a replicas=2".parse().unwrap()];
    let runtime = boot(sections, source, None, Metrics::new());
    let mut after = Vec::new();
    for _ in 0..CYCLES {
        for name in ["a", "b"] {
            let asks = (0..ASKING).map(|n| ask(&runtime, name, n as u32));
            futures_util::future::join_all(asks).await;
        }
        runtime.unload("b".parse().unwrap()).await.unwrap();
        // Whatever the worker is asked comes after the unloading.
        ask(&runtime, "a", 1).await;
        runtime.unload("a".parse().unwrap()).await.unwrap();
        ask(&runtime, "b", 1).await;
        let b = "b".parse().unwrap();
        assert_eq!(runtime.state(&b).await.state, LoadState::Loaded);
        after.push(resident());
    }
    // The heap breathes in every cycle.
    let (first, last) = (after[0], middle(&after[CYCLES - 5..]));
    println!("resident after each cycle, MB: {:?}", in_mb(&after));
    let text = runtime.metrics().encode();
    for line in [
        // Twenty asked at once, and a model was loaded once: a, b, a, b each cycle, but that the last b stays.
        format!(
            "llamahome_model_loads_total{{result=\"ok\"}} {}",
            4 * CYCLES
        ),
        format!(
            "llamahome_model_unloads_total{{reason=\"memory\"}} {}",
            2 * CYCLES - 1
        ),
    ] {
        assert!(text.lines().any(|known| known == line), "{line}\n{text}");
    }
    let change = (last as f64 - first as f64).abs() / first as f64;
    assert!(change < 0.05, "{first} became {last}");
}

fn middle(bytes: &[u64]) -> u64 {
    let mut sorted = bytes.to_vec();
    sorted.sort_unstable();
    sorted[sorted.len() / 2]
}

fn in_mb(bytes: &[u64]) -> Vec<u64> {
    bytes.iter().map(|bytes| bytes >> 20).collect()
}

#[actix::test]
async fn memory_goes_back_to_the_system() {
    let folder = tempfile::tempdir().unwrap();
    come_and_go(Arc::new(Same(tiny(folder.path())))).await;
}

/// The program itself: in a test's process threads are begun before the allocator is told how many arenas it may have.
struct Program(Served);

impl Program {
    /// Serves the tests' model as `a`, in two replicas, and as `b`; the budget holds two replicas of one of them.
    fn serve(home: &std::path::Path) -> Self {
        let bytes = std::fs::metadata(support::test_model()).unwrap().len();
        for name in ["a", "b"] {
            support::install(home, name);
        }
        let memory = format!("runtime.memory={}B", bytes / 2 * 3);
        let models = "runtime.models=a replicas=2";
        let serve = ["--set", &memory, "--set", models];
        Program(Served::start(home, &serve))
    }

    fn post(&self, path: &str, body: serde_json::Value) -> support::Reply {
        support::Call::json(self.0.address, path, &body).send()
    }

    fn ask(&self, model: &str, first: u32) {
        let prompt: Vec<u32> = (first..first + 40).collect();
        let body = serde_json::json!({"model": model, "prompt": prompt, "max_tokens": 4, "ignore_eos": true});
        let reply = self.post("/v1/completions", body);
        assert_eq!(reply.status, 200, "{}", reply.body);
    }
}

/// Takes some minutes: `cargo test --test memory -- --ignored`.
#[test]
#[ignore = "loads the real model eighty times"]
fn memory_of_the_program_goes_back_to_the_system() {
    let home = tempfile::tempdir().unwrap();
    let program = Program::serve(home.path());
    let mut after = Vec::new();
    for _ in 0..CYCLES {
        for model in ["a", "b"] {
            std::thread::scope(|scope| {
                for n in 0..ASKING {
                    let program = &program;
                    scope.spawn(move || program.ask(model, n as u32));
                }
            });
        }
        for (gone, next) in [("b", "a"), ("a", "b")] {
            let path = format!("/v1/models/{gone}/unload");
            let reply = program.post(&path, serde_json::json!({}));
            assert_eq!(reply.status, 200, "{}", reply.body);
            program.ask(next, 1);
        }
        after.push(held(&program.0.process.id().to_string(), "VmRSS:"));
    }
    println!("resident after each cycle, MB: {:?}", in_mb(&after));
    let (first, last) = (after[0], middle(&after[CYCLES - 5..]));
    let change = (last as f64 - first as f64).abs() / first as f64;
    assert!(change < 0.05, "{first} became {last}");
}
