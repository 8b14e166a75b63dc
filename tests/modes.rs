//! What rows do, over real TCP against the embedded store: merges, inserts, operations by row, and tables that keep the row
//! with the greatest sequence whatever the order of arrival.

#![allow(clippy::unwrap_used, reason = "helpers of tests are tests")]

#[path = "common/gateway.rs"]
mod gateway;

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use forebay::client::{self, Client, OpenOptions, Outcome, Receipt};
use forebay::proto::v1::{self, RowReason, RowStatus, WriteMode};
use forebay::server::Gateway;
use forebay::store::dynamodb::DynamoDb;
use forebay::store::embedded::Embedded;
use forebay::store::{Attr, GetKeys, Item, Store as _};
use gateway::{get, int, null, rows, settings, text};

/// A gateway over an embedded store that the test can look into.
struct Bed {
    client: Client,
    store: Arc<DynamoDb>,
    _gateway: Gateway,
    _embedded: Embedded,
}

impl Bed {
    async fn start() -> Self {
        let embedded = Embedded::start(None).unwrap();
        let store = Arc::new(DynamoDb::connect(&embedded.store_config()).await.unwrap());
        let gateway = Gateway::start_with_store(settings(|_| {}), store.clone()).await.unwrap();
        let client = client::connect(&gateway.endpoint()).unwrap();
        Self { client, store, _gateway: gateway, _embedded: embedded }
    }

    async fn table(&self, ddl: &str, change: impl FnOnce(&mut v1::Table)) {
        let key = v1::Key { partition: vec!["id".to_owned()], ..v1::Key::default() };
        let mut table =
            v1::Table { name: "rows".to_owned(), ddl: ddl.to_owned(), key: Some(key), ..v1::Table::default() };
        change(&mut table);
        self.client.tables().apply(table, false).await.unwrap();
    }

    /// A table that keeps the row with the greatest `v`.
    async fn ordered(&self) {
        self.table(ORDERED, |table| table.sequence_by = "v".to_owned()).await;
    }

    async fn write(&self, options: OpenOptions, batch: v1::RowBatch) -> (Receipt, Vec<Outcome>) {
        let mut writer = self.client.writer(options).await.unwrap();
        writer.send_rows(batch).await.unwrap();
        let outcomes = writer.outcomes();
        (writer.finish().await.unwrap(), outcomes.take())
    }

    async fn row(&self, id: &str) -> Option<Vec<v1::Value>> {
        get(&self.client, "rows", vec![text(id)]).await
    }

    /// The item as it is stored.
    async fn item(&self, id: &str) -> Option<Item> {
        let keys = vec![vec![("id".to_owned(), Attr::S(id.to_owned()))]];
        self.store.get(GetKeys { table: "rows".into(), keys, attributes: Arc::new([]), strong: true }).await.unwrap()
    }
}

const ORDERED: &str = "id STRING NOT NULL, v BIGINT NOT NULL, a BIGINT, b STRING";

/// A session whose rows carry these columns.
fn columns(ddl: &str) -> OpenOptions {
    let schema = forebay::schema::ddl::parse(ddl).unwrap();
    OpenOptions::new("rows").columns(forebay::api::convert::schema_to_proto(&schema))
}

fn reasons(outcomes: &[Outcome]) -> Vec<(usize, RowStatus, RowReason)> {
    outcomes.iter().map(|outcome| (outcome.row, outcome.status, outcome.reason)).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_merge_changes_the_columns_that_it_carries_and_no_others() {
    let bed = Bed::start().await;
    bed.table("id STRING NOT NULL, a BIGINT, b STRING, c BIGINT DEFAULT 7", |_| {}).await;
    bed.write(OpenOptions::new("rows"), rows([vec![text("k"), int(1), text("one"), int(1)]])).await;
    let merge = || columns("b STRING, id STRING").mode(WriteMode::Merge);
    let (receipt, _) = bed.write(merge(), rows([vec![text("two"), text("k")], vec![text("new"), text("other")]])).await;
    assert_eq!(receipt.committed_rows, 2);
    assert_eq!(bed.row("k").await, Some(vec![text("k"), int(1), text("two"), int(1)]));
    assert_eq!(
        bed.row("other").await,
        Some(vec![text("other"), null(), text("new"), null()]),
        "it makes what is not there"
    );

    bed.write(merge(), rows([vec![null(), text("k")]])).await;
    assert_eq!(bed.row("k").await, Some(vec![text("k"), int(1), null(), int(1)]), "a null removes");
    assert!(!bed.item("k").await.unwrap().contains_key("b"));

    let with_defaults = merge().open(|open| open.on_missing = v1::OnMissing::Default.into());
    bed.write(with_defaults, rows([vec![text("three"), text("k")]])).await;
    assert_eq!(bed.row("k").await, Some(vec![text("k"), null(), text("three"), int(7)]));
    // Merges of one key in a row end as they would one after the other.
    let many = rows((0..50).map(|n| vec![if n % 2 == 0 { text(format!("b{n}")) } else { null() }, text("k")]));
    let (receipt, _) = bed.write(merge(), many).await;
    assert_eq!(receipt.committed_rows + receipt.superseded_rows, 50);
    assert_eq!(bed.row("k").await, Some(vec![text("k"), null(), null(), int(7)]));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_insert_never_changes_what_is_there() {
    let bed = Bed::start().await;
    bed.table("id STRING NOT NULL, a BIGINT", |_| {}).await;
    let insert = || OpenOptions::new("rows").mode(WriteMode::Insert);
    bed.write(insert(), rows([vec![text("k"), int(1)]])).await;
    let (receipt, outcomes) = bed.write(insert(), rows([vec![text("k"), int(2)], vec![text("new"), int(2)]])).await;
    assert_eq!((receipt.committed_rows, receipt.rejected_rows), (1, 1));
    assert_eq!(reasons(&outcomes), [(0, RowStatus::Rejected, RowReason::AlreadyExists)]);
    assert_eq!(bed.row("k").await, Some(vec![text("k"), int(1)]));
    // Sent again after a lost ack, the same row is no other's.
    let (receipt, _) = bed.write(insert(), rows([vec![text("k"), int(1)]])).await;
    assert_eq!((receipt.committed_rows, receipt.rejected_rows), (1, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn each_row_of_a_feed_of_changes_does_its_own() {
    let bed = Bed::start().await;
    bed.table("id STRING NOT NULL, a BIGINT, b STRING", |_| {}).await;
    bed.write(OpenOptions::new("rows"), rows(["m", "d", "i"].map(|id| vec![text(id), int(1), text("old")]))).await;
    let feed = columns("op STRING, id STRING, a BIGINT, b STRING").op_column("op");
    let change = |op: &str, id: &str, a: i64, b: v1::Value| vec![text(op), text(id), int(a), b];
    let changes = rows([
        change("put", "p", 2, text("new")),
        change("Merge", "m", 2, null()),
        change("DELETE", "d", 0, null()),
        change("insert", "i", 2, text("new")),
        change("replace", "x", 2, text("new")),
        vec![null(), text("y"), int(2), null()],
        change("put", "p", 3, text("newer")),
    ]);
    let (receipt, outcomes) = bed.write(feed, changes).await;
    let rejected = RowStatus::Rejected;
    assert_eq!(
        reasons(&outcomes),
        [
            (3, rejected, RowReason::AlreadyExists),
            (4, rejected, RowReason::OutOfRange),
            (5, rejected, RowReason::NullNotAllowed),
        ]
    );
    assert_eq!((&*outcomes[1].field_path, &*outcomes[1].hint), ("op", "send put, merge, insert or delete"));
    assert_eq!(receipt.rejected_rows, 3);
    assert_eq!(bed.row("p").await, Some(vec![text("p"), int(3), text("newer")]));
    assert_eq!(bed.row("m").await, Some(vec![text("m"), int(2), null()]));
    assert_eq!(bed.row("d").await, None);
    assert_eq!(bed.row("i").await, Some(vec![text("i"), int(1), text("old")]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_feed_may_add_columns_but_never_its_operations() {
    let bed = Bed::start().await;
    bed.table("id STRING NOT NULL", |_| {}).await;
    let feed = columns("op STRING, id STRING, extra BIGINT").op_column("op");
    let feed = feed.open(|open| open.evolve = v1::Evolve::AddColumns.into());
    bed.write(feed, rows([vec![text("put"), text("k"), int(1)]])).await;
    assert_eq!(bed.row("k").await, Some(vec![text("k"), int(1)]));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_greatest_sequence_wins_whatever_comes_last() {
    let bed = Bed::start().await;
    bed.ordered().await;
    let put = |v: i64, a: i64| vec![text("k"), int(v), int(a), null()];
    bed.write(OpenOptions::new("rows"), rows([put(5, 50)])).await;
    let (receipt, outcomes) = bed.write(OpenOptions::new("rows"), rows([put(4, 40)])).await;
    assert_eq!((receipt.committed_rows, receipt.superseded_rows, outcomes.len()), (0, 1, 0));
    assert_eq!(bed.row("k").await, Some(put(5, 50)));
    bed.write(OpenOptions::new("rows"), rows([put(5, 55)])).await;
    assert_eq!(bed.row("k").await, Some(put(5, 55)), "an equal one applies again");
    bed.write(OpenOptions::new("rows"), rows([put(9, 90), put(7, 70), put(8, 80)])).await;
    assert_eq!(bed.row("k").await, Some(put(9, 90)), "within a batch, too");

    let merge = || columns("id STRING, v BIGINT, b STRING").mode(WriteMode::Merge);
    let (receipt, outcomes) = bed.write(merge(), rows([vec![text("k"), int(8), text("late")]])).await;
    assert_eq!(reasons(&outcomes), [(0, RowStatus::Superseded, RowReason::StaleMerge)]);
    assert_eq!((receipt.superseded_rows, receipt.committed_rows, receipt.rejected_rows), (1, 0, 0));
    bed.write(merge(), rows([vec![text("k"), int(10), text("in time")]])).await;
    assert_eq!(bed.row("k").await, Some(vec![text("k"), int(10), int(90), text("in time")]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_delete_hides_older_rows_and_newer_ones_come_back() {
    let bed = Bed::start().await;
    bed.ordered().await;
    let delete = || columns("id STRING, v BIGINT").mode(WriteMode::Delete);
    let put = |id: &str, v: i64| vec![text(id), int(v), int(v), text("x")];
    bed.write(OpenOptions::new("rows"), rows(["k", "m", "i"].map(|id| put(id, 5)))).await;
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    bed.write(delete(), rows(["k", "m", "i", "never"].map(|id| vec![text(id), int(7)]))).await;
    assert_eq!(bed.row("k").await, None);
    let tombstone = bed.item("k").await.unwrap();
    let Attr::N(expiry) = &tombstone["_expires_at"] else { panic!("{tombstone:?}") };
    let week = 7 * 86_400;
    assert!((now + week..now + week + 60).contains(&expiry.parse().unwrap()), "{expiry} for {now}");
    let mut names: Vec<_> = tombstone.keys().map(String::as_str).collect();
    names.sort_unstable();
    assert_eq!(names, ["_deleted", "_expires_at", "id", "v"]);

    let older = rows([put("k", 6), put("never", 6)]);
    let (receipt, _) = bed.write(OpenOptions::new("rows"), older).await;
    assert_eq!((receipt.superseded_rows, bed.row("k").await, bed.row("never").await), (2, None, None));
    let insert = || OpenOptions::new("rows").mode(WriteMode::Insert);
    bed.write(insert(), rows([put("i", 6)])).await;
    assert_eq!(bed.row("i").await, None);

    bed.write(OpenOptions::new("rows"), rows([put("k", 8)])).await;
    bed.write(insert(), rows([put("i", 8)])).await;
    let merge = columns("id STRING, v BIGINT, b STRING").mode(WriteMode::Merge);
    bed.write(merge, rows([vec![text("m"), int(8), text("back")]])).await;
    assert_eq!(bed.row("k").await, Some(put("k", 8)));
    assert_eq!(bed.row("i").await, Some(put("i", 8)));
    assert_eq!(bed.row("m").await, Some(vec![text("m"), int(8), null(), text("back")]), "nothing of the deleted row");
    for id in ["k", "i", "m"] {
        let item = bed.item(id).await.unwrap();
        assert!(!item.contains_key("_deleted") && !item.contains_key("_expires_at"), "{item:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn tombstones_expire_by_the_tables_own_ttl_column() {
    let bed = Bed::start().await;
    bed.table(&format!("{ORDERED}, until TIMESTAMP"), |table| {
        table.sequence_by = "v".to_owned();
        table.ttl_column = "until".to_owned();
        table.tombstone_retention = Some(prost_types::Duration { seconds: 7200, nanos: 0 });
    })
    .await;
    bed.write(columns("id STRING, v BIGINT").mode(WriteMode::Delete), rows([vec![text("k"), int(7)]])).await;
    let tombstone = bed.item("k").await.unwrap();
    let Attr::N(expiry) = &tombstone["until"] else { panic!("{tombstone:?}") };
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    assert!(expiry.parse::<u64>().unwrap().abs_diff(now + 7200) < 60);
    assert!(!tombstone.contains_key("_expires_at"));
    let merge = |ddl: &str| columns(ddl).mode(WriteMode::Merge);
    let error = bed.client.writer(merge("id STRING, v BIGINT, b STRING")).await.unwrap_err().to_string();
    assert!(error.contains("must carry its TTL column `until`"), "{error}");
    let row = rows([vec![text("k"), int(8), null()]]);
    bed.write(merge("id STRING, v BIGINT, until TIMESTAMP"), row).await;
    assert!(bed.row("k").await.is_some());
    assert!(!bed.item("k").await.unwrap().contains_key("until"), "the row does not expire with its tombstone");
}

#[tokio::test(flavor = "multi_thread")]
async fn replays_and_zombies_change_nothing() {
    let bed = Bed::start().await;
    bed.ordered().await;
    let feed = || columns("op STRING, id STRING, v BIGINT, a BIGINT, b STRING").op_column("op");
    // Puts and deletes of ten keys; the state is that of each key's last change.
    let change = |v: i64| {
        let op = if v % 7 == 0 { "delete" } else { "put" };
        vec![text(op), text(format!("k{}", v % 10)), int(v), int(v * 10), null()]
    };
    let history: Vec<Vec<v1::Value>> = (1..=200).map(change).collect();
    let expected = |key: i64| {
        let last = (1..=200).rev().find(|v| v % 10 == key).unwrap();
        (last % 7 != 0).then(|| vec![text(format!("k{key}")), int(last), int(last * 10), null()])
    };
    // The whole, then the attempt of a zombie in another order beside a replay of the end.
    bed.write(feed(), rows(history.clone())).await;
    let backwards = rows(history.iter().rev().cloned());
    let end = rows(history[150..].iter().cloned());
    tokio::join!(bed.write(feed(), backwards), bed.write(feed(), end), bed.write(feed(), rows(history.clone())));
    for key in 0..10 {
        assert_eq!(bed.row(&format!("k{key}")).await, expected(key), "k{key}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_definition_of_an_ordered_table_is_checked_and_kept() {
    let bed = Bed::start().await;
    bed.ordered().await;
    let table = bed.client.tables().get("rows").await.unwrap().table.unwrap();
    assert_eq!(table.sequence_by, "v");
    let unordered = v1::Table { sequence_by: String::new(), ..table.clone() };
    let error = bed.client.tables().apply(unordered, false).await.unwrap_err().to_string();
    assert!(error.contains("sequence_by"), "{error}");
    let key = v1::Key { partition: vec!["id".to_owned()], ..v1::Key::default() };
    let ddl = "id STRING NOT NULL, v DOUBLE NOT NULL".to_owned();
    let other = v1::Table { name: "other".to_owned(), ddl, key: Some(key), ..table };
    let other = v1::Table { schema: None, ..other };
    let error = bed.client.tables().apply(other, false).await.unwrap_err().to_string();
    assert!(error.contains("whose stored form sorts, not double"), "{error}");
    let writer = bed.client.writer(columns("id STRING, a BIGINT")).await;
    let error = writer.unwrap_err().to_string();
    assert!(error.contains("by which the table `rows` orders writes"), "{error}");
}
