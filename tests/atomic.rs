//! Atomic batches over real TCP against the embedded store: all of their rows or none.

#![allow(clippy::unwrap_used, reason = "helpers of tests are tests")]

#[path = "common/gateway.rs"]
mod gateway;

use forebay::client::Client;
use forebay::proto::v1::{
    self, RowReason, RowStatus, write_request::Message as Ask, write_response::Message as Answer,
};
use gateway::{RawSession, double, get, int, open, rows, table, text};
use tonic::Code;

const DDL: &str = "id STRING NOT NULL, v BIGINT, score DOUBLE";

fn row(id: impl Into<String>, v: i64) -> Vec<v1::Value> {
    vec![text(id), int(v), double(0.5)]
}

async fn session(client: &Client, open: v1::Open) -> RawSession {
    let mut session = RawSession::open(client, open).await;
    assert!(matches!(session.next().await, Answer::Opened(_)));
    session
}

async fn send(session: &mut RawSession, batch_seq: u64, batch: v1::RowBatch) {
    let payload = Some(v1::batch::Payload::Rows(batch));
    session.send(Ask::Batch(v1::Batch { batch_seq, payload, atomic: true })).await;
}

/// Reads acks until this batch is acked; gives all outcomes.
async fn acked(session: &mut RawSession, through: u64) -> Vec<(u32, RowStatus, RowReason)> {
    let mut outcomes = Vec::new();
    loop {
        match session.next().await {
            Answer::Ack(ack) => {
                outcomes.extend(ack.outcomes.iter().map(|row| (row.row_index, row.status(), row.reason())));
                if ack.committed_through >= through {
                    return outcomes;
                }
            }
            other => panic!("{other:?}"),
        }
    }
}

const REJECTED: RowStatus = RowStatus::Rejected;

#[tokio::test(flavor = "multi_thread")]
async fn a_hundred_rows_are_written_together() {
    let (gateway, client) = gateway::start().await;
    table(&client, "rows", DDL, &["id"], &[]).await;
    let mut session = session(&client, open("rows")).await;
    send(&mut session, 1, rows((0..100).map(|n| row(format!("k{n}"), 1)))).await;
    assert_eq!(acked(&mut session, 1).await, []);
    send(&mut session, 2, rows([])).await;
    assert_eq!(acked(&mut session, 2).await, [], "nothing is together, too");
    session.send(Ask::Finish(v1::Finish { batches: 2, rows: 100 })).await;
    let end = session.end().await.unwrap();
    let Some(Answer::Finished(v1::Finished { receipt: Some(receipt) })) = end.last() else { panic!("{end:?}") };
    assert_eq!(receipt.committed_rows, 100);
    for n in [0, 57, 99] {
        assert_eq!(get(&client, "rows", vec![text(format!("k{n}"))]).await, Some(row(format!("k{n}"), 1)));
    }
    assert!(gateway.shutdown().await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_row_that_cannot_be_written_keeps_its_neighbours_from_it_and_no_other_batch() {
    let (_gateway, client) = gateway::start().await;
    table(&client, "rows", DDL, &["id"], &[]).await;
    let mut session = session(&client, open("rows")).await;
    send(&mut session, 1, rows([row("a", 1), vec![text("b"), text("no number"), double(1.0)], row("c", 1)])).await;
    send(&mut session, 2, rows([row("d", 1), row("e", 1), row("d", 2)])).await;
    send(&mut session, 3, rows([row("f", 1), row("g", 1)])).await;
    let mut outcomes = acked(&mut session, 3).await;
    outcomes.sort_by_key(|(row, ..)| *row);
    assert_eq!(
        outcomes,
        [
            (0, REJECTED, RowReason::AtomicPeer),
            (0, REJECTED, RowReason::DuplicateKey),
            (1, REJECTED, RowReason::TypeMismatch),
            (1, REJECTED, RowReason::AtomicPeer),
            (2, REJECTED, RowReason::AtomicPeer),
            (2, REJECTED, RowReason::DuplicateKey),
        ]
    );
    for (id, is_there) in [("a", false), ("c", false), ("d", false), ("e", false), ("f", true), ("g", true)] {
        assert_eq!(get(&client, "rows", vec![text(id)]).await.is_some(), is_there, "{id}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_condition_that_fails_is_its_rows_own_and_the_others_peers() {
    let (_gateway, client) = gateway::start().await;
    table(&client, "rows", DDL, &["id"], &[]).await;
    let mut plain = session(&client, open("rows")).await;
    plain.send_rows(1, rows([row("taken", 1)])).await;
    acked(&mut plain, 1).await;
    let insert = v1::Open { mode: v1::WriteMode::Insert.into(), ..open("rows") };
    let mut inserts = session(&client, insert).await;
    send(&mut inserts, 1, rows([row("x", 2), row("taken", 2), row("y", 2)])).await;
    let peer = RowReason::AtomicPeer;
    assert_eq!(
        acked(&mut inserts, 1).await,
        [(0, REJECTED, peer), (1, REJECTED, RowReason::AlreadyExists), (2, REJECTED, peer)]
    );
    assert_eq!(get(&client, "rows", vec![text("x")]).await, None);
    assert_eq!(get(&client, "rows", vec![text("taken")]).await, Some(row("taken", 1)));
    send(&mut inserts, 2, rows([row("x", 2), row("y", 2)])).await;
    assert_eq!(acked(&mut inserts, 2).await, []);
    assert_eq!(get(&client, "rows", vec![text("y")]).await, Some(row("y", 2)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_row_that_comes_too_late_keeps_its_whole_batch_from_the_table() {
    let (_gateway, client) = gateway::start().await;
    let key = v1::Key { partition: vec!["id".to_owned()], ..v1::Key::default() };
    let ddl = "id STRING NOT NULL, v BIGINT NOT NULL, score DOUBLE".to_owned();
    let table = v1::Table { name: "rows".to_owned(), ddl, key: Some(key), ..v1::Table::default() };
    client.tables().apply(v1::Table { sequence_by: "v".to_owned(), ..table }, false).await.unwrap();
    let mut session = session(&client, open("rows")).await;
    send(&mut session, 1, rows([row("a", 5), row("b", 5)])).await;
    assert_eq!(acked(&mut session, 1).await, []);
    send(&mut session, 2, rows([row("b", 4), row("c", 6)])).await;
    let outcomes = acked(&mut session, 2).await;
    assert_eq!(outcomes, [(0, RowStatus::Superseded, RowReason::StaleMerge), (1, REJECTED, RowReason::AtomicPeer)]);
    assert_eq!(get(&client, "rows", vec![text("c")]).await, None);
    send(&mut session, 3, rows([row("b", 5), row("c", 6)])).await;
    assert_eq!(acked(&mut session, 3).await, [], "an equal sequence applies again");
    assert_eq!(get(&client, "rows", vec![text("c")]).await, Some(row("c", 6)));
}

#[tokio::test(flavor = "multi_thread")]
async fn groups_keep_their_place_among_the_rows_of_their_keys() {
    let (_gateway, client) = gateway::start().await;
    table(&client, "rows", DDL, &["id"], &[]).await;
    let mut session = session(&client, open("rows")).await;
    for round in 0..20_i64 {
        let seq = 2 * u64::try_from(round).unwrap() + 1;
        session.send_rows(seq, rows((0..10).map(|n| row(format!("k{n}"), 2 * round)))).await;
        send(&mut session, seq + 1, rows((0..10).map(|n| row(format!("k{n}"), 2 * round + 1)))).await;
    }
    assert_eq!(acked(&mut session, 40).await, []);
    for n in 0..10 {
        assert_eq!(get(&client, "rows", vec![text(format!("k{n}"))]).await, Some(row(format!("k{n}"), 39)));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_rows_are_written_again_unless_a_run_repeats_itself() {
    let (_gateway, client) = gateway::start().await;
    table(&client, "rows", DDL, &["id"], &[]).await;
    let group = || rows([row("a", 1), row("b", 1)]);
    let mut plain = session(&client, open("rows")).await;
    send(&mut plain, 1, group()).await;
    plain.send_rows(2, rows([row("a", 2)])).await;
    send(&mut plain, 3, group()).await;
    acked(&mut plain, 3).await;
    assert_eq!(get(&client, "rows", vec![text("a")]).await, Some(row("a", 1)), "the last one wins");

    let run = v1::Open { producer_id: "query".to_owned(), epoch: Some(1), ..open("rows") };
    let other = || rows([row("c", 1), row("d", 1)]);
    let mut first = session(&client, run.clone()).await;
    send(&mut first, 1, other()).await;
    acked(&mut first, 1).await;
    plain.send_rows(4, rows([row("c", 2)])).await;
    acked(&mut plain, 4).await;
    let mut replay = session(&client, run).await;
    send(&mut replay, 1, other()).await;
    assert_eq!(acked(&mut replay, 1).await, []);
    assert_eq!(get(&client, "rows", vec![text("c")]).await, Some(row("c", 2)), "a repetition does nothing");
}

#[tokio::test(flavor = "multi_thread")]
async fn more_than_a_transaction_takes_is_refused() {
    let (_gateway, client) = gateway::start().await;
    table(&client, "rows", "id STRING NOT NULL, v STRING", &["id"], &[]).await;
    let mut many = session(&client, open("rows")).await;
    send(&mut many, 1, rows((0..101).map(|n| vec![text(format!("k{n}")), text("x")]))).await;
    let status = many.end().await.unwrap_err();
    assert_eq!(status.code(), Code::InvalidArgument);
    assert!(status.message().contains("batch.atomic: an atomic batch has at most 100 rows"), "{}", status.message());
    assert_eq!(get(&client, "rows", vec![text("k0")]).await, None);

    let mut large = session(&client, open("rows")).await;
    let value = "x".repeat(300_000);
    send(&mut large, 1, rows((0..15).map(|n| vec![text(format!("k{n}")), text(&*value)]))).await;
    let outcomes = acked(&mut large, 1).await;
    assert_eq!(outcomes.len(), 15);
    assert!(outcomes.iter().all(|(_, status, reason)| (*status, *reason) == (REJECTED, RowReason::ItemTooLarge)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_unary_write_is_atomic_when_it_says_so() {
    let (_gateway, client) = gateway::start().await;
    table(&client, "rows", DDL, &["id"], &[]).await;
    let mut ingest = v1::ingest_service_client::IngestServiceClient::new(client.channel());
    let request = |batch| v1::WriteRowsRequest {
        open: Some(open("rows")),
        payload: Some(v1::write_rows_request::Payload::Rows(batch)),
        atomic: true,
    };
    let bad = rows([row("a", 1), row("", 1)]);
    let answer = ingest.write_rows(request(bad)).await.unwrap().into_inner();
    let outcomes: Vec<_> = answer.outcomes.iter().map(|row| (row.row_index, row.reason())).collect();
    assert_eq!(outcomes, [(0, RowReason::AtomicPeer), (1, RowReason::KeyEmpty)]);
    assert_eq!(get(&client, "rows", vec![text("a")]).await, None);
    let answer = ingest.write_rows(request(rows([row("a", 1), row("b", 1)]))).await.unwrap().into_inner();
    assert_eq!(answer.receipt.unwrap().committed_rows, 2);
    let many = rows((0..101).map(|n| row(format!("k{n}"), 1)));
    assert_eq!(ingest.write_rows(request(many)).await.unwrap_err().code(), Code::InvalidArgument);
}
