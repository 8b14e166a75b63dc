//! How a client reaches its gateway: over TLS or not, with which certificate and token.
//!
//! Everything is read and checked when the client is made, so that a wrong file is an error there and not at the first call.
//! Caller: whoever needs more than [`connect`](super::connect).

use std::net::IpAddr;
use std::path::{Path, PathBuf};

use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use tonic::transport::{Certificate, ClientTlsConfig, Endpoint, Identity};

use super::channel::Client;
use super::error::ClientError;
use super::token::{Bearer, Token};
use crate::limits::{CLIENT_CONNECT_TIMEOUT, KEEPALIVE_INTERVAL, KEEPALIVE_TIMEOUT};

/// How a gateway is reached.
///
/// ```no_run
/// # fn main() -> Result<(), forebay::client::ClientError> {
/// use forebay::client::{ConnectOptions, Token};
///
/// let client = ConnectOptions::new("https://forebay.ml.svc:50051")
///     .ca("/etc/forebay/ca.pem")
///     .token(Token::file("/var/run/secrets/tokens/forebay"))
///     .connect()?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct ConnectOptions {
    endpoint: String,
    ca: Option<PathBuf>,
    identity: Option<(PathBuf, PathBuf)>,
    server_name: Option<String>,
    token: Option<Token>,
    allow_plaintext_token: bool,
}

impl ConnectOptions {
    /// For an endpoint such as `https://forebay.example.com:50051` or `http://127.0.0.1:50051`.
    pub fn new(endpoint: impl Into<String>) -> Self {
        Self {
            endpoint: endpoint.into(),
            ca: None,
            identity: None,
            server_name: None,
            token: None,
            allow_plaintext_token: false,
        }
    }

    /// The authorities whose gateways are trusted (PEM). Default: the platform's.
    #[must_use]
    pub fn ca(mut self, file: impl Into<PathBuf>) -> Self {
        self.ca = Some(file.into());
        self
    }

    /// The client's own certificate with its chain, and its private key (PEM).
    #[must_use]
    pub fn client_certificate(mut self, cert: impl Into<PathBuf>, key: impl Into<PathBuf>) -> Self {
        self.identity = Some((cert.into(), key.into()));
        self
    }

    /// The name that the gateway's certificate must have. Default: the endpoint's host.
    #[must_use]
    pub fn server_name(mut self, name: impl Into<String>) -> Self {
        self.server_name = Some(name.into());
        self
    }

    /// A token for each call: an API key or a JWT.
    #[must_use]
    pub fn token(mut self, token: Token) -> Self {
        self.token = Some(token);
        self
    }

    /// Sends the token without TLS to hosts other than this one, too: where something else keeps others from reading it.
    #[must_use]
    pub fn allow_plaintext_token(mut self, allow: bool) -> Self {
        self.allow_plaintext_token = allow;
        self
    }

    /// Makes the client. Nothing is sent yet: the connection is made by the first call and made again whenever it breaks.
    /// Needs a Tokio runtime.
    ///
    /// # Errors
    ///
    /// [`ClientError::BadEndpoint`] where the text is no URL with a host; [`ClientError::BadOption`] where a file cannot be
    /// used, or a token would be sent in the clear.
    pub fn connect(self) -> Result<Client, ClientError> {
        let bad =
            |message: &str| ClientError::BadEndpoint { endpoint: self.endpoint.clone(), message: message.to_owned() };
        let endpoint = Endpoint::from_shared(self.endpoint.clone()).map_err(|_| bad("not a URL"))?;
        let has_tls = match endpoint.uri().scheme_str() {
            Some("http") => false,
            Some("https") => true,
            Some(_) => return Err(bad("the scheme must be https or http")),
            None => return Err(bad("the scheme is missing")),
        };
        let host = endpoint.uri().host().unwrap_or_default().trim_matches(['[', ']']).to_owned();
        if host.is_empty() {
            return Err(bad("the host is missing"));
        }
        let endpoint = endpoint
            .connect_timeout(CLIENT_CONNECT_TIMEOUT)
            .tcp_nodelay(true)
            .http2_keep_alive_interval(KEEPALIVE_INTERVAL)
            .keep_alive_timeout(KEEPALIVE_TIMEOUT)
            .user_agent(concat!("forebay/", env!("CARGO_PKG_VERSION")))
            .map_err(|_| bad("not a URL"))?;
        let endpoint = match has_tls {
            true => self.with_tls(endpoint, host)?,
            false => {
                self.refuse_in_the_clear(&host)?;
                endpoint
            }
        };
        let bearer = self.token.map(Bearer::try_new).transpose()?;
        Ok(Client::new(endpoint, self.endpoint, bearer))
    }

    fn with_tls(&self, endpoint: Endpoint, host: String) -> Result<Endpoint, ClientError> {
        let name = self.server_name.clone().unwrap_or(host);
        let mut tls = ClientTlsConfig::new().domain_name(name).timeout(CLIENT_CONNECT_TIMEOUT);
        tls = match &self.ca {
            Some(path) => {
                let pem = read(path)?;
                check_certificates(path, &pem)?;
                tls.ca_certificate(Certificate::from_pem(pem))
            }
            None => tls.with_native_roots(),
        };
        if let Some((cert, key)) = &self.identity {
            let (cert_pem, key_pem) = (read(cert)?, read(key)?);
            check_certificates(cert, &cert_pem)?;
            PrivateKeyDer::from_pem_slice(&key_pem)
                .map_err(|_| file(key, "holds no private key; expected an unencrypted one, as PEM"))?;
            tls = tls.identity(Identity::from_pem(cert_pem, key_pem));
        }
        endpoint.tls_config(tls).map_err(|error| {
            let message = format!("cannot be set up: {}", crate::cause::innermost(&error));
            ClientError::BadOption { what: "TLS".to_owned(), message }
        })
    }

    /// What belongs to TLS is an error without it: a certificate that is not used protects nobody.
    fn refuse_in_the_clear(&self, host: &str) -> Result<(), ClientError> {
        let refused = |what: &str, message: &str| {
            Err(ClientError::BadOption { what: what.to_owned(), message: message.to_owned() })
        };
        if self.ca.is_some() || self.identity.is_some() || self.server_name.is_some() {
            let message = "certificates are of no use to an endpoint that begins with http://; expected https://";
            return refused("TLS", message);
        }
        if self.token.is_some() && !self.allow_plaintext_token && !is_loopback(host) {
            let message = "it would be sent in the clear, since the endpoint begins with http://; expected https://, or that \
                           it is allowed";
            return refused("token", message);
        }
        Ok(())
    }
}

fn is_loopback(host: &str) -> bool {
    match host.parse::<IpAddr>() {
        Ok(address) => address.to_canonical().is_loopback(),
        Err(_) => host.eq_ignore_ascii_case("localhost"),
    }
}

fn read(path: &Path) -> Result<Vec<u8>, ClientError> {
    std::fs::read(path).map_err(|error| file(path, &format!("cannot be read ({error})")))
}

fn check_certificates(path: &Path, pem: &[u8]) -> Result<(), ClientError> {
    match CertificateDer::pem_slice_iter(pem).collect::<Result<Vec<_>, _>>() {
        Ok(certificates) if !certificates.is_empty() => Ok(()),
        _ => Err(file(path, "holds no certificate; expected PEM (BEGIN CERTIFICATE)")),
    }
}

fn file(path: &Path, message: &str) -> ClientError {
    ClientError::BadOption { what: path.display().to_string(), message: message.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_token_is_not_sent_in_the_clear_but_to_this_host_or_when_told() {
        let with_token = |endpoint: &str| ConnectOptions::new(endpoint).token(Token::fixed("fb_a_secret"));
        for here in ["http://127.0.0.1:1", "http://[::1]:1", "http://localhost:1", "http://[::ffff:127.0.0.1]:1"] {
            with_token(here).connect().unwrap();
        }
        for there in
            ["http://10.0.0.1:1", "http://forebay:1", "http://localhost.example.com:1", "http://127.0.0.1.nip.io:1"]
        {
            let error = with_token(there).connect().unwrap_err().to_string();
            assert!(error.starts_with("token: it would be sent in the clear"), "{there}: {error}");
            assert!(!error.contains("secret"), "{error}");
            with_token(there).allow_plaintext_token(true).connect().unwrap();
        }
    }

    #[tokio::test]
    async fn certificates_without_tls_and_files_that_cannot_be_used_are_named() {
        let error = ConnectOptions::new("http://127.0.0.1:1").ca("ca.pem").connect().unwrap_err().to_string();
        assert!(error.contains("expected https://"), "{error}");
        let folder = tempfile::tempdir().unwrap();
        let empty = folder.path().join("empty.pem");
        std::fs::write(&empty, "").unwrap();
        let missing = folder.path().join("missing.pem");
        for (path, wrong) in [(&empty, "holds no certificate"), (&missing, "cannot be read")] {
            let options = ConnectOptions::new("https://127.0.0.1:1");
            for options in [options.clone().ca(path), options.client_certificate(path, &empty)] {
                let error = options.connect().unwrap_err().to_string();
                assert!(error.contains(&path.display().to_string()) && error.contains(wrong), "{error}");
            }
        }
    }
}
