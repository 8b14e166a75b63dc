//! From a file's name to a session's options and a source of rows: what `load` and `check` do alike.

use std::sync::Arc;

use arrow_schema::SchemaRef;

use super::columnar::Columnar;
use super::input::{Format, Input};
use super::source::Source;
use super::table;
use super::text::{self, TextSource};
use crate::api::convert::schema_to_proto;
use crate::cli::{CliError, PayloadArg};
use crate::client::convert::schema_to_arrow;
use crate::client::{ClientError, OpenOptions};
use crate::payload::values::fit::Fit;
use crate::proto::v1::WriteMode;
use crate::schema::{Schema, TableDef, UnknownFields};

/// Which rows, for which table.
#[derive(Debug, clap::Args)]
pub(in crate::cli) struct InputArgs {
    /// The file; `-` for standard input
    pub(in crate::cli) file: String,
    /// The table
    #[arg(long, value_name = "TABLE")]
    pub(in crate::cli) table: String,
    /// The file's format; by default told from its first bytes or its name
    #[arg(long, value_enum)]
    format: Option<Format>,
    /// How rows travel; by default as the file has them: Parquet and Arrow as arrow, CSV and NDJSON as rows
    #[arg(long, value_enum)]
    payload: Option<PayloadArg>,
    /// What rows do
    #[arg(long, value_enum, default_value_t = Mode::Put)]
    mode: Mode,
    /// The column that says what each row does: put, merge, insert or delete
    #[arg(long, value_name = "COLUMN", conflicts_with = "mode")]
    op_column: Option<String>,
}

impl InputArgs {
    pub(super) fn does(&self) -> Does<'_> {
        match &self.op_column {
            Some(column) => Does::ByColumn(column),
            None => Does::Each(self.mode),
        }
    }
}

/// What rows do, as told.
#[derive(Debug, Clone, Copy)]
pub(super) enum Does<'a> {
    /// All the same.
    Each(Mode),
    /// Each its own, by this column.
    ByColumn(&'a str),
}

impl Does<'_> {
    /// Whether the column carries operations.
    pub(super) fn is_operation(self, column: &str) -> bool {
        matches!(self, Self::ByColumn(operation) if operation == column)
    }
}

/// What rows do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum Mode {
    /// Replace the item with the row's key
    Put,
    /// Set the row's columns in the item with the row's key, and remove those that are null
    Merge,
    /// Write the item if there is none with the row's key
    Insert,
    /// Delete the item with the row's key
    Delete,
}

/// What is known of a file before anything is sent.
pub(super) struct Survey {
    /// Its columns; for NDJSON those seen.
    pub(super) columns: Vec<String>,
    /// Their types: the file's, with what Spark says of them, or the narrowest that take what was seen.
    pub(super) schema: Schema,
    /// The types that the file's values have by themselves, without Spark's word.
    pub(super) own: Schema,
    /// Spark's schema, where the file has it.
    pub(super) spark: Option<String>,
    /// The schema of a columnar file.
    pub(super) arrow: Option<SchemaRef>,
    /// Its rows, where that is known.
    pub(super) rows: Option<u64>,
}

/// How sources make blocks.
pub(super) struct Settings {
    pub(super) batch_rows: usize,
    /// Set where rows go as Arrow: the session's schema.
    pub(super) arrow: Option<SchemaRef>,
    /// Whether the rows' text is needed for the rejects file.
    pub(super) keep: bool,
    /// How the text of a file becomes values.
    pub(super) fit: Fit,
    /// Which rows are merged.
    pub(super) merges: Merges,
}

/// Which rows are merged: to them a column that is null is one to remove.
#[derive(Debug, Clone, Copy)]
pub(super) enum Merges {
    None,
    All,
    /// Those that say so in this column.
    ByColumn(usize),
}

/// A file in its format.
pub(super) enum Looked {
    Csv(Input),
    Ndjson(Input),
    Columnar(Box<Columnar>),
}

/// A file that was looked at, and what was seen.
pub(in crate::cli) struct LookedAt {
    /// How messages call it.
    pub(super) name: String,
    pub(super) looked: Looked,
    pub(super) survey: Survey,
}

/// All that is needed to send rows.
pub(in crate::cli) struct Prepared {
    /// How messages call the file.
    pub(in crate::cli) name: String,
    /// The session.
    pub(in crate::cli) open: OpenOptions,
    /// The rows.
    pub(in crate::cli) source: Box<dyn Source>,
}

impl LookedAt {
    /// Looks at a file; with `infer` at the types of its text, too.
    pub(in crate::cli) async fn open(input: &InputArgs, infer: bool, batch_rows: usize) -> Result<Self, CliError> {
        let (path, format) = (input.file.clone(), input.format);
        let (looked, survey) = blocking(move || look(&path, format, infer, batch_rows)).await?;
        Ok(Self { name: display_name(&input.file), looked, survey })
    }

    /// Compares the file with the table, and makes the session's options and the source of rows.
    pub(in crate::cli) fn prepare(
        self,
        input: &InputArgs,
        table: &TableDef,
        batch_rows: usize,
        keep: bool,
    ) -> Result<Prepared, CliError> {
        let Self { name, looked, survey } = self;
        table::check_columns(&name, &survey, table, input.does())?;
        let fields = table::session_fields(&looked, &survey, table, input.does());
        let as_arrow = match input.payload {
            Some(payload) => payload == PayloadArg::Arrow,
            None => survey.arrow.is_some(),
        };
        let open = OpenOptions::new(&input.table);
        let open = match input.does() {
            Does::ByColumn(column) => open.op_column(column),
            Does::Each(Mode::Put) => open.mode(WriteMode::Put),
            Does::Each(Mode::Merge) => open.mode(WriteMode::Merge),
            Does::Each(Mode::Insert) => open.mode(WriteMode::Insert),
            Does::Each(Mode::Delete) => open.mode(WriteMode::Delete),
        };
        let columns = schema_to_proto(&Schema { fields: fields.clone() });
        let arrow = match (&survey.arrow, as_arrow) {
            (_, false) => None,
            (Some(schema), true) => Some(Arc::clone(schema)),
            (None, true) => Some(Arc::new(schema_to_arrow(&columns).map_err(ClientError::from)?)),
        };
        let open = match &arrow {
            Some(schema) => match survey.spark {
                Some(json) => open.arrow(Arc::clone(schema)).open(|open| open.spark_schema_json = json),
                None => open.arrow(Arc::clone(schema)),
            },
            None => open.columns(columns),
        };
        let fit = Fit {
            mode: table.store_assignment,
            exact_only: as_arrow,
            drop_unknown: table.unknown_fields == UnknownFields::Drop,
            show_values: table.show_values_in_outcomes,
        };
        let merges = match input.does() {
            Does::Each(Mode::Merge) => Merges::All,
            Does::Each(_) => Merges::None,
            Does::ByColumn(column) => {
                fields.iter().position(|field| field.name == column).map_or(Merges::None, Merges::ByColumn)
            }
        };
        let settings = Settings { batch_rows, arrow, keep, fit, merges };
        let source: Box<dyn Source> = match looked {
            Looked::Csv(input) => Box::new(TextSource::csv(input, fields, &settings)?),
            Looked::Ndjson(input) => Box::new(TextSource::ndjson(input, fields, &settings)?),
            Looked::Columnar(file) => Box::new(file.into_source(&settings)),
        };
        Ok(Prepared { name, open, source })
    }
}

fn look(path: &str, format: Option<Format>, infer: bool, batch_rows: usize) -> Result<(Looked, Survey), CliError> {
    let input = Input::open(path)?;
    let format = format.map_or_else(|| input.format(), Ok)?;
    Ok(match format {
        Format::Csv => {
            let survey = text::survey_csv(&input, infer)?;
            (Looked::Csv(input), survey)
        }
        Format::Ndjson => {
            let survey = text::survey_ndjson(&input)?;
            (Looked::Ndjson(input), survey)
        }
        Format::Parquet | Format::Arrow => {
            let file = Columnar::open(input, format, batch_rows)?;
            let survey = file.survey()?;
            (Looked::Columnar(Box::new(file)), survey)
        }
    })
}

fn display_name(file: &str) -> String {
    match file {
        "-" => "standard input".to_owned(),
        path => std::path::Path::new(path).file_name().unwrap_or(path.as_ref()).to_string_lossy().into_owned(),
    }
}

/// Runs what reads files beside the run-time's threads.
pub(in crate::cli) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, CliError> + Send + 'static,
) -> Result<T, CliError> {
    let done = tokio::task::spawn_blocking(work).await;
    done.unwrap_or_else(|error| Err(CliError::usage(format!("reading the file failed: {error}"))))
}
