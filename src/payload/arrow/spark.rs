//! Spark's schema beside Arrow's: the session's columns as Spark declares them, carried as Arrow says.
//!
//! Arrow has no `char(n)`, no variant and no user-defined types, and says nothing reliable about nullability; Spark's own
//! schema does. So Spark's type is the column's wherever the Arrow type is what Spark ships it as, and the two must
//! otherwise be of the same column. Columns and fields are matched by name and stay in Arrow's order, which is that of the
//! batches. Pure; the callers are [`super::IncomingArrow::refine`], and the
//! command line for files that Spark wrote.
//!
//! An interval may also come as the bare integer that it is stored as (writers without interval types do that): the Arrow field is then
//! given the interval's type, whose values lie in memory in the same way.

use std::sync::Arc;

use arrow_schema::{
    DataType as ArrowType, Field as ArrowField, FieldRef, Fields, IntervalUnit, Schema as ArrowSchema, TimeUnit,
};

use super::schema::column_type;
use crate::payload::PayloadError;
use crate::schema::{DataType, Field, Schema};

/// Why Spark's schema and Arrow's are not of the same columns.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SparkError {
    /// The two types cannot be those of one column.
    #[error("column `{path}`: Spark's type is {spark}, but the Arrow type is {arrow}, which does not carry it")]
    Types {
        /// The path.
        path: String,
        /// Spark's type.
        spark: String,
        /// Arrow's type.
        arrow: String,
    },
    /// A column or field that only one of the two has.
    #[error("column `{path}` is in {present} and not in {absent}")]
    Missing {
        /// The path.
        path: String,
        /// The schema that has it.
        present: &'static str,
        /// The schema that does not.
        absent: &'static str,
    },
    /// The Arrow schema cannot be read with Spark's types.
    #[error(transparent)]
    Arrow(#[from] PayloadError),
}

/// The columns, with Spark's types and nullability in Arrow's order, and the Arrow schema that carries them.
pub fn refine(spark: &Schema, arrow: &ArrowSchema) -> Result<(Schema, ArrowSchema), SparkError> {
    let (fields, carriers) = refine_fields("", &spark.fields, arrow.fields())?;
    Ok((Schema { fields }, ArrowSchema::new(carriers)))
}

fn refine_fields(parent: &str, spark: &[Field], arrow: &Fields) -> Result<(Vec<Field>, Vec<FieldRef>), SparkError> {
    let path = |name: &str| if parent.is_empty() { name.to_owned() } else { format!("{parent}.{name}") };
    let only = |name: &str, present, absent| SparkError::Missing { path: path(name), present, absent };
    if let Some(field) = spark.iter().find(|field| arrow.iter().all(|arrow| *arrow.name() != field.name)) {
        return Err(only(&field.name, "Spark's schema", "the Arrow schema"));
    }
    let (mut fields, mut carriers) = (Vec::with_capacity(arrow.len()), Vec::with_capacity(arrow.len()));
    for carrier in arrow {
        let field = spark.iter().find(|field| field.name == **carrier.name());
        let field = field.ok_or_else(|| only(carrier.name(), "the Arrow schema", "Spark's schema"))?;
        let (data_type, carrier) = refine_field(&path(&field.name), &field.data_type, carrier)?;
        fields.push(Field { data_type, ..field.clone() });
        carriers.push(carrier);
    }
    Ok((fields, carriers))
}

fn refine_field(path: &str, spark: &DataType, carrier: &FieldRef) -> Result<(DataType, FieldRef), SparkError> {
    let (data_type, arrow) = refine_type(path, spark, carrier.data_type())?;
    if arrow == *carrier.data_type() {
        return Ok((data_type, Arc::clone(carrier)));
    }
    Ok((data_type, Arc::new(ArrowField::clone(carrier).with_data_type(arrow))))
}

/// The type of the column, and the Arrow type that its values are read as.
fn refine_type(path: &str, spark: &DataType, arrow: &ArrowType) -> Result<(DataType, ArrowType), SparkError> {
    let types = || SparkError::Types { path: path.to_owned(), spark: spark.to_string(), arrow: arrow.to_string() };
    let of_element = format!("{path}[]");
    match (spark, arrow) {
        // Nulls are of every type.
        (_, ArrowType::Null) => Ok((spark.clone(), ArrowType::Null)),
        (_, ArrowType::Dictionary(key, values)) => {
            let (data_type, values) = refine_type(path, spark, values)?;
            Ok((data_type, ArrowType::Dictionary(key.clone(), Box::new(values))))
        }
        (DataType::Array { element, contains_null }, _) => {
            let array = |(element, carrier), list: &dyn Fn(FieldRef) -> ArrowType| {
                let array = DataType::Array { element: Box::new(element), contains_null: *contains_null };
                (array, list(carrier))
            };
            let refine = |carrier| refine_field(&of_element, element, carrier);
            match arrow {
                ArrowType::List(carrier) => Ok(array(refine(carrier)?, &ArrowType::List)),
                ArrowType::LargeList(carrier) => Ok(array(refine(carrier)?, &ArrowType::LargeList)),
                ArrowType::ListView(carrier) => Ok(array(refine(carrier)?, &ArrowType::ListView)),
                ArrowType::LargeListView(carrier) => Ok(array(refine(carrier)?, &ArrowType::LargeListView)),
                ArrowType::FixedSizeList(carrier, size) => {
                    Ok(array(refine(carrier)?, &|carrier| ArrowType::FixedSizeList(carrier, *size)))
                }
                _ => Err(types()),
            }
        }
        (DataType::Map { key, value, value_contains_null }, ArrowType::Map(entries, sorted)) => {
            let ArrowType::Struct(fields) = entries.data_type() else { return Err(types()) };
            let [key_carrier, value_carrier] = &fields[..] else { return Err(types()) };
            let (key, key_carrier) = refine_field(&format!("{path}{{key}}"), key, key_carrier)?;
            let (value, value_carrier) = refine_field(&format!("{path}{{}}"), value, value_carrier)?;
            let fields = ArrowType::Struct(vec![key_carrier, value_carrier].into());
            let entries = Arc::new(ArrowField::clone(entries).with_data_type(fields));
            let (key, value) = (Box::new(key), Box::new(value));
            let data_type = DataType::Map { key, value, value_contains_null: *value_contains_null };
            Ok((data_type, ArrowType::Map(entries, *sorted)))
        }
        (DataType::Struct(fields), ArrowType::Struct(carriers)) => {
            let (fields, carriers) = refine_fields(path, fields, carriers)?;
            Ok((DataType::Struct(fields), ArrowType::Struct(carriers.into())))
        }
        (DataType::YearMonthInterval, ArrowType::Int32) => {
            Ok((spark.clone(), ArrowType::Interval(IntervalUnit::YearMonth)))
        }
        (DataType::DayTimeInterval, ArrowType::Int64) => {
            Ok((spark.clone(), ArrowType::Duration(TimeUnit::Microsecond)))
        }
        _ if carries(spark, arrow) => Ok((spark.clone(), arrow.clone())),
        _ => Err(types()),
    }
}

/// Whether a scalar of Spark's, or a variant, is shipped as this Arrow type.
fn carries(spark: &DataType, arrow: &ArrowType) -> bool {
    match spark {
        DataType::Variant => is_variant(arrow),
        DataType::Decimal { scale, .. } => match arrow {
            // The precision says how large values may be, which each value shows; the scale says what they are.
            ArrowType::Decimal32(_, carried)
            | ArrowType::Decimal64(_, carried)
            | ArrowType::Decimal128(_, carried)
            | ArrowType::Decimal256(_, carried) => carried == scale,
            _ => false,
        },
        DataType::String | DataType::Char(_) | DataType::Varchar(_) => column_type(arrow) == DataType::String,
        // Any of Arrow's intervals that can hold one; whether a value is one is seen when it comes.
        DataType::YearMonthInterval => {
            matches!(arrow, ArrowType::Interval(IntervalUnit::YearMonth | IntervalUnit::MonthDayNano))
        }
        // Arrow types of more than one width stand for one column type; those of none stand for variant.
        _ => column_type(arrow) == *spark,
    }
}

/// Spark ships a variant as its two binaries.
fn is_variant(arrow: &ArrowType) -> bool {
    let ArrowType::Struct(fields) = arrow else { return false };
    let binary = |name: &str| {
        fields.iter().any(|field| field.name() == name && column_type(field.data_type()) == DataType::Binary)
    };
    fields.len() == 2 && binary("value") && binary("metadata")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schema::{ddl, spark_json};

    fn arrow(fields: Vec<(&str, ArrowType)>) -> ArrowSchema {
        ArrowSchema::new(fields.into_iter().map(|(name, of)| ArrowField::new(name, of, true)).collect::<Vec<_>>())
    }

    fn one(spark: &str, carrier: ArrowType) -> Result<(DataType, ArrowType), SparkError> {
        let (schema, carriers) = refine(&ddl::parse(&format!("c {spark}")).unwrap(), &arrow(vec![("c", carrier)]))?;
        Ok((schema.fields[0].data_type.clone(), carriers.field(0).data_type().clone()))
    }

    fn item(of: ArrowType) -> FieldRef {
        Arc::new(ArrowField::new("item", of, true))
    }

    fn structure(fields: Vec<(&str, ArrowType)>) -> ArrowType {
        ArrowType::Struct(arrow(fields).fields().clone())
    }

    fn map(key: ArrowType, value: ArrowType) -> ArrowType {
        let entries = structure(vec![("key", key), ("value", value)]);
        ArrowType::Map(Arc::new(ArrowField::new("entries", entries, false)), false)
    }

    #[test]
    fn spark_s_type_wins_where_arrow_only_carries_it() {
        let variant = structure(vec![("value", ArrowType::Binary), ("metadata", ArrowType::Binary)]);
        let words = ArrowType::Dictionary(Box::new(ArrowType::Int32), Box::new(ArrowType::Utf8));
        let zone = || Some("Europe/Oslo".into());
        for (spark, carrier) in [
            ("CHAR(3)", ArrowType::Utf8),
            ("VARCHAR(9)", ArrowType::LargeUtf8),
            ("VARCHAR(9)", words),
            ("VARIANT", variant),
            ("INTERVAL YEAR TO MONTH", ArrowType::Interval(IntervalUnit::YearMonth)),
            ("INTERVAL DAY TO SECOND", ArrowType::Duration(TimeUnit::Microsecond)),
            ("TIMESTAMP", ArrowType::Timestamp(TimeUnit::Microsecond, zone())),
            ("TIMESTAMP_NTZ", ArrowType::Timestamp(TimeUnit::Microsecond, None)),
            ("DECIMAL(10, 2)", ArrowType::Decimal128(10, 2)),
            ("DECIMAL(10, 2)", ArrowType::Decimal256(40, 2)),
            ("TINYINT", ArrowType::Int8),
            ("DATE", ArrowType::Date32),
            ("BINARY", ArrowType::LargeBinary),
            ("DOUBLE", ArrowType::Null),
            ("MAP<STRING, VARCHAR(2)>", map(ArrowType::Utf8, ArrowType::Utf8)),
            ("ARRAY<STRUCT<a: CHAR(1)>>", ArrowType::List(item(structure(vec![("a", ArrowType::Utf8)])))),
        ] {
            let declared = ddl::parse_type(spark).unwrap();
            assert_eq!(one(spark, carrier.clone()), Ok((declared, carrier)), "{spark}");
        }
    }

    #[test]
    fn a_bare_integer_is_read_as_the_interval_that_spark_declares() {
        let months = ArrowType::Interval(IntervalUnit::YearMonth);
        let (data_type, carrier) = one("INTERVAL YEAR TO MONTH", ArrowType::Int32).unwrap();
        assert_eq!((data_type, carrier), (DataType::YearMonthInterval, months));
        let (_, carrier) = one("ARRAY<INTERVAL DAY TO SECOND>", ArrowType::LargeList(item(ArrowType::Int64))).unwrap();
        assert_eq!(carrier, ArrowType::LargeList(item(ArrowType::Duration(TimeUnit::Microsecond))));
    }

    #[test]
    fn a_user_defined_type_is_what_it_is_stored_as() {
        let spark = spark_json::parse(
            r#"{"type":"struct","fields":[{"name":"p","nullable":true,"metadata":{},"type":{"type":"udt","class":"P",
            "sqlType":{"type":"struct","fields":[{"name":"x","type":"double","nullable":false,"metadata":{}}]}}}]}"#,
        )
        .unwrap();
        let point = arrow(vec![("p", structure(vec![("x", ArrowType::Float64)]))]);
        assert_eq!(refine(&spark, &point).unwrap().0, spark);
    }

    #[test]
    fn nullability_and_options_are_spark_s_and_the_order_is_arrow_s() {
        let spark =
            ddl::parse("a INT NOT NULL, b DATE OPTIONS (time_encoding = number), s STRUCT<x: INT, y: INT>").unwrap();
        let inner = structure(vec![("y", ArrowType::Int32), ("x", ArrowType::Int32)]);
        let (schema, _) =
            refine(&spark, &arrow(vec![("s", inner), ("b", ArrowType::Date32), ("a", ArrowType::Int32)])).unwrap();
        let names: Vec<_> = schema.fields.iter().map(|field| field.name.as_str()).collect();
        assert_eq!(names, ["s", "b", "a"]);
        assert_eq!(schema.fields[0].data_type.to_string(), "struct<y:int,x:int>");
        assert_eq!((&schema.fields[1], &schema.fields[2]), (&spark.fields[1], &spark.fields[0]));
    }

    #[test]
    fn types_of_different_columns_are_refused_with_both_and_the_path() {
        let zoned = ArrowType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()));
        let not_binaries = structure(vec![("value", ArrowType::Utf8), ("metadata", ArrowType::Binary)]);
        for (spark, carrier, path) in [
            ("INT", ArrowType::Int64, "c"),
            ("STRING", ArrowType::Binary, "c"),
            ("TIMESTAMP_NTZ", zoned, "c"),
            ("TIMESTAMP", ArrowType::Timestamp(TimeUnit::Microsecond, None), "c"),
            ("DECIMAL(10, 2)", ArrowType::Decimal128(10, 3), "c"),
            ("VARIANT", not_binaries, "c"),
            ("VARIANT", ArrowType::Time64(TimeUnit::Microsecond), "c"),
            ("INTERVAL YEAR TO MONTH", ArrowType::Int64, "c"),
            ("ARRAY<INT>", ArrowType::Int32, "c"),
            ("ARRAY<INT>", ArrowType::List(item(ArrowType::Utf8)), "c[]"),
            ("MAP<STRING, INT>", map(ArrowType::Utf8, ArrowType::Utf8), "c{}"),
            ("MAP<INT, INT>", map(ArrowType::Utf8, ArrowType::Int32), "c{key}"),
            ("STRUCT<a: INT>", structure(vec![("a", ArrowType::Utf8)]), "c.a"),
        ] {
            match one(spark, carrier) {
                Err(SparkError::Types { path: found, .. }) => assert_eq!(found, path, "{spark}"),
                other => panic!("{spark}: {other:?}"),
            }
        }
        let message = one("INT", ArrowType::Utf8).unwrap_err().to_string();
        assert_eq!(message, "column `c`: Spark's type is int, but the Arrow type is Utf8, which does not carry it");
    }

    #[test]
    fn a_column_of_one_schema_alone_is_refused() {
        let spark = ddl::parse("a INT, b STRUCT<x: INT>").unwrap();
        let message = |of| refine(&spark, &of).unwrap_err().to_string();
        let b = || ("b", structure(vec![("x", ArrowType::Int32)]));
        assert_eq!(message(arrow(vec![b()])), "column `a` is in Spark's schema and not in the Arrow schema");
        let more = arrow(vec![("a", ArrowType::Int32), b(), ("z", ArrowType::Int32)]);
        assert_eq!(message(more), "column `z` is in the Arrow schema and not in Spark's schema");
        let inner = arrow(vec![("a", ArrowType::Int32), ("b", structure(vec![("y", ArrowType::Int32)]))]);
        assert_eq!(message(inner), "column `b.x` is in Spark's schema and not in the Arrow schema");
    }

    /// Through a whole batch: the same bytes, read as what Spark says they are.
    #[test]
    fn values_that_arrive_as_integers_are_stored_as_intervals() {
        use super::super::testing;
        use crate::payload::{Plan, arrow::ArrowPlan, arrow::IncomingArrow};
        use arrow_array::{ArrayRef, Int32Array, Int64Array};

        let age = Field::new("age", DataType::YearMonthInterval, true);
        let table = testing::table(vec![age, Field::new("span", DataType::DayTimeInterval, true)]);
        let months: ArrayRef = Arc::new(Int32Array::from(vec![Some(14), None]));
        let micros: ArrayRef = Arc::new(Int64Array::from(vec![-1, 7]));
        let (schema, messages) = testing::ipc(&testing::batch(vec![("age", months), ("span", micros)]), None);
        let incoming = IncomingArrow::parse(&schema).unwrap();
        let compile = |incoming: IncomingArrow| {
            let plan = Plan::compile(&table, incoming.schema(), crate::store::WriteOp::Put, 1).unwrap();
            ArrowPlan::compile(&plan, incoming).map(|arrow| (plan, arrow))
        };
        assert!(compile(incoming.clone()).is_err(), "without Spark's word an integer is no interval");
        let (plan, arrow) = compile(incoming.refine(&table.schema).unwrap()).unwrap();
        let chunk = arrow.decode(messages).unwrap().next_chunk(&plan, 1 << 20, 0).unwrap().unwrap();
        let items: Vec<_> = chunk.rows.iter().map(|row| std::str::from_utf8(&row.item.json).unwrap()).collect();
        let first = r#"{"id":{"S":"0"},"age":{"N":"14"},"span":{"N":"-1"}}"#;
        assert_eq!(items, [first, r#"{"id":{"S":"1"},"span":{"N":"7"}}"#]);
    }
}
