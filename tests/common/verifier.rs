//! The Rust client's writer, with everything that it sends and hears written down.
//!
//! Rows that it was told about one by one (`RETRYABLE`, `UNKNOWN`) count as sent and not acked, rejected ones as never
//! written; a superseded row is a success.

#![allow(unreachable_pub, missing_docs, reason = "a module of test binaries")]
#![allow(dead_code, reason = "each test binary uses its own part")]

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use forebay::client::{Client, ClientError, Event, OpenOptions, Outcome, Receipt, Writer};
use forebay::proto::v1::{self, RowStatus};
use tokio::time::Instant;

use crate::history::{Effect, History, Place};

/// A row to send.
#[derive(Debug, Clone)]
pub struct Row {
    pub values: Vec<v1::Value>,
    /// What it does, to each key of the history: a merge has one for each column.
    pub effects: Vec<(String, Effect)>,
}

#[derive(Default)]
struct Log {
    history: History,
    /// Rows of batches without an ack, by session and batch.
    open: BTreeMap<(u32, u64), Vec<Vec<Place>>>,
    not_acked: BTreeSet<(u32, u64, usize)>,
    outcomes: Vec<Outcome>,
    reconnects: usize,
    acks: Vec<(u32, Instant, Duration)>,
    sessions: u32,
}

/// What all writers of a test share.
#[derive(Clone, Default)]
pub struct Book(Arc<Mutex<Log>>);

impl Book {
    fn log(&self) -> MutexGuard<'_, Log> {
        self.0.lock().unwrap()
    }

    /// Everything that was sent and heard so far.
    pub fn history(&self) -> History {
        self.log().history.clone()
    }

    pub fn outcomes(&self) -> Vec<Outcome> {
        self.log().outcomes.clone()
    }

    pub fn reconnects(&self) -> usize {
        self.log().reconnects
    }

    /// Acks of a writer: when, and how long the batch had waited.
    pub fn acks(&self, writer: u32) -> Vec<(Instant, Duration)> {
        let log = self.log();
        log.acks.iter().filter(|ack| ack.0 == writer).map(|(_, at, latency)| (*at, *latency)).collect()
    }

    /// Rows sent and rows acked.
    pub fn counts(&self) -> (usize, usize) {
        self.log().history.counts()
    }

    fn hear(&self, writer: u32, session: u32, event: Event) {
        let mut log = self.log();
        match event {
            Event::Outcome(outcome) => {
                let place = (session, outcome.batch, outcome.row);
                let written = matches!(outcome.status, RowStatus::Committed | RowStatus::Superseded);
                if !written {
                    log.not_acked.insert(place);
                }
                if outcome.status == RowStatus::Rejected {
                    let places = log.open[&(session, outcome.batch)][outcome.row].clone();
                    places.iter().for_each(|place| log.history.rejected(place));
                }
                log.outcomes.push(outcome);
            }
            Event::Acked(acked) => {
                log.acks.push((writer, acked.acked_at, acked.latency()));
                let rows = log.open.remove(&(session, acked.batch)).expect("a batch is acked once, after it was sent");
                assert_eq!(rows.len(), acked.rows);
                for (row, places) in rows.iter().enumerate() {
                    if !log.not_acked.contains(&(session, acked.batch, row)) {
                        places.iter().for_each(|place| log.history.acked(place));
                    }
                }
            }
            Event::Reconnecting { .. } => log.reconnects += 1,
            Event::SendingAgain { .. } | Event::Draining => {}
        }
    }
}

/// A writer whose rows and acks are written down.
pub struct Verifier {
    writer: Writer,
    book: Book,
    id: u32,
    session: u32,
    batches: u64,
}

impl Verifier {
    /// `id` names the writer in the history; one after another may share it, where each waits for the acks of the one before.
    pub async fn open(client: &Client, options: OpenOptions, id: u32, book: &Book) -> Result<Self, ClientError> {
        let session = {
            let mut log = book.log();
            log.sessions += 1;
            log.sessions
        };
        let hears = book.clone();
        let options = options.on_event(move |event| hears.hear(id, session, event));
        Ok(Self { writer: client.writer(options).await?, book: book.clone(), id, session, batches: 0 })
    }

    pub async fn send(&mut self, rows: Vec<Row>) -> Result<(), ClientError> {
        self.batches += 1;
        {
            let mut log = self.book.log();
            let mut places = Vec::new();
            for row in &rows {
                let sent = row.effects.iter().map(|(key, effect)| log.history.sent(self.id, key, *effect));
                places.push(sent.collect());
            }
            log.open.insert((self.session, self.batches), places);
        }
        let rows = rows.into_iter().map(|row| v1::Row { values: row.values }).collect();
        let batch = self.writer.send_rows(v1::RowBatch { rows }).await?;
        assert_eq!(batch, self.batches);
        Ok(())
    }

    pub async fn flush(&mut self) -> Result<Receipt, ClientError> {
        self.writer.flush().await
    }

    pub async fn finish(self) -> Result<Receipt, ClientError> {
        tokio::time::timeout(Duration::from_secs(60), self.writer.finish())
            .await
            .expect("everything is acked in the end")
    }
}
