//! Writes GGUF version 3 files: for tests, and for the models they make.

use super::header::ALIGNMENT;
use super::{Array, Value};
use crate::store::quant::DType;

/// A GGUF file in the making. Nothing is checked: a test may write nonsense on purpose.
#[derive(Debug, Clone, Default)]
pub struct Writer {
    metadata: Vec<(String, Value)>,
    tensors: Vec<(String, Vec<usize>, DType, Vec<u8>)>,
}

impl Writer {
    /// An empty file.
    pub fn new() -> Self {
        Writer::default()
    }

    /// Adds a metadata entry.
    #[must_use]
    pub fn metadata(mut self, key: &str, value: Value) -> Self {
        self.metadata.push((key.to_owned(), value));
        self
    }

    /// Adds a tensor: `shape` is row major, `bytes` are the elements as `dtype` stores them.
    #[must_use]
    pub fn tensor(mut self, name: &str, shape: &[usize], dtype: DType, bytes: Vec<u8>) -> Self {
        self.tensors
            .push((name.to_owned(), shape.to_vec(), dtype, bytes));
        self
    }

    /// The file's bytes.
    pub fn finish(&self) -> Vec<u8> {
        let mut out = self.header();
        for (_, _, _, bytes) in &self.tensors {
            pad(&mut out);
            out.extend_from_slice(bytes);
        }
        pad(&mut out);
        out
    }

    /// The bytes before the data, without padding.
    pub fn header(&self) -> Vec<u8> {
        let mut out = b"GGUF".to_vec();
        out.extend(3u32.to_le_bytes());
        out.extend((self.tensors.len() as u64).to_le_bytes());
        out.extend((self.metadata.len() as u64).to_le_bytes());
        for (key, value) in &self.metadata {
            put_string(&mut out, key);
            put_value(&mut out, value);
        }
        let mut offset = 0u64;
        for (name, shape, dtype, bytes) in &self.tensors {
            put_string(&mut out, name);
            out.extend((shape.len() as u32).to_le_bytes());
            for size in shape.iter().rev() {
                out.extend((*size as u64).to_le_bytes());
            }
            out.extend(dtype.to_ggml().to_le_bytes());
            out.extend(offset.to_le_bytes());
            offset = (offset + bytes.len() as u64).next_multiple_of(ALIGNMENT);
        }
        out
    }
}

fn pad(out: &mut Vec<u8>) {
    out.resize(out.len().next_multiple_of(ALIGNMENT as usize), 0);
}

fn put_string(out: &mut Vec<u8>, text: &str) {
    out.extend((text.len() as u64).to_le_bytes());
    out.extend(text.as_bytes());
}

/// Type id, then the value.
fn put_value(out: &mut Vec<u8>, value: &Value) {
    let mut put = |id: u32, bytes: &[u8]| {
        out.extend(id.to_le_bytes());
        out.extend(bytes);
    };
    match value {
        Value::U8(n) => put(0, &n.to_le_bytes()),
        Value::I8(n) => put(1, &n.to_le_bytes()),
        Value::U16(n) => put(2, &n.to_le_bytes()),
        Value::I16(n) => put(3, &n.to_le_bytes()),
        Value::U32(n) => put(4, &n.to_le_bytes()),
        Value::I32(n) => put(5, &n.to_le_bytes()),
        Value::F32(x) => put(6, &x.to_le_bytes()),
        Value::Bool(b) => put(7, &[u8::from(*b)]),
        Value::U64(n) => put(10, &n.to_le_bytes()),
        Value::I64(n) => put(11, &n.to_le_bytes()),
        Value::F64(x) => put(12, &x.to_le_bytes()),
        Value::String(text) => {
            put(8, &[]);
            put_string(out, text);
        }
        Value::Array(array) => {
            put(9, &[]);
            put_array(out, array);
        }
    }
}

/// Element type id, count, elements.
fn put_array(out: &mut Vec<u8>, array: &Array) {
    let count = (array.len() as u64).to_le_bytes();
    let mut put = |id: u32, bytes: Vec<u8>| {
        out.extend(id.to_le_bytes());
        out.extend(count);
        out.extend(bytes);
    };
    match array {
        Array::U8(v) => put(0, v.clone()),
        Array::I8(v) => put(1, v.iter().flat_map(|n| n.to_le_bytes()).collect()),
        Array::U16(v) => put(2, v.iter().flat_map(|n| n.to_le_bytes()).collect()),
        Array::I16(v) => put(3, v.iter().flat_map(|n| n.to_le_bytes()).collect()),
        Array::U32(v) => put(4, v.iter().flat_map(|n| n.to_le_bytes()).collect()),
        Array::I32(v) => put(5, v.iter().flat_map(|n| n.to_le_bytes()).collect()),
        Array::F32(v) => put(6, v.iter().flat_map(|x| x.to_le_bytes()).collect()),
        Array::Bool(v) => put(7, v.iter().map(|b| u8::from(*b)).collect()),
        Array::U64(v) => put(10, v.iter().flat_map(|n| n.to_le_bytes()).collect()),
        Array::I64(v) => put(11, v.iter().flat_map(|n| n.to_le_bytes()).collect()),
        Array::F64(v) => put(12, v.iter().flat_map(|x| x.to_le_bytes()).collect()),
        Array::String(v) => {
            put(8, Vec::new());
            v.iter().for_each(|text| put_string(out, text));
        }
        Array::Array(v) => {
            put(9, Vec::new());
            v.iter().for_each(|inner| put_array(out, inner));
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]
mod tests {
    use super::super::Header;
    use super::*;

    fn every_kind() -> Vec<(&'static str, Value)> {
        let nested = Array::Array(vec![Array::U8(vec![1, 2]), Array::String(vec!["x".into()])]);
        vec![
            ("a.u8", Value::U8(7)),
            ("b.i8", Value::I8(-7)),
            ("c.u16", Value::U16(700)),
            ("d.i16", Value::I16(-700)),
            ("e.u32", Value::U32(70_000)),
            ("f.i32", Value::I32(-70_000)),
            ("g.f32", Value::F32(0.5)),
            ("h.bool", Value::Bool(true)),
            ("i.text", Value::String("grüße".into())),
            ("j.u64", Value::U64(1 << 40)),
            ("k.i64", Value::I64(-(1 << 40))),
            ("l.f64", Value::F64(-0.25)),
            (
                "m.texts",
                Value::Array(Array::String(vec!["".into(), "b".into()])),
            ),
            ("n.bools", Value::Array(Array::Bool(vec![true, false]))),
            ("o.floats", Value::Array(Array::F32(vec![1.0, 2.0]))),
            ("p.nested", Value::Array(nested)),
        ]
    }

    #[test]
    fn what_is_written_is_read_back() {
        let mut writer = Writer::new();
        for (key, value) in every_kind() {
            writer = writer.metadata(key, value);
        }
        let bytes: Vec<u8> = (0..24u8).collect();
        let file = writer
            .tensor("t", &[2, 3], DType::F32, bytes.clone())
            .tensor("q", &[1, 32], DType::Q8_0, vec![1; 34])
            .finish();
        let header = Header::parse(&file).unwrap();
        for (key, value) in every_kind() {
            assert_eq!(header.metadata.get(key), Some(&value), "{key}");
        }
        assert_eq!(header.tensors[0].shape, [2, 3]);
        assert_eq!(file[header.tensors[0].range.clone()], bytes);
        assert_eq!(header.tensors[1].range.len(), 34);
        assert_eq!(header.tensors[1].range.start % ALIGNMENT as usize, 0);
    }
}
