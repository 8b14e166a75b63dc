//! `Open`, checked and turned into what a session works with. An option that is not supported is refused, never ignored.

use std::sync::Arc;
use std::time::Duration;

use tonic::Status;

use crate::api::convert::{self, choice, schema_from_proto};
use crate::api::status::{self, reason};
use crate::catalog::{Catalog, TableVersion};
use crate::limits::{ROW_DEADLINE_DEFAULT, ROW_DEADLINE_MAX};
use crate::payload::arrow::{ArrowPlan, IncomingArrow};
use crate::payload::rows::RowsPlan;
use crate::payload::{Plan, Tally};
use crate::pool::PoolTable;
use crate::proto::v1;
use crate::schema::{Coalesce, Schema, spark_json};
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
    let table = catalog.get(&open.table).await?;
    let (plan, form) = plan(&table, &open, op, hash_seed)?;
    let coalesce = table.def.coalesce == Coalesce::On;
    let pool_table = PoolTable { name: Arc::clone(&table.dynamodb_table), coalesce };
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
    match choice::<v1::Evolve>("open.evolve", open.evolve)? {
        v1::Evolve::Unspecified | v1::Evolve::Off => {}
        v1::Evolve::AddColumns => {
            return Err(unsupported("evolve ADD_COLUMNS", "change the table with ApplyTable before the session"));
        }
    }
    if choice::<v1::OnMissing>("open.on_missing", open.on_missing)? != v1::OnMissing::Unspecified {
        return Err(status::invalid_argument("open.on_missing", "only mode MERGE has missing columns"));
    }
    Ok(())
}

/// The answer to an option that exists in the protocol and not yet in this server.
pub(in crate::api) fn unsupported(option: &str, instead: &str) -> Status {
    status::unimplemented(reason::NOT_SUPPORTED, format!("this server does not support {option} yet; {instead}"))
}

fn plan(table: &TableVersion, open: &v1::Open, op: WriteOp, hash_seed: u64) -> Result<(Plan, Form), Status> {
    let spark = match open.spark_schema_json.as_str() {
        "" => None,
        json => {
            let parsed = spark_json::parse(json);
            Some(parsed.map_err(|error| status::invalid_argument("open.spark_schema_json", error.to_string()))?)
        }
    };
    if open.arrow_schema.is_empty() {
        let columns = match (&open.columns, spark) {
            (Some(columns), None) => schema_from_proto("open.columns", columns)?,
            (None, Some(spark)) => spark,
            (Some(_), Some(_)) => {
                let message = "give the columns once: as columns or as spark_schema_json";
                return Err(status::invalid_argument("open.columns", message));
            }
            (None, None) => table.def.schema.clone(),
        };
        let plan = Plan::compile(&table.def, &columns, op, hash_seed).map_err(status::plan_error)?;
        let rows = RowsPlan::compile(&plan).map_err(status::plan_error)?;
        return Ok((plan, Form::Rows(rows)));
    }
    if open.columns.is_some() {
        let message = "give the columns once: as columns or as arrow_schema";
        return Err(status::invalid_argument("open.columns", message));
    }
    let incoming = IncomingArrow::parse(&open.arrow_schema)
        .map_err(|error| status::invalid_argument("open.arrow_schema", error.to_string()))?;
    if let Some(spark) = spark {
        same_columns(&spark, incoming.schema())?;
    }
    let plan = Plan::compile(&table.def, incoming.schema(), op, hash_seed).map_err(status::plan_error)?;
    let arrow = ArrowPlan::compile(&plan, incoming).map_err(status::plan_error)?;
    Ok((plan, Form::Arrow(arrow)))
}

/// Spark's schema and Arrow's must describe the same columns, or one of them is of something else.
fn same_columns(spark: &Schema, arrow: &Schema) -> Result<(), Status> {
    let names = |schema: &Schema| schema.fields.iter().map(|field| field.name.clone()).collect::<Vec<_>>();
    let (spark, arrow) = (names(spark), names(arrow));
    if spark == arrow {
        return Ok(());
    }
    let message = format!("has the columns {}, but arrow_schema has {}", spark.join(", "), arrow.join(", "));
    Err(status::invalid_argument("open.spark_schema_json", message))
}
