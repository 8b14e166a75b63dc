use super::*;
use crate::schema::StoreAssignment;

fn compile(field: &Field, role: Role, incoming: Option<&DataType>, mode: StoreAssignment) -> Leaf {
    let mut rules = RuleBook::default();
    let mut policies =
        Policies { mode: Mode(mode), unknown_fields: UnknownFields::Reject, show_values: true, rules: &mut rules };
    Leaf::compile(field, "x", role, incoming, &mut policies).unwrap()
}

fn leaf(data_type: DataType) -> Leaf {
    compile(&Field::new("x", data_type, true), Role::Value, None, StoreAssignment::Strict)
}

fn leaf_of(field: &Field) -> Leaf {
    compile(field, Role::Value, None, StoreAssignment::Strict)
}

fn put(leaf: &Leaf, put: impl FnOnce(&Leaf, &mut ItemWriter) -> Put) -> Result<String, Reason> {
    let mut writer = ItemWriter::default();
    put(leaf, &mut writer).map_err(|reject| reject.reason)?;
    Ok(String::from_utf8(writer.into_buffer()).unwrap())
}

fn n(text: &str) -> Result<String, Reason> {
    Ok(format!("{{\"N\":\"{text}\"}}"))
}

#[test]
fn integers_are_checked_against_the_declared_width() {
    for (data_type, min, max) in [
        (DataType::Byte, -128, 127),
        (DataType::Short, -32_768, 32_767),
        (DataType::Integer, -2_147_483_648, 2_147_483_647),
    ] {
        let leaf = leaf(data_type);
        for edge in [min, max] {
            assert_eq!(put(&leaf, |l, w| l.put_integer(w, edge)), n(&edge.to_string()));
        }
        for outside in [min - 1, max + 1] {
            assert_eq!(put(&leaf, |l, w| l.put_integer(w, outside)), Err(Reason::OutOfRange));
        }
    }
    assert_eq!(put(&leaf(DataType::Long), |l, w| l.put_integer(w, i64::MIN)), n("-9223372036854775808"));
}

#[test]
fn numbers_cross_types_only_where_exact() {
    let (long, double, float) = (leaf(DataType::Long), leaf(DataType::Double), leaf(DataType::Float));
    let decimal = leaf(DataType::Decimal { precision: 5, scale: 2 });
    assert_eq!(put(&long, |l, w| l.put_double(w, 3.0)), n("3"));
    assert_eq!(put(&long, |l, w| l.put_double(w, 3.5)), Err(Reason::Inexact));
    assert_eq!(put(&long, |l, w| l.put_double(w, 9.3e18)), Err(Reason::OutOfRange));
    assert_eq!(put(&double, |l, w| l.put_integer(w, 1 << 53)), n("9007199254740992"));
    assert_eq!(put(&double, |l, w| l.put_integer(w, (1 << 53) + 1)), Err(Reason::Inexact));
    assert_eq!(put(&float, |l, w| l.put_double(w, 0.5)), n("0.5"));
    assert_eq!(put(&float, |l, w| l.put_double(w, 0.1)), Err(Reason::Inexact));
    assert_eq!(put(&double, |l, w| l.put_float(w, 0.5)), n("0.5"));
    assert_eq!(put(&decimal, |l, w| l.put_integer(w, 999)), n("999"));
    assert_eq!(put(&decimal, |l, w| l.put_integer(w, 1000)), Err(Reason::OutOfRange));
    assert_eq!(put(&decimal, |l, w| l.put_decimal_text(w, "12.50")), n("12.5"));
    assert_eq!(put(&decimal, |l, w| l.put_decimal_text(w, "12.505")), Err(Reason::Inexact));
    assert_eq!(put(&long, |l, w| l.put_decimal_text(w, "7.00")), n("7"));
    assert_eq!(put(&long, |l, w| l.put_text(w, "7")), Err(Reason::TypeMismatch));
    assert_eq!(put(&leaf(DataType::String), |l, w| l.put_integer(w, 7)), Err(Reason::TypeMismatch));
}

#[test]
fn doubles_stay_within_dynamodbs_range() {
    let double = leaf(DataType::Double);
    assert_eq!(put(&double, |l, w| l.put_double(w, -0.0)), n("0"));
    assert_eq!(put(&double, |l, w| l.put_double(w, 1e-131)), Err(Reason::OutOfRange));
    assert_eq!(put(&double, |l, w| l.put_double(w, 1e126)), Err(Reason::OutOfRange));
    assert!(put(&double, |l, w| l.put_double(w, 9.99e125)).is_ok());
    assert_eq!(put(&double, |l, w| l.put_double(w, f64::NAN)), Err(Reason::NonFinite));
}

#[test]
fn non_finite_values_follow_the_columns_option() {
    let mut field = Field::new("x", DataType::Double, true);
    field.options.non_finite = NonFinite::String;
    let leaf = leaf_of(&field);
    assert_eq!(put(&leaf, |l, w| l.put_double(w, f64::NEG_INFINITY)), Ok("{\"S\":\"-Infinity\"}".into()));
    field.options.non_finite = NonFinite::Null;
    let leaf = leaf_of(&field);
    let mut writer = ItemWriter::default();
    assert_eq!(leaf.put_double(&mut writer, f64::NAN), Ok(Presence::Null));
    assert_eq!(writer.coercions(), [leaf.rules.non_finite_to_null()]);
}

#[test]
fn char_lengths_count_characters_not_bytes() {
    let varchar = leaf(DataType::Varchar(3));
    assert!(put(&varchar, |l, w| l.put_text(w, "äöü")).is_ok());
    assert_eq!(put(&varchar, |l, w| l.put_text(w, "abcd")), Err(Reason::TooLong));
}

#[test]
fn times_are_stored_as_their_encoding_says() {
    let timestamp = leaf(DataType::Timestamp);
    assert_eq!(put(&timestamp, |l, w| l.put_timestamp(w, -1)), n("-1"));
    assert_eq!(put(&timestamp, |l, w| l.put_timestamp_ntz(w, 0)), Err(Reason::TypeMismatch));
    let ntz = leaf(DataType::TimestampNtz);
    assert_eq!(put(&ntz, |l, w| l.put_timestamp_ntz(w, -1)), Ok("{\"S\":\"1969-12-31T23:59:59.999999\"}".into()));
    assert_eq!(put(&leaf(DataType::Date), |l, w| l.put_date(w, -1)), Ok("{\"S\":\"1969-12-31\"}".into()));
    let mut field = Field::new("x", DataType::Timestamp, true);
    field.options.time_encoding = Some(TimeEncoding::String);
    let text = leaf_of(&field);
    assert_eq!(put(&text, |l, w| l.put_timestamp(w, 0)), Ok("{\"S\":\"1970-01-01T00:00:00.000000Z\"}".into()));
}

#[test]
fn a_ttl_is_stored_in_seconds_and_milliseconds_are_refused() {
    let ttl = |data_type| {
        let mut rules = RuleBook::default();
        let mode = Mode(StoreAssignment::Strict);
        let unknown_fields = UnknownFields::Reject;
        let mut policies = Policies { mode, unknown_fields, show_values: false, rules: &mut rules };
        Leaf::compile_ttl(&Field::new("x", data_type, true), None, &mut policies).unwrap()
    };
    assert_eq!(put(&ttl(DataType::Timestamp), |l, w| l.put_timestamp(w, 1_700_000_000_999_999)), n("1700000000"));
    assert_eq!(put(&ttl(DataType::Date), |l, w| l.put_date(w, 2)), n("172800"));
    assert_eq!(put(&ttl(DataType::Long), |l, w| l.put_integer(w, 1_700_000_000_000)), Err(Reason::OutOfRange));
}

#[test]
fn keys_are_neither_empty_nor_too_long() {
    let key =
        compile(&Field::new("k", DataType::String, false), Role::Key { limit_bytes: 4 }, None, StoreAssignment::Strict);
    assert_eq!(put(&key, |l, w| l.put_text(w, "")), Err(Reason::KeyEmpty));
    assert_eq!(put(&key, |l, w| l.put_text(w, "abcde")), Err(Reason::KeyTooLong));
    assert!(put(&key, |l, w| l.put_text(w, "abcd")).is_ok());
}

#[test]
fn a_decimal_and_a_double_are_each_other_only_where_exactly_equal() {
    let money = leaf(DataType::Decimal { precision: 5, scale: 2 });
    assert_eq!(put(&money, |l, w| l.put_double(w, 0.5)), n("0.5"));
    assert_eq!(put(&money, |l, w| l.put_double(w, 0.1)), Err(Reason::Inexact));
    let double = leaf(DataType::Double);
    assert_eq!(put(&double, |l, w| l.put_decimal_text(w, "0.25")), n("0.25"));
    assert_eq!(put(&double, |l, w| l.put_decimal_text(w, "0.1")), Err(Reason::Inexact));
}

#[test]
fn a_number_has_one_text_whatever_it_came_as() {
    for value in [1i64 << 53, -(1 << 53), 9_007_199_254_740_990, 1_000_000_000_000_000, 100, 0] {
        let double = leaf(DataType::Double);
        let (as_integer, as_double) =
            (put(&double, |l, w| l.put_integer(w, value)), put(&double, |l, w| l.put_double(w, value as f64)));
        assert_eq!(as_integer, as_double);
    }
}

#[test]
fn a_reject_says_both_types_and_what_to_do_and_shows_the_value_only_where_allowed() {
    let field = Field::new("x", DataType::Integer, true);
    let mut leaf = compile(&field, Role::Value, Some(&DataType::Long), StoreAssignment::Strict);
    let reject = leaf.put_integer(&mut ItemWriter::default(), 1 << 40).unwrap_err();
    assert_eq!((&*reject.declared, &*reject.found), ("int", "bigint"));
    assert_eq!(reject.value.as_deref(), Some("1099511627776"));
    assert!(!reject.message.contains("1099511627776") && !reject.hint.is_empty());
    let reject = leaf.put_text(&mut ItemWriter::default(), &"9".repeat(40)).unwrap_err();
    assert_eq!((reject.reason, &*reject.found), (Reason::TypeMismatch, "string"));
    assert_eq!(reject.value.as_deref(), Some(format!("{}...", "9".repeat(32)).as_str()));
    assert!(reject.hint.contains("store_assignment: legacy"), "{}", reject.hint);
    leaf.show_values = false;
    assert_eq!(leaf.put_text(&mut ItemWriter::default(), "9").unwrap_err().value, None);
}

#[test]
fn only_values_of_another_type_count_as_coerced() {
    let noted = |incoming: Option<DataType>, put: &dyn Fn(&Leaf, &mut ItemWriter)| {
        let field = Field::new("x", DataType::Long, true);
        let leaf = compile(&field, Role::Value, incoming.as_ref(), StoreAssignment::Ansi);
        let mut writer = ItemWriter::default();
        put(&leaf, &mut writer);
        writer.coercions().len()
    };
    let integer = |leaf: &Leaf, writer: &mut ItemWriter| assert!(leaf.put_integer(writer, 1).is_ok());
    let double = |leaf: &Leaf, writer: &mut ItemWriter| assert!(leaf.put_double(writer, 1.5).is_ok());
    assert_eq!(noted(None, &integer), 0);
    assert_eq!(noted(Some(DataType::Long), &integer), 0);
    assert_eq!(noted(Some(DataType::Integer), &integer), 1);
    assert_eq!(noted(Some(DataType::Double), &integer), 0);
    assert_eq!(noted(Some(DataType::Double), &double), 1);
    assert_eq!(noted(None, &double), 1);
}

#[test]
fn blanks_behind_text_that_is_too_long_are_cut_only_outside_of_strict() {
    let field = Field::new("x", DataType::Varchar(3), true);
    let text = |mode| {
        let leaf = compile(&field, Role::Value, None, mode);
        put(&leaf, |l, w| l.put_text(w, "abc  "))
    };
    assert_eq!(text(StoreAssignment::Strict), Err(Reason::TooLong));
    assert_eq!(text(StoreAssignment::Ansi), Ok("{\"S\":\"abc\"}".into()));
}

#[test]
fn an_integer_wider_than_its_session_says_loses_no_byte() {
    let field = Field::new("x", DataType::Binary, true);
    let leaf = compile(&field, Role::Value, Some(&DataType::Byte), StoreAssignment::Legacy);
    for (value, base64) in [(127, "fw=="), (-128, "gA=="), (-1, "/w==")] {
        assert_eq!(put(&leaf, |l, w| l.put_integer(w, value)), Ok(format!("{{\"B\":\"{base64}\"}}")));
    }
    for value in [128, -129, 300, i64::MIN] {
        assert_eq!(put(&leaf, |l, w| l.put_integer(w, value)), Err(Reason::OutOfRange));
    }
}

#[test]
fn a_finite_number_that_overflows_is_never_what_non_finite_stores() {
    for non_finite in [NonFinite::Null, NonFinite::String] {
        let of = |data_type, mode| {
            let mut field = Field::new("x", data_type, true);
            field.options.non_finite = non_finite;
            compile(&field, Role::Value, None, mode)
        };
        let float = of(DataType::Float, StoreAssignment::Ansi);
        assert_eq!(put(&float, |l, w| l.put_double(w, 1e300)), Err(Reason::OutOfRange));
        assert_eq!(put(&float, |l, w| l.put_decimal_text(w, "1e39")), Err(Reason::OutOfRange));
        assert!(put(&float, |l, w| l.put_double(w, f64::INFINITY)).is_ok());
        let double = of(DataType::Double, StoreAssignment::Legacy);
        assert_eq!(put(&double, |l, w| l.put_text(w, "-1e400")), Err(Reason::OutOfRange));
        assert!(put(&double, |l, w| l.put_text(w, "-Infinity")).is_ok());
    }
}

#[test]
fn a_number_of_more_digits_than_a_decimal_has_is_rounded_but_in_strict() {
    let long = format!("1.23{}5", "4".repeat(60));
    let money = Field::new("x", DataType::Decimal { precision: 4, scale: 2 }, true);
    let ansi = compile(&money, Role::Value, None, StoreAssignment::Ansi);
    assert_eq!(put(&ansi, |l, w| l.put_decimal_text(w, &long)), n("1.23"));
    let legacy = compile(&money, Role::Value, None, StoreAssignment::Legacy);
    assert_eq!(put(&legacy, |l, w| l.put_text(w, &long)), n("1.23"));
    let strict = compile(&money, Role::Value, None, StoreAssignment::Strict);
    assert!(put(&strict, |l, w| l.put_decimal_text(w, &long)).is_err());
}

#[test]
fn a_decimal_that_was_rounded_is_counted_and_one_that_was_not_is_not() {
    let data_type = DataType::Decimal { precision: 4, scale: 2 };
    let mut rules = RuleBook::default();
    let mode = Mode(StoreAssignment::Ansi);
    let mut policies = Policies { mode, unknown_fields: UnknownFields::Reject, show_values: false, rules: &mut rules };
    let field = Field::new("x", data_type.clone(), true);
    let leaf = Leaf::compile(&field, "x", Role::Value, Some(&data_type), &mut policies).unwrap();
    let rounded = [("x".to_owned(), "digits->rounded".to_owned(), 1)];
    let long = format!("1.23{}", "4".repeat(60));
    for (text, expected) in [("1.239", &rounded[..]), (&long, &rounded[..]), ("1.230", &[]), ("1.2", &[])] {
        let (mut writer, mut tally) = (ItemWriter::default(), super::super::coercion::Tally::default());
        leaf.put_decimal_text(&mut writer, text).unwrap();
        tally.count(writer.coercions());
        assert_eq!(rules.report(&tally), expected, "{text}");
    }
}
