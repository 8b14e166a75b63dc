//! The catalog against a store in memory that can fail at every step.

mod add_columns;
mod epochs;
mod shards;

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::*;
use crate::schema::ddl;
use crate::schema::table::{KeyDef, Lake, Ownership, default_partition_attribute, default_sort_attribute};
use crate::store::OneWrite;
use crate::store::*;

/// The control table of the shard map.
const SHARDS: &str = "forebay-shards";

/// What the store does with a changing call.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Fault {
    /// Fails without an effect.
    Before,
    /// Takes effect, and the answer is lost.
    After,
}

type Records = BTreeMap<(String, u64), String>;

#[derive(Default)]
struct State {
    tables: HashMap<String, TableDescription>,
    records: Records,
    /// The shard map, where there is one.
    shards: Option<Records>,
    /// Changing calls so far.
    changes: usize,
    /// The call that fails, and how.
    fault: Option<(usize, Fault)>,
    reads: usize,
    unreachable: bool,
    refuse_create: Option<String>,
    completed: usize,
}

#[derive(Default)]
struct FakeStore(Mutex<State>);

impl FakeStore {
    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.0.lock().unwrap()
    }

    fn read<T>(&self, read: impl FnOnce(&State) -> T) -> Result<T, ControlError> {
        let mut state = self.lock();
        state.reads += 1;
        if state.unreachable { Err(away()) } else { Ok(read(&state)) }
    }

    fn change<T>(&self, change: impl FnOnce(&mut State) -> Result<T, ControlError>) -> Result<T, ControlError> {
        let mut state = self.lock();
        state.changes += 1;
        let fault = state.fault.filter(|(at, _)| *at == state.changes).map(|(_, fault)| fault);
        if state.unreachable || fault == Some(Fault::Before) {
            return Err(away());
        }
        let done = change(&mut state);
        if fault == Some(Fault::After) { Err(away()) } else { done }
    }
}

fn away() -> ControlError {
    ControlError::Unavailable { message: "injected".to_owned() }
}

fn ready<'a, T: Send + 'a, E: Send + 'a>(result: Result<T, E>) -> StoreFuture<'a, T, E> {
    Box::pin(std::future::ready(result))
}

fn described(definition: &TableDef) -> TableDescription {
    TableDescription {
        partition: definition.partition_attribute().unwrap(),
        sort: definition.sort_attribute().unwrap(),
        active: true,
        deletion_protection: definition.dynamodb.deletion_protection,
    }
}

impl Store for FakeStore {
    fn batch_write(&self, _: BatchWrite) -> StoreFuture<'_, WriteDone, WriteError> {
        unreachable!("the catalog writes no rows")
    }

    /// A record under the condition that no greater sequence is stored.
    fn write_one(&self, write: OneWrite) -> StoreFuture<'_, WriteDone, WriteError> {
        let item: serde_json::Value = serde_json::from_slice(&write.item.json).unwrap();
        let text = |name: &str, kind: &str| item[name][kind].as_str().unwrap().to_owned();
        let attribute = Arc::clone(&write.sequence.as_ref().unwrap().attribute);
        let sequence: u64 = text(&attribute, "N").parse().unwrap();
        assert_eq!(write.item.sequence_text(), Some(format!(r#"{{"N":"{sequence}"}}"#).as_bytes()));
        let key = (text("pk", "S"), text("sk", "N").parse().unwrap());
        let written = self.change(|state| {
            let stored = state.records.get(&key).map(|body| serde_json::from_str::<serde_json::Value>(body).unwrap());
            match stored.map(|stored| stored[&*attribute].as_u64().unwrap()) {
                Some(stored) if stored > sequence => Ok(Err(stored)),
                _ => {
                    state.records.insert(key, text("body", "S"));
                    Ok(Ok(()))
                }
            }
        });
        ready(match written {
            Ok(Ok(())) => Ok(WriteDone::default()),
            Ok(Err(stored)) => {
                let existing = [(attribute.to_string(), Attr::N(stored.to_string()))];
                Err(WriteError::Condition { existing: Some(existing.into()) })
            }
            Err(error) => Err(WriteError::Unknown { message: error.to_string() }),
        })
    }

    fn get(&self, _: GetKeys) -> StoreFuture<'_, Option<Item>, ReadError> {
        unreachable!("the catalog reads no rows")
    }

    fn batch_get(&self, _: Vec<GetKeys>) -> StoreFuture<'_, BatchGetDone, ReadError> {
        unreachable!("the catalog reads no rows")
    }

    fn describe_table<'a>(&'a self, table: &'a str) -> StoreFuture<'a, Option<TableDescription>, ControlError> {
        ready(self.read(|state| state.tables.get(table).cloned()))
    }

    fn create_table<'a>(&'a self, definition: &'a TableDef) -> StoreFuture<'a, (), ControlError> {
        ready(self.change(|state| {
            if let Some(message) = &state.refuse_create {
                return Err(ControlError::Refused { message: message.clone() });
            }
            let table = definition.dynamodb_table.clone();
            if state.tables.contains_key(&table) {
                return Err(ControlError::TableExists { table });
            }
            state.tables.insert(table, described(definition));
            Ok(())
        }))
    }

    fn complete_table<'a>(&'a self, _: &'a TableDef) -> StoreFuture<'a, (), ControlError> {
        self.lock().completed += 1;
        ready(Ok(()))
    }

    fn delete_table<'a>(&'a self, table: &'a str) -> StoreFuture<'a, (), ControlError> {
        ready(self.change(|state| match state.tables.remove(table) {
            Some(_) => Ok(()),
            None => Err(ControlError::TableMissing { table: table.to_owned() }),
        }))
    }

    fn ensure_control_table<'a>(&'a self, table: &'a str) -> StoreFuture<'a, (), ControlError> {
        if table == SHARDS {
            self.lock().shards.get_or_insert_default();
        }
        ready(Ok(()))
    }

    fn put_record<'a>(
        &'a self,
        table: &'a str,
        record: ControlRecord,
        only_if_absent: bool,
    ) -> StoreFuture<'a, (), ControlError> {
        ready(self.change(|state| {
            let records = if table == SHARDS { state.shards.as_mut() } else { Some(&mut state.records) };
            let records = records.ok_or_else(|| ControlError::TableMissing { table: table.to_owned() })?;
            let key = (record.pk, record.sk);
            if only_if_absent && records.contains_key(&key) {
                return Err(ControlError::Conflict);
            }
            records.insert(key, record.body);
            Ok(())
        }))
    }

    fn get_record<'a>(
        &'a self,
        _: &'a str,
        pk: &'a str,
        sk: Option<u64>,
    ) -> StoreFuture<'a, Option<ControlRecord>, ControlError> {
        ready(self.read(|state| {
            let mut records =
                state.records.iter().filter(|((name, number), _)| name == pk && sk.is_none_or(|sk| sk == *number));
            records.next_back().map(|((pk, sk), body)| ControlRecord { pk: pk.clone(), sk: *sk, body: body.clone() })
        }))
    }

    fn scan_records<'a>(&'a self, table: &'a str) -> StoreFuture<'a, Vec<ControlRecord>, ControlError> {
        let scanned = self.read(|state| {
            let records = if table == SHARDS { state.shards.as_ref() } else { Some(&state.records) };
            let records = records.ok_or_else(|| ControlError::TableMissing { table: table.to_owned() })?.iter();
            Ok(records.map(|((pk, sk), body)| ControlRecord { pk: pk.clone(), sk: *sk, body: body.clone() }).collect())
        });
        ready(scanned.and_then(|scanned| scanned))
    }
}

async fn open(store: &Arc<FakeStore>) -> Catalog {
    let config = CatalogConfig { table_prefix: "fb-".to_owned(), ..CatalogConfig::default() };
    Catalog::open(store.clone(), config).await.unwrap()
}

fn table(name: &str, columns: &str, partition: &[&str], sort: &[&str]) -> TableDef {
    let owned = |columns: &[&str]| columns.iter().map(|column| (*column).to_owned()).collect();
    let key = KeyDef {
        partition: owned(partition),
        sort: owned(sort),
        partition_attribute: default_partition_attribute(),
        sort_attribute: default_sort_attribute(),
    };
    TableDef::new(name, ddl::parse(columns).unwrap(), key, "")
}

fn users() -> TableDef {
    table("users", "id STRING NOT NULL, score DOUBLE", &["id"], &[])
}

fn users_with_age() -> TableDef {
    table("users", "id STRING NOT NULL, score DOUBLE, age INT", &["id"], &[])
}

/// Puts a DynamoDB table there that Forebay did not make.
fn foreign(store: &FakeStore, dynamodb_table: &str, def: &TableDef) {
    store.lock().tables.insert(dynamodb_table.to_owned(), described(def));
}

#[tokio::test]
async fn a_new_table_is_created_and_the_same_again_changes_nothing() {
    let store = Arc::new(FakeStore::default());
    let catalog = open(&store).await;
    let outcome = catalog.apply(users(), false).await.unwrap();
    assert_eq!(outcome.result, ApplyResult::Created);
    assert_eq!((outcome.version.version, &*outcome.version.dynamodb_table), (1, "fb-users"));
    assert_eq!(outcome.version.def.ownership, Ownership::Created);
    let changes = store.lock().changes;
    let again = catalog.apply(users(), false).await.unwrap();
    assert_eq!((again.result, again.version.version), (ApplyResult::Unchanged, 1));
    assert_eq!(store.lock().changes, changes);
}

#[tokio::test]
async fn evolution_makes_a_version_and_keeps_the_old_one() {
    let store = Arc::new(FakeStore::default());
    let catalog = open(&store).await;
    catalog.apply(users(), false).await.unwrap();
    let mut changes = catalog.changes();
    changes.mark_unchanged();
    let outcome = catalog.apply(users_with_age(), false).await.unwrap();
    assert_eq!((outcome.result, outcome.version.version), (ApplyResult::Evolved, 2));
    assert_eq!(outcome.changes, ["column `age` is added: int"]);
    assert!(changes.has_changed().unwrap());
    assert_eq!(catalog.peek("users").unwrap().version, 2);
    assert_eq!(catalog.get_version("users", 1).await.unwrap().def.schema.fields.len(), 2);
    assert_eq!(catalog.get_version("users", 2).await.unwrap().def.schema.fields.len(), 3);
    let error = catalog.get_version("users", 3).await.unwrap_err();
    assert_eq!(error.to_string(), "table `users` has no schema version 3; the newest is 2");
    let narrow = table("users", "id STRING NOT NULL, score FLOAT", &["id"], &[]);
    let error = catalog.apply(narrow, false).await.unwrap_err().to_string();
    assert!(error.contains("`score`: cannot change from double to float"), "{error}");
    assert!(error.contains("`age`: cannot be dropped"), "{error}");
}

#[tokio::test]
async fn a_dry_run_says_what_would_happen_and_changes_nothing() {
    let store = Arc::new(FakeStore::default());
    let catalog = open(&store).await;
    assert_eq!(catalog.apply(users(), true).await.unwrap().result, ApplyResult::Created);
    assert_eq!(store.lock().changes, 0);
    catalog.apply(users(), false).await.unwrap();
    let changes = store.lock().changes;
    let outcome = catalog.apply(users_with_age(), true).await.unwrap();
    assert_eq!((outcome.result, outcome.version.version), (ApplyResult::Evolved, 2));
    assert_eq!(store.lock().changes, changes);
    assert_eq!(catalog.get("users").await.unwrap().version, 1);
}

/// Fault 34, first half.
#[tokio::test]
async fn an_existing_table_is_bound_only_if_its_key_fits() {
    let store = Arc::new(FakeStore::default());
    let catalog = open(&store).await;
    foreign(&store, "fb-users", &table("x", "id STRING NOT NULL, day DATE NOT NULL", &["id"], &["day"]));
    let error = catalog.apply(users(), false).await.unwrap_err();
    let expected = "the DynamoDB table `fb-users` has the key (partition `id` S, sort `day` S), but table `users` needs \
                    (partition `id` S, no sort key)";
    assert_eq!(error.to_string(), expected);
    foreign(&store, "fb-users", &users());
    let mut def = users();
    def.dynamodb.point_in_time_recovery = true;
    let outcome = catalog.apply(def.clone(), false).await.unwrap();
    assert_eq!(outcome.result, ApplyResult::Bound);
    assert!(outcome.changes[0].contains("have no effect"), "{:?}", outcome.changes);
    assert_eq!(catalog.apply(def, false).await.unwrap().result, ApplyResult::Unchanged);
}

/// Fault 34, second half.
#[tokio::test]
async fn two_tables_share_a_dynamodb_table_only_with_the_same_key() {
    let store = Arc::new(FakeStore::default());
    let catalog = open(&store).await;
    let columns = "a STRING NOT NULL, b STRING NOT NULL, c STRING NOT NULL";
    let mut first = table("first", columns, &["a", "b"], &[]);
    first.dynamodb_table = "shared".to_owned();
    catalog.apply(first.clone(), false).await.unwrap();
    let mut second = table("second", columns, &["a", "c"], &[]);
    second.dynamodb_table = "shared".to_owned();
    let error = catalog.apply(second, false).await.unwrap_err().to_string();
    assert!(error.contains("(partition `a` string, `b` string)"), "{error}");
    assert!(error.contains("(partition `a` string, `c` string)"), "{error}");
    let same = TableDef { name: "second".to_owned(), ..first };
    assert_eq!(catalog.apply(same, false).await.unwrap().result, ApplyResult::Bound);
    let error = catalog.drop_table("first", true).await.unwrap_err();
    assert!(matches!(error, CatalogError::Shared { ref other, .. } if other == "second"), "{error}");
}

#[tokio::test]
async fn dropping_unbinds_a_bound_table_and_deletes_ours_only_with_force() {
    let store = Arc::new(FakeStore::default());
    let catalog = open(&store).await;
    foreign(&store, "fb-users", &users());
    catalog.apply(users(), false).await.unwrap();
    assert!(!catalog.drop_table("users", true).await.unwrap());
    assert!(store.lock().tables.contains_key("fb-users"));
    assert!(matches!(catalog.get("users").await, Err(CatalogError::NotFound { .. })));
    assert!(matches!(catalog.drop_table("users", true).await, Err(CatalogError::NotFound { .. })));

    let events = TableDef { name: "events".to_owned(), ..users() };
    catalog.apply(events.clone(), false).await.unwrap();
    let error = catalog.drop_table("events", false).await.unwrap_err();
    assert!(matches!(error, CatalogError::NeedsForce { .. }), "{error}");
    store.lock().tables.get_mut("fb-events").unwrap().deletion_protection = true;
    let error = catalog.drop_table("events", true).await.unwrap_err();
    assert!(matches!(error, CatalogError::DeletionProtected { .. }), "{error}");
    store.lock().tables.get_mut("fb-events").unwrap().deletion_protection = false;
    assert!(catalog.drop_table("events", true).await.unwrap());
    assert!(!store.lock().tables.contains_key("fb-events"));
    // A version number never comes twice.
    assert_eq!(catalog.apply(events, false).await.unwrap().version.version, 2);
    assert_eq!(catalog.list().await.unwrap().len(), 1);
}

#[tokio::test]
async fn wherever_apply_dies_applying_again_finishes_it_and_the_table_is_ours() {
    let mut deaths = 0;
    for at in 1..10 {
        for fault in [Fault::Before, Fault::After] {
            let store = Arc::new(FakeStore::default());
            store.lock().fault = Some((at, fault));
            deaths += usize::from(open(&store).await.apply(users(), false).await.is_err());
            store.lock().fault = None;
            // Another pod, with another definition in its hand.
            let outcome = open(&store).await.apply(users_with_age(), false).await.unwrap();
            assert_eq!(outcome.version.def.ownership, Ownership::Created, "{at} {fault:?}");
            assert_eq!(outcome.version.def.schema.fields.len(), 3, "{at} {fault:?}");
            assert!(store.lock().tables.contains_key("fb-users"));
            let unchanged = open(&store).await.apply(users_with_age(), false).await.unwrap();
            assert_eq!(unchanged.result, ApplyResult::Unchanged, "{at} {fault:?}");
        }
    }
    assert_eq!(deaths, 6, "three changing calls, each failing before and after its effect");
}

#[tokio::test]
async fn a_creation_that_was_cut_off_is_completed() {
    let store = Arc::new(FakeStore::default());
    store.lock().fault = Some((2, Fault::After));
    open(&store).await.apply(users(), false).await.unwrap_err();
    let catalog = open(&store).await;
    assert!(matches!(catalog.get("users").await, Err(CatalogError::NotFound { .. })));
    let outcome = catalog.apply(users(), false).await.unwrap();
    assert_eq!((outcome.result, outcome.version.version), (ApplyResult::Created, 1));
    assert_eq!(store.lock().completed, 1);
}

#[tokio::test]
async fn a_creation_that_was_cut_off_may_go_on_with_other_columns_but_not_with_other_dynamodb_options() {
    let store = Arc::new(FakeStore::default());
    store.lock().fault = Some((2, Fault::After));
    open(&store).await.apply(users(), false).await.unwrap_err();
    let catalog = open(&store).await;
    let mut def = users_with_age();
    def.dynamodb.deletion_protection = true;
    let error = catalog.apply(def.clone(), false).await.unwrap_err().to_string();
    assert!(error.contains("was created with other options"), "{error}");
    def.dynamodb.deletion_protection = false;
    def.dynamodb.point_in_time_recovery = true;
    let outcome = catalog.apply(def, false).await.unwrap();
    assert_eq!((outcome.result, outcome.version.version), (ApplyResult::Created, 1));
    assert_eq!(outcome.version.def.schema.fields.len(), 3);
}

#[tokio::test]
async fn wherever_drop_dies_dropping_again_finishes_it() {
    let mut deaths = 0;
    for at in 4..10 {
        for fault in [Fault::Before, Fault::After] {
            let store = Arc::new(FakeStore::default());
            let catalog = open(&store).await;
            catalog.apply(users(), false).await.unwrap();
            store.lock().fault = Some((at, fault));
            let dropped = catalog.drop_table("users", true).await;
            store.lock().fault = None;
            if let Err(error) = dropped {
                deaths += 1;
                assert!(matches!(error, CatalogError::Store(ControlError::Unavailable { .. })), "{error}");
                match open(&store).await.drop_table("users", true).await {
                    Ok(_) | Err(CatalogError::NotFound { .. }) => {}
                    Err(error) => panic!("{at} {fault:?}: {error}"),
                }
            }
            assert!(!store.lock().tables.contains_key("fb-users"), "{at} {fault:?}");
            assert!(matches!(open(&store).await.get("users").await, Err(CatalogError::NotFound { .. })));
            assert_eq!(open(&store).await.apply(users(), false).await.unwrap().result, ApplyResult::Created);
        }
    }
    assert_eq!(deaths, 6);
}

#[tokio::test]
async fn a_half_dropped_table_is_not_silently_made_anew() {
    let store = Arc::new(FakeStore::default());
    let catalog = open(&store).await;
    catalog.apply(users(), false).await.unwrap();
    store.lock().fault = Some((5, Fault::Before));
    catalog.drop_table("users", true).await.unwrap_err();
    let error = catalog.apply(users(), false).await.unwrap_err();
    assert!(matches!(error, CatalogError::BeingDropped { .. }), "{error}");
}

#[tokio::test]
async fn a_creation_that_dynamodb_refuses_leaves_nothing_behind() {
    let store = Arc::new(FakeStore::default());
    let catalog = open(&store).await;
    store.lock().refuse_create = Some("no such KMS key".to_owned());
    let error = catalog.apply(users(), false).await.unwrap_err();
    assert!(error.to_string().contains("no such KMS key"));
    store.lock().refuse_create = None;
    foreign(&store, "fb-users", &users());
    // What somebody else makes under the name afterwards is not taken for ours.
    assert_eq!(catalog.apply(users(), false).await.unwrap().result, ApplyResult::Bound);
}

#[tokio::test]
async fn a_table_of_ours_that_somebody_deleted_is_made_anew_and_a_bound_one_is_not() {
    let store = Arc::new(FakeStore::default());
    let catalog = open(&store).await;
    catalog.apply(users(), false).await.unwrap();
    store.lock().tables.clear();
    let outcome = catalog.apply(users(), false).await.unwrap();
    assert_eq!((outcome.result, outcome.version.version), (ApplyResult::Created, 2));
    let bound = TableDef { name: "bound".to_owned(), ..users() };
    foreign(&store, "fb-bound", &bound);
    catalog.apply(bound.clone(), false).await.unwrap();
    store.lock().tables.clear();
    let error = catalog.apply(bound, false).await.unwrap_err();
    assert!(matches!(error, CatalogError::BoundTableGone { .. }), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pods_that_apply_at_the_same_time_make_one_table() {
    let store = Arc::new(FakeStore::default());
    let mut pods = tokio::task::JoinSet::new();
    for _ in 0..8 {
        let catalog = open(&store).await;
        pods.spawn(async move { catalog.apply(users(), false).await });
    }
    for outcome in pods.join_all().await {
        let outcome = outcome.unwrap();
        assert_eq!((outcome.version.version, outcome.version.def.ownership), (1, Ownership::Created));
    }
}

#[tokio::test(start_paused = true)]
async fn a_cached_table_costs_no_read_and_a_missing_one_is_asked_for_again_after_a_second() {
    let store = Arc::new(FakeStore::default());
    let (catalog, other_pod) = (open(&store).await, open(&store).await);
    assert!(matches!(catalog.get("users").await, Err(CatalogError::NotFound { .. })));
    other_pod.apply(users(), false).await.unwrap();
    assert!(matches!(catalog.get("users").await, Err(CatalogError::NotFound { .. })));
    tokio::time::advance(NEGATIVE_TTL + Duration::from_millis(1)).await;
    assert_eq!(catalog.get("users").await.unwrap().version, 1);
    let reads = store.lock().reads;
    for _ in 0..100 {
        catalog.get("users").await.unwrap();
    }
    assert!(matches!(catalog.get("no such name").await, Err(CatalogError::NotFound { .. })));
    assert_eq!(store.lock().reads, reads);
}

#[tokio::test(start_paused = true)]
async fn other_pods_see_a_change_and_a_drop_after_the_refresh_interval() {
    let store = Arc::new(FakeStore::default());
    let (catalog, other_pod) = (open(&store).await, open(&store).await);
    other_pod.apply(users(), false).await.unwrap();
    catalog.get("users").await.unwrap();
    let stop = CancellationToken::new();
    let refreshing = tokio::spawn(catalog.clone().refresh_loop(stop.clone()));
    let mut changes = catalog.changes();
    changes.mark_unchanged();
    other_pod.apply(users_with_age(), false).await.unwrap();
    changes.changed().await.unwrap();
    assert_eq!(catalog.peek("users").unwrap().version, 2);
    other_pod.drop_table("users", true).await.unwrap();
    changes.changed().await.unwrap();
    assert!(catalog.peek("users").is_none());
    stop.cancel();
    refreshing.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_known_table_stays_in_use_while_dynamodb_is_away() {
    let store = Arc::new(FakeStore::default());
    let catalog = open(&store).await;
    catalog.apply(users(), false).await.unwrap();
    store.lock().unreachable = true;
    tokio::time::advance(Duration::from_secs(3600)).await;
    assert_eq!(catalog.get("users").await.unwrap().version, 1);
    let error = catalog.get("other").await.unwrap_err();
    assert!(matches!(error, CatalogError::Store(ControlError::Unavailable { .. })), "{error}");
}

#[tokio::test]
async fn what_is_not_supported_yet_is_refused_by_its_name() {
    let catalog = open(&Arc::new(FakeStore::default())).await;
    let with = |change: fn(&mut TableDef)| {
        let mut def = users();
        change(&mut def);
        def
    };
    let cases = [(
        with(|def| def.lake = Some(Lake { enabled: true, location: "s3://b".to_owned(), best_effort: false })),
        "lake",
    )];
    for (def, expected) in cases {
        match catalog.apply(def, false).await {
            Err(CatalogError::Unsupported { option, .. }) => assert_eq!(option, expected),
            other => panic!("{expected}: {other:?}"),
        }
    }
    let misfit = table("users", "id STRING NOT NULL, v ARRAY<INT> OPTIONS (default_value = '[\"x\"]')", &["id"], &[]);
    match catalog.apply(misfit, false).await {
        Err(CatalogError::Invalid(error)) => assert_eq!(error.path, "v[0]"),
        other => panic!("{other:?}"),
    }
    let mut def = users();
    def.coalesce = crate::schema::Coalesce::Off;
    def.append_only = true;
    def.show_values_in_outcomes = true;
    catalog.apply(def, false).await.unwrap();
}

#[tokio::test]
async fn the_control_table_cannot_hold_rows() {
    let catalog = open(&Arc::new(FakeStore::default())).await;
    let def = TableDef { dynamodb_table: "forebay-catalog".to_owned(), ..users() };
    let error = catalog.apply(def, false).await.unwrap_err();
    assert!(matches!(error, CatalogError::DynamoDbName { .. }), "{error}");
    let def = TableDef { dynamodb_table: "a/b".to_owned(), ..users() };
    let error = catalog.apply(def, false).await.unwrap_err();
    assert!(error.to_string().contains("3 to 255 characters"), "{error}");
}

#[tokio::test]
async fn a_variant_can_stand_anywhere_but_in_a_key_or_a_set_which_has_scalars_alone() {
    let catalog = open(&Arc::new(FakeStore::default())).await;
    let of = |columns: &str, key: &str| table("users", &format!("id STRING NOT NULL, {columns}"), &[key], &[]);
    for (def, path) in [
        (of("v VARIANT NOT NULL", "v"), "v"),
        (of("v MAP<VARIANT, INT>", "id"), "v"),
        (of("v ARRAY<VARIANT> OPTIONS (as_set = true)", "id"), "v"),
        (of("s STRUCT<v: ARRAY<VARIANT> OPTIONS (as_set = true)>", "id"), "s.v"),
        (of("v ARRAY<ARRAY<INT>> OPTIONS (as_set = true)", "id"), "v"),
        (of("v ARRAY<STRUCT<a: INT>> OPTIONS (as_set = true)", "id"), "v"),
        (of("v ARRAY<MAP<STRING, INT>> OPTIONS (as_set = true)", "id"), "v"),
        (TableDef { ttl_column: Some("v".to_owned()), ..of("v VARIANT", "id") }, "v"),
    ] {
        match catalog.apply(def, false).await {
            Err(CatalogError::Invalid(error)) => assert_eq!(error.path, path, "{error}"),
            other => panic!("{path}: {other:?}"),
        }
    }
    let columns = "v VARIANT, a ARRAY<VARIANT>, m MAP<STRING, VARIANT>, s STRUCT<v: VARIANT NOT NULL>";
    catalog.apply(of(columns, "id"), false).await.unwrap();
}

#[tokio::test]
async fn write_shards_are_of_new_tables_of_ours_and_stay_as_they_are() {
    let store = Arc::new(FakeStore::default());
    let catalog = open(&store).await;
    let events = |shards| {
        let def = table("events", "id STRING NOT NULL, at BIGINT NOT NULL", &["id"], &["at"]);
        TableDef { write_shards: shards, ..def }
    };
    let theirs = TableDef { dynamodb_table: "theirs".to_owned(), ..events(4) };
    store.lock().tables.insert("theirs".to_owned(), described(&theirs));
    match catalog.apply(theirs, false).await {
        Err(CatalogError::ShardedBinding { dynamodb_table, .. }) => assert_eq!(dynamodb_table, "theirs"),
        other => panic!("{other:?}"),
    }

    let created = catalog.apply(events(4), false).await.unwrap().version;
    assert_eq!(catalog.apply(events(4), false).await.unwrap().result, ApplyResult::Unchanged);
    for other in [0, 8] {
        let error = catalog.apply(events(other), false).await.unwrap_err().to_string();
        assert!(error.contains("`write_shards`: cannot change from 4 to"), "{error}");
    }
    let reader =
        TableDef { name: "reader".to_owned(), dynamodb_table: created.def.dynamodb_table.clone(), ..events(0) };
    let error = catalog.apply(reader, false).await.unwrap_err().to_string();
    assert!(error.contains("in 4 write shards"), "{error}");
    match catalog.apply(events(3), false).await {
        Err(CatalogError::Invalid(error)) => assert!(error.message.contains("a power of two"), "{error}"),
        other => panic!("{other:?}"),
    }
}
