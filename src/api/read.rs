//! `ReadService`: rows by key and by range, over the [`Catalog`] and the [`PointReader`].
//!
//! What is wrong with the request ends the call; what happens to a key is that key's status. Whether the caller may read a
//! table is asked before the table is looked up, and before each message of a range.

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use futures_util::future::join_all;
use futures_util::stream::{self, BoxStream, StreamExt as _};
use opentelemetry::KeyValue;
use tokio::time::{Instant, timeout_at};
use tonic::{Request, Response, Status};

use super::convert::{self, FieldError};
use super::deadline::{Deadline, InvalidTimeout};
use super::ingest::ends::until;
use super::permit;
use super::quota::{Charges, FOUND};
use super::status::{self, BACKEND_RETRY};
use crate::access::{Caller, Permission};
use crate::catalog::{Catalog, CatalogError, TableVersion};
use crate::limits::READ_MAX_KEYS;
use crate::payload::decode::{ProjectionError, RowDecoder};
use crate::payload::range_key::{self, RangeEnd, RangeKeyError, RangeKeys, RangePartition};
use crate::payload::read_key::{KeyPlan, KeysError, PlacedKey};
use crate::payload::shard::ShardCounts;
use crate::proto::v1::read_service_server::ReadService;
use crate::proto::v1::{self, Consistency, ReadStatus, RowKey, RowResult, SortOrder};
use crate::read::{
    Patience, PlacedRead, PointReader, RangeError, RangeRead, RangeRows, ReadOptions, ReadOutcome, Unavailable,
};
use crate::schema::sharding::Sharding;
use crate::store::ReadError;
use crate::telemetry::spans::note_current;

/// The service.
#[derive(Debug, Clone)]
pub struct ReadApi {
    catalog: Catalog,
    reader: PointReader,
    charges: Charges,
}

impl ReadApi {
    /// The service over a catalog and a reader.
    pub fn new(catalog: Catalog, reader: PointReader, charges: Charges) -> Self {
        Self { catalog, reader, charges }
    }

    /// The table's newest version, if the caller may read the table and the catalog answers in time.
    async fn table(&self, caller: &Caller, name: &str, deadline: Deadline) -> Result<Arc<TableVersion>, TableFault> {
        permit::ask(caller, Permission::Read, name).map_err(TableFault::None)?;
        match timeout_at(deadline.answer_by, self.catalog.get(name)).await {
            Err(_elapsed) => Err(TableFault::Call(deadline_exceeded())),
            Ok(Ok(version)) => Ok(version),
            Ok(Err(error @ CatalogError::NotFound { .. })) => Err(TableFault::None(error.into())),
            Ok(Err(error)) => Err(TableFault::Call(error.into())),
        }
    }
}

impl ReadApi {
    /// How many shards the keys of an adaptive table have; a map that is too old would hide rows.
    async fn shards(&self, table: &TableVersion, by: Instant) -> Result<Arc<ShardCounts>, Status> {
        if !matches!(table.def.sharding(), Sharding::Adaptive { .. }) {
            return Ok(Arc::default());
        }
        match timeout_at(by, self.catalog.shards().for_reading(&table.dynamodb_table)).await {
            Ok(shards) => Ok(shards?),
            Err(_elapsed) => {
                let message = "the shard map could not be read in time";
                Err(status::unavailable(status::reason::BACKEND_UNAVAILABLE, message, BACKEND_RETRY))
            }
        }
    }
}

/// Why a table's definition is not there.
enum TableFault {
    /// There is no such table for this caller; in a call for several tables, the others are read.
    None(Status),
    /// Nobody knows: the call ends.
    Call(Status),
}

impl From<TableFault> for Status {
    fn from(fault: TableFault) -> Self {
        match fault {
            TableFault::None(status) | TableFault::Call(status) => status,
        }
    }
}

#[tonic::async_trait]
impl ReadService for ReadApi {
    async fn get_row(&self, request: Request<v1::GetRowRequest>) -> Result<Response<v1::GetRowResponse>, Status> {
        let (caller, deadline, request) = accept(request)?;
        let options = options(request.consistency, deadline)?;
        note_current(|| vec![KeyValue::new("forebay.table", request.table.clone())]);
        let table = self.table(&caller, &request.table, deadline).await?;
        let decoder = decoder("columns", &table, &request.columns)?;
        let key = request.key.ok_or_else(|| FieldError::new("key", "is missing"))?;
        let shards = self.shards(&table, deadline.answer_by).await?;
        let key = encode_keys(&table, vec![key], &shards, |_| "key".to_owned())?.swap_remove(0);
        self.charges.read(&caller, "key", &[(&request.table, 1)])?;

        let began = Instant::now();
        let outcome = self.reader.get_placed_row(table.dynamodb_table.clone(), &decoder, key, options).await;
        self.charges.answered(began, std::iter::once(outcome_label(&outcome)));
        match &outcome {
            ReadOutcome::Unavailable(Unavailable::Deadline) if deadline.from_client => return Err(deadline_exceeded()),
            ReadOutcome::Unavailable(Unavailable::Store(error)) if !is_passing(error) => {
                return Err(error.clone().into());
            }
            _ => {}
        }
        let RowResult { status, row, message } = row_result(outcome);
        let columns = Some(columns(&decoder));
        Ok(Response::new(v1::GetRowResponse { status, row, columns, message }))
    }

    async fn batch_get_rows(
        &self,
        request: Request<v1::BatchGetRowsRequest>,
    ) -> Result<Response<v1::BatchGetRowsResponse>, Status> {
        let (caller, deadline, request) = accept(request)?;
        let options = options(request.consistency, deadline)?;
        let keys: usize = request.requests.iter().map(|request| request.keys.len()).sum();
        // At most a thousand, or it is refused below.
        note_current(|| vec![KeyValue::new("forebay.keys", keys as i64)]);
        if keys > READ_MAX_KEYS || request.requests.len() > READ_MAX_KEYS {
            let tables = request.requests.len();
            let message = format!("{keys} keys of {tables} tables; at most {READ_MAX_KEYS} keys are allowed in a call");
            return Err(status::invalid_argument("requests", message));
        }

        let found =
            join_all(request.requests.iter().map(|request| self.table(&caller, &request.table, deadline))).await;
        let mut tables = Vec::with_capacity(found.len());
        for found in found {
            tables.push(match found {
                Ok(table) => Ok(table),
                Err(TableFault::None(status)) => Err(status.message().to_owned()),
                Err(TableFault::Call(status)) => return Err(status),
            });
        }
        let mut reads = Vec::with_capacity(tables.len());
        let mut answers = Vec::with_capacity(tables.len());
        for (index, (request, table)) in request.requests.into_iter().zip(&tables).enumerate() {
            match table {
                Ok(table) => {
                    let decoder = decoder(&format!("requests[{index}].columns"), table, &request.columns)?;
                    let columns = Some(columns(&decoder));
                    let path = |key| format!("requests[{index}].keys[{key}]");
                    let shards = match self.shards(table, options.answer_by).await {
                        Ok(shards) => shards,
                        Err(status) => {
                            encode_keys(table, request.keys.clone(), &ShardCounts::default(), path)?;
                            let (status, message) = (ReadStatus::Unavailable.into(), status.message().to_owned());
                            let rows = vec![RowResult { status, row: None, message }; request.keys.len()];
                            answers.push((false, v1::TableRows { table: request.table, columns, rows }));
                            continue;
                        }
                    };
                    let keys = encode_keys(table, request.keys, &shards, path)?;
                    reads.push(PlacedRead { dynamodb_table: table.dynamodb_table.clone(), decoder, keys });
                    answers.push((true, v1::TableRows { table: request.table, columns, rows: Vec::new() }));
                }
                Err(why) => {
                    let row = RowResult { status: ReadStatus::Denied.into(), row: None, message: why.clone() };
                    let rows = vec![row; request.keys.len()];
                    answers.push((false, v1::TableRows { table: request.table, columns: None, rows }));
                }
            }
        }

        let charged = answers.iter().filter(|(read, _)| *read).map(|(_, answer)| &*answer.table);
        let keys: Vec<_> = charged.zip(reads.iter().map(|read| read.keys.len())).collect();
        self.charges.read(&caller, "requests", &keys)?;
        let began = Instant::now();
        let outcomes = self.reader.batch_get_placed(reads, options).await;
        self.charges.answered(began, outcomes.iter().flatten().map(outcome_label));
        let mut outcomes = outcomes.into_iter();
        let answer = |(read, mut answer): (bool, v1::TableRows)| {
            if read {
                answer.rows = outcomes.next().unwrap_or_default().into_iter().map(row_result).collect();
            }
            answer
        };
        let results = answers.into_iter().map(answer).collect();
        Ok(Response::new(v1::BatchGetRowsResponse { results }))
    }

    type ReadRangeStream = BoxStream<'static, Result<v1::ReadRangeResponse, Status>>;

    async fn read_range(
        &self,
        request: Request<v1::ReadRangeRequest>,
    ) -> Result<Response<Self::ReadRangeStream>, Status> {
        let patience = Deadline::of_range(request.metadata()).map_err(invalid_timeout)?;
        let (caller, deadline, request) = accept(request)?;
        let strong = strong(request.consistency)?;
        let order: SortOrder = convert::choice("order", request.order)?;
        note_current(|| vec![KeyValue::new("forebay.table", request.table.clone())]);
        let table = self.table(&caller, &request.table, deadline).await?;
        let attributes = decoder("columns", &table, &request.columns)?.attributes().clone();
        let partition = request.partition.ok_or_else(|| FieldError::new("partition", "is missing"))?;
        let keys = RangeKeys { partition, from: request.sort_from, to: request.sort_to };
        let ends = range_key::encode_range(&table.def, keys).map_err(range_ends_error)?;
        let map_by = patience.until.unwrap_or(deadline.answer_by).min(Instant::now() + patience.page);
        let shards = match (table.def.sharding(), &ends.partition) {
            (Sharding::Fixed { shards }, _) => shards,
            (Sharding::Adaptive { .. }, RangePartition::Sharded(key)) => self.shards(&table, map_by).await?.of(key),
            _ => 1,
        };
        let read = RangeRead {
            dynamodb_table: table.dynamodb_table.clone(),
            partition_attribute: ends.partition_attribute,
            places: ends.partition.places(shards),
            sort_attribute: ends.sort_attribute,
            from: ends.from,
            to: ends.to,
            descending: order == SortOrder::Descending,
            limit: (request.limit > 0).then_some(request.limit),
            attributes,
            strong,
        };
        // A range has a row at least: one that is opened and left costs something.
        self.charges.read(&caller, "table", &[(&request.table, 1)])?;
        let rows = self.reader.range(read);
        let (columns, charges) = (request.columns, self.charges.clone());
        let range = RangeStream { caller, charges, table, columns, rows, patience, first: true };
        Ok(Response::new(range.into_stream()))
    }

    type ReadSeriesStream = BoxStream<'static, Result<v1::ReadSeriesResponse, Status>>;

    async fn read_series(
        &self,
        request: Request<v1::ReadSeriesRequest>,
    ) -> Result<Response<Self::ReadSeriesStream>, Status> {
        let (caller, _, request) = accept(request)?;
        permit::ask(&caller, Permission::Read, &request.table)?;
        let message = "ReadSeries is not supported yet, nor is the time-series layout that it reads";
        Err(status::unimplemented(status::reason::NOT_SUPPORTED, message))
    }
}

/// What a range's stream holds: the rows are pulled as the client reads, and with them the pages.
struct RangeStream {
    caller: Caller,
    charges: Charges,
    table: Arc<TableVersion>,
    columns: Vec<String>,
    rows: RangeRows,
    patience: Patience,
    first: bool,
}

impl RangeStream {
    fn into_stream(self) -> BoxStream<'static, Result<v1::ReadRangeResponse, Status>> {
        let next = async |stream: Option<Self>| {
            let mut stream = stream?;
            match stream.next().await {
                Ok(Some(response)) => Some((Ok(response), Some(stream))),
                Ok(None) => None,
                Err(status) => Some((Err(status), None)),
            }
        };
        stream::unfold(Some(self), next).boxed()
    }

    /// The next message. The first one comes even where there are no rows, because it says the columns.
    async fn next(&mut self) -> Result<Option<v1::ReadRangeResponse>, Status> {
        // A range may be read for longer than its caller may read.
        permit::ask(&self.caller, Permission::Read, &self.table.def.name)?;
        // Once a message of a mebibyte; it borrows from the table.
        let decoder = decoder("columns", &self.table, &self.columns)?;
        let rows = self.rows.next_rows(&decoder, self.patience, now_epoch_seconds()).await;
        let rows = rows.map_err(|error| self.status(error))?;
        let first = std::mem::take(&mut self.first);
        // The first row was paid for when the call began.
        let unpaid = rows.as_ref().map_or(0, Vec::len).saturating_sub(usize::from(first));
        let paid = self.charges.read_page(&self.caller, &self.table.def.name, unpaid);
        tokio::select! {
            () = paid => {}
            () = until(self.patience.until) => return Err(deadline_exceeded()),
        }
        // It may have waited for long; and a caller that is gone has no limit to wait for.
        permit::ask(&self.caller, Permission::Read, &self.table.def.name)?;
        self.charges.found(rows.as_ref().map_or(0, Vec::len));
        let columns = first.then(|| columns(&decoder));
        Ok((first || rows.is_some()).then(|| v1::ReadRangeResponse { columns, rows: rows.unwrap_or_default() }))
    }

    fn status(&self, error: RangeError) -> Status {
        match error {
            RangeError::Unavailable(Unavailable::Store(error)) => error.into(),
            RangeError::Unavailable(Unavailable::Deadline) if self.patience.is_over() => deadline_exceeded(),
            RangeError::Unavailable(why) => {
                status::unavailable(status::reason::BACKEND_UNAVAILABLE, why.to_string(), BACKEND_RETRY)
            }
            RangeError::Undecodable { .. } => {
                let table = format!("table/{}", self.table.def.name);
                status::failed_precondition(status::reason::ROW_UNDECODABLE, table, error.to_string())
            }
        }
    }
}

fn accept<T>(request: Request<T>) -> Result<(Caller, Deadline, T), Status> {
    let deadline = Deadline::of_read(request.metadata()).map_err(invalid_timeout)?;
    Ok((Caller::of(request.extensions()), deadline, request.into_inner()))
}

fn invalid_timeout(error: InvalidTimeout) -> Status {
    status::invalid_argument("grpc-timeout", error.to_string())
}

fn options(consistency: i32, deadline: Deadline) -> Result<ReadOptions, FieldError> {
    Ok(ReadOptions {
        strong: strong(consistency)?,
        answer_by: deadline.answer_by,
        now_epoch_seconds: now_epoch_seconds(),
    })
}

fn strong(consistency: i32) -> Result<bool, FieldError> {
    let consistency: Consistency = convert::choice("consistency", consistency)?;
    Ok(consistency == Consistency::Strong)
}

fn now_epoch_seconds() -> i64 {
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since_epoch.as_secs()).unwrap_or(i64::MAX)
}

fn decoder<'a>(path: &str, table: &'a TableVersion, columns: &[String]) -> Result<RowDecoder<'a>, Status> {
    RowDecoder::try_new(&table.def, columns).map_err(|error| match error {
        ProjectionError::Definition(broken) => status::internal(format!("the stored definition is broken: {broken}")),
        wrong => FieldError::new(path, wrong.to_string()).into(),
    })
}

fn encode_keys(
    table: &TableVersion,
    keys: Vec<RowKey>,
    shards: &ShardCounts,
    path: impl Fn(usize) -> String,
) -> Result<Vec<PlacedKey>, Status> {
    let plan = KeyPlan::try_new(&table.def).map_err(KeysError::from);
    let encoded = plan.and_then(|plan| plan.encode_placed(keys, shards));
    encoded.map_err(|error| match error {
        KeysError::Key(wrong) => FieldError::new(path(wrong.index), wrong.to_string()).into(),
        fault => status::internal(fault.to_string()),
    })
}

fn range_ends_error(error: RangeKeyError) -> Status {
    match error {
        RangeKeyError::NoSortKey { .. } => FieldError::new("table", error.to_string()).into(),
        RangeKeyError::End { end, error: KeysError::Key(wrong) } => {
            let field = match end {
                RangeEnd::Partition => "partition",
                RangeEnd::From => "sort_from",
                RangeEnd::To => "sort_to",
            };
            FieldError::new(field, wrong.to_string()).into()
        }
        fault @ RangeKeyError::End { .. } => status::internal(fault.to_string()),
    }
}

fn columns(decoder: &RowDecoder<'_>) -> v1::Schema {
    v1::Schema { fields: decoder.columns().iter().map(|field| convert::field_to_proto(field)).collect() }
}

/// Whether a fault concerns the key now, and not the table until somebody acts.
fn is_passing(error: &ReadError) -> bool {
    matches!(error, ReadError::Throttled { .. } | ReadError::Unavailable { .. })
}

/// What metrics call it.
fn outcome_label(outcome: &ReadOutcome) -> &'static str {
    match outcome {
        ReadOutcome::Found(_) => FOUND,
        ReadOutcome::NotFound => "not_found",
        ReadOutcome::Expired => "expired",
        ReadOutcome::Unavailable(_) => "unavailable",
        ReadOutcome::Undecodable(_) => "undecodable",
    }
}

fn row_result(outcome: ReadOutcome) -> RowResult {
    let (status, row, message) = match outcome {
        ReadOutcome::Found(row) => (ReadStatus::Found, Some(row), String::new()),
        ReadOutcome::NotFound => (ReadStatus::NotFound, None, String::new()),
        ReadOutcome::Expired => (ReadStatus::Expired, None, String::new()),
        ReadOutcome::Unavailable(why) => (ReadStatus::Unavailable, None, why.to_string()),
        ReadOutcome::Undecodable(error) => (ReadStatus::Undecodable, None, error.to_string()),
    };
    RowResult { status: status.into(), row, message }
}

fn deadline_exceeded() -> Status {
    status::deadline_exceeded(status::reason::DEADLINE, "DynamoDB did not answer before the call's deadline")
}
