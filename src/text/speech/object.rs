//! A call as a JSON object that comes in pieces.

/// Reads `{"name": "...", "arguments": {...}}` so far as it goes in that order; anything else is for whoever has the
/// whole text.
#[derive(Debug, Clone, Default)]
pub(super) struct Object {
    /// All of it.
    pub(super) raw: String,
    /// Where the arguments begin and how far they were read.
    arguments: Option<Scan>,
}

#[derive(Debug, Clone, Copy)]
struct Scan {
    /// The end of what was read.
    read: usize,
    depth: usize,
    quoted: bool,
    escaped: bool,
    over: bool,
}

impl Object {
    pub(super) fn push(&mut self, text: &str) {
        self.raw.push_str(text);
    }

    /// Whether the arguments have begun.
    pub(super) fn begun(&self) -> bool {
        self.arguments.is_some()
    }

    /// The function's name, once the arguments begin.
    pub(super) fn begin(&mut self) -> Option<String> {
        let rest = self.raw.trim_start().strip_prefix('{')?;
        let rest = after_key(rest, &["name"])?;
        let (name, rest) = text(rest)?;
        let rest = rest.trim_start().strip_prefix(',')?;
        let rest = after_key(rest, &["arguments", "parameters"])?.trim_start();
        rest.starts_with('{').then_some(())?;
        let name = name.to_owned();
        self.arguments = Some(Scan {
            read: self.raw.len() - rest.len(),
            depth: 0,
            quoted: false,
            escaped: false,
            over: false,
        });
        Some(name)
    }

    /// More of the arguments, once they have begun.
    pub(super) fn more(&mut self) -> String {
        let Some(scan) = &mut self.arguments else {
            return String::new();
        };
        let rest = self.raw.get(scan.read..).unwrap_or_default();
        let mut taken = 0;
        for (at, c) in rest.char_indices() {
            if scan.over {
                break;
            }
            match c {
                _ if scan.escaped => scan.escaped = false,
                '\\' if scan.quoted => scan.escaped = true,
                '"' => scan.quoted = !scan.quoted,
                _ if scan.quoted => {}
                '{' | '[' => scan.depth += 1,
                '}' | ']' => {
                    scan.depth = scan.depth.saturating_sub(1);
                    scan.over = scan.depth == 0;
                }
                _ => {}
            }
            taken = at + c.len_utf8();
        }
        scan.read += taken;
        rest.get(..taken).unwrap_or_default().to_owned()
    }

    /// What follows the arguments, once they are over.
    pub(super) fn behind(&self) -> Option<&str> {
        let scan = self.arguments.filter(|scan| scan.over)?;
        self.raw.get(scan.read..)
    }
}

/// The name and the arguments of a call that is there as a whole, in any order; arguments that were written as a string
/// are what the string says.
pub(super) fn whole(text: &str) -> Option<(String, String)> {
    let value: serde_json::Value = serde_json::from_str(text.trim()).ok()?;
    let name = value.get("name")?.as_str()?.to_owned();
    let arguments = value.get("arguments").or_else(|| value.get("parameters"))?;
    let written = match arguments {
        serde_json::Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    let read: serde_json::Value = serde_json::from_str(&written).ok()?;
    read.is_object().then_some((name, written))
}

/// The text after `"key":`.
fn after_key<'a>(rest: &'a str, keys: &[&str]) -> Option<&'a str> {
    let (key, rest) = text(rest)?;
    keys.contains(&key).then_some(())?;
    rest.trim_start().strip_prefix(':')
}

/// A string without escapes, and what follows it.
fn text(rest: &str) -> Option<(&str, &str)> {
    let rest = rest.trim_start().strip_prefix('"')?;
    let (text, rest) = rest.split_once('"')?;
    (!text.contains('\\')).then_some((text, rest))
}
