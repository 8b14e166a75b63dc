//! The embedded store: a DynamoDB emulator on SQLite, inside the process, on a loopback port.
//!
//! The ordinary [`DynamoDb`](super::dynamodb::DynamoDb) talks to it over HTTP, so that without an AWS account the same code
//! runs as in production. It executes SQLite synchronously, one request at a time, and therefore has a thread and a runtime
//! of its own. In a folder, a row that was acked survives both a clean stop and a killed process: every request is
//! answered after its commit, the journal is a write-ahead log, and SQLite's default `synchronous=FULL` stays (the log is
//! synced at each commit, so the same should hold for a power cut as far as the disk keeps its word).
//!
//! Callers: `server` and `cli::demo`, and the tests.

use std::fs::{File, TryLockError};
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::thread::JoinHandle;

use dynoxide::Database;
use tokio::sync::oneshot;

use super::StoreConfig;
use crate::limits::EMBEDDED_STOP_TIMEOUT;

/// The database's name inside a folder.
const DATABASE_FILE: &str = "forebay.db";
/// The lock's name inside a folder.
const LOCK_FILE: &str = "forebay.lock";

/// Why the embedded store did not start.
#[derive(Debug, thiserror::Error)]
pub enum EmbeddedError {
    /// The folder cannot be made or written to.
    #[error("the folder `{}` cannot be used for the embedded store: {source}", path.display())]
    Folder {
        /// The folder.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Another process has the folder open.
    #[error("the embedded store in `{}` is in use by another process", path.display())]
    InUse {
        /// The folder.
        path: PathBuf,
    },
    /// The database cannot be opened.
    #[error("the embedded store's database {place} cannot be opened: {message}")]
    Database {
        /// Where it is.
        place: String,
        /// The emulator's words.
        message: String,
    },
    /// There is no loopback port or thread for it.
    #[error("the embedded store cannot start: {source}")]
    Start {
        /// Why.
        source: io::Error,
    },
}

/// A running embedded store. Dropping it stops it and waits until its files are closed.
#[derive(Debug)]
pub struct Embedded {
    address: SocketAddr,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Embedded {
    /// Starts the store in a folder (made where it is missing), or in memory.
    pub fn start(folder: Option<&Path>) -> Result<Self, EmbeddedError> {
        let start_error = |source| EmbeddedError::Start { source };
        let (database, lock) = match folder {
            None => (open(":memory:", Database::memory())?, None),
            Some(folder) => {
                let lock = lock(folder)?;
                let file = folder.join(DATABASE_FILE);
                let Some(path) = file.to_str() else {
                    let source = io::Error::new(io::ErrorKind::InvalidInput, "the path is not UTF-8");
                    return Err(EmbeddedError::Folder { path: folder.to_owned(), source });
                };
                (open(path, Database::new(path))?, Some(lock))
            }
        };
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).map_err(start_error)?;
        listener.set_nonblocking(true).map_err(start_error)?;
        let address = listener.local_addr().map_err(start_error)?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(start_error)?;
        let (stop, stopped) = oneshot::channel();
        let thread = std::thread::Builder::new()
            .name("forebay-embedded".to_owned())
            .spawn(move || {
                if let Err(message) = runtime.block_on(serve(listener, database, stopped)) {
                    tracing::error!(%message, "the embedded store failed");
                }
                // What is left (a request that never ends) goes with the runtime, and with it the last handle to the
                // database; only then may another process have the folder.
                drop(runtime);
                drop(lock);
            })
            .map_err(start_error)?;
        Ok(Self { address, stop: Some(stop), thread: Some(thread) })
    }

    /// Where it listens.
    pub fn endpoint_url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// How to reach it: any region and any credentials will do.
    pub fn store_config(&self) -> StoreConfig {
        StoreConfig {
            endpoint_url: Some(self.endpoint_url()),
            region: Some("us-east-1".to_owned()),
            static_credentials: Some(("embedded".to_owned(), "embedded".to_owned())),
            ..StoreConfig::default()
        }
    }
}

impl Drop for Embedded {
    fn drop(&mut self) {
        // Dropping the sender is the signal.
        self.stop = None;
        if let Some(Err(_)) = self.thread.take().map(JoinHandle::join) {
            tracing::error!("the embedded store's thread panicked");
        }
    }
}

async fn serve(listener: TcpListener, database: Database, stopped: oneshot::Receiver<()>) -> Result<(), String> {
    let listener = tokio::net::TcpListener::from_std(listener).map_err(|error| error.to_string())?;
    let (draining, drained) = oneshot::channel();
    let shutdown = async move {
        // An error is the sender's drop: it is the signal itself.
        stopped.await.unwrap_or(());
        draining.send(()).unwrap_or(());
    };
    let server = dynoxide::server::serve_with_shutdown(listener, database, shutdown);
    let too_late = async move {
        drained.await.unwrap_or(());
        tokio::time::sleep(EMBEDDED_STOP_TIMEOUT).await;
    };
    tokio::select! {
        served = server => served,
        () = too_late => Ok(()),
    }
}

fn open<E: std::fmt::Display>(path: &str, opened: Result<Database, E>) -> Result<Database, EmbeddedError> {
    opened.map_err(|error| EmbeddedError::Database { place: format!("`{path}`"), message: error.to_string() })
}

/// Takes the folder for this process. The lock goes with the file handle, so also with a killed process.
fn lock(folder: &Path) -> Result<File, EmbeddedError> {
    let unusable = |source| EmbeddedError::Folder { path: folder.to_owned(), source };
    std::fs::create_dir_all(folder).map_err(unusable)?;
    let file =
        File::options().create(true).truncate(false).write(true).open(folder.join(LOCK_FILE)).map_err(unusable)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(EmbeddedError::InUse { path: folder.to_owned() }),
        Err(TryLockError::Error(source)) => Err(unusable(source)),
    }
}
