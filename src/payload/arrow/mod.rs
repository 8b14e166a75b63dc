//! Arrow batches: one IPC record batch straight into DynamoDB's JSON.
//!
//! `Open` brings the schema message once ([`IncomingArrow`]); compiling it against the plan ([`ArrowPlan`]) refuses types of
//! which no value could fit. Each batch is then checked by the memory guard (`guard`) before anything is allocated for it,
//! decoded by arrow-ipc without copying what is aligned, and walked row by row ([`ArrowCursor`]).
//!
//! A batch is its dictionary batches, each whole and once, then one record batch; an end-of-stream marker may follow.
//! Anything else ends the call, values that do not fit reject their row.

mod columns;
mod guard;
#[cfg(test)]
mod hostile;
mod lz4;
#[cfg(test)]
mod same;
mod schema;
mod shape;
mod spark;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;
mod variant;
#[cfg(test)]
mod variant_tests;

use std::collections::HashMap;
use std::sync::Arc;

use arrow_array::{ArrayRef, RecordBatch};
use arrow_buffer::Buffer;
use arrow_ipc::CompressionType;
use arrow_ipc::reader::RecordBatchDecoder;
use arrow_schema::{Field as ArrowField, Schema as ArrowSchema, SchemaRef};
use bytes::Bytes;

use self::columns::Column;
use self::guard::{CheckedMessages, arrow_error, check_batch, malformed};
pub use self::schema::IncomingArrow;
use self::shape::{Compiler, Shape};
pub use self::spark::{SparkError, refine};
use super::PayloadError;
use super::chunk::{Chunk, ChunkBuilder};
use super::item::ItemWriter;
use super::leaf::{Leaf, Put};
use super::plan::{Plan, PlanError, RowSource, Used};
use super::target::Target;

/// A session's Arrow columns, compiled against its plan.
#[derive(Debug)]
pub struct ArrowPlan {
    incoming: IncomingArrow,
    /// Positions of the columns that are decoded; `None` where all are.
    projection: Option<Vec<usize>>,
    /// For each decoded column, its position and shape, in order.
    shapes: Vec<(usize, Shape)>,
    /// For each dictionary that is decoded, the schema of its one column.
    dictionaries: HashMap<i64, SchemaRef>,
}

impl ArrowPlan {
    /// Checks that values of the incoming types can fit the table's; the plan must be compiled from the same columns.
    pub fn compile(plan: &Plan, incoming: IncomingArrow) -> Result<Self, PlanError> {
        let mut compiler = Compiler::default();
        // A column of a joined key is also an attribute; the attribute's shape is the one to keep.
        let mut shapes: Vec<Option<Shape>> = vec![None; incoming.columns.fields().len()];
        for (position, name, used) in plan.used_columns() {
            let field = incoming.columns.field(position);
            shapes[position] = Some(match used {
                Used::Key(leaf) => compiler.leaf(leaf, field, name).map(|()| Shape::Plain)?,
                Used::Column(target) => compiler.target(target, field, incoming.spark_type(position), name, 1)?,
            });
        }
        let shapes: Vec<(usize, Shape)> =
            shapes.into_iter().enumerate().filter_map(|(position, shape)| Some((position, shape?))).collect();
        let projection = shapes.iter().map(|(position, _)| *position).collect::<Vec<_>>();
        let projection = (projection.len() < incoming.arrow.fields().len()).then_some(projection);
        let used = incoming.dictionaries.iter().filter(|(id, _)| compiler.dictionaries.contains(id));
        let dictionaries = used.map(|(id, values)| {
            let column = ArrowField::new("", values.clone(), true);
            (*id, Arc::new(ArrowSchema::new(vec![column])))
        });
        Ok(Self { dictionaries: dictionaries.collect(), incoming, projection, shapes })
    }

    /// Checks what a batch claims, without allocating by it.
    pub fn check(&self, ipc_messages: Bytes) -> Result<CheckedBatch<'_>, PayloadError> {
        let messages = check_batch(&ipc_messages, self.incoming.arrow.fields(), &self.incoming.dictionaries)?;
        Ok(CheckedBatch { plan: self, payload: ipc_messages, messages })
    }

    /// Checks and decodes a batch.
    pub fn decode(&self, ipc_messages: Bytes) -> Result<ArrowCursor, PayloadError> {
        self.check(ipc_messages)?.decode()
    }
}

/// A batch whose claims hold; not decoded yet.
#[derive(Debug)]
pub struct CheckedBatch<'p> {
    plan: &'p ArrowPlan,
    payload: Bytes,
    messages: CheckedMessages,
}

impl CheckedBatch<'_> {
    /// Number of rows.
    pub fn rows(&self) -> u32 {
        self.messages.rows
    }

    /// The most that decoding allocates for values, in bytes; at most [`crate::limits::ARROW_MAX_DECODED_BYTES`]. What is
    /// neither compressed nor misaligned is not copied.
    pub fn decoded_bytes(&self) -> u64 {
        self.messages.decoded_bytes
    }

    /// Decodes the batch. Values lie in the payload's own memory where they can.
    pub fn decode(self) -> Result<ArrowCursor, PayloadError> {
        let payload = Buffer::from(self.payload.clone());
        let mut dictionaries = HashMap::with_capacity(self.plan.dictionaries.len());
        for (id, checked) in &self.messages.dictionaries {
            let Some(schema) = self.plan.dictionaries.get(id) else { continue };
            let message = checked.message(&self.payload)?;
            let body = payload.slice_with_length(checked.body.start, checked.body.len());
            let data = message.header_as_dictionary_batch().and_then(|batch| batch.data());
            let data = data.ok_or_else(|| malformed("a dictionary has no data"))?;
            let values = read(data, &body, schema, &HashMap::new(), None, message.version())?;
            dictionaries.insert(*id, Arc::clone(values.column(0)));
        }

        let checked = &self.messages.record_batch;
        let message = checked.message(&self.payload)?;
        let body = payload.slice_with_length(checked.body.start, checked.body.len());
        let data = message.header_as_record_batch().ok_or_else(|| malformed("a record batch has no header"))?;
        let (schema, projection) = (&self.plan.incoming.arrow, self.plan.projection.as_deref());
        let batch = read(data, &body, schema, &dictionaries, projection, message.version())?;

        let mut columns = Vec::new();
        columns.resize_with(schema.fields().len(), Column::unused);
        for ((position, shape), array) in self.plan.shapes.iter().zip(batch.columns()) {
            columns[*position] = Column::new(array, shape);
        }
        Ok(ArrowCursor { columns, rows: self.messages.rows, next_row: 0, bytes_per_row: self.bytes_per_row() })
    }

    /// A first guess at a row's size in DynamoDB's JSON.
    fn bytes_per_row(&self) -> usize {
        // Binary numbers and their names take about three times their size as text; at most 64 MiB, so no overflow.
        3 * self.messages.decoded_bytes as usize / (self.messages.rows as usize).max(1) + 64
    }
}

/// Gives one message's arrays to arrow-ipc.
fn read(
    data: arrow_ipc::RecordBatch<'_>,
    body: &Buffer,
    schema: &SchemaRef,
    dictionaries: &HashMap<i64, ArrayRef>,
    projection: Option<&[usize]>,
    version: arrow_ipc::MetadataVersion,
) -> Result<RecordBatch, PayloadError> {
    if data.compression().is_some_and(|compression| compression.codec() == CompressionType::LZ4_FRAME) {
        let (metadata, body) = lz4::unfold(data, body)?;
        let data = flatbuffers::root::<arrow_ipc::RecordBatch<'_>>(&metadata);
        let data = data.map_err(|_| malformed("a batch's metadata cannot be rewritten"))?;
        return read(data, &body, schema, dictionaries, projection, version);
    }
    RecordBatchDecoder::try_new(body, data, Arc::clone(schema), dictionaries, &version)
        .and_then(|decoder| decoder.with_projection(projection).read_record_batch())
        .map_err(arrow_error)
}

/// Walks one batch.
#[derive(Debug)]
pub struct ArrowCursor {
    /// By the position of the incoming column.
    columns: Vec<Column>,
    rows: u32,
    next_row: u32,
    bytes_per_row: usize,
}

impl ArrowCursor {
    /// Rows of the batch.
    pub fn rows(&self) -> u32 {
        self.rows
    }

    /// Encodes rows until the chunk has about `target_bytes`; `None` at the end of the batch. Tombstones expire some time
    /// after `now_epoch_seconds`.
    pub fn next_chunk(
        &mut self,
        plan: &Plan,
        target_bytes: usize,
        now_epoch_seconds: u64,
    ) -> Result<Option<Chunk>, PayloadError> {
        let rest = (self.rows - self.next_row) as usize;
        let guess = rest.saturating_mul(self.bytes_per_row).saturating_add(256);
        let mut chunk = ChunkBuilder::with_capacity(guess.min(target_bytes + target_bytes / 8), now_epoch_seconds);
        while self.next_row < self.rows && !chunk.is_full(target_bytes) {
            let row = ArrowRow { columns: &self.columns, row: self.next_row as usize };
            plan.encode_row(self.next_row, &row, &mut chunk);
            self.next_row += 1;
        }
        Ok((!chunk.is_empty()).then(|| chunk.finish()))
    }
}

/// One row of the columns.
struct ArrowRow<'a> {
    columns: &'a [Column],
    row: usize,
}

impl RowSource for ArrowRow<'_> {
    fn put(&self, column: usize, target: &Target, writer: &mut ItemWriter) -> Put {
        self.columns[column].put(self.row, target, writer)
    }

    fn put_leaf(&self, column: usize, leaf: &Leaf, writer: &mut ItemWriter) -> Put {
        self.columns[column].put_leaf(self.row, leaf, writer)
    }
}
