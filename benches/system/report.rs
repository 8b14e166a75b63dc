//! What was measured, as a table or as JSON.

use std::io::Write as _;

use crate::Failure;
use crate::harness::line;
use crate::rows::Form;

/// How much was sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Load {
    /// As much as was taken.
    Full,
    /// Half of that.
    Half,
}

impl Load {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Full => "full",
            Self::Half => "half",
        }
    }
}

/// One run of writes.
#[derive(Debug)]
pub(crate) struct Write {
    pub(crate) form: Form,
    pub(crate) load: Load,
    pub(crate) rows: u64,
    pub(crate) rows_per_second: f64,
    /// CPU time of the gateway's process.
    pub(crate) cpu_micros_per_row: f64,
    pub(crate) items_per_call: f64,
    /// Bytes of a call's body, for each of its rows.
    pub(crate) body_bytes_per_row: f64,
    /// p50, p90, p99 of a batch's way from sending, or from when it was due, to its ack.
    pub(crate) ack_millis: [f64; 3],
    pub(crate) gateway_cores: f64,
    pub(crate) stub_cores: f64,
    pub(crate) generator_cores: f64,
}

impl Write {
    pub(crate) fn rows_per_second_per_core(&self) -> f64 {
        1e6 / self.cpu_micros_per_row
    }
}

/// Point reads by the SDK and through the gateway, taking turns: p50 and p99.
#[derive(Debug)]
pub(crate) struct Reads {
    pub(crate) direct_micros: [f64; 2],
    pub(crate) gateway_micros: [f64; 2],
}

impl Reads {
    /// What the gateway adds to the median.
    pub(crate) fn added_micros(&self) -> f64 {
        self.gateway_micros[0] - self.direct_micros[0]
    }
}

/// Everything that was measured.
#[derive(Debug, Default)]
pub(crate) struct Figures {
    pub(crate) writes: Vec<Write>,
    pub(crate) reads: Option<Reads>,
    pub(crate) idle_stream_bytes: Option<u64>,
    /// Seconds and rows of `forebay load`.
    pub(crate) load: Option<(f64, u64)>,
}

/// Says what happens next, on stderr; that it cannot be said is no reason to stop.
pub(crate) fn progress(what: &str) {
    writeln!(std::io::stderr(), "measuring {what}").unwrap_or_default();
}

/// Prints the figures.
pub(crate) fn show(figures: &Figures, json: bool) -> Result<(), Failure> {
    if json {
        return line(&crate::as_json(figures).to_string());
    }
    line(
        "payload     load   rows/s   CPU µs/row   rows/s/core   items/call   bytes/row   ack ms p50/p90/p99      cores: gateway/stub/generator",
    )?;
    for write in &figures.writes {
        let [p50, p90, p99] = write.ack_millis;
        line(&format!(
            "{:<10}  {:<4}  {:>7.0}   {:>10.2}   {:>11.0}   {:>10.1}   {:>9.0}   {:<21}   {:.2}/{:.2}/{:.2}",
            write.form.name(),
            write.load.name(),
            write.rows_per_second,
            write.cpu_micros_per_row,
            write.rows_per_second_per_core(),
            write.items_per_call,
            write.body_bytes_per_row,
            format!("{p50:.1}/{p90:.1}/{p99:.1}"),
            write.gateway_cores,
            write.stub_cores,
            write.generator_cores,
        ))?;
    }
    if let Some(reads) = &figures.reads {
        line(&format!(
            "point reads, µs p50/p99: {:.0}/{:.0} by the SDK, {:.0}/{:.0} through the gateway: {:.0} added to the median",
            reads.direct_micros[0],
            reads.direct_micros[1],
            reads.gateway_micros[0],
            reads.gateway_micros[1],
            reads.added_micros(),
        ))?;
    }
    if let Some(bytes) = figures.idle_stream_bytes {
        line(&format!("an idle stream: {:.1} KiB", bytes as f64 / 1024.0))?;
    }
    if let Some((seconds, rows)) = figures.load {
        line(&format!("forebay load: {rows} rows in {seconds:.2} s"))?;
    }
    Ok(())
}
