//! The catalog: which tables there are, and what they look like.
//!
//! Definitions live in a control table in DynamoDB, which is the only truth; every pod keeps a cache. [`Catalog::get`] is
//! what sessions and reads call: from the cache, without a lock. [`Catalog::apply`] and [`Catalog::drop_table`] are for
//! operators; both may die at any point, and doing them again finishes what was begun (see `record`).
//! [`Catalog::add_columns`] is for sessions that may change the schema, [`Catalog::claim_epoch`] for those that fence older
//! runs of themselves. [`shards`] is about hot partition keys.
//!
//! Invariants: a cached version is never replaced by an older one; a table that is not there is remembered for
//! [`NEGATIVE_TTL`] at most, so that a table made through another pod can be used at once.

mod add_columns;
mod apply;
mod cache;
mod epochs;
mod error;
mod record;
pub mod shards;
mod support;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt as _;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

pub use apply::{ApplyOutcome, ApplyResult};
pub use epochs::EpochClaim;
pub use error::CatalogError;
pub use shards::{ShardConfig, ShardMap};

use crate::schema::TableDef;
use crate::store::Store;
use cache::Cache;
use record::{Record, State};

/// How long a table that does not exist is remembered as such.
pub const NEGATIVE_TTL: Duration = Duration::from_secs(1);
/// Tables that are read at once while refreshing.
const REFRESH_CONCURRENCY: usize = 8;

/// How the catalog is kept.
#[derive(Debug, Clone)]
pub struct CatalogConfig {
    /// The control table is called so, followed by `catalog`.
    pub control_table_prefix: String,
    /// DynamoDB tables that a definition does not name are called so, followed by the table's name.
    pub table_prefix: String,
    /// How often cached definitions are read again.
    pub refresh_interval: Duration,
    /// How the shard map is kept.
    pub shards: ShardConfig,
}

impl Default for CatalogConfig {
    fn default() -> Self {
        Self {
            control_table_prefix: "forebay-".to_owned(),
            table_prefix: String::new(),
            refresh_interval: Duration::from_secs(10),
            shards: ShardConfig::default(),
        }
    }
}

/// One version of a table's definition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TableVersion {
    /// The definition.
    pub def: TableDef,
    /// The schema's version, from 1. No number comes twice under one name, even after a drop.
    pub version: u64,
    /// When it was stored, in milliseconds since 1970.
    pub applied_at_ms: u64,
    /// The DynamoDB table.
    pub dynamodb_table: Arc<str>,
}

/// The catalog. Clones share everything.
#[derive(Clone)]
pub struct Catalog {
    inner: Arc<Inner>,
}

struct Inner {
    store: Arc<dyn Store>,
    control_table: String,
    table_prefix: String,
    refresh_interval: Duration,
    cache: Cache,
    epochs: epochs::Watched,
    shards: ShardMap,
}

impl std::fmt::Debug for Catalog {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Catalog").field("control_table", &self.inner.control_table).finish_non_exhaustive()
    }
}

impl Catalog {
    /// Opens the catalog, creating its control table where there is none.
    pub async fn open(store: Arc<dyn Store>, config: CatalogConfig) -> Result<Self, CatalogError> {
        let control_table = format!("{}catalog", config.control_table_prefix);
        store.ensure_control_table(&control_table).await?;
        let shards_table = format!("{}shards", config.control_table_prefix);
        let inner = Inner {
            shards: ShardMap::new(Arc::clone(&store), shards_table, config.shards),
            store,
            control_table,
            table_prefix: config.table_prefix,
            refresh_interval: config.refresh_interval,
            cache: Cache::default(),
            epochs: epochs::Watched::default(),
        };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// The DynamoDB table of a table whose definition does not name one.
    pub fn default_dynamodb_table(&self, name: &str) -> String {
        format!("{}{name}", self.inner.table_prefix)
    }

    /// The shard map.
    pub fn shards(&self) -> &ShardMap {
        &self.inner.shards
    }

    /// The newest version of a table; [`CatalogError::NotFound`] where there is none.
    ///
    /// From the cache while it is fresh. When DynamoDB cannot be asked, a version that was known stays in use.
    pub async fn get(&self, name: &str) -> Result<Arc<TableVersion>, CatalogError> {
        let not_found = || CatalogError::NotFound { name: name.to_owned() };
        // Names that cannot exist cost nothing, so that probing for them neither fills the cache nor reaches DynamoDB.
        if !TableDef::name_is_valid(name) {
            return Err(not_found());
        }
        if let Some(known) = self.fresh(name) {
            return known.ok_or_else(not_found);
        }
        let _one_at_a_time = self.inner.cache.loading(name).lock().await;
        if let Some(known) = self.fresh(name) {
            return known.ok_or_else(not_found);
        }
        match self.reload(name).await {
            Ok(found) => found.ok_or_else(not_found),
            Err(error) => match self.inner.cache.peek(name) {
                Some(stale) => {
                    tracing::warn!(table = name, %error, "using the cached definition: the control table cannot be read");
                    Ok(stale)
                }
                None => Err(error),
            },
        }
    }

    /// The version that is cached, without asking DynamoDB.
    pub fn peek(&self, name: &str) -> Option<Arc<TableVersion>> {
        self.inner.cache.peek(name)
    }

    /// A number that grows whenever a cached table changes: a session that waits for it compares its version by
    /// [`peek`](Self::peek) then.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.inner.cache.changes()
    }

    /// One version of a table; 0 means the newest.
    pub async fn get_version(&self, name: &str, version: u64) -> Result<Arc<TableVersion>, CatalogError> {
        let newest = self.get(name).await?;
        if version == 0 || version == newest.version {
            return Ok(newest);
        }
        let missing = || CatalogError::VersionNotFound { name: name.to_owned(), version, newest: newest.version };
        if version > newest.version {
            return Err(missing());
        }
        // Every version has a record of its own, but not every record is a version: walk back from the newest.
        let Some(latest) = self.latest(name).await? else { return Err(missing()) };
        for sk in (1..latest.sk).rev() {
            let Some(record) = self.inner.store.get_record(&self.inner.control_table, name, Some(sk)).await? else {
                continue;
            };
            let record = Record::read(&record)?;
            if record.envelope.schema_version < version {
                break;
            }
            match record.usable() {
                Some(found) if found.version == version => return Ok(found),
                _ => {}
            }
        }
        Err(missing())
    }

    /// All tables by name, read from the control table.
    pub async fn list(&self) -> Result<Vec<Arc<TableVersion>>, CatalogError> {
        let newest = self.newest_records().await?;
        let mut tables: Vec<_> = newest.values().filter_map(Record::usable).collect();
        tables.sort_by(|a, b| a.def.name.cmp(&b.def.name));
        Ok(tables)
    }

    /// Reads all cached tables again.
    pub async fn refresh(&self) -> Result<(), CatalogError> {
        let names = self.inner.cache.names();
        let mut reads = futures_util::stream::iter(names)
            .map(|name| async move { self.reload(&name).await.map(drop) })
            .buffer_unordered(REFRESH_CONCURRENCY);
        let mut result = Ok(());
        while let Some(read) = reads.next().await {
            // One table that cannot be read must not keep the others old.
            result = result.and(read);
        }
        result
    }

    /// Refreshes until cancelled. Run it as a task.
    pub async fn refresh_loop(self, stop: CancellationToken) {
        let mut ticks = tokio::time::interval(self.inner.refresh_interval);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        ticks.tick().await;
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                _ = ticks.tick() => {}
            }
            if let Err(error) = self.refresh().await {
                tracing::warn!(%error, "cannot refresh the catalog; cached definitions stay in use");
            }
        }
    }

    /// What the cache knows for sure enough: `Some(None)` is a table that is not there.
    fn fresh(&self, name: &str) -> Option<Option<Arc<TableVersion>>> {
        // Twice the interval: while the refresh loop runs, no session waits for DynamoDB.
        self.inner.cache.fresh(name, self.inner.refresh_interval * 2)
    }

    async fn reload(&self, name: &str) -> Result<Option<Arc<TableVersion>>, CatalogError> {
        let latest = self.latest(name).await?;
        let (sk, found) = latest.map_or((0, None), |record| (record.sk, record.usable()));
        self.inner.cache.put(name, sk, found.clone());
        Ok(found)
    }

    /// The record that is the truth about a table.
    async fn latest(&self, name: &str) -> Result<Option<Record>, CatalogError> {
        let record = self.inner.store.get_record(&self.inner.control_table, name, None).await?;
        record.as_ref().map(Record::read).transpose()
    }

    /// The newest record of every table.
    async fn newest_records(&self) -> Result<HashMap<String, Record>, CatalogError> {
        let records = self.inner.store.scan_records(&self.inner.control_table).await?;
        let mut newest: HashMap<String, &crate::store::ControlRecord> = HashMap::new();
        for record in records.iter().filter(|record| !epochs::is_epoch(record)) {
            let known = newest.entry(record.pk.clone()).or_insert(record);
            if record.sk > known.sk {
                *known = record;
            }
        }
        newest.into_iter().map(|(name, record)| Ok((name, Record::read(record)?))).collect()
    }

    /// Appends a record; [`ControlError::Conflict`](crate::store::ControlError::Conflict) where its number is taken.
    async fn append(
        &self,
        name: &str,
        sk: u64,
        state: State,
        version: u64,
        definition: Option<TableDef>,
    ) -> Result<Record, CatalogError> {
        let envelope = record::Envelope { state, schema_version: version, definition, applied_at_ms: now_ms() };
        let record = Record { sk, envelope };
        self.inner.store.put_record(&self.inner.control_table, record.write(name)?, true).await?;
        self.inner.cache.put(name, sk, record.usable());
        Ok(record)
    }
}

fn now_ms() -> u64 {
    let since_epoch = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    since_epoch.as_millis().try_into().unwrap_or(u64::MAX)
}
