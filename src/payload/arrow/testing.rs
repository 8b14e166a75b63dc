//! What the tests of Arrow batches share: tables, batches as IPC bytes, and rows as JSON.

use std::sync::Arc;

use arrow_array::{ArrayRef, RecordBatch};
use arrow_ipc::CompressionType;
use arrow_ipc::writer::{IpcWriteOptions, StreamWriter};
use arrow_schema::{Field as ArrowField, Schema as ArrowSchema};
use bytes::Bytes;

use super::*;
use crate::payload::RejectReason;
use crate::schema::{DataType, Field, KeyDef, Schema, TableDef};
use crate::store::WriteOp;

/// A table whose key is the text column `id`.
pub(super) fn table(mut fields: Vec<Field>) -> TableDef {
    fields.insert(0, Field::new("id", DataType::String, false));
    let key = KeyDef {
        partition: vec!["id".into()],
        sort: Vec::new(),
        partition_attribute: crate::schema::table::default_partition_attribute(),
        sort_attribute: crate::schema::table::default_sort_attribute(),
    };
    TableDef::new("t", Schema { fields }, key, "t")
}

/// A batch of these columns, and `id` before them with the values "0", "1" and so on.
pub(super) fn batch(columns: Vec<(&str, ArrayRef)>) -> RecordBatch {
    let rows = columns.first().map_or(1, |(_, column)| column.len());
    let ids: ArrayRef = Arc::new(arrow_array::StringArray::from_iter_values((0..rows).map(|row| row.to_string())));
    let columns: Vec<_> = std::iter::once(("id", ids)).chain(columns).collect();
    let field = |(name, column): &(&str, ArrayRef)| ArrowField::new(*name, column.data_type().clone(), true);
    let schema = ArrowSchema::new(columns.iter().map(field).collect::<Vec<_>>());
    RecordBatch::try_new(Arc::new(schema), columns.into_iter().map(|(_, column)| column).collect()).unwrap()
}

/// The schema message, and the batch as `ipc_messages`.
pub(super) fn ipc(batch: &RecordBatch, compression: Option<CompressionType>) -> (Bytes, Bytes) {
    let options = IpcWriteOptions::default().try_with_compression(compression).unwrap();
    let mut writer = StreamWriter::try_new_with_options(Vec::new(), &batch.schema(), options).unwrap();
    let schema_bytes = writer.get_ref().len();
    writer.write(batch).unwrap();
    let bytes = Bytes::from(writer.into_inner().unwrap());
    (bytes.slice(..schema_bytes), bytes.slice(schema_bytes..))
}

/// A session for the table and the schema message.
pub(super) fn open(table: &TableDef, schema: &Bytes) -> (Plan, ArrowPlan) {
    let incoming = IncomingArrow::parse(schema).unwrap();
    let plan = Plan::compile(table, incoming.schema(), WriteOp::Put, 1).unwrap();
    let arrow_plan = ArrowPlan::compile(&plan, incoming).unwrap();
    (plan, arrow_plan)
}

/// Every row of the batch: its item, or the path and reason of its reject.
pub(super) type Rows = Vec<Result<serde_json::Value, (String, RejectReason)>>;

/// Encodes the batch.
pub(super) fn rows(table: &TableDef, batch: &RecordBatch, compression: Option<CompressionType>) -> Rows {
    let (schema, messages) = ipc(batch, compression);
    let (plan, arrow_plan) = open(table, &schema);
    let mut cursor = arrow_plan.decode(messages).unwrap();
    let mut rows = Rows::new();
    while let Some(chunk) = cursor.next_chunk(&plan, 1 << 20, 0).unwrap() {
        let mut merged: Vec<_> = chunk
            .rows
            .iter()
            .map(|row| (row.row_index, Ok(serde_json::from_slice(&row.item.json).unwrap())))
            .chain(chunk.rejects.into_iter().map(|row| (row.row_index, Err((row.reject.path, row.reject.reason)))))
            .collect();
        merged.sort_by_key(|(row_index, _)| *row_index);
        rows.extend(merged.into_iter().map(|(_, row)| row));
    }
    rows
}
