//! The shard map over a store that can be away.

use super::*;

fn events() -> TableDef {
    let def = table("events", "id STRING NOT NULL, at BIGINT NOT NULL", &["id"], &["at"]);
    TableDef { write_sharding_max_shards: 4, append_only: true, ..def }
}

/// Two pods over one store.
async fn two_pods(store: &Arc<FakeStore>) -> (Catalog, Catalog) {
    let first = open(store).await;
    first.apply(events(), false).await.unwrap();
    (first, open(store).await)
}

const TTL: Duration = Duration::from_secs(10);

#[tokio::test(start_paused = true)]
async fn every_pod_learns_of_a_widening_and_changes_over_after_its_time() {
    let store = Arc::new(FakeStore::default());
    let (first, second) = two_pods(&store).await;
    let name = first.get("events").await.unwrap().dynamodb_table.clone();
    assert_eq!(second.shards().for_reading(&name).await.unwrap().of("hot"), 1);
    assert_eq!(first.shards().widen(&name, "hot", 4).await.unwrap(), Some(2));
    assert_eq!(first.shards().widen(&name, "hot", 4).await.unwrap(), None, "it has not had its time to help");
    assert_eq!(second.shards().widen(&name, "hot", 4).await.unwrap(), None, "nor for another pod");
    assert_eq!(first.shards().for_reading(&name).await.unwrap().of("hot"), 2);

    // The second pod's copy is good for as long as writers do not change over.
    tokio::time::advance(TTL - Duration::from_millis(1)).await;
    assert_eq!(first.shards().for_writing(&name).await.of("hot"), 1);
    tokio::time::advance(Duration::from_millis(2)).await;
    assert_eq!(second.shards().for_reading(&name).await.unwrap().of("hot"), 2);
    assert_eq!(second.shards().for_reading(&name).await.unwrap().of("cold"), 1);
    assert_eq!(second.shards().for_reading("elsewhere").await.unwrap().of("hot"), 1);
}

#[tokio::test(start_paused = true)]
async fn a_copy_that_is_too_old_is_not_used() {
    let store = Arc::new(FakeStore::default());
    let (pod, _) = two_pods(&store).await;
    let name = pod.get("events").await.unwrap().dynamodb_table.clone();
    pod.shards().widen(&name, "hot", 4).await.unwrap();
    store.lock().unreachable = true;
    tokio::time::advance(TTL).await;
    assert_eq!(pod.shards().for_reading(&name).await.unwrap().of("hot"), 2);
    tokio::time::advance(Duration::from_millis(1)).await;
    let error = pod.shards().for_reading(&name).await.unwrap_err();
    assert!(matches!(error, CatalogError::Store(ControlError::Unavailable { .. })), "{error}");

    let shards = pod.shards().clone();
    let writer = tokio::spawn(async move { shards.for_writing(&name).await.of("hot") });
    tokio::time::sleep(Duration::from_secs(300)).await;
    assert!(!writer.is_finished(), "a writer waits for as long as it takes");
    store.lock().unreachable = false;
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert!(writer.is_finished());
}

#[tokio::test(start_paused = true)]
async fn a_copy_that_is_asked_for_stays_young() {
    let store = Arc::new(FakeStore::default());
    let (pod, _) = two_pods(&store).await;
    let (shards, stop) = (pod.shards().clone(), CancellationToken::new());
    let refreshing = tokio::spawn(shards.clone().refresh_loop(stop.clone()));
    tokio::time::sleep(Duration::from_secs(60)).await;
    let reads = store.lock().reads;
    tokio::time::sleep(Duration::from_secs(600)).await;
    assert_eq!(store.lock().reads, reads, "nobody asks");

    shards.for_reading("events").await.unwrap();
    tokio::time::sleep(Duration::from_secs(60)).await;
    let reads = store.lock().reads;
    shards.for_reading("events").await.unwrap();
    assert_eq!(store.lock().reads, reads, "it was read in the background");
    stop.cancel();
    refreshing.await.unwrap();
}

#[tokio::test]
async fn a_lost_map_hides_no_rows_and_is_not_taken_for_an_empty_one() {
    let store = Arc::new(FakeStore::default());
    let pod = open(&store).await;
    // No adaptive table was ever made through this store: there is no map.
    let error = pod.shards().for_reading("events").await.unwrap_err();
    assert!(matches!(error, CatalogError::Store(ControlError::TableMissing { .. })), "{error}");
    let named_so = TableDef { dynamodb_table: "forebay-shards".to_owned(), ..users() };
    assert!(matches!(pod.apply(named_so, false).await, Err(CatalogError::DynamoDbName { .. })));
}

#[tokio::test]
async fn a_damaged_record_is_named() {
    let store = Arc::new(FakeStore::default());
    let (pod, _) = two_pods(&store).await;
    for body in ["{}", r#"{"table":"events","partition":"hot","shards":3,"effective_at_ms":0}"#] {
        store.lock().shards.as_mut().unwrap().insert(("events/0".to_owned(), 1), body.to_owned());
        let error = pod.shards().for_reading("events").await.unwrap_err();
        assert!(matches!(&error, CatalogError::Damaged { name, .. } if name == "events/0"), "{error}");
    }
}
