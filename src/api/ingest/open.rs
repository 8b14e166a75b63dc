//! `Open`, checked and turned into what a session works with. An option that is not supported is refused, never ignored.

use std::sync::Arc;
use std::time::Duration;

use tonic::Status;

use super::columns::{Columns, Writes};
use crate::api::convert::{self, choice};
use crate::api::status::{self, reason};
use crate::catalog::{Catalog, TableVersion};
use crate::limits::{ROW_DEADLINE_DEFAULT, ROW_DEADLINE_MAX};
use crate::payload::arrow::ArrowPlan;
use crate::payload::rows::RowsPlan;
use crate::payload::{Plan, Tally};
use crate::pool::PoolTable;
use crate::proto::v1;
use crate::schema::Coalesce;
use crate::store::WriteOp;
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
    /// Who writes, for logs.
    pub(super) producer_id: String,
}

impl Opened {
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
pub(in crate::api) async fn open(catalog: &Catalog, open: v1::Open, hash_seed: u64) -> Result<Opened, Status> {
    let op = write_op(&open)?;
    refuse_unsupported(&open)?;
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
    let writes = Writes { op, defaults: stores_defaults(&open, op)?, hash_seed };
    let evolves = evolves(&open, op)?;
    let columns = Columns::parse(&open)?;
    let table = match evolves {
        true => columns.added_to(catalog, &open.table, writes).await?,
        false => catalog.get(&open.table).await?,
    };
    let (plan, form) = columns.compile(&table.def, writes)?;
    let coalesce = table.def.coalesce == Coalesce::On;
    let pool_table = PoolTable { coalesce, ..PoolTable::new(Arc::clone(&table.dynamodb_table)) };
    let (validate_only, producer_id) = (open.validate_only, open.producer_id);
    Ok(Opened { table, pool_table, plan, form, row_deadline, bulk, validate_only, producer_id })
}

fn write_op(open: &v1::Open) -> Result<WriteOp, Status> {
    match choice::<v1::WriteMode>("open.mode", open.mode)? {
        v1::WriteMode::Unspecified | v1::WriteMode::Put => Ok(WriteOp::Put),
        v1::WriteMode::Delete => Ok(WriteOp::Delete),
        v1::WriteMode::Merge => Err(unsupported("mode MERGE", "use PUT with whole rows")),
        v1::WriteMode::Insert => Err(unsupported("mode INSERT", "use PUT")),
    }
}

fn refuse_unsupported(open: &v1::Open) -> Result<(), Status> {
    if !open.op_column.is_empty() {
        return Err(unsupported("op_column", "open a session for each mode"));
    }
    if open.epoch != 0 {
        return Err(unsupported("epoch", "leave it unset; nothing fences older runs"));
    }
    Ok(())
}

/// Whether the session adds its new columns to the table.
fn evolves(open: &v1::Open, op: WriteOp) -> Result<bool, Status> {
    let refuse = |message| Err(status::invalid_argument("open.evolve", message));
    match choice::<v1::Evolve>("open.evolve", open.evolve)? {
        v1::Evolve::Unspecified | v1::Evolve::Off => Ok(false),
        v1::Evolve::AddColumns if op == WriteOp::Delete => {
            refuse("a session that deletes stores no columns; ADD_COLUMNS is for PUT")
        }
        v1::Evolve::AddColumns if open.validate_only => {
            refuse("validate_only changes nothing, and ADD_COLUMNS changes the table; leave out one of them")
        }
        v1::Evolve::AddColumns => Ok(true),
    }
}

/// Whether table columns that the session does not carry get their defaults.
fn stores_defaults(open: &v1::Open, op: WriteOp) -> Result<bool, Status> {
    let refuse = |message| Err(status::invalid_argument("open.on_missing", message));
    match (choice::<v1::OnMissing>("open.on_missing", open.on_missing)?, op) {
        (v1::OnMissing::Unspecified, _) => Ok(true),
        (_, WriteOp::Delete) => refuse("a session that deletes stores no columns; leave it out"),
        (v1::OnMissing::Default, _) => Ok(true),
        (v1::OnMissing::Null, _) => Ok(false),
        (v1::OnMissing::LeaveUnchanged, _) => {
            refuse("a PUT replaces the whole item, so that no column can be left unchanged; choose DEFAULT or NULL")
        }
    }
}

/// The answer to an option that exists in the protocol and not yet in this server.
pub(in crate::api) fn unsupported(option: &str, instead: &str) -> Status {
    status::unimplemented(reason::NOT_SUPPORTED, format!("this server does not support {option} yet; {instead}"))
}
