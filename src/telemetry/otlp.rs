//! Export by OTLP over gRPC, as the standard environment variables say.
//!
//! Nothing leaves the process unless an endpoint is set, or an exporter is asked for by name. What this module does not look at
//! (endpoints, headers, time-outs, sampling, intervals, queues), the library reads itself. A variable that asks for what is not
//! built in is an error at start, not a silence. Exporters have threads and queues of their own: a collector that cannot be
//! reached costs spans, never a call.

use std::sync::Arc;
use std::time::Duration;

use opentelemetry::KeyValue;
use opentelemetry_otlp::ExporterBuildError;
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::metrics::SdkMeterProvider;
use opentelemetry_sdk::resource::{EnvResourceDetector, TelemetryResourceDetector};
use opentelemetry_sdk::trace::SdkTracerProvider;
use tokio::sync::oneshot;

use super::{Instruments, Tracing};

/// The gateway's name, unless `OTEL_SERVICE_NAME` says another.
pub const GATEWAY: &str = "forebay";
/// The name of the client commands.
pub const CLIENT: &str = "forebay-client";

/// A variable that asks for what cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum OtlpError {
    /// Its value is not one of those that are understood.
    #[error("{variable} is `{value}`; expected {expected}")]
    Variable {
        /// Its name.
        variable: &'static str,
        /// What it says.
        value: String,
        /// What it may say.
        expected: &'static str,
    },
    /// The exporter cannot be made.
    #[error("the OTLP exporter cannot be made: {0}")]
    Exporter(#[from] ExporterBuildError),
}

/// What is exported.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Otlp {
    traces: bool,
    metrics: bool,
}

/// The variables of one signal.
struct Signal {
    exporter: &'static str,
    endpoint: &'static str,
    protocol: &'static str,
}

const TRACES: Signal = Signal {
    exporter: "OTEL_TRACES_EXPORTER",
    endpoint: "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT",
    protocol: "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL",
};
const METRICS: Signal = Signal {
    exporter: "OTEL_METRICS_EXPORTER",
    endpoint: "OTEL_EXPORTER_OTLP_METRICS_ENDPOINT",
    protocol: "OTEL_EXPORTER_OTLP_METRICS_PROTOCOL",
};

impl Otlp {
    /// What the process's environment says.
    pub fn from_env() -> Result<Self, OtlpError> {
        Self::try_new(|variable| std::env::var(variable).ok())
    }

    /// What variables say; an empty one is as good as none, by the specification.
    pub fn try_new(variable: impl Fn(&'static str) -> Option<String>) -> Result<Self, OtlpError> {
        let said = |name| variable(name).map(|value| value.trim().to_owned()).filter(|value| !value.is_empty());
        match said("OTEL_SDK_DISABLED").map(|value| value.to_ascii_lowercase()).as_deref() {
            Some("true") => return Ok(Self::default()),
            None | Some("false") => {}
            Some(other) => {
                let (variable, value) = ("OTEL_SDK_DISABLED", other.to_owned());
                return Err(OtlpError::Variable { variable, value, expected: "`true` or `false`" });
            }
        }
        Ok(Self { traces: is_exported(&TRACES, said)?, metrics: is_exported(&METRICS, said)? })
    }

    /// Whether anything is exported.
    pub fn is_on(self) -> bool {
        self.traces || self.metrics
    }

    /// Instruments whose values and spans are exported, as far as was asked for. Needs a Tokio runtime.
    pub fn instruments(self) -> Result<Instruments, OtlpError> {
        if !self.is_on() {
            return Ok(Instruments::new());
        }
        let resource = resource(GATEWAY);
        let mut builder = SdkMeterProvider::builder().with_resource(resource.clone());
        if self.metrics {
            let exporter = opentelemetry_otlp::MetricExporter::builder().with_tonic().build()?;
            builder = builder.with_periodic_exporter(exporter);
        }
        Ok(Instruments::exporting(builder, self.tracing(resource)?))
    }

    /// Spans of a client command. Needs a Tokio runtime.
    pub fn client_tracing(self) -> Result<Tracing, OtlpError> {
        self.tracing(resource(CLIENT))
    }

    fn tracing(self, resource: Resource) -> Result<Tracing, OtlpError> {
        if !self.traces {
            return Ok(Tracing::off());
        }
        let exporter = opentelemetry_otlp::SpanExporter::builder().with_tonic().build()?;
        let provider = SdkTracerProvider::builder().with_resource(resource).with_batch_exporter(exporter);
        Ok(Tracing::new(provider.build()))
    }
}

fn is_exported(signal: &Signal, said: impl Fn(&'static str) -> Option<String>) -> Result<bool, OtlpError> {
    for variable in ["OTEL_EXPORTER_OTLP_PROTOCOL", signal.protocol] {
        if let Some(value) = said(variable).filter(|value| value != "grpc") {
            return Err(OtlpError::Variable { variable, value, expected: "`grpc`: other protocols are not built in" });
        }
    }
    match said(signal.exporter).as_deref() {
        Some("none") => Ok(false),
        Some("otlp") => Ok(true),
        Some(other) => {
            let (variable, value) = (signal.exporter, other.to_owned());
            Err(OtlpError::Variable { variable, value, expected: "`otlp` or `none`" })
        }
        None => Ok(said(signal.endpoint).or_else(|| said("OTEL_EXPORTER_OTLP_ENDPOINT")).is_some()),
    }
}

/// Who tells: what the environment says comes before what we know.
fn resource(service: &'static str) -> Resource {
    let own = [
        KeyValue::new("service.name", service),
        KeyValue::new("service.version", env!("CARGO_PKG_VERSION")),
        // Two gateways' series must not be taken for one.
        KeyValue::new("service.instance.id", instance()),
    ];
    let mut builder = Resource::builder_empty()
        .with_attributes(own)
        .with_detector(Box::new(TelemetryResourceDetector))
        .with_detector(Box::new(EnvResourceDetector::new()));
    if let Some(name) = std::env::var("OTEL_SERVICE_NAME").ok().filter(|name| !name.is_empty()) {
        builder = builder.with_service_name(name);
    }
    builder.build()
}

/// A random UUID of version 4.
fn instance() -> String {
    let bits = fastrand::u128(..) & !(0xf << 76) & !(0x3 << 62) | (0x4 << 76) | (0x2 << 62);
    let hex = format!("{bits:032x}");
    [&hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]].join("-")
}

/// The last telemetry was not exported.
#[derive(Debug, thiserror::Error)]
pub enum CloseError {
    /// The collector did not take it.
    #[error("not all telemetry was exported: {0}")]
    Export(String),
    /// It took too long.
    #[error("the collector did not take the last telemetry within {} s; it is lost", .within.as_secs_f64())]
    Late {
        /// How long was waited.
        within: Duration,
    },
}

/// Exports what there is, and ends the exporters, in this time at the most.
pub async fn close(instruments: &Arc<Instruments>, within: Duration) -> Result<(), CloseError> {
    if !instruments.exports() {
        return Ok(());
    }
    let instruments = Arc::clone(instruments);
    bounded(within, move || instruments.shutdown().map_err(|error| error.to_string())).await
}

/// The same, of a client command's spans.
pub async fn close_tracing(tracing: Tracing, within: Duration) -> Result<(), CloseError> {
    if !tracing.is_on() {
        return Ok(());
    }
    bounded(within, move || tracing.shutdown().map_err(|error| error.to_string())).await
}

/// Exporters block. On a thread of its own, which the end of the process does not wait for.
async fn bounded(
    within: Duration,
    shutdown: impl FnOnce() -> Result<(), String> + Send + 'static,
) -> Result<(), CloseError> {
    let (done, ended) = oneshot::channel();
    std::thread::spawn(move || {
        // Nobody may wait any more.
        done.send(shutdown()).unwrap_or_default();
    });
    match tokio::time::timeout(within, ended).await {
        Ok(Ok(shut)) => shut.map_err(CloseError::Export),
        Ok(Err(_died)) => Err(CloseError::Export("the thread that does it failed".to_owned())),
        Err(_elapsed) => Err(CloseError::Late { within }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(variables: &[(&str, &str)]) -> Result<Otlp, String> {
        let said = |name: &'static str| {
            variables.iter().find(|(there, _)| *there == name).map(|(_, value)| (*value).to_owned())
        };
        Otlp::try_new(said).map_err(|error| error.to_string())
    }

    const ENDPOINT: (&str, &str) = ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://localhost:4317");

    #[test]
    fn nothing_is_exported_unless_it_is_asked_for() {
        let both = Otlp { traces: true, metrics: true };
        let traces = Otlp { traces: true, metrics: false };
        assert_eq!(of(&[]), Ok(Otlp::default()));
        assert_eq!(of(&[("OTEL_EXPORTER_OTLP_ENDPOINT", "")]), Ok(Otlp::default()), "empty is unset");
        assert_eq!(of(&[ENDPOINT]), Ok(both));
        assert_eq!(of(&[("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "http://x")]), Ok(traces));
        assert_eq!(of(&[("OTEL_TRACES_EXPORTER", "otlp")]), Ok(traces), "at the standard's own address");
        assert_eq!(of(&[ENDPOINT, ("OTEL_METRICS_EXPORTER", "none")]), Ok(traces));
        assert_eq!(of(&[ENDPOINT, ("OTEL_SDK_DISABLED", "TRUE")]), Ok(Otlp::default()));
        assert_eq!(of(&[ENDPOINT, ("OTEL_SDK_DISABLED", "false"), ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc")]), Ok(both));
    }

    #[test]
    fn what_is_not_built_in_is_an_error_that_says_so() {
        for (variable, value, expected) in [
            ("OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf", "`grpc`"),
            ("OTEL_EXPORTER_OTLP_METRICS_PROTOCOL", "http/json", "`grpc`"),
            ("OTEL_TRACES_EXPORTER", "zipkin", "`otlp` or `none`"),
            ("OTEL_METRICS_EXPORTER", "console", "`otlp` or `none`"),
            ("OTEL_SDK_DISABLED", "yes", "`true` or `false`"),
        ] {
            let message = of(&[ENDPOINT, (variable, value)]).unwrap_err();
            assert!(message.starts_with(&format!("{variable} is `")), "{message}");
            assert!(message.contains(expected), "{message}");
        }
    }

    #[test]
    fn an_instance_is_a_uuid_of_its_own() {
        let (one, other) = (instance(), instance());
        assert_ne!(one, other);
        assert_eq!((one.len(), &one[14..15]), (36, "4"), "{one}");
        assert!(matches!(&one[19..20], "8" | "9" | "a" | "b"), "{one}");
    }

    #[tokio::test]
    async fn the_end_waits_for_no_collector() {
        let begun = tokio::time::Instant::now();
        let blocks = || loop {
            std::thread::park();
        };
        let closed = bounded(Duration::from_millis(20), blocks).await;
        assert!(matches!(closed, Err(CloseError::Late { .. })), "{closed:?}");
        assert!(begun.elapsed() < Duration::from_secs(5));
    }
}
