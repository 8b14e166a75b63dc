//! Connections that mean harm, over real TCP: floods of frames, silence, and more than there may be. The attacker is cut off;
//! whoever else is there does not notice. How fast the others stay is measured by `benches/floods.rs`.

#![allow(clippy::unwrap_used, reason = "helpers of tests are tests")]

#[path = "common/gateway.rs"]
mod gateway;
#[path = "common/process.rs"]
mod process;
#[path = "common/raw_http2.rs"]
mod raw_http2;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use forebay::client::{self, Client, OpenOptions};
use forebay::server::Gateway;
use forebay::telemetry::instruments::ReasonLabel;
use gateway::{eventually, get, int, rows, settings, table, text};
use process::Served;
use raw_http2::{Flood, RawConnection, call_headers, flood, frame};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};

const DDL: &str = "id STRING NOT NULL, v BIGINT";
const HERE: [u8; 4] = [127, 0, 0, 1];
const ATTACKER: [u8; 4] = [127, 0, 0, 66];

fn refusals(gateway: &Gateway, reason: &'static str) -> u64 {
    gateway.instruments().connections_refused.get_or_create(&ReasonLabel { reason }).get()
}

/// Writes and reads until it is told to stop; every call is OK.
struct Bystander {
    stop: Arc<AtomicBool>,
    calls: tokio::task::JoinHandle<u32>,
}

impl Bystander {
    async fn start(client: Client) -> Self {
        table(&client, "rows", DDL, &["id"], &[]).await;
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let calls = tokio::spawn(async move {
            let mut writer = client.writer(OpenOptions::new("rows")).await.unwrap();
            let mut calls = 0;
            while !stopped.load(Ordering::Relaxed) {
                calls += 1;
                let row = vec![text(format!("row-{calls}")), int(i64::from(calls))];
                writer.send_rows(rows([row.clone()])).await.unwrap();
                writer.flush().await.unwrap();
                assert_eq!(get(&client, "rows", vec![row[0].clone()]).await, Some(row));
            }
            assert_eq!(writer.finish().await.unwrap().committed_rows, u64::from(calls));
            calls
        });
        Self { stop, calls }
    }

    async fn end(self) -> u32 {
        self.stop.store(true, Ordering::Relaxed);
        self.calls.await.expect("every call was OK")
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn fault_27_every_flood_is_cut_off_within_its_allowance_and_a_bystander_goes_on() {
    let (gateway, client) = gateway::start().await;
    let bystander = Bystander::start(client).await;
    for (number, kind) in Flood::ALL.into_iter().enumerate() {
        // An address for each, so that none waits for what another did.
        let from = [127, 0, 1, number as u8 + 1];
        let mut attacker = RawConnection::open(from, gateway.address()).await.unwrap();
        let frames = flood(&mut attacker, kind, Duration::from_millis(1), 10_000).await;
        // A thousand are allowed, as the tests of the guard hold; more are in the sockets' buffers when it looks, and on a busy
        // machine it looks late.
        assert!(frames.is_some(), "{kind:?}: 10,000 frames, and it was not cut off");
    }
    // The others are seen by the transport first, which is counted, too.
    assert!(refusals(&gateway, "flood_http2") >= 1);
    for reason in ["flood_ping", "flood_settings", "flood_priority", "flood_window_update", "flood_unknown"] {
        assert_eq!(refusals(&gateway, reason), 1, "{reason}");
    }
    assert!(refusals(&gateway, "flood_reset") >= 1);
    assert!(bystander.end().await > 5);
    let instruments = gateway.instruments().clone();
    eventually("only the bystander's connection is left", || instruments.connections.get() <= 1).await;
    eventually("no session", || instruments.sessions.get() == 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn fault_27_who_floods_and_comes_again_waits_longer_each_time_and_others_do_not() {
    let (gateway, client) = gateway::start().await;
    table(&client, "rows", DDL, &["id"], &[]).await;
    let mut waits = Vec::new();
    for _ in 0..4 {
        let started = tokio::time::Instant::now();
        let mut attacker = RawConnection::open(ATTACKER, gateway.address()).await.unwrap();
        flood(&mut attacker, Flood::Ping, Duration::from_millis(1), 200_000).await.expect("it is cut off");
        waits.push(started.elapsed().as_millis());
    }
    // 100 ms after the first, then 200 and 400: frames that are sent meanwhile are only read afterwards.
    assert!(waits[3] >= 400 && waits[2] >= 200, "{waits:?}");
    let started = tokio::time::Instant::now();
    let other = client::connect(&gateway.endpoint()).unwrap();
    get(&other, "rows", vec![text("a")]).await;
    assert!(started.elapsed() < Duration::from_millis(700), "another address waited {:?}", started.elapsed());
}

#[tokio::test(flavor = "multi_thread")]
async fn fault_27_floods_by_many_that_come_again_take_no_memory() {
    let folder = tempfile::tempdir().unwrap();
    let served = Served::start(folder.path(), &[("FOREBAY_LOG", "error")]).await;
    let bystander = Bystander::start(client::connect(&served.endpoint()).unwrap()).await;
    let attack = async |kind: Flood, lasts: Duration| {
        let until = tokio::time::Instant::now() + lasts;
        let mut attackers = tokio::task::JoinSet::new();
        for number in 0..8 {
            let to = served.listen;
            attackers.spawn(tokio::time::timeout_at(until, async move {
                loop {
                    // An address for each, and each is closed and comes again.
                    if let Ok(mut attacker) = RawConnection::open([127, 0, 2, number + 1], to).await {
                        flood(&mut attacker, kind, Duration::from_millis(1), usize::MAX).await;
                    }
                }
            }));
        }
        attackers.join_all().await;
    };
    // Caches and threads are there after the first.
    attack(Flood::RapidReset, Duration::from_millis(500)).await;
    let before = served.resident_bytes();
    for kind in Flood::ALL {
        attack(kind, Duration::from_millis(500)).await;
    }
    let growth = served.resident_bytes().saturating_sub(before) >> 20;
    assert!(growth < 64, "{growth} MiB");
    assert!(bystander.end().await > 5);
}

#[tokio::test(flavor = "multi_thread")]
async fn fault_27_a_client_that_never_reads_is_closed_and_its_memory_given_back() {
    let mut settings = settings(|_| {});
    settings.keepalive.interval = Duration::from_millis(300);
    settings.keepalive.timeout = Duration::from_millis(300);
    let gateway = Gateway::start(settings).await.unwrap();
    let client = client::connect(&gateway.endpoint()).unwrap();
    let bystander = Bystander::start(client).await;
    let mut stream = TcpStream::connect(gateway.address()).await.unwrap();
    stream.write_all(raw_http2::PREFACE).await.unwrap();
    stream.write_all(&frame(raw_http2::SETTINGS, 0, 0, &[])).await.unwrap();
    // As many calls as a connection may have, and not one answer read, nor a ping answered.
    for number in 0..256 {
        let headers = call_headers("/grpc.health.v1.Health/Check");
        let call = [
            frame(raw_http2::HEADERS, raw_http2::END_HEADERS, number * 2 + 1, &headers),
            frame(raw_http2::DATA, raw_http2::END_STREAM, number * 2 + 1, &[0; 5]),
        ];
        stream.write_all(&call.concat()).await.unwrap();
    }
    // What was answered stays unread; that the connection is gone shows in an error of the next write.
    let closed = async {
        while stream.write_all(&frame(raw_http2::WINDOW_UPDATE, 0, 0, &[0, 0, 0, 1])).await.is_ok() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    let instruments = gateway.instruments().clone();
    tokio::time::timeout(Duration::from_secs(10), closed).await.expect("it is closed");
    eventually("its place is given back", || instruments.connections.get() == 1).await;
    assert!(bystander.end().await > 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn fault_27_slow_bodies_hold_up_nobody_and_end() {
    let mut settings = settings(|config| config.max_write_sessions = Some(40));
    settings.message_stall_timeout = Duration::from_millis(500);
    let gateway = Gateway::start(settings).await.unwrap();
    let client = client::connect(&gateway.endpoint()).unwrap();
    let bystander = Bystander::start(client).await;
    let mut slow = Vec::new();
    for number in 0..4 {
        let mut connection = RawConnection::open([127, 0, 3, number + 1], gateway.address()).await.unwrap();
        for call in 0..8 {
            let headers = call_headers("/forebay.v1.IngestService/WriteRows");
            let head = frame(raw_http2::HEADERS, raw_http2::END_HEADERS, call * 2 + 1, &headers);
            // A message of 4 KiB: a byte each 100 ms is never silent for long, and would take seven minutes.
            let prefix = frame(raw_http2::DATA, 0, call * 2 + 1, &[0, 0, 0, 16, 0]);
            connection.write.write_all(&[head, prefix].concat()).await.unwrap();
        }
        slow.push(connection);
    }
    let instruments = gateway.instruments().clone();
    let sending = tokio::spawn(async move {
        loop {
            for connection in &mut slow {
                for call in 0..8 {
                    let byte = frame(raw_http2::DATA, 0, call * 2 + 1, &[7]);
                    // Its call has ended, or its connection.
                    let _ended = connection.write.write_all(&byte).await;
                }
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    });
    tokio::time::sleep(Duration::from_millis(1500)).await;
    // Their slots are free again, though they go on: all can be had.
    let mut held = Vec::new();
    let other = client::connect(&gateway.endpoint()).unwrap();
    for _ in 0..39 {
        let opened = tokio::time::timeout(Duration::from_secs(2), other.writer(OpenOptions::new("rows"))).await;
        held.push(opened.expect("a slot is free").unwrap());
    }
    drop(held);
    assert!(bystander.end().await > 5);
    sending.abort();
    eventually("nothing is left", || instruments.sessions.get() == 0).await;
}

/// Whether the other end closes within a while.
async fn is_closed(stream: &mut TcpStream) -> bool {
    let mut scrap = [0; 1024];
    let end = async { while let Ok(1..) = stream.read(&mut scrap).await {} };
    tokio::time::timeout(Duration::from_secs(10), end).await.is_ok()
}

#[tokio::test(flavor = "multi_thread")]
async fn fault_6_a_connection_that_does_not_begin_to_speak_is_closed() {
    let mut settings = settings(|_| {});
    settings.edge.preface_timeout = Duration::from_millis(400);
    let gateway = Gateway::start(settings).await.unwrap();
    let client = client::connect(&gateway.endpoint()).unwrap();
    table(&client, "rows", DDL, &["id"], &[]).await;
    // Nothing; half of the preface; the preface alone, byte by byte.
    let mut silent = TcpStream::connect(gateway.address()).await.unwrap();
    let mut half = TcpStream::connect(gateway.address()).await.unwrap();
    half.write_all(&raw_http2::PREFACE[..12]).await.unwrap();
    let mut slow = TcpStream::connect(gateway.address()).await.unwrap();
    for byte in raw_http2::PREFACE {
        slow.write_all(&[*byte]).await.unwrap();
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert!(is_closed(&mut silent).await && is_closed(&mut half).await && is_closed(&mut slow).await);
    assert_eq!(refusals(&gateway, "silent"), 3);
    // One that has spoken may be quiet.
    tokio::time::sleep(Duration::from_millis(600)).await;
    get(&client, "rows", vec![text("a")]).await;
    assert_eq!(gateway.instruments().connections.get(), 1);
    // Another protocol is seen at once.
    let mut http1 = TcpStream::connect(gateway.address()).await.unwrap();
    http1.write_all(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    assert!(is_closed(&mut http1).await);
    assert_eq!(refusals(&gateway, "not_http2"), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn fault_29_a_connection_that_has_said_nothing_does_not_hold_up_the_end() {
    let (gateway, _client) = gateway::start().await;
    let mut silent = TcpStream::connect(gateway.address()).await.unwrap();
    let instruments = gateway.instruments().clone();
    eventually("it is there", || instruments.connections.get() == 1).await;
    let started = tokio::time::Instant::now();
    assert!(gateway.shutdown().await, "the end was in order");
    assert!(started.elapsed() < Duration::from_secs(2), "{:?}", started.elapsed());
    assert!(is_closed(&mut silent).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn there_are_no_more_connections_than_there_may_be() {
    let settings = settings(|config| {
        config.max_connections = Some(6);
        config.max_connections_per_address = Some(3);
    });
    let gateway = Gateway::start(settings).await.unwrap();
    let to = gateway.address();
    let open = async |from: [u8; 4]| {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind(SocketAddr::from((from, 0))).unwrap();
        socket.connect(to).await.unwrap()
    };
    let there = |count: i64| {
        let instruments = gateway.instruments().clone();
        async move { eventually("so many are there", || instruments.connections.get() == count).await }
    };
    let mut mine = Vec::new();
    for count in 1..=3 {
        mine.push(open(HERE).await);
        there(count).await;
    }
    assert!(is_closed(&mut open(HERE).await).await);
    assert_eq!(refusals(&gateway, "max_connections_per_address"), 1);
    let mut others = Vec::new();
    for count in 4..=6 {
        others.push(open([127, 0, 0, 2]).await);
        there(count).await;
    }
    assert!(is_closed(&mut open([127, 0, 0, 3]).await).await);
    assert_eq!(refusals(&gateway, "max_connections"), 1);
    // A place that is given up can be had again.
    drop(mine.pop());
    there(5).await;
    let _again = open(HERE).await;
    there(6).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_port_is_closed_as_soon_as_the_drain_begins() {
    let (gateway, client) = gateway::start().await;
    table(&client, "rows", DDL, &["id"], &[]).await;
    let address: SocketAddr = gateway.address();
    let writer = client.writer(OpenOptions::new("rows")).await.unwrap();
    let stopping = tokio::spawn(gateway.shutdown());
    for _ in 0..200 {
        if TcpStream::connect(address).await.is_err() {
            drop(writer);
            stopping.await.unwrap();
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("the port stays open");
}
