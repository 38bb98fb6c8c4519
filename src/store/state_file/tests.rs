//! Sound files, and saving them.

use std::fs;
use std::path::{Path, PathBuf};

use half::bf16;
use proptest::prelude::*;
use serde_json::json;
use tempfile::TempDir;

use super::header::LONGEST_HEADER;
use super::*;

pub(super) fn digest(digit: &str) -> Sha256Hex {
    digit.repeat(64).parse().unwrap()
}

pub(super) fn header() -> Header {
    Header {
        model: digest("a"),
        shape: Shape {
            layers: 2,
            kv_heads: 1,
            head_dim: 4,
        },
        dtype: "bf16".to_owned(),
        policy: json!({ "kind": "h2o", "heavy": 4 }),
        meta: json!({ "name": "tea" }),
    }
}

pub(super) const ANY: u64 = u64::MAX;

pub(super) fn folder() -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("tea.kv");
    (folder, path)
}

/// A small file with every number type.
pub(super) fn write_small(path: &Path) -> u64 {
    let keys = [bf16::from_f32(1.5), bf16::NAN];
    let sections = [
        ("scores".to_owned(), Data::F32(&[0.5, -2.0])),
        ("positions".to_owned(), Data::U32(&[7, u32::MAX])),
        ("keys".to_owned(), Data::Bf16(&keys)),
        ("codes".to_owned(), Data::I8(&[-128, 127])),
        ("heads".to_owned(), Data::U8(&[0, 255, 3])),
        ("empty".to_owned(), Data::F32(&[])),
    ];
    write_state(path, &header(), &sections).unwrap()
}

pub(super) fn read_any(path: &Path) -> Result<(Header, Sections), StateError> {
    read_state(path, &Expect::default(), ANY)
}

fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).unwrap();
    let mut names: Vec<String> = entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

#[test]
fn the_small_file_comes_back() {
    let (folder, path) = folder();
    write_small(&path);
    assert_eq!(names(folder.path()), ["tea.kv"]);
    assert_eq!(read_header(&path).unwrap(), header());
    let (about, mut sections) = read_any(&path).unwrap();
    assert_eq!(about, header());
    assert_eq!(sections.take::<f32>("scores").unwrap(), [0.5, -2.0]);
    assert_eq!(sections.take::<u32>("positions").unwrap(), [7, u32::MAX]);
    let keys = sections.take::<bf16>("keys").unwrap();
    assert!(keys[0] == bf16::from_f32(1.5) && keys[1].is_nan());
    assert_eq!(sections.take::<f32>("empty").unwrap(), [0.0; 0]);
    assert_eq!(sections.names().collect::<Vec<_>>(), ["codes", "heads"]);
    let text = sections.take::<u8>("codes").unwrap_err().to_string();
    assert!(
        text.contains("\"codes\"") && text.contains("i8") && text.contains("u8"),
        "{text}"
    );
    assert_eq!(sections.take::<i8>("codes").unwrap(), [-128, 127]);
    let text = sections.take::<u32>("values").unwrap_err().to_string();
    assert!(
        text.contains("\"values\"") && text.contains("u32"),
        "{text}"
    );
    assert_eq!(sections.take::<u8>("heads").unwrap(), [0, 255, 3]);
}

#[test]
fn the_layout_on_disk_is_as_documented() {
    let (_folder, path) = folder();
    let sections = [("positions".to_owned(), Data::U32(&[0x0102_0304]))];
    write_state(&path, &header(), &sections).unwrap();
    let bytes = fs::read(&path).unwrap();
    assert_eq!(&bytes[..12], b"LLHMKVST\x01\0\0\0");
    assert!(bytes.ends_with(&[4, 3, 2, 1]));
}

#[derive(Debug, Clone)]
enum Raw {
    F32(Vec<u32>),
    U32(Vec<u32>),
    Bf16(Vec<u16>),
    I8(Vec<i8>),
    U8(Vec<u8>),
}

fn raw() -> impl Strategy<Value = Raw> {
    // Some are longer than one run of either side.
    let len = prop_oneof![9 => 0usize..20, 1 => 65_530usize..65_545, 1 => 262_140usize..262_150];
    let words = len.prop_flat_map(|len| prop::collection::vec(any::<u32>(), len));
    (0..5, words).prop_map(|(kind, words)| match kind {
        0 => Raw::F32(words),
        1 => Raw::U32(words),
        2 => Raw::Bf16(words.iter().map(|&word| word as u16).collect()),
        3 => Raw::I8(words.iter().map(|&word| word as i8).collect()),
        _ => Raw::U8(words.iter().map(|&word| word as u8).collect()),
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn every_bit_comes_back(raws in prop::collection::vec(raw(), 0..4), text in ".*") {
        let (_folder, path) = folder();
        let header = Header { meta: json!({ "text": text, "n": i64::MIN }), ..header() };
        let floats: Vec<Vec<f32>> = raws.iter().map(|raw| match raw {
            Raw::F32(bits) => bits.iter().map(|&bits| f32::from_bits(bits)).collect(),
            _ => Vec::new(),
        }).collect();
        let halves: Vec<Vec<bf16>> = raws.iter().map(|raw| match raw {
            Raw::Bf16(bits) => bits.iter().map(|&bits| bf16::from_bits(bits)).collect(),
            _ => Vec::new(),
        }).collect();
        let sections: Vec<(String, Data<'_>)> = raws.iter().enumerate().map(|(at, raw)| {
            let data = match raw {
                Raw::F32(_) => Data::F32(&floats[at]),
                Raw::U32(values) => Data::U32(values),
                Raw::Bf16(_) => Data::Bf16(&halves[at]),
                Raw::I8(values) => Data::I8(values),
                Raw::U8(values) => Data::U8(values),
            };
            (at.to_string(), data)
        }).collect();
        let length = write_state(&path, &header, &sections).unwrap();
        prop_assert_eq!(length, fs::metadata(&path).unwrap().len());
        let (about, mut back) = read_any(&path).unwrap();
        prop_assert_eq!(about, header);
        for (at, raw) in raws.into_iter().enumerate() {
            let name = at.to_string();
            match raw {
                Raw::F32(bits) => {
                    let values = back.take::<f32>(&name).unwrap();
                    prop_assert_eq!(values.into_iter().map(f32::to_bits).collect::<Vec<_>>(), bits);
                }
                Raw::Bf16(bits) => {
                    let values = back.take::<bf16>(&name).unwrap();
                    prop_assert_eq!(values.into_iter().map(bf16::to_bits).collect::<Vec<_>>(), bits);
                }
                Raw::U32(values) => prop_assert_eq!(back.take::<u32>(&name).unwrap(), values),
                Raw::I8(values) => prop_assert_eq!(back.take::<i8>(&name).unwrap(), values),
                Raw::U8(values) => prop_assert_eq!(back.take::<u8>(&name).unwrap(), values),
            }
        }
        prop_assert_eq!(back.names().count(), 0);
    }
}

#[test]
fn a_failed_save_leaves_what_was_there() {
    let (folder, path) = folder();
    write_small(&path);
    let before = fs::read(&path).unwrap();
    let twice = [
        ("keys".to_owned(), Data::U8(&[1])),
        ("keys".to_owned(), Data::U8(&[2])),
    ];
    let error = write_state(&path, &header(), &twice).unwrap_err();
    assert!(
        error
            .to_string()
            .contains("two sections are called \"keys\"")
    );
    let long = Header {
        meta: "x".repeat(LONGEST_HEADER).into(),
        ..header()
    };
    let error = write_state(&path, &long, &[]).unwrap_err();
    assert!(matches!(error, StateError::HeaderTooLong { .. }), "{error}");
    assert_eq!(fs::read(&path).unwrap(), before);

    // The last step fails: a file cannot replace a folder.
    let taken = folder.path().join("taken");
    fs::create_dir(&taken).unwrap();
    let error = write_state(&taken, &header(), &[]).unwrap_err();
    assert!(error.to_string().contains("cannot replace"), "{error}");
    let error = write_state(&folder.path().join("no/a.kv"), &header(), &[]).unwrap_err();
    assert!(error.to_string().contains("cannot create"), "{error}");
    assert!(write_state(Path::new("/"), &header(), &[]).is_err());
    assert_eq!(names(folder.path()), ["taken", "tea.kv"]);
}

#[cfg(unix)]
#[test]
fn only_the_owner_can_read_it_even_if_the_older_one_was_open_to_all() {
    use std::os::unix::fs::PermissionsExt;

    let (_folder, path) = folder();
    fs::write(&path, "older").unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
    write_small(&path);
    let mode = fs::metadata(&path).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    assert_eq!(read_header(&path).unwrap(), header());
}
