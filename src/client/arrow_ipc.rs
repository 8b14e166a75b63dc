//! Arrow record batches as `ArrowBatch` payloads: the schema message once, then per batch its dictionaries and the batch.
//!
//! Every payload stands alone (it carries all dictionaries that it needs), because a reconnect may put any batch first in
//! a call. Batches larger than the gateway's target are cut by rows.

use std::sync::Arc;

use arrow_array::RecordBatch;
use arrow_ipc::CompressionType;
use arrow_ipc::writer::{DictionaryTracker, IpcDataGenerator, IpcWriteContext, IpcWriteOptions, write_message};
use arrow_schema::{ArrowError, Schema, SchemaRef};
use bytes::Bytes;

use super::wire::Payload;

/// Compression of the bodies of Arrow batches.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum ArrowCompression {
    /// None: right within a data centre.
    #[default]
    None,
    /// LZ4: cheap.
    Lz4,
    /// ZSTD: for thin lines.
    Zstd,
}

/// The encapsulated IPC schema message, for `Open.arrow_schema`.
pub(crate) fn schema_message(schema: &Schema) -> Result<Bytes, ArrowError> {
    let options = IpcWriteOptions::default();
    let mut tracker = DictionaryTracker::new(false);
    let encoded = IpcDataGenerator::default().schema_to_bytes_with_dictionary_tracker(schema, &mut tracker, &options);
    let mut out = Vec::new();
    write_message(&mut out, encoded, &options)?;
    Ok(Bytes::from(out))
}

/// Encodes the batches of one session.
#[derive(Debug)]
pub(crate) struct ArrowEncoder {
    schema: SchemaRef,
    options: IpcWriteOptions,
    context: IpcWriteContext,
    target_bytes: usize,
    max_rows: usize,
    /// Rows of the next slice: what fitted the target the last time.
    slice_rows: usize,
}

/// One slice: its payload and its number of rows.
pub(crate) type Slice = (Payload, usize);

impl ArrowEncoder {
    pub(crate) fn try_new(
        schema: SchemaRef,
        compression: ArrowCompression,
        target_bytes: usize,
        max_rows: usize,
    ) -> Result<Self, ArrowError> {
        let compression = match compression {
            ArrowCompression::None => None,
            ArrowCompression::Lz4 => Some(CompressionType::LZ4_FRAME),
            ArrowCompression::Zstd => Some(CompressionType::ZSTD),
        };
        let options = IpcWriteOptions::default().try_with_compression(compression)?;
        let max_rows = max_rows.max(1);
        Ok(Self { schema, options, context: IpcWriteContext::default(), target_bytes, max_rows, slice_rows: max_rows })
    }

    /// The session's schema.
    pub(crate) fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    /// Encodes a batch into one or more slices.
    pub(crate) fn encode(&mut self, batch: &RecordBatch) -> Result<Vec<Slice>, ArrowError> {
        let mut slices = Vec::new();
        let mut at = 0;
        while at < batch.num_rows() {
            let slice = self.encode_from(batch, at)?;
            at += slice.1;
            slices.push(slice);
        }
        Ok(slices)
    }

    /// Encodes rows from `at` on, which must be below the batch's end: as many as fit the target.
    pub(crate) fn encode_from(&mut self, batch: &RecordBatch, at: usize) -> Result<Slice, ArrowError> {
        loop {
            let rows = self.slice_rows.min(batch.num_rows() - at);
            let ipc = self.encode_one(&batch.slice(at, rows))?;
            if ipc.len() > self.target_bytes && rows > 1 {
                // Rows of this batch are wider than those before: aim a little lower than the target.
                let fitting = (rows as u128 * self.target_bytes as u128 * 9 / 10 / ipc.len() as u128) as usize;
                self.slice_rows = fitting.clamp(1, rows - 1);
                continue;
            }
            if ipc.len() < self.target_bytes / 2 && rows == self.slice_rows {
                self.slice_rows = (rows * 2).min(self.max_rows);
            }
            return Ok((Payload::Arrow(ipc), rows));
        }
    }

    fn encode_one(&mut self, batch: &RecordBatch) -> Result<Bytes, ArrowError> {
        let mut tracker = DictionaryTracker::new(false);
        let generator = IpcDataGenerator::default();
        // The tracker learns the dictionaries' numbers from the schema.
        generator.schema_to_bytes_with_dictionary_tracker(&self.schema, &mut tracker, &self.options);
        let (dictionaries, encoded) = generator.encode(batch, &mut tracker, &self.options, &mut self.context)?;
        let mut out = Vec::new();
        for dictionary in dictionaries {
            write_message(&mut out, dictionary, &self.options)?;
        }
        write_message(&mut out, encoded, &self.options)?;
        Ok(Bytes::from(out))
    }
}

/// Whether two schemas have the same columns; metadata does not matter.
pub(crate) fn same_columns(a: &Schema, b: &Schema) -> bool {
    a.fields().len() == b.fields().len()
        && a.fields()
            .iter()
            .zip(b.fields())
            .all(|(a, b)| Arc::ptr_eq(a, b) || (a.name() == b.name() && a.data_type() == b.data_type()))
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use arrow_array::types::Int32Type;
    use arrow_array::{ArrayRef, DictionaryArray, Int64Array, StringArray};
    use arrow_ipc::reader::StreamReader;

    use super::*;

    fn sample(rows: i64) -> RecordBatch {
        let numbers: ArrayRef = Arc::new(Int64Array::from_iter_values(0..rows));
        let texts: ArrayRef = Arc::new(StringArray::from_iter_values((0..rows).map(|i| format!("row {i}"))));
        let codes: DictionaryArray<Int32Type> = (0..rows).map(|i| if i % 2 == 0 { "even" } else { "odd" }).collect();
        RecordBatch::try_from_iter([("n", numbers), ("t", texts), ("d", Arc::new(codes) as ArrayRef)]).unwrap()
    }

    fn read_back(encoder: &ArrowEncoder, payload: &Payload) -> RecordBatch {
        let Payload::Arrow(ipc) = payload else { panic!("not Arrow") };
        let mut stream = schema_message(encoder.schema()).unwrap().to_vec();
        stream.extend_from_slice(ipc);
        StreamReader::try_new(Cursor::new(stream), None).unwrap().next().unwrap().unwrap()
    }

    #[test]
    fn every_slice_stands_alone_and_stays_under_the_target() {
        let batch = sample(10_000);
        let mut encoder = ArrowEncoder::try_new(batch.schema(), ArrowCompression::None, 16 * 1024, 100_000).unwrap();
        let slices = encoder.encode(&batch).unwrap();
        assert!(slices.len() > 5);
        let mut at = 0;
        for (payload, rows) in &slices {
            assert!(payload.message_bytes(1) <= 16 * 1024 + 16);
            assert_eq!(read_back(&encoder, payload), batch.slice(at, *rows));
            at += rows;
        }
        assert_eq!(at, batch.num_rows());
    }

    #[test]
    fn the_row_limit_is_kept_and_compression_is_undone_by_any_reader() {
        let batch = sample(100);
        for compression in [ArrowCompression::Lz4, ArrowCompression::Zstd] {
            let mut encoder = ArrowEncoder::try_new(batch.schema(), compression, 1 << 20, 30).unwrap();
            let slices = encoder.encode(&batch).unwrap();
            assert_eq!(slices.iter().map(|(_, rows)| *rows).collect::<Vec<_>>(), [30, 30, 30, 10]);
            assert_eq!(read_back(&encoder, &slices[3].0), batch.slice(90, 10));
        }
    }
}
