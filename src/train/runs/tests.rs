use std::fs;
use std::path::Path;

use super::*;
use crate::train::early_stop::Better;
use crate::train::recipe::{self, Recipe, Stage};

const LAST: Keep = Keep {
    last: 2,
    best: Some(Better::Lower),
};

fn recipe() -> Recipe {
    let text = "name = \"x\"\nstage = \"sft\"\n[model]\nbase = \"m\"\n[data]\npath = \"d\"\n";
    recipe::parse(Path::new("r.toml"), text, &[])
        .unwrap()
        .recipe
}

fn save(all: &Checkpoints, step: u64, metric: Option<f64>) -> Saved {
    let pending = all.begin(step, 1000).unwrap();
    fs::write(pending.path().join("model.safetensors"), step.to_string()).unwrap();
    pending.commit(metric, LAST).unwrap()
}

fn steps(all: &Checkpoints) -> Vec<u64> {
    all.all().unwrap().iter().map(|saved| saved.step).collect()
}

#[test]
fn l1_keep_last_two_of_five() {
    let home = tempfile::tempdir().unwrap();
    let run = RunFolder::create(home.path(), &recipe(), 0).unwrap();
    let all = run.checkpoints();
    for step in 1..=5 {
        save(&all, step * 10, None);
    }
    assert_eq!(steps(&all), [40, 50]);
    assert_eq!(all.last().unwrap().unwrap().step, 50);
    assert_eq!(all.best(Better::Lower).unwrap(), None);
}

#[test]
fn l1_l2_the_best_is_never_deleted() {
    let home = tempfile::tempdir().unwrap();
    let run = RunFolder::create(home.path(), &recipe(), 0).unwrap();
    let all = run.checkpoints();
    for (at, loss) in [0.5, 0.6, 0.4, 0.7, 0.8, 0.9].into_iter().enumerate() {
        save(&all, at as u64, Some(loss));
    }
    assert_eq!(steps(&all), [2, 4, 5]);
    assert_eq!(all.best(Better::Lower).unwrap().unwrap().step, 2);
    assert_eq!(all.best(Better::Higher).unwrap().unwrap().step, 5);
    assert_eq!(save(&all, 6, Some(f64::NAN)).metric, None);
}

#[test]
fn l3_missing_and_damaged_checkpoints() {
    let home = tempfile::tempdir().unwrap();
    let run = RunFolder::create(home.path(), &recipe(), 0).unwrap();
    let all = run.checkpoints();
    assert_eq!(all.last().unwrap(), None);
    assert_eq!(
        all.of_step(7).unwrap_err().to_string(),
        "run x-1 has no checkpoint of step 7: it has none"
    );
    let saved = save(&all, 8, Some(0.5));
    fs::write(saved.path.join("checkpoint.json"), "{").unwrap();
    let found = all.all().unwrap();
    assert!(found[0].damaged && found[0].metric.is_none());
    assert_eq!(all.best(Better::Lower).unwrap(), None);
    assert!(
        all.of_step(7)
            .unwrap_err()
            .to_string()
            .ends_with("it has 8")
    );
}

/// What `kill -9` leaves: a folder half written and one half removed.
#[test]
fn half_a_checkpoint_is_none_and_is_cleaned() {
    let home = tempfile::tempdir().unwrap();
    let run = RunFolder::create(home.path(), &recipe(), 0).unwrap();
    let all = run.checkpoints();
    let whole = save(&all, 10, None);
    let pending = all.begin(20, 1000).unwrap();
    fs::write(pending.path().join("model.safetensors"), "half").unwrap();
    std::mem::forget(pending);
    fs::create_dir(whole.path.with_file_name("removing-step-00000005")).unwrap();
    assert_eq!(steps(&all), [10]);
    assert_eq!(
        all.clean().unwrap(),
        ["removing-step-00000005", "writing-step-00000020"]
    );
    assert_eq!(all.clean().unwrap(), [""; 0]);
    assert_eq!(
        fs::read_to_string(whole.path.join("model.safetensors")).unwrap(),
        "10"
    );
}

#[test]
fn a_dropped_checkpoint_is_removed_and_a_second_one_replaces() {
    let home = tempfile::tempdir().unwrap();
    let run = RunFolder::create(home.path(), &recipe(), 0).unwrap();
    let all = run.checkpoints();
    drop(all.begin(10, 1).unwrap());
    assert_eq!(steps(&all), [0; 0]);
    save(&all, 10, None);
    let pending = all.begin(10, 1).unwrap();
    fs::write(pending.path().join("model.safetensors"), "new").unwrap();
    let saved = pending.commit(None, LAST).unwrap();
    assert_eq!(
        fs::read_to_string(saved.path.join("model.safetensors")).unwrap(),
        "new"
    );
    assert_eq!(steps(&all), [10]);
}

#[test]
fn a_full_disk_is_told_before_anything_is_written() {
    let home = tempfile::tempdir().unwrap();
    let run = RunFolder::create(home.path(), &recipe(), 0).unwrap();
    let all = run.checkpoints();
    let error = all.begin(1, 1 << 60).unwrap_err().to_string();
    assert!(
        error.contains("bytes free and 1152921504606846976 are needed"),
        "{error}"
    );
    assert_eq!(steps(&all), [0; 0]);
}

#[test]
fn runs_are_numbered_opened_and_listed() {
    let home = tempfile::tempdir().unwrap();
    let runs = home.path().join("runs");
    assert!(list(&runs).unwrap().runs.is_empty());
    let first = RunFolder::create(&runs, &recipe(), 100).unwrap();
    let second = RunFolder::create(&runs, &recipe(), 200).unwrap();
    assert_eq!((first.id().as_str(), second.id().as_str()), ("x-1", "x-2"));
    assert_eq!(first.recipe(&[]).unwrap().recipe, recipe());
    let error = RunFolder::open(&runs, "x-11").unwrap_err().to_string();
    assert!(error.ends_with("did you mean x-1?"), "{error}");
    assert!(matches!(
        RunFolder::open(&runs, "../x-1"),
        Err(RunError::Unknown { .. })
    ));

    let mut state = second.state().unwrap();
    assert_eq!(state.stage, Stage::Sft);
    state.status = Status::Running;
    state.pid = Some(77);
    (state.step, state.steps, state.loss) = (5, Some(10), Some(1.5));
    let lock = second.lock().unwrap();
    second.write_state(&state).unwrap();
    let again = RunFolder::open(&runs, "x-2").unwrap();
    let error = again.lock().unwrap_err().to_string();
    assert_eq!(
        error,
        "run x-2 is in use by process 77: stop it there first"
    );
    fs::create_dir(runs.join("stray")).unwrap();
    let all = list(&runs).unwrap();
    assert_eq!(all.unreadable.len(), 1);
    assert_eq!(
        table(&all.runs, 230),
        "RUN  STAGE  STATUS   STEP  LOSS    CHANGED\n\
         x-2  sft    running  5/10  1.5000  30 s ago\n\
         x-1  sft    queued   0/?   -       2 min ago\n"
    );
    // The process is gone, and its state still says that it runs.
    drop(lock);
    let run = listed(&again).unwrap();
    assert_eq!(run.status(), "interrupted");
    let json = serde_json::to_value(&run).unwrap();
    assert_eq!(
        (&json["interrupted"], &json["status"]),
        (&true.into(), &"running".into())
    );
    assert!(again.lock().is_ok());

    fs::write(first.path().join("state.json"), "{}").unwrap();
    assert!(
        first
            .state()
            .unwrap_err()
            .to_string()
            .contains("is damaged")
    );
    assert_eq!(list(&runs).unwrap().unreadable.len(), 2);
}

#[test]
fn requests_are_taken_once() {
    let home = tempfile::tempdir().unwrap();
    let run = RunFolder::create(home.path(), &recipe(), 0).unwrap();
    assert_eq!(run.requests().unwrap(), []);
    for request in [Request::Stop, Request::Pause, Request::Pause] {
        run.post(request).unwrap();
    }
    assert_eq!(run.requests().unwrap(), [Request::Pause, Request::Stop]);
    assert_eq!(run.requests().unwrap(), []);
    run.post(Request::Pause).unwrap();
    run.post(Request::Resume).unwrap();
    assert_eq!(run.requests().unwrap(), [Request::Resume]);
    // Anyone can drop a file.
    fs::write(run.path().join("requests/save"), "").unwrap();
    assert_eq!(run.requests().unwrap(), [Request::Save]);
}

#[test]
fn names_of_runs() {
    assert!(is_name("a-b_1") && !is_name("") && !is_name("a/b") && !is_name(&"a".repeat(49)));
    assert!("..".parse::<RunId>().is_err() && "a-1".parse::<RunId>().is_ok());
    assert!(serde_json::from_str::<RunId>("\"a b\"").is_err());
}
