use super::*;
use proptest::prelude::*;

/// What was said: thoughts, words, calls with their arguments.
type Said = (String, String, Vec<(String, String)>);

fn said(mut speech: Speech, pieces: &[&str]) -> Said {
    let mut parts: Vec<Part> = pieces.iter().flat_map(|piece| speech.push(piece)).collect();
    parts.extend(speech.finish());
    let (mut thoughts, mut words, mut calls) = (String::new(), String::new(), Vec::new());
    for part in parts {
        match part {
            Part::Thought(text) => thoughts += &text,
            Part::Words(text) => words += &text,
            Part::Call { index, name } => {
                assert_eq!(index, calls.len());
                calls.push((name, String::new()));
            }
            Part::Arguments { index, text } => calls[index].1 += &text,
        }
    }
    (thoughts, words, calls)
}

fn hermes() -> Speech {
    Speech::new(Thinking::Never).calling(CallSyntax::Hermes, vec!["f".to_owned(), "g".to_owned()])
}

fn llama() -> Speech {
    Speech::new(Thinking::Never).calling(CallSyntax::Llama, vec!["f".to_owned(), "g".to_owned()])
}

/// A speech, a text and what it says, each call as its name and arguments.
type Case = (
    Speech,
    &'static str,
    &'static str,
    &'static str,
    &'static [(&'static str, &'static str)],
);

fn cases() -> Vec<Case> {
    let maybe = || Speech::new(Thinking::Maybe);
    vec![
        (
            Speech::new(Thinking::Never),
            "<think>a</think>b ",
            "",
            "<think>a</think>b ",
            &[],
        ),
        (
            maybe(),
            "<think>\na\n b \n</think>\n\n c\n",
            "a\n b",
            "c\n",
            &[],
        ),
        (maybe(), " \n<thin air", "", " \n<thin air", &[]),
        (maybe(), "", "", "", &[]),
        (
            Speech::new(Thinking::Begun),
            "a </thin </think>b",
            "a </thin",
            "b",
            &[],
        ),
        (Speech::new(Thinking::Begun), "cut off", "cut off", "", &[]),
        (hermes(), "no call here \n", "", "no call here \n", &[]),
        (
            hermes(),
            "<tool_call>\n{\"name\": \"f\", \"arguments\": {\"a\": \"</tool_call>}\\\"\", \"b\": [{}]}}\n</tool_call>",
            "",
            "",
            &[("f", "{\"a\": \"</tool_call>}\\\"\", \"b\": [{}]}")],
        ),
        (
            hermes(),
            "Let me see.\n<tool_call>{\"name\":\"f\",\"arguments\":{}}</tool_call>\n<tool_call>\n{\"arguments\": {\"x\": 1}, \
             \"name\": \"g\"}\n</tool_call>\n",
            "",
            "Let me see.",
            &[("f", "{}"), ("g", "{\"x\":1}")],
        ),
        (
            hermes(),
            "<tool_call>{\"name\": \"h\", \"arguments\": {}}</tool_call> x",
            "",
            "<tool_call>{\"name\": \"h\", \"arguments\": {}}</tool_call> x",
            &[],
        ),
        (
            hermes(),
            "<tool_call>no json</tool_call>",
            "",
            "<tool_call>no json</tool_call>",
            &[],
        ),
        (
            hermes(),
            "<tool_call>{\"name\": \"f\"",
            "",
            "<tool_call>{\"name\": \"f\"",
            &[],
        ),
        (
            hermes(),
            "<tool_call>{\"name\": \"f\", \"arguments\": \"{\\\"x\\\": 2}\"}</tool_call>",
            "",
            "",
            &[("f", "{\"x\": 2}")],
        ),
        // Cut in the middle of its arguments, as by a limit of tokens.
        (
            hermes(),
            "<tool_call>{\"name\": \"f\", \"arguments\": {\"x\": ",
            "",
            "",
            &[("f", "{\"x\": ")],
        ),
        (
            llama(),
            "\n{\"name\": \"f\", \"parameters\": {\"x\": 1}}; {\"name\": \"g\", \"parameters\": {}}",
            "",
            "",
            &[("f", "{\"x\": 1}"), ("g", "{}")],
        ),
        (
            llama(),
            "so {\"name\": \"f\", \"parameters\": {}}",
            "",
            "so {\"name\": \"f\", \"parameters\": {}}",
            &[],
        ),
        (llama(), "{\"a\": 1}", "", "{\"a\": 1}", &[]),
    ]
}

#[test]
fn what_is_said_is_taken_apart() {
    for (speech, text, thoughts, words, calls) in cases() {
        let calls = calls
            .iter()
            .map(|(name, arguments)| (name.to_string(), arguments.to_string()));
        let expected = (thoughts.to_owned(), words.to_owned(), calls.collect());
        assert_eq!(said(speech, &[text]), expected, "{text}");
    }
}

#[test]
fn arguments_come_as_they_are_written() {
    let mut speech = hermes();
    assert_eq!(speech.push("<tool_call>\n{\"name\": \"f\", "), []);
    let begun = speech.push("\"arguments\": {\"a");
    let call = Part::Call {
        index: 0,
        name: "f".to_owned(),
    };
    let first = Part::Arguments {
        index: 0,
        text: "{\"a".to_owned(),
    };
    assert_eq!(begun, [call, first]);
    let more = Part::Arguments {
        index: 0,
        text: "\": 1}".to_owned(),
    };
    assert_eq!(speech.push("\": 1}}\n"), [more]);
    assert_eq!(speech.push("</tool_call>"), []);
    assert_eq!(speech.finish(), []);
}

proptest! {
    #[test]
    fn pieces_do_not_matter(case in 0..17usize, cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..12)) {
        let (speech, text, ..) = cases().swap_remove(case);
        let mut at: Vec<usize> = cuts.iter().map(|cut| cut.index(text.len() + 1)).collect();
        at.retain(|at| text.is_char_boundary(*at));
        at.extend([0, text.len()]);
        at.sort_unstable();
        let pieces: Vec<&str> = at.windows(2).map(|pair| &text[pair[0]..pair[1]]).collect();
        prop_assert_eq!(said(speech.clone(), &pieces), said(speech, &[text]));
    }

    #[test]
    fn text_without_signs_is_unchanged(text in "[a-z <{\n]{0,40}") {
        let whole = (String::new(), text.clone(), Vec::new());
        prop_assert_eq!(said(hermes(), &[&text]), whole.clone());
        prop_assert_eq!(said(llama(), &[&text]), whole.clone());
    }
}
