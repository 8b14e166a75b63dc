//! Arrow to rows and back: schemas and values.
//!
//! For programs that have one and want to send the other. The mapping is one-to-one where Arrow has the type; what the
//! protocol cannot carry exactly is an error that names the column and the row, never a rounded value.

mod to_arrow;
mod to_rows;

use std::sync::Arc;

use arrow_schema::{DataType as Arrow, IntervalUnit, TimeUnit};

pub use to_arrow::arrow_from_rows;
pub use to_rows::rows_from_arrow;

use crate::proto::v1::{self, PrimitiveType, data_type::Type};

/// Something that cannot be carried from Arrow to rows or back.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("column `{path}`{}: {message}", row.map(|row| format!(", row {row}")).unwrap_or_default())]
pub struct ConvertError {
    /// The column, or the path of the field in it.
    pub path: String,
    /// The row's index in its batch, where one row is at fault and not the type.
    pub row: Option<usize>,
    /// What is wrong.
    pub message: String,
}

impl ConvertError {
    fn of_type(path: &str, message: impl Into<String>) -> Self {
        Self { path: path.to_owned(), row: None, message: message.into() }
    }
}

/// The name of the zone in Arrow's timestamps that are points in time.
const UTC: &str = "UTC";

/// The protocol's schema for an Arrow schema.
///
/// # Errors
///
/// Where a column's type has no counterpart: time of day, unions, run-end encoding, 256-bit decimals, other map keys.
pub fn schema_from_arrow(schema: &arrow_schema::Schema) -> Result<v1::Schema, ConvertError> {
    let fields = schema.fields().iter().map(|field| field_from_arrow(field.name(), field));
    Ok(v1::Schema { fields: fields.collect::<Result<_, _>>()? })
}

fn field_from_arrow(path: &str, field: &arrow_schema::Field) -> Result<v1::Field, ConvertError> {
    Ok(v1::Field {
        name: field.name().clone(),
        r#type: Some(type_from_arrow(path, field.data_type())?),
        nullable: field.is_nullable(),
        ..v1::Field::default()
    })
}

fn type_from_arrow(path: &str, data_type: &Arrow) -> Result<v1::DataType, ConvertError> {
    let primitive = match data_type {
        Arrow::Boolean => PrimitiveType::Boolean,
        Arrow::Int8 => PrimitiveType::Byte,
        Arrow::Int16 | Arrow::UInt8 => PrimitiveType::Short,
        Arrow::Int32 | Arrow::UInt16 => PrimitiveType::Integer,
        Arrow::Int64 | Arrow::UInt32 => PrimitiveType::Long,
        Arrow::UInt64 => return Ok(decimal(20, 0)),
        Arrow::Float16 | Arrow::Float32 => PrimitiveType::Float,
        Arrow::Float64 => PrimitiveType::Double,
        Arrow::Decimal32(precision, scale)
        | Arrow::Decimal64(precision, scale)
        | Arrow::Decimal128(precision, scale) => {
            return Ok(decimal(*precision, *scale));
        }
        // A column without any value: text takes whatever comes later.
        Arrow::Null | Arrow::Utf8 | Arrow::LargeUtf8 | Arrow::Utf8View => PrimitiveType::String,
        Arrow::Binary | Arrow::LargeBinary | Arrow::BinaryView | Arrow::FixedSizeBinary(_) => PrimitiveType::Binary,
        Arrow::Date32 | Arrow::Date64 => PrimitiveType::Date,
        Arrow::Timestamp(_, Some(_)) => PrimitiveType::Timestamp,
        Arrow::Timestamp(_, None) => PrimitiveType::TimestampNtz,
        Arrow::Duration(_) => PrimitiveType::DayTimeInterval,
        Arrow::Interval(IntervalUnit::YearMonth) => PrimitiveType::YearMonthInterval,
        Arrow::Dictionary(_, values) => return type_from_arrow(path, values),
        Arrow::List(element) | Arrow::LargeList(element) | Arrow::FixedSizeList(element, _) => {
            let inner = type_from_arrow(&format!("{path}[]"), element.data_type())?;
            let array = v1::ArrayType { element: Some(Box::new(inner)), contains_null: element.is_nullable() };
            return Ok(v1::DataType { r#type: Some(Type::Array(Box::new(array))) });
        }
        Arrow::Struct(fields) => {
            let fields = fields.iter().map(|field| field_from_arrow(&format!("{path}.{}", field.name()), field));
            let fields = fields.collect::<Result<_, _>>()?;
            return Ok(v1::DataType { r#type: Some(Type::Struct(v1::StructType { fields })) });
        }
        Arrow::Map(entries, _) => {
            let Arrow::Struct(pair) = entries.data_type() else {
                return Err(ConvertError::of_type(path, "a map without entries"));
            };
            let [key, value] = &pair[..] else {
                return Err(ConvertError::of_type(path, "a map's entries must be a key and a value"));
            };
            let map = v1::MapType {
                key: Some(Box::new(type_from_arrow(&format!("{path}{{}}"), key.data_type())?)),
                value: Some(Box::new(type_from_arrow(&format!("{path}{{}}"), value.data_type())?)),
                value_contains_null: value.is_nullable(),
            };
            return Ok(v1::DataType { r#type: Some(Type::Map(Box::new(map))) });
        }
        other => return Err(ConvertError::of_type(path, format!("the Arrow type {other} is not supported"))),
    };
    Ok(v1::DataType { r#type: Some(Type::Primitive(primitive.into())) })
}

fn decimal(precision: u8, scale: i8) -> v1::DataType {
    v1::DataType { r#type: Some(Type::Decimal(v1::DecimalType { precision: precision.into(), scale: scale.into() })) }
}

/// The Arrow schema for one of the protocol.
///
/// # Errors
///
/// Where Arrow has no counterpart: variant, a type that is not set.
pub fn schema_to_arrow(schema: &v1::Schema) -> Result<arrow_schema::Schema, ConvertError> {
    let fields = schema.fields.iter().map(|field| field_to_arrow(&field.name, field));
    Ok(arrow_schema::Schema::new(fields.collect::<Result<Vec<_>, _>>()?))
}

fn field_to_arrow(path: &str, field: &v1::Field) -> Result<arrow_schema::Field, ConvertError> {
    Ok(arrow_schema::Field::new(&field.name, type_to_arrow(path, field.r#type.as_ref())?, field.nullable))
}

fn type_to_arrow(path: &str, data_type: Option<&v1::DataType>) -> Result<Arrow, ConvertError> {
    let Some(data_type) = data_type.and_then(|data_type| data_type.r#type.as_ref()) else {
        return Err(ConvertError::of_type(path, "the type is not set"));
    };
    let nested = |name: &str, inner: Option<&v1::DataType>, nullable| -> Result<_, ConvertError> {
        Ok(Arc::new(arrow_schema::Field::new(name, type_to_arrow(&format!("{path}[]"), inner)?, nullable)))
    };
    Ok(match data_type {
        Type::Primitive(primitive) => match PrimitiveType::try_from(*primitive).unwrap_or_default() {
            PrimitiveType::Byte => Arrow::Int8,
            PrimitiveType::Short => Arrow::Int16,
            PrimitiveType::Integer => Arrow::Int32,
            PrimitiveType::Long => Arrow::Int64,
            PrimitiveType::Float => Arrow::Float32,
            PrimitiveType::Double => Arrow::Float64,
            PrimitiveType::String => Arrow::Utf8,
            PrimitiveType::Boolean => Arrow::Boolean,
            PrimitiveType::Binary => Arrow::Binary,
            PrimitiveType::Date => Arrow::Date32,
            PrimitiveType::Timestamp => Arrow::Timestamp(TimeUnit::Microsecond, Some(UTC.into())),
            PrimitiveType::TimestampNtz => Arrow::Timestamp(TimeUnit::Microsecond, None),
            PrimitiveType::DayTimeInterval => Arrow::Duration(TimeUnit::Microsecond),
            PrimitiveType::YearMonthInterval => Arrow::Interval(IntervalUnit::YearMonth),
            PrimitiveType::Variant | PrimitiveType::Unspecified => {
                return Err(ConvertError::of_type(path, "the type has no Arrow counterpart; send rows instead"));
            }
        },
        Type::Decimal(decimal) => {
            let (Ok(precision), Ok(scale)) = (u8::try_from(decimal.precision), i8::try_from(decimal.scale)) else {
                return Err(ConvertError::of_type(path, "the decimal's precision or scale is out of range"));
            };
            Arrow::Decimal128(precision, scale)
        }
        Type::CharLength(_) | Type::VarcharLength(_) => Arrow::Utf8,
        Type::Array(array) => Arrow::List(nested("item", array.element.as_deref(), array.contains_null)?),
        Type::Map(map) => {
            let key = nested("keys", map.key.as_deref(), false)?;
            let value = nested("values", map.value.as_deref(), map.value_contains_null)?;
            let entries = arrow_schema::Field::new("entries", Arrow::Struct(vec![key, value].into()), false);
            Arrow::Map(Arc::new(entries), false)
        }
        Type::Struct(inner) => {
            let fields = inner.fields.iter().map(|field| field_to_arrow(&format!("{path}.{}", field.name), field));
            Arrow::Struct(fields.collect::<Result<Vec<_>, _>>()?.into())
        }
    })
}

#[cfg(test)]
mod tests;
