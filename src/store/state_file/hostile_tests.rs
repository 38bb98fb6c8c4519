//! Files that are damaged, made up, or somebody else's.

use std::fs;
use std::path::Path;

use serde_json::Value;

use super::header::{LONGEST_HEADER, PREFIX, fixed_part, header_hash};
use super::tests::{ANY, digest, folder, header, read_any, write_small};
use super::*;

/// A file with any header and payload and right checksums in front.
fn forge(path: &Path, json: &[u8], payload: &[u8]) {
    let fixed = fixed_part(json.len() as u64);
    let hash = header_hash(json);
    fs::write(path, [&fixed[..], &hash, json, payload].concat()).unwrap();
}

/// The header of the small file as JSON, to be bent.
fn small_layout(path: &Path) -> (Value, Vec<u8>) {
    let length = write_small(path);
    let bytes = fs::read(path).unwrap();
    assert_eq!(bytes.len() as u64, length);
    let header = u64::from_le_bytes(bytes[12..20].try_into().unwrap()) as usize;
    let (json, payload) = bytes[PREFIX..].split_at(header);
    (serde_json::from_slice(json).unwrap(), payload.to_vec())
}

#[test]
fn no_flipped_bit_passes() {
    let (_folder, path) = folder();
    write_small(&path);
    let sound = fs::read(&path).unwrap();
    let payload = small_layout(&path).1.len();
    for at in 0..sound.len() {
        for bit in 0..8 {
            let mut bytes = sound.clone();
            bytes[at] ^= 1 << bit;
            fs::write(&path, &bytes).unwrap();
            assert!(read_any(&path).is_err(), "byte {at}, bit {bit}");
            let in_header = at < sound.len() - payload;
            assert_eq!(
                read_header(&path).is_err(),
                in_header,
                "byte {at}, bit {bit}"
            );
        }
    }
}

#[test]
fn no_other_length_passes() {
    let (_folder, path) = folder();
    write_small(&path);
    let sound = fs::read(&path).unwrap();
    for length in 0..sound.len() {
        fs::write(&path, &sound[..length]).unwrap();
        assert!(
            read_any(&path).is_err() && read_header(&path).is_err(),
            "{length} bytes"
        );
    }
    fs::write(&path, [&sound[..], b"\0"].concat()).unwrap();
    let text = read_any(&path).unwrap_err().to_string();
    assert!(
        text.contains(&sound.len().to_string()) && text.contains("delete it"),
        "{text}"
    );
}

#[test]
fn made_up_lengths_are_refused_before_anything_is_allocated() {
    let (_folder, path) = folder();
    let (layout, payload) = small_layout(&path);
    // The largest of these could not be allocated: the test would be killed.
    for len in [3, 1 << 40, u64::MAX / 4, u64::MAX / 4 + 1, u64::MAX] {
        let mut layout = layout.clone();
        layout["sections"][0]["len"] = len.into();
        forge(&path, layout.to_string().as_bytes(), &payload);
        assert!(
            matches!(read_any(&path), Err(StateError::Length { .. })),
            "{len}"
        );
    }
    // Four sections whose lengths add up to the right one modulo 2^64.
    let mut bent = layout.clone();
    for (at, len) in [
        (0, 1u64 << 61),
        (1, 1 << 61),
        (2, 1 << 62),
        (3, (1 << 63) + 22),
    ] {
        bent["sections"][at]["len"] = len.into();
    }
    forge(&path, bent.to_string().as_bytes(), &payload);
    assert!(matches!(read_any(&path), Err(StateError::Length { .. })));

    for length in [LONGEST_HEADER as u64 + 1, u64::MAX] {
        let bytes = [&fixed_part(length)[..], &[0; 100]].concat();
        fs::write(&path, bytes).unwrap();
        assert!(matches!(
            read_any(&path),
            Err(StateError::HeaderTooLong { .. })
        ));
    }
    fs::write(
        &path,
        [&fixed_part(LONGEST_HEADER as u64)[..], &[0; 100]].concat(),
    )
    .unwrap();
    assert!(matches!(read_any(&path), Err(StateError::Length { .. })));
}

#[test]
fn made_up_headers_are_refused() {
    let (_folder, path) = folder();
    let (layout, payload) = small_layout(&path);
    forge(&path, layout.to_string().as_bytes(), &payload);
    read_any(&path).unwrap();
    let bend = |bend: &dyn Fn(&mut Value)| {
        let mut layout = layout.clone();
        bend(&mut layout);
        layout.to_string()
    };
    let deep = "[".repeat(100_000);
    let wrong = [
        ("more", bend(&|v| v["more"] = 1.into())),
        ("more", bend(&|v| v["about"]["more"] = 1.into())),
        ("more", bend(&|v| v["about"]["shape"]["more"] = 1.into())),
        ("more", bend(&|v| v["sections"][1]["more"] = 1.into())),
        ("not a sha256", bend(&|v| v["about"]["model"] = "x".into())),
        (
            "not a sha256",
            bend(&|v| v["sha256"] = "A".repeat(64).into()),
        ),
        ("f16", bend(&|v| v["sections"][2]["dtype"] = "f16".into())),
        (
            "invalid value",
            bend(&|v| v["sections"][0]["len"] = (-1).into()),
        ),
        (
            "two are called \"keys\"",
            bend(&|v| v["sections"][0]["name"] = "keys".into()),
        ),
        ("EOF", String::new()),
        ("recursion", layout.to_string().replace("\"tea\"", &deep)),
    ];
    for (reason, json) in wrong {
        forge(&path, json.as_bytes(), &payload);
        let error = read_any(&path).unwrap_err();
        assert!(
            matches!(error, StateError::Malformed { .. }),
            "{reason}: {error}"
        );
        assert!(error.to_string().contains(reason), "{reason}: {error}");
    }
}

#[test]
fn what_belongs_to_something_else_is_refused_and_says_so() {
    let (_folder, path) = folder();
    write_small(&path);
    let fits = Expect {
        model: Some(digest("a")),
        shape: Some(header().shape),
        dtype: Some("bf16".to_owned()),
    };
    assert!(read_state(&path, &fits, 25).is_ok());
    let text = |expect: Expect| read_state(&path, &expect, ANY).unwrap_err().to_string();
    let shape = Shape {
        layers: 3,
        ..header().shape
    };
    for (expect, ours, theirs) in [
        (
            Expect {
                model: Some(digest("b")),
                ..fits.clone()
            },
            "bbbb",
            "aaaa",
        ),
        (
            Expect {
                shape: Some(shape),
                ..fits.clone()
            },
            "3 layers",
            "2 layers",
        ),
        (
            Expect {
                dtype: Some("f32".to_owned()),
                ..fits.clone()
            },
            "f32",
            "bf16",
        ),
    ] {
        let text = text(expect);
        assert!(text.contains(ours) && text.contains(theirs), "{text}");
        assert!(text.contains("start a new session"), "{text}");
    }
    let error = read_state(&path, &fits, 24).unwrap_err();
    assert!(
        matches!(
            error,
            StateError::TooLarge {
                bytes: 25,
                limit: 24,
                ..
            }
        ),
        "{error}"
    );
}

#[test]
fn what_is_not_a_state_is_refused() {
    let (folder, path) = folder();
    assert!(matches!(read_any(&path), Err(StateError::Io { .. })));
    assert!(matches!(
        read_any(folder.path()),
        Err(StateError::NotAState { .. })
    ));
    fs::write(&path, "x".repeat(200)).unwrap();
    assert!(matches!(read_any(&path), Err(StateError::NotAState { .. })));
    write_small(&path);
    let mut bytes = fs::read(&path).unwrap();
    bytes[8] = 2;
    fs::write(&path, bytes).unwrap();
    let text = read_any(&path).unwrap_err().to_string();
    assert!(
        text.contains("version 2 of the format and 1 is read"),
        "{text}"
    );
}
