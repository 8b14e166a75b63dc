//! A soak of the write pool: several writers, random faults, virtual time, and a check of all that is stored.
//!
//! A seed is a run. `FOREBAY_SOAK_SEEDS=200 cargo test --test pool_soak` runs more of them.

#![allow(clippy::unwrap_used, reason = "helpers of tests are tests")]

#[path = "common/history.rs"]
mod history;
#[path = "common/pool_bed.rs"]
mod pool_bed;
#[path = "common/scripted_store.rs"]
mod scripted_store;

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use forebay::store::{ThrottleReason, WriteError};
use history::{Broken, Effect, History, Place};
use pool_bed::{Bed, Session, TestRow, delete, key_of, put, version_of};
use scripted_store::{Call, Fate, Reply, ScriptedStore};
use tokio::time::sleep;

const WRITERS: u32 = 5;
const BATCHES: u64 = 40;

/// How often each fault came.
type Faults = BTreeMap<&'static str, u32>;

/// Random faults, now and then an outage of some seconds, and refusal of what is marked.
fn script(mut rng: fastrand::Rng, faults: Arc<Mutex<Faults>>) -> impl FnMut(&Call) -> Reply + Send {
    let mut away_until = None;
    move |call| {
        let note = |what| *faults.lock().unwrap().entry(what).or_default() += 1;
        let after = Duration::from_micros(rng.u64(500..20_000));
        if call.carries("bad mark") {
            note("validation");
            return Fate::refused().after(after);
        }
        if away_until.is_some_and(|until| call.at < until) {
            note("outage");
            return Fate::not_sent().after(after);
        }
        let fate = match rng.u32(0..1000) {
            0..150 => {
                note("unprocessed");
                let some = (0..call.items.len()).filter(|_| rng.bool()).collect();
                if call.alone { Fate::throttled(ThrottleReason::KeyRange) } else { Fate::Unprocessed(some) }
            }
            150..200 => {
                note("throttled");
                Fate::throttled(if rng.bool() { ThrottleReason::Account } else { ThrottleReason::KeyRange })
            }
            200..230 => {
                note("answer lost");
                Fate::LostAnswer
            }
            230..260 => {
                note("request lost");
                Fate::LostRequest
            }
            260..265 => {
                note("call died");
                Fate::Panics
            }
            265..275 => {
                note("denied");
                Fate::denied()
            }
            275..277 => {
                note("table missing");
                Fate::Fails(WriteError::TableMissing { table: call.table.to_string() })
            }
            277..280 => {
                away_until = Some(call.at + Duration::from_millis(rng.u64(100..10_000)));
                Fate::not_sent()
            }
            _ => Fate::Written,
        };
        fate.after(after)
    }
}

/// A writer as the protocol wants it: it sends again, in order, what was not acked when a call ended.
struct Writer {
    number: u32,
    rng: fastrand::Rng,
    bed: Arc<Bed>,
    history: Arc<Mutex<History>>,
    session: Session,
    /// Batches without ack, with the places of their rows.
    unacked: VecDeque<(u64, Vec<(TestRow, Place)>)>,
    calls: u32,
}

impl Writer {
    async fn run(mut self) -> u32 {
        for batch in 0..BATCHES {
            let rows = (0..self.rng.usize(1..60)).map(|row| self.row(batch * 1000 + row as u64)).collect();
            self.send(rows).await;
            match self.rng.u32(0..100) {
                // The client goes away without a word, and comes again.
                0..3 => self.reopen().await,
                3..40 => sleep(Duration::from_millis(self.rng.u64(0..200))).await,
                40..60 => {
                    let oldest = self.unacked.front().map(|(seq, _)| *seq);
                    if let Some(seq) = oldest {
                        self.wait(seq).await;
                    }
                }
                _ => {}
            }
        }
        // Some never hear the end: what they had no ack for may be there or not.
        if self.rng.u32(0..4) > 0 {
            while !self.unacked.is_empty() {
                self.hear().await;
            }
        }
        self.calls
    }

    fn row(&mut self, number: u64) -> TestRow {
        let key = match self.rng.u32(0..10) {
            // Few keys of its own, so that rows coalesce; keys shared by all; fresh keys.
            0..4 => format!("own{}/{}", self.number, self.rng.u32(0..5)),
            4..6 => format!("shared/{}", self.rng.u32(0..5)),
            _ => format!("fresh{}/{number}", self.number),
        };
        if self.rng.u32(0..5) == 0 {
            return delete(key);
        }
        let mark = if self.rng.u32(0..300) == 0 { "bad mark" } else { "" };
        TestRow { mark, ..put(key, u64::from(self.number) * 1_000_000 + number) }
    }

    async fn send(&mut self, rows: Vec<TestRow>) {
        let places = {
            let mut history = self.history.lock().unwrap();
            rows.iter().map(|row| history.sent(self.number, &row.key, row.effect)).collect::<Vec<_>>()
        };
        let seq = self.session.send(rows.clone()).await;
        self.unacked.push_back((seq, rows.into_iter().zip(places).collect()));
        self.session.poll();
        self.book().await;
    }

    async fn wait(&mut self, seq: u64) {
        let calls = self.calls;
        while calls == self.calls && self.unacked.front().is_some_and(|(oldest, _)| *oldest <= seq) {
            self.hear().await;
        }
    }

    async fn hear(&mut self) {
        self.session.next().await;
        self.book().await;
    }

    /// Notes what was heard.
    async fn book(&mut self) {
        {
            let mut history = self.history.lock().unwrap();
            // Acks come in order: were a batch acked before an older one, sending that again would undo it.
            while let Some((seq, rows)) = self.unacked.front()
                && let Some((totals, fates)) = self.session.done.get(seq)
            {
                assert_eq!(totals.committed as usize + totals.superseded as usize + fates.len(), rows.len());
                for (index, (row, place)) in rows.iter().enumerate() {
                    if fates.iter().any(|(rejected, _)| *rejected as usize == index) {
                        assert_eq!(row.mark, "bad mark", "a good row was rejected");
                        history.rejected(place);
                    } else {
                        history.acked(place);
                    }
                }
                self.unacked.pop_front();
            }
        }
        if self.session.failure.is_some() {
            self.reopen().await;
        }
    }

    async fn reopen(&mut self) {
        loop {
            self.calls += 1;
            self.session = self.bed.session();
            for (seq, rows) in &mut self.unacked {
                *seq = self.session.send(rows.iter().map(|(row, _)| row.clone())).await;
            }
            self.session.poll();
            if self.session.failure.is_none() {
                return;
            }
        }
    }
}

/// A gateway that would break its promise.
#[derive(Clone, Copy)]
enum Lie {
    UnprocessedIgnored,
    AckBeforeWrite,
}

fn run(seed: u64, lie: Option<Lie>) -> (Faults, Vec<Broken>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    runtime.block_on(soak(seed, lie))
}

async fn soak(seed: u64, lie: Option<Lie>) -> (Faults, Vec<Broken>) {
    let mut rng = fastrand::Rng::with_seed(seed);
    let faults = Arc::new(Mutex::new(Faults::new()));
    let mut truth = script(rng.fork(), Arc::clone(&faults));
    let store = ScriptedStore::with(move |call| {
        let reply = truth(call);
        match (lie, reply.fate) {
            (Some(Lie::UnprocessedIgnored), Fate::Unprocessed(some)) => Fate::Swallowed(some).after(reply.after),
            (Some(Lie::AckBeforeWrite), Fate::LostRequest) => {
                Fate::Swallowed((0..call.items.len()).collect()).after(reply.after)
            }
            (_, fate) => fate.after(reply.after),
        }
    });
    store.forget_calls();
    let budget = rng.usize(64..1024) << 10;
    let bed = Bed::over(&store).seed(seed).lanes(rng.usize(1..5)).in_flight(rng.usize(1..33)).memory(budget);
    let bed = Arc::new(bed.coalesce(rng.u32(0..4) > 0).start());
    let history = Arc::new(Mutex::new(History::default()));
    let mut writers = tokio::task::JoinSet::new();
    for number in 1..=WRITERS {
        let writer = Writer {
            number,
            rng: rng.fork(),
            session: bed.session(),
            bed: Arc::clone(&bed),
            history: Arc::clone(&history),
            unacked: VecDeque::new(),
            calls: 1,
        };
        writers.spawn(writer.run());
    }
    let calls = tokio::time::timeout(Duration::from_secs(24 * 3600), writers.join_all()).await.expect("a deadlock");
    let mut faults = faults.lock().unwrap().clone();
    faults.insert("calls reopened", calls.iter().sum::<u32>() - WRITERS);
    let Ok(bed) = Arc::try_unwrap(bed) else { panic!("the writers are gone") };
    bed.finish(vec![]).await;
    let stored = store.items("t").iter().map(|(key, item)| (key_of(key), version_of(item))).collect();
    let history = history.lock().unwrap();
    let (sent, acked) = history.counts();
    assert!(sent >= 3000 && acked > sent / 2, "{sent} rows were sent and {acked} acked");
    (faults, history.check(&stored))
}

#[test]
fn whatever_fails_acked_rows_are_there_and_nothing_else_is() {
    let seeds = std::env::var("FOREBAY_SOAK_SEEDS").map_or(12, |seeds| seeds.parse().unwrap());
    let mut all = Faults::new();
    for seed in 1..=seeds {
        let (faults, broken) = run(seed, None);
        assert_eq!(broken, [], "seed {seed}");
        for (fault, times) in faults {
            *all.entry(fault).or_default() += times;
        }
    }
    println!("{seeds} seeds: {all:?}");
    assert!(all.len() >= 9 && all.values().all(|&times| times > 0), "every fault came: {all:?}");
}

#[test]
fn a_gateway_that_acks_too_early_does_not_pass() {
    for lie in [Lie::UnprocessedIgnored, Lie::AckBeforeWrite] {
        let (_, broken) = run(1, Some(lie));
        assert!(broken.iter().any(|broken| matches!(broken, Broken::Lost { .. })), "{broken:?}");
    }
}

#[test]
fn the_check_fails_on_what_it_must_fail_on() {
    let mut history = History::default();
    let first = history.sent(1, "a", Effect::Put(10));
    let second = history.sent(1, "a", Effect::Put(11));
    history.sent(1, "a", Effect::Put(12));
    history.sent(1, "b", Effect::Put(20));
    let rejected = history.sent(1, "c", Effect::Put(30));
    let deleted = history.sent(1, "d", Effect::Put(40));
    let delete = history.sent(1, "d", Effect::Delete);
    for place in [&first, &second, &deleted, &delete] {
        history.acked(place);
    }
    history.rejected(&rejected);
    let check = |stored: &[(&str, u64)]| {
        history.check(&stored.iter().map(|(key, version)| ((*key).to_owned(), *version)).collect())
    };
    let key = |key: &str| key.to_owned();
    assert_eq!(check(&[("a", 11)]), [], "the newest acked row; what was not acked may be missing");
    assert_eq!(check(&[("a", 12), ("b", 20)]), [], "what was not acked may also be there");
    assert_eq!(check(&[]), [Broken::Lost { key: key("a") }], "an acked row is missing");
    assert_eq!(check(&[("a", 10)]), [Broken::Older { key: key("a"), version: 10 }], "an older row over a newer one");
    assert_eq!(check(&[("a", 11), ("c", 30)]), [Broken::NeverSent { key: key("c"), version: 30 }], "a rejected row");
    assert_eq!(check(&[("a", 20)]), [Broken::NeverSent { key: key("a"), version: 20 }], "another key's row");
    assert_eq!(check(&[("a", 11), ("x", 1)]), [Broken::NeverSent { key: key("x"), version: 1 }], "a key of nobody");
    assert_eq!(check(&[("a", 11), ("d", 40)]), [Broken::Older { key: key("d"), version: 40 }], "a delete undone");
}
