#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test may panic"
)]

use super::*;
use serde_json::json;

fn open() -> (tempfile::TempDir, PathBuf, History) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("calls.db");
    let history = History::open(&path).unwrap();
    (folder, path, history)
}

fn call(prompt: &str, answer: &str) -> Call {
    Call {
        at: "2026-01-02T03:04:05Z".to_owned(),
        command: "run".to_owned(),
        model: "m".to_owned(),
        prompt: prompt.to_owned(),
        answer: answer.to_owned(),
        finish_reason: Some("stop".to_owned()),
        about: json!({ "usage": { "prompt_tokens": 3 } }),
    }
}

fn ids(lines: &[Line]) -> Vec<&ConversationId> {
    lines.iter().map(|line| &line.id).collect()
}

#[test]
fn a_conversation_comes_back_as_it_was_said_also_from_another_process() {
    let (_folder, path, mut history) = open();
    let beginning = Beginning {
        system: Some("be brief".to_owned()),
        raw: false,
        before: vec![Message::new(Role::User, "ahead")],
    };
    let (one, two) = (call("a \u{1f999}", "b\n"), call("c", ""));
    let id = history.add(Place::Begins(&beginning), &one).unwrap();
    assert_eq!(history.add(Place::In(&id), &two).unwrap(), id);
    drop(history);
    let history = History::open(&path).unwrap();
    assert_eq!(history.last().unwrap(), id);
    let found = history.conversation(&id).unwrap();
    assert_eq!(found.beginning, beginning);
    assert_eq!(found.calls, [one, two]);
    assert_eq!(found.model(), Some("m"));
    let said: Vec<_> = found.messages().into_iter().map(|m| m.content).collect();
    assert_eq!(said, ["ahead", "a \u{1f999}", "b\n", "c", ""]);
    let printed = serde_json::to_value(&found).unwrap();
    assert_eq!(printed["calls"][0]["usage"]["prompt_tokens"], 3);
    assert_eq!(printed["system"], "be brief");
}

#[test]
fn the_latest_is_listed_first_and_a_filter_holds() {
    let (_folder, _, mut history) = open();
    let none = Beginning::default();
    let first = history
        .add(Place::Begins(&none), &call("one", "1"))
        .unwrap();
    let other = Call {
        model: "n".to_owned(),
        ..call("two", "2")
    };
    let second = history.add(Place::Begins(&none), &other).unwrap();
    let all = Filter::default();
    assert_eq!(ids(&history.list(&all).unwrap()), [&second, &first]);
    history.add(Place::In(&first), &call("three", "3")).unwrap();
    let listed = history.list(&all).unwrap();
    assert_eq!(ids(&listed), [&first, &second]);
    assert_eq!((listed[0].calls, listed[0].prompt.as_str()), (2, "one"));
    let latest = Filter {
        limit: Some(1),
        ..Filter::default()
    };
    assert_eq!(ids(&history.list(&latest).unwrap()), [&first]);
    let of_model = Filter {
        model: Some("n".to_owned()),
        ..Filter::default()
    };
    assert_eq!(ids(&history.list(&of_model).unwrap()), [&second]);
}

#[test]
fn words_are_searched_for_as_words() {
    let (_folder, _, mut history) = open();
    let none = Beginning::default();
    let add = |history: &mut History, prompt, answer| {
        history
            .add(Place::Begins(&none), &call(prompt, answer))
            .unwrap()
    };
    let id = add(
        &mut history,
        "Où est Zürich?",
        "In the north AND \"near\" a lake.",
    );
    add(&mut history, "nothing", "of it");
    let search = |words: &[&str]| {
        let words: Vec<String> = words.iter().map(|&word| word.to_owned()).collect();
        let hits = history.search(&words, &Filter::default()).unwrap();
        hits.into_iter()
            .map(|hit| (hit.conversation, hit.excerpt))
            .collect::<Vec<_>>()
    };
    for words in [
        &["zurich"][..],
        &["lake", "ZÜRICH"],
        &["near a"],
        &["AND"],
        &["\"near\""],
    ] {
        let found = search(words);
        assert_eq!(found.len(), 1, "{words:?}");
        assert_eq!(found[0].0, id);
        assert!(found[0].1.contains('\u{2}'), "{:?}", found[0].1);
    }
    for words in [
        &["zurich", "nothing"][..],
        &["NOT"],
        &["lak*"],
        &["*"],
        &[""],
        &[],
    ] {
        assert_eq!(search(words), [], "{words:?}");
    }
}

#[test]
fn a_beginning_of_a_name_is_enough_where_it_is_one_conversations() {
    let (_folder, _, mut history) = open();
    assert!(matches!(history.last(), Err(HistoryError::Empty)));
    let none = Beginning::default();
    // Seventeen names of sixteen first digits.
    let ids: Vec<_> = (0..17)
        .map(|i| {
            history
                .add(Place::Begins(&none), &call(&i.to_string(), ""))
                .unwrap()
        })
        .collect();
    for id in &ids {
        let named: Named = id.to_string().to_uppercase().parse().unwrap();
        assert_eq!(history.find(&named).unwrap(), *id);
    }
    let find = |text: char| history.find(&text.to_string().parse().unwrap());
    let mut shared = "0123456789abcdef".chars().map(find);
    assert!(shared.any(|found| matches!(found, Err(HistoryError::Ambiguous(_)))));
    for text in ["", "x", "012345678", "%", "é"] {
        assert_eq!(text.parse::<Named>(), Err(BadName), "{text:?}");
    }
}

#[test]
fn what_is_removed_is_nowhere_in_the_file() {
    let (_folder, path, mut history) = open();
    let none = Beginning::default();
    let secret = "xylophone-harbour";
    let gone = history
        .add(Place::Begins(&none), &call(secret, secret))
        .unwrap();
    let kept = history
        .add(Place::Begins(&none), &call("stays", "here"))
        .unwrap();
    let unknown = ConversationId("none".to_owned());
    let error = history.remove(&[gone.clone(), unknown]).unwrap_err();
    assert!(matches!(error, HistoryError::Unknown(_)), "{error}");
    assert!(history.conversation(&gone).is_ok(), "all or none");

    let words = ["xylophone".to_owned()];
    let hits = |history: &History| history.search(&words, &Filter::default()).unwrap().len();
    assert_eq!(hits(&history), 1);
    history.remove(&[gone.clone(), gone.clone()]).unwrap();
    assert_eq!(hits(&history), 0);
    assert!(matches!(
        history.conversation(&gone),
        Err(HistoryError::Unknown(_))
    ));
    drop(history);
    let bytes = std::fs::read(&path).unwrap();
    let held = |text: &str| {
        bytes
            .windows(text.len())
            .any(|part| part == text.as_bytes())
    };
    assert!(held("stays"));
    assert!(!held("xylophone"));

    let mut history = History::open(&path).unwrap();
    assert_eq!(history.last().unwrap(), kept);
    assert_eq!(history.clear().unwrap(), 1);
    assert!(matches!(history.last(), Err(HistoryError::Empty)));
}

#[test]
fn a_foreign_file_is_refused_and_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let text = folder.path().join("text");
    std::fs::write(
        &text,
        "no database, but long enough to be looked at ".repeat(20),
    )
    .unwrap();
    let before = std::fs::read(&text).unwrap();
    let error = History::open(&text).unwrap_err().to_string();
    assert!(error.contains("it is no SQLite file"), "{error}");
    assert_eq!(std::fs::read(&text).unwrap(), before);

    let later = folder.path().join("later");
    Connection::open(&later)
        .unwrap()
        .pragma_update(None, "user_version", 9)
        .unwrap();
    let error = History::open(&later).unwrap_err().to_string();
    assert!(error.contains("has version 9"), "{error}");

    let others = folder.path().join("others");
    Connection::open(&others)
        .unwrap()
        .execute_batch("CREATE TABLE a (b)")
        .unwrap();
    let error = History::open(&others).unwrap_err().to_string();
    assert!(error.contains("has version 0"), "{error}");

    let error = History::open(&folder.path().join("no/folder")).unwrap_err();
    assert!(matches!(error, HistoryError::File { .. }), "{error}");
}

#[cfg(unix)]
#[test]
fn only_its_owner_reads_it() {
    use std::os::unix::fs::PermissionsExt;
    let (_folder, path, _history) = open();
    let mode = std::fs::metadata(&path).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
}

#[test]
fn two_processes_write_at_the_same_time() {
    let (_folder, path, _history) = open();
    let write = |name: &str| {
        let mut history = History::open(&path).unwrap();
        for i in 0..20 {
            let call = call(&format!("{name} {i}"), "");
            history
                .add(Place::Begins(&Beginning::default()), &call)
                .unwrap();
        }
    };
    std::thread::scope(|scope| {
        scope.spawn(|| write("a"));
        scope.spawn(|| write("b"));
    });
    let history = History::open(&path).unwrap();
    assert_eq!(history.list(&Filter::default()).unwrap().len(), 40);
}
