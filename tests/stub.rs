//! The stub store keeps what a catalog needs, counts what it is sent, and takes nothing that is not DynamoDB's JSON.

#![allow(clippy::unwrap_used, reason = "helpers of tests are tests")]

use bytes::Bytes;
use forebay::store::dynamodb::DynamoDb;
use forebay::store::{
    Attr, BatchWrite, ControlError, ControlRecord, GetKeys, OneWrite, SequenceRule, Span, Store, StoreConfig,
    WriteError, WriteItem, WriteOp,
};

#[path = "common/stub_store.rs"]
mod stub_store;

use stub_store::{StubOptions, StubStore};

async fn start(options: StubOptions) -> (StubStore, DynamoDb) {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let stub = StubStore::start(listener, options).unwrap();
    let config = StoreConfig {
        endpoint_url: Some(stub.endpoint_url()),
        static_credentials: Some(("id".to_owned(), "secret".to_owned())),
        ..StoreConfig::default()
    };
    (stub, DynamoDb::connect(&config).await.unwrap())
}

fn item(op: WriteOp, id: usize, rest: &str) -> WriteItem {
    let key = format!(r#""pk":{{"S":"a"}},"sk":{{"N":"{id}"}}"#);
    WriteItem::new(op, Bytes::from(format!("{{{key}{rest}}}")), key.len() as u32)
}

#[tokio::test]
async fn calls_and_items_are_counted() {
    let (stub, store) = start(StubOptions::default()).await;
    let rest =
        r#","l":{"L":[{"N":"1"},{"M":{"é\"":{"BOOL":true},"n":{"NULL":true}}}]},"ss":{"SS":["a"]},"b":{"B":"AQ=="}"#;
    let items = (0..25).map(|id| item(WriteOp::Put, id, rest)).collect();
    let done = store.batch_write(BatchWrite { table: "tbl".into(), items }).await.unwrap();
    assert_eq!((done.unprocessed.len(), done.write_units), (0, 25.0));
    let items = vec![item(WriteOp::Delete, 1, ""), item(WriteOp::Put, 2, rest)];
    store.batch_write(BatchWrite { table: "tbl".into(), items }).await.unwrap();
    store.write_one(OneWrite { table: "tbl".into(), item: item(WriteOp::Put, 1, rest), sequence: None }).await.unwrap();
    store
        .write_one(OneWrite { table: "tbl".into(), item: item(WriteOp::Delete, 1, ""), sequence: None })
        .await
        .unwrap();
    let stats = stub.stats();
    assert_eq!((stats.batch_calls, stats.single_calls, stats.puts, stats.deletes), (2, 2, 27, 2));
    assert_eq!((stats.calls_by_items[25], stats.calls_by_items[2], stats.mean_items), (1, 1, 13.5));
    assert!(stats.write_bytes > 25 * rest.len() as u64);
}

#[tokio::test]
async fn what_is_no_dynamodb_json_is_refused() {
    let (stub, store) = start(StubOptions::default()).await;
    for broken in
        [r#","x":{"S":1}"#, r#","x":{"Q":"1"}"#, r#","x":{"S":"a","N":"1"}"#, r#","x":"a""#, r#","x":{"L":[{}]}"#, ","]
    {
        let batch = BatchWrite { table: "tbl".into(), items: vec![item(WriteOp::Put, 1, broken)] };
        let error = store.batch_write(batch).await.unwrap_err();
        assert!(matches!(error, WriteError::Validation { .. }), "{broken}: {error:?}");
    }
    let items = (0..26).map(|id| item(WriteOp::Put, id, "")).collect();
    assert!(store.batch_write(BatchWrite { table: "tbl".into(), items }).await.is_err());
    assert_eq!((stub.stats().refused, stub.stats().puts), (7, 0));
}

#[tokio::test]
async fn a_catalog_finds_its_records_again() {
    let (stub, store) = start(StubOptions::default()).await;
    let record = |sk, body: &str| ControlRecord { pk: "a".to_owned(), sk, body: body.to_owned() };
    assert_eq!(store.describe_table("ctl").await.unwrap(), None);
    store.ensure_control_table("ctl").await.unwrap();
    for sk in [1, 2, 10] {
        store.put_record("ctl", record(sk, "{}"), true).await.unwrap();
    }
    assert_eq!(store.put_record("ctl", record(2, "other"), true).await, Err(ControlError::Conflict));
    assert_eq!(store.get_record("ctl", "a", None).await.unwrap(), Some(record(10, "{}")));
    assert_eq!(store.get_record("ctl", "a", Some(1)).await.unwrap(), Some(record(1, "{}")));
    assert_eq!(store.get_record("ctl", "b", None).await.unwrap(), None);
    assert_eq!(store.scan_records("ctl").await.unwrap().len(), 3);
    assert_eq!(stub.stats().single_calls, 0, "the catalog's own writes are no load");
    store.delete_table("ctl").await.unwrap();
}

#[tokio::test]
async fn kept_items_are_read_back() {
    let (_stub, store) = start(StubOptions { keep_items: true, ..StubOptions::default() }).await;
    store.ensure_control_table("tbl").await.unwrap();
    let items = vec![item(WriteOp::Put, 1, r#","v":{"S":"x"}"#), item(WriteOp::Put, 2, "")];
    store.batch_write(BatchWrite { table: "tbl".into(), items }).await.unwrap();
    store.batch_write(BatchWrite { table: "tbl".into(), items: vec![item(WriteOp::Delete, 2, "")] }).await.unwrap();
    let key = |sk: u32| vec![("pk".to_owned(), Attr::S("a".to_owned())), ("sk".to_owned(), Attr::N(sk.to_string()))];
    let wanted =
        GetKeys { table: "tbl".into(), keys: vec![key(1), key(2)], attributes: ["v".to_owned()].into(), strong: false };
    let done = store.batch_get(vec![wanted.clone()]).await.unwrap();
    assert_eq!(done.items[0].len(), 1);
    let one = store.get(GetKeys { keys: vec![key(1)], ..wanted }).await.unwrap().unwrap();
    assert_eq!(one, [("v".to_owned(), Attr::S("x".to_owned()))].into());
}

/// A write of the sequence `seq`, sent by itself.
async fn sequenced(store: &DynamoDb, op: WriteOp, seq: &str, rest: &str) -> Result<(), WriteError> {
    let item = item(op, 1, &format!(r#","seq":{seq}{rest}"#));
    let start = 1 + item.key_len + r#","seq":"#.len() as u32;
    let sequence = Some(Span { start, end: start + seq.len() as u32 });
    let rule = SequenceRule { attribute: "seq".into(), expiry_attribute: Some("_expires_at".into()) };
    let item = WriteItem { sequence, ..item };
    store.write_one(OneWrite { table: "tbl".into(), item, sequence: Some(rule.into()) }).await.map(|_| ())
}

#[tokio::test]
async fn conditions_and_merges_mean_what_they_mean_to_dynamodb_where_items_are_kept() {
    let (stub, store) = start(StubOptions { keep_items: true, ..StubOptions::default() }).await;
    store.ensure_control_table("tbl").await.unwrap();
    let key = vec![("pk".to_owned(), Attr::S("a".to_owned())), ("sk".to_owned(), Attr::N("1".to_owned()))];
    let wanted = GetKeys { table: "tbl".into(), keys: vec![key], attributes: [].into(), strong: false };
    let stored = async || store.get(wanted.clone()).await.unwrap().unwrap();

    sequenced(&store, WriteOp::Insert, r#"{"N":"9"}"#, r#","v":{"S":"first"}"#).await.unwrap();
    let error = sequenced(&store, WriteOp::Insert, r#"{"N":"11"}"#, "").await.unwrap_err();
    assert_eq!(error, WriteError::Condition { existing: Some(stored().await) });
    // By number, not by text.
    sequenced(&store, WriteOp::Put, r#"{"N":"10"}"#, r#","v":{"S":"second"},"w":{"N":"1"}"#).await.unwrap();
    assert!(sequenced(&store, WriteOp::Put, r#"{"N":"9"}"#, "").await.is_err());
    sequenced(&store, WriteOp::Merge, r#"{"N":"10"}"#, r#","v":{"S":"third"},"w":null"#).await.unwrap();
    let third = stored().await;
    assert_eq!((&third["v"], third.contains_key("w"), third.len()), (&Attr::S("third".to_owned()), false, 4));
    let dead = r#","_deleted":{"BOOL":true},"_expires_at":{"N":"1"}"#;
    sequenced(&store, WriteOp::Put, r#"{"N":"12"}"#, dead).await.unwrap();
    assert!(sequenced(&store, WriteOp::Insert, r#"{"N":"11"}"#, "").await.is_err());
    sequenced(&store, WriteOp::Merge, r#"{"N":"13"}"#, "").await.unwrap();
    assert_eq!(stored().await.len(), 3, "a newer merge ends a tombstone");

    let refused = stub.stats().refused;
    let unordered = WriteItem { op: WriteOp::Merge, ..item(WriteOp::Put, 2, r#","v":{"S":"x"}"#) };
    store.write_one(OneWrite { table: "tbl".into(), item: unordered, sequence: None }).await.unwrap();
    assert_eq!((stub.stats().refused, stub.stats().false_conditions), (refused, 3));
}

#[tokio::test]
async fn every_condition_holds_where_no_items_are_kept() {
    let (stub, store) = start(StubOptions::default()).await;
    for op in [WriteOp::Put, WriteOp::Insert, WriteOp::Merge] {
        sequenced(&store, op, r#"{"N":"9"}"#, "").await.unwrap();
        sequenced(&store, op, r#"{"S":"8"}"#, "").await.unwrap();
    }
    assert!(sequenced(&store, WriteOp::Merge, r#"{"N":9}"#, "").await.is_err(), "its values are read as well");
    let stats = stub.stats();
    assert_eq!((stats.puts, stats.updates, stats.refused, stats.false_conditions), (4, 2, 1, 0));
}
