use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::sync::{Arc, Mutex, mpsc};
use std::time::{Duration, SystemTime};

use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::trace::{SdkTracerProvider, SpanData, SpanExporter};

use super::*;

#[derive(Debug, Clone, Default)]
struct Kept(Arc<Mutex<Vec<SpanData>>>);

impl SpanExporter for Kept {
    fn export(&self, batch: Vec<SpanData>) -> impl Future<Output = OTelSdkResult> + Send {
        self.0.lock().unwrap().extend(batch);
        std::future::ready(Ok(()))
    }
}

fn request() -> RequestTrace {
    let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000_000);
    RequestTrace {
        parent: TraceParent::of(
            Some("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"),
            None,
        ),
        id: "r1".to_owned(),
        route: "/v1/completions",
        operation: "text_completion",
        model: "m".to_owned(),
        times: Some((now, now + Duration::from_secs(3))),
        prompt_tokens: 5,
        cached_tokens: 2,
        output_tokens: 7,
        finish_reasons: vec!["stop"],
        error: None,
        stages: vec![Stages {
            submitted: now,
            queue: Duration::from_millis(100),
            first_token: Duration::from_millis(400),
            total: Duration::from_secs(2),
        }],
    }
}

#[test]
fn a_batch_is_posted_as_protobuf_to_the_collector() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    let (seen, posts) = mpsc::channel();
    std::thread::spawn(move || {
        let (socket, _) = listener.accept().unwrap();
        let mut socket = BufReader::new(socket);
        let (mut head, mut length) = (Vec::new(), 0);
        loop {
            let mut line = String::new();
            socket.read_line(&mut line).unwrap();
            let line = line.trim_end().to_ascii_lowercase();
            if let Some(bytes) = line.strip_prefix("content-length: ") {
                length = bytes.parse().unwrap();
            }
            if line.is_empty() {
                break;
            }
            head.push(line);
        }
        let mut body = vec![0; length];
        socket.read_exact(&mut body).unwrap();
        let answer =
            b"HTTP/1.1 200 OK\r\nContent-Type: application/x-protobuf\r\nContent-Length: 0\r\n\r\n";
        socket.get_mut().write_all(answer).unwrap();
        seen.send((head, body)).unwrap();
    });
    let traces = Traces::to(&endpoint).unwrap();
    assert!(traces.on() && !Traces::default().on());
    traces.tell(&request());
    traces.flush();
    let (head, body) = posts.recv_timeout(Duration::from_secs(30)).unwrap();
    assert_eq!(
        head.first().map(String::as_str),
        Some("post /v1/traces http/1.1")
    );
    assert!(
        head.iter()
            .any(|line| line == "content-type: application/x-protobuf"),
        "{head:?}"
    );
    let has = |text: &[u8]| body.windows(text.len()).any(|part| part == text);
    for text in [
        "llamahome",
        "text_completion m",
        "queue",
        "prefill",
        "decode",
        "gen_ai.usage.input_tokens",
    ] {
        assert!(has(text.as_bytes()), "{text}");
    }
    let trace = [0x0a, 0xf7, 0x65, 0x19, 0x16, 0xcd, 0x43, 0xdd];
    assert!(has(&trace), "the caller's trace id");
}

#[test]
fn stages_are_children_of_the_request_and_that_of_its_caller() {
    let kept = Kept::default();
    let provider = SdkTracerProvider::builder()
        .with_simple_exporter(kept.clone())
        .build();
    let tracer = provider.tracer("t");
    let request = request();
    request.spans(&tracer);
    let spans = kept.0.lock().unwrap();
    let (stages, own) = spans.split_at(3);
    let own = &own[0];
    assert_eq!(own.parent_span_id.to_string(), "b7ad6b7169203331");
    assert_eq!(
        own.span_context.trace_id().to_string(),
        "0af7651916cd43dd8448eb211c80319c"
    );
    let times = |name: &str| {
        let span = stages.iter().find(|span| span.name == name).unwrap();
        assert_eq!(span.parent_span_id, own.span_context.span_id(), "{name}");
        let since = |at: SystemTime| at.duration_since(own.start_time).unwrap().as_millis();
        (since(span.start_time), since(span.end_time))
    };
    assert_eq!(times("queue"), (0, 100));
    assert_eq!(times("prefill"), (100, 400));
    assert_eq!(times("decode"), (400, 2000));
}

#[test]
fn what_is_no_parent_and_no_address_is_told_apart() {
    for text in [
        "",
        "00-0-0-01",
        "nonsense",
        "00-00000000000000000000000000000000-b7ad6b7169203331-01",
    ] {
        let parent = TraceParent::of(Some(text), None);
        assert!(
            !opentelemetry::trace::TraceContextExt::has_active_span(parent.context()),
            "{text}"
        );
    }
    let error = Traces::to("collector:4318").unwrap_err().to_string();
    assert!(error.contains("telemetry.otlp_endpoint"), "{error}");
    assert_eq!(address("http://c/"), "http://c/v1/traces");
    assert_eq!(address("http://c/v1/traces"), "http://c/v1/traces");
}
