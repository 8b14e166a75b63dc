//! What a call does when it arrives: BatchWriteItem, a single write, TransactWriteItems.

use std::sync::Arc;
use std::time::Duration;

use hashbrown::HashSet;

use super::{Applied, Journey, JourneyEnd, Model, Observer, Table, refused, throttled};
use crate::limits::{BATCH_WRITE_MAX_OPERATIONS, TRANSACTION_MAX_ACTIONS, TRANSACTION_TOKEN_VALID};
use crate::sim::bucket::Bucket;
use crate::sim::capacity::{Capacity, Demand, Shortage};
use crate::sim::fault::FaultKind;
use crate::sim::items::{Change, ItemKey, Refusal};
use crate::sim::values::stable_hash;
use crate::store::{
    BatchWrite, CancelReason, Item, OneWrite, SequenceRule, ThrottleReason, TransactWrite, WriteDone, WriteError,
    WriteItem, WriteOp,
};

/// Longest client token (DynamoDB).
const TOKEN_MAX_CHARS: usize = 36;

/// When and how a write arrives.
#[derive(Debug, Clone, Copy)]
pub(super) struct Arrival {
    pub(super) at: Duration,
    pub(super) heard_at: Option<Duration>,
    /// Accepted before: it is done whether there is capacity or not.
    pub(super) late: bool,
}

/// A write's key, and its change or what its false condition found (and the bytes that this costs).
type Planned = (ItemKey, Result<Change, (Option<Item>, usize)>);

impl Table {
    /// What writes to different keys would do; an error refuses the whole call.
    fn plan(&self, items: &[WriteItem], sequence: Option<&SequenceRule>) -> Result<Vec<Planned>, String> {
        let plan = |item| {
            let key = self.schema.key_of_write(item).ok_or("the provided key element does not match the schema")?;
            match self.contents.evaluate(&key, item, sequence) {
                Ok(change) => Ok((key, Ok(change))),
                Err(Refusal::Condition { existing, bytes }) => Ok((key, Err((existing, bytes)))),
                Err(Refusal::Validation(message)) => Err(message),
            }
        };
        let planned = items.iter().map(plan).collect::<Result<Vec<_>, String>>()?;
        let different = planned.iter().map(|(key, _)| key).collect::<HashSet<_>>().len();
        if different < planned.len() {
            return Err("provided list of item keys contains duplicates".to_owned());
        }
        Ok(planned)
    }
}

impl Arrival {
    pub(super) fn of(at: Duration, journey: &Journey) -> Self {
        let heard = journey.end == JourneyEnd::Answered;
        Self { at, heard_at: heard.then_some(at + journey.back), late: false }
    }

    fn take(&self, capacity: &mut Capacity, account: &mut Option<Bucket>, demand: &Demand) -> Result<f64, Shortage> {
        if self.late {
            return Ok(capacity.force_write(account, demand, self.at));
        }
        capacity.take_write(account, demand, self.at)
    }

    fn tell(&self, observer: &mut Option<Box<dyn Observer>>, table: &str, item: &WriteItem) {
        if let Some(observer) = observer {
            observer.applied(&Applied { at: self.at, heard_at: self.heard_at, table, item });
        }
    }
}

impl Model {
    pub(super) fn do_batch(
        &mut self,
        arrival: Arrival,
        request: &BatchWrite,
        unprocessed_share: f64,
    ) -> (Result<WriteDone, WriteError>, usize) {
        let Self { tables, account, rng, faults, observer, .. } = self;
        let Some(table) = tables.get_mut(&request.table) else {
            return (Err(WriteError::TableMissing { table: request.table.to_string() }), 0);
        };
        let batch_op = |item: &WriteItem| matches!(item.op, WriteOp::Put | WriteOp::Delete);
        if !(1..=BATCH_WRITE_MAX_OPERATIONS).contains(&request.items.len()) || !request.items.iter().all(batch_op) {
            return (Err(refused("a batch has 1 to 25 puts and deletes")), 0);
        }
        let planned = match table.plan(&request.items, None) {
            Ok(planned) => planned,
            Err(message) => return (Err(refused(&message)), 0),
        };
        // DynamoDB writes a batch's items in parallel: which of them find capacity is not a matter of their order.
        let mut planned: Vec<_> = planned.into_iter().enumerate().collect();
        rng.shuffle(&mut planned);
        let (mut done, mut shortages) = (WriteDone::default(), Vec::new());
        for (index, (key, planned)) in planned {
            // Without conditions there is nothing but a change.
            let Ok(change) = planned else { continue };
            if unprocessed_share > 0.0 && rng.f64() < unprocessed_share {
                faults.count(&FaultKind::Unprocessed { share: unprocessed_share });
                shortages.push(Shortage { reason: ThrottleReason::Unknown, index: None });
                done.unprocessed.push(index);
                continue;
            }
            let demand = Demand { place: key.place(), bytes: change.bytes, factor: 1.0 };
            match arrival.take(&mut table.capacity, account, &demand) {
                Ok(units) => {
                    done.write_units += units;
                    table.contents.apply(&key, change);
                    arrival.tell(observer, &request.table, &request.items[index]);
                }
                Err(shortage) => {
                    shortages.push(shortage);
                    done.unprocessed.push(index);
                }
            }
        }
        done.unprocessed.sort_unstable();
        let stopped = done.unprocessed.len();
        if stopped == request.items.len() {
            return (Err(throttled(most_frequent(&shortages))), stopped);
        }
        (Ok(done), stopped)
    }

    pub(super) fn do_one(&mut self, arrival: Arrival, request: &OneWrite) -> (Result<WriteDone, WriteError>, usize) {
        let Self { tables, account, observer, .. } = self;
        let Some(table) = tables.get_mut(&request.table) else {
            return (Err(WriteError::TableMissing { table: request.table.to_string() }), 0);
        };
        let items = std::slice::from_ref(&request.item);
        let (key, planned) = match table.plan(items, request.sequence.as_deref()) {
            Ok(mut planned) => match planned.pop() {
                Some(planned) => planned,
                None => return (Err(refused("nothing to write")), 0),
            },
            Err(message) => return (Err(refused(&message)), 0),
        };
        let bytes = match &planned {
            Ok(change) => change.bytes,
            Err((_, bytes)) => *bytes,
        };
        let demand = Demand { place: key.place(), bytes, factor: 1.0 };
        let write_units = match arrival.take(&mut table.capacity, account, &demand) {
            Ok(units) => units,
            Err(shortage) => return (Err(throttled(shortage)), 1),
        };
        match planned {
            Ok(change) => {
                table.contents.apply(&key, change);
                arrival.tell(observer, &request.table, &request.item);
                (Ok(WriteDone { unprocessed: Vec::new(), write_units }), 0)
            }
            Err((existing, _)) => (Err(WriteError::Condition { existing }), 0),
        }
    }

    pub(super) fn do_transact(
        &mut self,
        arrival: Arrival,
        request: &TransactWrite,
    ) -> (Result<WriteDone, WriteError>, usize) {
        let Self { tables, account, observer, tokens, .. } = self;
        let Some(table) = tables.get_mut(&request.table) else {
            return (Err(WriteError::TableMissing { table: request.table.to_string() }), 0);
        };
        if !(1..=TRANSACTION_MAX_ACTIONS).contains(&request.items.len()) || request.token.len() > TOKEN_MAX_CHARS {
            return (Err(refused("a transaction has 1 to 100 actions and a token of at most 36 characters")), 0);
        }
        let content = request.items.iter().fold(0u64, |hash, item| hash.rotate_left(5) ^ stable_hash(&item.json));
        tokens.retain(|_, (valid_until, _)| *valid_until > arrival.at);
        match tokens.get(&request.token) {
            Some((_, before)) if *before == content => return (Ok(WriteDone::default()), 0),
            Some(_) => return (Err(refused("IdempotentParameterMismatch: the token is of another request")), 0),
            None => {}
        }
        let planned = match table.plan(&request.items, request.sequence.as_deref()) {
            Ok(planned) => planned,
            Err(message) => return (Err(refused(&message)), 0),
        };
        let demand = |(key, planned): &Planned| {
            let bytes = match planned {
                Ok(change) => change.bytes,
                Err((_, bytes)) => *bytes,
            };
            Demand { place: key.place(), bytes, factor: 2.0 }
        };
        let demands: Vec<_> = planned.iter().map(demand).collect();
        if planned.iter().any(|(_, planned)| planned.is_err()) {
            for demand in &demands {
                table.capacity.force_write(account, demand, arrival.at);
            }
            let reason = |(_, planned): Planned| match planned {
                Ok(_) => CancelReason::None,
                Err((existing, _)) => CancelReason::Condition { existing },
            };
            return (Err(WriteError::Cancelled { reasons: planned.into_iter().map(reason).collect() }), 0);
        }
        let mut write_units = 0.0;
        for (index, demand) in demands.iter().enumerate() {
            match arrival.take(&mut table.capacity, account, demand) {
                Ok(units) => write_units += units,
                Err(shortage) => {
                    for demand in &demands[..index] {
                        table.capacity.give_back(account, demand, arrival.at);
                    }
                    let mut reasons = vec![CancelReason::None; demands.len()];
                    reasons[index] = CancelReason::Throttled(shortage.reason);
                    return (Err(WriteError::Cancelled { reasons }), demands.len());
                }
            }
        }
        for ((key, planned), item) in planned.into_iter().zip(&request.items) {
            if let Ok(change) = planned {
                table.contents.apply(&key, change);
                arrival.tell(observer, &request.table, item);
            }
        }
        tokens.insert(Arc::clone(&request.token), (arrival.at + TRANSACTION_TOKEN_VALID, content));
        (Ok(WriteDone { unprocessed: Vec::new(), write_units }), 0)
    }
}

/// What a call that was throttled as a whole says: the reason of most of its items, the first of those that are as many.
fn most_frequent(shortages: &[Shortage]) -> Shortage {
    let count = |shortage: &Shortage| shortages.iter().filter(|other| *other == shortage).count();
    let first_of_most = shortages.iter().rev().max_by_key(|shortage| count(shortage));
    first_of_most.cloned().unwrap_or(Shortage { reason: ThrottleReason::Unknown, index: None })
}
