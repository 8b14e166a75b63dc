//! No widening hides a row: pods with copies of different ages, clocks that differ, records that land late.

use std::time::Duration;

use proptest::prelude::*;
use tokio::time::Instant;

use super::known::{Known, Times, View, Widening};
use crate::payload::shard::{place, place_among_fewer};

const TIMES: Times =
    Times { ttl: Duration::from_secs(10), skew: Duration::from_secs(2), patience: Duration::from_secs(20) };
const MAX_SHARDS: u32 = 16;

/// A gateway.
struct Pod {
    known: Known,
    view: View,
    loaded_at: Option<Instant>,
    /// When a read of the map began that is not done yet.
    reading_since: Option<u64>,
    clock_ms: i64,
}

/// A row that some pod writes.
struct Row {
    sort: String,
    place: u8,
    confirmed_ms: u64,
}

struct World {
    start: Instant,
    now_ms: u64,
    random: fastrand::Rng,
    pods: Vec<Pod>,
    /// Records and when they land.
    records: Vec<(u64, Widening)>,
    rows: Vec<Row>,
    rows_in_shards: usize,
    reads: usize,
}

impl World {
    fn new(seed: u64, pods: usize, clocks_apart_ms: i64) -> Self {
        let mut random = fastrand::Rng::with_seed(seed);
        let pod = |clock_ms| Pod {
            known: Known::default(),
            view: View::default(),
            loaded_at: None,
            reading_since: None,
            clock_ms,
        };
        let pods = (0..pods).map(|_| pod(random.i64(-clocks_apart_ms..=clocks_apart_ms))).collect();
        let (start, records, rows) = (Instant::now(), Vec::new(), Vec::new());
        Self { start, now_ms: 0, random, pods, records, rows, rows_in_shards: 0, reads: 0 }
    }

    fn at(&self, ms: u64) -> Instant {
        self.start + Duration::from_millis(ms)
    }

    /// What a pod's clock shows.
    fn clock(&self, pod: usize) -> u64 {
        (1_700_000_000_000 + self.now_ms as i64 + self.pods[pod].clock_ms) as u64
    }

    fn step(&mut self) {
        self.now_ms += self.random.u64(0..400);
        let pod = self.random.usize(0..self.pods.len());
        match self.random.u32(0..10) {
            0..3 => self.read_map(pod),
            3 => self.widen(pod),
            4..7 => self.write(pod),
            _ => self.read(pod),
        }
    }

    /// Begins to read the map, or is done with it: what landed before it began is seen, what landed since may be.
    fn read_map(&mut self, pod: usize) {
        let Some(began) = self.pods[pod].reading_since.take() else {
            self.pods[pod].reading_since = Some(self.now_ms);
            return;
        };
        if self.random.u32(0..5) == 0 {
            return;
        }
        let (now_ms, now, clock, loaded_at) = (self.now_ms, self.at(self.now_ms), self.clock(pod), self.at(began));
        let mut seen = Vec::new();
        for (landed, record) in &self.records {
            if *landed <= began || (*landed <= now_ms && self.random.bool()) {
                seen.push(record.clone());
            }
        }
        let pod = &mut self.pods[pod];
        pod.known.absorb(seen, now);
        pod.view = pod.known.view(TIMES, now, clock);
        pod.loaded_at = Some(loaded_at);
    }

    fn is_fresh(&self, pod: usize) -> bool {
        let loaded_at = self.pods[pod].loaded_at;
        loaded_at.is_some_and(|at| self.at(self.now_ms).saturating_duration_since(at) <= TIMES.ttl)
    }

    /// Announces the next step, which lands at once or very late, or not at all where there is one already.
    fn widen(&mut self, pod: usize) {
        let clock = self.clock(pod);
        let Some(step) = self.pods[pod].known.next_step(TIMES, "events", "hot", MAX_SHARDS, clock) else { return };
        let late = if self.random.bool() { 100 } else { 60_000 };
        let landed = self.now_ms + self.random.u64(0..late);
        // A compare-and-set: the first to land stays.
        match self.records.iter_mut().find(|(_, record)| record.shards == step.shards) {
            Some(known) if landed < known.0 => *known = (landed, step),
            Some(_) => {}
            None => self.records.push((landed, step)),
        }
    }

    fn write(&mut self, pod: usize) {
        if !self.is_fresh(pod) {
            return;
        }
        let sort = format!(r#"{{"N":"{}"}}"#, self.rows.len());
        let shards = self.pods[pod].view.of("events").writers.of("hot");
        self.rows_in_shards += usize::from(shards > 1);
        // Rows wait in the pool for as long as they must.
        let confirmed_ms = self.now_ms + self.random.u64(0..30_000);
        self.rows.push(Row { place: place(sort.as_bytes(), shards), sort, confirmed_ms });
    }

    /// Every row that is confirmed is at a place where a reader looks.
    fn read(&mut self, pod: usize) {
        if !self.is_fresh(pod) {
            return;
        }
        self.reads += 1;
        let shards = self.pods[pod].view.of("events").readers.of("hot");
        for row in self.rows.iter().filter(|row| row.confirmed_ms <= self.now_ms) {
            let newest = place(row.sort.as_bytes(), shards);
            let by_key = (0..=shards.ilog2()).any(|n| place_among_fewer(newest, 1 << n) == row.place);
            assert!(by_key, "a read by key misses a row at {} of {shards} shards", row.place);
            assert!(u32::from(row.place) < shards, "a range misses a row at {} of {shards} shards", row.place);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn no_row_is_hidden_while_a_key_is_widened(
        seed in any::<u64>(), pods in 2usize..4, clocks_apart_ms in prop_oneof![Just(1_000i64), Just(3_600_000)],
    ) {
        let mut world = World::new(seed, pods, clocks_apart_ms);
        for _ in 0..1_500 {
            world.step();
        }
        prop_assert!(world.reads > 50, "only {} reads", world.reads);
    }
}

#[test]
fn the_simulation_does_widen_keys() {
    let mut in_shards = 0;
    for seed in 0..20 {
        let mut world = World::new(seed, 2, 1_000);
        (0..1_500).for_each(|_| world.step());
        in_shards += world.rows_in_shards;
    }
    assert!(in_shards > 1_000, "only {in_shards} rows were written to shards");
}

fn step(shards: u32, effective_at_ms: u64) -> Widening {
    Widening { table: "events".to_owned(), partition: "hot".to_owned(), shards, effective_at_ms }
}

#[test]
fn readers_look_at_a_step_at_once_and_writers_use_it_when_no_copy_without_it_is_left() {
    let (mut known, start) = (Known::default(), Instant::now());
    let counts = |known: &Known, seconds: u64, now_ms: u64| {
        let counts = known.view(TIMES, start + Duration::from_secs(seconds), now_ms).of("events");
        (counts.readers.of("hot"), counts.writers.of("hot"))
    };
    assert_eq!(counts(&known, 0, 0), (1, 1));
    known.absorb(vec![step(2, 12_000)], start);
    assert_eq!(counts(&known, 0, 0), (2, 1));
    assert_eq!(counts(&known, 11, 20_000), (2, 1), "a clock that is ahead is not believed");
    assert_eq!(counts(&known, 20, 11_999), (2, 1), "the record's time is kept to");
    known.absorb(vec![step(2, 12_000)], start + Duration::from_secs(11));
    assert_eq!(counts(&known, 12, 12_000), (2, 2), "it was seen at first, not at last");
    known.absorb(vec![step(2, 12_000), step(4, 12_000)], start + Duration::from_secs(60));
    assert_eq!(counts(&known, 61, 61_000), (4, 2));
    let others = known.view(TIMES, start, 0);
    assert_eq!((others.of("events").readers.of("cold"), others.of("nowhere").readers.of("hot")), (1, 1));
}

#[test]
fn a_key_is_doubled_up_to_its_most_and_not_before_the_last_step_could_help() {
    let (mut known, start) = (Known::default(), Instant::now());
    let next = |known: &Known, max, now_ms| known.next_step(TIMES, "events", "hot", max, now_ms);
    let first = next(&known, 4, 1_000_000).unwrap();
    assert_eq!(first, step(2, 1_012_000), "ttl and skew ahead");
    known.absorb(vec![first], start);
    assert_eq!(next(&known, 4, 1_031_999), None, "twenty seconds of use");
    let second = next(&known, 4, 1_032_000).unwrap();
    assert_eq!(second.shards, 4);
    known.absorb(vec![step(2, 1_012_000), second], start);
    assert_eq!(next(&known, 4, 9_000_000), None);
    assert_eq!(next(&known, 8, 9_000_000).unwrap().shards, 8);
}
