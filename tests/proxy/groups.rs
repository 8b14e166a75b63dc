//! 15, 18, 25: atomic batches and epochs behind answers that are lost.

use forebay::proto::v1::{write_request::Message as Ask, write_response::Message as Answer};
use gateway::{RawSession, open};

use super::*;

/// Sends atomic batches of ten rows, all of the batch's version, and reads until they are acked; nothing is rejected.
async fn write_groups(client: &Client, mode: WriteMode, keys: impl Fn(u64, u64) -> String, batches: u64) {
    let mut session = RawSession::open(client, v1::Open { mode: mode.into(), ..open("rows") }).await;
    assert!(matches!(session.next().await, Answer::Opened(_)));
    for batch in 1..=batches {
        let row = |row| vec![text(keys(batch, row)), int(batch as i64)];
        let payload = Some(v1::batch::Payload::Rows(gateway::rows((0..10).map(row))));
        session.send(Ask::Batch(v1::Batch { batch_seq: batch, payload, atomic: true })).await;
    }
    loop {
        let Answer::Ack(ack) = session.next().await else { continue };
        assert_eq!(ack.outcomes, []);
        if ack.committed_through == batches {
            return;
        }
    }
}

/// Versions by key.
fn stored(bed: &Bed) -> BTreeMap<String, u64> {
    let version = |item: &Value| {
        let number = item["v"]["N"].as_str().unwrap().parse().unwrap();
        (item["id"]["S"].as_str().unwrap().to_owned(), number)
    };
    process::scan(&bed.embedded.endpoint_url(), "rows").iter().map(version).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn fault_18_an_atomic_batch_whose_answer_is_lost_is_done_once() {
    for mode in [WriteMode::Put, WriteMode::Insert] {
        let bed = Bed::start().await;
        bed.table(false).await;
        bed.proxy.script_writes(|call| match call.number % 2 {
            0 => lose_or_swallow(call),
            _ => Fault::Pass,
        });
        // An insert that is done twice would find itself there.
        write_groups(&bed.client, mode, |batch, row| format!("k{batch}-{row}"), 20).await;
        let fired = bed.proxy.fired();
        assert!(fired["lost answer"] + fired["failed after"] > 3, "{fired:?}");
        bed.proxy.settled().await;
        let stored = stored(&bed);
        assert_eq!(stored.len(), 200);
        assert!(stored.iter().all(|(key, version)| key.starts_with(&format!("k{version}-"))));
    }
}

fn lose_or_swallow(call: &Call) -> Fault {
    match call.number % 6 {
        0 => Fault::LoseAnswer,
        2 => Fault::FailAfter,
        _ => Fault::BlackHole,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn faults_15_and_18_atomic_batches_of_the_same_keys_are_whole_and_in_order() {
    let bed = Bed::start().await;
    bed.table(false).await;
    let cancels = ["ThrottlingError", "TransactionConflict"];
    bed.proxy.script_writes(move |call| match call.number % 8 {
        0 => Fault::LoseAnswer,
        1 => Fault::throttled("TableWriteProvisionedThroughputExceeded"),
        2 => Fault::Cancel { item: 3, code: cancels[call.number as usize / 8 % 2] },
        _ => Fault::Pass,
    });
    let embedded = bed.embedded.endpoint_url();
    let watch = tokio::spawn(async move {
        let mut seen = 0;
        loop {
            let items = process::scan(&embedded, "rows");
            let versions: Vec<&str> = items.iter().map(|item| item["v"]["N"].as_str().unwrap()).collect();
            assert!(versions.is_empty() || versions.len() == 10, "{versions:?}");
            assert!(versions.iter().all(|version| version == &versions[0]), "not whole: {versions:?}");
            let version = versions.first().map_or(0, |version| version.parse().unwrap());
            assert!(version >= seen, "{version} came after {seen}");
            seen = version;
            tokio::time::sleep(Duration::from_millis(3)).await;
        }
    });
    write_groups(&bed.client, WriteMode::Put, |_, row| format!("k{row}"), 30).await;
    let fired = bed.proxy.fired();
    assert!(fired["lost answer"] > 1 && fired["cancel"] > 1, "{fired:?}");
    bed.proxy.settled().await;
    assert!(!watch.is_finished(), "every look found a whole batch");
    watch.abort();
    assert!(stored(&bed).values().all(|version| *version == 30));
}

#[tokio::test(flavor = "multi_thread")]
async fn fault_25_an_epoch_is_recorded_although_its_answer_was_lost_and_older_ones_are_refused() {
    let bed = Bed::start().await;
    bed.table(false).await;
    // The record is written, and its answer lost, for the first claim of each epoch.
    let lost = Arc::new(Mutex::new(0));
    let count = Arc::clone(&lost);
    bed.proxy.script(move |call| {
        let claims = ["PutItem", "UpdateItem"].contains(&call.operation.as_str()) && call.table.starts_with("forebay-");
        let mut lost = count.lock().unwrap();
        if claims && *lost < 2 {
            *lost += 1;
            return Fault::LoseAnswer;
        }
        Fault::Pass
    });
    let run = |epoch| {
        rows().open(move |open| {
            open.producer_id = "job".to_owned();
            open.epoch = Some(epoch);
        })
    };
    let book = Book::default();
    let mut newer = bed.writer(run(2), 1, &book).await;
    assert!(*lost.lock().unwrap() > 0, "the claim was answered");
    newer.send((0..50).map(|number| put(format!("k{number}"), number + 1)).collect()).await.unwrap();
    newer.flush().await.unwrap();
    let Err(error) = Verifier::open(&bed.client, run(1), 2, &book).await else { panic!("an older run was let in") };
    let ClientError::Refused { code, reason, .. } = &error else { panic!("{error}") };
    assert_eq!((*code, reason.as_str()), (Code::Aborted, "FENCED"));
    newer.send((0..50).map(|number| put(format!("k{number}"), number + 100)).collect()).await.unwrap();
    newer.finish().await.unwrap();
    bed.check(&book, None).await;
}
