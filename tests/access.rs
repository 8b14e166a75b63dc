//! Who is let in, by the access file and its changes; and the commands that make and list keys.

#![allow(clippy::unwrap_used, reason = "helpers of tests are tests")]

use std::io::{BufRead as _, Write as _};
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

use forebay::proto::v1;
use forebay::proto::v1::ingest_service_client::IngestServiceClient;
use forebay::proto::v1::table_service_client::TableServiceClient;
use forebay::server::{Gateway, StartError};
use forebay::telemetry::instruments::{OutcomeLabel, ReasonLabel};
use serde_json::Value;
use tonic::metadata::MetadataValue;
use tonic::transport::Channel;
use tonic::{Code, Request, Status};
use tonic_types::StatusExt as _;

#[path = "common/gateway.rs"]
mod gateway;

/// A key, and its entry in the access file.
struct Key {
    key: String,
    entry: String,
}

/// A gateway with an access file that it looks at all the time.
struct Guarded {
    gateway: Gateway,
    channel: Channel,
    file: PathBuf,
    _folder: tempfile::TempDir,
}

fn forebay(arguments: &[&str], stdin: &str) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_forebay"));
    command.args(arguments).env_remove("FOREBAY_ACCESS");
    let mut child =
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the command");
    // The command may end without reading.
    child.stdin.take().unwrap().write_all(stdin.as_bytes()).ok();
    child.wait_with_output().unwrap()
}

fn stdout(output: &Output) -> String {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout.clone()).unwrap()
}

/// The one sentence of a command that was used wrongly.
fn usage_error(output: &Output) -> String {
    let text = String::from_utf8(output.stderr.clone()).unwrap();
    assert_eq!(output.status.code(), Some(2), "{text}");
    text.trim_end().strip_prefix("forebay: error: ").unwrap_or_else(|| panic!("{text}")).to_owned()
}

fn create(id: &str, principal: &str) -> Key {
    let made = stdout(&forebay(&["keys", "create", "--id", id, "--principal", principal, "--json"], ""));
    let made: Value = serde_json::from_str(&made).unwrap();
    let text = |name: &str| made[name].as_str().unwrap().to_owned();
    Key { key: text("key"), entry: text("entry") }
}

fn access_file(keys: &[&Key]) -> String {
    let mut text =
        "principals:\n  spark: {read: ['*'], write: ['*'], admin: ['*']}\n  guest: {}\napi_keys:\n".to_owned();
    for key in keys {
        text.push_str(&format!("  {}\n", key.entry));
    }
    text
}

impl Guarded {
    async fn start(keys: &[&Key], max_write_sessions: Option<usize>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("access.yaml");
        std::fs::write(&file, access_file(keys)).unwrap();
        let settings = gateway::settings(|config| {
            config.access = Some(file.clone());
            config.access_reload_seconds = Some(0.01);
            config.max_write_sessions = max_write_sessions;
        });
        let gateway = Gateway::start(settings).await.expect("the gateway starts");
        let channel = Channel::from_shared(gateway.endpoint()).unwrap().connect().await.unwrap();
        Self { gateway, channel, file, _folder: folder }
    }

    /// A new access file takes the old one's place.
    fn replace(&self, text: &str) {
        let new = self.file.with_extension("new");
        std::fs::write(&new, text).unwrap();
        std::fs::rename(&new, &self.file).unwrap();
    }

    /// What a call that needs no permission is told.
    async fn list_tables(&self, authorization: Option<&str>) -> Result<(), Status> {
        let mut tables = TableServiceClient::new(self.channel.clone());
        tables.list_tables(with(v1::ListTablesRequest::default(), authorization)).await.map(|_| ())
    }

    async fn write_rows(&self, authorization: Option<&str>) -> Status {
        let mut ingest = IngestServiceClient::new(self.channel.clone());
        ingest.write_rows(with(v1::WriteRowsRequest::default(), authorization)).await.unwrap_err()
    }

    async fn until_reloads(&self, outcome: &'static str, count: u64) {
        let reloads = &self.gateway.instruments().access_reloads;
        let what = format!("{count} {outcome}");
        gateway::eventually(&what, || reloads.get_or_create(&OutcomeLabel { outcome }).get() == count).await;
    }
}

fn bearer(key: &Key) -> String {
    format!("Bearer {}", key.key)
}

fn with<T>(message: T, authorization: Option<&str>) -> Request<T> {
    let mut request = Request::new(message);
    if let Some(value) = authorization {
        request.metadata_mut().insert("authorization", MetadataValue::try_from(value).unwrap());
    }
    request
}

fn refused(answer: Result<(), Status>) -> String {
    let status = answer.unwrap_err();
    assert_eq!(status.code(), Code::Unauthenticated, "{status}");
    assert_eq!(status.get_details_error_info().unwrap().reason, "UNAUTHENTICATED");
    status.message().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn only_a_key_of_the_access_file_is_let_in_and_the_others_hear_nothing_of_it() {
    let (good, unknown) = (create("spark1", "spark"), create("spark2", "spark"));
    let guarded = Guarded::start(&[&good], None).await;
    guarded.list_tables(Some(&bearer(&good))).await.unwrap();
    let missing = "no credential; send `authorization: Bearer` with an API key or a token, or a client certificate";
    assert_eq!(refused(guarded.list_tables(None).await), missing);
    let last = if good.key.ends_with('x') { 'y' } else { 'x' };
    let tampered = format!("{}{last}", &bearer(&good)[..bearer(&good).len() - 1]);
    for wrong in [&tampered, &bearer(&unknown), &bearer(&good).replace("spark1", "spark2")] {
        assert_eq!(refused(guarded.list_tables(Some(wrong)).await), "the credential is not accepted", "{wrong}");
    }
    for malformed in ["Basic c3BhcmsxOnNlY3JldA==", "Bearer some.other.token"] {
        let form = refused(guarded.list_tables(Some(malformed)).await);
        assert!(
            form.starts_with("the credential has no form that is known; expected `authorization: Bearer`"),
            "{form}"
        );
    }
    let counted = &guarded.gateway.instruments().calls_refused;
    for (reason, count) in [("credential_missing", 1), ("credential_malformed", 2), ("credential_not_accepted", 3)] {
        assert_eq!(counted.get_or_create(&ReasonLabel { reason }).get(), count, "{reason}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn health_needs_no_credential_and_reflection_does() {
    let key = create("k", "guest");
    let guarded = Guarded::start(&[&key], None).await;
    let mut health = tonic_health::pb::health_client::HealthClient::new(guarded.channel.clone());
    let asked = tonic_health::pb::HealthCheckRequest { service: "forebay.v1.IngestService".to_owned() };
    let serving = tonic_health::pb::health_check_response::ServingStatus::Serving;
    assert_eq!(health.check(asked).await.unwrap().into_inner().status(), serving);

    use tonic_reflection::pb::v1::ServerReflectionRequest;
    use tonic_reflection::pb::v1::server_reflection_client::ServerReflectionClient;
    use tonic_reflection::pb::v1::server_reflection_request::MessageRequest;
    let mut reflection = ServerReflectionClient::new(guarded.channel.clone());
    let asked = || {
        let list = MessageRequest::ListServices(String::new());
        tokio_stream::once(ServerReflectionRequest { host: String::new(), message_request: Some(list) })
    };
    refused(reflection.server_reflection_info(asked()).await.map(|_| ()));
    let authorization = bearer(&key);
    let answer = reflection.server_reflection_info(with(asked(), Some(&authorization))).await.unwrap();
    assert!(answer.into_inner().message().await.unwrap().is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_not_known_takes_no_slot_and_hears_of_none() {
    let key = create("k", "spark");
    let authorization = bearer(&key);
    let guarded = Guarded::start(&[&key], Some(1)).await;
    // A session that says nothing holds the only slot.
    let mut ingest = IngestServiceClient::new(guarded.channel.clone());
    let (_sender, receiver) = tokio::sync::mpsc::channel::<v1::WriteRequest>(1);
    let silent = tokio_stream::wrappers::ReceiverStream::new(receiver);
    let _held = ingest.write(with(silent, Some(&authorization))).await.unwrap();
    assert_eq!(guarded.write_rows(Some(&authorization)).await.code(), Code::Unavailable);
    assert_eq!(guarded.write_rows(None).await.code(), Code::Unauthenticated);
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_come_and_go_with_the_file_and_a_wrong_file_changes_nothing() {
    let (first, second) = (create("first", "spark"), create("second", "spark"));
    let guarded = Guarded::start(&[&first], None).await;
    guarded.list_tables(Some(&bearer(&first))).await.unwrap();
    refused(guarded.list_tables(Some(&bearer(&second))).await);

    // A rotation: both, then the new one alone.
    guarded.replace(&access_file(&[&first, &second]));
    guarded.until_reloads("applied", 1).await;
    guarded.list_tables(Some(&bearer(&first))).await.unwrap();
    guarded.list_tables(Some(&bearer(&second))).await.unwrap();
    guarded.replace(&access_file(&[&second]));
    guarded.until_reloads("applied", 2).await;
    refused(guarded.list_tables(Some(&bearer(&first))).await);

    guarded.replace("principals: {spark: {reads: [x]}}");
    guarded.until_reloads("refused", 1).await;
    guarded.list_tables(Some(&bearer(&second))).await.unwrap();
    let metrics = guarded.gateway.instruments().encode().unwrap();
    for line in ["forebay_access_file_refused 1", r#"forebay_access_reloads_total{outcome="refused"} 1"#] {
        assert!(metrics.lines().any(|there| there == line), "no `{line}` in\n{metrics}");
    }
    guarded.replace(&access_file(&[&first]));
    guarded.until_reloads("applied", 3).await;
    assert_eq!(guarded.gateway.instruments().access_file_refused.get(), 0);
    refused(guarded.list_tables(Some(&bearer(&second))).await);
    assert!(guarded.gateway.shutdown().await);
}

#[tokio::test(flavor = "multi_thread")]
async fn fault_33_a_gateway_with_a_wrong_access_file_does_not_start() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("access.yaml");
    std::fs::write(&file, "principals:\n  spark: {}\napi_keys:\n  - {id: k, sha256: 12, principal: spark}\n").unwrap();
    let settings = gateway::settings(|config| config.access = Some(file.clone()));
    let error = Gateway::start(settings).await.unwrap_err();
    assert!(matches!(error, StartError::Access(_)), "{error}");

    let path = file.to_str().unwrap();
    let serve = ["serve", "--embedded", "--listen", "127.0.0.1:0", "--admin", "off", "--access", path];
    let expected =
        "wrong value for `sha256`: no SHA-256; expected the 64 hexadecimal digits that `forebay keys hash` prints";
    assert_eq!(usage_error(&forebay(&serve, "")), format!("{path}:4: {expected}"));
    let nowhere = folder.path().join("nowhere.yaml");
    let serve =
        ["serve", "--embedded", "--listen", "127.0.0.1:0", "--admin", "off", "--access", nowhere.to_str().unwrap()];
    let said = usage_error(&forebay(&serve, ""));
    assert!(said.starts_with(&format!("cannot read the access file {}: ", nowhere.display())), "{said}");
}

#[test]
fn fault_33_serving_other_machines_needs_an_access_file_or_a_word() {
    let serve = ["serve", "--embedded", "--listen", "0.0.0.0:0", "--admin", "off"];
    let said = usage_error(&forebay(&serve, ""));
    assert_eq!(
        said,
        "configuration: listen: `0.0.0.0:0` can be reached from other machines, and nothing says who may come in: name an \
         access file (--access FILE), or listen on 127.0.0.1; to let everybody do everything, say so (--allow-anyone)"
    );
    let printed = stdout(&forebay(&[&serve[..], &["--allow-anyone", "--print-config"]].concat(), ""));
    assert!(printed.contains("allow_anyone: true"), "{printed}");

    // With the word it starts, and says at the start what that means.
    let mut command = Command::new(env!("CARGO_BIN_EXE_forebay"));
    command.args(serve).arg("--allow-anyone").env_remove("FOREBAY_ACCESS").stdin(Stdio::null()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let lines = std::io::BufReader::new(child.stderr.take().unwrap()).lines();
    let until_served: Vec<_> = lines.map(Result::unwrap).take_while(|line| !line.contains("serving gRPC")).collect();
    child.kill().unwrap();
    child.wait().unwrap();
    let warned =
        until_served.iter().any(|line| line.contains("WARN") && line.contains("EVERYBODY who reaches 0.0.0.0:"));
    assert!(warned, "{until_served:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_commands_make_a_key_that_works_and_keep_its_secret_apart() {
    let made = forebay(&["keys", "create", "--id", "spark1", "--principal", "spark", "--expires-in", "90d"], "");
    let key = stdout(&made).trim_end().to_owned();
    let told = String::from_utf8(made.stderr).unwrap();
    let entry = told.lines().find(|line| line.starts_with("  - {")).unwrap().trim().to_owned();
    let secret = key.rsplit('_').next().unwrap();
    assert!(key.starts_with("fb_spark1_") && !told.contains(secret), "{told}");

    let key = Key { key, entry };
    let guarded = Guarded::start(&[&key], None).await;
    guarded.list_tables(Some(&bearer(&key))).await.unwrap();
    let file = guarded.file.to_str().unwrap();
    let listed = stdout(&forebay(&["keys", "list", "--access", file], ""));
    let mut lines = listed.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    assert_eq!(lines.next().unwrap(), ["ID", "PRINCIPAL", "EXPIRES"]);
    assert_eq!(lines.next().unwrap()[..2], ["spark1", "spark"]);
    let json: Value =
        serde_json::from_str(&stdout(&forebay(&["keys", "list", "--access", file, "--json"], ""))).unwrap();
    assert_eq!((&json["api_keys"][0]["id"], &json["api_keys"][0]["expired"]), (&"spark1".into(), &false.into()));
    assert!(json["api_keys"][0].get("sha256").is_none());

    // The hash of the same key is the same entry, and `list --hashes` has it.
    let hashed = stdout(&forebay(&["keys", "hash", "--principal", "spark", "--json"], &format!("{}\n", key.key)));
    let hashed: Value = serde_json::from_str(&hashed).unwrap();
    let hash = hashed["sha256"].as_str().unwrap();
    assert!(key.entry.contains(hash), "{hashed} {}", key.entry);
    let listed = stdout(&forebay(&["keys", "list", "--access", file, "--hashes"], ""));
    assert!(listed.contains(hash), "{listed}");
}

#[test]
fn the_commands_refuse_what_would_not_work_and_repeat_no_secret() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("access.yaml");
    std::fs::write(&path, access_file(&[&create("taken", "spark")])).unwrap();
    let file = path.to_str().unwrap();
    let create = |arguments: &[&str]| usage_error(&forebay(&[&["keys", "create"], arguments].concat(), ""));
    let ids = "expected 1 to 32 of a-z, 0-9 and `-`, such as `spark1`";
    assert_eq!(create(&["--id", "Spark 1"]), format!("`Spark 1` is no id of a key; {ids}"));
    assert_eq!(
        create(&["--id", "taken", "--access", file]),
        format!("{file} has a key `taken` already; choose another id, such as `taken-2`")
    );
    assert_eq!(
        create(&["--id", "new", "--access", file, "--principal", "nobody"]),
        format!("{file} has no principal `nobody`; add it under `principals` first")
    );
    assert_eq!(
        create(&["--id", "new", "--expires-at", "2020-01-01T00:00:00Z"]),
        "the key would have expired at 2020-01-01T00:00:00Z already"
    );
    assert!(create(&["--id", "new", "--expires-in", "soon"]).contains("`soon` is not a duration"));
    let said = usage_error(&forebay(&["keys", "hash"], "S3cretS3cretS3cretS3cretS3cretS3cret\n"));
    assert_eq!(said, "standard input has no API key; expected `fb_<id>_<secret>`, as `forebay keys create` prints it");
    std::fs::write(&path, "principals: {a: {}}\nkeys: []").unwrap();
    let said = usage_error(&forebay(&["keys", "list", "--access", file], ""));
    assert!(said.starts_with(&format!("{file}:2: unknown key `keys`")), "{said}");
}
