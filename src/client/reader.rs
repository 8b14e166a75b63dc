//! Point reads: one row or many, by key, in the table's declared types.

use std::time::Duration;

use super::channel::Client;
use super::error::ClientError;
use crate::limits::{CLIENT_CALL_TIMEOUT, MESSAGE_MAX_BYTES};
use crate::proto::v1::read_service_client::ReadServiceClient;
use crate::proto::v1::{
    BatchGetRowsRequest, Consistency, GetRowRequest, ReadStatus, Row, RowKey, Schema, TableKeys, Value,
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

    fn consistency(&self) -> Consistency {
        if self.strong { Consistency::Strong } else { Consistency::Eventual }
    }
}

fn lookup(status: ReadStatus, row: Option<Row>, message: String, columns: &Schema) -> Result<Lookup, ClientError> {
    Ok(match status {
        ReadStatus::Found => {
            let mut values = row.unwrap_or_default().values;
            if values.len() > columns.fields.len() {
                return Err(ClientError::Protocol { message: "a row has more values than columns".to_owned() });
            }
            // Missing trailing values are nulls.
            values.resize_with(columns.fields.len(), Value::default);
            Lookup::Found(values)
        }
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
