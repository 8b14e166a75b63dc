//! Making, changing and dropping tables, in steps that can be taken up again after a crash.
//!
//! Before the DynamoDB table is created the catalog records `Creating`, and only afterwards `Active`; so whoever finds a
//! DynamoDB table with a `Creating` record knows that it is ours, and one without any record that it is not. `Dropping`
//! does the same for deletion.

use std::sync::Arc;
use std::time::Duration;

use super::record::{Record, State};
use super::{Catalog, CatalogError, TableVersion, now_ms, support};
use crate::schema::evolve::{Forbidden, Refusal, evolve};
use crate::schema::sharding::Sharding;
use crate::schema::table::KeyAttribute;
use crate::schema::types::SchemaError;
use crate::schema::{DynamoDbOptions, Ownership, TableDef};
use crate::store::{ControlError, TableDescription};

/// How often a change starts again because somebody else changed the same table.
pub(super) const ATTEMPTS: u32 = 8;
/// The pause before such a new start.
pub(super) const ATTEMPT_PAUSE: Duration = Duration::from_millis(50);

/// What [`Catalog::apply`] did, or would do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApplyOutcome {
    /// The table as it is now; in a dry run as it would be.
    pub version: Arc<TableVersion>,
    /// What happened.
    pub result: ApplyResult,
    /// The changes, a sentence each.
    pub changes: Vec<String>,
}

/// What [`Catalog::apply`] did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ApplyResult {
    /// The DynamoDB table was created.
    Created,
    /// An existing DynamoDB table was bound.
    Bound,
    /// A new version was stored.
    Evolved,
    /// Nothing changed.
    Unchanged,
}

enum Step {
    Done(ApplyOutcome),
    /// Something that was left half done is finished: look again.
    Again,
}

impl Catalog {
    /// Makes a table be as described: creates it, binds an existing DynamoDB table, or evolves it. The same definition
    /// twice changes nothing. An empty `dynamodb_table` means the prefix and the name; `ownership` is not looked at.
    pub async fn apply(&self, mut def: TableDef, dry_run: bool) -> Result<ApplyOutcome, CatalogError> {
        def.validate()?;
        support::check(&mut def)?;
        let mut created = false;
        for attempt in 0..ATTEMPTS {
            if attempt > 0 {
                tokio::time::sleep(ATTEMPT_PAUSE * fastrand::u32(1..=attempt)).await;
            }
            match self.apply_once(&def, dry_run, &mut created).await {
                Ok(Step::Done(outcome)) => return Ok(outcome),
                Ok(Step::Again) | Err(CatalogError::Store(ControlError::Conflict)) => {}
                Err(error) => return Err(error),
            }
        }
        Err(CatalogError::Contended { name: def.name })
    }

    async fn apply_once(&self, def: &TableDef, dry_run: bool, created: &mut bool) -> Result<Step, CatalogError> {
        let Some(record) = self.latest(&def.name).await? else {
            return self.make(def, 0, 0, dry_run, created).await;
        };
        let (sk, version) = (record.sk, record.envelope.schema_version);
        match (record.envelope.state, &record.envelope.definition) {
            (State::Active, Some(old)) => self.evolve(&record, old, def, dry_run, created).await,
            (State::Creating, Some(begun)) => match self.inner.store.describe_table(&begun.dynamodb_table).await? {
                Some(found) => {
                    let wanted = take_up(begun, def, &found)?;
                    if dry_run {
                        return Ok(Step::Done(planned(wanted, version + 1, ApplyResult::Created, Vec::new())));
                    }
                    let mut sk = sk;
                    if wanted != *begun {
                        sk += 1;
                        self.append(&def.name, sk, State::Creating, version, Some(wanted.clone())).await?;
                    }
                    self.create(&wanted, sk, version, created).await
                }
                // Nothing was made, so there is nothing to keep to: begin anew with what is wanted now.
                None => self.make(def, sk, version, dry_run, created).await,
            },
            (State::Dropping, _) => Err(CatalogError::BeingDropped { name: def.name.clone() }),
            (State::Dropped, _) | (_, None) => self.make(def, sk, version, dry_run, created).await,
        }
    }

    /// Creates or binds the DynamoDB table of a table that does not exist; `sk` and `version` are the last ones used.
    async fn make(
        &self,
        def: &TableDef,
        sk: u64,
        version: u64,
        dry_run: bool,
        created: &mut bool,
    ) -> Result<Step, CatalogError> {
        let mut def = self.placed(def);
        self.check_dynamodb_name(&def.dynamodb_table)?;
        self.check_clash(&def).await?;
        let Some(found) = self.inner.store.describe_table(&def.dynamodb_table).await? else {
            def.ownership = Ownership::Created;
            if dry_run {
                return Ok(Step::Done(planned(def, version + 1, ApplyResult::Created, Vec::new())));
            }
            if matches!(def.sharding(), Sharding::Adaptive { .. }) {
                self.inner.shards.ensure().await?;
            }
            self.append(&def.name, sk + 1, State::Creating, version, Some(def.clone())).await?;
            return self.create(&def, sk + 1, version, created).await;
        };
        check_key(&def, &found)?;
        if def.sharding() != Sharding::None {
            return Err(CatalogError::ShardedBinding { name: def.name, dynamodb_table: def.dynamodb_table });
        }
        if !found.active {
            return Err(CatalogError::NotActive { dynamodb_table: def.dynamodb_table });
        }
        def.ownership = Ownership::Bound;
        let mut changes = Vec::new();
        if def.dynamodb != DynamoDbOptions::default() {
            def.dynamodb = DynamoDbOptions::default();
            changes.push("the options under `dynamodb` have no effect: the DynamoDB table exists already".to_owned());
        }
        if dry_run {
            return Ok(Step::Done(planned(def, version + 1, ApplyResult::Bound, changes)));
        }
        let name = def.name.clone();
        let record = self.append(&name, sk + 1, State::Active, version + 1, Some(def)).await?;
        done(&record, ApplyResult::Bound, changes)
    }

    /// Creates the DynamoDB table that the record `sk` announces, or finishes that, and records it as active.
    async fn create(&self, def: &TableDef, sk: u64, version: u64, created: &mut bool) -> Result<Step, CatalogError> {
        match self.inner.store.create_table(def).await {
            Ok(()) => {}
            // Made before a crash, or by another pod that takes up the same record.
            Err(ControlError::TableExists { .. }) => self.finish_creation(def).await?,
            Err(error) => {
                self.withdraw(def, sk, version, &error).await;
                return Err(error.into());
            }
        }
        *created = true;
        let record = self.append(&def.name, sk + 1, State::Active, version + 1, Some(def.clone())).await?;
        tracing::info!(table = def.name, dynamodb_table = def.dynamodb_table, "created the DynamoDB table");
        done(&record, ApplyResult::Created, Vec::new())
    }

    async fn finish_creation(&self, def: &TableDef) -> Result<(), CatalogError> {
        match self.inner.store.describe_table(&def.dynamodb_table).await? {
            Some(found) => check_key(def, &found)?,
            None => return Err(CatalogError::NotActive { dynamodb_table: def.dynamodb_table.clone() }),
        }
        Ok(self.inner.store.complete_table(def).await?)
    }

    /// Takes back a `Creating` record whose table DynamoDB refused for good, if it really did not come into being.
    async fn withdraw(&self, def: &TableDef, sk: u64, version: u64, error: &ControlError) {
        if !matches!(error, ControlError::Refused { .. } | ControlError::Access { .. }) {
            return;
        }
        if !matches!(self.inner.store.describe_table(&def.dynamodb_table).await, Ok(None)) {
            return;
        }
        // Not needed for correctness: a record that stays is taken up by the next apply.
        if let Err(error) = self.append(&def.name, sk + 1, State::Dropped, version, None).await {
            tracing::debug!(table = def.name, %error, "the record of a refused creation stays");
        }
    }

    async fn evolve(
        &self,
        record: &Record,
        old: &TableDef,
        new: &TableDef,
        dry_run: bool,
        created: &mut bool,
    ) -> Result<Step, CatalogError> {
        let evolution =
            evolve(old, new).map_err(|refusal| CatalogError::Refused { name: old.name.clone(), refusal })?;
        let def = evolution.definition;
        let mut changes: Vec<_> = evolution.changes.iter().map(ToString::to_string).collect();
        let (sk, version) = (record.sk, record.envelope.schema_version);
        match self.inner.store.describe_table(&def.dynamodb_table).await? {
            Some(found) => check_key(&def, &found)?,
            None if old.ownership == Ownership::Bound => {
                return Err(CatalogError::BoundTableGone { name: def.name, dynamodb_table: def.dynamodb_table });
            }
            // Somebody deleted our table: the definition says that there shall be one.
            None if dry_run => return Ok(Step::Done(planned(def, version + 1, ApplyResult::Created, changes))),
            None => {
                self.append(&def.name, sk + 1, State::Creating, version, Some(def.clone())).await?;
                return self.create(&def, sk + 1, version, created).await;
            }
        }
        let result = if *created { ApplyResult::Created } else { ApplyResult::Evolved };
        if changes.is_empty() {
            let result = if *created { ApplyResult::Created } else { ApplyResult::Unchanged };
            return done(record, result, changes);
        }
        if dry_run {
            return Ok(Step::Done(planned(def, version + 1, result, changes)));
        }
        let name = def.name.clone();
        let record = self.append(&name, sk + 1, State::Active, version + 1, Some(def)).await?;
        done(&record, result, std::mem::take(&mut changes))
    }

    fn check_dynamodb_name(&self, name: &str) -> Result<(), CatalogError> {
        let refuse = |reason| Err(CatalogError::DynamoDbName { dynamodb_table: name.to_owned(), reason });
        if name == self.inner.control_table || name == self.inner.shards.control_table() {
            return refuse("the catalog itself is kept there");
        }
        let valid =
            (3..=255).contains(&name.len()) && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"_-.".contains(&b));
        if valid { Ok(()) } else { refuse("DynamoDB wants 3 to 255 characters of a-z, A-Z, 0-9, `_`, `-`, `.`") }
    }

    /// Refuses a DynamoDB table in which another table keeps rows under other key columns.
    async fn check_clash(&self, def: &TableDef) -> Result<(), CatalogError> {
        let key = key_columns(def)?;
        for other in self.sharing(def).await? {
            let other_key = key_columns(&other)?;
            if other_key != key || joined_attributes(&other) != joined_attributes(def) {
                return Err(CatalogError::KeyClash {
                    name: def.name.clone(),
                    key,
                    other: other.name,
                    other_key,
                    dynamodb_table: def.dynamodb_table.clone(),
                });
            }
        }
        Ok(())
    }

    /// The definition, with the DynamoDB table that it would use where it names none.
    fn placed(&self, def: &TableDef) -> TableDef {
        let mut def = def.clone();
        if def.dynamodb_table.is_empty() {
            def.dynamodb_table = self.default_dynamodb_table(&def.name);
        }
        def
    }

    /// The names of the other tables that use the DynamoDB table that this definition would use.
    pub async fn sharing_names(&self, def: &TableDef) -> Result<Vec<String>, CatalogError> {
        Ok(self.sharing(&self.placed(def)).await?.into_iter().map(|other| other.name).collect())
    }

    /// The other tables that use the same DynamoDB table.
    async fn sharing(&self, def: &TableDef) -> Result<Vec<TableDef>, CatalogError> {
        let newest = self.newest_records().await?;
        let definitions = newest.into_values().filter_map(|record| record.envelope.definition);
        Ok(definitions.filter(|o| o.name != def.name && o.dynamodb_table == def.dynamodb_table).collect())
    }

    /// Drops a table. A bound one is only unbound; one that Forebay created is deleted with its rows, which needs `force`.
    /// Says whether the DynamoDB table was deleted.
    pub async fn drop_table(&self, name: &str, force: bool) -> Result<bool, CatalogError> {
        for _ in 0..ATTEMPTS {
            match self.drop_once(name, force).await {
                Err(CatalogError::Store(ControlError::Conflict)) => tokio::time::sleep(ATTEMPT_PAUSE).await,
                other => return other,
            }
        }
        Err(CatalogError::Contended { name: name.to_owned() })
    }

    async fn drop_once(&self, name: &str, force: bool) -> Result<bool, CatalogError> {
        let not_found = || CatalogError::NotFound { name: name.to_owned() };
        let record = self.latest(name).await?.ok_or_else(not_found)?;
        let (mut sk, version, state) = (record.sk, record.envelope.schema_version, record.envelope.state);
        let def = record.envelope.definition.ok_or_else(not_found)?;
        let found = match def.ownership {
            Ownership::Bound => None,
            Ownership::Created => self.inner.store.describe_table(&def.dynamodb_table).await?,
        };
        // A table under a `Creating` record that does not fit was made by somebody else.
        let ours = found.filter(|found| state != State::Creating || check_key(&def, found).is_ok());
        let Some(found) = ours else {
            self.append(name, sk + 1, State::Dropped, version, None).await?;
            return Ok(state == State::Dropping);
        };
        let (name, dynamodb_table) = (name.to_owned(), def.dynamodb_table.clone());
        if !force {
            return Err(CatalogError::NeedsForce { name, dynamodb_table });
        }
        if found.deletion_protection {
            return Err(CatalogError::DeletionProtected { name, dynamodb_table });
        }
        if let Some(other) = self.sharing(&def).await?.into_iter().next() {
            return Err(CatalogError::Shared { name, other: other.name, dynamodb_table });
        }
        if state != State::Dropping {
            sk += 1;
            self.append(&name, sk, State::Dropping, version, Some(def.clone())).await?;
        }
        match self.inner.store.delete_table(&dynamodb_table).await {
            Ok(()) | Err(ControlError::TableMissing { .. }) => {}
            Err(error @ (ControlError::Refused { .. } | ControlError::Access { .. })) => {
                // The table is still there and was never touched: give it back.
                let state = if state == State::Creating { state } else { State::Active };
                self.append(&name, sk + 1, state, version, Some(def)).await?;
                return Err(error.into());
            }
            Err(error) => return Err(error.into()),
        }
        self.append(&name, sk + 1, State::Dropped, version, None).await?;
        tracing::info!(table = name, dynamodb_table, "deleted the DynamoDB table");
        Ok(true)
    }
}

fn done(record: &Record, result: ApplyResult, changes: Vec<String>) -> Result<Step, CatalogError> {
    match record.usable() {
        Some(version) => Ok(Step::Done(ApplyOutcome { version, result, changes })),
        None => Ok(Step::Again),
    }
}

/// The definition with which a creation that was cut off goes on: the wanted one, as far as the DynamoDB table that is
/// there allows. No row was written yet, so columns and policies are free.
fn take_up(begun: &TableDef, wanted: &TableDef, found: &TableDescription) -> Result<TableDef, CatalogError> {
    let mut def = TableDef { ownership: Ownership::Created, ..wanted.clone() };
    if def.dynamodb_table.is_empty() {
        def.dynamodb_table.clone_from(&begun.dynamodb_table);
    }
    // Point-in-time recovery and time-to-live are set after creation; everything else was part of it.
    let made_with =
        DynamoDbOptions { point_in_time_recovery: def.dynamodb.point_in_time_recovery, ..begun.dynamodb.clone() };
    if def.dynamodb_table != begun.dynamodb_table || def.dynamodb != made_with {
        let reason = format!(
            "the DynamoDB table `{}` was created with other options, by an apply that was cut off; apply with those, or \
             drop the table first",
            begun.dynamodb_table
        );
        let forbidden = Forbidden { path: "dynamodb".to_owned(), reason };
        return Err(CatalogError::Refused { name: def.name, refusal: Refusal(vec![forbidden]) });
    }
    check_key(&def, found)?;
    Ok(def)
}

/// The outcome of a dry run.
fn planned(def: TableDef, version: u64, result: ApplyResult, changes: Vec<String>) -> ApplyOutcome {
    let dynamodb_table = def.dynamodb_table.as_str().into();
    let version = TableVersion { def, version, applied_at_ms: now_ms(), dynamodb_table };
    ApplyOutcome { version: Arc::new(version), result, changes }
}

/// Checks that a DynamoDB table has the key that a definition needs.
fn check_key(def: &TableDef, found: &TableDescription) -> Result<(), CatalogError> {
    let (partition, sort) = (def.partition_attribute()?, def.sort_attribute()?);
    if found.partition == partition && found.sort == sort {
        return Ok(());
    }
    Err(CatalogError::KeyMismatch {
        name: def.name.clone(),
        dynamodb_table: def.dynamodb_table.clone(),
        needed: key_text(&partition, sort.as_ref()),
        found: key_text(&found.partition, found.sort.as_ref()),
    })
}

fn key_text(partition: &KeyAttribute, sort: Option<&KeyAttribute>) -> String {
    let one = |role, key: &KeyAttribute| format!("{role} `{}` {:?}", key.name, key.kind);
    match sort {
        None => format!("{}, no sort key", one("partition", partition)),
        Some(sort) => format!("{}, {}", one("partition", partition), one("sort", sort)),
    }
}

/// The key's columns with their types and stored forms; tables with equal texts write equal keys.
fn key_columns(def: &TableDef) -> Result<String, SchemaError> {
    let list = |columns: &[String]| {
        let texts = columns.iter().map(|name| {
            let field = def.schema.field(name);
            let field = field.ok_or_else(|| SchemaError::new(name, "the key names a column that does not exist"))?;
            let encoding = field.options.time_encoding.map_or(String::new(), |encoding| format!(" as {encoding:?}"));
            Ok(format!("`{name}` {}{}", field.data_type, encoding.to_lowercase()))
        });
        Ok::<_, SchemaError>(texts.collect::<Result<Vec<_>, SchemaError>>()?.join(", "))
    };
    let shards = match def.sharding() {
        Sharding::None => String::new(),
        Sharding::Fixed { shards } => format!(" in {shards} write shards"),
        Sharding::Adaptive { .. } => " in adaptive write shards".to_owned(),
    };
    let partition = list(&def.key.partition)? + &shards;
    if def.key.sort.is_empty() {
        return Ok(format!("partition {partition}"));
    }
    Ok(format!("partition {partition}; sort {}", list(&def.key.sort)?))
}

/// The names of the attributes that several columns are joined into.
fn joined_attributes(def: &TableDef) -> (Option<&str>, Option<&str>) {
    let joined = |columns: &[String], attribute| (columns.len() > 1).then_some(attribute);
    let key = &def.key;
    (joined(&key.partition, &*key.partition_attribute), joined(&key.sort, &*key.sort_attribute))
}
