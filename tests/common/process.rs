//! The real gateway as a process of its own, which tests may kill; and what is in its store afterwards.

#![allow(unreachable_pub, missing_docs, reason = "a module of test binaries")]
#![allow(dead_code, reason = "each test binary uses its own part")]

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use forebay::store::embedded::Embedded;

/// A gateway on ports that stay the same when it is started again, over the embedded store in a folder or an endpoint.
pub struct Served {
    child: Option<Child>,
    /// `--embedded FOLDER`, say.
    backend: [String; 2],
    pub listen: SocketAddr,
    pub admin: SocketAddr,
    settings: Vec<(String, String)>,
}

impl Served {
    /// Starts it over a folder; returns when it can be connected to.
    pub async fn start(folder: &Path, settings: &[(&str, &str)]) -> Self {
        let folder = folder.to_str().expect("UTF-8").to_owned();
        Self::over(["--embedded".to_owned(), folder], settings).await
    }

    /// Starts it over a DynamoDB that takes any credentials.
    pub async fn start_before(endpoint_url: &str, settings: &[(&str, &str)]) -> Self {
        let credentials = [("AWS_ACCESS_KEY_ID", "id"), ("AWS_SECRET_ACCESS_KEY", "secret")];
        let settings = [settings, &credentials].concat();
        Self::over(["--endpoint-url".to_owned(), endpoint_url.to_owned()], &settings).await
    }

    async fn over(backend: [String; 2], settings: &[(&str, &str)]) -> Self {
        let settings = settings.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let (listen, admin) = (free_port(), free_port());
        let mut served = Self { child: None, backend, listen, admin, settings };
        served.restart().await;
        served
    }

    /// Starts it again on the same store and ports.
    pub async fn restart(&mut self) {
        assert!(self.child.is_none(), "it still runs");
        let mut command = Command::new(env!("CARGO_BIN_EXE_forebay"));
        command.arg("serve").args(&self.backend);
        command.args(["--listen", &self.listen.to_string(), "--admin", &self.admin.to_string()]);
        command.envs(self.settings.iter().map(|(name, value)| (name, value)));
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        self.child = Some(command.spawn().expect("the gateway's process"));
        for _ in 0..3000 {
            if TcpStream::connect(self.admin).is_ok() && TcpStream::connect(self.listen).is_ok() {
                return;
            }
            let ended = self.child.as_mut().and_then(|child| child.try_wait().expect("a process"));
            assert!(ended.is_none(), "the gateway ended: {ended:?}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        panic!("the gateway does not start");
    }

    /// kill -9.
    pub fn kill(&mut self) {
        let mut child = self.child.take().expect("it runs");
        child.kill().expect("it can be killed");
        child.wait().expect("it ends");
    }

    pub fn endpoint(&self) -> String {
        format!("http://{}", self.listen)
    }

    /// Resident memory of the process, in bytes.
    pub fn resident_bytes(&self) -> u64 {
        resident_bytes(self.child.as_ref().expect("it runs").id())
    }

    /// A gauge or counter of the side port, by its whole name.
    pub fn metric(&self, name: &str) -> f64 {
        let request = format!("GET /metrics HTTP/1.1\r\nhost: {}\r\nconnection: close\r\n\r\n", self.admin);
        let text = exchange(self.admin, &request);
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line.and_then(|value| value.trim().parse().ok()).unwrap_or_else(|| panic!("no metric {name} in {text}"))
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        if self.child.is_some() {
            self.kill();
        }
    }
}

/// Resident memory of a process, in bytes.
pub fn resident_bytes(process: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).expect("Linux");
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).expect("VmRSS");
    line.split_whitespace().nth(1).and_then(|kib| kib.parse::<u64>().ok()).expect("KiB") * 1024
}

/// A port that was free a moment ago.
fn free_port() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a free port")
}

fn exchange(address: SocketAddr, request: &str) -> String {
    let mut stream = TcpStream::connect(address).expect("a connection");
    stream.write_all(request.as_bytes()).expect("a request");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer");
    let (_, body) = answer.split_once("\r\n\r\n").expect("a body");
    body.to_owned()
}

/// Everything in a table of a folder whose gateway does not run, by a scan past the gateway: the number `v` by the text
/// `id`.
pub fn versions(folder: &Path, table: &str) -> BTreeMap<String, u64> {
    let embedded = Embedded::start(Some(folder)).expect("nobody else has the folder");
    let mut found = BTreeMap::new();
    for item in scan(&embedded.endpoint_url(), table) {
        let version = item["v"]["N"].as_str().and_then(|number| number.parse().ok());
        let key = item["id"]["S"].as_str().expect("a key").to_owned();
        assert!(found.insert(key, version.expect("a version")).is_none(), "a key came twice");
    }
    found
}

/// Every item of a table of the embedded store at this URL, in DynamoDB's JSON.
pub fn scan(endpoint_url: &str, table: &str) -> Vec<serde_json::Value> {
    let address = endpoint_url.strip_prefix("http://").and_then(|address| address.parse().ok());
    let address: SocketAddr = address.expect("a plain URL");
    let (mut found, mut start) = (Vec::new(), serde_json::Value::Null);
    loop {
        let mut body = serde_json::json!({"TableName": table, "ConsistentRead": true});
        if !start.is_null() {
            body["ExclusiveStartKey"] = start;
        }
        let (body, date) = (body.to_string(), "20260101");
        let request = format!(
            "POST / HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\ncontent-type: application/x-amz-json-1.0\r\n\
             x-amz-target: DynamoDB_20120810.Scan\r\nx-amz-date: {date}T000000Z\r\n\
             authorization: AWS4-HMAC-SHA256 Credential=local/{date}/us-east-1/dynamodb/aws4_request, \
             SignedHeaders=host;x-amz-date, Signature=00\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        );
        let page: serde_json::Value = serde_json::from_str(&exchange(address, &request)).expect("JSON");
        let items = page["Items"].as_array().unwrap_or_else(|| panic!("no page of a scan: {page}"));
        found.extend(items.iter().cloned());
        start = page["LastEvaluatedKey"].clone();
        if start.is_null() {
            return found;
        }
    }
}
