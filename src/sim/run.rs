//! Runs a scenario on virtual time: the model, the writers of its workloads, its events; then draws up the report.
//!
//! A run has a runtime of its own, single-threaded and on a paused clock, so that the same scenario and seed give the same
//! trace. Callers: `forebay simulate`, and tests.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};

use super::baselines::{DirectShared, DirectWriter};
use super::ledger::{Ledger, SharedLedger};
use super::model::{Model, ModelConfig};
use super::pool_writer::{PoolShared, PoolWriter};
use super::report::Report;
use super::scenario::{Priority, Scenario, TABLE};
use super::session::{self, Schedule};
use super::store::SimStore;
use super::workload::{Source, schema};
use crate::pool::{MemoryBudget, Pool, PoolConfig, PoolTable};
use crate::store::Store;
use crate::telemetry::Instruments;

/// Who writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum WriterKind {
    /// Forebay's pool
    Forebay,
    /// A fixed number of calls in flight, and plain exponential back-off
    Fixed,
    /// The AWS SDK's adaptive retry mode
    SdkAdaptive,
}

impl WriterKind {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Forebay, Self::Fixed, Self::SdkAdaptive];

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Forebay => "forebay",
            Self::Fixed => "fixed",
            Self::SdkAdaptive => "sdk-adaptive",
        }
    }
}

/// How a scenario is run.
#[derive(Debug, Clone, Copy)]
pub struct RunOptions {
    /// Who writes.
    pub writer: WriterKind,
    /// Of all dice.
    pub seed: u64,
    /// Whether the trace's lines are kept.
    pub keep_trace: bool,
}

/// After the last row was offered, its outcome is waited for so long (chosen: a full window at 100 rows a second).
const DRAIN: Duration = Duration::from_secs(600);
/// What there is to be seen is noted this often.
const TICK: Duration = Duration::from_secs(1);

/// Runs a scenario; a run that looks at the wait of cold keys is followed by one with capacity without end.
pub fn run(scenario: &Scenario, options: RunOptions) -> std::io::Result<Report> {
    let mut report = run_once(scenario, options)?;
    if scenario.expect.cold_p99_ratio_at_most.is_some() {
        let unthrottled = run_once(&scenario.unthrottled(), RunOptions { keep_trace: false, ..options })?;
        report.unthrottled_cold_p99 = Some(unthrottled.cold_waits.percentile(99.0));
    }
    Ok(report)
}

fn run_once(scenario: &Scenario, options: RunOptions) -> std::io::Result<Report> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build()?;
    Ok(runtime.block_on(simulate(scenario, options)))
}

async fn simulate(scenario: &Scenario, options: RunOptions) -> Report {
    let mut model = Model::new(ModelConfig {
        account_write_units: scenario.account_write_units,
        faults: if scenario.unlimited { Vec::new() } else { scenario.faults() },
        keep_items: false,
        keep_trace: options.keep_trace,
        ..ModelConfig::new(options.seed)
    });
    model.add_table(TABLE, schema(scenario), scenario.capacity(), Duration::ZERO);
    let sources = Source::all(scenario, &model);
    let outages: Vec<_> = scenario.outages().collect();
    let measured = scenario.warm_up..scenario.duration;
    let ledger = SharedLedger::new(Ledger::new(sources.len(), measured.clone(), &outages));
    model.observe(Box::new(ledger.clone()));
    let store = SimStore::new(model);
    let started = Instant::now();

    let mut beside = JoinSet::new();
    beside.spawn(happen(scenario.clone(), Arc::clone(&store), started));
    beside.spawn(tick(Arc::clone(&store), started));

    let instruments = Arc::new(Instruments::new());
    let memory_peak_bytes = Arc::new(AtomicU64::new(0));
    let gateway = &scenario.gateway;
    let (pool, tasks) = {
        let config = PoolConfig { lanes: gateway.lanes.max(1), seed: options.seed, ..PoolConfig::for_cores(2) };
        let store: Arc<dyn Store> = Arc::clone(&store) as Arc<dyn Store>;
        Pool::start(&config, &store, &instruments)
    };
    let table =
        PoolTable { coalesce: gateway.coalesce, max_write_units: gateway.max_write_units, ..PoolTable::new(TABLE) };
    let pool_shared = PoolShared {
        pool: pool.clone(),
        table,
        memory: MemoryBudget::new(gateway.memory_mib << 20, Arc::clone(&instruments)),
        store: Arc::clone(&store),
        ledger: ledger.clone(),
        instruments: Arc::clone(&instruments),
        memory_peak_bytes: Arc::clone(&memory_peak_bytes),
        window_bytes: gateway.window_bytes,
        window_batches: gateway.window_batches,
    };
    let tasks_in_all: usize = scenario.workloads.iter().map(|workload| workload.sessions).sum();
    let adaptive = options.writer == WriterKind::SdkAdaptive;
    let direct_shared = DirectShared {
        store: Arc::clone(&store),
        ledger: ledger.clone(),
        window_bytes: gateway.window_bytes,
        clients: adaptive.then(|| DirectShared::adaptive_clients(tasks_in_all as u64)),
    };

    let mut rng = fastrand::Rng::with_seed(options.seed);
    let mut sessions = JoinSet::new();
    let mut id = 0;
    for source in &sources {
        let workload = source.workload();
        for _ in 0..workload.sessions {
            let until = workload.until.unwrap_or(scenario.duration).min(scenario.duration);
            let schedule = Schedule {
                from: started + workload.from,
                until: started + until,
                give_up: started + scenario.duration + DRAIN,
                rows_per_second: workload.rows_per_second.as_ref().map(|rate| rate.value / workload.sessions as f64),
            };
            let (source, ledger, dice) = (Arc::clone(source), ledger.clone(), rng.fork());
            if options.writer == WriterKind::Forebay {
                let bulk = workload.priority == Priority::Bulk;
                let writer = PoolWriter::new(pool_shared.clone(), source.index, id, bulk);
                sessions.spawn(session::run(source, schedule, ledger, writer, dice));
            } else {
                let writer = DirectWriter::new(direct_shared.clone(), source.index, id, rng.fork());
                sessions.spawn(session::run(source, schedule, ledger, writer, dice));
            }
            id += 1;
        }
    }
    let mut failures = Vec::new();
    while let Some(ended) = sessions.join_next().await {
        match ended {
            Ok(failure) => failures.extend(failure),
            Err(error) => failures.push(format!("a session died: {error}")),
        }
    }
    let ended = store.now();
    drop((pool, pool_shared));
    if !tasks.finish(DRAIN).await {
        failures.push("the lanes did not end".to_owned());
    }
    beside.shutdown().await;
    let memory_peak = memory_peak_bytes.load(Ordering::Relaxed);
    let ledger = ledger.lock();
    store.with(|model, _| Report::draw_up(scenario, options, &sources, model, &ledger, memory_peak, ended, failures))
}

/// Changes of capacity, at their times.
async fn happen(scenario: Scenario, store: Arc<SimStore>, started: Instant) {
    let mut events = scenario.events;
    events.sort_by_key(|event| event.at.value.0);
    for event in events {
        sleep_until(started + event.at.value.0).await;
        store.with(|model, at| {
            if let Some(units) = event.account_write_units {
                model.set_account(Some(units), at);
            }
            let Some(capacity) = model.capacity_mut(TABLE) else { return };
            if let Some(units) = event.table_write_units {
                capacity.set_write_units(units, at);
            }
            if let Some(index) = &event.index {
                let known = capacity.set_index_units(&index.name, index.write_units, at);
                debug_assert!(known, "the scenario was checked");
            }
        });
    }
}

/// Makes the model note what capacity there is, also in seconds without calls.
async fn tick(store: Arc<SimStore>, started: Instant) {
    for second in 1u32.. {
        sleep_until(started + TICK * second).await;
        store.with(|_, _| ());
    }
}
