//! An atomic batch: all of its rows or none, in one transaction. Pure; `encoding` gathers, `session` and `unary` submit.
//!
//! Rows of such a batch meet each other before they meet a lane: one that cannot be written keeps the others from it.

use std::collections::HashMap;
use std::sync::Arc;

use sha2::{Digest as _, Sha256};

use crate::limits::{ATOMIC_MAX_BYTES, ATOMIC_MAX_ROWS};
use crate::payload::{Chunk, EncodedRow, Reject, RejectReason, RowReject};
use crate::store::WriteOp;

/// More rows than a transaction has room for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("an atomic batch has at most {ATOMIC_MAX_ROWS} rows: DynamoDB writes no more in one transaction")]
pub(in crate::api) struct TooManyRows;

/// The rows of an atomic batch, as they are encoded.
#[derive(Debug, Default)]
pub(super) struct Group {
    gathered: Chunk,
    item_bytes: usize,
}

impl Group {
    /// Adds the next rows.
    pub(super) fn add(&mut self, chunk: Chunk) -> Result<(), TooManyRows> {
        let Self { gathered, item_bytes } = self;
        *item_bytes += chunk.rows.iter().map(|row| row.item_bytes as usize).sum::<usize>();
        gathered.rejects.extend(chunk.rejects);
        gathered.rows.extend(chunk.rows);
        gathered.coercions.add(&chunk.coercions);
        gathered.memory_bytes += chunk.memory_bytes;
        if gathered.rows.len() + gathered.rejects.len() > ATOMIC_MAX_ROWS {
            return Err(TooManyRows);
        }
        if *item_bytes > ATOMIC_MAX_BYTES {
            // Their bytes are not kept until the end of the batch.
            reject_all(gathered, |_| {
                let message = format!("the rows of an atomic batch together have more than {ATOMIC_MAX_BYTES} bytes");
                Reject::new(RejectReason::ItemTooLarge, message).hint("send fewer rows in one batch")
            });
        }
        Ok(())
    }

    /// All rows, ready to be written; or none, and why.
    pub(super) fn finish(self) -> Chunk {
        let mut gathered = self.gathered;
        let mut keys: HashMap<&[u8], u32> = HashMap::with_capacity(gathered.rows.len());
        for row in &gathered.rows {
            *keys.entry(row.item.key_text()).or_default() += 1;
        }
        let repeated = keys.values().any(|count| *count > 1);
        if gathered.rejects.is_empty() && !repeated {
            return gathered;
        }
        let is_repeated: Vec<bool> =
            gathered.rows.iter().map(|row| keys.get(row.item.key_text()).is_some_and(|count| *count > 1)).collect();
        drop(keys);
        reject_all(&mut gathered, |index| match is_repeated[index] {
            true => Reject::new(RejectReason::DuplicateKey, "another row of the atomic batch has the same key")
                .hint("a transaction writes each item once: keep the last of them"),
            false => Reject::new(RejectReason::AtomicPeer, "another row of the atomic batch cannot be written")
                .hint("mend that row, or leave it out, and send all of them again"),
        });
        gathered
    }
}

/// Turns all rows into rejects; each by its place among the rows.
fn reject_all(chunk: &mut Chunk, why: impl Fn(usize) -> Box<Reject>) {
    let rows = std::mem::take(&mut chunk.rows).into_iter().enumerate();
    let rejects = rows.map(|(index, row)| RowReject { row_index: row.row_index, reject: *why(index) });
    chunk.rejects.extend(rejects);
    chunk.rejects.sort_unstable_by_key(|rejected| rejected.row_index);
    // Only rows that are accepted count.
    chunk.coercions = Default::default();
}

/// Whose rows they are: what must not be taken for one another, though the rows are the same.
#[derive(Debug, Clone, Copy)]
pub(super) enum Source<'a> {
    /// A run of a producer. The same rows, sent again in the same run, are a repetition.
    Run {
        /// Who.
        producer: &'a str,
        /// Which run.
        epoch: u64,
    },
    /// Anybody else: the same rows in another batch are written again.
    Batch {
        /// The process and its session.
        session: (u64, u64),
        /// The batch.
        seq: u64,
    },
}

/// Names a transaction: 128 bits in hexadecimal, of which DynamoDB takes 36 characters.
pub(super) fn token(source: Source<'_>, dynamodb_table: &str, rows: &[EncodedRow]) -> Arc<str> {
    let mut hash = Sha256::new();
    // Every part with its length, so that no two lists of parts are the same text.
    let mut part = |bytes: &[u8]| {
        hash.update((bytes.len() as u64).to_le_bytes());
        hash.update(bytes);
    };
    match source {
        Source::Run { producer, epoch } => {
            part(b"run");
            part(producer.as_bytes());
            part(&epoch.to_le_bytes());
        }
        Source::Batch { session: (process, session), seq } => {
            part(b"batch");
            part(&process.to_le_bytes());
            part(&session.to_le_bytes());
            part(&seq.to_le_bytes());
        }
    }
    part(dynamodb_table.as_bytes());
    for row in rows {
        part(match row.item.op {
            WriteOp::Put => b"put",
            WriteOp::Delete => b"delete",
            WriteOp::Merge => b"merge",
            WriteOp::Insert => b"insert",
        });
        part(&row.item.json);
    }
    hash.finalize()[..16].iter().map(|byte| format!("{byte:02x}")).collect::<String>().into()
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::store::WriteItem;

    fn row(row_index: u32, key: &str, item_bytes: u32) -> EncodedRow {
        let json = Bytes::from(format!(r#"{{"id":{{"S":"{key}"}},"v":{{"N":"1"}}}}"#));
        let item = WriteItem::new(WriteOp::Put, json, key.len() as u32 + 11);
        EncodedRow { row_index, item, partition_hash: 1, key_hash: 1, item_bytes }
    }

    fn chunk(rows: Vec<EncodedRow>, rejected: &[u32]) -> Chunk {
        let reject =
            |row_index: &u32| RowReject { row_index: *row_index, reject: *Reject::new(RejectReason::OutOfRange, "no") };
        Chunk { rows, rejects: rejected.iter().map(reject).collect(), memory_bytes: 10, ..Chunk::default() }
    }

    fn finished(chunks: Vec<Chunk>) -> (Vec<u32>, Vec<(u32, RejectReason)>) {
        let mut group = Group::default();
        for chunk in chunks {
            group.add(chunk).unwrap();
        }
        let whole = group.finish();
        let rejects = whole.rejects.iter().map(|row| (row.row_index, row.reject.reason)).collect();
        (whole.rows.iter().map(|row| row.row_index).collect(), rejects)
    }

    use RejectReason::{AtomicPeer, DuplicateKey, ItemTooLarge, OutOfRange};

    #[test]
    fn rows_that_fit_stay_together_over_all_chunks() {
        let chunks = vec![chunk(vec![row(0, "a", 9), row(1, "b", 9)], &[]), chunk(vec![row(2, "c", 9)], &[])];
        assert_eq!(finished(chunks), (vec![0, 1, 2], vec![]));
    }

    #[test]
    fn one_bad_row_takes_its_neighbours_with_it() {
        let chunks = vec![chunk(vec![row(0, "a", 9), row(2, "b", 9)], &[1]), chunk(vec![row(3, "c", 9)], &[])];
        let rejects = vec![(0, AtomicPeer), (1, OutOfRange), (2, AtomicPeer), (3, AtomicPeer)];
        assert_eq!(finished(chunks), (vec![], rejects));
    }

    #[test]
    fn rows_with_one_key_are_named_all_of_them() {
        let chunks = vec![chunk(vec![row(0, "a", 9), row(1, "b", 9), row(2, "a", 9)], &[])];
        assert_eq!(finished(chunks), (vec![], vec![(0, DuplicateKey), (1, AtomicPeer), (2, DuplicateKey)]));
    }

    #[test]
    fn a_transaction_has_its_limits() {
        let mut group = Group::default();
        let rows = |from: u32, count: u32| (from..from + count).map(|at| row(at, &at.to_string(), 9)).collect();
        group.add(chunk(rows(0, 99), &[99])).unwrap();
        assert_eq!(group.add(chunk(rows(100, 1), &[])), Err(TooManyRows));

        let half = ATOMIC_MAX_BYTES as u32 / 2;
        let fits = vec![chunk(vec![row(0, "a", half), row(1, "b", half)], &[])];
        assert_eq!(finished(fits).0, [0, 1]);
        let chunks = vec![chunk(vec![row(0, "a", half), row(1, "b", half + 1)], &[]), chunk(vec![row(2, "c", 9)], &[])];
        assert_eq!(finished(chunks), (vec![], (0..3).map(|row| (row, ItemTooLarge)).collect()));
    }

    #[test]
    fn a_token_tells_apart_what_is_no_repetition() {
        let rows = [row(0, "a", 9), row(1, "b", 9)];
        let run = |producer, epoch| Source::Run { producer, epoch };
        let base = token(run("p", 1), "t", &rows);
        assert_eq!((base.len(), &base), (32, &token(run("p", 1), "t", &rows)), "the same again");
        let mut deleted = rows.clone();
        deleted[0].item.op = WriteOp::Delete;
        let batch = |session, seq| Source::Batch { session: (1, session), seq };
        let others = [
            token(run("q", 1), "t", &rows),
            token(run("p", 2), "t", &rows),
            token(run("p", 1), "u", &rows),
            token(run("p", 1), "t", &rows[..1]),
            token(run("p", 1), "t", &deleted),
            token(batch(1, 1), "t", &rows),
            token(batch(1, 2), "t", &rows),
            token(batch(2, 1), "t", &rows),
        ];
        let mut all: Vec<_> = others.iter().chain([&base]).collect();
        all.sort();
        all.dedup();
        assert_eq!(all.len(), others.len() + 1);
    }
}
