//! `TableService`: definitions, over the [`Catalog`].

use std::future::Future;
use std::time::{Duration, UNIX_EPOCH};

use tokio::time::timeout_at;
use tonic::{Request, Response, Status};

use super::deadline::Deadline;
use super::quota::Charges;
use super::{check, convert, permit, status};
use crate::access::{Caller, Permission};
use crate::catalog::{ApplyResult, Catalog, CatalogError};
use crate::pool::MemoryBudget;
use crate::proto::server::CheckRowsRequest;
use crate::proto::server::table_service_server::TableService;
use crate::proto::v1::{self};

/// Tables in one answer of ListTables, at most.
const PAGE_MAX: usize = 1000;

/// The service.
#[derive(Debug, Clone)]
pub struct TableApi {
    catalog: Catalog,
    checks: Checks,
}

/// What `CheckRows` works with.
#[derive(Debug, Clone)]
pub struct Checks {
    /// The seed that plans hash keys with.
    pub hash_seed: u64,
    /// Memory for samples while they are walked; the same budget as that of sessions' decoded batches.
    pub decode_memory: MemoryBudget,
    /// What callers are charged.
    pub charges: Charges,
}

impl TableApi {
    /// The service over a catalog.
    pub fn new(catalog: Catalog, checks: Checks) -> Self {
        Self { catalog, checks }
    }
}

/// Who calls, the deadline and the message of a request.
fn accept<T>(request: Request<T>) -> Result<(Caller, Deadline, T), Status> {
    let deadline = Deadline::of_table_call(request.metadata())
        .map_err(|error| status::invalid_argument("grpc-timeout", error.to_string()))?;
    Ok((Caller::of(request.extensions()), deadline, request.into_inner()))
}

/// Answers in time, with what was asked for or DEADLINE_EXCEEDED.
async fn in_time<T>(deadline: Deadline, call: impl Future<Output = Result<T, CatalogError>>) -> Result<T, Status> {
    match timeout_at(deadline.answer_by, call).await {
        Ok(result) => Ok(result?),
        Err(_elapsed) => {
            let message = "DynamoDB did not answer before the call's deadline; a change goes on, and the same call \
                           again tells its end";
            Err(status::deadline_exceeded(status::reason::DEADLINE, message))
        }
    }
}

/// Runs a change to its end even when the caller goes away or its time is up: a change cut short is repaired by the next
/// one, but it need not come to that.
async fn to_the_end<T: Send + 'static>(
    deadline: Deadline,
    change: impl Future<Output = Result<T, CatalogError>> + Send + 'static,
) -> Result<T, Status> {
    let running = tokio::spawn(change);
    let ended = async move { Ok(running.await) };
    match in_time(deadline, ended).await? {
        Ok(result) => Ok(result?),
        Err(_) => Err(status::internal("the change of the table was interrupted")),
    }
}

#[tonic::async_trait]
impl TableService for TableApi {
    async fn apply_table(
        &self,
        request: Request<v1::ApplyTableRequest>,
    ) -> Result<Response<v1::ApplyTableResponse>, Status> {
        let (caller, deadline, request) = accept(request)?;
        let table = request.table.ok_or_else(|| status::invalid_argument("table", "is missing"))?;
        permit::ask(&caller, Permission::Admin, &table.name)?;
        if ![&*self.catalog.default_dynamodb_table(&table.name), ""].contains(&&*table.dynamodb_table) {
            // Else rows that another table keeps there could be read and written by a name that is one's own.
            permit::ask(&caller, Permission::Admin, &table.dynamodb_table)?;
        }
        let def = convert::table_from_proto("table", &table)?;
        if caller.policy().is_some() {
            // Tables of other names may keep their rows there; who may not administer them hears nothing of them.
            let sharing = in_time(deadline, self.catalog.sharing_names(&def)).await?;
            if !sharing.iter().all(|name| caller.may(Permission::Admin, name)) {
                return Err(status::permission_denied_table(&table.name));
            }
        }
        let (catalog, dry_run) = (self.catalog.clone(), request.dry_run);
        let outcome = to_the_end(deadline, async move { catalog.apply(def, dry_run).await }).await?;
        let result = match outcome.result {
            ApplyResult::Created => v1::ApplyResult::Created,
            ApplyResult::Bound => v1::ApplyResult::Bound,
            ApplyResult::Evolved => v1::ApplyResult::Evolved,
            ApplyResult::Unchanged => v1::ApplyResult::Unchanged,
        };
        Ok(Response::new(v1::ApplyTableResponse {
            table: Some(convert::table_to_proto(&outcome.version.def)),
            schema_version: outcome.version.version,
            result: result.into(),
            changes: outcome.changes,
        }))
    }

    async fn get_table(&self, request: Request<v1::GetTableRequest>) -> Result<Response<v1::GetTableResponse>, Status> {
        let (caller, deadline, request) = accept(request)?;
        permit::ask_to_see(&caller, &request.name)?;
        let version = in_time(deadline, self.catalog.get_version(&request.name, request.schema_version)).await?;
        Ok(Response::new(v1::GetTableResponse {
            table: Some(convert::table_to_proto(&version.def)),
            schema_version: version.version,
            applied_at: Some((UNIX_EPOCH + Duration::from_millis(version.applied_at_ms)).into()),
        }))
    }

    async fn list_tables(
        &self,
        request: Request<v1::ListTablesRequest>,
    ) -> Result<Response<v1::ListTablesResponse>, Status> {
        let (caller, deadline, request) = accept(request)?;
        let page_size = match request.page_size as usize {
            0 => PAGE_MAX,
            size => size.min(PAGE_MAX),
        };
        let tables = in_time(deadline, self.catalog.list()).await?;
        // The token is the last name shown, so that tables which come and go between two pages shift nothing.
        let after = tables.iter().skip_while(|table| table.def.name <= request.page_token);
        let mut rest = after.filter(|table| caller.may_see(&table.def.name)).peekable();
        let page: Vec<_> = rest.by_ref().take(page_size).map(|table| summary(table)).collect();
        let next_page_token = match (rest.peek(), page.last()) {
            (Some(_), Some(last)) => last.name.clone(),
            _ => String::new(),
        };
        Ok(Response::new(v1::ListTablesResponse { tables: page, next_page_token }))
    }

    async fn drop_table(
        &self,
        request: Request<v1::DropTableRequest>,
    ) -> Result<Response<v1::DropTableResponse>, Status> {
        let (caller, deadline, request) = accept(request)?;
        permit::ask(&caller, Permission::Admin, &request.name)?;
        let catalog = self.catalog.clone();
        let deleted =
            to_the_end(deadline, async move { catalog.drop_table(&request.name, request.force).await }).await?;
        Ok(Response::new(v1::DropTableResponse { deleted }))
    }

    async fn check_rows(&self, request: Request<CheckRowsRequest>) -> Result<Response<v1::CheckRowsResponse>, Status> {
        let (caller, deadline, request) = accept(request)?;
        match timeout_at(deadline.answer_by, check::check_rows(&self.catalog, &self.checks, request, &caller)).await {
            Ok(answer) => answer.map(Response::new),
            Err(_elapsed) => {
                let message = "the sample was not checked before the call's deadline; nothing was written";
                Err(status::deadline_exceeded(status::reason::DEADLINE, message))
            }
        }
    }
}

fn summary(table: &crate::catalog::TableVersion) -> v1::TableSummary {
    v1::TableSummary {
        name: table.def.name.clone(),
        dynamodb_table: table.def.dynamodb_table.clone(),
        ownership: convert::ownership_to_proto(table.def.ownership).into(),
        schema_version: table.version,
        key: Some(convert::key_to_proto(&table.def.key)),
        column_count: u32::try_from(table.def.schema.fields.len()).unwrap_or(u32::MAX),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::time::{Instant, sleep};

    #[tokio::test(start_paused = true)]
    async fn a_change_whose_call_runs_out_of_time_still_comes_to_its_end() {
        let (done, mut is_done) = tokio::sync::oneshot::channel();
        let change = async move {
            sleep(Duration::from_secs(60)).await;
            done.send(()).map_err(|()| CatalogError::NotFound { name: "the test".to_owned() })
        };
        let deadline = Deadline { answer_by: Instant::now() + Duration::from_secs(1), from_client: true };
        let status = to_the_end(deadline, change).await.unwrap_err();
        assert_eq!(status.code(), tonic::Code::DeadlineExceeded);
        assert!(is_done.try_recv().is_err());
        is_done.await.unwrap();
    }
}
