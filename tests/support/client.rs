//! A small HTTP client that does what real ones do not: wrong hosts, half bodies, leaving in the middle.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use serde_json::Value;

/// A request to be sent.
pub struct Call {
    address: SocketAddr,
    method: String,
    path: String,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
}

impl Call {
    /// A request without a body.
    pub fn new(address: SocketAddr, method: &str, path: &str) -> Self {
        Call {
            address,
            method: method.to_owned(),
            path: path.to_owned(),
            headers: vec![("Host".to_owned(), address.to_string())],
            body: Vec::new(),
        }
    }

    /// A `POST` of JSON.
    pub fn json(address: SocketAddr, path: &str, body: &Value) -> Self {
        let mut call = Call::new(address, "POST", path).header("Content-Type", "application/json");
        call.body = body.to_string().into_bytes();
        call
    }

    /// With this header instead of an earlier one of the name.
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers
            .retain(|(known, _)| !known.eq_ignore_ascii_case(name));
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    /// With this body.
    pub fn body(mut self, body: impl Into<Vec<u8>>) -> Self {
        self.body = body.into();
        self
    }

    /// Sends it and reads the head of the answer.
    pub fn open(self) -> Open {
        let mut socket = TcpStream::connect(self.address).unwrap();
        socket
            .set_read_timeout(Some(Duration::from_secs(60)))
            .unwrap();
        let mut head = format!(
            "{} {} HTTP/1.1\r\nConnection: close\r\n",
            self.method, self.path
        );
        for (name, value) in &self.headers {
            head += &format!("{name}: {value}\r\n");
        }
        head += &format!("Content-Length: {}\r\n\r\n", self.body.len());
        socket.write_all(head.as_bytes()).unwrap();
        // A server that refuses by the head may close before it has read the body.
        let _ = socket.write_all(&self.body);
        Open::read(BufReader::new(socket))
    }

    /// Sends it and reads the whole answer.
    pub fn send(self) -> Reply {
        let mut open = self.open();
        let mut body = Vec::new();
        while let Some(chunk) = open.chunk() {
            body.extend(chunk);
        }
        Reply {
            status: open.status,
            headers: open.headers,
            body: String::from_utf8(body).unwrap(),
        }
    }
}

/// An answer whose body is still coming. Dropping it closes the connection.
pub struct Open {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    socket: BufReader<TcpStream>,
    left: Option<usize>,
    pending: String,
}

impl Open {
    fn read(mut socket: BufReader<TcpStream>) -> Self {
        let mut line = String::new();
        socket.read_line(&mut line).unwrap();
        let status = line.split(' ').nth(1).and_then(|code| code.parse().ok());
        let status = status.unwrap_or_else(|| panic!("no status line: {line:?}"));
        let mut headers = Vec::new();
        loop {
            line.clear();
            socket.read_line(&mut line).unwrap();
            let Some((name, value)) = line.trim_end().split_once(": ") else {
                break;
            };
            headers.push((name.to_ascii_lowercase(), value.to_owned()));
        }
        let length = header(&headers, "content-length").map(|length| length.parse().unwrap());
        Open {
            status,
            left: length,
            headers,
            socket,
            pending: String::new(),
        }
    }

    /// The next part of the body.
    fn chunk(&mut self) -> Option<Vec<u8>> {
        if let Some(length) = self.left.take() {
            let mut body = vec![0; length];
            self.socket.read_exact(&mut body).unwrap();
            self.left = Some(0);
            return (length > 0).then_some(body);
        }
        let mut line = String::new();
        if self.socket.read_line(&mut line).unwrap() == 0 {
            return None;
        }
        let size = usize::from_str_radix(line.trim(), 16).unwrap();
        let mut chunk = vec![0; size + 2];
        self.socket.read_exact(&mut chunk).unwrap();
        chunk.truncate(size);
        if size == 0 {
            self.left = Some(0);
            return None;
        }
        Some(chunk)
    }

    /// The data of the next server-sent event, comments passed over.
    pub fn event(&mut self) -> Option<String> {
        loop {
            if let Some((event, rest)) = self.pending.split_once("\n\n") {
                let (event, rest) = (event.to_owned(), rest.to_owned());
                self.pending = rest;
                match event.strip_prefix("data: ") {
                    Some(data) => return Some(data.to_owned()),
                    None => assert!(
                        event.starts_with(':'),
                        "neither data nor comment: {event:?}"
                    ),
                }
            } else {
                let chunk = self.chunk()?;
                self.pending += std::str::from_utf8(&chunk).unwrap();
            }
        }
    }

    /// The chunks that are left, up to `[DONE]`, which must be the last.
    pub fn events(&mut self) -> Vec<Value> {
        let mut all = Vec::new();
        while let Some(data) = self.event() {
            if data == "[DONE]" {
                assert_eq!(self.event(), None, "something follows [DONE]");
                return all;
            }
            all.push(serde_json::from_str(&data).unwrap());
        }
        panic!("the stream ended without [DONE]: {all:?}");
    }
}

/// A whole answer.
pub struct Reply {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: String,
}

impl Reply {
    /// The body as JSON.
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|_| panic!("no json: {}", self.body))
    }

    /// The data of events that are named by their types.
    pub fn named_events(&self) -> Vec<Value> {
        assert_eq!(
            self.header("content-type"),
            Some("text/event-stream; charset=utf-8")
        );
        let frames = self.body.split("\n\n").filter(|frame| !frame.is_empty());
        frames
            .map(|frame| {
                let (name, data) = frame.split_once('\n').unwrap();
                let data = data.strip_prefix("data: ").unwrap();
                let data: Value = serde_json::from_str(data).unwrap();
                assert_eq!(
                    name.strip_prefix("event: "),
                    data["type"].as_str(),
                    "{frame}"
                );
                data
            })
            .collect()
    }

    /// A header's value.
    pub fn header(&self, name: &str) -> Option<&str> {
        header(&self.headers, name)
    }

    /// Status, code and parameter of an error, after checking its shape.
    pub fn error(&self) -> (u16, String, Option<String>) {
        let body = self.json();
        let error = &body["error"];
        assert!(
            error["message"].is_string() && error["type"].is_string(),
            "{body}"
        );
        let code = error["code"].as_str().unwrap().to_owned();
        (
            self.status,
            code,
            error["param"].as_str().map(str::to_owned),
        )
    }
}

fn header<'a>(headers: &'a [(String, String)], name: &str) -> Option<&'a str> {
    headers
        .iter()
        .find(|(known, _)| known == name)
        .map(|(_, value)| value.as_str())
}
