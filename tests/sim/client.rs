//! A client as the protocol wants it: numbered batches in a window, acks in order (by ranges, with `sequence_by`), and after
//! every end of a session everything that is not acked again, in order. It notes in the history what it hears.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use forebay::payload::RejectReason;
use forebay::pool::{BatchTicket, RowFate, SessionEvent, SessionLink};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, sleep_until};

use crate::checker::{Heard, RowId, Rule, SendId};
use crate::world::World;

/// What a row holds in memory besides its text, about.
const ROW_BYTES: usize = 192;

/// What a client is.
#[derive(Debug, Clone, Copy)]
pub struct ClientSpec {
    pub table: usize,
    pub bulk: bool,
    /// How long a row may wait: then it is answered (with `sequence_by`), or the session ends.
    pub row_deadline: Duration,
}

/// See the module. Dropping it cancels its session.
pub struct Client {
    world: Arc<World>,
    spec: ClientSpec,
    rng: fastrand::Rng,
    gateway: usize,
    link: Arc<SessionLink>,
    events: mpsc::UnboundedReceiver<SessionEvent>,
    last_seq: u64,
    next_id: u64,
    /// Batches that are not acked, the oldest first.
    pending: VecDeque<Batch>,
    /// The session is over.
    failed: bool,
    /// Sessions so far.
    pub sessions: u32,
}

#[derive(Debug)]
struct Batch {
    id: u64,
    rows: Vec<RowId>,
    atomic: Option<u32>,
    /// In this session; `None` while it is not sent.
    sent: Option<Sent>,
}

#[derive(Debug)]
struct Sent {
    seq: u64,
    sends: Vec<SendId>,
    at: Instant,
    bytes: usize,
    done: bool,
}

impl Client {
    pub fn new(world: &Arc<World>, spec: ClientSpec, mut rng: fastrand::Rng) -> Self {
        let gateway = rng.usize(0..world.gateways.len());
        let (link, events) = SessionLink::new(rng.u64(..), spec.bulk);
        Self {
            world: Arc::clone(world),
            spec,
            rng,
            gateway,
            link,
            events,
            last_seq: 0,
            next_id: 0,
            pending: VecDeque::new(),
            failed: false,
            sessions: 1,
        }
    }

    /// Batches that are not acked.
    pub fn unacked(&self) -> usize {
        self.pending.len()
    }

    /// Sends a batch, and before it what else is not sent; a group is written in one transaction.
    pub async fn send(&mut self, rows: Vec<RowId>, atomic: Option<u32>) {
        self.enqueue(rows, atomic);
        self.flush().await;
    }

    /// Waits until everything is acked.
    pub async fn finish(&mut self) {
        self.flush().await;
        while !self.pending.is_empty() {
            self.hear().await;
        }
    }

    /// Waits until something is heard; follows up whatever it is.
    pub async fn hear(&mut self) {
        let oldest = self.pending.iter().filter_map(|batch| batch.sent.as_ref()).map(|sent| sent.at).min();
        let patience = oldest.map(|at| at + self.spec.row_deadline);
        let is_timed = patience.is_some() && !self.world.is_sequenced(self.spec.table);
        tokio::select! {
            biased;
            Some(event) = self.events.recv() => self.take(event),
            () = sleep_until(patience.unwrap_or_else(Instant::now)), if is_timed => self.failed = true,
        }
        self.flush().await;
    }

    /// Takes what came, without waiting.
    pub fn pump(&mut self) {
        while let Ok(event) = self.events.try_recv() {
            self.take(event);
        }
    }

    /// Goes away without a word, and comes again.
    pub async fn reconnect(&mut self) {
        self.failed = true;
        self.flush().await;
    }

    fn enqueue(&mut self, rows: Vec<RowId>, atomic: Option<u32>) {
        self.next_id += 1;
        self.pending.push_back(Batch { id: self.next_id, rows, atomic, sent: None });
    }

    /// Sends what is not sent, in a new session where the old one is over.
    async fn flush(&mut self) {
        self.pump();
        loop {
            if self.failed {
                self.leave();
                sleep(Duration::from_millis(self.rng.u64(1..400))).await;
                self.gateway = self.rng.usize(0..self.world.gateways.len());
                (self.link, self.events) = SessionLink::new(self.rng.u64(..), self.spec.bulk);
                (self.last_seq, self.failed) = (0, false);
                self.sessions += 1;
            }
            let Some(id) = self.pending.iter().find(|batch| batch.sent.is_none()).map(|batch| batch.id) else { return };
            self.submit(id).await;
        }
    }

    async fn submit(&mut self, id: u64) {
        let world = Arc::clone(&self.world);
        let gateway = &world.gateways[self.gateway];
        let Some(batch) = self.pending.iter().find(|batch| batch.id == id) else { return };
        let ids = batch.rows.clone();
        let rows: Vec<_> = ids.iter().zip(0..).map(|(&id, index)| world.encode(id, index)).collect();
        let bytes = rows.iter().map(|row| row.item.json.len() + ROW_BYTES).sum();
        let mut reserving = std::pin::pin!(gateway.memory.reserve(bytes));
        let memory = loop {
            tokio::select! {
                biased;
                memory = &mut reserving => break memory,
                Some(event) = self.events.recv() => self.take(event),
            }
            if self.failed {
                return;
            }
        };
        self.pump();
        if self.failed {
            return;
        }
        let now = Instant::now();
        self.last_seq += 1;
        let deadline = world.is_sequenced(self.spec.table).then(|| now + self.spec.row_deadline);
        let ticket = BatchTicket::with_deadline(self.last_seq, Arc::clone(&self.link), deadline);
        ticket.expect(rows.len() as u32);
        let sends = {
            let (at, mut history) = (world.now(), world.history());
            ids.iter().map(|&id| history.sent(id, self.gateway, at)).collect()
        };
        let Some(batch) = self.pending.iter_mut().find(|batch| batch.id == id) else { return };
        batch.sent = Some(Sent { seq: self.last_seq, sends, at: now, bytes, done: false });
        let table = &world.tables[self.spec.table];
        match batch.atomic {
            None => gateway.pool.submit(table, &ticket, rows, memory),
            Some(group) => gateway.pool.submit_atomic(table, &ticket, rows, memory, format!("group-{group}").into()),
        }
        ticket.seal();
        self.check_memory();
    }

    /// Reserved memory covers what this session has in hand, and is within its bound.
    fn check_memory(&self) {
        let gateway = &self.world.gateways[self.gateway];
        let in_hand = self.pending.iter().filter_map(|batch| batch.sent.as_ref()).filter(|sent| !sent.done);
        let in_hand = in_hand.map(|sent| sent.bytes.min(gateway.memory_bytes)).sum::<usize>();
        let reserved = usize::try_from(gateway.instruments.reserved_bytes.get()).unwrap_or(0);
        if reserved > gateway.memory_bytes || in_hand > reserved {
            let what = format!("{in_hand} bytes in hand, {reserved} reserved, {} at most", gateway.memory_bytes);
            self.world.history().break_rule(Rule::Memory, what);
        }
    }

    fn take(&mut self, event: SessionEvent) {
        match event {
            // What comes after the end is no ack.
            _ if self.failed => {}
            SessionEvent::Failed(_) => self.failed = true,
            SessionEvent::BatchDone(ticket) => self.book(&ticket),
        }
    }

    fn book(&mut self, ticket: &BatchTicket) {
        let (now, sequenced) = (self.world.now(), self.world.is_sequenced(self.spec.table));
        let mut history = self.world.history();
        let found = self.pending.iter_mut().find_map(|batch| {
            let Batch { rows, atomic, sent, .. } = batch;
            let sent = sent.as_mut().filter(|sent| sent.seq == ticket.seq() && !sent.done)?;
            Some((rows, *atomic, sent))
        });
        let Some((rows, atomic, sent)) = found else {
            history.break_rule(Rule::Answer, format!("batch {} was answered twice", ticket.seq()));
            return;
        };
        sent.done = true;
        let (totals, fates) = ticket.take();
        let counted = (totals.committed + totals.superseded) as usize + fates.len();
        if counted != rows.len() {
            history.break_rule(Rule::Answer, format!("{counted} answers for the {} rows of {rows:?}", rows.len()));
        }
        if totals.superseded > 0 && !history.tables[self.spec.table].coalesce && !sequenced {
            history.break_rule(Rule::Answer, format!("superseded without coalescing: {rows:?}"));
        }
        let mut heard = vec![Heard::Success; rows.len()];
        for (index, fate) in fates {
            heard[index as usize] = match fate {
                RowFate::StaleMerge => Heard::Stale,
                RowFate::Retryable(_) => Heard::Retryable,
                RowFate::Unknown(_) => Heard::Unknown,
                RowFate::Rejected(reject) => match reject.reason {
                    RejectReason::AlreadyExists => Heard::AlreadyExists,
                    RejectReason::AtomicPeer => Heard::AtomicPeer,
                    _ => Heard::Refused,
                },
            };
        }
        if atomic.is_some() && heard.contains(&Heard::Success) && heard.iter().any(|heard| *heard != Heard::Success) {
            history.break_rule(Rule::Torn, format!("one group, {rows:?}, and different answers: {heard:?}"));
        }
        let mut again = Vec::new();
        for ((&row, &send), heard) in rows.iter().zip(&sent.sends).zip(heard) {
            history.answered(send, now, heard);
            if matches!(heard, Heard::Retryable | Heard::Unknown) {
                again.push(row);
            }
        }
        drop(history);
        if !again.is_empty() {
            self.enqueue(again, atomic);
        }
        let is_done = |batch: &Batch| batch.sent.as_ref().is_some_and(|sent| sent.done);
        if sequenced {
            self.pending.retain(|batch| !is_done(batch));
        }
        while self.pending.front().is_some_and(is_done) {
            self.pending.pop_front();
        }
    }

    /// The session is over: what is not acked will be sent again.
    fn leave(&mut self) {
        let now = self.world.now();
        self.world.gateways[self.gateway].pool.cancel(&self.link);
        let mut history = self.world.history();
        for batch in &mut self.pending {
            for send in batch.sent.take().into_iter().flat_map(|sent| sent.sends) {
                history.abandoned(send, now);
            }
        }
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        self.leave();
    }
}
