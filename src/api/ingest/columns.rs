//! The columns that `Open` declares, and what they compile to for a table.

use tonic::Status;

use super::open::Form;
use crate::api::convert::schema_from_proto;
use crate::api::status;
use crate::catalog::{Catalog, TableVersion};
use crate::payload::arrow::{ArrowPlan, IncomingArrow};
use crate::payload::rows::RowsPlan;
use crate::payload::{OnMissing, Plan, PlanError, Writes};
use crate::proto::v1;
use crate::schema::add_columns::Added;
use crate::schema::{Schema, TableDef, spark_json};

/// A session's columns, as the client has them.
#[derive(Debug, Clone)]
pub(super) enum Columns {
    /// None are declared: positional rows carry the table's.
    OfTable,
    /// Those of positional rows.
    Rows(Schema),
    /// Those of Arrow batches.
    Arrow(Box<IncomingArrow>),
}

/// What a session's plan is compiled from, beside its columns.
#[derive(Debug, Clone)]
pub(super) struct Terms {
    /// What rows do.
    pub(super) writes: Writes,
    /// The pool's.
    pub(super) hash_seed: u64,
}

impl Columns {
    /// Reads what `Open` says of the columns.
    pub(super) fn parse(open: &v1::Open) -> Result<Self, Status> {
        let spark = match open.spark_schema_json.as_str() {
            "" => None,
            json => {
                let parsed = spark_json::parse(json);
                Some(parsed.map_err(|error| status::invalid_argument("open.spark_schema_json", error.to_string()))?)
            }
        };
        if open.arrow_schema.is_empty() {
            return match (&open.columns, spark) {
                (Some(columns), None) => Ok(Self::Rows(schema_from_proto("open.columns", columns)?)),
                (None, Some(spark)) => Ok(Self::Rows(spark)),
                (Some(_), Some(_)) => {
                    let message = "give the columns once: as columns or as spark_schema_json";
                    Err(status::invalid_argument("open.columns", message))
                }
                (None, None) => Ok(Self::OfTable),
            };
        }
        if open.columns.is_some() {
            let message = "give the columns once: as columns or as arrow_schema";
            return Err(status::invalid_argument("open.columns", message));
        }
        let incoming = IncomingArrow::parse(&open.arrow_schema)
            .map_err(|error| status::invalid_argument("open.arrow_schema", error.to_string()))?;
        let Some(spark) = spark else { return Ok(Self::Arrow(Box::new(incoming))) };
        let refined = incoming.refine(&spark);
        let refined = refined.map_err(|error| status::invalid_argument("open.spark_schema_json", error.to_string()))?;
        Ok(Self::Arrow(Box::new(refined)))
    }

    /// The columns where they are declared.
    fn schema(&self) -> Option<&Schema> {
        match self {
            Self::OfTable => None,
            Self::Rows(schema) => Some(schema),
            Self::Arrow(incoming) => Some(incoming.schema()),
        }
    }

    /// Compiles the session's plan.
    pub(super) fn compile(self, table: &TableDef, terms: &Terms) -> Result<(Plan, Form), Status> {
        let incoming = self.schema().unwrap_or(&table.schema);
        let plan = Plan::compile(table, incoming, terms.writes.clone(), terms.hash_seed);
        let plan = plan.map_err(|error| match error {
            PlanError::MissingColumn { .. } if terms.writes.on_missing == Some(OnMissing::Null) => {
                status::invalid_argument("open.on_missing", format!("NULL stores no defaults, and {error}"))
            }
            PlanError::OpColumn { column, problem } => {
                status::invalid_argument("open.op_column", format!("`{column}` {problem}"))
            }
            other => status::plan_error(other),
        })?;
        let form = match self {
            Self::OfTable | Self::Rows(_) => Form::Rows(RowsPlan::compile(&plan).map_err(status::plan_error)?),
            Self::Arrow(incoming) => Form::Arrow(ArrowPlan::compile(&plan, *incoming).map_err(status::plan_error)?),
        };
        Ok((plan, form))
    }

    /// The table with the session's columns (`evolve: ADD_COLUMNS`). A session that could not work with it changes nothing.
    pub(super) async fn added_to(
        &self,
        catalog: &Catalog,
        table: &str,
        terms: &Terms,
    ) -> Result<std::sync::Arc<TableVersion>, Status> {
        let Some(schema) = self.schema() else { return Ok(catalog.get(table).await?) };
        let mut schema = schema.clone();
        // Operations are not stored.
        schema.fields.retain(|field| terms.writes.op_column() != Some(&field.name));
        catalog.add_columns(table, &schema, |added| self.fits(added, terms)).await
    }

    fn fits(&self, added: &Added, terms: &Terms) -> Result<(), Status> {
        let refused = |message: String| status::invalid_argument("open.evolve", message);
        if let Self::Arrow(incoming) = self
            && let Some((path, arrow)) = incoming.untyped().iter().find(|(path, _)| added.contains(path))
        {
            let message = format!("column `{path}` cannot be added: Arrow's {arrow} has no column type; cast it");
            return Err(refused(message));
        }
        // The plan looks at names and limits of the session first, whose fault it then is.
        self.clone().compile(&added.definition, terms)?;
        let valid = added.definition.validate();
        valid.map_err(|error| refused(format!("the table cannot take the session's columns: {error}")))
    }
}
