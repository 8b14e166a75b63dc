//! Blocks of rows on their way from a file to the writer, with what is needed to say where a rejected row came from.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow_array::RecordBatch;
use arrow_schema::SchemaRef;
use serde_json::value::RawValue;

use crate::api::convert::schema_from_proto;
use crate::cli::CliError;
use crate::cli::get::row_json;
use crate::client::convert::{ConvertError, arrow_from_rows, rows_from_arrow, schema_from_arrow};
use crate::payload::values::Misfit;
use crate::proto::v1::{Row, RowReason};

/// Gives the rows of a file, block by block. Runs on a thread of its own.
pub(in crate::cli) trait Source: Send {
    /// The next block; `None` at the end. An error comes after the blocks before it, and ends the load.
    fn next(&mut self) -> Result<Option<Block>, CliError>;
}

/// Some rows.
pub(in crate::cli) struct Block {
    /// What to send.
    pub(in crate::cli) content: Content,
    /// Where each row of `content` came from.
    pub(in crate::cli) origin: Origin,
    /// Rows that are not in `content`, because they cannot be sent.
    pub(in crate::cli) rejects: Vec<Rejected>,
}

/// What to send.
pub(in crate::cli) enum Content {
    Rows(Vec<Row>),
    Arrow(RecordBatch),
}

impl Content {
    pub(in crate::cli) fn rows(&self) -> usize {
        match self {
            Self::Rows(rows) => rows.len(),
            Self::Arrow(batch) => batch.num_rows(),
        }
    }
}

/// A row that was not accepted, by the loader or by the gateway.
pub(in crate::cli) struct Rejected {
    /// The row's number in the file, from 1.
    pub(in crate::cli) number: u64,
    /// Why.
    pub(in crate::cli) misfit: Misfit,
    /// The row as the file has it; `None` where nobody asked for it.
    pub(in crate::cli) values: Option<RowText>,
}

/// A row as the file has it, for the rejects file.
#[derive(Debug, serde::Serialize)]
#[serde(untagged)]
pub(in crate::cli) enum RowText {
    /// A line of JSON, byte for byte: a reader's numbers and maps would round its digits and forget its repeated names.
    Line(Box<RawValue>),
    /// What was not JSON, shown as JSON.
    Shown(serde_json::Value),
}

impl RowText {
    /// A line of an NDJSON file.
    pub(in crate::cli) fn line(line: String) -> Self {
        // A line that is no JSON ends the load, so that the text is only for form's sake.
        RawValue::from_string(line.clone()).map_or_else(|_| Self::Shown(line.into()), Self::Line)
    }

    /// The cells of a CSV file's record.
    pub(in crate::cli) fn record(headers: &[String], record: &csv::StringRecord) -> Self {
        let cells = headers.iter().zip(record).map(|(name, cell)| (name.clone(), cell.into()));
        Self::Shown(cells.collect::<serde_json::Map<_, _>>().into())
    }
}

/// Where rows came from: their numbers, and their text where rejected rows are to be written.
pub(in crate::cli) struct Origin {
    /// Numbers of the rows in the file, from 1.
    pub(in crate::cli) numbers: Vec<u64>,
    /// The rows as the file has them.
    pub(in crate::cli) kept: Kept,
    /// By the row's number: the paths of the fields that were left out of it.
    pub(in crate::cli) dropped: BTreeMap<u64, Vec<String>>,
}

/// Rows as the file has them.
pub(in crate::cli) enum Kept {
    /// Nobody asked for them.
    Nothing,
    /// Cells.
    Records { headers: Arc<[String]>, records: Vec<csv::StringRecord> },
    /// Lines of JSON.
    Lines(Vec<String>),
    /// Columns; row `first` of the file is the first of the batch.
    Arrow { batch: RecordBatch, first: u64 },
}

impl Origin {
    /// Takes a row out, for it is not sent.
    fn remove(&mut self, at: usize, misfit: Misfit) -> Rejected {
        let values = self.values(at);
        let number = self.numbers.remove(at);
        self.dropped.remove(&number);
        match &mut self.kept {
            Kept::Records { records, .. } => drop(records.remove(at)),
            Kept::Lines(lines) => drop(lines.remove(at)),
            Kept::Nothing | Kept::Arrow { .. } => {}
        }
        Rejected { number, misfit, values }
    }

    /// A row as the file has it; `None` where it was not kept.
    pub(in crate::cli) fn values(&self, at: usize) -> Option<RowText> {
        match &self.kept {
            Kept::Nothing => None,
            Kept::Records { headers, records } => Some(RowText::record(headers, &records[at])),
            Kept::Lines(lines) => Some(RowText::line(lines[at].clone())),
            Kept::Arrow { batch, first } => {
                let row = batch.slice((self.numbers[at] - first) as usize, 1);
                let shown = arrow_json(&row).unwrap_or_else(|error| format!("cannot be shown: {error}").into());
                Some(RowText::Shown(shown))
            }
        }
    }
}

fn arrow_json(row: &RecordBatch) -> Result<serde_json::Value, CliError> {
    let schema = schema_from_arrow(&row.schema()).map_err(crate::client::ClientError::from)?;
    let rows = rows_from_arrow(row).map_err(crate::client::ClientError::from)?;
    let schema = schema_from_proto("columns", &schema).map_err(|error| CliError::usage(error.to_string()))?;
    Ok(row_json(&schema, &rows.rows[0].values).into())
}

/// Rows that go as Arrow. Those that cannot are rejected, and the others go.
pub(in crate::cli) fn rows_to_arrow(
    schema: &SchemaRef,
    mut rows: Vec<Row>,
    origin: &mut Origin,
    rejects: &mut Vec<Rejected>,
) -> Result<RecordBatch, CliError> {
    loop {
        match arrow_from_rows(schema, &rows) {
            Ok(batch) => return Ok(batch),
            Err(error) => {
                let at = reject(error, origin, rejects)?;
                rows.remove(at);
            }
        }
    }
}

/// Columns that go as rows. Rows that cannot are rejected, and the others go.
pub(in crate::cli) fn arrow_to_rows(
    mut batch: RecordBatch,
    origin: &mut Origin,
    rejects: &mut Vec<Rejected>,
) -> Result<Vec<Row>, CliError> {
    loop {
        match rows_from_arrow(&batch) {
            Ok(rows) => return Ok(rows.rows),
            Err(error) => {
                let at = reject(error, origin, rejects)?;
                let kept = [batch.slice(0, at), batch.slice(at + 1, batch.num_rows() - at - 1)];
                let joined = arrow_select::concat::concat_batches(&batch.schema(), &kept);
                batch = joined.map_err(|error| CliError::usage(error.to_string()))?;
            }
        }
    }
}

fn reject(error: ConvertError, origin: &mut Origin, rejects: &mut Vec<Rejected>) -> Result<usize, CliError> {
    let Some(at) = error.row else { return Err(CliError::usage(error.to_string())) };
    let misfit = Misfit::new(&error.path, RowReason::Inexact, error.message);
    rejects.push(origin.remove(at, misfit));
    Ok(at)
}
