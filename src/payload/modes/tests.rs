//! Every operation, in both forms of rows.

use std::sync::Arc;

use arrow_array::{ArrayRef, DictionaryArray, Int64Array, RecordBatch, StringArray, types::Int8Type};
use arrow_ipc::writer::StreamWriter;
use arrow_schema::{Field as ArrowField, Schema as ArrowSchema};
use bytes::Bytes;
use prost::Message as _;

use super::*;
use crate::payload::arrow::{ArrowPlan, IncomingArrow};
use crate::payload::chunk::Chunk;
use crate::payload::rows::{RowsCursor, RowsPlan};
use crate::payload::{EncodedRow, Plan, RowReject};
use crate::proto::v1::{Row, RowBatch, Value, value::Kind};
use crate::schema::ddl;
use crate::schema::table::{KeyDef, default_partition_attribute, default_sort_attribute};

const NOW: u64 = 1_800_000_000;
const WEEK_LATER: u64 = NOW + 7 * 86_400;

fn table(columns: &str) -> TableDef {
    let key = KeyDef {
        partition: vec!["id".to_owned()],
        sort: Vec::new(),
        partition_attribute: default_partition_attribute(),
        sort_attribute: default_sort_attribute(),
    };
    TableDef::new("t", ddl::parse(&format!("id STRING NOT NULL, {columns}")).unwrap(), key, "t")
}

fn sequenced(columns: &str) -> TableDef {
    TableDef { sequence_by: Some("v".to_owned()), ..table(&format!("v BIGINT NOT NULL, {columns}")) }
}

fn by_column() -> Writes {
    Writes { mode: RowMode::ByColumn("op".to_owned()), on_missing: None, store_assignment: None }
}

fn session(columns: &str) -> Schema {
    ddl::parse(columns).unwrap()
}

/// `-` is null, digits are a number, anything else is text.
fn value(text: &str) -> Value {
    let kind = match text.parse() {
        Ok(number) => Some(Kind::IntValue(number)),
        Err(_) if text == "-" => None,
        Err(_) => Some(Kind::StringValue(text.to_owned())),
    };
    Value { kind }
}

fn encode(plan: &Plan, rows: &[&[&str]]) -> Chunk {
    let rows = rows.iter().map(|row| Row { values: row.iter().map(|text| value(text)).collect() });
    let batch = RowBatch { rows: rows.collect() }.encode_to_vec();
    let rows_plan = RowsPlan::compile(plan).unwrap();
    RowsCursor::new(&batch).next_chunk(plan, &rows_plan, 1 << 20, NOW).unwrap().unwrap()
}

fn one(table: &TableDef, columns: &str, writes: impl Into<Writes>, row: &[&str]) -> EncodedRow {
    let plan = Plan::compile(table, &session(columns), writes, 1).unwrap();
    let mut chunk = encode(&plan, &[row]);
    assert_eq!(chunk.rejects, []);
    chunk.rows.remove(0)
}

fn text(row: &EncodedRow) -> &str {
    std::str::from_utf8(&row.item.json).unwrap()
}

fn refused(table: &TableDef, columns: &str, writes: impl Into<Writes>) -> String {
    Plan::compile(table, &session(columns), writes, 1).unwrap_err().to_string()
}

#[test]
fn a_merge_carries_the_sessions_columns_and_removes_what_is_null() {
    let table = table("a INT, b STRING, c INT DEFAULT 7, d INT NOT NULL");
    let row = one(&table, "b STRING, id STRING, a INT", WriteOp::Merge, &["-", "k", "1"]);
    assert_eq!((row.item.op, text(&row)), (WriteOp::Merge, r#"{"id":{"S":"k"},"a":{"N":"1"},"b":null}"#));
    assert_eq!(row.item.key_text(), br#""id":{"S":"k"}"#);
    let key_alone = one(&table, "id STRING", WriteOp::Merge, &["k"]);
    assert_eq!(text(&key_alone), r#"{"id":{"S":"k"}}"#);

    let plan = Plan::compile(&table, &session("id STRING, d INT"), WriteOp::Merge, 1).unwrap();
    let chunk = encode(&plan, &[&["k", "-"]]);
    assert_eq!((chunk.rejects[0].reject.reason, &*chunk.rejects[0].reject.path), (RejectReason::NullNotAllowed, "d"));
}

#[test]
fn a_merge_does_to_missing_columns_what_the_session_asks_for() {
    let table = table("a INT, b STRING, c INT DEFAULT 7, d INT NOT NULL DEFAULT 1");
    let merge = |on_missing| Writes { on_missing, ..WriteOp::Merge.into() };
    for (on_missing, tail) in [
        (None, ""),
        (Some(OnMissing::LeaveUnchanged), ""),
        (Some(OnMissing::Default), r#","b":null,"c":{"N":"7"},"d":{"N":"1"}"#),
    ] {
        let row = one(&table, "id STRING, a INT", merge(on_missing), &["k", "1"]);
        assert_eq!(text(&row), format!(r#"{{"id":{{"S":"k"}},"a":{{"N":"1"}}{tail}}}"#), "{on_missing:?}");
    }
    let row = one(&table, "id STRING, a INT, d INT", merge(Some(OnMissing::Null)), &["k", "1", "2"]);
    assert_eq!(text(&row), r#"{"id":{"S":"k"},"a":{"N":"1"},"d":{"N":"2"},"b":null,"c":null}"#);
    assert!(refused(&table, "id STRING, a INT", merge(Some(OnMissing::Null))).contains("`d`"));
}

#[test]
fn an_insert_is_a_whole_item_with_another_operation() {
    let table = table("a INT, c INT DEFAULT 7");
    let row = one(&table, "id STRING, a INT", WriteOp::Insert, &["k", "-"]);
    assert_eq!((row.item.op, text(&row)), (WriteOp::Insert, r#"{"id":{"S":"k"},"c":{"N":"7"}}"#));
}

#[test]
fn every_row_of_an_ordered_table_knows_its_sequence() {
    let table = sequenced("a INT");
    for op in [WriteOp::Put, WriteOp::Insert, WriteOp::Merge] {
        let row = one(&table, "a INT, id STRING, v BIGINT", op, &["5", "k", "17"]);
        assert_eq!(text(&row), r#"{"id":{"S":"k"},"v":{"N":"17"},"a":{"N":"5"}}"#);
        assert_eq!((row.item.op, row.item.sequence_text()), (op, Some(&br#"{"N":"17"}"#[..])));
    }
    // Spans count from the row's own start.
    let plan = Plan::compile(&table, &session("id STRING, v BIGINT"), WriteOp::Put, 1).unwrap();
    let chunk = encode(&plan, &[&["k", "1"], &["k", "-"], &["longer", "-2"]]);
    let sequences: Vec<_> = chunk.rows.iter().map(|row| row.item.sequence_text().unwrap()).collect();
    assert_eq!(sequences, [&br#"{"N":"1"}"#[..], br#"{"N":"-2"}"#]);
    assert_eq!((chunk.rejects[0].row_index, &*chunk.rejects[0].reject.path), (1, "v"));
    assert_eq!(chunk.rejects[0].reject.reason, RejectReason::NullNotAllowed);

    let mut dated = table;
    dated.schema.fields[1] = Field::new("v", DataType::Date, false);
    dated.store_assignment = StoreAssignment::Legacy;
    let row = one(&dated, "id STRING, v STRING", WriteOp::Put, &["k", "2026-01-31"]);
    assert_eq!(row.item.sequence_text(), Some(&br#"{"S":"2026-01-31"}"#[..]));
}

#[test]
fn without_its_sequence_no_row_of_an_ordered_table_is_taken() {
    let table = sequenced("a INT");
    for op in [WriteOp::Put, WriteOp::Insert, WriteOp::Merge, WriteOp::Delete] {
        let words = refused(&table, "id STRING, a INT", op);
        assert!(words.contains("column `v`, by which the table `t` orders writes"), "{words}");
    }
    let key = Plan::compile(&table, &session("id STRING"), Writes::keys(), 1).unwrap();
    assert_eq!(text(&encode(&key, &[&["k"]]).rows[0]), r#"{"id":{"S":"k"}}"#, "a key to read needs none");
}

#[test]
fn a_delete_of_an_ordered_table_leaves_a_tombstone_that_expires() {
    let mut table = sequenced("a INT NOT NULL, until TIMESTAMP");
    let row = one(&table, "id STRING, v BIGINT, a INT", WriteOp::Delete, &["k", "3", "-"]);
    let expected = format!(
        r#"{{"id":{{"S":"k"}},"v":{{"N":"3"}},"_deleted":{{"BOOL":true}},"_expires_at":{{"N":"{WEEK_LATER}"}}}}"#
    );
    assert_eq!((row.item.op, text(&row)), (WriteOp::Put, &*expected));
    assert_eq!(row.item.sequence_text(), Some(&br#"{"N":"3"}"#[..]));

    table.ttl_column = Some("until".to_owned());
    table.tombstone_retention = Some(std::time::Duration::from_secs(3600));
    let row = one(&table, "id STRING, v BIGINT", WriteOp::Delete, &["k", "3"]);
    assert!(text(&row).ends_with(&format!(r#""_deleted":{{"BOOL":true}},"until":{{"N":"{}"}}}}"#, NOW + 3600)));
    let mut measuring = Plan::compile(&table, &session("id STRING, v BIGINT"), WriteOp::Delete, 1).unwrap();
    measuring.measure();
    // Names 2 + 1 + 8 + 5, values 1 + 2 + 1 + 5: the eight digits that count take four bytes and one.
    assert_eq!(encode(&measuring, &[&["k", "3"]]).rows[0].item_bytes, 25);
}

#[test]
fn each_row_does_what_its_operation_says() {
    let table = table("a INT, b INT DEFAULT 7");
    let plan = Plan::compile(&table, &session("op STRING, id STRING, a INT"), by_column(), 1).unwrap();
    let rows: &[&[&str]] = &[
        &["put", "1", "-"],
        &["MERGE", "2", "-"],
        &["Insert", "3", "4"],
        &["delete", "4", "4"],
        &["upsert", "5", "4"],
        &["-", "6", "4"],
        &["", "7", "4"],
        &["delete me", "8", "4"],
    ];
    // Numbers above stand for text: the key is text.
    let rows: Vec<Vec<Value>> = rows
        .iter()
        .map(|row| {
            let id = Value { kind: Some(Kind::StringValue(row[1].to_owned())) };
            vec![value(row[0]), id, value(row[2])]
        })
        .collect();
    let batch = RowBatch { rows: rows.into_iter().map(|values| Row { values }).collect() }.encode_to_vec();
    let rows_plan = RowsPlan::compile(&plan).unwrap();
    let chunk = RowsCursor::new(&batch).next_chunk(&plan, &rows_plan, 1 << 20, NOW).unwrap().unwrap();
    let written: Vec<_> = chunk.rows.iter().map(|row| (row.row_index, row.item.op, text(row))).collect();
    assert_eq!(
        written,
        [
            (0, WriteOp::Put, r#"{"id":{"S":"1"},"b":{"N":"7"}}"#),
            (1, WriteOp::Merge, r#"{"id":{"S":"2"},"a":null}"#),
            (2, WriteOp::Insert, r#"{"id":{"S":"3"},"a":{"N":"4"},"b":{"N":"7"}}"#),
            (3, WriteOp::Delete, r#"{"id":{"S":"4"}}"#),
        ]
    );
    let rejects = chunk.rejects.iter().map(|RowReject { row_index, reject }| {
        assert_eq!(reject.path, "op");
        assert!(reject.hint.contains("put, merge, insert or delete"), "{}", reject.hint);
        (*row_index, reject.reason)
    });
    let rejects: Vec<_> = rejects.collect();
    use RejectReason::{NullNotAllowed, OutOfRange};
    assert_eq!(rejects, [(4, OutOfRange), (5, NullNotAllowed), (6, OutOfRange), (7, OutOfRange)]);
}

#[test]
fn a_feed_of_changes_orders_its_deletes_too() {
    let table = sequenced("a INT");
    let plan = Plan::compile(&table, &session("id STRING, v BIGINT, a INT, op STRING"), by_column(), 1).unwrap();
    let chunk = encode(&plan, &[&["k", "1", "5", "put"], &["k", "2", "-", "delete"], &["k", "3", "-", "merge"]]);
    let written: Vec<_> = chunk.rows.iter().map(|row| (row.item.op, text(row).to_owned())).collect();
    let tombstone = format!(
        r#"{{"id":{{"S":"k"}},"v":{{"N":"2"}},"_deleted":{{"BOOL":true}},"_expires_at":{{"N":"{WEEK_LATER}"}}}}"#
    );
    assert_eq!(
        written,
        [
            (WriteOp::Put, r#"{"id":{"S":"k"},"v":{"N":"1"},"a":{"N":"5"}}"#.to_owned()),
            (WriteOp::Put, tombstone),
            (WriteOp::Merge, r#"{"id":{"S":"k"},"v":{"N":"3"},"a":null}"#.to_owned()),
        ]
    );
}

#[test]
fn an_operation_needs_a_text_column_of_its_own() {
    let table = table("op STRING, a INT");
    assert!(refused(&table, "id STRING, op STRING", by_column()).contains("is a column of the table"));
    let kind =
        |name: &str| Writes { mode: RowMode::ByColumn(name.to_owned()), on_missing: None, store_assignment: None };
    assert!(refused(&table, "id STRING, kind INT", kind("kind")).contains("must be a string column, not int"));
    assert!(refused(&table, "id STRING", kind("kind")).contains("not among the columns"));
    // A table that drops what it does not know still reads it, and counts nothing as dropped.
    let loose = TableDef { unknown_fields: crate::schema::UnknownFields::Drop, ..table };
    let plan = Plan::compile(&loose, &session("id STRING, kind CHAR(6)"), kind("kind"), 1).unwrap();
    let chunk = encode(&plan, &[&["k", "delete"]]);
    assert_eq!((chunk.rows[0].item.op, chunk.coercions.is_empty()), (WriteOp::Delete, true));
    assert_eq!(plan.unknown_columns().count(), 0);
}

#[test]
fn a_feed_of_changes_carries_every_column_that_a_put_needs() {
    let table = table("a INT NOT NULL");
    assert!(refused(&table, "id STRING, op STRING", by_column()).contains("NOT NULL"));
    assert!(Plan::compile(&table, &session("id STRING"), WriteOp::Merge, 1).is_ok(), "a merge needs none");
}

#[test]
fn a_merge_over_a_tombstone_cannot_keep_its_expiry() {
    let table = TableDef { ttl_column: Some("until".to_owned()), ..sequenced("a INT, until TIMESTAMP") };
    let columns = "id STRING, v BIGINT, a INT";
    assert!(refused(&table, columns, WriteOp::Merge).contains("must carry its TTL column `until`"));
    assert!(refused(&table, &format!("{columns}, op STRING"), by_column()).contains("TTL column"));
    for on_missing in [OnMissing::Null, OnMissing::Default] {
        let writes = Writes { on_missing: Some(on_missing), ..WriteOp::Merge.into() };
        let row = one(&table, columns, writes, &["k", "1", "2"]);
        assert!(text(&row).ends_with(r#","until":null}"#), "{}", text(&row));
    }
    let row = one(&table, "id STRING, v BIGINT, until TIMESTAMP", WriteOp::Merge, &["k", "1", "-"]);
    assert!(text(&row).ends_with(r#","until":null}"#));
    let unordered = TableDef { sequence_by: None, ..table };
    assert!(Plan::compile(&unordered, &session(columns), WriteOp::Merge, 1).is_ok(), "it has no tombstones");
}

#[test]
fn a_merge_has_as_many_columns_as_one_update_takes() {
    let columns = |count: usize| (0..count).map(|at| format!("c{at} INT")).collect::<Vec<_>>().join(", ");
    let table = table(&columns(301));
    let carried = |count: usize| format!("id STRING, {}", columns(count));
    assert!(Plan::compile(&table, &session(&carried(300)), WriteOp::Merge, 1).is_ok());
    let words = refused(&table, &carried(301), WriteOp::Merge);
    assert!(words.contains("301 columns; DynamoDB allows 300"), "{words}");
    let nulls = Writes { on_missing: Some(OnMissing::Null), ..WriteOp::Merge.into() };
    assert!(refused(&table, "id STRING", nulls).contains("301 columns"), "those that it removes count");
    assert!(Plan::compile(&table, &session(&carried(301)), WriteOp::Put, 1).is_ok());
}

#[test]
fn arrow_rows_do_the_same_with_operations_in_a_dictionary() {
    let table = sequenced("a INT");
    let operations: DictionaryArray<Int8Type> =
        [Some("put"), Some("merge"), Some("DELETE"), None, Some("x")].into_iter().collect();
    let columns: Vec<(&str, ArrayRef)> = vec![
        ("op", Arc::new(operations)),
        ("id", Arc::new(StringArray::from(vec!["1", "2", "3", "4", "5"]))),
        ("v", Arc::new(Int64Array::from(vec![1, 2, 3, 4, 5]))),
        ("a", Arc::new(Int64Array::from(vec![Some(6), None, Some(8), None, None]))),
    ];
    let field = |(name, column): &(&str, ArrayRef)| ArrowField::new(*name, column.data_type().clone(), true);
    let schema = Arc::new(ArrowSchema::new(columns.iter().map(field).collect::<Vec<_>>()));
    let batch = RecordBatch::try_new(Arc::clone(&schema), columns.into_iter().map(|(_, column)| column).collect());
    let mut writer = StreamWriter::try_new(Vec::new(), &schema).unwrap();
    let schema_bytes = writer.get_ref().len();
    writer.write(&batch.unwrap()).unwrap();
    let bytes = Bytes::from(writer.into_inner().unwrap());
    let incoming = IncomingArrow::parse(&bytes.slice(..schema_bytes)).unwrap();
    let plan = Plan::compile(&table, incoming.schema(), by_column(), 1).unwrap();
    let arrow = ArrowPlan::compile(&plan, incoming).unwrap();
    let chunk = arrow.decode(bytes.slice(schema_bytes..)).unwrap().next_chunk(&plan, 1 << 20, NOW).unwrap().unwrap();
    let written: Vec<_> = chunk.rows.iter().map(|row| (row.item.op, text(row).to_owned())).collect();
    let tombstone = format!(
        r#"{{"id":{{"S":"3"}},"v":{{"N":"3"}},"_deleted":{{"BOOL":true}},"_expires_at":{{"N":"{WEEK_LATER}"}}}}"#
    );
    assert_eq!(
        written,
        [
            (WriteOp::Put, r#"{"id":{"S":"1"},"v":{"N":"1"},"a":{"N":"6"}}"#.to_owned()),
            (WriteOp::Merge, r#"{"id":{"S":"2"},"v":{"N":"2"},"a":null}"#.to_owned()),
            (WriteOp::Put, tombstone),
        ]
    );
    let rejected: Vec<_> = chunk.rejects.iter().map(|row| (row.row_index, &*row.reject.path)).collect();
    assert_eq!(rejected, [(3, "op"), (4, "op")]);
}
