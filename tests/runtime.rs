//! The actors with a model without tensors: faults, leases, loading and stopping.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use llamahome::ids::{ModelId, RequestId};
use llamahome::kv::KvChoice;
use llamahome::runtime::{
    Answer, Ask, BadAsk, Builder, Collected, LoadState, ModelError, ModelSource, Opened, Piece,
    RouterKind, Runtime, Sections, ServedModel, SourceError, boot,
};
use llamahome::sample::{SamplingParams, StopMatcher};
use llamahome::sched::{Failure, FakeModel, FinishReason, Forward, OfPrompt, PolicyKind, Standing};
use llamahome::telemetry::Metrics;
use llamahome::text::{ChatTemplate, Tokenizer, Vocab, VocabModel};
use llamahome::units::ByteSize;

const POISON: u32 = 50;

/// `a` and `b` answer; `poison` panics on token 50; `broken` cannot be loaded; all count their loads.
struct Fakes {
    loads: Arc<AtomicUsize>,
    delay: Duration,
}

/// Letters from `A` on as single-byte tokens, so that the text shows the ids; the last is the one merge there must be.
fn tokenizer() -> Tokenizer {
    let letter = |i: u32| char::from_u32('A' as u32 + i).unwrap().to_string();
    let tokens: Vec<String> = (0..63).map(letter).chain(["AB".to_owned()]).collect();
    Tokenizer::from_vocab(Vocab {
        model: VocabModel::Bpe,
        pre: Some("gpt-2".to_owned()),
        types: vec![1; tokens.len()],
        scores: Vec::new(),
        tokens,
        merges: vec!["A B".to_owned()],
        bos: None,
        eos: None,
        eot: None,
        unk: None,
        add_bos: false,
        add_eos: false,
        add_space_prefix: false,
    })
    .unwrap()
}

impl ModelSource for Fakes {
    fn names(&self) -> Vec<ModelId> {
        ["a", "b", "poison", "broken"]
            .map(|name| name.parse().unwrap())
            .to_vec()
    }

    fn open(&self, name: &str) -> Result<Opened, SourceError> {
        let id: ModelId = name
            .parse()
            .map_err(|_| SourceError::NotFound("bad name".to_owned()))?;
        if !self.names().contains(&id) {
            return Err(SourceError::NotFound(format!(
                "model {name} is not installed"
            )));
        }
        let (loads, delay, kind) = (Arc::clone(&self.loads), self.delay, name.to_owned());
        let build: Builder = Arc::new(move || {
            loads.fetch_add(1, Ordering::SeqCst);
            let fake = FakeModel::new(64).with_delay(delay);
            match kind.as_str() {
                "broken" => Err(SourceError::Unusable("its file is cut".to_owned())),
                "poison" => Ok(Box::new(fake.panicking_on(POISON)) as Box<dyn Forward>),
                _ => Ok(Box::new(fake)),
            }
        });
        Ok(Opened {
            id,
            tokenizer: tokenizer(),
            template: Arc::new(ChatTemplate::chatml()),
            context: 200,
            eos: vec![60],
            shape: FakeModel::new(64).kv_shape(),
            weight_bytes: 1 << 20,
            about: "a fake".to_owned(),
            build,
        })
    }
}

struct World {
    runtime: Runtime,
    loads: Arc<AtomicUsize>,
}

fn world(delay: u64, change: impl FnOnce(&mut Sections)) -> World {
    let loads = Arc::new(AtomicUsize::new(0));
    let mut sections = Sections::default();
    change(&mut sections);
    let fakes = Fakes {
        loads: Arc::clone(&loads),
        delay: Duration::from_millis(delay),
    };
    World {
        runtime: boot(sections, Arc::new(fakes), None, Metrics::new()),
        loads,
    }
}

fn ask(prompt: Vec<u32>, max_tokens: usize) -> Ask {
    Ask {
        id: RequestId::random(),
        prompt,
        max_tokens: Some(max_tokens),
        ignore_eos: false,
        sampling: SamplingParams::default(),
        kv: KvChoice::default(),
        system_tokens: 0,
        tenant: String::new(),
        session: None,
        standing: Standing::default(),
        of_prompt: OfPrompt::Nothing,
    }
}

async fn start(
    runtime: &Runtime,
    model: &ServedModel,
    first: u32,
    max_tokens: usize,
    stop: &[&str],
) -> Answer {
    let ask = ask(vec![first], max_tokens);
    let stop = StopMatcher::new(stop.iter().map(|s| (*s).to_owned()).collect()).unwrap();
    runtime
        .generate(model, model.request(ask).unwrap(), stop)
        .await
        .unwrap()
}

#[actix::test]
async fn an_answer_is_text_and_usage() {
    let world = world(0, |_| {});
    let model = world.runtime.model(Some("a")).await.unwrap();
    let Collected {
        text,
        tokens,
        finish,
        ..
    } = start(&world.runtime, &model, 0, 5, &[])
        .await
        .collect()
        .await
        .unwrap();
    assert_eq!(
        (text.as_str(), tokens.len(), finish.reason),
        ("BCDEF", 5, FinishReason::Length)
    );
    assert_eq!(
        (finish.usage.prompt_tokens, finish.usage.completion_tokens),
        (1, 5)
    );
    assert_eq!(finish.kv.tokens_seen, 5);
}

#[actix::test]
async fn a_stop_string_ends_the_work_and_is_not_shown() {
    let world = world(1, |_| {});
    let model = world.runtime.model(Some("a")).await.unwrap();
    let Collected { text, finish, .. } = start(&world.runtime, &model, 0, 40, &["EF"])
        .await
        .collect()
        .await
        .unwrap();
    assert_eq!((text.as_str(), finish.reason), ("BCD", FinishReason::Stop));
    assert!(finish.usage.completion_tokens < 40);
    // Also when it comes with the very last token.
    let Collected { text, finish, .. } = start(&world.runtime, &model, 0, 3, &["D"])
        .await
        .collect()
        .await
        .unwrap();
    assert_eq!(
        (text.as_str(), finish.reason, finish.usage.completion_tokens),
        ("BC", FinishReason::Stop, 3)
    );
}

#[actix::test]
async fn a_panic_fails_that_request_and_the_next_is_served_at_the_same_address() {
    let world = world(0, |_| {});
    let model = world.runtime.model(Some("poison")).await.unwrap();
    let failure = start(&world.runtime, &model, 45, 20, &[])
        .await
        .collect()
        .await
        .unwrap_err();
    assert!(
        matches!(&failure, Failure::WorkerLost(text) if text.contains("injected panic")),
        "{failure}"
    );
    let Collected { text, .. } = start(&world.runtime, &model, 0, 3, &[])
        .await
        .collect()
        .await
        .unwrap();
    assert_eq!(text, "BCD");
    assert_eq!(
        world.loads.load(Ordering::SeqCst),
        2,
        "the fresh worker loaded the model again"
    );
    assert!(
        world
            .runtime
            .metrics()
            .encode()
            .contains("llamahome_worker_restarts_total{reason=\"panicked\"} 1")
    );
}

#[actix::test]
async fn a_panic_of_one_model_does_not_lose_the_others_for_good() {
    let world = world(2, |_| {});
    let poison = world.runtime.model(Some("poison")).await.unwrap();
    let other = world.runtime.model(Some("a")).await.unwrap();
    let running = start(&world.runtime, &other, 0, 55, &[]).await;
    start(&world.runtime, &poison, 49, 5, &[])
        .await
        .collect()
        .await
        .unwrap_err();
    // It shared the lost device, so it is told; the model comes back.
    assert!(matches!(
        running.collect().await,
        Err(Failure::WorkerLost(_))
    ));
    let Collected { text, .. } = start(&world.runtime, &other, 0, 2, &[])
        .await
        .collect()
        .await
        .unwrap();
    assert_eq!(text, "BC");
}

#[actix::test]
async fn a_stopped_actor_is_started_again_and_those_it_served_are_told() {
    let world = world(5, |_| {});
    let model = world.runtime.model(Some("a")).await.unwrap();
    let mut running = start(&world.runtime, &model, 0, 50, &[]).await;
    assert!(matches!(running.next().await, Some(Ok(Piece::Text { .. }))));
    world.runtime.restart_all().await;
    let failure = loop {
        match running.next().await.unwrap() {
            Ok(_) => {}
            Err(failure) => break failure,
        }
    };
    assert!(failure.to_string().contains("starts again"), "{failure}");
    let Collected { text, .. } = start(&world.runtime, &model, 0, 3, &[])
        .await
        .collect()
        .await
        .unwrap();
    assert_eq!(text, "BCD", "the address that was held before still serves");
    assert_eq!(world.runtime.states().await.len(), 1);
}

#[actix::test]
async fn leaving_cancels_at_the_next_step() {
    let world = world(5, |_| {});
    let model = world.runtime.model(Some("a")).await.unwrap();
    let mut running = start(&world.runtime, &model, 0, 55, &[]).await;
    running.next().await.unwrap().unwrap();
    assert_eq!(model.running(), 1);
    drop(running);
    for _ in 0..100 {
        if model.running() == 0 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert_eq!(model.running(), 0);
    assert!(
        world
            .runtime
            .metrics()
            .encode()
            .contains("llamahome_cancelled_total{stage=\"decode\"} 1")
    );
}

#[actix::test]
async fn a_model_is_loaded_once_however_many_ask() {
    let world = world(0, |_| {});
    let asks = (0..20).map(|_| world.runtime.model(Some("a")));
    for model in futures_util::future::join_all(asks).await {
        assert_eq!(model.unwrap().id.as_str(), "a");
    }
    assert_eq!(world.loads.load(Ordering::SeqCst), 1);
}

#[actix::test]
async fn what_cannot_be_loaded_is_said() {
    let world = world(0, |_| {});
    let missing = world.runtime.model(Some("c")).await.err().unwrap();
    assert!(matches!(missing, ModelError::NotFound(_)), "{missing}");
    let broken = world.runtime.model(Some("broken")).await.err().unwrap();
    assert!(broken.to_string().contains("its file is cut"), "{broken}");
    let states = world.runtime.states().await;
    assert!(
        states
            .iter()
            .any(|s| s.name == "broken" && s.state == LoadState::Failed && s.error.is_some())
    );
}

#[actix::test]
async fn the_idlest_model_makes_room_and_a_busy_one_never() {
    let world = world(5, |sections| {
        sections.runtime.memory = Some(ByteSize(3 << 19))
    });
    let a = world.runtime.model(Some("a")).await.unwrap();
    let running = start(&world.runtime, &a, 0, 30, &[]).await;
    let refused = world.runtime.model(Some("b")).await.err().unwrap();
    assert!(matches!(refused, ModelError::NoMemory { .. }), "{refused}");
    running.collect().await.unwrap();
    // Whoever holds it uses it.
    assert!(world.runtime.model(Some("b")).await.is_err());
    drop(a);
    world.runtime.model(Some("b")).await.unwrap();
    let names: Vec<String> = world
        .runtime
        .loaded()
        .iter()
        .map(|m| m.id.to_string())
        .collect();
    assert_eq!(names, ["b"]);
}

#[actix::test]
async fn of_two_idle_models_the_one_that_was_used_longest_ago_goes() {
    let world = world(0, |sections| {
        sections.runtime.memory = Some(ByteSize(2 << 20));
        sections.runtime.replicas = 2;
    });
    // Replicas share their weights, so two models fit with two replicas each.
    for name in ["a", "b", "a"] {
        let model = world.runtime.model(Some(name)).await.unwrap();
        start(&world.runtime, &model, 0, 3, &[])
            .await
            .collect()
            .await
            .unwrap();
        drop(model);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(world.runtime.loaded().len(), 2);
    world.runtime.model(Some("poison")).await.unwrap();
    let names: Vec<String> = world
        .runtime
        .loaded()
        .iter()
        .map(|m| m.id.to_string())
        .collect();
    assert_eq!(names, ["a", "poison"], "b was used longest ago");
    // Four replicas of the first two, one set of weights each; then two more.
    assert_eq!(world.loads.load(Ordering::SeqCst), 3);
}

#[actix::test]
async fn requests_go_to_the_replica_with_the_least_to_do() {
    let world = world(5, |sections| {
        sections.runtime.replicas = 2;
        sections.runtime.router = RouterKind::LeastLoad;
    });
    let model = world.runtime.model(Some("a")).await.unwrap();
    let mut answers = Vec::new();
    for _ in 0..4 {
        let mut answer = start(&world.runtime, &model, 0, 40, &[]).await;
        answer.next().await.unwrap().unwrap();
        answers.push(answer);
    }
    let state = world.runtime.states().await.remove(0);
    let running: Vec<usize> = state.replicas.iter().map(|r| r.running).collect();
    assert_eq!(running, [2, 2]);
    assert_eq!((state.running, model.replicas()), (4, 2));
}

#[actix::test]
async fn a_model_that_sleeps_is_woken_once_however_many_ask() {
    let world = world(0, |sections| sections.runtime.replicas = 2);
    let id: ModelId = "a".parse().unwrap();
    let held = world.runtime.model(Some("a")).await.unwrap();
    let busy = world.runtime.sleep(id.clone()).await.unwrap_err();
    assert!(matches!(busy, ModelError::Busy(_)), "{busy}");
    drop(held);
    let asleep = world.runtime.sleep(id.clone()).await.unwrap();
    assert_eq!(
        (asleep.state, asleep.weight_bytes),
        (LoadState::Sleeping, 0)
    );
    assert!(world.runtime.loaded().is_empty());
    let asks = (0..20).map(|_| world.runtime.model(Some("a")));
    for model in futures_util::future::join_all(asks).await {
        let answer = start(&world.runtime, &model.unwrap(), 0, 3, &[]).await;
        assert_eq!(answer.collect().await.unwrap().text, "BCD");
    }
    assert_eq!(
        world.loads.load(Ordering::SeqCst),
        2,
        "one load and one waking"
    );
    assert_eq!(world.runtime.state(&id).await.state, LoadState::Loaded);
}

#[actix::test]
async fn a_model_that_was_left_during_a_step_is_not_put_to_sleep_before_the_device_knows() {
    let world = world(30, |_| {});
    let id: ModelId = "a".parse().unwrap();
    let model = world.runtime.model(Some("a")).await.unwrap();
    let mut left = start(&world.runtime, &model, 0, 150, &[]).await;
    assert!(matches!(left.next().await, Some(Ok(Piece::Text { .. }))));
    drop((left, model));
    while let Err(busy) = world.runtime.sleep(id.clone()).await {
        assert!(matches!(busy, ModelError::Busy(_)), "{busy}");
        tokio::task::yield_now().await;
    }
    // Behind these steps of another model, the device has done all that it was told for this one.
    let other = world.runtime.model(Some("b")).await.unwrap();
    let answer = start(&world.runtime, &other, 0, 3, &[]).await;
    assert_eq!(answer.collect().await.unwrap().text, "BCD");
    assert_eq!(world.loads.load(Ordering::SeqCst), 2, "it was loaded again");
    assert_eq!(world.runtime.state(&id).await.state, LoadState::Sleeping);
}

#[actix::test]
async fn replicas_that_need_each_others_memory_both_come_to_it() {
    let slot = FakeModel::new(64).kv_shape().slot_bytes() as u64;
    let world = world(0, |sections| {
        sections.kv.total_bytes = ByteSize(60 * slot);
        sections.scheduler.block_tokens = 1;
        sections.runtime.replicas = 2;
        sections.runtime.router = RouterKind::RoundRobin;
    });
    let model = world.runtime.model(Some("a")).await.unwrap();
    // Each has a queue that is never empty, and what one asks for now and then is nearly all that there is.
    let lengths = [20, 30, 50, 20, 10, 40, 55, 25].repeat(4);
    let mut answers = Vec::new();
    for max_tokens in &lengths {
        answers.push(start(&world.runtime, &model, 61, *max_tokens, &[]).await);
    }
    for (answer, max_tokens) in answers.into_iter().zip(lengths) {
        assert_eq!(answer.collect().await.unwrap().tokens.len(), max_tokens);
    }
}

#[actix::test]
async fn a_shutdown_answers_who_waits_for_a_model_and_finishes_who_waits_for_a_place() {
    let world = world(3, |sections| sections.scheduler.max_batch = 1);
    let model = world.runtime.model(Some("a")).await.unwrap();
    let mut answers = Vec::new();
    for _ in 0..4 {
        answers.push(start(&world.runtime, &model, 0, 10, &[]).await);
    }
    let runtime = world.runtime.clone();
    let waiting = actix::spawn(async move { runtime.model(Some("b")).await.err() });
    tokio::task::yield_now().await;
    assert!(world.runtime.shutdown(Duration::from_secs(60)).await);
    for answer in answers {
        assert_eq!(answer.collect().await.unwrap().tokens.len(), 10);
    }
    let told = waiting.await.unwrap();
    assert!(
        matches!(told, None | Some(ModelError::ShuttingDown)),
        "{told:?}"
    );
}

#[actix::test]
async fn a_small_kv_budget_serves_in_turn() {
    let slot = FakeModel::new(64).kv_shape().slot_bytes() as u64;
    let world = world(0, |sections| {
        sections.kv.total_bytes = ByteSize(30 * slot);
        sections.scheduler.block_tokens = 1;
    });
    let model = world.runtime.model(Some("a")).await.unwrap();
    let mut answers = Vec::new();
    for _ in 0..4 {
        answers.push(start(&world.runtime, &model, 0, 20, &[]).await);
    }
    for answer in answers {
        assert_eq!(answer.collect().await.unwrap().tokens.len(), 20);
    }
}

#[actix::test]
async fn v10_a_better_class_has_the_memory_of_a_worse_one_and_both_texts_are_whole() {
    let slot = FakeModel::new(64).kv_shape().slot_bytes() as u64;
    let world = world(1, |sections| {
        sections.kv.total_bytes = ByteSize(50 * slot);
        sections.scheduler.block_tokens = 1;
        sections.scheduler.policy = PolicyKind::Priority;
    });
    let model = world.runtime.model(Some("a")).await.unwrap();
    let class = |priority, max_tokens| Ask {
        standing: Standing {
            priority,
            ..Standing::default()
        },
        of_prompt: OfPrompt::Nothing,
        ..ask(vec![0], max_tokens)
    };
    let generate = async |ask: Ask| {
        let stop = StopMatcher::new(Vec::new()).unwrap();
        let request = model.request(ask).unwrap();
        let answer = world.runtime.generate(&model, request, stop).await;
        answer.unwrap()
    };
    let mut low = generate(class(1, 45)).await;
    let mut text = String::new();
    // It has been in the batch for long enough to give way.
    while text.len() < 20 {
        let Some(Ok(Piece::Text { text: more, .. })) = low.next().await else {
            panic!("it ended after {text}");
        };
        text += &more;
    }
    let high = generate(class(0, 20)).await.collect().await.unwrap();
    assert_eq!((high.text.len(), high.finish.usage.preemptions), (20, 0));
    let rest = low.collect().await.unwrap();
    let usage = &rest.finish.usage;
    assert_eq!(usage.completion_tokens, 45);
    assert_eq!(usage.preemptions, 1);
    assert!(!usage.paused.is_zero());
    let alone = generate(class(0, 45)).await.collect().await.unwrap();
    assert_eq!(text + &rest.text, alone.text);
    let counted = world.runtime.metrics().encode();
    assert!(
        counted.contains("llamahome_preemptions_total 1"),
        "{counted}"
    );
}

#[actix::test]
async fn v11_a_prompt_beyond_the_context_is_refused_and_others_are_answered() {
    let world = world(0, |_| {});
    let model = world.runtime.model(Some("a")).await.unwrap();
    let running = start(&world.runtime, &model, 0, 30, &[]).await;
    let refused = model.request(ask(vec![1; 200], 5)).unwrap_err();
    let expected = BadAsk::TooLong {
        model: "a".to_owned(),
        prompt_tokens: 200,
        context: 200,
    };
    assert_eq!(refused, expected);
    assert_eq!(running.collect().await.unwrap().tokens.len(), 30);
}

#[actix::test]
async fn who_leaves_makes_room_for_who_waits() {
    let world = world(1, |sections| sections.scheduler.max_batch = 1);
    let model = world.runtime.model(Some("a")).await.unwrap();
    // Each would run for as long as there is context; the last one has its turn since the others leave.
    for _ in 0..8 {
        let mut left = start(&world.runtime, &model, 61, 150, &[]).await;
        assert!(matches!(left.next().await, Some(Ok(Piece::Text { .. }))));
    }
    let Collected { text, .. } = start(&world.runtime, &model, 0, 3, &[])
        .await
        .collect()
        .await
        .unwrap();
    assert_eq!(text, "BCD");
    let counted = world.runtime.metrics().encode();
    assert!(
        counted.contains("llamahome_cancelled_total{stage=\"decode\"} 8"),
        "{counted}"
    );
    assert_eq!((model.waiting(), model.running()), (0, 0));
}

#[actix::test]
async fn a_shutdown_finishes_what_runs_and_takes_in_no_more() {
    let world = world(3, |_| {});
    let model = world.runtime.model(Some("a")).await.unwrap();
    let running = start(&world.runtime, &model, 0, 30, &[]).await;
    let runtime = world.runtime.clone();
    let ending = actix::spawn(async move { runtime.shutdown(Duration::from_secs(10)).await });
    tokio::time::sleep(Duration::from_millis(20)).await;
    assert_eq!(
        world.runtime.model(Some("a")).await.err(),
        Some(ModelError::ShuttingDown)
    );
    assert_eq!(running.collect().await.unwrap().tokens.len(), 30);
    assert!(ending.await.unwrap(), "all was finished in time");
}

#[actix::test]
async fn a_shutdown_that_takes_too_long_says_so() {
    let world = world(20, |_| {});
    let model = world.runtime.model(Some("a")).await.unwrap();
    let running = start(&world.runtime, &model, 0, 55, &[]).await;
    let drained = world.runtime.shutdown(Duration::from_millis(100)).await;
    assert!(!drained);
    assert_eq!(running.collect().await.err(), Some(Failure::ShutDown));
}
