//! Control records: items `{pk: S, sk: N, body: S}`.

use std::collections::HashMap;

use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::types::AttributeValue;

use super::attr::SdkItem;
use super::control::{CONTROL_PARTITION, CONTROL_SORT};
use super::errors::Failure;
use crate::store::{ControlError, ControlRecord};

const BODY: &str = "body";

pub(super) async fn put(
    client: &Client,
    table: &str,
    record: ControlRecord,
    only_if_absent: bool,
) -> Result<(), ControlError> {
    let request = client
        .put_item()
        .table_name(table)
        .item(CONTROL_PARTITION, AttributeValue::S(record.pk))
        .item(CONTROL_SORT, AttributeValue::N(record.sk.to_string()))
        .item(BODY, AttributeValue::S(record.body));
    let sent = if only_if_absent {
        // Sent once: a retry after a lost answer would find our own record and call it somebody else's.
        request
            .condition_expression("attribute_not_exists(#pk)")
            .expression_attribute_names("#pk", CONTROL_PARTITION)
            .customize()
            .config_override(super::no_retries())
            .send()
            .await
    } else {
        request.send().await
    };
    sent.map(|_| ()).map_err(|error| Failure::of(&error).into_control(table))
}

pub(super) async fn get(
    client: &Client,
    table: &str,
    pk: &str,
    sk: Option<u64>,
) -> Result<Option<ControlRecord>, ControlError> {
    let item = match sk {
        Some(sk) => {
            let request = client.get_item().table_name(table).consistent_read(true);
            let key = HashMap::from([
                (CONTROL_PARTITION.to_owned(), AttributeValue::S(pk.to_owned())),
                (CONTROL_SORT.to_owned(), AttributeValue::N(sk.to_string())),
            ]);
            let answer = request.set_key(Some(key)).send().await;
            answer.map_err(|error| Failure::of(&error).into_control(table))?.item
        }
        None => client
            .query()
            .table_name(table)
            .consistent_read(true)
            .key_condition_expression("#pk = :pk")
            .expression_attribute_names("#pk", CONTROL_PARTITION)
            .expression_attribute_values(":pk", AttributeValue::S(pk.to_owned()))
            .scan_index_forward(false)
            .limit(1)
            .send()
            .await
            .map_err(|error| Failure::of(&error).into_control(table))?
            .items
            .unwrap_or_default()
            .pop(),
    };
    item.map(|item| record_of(table, item)).transpose()
}

pub(super) async fn scan(client: &Client, table: &str) -> Result<Vec<ControlRecord>, ControlError> {
    let mut records = Vec::new();
    let mut start = None;
    loop {
        let page = client
            .scan()
            .table_name(table)
            .consistent_read(true)
            .set_exclusive_start_key(start.take())
            .send()
            .await
            .map_err(|error| Failure::of(&error).into_control(table))?;
        for item in page.items.unwrap_or_default() {
            records.push(record_of(table, item)?);
        }
        match page.last_evaluated_key.filter(|key| !key.is_empty()) {
            Some(key) => start = Some(key),
            None => return Ok(records),
        }
    }
}

fn record_of(table: &str, mut item: SdkItem) -> Result<ControlRecord, ControlError> {
    let mut take = |name: &str| item.remove(name);
    match (take(CONTROL_PARTITION), take(CONTROL_SORT), take(BODY)) {
        (Some(AttributeValue::S(pk)), Some(AttributeValue::N(sk)), Some(AttributeValue::S(body))) => {
            let sk = sk.parse().map_err(|_| foreign(table))?;
            Ok(ControlRecord { pk, sk, body })
        }
        _ => Err(foreign(table)),
    }
}

fn foreign(table: &str) -> ControlError {
    let message = format!("the control table `{table}` has an item that Forebay did not write (pk: S, sk: N, body: S)");
    ControlError::Refused { message }
}
