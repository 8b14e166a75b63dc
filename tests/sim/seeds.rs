//! Many seeds, and the same seed twice.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use forebay::sim::FaultCounts;

use crate::run::{Outcome, honest, run};

/// Seeds of a plain `cargo test`.
const FEW: u64 = 24;
/// Findings of a seed that are printed.
const FEW_FINDINGS: usize = 4;
/// Runs side by side.
const THREADS: usize = 2;

fn number(variable: &str, otherwise: u64) -> u64 {
    match std::env::var(variable) {
        Ok(text) => text.parse().unwrap_or_else(|_| panic!("{variable} must be a number, and is `{text}`")),
        Err(_) => otherwise,
    }
}

/// Sums over all seeds.
#[derive(Debug, Default)]
struct Sums {
    seeds: u64,
    rows: usize,
    sends: usize,
    sessions: u64,
    virtual_seconds: u64,
    faults: FaultCounts,
    /// Seeds in which a fault struck at least once.
    seeds_with: BTreeMap<&'static str, u64>,
    seen: BTreeMap<String, u64>,
    failed: Vec<(u64, String)>,
}

impl Sums {
    fn add(&mut self, seed: u64, outcome: &Outcome) {
        self.seeds += 1;
        self.rows += outcome.rows;
        self.sends += outcome.sends;
        self.sessions += u64::from(outcome.sessions);
        self.virtual_seconds += outcome.virtual_time.as_secs();
        self.faults.add(&outcome.faults);
        for (name, count) in outcome.faults.iter() {
            *self.seeds_with.entry(name).or_default() += u64::from(count > 0);
        }
        for (what, count) in &outcome.seen {
            *self.seen.entry(what.clone()).or_default() += count;
        }
        let too_little =
            outcome.rows < 5_000 || outcome.virtual_time < Duration::from_secs(60) || outcome.faults.kinds() < 3;
        if !outcome.broken.is_empty() {
            let (few, all) = (&outcome.broken[..outcome.broken.len().min(FEW_FINDINGS)], outcome.broken.len());
            self.failed.push((seed, format!("{all} findings, among them {few:#?}")));
        } else if too_little {
            let (rows, kinds) = (outcome.rows, outcome.faults.kinds());
            self.failed.push((seed, format!("it is too little: {rows} rows, {kinds} kinds of fault")));
        }
    }

    fn print(&self) {
        let Self { seeds, rows, sends, sessions, virtual_seconds, .. } = self;
        eprintln!(
            "{seeds} seeds, {virtual_seconds} virtual seconds, {rows} rows sent {sends} times in {sessions} sessions"
        );
        eprintln!("faults by the model's count:");
        for (name, count) in self.faults.iter() {
            eprintln!("  {name:20} {count:>10} times, in {:>6} seeds", self.seeds_with.get(name).copied().unwrap_or(0));
        }
        eprintln!("seen by the pools:");
        for (what, count) in &self.seen {
            eprintln!("  {what:30} {count:>10} times");
        }
    }
}

#[test]
fn whatever_dynamodb_does_no_promise_is_broken() {
    let first = number("FOREBAY_SIM_FIRST_SEED", 1);
    let count = number("FOREBAY_SIM_SEEDS", FEW);
    let (next, sums) = (AtomicU64::new(first), Mutex::new(Sums::default()));
    std::thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= first + count {
                        break;
                    }
                    let outcome = std::panic::catch_unwind(|| run(seed, honest));
                    let mut sums = sums.lock().unwrap_or_else(PoisonError::into_inner);
                    match outcome {
                        Ok(outcome) => sums.add(seed, &outcome),
                        Err(_) => sums.failed.push((seed, "a panic; see above".to_owned())),
                    }
                }
            });
        }
    });
    let sums = sums.into_inner().unwrap_or_else(PoisonError::into_inner);
    sums.print();
    for (seed, why) in &sums.failed {
        eprintln!("seed {seed}: {why}");
        eprintln!("  FOREBAY_SIM_FIRST_SEED={seed} FOREBAY_SIM_SEEDS=1 cargo test --test sim whatever");
    }
    assert!(sums.failed.is_empty(), "{} of {count} seeds fail", sums.failed.len());
    if count >= FEW {
        for (name, seeds) in &sums.seeds_with {
            assert!(*seeds > 0, "{name} never struck");
        }
        for (what, times) in &sums.seen {
            assert!(*times > 0, "pools never saw: {what}");
        }
    }
}

#[test]
fn the_same_seed_gives_the_same_run() {
    for seed in [1, 2, 3] {
        let (once, again) = (run(seed, honest), run(seed, honest));
        assert_eq!((once.hash, once.sends, &once.seen), (again.hash, again.sends, &again.seen), "seed {seed}");
        assert_ne!(once.hash, run(seed + 100, honest).hash, "another seed is another run");
    }
}
