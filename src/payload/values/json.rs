//! JSON, read as the declared type and written from it.
//!
//! Reading works on the raw text of each value, so that a decimal or a large integer keeps its digits. A JSON string is an
//! exact literal of what JSON has no form of its own for (decimals, dates, times, bytes), never of a number or a boolean;
//! what becomes of values that are none is for [`Fit`] to say. Paths are those that the gateway uses.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde::de::{Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

use super::fit::{Fit, number_for};
use super::{Misfit, text};
use crate::limits::{NESTING_MAX_LEVELS, NUMBER_MAX_DIGITS};
use crate::payload::number::{self, Decimal};
use crate::proto::v1::value::Kind;
use crate::proto::v1::{ListValue, MapEntry, MapValue, RowReason, StructValue, Value};
use crate::schema::DataType;

/// The members of a JSON object in the order of the text, repeated names included.
#[derive(Debug)]
pub(crate) struct Members<'a>(pub(crate) Vec<(String, &'a RawValue)>);

impl<'de: 'a, 'a> serde::Deserialize<'de> for Members<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Collect;
        impl<'de> Visitor<'de> for Collect {
            type Value = Members<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a JSON object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut members = Vec::with_capacity(map.size_hint().unwrap_or(16));
                while let Some(member) = map.next_entry::<String, &'de RawValue>()? {
                    members.push(member);
                }
                Ok(Members(members))
            }
        }
        deserializer.deserialize_map(Collect)
    }
}

/// Reads a JSON value as a value of the type, for callers that leave nothing out or need not say what.
pub(crate) fn from_raw(path: &str, raw: &RawValue, data_type: &DataType, fit: Fit) -> Result<Value, Misfit> {
    read(path, raw, data_type, fit, &mut Vec::new())
}

/// Reads a JSON value as a value of the type; `dropped` gets the paths of the fields that were left out.
pub(crate) fn read(
    path: &str,
    raw: &RawValue,
    data_type: &DataType,
    fit: Fit,
    dropped: &mut Vec<String>,
) -> Result<Value, Misfit> {
    let json = raw.get();
    // The text was checked to be JSON when its line was read, here and below.
    let broken = |_| Misfit::of_type(path, "the text", data_type);
    let kind = match (json.as_bytes().first(), data_type) {
        (Some(b'n'), _) => return Ok(Value::default()),
        (_, DataType::Variant) => return natural(path, json, 1),
        (Some(b'['), DataType::Array { element, .. }) => {
            let elements: Vec<&RawValue> = serde_json::from_str(json).map_err(broken)?;
            let one = |(at, raw): (usize, &&RawValue)| read(&format!("{path}[{at}]"), raw, element, fit, dropped);
            Kind::ListValue(ListValue { values: elements.iter().enumerate().map(one).collect::<Result<_, _>>()? })
        }
        (Some(b'{'), DataType::Map { key, value, .. }) => {
            let Members(members) = serde_json::from_str(json).map_err(broken)?;
            let one = |(at, (name, raw)): (usize, (String, &RawValue))| {
                Ok(MapEntry {
                    key: Some(text::read(&format!("{path}[{at}].key"), &name, key, fit, dropped)?),
                    value: Some(read(&format!("{path}[{at}].value"), raw, value, fit, dropped)?),
                })
            };
            Kind::MapValue(MapValue {
                entries: members.into_iter().enumerate().map(one).collect::<Result<_, Misfit>>()?,
            })
        }
        (Some(b'{'), DataType::Struct(fields)) => {
            let Members(members) = serde_json::from_str(json).map_err(broken)?;
            let mut values = vec![None; fields.len()];
            for (name, raw) in members {
                let path = format!("{path}.{name}");
                match fields.iter().position(|field| field.name == name) {
                    Some(at) if values[at].is_some() => {
                        return Err(comes_twice(&path, "a struct has each of its fields once"));
                    }
                    Some(at) => values[at] = Some(read(&path, raw, &fields[at].data_type, fit, dropped)?),
                    None if fit.drop_unknown => dropped.push(path),
                    None => {
                        let misfit = Misfit::new(&path, RowReason::UnknownField, "the struct has no such field");
                        return Err(misfit.hint(UNKNOWN_FIELD));
                    }
                }
            }
            Kind::StructValue(StructValue { values: values.into_iter().map(Option::unwrap_or_default).collect() })
        }
        (Some(b'['), _) => return Err(Misfit::of_type(path, "a list", data_type)),
        (Some(b'{'), _) => return Err(Misfit::of_type(path, "a map", data_type)),
        (first, DataType::Array { .. } | DataType::Map { .. } | DataType::Struct(_)) => {
            let found = match first {
                Some(b'"') => "text",
                Some(b't' | b'f') => "a boolean",
                _ => "a number",
            };
            return Err(Misfit::of_type(path, found, data_type));
        }
        (Some(b'"'), scalar) => return from_text(path, unquote(path, json)?, scalar, fit, dropped),
        (Some(b't' | b'f'), DataType::Boolean) => Kind::BoolValue(json == "true"),
        (Some(b't' | b'f'), scalar) => return fit.settle(path, Kind::BoolValue(json == "true"), scalar),
        (_, scalar) => return from_number(path, json, scalar, fit),
    };
    Ok(Value { kind: Some(kind) })
}

/// What to do about a field that a table does not have.
pub(crate) const UNKNOWN_FIELD: &str =
    "leave it out, add it to the table, or let the table have `unknown_fields: drop`";

/// A field that an object has more than once: which of its values is meant cannot be told.
pub(crate) fn comes_twice(path: &str, hint: &str) -> Misfit {
    Misfit::new(path, RowReason::DuplicateMapKey, "the field comes twice").hint(hint)
}

/// A JSON string for a scalar.
fn from_text(
    path: &str,
    text: String,
    data_type: &DataType,
    fit: Fit,
    dropped: &mut Vec<String>,
) -> Result<Value, Misfit> {
    match data_type {
        DataType::String | DataType::Char(_) | DataType::Varchar(_) => {
            Ok(Value { kind: Some(Kind::StringValue(text)) })
        }
        DataType::Decimal { .. } | DataType::Binary | DataType::Date | DataType::Timestamp | DataType::TimestampNtz => {
            text::read(path, &text, data_type, fit, dropped)
        }
        // JSON has no other way to write these; whether they are stored is the table's to say.
        DataType::Float | DataType::Double if matches!(&*text, "NaN" | "Infinity" | "-Infinity") => {
            text::parse(path, &text, data_type)
        }
        _ => fit.settle(path, Kind::StringValue(text), data_type),
    }
}

/// A JSON number for a scalar.
fn from_number(path: &str, json: &str, data_type: &DataType, fit: Fit) -> Result<Value, Misfit> {
    match data_type {
        number if number.is_number() => {
            text::parse(path, json, data_type).or_else(|_| fit.settle(path, number_for(json, data_type), data_type))
        }
        // As a literal it is microseconds or months; a cast would take it for seconds or years.
        DataType::DayTimeInterval | DataType::YearMonthInterval => text::parse(path, json, data_type)
            .or_else(|_| fit.settle(path, Kind::StringValue(json.to_owned()), data_type)),
        _ => fit.settle(path, number_for(json, data_type), data_type),
    }
}

/// The text of a JSON string. Whoever read the file has seen where it ends, but not that its escapes are characters.
fn unquote(path: &str, json: &str) -> Result<String, Misfit> {
    serde_json::from_str(json).map_err(|_| {
        Misfit::new(path, RowReason::Malformed, "the text has an escape that is no character")
            .hint("half a surrogate pair, such as \\ud800, is no text; escape both halves or write UTF-8")
    })
}

/// A variant's value: what JSON itself says, with every digit and every member.
fn natural(path: &str, json: &str, level: usize) -> Result<Value, Misfit> {
    let malformed = |_| Misfit::of_type(path, "the value", &DataType::Variant);
    if level > NESTING_MAX_LEVELS && json.starts_with(['[', '{']) {
        let message = format!("nested deeper than {NESTING_MAX_LEVELS} levels");
        return Err(Misfit::new(path, RowReason::TooDeep, message));
    }
    let kind = match json.as_bytes().first() {
        Some(b'n') => return Ok(Value::default()),
        Some(b'"') => Kind::StringValue(unquote(path, json)?),
        Some(b't' | b'f') => Kind::BoolValue(json == "true"),
        Some(b'[') => {
            let elements: Vec<&RawValue> = serde_json::from_str(json).map_err(malformed)?;
            let one = |(at, raw): (usize, &&RawValue)| natural(&format!("{path}[{at}]"), raw.get(), level + 1);
            Kind::ListValue(ListValue { values: elements.iter().enumerate().map(one).collect::<Result<_, _>>()? })
        }
        Some(b'{') => {
            let Members(members) = serde_json::from_str(json).map_err(malformed)?;
            let one = |(name, raw): (String, &RawValue)| {
                let value = natural(&format!("{path}.{name}"), raw.get(), level + 1)?;
                Ok(MapEntry { key: Some(Value { kind: Some(Kind::StringValue(name)) }), value: Some(value) })
            };
            Kind::MapValue(MapValue { entries: members.into_iter().map(one).collect::<Result<_, _>>()? })
        }
        _ => natural_number(path, json)?,
    };
    Ok(Value { kind: Some(kind) })
}

/// An integer or a double where it is that very number, else a decimal.
fn natural_number(path: &str, json: &str) -> Result<Kind, Misfit> {
    if let Ok(integer) = json.parse() {
        return Ok(Kind::IntValue(integer));
    }
    let exact = Decimal::parse(json).filter(|exact| exact.normalized().digits() as usize <= NUMBER_MAX_DIGITS);
    let exact = exact.ok_or_else(|| {
        Misfit::new(
            path,
            RowReason::Inexact,
            format!("the number has more than {NUMBER_MAX_DIGITS} significant digits"),
        )
    })?;
    let same = |double: &f64| {
        let text = number::double_text(*double, &mut zmij::Buffer::new()).to_owned();
        Decimal::parse(&text).is_some_and(|double| double.normalized() == exact.normalized())
    };
    let double = json.parse().ok().filter(|double: &f64| double.is_finite()).filter(same);
    Ok(double.map_or_else(|| Kind::DecimalValue(json.to_owned()), Kind::DoubleValue))
}

/// Writes a value as JSON: decimals as text, so that no reader rounds them; times and dates as ISO 8601; bytes as base64.
pub(crate) fn to_json(value: &Value, data_type: Option<&DataType>) -> serde_json::Value {
    use serde_json::Value as Json;
    match &value.kind {
        None => Json::Null,
        Some(Kind::BoolValue(value)) => Json::Bool(*value),
        Some(Kind::IntValue(value)) => Json::from(*value),
        Some(Kind::DoubleValue(value)) => float(*value),
        // Through its own shortest text: 0.1 is not 0.10000000149011612.
        Some(Kind::FloatValue(value)) => float(value.to_string().parse().unwrap_or(f64::from(*value))),
        Some(Kind::StringValue(value)) => Json::String(value.clone()),
        Some(Kind::BytesValue(value)) => Json::String(BASE64.encode(value)),
        Some(Kind::DecimalValue(value)) => Json::String(value.clone()),
        Some(Kind::TimestampMicros(micros)) => Json::String(text::point_in_time_text(*micros)),
        Some(Kind::TimestampNtzMicros(micros)) => Json::String(text::wall_time_text(*micros)),
        Some(Kind::DateDays(days)) => Json::String(text::day_text(*days)),
        Some(Kind::DayTimeIntervalMicros(micros)) => Json::from(*micros),
        Some(Kind::YearMonthIntervalMonths(months)) => Json::from(*months),
        Some(Kind::ListValue(list)) => {
            let element = if let Some(DataType::Array { element, .. }) = data_type { Some(&**element) } else { None };
            list.values.iter().map(|value| to_json(value, element)).collect()
        }
        Some(Kind::StructValue(inner)) => {
            let fields = if let Some(DataType::Struct(fields)) = data_type { &fields[..] } else { &[] };
            let member = |(at, value): (usize, &Value)| match fields.get(at) {
                Some(field) => (field.name.clone(), to_json(value, Some(&field.data_type))),
                None => (format!("_{at}"), to_json(value, None)),
            };
            Json::Object(inner.values.iter().enumerate().map(member).collect())
        }
        Some(Kind::MapValue(map)) => {
            let (key, value) = match data_type {
                Some(DataType::Map { key, value, .. }) => (Some(&**key), Some(&**value)),
                _ => (None, None),
            };
            let field = |name: &str| match data_type {
                Some(DataType::Struct(fields)) => fields.iter().find(|f| f.name == name).map(|f| &f.data_type),
                _ => value,
            };
            let member = |entry: &MapEntry| {
                let name = match to_json(entry.key.as_ref().unwrap_or(&Value::default()), key) {
                    Json::String(name) => name,
                    other => other.to_string(),
                };
                let value = to_json(entry.value.as_ref().unwrap_or(&Value::default()), field(&name));
                (name, value)
            };
            Json::Object(map.entries.iter().map(member).collect())
        }
    }
}

fn float(value: f64) -> serde_json::Value {
    match serde_json::Number::from_f64(value) {
        Some(number) => serde_json::Value::Number(number),
        None if value.is_nan() => "NaN".into(),
        None if value > 0.0 => "Infinity".into(),
        None => "-Infinity".into(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::schema::{Field, StoreAssignment};

    fn value(json: &str, data_type: &DataType) -> Result<Value, Misfit> {
        from_raw("c", serde_json::from_str(json).unwrap(), data_type, Fit::STRICT)
    }

    fn nested() -> DataType {
        let money = DataType::Decimal { precision: 38, scale: 2 };
        let amounts = DataType::Array { element: Box::new(money), contains_null: true };
        let counters = DataType::Map {
            key: Box::new(DataType::Integer),
            value: Box::new(DataType::Long),
            value_contains_null: false,
        };
        DataType::Struct(vec![
            Field::new("amounts", amounts, true),
            Field::new("counters", counters, true),
            Field::new("at", DataType::Timestamp, true),
        ])
    }

    #[test]
    fn nested_values_come_back_as_they_were_written() {
        let json = json!({
            "amounts": ["123456789012345678901234567890.50", null],
            "counters": { "7": 1, "-1": 2 },
            "at": "2026-01-31T12:00:00Z",
        });
        let value = value(&json.to_string(), &nested()).unwrap();
        assert_eq!(to_json(&value, Some(&nested())), json);
    }

    #[test]
    fn a_number_keeps_its_digits_into_a_decimal() {
        let value = value(r#"{"amounts": [123456789012345678901234567890.50]}"#, &nested()).unwrap();
        assert_eq!(to_json(&value, Some(&nested()))["amounts"][0], "123456789012345678901234567890.50");
    }

    #[test]
    fn a_misfit_names_the_path() {
        let misfit = value(r#"{"counters": {"7": 1, "x": 1}}"#, &nested()).unwrap_err();
        assert_eq!((misfit.path.as_str(), misfit.reason), ("c.counters[1].key", RowReason::TypeMismatch));
        let misfit = value(r#"{"counters": {"7": "x"}}"#, &nested()).unwrap_err();
        assert_eq!((misfit.path.as_str(), misfit.reason), ("c.counters[0].value", RowReason::TypeMismatch));
        let misfit = value(r#"{"amounts": [1, 1.234]}"#, &nested()).unwrap_err();
        assert_eq!((misfit.path.as_str(), misfit.reason), ("c.amounts[1]", RowReason::Inexact));
        let misfit = value(r#"{"speed": 1}"#, &nested()).unwrap_err();
        assert_eq!((misfit.path.as_str(), misfit.reason), ("c.speed", RowReason::UnknownField));
        let message = |json, data_type| value(json, data_type).unwrap_err().message;
        assert_eq!(message("\"5\"", &DataType::Long), "string does not fit the declared type bigint");
        assert_eq!(message("5", &DataType::String), "bigint does not fit the declared type string");
        assert_eq!(message("true", &DataType::Long), "boolean does not fit the declared type bigint");
    }

    #[test]
    fn a_field_that_comes_twice_is_refused_and_not_overwritten() {
        let inner = DataType::Struct(vec![Field::new("a", DataType::Long, true)]);
        let list = DataType::Array { element: Box::new(inner.clone()), contains_null: true };
        for (json, data_type, path) in [
            (r#"{"a": 1, "a": 2}"#, inner.clone(), "c.a"),
            (r#"{"a": null, "a": 2}"#, inner.clone(), "c.a"),
            (r#"[{"a": 1}, {"a": 1, "\u0061": 1}]"#, list, "c[1].a"),
        ] {
            for mode in [StoreAssignment::Strict, StoreAssignment::Ansi, StoreAssignment::Legacy] {
                let fit = Fit { mode, ..Fit::STRICT };
                let misfit = from_raw("c", serde_json::from_str(json).unwrap(), &data_type, fit).unwrap_err();
                assert_eq!((misfit.path.as_str(), misfit.reason), (path, RowReason::DuplicateMapKey), "{json}");
                assert_eq!(misfit.message, "the field comes twice");
            }
        }
    }

    #[test]
    fn half_a_surrogate_pair_is_no_text_and_not_an_empty_one() {
        for (json, data_type, path) in [
            (r#""x\ud800""#, DataType::String, "c"),
            (r#"["\udc00"]"#, DataType::Array { element: Box::new(DataType::String), contains_null: true }, "c[0]"),
            (r#"{"a": "\ud800\ud800"}"#, DataType::Variant, "c.a"),
        ] {
            let misfit = value(json, &data_type).unwrap_err();
            assert_eq!((misfit.path.as_str(), misfit.reason), (path, RowReason::Malformed), "{json}");
        }
        assert_eq!(value(r#""\ud83d\ude00""#, &DataType::String).unwrap().kind, Some(Kind::StringValue("😀".into())));
    }

    #[test]
    fn a_variant_takes_what_json_says() {
        let json = json!({ "a": [1, 2.5, "x", null, true] });
        assert_eq!(to_json(&value(&json.to_string(), &DataType::Variant).unwrap(), Some(&DataType::Variant)), json);
    }

    #[test]
    fn a_number_keeps_its_digits_into_a_variant() {
        let kind = |json: &str| value(json, &DataType::Variant).map(|value| value.kind.unwrap());
        assert_eq!(kind("-9223372036854775808"), Ok(Kind::IntValue(i64::MIN)));
        assert_eq!(kind("1e3"), Ok(Kind::DoubleValue(1000.0)));
        assert_eq!(kind("0.1"), Ok(Kind::DoubleValue(0.1)));
        assert_eq!(kind("9223372036854775809"), Ok(Kind::DecimalValue("9223372036854775809".into())));
        assert_eq!(kind("0.12345678901234567890"), Ok(Kind::DecimalValue("0.12345678901234567890".into())));
        assert_eq!(kind("1e400"), Ok(Kind::DecimalValue("1e400".into())));
        let misfit = value(&format!("{{\"a\": [{}]}}", "1".repeat(39)), &DataType::Variant).unwrap_err();
        assert_eq!((misfit.path.as_str(), misfit.reason), ("c.a[0]", RowReason::Inexact));
    }

    #[test]
    fn a_variant_nests_32_levels_and_no_further() {
        let nested =
            |levels: usize| value(&format!("{}{}", "[".repeat(levels), "]".repeat(levels)), &DataType::Variant);
        assert!(nested(32).is_ok());
        assert_eq!(nested(33).unwrap_err().reason, RowReason::TooDeep);
        assert_eq!(nested(100_000).unwrap_err().reason, RowReason::TooDeep);
    }
}
