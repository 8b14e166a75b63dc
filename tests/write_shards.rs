//! Tables with write shards over a real gateway: rows are found by key and by range wherever they are stored.

#![allow(clippy::unwrap_used, reason = "helpers of tests are tests")]

#[path = "common/gateway.rs"]
mod gateway;

use std::sync::Arc;
use std::time::Duration;

use forebay::catalog::{Catalog, ShardMap};
use forebay::client::{Client, Lookup, OpenOptions, RangeOptions};
use forebay::proto::v1;
use forebay::server::Gateway;
use forebay::store::dynamodb::DynamoDb;
use forebay::store::embedded::Embedded;
use forebay::store::{Attr, QueryRange, Store};

/// Keys and sort keys in the order of their writing: three keys, their sort keys not in order.
fn rows() -> impl Iterator<Item = (String, i64)> {
    (0..900).map(|n| (format!("sensor-{}", n % 3), (n * 7_919) % 1_000))
}

async fn table(client: &Client, write_shards: u32) {
    let key = v1::Key { partition: vec!["id".into()], sort: vec!["at".into()], ..v1::Key::default() };
    let ddl = "id STRING NOT NULL, at BIGINT NOT NULL, v STRING".to_owned();
    let table = v1::Table { name: "points".into(), ddl, key: Some(key), write_shards, ..v1::Table::default() };
    client.tables().apply(table, false).await.unwrap();
}

/// As [`table`], with shards as they are needed.
async fn adaptive_table(client: &Client, max_shards: u32) {
    let key = v1::Key { partition: vec!["id".into()], sort: vec!["at".into()], ..v1::Key::default() };
    let ddl = "id STRING NOT NULL, at BIGINT NOT NULL, v STRING".to_owned();
    let (write_sharding, append_only) = (Some(v1::WriteSharding { max_shards }), true);
    let table =
        v1::Table { name: "points".into(), ddl, key: Some(key), write_sharding, append_only, ..v1::Table::default() };
    client.tables().apply(table, false).await.unwrap();
}

/// A gateway whose shard map ages fast, its store, and the map as another pod has it.
async fn two_pods(
    change: impl FnOnce(&mut forebay::config::Config),
) -> (Gateway, Client, Arc<DynamoDb>, ShardMap, Embedded) {
    let embedded = Embedded::start(None).unwrap();
    let store = Arc::new(DynamoDb::connect(&embedded.store_config()).await.unwrap());
    let settings = gateway::settings(|config| {
        config.shard_map_ttl_seconds = Some(0.3);
        config.shard_map_skew_seconds = Some(0.1);
        config.split_patience_seconds = Some(0.0);
        change(config);
    });
    let other = Catalog::open(store.clone(), settings.catalog.clone()).await.unwrap();
    let gateway = Gateway::start_with_store(settings, store.clone()).await.unwrap();
    let client = forebay::client::connect(&gateway.endpoint()).unwrap();
    (gateway, client, store, other.shards().clone(), embedded)
}

/// How many rows are stored under a partition key.
async fn stored(store: &DynamoDb, partition: &str) -> usize {
    let range = QueryRange {
        table: "points".into(),
        partition: ("id".to_owned(), Attr::S(partition.to_owned())),
        sort: None,
        attributes: Arc::default(),
        strong: true,
        descending: false,
        limit: None,
        after: None,
    };
    store.query(range).await.unwrap().items.len()
}

async fn write(client: &Client, options: OpenOptions, batch: v1::RowBatch) {
    let rows = batch.rows.len() as u64;
    let mut writer = client.writer(options).await.unwrap();
    writer.send_rows(batch).await.unwrap();
    assert_eq!(writer.finish().await.unwrap().committed_rows, rows);
}

async fn range(client: &Client, id: &str, options: RangeOptions) -> Vec<(i64, String)> {
    let reader = client.reader().strong(true);
    let mut rows = reader.range("points", vec![gateway::text(id)], options).await.unwrap();
    let mut read = Vec::new();
    while let Some(values) = rows.next().await.unwrap() {
        match &values.iter().map(|value| value.kind.clone().unwrap()).collect::<Vec<_>>()[..] {
            [v1::value::Kind::StringValue(key), v1::value::Kind::IntValue(at), v1::value::Kind::StringValue(v)] => {
                assert_eq!(key, id, "the suffix is not the client's business");
                read.push((*at, v.clone()));
            }
            other => panic!("{other:?}"),
        }
    }
    read
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_of_one_key_are_in_many_places_and_read_as_one() {
    let (gateway, client) = gateway::start().await;
    table(&client, 8).await;
    let row = |(id, at): (String, i64)| vec![gateway::text(id), gateway::int(at), gateway::text(format!("v{at}"))];
    write(&client, OpenOptions::new("points"), gateway::rows(rows().map(row))).await;

    for (id, at) in rows().step_by(97) {
        let found = gateway::get(&client, "points", vec![gateway::text(&*id), gateway::int(at)]).await;
        assert_eq!(found, Some(row((id, at))));
    }
    assert_eq!(gateway::get(&client, "points", vec![gateway::text("sensor-0"), gateway::int(1_001)]).await, None);

    let mut expected: Vec<_> =
        rows().filter(|(id, _)| id == "sensor-1").map(|(_, at)| (at, format!("v{at}"))).collect();
    expected.sort();
    assert_eq!(expected.len(), 300);
    assert_eq!(range(&client, "sensor-1", RangeOptions::default()).await, expected);
    let within = RangeOptions {
        from: Some(vec![gateway::int(200)]),
        to: Some(vec![gateway::int(700)]),
        descending: true,
        limit: std::num::NonZeroU64::new(50),
        ..RangeOptions::default()
    };
    let mut backwards: Vec<_> = expected.iter().filter(|(at, _)| (200..700).contains(at)).cloned().collect();
    backwards.reverse();
    backwards.truncate(50);
    assert_eq!(range(&client, "sensor-1", within).await, backwards);
    assert_eq!(range(&client, "nobody", RangeOptions::default()).await, []);

    // A row is written again and deleted where it is.
    let change =
        |v: &str| gateway::rows([vec![gateway::text("sensor-1"), gateway::int(expected[5].0), gateway::text(v)]]);
    write(&client, OpenOptions::new("points"), change("new")).await;
    let read = range(&client, "sensor-1", RangeOptions::default()).await;
    assert_eq!((read.len(), &*read[5].1), (300, "new"));
    let delete = OpenOptions::new("points").mode(v1::WriteMode::Delete);
    write(&client, delete, change("")).await;
    assert_eq!(range(&client, "sensor-1", RangeOptions::default()).await.len(), 299);
    gateway.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn shards_that_cannot_be_are_refused_with_what_they_need() {
    let (gateway, client) = gateway::start().await;
    for (ddl, sort, write_shards, words) in [
        ("id STRING NOT NULL, at BIGINT NOT NULL", vec!["at".to_owned()], 3, "a power of two from 2 to 256, not 3"),
        ("id STRING NOT NULL", vec![], 4, "needs a sort key"),
        ("id BIGINT NOT NULL, at BIGINT NOT NULL", vec!["at".to_owned()], 4, "stored as text (S)"),
    ] {
        let key = v1::Key { partition: vec!["id".into()], sort, ..v1::Key::default() };
        let table =
            v1::Table { name: "refused".into(), ddl: ddl.into(), key: Some(key), write_shards, ..v1::Table::default() };
        let error = client.tables().apply(table, false).await.unwrap_err().to_string();
        assert!(error.contains(words), "{error}");
    }
    gateway.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_is_widened_under_open_sessions_and_no_row_is_lost_or_hidden() {
    let (gateway, client, store, map, _embedded) = two_pods(|_| {}).await;
    adaptive_table(&client, 4).await;
    let row = |at: i64| vec![gateway::text("hot"), gateway::int(at), gateway::text(format!("v{at}"))];
    let mut writer = client.writer(OpenOptions::new("points")).await.unwrap();
    let mut written = 0;
    for shards in [1, 2, 4] {
        if shards > 1 {
            assert_eq!(map.widen("points", "hot", 4).await.unwrap(), Some(shards));
            // Readers of both pods look everywhere before a writer changes over, and after.
            assert_eq!(range(&client, "hot", RangeOptions::default()).await.len() as i64, written);
            tokio::time::sleep(Duration::from_millis(1_000)).await;
        }
        let rows = (written..written + 100).map(row).chain([vec![
            gateway::text("cold"),
            gateway::int(written),
            gateway::text(""),
        ]]);
        writer.send_rows(gateway::rows(rows)).await.unwrap();
        writer.flush().await.unwrap();
        written += 100;
    }
    assert_eq!(map.widen("points", "hot", 4).await.unwrap(), None, "it has as many as it may");
    writer.finish().await.unwrap();

    let mut places = Vec::new();
    for place in 0..5 {
        places.push(stored(&store, &format!("hot#0{place}")).await);
    }
    assert_eq!(places.iter().sum::<usize>(), 300);
    assert!(places[0] > 100 && places[1] > 30 && places[2] > 10 && places[3] > 10 && places[4] == 0, "{places:?}");
    assert_eq!(stored(&store, "cold#00").await, 3, "only the hot key is widened");

    let everything: Vec<_> = (0..300).map(|at| (at, format!("v{at}"))).collect();
    assert_eq!(range(&client, "hot", RangeOptions::default()).await, everything);
    assert_eq!(range(&client, "cold", RangeOptions::default()).await.len(), 3);
    for at in [0, 99, 100, 199, 200, 299] {
        let found = gateway::get(&client, "points", vec![gateway::text("hot"), gateway::int(at)]).await;
        assert_eq!(found, Some(row(at)));
    }
    let key = |at: i64| v1::RowKey { values: vec![gateway::text("hot"), gateway::int(at)] };
    let keys = v1::TableKeys { table: "points".into(), keys: (-1..301).map(key).collect(), columns: vec![] };
    let read = client.reader().strong(true).batch_get_rows(vec![keys]).await.unwrap().remove(0);
    for (at, lookup) in (-1..301).zip(read.lookups) {
        let expected = if (0..300).contains(&at) { Lookup::Found(row(at)) } else { Lookup::NotFound };
        assert_eq!(lookup, expected, "{at}");
    }
    gateway.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_row_that_was_sent_again_after_a_widening_is_read_once() {
    let (gateway, client, store, map, _embedded) = two_pods(|_| {}).await;
    adaptive_table(&client, 256).await;
    let batch = || gateway::rows((0..50).map(|at| vec![gateway::text("hot"), gateway::int(at), gateway::text("same")]));
    write(&client, OpenOptions::new("points"), batch()).await;
    map.widen("points", "hot", 256).await.unwrap();
    tokio::time::sleep(Duration::from_millis(1_000)).await;
    write(&client, OpenOptions::new("points"), batch()).await;
    assert!(stored(&store, "hot#01").await > 0 && stored(&store, "hot#00").await == 50, "some rows are in both places");
    let read = range(&client, "hot", RangeOptions::default()).await;
    assert_eq!(read, (0..50).map(|at| (at, "same".to_owned())).collect::<Vec<_>>());
    gateway.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_stays_hot_gets_more_shards_by_itself() {
    let (gateway, client, store, map, _embedded) = two_pods(|config| config.split_write_units = Some(5.0)).await;
    adaptive_table(&client, 8).await;
    let mut writer = client.writer(OpenOptions::new("points")).await.unwrap();
    let mut at = 0;
    while map.for_reading("points").await.unwrap().of("hot") < 4 {
        assert!(at < 60_000, "it was never widened");
        let rows = (at..at + 100).map(|at| vec![gateway::text("hot"), gateway::int(at), gateway::text("")]);
        let cold = [vec![gateway::text(format!("cold-{at}")), gateway::int(at), gateway::text("")]];
        writer.send_rows(gateway::rows(rows.chain(cold))).await.unwrap();
        writer.flush().await.unwrap();
        at += 100;
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    writer.finish().await.unwrap();
    assert!(stored(&store, "hot#01").await > 0);
    assert_eq!(map.for_reading("points").await.unwrap().of("cold-0"), 1);
    let read = range(&client, "hot", RangeOptions::default()).await;
    assert_eq!(read.into_iter().map(|(at, _)| at).collect::<Vec<_>>(), (0..at).collect::<Vec<_>>());
    gateway.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_that_are_written_once_are_neither_changed_nor_deleted() {
    let (gateway, client) = gateway::start().await;
    adaptive_table(&client, 8).await;
    for mode in [v1::WriteMode::Delete, v1::WriteMode::Merge, v1::WriteMode::Insert] {
        let error = client.writer(OpenOptions::new("points").mode(mode)).await.err().unwrap().to_string();
        assert!(error.contains("APPEND_ONLY"), "{error}");
    }
    gateway.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn adaptive_shards_are_of_tables_whose_keys_are_written_once() {
    let (gateway, client) = gateway::start().await;
    let key = v1::Key { partition: vec!["id".into()], sort: vec!["at".into()], ..v1::Key::default() };
    let table = v1::Table {
        name: "refused".into(),
        ddl: "id STRING NOT NULL, at BIGINT NOT NULL".into(),
        key: Some(key),
        write_sharding: Some(v1::WriteSharding { max_shards: 8 }),
        ..v1::Table::default()
    };
    let error = client.tables().apply(table, false).await.unwrap_err().to_string();
    assert!(error.contains("`append_only: true`"), "{error}");
    gateway.shutdown().await;
}
