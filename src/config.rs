//! What `forebay serve` can be told, and how the layers come together.
//!
//! Flags beat the environment (`FOREBAY_*`), which beats the file (YAML), which beats the defaults. Unknown keys are
//! errors with file, line and key. [`Config`] is what people write (every key optional); [`Settings`] is what the server
//! runs with (every value checked).

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::api::ingest::SessionTimeouts;
use crate::catalog::{CatalogConfig, ShardConfig};
use crate::edge::EdgeConfig;
use crate::limits::{
    ACCESS_RELOAD_INTERVAL, CALLS_PER_CORE, EMBEDDED_ATTEMPT_TIMEOUT, EMBEDDED_ATTEMPTS_IN_FLIGHT, KEEPALIVE_INTERVAL,
    KEEPALIVE_TIMEOUT, MESSAGE_MAX_BYTES, MESSAGE_STALL_TIMEOUT, WINDOW_MAX_UNACKED_BATCHES, WINDOW_MAX_UNACKED_BYTES,
};
use crate::middleware::auth::jwt::KeyTiming;
use crate::pool::{PoolConfig, WindowConfig};
use crate::store::StoreConfig;
use crate::telemetry::logging::LogFormat;

mod edge;

pub use edge::TlsConfig;

/// A configuration as it is written: a file, the environment, or flags. Absent keys leave the layer below.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Where gRPC is served, `127.0.0.1:50051`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub listen: Option<String>,
    /// Where the status page, /metrics, /livez and /readyz are served, `127.0.0.1:9464`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub admin: Option<String>,
    /// Whether /metrics needs an operator's key, as the status page does.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub metrics_need_key: Option<bool>,
    /// The access file: who may come in, and what each may do.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub access: Option<PathBuf>,
    /// Seconds between looks at the access file.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub access_reload_seconds: Option<f64>,
    /// Whether, without an access file, everybody may do everything from other machines, too.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub allow_anyone: Option<bool>,
    /// Run the embedded store: `true` in memory, or a folder.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub embedded: Option<EmbeddedChoice>,
    /// A DynamoDB-compatible endpoint instead of AWS.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub endpoint_url: Option<String>,
    /// The AWS region; the environment's where absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub region: Option<String>,
    /// Prefix of the control table, `forebay-`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub control_table_prefix: Option<String>,
    /// Prefix of DynamoDB tables that a definition does not name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub table_prefix: Option<String>,
    /// Seconds between reads of the catalog.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub catalog_refresh_seconds: Option<f64>,
    /// Seconds that a copy of the shard map may be used; the same in all gateways.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub shard_map_ttl_seconds: Option<f64>,
    /// Seconds that the clocks of gateways may be apart.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub shard_map_skew_seconds: Option<f64>,
    /// Write units a second from which a stored partition key of an adaptive table is hot.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub split_write_units: Option<f64>,
    /// Seconds that a partition key is hot before it gets more shards.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub split_patience_seconds: Option<f64>,
    /// Lanes of the write pool; two a core where absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lanes: Option<usize>,
    /// The most write calls in flight for one table.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub attempts_in_flight: Option<usize>,
    /// Seconds that one write call may take.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub write_attempt_timeout_seconds: Option<f64>,
    /// MiB of rows between arrival and outcome, and of messages in the transport.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory_mib: Option<usize>,
    /// Write sessions at once; derived from `memory_mib` where absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_write_sessions: Option<usize>,
    /// Unary calls in handlers at once; 512 a core where absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_calls: Option<usize>,
    /// Unacked bytes of one session.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub window_bytes: Option<u64>,
    /// Unacked batches of one session.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub window_batches: Option<u32>,
    /// Seconds after which clients are asked to move to a new connection; 0 for never.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_connection_age_seconds: Option<f64>,
    /// Seconds that open streams get to finish when the process is told to stop.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub drain_seconds: Option<f64>,
    /// Threads of the runtime; one a core where absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub worker_threads: Option<usize>,
    /// What is logged: `info`, `forebay=debug,info`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub log: Option<String>,
    /// The shape of log lines.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub log_format: Option<LogFormat>,
    /// The gateway's certificate, and clients'.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls: Option<TlsConfig>,
    /// Connections at once; derived from `memory_mib` and the limit of open files where absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_connections: Option<usize>,
    /// Connections at once from one address.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_connections_per_address: Option<usize>,
}

/// The embedded store, as it is written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum EmbeddedChoice {
    /// In memory, or not at all.
    Switch(bool),
    /// In this folder.
    Folder(PathBuf),
}

/// A value that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{key}: {message}")]
pub struct ConfigError {
    /// The key.
    pub key: &'static str,
    /// What is wrong and what is expected.
    pub message: String,
}

/// Why a file gives no configuration.
#[derive(Debug, thiserror::Error)]
pub enum ConfigFileError {
    /// It cannot be read.
    #[error("cannot read the configuration {path}: {source}", path = path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// It is not a configuration.
    #[error(transparent)]
    Yaml(#[from] crate::yaml::YamlError),
}

/// Where rows go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Backend {
    /// The embedded store, in memory or in a folder.
    Embedded(Option<PathBuf>),
    /// DynamoDB, or what speaks its protocol.
    DynamoDb,
}

/// The access file, and how it is watched.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AccessSettings {
    /// The file.
    pub file: PathBuf,
    /// How often it is looked at.
    pub reload_interval: Duration,
    /// How often the keys of issuers are fetched.
    pub keys: KeyTiming,
}

/// HTTP/2 pings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Keepalive {
    /// How often a quiet connection is asked whether it is there.
    pub interval: Duration,
    /// How long the answer may take.
    pub timeout: Duration,
}

impl Default for Keepalive {
    fn default() -> Self {
        Self { interval: KEEPALIVE_INTERVAL, timeout: KEEPALIVE_TIMEOUT }
    }
}

/// What the server runs with.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Where gRPC is served.
    pub listen: SocketAddr,
    /// Where the side port is served; `None` for nowhere.
    pub admin: Option<SocketAddr>,
    /// Whether /metrics needs an operator's key.
    pub metrics_need_key: bool,
    /// Who may come in; `None` for everybody.
    pub access: Option<AccessSettings>,
    /// Whether, without an access file, that was decided for other machines, too.
    pub allow_anyone: bool,
    /// Where rows go.
    pub backend: Backend,
    /// How DynamoDB is reached.
    pub store: StoreConfig,
    /// How tables are kept.
    pub catalog: CatalogConfig,
    /// How the pool is sized.
    pub pool: PoolConfig,
    /// Bytes of encoded rows until their outcome.
    pub memory_bytes: usize,
    /// Bytes of decoded Arrow batches.
    pub decode_memory_bytes: usize,
    /// Write sessions at once.
    pub max_write_sessions: usize,
    /// Unary calls in handlers at once.
    pub max_calls: usize,
    /// Unacked bytes of one session.
    pub window_bytes: u64,
    /// Unacked batches of one session.
    pub window_batches: u32,
    /// After this time clients are asked to move to a new connection.
    pub max_connection_age: Option<Duration>,
    /// Open streams get this long to finish.
    pub drain_for: Duration,
    /// How long write sessions wait for their clients.
    pub session_timeouts: SessionTimeouts,
    /// How peers that are gone without a word are found.
    pub keepalive: Keepalive,
    /// How long a client may be silent in the middle of a message.
    pub message_stall_timeout: Duration,
    /// Threads of the runtime.
    pub worker_threads: Option<usize>,
    /// What is logged.
    pub log: String,
    /// The shape of log lines.
    pub log_format: LogFormat,
    /// How connections are taken.
    pub edge: EdgeConfig,
}

impl Config {
    /// Reads a file.
    pub fn from_file(path: &Path) -> Result<Self, ConfigFileError> {
        let text =
            std::fs::read_to_string(path).map_err(|source| ConfigFileError::Read { path: path.to_owned(), source })?;
        if text.lines().all(|line| line.trim_start().starts_with('#') || line.trim().is_empty()) {
            return Ok(Self::default());
        }
        Ok(crate::yaml::document(&path.display().to_string(), &text)?)
    }

    /// This layer, and below it another.
    #[must_use]
    pub fn or(self, below: Self) -> Self {
        // A layer that chooses a backend chooses all of it: `--embedded` does not mix with the file's endpoint_url.
        let chooses = self.embedded.is_some() || self.endpoint_url.is_some();
        let (embedded, endpoint_url) =
            if chooses { (self.embedded, self.endpoint_url) } else { (below.embedded, below.endpoint_url) };
        Self {
            listen: self.listen.or(below.listen),
            admin: self.admin.or(below.admin),
            metrics_need_key: self.metrics_need_key.or(below.metrics_need_key),
            access: self.access.or(below.access),
            access_reload_seconds: self.access_reload_seconds.or(below.access_reload_seconds),
            allow_anyone: self.allow_anyone.or(below.allow_anyone),
            embedded,
            endpoint_url,
            region: self.region.or(below.region),
            control_table_prefix: self.control_table_prefix.or(below.control_table_prefix),
            table_prefix: self.table_prefix.or(below.table_prefix),
            catalog_refresh_seconds: self.catalog_refresh_seconds.or(below.catalog_refresh_seconds),
            shard_map_ttl_seconds: self.shard_map_ttl_seconds.or(below.shard_map_ttl_seconds),
            shard_map_skew_seconds: self.shard_map_skew_seconds.or(below.shard_map_skew_seconds),
            split_write_units: self.split_write_units.or(below.split_write_units),
            split_patience_seconds: self.split_patience_seconds.or(below.split_patience_seconds),
            lanes: self.lanes.or(below.lanes),
            attempts_in_flight: self.attempts_in_flight.or(below.attempts_in_flight),
            write_attempt_timeout_seconds: self.write_attempt_timeout_seconds.or(below.write_attempt_timeout_seconds),
            memory_mib: self.memory_mib.or(below.memory_mib),
            max_write_sessions: self.max_write_sessions.or(below.max_write_sessions),
            max_calls: self.max_calls.or(below.max_calls),
            window_bytes: self.window_bytes.or(below.window_bytes),
            window_batches: self.window_batches.or(below.window_batches),
            max_connection_age_seconds: self.max_connection_age_seconds.or(below.max_connection_age_seconds),
            drain_seconds: self.drain_seconds.or(below.drain_seconds),
            worker_threads: self.worker_threads.or(below.worker_threads),
            log: self.log.or(below.log),
            log_format: self.log_format.or(below.log_format),
            tls: match (self.tls, below.tls) {
                (Some(above), Some(below)) => Some(above.or(below)),
                (above, below) => above.or(below),
            },
            max_connections: self.max_connections.or(below.max_connections),
            max_connections_per_address: self.max_connections_per_address.or(below.max_connections_per_address),
        }
    }

    /// All keys with the values that the server runs with.
    pub fn with_defaults(self) -> Self {
        let pool = PoolConfig::for_cores(cores());
        let (store, catalog) = (StoreConfig::default(), CatalogConfig::default());
        let memory_mib = self.memory_mib.unwrap_or_else(default_memory_mib);
        // The embedded store has one lock: more calls at once only wait longer, and a slow disk is no reason to give up.
        let embedded = matches!(self.embedded, Some(EmbeddedChoice::Switch(true) | EmbeddedChoice::Folder(_)));
        let (attempts_in_flight, attempt_timeout) = if embedded {
            (EMBEDDED_ATTEMPTS_IN_FLIGHT, EMBEDDED_ATTEMPT_TIMEOUT)
        } else {
            (pool.window.most, store.write_attempt_timeout)
        };
        self.or(Self {
            listen: Some("127.0.0.1:50051".to_owned()),
            admin: Some("127.0.0.1:9464".to_owned()),
            metrics_need_key: Some(false),
            access: None,
            access_reload_seconds: Some(ACCESS_RELOAD_INTERVAL.as_secs_f64()),
            allow_anyone: Some(false),
            embedded: None,
            endpoint_url: None,
            region: None,
            control_table_prefix: Some(catalog.control_table_prefix),
            table_prefix: Some(catalog.table_prefix),
            catalog_refresh_seconds: Some(catalog.refresh_interval.as_secs_f64()),
            shard_map_ttl_seconds: Some(catalog.shards.ttl.as_secs_f64()),
            shard_map_skew_seconds: Some(catalog.shards.skew.as_secs_f64()),
            split_write_units: Some(catalog.shards.split_at_units_per_second),
            split_patience_seconds: Some(catalog.shards.split_patience.as_secs_f64()),
            lanes: Some(pool.lanes),
            attempts_in_flight: Some(attempts_in_flight),
            write_attempt_timeout_seconds: Some(attempt_timeout.as_secs_f64()),
            memory_mib: Some(memory_mib),
            max_write_sessions: Some(default_max_write_sessions(memory_mib)),
            max_calls: Some(CALLS_PER_CORE * cores()),
            window_bytes: Some(WINDOW_MAX_UNACKED_BYTES),
            window_batches: Some(WINDOW_MAX_UNACKED_BATCHES),
            max_connection_age_seconds: Some(1800.0),
            drain_seconds: Some(25.0),
            worker_threads: None,
            log: Some("info".to_owned()),
            log_format: Some(LogFormat::Text),
            tls: None,
            max_connections: Some(edge::default_max_connections(memory_mib)),
            max_connections_per_address: None,
        })
    }
}

impl Settings {
    /// Checks every value.
    pub fn try_new(config: Config) -> Result<Self, ConfigError> {
        let config = config.with_defaults();
        let edge = edge::settings(&config)?;
        let address = |key: &'static str, value: Option<String>| {
            let value = value.unwrap_or_default();
            value.parse::<SocketAddr>().map_err(|_| ConfigError {
                key,
                message: format!(
                    "`{value}` is not an address; expected IP:PORT, such as 127.0.0.1:50051 or [::]:50051"
                ),
            })
        };
        let admin = match config.admin.as_deref() {
            None | Some("" | "off") => None,
            Some(_) => Some(address("admin", config.admin)?),
        };
        let backend = match (config.embedded, &config.endpoint_url) {
            (Some(EmbeddedChoice::Switch(true) | EmbeddedChoice::Folder(_)), Some(_)) => {
                let message = "cannot go together with endpoint_url; choose one".to_owned();
                return Err(ConfigError { key: "embedded", message });
            }
            (Some(EmbeddedChoice::Switch(true)), None) => Backend::Embedded(None),
            (Some(EmbeddedChoice::Folder(folder)), None) => Backend::Embedded(Some(folder)),
            (Some(EmbeddedChoice::Switch(false)) | None, _) => Backend::DynamoDb,
        };
        let memory_mib = at_least("memory_mib", config.memory_mib, 64)?;
        let defaults = PoolConfig::for_cores(cores());
        let most =
            at_most("attempts_in_flight", at_least("attempts_in_flight", config.attempts_in_flight, 1)?, 100_000)?;
        let pool = PoolConfig {
            lanes: at_most("lanes", at_least("lanes", config.lanes, 1)?, 1024)?,
            window: WindowConfig { most, ..defaults.window },
            ..defaults
        };
        let max_connection_age = seconds("max_connection_age_seconds", config.max_connection_age_seconds)?;
        let attempt = seconds("write_attempt_timeout_seconds", config.write_attempt_timeout_seconds)?;
        let refresh = seconds("catalog_refresh_seconds", config.catalog_refresh_seconds)?;
        let access_reload = seconds("access_reload_seconds", config.access_reload_seconds)?;
        let shard_map_ttl = seconds("shard_map_ttl_seconds", config.shard_map_ttl_seconds)?;
        let split_at = config.split_write_units.filter(|units| *units >= 1.0 && units.is_finite());
        let shards = ShardConfig {
            ttl: shard_map_ttl,
            skew: seconds("shard_map_skew_seconds", config.shard_map_skew_seconds)?,
            split_patience: seconds("split_patience_seconds", config.split_patience_seconds)?,
            split_at_units_per_second: split_at
                .ok_or_else(|| ConfigError { key: "split_write_units", message: "must be at least 1".to_owned() })?,
        };
        for (key, duration) in [
            ("access_reload_seconds", access_reload),
            ("write_attempt_timeout_seconds", attempt),
            ("catalog_refresh_seconds", refresh),
            ("shard_map_ttl_seconds", shard_map_ttl),
        ] {
            if duration.is_zero() {
                return Err(ConfigError { key, message: "must be above 0".to_owned() });
            }
        }
        let listen = address("listen", config.listen)?;
        let reload_interval = access_reload;
        let access = config.access.map(|file| AccessSettings { file, reload_interval, keys: KeyTiming::default() });
        let allow_anyone = config.allow_anyone.unwrap_or_default();
        check_who_may_come_in(listen, access.is_some(), allow_anyone)?;
        if config.metrics_need_key == Some(true) && access.is_none() {
            let message = "needs `access`: without an access file there are no keys".to_owned();
            return Err(ConfigError { key: "metrics_need_key", message });
        }
        Ok(Self {
            listen,
            admin,
            metrics_need_key: config.metrics_need_key.unwrap_or_default(),
            access,
            allow_anyone,
            backend,
            store: StoreConfig {
                endpoint_url: config.endpoint_url,
                region: config.region,
                write_attempt_timeout: attempt,
                ..StoreConfig::default()
            },
            catalog: CatalogConfig {
                control_table_prefix: config.control_table_prefix.unwrap_or_default(),
                table_prefix: config.table_prefix.unwrap_or_default(),
                refresh_interval: refresh,
                shards,
            },
            pool,
            // The other half is the transport's: a message for each session.
            memory_bytes: memory_mib * 3 / 8 * 1024 * 1024,
            decode_memory_bytes: memory_mib / 8 * 1024 * 1024,
            max_write_sessions: at_least("max_write_sessions", config.max_write_sessions, 1)?,
            max_calls: at_least("max_calls", config.max_calls, 1)?,
            window_bytes: config.window_bytes.filter(|&bytes| bytes > 0).ok_or_else(|| above_zero("window_bytes"))?,
            window_batches: config.window_batches.filter(|&n| n > 0).ok_or_else(|| above_zero("window_batches"))?,
            max_connection_age: Some(max_connection_age).filter(|age| !age.is_zero()),
            drain_for: seconds("drain_seconds", config.drain_seconds)?,
            session_timeouts: SessionTimeouts::default(),
            keepalive: Keepalive::default(),
            message_stall_timeout: MESSAGE_STALL_TIMEOUT,
            worker_threads: config.worker_threads.map(|n| at_least("worker_threads", Some(n), 1)).transpose()?,
            log: config.log.unwrap_or_default(),
            log_format: config.log_format.unwrap_or_default(),
            edge,
        })
    }
}

/// Everybody may do everything only on loopback, or where somebody has said so.
fn check_who_may_come_in(listen: SocketAddr, has_access: bool, allow_anyone: bool) -> Result<(), ConfigError> {
    let wrong = |key, message: String| Err(ConfigError { key, message });
    match (has_access, allow_anyone) {
        (true, true) => wrong("allow_anyone", "cannot go together with access; choose one".to_owned()),
        (false, false) if !is_loopback(listen) => wrong(
            "listen",
            format!(
                "`{listen}` can be reached from other machines, and nothing says who may come in: name an access file \
                 (--access FILE), or listen on 127.0.0.1; to let everybody do everything, say so (--allow-anyone)"
            ),
        ),
        _ => Ok(()),
    }
}

/// Whether only this machine can reach an address.
pub fn is_loopback(address: SocketAddr) -> bool {
    address.ip().to_canonical().is_loopback()
}

/// Cores that the process may use.
pub fn cores() -> usize {
    std::thread::available_parallelism().map_or(2, std::num::NonZero::get)
}

/// Half of the memory that the process may use: the container's limit where there is one.
fn default_memory_mib() -> usize {
    const MIB: u64 = 1024 * 1024;
    let limit = std::fs::read_to_string("/sys/fs/cgroup/memory.max").ok();
    let limit = limit.and_then(|text| text.trim().parse::<u64>().ok());
    let total = std::fs::read_to_string("/proc/meminfo").ok().and_then(|text| {
        let line = text.lines().find(|line| line.starts_with("MemTotal:"))?;
        line.split_whitespace().nth(1)?.parse::<u64>().ok().map(|kib| kib * 1024)
    });
    let bytes = limit.into_iter().chain(total).min().unwrap_or(2048 * MIB);
    usize::try_from(bytes / 2 / MIB).unwrap_or(1024).max(64)
}

/// The transport holds at most one message a stream; half of the memory is for them.
fn default_max_write_sessions(memory_mib: usize) -> usize {
    (memory_mib / 2 * 1024 * 1024 / MESSAGE_MAX_BYTES).max(2)
}

fn above_zero(key: &'static str) -> ConfigError {
    ConfigError { key, message: "must be above 0".to_owned() }
}

fn at_least(key: &'static str, value: Option<usize>, minimum: usize) -> Result<usize, ConfigError> {
    let value = value.unwrap_or(0);
    if value >= minimum {
        return Ok(value);
    }
    Err(ConfigError { key, message: format!("is {value}; expected at least {minimum}") })
}

fn at_most(key: &'static str, value: usize, maximum: usize) -> Result<usize, ConfigError> {
    if value <= maximum {
        return Ok(value);
    }
    Err(ConfigError { key, message: format!("is {value}; expected at most {maximum}") })
}

fn seconds(key: &'static str, value: Option<f64>) -> Result<Duration, ConfigError> {
    let value = value.unwrap_or(0.0);
    if value > 1e8 {
        return Err(ConfigError { key, message: format!("is {value}; expected at most 100000000 seconds") });
    }
    Duration::try_from_secs_f64(value)
        .map_err(|_| ConfigError { key, message: format!("is {value}; expected seconds, 0 or more") })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_layer_above_wins_and_chooses_the_backend_as_a_whole() {
        let file =
            Config { listen: Some("1.1.1.1:1".into()), endpoint_url: Some("http://x".into()), ..Config::default() };
        let flags = Config { embedded: Some(EmbeddedChoice::Switch(true)), ..Config::default() };
        let both = flags.or(file);
        assert_eq!((both.listen.as_deref(), both.endpoint_url), (Some("1.1.1.1:1"), None));
    }

    #[test]
    fn defaults_are_usable() {
        let settings = Settings::try_new(Config::default()).unwrap();
        assert_eq!(settings.backend, Backend::DynamoDb);
        assert!(settings.max_write_sessions >= 2 && settings.memory_bytes >= 24 << 20);
    }

    #[test]
    fn everybody_comes_in_from_other_machines_only_where_somebody_said_so() {
        let config = |listen: &str, access: Option<&str>, allow_anyone| Config {
            listen: Some(listen.to_owned()),
            access: access.map(PathBuf::from),
            allow_anyone,
            ..Config::default()
        };
        let key = |config| Settings::try_new(config).err().map(|error| error.key);
        for loopback in ["127.0.0.1:0", "127.9.9.9:0", "[::1]:0", "[::ffff:127.0.0.1]:0"] {
            assert_eq!(key(config(loopback, None, None)), None, "{loopback}");
        }
        for open in ["0.0.0.0:0", "[::]:0", "10.0.0.7:0", "[::ffff:10.0.0.7]:0"] {
            assert_eq!(key(config(open, None, None)), Some("listen"), "{open}");
            assert_eq!(key(config(open, None, Some(false))), Some("listen"), "{open}");
            assert_eq!(key(config(open, None, Some(true))), None, "{open}");
            assert_eq!(key(config(open, Some("access.yaml"), None)), None, "{open}");
        }
        assert_eq!(key(config("0.0.0.0:0", Some("access.yaml"), Some(true))), Some("allow_anyone"));
        let settings = Settings::try_new(config("0.0.0.0:0", Some("access.yaml"), None)).unwrap();
        let reload_interval = Duration::from_secs(5);
        assert_eq!(
            settings.access,
            Some(AccessSettings { file: "access.yaml".into(), reload_interval, keys: KeyTiming::default() })
        );
    }

    #[test]
    fn bad_values_name_their_key() {
        let cases = [
            (Config { listen: Some("nonsense".into()), ..Config::default() }, "listen"),
            (Config { memory_mib: Some(1), ..Config::default() }, "memory_mib"),
            (Config { drain_seconds: Some(-1.0), ..Config::default() }, "drain_seconds"),
            (Config { window_bytes: Some(0), ..Config::default() }, "window_bytes"),
            (Config { max_calls: Some(0), ..Config::default() }, "max_calls"),
            (Config { lanes: Some(0), ..Config::default() }, "lanes"),
            (Config { access_reload_seconds: Some(0.0), ..Config::default() }, "access_reload_seconds"),
        ];
        for (config, key) in cases {
            assert_eq!(Settings::try_new(config).unwrap_err().key, key);
        }
    }
}
