//! What holds at one moment: principals, keys, and the limits of tables.

use std::collections::HashMap;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::SystemTime;

use subtle::ConstantTimeEq as _;
use tokio::sync::watch;

use super::grants::{Glob, Grants};
use super::issuer::IssuerConfig;
use super::key::ShownKey;

/// A rate and how much of it may come at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Rate {
    /// So many a second.
    pub per_second: NonZeroU32,
    /// So many at once.
    pub burst: NonZeroU32,
}

/// How fast a principal may go; what is `None` is not limited.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Rows written.
    pub write_rows: Option<Rate>,
    /// KiB written, as they arrive.
    pub write_kib: Option<Rate>,
    /// Keys read.
    pub read_rows: Option<Rate>,
    /// Streams opened a second.
    pub stream_opens: Option<Rate>,
    /// Streams at once.
    pub streams: Option<NonZeroU32>,
    /// Its share where several wait for one table's limit, against the shares of the others.
    pub weight: NonZeroU32,
}

impl Default for Limits {
    fn default() -> Self {
        let weight = NonZeroU32::MIN;
        Self { write_rows: None, write_kib: None, read_rows: None, stream_opens: None, streams: None, weight }
    }
}

/// How fast a table may be written and read, by all principals together. Several patterns may name a table: the first counts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TableLimits {
    /// The tables; each has a limit of its own.
    pub tables: Glob,
    /// Rows written.
    pub write_rows: Option<Rate>,
    /// KiB written.
    pub write_kib: Option<Rate>,
    /// Keys read.
    pub read_rows: Option<Rate>,
}

/// Somebody who may do something.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Principal {
    /// Its name, as metrics, logs and quotas show it.
    pub name: Arc<str>,
    /// What it may do.
    pub grants: Grants,
    /// How fast.
    pub limits: Limits,
    /// Whether it may look at the status page.
    pub operator: bool,
}

/// An API key, as it is kept: its secret is not there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApiKey {
    /// What it is called, within the key and in logs.
    pub id: Arc<str>,
    /// SHA-256 of the whole key.
    pub sha256: [u8; 32],
    /// Whose it is.
    pub principal: Arc<str>,
    /// It is worth nothing from then on.
    pub expires_at: Option<SystemTime>,
}

/// Everything that holds at one moment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Policy {
    /// By name.
    pub principals: HashMap<Arc<str>, Arc<Principal>>,
    /// By id.
    pub api_keys: HashMap<Arc<str>, Arc<ApiKey>>,
    /// Issuers whose tokens are taken, each once.
    pub issuers: Vec<Arc<IssuerConfig>>,
    /// Subject alternative names of client certificates, as `kind:value` (`uri:spiffe://cluster/ns/ml/sa/fraud`,
    /// `dns:fraud.ml.svc`), and whose they are. The first that fits counts.
    pub certificates: Vec<(Arc<str>, Arc<str>)>,
    /// In order.
    pub table_limits: Vec<TableLimits>,
}

impl ApiKey {
    /// Whether its time is over.
    pub fn is_over(&self, now: SystemTime) -> bool {
        self.expires_at.is_some_and(|at| at <= now)
    }
}

impl Policy {
    /// A principal.
    pub fn principal(&self, name: &str) -> Option<&Arc<Principal>> {
        self.principals.get(name)
    }

    /// The key that is shown, if it is one. The comparison takes as long wherever the difference is, and an unknown id is
    /// compared, too; the ids themselves are no secret.
    pub fn api_key(&self, shown: ShownKey<'_>) -> Option<&Arc<ApiKey>> {
        const NOBODYS: [u8; 32] = [0; 32];
        let known = self.api_keys.get(shown.id());
        let kept = known.map_or(&NOBODYS, |key| &key.sha256);
        let is_same = bool::from(shown.sha256().ct_eq(kept));
        known.filter(|_| is_same)
    }

    /// Whose certificate has these names.
    pub fn certificate_principal(&self, names: &[Arc<str>]) -> Option<&Arc<str>> {
        self.certificates.iter().find(|(name, _)| names.contains(name)).map(|(_, principal)| principal)
    }

    /// An issuer whose tokens are taken.
    pub fn issuer(&self, name: &str) -> Option<&Arc<IssuerConfig>> {
        self.issuers.iter().find(|issuer| *issuer.issuer == *name)
    }

    /// The limits of a table, if there are any.
    pub fn limits_of_table(&self, table: &str) -> Option<&TableLimits> {
        self.table_limits.iter().find(|limits| limits.tables.matches(table))
    }
}

/// The policy in force, and the next ones.
pub type PolicyWatch = watch::Receiver<Arc<Policy>>;
