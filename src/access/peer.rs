//! The other end of a connection, as the transport knows it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::SystemTime;

/// A client certificate that the transport has verified.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerCertificate {
    /// Its subject alternative names, as `kind:value`: `uri:spiffe://cluster/ns/ml/sa/fraud`, `dns:fraud.ml.svc`,
    /// `email:a@b.c`, `ip:10.0.0.7`.
    pub names: Arc<[Arc<str>]>,
    /// It is worth nothing from then on.
    pub expires_at: SystemTime,
}

/// The other end of a connection. A part of the extensions of each of its requests.
#[derive(Debug, Clone)]
pub struct Peer {
    /// Where it is.
    pub address: SocketAddr,
    /// Its certificate, where it showed one.
    pub certificate: Option<Arc<PeerCertificate>>,
}
