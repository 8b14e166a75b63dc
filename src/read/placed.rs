//! Point reads of keys whose row may be in one of several places: the newest place first, then where it was written before.
//!
//! Of tables with adaptive write shards, in which a key is written once. What is found anywhere is the row; a key is missing
//! only where all its places say so.

use std::sync::Arc;

use prost::Message;
use tokio::time::Instant;

use super::point::{PointReader, ReadOptions, ReadOutcome, TableRead, Unavailable};
use crate::limits::READ_MAX_ANSWER_BYTES;
use crate::payload::decode::RowDecoder;
use crate::payload::read_key::PlacedKey;

/// Keys to read from one table, each at its places.
#[derive(Debug)]
pub struct PlacedRead<'a> {
    /// The DynamoDB table.
    pub dynamodb_table: Arc<str>,
    /// How its items become rows.
    pub decoder: RowDecoder<'a>,
    /// The keys; duplicates are allowed.
    pub keys: Vec<PlacedKey>,
}

impl PointReader {
    /// As [`get_row`](Self::get_row), at one place after the other.
    pub async fn get_placed_row(
        &self,
        dynamodb_table: Arc<str>,
        decoder: &RowDecoder<'_>,
        key: PlacedKey,
        options: ReadOptions,
    ) -> ReadOutcome {
        let mut outcome = ReadOutcome::NotFound;
        let mut places = std::iter::once(key.newest).chain(key.older).peekable();
        while let Some(place) = places.next() {
            let options = if places.peek().is_some() { leaving_half(options) } else { options };
            let there = self.get_row(Arc::clone(&dynamodb_table), decoder, place, options).await;
            outcome = either(outcome, there);
            if !looks_further(&outcome) {
                break;
            }
        }
        outcome
    }

    /// As [`batch_get`](Self::batch_get), in two rounds: the newest places, then all older ones of the keys not found there.
    pub async fn batch_get_placed(&self, tables: Vec<PlacedRead<'_>>, options: ReadOptions) -> Vec<Vec<ReadOutcome>> {
        let (mut newest, mut older) = (Vec::with_capacity(tables.len()), Vec::with_capacity(tables.len()));
        for PlacedRead { dynamodb_table, decoder, keys } in tables {
            let (keys, places): (Vec<_>, Vec<_>) = keys.into_iter().map(|key| (key.newest, key.older)).unzip();
            newest.push(TableRead { dynamodb_table, decoder, keys });
            older.push(places);
        }
        let is_last_round = older.iter().flatten().all(Vec::is_empty);
        let first = if is_last_round { options } else { leaving_half(options) };
        let mut outcomes = self.batch_get(&newest, first).await;

        let (mut again, mut whose) = (Vec::new(), Vec::new());
        for (index, (table, places)) in newest.iter().zip(older).enumerate() {
            let mut keys = Vec::new();
            for (key, places) in places.into_iter().enumerate() {
                if looks_further(&outcomes[index][key]) {
                    whose.extend(places.iter().map(|_| (index, key)));
                    keys.extend(places);
                }
            }
            let (dynamodb_table, decoder) = (table.dynamodb_table.clone(), table.decoder.clone());
            again.push(TableRead { dynamodb_table, decoder, keys });
        }
        if whose.is_empty() {
            return outcomes;
        }
        let there = self.batch_get(&again, options).await.into_iter().flatten();
        for ((table, key), there) in whose.into_iter().zip(there) {
            let here = std::mem::replace(&mut outcomes[table][key], ReadOutcome::NotFound);
            outcomes[table][key] = either(here, there);
        }
        fit_into_answer(&mut outcomes);
        outcomes
    }
}

/// Half of the time that is left, so that a place that does not answer leaves the others theirs.
fn leaving_half(options: ReadOptions) -> ReadOptions {
    let left = options.answer_by.saturating_duration_since(Instant::now());
    ReadOptions { answer_by: options.answer_by - left / 2, ..options }
}

/// Whether an older place may know better.
fn looks_further(outcome: &ReadOutcome) -> bool {
    matches!(outcome, ReadOutcome::NotFound | ReadOutcome::Unavailable(_))
}

/// What two places say together, the newer one's answer first.
fn either(newer: ReadOutcome, older: ReadOutcome) -> ReadOutcome {
    match (newer, older) {
        // Not found there, but it may be here.
        (unavailable @ ReadOutcome::Unavailable(_), ReadOutcome::NotFound) => unavailable,
        (ReadOutcome::NotFound | ReadOutcome::Unavailable(_), older) => older,
        (newer, _) => newer,
    }
}

/// Each round keeps to the size of an answer; both together must.
fn fit_into_answer(outcomes: &mut [Vec<ReadOutcome>]) {
    let mut room_bytes = READ_MAX_ANSWER_BYTES;
    for outcome in outcomes.iter_mut().flatten() {
        if let ReadOutcome::Found(row) = outcome {
            match room_bytes.checked_sub(row.encoded_len()) {
                Some(left) => room_bytes = left,
                None => {
                    room_bytes = 0;
                    *outcome = ReadOutcome::Unavailable(Unavailable::ANSWER_FULL);
                }
            }
        }
    }
}
