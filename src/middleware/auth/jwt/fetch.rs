//! Getting an issuer's keys: one GET, or one file. What comes is bounded in size and time; a redirect is not followed, because
//! it would lead to whom nobody has configured.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use http::header::{ACCEPT, USER_AGENT};
use http::{Request, StatusCode, Uri};
use http_body_util::{BodyExt as _, Empty, LengthLimitError, Limited};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use rustls::{ClientConfig, RootCertStore};
use tokio::sync::OnceCell;

use crate::access::JwksSource;
use crate::cause;
use crate::limits::{JWKS_FETCH_TIMEOUT, JWKS_MAX_BYTES};

/// Why keys did not come.
#[derive(Debug, thiserror::Error)]
pub(super) enum FetchError {
    #[error("cannot read {path}: {source}", path = path.display())]
    File { path: PathBuf, source: std::io::Error },
    #[error("the trust roots of this machine cannot be read: {0}")]
    Roots(std::io::Error),
    #[error("{0}")]
    Http(String),
    #[error("the answer is {0}, not 200 OK; redirects are not followed")]
    Status(StatusCode),
    #[error("no whole answer within {} s", JWKS_FETCH_TIMEOUT.as_secs_f64())]
    TimedOut,
    #[error("there is more than {JWKS_MAX_BYTES} bytes of it")]
    TooLarge,
    #[error("the reading task failed")]
    Interrupted,
}

type HttpClient = Client<HttpsConnector<HttpConnector>, Empty<Bytes>>;

/// Fetches from one place.
#[derive(Debug)]
pub(super) struct Fetcher {
    source: JwksSource,
    /// Made by the first fetch from a URL: whoever has none needs no trust roots.
    client: OnceCell<HttpClient>,
}

impl Fetcher {
    pub(super) fn new(source: JwksSource) -> Self {
        Self { source, client: OnceCell::new() }
    }

    /// The text of the set, as it is now.
    pub(super) async fn fetch(&self) -> Result<Bytes, FetchError> {
        match &self.source {
            JwksSource::File(path) => {
                let path = path.clone();
                tokio::task::spawn_blocking(move || read(&path)).await.map_err(|_| FetchError::Interrupted)?
            }
            JwksSource::Url(url) => {
                let client = self.client.get_or_try_init(|| connector(url)).await?;
                match tokio::time::timeout(JWKS_FETCH_TIMEOUT, get(client, url)).await {
                    Ok(fetched) => fetched,
                    Err(_elapsed) => Err(FetchError::TimedOut),
                }
            }
        }
    }
}

/// A file's bytes. For the start, and for a task that may wait.
pub(super) fn read(path: &Path) -> Result<Bytes, FetchError> {
    let failed = |source| FetchError::File { path: path.to_owned(), source };
    let length = std::fs::metadata(path).map_err(failed)?.len();
    if usize::try_from(length).map_or(true, |length| length > JWKS_MAX_BYTES) {
        return Err(FetchError::TooLarge);
    }
    std::fs::read(path).map(Bytes::from).map_err(failed)
}

async fn connector(url: &Uri) -> Result<HttpClient, FetchError> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = HttpsConnectorBuilder::new();
    let connector = if url.scheme_str() == Some("https") {
        // The roots are files.
        let trusting = tokio::task::spawn_blocking(move || builder.with_provider_and_native_roots(provider)).await;
        trusting.map_err(|_| FetchError::Interrupted)?.map_err(FetchError::Roots)?.https_only().enable_http1().build()
    } else {
        // On loopback, as the access file has it; nothing is trusted that nobody asks for.
        let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
        let config = config.map_err(|error| FetchError::Http(error.to_string()))?;
        let config = config.with_root_certificates(RootCertStore::empty()).with_no_client_auth();
        builder.with_tls_config(config).https_or_http().enable_http1().build()
    };
    // The next fetch is minutes away.
    Ok(Client::builder(TokioExecutor::new()).pool_max_idle_per_host(0).build(connector))
}

async fn get(client: &HttpClient, url: &Uri) -> Result<Bytes, FetchError> {
    let request = Request::get(url.clone())
        .header(ACCEPT, "application/json, application/jwk-set+json")
        .header(USER_AGENT, concat!("forebay/", env!("CARGO_PKG_VERSION")))
        .body(Empty::new())
        .map_err(|error| FetchError::Http(error.to_string()))?;
    let response = client.request(request).await.map_err(|error| FetchError::Http(cause::innermost(&error)))?;
    if response.status() != StatusCode::OK {
        return Err(FetchError::Status(response.status()));
    }
    match Limited::new(response.into_body(), JWKS_MAX_BYTES).collect().await {
        Ok(body) => Ok(body.to_bytes()),
        Err(error) if error.is::<LengthLimitError>() => Err(FetchError::TooLarge),
        Err(error) => Err(FetchError::Http(cause::innermost(&*error))),
    }
}
