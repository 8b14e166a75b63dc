//! A chunk: encoded rows that share one buffer, and the rows that were rejected on the way.

use bytes::Bytes;

use super::coercion::Tally;
use super::item::{ItemWriter, Mark};
use super::reject::{Reject, RowReject};
use crate::store::{Span, WriteItem, WriteOp};

/// One row, ready for a lane.
#[derive(Debug, Clone)]
pub struct EncodedRow {
    /// The row's index in the client's batch.
    pub row_index: u32,
    /// What is written.
    pub item: WriteItem,
    /// Hash of the partition key; chooses the lane.
    pub partition_hash: u64,
    /// Hash of the whole key.
    pub key_hash: u64,
    /// The item's size by DynamoDB's own rule, of a delete the size of its key; no less than it where the plan does not
    /// [`measure`](super::Plan::measure).
    pub item_bytes: u32,
}

/// Encoded rows of a batch.
#[derive(Debug, Default)]
pub struct Chunk {
    /// The rows, in the batch's order.
    pub rows: Vec<EncodedRow>,
    /// The rejected rows, in the batch's order.
    pub rejects: Vec<RowReject>,
    /// Coercions of the rows.
    pub coercions: Tally,
    /// Memory that the chunk holds, in bytes.
    pub memory_bytes: usize,
}

/// What a lane needs beside a row's text: an estimate of its bookkeeping, in bytes.
const ROW_OVERHEAD_BYTES: usize = 192;
/// What a reject holds on the way to its outcome: an estimate, in bytes.
const REJECT_OVERHEAD_BYTES: usize = 384;

/// Collects rows into a chunk.
#[derive(Debug)]
pub struct ChunkBuilder {
    /// Where rows are written.
    pub writer: ItemWriter,
    /// The time by which tombstones of the chunk expire later.
    pub now_epoch_seconds: u64,
    spans: Vec<RowSpan>,
    rejects: Vec<RowReject>,
    rejected_bytes: usize,
    coercions: Tally,
}

#[derive(Debug)]
struct RowSpan {
    start: usize,
    end: usize,
    row_index: u32,
    shape: RowShape,
}

/// What the plan knows about a row that it has just written.
#[derive(Debug, Clone, Copy)]
pub struct RowShape {
    /// What to do.
    pub op: WriteOp,
    /// Length of the key attributes' text.
    pub key_len: u32,
    /// Where the sequence stands in the row's text.
    pub sequence: Option<Span>,
    /// Hash of the partition key's text.
    pub partition_hash: u64,
    /// Hash of the whole key's text.
    pub key_hash: u64,
    /// The item's size, or no less.
    pub item_bytes: u32,
}

impl ChunkBuilder {
    /// A builder with room for so many bytes.
    pub fn with_capacity(bytes: usize, now_epoch_seconds: u64) -> Self {
        Self {
            writer: ItemWriter::with_capacity(bytes),
            now_epoch_seconds,
            spans: Vec::new(),
            rejects: Vec::new(),
            rejected_bytes: 0,
            coercions: Tally::default(),
        }
    }

    /// Whether the chunk should be handed on: it holds about as many bytes as wanted, or as much work went into rows that
    /// were rejected. The latter bounds how long a batch of bad rows keeps its task busy, and how many rejects wait.
    pub fn is_full(&self, target_bytes: usize) -> bool {
        self.writer.len() + self.rejected_bytes >= target_bytes
    }

    /// Whether there is neither a row nor a reject.
    pub fn is_empty(&self) -> bool {
        self.spans.is_empty() && self.rejects.is_empty()
    }

    /// Keeps the row written since `start`, or cuts it off and keeps its reject.
    pub fn finish_row(&mut self, row_index: u32, start: Mark, start_len: usize, row: Result<RowShape, Box<Reject>>) {
        match row {
            Ok(shape) => {
                let end = self.writer.len();
                self.coercions.count(self.writer.coercions());
                self.spans.push(RowSpan { start: start_len, end, row_index, shape });
            }
            Err(reject) => {
                self.rejected_bytes += self.writer.len() - start_len + REJECT_OVERHEAD_BYTES;
                self.writer.rewind(start);
                self.rejects.push(RowReject { row_index, reject: *reject });
            }
        }
    }

    /// The chunk.
    pub fn finish(self) -> Chunk {
        let buffer = self.writer.into_buffer();
        let memory_bytes =
            buffer.capacity() + self.spans.len() * ROW_OVERHEAD_BYTES + self.rejects.len() * REJECT_OVERHEAD_BYTES;
        let buffer = Bytes::from(buffer);
        let row = |span: RowSpan| EncodedRow {
            row_index: span.row_index,
            item: WriteItem {
                op: span.shape.op,
                json: buffer.slice(span.start..span.end),
                key_len: span.shape.key_len,
                sequence: span.shape.sequence,
            },
            partition_hash: span.shape.partition_hash,
            key_hash: span.shape.key_hash,
            item_bytes: span.shape.item_bytes,
        };
        let rows = self.spans.into_iter().map(row).collect();
        Chunk { rows, rejects: self.rejects, coercions: self.coercions, memory_bytes }
    }
}
