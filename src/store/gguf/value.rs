//! The metadata values of a GGUF file.

use std::collections::BTreeMap;

use super::cursor::{Cursor, Reason};

/// Arrays of arrays nest at most this deep; no known file nests at all.
const DEEPEST: usize = 4;

/// One metadata value.
#[derive(Debug, Clone, PartialEq)]
#[allow(missing_docs)]
pub enum Value {
    U8(u8),
    I8(i8),
    U16(u16),
    I16(i16),
    U32(u32),
    I32(i32),
    F32(f32),
    Bool(bool),
    String(String),
    Array(Array),
    U64(u64),
    I64(i64),
    F64(f64),
}

/// An array of values of one type, stored as compactly as in the file.
#[derive(Debug, Clone, PartialEq)]
#[allow(missing_docs)]
pub enum Array {
    U8(Vec<u8>),
    I8(Vec<i8>),
    U16(Vec<u16>),
    I16(Vec<i16>),
    U32(Vec<u32>),
    I32(Vec<i32>),
    F32(Vec<f32>),
    Bool(Vec<bool>),
    String(Vec<String>),
    Array(Vec<Array>),
    U64(Vec<u64>),
    I64(Vec<i64>),
    F64(Vec<f64>),
}

impl Value {
    /// Reads a value whose type id comes first.
    pub(super) fn read(cursor: &mut Cursor<'_>) -> Result<Value, Reason> {
        let id = cursor.u32()?;
        Ok(match id {
            0 => Value::U8(u8::from_le_bytes(cursor.array()?)),
            1 => Value::I8(i8::from_le_bytes(cursor.array()?)),
            2 => Value::U16(u16::from_le_bytes(cursor.array()?)),
            3 => Value::I16(i16::from_le_bytes(cursor.array()?)),
            4 => Value::U32(cursor.u32()?),
            5 => Value::I32(i32::from_le_bytes(cursor.array()?)),
            6 => Value::F32(f32::from_le_bytes(cursor.array()?)),
            7 => Value::Bool(boolean(cursor)?),
            8 => Value::String(cursor.string(usize::MAX)?.to_owned()),
            9 => Value::Array(Array::read(cursor, 1)?),
            10 => Value::U64(cursor.u64()?),
            11 => Value::I64(i64::from_le_bytes(cursor.array()?)),
            12 => Value::F64(f64::from_le_bytes(cursor.array()?)),
            _ => return Err(format!("has the unknown value type {id}")),
        })
    }

    /// The value as a whole number that is not negative.
    pub fn as_u64(&self) -> Option<u64> {
        match *self {
            Value::U8(n) => Some(n.into()),
            Value::U16(n) => Some(n.into()),
            Value::U32(n) => Some(n.into()),
            Value::U64(n) => Some(n),
            Value::I8(n) => n.try_into().ok(),
            Value::I16(n) => n.try_into().ok(),
            Value::I32(n) => n.try_into().ok(),
            Value::I64(n) => n.try_into().ok(),
            _ => None,
        }
    }

    /// The value as a real number; whole numbers count too.
    pub fn as_f64(&self) -> Option<f64> {
        match *self {
            Value::F32(x) => Some(x.into()),
            Value::F64(x) => Some(x),
            _ => self.as_u64().map(|n| n as f64),
        }
    }

    /// The value as a truth value.
    pub fn as_bool(&self) -> Option<bool> {
        match *self {
            Value::Bool(b) => Some(b),
            _ => None,
        }
    }

    /// The value as text.
    pub fn as_str(&self) -> Option<&str> {
        match self {
            Value::String(text) => Some(text),
            _ => None,
        }
    }

    /// The value as an array.
    pub fn as_array(&self) -> Option<&Array> {
        match self {
            Value::Array(array) => Some(array),
            _ => None,
        }
    }
}

impl Array {
    /// Reads an array: element type, count, elements. `depth` counts the arrays around it.
    fn read(cursor: &mut Cursor<'_>, depth: usize) -> Result<Array, Reason> {
        if depth > DEEPEST {
            return Err(format!("nests arrays deeper than {DEEPEST}"));
        }
        let id = cursor.u32()?;
        Ok(match id {
            0 => Array::U8(numbers(cursor, u8::from_le_bytes)?),
            1 => Array::I8(numbers(cursor, i8::from_le_bytes)?),
            2 => Array::U16(numbers(cursor, u16::from_le_bytes)?),
            3 => Array::I16(numbers(cursor, i16::from_le_bytes)?),
            4 => Array::U32(numbers(cursor, u32::from_le_bytes)?),
            5 => Array::I32(numbers(cursor, i32::from_le_bytes)?),
            6 => Array::F32(numbers(cursor, f32::from_le_bytes)?),
            7 => Array::Bool(items(cursor, 1, boolean)?),
            8 => {
                let text = |c: &mut Cursor<'_>| c.string(usize::MAX).map(str::to_owned);
                Array::String(items(cursor, 8, text)?)
            }
            9 => Array::Array(items(cursor, 12, |c| Array::read(c, depth + 1))?),
            10 => Array::U64(numbers(cursor, u64::from_le_bytes)?),
            11 => Array::I64(numbers(cursor, i64::from_le_bytes)?),
            12 => Array::F64(numbers(cursor, f64::from_le_bytes)?),
            _ => return Err(format!("has the unknown array element type {id}")),
        })
    }

    /// The number of elements.
    pub fn len(&self) -> usize {
        match self {
            Array::U8(v) => v.len(),
            Array::I8(v) => v.len(),
            Array::U16(v) => v.len(),
            Array::I16(v) => v.len(),
            Array::U32(v) => v.len(),
            Array::I32(v) => v.len(),
            Array::F32(v) => v.len(),
            Array::Bool(v) => v.len(),
            Array::String(v) => v.len(),
            Array::Array(v) => v.len(),
            Array::U64(v) => v.len(),
            Array::I64(v) => v.len(),
            Array::F64(v) => v.len(),
        }
    }

    /// True without elements.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

fn boolean(cursor: &mut Cursor<'_>) -> Result<bool, Reason> {
    match cursor.array()? {
        [0] => Ok(false),
        [1] => Ok(true),
        [other] => Err(format!("is {other} where a bool is 0 or 1")),
    }
}

/// A counted run of fixed-size numbers.
fn numbers<const N: usize, T>(
    cursor: &mut Cursor<'_>,
    from: fn([u8; N]) -> T,
) -> Result<Vec<T>, Reason> {
    let count = cursor.count(N)?;
    let length = count.checked_mul(N).ok_or("is too long")?;
    let (whole, _) = cursor.take(length)?.as_chunks::<N>();
    Ok(whole.iter().map(|bytes| from(*bytes)).collect())
}

/// A counted run of items of at least `smallest` bytes each.
fn items<T>(
    cursor: &mut Cursor<'_>,
    smallest: usize,
    mut read: impl FnMut(&mut Cursor<'_>) -> Result<T, Reason>,
) -> Result<Vec<T>, Reason> {
    let count = cursor.count(smallest)?;
    let mut found = Vec::with_capacity(count);
    for _ in 0..count {
        found.push(read(cursor)?);
    }
    Ok(found)
}

/// All metadata of a file, by key.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Metadata {
    entries: BTreeMap<String, Value>,
}

impl Metadata {
    /// Adds an entry; false if the key was there already.
    pub(super) fn insert(&mut self, key: String, value: Value) -> bool {
        self.entries.insert(key, value).is_none()
    }

    /// The value of `key`.
    pub fn get(&self, key: &str) -> Option<&Value> {
        self.entries.get(key)
    }

    /// The text of `key`, if it is text.
    pub fn str(&self, key: &str) -> Option<&str> {
        self.get(key).and_then(Value::as_str)
    }

    /// The whole number of `key`, if it is one and not negative.
    pub fn u64(&self, key: &str) -> Option<u64> {
        self.get(key).and_then(Value::as_u64)
    }

    /// The real number of `key`, if it is a number.
    pub fn f64(&self, key: &str) -> Option<f64> {
        self.get(key).and_then(Value::as_f64)
    }

    /// The truth value of `key`, if it is one.
    pub fn bool(&self, key: &str) -> Option<bool> {
        self.get(key).and_then(Value::as_bool)
    }

    /// The texts of `key`, if it is an array of text.
    pub fn strings(&self, key: &str) -> Option<&[String]> {
        match self.get(key).and_then(Value::as_array) {
            Some(Array::String(texts)) => Some(texts),
            _ => None,
        }
    }

    /// Every key and value, in order of the keys.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Value)> {
        self.entries
            .iter()
            .map(|(key, value)| (key.as_str(), value))
    }
}
