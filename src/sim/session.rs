//! A session of a scenario: offers its workload's rows on schedule, as far as its writer has room. Thin I/O on tokio's
//! clock. The caller is `run`.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep_until};

use super::ledger::SharedLedger;
use super::workload::{SimRow, Source};

/// Takes a session's rows to the store, and tells the ledger.
pub trait Writer: Send {
    /// Whether it takes more rows now.
    fn has_room(&self) -> bool;
    /// Rows that it has and whose outcome it does not know.
    fn open_rows(&self) -> usize;
    /// Why it cannot go on.
    fn failure(&self) -> Option<&str>;
    /// Takes rows; may wait for memory.
    fn submit(&mut self, rows: Vec<SimRow>) -> impl Future<Output = ()> + Send;
    /// Waits until something becomes of its rows. May be dropped while it waits.
    fn progress(&mut self) -> impl Future<Output = ()> + Send;
}

/// When a session does what.
#[derive(Debug, Clone, Copy)]
pub struct Schedule {
    /// When rows are first offered,
    pub from: Instant,
    /// until when,
    pub until: Instant,
    /// and when outcomes are no longer waited for.
    pub give_up: Instant,
    /// Rows offered a second by this session; `None` for as fast as they are taken.
    pub rows_per_second: Option<f64>,
}

/// Rows of a schedule are handed over this often, or when a batch is full (chosen: a source that streams).
const FLUSH_EVERY: Duration = Duration::from_millis(50);

/// Runs a session to its end; gives why it failed, if it did.
pub async fn run<W: Writer>(
    source: Arc<Source>,
    schedule: Schedule,
    ledger: SharedLedger,
    mut writer: W,
    mut rng: fastrand::Rng,
) -> Option<String> {
    let Schedule { from, until, give_up, rows_per_second } = schedule;
    let batch_rows = source.workload().batch_rows as u64;
    let (mut offered, mut next) = (0u64, from + FLUSH_EVERY.mul_f64(rng.f64()));
    loop {
        let now = Instant::now();
        let offering = now < until && writer.failure().is_none();
        if now >= give_up || (!offering && writer.open_rows() == 0) {
            return writer.failure().map(str::to_owned);
        }
        let has_room = offering && writer.has_room();
        let wake = if has_room { next.min(until) } else { until.max(now) };
        let wake = if offering { wake } else { give_up };
        tokio::select! {
            biased;
            () = writer.progress(), if writer.open_rows() > 0 => continue,
            () = sleep_until(wake) => {}
        }
        let now = Instant::now();
        if !has_room || now >= until || now < next {
            continue;
        }
        let rows = match rows_per_second {
            None => batch_rows,
            Some(rate) => {
                // What is due since the start, less what was offered.
                let due = ((now - from).as_secs_f64() * rate) as u64;
                let owed = due.saturating_sub(offered);
                ledger.lock().behind(source.index, owed.saturating_sub((rate * FLUSH_EVERY.as_secs_f64()) as u64 + 1));
                if owed < batch_rows {
                    next = now + FLUSH_EVERY;
                }
                owed.min(batch_rows)
            }
        };
        if rows > 0 {
            offered += rows;
            let draw = |_| source.draw(ledger.lock().next_version(), &mut rng);
            let rows = (0..rows).map(draw).collect();
            writer.submit(rows).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;
    use crate::sim::ledger::Ledger;
    use crate::sim::scenario::Scenario;
    use crate::sim::{Model, ModelConfig};

    /// Takes rows except in one time, and is done with them at once.
    struct Sink {
        taken: Arc<Mutex<Vec<(Duration, usize)>>>,
        started: Instant,
        full: std::ops::Range<u64>,
    }

    impl Writer for Sink {
        fn has_room(&self) -> bool {
            !self.full.contains(&self.started.elapsed().as_secs())
        }

        fn open_rows(&self) -> usize {
            // While it is full it has something whose outcome is awaited.
            usize::from(!self.has_room())
        }

        fn failure(&self) -> Option<&str> {
            None
        }

        async fn submit(&mut self, rows: Vec<SimRow>) {
            self.taken.lock().unwrap().push((self.started.elapsed(), rows.len()));
        }

        async fn progress(&mut self) {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    async fn taken(full: std::ops::Range<u64>) -> (Vec<(Duration, usize)>, u64) {
        let text = "
name: n
duration: 20s
table: {billing: on_demand}
workloads: [{name: w, item_bytes: 200, batch_rows: 100, keys: {count: 300}}]
";
        let scenario = Scenario::parse("s.yaml", text).unwrap();
        let source = Arc::clone(&Source::all(&scenario, &Model::new(ModelConfig::new(1)))[0]);
        let ledger = SharedLedger::new(Ledger::new(1, Duration::ZERO..scenario.duration, &[]));
        let (started, taken) = (Instant::now(), Arc::default());
        let schedule = Schedule {
            from: started,
            until: started + scenario.duration,
            give_up: started + 2 * scenario.duration,
            rows_per_second: Some(250.0),
        };
        let sink = Sink { taken: Arc::clone(&taken), started, full };
        assert_eq!(run(source, schedule, ledger.clone(), sink, fastrand::Rng::with_seed(1)).await, None);
        let (taken, behind) = (taken.lock().unwrap().clone(), ledger.lock().workloads[0].behind_rows);
        (taken, behind)
    }

    #[tokio::test(start_paused = true)]
    async fn rows_are_offered_at_the_rate_that_was_set() {
        let (taken, behind) = taken(0..0).await;
        let by = |seconds| -> usize {
            let until = Duration::from_secs(seconds);
            taken.iter().filter(|(at, _)| *at <= until).map(|(_, rows)| rows).sum()
        };
        for seconds in [1, 5, 10, 20] {
            let wanted = 250 * seconds as usize;
            assert!((wanted - 25..=wanted).contains(&by(seconds)), "{seconds}: {}", by(seconds));
        }
        assert!(behind <= 1, "{behind}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_schedule_that_was_held_up_is_caught_up_with() {
        let (taken, behind) = taken(5..10).await;
        let rows: usize = taken.iter().map(|(_, rows)| rows).sum();
        assert!((4_950..=5_000).contains(&rows), "{rows}");
        assert!((1_200..1_300).contains(&behind), "{behind}");
        // A real writer is full only by what it was given; this one may be given one more while it gets so.
        assert!(taken.iter().all(|(at, rows)| !(5_100..10_000).contains(&at.as_millis()) && *rows <= 100));
    }
}
