//! Fault 7: what each grant allows, and what those hear who have it not.

use forebay::proto::v1;
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use tonic::{Code, Status};

use crate::bed::{Bed, Caller, api_key, apply, key_line, said, some_rows};
use crate::gateway::{open, text};

const READ: u8 = 1;
const WRITE: u8 = 2;
const ADMIN: u8 = 4;
const ALL: u8 = READ | WRITE | ADMIN;

/// A call for a table.
type Call = fn(Caller, String) -> BoxFuture<'static, Result<(), Status>>;

fn done<T>(answer: Result<T, Status>) -> Result<(), Status> {
    answer.map(drop)
}

fn evolving(table: &str) -> v1::Open {
    v1::Open { evolve: v1::Evolve::AddColumns.into(), ..open(table) }
}

/// Every call, what it needs, and whether all of that or any.
fn calls() -> Vec<(&'static str, u8, bool, Call)> {
    let write: Call = |caller, table| async move { done(caller.open(open(&table)).await) }.boxed();
    let write_rows: Call = |caller, table| {
        async move {
            let payload = Some(v1::write_rows_request::Payload::Rows(some_rows("k", 1)));
            let request = v1::WriteRowsRequest { open: Some(open(&table)), payload, ..v1::WriteRowsRequest::default() };
            done(caller.ingest().write_rows(request).await)
        }
        .boxed()
    };
    let check: Call = |caller, table| {
        async move {
            let payload = Some(v1::check_rows_request::Payload::Rows(some_rows("k", 1)));
            let request = v1::CheckRowsRequest { table, payload, ..v1::CheckRowsRequest::default() };
            done(caller.tables().check_rows(request).await)
        }
        .boxed()
    };
    let evolve: Call = |caller, table| async move { done(caller.open(evolving(&table)).await) }.boxed();
    let evolve_unary: Call = |caller, table| {
        async move {
            let payload = Some(v1::write_rows_request::Payload::Rows(some_rows("k", 1)));
            let open = Some(evolving(&table));
            let request = v1::WriteRowsRequest { open, payload, ..v1::WriteRowsRequest::default() };
            done(caller.ingest().write_rows(request).await)
        }
        .boxed()
    };
    let get_row: Call = |caller, table| async move { done(caller.get_row(&table).await) }.boxed();
    let range: Call = |caller, table| {
        async move {
            let partition = Some(v1::RowKey { values: vec![text("k")] });
            let request = v1::ReadRangeRequest { table, partition, ..v1::ReadRangeRequest::default() };
            let mut rows = caller.read().read_range(request).await?.into_inner();
            done(rows.message().await)
        }
        .boxed()
    };
    let get_table: Call = |caller, name| {
        let request = v1::GetTableRequest { name, schema_version: 0 };
        async move { done(caller.tables().get_table(request).await) }.boxed()
    };
    let drop_table: Call = |caller, name| {
        let request = v1::DropTableRequest { name, force: false };
        async move {
            match caller.tables().drop_table(request).await {
                // The permission is there, and nothing is dropped.
                Err(status) if said(&status).1 == "FORCE_NEEDED" => Ok(()),
                answer => done(answer),
            }
        }
        .boxed()
    };
    vec![
        ("Write", WRITE, true, write),
        ("WriteRows", WRITE, true, write_rows),
        ("CheckRows", WRITE, true, check),
        ("Write, ADD_COLUMNS", WRITE | ADMIN, true, evolve),
        ("WriteRows, ADD_COLUMNS", WRITE | ADMIN, true, evolve_unary),
        ("GetRow", READ, true, get_row),
        ("ReadRange", READ, true, range),
        ("GetTable", ALL, false, get_table),
        ("DropTable", ADMIN, true, drop_table),
    ]
}

/// A gateway with a principal for every combination of grants for `mine*`, and one that may do everything.
async fn bed() -> Bed {
    let mut access = "principals:\n  all: {read: [\"*\"], write: [\"*\"], admin: [\"*\"]}\n".to_owned();
    let mut keys = format!("api_keys:\n{}", key_line("all", "all"));
    for grants in 0..=ALL {
        let globs = |bit| if grants & bit > 0 { "[\"mine*\"]" } else { "[]" };
        let (read, write, admin) = (globs(READ), globs(WRITE), globs(ADMIN));
        access += &format!("  p{grants}: {{read: {read}, write: {write}, admin: {admin}}}\n");
        keys += &key_line(&format!("k{grants}"), &format!("p{grants}"));
    }
    let bed = Bed::start(&(access + &keys), &[]).await;
    let all = bed.caller(&api_key("all"));
    all.create("mine").await;
    all.create("theirs").await;
    bed
}

#[tokio::test(flavor = "multi_thread")]
async fn fault_7_every_call_needs_its_grant_and_no_grant_gives_another() {
    let bed = bed().await;
    for (name, needed, needs_all, call) in calls() {
        for grants in 0..=ALL {
            let caller = bed.caller(&api_key(&format!("k{grants}")));
            let allowed = if needs_all { grants & needed == needed } else { grants & needed > 0 };
            let what = format!("{name} with grants {grants:03b}");
            let ask = async |table: &str| call(caller.clone(), table.to_owned()).await;
            if allowed {
                ask("mine").await.unwrap_or_else(|status| panic!("{what}: {status}"));
                let missing = ask("mine_is_missing").await.unwrap_err();
                assert_eq!(said(&missing), (Code::NotFound, "TABLE_NOT_FOUND".to_owned()), "{what}");
            } else {
                // Whether it exists changes nothing but the name.
                let [mine, missing] = [ask("mine").await.unwrap_err(), ask("mine_is_missing").await.unwrap_err()];
                for status in [&mine, &missing] {
                    assert_eq!(said(status), (Code::PermissionDenied, "TABLE_DENIED".to_owned()), "{what}");
                }
                assert_eq!(mine.message().replace("mine", "X"), missing.message().replace("mine_is_missing", "X"));
                assert_eq!(mine.message().starts_with("no table `mine`, or no permission"), grants == 0, "{what}");
            }
            let [theirs, nowhere] = [ask("theirs").await.unwrap_err(), ask("nowhere").await.unwrap_err()];
            for status in [&theirs, &nowhere] {
                assert_eq!(said(status), (Code::PermissionDenied, "TABLE_DENIED".to_owned()), "{what}");
            }
            assert_eq!(theirs.message().replace("theirs", "X"), nowhere.message().replace("nowhere", "X"), "{what}");
            assert_eq!(theirs.message(), "no table `theirs`, or no permission to use it");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn fault_7_tables_are_applied_and_listed_by_grant() {
    let bed = bed().await;
    for grants in 0..=ALL {
        let caller = bed.caller(&api_key(&format!("k{grants}")));
        for dry_run in [true, false] {
            let mine = caller.tables().apply_table(apply("mine", dry_run)).await;
            assert_eq!(mine.is_ok(), grants & ADMIN > 0, "{grants:03b}");
            let theirs = caller.tables().apply_table(apply("theirs", dry_run)).await.unwrap_err();
            let nowhere = caller.tables().apply_table(apply("nowhere", dry_run)).await.unwrap_err();
            assert_eq!(said(&theirs), (Code::PermissionDenied, "TABLE_DENIED".to_owned()));
            assert_eq!(theirs.message().replace("theirs", "X"), nowhere.message().replace("nowhere", "X"));
        }
        let listed = caller.tables().list_tables(v1::ListTablesRequest::default()).await.unwrap().into_inner();
        let names: Vec<_> = listed.tables.iter().map(|table| &*table.name).collect();
        assert_eq!(names, if grants > 0 { vec!["mine"] } else { vec![] }, "{grants:03b}");
        assert_eq!(listed.next_page_token, "", "what is not shown is not counted, either");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn fault_7_a_table_of_ones_own_is_no_way_to_the_rows_of_another() {
    let bed = bed().await;
    let admin = bed.caller(&api_key(&format!("k{ALL}")));
    let mut bound = apply("mine_too", false);
    bound.table.as_mut().unwrap().dynamodb_table = "theirs".to_owned();
    let status = admin.tables().apply_table(bound.clone()).await.unwrap_err();
    assert_eq!(said(&status), (Code::PermissionDenied, "TABLE_DENIED".to_owned()));
    // Nor by a name that fits one's grants, where somebody else's table keeps its rows under it.
    let mut payments = apply("payments", false);
    payments.table.as_mut().unwrap().dynamodb_table = "mine_data".to_owned();
    bed.caller(&api_key("all")).tables().apply_table(payments).await.unwrap();
    for dry_run in [true, false] {
        let status = admin.tables().apply_table(apply("mine_data", dry_run)).await.unwrap_err();
        assert_eq!(said(&status), (Code::PermissionDenied, "TABLE_DENIED".to_owned()));
        assert!(!status.message().contains("payments"), "{}", status.message());
    }
    // By its own name, said or not, and by one that it may administer.
    for dynamodb_table in ["mine", "mine_too", ""] {
        bound.table.as_mut().unwrap().dynamodb_table = dynamodb_table.to_owned();
        bound.dry_run = true;
        admin.tables().apply_table(bound.clone()).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn fault_7_a_batch_of_reads_is_denied_table_by_table() {
    let bed = bed().await;
    let key = || v1::RowKey { values: vec![text("k"), crate::gateway::int(1)] };
    let tables = ["theirs", "mine", "nowhere", "mine_is_missing"];
    let request = || {
        let keys = tables.map(|table| v1::TableKeys {
            table: table.to_owned(),
            keys: vec![key(), key()],
            ..v1::TableKeys::default()
        });
        v1::BatchGetRowsRequest { requests: keys.to_vec(), ..v1::BatchGetRowsRequest::default() }
    };
    for grants in 0..=ALL {
        let caller = bed.caller(&api_key(&format!("k{grants}")));
        let answer = caller.read().batch_get_rows(request()).await.unwrap().into_inner();
        for (result, table) in answer.results.iter().zip(tables) {
            let expected = match (table, grants & READ > 0) {
                ("mine", true) => v1::ReadStatus::NotFound,
                _ => v1::ReadStatus::Denied,
            };
            assert_eq!(result.rows.len(), 2);
            assert!(result.rows.iter().all(|row| row.status() == expected), "{grants:03b} {table}: {result:?}");
            assert_eq!(result.columns.is_some(), expected == v1::ReadStatus::NotFound);
        }
        let message = |at: usize| answer.results[at].rows[0].message.replace(tables[at], "X");
        assert_eq!(message(0), message(2), "a table that may not be seen is as one that is not there");
    }
}
