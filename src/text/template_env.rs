//! The Jinja environment of chat templates: what the transformers library offers them, inside
//! bounds on work, nesting and size. A template comes with a model file, so it is not trusted.

use std::borrow::Cow;
use std::fmt::Write as _;
use std::io;
use std::time::SystemTime;

use chrono::format::{Item, StrftimeItems};
use chrono::{DateTime, Utc};
use minijinja::syntax::SyntaxConfig;
use minijinja::value::{Kwargs, Value};
use minijinja::{AutoEscape, Environment, Error, ErrorKind};
use serde::Serialize;
use serde_json::ser::{Formatter, PrettyFormatter, Serializer};

use super::TextError;

/// Name of the one template of an environment.
pub(super) const NAME: &str = "chat";
/// Stand where the assistant's words begin and end in a rendering by [`Generation::Marked`]: private-use characters.
pub(super) const BEGIN: char = '\u{10F8F3}';
pub(super) const END: char = '\u{10F8F4}';
/// Most bytes of a template's source; published ones stay below 32 KiB.
pub(super) const MAX_SOURCE: usize = 256 << 10;
/// Most bytes of its output.
pub(super) const MAX_OUTPUT: usize = super::MAX_TEXT_BYTES;
/// Most steps of one rendering: about 50,000 messages of a usual template.
const FUEL: u64 = 5_000_000;
const MAX_DEPTH: usize = 100;
const MAX_INDENT: usize = 16;

/// What becomes of `{% generation %}`, which marks what to train on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Generation {
    /// Nothing is written.
    Plain,
    /// [`BEGIN`] and [`END`] are written.
    Marked,
}

/// Whether a template says what the assistant writes.
pub(super) fn has_generation_marks(source: &str) -> bool {
    matches!(with_generation(source, Generation::Marked), Cow::Owned(marked) if marked.contains(BEGIN_INCLUDE))
}

const BEGIN_INCLUDE: &str = "include 'generation begins'";
const END_INCLUDE: &str = "include 'generation ends'";

/// Compiles a template as transformers does: blocks trimmed, Python's string methods, loop
/// controls, `tojson` as `json.dumps` writes, `raise_exception`.
pub(super) fn compile(
    source: &str,
    generation: Generation,
) -> Result<Environment<'static>, TextError> {
    if source.len() > MAX_SOURCE {
        return Err(TextError::TemplateSize {
            part: "source",
            max: MAX_SOURCE,
        });
    }
    let mut env = Environment::new();
    let mut syntax = SyntaxConfig::builder();
    syntax.trim_blocks(true).lstrip_blocks(true);
    env.set_syntax(syntax.build().map_err(template_error)?);
    env.set_auto_escape_callback(|_| AutoEscape::None);
    env.set_fuel(Some(FUEL));
    env.set_recursion_limit(MAX_DEPTH);
    env.set_unknown_method_callback(minijinja_contrib::pycompat::unknown_method_callback);
    env.add_filter("tojson", tojson);
    env.add_function(
        "raise_exception",
        |reason: String| -> Result<String, Error> {
            Err(Error::new(ErrorKind::InvalidOperation, reason))
        },
    );
    let source = with_generation(source, generation).into_owned();
    if generation == Generation::Marked {
        for (name, sign) in [("generation begins", BEGIN), ("generation ends", END)] {
            env.add_template_owned(name, sign.to_string())
                .map_err(template_error)?;
        }
    }
    env.add_template_owned(NAME, source)
        .map_err(template_error)?;
    Ok(env)
}

/// A template's error in one line, with its cause.
pub(super) fn template_error(error: Error) -> TextError {
    let mut reason = error.to_string();
    let mut cause = std::error::Error::source(&error);
    while let Some(inner) = cause {
        reason = format!("{reason}: {inner}");
        cause = inner.source();
    }
    TextError::Template { reason }
}

/// `strftime_now` of a rendering: `now` in UTC.
pub(super) fn strftime_now(now: SystemTime) -> Value {
    let now = DateTime::<Utc>::from(now);
    Value::from_function(move |format: String| -> Result<String, Error> {
        let items: Vec<Item<'_>> = StrftimeItems::new(&format).collect();
        let mut text = String::new();
        let bad = items.iter().any(|item| matches!(item, Item::Error));
        if bad || write!(text, "{}", now.format_with_items(items.iter())).is_err() {
            let reason = format!("strftime_now cannot format {format:?}");
            return Err(Error::new(ErrorKind::InvalidOperation, reason));
        }
        Ok(text)
    })
}

/// The source with `{% generation %}` as a block that is known: an `if` that is always true, or the inclusion of a sign.
/// Both trim the white space around them as the block itself would.
fn with_generation(source: &str, generation: Generation) -> Cow<'_, str> {
    let (begin, end) = match generation {
        Generation::Plain => ("if true", "endif"),
        Generation::Marked => (BEGIN_INCLUDE, END_INCLUDE),
    };
    if !source.contains("generation") {
        return Cow::Borrowed(source);
    }
    let mut out = String::with_capacity(source.len());
    let mut rest = source;
    while let Some((before, block)) = rest.split_once("{%") {
        out.push_str(before);
        let Some((body, after)) = block.split_once("%}") else {
            out.push_str("{%");
            out.push_str(block);
            return Cow::Owned(out);
        };
        let signs = |c: char| c == '-' || c == '+' || c.is_whitespace();
        let body = match body.trim_matches(signs) {
            mark @ "generation" => body.replacen(mark, begin, 1),
            mark @ "endgeneration" => body.replacen(mark, end, 1),
            _ => body.to_owned(),
        };
        out.extend(["{%", &body, "%}"]);
        rest = after;
    }
    out.push_str(rest);
    Cow::Owned(out)
}

/// JSON as Python's `json.dumps(value, ensure_ascii=False)` writes it: minijinja's own filter
/// escapes for HTML, which models were not trained on.
fn tojson(value: &Value, args: Kwargs) -> Result<String, Error> {
    let indent: Option<usize> = args.get("indent")?;
    let _: Option<bool> = args.get("ensure_ascii")?;
    let _: Option<bool> = args.get("sort_keys")?;
    args.assert_all_used()?;
    let written = match indent {
        Some(width) => {
            let spaces = " ".repeat(width.min(MAX_INDENT));
            to_json(value, PrettyFormatter::with_indent(spaces.as_bytes()))
        }
        None => to_json(value, PythonFormatter),
    };
    written.map_err(|reason| Error::new(ErrorKind::BadSerialization, reason))
}

fn to_json(value: &Value, formatter: impl Formatter) -> Result<String, String> {
    let mut bytes = Vec::new();
    let mut serializer = Serializer::with_formatter(&mut bytes, formatter);
    value
        .serialize(&mut serializer)
        .map_err(|error| error.to_string())?;
    String::from_utf8(bytes).map_err(|error| error.to_string())
}

/// `, ` between items and `: ` after a key.
struct PythonFormatter;

impl Formatter for PythonFormatter {
    fn begin_array_value<W: ?Sized + io::Write>(
        &mut self,
        out: &mut W,
        first: bool,
    ) -> io::Result<()> {
        if first { Ok(()) } else { out.write_all(b", ") }
    }

    fn begin_object_key<W: ?Sized + io::Write>(
        &mut self,
        out: &mut W,
        first: bool,
    ) -> io::Result<()> {
        if first { Ok(()) } else { out.write_all(b", ") }
    }

    fn begin_object_value<W: ?Sized + io::Write>(&mut self, out: &mut W) -> io::Result<()> {
        out.write_all(b": ")
    }
}

/// Collects output up to a bound.
#[derive(Default)]
pub(super) struct Bounded {
    pub(super) bytes: Vec<u8>,
    pub(super) overflowed: bool,
}

impl io::Write for Bounded {
    fn write(&mut self, chunk: &[u8]) -> io::Result<usize> {
        if self.bytes.len() + chunk.len() > MAX_OUTPUT {
            self.overflowed = true;
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        self.bytes.extend_from_slice(chunk);
        Ok(chunk.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn render(source: &str, context: Value) -> Result<String, String> {
        let env = compile(source, Generation::Plain).map_err(|error| error.to_string())?;
        env.get_template(NAME)
            .unwrap()
            .render(context)
            .map_err(|e| template_error(e).to_string())
    }

    #[test]
    fn json_is_written_as_python_does_and_in_order() {
        let value = serde_json::json!({"b": [1, "<é'>"], "a": {"x": null, "y": 1.5}, "c": []});
        let context = minijinja::context! { v => minijinja::value::Serde(value) };
        let flat = r#"{"b": [1, "<é'>"], "a": {"x": null, "y": 1.5}, "c": []}"#;
        assert_eq!(render("{{ v | tojson }}", context.clone()).unwrap(), flat);
        let pretty = "{\n \"x\": null,\n \"y\": 1.5\n}";
        assert_eq!(
            render("{{ v.a | tojson(indent=1) }}", context).unwrap(),
            pretty
        );
    }

    #[test]
    fn the_clock_is_an_argument() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_721_952_000);
        let context = minijinja::context! { strftime_now => strftime_now(now) };
        let today = render("{{ strftime_now('%d %b %Y') }}", context.clone());
        assert_eq!(today.unwrap(), "26 Jul 2024");
        assert!(
            render("{{ strftime_now('%Q') }}", context)
                .unwrap_err()
                .contains("%Q")
        );
    }

    #[test]
    fn python_and_transformers_habits_work() {
        let cases = [
            ("{{ ' a '.strip() + 'x,y'.split(',')[1] }}", "ay"),
            ("  {% if true %}\nx\n  {% endif %}\n", "x\n"),
            (
                "{% for i in [1, 2, 3] %}{% if i == 2 %}{% break %}{% endif %}{{ i }}{% endfor %}",
                "1",
            ),
            ("a {%- generation -%} b {%- endgeneration %} c", "ab c"),
            ("{% generation %}b{% endgeneration %} generation {% raw", ""),
        ];
        for (source, expected) in cases {
            assert_eq!(
                render(source, Value::UNDEFINED).unwrap_or_default(),
                expected,
                "{source}"
            );
        }
    }

    #[test]
    fn work_and_size_are_bounded() {
        let long = "x".repeat(MAX_SOURCE + 1);
        assert!(matches!(
            compile(&long, Generation::Plain),
            Err(TextError::TemplateSize { part: "source", .. })
        ));
        let spin = "{% for a in range(9999) %}{% for b in range(9999) %}{% endfor %}{% endfor %}";
        assert!(render(spin, Value::UNDEFINED).unwrap_err().contains("fuel"));
        let dive = "{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}";
        assert!(render(dive, Value::UNDEFINED).is_err());
        let refused = render(
            "{{ raise_exception('roles must alternate') }}",
            Value::UNDEFINED,
        );
        assert!(refused.unwrap_err().contains("roles must alternate"));
    }
}
