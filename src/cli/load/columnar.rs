//! Parquet and Arrow IPC: files that say their own types.

use std::collections::BTreeMap;
use std::io::{BufReader, Cursor, Read, Seek};
use std::sync::Arc;

use arrow_array::RecordBatch;
use arrow_ipc::reader::{FileReader, StreamReader};
use arrow_schema::{ArrowError, SchemaRef};
use parquet::arrow::arrow_reader::{ArrowReaderMetadata, ArrowReaderOptions, ParquetRecordBatchReaderBuilder};
use parquet::file::reader::ChunkReader;

use super::input::{Format, Input, Seekable};
use super::prepare::{Settings, Survey};
use super::source::{Block, Content, Kept, Origin, Source, arrow_to_rows};
use super::spark_file::SparkFile;
use crate::api::convert::schema_from_proto;
use crate::cli::CliError;
use crate::client::ClientError;
use crate::client::convert::schema_from_arrow;
use crate::payload::arrow::SparkError;

/// Record batches, one after the other.
type Batches = Box<dyn Iterator<Item = Result<RecordBatch, ArrowError>> + Send>;

/// An opened file: its schema, its rows where it says them, its batches.
pub(super) struct Columnar {
    name: String,
    schema: SchemaRef,
    /// What Spark says of a file that it wrote.
    spark: Option<SparkFile>,
    rows: Option<u64>,
    batches: Batches,
}

impl Columnar {
    pub(super) fn open(input: Input, format: Format, batch_rows: usize) -> Result<Self, CliError> {
        let name = input.name.clone();
        let seekable = input.into_seekable()?;
        match (format, seekable) {
            (Format::Parquet, Seekable::File(file)) => Self::parquet(name, file, batch_rows),
            (Format::Parquet, Seekable::Memory(bytes)) => Self::parquet(name, bytes, batch_rows),
            (_, Seekable::File(file)) => Self::arrow(name, BufReader::new(file)),
            (_, Seekable::Memory(bytes)) => Self::arrow(name, Cursor::new(bytes)),
        }
    }

    fn parquet(name: String, bytes: impl ChunkReader + 'static, batch_rows: usize) -> Result<Self, CliError> {
        let fail = |error: parquet::errors::ParquetError| {
            let text = error.to_string();
            let text = text.strip_prefix("Parquet error: ").unwrap_or(&text);
            CliError::usage(format!("{name} is not a Parquet file that can be read: {text}"))
        };
        let mut metadata = ArrowReaderMetadata::load(&bytes, ArrowReaderOptions::new()).map_err(fail)?;
        let spark = SparkFile::of(metadata.schema());
        if let Some(spark) = &spark {
            let options = ArrowReaderOptions::new().with_schema(Arc::new(spark.read_as(metadata.schema())));
            metadata = ArrowReaderMetadata::try_new(Arc::clone(metadata.metadata()), options).map_err(fail)?;
        }
        let rows = u64::try_from(metadata.metadata().file_metadata().num_rows()).ok();
        let builder = ParquetRecordBatchReaderBuilder::new_with_metadata(bytes, metadata);
        let schema = Arc::clone(builder.schema());
        let reader = builder.with_batch_size(batch_rows).build().map_err(fail)?;
        Ok(Self { name, schema, spark, rows, batches: Box::new(reader) })
    }

    fn arrow(name: String, mut bytes: impl Read + Seek + Send + 'static) -> Result<Self, CliError> {
        let fail = |error: ArrowError| {
            CliError::usage(format!("{name} is not an Arrow IPC file or stream that can be read: {error}"))
        };
        let mut magic = [0; 6];
        let is_file = bytes.read_exact(&mut magic).is_ok() && &magic == b"ARROW1";
        bytes.rewind().map_err(|error| CliError::usage(format!("{name} cannot be read: {error}")))?;
        let (schema, batches): (_, Batches) = if is_file {
            let reader = FileReader::try_new(bytes, None).map_err(fail)?;
            (reader.schema(), Box::new(reader))
        } else {
            let reader = StreamReader::try_new(bytes, None).map_err(fail)?;
            (reader.schema(), Box::new(reader))
        };
        Ok(Self { name, spark: None, schema, rows: None, batches })
    }

    /// What the file says of itself.
    pub(super) fn survey(&self) -> Result<Survey, CliError> {
        let schema = schema_from_arrow(&self.schema).map_err(ClientError::from);
        let schema = schema.map_err(|error| CliError::usage(format!("{}: {error}", self.name)))?;
        let schema = schema_from_proto("columns", &schema)
            .map_err(|error| CliError::usage(format!("{}: {error}", self.name)))?;
        let refined = match &self.spark {
            None => schema.clone(),
            Some(spark) => spark.refined(&self.schema).map_err(|error| {
                let hint = match &error {
                    SparkError::Types { spark, .. } if spark == "variant" => {
                        "; a variant must be written whole (spark.sql.variant.writeShredding.enabled=false)"
                    }
                    _ => "",
                };
                CliError::usage(format!("{}: {error}{hint}", self.name))
            })?,
        };
        // Notes of whoever wrote the file (pandas writes kilobytes) are nothing to the gateway.
        let bare = arrow_schema::Schema::new(self.schema.fields().clone());
        Ok(Survey {
            columns: schema.fields.iter().map(|field| field.name.clone()).collect(),
            schema: refined,
            own: schema,
            spark: self.spark.as_ref().map(|spark| spark.json.clone()),
            arrow: Some(Arc::new(bare)),
            rows: self.rows,
        })
    }

    /// Its rows.
    pub(super) fn into_source(self, settings: &Settings) -> ColumnarSource {
        ColumnarSource {
            name: self.name,
            batches: self.batches,
            rest: None,
            as_arrow: settings.arrow.is_some(),
            keep: settings.keep,
            batch_rows: settings.batch_rows,
            rows: 0,
        }
    }
}

/// Reads rows of a columnar format.
pub(super) struct ColumnarSource {
    name: String,
    batches: Batches,
    /// What is left of a batch that is larger than was asked for.
    rest: Option<RecordBatch>,
    as_arrow: bool,
    keep: bool,
    batch_rows: usize,
    rows: u64,
}

impl Source for ColumnarSource {
    fn next(&mut self) -> Result<Option<Block>, CliError> {
        let batch = match self.rest.take() {
            Some(batch) => batch,
            None => match self.batches.next() {
                Some(Ok(batch)) => batch,
                Some(Err(error)) => {
                    let after = self.rows;
                    return Err(CliError::usage(format!("{} is broken after row {after}: {error}", self.name)));
                }
                None => return Ok(None),
            },
        };
        let rows = batch.num_rows().min(self.batch_rows);
        if rows < batch.num_rows() {
            self.rest = Some(batch.slice(rows, batch.num_rows() - rows));
        }
        let batch = batch.slice(0, rows);
        let first = self.rows + 1;
        self.rows += rows as u64;
        let kept = if self.keep { Kept::Arrow { batch: batch.clone(), first } } else { Kept::Nothing };
        let mut origin = Origin { numbers: (first..=self.rows).collect(), kept, dropped: BTreeMap::new() };
        let mut rejects = Vec::new();
        let content = match self.as_arrow {
            true => Content::Arrow(batch),
            false => Content::Rows(arrow_to_rows(batch, &mut origin, &mut rejects)?),
        };
        Ok(Some(Block { content, origin, rejects }))
    }
}
