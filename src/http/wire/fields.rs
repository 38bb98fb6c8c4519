//! A JSON object that is read field by field, so that every complaint names its parameter.

use serde_json::{Map, Value};

use super::ApiError;

/// The fields of a body that were not read yet. `null` counts as absent everywhere.
#[derive(Debug)]
pub(in crate::http) struct Fields(Map<String, Value>);

impl Fields {
    /// The object of a body.
    pub(in crate::http) fn parse(body: &[u8]) -> Result<Self, ApiError> {
        let invalid = |text: String| ApiError::new(400, "invalid_json", text);
        match serde_json::from_slice(body) {
            Ok(Value::Object(map)) => Ok(Fields(map)),
            Ok(_) => Err(invalid("the body is not a json object".to_owned())),
            Err(error) => Err(invalid(format!("the body is not valid json: {error}"))),
        }
    }

    /// An object inside of a body.
    pub(in crate::http) fn of(map: Map<String, Value>) -> Self {
        Fields(map)
    }

    /// A text that is left to be read.
    pub(in crate::http) fn text(&self, name: &str) -> Option<&str> {
        self.0.get(name).and_then(Value::as_str)
    }

    /// All that was not read yet, as it came.
    pub(in crate::http) fn whole(&self) -> Value {
        Value::Object(self.0.clone())
    }

    pub(in crate::http) fn take(&mut self, name: &str) -> Option<Value> {
        #[cfg(test)]
        TAKEN.with_borrow_mut(|taken| taken.insert(name.to_owned()));
        self.remove(name)
    }

    fn remove(&mut self, name: &str) -> Option<Value> {
        self.0.shift_remove(name).filter(|value| !value.is_null())
    }

    /// Whether a field is there and was not read yet.
    pub(in crate::http) fn has(&self, name: &str) -> bool {
        self.0.get(name).is_some_and(|value| !value.is_null())
    }

    pub(in crate::http) fn string(
        &mut self,
        name: &'static str,
    ) -> Result<Option<String>, ApiError> {
        match self.take(name) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(other) => Err(wrong(name, &other, "a string")),
        }
    }

    pub(in crate::http) fn object(
        &mut self,
        name: &'static str,
    ) -> Result<Option<Map<String, Value>>, ApiError> {
        match self.take(name) {
            None => Ok(None),
            Some(Value::Object(map)) => Ok(Some(map)),
            Some(other) => Err(wrong(name, &other, "an object")),
        }
    }

    pub(in crate::http) fn flag(&mut self, name: &'static str) -> Result<bool, ApiError> {
        match self.take(name) {
            None => Ok(false),
            Some(Value::Bool(flag)) => Ok(flag),
            Some(other) => Err(wrong(name, &other, "true or false")),
        }
    }

    pub(in crate::http) fn number(&mut self, name: &'static str) -> Result<Option<f32>, ApiError> {
        self.read(name, "a number", |value| value.as_f64().map(|x| x as f32))
    }

    pub(in crate::http) fn integer(&mut self, name: &'static str) -> Result<Option<i64>, ApiError> {
        let integer = |value: &Value| i64::try_from(whole(value)?).ok();
        self.read(name, "a whole number", integer)
    }

    pub(in crate::http) fn count(&mut self, name: &'static str) -> Result<Option<usize>, ApiError> {
        let count = |value: &Value| usize::try_from(whole(value)?).ok();
        self.read(name, "a whole number from 0", count)
    }

    fn read<T>(
        &mut self,
        name: &'static str,
        wanted: &str,
        read: impl Fn(&Value) -> Option<T>,
    ) -> Result<Option<T>, ApiError> {
        let Some(value) = self.take(name) else {
            return Ok(None);
        };
        read(&value)
            .map(Some)
            .ok_or_else(|| wrong(name, &value, wanted))
    }

    /// Refuses a field that is known and not offered, unless its value asks for nothing.
    pub(in crate::http) fn refuse(
        &mut self,
        name: &'static str,
        hint: &str,
        harmless: impl Fn(&Value) -> bool,
    ) -> Result<(), ApiError> {
        match self.remove(name) {
            Some(value) if !harmless(&value) => Err(ApiError::unsupported(name, hint)),
            _ => Ok(()),
        }
    }

    /// Token ids of a list.
    pub(in crate::http) fn ids(
        &mut self,
        name: &'static str,
    ) -> Result<Option<Vec<u32>>, ApiError> {
        let Some(value) = self.take(name) else {
            return Ok(None);
        };
        let list = value
            .as_array()
            .ok_or_else(|| wrong(name, &value, "a list of token ids"))?;
        ids(name, list).map(Some)
    }

    /// Names of what nobody read.
    pub(in crate::http) fn left(self) -> Vec<String> {
        self.0
            .into_iter()
            .filter(|(_, value)| !value.is_null())
            .map(|(name, _)| name)
            .collect()
    }
}

#[cfg(test)]
thread_local! {
    static TAKEN: std::cell::RefCell<std::collections::BTreeSet<String>> = const { std::cell::RefCell::new(std::collections::BTreeSet::new()) };
}

/// What `read` answers, and the names that it looked for; not those that it only refuses.
#[cfg(test)]
pub(in crate::http) fn taken<T>(
    read: impl FnOnce() -> T,
) -> (T, std::collections::BTreeSet<String>) {
    TAKEN.with_borrow_mut(std::collections::BTreeSet::clear);
    let answer = read();
    (answer, TAKEN.take())
}

/// A whole number. As in JSON Schema `1.0` is one: some clients have no other numbers.
pub(in crate::http) fn whole(value: &Value) -> Option<i128> {
    /// From here on not every whole number is a float.
    const EXACT: f64 = (1_u64 << 53) as f64;
    let float =
        |number: f64| (number.fract() == 0.0 && number.abs() < EXACT).then_some(number as i128);
    let signed = value.as_i64().map(i128::from);
    signed
        .or_else(|| value.as_u64().map(i128::from))
        .or_else(|| float(value.as_f64()?))
}

/// Token ids of a list; the whole list or an error that says which is none.
pub(super) fn ids(name: &'static str, list: &[Value]) -> Result<Vec<u32>, ApiError> {
    let id = |(place, value): (usize, &Value)| {
        let id = whole(value).and_then(|id| u32::try_from(id).ok());
        id.ok_or_else(|| wrong(&format!("{name}[{place}]"), value, "a token id"))
    };
    list.iter().enumerate().map(id).collect()
}

/// The texts of a list; `wanted` is what `name` may be.
pub(in crate::http) fn strings(
    name: &str,
    list: Vec<Value>,
    wanted: &str,
) -> Result<Vec<String>, ApiError> {
    let text = |value: Value| match value {
        Value::String(text) => Ok(text),
        other => Err(wrong(name, &other, wanted)),
    };
    list.into_iter().map(text).collect()
}

/// Sets a field of an object; what is no object stays as it is.
pub(in crate::http) fn set(object: &mut Value, name: &str, value: impl Into<Value>) {
    if let Some(map) = object.as_object_mut() {
        map.insert(name.to_owned(), value.into());
    }
}

/// The complaint about a value of the wrong type. Shows little of it: it may be a prompt.
pub(in crate::http) fn wrong(name: &str, value: &Value, wanted: &str) -> ApiError {
    let found = match value {
        Value::Null => "null",
        Value::Bool(_) => "true or false",
        Value::Number(number) => {
            return ApiError::bad(name, format!("is {number}, use {wanted}"));
        }
        Value::String(_) => "a string",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    };
    ApiError::bad(name, format!("is {found}, use {wanted}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bodies_that_are_no_objects_are_refused() {
        for body in ["", "{", "[]", "1", "{\"a\":}", "\u{0}"] {
            assert_eq!(
                Fields::parse(body.as_bytes()).unwrap_err().code,
                "invalid_json",
                "{body}"
            );
        }
        let deep = "[".repeat(100_000);
        assert!(Fields::parse(deep.as_bytes()).is_err());
        assert!(Fields::parse(b"\xff{}").is_err());
    }

    #[test]
    fn wrong_types_name_the_field() {
        let parse = || {
            Fields::parse(br#"{"a": "x", "b": 1.5, "c": -1, "d": [1, "x"], "e": null, "f": 1}"#)
                .unwrap()
        };
        assert_eq!(parse().number("a").unwrap_err().param.unwrap(), "a");
        assert_eq!(parse().integer("b").unwrap_err().param.unwrap(), "b");
        assert_eq!(parse().count("c").unwrap_err().param.unwrap(), "c");
        assert_eq!(parse().ids("d").unwrap_err().param.unwrap(), "d[1]");
        assert_eq!(parse().string("e").unwrap(), None);
        let mut fields = parse();
        assert_eq!(fields.count("f").unwrap(), Some(1));
        let mut whole = Fields::parse(
            br#"{"a": 3.0, "b": -2.0, "c": 1e300, "d": [7.0],
                "e": 18446744073709551615}"#,
        )
        .unwrap();
        assert_eq!(whole.count("a").unwrap(), Some(3));
        assert_eq!(whole.integer("b").unwrap(), Some(-2));
        assert!(whole.count("c").is_err());
        assert_eq!(whole.count("e").unwrap(), Some(usize::MAX));
        assert_eq!(whole.ids("d").unwrap(), Some(vec![7]));
        assert_eq!(fields.left(), ["a", "b", "c", "d"]);
    }
}
