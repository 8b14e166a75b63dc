//! Write requests as bytes of our own, carried through the SDK.
//!
//! The SDK would build an attribute map only to write it out as JSON again. Here the JSON is already there, so the body is
//! put together by copying (`request`), rides through the SDK as the one attribute of a dummy item (the table name stays real, because
//! endpoint rules read it), and an interceptor swaps in the serializer that takes it out again. Signing, credentials,
//! endpoints and the answer's decoding stay the SDK's.
//!
//! Invariant: the client that carries [`RawBodies`] sends nothing but what `request` built. Caller: `write`.

use std::collections::HashMap;

use aws_sdk_dynamodb::operation::batch_write_item::BatchWriteItemInput;
use aws_sdk_dynamodb::operation::delete_item::DeleteItemInput;
use aws_sdk_dynamodb::operation::put_item::PutItemInput;
use aws_sdk_dynamodb::operation::transact_write_items::TransactWriteItemsInput;
use aws_sdk_dynamodb::operation::update_item::UpdateItemInput;
use aws_sdk_dynamodb::primitives::Blob;
use aws_sdk_dynamodb::types::AttributeValue;
use aws_smithy_runtime_api::box_error::BoxError;
use aws_smithy_runtime_api::client::interceptors::Intercept;
use aws_smithy_runtime_api::client::interceptors::context::{BeforeSerializationInterceptorContextMut, Input};
use aws_smithy_runtime_api::client::orchestrator::HttpRequest;
use aws_smithy_runtime_api::client::runtime_components::RuntimeComponents;
use aws_smithy_runtime_api::client::ser_de::{SerializeRequest, SharedRequestSerializer};
use aws_smithy_types::body::SdkBody;
use aws_smithy_types::config_bag::ConfigBag;

/// The dummy attribute's name.
const CARRIER: &str = "body";

/// The dummy item (or key) that carries a body.
pub(super) fn carrier(body: Vec<u8>) -> HashMap<String, AttributeValue> {
    HashMap::from([(CARRIER.to_owned(), AttributeValue::B(Blob::new(body)))])
}

/// The interceptor that makes the write client send carried bodies.
#[derive(Debug)]
pub(super) struct RawBodies {
    batch_write: SharedRequestSerializer,
    put: SharedRequestSerializer,
    update: SharedRequestSerializer,
    delete: SharedRequestSerializer,
    transact_write: SharedRequestSerializer,
}

impl RawBodies {
    pub(super) fn new() -> Self {
        let serializer = |target, take| SharedRequestSerializer::new(RawBody { target, take });
        Self {
            batch_write: serializer("DynamoDB_20120810.BatchWriteItem", take_batch_write),
            put: serializer("DynamoDB_20120810.PutItem", take_put),
            update: serializer("DynamoDB_20120810.UpdateItem", take_update),
            delete: serializer("DynamoDB_20120810.DeleteItem", take_delete),
            transact_write: serializer("DynamoDB_20120810.TransactWriteItems", take_transact_write),
        }
    }
}

impl Intercept for RawBodies {
    fn name(&self) -> &'static str {
        "RawBodies"
    }

    fn modify_before_serialization(
        &self,
        context: &mut BeforeSerializationInterceptorContextMut<'_>,
        _components: &RuntimeComponents,
        cfg: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let input = context.input();
        let serializer = if input.downcast_ref::<BatchWriteItemInput>().is_some() {
            &self.batch_write
        } else if input.downcast_ref::<PutItemInput>().is_some() {
            &self.put
        } else if input.downcast_ref::<UpdateItemInput>().is_some() {
            &self.update
        } else if input.downcast_ref::<DeleteItemInput>().is_some() {
            &self.delete
        } else if input.downcast_ref::<TransactWriteItemsInput>().is_some() {
            &self.transact_write
        } else {
            return Err("the write client sends operations that write items only".into());
        };
        cfg.interceptor_state().store_put(serializer.clone());
        Ok(())
    }
}

/// Takes the carried bytes out of an operation's input.
type Take = fn(Input) -> Option<AttributeValue>;

#[derive(Debug)]
struct RawBody {
    target: &'static str,
    take: Take,
}

impl SerializeRequest for RawBody {
    fn serialize_input(&self, input: Input, _cfg: &mut ConfigBag) -> Result<HttpRequest, BoxError> {
        let Some(AttributeValue::B(body)) = (self.take)(input) else {
            return Err("the write request carries no body".into());
        };
        let body = body.into_inner();
        let length = body.len().to_string();
        let mut request = HttpRequest::new(SdkBody::from(body));
        request.set_method("POST")?;
        request.set_uri("/")?;
        let headers = request.headers_mut();
        headers.insert("content-type", "application/x-amz-json-1.0");
        headers.insert("x-amz-target", self.target);
        headers.insert("content-length", length);
        Ok(request)
    }
}

fn take_batch_write(input: Input) -> Option<AttributeValue> {
    let input = input.downcast::<BatchWriteItemInput>().ok()?;
    let request = input.request_items?.into_values().next()?.into_iter().next()?;
    request.put_request?.item.remove(CARRIER)
}

fn take_put(input: Input) -> Option<AttributeValue> {
    input.downcast::<PutItemInput>().ok()?.item?.remove(CARRIER)
}

fn take_update(input: Input) -> Option<AttributeValue> {
    input.downcast::<UpdateItemInput>().ok()?.key?.remove(CARRIER)
}

fn take_delete(input: Input) -> Option<AttributeValue> {
    input.downcast::<DeleteItemInput>().ok()?.key?.remove(CARRIER)
}

fn take_transact_write(input: Input) -> Option<AttributeValue> {
    let input = input.downcast::<TransactWriteItemsInput>().ok()?;
    input.transact_items?.into_iter().next()?.put?.item.remove(CARRIER)
}
