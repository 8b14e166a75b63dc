//! Tables with write shards over a real gateway: rows are found by key and by range wherever they are stored.

#![allow(clippy::unwrap_used, reason = "helpers of tests are tests")]

#[path = "common/gateway.rs"]
mod gateway;

use forebay::client::{Client, OpenOptions, RangeOptions};
use forebay::proto::v1;

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
