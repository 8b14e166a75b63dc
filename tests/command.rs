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
    assert_eq!(shell.run(&["get", "nowhere", "1"]).await.code, 4);

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
