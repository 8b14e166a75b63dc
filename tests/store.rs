//! The store over the embedded DynamoDB: what is written is read back, tables come and go, a folder keeps its rows.

#![allow(clippy::unwrap_used, reason = "helpers of tests are tests")]

use std::sync::Arc;

use bytes::Bytes;
use forebay::schema::table::{KeyAttribute, KeyAttributeType};
use forebay::store::dynamodb::DynamoDb;
use forebay::store::embedded::{Embedded, EmbeddedError};
use forebay::store::{
    Attr, ControlError, ControlRecord, Item, KeyAttrs, OneWrite, ReadError, Store, WriteError, WriteItem, WriteOp,
};

#[path = "common/local_store.rs"]
mod local_store;

use local_store::{batch, definition, delete, key, keys, local, put};

#[tokio::test]
async fn every_kind_of_value_is_read_back_as_it_was_written() {
    let local = local().await;
    let store = &local.store;
    store.create_table(&definition("tbl")).await.unwrap();
    let rest = r#","s":{"S":"é\n\"\\ \ud83d\ude00\u0001"},"num":{"N":"-12345678901234567890.5"},"b":{"B":"AAECAw=="},
        "yes":{"BOOL":true},"none":{"NULL":true},"empty":{"S":""},
        "l":{"L":[{"N":"1"},{"L":[]},{"M":{"deep":{"L":[{"M":{"x":{"S":"y"}}}]}}}]},
        "m":{"M":{"":{"S":"empty name"},"select":{"N":"2"}}},
        "ss":{"SS":["a","b"]},"ns":{"NS":["1"]},"bs":{"BS":["AQ=="]}"#;
    let done = store.batch_write(batch("tbl", vec![put("k", 1, rest), put("gone", 2, "")])).await;
    let done = match done {
        Ok(done) => done,
        // The emulator refuses an empty map key, as some Regions do: without it the rest must pass.
        Err(WriteError::Validation { .. }) => {
            let rest = rest.replace(r#""":{"S":"empty name"},"#, "");
            store.batch_write(batch("tbl", vec![put("k", 1, &rest), put("gone", 2, "")])).await.unwrap()
        }
        Err(error) => panic!("{error}"),
    };
    assert!(done.unprocessed.is_empty());
    assert!(done.write_units >= 2.0);
    store.batch_write(batch("tbl", vec![delete("gone", 2), put("k", 3, r#","v":{"N":"7"}"#)])).await.unwrap();
    store.write_one(OneWrite { table: "tbl".into(), item: put("single", 4, ""), sequence: None }).await.unwrap();
    store.write_one(OneWrite { table: "tbl".into(), item: delete("k", 3), sequence: None }).await.unwrap();

    let item = store.get(keys("tbl", vec![key("k", 1)], &[])).await.unwrap().unwrap();
    assert_eq!(item["s"], Attr::S("é\n\"\\ 😀\u{1}".to_owned()));
    assert_eq!(item["num"], Attr::N("-12345678901234567890.5".to_owned()));
    assert_eq!(item["b"], Attr::B(Bytes::from_static(&[0, 1, 2, 3])));
    assert_eq!(
        (&item["yes"], &item["none"], &item["empty"]),
        (&Attr::Bool(true), &Attr::Null, &Attr::S(String::new()))
    );
    let deep = Attr::M(Item::from([(
        "deep".to_owned(),
        Attr::L(vec![Attr::M(Item::from([("x".to_owned(), Attr::S("y".to_owned()))]))]),
    )]));
    assert_eq!(item["l"], Attr::L(vec![Attr::N("1".to_owned()), Attr::L(vec![]), deep]));
    assert_eq!(item["ns"], Attr::Ns(vec!["1".to_owned()]));
    assert_eq!(item["bs"], Attr::Bs(vec![Bytes::from_static(&[1])]));

    // `select` is a reserved word, were it not for the names beside the expression.
    let some = store.get(keys("tbl", vec![key("k", 1)], &["id", "n", "yes", "select"])).await.unwrap().unwrap();
    assert_eq!(some.len(), 3);

    let wanted = vec![key("gone", 2), key("k", 1), key("k", 3), key("single", 4)];
    let done = store.batch_get(vec![keys("tbl", wanted, &["id", "n"])]).await.unwrap();
    let mut found: Vec<_> = done.items[0].iter().map(|item| format!("{:?}", item["id"])).collect();
    found.sort();
    assert_eq!(found, [r#"S("k")"#, r#"S("single")"#]);
    assert_eq!(done.unprocessed, [Vec::<usize>::new()]);
}

#[tokio::test]
async fn a_table_is_created_described_and_deleted() {
    let local = local().await;
    let store = &local.store;
    assert_eq!(store.describe_table("tbl").await.unwrap(), None);
    let mut definition = definition("tbl");
    definition.ttl_column = Some("until".to_owned());
    definition.dynamodb.tags.insert("team".to_owned(), "ml".to_owned());
    definition.dynamodb.stream_view = Some(forebay::schema::table::StreamView::KeysOnly);
    store.create_table(&definition).await.unwrap();
    let described = store.describe_table("tbl").await.unwrap().unwrap();
    assert_eq!(described.partition, KeyAttribute { name: "id".to_owned(), kind: KeyAttributeType::S });
    assert_eq!(described.sort, Some(KeyAttribute { name: "n".to_owned(), kind: KeyAttributeType::N }));
    assert!(described.active && !described.deletion_protection);

    let exists = ControlError::TableExists { table: "tbl".to_owned() };
    assert_eq!(store.create_table(&definition).await, Err(exists));
    store.delete_table("tbl").await.unwrap();
    assert_eq!(store.describe_table("tbl").await.unwrap(), None);
    let missing = ControlError::TableMissing { table: "tbl".to_owned() };
    assert_eq!(store.delete_table("tbl").await, Err(missing));
}

#[tokio::test]
async fn a_protected_table_says_so_and_is_not_deleted() {
    let local = local().await;
    let mut definition = definition("tbl");
    definition.dynamodb.deletion_protection = true;
    local.store.create_table(&definition).await.unwrap();
    assert!(local.store.describe_table("tbl").await.unwrap().unwrap().deletion_protection);
    let error = local.store.delete_table("tbl").await.unwrap_err();
    assert!(matches!(error, ControlError::Refused { .. }), "{error:?}");
    assert!(local.store.describe_table("tbl").await.unwrap().is_some());
}

#[tokio::test]
async fn a_missing_table_and_a_wrong_key_are_told_apart() {
    let local = local().await;
    let store = &local.store;
    let missing = WriteError::TableMissing { table: "nowhere".to_owned() };
    assert_eq!(store.batch_write(batch("nowhere", vec![put("a", 1, "")])).await, Err(missing.clone()));
    assert_eq!(
        store.write_one(OneWrite { table: "nowhere".into(), item: delete("a", 1), sequence: None }).await,
        Err(missing)
    );
    let missing = ReadError::TableMissing { table: "nowhere".to_owned() };
    assert_eq!(store.get(keys("nowhere", vec![key("a", 1)], &[])).await, Err(missing));
    assert_eq!(store.check_access("nowhere").await, Ok(()));

    store.create_table(&definition("tbl")).await.unwrap();
    let wrong = WriteItem::new(WriteOp::Put, Bytes::from_static(br#"{"id":{"S":"a"}}"#), 14);
    let error = store.batch_write(batch("tbl", vec![wrong])).await.unwrap_err();
    assert!(matches!(error, WriteError::Validation { .. }), "{error:?}");
}

#[tokio::test]
async fn a_control_record_is_never_put_over_another_that_came_first() {
    let local = local().await;
    let store = &local.store;
    let record = |pk: &str, sk, body: &str| ControlRecord { pk: pk.to_owned(), sk, body: body.to_owned() };
    let missing = ControlError::TableMissing { table: "ctl".to_owned() };
    assert_eq!(store.get_record("ctl", "a", None).await, Err(missing));
    store.ensure_control_table("ctl").await.unwrap();
    store.ensure_control_table("ctl").await.unwrap();

    for (sk, body) in [(1, "one"), (2, "two"), (10, "ten")] {
        store.put_record("ctl", record("a", sk, body), true).await.unwrap();
    }
    assert_eq!(store.put_record("ctl", record("a", 2, "other"), true).await, Err(ControlError::Conflict));
    store.put_record("ctl", record("b", u64::MAX, "{}"), false).await.unwrap();
    store.put_record("ctl", record("a", 1, "uno"), false).await.unwrap();

    assert_eq!(store.get_record("ctl", "a", None).await.unwrap(), Some(record("a", 10, "ten")));
    assert_eq!(store.get_record("ctl", "a", Some(2)).await.unwrap(), Some(record("a", 2, "two")));
    assert_eq!(store.get_record("ctl", "a", Some(3)).await.unwrap(), None);
    assert_eq!(store.get_record("ctl", "z", None).await.unwrap(), None);
    let mut all = store.scan_records("ctl").await.unwrap();
    all.sort_by(|left, right| (&left.pk, left.sk).cmp(&(&right.pk, right.sk)));
    let expected = [record("a", 1, "uno"), record("a", 2, "two"), record("a", 10, "ten"), record("b", u64::MAX, "{}")];
    assert_eq!(all, expected);
}

#[tokio::test]
async fn all_records_are_scanned_page_by_page() {
    let local = local().await;
    local.store.ensure_control_table("ctl").await.unwrap();
    // Four records of 300 KB do not fit in one page of 1 MB.
    let body = Arc::new("x".repeat(300_000));
    for sk in 1..=4 {
        let record = ControlRecord { pk: "a".to_owned(), sk, body: body.to_string() };
        local.store.put_record("ctl", record, true).await.unwrap();
    }
    let mut found: Vec<u64> = local.store.scan_records("ctl").await.unwrap().iter().map(|record| record.sk).collect();
    found.sort_unstable();
    assert_eq!(found, [1, 2, 3, 4]);
}

#[tokio::test]
async fn a_table_that_is_no_control_table_is_refused_as_one() {
    let local = local().await;
    local.store.create_table(&definition("tbl")).await.unwrap();
    let error = local.store.ensure_control_table("tbl").await.unwrap_err();
    assert!(error.to_string().contains("is no control table"), "{error}");
}

#[tokio::test]
async fn a_folder_keeps_its_rows_over_a_restart_and_belongs_to_one_store_at_a_time() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("made/here");
    let embedded = Embedded::start(Some(&path)).unwrap();
    let store = DynamoDb::connect(&embedded.store_config()).await.unwrap();
    store.create_table(&definition("tbl")).await.unwrap();
    for first in (0..100).step_by(25) {
        let items = (first..first + 25).map(|n| put("a", n, r#","v":{"S":"kept"}"#)).collect();
        store.batch_write(batch("tbl", items)).await.unwrap();
    }
    let error = Embedded::start(Some(&path)).unwrap_err();
    assert!(matches!(error, EmbeddedError::InUse { .. }), "{error}");

    drop(embedded);
    let embedded = Embedded::start(Some(&path)).unwrap();
    let store = DynamoDb::connect(&embedded.store_config()).await.unwrap();
    let all = (0..100).map(|n| key("a", n)).collect();
    let done = store.batch_get(vec![keys("tbl", all, &[])]).await.unwrap();
    assert_eq!(done.items[0].len(), 100);
    assert!(done.items[0].iter().all(|item| item["v"] == Attr::S("kept".to_owned())));
}

#[test]
fn a_folder_that_cannot_be_used_is_named_with_the_reason() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    std::fs::write(&file, "not a folder").unwrap();
    let error = Embedded::start(Some(&file)).unwrap_err().to_string();
    assert!(error.contains(file.to_str().unwrap()), "{error}");

    let broken = folder.path().join("broken");
    std::fs::create_dir(&broken).unwrap();
    std::fs::write(broken.join("forebay.db"), "this is no database at all, not even a short one".repeat(100)).unwrap();
    let error = Embedded::start(Some(&broken)).unwrap_err();
    assert!(matches!(error, EmbeddedError::Database { .. }), "{error}");
}

#[tokio::test]
async fn an_embedded_store_stops_at_once_although_its_clients_stay_connected() {
    let embedded = Embedded::start(None).unwrap();
    let store = DynamoDb::connect(&embedded.store_config()).await.unwrap();
    store.ensure_control_table("ctl").await.unwrap();
    let began = tokio::time::Instant::now();
    drop(embedded);
    assert!(began.elapsed() < std::time::Duration::from_secs(3), "{:?}", began.elapsed());
    assert!(store.check_access("ctl").await.is_err());
}

/// A child process that runs one ignored test of this file.
fn run_alone(test: &str) -> std::process::Command {
    let mut command = std::process::Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", test, "--ignored", "--nocapture"]);
    command
}

#[test]
fn a_proxy_in_the_environment_is_not_asked_for_this_machine() {
    let mut child = run_alone("uses_an_embedded_store");
    for name in ["HTTP_PROXY", "http_proxy", "ALL_PROXY"] {
        child.env(name, "http://127.0.0.1:1");
    }
    let output = child.env_remove("NO_PROXY").env_remove("no_proxy").output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
}

#[tokio::test]
#[ignore = "the process that `a_proxy_in_the_environment_is_not_asked_for_this_machine` starts"]
async fn uses_an_embedded_store() {
    local().await.store.ensure_control_table("ctl").await.unwrap();
}

/// Names the folder for [`writes_until_it_is_killed`].
const KILLED_IN: &str = "FOREBAY_TEST_KILLED_IN";

#[tokio::test]
async fn what_was_confirmed_survives_a_killed_process() {
    use std::io::BufRead as _;

    let folder = tempfile::tempdir().unwrap();
    let mut child = run_alone("writes_until_it_is_killed")
        .env(KILLED_IN, folder.path())
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let lines = std::io::BufReader::new(child.stdout.take().unwrap()).lines();
    let confirmed = lines.map_while(Result::ok).filter_map(|line| line.strip_prefix("confirmed ")?.parse().ok());
    let last: i64 = confirmed.take(20).last().unwrap();
    child.kill().unwrap();
    child.wait().unwrap();

    let embedded = Embedded::start(Some(folder.path())).unwrap();
    let store = DynamoDb::connect(&embedded.store_config()).await.unwrap();
    let wanted: Vec<KeyAttrs> = (0..last).map(|n| key("a", n)).collect();
    for some in wanted.chunks(100) {
        let done = store.batch_get(vec![keys("tbl", some.to_vec(), &["id", "n"])]).await.unwrap();
        assert_eq!(done.items[0].len(), some.len());
    }
}

#[tokio::test]
#[ignore = "the process that `what_was_confirmed_survives_a_killed_process` starts and kills"]
async fn writes_until_it_is_killed() {
    let Some(folder) = std::env::var_os(KILLED_IN) else { return };
    let embedded = Embedded::start(Some(folder.as_ref())).unwrap();
    let store = DynamoDb::connect(&embedded.store_config()).await.unwrap();
    store.create_table(&definition("tbl")).await.unwrap();
    for first in (0..).step_by(25) {
        let items = (first..first + 25).map(|n| put("a", n, "")).collect();
        store.batch_write(batch("tbl", items)).await.unwrap();
        println!("confirmed {}", first + 25);
    }
}
