use super::*;
use crate::text::{BpeSpec, Controls, Vocab, VocabModel, train_bpe};
use serde_json::json;
use std::sync::OnceLock;

/// A small byte-level tokenizer with `<|begin_of_text|>` 0, `<|end_of_text|>` 1, `<|im_start|>` 2 and `<|im_end|>` 3.
pub(crate) fn tokenizer() -> Tokenizer {
    static TRAINED: OnceLock<Tokenizer> = OnceLock::new();
    let make = || {
        let lines = (0..50).map(|n| format!("user and assistant talk about {n} small things\n"));
        train_bpe(lines, &BpeSpec::new(300))
            .unwrap()
            .tokenizer()
            .clone()
    };
    TRAINED.get_or_init(make).clone()
}

pub(crate) fn encoder(options: EncodeOptions) -> Encoder {
    Encoder::new(tokenizer(), Some(ChatTemplate::chatml()), options).unwrap()
}

fn text_of(sample: &Sample, learnt: bool) -> String {
    let side = sample
        .ids
        .iter()
        .zip(&sample.learnt)
        .filter(|(_, l)| **l == learnt);
    let ids: Vec<TokenId> = side.map(|(id, _)| *id).collect();
    tokenizer().decode(&ids, Controls::Keep)
}

fn pair(prompt: &str, completion: &str) -> Record {
    Record::Pair {
        prompt: prompt.into(),
        completion: completion.into(),
    }
}

#[test]
fn a_document_has_its_ends_and_is_learnt_whole() {
    let encoder = encoder(EncodeOptions::default());
    let sample = encoder
        .encode(&Record::text("small things <|im_end|>"))
        .unwrap();
    assert_eq!(
        (sample.ids.first(), sample.ids.last()),
        (Some(&0), Some(&1))
    );
    assert!(sample.learnt.iter().all(|learnt| *learnt));
    assert!(!sample.ids.contains(&3));
    assert_eq!(sample.learnt_tokens(), sample.ids.len() - 1);
    let passage = Record::Text {
        text: "a".into(),
        first: false,
        last: false,
    };
    let ids = encoder.encode(&passage).unwrap().ids;
    assert!(!ids.contains(&0) && !ids.contains(&1));
}

/// Test R8: the prompt is masked, and the sample starts with the token that begins a text and ends with the one that
/// ends it.
#[test]
fn r8_the_prompt_is_masked() {
    let options = EncodeOptions {
        pairs: Pairs::Text(" = ".into()),
        ..EncodeOptions::default()
    };
    let sample = encoder(options).encode(&pair("2+2", "4")).unwrap();
    assert_eq!(text_of(&sample, false), "<|begin_of_text|>2+2 = ");
    assert_eq!(text_of(&sample, true), "4<|end_of_text|>");
    assert_eq!(sample.learnt_tokens(), 2);
}

/// Test N6 through the encoder, with a pair as a chat.
#[test]
fn n6_a_chat_learns_the_assistants_turns() {
    let encoder = encoder(EncodeOptions::default());
    let sample = encoder.encode(&pair("2+2?", "4")).unwrap();
    assert_eq!(text_of(&sample, true), "4<|im_end|>");
    assert_eq!(
        text_of(&sample, false),
        "<|im_start|>user\n2+2?<|im_end|>\n<|im_start|>assistant\n\n"
    );
    let turns = json!([{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"},
        {"role": "tool", "content": "c"}, {"role": "assistant", "content": "d"}]);
    let chat = Record::Chat {
        messages: serde_json::from_value(turns).unwrap(),
        tools: None,
    };
    assert_eq!(
        text_of(&encoder.encode(&chat).unwrap(), true),
        "b<|im_end|>d<|im_end|>"
    );
}

/// Test N5, the part about prompts: what asks for a completion ends where the assistant begins.
#[test]
fn n5_a_prompt_ends_where_the_assistant_begins() {
    let chat = [Message::new(Role::User, "hi")];
    let prompt = ChatTemplate::chatml()
        .render_ids(&tokenizer(), &chat, &RenderOptions::default())
        .unwrap();
    let start = tokenizer()
        .encode("<|im_start|>assistant\n", Specials::Parse)
        .unwrap();
    assert!(prompt.ends_with(&start));
    let sample = encoder(EncodeOptions::default())
        .encode(&pair("hi", "yes"))
        .unwrap();
    assert!(sample.ids.starts_with(&prompt));
}

#[test]
fn what_a_template_would_leave_out_is_refused() {
    let messages = vec![
        Message::new(Role::User, "a"),
        Message::new(Role::Assistant, "b"),
    ];
    let tools = Record::Chat {
        messages: messages.clone(),
        tools: Some(json!([{"name": "f"}])),
    };
    let encoder = encoder(EncodeOptions::default());
    assert!(
        encoder
            .encode(&tools)
            .unwrap_err()
            .to_string()
            .contains("tools")
    );
    let mut calling = messages.clone();
    calling[1].tool_calls = Some(json!([{}]));
    let calls = Record::Chat {
        messages: calling,
        tools: None,
    };
    assert!(
        encoder
            .encode(&calls)
            .unwrap_err()
            .to_string()
            .contains("tool calls")
    );
    let bare = Encoder::new(tokenizer(), None, EncodeOptions::default()).unwrap();
    assert!(
        bare.encode(&pair("a", "b"))
            .unwrap_err()
            .to_string()
            .contains("has none")
    );
    assert!(bare.encode(&Record::text("a")).is_ok());
}

#[test]
fn the_front_is_what_the_tokenizer_puts_around_a_prompt() {
    let vocab = |add_bos: bool, add_eos: bool, eos: TokenId| Vocab {
        model: VocabModel::Bpe,
        pre: Some("gpt-2".into()),
        tokens: ["<s>", "</s>", "a", "b", "ab"].map(str::to_owned).to_vec(),
        scores: Vec::new(),
        types: vec![3, 3, 1, 1, 1],
        merges: vec!["a b".into()],
        bos: Some(0),
        eos: Some(eos),
        eot: None,
        unk: None,
        add_bos,
        add_eos,
        add_space_prefix: false,
    };
    for (add_bos, add_eos, eos, ids) in [
        (true, true, 1, vec![0, 4, 1]),
        (true, false, 1, vec![0, 4, 1]),
        (false, true, 1, vec![4, 1]),
        (false, false, 1, vec![4, 1]),
        (true, false, 0, vec![0, 4, 0]),
        (true, true, 0, vec![0, 4, 0]),
        (false, false, 0, vec![4, 0]),
    ] {
        let tokenizer = Tokenizer::from_vocab(vocab(add_bos, add_eos, eos)).unwrap();
        let encoder = Encoder::new(tokenizer, None, EncodeOptions::default()).unwrap();
        assert_eq!(
            encoder.encode(&Record::text("ab")).unwrap().ids,
            ids,
            "{add_bos} {add_eos} {eos}"
        );
    }
}

#[test]
fn a_long_text_is_encoded_in_pieces() {
    let encoder = encoder(EncodeOptions::default());
    for text in ["small things\n".repeat(100_000), "ü".repeat(700_000)] {
        let ids = encoder.encode(&Record::text(text.as_str())).unwrap().ids;
        assert!(tokenizer().decode(&ids, Controls::Skip) == text);
    }
}
