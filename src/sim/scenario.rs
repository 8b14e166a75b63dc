//! Scenario files: a table, who writes to it, what happens meanwhile, and what is expected. In YAML, read strictly.
//!
//! The keys are documented in `docs/simulate.md`. Callers: `forebay simulate`, and tests.

mod check;

use std::time::Duration;

use serde::Deserialize;
use serde::de::{Deserializer, Error as _};
use serde_saphyr::Spanned;

use super::capacity::{BURST_KEPT, Billing, CapacityConfig, IndexConfig, ON_DEMAND_FIRST_WRITE_UNITS};
use super::fault::{Fault, FaultKind};
use crate::limits::{
    PARTITION_WRITE_UNITS_PER_SECOND, WINDOW_MAX_UNACKED_BATCHES, WINDOW_MAX_UNACKED_BYTES,
    WRITE_REQUEST_USD_PER_MILLION,
};
use crate::store::ThrottleReason;
use crate::yaml::{self, YamlError, duration};

/// The DynamoDB table of every scenario.
pub const TABLE: &str = "table";

/// A scenario.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scenario {
    /// What people call it.
    pub name: String,
    /// Of all dice, unless the command says otherwise.
    #[serde(default = "one")]
    pub seed: u64,
    /// How long rows are offered.
    #[serde(with = "duration")]
    pub duration: Duration,
    /// What passes before anything is measured.
    #[serde(default, with = "duration")]
    pub warm_up: Duration,
    /// Write units a second that the account has for this table.
    pub account_write_units: Option<f64>,
    /// The table.
    pub table: Table,
    /// Who writes.
    pub workloads: Vec<Workload>,
    /// What happens meanwhile.
    #[serde(default)]
    pub events: Vec<Event>,
    /// The gateway.
    #[serde(default)]
    pub gateway: Gateway,
    /// What a million write units cost in USD, on demand.
    #[serde(default = "usd_per_million")]
    pub usd_per_million_write_units: f64,
    /// What the run should show.
    #[serde(default)]
    pub expect: Expect,
    /// Capacity without end.
    #[serde(skip)]
    pub unlimited: bool,
}

/// The table.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Table {
    /// How capacity is paid for.
    pub billing: BillingKey,
    /// Provisioned write units a second; on demand, what the table takes at once.
    pub write_units: Option<f64>,
    /// The on-demand maximum.
    pub max_write_units: Option<f64>,
    /// Partitions at first.
    pub partitions: Option<usize>,
    /// How long a partition is hot before it is split; `off` for never.
    #[serde(default = "five_minutes", deserialize_with = "duration_or_off")]
    pub split_after: Option<Duration>,
    /// For how long unused provisioned capacity is kept.
    #[serde(default = "burst_kept", with = "duration")]
    pub burst: Duration,
    /// How much of that is there at first, 0 to 1.
    #[serde(default)]
    pub burst_filled: f64,
    /// Global secondary indexes.
    #[serde(default)]
    pub indexes: Vec<Index>,
    /// Whether rows have a sort key.
    #[serde(default)]
    pub sort_key: bool,
    /// Partition keys are spread over so many suffixes, by the sort key.
    #[serde(default)]
    pub write_shards: u32,
}

/// How capacity is paid for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BillingKey {
    /// Provisioned units.
    Provisioned,
    /// Per request.
    OnDemand,
}

/// A global secondary index.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Index {
    /// Its name.
    pub name: String,
    /// Its write units a second.
    pub write_units: f64,
    /// The share of an item that it holds.
    #[serde(default = "whole")]
    pub projected: f64,
}

/// Who writes: a Spark job, a service.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Workload {
    /// What people call it.
    pub name: String,
    /// Rows offered a second by all its sessions; left out, as fast as they are taken.
    pub rows_per_second: Option<Spanned<f64>>,
    /// Sessions: Spark tasks that run at once.
    #[serde(default = "eight")]
    pub sessions: usize,
    /// Rows of one batch, at most.
    #[serde(default = "five_hundred")]
    pub batch_rows: usize,
    /// Whether its rows let others go first.
    #[serde(default)]
    pub priority: Priority,
    /// Bytes of an item.
    pub item_bytes: Spanned<Bytes>,
    /// Its keys.
    pub keys: Spanned<Keys>,
    /// From when.
    #[serde(default, with = "duration")]
    pub from: Duration,
    /// Until when; left out, to the end.
    #[serde(default, with = "optional_duration")]
    pub until: Option<Duration>,
}

/// Whether rows let others go first.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Priority {
    /// They do not.
    #[default]
    Interactive,
    /// They do.
    Bulk,
}

/// Bytes of an item: a number, or from least to most.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bytes {
    /// The least.
    pub from: usize,
    /// The most.
    pub to: usize,
}

impl<'de> Deserialize<'de> for Bytes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visit;
        impl<'de> serde::de::Visitor<'de> for Visit {
            type Value = Bytes;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("bytes such as `900`, or a range such as `200..4000`")
            }

            fn visit_u64<E: serde::de::Error>(self, bytes: u64) -> Result<Bytes, E> {
                self.visit_str(&bytes.to_string())
            }

            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Bytes, E> {
                let (from, to) = text.split_once("..").unwrap_or((text, text));
                match (from.trim().parse(), to.trim().parse()) {
                    (Ok(from), Ok(to)) if from <= to => Ok(Bytes { from, to }),
                    _ => Err(E::invalid_value(serde::de::Unexpected::Str(text), &self)),
                }
            }
        }
        deserializer.deserialize_any(Visit)
    }
}

/// The keys of a workload.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Keys {
    /// How many different ones there are.
    pub count: usize,
    /// The exponent of Zipf's law; left out, all are as frequent.
    pub zipf: Option<f64>,
    /// One key that is hot.
    pub hot: Option<HotKey>,
}

/// A hot partition key.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HotKey {
    /// Its share of the rows, 0 to 1.
    pub share: f64,
    /// How many sort keys it has; 1 for a single hot item.
    #[serde(default = "one_key")]
    pub sort_keys: u64,
}

/// Something that happens.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Event {
    /// When.
    pub at: Spanned<Moment>,
    /// The table's write units a second from now on.
    pub table_write_units: Option<f64>,
    /// What the account has for this table from now on.
    pub account_write_units: Option<f64>,
    /// An index's write units a second from now on.
    pub index: Option<Index>,
    /// Something goes wrong.
    pub fault: Option<FaultEntry>,
}

/// A point in time, from the start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub struct Moment(#[serde(with = "duration")] pub Duration);

/// Something that goes wrong for a time.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FaultEntry {
    /// What.
    pub kind: FaultKey,
    /// For how long.
    #[serde(rename = "for", with = "duration")]
    pub lasts: Duration,
    /// How likely it strikes a call.
    #[serde(default = "whole")]
    pub probability: f64,
    /// How much longer a slow call takes; how late a delayed write may land.
    #[serde(default = "a_second", with = "duration")]
    pub by: Duration,
    /// The share of a batch's items that are not processed.
    #[serde(default = "half")]
    pub share: f64,
}

/// What goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FaultKey {
    /// Connections are refused.
    Refused,
    /// Calls go nowhere until they time out.
    BlackHole,
    /// Calls take longer.
    Slow,
    /// Calls are throttled, without a reason.
    Throttle,
    /// Items come back unprocessed.
    Unprocessed,
    /// The service fails before doing anything.
    ServerError,
    /// Calls are done, and their answers are lost.
    LostAnswer,
    /// Calls break, and are done later all the same.
    DelayedApply,
}

/// The gateway's settings.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Gateway {
    /// Lanes.
    pub lanes: usize,
    /// Memory for rows, in MiB.
    pub memory_mib: usize,
    /// Unacked bytes of a session, at most.
    pub window_bytes: u64,
    /// Unacked batches of a session, at most.
    pub window_batches: u32,
    /// Whether newer rows replace waiting older ones.
    pub coalesce: bool,
    /// The table's `max_write_units`; 0 for none.
    pub max_write_units: u64,
}

impl Default for Gateway {
    fn default() -> Self {
        Self {
            lanes: 4,
            memory_mib: 512,
            window_bytes: WINDOW_MAX_UNACKED_BYTES,
            window_batches: WINDOW_MAX_UNACKED_BATCHES,
            coalesce: true,
            max_write_units: 0,
        }
    }
}

/// What a run should show; what is left out is not looked at.
#[derive(Debug, Clone, Copy, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Expect {
    /// The share of the capacity that was there, or was asked for if that is less.
    pub capacity_used_at_least: Option<f64>,
    /// The share of attempts that were throttled, wholly or in part.
    pub throttled_attempts_below: Option<f64>,
    /// Seconds after a change of capacity until what is consumed stays within 10 % of it.
    pub converge_s_at_most: Option<f64>,
    /// The p99 of rows outside overloaded partitions, over what it is with capacity without end.
    pub cold_p99_ratio_at_most: Option<f64>,
    /// Seconds after an outage until a row is confirmed.
    pub recovery_s_at_most: Option<f64>,
    /// Writes of the hot item a second.
    pub hot_item_writes_per_second_at_most: Option<f64>,
    /// The p99 of rows of INTERACTIVE workloads, in milliseconds.
    pub interactive_p99_ms_at_most: Option<f64>,
}

fn burst_kept() -> Duration {
    BURST_KEPT
}

fn one() -> u64 {
    1
}

fn one_key() -> u64 {
    1
}

fn eight() -> usize {
    8
}

fn five_hundred() -> usize {
    500
}

fn whole() -> f64 {
    1.0
}

fn half() -> f64 {
    0.5
}

fn a_second() -> Duration {
    Duration::from_secs(1)
}

fn usd_per_million() -> f64 {
    WRITE_REQUEST_USD_PER_MILLION
}

fn five_minutes() -> Option<Duration> {
    Some(Duration::from_secs(300))
}

fn duration_or_off<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Duration>, D::Error> {
    match String::deserialize(deserializer)?.as_str() {
        "off" => Ok(None),
        text => duration::parse(text).map(Some).map_err(|error| D::Error::custom(format!("{error}, or `off`"))),
    }
}

mod optional_duration {
    use super::*;

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Duration>, D::Error> {
        duration::deserialize(deserializer).map(Some)
    }
}

impl Scenario {
    /// Reads a scenario file's text.
    pub fn parse(file: &str, text: &str) -> Result<Self, YamlError> {
        let scenario: Self = yaml::document(file, text)?;
        scenario.check(file)?;
        Ok(scenario)
    }

    /// The table's capacity, for the model.
    pub fn capacity(&self) -> CapacityConfig {
        let table = &self.table;
        let billing = match table.billing {
            BillingKey::Provisioned => {
                // The check has seen that it is there.
                let units = table.write_units.unwrap_or(1.0);
                Billing::Provisioned { write_units: units, read_units: units }
            }
            BillingKey::OnDemand => Billing::OnDemand {
                initial_write_units: table.write_units.unwrap_or(ON_DEMAND_FIRST_WRITE_UNITS),
                max_write_units: table.max_write_units,
            },
        };
        let index = |index: &Index| IndexConfig {
            name: index.name.as_str().into(),
            write_units: index.write_units,
            projected: index.projected,
        };
        let capacity = CapacityConfig {
            billing,
            partitions: table.partitions,
            partition_write_units: PARTITION_WRITE_UNITS_PER_SECOND,
            split_after: table.split_after,
            burst: table.burst,
            burst_filled: table.burst_filled,
            indexes: table.indexes.iter().map(index).collect(),
        };
        if self.unlimited { capacity.unlimited() } else { capacity }
    }

    /// The same, with capacity without end and nothing going wrong: what latency is when nothing stands in the way.
    pub fn unthrottled(&self) -> Self {
        let mut other = self.clone();
        other.unlimited = true;
        (other.account_write_units, other.events) = (None, Vec::new());
        other
    }

    /// The faults among its events.
    pub fn faults(&self) -> Vec<Fault> {
        let fault = |event: &Event| {
            let from = event.at.value.0;
            let FaultEntry { kind, lasts, probability, by, share } = event.fault.as_ref()?;
            let kind = match kind {
                FaultKey::Refused => FaultKind::Refused,
                FaultKey::BlackHole => FaultKind::BlackHole,
                FaultKey::Slow => FaultKind::Slow { factor: 1.0, more: *by },
                FaultKey::Throttle => FaultKind::Throttle { reason: ThrottleReason::Unknown, index: None },
                FaultKey::Unprocessed => FaultKind::Unprocessed { share: *share },
                FaultKey::ServerError => FaultKind::ServerError,
                FaultKey::LostAnswer => FaultKind::LostAnswer,
                FaultKey::DelayedApply => FaultKind::DelayedApply { by: *by },
            };
            Some(Fault { probability: *probability, ..Fault::during(kind, from, from + *lasts) })
        };
        self.events.iter().filter_map(fault).collect()
    }

    /// When outages begin and end.
    pub fn outages(&self) -> impl Iterator<Item = (Duration, Duration)> + '_ {
        let outage = |kind| matches!(kind, FaultKey::Refused | FaultKey::BlackHole);
        self.events.iter().filter_map(move |event| {
            let fault = event.fault.as_ref().filter(|fault| outage(fault.kind) && fault.probability >= 1.0)?;
            Some((event.at.value.0, event.at.value.0 + fault.lasts))
        })
    }
}
