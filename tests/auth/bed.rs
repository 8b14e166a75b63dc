//! A gateway with an access file, and callers with credentials.

#![allow(unreachable_pub, reason = "a module of a test binary")]

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use forebay::config::{Config, Settings};
use forebay::middleware::auth::jwt::KeyTiming;
use forebay::proto::v1::ingest_service_client::IngestServiceClient;
use forebay::proto::v1::read_service_client::ReadServiceClient;
use forebay::proto::v1::table_service_client::TableServiceClient;
use forebay::proto::v1::{self, write_request::Message as Ask, write_response::Message as Answer};
use forebay::server::Gateway;
use forebay::store::Store;
use sha2::{Digest as _, Sha256};
use tonic::service::Interceptor;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Request, Status, Streaming};
use tonic_types::StatusExt as _;

use crate::gateway::{int, rows, settings, text};
use crate::issuer::{AUDIENCE, ISSUER};

/// How often the access file is looked at here.
pub const RELOAD: Duration = Duration::from_millis(50);

/// An API key, whole, of an id.
pub fn api_key(id: &str) -> String {
    format!("fb_{id}_{}", "7".repeat(40))
}

/// The access file's line for it.
pub fn key_line(id: &str, principal: &str) -> String {
    let hash: String = Sha256::digest(api_key(id)).iter().map(|byte| format!("{byte:02x}")).collect();
    format!("  - {{id: {id}, sha256: \"{hash}\", principal: {principal}}}\n")
}

/// An issuer in the access file; `keys` is `jwks_file: ...` or `jwks_url: ...`.
pub fn issuer_line(keys: &str) -> String {
    format!("  - {{issuer: \"{ISSUER}\", audiences: [{AUDIENCE}], {keys}, algorithms: [RS256, ES256]}}\n")
}

/// The gateway and its access file.
pub struct Bed {
    pub gateway: Gateway,
    pub folder: tempfile::TempDir,
    channel: Channel,
}

/// Settings of a gateway with this access file.
pub fn settings_with(folder: &tempfile::TempDir, access: &str, change: impl FnOnce(&mut Config)) -> Settings {
    std::fs::write(folder.path().join("access.yaml"), access).unwrap();
    settings(|config| {
        config.access = Some(folder.path().join("access.yaml"));
        config.access_reload_seconds = Some(RELOAD.as_secs_f64());
        change(config);
    })
}

impl Bed {
    /// Over the embedded store, with key files beside the access file.
    pub async fn start(access: &str, files: &[(&str, String)]) -> Self {
        Self::start_with_timing(access, files, KeyTiming::default()).await
    }

    pub async fn start_with_timing(access: &str, files: &[(&str, String)], timing: KeyTiming) -> Self {
        let folder = tempfile::tempdir().unwrap();
        for (name, content) in files {
            std::fs::write(folder.path().join(name), content).unwrap();
        }
        let mut settings = settings_with(&folder, access, |_| {});
        settings.access.as_mut().unwrap().keys = timing;
        let gateway = Gateway::start(settings).await.unwrap();
        Self::of(gateway, folder)
    }

    /// Over a store that is given.
    pub async fn over(store: Arc<dyn Store>, access: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let settings = settings_with(&folder, access, |_| {});
        Self::of(Gateway::start_with_store(settings, store).await.unwrap(), folder)
    }

    fn of(gateway: Gateway, folder: tempfile::TempDir) -> Self {
        let channel = Endpoint::from_shared(gateway.endpoint()).unwrap().connect_lazy();
        Self { gateway, folder, channel }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Replaces the access file, as a rename does.
    pub fn rewrite(&self, access: &str) {
        std::fs::write(self.path("new"), access).unwrap();
        std::fs::rename(self.path("new"), self.path("access.yaml")).unwrap();
    }

    /// Somebody who shows this key or token.
    pub fn caller(&self, credential: &str) -> Caller {
        self.caller_with(&[&format!("Bearer {credential}")])
    }

    /// Somebody who sends these `authorization` headers.
    pub fn caller_with(&self, headers: &[&str]) -> Caller {
        let headers = headers.iter().map(|value| value.parse().unwrap()).collect();
        Caller { channel: InterceptedService::new(self.channel.clone(), Shows(headers)) }
    }
}

/// Puts credentials into calls.
#[derive(Clone)]
pub struct Shows(Vec<tonic::metadata::MetadataValue<tonic::metadata::Ascii>>);

impl Interceptor for Shows {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        for value in &self.0 {
            request.metadata_mut().append("authorization", value.clone());
        }
        Ok(request)
    }
}

/// Somebody who calls.
#[derive(Clone)]
pub struct Caller {
    channel: InterceptedService<Channel, Shows>,
}

impl Caller {
    pub fn ingest(&self) -> IngestServiceClient<InterceptedService<Channel, Shows>> {
        IngestServiceClient::new(self.channel.clone())
    }

    pub fn read(&self) -> ReadServiceClient<InterceptedService<Channel, Shows>> {
        ReadServiceClient::new(self.channel.clone())
    }

    pub fn tables(&self) -> TableServiceClient<InterceptedService<Channel, Shows>> {
        TableServiceClient::new(self.channel.clone())
    }

    /// Creates a table with the key `id`, `at`.
    pub async fn create(&self, name: &str) {
        self.tables().apply_table(apply(name, false)).await.unwrap();
    }

    /// Opens a stream, and waits for what is said first.
    pub async fn open(&self, open: v1::Open) -> Result<Session, Status> {
        let (requests, receiver) = tokio::sync::mpsc::channel(256);
        let mut session = Session { requests, responses: None };
        session.send(Ask::Open(open)).await;
        let stream = tokio_stream::wrappers::ReceiverStream::new(receiver);
        session.responses = Some(self.ingest().write(stream).await?.into_inner());
        match session.next().await? {
            Some(Answer::Opened(_)) => Ok(session),
            other => panic!("{other:?} came first"),
        }
    }

    /// Reads one row of the table, found or not.
    pub async fn get_row(&self, table: &str) -> Result<v1::GetRowResponse, Status> {
        let key = Some(v1::RowKey { values: vec![text("k"), int(1)] });
        let request = v1::GetRowRequest { table: table.to_owned(), key, ..v1::GetRowRequest::default() };
        self.read().get_row(request).await.map(tonic::Response::into_inner)
    }
}

/// An open stream.
pub struct Session {
    requests: tokio::sync::mpsc::Sender<v1::WriteRequest>,
    responses: Option<Streaming<v1::WriteResponse>>,
}

impl Session {
    pub async fn send(&mut self, message: Ask) {
        // A session that has ended does not read; what it says is what tests look at.
        let _ended = self.requests.send(v1::WriteRequest { message: Some(message) }).await;
    }

    pub async fn send_rows(&mut self, batch_seq: u64, batch: v1::RowBatch) {
        let payload = Some(v1::batch::Payload::Rows(batch));
        self.send(Ask::Batch(v1::Batch { batch_seq, payload, ..v1::Batch::default() })).await;
    }

    pub async fn next(&mut self) -> Result<Option<Answer>, Status> {
        let responses = self.responses.as_mut().unwrap();
        let response = tokio::time::timeout(Duration::from_secs(20), responses.message()).await.expect("in time")?;
        Ok(response.and_then(|response| response.message))
    }
}

/// The table that these tests use.
pub fn apply(name: &str, dry_run: bool) -> v1::ApplyTableRequest {
    let owned = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
    let key = v1::Key { partition: owned(&["id"]), sort: owned(&["at"]), ..v1::Key::default() };
    let ddl = "id STRING NOT NULL, at BIGINT NOT NULL, v BIGINT".to_owned();
    let table = v1::Table { name: name.to_owned(), ddl, key: Some(key), ..v1::Table::default() };
    v1::ApplyTableRequest { table: Some(table), dry_run }
}

/// Rows of a batch: under the key `name`, from 0.
pub fn some_rows(name: &str, count: i64) -> v1::RowBatch {
    rows((0..count).map(|at| vec![text(name), int(at), int(at)]))
}

/// Code and reason of a status.
pub fn said(status: &Status) -> (Code, String) {
    (status.code(), status.get_details_error_info().map(|info| info.reason).unwrap_or_default())
}

/// When to come back, if the status says it.
pub fn retry_after(status: &Status) -> Option<Duration> {
    status.get_details_retry_info().and_then(|info| info.retry_delay)
}
