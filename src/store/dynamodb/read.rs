//! GetItem, BatchGetItem and Query, retried by the SDK.

use std::collections::HashMap;

use aws_sdk_dynamodb::types::KeysAndAttributes;

use super::attr::{ComparableKey, SdkItem, attr_to_sdk, item_from_sdk, key_to_sdk};
use super::errors::Failure;
use crate::limits::PROJECTION_MAX_BYTES;
use crate::store::{BatchGetDone, GetKeys, Item, KeyAttrs, QueryPage, QueryRange, ReadError};

pub(super) async fn get(client: &aws_sdk_dynamodb::Client, keys: GetKeys) -> Result<Option<Item>, ReadError> {
    let [key] = keys.keys.as_slice() else {
        let message = format!("a GetItem has exactly one key, not {}", keys.keys.len());
        return Err(ReadError::Validation { message });
    };
    let projection = Projection::of(&keys.attributes);
    let answer = client
        .get_item()
        .table_name(&*keys.table)
        .set_key(Some(key_to_sdk(key)))
        .consistent_read(keys.strong)
        .set_projection_expression(projection.expression)
        .set_expression_attribute_names(projection.names)
        .send()
        .await
        .map_err(|error| Failure::of(&error).into_read(&keys.table))?;
    answer.item.map(|item| item_of(item, &keys.attributes)).transpose()
}

pub(super) async fn batch_get(
    client: &aws_sdk_dynamodb::Client,
    tables: Vec<GetKeys>,
) -> Result<BatchGetDone, ReadError> {
    let mut request = HashMap::with_capacity(tables.len());
    for keys in &tables {
        let projection = Projection::of(&keys.attributes);
        let wanted = KeysAndAttributes::builder()
            .set_keys(Some(keys.keys.iter().map(key_to_sdk).collect()))
            .consistent_read(keys.strong)
            .set_projection_expression(projection.expression)
            .set_expression_attribute_names(projection.names)
            .build()
            .map_err(|error| ReadError::Validation { message: error.to_string() })?;
        request.insert(keys.table.to_string(), wanted);
    }
    let names = tables.iter().map(|keys| &*keys.table).collect::<Vec<_>>().join("`, `");
    let answer = client
        .batch_get_item()
        .set_request_items(Some(request))
        .send()
        .await
        .map_err(|error| Failure::of(&error).into_read(&names))?;
    let mut found = answer.responses.unwrap_or_default();
    let returned = answer.unprocessed_keys.unwrap_or_default();
    let mut done = BatchGetDone::default();
    for keys in &tables {
        let items = found.remove(&*keys.table).unwrap_or_default();
        done.items.push(items.into_iter().map(|item| item_of(item, &keys.attributes)).collect::<Result<_, _>>()?);
        done.unprocessed.push(match returned.get(&*keys.table) {
            // One that cannot be found among what was asked for could be any of them; asking again is harmless.
            Some(left) if !left.keys().is_empty() => {
                match_returned(&keys.keys, left.keys()).unwrap_or_else(|| (0..keys.keys.len()).collect())
            }
            _ => Vec::new(),
        });
    }
    Ok(done)
}

pub(super) async fn query(client: &aws_sdk_dynamodb::Client, range: QueryRange) -> Result<QueryPage, ReadError> {
    let Projection { expression, names } = Projection::of(&range.attributes);
    let (partition, value) = &range.partition;
    let mut condition = "#p = :p".to_owned();
    let mut names = names.unwrap_or_default();
    names.insert("#p".to_owned(), partition.clone());
    let mut values = HashMap::from([(":p".to_owned(), attr_to_sdk(value))]);
    if let Some(sort) = &range.sort {
        let bounds = match (&sort.from, &sort.to) {
            (Some(_), Some(_)) => " AND #s BETWEEN :from AND :to",
            (Some(_), None) => " AND #s >= :from",
            (None, Some(_)) => " AND #s <= :to",
            (None, None) => "",
        };
        condition.push_str(bounds);
        if !bounds.is_empty() {
            names.insert("#s".to_owned(), sort.attribute.clone());
        }
        let bounds = [(":from", &sort.from), (":to", &sort.to)].into_iter();
        values.extend(bounds.filter_map(|(name, bound)| Some((name.to_owned(), attr_to_sdk(bound.as_ref()?)))));
    }
    let answer = client
        .query()
        .table_name(&*range.table)
        .key_condition_expression(condition)
        .set_projection_expression(expression)
        .set_expression_attribute_names(Some(names))
        .set_expression_attribute_values(Some(values))
        .consistent_read(range.strong)
        .scan_index_forward(!range.descending)
        .set_limit(range.limit.map(|limit| i32::try_from(limit).unwrap_or(i32::MAX)))
        .set_exclusive_start_key(range.after.as_ref().map(key_to_sdk))
        .send()
        .await
        .map_err(|error| Failure::of(&error).into_read(&range.table))?;
    let items = answer.items.unwrap_or_default().into_iter();
    let next = answer.last_evaluated_key.filter(|key| !key.is_empty());
    Ok(QueryPage {
        items: items.map(|item| item_of(item, &range.attributes)).collect::<Result<_, _>>()?,
        next: next.map(|key| item_of(key, &[]).map(|key| key.into_iter().collect())).transpose()?,
    })
}

fn match_returned(keys: &[KeyAttrs], returned: &[SdkItem]) -> Option<Vec<usize>> {
    let asked: Vec<ComparableKey> = keys.iter().map(ComparableKey::from_attrs).collect::<Option<_>>()?;
    let mut indices = returned
        .iter()
        .map(|attributes| asked.iter().position(|key| key.matches(attributes)))
        .collect::<Option<Vec<_>>>()?;
    indices.sort_unstable();
    indices.dedup();
    Some(indices)
}

fn item_of(item: SdkItem, attributes: &[String]) -> Result<Item, ReadError> {
    let mut item = item_from_sdk(item).map_err(|error| ReadError::Validation { message: error.to_string() })?;
    // More than was asked for comes back where the projection did not fit in its expression.
    if !attributes.is_empty() && item.len() > attributes.len() {
        item.retain(|name, _| attributes.contains(name));
    }
    Ok(item)
}

/// A projection in DynamoDB's words: `#0,#1` with the names beside it, so that no name can clash with a reserved word.
#[derive(Default)]
struct Projection {
    expression: Option<String>,
    names: Option<HashMap<String, String>>,
}

impl Projection {
    /// All attributes, where `attributes` is empty or longer than an expression may be.
    fn of(attributes: &[String]) -> Self {
        if attributes.is_empty() {
            return Self::default();
        }
        let names: HashMap<String, String> =
            attributes.iter().enumerate().map(|(index, name)| (format!("#{index}"), name.clone())).collect();
        let expression = (0..attributes.len()).map(|index| format!("#{index}")).collect::<Vec<_>>().join(",");
        if expression.len() > PROJECTION_MAX_BYTES {
            return Self::default();
        }
        Self { expression: Some(expression), names: Some(names) }
    }
}
