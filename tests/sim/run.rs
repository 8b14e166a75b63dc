//! One seed: clients write to pools over a model in which things go wrong, for a while; then nothing goes wrong any more,
//! everything must be answered, and the history is judged.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use forebay::sim::{FaultCounts, Model, ModelConfig, SimStore};
use forebay::store::{Store, WriteOp};
use forebay::telemetry::instruments::{OutcomeLabel, ThrottleLabel};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use crate::checker::{Broken, Cell, PATIENCE, RowId, Rule, SentRow};
use crate::client::Client;
use crate::plan::{Plan, TABLES, TROUBLE, WriterSpec};
use crate::world::{World, plain_row, schema};

/// Keys that several writers share, in each table.
const SHARED_KEYS: u32 = 6;
/// A run that takes so long hangs.
const HANGS: Duration = Duration::from_secs(6 * 3600);

/// What a run came to.
#[derive(Debug, Default)]
pub struct Outcome {
    pub broken: Vec<Broken>,
    /// How often faults struck, by the model's count.
    pub faults: FaultCounts,
    /// What pools saw: attempts by how they went, throttling by its reason.
    pub seen: BTreeMap<String, u64>,
    /// Of the model's trace and of all answers.
    pub hash: u64,
    pub rows: usize,
    pub sends: usize,
    pub sessions: u32,
    pub virtual_time: Duration,
}

/// Batches of a writer, for those that send them again.
type Batches = Arc<Mutex<Vec<(usize, Vec<RowId>, Option<u32>)>>>;

/// Runs a seed. `wrap` is what stands between the pools and the model.
pub fn run(seed: u64, wrap: impl Fn(Arc<SimStore>) -> Arc<dyn Store>) -> Outcome {
    let _watchdog = watchdog(format!("seed {seed} makes no progress"));
    on_paused_clock(go(seed, wrap))
}

/// Runs a future in a runtime of its own, single-threaded, on a paused clock.
pub fn on_paused_clock<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    runtime.block_on(future)
}

/// Ends the process when something takes too long in real time: a task that spins keeps a paused clock from moving.
pub fn watchdog(what: String) -> impl Drop {
    struct Watchdog(std::sync::mpsc::Sender<()>);
    impl Drop for Watchdog {
        fn drop(&mut self) {
            self.0.send(()).ok();
        }
    }
    let (sender, receiver) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        if receiver.recv_timeout(Duration::from_secs(120)).is_err() {
            eprintln!("{what}");
            std::process::exit(101);
        }
    });
    Watchdog(sender)
}

/// The pools over the model itself.
pub fn honest(store: Arc<SimStore>) -> Arc<dyn Store> {
    store
}

async fn go(seed: u64, wrap: impl Fn(Arc<SimStore>) -> Arc<dyn Store>) -> Outcome {
    let mut rng = fastrand::Rng::with_seed(seed);
    let plan = Plan::draw(&mut rng);
    let mut model = Model::new(ModelConfig {
        faults: plan.faults.clone(),
        account_write_units: plan.account,
        ..ModelConfig::new(rng.u64(..))
    });
    for (number, capacity) in plan.capacities.iter().enumerate() {
        model.add_table(&format!("t{number}"), schema(), capacity.clone(), Duration::ZERO);
    }
    let world = World::new(model, &TABLES, &plan.max_write_units, &plan.pools, wrap);
    let (batches, mut clients, mut zombies) = (Batches::default(), JoinSet::new(), JoinSet::new());
    for spec in plan.writers {
        clients.spawn(write(Arc::clone(&world), spec, rng.fork(), Arc::clone(&batches)));
    }
    for at in plan.zombies {
        zombies.spawn(haunt(Arc::clone(&world), at, rng.fork(), Arc::clone(&batches)));
    }
    let mut outcome = Outcome::default();
    let all = async {
        sleep(TROUBLE).await;
        let now = world.store.with(|model, now| {
            model.end_faults();
            model.set_account(None, now);
            for number in 0..TABLES.len() {
                // Enough for what has gathered.
                let Some(capacity) = model.capacity_mut(&format!("t{number}")) else { continue };
                capacity.set_write_units(1_000.0, now);
                capacity.set_maximum(None, now);
                capacity.set_index_units("by_a", 1_000.0, now);
            }
            now
        });
        world.history().calm_since = Some(now);
        let mut sessions = 0;
        while let Some(ended) = zombies.join_next().await {
            ended.unwrap();
        }
        while let Some(ended) = clients.join_next().await {
            sessions += ended.unwrap();
        }
        sessions
    };
    match timeout(HANGS, all).await {
        Ok(sessions) => outcome.sessions = sessions,
        Err(_) => {
            world.history().break_rule(Rule::Starved, "the run hangs".to_owned());
            clients.shutdown().await;
            zombies.shutdown().await;
        }
    }
    // What is on its way arrives, what is late as well.
    sleep(PATIENCE).await;
    world.store.finish_late_writes();
    outcome.virtual_time = world.now();
    (outcome.faults, outcome.hash) = world.store.with(|model, _| (*model.faults(), model.trace().hash()));
    outcome.seen = seen(&world);
    let stored = world.stored();
    let history = world.close().await;
    let mut history = history.lock().unwrap();
    outcome.broken = history.check(&stored);
    (outcome.rows, outcome.sends) = (history.rows.len(), history.sends.len());
    for send in &history.sends {
        let text = format!("{:?}", (send.row, send.at, send.answer, send.abandoned));
        outcome.hash =
            text.bytes().fold(outcome.hash, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3));
    }
    outcome
}

fn seen(world: &World) -> BTreeMap<String, u64> {
    let mut seen = BTreeMap::new();
    for gateway in &world.gateways {
        for outcome in [
            "ok",
            "partial",
            "throttled",
            "superseded",
            "cancelled",
            "refused",
            "table_missing",
            "access",
            "unreachable",
            "unknown",
        ] {
            let count = gateway.instruments.attempts.get_or_create(&OutcomeLabel { outcome }).get();
            *seen.entry(format!("attempt {outcome}")).or_default() += count;
        }
        for reason in ["unprocessed_items", "key_range", "provisioned", "account", "max_on_demand", "unknown"] {
            for (table, index) in world.tables.iter().flat_map(|table| [(table, ""), (table, "by_a")]) {
                let label = ThrottleLabel { dynamodb_table: table.name.to_string(), index: index.to_owned(), reason };
                let count = gateway.instruments.throttles.get_or_create(&label).get();
                *seen.entry(format!("throttled by {reason}")).or_default() += count;
                if !index.is_empty() {
                    *seen.entry("throttled by an index".to_owned()).or_default() += count;
                }
            }
        }
    }
    seen
}

/// Writes until its rows are sent and the trouble is over; gives the number of its sessions.
async fn write(world: Arc<World>, spec: WriterSpec, mut rng: fastrand::Rng, batches: Batches) -> u32 {
    let mut client = Client::new(&world, spec.client, rng.fork());
    let mean_pause = TROUBLE.mul_f64(0.5 * spec.batch_rows as f64 / spec.rows as f64);
    let mut sent = 0;
    while sent < spec.rows || world.now() < TROUBLE {
        if sent >= spec.rows * 2 {
            // It has done what it should, and listens until the trouble is over.
            if timeout(Duration::from_secs(1), client.hear()).await.is_err() {
                client.pump();
            }
            continue;
        }
        let atomic = rng.f64() < spec.atomic;
        let (rows, group) = draw_batch(&world, &spec, atomic, &mut rng);
        sent += rows.len();
        batches.lock().unwrap().push((spec.client.table, rows.clone(), group));
        client.send(rows, group).await;
        while client.unacked() >= spec.window {
            client.hear().await;
        }
        match rng.u32(0..100) {
            0..2 => client.reconnect().await,
            2..60 => sleep(mean_pause.mul_f64(2.0 * rng.f64())).await,
            _ => client.pump(),
        }
    }
    if spec.stays {
        client.finish().await;
    }
    client.sessions
}

/// Sends batches again that were sent long ago, acked or not.
async fn haunt(world: Arc<World>, at: Duration, mut rng: fastrand::Rng, batches: Batches) {
    sleep(at).await;
    let old = {
        let batches = batches.lock().unwrap();
        let from = rng.usize(0..batches.len());
        let table = batches[from].0;
        batches[from..].iter().filter(|batch| batch.0 == table).take(rng.usize(1..12)).cloned().collect::<Vec<_>>()
    };
    let Some(&(table, ..)) = old.first() else { return };
    let row_deadline = Duration::from_secs(10);
    let spec = crate::client::ClientSpec { table, bulk: rng.bool(), row_deadline };
    let mut zombie = Client::new(&world, spec, rng.fork());
    for (_, rows, group) in old {
        zombie.send(rows, group).await;
        sleep(Duration::from_millis(rng.u64(0..2_000))).await;
        zombie.pump();
    }
    if rng.bool() {
        zombie.finish().await;
    }
}

fn draw_batch(world: &World, spec: &WriterSpec, atomic: bool, rng: &mut fastrand::Rng) -> (Vec<RowId>, Option<u32>) {
    let (now, mut history) = (world.now(), world.history());
    let first = history.rows.len() as u32;
    let group = atomic.then_some(first);
    let mut rows = Vec::new();
    let mut keys = std::collections::BTreeSet::new();
    for _ in 0..rng.usize(1..=spec.batch_rows) {
        let row = draw_row(spec, now, history.rows.len() as u32, group, rng);
        if atomic && (rows.len() >= 12 || !keys.insert(row.key)) {
            continue;
        }
        rows.push(history.row(row));
    }
    (rows, group)
}

fn draw_row(spec: &WriterSpec, now: Duration, id: u32, group: Option<u32>, rng: &mut fastrand::Rng) -> SentRow {
    let table = spec.client.table;
    let own = 1_000 * (spec.number + 1);
    let key = match rng.u32(0..20) {
        // One hot key, a few shared ones, a few of its own, and fresh ones.
        0 => 0,
        1..4 => rng.u32(1..SHARED_KEYS),
        4..11 => own + rng.u32(0..8),
        _ => own + 10 + rng.u32(0..900),
    };
    let op = spec.draw_op(rng);
    let mut row = plain_row((table, key), op);
    for cell in &mut row.cells[1..] {
        *cell = match (op, rng.u32(0..10)) {
            (WriteOp::Put | WriteOp::Insert, 0..6) | (WriteOp::Merge, 0..3) => Cell::Sets,
            (WriteOp::Merge, 3..5) => Cell::Removes,
            _ => Cell::Leaves,
        };
    }
    if TABLES[table].sequenced {
        // Mostly rising, and no two alike.
        let spread = if rng.u32(0..10) == 0 { rng.u64(0..30_000) } else { rng.u64(0..200) };
        let at_ms = now.as_millis() as u64 + spread;
        row.sequence = Some(at_ms * 1_000_000 + u64::from(id));
        if op == WriteOp::Delete {
            (row.op, row.tombstone) = (WriteOp::Put, true);
        }
    }
    row.bad = row.op != WriteOp::Delete && rng.u32(0..400) == 0;
    row.group = group;
    row
}
