//! The accept loop: takes connections, shakes hands with each in a task of its own, and gives those that are ready to the
//! transport.
//!
//! The loop never waits for a client. What it waits for is the transport, which takes connections at once, and, when the
//! process has no file handles left, a moment. Caller: `edge`.

use std::collections::VecDeque;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::Stream;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::Instant;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use super::EdgeConfig;
use super::caps::{Caps, Origin};
use super::connection::{Connection, Terms};
use super::refused::Refusals;
use super::tls::peer;
use super::tls::reload::Certificates;
use crate::access::Peer;
use crate::limits::{ACCEPT_BACKOFF, ACCEPT_BACKOFF_MAX, PARTING_MAX_BYTES, PARTING_TIMEOUT};

/// Connections that are ready and not yet taken by the transport.
const READY: usize = 64;

/// Connections, for the transport. Dropping it closes the port.
#[derive(Debug)]
pub struct Incoming {
    ready: mpsc::Receiver<Connection>,
    _loop: AbortOnDropHandle<()>,
}

impl Stream for Incoming {
    type Item = io::Result<Connection>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.ready.poll_recv(context).map(|connection| connection.map(Ok))
    }
}

/// Starts to accept.
pub(super) fn start(
    listener: TcpListener,
    config: &EdgeConfig,
    caps: Arc<Caps>,
    refusals: Arc<Refusals>,
    certificates: Option<Arc<Certificates>>,
    stop: CancellationToken,
) -> Incoming {
    let (sender, ready) = mpsc::channel(READY);
    let config = config.clone();
    let accept = Accept { config, caps, refusals, certificates, ready: sender, stop };
    Incoming { ready, _loop: AbortOnDropHandle::new(tokio::spawn(Arc::new(accept).run(listener))) }
}

struct Accept {
    config: EdgeConfig,
    caps: Arc<Caps>,
    refusals: Arc<Refusals>,
    certificates: Option<Arc<Certificates>>,
    ready: mpsc::Sender<Connection>,
    stop: CancellationToken,
}

impl Accept {
    async fn run(self: Arc<Self>, listener: TcpListener) {
        let mut greetings = Greetings::default();
        let mut failures = 0;
        loop {
            let accepted = tokio::select! {
                accepted = listener.accept() => accepted,
                () = greetings.one_ends() => continue,
            };
            let (stream, address) = match accepted {
                Ok(accepted) => accepted,
                Err(error) if is_of_one_connection(&error) => continue,
                Err(error) => {
                    let why = format!("the process cannot take connections ({error})");
                    self.refusals.count("accept", None, &why);
                    // The connection stays where it is, so that another try at once would fail at once.
                    tokio::time::sleep(pause(failures)).await;
                    failures += 1;
                    continue;
                }
            };
            failures = 0;
            let origin = Origin::of(address.ip());
            let slot = match self.caps.take(origin) {
                Ok(slot) => slot,
                Err(full) => {
                    self.refusals.count(full.reason(), Some(address), &"there are as many as there may be");
                    continue;
                }
            };
            // Acks are small and wait for nobody. It fails only for connections that are gone.
            stream.set_nodelay(true).ok();
            let terms = Terms {
                peer: Peer { address, certificate: None },
                flood: self.config.flood,
                speak_by: Instant::now() + self.config.preface_timeout,
                stop: self.stop.clone(),
                refusals: Arc::clone(&self.refusals),
                slot,
            };
            let penalty = self.refusals.penalty(origin);
            if self.certificates.is_none() && penalty.is_zero() {
                if self.ready.send(Connection::plain(stream, terms)).await.is_err() {
                    return;
                }
                continue;
            }
            if greetings.make_room(self.config.handshakes) {
                self.refusals.count("handshakes", None, &"the oldest of too many handshakes was given up");
            }
            greetings.add(Arc::clone(&self).greet(stream, terms, penalty));
        }
    }

    /// What a connection needs before the transport gets it.
    async fn greet(self: Arc<Self>, stream: TcpStream, terms: Terms, penalty: Duration) {
        if !penalty.is_zero() {
            tokio::time::sleep(penalty).await;
        }
        let address = terms.peer.address;
        let connection = match &self.certificates {
            None => Connection::plain(stream, terms),
            Some(certificates) => match self.shake_hands(certificates, stream, terms).await {
                Ok(connection) => connection,
                Err(refused) => {
                    self.refusals.count(refused.reason, Some(address), &refused.why);
                    return;
                }
            },
        };
        if self.ready.send(connection).await.is_err() {
            tracing::debug!("a connection came too late: the gateway stops");
        }
    }

    async fn shake_hands(
        &self,
        certificates: &Certificates,
        stream: TcpStream,
        mut terms: Terms,
    ) -> Result<Connection, Refused> {
        let acceptor = TlsAcceptor::from(certificates.current());
        let limit = self.config.handshake_timeout;
        let stream = match tokio::time::timeout(limit, acceptor.accept(stream).into_fallible()).await {
            Ok(Ok(stream)) => stream,
            Ok(Err((error, stream))) => {
                part_from(stream).await;
                return Err(Refused { reason: "tls", why: format!("no TLS handshake came about ({error})") });
            }
            Err(_) => {
                let why = format!("its TLS handshake took longer than {} s", limit.as_secs_f64());
                return Err(Refused { reason: "tls_timeout", why });
            }
        };
        let (_, session) = stream.get_ref();
        if let Some(leaf) = session.peer_certificates().and_then(<[_]>::first) {
            let certificate = peer::certificate(leaf)
                .map_err(|error| Refused { reason: "tls", why: format!("it showed {error}") })?;
            terms.peer.certificate = Some(Arc::new(certificate));
        }
        Ok(Connection::tls(stream, terms))
    }
}

/// Closes a connection so that its client can read why: with bytes of it unread it would be reset, and what we said would be
/// lost on the way.
async fn part_from(mut stream: TcpStream) {
    let read_on = async {
        stream.shutdown().await?;
        let (mut scrap, mut read) = ([0; 1024], 0);
        while read < PARTING_MAX_BYTES {
            match stream.read(&mut scrap).await? {
                0 => break,
                bytes => read += bytes,
            }
        }
        io::Result::Ok(())
    };
    // The client may be gone, or stay for too long; both are the end.
    tokio::time::timeout(PARTING_TIMEOUT, read_on).await.ok();
}

/// Why a handshake gave no connection.
struct Refused {
    reason: &'static str,
    why: String,
}

/// The connections that are not ready yet. One more than there may be ends the oldest: a good client needs milliseconds, so
/// that only those are hit who stall.
#[derive(Default)]
struct Greetings {
    tasks: JoinSet<()>,
    by_age: VecDeque<AbortHandle>,
}

impl Greetings {
    /// Resolves when one has ended; never while there is none.
    async fn one_ends(&mut self) {
        match self.tasks.join_next().await {
            Some(Err(error)) if error.is_panic() => tracing::error!(%error, "a handshake failed by a fault of ours"),
            Some(_) => {}
            None => std::future::pending().await,
        }
        while self.by_age.front().is_some_and(AbortHandle::is_finished) {
            self.by_age.pop_front();
        }
    }

    /// Ends the oldest where there are as many as there may be. Says whether it did.
    fn make_room(&mut self, most: usize) -> bool {
        // Those that ended behind an older one.
        if self.by_age.len() >= most {
            self.by_age.retain(|greeting| !greeting.is_finished());
        }
        let oldest = if self.by_age.len() >= most { self.by_age.pop_front() } else { None };
        oldest.inspect(AbortHandle::abort).is_some()
    }

    fn add(&mut self, greeting: impl Future<Output = ()> + Send + 'static) {
        self.by_age.push_back(self.tasks.spawn(greeting));
    }
}

/// Whether an error is of the connection that was to be accepted, and says nothing of the next.
fn is_of_one_connection(error: &io::Error) -> bool {
    use io::ErrorKind as Kind;
    matches!(
        error.kind(),
        Kind::ConnectionAborted | Kind::ConnectionReset | Kind::BrokenPipe | Kind::Interrupted | Kind::TimedOut
    )
}

/// The wait after so many failures in a row.
fn pause(failures: u32) -> Duration {
    ACCEPT_BACKOFF.saturating_mul(1 << failures.min(16)).min(ACCEPT_BACKOFF_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_file_handles_it_waits_longer_each_time() {
        assert_eq!([0, 1, 60].map(pause), [ACCEPT_BACKOFF, ACCEPT_BACKOFF * 2, ACCEPT_BACKOFF_MAX]);
        assert!(!is_of_one_connection(&io::Error::from_raw_os_error(24)), "EMFILE");
        assert!(is_of_one_connection(&io::Error::from(io::ErrorKind::ConnectionAborted)));
    }

    #[tokio::test]
    async fn one_greeting_too_many_ends_the_oldest_that_is_not_done() {
        let mut greetings = Greetings::default();
        let (done, mut ends) = mpsc::unbounded_channel();
        struct Ends(u32, mpsc::UnboundedSender<u32>);
        impl Drop for Ends {
            fn drop(&mut self) {
                self.1.send(self.0).unwrap();
            }
        }
        for number in 0..3 {
            let ends = Ends(number, done.clone());
            greetings.add(async move {
                // The first is done at once; the others stall.
                if number > 0 {
                    std::future::pending::<()>().await;
                }
                drop(ends);
            });
        }
        assert_eq!(ends.recv().await, Some(0));
        greetings.one_ends().await;
        assert!(!greetings.make_room(3), "two of three are under way");
        assert!(greetings.make_room(2));
        assert_eq!(ends.recv().await, Some(1), "the oldest");
    }
}
