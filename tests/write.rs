//! Promises of the write session, over real TCP against the embedded store.

#[path = "common/gateway.rs"]
mod gateway;

use std::sync::Arc;
use std::time::Duration;

use arrow_array::{ArrayRef, BinaryArray, RecordBatch, StringArray, StructArray};
use arrow_ipc::writer::StreamWriter;
use forebay::client::OpenOptions;
use forebay::proto::v1;
use forebay::proto::v1::write_request::Message as Request;
use forebay::proto::v1::write_response::Message as Response;
use gateway::{RawSession, double, eventually, get, int, null, open, rows, table, text};

const DDL: &str = "id STRING NOT NULL, score DOUBLE, n BIGINT";

#[tokio::test(flavor = "multi_thread")]
async fn rows_are_written_acked_and_read_back() {
    let (gateway, client) = gateway::start().await;
    table(&client, "rows", DDL, &["id"], &[]).await;
    let mut writer = client.writer(OpenOptions::new("rows")).await.unwrap();
    for batch in 0..4 {
        let batch =
            rows((0..100).map(|i| vec![text(format!("k{batch}-{i}")), double(f64::from(i) / 4.0), int(i.into())]));
        writer.send_rows(batch).await.unwrap();
    }
    let receipt = writer.finish().await.unwrap();
    assert_eq!((receipt.rows, receipt.committed_rows, receipt.rejected_rows), (400, 400, 0));
    assert_eq!(get(&client, "rows", vec![text("k2-7")]).await, Some(vec![text("k2-7"), double(1.75), int(7)]));
    assert!(gateway.shutdown().await, "everything ends by itself");
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_rows_are_reported_with_their_place_and_their_neighbours_are_written() {
    let (_gateway, client) = gateway::start().await;
    table(&client, "rows", DDL, &["id"], &[]).await;
    let mut session = RawSession::open(&client, open("rows")).await;
    assert!(matches!(session.next().await, Response::Opened(_)));
    let batch = rows([
        vec![text("a"), double(1.0), int(1)],
        vec![text("b"), text("no"), int(1)],
        vec![text(""), null(), null()],
        vec![text("d"), double(f64::NAN), null()],
        vec![text("e"), null(), null()],
    ]);
    session.send_rows(1, batch).await;
    let Response::Ack(ack) = session.next().await else { panic!("an ack") };
    assert_eq!(ack.committed_through, 1);
    let outcomes: Vec<_> =
        ack.outcomes.iter().map(|o| (o.row_index, o.status(), o.reason(), o.field_path.as_str())).collect();
    let rejected = v1::RowStatus::Rejected;
    assert_eq!(
        outcomes,
        [
            (1, rejected, v1::RowReason::TypeMismatch, "score"),
            (2, rejected, v1::RowReason::KeyEmpty, "id"),
            (3, rejected, v1::RowReason::NonFinite, "score"),
        ]
    );
    session.send(Request::Finish(v1::Finish { batches: 1, rows: 5 })).await;
    let end = session.end().await.unwrap();
    let Some(Response::Finished(v1::Finished { receipt: Some(receipt) })) = end.last() else { panic!("{end:?}") };
    assert_eq!((receipt.committed_rows, receipt.rejected_rows), (2, 3));
    assert!(get(&client, "rows", vec![text("a")]).await.is_some());
    assert!(get(&client, "rows", vec![text("b")]).await.is_none());
    assert!(get(&client, "rows", vec![text("e")]).await.is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_of_one_key_take_effect_in_the_order_sent() {
    let (_gateway, client) = gateway::start().await;
    table(&client, "rows", DDL, &["id"], &[]).await;
    let mut writer = client.writer(OpenOptions::new("rows")).await.unwrap();
    for round in 0..40 {
        writer
            .send_rows(rows((0..50).map(|i| vec![text(format!("hot{}", i % 5)), null(), int(round * 50 + i)])))
            .await
            .unwrap();
    }
    let receipt = writer.finish().await.unwrap();
    assert_eq!(receipt.committed_rows + receipt.superseded_rows, 2000);
    assert!(receipt.superseded_rows > 0, "a hot key coalesces");
    for key in 0..5 {
        let row = get(&client, "rows", vec![text(format!("hot{key}"))]).await.unwrap();
        assert_eq!(row[2], int(1995 + key));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn deletes_remove_rows_and_deleting_nothing_is_fine() {
    let (_gateway, client) = gateway::start().await;
    table(&client, "rows", DDL, &["id"], &[]).await;
    let mut writer = client.writer(OpenOptions::new("rows")).await.unwrap();
    writer.send_rows(rows([vec![text("a"), null(), null()], vec![text("b"), null(), null()]])).await.unwrap();
    writer.finish().await.unwrap();
    let mut session = RawSession::open(&client, v1::Open { mode: v1::WriteMode::Delete.into(), ..open("rows") }).await;
    session.next().await;
    session.send_rows(1, rows([vec![text("a")], vec![text("never there")]])).await;
    session.send(Request::Finish(v1::Finish { batches: 1, rows: 2 })).await;
    session.end().await.unwrap();
    assert!(get(&client, "rows", vec![text("a")]).await.is_none());
    assert!(get(&client, "rows", vec![text("b")]).await.is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn flush_is_a_barrier_and_says_what_happened() {
    let (_gateway, client) = gateway::start().await;
    table(&client, "rows", DDL, &["id"], &[]).await;
    let mut session = RawSession::open(&client, open("rows")).await;
    session.next().await;
    session.send(Request::Flush(v1::Flush {})).await;
    let Response::Flushed(empty) = session.next().await else { panic!("nothing sent: flushed at once") };
    assert_eq!(empty.committed_through, 0);
    for seq in 1..=3 {
        session.send_rows(seq, rows((0..30).map(|i| vec![text(format!("{seq}-{i}")), null(), null()]))).await;
    }
    session.send(Request::Flush(v1::Flush {})).await;
    loop {
        match session.next().await {
            Response::Ack(_) => {}
            Response::Flushed(flushed) => {
                assert_eq!(flushed.committed_through, 3);
                assert_eq!(flushed.receipt.unwrap().committed_rows, 90);
                break;
            }
            other => panic!("{other:?}"),
        }
    }
    assert!(get(&client, "rows", vec![text("3-29")]).await.is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn fault_23_and_24_a_batch_number_out_of_order_is_answered_with_the_expected_one() {
    let (_gateway, client) = gateway::start().await;
    table(&client, "rows", DDL, &["id"], &[]).await;
    for wrong in [1, 3] {
        let mut session = RawSession::open(&client, open("rows")).await;
        session.next().await;
        session.send_rows(1, rows([vec![text("a"), null(), null()]])).await;
        session.send_rows(wrong, rows([vec![text("b"), null(), null()]])).await;
        let status = session.end().await.unwrap_err();
        assert_eq!(status.code(), tonic::Code::OutOfRange);
        assert!(status.message().contains("expected 2"), "{}", status.message());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn finish_with_other_counts_than_arrived_is_data_loss() {
    let (_gateway, client) = gateway::start().await;
    table(&client, "rows", DDL, &["id"], &[]).await;
    let mut session = RawSession::open(&client, open("rows")).await;
    session.next().await;
    session.send_rows(1, rows([vec![text("a"), null(), null()]])).await;
    session.send(Request::Finish(v1::Finish { batches: 2, rows: 1 })).await;
    let status = session.end().await.unwrap_err();
    assert_eq!(status.code(), tonic::Code::DataLoss);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_end_of_the_stream_without_finish_is_an_abort() {
    let (gateway, client) = gateway::start().await;
    table(&client, "rows", DDL, &["id"], &[]).await;
    let mut session = RawSession::open(&client, open("rows")).await;
    session.next().await;
    session.send_rows(1, rows([vec![text("a"), null(), null()]])).await;
    let RawSession { requests, responses } = session;
    drop(requests);
    let mut session = RawSession { requests: tokio::sync::mpsc::channel(1).0, responses };
    let status = session.end().await.unwrap_err();
    assert_eq!(status.code(), tonic::Code::Aborted);
    let instruments = gateway.instruments().clone();
    eventually("nothing is left", || {
        instruments.sessions.get() == 0 && instruments.reserved_bytes.get() == 0 && instruments.queued_rows.get() == 0
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn sessions_that_cannot_work_are_refused_at_open() {
    let (_gateway, client) = gateway::start().await;
    table(&client, "rows", DDL, &["id"], &[]).await;
    let column = |name: &str| v1::Field {
        name: name.into(),
        r#type: Some(v1::DataType { r#type: Some(v1::data_type::Type::Primitive(v1::PrimitiveType::String.into())) }),
        nullable: true,
        ..v1::Field::default()
    };
    let columns = |names: &[&str]| Some(v1::Schema { fields: names.iter().map(|name| column(name)).collect() });
    let cases = [
        (open("nowhere"), tonic::Code::NotFound, "nowhere"),
        (v1::Open { columns: columns(&["id", "nope"]), ..open("rows") }, tonic::Code::InvalidArgument, "nope"),
        (v1::Open { columns: columns(&["score"]), ..open("rows") }, tonic::Code::InvalidArgument, "id"),
        (
            v1::Open { arrow_schema: bytes::Bytes::from_static(b"junk"), ..open("rows") },
            tonic::Code::InvalidArgument,
            "arrow_schema",
        ),
        (v1::Open { mode: 99, ..open("rows") }, tonic::Code::InvalidArgument, "mode"),
        (
            v1::Open { row_deadline: Some(prost_types::Duration { seconds: 7200, nanos: 0 }), ..open("rows") },
            tonic::Code::InvalidArgument,
            "row_deadline",
        ),
        (
            v1::Open { on_missing: v1::OnMissing::LeaveUnchanged.into(), ..open("rows") },
            tonic::Code::InvalidArgument,
            "open.on_missing: a PUT replaces the whole item",
        ),
        (
            v1::Open { op_column: "op".into(), on_missing: v1::OnMissing::LeaveUnchanged.into(), ..open("rows") },
            tonic::Code::InvalidArgument,
            "open.on_missing: some rows may replace the whole item",
        ),
        (
            v1::Open { op_column: "op".into(), mode: v1::WriteMode::Put.into(), ..open("rows") },
            tonic::Code::InvalidArgument,
            "open.mode: with op_column each row says what it does",
        ),
        (
            v1::Open { op_column: "op".into(), columns: columns(&["id"]), ..open("rows") },
            tonic::Code::InvalidArgument,
            "open.op_column: `op` is not among the columns",
        ),
        (
            v1::Open { epoch: Some(0), ..open("rows") },
            tonic::Code::InvalidArgument,
            "open.epoch: is the run of a producer",
        ),
        (v1::Open { producer_id: "p".repeat(513), ..open("rows") }, tonic::Code::InvalidArgument, "producer_id"),
    ];
    for (case, code, word) in cases {
        let status = RawSession::open(&client, case).await.end().await.unwrap_err();
        assert_eq!(status.code(), code, "{}", status.message());
        assert!(status.message().contains(word), "{} does not name {word}", status.message());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn validate_only_checks_every_row_and_writes_none() {
    let (_gateway, client) = gateway::start().await;
    table(&client, "rows", DDL, &["id"], &[]).await;
    let mut session = RawSession::open(&client, v1::Open { validate_only: true, ..open("rows") }).await;
    session.next().await;
    session.send_rows(1, rows([vec![text("a"), null(), null()], vec![null(), null(), null()]])).await;
    let Response::Ack(ack) = session.next().await else { panic!("an ack") };
    assert_eq!((ack.committed_through, ack.outcomes.len()), (1, 1));
    assert!(get(&client, "rows", vec![text("a")]).await.is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn write_rows_answers_when_all_have_an_outcome() {
    let (_gateway, client) = gateway::start().await;
    table(&client, "rows", DDL, &["id"], &[]).await;
    let mut ingest = v1::ingest_service_client::IngestServiceClient::new(client.channel());
    let payload = |batch| Some(v1::write_rows_request::Payload::Rows(batch));
    let request = v1::WriteRowsRequest {
        open: Some(open("rows")),
        payload: payload(rows([vec![text("a"), double(0.5), int(1)], vec![text("b"), int(1 << 60), null()]])),
        atomic: false,
    };
    let answer = ingest.write_rows(request).await.unwrap().into_inner();
    assert_eq!(answer.outcomes.len(), 1);
    assert_eq!((answer.outcomes[0].row_index, answer.outcomes[0].reason()), (1, v1::RowReason::Inexact));
    assert_eq!(answer.receipt.unwrap().committed_rows, 1);
    assert!(get(&client, "rows", vec![text("a")]).await.is_some());

    let many = rows((0..1001).map(|i| vec![text(format!("m{i}")), null(), null()]));
    let request = v1::WriteRowsRequest { open: Some(open("rows")), payload: payload(many), atomic: false };
    assert_eq!(ingest.write_rows(request).await.unwrap_err().code(), tonic::Code::InvalidArgument);
    assert!(get(&client, "rows", vec![text("m0")]).await.is_none(), "too many rows write none");
}

#[tokio::test(flavor = "multi_thread")]
async fn fault_4_a_message_over_the_limit_names_it() {
    let (_gateway, client) = gateway::start().await;
    table(&client, "rows", DDL, &["id"], &[]).await;
    let mut session = RawSession::open(&client, open("rows")).await;
    session.next().await;
    session.send_rows(1, rows([vec![text("x".repeat(17 << 20)), null(), null()]])).await;
    let status = session.end().await.unwrap_err();
    assert_eq!(status.code(), tonic::Code::OutOfRange);
    assert!(status.message().contains("16777216"), "{}", status.message());
}

#[tokio::test(flavor = "multi_thread")]
async fn fault_29_a_drain_tells_every_stream_and_finishes_what_is_in_flight() {
    let (gateway, client) = gateway::start().await;
    table(&client, "rows", DDL, &["id"], &[]).await;
    let mut session = RawSession::open(&client, open("rows")).await;
    session.next().await;
    session.send_rows(1, rows((0..500).map(|i| vec![text(format!("{i}")), null(), null()]))).await;
    let stop = tokio::spawn(gateway.shutdown());
    let (mut drained, mut acked) = (false, 0);
    while !drained || acked < 1 {
        match session.next().await {
            Response::Drain(drain) => {
                assert_eq!(drain.reason(), v1::DrainReason::Shutdown);
                drained = true;
            }
            Response::Ack(ack) => acked = ack.committed_through,
            other => panic!("{other:?}"),
        }
    }
    session.send(Request::Finish(v1::Finish { batches: 1, rows: 500 })).await;
    assert!(matches!(session.end().await.unwrap().last(), Some(Response::Finished(_))));
    drop((session, client));
    let clean = tokio::time::timeout(Duration::from_secs(10), stop).await.expect("it stops").unwrap();
    assert!(clean, "nothing had to be cut off");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_evolved_table_is_announced_to_open_sessions() {
    let (_gateway, client) = gateway::start().await;
    table(&client, "rows", DDL, &["id"], &[]).await;
    let mut session = RawSession::open(&client, open("rows")).await;
    session.next().await;
    table(&client, "rows", &format!("{DDL}, extra STRING"), &["id"], &[]).await;
    let Response::SchemaChanged(changed) = session.next().await else { panic!("an announcement") };
    assert_eq!((changed.schema_version, changed.schema.unwrap().fields.len()), (2, 4));
    session.send_rows(1, rows([vec![text("old columns stay valid"), null(), int(1)]])).await;
    assert!(matches!(session.next().await, Response::Ack(ack) if ack.committed_through == 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn writes_beyond_the_slots_are_told_to_go_elsewhere() {
    let (_gateway, client) = gateway::start_with(gateway::settings(|config| config.max_write_sessions = Some(1))).await;
    table(&client, "rows", DDL, &["id"], &[]).await;
    let mut session = RawSession::open(&client, open("rows")).await;
    session.next().await;
    let mut ingest = v1::ingest_service_client::IngestServiceClient::new(client.channel());
    let request = || v1::WriteRowsRequest {
        open: Some(open("rows")),
        payload: Some(v1::write_rows_request::Payload::Rows(rows([vec![text("a")]]))),
        atomic: false,
    };
    let unary = ingest.write_rows(request()).await.unwrap_err();
    let second = RawSession::try_call(&client).await.err().expect("no slot is left");
    for status in [unary, second] {
        assert_eq!(status.code(), tonic::Code::Unavailable, "{}", status.message());
        assert!(tonic_types::StatusExt::get_details_retry_info(&status).is_some(), "it says when to come back");
    }
    session.send(Request::Finish(v1::Finish { batches: 0, rows: 0 })).await;
    session.end().await.unwrap();
    drop(session);
    for _ in 0..100 {
        if ingest.write_rows(request()).await.is_ok() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("the slot was not given back");
}

fn value(kind: v1::value::Kind) -> v1::Value {
    v1::Value { kind: Some(kind) }
}

fn object(entries: impl IntoIterator<Item = (&'static str, v1::Value)>) -> v1::Value {
    let entry = |(key, value)| v1::MapEntry { key: Some(text(key)), value: Some(value) };
    value(v1::value::Kind::MapValue(v1::MapValue { entries: entries.into_iter().map(entry).collect() }))
}

fn list(values: Vec<v1::Value>) -> v1::Value {
    value(v1::value::Kind::ListValue(v1::ListValue { values }))
}

/// Spark's `parse_json('{"items":[{"sku":"a-1","price":9.99},{"sku":"b-2","price":10.00}],"total":19.99,"paid":false,
/// "note":null}')`: its value and its metadata.
const ORDER: [&[u8]; 2] = [
    b"\x02\x04\x00\x05\x04\x03\x00\x2e\x2d\x27\x2f\x03\x02\x00\x11\x22\x02\x02\x02\x01\x04\x00\x0a\x0da-1\x20\x02\xe7\x03\x00\x00\
      \x02\x02\x02\x01\x04\x00\x0a\x0db-2\x20\x02\xe8\x03\x00\x00\x20\x02\xcf\x07\x00\x00\x08\x00",
    b"\x01\x06\x00\x05\x08\x0d\x12\x16\x1aitemsskupricetotalpaidnote",
];

/// What is read back of it.
fn order() -> v1::Value {
    let item = |sku, price| object([("price", price), ("sku", text(sku))]);
    object([
        ("items", list(vec![item("a-1", double(9.99)), item("b-2", int(10))])),
        ("note", null()),
        ("paid", value(v1::value::Kind::BoolValue(false))),
        ("total", double(19.99)),
    ])
}

#[tokio::test(flavor = "multi_thread")]
async fn variants_by_position_are_read_back_as_their_values() {
    let (_gateway, client) = gateway::start().await;
    table(&client, "variants", "id STRING NOT NULL, v VARIANT, vs ARRAY<VARIANT>", &["id"], &[]).await;
    let bytes = |bytes: &'static [u8]| value(v1::value::Kind::BytesValue(bytes.into()));
    let spark = value(v1::value::Kind::StructValue(v1::StructValue { values: ORDER.map(bytes).into() }));
    let mut session = RawSession::open(&client, open("variants")).await;
    session.next().await;
    let batch = rows([
        vec![text("spark"), spark, list(vec![int(1), text("x"), null()])],
        vec![text("natural"), order(), null()],
        vec![text("bad"), object([("a", list(vec![double(f64::NAN)]))]), null()],
        vec![
            text("cut"),
            value(v1::value::Kind::StructValue(v1::StructValue { values: vec![bytes(b"\x18"), bytes(ORDER[1])] })),
            null(),
        ],
        vec![text("null"), null(), null()],
    ]);
    session.send_rows(1, batch).await;
    let Response::Ack(ack) = session.next().await else { panic!("an ack") };
    let outcomes: Vec<_> = ack.outcomes.iter().map(|o| (o.row_index, o.reason(), o.field_path.as_str())).collect();
    assert_eq!(outcomes, [(2, v1::RowReason::NonFinite, "v.a[0]"), (3, v1::RowReason::Malformed, "v")]);
    let read = async |id| get(&client, "variants", vec![text(id)]).await.unwrap();
    assert_eq!(read("spark").await, [text("spark"), order(), list(vec![int(1), text("x"), null()])]);
    assert_eq!(read("natural").await, [text("natural"), order(), null()]);
    assert_eq!(read("null").await, [text("null"), null(), null()]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_arrow_column_is_a_variant_where_sparks_schema_says_so() {
    let (_gateway, client) = gateway::start().await;
    table(&client, "variants", "id STRING NOT NULL, v VARIANT", &["id"], &[]).await;
    let binary = |name, bytes: &[u8]| {
        let field = arrow_schema::Field::new(name, arrow_schema::DataType::Binary, false);
        (Arc::new(field), Arc::new(BinaryArray::from_iter_values([bytes])) as ArrayRef)
    };
    let variants = StructArray::from(vec![binary("value", ORDER[0]), binary("metadata", ORDER[1])]);
    let ids: ArrayRef = Arc::new(StringArray::from(vec!["spark"]));
    let batch = RecordBatch::try_from_iter([("id", ids), ("v", Arc::new(variants) as _)]).unwrap();
    let mut stream = StreamWriter::try_new(Vec::new(), &batch.schema()).unwrap();
    let schema_bytes = stream.get_ref().len();
    stream.write(&batch).unwrap();
    let message = bytes::Bytes::from(stream.into_inner().unwrap());
    let arrow_schema = message.slice(..schema_bytes);
    let spark = |data_type: &str| {
        let field = |name: &str, data_type: &str| {
            format!(r#"{{"name":"{name}","type":{data_type},"nullable":true,"metadata":{{}}}}"#)
        };
        format!(r#"{{"type":"struct","fields":[{},{}]}}"#, field("id", r#""string""#), field("v", data_type))
    };
    let pair = r#"{"type":"struct","fields":[{"name":"value","type":"binary","nullable":false,"metadata":{}},
        {"name":"metadata","type":"binary","nullable":false,"metadata":{}}]}"#;
    let hello =
        |spark_schema_json| v1::Open { arrow_schema: arrow_schema.clone(), spark_schema_json, ..open("variants") };

    let refused = RawSession::open(&client, hello(spark(pair))).await.end().await.unwrap_err();
    assert_eq!(refused.code(), tonic::Code::InvalidArgument);
    let expected = "Spark's schema calls struct<value:binary,metadata:binary> and not variant";
    assert!(refused.message().contains(expected), "{}", refused.message());

    // Without Spark's schema, two binaries in a variant column are a variant.
    for spark_schema_json in [spark(r#""variant""#), String::new()] {
        let mut session = RawSession::open(&client, hello(spark_schema_json)).await;
        assert!(matches!(session.next().await, Response::Opened(_)));
        let payload = Some(v1::batch::Payload::Arrow(v1::ArrowBatch { ipc_messages: message.slice(schema_bytes..) }));
        session.send(Request::Batch(v1::Batch { batch_seq: 1, payload, atomic: false })).await;
        session.send(Request::Finish(v1::Finish { batches: 1, rows: 1 })).await;
        let end = session.end().await.unwrap();
        let Some(Response::Finished(v1::Finished { receipt: Some(receipt) })) = end.last() else { panic!("{end:?}") };
        assert_eq!((receipt.committed_rows, receipt.rejected_rows), (1, 0));
        assert_eq!(get(&client, "variants", vec![text("spark")]).await, Some(vec![text("spark"), order()]));
    }
}
