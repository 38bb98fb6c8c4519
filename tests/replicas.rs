//! Two engines over one set of weights, and weights that go while sessions stay.

use std::sync::Arc;

use llamahome::ids::{SeqId, SessionId, TokenId};
use llamahome::kv::Policy;
use llamahome::llama::testing::{tiny_config, tiny_gguf};
use llamahome::llama::{Compute, Dtype, KvMemory, Llama, LlamaForward};
use llamahome::sample::SamplingParams;
use llamahome::sched::{
    Ended, Forward, ForwardError, Open, Origin, Phase, Plan, Row, SessionOrder, SessionReply, Want,
};
use llamahome::store::Checkpoint;

/// Tokens of a block that prompts share.
const GRID: usize = 8;

struct Case {
    folder: tempfile::TempDir,
    checkpoint: Checkpoint,
    parked_bytes: usize,
}

impl Case {
    fn new(parked_bytes: usize) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("tiny.gguf");
        std::fs::write(&file, tiny_gguf(&tiny_config(), 7).unwrap()).unwrap();
        Case {
            checkpoint: Checkpoint::open(&file).unwrap(),
            folder,
            parked_bytes,
        }
    }

    fn load(&self) -> LlamaForward {
        let llama = Llama::load(&self.checkpoint, Compute::choose(Dtype::Float32), 8, None);
        let memory = KvMemory {
            grid: GRID,
            prefix_bytes: 1 << 20,
            parked_bytes: self.parked_bytes,
            folder: Some(self.folder.path().to_owned()),
            ..KvMemory::default()
        };
        LlamaForward::with_memory(llama.unwrap(), memory)
    }
}

fn session() -> SessionId {
    "s".parse().unwrap()
}

fn prompt(count: usize) -> Vec<TokenId> {
    (0..count).map(|i| (i * i % 90) as TokenId).collect()
}

/// Feeds `tokens` from position `start`; logits after the last of them, and how many were not computed.
fn feed(
    model: &mut dyn Forward,
    seq: u64,
    tokens: &[TokenId],
    start: usize,
    origin: Origin,
) -> Result<(Vec<f32>, usize), ForwardError> {
    let mut last = (Vec::new(), 0);
    let mut at = 0;
    while at < tokens.len() {
        // Prompts are shared by whole blocks of the grid, so rows end where blocks do.
        let end = (((start + at) / GRID + 1) * GRID - start).min(tokens.len());
        let left = tokens.len() - end;
        let row = Row {
            seq: SeqId(seq),
            open: (at == 0).then(|| Open {
                policy: Policy::full(),
                sampling: SamplingParams::default(),
                origin: origin.clone(),
            }),
            tokens: tokens[at..end].to_vec(),
            start: start + at,
            want: if left == 0 { Want::Last } else { Want::Nothing },
            phase: Phase::Prompt { left },
        };
        let plan = Plan {
            rows: vec![row],
            paused: Vec::new(),
            ended: Vec::new(),
        };
        let row = model.forward(&plan)?.rows.swap_remove(0);
        last = (row.logits, last.1 + row.cached);
        at = end;
    }
    Ok(last)
}

fn park(model: &mut dyn Forward, seq: u64) {
    let ended = Ended {
        seq: SeqId(seq),
        park: Some(session()),
    };
    let plan = Plan {
        rows: Vec::new(),
        paused: Vec::new(),
        ended: vec![ended],
    };
    model.forward(&plan).unwrap();
}

fn go_on(model: &mut dyn Forward, seq: u64) -> Result<Vec<f32>, ForwardError> {
    let turn = [3, 1, 4];
    Ok(feed(model, seq, &turn, 20, Origin::Session(session()))?.0)
}

#[test]
fn a_twin_computes_the_same_and_has_sessions_of_its_own() {
    let case = Case::new(0);
    let mut model = case.load();
    let mut twin = model.twin().unwrap();
    assert_eq!(twin.weight_bytes(), model.weight_bytes());
    let tokens = prompt(20);
    let (one, _) = feed(&mut model, 1, &tokens, 0, Origin::Empty).unwrap();
    let (other, _) = feed(twin.as_mut(), 1, &tokens, 0, Origin::Empty).unwrap();
    assert_eq!(one, other);
    // With no room in memory the session is on disk.
    park(&mut model, 1);
    assert!(model.memory().spilled_session_bytes > 0);
    assert!(matches!(
        go_on(twin.as_mut(), 2),
        Err(ForwardError::UnknownSession(_))
    ));
    // The end of one takes nothing from the other, and the weights outlive the one that read them.
    drop(twin);
    let expected = go_on(&mut model, 2).unwrap();
    let mut second = model.twin().unwrap();
    drop(model);
    let (again, _) = feed(second.as_mut(), 1, &tokens, 0, Origin::Empty).unwrap();
    assert_eq!(one, again);
    assert!(!expected.is_empty());
}

#[test]
fn sessions_and_prefixes_outlive_the_weights() {
    for parked_bytes in [0, usize::MAX] {
        let case = Case::new(parked_bytes);
        let tokens = prompt(20);
        let shared = Origin::Prefix {
            prompt: Arc::from(tokens.as_slice()),
            tenant: String::new(),
        };
        let mut model = case.load();
        feed(&mut model, 1, &tokens, 0, shared.clone()).unwrap();
        park(&mut model, 1);
        let expected = go_on(&mut model, 2).unwrap();
        let before = model.memory();
        let kept = model.take_kept().unwrap();
        assert_eq!(kept.memory, before);
        drop(model);

        let mut woken = case.load();
        assert!(woken.put_kept(kept));
        assert_eq!(woken.memory().parked_bytes, before.parked_bytes);
        assert_eq!(go_on(&mut woken, 3).unwrap(), expected);
        let (_, cached) = feed(&mut woken, 4, &tokens, 0, shared).unwrap();
        assert!(cached >= 16, "{cached} tokens were shared");
        let listed = woken.session(SessionOrder::List).unwrap();
        assert!(matches!(listed, SessionReply::Sessions(list) if list.len() == 1));
    }
}
