//! DynamoDB is away for ten minutes: rows wait within the memory bound, nothing is acked, and when it returns the flow is
//! back within seconds and nothing is lost.

use std::sync::Arc;
use std::time::Duration;

use forebay::pool::WindowConfig;
use forebay::sim::{CapacityConfig, Fault, FaultKind, Model, ModelConfig};
use forebay::store::WriteOp;
use tokio::task::JoinSet;
use tokio::time::sleep;

use crate::checker::{Cell, SentRow};
use crate::client::{Client, ClientSpec};
use crate::plan::TABLES;
use crate::run::{honest, on_paused_clock, watchdog};
use crate::world::{PoolSpec, World, plain_row, schema};

const AWAY_AT: Duration = Duration::from_secs(20);
const BACK_AT: Duration = Duration::from_secs(620);
const END: Duration = Duration::from_secs(660);
const MEMORY_BYTES: usize = 512 << 10;
/// Longest attempt: its time-out.
const ATTEMPT: Duration = Duration::from_secs(5);

async fn outage(kind: FaultKind, back_within: Duration) {
    let outage = Fault::during(kind, AWAY_AT, BACK_AT);
    let mut model = Model::new(ModelConfig { faults: vec![outage], ..ModelConfig::new(7) });
    for number in 0..TABLES.len() {
        model.add_table(&format!("t{number}"), schema(), CapacityConfig::on_demand(), Duration::ZERO);
    }
    let window = WindowConfig { first: 16, most: 64 };
    let pool = PoolSpec { lanes: 4, window, memory_bytes: MEMORY_BYTES, seed: 7 };
    let world = World::new(model, &TABLES, &[], &[pool], honest);
    let mut clients = JoinSet::new();
    for number in 0..8 {
        clients.spawn(write(Arc::clone(&world), number));
    }
    let mut fullest = 0;
    while world.now() < BACK_AT {
        sleep(Duration::from_millis(100)).await;
        let reserved = usize::try_from(world.gateways[0].instruments.reserved_bytes.get()).unwrap();
        assert!(reserved <= MEMORY_BYTES, "{reserved} bytes at {:?}", world.now());
        fullest = fullest.max(reserved);
    }
    assert!(fullest > MEMORY_BYTES * 9 / 10, "rows gather until memory is full: {fullest} bytes");
    world.history().calm_since = Some(BACK_AT);
    while let Some(ended) = clients.join_next().await {
        ended.unwrap();
    }
    sleep(ATTEMPT).await;
    let stored = world.stored();
    let history = world.close().await;
    let mut history = history.lock().unwrap();
    assert_eq!(history.check(&stored), []);
    let answers: Vec<Duration> = history.sends.iter().map(|send| send.answer.expect("an answer").0).collect();
    let before = answers.iter().filter(|&&at| at < AWAY_AT).count();
    let during = answers.iter().filter(|&&at| (AWAY_AT + ATTEMPT..BACK_AT).contains(&at)).count();
    assert!(before > 1_000 && during == 0, "{before} acks before, {during} during the outage");
    for table in 0..TABLES.len() {
        let of_table = history.sends.iter().filter(|send| history.rows[send.row as usize].key.0 == table);
        let first = of_table.map(|send| send.answer.expect("an answer").0).filter(|&at| at >= BACK_AT).min();
        let back_after = first.expect("the flow is back") - BACK_AT;
        eprintln!("t{table}: acks again {back_after:?} after the end; {} rows in all", answers.len());
        assert!(back_after <= back_within, "t{table}: {back_after:?}");
    }
}

/// Sends ten batches a second for as long as it is let.
async fn write(world: Arc<World>, number: u32) {
    let table = number as usize % TABLES.len();
    let spec = ClientSpec { table, bulk: number == 7, row_deadline: Duration::from_secs(3_600) };
    let mut rng = fastrand::Rng::with_seed(u64::from(number));
    let mut client = Client::new(&world, spec, rng.fork());
    while world.now() < END {
        let rows = (0..5).map(|_| draw_row(&world, table, &mut rng)).collect();
        client.send(rows, None).await;
        while client.unacked() >= 200 {
            client.hear().await;
        }
        sleep(Duration::from_millis(100)).await;
    }
    client.finish().await;
    assert_eq!(client.sessions, 1, "no session ends");
}

fn draw_row(world: &World, table: usize, rng: &mut fastrand::Rng) -> u32 {
    let (now, mut history) = (world.now(), world.history());
    let op = [WriteOp::Put, WriteOp::Merge, WriteOp::Put][rng.usize(0..3)];
    let mut row: SentRow = plain_row((table, rng.u32(0..400)), op);
    row.cells[rng.usize(1..5)] = Cell::Sets;
    row.sequence = TABLES[table].sequenced.then(|| now.as_millis() as u64 * 1_000_000 + history.rows.len() as u64);
    history.row(row)
}

#[test]
fn after_ten_minutes_without_dynamodb_the_flow_is_back_within_five_seconds_and_nothing_is_lost() {
    let _watchdog = watchdog("the outage makes no progress".to_owned());
    on_paused_clock(outage(FaultKind::Refused, Duration::from_secs(5)));
}

/// Nobody says that it is away: each attempt waits for its time-out, also the one that left just before the end.
#[test]
fn after_ten_minutes_of_silence_the_flow_is_back_an_attempts_time_out_later() {
    let _watchdog = watchdog("the silence makes no progress".to_owned());
    on_paused_clock(outage(FaultKind::BlackHole, ATTEMPT + Duration::from_secs(5)));
}
