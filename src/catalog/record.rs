//! The control table's records: one append-only log for each table.
//!
//! A record's partition key is the table's name and its sort key a number that grows by 1; the record with the greatest
//! number is the truth. Records are never changed: a new one is put only if its number is free, which makes the put a
//! compare-and-set. The states between `Active` and nothing are there for crashes:
//!
//! ```text
//! (nothing) ──> Creating ──> Active ──> Active ... ──> Dropping ──> Dropped ──> Creating ...
//! (nothing) ──> Active (bound) ──> Dropped (unbound)
//! ```
//!
//! Whoever finds `Creating` or `Dropping` can finish the work, because the record says what was intended.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::{CatalogError, TableVersion};
use crate::schema::TableDef;
use crate::store::ControlRecord;

/// What a record says about its table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum State {
    /// The DynamoDB table is about to be created by us; the definition is what it shall be.
    Creating,
    /// The table can be used.
    Active,
    /// The DynamoDB table is about to be deleted.
    Dropping,
    /// There is no such table any more.
    Dropped,
}

/// A record's body.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Envelope {
    /// What this record says.
    pub(super) state: State,
    /// The schema's version; for a dropped table the last one, so that no version number comes twice.
    pub(super) schema_version: u64,
    /// The definition; `None` where dropped.
    pub(super) definition: Option<TableDef>,
    /// When the record was written, in milliseconds since 1970.
    pub(super) applied_at_ms: u64,
}

/// A record of one table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Record {
    /// Its number, from 1.
    pub(super) sk: u64,
    /// What it says.
    pub(super) envelope: Envelope,
}

impl Record {
    pub(super) fn read(record: &ControlRecord) -> Result<Self, CatalogError> {
        let damaged = |message: String| CatalogError::Damaged { name: record.pk.clone(), sk: record.sk, message };
        let envelope: Envelope = serde_json::from_str(&record.body).map_err(|error| damaged(error.to_string()))?;
        if envelope.definition.is_none() && envelope.state != State::Dropped {
            return Err(damaged("it has no definition".to_owned()));
        }
        Ok(Self { sk: record.sk, envelope })
    }

    pub(super) fn write(&self, name: &str) -> Result<ControlRecord, CatalogError> {
        let body = serde_json::to_string(&self.envelope).map_err(|error| CatalogError::Damaged {
            name: name.to_owned(),
            sk: self.sk,
            message: error.to_string(),
        })?;
        Ok(ControlRecord { pk: name.to_owned(), sk: self.sk, body })
    }

    /// The table version that this record makes usable, if it does.
    pub(super) fn usable(&self) -> Option<Arc<TableVersion>> {
        match &self.envelope {
            Envelope { state: State::Active, definition: Some(def), schema_version, applied_at_ms } => {
                Some(Arc::new(TableVersion {
                    dynamodb_table: def.dynamodb_table.as_str().into(),
                    def: def.clone(),
                    version: *schema_version,
                    applied_at_ms: *applied_at_ms,
                }))
            }
            _ => None,
        }
    }
}
