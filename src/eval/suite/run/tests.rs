use std::path::Path;

use super::*;
use crate::eval::suite::builtins;
use crate::eval::suite::testing::{Fake, Reader};

fn task(text: &str) -> TaskSpec {
    TaskSpec::parse(&format!("name = 'x'\n{text}"), Path::new("x.toml")).unwrap()
}

fn run(judge: &mut Fake, text: &str) -> Result<TaskResult, SuiteError> {
    let options = SuiteOptions {
        executor: Some(&Reader),
        batch: 2,
        ..SuiteOptions::new("fake")
    };
    let mut results = run_suite(judge, &[task(text)], &options, |_| {})?;
    Ok(results.tasks.remove(0))
}

#[test]
fn n10_bits_per_byte() {
    let mut judge = Fake {
        vocabulary: 256.0,
        ..Fake::default()
    };
    let text = "kind = 'loss'\nitems = [{text = 'abcd'}, {text = 'abcdefgh'}]";
    let result = run(&mut judge, text).unwrap();
    // Uniform over V with b bytes a token: log2(V) / b.
    assert!((result.value - 4.0).abs() < 1e-12, "{result:?}");
    assert!((result.loss.unwrap() - 256_f64.ln()).abs() < 1e-12);
    assert!((result.perplexity.unwrap() - 256.0).abs() < 1e-9);
    assert_eq!((result.centred, result.baseline), (None, None));
    assert!((result.scores.iter().sum::<f64>() / 2.0 - 4.0).abs() < 1e-12);
    let ignored = run(&mut judge, "kind = 'loss'\nitems = [{text = 'a'}]").unwrap_err();
    assert!(ignored.to_string().contains("no byte"), "{ignored}");
}

#[test]
fn choices_and_schemas_take_the_most_probable() {
    let mut judge = Fake::default();
    let result = run(
        &mut judge,
        "kind = 'multiple_choice'\nbaseline = 0.5\nitems = [
            {query = 'a', choices = ['gold', 'x'], gold = 0},
            {query = 'b', choices = ['x', 'gold'], gold = 1},
            {query = 'c', choices = ['gold', 'x'], gold = 1},
            {query = 'd', choices = ['x', 'gold'], gold = 1}]",
    )
    .unwrap();
    assert_eq!((result.value, result.centred), (0.75, Some(0.5)));
    assert!(judge.asked.contains(&"a| gold".to_owned()));
    let result = run(
        &mut judge,
        "kind = 'schema'\nitems = [{contexts = ['x', 'gold'], continuation = 'y', gold = 1}]",
    )
    .unwrap();
    assert_eq!((result.value, result.items), (1.0, 1));
    assert!(judge.asked.contains(&"gold| y".to_owned()));
}

#[test]
fn replies_are_scored_with_examples_before_them() {
    let items = "items = [{prompt = 'p', answer = 'gold'}, {prompt = 'q', answer = 'gold'}]";
    let mut judge = Fake {
        replies: vec!["gold".to_owned(), "tin".to_owned()],
        ..Fake::default()
    };
    let result = run(
        &mut judge,
        &format!("kind = 'generation'\nshots = 1\ntemperature = 1.0\nsamples = 4\n{items}"),
    )
    .unwrap();
    assert_eq!((result.value, &result.scores[..]), (0.5, &[0.5, 0.5][..]));
    judge.asked.sort();
    assert_eq!(judge.asked, ["p gold\n\nq", "q gold\n\np"]);

    let mut judge = Fake {
        replies: vec!["gold".to_owned()],
        ..Fake::default()
    };
    run(&mut judge, &format!("kind = 'chat'\nshots = 1\n{items}")).unwrap();
    judge.asked.sort();
    assert_eq!(judge.asked[0], "User: p; Assistant: gold; User: q");

    let mut judge = Fake::default();
    let greedy = format!("kind = 'generation'\nmetric = 'greedy'\n{items}");
    let result = run(&mut judge, &greedy).unwrap();
    assert_eq!((result.value, result.metric.as_str()), (1.0, "greedy"));
    judge.asked.sort();
    assert_eq!(judge.asked, ["p| gold", "q| gold"]);
}

#[test]
fn code_is_run_with_its_tests() {
    let mut judge = Fake {
        replies: vec!["```python\ngood\n```".to_owned(), "bad".to_owned()],
        ..Fake::default()
    };
    let text =
        "kind = 'code'\ntemperature = 1.0\nsamples = 2\nitems = [{prompt = 'p', test = 't'}]";
    let result = run(&mut judge, text).unwrap();
    assert_eq!((result.value, result.metric.as_str()), (0.5, "tests"));
    let options = SuiteOptions::new("fake");
    let error = run_suite(&mut judge, &[task(text)], &options, |_| {}).unwrap_err();
    assert!(matches!(error, SuiteError::NoSandbox { .. }));
    let text = "kind = 'code'\nchat = true\nitems = [{prompt = 'p', test = 'unguarded'}]";
    let error = run(&mut judge, text).unwrap_err();
    assert!(matches!(error, SuiteError::Sandbox { .. }));
    assert_eq!(judge.asked.last().unwrap(), "User: p");
}

#[test]
fn limits_and_progress() {
    let tasks = builtins();
    let mut judge = Fake {
        replies: vec!["7".to_owned()],
        ..Fake::default()
    };
    let options = SuiteOptions {
        limit: Some(20),
        ..SuiteOptions::new("fake")
    };
    let mut seen = Vec::new();
    let results = run_suite(&mut judge, &tasks, &options, |progress| {
        seen.push((progress.number, progress.done, progress.items));
    })
    .unwrap();
    assert_eq!(
        seen[..4],
        [(0, 0, 20), (0, 16, 20), (0, 20, 20), (1, 0, 20)]
    );
    let task = &results.tasks[0];
    assert_eq!((task.items, task.available, task.shots), (20, 200, 4));
    assert!(results.mean_centred.is_some());
    let json = serde_json::to_string(&results).unwrap();
    let read: crate::eval::suite::SuiteResults = serde_json::from_str(&json).unwrap();
    assert_eq!(read.tasks.len(), 4);
    let table = results.table().to_string();
    assert!(
        table.contains("20 of 200") && table.contains("\nmean"),
        "{table}"
    );
}

#[test]
fn failures_name_the_task() {
    let mut judge = Fake {
        vocabulary: 2.0,
        ..Fake::default()
    };
    let error = run(&mut judge, "kind = 'loss'\nitems = [{text = 'broken'}]").unwrap_err();
    assert!(
        error.to_string().starts_with("task x: text 0 has 9 tokens"),
        "{error}"
    );
    let mut short = Fake {
        short: true,
        vocabulary: 2.0,
        replies: vec!["x".to_owned()],
        ..Fake::default()
    };
    for text in [
        "kind = 'loss'\nitems = [{text = 'abc'}]",
        "kind = 'chat'\nitems = [{prompt = 'p', answer = 'x'}]",
        "kind = 'schema'\nitems = [{contexts = ['x', 'y'], continuation = 'y', gold = 1}]",
        "kind = 'generation'\nmetric = 'greedy'\nitems = [{prompt = 'p', answer = 'x'}]",
        "kind = 'code'\nitems = [{prompt = 'p', test = 't'}]",
    ] {
        assert!(
            matches!(run(&mut short, text), Err(SuiteError::Answers { .. })),
            "{text}"
        );
    }
    let options = SuiteOptions {
        batch: 0,
        ..SuiteOptions::new("fake")
    };
    assert!(run_suite(&mut judge, &[], &options, |_| {}).is_err());
}
