//! The gateway's certificate and whose clients' certificates it takes: from files to what a handshake needs.
//!
//! Everything is checked when it is loaded, so that a certificate that no client could use is found at the start and not by the
//! first client. The private key is in nothing that is printed: errors say the file, never what is in it. Callers: `server`
//! loads, `reload` loads again, `accept` shakes hands.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use sha2::{Digest as _, Sha256};
use tokio_rustls::rustls::crypto::{CryptoProvider, aws_lc_rs};
use tokio_rustls::rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use tokio_rustls::rustls::sign::{CertifiedKey, SingleCertAndKey};
use tokio_rustls::rustls::{self, RootCertStore, ServerConfig};

pub(super) mod peer;
pub(super) mod reload;

/// HTTP/2, the only protocol that is spoken.
const ALPN_HTTP2: &[u8] = b"h2";

/// Whether clients show certificates.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ClientAuth {
    /// They are not asked.
    #[default]
    Off,
    /// Who shows one must show a good one.
    Optional,
    /// Without one there is no connection.
    Required,
}

/// The files that TLS is made of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsFiles {
    /// The certificate and its chain, PEM.
    pub cert: PathBuf,
    /// Its private key, PEM.
    pub key: PathBuf,
    /// The authorities whose client certificates are taken, PEM.
    pub client_ca: Option<PathBuf>,
    /// Whether clients show certificates.
    pub client_auth: ClientAuth,
}

/// Why the files give no TLS.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file cannot be read.
    #[error("{key}: cannot read {path}: {source}; expected a PEM file", path = path.display())]
    Read {
        /// The configuration's key.
        key: &'static str,
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A file is not what it should be.
    #[error("{key}: {path} {wrong}; expected {expected}", path = path.display())]
    Content {
        /// The configuration's key.
        key: &'static str,
        /// The file.
        path: PathBuf,
        /// What is wrong.
        wrong: String,
        /// What was expected.
        expected: &'static str,
    },
    /// The key is another certificate's.
    #[error(
        "tls.key: {key} does not belong to the certificate in {cert}; expected the private key of the first certificate there",
        key = key.display(), cert = cert.display()
    )]
    Mismatch {
        /// The key's file.
        key: PathBuf,
        /// The certificate's file.
        cert: PathBuf,
    },
}

/// What the files gave.
#[derive(Clone)]
pub struct Loaded {
    /// For handshakes.
    pub(super) config: Arc<ServerConfig>,
    /// The certificate is worth nothing from then on.
    pub(super) expires_at: SystemTime,
    /// Of all files' contents.
    pub(super) digest: Content,
}

impl std::fmt::Debug for Loaded {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // The rest holds the private key.
        f.debug_struct("Loaded").field("expires_at", &self.expires_at).finish_non_exhaustive()
    }
}

/// What was in the files, as far as it can be compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Content([u8; 32]);

const CERT_KEY: &str = "tls.cert";
const KEY_KEY: &str = "tls.key";
const CA_KEY: &str = "tls.client_ca";
const CERT_EXPECTED: &str = "PEM with the certificate (BEGIN CERTIFICATE) first and its chain after it";
const KEY_EXPECTED: &str = "PEM with an unencrypted private key (BEGIN PRIVATE KEY, RSA PRIVATE KEY or EC PRIVATE KEY)";
const CA_EXPECTED: &str = "PEM with the certificates (BEGIN CERTIFICATE) of one or more authorities";

/// The files' bytes.
pub(super) struct Read {
    cert: Vec<u8>,
    key: Vec<u8>,
    client_ca: Option<Vec<u8>>,
}

impl Read {
    /// What they hold, for comparison.
    pub(super) fn digest(&self) -> Content {
        let mut hash = Sha256::new();
        for part in [Some(&self.cert), Some(&self.key), self.client_ca.as_ref()].into_iter().flatten() {
            hash.update((part.len() as u64).to_be_bytes());
            hash.update(part);
        }
        Content(hash.finalize().into())
    }
}

impl TlsFiles {
    /// Reads and checks the files.
    ///
    /// # Errors
    ///
    /// What is wrong, with the configuration's key and the file.
    pub fn load(&self, now: SystemTime) -> Result<Loaded, TlsError> {
        self.check(&self.read()?, now)
    }

    pub(super) fn read(&self) -> Result<Read, TlsError> {
        let read = |key, path: &Path| {
            std::fs::read(path).map_err(|source| TlsError::Read { key, path: path.to_owned(), source })
        };
        Ok(Read {
            cert: read(CERT_KEY, &self.cert)?,
            key: read(KEY_KEY, &self.key)?,
            client_ca: self.client_ca.as_deref().map(|path| read(CA_KEY, path)).transpose()?,
        })
    }

    pub(super) fn check(&self, read: &Read, now: SystemTime) -> Result<Loaded, TlsError> {
        let bad_cert = |wrong: String| content(CERT_KEY, &self.cert, wrong, CERT_EXPECTED);
        let bad_key = |wrong: String| content(KEY_KEY, &self.key, wrong, KEY_EXPECTED);
        let chain = certificates(CERT_KEY, &self.cert, &read.cert, CERT_EXPECTED)?;
        let leaf = chain.first().ok_or_else(|| bad_cert("holds no certificate".to_owned()))?;
        let expires_at = peer::expires_at(leaf).map_err(|error| bad_cert(format!("holds {error}")))?;
        if expires_at <= now {
            let days = now.duration_since(expires_at).unwrap_or_default().as_secs() / DAY.as_secs();
            return Err(bad_cert(format!("holds a certificate that has expired {days} days ago")));
        }
        let private = PrivateKeyDer::from_pem_slice(&read.key).map_err(|error| match error {
            rustls_pki_types::pem::Error::NoItemsFound if is_encrypted(&read.key) => {
                bad_key("holds an encrypted private key".to_owned())
            }
            rustls_pki_types::pem::Error::NoItemsFound => bad_key("holds no private key".to_owned()),
            // Its words may quote the file.
            _ => bad_key("is no well-formed PEM".to_owned()),
        })?;
        let provider = Arc::new(aws_lc_rs::default_provider());
        let signer = provider
            .key_provider
            .load_private_key(private)
            .map_err(|_| bad_key("holds a private key of a kind that is not supported".to_owned()))?;
        let certified = CertifiedKey::new(chain, signer);
        match certified.keys_match() {
            // Some kinds of keys do not say which public key is theirs.
            Ok(()) | Err(rustls::Error::InconsistentKeys(rustls::InconsistentKeys::Unknown)) => {}
            Err(rustls::Error::InconsistentKeys(_)) => {
                return Err(TlsError::Mismatch { key: self.key.clone(), cert: self.cert.clone() });
            }
            Err(error) => return Err(bad_cert(format!("holds a certificate that cannot be used ({error})"))),
        }
        let config = self.server_config(certified, read, &provider)?;
        Ok(Loaded { config: Arc::new(config), expires_at, digest: read.digest() })
    }

    fn server_config(
        &self,
        certified: CertifiedKey,
        read: &Read,
        provider: &Arc<CryptoProvider>,
    ) -> Result<ServerConfig, TlsError> {
        let bad_cert = |error: rustls::Error| content(CERT_KEY, &self.cert, error.to_string(), CERT_EXPECTED);
        // TLS 1.2 and 1.3.
        let builder = ServerConfig::builder_with_provider(Arc::clone(provider))
            .with_safe_default_protocol_versions()
            .map_err(bad_cert)?;
        let verifier = match (&self.client_ca, &read.client_ca) {
            (Some(path), Some(pem)) if self.client_auth != ClientAuth::Off => {
                let bad = |wrong: String| content(CA_KEY, path, wrong, CA_EXPECTED);
                let mut roots = RootCertStore::empty();
                for authority in certificates(CA_KEY, path, pem, CA_EXPECTED)? {
                    let unusable = |error| bad(format!("holds a certificate that cannot be used ({error})"));
                    roots.add(authority).map_err(unusable)?;
                }
                let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(provider));
                let verifier = match self.client_auth {
                    ClientAuth::Optional => verifier.allow_unauthenticated(),
                    ClientAuth::Required | ClientAuth::Off => verifier,
                };
                Some(verifier.build().map_err(|error| bad(format!("gives no authority ({error})")))?)
            }
            _ => None,
        };
        let builder = match verifier {
            Some(verifier) => builder.with_client_cert_verifier(verifier),
            None => builder.with_no_client_auth(),
        };
        let mut config = builder.with_cert_resolver(Arc::new(SingleCertAndKey::from(certified)));
        config.alpn_protocols = vec![ALPN_HTTP2.to_vec()];
        if self.client_auth != ClientAuth::Off {
            // A resumed session would bring a certificate that was checked by rules that may not hold any more.
            config.session_storage = Arc::new(NoServerSessionStorage {});
            config.send_tls13_tickets = 0;
        }
        Ok(config)
    }
}

const DAY: Duration = Duration::from_secs(24 * 3600);

fn content(key: &'static str, path: &Path, wrong: String, expected: &'static str) -> TlsError {
    TlsError::Content { key, path: path.to_owned(), wrong, expected }
}

fn certificates(
    key: &'static str,
    path: &Path,
    pem: &[u8],
    expected: &'static str,
) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    let certificates = certificates.map_err(|_| content(key, path, "is no well-formed PEM".to_owned(), expected))?;
    if certificates.is_empty() {
        return Err(content(key, path, "holds no certificate".to_owned(), expected));
    }
    Ok(certificates)
}

fn is_encrypted(pem: &[u8]) -> bool {
    String::from_utf8_lossy(pem).contains("ENCRYPTED")
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
