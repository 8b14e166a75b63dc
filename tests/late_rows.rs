//! Rows that DynamoDB does not take in time, in tables with `sequence_by`: they hold up nobody, get an outcome at their
//! deadline, and are sent again. Over real TCP, against a store that does as it is told.

#![allow(clippy::unwrap_used, reason = "helpers of tests are tests")]

#[path = "common/gateway.rs"]
mod gateway;
#[path = "common/scripted_store.rs"]
mod scripted_store;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use forebay::client::{self, Client, Event, OpenOptions};
use forebay::proto::v1::{
    self, RowReason, RowStatus, write_request::Message as Ask, write_response::Message as Answer,
};
use forebay::server::Gateway;
use forebay::store::ThrottleReason;
use gateway::{RawSession, int, open, rows, settings, text};
use scripted_store::{Fate, ScriptedStore};

/// What becomes of rows whose key begins with "stuck", while they are.
struct Bed {
    client: Client,
    store: Arc<ScriptedStore>,
    stuck: Arc<AtomicBool>,
    _gateway: Gateway,
}

impl Bed {
    async fn start(fate: Fate) -> Self {
        let store = ScriptedStore::new();
        let gateway = Gateway::start_with_store(settings(|_| {}), store.clone()).await.unwrap();
        let client = client::connect(&gateway.endpoint()).unwrap();
        let key = v1::Key { partition: vec!["id".to_owned()], ..v1::Key::default() };
        let ddl = "id STRING NOT NULL, v BIGINT NOT NULL".to_owned();
        let table = v1::Table { name: "rows".to_owned(), ddl, key: Some(key), ..v1::Table::default() };
        client.tables().apply(v1::Table { sequence_by: "v".to_owned(), ..table }, false).await.unwrap();
        let stuck = Arc::new(AtomicBool::new(true));
        let is_stuck = Arc::clone(&stuck);
        store.script(move |call| match call.carries("\"stuck") && is_stuck.load(Ordering::SeqCst) {
            true => fate.clone().into(),
            false => Fate::Written.into(),
        });
        Self { client, store, stuck, _gateway: gateway }
    }

    async fn session(&self, deadline: Duration) -> RawSession {
        let row_deadline = Some(deadline.try_into().unwrap());
        let mut session = RawSession::open(&self.client, v1::Open { row_deadline, ..open("rows") }).await;
        assert!(matches!(session.next().await, Answer::Opened(_)));
        session
    }
}

fn row(id: &str, v: i64) -> Vec<v1::Value> {
    vec![text(id), int(v)]
}

async fn next_ack(session: &mut RawSession) -> v1::Ack {
    match session.next().await {
        Answer::Ack(ack) => ack,
        other => panic!("{other:?}"),
    }
}

fn throttled() -> Fate {
    Fate::throttled(ThrottleReason::KeyRange)
}

#[tokio::test(flavor = "multi_thread")]
async fn one_slow_row_holds_up_no_other_batch_and_no_other_ack() {
    let bed = Bed::start(throttled()).await;
    let mut session = bed.session(Duration::from_secs(60)).await;
    session.send_rows(1, rows([row("before", 1)])).await;
    assert_eq!(next_ack(&mut session).await.committed_through, 1);
    session.send_rows(2, rows([row("stuck", 1), row("beside", 1)])).await;
    for seq in 3..=5 {
        session.send_rows(seq, rows([row(&format!("after{seq}"), 1), row("", 1)])).await;
    }
    let (mut ranges, mut outcomes) = (Vec::new(), Vec::new());
    while ranges != [v1::BatchRange { first: 3, last: 5 }] {
        let ack = next_ack(&mut session).await;
        assert_eq!(ack.committed_through, 1);
        outcomes.extend(ack.outcomes.iter().map(|outcome| (outcome.batch_seq, outcome.row_index)));
        ranges = ack.committed_ranges;
    }
    outcomes.sort_unstable();
    assert_eq!(outcomes, [(3, 1), (4, 1), (5, 1)], "each told once, with its batch");

    bed.stuck.store(false, Ordering::SeqCst);
    let ack = next_ack(&mut session).await;
    assert_eq!((ack.committed_through, ack.committed_ranges.len(), ack.outcomes.len()), (5, 0, 0));
    session.send(Ask::Finish(v1::Finish { batches: 5, rows: 9 })).await;
    let end = session.end().await.unwrap();
    let Some(Answer::Finished(v1::Finished { receipt: Some(receipt) })) = end.last() else { panic!("{end:?}") };
    assert_eq!((receipt.committed_rows, receipt.rejected_rows), (6, 3));
}

#[tokio::test(flavor = "multi_thread")]
async fn at_its_deadline_a_row_gets_an_outcome_and_the_session_goes_on() {
    for (fate, status, reason) in [
        (throttled(), RowStatus::Retryable, RowReason::PartitionThrottled),
        (Fate::throttled(ThrottleReason::Account), RowStatus::Retryable, RowReason::TableThrottled),
        (Fate::LostAnswer, RowStatus::Unknown, RowReason::BackendUnavailable),
    ] {
        let bed = Bed::start(fate).await;
        let mut session = bed.session(Duration::from_secs(1)).await;
        session.send_rows(1, rows([row("fine", 1), row("stuck", 1)])).await;
        let ack = next_ack(&mut session).await;
        assert_eq!(ack.committed_through, 1);
        let [outcome] = &ack.outcomes[..] else { panic!("{ack:?}") };
        assert_eq!((outcome.row_index, outcome.status(), outcome.reason()), (1, status, reason));
        assert!(outcome.retry_after.is_some());
        bed.stuck.store(false, Ordering::SeqCst);
        session.send_rows(2, rows([row("stuck", 1)])).await;
        assert_eq!(next_ack(&mut session).await.committed_through, 2);
        session.send(Ask::Finish(v1::Finish { batches: 2, rows: 3 })).await;
        let end = session.end().await.unwrap();
        let Some(Answer::Finished(v1::Finished { receipt: Some(receipt) })) = end.last() else { panic!("{end:?}") };
        let told = (receipt.committed_rows, receipt.retryable_rows, receipt.unknown_rows);
        assert_eq!(told, if status == RowStatus::Unknown { (2, 0, 1) } else { (2, 1, 0) });
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_unary_write_says_which_rows_to_send_again() {
    let bed = Bed::start(throttled()).await;
    let mut ingest = v1::ingest_service_client::IngestServiceClient::new(bed.client.channel());
    let deadline = prost_types::Duration { seconds: 1, nanos: 0 };
    let open = v1::Open { row_deadline: Some(deadline), ..open("rows") };
    let payload = v1::write_rows_request::Payload::Rows(rows([row("stuck", 1), row("fine", 1)]));
    let request = v1::WriteRowsRequest { open: Some(open), payload: Some(payload), atomic: false };
    let answer = ingest.write_rows(request).await.unwrap().into_inner();
    let [outcome] = &answer.outcomes[..] else { panic!("{answer:?}") };
    assert_eq!((outcome.row_index, outcome.status()), (0, RowStatus::Retryable));
    let receipt = answer.receipt.unwrap();
    assert_eq!((receipt.committed_rows, receipt.retryable_rows), (1, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_writer_sends_late_rows_again_until_they_are_written() {
    let bed = Bed::start(throttled()).await;
    let again = Arc::new(Mutex::new(Vec::new()));
    let (seen, stuck) = (Arc::clone(&again), Arc::clone(&bed.stuck));
    let options = OpenOptions::new("rows").row_deadline(Duration::from_secs(1)).on_event(move |event| match event {
        Event::SendingAgain { batch, rows, .. } => {
            seen.lock().unwrap_or_else(PoisonError::into_inner).push((batch, rows));
            stuck.store(false, Ordering::SeqCst);
        }
        Event::Outcome(outcome) => panic!("{outcome:?}"),
        _ => {}
    });
    let mut writer = bed.client.writer(options).await.unwrap();
    writer.send_rows(rows([row("fine1", 1), row("stuck", 1), row("fine2", 1), row("stuck2", 1)])).await.unwrap();
    let receipt = writer.finish().await.unwrap();
    assert_eq!((receipt.rows, receipt.committed_rows, receipt.retryable_rows), (4, 4, 0));
    assert_eq!(*again.lock().unwrap(), [(1, 2)]);
    assert_eq!(bed.store.items("rows").len(), 4);
    let calls = bed.store.calls();
    let fine = calls.iter().filter(|call| call.carries("fine1")).count();
    assert_eq!(fine, 1, "only the late rows are sent again");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_caller_that_sends_again_itself_hears_of_every_late_row() {
    let bed = Bed::start(throttled()).await;
    let options = OpenOptions::new("rows").row_deadline(Duration::from_secs(1)).resend(false);
    let mut writer = bed.client.writer(options).await.unwrap();
    writer.send_rows(rows([row("fine", 1), row("stuck", 1)])).await.unwrap();
    let outcomes = writer.outcomes();
    let receipt = writer.finish().await.unwrap();
    assert_eq!((receipt.committed_rows, receipt.retryable_rows), (1, 1));
    let told = outcomes.take();
    assert_eq!((told.len(), told[0].row, told[0].status), (1, 1, RowStatus::Retryable));
    assert!(told[0].retry_after.is_some());
}
