//! Epochs of producers, on two gateways over one store (fault 25).

#![allow(clippy::unwrap_used, reason = "helpers of tests are tests")]

#[path = "common/gateway.rs"]
mod gateway;

use std::sync::Arc;
use std::time::Duration;

use forebay::client::{self, Client, OpenOptions};
use forebay::proto::v1::{self, write_request::Message as Ask, write_response::Message as Answer};
use forebay::server::Gateway;
use forebay::store::dynamodb::DynamoDb;
use forebay::store::embedded::Embedded;
use gateway::{RawSession, get, int, open, rows, settings, table, text};
use tokio::time::Instant;
use tonic::Code;
use tonic_types::StatusExt as _;

struct Pods {
    one: Client,
    other: Client,
    _gateways: [Gateway; 2],
    _embedded: Embedded,
}

impl Pods {
    async fn start() -> Self {
        let embedded = Embedded::start(None).unwrap();
        let store = Arc::new(DynamoDb::connect(&embedded.store_config()).await.unwrap());
        let gateways = [
            Gateway::start_with_store(settings(|_| {}), store.clone()).await.unwrap(),
            Gateway::start_with_store(settings(|_| {}), store).await.unwrap(),
        ];
        let [one, other] = gateways.each_ref().map(|gateway| client::connect(&gateway.endpoint()).unwrap());
        for name in ["rows", "others"] {
            table(&one, name, "id STRING NOT NULL, v BIGINT", &["id"], &[]).await;
        }
        Self { one, other, _gateways: gateways, _embedded: embedded }
    }
}

fn run(table: &str, producer: &str, epoch: u64) -> v1::Open {
    v1::Open { producer_id: producer.to_owned(), epoch: Some(epoch), ..open(table) }
}

async fn opened(client: &Client, open: v1::Open) -> RawSession {
    let mut session = RawSession::open(client, open).await;
    assert!(matches!(session.next().await, Answer::Opened(_)));
    session
}

async fn refused(client: &Client, open: v1::Open) {
    is_fenced(&RawSession::open(client, open).await.end().await.unwrap_err());
}

fn is_fenced(status: &tonic::Status) {
    assert_eq!(status.code(), Code::Aborted, "{}", status.message());
    assert_eq!(status.get_details_error_info().unwrap().reason, "FENCED");
}

#[tokio::test(flavor = "multi_thread")]
async fn fault_25_an_old_epoch_is_refused_at_open_on_any_pod() {
    let pods = Pods::start().await;
    opened(&pods.one, run("rows", "query", 0)).await;
    opened(&pods.one, run("rows", "query", 5)).await;
    refused(&pods.one, run("rows", "query", 4)).await;
    refused(&pods.other, run("rows", "query", 4)).await;
    // A task's retry, a speculative task: the same run.
    opened(&pods.other, run("rows", "query", 5)).await;
    // Others are not meant: another producer, another table, a session without an epoch, one that only checks.
    opened(&pods.other, run("rows", "another", 1)).await;
    opened(&pods.other, run("others", "query", 1)).await;
    opened(&pods.other, v1::Open { producer_id: "query".to_owned(), ..open("rows") }).await;
    opened(&pods.other, v1::Open { validate_only: true, ..run("rows", "query", 9) }).await;
    opened(&pods.one, run("rows", "query", 5)).await;

    let mut ingest = v1::ingest_service_client::IngestServiceClient::new(pods.other.channel());
    let request = |epoch| v1::WriteRowsRequest {
        open: Some(run("rows", "query", epoch)),
        payload: Some(v1::write_rows_request::Payload::Rows(rows([vec![text("unary"), int(1)]]))),
        atomic: false,
    };
    is_fenced(&ingest.write_rows(request(4)).await.unwrap_err());
    assert!(get(&pods.one, "rows", vec![text("unary")]).await.is_none());
    ingest.write_rows(request(6)).await.unwrap();
    refused(&pods.one, run("rows", "query", 5)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn fault_25_older_sessions_end_within_seconds_of_a_newer_run_and_their_acks_hold() {
    let pods = Pods::start().await;
    let mut here = opened(&pods.one, run("rows", "query", 5)).await;
    let mut elsewhere = opened(&pods.other, run("rows", "query", 5)).await;
    let mut neighbour = opened(&pods.other, run("rows", "another", 1)).await;
    elsewhere.send_rows(1, rows([vec![text("acked"), int(1)]])).await;
    assert!(matches!(elsewhere.next().await, Answer::Ack(ack) if ack.committed_through == 1));

    let mut newer = opened(&pods.one, run("rows", "query", 6)).await;
    let since = Instant::now();
    is_fenced(&here.end().await.unwrap_err());
    assert!(since.elapsed() < Duration::from_secs(1), "the pod that took the newer one knows at once");
    is_fenced(&elsewhere.end().await.unwrap_err());
    assert!(since.elapsed() < Duration::from_secs(6), "{:?}", since.elapsed());
    assert!(get(&pods.one, "rows", vec![text("acked")]).await.is_some());

    for session in [&mut newer, &mut neighbour] {
        session.send_rows(1, rows([vec![text("new"), int(1)]])).await;
        session.send(Ask::Finish(v1::Finish { batches: 1, rows: 1 })).await;
        let end = session.end().await.unwrap();
        assert!(matches!(end.last(), Some(Answer::Finished(_))), "{end:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn fault_25_a_fenced_writer_gives_up_and_says_why() {
    let pods = Pods::start().await;
    let options = |epoch| {
        let open = OpenOptions::new("rows");
        open.open(move |open| (open.producer_id, open.epoch) = ("query".to_owned(), Some(epoch)))
    };
    let mut old = pods.one.writer(options(1)).await.unwrap();
    let newer = pods.other.writer(options(2)).await.unwrap();
    newer.finish().await.unwrap();
    let error = loop {
        if let Err(error) = old.send_rows(rows([vec![text("late"), int(1)]])).await {
            break error;
        }
        if let Err(error) = old.flush().await {
            break error;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    };
    assert!(
        error.to_string().contains("producer `query` has epoch 2 in table `rows` now; 1 is an older run"),
        "{error}"
    );
    assert!(!error.is_transient());
}
