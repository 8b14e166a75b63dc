//! The dry run: a sample of rows, checked by the gateway and not written.

use arrow_array::RecordBatch;
use prost::Message as _;

use super::arrow_ipc::{ArrowEncoder, same_columns, schema_message};
use super::error::ClientError;
use super::tables::Tables;
use super::wire::{Payload, RowsBuffer};
use super::writer::OpenOptions;
use crate::limits::{BATCH_MAX_ROWS, CLIENT_CALL_TIMEOUT, MESSAGE_MAX_BYTES};
use crate::proto::v1::check_rows_request::Payload as WirePayload;
use crate::proto::v1::table_service_client::TableServiceClient;
use crate::proto::v1::{ArrowBatch, CheckRowsRequest, CheckRowsResponse, RowBatch};

/// Room for what is in a message beside its rows and its Open: tags, lengths, rates.
const FRAME_BYTES: usize = 128;

/// Rows to check.
#[derive(Debug, Clone)]
pub enum Sample {
    /// Positional rows.
    Rows(RowBatch),
    /// Columns, for options with an Arrow schema.
    Arrow(RecordBatch),
}

/// What the estimate of a check is for.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct CheckRates {
    /// Rows a second to estimate capacity for.
    pub rows_per_second: f64,
    /// What a million write request units cost, in USD. Default: the gateway's.
    pub usd_per_million_write_units: Option<f64>,
}

impl Tables {
    /// Checks a sample of rows as a session with these options would, and estimates item sizes, capacity and cost. Nothing is
    /// written. Of a sample that does not fit one message, as many rows from its start are checked as do: accepted and
    /// rejected rows say how many.
    ///
    /// # Errors
    ///
    /// What the gateway answers; that the first row alone is larger than a message.
    pub async fn check(
        &self,
        options: OpenOptions,
        sample: Sample,
        rates: CheckRates,
    ) -> Result<CheckRowsResponse, ClientError> {
        let OpenOptions { mut open, arrow, compression, .. } = options;
        let wrong = |message: String| ClientError::WrongPayload { message };
        let arrow_error = |error: arrow_schema::ArrowError| wrong(error.to_string());
        if let Some(schema) = &arrow {
            open.arrow_schema = schema_message(schema).map_err(arrow_error)?;
        }
        let max_bytes = MESSAGE_MAX_BYTES.saturating_sub(open.encoded_len() + FRAME_BYTES);
        let payload = match (sample, arrow) {
            (Sample::Rows(mut rows), None) => {
                rows.rows.truncate(fitting(&rows, max_bytes)?);
                WirePayload::Rows(rows)
            }
            (Sample::Arrow(batch), Some(schema)) => {
                if !same_columns(&schema, &batch.schema()) {
                    return Err(wrong("its columns are not those of the options' schema".to_owned()));
                }
                let encoder = ArrowEncoder::try_new(schema, compression, max_bytes, BATCH_MAX_ROWS);
                let (payload, _) =
                    encoder.and_then(|mut encoder| encoder.encode_from(&batch, 0)).map_err(arrow_error)?;
                match payload {
                    Payload::Arrow(ipc) if ipc.len() > max_bytes => {
                        return Err(ClientError::RowTooLarge { row: 0, bytes: ipc.len(), max_bytes });
                    }
                    Payload::Arrow(ipc_messages) => WirePayload::Arrow(ArrowBatch { ipc_messages }),
                    Payload::Rows(_) | Payload::Released { .. } => return Err(wrong("it is not Arrow".to_owned())),
                }
            }
            (Sample::Rows(_), Some(_)) => return Err(wrong("the options are for Arrow batches".to_owned())),
            (Sample::Arrow(_), None) => return Err(wrong("the options are for rows, not Arrow".to_owned())),
        };
        let request = CheckRowsRequest {
            table: open.table.clone(),
            open: Some(open),
            rows_per_second: rates.rows_per_second,
            usd_per_million_write_units: rates.usd_per_million_write_units,
            payload: Some(payload),
        };
        let call = async |channel, request| {
            let client = TableServiceClient::new(channel).max_encoding_message_size(MESSAGE_MAX_BYTES);
            client.max_decoding_message_size(MESSAGE_MAX_BYTES).check_rows(request).await
        };
        self.client().unary(CLIENT_CALL_TIMEOUT, request, call).await
    }
}

/// How many rows from the start fit so many bytes.
fn fitting(rows: &RowBatch, max_bytes: usize) -> Result<usize, ClientError> {
    let mut bytes = 0;
    for (at, row) in rows.rows.iter().take(BATCH_MAX_ROWS).enumerate() {
        bytes += RowsBuffer::row_bytes(row);
        if bytes > max_bytes {
            return if at == 0 { Err(ClientError::RowTooLarge { row: 0, bytes, max_bytes }) } else { Ok(at) };
        }
    }
    Ok(rows.rows.len().min(BATCH_MAX_ROWS))
}
