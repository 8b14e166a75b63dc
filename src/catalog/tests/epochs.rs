//! Claims of epochs, on several pods over one store.

use super::*;

async fn two_pods() -> (Arc<FakeStore>, Catalog, Catalog) {
    let store = Arc::new(FakeStore::default());
    let (one, other) = (open(&store).await, open(&store).await);
    (store, one, other)
}

fn newest(claim: Result<EpochClaim, CatalogError>) -> u64 {
    match claim {
        Err(CatalogError::Fenced { newest, .. }) => newest,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_lower_epoch_is_refused_on_every_pod_and_an_equal_one_is_not() {
    let (_store, one, other) = two_pods().await;
    one.claim_epoch("t", "query", 0).await.unwrap();
    one.claim_epoch("t", "query", 7).await.unwrap();
    other.claim_epoch("t", "query", 7).await.unwrap();
    assert_eq!(newest(other.claim_epoch("t", "query", 6).await), 7);
    assert_eq!(newest(one.claim_epoch("t", "query", 0).await), 7);
    let error = one.claim_epoch("t", "query", 6).await.unwrap_err();
    assert_eq!(error.to_string(), "producer `query` has epoch 7 in table `t` now; 6 is an older run");
    // Neither another producer nor another table is meant, whatever the names hold.
    one.claim_epoch("t", "query\"/\\é", 1).await.unwrap();
    one.claim_epoch("u", "query", 1).await.unwrap();
    assert_eq!(newest(other.claim_epoch("t", "query\"/\\é", 0).await), 1);
}

#[tokio::test(start_paused = true)]
async fn open_sessions_hear_of_newer_runs_elsewhere_within_seconds() {
    let (store, one, other) = two_pods().await;
    let stop = CancellationToken::new();
    tokio::spawn(one.clone().epoch_loop(stop.clone()));
    let mut old = one.claim_epoch("t", "query", 7).await.unwrap();
    let mut same = one.claim_epoch("t", "query", 7).await.unwrap();
    let seconds = Duration::from_secs;
    assert!(tokio::time::timeout(seconds(60), old.fenced()).await.is_err(), "nobody is newer");

    other.claim_epoch("t", "query", 8).await.unwrap();
    let CatalogError::Fenced { newest, epoch, .. } = tokio::time::timeout(seconds(3), old.fenced()).await.unwrap()
    else {
        panic!("fenced")
    };
    assert_eq!((newest, epoch), (8, 7));
    tokio::time::timeout(seconds(1), same.fenced()).await.unwrap();

    // While records cannot be read nothing ends; a claim made here is heard at once all the same.
    let mut current = one.claim_epoch("t", "query", 8).await.unwrap();
    store.lock().unreachable = true;
    assert!(tokio::time::timeout(seconds(60), current.fenced()).await.is_err());
    store.lock().unreachable = false;
    one.claim_epoch("t", "query", 9).await.unwrap();
    tokio::time::timeout(Duration::from_millis(1), current.fenced()).await.unwrap();
    stop.cancel();
}

#[tokio::test(start_paused = true)]
async fn producers_without_sessions_are_not_asked_for() {
    let (store, one, _other) = two_pods().await;
    let claims = [one.claim_epoch("t", "a", 1).await.unwrap(), one.claim_epoch("t", "a", 1).await.unwrap()];
    let before = store.lock().reads;
    one.read_epochs().await;
    assert_eq!(store.lock().reads, before + 1, "one read for both");
    drop(claims);
    one.read_epochs().await;
    assert_eq!(store.lock().reads, before + 1);
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_is_lost_costs_another_attempt_and_no_claim() {
    for fault in [Fault::Before, Fault::After] {
        let (store, one, _other) = two_pods().await;
        let changes = store.lock().changes;
        store.lock().fault = Some((changes + 1, fault));
        one.claim_epoch("t", "query", 3).await.unwrap();
        assert_eq!(newest(one.claim_epoch("t", "query", 2).await), 3);
    }
    let (store, one, _other) = two_pods().await;
    store.lock().unreachable = true;
    let error = one.claim_epoch("t", "query", 3).await.unwrap_err();
    assert!(matches!(error, CatalogError::Store(ControlError::Unavailable { .. })), "{error}");
}

#[tokio::test]
async fn epochs_are_no_tables() {
    let (_store, one, _other) = two_pods().await;
    one.apply(users(), false).await.unwrap();
    one.claim_epoch("users", "query", 3).await.unwrap();
    let names: Vec<_> = one.list().await.unwrap().iter().map(|table| table.def.name.clone()).collect();
    assert_eq!(names, ["users"]);
}
