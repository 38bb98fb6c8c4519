use super::*;
use crate::text::{Message, Role};
use serde_json::json;

fn parse(value: Value) -> Result<Parsed, FieldError> {
    Shape::parse(None, &value)
}

fn pair(prompt: &str, completion: &str) -> Record {
    Record::Pair {
        prompt: prompt.into(),
        completion: completion.into(),
    }
}

fn chat(turns: &[(Role, &str)]) -> Record {
    Record::Chat {
        messages: turns
            .iter()
            .map(|(role, text)| Message::new(*role, *text))
            .collect(),
        tools: None,
    }
}

#[test]
fn every_shape_is_found_by_its_fields() {
    use Role::{Assistant, System, User};
    let turns = json!([{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]);
    let two = chat(&[(User, "a"), (Assistant, "b")]);
    let cases = [
        (
            json!({"messages": turns}),
            Shape::Messages,
            vec![two.clone()],
        ),
        (
            json!({"conversation": turns}),
            Shape::Conversation,
            vec![two.clone()],
        ),
        (
            json!({"conversations": [{"from": "human", "value": "a"}, {"from": "gpt", "value": "b"}]}),
            Shape::Conversations,
            vec![two.clone()],
        ),
        (
            json!({"conversations": turns.to_string(), "system": "s"}),
            Shape::Conversations,
            vec![chat(&[(System, "s"), (User, "a"), (Assistant, "b")])],
        ),
        (
            json!({"prompt": "p", "completion": "c"}),
            Shape::PromptCompletion,
            vec![pair("p", "c")],
        ),
        (
            json!({"instruction": "i", "input": "", "output": "o"}),
            Shape::Alpaca,
            vec![pair("i", "o")],
        ),
        (
            json!({"instruction": "i", "input": "x", "output": "o"}),
            Shape::Alpaca,
            vec![pair("i\n\nx", "o")],
        ),
        (
            json!({"instruction": "i", "instances": [{"input": "x", "output": "1"}, {"output": "2"}]}),
            Shape::Instances,
            vec![pair("i\n\nx", "1"), pair("i", "2")],
        ),
        (
            json!({"question": "q", "answer": "a"}),
            Shape::QuestionAnswer,
            vec![pair("q", "a")],
        ),
        (
            json!({"text": "t", "label": 0}),
            Shape::Text,
            vec![Record::text("t")],
        ),
    ];
    for (value, shape, records) in cases {
        let parsed = parse(value.clone()).unwrap();
        assert_eq!((parsed.shape, parsed.records), (shape, records), "{value}");
        assert!(parsed.unused.is_empty(), "{value}: {:?}", parsed.unused);
    }
}

#[test]
fn fields_that_mean_nothing_are_named() {
    let parsed = parse(json!({"text": "t", "id": 1, "meta": {}})).unwrap();
    assert_eq!(parsed.unused, ["id", "meta"]);
}

#[test]
fn a_shape_can_be_forced() {
    let value = json!({"messages": [], "text": "t"});
    let parsed = Shape::parse(Some(Shape::Text), &value).unwrap();
    assert_eq!(parsed.records, [Record::text("t")]);
    let error = Shape::parse(Some(Shape::Alpaca), &value).unwrap_err();
    assert_eq!(error.field.as_deref(), Some("output"));
}

/// Test L10: an empty text, the label -1 and null are rejected, and so is whatever else cannot be trained on.
#[test]
fn l10_bad_samples_are_rejected_by_field() {
    let user = json!({"role": "user", "content": "a"});
    let cases = [
        (json!({"text": ""}), "text", "is empty"),
        (json!({"text": " \n"}), "text", "is empty"),
        (json!({"text": "t", "label": -1}), "label", "no class"),
        (json!({"text": "t", "label": "-1"}), "label", "no class"),
        (json!({"text": "t", "label": ""}), "label", "is empty"),
        (json!({"text": "t", "label": null}), "label", "null"),
        (json!({"text": null}), "text", "null"),
        (json!(null), "", "null"),
        (json!({"text": 3}), "text", "a number"),
        (json!({}), "", "no known fields"),
        (
            json!({"prompt": "p", "completion": ""}),
            "completion",
            "is empty",
        ),
        (
            json!({"instruction": "i", "instances": []}),
            "instances",
            "empty list",
        ),
        (
            json!({"instruction": "i", "instances": [3]}),
            "instances[0]",
            "an object",
        ),
        (
            json!({"instruction": "i", "instances": [{"output": "x"}, {"input": "x"}]}),
            "instances[1].output",
            "missing",
        ),
        (json!({"messages": "[oops"}), "messages", "no JSON"),
        (json!({"messages": {}}), "messages", "an object"),
        (
            json!({"messages": [user]}),
            "messages",
            "no message of the assistant",
        ),
        (
            json!({"messages": [user, {"role": "root", "content": "x"}]}),
            "messages[1].role",
            "known are",
        ),
        (
            json!({"messages": [user, {"role": "assistant", "content": ""}]}),
            "messages[1].content",
            "is empty",
        ),
        (
            json!({"messages": [user, {"role": "assistant", "content": "x", "weight": 0}]}),
            "messages[1].weight",
            "not known",
        ),
        (
            json!({"messages": [user, {"role": "assistant", "content": "x", "name": 3}]}),
            "messages[1].name",
            "a number",
        ),
        (
            json!({"messages": [{"role": "user", "content": [{"type": "image"}]}]}),
            "messages[0].content[0]",
            "only text",
        ),
        (
            json!({"conversations": [{"from": "human"}]}),
            "conversations[0].value",
            "missing",
        ),
    ];
    for (value, field, reason) in cases {
        let error = parse(value.clone()).unwrap_err();
        assert_eq!(error.field.unwrap_or_default(), field, "{value}");
        assert!(error.reason.contains(reason), "{value}: {}", error.reason);
    }
}

#[test]
fn tools_their_calls_and_their_results_are_kept() {
    let calls = json!([{"type": "function", "function": {"name": "f", "arguments": "{}"}}]);
    let value = json!({"tools": [{"name": "f"}], "messages": [
        {"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]},
        {"role": "assistant", "content": null, "tool_calls": calls, "name": null},
        {"role": "tool", "content": "", "tool_call_id": "1"},
        {"role": "assistant", "content": "done", "tool_calls": []}]});
    let parsed = parse(value).unwrap();
    let [Record::Chat { messages, tools }] = parsed.records.as_slice() else {
        panic!("a chat");
    };
    assert_eq!(tools, &Some(json!([{"name": "f"}])));
    assert_eq!(messages[0].content, "ab");
    assert_eq!(messages[1].tool_calls, Some(calls));
    assert_eq!(messages[2].tool_call_id.as_deref(), Some("1"));
    assert_eq!(messages[3].tool_calls, None);
    let again = parse(parsed.records[0].to_json()).unwrap();
    assert_eq!(again.records, parsed.records);
}
