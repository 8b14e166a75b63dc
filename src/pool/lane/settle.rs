//! What a lane does with the answer of an attempt.

use std::sync::Arc;

use smallvec::SmallVec;
use tokio::time::Instant;

use super::{GroupSettled, Lane, LaneMessage, Running, TableLane, What};
use crate::pool::atomic::{AtomicGroup, GroupOutcome};
use crate::pool::attribution::Blame;
use crate::pool::gate::{Answer, Attempted, Lesson};
use crate::pool::outcome::{SessionFailure, Trouble};
use crate::pool::queue::{self, ItemOutcome, SlotId};
use crate::pool::retry::RetryConfig;
use crate::pool::slices::Standings;
use crate::pool::verdict::{TableVerdict, Verdict};
use crate::store::{CancelReason, ThrottleReason, WriteDone, WriteError};
use crate::telemetry::Instruments;
use crate::telemetry::instruments::{OutcomeLabel, TableLabel, ThrottleLabel};

/// What a write call came to.
type Answered = Result<WriteDone, WriteError>;

impl Lane {
    pub(super) fn settle_attempt(&mut self, running: Running, result: &Answered) {
        let now = Instant::now();
        let instruments = &self.config.instruments;
        instruments.attempts_in_flight.dec();
        instruments.attempt_seconds.observe((now - running.started).as_secs_f64());
        match result {
            Ok(done) => {
                let label = TableLabel { dynamodb_table: running.table.to_string() };
                instruments.write_units.get_or_create(&label).inc_by(done.write_units);
            }
            Err(error) => {
                tracing::debug!(table = %running.table, items = running.items, %error, "a write attempt failed");
            }
        }
        count_throttling(instruments, &running, result);
        match &running.what {
            What::Keys(slots) => self.settle_keys(&running, slots, result, now),
            What::Group(group) => self.settle_transaction(&running, group, result, now),
        }
        // The place in the window is free before anything else is sent.
        let Running { table, permit, .. } = running;
        drop(permit);
        if self.tables.get(&table).is_some_and(TableLane::is_idle) {
            self.forget_idle_tables();
        }
    }

    fn settle_keys(&mut self, running: &Running, slots: &[SlotId], result: &Answered, now: Instant) {
        let Some(table) = self.tables.get_mut(&running.table) else { return };
        table.in_flight -= 1;
        let alone = match slots {
            [slot] => table.queue.sent_item(*slot),
            _ => None,
        };
        let mut verdict = Verdict::of(result, slots.len(), alone);
        self.config.instruments.attempts.get_or_create(&OutcomeLabel { outcome: verdict.label }).inc();
        running.end_span(verdict.label, result);
        let throttled: SmallVec<[u64; 25]> =
            verdict.throttled.iter().map(|&position| table.queue.partition_hash(slots[position])).collect();
        let answer = match verdict.table {
            TableVerdict::Works if verdict.tells_of_capacity() => {
                Answer::Answered { throttled: &throttled, reason: verdict.reason }
            }
            TableVerdict::Rests => Answer::Silent,
            TableVerdict::Works | TableVerdict::Denied => Answer::Other,
        };
        if result.is_ok() {
            let written = |position: usize| {
                let is_written = matches!(verdict.item(position), ItemOutcome::Confirmed);
                is_written
                    .then(|| (table.queue.partition_hash(slots[position]), table.queue.sent_units(slots[position])))
            };
            self.watch.note(&self.config.instruments.hot_keys, &running.table, slots.len(), written, now);
        }
        let units = reported_units(result);
        let lesson = table.gate.learn(&running.permit, &attempted(running, units, answer, now));
        show_bounds(&self.config.instruments, running, lesson);

        let round = table.note(verdict.table, running.started, now, &self.config.retry, &mut self.rng);
        if round.gives_up {
            verdict.give_up(result);
        }
        let trouble = if verdict.throttled.is_empty() {
            (verdict.table != TableVerdict::Works).then_some(Trouble::Unavailable)
        } else {
            Some(throttled_by(verdict.reason, lesson.blame))
        };
        let concerns_all = round.is_first_failure || lesson.is_news && lesson.blame == Blame::Table;
        if concerns_all && let Some(trouble) = trouble {
            // It keeps all rows of the table waiting, not only those that were tried.
            self.slices.note_all(&running.table, trouble);
        }
        if lesson.wants_reason
            && verdict.reason.is_none()
            && let Some(&position) = verdict.throttled.first()
        {
            table.queue.probe(slots[position]);
        }

        let mut held_up = SmallVec::<[usize; 8]>::new();
        for (position, slot) in slots.iter().enumerate() {
            if matches!(verdict.item(position), ItemOutcome::Retry | ItemOutcome::RetryUnknown | ItemOutcome::Forget) {
                held_up.extend(table.queue.in_flight_slices(*slot));
            }
        }
        // A slice has many rows in one attempt, and counts it once.
        held_up.sort_unstable();
        held_up.dedup();
        for slice in held_up {
            let owed = self.slices.held_up(slice, !verdict.throttled.is_empty(), trouble);
            if let Some(failure) = &verdict.failure {
                owed.session().fail(failure.clone());
            }
        }
        let mut reports = Vec::with_capacity(slots.len());
        let standings = Standings(&self.slices);
        for (position, slot) in slots.iter().enumerate() {
            let (outcome, rng) = (verdict.item(position), &mut self.rng);
            let standing = |slice| standings.of(slice);
            table.queue.settle(*slot, outcome, now, rng, standing, &mut |report| reports.push(report));
        }
        let written = slots.len() - verdict.throttled.len();
        let units_each = units.unwrap_or(0.0) / written.max(1) as f64;
        for report in reports {
            self.slices.record(&self.config.instruments, report, verdict.refusal.as_ref(), units_each);
        }
    }

    fn settle_transaction(&mut self, running: &Running, group: &Arc<AtomicGroup>, result: &Answered, now: Instant) {
        let Some(table) = self.tables.get_mut(&running.table) else { return };
        table.in_flight -= 1;
        let (label, state) = transaction_verdict(result);
        self.config.instruments.attempts.get_or_create(&OutcomeLabel { outcome: label }).inc();
        running.end_span(label, result);
        if result.is_ok() {
            // A transaction writes each item twice.
            let written =
                |position: usize| Some((group.partitions()[position], 2.0 * queue::units(&group.items()[position])));
            self.watch.note(&self.config.instruments.hot_keys, &running.table, group.items().len(), written, now);
        }
        let is_throttled = label == "throttled";
        let answer = match state {
            TableVerdict::Works => {
                let throttled = if is_throttled { group.partitions() } else { &[] };
                Answer::Answered { throttled, reason: throttle_reason(result) }
            }
            TableVerdict::Rests => Answer::Silent,
            TableVerdict::Denied => Answer::Other,
        };
        let lesson = table.gate.learn(&running.permit, &attempted(running, reported_units(result), answer, now));
        show_bounds(&self.config.instruments, running, lesson);
        let round = table.note(state, running.started, now, &self.config.retry, &mut self.rng);
        let outcome = match result {
            Ok(done) => Some(GroupOutcome::Committed(done.write_units / running.items.max(1) as f64)),
            Err(WriteError::Cancelled { reasons }) => group.refused(reasons),
            Err(WriteError::Validation { message }) => Some(group.refused_whole(message)),
            Err(WriteError::TableMissing { table }) => {
                Some(GroupOutcome::Failed(SessionFailure::TableMissing { table: table.clone() }))
            }
            Err(WriteError::Access { message }) if round.gives_up => {
                Some(GroupOutcome::Failed(SessionFailure::Access { message: message.clone() }))
            }
            Err(_) => None,
        };
        let Some(outcome) = outcome else {
            let throttled = || throttled_by(throttle_reason(result), lesson.blame);
            let trouble = if is_throttled { throttled() } else { Trouble::Unavailable };
            // The group's rows of this lane are one slice.
            if let Some(slice) = table.queue.held_slice(group) {
                self.slices.held_up(slice, is_throttled, Some(trouble));
            }
            group.land(matches!(result, Err(WriteError::Unknown { .. })));
            let delay = self.config.retry.delay(group.attempts(), &mut self.rng);
            table.groups.push((now + delay, Arc::clone(group)));
            if group.is_unwanted(now) {
                // While it was in flight nobody could give it up.
                group.lanes().iter().for_each(|&lane| self.tell(lane, LaneMessage::Sweep));
            }
            return;
        };
        let settled =
            GroupSettled { table: Arc::clone(&running.table), group: Arc::clone(group), outcome: Arc::new(outcome) };
        for &lane in group.lanes().iter().filter(|&&lane| lane != self.config.index) {
            self.tell(lane, LaneMessage::Group(settled.clone()));
        }
        self.settle_group(&settled);
    }

    pub(super) fn settle_group(&mut self, settled: &GroupSettled) {
        let Some(table) = self.tables.get_mut(&settled.table) else { return };
        if let GroupOutcome::Failed(failure) = &*settled.outcome {
            settled.group.session().fail(failure.clone());
        }
        let units = if let GroupOutcome::Committed(units) = &*settled.outcome { *units } else { 0.0 };
        let mut reports = Vec::new();
        table.queue.settle_group(&settled.group, &settled.outcome, &mut |report| reports.push(report));
        for report in reports {
            self.slices.record(&self.config.instruments, report, None, units);
        }
        self.forget_idle_tables();
    }

    fn tell(&self, lane: usize, message: LaneMessage) {
        // At the end of the process there is nobody to tell, and nobody who waits.
        let told = self.config.lanes[lane].upgrade().map(|lane| lane.send(message));
        if !matches!(told, Some(Ok(()))) {
            tracing::debug!("a lane was gone before it heard of a group");
        }
    }
}

/// What a failed attempt is among those of its time.
#[derive(Debug, Clone, Copy, Default)]
struct Round {
    /// Others that failed with it do not count.
    is_first_failure: bool,
    /// Access has been refused for too long.
    gives_up: bool,
}

impl TableLane {
    /// Remembers how the table does.
    fn note(
        &mut self,
        verdict: TableVerdict,
        started: Instant,
        now: Instant,
        retry: &RetryConfig,
        rng: &mut fastrand::Rng,
    ) -> Round {
        match verdict {
            TableVerdict::Works => {
                self.queue.note_success();
                self.denied = None;
                Round::default()
            }
            TableVerdict::Rests => {
                self.denied = None;
                Round { is_first_failure: self.queue.note_failure(started, now, rng), gives_up: false }
            }
            TableVerdict::Denied => {
                let is_first_failure = self.queue.note_failure(started, now, rng);
                let (since, times) = self.denied.unwrap_or((now, 0));
                let times = times + u32::from(is_first_failure);
                self.denied = Some((since, times));
                let gives_up = times >= retry.access_attempts && now - since >= retry.access_patience;
                Round { is_first_failure, gives_up }
            }
        }
    }
}

/// What keeps throttled rows waiting: DynamoDB's word, or the gate's guess.
fn throttled_by(reason: Option<ThrottleReason>, blame: Blame) -> Trouble {
    match (reason, blame) {
        (Some(ThrottleReason::KeyRange), _) => Trouble::PartitionThrottled,
        (None | Some(ThrottleReason::Unknown), Blame::Keys) => Trouble::PartitionThrottled,
        _ => Trouble::TableThrottled,
    }
}

fn attempted<'a>(running: &Running, units: Option<f64>, result: Answer<'a>, now: Instant) -> Attempted<'a> {
    let Running { started, items, bytes, .. } = *running;
    Attempted { started, now, items, bytes, units, result }
}

/// Units that DynamoDB reported; some stores report none.
fn reported_units(result: &Answered) -> Option<f64> {
    result.as_ref().ok().map(|done| done.write_units).filter(|units| *units > 0.0)
}

fn transaction_verdict(result: &Answered) -> (&'static str, TableVerdict) {
    match result {
        Ok(_) => ("ok", TableVerdict::Works),
        Err(WriteError::Throttled { .. }) => ("throttled", TableVerdict::Works),
        Err(WriteError::Cancelled { .. }) if throttle_reason(result).is_some() => ("throttled", TableVerdict::Works),
        Err(WriteError::Cancelled { .. } | WriteError::Condition { .. }) => ("cancelled", TableVerdict::Works),
        Err(WriteError::Validation { .. }) => ("refused", TableVerdict::Works),
        Err(WriteError::TableMissing { .. }) => ("table_missing", TableVerdict::Works),
        Err(WriteError::Access { .. }) => ("access", TableVerdict::Denied),
        Err(WriteError::NotSent { .. }) => ("unreachable", TableVerdict::Rests),
        Err(WriteError::Unknown { .. }) => ("unknown", TableVerdict::Rests),
    }
}

fn throttle_reason(result: &Answered) -> Option<ThrottleReason> {
    match result {
        Err(WriteError::Throttled { reason, .. }) => Some(*reason),
        Err(WriteError::Cancelled { reasons }) => reasons.iter().find_map(|reason| match reason {
            CancelReason::Throttled(reason) => Some(*reason),
            _ => None,
        }),
        _ => None,
    }
}

fn count_throttling(instruments: &Instruments, running: &Running, result: &Answered) {
    let index = match result {
        Err(WriteError::Throttled { index, .. }) => index.as_deref().unwrap_or_default(),
        _ => "",
    };
    let reason = match result {
        Ok(done) if done.unprocessed.is_empty() => return,
        Ok(_) => "unprocessed_items",
        Err(_) => match throttle_reason(result) {
            None => return,
            Some(ThrottleReason::KeyRange) => "key_range",
            Some(ThrottleReason::Provisioned) => "provisioned",
            Some(ThrottleReason::Account) => "account",
            Some(ThrottleReason::MaxOnDemand) => "max_on_demand",
            Some(ThrottleReason::Unknown) => "unknown",
        },
    };
    let label = ThrottleLabel { dynamodb_table: running.table.to_string(), index: index.to_owned(), reason };
    instruments.throttles.get_or_create(&label).inc();
}

fn show_bounds(instruments: &Instruments, running: &Running, Lesson { window, ceiling, .. }: Lesson) {
    let label = TableLabel { dynamodb_table: running.table.to_string() };
    instruments.window.get_or_create(&label).set(i64::try_from(window).unwrap_or(i64::MAX));
    instruments.ceiling.get_or_create(&label).set(ceiling.unwrap_or(0.0));
}
