//! What others do, to compare with: the same rows, written without the pool.
//!
//! - **fixed**: what most connectors do. Each Spark task has eight BatchWriteItem calls in flight, whatever comes back;
//!   unprocessed items and exceptions are tried again after an exponential back-off with full jitter (50 ms to 20 s), without
//!   end.
//! - **SDK adaptive**: the same, through a client in the AWS SDK's adaptive retry mode: its rate limiter before every attempt,
//!   three attempts of an exception, a retry quota of 500 tokens; one client for the four tasks of an executor. As in
//!   reality, it takes an answer with unprocessed items for a success.
//!
//! Rows of one key within a batch are folded, since DynamoDB refuses the batch otherwise; there is no order between batches.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use hashbrown::HashMap;
use tokio::task::JoinSet;
use tokio::time::sleep;

use super::ledger::SharedLedger;
use super::rate_limiter::RateLimiter;
use super::scenario::TABLE;
use super::session::Writer;
use super::store::SimStore;
use super::workload::SimRow;
use crate::limits::BATCH_WRITE_MAX_OPERATIONS;
use crate::store::{BatchWrite, Store as _, WriteDone, WriteError};

/// Calls in flight of one task.
const CALLS_PER_TASK: usize = 8;
/// The bound of the first wait,
const BACKOFF_BASE: Duration = Duration::from_millis(50);
/// and of all waits.
const BACKOFF_MAX: Duration = Duration::from_secs(20);
/// The SDK's bound of the first wait.
const SDK_BACKOFF_BASE: Duration = Duration::from_secs(1);
/// The SDK's attempts of one call.
const SDK_ATTEMPTS: u32 = 3;
/// Tasks of one executor, which share a client.
const TASKS_PER_CLIENT: u64 = 4;
/// The SDK's retry quota.
const QUOTA: f64 = 500.0;
/// What a retry takes of the quota, and of the rate limiter's tokens,
const RETRY_COST: f64 = 5.0;
/// and one after a time-out.
const TIMEOUT_COST: f64 = 10.0;

/// What the tasks of a run share.
#[derive(Debug, Clone)]
pub struct DirectShared {
    /// Where rows go.
    pub store: Arc<SimStore>,
    /// What becomes of rows.
    pub ledger: SharedLedger,
    /// Rows that a task holds, at most, in bytes.
    pub window_bytes: u64,
    /// The SDK's clients; none for plain back-off.
    pub clients: Option<Arc<[SdkClient]>>,
}

impl DirectShared {
    /// Clients in adaptive mode for so many tasks.
    pub fn adaptive_clients(tasks: u64) -> Arc<[SdkClient]> {
        (0..tasks.div_ceil(TASKS_PER_CLIENT).max(1)).map(|_| SdkClient::default()).collect()
    }
}

/// An SDK client in adaptive mode.
#[derive(Debug)]
pub struct SdkClient(Mutex<(RateLimiter, f64)>);

impl Default for SdkClient {
    fn default() -> Self {
        Self(Mutex::new((RateLimiter::default(), QUOTA)))
    }
}

impl SdkClient {
    async fn permit(&self, tokens: f64, store: &SimStore) {
        loop {
            let now = store.now();
            let permit = self.0.lock().unwrap_or_else(PoisonError::into_inner).0.permit(tokens, now);
            match permit {
                Ok(()) => return,
                Err(wait) => sleep(wait).await,
            }
        }
    }

    fn note(&self, throttled: bool, now: Duration) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).0.note(throttled, now);
    }

    /// Whether a retry may be had.
    fn take_quota(&self, cost: f64) -> bool {
        let (_, quota) = &mut *self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let has = *quota >= cost;
        *quota -= if has { cost } else { 0.0 };
        has
    }

    fn give_quota(&self, tokens: f64) {
        let (_, quota) = &mut *self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *quota = (*quota + tokens).min(QUOTA);
    }

    /// One call with the SDK's own retries.
    async fn call(
        &self,
        store: &SimStore,
        request: &BatchWrite,
        rng: &mut fastrand::Rng,
    ) -> Result<WriteDone, WriteError> {
        let (mut tokens, mut taken) = (1.0, 0.0);
        for attempt in 1.. {
            self.permit(tokens, store).await;
            let result = store.batch_write(request.clone()).await;
            let throttled = matches!(result, Err(WriteError::Throttled { .. }));
            self.note(throttled, store.now());
            let cost = match &result {
                Err(WriteError::Throttled { .. } | WriteError::NotSent { .. }) => RETRY_COST,
                Err(WriteError::Unknown { .. }) => TIMEOUT_COST,
                _ => {
                    self.give_quota(if taken > 0.0 { taken } else { 1.0 });
                    return result;
                }
            };
            if attempt == SDK_ATTEMPTS || !self.take_quota(cost) {
                return result;
            }
            (tokens, taken) = (cost, cost);
            sleep(backoff(SDK_BACKOFF_BASE, attempt, rng)).await;
        }
        unreachable!("the last attempt returns")
    }
}

/// Full jitter.
fn backoff(base: Duration, attempt: u32, rng: &mut fastrand::Rng) -> Duration {
    let bound = base.saturating_mul(1 << attempt.saturating_sub(1).min(16)).min(BACKOFF_MAX);
    bound.mul_f64(rng.f64()).max(Duration::from_millis(1))
}

/// A task.
#[derive(Debug)]
pub struct DirectWriter {
    shared: DirectShared,
    workload: usize,
    client: usize,
    queue: VecDeque<SimRow>,
    queued_bytes: u64,
    calls: JoinSet<Call>,
    open_rows: usize,
    failure: Option<String>,
    rng: fastrand::Rng,
}

/// A call that has ended.
#[derive(Debug)]
struct Call {
    /// Key hashes and versions, also of folded rows.
    rows: Vec<(u64, u64)>,
    bytes: u64,
    failure: Option<WriteError>,
}

impl DirectWriter {
    /// A task of a workload.
    pub fn new(shared: DirectShared, workload: usize, id: u64, rng: fastrand::Rng) -> Self {
        let client = (id / TASKS_PER_CLIENT) as usize;
        let (queue, calls) = (VecDeque::new(), JoinSet::new());
        Self { shared, workload, client, queue, queued_bytes: 0, calls, open_rows: 0, failure: None, rng }
    }

    fn send(&mut self) {
        while self.calls.len() < CALLS_PER_TASK && !self.queue.is_empty() {
            let (mut items, mut rows, mut bytes) = (Vec::<SimRow>::new(), Vec::new(), 0);
            let mut at = HashMap::new();
            while let Some(row) = self
                .queue
                .pop_front_if(|row| items.len() < BATCH_WRITE_MAX_OPERATIONS || at.contains_key(&row.key_hash))
            {
                rows.push((row.key_hash, row.version));
                bytes += row.item.json.len() as u64;
                match at.get(&row.key_hash) {
                    Some(index) => items[*index] = row,
                    None => {
                        at.insert(row.key_hash, items.len());
                        items.push(row);
                    }
                }
            }
            let (shared, client, rng) = (self.shared.clone(), self.client, self.rng.fork());
            self.calls.spawn(async move {
                let failure = write(&shared, client, items, rng).await;
                Call { rows, bytes, failure }
            });
        }
    }
}

/// Writes rows until they are written; gives what makes that impossible.
async fn write(shared: &DirectShared, client: usize, items: Vec<SimRow>, mut rng: fastrand::Rng) -> Option<WriteError> {
    let items = items.into_iter().map(|row| row.item).collect();
    let mut request = BatchWrite { table: TABLE.into(), items };
    for attempt in 1u32.. {
        let client = shared.clients.as_ref().and_then(|clients| clients.get(client));
        let result = match client {
            Some(client) => client.call(&shared.store, &request, &mut rng).await,
            None => shared.store.batch_write(request.clone()).await,
        };
        match result {
            Ok(done) if done.unprocessed.is_empty() => return None,
            Ok(done) => {
                let left = done.unprocessed.iter().map(|index| request.items[*index].clone());
                request.items = left.collect();
            }
            Err(WriteError::Throttled { .. } | WriteError::NotSent { .. } | WriteError::Unknown { .. }) => {}
            Err(error) => return Some(error),
        }
        sleep(backoff(BACKOFF_BASE, attempt, &mut rng)).await;
    }
    unreachable!("it tries without end")
}

impl Writer for DirectWriter {
    fn has_room(&self) -> bool {
        self.failure.is_none() && self.queued_bytes < self.shared.window_bytes
    }

    fn open_rows(&self) -> usize {
        self.open_rows
    }

    fn failure(&self) -> Option<&str> {
        self.failure.as_deref()
    }

    async fn submit(&mut self, rows: Vec<SimRow>) {
        let now = self.shared.store.now();
        {
            let mut ledger = self.shared.ledger.lock();
            rows.iter().for_each(|row| ledger.submit(self.workload, row, now));
        }
        self.open_rows += rows.len();
        self.queued_bytes += rows.iter().map(|row| row.item.json.len() as u64).sum::<u64>();
        self.queue.extend(rows);
        self.send();
    }

    async fn progress(&mut self) {
        let Some(Ok(Call { rows, bytes, failure })) = self.calls.join_next().await else {
            self.failure = Some("a task's call died".to_owned());
            return;
        };
        let mut ledger = self.shared.ledger.lock();
        match failure {
            None => {
                self.open_rows -= rows.len();
                self.queued_bytes -= bytes;
                rows.into_iter().for_each(|(key_hash, version)| ledger.acked(self.workload, key_hash, version));
            }
            Some(failure) => {
                ledger.refused(self.workload, self.open_rows as u64);
                self.open_rows = 0;
                self.queue.clear();
                self.failure = Some(failure.to_string());
            }
        }
        drop(ledger);
        self.send();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sim::ledger::Ledger;
    use crate::sim::scenario::Scenario;
    use crate::sim::workload::{Source, schema};
    use crate::sim::{CapacityConfig, Fault, FaultKind, Model, ModelConfig};
    use crate::store::ThrottleReason;

    const SCENARIO: &str = "
name: n
duration: 60s
table: {billing: on_demand}
workloads: [{name: w, item_bytes: 200, keys: {count: 300}}]
";

    /// Writes 1,000 rows through a client in adaptive mode; whether its rate limiter is on, rows acked, rows lost.
    async fn write_all(fault: FaultKind) -> (bool, u64, u64) {
        let scenario = Scenario::parse("s.yaml", SCENARIO).unwrap();
        let faults = vec![Fault::always(fault, 0.3)];
        let mut model = Model::new(ModelConfig { faults, keep_items: false, ..ModelConfig::new(1) });
        model.add_table(TABLE, schema(&scenario), CapacityConfig::on_demand(), Duration::ZERO);
        let source = Arc::clone(&Source::all(&scenario, &model)[0]);
        let ledger = SharedLedger::new(Ledger::new(1, Duration::ZERO..Duration::from_secs(60), &[]));
        model.observe(Box::new(ledger.clone()));
        let shared = DirectShared {
            store: SimStore::new(model),
            ledger: ledger.clone(),
            window_bytes: 1 << 20,
            clients: Some(DirectShared::adaptive_clients(1)),
        };
        let mut rng = fastrand::Rng::with_seed(1);
        let mut writer = DirectWriter::new(shared.clone(), 0, 0, rng.fork());
        let rows = (0..1_000).map(|_| source.draw(ledger.lock().next_version(), &mut rng)).collect();
        writer.submit(rows).await;
        while writer.open_rows() > 0 {
            writer.progress().await;
        }
        let client = &shared.clients.as_ref().unwrap()[0];
        let limited = client.0.lock().unwrap().0.is_on();
        let ledger = ledger.lock();
        (limited, ledger.workloads[0].acked, ledger.lost_rows)
    }

    #[tokio::test(start_paused = true)]
    async fn the_sdks_limiter_takes_unprocessed_items_for_success_and_an_exception_for_throttling() {
        assert_eq!(write_all(FaultKind::Unprocessed { share: 0.3 }).await, (false, 1_000, 0));
        let reason = ThrottleReason::Provisioned;
        assert_eq!(write_all(FaultKind::Throttle { reason, index: None }).await, (true, 1_000, 0));
    }

    #[test]
    fn retries_stop_when_the_quota_is_used_up_and_successes_refill_it() {
        let client = SdkClient::default();
        assert_eq!((0..200).filter(|_| client.take_quota(RETRY_COST)).count(), 100);
        (0..10).for_each(|_| client.give_quota(1.0));
        assert!(client.take_quota(TIMEOUT_COST) && !client.take_quota(RETRY_COST));
    }
}
