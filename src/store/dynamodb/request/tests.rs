//! The bodies, to the letter.

use std::sync::Arc;

use bytes::Bytes;
use serde_json::Value;

use super::*;
use crate::store::Span;

const KEY: &str = r#""id":{"S":"a"},"n":{"N":"1"}"#;

fn item(op: WriteOp, rest: &str) -> WriteItem {
    WriteItem::new(op, Bytes::from(format!("{{{KEY}{rest}}}")), KEY.len() as u32)
}

/// With the sequence 17 in the column `seq`, after the key.
fn sequenced(op: WriteOp, rest: &str) -> WriteItem {
    let item = item(op, &format!(r#","seq":{{"N":"17"}}{rest}"#));
    let start = (1 + KEY.len() + r#","seq":"#.len()) as u32;
    WriteItem { sequence: Some(Span { start, end: start + r#"{"N":"17"}"#.len() as u32 }), ..item }
}

fn rule(expiry: Option<&str>) -> Option<Arc<SequenceRule>> {
    Some(Arc::new(SequenceRule { attribute: "seq".into(), expiry_attribute: expiry.map(Arc::from) }))
}

fn one(item: WriteItem, sequence: Option<Arc<SequenceRule>>) -> Result<String, Unfit> {
    let body = write_one(&OneWrite { table: "t".into(), item, sequence })?;
    let text = String::from_utf8(body).unwrap();
    serde_json::from_str::<Value>(&text).unwrap();
    Ok(text)
}

#[test]
fn a_sequenced_put_gives_way_to_a_greater_sequence_only() {
    let body = one(sequenced(WriteOp::Put, r#","v":{"S":"é\""}"#), rule(Some("_expires_at"))).unwrap();
    assert_eq!(
        body,
        concat!(
            r#"{"TableName":"t","Item":{"id":{"S":"a"},"n":{"N":"1"},"seq":{"N":"17"},"v":{"S":"é\""}},"#,
            r#""ConditionExpression":"attribute_not_exists(#s) OR #s <= :s","#,
            r##""ExpressionAttributeNames":{"#s":"seq"},"##,
            r#""ExpressionAttributeValues":{":s":{"N":"17"}},"#,
            r#""ReturnValuesOnConditionCheckFailure":"ALL_OLD","ReturnConsumedCapacity":"TOTAL"}"#
        )
    );
}

#[test]
fn an_insert_asks_that_its_key_is_free() {
    assert_eq!(
        one(item(WriteOp::Insert, r#","v":{"N":"1"}"#), None).unwrap(),
        concat!(
            r#"{"TableName":"t","Item":{"id":{"S":"a"},"n":{"N":"1"},"v":{"N":"1"}},"#,
            r##""ConditionExpression":"attribute_not_exists(#k)","ExpressionAttributeNames":{"#k":"id"},"##,
            r#""ReturnValuesOnConditionCheckFailure":"ALL_OLD","ReturnConsumedCapacity":"TOTAL"}"#
        )
    );
    assert_eq!(
        one(sequenced(WriteOp::Insert, ""), rule(None)).unwrap(),
        concat!(
            r#"{"TableName":"t","Item":{"id":{"S":"a"},"n":{"N":"1"},"seq":{"N":"17"}},"#,
            r#""ConditionExpression":"attribute_not_exists(#k) OR (attribute_exists(#d) AND #s <= :s)","#,
            r##""ExpressionAttributeNames":{"#k":"id","#d":"_deleted","#s":"seq"},"##,
            r#""ExpressionAttributeValues":{":s":{"N":"17"}},"#,
            r#""ReturnValuesOnConditionCheckFailure":"ALL_OLD","ReturnConsumedCapacity":"TOTAL"}"#
        )
    );
}

#[test]
fn a_merge_sets_what_has_a_value_and_removes_what_is_null() {
    assert_eq!(
        one(item(WriteOp::Merge, r#","a":{"S":"x"},"b":null,"c\"":{"NULL":true}"#), None).unwrap(),
        concat!(
            r#"{"TableName":"t","Key":{"id":{"S":"a"},"n":{"N":"1"}},"UpdateExpression":"SET #0=:0,#2=:2 REMOVE #1","#,
            r##""ExpressionAttributeNames":{"#0":"a","#1":"b","#2":"c\""},"##,
            r#""ExpressionAttributeValues":{":0":{"S":"x"},":2":{"NULL":true}},"ReturnConsumedCapacity":"TOTAL"}"#
        )
    );
    assert_eq!(
        one(item(WriteOp::Merge, r#","a":null,"b":null"#), None).unwrap(),
        concat!(
            r#"{"TableName":"t","Key":{"id":{"S":"a"},"n":{"N":"1"}},"UpdateExpression":"REMOVE #0,#1","#,
            r##""ExpressionAttributeNames":{"#0":"a","#1":"b"},"ReturnConsumedCapacity":"TOTAL"}"##
        )
    );
    // It makes the item where there is none.
    assert_eq!(
        one(item(WriteOp::Merge, ""), None).unwrap(),
        r#"{"TableName":"t","Key":{"id":{"S":"a"},"n":{"N":"1"}},"ReturnConsumedCapacity":"TOTAL"}"#
    );
}

#[test]
fn a_sequenced_merge_also_ends_a_tombstone() {
    assert_eq!(
        one(sequenced(WriteOp::Merge, r#","a":null"#), rule(Some("_expires_at"))).unwrap(),
        concat!(
            r#"{"TableName":"t","Key":{"id":{"S":"a"},"n":{"N":"1"}},"UpdateExpression":"SET #0=:0 REMOVE #1,#d,#x","#,
            r#""ConditionExpression":"attribute_not_exists(#s) OR #s <= :s","#,
            r##""ExpressionAttributeNames":{"#0":"seq","#1":"a","#d":"_deleted","#x":"_expires_at","#s":"seq"},"##,
            r#""ExpressionAttributeValues":{":0":{"N":"17"},":s":{"N":"17"}},"#,
            r#""ReturnValuesOnConditionCheckFailure":"ALL_OLD","ReturnConsumedCapacity":"TOTAL"}"#
        )
    );
    let body = one(sequenced(WriteOp::Merge, ""), rule(None)).unwrap();
    assert!(body.contains(r#""SET #0=:0 REMOVE #d""#) && !body.contains("#x"), "{body}");
}

#[test]
fn a_transaction_holds_the_same_conditions_and_its_token() {
    let body = |items, sequence| {
        let request = TransactWrite { table: "t".into(), items, sequence, token: "0123".into() };
        String::from_utf8(transact_write(&request).unwrap()).unwrap()
    };
    assert_eq!(
        body(vec![item(WriteOp::Put, ""), item(WriteOp::Delete, ""), item(WriteOp::Merge, r#","a":null"#)], None),
        concat!(
            r#"{"TransactItems":[{"Put":{"TableName":"t","Item":{"id":{"S":"a"},"n":{"N":"1"}}}},"#,
            r#"{"Delete":{"TableName":"t","Key":{"id":{"S":"a"},"n":{"N":"1"}}}},"#,
            r#"{"Update":{"TableName":"t","Key":{"id":{"S":"a"},"n":{"N":"1"}},"UpdateExpression":"REMOVE #0","#,
            r##""ExpressionAttributeNames":{"#0":"a"}}}],"##,
            r#""ClientRequestToken":"0123","ReturnConsumedCapacity":"TOTAL"}"#
        )
    );
    let sequenced = [WriteOp::Put, WriteOp::Insert, WriteOp::Merge].map(|op| sequenced(op, r#","a":{"N":"1"}"#));
    let whole: Value = serde_json::from_str(&body(sequenced.to_vec(), rule(Some("_expires_at")))).unwrap();
    for (index, (item, kind)) in sequenced.into_iter().zip(["Put", "Put", "Update"]).enumerate() {
        let alone: Value = serde_json::from_str(&one(item, rule(Some("_expires_at"))).unwrap()).unwrap();
        let mut within = whole["TransactItems"][index][kind].clone();
        within["ReturnConsumedCapacity"] = "TOTAL".into();
        assert_eq!(within, alone);
    }
    // Where an expression must be, one that does nothing.
    let whole: Value = serde_json::from_str(&body(vec![item(WriteOp::Merge, "")], None)).unwrap();
    let update = &whole["TransactItems"][0]["Update"];
    assert_eq!(update["UpdateExpression"], "REMOVE #n");
    assert_eq!(update["ExpressionAttributeNames"]["#n"], "\u{0}forebay:none");
}

#[test]
fn what_a_request_cannot_carry_is_refused_before_it_is_sent() {
    let batch = |item| batch_write(&BatchWrite { table: "t".into(), items: vec![item] });
    assert!(batch(item(WriteOp::Put, "")).is_ok() && batch(item(WriteOp::Delete, "")).is_ok());
    for op in [WriteOp::Insert, WriteOp::Merge] {
        assert_eq!(batch(item(op, "")), Err(Unfit::Batch));
    }
    assert_eq!(batch(sequenced(WriteOp::Put, "")), Err(Unfit::Batch));

    assert_eq!(one(item(WriteOp::Put, ""), rule(None)), Err(Unfit::Sequence));
    assert_eq!(one(sequenced(WriteOp::Put, ""), None), Err(Unfit::Sequence));
    assert_eq!(one(item(WriteOp::Delete, ""), rule(None)), Err(Unfit::Delete));
    let mut cut = item(WriteOp::Merge, r#","v":{"S":"x"}"#);
    cut.json.truncate(cut.json.len() - 2);
    assert_eq!(one(cut, None), Err(Unfit::Text));
}

#[test]
fn names_are_escaped_wherever_they_come_from() {
    let rule = Some(Arc::new(SequenceRule { attribute: "s\"\u{1}\\é".into(), expiry_attribute: None }));
    let body: Value = serde_json::from_str(&one(sequenced(WriteOp::Put, ""), rule).unwrap()).unwrap();
    assert_eq!(body["ExpressionAttributeNames"]["#s"], "s\"\u{1}\\é");
}
