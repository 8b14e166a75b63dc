//! Tables from the command line to DynamoDB: the real binary, the real service over TCP, the embedded store.
#![allow(clippy::unwrap_used, reason = "helpers of tests")]

use std::path::Path;
use std::process::{Command, Output};
use std::sync::Arc;

use forebay::api::quota::Charges;
use forebay::api::table::{Checks, TableApi};
use forebay::catalog::{Catalog, CatalogConfig};
use forebay::pool::MemoryBudget;
use forebay::proto::server::table_service_server::TableServiceServer;
use forebay::proto::v1;
use forebay::proto::v1::table_service_client::TableServiceClient;
use forebay::quota::Quotas;
use forebay::schema::table::{KeyDef, default_partition_attribute, default_sort_attribute};
use forebay::schema::{TableDef, ddl};
use forebay::store::Store;
use forebay::store::dynamodb::DynamoDb;
use forebay::store::embedded::Embedded;
use forebay::telemetry::Instruments;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::Code;
use tonic_types::StatusExt as _;

struct Gateway {
    endpoint: String,
    store: Arc<DynamoDb>,
    _embedded: Embedded,
}

async fn gateway() -> Gateway {
    let embedded = Embedded::start(None).unwrap();
    let store = Arc::new(DynamoDb::connect(&embedded.store_config()).await.unwrap());
    let catalog = Catalog::open(store.clone(), CatalogConfig::default()).await.unwrap();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    let instruments = Arc::new(Instruments::new());
    let decode_memory = MemoryBudget::new(1 << 20, Arc::clone(&instruments));
    let checks = Checks { hash_seed: 1, decode_memory, charges: Charges::new(Quotas::new(), instruments) };
    let service = TableServiceServer::new(TableApi::new(catalog, checks));
    let server = tonic::transport::Server::builder().add_service(service);
    tokio::spawn(server.serve_with_incoming(TcpListenerStream::new(listener)));
    Gateway { endpoint, store, _embedded: embedded }
}

impl Gateway {
    async fn forebay(&self, arguments: &[&str]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_forebay"));
        command.args(arguments).env("FOREBAY_ENDPOINT", &self.endpoint);
        tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap()
    }

    async fn client(&self) -> TableServiceClient<tonic::transport::Channel> {
        TableServiceClient::connect(self.endpoint.clone()).await.unwrap()
    }
}

fn stdout(output: &Output) -> String {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout.clone()).unwrap()
}

/// What failed, as code and sentence.
fn failure(output: &Output) -> (i32, String) {
    (output.status.code().unwrap(), String::from_utf8(output.stderr.clone()).unwrap())
}

fn examples(file: &str) -> String {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/tables").join(file).display().to_string()
}

fn users(name: &str) -> v1::Table {
    v1::Table {
        name: name.to_owned(),
        ddl: "id STRING NOT NULL, score DOUBLE".to_owned(),
        key: Some(v1::Key { partition: vec!["id".to_owned()], ..v1::Key::default() }),
        ..v1::Table::default()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_examples_are_applied_shown_listed_and_dropped() {
    let gateway = gateway().await;
    let files = [examples("user_features.yaml"), examples("from_spark.yaml"), examples("events.yaml")];
    let apply = ["tables", "apply", &files[0], &files[1], &files[2]];
    let dry = stdout(&gateway.forebay(&[&apply[..], &["--dry-run"]].concat()).await);
    assert!(dry.starts_with("would be created: `user_features`, version 1"), "{dry}");
    assert_eq!(stdout(&gateway.forebay(&["tables", "list", "--json"]).await), "{\"tables\":[]}\n");

    let applied = stdout(&gateway.forebay(&apply).await);
    assert!(applied.contains("created: `sensors`, version 1, in the new DynamoDB table `sensors`"), "{applied}");
    let again = stdout(&gateway.forebay(&apply).await);
    assert_eq!(again.matches("unchanged: ").count(), 4, "{again}");

    // What `get` shows is a file that changes nothing.
    let shown = stdout(&gateway.forebay(&["tables", "get", "user_features"]).await);
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("shown.yaml");
    std::fs::write(&file, &shown).unwrap();
    let again = stdout(&gateway.forebay(&["tables", "apply", file.to_str().unwrap(), "--json"]).await);
    let again: serde_json::Value = serde_json::from_str(&again).unwrap();
    assert_eq!(again["tables"][0]["result"], "unchanged", "{shown}");

    let list = stdout(&gateway.forebay(&["tables", "list"]).await);
    assert!(list.lines().nth(1).unwrap().starts_with("events"), "{list}");
    assert!(list.contains("sensor_id, at"), "{list}");
    let ddl = stdout(&gateway.forebay(&["tables", "get", "sensors", "--ddl"]).await);
    assert!(ddl.starts_with("sensor_id STRING NOT NULL,\nat TIMESTAMP NOT NULL,\n"), "{ddl}");
    let json = stdout(&gateway.forebay(&["tables", "get", "sensors", "--json"]).await);
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(json["schema"]["fields"][0]["name"], "sensor_id");

    let (code, message) = failure(&gateway.forebay(&["tables", "drop", "sensors"]).await);
    assert_eq!(code, 2, "{message}");
    assert!(message.contains("needs --yes"), "{message}");
    let (code, message) = failure(&gateway.forebay(&["tables", "drop", "sensors", "--yes"]).await);
    assert_eq!(code, 2, "{message}");
    assert!(message.contains("that needs force"), "{message}");
    let dropped = stdout(&gateway.forebay(&["tables", "drop", "sensors", "--yes", "--force"]).await);
    assert_eq!(dropped, "dropped: `sensors`, and its DynamoDB table was deleted\n");
    assert_eq!(gateway.store.describe_table("sensors").await.unwrap(), None);
    let (code, message) = failure(&gateway.forebay(&["tables", "get", "sensors"]).await);
    assert_eq!(code, 3, "{message}");
    assert!(message.starts_with("forebay: error: there is no table `sensors`"), "{message}");
    // Deletion protection is DynamoDB's own.
    let (code, message) = failure(&gateway.forebay(&["tables", "drop", "user_features", "--yes", "--force"]).await);
    assert_eq!(code, 2, "{message}");
    assert!(message.contains("has deletion protection"), "{message}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_mistake_in_the_last_file_leaves_nothing_half_done() {
    let gateway = gateway().await;
    let folder = tempfile::tempdir().unwrap();
    let broken = folder.path().join("broken.yaml");
    std::fs::write(&broken, "name: x\nddl: id STRING NOT NULL\nkeys: id\n").unwrap();
    let broken = broken.to_str().unwrap();
    let (code, message) =
        failure(&gateway.forebay(&["tables", "apply", &examples("user_features.yaml"), broken]).await);
    assert_eq!(code, 2);
    assert!(message.contains("broken.yaml:3: unknown key `keys` in table `x`; expected one of"), "{message}");
    assert_eq!(message.lines().count(), 1, "{message}");
    assert_eq!(stdout(&gateway.forebay(&["tables", "list", "--json"]).await), "{\"tables\":[]}\n");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_option_that_the_store_does_not_have_is_refused_before_anything_is_made() {
    let gateway = gateway().await;
    let mut client = gateway.client().await;
    let options = v1::DynamoDbOptions { point_in_time_recovery: true, ..Default::default() };
    let table = v1::Table { dynamodb: Some(options), ..users("users") };
    let status = client.apply_table(v1::ApplyTableRequest { table: Some(table), dry_run: false }).await.unwrap_err();
    assert!(status.message().contains("has no point-in-time recovery"), "{}", status.message());
    assert_eq!(gateway.store.describe_table("users").await.unwrap(), None);
    let request = v1::ApplyTableRequest { table: Some(users("users")), dry_run: false };
    assert_eq!(client.apply_table(request).await.unwrap().into_inner().result(), v1::ApplyResult::Created);
}

/// Fault 34.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_that_does_not_fit_the_existing_table_is_refused_with_both() {
    let gateway = gateway().await;
    let key = KeyDef {
        partition: vec!["id".to_owned()],
        sort: vec!["day".to_owned()],
        partition_attribute: default_partition_attribute(),
        sort_attribute: default_sort_attribute(),
    };
    let schema = ddl::parse("id STRING NOT NULL, day DATE NOT NULL").unwrap();
    gateway.store.create_table(&TableDef::new("x", schema, key, "theirs")).await.unwrap();
    let mut client = gateway.client().await;
    let table = v1::Table { dynamodb_table: "theirs".to_owned(), ..users("users") };
    let request = v1::ApplyTableRequest { table: Some(table.clone()), dry_run: false };
    let status = client.apply_table(request).await.unwrap_err();
    assert_eq!(status.code(), Code::FailedPrecondition);
    assert!(status.message().contains("(partition `id` S, sort `day` S)"), "{}", status.message());
    assert!(status.message().contains("(partition `id` S, no sort key)"), "{}", status.message());
    assert_eq!(status.get_error_details().error_info().unwrap().reason, "KEY_MISMATCH");

    let table = v1::Table {
        ddl: "id STRING NOT NULL, day DATE NOT NULL, score DOUBLE".to_owned(),
        key: Some(v1::Key { partition: vec!["id".to_owned()], sort: vec!["day".to_owned()], ..v1::Key::default() }),
        ..table
    };
    let request = v1::ApplyTableRequest { table: Some(table), dry_run: false };
    let answer = client.apply_table(request).await.unwrap().into_inner();
    assert_eq!(answer.result(), v1::ApplyResult::Bound);
    assert_eq!(answer.table.unwrap().ownership(), v1::Ownership::Bound);
    let request = v1::DropTableRequest { name: "users".to_owned(), force: true };
    assert!(!client.drop_table(request).await.unwrap().into_inner().deleted);
    assert!(gateway.store.describe_table("theirs").await.unwrap().is_some());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_table_evolves_and_refuses_with_every_reason() {
    let gateway = gateway().await;
    let mut client = gateway.client().await;
    let mut apply = async |ddl: &str| {
        let table = v1::Table { ddl: ddl.to_owned(), ..users("users") };
        client.apply_table(v1::ApplyTableRequest { table: Some(table), dry_run: false }).await
    };
    apply("id STRING NOT NULL, score FLOAT").await.unwrap();
    let answer = apply("id STRING NOT NULL, score DOUBLE, age INT").await.unwrap().into_inner();
    assert_eq!((answer.result(), answer.schema_version), (v1::ApplyResult::Evolved, 2));
    assert_eq!(answer.changes, ["column `score`: float becomes double", "column `age` is added: int"]);
    let status = apply("id STRING NOT NULL, score STRING").await.unwrap_err();
    assert_eq!(status.code(), Code::FailedPrecondition);
    let details = status.get_error_details();
    let subjects: Vec<_> =
        details.precondition_failure().unwrap().violations.iter().map(|v| v.subject.as_str()).collect();
    assert_eq!(subjects, ["score", "age"]);
    let status = apply("id STRNG").await.unwrap_err();
    assert_eq!(status.code(), Code::InvalidArgument);
    assert_eq!(status.get_error_details().bad_request().unwrap().field_violations[0].field, "table.ddl");
    let request = v1::GetTableRequest { name: "users".to_owned(), schema_version: 1 };
    let first = client.get_table(request).await.unwrap().into_inner();
    assert_eq!((first.schema_version, first.table.unwrap().schema.unwrap().fields.len()), (1, 2));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pages_of_the_list_hold_every_table_once_and_what_is_for_later_says_so() {
    let gateway = gateway().await;
    let mut client = gateway.client().await;
    for i in 0..5 {
        let request = v1::ApplyTableRequest { table: Some(users(&format!("table-{i}"))), dry_run: false };
        client.apply_table(request).await.unwrap();
    }
    let (mut names, mut token) = (Vec::new(), String::new());
    loop {
        let request = v1::ListTablesRequest { page_size: 2, page_token: token };
        let page = client.list_tables(request).await.unwrap().into_inner();
        names.extend(page.tables.into_iter().map(|table| table.name));
        token = page.next_page_token;
        if token.is_empty() {
            break;
        }
    }
    assert_eq!(names, ["table-0", "table-1", "table-2", "table-3", "table-4"]);

    let lake = v1::Lake { enabled: true, location: "s3://bucket/x".to_owned(), best_effort: false };
    let table = v1::Table { lake: Some(lake), ..users("later") };
    let status = client.apply_table(v1::ApplyTableRequest { table: Some(table), dry_run: false }).await.unwrap_err();
    assert_eq!(status.code(), Code::Unimplemented);
    assert!(status.message().starts_with("`lake`: "), "{}", status.message());
    let status = client.check_rows(v1::CheckRowsRequest::default()).await.unwrap_err();
    assert_eq!(status.get_error_details().error_info().unwrap().reason, "INVALID_ARGUMENT");
    let request = v1::GetTableRequest { name: "nothing".to_owned(), schema_version: 0 };
    assert_eq!(client.get_table(request).await.unwrap_err().code(), Code::NotFound);
}
