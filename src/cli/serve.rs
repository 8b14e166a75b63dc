//! `forebay serve`: the gateway, until a signal ends it.

use std::io::Write as _;
use std::path::PathBuf;
use std::sync::Arc;

use crate::config::{Backend, Config, ConfigError, EmbeddedChoice, Settings, TlsConfig};
use crate::limits::OTLP_CLOSE_TIMEOUT;
use crate::server::Gateway;
use crate::telemetry::logging::{self, LogFormat, LogRepeats};
use crate::telemetry::otlp::{self, Otlp, OtlpError};

use super::{CliError, Exit};

/// What `serve` can be told; everything else is in the configuration file.
#[derive(Debug, clap::Args)]
pub struct ServeArgs {
    /// Run the embedded store, in memory or in a folder: for trials and tests
    #[arg(long, value_name = "DIR", num_args = 0..=1, require_equals = false, default_missing_value = "", env = "FOREBAY_EMBEDDED")]
    embedded: Option<String>,
    /// Where gRPC is served [default: 127.0.0.1:50051]
    #[arg(long, value_name = "IP:PORT", env = "FOREBAY_LISTEN")]
    listen: Option<String>,
    /// Where the status page, /metrics, /livez and /readyz are served, or `off` [default: 127.0.0.1:9464]
    #[arg(long, value_name = "IP:PORT", env = "FOREBAY_ADMIN")]
    admin: Option<String>,
    /// Who may come in, and what each may do (YAML); without it, everybody on loopback
    #[arg(long, value_name = "FILE", env = "FOREBAY_ACCESS")]
    access: Option<PathBuf>,
    /// Let everybody do everything, from other machines, too
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_name = "BOOL", env = "FOREBAY_ALLOW_ANYONE")]
    allow_anyone: Option<bool>,
    /// The gateway's certificate and its chain (PEM): TLS is spoken where there is one
    #[arg(long, value_name = "FILE", env = "FOREBAY_TLS_CERT")]
    tls_cert: Option<PathBuf>,
    /// The certificate's private key (PEM)
    #[arg(long, value_name = "FILE", env = "FOREBAY_TLS_KEY")]
    tls_key: Option<PathBuf>,
    /// The authorities whose client certificates are taken (PEM): clients need one
    #[arg(long, value_name = "FILE", env = "FOREBAY_TLS_CLIENT_CA")]
    tls_client_ca: Option<PathBuf>,
    /// A DynamoDB-compatible endpoint instead of AWS
    #[arg(long, value_name = "URL", env = "FOREBAY_ENDPOINT_URL")]
    endpoint_url: Option<String>,
    /// The AWS region [default: the environment's]
    #[arg(long, env = "FOREBAY_REGION")]
    region: Option<String>,
    /// Prefix of the control table [default: forebay-]
    #[arg(long, value_name = "PREFIX", env = "FOREBAY_CONTROL_TABLE_PREFIX")]
    control_table_prefix: Option<String>,
    /// Prefix of DynamoDB tables that a definition does not name
    #[arg(long, value_name = "PREFIX", env = "FOREBAY_TABLE_PREFIX")]
    table_prefix: Option<String>,
    /// MiB for rows and messages [default: half of the memory]
    #[arg(long, value_name = "MIB", env = "FOREBAY_MEMORY_MIB")]
    memory_mib: Option<usize>,
    /// Write calls in flight for one table [default: 64]
    #[arg(long, value_name = "N", env = "FOREBAY_ATTEMPTS_IN_FLIGHT")]
    attempts_in_flight: Option<usize>,
    /// Lanes of the write pool [default: two a core]
    #[arg(long, value_name = "N", env = "FOREBAY_LANES")]
    lanes: Option<usize>,
    /// Threads of the runtime [default: one a core]
    #[arg(long, value_name = "N", env = "FOREBAY_WORKER_THREADS")]
    worker_threads: Option<usize>,
    /// Seconds that open streams get to finish when the process is told to stop [default: 25]
    #[arg(long, value_name = "SECONDS", env = "FOREBAY_DRAIN_SECONDS")]
    drain_seconds: Option<f64>,
    /// What is logged: `info`, `forebay=debug,info` [default: info]
    #[arg(long, value_name = "FILTER", env = "FOREBAY_LOG")]
    log: Option<String>,
    /// The shape of log lines [default: text]
    #[arg(long, value_name = "FORMAT", env = "FOREBAY_LOG_FORMAT")]
    log_format: Option<LogFormat>,
    /// A configuration file (YAML)
    #[arg(long, value_name = "FILE", env = "FOREBAY_CONFIG")]
    config: Option<PathBuf>,
    /// Print the configuration as it would be used, and exit
    #[arg(long)]
    print_config: bool,
}

impl ServeArgs {
    fn config(self) -> Result<Config, CliError> {
        let file = match &self.config {
            Some(path) => Config::from_file(path).map_err(|error| CliError::usage(error.to_string()))?,
            None => Config::default(),
        };
        let embedded = self.embedded.map(|folder| match folder.as_str() {
            "" | "true" => EmbeddedChoice::Switch(true),
            "false" => EmbeddedChoice::Switch(false),
            folder => EmbeddedChoice::Folder(folder.into()),
        });
        let tls =
            TlsConfig { cert: self.tls_cert, key: self.tls_key, client_ca: self.tls_client_ca, client_auth: None };
        let flags = Config {
            tls: Some(tls).filter(|tls| *tls != TlsConfig::default()),
            listen: self.listen,
            admin: self.admin,
            access: self.access,
            allow_anyone: self.allow_anyone,
            embedded,
            endpoint_url: self.endpoint_url,
            region: self.region,
            control_table_prefix: self.control_table_prefix,
            table_prefix: self.table_prefix,
            memory_mib: self.memory_mib,
            attempts_in_flight: self.attempts_in_flight,
            lanes: self.lanes,
            worker_threads: self.worker_threads,
            drain_seconds: self.drain_seconds,
            log: self.log,
            log_format: self.log_format,
            ..Config::default()
        };
        Ok(flags.or(file))
    }

    /// Serves until SIGTERM or ctrl-c.
    pub fn run(self) -> Result<Exit, CliError> {
        let print = self.print_config;
        let config = self.config()?;
        let usage = |error: ConfigError| CliError::usage(format!("configuration: {error}"));
        let settings = Settings::try_new(config.clone()).map_err(usage)?;
        if print {
            let text = serde_saphyr::to_string(&config.with_defaults())
                .map_err(|error| CliError::usage(format!("the configuration cannot be printed: {error}")))?;
            write!(std::io::stdout().lock(), "{text}")?;
            return Ok(Exit::Ok);
        }
        let repeats = logging::init(&settings.log, settings.log_format);
        let repeats = repeats.map_err(|error| CliError::usage(error.to_string()))?;
        let mut runtime = tokio::runtime::Builder::new_multi_thread();
        if let Some(threads) = settings.worker_threads {
            runtime.worker_threads(threads);
        }
        let runtime = runtime
            .enable_all()
            .build()
            .map_err(|error| CliError::usage(format!("the runtime cannot be started: {error}")))?;
        runtime.block_on(serve(settings, repeats))
    }
}

/// Signals closer than this are one.
const SAME_SIGNAL: std::time::Duration = std::time::Duration::from_secs(1);

async fn serve(settings: Settings, repeats: LogRepeats) -> Result<Exit, CliError> {
    let backend = settings.backend.clone();
    let signals = Signals::listen()?;
    let usage = |error: OtlpError| CliError::usage(error.to_string());
    let instruments = Arc::new(Otlp::from_env().and_then(Otlp::instruments).map_err(usage)?);
    let gateway = Gateway::start_with_instruments(settings, Arc::clone(&instruments))
        .await
        .map_err(|error| CliError::usage(error.to_string()))?;
    let place = match backend {
        Backend::Embedded(None) => "the embedded store, in memory".to_owned(),
        Backend::Embedded(Some(folder)) => format!("the embedded store in {}", folder.display()),
        Backend::DynamoDb => "DynamoDB".to_owned(),
    };
    match gateway.admin_address() {
        Some(admin) => tracing::info!("serving gRPC on {}, the side port on {admin}, over {place}", gateway.address()),
        None => tracing::info!("serving gRPC on {}, over {place}", gateway.address()),
    }
    repeats.begin();
    tokio::spawn(repeats.tell());
    let failed = tokio::select! {
        name = signals.first() => {
            tracing::info!("{name}: draining");
            false
        }
        () = gateway.failed() => {
            tracing::error!("a part of the gateway has failed: draining, so that another process can take over");
            true
        }
    };
    // A second signal ends the patience; what comes within a second is the same one, sent to the process and its group.
    let impatient = async {
        loop {
            let heard = tokio::time::Instant::now();
            let name = signals.first().await;
            if heard.elapsed() > SAME_SIGNAL {
                return name;
            }
        }
    };
    tokio::select! {
        clean = async {
            let clean = gateway.shutdown().await;
            if let Err(error) = otlp::close(&instruments, OTLP_CLOSE_TIMEOUT).await {
                tracing::warn!("{error}");
            }
            clean
        } => tracing::info!(clean, "stopped"),
        name = impatient => tracing::warn!("{name} again: stopping at once"),
    }
    if failed {
        return Err(CliError {
            exit: Exit::Gateway,
            message: "a part of the gateway failed; its log says which".to_owned(),
        });
    }
    Ok(Exit::Ok)
}

/// The signals that end the process.
struct Signals {
    #[cfg(unix)]
    terminate: tokio::sync::Mutex<tokio::signal::unix::Signal>,
}

impl Signals {
    fn listen() -> Result<Self, CliError> {
        #[cfg(unix)]
        {
            let terminate = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())
                .map_err(|error| CliError::usage(format!("cannot listen for signals: {error}")))?;
            Ok(Self { terminate: tokio::sync::Mutex::new(terminate) })
        }
        #[cfg(not(unix))]
        Ok(Self {})
    }

    async fn first(&self) -> &'static str {
        #[cfg(unix)]
        {
            let mut terminate = self.terminate.lock().await;
            tokio::select! {
                _ = terminate.recv() => "SIGTERM",
                _ = tokio::signal::ctrl_c() => "interrupt",
            }
        }
        #[cfg(not(unix))]
        {
            // Without the handler the default action has ended the process.
            tokio::signal::ctrl_c().await.ok();
            "interrupt"
        }
    }
}
