//! The composition root: puts the parts together, serves, drains, stops.
//!
//! [`Gateway::start`] binds the ports and returns when clients can connect; `serve`, `demo` and the tests use it alike.
//! The order of the end: not ready; `Drain` to every stream; the streams end, at the latest when the drain's time is up;
//! the lanes finish what is in flight; the store closes. A hard timer bounds each step, because a peer may hold any of them.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::sync::{Semaphore, mpsc};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::access::{AccessFileError, PolicyWatch};
use crate::admin::{self, Admin, BackendHealth, Door};
use crate::api::ingest::{Ingest, IngestApi, no_slot};
use crate::api::quota::Charges;
use crate::api::read::ReadApi;
use crate::api::status;
use crate::api::table::{Checks, TableApi};
use crate::catalog::{Catalog, CatalogError, ShardConfig};
use crate::config::{Backend, Settings, is_loopback};
use crate::edge::{self, ClientAuth, TlsError};
use crate::limits::{ERROR_RESETS_MAX, HEADER_LIST_MAX_BYTES, MESSAGE_MAX_BYTES, PENDING_RESETS_MAX};
use crate::middleware::auth::jwt::{KeyFileError, Tokens, check_key_files};
use crate::middleware::auth::{Authenticator, WatchedFile};
use crate::middleware::unary_writes::CHECK_ROWS;
use crate::middleware::{AuthLayer, LargeCalls, StallLayer, StreamOpenLayer, TraceLayer, load_shed, unary_writes};
use crate::pool::heat::HeatConfig;
use crate::pool::{MemoryBudget, Pool, PoolConfig, PoolTasks};
use crate::proto::server::ingest_service_server::IngestServiceServer;
use crate::proto::server::table_service_server::TableServiceServer;
use crate::proto::v1::read_service_server::ReadServiceServer;
use crate::proto::{DESCRIPTORS, v1};
use crate::quota::Quotas;
use crate::read::PointReader;
use crate::shutdown::Shutdown;
use crate::store::dynamodb::{ConnectError, DynamoDb};
use crate::store::embedded::{Embedded, EmbeddedError};
use crate::store::observed::Observed;
use crate::store::{ControlError, Store};
use crate::telemetry::Instruments;

/// Streams of one connection (chosen: a Spark executor's tasks share one; tonic's own default is no limit).
const MAX_STREAMS_PER_CONNECTION: u32 = 256;
/// HTTP/2 frames (measured: 40 % less of the transport's share than with 16 KiB).
const MAX_FRAME_BYTES: u32 = 64 * 1024;
/// HTTP/2 window of one stream: one message of the size that clients slice to.
const STREAM_WINDOW_BYTES: u32 = 2 * 1024 * 1024;
/// HTTP/2 window of one connection.
const CONNECTION_WINDOW_BYTES: u32 = 16 * 1024 * 1024;
/// Hot keys that may wait to be given more shards; one that finds no room is reported again.
const HOT_REPORTS: usize = 64;
/// How often DynamoDB is asked whether it is there.
const PROBE_INTERVAL: Duration = Duration::from_secs(5);
/// What the transport gets to close after the streams have ended.
const CLOSE_GRACE: Duration = Duration::from_secs(3);

/// Why the gateway does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The port cannot be had.
    #[error("cannot listen on {address} for {what}: {source}")]
    Bind {
        /// The address.
        address: SocketAddr,
        /// gRPC, or the side port.
        what: &'static str,
        /// Why.
        source: std::io::Error,
    },
    /// The certificate's files are not what they should be.
    #[error("configuration: {0}")]
    Tls(#[from] TlsError),
    /// The embedded store does not start.
    #[error(transparent)]
    Embedded(#[from] EmbeddedError),
    /// DynamoDB's address or region is missing or wrong.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// DynamoDB does not answer, or refuses.
    #[error("{0}")]
    Store(#[from] ControlError),
    /// The catalog cannot be opened.
    #[error("the catalog cannot be opened: {0}")]
    Catalog(#[from] CatalogError),
    /// The access file cannot be read, or says what cannot be meant.
    #[error(transparent)]
    Access(#[from] AccessFileError),
    /// A file of keys that the access file names cannot be used.
    #[error(transparent)]
    Keys(#[from] KeyFileError),
    /// A fault of ours.
    #[error("server reflection cannot be built: {0}")]
    Reflection(#[from] tonic_reflection::server::Error),
}

/// A running gateway.
#[derive(Debug)]
pub struct Gateway {
    address: SocketAddr,
    has_tls: bool,
    admin_address: Option<SocketAddr>,
    shutdown: Shutdown,
    drain_for: Duration,
    instruments: Arc<Instruments>,
    serving: JoinHandle<Result<(), tonic::transport::Error>>,
    admin: Option<JoinHandle<std::io::Result<()>>>,
    stop_admin: CancellationToken,
    health: tonic_health::server::HealthReporter,
    pool_tasks: PoolTasks,
    pool_died: CancellationToken,
    /// Closed last: the lanes write to it.
    embedded: Option<Embedded>,
}

impl Gateway {
    /// Starts everything. When it returns, clients can connect.
    pub async fn start(settings: Settings) -> Result<Self, StartError> {
        Self::start_with_instruments(settings, Arc::new(Instruments::new())).await
    }

    /// The same, counting with these instruments, which no other gateway has.
    pub async fn start_with_instruments(settings: Settings, instruments: Arc<Instruments>) -> Result<Self, StartError> {
        // The access file and the ports first: nothing is created when it is wrong, or they are taken.
        let access = open_access(&settings)?;
        let ports = Ports::bind(&settings).await?;
        let mut store_config = settings.store.clone();
        let embedded = match &settings.backend {
            Backend::Embedded(folder) => {
                let embedded = Embedded::start(folder.as_deref())?;
                let limits = store_config;
                store_config = embedded.store_config();
                store_config.write_attempt_timeout = limits.write_attempt_timeout;
                Some(embedded)
            }
            Backend::DynamoDb => None,
        };
        let dynamodb = DynamoDb::connect(&store_config).await?;
        dynamodb.check_access(&control_table(&settings)).await?;
        let store = Observed::new(Arc::new(dynamodb.clone()), Arc::clone(&instruments), Some(dynamodb.server()));
        Self::serve(settings, access, ports, Arc::new(store), embedded, instruments).await
    }

    /// Starts everything but the store, which is given: `settings` does not choose one.
    pub async fn start_with_store(settings: Settings, store: Arc<dyn Store>) -> Result<Self, StartError> {
        let access = open_access(&settings)?;
        let ports = Ports::bind(&settings).await?;
        let instruments = Arc::new(Instruments::new());
        let store = Observed::new(store, Arc::clone(&instruments), None);
        Self::serve(settings, access, ports, Arc::new(store), None, instruments).await
    }

    async fn serve(
        settings: Settings,
        access: Option<WatchedFile>,
        ports: Ports,
        store: Arc<dyn Store>,
        embedded: Option<Embedded>,
        instruments: Arc<Instruments>,
    ) -> Result<Self, StartError> {
        let Ports { listener, address, admin: admin_listener, tls } = ports;
        let has_tls = tls.is_some();
        if !has_tls && !is_loopback(address) {
            tracing::warn!("no TLS on {address}: what clients send, their tokens too, can be read on the way");
        }
        let control_table = control_table(&settings);
        let shutdown = Shutdown::new(settings.drain_for);
        let policy = access.as_ref().map(WatchedFile::policy);
        let auth = authentication(&settings, access, address, &instruments, &shutdown);
        let catalog = Catalog::open(Arc::clone(&store), settings.catalog.clone()).await?;
        tokio::spawn(catalog.clone().refresh_loop(shutdown.token()));
        tokio::spawn(catalog.clone().epoch_loop(shutdown.token()));
        tokio::spawn(catalog.shards().clone().refresh_loop(shutdown.token()));
        let (reports, hot_keys) = mpsc::channel(HOT_REPORTS);
        // Ends with the lanes.
        tokio::spawn(catalog.shards().clone().widen_hot(hot_keys, Arc::clone(&instruments)));
        let ShardConfig { split_at_units_per_second, split_patience: patience, .. } = settings.catalog.shards;
        let heat = Some(HeatConfig { split_at_units_per_second, patience, reports });
        let (pool, pool_tasks) = Pool::start(&PoolConfig { heat, ..settings.pool.clone() }, &store, &instruments);

        let (health, health_service) = tonic_health::server::health_reporter();
        health.set_serving::<IngestServiceServer<IngestApi>>().await;
        health.set_serving::<ReadServiceServer<ReadApi>>().await;
        health.set_serving::<TableServiceServer<TableApi>>().await;
        let backend = BackendHealth::default();
        backend.set(true);
        tokio::spawn(probe(Arc::clone(&store), control_table, backend.clone(), shutdown.token()));

        let hash_seed = pool.hash_seed();
        let decode_memory = MemoryBudget::new(settings.decode_memory_bytes, Arc::clone(&instruments));
        let slots = Arc::new(Semaphore::new(settings.max_write_sessions));
        let quotas = Quotas::new();
        tokio::spawn(quotas.clone().forget_loop(shutdown.token()));
        let charges = Charges::new(quotas.clone(), Arc::clone(&instruments));
        let ingest = IngestApi(Arc::new(Ingest {
            catalog: catalog.clone(),
            pool,
            memory: MemoryBudget::new(settings.memory_bytes, Arc::clone(&instruments)),
            decode_memory: decode_memory.clone(),
            quotas: quotas.clone(),
            charges: charges.clone(),
            instruments: Arc::clone(&instruments),
            shutdown: shutdown.clone(),
            window: v1::Window {
                max_unacked_bytes: settings.window_bytes,
                max_unacked_batches: settings.window_batches,
            },
            drain_for: settings.drain_for,
            max_connection_age: settings.max_connection_age,
            timeouts: settings.session_timeouts,
            session_slots: Arc::clone(&slots),
            next_session: AtomicU64::new(1),
        }));
        let read = ReadApi::new(catalog.clone(), PointReader::new(Arc::clone(&store)), charges.clone());
        let table = TableServiceServer::new(TableApi::new(catalog, Checks { hash_seed, decode_memory, charges }));
        let large = table.clone().max_decoding_message_size(MESSAGE_MAX_BYTES);

        let reflection = || {
            tonic_reflection::server::Builder::configure()
                .register_encoded_file_descriptor_set(DESCRIPTORS)
                .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
        };
        let mut server = tonic::transport::Server::builder()
            // What one connection may hold open.
            .max_concurrent_streams(MAX_STREAMS_PER_CONNECTION)
            // Finds peers that are gone without a word, so that their waiting rows are dropped.
            .http2_keepalive_interval(Some(settings.keepalive.interval))
            .http2_keepalive_timeout(Some(settings.keepalive.timeout))
            .max_frame_size(MAX_FRAME_BYTES)
            // What a client may make the transport hold, or do over and over; `edge` has the rest.
            .http2_max_header_list_size(HEADER_LIST_MAX_BYTES)
            .http2_max_pending_accept_reset_streams(Some(PENDING_RESETS_MAX))
            .http2_max_local_error_reset_streams(Some(ERROR_RESETS_MAX))
            .initial_stream_window_size(STREAM_WINDOW_BYTES)
            .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
            .layer(TraceLayer::new(Arc::clone(&instruments)))
            .layer(auth)
            .layer(StreamOpenLayer::new(quotas, status::quota_used_up, Arc::clone(&instruments)))
            .layer(load_shed(settings.max_calls, status::overloaded, Arc::clone(&instruments)))
            .layer(unary_writes(slots, no_slot))
            .layer(StallLayer::new(settings.message_stall_timeout));
        let router = server
            .add_service(
                IngestServiceServer::new(ingest)
                    .max_decoding_message_size(MESSAGE_MAX_BYTES)
                    .max_encoding_message_size(MESSAGE_MAX_BYTES),
            )
            .add_service(
                // A thousand keys fit tonic's own limit for what comes in; rows go out.
                ReadServiceServer::new(read).max_encoding_message_size(MESSAGE_MAX_BYTES),
            )
            .add_service(LargeCalls::new(CHECK_ROWS, table, large))
            .add_service(health_service)
            .add_service(reflection().build_v1()?)
            // Older tools ask for the alpha version.
            .add_service(reflection().build_v1alpha()?);
        let draining = shutdown.token();
        let incoming = edge::incoming(listener, &settings.edge, tls, &instruments, shutdown.token());
        let serving = tokio::spawn(router.serve_with_incoming_shutdown(incoming, draining.cancelled_owned()));

        let stop_admin = CancellationToken::new();
        let (admin, admin_address) = match admin_listener {
            Some(listener) => {
                let address = local_address(&listener, settings.admin.unwrap_or(address), "the side port")?;
                if policy.is_some() && !is_loopback(address) {
                    tracing::warn!(
                        "no TLS on the side port {address}: operators' keys can be read on the way; put a proxy or a tunnel before it"
                    );
                }
                let admin = Admin {
                    instruments: Arc::clone(&instruments),
                    shutdown: shutdown.clone(),
                    backend,
                    backend_name: match settings.backend {
                        Backend::Embedded(_) => "the embedded store",
                        Backend::DynamoDb => "DynamoDB",
                    },
                    door: door(policy, address, settings.allow_anyone),
                    metrics_need_key: settings.metrics_need_key,
                    memory_bytes: settings.memory_bytes,
                    max_write_sessions: settings.max_write_sessions,
                };
                let task = tokio::spawn(admin::serve(listener, admin, stop_admin.clone()));
                (Some(task), Some(address))
            }
            None => (None, None),
        };
        Ok(Self {
            address,
            has_tls,
            admin_address,
            shutdown,
            drain_for: settings.drain_for,
            instruments,
            serving,
            admin,
            stop_admin,
            health,
            pool_died: pool_tasks.died(),
            pool_tasks,
            embedded,
        })
    }

    /// Where gRPC is served.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Where gRPC is served, as clients write it.
    pub fn endpoint(&self) -> String {
        format!("{}://{}", if self.has_tls { "https" } else { "http" }, self.address)
    }

    /// Where the side port is.
    pub fn admin_address(&self) -> Option<SocketAddr> {
        self.admin_address
    }

    /// The instruments.
    pub fn instruments(&self) -> &Arc<Instruments> {
        &self.instruments
    }

    /// Where the embedded store listens, if there is one.
    pub fn embedded_url(&self) -> Option<String> {
        self.embedded.as_ref().map(Embedded::endpoint_url)
    }

    /// Resolves when a part that cannot be replaced has failed by a fault of ours: its share of the keys cannot be written
    /// any more. The process should end, and start anew.
    pub async fn failed(&self) {
        self.pool_died.cancelled().await;
    }

    /// Drains and stops. Returns whether everything ended by itself; what did not was cut off.
    pub async fn shutdown(mut self) -> bool {
        self.health.set_not_serving::<IngestServiceServer<IngestApi>>().await;
        self.health.set_not_serving::<ReadServiceServer<ReadApi>>().await;
        self.health.set_not_serving::<TableServiceServer<TableApi>>().await;
        self.shutdown.drain();
        let mut clean = true;
        // Sessions end by themselves when the drain's time is up; the transport may hang on a peer all the same.
        if tokio::time::timeout(self.drain_for + CLOSE_GRACE, &mut self.serving).await.is_err() {
            tracing::warn!("connections did not close in time and were cut off");
            self.serving.abort();
            clean = false;
        }
        clean &= self.pool_tasks.finish(CLOSE_GRACE).await;
        self.stop_admin.cancel();
        if let Some(mut admin) = self.admin
            && tokio::time::timeout(CLOSE_GRACE, &mut admin).await.is_err()
        {
            admin.abort();
        }
        // Joins the store's thread.
        drop(self.embedded);
        clean
    }
}

/// The ports, taken, and what is spoken on them.
struct Ports {
    listener: TcpListener,
    address: SocketAddr,
    admin: Option<TcpListener>,
    tls: Option<edge::Loaded>,
}

impl Ports {
    async fn bind(settings: &Settings) -> Result<Self, StartError> {
        // First, and at the start only, so that nothing waits for the files.
        let tls = settings.edge.load_tls()?;
        let listener = bind(settings.listen, "gRPC").await?;
        let admin = match settings.admin {
            Some(address) => Some(bind(address, "the side port").await?),
            None => None,
        };
        let address = local_address(&listener, settings.listen, "gRPC")?;
        Ok(Self { listener, address, admin, tls })
    }
}

/// The access file, if there is one.
fn open_access(settings: &Settings) -> Result<Option<WatchedFile>, StartError> {
    let Some(access) = &settings.access else { return Ok(None) };
    let file = WatchedFile::open(access.file.clone())?;
    check_key_files(&file.policy().borrow())?;
    Ok(Some(file))
}

/// Who is let in: whom the access file names, from now on watched; without one, everybody.
fn authentication(
    settings: &Settings,
    access: Option<WatchedFile>,
    address: SocketAddr,
    instruments: &Arc<Instruments>,
    shutdown: &Shutdown,
) -> AuthLayer {
    let (Some(file), Some(access)) = (access, &settings.access) else {
        if !is_loopback(address) {
            tracing::warn!(
                "EVERYBODY who reaches {address} may read, write and drop every table: `allow_anyone` is on"
            );
        }
        return AuthLayer::open();
    };
    let asks_for_certificates = settings.edge.tls.as_ref().is_some_and(|tls| tls.client_auth != ClientAuth::Off);
    if !asks_for_certificates && !file.policy().borrow().certificates.is_empty() {
        tracing::warn!(
            "the access file has client_certificates, and no client is asked for one: name their authorities in tls.client_ca"
        );
    }
    let tokens = Tokens::start(file.policy(), access.keys, Arc::clone(instruments), shutdown.token());
    let authenticator = Authenticator::new(file.policy(), Some(tokens));
    tokio::spawn(file.watch(access.reload_interval, Arc::clone(instruments), shutdown.token()));
    AuthLayer::new(authenticator, status::credential_refused, Arc::clone(instruments))
}

/// Who may look at the status page.
fn door(policy: Option<PolicyWatch>, address: SocketAddr, allow_anyone: bool) -> Door {
    match (policy, is_loopback(address)) {
        (Some(policy), _) => Door::Operators(policy),
        (None, true) => Door::OpenOnLoopback,
        (None, false) if allow_anyone => Door::OpenToAnyone,
        (None, false) => {
            tracing::warn!("the status page on {address} is closed: without an access file it is only for loopback");
            Door::Closed
        }
    }
}

fn control_table(settings: &Settings) -> String {
    format!("{}catalog", settings.catalog.control_table_prefix)
}

async fn bind(address: SocketAddr, what: &'static str) -> Result<TcpListener, StartError> {
    TcpListener::bind(address).await.map_err(|source| StartError::Bind { address, what, source })
}

fn local_address(listener: &TcpListener, address: SocketAddr, what: &'static str) -> Result<SocketAddr, StartError> {
    listener.local_addr().map_err(|source| StartError::Bind { address, what, source })
}

/// Asks DynamoDB regularly whether it is there, for readiness.
async fn probe(store: Arc<dyn Store>, table: String, health: BackendHealth, stop: CancellationToken) {
    let mut ticks = tokio::time::interval(PROBE_INTERVAL);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            _ = ticks.tick() => {}
        }
        let answer = store.describe_table(&table).await;
        if let Err(error) = &answer
            && health.answers()
        {
            tracing::warn!(%error, "not ready: DynamoDB does not answer");
        }
        if answer.is_ok() && !health.answers() {
            tracing::info!("ready again: DynamoDB answers");
        }
        health.set(answer.is_ok());
    }
}
