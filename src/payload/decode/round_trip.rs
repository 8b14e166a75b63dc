//! What the encoder of writes stores is what the decoder reads back: for any schema and any value that fits it.

use proptest::prelude::*;
use prost::Message as _;

use super::*;
use crate::payload::plan::Plan;
use crate::payload::rows::{RowsCursor, RowsPlan};
use crate::proto::v1::RowBatch;
use crate::schema::{KeyDef, Schema, TimeEncoding};
use crate::store::WriteOp;

/// A field, and a value of it as reads return it.
#[derive(Debug, Clone)]
struct Sample {
    field: Field,
    value: Value,
}

fn sample(data_type: DataType, kind: Kind) -> Sample {
    Sample { field: Field::new("c", data_type, true), value: value(kind) }
}

fn with(mut sample: Sample, set: impl FnOnce(&mut ColumnOptions)) -> Sample {
    set(&mut sample.field.options);
    sample
}

/// Doubles that DynamoDB can hold.
fn double() -> impl Strategy<Value = f64> {
    prop_oneof![any::<f64>(), Just(-0.0)]
        .prop_filter("in DynamoDB's range", |v| *v == 0.0 || (1e-130..1e126).contains(&v.abs()))
}

fn float() -> impl Strategy<Value = f32> {
    prop_oneof![any::<f32>(), Just(-0.0)].prop_filter("finite", |v| v.is_finite())
}

/// A column that is a set, and elements of it, some of them twice.
fn set() -> impl Strategy<Value = Sample> {
    fn of<T: Strategy<Value = Kind>>(element: DataType, kind: T) -> impl Strategy<Value = Sample> {
        let twice = |kinds: Vec<Kind>| kinds.iter().chain(kinds.first()).cloned().map(value).collect();
        prop::collection::vec(kind, 0..5).prop_map(move |kinds| {
            let data_type = DataType::Array { element: Box::new(element.clone()), contains_null: false };
            let list = Kind::ListValue(ListValue { values: twice(kinds) });
            with(sample(data_type, list), |options| options.as_set = true)
        })
    }
    prop_oneof![
        of(DataType::String, text().prop_map(Kind::StringValue)),
        of(DataType::Long, (-3i64..3).prop_map(Kind::IntValue)),
        of(DataType::Double, double().prop_map(Kind::DoubleValue)),
        of(DataType::Binary, any::<[u8; 2]>().prop_map(|bytes| Kind::BytesValue(bytes.to_vec().into()))),
    ]
}

/// What is read back of a value: DynamoDB has one zero, sets have each element once, and an empty set is no attribute.
fn normalised(field: &Field, value: Value) -> Value {
    match (one_zero(value), field.options.as_set) {
        (Value { kind: Some(Kind::ListValue(list)) }, true) => {
            let mut values: Vec<Value> = Vec::new();
            for element in list.values {
                if !values.contains(&element) {
                    values.push(element);
                }
            }
            if values.is_empty() { NULL } else { self::value(Kind::ListValue(ListValue { values })) }
        }
        (value, _) => value,
    }
}

fn one_zero(value: Value) -> Value {
    let all = |values: Vec<Value>| values.into_iter().map(one_zero).collect();
    let kind = value.kind.map(|kind| match kind {
        // Minus zero is zero to `==`, and plus zero added to it is plus zero.
        Kind::DoubleValue(value) => Kind::DoubleValue(value + 0.0),
        Kind::FloatValue(value) => Kind::FloatValue(value + 0.0),
        Kind::ListValue(list) => Kind::ListValue(ListValue { values: all(list.values) }),
        Kind::StructValue(inner) => Kind::StructValue(StructValue { values: all(inner.values) }),
        Kind::MapValue(map) => {
            let entry = |entry: MapEntry| MapEntry { value: entry.value.map(one_zero), ..entry };
            Kind::MapValue(MapValue { entries: map.entries.into_iter().map(entry).collect() })
        }
        other => other,
    });
    Value { kind }
}

/// Whether two values are the same to the bit: `==` takes the two zeros for one.
fn debug(values: &[Value]) -> String {
    format!("{values:?}")
}

fn text() -> impl Strategy<Value = String> {
    prop_oneof!["[a-c\"\\\\\u{0}-\u{1f}é€😀]{0,12}", any::<String>()]
}

/// A decimal column and a number of it, with all digits that its scale says.
fn decimal() -> impl Strategy<Value = (u8, i8, String)> {
    (1u8..=38, any::<u128>()).prop_flat_map(|(precision, bits)| {
        let unscaled = (bits % 10u128.pow(u32::from(precision))) as i128;
        (-6..=precision as i8, any::<bool>()).prop_map(move |(scale, negative)| {
            let unscaled = if negative { -unscaled } else { unscaled };
            (precision, scale, Decimal { unscaled, scale: i32::from(scale) }.plain_text())
        })
    })
}

/// Years 0 to 9999, the range that the stored text has.
fn days() -> std::ops::Range<i32> {
    -719_528..2_932_896
}

fn micros() -> std::ops::Range<i64> {
    i64::from(days().start) * 86_400_000_000..i64::from(days().end) * 86_400_000_000
}

fn scalar() -> impl Strategy<Value = Sample> {
    use DataType as T;
    let encoding = || prop_oneof![Just(None), Just(Some(TimeEncoding::Number)), Just(Some(TimeEncoding::String))];
    prop_oneof![
        any::<i8>().prop_map(|v| sample(T::Byte, Kind::IntValue(v.into()))),
        any::<i16>().prop_map(|v| sample(T::Short, Kind::IntValue(v.into()))),
        any::<i32>().prop_map(|v| sample(T::Integer, Kind::IntValue(v.into()))),
        any::<i64>().prop_map(|v| sample(T::Long, Kind::IntValue(v))),
        float().prop_map(|v| sample(T::Float, Kind::FloatValue(v))),
        double().prop_map(|v| sample(T::Double, Kind::DoubleValue(v))),
        prop_oneof![Just(f64::INFINITY), Just(f64::NEG_INFINITY)].prop_map(|v| {
            with(sample(T::Double, Kind::DoubleValue(v)), |options| options.non_finite = NonFinite::String)
        }),
        decimal().prop_map(|(precision, scale, v)| sample(T::Decimal { precision, scale }, Kind::DecimalValue(v))),
        text().prop_map(|v| sample(T::String, Kind::StringValue(v))),
        "[a-zé]{0,5}".prop_map(|v| sample(T::Varchar(5), Kind::StringValue(v))),
        any::<bool>().prop_map(|v| sample(T::Boolean, Kind::BoolValue(v))),
        any::<Vec<u8>>().prop_map(|v| sample(T::Binary, Kind::BytesValue(v.into()))),
        (days(), encoding()).prop_map(|(v, encoding)| {
            with(sample(T::Date, Kind::DateDays(v)), |options| options.time_encoding = encoding)
        }),
        (micros(), encoding()).prop_map(|(v, encoding)| {
            with(sample(T::Timestamp, Kind::TimestampMicros(v)), |options| options.time_encoding = encoding)
        }),
        (micros(), encoding()).prop_map(|(v, encoding)| {
            with(sample(T::TimestampNtz, Kind::TimestampNtzMicros(v)), |options| options.time_encoding = encoding)
        }),
        any::<i64>().prop_map(|v| sample(T::DayTimeInterval, Kind::DayTimeIntervalMicros(v))),
        any::<i32>().prop_map(|v| sample(T::YearMonthInterval, Kind::YearMonthIntervalMonths(v))),
        variant().prop_map(|v| sample(T::Variant, v)),
    ]
}

/// A double that reads back as one: a whole number of 64 bits would be an integer.
fn natural_double() -> impl Strategy<Value = f64> {
    double().prop_filter("no integer", |v| v.fract() != 0.0 || v.abs() > 1e19)
}

/// A decimal that no double's shortest text is, in the one text that it reads back as.
fn natural_decimal() -> impl Strategy<Value = String> {
    (any::<u64>(), 0i32..30).prop_map(|(bits, scale)| {
        Decimal { unscaled: i128::from(bits) * 10i128.pow(18) + 123_456_789_012_345_679, scale }.canonical_text()
    })
}

/// Values of a variant, in the kinds that reads return.
fn variant() -> impl Strategy<Value = Kind> {
    let scalar = prop_oneof![
        any::<bool>().prop_map(Kind::BoolValue),
        prop_oneof![-9i64..9, any::<i64>()].prop_map(Kind::IntValue),
        natural_double().prop_map(Kind::DoubleValue),
        natural_decimal().prop_map(Kind::DecimalValue),
        text().prop_map(Kind::StringValue),
        any::<Vec<u8>>().prop_map(|v| Kind::BytesValue(v.into())),
    ];
    scalar.prop_recursive(4, 24, 4, |inner| {
        let nullable = prop::option::of(inner).prop_map(|kind| Value { kind });
        prop_oneof![
            prop::collection::vec(nullable.clone(), 0..4).prop_map(|values| Kind::ListValue(ListValue { values })),
            prop::collection::btree_map("[a-z\"é]{1,6}", nullable, 0..4).prop_map(|entries| {
                let entry = |(key, of)| MapEntry { key: Some(value(Kind::StringValue(key))), value: Some(of) };
                Kind::MapValue(MapValue { entries: entries.into_iter().map(entry).collect() })
            }),
        ]
    })
}

/// Map keys of a type, with their stored text, which orders the entries that are read.
fn map_keys() -> impl Strategy<Value = (DataType, Vec<Kind>)> {
    fn sorted<T>(
        data_type: DataType,
        keys: std::collections::BTreeMap<String, T>,
        kind: fn(T) -> Kind,
    ) -> (DataType, Vec<Kind>) {
        (data_type, keys.into_values().map(kind).collect())
    }
    prop_oneof![
        prop::collection::btree_set("[a-z\"é]{1,6}", 0..4)
            .prop_map(|keys| (DataType::String, keys.into_iter().map(Kind::StringValue).collect())),
        prop::collection::vec(any::<i16>(), 0..4).prop_map(|keys| {
            let keys = keys.into_iter().map(|key| (key.to_string(), i64::from(key))).collect();
            sorted(DataType::Short, keys, Kind::IntValue)
        }),
        prop::collection::vec(0..9999i32, 0..4).prop_map(|keys| {
            let keys = keys.into_iter().map(|key| (number::date_text(key.into()).unwrap(), key)).collect();
            sorted(DataType::Date, keys, Kind::DateDays)
        }),
        prop::collection::vec(0..9999i128, 0..4).prop_map(|keys| {
            let decimal = |unscaled| Decimal { unscaled, scale: 2 };
            let keys = keys.into_iter().map(|key| (decimal(key).canonical_text(), decimal(key).plain_text())).collect();
            sorted(DataType::Decimal { precision: 4, scale: 2 }, keys, Kind::DecimalValue)
        }),
    ]
}

/// Nested values: all elements of an array or map are the one value or null, as they must share their type.
fn any_sample() -> impl Strategy<Value = Sample> {
    scalar().prop_recursive(3, 24, 4, |inner| {
        let nulls = || prop::collection::vec(any::<bool>(), 0..4);
        let repeat = |value: &Value, null: bool| if null { NULL } else { value.clone() };
        prop_oneof![
            (inner.clone(), nulls()).prop_map(move |(element, nulls)| {
                let values = nulls.into_iter().map(|null| repeat(&element.value, null)).collect();
                let data_type =
                    DataType::Array { element: Box::new(element.field.data_type.clone()), contains_null: true };
                Sample {
                    field: Field { data_type, ..element.field },
                    value: value(Kind::ListValue(ListValue { values })),
                }
            }),
            (inner.clone(), map_keys(), any::<bool>()).prop_map(move |(element, (key, keys), null)| {
                let entry = |kind| MapEntry { key: Some(value(kind)), value: Some(repeat(&element.value, null)) };
                let entries = keys.into_iter().map(entry).collect();
                let data_type = DataType::Map {
                    key: Box::new(key),
                    value: Box::new(element.field.data_type.clone()),
                    value_contains_null: true,
                };
                Sample {
                    field: Field { data_type, ..element.field },
                    value: value(Kind::MapValue(MapValue { entries })),
                }
            }),
            prop::collection::vec((inner, any::<bool>()), 1..4).prop_map(move |members| {
                let member = |(index, (sample, null)): (usize, (Sample, bool))| {
                    (Field { name: format!("f{index}"), ..sample.field }, if null { NULL } else { sample.value })
                };
                let (fields, values) = members.into_iter().enumerate().map(member).unzip();
                sample(DataType::Struct(fields), Kind::StructValue(StructValue { values }))
            }),
        ]
    })
}

proptest! {
    #[test]
    fn what_is_written_is_read_back(samples in prop::collection::vec((prop_oneof![6 => any_sample(), 1 => set()], any::<bool>()), 1..4)) {
        let mut fields = vec![Field::new("id", DataType::String, false)];
        let mut values = vec![value(Kind::StringValue("k".into()))];
        for (index, (sample, null)) in samples.into_iter().enumerate() {
            fields.push(Field { name: format!("c{index}"), ..sample.field });
            values.push(if null { NULL } else { sample.value });
        }
        let expected: Vec<_> = fields.iter().zip(&values).map(|(field, value)| normalised(field, value.clone())).collect();
        let key = KeyDef {
            partition: vec!["id".into()],
            sort: vec![],
            partition_attribute: "_pk".into(),
            sort_attribute: "_sk".into(),
        };
        let table = TableDef::new("t", Schema { fields }, key, "t");
        table.validate().unwrap();

        let plan = Plan::compile(&table, &table.schema, WriteOp::Put, 0).unwrap();
        let rows = RowsPlan::compile(&plan).unwrap();
        let batch = RowBatch { rows: vec![Row { values: values.clone() }] }.encode_to_vec();
        let chunk = RowsCursor::new(&batch).next_chunk(&plan, &rows, 1 << 20, 0).unwrap().unwrap();
        prop_assert_eq!(&chunk.rejects, &vec![]);
        let json = serde_json::from_slice(&chunk.rows[0].item.json).unwrap();

        // What lets sizes be known by the text: it is never shorter than DynamoDB's size.
        let mut measuring = Plan::compile(&table, &table.schema, WriteOp::Put, 0).unwrap();
        measuring.measure();
        let measured = RowsCursor::new(&batch).next_chunk(&measuring, &rows, 1 << 20, 0).unwrap().unwrap();
        let (measured, row) = (&measured.rows[0], &chunk.rows[0]);
        prop_assert_eq!(&measured.item.json, &row.item.json);
        prop_assert!(measured.item_bytes <= row.item_bytes && row.item_bytes as usize == row.item.json.len());

        let decoder = RowDecoder::try_new(&table, &[]).unwrap();
        let Ok(Decoded::Row(read)) = decoder.decode(item_of_json(&json), 0) else { panic!("it is a row") };
        prop_assert_eq!(debug(&read.values), debug(&expected));
    }
}
