//! The side port's status page: who sees it, what it lets a browser do, and what it shows.

#![allow(clippy::unwrap_used, reason = "helpers of tests are tests")]

#[path = "common/gateway.rs"]
mod gateway;

use std::net::SocketAddr;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use forebay::config::Config;
use forebay::proto::v1;
use forebay::proto::v1::write_request::Message as Request;
use forebay::proto::v1::write_response::Message as Response;
use forebay::server::Gateway;
use gateway::{RawSession, open, rows, settings, start, start_with, table, text};
use serde_json::Value;
use sha2::{Digest as _, Sha256};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

const OPERATOR: &str = "fb_ops_0123456789abcdefghijABCDEFGHIJ01234";
const WRITER: &str = "fb_spark_0123456789abcdefghijABCDEFGHIJ01234";
const STRANGER: &str = "fb_ops_9876543210abcdefghijABCDEFGHIJ01234";

/// An HTTP answer.
struct Answer {
    status: u16,
    head: String,
    body: String,
}

impl Answer {
    fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| {
            let (key, value) = line.split_once(": ")?;
            key.eq_ignore_ascii_case(name).then_some(value)
        })
    }

    fn json(&self) -> Value {
        assert_eq!(self.status, 200, "{}", self.body);
        serde_json::from_str(&self.body).unwrap()
    }
}

async fn ask(address: SocketAddr, request: &str) -> Answer {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    let read = tokio::time::timeout(Duration::from_secs(20), stream.read_to_string(&mut answer)).await;
    read.expect("the answer ends").unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no HTTP answer: {answer}"));
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status");
    Answer { status, head: head.to_owned(), body: body.to_owned() }
}

async fn get(gateway: &Gateway, path: &str, headers: &str) -> Answer {
    let address = gateway.admin_address().unwrap();
    ask(address, &format!("GET {path} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n{headers}\r\n")).await
}

fn basic(key: &str) -> String {
    format!("authorization: Basic {}\r\n", STANDARD.encode(format!("anna:{key}")))
}

fn bearer(key: &str) -> String {
    format!("authorization: Bearer {key}\r\n")
}

fn sha256_hex(text: &str) -> String {
    Sha256::digest(text).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A gateway with an access file: `ops` is an operator, `spark` may write.
async fn guarded(change: impl FnOnce(&mut Config)) -> (Gateway, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("access.yaml");
    let access = format!(
        "principals:\n  ops: {{operator: true}}\n  spark: {{write: [\"*\"], admin: [\"*\"]}}\napi_keys:\n  - {{id: ops, sha256: \"{}\", principal: \
         ops}}\n  - {{id: spark, sha256: \"{}\", principal: spark}}\n",
        sha256_hex(OPERATOR),
        sha256_hex(WRITER)
    );
    std::fs::write(&file, access).unwrap();
    let settings = settings(|config| {
        config.access = Some(file);
        change(config);
    });
    (Gateway::start(settings).await.expect("the gateway starts"), folder)
}

#[tokio::test]
async fn the_page_and_its_numbers_are_for_operators_and_the_probes_for_all() {
    let (gateway, _folder) = guarded(|_| {}).await;
    let shown = [
        (String::new(), 401),
        (basic(OPERATOR), 200),
        (bearer(OPERATOR), 200),
        (basic(WRITER), 403),
        (bearer(WRITER), 403),
        (basic(STRANGER), 401),
        (bearer("eyJhbGciOiJub25lIn0.eyJzdWIiOiJvcHMifQ."), 401),
    ];
    for (headers, expected) in &shown {
        for path in ["/", "/status", "/status.json"] {
            let answer = get(&gateway, path, headers).await;
            assert_eq!(answer.status, *expected, "{path} with {headers:?}: {}", answer.body);
            assert!(*expected == 200 || !answer.body.contains("rows_per_second"), "{}", answer.body);
        }
        for path in ["/livez", "/readyz", "/metrics"] {
            assert_eq!(get(&gateway, path, headers).await.status, 200, "{path} is for scrapers and probes");
        }
    }
    let asks = get(&gateway, "/", "").await;
    assert_eq!(asks.header("www-authenticate"), Some(r#"Basic realm="Forebay status", charset="UTF-8""#));
    assert_eq!(get(&gateway, "/secret", "").await.status, 404);
    gateway.shutdown().await;
}

#[tokio::test]
async fn metrics_are_behind_the_same_door_where_the_configuration_says_so() {
    let (gateway, _folder) = guarded(|config| config.metrics_need_key = Some(true)).await;
    for (headers, expected) in [(String::new(), 401), (bearer(OPERATOR), 200), (bearer(WRITER), 403)] {
        assert_eq!(get(&gateway, "/metrics", &headers).await.status, expected, "{headers:?}");
    }
    for path in ["/livez", "/readyz"] {
        assert_eq!(get(&gateway, path, "").await.status, 200, "{path}: an orchestrator has no key");
    }
    gateway.shutdown().await;
}

#[tokio::test]
async fn a_browser_runs_the_pages_own_script_and_nothing_else() {
    let (gateway, _client) = start().await;
    let page = get(&gateway, "/", "").await;
    assert_eq!(page.status, 200);
    let policy = page.header("content-security-policy").unwrap();
    for element in ["script", "style"] {
        let (_, rest) = page.body.split_once(&format!("<{element}>")).unwrap();
        let (inline, _) = rest.split_once(&format!("</{element}>")).unwrap();
        let hash = STANDARD.encode(Sha256::digest(inline));
        assert!(policy.contains(&format!("{element}-src 'sha256-{hash}';")), "{policy}");
    }
    for rule in ["default-src 'none'", "frame-ancestors 'none'", "connect-src 'self'", "form-action 'none'"] {
        assert!(policy.contains(rule), "{policy}");
    }
    assert!(!policy.contains("unsafe"), "{policy}");
    for path in ["/", "/status.json", "/livez", "/metrics"] {
        let answer = get(&gateway, path, "").await;
        assert_eq!(answer.header("x-content-type-options"), Some("nosniff"), "{path}");
        assert_eq!(answer.header("referrer-policy"), Some("no-referrer"), "{path}");
        assert!(answer.header("content-security-policy").unwrap().contains("frame-ancestors 'none'"), "{path}");
    }
    let etag = page.header("etag").unwrap();
    let again = get(&gateway, "/", &format!("if-none-match: {etag}\r\n")).await;
    assert_eq!((again.status, again.body.as_str()), (304, ""));
    assert_eq!(get(&gateway, "/status.json", "").await.header("cache-control"), Some("no-store"));

    let address = gateway.admin_address().unwrap();
    let rebound = ask(address, "GET /status.json HTTP/1.1\r\nhost: evil.example\r\nconnection: close\r\n\r\n").await;
    assert_eq!(rebound.status, 403, "a name that was made to lead to this machine");
    gateway.shutdown().await;
}

#[tokio::test]
async fn a_session_its_table_and_its_principal_are_shown_while_it_is_open() {
    const KEY: &str = "card-4929-1234-hot";
    let (gateway, client) = start_with(settings(|_| {})).await;
    let empty = get(&gateway, "/status.json", "").await.json();
    assert_eq!((&empty["state"]["name"], &empty["ready"]), (&"idle".into(), &true.into()));
    table(&client, "cards", "id STRING NOT NULL, note VARCHAR(9)", &["id"], &[]).await;

    let mut session = RawSession::open(&client, open("cards")).await;
    let Response::Opened(opened) = session.next().await else { panic!("opened comes first") };
    for seq in 1..=40 {
        // One key again and again, two rows of their own, and one that does not fit.
        let own = |n: u64| vec![text(format!("key-{seq}-{n}")), text("short")];
        let batch = [vec![text(KEY), text("secret-1")], own(1), own(2), vec![text("long"), text("much too long")]];
        session.send_rows(seq, rows(batch)).await;
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    session.send(Request::Flush(v1::Flush {})).await;
    while !matches!(session.next().await, Response::Flushed(_)) {}

    let mut report = Value::Null;
    for _ in 0..100 {
        report = get(&gateway, "/status.json", "").await.json();
        if report["rejects"]["listed"][0]["rows_15_minutes"] == 40 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert_eq!(report["rejects"]["listed"], {
        let per_second = &report["rejects"]["listed"][0]["rows_per_second"];
        serde_json::json!([{"reason": "too_long", "rows_per_second": per_second, "rows_15_minutes": 40}])
    });
    let line = &report["write_sessions"]["listed"][0];
    assert_eq!((&report["write_sessions"]["open"], &line["session"]), (&1.into(), &opened.session_id.as_str().into()));
    assert_eq!((&line["table"], &line["principal"]), (&"cards".into(), &"anyone".into()));
    assert_eq!((&line["rows"], &line["unacked_batches"]), (&160.into(), &0.into()));
    assert!(line["rows_per_second"].as_f64().unwrap() > 0.0, "{line}");
    assert!(report["rates"]["rows_per_second"].as_f64().unwrap() > 0.0, "{}", report["rates"]);
    assert!(report["rates"]["ack_p99_ms"].as_f64().unwrap() > 0.0, "{}", report["rates"]);
    assert_eq!(report["state"]["name"], "healthy", "{}", report["state"]);
    let stored = &report["tables"]["listed"][0];
    assert!(stored["window_calls"].as_u64().unwrap() > 0, "{stored}");
    let principal = &report["principals"]["listed"][0];
    assert_eq!((&principal["principal"], &principal["share_of_bytes"]), (&"anyone".into(), &1.into()));

    let shown = report.to_string() + &get(&gateway, "/", "").await.body;
    for secret in [KEY, "secret-1", "much too long", "key-1-1"] {
        assert!(!shown.contains(secret), "{secret} is in what is shown");
    }

    session.send(Request::Finish(v1::Finish { batches: 40, rows: 160 })).await;
    session.end().await.unwrap();
    let mut left = 1;
    for _ in 0..100 {
        let report = get(&gateway, "/status.json", "").await.json();
        left = report["write_sessions"]["listed"].as_array().unwrap().len();
        if left == 0 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(left, 0, "a session leaves the board when it ends");
    drop(client);
    gateway.shutdown().await;
}

#[tokio::test]
async fn a_page_that_knows_the_past_is_told_only_what_is_new() {
    let (gateway, _client) = start().await;
    let mut all = Value::Null;
    for _ in 0..100 {
        all = get(&gateway, "/status.json", "").await.json();
        if all["series"]["newest_sequence"].as_u64().is_some_and(|newest| newest >= 2) {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let newest = all["series"]["newest_sequence"].as_u64().unwrap();
    let length = |report: &Value| {
        let values = report["series"]["values"].as_object().unwrap();
        let lengths: Vec<_> = values.values().map(|values| values.as_array().unwrap().len() as u64).collect();
        assert!(lengths.iter().all(|length| *length == lengths[0]), "{lengths:?}");
        lengths[0]
    };
    assert_eq!((&all["series"]["first_sequence"], length(&all)), (&0.into(), newest + 1));
    let delta = get(&gateway, &format!("/status.json?since={newest}"), "").await.json();
    let (first, now) = (&delta["series"]["first_sequence"], delta["series"]["newest_sequence"].as_u64().unwrap());
    assert_eq!((first, length(&delta)), (&(newest + 1).into(), now - newest));
    assert_eq!(delta["started_unix_ms"], all["started_unix_ms"]);
    let wrong = get(&gateway, "/status.json?since=yesterday", "").await;
    assert!(wrong.status == 400 && wrong.body.contains("since=N"), "{}", wrong.body);
    gateway.shutdown().await;
}

#[tokio::test]
async fn a_draining_gateway_says_so_and_until_when() {
    let (gateway, client) = start().await;
    table(&client, "cards", "id STRING NOT NULL", &["id"], &[]).await;
    let mut session = RawSession::open(&client, open("cards")).await;
    let Response::Opened(_) = session.next().await else { panic!("opened comes first") };
    let address = gateway.admin_address().unwrap();
    let stopping = tokio::spawn(gateway.shutdown());
    while !matches!(session.next().await, Response::Drain(_)) {}
    let request = |path| format!("GET {path} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\r\n");
    let report = ask(address, &request("/status.json")).await.json();
    assert_eq!((&report["state"]["name"], &report["ready"]), (&"draining".into(), &false.into()));
    assert!(report["drain_ends_in_seconds"].as_f64().unwrap() <= 2.0, "{report}");
    let ready = ask(address, &request("/readyz")).await;
    assert_eq!((ready.status, ready.body.as_str()), (503, "draining\n"));
    drop(session);
    stopping.await.unwrap();
}

#[tokio::test]
async fn the_side_port_takes_no_body_and_no_endless_head() {
    let (gateway, _client) = start().await;
    let address = gateway.admin_address().unwrap();
    let body = ask(address, "GET /livez HTTP/1.1\r\nhost: x\r\ncontent-length: 1000000\r\n\r\n").await;
    assert_eq!(body.status, 413, "{}", body.head);
    let post = ask(address, "POST /status.json HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n").await;
    assert_eq!(post.status, 405);
    let head = format!("GET /livez HTTP/1.1\r\nhost: x\r\nlong: {}\r\n\r\n", "x".repeat(64 * 1024));
    let mut stream = TcpStream::connect(address).await.unwrap();
    // It may be closed before all of it is sent.
    let _sent = stream.write_all(head.as_bytes()).await;
    let mut answer = Vec::new();
    let _read = stream.read_to_end(&mut answer).await;
    assert!(!String::from_utf8_lossy(&answer).starts_with("HTTP/1.1 200"), "{}", String::from_utf8_lossy(&answer));
    gateway.shutdown().await;
}
