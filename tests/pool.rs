//! Promises of the write pool under fault: against a scripted store, on a paused clock.

#![allow(clippy::unwrap_used, reason = "helpers of tests are tests")]

#[path = "common/history.rs"]
mod history;
#[path = "common/pool_bed.rs"]
mod pool_bed;
#[path = "common/scripted_store.rs"]
mod scripted_store;

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use forebay::payload::RejectReason;
use forebay::pool::{RowFate, SessionFailure, Trouble};
use forebay::store::{ThrottleReason, WriteError};
use pool_bed::{Bed, put, version_of, watchdog};
use scripted_store::{Fate, ScriptedStore};
use tokio::time::{Instant, sleep, timeout};

const MS: Duration = Duration::from_millis(1);

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

#[tokio::test(start_paused = true)]
async fn nothing_is_acked_before_the_store_has_said_yes() {
    let store = ScriptedStore::with(|_| Fate::Written.after(100 * MS));
    let bed = Bed::over(&store).start();
    let mut session = bed.session();
    session.send((0..10).map(|i| put(format!("k{i}"), i))).await;
    assert!(timeout(99 * MS, session.wait(1)).await.is_err(), "the store has not answered yet");
    session.wait(1).await;
    assert_eq!(store.items("t").len(), 10);
    assert_eq!(session.done[&1].0.committed, 10);
    bed.finish(vec![session]).await;
}

#[tokio::test(start_paused = true)]
async fn fault_16_only_unprocessed_rows_are_sent_again() {
    let store = ScriptedStore::with(|call| match call.number {
        0 => Fate::Unprocessed(vec![1, 3]).into(),
        1 => Fate::Unprocessed(vec![0]).into(),
        _ => Fate::Written.into(),
    });
    let bed = Bed::over(&store).lanes(1).start();
    let mut session = bed.session();
    session.send((0..5).map(|i| put(format!("k{i}"), i))).await;
    session.wait(1).await;
    let calls = store.calls();
    let first = calls[0].keys();
    let again: Vec<String> =
        calls[1].keys().into_iter().chain(calls[2..].iter().flat_map(|call| call.keys())).collect();
    assert_eq!(first.len(), 5);
    assert!(again.iter().all(|key| *key == first[1] || *key == first[3]), "{again:?}");
    assert_eq!(store.items("t").len(), 5);
    assert!(session.done[&1].0.throttled_attempts >= 2);
    bed.finish(vec![session]).await;
}

#[tokio::test(start_paused = true)]
async fn one_bad_item_is_refused_and_24_good_ones_are_written() {
    let store = ScriptedStore::with(|call| if call.carries("k7\"") { Fate::refused() } else { Fate::Written }.into());
    let bed = Bed::over(&store).lanes(1).start();
    let mut session = bed.session();
    session.send((0..25).map(|i| put(format!("k{i}"), i))).await;
    session.wait(1).await;
    let (totals, fates) = &session.done[&1];
    assert_eq!((totals.committed, fates.len()), (24, 1));
    let [(row, RowFate::Rejected(reject))] = &fates[..] else { panic!("one row is rejected, not {fates:?}") };
    assert_eq!((*row, reject.reason), (7, RejectReason::BackendValidation));
    assert!(reject.message.contains("liking"), "{}", reject.message);
    assert_eq!(store.items("t").len(), 24);
    assert_eq!(store.calls().len(), 1 + 25, "one call of 25, then each alone");
    bed.finish(vec![session]).await;
}

#[tokio::test(start_paused = true)]
async fn a_refused_survivor_does_not_take_the_rows_it_stood_for_with_it() {
    let store = ScriptedStore::with(|call| if call.carries("\"2\"") { Fate::refused() } else { Fate::Written }.into());
    let bed = Bed::over(&store).lanes(1).start();
    let (mut one, mut other) = (bed.session(), bed.session());
    // Both wait behind the first write of the key; 2 stands for 1, and is refused for good.
    one.send([put("k", 0)]).await;
    sleep(MS).await;
    one.send([put("k", 1)]).await;
    other.send([put("k", 2)]).await;
    one.wait(2).await;
    other.wait(1).await;
    assert_eq!(other.done[&1].1.len(), 1, "2 is rejected");
    assert_eq!(one.done[&2].0.committed, 1, "1 is written after all");
    assert_eq!(store.items("t").values().map(|item| version_of(item)).collect::<Vec<_>>(), [1]);
    bed.finish(vec![one, other]).await;
}

#[tokio::test(start_paused = true)]
async fn duplicate_keys_of_a_batch_never_share_a_call_and_the_last_one_stays() {
    let store = ScriptedStore::new();
    let bed = Bed::over(&store).start();
    let mut session = bed.session();
    session.send((0..500).map(|i| put(format!("k{}", i % 10), i))).await;
    session.wait(1).await;
    let totals = session.done[&1].0;
    assert_eq!(totals.committed + totals.superseded, 500);
    assert!(totals.superseded >= 480, "waiting rows of a key coalesce: {totals:?}");
    for (key, item) in store.items("t") {
        let digit = key.strip_suffix("\"}").unwrap().chars().next_back().unwrap();
        assert_eq!(version_of(&item), 490 + u64::from(digit.to_digit(10).unwrap()), "{key}");
    }
    bed.finish(vec![session]).await;
}

#[tokio::test(start_paused = true)]
async fn fault_17_an_outage_acks_nothing_and_the_flow_resumes_within_five_seconds() {
    let store = ScriptedStore::with(|_| Fate::not_sent().into());
    let bed = Bed::over(&store).memory(256 << 10).start();
    let mut sessions: Vec<_> = (0..4).map(|_| bed.session()).collect();
    let began = Instant::now();
    let mut feeders = tokio::task::JoinSet::new();
    for (number, mut session) in sessions.drain(..).enumerate() {
        feeders.spawn(async move {
            for batch in 0..40 {
                session.send((0..50).map(|i| put(format!("s{number}b{batch}i{i}"), i))).await;
                session.poll();
                assert!(began.elapsed() > seconds(120) || session.done.is_empty(), "an ack during the outage");
            }
            session
        });
    }
    for _ in 0..120 {
        sleep(seconds(1)).await;
        assert!(bed.instruments.reserved_bytes.get() <= 256 << 10, "memory is bounded");
        assert_eq!(bed.instruments.rows_with("committed"), 0);
    }
    let tried = store.calls().len();
    assert!(tried < 120 * 40, "an outage is not hammered: {tried} calls");
    store.script(|_| Fate::Written.into());
    sleep(seconds(5)).await;
    assert!(bed.instruments.rows_with("committed") > 0, "nothing flows 5 s after the return");
    while let Some(session) = feeders.join_next().await {
        let mut session = session.unwrap();
        session.wait(40).await;
        sessions.push(session);
    }
    assert_eq!(store.items("t").len(), 4 * 40 * 50);
    bed.finish(sessions).await;
}

#[tokio::test(start_paused = true)]
async fn fault_18_a_write_whose_answer_was_lost_is_tried_again_and_acked_once() {
    let store = ScriptedStore::with(|call| match call.number {
        0 => Fate::LostAnswer.into(),
        1 => Fate::LostRequest.into(),
        _ => Fate::Written.into(),
    });
    let bed = Bed::over(&store).lanes(1).start();
    let mut session = bed.session();
    session.send((0..5).map(|i| put(format!("k{i}"), i))).await;
    session.wait(1).await;
    assert!(store.calls().len() >= 3);
    assert_eq!(session.done[&1].0.committed, 5);
    assert_eq!(session.link.trouble(), Trouble::Unavailable);
    bed.finish(vec![session]).await;
}

#[tokio::test(start_paused = true)]
async fn a_write_call_that_dies_is_tried_again() {
    let store = ScriptedStore::with(|call| if call.number == 0 { Fate::Panics } else { Fate::Written }.into());
    let bed = Bed::over(&store).lanes(1).start();
    let mut session = bed.session();
    session.send((0..30).map(|i| put(format!("k{i}"), i))).await;
    session.wait(1).await;
    assert_eq!((session.done[&1].0.committed, store.items("t").len()), (30, 30));
    bed.finish(vec![session]).await;
}

#[tokio::test(start_paused = true)]
async fn fault_21_access_denied_for_a_moment_is_waited_out() {
    // All calls of a moment are denied together: that is one denial, not many.
    let began = Instant::now();
    let store =
        ScriptedStore::with(move |_| if began.elapsed() < 60 * MS { Fate::denied() } else { Fate::Written }.into());
    let bed = Bed::over(&store).start();
    let mut session = bed.session();
    session.send((0..1000).map(|i| put(format!("k{i}"), i))).await;
    session.wait(1).await;
    assert_eq!(session.failure, None);
    assert_eq!(session.done[&1].0.committed, 1000);
    bed.finish(vec![session]).await;
}

#[tokio::test(start_paused = true)]
async fn fault_21_access_denied_for_long_ends_the_session() {
    let store = ScriptedStore::with(|_| Fate::denied().into());
    let bed = Bed::over(&store).lanes(1).start();
    let mut session = bed.session();
    session.send((0..100).map(|i| put(format!("k{i}"), i))).await;
    let failure = session.fails().await;
    assert!(matches!(failure, SessionFailure::Access { .. }), "{failure:?}");
    assert!(session.done.is_empty());
    let rounds: std::collections::BTreeSet<_> = store.calls().iter().map(|call| call.at).collect();
    assert!(rounds.len() >= 3, "a few tries: {}", rounds.len());
    bed.finish(vec![session]).await;
}

#[tokio::test(start_paused = true)]
async fn fault_21_denials_are_counted_apart_from_other_failures() {
    let store = ScriptedStore::with(|call| match call.number {
        0..6 => Fate::not_sent().into(),
        6 => Fate::denied().into(),
        _ => Fate::Written.into(),
    });
    let bed = Bed::over(&store).lanes(1).start();
    let mut session = bed.session();
    session.send([put("k", 1)]).await;
    session.wait(1).await;
    assert_eq!(session.done[&1].0.committed, 1);
    bed.finish(vec![session]).await;
}

#[tokio::test(start_paused = true)]
async fn fault_22_a_deleted_table_ends_its_sessions_and_is_not_asked_for_again() {
    let store =
        ScriptedStore::with(|call| Fate::Fails(WriteError::TableMissing { table: call.table.to_string() }).into());
    let bed = Bed::over(&store).lanes(2).start();
    let mut session = bed.session();
    session.send((0..2000).map(|i| put(format!("k{i}"), i))).await;
    let failure = session.fails().await;
    assert_eq!(failure, SessionFailure::TableMissing { table: "t".to_owned() });
    drop(session);
    sleep(seconds(1)).await;
    let calls = store.calls().len();
    sleep(seconds(60)).await;
    assert_eq!(store.calls().len(), calls, "no endless retry");
    assert_eq!((bed.instruments.queued_rows.get(), bed.instruments.reserved_bytes.get()), (0, 0));
    bed.finish(vec![]).await;
}

#[tokio::test(start_paused = true)]
async fn fault_26_a_cancelled_session_loses_its_waiting_rows_and_nothing_else() {
    let store = ScriptedStore::with(|_| Fate::Written.after(100 * MS));
    let bed = Bed::over(&store).lanes(1).in_flight(1).start();
    let (mut gone, mut stays) = (bed.session(), bed.session());
    gone.send((0..25).map(|i| put(format!("first{i}"), i))).await;
    sleep(10 * MS).await;
    // These wait: one attempt may be in flight.
    gone.send((0..100).map(|i| put(format!("second{i}"), i))).await;
    // A coalesced key: the survivor is the gone session's, a part of it is not.
    stays.send([put("shared", 1)]).await;
    gone.send([put("shared", 2)]).await;
    drop(gone);
    stays.wait(1).await;
    sleep(seconds(5)).await;
    let items = store.items("t");
    assert_eq!(items.keys().filter(|key| key.contains("first")).count(), 25, "the attempt in flight was not torn");
    assert_eq!(items.keys().filter(|key| key.contains("second")).count(), 0, "waiting rows are dropped");
    assert_eq!(items.iter().find(|(key, _)| key.contains("shared")).map(|(_, item)| version_of(item)), Some(1));
    assert_eq!(bed.instruments.rows_with("dropped"), 101);
    bed.finish(vec![stays]).await;
}

#[tokio::test(start_paused = true)]
async fn a_cancelled_sessions_attempt_in_flight_is_not_retried() {
    let store = ScriptedStore::with(|_| Fate::LostRequest.after(100 * MS));
    let bed = Bed::over(&store).start();
    let mut session = bed.session();
    session.send((0..10).map(|i| put(format!("k{i}"), i))).await;
    sleep(10 * MS).await;
    let calls = store.calls().len();
    drop(session);
    sleep(seconds(60)).await;
    assert_eq!(store.calls().len(), calls);
    bed.finish(vec![]).await;
}

#[tokio::test(start_paused = true)]
async fn bulk_rows_yield_to_interactive_ones_without_starving() {
    let store = ScriptedStore::with(|_| Fate::Written.after(10 * MS));
    let bed = Bed::over(&store).lanes(1).in_flight(2).start();
    let (mut bulk, mut live) = (bed.bulk_session(), bed.session());
    bulk.send((0..5000).map(|i| put(format!("bulk{i}"), i))).await;
    sleep(20 * MS).await;
    let asked = Instant::now();
    live.send((0..50).map(|i| put(format!("live{i}"), i))).await;
    live.wait(1).await;
    assert!(asked.elapsed() <= 40 * MS, "interactive rows waited {:?} behind a back-fill", asked.elapsed());
    // And the other way round: a flood of interactive rows lets bulk rows through.
    let feeder = tokio::spawn(async move {
        for batch in 0..200 {
            live.send((0..50).map(|i| put(format!("flood{batch}x{i}"), i))).await;
            sleep(8 * MS).await;
        }
        live
    });
    let before = bed.instruments.rows_with("committed");
    sleep(seconds(1)).await;
    let written = store.items("t").keys().filter(|key| key.contains("bulk")).count();
    assert!(written > 200, "bulk rows starve: {written} of 5000, {before}");
    let live = feeder.await.unwrap();
    bulk.wait(1).await;
    bed.finish(vec![bulk, live]).await;
}

#[tokio::test(start_paused = true)]
async fn an_interactive_row_of_a_key_that_waits_as_bulk_takes_it_along() {
    let store = ScriptedStore::with(|_| Fate::Written.after(10 * MS));
    let bed = Bed::over(&store).lanes(1).in_flight(1).start();
    let (mut bulk, mut live) = (bed.bulk_session(), bed.session());
    bulk.send((0..2500).map(|i| put(format!("k{i}"), i))).await;
    sleep(5 * MS).await;
    let asked = Instant::now();
    live.send([put("k2499", 9999)]).await;
    live.wait(1).await;
    assert!(asked.elapsed() <= 30 * MS, "{:?}", asked.elapsed());
    bulk.wait(1).await;
    bed.finish(vec![bulk, live]).await;
}

#[tokio::test(start_paused = true)]
async fn batches_are_nearly_full_at_half_load() {
    let store = ScriptedStore::with(|_| Fate::Written.after(20 * MS));
    let bed = Bed::over(&store).lanes(4).in_flight(64).start();
    // 64 attempts of 20 ms and 25 items are 80,000 rows a second; this is half of it.
    let mut feeders = tokio::task::JoinSet::new();
    for number in 0..8 {
        let mut session = bed.session();
        feeders.spawn(async move {
            for batch in 0..40 {
                session.send((0..500).map(|i| put(format!("s{number}b{batch}i{i}"), i))).await;
                sleep(100 * MS).await;
            }
            session.wait(40).await;
            session
        });
    }
    let sessions = feeders.join_all().await;
    let calls = store.calls();
    let mean = calls.iter().map(|call| call.items.len()).sum::<usize>() as f64 / calls.len() as f64;
    assert!(mean >= 20.0, "{mean} items a call");
    bed.finish(sessions).await;
}

#[tokio::test(start_paused = true)]
async fn fault_13_memory_is_never_reserved_beyond_the_budget_and_nobody_deadlocks() {
    let store = ScriptedStore::with(|_| Fate::Written.after(3 * MS));
    let budget = 128 << 10;
    let bed = Bed::over(&store).memory(budget).start();
    let mut feeders = tokio::task::JoinSet::new();
    for number in 0..50 {
        let mut session = bed.session();
        feeders.spawn(async move {
            for batch in 0..10u64 {
                // Every tenth chunk is larger than the whole budget.
                let rows = if (batch + number).is_multiple_of(10) { 2000 } else { 30 };
                session.send((0..rows).map(|i| put(format!("s{number}b{batch}i{i}"), i))).await;
            }
            session.wait(10).await;
            session
        });
    }
    let watched = Arc::clone(&bed.instruments);
    let watch = tokio::spawn(async move {
        loop {
            assert!(watched.reserved_bytes.get() <= budget as i64);
            sleep(MS).await;
        }
    });
    let sessions = timeout(seconds(600), feeders.join_all()).await.expect("no deadlock");
    assert!(!watch.is_finished(), "the budget was overdrawn");
    watch.abort();
    bed.finish(sessions).await;
}

#[tokio::test(start_paused = true)]
async fn fault_14_a_hot_partition_does_not_hold_up_its_neighbours() {
    let store = ScriptedStore::with(|call| {
        let hot: Vec<usize> = call
            .items
            .iter()
            .enumerate()
            .filter(|(_, item)| String::from_utf8_lossy(&item.json).contains("hot/"))
            .map(|(index, _)| index)
            .collect();
        match hot.len() {
            0 => Fate::Written.into(),
            some if some == call.items.len() => Fate::throttled(ThrottleReason::KeyRange).into(),
            _ => Fate::Unprocessed(hot).into(),
        }
    });
    let bed = Bed::over(&store).lanes(1).in_flight(8).start();
    let (mut hot, mut cool) = (bed.session(), bed.session());
    hot.send((0..200).map(|i| put(format!("hot/{i}"), i))).await;
    sleep(seconds(10)).await;
    assert!(hot.done.is_empty() && hot.link.trouble() == Trouble::PartitionThrottled);
    let mut slowest = Duration::ZERO;
    for batch in 1..=100 {
        let asked = Instant::now();
        cool.send((0..20).map(|i| put(format!("cool{batch}/{i}"), i))).await;
        cool.wait(batch).await;
        slowest = slowest.max(asked.elapsed());
        sleep(20 * MS).await;
    }
    assert!(slowest <= 100 * MS, "neighbours of a hot partition waited {slowest:?}");
    store.script(|_| Fate::Written.into());
    hot.wait(1).await;
    bed.finish(vec![hot, cool]).await;
}

#[tokio::test(start_paused = true)]
async fn rows_that_never_had_a_try_know_what_kept_them() {
    // So many rows wait that most of them are not tried before the deadline of their session.
    for (fate, trouble) in
        [(Fate::not_sent(), Trouble::Unavailable), (Fate::throttled(ThrottleReason::Account), Trouble::TableThrottled)]
    {
        let store = ScriptedStore::with(move |_| fate.clone().into());
        let bed = Bed::over(&store).lanes(1).in_flight(1).start();
        let (mut first, mut last) = (bed.session(), bed.session());
        first.send((0..2000).map(|i| put(format!("first{i}"), i))).await;
        last.send([put("last", 1)]).await;
        sleep(seconds(5)).await;
        assert_eq!((first.link.trouble(), last.link.trouble()), (trouble, trouble));
        drop((first, last));
        bed.finish(vec![]).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_lane_with_a_full_window_sleeps_while_retries_are_due() {
    let _watchdog = watchdog("the lane spins");
    // The second call fails at once; its rows are due while the first one still takes the only place.
    let store = ScriptedStore::with(|call| {
        if call.carries("fails") && call.number < 3 {
            Fate::Unprocessed((0..call.items.len()).collect()).after(MS)
        } else {
            Fate::Written.after(seconds(4))
        }
    });
    let bed = Bed::over(&store).lanes(1).in_flight(1).start();
    let mut session = bed.session();
    session.send([put("fails", 1)]).await;
    sleep(Duration::from_micros(500)).await;
    session.send((0..60).map(|i| put(format!("slow{i}"), i))).await;
    session.wait(2).await;
    bed.finish(vec![session]).await;
}

#[tokio::test(start_paused = true)]
async fn tables_do_not_wait_for_each_other() {
    let store =
        ScriptedStore::with(
            |call| {
                if &*call.table == "broken" { Fate::not_sent().into() } else { Fate::Written.into() }
            },
        );
    let bed = Bed::over(&store).lanes(1).in_flight(2).start();
    let (mut broken, mut whole) = (bed.session_on("broken"), bed.session());
    broken.send((0..1000).map(|i| put(format!("k{i}"), i))).await;
    for batch in 1..=50 {
        let asked = Instant::now();
        whole.send((0..10).map(|i| put(format!("k{batch}x{i}"), i))).await;
        whole.wait(batch).await;
        assert!(asked.elapsed() <= 20 * MS, "{:?}", asked.elapsed());
    }
    drop(broken);
    bed.finish(vec![whole]).await;
}

#[tokio::test(start_paused = true)]
async fn a_session_hears_when_the_lanes_that_hold_its_rows_are_gone() {
    let store = ScriptedStore::with(|_| Fate::Written.after(seconds(3600)));
    let bed = Bed::over(&store).start();
    let mut session = bed.session();
    session.send((0..10).map(|i| put(format!("k{i}"), i))).await;
    sleep(MS).await;
    let instruments = Arc::clone(&bed.instruments);
    let died = bed.tasks.died();
    bed.kill_lanes().await;
    assert!(died.is_cancelled(), "the process hears of it, too");
    assert!(timeout(seconds(1), session.fails()).await.is_ok());
    assert_eq!((instruments.queued_rows.get(), instruments.reserved_bytes.get()), (0, 0));
    assert_eq!(instruments.attempts_in_flight.get(), 0);
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_makes_no_sense_acks_nothing_it_should_not() {
    // More unprocessed items than there are, and one of them twice.
    let calls = Arc::new(AtomicU32::new(0));
    let counted = Arc::clone(&calls);
    let store = ScriptedStore::with(move |_| match counted.fetch_add(1, Ordering::Relaxed) {
        0 => Fate::Unprocessed(vec![0, 0, 7, 1, 2]).into(),
        _ => Fate::Written.into(),
    });
    let bed = Bed::over(&store).lanes(1).start();
    let mut session = bed.session();
    session.send((0..3).map(|i| put(format!("k{i}"), i))).await;
    session.wait(1).await;
    assert_eq!((session.done[&1].0.committed, store.items("t").len()), (3, 3));
    bed.finish(vec![session]).await;
}
