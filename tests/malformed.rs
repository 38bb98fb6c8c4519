//! Damaged and hostile model files: each is an error or a model that can be read, never a panic.

use std::path::Path;

use llamahome::store::gguf::write::Writer;
use llamahome::store::gguf::{Array, Header, Value};
use llamahome::store::quant::{DType, encode};
use llamahome::store::{Checkpoint, StoreError, vocab};
use proptest::prelude::*;

/// A small sound file with most kinds of values and two tensors.
fn sound() -> Writer {
    let texts = |list: &[&str]| Array::String(list.iter().map(|text| text.to_string()).collect());
    let values: Vec<f32> = (0..64).map(|i| i as f32).collect();
    Writer::new()
        .metadata("general.alignment", Value::U32(32))
        .metadata("general.architecture", Value::String("llama".into()))
        .metadata("tokenizer.ggml.model", Value::String("llama".into()))
        .metadata(
            "tokenizer.ggml.tokens",
            Value::Array(texts(&["<unk>", "<s>", "</s>"])),
        )
        .metadata(
            "tokenizer.ggml.scores",
            Value::Array(Array::F32(vec![0.0; 3])),
        )
        .metadata("tokenizer.ggml.eos_token_id", Value::U32(2))
        .metadata("tokenizer.ggml.add_bos_token", Value::Bool(true))
        .tensor(
            "a",
            &[2, 32],
            DType::Q8_0,
            encode(DType::Q8_0, &values).expect("whole blocks"),
        )
        .tensor(
            "b",
            &[64],
            DType::F32,
            encode(DType::F32, &values).expect("numbers"),
        )
}

/// Opens `bytes` as a file; if that works, reads everything in it.
fn open(folder: &Path, bytes: &[u8]) -> Result<Checkpoint, StoreError> {
    let path = folder.join("m.gguf");
    std::fs::write(&path, bytes).expect("the temporary folder takes files");
    let checkpoint = Checkpoint::open(&path)?;
    let mut out = Vec::new();
    for name in checkpoint.names() {
        checkpoint
            .read_f32(name, &mut out)
            .expect("a listed tensor can be read");
        assert!(
            out.len() <= bytes.len() * 16,
            "{name} is larger than the file can justify"
        );
    }
    if let Some(metadata) = checkpoint.metadata() {
        // An error is as good as a vocabulary here; only a panic is not.
        let _ = vocab::from_metadata(metadata, &path);
    }
    Ok(checkpoint)
}

fn folder() -> tempfile::TempDir {
    tempfile::tempdir().expect("a temporary folder")
}

/// The error of a file made by `change` from nothing but a magic number and a version.
fn error_of(rest: &[u8]) -> String {
    let mut bytes = b"GGUF\x03\0\0\0".to_vec();
    bytes.extend(rest);
    bytes.resize(bytes.len().max(512), 0);
    Header::parse(&bytes)
        .expect_err("the file is malformed")
        .to_string()
}

fn numbers(list: &[u64]) -> Vec<u8> {
    list.iter().flat_map(|n| n.to_le_bytes()).collect()
}

#[test]
fn a_sound_file_opens() {
    let checkpoint = open(folder().path(), &sound().finish()).expect("the file is sound");
    assert_eq!(checkpoint.names().collect::<Vec<_>>(), ["a", "b"]);
}

#[test]
fn a_file_cut_anywhere_is_an_error() {
    let folder = folder();
    let whole = sound().finish();
    for length in 0..whole.len() {
        let cut = whole.get(..length).expect("shorter than the whole");
        assert!(
            open(folder.path(), cut).is_err(),
            "cut to {length} of {}",
            whole.len()
        );
    }
}

#[test]
fn a_flip_anywhere_in_the_header_is_survived() {
    let folder = folder();
    let whole = sound().finish();
    let mut refused = 0;
    for at in 0..sound().header().len() {
        for mask in [0x01, 0x40, 0x80, 0xff] {
            let mut bytes = whole.clone();
            bytes[at] ^= mask;
            refused += usize::from(open(folder.path(), &bytes).is_err());
        }
    }
    assert!(refused > 100, "only {refused} flips were noticed");
}

#[test]
fn counts_and_lengths_beyond_the_file_are_named() {
    let huge = 1u64 << 63;
    let key = [numbers(&[1]), b"k".to_vec()].concat();
    let with_value = |kind: u32, rest: Vec<u8>| {
        [
            numbers(&[0, 1]),
            key.clone(),
            kind.to_le_bytes().to_vec(),
            rest,
        ]
        .concat()
    };
    let array = |kind: u32, count: u64| {
        with_value(9, [kind.to_le_bytes().to_vec(), numbers(&[count])].concat())
    };
    for (rest, part) in [
        (numbers(&[huge, 0]), "tensor_count: is 9223372036854775808"),
        (numbers(&[u64::MAX, u64::MAX]), "tensor_count"),
        (
            numbers(&[0, huge]),
            "metadata_count: is 9223372036854775808",
        ),
        (
            numbers(&[0, 1, huge]),
            "metadata[0].key: is 9223372036854775808",
        ),
        (numbers(&[0, 1, 100_000]), "metadata[0].key"),
        (
            with_value(8, numbers(&[u64::MAX])),
            "metadata \"k\": is 18446744073709551615",
        ),
        (with_value(99, vec![]), "unknown value type 99"),
        (with_value(7, vec![2]), "where a bool is 0 or 1"),
        (array(10, huge), "metadata \"k\": is 9223372036854775808"),
        (array(0, 1 << 40), "room for"),
        (array(8, 1 << 20), "room for"),
        (array(77, 1), "unknown array element type 77"),
    ] {
        let error = error_of(&rest);
        assert!(error.contains(part), "{error} must name {part}");
    }
}

#[test]
fn arrays_nest_only_so_deep() {
    let mut rest = [
        numbers(&[0, 1, 1]),
        b"k".to_vec(),
        9u32.to_le_bytes().to_vec(),
    ]
    .concat();
    for _ in 0..10_000 {
        rest.extend(9u32.to_le_bytes());
        rest.extend(1u64.to_le_bytes());
    }
    let error = error_of(&rest);
    assert!(error.contains("deeper than"), "{error}");
}

/// A directory of one tensor "t".
fn directory(dimensions: &[u64], kind: u32, offset: u64) -> Vec<u8> {
    [numbers(&[1, 0]), one_tensor("t", dimensions, kind, offset)].concat()
}

fn one_tensor(name: &str, dimensions: &[u64], kind: u32, offset: u64) -> Vec<u8> {
    [
        numbers(&[name.len() as u64]),
        name.as_bytes().to_vec(),
        (dimensions.len() as u32).to_le_bytes().to_vec(),
        numbers(dimensions),
        kind.to_le_bytes().to_vec(),
        numbers(&[offset]),
    ]
    .concat()
}

#[test]
fn shapes_types_and_offsets_are_checked() {
    let two = |first: Vec<u8>, second: Vec<u8>| [numbers(&[2, 0]), first, second].concat();
    for (rest, part) in [
        (directory(&[], 0, 0), "dimension count: is 0"),
        (directory(&[1; 5], 0, 0), "dimension count: is 5"),
        (directory(&[4, 0], 0, 0), "one of them is 0"),
        (directory(&[u64::MAX, 2], 0, 0), "shape"),
        (directory(&[1 << 32, 1 << 32], 0, 0), "shape"),
        (directory(&[u64::MAX], 0, 0), "shape"),
        (directory(&[33], 8, 0), "whole blocks of Q8_0"),
        (directory(&[16, 2], 8, 0), "whole blocks of Q8_0"),
        (directory(&[4], 999, 0), "unknown id 999"),
        (directory(&[4], 23, 0), "IQ4_XS"),
        (directory(&[4], 0, 8), "no multiple of the alignment"),
        (directory(&[4], 0, 1 << 20), "do not fit"),
        (directory(&[4], 0, u64::MAX - 31), "do not fit"),
        (directory(&[1 << 20], 0, 0), "do not fit"),
        (
            two(one_tensor("t", &[4], 0, 0), one_tensor("t", &[4], 0, 32)),
            "is there twice",
        ),
        (
            two(one_tensor("t", &[16], 0, 0), one_tensor("u", &[4], 0, 32)),
            "overlaps tensor \"t\"",
        ),
        (
            two(one_tensor("", &[4], 0, 0), one_tensor("u", &[4], 0, 32)),
            "name: is empty",
        ),
    ] {
        let error = error_of(&rest);
        assert!(error.contains(part), "{error} must name {part}");
    }
}

#[test]
fn versions_alignments_and_names_are_checked() {
    let alignment = |value: Value| Writer::new().metadata("general.alignment", value).finish();
    let twice = Writer::new()
        .metadata("k", Value::U8(1))
        .metadata("k", Value::U8(2))
        .finish();
    let mut not_text = Writer::new().metadata("key", Value::U8(1)).finish();
    not_text[32] = 0xff;
    for (bytes, part) in [
        (b"GGML\x03\0\0\0".to_vec(), "magic"),
        (b"GGUF\x01\0\0\0".to_vec(), "GGUF version 1"),
        (b"GGUF\0\0\0\x03".to_vec(), "big-endian"),
        (alignment(Value::U32(0)), "general.alignment"),
        (alignment(Value::U32(48)), "general.alignment"),
        (alignment(Value::String("32".into())), "general.alignment"),
        (twice, "\"k\" is there twice"),
        (not_text, "not utf-8"),
    ] {
        let error = Header::parse(&bytes).expect_err("malformed").to_string();
        assert!(error.contains(part), "{error} must name {part}");
    }
}

/// A safetensors folder from its parts.
fn safetensors(header: &str, data: usize, index: Option<&str>) -> Result<Checkpoint, StoreError> {
    let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
    bytes.extend(header.as_bytes());
    bytes.resize(bytes.len() + data, 0);
    safetensors_bytes(&bytes, index)
}

fn safetensors_bytes(bytes: &[u8], index: Option<&str>) -> Result<Checkpoint, StoreError> {
    let folder = folder();
    let write = |name: &str, bytes: &[u8]| {
        std::fs::write(folder.path().join(name), bytes).expect("the temporary folder takes files");
    };
    write("config.json", b"{}");
    write("model.safetensors", bytes);
    if let Some(index) = index {
        write("model.safetensors.index.json", index.as_bytes());
    }
    let checkpoint = Checkpoint::open(folder.path())?;
    let mut out = Vec::new();
    for name in checkpoint.names() {
        checkpoint
            .read_f32(name, &mut out)
            .expect("a listed tensor can be read");
    }
    Ok(checkpoint)
}

const GOOD: &str = r#"{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},"b":{"dtype":"BF16","shape":[1,2],"data_offsets":[8,12]}}"#;

#[test]
fn safetensors_headers_are_checked() {
    assert!(safetensors(GOOD, 12, None).is_ok());
    let far = u64::MAX;
    for (header, data) in [
        (GOOD.to_owned(), 11),
        (GOOD.to_owned(), 13),
        ("{".to_owned(), 12),
        ("[]".to_owned(), 12),
        (GOOD.replace("\"b\"", "\"a\""), 12),
        (GOOD.replace("[8,12]", "[4,8]"), 12),
        (GOOD.replace("[0,8]", &format!("[0,{far}]")), 12),
        (GOOD.replace("[2]", &format!("[{far},{far}]")), 12),
        (GOOD.replace("[2]", "[0]"), 12),
        (GOOD.replace("F32", "I64"), 12),
        (GOOD.replace("F32", "X1"), 12),
    ] {
        assert!(
            safetensors(&header, data, None).is_err(),
            "{header} with {data} bytes"
        );
    }
}

#[test]
fn safetensors_files_cut_or_flipped_are_survived() {
    let mut whole = (GOOD.len() as u64).to_le_bytes().to_vec();
    whole.extend(GOOD.as_bytes());
    whole.resize(whole.len() + 12, 0);
    for length in 0..whole.len() {
        let cut = whole.get(..length).expect("shorter than the whole");
        assert!(safetensors_bytes(cut, None).is_err(), "cut to {length}");
    }
    for at in 0..whole.len() - 12 {
        for mask in [0x01, 0x10, 0xff] {
            let mut bytes = whole.clone();
            bytes[at] ^= mask;
            let _ = safetensors_bytes(&bytes, None);
        }
    }
}

#[test]
fn an_index_is_checked() {
    let index = |shard: &str| format!(r#"{{"weight_map": {{"a": "{shard}", "b": "{shard}"}}}}"#);
    assert!(safetensors(GOOD, 12, Some(&index("model.safetensors"))).is_ok());
    for bad in [
        index("../model.safetensors"),
        index("/etc/passwd"),
        index("x\\\\model.safetensors"),
        index("missing.safetensors"),
        index(""),
        r#"{"weight_map": {"a": "model.safetensors"}}"#.to_owned(),
        r#"{"weight_map": {}}"#.to_owned(),
        r#"{"weight_map": {"a": 7}}"#.to_owned(),
        "{}".to_owned(),
        "[".repeat(100_000),
    ] {
        let start: String = bad.chars().take(60).collect();
        assert!(safetensors(GOOD, 12, Some(&bad)).is_err(), "{start}");
    }
}

proptest! {
    #[test]
    fn random_bytes_are_survived(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        let _ = Header::parse(&bytes);
        let mut started = b"GGUF\x03\0\0\0".to_vec();
        started.extend(&bytes);
        let _ = Header::parse(&started);
    }

    #[test]
    fn small_counts_before_random_bytes_are_survived(
        tensors in 0u64..3,
        entries in 0u64..3,
        bytes in proptest::collection::vec(prop_oneof![3 => 0u8..14, 1 => any::<u8>()], 0..300),
    ) {
        let mut file = b"GGUF\x02\0\0\0".to_vec();
        file.extend(numbers(&[tensors, entries]));
        file.extend(&bytes);
        if let Ok(header) = Header::parse(&file) {
            prop_assert!(header.tensors.iter().all(|tensor| tensor.range.end <= file.len()));
        }
    }

    #[test]
    fn many_changes_to_a_sound_file_are_survived(
        changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
    ) {
        let mut bytes = sound().finish();
        for (at, byte) in changes {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        let folder = folder();
        let _ = open(folder.path(), &bytes);
    }
}
