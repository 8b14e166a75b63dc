//! Reads over real gRPC against the embedded DynamoDB: what was written comes back typed, and every key has its own status.

#![allow(clippy::unwrap_used, reason = "helpers of tests are tests")]

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use forebay::api::quota::Charges;
use forebay::api::read::ReadApi;
use forebay::catalog::{Catalog, CatalogConfig};
use forebay::payload::Plan;
use forebay::payload::rows::{RowsCursor, RowsPlan};
use forebay::proto::v1::read_service_client::ReadServiceClient;
use forebay::proto::v1::read_service_server::ReadServiceServer;
use forebay::proto::v1::value::Kind;
use forebay::proto::v1::{
    BatchGetRowsRequest, Consistency, GetRowRequest, GetRowResponse, ListValue, ReadRangeRequest, ReadSeriesRequest,
    ReadStatus, Row, RowBatch, RowKey, SortOrder, StructValue, TableKeys, Value,
};
use forebay::quota::Quotas;
use forebay::read::PointReader;
use forebay::schema::{KeyDef, TableDef, ddl};
use forebay::store::dynamodb::DynamoDb;
use forebay::store::embedded::Embedded;
use forebay::store::*;
use forebay::telemetry::Instruments;
use prost::Message as _;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::transport::{Channel, Server};
use tonic::{Code, Request, Status};
use tonic_types::StatusExt as _;

/// A store whose reads can be made to hang.
struct Hanging {
    inner: DynamoDb,
    hang: AtomicBool,
}

impl Hanging {
    async fn pass(&self) {
        if self.hang.load(Ordering::Relaxed) {
            std::future::pending::<()>().await;
        }
    }
}

impl Store for Hanging {
    fn get(&self, keys: GetKeys) -> StoreFuture<'_, Option<Item>, ReadError> {
        Box::pin(async move {
            self.pass().await;
            self.inner.get(keys).await
        })
    }
    fn batch_get(&self, tables: Vec<GetKeys>) -> StoreFuture<'_, BatchGetDone, ReadError> {
        Box::pin(async move {
            self.pass().await;
            self.inner.batch_get(tables).await
        })
    }
    fn query(&self, range: QueryRange) -> StoreFuture<'_, QueryPage, ReadError> {
        Box::pin(async move {
            self.pass().await;
            self.inner.query(range).await
        })
    }
    fn batch_write(&self, request: BatchWrite) -> StoreFuture<'_, WriteDone, WriteError> {
        self.inner.batch_write(request)
    }
    fn write_one(&self, request: OneWrite) -> StoreFuture<'_, WriteDone, WriteError> {
        self.inner.write_one(request)
    }
    fn describe_table<'a>(&'a self, table: &'a str) -> StoreFuture<'a, Option<TableDescription>, ControlError> {
        self.inner.describe_table(table)
    }
    fn create_table<'a>(&'a self, definition: &'a TableDef) -> StoreFuture<'a, (), ControlError> {
        self.inner.create_table(definition)
    }
    fn delete_table<'a>(&'a self, table: &'a str) -> StoreFuture<'a, (), ControlError> {
        self.inner.delete_table(table)
    }
    fn ensure_control_table<'a>(&'a self, table: &'a str) -> StoreFuture<'a, (), ControlError> {
        self.inner.ensure_control_table(table)
    }
    fn put_record<'a>(
        &'a self,
        table: &'a str,
        record: ControlRecord,
        only_if_absent: bool,
    ) -> StoreFuture<'a, (), ControlError> {
        self.inner.put_record(table, record, only_if_absent)
    }
    fn get_record<'a>(
        &'a self,
        table: &'a str,
        pk: &'a str,
        sk: Option<u64>,
    ) -> StoreFuture<'a, Option<ControlRecord>, ControlError> {
        self.inner.get_record(table, pk, sk)
    }
    fn scan_records<'a>(&'a self, table: &'a str) -> StoreFuture<'a, Vec<ControlRecord>, ControlError> {
        self.inner.scan_records(table)
    }
}

struct Gateway {
    store: Arc<Hanging>,
    catalog: Catalog,
    client: ReadServiceClient<Channel>,
    _embedded: Embedded,
}

impl Gateway {
    async fn start() -> Self {
        let embedded = Embedded::start(None).unwrap();
        let inner = DynamoDb::connect(&embedded.store_config()).await.unwrap();
        let store = Arc::new(Hanging { inner, hang: AtomicBool::new(false) });
        let catalog = Catalog::open(store.clone(), CatalogConfig::default()).await.unwrap();
        let charges = Charges::new(Quotas::new(), Arc::new(Instruments::new()));
        let service = ReadServiceServer::new(ReadApi::new(catalog.clone(), PointReader::new(store.clone()), charges));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let serving = Server::builder().add_service(service).serve_with_incoming(TcpListenerStream::new(listener));
        tokio::spawn(serving);
        let client = ReadServiceClient::connect(format!("http://{address}")).await.unwrap();
        Self { store, catalog, client, _embedded: embedded }
    }

    /// Creates a table and writes rows as a session would.
    async fn table(&self, name: &str, ddl: &str, key: KeyDef, ttl: Option<&str>, rows: Vec<Row>) {
        let mut def = TableDef::new(name, ddl::parse(ddl).unwrap(), key, name);
        def.ttl_column = ttl.map(str::to_owned);
        self.catalog.apply(def.clone(), false).await.unwrap();
        let plan = Plan::compile(&def, &def.schema, WriteOp::Put, 0).unwrap();
        let rows_plan = RowsPlan::compile(&plan).unwrap();
        let batch = RowBatch { rows }.encode_to_vec();
        let mut cursor = RowsCursor::new(&batch);
        while let Some(chunk) = cursor.next_chunk(&plan, &rows_plan, 1 << 20, 0).unwrap() {
            assert_eq!(chunk.rejects, []);
            for items in chunk.rows.chunks(25) {
                let items = items.iter().map(|row| row.item.clone()).collect();
                let done = self.store.batch_write(BatchWrite { table: name.into(), items }).await.unwrap();
                assert!(done.unprocessed.is_empty());
            }
        }
    }

    async fn get(&self, table: &str, key: RowKey, columns: &[&str]) -> Result<GetRowResponse, Status> {
        let request = GetRowRequest {
            table: table.to_owned(),
            key: Some(key),
            columns: columns.iter().map(|column| column.to_string()).collect(),
            consistency: Consistency::Strong.into(),
        };
        Ok(self.client.clone().get_row(request).await?.into_inner())
    }

    /// For each requested table: the statuses of its keys, and the first values of the rows found.
    async fn batch(&self, requests: Vec<TableKeys>) -> Result<Vec<Vec<(ReadStatus, Option<Kind>)>>, Status> {
        let request = BatchGetRowsRequest { requests, consistency: Consistency::Strong.into() };
        let response = self.client.clone().batch_get_rows(request).await?.into_inner();
        let rows = response.results.into_iter().map(|table| {
            let row = |row: forebay::proto::v1::RowResult| {
                (row.status(), row.row.and_then(|row| row.values.into_iter().next().unwrap().kind))
            };
            table.rows.into_iter().map(row).collect()
        });
        Ok(rows.collect())
    }
}

fn key_of(partition: &[&str], sort: &[&str]) -> KeyDef {
    let names = |columns: &[&str]| columns.iter().map(|column| column.to_string()).collect();
    KeyDef {
        partition: names(partition),
        sort: names(sort),
        partition_attribute: "_pk".into(),
        sort_attribute: "_sk".into(),
    }
}

fn row(kinds: impl IntoIterator<Item = Option<Kind>>) -> Row {
    Row { values: kinds.into_iter().map(|kind| Value { kind }).collect() }
}

fn key(kinds: impl IntoIterator<Item = Kind>) -> RowKey {
    RowKey { values: row(kinds.into_iter().map(Some)).values }
}

fn text(text: &str) -> Kind {
    Kind::StringValue(text.into())
}

fn now() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs() as i64
}

/// A table `nums` of 300 rows: n, and its square.
async fn numbers(gateway: &Gateway) {
    let rows = (0..300).map(|n| row([Some(Kind::IntValue(n)), Some(Kind::IntValue(n * n))])).collect();
    gateway.table("nums", "n BIGINT NOT NULL, square BIGINT", key_of(&["n"], &[]), None, rows).await;
}

fn number_key(n: i64) -> RowKey {
    key([Kind::IntValue(n)])
}

fn keys(table: &str, keys: Vec<RowKey>, columns: &[&str]) -> TableKeys {
    TableKeys { table: table.into(), keys, columns: columns.iter().map(|column| column.to_string()).collect() }
}

#[tokio::test]
async fn a_row_comes_back_in_its_declared_types() {
    let gateway = Gateway::start().await;
    let ddl = "id STRING NOT NULL, price DECIMAL(10,2), at TIMESTAMP, day DATE, local TIMESTAMP_NTZ, ratio DOUBLE, \
               small FLOAT, raw BINARY, ok BOOLEAN, none STRING, vitals ARRAY<STRUCT<hr: INT, note: STRING>>";
    let vital = |hr| Kind::StructValue(StructValue { values: row([Some(Kind::IntValue(hr)), None]).values });
    let values = vec![
        Some(text("a")),
        Some(Kind::DecimalValue("12.50".into())),
        Some(Kind::TimestampMicros(-1)),
        Some(Kind::DateDays(-1)),
        Some(Kind::TimestampNtzMicros(1_700_000_000_123_456)),
        Some(Kind::DoubleValue(0.1)),
        Some(Kind::FloatValue(0.1)),
        Some(Kind::BytesValue(Bytes::from_static(b"\0\xff"))),
        Some(Kind::BoolValue(false)),
        None,
        Some(Kind::ListValue(ListValue { values: row([Some(vital(61)), None, Some(vital(-3))]).values })),
    ];
    gateway.table("features", ddl, key_of(&["id"], &[]), None, vec![row(values.clone())]).await;

    let whole = gateway.get("features", key([text("a")]), &[]).await.unwrap();
    assert_eq!(whole.status(), ReadStatus::Found);
    assert_eq!(whole.row, Some(row(values.clone())));
    let names: Vec<_> = whole.columns.unwrap().fields.into_iter().map(|field| field.name).collect();
    assert_eq!(names[..3], ["id", "price", "at"]);

    let some = gateway.get("features", key([text("a")]), &["ok", "price"]).await.unwrap();
    assert_eq!(some.row, Some(row([values[8].clone(), values[1].clone()])));
    let names: Vec<_> = some.columns.unwrap().fields.into_iter().map(|field| field.name).collect();
    assert_eq!(names, ["ok", "price"]);

    let missing = gateway.get("features", key([text("b")]), &[]).await.unwrap();
    assert_eq!((missing.status(), missing.row), (ReadStatus::NotFound, None));
}

#[tokio::test]
async fn keys_of_several_columns_find_their_rows() {
    let gateway = Gateway::start().await;
    let ddl = "tenant STRING NOT NULL, id INT NOT NULL, day DATE NOT NULL, amount DECIMAL(6,2) NOT NULL, v STRING";
    let id = |tenant: &str, amount: &str| {
        [text(tenant), Kind::IntValue(-1), Kind::DateDays(5), Kind::DecimalValue(amount.into())]
    };
    let stored = |tenant, amount, v| row(id(tenant, amount).map(Some).into_iter().chain([Some(text(v))]));
    let rows = vec![stored("a", "1.50", "x"), stored("a", "-1.50", "y"), stored("a\u{0}", "1.50", "z")];
    gateway.table("joined", ddl, key_of(&["tenant", "id"], &["day", "amount"]), None, rows).await;

    // Any exact text of the number is the same key.
    let wanted = vec![key(id("a\u{0}", "1.5")), key(id("a", "-1.500")), key(id("a", "2")), key(id("a", "1.5"))];
    let read = gateway.batch(vec![keys("joined", wanted, &["v"])]).await.unwrap();
    let found = |v| (ReadStatus::Found, Some(text(v)));
    assert_eq!(read, [[found("z"), found("y"), (ReadStatus::NotFound, None), found("x")]]);
    let whole = gateway.get("joined", key(id("a", "1.5")), &[]).await.unwrap();
    assert_eq!(whole.row, Some(stored("a", "1.50", "x")), "key columns come back as they were written");
}

#[tokio::test]
async fn a_batch_keeps_its_order_over_tables_duplicates_and_hundreds_of_keys() {
    let gateway = Gateway::start().await;
    numbers(&gateway).await;
    let rows = vec![row([Some(text("a")), Some(text("A"))])];
    gateway.table("texts", "id STRING NOT NULL, v STRING", key_of(&["id"], &[]), None, rows).await;

    let wanted: Vec<i64> = (0..350).rev().chain([7, 7]).collect();
    let requests = vec![
        keys("nums", wanted.iter().copied().map(number_key).collect(), &["square"]),
        keys("nowhere", vec![key([text("a")]), key([])], &[]),
        keys("texts", vec![key([text("a")]), key([text("b")]), key([text("a")])], &["v"]),
    ];
    let read = gateway.batch(requests).await.unwrap();
    for (n, result) in wanted.iter().zip(&read[0]) {
        let expected = match n {
            0..300 => (ReadStatus::Found, Some(Kind::IntValue(n * n))),
            _ => (ReadStatus::NotFound, None),
        };
        assert_eq!(*result, expected, "{n}");
    }
    assert_eq!(read[0].len(), 352);
    assert_eq!(read[1], [(ReadStatus::Denied, None), (ReadStatus::Denied, None)]);
    let found = (ReadStatus::Found, Some(text("A")));
    assert_eq!(read[2], [found.clone(), (ReadStatus::NotFound, None), found]);
}

#[tokio::test]
async fn the_expired_and_the_foreign_have_statuses_of_their_own() {
    let gateway = Gateway::start().await;
    let stored = |id, until| row([Some(text(id)), Some(Kind::TimestampMicros(until * 1_000_000))]);
    let rows = vec![stored("old", now() - 10), stored("new", now() + 1_000)];
    let ddl = "id STRING NOT NULL, until TIMESTAMP";
    gateway.table("sessions", ddl, key_of(&["id"], &[]), Some("until"), rows).await;
    let json = Bytes::from_static(br#"{"id":{"S":"foreign"},"until":{"S":"tomorrow"}}"#);
    let foreign = WriteItem::new(WriteOp::Put, json, 20);
    gateway.store.write_one(OneWrite { table: "sessions".into(), item: foreign, sequence: None }).await.unwrap();

    let ids = ["old", "new", "foreign", "none"].map(|id| key([text(id)]));
    let read = gateway.batch(vec![keys("sessions", ids.to_vec(), &["id"])]).await.unwrap();
    let statuses: Vec<_> = read[0].iter().map(|(status, _)| *status).collect();
    // Nobody asked for the foreign value.
    assert_eq!(statuses, [ReadStatus::Expired, ReadStatus::Found, ReadStatus::Found, ReadStatus::NotFound]);
    let old = gateway.get("sessions", key([text("old")]), &[]).await.unwrap();
    assert_eq!((old.status(), old.row), (ReadStatus::Expired, None));
    let foreign = gateway.get("sessions", key([text("foreign")]), &[]).await.unwrap();
    assert_eq!((foreign.status(), foreign.row), (ReadStatus::Undecodable, None));
    assert_eq!(foreign.message, "column `until`: expected timestamp, found text (S)");
}

#[tokio::test]
async fn wrong_requests_are_refused_with_the_place_and_what_is_expected() {
    let gateway = Gateway::start().await;
    numbers(&gateway).await;
    let refused = |result: Result<GetRowResponse, Status>, field: &str, words: &str| {
        let status = result.unwrap_err();
        assert_eq!(status.code(), Code::InvalidArgument, "{status:?}");
        assert_eq!(status.get_error_details().bad_request().unwrap().field_violations[0].field, field);
        assert!(status.message().contains(words), "{}", status.message());
    };
    refused(gateway.get("nums", key([text("1")]), &[]).await, "key", "does not fit the declared type bigint");
    refused(gateway.get("nums", key([]), &[]).await, "key", "the key has 0 values; the key is (n bigint)");
    refused(gateway.get("nums", RowKey { values: vec![Value { kind: None }] }, &[]).await, "key", "must not be null");
    refused(gateway.get("nums", number_key(1), &["cube"]).await, "columns", "has no column `cube`");
    let mut request = GetRowRequest { table: "nums".into(), ..Default::default() };
    refused(gateway.client.clone().get_row(request.clone()).await.map(|_| unreachable!()), "key", "is missing");
    request.consistency = 9;
    refused(gateway.client.clone().get_row(request).await.map(|_| unreachable!()), "consistency", "9");

    let missing = gateway.get("nowhere", number_key(1), &[]).await.unwrap_err();
    assert_eq!(missing.code(), Code::NotFound);

    let too_many = keys("nums", (0..1001).map(number_key).collect(), &[]);
    let status = gateway.batch(vec![too_many]).await.unwrap_err();
    assert_eq!(status.code(), Code::InvalidArgument);
    assert!(status.message().contains("at most 1000 keys"), "{}", status.message());
    let second_wrong = vec![keys("nums", vec![number_key(1)], &[]), keys("nums", vec![number_key(1), key([])], &[])];
    let status = gateway.batch(second_wrong).await.unwrap_err();
    assert!(status.message().starts_with("requests[1].keys[1]: "), "{}", status.message());
    let wide = gateway.batch((0..1001).map(|_| keys("nums", vec![], &[])).collect()).await.unwrap_err();
    assert_eq!(wide.code(), Code::InvalidArgument);
}

/// The header alone: the client's own timer would hide who answered.
fn with_timeout<T>(message: T, timeout: &'static str) -> Request<T> {
    let mut request = Request::new(message);
    request.metadata_mut().insert("grpc-timeout", timeout.parse().unwrap());
    request
}

#[tokio::test]
async fn a_deadline_is_kept_by_the_handler() {
    let gateway = Gateway::start().await;
    numbers(&gateway).await;
    assert_eq!(gateway.get("nums", number_key(1), &[]).await.unwrap().status(), ReadStatus::Found);
    gateway.store.hang.store(true, Ordering::Relaxed);

    let get = GetRowRequest { table: "nums".into(), key: Some(number_key(1)), ..Default::default() };
    let status = gateway.client.clone().get_row(with_timeout(get.clone(), "300m")).await.unwrap_err();
    assert_eq!(status.code(), Code::DeadlineExceeded, "{status:?}");

    let batch = BatchGetRowsRequest { requests: vec![keys("nums", vec![number_key(1); 2], &[])], consistency: 0 };
    let answer = gateway.client.clone().batch_get_rows(with_timeout(batch, "300m")).await.unwrap().into_inner();
    let statuses: Vec<_> = answer.results[0].rows.iter().map(|row| row.status()).collect();
    assert_eq!(statuses, [ReadStatus::Unavailable; 2], "a batch says what it has");
    assert_eq!(answer.results[0].rows[0].message, "DynamoDB did not answer before the deadline");

    let started = tokio::time::Instant::now();
    let patience = gateway.get("nums", number_key(1), &[]).await.unwrap();
    assert_eq!(patience.status(), ReadStatus::Unavailable, "no deadline of the client's has passed");
    assert!(started.elapsed() < Duration::from_secs(4));

    gateway.store.hang.store(false, Ordering::Relaxed);
    assert_eq!(
        gateway.client.clone().get_row(with_timeout(get, "99H")).await.unwrap().into_inner().status(),
        ReadStatus::Found
    );
}

#[tokio::test]
async fn a_deleted_dynamodb_table_is_said_and_its_neighbours_are_read() {
    let gateway = Gateway::start().await;
    numbers(&gateway).await;
    gateway.table("lost", "n BIGINT NOT NULL", key_of(&["n"], &[]), None, vec![]).await;
    gateway.store.delete_table("lost").await.unwrap();
    let status = gateway.get("lost", number_key(1), &[]).await.unwrap_err();
    assert_eq!(status.code(), Code::FailedPrecondition, "{status:?}");
    let requests = vec![keys("lost", vec![number_key(1)], &[]), keys("nums", vec![number_key(1)], &[])];
    let read = gateway.batch(requests).await.unwrap();
    assert_eq!((read[0][0].0, read[1][0].0), (ReadStatus::Unavailable, ReadStatus::Found));
}

/// A table `events` of a text, a day and a number as its key: 12 rows under `a`, one under `b`.
async fn events(gateway: &Gateway) {
    let ddl = "id STRING NOT NULL, day DATE NOT NULL, n BIGINT NOT NULL, v STRING, until TIMESTAMP";
    let event = |id: &str, day: i32, n: i64, until: Option<i64>| {
        let until = until.map(|until| Kind::TimestampMicros(until * 1_000_000));
        row([
            Some(text(id)),
            Some(Kind::DateDays(day)),
            Some(Kind::IntValue(n)),
            Some(text(&format!("{day}.{n}"))),
            until,
        ])
    };
    let mut rows: Vec<_> = (0..4).flat_map(|day| (-1..2).map(move |n| event("a", day, n, None))).collect();
    rows.push(event("a", 1, 9, Some(now() - 10)));
    rows.push(event("b", 1, 0, None));
    gateway.table("events", ddl, key_of(&["id"], &["day", "n"]), Some("until"), rows).await;
}

fn range_of(id: &str) -> ReadRangeRequest {
    ReadRangeRequest {
        table: "events".into(),
        partition: Some(key([text(id)])),
        columns: vec!["v".into()],
        consistency: Consistency::Strong.into(),
        ..Default::default()
    }
}

fn at(day: i32, n: i64) -> Option<RowKey> {
    Some(key([Kind::DateDays(day), Kind::IntValue(n)]))
}

/// The texts of a range's rows.
async fn texts(gateway: &Gateway, request: ReadRangeRequest) -> Vec<String> {
    let mut stream = gateway.client.clone().read_range(request).await.unwrap().into_inner();
    let (mut texts, mut first) = (Vec::new(), true);
    while let Some(message) = stream.message().await.unwrap() {
        assert_eq!(message.columns.is_some(), std::mem::take(&mut first), "the columns come once");
        texts.extend(message.rows.into_iter().map(|row| match row.values.into_iter().next().unwrap().kind {
            Some(Kind::StringValue(text)) => text,
            other => panic!("{other:?}"),
        }));
    }
    assert!(!first, "also an empty range says its columns");
    texts
}

#[tokio::test]
async fn a_range_is_read_in_the_order_of_its_sort_key_within_its_bounds() {
    let gateway = Gateway::start().await;
    events(&gateway).await;
    let all: Vec<_> = (0..4).flat_map(|day| (-1..2).map(move |n| format!("{day}.{n}"))).collect();
    assert_eq!(
        texts(&gateway, range_of("a")).await,
        all,
        "joined sort keys sort as their columns, the expired left out"
    );
    assert_eq!(texts(&gateway, range_of("b")).await, ["1.0"]);
    assert_eq!(texts(&gateway, range_of("nobody")).await, [""; 0]);

    let between = ReadRangeRequest { sort_from: at(1, 0), sort_to: at(3, -1), ..range_of("a") };
    assert_eq!(texts(&gateway, between.clone()).await, ["1.0", "1.1", "2.-1", "2.0", "2.1"]);
    let backwards = ReadRangeRequest { order: SortOrder::Descending.into(), limit: 2, ..between.clone() };
    assert_eq!(texts(&gateway, backwards).await, ["2.1", "2.0"]);
    let nothing = ReadRangeRequest { sort_from: at(3, 0), sort_to: at(3, -1), ..range_of("a") };
    assert_eq!(texts(&gateway, nothing).await, [""; 0]);

    let whole = ReadRangeRequest { columns: vec![], limit: 1, ..between };
    let mut stream = gateway.client.clone().read_range(whole).await.unwrap().into_inner();
    let first = stream.message().await.unwrap().unwrap();
    let names: Vec<_> = first.columns.unwrap().fields.into_iter().map(|field| field.name).collect();
    assert_eq!(names, ["id", "day", "n", "v", "until"]);
    let expected = row([Some(text("a")), Some(Kind::DateDays(1)), Some(Kind::IntValue(0)), Some(text("1.0")), None]);
    assert_eq!(first.rows, [expected]);
}

#[tokio::test]
async fn wrong_ranges_are_refused_with_the_place_and_what_is_expected() {
    let gateway = Gateway::start().await;
    numbers(&gateway).await;
    events(&gateway).await;
    for (request, field, words) in [
        (ReadRangeRequest { partition: None, ..range_of("a") }, "partition", "is missing"),
        (
            ReadRangeRequest { partition: at(1, 1), ..range_of("a") },
            "partition",
            "the key has 2 values; the key is (id string)",
        ),
        (
            ReadRangeRequest { sort_from: Some(key([Kind::DateDays(1)])), ..range_of("a") },
            "sort_from",
            "the sort key has 1 value; the key is (day date, n bigint)",
        ),
        (
            ReadRangeRequest { sort_to: Some(key([Kind::DateDays(1), text("x")])), ..range_of("a") },
            "sort_to",
            "key column `n`: string does not fit",
        ),
        (ReadRangeRequest { order: 7, ..range_of("a") }, "order", "does not know the value 7"),
        (ReadRangeRequest { columns: vec!["w".into()], ..range_of("a") }, "columns", "has no column `w`"),
        (
            ReadRangeRequest { table: "nums".into(), columns: vec![], ..range_of("a") },
            "table",
            "the table has no sort key, so it has no ranges; its key is (n bigint)",
        ),
    ] {
        let status = gateway.client.clone().read_range(request).await.unwrap_err();
        assert_eq!(status.code(), Code::InvalidArgument, "{status:?}");
        assert_eq!(status.get_error_details().bad_request().unwrap().field_violations[0].field, field);
        assert!(status.message().contains(words), "{}", status.message());
    }
    let nowhere = ReadRangeRequest { table: "nowhere".into(), ..range_of("a") };
    assert_eq!(gateway.client.clone().read_range(nowhere).await.unwrap_err().code(), Code::NotFound);
}

#[tokio::test]
async fn a_range_that_cannot_go_on_says_so() {
    let gateway = Gateway::start().await;
    events(&gateway).await;
    let key_json = r#""id":{"S":"a"},"_sk":{"S":"1970-01-03\u0000"}"#;
    let foreign = format!(r#"{{{key_json},"day":{{"S":"1970-01-03"}},"n":{{"N":"0"}},"v":{{"N":"17"}}}}"#);
    let foreign = WriteItem::new(WriteOp::Put, Bytes::from(foreign), key_json.len() as u32);
    gateway.store.write_one(OneWrite { table: "events".into(), item: foreign, sequence: None }).await.unwrap();
    let mut stream = gateway.client.clone().read_range(range_of("a")).await.unwrap().into_inner();
    assert_eq!(stream.message().await.unwrap().unwrap().rows.len(), 6, "the rows before it come");
    let status = stream.message().await.unwrap_err();
    assert_eq!(status.code(), Code::FailedPrecondition);
    assert_eq!(status.get_error_details().error_info().unwrap().reason, "ROW_UNDECODABLE");
    let words =
        "the item after 6 rows of the range does not fit the schema: column `v`: expected string, found a number";
    assert!(status.message().starts_with(words), "{}", status.message());

    gateway.store.hang.store(true, Ordering::Relaxed);
    let mut hanging =
        gateway.client.clone().read_range(with_timeout(range_of("b"), "300m")).await.unwrap().into_inner();
    assert_eq!(hanging.message().await.unwrap_err().code(), Code::DeadlineExceeded);
    let mut patient = gateway.client.clone().read_range(range_of("b")).await.unwrap().into_inner();
    assert_eq!(
        patient.message().await.unwrap_err().code(),
        Code::Unavailable,
        "no deadline of the client's has passed"
    );
}

#[tokio::test]
async fn series_are_refused_until_they_are_there() {
    let gateway = Gateway::start().await;
    let refused = gateway.client.clone().read_series(ReadSeriesRequest::default()).await.unwrap_err();
    assert_eq!(refused.code(), Code::Unimplemented);
}
