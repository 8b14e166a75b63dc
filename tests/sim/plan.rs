//! What a seed means: tables, pools, faults, and what clients do.

use std::time::Duration;

use forebay::pool::WindowConfig;
use forebay::sim::fault::random_schedule;
use forebay::sim::{Billing, CapacityConfig, Fault, FaultKind, IndexConfig};
use forebay::store::{ThrottleReason, WriteOp};

use crate::checker::TableRules;
use crate::client::ClientSpec;
use crate::world::PoolSpec;

/// For so long things go wrong.
pub const TROUBLE: Duration = Duration::from_secs(60);
/// Rows of a run, all writers together.
pub const ROWS: usize = 5_200;
/// Writers of a run.
const WRITERS: usize = 8;

/// Tables: with and without sequences, coalescing or not.
pub const TABLES: [TableRules; 4] = [
    TableRules { coalesce: true, sequenced: false },
    TableRules { coalesce: false, sequenced: false },
    TableRules { coalesce: true, sequenced: true },
    TableRules { coalesce: false, sequenced: true },
];

/// What one writer does.
#[derive(Debug, Clone)]
pub struct WriterSpec {
    pub number: u32,
    pub client: ClientSpec,
    /// How often it puts, deletes, merges and inserts.
    pub weights: [u32; 4],
    /// The share of batches that are atomic groups.
    pub atomic: f64,
    pub batch_rows: usize,
    pub window: usize,
    pub rows: usize,
    /// Whether it hears its last acks.
    pub stays: bool,
}

/// See the module.
#[derive(Debug)]
pub struct Plan {
    pub pools: Vec<PoolSpec>,
    pub capacities: Vec<CapacityConfig>,
    pub account: Option<f64>,
    /// What a pool may take of each table, in units a second; 0 for no such limit.
    pub max_write_units: Vec<u64>,
    pub faults: Vec<Fault>,
    pub writers: Vec<WriterSpec>,
    /// When clients that should have gone send old batches again.
    pub zombies: Vec<Duration>,
}

impl WriterSpec {
    pub fn draw_op(&self, rng: &mut fastrand::Rng) -> WriteOp {
        let ops = [WriteOp::Put, WriteOp::Delete, WriteOp::Merge, WriteOp::Insert];
        let mut left = rng.u32(0..self.weights.iter().sum());
        for (op, weight) in ops.into_iter().zip(self.weights) {
            if left < weight {
                return op;
            }
            left -= weight;
        }
        WriteOp::Put
    }
}

impl Plan {
    pub fn draw(rng: &mut fastrand::Rng) -> Self {
        let pools = (0..rng.usize(1..3)).map(|_| pool(rng)).collect();
        let capacities = TABLES.iter().map(|_| capacity(rng)).collect();
        let account = (rng.u32(0..4) == 0).then(|| 40.0 + 160.0 * rng.f64());
        let writers = (0..WRITERS as u32).map(|number| writer(number, rng)).collect();
        let zombies = (0..rng.usize(1..4)).map(|_| TROUBLE.mul_f64(0.15 + 0.7 * rng.f64())).collect();
        let max_write_units = TABLES.iter().map(|_| if rng.u32(0..4) == 0 { rng.u64(60..400) } else { 0 }).collect();
        Self { pools, capacities, account, max_write_units, faults: faults(rng), writers, zombies }
    }
}

fn pool(rng: &mut fastrand::Rng) -> PoolSpec {
    PoolSpec {
        lanes: rng.usize(1..6),
        window: WindowConfig { first: rng.usize(1..17), most: rng.usize(4..65) },
        memory_bytes: rng.usize(48..768) << 10,
        seed: rng.u64(..),
    }
}

fn capacity(rng: &mut fastrand::Rng) -> CapacityConfig {
    // Many have less than the writers want.
    let units = 12.0 + 300.0 * rng.f64().powi(2);
    let mut capacity = match rng.u32(0..4) {
        0 => CapacityConfig::on_demand(),
        1 => {
            let billing = Billing::OnDemand { initial_write_units: 4_000.0, max_write_units: Some(units) };
            CapacityConfig { billing, ..CapacityConfig::on_demand() }
        }
        _ => CapacityConfig::provisioned(units),
    };
    capacity.partitions = Some(rng.usize(1..5));
    if rng.u32(0..5) == 0 {
        capacity.indexes.push(IndexConfig { name: "by_a".into(), write_units: units * 0.8, projected: 0.5 });
    }
    capacity
}

fn faults(rng: &mut fastrand::Rng) -> Vec<Fault> {
    let mut faults = random_schedule(rng, TROUBLE);
    let reasons = [
        ThrottleReason::KeyRange,
        ThrottleReason::Provisioned,
        ThrottleReason::Account,
        ThrottleReason::MaxOnDemand,
        ThrottleReason::Unknown,
    ];
    let reason = reasons[rng.usize(0..reasons.len())];
    let index = rng.bool().then(|| "by_a".into());
    faults.push(Fault::always(FaultKind::Throttle { reason, index }, 0.01 + 0.03 * rng.f64()));
    faults.push(Fault::always(FaultKind::Unprocessed { share: 0.3 }, 0.01 + 0.05 * rng.f64()));
    faults.push(Fault::always(FaultKind::LostAnswer, 0.01 + 0.03 * rng.f64()));
    let by = Duration::from_millis(rng.u64(5..15_000));
    faults.push(Fault::always(FaultKind::DelayedApply { by }, 0.02 * rng.f64()));
    let mut during = |kind, shortest: u64, longest: u64| {
        let from = TROUBLE.mul_f64(rng.f64() * 0.85);
        let until = from + Duration::from_millis(rng.u64(shortest..longest));
        let table = Some(format!("t{}", rng.usize(0..TABLES.len())).into());
        Fault { table, ..Fault::during(kind, from, until) }
    };
    faults.push(during(FaultKind::TableDeleted, 50, 1_500));
    faults.push(during(FaultKind::AccessDenied, 500, 9_000));
    faults.push(during(FaultKind::Conflict, 1_000, 20_000));
    let kind = FaultKind::Slow { factor: 1.0, more: Duration::from_millis(4_900) };
    faults.push(Fault { probability: 0.3, ..during(kind, 1_000, 9_000) });
    faults
}

fn writer(number: u32, rng: &mut fastrand::Rng) -> WriterSpec {
    let table = number as usize % TABLES.len();
    let weights = match rng.u32(0..5) {
        0 => [1, 0, 0, 0],
        1 => [4, 0, 10, 0],
        2 => [3, 1, 0, 6],
        _ => [4, 2, 4, 1],
    };
    let row_deadline = match TABLES[table].sequenced {
        true => Duration::from_millis(rng.u64(1_000..20_000)),
        false => Duration::from_millis(rng.u64(10_000..40_000)),
    };
    WriterSpec {
        number,
        client: ClientSpec { table, bulk: rng.u32(0..3) == 0, row_deadline },
        weights,
        atomic: if rng.bool() { 0.15 * rng.f64() } else { 0.0 },
        batch_rows: rng.usize(4..60),
        window: rng.usize(2..20),
        rows: ROWS / WRITERS,
        stays: rng.u32(0..4) > 0,
    }
}
