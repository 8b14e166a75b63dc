//! Faults and bad input over real TCP, by their number in the table of faults. Acked rows hold in all of them.
//!
//! Elsewhere: 7 of callers with grants, 8 to 10 and 35 in `auth.rs`; 4, 23, 24 and the rest of 29 in `write.rs`; 13, 14, 16 to
//! 18, 21, 22 and 26 of the pool itself in `pool.rs`; 26 in `cancel.rs`; 30 in `kill.rs`; 5 with a counting allocator in `payload_memory.rs`.

#![allow(clippy::unwrap_used, reason = "helpers of tests are tests")]

#[path = "common/gateway.rs"]
mod gateway;
#[path = "common/process.rs"]
mod process;
#[path = "common/raw_http.rs"]
mod raw_http;
#[path = "common/scripted_store.rs"]
mod scripted_store;

use std::sync::Arc;
use std::time::Duration;

use arrow_array::{Int64Array, RecordBatch, StringArray};
use arrow_ipc::CompressionType;
use arrow_ipc::writer::{DictionaryTracker, IpcDataGenerator, IpcWriteContext, IpcWriteOptions, write_message};
use forebay::client::{self, Client, OpenOptions};
use forebay::config::Settings;
use forebay::proto::v1::{self, write_request::Message as Ask, write_response::Message as Answer};
use forebay::server::Gateway;
use forebay::store::dynamodb::DynamoDb;
use forebay::store::embedded::Embedded;
use forebay::store::{StoreConfig, ThrottleReason, WriteError};
use futures_util::FutureExt as _;
use gateway::{RawSession, double, eventually, int, null, open, rows, settings, table, text};
use raw_http::{RawCall, framed, request};
use scripted_store::{Fate, ScriptedStore};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::time::Instant;
use tonic::Code;
use tonic_types::StatusExt as _;

const DDL: &str = "id STRING NOT NULL, v BIGINT, score DOUBLE, price DECIMAL(38,2), note STRING";

fn row(id: &str, v: i64) -> Vec<v1::Value> {
    vec![text(id), int(v), null(), null(), null()]
}

fn some_rows(name: &str, count: usize) -> v1::RowBatch {
    rows((0..count).map(|number| row(&format!("{name}{number}"), number as i64)))
}

/// A gateway over a scripted store, with the table `rows`.
struct Bed {
    gateway: Gateway,
    client: Client,
    store: Arc<ScriptedStore>,
}

impl Bed {
    async fn start() -> Self {
        Self::with(settings(|_| {})).await
    }

    async fn with(settings: Settings) -> Self {
        let store = ScriptedStore::new();
        let gateway = Gateway::start_with_store(settings, store.clone()).await.unwrap();
        let client = client::connect(&gateway.endpoint()).unwrap();
        table(&client, "rows", DDL, &["id"], &[]).await;
        Self { gateway, client, store }
    }

    async fn session(&self) -> RawSession {
        let mut session = RawSession::open(&self.client, open("rows")).await;
        assert!(matches!(session.next().await, Answer::Opened(_)));
        session
    }

    /// A session with one acked batch, so that each fault can show that acks hold.
    async fn session_with_an_ack(&self) -> RawSession {
        let mut session = self.session().await;
        session.send_rows(1, some_rows("acked", 3)).await;
        assert!(matches!(session.next().await, Answer::Ack(ack) if ack.committed_through == 1));
        session
    }

    fn acked_rows_hold(&self) {
        let stored = self.store.items("rows").keys().filter(|key| key.contains("acked")).count();
        assert_eq!(stored, 3, "acked rows are stored");
    }

    async fn no_session_is_left(&self) {
        let instruments = self.gateway.instruments().clone();
        eventually("no session, no row, no byte", || {
            instruments.sessions.get() == 0
                && instruments.queued_rows.get() == 0
                && instruments.reserved_bytes.get() == 0
        })
        .await;
    }
}

fn reason_of(status: &tonic::Status) -> String {
    status.get_details_error_info().map(|info| info.reason).unwrap_or_default()
}

#[tokio::test(flavor = "multi_thread")]
async fn fault_1_bytes_that_are_no_protobuf_end_the_call_and_earlier_acks_hold() {
    let bed = Bed::start().await;
    drop(bed.session_with_an_ack().await);
    let nonsense: [&[u8]; 4] = [
        &[0xff; 40],
        // A batch whose length goes beyond the message.
        &[0x12, 0x7f, 1, 2, 3],
        // A field number of zero.
        &[0x00, 0x01],
        // A group that never ends.
        &[0x0b, 0x08, 0x01],
    ];
    for bytes in nonsense {
        for opened in [false, true] {
            let call = RawCall::start(bed.client.channel(), "IngestService/Write");
            if opened {
                call.say(request(Ask::Open(open("rows"))));
            }
            call.say(framed(bytes));
            let (code, message) = call.status().await;
            assert!(matches!(code, Code::Internal | Code::InvalidArgument), "{bytes:?}: {code:?} {message}");
        }
    }
    // A message that says it is compressed, by nothing that was agreed on.
    let call = RawCall::start(bed.client.channel(), "IngestService/Write");
    call.say(vec![1, 0, 0, 0, 1, 0]);
    assert_ne!(call.status().await.0, Code::Ok);
    // Rows that are no rows, inside a batch that is one.
    let mut session = bed.session_with_an_ack().await;
    let broken = RawCall::start(bed.client.channel(), "IngestService/Write");
    broken.say(request(Ask::Open(open("rows"))));
    let rows_of_nonsense = [0x0a, 0x05, 0x0a, 0x7f, 0xff, 0xff, 0xff];
    let batch: Vec<u8> = [&[0x08, 0x01, 0x12, rows_of_nonsense.len() as u8], &rows_of_nonsense[..]].concat();
    broken.say(framed(&[&[0x12, batch.len() as u8], &batch[..]].concat()));
    let (code, message) = broken.status().await;
    assert_eq!(code, Code::InvalidArgument, "{message}");
    // A neighbour on the same connection does not notice.
    session.send_rows(2, some_rows("more", 1)).await;
    assert!(matches!(session.next().await, Answer::Ack(ack) if ack.committed_through == 2));
    bed.acked_rows_hold();
    drop(session);
    bed.no_session_is_left().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn fault_2_a_row_that_breaks_the_schema_is_rejected_with_its_path_and_rule() {
    let bed = Bed::start().await;
    let mut session = bed.session().await;
    let batch = rows([
        row("good", 1),
        vec![text("bad"), text("no number"), null(), null(), null()],
        vec![null(), int(1), null(), null(), null()],
        vec![text("many"), int(1), null(), null(), null(), int(6)],
        row("also good", 2),
    ]);
    session.send_rows(1, batch).await;
    let Answer::Ack(ack) = session.next().await else { panic!("an ack") };
    let outcomes: Vec<_> = ack.outcomes.iter().map(|o| (o.row_index, o.reason(), o.field_path.as_str())).collect();
    assert_eq!(
        outcomes,
        [
            (1, v1::RowReason::TypeMismatch, "v"),
            (2, v1::RowReason::NullNotAllowed, "id"),
            (3, v1::RowReason::SurplusValue, ""),
        ]
    );
    assert!(ack.outcomes.iter().all(|outcome| outcome.status() == v1::RowStatus::Rejected));
    assert_eq!(bed.store.items("rows").len(), 2, "their neighbours are written");
}

#[tokio::test(flavor = "multi_thread")]
async fn fault_3_what_dynamodb_would_refuse_is_refused_without_asking_it() {
    let bed = Bed::start().await;
    let decimal = |digits: &str| v1::Value { kind: Some(v1::value::Kind::StringValue(digits.to_owned())) };
    let mut session = bed.session().await;
    let long = "x".repeat(410 * 1024);
    let batch = rows([
        vec![text("large"), int(1), null(), null(), text(long)],
        vec![text("k".repeat(2049)), int(1), null(), null(), null()],
        vec![text(""), int(1), null(), null(), null()],
        vec![text("digits"), int(1), null(), decimal(&"9".repeat(39)), null()],
        vec![text("nan"), int(1), double(f64::NAN), null(), null()],
        vec![text("inf"), int(1), double(f64::NEG_INFINITY), null(), null()],
    ]);
    session.send_rows(1, batch).await;
    let Answer::Ack(ack) = session.next().await else { panic!("an ack") };
    let reasons: Vec<_> = ack.outcomes.iter().map(|outcome| outcome.reason()).collect();
    use v1::RowReason::{ItemTooLarge, KeyEmpty, KeyTooLong, NonFinite};
    assert_eq!(reasons[..3], [ItemTooLarge, KeyTooLong, KeyEmpty]);
    assert_eq!(reasons[4..], [NonFinite, NonFinite]);
    assert_eq!(ack.outcomes[3].field_path, "price");
    assert_eq!(bed.store.calls().len(), 0, "DynamoDB was not asked");
}

/// Arrow IPC of a batch whose text column is mostly nothing: few bytes that unfold to many.
fn bomb(rows: usize) -> (bytes::Bytes, bytes::Bytes) {
    let ids = StringArray::from_iter_values((0..rows).map(|_| "x".repeat(1000)));
    let numbers = Int64Array::from(vec![0; rows]);
    let batch = RecordBatch::try_from_iter([("id", Arc::new(ids) as _), ("v", Arc::new(numbers) as _)]).unwrap();
    let options = IpcWriteOptions::default().try_with_compression(Some(CompressionType::ZSTD)).unwrap();
    let (mut tracker, generator) = (DictionaryTracker::new(false), IpcDataGenerator::default());
    let schema = generator.schema_to_bytes_with_dictionary_tracker(&batch.schema(), &mut tracker, &options);
    let (_, encoded) = generator.encode(&batch, &mut tracker, &options, &mut IpcWriteContext::default()).unwrap();
    let (mut schema_message, mut message) = (Vec::new(), Vec::new());
    write_message(&mut schema_message, schema, &options).unwrap();
    write_message(&mut message, encoded, &options).unwrap();
    (schema_message.into(), message.into())
}

#[tokio::test(flavor = "multi_thread")]
async fn fault_5_a_compression_bomb_ends_the_call_and_the_memory_stays_where_it_was() {
    let folder = tempfile::tempdir().unwrap();
    let served = process::Served::start(folder.path(), &[("FOREBAY_LOG", "warn")]).await;
    let client = client::connect(&served.endpoint()).unwrap();
    table(&client, "rows", "id STRING NOT NULL, v BIGINT", &["id"], &[]).await;
    // 90 MB out of some kilobytes.
    let (schema, message) = bomb(90_000);
    assert!(message.len() < 1 << 20, "{} bytes", message.len());
    // Another one lies about the length of its first compressed buffer: 1 TiB.
    let (lying_schema, honest) = bomb(100);
    let claimed = 100_000i64.to_le_bytes();
    let at = honest.windows(8).position(|window| window == claimed).expect("the length of 100 texts");
    let mut lie = honest.to_vec();
    lie[at..at + 8].copy_from_slice(&(1i64 << 40).to_le_bytes());
    let before = served.resident_bytes();
    for (schema, ipc_messages) in [(schema, message), (lying_schema, lie.into())] {
        for _ in 0..10 {
            let hello = v1::Open { arrow_schema: schema.clone(), ..open("rows") };
            let mut session = RawSession::open(&client, hello).await;
            assert!(matches!(session.next().await, Answer::Opened(_)));
            let payload = Some(v1::batch::Payload::Arrow(v1::ArrowBatch { ipc_messages: ipc_messages.clone() }));
            session.send(Ask::Batch(v1::Batch { batch_seq: 1, payload, atomic: false })).await;
            let status = session.end().await.unwrap_err();
            assert!(matches!(status.code(), Code::ResourceExhausted | Code::InvalidArgument), "{status}");
        }
    }
    let grown = served.resident_bytes().saturating_sub(before) >> 20;
    assert!(grown < 48, "the gateway grew by {grown} MiB");
}

#[tokio::test(flavor = "multi_thread")]
async fn fault_6_silence_before_open_and_inside_a_message_ends_the_call() {
    let mut settings = settings(|_| {});
    settings.session_timeouts.open = Duration::from_millis(400);
    settings.message_stall_timeout = Duration::from_secs(1);
    let bed = Bed::with(settings).await;

    let mut silent = RawSession::call(&bed.client).await;
    let status = silent.try_next().await.unwrap_err();
    assert_eq!((status.code(), reason_of(&status).as_str()), (Code::DeadlineExceeded, "OPEN_TIMEOUT"));

    // A prefix that promises 100 bytes, and some of them.
    for started in [&[0, 0, 0, 0, 100][..], &[0, 0, 0, 0, 100, 1, 2, 3], &[0, 0]] {
        let call = RawCall::start(bed.client.channel(), "IngestService/Write");
        call.say(request(Ask::Open(open("rows"))));
        call.say(started.to_vec());
        let (code, message) = call.status().await;
        assert_eq!(code, Code::DeadlineExceeded, "{message}");
        assert!(message.contains("a message was begun"), "{message}");
    }

    // One that sends a message in pieces and in time, and one that is quiet between its messages, are left alone.
    let mut quiet = bed.session_with_an_ack().await;
    let slow = RawCall::start(bed.client.channel(), "IngestService/Write");
    slow.say(request(Ask::Open(open("rows"))));
    let message = request(Ask::Flush(v1::Flush {}));
    for byte in message.iter() {
        slow.say(vec![*byte]);
        tokio::time::sleep(Duration::from_millis(60)).await;
    }
    assert!(!slow.has_ended());
    quiet.send_rows(2, some_rows("later", 1)).await;
    assert!(matches!(quiet.next().await, Answer::Ack(ack) if ack.committed_through == 2));
    drop((quiet, slow));
    bed.acked_rows_hold();
    bed.no_session_is_left().await;
}

/// A proxy that stops passing anything on, and keeps its connections open.
async fn black_hole(to: std::net::SocketAddr) -> (std::net::SocketAddr, Arc<std::sync::atomic::AtomicBool>) {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let closed = Arc::new(std::sync::atomic::AtomicBool::new(false));
    let swallow = Arc::clone(&closed);
    tokio::spawn(async move {
        loop {
            let (near, _) = listener.accept().await.unwrap();
            let far = tokio::net::TcpStream::connect(to).await.unwrap();
            let (near, far) = (near.into_split(), far.into_split());
            for (mut from, mut to) in [(near.0, far.1), (far.0, near.1)] {
                let swallow = Arc::clone(&swallow);
                tokio::spawn(async move {
                    let mut buffer = vec![0; 64 << 10];
                    while let Ok(bytes @ 1..) = from.read(&mut buffer).await {
                        if swallow.load(std::sync::atomic::Ordering::SeqCst) {
                            continue;
                        }
                        if to.write_all(&buffer[..bytes]).await.is_err() {
                            return;
                        }
                    }
                    // The other side does not hear of the end, either.
                    std::future::pending::<()>().await;
                });
            }
        }
    });
    (address, closed)
}

#[tokio::test(flavor = "multi_thread")]
async fn fault_6_a_half_open_connection_is_found_and_its_waiting_rows_are_dropped() {
    let mut settings = settings(|config| config.attempts_in_flight = Some(1));
    settings.keepalive.interval = Duration::from_millis(300);
    settings.keepalive.timeout = Duration::from_millis(300);
    let bed = Bed::with(settings).await;
    bed.store.script(|_| Fate::Written.after(Duration::from_millis(100)));
    let (address, swallow) = black_hole(bed.gateway.address()).await;
    let client = client::connect(&format!("http://{address}")).unwrap();
    let mut session = RawSession::open(&client, open("rows")).await;
    session.next().await;
    session.send_rows(1, some_rows("waits", 10_000)).await;
    let instruments = bed.gateway.instruments().clone();
    eventually("rows wait", || instruments.queued_rows.get() > 5000).await;
    swallow.store(true, std::sync::atomic::Ordering::SeqCst);
    bed.no_session_is_left().await;
    assert!(bed.store.items("rows").len() < 10_000, "waiting rows are dropped");
    drop(session);
}

#[tokio::test(flavor = "multi_thread")]
async fn fault_7_where_everybody_may_see_all_an_unknown_table_is_not_found() {
    let bed = Bed::start().await;
    let stream = RawSession::open(&bed.client, open("nowhere")).await.end().await.unwrap_err();
    let mut ingest = v1::ingest_service_client::IngestServiceClient::new(bed.client.channel());
    let payload = Some(v1::write_rows_request::Payload::Rows(some_rows("x", 1)));
    let unary = v1::WriteRowsRequest { open: Some(open("nowhere")), payload, atomic: false };
    let unary = ingest.write_rows(unary).await.unwrap_err();
    for status in [stream, unary] {
        assert_eq!((status.code(), reason_of(&status).as_str()), (Code::NotFound, "TABLE_NOT_FOUND"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn fault_13_a_full_gateway_says_so_and_when_to_come_back() {
    let mut settings = settings(|_| {});
    settings.max_write_sessions = 2;
    let bed = Bed::with(settings).await;
    let held = [bed.session().await, bed.session().await];
    let mut ingest = v1::ingest_service_client::IngestServiceClient::new(bed.client.channel());
    let stream = ingest.write(tokio_stream::pending()).await.map(drop).unwrap_err();
    let payload = || Some(v1::write_rows_request::Payload::Rows(some_rows("x", 1)));
    let unary = v1::WriteRowsRequest { open: Some(open("rows")), payload: payload(), atomic: false };
    let unary = ingest.write_rows(unary).await.map(drop).unwrap_err();
    for status in [stream, unary] {
        assert_eq!((status.code(), reason_of(&status).as_str()), (Code::Unavailable, "MEMORY_BUDGET"));
        assert!(status.get_details_retry_info().is_some(), "RetryInfo");
    }
    drop(held);
    bed.no_session_is_left().await;
    for _ in 0..10 {
        let again = v1::WriteRowsRequest { open: Some(open("rows")), payload: payload(), atomic: false };
        ingest.write_rows(again).await.expect("every call gives its slot back");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn fault_13_rejects_do_not_pile_up_behind_a_batch_that_is_stuck() {
    let bed = Bed::start().await;
    bed.store.script(|_| Fate::Written.after(Duration::from_secs(2)));
    let mut session = bed.session().await;
    session.send_rows(1, some_rows("stuck", 1)).await;
    let bad = || rows((0..5_000).map(|_| vec![null(), null(), null(), null(), null()]));
    for seq in 2..=4 {
        session.send_rows(seq, bad()).await;
    }
    let mut early = 0;
    loop {
        let Answer::Ack(ack) = session.next().await else { panic!("an ack") };
        if ack.committed_through > 0 {
            break;
        }
        assert!(ack.outcomes.iter().all(|outcome| (2..=4).contains(&outcome.batch_seq)));
        early += ack.outcomes.len();
    }
    assert!(early > 14_000, "{early} of 15,000 outcomes came before the ack");
    session.send(Ask::Finish(v1::Finish { batches: 4, rows: 15_001 })).await;
    let end = session.end().await.unwrap();
    let Some(Answer::Finished(finished)) = end.last() else { panic!("{end:?}") };
    let receipt = finished.receipt.as_ref().unwrap();
    assert_eq!((receipt.rows, receipt.rejected_rows, receipt.committed_rows), (15_001, 15_000, 1));
    let late: usize = end.iter().map(|answer| if let Answer::Ack(ack) = answer { ack.outcomes.len() } else { 0 }).sum();
    assert!(early + late <= 15_000, "no row is reported twice");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_clients_writer_counts_early_rejects_once() {
    let bed = Bed::start().await;
    bed.store.script(|_| Fate::Written.after(Duration::from_millis(300)));
    let mut writer = bed.client.writer(OpenOptions::new("rows")).await.unwrap();
    let outcomes = writer.outcomes();
    writer.send_rows(some_rows("stuck", 1)).await.unwrap();
    for _ in 0..3 {
        writer.send_rows(rows((0..3_000).map(|_| vec![null()]))).await.unwrap();
    }
    let receipt = writer.finish().await.unwrap();
    assert_eq!((receipt.rejected_rows, receipt.committed_rows), (9_000, 1));
    let outcomes = outcomes.take();
    let distinct: std::collections::BTreeSet<_> = outcomes.iter().map(|outcome| (outcome.batch, outcome.row)).collect();
    assert_eq!((outcomes.len(), distinct.len()), (9_000, 9_000));
}

#[tokio::test(flavor = "multi_thread")]
async fn faults_14_15_and_17_at_the_row_deadline_the_call_ends_with_the_reason() {
    let cases = [
        (Fate::throttled(ThrottleReason::KeyRange), "PARTITION_THROTTLED", "partition"),
        (Fate::throttled(ThrottleReason::Provisioned), "TABLE_THROTTLED", "table or the account"),
        (Fate::throttled(ThrottleReason::Account), "TABLE_THROTTLED", "table or the account"),
        (Fate::not_sent(), "BACKEND_UNAVAILABLE", "does not answer"),
        (Fate::LostRequest, "BACKEND_UNAVAILABLE", "does not answer"),
    ];
    for (fate, reason, words) in cases {
        // A gateway for each: one that has just met an outage is careful, and these deadlines are short.
        let bed = Bed::start().await;
        let seconds = prost_types::Duration { seconds: 0, nanos: 700_000_000 };
        let hello = || v1::Open { row_deadline: Some(seconds), ..open("rows") };
        let mut session = RawSession::open(&bed.client, hello()).await;
        session.next().await;
        session.send_rows(1, some_rows("acked", 3)).await;
        assert!(matches!(session.next().await, Answer::Ack(ack) if ack.committed_through == 1));
        bed.store.script(move |_| fate.clone().into());
        session.send_rows(2, some_rows("waits", 3)).await;
        let stream = session.end().await.unwrap_err();
        let mut ingest = v1::ingest_service_client::IngestServiceClient::new(bed.client.channel());
        let payload = Some(v1::write_rows_request::Payload::Rows(some_rows("waits", 3)));
        let unary = v1::WriteRowsRequest { open: Some(hello()), payload, atomic: false };
        let unary = ingest.write_rows(unary).await.unwrap_err();
        for status in [stream, unary] {
            assert_eq!((status.code(), reason_of(&status).as_str()), (Code::Unavailable, reason), "{status}");
            assert!(status.message().contains(words), "{status}");
            assert!(status.get_details_retry_info().is_some(), "RetryInfo");
        }
        bed.acked_rows_hold();
        bed.no_session_is_left().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn fault_17_while_dynamodb_is_away_nothing_is_acked_and_readiness_says_so() {
    let bed = Bed::start().await;
    let mut session = bed.session_with_an_ack().await;
    bed.store.script(|_| Fate::not_sent().into());
    bed.store.set_away(true);
    for seq in 2..=5 {
        session.send_rows(seq, some_rows(&format!("batch{seq}x"), 100)).await;
    }
    let admin = bed.gateway.admin_address().unwrap();
    let ready = || async {
        let mut stream = tokio::net::TcpStream::connect(admin).await.unwrap();
        stream.write_all(b"GET /readyz HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer.starts_with("HTTP/1.1 200")
    };
    let began = Instant::now();
    while ready().await {
        assert!(began.elapsed() < Duration::from_secs(10), "still ready");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert!(session.responses.message().now_or_never().is_none(), "no ack during the outage");
    bed.store.set_away(false);
    bed.store.script(|_| Fate::Written.into());
    let back = Instant::now();
    while !matches!(session.next().await, Answer::Ack(ack) if ack.committed_through == 5) {}
    assert!(back.elapsed() <= Duration::from_secs(5), "the flow resumed after {:?}", back.elapsed());
    bed.acked_rows_hold();
}

#[tokio::test(flavor = "multi_thread")]
async fn fault_20_a_black_holed_connection_is_given_up_and_the_rows_go_by_another() {
    let embedded = Embedded::start(None).unwrap();
    let far = embedded.endpoint_url().strip_prefix("http://").unwrap().parse().unwrap();
    let (address, swallow) = black_hole(far).await;
    let config = StoreConfig {
        endpoint_url: Some(format!("http://{address}")),
        write_attempt_timeout: Duration::from_millis(500),
        ..embedded.store_config()
    };
    let store = Arc::new(DynamoDb::connect(&config).await.unwrap());
    let gateway = Gateway::start_with_store(settings(|_| {}), store).await.unwrap();
    let client = client::connect(&gateway.endpoint()).unwrap();
    table(&client, "rows", DDL, &["id"], &[]).await;
    let mut session = RawSession::open(&client, open("rows")).await;
    session.next().await;
    session.send_rows(1, some_rows("before", 30)).await;
    assert!(matches!(session.next().await, Answer::Ack(ack) if ack.committed_through == 1));
    swallow.store(true, std::sync::atomic::Ordering::SeqCst);
    session.send_rows(2, some_rows("during", 30)).await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert!(session.responses.message().now_or_never().is_none(), "no ack without an answer");
    // Connections that were swallowed stay dead: only new ones come through.
    swallow.store(false, std::sync::atomic::Ordering::SeqCst);
    let back = Instant::now();
    assert!(matches!(session.next().await, Answer::Ack(ack) if ack.committed_through == 2));
    assert!(back.elapsed() <= Duration::from_secs(5), "{:?}", back.elapsed());
    assert!(gateway::get(&client, "rows", vec![text("during29")]).await.is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn faults_21_and_22_sessions_end_when_access_or_the_table_is_gone() {
    let bed = Bed::start().await;
    let missing = || Fate::Fails(WriteError::TableMissing { table: "rows".to_owned() });
    let cases = [
        (missing(), Code::FailedPrecondition, "DYNAMODB_TABLE_MISSING"),
        (Fate::denied(), Code::Unavailable, "BACKEND_ACCESS"),
    ];
    for (fate, code, reason) in cases {
        bed.store.script(|_| Fate::Written.into());
        let mut session = bed.session_with_an_ack().await;
        bed.store.script(move |_| fate.clone().into());
        session.send_rows(2, some_rows("lost", 300)).await;
        let status = session.end().await.unwrap_err();
        assert_eq!((status.code(), reason_of(&status).as_str()), (code, reason), "{status}");
        bed.acked_rows_hold();
        bed.no_session_is_left().await;
        let calls = bed.store.calls().len();
        tokio::time::sleep(Duration::from_millis(300)).await;
        assert_eq!(bed.store.calls().len(), calls, "no retry for nobody");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn fault_28_a_client_that_never_reads_is_not_read_either_and_then_cut_off() {
    let mut settings = settings(|_| {});
    settings.session_timeouts.acks_unread = Duration::from_millis(700);
    let bed = Bed::with(settings).await;
    // Little fits between the gateway and this client.
    let endpoint = tonic::transport::Endpoint::from_shared(bed.gateway.endpoint()).unwrap();
    let channel = endpoint.initial_stream_window_size(1024).initial_connection_window_size(1024);
    let channel = channel.connect().await.unwrap();
    let (requests, receiver) = tokio::sync::mpsc::channel(1);
    let mut ingest = v1::ingest_service_client::IngestServiceClient::new(channel);
    let stream = tokio_stream::wrappers::ReceiverStream::new(receiver);
    let responses = ingest.write(stream).await.unwrap().into_inner();
    let send = async |message| {
        let request = v1::WriteRequest { message: Some(message) };
        tokio::time::timeout(Duration::from_millis(300), requests.send(request)).await.is_ok_and(|sent| sent.is_ok())
    };
    assert!(send(Ask::Open(open("rows"))).await);
    // Every row is answered with a reject.
    let mut taken = 0;
    for batch_seq in 1..=200 {
        let bad = rows((0..20_000).map(|_| vec![null(), text("some text that takes room")]));
        let payload = Some(v1::batch::Payload::Rows(bad));
        if !send(Ask::Batch(v1::Batch { batch_seq, payload, atomic: false })).await {
            break;
        }
        taken = batch_seq;
    }
    assert!(taken < 20, "the gateway took {taken} batches from a client that reads nothing");
    bed.no_session_is_left().await;
    // When it reads at last, it learns why: after what had been said before.
    let mut session = RawSession { requests, responses };
    let status = session.end().await.unwrap_err();
    assert_eq!((status.code(), reason_of(&status).as_str()), (Code::ResourceExhausted, "ACKS_UNREAD"), "{status}");
}

#[tokio::test(flavor = "multi_thread")]
async fn fault_29_streams_that_ignore_the_drain_are_ended_and_new_ones_refused() {
    let bed = Bed::with(settings(|config| config.drain_seconds = Some(1.0))).await;
    let mut session = bed.session_with_an_ack().await;
    // It is never written in time.
    bed.store.script(|_| Fate::Written.after(Duration::from_secs(3600)));
    session.send_rows(2, some_rows("late", 10)).await;
    let Bed { gateway, client, store } = bed;
    let began = Instant::now();
    let stop = tokio::spawn(gateway.shutdown());
    loop {
        if let Answer::Drain(drain) = session.next().await {
            assert_eq!(drain.reason(), v1::DrainReason::Shutdown);
            break;
        }
    }
    let status = session.end().await.unwrap_err();
    assert_eq!((status.code(), reason_of(&status).as_str()), (Code::Unavailable, "SHUTTING_DOWN"));
    assert!(began.elapsed() >= Duration::from_millis(900), "it had its time");
    drop((session, client));
    let clean = tokio::time::timeout(Duration::from_secs(15), stop).await.expect("a hard end").unwrap();
    assert!(!clean, "an attempt that hangs is cut off");
    assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
    assert_eq!(store.items("rows").len(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn fault_29_a_call_that_has_not_opened_does_not_hold_up_the_end() {
    let bed = Bed::start().await;
    let mut silent = RawSession::call(&bed.client).await;
    tokio::time::sleep(Duration::from_millis(50)).await;
    let Bed { gateway, client, .. } = bed;
    let began = Instant::now();
    let stop = tokio::spawn(gateway.shutdown());
    let status = silent.try_next().await.unwrap_err();
    assert_eq!((status.code(), reason_of(&status).as_str()), (Code::Unavailable, "SHUTTING_DOWN"));
    drop((silent, client));
    assert!(stop.await.unwrap(), "nothing had to be cut off");
    assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
}

#[tokio::test(flavor = "multi_thread")]
async fn every_flush_is_answered_however_many_wait() {
    let bed = Bed::start().await;
    bed.store.script(|_| Fate::Written.after(Duration::from_millis(700)));
    let RawSession { requests, mut responses } = bed.session().await;
    let sender = tokio::spawn(async move {
        let payload = Some(v1::batch::Payload::Rows(some_rows("slow", 10)));
        let batch = Ask::Batch(v1::Batch { batch_seq: 1, payload, atomic: false });
        let flushes = std::iter::repeat_n(Ask::Flush(v1::Flush {}), 5000);
        let finish = Ask::Finish(v1::Finish { batches: 1, rows: 10 });
        for message in std::iter::once(batch).chain(flushes).chain([finish]) {
            requests.send(v1::WriteRequest { message: Some(message) }).await.unwrap();
        }
        requests
    });
    let mut flushed = 0;
    while let Some(answer) = responses.message().await.unwrap() {
        match answer.message.unwrap() {
            Answer::Flushed(answer) => {
                assert_eq!(answer.committed_through, 1, "a flush is answered after the ack");
                flushed += 1;
            }
            Answer::Ack(_) => assert_eq!(flushed, 0),
            Answer::Finished(_) => break,
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(flushed, 5000);
    drop(sender.await.unwrap());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_calls_own_deadline_is_kept_by_stream_and_unary_call() {
    let bed = Bed::start().await;
    bed.store.script(|_| Fate::Written.after(Duration::from_secs(3600)));
    let mut ingest = v1::ingest_service_client::IngestServiceClient::new(bed.client.channel());
    let timed = |message| {
        let mut request = tonic::Request::new(message);
        request.metadata_mut().insert("grpc-timeout", "400m".parse().unwrap());
        request
    };
    let payload = Some(v1::write_rows_request::Payload::Rows(some_rows("x", 10)));
    let unary = v1::WriteRowsRequest { open: Some(open("rows")), payload, atomic: false };
    let began = Instant::now();
    let status = ingest.write_rows(timed(unary)).await.map(drop).unwrap_err();
    assert_eq!((status.code(), reason_of(&status).as_str()), (Code::DeadlineExceeded, "DEADLINE"), "{status}");
    let (requests, receiver) = tokio::sync::mpsc::channel(8);
    let mut request = tonic::Request::new(tokio_stream::wrappers::ReceiverStream::new(receiver));
    request.metadata_mut().insert("grpc-timeout", "400m".parse().unwrap());
    let responses = ingest.write(request).await.unwrap().into_inner();
    let mut session = RawSession { requests, responses };
    session.send(Ask::Open(open("rows"))).await;
    session.send_rows(1, some_rows("y", 10)).await;
    let status = session.end().await.unwrap_err();
    assert_eq!((status.code(), reason_of(&status).as_str()), (Code::DeadlineExceeded, "DEADLINE"), "{status}");
    assert!(began.elapsed() < Duration::from_secs(5));
    let instruments = bed.gateway.instruments().clone();
    eventually("no session", || instruments.sessions.get() == 0).await;
}
