//! Takes new certificates without a restart.
//!
//! The files are read again regularly, because the ways in which they are replaced (a rename, a symbolic link in a projected
//! volume, a copy) have nothing else in common. What is wrong leaves the old certificate in force, loudly. Callers: `accept`
//! asks for the present one, `server` starts the watch.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use arc_swap::ArcSwap;
use tokio_rustls::rustls::ServerConfig;
use tokio_util::sync::CancellationToken;

use super::{Content, Loaded, TlsError, TlsFiles};
use crate::limits::TLS_EXPIRY_WARNING;
use crate::telemetry::Instruments;
use crate::telemetry::instruments::OutcomeLabel;

/// How often a certificate that ends soon is warned about.
const WARN_AGAIN: Duration = Duration::from_secs(3600);

/// The certificate in force.
pub(in crate::edge) struct Certificates {
    current: ArcSwap<ServerConfig>,
}

impl std::fmt::Debug for Certificates {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // What is in it has the private key.
        f.debug_struct("Certificates").finish_non_exhaustive()
    }
}

impl Certificates {
    /// What a handshake that begins now uses.
    pub(in crate::edge) fn current(&self) -> Arc<ServerConfig> {
        self.current.load_full()
    }
}

/// Watches the files.
#[derive(Debug)]
pub(in crate::edge) struct Watch {
    files: TlsFiles,
    certificates: Arc<Certificates>,
    expires_at: SystemTime,
    loaded: Content,
    /// What was found wrong, and whether that was said.
    wrong: Option<(Option<Content>, bool)>,
    warned_at: Option<SystemTime>,
    instruments: Arc<Instruments>,
}

impl Watch {
    pub(in crate::edge) fn new(files: TlsFiles, loaded: Loaded, instruments: Arc<Instruments>) -> Self {
        let Loaded { config, expires_at, digest } = loaded;
        let certificates = Arc::new(Certificates { current: ArcSwap::new(config) });
        let mut watch =
            Self { files, certificates, expires_at, loaded: digest, wrong: None, warned_at: None, instruments };
        watch.show_expiry(SystemTime::now());
        watch
    }

    pub(in crate::edge) fn certificates(&self) -> Arc<Certificates> {
        Arc::clone(&self.certificates)
    }

    /// Looks at the files again and again, until it is stopped.
    pub(in crate::edge) async fn run(mut self, every: Duration, stop: CancellationToken) {
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(every) => {}
            }
            // A volume may be slow. The task panics only with a fault of ours, which is then logged by the panic's hook.
            match tokio::task::spawn_blocking(move || self.look(SystemTime::now())).await {
                Ok(watch) => self = watch,
                Err(error) => {
                    tracing::error!(%error, "certificates are not watched any more");
                    return;
                }
            }
        }
    }

    /// Looks once.
    pub(super) fn look(mut self, now: SystemTime) -> Self {
        let read = self.files.read();
        let content = read.as_ref().ok().map(super::Read::digest);
        if content == Some(self.loaded) {
            self.wrong = None;
        } else {
            match read.and_then(|read| self.files.check(&read, now)) {
                Ok(loaded) => self.take(loaded),
                Err(error) => self.keep(content, &error),
            }
        }
        self.show_expiry(now);
        self
    }

    fn take(&mut self, loaded: Loaded) {
        self.certificates.current.store(loaded.config);
        (self.loaded, self.expires_at) = (loaded.digest, loaded.expires_at);
        (self.wrong, self.warned_at) = (None, None);
        self.instruments.certificate_reloads.get_or_create(&OutcomeLabel { outcome: "ok" }).inc();
        tracing::info!(cert = %self.files.cert.display(), "a new certificate is in force for new connections");
    }

    /// Between the replacement of one file and the other they do not fit: only what is seen twice is said.
    fn keep(&mut self, content: Option<Content>, error: &TlsError) {
        match self.wrong {
            Some((seen, true)) if seen == content => {}
            Some((seen, false)) if seen == content => {
                self.wrong = Some((content, true));
                self.instruments.certificate_reloads.get_or_create(&OutcomeLabel { outcome: "failed" }).inc();
                tracing::error!("the new certificate is NOT taken, the old one stays in force: {error}");
            }
            _ => self.wrong = Some((content, false)),
        }
    }

    fn show_expiry(&mut self, now: SystemTime) {
        let since_epoch = self.expires_at.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        self.instruments.certificate_expiry.set(i64::try_from(since_epoch.as_secs()).unwrap_or(i64::MAX));
        let left = self.expires_at.duration_since(now).unwrap_or_default();
        let due = self.warned_at.is_none_or(|at| now.duration_since(at).unwrap_or(WARN_AGAIN) >= WARN_AGAIN);
        if left < TLS_EXPIRY_WARNING && due {
            self.warned_at = Some(now);
            let (cert, hours_left) = (self.files.cert.display(), left.as_secs() / 3600);
            tracing::warn!(%cert, hours_left, "the certificate ends soon and was not replaced");
        }
    }
}
