//! Rate limits over real TCP: faults 11 and 12, and what else clients feel of a limit. What the limits themselves promise is in
//! `src/quota`, on a paused clock.

#![allow(clippy::unwrap_used, reason = "helpers of tests are tests")]

#[path = "common/access_file.rs"]
mod access_file;
#[path = "common/gateway.rs"]
mod gateway;
#[path = "common/scripted_store.rs"]
mod scripted_store;

use std::sync::Arc;
use std::time::Duration;

use access_file::AccessFile;
use forebay::client::{Client, OpenOptions};
use forebay::proto::v1::{self, write_request::Message as Ask, write_response::Message as Answer};
use forebay::server::Gateway;
use forebay::telemetry::instruments::{PrincipalLabel, ReasonLabel};
use gateway::{RawSession, int, open, rows, settings, table, text};
use scripted_store::{Fate, ScriptedStore};
use tokio::time::{Instant, sleep, timeout};
use tonic::{Code, Request, Status};
use tonic_types::StatusExt as _;

/// A gateway with an access file, over a store in memory that writes at once.
struct Bed {
    gateway: Gateway,
    store: Arc<ScriptedStore>,
    access: AccessFile,
}

impl Bed {
    async fn start(principals: &[(&str, &str)], tables: &[(&str, &str)]) -> Self {
        Self::with_max_calls(principals, tables, None).await
    }

    async fn with_max_calls(principals: &[(&str, &str)], tables: &[(&str, &str)], max_calls: Option<usize>) -> Self {
        let access = AccessFile::new(principals, tables);
        let settings = settings(|config| {
            config.access = Some(access.path());
            config.access_reload_seconds = Some(0.05);
            config.max_calls = max_calls;
        });
        let store = ScriptedStore::new();
        let gateway = Gateway::start_with_store(settings, store.clone()).await.unwrap();
        let bed = Self { gateway, store, access };
        table(&bed.client(principals[0].0), "rows", "id STRING NOT NULL, v BIGINT", &["id"], &[]).await;
        bed
    }

    fn client(&self, principal: &str) -> Client {
        self.access.client(&self.gateway.endpoint(), principal)
    }

    async fn session(&self, principal: &str) -> (RawSession, v1::Opened) {
        let mut session = RawSession::open(&self.client(principal), open("rows")).await;
        let Answer::Opened(opened) = session.next().await else { panic!("Opened") };
        (session, opened)
    }

    async fn write_rows(&self, principal: &str, name: &str, count: usize) -> Result<v1::WriteRowsResponse, Status> {
        let client = self.client(principal);
        let mut ingest = v1::ingest_service_client::IngestServiceClient::new(client.channel());
        let payload = Some(v1::write_rows_request::Payload::Rows(some_rows(name, count)));
        let mut call = Request::new(v1::WriteRowsRequest { open: Some(open("rows")), payload, atomic: false });
        client.authorize(&mut call);
        ingest.write_rows(call).await.map(tonic::Response::into_inner)
    }

    fn stored(&self, name: &str) -> usize {
        self.store.items("rows").keys().filter(|key| key.contains(name)).count()
    }

    fn rate_limited_seconds(&self, principal: &str) -> f64 {
        let label = PrincipalLabel { principal: principal.to_owned() };
        self.gateway.instruments().rate_limited_seconds.get_or_create(&label).get()
    }
}

fn some_rows(name: &str, count: usize) -> v1::RowBatch {
    rows((0..count).map(|number| vec![text(format!("{name}-{number}")), int(number as i64)]))
}

#[tokio::test(flavor = "multi_thread")]
async fn fault_35_what_waits_for_its_quota_is_not_taken_from_a_principal_that_is_gone() {
    let slow = [("slow", "{write_rows: {per_second: 1, burst: 100}}"), ("other", "{}")];
    let bed = Bed::start(&slow, &[]).await;
    let (mut session, _) = bed.session("slow").await;
    session.send_rows(1, some_rows("first", 100)).await;
    ack_of(&mut session, 1).await;
    session.send_rows(2, some_rows("waits", 50)).await;
    sleep(Duration::from_millis(400)).await;
    bed.access.write_without("slow", &slow);
    let status = session.end().await.unwrap_err();
    assert_eq!(status.code(), Code::Unauthenticated, "{status:?}");
    assert_eq!((bed.stored("first"), bed.stored("waits")), (100, 0));
}

/// Waits for the ack of a batch; gives the windows that came before it.
async fn ack_of(session: &mut RawSession, batch_seq: u64) -> Vec<v1::Window> {
    let mut windows = Vec::new();
    loop {
        match session.next().await {
            Answer::Ack(ack) if ack.committed_through >= batch_seq => return windows,
            Answer::Ack(_) => {}
            Answer::Window(window) => windows.push(window),
            other => panic!("unexpected {other:?}"),
        }
    }
}

async fn finish(mut session: RawSession, batches: u64, rows: u64) -> v1::Receipt {
    session.send(Ask::Finish(v1::Finish { batches, rows })).await;
    let end = session.end().await.unwrap();
    let Some(Answer::Finished(v1::Finished { receipt: Some(receipt) })) = end.last() else { panic!("{end:?}") };
    receipt.clone()
}

fn seconds(duration: Option<&prost_types::Duration>) -> f64 {
    duration.map_or(0.0, |duration| duration.seconds as f64 + f64::from(duration.nanos) / 1e9)
}

/// What a call is refused with whose limit is used up: the time to come back, and whose limit it is.
fn refused_by_quota(status: &Status) -> (Duration, String, String) {
    assert_eq!(status.code(), Code::ResourceExhausted, "{status:?}");
    let details = status.get_error_details();
    assert_eq!(details.error_info().unwrap().reason, "QUOTA");
    let violation = details.quota_failure().unwrap().violations[0].clone();
    let retry_after = details.retry_info().unwrap().retry_delay.unwrap();
    assert!(retry_after > Duration::ZERO);
    (retry_after, violation.subject, violation.description)
}

#[tokio::test(flavor = "multi_thread")]
async fn fault_11_a_stream_over_its_rate_goes_at_its_rate_with_a_smaller_window_and_a_receipt_that_says_so() {
    let limits = "{write_rows: {per_second: 2000, burst: 1000}}";
    let bed = Bed::start(&[("busy", limits), ("calm", "{}")], &[]).await;
    let (mut session, opened) = bed.session("busy").await;
    assert_eq!(opened.limits.unwrap().max_batch_rows, 1000, "what can be let through");
    let full = opened.window.unwrap();
    let began = Instant::now();
    for seq in 1..=6 {
        session.send_rows(seq, some_rows(&format!("busy{seq}"), 1000)).await;
    }
    // The first is within the burst: its ack comes while the second waits.
    let Answer::Ack(ack) = session.next().await else { panic!("an ack") };
    assert_eq!(ack.committed_through, 1);

    // Meanwhile another principal is served.
    bed.write_rows("calm", "calm", 1000).await.unwrap();
    let (mut calm, _) = bed.session("calm").await;
    for seq in 1..=10 {
        calm.send_rows(seq, some_rows("calm", 1000)).await;
    }
    assert_eq!(ack_of(&mut calm, 10).await, [], "its window is as it was");
    assert_eq!(seconds(finish(calm, 10, 10_000).await.rate_limited_for.as_ref()), 0.0);
    assert!(bed.stored("busy") < 6000, "the other one is not done yet");

    let windows = ack_of(&mut session, 6).await;
    let elapsed = began.elapsed().as_secs_f64();
    // 5,000 rows above the burst, at 2,000 a second.
    assert!((2.49..4.0).contains(&elapsed), "{elapsed} s");
    let sizes: Vec<_> = windows.iter().map(|window| window.max_unacked_bytes).collect();
    assert_eq!(sizes, [1, 2, 3, 4].map(|halvings| full.max_unacked_bytes >> halvings));
    assert_eq!(windows[3].max_unacked_batches, full.max_unacked_batches >> 4);

    let receipt = finish(session, 6, 6000).await;
    assert_eq!((receipt.rows, receipt.committed_rows), (6000, 6000));
    let waited = seconds(receipt.rate_limited_for.as_ref());
    assert!(waited > 1.5 && waited <= elapsed, "{waited} s of {elapsed} s");
    assert!((bed.rate_limited_seconds("busy") - waited).abs() < 0.01);
    assert_eq!(bed.rate_limited_seconds("calm"), 0.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn fault_11_a_short_wait_is_back_pressure_and_nothing_else() {
    let bed = Bed::start(&[("busy", "{write_rows: {per_second: 1000, burst: 100}}")], &[]).await;
    let (mut session, _) = bed.session("busy").await;
    for seq in 1..=5 {
        session.send_rows(seq, some_rows("busy", 100)).await;
    }
    session.send(Ask::Flush(v1::Flush {})).await;
    let mut answers = Vec::new();
    let flushed = loop {
        match session.next().await {
            Answer::Flushed(flushed) => break flushed,
            other => answers.push(other),
        }
    };
    assert!(answers.iter().all(|answer| matches!(answer, Answer::Ack(_))), "{answers:?}");
    let waited = seconds(flushed.receipt.unwrap().rate_limited_for.as_ref());
    assert!((0.2..1.5).contains(&waited), "four waits of a tenth of a second: {waited} s");
}

#[tokio::test(flavor = "multi_thread")]
async fn fault_11_a_unary_call_over_its_rate_is_told_when_to_come_back_and_then_goes() {
    let limits = "{write_rows: {per_second: 10, burst: 10}, write_kib: {per_second: 1, burst: 100}}";
    let bed = Bed::start(&[("busy", limits)], &[]).await;
    bed.write_rows("busy", "first", 8).await.unwrap();
    let (retry_after, subject, description) = refused_by_quota(&bed.write_rows("busy", "second", 7).await.unwrap_err());
    assert_eq!(subject, "principal/busy");
    assert!(description.contains("`write_rows`"), "{description}");
    assert!(retry_after <= Duration::from_millis(500), "{retry_after:?}");
    assert_eq!(bed.stored("second"), 0, "all or nothing");
    sleep(retry_after).await;
    bed.write_rows("busy", "second", 7).await.unwrap();
    assert_eq!(bed.stored("second"), 7);
    let label = PrincipalLabel { principal: "busy".to_owned() };
    assert_eq!(bed.gateway.instruments().rate_limited_calls.get_or_create(&label).get(), 1);

    // A dry run spends bytes, and no rows.
    let client = bed.client("busy");
    let mut tables = v1::table_service_client::TableServiceClient::new(client.channel());
    let mut check = async |rows| {
        let payload = Some(v1::check_rows_request::Payload::Rows(some_rows(&"x".repeat(1000), rows)));
        let mut call =
            Request::new(v1::CheckRowsRequest { table: "rows".to_owned(), payload, ..v1::CheckRowsRequest::default() });
        client.authorize(&mut call);
        tables.check_rows(call).await
    };
    check(90).await.unwrap();
    let (_, _, description) = refused_by_quota(&check(90).await.unwrap_err());
    assert!(description.contains("`write_kib`"), "{description}");
}

#[tokio::test(flavor = "multi_thread")]
async fn fault_11_reads_are_charged_by_key_before_anything_is_read_and_ranges_by_row() {
    let access = AccessFile::new(&[("admin", "{}"), ("reader", "{read_rows: {per_second: 20, burst: 30}}")], &[]);
    let settings = settings(|config| config.access = Some(access.path()));
    let gateway = Gateway::start(settings).await.unwrap();
    let admin = access.client(&gateway.endpoint(), "admin");
    table(&admin, "rows", "id STRING NOT NULL, at BIGINT NOT NULL", &["id"], &["at"]).await;
    let mut writer = admin.writer(OpenOptions::new("rows")).await.unwrap();
    writer.send_rows(rows((0..61).map(|at| vec![text("a"), int(at)]))).await.unwrap();
    writer.finish().await.unwrap();

    let reader = access.client(&gateway.endpoint(), "reader");
    let mut reads = v1::read_service_client::ReadServiceClient::new(reader.channel());
    let key = |at| v1::RowKey { values: vec![text("a"), int(at)] };
    let batch = |keys: i64| {
        let tables = [0..keys / 2, keys / 2..keys].map(|range| v1::TableKeys {
            table: "rows".to_owned(),
            keys: range.map(key).collect(),
            ..v1::TableKeys::default()
        });
        let call = v1::BatchGetRowsRequest { requests: tables.into(), ..v1::BatchGetRowsRequest::default() };
        let mut call = Request::new(call);
        reader.authorize(&mut call);
        call
    };
    let answer = reads.batch_get_rows(batch(28)).await.unwrap().into_inner();
    assert_eq!(answer.results.iter().map(|table| table.rows.len()).sum::<usize>(), 28);
    let (retry_after, subject, _) = refused_by_quota(&reads.batch_get_rows(batch(28)).await.unwrap_err());
    assert_eq!(subject, "principal/reader");
    let read_so_far = || {
        let label = PrincipalLabel { principal: "reader".to_owned() };
        gateway.instruments().principal_reads.get_or_create(&label).get()
    };
    assert_eq!(read_so_far(), 28, "the refused call has read nothing");
    let never = reads.batch_get_rows(batch(31)).await.unwrap_err();
    assert_eq!(never.code(), Code::InvalidArgument);
    assert!(never.message().contains("`read_rows` of principal/reader"), "{}", never.message());
    sleep(retry_after).await;
    reads.batch_get_rows(batch(28)).await.unwrap();

    // A range is more than the burst: its one page waits until all its rows are paid for.
    sleep(Duration::from_millis(200)).await;
    let began = Instant::now();
    let range = v1::ReadRangeRequest {
        table: "rows".to_owned(),
        partition: Some(v1::RowKey { values: vec![text("a")] }),
        ..Default::default()
    };
    let mut range = Request::new(range);
    reader.authorize(&mut range);
    let mut range = reads.read_range(range).await.unwrap().into_inner();
    let mut found = 0;
    while let Some(page) = range.message().await.unwrap() {
        found += page.rows.len();
    }
    assert_eq!(found, 61);
    assert!(began.elapsed() >= Duration::from_millis(1400), "{:?}", began.elapsed());
    assert_eq!(read_so_far(), 28 + 28 + 61);
    let status = reads.batch_get_rows(batch(28)).await.unwrap_err();
    refused_by_quota(&status);
}

#[tokio::test(flavor = "multi_thread")]
async fn fault_12_a_batch_above_a_burst_can_never_go_and_is_told_the_limit() {
    let limits = "{write_rows: {per_second: 1000000, burst: 100}, write_kib: {per_second: 1000000, burst: 50}}";
    let bed =
        Bed::start(&[("p", limits), ("q", "{}")], &[("rows", "{write_rows: {per_second: 1000000, burst: 200}}")]).await;
    let stream = async |principal: &str, batch: v1::RowBatch| {
        let (mut session, _) = bed.session(principal).await;
        session.send_rows(1, some_rows("good", 1)).await;
        session.send_rows(2, batch).await;
        session.end().await.unwrap_err()
    };
    let wide = || rows((0..60).map(|number| vec![text(format!("{number}{}", "x".repeat(1000))), int(1)]));
    for (status, limit) in [
        (
            stream("p", some_rows("bad", 101)).await,
            "101 rows at once are more than the limit `write_rows` of principal/p",
        ),
        (stream("p", wide()).await, "KiB at once are more than the limit `write_kib` of principal/p"),
        (
            stream("q", some_rows("bad", 201)).await,
            "201 rows at once are more than the limit `write_rows` of table/rows",
        ),
        (bed.write_rows("p", "bad", 101).await.unwrap_err(), "`write_rows` of principal/p"),
        (bed.write_rows("q", "bad", 201).await.unwrap_err(), "`write_rows` of table/rows"),
    ] {
        assert_eq!(status.code(), Code::InvalidArgument, "{status:?}");
        assert!(status.message().contains(limit), "{}", status.message());
        assert!(status.get_details_bad_request().is_some());
        assert!(status.get_details_retry_info().is_none(), "no retry helps");
    }
    assert_eq!(bed.stored("bad"), 0);
    assert_eq!(bed.stored("good"), 1, "what came before is written");

    // The client is told what fits, and slices to it.
    let mut writer = bed.client("p").writer(OpenOptions::new("rows")).await.unwrap();
    writer.send_rows(some_rows("sliced", 5000)).await.unwrap();
    assert_eq!(writer.finish().await.unwrap().committed_rows, 5000);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_large_batch_is_not_starved_by_small_ones_of_the_same_principal() {
    let bed = Bed::start(&[("p", "{write_rows: {per_second: 1000, burst: 1000}}")], &[]).await;
    let (mut large, _) = bed.session("p").await;
    large.send_rows(1, some_rows("large", 1000)).await;
    ack_of(&mut large, 1).await;
    // Small ones wait and come all the time.
    let mut small = Vec::new();
    for number in 0..4 {
        let (mut session, _) = bed.session("p").await;
        small.push(tokio::spawn(async move {
            for seq in 1.. {
                session.send_rows(seq, some_rows(&format!("small{number}"), 10)).await;
                if seq > 8 {
                    ack_of(&mut session, seq - 8).await;
                }
            }
        }));
    }
    sleep(Duration::from_millis(100)).await;
    large.send_rows(2, some_rows("large", 1000)).await;
    timeout(Duration::from_secs(4), ack_of(&mut large, 2)).await.expect("after a second, and a little");
    small.iter().for_each(tokio::task::JoinHandle::abort);
}

#[tokio::test(flavor = "multi_thread")]
async fn new_limits_reach_open_streams_and_those_that_wait() {
    let slow = "{write_rows: {per_second: 1, burst: 1000}}";
    let bed = Bed::start(&[("p", slow)], &[]).await;
    let (mut session, _) = bed.session("p").await;
    for seq in 1..=2 {
        session.send_rows(seq, some_rows("row", 1000)).await;
    }
    ack_of(&mut session, 1).await;
    assert!(timeout(Duration::from_millis(300), ack_of(&mut session, 2)).await.is_err(), "17 minutes are left");
    bed.access.write(&[("p", "{write_rows: {per_second: 100000, burst: 1000}}")], &[]);
    timeout(Duration::from_secs(5), ack_of(&mut session, 2)).await.expect("within a reload");
    // And a limit that comes anew.
    bed.access.write(&[("p", "{}")], &[("rows", slow)]);
    let mut seq = 2;
    let limited = timeout(Duration::from_secs(10), async {
        loop {
            seq += 1;
            session.send_rows(seq, some_rows("row", 1000)).await;
            if timeout(Duration::from_millis(500), ack_of(&mut session, seq)).await.is_err() {
                return;
            }
        }
    });
    limited.await.expect("the new limit holds the stream up");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_is_cancelled_gives_its_place_back() {
    let bed = Bed::start(&[("p", "{write_rows: {per_second: 100, burst: 1000}}")], &[]).await;
    bed.write_rows("p", "first", 1000).await.unwrap();
    let (mut before, _) = bed.session("p").await;
    before.send_rows(1, some_rows("large", 1000)).await;
    sleep(Duration::from_millis(100)).await;
    let (mut after, _) = bed.session("p").await;
    after.send_rows(1, some_rows("small", 20)).await;
    // Ten seconds behind the one before it; a fifth of one without it.
    assert!(timeout(Duration::from_millis(500), ack_of(&mut after, 1)).await.is_err());
    drop(before);
    timeout(Duration::from_secs(4), ack_of(&mut after, 1)).await.expect("its turn comes at once");
    assert_eq!(bed.stored("large"), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn streams_are_limited_and_a_place_is_free_again_when_one_ends() {
    let bed = Bed::start(&[("p", "{streams: 2}"), ("q", "{}")], &[]).await;
    let (first, _) = bed.session("p").await;
    let (second, _) = bed.session("p").await;
    let Err(status) = RawSession::try_call(&bed.client("p")).await else { panic!("two are open") };
    let (_, subject, description) = refused_by_quota(&status);
    assert_eq!(subject, "principal/p");
    assert!(description.contains("`streams`"), "{description}");
    bed.session("q").await;
    let refused = &bed.gateway.instruments().calls_refused;
    assert_eq!(refused.get_or_create(&ReasonLabel { reason: "streams" }).get(), 1);

    // One that finishes, and one that is cancelled.
    finish(first, 0, 0).await;
    let (third, _) = reopened(&bed).await;
    drop(second);
    let (fourth, _) = reopened(&bed).await;
    drop((third, fourth));
}

/// A stream of `p`, as soon as there is room.
async fn reopened(bed: &Bed) -> (RawSession, v1::Opened) {
    for _ in 0..1000 {
        if let Ok(mut session) = RawSession::try_call(&bed.client("p")).await {
            session.send(Ask::Open(open("rows"))).await;
            let Answer::Opened(opened) = session.next().await else { panic!("Opened") };
            return (session, opened);
        }
        sleep(Duration::from_millis(10)).await;
    }
    panic!("the place is never free again");
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_above_the_bound_are_answered_at_once_and_health_always() {
    let bed = Bed::with_max_calls(&[("p", "{}")], &[], Some(1)).await;
    bed.store.script(|_| Fate::Written.after(Duration::from_secs(1)));
    let began = Instant::now();
    let (first, second) = tokio::join!(bed.write_rows("p", "a", 1), async {
        sleep(Duration::from_millis(300)).await;
        let second = bed.write_rows("p", "b", 1).await;
        (second, began.elapsed())
    });
    first.unwrap();
    let (second, after) = second;
    let status = second.unwrap_err();
    assert_eq!(status.code(), Code::Unavailable);
    assert_eq!(status.get_error_details().error_info().unwrap().reason, "OVERLOADED");
    assert!(status.get_details_retry_info().is_some());
    assert!(after < Duration::from_millis(900), "it did not wait: {after:?}");

    // While a call is in its handler: health, and streams.
    let busy = bed.write_rows("p", "c", 1);
    let others = async {
        sleep(Duration::from_millis(200)).await;
        let mut health = tonic_health::pb::health_client::HealthClient::new(bed.client("p").channel());
        health.check(tonic_health::pb::HealthCheckRequest::default()).await.unwrap();
        bed.session("p").await;
    };
    let (busy, ()) = tokio::join!(busy, others);
    busy.unwrap();
    let refused = &bed.gateway.instruments().calls_refused;
    assert_eq!(refused.get_or_create(&ReasonLabel { reason: "overloaded" }).get(), 1);
}
