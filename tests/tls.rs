//! TLS end to end: who is let in and who is not, what both ends say when they do not agree, and certificates that change.

#![allow(clippy::unwrap_used, reason = "helpers of tests are tests")]

#[path = "common/certificates.rs"]
mod certificates;
#[path = "common/gateway.rs"]
mod gateway;

use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use certificates::{Authority, Files};
use forebay::client::{self, Client, ClientError, ConnectOptions, OpenOptions, Token};
use forebay::config::{Config, Settings, TlsConfig};
use forebay::edge::{self, ClientAuth, EdgeConfig, TlsFiles};
use forebay::server::Gateway;
use forebay::telemetry::Instruments;
use forebay::telemetry::instruments::{OutcomeLabel, ReasonLabel};
use futures_util::StreamExt as _;
use gateway::{eventually, get, int, rows, settings, table, text};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;
use tonic::transport::server::Connected as _;

const DDL: &str = "id STRING NOT NULL, v BIGINT";
const RELOAD: Duration = Duration::from_millis(50);

/// An authority, its gateway's certificate, and a folder for them.
struct Bed {
    authority: Authority,
    files: Files,
}

impl Bed {
    fn new() -> Self {
        let (authority, files) = (Authority::new("the gateway's authority"), Files::new());
        files.write("ca.pem", &authority.pem);
        files.write_pair("server", &authority.server());
        Self { authority, files }
    }

    fn tls(&self) -> TlsConfig {
        let path = |name| Some(self.files.path(name));
        TlsConfig { cert: path("server.pem"), key: path("server.key"), ..TlsConfig::default() }
    }

    fn settings(&self, change: impl FnOnce(&mut TlsConfig)) -> Settings {
        let mut tls = self.tls();
        change(&mut tls);
        let mut settings = settings(|config| config.tls = Some(tls));
        settings.edge.tls_reload = RELOAD;
        settings
    }

    fn options(&self, gateway: &Gateway) -> ConnectOptions {
        ConnectOptions::new(gateway.endpoint()).ca(self.files.path("ca.pem"))
    }
}

fn refusals(instruments: &Instruments, reason: &'static str) -> u64 {
    instruments.connections_refused.get_or_create(&ReasonLabel { reason }).get()
}

/// What a first call says.
async fn said(options: ConnectOptions) -> String {
    options.connect().unwrap().tables().list().await.unwrap_err().to_string()
}

/// The same where the gateway refuses the client's certificate. In TLS 1.3 that comes after the client's side is done, and
/// on one host it may come before the first call is on its way; then there is no word of why. It is refused all the same.
async fn said_of_certificate(options: ConnectOptions) -> String {
    for _ in 0..20 {
        let error = said(options.clone()).await;
        if !error.ends_with("ended the call: connection closed") {
            return error;
        }
    }
    panic!("never a word of why");
}

async fn write_and_read(client: &Client, id: &str) {
    let mut writer = client.writer(OpenOptions::new("rows")).await.unwrap();
    writer.send_rows(rows([vec![text(id), int(7)]])).await.unwrap();
    assert_eq!(writer.finish().await.unwrap().committed_rows, 1);
    assert_eq!(get(client, "rows", vec![text(id)]).await, Some(vec![text(id), int(7)]));
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_are_written_and_read_over_tls() {
    let bed = Bed::new();
    let gateway = Gateway::start(bed.settings(|_| {})).await.unwrap();
    assert!(gateway.endpoint().starts_with("https://"));
    let client = bed.options(&gateway).connect().unwrap();
    table(&client, "rows", DDL, &["id"], &[]).await;
    write_and_read(&client, "a").await;
    // By name, too, and by another name where the certificate has one.
    let port = gateway.address().port();
    for options in [
        ConnectOptions::new(format!("https://localhost:{port}")),
        ConnectOptions::new(format!("https://127.0.0.1:{port}")).server_name("localhost"),
    ] {
        write_and_read(&options.ca(bed.files.path("ca.pem")).connect().unwrap(), "b").await;
    }
    assert!(gateway.instruments().certificate_expiry.get() > 1_700_000_000);
    drop(client);
    assert!(gateway.shutdown().await);
}

#[tokio::test(flavor = "multi_thread")]
async fn two_ends_that_do_not_agree_say_why_and_do_not_try_again() {
    let bed = Bed::new();
    let gateway = Gateway::start(bed.settings(|_| {})).await.unwrap();
    let other = Authority::new("another authority");
    let other_ca = bed.files.write("other.pem", &other.pem);
    let port = gateway.address().port();
    let https = |host: &str| format!("https://{host}:{port}");

    let error = said(ConnectOptions::new(https("127.0.0.1")).ca(other_ca)).await;
    assert!(error.contains("of an authority that is not trusted here"), "{error}");
    let error = said(bed.options(&gateway).server_name("forebay.example.com")).await;
    assert!(error.contains("for another name") && error.contains("expected forebay.example.com"), "{error}");
    // The platform's authorities do not know this one.
    let error = client::connect(&https("127.0.0.1")).map(|client| async move { client.tables().list().await });
    match error {
        Ok(list) => assert!(list.await.unwrap_err().to_string().contains("not trusted here")),
        Err(error) => assert!(matches!(error, ClientError::BadOption { .. }), "no platform's authorities: {error}"),
    }
    let error = said(ConnectOptions::new(format!("http://127.0.0.1:{port}"))).await;
    assert!(error.contains("where it speaks TLS, the endpoint begins with https://"), "{error}");
    assert!(error.starts_with(&format!("no secure connection to the gateway at http://127.0.0.1:{port}: ")), "{error}");

    let (plain, _) = gateway::start().await;
    let error =
        said(ConnectOptions::new(plain.endpoint().replace("http:", "https:")).ca(bed.files.path("ca.pem"))).await;
    assert!(error.contains("begins with http://"), "{error}");
    eventually("it is counted", || refusals(plain.instruments(), "not_http2") == 1).await;

    // A writer does not go on for as long as it would where a gateway is away.
    let started = tokio::time::Instant::now();
    let client = bed.options(&gateway).server_name("wrong.example.com").connect().unwrap();
    let error = client.writer(OpenOptions::new("rows")).await.unwrap_err();
    assert!(matches!(error, ClientError::Tls { .. }), "{error:?}");
    assert!(started.elapsed() < Duration::from_secs(5));
    eventually("they are counted", || refusals(gateway.instruments(), "tls") >= 3).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_whose_certificate_has_expired_meanwhile_is_refused_with_that_word() {
    let bed = Bed::new();
    let mut params = rcgen::CertificateParams::new(["localhost".to_owned(), "127.0.0.1".to_owned()]).unwrap();
    let soon = std::time::SystemTime::now() + Duration::from_secs(2);
    params.not_after = soon.into();
    bed.files.write_pair("server", &bed.authority.sign(params));
    let gateway = Gateway::start(bed.settings(|_| {})).await.unwrap();
    tokio::time::sleep(Duration::from_secs(3)).await;
    let error = said(bed.options(&gateway)).await;
    assert!(error.contains("its certificate has expired"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn where_clients_need_certificates_only_those_of_their_authority_get_in() {
    let bed = Bed::new();
    let (clients, strangers) = (Authority::new("the clients' authority"), Authority::new("strangers"));
    let client_ca = bed.files.write("clients.pem", &clients.pem);
    let (good, good_key) = bed.files.write_pair("good", &clients.client("spiffe://cluster/sa/fraud"));
    let (strange, strange_key) = bed.files.write_pair("strange", &strangers.client("spiffe://cluster/sa/fraud"));
    // A gateway's certificate is none for a client.
    let (server, server_key) = bed.files.write_pair("no-client", &clients.server());

    // An authority alone means that certificates are required.
    for client_auth in [None, Some(ClientAuth::Required)] {
        let settings = bed.settings(|tls| {
            tls.client_ca = Some(client_ca.clone());
            tls.client_auth = client_auth;
        });
        let gateway = Gateway::start(settings).await.unwrap();
        let client = bed.options(&gateway).client_certificate(&good, &good_key).connect().unwrap();
        table(&client, "rows", DDL, &["id"], &[]).await;
        write_and_read(&client, "a").await;
        let error = said_of_certificate(bed.options(&gateway)).await;
        assert!(error.contains("it asks for a client certificate"), "{error}");
        for (cert, key) in [(&strange, &strange_key), (&server, &server_key)] {
            let error = said_of_certificate(bed.options(&gateway).client_certificate(cert, key)).await;
            assert!(error.contains("client certificate"), "{error}");
        }
        eventually("they are counted", || refusals(gateway.instruments(), "tls") >= 3).await;
    }

    let settings = bed.settings(|tls| {
        tls.client_ca = Some(client_ca.clone());
        tls.client_auth = Some(ClientAuth::Optional);
    });
    let gateway = Gateway::start(settings).await.unwrap();
    let client = bed.options(&gateway).connect().unwrap();
    table(&client, "rows", DDL, &["id"], &[]).await;
    write_and_read(&client, "without").await;
    write_and_read(&bed.options(&gateway).client_certificate(&good, &good_key).connect().unwrap(), "with").await;
    // One that is shown must be good.
    let error = said_of_certificate(bed.options(&gateway).client_certificate(&strange, &strange_key)).await;
    assert!(error.contains("client certificate"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_is_who_its_certificate_says_and_may_do_what_that_principal_may() {
    let bed = Bed::new();
    let access = "principals:\n  fraud: {write: [rows], read: [rows], admin: [rows]}\n  audit: {read: [rows]}\n\
                  client_certificates:\n  - {name: \"uri:spiffe://cluster/sa/fraud\", principal: fraud}\n  \
                  - {name: \"uri:spiffe://cluster/sa/audit\", principal: audit}\n";
    let access = bed.files.write("access.yaml", access);
    let mut tls = bed.tls();
    (tls.client_ca, tls.client_auth) = (Some(bed.files.path("ca.pem")), Some(ClientAuth::Optional));
    let settings = settings(|config| (config.tls, config.access) = (Some(tls), Some(access)));
    let gateway = Gateway::start(settings).await.unwrap();
    let who = |name: &str| {
        let (cert, key) = bed.files.write_pair(name, &bed.authority.client(&format!("spiffe://cluster/sa/{name}")));
        bed.options(&gateway).client_certificate(cert, key).connect().unwrap()
    };
    let fraud = who("fraud");
    table(&fraud, "rows", DDL, &["id"], &[]).await;
    write_and_read(&fraud, "a").await;
    let audit = who("audit");
    assert!(get(&audit, "rows", vec![text("a")]).await.is_some());
    let refused = |error: ClientError| match error {
        ClientError::Refused { code, .. } => code,
        other => panic!("{other:?}"),
    };
    let denied = audit.writer(OpenOptions::new("rows")).await.unwrap_err();
    assert_eq!(refused(denied), tonic::Code::PermissionDenied);
    // A good certificate that nobody is known by, and none at all.
    for client in [who("stranger"), bed.options(&gateway).connect().unwrap()] {
        assert_eq!(refused(client.tables().list().await.unwrap_err()), tonic::Code::Unauthenticated);
    }
}

/// An edge with nothing behind it, so that what the transport gets can be looked at.
async fn edge_of(config: &EdgeConfig) -> (std::net::SocketAddr, edge::Incoming, std::sync::Arc<Instruments>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let instruments = std::sync::Arc::new(Instruments::new());
    let loaded = config.load_tls().unwrap();
    let incoming = edge::incoming(listener, config, loaded, &instruments, CancellationToken::new());
    (address, incoming, instruments)
}

#[tokio::test(flavor = "multi_thread")]
async fn the_names_of_a_clients_certificate_are_a_part_of_its_peer() {
    let bed = Bed::new();
    let (cert, key) = bed.files.write_pair("client", &bed.authority.client("spiffe://cluster/ns/ml/sa/fraud"));
    let path = |name| bed.files.path(name);
    let tls = TlsFiles {
        cert: path("server.pem"),
        key: path("server.key"),
        client_ca: Some(path("ca.pem")),
        client_auth: ClientAuth::Optional,
    };
    let config = EdgeConfig { tls: Some(tls), ..EdgeConfig::new(10) };
    let (address, mut incoming, instruments) = edge_of(&config).await;
    let options = ConnectOptions::new(format!("https://{address}")).ca(path("ca.pem"));
    for (options, names) in [
        (options.clone(), None),
        (options.client_certificate(cert, key), Some(["uri:spiffe://cluster/ns/ml/sa/fraud"])),
    ] {
        let client = options.connect().unwrap();
        let call = tokio::spawn(async move { client.tables().list().await });
        let connection = incoming.next().await.unwrap().unwrap();
        let peer = connection.connect_info();
        assert!(peer.address.ip().is_loopback() && peer.address != address);
        let certificate = peer.certificate.as_ref();
        assert_eq!(certificate.map(|c| c.names.iter().map(|name| &**name).collect::<Vec<_>>()), names.map(Vec::from));
        assert!(certificate.is_none_or(|c| c.expires_at > std::time::SystemTime::now()));
        assert_eq!(instruments.connections.get(), 1);
        call.abort();
        drop(connection);
        assert_eq!(instruments.connections.get(), 0);
    }
}

/// The certificate that a handshake shows now.
async fn shown(gateway: &Gateway, ca: &Path) -> bool {
    ConnectOptions::new(gateway.endpoint()).ca(ca).connect().unwrap().tables().list().await.is_ok()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_certificate_is_shown_to_the_next_client_while_an_old_stream_goes_on() {
    let bed = Bed::new();
    let gateway = Gateway::start(bed.settings(|_| {})).await.unwrap();
    let client = bed.options(&gateway).connect().unwrap();
    table(&client, "rows", DDL, &["id"], &[]).await;
    let mut writer = client.writer(OpenOptions::new("rows")).await.unwrap();
    writer.send_rows(rows([vec![text("before"), int(1)]])).await.unwrap();
    writer.flush().await.unwrap();

    let next = Authority::new("the next authority");
    let next_ca = bed.files.write("next.pem", &next.pem);
    assert!(!shown(&gateway, &next_ca).await);
    bed.files.write_pair("server", &next.server());
    let reloads = |outcome| {
        let label = OutcomeLabel { outcome };
        gateway.instruments().certificate_reloads.get_or_create(&label).get()
    };
    eventually("it is taken", || reloads("ok") == 1).await;
    assert!(shown(&gateway, &next_ca).await);
    assert!(!shown(&gateway, &bed.files.path("ca.pem")).await);
    writer.send_rows(rows([vec![text("after"), int(2)]])).await.unwrap();
    assert_eq!(writer.finish().await.unwrap().committed_rows, 2);

    // What is wrong is not taken, whatever it is, and the next good one is.
    for (number, (cert, key)) in
        [(String::new(), next.server().1), (next.server().0, next.server().1), (next.server().0, "nonsense".to_owned())]
            .into_iter()
            .enumerate()
    {
        bed.files.write_pair("server", &(cert, key));
        eventually("it is refused", || reloads("failed") == number as u64 + 1).await;
        assert!(shown(&gateway, &next_ca).await);
    }
    bed.files.write_pair("server", &bed.authority.server());
    eventually("it is taken", || reloads("ok") == 2).await;
    assert!(shown(&gateway, &bed.files.path("ca.pem")).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn slow_handshakes_hold_up_nobody_and_end() {
    let bed = Bed::new();
    let mut settings = bed.settings(|_| {});
    settings.edge.handshake_timeout = Duration::from_secs(3);
    settings.edge.handshakes = 4;
    let gateway = Gateway::start(settings).await.unwrap();
    let mut slow = Vec::new();
    for _ in 0..8 {
        let mut stream = TcpStream::connect(gateway.address()).await.unwrap();
        // The beginning of a ClientHello.
        stream.write_all(b"\x16\x03\x01\x02\x00\x01").await.unwrap();
        slow.push(stream);
    }
    let client = bed.options(&gateway).connect().unwrap();
    let started = tokio::time::Instant::now();
    client.tables().list().await.unwrap();
    assert!(started.elapsed() < Duration::from_millis(2500), "it waited for others: {:?}", started.elapsed());
    for mut stream in slow {
        let mut rest = Vec::new();
        // Closed in order, or reset.
        let _end = tokio::time::timeout(Duration::from_secs(10), stream.read_to_end(&mut rest)).await.expect("an end");
    }
    let instruments = gateway.instruments();
    assert!(refusals(instruments, "handshakes") >= 4, "the oldest gave way");
    assert!(refusals(instruments, "tls_timeout") >= 1);
    eventually("only the client is left", || instruments.connections.get() == 1).await;
}

/// Runs the command to its end.
fn run(arguments: &[&str], environment: &[(&str, &str)]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_forebay"));
    command.args(arguments).envs(environment.iter().copied());
    command.stdin(Stdio::null()).output().unwrap()
}

#[test]
fn fault_33_a_certificate_that_cannot_be_used_ends_the_start_with_code_2_and_what_was_expected() {
    let bed = Bed::new();
    let path = |name: &str| bed.files.path(name).to_str().unwrap().to_owned();
    bed.files.write("empty.pem", "");
    bed.files.write_pair("other", &bed.authority.server());
    let (cert, key, other, empty) = (path("server.pem"), path("server.key"), path("other.key"), path("empty.pem"));
    let missing = path("missing.pem");
    let cases: [(&[&str], &str, &str); 8] = [
        (&["--tls-cert", &cert], "tls.key", "is missing; expected"),
        (&["--tls-key", &key], "tls.cert", "is missing; expected"),
        (&["--tls-client-ca", &empty], "tls.cert", "is missing; expected"),
        (&["--tls-cert", &missing, "--tls-key", &key], "tls.cert", "missing.pem: No such file"),
        (&["--tls-cert", &cert, "--tls-key", &empty], "tls.key", "empty.pem holds no private key; expected"),
        (&["--tls-cert", &empty, "--tls-key", &key], "tls.cert", "empty.pem holds no certificate; expected"),
        (&["--tls-cert", &cert, "--tls-key", &other], "tls.key", "does not belong to the certificate"),
        (
            &["--tls-cert", &cert, "--tls-key", &key, "--tls-client-ca", &empty],
            "tls.client_ca",
            "empty.pem holds no certificate; expected",
        ),
    ];
    let folder = path("store");
    for (flags, name, wrong) in cases {
        let arguments =
            [&["serve", "--embedded", &folder, "--listen", "127.0.0.1:0", "--admin", "off"], flags].concat();
        let said = run(&arguments, &[]);
        let stderr = String::from_utf8(said.stderr).unwrap();
        assert_eq!(said.status.code(), Some(2), "{flags:?}: {stderr}");
        assert!(stderr.starts_with(&format!("forebay: error: configuration: {name}: ")), "{flags:?}: {stderr}");
        assert!(stderr.contains(wrong) && stderr.trim_end().lines().count() == 1, "{flags:?}: {stderr}");
        assert!(!Path::new(&folder).exists(), "nothing was started");
    }
    // By the environment and by the file alike; an unknown key is named with its line.
    let said = run(&["serve", "--embedded"], &[("FOREBAY_TLS_CERT", &cert)]);
    assert_eq!(said.status.code(), Some(2));
    let config = bed.files.write("forebay.yaml", &format!("tls:\n  cert: {cert}\n  kye: {key}\n"));
    let said = run(&["serve", "--embedded", "--config", config.to_str().unwrap()], &[]);
    let stderr = String::from_utf8(said.stderr).unwrap();
    assert_eq!(said.status.code(), Some(2), "{stderr}");
    assert!(stderr.contains("forebay.yaml:3") && stderr.contains("kye"), "{stderr}");
}

#[test]
fn a_printed_configuration_names_the_keys_file_and_shows_nothing_of_it() {
    let bed = Bed::new();
    let path = |name: &str| bed.files.path(name).to_str().unwrap().to_owned();
    let said =
        run(&["serve", "--print-config", "--tls-cert", &path("server.pem"), "--tls-key", &path("server.key")], &[]);
    let stdout = String::from_utf8(said.stdout).unwrap();
    assert!(said.status.success() && stdout.contains("server.key"), "{stdout}");
    let key = std::fs::read_to_string(path("server.key")).unwrap();
    assert!(!stdout.contains(key.lines().nth(1).unwrap()), "{stdout}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_command_reaches_a_gateway_over_tls_and_names_files_that_cannot_be_used() {
    let bed = Bed::new();
    let (cert, key) = bed.files.write_pair("client", &bed.authority.client("spiffe://cluster/sa/fraud"));
    let settings = bed.settings(|tls| tls.client_ca = Some(bed.files.path("ca.pem")));
    let gateway = Gateway::start(settings).await.unwrap();
    let endpoint = gateway.endpoint();
    let (ca, cert, key) = (bed.files.path("ca.pem"), cert, key);
    let command = move |environment: Vec<(&'static str, String)>, flags: Vec<String>| {
        let endpoint = endpoint.clone();
        tokio::task::spawn_blocking(move || {
            let mut arguments = vec!["tables", "--endpoint", &endpoint];
            arguments.extend(flags.iter().map(String::as_str));
            arguments.push("list");
            let environment: Vec<_> = environment.iter().map(|(name, value)| (*name, value.as_str())).collect();
            let said = run(&arguments, &environment);
            (said.status.code().unwrap(), String::from_utf8(said.stderr).unwrap())
        })
    };
    let shown = |path: &Path| path.to_str().unwrap().to_owned();
    let flags =
        vec!["--ca".into(), shown(&ca), "--client-cert".into(), shown(&cert), "--client-key".into(), shown(&key)];
    assert_eq!(command(vec![], flags.clone()).await.unwrap(), (0, String::new()));
    let environment =
        vec![("FOREBAY_CA", shown(&ca)), ("FOREBAY_CLIENT_CERT", shown(&cert)), ("FOREBAY_CLIENT_KEY", shown(&key))];
    assert_eq!(command(environment, vec![]).await.unwrap().0, 0);
    let (code, stderr) = command(vec![], flags[..2].to_vec()).await.unwrap();
    // Why is in `where_clients_need_certificates_...`.
    assert!(code == 4, "{code} {stderr}");
    let (code, stderr) = command(vec![], vec!["--ca".into(), "/no/such/ca.pem".into()]).await.unwrap();
    assert!(code == 2 && stderr.contains("/no/such/ca.pem: cannot be read"), "{code} {stderr}");
    let (code, stderr) = command(vec![], [&flags[..], &["--token-file".into(), shown(&ca)]].concat()).await.unwrap();
    assert!(code == 2 && stderr.contains("holds no token"), "{code} {stderr}");
    assert!(!stderr.contains("BEGIN"), "{stderr}");
}

#[test]
fn the_commands_token_does_not_leave_the_host_in_the_clear() {
    let arguments = ["tables", "--endpoint", "http://192.0.2.1:50051", "list"];
    let said = run(&arguments, &[("FOREBAY_TOKEN", "fb_a_secret")]);
    let stderr = String::from_utf8(said.stderr).unwrap();
    assert_eq!(said.status.code(), Some(2), "{stderr}");
    assert!(stderr.contains("token: it would be sent in the clear") && !stderr.contains("secret"), "{stderr}");
}

#[tokio::test(flavor = "multi_thread")]
async fn each_call_carries_the_token_the_stream_of_writes_too() {
    // A server that notes who calls, and refuses.
    let seen = std::sync::Arc::new(std::sync::Mutex::new(Vec::new()));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let note = {
        let seen = std::sync::Arc::clone(&seen);
        move |request: tonic::Request<()>| {
            let token =
                request.metadata().get("authorization").and_then(|value| value.to_str().ok()).map(str::to_owned);
            seen.lock().unwrap().push(token);
            Err::<tonic::Request<()>, _>(tonic::Status::unauthenticated("no"))
        }
    };
    let (_, health) = tonic_health::server::health_reporter();
    let server = tonic::transport::Server::builder()
        .layer(tonic::service::InterceptorLayer::new(note))
        .add_service(health)
        .serve_with_incoming(tokio_stream::wrappers::TcpListenerStream::new(listener));
    let server = tokio::spawn(server);
    let files = Files::new();
    let file = files.write("token", "fb_one_x\n");
    let client = ConnectOptions::new(format!("http://{address}")).token(Token::file(file)).connect().unwrap();
    client.tables().list().await.unwrap_err();
    client.reader().get_row("rows", vec![text("a")], &[]).await.unwrap_err();
    client.reader().range("rows", vec![text("a")], client::RangeOptions::default()).await.unwrap_err();
    client.writer(OpenOptions::new("rows")).await.unwrap_err();
    let bearer = Some("Bearer fb_one_x".to_owned());
    assert_eq!(*seen.lock().unwrap(), vec![bearer; 4]);
    server.abort();
}

#[test]
fn layers_of_configuration_are_merged_key_by_key() {
    let layer = |cert: Option<&str>, key: Option<&str>| Config {
        tls: Some(TlsConfig { cert: cert.map(Into::into), key: key.map(Into::into), ..TlsConfig::default() }),
        ..Config::default()
    };
    let both = layer(Some("flag.pem"), None).or(layer(Some("file.pem"), Some("file.key")));
    let settings = Settings::try_new(both).unwrap();
    let tls = settings.edge.tls.unwrap();
    assert_eq!((tls.cert.to_str(), tls.key.to_str()), (Some("flag.pem"), Some("file.key")));
}
