//! `sequence_by`: whatever the order of arrival, with replays, lost answers, late writes and a zombie, a key ends as the
//! sequences dictate.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use forebay::pool::WindowConfig;
use forebay::sim::{CapacityConfig, Fault, FaultKind, Model, ModelConfig};
use forebay::store::{ThrottleReason, WriteOp};
use proptest::prelude::*;
use proptest::test_runner::FileFailurePersistence;
use tokio::time::sleep;

use crate::checker::{Cell, Columns, Heard, History, Key, RowId, SentRow, TableRules, Written};
use crate::client::{Client, ClientSpec};
use crate::run::{honest, on_paused_clock, watchdog};
use crate::world::{PoolSpec, World, plain_row, schema};

/// A row that a session sends, and what happens around it.
#[derive(Debug, Clone)]
struct Step {
    session: usize,
    key: u32,
    op: WriteOp,
    tombstone: bool,
    cells: [Cell; 4],
    /// Made unique by the row's number.
    sequence: u64,
    then: Then,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Then {
    /// It goes in one batch with the session's next row.
    GoOn,
    Pause(u64),
    /// The client goes away, and sends again what is not acked.
    Reconnect,
    /// A zombie sends everything again that the session has sent.
    Replay,
}

#[derive(Debug, Clone)]
struct Faults {
    lost: f64,
    late: f64,
    throttled: f64,
    late_by_ms: u64,
}

fn step() -> impl Strategy<Value = Step> {
    let cell =
        |removes: u32| prop_oneof![2 => Just(Cell::Sets), 2 => Just(Cell::Leaves), removes => Just(Cell::Removes)];
    let merge = prop::array::uniform4(cell(1)).prop_map(|cells| (WriteOp::Merge, false, cells));
    let put = prop::array::uniform4(cell(0)).prop_map(|cells| (WriteOp::Put, false, cells));
    let delete = Just((WriteOp::Put, true, [Cell::Leaves; 4]));
    let then = prop_oneof![
        4 => Just(Then::GoOn),
        4 => (1u64..400).prop_map(Then::Pause),
        1 => Just(Then::Reconnect),
        1 => Just(Then::Replay),
    ];
    let what = prop_oneof![3 => merge, 2 => put, 1 => delete];
    (0usize..2, 0u32..3, what, 0u64..30, then).prop_map(|(session, key, (op, tombstone, cells), sequence, then)| Step {
        session,
        key,
        op,
        tombstone,
        cells,
        sequence,
        then,
    })
}

fn faults() -> impl Strategy<Value = Faults> {
    (0.0..0.3, 0.0..0.3, 0.0..0.3, 1u64..8_000).prop_map(|(lost, late, throttled, late_by_ms)| Faults {
        lost,
        late,
        throttled,
        late_by_ms,
    })
}

async fn interleave(steps: &[Step], faults: &Faults, coalesce: bool, seed: u64) -> (History, BTreeMap<Key, Columns>) {
    let throttle = FaultKind::Throttle { reason: ThrottleReason::KeyRange, index: None };
    let late = FaultKind::DelayedApply { by: Duration::from_millis(faults.late_by_ms) };
    let faults = vec![
        Fault::always(throttle, faults.throttled),
        Fault::always(late, faults.late),
        Fault::always(FaultKind::LostAnswer, faults.lost),
    ];
    let mut model = Model::new(ModelConfig { faults, ..ModelConfig::new(seed) });
    model.add_table("t0", schema(), CapacityConfig::on_demand(), Duration::ZERO);
    let window = WindowConfig { first: 4, most: 16 };
    let pool = |seed| PoolSpec { lanes: 2, window, memory_bytes: 1 << 20, seed };
    let rules = [TableRules { coalesce, sequenced: true }];
    // Two gateways: nothing but the sequences orders the writes of two sessions.
    let world = World::new(model, &rules, &[], &[pool(seed), pool(seed + 1)], honest);
    let spec = ClientSpec { table: 0, bulk: false, row_deadline: Duration::from_secs(4) };
    let mut rng = fastrand::Rng::with_seed(seed);
    let mut sessions = [Client::new(&world, spec, rng.fork()), Client::new(&world, spec, rng.fork())];
    let mut zombies = Vec::new();
    let (mut all, mut next): ([Vec<RowId>; 2], [Vec<RowId>; 2]) = Default::default();
    for step in steps {
        let session = step.session;
        let row = {
            let mut history = world.history();
            let [a, b, c, d] = step.cells;
            let row = SentRow {
                cells: [Cell::Sets, a, b, c, d],
                sequence: Some(step.sequence * 1_000 + history.rows.len() as u64),
                tombstone: step.tombstone,
                ..plain_row((0, step.key), step.op)
            };
            history.row(row)
        };
        all[session].push(row);
        next[session].push(row);
        if step.then == Then::GoOn {
            continue;
        }
        sessions[session].send(std::mem::take(&mut next[session]), None).await;
        match step.then {
            Then::GoOn => {}
            Then::Pause(ms) => sleep(Duration::from_millis(ms)).await,
            Then::Reconnect => sessions[session].reconnect().await,
            Then::Replay => {
                let mut zombie = Client::new(&world, spec, rng.fork());
                zombie.send(all[session].clone(), None).await;
                zombies.push(zombie);
            }
        }
    }
    for (session, rows) in sessions.iter_mut().zip(next) {
        if !rows.is_empty() {
            session.send(rows, None).await;
        }
        session.finish().await;
    }
    drop((sessions, zombies));
    // What is in flight ends; what is late arrives.
    sleep(Duration::from_secs(20)).await;
    world.store.finish_late_writes();
    let stored = world.stored();
    let history = world.close().await;
    let history = Arc::into_inner(history).expect("nobody else holds the history").into_inner().unwrap();
    (history, stored)
}

/// The state of a key after some of its rows, in the order of their sequences.
fn dictated<'a>(rows: impl Iterator<Item = (RowId, &'a SentRow)>) -> Columns {
    let mut rows: Vec<_> = rows.collect();
    rows.sort_by_key(|(_, row)| row.sequence);
    let mut item = Columns::default();
    for (id, row) in rows {
        if row.op == WriteOp::Put {
            item = Columns::default();
        }
        for (stored, cell) in item.cells.iter_mut().zip(row.cells) {
            match cell {
                Cell::Sets => *stored = Some(Written::By(id)),
                Cell::Removes => *stored = None,
                Cell::Leaves => {}
            }
        }
        (item.sequence, item.tombstone) = (row.sequence, row.tombstone);
    }
    item
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 150,
        failure_persistence: Some(Box::new(FileFailurePersistence::Direct("proptest-regressions/sim_sequences.txt"))),
        ..ProptestConfig::default()
    })]

    #[test]
    fn any_interleaving_ends_as_the_sequences_dictate(
        steps in prop::collection::vec(step(), 1..60), faults in faults(), coalesce: bool, seed in 0u64..1_000_000,
    ) {
        let _watchdog = watchdog("an interleaving makes no progress".to_owned());
        let (mut history, stored) = on_paused_clock(interleave(&steps, &faults, coalesce, seed));
        prop_assert_eq!(history.check(&stored), []);

        let mut applied: BTreeMap<Key, BTreeSet<RowId>> = BTreeMap::new();
        for write in &history.applied {
            let Some(Written::By(row)) = write.columns.as_ref().unwrap().cells[0] else { panic!("{write:?}") };
            applied.entry(write.key).or_default().insert(row);
        }
        let rows = || history.rows.iter().enumerate().map(|(id, row)| (id as RowId, row));
        for key in rows().map(|(_, row)| row.key).collect::<BTreeSet<_>>() {
            let of_key = || rows().filter(|(_, row)| row.key == key);
            let (greatest_id, greatest) = of_key().max_by_key(|(_, row)| row.sequence).unwrap();
            let stored = &stored[&key];
            prop_assert_eq!(stored.sequence, greatest.sequence, "the greatest sequence wins");
            if greatest.op == WriteOp::Put {
                prop_assert_eq!(stored, &dictated([(greatest_id, greatest)].into_iter()), "the winner is the whole item");
            }
            prop_assert_eq!(stored, &dictated(of_key().filter(|(id, _)| applied[&key].contains(id))));
            // What was said to be written is among what was applied.
            for (id, row) in of_key().filter(|(_, row)| row.op == WriteOp::Merge) {
                let answers = row.sends.iter().filter_map(|&send| history.sends[send].answer);
                let committed = answers.into_iter().any(|(_, heard)| heard == Heard::Success);
                prop_assert!(!committed || applied[&key].contains(&id), "{row:?} was committed, and is nowhere");
            }
        }
    }
}
