//! Table definitions over the wire: apply, get, list, drop. The dry run is in `check`.

use super::channel::Client;
use super::error::ClientError;
use crate::limits::CLIENT_TABLE_CHANGE_TIMEOUT;
use crate::proto::v1::table_service_client::TableServiceClient;
use crate::proto::v1::{
    ApplyTableRequest, ApplyTableResponse, DropTableRequest, DropTableResponse, GetTableRequest, GetTableResponse,
    ListTablesRequest, Table, TableSummary,
};

/// Creates, shows and drops tables. Made by [`Client::tables`].
#[derive(Debug, Clone)]
pub struct Tables {
    client: Client,
}

impl Tables {
    pub(crate) fn new(client: Client) -> Self {
        Self { client }
    }

    pub(crate) fn client(&self) -> &Client {
        &self.client
    }

    /// Creates a table, binds an existing DynamoDB table, or evolves a schema; with `dry_run` only says what would change.
    /// Idempotent, so it is tried again when the call breaks.
    ///
    /// # Errors
    ///
    /// What does not fit, in the gateway's words.
    pub async fn apply(&self, table: Table, dry_run: bool) -> Result<ApplyTableResponse, ClientError> {
        let request = ApplyTableRequest { table: Some(table), dry_run };
        let call = async |channel, request| TableServiceClient::new(channel).apply_table(request).await;
        self.client.unary(CLIENT_TABLE_CHANGE_TIMEOUT, request, call).await
    }

    /// The newest definition of a table.
    ///
    /// # Errors
    ///
    /// `NOT_FOUND` where there is no such table, `PERMISSION_DENIED` where the caller may not even know that.
    pub async fn get(&self, name: &str) -> Result<GetTableResponse, ClientError> {
        let request = GetTableRequest { name: name.to_owned(), schema_version: 0 };
        let call = async |channel, request| TableServiceClient::new(channel).get_table(request).await;
        self.client.unary_default(request, call).await
    }

    /// All tables that the caller may see, by name.
    ///
    /// # Errors
    ///
    /// Where a page cannot be read.
    pub async fn list(&self) -> Result<Vec<TableSummary>, ClientError> {
        let mut tables = Vec::new();
        let mut request = ListTablesRequest::default();
        loop {
            let call = async |channel, request| TableServiceClient::new(channel).list_tables(request).await;
            let page = self.client.unary_default(request.clone(), call).await?;
            tables.extend(page.tables);
            if page.next_page_token.is_empty() {
                return Ok(tables);
            }
            request.page_token = page.next_page_token;
        }
    }

    /// Drops a table: unbinds a bound one, deletes one that Forebay created if `force` is given.
    ///
    /// # Errors
    ///
    /// The gateway's refusal.
    pub async fn drop(&self, name: &str, force: bool) -> Result<DropTableResponse, ClientError> {
        let request = DropTableRequest { name: name.to_owned(), force };
        let call = async |channel, request| TableServiceClient::new(channel).drop_table(request).await;
        self.client.unary(CLIENT_TABLE_CHANGE_TIMEOUT, request, call).await
    }
}
