//! Faults between the gateway and DynamoDB, by their number in the table of faults: the real client over TCP, a real gateway,
//! and a proxy before the embedded store that throttles, loses answers, is late, or is away.
//!
//! The client logs every row that it sends and every outcome that it hears. At the end the store is scanned past the proxy and
//! compared with that log: no acked row is lost, nothing is stored that was not sent, nothing older is over something newer.
//!
//! Elsewhere: 13, 20, and what a call's end says for 14, 15, 17, 21, 22 in `faults.rs`; 23 and 24, which never reach
//! DynamoDB, in `write.rs`; 26 of a reset connection in `cancel.rs`; 30 of more streams, over a folder, in `kill.rs`.

#![allow(clippy::unwrap_used, reason = "helpers of tests are tests")]
#![allow(clippy::print_stderr, reason = "a seeded test tells which faults it met")]

#[path = "common/fault_proxy.rs"]
mod fault_proxy;
#[path = "common/gateway.rs"]
mod gateway;
#[path = "common/history.rs"]
mod history;
#[path = "common/process.rs"]
mod process;
#[path = "common/verifier.rs"]
mod verifier;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use fault_proxy::{Call, Fault, FaultProxy};
use forebay::client::{self, Client, ClientError, OpenOptions};
use forebay::config::Settings;
use forebay::proto::v1::{self, RowStatus, WriteMode};
use forebay::server::Gateway;
use forebay::store::dynamodb::DynamoDb;
use forebay::store::embedded::Embedded;
use forebay::store::{Store as _, StoreConfig};
use forebay::telemetry::instruments::{TableLabel, ThrottleLabel};
use gateway::{eventually, int, null, settings, text};
use history::{Broken, Effect};
use process::Served;
use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::time::Instant;
use tonic::Code;
use verifier::{Book, Row, Verifier};

/// Short, so that what is swallowed is soon tried again.
const ATTEMPT_TIMEOUT: Duration = Duration::from_millis(300);

/// Rows that are unacked at each kill.
const UNACKED_AT_KILL: usize = 1_000;

/// A gateway whose DynamoDB is behind a proxy.
struct Bed {
    gateway: Gateway,
    client: Client,
    proxy: FaultProxy,
    embedded: Embedded,
}

impl Bed {
    async fn start() -> Self {
        Self::with(settings(|_| {})).await
    }

    async fn with(settings: Settings) -> Self {
        let embedded = Embedded::start(None).unwrap();
        let proxy = FaultProxy::start(&embedded.endpoint_url()).await;
        let config = StoreConfig {
            endpoint_url: Some(proxy.endpoint_url()),
            write_attempt_timeout: ATTEMPT_TIMEOUT,
            ..embedded.store_config()
        };
        let store = Arc::new(DynamoDb::connect(&config).await.unwrap());
        let gateway = Gateway::start_with_store(settings, store).await.unwrap();
        let client = client::connect(&gateway.endpoint()).unwrap();
        Self { gateway, client, proxy, embedded }
    }

    /// The table `rows`, in the order of `v` or in none.
    async fn table(&self, ordered: bool) {
        self.create("id STRING NOT NULL, v BIGINT NOT NULL", if ordered { "v" } else { "" }).await;
    }

    async fn create(&self, ddl: &str, sequence_by: &str) {
        create(&self.client, ddl, sequence_by).await;
    }

    async fn writer(&self, options: OpenOptions, id: u32, book: &Book) -> Verifier {
        Verifier::open(&self.client, options, id, book).await.unwrap()
    }

    /// What is stored is what was sent and heard. `columns` are those that merges have histories of.
    async fn check(&self, book: &Book, columns: Option<&[&str]>) {
        assert_eq!(self.broken(book, columns).await, []);
    }

    async fn broken(&self, book: &Book, columns: Option<&[&str]>) -> Vec<Broken> {
        broken(&self.proxy, &self.embedded, book, columns).await
    }

    async fn is_ready(&self) -> bool {
        let mut stream = tokio::net::TcpStream::connect(self.gateway.admin_address().unwrap()).await.unwrap();
        stream.write_all(b"GET /readyz HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer.starts_with("HTTP/1.1 200")
    }
}

/// Creates the table `rows`.
async fn create(client: &Client, ddl: &str, sequence_by: &str) {
    let key = v1::Key { partition: vec!["id".to_owned()], ..v1::Key::default() };
    let table = v1::Table {
        name: "rows".to_owned(),
        ddl: ddl.to_owned(),
        key: Some(key),
        sequence_by: sequence_by.to_owned(),
        ..v1::Table::default()
    };
    client.tables().apply(table, false).await.unwrap();
}

/// Promises that the store does not keep.
async fn broken(proxy: &FaultProxy, embedded: &Embedded, book: &Book, columns: Option<&[&str]>) -> Vec<Broken> {
    proxy.settled().await;
    let mut stored = BTreeMap::new();
    for item in process::scan(&embedded.endpoint_url(), "rows") {
        let key = item["id"]["S"].as_str().unwrap();
        let version = |column: &str| item[column]["N"].as_str().map(|number| number.parse::<u64>().unwrap());
        match columns {
            None if item.get("_deleted").is_some() => {}
            None => {
                stored.insert(key.to_owned(), version("v").unwrap());
            }
            Some(columns) => {
                let some = columns.iter().filter_map(|column| Some((format!("{key}/{column}"), version(column)?)));
                stored.extend(some);
            }
        }
    }
    book.history().check(&stored)
}

/// Columns by name and type.
fn columns(columns: &[(&str, v1::PrimitiveType)]) -> v1::Schema {
    let field = |(name, primitive): &(&str, v1::PrimitiveType)| v1::Field {
        name: (*name).to_owned(),
        r#type: Some(v1::DataType { r#type: Some(v1::data_type::Type::Primitive((*primitive).into())) }),
        nullable: !["id", "op"].contains(name),
        ..v1::Field::default()
    };
    v1::Schema { fields: columns.iter().map(field).collect() }
}

/// Merges of the key and one column.
fn merges(column: &str) -> OpenOptions {
    let columns = columns(&[("id", v1::PrimitiveType::String), (column, v1::PrimitiveType::Long)]);
    rows().mode(WriteMode::Merge).columns(columns)
}

/// A merge of one column; every seventh removes it.
fn merge(key: &str, column: &str, version: u64) -> Row {
    let removes = version.is_multiple_of(7);
    let (value, effect) = if removes { (null(), Effect::Delete) } else { (int(version as i64), Effect::Put(version)) };
    Row { values: vec![text(key), value], effects: vec![(format!("{key}/{column}"), effect)] }
}

fn put(key: impl Into<String>, version: u64) -> Row {
    let key = key.into();
    Row { values: vec![text(key.clone()), int(version as i64)], effects: vec![(key, Effect::Put(version))] }
}

/// A delete by the key alone, for tables in no order.
fn delete(key: impl Into<String>) -> Row {
    let key = key.into();
    Row { values: vec![text(key.clone())], effects: vec![(key, Effect::Delete)] }
}

fn rows() -> OpenOptions {
    OpenOptions::new("rows")
}

/// Whether an item or a key is of this partition.
fn is_of(item: &Value, prefix: &str) -> bool {
    item["id"]["S"].as_str().is_some_and(|id| id.starts_with(prefix))
}

#[tokio::test(flavor = "multi_thread")]
async fn faults_13_and_17_an_outage_bounds_the_memory_and_ends_within_five_seconds() {
    let bed = Bed::with(settings(|config| config.memory_mib = Some(64))).await;
    bed.create("id STRING NOT NULL, v BIGINT NOT NULL, pad STRING", "").await;
    let book = Book::default();
    let mut writer = bed.writer(rows(), 1, &book).await;
    let padded = |number: u64| {
        let mut row = put(format!("k{}", number % 5_000), number);
        row.values.push(text("x".repeat(1_000)));
        row
    };
    writer.send((0..500).map(padded).collect()).await.unwrap();
    writer.flush().await.unwrap();
    bed.proxy.set_away(true);
    let acked = book.counts().1;
    let feeder = tokio::spawn(async move {
        for batch in 1..60 {
            writer.send((batch * 500..(batch + 1) * 500).map(padded).collect()).await.unwrap();
        }
        writer.finish().await.unwrap()
    });
    let began = Instant::now();
    let (instruments, mut most) = (bed.gateway.instruments().clone(), 0);
    while bed.is_ready().await || began.elapsed() < Duration::from_millis(1_500) {
        assert!(began.elapsed() < Duration::from_secs(15), "still ready");
        most = most.max(instruments.reserved_bytes.get());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(book.counts().1, acked, "no ack during the outage");
    assert!(most > 0 && most <= 64 * 1024 * 1024, "{most} bytes");
    bed.proxy.set_away(false);
    let back = Instant::now();
    eventually("acks again", || book.counts().1 > acked).await;
    assert!(back.elapsed() <= Duration::from_secs(5), "{:?}", back.elapsed());
    assert_eq!(feeder.await.unwrap().rows, 30_000);
    bed.check(&book, None).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn fault_14_one_hot_partition_holds_up_its_own_rows_only() {
    for ordered in [false, true] {
        let bed = Bed::start().await;
        bed.table(ordered).await;
        bed.proxy.script_writes(|call| {
            let items = call.items();
            let hot: Vec<usize> = (0..items.len()).filter(|&index| is_of(items[index], "hot")).collect();
            match hot.len() {
                0 => Fault::Pass,
                some if some == items.len() => Fault::throttled("TableWriteKeyRangeThroughputExceeded"),
                _ => Fault::Part { left: hot },
            }
        });
        let book = Book::default();
        let (mut hot, mut cool) = (bed.writer(rows(), 1, &book).await, bed.writer(rows(), 2, &book).await);
        hot.send((0..20).map(|number| put("hot", number + 1)).collect()).await.unwrap();
        // In a table with an order each row is a call, and the emulator does one after the other.
        let size = if ordered { 10 } else { 100 };
        for batch in 0..20u64 {
            let row = |number: u64| put(format!("cool{}", number % 700), number + 1);
            cool.send((batch * size..(batch + 1) * size).map(row).collect()).await.unwrap();
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        cool.finish().await.unwrap();
        assert_eq!(book.acks(1), [], "the hot partition is still throttled");
        let mut latencies: Vec<Duration> = book.acks(2).into_iter().map(|ack| ack.1).collect();
        latencies.sort_unstable();
        // Far below what it would take to wait for the hot ones, and far above what a busy machine does to it.
        assert!(latencies[10] < Duration::from_secs(5), "ordered {ordered}: {latencies:?}");
        bed.proxy.pass();
        hot.finish().await.unwrap();
        let fired = bed.proxy.fired();
        assert!(fired["ProvisionedThroughputExceededException"] > 2, "{fired:?}");
        bed.check(&book, None).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn fault_15_a_throttled_table_is_asked_less_and_named_with_its_index() {
    let bed = Bed::start().await;
    bed.table(false).await;
    let index = ("IndexWriteProvisionedThroughputExceeded", "arn:aws:dynamodb:us-east-1:1:table/rows/index/by_v");
    bed.proxy.script_writes(move |call| match call.number % 4 {
        0 => Fault::Pass,
        _ => Fault::Refuse { status: 400, kind: "ProvisionedThroughputExceededException", reasons: vec![index] },
    });
    let book = Book::default();
    let mut writer = bed.writer(rows(), 1, &book).await;
    for batch in 0..30u64 {
        let row = |number: u64| put(format!("k{}", number % 2_000), number + 1);
        writer.send((batch * 200..(batch + 1) * 200).map(row).collect()).await.unwrap();
    }
    let instruments = bed.gateway.instruments().clone();
    let window = || {
        let label = TableLabel { dynamodb_table: "rows".to_owned() };
        instruments.window.get_or_create(&label).get()
    };
    eventually("the window shrinks", || (1..16).contains(&window())).await;
    bed.proxy.pass();
    writer.finish().await.unwrap();
    let throttle = ThrottleLabel { dynamodb_table: "rows".to_owned(), index: "by_v".to_owned(), reason: "provisioned" };
    assert!(instruments.throttles.get_or_create(&throttle).get() > 0);
    bed.check(&book, None).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn fault_16_only_unprocessed_items_are_sent_again() {
    let bed = Bed::start().await;
    bed.table(false).await;
    let done: Arc<Mutex<BTreeMap<String, u32>>> = Arc::default();
    let (count, mut rng) = (Arc::clone(&done), fastrand::Rng::with_seed(16));
    bed.proxy.script_writes(move |call| {
        let items = call.items();
        let left: Vec<usize> = match call.operation.as_str() {
            "BatchWriteItem" => (0..items.len()).filter(|_| rng.u32(..3) == 0).collect(),
            _ => Vec::new(),
        };
        let mut count = count.lock().unwrap();
        for (index, item) in items.iter().enumerate() {
            if !left.contains(&index) {
                *count.entry(item.to_string()).or_default() += 1;
            }
        }
        if left.is_empty() { Fault::Pass } else { Fault::Part { left } }
    });
    let book = Book::default();
    let mut writer = bed.writer(rows(), 1, &book).await;
    for batch in 0..10u64 {
        let row = |number: u64| put(format!("k{}", number % 400), number + 1);
        writer.send((batch * 100..(batch + 1) * 100).map(row).collect()).await.unwrap();
    }
    writer.finish().await.unwrap();
    assert!(bed.proxy.fired()["part"] > 5, "{:?}", bed.proxy.fired());
    let done = done.lock().unwrap().clone();
    let again: Vec<_> = done.iter().filter(|(_, times)| **times > 1).collect();
    assert!(again.is_empty(), "written twice: {again:?}");
    bed.check(&book, None).await;
}

/// Every third write loses its answer, every fifth is done and called an internal error.
fn lose_answers(call: &Call) -> Fault {
    match (call.number % 3, call.number % 5) {
        (0, _) => Fault::LoseAnswer,
        (_, 0) => Fault::FailAfter,
        _ => Fault::Pass,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn fault_18_a_put_or_delete_whose_answer_is_lost_is_written_again() {
    for ordered in [false, true] {
        let bed = Bed::start().await;
        bed.table(ordered).await;
        bed.proxy.script_writes(lose_answers);
        let book = Book::default();
        let mut writer = bed.writer(rows(), 1, &book).await;
        for batch in 0..12u64 {
            let row = |number: u64| put(format!("k{}", number % 150), number + 1);
            writer.send((batch * 50..(batch + 1) * 50).map(row).collect()).await.unwrap();
        }
        writer.finish().await.unwrap();
        let mut deleter = bed.writer(rows().mode(WriteMode::Delete), 1, &book).await;
        let row = |number: u64| match ordered {
            false => delete(format!("k{}", number * 2)),
            // With the sequence, by which it goes before what comes later only.
            true => Row {
                values: vec![text(format!("k{}", number * 2)), int(1_000_000)],
                ..delete(format!("k{}", number * 2))
            },
        };
        deleter.send((0..60).map(row).collect()).await.unwrap();
        deleter.finish().await.unwrap();
        assert!(bed.proxy.fired()["lost answer"] > 1, "{:?}", bed.proxy.fired());
        assert!(book.outcomes().is_empty(), "{:?}", book.outcomes());
        let living = process::scan(&bed.embedded.endpoint_url(), "rows")
            .iter()
            .filter(|item| item.get("_deleted").is_none())
            .count();
        assert_eq!(living, 90, "ordered {ordered}");
        bed.check(&book, None).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn fault_18_a_merge_whose_answer_is_lost_is_written_again_and_leaves_other_columns_alone() {
    let bed = Bed::start().await;
    bed.create("id STRING NOT NULL, a BIGINT, b BIGINT", "").await;
    bed.proxy.script_writes(lose_answers);
    let book = Book::default();
    let mut both = [bed.writer(merges("a"), 1, &book).await, bed.writer(merges("b"), 2, &book).await];
    for batch in 0..12u64 {
        for (writer, name) in both.iter_mut().zip(["a", "b"]) {
            let row = |number: u64| merge(&format!("k{}", number % 40), name, number);
            writer.send((batch * 30 + 1..=(batch + 1) * 30).map(row).collect()).await.unwrap();
        }
    }
    for writer in both {
        writer.finish().await.unwrap();
    }
    assert!(bed.proxy.fired()["lost answer"] > 1, "{:?}", bed.proxy.fired());
    assert!(book.outcomes().is_empty(), "{:?}", book.outcomes());
    bed.check(&book, Some(&["a", "b"])).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn faults_16_and_18_all_kinds_of_writes_of_one_key_keep_their_order() {
    let bed = Bed::start().await;
    bed.create("id STRING NOT NULL, a BIGINT, b BIGINT", "").await;
    let mut rng = fastrand::Rng::with_seed(18);
    bed.proxy.script_writes(move |call| match rng.u32(..3) {
        0 if call.operation == "BatchWriteItem" => {
            Fault::Part { left: (0..call.items().len()).filter(|_| rng.bool()).collect() }
        }
        1 => Fault::LoseAnswer,
        _ => Fault::Pass,
    });
    let schema = columns(&[
        ("op", v1::PrimitiveType::String),
        ("id", v1::PrimitiveType::String),
        ("a", v1::PrimitiveType::Long),
        ("b", v1::PrimitiveType::Long),
    ]);
    let book = Book::default();
    let mut writer = bed.writer(rows().op_column("op").columns(schema), 1, &book).await;
    let mut rng = fastrand::Rng::with_seed(180);
    let mut version = 0;
    for _ in 0..15 {
        let mut batch = Vec::new();
        for _ in 0..40 {
            version += 1;
            let key = format!("k{}", rng.u32(..12));
            let mut some = |chance: u32| (rng.u32(..chance) > 0).then_some(version);
            let (op, a, b) = match version % 5 {
                0 => ("delete", None, None),
                1 => ("put", Some(version), some(2)),
                _ => ("merge", some(3), some(3)),
            };
            let value = |version: Option<u64>| version.map_or_else(null, |version| int(version as i64));
            let effect = |column: &str, version: Option<u64>| {
                (format!("{key}/{column}"), version.map_or(Effect::Delete, Effect::Put))
            };
            let effects = vec![effect("a", a), effect("b", b)];
            batch.push(Row { values: vec![text(op), text(key.clone()), value(a), value(b)], effects });
        }
        writer.send(batch).await.unwrap();
    }
    writer.finish().await.unwrap();
    let fired = bed.proxy.fired();
    assert!(fired["part"] > 1 && fired["lost answer"] > 1, "{fired:?}");
    assert!(book.outcomes().is_empty(), "{:?}", book.outcomes());
    bed.check(&book, Some(&["a", "b"])).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn fault_18_an_insert_whose_answer_is_lost_does_not_take_itself_for_another() {
    for ordered in [false, true] {
        let bed = Bed::start().await;
        bed.table(ordered).await;
        let book = Book::default();
        let mut before = bed.writer(rows(), 1, &book).await;
        before.send(vec![put("taken", 1)]).await.unwrap();
        before.finish().await.unwrap();
        bed.proxy.script_writes(lose_answers);
        let mut writer = bed.writer(rows().mode(WriteMode::Insert), 2, &book).await;
        let mut sent: Vec<Row> = (0..200).map(|number| put(format!("k{number}"), number + 10)).collect();
        sent.push(put("taken", 5));
        writer.send(sent).await.unwrap();
        let receipt = writer.finish().await.unwrap();
        assert!(bed.proxy.fired()["lost answer"] > 10, "{:?}", bed.proxy.fired());
        assert_eq!((receipt.committed_rows, receipt.rejected_rows), (200, 1), "ordered {ordered}");
        let outcomes = book.outcomes();
        assert_eq!((outcomes.len(), outcomes[0].row, outcomes[0].status), (1, 200, RowStatus::Rejected));
        bed.check(&book, None).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn fault_19_a_late_apply_never_overtakes_in_a_table_with_an_order() {
    let bed = Bed::start().await;
    bed.table(true).await;
    let mut rng = fastrand::Rng::with_seed(19);
    bed.proxy.script_writes(move |_| match rng.u32(..5) {
        0 => Fault::ApplyLate(Duration::from_millis(rng.u64(20..900))),
        _ => Fault::Pass,
    });
    let book = Book::default();
    let mut writers = Vec::new();
    // Two writers of the same keys: which version is the newest is not a matter of arrival.
    for id in 0..2u64 {
        let mut writer = bed.writer(rows(), id as u32, &book).await;
        writers.push(tokio::spawn(async move {
            for batch in 0..10u64 {
                let row = |number: u64| put(format!("k{}", number % 40), number * 2 + id + 1);
                writer.send((batch * 60..(batch + 1) * 60).map(row).collect()).await.unwrap();
                tokio::time::sleep(Duration::from_millis(40)).await;
            }
            writer.finish().await.unwrap()
        }));
    }
    for writer in writers {
        writer.await.unwrap();
    }
    assert!(bed.proxy.fired()["late"] > 5, "{:?}", bed.proxy.fired());
    bed.check(&book, None).await;
    let (sent, acked) = book.counts();
    assert_eq!(sent, acked);
    // Stricter than the history is: the greatest of both writers.
    for item in process::scan(&bed.embedded.endpoint_url(), "rows") {
        let key: u64 = item["id"]["S"].as_str().unwrap()[1..].parse().unwrap();
        let stored: u64 = item["v"]["N"].as_str().unwrap().parse().unwrap();
        let greatest = (0..600).rev().find(|number| number % 40 == key).unwrap() * 2 + 2;
        assert_eq!(stored, greatest, "k{key}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn fault_21_credentials_that_come_back_in_time_end_no_session() {
    let bed = Bed::start().await;
    bed.table(false).await;
    let mut left = 4;
    bed.proxy.script_writes(move |_| {
        left -= 1;
        if left >= 0 { Fault::refuse("ExpiredTokenException") } else { Fault::Pass }
    });
    let book = Book::default();
    let mut writer = bed.writer(rows(), 1, &book).await;
    writer.send((0..25).map(|number| put(format!("k{number}"), number + 1)).collect()).await.unwrap();
    let receipt = writer.finish().await.unwrap();
    assert_eq!((receipt.committed_rows, receipt.calls, book.reconnects()), (25, 1, 0));
    bed.check(&book, None).await;

    // Refused for good: the session ends, and with it the retries.
    bed.proxy.script(|_| Fault::refuse("AccessDeniedException"));
    let mut writer = bed.writer(rows().retry_for(Duration::from_millis(500)), 2, &book).await;
    writer.send(vec![put("refused", 1)]).await.unwrap();
    let error = writer.finish().await.unwrap_err();
    assert!(error.to_string().contains("DynamoDB refuses access"), "{error}");
    let began = Instant::now();
    while bed.is_ready().await {
        assert!(began.elapsed() < Duration::from_secs(15), "still ready");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    bed.proxy.pass();
    bed.check(&book, None).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn fault_22_a_deleted_table_ends_its_sessions_without_endless_retries() {
    for ordered in [false, true] {
        let bed = Bed::start().await;
        bed.table(ordered).await;
        let book = Book::default();
        let mut writer = bed.writer(rows(), 1, &book).await;
        writer.send(vec![put("k", 1)]).await.unwrap();
        writer.flush().await.unwrap();
        let direct = DynamoDb::connect(&bed.embedded.store_config()).await.unwrap();
        direct.delete_table("rows").await.unwrap();
        writer.send((0..100).map(|number| put(format!("k{number}"), 2)).collect()).await.unwrap();
        let error = writer.finish().await.unwrap_err();
        let ClientError::Refused { code, reason, .. } = &error else { panic!("{error}") };
        assert_eq!((*code, reason.as_str()), (Code::FailedPrecondition, "DYNAMODB_TABLE_MISSING"));
        eventually("no row waits", || bed.gateway.instruments().queued_rows.get() == 0).await;
        bed.proxy.settled().await;
        let writes = bed.proxy.writes();
        tokio::time::sleep(Duration::from_millis(500)).await;
        assert_eq!(bed.proxy.writes(), writes, "no retry for nobody");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn fault_26_what_a_client_that_is_gone_had_in_flight_stays_and_the_rest_is_dropped() {
    let bed = Bed::with(settings(|config| config.attempts_in_flight = Some(2))).await;
    bed.table(false).await;
    bed.proxy.script_writes(|_| Fault::Slow(Duration::from_millis(100)));
    let book = Book::default();
    let mut writer = bed.writer(rows(), 1, &book).await;
    for batch in 0..10u64 {
        let row = |number: u64| put(format!("k{number}"), number + 1);
        writer.send((batch * 500..(batch + 1) * 500).map(row).collect()).await.unwrap();
    }
    let instruments = bed.gateway.instruments().clone();
    eventually("rows wait", || instruments.queued_rows.get() > 2_000 && bed.proxy.writes() > 3).await;
    drop(writer);
    eventually("nothing is left of it", || instruments.sessions.get() == 0 && instruments.queued_rows.get() == 0).await;
    bed.proxy.settled().await;
    let writes = bed.proxy.writes();
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert_eq!(bed.proxy.writes(), writes, "what waited is never written");
    let stored = process::scan(&bed.embedded.endpoint_url(), "rows").len();
    assert!((50..4_000).contains(&stored), "{stored} rows stored");
    bed.check(&book, None).await;
}

/// Capacity as DynamoDB has it: units a second, and a few saved.
struct Capacity {
    units: f64,
    filled_at: Instant,
}

impl Capacity {
    const PER_SECOND: f64 = 300.0;

    fn new() -> Self {
        Self { units: 0.0, filled_at: Instant::now() }
    }

    /// How many of so many items it has a unit for.
    fn take(&mut self, items: usize) -> usize {
        let earned = self.filled_at.elapsed().as_secs_f64() * Self::PER_SECOND;
        self.filled_at = Instant::now();
        self.units = (self.units + earned).min(Self::PER_SECOND);
        let taken = items.min(self.units as usize);
        self.units -= taken as f64;
        taken
    }
}

/// Every fault, and a table that is short of capacity. Only with `late` are calls done behind later ones.
fn any_fault(rng: &mut fastrand::Rng, capacity: &mut Capacity, call: &Call, late: bool) -> Fault {
    let items = call.items().len();
    match rng.u32(..40) {
        0 => return Fault::LoseAnswer,
        1 => return Fault::FailAfter,
        2 => return Fault::Reset,
        3 => return Fault::BlackHole,
        4 => return Fault::internal(),
        5 => return Fault::throttled("TableWriteKeyRangeThroughputExceeded"),
        6 => return Fault::refuse("ExpiredTokenException"),
        7 => return Fault::Slow(ATTEMPT_TIMEOUT / 3),
        8 if late => return Fault::ApplyLate(Duration::from_millis(rng.u64(10..1_500))),
        _ => {}
    }
    match capacity.take(items) {
        taken if taken == items => Fault::Pass,
        0 => Fault::throttled("TableWriteProvisionedThroughputExceeded"),
        // DynamoDB does not leave the last ones.
        taken => {
            let mut left: Vec<usize> = (0..items).collect();
            rng.shuffle(&mut left);
            left.truncate(items - taken);
            Fault::Part { left }
        }
    }
}

/// Puts of many keys and of few hot ones by one client, puts and deletes of the same keys in turn by another, under faults
/// of every kind and an outage.
async fn everything_at_once(seed: u64, ordered: bool) {
    let began = Instant::now();
    let bed = Bed::start().await;
    bed.table(ordered).await;
    let (mut rng, mut capacity) = (fastrand::Rng::with_seed(seed), Capacity::new());
    bed.proxy.script_writes(move |call| any_fault(&mut rng, &mut capacity, call, ordered));
    let book = Book::default();
    let mut writers = tokio::task::JoinSet::new();
    for id in 1..=2u64 {
        let mut writer = bed.writer(rows(), id as u32, &book).await;
        writers.spawn(async move {
            // In a table with an order each row is a call.
            let size = if ordered { 12 } else { 40 };
            for batch in 0..25u64 {
                let key = |number: u64| {
                    if id == 1 { format!("w{}", number * 7919 % 901) } else { format!("h{}", number % 9) }
                };
                let row = |number: u64| put(key(number), number * 10 + id);
                writer.send((batch * size + 1..=(batch + 1) * size).map(row).collect()).await.unwrap();
                tokio::time::sleep(Duration::from_millis(30)).await;
            }
            writer.finish().await.unwrap();
        });
    }
    let (client, turns) = (bed.client.clone(), book.clone());
    writers.spawn(async move {
        for turn in 0..4u64 {
            let mut puts = Verifier::open(&client, rows(), 3, &turns).await.unwrap();
            puts.send((0..40).map(|key| put(format!("t{}", turn % 2 * 20 + key), turn * 100 + 10)).collect())
                .await
                .unwrap();
            puts.finish().await.unwrap();
            let delete = |key: u64| {
                let row = delete(format!("t{}", turn % 2 * 20 + key));
                let values =
                    if ordered { vec![row.values[0].clone(), int((turn * 100 + 50) as i64)] } else { row.values };
                Row { values, effects: row.effects }
            };
            let options = rows().mode(WriteMode::Delete);
            let mut deletes = Verifier::open(&client, options, 3, &turns).await.unwrap();
            deletes.send((0..30).map(delete).collect()).await.unwrap();
            deletes.finish().await.unwrap();
        }
    });
    tokio::time::sleep(Duration::from_millis(400)).await;
    bed.proxy.set_away(true);
    tokio::time::sleep(Duration::from_millis(400)).await;
    bed.proxy.set_away(false);
    while let Some(ended) = tokio::time::timeout(Duration::from_secs(60), writers.join_next()).await.expect("an end") {
        ended.unwrap();
    }
    let fired = bed.proxy.fired();
    eprintln!("seed {seed}, ordered {ordered}, {:?}: {fired:?}", began.elapsed());
    assert!(fired.len() >= 6, "{fired:?}");
    let (sent, acked) = book.counts();
    assert_eq!(sent, acked);
    assert!(book.outcomes().is_empty(), "{:?}", book.outcomes());
    bed.check(&book, None).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn faults_14_to_21_together_lose_nothing() {
    everything_at_once(1, false).await;
    everything_at_once(1, true).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "minutes; one seed is in the fast suite"]
async fn faults_14_to_21_together_lose_nothing_over_ten_seeds() {
    for seed in 2..=11 {
        everything_at_once(seed, false).await;
        everything_at_once(seed, true).await;
    }
}

/// What a writer of [`survives_kills`] sends: its options, and its rows by their number.
type Writes = (OpenOptions, fn(u64) -> Row);

/// The gateway is a process that is killed twice, with its DynamoDB behind a proxy that loses answers all the while.
async fn survives_kills(sequence_by: &str, ddl: &str, columns: Option<&[&str]>, writes: Vec<Writes>, batches: u64) {
    let embedded = Embedded::start(None).unwrap();
    let proxy = FaultProxy::start(&embedded.endpoint_url()).await;
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("forebay.yaml");
    std::fs::write(&config, format!("write_attempt_timeout_seconds: {}\n", ATTEMPT_TIMEOUT.as_secs_f64())).unwrap();
    let settings = [("FOREBAY_LOG", "warn"), ("FOREBAY_CONFIG", config.to_str().unwrap())];
    let mut served = Served::start_before(&proxy.endpoint_url(), &settings).await;
    let client = client::connect(&served.endpoint()).unwrap();
    create(&client, ddl, sequence_by).await;
    proxy.script_writes(|call| match call.number % 17 {
        0 => Fault::LoseAnswer,
        1 => Fault::BlackHole,
        2 => Fault::FailAfter,
        _ => Fault::Pass,
    });
    let book = Book::default();
    let mut writers = tokio::task::JoinSet::new();
    for (id, (options, row)) in (1..).zip(writes) {
        let mut writer = Verifier::open(&client, options, id, &book).await.unwrap();
        writers.spawn(async move {
            for batch in 0..batches {
                writer.send((batch * 250 + 1..=(batch + 1) * 250).map(row).collect()).await.unwrap();
            }
            writer.finish().await.unwrap();
        });
    }
    for kill in 1..=2 {
        let enough = book.counts().1 + 400;
        let flows = async {
            loop {
                let (sent, acked) = book.counts();
                if acked >= enough && sent - acked >= UNACKED_AT_KILL {
                    return;
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(60), flows).await.expect("rows flow");
        served.kill();
        assert_eq!(broken(&proxy, &embedded, &book, columns).await, [], "after kill {kill}");
        served.restart().await;
    }
    while let Some(ended) = writers.join_next().await {
        ended.unwrap();
    }
    assert!(book.reconnects() >= 2, "{} reconnects", book.reconnects());
    let (sent, acked) = book.counts();
    assert_eq!(sent, acked);
    assert_eq!(broken(&proxy, &embedded, &book, columns).await, []);
}

#[tokio::test(flavor = "multi_thread")]
async fn fault_30_acked_merges_and_coalesced_rows_survive_kills_behind_lost_answers() {
    let ddl = "id STRING NOT NULL, a BIGINT, b BIGINT";
    let writes: Vec<Writes> = vec![
        (merges("a"), |number| merge(&format!("k{}", number % 997), "a", number)),
        (merges("b"), |number| merge(&format!("k{}", number % 13), "b", number)),
    ];
    survives_kills("", ddl, Some(&["a", "b"]), writes, 16).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn fault_30_acked_rows_of_a_table_with_an_order_survive_kills_behind_lost_answers() {
    let writes: Vec<Writes> = vec![
        (rows(), |number| put(format!("w{}", number % 1_499), number)),
        (rows(), |number| put(format!("h{}", number % 11), number)),
    ];
    survives_kills("v", "id STRING NOT NULL, v BIGINT NOT NULL", None, writes, 16).await;
}

/// The proof that the check finds what it is for: a store that says more than it did stands for a gateway that acks too early,
/// or that does not look at what came back as unprocessed.
#[tokio::test(flavor = "multi_thread")]
async fn the_check_finds_rows_that_were_acked_and_are_not_there() {
    let whole = |_: &Call| Fault::Lie { left: None };
    let part = |call: &Call| Fault::Lie {
        left: (call.operation == "BatchWriteItem").then(|| (0..call.items().len()).step_by(3).collect()),
    };
    let lies: [fn(&Call) -> Fault; 2] = [whole, part];
    for lie in lies {
        let bed = Bed::start().await;
        bed.table(false).await;
        let book = Book::default();
        let mut writer = bed.writer(rows(), 1, &book).await;
        writer.send((0..100).map(|number| put(format!("k{number}"), number + 1)).collect()).await.unwrap();
        writer.flush().await.unwrap();
        bed.check(&book, None).await;
        bed.proxy.script_writes(lie);
        writer.send((50..150).map(|number| put(format!("k{number}"), number + 1_000)).collect()).await.unwrap();
        writer.finish().await.unwrap();
        let broken = bed.broken(&book, None).await;
        assert!(broken.iter().any(|broken| matches!(broken, Broken::Lost { .. })), "{broken:?}");
        assert!(broken.iter().any(|broken| matches!(broken, Broken::Older { .. })), "{broken:?}");
    }
}
