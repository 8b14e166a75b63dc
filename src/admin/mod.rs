//! The HTTP side port, for operators and orchestrators, on its own listener, off the public port.
//!
//! ```text
//! /livez, /readyz      whether it runs, whether it should be sent traffic and why not; open to all
//! /metrics             Prometheus text; open, unless the configuration says that scrapers need a key
//! /, /status           the status page; /status.json what it shows. Operators only
//!
//! listener   connections, within bounds            history   the last 15 minutes, pure
//! door       who may look                          readings  what the instruments stand at
//! page       the page and its policy               report    /status.json
//! ```
//!
//! Ready means: not draining, and DynamoDB answered lately. A sampler reads the instruments once a second, whether anybody
//! looks or not. Caller: `server`.

mod door;
mod history;
mod listener;
mod page;
mod readings;
mod report;

use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use axum::extract::{RawQuery, Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::middleware::{Next, from_fn, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use tokio::net::TcpListener;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::shutdown::Shutdown;
use crate::telemetry::Instruments;
use history::History;
use readings::Readings;
use report::{LISTED, Report, Surroundings};

pub use door::Door;

/// How often the instruments are read.
const SAMPLE_INTERVAL: Duration = Duration::from_secs(1);
/// Keys that the page shows.
const HOT_KEYS: usize = 12;

/// Whether DynamoDB answers; set by the server's probe. Clones share it.
#[derive(Debug, Clone, Default)]
pub struct BackendHealth(Arc<Mutex<Option<Instant>>>);

impl BackendHealth {
    /// Notes an answer, or none.
    pub fn set(&self, answers: bool) {
        let mut silent_since = self.silent_since();
        *silent_since = (!answers).then(|| silent_since.unwrap_or_else(Instant::now));
    }

    /// Whether DynamoDB answered the last probe.
    pub fn answers(&self) -> bool {
        self.silent_since().is_none()
    }

    /// For how long it has not, where it does not.
    pub fn silent_for(&self, now: Instant) -> Option<Duration> {
        self.silent_since().map(|since| now.saturating_duration_since(since))
    }

    fn silent_since(&self) -> MutexGuard<'_, Option<Instant>> {
        // What is kept is whole at any time.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What the side port shows, and to whom.
#[derive(Debug, Clone)]
pub struct Admin {
    /// The instruments.
    pub instruments: Arc<Instruments>,
    /// The end of the process.
    pub shutdown: Shutdown,
    /// Whether DynamoDB answers.
    pub backend: BackendHealth,
    /// What is called so, for people.
    pub backend_name: &'static str,
    /// Who may look at the status page.
    pub door: Door,
    /// Whether /metrics is behind that door, too.
    pub metrics_need_key: bool,
    /// The budget of memory for rows.
    pub memory_bytes: usize,
    /// Write sessions at once.
    pub max_write_sessions: usize,
}

/// What the handlers work with.
#[derive(Debug, Clone)]
struct Side {
    admin: Admin,
    history: Arc<Mutex<History>>,
    started: Instant,
    started_at: SystemTime,
}

/// Serves the side port until `stop`.
pub async fn serve(listener: TcpListener, admin: Admin, stop: CancellationToken) -> io::Result<()> {
    let metrics_need_key = admin.metrics_need_key;
    let side = Side { admin, history: Arc::default(), started: Instant::now(), started_at: SystemTime::now() };
    let sampler = tokio::spawn(sample(side.clone(), stop.clone()));
    let open = Router::new().route("/livez", get(|| async { "alive\n" })).route("/readyz", get(readyz));
    let metrics = Router::new().route("/metrics", get(metrics));
    let status = Router::new()
        .route("/", get(status_page))
        .route("/status", get(status_page))
        .route("/status.json", get(status_json));
    let guarded = |router: Router<Side>| router.route_layer(from_fn_with_state(side.clone(), operators_only));
    // On loopback without an access file the guard is about who asks a browser to ask, which is a matter of metrics, too.
    let is_guarded = metrics_need_key || matches!(side.admin.door, Door::OpenOnLoopback);
    let metrics = if is_guarded { guarded(metrics) } else { metrics };
    let router = open.merge(metrics).merge(guarded(status)).layer(from_fn(careful_headers)).with_state(side);
    let served = listener::serve(listener, router, stop).await;
    if let Err(error) = sampler.await {
        tracing::error!(%error, "the status page's sampler failed");
    }
    served
}

/// Reads the instruments once a second.
async fn sample(side: Side, stop: CancellationToken) {
    let mut ticks = tokio::time::interval_at(side.started, SAMPLE_INTERVAL);
    // What was missed is a gap, and not a crowd.
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            _ = ticks.tick() => {}
        }
        let now = Instant::now();
        let instruments = &side.admin.instruments;
        instruments.session_board.tick(now);
        side.history().record(now.saturating_duration_since(side.started), Readings::of(instruments));
    }
}

async fn operators_only(State(side): State<Side>, request: Request, next: Next) -> Response {
    match side.admin.door.enter(request.headers()).await {
        Ok(()) => next.run(request).await,
        Err(refusal) => refusal.into_response(),
    }
}

/// What every answer says to browsers; a handler may have said it better.
async fn careful_headers(request: Request, next: Next) -> Response {
    const HEADERS: [(HeaderName, HeaderValue); 6] = [
        (header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
        (header::X_FRAME_OPTIONS, HeaderValue::from_static("DENY")),
        (header::REFERRER_POLICY, HeaderValue::from_static("no-referrer")),
        (header::CACHE_CONTROL, HeaderValue::from_static("no-store")),
        (
            header::CONTENT_SECURITY_POLICY,
            HeaderValue::from_static("default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"),
        ),
        (HeaderName::from_static("cross-origin-resource-policy"), HeaderValue::from_static("same-origin")),
    ];
    let mut response = next.run(request).await;
    for (name, value) in HEADERS {
        response.headers_mut().entry(name).or_insert(value);
    }
    response
}

async fn readyz(State(Side { admin, .. }): State<Side>) -> Response {
    if admin.shutdown.is_draining() {
        return (StatusCode::SERVICE_UNAVAILABLE, "draining\n").into_response();
    }
    if !admin.backend.answers() {
        return (StatusCode::SERVICE_UNAVAILABLE, "DynamoDB does not answer\n").into_response();
    }
    "ready\n".into_response()
}

async fn metrics(State(Side { admin, .. }): State<Side>) -> Response {
    match admin.instruments.encode() {
        Ok(text) => ([(header::CONTENT_TYPE, prometheus::TEXT_FORMAT)], text).into_response(),
        Err(error) => {
            (StatusCode::INTERNAL_SERVER_ERROR, format!("metrics cannot be written: {error}\n")).into_response()
        }
    }
}

async fn status_page(headers: HeaderMap) -> Response {
    page::answer(&headers)
}

async fn status_json(State(side): State<Side>, RawQuery(query): RawQuery) -> Response {
    let seen = match query.as_deref().filter(|query| !query.is_empty()) {
        None => None,
        Some(query) => match query.strip_prefix("since=").and_then(|number| number.parse().ok()) {
            Some(seen) => Some(seen),
            None => {
                let message =
                    "expected nothing behind `?`, or `since=N` with the number of the last second that is known\n";
                return (StatusCode::BAD_REQUEST, message).into_response();
            }
        },
    };
    Json(side.report(seen)).into_response()
}

impl Side {
    fn history(&self) -> MutexGuard<'_, History> {
        // A panic elsewhere leaves plain numbers behind.
        self.history.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn report(&self, seen: Option<u64>) -> Report {
        let Admin { instruments, shutdown, backend, .. } = &self.admin;
        let now = Instant::now();
        let unix_ms = |time: SystemTime| {
            let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
            u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
        };
        let around = Surroundings {
            now_unix_ms: unix_ms(SystemTime::now()),
            started_unix_ms: unix_ms(self.started_at),
            uptime: now.saturating_duration_since(self.started),
            backend: self.admin.backend_name.to_owned(),
            backend_silent_for: backend.silent_for(now),
            drains_for: shutdown.drains_until().map(|until| until.saturating_duration_since(now)),
            memory_limit_bytes: self.admin.memory_bytes as u64,
            resident_bytes: resident_bytes(),
            sessions_limit: self.admin.max_write_sessions as u64,
            sessions: instruments.session_board.list(LISTED, now),
            hot_keys: instruments.hot_keys.heaviest(HOT_KEYS, now),
        };
        Report::new(&self.history(), seen, around)
    }
}

/// Memory of the process, where Linux says it.
fn resident_bytes() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok().map(|kib| kib * 1024)
}
