//! The `forebay` command against a real gateway: what it loads is there, what it refuses is a sentence and an exit code.

#![allow(clippy::unwrap_used, reason = "helpers of tests are tests")]

use std::io::Write as _;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};
use std::sync::Arc;

use arrow_array::builder::{Int64Builder, ListBuilder};
use arrow_array::types::Int8Type;
use arrow_array::{
    ArrayRef, BooleanArray, Date32Array, Decimal128Array, DictionaryArray, Float64Array, Int32Array, LargeStringArray,
    RecordBatch, StructArray, TimestampMillisecondArray,
};
use forebay::client::{CheckRates, OpenOptions, Sample};
use forebay::proto::v1::value::Kind;
use forebay::proto::v1::{self, StoreAssignment};
use forebay::server::Gateway;
use serde_json::{Value, json};

#[path = "common/gateway.rs"]
mod gateway;

/// A gateway, a folder for files, and the command.
struct Shell {
    gateway: Gateway,
    folder: tempfile::TempDir,
}

/// What a run of the command said.
struct Said {
    code: i32,
    stdout: String,
    stderr: String,
}

impl Said {
    fn json(&self) -> Value {
        assert_eq!(self.stdout.lines().count(), 1, "one JSON object: {}{}", self.stdout, self.stderr);
        serde_json::from_str(&self.stdout).unwrap()
    }

    /// The one sentence of a failure.
    fn error(&self) -> &str {
        let sentence =
            self.stderr.trim_end().strip_prefix("forebay: error: ").unwrap_or_else(|| panic!("{}", self.stderr));
        assert_eq!(sentence.lines().count(), 1, "{sentence}");
        sentence
    }
}

impl Shell {
    async fn start() -> Self {
        let (gateway, _) = gateway::start().await;
        Self { gateway, folder: tempfile::tempdir().unwrap() }
    }

    fn file(&self, name: &str, content: impl AsRef<[u8]>) -> String {
        let path = self.path(name);
        std::fs::write(&path, content).unwrap();
        path.to_str().unwrap().to_owned()
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    async fn run(&self, arguments: &[&str]) -> Said {
        self.run_with(arguments, Vec::new()).await
    }

    async fn run_with(&self, arguments: &[&str], stdin: Vec<u8>) -> Said {
        run_at(&self.gateway.endpoint(), arguments, stdin).await
    }

    /// The row as `get --json` shows it.
    async fn row(&self, table: &str, key: &[&str]) -> Value {
        let arguments = [&["get", table][..], key, &["--strong", "--json"]].concat();
        let said = self.run(&arguments).await;
        assert_eq!(said.code, 0, "{}", said.stderr);
        said.json()["row"].take()
    }
}

async fn run_at(endpoint: &str, arguments: &[&str], stdin: Vec<u8>) -> Said {
    let mut command = Command::new(env!("CARGO_BIN_EXE_forebay"));
    command.args(arguments).env("FOREBAY_ENDPOINT", endpoint);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let run = move || -> std::io::Result<Output> {
        let mut child = command.spawn()?;
        let mut input = child.stdin.take().unwrap();
        // The command may end before it has read everything.
        let feeder = std::thread::spawn(move || input.write_all(&stdin).is_ok());
        let output = child.wait_with_output()?;
        feeder.join().unwrap();
        Ok(output)
    };
    let output = tokio::task::spawn_blocking(run).await.unwrap().unwrap();
    Said {
        code: output.status.code().unwrap(),
        stdout: String::from_utf8(output.stdout).unwrap(),
        stderr: String::from_utf8(output.stderr).unwrap(),
    }
}

const FLIGHTS: &str = "\
flight,leg,delay,fuel,on_time,day,departed,tail
UA1,1,-3,10.5,true,2013-01-01,2013-01-01 10:00:00+00:00,N1
UA1,2,,11,false,2013-01-02,2013-01-02 12:00:00+02:00,007
AA2,1,40,,true,,,\"a, \"\"b\"\"\"
";

#[tokio::test(flavor = "multi_thread")]
async fn a_csv_file_makes_its_table_and_every_value_is_read_back_typed() {
    let shell = Shell::start().await;
    let file = shell.file("flights.csv", FLIGHTS);
    // Twice: the same file again changes nothing. And by either payload.
    for payload in ["rows", "arrow"] {
        let load =
            ["load", &file, "--table", "flights", "--create", "--key", "flight,leg", "--payload", payload, "--json"];
        let said = shell.run(&load).await;
        assert_eq!(said.code, 0, "{}", said.stderr);
        let totals = said.json();
        assert_eq!((&totals["rows"], &totals["acked"], &totals["rejected"]), (&json!(3), &json!(3), &json!(0)));
        assert_eq!(
            shell.row("flights", &["UA1", "2"]).await,
            json!({
                "flight": "UA1", "leg": 2, "delay": null, "fuel": 11.0, "on_time": false, "day": "2013-01-02",
                "departed": "2013-01-02T10:00:00Z", "tail": "007",
            })
        );
        assert_eq!(shell.row("flights", &["AA2", "1"]).await["tail"], "a, \"b\"");
    }
    let said = shell.run(&["get", "flights", "UA1", "1", "--columns", "tail,delay"]).await;
    assert_eq!((said.code, said.stdout.as_str()), (0, "tail   N1\ndelay  -3\n"));
    let said = shell.run(&["get", "flights", "UA1", "--range", "--columns", "leg,tail", "--strong"]).await;
    assert_eq!((said.code, said.stdout.as_str()), (0, "leg   1\ntail  N1\n\nleg   2\ntail  007\n"));
    let backwards = ["get", "flights", "UA1", "--range", "--from=-5", "--descending", "--limit", "1", "--json"];
    let said = shell.run(&backwards).await;
    assert_eq!((said.code, said.json()["leg"].take()), (0, json!(2)));
    let said = shell.run(&["get", "flights", "UA1", "--range", "--to", "1"]).await;
    assert_eq!((said.code, said.error()), (3, "flights UA1: there are no such rows"));
    let said = shell.run(&["get", "flights", "UA1", "--range", "--from", "1", "--from", "2"]).await;
    assert_eq!((said.code, said.error()), (2, "the sort key of flights has 1 column (leg bigint); 2 values are given"));
    assert_eq!(shell.run(&["get", "flights", "UA1", "--from", "1"]).await.code, 2, "bounds are of ranges");
    let said = shell.run(&["load", &file, "--table", "flights", "--mode", "delete"]).await;
    assert_eq!(said.code, 0, "{}", said.stderr);
    let said = shell.run(&["get", "flights", "UA1", "1"]).await;
    assert_eq!((said.code, said.error()), (3, "flights UA1 1: there is no such row"));
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_that_do_not_fit_are_written_to_the_rejects_file_and_their_neighbours_to_the_table() {
    let shell = Shell::start().await;
    let good = shell.file("good.csv", "id,n\na,1\n");
    assert_eq!(shell.run(&["load", &good, "--table", "mixed", "--create", "--key", "id"]).await.code, 0);
    let file = shell.file("mixed.csv", "id,n\nb,2\nc,many\n,4\nd,5\n");
    let rejects = shell.path("rejects.ndjson");
    for payload in ["rows", "arrow"] {
        let rejects_path = rejects.to_str().unwrap();
        let load = ["load", &file, "--table", "mixed", "--rejects", rejects_path, "--payload", payload, "--json"];
        let said = shell.run(&load).await;
        assert_eq!(said.code, 1, "{}", said.stderr);
        let totals = said.json();
        assert_eq!((&totals["acked"], &totals["rejected"]), (&json!(2), &json!(2)));
        assert_eq!(totals["rejected_by_reason"], json!({ "NULL_NOT_ALLOWED": 1, "TYPE_MISMATCH": 1 }));
        let lines = std::fs::read_to_string(&rejects).unwrap();
        let mut lines: Vec<Value> = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        lines.sort_by_key(|line| line["row"].as_u64());
        assert_eq!(
            (&lines[0]["row"], &lines[0]["reason"], &lines[0]["field"]),
            (&json!(2), &json!("TYPE_MISMATCH"), &json!("n"))
        );
        assert_eq!(lines[0]["values"], json!({ "id": "c", "n": "many" }));
        assert_eq!((&lines[1]["row"], &lines[1]["values"]), (&json!(3), &json!({ "id": "", "n": "4" })));
        assert_eq!(shell.row("mixed", &["d"]).await["n"], 5);
    }
}

/// Columns as data frames write them: large strings, zoned times, dictionaries, nested types.
fn columns() -> RecordBatch {
    let ids: ArrayRef = Arc::new(LargeStringArray::from(vec!["a", "b", "c"]));
    let small: ArrayRef = Arc::new(Int32Array::from(vec![Some(1), None, Some(-3)]));
    let codes: DictionaryArray<Int8Type> = [Some("x"), None, Some("y")].into_iter().collect();
    let at = TimestampMillisecondArray::from(vec![Some(1_357_034_400_500), None, Some(-1)]).with_timezone("UTC");
    let day: ArrayRef = Arc::new(Date32Array::from(vec![Some(-1), Some(0), None]));
    let money = Decimal128Array::from(vec![Some(1250), None, Some(-5)]).with_precision_and_scale(10, 2).unwrap();
    let mut numbers = ListBuilder::new(Int64Builder::new());
    for list in [Some(vec![Some(1), None]), Some(vec![]), None] {
        numbers.append_option(list);
    }
    let score: ArrayRef = Arc::new(Float64Array::from(vec![0.1, -0.5, 1e100]));
    let flag: ArrayRef = Arc::new(BooleanArray::from(vec![Some(true), None, Some(false)]));
    let inner = StructArray::try_from(vec![("score", score), ("flag", flag)]).unwrap();
    RecordBatch::try_from_iter_with_nullable([
        ("id", ids, false),
        ("small", small, true),
        ("code", Arc::new(codes) as ArrayRef, true),
        ("at", Arc::new(at) as ArrayRef, true),
        ("day", day, true),
        ("money", Arc::new(money) as ArrayRef, true),
        ("numbers", Arc::new(numbers.finish()) as ArrayRef, true),
        ("inner", Arc::new(inner) as ArrayRef, true),
    ])
    .unwrap()
}

fn expected() -> [Value; 3] {
    [
        json!({
            "id": "a", "small": 1, "code": "x", "at": "2013-01-01T10:00:00.500000Z", "day": "1969-12-31",
            "money": "12.50", "numbers": [1, null], "inner": { "score": 0.1, "flag": true },
        }),
        json!({
            "id": "b", "small": null, "code": null, "at": null, "day": "1970-01-01",
            "money": null, "numbers": [], "inner": { "score": -0.5, "flag": null },
        }),
        json!({
            "id": "c", "small": -3, "code": "y", "at": "1969-12-31T23:59:59.999000Z", "day": null,
            "money": "-0.05", "numbers": null, "inner": { "score": 1e100, "flag": false },
        }),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn columnar_files_keep_their_types_by_either_payload() {
    let shell = Shell::start().await;
    let batch = columns();
    let parquet = shell.path("t.parquet");
    let mut writer =
        parquet::arrow::ArrowWriter::try_new(std::fs::File::create(&parquet).unwrap(), batch.schema(), None).unwrap();
    writer.write(&batch).unwrap();
    writer.close().unwrap();
    let mut file = arrow_ipc::writer::FileWriter::try_new(Vec::new(), &batch.schema()).unwrap();
    file.write(&batch).unwrap();
    let arrow = shell.file("t.arrow", file.into_inner().unwrap());
    let mut stream = arrow_ipc::writer::StreamWriter::try_new(Vec::new(), &batch.schema()).unwrap();
    stream.write(&batch).unwrap();
    let stream = stream.into_inner().unwrap();

    let inputs = [(parquet.to_str().unwrap(), vec![]), (arrow.as_str(), vec![]), ("-", stream)];
    for (number, (input, stdin)) in inputs.into_iter().enumerate() {
        for payload in ["arrow", "rows"] {
            let table = format!("typed-{number}-{payload}");
            let load = [
                "load",
                input,
                "--table",
                &table,
                "--create",
                "--key",
                "id",
                "--payload",
                payload,
                "--batch-rows",
                "2",
            ];
            let said = shell.run_with(&load, stdin.clone()).await;
            assert_eq!(said.code, 0, "{input} {payload}: {}", said.stderr);
            assert!(said.stdout.contains("3 rows, 3 acked, 0 rejected"), "{}", said.stdout);
            for row in expected() {
                assert_eq!(shell.row(&table, &[row["id"].as_str().unwrap()]).await, row, "{input} {payload}");
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_spark_wrote_brings_the_types_that_parquet_does_not_tell() {
    let shell = Shell::start().await;
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/types/spark.parquet");
    let said = shell.run(&["load", file, "--table", "spark", "--create", "--key", "id", "--json"]).await;
    assert_eq!((said.code, &said.json()["acked"]), (0, &json!(5)), "{}", said.stderr);
    let ddl = shell.run(&["tables", "get", "spark", "--ddl"]).await.stdout;
    for column in
        ["v VARIANT", "ym INTERVAL YEAR TO MONTH", "dt INTERVAL DAY TO SECOND", "ts TIMESTAMP,", "small TINYINT"]
    {
        assert!(ddl.contains(column), "{column}: {ddl}");
    }
    let row = shell.run(&["get", "spark", "3", "--json"]).await.json();
    let expected = json!({
        "id": "3",
        "small": 3,
        "v": { "n": 3, "t": ["x", 1.5] },
        "ym": 14,
        "dt": 93_784_500_000_i64,
        "ntz": "2024-02-29T12:00:00",
        "ts": "2024-02-29T12:00:00.123456Z",
        "tss": ["2024-02-29T12:00:00Z"],
        "m": { "a": [{ "hr": 60 }] },
        "d": "1.25",
        "day": "1969-12-31",
        "b": "AP8=",
    });
    assert_eq!(row["row"], expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn json_lines_keep_nested_values_and_long_decimals() {
    let shell = Shell::start().await;
    let lines = r#"{"id": "a", "geo": {"lat": 1.5, "tags": ["x", null]}, "n": 9007199254740993}

{"id": "b", "at": "2026-01-31T12:00:00+02:00"}
"#;
    let file = shell.file("rows.ndjson", lines);
    let said = shell.run(&["load", &file, "--table", "nested", "--create", "--key", "id"]).await;
    assert_eq!(said.code, 0, "{}", said.stderr);
    let row = shell.row("nested", &["a"]).await;
    assert_eq!(
        row,
        json!({ "id": "a", "geo": { "lat": 1.5, "tags": ["x", null] }, "n": 9007199254740993_i64, "at": null })
    );
    assert_eq!(shell.row("nested", &["b"]).await["at"], "2026-01-31T10:00:00Z");

    let client = forebay::client::connect(&shell.gateway.endpoint()).unwrap();
    gateway::table(&client, "money", "id STRING NOT NULL, amount DECIMAL(38,2)", &["id"], &[]).await;
    let said = shell.run_with(
        &["load", "-", "--format", "ndjson", "--table", "money"],
        br#"{"id": "a", "amount": 123456789012345678901234567890.50}"#.to_vec(),
    );
    assert_eq!(said.await.code, 0);
    assert_eq!(shell.row("money", &["a"]).await["amount"], "123456789012345678901234567890.50");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_column_of_several_types_becomes_a_variant_and_keeps_every_value() {
    let shell = Shell::start().await;
    let of = [
        r#"{"id": "a", "of": 1, "big": 9223372036854775809, "any": {}}"#,
        r#"{"id": "b", "of": ["x", null, {"deep": [0.5, true]}], "big": 1, "any": {}}"#,
        r#"{"id": "c", "of": {"n": 0.12345678901234567890}, "big": null, "any": null}"#,
    ];
    let file = shell.file("of.ndjson", of.join("\n"));
    let said = shell.run(&["load", &file, "--table", "several", "--create", "--key", "id"]).await;
    assert_eq!(said.code, 0, "{}", said.stderr);
    let expected = [
        json!({"id": "a", "of": 1, "big": "9223372036854775809", "any": {}}),
        json!({"id": "b", "of": ["x", null, {"deep": [0.5, true]}], "big": 1, "any": {}}),
        json!({"id": "c", "of": {"n": "0.1234567890123456789"}, "big": null, "any": null}),
    ];
    for (id, expected) in ["a", "b", "c"].into_iter().zip(expected) {
        assert_eq!(shell.row("several", &[id]).await, expected);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_is_broken_or_does_not_fit_is_one_sentence_and_nothing_is_done() {
    let shell = Shell::start().await;
    let file = shell.file("flights.csv", FLIGHTS);
    assert_eq!(shell.run(&["load", &file, "--table", "there", "--create", "--key", "flight,leg"]).await.code, 0);
    let broken = shell.file("broken.csv", format!("{FLIGHTS}AA3,1\n"));
    let no_parquet = shell.file("no.parquet", "hello");
    let no_json = shell.file("no.ndjson", "{\"id\": 1}\n{\"id\": }\n");
    let mixed = shell.file("mixed.ndjson", "{\"id\": 1}\n{\"id\": \"x\"}\n");
    let other = shell.file("other.csv", "flight,leg,wings\nA,1,2\n");
    let keyless = shell.file("keyless.csv", "flight,delay\nA,1\n");
    let twice = shell.file("twice.csv", "a,b,a\n1,2,3\n");
    let empty = shell.file("empty.csv", "");
    let latin = shell.file("latin.csv", b"id,name\n1,Caf\xe9\n");
    let unknown = shell.file("notes", "hello");
    for (file, key, expected) in [
        (&broken, "flight,leg", "broken.csv line 5: 2 fields, the header has 8"),
        (&file, "wings", "the key column `wings` is not in flights.csv, which has flight, leg, delay"),
        (&no_parquet, "id", "no.parquet is not a Parquet file that can be read: "),
        (&no_json, "id", "no.ndjson line 2, column 8: expected value; expected one JSON object"),
        (&mixed, "id", "mixed.ndjson: the key column `id` holds values of several types, and a key must have one"),
        (&twice, "a", "twice.csv line 1: the header has the column `a` twice"),
        (&empty, "id", "empty.csv has no header line"),
        (&latin, "id", "latin.csv line 2: field 2 is not UTF-8"),
        (&unknown, "id", "notes: its format cannot be told from its name or its first bytes; say --format"),
        (&"nowhere.csv".to_owned(), "id", "there is no file nowhere.csv"),
    ] {
        let said = shell.run(&["load", file, "--table", "new-table", "--create", "--key", key]).await;
        assert_eq!(said.code, 2, "{expected}: {}", said.stderr);
        assert!(said.error().starts_with(expected), "{}", said.stderr);
        let said = shell.run(&["get", "new-table", "x"]).await;
        assert!(said.error().contains("no table `new-table`"), "{}", said.stderr);
    }
    for (file, expected) in [
        (&other, "other.csv has the column `wings`, which the table there does not have; it has flight, leg"),
        (&keyless, "keyless.csv lacks the key column `leg` of the table there; it has flight, delay"),
    ] {
        let said = shell.run(&["load", file, "--table", "there"]).await;
        assert_eq!(said.code, 2);
        assert!(said.error().starts_with(expected), "{}", said.stderr);
    }
    let said = shell.run(&["load", &file, "--table", "there", "--create", "--key", "tail"]).await;
    assert_eq!((said.code, said.error()), (2, "the table there is there with the key flight,leg, not tail"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_breaks_later_says_how_many_rows_were_acked_before() {
    let shell = Shell::start().await;
    let client = forebay::client::connect(&shell.gateway.endpoint()).unwrap();
    gateway::table(&client, "streamed", "id BIGINT NOT NULL, text STRING", &["id"], &[]).await;
    let mut csv = String::from("id,text\n");
    let filler = "x".repeat(10_000);
    (0..500).for_each(|id| csv += &format!("{id},{filler}\n"));
    csv += "500\n501,y\n";
    let said = shell.run_with(&["load", "-", "--format", "csv", "--table", "streamed"], csv.into_bytes()).await;
    assert_eq!(said.code, 2);
    assert_eq!(said.error(), "standard input line 502: 1 field, the header has 2; 500 rows before it were acked");
    assert_eq!(shell.row("streamed", &["499"]).await["id"], 499);
}

/// Makes a table with a mode.
async fn table_of_mode(shell: &Shell, name: &str, ddl: &str, mode: StoreAssignment) {
    let client = forebay::client::connect(&shell.gateway.endpoint()).unwrap();
    let key = v1::Key { partition: vec!["id".to_owned()], ..v1::Key::default() };
    let mut table = v1::Table { name: name.to_owned(), ddl: ddl.to_owned(), key: Some(key), ..v1::Table::default() };
    table.set_store_assignment(mode);
    client.tables().apply(table, false).await.unwrap();
}

const MODES: [(&str, StoreAssignment); 3] =
    [("strict", StoreAssignment::Strict), ("ansi", StoreAssignment::Ansi), ("legacy", StoreAssignment::Legacy)];

/// Loads a file; gives the totals, and row, reason and field of every reject, and the rejects as they were written.
async fn load(
    shell: &Shell,
    file: &str,
    table: &str,
    more: &[&str],
) -> (Value, Vec<(u64, String, String)>, Vec<Value>) {
    let rejects = shell.path("rejects.ndjson");
    let arguments = ["load", file, "--table", table, "--rejects", rejects.to_str().unwrap(), "--json"];
    let said = shell.run(&[&arguments[..], more].concat()).await;
    assert!(said.code < 2, "{}", said.stderr);
    let lines = std::fs::read_to_string(&rejects).unwrap();
    let mut lines: Vec<Value> = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    lines.sort_by_key(|line| line["row"].as_u64());
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let places = lines.iter().map(|l| (l["row"].as_u64().unwrap(), text(&l["reason"]), text(&l["field"]))).collect();
    (said.json(), places, lines)
}

fn places(expected: &[(u64, &str, &str)]) -> Vec<(u64, String, String)> {
    expected.iter().map(|(row, reason, field)| (*row, (*reason).to_owned(), (*field).to_owned())).collect()
}

const USE_LEGACY: &str = "cast it before it is sent, or give the table or the session `store_assignment: legacy`";
const USE_ANSI: &str = "cast it before it is sent, or give the table or the session `store_assignment: ansi`";

const SLOPPY_DDL: &str = "id BIGINT NOT NULL, n TINYINT, ok BOOLEAN, day DATE";
const SLOPPY: &str = "\
id,n,ok,day
1,12,true,2024-01-05
2,12.5,true,2024-01-05
3, 12 ,yes,2024-01-05
4,300,true,2024-01-05
5,many,true,2024-01-05
6,12,true,2024-1-5
";

#[tokio::test(flavor = "multi_thread")]
async fn a_csv_file_goes_through_the_mode_of_its_table() {
    let shell = Shell::start().await;
    let file = shell.file("sloppy.csv", SLOPPY);
    for (mode, assignment) in MODES {
        table_of_mode(&shell, mode, SLOPPY_DDL, assignment).await;
    }
    let (totals, refused, lines) = load(&shell, &file, "strict", &[]).await;
    let strict = places(&[
        (2, "INEXACT", "n"),
        (3, "TYPE_MISMATCH", "ok"),
        (4, "OUT_OF_RANGE", "n"),
        (5, "TYPE_MISMATCH", "n"),
        (6, "TYPE_MISMATCH", "day"),
    ]);
    assert_eq!((&totals["acked"], &totals["coercions"], refused), (&json!(1), &json!({}), strict.clone()));
    let typed: Vec<_> = lines.iter().map(|line| (&line["declared"], &line["found"], &line["hint"])).collect();
    assert_eq!(
        typed,
        [
            (&json!("tinyint"), &json!("decimal"), &json!(USE_ANSI)),
            (&json!("boolean"), &json!("string"), &json!(USE_LEGACY)),
            (&json!("tinyint"), &json!("bigint"), &json!("send a value in range, or widen the column")),
            (&json!("tinyint"), &json!("string"), &json!("expected an integer such as -12")),
            (&json!("date"), &json!("string"), &json!(USE_LEGACY)),
        ]
    );
    assert!(lines.iter().all(|line| line.get("value").is_none()), "values only where the table allows them");

    let (totals, refused, _) = load(&shell, &file, "ansi", &[]).await;
    assert_eq!(refused, strict[1..], "what the gateway rejects, it rejects as the loader does");
    assert_eq!((&totals["acked"], &totals["coercions"]), (&json!(2), &json!({ "n: decimal->tinyint": 1 })));
    assert_eq!(shell.row("ansi", &["2"]).await["n"], 12);

    let (totals, refused, _) = load(&shell, &file, "legacy", &[]).await;
    assert_eq!(refused, places(&[(4, "OUT_OF_RANGE", "n"), (5, "TYPE_MISMATCH", "n")]));
    let coercions = json!({ "n: string->tinyint": 1, "ok: string->boolean": 1, "day: string->date": 1 });
    assert_eq!((&totals["acked"], &totals["coercions"]), (&json!(4), &coercions));
    assert_eq!(shell.row("legacy", &["3"]).await, json!({ "id": 3, "n": 12, "ok": true, "day": "2024-01-05" }));
    assert_eq!(shell.row("legacy", &["6"]).await["day"], "2024-01-05");

    let (_, refused, lines) = load(&shell, &file, "legacy", &["--payload", "arrow"]).await;
    assert_eq!(refused.iter().map(|(row, ..)| *row).collect::<Vec<_>>(), [2, 3, 4, 5, 6]);
    let hint = "say --payload rows: as Arrow only exact values of the declared type can travel";
    assert_eq!((&lines[0]["hint"], &lines[1]["hint"], &lines[4]["hint"]), (&json!(hint), &json!(hint), &json!(hint)));

    let said = shell.run(&["load", &file, "--table", "legacy"]).await;
    let expected = "  row 4, n: the value is outside the range of tinyint (OUT_OF_RANGE; declared tinyint, found string): send a \
                    value in range, or widen the column\n";
    assert!(said.stdout.contains(expected), "{}", said.stdout);
    assert!(said.stdout.contains("  coerced          1  n: string->tinyint\n"), "{}", said.stdout);
}

#[tokio::test(flavor = "multi_thread")]
async fn json_lines_go_through_the_mode_of_their_table() {
    let shell = Shell::start().await;
    let lines = r#"{"id": 1, "n": 12, "s": {"name": "x", "scores": [1.5]}}
{"id": 2, "n": "12", "s": {"name": "x"}}
{"id": 3, "n": 12.5, "s": {"name": "x"}}
{"id": 4, "n": 12, "s": {"name": 17.50}}
{"id": 5, "n": [12]}
{"id": 6, "s": {"name": "x", "scores": [1, "2.5", "y"]}}
{"id": 7, "m": {"1": 1, "x": 2}}
"#;
    let file = shell.file("sloppy.ndjson", lines);
    let ddl = "id BIGINT NOT NULL, n INT, s STRUCT<name: STRING, scores: ARRAY<DOUBLE>>, m MAP<INT, INT>";
    for (mode, assignment) in MODES {
        table_of_mode(&shell, mode, ddl, assignment).await;
    }
    let (totals, refused, lines) = load(&shell, &file, "strict", &[]).await;
    let strict = places(&[
        (2, "TYPE_MISMATCH", "n"),
        (3, "INEXACT", "n"),
        (4, "TYPE_MISMATCH", "s.name"),
        (5, "TYPE_MISMATCH", "n"),
        (6, "TYPE_MISMATCH", "s.scores[1]"),
        (7, "TYPE_MISMATCH", "m[1].key"),
    ]);
    assert_eq!((&totals["acked"], refused), (&json!(1), strict.clone()));
    let hints: Vec<_> = lines.iter().map(|line| line["hint"].as_str().unwrap()).collect();
    let read = "expected an integer such as -12";
    assert_eq!(hints, [USE_LEGACY, USE_ANSI, USE_ANSI, "send a value of the declared type", USE_LEGACY, read]);

    let (totals, refused, _) = load(&shell, &file, "ansi", &[]).await;
    assert_eq!(refused, [&strict[..1], &strict[3..]].concat());
    let coercions = json!({ "n: decimal->int": 1, "s.name: decimal->string": 1 });
    assert_eq!((&totals["acked"], &totals["coercions"]), (&json!(3), &coercions));
    assert_eq!(shell.row("ansi", &["4"]).await["s"]["name"], "17.5");

    let (totals, refused, _) = load(&shell, &file, "legacy", &[]).await;
    let legacy = [(5, "TYPE_MISMATCH", "n"), (6, "TYPE_MISMATCH", "s.scores[2]"), (7, "TYPE_MISMATCH", "m[1].key")];
    assert_eq!(refused, places(&legacy));
    assert_eq!((&totals["acked"], &totals["coercions"]["n: string->int"]), (&json!(4), &json!(1)));
    assert_eq!(
        (shell.row("legacy", &["2"]).await["n"].take(), shell.row("legacy", &["3"]).await["n"].take()),
        (json!(12), json!(12))
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn fields_that_a_table_drops_from_json_lines_are_counted_by_path_in_rows_that_are_stored() {
    let shell = Shell::start().await;
    let client = forebay::client::connect(&shell.gateway.endpoint()).unwrap();
    let ddl = "id STRING NOT NULL, n TINYINT, o STRUCT<a: INT>, l ARRAY<STRUCT<a: INT>>";
    table_of_mode(&shell, "loose", ddl, StoreAssignment::Ansi).await;
    let mut table = client.tables().get("loose").await.unwrap().table.unwrap();
    table.set_unknown_fields(v1::UnknownFields::Drop);
    client.tables().apply(table, false).await.unwrap();
    let lines = r#"{"id": "s1", "n": 1, "o": {"a": 1}}
{"id": "s2", "o": {"a": 1, "zz": 2}}
{"id": "s3", "zz": 1}
{"id": "s4", "zz": 1, "l": [{"a": 1, "zz": 1}, {"zz": 2}]}
{"id": "s5", "zz": 1, "n": 300}
{"id": "s6", "zz": 1, "n": [1]}
{"id": "s7", "n": 1.5}
"#;
    let file = shell.file("loose.ndjson", lines);
    let dropped = json!({
        "o.zz: unknown field->dropped": 1,
        "zz: unknown field->dropped": 2,
        "l[].zz: unknown field->dropped": 2,
        "n: decimal->tinyint": 1,
    });
    // Row 5 is rejected by the gateway, row 6 by the loader.
    let (totals, refused, _) = load(&shell, &file, "loose", &["--batch-rows", "2"]).await;
    assert_eq!(refused, places(&[(5, "OUT_OF_RANGE", "n"), (6, "TYPE_MISMATCH", "n")]));
    assert_eq!((&totals["acked"], &totals["coercions"]), (&json!(5), &dropped));
    let said = shell.run(&["check", &file, "--table", "loose", "--json"]).await;
    assert_eq!((&said.json()["accepted"], &said.json()["coercions"]), (&json!(5), &dropped));
    for command in ["load", "check"] {
        let said = shell.run(&[command, &file, "--table", "loose"]).await;
        assert!(said.stdout.contains("  coerced          1  o.zz: unknown field->dropped\n"), "{}", said.stdout);
    }
    let said = shell.run(&["check", &file, "--table", "loose", "--rows", "2", "--json"]).await;
    assert_eq!(said.json()["coercions"], json!({ "o.zz: unknown field->dropped": 1 }));
    let cells = shell.file("loose.csv", "id,o\nc1,\"{\"\"zz\"\": 1}\"\n");
    let (totals, ..) = load(&shell, &cells, "loose", &["--payload", "arrow"]).await;
    assert_eq!(totals["coercions"], json!({ "o.zz: unknown field->dropped": 1 }));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_json_line_that_has_a_field_twice_is_rejected_in_every_mode() {
    let shell = Shell::start().await;
    let lines = r#"{"id": "1", "n": 9, "n": 8}
{"id": "2", "o": {"a": 1, "a": 2}}
{"id": "3", "m": {"x": 1, "x": 2}}
{"id": "4", "v": {"x": 1, "x": 2}}
{"id": "5", "id": "6"}
{"id": "7", "n": null, "n": 1}
{"id": "8", "n": 1}
"#;
    let file = shell.file("twice.ndjson", lines);
    let ddl = "id STRING NOT NULL, n INT, o STRUCT<a: INT>, m MAP<STRING, INT>, v VARIANT";
    for (mode, assignment) in MODES {
        table_of_mode(&shell, mode, ddl, assignment).await;
        let (totals, refused, _) = load(&shell, &file, mode, &[]).await;
        let twice = "DUPLICATE_MAP_KEY";
        let rejects = [
            (1, twice, "n"),
            (2, twice, "o.a"),
            (3, twice, "m[1].key"),
            (4, twice, "v.x"),
            (5, twice, "id"),
            (6, twice, "n"),
        ];
        assert_eq!((refused, &totals["acked"]), (places(&rejects), &json!(1)), "{mode}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rejected_json_line_is_in_the_rejects_file_as_it_was_in_the_file() {
    let shell = Shell::start().await;
    let lines = [
        r#"{"id": "1", "n": 123456789012345678901234567890.1234567890}"#,
        r#"{"id": "2", "n": 9, "n": 8.50}"#,
        r#"{"id": "3",  "n":[1e0, "\u0041"] }"#,
        r#"{"id": "4", "n": 300000000000000000000.10}"#,
    ];
    // A line that begins with a blank, too.
    let file = shell.file("kept.ndjson", format!(" {}\n", lines.join(" \n ")));
    // In STRICT the loader rejects, in LEGACY the gateway does some.
    for (mode, assignment) in MODES {
        table_of_mode(&shell, mode, "id STRING NOT NULL, n INT", assignment).await;
        let (_, refused, _) = load(&shell, &file, mode, &[]).await;
        assert_eq!(refused.len(), 4, "{mode}: {refused:?}");
        let mut rejects: Vec<_> =
            std::fs::read_to_string(shell.path("rejects.ndjson")).unwrap().lines().map(str::to_owned).collect();
        rejects.sort_by_key(|reject| serde_json::from_str::<Value>(reject).unwrap()["row"].as_u64());
        for (reject, line) in rejects.iter().zip(lines) {
            assert!(reject.ends_with(&format!(r#","values":{line}}}"#)), "{mode}: {reject}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn floats_are_read_as_the_nearest_and_longer_literals_only_where_rounding_is_allowed() {
    let shell = Shell::start().await;
    let many = format!("0.1{}1", "0".repeat(60));
    let rows =
        [("1", "0.1", "0.1"), ("2", "0.123456789012", "1"), ("3", "1", "0.123456789012345678"), ("4", &many, &many)];
    let csv: String = rows.iter().map(|(id, f, d)| format!("{id},{f},{d}\n")).collect();
    let json: String =
        rows.iter().map(|(id, f, d)| format!("{{\"id\": \"{id}\", \"f\": {f}, \"d\": {d}}}\n")).collect();
    let files = [shell.file("floats.csv", format!("id,f,d\n{csv}")), shell.file("floats.ndjson", json)];
    for (mode, assignment) in MODES {
        table_of_mode(&shell, mode, "id STRING NOT NULL, f FLOAT, d DOUBLE", assignment).await;
        for (format, file) in ["csv", "ndjson"].into_iter().zip(&files) {
            let (totals, refused, lines) = load(&shell, file, mode, &[]).await;
            if mode == "strict" {
                assert_eq!(refused, places(&[(2, "INEXACT", "f"), (3, "INEXACT", "d"), (4, "INEXACT", "f")]));
                assert!(lines.iter().all(|line| line["hint"] == USE_ANSI), "{lines:?}");
                assert_eq!(totals["coercions"], json!({}));
            } else {
                let coercions = match (mode, format) {
                    ("legacy", "csv") => json!({ "f: string->float": 2, "d: string->double": 2 }),
                    _ => json!({ "f: double->float": 1, "f: decimal->float": 1, "d: decimal->double": 2 }),
                };
                assert_eq!((refused, &totals["coercions"]), (places(&[]), &coercions), "{mode} {format}");
                let expected = json!({ "id": "4", "f": 0.1, "d": 0.1 });
                assert_eq!(shell.row(mode, &["4"]).await, expected, "{mode} {format}");
                assert_eq!(shell.row(mode, &["3"]).await["d"], 0.123_456_789_012_345_68);
            }
            assert_eq!(shell.row(mode, &["1"]).await, json!({ "id": "1", "f": 0.1, "d": 0.1 }));
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_loader_rejects_the_gateway_rejects_in_the_same_words() {
    let shell = Shell::start().await;
    table_of_mode(&shell, "strict", SLOPPY_DDL, StoreAssignment::Strict).await;
    let file = shell.file("sloppy.csv", SLOPPY);
    let (_, _, lines) = load(&shell, &file, "strict", &[]).await;
    let decimal = v1::Value { kind: Some(Kind::DecimalValue("12.5".to_owned())) };
    let (flag, day) = (v1::Value { kind: Some(Kind::BoolValue(true)) }, v1::Value { kind: Some(Kind::DateDays(0)) });
    let (int, text) = (gateway::int, |text: &str| gateway::text(text));
    // The rows of the file that do not fit, from a client that has typed values.
    let rows = gateway::rows([
        vec![int(2), decimal, flag.clone(), day.clone()],
        vec![int(3), int(12), text("yes"), day.clone()],
        vec![int(4), int(300), flag.clone(), day.clone()],
        vec![int(5), text("many"), flag.clone(), day],
        vec![int(6), int(12), flag, text("2024-1-5")],
    ]);
    let client = forebay::client::connect(&shell.gateway.endpoint()).unwrap();
    let (options, sample) = (OpenOptions::new("strict"), Sample::Rows(rows));
    let answer = client.tables().check(options, sample, CheckRates::default()).await.unwrap();
    assert_eq!((answer.rejected.len(), lines.len()), (5, 5));
    for (gateways, loaders) in answer.rejected.iter().zip(&lines) {
        let reason = gateways.reason().as_str_name().trim_start_matches("ROW_REASON_");
        let said = [reason, &gateways.field_path, &gateways.message, &gateways.declared_type, &gateways.found_type];
        assert_eq!(json!(said), json!(["reason", "field", "message", "declared", "found"].map(|key| &loaders[key])));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn rejects_show_values_only_of_tables_that_allow_it_whoever_rejected_them() {
    let shell = Shell::start().await;
    let client = forebay::client::connect(&shell.gateway.endpoint()).unwrap();
    let file = shell.file("secret.csv", format!("id,n\n1,{}\n2,300\n", "9".repeat(40)));
    // In STRICT the loader rejects, in ANSI the gateway does.
    for (mode, assignment) in &MODES[..2] {
        table_of_mode(&shell, mode, "id BIGINT NOT NULL, n TINYINT", *assignment).await;
        let mut table = client.tables().get(mode).await.unwrap().table.unwrap();
        table.show_values_in_outcomes = true;
        client.tables().apply(table, false).await.unwrap();
        let (_, _, lines) = load(&shell, &file, mode, &[]).await;
        let values: Vec<_> = lines.iter().map(|line| (&line["reason"], line.get("value"))).collect();
        // A number of more digits than a decimal has is not read at all, so that there is nothing to show.
        assert_eq!(values, [(&json!("OUT_OF_RANGE"), None), (&json!("OUT_OF_RANGE"), Some(&json!("300")))], "{mode}");
        let said = shell.run(&["load", &file, "--table", mode]).await;
        let expected = "  row 2, n: the value is outside the range of tinyint (OUT_OF_RANGE; declared tinyint, found bigint; value \
                        \"300\"): send a value in range, or widen the column\n";
        assert!(said.stdout.contains(expected), "{}", said.stdout);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_is_checked_and_nothing_of_it_is_written() {
    let shell = Shell::start().await;
    table_of_mode(&shell, "ansi", SLOPPY_DDL, StoreAssignment::Ansi).await;
    let file = shell.file("sloppy.csv", SLOPPY.to_owned() + "1,,,\n");
    let said = shell.run(&["check", &file, "--table", "ansi", "--rate", "500", "--price", "2", "--json"]).await;
    assert_eq!(said.code, 1, "{}", said.stderr);
    let answer = said.json();
    // id 2+2, n 1+2, ok 2+1, day 3+10 bytes for the first two rows; 4 for the last one.
    assert_eq!(answer["item_bytes"], json!({ "min": 4, "p50": 23, "p99": 23, "max": 23 }));
    assert_eq!((&answer["rows"], &answer["accepted"], &answer["rejected"]), (&json!(7), &json!(3), &json!(4)));
    assert_eq!((&answer["repeated_key_rows"], &answer["coercions"]), (&json!(1), &json!({ "n: decimal->tinyint": 1 })));
    assert_eq!((&answer["write_units_per_second"], &answer["usd_per_million_rows"]), (&json!(500.0), &json!(2.0)));
    let reasons: Vec<_> = answer["rejected_by_reason"].as_array().unwrap().iter().collect();
    let counted: Vec<_> = reasons.iter().map(|r| (&r["field"], &r["reason"], &r["count"])).collect();
    let (mismatch, range) = (json!("TYPE_MISMATCH"), json!("OUT_OF_RANGE"));
    let (day, n, ok, one) = (json!("day"), json!("n"), json!("ok"), json!(1));
    assert_eq!(counted, [(&day, &mismatch, &one), (&n, &range, &one), (&n, &mismatch, &one), (&ok, &mismatch, &one)]);
    let examples: Vec<_> = answer["examples"].as_array().unwrap().iter().map(|e| e["row"].as_u64().unwrap()).collect();
    assert_eq!(examples, [3, 4, 5, 6]);
    let said = shell.run(&["get", "ansi", "1"]).await;
    assert_eq!(said.code, 3, "nothing was written: {}", said.stdout);

    let said = shell.run(&["check", &file, "--table", "ansi", "--rows", "2"]).await;
    assert_eq!((said.code, said.stderr.as_str()), (0, ""));
    let expected = "\
sloppy.csv -> ansi: 2 rows checked, 2 accepted, 0 rejected; nothing was written
  coerced          1  n: decimal->tinyint
  item bytes    23 least, 23 median, 23 at the 99th percentile, 23 most
  write units   1000.0 a second at 1000 rows/s; 1000000 a million rows, which cost 0.62 USD at 0.625 USD a million
  repeated keys 0 rows
";
    assert_eq!(said.stdout, expected);

    // As Arrow, the loader rejects more by itself; row numbers stay the file's.
    let said = shell.run(&["check", &file, "--table", "ansi", "--payload", "arrow", "--json"]).await;
    let answer = said.json();
    assert_eq!((said.code, &answer["accepted"], &answer["rejected"]), (1, &json!(2), &json!(5)));
    assert_eq!((&answer["examples"][0]["row"], &answer["repeated_key_rows"]), (&json!(2), &json!(1)));
    let all_bad = shell.file("bad.csv", "id,n\nx,1\n");
    let said = shell.run(&["check", &all_bad, "--table", "ansi", "--payload", "arrow", "--json"]).await;
    assert_eq!((said.code, &said.json()["rejected"], &said.json()["item_bytes"]), (1, &json!(1), &json!(null)));

    let empty = shell.file("empty.csv", "id,n\n");
    let said = shell.run(&["check", &empty, "--table", "ansi"]).await;
    assert_eq!((said.code, said.error()), (2, "empty.csv has no rows to check"));
    let said = shell.run(&["check", &file, "--table", "nowhere"]).await;
    assert_eq!(said.code, 3);
    assert!(said.error().ends_with("; make it by `forebay tables apply FILE`"), "{}", said.stderr);
    let said = shell.run(&["check", &file, "--table", "ansi", "--rate=-1"]).await;
    assert!(said.code == 2 && said.error().starts_with("rows_per_second: must be a number from 0"), "{}", said.stderr);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_columnar_file_is_checked_by_either_payload() {
    let shell = Shell::start().await;
    let ddl = "id STRING NOT NULL, small SMALLINT, code STRING, at TIMESTAMP, day DATE, money DECIMAL(10, 2), \
               numbers ARRAY<BIGINT>, inner STRUCT<score: DOUBLE, flag: BOOLEAN>";
    table_of_mode(&shell, "typed", ddl, StoreAssignment::Strict).await;
    let batch = columns();
    let mut file = arrow_ipc::writer::FileWriter::try_new(Vec::new(), &batch.schema()).unwrap();
    file.write(&batch).unwrap();
    let file = shell.file("t.arrow", file.into_inner().unwrap());
    let mut answers = Vec::new();
    for payload in ["arrow", "rows"] {
        let said = shell.run(&["check", &file, "--table", "typed", "--payload", payload, "--json"]).await;
        assert_eq!(said.code, 0, "{}", said.stderr);
        answers.push(said.json());
    }
    assert_eq!(answers[0], answers[1]);
    assert_eq!((&answers[0]["accepted"], &answers[0]["coercions"]), (&json!(3), &json!({ "small: int->smallint": 2 })));
    let said = shell.run(&["check", &file, "--table", "typed", "--rows", "2", "--json"]).await;
    assert_eq!(said.json()["accepted"], 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_use_and_unreachable_gateways_are_told_by_exit_codes() {
    let shell = Shell::start().await;
    let client = forebay::client::connect(&shell.gateway.endpoint()).unwrap();
    gateway::table(&client, "small", "id BIGINT NOT NULL", &["id"], &[]).await;
    let said = shell.run(&["get", "small", "five"]).await;
    assert_eq!((said.code, said.error()), (2, "key column id: `five`: the text is no bigint; expected a whole number"));
    let said = shell.run(&["get", "small", "-5", "--json"]).await;
    assert_eq!((said.code, said.json()["status"].take()), (3, json!("NOT_FOUND")));
    assert_eq!(shell.run(&["get", "small"]).await.code, 2);
    assert_eq!(shell.run(&["load", "x.csv", "--frob"]).await.code, 2);
    assert_eq!(shell.run(&["get", "nowhere", "1"]).await.code, 3);

    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    drop(listener);
    let said = run_at(&endpoint, &["get", "small", "1"], Vec::new()).await;
    let expected = format!("the gateway at {endpoint} cannot be reached: Connection refused");
    assert!(said.code == 4 && said.error().starts_with(&expected), "{}", said.stderr);
    let said = run_at("localhost", &["get", "small", "1"], Vec::new()).await;
    assert_eq!((said.code, said.error().contains("no endpoint")), (2, true));
}

#[tokio::test(flavor = "multi_thread")]
async fn bench_measures_what_it_wrote_and_reads_it_back() {
    let shell = Shell::start().await;
    for payload in ["arrow", "rows"] {
        let write = [
            "bench",
            "write",
            "--table",
            "bench",
            "--create",
            "--rows",
            "1000",
            "--streams",
            "3",
            "--payload",
            payload,
        ];
        let said = shell.run(&[&write[..], &["--batch-rows", "100", "--json"]].concat()).await;
        assert_eq!(said.code, 0, "{}", said.stderr);
        let figures = said.json();
        assert_eq!(
            (&figures["rows"], &figures["acked"], &figures["rejected"]),
            (&json!(1000), &json!(1000), &json!(0))
        );
        assert!(figures["latency_ms"]["p99"].as_f64().unwrap() > 0.0);
    }
    let read = ["bench", "read", "--table", "bench", "--rows", "200", "--keys", "1000", "--rate", "2000", "--json"];
    let said = shell.run(&read).await;
    assert_eq!(said.code, 0, "{}", said.stderr);
    assert_eq!(said.json()["found"], 200);
    assert!(said.json()["seconds"].as_f64().unwrap() >= 0.09, "the rate is kept");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_demo_finds_every_row_as_it_was_sent_and_every_broken_one_rejected() {
    let said = run_at("http://127.0.0.1:1", &["demo", "--rows", "8000"], Vec::new()).await;
    assert_eq!(said.code, 0, "{}{}", said.stdout, said.stderr);
    assert!(said.stdout.contains("1,000 equal to what was sent last, 0 different"), "{}", said.stdout);
    assert!(said.stdout.contains("NON_FINITE"), "{}", said.stdout);
}

#[tokio::test]
async fn completions_are_scripts() {
    for shell in ["bash", "zsh", "fish"] {
        let said = run_at("http://127.0.0.1:1", &["completions", shell], Vec::new()).await;
        assert!(said.code == 0 && said.stdout.contains("forebay"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_is_merged_inserted_or_does_what_each_of_its_rows_says() {
    let shell = Shell::start().await;
    let definition = "name: feed\nddl: id STRING NOT NULL, v BIGINT NOT NULL, a INT, b STRING\nkey: id\nsequence_by: v\n\
                      tombstone_retention: 2d\nmax_write_units: 5000\n";
    let definition = shell.file("t.yaml", definition);
    let said = shell.run(&["tables", "apply", &definition]).await;
    assert_eq!(said.code, 0, "{}", said.stderr);
    let printed = shell.run(&["tables", "get", "feed"]).await.stdout;
    assert!(printed.contains("sequence_by: v") && printed.contains("tombstone_retention: 2d"), "{printed}");

    let put = shell.file("put.csv", "id,v,a,b\nk,1,1,one\nm,1,1,one\n");
    assert_eq!(shell.run(&["load", &put, "--table", "feed"]).await.code, 0);
    // A merge leaves alone what no line has.
    let merge = shell.file("merge.ndjson", "{\"id\":\"k\",\"v\":2,\"b\":null}\n{\"id\":\"m\",\"v\":2,\"b\":\"two\"}\n");
    let said = shell.run(&["load", &merge, "--table", "feed", "--mode", "merge"]).await;
    assert_eq!(said.code, 0, "{}", said.stderr);
    assert_eq!(shell.row("feed", &["k"]).await, json!({ "id": "k", "v": 2, "a": 1, "b": null }));
    assert_eq!(shell.row("feed", &["m"]).await, json!({ "id": "m", "v": 2, "a": 1, "b": "two" }));
    // What some lines have and others have not would be removed without having been named.
    let uneven = shell.file("uneven.ndjson", "{\"id\":\"k\",\"v\":3,\"a\":5}\n{\"id\":\"m\",\"v\":3}\n");
    let said = shell.run(&["load", &uneven, "--table", "feed", "--mode", "merge", "--json"]).await;
    assert_eq!(
        (said.code, said.json()["rejected_by_reason"].take()),
        (1, json!({ "NULL_NOT_ALLOWED": 1 })),
        "{}",
        said.stdout
    );
    assert_eq!(shell.row("feed", &["m"]).await["v"], 2);
    // An older merge is no reject: a newer row has won.
    let said = shell.run(&["load", &merge, "--table", "feed", "--mode", "merge", "--json"]).await;
    assert_eq!((said.code, said.json()["rejected"].take()), (0, json!(0)), "{}", said.stderr);
    assert_eq!(shell.row("feed", &["k"]).await["a"], 5);

    let insert = shell.file("insert.csv", "id,v,a,b\nk,9,9,no\nn,1,9,new\n");
    let said = shell.run(&["load", &insert, "--table", "feed", "--mode", "insert", "--json"]).await;
    assert_eq!(
        (said.code, said.json()["rejected_by_reason"].take()),
        (1, json!({ "ALREADY_EXISTS": 1 })),
        "{}",
        said.stdout
    );
    assert_eq!(shell.row("feed", &["n"]).await["b"], "new");

    let lines = "{\"op\":\"put\",\"id\":\"p\",\"v\":1,\"a\":7}\n{\"op\":\"delete\",\"id\":\"k\",\"v\":4}\n\
                 {\"op\":\"merge\",\"id\":\"m\",\"v\":3,\"a\":null}\n{\"op\":\"upsert\",\"id\":\"x\",\"v\":1,\"a\":1}\n";
    let feed = shell.file("feed.ndjson", lines);
    let checked = shell.run(&["check", &feed, "--table", "feed", "--op-column", "op", "--json"]).await;
    assert_eq!((checked.code, checked.json()["accepted"].take()), (1, json!(3)), "{}", checked.stdout);
    let said = shell.run(&["load", &feed, "--table", "feed", "--op-column", "op", "--json"]).await;
    assert_eq!(
        (said.code, said.json()["rejected_by_reason"].take()),
        (1, json!({ "OUT_OF_RANGE": 1 })),
        "{}",
        said.stdout
    );
    assert_eq!(shell.row("feed", &["p"]).await, json!({ "id": "p", "v": 1, "a": 7, "b": null }));
    assert_eq!(shell.row("feed", &["m"]).await, json!({ "id": "m", "v": 3, "a": null, "b": "two" }));
    assert_eq!(shell.run(&["get", "feed", "k"]).await.code, 3);

    let wrong = shell.run(&["load", &put, "--table", "feed", "--op-column", "op"]).await;
    assert_eq!(wrong.code, 2);
    assert!(wrong.error().contains("lacks the operation column `op`"), "{}", wrong.error());
    let unordered = shell.file("unordered.csv", "id,a\nk,1\n");
    let wrong = shell.run(&["load", &unordered, "--table", "feed", "--mode", "merge"]).await;
    assert!(wrong.error().contains("lacks the sequence column `v`"), "{}", wrong.error());
}
