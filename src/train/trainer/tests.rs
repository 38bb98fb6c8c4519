use std::path::{Path, PathBuf};

use super::*;
use crate::eval::suite::{Problem, Reward, RewardTask, Split};
use crate::store::{Catalog, Home, Model};
use crate::train::recipe;
use crate::train::runs::Request;

const PRETRAIN: &str = r#"
stage = "pretrain"
[model]
depth = 2
aspect_ratio = 16
head_dim = 16
tied = true
context = 32
[tokenizer]
vocab_size = 300
[data]
path = "PATH"
validation_split = 0.1
[optim]
lr = 3e-3
[batch]
rows = 4
[horizon]
steps = 8
[evaluation]
every = 4
samples = ["The"]
sample_tokens = 4
[checkpoint]
every = 4
[logging]
every = 1
[export]
name = "tiny"
"#;

const CHAT: &str = r#"
stage = "STAGE"
[model]
base = "tiny"
[data]
path = "PATH"
validation_split = 0.2
max_length = 32
[optim]
lr = 1e-3
[batch]
rows = 4
micro_rows = 2
[horizon]
steps = 6
[evaluation]
every = 3
[checkpoint]
every = 3
[logging]
every = 1
[export]
name = "NAME"
"#;

struct Place {
    folder: tempfile::TempDir,
    library: Library,
}

impl Place {
    fn new() -> Place {
        let folder = tempfile::tempdir().unwrap();
        let home = Home::at(folder.path().join("home"));
        home.create().unwrap();
        let library = Library::new(home, Catalog::built_in().unwrap());
        let place = Place { folder, library };
        let text: String = (0..400)
            .map(|n| format!("The number {n} comes before the number {}. ", n + 1))
            .collect();
        std::fs::write(place.path("text.txt"), text).unwrap();
        let chats: String = (0..60)
            .map(|n| {
                format!(
                    "{{\"prompt\": \"After {n}?\", \"completion\": \"{}\"}}\n",
                    n + 1
                )
            })
            .collect();
        std::fs::write(place.path("chats.jsonl"), chats).unwrap();
        place
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn pretrain(&self) -> Loaded {
        let path = self.path("text.txt");
        parsed(&PRETRAIN.replace("PATH", path.to_str().unwrap()))
    }

    fn chat(&self, stage: &str, more: &str) -> Loaded {
        let path = self.path("chats.jsonl");
        let text = CHAT.replace("PATH", path.to_str().unwrap());
        parsed(&(text.replace("STAGE", stage).replace("NAME", stage) + more))
    }

    fn begin(&self, loaded: &Loaded) -> Trainer {
        Trainer::begin(&self.library, loaded, 1, &mut |_| {}).unwrap()
    }

    fn resume(&self, id: &str) -> Trainer {
        Trainer::resume(&self.library, id, 1, &mut |_| {}).unwrap()
    }

    /// A model that others are trained from.
    fn with_base() -> Place {
        let place = Place::new();
        let mut trainer = place.begin(&place.pretrain());
        to_the_end(&mut trainer);
        assert_eq!(trainer.finish(&place.library).unwrap(), "tiny");
        place
    }
}

fn parsed(text: &str) -> Loaded {
    recipe::parse(Path::new("recipe.toml"), text, &[]).unwrap()
}

fn to_the_end(trainer: &mut Trainer) -> Vec<Outcome> {
    let mut all = Vec::new();
    while trainer.taken() < trainer.steps() {
        all.push(trainer.step().unwrap());
    }
    all
}

fn bits(trainer: &Trainer) -> Vec<u32> {
    let parameters = trainer.network.parameters();
    let values = parameters.iter().flat_map(|parameter| parameter.values);
    values.map(|value| value.to_bits()).collect()
}

/// Straight through, and killed after some steps beyond the last checkpoint and gone on with.
fn resumes_to_the_bit(place: &Place, loaded: &Loaded, before: usize) {
    let mut straight = place.begin(loaded);
    to_the_end(&mut straight);
    let mut killed = place.begin(loaded);
    for _ in 0..before {
        killed.step().unwrap();
    }
    let id = killed.folder().id().to_string();
    drop(killed);
    let mut resumed = place.resume(&id);
    assert!(resumed.taken() > 0 && resumed.taken() < before as u64);
    to_the_end(&mut resumed);
    assert_eq!(bits(&straight), bits(&resumed));
    let losses = |trainer: &Trainer| -> Vec<f64> {
        let log = crate::train::record::read(&trainer.folder().log()).unwrap();
        log.steps().map(|step| step.loss).collect()
    };
    assert_eq!(losses(&straight), losses(&resumed));
}

#[test]
fn pretraining_resumes_to_the_bit() {
    let place = Place::new();
    resumes_to_the_bit(&place, &place.pretrain(), 6);
}

#[test]
fn fine_tuning_and_adapters_resume_to_the_bit() {
    let place = Place::with_base();
    resumes_to_the_bit(&place, &place.chat("sft", ""), 5);
    let lora = "[lora]\nrank = 2\nalpha = 4\ndropout = 0.1\ntargets = [\"q_proj\", \"v_proj\"]\n";
    resumes_to_the_bit(&place, &place.chat("lora", lora), 4);
}

#[test]
fn a_run_learns_judges_and_leaves_a_model_that_opens() {
    let place = Place::new();
    let mut trainer = place.begin(&place.pretrain());
    let outcomes = to_the_end(&mut trainer);
    let losses: Vec<f64> = outcomes.iter().map(|outcome| outcome.step.loss).collect();
    assert!(losses[7] < losses[0] - 0.1, "{losses:?}");
    assert_eq!(
        outcomes
            .iter()
            .filter(|outcome| outcome.evaluated.is_some())
            .count(),
        2
    );
    assert_eq!(outcomes[7].end, Some(End::Finished));
    let last = outcomes[7].evaluated.as_ref().unwrap();
    assert!(last.bits_per_byte.unwrap() > 0.0 && last.best);
    let name = trainer.finish(&place.library).unwrap();
    let folder = trainer.folder().clone();
    assert_eq!(folder.state().unwrap().status, Status::Finished);
    assert!(folder.metrics().is_file(), "R9");
    let log = crate::train::record::read(&folder.log()).unwrap();
    assert!(
        log.entries
            .iter()
            .any(|entry| matches!(entry, Entry::Sample(_)))
    );
    let model = Model::open(&place.library.find(&name).unwrap().path).unwrap();
    assert_eq!(model.eos.len(), 2);
    assert!(model.template.is_some());
    // The same name again takes the place of the first.
    drop(trainer);
    let mut again = place.resume(folder.id().as_str());
    assert_eq!(again.install(&place.library).unwrap(), name);
}

#[test]
fn adapters_leave_a_merged_model_and_their_own_files() {
    let place = Place::with_base();
    let lora = "[lora]\nrank = 2\n";
    let mut trainer = place.begin(&place.chat("lora", lora));
    to_the_end(&mut trainer);
    let name = trainer.finish(&place.library).unwrap();
    assert!(
        trainer
            .folder()
            .path()
            .join("adapter/adapter_config.json")
            .is_file()
    );
    assert!(Model::open(&place.library.find(&name).unwrap().path).is_ok());
}

#[test]
fn what_cannot_begin_says_why_and_is_a_failed_run() {
    let place = Place::new();
    for (from, to, part) in [
        ("text.txt", "none.txt", "none.txt"),
        ("rows = 4", "tokens = 100", "no multiple"),
        ("max_length = 32\n", "max_length = 64\n", "context"),
    ] {
        let path = place.path("text.txt");
        let text = PRETRAIN.replace("[optim]", "max_length = 32\n[optim]");
        let text = text
            .replace("PATH", path.to_str().unwrap())
            .replace(from, to);
        let loaded = parsed(&text);
        let error = Trainer::begin(&place.library, &loaded, 1, &mut |_| {})
            .err()
            .unwrap();
        assert!(error.to_string().contains(part), "{error}");
    }
    let list = crate::train::runs::list(&place.library.home().runs()).unwrap();
    assert_eq!(list.runs.len(), 3);
    for run in list.runs {
        assert_eq!(run.state.status, Status::Failed);
        assert!(run.state.reason.is_some());
    }
}

#[test]
fn a_loss_that_is_no_number_stops_before_anything_is_kept() {
    let place = Place::new();
    let mut trainer = place.begin(&place.pretrain());
    for _ in 0..4 {
        trainer.step().unwrap();
    }
    let kept = trainer.folder().checkpoints().last().unwrap().unwrap();
    trainer.network.parameters_mut()[0].values[0] = f32::NAN;
    let error = (0..4).find_map(|_| trainer.step().err()).unwrap();
    assert!(matches!(error, TrainError::Alarm(_)), "{error}");
    let last = trainer.folder().checkpoints().last().unwrap().unwrap();
    assert_eq!(last.step, kept.step);
}

#[test]
fn requests_reach_a_run_through_its_folder() {
    let place = Place::new();
    let trainer = place.begin(&place.pretrain());
    let folder = RunFolder::open(&place.library.home().runs(), trainer.folder().id().as_str());
    let folder = folder.unwrap();
    assert!(folder.is_locked().unwrap());
    folder.post(Request::Pause).unwrap();
    folder.post(Request::Save).unwrap();
    assert_eq!(
        trainer.folder().requests().unwrap(),
        [Request::Pause, Request::Save]
    );
    let second = Trainer::resume(&place.library, folder.id().as_str(), 1, &mut |_| {});
    assert!(second.is_err(), "another process is at it");
    drop(trainer);
    assert!(!folder.is_locked().unwrap());
}

#[test]
fn data_is_validated_and_shown_without_training() {
    let place = Place::new();
    let loaded = place.pretrain();
    let found = validate(&loaded.recipe).unwrap();
    assert!(found[0].1.is_clean());
    let previews = preview(&place.library, &loaded.recipe, 2, 20).unwrap();
    assert!(!previews.is_empty() && previews[0].to_string().contains("tokens"));
    assert!(
        place
            .library
            .home()
            .runs()
            .read_dir()
            .map_or(0, Iterator::count)
            == 0
    );
}

const REWARDS: &str = r#"
stage = "rl"
[model]
base = "tiny"
[rl]
task = "arithmetic:max=3"
groups = 2
samples = 4
max_new_tokens = 6
eval_prompts = 3
[optim]
lr = 1e-3
[batch]
micro_rows = 2
[horizon]
steps = 6
[evaluation]
every = 3
[checkpoint]
every = 2
[logging]
every = 1
[export]
name = "rewarded"
"#;

/// Pays for the letters of the wanted half of the alphabet, of which even a random model writes some.
struct Letters;

impl RewardTask for Letters {
    fn name(&self) -> &str {
        "letters"
    }

    fn len(&self, _: Split) -> usize {
        0
    }

    fn problem(&self, _: Split, _: usize) -> Option<Problem> {
        None
    }

    fn solution(&self, _: &Problem) -> String {
        "a".to_owned()
    }

    fn score(&self, _: &Problem, reply: &str) -> Reward {
        let letters = reply.chars().filter(|c| ('a'..'n').contains(c)).count();
        Reward {
            value: letters as f64 / reply.len().max(1) as f64,
            parts: Vec::new(),
            right: letters > 0,
        }
    }
}

impl Place {
    /// A model that can read a prompt, and a recipe that rewards it.
    fn with_rewards() -> (Place, Loaded) {
        let place = Place::new();
        let path = place.path("text.txt");
        let text = PRETRAIN.replace("PATH", path.to_str().unwrap());
        let text = text.replace("context = 32", "context = 256");
        let text = text.replace("steps = 8", "steps = 1");
        let mut trainer = place.begin(&parsed(&text.replace("rows = 4", "rows = 1")));
        to_the_end(&mut trainer);
        trainer.finish(&place.library).unwrap();
        (place, parsed(REWARDS))
    }
}

fn paid(mut trainer: Trainer) -> Trainer {
    let Teacher::Rewards(rewards) = &mut trainer.teacher else {
        panic!("the stage is rl");
    };
    rewards.task = Box::new(Letters);
    trainer
}

#[test]
fn learning_from_rewards_resumes_to_the_bit() {
    let (place, loaded) = Place::with_rewards();
    let mut straight = paid(place.begin(&loaded));
    let before = bits(&straight);
    let outcomes = to_the_end(&mut straight);
    assert_ne!(before, bits(&straight));
    let drawn = outcomes[0].step.drawn.unwrap();
    assert_eq!((drawn.groups, drawn.answers), (2, 8));
    assert!(drawn.tokens <= 48 && drawn.learnt > 0, "{drawn:?}");
    let first = outcomes[0].before.as_ref().unwrap();
    assert_eq!((first.step, first.loss), (0, None));
    assert!(first.reward.is_some() && first.right.is_some());
    assert_eq!(outcomes.iter().filter(|o| o.evaluated.is_some()).count(), 2);
    let mut killed = paid(place.begin(&loaded));
    for _ in 0..5 {
        killed.step().unwrap();
    }
    let id = killed.folder().id().to_string();
    drop(killed);
    let mut resumed = paid(place.resume(&id));
    assert_eq!(resumed.taken(), 4);
    assert!(resumed.look().unwrap().is_none());
    to_the_end(&mut resumed);
    assert_eq!(bits(&straight), bits(&resumed));
    let log = |trainer: &Trainer| crate::train::record::read(&trainer.folder().log()).unwrap();
    let (straight, resumed) = (log(&straight), log(&resumed));
    let steps = |log: &crate::train::record::Log| -> Vec<(f64, Option<f64>)> {
        log.steps().map(|step| (step.loss, step.reward)).collect()
    };
    assert_eq!(steps(&straight), steps(&resumed));
    let rewards = |log: &crate::train::record::Log| -> Vec<(u64, Option<f64>, bool)> {
        let all = log.evaluations();
        all.map(|at| (at.step, at.reward, at.best)).collect()
    };
    assert_eq!(rewards(&straight), rewards(&resumed));
    assert_eq!(rewards(&straight).len(), 3);
}

/// A random model never writes the format: nothing is learnt, and nothing moves.
#[test]
fn groups_without_a_difference_move_nothing_and_are_told() {
    let (place, loaded) = Place::with_rewards();
    let mut trainer = place.begin(&loaded);
    let before = bits(&trainer);
    let outcome = trainer.step().unwrap();
    assert_eq!(before, bits(&trainer));
    assert_eq!(outcome.step.drawn.unwrap().skipped, 2);
    assert_eq!((outcome.step.loss, outcome.step.reward), (0.0, Some(0.0)));
    to_the_end(&mut trainer);
    assert_eq!(trainer.finish(&place.library).unwrap(), "rewarded");
}

#[test]
fn prompts_are_each_gone_through_once_an_epoch_and_none_is_held_out() {
    let (place, loaded) = Place::with_rewards();
    let trainer = place.begin(&loaded);
    let Teacher::Rewards(mut rewards) = trainer.teacher else {
        panic!("the stage is rl");
    };
    let (train, held_out) = rewards.prompts();
    assert_eq!((train, held_out), (29, 3));
    let mut epochs = Vec::new();
    for _ in 0..2 {
        let mut epoch: Vec<usize> = (0..train).map(|_| rewards.next()).collect();
        epochs.push(epoch.clone());
        epoch.sort_unstable();
        assert_eq!(epoch, (0..29).collect::<Vec<_>>());
    }
    assert_ne!(epochs[0], epochs[1]);
}

#[test]
fn prompts_are_shown_and_a_task_is_validated() {
    let (place, loaded) = Place::with_rewards();
    let found = validate(&loaded.recipe).unwrap();
    assert_eq!(
        (found[0].0.as_str(), found[0].1.records),
        ("arithmetic", 32)
    );
    let shown = preview(&place.library, &loaded.recipe, 2, 20).unwrap();
    assert_eq!(shown.len(), 2);
    let text = shown[0].to_string();
    for part in [
        "What is ",
        "reward 1.00 (format 0.1, answer 0.9)",
        "reward 0.00",
    ] {
        assert!(text.contains(part), "{text}");
    }
    assert!(serde_json::to_value(&shown[0]).unwrap()["scored"].is_array());
}

#[test]
fn rewards_without_room_or_problems_are_refused() {
    let (place, _) = Place::with_rewards();
    for (from, to, part) in [
        (
            "max_new_tokens = 6",
            "max_new_tokens = 250",
            "rl.max_new_tokens",
        ),
        (
            "task = \"arithmetic:max=3\"",
            "task = \"gsm8k\"\npath = \"none.jsonl\"",
            "none.jsonl",
        ),
    ] {
        let loaded = parsed(&REWARDS.replace(from, to));
        let error = Trainer::begin(&place.library, &loaded, 1, &mut |_| {});
        let error = error.err().unwrap().to_string();
        assert!(error.contains(part), "{error}");
    }
}

#[test]
fn fine_tuning_is_judged_before_its_first_step() {
    let place = Place::with_base();
    let mut trainer = place.begin(&place.chat("sft", ""));
    let first = trainer.look().unwrap().unwrap();
    assert_eq!(first.step, 0);
    assert!(first.loss.unwrap() > 0.0 && first.best);
    let outcomes = to_the_end(&mut trainer);
    assert!(outcomes.iter().all(|outcome| outcome.before.is_none()));
    let id = trainer.folder().id().to_string();
    let log = crate::train::record::read(&trainer.folder().log()).unwrap();
    let steps: Vec<u64> = log.evaluations().map(|at| at.step).collect();
    assert_eq!(steps, [0, 3, 6]);
    drop(trainer);
    assert!(place.resume(&id).look().unwrap().is_none());
    // A run that was killed before its first checkpoint begins anew, and is judged anew.
    let mut killed = place.begin(&place.chat("sft", ""));
    killed.step().unwrap();
    let id = killed.folder().id().to_string();
    drop(killed);
    let mut again = place.resume(&id);
    assert!(again.look().unwrap().is_some());
    let log = crate::train::record::read(&again.folder().log()).unwrap();
    assert_eq!(log.evaluations().count(), 1);
}
