//! `Open`, checked and turned into what a session works with. An option that is not supported is refused, never ignored.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use tonic::Status;

use super::columns::{Columns, Terms};
use super::group::{self, Source};
use crate::access::{Caller, Permission};
use crate::api::convert::{self, choice};
use crate::api::permit;
use crate::api::status::{self, reason};
use crate::catalog::{Catalog, EpochClaim, TableVersion};
use crate::limits::{PRODUCER_ID_MAX_BYTES, ROW_DEADLINE_DEFAULT, ROW_DEADLINE_GRACE, ROW_DEADLINE_MAX};
use crate::payload::arrow::ArrowPlan;
use crate::payload::rows::RowsPlan;
use crate::payload::{EncodedRow, OnMissing, Plan, RowMode, Tally, Writes};
use crate::pool::PoolTable;
use crate::proto::v1;
use crate::schema::sharding::Sharding;
use crate::schema::table::TOMBSTONE_EXPIRY_ATTRIBUTE;
use crate::schema::{Coalesce, TableDef};
use crate::store::{SequenceRule, WriteOp};
use crate::telemetry::Instruments;

/// A session that can start.
#[derive(Debug)]
pub(in crate::api) struct Opened {
    /// The table as it is now.
    pub(in crate::api) table: Arc<TableVersion>,
    /// The table as the pool sees it.
    pub(super) pool_table: PoolTable,
    /// How rows are encoded.
    pub(in crate::api) plan: Plan,
    /// How batches are read.
    pub(super) form: Form,
    /// How long a row may wait.
    pub(super) row_deadline: Duration,
    /// Rows let others go first.
    pub(super) bulk: bool,
    /// Check rows and write none.
    pub(super) validate_only: bool,
    /// Who writes; may be empty.
    pub(super) producer_id: String,
    /// The producer's run, where it says so.
    pub(super) epoch: Option<u64>,
}

impl Opened {
    /// Whether the table has `sequence_by`: sending a row again is safe there, whatever came between.
    pub(super) fn is_sequenced(&self) -> bool {
        self.pool_table.sequence.is_some()
    }

    /// Records the run's epoch, where there is one and rows are written. A newer run's is a refusal.
    pub(super) async fn claim_epoch(&self, catalog: &Catalog) -> Result<Option<EpochClaim>, Status> {
        match self.epoch.filter(|_| !self.validate_only) {
            Some(epoch) => Ok(Some(catalog.claim_epoch(&self.table.def.name, &self.producer_id, epoch).await?)),
            None => Ok(None),
        }
    }

    /// Names the transaction of an atomic batch.
    pub(super) fn token(&self, session: (u64, u64), seq: u64, rows: &[EncodedRow]) -> Arc<str> {
        let source = match self.epoch {
            Some(epoch) => Source::Run { producer: &self.producer_id, epoch },
            None => Source::Batch { session, seq },
        };
        group::token(source, &self.pool_table.name, rows)
    }

    /// When rows of a batch that was received now get an outcome whether or not they are written. `None` where such an
    /// outcome would not be safe: there they wait, and the session ends instead.
    pub(super) fn rows_settle_by(&self, now: Instant) -> Option<Instant> {
        self.is_sequenced().then(|| now + self.row_deadline)
    }

    /// How long a session waits for the outcomes of its oldest batch.
    pub(super) fn patience(&self) -> Duration {
        self.row_deadline + if self.is_sequenced() { ROW_DEADLINE_GRACE } else { Duration::ZERO }
    }

    /// Lets others go first; then, of an adaptive table, learns where rows are to be written now. While the shard map cannot
    /// be read, that waits, and with it the session, until its rows have waited too long.
    pub(super) async fn may_encode(&self, catalog: &Catalog) {
        tokio::task::yield_now().await;
        if matches!(self.table.def.sharding(), Sharding::Adaptive { .. }) {
            self.plan.use_shards(catalog.shards().for_writing(&self.table.dynamodb_table).await);
        }
    }

    /// Counts coercions of accepted rows for the whole process.
    pub(super) fn count_coercions(&self, instruments: &Instruments, coercions: &Tally) {
        if !coercions.is_empty() {
            for (column, rule, count) in self.plan.rules().report(coercions) {
                instruments.count_coercions(&self.table.def.name, &column, &rule, count);
            }
        }
    }
}

/// The form of the session's batches.
#[derive(Debug)]
pub(in crate::api) enum Form {
    /// Positional rows.
    Rows(RowsPlan),
    /// Arrow record batches.
    Arrow(ArrowPlan),
}

/// Checks an Open and compiles its plan.
pub(in crate::api) async fn open(
    catalog: &Catalog,
    open: v1::Open,
    hash_seed: u64,
    caller: &Caller,
) -> Result<Opened, Status> {
    permit::ask(caller, Permission::Write, &open.table)?;
    let writes = writes(&open)?;
    check_producer(&open)?;
    let row_deadline = match &open.row_deadline {
        None => ROW_DEADLINE_DEFAULT,
        Some(duration) => convert::duration("open.row_deadline", duration)?,
    };
    if row_deadline.is_zero() || row_deadline > ROW_DEADLINE_MAX {
        let limit = ROW_DEADLINE_MAX.as_secs();
        return Err(status::invalid_argument("open.row_deadline", format!("must be above 0 and at most {limit} s")));
    }
    let bulk = match choice::<v1::Priority>("open.priority", open.priority)? {
        v1::Priority::Unspecified | v1::Priority::Interactive => false,
        v1::Priority::Bulk => true,
    };
    let evolves = evolves(&open, &writes)?;
    if evolves {
        permit::ask(caller, Permission::Admin, &open.table)?;
    }
    let terms = Terms { writes, hash_seed };
    let columns = Columns::parse(&open)?;
    let table = match evolves {
        true => columns.added_to(catalog, &open.table, &terms).await?,
        false => catalog.get(&open.table).await?,
    };
    if table.def.write_sharding_max_shards > 0 && terms.writes.mode != RowMode::Each(WriteOp::Put) {
        let message = format!(
            "the table `{}` has `write_sharding`, so its keys are written once, by PUT: what is stored at an older place could be \
             neither changed nor seen by a condition",
            table.def.name
        );
        return Err(status::failed_precondition(reason::APPEND_ONLY, format!("table/{}", table.def.name), message));
    }
    let (plan, form) = columns.compile(&table.def, &terms)?;
    let pool_table = PoolTable {
        coalesce: table.def.coalesce == Coalesce::On,
        sequence: table.def.sequence_by.as_deref().map(|column| sequence_rule(&table.def, column)),
        max_write_units: table.def.max_write_units,
        max_shards: match table.def.sharding() {
            Sharding::Adaptive { max_shards } => max_shards,
            Sharding::None | Sharding::Fixed { .. } => 0,
        },
        ..PoolTable::new(Arc::clone(&table.dynamodb_table))
    };
    let (validate_only, producer_id, epoch) = (open.validate_only, open.producer_id, open.epoch);
    Ok(Opened { table, pool_table, plan, form, row_deadline, bulk, validate_only, producer_id, epoch })
}

/// How rows of a table with `sequence_by` are told apart.
fn sequence_rule(table: &TableDef, column: &str) -> Arc<SequenceRule> {
    let own = table.ttl_column.is_none().then_some(TOMBSTONE_EXPIRY_ATTRIBUTE);
    Arc::new(SequenceRule { attribute: column.into(), expiry_attribute: own.map(Into::into) })
}

/// What the rows do, and what happens to columns that they do not carry.
fn writes(open: &v1::Open) -> Result<Writes, Status> {
    let op = match choice::<v1::WriteMode>("open.mode", open.mode)? {
        v1::WriteMode::Unspecified => None,
        v1::WriteMode::Put => Some(WriteOp::Put),
        v1::WriteMode::Merge => Some(WriteOp::Merge),
        v1::WriteMode::Insert => Some(WriteOp::Insert),
        v1::WriteMode::Delete => Some(WriteOp::Delete),
    };
    let mode = match (op, open.op_column.as_str()) {
        (op, "") => RowMode::Each(op.unwrap_or(WriteOp::Put)),
        (None, column) => RowMode::ByColumn(column.to_owned()),
        (Some(_), _) => {
            let message = "with op_column each row says what it does; leave mode unset";
            return Err(status::invalid_argument("open.mode", message));
        }
    };
    let refuse = |message| Err(status::invalid_argument("open.on_missing", message));
    let on_missing = match (choice::<v1::OnMissing>("open.on_missing", open.on_missing)?, &mode) {
        (v1::OnMissing::Unspecified, _) => None,
        (_, RowMode::Each(WriteOp::Delete)) => {
            return refuse("a session that deletes stores no columns; leave it out");
        }
        (v1::OnMissing::Default, _) => Some(OnMissing::Default),
        (v1::OnMissing::Null, _) => Some(OnMissing::Null),
        (v1::OnMissing::LeaveUnchanged, RowMode::Each(WriteOp::Merge)) => Some(OnMissing::LeaveUnchanged),
        (v1::OnMissing::LeaveUnchanged, RowMode::ByColumn(_)) => {
            return refuse("some rows may replace the whole item; leave it out, and each operation does its own");
        }
        (v1::OnMissing::LeaveUnchanged, _) => {
            return refuse(
                "a PUT replaces the whole item, so that no column can be left unchanged; choose DEFAULT or NULL",
            );
        }
    };
    let store_assignment = convert::store_assignment("open.store_assignment", open.store_assignment)?;
    Ok(Writes { mode, on_missing, store_assignment })
}

/// Checks who writes.
fn check_producer(open: &v1::Open) -> Result<(), Status> {
    if open.producer_id.len() > PRODUCER_ID_MAX_BYTES {
        let message = format!("has {} bytes; at most {PRODUCER_ID_MAX_BYTES} are allowed", open.producer_id.len());
        return Err(status::invalid_argument("open.producer_id", message));
    }
    if open.epoch.is_some() && open.producer_id.is_empty() {
        let message = "is the run of a producer: set producer_id, too, or leave both out";
        return Err(status::invalid_argument("open.epoch", message));
    }
    Ok(())
}

/// Whether the session adds its new columns to the table.
fn evolves(open: &v1::Open, writes: &Writes) -> Result<bool, Status> {
    let refuse = |message| Err(status::invalid_argument("open.evolve", message));
    match choice::<v1::Evolve>("open.evolve", open.evolve)? {
        v1::Evolve::Unspecified | v1::Evolve::Off => Ok(false),
        v1::Evolve::AddColumns if !writes.stores_columns() => {
            refuse("a session that deletes stores no columns; ADD_COLUMNS is for the other modes")
        }
        v1::Evolve::AddColumns if open.validate_only => {
            refuse("validate_only changes nothing, and ADD_COLUMNS changes the table; leave out one of them")
        }
        v1::Evolve::AddColumns => Ok(true),
    }
}

/// The answer to an option that exists in the protocol and not yet in this server.
pub(in crate::api) fn unsupported(option: &str, instead: &str) -> Status {
    status::unimplemented(reason::NOT_SUPPORTED, format!("this server does not support {option} yet; {instead}"))
}
