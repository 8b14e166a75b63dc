//! Promises about tables that change: rows of every version read back, and writers of two versions get on.

#[path = "common/gateway.rs"]
mod gateway;

use std::sync::Arc;

use forebay::api::convert::schema_to_proto;
use forebay::client::{self, Client};
use forebay::proto::v1;
use forebay::proto::v1::value::Kind;
use forebay::proto::v1::write_request::Message as Request;
use forebay::proto::v1::write_response::Message as Response;
use forebay::schema::{ddl, spark_json};
use forebay::server::Gateway;
use forebay::store::dynamodb::DynamoDb;
use forebay::store::embedded::Embedded;
use gateway::{RawSession, double, get, int, null, open, rows, table, text};
use tonic::Code;
use tonic_types::StatusExt as _;

fn value(kind: Kind) -> v1::Value {
    v1::Value { kind: Some(kind) }
}

fn list(values: Vec<v1::Value>) -> v1::Value {
    value(Kind::ListValue(v1::ListValue { values }))
}

fn fields(values: Vec<v1::Value>) -> v1::Value {
    value(Kind::StructValue(v1::StructValue { values }))
}

fn decimal(text: &str) -> v1::Value {
    value(Kind::DecimalValue(text.to_owned()))
}

fn entry(key: v1::Value, of: v1::Value) -> v1::Value {
    value(Kind::MapValue(v1::MapValue { entries: vec![v1::MapEntry { key: Some(key), value: Some(of) }] }))
}

fn columns(columns: &str) -> Option<v1::Schema> {
    Some(schema_to_proto(&ddl::parse(columns).expect("columns")))
}

/// An Open with these columns.
fn carrying(name: &str, declared: &str) -> v1::Open {
    v1::Open { columns: columns(declared), ..open(name) }
}

fn adding(name: &str, declared: &str) -> v1::Open {
    v1::Open { evolve: v1::Evolve::AddColumns.into(), ..carrying(name, declared) }
}

/// Opens a session that must be accepted.
async fn opened(client: &Client, open: v1::Open) -> (RawSession, v1::Opened) {
    let mut session = RawSession::open(client, open).await;
    match session.next().await {
        Response::Opened(opened) => (session, opened),
        other => panic!("{other:?}"),
    }
}

/// The status of a session that must be refused.
async fn refused(client: &Client, open: v1::Open) -> tonic::Status {
    RawSession::open(client, open).await.end().await.expect_err("the session is refused")
}

/// Sends one batch and finishes; every row must be committed.
async fn write(mut session: RawSession, batch: v1::RowBatch) {
    let count = batch.rows.len() as u64;
    session.send_rows(1, batch).await;
    session.send(Request::Finish(v1::Finish { batches: 1, rows: count })).await;
    let end = session.end().await.expect("the session ends well");
    let Some(Response::Finished(v1::Finished { receipt: Some(receipt) })) = end.last() else { panic!("{end:?}") };
    assert_eq!(receipt.committed_rows, count, "{end:?}");
}

async fn write_with(client: &Client, open: v1::Open, batch: v1::RowBatch) {
    let (session, _) = opened(client, open).await;
    write(session, batch).await;
}

async fn apply(client: &Client, name: &str, ddl: &str) -> Result<v1::ApplyTableResponse, client::ClientError> {
    let key = v1::Key { partition: vec!["id".to_owned()], ..v1::Key::default() };
    let table = v1::Table { name: name.to_owned(), ddl: ddl.to_owned(), key: Some(key), ..v1::Table::default() };
    client.tables().apply(table, false).await
}

async fn names(client: &Client, name: &str, version: u64) -> Vec<String> {
    let mut tables = v1::table_service_client::TableServiceClient::new(client.channel());
    let request = v1::GetTableRequest { name: name.to_owned(), schema_version: version };
    let answer = tables.get_table(request).await.expect("every version answers").into_inner();
    let fields = answer.table.and_then(|table| table.schema).expect("a schema").fields;
    fields.into_iter().map(|field| field.name).collect()
}

/// Two gateways over one store, which look for changes of each other's so often.
async fn pods(refresh_seconds: f64) -> (Embedded, [(Gateway, Client); 2]) {
    let embedded = Embedded::start(None).expect("an embedded store");
    let store = Arc::new(DynamoDb::connect(&embedded.store_config()).await.expect("a store"));
    let pod = async |store: Arc<DynamoDb>| {
        let settings = gateway::settings(|config| config.catalog_refresh_seconds = Some(refresh_seconds));
        let gateway = Gateway::start_with_store(settings, store).await.expect("the gateway starts");
        let client = client::connect(&gateway.endpoint()).expect("a usable endpoint");
        (gateway, client)
    };
    let pods = [pod(Arc::clone(&store)).await, pod(store).await];
    (embedded, pods)
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_of_the_old_schema_read_back_under_every_allowed_change() {
    let (_gateway, client) = gateway::start().await;
    // Column by column: what it was, what is stored, what it becomes, what is read.
    let changes = [
        ("b TINYINT", int(-8), "b SMALLINT", int(-8)),
        ("i INT", int(7), "i BIGINT", int(7)),
        ("l BIGINT", int(1 << 60), "l DECIMAL(22, 2)", decimal("1152921504606846976.00")),
        // The shortest text of the float is what is stored, and so what the double is.
        ("f FLOAT", value(Kind::FloatValue(0.1)), "f DOUBLE", double(0.1)),
        ("d DECIMAL(6, 2)", decimal("12.50"), "d DECIMAL(9, 4)", decimal("12.5000")),
        ("v VARCHAR(3)", text("abc"), "v STRING", text("abc")),
        ("c CHAR(3)", text("abc"), "c VARCHAR(5)", text("abc")),
        ("n INT NOT NULL", int(1), "n INT", int(1)),
        ("a ARRAY<INT NOT NULL>", list(vec![int(1)]), "a ARRAY<BIGINT>", list(vec![int(1)])),
        (
            "e ARRAY<INT> OPTIONS (as_set = true)",
            list(vec![int(5)]),
            "e ARRAY<BIGINT> OPTIONS (as_set = true)",
            list(vec![int(5)]),
        ),
        (
            "m MAP<INT, FLOAT>",
            entry(int(3), value(Kind::FloatValue(1.5))),
            "m MAP<BIGINT, DOUBLE>",
            entry(int(3), double(1.5)),
        ),
        ("s STRUCT<x: INT>", fields(vec![int(4)]), "s STRUCT<x: BIGINT, y: STRING>", fields(vec![int(4), null()])),
        (
            "t ARRAY<STRUCT<x: INT NOT NULL>>",
            list(vec![fields(vec![int(4)])]),
            "t ARRAY<STRUCT<x: INT, y: DATE>>",
            list(vec![fields(vec![int(4), null()])]),
        ),
    ];
    let ddl_of = |columns: Vec<&str>, more: &str| format!("id STRING NOT NULL, {}{more}", columns.join(", "));
    let old = ddl_of(changes.iter().map(|change| change.0).collect(), "");
    let new = ddl_of(changes.iter().map(|change| change.2).collect(), ", z STRING, w INT NOT NULL DEFAULT 9");
    apply(&client, "wide", &old).await.unwrap();
    let stored = std::iter::once(text("old")).chain(changes.iter().map(|change| change.1.clone())).collect();
    write_with(&client, open("wide"), rows([stored])).await;

    let answer = apply(&client, "wide", &new).await.unwrap();
    assert_eq!((answer.result(), answer.schema_version), (v1::ApplyResult::Evolved, 2));
    let row = get(&client, "wide", vec![text("old")]).await.unwrap();
    for (change, read) in changes.iter().zip(&row[1..]) {
        assert_eq!(*read, change.3, "{} to {}", change.0, change.2);
    }
    // A default is what writers store: what an old row lacks reads as null.
    assert_eq!(row[changes.len() + 1..], [null(), null()]);

    // A row of the old columns, written now, gets the default.
    let stored = std::iter::once(text("new")).chain(changes.iter().map(|change| change.1.clone())).collect();
    write_with(&client, carrying("wide", &old), rows([stored])).await;
    let row = get(&client, "wide", vec![text("new")]).await.unwrap();
    assert_eq!(row[changes.len() + 1..], [null(), int(9)]);
    assert_eq!(names(&client, "wide", 1).await.len(), changes.len() + 1);
    assert_eq!(names(&client, "wide", 0).await.len(), changes.len() + 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn every_refused_change_names_its_path_and_leaves_the_table_as_it_is() {
    let (_gateway, client) = gateway::start().await;
    const OLD: &str = "id STRING NOT NULL, a INT, n INT NOT NULL DEFAULT 1, v VARCHAR(5), d DATE, \
                       s STRUCT<x: INT>, l ARRAY<STRUCT<x: INT>>, e ARRAY<INT>, m MAP<INT, INT>";
    apply(&client, "rows", OLD).await.unwrap();
    let cases = [
        ("id STRING NOT NULL", "id BIGINT NOT NULL", "id"),
        ("a INT", "a SMALLINT", "a"),
        ("a INT", "a STRING", "a"),
        ("a INT", "a INT NOT NULL", "a"),
        ("a INT, ", "", "a"),
        ("a INT", "renamed INT", "a"),
        ("a INT", "a INT, b INT NOT NULL", "b"),
        ("n INT NOT NULL DEFAULT 1", "n INT NOT NULL", "n.default_value"),
        ("v VARCHAR(5)", "v VARCHAR(4)", "v"),
        ("d DATE", "d DATE OPTIONS (time_encoding = number)", "d.time_encoding"),
        ("s STRUCT<x: INT>", "s STRUCT<y: INT>", "s.x"),
        ("s STRUCT<x: INT>", "s STRUCT<x: INT, y: INT NOT NULL>", "s.y"),
        ("l ARRAY<STRUCT<x: INT>>", "l ARRAY<STRUCT<x: DATE>>", "l[].x"),
        ("e ARRAY<INT>", "e ARRAY<INT> OPTIONS (as_set = true)", "e.as_set"),
        ("m MAP<INT, INT>", "m MAP<STRING, INT>", "m"),
    ];
    for (old, new, path) in cases {
        let changed = OLD.replacen(old, new, 1);
        assert_ne!(changed, OLD);
        let mut tables = v1::table_service_client::TableServiceClient::new(client.channel());
        let key = v1::Key { partition: vec!["id".to_owned()], ..v1::Key::default() };
        let table = v1::Table { name: "rows".to_owned(), ddl: changed, key: Some(key), ..v1::Table::default() };
        let request = v1::ApplyTableRequest { table: Some(table), dry_run: false };
        let status = tables.apply_table(request).await.expect_err(new);
        assert_eq!(status.code(), Code::FailedPrecondition, "{new}: {}", status.message());
        let details = status.get_error_details();
        let violations = &details.precondition_failure().unwrap().violations;
        let found = violations.iter().find(|violation| violation.subject == path);
        assert!(found.is_some_and(|violation| !violation.description.is_empty()), "{new}: {violations:?}");
    }
    let answer = apply(&client, "rows", OLD).await.unwrap();
    assert_eq!((answer.result(), answer.schema_version), (v1::ApplyResult::Unchanged, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn writers_of_two_versions_write_side_by_side() {
    let (_gateway, client) = gateway::start().await;
    table(&client, "rows", "id STRING NOT NULL, n INT", &["id"], &[]).await;
    let (mut old, hello) = opened(&client, open("rows")).await;
    assert_eq!(hello.schema_version, 1);
    let (new, hello) = opened(&client, adding("rows", "id STRING, n INT, extra STRING")).await;
    assert_eq!((hello.schema_version, hello.schema.unwrap().fields.len()), (2, 3));
    let Response::SchemaChanged(changed) = old.next().await else { panic!("the old session hears of it") };
    assert_eq!((changed.schema_version, changed.schema.unwrap().fields.len()), (2, 3));
    // The session that made the change has it in Opened, and hears nothing more: `write` sees acks and the end alone.
    write(new, rows([vec![text("new"), int(1), text("x")]])).await;
    write(old, rows([vec![text("old"), int(2)]])).await;
    assert_eq!(get(&client, "rows", vec![text("new")]).await, Some(vec![text("new"), int(1), text("x")]));
    assert_eq!(get(&client, "rows", vec![text("old")]).await, Some(vec![text("old"), int(2), null()]));
    assert_eq!(names(&client, "rows", 1).await, ["id", "n"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn sessions_of_other_gateways_hear_of_an_added_column() {
    let (_embedded, [(_one, first), (_other, second)]) = pods(0.2).await;
    table(&first, "rows", "id STRING NOT NULL", &["id"], &[]).await;
    let (mut listening, _) = opened(&second, open("rows")).await;
    opened(&first, adding("rows", "id STRING, extra INT")).await;
    let Response::SchemaChanged(changed) = listening.next().await else { panic!("an announcement") };
    assert_eq!((changed.schema_version, changed.schema.unwrap().fields.len()), (2, 2));
    write(listening, rows([vec![text("a")]])).await;
    assert_eq!(get(&second, "rows", vec![text("a")]).await, Some(vec![text("a"), null()]));
}

#[tokio::test(flavor = "multi_thread")]
async fn nested_fields_are_added_inside_structs_arrays_and_maps() {
    let (_gateway, client) = gateway::start().await;
    const OLD: &str = "id STRING NOT NULL, s STRUCT<x: INT>, l ARRAY<STRUCT<x: INT>>, m MAP<STRING, STRUCT<x: INT>>";
    table(&client, "rows", OLD, &["id"], &[]).await;
    let x = || fields(vec![int(1)]);
    let before = vec![text("old"), x(), list(vec![x()]), entry(text("k"), x())];
    write_with(&client, open("rows"), rows([before])).await;
    let session = adding(
        "rows",
        "id STRING, s STRUCT<y: VARCHAR(2) NOT NULL, x: INT>, l ARRAY<STRUCT<x: INT, y: INT>>, \
         m MAP<STRING, STRUCT<x: INT, y: STRUCT<z: INT>>>",
    );
    let row = vec![
        text("new"),
        fields(vec![text("ab"), int(2)]),
        list(vec![fields(vec![int(3), int(4)])]),
        entry(text("k"), fields(vec![int(5), fields(vec![int(6)])])),
    ];
    write_with(&client, session, rows([row])).await;
    let new = get(&client, "rows", vec![text("new")]).await.unwrap();
    let expected = [
        fields(vec![int(2), text("ab")]),
        list(vec![fields(vec![int(3), int(4)])]),
        entry(text("k"), fields(vec![int(5), fields(vec![int(6)])])),
    ];
    assert_eq!(new[1..], expected);
    let old = get(&client, "rows", vec![text("old")]).await.unwrap();
    let half = || fields(vec![int(1), null()]);
    assert_eq!(old[1..], [half(), list(vec![half()]), entry(text("k"), half())]);
    // The type came along: three characters are too many for varchar(2).
    let (mut session, _) = opened(&client, carrying("rows", "id STRING, s STRUCT<y: STRING>")).await;
    session.send_rows(1, rows([vec![text("long"), fields(vec![text("abc")])]])).await;
    let Response::Ack(ack) = session.next().await else { panic!("an ack") };
    assert_eq!((ack.outcomes[0].reason(), ack.outcomes[0].field_path.as_str()), (v1::RowReason::TooLong, "s.y"));
}

#[tokio::test(flavor = "multi_thread")]
async fn sessions_that_add_at_once_through_two_gateways_all_succeed() {
    // What a pod finds out here, it does not find out by refreshing.
    let (_embedded, pods) = pods(60.0).await;
    table(&pods[0].1, "rows", "id STRING NOT NULL", &["id"], &[]).await;
    let mut sessions = tokio::task::JoinSet::new();
    for (pod, (_, client)) in pods.iter().enumerate() {
        for task in 0..3 {
            let client = client.clone();
            sessions.spawn(async move {
                let open = adding("rows", &format!("id STRING, common INT, p{pod} INT, t{task} INT"));
                let key = format!("{pod}{task}");
                write_with(&client, open, rows([vec![text(key), int(1), int(2), int(3)]])).await;
            });
        }
    }
    sessions.join_all().await;
    let (_, client) = &pods[0];
    // Whoever was last left the whole table behind.
    opened(client, adding("rows", "id STRING, end INT")).await;
    let mut found = names(client, "rows", 0).await;
    found.sort_unstable();
    assert_eq!(found, ["common", "end", "id", "p0", "p1", "t0", "t1", "t2"]);
    let row = client.reader().strong(true).get_row("rows", vec![text("12")], &["common", "p1", "t2"]).await.unwrap();
    assert_eq!(row.lookup, client::Lookup::Found(vec![int(1), int(2), int(3)]));
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_types_for_one_new_column_the_first_stays() {
    let (_embedded, [(_one, first), (_other, second)]) = pods(60.0).await;
    table(&first, "rows", "id STRING NOT NULL", &["id"], &[]).await;
    // Both pods know the table without the column.
    opened(&second, open("rows")).await;
    opened(&first, adding("rows", "id STRING, c BIGINT")).await;
    // Another shape of value is refused, and a session that is refused adds nothing else either.
    let status = refused(&second, adding("rows", "id STRING, c ARRAY<INT>, more INT")).await;
    assert_eq!(status.code(), Code::InvalidArgument);
    assert!(status.message().contains("column `c`: array<int> does not fit"), "{}", status.message());
    // A narrower number fits into the column as it is.
    write_with(&second, adding("rows", "id STRING, c INT"), rows([vec![text("a"), int(5)]])).await;
    assert_eq!(get(&second, "rows", vec![text("a")]).await, Some(vec![text("a"), int(5)]));
    assert_eq!(names(&second, "rows", 0).await, ["id", "c"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn sessions_that_cannot_add_are_refused_and_change_nothing() {
    let (_gateway, client) = gateway::start().await;
    table(&client, "rows", "id STRING NOT NULL, must INT NOT NULL", &["id"], &[]).await;
    let new = || adding("rows", "id STRING, must INT, extra INT");
    let wide = (0..4095).map(|i| format!("c{i} INT")).collect::<Vec<_>>().join(", ");
    let cases = [
        (v1::Open { mode: v1::WriteMode::Delete.into(), ..new() }, "ADD_COLUMNS is for the other modes"),
        (v1::Open { validate_only: true, ..new() }, "validate_only changes nothing"),
        (adding("rows", "must INT, extra INT"), "key column `id`"),
        (adding("rows", "id STRING, extra INT"), "column `must`"),
        (adding("rows", &format!("id STRING, must INT, {wide}")), "4097 columns; at most 4096"),
        (adding("rows", &format!("id STRING, must INT, `{}` INT", "x".repeat(256))), "longer than 255 bytes"),
        (adding("rows", "id STRING, must INT, d STRING DEFAULT 5"), "the default does not fit"),
    ];
    for (open, words) in cases {
        let status = refused(&client, open).await;
        assert_eq!(status.code(), Code::InvalidArgument, "{}", status.message());
        assert!(status.message().contains(words), "{} lacks {words}", status.message());
    }
    // Without ADD_COLUMNS a new column is unknown.
    let status = refused(&client, carrying("rows", "id STRING, must INT, extra INT")).await;
    assert!(status.message().contains("no column `extra`"), "{}", status.message());
    assert_eq!(names(&client, "rows", 0).await, ["id", "must"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_that_drops_unknown_fields_takes_columns_that_are_to_be_added() {
    let (_gateway, client) = gateway::start().await;
    let key = v1::Key { partition: vec!["id".to_owned()], ..v1::Key::default() };
    let dropping = v1::Table {
        name: "rows".to_owned(),
        ddl: "id STRING NOT NULL".to_owned(),
        key: Some(key),
        unknown_fields: v1::UnknownFields::Drop.into(),
        ..v1::Table::default()
    };
    client.tables().apply(dropping, false).await.unwrap();
    write_with(&client, carrying("rows", "id STRING, a INT"), rows([vec![text("dropped"), int(1)]])).await;
    write_with(&client, adding("rows", "id STRING, a INT"), rows([vec![text("added"), int(1)]])).await;
    assert_eq!(get(&client, "rows", vec![text("dropped")]).await, Some(vec![text("dropped"), null()]));
    assert_eq!(get(&client, "rows", vec![text("added")]).await, Some(vec![text("added"), int(1)]));
}

#[tokio::test(flavor = "multi_thread")]
async fn arrow_columns_are_added_with_the_types_that_spark_says() {
    use arrow_schema::{DataType, Field, Schema};
    let (_gateway, client) = gateway::start().await;
    table(&client, "rows", "id STRING NOT NULL", &["id"], &[]).await;
    let schema_message = |fields: Vec<Field>| {
        let writer = arrow_ipc::writer::StreamWriter::try_new(Vec::new(), &Schema::new(fields)).unwrap();
        bytes::Bytes::from(writer.get_ref().clone())
    };
    let id = || Field::new("id", DataType::Utf8, false);
    let arrow = |fields, spark: &str| v1::Open {
        columns: None,
        arrow_schema: schema_message(fields),
        spark_schema_json: match spark {
            "" => String::new(),
            ddl => spark_json::print(&ddl::parse(ddl).unwrap()),
        },
        ..adding("rows", "id STRING")
    };
    let nulls = || vec![id(), Field::new("code", DataType::Null, true)];
    let status = refused(&client, arrow(nulls(), "")).await;
    assert!(
        status.message().contains("`code` cannot be added: Arrow's Null has no column type"),
        "{}",
        status.message()
    );
    let status = refused(&client, arrow(nulls(), "id STRING, other INT")).await;
    assert!(status.message().starts_with("open.spark_schema_json: column `other`"), "{}", status.message());
    let (_session, hello) = opened(&client, arrow(nulls(), "id STRING, code VARCHAR(3)")).await;
    let code = hello.schema.unwrap().fields.remove(1);
    assert_eq!(code.r#type.unwrap().r#type, Some(v1::data_type::Type::VarcharLength(3)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_column_gets_its_default_and_an_explicit_null_does_not() {
    let (_gateway, client) = gateway::start().await;
    const DDL: &str = "id STRING NOT NULL, n INT NOT NULL DEFAULT 7, tags ARRAY<STRING> OPTIONS (default_value = \
                       '[\"a\", \"b\"]'), plain INT";
    table(&client, "rows", DDL, &["id"], &[]).await;
    let bare = || carrying("rows", "id STRING");
    let missing = |choice: v1::OnMissing, open: v1::Open| v1::Open { on_missing: choice.into(), ..open };
    write_with(&client, bare(), rows([vec![text("unspecified")]])).await;
    write_with(&client, missing(v1::OnMissing::Default, bare()), rows([vec![text("default")]])).await;
    let tags = || list(vec![text("a"), text("b")]);
    for key in ["unspecified", "default"] {
        assert_eq!(get(&client, "rows", vec![text(key)]).await, Some(vec![text(key), int(7), tags(), null()]));
    }
    write_with(&client, open("rows"), rows([vec![text("null"), int(1), null(), null()]])).await;
    assert_eq!(get(&client, "rows", vec![text("null")]).await, Some(vec![text("null"), int(1), null(), null()]));

    let nulls = missing(v1::OnMissing::Null, carrying("rows", "id STRING, n INT"));
    write_with(&client, nulls, rows([vec![text("default"), int(2)]])).await;
    assert_eq!(get(&client, "rows", vec![text("default")]).await, Some(vec![text("default"), int(2), null(), null()]));
    let status = refused(&client, missing(v1::OnMissing::Null, bare())).await;
    assert!(status.message().starts_with("open.on_missing: NULL stores no defaults"), "{}", status.message());
    assert!(status.message().contains("column `n`"), "{}", status.message());
    let delete = v1::Open { mode: v1::WriteMode::Delete.into(), ..bare() };
    let status = refused(&client, missing(v1::OnMissing::Default, delete)).await;
    assert_eq!(status.code(), Code::InvalidArgument);

    let status = apply(&client, "rows", &DDL.replace("DEFAULT 7", "DEFAULT 3000000000")).await.unwrap_err().to_string();
    assert!(status.contains("table.schema.n: the default does not fit"), "{status}");
}
