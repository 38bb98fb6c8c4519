//! Reads little-endian fields from bytes, each checked against what is left.

use std::fmt;

/// What is wrong with a GGUF file, before its path is known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// The bad field, as in `metadata[2].key`.
    pub field: String,
    /// What is wrong with it.
    pub reason: String,
    /// True for a sound file that this program does not read.
    pub unsupported: bool,
}

impl Fault {
    /// A damaged field.
    pub fn new(field: impl Into<String>, reason: impl Into<String>) -> Self {
        Fault {
            field: field.into(),
            reason: reason.into(),
            unsupported: false,
        }
    }

    /// A field whose value is sound but not supported here.
    pub fn unsupported(field: impl Into<String>, reason: impl Into<String>) -> Self {
        Fault {
            field: field.into(),
            reason: reason.into(),
            unsupported: true,
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.field, self.reason)
    }
}

/// The reason alone; [`At::at`] adds the field.
pub type Reason = String;

/// Gives a reason the name of the field it is about.
pub trait At<T> {
    /// Names the field; `field` is only built when there is an error.
    fn at<F: FnOnce() -> String>(self, field: F) -> Result<T, Fault>;
}

impl<T> At<T> for Result<T, Reason> {
    fn at<F: FnOnce() -> String>(self, field: F) -> Result<T, Fault> {
        self.map_err(|reason| Fault::new(field(), reason))
    }
}

/// A place in a byte slice, moving forward.
#[derive(Debug, Clone)]
pub struct Cursor<'a> {
    bytes: &'a [u8],
    position: usize,
}

impl<'a> Cursor<'a> {
    /// At the first byte.
    pub fn new(bytes: &'a [u8]) -> Self {
        Cursor { bytes, position: 0 }
    }

    /// Bytes read so far.
    pub fn position(&self) -> usize {
        self.position
    }

    /// Bytes not read yet.
    pub fn left(&self) -> usize {
        self.bytes.len().saturating_sub(self.position)
    }

    /// The next `count` bytes.
    pub fn take(&mut self, count: usize) -> Result<&'a [u8], Reason> {
        let end = self.position.checked_add(count);
        let found = end.and_then(|end| self.bytes.get(self.position..end));
        let found = found
            .ok_or_else(|| format!("needs {count} bytes and the file has {} left", self.left()))?;
        self.position = self.position.saturating_add(count);
        Ok(found)
    }

    /// The next `N` bytes as an array.
    pub fn array<const N: usize>(&mut self) -> Result<[u8; N], Reason> {
        let bytes = self.take(N)?;
        bytes.try_into().map_err(|_| "is cut short".to_owned())
    }

    /// A 32-bit unsigned number.
    pub fn u32(&mut self) -> Result<u32, Reason> {
        self.array().map(u32::from_le_bytes)
    }

    /// A 64-bit unsigned number.
    pub fn u64(&mut self) -> Result<u64, Reason> {
        self.array().map(u64::from_le_bytes)
    }

    /// How many items follow: refused if even the smallest such items would not fit in the file.
    pub fn count(&mut self, smallest_item: usize) -> Result<usize, Reason> {
        let count = self.u64()?;
        let most = self.left() / smallest_item.max(1);
        match usize::try_from(count) {
            Ok(count) if count <= most => Ok(count),
            _ => Err(format!(
                "is {count}, and the rest of the file has room for {most} at most"
            )),
        }
    }

    /// A string with its 64-bit length in front, of at most `longest` bytes.
    pub fn string(&mut self, longest: usize) -> Result<&'a str, Reason> {
        let length = self.count(1)?;
        if length > longest {
            return Err(format!(
                "is {length} bytes long, and {longest} is the limit"
            ));
        }
        let bytes = self.take(length)?;
        std::str::from_utf8(bytes).map_err(|error| format!("is not utf-8: {error}"))
    }
}
