//! Reads: one row or many, by key, and the rows under one partition key in order; in the table's declared types.

use std::num::NonZeroU64;
use std::time::Duration;

use tonic::Streaming;

use super::channel::Client;
use super::error::ClientError;
use crate::limits::{CLIENT_CALL_TIMEOUT, MESSAGE_MAX_BYTES};
use crate::proto::v1::read_service_client::ReadServiceClient;
use crate::proto::v1::{
    BatchGetRowsRequest, Consistency, GetRowRequest, ReadRangeRequest, ReadRangeResponse, ReadStatus, Row, RowKey,
    Schema, SortOrder, TableKeys, Value,
};

/// Reads rows by key. Made by [`Client::reader`]; cheap to clone.
#[derive(Debug, Clone)]
pub struct Reader {
    client: Client,
    strong: bool,
    deadline: Duration,
}

/// What became of one key.
#[derive(Debug, Clone, PartialEq)]
pub enum Lookup {
    /// The row's values, in the order of the answer's columns.
    Found(Vec<Value>),
    /// There is no such row.
    NotFound,
    /// There is a row whose time to live has passed.
    Expired,
    /// It is not known in time whether there is a row.
    Unavailable(String),
    /// The caller may not read the table, or it does not exist.
    Denied(String),
    /// There is an item that does not fit the schema.
    Undecodable(String),
}

/// The answer to [`Reader::get_row`].
#[derive(Debug, Clone, PartialEq)]
pub struct RowRead {
    /// The columns, with their types.
    pub columns: Schema,
    /// What became of the key.
    pub lookup: Lookup,
}

/// The answer for one table of [`Reader::batch_get_rows`].
#[derive(Debug, Clone, PartialEq)]
pub struct TableRead {
    /// The table.
    pub table: String,
    /// The columns, with their types; empty when denied.
    pub columns: Schema,
    /// One for each key, in the order asked.
    pub lookups: Vec<Lookup>,
}

/// A range for [`Reader::range`]: by default every row under the partition key, the smallest sort key first.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct RangeOptions {
    /// The smallest sort key, included: the values of all sort columns.
    pub from: Option<Vec<Value>>,
    /// The greatest sort key, excluded: the values of all sort columns.
    pub to: Option<Vec<Value>>,
    /// The greatest sort key first.
    pub descending: bool,
    /// At most so many rows.
    pub limit: Option<NonZeroU64>,
    /// The columns to return, in this order; empty for all.
    pub columns: Vec<String>,
}

/// The rows of a range. The gateway fetches as they are asked for.
#[derive(Debug)]
pub struct RangeRows {
    client: Client,
    columns: Schema,
    rows: std::vec::IntoIter<Row>,
    stream: Streaming<ReadRangeResponse>,
}

impl RangeRows {
    /// The columns, with their types.
    pub fn columns(&self) -> &Schema {
        &self.columns
    }

    /// The next row's values, in the order of the columns; `None` at the end of the range.
    ///
    /// # Errors
    ///
    /// Where the gateway cannot go on. The rows before are good; the rest can be read from the last one's sort key.
    pub async fn next(&mut self) -> Result<Option<Vec<Value>>, ClientError> {
        loop {
            if let Some(row) = self.rows.next() {
                return values(row, &self.columns).map(Some);
            }
            let message = self.stream.message().await.map_err(|status| self.client.error(&status))?;
            let Some(message) = message else { return Ok(None) };
            self.rows = message.rows.into_iter();
        }
    }
}

impl Reader {
    pub(crate) fn new(client: Client) -> Self {
        Self { client, strong: false, deadline: CLIENT_CALL_TIMEOUT }
    }

    /// Sees every confirmed write, at twice the price. Default: eventually consistent.
    #[must_use]
    pub fn strong(mut self, strong: bool) -> Self {
        self.strong = strong;
        self
    }

    /// The time that a read may take with all its attempts.
    #[must_use]
    pub fn deadline(mut self, deadline: Duration) -> Self {
        self.deadline = deadline;
        self
    }

    /// Reads one row. `key` holds the values of the partition columns, then of the sort columns; with no `columns` all of
    /// the table's are returned.
    ///
    /// # Errors
    ///
    /// Where the call as a whole fails. That a row is not there is no error: see [`Lookup`].
    pub async fn get_row(&self, table: &str, key: Vec<Value>, columns: &[&str]) -> Result<RowRead, ClientError> {
        let request = GetRowRequest {
            table: table.to_owned(),
            key: Some(RowKey { values: key }),
            columns: columns.iter().map(|&column| column.to_owned()).collect(),
            consistency: self.consistency().into(),
        };
        let call = async |channel, request| {
            ReadServiceClient::new(channel).max_decoding_message_size(MESSAGE_MAX_BYTES).get_row(request).await
        };
        let answer = self.client.unary(self.deadline, request, call).await?;
        let status = answer.status();
        let columns = answer.columns.unwrap_or_default();
        Ok(RowRead { lookup: lookup(status, answer.row, answer.message, &columns)?, columns })
    }

    /// Reads rows of one or several tables. Keys may repeat; answers come in the order asked.
    ///
    /// # Errors
    ///
    /// Where the call as a whole fails.
    pub async fn batch_get_rows(&self, requests: Vec<TableKeys>) -> Result<Vec<TableRead>, ClientError> {
        let asked: Vec<usize> = requests.iter().map(|request| request.keys.len()).collect();
        let request = BatchGetRowsRequest { requests, consistency: self.consistency().into() };
        let call = async |channel, request| {
            ReadServiceClient::new(channel).max_decoding_message_size(MESSAGE_MAX_BYTES).batch_get_rows(request).await
        };
        let answer = self.client.unary(self.deadline, request, call).await?;
        if !answer.results.iter().map(|result| result.rows.len()).eq(asked) {
            return Err(ClientError::Protocol { message: "the answer has not one row for each key".to_owned() });
        }
        let mut tables = Vec::with_capacity(answer.results.len());
        for result in answer.results {
            let columns = result.columns.unwrap_or_default();
            let mut lookups = Vec::with_capacity(result.rows.len());
            for row in result.rows {
                lookups.push(lookup(row.status(), row.row, row.message, &columns)?);
            }
            tables.push(TableRead { table: result.table, columns, lookups });
        }
        Ok(tables)
    }

    /// Reads the rows under one partition key, in the order of their sort keys. `partition` holds the values of the
    /// partition columns. The reader's deadline is for the first rows; the rest come as they are asked for.
    ///
    /// # Errors
    ///
    /// Where the call fails before its first rows.
    pub async fn range(
        &self,
        table: &str,
        partition: Vec<Value>,
        options: RangeOptions,
    ) -> Result<RangeRows, ClientError> {
        let key = |values| RowKey { values };
        let request = ReadRangeRequest {
            table: table.to_owned(),
            partition: Some(key(partition)),
            sort_from: options.from.map(key),
            sort_to: options.to.map(key),
            limit: options.limit.map_or(0, NonZeroU64::get),
            order: if options.descending { SortOrder::Descending } else { SortOrder::Ascending }.into(),
            columns: options.columns,
            consistency: self.consistency().into(),
        };
        let call = async |channel, request: tonic::Request<ReadRangeRequest>| {
            // The deadline that the call would carry is not the stream's.
            let (mut metadata, extensions, message) = request.into_parts();
            metadata.remove("grpc-timeout");
            let request = tonic::Request::from_parts(metadata, extensions, message);
            let client = ReadServiceClient::new(channel).max_decoding_message_size(MESSAGE_MAX_BYTES);
            let mut stream = { client }.read_range(request).await?.into_inner();
            let first = stream.message().await?;
            Ok(tonic::Response::new((first, stream)))
        };
        let (first, stream) = self.client.unary(self.deadline, request, call).await?;
        let Some(ReadRangeResponse { columns: Some(columns), rows }) = first else {
            let message = "a range began without its columns".to_owned();
            return Err(ClientError::Protocol { message });
        };
        Ok(RangeRows { client: self.client.clone(), columns, rows: rows.into_iter(), stream })
    }

    fn consistency(&self) -> Consistency {
        if self.strong { Consistency::Strong } else { Consistency::Eventual }
    }
}

fn lookup(status: ReadStatus, row: Option<Row>, message: String, columns: &Schema) -> Result<Lookup, ClientError> {
    Ok(match status {
        ReadStatus::Found => Lookup::Found(values(row.unwrap_or_default(), columns)?),
        ReadStatus::NotFound => Lookup::NotFound,
        ReadStatus::Expired => Lookup::Expired,
        ReadStatus::Unavailable => Lookup::Unavailable(message),
        ReadStatus::Denied => Lookup::Denied(message),
        ReadStatus::Undecodable => Lookup::Undecodable(message),
        ReadStatus::Unspecified => {
            return Err(ClientError::Protocol { message: "a key was answered without a status".to_owned() });
        }
    })
}

fn values(row: Row, columns: &Schema) -> Result<Vec<Value>, ClientError> {
    let mut values = row.values;
    if values.len() > columns.fields.len() {
        return Err(ClientError::Protocol { message: "a row has more values than columns".to_owned() });
    }
    // Missing trailing values are nulls.
    values.resize_with(columns.fields.len(), Value::default);
    Ok(values)
}
