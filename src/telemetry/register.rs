//! Makes instruments and registers them with an OpenTelemetry meter.
//!
//! Counters and gauges are observable instruments: their value stays in our atomics, and a callback shows it when a reader
//! collects. A callback holds the metric, not the [`super::Instruments`], so that nothing keeps itself alive.

use opentelemetry::KeyValue;
use opentelemetry::metrics::{AsyncInstrument, Meter};

use super::family::Family;
use super::histogram::Histogram;
use super::labels::Labels;
use super::metric::{Counter, FloatCounter, FloatGauge, Gauge};

/// What kind of metric it is, in Prometheus' words.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Only grows.
    Counter,
    /// A value of now.
    Gauge,
    /// A distribution.
    Histogram,
}

/// A metric, described; docs/telemetry.md is checked against these.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Description {
    /// The name, as OpenTelemetry has it.
    pub name: &'static str,
    /// The unit, in UCUM's notation; `{rows}` and the like are words for what is counted.
    pub unit: &'static str,
    /// What it means.
    pub help: &'static str,
    /// The kind.
    pub kind: Kind,
    /// The labels' names, as OpenTelemetry has them.
    pub labels: &'static [&'static str],
}

/// A metric whose value OpenTelemetry reads.
pub(super) trait Observed: Default + Clone + Send + Sync + 'static {
    type Value: Copy;
    const KIND: Kind;

    fn value(&self) -> Self::Value;

    /// Registers an instrument whose callback shows values by `show`.
    fn register(
        meter: &Meter,
        described: &Description,
        show: impl Fn(&dyn AsyncInstrument<Self::Value>) + Send + Sync + 'static,
    );
}

macro_rules! observed {
    ($metric:ident, $value:ty, $kind:ident, $builder:ident) => {
        impl Observed for $metric {
            type Value = $value;
            const KIND: Kind = Kind::$kind;

            fn value(&self) -> $value {
                self.get()
            }

            fn register(
                meter: &Meter,
                described: &Description,
                show: impl Fn(&dyn AsyncInstrument<$value>) + Send + Sync + 'static,
            ) {
                let builder = meter.$builder(described.name).with_unit(described.unit);
                // The handle is not needed: the meter keeps the callback.
                let _handle = builder.with_description(described.help).with_callback(show).build();
            }
        }
    };
}

observed!(Counter, u64, Counter, u64_observable_counter);
observed!(FloatCounter, f64, Counter, f64_observable_counter);
// What is counted up and down may be added up over gateways, which OpenTelemetry's own gauges may not.
observed!(Gauge, i64, Gauge, i64_observable_up_down_counter);
observed!(FloatGauge, f64, Gauge, f64_observable_gauge);

/// Makes instruments of one meter, and notes them.
pub(super) struct Register {
    meter: Meter,
    described: Vec<Description>,
}

impl Register {
    pub(super) fn new(meter: Meter) -> Self {
        Self { meter, described: Vec::new() }
    }

    /// What was made.
    pub(super) fn into_described(self) -> Vec<Description> {
        self.described
    }

    /// A metric without labels.
    pub(super) fn one<M: Observed>(&mut self, name: &'static str, unit: &'static str, help: &'static str) -> M {
        let described = self.describe(Description { name, unit, help, kind: M::KIND, labels: &[] });
        let metric = M::default();
        let shown = metric.clone();
        M::register(&self.meter, &described, move |instrument| instrument.observe(shown.value(), &[]));
        metric
    }

    /// A metric with labels.
    pub(super) fn family<L: Labels, M: Observed>(
        &mut self,
        name: &'static str,
        unit: &'static str,
        help: &'static str,
    ) -> Family<L, M> {
        let described = self.describe(Description { name, unit, help, kind: M::KIND, labels: L::NAMES });
        let family = Family::new(name, |_: &L| M::default());
        let shown = family.clone();
        M::register(&self.meter, &described, move |instrument| {
            shown.each(|labels, metric| instrument.observe(metric.value(), &labels.attributes()));
        });
        family
    }

    /// A distribution without labels.
    pub(super) fn histogram(
        &mut self,
        name: &'static str,
        unit: &'static str,
        help: &'static str,
        bounds: &'static [f64],
    ) -> Histogram {
        let described = self.describe(Description { name, unit, help, kind: Kind::Histogram, labels: &[] });
        Histogram::new(bounds, self.exported_histogram(&described, bounds), Vec::new())
    }

    /// A distribution with labels.
    pub(super) fn histograms<L: Labels>(
        &mut self,
        name: &'static str,
        unit: &'static str,
        help: &'static str,
        bounds: &'static [f64],
    ) -> Family<L, Histogram> {
        let described = self.describe(Description { name, unit, help, kind: Kind::Histogram, labels: L::NAMES });
        let exported = self.exported_histogram(&described, bounds);
        Family::new(name, move |labels: &L| {
            let attributes: Vec<KeyValue> = labels.attributes();
            Histogram::new(bounds, exported.clone(), attributes)
        })
    }

    fn exported_histogram(&self, described: &Description, bounds: &[f64]) -> opentelemetry::metrics::Histogram<f64> {
        let builder = self.meter.f64_histogram(described.name).with_unit(described.unit);
        builder.with_description(described.help).with_boundaries(bounds.to_vec()).build()
    }

    fn describe(&mut self, described: Description) -> Description {
        self.described.push(described.clone());
        described
    }
}
