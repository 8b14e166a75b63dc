//! The SDK path against a hand-made server that answers in DynamoDB's words: what is sent, and what answers mean.

mod refusals;

use std::sync::{Arc, Mutex};
use std::time::Duration;

use aws_credential_types::provider::{ProvideCredentials, error::CredentialsError, future};
use bytes::Bytes;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::*;
use crate::store::{Attr, ThrottleReason, WriteItem, WriteOp};

/// A request as it arrived.
#[derive(Debug, Clone, Default)]
struct Seen {
    target: String,
    content_type: String,
    signed: bool,
    body: String,
}

/// What the server does with every request.
#[derive(Debug, Clone)]
enum Answer {
    Reply(u16, String),
    Hang,
    /// Close the connection after the request was read.
    Close,
}

struct Server {
    endpoint: String,
    seen: Arc<Mutex<Vec<Seen>>>,
    _accepting: tokio_util::task::AbortOnDropHandle<()>,
}

impl Server {
    async fn start(answer: Answer) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let seen = Arc::new(Mutex::new(Vec::new()));
        let sink = seen.clone();
        let accepting = tokio::spawn(async move {
            let mut connections = tokio::task::JoinSet::new();
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                connections.spawn(serve(stream, answer.clone(), sink.clone()));
            }
        });
        Self { endpoint, seen, _accepting: tokio_util::task::AbortOnDropHandle::new(accepting) }
    }

    async fn replying(status: u16, body: impl Into<String>) -> Self {
        Self::start(Answer::Reply(status, body.into())).await
    }

    async fn store(&self) -> DynamoDb {
        DynamoDb::connect(&config(&self.endpoint)).await.unwrap()
    }

    fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
    }
}

async fn serve(mut stream: TcpStream, answer: Answer, seen: Arc<Mutex<Vec<Seen>>>) {
    let mut buffer = Vec::new();
    loop {
        let head_end = loop {
            if let Some(end) = buffer.windows(4).position(|four| four == b"\r\n\r\n") {
                break end + 4;
            }
            if stream.read_buf(&mut buffer).await.unwrap_or(0) == 0 {
                return;
            }
        };
        let head = String::from_utf8(buffer[..head_end].to_vec()).unwrap();
        let header = |name: &str| {
            let found = head.lines().find_map(|line| {
                let (key, value) = line.split_once(':')?;
                key.eq_ignore_ascii_case(name).then(|| value.trim().to_owned())
            });
            found.unwrap_or_default()
        };
        let length: usize = header("content-length").parse().unwrap();
        while buffer.len() < head_end + length {
            assert_ne!(stream.read_buf(&mut buffer).await.unwrap(), 0, "the body is shorter than its content-length");
        }
        let body = String::from_utf8(buffer[head_end..head_end + length].to_vec()).unwrap();
        buffer.drain(..head_end + length);
        seen.lock().unwrap().push(Seen {
            target: header("x-amz-target"),
            content_type: header("content-type"),
            signed: header("authorization").starts_with("AWS4-HMAC-SHA256 Credential=id/"),
            body,
        });
        match &answer {
            Answer::Reply(status, body) => {
                let head = format!(
                    "HTTP/1.1 {status} X\r\ncontent-type: application/x-amz-json-1.0\r\ncontent-length: {}\r\n\r\n",
                    body.len()
                );
                stream.write_all(head.as_bytes()).await.unwrap();
                stream.write_all(body.as_bytes()).await.unwrap();
            }
            Answer::Hang => std::future::pending().await,
            Answer::Close => return,
        }
    }
}

fn config(endpoint: &str) -> StoreConfig {
    StoreConfig {
        endpoint_url: Some(endpoint.to_owned()),
        static_credentials: Some(("id".to_owned(), "secret".to_owned())),
        write_attempt_timeout: Duration::from_millis(400),
        read_attempt_timeout: Duration::from_millis(200),
        read_timeout: Duration::from_millis(600),
        ..StoreConfig::default()
    }
}

fn put(key: &str, rest: &str) -> WriteItem {
    WriteItem::new(WriteOp::Put, Bytes::from(format!("{{{key}{rest}}}")), key.len() as u32)
}

fn delete(key: &str) -> WriteItem {
    WriteItem { op: WriteOp::Delete, ..put(key, "") }
}

fn three_items() -> BatchWrite {
    let items = vec![
        put(r#""id":{"S":"é\"1"},"n":{"N":"1.50"}"#, r#","v":{"L":[{"M":{"x":{"NULL":true}}}]}"#),
        delete(r#""id":{"S":"b"},"n":{"N":"2"}"#),
        put(r#""id":{"S":"c"},"n":{"N":"3"}"#, ""),
    ];
    BatchWrite { table: "t".into(), items }
}

fn one_get() -> GetKeys {
    GetKeys {
        table: "t".into(),
        keys: vec![vec![("id".to_owned(), Attr::S("a".to_owned()))]],
        attributes: Arc::new([]),
        strong: true,
    }
}

async fn write_error(answer: Answer) -> WriteError {
    let server = Server::start(answer).await;
    let error = server.store().await.batch_write(three_items()).await.unwrap_err();
    assert_eq!(server.seen().len(), 1, "a write is attempted once");
    error
}

async fn refusal(status: u16, body: &str) -> WriteError {
    write_error(Answer::Reply(status, body.to_owned())).await
}

#[tokio::test]
async fn a_batch_arrives_as_exactly_the_bytes_that_were_given() {
    let server =
        Server::replying(200, r#"{"UnprocessedItems":{},"ConsumedCapacity":[{"TableName":"t","CapacityUnits":3.0}]}"#)
            .await;
    let done = server.store().await.batch_write(three_items()).await.unwrap();
    assert_eq!(done, WriteDone { unprocessed: vec![], write_units: 3.0 });
    let seen = &server.seen()[0];
    assert_eq!(seen.target, "DynamoDB_20120810.BatchWriteItem");
    assert_eq!(seen.content_type, "application/x-amz-json-1.0");
    assert!(seen.signed);
    assert_eq!(
        seen.body,
        concat!(
            r#"{"RequestItems":{"t":["#,
            r#"{"PutRequest":{"Item":{"id":{"S":"é\"1"},"n":{"N":"1.50"},"v":{"L":[{"M":{"x":{"NULL":true}}}]}}}},"#,
            r#"{"DeleteRequest":{"Key":{"id":{"S":"b"},"n":{"N":"2"}}}},"#,
            r#"{"PutRequest":{"Item":{"id":{"S":"c"},"n":{"N":"3"}}}}"#,
            r#"]},"ReturnConsumedCapacity":"TOTAL"}"#
        )
    );
}

#[tokio::test]
async fn a_single_put_or_delete_arrives_as_exactly_the_bytes_that_were_given() {
    let server = Server::replying(200, r#"{"ConsumedCapacity":{"TableName":"t","CapacityUnits":2.5}}"#).await;
    let store = server.store().await;
    let key = r#""id":{"S":"a"}"#;
    let done = store
        .write_one(OneWrite { table: "t".into(), item: put(key, r#","v":{"N":"1"}"#), sequence: None })
        .await
        .unwrap();
    assert_eq!(done, WriteDone { unprocessed: vec![], write_units: 2.5 });
    store.write_one(OneWrite { table: "t".into(), item: delete(key), sequence: None }).await.unwrap();
    let seen = server.seen();
    assert_eq!(
        (seen[0].target.as_str(), seen[1].target.as_str()),
        ("DynamoDB_20120810.PutItem", "DynamoDB_20120810.DeleteItem")
    );
    assert_eq!(
        seen[0].body,
        r#"{"TableName":"t","Item":{"id":{"S":"a"},"v":{"N":"1"}},"ReturnConsumedCapacity":"TOTAL"}"#
    );
    assert_eq!(seen[1].body, r#"{"TableName":"t","Key":{"id":{"S":"a"}},"ReturnConsumedCapacity":"TOTAL"}"#);
}

#[tokio::test]
async fn unprocessed_items_come_back_as_indices_whatever_their_order_and_spelling() {
    let answer = r#"{"UnprocessedItems":{"t":[
        {"PutRequest":{"Item":{"n":{"N":"3.0"},"id":{"S":"c"}}}},
        {"PutRequest":{"Item":{"v":{"L":[{"M":{"x":{"NULL":true}}}]},"n":{"N":"1.5"},"id":{"S":"\u00e9\u00221"}}}}]}}"#;
    let server = Server::replying(200, answer).await;
    let done = server.store().await.batch_write(three_items()).await.unwrap();
    assert_eq!(done.unprocessed, [0, 2]);
}

#[tokio::test]
async fn an_unprocessed_item_that_was_never_sent_makes_the_whole_batch_unprocessed() {
    // A put where a delete was sent is not that item either.
    for stranger in [
        r#"{"PutRequest":{"Item":{"id":{"S":"zz"},"n":{"N":"3"}}}}"#,
        r#"{"PutRequest":{"Item":{"id":{"S":"b"},"n":{"N":"2"}}}}"#,
    ] {
        let server = Server::replying(200, format!(r#"{{"UnprocessedItems":{{"t":[{stranger}]}}}}"#)).await;
        let done = server.store().await.batch_write(three_items()).await.unwrap();
        assert_eq!(done.unprocessed, [0, 1, 2]);
    }
}

#[tokio::test]
async fn a_throttled_call_says_where_capacity_was_short() {
    let body = r#"{"__type":"com.amazonaws.dynamodb.v20120810#ProvisionedThroughputExceededException","message":"slow down",
        "ThrottlingReasons":[{"reason":"TableWriteKeyRangeThroughputExceeded","resource":"arn:aws:dynamodb:x:1:table/t"}]}"#;
    assert_eq!(refusal(400, body).await, WriteError::Throttled { reason: ThrottleReason::KeyRange, index: None });
    let body = r#"{"__type":"com.amazonaws.dynamodb.v20120810#ThrottlingException","message":"slow down",
        "throttlingReasons":[{"reason":"TableWriteMaxOnDemandThroughputExceeded","resource":"arn"}]}"#;
    assert_eq!(refusal(400, body).await, WriteError::Throttled { reason: ThrottleReason::MaxOnDemand, index: None });
    let body = r#"{"__type":"com.amazonaws.dynamodb.v20120810#RequestLimitExceeded","message":"slow down"}"#;
    assert_eq!(refusal(400, body).await, WriteError::Throttled { reason: ThrottleReason::Unknown, index: None });
}

#[tokio::test]
async fn a_validation_error_never_echoes_the_request() {
    let body = r#"{"__type":"com.amazon.coral.validate#ValidationException","message":"1 validation error detected: Value '{t=[WriteRequest(putRequest=PutRequest(item={id={S=é\"1}}))]}' at 'requestItems' failed to satisfy constraint: Member must not be null"}"#;
    let WriteError::Validation { message } = refusal(400, body).await else { panic!("not a validation error") };
    assert!(message.contains("Member must not be null") && !message.contains('é'), "{message}");
}

#[tokio::test]
async fn refusals_are_told_apart() {
    let body = |kind: &str| format!(r#"{{"__type":"com.amazonaws.dynamodb.v20120810#{kind}","message":"m"}}"#);
    let missing = WriteError::TableMissing { table: "t".to_owned() };
    assert_eq!(refusal(400, &body("ResourceNotFoundException")).await, missing);
    for kind in
        ["AccessDeniedException", "UnrecognizedClientException", "ExpiredTokenException", "InvalidSignatureException"]
    {
        assert_eq!(refusal(400, &body(kind)).await, WriteError::Access { message: "m".to_owned() }, "{kind}");
    }
    let too_large = refusal(400, &body("ItemCollectionSizeLimitExceededException")).await;
    assert_eq!(too_large, WriteError::Validation { message: "m".to_owned() });
}

#[tokio::test]
async fn what_may_have_been_written_is_unknown() {
    let internal = r#"{"__type":"com.amazonaws.dynamodb.v20120810#InternalServerError","message":"m"}"#;
    let answers = [
        Answer::Reply(500, internal.to_owned()),
        Answer::Reply(503, "<html>busy</html>".to_owned()),
        Answer::Reply(200, "{\"UnprocessedItems\":".to_owned()),
        Answer::Hang,
        Answer::Close,
    ];
    for answer in answers {
        let error = write_error(answer.clone()).await;
        assert!(matches!(error, WriteError::Unknown { .. }), "{answer:?}: {error:?}");
    }
}

#[tokio::test]
async fn a_refused_connection_or_an_unknown_host_means_that_nothing_was_sent() {
    let closed = {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        format!("http://{}", listener.local_addr().unwrap())
    };
    for endpoint in [closed.as_str(), "http://no-such-host.invalid:1"] {
        let store =
            DynamoDb::connect(&StoreConfig { write_attempt_timeout: Duration::from_secs(5), ..config(endpoint) })
                .await
                .unwrap();
        let error = store.batch_write(three_items()).await.unwrap_err();
        assert!(matches!(error, WriteError::NotSent { .. }), "{endpoint}: {error:?}");
    }
    let store = DynamoDb::connect(&config(&closed)).await.unwrap();
    let error = store.check_access("catalog").await.unwrap_err().to_string();
    assert!(error.contains(&format!("the endpoint {closed} does not answer: ")), "{error}");
    assert!(error.contains("refused"), "{error}");
}

#[tokio::test]
async fn a_read_is_retried_and_then_gives_up_in_time() {
    let body = r#"{"__type":"com.amazonaws.dynamodb.v20120810#ProvisionedThroughputExceededException","message":"slow",
        "ThrottlingReasons":[{"reason":"TableReadProvisionedThroughputExceeded","resource":"arn"}]}"#;
    let server = Server::replying(400, body).await;
    let error = server.store().await.get(one_get()).await.unwrap_err();
    assert_eq!(error, ReadError::Throttled { reason: ThrottleReason::Provisioned });
    assert!(server.seen().len() > 1);

    let server = Server::start(Answer::Hang).await;
    let began = tokio::time::Instant::now();
    let error = server.store().await.get(one_get()).await.unwrap_err();
    assert!(matches!(error, ReadError::Unavailable { .. }), "{error:?}");
    assert!(began.elapsed() < Duration::from_secs(5));
}

#[tokio::test]
async fn unprocessed_keys_come_back_as_indices_per_table() {
    let answer = r#"{"Responses":{"u":[{"id":{"S":"x"}}]},
        "UnprocessedKeys":{"t":{"Keys":[{"n":{"N":"2.0"}},{"n":{"N":"1E1"}}]}}}"#;
    let server = Server::replying(200, answer).await;
    let number = |text: &str| vec![("n".to_owned(), Attr::N(text.to_owned()))];
    let tables = vec![
        GetKeys { keys: vec![number("1"), number("10"), number("2")], ..one_get() },
        GetKeys { table: "u".into(), attributes: Arc::new(["id".to_owned()]), strong: false, ..one_get() },
    ];
    let done = server.store().await.batch_get(tables).await.unwrap();
    assert_eq!(done.unprocessed, [vec![1, 2], vec![]]);
    assert_eq!(done.items, [vec![], vec![Item::from([("id".to_owned(), Attr::S("x".to_owned()))])]]);
    let body: serde_json::Value = serde_json::from_str(&server.seen()[0].body).unwrap();
    assert_eq!(body["RequestItems"]["u"]["ProjectionExpression"], "#0");
    assert_eq!(body["RequestItems"]["u"]["ExpressionAttributeNames"]["#0"], "id");
    assert_eq!(body["RequestItems"]["t"]["ConsistentRead"], true);
}

#[tokio::test]
async fn a_conditional_record_is_sent_once_even_when_the_answer_is_lost() {
    let server = Server::start(Answer::Close).await;
    let record = ControlRecord { pk: "a".to_owned(), sk: 1, body: "{}".to_owned() };
    let error = server.store().await.put_record("c", record, true).await.unwrap_err();
    assert!(matches!(error, ControlError::Unavailable { .. }), "{error:?}");
    assert_eq!(server.seen().len(), 1);
}

#[derive(Debug)]
struct NoCredentials;

impl ProvideCredentials for NoCredentials {
    fn provide_credentials<'a>(&'a self) -> future::ProvideCredentials<'a>
    where
        Self: 'a,
    {
        future::ProvideCredentials::ready(Err(CredentialsError::not_loaded("none in the test")))
    }
}

#[tokio::test]
async fn missing_credentials_are_named_before_anything_is_sent() {
    let server = Server::replying(200, "{}").await;
    let builder = aws_sdk_dynamodb::Config::builder()
        .behavior_version(BehaviorVersion::v2026_01_12())
        .region(Region::from_static(LOCAL_REGION))
        .endpoint_url(&server.endpoint)
        .credentials_provider(NoCredentials);
    let place = ("the test".to_owned(), super::server_address(Some(&server.endpoint), LOCAL_REGION));
    let store = DynamoDb::from_builder(builder, &config(&server.endpoint), place);
    let error = store.check_access("catalog").await.unwrap_err();
    assert!(matches!(error, ControlError::Access { .. }), "{error:?}");
    assert!(error.to_string().contains("no AWS credentials were found"), "{error}");
    let error = store.batch_write(three_items()).await.unwrap_err();
    assert!(matches!(error, WriteError::Access { .. }), "{error:?}");
    assert!(server.seen().is_empty());
}

#[tokio::test]
async fn an_endpoint_that_is_no_url_is_refused_with_the_expected_form() {
    for endpoint in ["localhost:8000", "ftp://x", "http://", ""] {
        let error = DynamoDb::connect(&config(endpoint)).await.unwrap_err();
        assert!(error.to_string().contains("http://host:port"), "{endpoint}: {error}");
    }
}

#[tokio::test]
async fn only_what_a_definition_asks_for_is_in_create_table() {
    use crate::schema::table::{DynamoDbOptions, KeyDef, StreamView};
    use crate::schema::types::{DataType, Field, Schema};

    let active = r#"{"Table":{"TableStatus":"ACTIVE","KeySchema":[{"AttributeName":"id","KeyType":"HASH"}],
        "AttributeDefinitions":[{"AttributeName":"id","AttributeType":"S"}]}}"#;
    let server = Server::replying(200, active).await;
    let store = server.store().await;
    let schema =
        Schema { fields: vec![Field::new("id", DataType::String, false), Field::new("until", DataType::Long, true)] };
    let key = KeyDef {
        partition: vec!["id".to_owned()],
        sort: vec![],
        partition_attribute: "_pk".to_owned(),
        sort_attribute: "_sk".to_owned(),
    };
    let mut definition = TableDef::new("t", schema, key, "prod-t");
    store.create_table(&definition).await.unwrap();
    let operations = |from: usize| -> Vec<String> {
        server.seen()[from..]
            .iter()
            .map(|seen| seen.target.trim_start_matches("DynamoDB_20120810.").to_owned())
            .collect()
    };
    assert_eq!(operations(0), ["CreateTable", "DescribeTable"]);
    let body: serde_json::Value = serde_json::from_str(&server.seen()[0].body).unwrap();
    assert_eq!(
        body,
        serde_json::json!({
            "TableName": "prod-t", "BillingMode": "PAY_PER_REQUEST",
            "KeySchema": [{"AttributeName": "id", "KeyType": "HASH"}],
            "AttributeDefinitions": [{"AttributeName": "id", "AttributeType": "S"}],
        })
    );

    definition.ttl_column = Some("until".to_owned());
    definition.dynamodb = DynamoDbOptions {
        max_on_demand_write_units: 500,
        point_in_time_recovery: true,
        kms_key: "alias/k".to_owned(),
        tags: [("team".to_owned(), "ml".to_owned())].into(),
        stream_view: Some(StreamView::NewAndOldImages),
        deletion_protection: true,
        ..DynamoDbOptions::default()
    };
    store.create_table(&definition).await.unwrap();
    let called =
        ["DescribeContinuousBackups", "CreateTable", "DescribeTable", "UpdateTimeToLive", "UpdateContinuousBackups"];
    assert_eq!(operations(2), called);
    let body: serde_json::Value = serde_json::from_str(&server.seen()[3].body).unwrap();
    assert_eq!(body["OnDemandThroughput"], serde_json::json!({"MaxWriteRequestUnits": 500}));
    assert_eq!(
        body["SSESpecification"],
        serde_json::json!({"Enabled": true, "SSEType": "KMS", "KMSMasterKeyId": "alias/k"})
    );
    assert_eq!(body["Tags"], serde_json::json!([{"Key": "team", "Value": "ml"}]));
    assert_eq!(
        body["StreamSpecification"],
        serde_json::json!({"StreamEnabled": true, "StreamViewType": "NEW_AND_OLD_IMAGES"})
    );
    assert_eq!(body["DeletionProtectionEnabled"], true);
}

#[test]
fn neither_rows_nor_secrets_are_in_what_is_logged() {
    let config = config("http://127.0.0.1:1");
    let item = put(r#""id":{"S":"private"}"#, "");
    let logged = format!("{config:?} {item:?} {:?}", three_items());
    assert!(!logged.contains("secret") && !logged.contains("private") && !logged.contains("1.50"), "{logged}");
}

#[test]
fn traces_say_which_host_is_asked() {
    let of = |endpoint| super::server_address(endpoint, "eu-west-1");
    assert_eq!(&*of(None).host, "dynamodb.eu-west-1.amazonaws.com");
    assert_eq!(
        (&*of(Some("http://127.0.0.1:8000")).host, of(Some("http://127.0.0.1:8000")).port),
        ("127.0.0.1", Some(8000))
    );
}
