//! Conditional, merging and atomic writes over the embedded DynamoDB, and the ranges that find their items.
//!
//! The emulator does one request at a time: unlike DynamoDB it never throttles, and no transaction meets another. Those
//! answers are in the store's own tests, in DynamoDB's words. Its pages also end exactly where the items do, where
//! DynamoDB may send an empty last one.

#![allow(clippy::unwrap_used, reason = "helpers of tests are tests")]

use std::sync::Arc;

use forebay::schema::table::{Ownership, TOMBSTONE_ATTRIBUTE, TOMBSTONE_EXPIRY_ATTRIBUTE};
use forebay::store::{
    Attr, CancelReason, Item, KeyAttrs, OneWrite, QueryRange, ReadError, SequenceRule, SortRange, Span, Store,
    TransactWrite, WriteDone, WriteError, WriteItem, WriteOp,
};

#[path = "common/local_store.rs"]
mod local_store;

use local_store::{Local, batch, definition, delete, key, keys, local, put};

async fn with_table() -> Local {
    let local = local().await;
    local.store.create_table(&definition("tbl")).await.unwrap();
    local
}

fn rule() -> Option<Arc<SequenceRule>> {
    let expiry_attribute = Some(TOMBSTONE_EXPIRY_ATTRIBUTE.into());
    Some(Arc::new(SequenceRule { attribute: "seq".into(), expiry_attribute }))
}

/// With the number `seq` after the key, and more attributes.
fn sequenced(op: WriteOp, n: i64, seq: &str, rest: &str) -> WriteItem {
    let item = put("k", n, &format!(r#","seq":{{"N":"{seq}"}}{rest}"#));
    let start = 1 + item.key_len + r#","seq":"#.len() as u32;
    let end = start + format!(r#"{{"N":"{seq}"}}"#).len() as u32;
    WriteItem { op, sequence: Some(Span { start, end }), ..item }
}

fn tombstone(n: i64, seq: &str) -> WriteItem {
    sequenced(WriteOp::Put, n, seq, r#","_deleted":{"BOOL":true},"_expires_at":{"N":"1900000000"}"#)
}

fn plain(op: WriteOp, n: i64, rest: &str) -> WriteItem {
    WriteItem { op, ..put("k", n, rest) }
}

async fn write(local: &Local, item: WriteItem) -> Result<WriteDone, WriteError> {
    let sequence = item.sequence.and_then(|_| rule());
    local.store.write_one(OneWrite { table: "tbl".into(), item, sequence }).await
}

/// What is stored instead, where the condition was false.
async fn existing(local: &Local, item: WriteItem) -> Item {
    match write(local, item).await {
        Err(WriteError::Condition { existing: Some(existing) }) => existing,
        other => panic!("not a false condition with what is stored: {other:?}"),
    }
}

async fn stored(local: &Local, n: i64) -> Option<Item> {
    local.store.get(keys("tbl", vec![key("k", n)], &[])).await.unwrap()
}

/// The item with the key (k, n) and these attributes.
fn item(n: i64, attributes: &[(&str, Attr)]) -> Item {
    let attributes = attributes.iter().map(|(name, value)| ((*name).to_owned(), value.clone()));
    key("k", n).into_iter().chain(attributes).collect()
}

fn number(text: &str) -> Attr {
    Attr::N(text.to_owned())
}

fn text(text: &str) -> Attr {
    Attr::S(text.to_owned())
}

#[tokio::test]
async fn an_older_sequence_never_replaces_a_newer_one() {
    let local = with_table().await;
    write(&local, sequenced(WriteOp::Put, 1, "9", r#","v":{"S":"first"}"#)).await.unwrap();
    // By number, not by text: "10" is greater than "9".
    let done = write(&local, sequenced(WriteOp::Put, 1, "10", r#","v":{"S":"second"}"#)).await.unwrap();
    assert!(done.unprocessed.is_empty() && done.write_units >= 1.0, "{done:?}");
    let newer = item(1, &[("seq", number("10")), ("v", text("second"))]);
    assert_eq!(existing(&local, sequenced(WriteOp::Put, 1, "9", r#","v":{"S":"late"}"#)).await, newer);
    assert_eq!(existing(&local, sequenced(WriteOp::Merge, 1, "9.5", r#","v":{"S":"late"}"#)).await, newer);
    assert_eq!(stored(&local, 1).await, Some(newer));
    // A repetition finds itself.
    write(&local, sequenced(WriteOp::Put, 1, "10", r#","v":{"S":"second"}"#)).await.unwrap();
    write(&local, sequenced(WriteOp::Put, 1, "1.1e1", r#","v":{"S":"third"}"#)).await.unwrap();
    assert_eq!(stored(&local, 1).await.unwrap()["v"], text("third"));
}

#[tokio::test]
async fn an_item_without_a_sequence_is_older_than_every_one() {
    let local = with_table().await;
    write(&local, plain(WriteOp::Put, 1, r#","v":{"S":"before"}"#)).await.unwrap();
    write(&local, sequenced(WriteOp::Merge, 1, "-5", "")).await.unwrap();
    assert_eq!(stored(&local, 1).await, Some(item(1, &[("seq", number("-5")), ("v", text("before"))])));
}

#[tokio::test]
async fn an_insert_takes_a_free_key_only() {
    let local = with_table().await;
    write(&local, plain(WriteOp::Insert, 1, r#","v":{"S":"mine"}"#)).await.unwrap();
    let mine = item(1, &[("v", text("mine"))]);
    assert_eq!(existing(&local, plain(WriteOp::Insert, 1, r#","v":{"S":"other"}"#)).await, mine);
    assert_eq!(stored(&local, 1).await, Some(mine));
    // Another item under the same partition key is none with this key.
    write(&local, plain(WriteOp::Insert, 2, "")).await.unwrap();
}

#[tokio::test]
async fn a_sequenced_insert_also_takes_the_place_of_a_tombstone_that_is_not_newer() {
    let local = with_table().await;
    write(&local, sequenced(WriteOp::Insert, 1, "5", "")).await.unwrap();
    // A living item stays, whatever its sequence.
    assert_eq!(existing(&local, sequenced(WriteOp::Insert, 1, "6", "")).await["seq"], number("5"));
    write(&local, tombstone(1, "7")).await.unwrap();
    let dead = existing(&local, sequenced(WriteOp::Insert, 1, "6", "")).await;
    assert_eq!((&dead["seq"], &dead[TOMBSTONE_ATTRIBUTE]), (&number("7"), &Attr::Bool(true)));
    write(&local, sequenced(WriteOp::Insert, 1, "7", r#","v":{"S":"again"}"#)).await.unwrap();
    assert_eq!(stored(&local, 1).await, Some(item(1, &[("seq", number("7")), ("v", text("again"))])));
}

#[tokio::test]
async fn a_merge_changes_what_it_names_and_leaves_the_rest() {
    let local = with_table().await;
    write(&local, plain(WriteOp::Put, 1, r#","a":{"S":"old"},"b":{"N":"1"},"select":{"N":"2"},"c":{"BOOL":true}"#))
        .await
        .unwrap();
    let merge =
        r##","a":{"S":"né\"w"},"b":null,"gone":null,"select":{"NULL":true},"d \"#\"":{"L":[{"M":{"x":{"N":"1"}}}]}"##;
    let done = write(&local, plain(WriteOp::Merge, 1, merge)).await.unwrap();
    assert!(done.write_units >= 1.0, "{done:?}");
    let deep = Attr::L(vec![Attr::M([("x".to_owned(), number("1"))].into())]);
    let merged = [("a", text("né\"w")), ("select", Attr::Null), ("c", Attr::Bool(true)), ("d \"#\"", deep)];
    assert_eq!(stored(&local, 1).await, Some(item(1, &merged)));
}

#[tokio::test]
async fn a_merge_makes_the_item_where_there_is_none() {
    let local = with_table().await;
    write(&local, plain(WriteOp::Merge, 1, r#","a":{"S":"x"}"#)).await.unwrap();
    assert_eq!(stored(&local, 1).await, Some(item(1, &[("a", text("x"))])));
    write(&local, plain(WriteOp::Merge, 2, "")).await.unwrap();
    assert_eq!(stored(&local, 2).await, Some(item(2, &[])));
    write(&local, plain(WriteOp::Merge, 3, r#","a":null"#)).await.unwrap();
    assert_eq!(stored(&local, 3).await, Some(item(3, &[])));
    write(&local, sequenced(WriteOp::Merge, 4, "1", "")).await.unwrap();
    assert_eq!(stored(&local, 4).await, Some(item(4, &[("seq", number("1"))])));
}

#[tokio::test]
async fn a_newer_merge_ends_a_tombstone_and_an_older_one_does_not() {
    let local = with_table().await;
    write(&local, tombstone(1, "5")).await.unwrap();
    let dead = existing(&local, sequenced(WriteOp::Merge, 1, "4", r#","a":{"S":"late"}"#)).await;
    assert_eq!(dead[TOMBSTONE_ATTRIBUTE], Attr::Bool(true));
    write(&local, sequenced(WriteOp::Merge, 1, "6", r#","a":{"S":"x"}"#)).await.unwrap();
    // Neither hidden nor about to expire.
    assert_eq!(stored(&local, 1).await, Some(item(1, &[("seq", number("6")), ("a", text("x"))])));
}

#[tokio::test]
async fn what_a_batch_cannot_carry_is_refused_whole() {
    let local = with_table().await;
    for op in [WriteOp::Merge, WriteOp::Insert] {
        let items = vec![put("k", 1, ""), plain(op, 2, "")];
        let error = local.store.batch_write(batch("tbl", items)).await.unwrap_err();
        let WriteError::Validation { message } = error else { panic!("{error:?}") };
        assert!(message.contains("puts and deletes without a sequence only"), "{message}");
    }
    assert_eq!(stored(&local, 1).await, None);
}

fn transaction(items: Vec<WriteItem>, token: &str) -> TransactWrite {
    let sequence = items.first().and_then(|item| item.sequence).and_then(|_| rule());
    TransactWrite { table: "tbl".into(), items, sequence, token: token.into() }
}

#[tokio::test]
async fn a_transaction_writes_every_item() {
    let local = with_table().await;
    write(&local, plain(WriteOp::Put, 3, r#","a":{"S":"old"},"b":{"N":"1"}"#)).await.unwrap();
    write(&local, plain(WriteOp::Put, 4, "")).await.unwrap();
    let items = vec![
        plain(WriteOp::Put, 1, r#","v":{"S":"p"}"#),
        plain(WriteOp::Insert, 2, r#","v":{"S":"i"}"#),
        plain(WriteOp::Merge, 3, r#","a":{"S":"m"},"b":null"#),
        WriteItem { ..delete("k", 4) },
        plain(WriteOp::Merge, 5, ""),
        plain(WriteOp::Merge, 6, r#","a":null"#),
    ];
    let done = local.store.transact_write(transaction(items, "one")).await.unwrap();
    // A transaction costs twice; a delete of little costs a unit as well.
    assert!(done.unprocessed.is_empty() && done.write_units >= 12.0, "{done:?}");
    assert_eq!(stored(&local, 1).await, Some(item(1, &[("v", text("p"))])));
    assert_eq!(stored(&local, 2).await, Some(item(2, &[("v", text("i"))])));
    assert_eq!(stored(&local, 3).await, Some(item(3, &[("a", text("m"))])));
    assert_eq!(stored(&local, 4).await, None);
    assert_eq!(stored(&local, 5).await, Some(item(5, &[])));
    assert_eq!(stored(&local, 6).await, Some(item(6, &[])));
}

#[tokio::test]
async fn one_false_condition_cancels_a_transaction_and_is_named_with_what_is_stored() {
    let local = with_table().await;
    write(&local, sequenced(WriteOp::Put, 2, "9", "")).await.unwrap();
    write(&local, sequenced(WriteOp::Put, 4, "9", "")).await.unwrap();
    let items = vec![
        sequenced(WriteOp::Put, 1, "5", ""),
        sequenced(WriteOp::Merge, 2, "5", r#","a":{"S":"late"}"#),
        sequenced(WriteOp::Merge, 3, "5", ""),
        sequenced(WriteOp::Insert, 4, "10", ""),
    ];
    let error = local.store.transact_write(transaction(items, "two")).await.unwrap_err();
    let condition = |n| CancelReason::Condition { existing: Some(item(n, &[("seq", number("9"))])) };
    let reasons = vec![CancelReason::None, condition(2), CancelReason::None, condition(4)];
    assert_eq!(error, WriteError::Cancelled { reasons });
    assert_eq!((stored(&local, 1).await, stored(&local, 3).await), (None, None));
}

#[tokio::test]
async fn a_transaction_sent_again_with_its_token_is_done_once() {
    let local = with_table().await;
    let insert = |v: &str| vec![plain(WriteOp::Insert, 1, &format!(r#","v":{{"S":"{v}"}}"#))];
    local.store.transact_write(transaction(insert("x"), "token")).await.unwrap();
    // Without the token the insert would find itself there.
    local.store.transact_write(transaction(insert("x"), "token")).await.unwrap();
    let error = local.store.transact_write(transaction(insert("x"), "another")).await.unwrap_err();
    assert!(matches!(error, WriteError::Cancelled { .. }), "{error:?}");
    // What was written since is not written over.
    write(&local, plain(WriteOp::Put, 1, r#","v":{"S":"newer"}"#)).await.unwrap();
    local.store.transact_write(transaction(insert("x"), "token")).await.unwrap();
    assert_eq!(stored(&local, 1).await.unwrap()["v"], text("newer"));
    let error = local.store.transact_write(transaction(insert("other"), "token")).await.unwrap_err();
    assert!(matches!(error, WriteError::Validation { .. }), "{error:?}");
}

#[tokio::test]
async fn a_delete_without_a_sequence_needs_no_item() {
    let local = with_table().await;
    write(&local, delete("k", 1)).await.unwrap();
    write(&local, plain(WriteOp::Put, 1, "")).await.unwrap();
    write(&local, delete("k", 1)).await.unwrap();
    assert_eq!(stored(&local, 1).await, None);
}

#[tokio::test]
async fn a_table_that_does_not_exist_is_named_by_every_kind_of_write() {
    let local = local().await;
    let missing = WriteError::TableMissing { table: "tbl".to_owned() };
    for op in [WriteOp::Put, WriteOp::Insert, WriteOp::Merge, WriteOp::Delete] {
        let item = if op == WriteOp::Delete { delete("k", 1) } else { plain(op, 1, r#","v":{"N":"1"}"#) };
        assert_eq!(write(&local, item.clone()).await, Err(missing.clone()), "{op:?}");
        assert_eq!(local.store.transact_write(transaction(vec![item], "t")).await, Err(missing.clone()), "{op:?}");
    }
}

fn all_of(id: &str) -> QueryRange {
    QueryRange {
        table: "tbl".into(),
        partition: ("id".to_owned(), text(id)),
        sort: None,
        attributes: Arc::new([]),
        strong: true,
        descending: false,
        limit: None,
        after: None,
    }
}

fn between(from: Option<&str>, to: Option<&str>) -> Option<SortRange> {
    Some(SortRange { attribute: "n".to_owned(), from: from.map(number), to: to.map(number) })
}

/// The sort keys of all pages, and how many pages there were.
async fn sort_keys(local: &Local, mut range: QueryRange) -> (Vec<i64>, usize) {
    let (mut found, mut pages) = (Vec::new(), 0);
    loop {
        let page = local.store.query(range.clone()).await.unwrap();
        pages += 1;
        found.extend(page.items.iter().map(|item| match &item["n"] {
            Attr::N(n) => n.parse::<i64>().unwrap(),
            other => panic!("{other:?}"),
        }));
        match page.next {
            Some(next) => range.after = Some(next),
            None => return (found, pages),
        }
    }
}

#[tokio::test]
async fn a_range_is_read_in_order_both_ways_and_page_by_page() {
    let local = with_table().await;
    let items = (-3..=12).map(|n| put("k", n, r#","v":{"S":"x"},"select":{"N":"1"}"#)).collect();
    local.store.batch_write(batch("tbl", items)).await.unwrap();
    local.store.batch_write(batch("tbl", vec![put("other", 5, "")])).await.unwrap();

    assert_eq!(sort_keys(&local, all_of("k")).await.0, (-3..=12).collect::<Vec<_>>());
    assert_eq!(sort_keys(&local, all_of("nobody")).await, (vec![], 1));
    let bounded = |from, to| QueryRange { sort: between(from, to), ..all_of("k") };
    assert_eq!(sort_keys(&local, bounded(Some("9"), Some("11"))).await.0, [9, 10, 11]);
    assert_eq!(sort_keys(&local, bounded(Some("10"), None)).await.0, [10, 11, 12]);
    assert_eq!(sort_keys(&local, bounded(None, Some("-2"))).await.0, [-3, -2]);
    assert_eq!(sort_keys(&local, bounded(None, None)).await.0.len(), 16);

    let paged = QueryRange { limit: Some(4), ..bounded(Some("0"), Some("9")) };
    let (found, pages) = sort_keys(&local, paged.clone()).await;
    assert_eq!((found, pages), ((0..=9).collect::<Vec<_>>(), 3));
    let (found, pages) = sort_keys(&local, QueryRange { descending: true, ..paged }).await;
    assert_eq!((found, pages), ((0..=9).rev().collect::<Vec<_>>(), 3));
}

#[tokio::test]
async fn a_range_returns_the_attributes_that_were_asked_for() {
    let local = with_table().await;
    local.store.batch_write(batch("tbl", vec![put("k", 1, r#","v":{"S":"x"},"select":{"N":"1"}"#)])).await.unwrap();
    let attributes: Arc<[String]> = ["id", "n", "select"].map(str::to_owned).into();
    let page = local.store.query(QueryRange { attributes, ..all_of("k") }).await.unwrap();
    assert_eq!(page.items, [item(1, &[("select", number("1"))])]);
    assert_eq!(page.next, None::<KeyAttrs>);
}

#[tokio::test]
async fn a_range_of_a_missing_table_or_with_a_wrong_bound_is_refused() {
    let local = with_table().await;
    let error = local.store.query(QueryRange { table: "none".into(), ..all_of("k") }).await.unwrap_err();
    assert_eq!(error, ReadError::TableMissing { table: "none".to_owned() });
    let sort = Some(SortRange { attribute: "n".to_owned(), from: Some(text("a")), to: None });
    let error = local.store.query(QueryRange { sort, ..all_of("k") }).await.unwrap_err();
    assert!(matches!(error, ReadError::Validation { .. }), "{error:?}");
}

/// The attribute by which the store expires the table's items.
async fn expiry_attribute(local: &Local, table: &str) -> Option<String> {
    let config = aws_sdk_dynamodb::Config::builder()
        .behavior_version_latest()
        .endpoint_url(local.embedded.endpoint_url())
        .region(aws_sdk_dynamodb::config::Region::from_static("us-east-1"))
        .credentials_provider(aws_credential_types::Credentials::new("id", "secret", None, None, "test"))
        .build();
    let client = aws_sdk_dynamodb::Client::from_conf(config);
    let answer = client.describe_time_to_live().table_name(table).send().await.unwrap();
    answer.time_to_live_description?.attribute_name
}

#[tokio::test]
async fn a_table_of_ours_with_a_sequence_expires_its_tombstones() {
    let local = local().await;
    let create = |name: &str| {
        let mut table = definition(name);
        table.sequence_by = Some("n".to_owned());
        table
    };
    local.store.create_table(&create("ours")).await.unwrap();
    assert_eq!(expiry_attribute(&local, "ours").await.as_deref(), Some(TOMBSTONE_EXPIRY_ATTRIBUTE));
    // Done again after a crash, it stays.
    local.store.complete_table(&create("ours")).await.unwrap();

    let mut by_column = create("column");
    by_column.ttl_column = Some("until".to_owned());
    local.store.create_table(&by_column).await.unwrap();
    assert_eq!(expiry_attribute(&local, "column").await.as_deref(), Some("until"));

    let mut bound = create("bound");
    bound.ownership = Ownership::Bound;
    local.store.create_table(&bound).await.unwrap();
    assert_eq!(expiry_attribute(&local, "bound").await, None);
    local.store.create_table(&definition("unordered")).await.unwrap();
    assert_eq!(expiry_attribute(&local, "unordered").await, None);
}
