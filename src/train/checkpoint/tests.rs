use serde_json::{Value, json};

use super::*;
use crate::train::network::tests::{
    largest_difference, lively, lora, minute_config, options, packed, tiny_checkpoint,
};
use crate::train::network::{Moment, NetworkOptions, Role};
use crate::train::optimizer::{OptimizerSpec, Rates};

fn fresh(options: &NetworkOptions, muon: bool) -> (Network, Optimizer) {
    let network = lively(&minute_config(), false, options.clone());
    let spec = OptimizerSpec {
        muon,
        ..OptimizerSpec::default()
    };
    let processor = network.processor().clone();
    let optimizer = Optimizer::new(spec, &network.parameters(), processor).unwrap();
    (network, optimizer)
}

fn train((network, optimizer): &mut (Network, Optimizer), steps: std::ops::Range<u64>) {
    for step in steps {
        network.zero_gradients();
        let mut weight = 0.0;
        for micro_step in 0..2 {
            let cost = network.learn(&packed(), Moment { step, micro_step });
            weight += cost.unwrap().weight;
        }
        let clipped = optimizer.clip(&network.parameters(), 1.0 / weight, Some(0.5));
        let rates = Rates {
            lr: 0.01,
            matrix_lr: 0.02,
            weight_decay: 0.1,
            momentum: 0.9,
        };
        let mut parameters = network.parameters_mut();
        optimizer
            .step(&mut parameters, rates, clipped.scale)
            .unwrap();
    }
}

fn bits(network: &Network) -> Vec<u32> {
    let parameters = network.parameters();
    let values = parameters.iter().flat_map(|p| p.values.iter());
    values.map(|x| x.to_bits()).collect()
}

fn run_state() -> RunState {
    RunState {
        step: 3,
        tokens: 72,
        seeds: [("data".to_owned(), 9)].into(),
        data: json!({"file": 2, "row": 17}),
        schedule: json!({"warmup": 1}),
        best: Some(Best {
            step: 2,
            value: 1.25,
        }),
    }
}

#[test]
fn a_resumed_run_equals_a_straight_one_to_the_bit() {
    let adapted = NetworkOptions {
        lora: lora(0.3),
        ..options()
    };
    for (options, muon) in [(options(), false), (options(), true), (adapted, false)] {
        let mut straight = fresh(&options, muon);
        train(&mut straight, 0..6);
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("new/step-3");
        let mut first = fresh(&options, muon);
        let start = bits(&first.0);
        train(&mut first, 0..3);
        save(&path, &first.0, &first.1, &run_state()).unwrap();
        drop(first);
        let mut resumed = fresh(&options, muon);
        let state = restore(&path, &mut resumed.0, &mut resumed.1).unwrap();
        assert_eq!((state, resumed.1.steps()), (run_state(), 3));
        train(&mut resumed, 3..6);
        assert_eq!(bits(&resumed.0), bits(&straight.0), "muon {muon}");
        assert_ne!(bits(&resumed.0), start);
    }
}

#[test]
fn merged_logits_are_those_of_the_adapters() {
    let source = tempfile::tempdir().unwrap();
    let checkpoint = tiny_checkpoint(source.path());
    let adapted = NetworkOptions {
        lora: lora(0.0),
        ..options()
    };
    let mut network = Network::open(&checkpoint, adapted).unwrap();
    let pass = packed();
    let plain = network.logits(&pass).unwrap();
    for parameter in network.parameters_mut() {
        if parameter.role == Role::Adapter {
            let count = parameter.values.len() as f32;
            for (index, value) in parameter.values.iter_mut().enumerate() {
                *value = (index as f32 / count - 0.4) * 0.2;
            }
        }
    }
    let unmerged = network.logits(&pass).unwrap();
    assert!(
        largest_difference(&plain, &unmerged) > 0.01,
        "the adapters do something"
    );
    let folder = tempfile::tempdir().unwrap();
    save_model(folder.path(), &network, FloatType::F32).unwrap();
    let saved = Checkpoint::open(folder.path()).unwrap();
    let mut merged = Network::open(&saved, options()).unwrap();
    let merged = merged.logits(&pass).unwrap();
    let largest = unmerged.iter().fold(1.0f32, |m, x| m.max(x.abs()));
    assert!(largest_difference(&unmerged, &merged) < 1e-4 * largest);
}

#[test]
fn a_saved_model_opens_as_it_was_in_every_width() {
    for (stored, within) in [
        (FloatType::F32, 0.0),
        (FloatType::Bf16, 0.1),
        (FloatType::F16, 0.02),
    ] {
        let mut network = lively(&minute_config(), true, options());
        let folder = tempfile::tempdir().unwrap();
        save_model(folder.path(), &network, stored).unwrap();
        let saved = Checkpoint::open(folder.path()).unwrap();
        let mut opened = Network::open(&saved, options()).unwrap();
        assert_eq!(opened.config(), network.config());
        assert!(opened.is_tied());
        let pass = packed();
        let (a, b) = (
            network.logits(&pass).unwrap(),
            opened.logits(&pass).unwrap(),
        );
        assert!(largest_difference(&a, &b) <= within, "{stored:?}");
    }
}

#[test]
fn configurations_say_what_the_model_is() {
    let config = crate::llama::ModelConfig {
        rope_scaling: Some(crate::llama::RopeScaling::Llama3 {
            factor: 8.0,
            low_freq_factor: 1.0,
            high_freq_factor: 4.0,
            original_context: 16,
        }),
        architecture: "mistral".to_owned(),
        sliding_window: Some(32),
        norm_eps: f64::from(1e-5f32),
        ..minute_config()
    };
    let mut network = lively(&config, false, options());
    let special = crate::train::network::SpecialTokens {
        bos: Some(1),
        eos: vec![2, 3],
    };
    network.set_special_tokens(special.clone());
    let json = config_json::config_json(&network, FloatType::Bf16);
    for (key, expected) in [
        ("architectures", json!(["MistralForCausalLM"])),
        ("sliding_window", json!(32)),
        ("rms_norm_eps", json!(1e-5)),
        ("tie_word_embeddings", json!(false)),
        ("torch_dtype", json!("bfloat16")),
        ("eos_token_id", json!([2, 3])),
    ] {
        assert_eq!(json[key], expected, "{key}");
    }
    let folder = tempfile::tempdir().unwrap();
    save_model(folder.path(), &network, FloatType::F32).unwrap();
    let saved = Checkpoint::open(folder.path()).unwrap();
    let opened = Network::open(&saved, options()).unwrap();
    assert_eq!(opened.config().rope_scaling, config.rope_scaling);
    assert_eq!(opened.special_tokens(), &special);
}

#[test]
fn adapters_are_written_as_peft_names_them() {
    let adapted = NetworkOptions {
        lora: lora(0.25),
        ..options()
    };
    let network = lively(&minute_config(), true, adapted.clone());
    let folder = tempfile::tempdir().unwrap();
    save_adapter(folder.path(), &network).unwrap();
    let file = open(&folder.path().join("adapter_model.safetensors")).unwrap();
    let name = "base_model.model.model.layers.1.self_attn.q_proj.lora_A.weight";
    assert_eq!(file.get(name).unwrap().shape, [3, 8]);
    assert_eq!(file.get(&name.replace("_A", "_B")).unwrap().shape, [16, 3]);
    let text = std::fs::read_to_string(folder.path().join("adapter_config.json")).unwrap();
    let config: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(
        (&config["peft_type"], &config["lora_alpha"]),
        (&json!("LORA"), &json!(6))
    );
    let targets = json!(["down_proj", "o_proj", "q_proj", "up_proj", "v_proj"]);
    assert_eq!(config["target_modules"], targets);
    let spec = read_adapter_spec(folder.path()).unwrap();
    assert_eq!((spec.rank, spec.alpha, spec.dropout), (3, 6.0, 0.25));
    let mut other = lively(
        &minute_config(),
        true,
        NetworkOptions { seed: 8, ..adapted },
    );
    for parameter in other.parameters_mut() {
        if parameter.role == Role::Adapter {
            parameter.values.fill(0.0);
        }
    }
    load_adapter(folder.path(), &mut other).unwrap();
    assert_eq!(bits(&other), bits(&network));
    let mut plain = lively(&minute_config(), true, options());
    assert!(matches!(
        save_adapter(folder.path(), &plain),
        Err(CheckpointError::NoAdapters(_))
    ));
    let error = load_adapter(folder.path(), &mut plain).unwrap_err();
    assert!(matches!(error, CheckpointError::NoAdapters(_)));
}

#[test]
fn adapters_of_some_layers_are_named_whole() {
    let mut options = NetworkOptions {
        lora: lora(0.0),
        ..options()
    };
    if let Some(lora) = &mut options.lora {
        lora.targets = vec!["layers.1.*.q_proj".to_owned()];
    }
    let network = lively(&minute_config(), true, options);
    let folder = tempfile::tempdir().unwrap();
    save_adapter(folder.path(), &network).unwrap();
    let spec = read_adapter_spec(folder.path()).unwrap();
    assert_eq!(spec.targets, ["model.layers.1.self_attn.q_proj"]);
}

/// Changes one file of a checkpoint and returns the error of taking it up.
fn broken(file: &str, change: impl FnOnce(&std::path::Path)) -> String {
    let options = NetworkOptions {
        lora: lora(0.0),
        ..options()
    };
    let (network, optimizer) = fresh(&options, false);
    let folder = tempfile::tempdir().unwrap();
    save(folder.path(), &network, &optimizer, &run_state()).unwrap();
    change(&folder.path().join(file));
    let (mut network, mut optimizer) = fresh(&options, false);
    let error = restore(folder.path(), &mut network, &mut optimizer);
    error.unwrap_err().to_string()
}

fn edit(path: &std::path::Path, key: &str, value: Value) {
    let text = std::fs::read_to_string(path).unwrap();
    let mut json: Value = serde_json::from_str(&text).unwrap();
    json[key] = value;
    std::fs::write(path, json.to_string()).unwrap();
}

#[test]
fn damaged_and_foreign_files_are_named() {
    for file in [
        "state.json",
        "optimizer.safetensors",
        "adapter_model.safetensors",
        "adapter_config.json",
    ] {
        let gone = broken(file, |path| std::fs::remove_file(path).unwrap());
        assert!(
            gone.contains(file) && gone.contains("cannot open"),
            "{gone}"
        );
        let cut = broken(file, |path| {
            let bytes = std::fs::read(path).unwrap();
            std::fs::write(path, &bytes[..bytes.len() / 2]).unwrap();
        });
        assert!(cut.contains(file) && cut.contains("malformed"), "{cut}");
    }
    for (file, key, value, part) in [
        ("state.json", "format", json!(2), "format is 2"),
        ("state.json", "extra", json!(0), "unknown field"),
        ("adapter_config.json", "r", json!(4), "rank 4"),
        ("adapter_config.json", "use_dora", json!(true), "use_dora"),
        (
            "adapter_config.json",
            "rank_pattern",
            json!({"a": 1}),
            "rank_pattern",
        ),
        (
            "adapter_config.json",
            "target_modules",
            json!("q|v"),
            "pattern",
        ),
    ] {
        let error = broken(file, |path| edit(path, key, value));
        assert!(error.contains(part), "{error}");
    }
    let rule = broken("state.json", |path| {
        let text = std::fs::read_to_string(path).unwrap();
        std::fs::write(path, text.replace("\"muon\": false", "\"muon\": true")).unwrap();
    });
    assert!(rule.contains("muon: true"), "{rule}");
}

#[test]
fn weights_of_another_model_are_refused() {
    let (network, optimizer) = fresh(&options(), false);
    let folder = tempfile::tempdir().unwrap();
    save(folder.path(), &network, &optimizer, &run_state()).unwrap();
    let other = |config: crate::llama::ModelConfig, tied| {
        let mut network = lively(&config, tied, options());
        let processor = network.processor().clone();
        let spec = OptimizerSpec::default();
        let mut optimizer = Optimizer::new(spec, &network.parameters(), processor).unwrap();
        let error = restore(folder.path(), &mut network, &mut optimizer);
        error.unwrap_err().to_string()
    };
    let config = minute_config();
    let tied = other(config.clone(), true);
    assert!(
        tied.contains("lm_head.weight\" is not a parameter"),
        "{tied}"
    );
    let wide = crate::llama::ModelConfig {
        intermediate: 12,
        ..config.clone()
    };
    assert!(other(wide, false).contains("has shape [10, 8], the run has [12, 8]"));
    let deep = crate::llama::ModelConfig {
        layers: 3,
        ..config
    };
    assert!(other(deep, false).contains("is not in it"));
}
