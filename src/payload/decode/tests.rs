//! What is stored, and what is read.

use super::*;
use crate::schema::{KeyDef, Schema, TimeEncoding};

const NOW: i64 = 1_700_000_000;

fn s(text: &str) -> Attr {
    Attr::S(text.to_owned())
}

fn n(number: &str) -> Attr {
    Attr::N(number.to_owned())
}

fn m<const N: usize>(entries: [(&str, Attr); N]) -> Attr {
    Attr::M(entries.into_iter().map(|(name, attr)| (name.to_owned(), attr)).collect())
}

fn text(text: &str) -> Kind {
    Kind::StringValue(text.to_owned())
}

fn list(values: impl IntoIterator<Item = Kind>) -> Kind {
    Kind::ListValue(ListValue { values: values.into_iter().map(value).collect() })
}

fn fields(values: impl IntoIterator<Item = Option<Kind>>) -> Kind {
    Kind::StructValue(StructValue { values: values.into_iter().map(|kind| Value { kind }).collect() })
}

fn map(entries: impl IntoIterator<Item = (Kind, Option<Kind>)>) -> Kind {
    let entry = |(key, kind)| MapEntry { key: Some(value(key)), value: Some(Value { kind }) };
    Kind::MapValue(MapValue { entries: entries.into_iter().map(entry).collect() })
}

fn array_of(element: DataType) -> DataType {
    DataType::Array { element: Box::new(element), contains_null: true }
}

fn map_of(key: DataType, value: DataType) -> DataType {
    DataType::Map { key: Box::new(key), value: Box::new(value), value_contains_null: true }
}

fn table(columns: Vec<Field>) -> TableDef {
    let mut fields = vec![Field::new("id", DataType::String, false)];
    fields.extend(columns);
    let key = KeyDef {
        partition: vec!["id".into()],
        sort: vec![],
        partition_attribute: "_pk".into(),
        sort_attribute: "_sk".into(),
    };
    TableDef::new("t", Schema { fields }, key, "t")
}

fn decode_field(field: Field, attr: Attr) -> Result<Option<Kind>, DecodeError> {
    let name = field.name.clone();
    let table = table(vec![field]);
    let decoder = RowDecoder::try_new(&table, std::slice::from_ref(&name)).unwrap();
    match decoder.decode(Item::from([(name, attr)]), NOW)? {
        Decoded::Row(mut row) => Ok(row.values.remove(0).kind),
        Decoded::Expired => panic!("there is no TTL column"),
        Decoded::Deleted => panic!("there are no tombstones"),
    }
}

fn decode(data_type: DataType, attr: Attr) -> Result<Option<Kind>, DecodeError> {
    decode_field(Field::new("c", data_type, true), attr)
}

#[test]
fn every_type_is_read_back_as_itself() {
    use DataType as T;
    let decimal = T::Decimal { precision: 10, scale: 2 };
    for (data_type, stored, expected) in [
        (T::Byte, n("-128"), Kind::IntValue(-128)),
        (T::Short, n("32767"), Kind::IntValue(32_767)),
        (T::Integer, n("-2147483648"), Kind::IntValue(i64::from(i32::MIN))),
        (T::Long, n("9223372036854775807"), Kind::IntValue(i64::MAX)),
        (T::Long, n("1E+3"), Kind::IntValue(1000)),
        (T::Float, n("0.1"), Kind::FloatValue(0.1)),
        (T::Double, n("0.1"), Kind::DoubleValue(0.1)),
        (T::Double, n("1.5E-100"), Kind::DoubleValue(1.5e-100)),
        (T::Double, n("3"), Kind::DoubleValue(3.0)),
        (decimal.clone(), n("12.5"), Kind::DecimalValue("12.50".into())),
        (decimal.clone(), n("-1E+3"), Kind::DecimalValue("-1000.00".into())),
        (decimal.clone(), n("0"), Kind::DecimalValue("0.00".into())),
        (T::Decimal { precision: 5, scale: -2 }, n("1.23E+4"), Kind::DecimalValue("12300".into())),
        (T::Decimal { precision: 38, scale: 0 }, n(&"9".repeat(38)), Kind::DecimalValue("9".repeat(38))),
        (T::String, s(""), text("")),
        (T::Char(2), s("é€"), text("é€")),
        (T::Varchar(3), s("abc"), text("abc")),
        (T::Boolean, Attr::Bool(true), Kind::BoolValue(true)),
        (T::Binary, Attr::B("\0x".into()), Kind::BytesValue("\0x".into())),
        (T::Date, s("1969-12-31"), Kind::DateDays(-1)),
        (T::Date, n("-1"), Kind::DateDays(-1)),
        (T::Timestamp, n("-1"), Kind::TimestampMicros(-1)),
        (T::Timestamp, s("1970-01-01T00:00:00.000001Z"), Kind::TimestampMicros(1)),
        (T::TimestampNtz, s("1970-01-01T00:00:01.000000"), Kind::TimestampNtzMicros(1_000_000)),
        (T::TimestampNtz, n("7"), Kind::TimestampNtzMicros(7)),
        (T::DayTimeInterval, n("-5"), Kind::DayTimeIntervalMicros(-5)),
        (T::YearMonthInterval, n("14"), Kind::YearMonthIntervalMonths(14)),
        (array_of(T::Integer), Attr::L(vec![n("1"), n("2")]), list([Kind::IntValue(1), Kind::IntValue(2)])),
        (array_of(T::String), Attr::Ss(vec!["a".into()]), list([text("a")])),
        (array_of(decimal.clone()), Attr::Ns(vec!["1".into()]), list([Kind::DecimalValue("1.00".into())])),
        (array_of(T::Binary), Attr::Bs(vec!["b".into()]), list([Kind::BytesValue("b".into())])),
        (map_of(T::String, T::Long), m([("b", n("2")), ("a", Attr::Null)]), {
            map([(text("a"), None), (text("b"), Some(Kind::IntValue(2)))])
        }),
        (map_of(T::Short, T::Long), m([("-7", n("2"))]), map([(Kind::IntValue(-7), Some(Kind::IntValue(2)))])),
        (map_of(T::Boolean, T::Long), m([("true", n("2"))]), map([(Kind::BoolValue(true), Some(Kind::IntValue(2)))])),
        (map_of(T::Date, T::Long), m([("1970-01-02", n("2"))]), map([(Kind::DateDays(1), Some(Kind::IntValue(2)))])),
        (map_of(decimal, T::Long), m([("1.5", n("2"))]), {
            map([(Kind::DecimalValue("1.50".into()), Some(Kind::IntValue(2)))])
        }),
    ] {
        assert_eq!(decode(data_type.clone(), stored.clone()), Ok(Some(expected)), "{data_type} from {stored:?}");
        assert_eq!(decode(data_type, Attr::Null), Ok(None), "a stored null is a null");
    }
}

#[test]
fn a_variant_is_read_back_in_the_kind_that_is_stored() {
    let decimal = |text: &str| Kind::DecimalValue(text.to_owned());
    let ones = "1".repeat(38);
    for (stored, expected) in [
        (n("-9223372036854775808"), Kind::IntValue(i64::MIN)),
        (n("1E+3"), Kind::IntValue(1000)),
        (n("9223372036854775808"), decimal("9223372036854775808")),
        (n("0.1"), Kind::DoubleValue(0.1)),
        (n("1E+30"), Kind::DoubleValue(1e30)),
        (n("1.5E-100"), Kind::DoubleValue(1.5e-100)),
        (n("0.12345678901234567890"), decimal("0.1234567890123456789")),
        (n(&ones), decimal(&ones)),
        (s("x"), text("x")),
        (Attr::B("x".into()), Kind::BytesValue("x".into())),
        (Attr::Bool(false), Kind::BoolValue(false)),
        (Attr::L(vec![n("1"), s("a")]), list([Kind::IntValue(1), text("a")])),
        (Attr::Ss(vec!["a".into()]), list([text("a")])),
        (Attr::Ns(vec!["1.5".into()]), list([Kind::DoubleValue(1.5)])),
        (Attr::Bs(vec!["b".into()]), list([Kind::BytesValue("b".into())])),
        (m([("b", n("2")), ("a", Attr::Null)]), map([(text("a"), None), (text("b"), Some(Kind::IntValue(2)))])),
    ] {
        assert_eq!(decode(DataType::Variant, stored.clone()), Ok(Some(expected)), "{stored:?}");
    }
    assert_eq!(decode(DataType::Variant, Attr::Null), Ok(None));
    let error = decode(DataType::Variant, m([("secret", Attr::L(vec![n(&"1".repeat(40))]))])).unwrap_err();
    assert_eq!(error.to_string(), "column `c{}[0]`: expected variant, found a number (N) with more digits");
}

#[test]
fn structs_are_stored_by_name_and_read_by_position() {
    let inner = DataType::Struct(vec![
        Field::new("hr", DataType::Integer, true),
        Field::new("at", DataType::Timestamp, true),
        Field::new("note", DataType::String, true),
    ]);
    let stored = m([("note", Attr::Null), ("hr", n("61")), ("gone", s("an older schema had it"))]);
    assert_eq!(decode(inner, stored), Ok(Some(fields([Some(Kind::IntValue(61)), None, None]))));
}

#[test]
fn what_does_not_fit_is_refused_with_its_path_and_without_its_value() {
    let vitals = array_of(DataType::Struct(vec![
        Field::new("hr", DataType::Integer, true),
        Field::new("tags", map_of(DataType::Long, array_of(DataType::Date)), true),
    ]));
    let refusal = |attr| decode_field(Field::new("vitals", vitals.clone(), true), attr).unwrap_err();

    let error = refusal(Attr::L(vec![Attr::Null, m([("hr", n("1"))]), m([("hr", s("secret"))])]));
    assert_eq!(error.to_string(), "column `vitals[2].hr`: expected int, found text (S)");

    let error = refusal(Attr::L(vec![m([("tags", m([("4", Attr::L(vec![s("secret")]))]))])]));
    assert_eq!(error.path, "vitals[0].tags{}[0]");
    assert!(!error.to_string().contains("secret"));

    let error = refusal(Attr::L(vec![m([("tags", m([("secret", Attr::Null)]))])]));
    assert_eq!(error.to_string(), "column `vitals[0].tags{}`: expected bigint, found another text as a map's key");

    assert_eq!(refusal(s("x")).path, "vitals");
}

#[test]
fn values_outside_the_declared_type_are_refused() {
    use DataType as T;
    for (data_type, stored) in [
        (T::Byte, n("128")),
        (T::Integer, n("2147483648")),
        (T::Long, n("1.5")),
        (T::Long, s("1")),
        (T::Float, n("1E+60")),
        (T::Double, s("NaN")),
        (T::Decimal { precision: 4, scale: 2 }, n("123.45")),
        (T::Decimal { precision: 4, scale: 2 }, n("1.234")),
        (T::Decimal { precision: 4, scale: 2 }, n("100")),
        (T::Decimal { precision: 5, scale: -2 }, n("12350")),
        (T::String, n("1")),
        (T::Varchar(2), s("abc")),
        (T::Boolean, n("1")),
        (T::Boolean, s("true")),
        (T::Binary, s("x")),
        (T::Date, s("2023-02-29")),
        (T::Date, s("2023-02-28T00:00:00")),
        (T::Timestamp, s("2023-02-28T00:00:00.000000")),
        (T::TimestampNtz, s("2023-02-28T00:00:00.000000Z")),
        (T::YearMonthInterval, n("2147483648")),
        (T::Variant, n(&"1".repeat(40))),
        (array_of(T::Variant), Attr::L(vec![m([("a", n(&"1".repeat(40)))])])),
        (array_of(T::Integer), Attr::Ss(vec!["a".into()])),
        (array_of(T::Integer), m([])),
        (map_of(T::String, T::Integer), Attr::L(vec![])),
        (map_of(T::Byte, T::Integer), m([("300", n("1"))])),
        (map_of(T::Boolean, T::Integer), m([("yes", n("1"))])),
        (T::Struct(vec![Field::new("a", T::Long, true)]), Attr::L(vec![])),
    ] {
        let error = decode(data_type.clone(), stored.clone()).expect_err(&format!("{data_type} from {stored:?}"));
        assert!(error.path.starts_with('c'), "{error}");
    }
}

#[test]
fn options_say_how_to_read_non_finite_floats_and_boolean_keys() {
    let mut float = Field::new("c", DataType::Float, true);
    float.options.non_finite = NonFinite::String;
    assert_eq!(decode_field(float.clone(), s("-Infinity")), Ok(Some(Kind::FloatValue(f32::NEG_INFINITY))));
    assert_eq!(decode_field(float.clone(), n("2.5")), Ok(Some(Kind::FloatValue(2.5))));
    assert!(decode_field(float, s("many")).is_err());

    let mut doubles = Field::new("c", array_of(DataType::Double), true);
    doubles.options.non_finite = NonFinite::String;
    let read = decode_field(doubles, Attr::L(vec![s("Infinity"), n("1")]));
    assert_eq!(read, Ok(Some(list([Kind::DoubleValue(f64::INFINITY), Kind::DoubleValue(1.0)]))));

    let mut boolean = Field::new("c", DataType::Boolean, false);
    boolean.options.key_as_number = true;
    assert_eq!(decode_field(boolean.clone(), n("1")), Ok(Some(Kind::BoolValue(true))));
    assert!(decode_field(boolean, n("2")).is_err());
}

#[test]
fn absent_attributes_are_null_and_unknown_ones_are_ignored() {
    let table = table(vec![Field::new("a", DataType::Long, true), Field::new("b", DataType::Long, false)]);
    let decoder = RowDecoder::try_new(&table, &[]).unwrap();
    let item = Item::from([("id".into(), s("k")), ("b".into(), n("1")), ("_other".into(), s("x"))]);
    let expected = Row { values: vec![value(text("k")), NULL, value(Kind::IntValue(1))] };
    assert_eq!(decoder.decode(item, NOW), Ok(Decoded::Row(expected)));
    assert!(decoder.attributes().is_empty(), "all columns: all attributes");
}

#[test]
fn a_ttl_column_is_read_from_seconds_and_hides_the_expired() {
    let columns = [
        (DataType::Timestamp, Kind::TimestampMicros((NOW + 1) * 1_000_000)),
        (DataType::Long, Kind::IntValue(NOW + 1)),
        (DataType::Integer, Kind::IntValue(NOW + 1)),
        (DataType::Date, Kind::DateDays(((NOW + 1) / 86_400) as i32)),
    ];
    for (data_type, expected) in columns {
        let mut field = Field::new("until", data_type.clone(), true);
        field.options.time_encoding = Some(TimeEncoding::String);
        let mut table = table(vec![field]);
        table.ttl_column = Some("until".into());
        let decoder = RowDecoder::try_new(&table, &["until".into()]).unwrap();
        let item = |seconds: i64| Item::from([("until".to_owned(), n(&seconds.to_string()))]);
        let expected = Row { values: vec![value(expected)] };
        assert_eq!(decoder.decode(item(NOW + 1), NOW), Ok(Decoded::Row(expected)), "{data_type}");
        assert_eq!(decoder.decode(item(NOW), NOW), Ok(Decoded::Expired), "{data_type}");
        assert_eq!(decoder.decode(Item::new(), NOW), Ok(Decoded::Row(Row { values: vec![NULL] })));
    }
}

#[test]
fn a_projection_brings_the_key_and_the_ttl_along() {
    let mut table = table(vec![Field::new("a", DataType::Long, false), Field::new("until", DataType::Long, true)]);
    table.key.partition = vec!["id".into(), "a".into()];
    table.ttl_column = Some("until".into());
    let decoder = RowDecoder::try_new(&table, &["a".into()]).unwrap();
    assert_eq!(decoder.attributes()[..], ["a", "_pk", "until"]);
    let item = Item::from([("a".into(), n("1")), ("until".into(), n("5"))]);
    assert_eq!(decoder.decode(item, NOW), Ok(Decoded::Expired), "also where the TTL column is not asked for");

    let unknown = RowDecoder::try_new(&table, &["b".into()]).unwrap_err();
    assert_eq!(unknown.to_string(), "the table `t` has no column `b`");
    let twice = RowDecoder::try_new(&table, &["a".into(), "a".into()]).unwrap_err();
    assert_eq!(twice.to_string(), "the column `a` is asked for twice");
}
