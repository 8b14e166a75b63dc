use std::sync::Arc;

use arrow_array::builder::{Int64Builder, ListBuilder};
use arrow_array::types::Int8Type;
use arrow_array::{
    ArrayRef, Date64Array, Decimal128Array, DictionaryArray, FixedSizeListArray, LargeStringArray, RecordBatch,
    StringViewArray, TimestampMillisecondArray, TimestampNanosecondArray, TimestampSecondArray, UInt64Array,
};
use arrow_schema::Field;
use proptest::prelude::*;

use super::*;
use crate::payload::number::Decimal;
use crate::proto::v1::value::Kind;
use crate::proto::v1::{ListValue, MapEntry, MapValue, Row, StructValue, Value};

fn column(array: impl arrow_array::Array + 'static) -> Vec<Option<Kind>> {
    let batch = RecordBatch::try_from_iter([("c", Arc::new(array) as ArrayRef)]).unwrap();
    let rows = rows_from_arrow(&batch).unwrap();
    rows.rows.into_iter().map(|mut row| row.values.remove(0).kind).collect()
}

#[test]
fn every_kind_of_text_is_text() {
    let text = |text: &str| Some(Kind::StringValue(text.to_owned()));
    let expected = vec![text("a"), None, text("")];
    assert_eq!(column(LargeStringArray::from(vec![Some("a"), None, Some("")])), expected);
    assert_eq!(column(StringViewArray::from(vec![Some("a"), None, Some("")])), expected);
    let dictionary: DictionaryArray<Int8Type> = [Some("a"), None, Some("")].into_iter().collect();
    assert_eq!(column(dictionary), expected);
}

#[test]
fn timestamps_of_any_unit_become_microseconds() {
    let at = |micros| vec![Some(Kind::TimestampMicros(micros)), None];
    assert_eq!(column(TimestampSecondArray::from(vec![Some(-2), None]).with_timezone("UTC")), at(-2_000_000));
    assert_eq!(column(TimestampMillisecondArray::from(vec![Some(3), None]).with_timezone("+02:00")), at(3_000));
    assert_eq!(column(TimestampNanosecondArray::from(vec![Some(-5_000), None]).with_timezone("UTC")), at(-5));
    let wall = column(TimestampMillisecondArray::from(vec![Some(3)]));
    assert_eq!(wall, [Some(Kind::TimestampNtzMicros(3_000))]);
}

#[test]
fn what_would_lose_digits_is_refused_with_column_and_row() {
    let nanos = TimestampNanosecondArray::from(vec![1_000, 1_001]);
    let batch = RecordBatch::try_from_iter([("t", Arc::new(nanos) as ArrayRef)]).unwrap();
    let error = rows_from_arrow(&batch).unwrap_err();
    assert_eq!(error.to_string(), "column `t`, row 1: the value is no whole number of microseconds in range");
    let noon = Date64Array::from(vec![43_200_000]);
    let batch = RecordBatch::try_from_iter([("d", Arc::new(noon) as ArrayRef)]).unwrap();
    assert_eq!(rows_from_arrow(&batch).unwrap_err().row, Some(0));
}

#[test]
fn decimals_and_large_unsigned_numbers_become_text() {
    let decimal = |text: &str| Some(Kind::DecimalValue(text.to_owned()));
    let array = Decimal128Array::from(vec![1250, -5, 0]).with_precision_and_scale(10, 2).unwrap();
    assert_eq!(column(array), [decimal("12.50"), decimal("-0.05"), decimal("0.00")]);
    let array = Decimal128Array::from(vec![12, 0]).with_precision_and_scale(10, -2).unwrap();
    assert_eq!(column(array), [decimal("1200"), decimal("0")]);
    assert_eq!(column(UInt64Array::from(vec![u64::MAX])), [decimal("18446744073709551615")]);
}

#[test]
fn lists_are_read_from_their_own_offsets_even_in_a_slice() {
    let mut builder = ListBuilder::new(Int64Builder::new());
    for list in [Some(vec![Some(1)]), None, Some(vec![]), Some(vec![Some(2), None])] {
        builder.append_option(list);
    }
    let sliced = arrow_array::Array::slice(&builder.finish(), 1, 3);
    let int = |value| Value { kind: Some(Kind::IntValue(value)) };
    let list = |values| Some(Kind::ListValue(ListValue { values }));
    assert_eq!(column(sliced), [None, list(vec![]), list(vec![int(2), Value::default()])]);
    let item = Arc::new(Field::new("item", arrow_schema::DataType::Int64, true));
    let values = Arc::new(arrow_array::Int64Array::from(vec![1, 2, 3, 4]));
    let fixed = FixedSizeListArray::new(item, 2, values, None);
    let sliced = arrow_array::Array::slice(&fixed, 1, 1);
    assert_eq!(column(sliced), [list(vec![int(3), int(4)])]);
}

#[test]
fn a_type_without_counterpart_is_named() {
    let schema =
        arrow_schema::Schema::new(vec![Field::new("t", arrow_schema::DataType::Time64(TimeUnit::Microsecond), true)]);
    let error = schema_from_arrow(&schema).unwrap_err();
    assert_eq!(error.to_string(), "column `t`: the Arrow type Time64(µs) is not supported");
}

/// A type and a way to make values of it.
fn typed() -> impl Strategy<Value = (v1::DataType, BoxedStrategy<Value>)> {
    fn of(kind: PrimitiveType) -> v1::DataType {
        v1::DataType { r#type: Some(Type::Primitive(kind.into())) }
    }
    fn some(kinds: impl Strategy<Value = Kind> + 'static) -> BoxedStrategy<Value> {
        prop_oneof![1 => Just(Value::default()), 4 => kinds.prop_map(|kind| Value { kind: Some(kind) })].boxed()
    }
    let leaf = prop_oneof![
        Just((of(PrimitiveType::Byte), some(any::<i8>().prop_map(|v| Kind::IntValue(v.into()))))),
        Just((of(PrimitiveType::Integer), some(any::<i32>().prop_map(|v| Kind::IntValue(v.into()))))),
        Just((of(PrimitiveType::Long), some(any::<i64>().prop_map(Kind::IntValue)))),
        Just((of(PrimitiveType::Float), some(any::<f32>().prop_map(Kind::FloatValue)))),
        Just((of(PrimitiveType::Double), some(any::<f64>().prop_map(Kind::DoubleValue)))),
        Just((of(PrimitiveType::Boolean), some(any::<bool>().prop_map(Kind::BoolValue)))),
        Just((of(PrimitiveType::String), some("\\PC{0,8}".prop_map(Kind::StringValue)))),
        Just((of(PrimitiveType::Binary), some(any::<Vec<u8>>().prop_map(|v| Kind::BytesValue(v.into()))))),
        Just((of(PrimitiveType::Date), some(any::<i32>().prop_map(Kind::DateDays)))),
        Just((of(PrimitiveType::Timestamp), some(any::<i64>().prop_map(Kind::TimestampMicros)))),
        Just((of(PrimitiveType::TimestampNtz), some(any::<i64>().prop_map(Kind::TimestampNtzMicros)))),
        Just((of(PrimitiveType::DayTimeInterval), some(any::<i64>().prop_map(Kind::DayTimeIntervalMicros)))),
        Just((of(PrimitiveType::YearMonthInterval), some(any::<i32>().prop_map(Kind::YearMonthIntervalMonths)))),
        Just((
            decimal(20, 3),
            some(any::<i64>().prop_map(|v| Kind::DecimalValue(Decimal { unscaled: v.into(), scale: 3 }.plain_text())))
        )),
    ];
    leaf.prop_recursive(3, 8, 3, |inner| {
        prop_oneof![
            inner.clone().prop_map(|(element, values)| {
                let array = v1::ArrayType { element: Some(Box::new(element)), contains_null: true };
                let lists = proptest::collection::vec(values, 0..4);
                let kind = lists.prop_map(|values| Kind::ListValue(ListValue { values }));
                (v1::DataType { r#type: Some(Type::Array(Box::new(array))) }, some(kind))
            }),
            (inner.clone(), inner.clone()).prop_map(|((a, a_values), (b, b_values))| {
                let field = |name: &str, data_type| v1::Field {
                    name: name.to_owned(),
                    r#type: Some(data_type),
                    nullable: true,
                    ..v1::Field::default()
                };
                let fields = vec![field("a", a), field("b", b)];
                let kind =
                    (a_values, b_values).prop_map(|(a, b)| Kind::StructValue(StructValue { values: vec![a, b] }));
                (v1::DataType { r#type: Some(Type::Struct(v1::StructType { fields })) }, some(kind))
            }),
            inner.prop_map(|(value, values)| {
                let key = Some(Box::new(of(PrimitiveType::String)));
                let map = v1::MapType { key, value: Some(Box::new(value)), value_contains_null: true };
                let entry = ("[a-z]{1,4}", values).prop_map(|(key, value)| MapEntry {
                    key: Some(Value { kind: Some(Kind::StringValue(key)) }),
                    value: Some(value),
                });
                let maps = proptest::collection::vec(entry, 0..3);
                let kind = maps.prop_map(|entries| Kind::MapValue(MapValue { entries }));
                (v1::DataType { r#type: Some(Type::Map(Box::new(map))) }, some(kind))
            }),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn rows_come_back_from_arrow_as_they_went_in(
        (data_type, values) in typed().prop_flat_map(|(data_type, values)| {
            (Just(data_type), proptest::collection::vec(values, 0..8))
        })
    ) {
        let field = v1::Field { name: "c".to_owned(), r#type: Some(data_type), nullable: true, ..v1::Field::default() };
        let schema = v1::Schema { fields: vec![field] };
        let arrow = Arc::new(schema_to_arrow(&schema).unwrap());
        prop_assert_eq!(&schema_from_arrow(&arrow).unwrap(), &schema);
        let rows: Vec<_> = values.into_iter().map(|value| Row { values: vec![value] }).collect();
        let batch = arrow_from_rows(&arrow, &rows).unwrap();
        prop_assert_eq!(rows_from_arrow(&batch).unwrap().rows, rows);
    }
}
