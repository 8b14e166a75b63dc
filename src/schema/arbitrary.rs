//! Arbitrary valid schemas, for property tests of everything that reads and writes schemas.

use proptest::prelude::*;

use super::types::{ColumnOptions, DataType, Field, NonFinite, Schema, TimeEncoding};

fn scalar() -> impl Strategy<Value = DataType> {
    prop_oneof![
        Just(DataType::Byte),
        Just(DataType::Short),
        Just(DataType::Integer),
        Just(DataType::Long),
        Just(DataType::Float),
        Just(DataType::Double),
        (1u8..=38).prop_flat_map(|precision| {
            (-38..=precision as i8).prop_map(move |scale| DataType::Decimal { precision, scale })
        }),
        Just(DataType::String),
        (1..=u32::MAX).prop_map(DataType::Char),
        (1..=u32::MAX).prop_map(DataType::Varchar),
        Just(DataType::Boolean),
        Just(DataType::Binary),
        Just(DataType::Date),
        Just(DataType::Timestamp),
        Just(DataType::TimestampNtz),
        Just(DataType::DayTimeInterval),
        Just(DataType::YearMonthInterval),
        Just(DataType::Variant),
    ]
}

/// Any type, nested a few levels.
pub(crate) fn data_type() -> impl Strategy<Value = DataType> {
    scalar().prop_recursive(4, 24, 4, |inner| {
        prop_oneof![
            (inner.clone(), any::<bool>())
                .prop_map(|(element, contains_null)| DataType::Array { element: Box::new(element), contains_null }),
            (scalar().prop_filter("a key type", DataType::is_map_key), inner.clone(), any::<bool>()).prop_map(
                |(key, value, value_contains_null)| DataType::Map {
                    key: Box::new(key),
                    value: Box::new(value),
                    value_contains_null
                }
            ),
            fields(inner, 4).prop_map(DataType::Struct),
        ]
    })
}

fn options() -> impl Strategy<Value = (NonFinite, Option<TimeEncoding>, bool, Option<String>)> {
    let non_finite = prop_oneof![Just(NonFinite::Reject), Just(NonFinite::Null), Just(NonFinite::String)];
    let time = prop_oneof![Just(None), Just(Some(TimeEncoding::Number)), Just(Some(TimeEncoding::String))];
    let text = any::<String>().prop_map(|text| serde_json::Value::String(text).to_string());
    let default = proptest::option::weighted(0.2, prop_oneof![any::<i64>().prop_map(|n| n.to_string()), text]);
    (non_finite, time, any::<bool>(), default)
}

fn fields(data_type: impl Strategy<Value = DataType>, max: usize) -> impl Strategy<Value = Vec<Field>> {
    let name = prop_oneof![3 => "[a-z_][a-z0-9_]{0,8}", 1 => "\\PC{1,12}"];
    let comment = prop_oneof![3 => Just(String::new()), 1 => any::<String>()];
    let field = (name, data_type, any::<bool>(), comment, options()).prop_map(
        |(name, data_type, nullable, comment, (non_finite, time_encoding, flag, default_value))| {
            let innermost = data_type.innermost();
            let is_float = matches!(innermost, DataType::Float | DataType::Double);
            let is_time = matches!(innermost, DataType::Date | DataType::Timestamp | DataType::TimestampNtz);
            let non_finite = if is_float { non_finite } else { NonFinite::Reject };
            let time_encoding = time_encoding.filter(|_| is_time);
            let as_set = flag && matches!(data_type, DataType::Array { .. });
            let key_as_number = flag && data_type == DataType::Boolean;
            let float_key = flag && matches!(data_type, DataType::Float | DataType::Double);
            let options = ColumnOptions { non_finite, time_encoding, as_set, key_as_number, float_key, default_value };
            Field { name, data_type, nullable, comment, options }
        },
    );
    proptest::collection::vec(field, 1..=max).prop_map(|fields| {
        let mut seen = std::collections::HashSet::new();
        fields.into_iter().filter(|field| seen.insert(field.name.clone())).collect()
    })
}

/// Any valid schema.
pub(crate) fn schema() -> impl Strategy<Value = Schema> {
    fields(data_type(), 6).prop_map(|fields| Schema { fields })
}
