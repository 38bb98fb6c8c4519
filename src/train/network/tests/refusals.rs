//! What cannot be trained is refused by name.

use super::*;

fn refusal(change: impl FnOnce(&mut ModelConfig, &mut NetworkOptions)) -> String {
    let (mut config, mut options) = (minute_config(), options());
    change(&mut config, &mut options);
    Network::random(&config, true, options)
        .unwrap_err()
        .to_string()
}

#[test]
fn options_that_do_not_fit_are_named() {
    type Change = fn(&mut ModelConfig, &mut NetworkOptions);
    let cases: [(Change, &str); 7] = [
        (|_, o| o.context = Some(33), "model's 32"),
        (|_, o| o.context = Some(0), "context"),
        (|c, _| c.sliding_window = Some(8), "at most 8"),
        (|_, o| o.freeze.layers = 3, "2 layers"),
        (|_, o| o.quantised = true, "needs lora"),
        (
            |_, o| {
                o.lora = lora(0.0);
                if let Some(lora) = &mut o.lora {
                    lora.targets.push("gates".to_owned());
                }
            },
            "\"gates\" takes no linear",
        ),
        (|c, _| c.architecture = "qwen2".to_owned(), "biases"),
    ];
    for (change, part) in cases {
        let error = refusal(change);
        assert!(error.contains(part), "{error}");
    }
}

#[test]
fn a_file_without_a_tensor_or_with_another_shape_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("tiny.gguf");
    let config = ModelConfig {
        intermediate: 40,
        ..tiny_config()
    };
    let mut bytes = tiny_gguf(&config, 3).unwrap();
    // The width of the feed-forward layer is told wrong.
    let key = b"llama.feed_forward_length";
    let at = bytes.windows(key.len()).position(|w| w == key).unwrap() + key.len() + 4;
    bytes[at..at + 4].copy_from_slice(&48u32.to_le_bytes());
    std::fs::write(&path, bytes).unwrap();
    let checkpoint = Checkpoint::open(&path).unwrap();
    let error = Network::open(&checkpoint, options())
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("ffn_gate.weight has shape [40, 32]"),
        "{error}"
    );
}

#[test]
fn a_pass_that_does_not_fit_is_refused_by_all() {
    let mut network = lively(&minute_config(), true, options());
    let pass = Pass::next_tokens(&[&[1, 11]]);
    assert!(network.learn(&pass, Moment::default()).is_err());
    assert!(network.evaluate(&pass).is_err());
    assert!(network.logits(&pass).is_err());
}
