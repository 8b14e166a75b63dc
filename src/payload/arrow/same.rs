//! The same rows, positional and as Arrow, give the same text: a property over arbitrary nested schemas and values.

use std::sync::Arc;

use arrow_array::types::*;
use arrow_array::*;
use arrow_buffer::{NullBuffer, OffsetBuffer};
use arrow_ipc::CompressionType;
use arrow_schema::{DataType as ArrowType, Field as ArrowField, Fields};
use proptest::prelude::*;
use prost::Message as _;

use super::testing::{ipc, open, table};
use crate::payload::rows::{RowsCursor, RowsPlan};
use crate::payload::{Chunk, Plan};
use crate::proto::v1::{self, value::Kind};
use crate::schema::{DataType, Field, StoreAssignment};
use crate::store::WriteOp;

fn scalar_type() -> impl Strategy<Value = DataType> {
    prop_oneof![
        Just(DataType::Boolean),
        Just(DataType::Byte),
        Just(DataType::Integer),
        Just(DataType::Long),
        Just(DataType::Float),
        Just(DataType::Double),
        Just(DataType::Decimal { precision: 12, scale: 3 }),
        Just(DataType::String),
        Just(DataType::Varchar(3)),
        Just(DataType::Binary),
        Just(DataType::Date),
        Just(DataType::Timestamp),
        Just(DataType::TimestampNtz),
        Just(DataType::DayTimeInterval),
        Just(DataType::YearMonthInterval),
    ]
}

fn any_type() -> impl Strategy<Value = DataType> {
    scalar_type().prop_recursive(3, 12, 3, |inner| {
        prop_oneof![
            (inner.clone(), any::<bool>())
                .prop_map(|(element, contains_null)| DataType::Array { element: Box::new(element), contains_null }),
            (inner.clone(), any::<bool>()).prop_map(|(value, value_contains_null)| DataType::Map {
                key: Box::new(DataType::String),
                value: Box::new(value),
                value_contains_null,
            }),
            prop::collection::vec((inner, any::<bool>()), 1..4).prop_map(|fields| {
                let field = |(index, (data_type, nullable))| Field::new(format!("f{index}"), data_type, nullable);
                DataType::Struct(fields.into_iter().enumerate().map(field).collect())
            }),
        ]
    })
}

fn some(kind: Kind) -> v1::Value {
    v1::Value { kind: Some(kind) }
}

/// A value of the type as a sender may have it: also out of range, too long, null.
fn value(data_type: &DataType) -> BoxedStrategy<v1::Value> {
    let present = match data_type {
        DataType::Boolean => any::<bool>().prop_map(Kind::BoolValue).boxed(),
        DataType::Byte | DataType::Integer | DataType::Long => {
            prop_oneof![-200i64..200, any::<i64>()].prop_map(Kind::IntValue).boxed()
        }
        DataType::Float => prop_oneof![-9f32..9.0, any::<f32>()].prop_map(Kind::FloatValue).boxed(),
        DataType::Double => prop_oneof![-9f64..9.0, any::<f64>()].prop_map(Kind::DoubleValue).boxed(),
        DataType::Decimal { .. } => any::<i64>().prop_map(|v| Kind::DecimalValue(format!("{v}e-3"))).boxed(),
        DataType::String | DataType::Varchar(_) => "[a-cä\"\u{0}-\u{2}]{0,4}".prop_map(Kind::StringValue).boxed(),
        DataType::Binary => prop::collection::vec(any::<u8>(), 0..9).prop_map(|v| Kind::BytesValue(v.into())).boxed(),
        DataType::Date => any::<i32>().prop_map(Kind::DateDays).boxed(),
        DataType::Timestamp => any::<i64>().prop_map(Kind::TimestampMicros).boxed(),
        DataType::TimestampNtz => any::<i64>().prop_map(Kind::TimestampNtzMicros).boxed(),
        DataType::DayTimeInterval => any::<i64>().prop_map(Kind::DayTimeIntervalMicros).boxed(),
        DataType::YearMonthInterval => any::<i32>().prop_map(Kind::YearMonthIntervalMonths).boxed(),
        DataType::Array { element, .. } => prop::collection::vec(value(element), 0..4)
            .prop_map(|values| Kind::ListValue(v1::ListValue { values }))
            .boxed(),
        DataType::Map { value: of, .. } => prop::collection::vec(("[ab]{0,2}", value(of)), 0..4)
            .prop_map(|entries| {
                let key = |key| Some(some(Kind::StringValue(key)));
                let entry = |(name, value)| v1::MapEntry { key: key(name), value: Some(value) };
                Kind::MapValue(v1::MapValue { entries: entries.into_iter().map(entry).collect() })
            })
            .boxed(),
        DataType::Struct(fields) => fields
            .iter()
            .map(|field| value(&field.data_type))
            .collect::<Vec<_>>()
            .prop_map(|values| Kind::StructValue(v1::StructValue { values }))
            .boxed(),
        DataType::Short | DataType::Char(_) | DataType::Variant => unreachable!("not generated"),
    };
    prop_oneof![1 => Just(v1::Value { kind: None }), 9 => present.prop_map(some)].boxed()
}

/// The values as an Arrow array; the flavour chooses among the Arrow types of one column type.
fn array(data_type: &DataType, values: &[v1::Value], flavour: usize) -> ArrayRef {
    macro_rules! scalars {
        ($array:ty, $kind:path, $of:expr) => {{
            let of = $of;
            let scalar = |value: &v1::Value| match &value.kind {
                Some($kind(v)) => Some(of(v)),
                _ => None,
            };
            Arc::new(values.iter().map(scalar).collect::<$array>()) as ArrayRef
        }};
    }
    let nulls = NullBuffer::from_iter(values.iter().map(|value| value.kind.is_some()));
    match data_type {
        DataType::Boolean => scalars!(BooleanArray, Kind::BoolValue, |v: &bool| *v),
        DataType::Byte | DataType::Integer | DataType::Long => scalars!(Int64Array, Kind::IntValue, |v: &i64| *v),
        DataType::Float => scalars!(Float32Array, Kind::FloatValue, |v: &f32| *v),
        DataType::Double => scalars!(Float64Array, Kind::DoubleValue, |v: &f64| *v),
        DataType::Decimal { .. } => {
            let digits = |v: &String| v.trim_end_matches("e-3").parse::<i128>().unwrap();
            let array = scalars!(Decimal128Array, Kind::DecimalValue, digits);
            let array = array.as_any().downcast_ref::<Decimal128Array>().unwrap().clone();
            Arc::new(array.with_precision_and_scale(38, 3).unwrap())
        }
        DataType::String | DataType::Varchar(_) => match flavour % 4 {
            0 => scalars!(StringArray, Kind::StringValue, String::clone),
            1 => scalars!(LargeStringArray, Kind::StringValue, String::clone),
            2 => scalars!(StringViewArray, Kind::StringValue, String::clone),
            _ => {
                let text = |value: &'_ v1::Value| match &value.kind {
                    Some(Kind::StringValue(v)) => Some(v.clone()),
                    _ => None,
                };
                let texts: Vec<_> = values.iter().map(text).collect();
                Arc::new(texts.iter().map(Option::as_deref).collect::<DictionaryArray<Int16Type>>())
            }
        },
        DataType::Binary => scalars!(BinaryArray, Kind::BytesValue, |v: &bytes::Bytes| v.clone()),
        DataType::Date => scalars!(Date32Array, Kind::DateDays, |v: &i32| *v),
        DataType::Timestamp => {
            let array = scalars!(TimestampMicrosecondArray, Kind::TimestampMicros, |v: &i64| *v);
            let array = array.as_any().downcast_ref::<TimestampMicrosecondArray>().unwrap().clone();
            Arc::new(array.with_timezone("UTC"))
        }
        DataType::TimestampNtz => scalars!(TimestampMicrosecondArray, Kind::TimestampNtzMicros, |v: &i64| *v),
        DataType::DayTimeInterval => scalars!(DurationMicrosecondArray, Kind::DayTimeIntervalMicros, |v: &i64| *v),
        DataType::YearMonthInterval => scalars!(IntervalYearMonthArray, Kind::YearMonthIntervalMonths, |v: &i32| *v),
        DataType::Array { element, .. } => {
            let elements = |value: &v1::Value| match &value.kind {
                Some(Kind::ListValue(list)) => list.values.clone(),
                _ => Vec::new(),
            };
            let lists: Vec<Vec<v1::Value>> = values.iter().map(elements).collect();
            let child = array(element, &lists.concat(), flavour / 2);
            let field = Arc::new(ArrowField::new_list_field(child.data_type().clone(), true));
            match flavour % 2 {
                0 => {
                    let offsets = OffsetBuffer::<i32>::from_lengths(lists.iter().map(Vec::len));
                    Arc::new(ListArray::new(field, offsets, child, Some(nulls)))
                }
                _ => {
                    let offsets = OffsetBuffer::<i64>::from_lengths(lists.iter().map(Vec::len));
                    Arc::new(LargeListArray::new(field, offsets, child, Some(nulls)))
                }
            }
        }
        DataType::Map { value, .. } => {
            let entries = |value: &v1::Value| match &value.kind {
                Some(Kind::MapValue(map)) => map.entries.clone(),
                _ => Vec::new(),
            };
            let maps: Vec<Vec<v1::MapEntry>> = values.iter().map(entries).collect();
            let entries = maps.concat();
            let keys: Vec<_> = entries.iter().filter_map(|entry| entry.key.clone()).collect();
            let of: Vec<_> = entries.iter().filter_map(|entry| entry.value.clone()).collect();
            let (keys, of) = (array(&DataType::String, &keys, flavour), array(value, &of, flavour / 2));
            let fields = Fields::from(vec![
                ArrowField::new("key", keys.data_type().clone(), false),
                ArrowField::new("value", of.data_type().clone(), true),
            ]);
            let offsets = OffsetBuffer::from_lengths(maps.iter().map(Vec::len));
            let entries = StructArray::new(fields.clone(), vec![keys, of], None);
            let field = Arc::new(ArrowField::new("entries", ArrowType::Struct(fields), false));
            Arc::new(MapArray::new(field, offsets, entries, Some(nulls), false))
        }
        DataType::Struct(fields) => {
            let of = |value: &v1::Value, index: usize| match &value.kind {
                Some(Kind::StructValue(fields)) => fields.values[index].clone(),
                _ => v1::Value { kind: None },
            };
            let children = fields.iter().enumerate().map(|(index, field)| {
                let values: Vec<_> = values.iter().map(|value| of(value, index)).collect();
                let child = array(&field.data_type, &values, flavour / 2 + index);
                (Arc::new(ArrowField::new(&field.name, child.data_type().clone(), true)), child)
            });
            let (fields, children): (Vec<_>, Vec<_>) = children.unzip();
            Arc::new(StructArray::new(fields.into(), children, Some(nulls)))
        }
        DataType::Short | DataType::Char(_) | DataType::Variant => unreachable!("not generated"),
    }
}

/// Every row's index with its text, or its reject.
type Rows = Vec<(u32, String)>;

fn outcomes(chunks: Vec<Chunk>) -> Rows {
    let mut rows = Vec::new();
    for chunk in chunks {
        let written = chunk.rows.into_iter().map(|row| (row.row_index, format!("{:?}", row.item.json)));
        // What came differs: Arrow has its own widths of integers, and so other names for them.
        let rejected = chunk.rejects.into_iter().map(|row| {
            let reject = row.reject;
            (row.row_index, format!("{:?} {} {}", reject.reason, reject.path, reject.declared))
        });
        rows.extend(written.chain(rejected));
    }
    rows.sort();
    rows
}

fn case() -> impl Strategy<Value = (DataType, bool, Vec<v1::Value>, usize)> {
    (any_type(), any::<bool>(), 0usize..16).prop_flat_map(|(data_type, nullable, flavour)| {
        let values = prop::collection::vec(value(&data_type), 1..6);
        (Just(data_type), Just(nullable), values, Just(flavour))
    })
}

/// What becomes of the values, as Arrow and by position: in a column of this type, sent as that one.
fn both_ways(
    declared: &DataType,
    sent: &DataType,
    nullable: bool,
    values: Vec<v1::Value>,
    flavour: usize,
) -> [Rows; 2] {
    let mut table = table(vec![Field::new("x", declared.clone(), nullable)]);
    table.store_assignment = [StoreAssignment::Strict, StoreAssignment::Ansi, StoreAssignment::Legacy][flavour / 3 % 3];
    let batch = super::testing::batch(vec![("x", array(sent, &values, flavour))]);
    let codec = [None, Some(CompressionType::LZ4_FRAME), Some(CompressionType::ZSTD)][flavour % 3];
    let (schema, messages) = ipc(&batch, codec);
    let (plan, arrow_plan) = open(&table, &schema);
    let mut cursor = arrow_plan.decode(messages).unwrap();
    let by_arrow: Vec<_> = std::iter::from_fn(|| cursor.next_chunk(&plan, 100, 0).unwrap()).collect();

    let mut session = table.schema.clone();
    session.fields[1].data_type = sent.clone();
    let plan = Plan::compile(&table, &session, WriteOp::Put, 1).unwrap();
    let rows_plan = RowsPlan::compile(&plan).unwrap();
    let row = |(index, value)| v1::Row { values: vec![some(Kind::StringValue(format!("{index}"))), value] };
    let bytes = v1::RowBatch { rows: values.into_iter().enumerate().map(row).collect() }.encode_to_vec();
    let mut cursor = RowsCursor::new(&bytes);
    let by_rows: Vec<_> = std::iter::from_fn(|| cursor.next_chunk(&plan, &rows_plan, 1 << 20, 0).unwrap()).collect();
    [outcomes(by_arrow), outcomes(by_rows)]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, ..Default::default() })]

    #[test]
    fn positional_and_arrow_rows_give_the_same_text((data_type, nullable, values, flavour) in case()) {
        let [by_arrow, by_rows] = both_ways(&data_type, &data_type, nullable, values, flavour);
        prop_assert_eq!(by_arrow, by_rows);
    }

    #[test]
    fn positional_and_arrow_rows_give_the_same_variants((data_type, nullable, values, flavour) in case()) {
        let [by_arrow, by_rows] = both_ways(&DataType::Variant, &data_type, nullable, values, flavour);
        prop_assert_eq!(by_arrow, by_rows);
    }
}
