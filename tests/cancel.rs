//! Clients that go away in every way there is: what waits is dropped, what was acked is there, and nothing is left behind.
//!
//! The short version cancels 200 streams; a thousand, with the curve of the resident memory, are an ignored test:
//! `cargo test --release --test cancel -- --ignored --nocapture`.

#![allow(clippy::unwrap_used, reason = "helpers of tests are tests")]
#![allow(clippy::print_stderr, reason = "a long test tells how far it is")]

#[path = "common/gateway.rs"]
mod gateway;
#[path = "common/process.rs"]
mod process;
#[path = "common/scripted_store.rs"]
mod scripted_store;

use std::collections::BTreeSet;
use std::io::BufRead as _;
use std::process::Stdio;
use std::time::Duration;

use forebay::client::{self, Client};
use forebay::proto::v1::{self, write_request::Message as Ask, write_response::Message as Answer};
use forebay::server::Gateway;
use gateway::{RawSession, eventually, int, open, rows, table, text};
use process::{Served, versions};
use scripted_store::{Fate, ScriptedStore};

const DDL: &str = "id STRING NOT NULL, v BIGINT";

/// A batch of rows with keys of their own.
fn batch(name: &str, count: usize) -> v1::RowBatch {
    rows((0..count).map(|row| vec![text(format!("{name}-{row}")), int(row as i64)]))
}

/// A gateway over a store of which every call takes this long.
async fn slow(call: Duration, attempts: usize) -> (Gateway, Client, std::sync::Arc<ScriptedStore>) {
    let store = ScriptedStore::with(move |_| Fate::Written.after(call));
    let settings = gateway::settings(|config| {
        config.lanes = Some(2);
        config.memory_mib = Some(2048);
        config.attempts_in_flight = Some(attempts);
    });
    let gateway = Gateway::start_with_store(settings, store.clone()).await.unwrap();
    let client = client::connect(&gateway.endpoint()).unwrap();
    table(&client, "rows", DDL, &["id"], &[]).await;
    (gateway, client, store)
}

async fn nothing_is_left(gateway: &Gateway) {
    let instruments = gateway.instruments().clone();
    eventually("no session, no row, no byte, no attempt", || {
        instruments.sessions.get() == 0
            && instruments.queued_rows.get() == 0
            && instruments.reserved_bytes.get() == 0
            && instruments.attempts_in_flight.get() == 0
    })
    .await;
}

/// How a client goes away.
#[derive(Debug, Clone, Copy)]
enum Way {
    /// The call is cancelled: RST_STREAM.
    Cancels,
    /// The requests end without Finish.
    EndsWithoutFinish,
    /// The call is cancelled before it said anything.
    CancelsBeforeOpen,
    /// The call is cancelled in the middle of acks.
    CancelsAfterAnAck,
    /// The unary call is dropped.
    DropsWriteRows,
}

const WAYS: [Way; 5] =
    [Way::Cancels, Way::EndsWithoutFinish, Way::CancelsBeforeOpen, Way::CancelsAfterAnAck, Way::DropsWriteRows];

/// Opens a call, sends, and goes away. Gives the keys' prefixes of the batches that were acked.
async fn come_and_go(client: Client, number: usize, way: Way) -> Vec<String> {
    let name = |seq: u64| format!("{number}-{seq}");
    let mut acked = Vec::new();
    match way {
        Way::CancelsBeforeOpen => drop(RawSession::call(&client).await),
        Way::DropsWriteRows => {
            let mut ingest = v1::ingest_service_client::IngestServiceClient::new(client.channel());
            let payload = Some(v1::write_rows_request::Payload::Rows(batch(&name(0), 1000)));
            let call = ingest.write_rows(v1::WriteRowsRequest { open: Some(open("rows")), payload, atomic: false });
            let given_up = tokio::time::timeout(Duration::from_millis(15), call).await;
            assert!(given_up.is_err(), "the store is slower than that");
        }
        Way::Cancels | Way::EndsWithoutFinish | Way::CancelsAfterAnAck => {
            let mut session = RawSession::open(&client, open("rows")).await;
            session.next().await;
            session.send_rows(1, batch(&name(1), 10)).await;
            if matches!(way, Way::CancelsAfterAnAck) {
                while acked.is_empty() {
                    if let Answer::Ack(ack) = session.next().await {
                        acked.extend((1..=ack.committed_through).map(name));
                    }
                }
            }
            for seq in 2..=5 {
                session.send_rows(seq, batch(&name(seq), 500)).await;
            }
            if matches!(way, Way::EndsWithoutFinish) {
                let RawSession { requests, responses } = session;
                drop(requests);
                let mut session = RawSession { requests: tokio::sync::mpsc::channel(1).0, responses };
                let status = loop {
                    match session.try_next().await {
                        Ok(Some(v1::WriteResponse { message: Some(Answer::Ack(ack)) })) => {
                            acked.extend((1..=ack.committed_through).map(name));
                        }
                        Ok(Some(other)) => panic!("{other:?}"),
                        Ok(None) => panic!("an abort must not look like a success"),
                        Err(status) => break status,
                    }
                };
                assert_eq!(status.code(), tonic::Code::Aborted, "{status}");
            } else {
                // So that some of it has arrived.
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        }
    }
    acked.sort();
    acked.dedup();
    acked
}

#[tokio::test(flavor = "multi_thread")]
async fn fault_26_two_hundred_streams_that_go_away_leave_nothing_behind() {
    let (gateway, client, store) = slow(Duration::from_millis(20), 4).await;
    let mut acked = Vec::new();
    for round in 0..10 {
        let mut streams = tokio::task::JoinSet::new();
        for stream in 0..20 {
            let number = round * 20 + stream;
            streams.spawn(come_and_go(client.clone(), number, WAYS[number % WAYS.len()]));
        }
        acked.extend(streams.join_all().await.concat());
    }
    nothing_is_left(&gateway).await;
    let answered = store.answered();
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert_eq!(store.answered(), answered, "nothing is written for clients that are gone");
    let stored: BTreeSet<String> = store.items("rows").into_keys().collect();
    assert!(acked.len() >= 40, "{} batches acked", acked.len());
    for name in &acked {
        assert!(stored.iter().any(|key| key.contains(&format!("\"{name}-0\""))), "{name} was acked");
    }
    let offered = 200 / WAYS.len() * (3 * 2010 + 1000);
    assert!(stored.len() < offered / 2, "waiting rows are dropped: {} of {offered} were written", stored.len());
    // And the gateway works on.
    let mut session = RawSession::open(&client, open("rows")).await;
    session.next().await;
    session.send_rows(1, batch("after", 10)).await;
    session.send(Ask::Finish(v1::Finish { batches: 1, rows: 10 })).await;
    assert!(matches!(session.end().await.unwrap().last(), Some(Answer::Finished(_))));
}

#[tokio::test(flavor = "multi_thread")]
async fn fault_26_a_session_that_waits_for_memory_can_be_cancelled() {
    let store = ScriptedStore::with(|_| Fate::Written.after(Duration::from_secs(3600)));
    let mut settings = gateway::settings(|_| {});
    settings.memory_bytes = 64 << 10;
    let gateway = Gateway::start_with_store(settings, store.clone()).await.unwrap();
    let client = client::connect(&gateway.endpoint()).unwrap();
    table(&client, "rows", DDL, &["id"], &[]).await;
    let mut sessions = Vec::new();
    for number in 0..10 {
        let mut session = RawSession::open(&client, open("rows")).await;
        session.next().await;
        session.send_rows(1, batch(&number.to_string(), 200)).await;
        sessions.push(session);
    }
    let instruments = gateway.instruments().clone();
    eventually("the memory is full", || instruments.reserved_bytes.get() > 40 << 10).await;
    drop(sessions);
    eventually("no session", || instruments.sessions.get() == 0).await;
    // What is left is in flight: an attempt is never torn.
    let in_flight = instruments.queued_rows.get();
    assert!(in_flight <= 200, "{in_flight} rows are still held");
}

/// A client as a process: streams until it is killed, and says what was acked.
#[tokio::test]
#[ignore = "the process that `a_killed_client` starts"]
async fn streams_until_it_is_killed() {
    let Ok(endpoint) = std::env::var("FOREBAY_TEST_ENDPOINT") else { return };
    let client = client::connect(&endpoint).unwrap();
    let mut session = RawSession::open(&client, open("rows")).await;
    let mut sent = 0;
    loop {
        while let Ok(answer) = tokio::time::timeout(Duration::from_millis(1), session.responses.message()).await {
            if let Some(Answer::Ack(ack)) = answer.unwrap().unwrap().message {
                println!("acked {}", ack.committed_through);
            }
        }
        sent += 1;
        session.send_rows(sent, batch(&format!("killed-{sent}"), 100)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn fault_26_a_killed_clients_waiting_rows_are_dropped_and_its_acked_rows_stay() {
    let (gateway, _client, store) = slow(Duration::from_millis(30), 4).await;
    let mut child = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "streams_until_it_is_killed", "--ignored", "--nocapture"])
        .env("FOREBAY_TEST_ENDPOINT", gateway.endpoint())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = std::io::BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
    let acked = |line: String| line.strip_prefix("acked ").and_then(|number| number.parse::<u64>().ok());
    let mut last = lines.by_ref().filter_map(acked).find(|&acked| acked >= 5).expect("acks flow");
    let queued = gateway.instruments().queued_rows.get();
    child.kill().unwrap();
    child.wait().unwrap();
    last = lines.filter_map(acked).last().unwrap_or(last);
    assert!(queued > 200, "{queued} rows waited");
    nothing_is_left(&gateway).await;
    let items = store.items("rows");
    for seq in 1..=last {
        for row in 0..100 {
            assert!(items.contains_key(&format!("\"id\":{{\"S\":\"killed-{seq}-{row}\"}}")), "{seq}-{row} was acked");
        }
    }
    let written = items.len();
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert_eq!(store.items("rows").len(), written);
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "minutes; 200 streams are in the fast suite"]
async fn fault_26_after_a_thousand_cancelled_streams_the_memory_has_a_plateau() {
    let folder = tempfile::tempdir().unwrap();
    let mut served = Served::start(folder.path(), &[("FOREBAY_LOG", "warn"), ("FOREBAY_MEMORY_MIB", "2048")]).await;
    let client = client::connect(&served.endpoint()).unwrap();
    table(&client, "rows", DDL, &["id"], &[]).await;
    let mut curve = vec![served.resident_bytes() >> 20];
    let mut acked = Vec::new();
    for round in 0..50 {
        let mut streams = tokio::task::JoinSet::new();
        for stream in 0..20 {
            // On disk all ways but the unary call are surely too slow for their client.
            let number = round * 20 + stream;
            streams.spawn(come_and_go(client.clone(), number, WAYS[number % (WAYS.len() - 1)]));
        }
        acked.extend(streams.join_all().await.concat());
        curve.push(served.resident_bytes() >> 20);
    }
    eprintln!("resident MiB after every 20 streams: {curve:?}");
    let gauges = ["forebay_write_sessions", "forebay_queued_rows", "forebay_memory_reserved_bytes"];
    for _ in 0..500 {
        if gauges.iter().all(|gauge| served.metric(gauge) == 0.0) {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    for gauge in gauges {
        let value = served.metric(gauge);
        eprintln!("{gauge} = {value}");
        assert_eq!(value, 0.0, "{gauge}");
    }
    let highest = |part: &[u64]| part.iter().copied().max().unwrap();
    let (middle, end) = (highest(&curve[10..30]), highest(&curve[30..]));
    assert!(end <= middle + middle / 10 + 8, "the memory grows: {middle} MiB, then {end} MiB");
    drop(client);
    served.kill();
    let stored = versions(folder.path(), "rows");
    for name in &acked {
        assert!(stored.contains_key(&format!("{name}-0")), "{name} was acked");
    }
    eprintln!("{} batches were acked, {} rows are stored", acked.len(), stored.len());
}
