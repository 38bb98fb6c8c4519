//! The server under test: where it is, and what a request to it looks like.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use reqwest::Url;
use serde_json::{Map, Value, json};

/// The root of an OpenAI-compatible API, such as `http://127.0.0.1:8085/v1`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BaseUrl(Url);

/// Why a text is no such root.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "no address of a server: write it as http://127.0.0.1:8085 or https://host/v1, without a name or password"
)]
pub struct BadUrl;

impl FromStr for BaseUrl {
    type Err = BadUrl;

    /// `/v1` is added to an address without a path.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut url: Url = text.parse().map_err(|_| BadUrl)?;
        let sound = matches!(url.scheme(), "http" | "https")
            && url.has_host()
            // It is told in reports, and a password must not be.
            && url.username().is_empty()
            && url.password().is_none()
            && url.query().is_none()
            && url.fragment().is_none();
        if !sound {
            return Err(BadUrl);
        }
        let path = match url.path().trim_end_matches('/') {
            "" => "/v1".to_owned(),
            path => path.to_owned(),
        };
        url.set_path(&path);
        Ok(BaseUrl(url))
    }
}

impl fmt::Display for BaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl BaseUrl {
    /// The address of a route, such as `models`.
    pub fn route(&self, route: &str) -> String {
        format!("{}/{route}", self.0)
    }

    /// Whether it is on this machine.
    pub fn is_loopback(&self) -> bool {
        let host = self.0.host_str().unwrap_or_default();
        let address: Result<IpAddr, _> = host.trim_matches(['[', ']']).parse();
        host == "localhost" || address.is_ok_and(|address| address.is_loopback())
    }
}

/// Which of the API's two ways to ask.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Endpoint {
    /// `chat/completions`: messages.
    Chat,
    /// `completions`: one text.
    Completions,
}

impl Endpoint {
    /// The route under the root.
    pub fn route(self) -> &'static str {
        match self {
            Endpoint::Chat => "chat/completions",
            Endpoint::Completions => "completions",
        }
    }
}

/// Something that was said in a session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Said {
    /// By the user.
    User(String),
    /// By the model.
    Assistant(String),
}

impl Said {
    fn text(&self) -> &str {
        match self {
            Said::User(text) | Said::Assistant(text) => text,
        }
    }

    fn role(&self) -> &'static str {
        match self {
            Said::User(_) => "user",
            Said::Assistant(_) => "assistant",
        }
    }
}

/// What all requests of a run have in common.
#[derive(Debug, Clone, PartialEq)]
pub struct Form {
    /// How to ask.
    pub endpoint: Endpoint,
    /// The model's name.
    pub model: String,
    /// Whether answers go on past the model's end of text.
    pub ignore_eos: bool,
    /// Fields to add or to replace.
    pub extra: Map<String, Value>,
}

impl Form {
    /// The body of a streamed request for at most `output` tokens after `history`.
    pub fn body(&self, history: &[Said], output: u32) -> Value {
        let message = |said: &Said| json!({ "role": said.role(), "content": said.text() });
        let (name, asked) = match self.endpoint {
            Endpoint::Chat => ("messages", history.iter().map(message).collect()),
            Endpoint::Completions => {
                let texts: Vec<&str> = history.iter().map(Said::text).collect();
                ("prompt", Value::String(texts.join("\n")))
            }
        };
        let mut body = Map::new();
        for (name, value) in [
            ("model", json!(self.model)),
            (name, asked),
            ("max_tokens", json!(output)),
            ("stream", json!(true)),
            ("stream_options", json!({ "include_usage": true })),
        ] {
            body.insert(name.to_owned(), value);
        }
        if self.ignore_eos {
            body.insert("ignore_eos".to_owned(), json!(true));
        }
        body.extend(self.extra.clone());
        Value::Object(body)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read() {
        for (text, url, loopback) in [
            ("http://127.0.0.1:8085", "http://127.0.0.1:8085/v1", true),
            (
                "http://localhost:8085/v1/",
                "http://localhost:8085/v1",
                true,
            ),
            ("http://[::1]:80/", "http://[::1]/v1", true),
            (
                "https://example.org/api/v1",
                "https://example.org/api/v1",
                false,
            ),
        ] {
            let base: BaseUrl = text.parse().unwrap();
            assert_eq!(
                (base.to_string().as_str(), base.is_loopback()),
                (url, loopback)
            );
            assert_eq!(base.route("models"), format!("{url}/models"));
        }
        for bad in [
            "",
            "127.0.0.1:8085",
            "ftp://host/",
            "http://",
            "http://host/?a=b",
            "http://user:word@host/",
        ] {
            assert!(bad.parse::<BaseUrl>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn bodies_have_their_fields() {
        let history = [
            Said::User("a".to_owned()),
            Said::Assistant("b".to_owned()),
            Said::User("c".to_owned()),
        ];
        let mut form = Form {
            endpoint: Endpoint::Chat,
            model: "m".to_owned(),
            ignore_eos: true,
            extra: Map::new(),
        };
        let chat = form.body(&history, 7);
        assert_eq!(
            chat["messages"][1],
            json!({ "role": "assistant", "content": "b" })
        );
        assert_eq!(
            (&chat["max_tokens"], &chat["ignore_eos"]),
            (&json!(7), &json!(true))
        );
        assert_eq!(chat["stream_options"]["include_usage"], true);
        form.endpoint = Endpoint::Completions;
        form.ignore_eos = false;
        form.extra.insert("temperature".to_owned(), json!(0));
        form.extra.insert("max_tokens".to_owned(), json!(9));
        let completion = form.body(&history, 7);
        assert_eq!(completion["prompt"], "a\nb\nc");
        assert_eq!(
            (&completion["max_tokens"], &completion["temperature"]),
            (&json!(9), &json!(0))
        );
        assert!(completion.get("ignore_eos").is_none());
    }
}
