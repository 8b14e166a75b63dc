//! What can be said of connections: TLS and how many there may be.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::{Config, ConfigError, at_least};
use crate::edge::{ClientAuth, EdgeConfig, TlsFiles};
use crate::limits::{CONNECTIONS_PER_MIB, RESERVED_OPEN_FILES};

/// TLS, as it is written. Files are named, never quoted.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TlsConfig {
    /// The certificate and its chain, PEM.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cert: Option<PathBuf>,
    /// Its private key, PEM.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key: Option<PathBuf>,
    /// The authorities whose client certificates are taken, PEM.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client_ca: Option<PathBuf>,
    /// Whether clients show certificates: `off`, `optional` or `required`; `required` where there is a `client_ca`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client_auth: Option<ClientAuth>,
}

impl TlsConfig {
    /// This layer, and below it another.
    #[must_use]
    pub fn or(self, below: Self) -> Self {
        Self {
            cert: self.cert.or(below.cert),
            key: self.key.or(below.key),
            client_ca: self.client_ca.or(below.client_ca),
            client_auth: self.client_auth.or(below.client_auth),
        }
    }

    /// `None` where nothing is said.
    fn files(self) -> Result<Option<TlsFiles>, ConfigError> {
        let missing = |key, message: &str| Err(ConfigError { key, message: message.to_owned() });
        let client_auth = match (&self.client_ca, self.client_auth) {
            (None, Some(ClientAuth::Optional | ClientAuth::Required)) => {
                return missing(
                    "tls.client_ca",
                    "is missing; expected the file of the authorities, as client_auth asks for them",
                );
            }
            (Some(_), None) => ClientAuth::Required,
            (_, client_auth) => client_auth.unwrap_or_default(),
        };
        match (self.cert, self.key) {
            (Some(cert), Some(key)) => Ok(Some(TlsFiles { cert, key, client_ca: self.client_ca, client_auth })),
            (Some(_), None) => missing("tls.key", "is missing; expected the file of the certificate's private key"),
            (None, Some(_)) => missing("tls.cert", "is missing; expected the file of the key's certificate"),
            (None, None) if self.client_ca.is_some() => {
                missing("tls.cert", "is missing; expected the gateway's own certificate, as there is a client_ca")
            }
            (None, None) => Ok(None),
        }
    }
}

/// What a configuration with all its defaults says of the edge.
pub(super) fn settings(config: &Config) -> Result<EdgeConfig, ConfigError> {
    let max_connections = at_least("max_connections", config.max_connections, 1)?;
    let per_address = config.max_connections_per_address;
    let per_address = per_address.map(|n| at_least("max_connections_per_address", Some(n), 1)).transpose()?;
    Ok(EdgeConfig {
        tls: config.tls.clone().unwrap_or_default().files()?,
        max_connections_per_address: per_address,
        ..EdgeConfig::new(max_connections)
    })
}

/// As many as memory and file handles allow.
pub(super) fn default_max_connections(memory_mib: usize) -> usize {
    let by_memory = memory_mib.saturating_mul(CONNECTIONS_PER_MIB);
    // "Max open files            1024                 524288               files": the soft limit counts.
    let limits = std::fs::read_to_string("/proc/self/limits").unwrap_or_default();
    let files =
        limits.lines().find_map(|line| line.strip_prefix("Max open files")?.split_whitespace().next()?.parse().ok());
    by_files(files).map_or(by_memory, |by_files| by_memory.min(by_files))
}

/// Where files are few, half of them.
fn by_files(files: Option<usize>) -> Option<usize> {
    files.map(|files| files.saturating_sub(RESERVED_OPEN_FILES).max(files / 2).max(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tls(keys: [bool; 3], client_auth: Option<ClientAuth>) -> Result<Option<TlsFiles>, &'static str> {
        let [cert, key, client_ca] = keys.map(|there| there.then(|| PathBuf::from("x.pem")));
        TlsConfig { cert, key, client_ca, client_auth }.files().map_err(|error| error.key)
    }

    #[test]
    fn tls_is_all_there_or_the_missing_key_is_named() {
        assert_eq!(tls([false, false, false], None), Ok(None));
        assert_eq!(tls([true, false, false], None), Err("tls.key"));
        assert_eq!(tls([false, true, false], None), Err("tls.cert"));
        assert_eq!(tls([false, false, true], None), Err("tls.cert"));
        assert_eq!(tls([true, true, false], Some(ClientAuth::Required)), Err("tls.client_ca"));
        assert_eq!(tls([false, false, false], Some(ClientAuth::Optional)), Err("tls.client_ca"));
    }

    #[test]
    fn an_authority_for_clients_means_that_they_need_certificates() {
        let auth = |client_ca, said| tls([true, true, client_ca], said).unwrap().unwrap().client_auth;
        assert_eq!(auth(false, None), ClientAuth::Off);
        assert_eq!(auth(true, None), ClientAuth::Required);
        assert_eq!(auth(true, Some(ClientAuth::Optional)), ClientAuth::Optional);
        assert_eq!(auth(true, Some(ClientAuth::Off)), ClientAuth::Off);
    }

    #[test]
    fn connections_leave_file_handles_to_others() {
        assert_eq!(by_files(Some(65_536)), Some(65_536 - RESERVED_OPEN_FILES));
        assert_eq!(by_files(Some(256)), Some(128));
        assert_eq!(by_files(None), None, "unlimited, or not to be known");
        assert!(default_max_connections(64) >= 1);
    }
}
