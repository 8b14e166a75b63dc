//! The dry run over TCP: every number of its answer is one that a reader can compute, nothing is written, nothing is unbounded.

#![allow(clippy::unwrap_used, reason = "helpers of tests are tests")]

use std::sync::Arc;

use arrow_array::{ArrayRef, Int32Array, RecordBatch, StringArray};
use forebay::client::{CheckRates, Client, ClientError, OpenOptions, Sample};
use forebay::proto::v1::check_rows_request::Payload;
use forebay::proto::v1::table_service_client::TableServiceClient;
use forebay::proto::v1::value::Kind;
use forebay::proto::v1::{self, RowReason, StoreAssignment, WriteMode};
use gateway::{RawSession, get, int, null, open, rows, text};
use tonic::Code;
use tonic_types::StatusExt as _;

#[path = "common/gateway.rs"]
mod gateway;

fn decimal(text: &str) -> v1::Value {
    v1::Value { kind: Some(Kind::DecimalValue(text.to_owned())) }
}

async fn table(client: &Client, name: &str, mode: StoreAssignment) {
    let key = v1::Key { partition: vec!["id".to_owned()], ..v1::Key::default() };
    let mut table = v1::Table {
        name: name.to_owned(),
        ddl: "id STRING NOT NULL, n TINYINT, note STRING".to_owned(),
        key: Some(key),
        ..v1::Table::default()
    };
    table.set_store_assignment(mode);
    client.tables().apply(table, false).await.unwrap();
}

const RATES: CheckRates = CheckRates { rows_per_second: 200.0, usd_per_million_write_units: None };

fn note(length: usize) -> String {
    "x".repeat(length)
}

/// What the sample below must come to. An item's size is the bytes of its names and values; a number of one digit takes two.
///
/// ```text
/// row 0  id a, n 5                  2+1 + 1+2            =    6 bytes, 1 unit
/// row 1  n 300 is no tinyint
/// row 2  id a again, n 7, 1,100     2+1 + 1+2 + 4+1100   = 1110 bytes, 2 units
/// row 3  no id
/// row 4  id c, 1,018                2+1 + 4+1018         = 1025 bytes, 2 units
/// row 5  id d, 1,017                2+1 + 4+1017         = 1024 bytes, 1 unit
/// ```
fn assert_computed(answer: &v1::CheckRowsResponse) {
    assert_eq!((answer.accepted_rows, answer.rejected_rows, answer.repeated_key_rows), (4, 2, 1));
    assert_eq!(answer.item_bytes, Some(v1::SizeSummary { min: 6, p50: 1024, p99: 1110, max: 1110 }));
    // 6 units for 4 rows.
    assert_eq!(answer.write_units_per_second, 300.0);
    assert_eq!(answer.write_units_per_million_rows, 1_500_000.0);
    assert_eq!((answer.usd_per_million_write_units, answer.usd_per_million_rows), (0.625, 0.9375));
    assert_eq!(answer.schema_version, 1);
    let places: Vec<_> =
        answer.rejected.iter().map(|o| (o.batch_seq, o.row_index, o.reason(), &*o.field_path)).collect();
    assert_eq!(places, [(1, 1, RowReason::OutOfRange, "n"), (1, 3, RowReason::NullNotAllowed, "id")]);
    let first = &answer.rejected[0];
    assert_eq!((&*first.declared_type, first.status()), ("tinyint", v1::RowStatus::Rejected));
    assert_eq!(first.hint, "send a value in range, or widen the column");
    let counted: Vec<_> =
        answer.rejects_by_reason.iter().map(|c| (&*c.field_path, c.reason(), c.count, c.hint.is_empty())).collect();
    assert_eq!(counted, [("id", RowReason::NullNotAllowed, 1, false), ("n", RowReason::OutOfRange, 1, false)]);
}

fn coercions(answer: &v1::CheckRowsResponse) -> Vec<(&str, &str, u64)> {
    answer.coercions.iter().map(|counted| (&*counted.field_path, &*counted.rule, counted.count)).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sample_of_rows_is_weighed_priced_and_not_written() {
    let (gateway, client) = gateway::start().await;
    table(&client, "rows", StoreAssignment::Ansi).await;
    let sample = rows([
        vec![text("a"), int(5)],
        vec![text("b"), int(300)],
        vec![text("a"), decimal("7.5"), text(note(1100))],
        vec![null(), int(1)],
        vec![text("c"), null(), text(note(1018))],
        vec![text("d"), null(), text(note(1017))],
    ]);
    let answer = client.tables().check(OpenOptions::new("rows"), Sample::Rows(sample.clone()), RATES).await.unwrap();
    assert_computed(&answer);
    assert_eq!(coercions(&answer), [("n", "decimal->tinyint", 1)]);
    let rates = CheckRates { rows_per_second: 0.0, usd_per_million_write_units: Some(10.0) };
    let priced = client.tables().check(OpenOptions::new("rows"), Sample::Rows(sample), rates).await.unwrap();
    assert_eq!((priced.write_units_per_second, priced.usd_per_million_rows), (0.0, 15.0));
    for id in ["a", "c", "d"] {
        assert_eq!(get(&client, "rows", vec![text(id)]).await, None);
    }
    gateway.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_sample_as_arrow_comes_to_the_same_numbers() {
    let (gateway, client) = gateway::start().await;
    table(&client, "rows", StoreAssignment::Strict).await;
    let ids: ArrayRef = Arc::new(StringArray::from(vec![Some("a"), Some("b"), Some("a"), None, Some("c"), Some("d")]));
    let numbers: ArrayRef = Arc::new(Int32Array::from(vec![Some(5), Some(300), Some(7), Some(1), None, None]));
    let notes = [None, None, Some(note(1100)), None, Some(note(1018)), Some(note(1017))];
    let notes: ArrayRef = Arc::new(StringArray::from_iter(notes));
    let batch = RecordBatch::try_from_iter([("id", ids), ("n", numbers), ("note", notes)]).unwrap();
    let options = OpenOptions::new("rows").arrow(batch.schema());
    let answer = client.tables().check(options, Sample::Arrow(batch), RATES).await.unwrap();
    assert_computed(&answer);
    assert_eq!(answer.rejected[0].found_type, "int");
    assert_eq!(coercions(&answer), [("n", "int->tinyint", 2)]);
    assert_eq!(get(&client, "rows", vec![text("a")]).await, None);
    gateway.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_delete_counts_as_one_unit_and_weighs_its_key() {
    let (gateway, client) = gateway::start().await;
    table(&client, "rows", StoreAssignment::Strict).await;
    let options = OpenOptions::new("rows").mode(WriteMode::Delete);
    let sample = Sample::Rows(rows([vec![text("abc"), int(300), text(note(5000))], vec![text("d")]]));
    let answer = client.tables().check(options, sample, RATES).await.unwrap();
    assert_eq!((answer.accepted_rows, answer.rejected_rows), (2, 0));
    assert_eq!(answer.item_bytes, Some(v1::SizeSummary { min: 3, p50: 3, p99: 5, max: 5 }));
    assert_eq!(answer.write_units_per_second, 200.0);
    gateway.shutdown().await;
}

async fn refusal(client: &Client, change: impl FnOnce(&mut v1::CheckRowsRequest)) -> (Code, String, String) {
    let mut request = v1::CheckRowsRequest {
        table: "rows".to_owned(),
        payload: Some(Payload::Rows(rows([vec![text("a")]]))),
        ..v1::CheckRowsRequest::default()
    };
    change(&mut request);
    let mut tables = TableServiceClient::new(client.channel()).max_encoding_message_size(usize::MAX);
    let status = tables.check_rows(request).await.unwrap_err();
    let reason = status.get_error_details().error_info().map(|info| info.reason.clone()).unwrap_or_default();
    (status.code(), reason, status.message().to_owned())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_checked_is_refused_with_the_place() {
    let (gateway, client) = gateway::start().await;
    table(&client, "rows", StoreAssignment::Strict).await;
    let client = &client;
    let invalid = |message: &str| (Code::InvalidArgument, "INVALID_ARGUMENT".to_owned(), message.to_owned());
    assert_eq!(
        refusal(client, |request| request.payload = Some(Payload::Rows(v1::RowBatch::default()))).await,
        invalid("payload: the sample has no rows")
    );
    assert_eq!(
        refusal(client, |request| request.payload = None).await,
        invalid("payload: is missing: send rows or arrow")
    );
    for rate in [-1.0, f64::NAN, f64::INFINITY] {
        let refused = refusal(client, |request| request.rows_per_second = rate).await;
        assert_eq!(refused, invalid("rows_per_second: must be a number from 0"));
        let refused = refusal(client, |request| request.usd_per_million_write_units = Some(rate)).await;
        assert_eq!(refused, invalid("usd_per_million_write_units: must be a number from 0"));
    }
    let (code, reason, message) = refusal(client, |request| {
        request.open = Some(v1::Open { evolve: v1::Evolve::AddColumns.into(), ..open("rows") });
    })
    .await;
    assert_eq!((code, &*reason), (Code::Unimplemented, "NOT_SUPPORTED"));
    assert!(message.contains("evolve ADD_COLUMNS in CheckRows"), "{message}");
    let (code, ..) = refusal(client, |request| request.payload = Some(Payload::Arrow(v1::ArrowBatch::default()))).await;
    assert_eq!(code, Code::InvalidArgument);
    let (code, reason, _) = refusal(client, |request| request.table = "nowhere".to_owned()).await;
    assert_eq!((code, &*reason), (Code::NotFound, "TABLE_NOT_FOUND"));
    // More rows than a batch may have: two bytes each.
    let many = v1::RowBatch { rows: vec![v1::Row::default(); 100_001] };
    let (code, reason, _) = refusal(client, |request| request.payload = Some(Payload::Rows(many))).await;
    assert_eq!((code, &*reason), (Code::OutOfRange, "TOO_LARGE"));
    // A message beyond 16 MiB.
    let large = rows((0..50).map(|_| vec![text("a"), null(), text(note(350_000))]));
    let (code, ..) = refusal(client, |request| request.payload = Some(Payload::Rows(large))).await;
    assert_eq!(code, Code::OutOfRange);
    gateway.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sample_above_one_message_is_checked_from_its_start() {
    let (gateway, client) = gateway::start().await;
    table(&client, "rows", StoreAssignment::Strict).await;
    let note = note(300_000);
    let row = |id: i64| vec![text(format!("{id:03}")), int(1), text(&*note)];
    let sample = Sample::Rows(rows((0..60).map(row)));
    let answer = client.tables().check(OpenOptions::new("rows"), sample, RATES).await.unwrap();
    // 55 rows of 300,000 bytes and a few are below 16 MiB, 56 are above.
    assert_eq!((answer.accepted_rows, answer.rejected_rows), (55, 0));

    let ids: ArrayRef = Arc::new(StringArray::from_iter_values((0..60).map(|id| format!("{id:03}"))));
    let notes: ArrayRef = Arc::new(StringArray::from_iter_values((0..60).map(|_| &*note)));
    let batch = RecordBatch::try_from_iter([("id", ids), ("note", notes)]).unwrap();
    let options = OpenOptions::new("rows").arrow(batch.schema());
    let answer = client.tables().check(options, Sample::Arrow(batch), RATES).await.unwrap();
    assert!((40..=55).contains(&answer.accepted_rows), "{}", answer.accepted_rows);

    let alone = Sample::Rows(rows([vec![text("a"), null(), text("x".repeat(17 << 20))]]));
    let error = client.tables().check(OpenOptions::new("rows"), alone, RATES).await.unwrap_err();
    assert!(matches!(error, ClientError::RowTooLarge { row: 0, .. }), "{error}");
    gateway.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_check_takes_a_write_sessions_slot_and_the_other_calls_of_its_service_keep_small_messages() {
    let settings = gateway::settings(|config| config.max_write_sessions = Some(1));
    let (gateway, client) = gateway::start_with(settings).await;
    table(&client, "rows", StoreAssignment::Strict).await;
    let mut session = RawSession::open(&client, open("rows")).await;
    assert!(matches!(session.next().await, v1::write_response::Message::Opened(_)));
    let (code, reason, _) = refusal(&client, |_| ()).await;
    assert_eq!((code, &*reason), (Code::Unavailable, "MEMORY_BUDGET"));
    // Definitions are not held up by writers.
    assert_eq!(client.tables().get("rows").await.unwrap().schema_version, 1);
    drop(session);
    // The gateway hears of the session's end a moment later.
    let sample = || Sample::Rows(rows([vec![text("a"), null(), text(note(300_000))]]));
    let mut answer = client.tables().check(OpenOptions::new("rows"), sample(), RATES).await;
    for _ in 0..500 {
        if answer.is_ok() {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        answer = client.tables().check(OpenOptions::new("rows"), sample(), RATES).await;
    }
    assert_eq!(answer.unwrap().accepted_rows, 1);

    let large = v1::Table { name: "large".to_owned(), comment: note(5 << 20), ..v1::Table::default() };
    let error = client.tables().apply(large, false).await.unwrap_err();
    assert!(matches!(error, ClientError::Refused { code: Code::OutOfRange, .. }), "{error:?}");
    gateway.shutdown().await;
}
