//! Columns that sessions add, through one pod and through several.

use super::*;
use crate::schema::Schema;
use crate::schema::add_columns::Added;

fn session(columns: &str) -> Schema {
    ddl::parse(columns).unwrap()
}

fn fine(_: &Added) -> Result<(), CatalogError> {
    Ok(())
}

fn names(version: &TableVersion) -> Vec<&str> {
    version.def.schema.fields.iter().map(|field| field.name.as_str()).collect()
}

#[tokio::test]
async fn new_columns_make_a_version_and_known_ones_cost_nothing() {
    let store = Arc::new(FakeStore::default());
    let catalog = open(&store).await;
    catalog.apply(users(), false).await.unwrap();
    let with_age = session("id STRING, age INT NOT NULL");
    let version = catalog.add_columns("users", &with_age, fine).await.unwrap();
    assert_eq!((version.version, names(&version)), (2, vec!["id", "score", "age"]));
    assert!(version.def.schema.field("age").unwrap().nullable);
    let calls = || {
        let state = store.lock();
        (state.reads, state.changes)
    };
    let before = calls();
    assert_eq!(catalog.add_columns("users", &with_age, fine).await.unwrap().version, 2);
    assert_eq!(calls(), before);
    assert_eq!(names(&catalog.get_version("users", 1).await.unwrap()), ["id", "score"]);
}

#[tokio::test]
async fn a_pod_that_has_not_heard_of_a_column_finds_it_there() {
    let store = Arc::new(FakeStore::default());
    let (catalog, other_pod) = (open(&store).await, open(&store).await);
    catalog.apply(users(), false).await.unwrap();
    other_pod.get("users").await.unwrap();
    catalog.add_columns("users", &session("age INT"), fine).await.unwrap();
    // The first type stays; whether texts fit into it is for the session's plan.
    let version = other_pod.add_columns("users", &session("age STRING"), fine).await.unwrap();
    assert_eq!(version.version, 2);
    assert_eq!(version.def.schema.field("age").unwrap().data_type, crate::schema::DataType::Integer);
    assert_eq!(other_pod.peek("users").unwrap().version, 2);
}

#[tokio::test(start_paused = true)]
async fn sessions_of_several_pods_all_add_their_columns() {
    let store = Arc::new(FakeStore::default());
    open(&store).await.apply(users(), false).await.unwrap();
    let mut sessions = tokio::task::JoinSet::new();
    for pod in 0..3 {
        let catalog = open(&store).await;
        for task in 0..4 {
            let catalog = catalog.clone();
            let columns = session(&format!("id STRING, common INT, of_pod_{pod} INT, of_task_{task} INT"));
            sessions.spawn(async move { catalog.add_columns("users", &columns, fine).await.unwrap().version });
        }
    }
    sessions.join_all().await;
    let newest = open(&store).await.get("users").await.unwrap();
    let mut found = names(&newest);
    found.sort_unstable();
    let expected = [
        "common",
        "id",
        "of_pod_0",
        "of_pod_1",
        "of_pod_2",
        "of_task_0",
        "of_task_1",
        "of_task_2",
        "of_task_3",
        "score",
    ];
    assert_eq!(found, expected);
    assert!(newest.version <= 1 + 8, "no version without a new column");
}

#[tokio::test]
async fn what_the_table_or_the_session_cannot_have_changes_nothing() {
    let store = Arc::new(FakeStore::default());
    let catalog = open(&store).await;
    catalog.apply(users(), false).await.unwrap();
    let many = Schema {
        fields: (0..4095)
            .map(|i| crate::schema::Field::new(format!("c{i}"), crate::schema::DataType::Long, true))
            .collect(),
    };
    let changes = store.lock().changes;
    let error = catalog.add_columns("users", &many, fine).await.unwrap_err().to_string();
    assert!(error.contains("4097 columns; at most 4096"), "{error}");
    let long = format!("`{}` INT", "x".repeat(256));
    let error = catalog.add_columns("users", &session(&long), fine).await.unwrap_err().to_string();
    assert!(error.contains("longer than 255 bytes"), "{error}");
    let misfit = |_: &Added| Err(CatalogError::Contended { name: "does not fit".to_owned() });
    let error = catalog.add_columns("users", &session("age INT"), misfit).await.unwrap_err().to_string();
    assert!(error.contains("does not fit"), "{error}");
    let error = catalog.add_columns("nobody", &session("age INT"), fine).await.unwrap_err();
    assert!(matches!(error, CatalogError::NotFound { .. }), "{error}");
    assert_eq!(store.lock().changes, changes);
    assert_eq!(catalog.get("users").await.unwrap().version, 1);
}

#[tokio::test]
async fn the_attribute_of_a_joined_key_is_no_column_to_add() {
    let catalog = open(&Arc::new(FakeStore::default())).await;
    catalog.apply(table("users", "a INT NOT NULL, b INT NOT NULL", &["a", "b"], &[]), false).await.unwrap();
    let error = catalog.add_columns("users", &session("a INT, b INT, _pk STRING"), fine).await.unwrap_err();
    assert!(error.to_string().contains("the name is taken by the joined key's attribute"), "{error}");
    assert_eq!(catalog.get("users").await.unwrap().version, 1);
}

#[tokio::test]
async fn an_addition_whose_answer_was_lost_is_there_the_next_time() {
    let store = Arc::new(FakeStore::default());
    let catalog = open(&store).await;
    catalog.apply(users(), false).await.unwrap();
    let next = store.lock().changes + 1;
    store.lock().fault = Some((next, Fault::After));
    let columns = session("age INT");
    let error = catalog.add_columns("users", &columns, fine).await.unwrap_err();
    assert!(matches!(error, CatalogError::Store(ControlError::Unavailable { .. })), "{error}");
    assert_eq!(catalog.add_columns("users", &columns, fine).await.unwrap().version, 2);
}
