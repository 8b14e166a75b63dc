//! The expressions that Forebay sends, evaluated on an item: its conditions and its merges, and no others.

use std::cmp::Ordering;

use serde_json::{Map, Value};

/// An expression that Forebay does not send; its words.
#[derive(Debug)]
pub(super) struct Unknown(pub(super) String);

/// Names and values of a request's expressions.
struct Places<'a> {
    names: &'a Value,
    values: &'a Value,
}

impl<'a> Places<'a> {
    fn of(request: &'a Value) -> Self {
        Self { names: &request["ExpressionAttributeNames"], values: &request["ExpressionAttributeValues"] }
    }

    fn name(&self, place: &str) -> Result<&'a str, Unknown> {
        self.names[place].as_str().ok_or_else(|| Unknown(place.to_owned()))
    }

    fn value(&self, place: &str) -> Result<&'a Value, Unknown> {
        self.values.get(place).ok_or_else(|| Unknown(place.to_owned()))
    }
}

/// Whether the request's condition holds for the item that is stored.
pub(super) fn holds(request: &Value, stored: Option<&Value>) -> Result<bool, Unknown> {
    let Some(condition) = request["ConditionExpression"].as_str() else { return Ok(true) };
    let places = Places::of(request);
    for all in condition.split(" OR ") {
        let all = all.strip_prefix('(').and_then(|all| all.strip_suffix(')')).unwrap_or(all);
        let mut true_so_far = true;
        for one in all.split(" AND ") {
            true_so_far &= holds_one(one, &places, stored)?;
        }
        if true_so_far {
            return Ok(true);
        }
    }
    Ok(false)
}

fn holds_one(condition: &str, places: &Places<'_>, stored: Option<&Value>) -> Result<bool, Unknown> {
    let attribute = |place: &str| places.name(place).map(|name| stored.and_then(|item| item.get(name)));
    let argument =
        |function: &str| -> Option<&str> { condition.strip_prefix(function)?.strip_prefix('(')?.strip_suffix(')') };
    if let Some(place) = argument("attribute_not_exists") {
        return Ok(attribute(place)?.is_none());
    }
    if let Some(place) = argument("attribute_exists") {
        return Ok(attribute(place)?.is_some());
    }
    let (place, bound) = condition.split_once(" <= ").ok_or_else(|| Unknown(condition.to_owned()))?;
    let bound = places.value(bound)?;
    Ok(attribute(place)?.and_then(|value| compare(value, bound)).is_some_and(Ordering::is_le))
}

/// Numbers by value, as far as they are whole and of at most 38 digits, and texts by bytes.
fn compare(left: &Value, right: &Value) -> Option<Ordering> {
    let number = |value: &Value| value["N"].as_str()?.parse::<i128>().ok();
    match (number(left), number(right)) {
        (Some(left), Some(right)) => Some(left.cmp(&right)),
        _ => Some(left["S"].as_str()?.cmp(right["S"].as_str()?)),
    }
}

/// The item after the request's `SET #0=:0,.. REMOVE #1,..`: of the stored one, or of a new one with the key.
pub(super) fn updated(request: &Value, stored: Option<&Value>) -> Result<Value, Unknown> {
    let places = Places::of(request);
    let mut item: Map<String, Value> =
        stored.unwrap_or(&request["Key"]).as_object().cloned().ok_or_else(|| Unknown("Key".to_owned()))?;
    let expression = request["UpdateExpression"].as_str().unwrap_or_default();
    let (set, remove) = match expression.split_once("REMOVE ") {
        Some((set, remove)) => (set.trim_end(), remove),
        None => (expression, ""),
    };
    for assignment in set.strip_prefix("SET ").unwrap_or(set).split(',').filter(|part| !part.is_empty()) {
        let (name, value) = assignment.split_once('=').ok_or_else(|| Unknown(assignment.to_owned()))?;
        item.insert(places.name(name)?.to_owned(), places.value(value)?.clone());
    }
    for name in remove.split(',').filter(|part| !part.is_empty()) {
        item.remove(places.name(name)?);
    }
    Ok(Value::Object(item))
}
