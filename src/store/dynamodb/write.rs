//! BatchWriteItem, PutItem and DeleteItem: one attempt each, under one time-out of ours.

use std::future::Future;
use std::time::Duration;

use aws_sdk_dynamodb::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_dynamodb::operation::batch_write_item::BatchWriteItemOutput;
use aws_sdk_dynamodb::types::{ConsumedCapacity, PutRequest, WriteRequest};
use aws_smithy_runtime_api::client::orchestrator::HttpResponse;

use super::attr::ComparableKey;
use super::body;
use super::errors::Failure;
use crate::store::{BatchWrite, OneWrite, WriteDone, WriteError, WriteItem, WriteOp};

/// The client that carries our own bodies, and how long it may take.
#[derive(Debug, Clone)]
pub(super) struct Writer {
    pub(super) client: aws_sdk_dynamodb::Client,
    pub(super) attempt_timeout: Duration,
}

impl Writer {
    pub(super) async fn batch_write(&self, request: BatchWrite) -> Result<WriteDone, WriteError> {
        let carrier = PutRequest::builder()
            .set_item(Some(body::carrier(body::batch_write(&request))))
            .build()
            .map_err(|error| WriteError::NotSent { message: error.to_string() })?;
        let call = self
            .client
            .batch_write_item()
            .request_items(&*request.table, vec![WriteRequest::builder().put_request(carrier).build()])
            .send();
        let answer = self.attempt(&request.table, call).await?;
        let write_units = units(answer.consumed_capacity());
        Ok(WriteDone { unprocessed: unprocessed(&request.items, &answer), write_units })
    }

    pub(super) async fn write_one(&self, request: OneWrite) -> Result<WriteDone, WriteError> {
        let OneWrite { table, item, .. } = request;
        let carrier = Some(body::carrier(body::write_one(&table, &item)));
        let capacity = match item.op {
            WriteOp::Put | WriteOp::Insert | WriteOp::Merge => {
                let call = self.client.put_item().table_name(&*table).set_item(carrier).send();
                self.attempt(&table, call).await?.consumed_capacity
            }
            WriteOp::Delete => {
                let call = self.client.delete_item().table_name(&*table).set_key(carrier).send();
                self.attempt(&table, call).await?.consumed_capacity
            }
        };
        Ok(WriteDone { unprocessed: Vec::new(), write_units: units(capacity.as_slice()) })
    }

    async fn attempt<T, E>(
        &self,
        table: &str,
        call: impl Future<Output = Result<T, SdkError<E, HttpResponse>>>,
    ) -> Result<T, WriteError>
    where
        E: ProvideErrorMetadata + std::error::Error + 'static,
    {
        match tokio::time::timeout(self.attempt_timeout, call).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(error)) => Err(Failure::of(&error).into_write(table)),
            Err(_) => Err(WriteError::Unknown { message: format!("no answer within {:?}", self.attempt_timeout) }),
        }
    }
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
