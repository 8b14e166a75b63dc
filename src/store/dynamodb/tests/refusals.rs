//! Conditional and atomic writes, and ranges: where they are sent, and what their refusals mean.

use super::*;
use crate::store::{CancelReason, SequenceRule, SortRange, Span};

const KEY: &str = r#""id":{"S":"a"}"#;

fn merge(rest: &str) -> OneWrite {
    OneWrite { table: "t".into(), item: WriteItem { op: WriteOp::Merge, ..put(KEY, rest) }, sequence: None }
}

/// A put of the sequence 5 in the column `seq`.
fn sequenced() -> OneWrite {
    let item = put(KEY, r#","seq":{"N":"5"}"#);
    let start = (1 + KEY.len() + r#","seq":"#.len()) as u32;
    let sequence = Some(Span { start, end: start + r#"{"N":"5"}"#.len() as u32 });
    let rule = SequenceRule { attribute: "seq".into(), expiry_attribute: None };
    OneWrite { table: "t".into(), item: WriteItem { sequence, ..item }, sequence: Some(Arc::new(rule)) }
}

fn transaction() -> TransactWrite {
    TransactWrite { table: "t".into(), items: three_items().items, sequence: None, token: "0f".into() }
}

fn refused_as(kind: &str, rest: &str) -> String {
    format!(r#"{{"__type":"com.amazonaws.dynamodb.v20120810#{kind}","message":"m"{rest}}}"#)
}

async fn one_refused(request: OneWrite, body: String) -> WriteError {
    let server = Server::replying(400, body).await;
    let error = server.store().await.write_one(request).await.unwrap_err();
    assert_eq!(server.seen().len(), 1, "a write is attempted once");
    error
}

async fn transaction_refused(status: u16, body: String) -> WriteError {
    let server = Server::replying(status, body).await;
    let error = server.store().await.transact_write(transaction()).await.unwrap_err();
    assert_eq!(server.seen().len(), 1, "a write is attempted once");
    error
}

#[tokio::test]
async fn merges_and_transactions_arrive_as_what_they_are_and_are_counted() {
    let server = Server::replying(200, r#"{"ConsumedCapacity":{"TableName":"t","CapacityUnits":1.5}}"#).await;
    let done = server.store().await.write_one(merge(r#","v":{"N":"1"}"#)).await.unwrap();
    assert_eq!(done, WriteDone { unprocessed: vec![], write_units: 1.5 });
    let seen = &server.seen()[0];
    assert_eq!(seen.target, "DynamoDB_20120810.UpdateItem");
    assert!(seen.signed && seen.body.contains(r#""UpdateExpression":"SET #0=:0""#), "{}", seen.body);

    let server = Server::replying(200, r#"{"ConsumedCapacity":[{"TableName":"t","CapacityUnits":6.0}]}"#).await;
    let done = server.store().await.transact_write(transaction()).await.unwrap();
    assert_eq!(done, WriteDone { unprocessed: vec![], write_units: 6.0 });
    let seen = &server.seen()[0];
    assert_eq!(seen.target, "DynamoDB_20120810.TransactWriteItems");
    assert!(seen.signed && seen.body.contains(r#""ClientRequestToken":"0f""#), "{}", seen.body);
}

#[tokio::test]
async fn a_false_condition_comes_back_with_what_is_stored() {
    let stored = r#","Item":{"id":{"S":"a"},"seq":{"N":"9"},"l":{"L":[{"NULL":true}]}}"#;
    let error = one_refused(sequenced(), refused_as("ConditionalCheckFailedException", stored)).await;
    let item = Item::from([
        ("id".to_owned(), Attr::S("a".to_owned())),
        ("seq".to_owned(), Attr::N("9".to_owned())),
        ("l".to_owned(), Attr::L(vec![Attr::Null])),
    ]);
    assert_eq!(error, WriteError::Condition { existing: Some(item) });
    for none in ["", r#","Item":{}"#] {
        let error = one_refused(merge(""), refused_as("ConditionalCheckFailedException", none)).await;
        assert_eq!(error, WriteError::Condition { existing: None });
    }
}

#[tokio::test]
async fn a_stored_item_of_a_kind_from_the_future_is_not_taken_for_none() {
    let stored = r#","Item":{"id":{"S":"a"},"shape":{"POLYGON":"1"}}"#;
    let error = one_refused(sequenced(), refused_as("ConditionalCheckFailedException", stored)).await;
    let WriteError::Validation { message } = error else { panic!("{error:?}") };
    assert!(message.contains("`shape`"), "{message}");
}

#[tokio::test]
async fn a_cancelled_transaction_says_whose_fault_it_was() {
    let reasons = r#","CancellationReasons":[{"Code":"None"},
        {"Code":"ConditionalCheckFailed","Message":"The conditional request failed","Item":{"id":{"S":"b"}}},
        {"Code":"TransactionConflict","Message":"Transaction is ongoing for the item"}]"#;
    let error = transaction_refused(400, refused_as("TransactionCanceledException", reasons)).await;
    let existing = Some(Item::from([("id".to_owned(), Attr::S("b".to_owned()))]));
    let reasons = vec![CancelReason::None, CancelReason::Condition { existing }, CancelReason::Conflict];
    assert_eq!(error, WriteError::Cancelled { reasons });

    let reasons = r#","CancellationReasons":[{"Code":"ThrottlingError","Message":"slow"},
        {"Code":"ProvisionedThroughputExceeded","Message":"slow"},
        {"Code":"ValidationError","Message":"The parameter cannot be converted to a numeric value: 12x"}]"#;
    let error = transaction_refused(400, refused_as("TransactionCanceledException", reasons)).await;
    let throttled = CancelReason::Throttled(ThrottleReason::Unknown);
    let message = "The parameter cannot be converted to a numeric value".to_owned();
    let reasons = vec![throttled.clone(), throttled, CancelReason::Refused { message }];
    assert_eq!(error, WriteError::Cancelled { reasons });
}

#[tokio::test]
async fn a_cancellation_that_does_not_fit_the_items_accuses_none_of_them() {
    for reasons in ["", r#","CancellationReasons":[{"Code":"ConditionalCheckFailed"}]"#] {
        let error = transaction_refused(400, refused_as("TransactionCanceledException", reasons)).await;
        assert!(matches!(error, WriteError::NotSent { .. }), "{error:?}");
    }
}

#[tokio::test]
async fn a_transaction_of_unknown_outcome_is_told_from_one_that_was_refused() {
    let unknown = [
        (400, refused_as("TransactionInProgressException", "")),
        (500, refused_as("InternalServerError", "")),
        (200, "{".to_owned()),
    ];
    for (status, body) in unknown {
        let error = transaction_refused(status, body.clone()).await;
        assert!(matches!(error, WriteError::Unknown { .. }), "{body}: {error:?}");
    }
    let error = transaction_refused(400, refused_as("IdempotentParameterMismatchException", "")).await;
    assert_eq!(error, WriteError::Validation { message: "m".to_owned() });
    let server = Server::start(Answer::Hang).await;
    let error = server.store().await.transact_write(transaction()).await.unwrap_err();
    assert!(matches!(error, WriteError::Unknown { .. }), "{error:?}");
}

#[tokio::test]
async fn one_item_that_another_transaction_holds_was_not_written() {
    let conflict = refused_as("TransactionConflictException", "");
    assert_eq!(one_refused(merge(""), conflict.clone()).await, WriteError::NotSent { message: "m".to_owned() });
    // Of a batch, others may have been.
    assert_eq!(refusal(400, &conflict).await, WriteError::Unknown { message: "m".to_owned() });
}

#[tokio::test]
async fn an_index_that_throttles_is_named() {
    let reasons = r#","ThrottlingReasons":[{"reason":"IndexWriteKeyRangeThroughputExceeded",
        "resource":"arn:aws:dynamodb:eu-west-1:1:table/t/index/by-day"}]"#;
    let throttled = refused_as("ProvisionedThroughputExceededException", reasons);
    let by_day = WriteError::Throttled { reason: ThrottleReason::KeyRange, index: Some("by-day".into()) };
    assert_eq!(refusal(400, &throttled).await, by_day);
    assert_eq!(one_refused(sequenced(), throttled).await, by_day);
}

#[tokio::test]
async fn a_batch_that_would_lose_a_condition_is_never_sent() {
    let server = Server::replying(200, "{}").await;
    let store = server.store().await;
    for item in [merge("").item, sequenced().item] {
        let error = store.batch_write(BatchWrite { table: "t".into(), items: vec![item] }).await.unwrap_err();
        assert!(matches!(error, WriteError::Validation { .. }), "{error:?}");
    }
    assert!(server.seen().is_empty());
}

#[tokio::test]
async fn a_range_is_asked_for_by_names_that_no_word_can_clash_with() {
    let answer = r#"{"Items":[{"key":{"S":"a"}}],"LastEvaluatedKey":{"key":{"S":"a"},"at":{"N":"2"}}}"#;
    let server = Server::replying(200, answer).await;
    let at = |text: &str| Some(Attr::N(text.to_owned()));
    let range = QueryRange {
        table: "t".into(),
        partition: ("key".to_owned(), Attr::S("a".to_owned())),
        sort: Some(SortRange { attribute: "at".to_owned(), from: at("1"), to: at("5") }),
        attributes: Arc::new(["key".to_owned(), "at".to_owned()]),
        strong: true,
        descending: true,
        limit: Some(u32::MAX),
        after: Some(vec![("key".to_owned(), Attr::S("a".to_owned())), ("at".to_owned(), Attr::N("4".to_owned()))]),
    };
    let page = server.store().await.query(range.clone()).await.unwrap();
    assert_eq!(page.items, [Item::from([("key".to_owned(), Attr::S("a".to_owned()))])]);
    let mut next = page.next.unwrap();
    next.sort_by(|left, right| left.0.cmp(&right.0));
    assert_eq!(next, [("at".to_owned(), Attr::N("2".to_owned())), ("key".to_owned(), Attr::S("a".to_owned()))]);
    let body: serde_json::Value = serde_json::from_str(&server.seen()[0].body).unwrap();
    assert_eq!(
        body,
        serde_json::json!({
            "TableName": "t",
            "KeyConditionExpression": "#p = :p AND #s BETWEEN :from AND :to",
            "ProjectionExpression": "#0,#1",
            "ExpressionAttributeNames": {"#p": "key", "#s": "at", "#0": "key", "#1": "at"},
            "ExpressionAttributeValues": {":p": {"S": "a"}, ":from": {"N": "1"}, ":to": {"N": "5"}},
            "ExclusiveStartKey": {"key": {"S": "a"}, "at": {"N": "4"}},
            "ConsistentRead": true,
            "ScanIndexForward": false,
            "Limit": i32::MAX,
        })
    );
}
