//! Write requests as bytes of our own, carried through the SDK.
//!
//! The SDK would build an attribute map only to write it out as JSON again. Here the JSON is already there, so the body is
//! put together by copying, rides through the SDK as the one attribute of a dummy item (the table name stays real, because
//! endpoint rules read it), and an interceptor swaps in the serializer that takes it out again. Signing, credentials,
//! endpoints and the answer's decoding stay the SDK's.
//!
//! Invariant: the client that carries [`RawBodies`] sends nothing but what this module built. Caller: `write`.

use std::collections::HashMap;

use aws_sdk_dynamodb::operation::batch_write_item::BatchWriteItemInput;
use aws_sdk_dynamodb::operation::delete_item::DeleteItemInput;
use aws_sdk_dynamodb::operation::put_item::PutItemInput;
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

use crate::store::{BatchWrite, WriteItem, WriteOp};

/// The dummy attribute's name.
const CARRIER: &str = "body";
const PUT_OPEN: &[u8] = br#"{"PutRequest":{"Item":"#;
const DELETE_OPEN: &[u8] = br#"{"DeleteRequest":{"Key":"#;
const REQUEST_CLOSE: &[u8] = b"}}";
const CAPACITY: &[u8] = br#","ReturnConsumedCapacity":"TOTAL"}"#;

/// The body of one BatchWriteItem.
pub(super) fn batch_write(request: &BatchWrite) -> Vec<u8> {
    let items: usize =
        request.items.iter().map(|item| item.json.len() + DELETE_OPEN.len() + REQUEST_CLOSE.len() + 1).sum();
    let mut body = Vec::with_capacity(items + request.table.len() + 64);
    body.extend_from_slice(br#"{"RequestItems":{"#);
    push_json_text(&mut body, &request.table);
    body.extend_from_slice(b":[");
    for (index, item) in request.items.iter().enumerate() {
        if index > 0 {
            body.push(b',');
        }
        body.extend_from_slice(match item.op {
            WriteOp::Put | WriteOp::Insert | WriteOp::Merge => PUT_OPEN,
            WriteOp::Delete => DELETE_OPEN,
        });
        body.extend_from_slice(&item.json);
        body.extend_from_slice(REQUEST_CLOSE);
    }
    body.extend_from_slice(b"]}");
    body.extend_from_slice(CAPACITY);
    body
}

/// The body of one PutItem or DeleteItem.
pub(super) fn write_one(table: &str, item: &WriteItem) -> Vec<u8> {
    let mut body = Vec::with_capacity(item.json.len() + table.len() + 80);
    body.extend_from_slice(br#"{"TableName":"#);
    push_json_text(&mut body, table);
    body.extend_from_slice(match item.op {
        WriteOp::Put | WriteOp::Insert | WriteOp::Merge => br#","Item":"#,
        WriteOp::Delete => br#","Key":"#,
    });
    body.extend_from_slice(&item.json);
    body.extend_from_slice(CAPACITY);
    body
}

/// The dummy item (or key) that carries a body.
pub(super) fn carrier(body: Vec<u8>) -> HashMap<String, AttributeValue> {
    HashMap::from([(CARRIER.to_owned(), AttributeValue::B(Blob::new(body)))])
}

fn push_json_text(out: &mut Vec<u8>, text: &str) {
    // A table name is of [a-zA-Z0-9_.-], or an ARN; DynamoDB refuses any other. This keeps one from breaking the JSON.
    out.push(b'"');
    for character in text.chars() {
        match character {
            '"' | '\\' => out.extend_from_slice(&[b'\\', character as u8]),
            control if control < ' ' => out.extend_from_slice(format!("\\u{:04x}", control as u32).as_bytes()),
            other => out.extend_from_slice(other.encode_utf8(&mut [0; 4]).as_bytes()),
        }
    }
    out.push(b'"');
}

/// The interceptor that makes the write client send carried bodies.
#[derive(Debug)]
pub(super) struct RawBodies {
    batch_write: SharedRequestSerializer,
    put: SharedRequestSerializer,
    delete: SharedRequestSerializer,
}

impl RawBodies {
    pub(super) fn new() -> Self {
        let serializer = |target, take| SharedRequestSerializer::new(RawBody { target, take });
        Self {
            batch_write: serializer("DynamoDB_20120810.BatchWriteItem", take_batch_write),
            put: serializer("DynamoDB_20120810.PutItem", take_put),
            delete: serializer("DynamoDB_20120810.DeleteItem", take_delete),
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
        } else if input.downcast_ref::<DeleteItemInput>().is_some() {
            &self.delete
        } else {
            return Err("the write client sends BatchWriteItem, PutItem and DeleteItem only".into());
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

fn take_delete(input: Input) -> Option<AttributeValue> {
    input.downcast::<DeleteItemInput>().ok()?.key?.remove(CARRIER)
}
