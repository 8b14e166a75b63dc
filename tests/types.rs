//! Types over TCP: modes, rejects, coercions and keys as a client of the gateway sees them.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

#[path = "common/gateway.rs"]
mod gateway;

use forebay::client::Client;
use forebay::proto::v1;
use forebay::proto::v1::value::Kind;
use gateway::{double, get, int, null, open, rows, text};

/// Makes a table in a mode.
async fn table(client: &Client, name: &str, ddl: &str, mode: v1::StoreAssignment, change: impl FnOnce(&mut v1::Table)) {
    let key = v1::Key { partition: vec!["id".to_owned()], ..v1::Key::default() };
    let mut table = v1::Table { name: name.to_owned(), ddl: ddl.to_owned(), key: Some(key), ..v1::Table::default() };
    table.set_store_assignment(mode);
    change(&mut table);
    client.tables().apply(table, false).await.expect("the table is applied");
}

async fn write(client: &Client, open: v1::Open, batch: v1::RowBatch) -> v1::WriteRowsResponse {
    let mut ingest = v1::ingest_service_client::IngestServiceClient::new(client.channel());
    let payload = Some(v1::write_rows_request::Payload::Rows(batch));
    ingest.write_rows(v1::WriteRowsRequest { open: Some(open), payload, atomic: false }).await.unwrap().into_inner()
}

/// A session whose columns are text but for the key.
fn texts(table: &str, columns: &[&str]) -> v1::Open {
    let field = |name: &&str| v1::Field {
        name: (*name).to_owned(),
        r#type: Some(v1::DataType { r#type: Some(v1::data_type::Type::Primitive(v1::PrimitiveType::String.into())) }),
        nullable: true,
        ..v1::Field::default()
    };
    v1::Open { columns: Some(v1::Schema { fields: columns.iter().map(field).collect() }), ..open(table) }
}

const DDL: &str = "id STRING NOT NULL, hr INT, score DOUBLE, day DATE, ok BOOLEAN, price DECIMAL(6, 2)";
const COLUMNS: [&str; 6] = ["id", "hr", "score", "day", "ok", "price"];

#[tokio::test(flavor = "multi_thread")]
async fn legacy_reads_text_as_spark_does_and_counts_it() {
    let (gateway, client) = gateway::start().await;
    table(&client, "loose", DDL, v1::StoreAssignment::Legacy, |_| {}).await;
    let row = |id: &str, hr: &str| [id, hr, "1e2", " 2024-2-9 ", "Yes", "3.005"].map(text).to_vec();
    let answer = write(&client, texts("loose", &COLUMNS), rows([row("a", " 12.9 "), row("b", "many")])).await;
    let price = v1::Value { kind: Some(Kind::DecimalValue("3.01".to_owned())) };
    let day = v1::Value { kind: Some(Kind::DateDays(19_762)) };
    let ok = v1::Value { kind: Some(Kind::BoolValue(true)) };
    let stored = get(&client, "loose", vec![text("a")]).await;
    assert_eq!(stored, Some(vec![text("a"), int(12), double(100.0), day, ok, price]));

    assert_eq!(answer.outcomes.len(), 1);
    let outcome = &answer.outcomes[0];
    assert_eq!((outcome.row_index, outcome.reason()), (1, v1::RowReason::TypeMismatch));
    assert_eq!((outcome.field_path.as_str(), outcome.declared_type.as_str()), ("hr", "int"));
    assert_eq!((outcome.found_type.as_str(), outcome.hint.as_str()), ("string", "expected an integer such as -12"));
    assert_eq!(outcome.value, None, "the table does not allow it");

    let receipt = answer.receipt.unwrap();
    assert_eq!((receipt.committed_rows, receipt.rejected_rows), (1, 1));
    let expected = ["day: string->date", "hr: string->int", "ok: string->boolean", "price: string->decimal(6,2)"];
    let mut coerced: Vec<_> = receipt.coercions.iter().map(|(rule, count)| (rule.as_str(), *count)).collect();
    coerced.sort_unstable();
    let expected: Vec<_> = expected.iter().map(|rule| (*rule, 1)).chain([("score: string->double", 1)]).collect();
    assert_eq!(coerced, expected, "one row's, because the other was rejected");

    let metrics = gateway.instruments().encode().unwrap();
    let line = r#"forebay_coerced_values_total{column="price",rule="string->decimal",table="loose"} 1"#;
    assert!(metrics.contains(line), "{metrics}");
}

#[tokio::test(flavor = "multi_thread")]
async fn ansi_rounds_numbers_and_reads_none_from_text() {
    let (_gateway, client) = gateway::start().await;
    table(&client, "ansi", DDL, v1::StoreAssignment::Ansi, |_| {}).await;
    let row = |id: &str, hr| vec![text(id), hr, int(1), null(), null(), double(2.345)];
    let answer =
        write(&client, open("ansi"), rows([row("a", double(-7.9)), row("b", double(1e10)), row("c", text("7"))]));
    let answer = answer.await;
    let reasons: Vec<_> = answer.outcomes.iter().map(|outcome| (outcome.row_index, outcome.reason())).collect();
    assert_eq!(reasons, [(1, v1::RowReason::OutOfRange), (2, v1::RowReason::TypeMismatch)]);
    let stored = get(&client, "ansi", vec![text("a")]).await.unwrap();
    assert_eq!((&stored[1], &stored[2]), (&int(-7), &double(1.0)));
    assert_eq!(stored[5].kind, Some(Kind::DecimalValue("2.35".to_owned())));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_may_coerce_by_another_policy_than_the_table() {
    let (_gateway, client) = gateway::start().await;
    table(&client, "strict", DDL, v1::StoreAssignment::Strict, |_| {}).await;
    table(&client, "loose", DDL, v1::StoreAssignment::Legacy, |_| {}).await;
    let row = || rows([vec![text("a"), double(7.9)]]);
    let with = |name: &str, policy| {
        let mut open = open(name);
        open.set_store_assignment(policy);
        open
    };

    let ansi = write(&client, with("strict", v1::StoreAssignment::Ansi), row()).await;
    assert_eq!(ansi.outcomes, []);
    assert_eq!(get(&client, "strict", vec![text("a")]).await.unwrap()[1], int(7));

    let strict = write(&client, with("loose", v1::StoreAssignment::Strict), row()).await;
    assert_eq!(strict.outcomes[0].reason(), v1::RowReason::Inexact);

    // The table's own where the session says nothing.
    assert_eq!(write(&client, open("strict"), row()).await.outcomes.len(), 1);
    assert_eq!(write(&client, open("loose"), row()).await.outcomes, []);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_of_types_that_never_fit_is_refused_with_the_mode_that_would_do() {
    let (_gateway, client) = gateway::start().await;
    table(&client, "strict", DDL, v1::StoreAssignment::Strict, |_| {}).await;
    let mut session = gateway::RawSession::open(&client, texts("strict", &COLUMNS)).await;
    let status = session.end().await.unwrap_err();
    assert_eq!(status.code(), tonic::Code::InvalidArgument);
    let message = status.message();
    assert!(message.contains("column `hr`: string does not fit the declared type int"), "{message}");
    assert!(message.contains("store_assignment: legacy"), "{message}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_value_is_shown_only_where_the_table_allows_it() {
    let (_gateway, client) = gateway::start().await;
    let nested = "id STRING NOT NULL, vitals ARRAY<STRUCT<hr: TINYINT>>";
    table(&client, "shown", nested, v1::StoreAssignment::Strict, |table| table.show_values_in_outcomes = true).await;
    let vital = |hr| v1::Value { kind: Some(Kind::StructValue(v1::StructValue { values: vec![int(hr)] })) };
    let vitals = v1::Value { kind: Some(Kind::ListValue(v1::ListValue { values: vec![vital(60), vital(300)] })) };
    let answer = write(&client, open("shown"), rows([vec![text("a"), vitals]])).await;
    let outcome = &answer.outcomes[0];
    assert_eq!((outcome.field_path.as_str(), outcome.value.as_deref()), ("vitals[1].hr", Some("300")));
    assert!(!outcome.message.contains("300"), "the sentence never holds it: {}", outcome.message);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_number_is_one_key_whatever_it_came_as() {
    let (_gateway, client) = gateway::start().await;
    let ddl = "id DOUBLE NOT NULL OPTIONS (float_key = true), n BIGINT";
    table(&client, "floats", ddl, v1::StoreAssignment::Strict, |_| {}).await;
    for (id, n) in [(double(1.0), 1), (int(1), 2), (double(-0.0), 3), (double(0.0), 4)] {
        assert_eq!(write(&client, open("floats"), rows([vec![id, int(n)]])).await.outcomes, []);
    }
    assert_eq!(get(&client, "floats", vec![int(1)]).await, Some(vec![double(1.0), int(2)]));
    assert_eq!(get(&client, "floats", vec![double(-0.0)]).await, Some(vec![double(0.0), int(4)]));

    let refused = v1::Table {
        name: "plain".to_owned(),
        ddl: "id DOUBLE NOT NULL".to_owned(),
        key: Some(v1::Key { partition: vec!["id".to_owned()], ..v1::Key::default() }),
        ..v1::Table::default()
    };
    let error = client.tables().apply(refused, false).await.unwrap_err().to_string();
    assert!(error.contains("float_key"), "{error}");
}
