//! Traces: a span a request, with its stages below it, sent to a collector over OTLP
//! (<https://opentelemetry.io/docs/specs/otlp/>), and not a word of a prompt or answer.
//!
//! Spans are made when a request is over, from the times that the scheduler took: stages happen in other threads than
//! the request, so there is nothing to enter and leave. Without an endpoint nothing is made.

mod client;
mod parent;
mod span;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use opentelemetry::trace::TracerProvider;
use opentelemetry_otlp::{Protocol, SpanExporter, WithExportConfig, WithHttpConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::{Sampler, SdkTracer, SdkTracerProvider};

use super::TelemetryError;
use client::Client;
pub use parent::TraceParent;
pub use span::{RequestTrace, Stages};

/// How long a collector may take to answer.
const PATIENCE: Duration = Duration::from_secs(10);

/// Where traces go. Clones share it; the default one goes nowhere.
#[derive(Debug, Clone, Default)]
pub struct Traces(Option<Arc<Sender>>);

#[derive(Debug)]
struct Sender {
    provider: SdkTracerProvider,
    tracer: SdkTracer,
}

impl Traces {
    /// Traces that are sent to the collector at `endpoint`, such as `http://127.0.0.1:4318`: `/v1/traces` is put behind
    /// it. What `OTEL_RESOURCE_ATTRIBUTES`, `OTEL_SERVICE_NAME` and `OTEL_EXPORTER_OTLP_HEADERS` say holds.
    ///
    /// # Errors
    /// When it is no address.
    pub fn to(endpoint: &str) -> Result<Self, TelemetryError> {
        let fault = |reason: String| TelemetryError::Traces {
            endpoint: endpoint.to_owned(),
            reason,
        };
        if !endpoint.starts_with("http://") && !endpoint.starts_with("https://") {
            return Err(fault(
                "it begins with neither http:// nor https://".to_owned(),
            ));
        }
        let exporter = SpanExporter::builder()
            .with_http()
            .with_http_client(Client::new(PATIENCE))
            .with_protocol(Protocol::HttpBinary)
            .with_endpoint(address(endpoint))
            .with_timeout(PATIENCE)
            .build()
            .map_err(|error| fault(error.to_string()))?;
        let named = std::env::var_os("OTEL_SERVICE_NAME").is_some();
        let resource = Resource::builder();
        let resource = match named {
            true => resource,
            false => resource.with_service_name("llamahome"),
        };
        let provider = SdkTracerProvider::builder()
            .with_batch_exporter(exporter)
            // A caller that does not sample its own trace does not want a part of it.
            .with_sampler(Sampler::ParentBased(Box::new(Sampler::AlwaysOn)))
            .with_resource(resource.build())
            .build();
        let tracer = provider.tracer("llamahome");
        Ok(Traces(Some(Arc::new(Sender { provider, tracer }))))
    }

    /// Whether traces go anywhere: only then one is worth making.
    pub fn on(&self) -> bool {
        self.0.is_some()
    }

    /// A request is over.
    pub fn tell(&self, request: &RequestTrace) {
        if let Some(sender) = &self.0 {
            request.spans(&sender.tracer);
        }
    }

    /// Sends what is left, within some seconds. Call it from a thread that may wait.
    pub fn flush(&self) {
        let Some(sender) = &self.0 else {
            return;
        };
        if let Err(error) = sender.provider.force_flush() {
            tracing::warn!(target: "llamahome::telemetry", %error, "the last traces were not sent");
        }
    }
}

/// The address of a collector's traces.
fn address(endpoint: &str) -> String {
    let endpoint = endpoint.trim_end_matches('/');
    match endpoint.ends_with("/v1/traces") {
        true => endpoint.to_owned(),
        false => format!("{endpoint}/v1/traces"),
    }
}
