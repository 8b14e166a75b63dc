//! The edge: where connections come in.
//!
//! ```text
//! accept      caps, per process and per address; back-off when there are no file handles
//! penalty     an address that flooded lately waits
//! handshake   TLS, in a task for each, bounded in number and time; the client's certificate becomes a part of its Peer
//! connection  silence before HTTP/2, frames that cost and carry nothing
//! transport   HTTP/2 itself: streams, windows, keep-alive, header lists   (server.rs)
//! ```
//!
//! A request's extensions hold an [`access::Peer`](crate::access::Peer). What is refused here is counted in
//! `connections_refused` by its reason. Caller: `server`.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::limits::{PREFACE_TIMEOUT, TLS_HANDSHAKE_TIMEOUT, TLS_HANDSHAKES_MAX, TLS_RELOAD_INTERVAL};
use crate::telemetry::Instruments;

mod accept;
mod caps;
mod connection;
mod flood;
mod frames;
mod refused;
mod tls;

pub use accept::Incoming;
pub use connection::Connection;
pub use flood::{Allowance, FloodLimits};
pub use tls::{ClientAuth, Loaded, TlsError, TlsFiles};

/// How connections are taken.
#[derive(Debug, Clone)]
pub struct EdgeConfig {
    /// The certificate; `None` for no TLS.
    pub tls: Option<TlsFiles>,
    /// How often its files are read again.
    pub tls_reload: Duration,
    /// How long a handshake may take.
    pub handshake_timeout: Duration,
    /// Handshakes at once.
    pub handshakes: usize,
    /// How long a client may be silent before HTTP/2.
    pub preface_timeout: Duration,
    /// Connections at once.
    pub max_connections: usize,
    /// Connections at once from one address; `None` for as many as there may be.
    pub max_connections_per_address: Option<usize>,
    /// What one connection may send that carries nothing.
    pub flood: FloodLimits,
}

impl EdgeConfig {
    /// Without TLS, and with the limits' values.
    pub fn new(max_connections: usize) -> Self {
        Self {
            tls: None,
            tls_reload: TLS_RELOAD_INTERVAL,
            handshake_timeout: TLS_HANDSHAKE_TIMEOUT,
            handshakes: TLS_HANDSHAKES_MAX,
            preface_timeout: PREFACE_TIMEOUT,
            max_connections,
            max_connections_per_address: None,
            flood: FloodLimits::default(),
        }
    }

    /// Reads and checks the certificate's files, if there are any.
    ///
    /// # Errors
    ///
    /// What is wrong with them.
    pub fn load_tls(&self) -> Result<Option<Loaded>, TlsError> {
        self.tls.as_ref().map(|files| files.load(SystemTime::now())).transpose()
    }
}

/// Takes connections of a port until the result is dropped. `loaded` is what [`EdgeConfig::load_tls`] gave; its files are
/// watched until `stop`.
pub fn incoming(
    listener: TcpListener,
    config: &EdgeConfig,
    loaded: Option<Loaded>,
    instruments: &Arc<Instruments>,
    stop: CancellationToken,
) -> Incoming {
    let caps = caps::Caps::new(config.max_connections, config.max_connections_per_address, Arc::clone(instruments));
    let refusals = refused::Refusals::new(Arc::clone(instruments));
    let certificates = config.tls.clone().zip(loaded).map(|(files, loaded)| {
        let watch = tls::reload::Watch::new(files, loaded, Arc::clone(instruments));
        let certificates = watch.certificates();
        tokio::spawn(watch.run(config.tls_reload, stop.clone()));
        certificates
    });
    accept::start(listener, config, caps, refusals, certificates, stop)
}
