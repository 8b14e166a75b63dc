//! The schema message of a session: Arrow's columns as Forebay's, and what decoding needs to know of them.
//!
//! The kept Arrow schema differs from the sent one in two ways that do not change the layout of batches: every field may
//! be null, because a null where none is allowed rejects its row and not the whole batch; and a map is the list of entries
//! that it is, so that its entries are checked like any other values. Spark's schema, where there is one, may say more
//! about a column than Arrow's (`spark`).

use std::collections::HashMap;
use std::sync::Arc;

use arrow_schema::{DataType as ArrowType, Field as ArrowField, FieldRef, IntervalUnit, SchemaRef};

use super::guard::{arrow_error, malformed, read_message};
use super::spark::{self, SparkError};
use crate::limits::{ARROW_SCHEMA_MAX_TABLES, NESTING_MAX_LEVELS};
use crate::payload::PayloadError;
use crate::schema::{DataType, Field, Schema};

/// A session's incoming Arrow columns.
#[derive(Debug, Clone)]
pub struct IncomingArrow {
    schema: Schema,
    /// The columns as they were sent, for compiling; a map is a map.
    pub(super) columns: SchemaRef,
    /// The columns as they are decoded.
    pub(super) arrow: SchemaRef,
    /// The type of each dictionary's values, by id.
    pub(super) dictionaries: HashMap<i64, ArrowType>,
    untyped: Vec<(String, ArrowType)>,
    /// Whether Spark's own schema was the source of the types.
    by_spark: bool,
}

impl IncomingArrow {
    /// Reads one encapsulated IPC schema message, with or without continuation marker and end of stream.
    ///
    /// Types that Forebay has no columns for are refused later, where they are used ([`super::ArrowPlan::compile`]).
    pub fn parse(schema_message: &[u8]) -> Result<Self, PayloadError> {
        let mut at = 0;
        let Some(frame) = read_message(schema_message, &mut at)? else {
            return Err(malformed("the Arrow schema holds no message"));
        };
        let options = flatbuffers::VerifierOptions {
            // A nested type takes its own table and one of its field.
            max_depth: 2 * NESTING_MAX_LEVELS + 16,
            max_tables: ARROW_SCHEMA_MAX_TABLES,
            ..Default::default()
        };
        let message = frame.message(schema_message, &options)?;
        let ipc_schema = message
            .header_as_schema()
            .ok_or_else(|| malformed("the Arrow schema is a message of another kind; expected a schema message"))?;
        if let Some(_more) = read_message(schema_message, &mut at)? {
            return Err(malformed("the Arrow schema has a second message; expected the schema message alone"));
        }
        if ipc_schema.endianness() != arrow_ipc::Endianness::Little {
            return Err(malformed("the Arrow schema is big-endian; only little-endian batches can be read"));
        }
        let arrow = arrow_ipc::convert::try_fb_to_schema(ipc_schema).map_err(arrow_error)?;

        let columns = arrow.fields().iter();
        let columns =
            columns.map(|field| Field::new(field.name(), column_type(field.data_type()), field.is_nullable()));
        let schema = Schema { fields: columns.collect() };
        let mut untyped = Vec::new();
        for field in arrow.fields() {
            note_untyped(field.name().clone(), field.data_type(), &mut untyped);
        }
        Ok(Self { untyped, ..Self::new(schema, arrow)? })
    }

    /// The same columns with the types and the nullability that Spark's own schema gives them.
    pub fn refine(&self, spark: &Schema) -> Result<Self, SparkError> {
        let (schema, arrow) = spark::refine(spark, &self.columns)?;
        Ok(Self { by_spark: true, ..Self::new(schema, arrow)? })
    }

    fn new(schema: Schema, arrow: arrow_schema::Schema) -> Result<Self, PayloadError> {
        let mut dictionaries = HashMap::new();
        let fields = arrow.fields().iter().map(|field| relaxed(field, &mut dictionaries));
        let fields = fields.collect::<Result<Vec<_>, _>>()?;
        let (columns, arrow) = (Arc::new(arrow), Arc::new(arrow_schema::Schema::new(fields)));
        Ok(Self { schema, columns, arrow, dictionaries, untyped: Vec::new(), by_spark: false })
    }

    /// The paths and types of what no column type stands for, and no schema of Spark's says more about.
    pub fn untyped(&self) -> &[(String, ArrowType)] {
        &self.untyped
    }

    /// Spark's type of a column, where the session came with Spark's schema.
    pub(super) fn spark_type(&self, position: usize) -> Option<&DataType> {
        self.by_spark.then(|| self.schema.fields.get(position).map(|field| &field.data_type))?
    }

    /// The columns, with Forebay's types, for [`crate::payload::Plan::compile`].
    pub fn schema(&self) -> &Schema {
        &self.schema
    }
}

/// The field as the module says, with its dictionaries noted and the types' own parameters checked.
fn relaxed(field: &ArrowField, dictionaries: &mut HashMap<i64, ArrowType>) -> Result<FieldRef, PayloadError> {
    let child = |child: &FieldRef, dictionaries: &mut HashMap<i64, ArrowType>| relaxed(child, dictionaries);
    let data_type = match field.data_type() {
        ArrowType::List(element) | ArrowType::Map(element, _) => ArrowType::List(child(element, dictionaries)?),
        ArrowType::LargeList(element) => ArrowType::LargeList(child(element, dictionaries)?),
        ArrowType::ListView(element) => ArrowType::ListView(child(element, dictionaries)?),
        ArrowType::LargeListView(element) => ArrowType::LargeListView(child(element, dictionaries)?),
        ArrowType::FixedSizeList(element, size) => {
            if *size < 0 {
                return Err(malformed(format!("column `{}`: a list of the negative size {size}", field.name())));
            }
            ArrowType::FixedSizeList(child(element, dictionaries)?, *size)
        }
        ArrowType::FixedSizeBinary(size) if *size < 0 => {
            return Err(malformed(format!("column `{}`: binary of the negative size {size}", field.name())));
        }
        ArrowType::Struct(fields) => {
            let fields = fields.iter().map(|field| child(field, dictionaries)).collect::<Result<Vec<_>, _>>()?;
            ArrowType::Struct(fields.into())
        }
        ArrowType::Dictionary(key, values) => {
            // Values have no field of their own; a made-up one carries their type through.
            let values = relaxed(&ArrowField::new(field.name(), values.as_ref().clone(), true), dictionaries)?;
            let id = dictionary_id(field);
            match dictionaries.insert(id, values.data_type().clone()) {
                Some(other) if other != *values.data_type() => {
                    return Err(malformed(format!("the dictionary {id} is declared with two types of values")));
                }
                _ => ArrowType::Dictionary(key.clone(), Box::new(values.data_type().clone())),
            }
        }
        // Never decoded (`Shape::compile` refuses them), so they are left as they are.
        other => other.clone(),
    };
    Ok(Arc::new(field.clone().with_data_type(data_type).with_nullable(true)))
}

/// The id that ties a dictionary-encoded field to its dictionary batches.
pub(super) fn dictionary_id(field: &ArrowField) -> i64 {
    // The IPC reader still goes by this id; there is no other way to it.
    #[expect(deprecated)]
    field.dict_id().unwrap_or_default()
}

/// The column type that stands for an Arrow type; variant where there is none, or none yet (nulls).
pub(super) fn column_type(arrow: &ArrowType) -> DataType {
    let array = |element: &FieldRef| DataType::Array {
        element: Box::new(column_type(element.data_type())),
        contains_null: element.is_nullable(),
    };
    match arrow {
        ArrowType::Boolean => DataType::Boolean,
        ArrowType::Int8 => DataType::Byte,
        ArrowType::Int16 | ArrowType::UInt8 => DataType::Short,
        ArrowType::Int32 | ArrowType::UInt16 => DataType::Integer,
        ArrowType::Int64 | ArrowType::UInt32 => DataType::Long,
        ArrowType::UInt64 => DataType::Decimal { precision: 20, scale: 0 },
        ArrowType::Float16 | ArrowType::Float32 => DataType::Float,
        ArrowType::Float64 => DataType::Double,
        ArrowType::Decimal32(precision, scale)
        | ArrowType::Decimal64(precision, scale)
        | ArrowType::Decimal128(precision, scale)
        | ArrowType::Decimal256(precision, scale) => {
            // Arrow has wider decimals; whether a value fits is seen when it comes.
            let precision = (*precision).clamp(1, 38);
            DataType::Decimal { precision, scale: (*scale).clamp(-38, precision as i8) }
        }
        ArrowType::Utf8 | ArrowType::LargeUtf8 | ArrowType::Utf8View => DataType::String,
        ArrowType::Binary | ArrowType::LargeBinary | ArrowType::BinaryView | ArrowType::FixedSizeBinary(_) => {
            DataType::Binary
        }
        ArrowType::Date32 | ArrowType::Date64 => DataType::Date,
        ArrowType::Timestamp(_, Some(_)) => DataType::Timestamp,
        ArrowType::Timestamp(_, None) => DataType::TimestampNtz,
        ArrowType::Duration(_) | ArrowType::Interval(IntervalUnit::DayTime | IntervalUnit::MonthDayNano) => {
            DataType::DayTimeInterval
        }
        ArrowType::Interval(IntervalUnit::YearMonth) => DataType::YearMonthInterval,
        ArrowType::List(element)
        | ArrowType::LargeList(element)
        | ArrowType::ListView(element)
        | ArrowType::LargeListView(element)
        | ArrowType::FixedSizeList(element, _) => array(element),
        ArrowType::Map(entries, _) => match entries.data_type() {
            ArrowType::Struct(fields) if fields.len() == 2 => DataType::Map {
                key: Box::new(column_type(fields[0].data_type())),
                value: Box::new(column_type(fields[1].data_type())),
                value_contains_null: fields[1].is_nullable(),
            },
            _ => DataType::Variant,
        },
        ArrowType::Struct(fields) => {
            let field =
                |field: &FieldRef| Field::new(field.name(), column_type(field.data_type()), field.is_nullable());
            DataType::Struct(fields.iter().map(field).collect())
        }
        ArrowType::Dictionary(_, values) => column_type(values),
        ArrowType::Null
        | ArrowType::Time32(_)
        | ArrowType::Time64(_)
        | ArrowType::Union(..)
        | ArrowType::RunEndEncoded(..) => DataType::Variant,
    }
}

/// Notes what [`column_type`] has no type for, at any depth.
fn note_untyped(path: String, arrow: &ArrowType, untyped: &mut Vec<(String, ArrowType)>) {
    match arrow {
        ArrowType::List(element)
        | ArrowType::LargeList(element)
        | ArrowType::ListView(element)
        | ArrowType::LargeListView(element)
        | ArrowType::FixedSizeList(element, _) => note_untyped(format!("{path}[]"), element.data_type(), untyped),
        ArrowType::Dictionary(_, values) => note_untyped(path, values, untyped),
        ArrowType::Struct(fields) => {
            for field in fields {
                note_untyped(format!("{path}.{}", field.name()), field.data_type(), untyped);
            }
        }
        ArrowType::Map(entries, _) => match entries.data_type() {
            ArrowType::Struct(fields) if fields.len() == 2 => {
                note_untyped(format!("{path}{{}}"), fields[1].data_type(), untyped);
            }
            other => untyped.push((path, other.clone())),
        },
        other if column_type(other) == DataType::Variant => untyped.push((path, other.clone())),
        _ => {}
    }
}
