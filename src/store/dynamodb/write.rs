//! Writes: one attempt each, under one time-out of ours.

use std::future::Future;
use std::time::Duration;

use aws_sdk_dynamodb::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_dynamodb::operation::batch_write_item::BatchWriteItemOutput;
use aws_sdk_dynamodb::operation::delete_item::DeleteItemError;
use aws_sdk_dynamodb::operation::put_item::PutItemError;
use aws_sdk_dynamodb::operation::transact_write_items::TransactWriteItemsError;
use aws_sdk_dynamodb::operation::update_item::UpdateItemError;
use aws_sdk_dynamodb::types::{ConsumedCapacity, Put, PutRequest, TransactWriteItem, WriteRequest};
use aws_smithy_runtime_api::client::orchestrator::HttpResponse;

use super::attr::ComparableKey;
use super::errors::{Failure, of_cancellation, of_false_condition};
use super::request::Unfit;
use super::{body, request};
use crate::store::{BatchWrite, OneWrite, TransactWrite, WriteDone, WriteError, WriteItem, WriteOp};

/// The client that carries our own bodies, and how long it may take.
#[derive(Debug, Clone)]
pub(super) struct Writer {
    pub(super) client: aws_sdk_dynamodb::Client,
    pub(super) attempt_timeout: Duration,
}

impl Writer {
    pub(super) async fn batch_write(&self, request: BatchWrite) -> Result<WriteDone, WriteError> {
        let carrier = PutRequest::builder()
            .set_item(Some(body::carrier(request::batch_write(&request).map_err(unfit)?)))
            .build()
            .map_err(|error| WriteError::NotSent { message: error.to_string() })?;
        let call = self
            .client
            .batch_write_item()
            .request_items(&*request.table, vec![WriteRequest::builder().put_request(carrier).build()])
            .send();
        let answer = self.attempt(call).await?.map_err(|error| Failure::of(&error).into_write(&request.table))?;
        let write_units = units(answer.consumed_capacity());
        Ok(WriteDone { unprocessed: unprocessed(&request.items, &answer), write_units })
    }

    pub(super) async fn write_one(&self, request: OneWrite) -> Result<WriteDone, WriteError> {
        let carrier = Some(body::carrier(request::write_one(&request).map_err(unfit)?));
        let table = &*request.table;
        let capacity = match request.item.op {
            WriteOp::Put | WriteOp::Insert => {
                let sent = self.attempt(self.client.put_item().table_name(table).set_item(carrier).send()).await?;
                let own = |error| match error {
                    PutItemError::ConditionalCheckFailedException(refusal) => Some(of_false_condition(refusal)),
                    _ => None,
                };
                sent.map_err(|error| refused(table, error, own))?.consumed_capacity
            }
            WriteOp::Merge => {
                let sent = self.attempt(self.client.update_item().table_name(table).set_key(carrier).send()).await?;
                let own = |error| match error {
                    UpdateItemError::ConditionalCheckFailedException(refusal) => Some(of_false_condition(refusal)),
                    _ => None,
                };
                sent.map_err(|error| refused(table, error, own))?.consumed_capacity
            }
            WriteOp::Delete => {
                let sent = self.attempt(self.client.delete_item().table_name(table).set_key(carrier).send()).await?;
                let own = |error| match error {
                    DeleteItemError::ConditionalCheckFailedException(refusal) => Some(of_false_condition(refusal)),
                    _ => None,
                };
                sent.map_err(|error| refused(table, error, own))?.consumed_capacity
            }
        };
        Ok(WriteDone { unprocessed: Vec::new(), write_units: units(capacity.as_slice()) })
    }

    pub(super) async fn transact_write(&self, request: TransactWrite) -> Result<WriteDone, WriteError> {
        let carrier = Put::builder()
            .table_name(&*request.table)
            .set_item(Some(body::carrier(request::transact_write(&request).map_err(unfit)?)))
            .build()
            .map_err(|error| WriteError::NotSent { message: error.to_string() })?;
        let call =
            self.client.transact_write_items().transact_items(TransactWriteItem::builder().put(carrier).build()).send();
        let own = |error| match error {
            TransactWriteItemsError::TransactionCanceledException(refusal) => {
                Some(of_cancellation(refusal, request.items.len()))
            }
            _ => None,
        };
        let answer = self.attempt(call).await?.map_err(|error| refused(&request.table, error, own))?;
        Ok(WriteDone { unprocessed: Vec::new(), write_units: units(answer.consumed_capacity()) })
    }

    /// The call's own outcome, or that there was none in time.
    async fn attempt<T, E>(
        &self,
        call: impl Future<Output = Result<T, SdkError<E, HttpResponse>>>,
    ) -> Result<Result<T, SdkError<E, HttpResponse>>, WriteError> {
        tokio::time::timeout(self.attempt_timeout, call)
            .await
            .map_err(|_| WriteError::Unknown { message: format!("no answer within {:?}", self.attempt_timeout) })
    }
}

/// A request that would be a mistake of ours is refused like one that DynamoDB refuses.
fn unfit(error: Unfit) -> WriteError {
    WriteError::Validation { message: error.to_string() }
}

/// What a refusal of one item, or of all, means; `own` knows what only this kind of write is answered with.
fn refused<E>(table: &str, error: SdkError<E, HttpResponse>, own: impl FnOnce(E) -> Option<WriteError>) -> WriteError
where
    E: ProvideErrorMetadata + std::error::Error + 'static,
{
    let failure = Failure::of(&error);
    let special = match error {
        SdkError::ServiceError(refusal) => own(refusal.into_err()),
        _ => None,
    };
    special.unwrap_or_else(|| failure.into_single_write(table))
}

fn units(capacities: &[ConsumedCapacity]) -> f64 {
    capacities.iter().filter_map(ConsumedCapacity::capacity_units).sum()
}

/// Indices of the items that DynamoDB returned as not processed, in order.
fn unprocessed(items: &[WriteItem], answer: &BatchWriteItemOutput) -> Vec<usize> {
    let Some(returned) = answer.unprocessed_items().filter(|tables| tables.values().any(|list| !list.is_empty()))
    else {
        return Vec::new();
    };
    // One that cannot be found among what was sent could be any of them, and none may be taken for written. Writing one
    // again that was written is harmless.
    match_returned(items, returned.values().flatten()).unwrap_or_else(|| (0..items.len()).collect())
}

fn match_returned<'a>(items: &[WriteItem], returned: impl Iterator<Item = &'a WriteRequest>) -> Option<Vec<usize>> {
    let sent: Vec<ComparableKey> =
        items.iter().map(|item| ComparableKey::from_text(item.key_text())).collect::<Option<_>>()?;
    let mut indices = returned
        .map(|request| {
            let (op, attributes) = match (request.put_request(), request.delete_request()) {
                (Some(put), None) => (WriteOp::Put, put.item()),
                (None, Some(delete)) => (WriteOp::Delete, delete.key()),
                _ => return None,
            };
            sent.iter().zip(items).position(|(key, item)| item.op == op && key.matches(attributes))
        })
        .collect::<Option<Vec<_>>>()?;
    indices.sort_unstable();
    indices.dedup();
    Some(indices)
}
