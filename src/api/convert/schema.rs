//! Schemas from and to protobuf.

use super::{FieldError, choice};
use crate::limits::NESTING_MAX_LEVELS;
use crate::payload::values::fit::Fit;
use crate::payload::values::json::{from_raw, to_json};
use crate::proto::v1::{self, PrimitiveType, data_type::Type, value::Kind};
use crate::schema::{ColumnOptions, DataType, Field, NonFinite, Schema, TimeEncoding};

/// Reads a schema. Names and nesting are for [`Schema::validate`]; here only the shape is checked.
pub fn schema_from_proto(path: &str, schema: &v1::Schema) -> Result<Schema, FieldError> {
    Ok(Schema { fields: fields_from_proto(path, &schema.fields, 0)? })
}

/// Writes a schema.
pub fn schema_to_proto(schema: &Schema) -> v1::Schema {
    v1::Schema { fields: schema.fields.iter().map(field_to_proto).collect() }
}

fn fields_from_proto(path: &str, fields: &[v1::Field], level: usize) -> Result<Vec<Field>, FieldError> {
    let indexed = fields.iter().enumerate();
    indexed.map(|(i, field)| field_from_proto(&format!("{path}.fields[{i}]"), field, level)).collect()
}

fn field_from_proto(path: &str, field: &v1::Field, level: usize) -> Result<Field, FieldError> {
    let type_path = format!("{path}.type");
    let data_type = field.r#type.as_ref().ok_or_else(|| FieldError::new(&type_path, "is missing"))?;
    let data_type = read_type(&type_path, data_type, level)?;
    let options = match &field.options {
        Some(options) => options_from_proto(&format!("{path}.options"), options, &data_type)?,
        None => ColumnOptions::default(),
    };
    Ok(Field { name: field.name.clone(), data_type, nullable: field.nullable, comment: field.comment.clone(), options })
}

/// Writes a column or a struct's field.
pub fn field_to_proto(field: &Field) -> v1::Field {
    v1::Field {
        name: field.name.clone(),
        r#type: Some(data_type_to_proto(&field.data_type)),
        nullable: field.nullable,
        comment: field.comment.clone(),
        options: (!field.options.is_default()).then(|| options_to_proto(&field.options, &field.data_type)),
    }
}

/// Reads a type.
pub fn data_type_from_proto(path: &str, data_type: &v1::DataType) -> Result<DataType, FieldError> {
    read_type(path, data_type, 0)
}

fn read_type(path: &str, data_type: &v1::DataType, level: usize) -> Result<DataType, FieldError> {
    if level > NESTING_MAX_LEVELS {
        return Err(FieldError::new(path, format!("nested deeper than {NESTING_MAX_LEVELS} levels")));
    }
    let boxed = |name: &str, inner: &Option<Box<v1::DataType>>| {
        let path = format!("{path}.{name}");
        let inner = inner.as_ref().ok_or_else(|| FieldError::new(&path, "is missing"))?;
        read_type(&path, inner, level + 1).map(Box::new)
    };
    Ok(match &data_type.r#type {
        None => return Err(FieldError::new(path, "is empty: set one of its kinds")),
        Some(Type::Primitive(primitive)) => {
            let path = format!("{path}.primitive");
            match choice(&path, *primitive)? {
                PrimitiveType::Unspecified => return Err(FieldError::new(path, "is not a type")),
                PrimitiveType::Byte => DataType::Byte,
                PrimitiveType::Short => DataType::Short,
                PrimitiveType::Integer => DataType::Integer,
                PrimitiveType::Long => DataType::Long,
                PrimitiveType::Float => DataType::Float,
                PrimitiveType::Double => DataType::Double,
                PrimitiveType::String => DataType::String,
                PrimitiveType::Boolean => DataType::Boolean,
                PrimitiveType::Binary => DataType::Binary,
                PrimitiveType::Date => DataType::Date,
                PrimitiveType::Timestamp => DataType::Timestamp,
                PrimitiveType::TimestampNtz => DataType::TimestampNtz,
                PrimitiveType::DayTimeInterval => DataType::DayTimeInterval,
                PrimitiveType::YearMonthInterval => DataType::YearMonthInterval,
                PrimitiveType::Variant => DataType::Variant,
            }
        }
        Some(Type::Decimal(v1::DecimalType { precision, scale })) => {
            match (u8::try_from(*precision), i8::try_from(*scale)) {
                (Ok(precision), Ok(scale)) => DataType::Decimal { precision, scale },
                _ => {
                    let message = format!("decimal({precision},{scale}): the precision must be 1 to 38");
                    return Err(FieldError::new(format!("{path}.decimal"), message));
                }
            }
        }
        Some(Type::CharLength(length)) => DataType::Char(*length),
        Some(Type::VarcharLength(length)) => DataType::Varchar(*length),
        Some(Type::Array(array)) => {
            DataType::Array { element: boxed("array.element", &array.element)?, contains_null: array.contains_null }
        }
        Some(Type::Map(map)) => DataType::Map {
            key: boxed("map.key", &map.key)?,
            value: boxed("map.value", &map.value)?,
            value_contains_null: map.value_contains_null,
        },
        Some(Type::Struct(inner)) => {
            DataType::Struct(fields_from_proto(&format!("{path}.struct"), &inner.fields, level + 1)?)
        }
    })
}

/// Writes a type.
pub fn data_type_to_proto(data_type: &DataType) -> v1::DataType {
    let boxed = |data_type: &DataType| Some(Box::new(data_type_to_proto(data_type)));
    let primitive = |primitive: PrimitiveType| Type::Primitive(primitive.into());
    let kind = match data_type {
        DataType::Byte => primitive(PrimitiveType::Byte),
        DataType::Short => primitive(PrimitiveType::Short),
        DataType::Integer => primitive(PrimitiveType::Integer),
        DataType::Long => primitive(PrimitiveType::Long),
        DataType::Float => primitive(PrimitiveType::Float),
        DataType::Double => primitive(PrimitiveType::Double),
        DataType::String => primitive(PrimitiveType::String),
        DataType::Boolean => primitive(PrimitiveType::Boolean),
        DataType::Binary => primitive(PrimitiveType::Binary),
        DataType::Date => primitive(PrimitiveType::Date),
        DataType::Timestamp => primitive(PrimitiveType::Timestamp),
        DataType::TimestampNtz => primitive(PrimitiveType::TimestampNtz),
        DataType::DayTimeInterval => primitive(PrimitiveType::DayTimeInterval),
        DataType::YearMonthInterval => primitive(PrimitiveType::YearMonthInterval),
        DataType::Variant => primitive(PrimitiveType::Variant),
        DataType::Decimal { precision, scale } => {
            Type::Decimal(v1::DecimalType { precision: u32::from(*precision), scale: i32::from(*scale) })
        }
        DataType::Char(length) => Type::CharLength(*length),
        DataType::Varchar(length) => Type::VarcharLength(*length),
        DataType::Array { element, contains_null } => {
            Type::Array(Box::new(v1::ArrayType { element: boxed(element), contains_null: *contains_null }))
        }
        DataType::Map { key, value, value_contains_null } => Type::Map(Box::new(v1::MapType {
            key: boxed(key),
            value: boxed(value),
            value_contains_null: *value_contains_null,
        })),
        DataType::Struct(fields) => {
            Type::Struct(v1::StructType { fields: fields.iter().map(field_to_proto).collect() })
        }
    };
    v1::DataType { r#type: Some(kind) }
}

fn options_from_proto(
    path: &str,
    options: &v1::ColumnOptions,
    data_type: &DataType,
) -> Result<ColumnOptions, FieldError> {
    let default_value = match &options.default_value {
        Some(value) => Some(default_from_proto(&format!("{path}.default_value"), value, data_type)?),
        None => None,
    };
    Ok(ColumnOptions {
        non_finite: match choice(&format!("{path}.non_finite"), options.non_finite)? {
            v1::NonFinite::Unspecified | v1::NonFinite::Reject => NonFinite::Reject,
            v1::NonFinite::Null => NonFinite::Null,
            v1::NonFinite::String => NonFinite::String,
        },
        time_encoding: match choice(&format!("{path}.time_encoding"), options.time_encoding)? {
            v1::TimeEncoding::Unspecified => None,
            v1::TimeEncoding::Number => Some(TimeEncoding::Number),
            v1::TimeEncoding::String => Some(TimeEncoding::String),
        },
        as_set: options.as_set,
        key_as_number: options.key_as_number,
        float_key: options.float_key,
        default_value,
    })
}

fn options_to_proto(options: &ColumnOptions, data_type: &DataType) -> v1::ColumnOptions {
    v1::ColumnOptions {
        non_finite: match options.non_finite {
            NonFinite::Reject => v1::NonFinite::Reject,
            NonFinite::Null => v1::NonFinite::Null,
            NonFinite::String => v1::NonFinite::String,
        }
        .into(),
        time_encoding: match options.time_encoding {
            None => v1::TimeEncoding::Unspecified,
            Some(TimeEncoding::Number) => v1::TimeEncoding::Number,
            Some(TimeEncoding::String) => v1::TimeEncoding::String,
        }
        .into(),
        as_set: options.as_set,
        key_as_number: options.key_as_number,
        float_key: options.float_key,
        default_value: options.default_value.as_deref().map(|text| default_to_proto(text, data_type)),
    }
}

/// A default as JSON text, as a row of a JSON file would carry it. Whether it fits the column is for the catalog to say.
fn default_from_proto(path: &str, value: &v1::Value, data_type: &DataType) -> Result<String, FieldError> {
    let json = match &value.kind {
        None => serde_json::Value::Null,
        Some(Kind::BoolValue(value)) => (*value).into(),
        Some(Kind::IntValue(value)) => (*value).into(),
        Some(Kind::StringValue(value)) => value.as_str().into(),
        Some(Kind::DoubleValue(value)) if value.is_finite() => (*value).into(),
        // The shortest text of the float, not that of the double with the same value.
        Some(Kind::FloatValue(value)) if value.is_finite() => return Ok(value.to_string()),
        Some(Kind::DoubleValue(_) | Kind::FloatValue(_)) => {
            return Err(FieldError::new(path, "a default must be a finite number"));
        }
        Some(Kind::DecimalValue(text)) => {
            // Its own text, so that no digit is lost.
            return match serde_json::from_str::<serde_json::Number>(text) {
                Ok(_) => Ok(text.clone()),
                Err(_) => Err(FieldError::new(path, format!("`{text}` is not a decimal number such as -12.50"))),
            };
        }
        Some(_) => to_json(value, Some(data_type)),
    };
    Ok(json.to_string())
}

/// The value of a default's JSON text; text that is neither a JSON scalar nor a value of the type, which no definition has,
/// becomes a string.
fn default_to_proto(json: &str, data_type: &DataType) -> v1::Value {
    if json.starts_with(['[', '{'])
        && let Ok(raw) = serde_json::from_str(json)
        && let Ok(value) = from_raw("", raw, data_type, Fit::STRICT)
    {
        return value;
    }
    let kind = match serde_json::from_str::<serde_json::Value>(json) {
        Ok(serde_json::Value::Null) => None,
        Ok(serde_json::Value::Bool(value)) => Some(Kind::BoolValue(value)),
        Ok(serde_json::Value::Number(number)) => Some(match number.as_i64() {
            Some(integer) => Kind::IntValue(integer),
            None => Kind::DecimalValue(json.trim().to_owned()),
        }),
        Ok(serde_json::Value::String(text)) => Some(Kind::StringValue(text)),
        _ => Some(Kind::StringValue(json.to_owned())),
    };
    v1::Value { kind }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schema::arbitrary;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_schema_survives_the_way_there_and_back(schema in arbitrary::schema()) {
            let back = schema_from_proto("schema", &schema_to_proto(&schema)).unwrap();
            prop_assert_eq!(back, schema);
        }
    }

    #[test]
    fn defaults_keep_every_digit() {
        for text in ["12345678901234567890123456789012345678", "0.10", "-3", "true", "null", "\"a\\\"b\"", "1e3"] {
            assert_eq!(
                default_from_proto("d", &default_to_proto(text, &DataType::String), &DataType::String).unwrap(),
                text
            );
        }
        let value = |kind| v1::Value { kind: Some(kind) };
        let read = |kind| default_from_proto("d", &value(kind), &DataType::String);
        assert_eq!(read(Kind::FloatValue(0.1)).unwrap(), "0.1");
        assert!(read(Kind::DoubleValue(f64::NAN)).is_err());
        assert!(read(Kind::DecimalValue("1,5".to_owned())).is_err());
        assert_eq!(read(Kind::DateDays(3)).unwrap(), "\"1970-01-04\"");
    }

    #[test]
    fn nested_defaults_come_back_as_the_same_text() {
        for (data_type, text) in [
            ("ARRAY<DECIMAL(4, 2)>", r#"["1.50",null]"#),
            ("MAP<INT, DATE>", r#"{"7":"2026-01-31"}"#),
            ("STRUCT<a: BIGINT, b: ARRAY<STRING>>", r#"{"a":1,"b":["x"]}"#),
        ] {
            let data_type = crate::schema::ddl::parse_type(data_type).unwrap();
            let value = default_to_proto(text, &data_type);
            assert!(!matches!(value.kind, Some(Kind::StringValue(_))), "{text}");
            assert_eq!(default_from_proto("d", &value, &data_type).unwrap(), text);
        }
    }

    #[test]
    fn what_is_missing_is_named_by_its_path() {
        let array = v1::DataType { r#type: Some(Type::Array(Box::default())) };
        let field = v1::Field { name: "a".to_owned(), r#type: Some(array), ..v1::Field::default() };
        let schema = v1::Schema { fields: vec![field] };
        let error = schema_from_proto("table.schema", &schema).unwrap_err().to_string();
        assert_eq!(error, "table.schema.fields[0].type.array.element: is missing");
    }
}
