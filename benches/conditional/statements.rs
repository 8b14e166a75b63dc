//! Conditional rows as PartiQL: UPDATE first, INSERT for those that were not there.
//!
//! The bodies are put together by copying and carried through the SDK as its store's are, so that both ways pay for the same
//! things.

use std::collections::HashSet;

use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::config::retry::RetryConfig;
use aws_sdk_dynamodb::config::{BehaviorVersion, Credentials, Region};
use aws_sdk_dynamodb::operation::batch_execute_statement::{BatchExecuteStatementInput, BatchExecuteStatementOutput};
use aws_sdk_dynamodb::primitives::Blob;
use aws_sdk_dynamodb::types::{AttributeValue, BatchStatementErrorCodeEnum, BatchStatementRequest};
use aws_smithy_http_client::{Builder, ConnectorBuilder, proxy::ProxyConfig};
use aws_smithy_runtime_api::box_error::BoxError;
use aws_smithy_runtime_api::client::interceptors::Intercept;
use aws_smithy_runtime_api::client::interceptors::context::{BeforeSerializationInterceptorContextMut, Input};
use aws_smithy_runtime_api::client::orchestrator::HttpRequest;
use aws_smithy_runtime_api::client::runtime_components::RuntimeComponents;
use aws_smithy_runtime_api::client::ser_de::{SerializeRequest, SharedRequestSerializer};
use aws_smithy_types::body::SdkBody;
use aws_smithy_types::config_bag::ConfigBag;
use axum::Router;
use axum::extract::State;
use axum::routing::post;
use forebay::store::WriteItem;
use serde_json::{Value, json};

/// What the stub's table holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stored {
    /// Every row, older.
    All,
    /// None of them.
    Nothing,
}

/// The writer of statements.
pub(crate) struct Statements(Client);

impl Statements {
    pub(crate) fn connect(url: &str) -> Self {
        let http = Builder::new().build_with_connector_fn(|settings, components| {
            let mut connector = ConnectorBuilder::default();
            connector.set_connector_settings(settings.cloned());
            connector.set_sleep_impl(components.and_then(|components| components.sleep_impl()));
            connector.proxy_config(ProxyConfig::disabled()).build_http()
        });
        let config = aws_sdk_dynamodb::Config::builder()
            .behavior_version(BehaviorVersion::latest())
            .http_client(http)
            .endpoint_url(url)
            .region(Region::from_static("us-east-1"))
            .credentials_provider(Credentials::new("bench", "bench", None, None, "bench"))
            .retry_config(RetryConfig::disabled())
            .interceptor(Carry(SharedRequestSerializer::new(Carried)))
            .build();
        Self(Client::from_conf(config))
    }

    /// Writes up to 25 rows, each unless a greater sequence is stored.
    pub(crate) async fn write(&self, table: &str, sequence: &str, items: &[WriteItem]) -> Result<(), String> {
        let updated = self.send(body(items.iter(), |out, item| push_update(out, table, sequence, item))).await?;
        let answers = updated.responses();
        if answers.len() != items.len() {
            return Err(format!("{} answers to {} statements", answers.len(), items.len()));
        }
        let mut absent = HashSet::new();
        for (index, error) in answers.iter().enumerate().filter_map(|(index, answer)| Some((index, answer.error()?))) {
            match error.code() {
                Some(BatchStatementErrorCodeEnum::ConditionalCheckFailed) => absent.insert(index),
                other => return Err(format!("{other:?}")),
            };
        }
        if absent.is_empty() {
            return Ok(());
        }
        let absent = items.iter().enumerate().filter(|(index, _)| absent.contains(index)).map(|(_, item)| item);
        let inserted = self.send(body(absent, |out, item| push_insert(out, table, item))).await?;
        match inserted.responses().iter().find_map(|answer| answer.error()) {
            None => Ok(()),
            Some(error) => Err(format!("{error:?}")),
        }
    }

    async fn send(&self, body: Vec<u8>) -> Result<BatchExecuteStatementOutput, String> {
        let carrier = BatchStatementRequest::builder()
            .statement("carried")
            .parameters(AttributeValue::B(Blob::new(body)))
            .build()
            .map_err(|error| error.to_string())?;
        self.0.batch_execute_statement().statements(carrier).send().await.map_err(|error| format!("{error:?}"))
    }
}

fn body<'a>(items: impl Iterator<Item = &'a WriteItem>, mut push: impl FnMut(&mut Vec<u8>, &WriteItem)) -> Vec<u8> {
    let mut body = Vec::with_capacity(32 * 1024);
    body.extend_from_slice(br#"{"Statements":["#);
    for (index, item) in items.enumerate() {
        if index > 0 {
            body.push(b',');
        }
        push(&mut body, item);
    }
    body.extend_from_slice(br#"],"ReturnConsumedCapacity":"TOTAL"}"#);
    body
}

/// `UPDATE "t" SET "a"=? SET "b"=? WHERE "id"=? AND "version"<=?`.
fn push_update(out: &mut Vec<u8>, table: &str, sequence: &str, item: &WriteItem) {
    out.extend_from_slice(format!(r#"{{"Statement":"UPDATE \"{table}\""#).as_bytes());
    for member in item.other_members() {
        out.extend_from_slice(b" SET ");
        push_name(out, member.name);
        out.extend_from_slice(b"=?");
    }
    let mut lead: &[u8] = b" WHERE ";
    for member in item.key_members() {
        out.extend_from_slice(lead);
        push_name(out, member.name);
        out.extend_from_slice(b"=?");
        lead = b" AND ";
    }
    out.extend_from_slice(format!(r#" AND \"{sequence}\"<=?","Parameters":["#).as_bytes());
    for member in item.other_members().chain(item.key_members()) {
        out.extend_from_slice(member.value);
        out.push(b',');
    }
    out.extend_from_slice(item.sequence_text().unwrap());
    out.extend_from_slice(b"]}");
}

/// `INSERT INTO "t" VALUE {'id':?,'a':?}`.
fn push_insert(out: &mut Vec<u8>, table: &str, item: &WriteItem) {
    out.extend_from_slice(format!(r#"{{"Statement":"INSERT INTO \"{table}\" VALUE "#).as_bytes());
    let mut lead = b'{';
    for member in item.key_members().chain(item.other_members()) {
        out.extend_from_slice(&[lead, b'\'']);
        // The bench's names have nothing to escape.
        out.extend_from_slice(&member.name[1..member.name.len() - 1]);
        out.extend_from_slice(b"':?");
        lead = b',';
    }
    out.extend_from_slice(br#"}","Parameters":"#);
    let mut lead = b'[';
    for member in item.key_members().chain(item.other_members()) {
        out.push(lead);
        out.extend_from_slice(member.value);
        lead = b',';
    }
    out.extend_from_slice(b"]}");
}

/// A name between quotes, within JSON text.
fn push_name(out: &mut Vec<u8>, name: &[u8]) {
    out.extend_from_slice(br#"\""#);
    out.extend_from_slice(&name[1..name.len() - 1]);
    out.extend_from_slice(br#"\""#);
}

#[derive(Debug)]
struct Carry(SharedRequestSerializer);

impl Intercept for Carry {
    fn name(&self) -> &'static str {
        "Carry"
    }

    fn modify_before_serialization(
        &self,
        _: &mut BeforeSerializationInterceptorContextMut<'_>,
        _: &RuntimeComponents,
        cfg: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        cfg.interceptor_state().store_put(self.0.clone());
        Ok(())
    }
}

#[derive(Debug)]
struct Carried;

impl SerializeRequest for Carried {
    fn serialize_input(&self, input: Input, _: &mut ConfigBag) -> Result<HttpRequest, BoxError> {
        let input = input.downcast::<BatchExecuteStatementInput>().map_err(|_| "another operation")?;
        let body = input.statements.and_then(|statements| statements.into_iter().next()?.parameters?.pop());
        let Some(AttributeValue::B(body)) = body else { return Err("no body is carried".into()) };
        let body = body.into_inner();
        let length = body.len().to_string();
        let mut request = HttpRequest::new(SdkBody::from(body));
        request.set_method("POST")?;
        request.set_uri("/")?;
        let headers = request.headers_mut();
        headers.insert("content-type", "application/x-amz-json-1.0");
        headers.insert("x-amz-target", "DynamoDB_20120810.BatchExecuteStatement");
        headers.insert("content-length", length);
        Ok(request)
    }
}

/// Answers statements at once, by what is stored.
pub(crate) fn stub(listener: tokio::net::TcpListener, stored: Stored) -> tokio::task::JoinHandle<()> {
    let app = Router::new().route("/", post(answer)).with_state(stored);
    tokio::spawn(async move { axum::serve(listener, app).await.unwrap() })
}

async fn answer(State(stored): State<Stored>, body: bytes::Bytes) -> String {
    let body: Value = serde_json::from_slice(&body).unwrap();
    let failed = json!({
        "TableName": "bench",
        "Error": {"Code": "ConditionalCheckFailed", "Message": "The conditional request failed"},
    });
    let statements = body["Statements"].as_array().unwrap();
    let answers = statements.iter().map(|statement| {
        let text = statement["Statement"].as_str().unwrap();
        let places = text.matches('?').count();
        assert_eq!(statement["Parameters"].as_array().unwrap().len(), places, "{text}");
        let updates = text.starts_with("UPDATE");
        if updates == (stored == Stored::All) { json!({"TableName": "bench"}) } else { failed.clone() }
    });
    let units = json!([{"TableName": "bench", "CapacityUnits": statements.len()}]);
    json!({"Responses": answers.collect::<Vec<_>>(), "ConsumedCapacity": units}).to_string()
}
