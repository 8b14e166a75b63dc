//! Epochs of producers: a newer run of a producer fences the older ones.
//!
//! One record for each table and producer holds the greatest epoch that was claimed. It is written under the same condition
//! as a row of a table with `sequence_by`: that no greater one is stored. So a claim is one conditional write, whichever pods
//! race for it. Pods hear of claims made elsewhere by reading the records of their own open producers, which a loop does; a
//! record that cannot be read ends nothing, because fencing saves work and guarantees nothing.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use futures_util::StreamExt as _;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::{Catalog, CatalogError, REFRESH_CONCURRENCY};
use crate::limits::{EPOCH_ATTEMPTS, EPOCH_BACKOFF, EPOCH_WATCH_INTERVAL};
use crate::store::{Attr, ControlError, ControlRecord, OneWrite, SequenceRule, Span, WriteError, WriteItem, WriteOp};

/// What record names begin with. No table's name has a slash.
const PREFIX: &str = "epoch/";
/// The only sort key of such a record.
const SORT: u64 = 0;
/// The attribute that the condition compares.
const ATTRIBUTE: &str = "epoch";

/// Whether a record of the control table is no table's.
pub(super) fn is_epoch(record: &ControlRecord) -> bool {
    record.pk.starts_with(PREFIX)
}

/// The greatest epochs that are known here, by record name, of producers with sessions.
#[derive(Debug, Default)]
pub(super) struct Watched(Mutex<HashMap<String, watch::Sender<u64>>>);

/// An epoch that was claimed, for as long as its session lasts.
#[derive(Debug)]
pub struct EpochClaim {
    table: String,
    producer: String,
    epoch: u64,
    newest: watch::Receiver<u64>,
}

impl EpochClaim {
    /// Resolves when a newer run has claimed a greater epoch; never, where none does.
    pub async fn fenced(&mut self) -> CatalogError {
        let epoch = self.epoch;
        match self.newest.wait_for(|newest| *newest > epoch).await.map(|newest| *newest) {
            Ok(newest) => fenced(&self.table, &self.producer, epoch, newest),
            // The loop is gone, with the process.
            Err(_closed) => std::future::pending().await,
        }
    }
}

fn fenced(table: &str, producer: &str, epoch: u64, newest: u64) -> CatalogError {
    CatalogError::Fenced { name: table.to_owned(), producer: producer.to_owned(), epoch, newest }
}

/// A record's body.
#[derive(Serialize, Deserialize)]
struct Body {
    epoch: u64,
}

impl Watched {
    /// Follows a record from an epoch that is known to be, or to have been, in it.
    fn follow(&self, name: &str, epoch: u64) -> watch::Receiver<u64> {
        let mut known = self.lock();
        let sender = known.entry(name.to_owned()).or_insert_with(|| watch::Sender::new(epoch));
        raise(sender, epoch);
        sender.subscribe()
    }

    /// An epoch was read, or claimed here.
    fn saw(&self, name: &str, epoch: u64) {
        if let Some(sender) = self.lock().get(name) {
            raise(sender, epoch);
        }
    }

    /// The records that somebody follows.
    fn followed(&self) -> Vec<String> {
        let mut known = self.lock();
        known.retain(|_, sender| sender.receiver_count() > 0);
        known.keys().cloned().collect()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<String, watch::Sender<u64>>> {
        // A panic elsewhere leaves a map that is still true.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn raise(sender: &watch::Sender<u64>, epoch: u64) {
    sender.send_if_modified(|known| {
        let is_newer = epoch > *known;
        *known = epoch.max(*known);
        is_newer
    });
}

impl Catalog {
    /// Records a producer's epoch for a table, unless a greater one is recorded: then this is [`CatalogError::Fenced`]. The
    /// same epoch may be claimed by many sessions.
    pub async fn claim_epoch(&self, table: &str, producer: &str, epoch: u64) -> Result<EpochClaim, CatalogError> {
        let name = format!("{PREFIX}{table}/{producer}");
        // Followed first, so that no claim is missed that is made here meanwhile.
        let newest = self.inner.epochs.follow(&name, 0);
        match self.record_epoch(&name, epoch).await? {
            None => self.inner.epochs.saw(&name, epoch),
            Some(recorded) => {
                self.inner.epochs.saw(&name, recorded);
                return Err(fenced(table, producer, epoch, recorded));
            }
        }
        let (table, producer) = (table.to_owned(), producer.to_owned());
        Ok(EpochClaim { table, producer, epoch, newest })
    }

    /// Writes the record; the greater epoch where there is one.
    async fn record_epoch(&self, name: &str, epoch: u64) -> Result<Option<u64>, CatalogError> {
        let write = self.epoch_write(name, epoch)?;
        let mut attempt = 0;
        loop {
            attempt += 1;
            let error = match self.inner.store.write_one(write.clone()).await {
                Ok(_) => return Ok(None),
                Err(error) => error,
            };
            let message = error.to_string();
            match error {
                WriteError::Condition { existing } => {
                    let stored = existing.as_ref().and_then(|item| match item.get(ATTRIBUTE) {
                        Some(Attr::N(number)) => number.parse().ok(),
                        _ => None,
                    });
                    return match stored {
                        Some(stored) => Ok(Some(stored)),
                        // A store that does not say what is there.
                        None => self.read_epoch(name).await,
                    };
                }
                WriteError::TableMissing { table } => return Err(ControlError::TableMissing { table }.into()),
                WriteError::Access { message } => return Err(ControlError::Access { message }.into()),
                WriteError::Validation { .. } | WriteError::Cancelled { .. } => {
                    return Err(ControlError::Refused { message }.into());
                }
                // What is not known to be written is written again: the same epoch is no greater one.
                WriteError::Throttled { .. } | WriteError::NotSent { .. } | WriteError::Unknown { .. } => {
                    if attempt == EPOCH_ATTEMPTS {
                        return Err(ControlError::Unavailable { message }.into());
                    }
                    let spread = 0.5 + fastrand::f64();
                    tokio::time::sleep((EPOCH_BACKOFF * 2_u32.pow(attempt)).mul_f64(spread)).await;
                }
            }
        }
    }

    fn epoch_write(&self, name: &str, epoch: u64) -> Result<OneWrite, CatalogError> {
        let unwritable = |error: serde_json::Error| CatalogError::Damaged {
            name: name.to_owned(),
            sk: SORT,
            message: error.to_string(),
        };
        let key = format!(r#""pk":{{"S":{}}},"sk":{{"N":"{SORT}"}}"#, serde_json::to_string(name).map_err(unwritable)?);
        let body = serde_json::to_string(&Body { epoch }).map_err(unwritable)?;
        let body = serde_json::to_string(&body).map_err(unwritable)?;
        let lead = format!(r#"{{{key},"body":{{"S":{body}}},"{ATTRIBUTE}":"#);
        let sequence = format!(r#"{{"N":"{epoch}"}}"#);
        // A name of at most a kilobyte, escaped.
        let span = Span { start: lead.len() as u32, end: (lead.len() + sequence.len()) as u32 };
        let json = Bytes::from(format!("{lead}{sequence}}}"));
        let item = WriteItem { sequence: Some(span), ..WriteItem::new(WriteOp::Put, json, key.len() as u32) };
        let rule = SequenceRule { attribute: ATTRIBUTE.into(), expiry_attribute: None };
        Ok(OneWrite { table: self.inner.control_table.as_str().into(), item, sequence: Some(Arc::new(rule)) })
    }

    /// The recorded epoch.
    async fn read_epoch(&self, name: &str) -> Result<Option<u64>, CatalogError> {
        let record = self.inner.store.get_record(&self.inner.control_table, name, Some(SORT)).await?;
        let Some(record) = record else { return Ok(None) };
        let damaged = |error: serde_json::Error| CatalogError::Damaged {
            name: name.to_owned(),
            sk: SORT,
            message: error.to_string(),
        };
        Ok(Some(serde_json::from_str::<Body>(&record.body).map_err(damaged)?.epoch))
    }

    /// Reads the records of all producers with sessions here, once.
    pub(super) async fn read_epochs(&self) {
        let mut reads = futures_util::stream::iter(self.inner.epochs.followed())
            .map(|name| async move {
                let read = self.read_epoch(&name).await;
                (name, read)
            })
            .buffer_unordered(REFRESH_CONCURRENCY);
        while let Some((name, read)) = reads.next().await {
            match read {
                Ok(Some(epoch)) => self.inner.epochs.saw(&name, epoch),
                Ok(None) => {}
                Err(error) => tracing::debug!(record = name, %error, "an epoch cannot be read; its sessions go on"),
            }
        }
    }

    /// Follows the epochs of open sessions until cancelled. Run it as a task.
    pub async fn epoch_loop(self, stop: CancellationToken) {
        let mut ticks = tokio::time::interval(EPOCH_WATCH_INTERVAL);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                _ = ticks.tick() => self.read_epochs().await,
            }
        }
    }
}
