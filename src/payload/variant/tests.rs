//! Spark's encoding as promises: what each value becomes, and that bytes that lie reject the row and nothing else.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::encoder::{Sample, Style, any_sample, any_style, encode, stored};
use super::vectors::{LARGE, SPARK, bytes};
use super::*;
use crate::limits::{ITEM_MAX_BYTES, MAP_KEY_MAX_BYTES};
use crate::payload::cast::Mode;
use crate::payload::coercion::RuleBook;
use crate::schema::{NonFinite, StoreAssignment, UnknownFields};

/// Metadata without names.
const NO_NAMES: &[u8] = &[1, 0, 0];

type Outcome = Result<Value, (String, RejectReason)>;

fn target(field: &Field) -> VariantTarget {
    let mut rules = RuleBook::default();
    let mut policies = Policies {
        mode: Mode(StoreAssignment::Strict),
        unknown_fields: UnknownFields::Reject,
        show_values: false,
        rules: &mut rules,
    };
    VariantTarget::compile(field, "v", &mut policies).unwrap()
}

fn put_into(field: &Field, value: &[u8], metadata: &[u8]) -> Outcome {
    let target = target(field);
    let mut writer = ItemWriter::default();
    match target.put_encoded(&mut writer, metadata, value, 1) {
        Ok(Presence::Written) => Ok(serde_json::from_slice(writer.as_slice()).unwrap()),
        Ok(Presence::Null) => {
            assert!(writer.is_empty(), "a null writes nothing");
            Ok(Value::Null)
        }
        Err(reject) => {
            let reject = reject.in_field("v");
            Err((reject.path, reject.reason))
        }
    }
}

fn put(value: &[u8], metadata: &[u8]) -> Outcome {
    put_into(&Field::new("v", DataType::Variant, true), value, metadata)
}

/// A primitive of an id and its bytes.
fn primitive(id: u8, content: &[u8]) -> Outcome {
    put(&[&[id << 2], content].concat(), NO_NAMES)
}

fn n(text: &str) -> Outcome {
    Ok(json!({ "N": text }))
}

fn s(text: &str) -> Outcome {
    Ok(json!({ "S": text }))
}

fn rejected(reason: RejectReason) -> Outcome {
    Err(("v".to_owned(), reason))
}

#[test]
fn what_spark_encodes_is_stored_as_its_value() {
    for vector in SPARK {
        assert_eq!(put(&vector.value(), &vector.metadata()), Ok(vector.stored()), "{}", vector.source);
    }
    let mut lines = LARGE.lines().map(|line| line.split(' ').collect::<Vec<_>>());
    let (array, object) = (lines.next().unwrap(), lines.next().unwrap());
    let numbers: Vec<_> = (0..300).map(|number| json!({"N": number.to_string()})).collect();
    assert_eq!(put(&bytes(array[1]), &bytes(array[2])), Ok(json!({ "L": numbers })));
    let fields = (0..300).map(|number| (format!("k{number:03}"), json!({"N": number.to_string()})));
    let fields: serde_json::Map<_, _> = fields.collect();
    assert_eq!(put(&bytes(object[1]), &bytes(object[2])), Ok(json!({ "M": fields })));
}

#[test]
fn every_primitive_has_its_stored_form() {
    assert_eq!(primitive(0, &[]), Ok(Value::Null));
    assert_eq!(primitive(1, &[]), Ok(json!({"BOOL": true})));
    assert_eq!(primitive(2, &[]), Ok(json!({"BOOL": false})));
    assert_eq!(primitive(3, &[0x80]), n("-128"));
    assert_eq!(primitive(4, &[0x00, 0x80]), n("-32768"));
    assert_eq!(primitive(5, &i32::MIN.to_le_bytes()), n("-2147483648"));
    assert_eq!(primitive(6, &i64::MIN.to_le_bytes()), n("-9223372036854775808"));
    assert_eq!(primitive(7, &0.1f64.to_le_bytes()), n("0.1"));
    assert_eq!(primitive(7, &(-0.0f64).to_le_bytes()), n("0"));
    assert_eq!(primitive(8, &[2, 0xe2, 0x04, 0, 0]), n("12.5"), "1250 with two digits after the point");
    assert_eq!(primitive(9, &[[18].as_slice(), &(-1i64).to_le_bytes()].concat()), n("-0.000000000000000001"));
    let nines = 10i128.pow(38) - 1;
    assert_eq!(primitive(10, &[[0].as_slice(), &nines.to_le_bytes()].concat()), n(&"9".repeat(38)));
    assert_eq!(primitive(11, &(-1i32).to_le_bytes()), s("1969-12-31"));
    assert_eq!(primitive(12, &(-1i64).to_le_bytes()), n("-1"));
    assert_eq!(primitive(13, &1i64.to_le_bytes()), s("1970-01-01T00:00:00.000001"));
    assert_eq!(primitive(14, &0.1f32.to_le_bytes()), n("0.1"));
    assert_eq!(primitive(15, &[2, 0, 0, 0, b'a', b'b']), Ok(json!({"B": "YWI="})));
    assert_eq!(primitive(15, &[0, 0, 0, 0]), Ok(json!({"B": ""})));
    assert_eq!(primitive(16, &[2, 0, 0, 0, 0xc3, 0xa9]), s("é"));
    assert_eq!(primitive(17, &86_399_999_999i64.to_le_bytes()), s("23:59:59.999999"));
    assert_eq!(primitive(18, &(-5000i64).to_le_bytes()), n("-5"));
    assert_eq!(primitive(19, &1000i64.to_le_bytes()), s("1970-01-01T00:00:00.000001"));
    let uuid = 0xf24f_9b64_81fa_49d1_b74e_8c09_a6e3_1c56_u128;
    assert_eq!(primitive(20, &uuid.to_be_bytes()), s("f24f9b64-81fa-49d1-b74e-8c09a6e31c56"));
    assert_eq!(put(&[1], NO_NAMES), s(""), "a short string may be empty");
    assert_eq!(put(&[1 | 3 << 2, b'a', b'"', b'c'], NO_NAMES), s("a\"c"));
}

#[test]
fn what_dynamodb_cannot_hold_rejects_the_row() {
    use RejectReason as Reason;
    for value in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
        assert_eq!(primitive(7, &value.to_le_bytes()), rejected(Reason::NonFinite));
        assert_eq!(primitive(14, &(value as f32).to_le_bytes()), rejected(Reason::NonFinite));
    }
    assert_eq!(primitive(7, &1.5e300f64.to_le_bytes()), rejected(Reason::OutOfRange));
    assert_eq!(primitive(7, &1e-131f64.to_le_bytes()), rejected(Reason::OutOfRange));
    assert_eq!(primitive(11, &i32::MAX.to_le_bytes()), rejected(Reason::OutOfRange), "no such text");
    assert_eq!(primitive(13, &i64::MAX.to_le_bytes()), rejected(Reason::OutOfRange), "no such text");
    assert_eq!(primitive(18, &1i64.to_le_bytes()), rejected(Reason::Inexact), "below a microsecond");
    assert_eq!(primitive(19, &1i64.to_le_bytes()), rejected(Reason::Inexact), "below a microsecond");
    let text =
        |length: usize| primitive(16, &[&(length as u32).to_le_bytes()[..], "x".repeat(length).as_bytes()].concat());
    assert!(text(ITEM_MAX_BYTES).is_ok(), "the rest of the item is counted with the row");
    assert_eq!(text(ITEM_MAX_BYTES + 1), rejected(Reason::ItemTooLarge));
}

#[test]
fn the_columns_option_says_what_becomes_of_nan() {
    let mut field = Field::new("v", DataType::Variant, true);
    let array = [3, 1, 0, 9, 7 << 2, 0, 0, 0, 0, 0, 0, 0xf8, 0x7f];
    assert_eq!(put_into(&field, &array, NO_NAMES), Err(("v[0]".to_owned(), RejectReason::NonFinite)));
    field.options.non_finite = NonFinite::String;
    assert_eq!(put_into(&field, &array, NO_NAMES), Ok(json!({"L": [{"S": "NaN"}]})));
    field.options.non_finite = NonFinite::Null;
    assert_eq!(put_into(&field, &array, NO_NAMES), Ok(json!({"L": [{"NULL": true}]})));
    assert_eq!(put_into(&field, &array[4..], NO_NAMES), Ok(Value::Null));
}

#[test]
fn malformed_primitives_reject_the_row() {
    for (id, content) in [
        (8, [[39].as_slice(), &1i32.to_le_bytes()].concat()),
        (8, [[0].as_slice(), &1_000_000_000i32.to_le_bytes()].concat()),
        (9, [[0].as_slice(), &1_000_000_000_000_000_000i64.to_le_bytes()].concat()),
        (10, [[0].as_slice(), &i128::MIN.to_le_bytes()].concat()),
        (16, vec![1, 0, 0, 0, 0xff]),
        (16, vec![0xff, 0xff, 0xff, 0xff, b'a']),
        (15, vec![0xff, 0xff, 0xff, 0xff, b'a']),
        (17, (-1i64).to_le_bytes().to_vec()),
        (17, 86_400_000_000i64.to_le_bytes().to_vec()),
        (21, vec![0; 16]),
        (63, vec![0; 16]),
    ] {
        assert_eq!(primitive(id, &content), rejected(RejectReason::Malformed), "{id}: {content:?}");
    }
    for metadata in [&[][..], &[0, 0, 0], &[2, 0, 0], &[1], &[1, 0], &[1, 1, 0], &[0xc1, 0xff, 0xff, 0xff, 0xff]] {
        assert_eq!(put(&[4], metadata), rejected(RejectReason::Malformed), "{metadata:?}");
    }
}

fn object(fields: impl IntoIterator<Item = (&'static str, Sample)>) -> Sample {
    Sample::Object(fields.into_iter().map(|(name, value)| (name.to_owned(), value)).collect())
}

#[test]
fn offsets_of_every_width_are_read() {
    for length in [0, 1, 200, 300, 70_000] {
        let wide = object([("text", Sample::Text("x".repeat(length))), ("z", Sample::Integer(1))]);
        let many = Sample::Array(vec![Sample::Integer(7); length]);
        for sample in [wide, many] {
            for wider in 0..4 {
                for (large, reversed) in [(false, false), (true, true)] {
                    let style = Style { wider, large, reversed, long_text: false };
                    let (value, metadata) = encode(&sample, style);
                    assert_eq!(put(&value, &metadata), Ok(stored(&sample)), "{length} {style:?}");
                }
            }
        }
    }
}

#[test]
fn a_reject_names_the_place_inside_the_variant() {
    let item = |price| object([("price", price), ("sku", Sample::Text("a".into()))]);
    let good = || item(Sample::Integer(1));
    let items = Sample::Array(vec![good(), good(), good(), item(Sample::Double(f64::NAN))]);
    let (value, metadata) = encode(&object([("items", items)]), Style::default());
    assert_eq!(put(&value, &metadata), Err(("v.items[3].price".to_owned(), RejectReason::NonFinite)));
    let long = Sample::Object([("é".repeat(1000), Sample::Double(f64::NAN))].into());
    let (value, metadata) = encode(&long, Style::default());
    assert_eq!(put(&value, &metadata), Err((format!("v.{}", "é".repeat(64)), RejectReason::NonFinite)));
}

#[test]
fn names_are_compared_in_whatever_order_they_come() {
    // Three fields, all 1, with ids into the dictionary a, b, a.
    let metadata = [1, 3, 0, 1, 2, 3, b'a', b'b', b'a'];
    let of = |ids: [u8; 3]| put(&[&[2, 3][..], &ids, &[0, 0, 0, 2, 3 << 2, 1]].concat(), &metadata);
    let duplicate = Err(("v.a".to_owned(), RejectReason::DuplicateMapKey));
    assert_eq!(of([0, 0, 1]), duplicate);
    assert_eq!(of([0, 1, 2]), duplicate, "also under another id");
    assert_eq!(of([0, 1, 3]), rejected(RejectReason::Malformed), "no such name");
    let unsorted = put(&[2, 2, 1, 0, 0, 0, 2, 3 << 2, 1], &metadata);
    assert_eq!(unsorted, Ok(json!({"M": {"b": {"N": "1"}, "a": {"N": "1"}}})));
    // Twenty and more are compared by their hashes.
    let mut ids: Vec<u8> = (0..40).rev().collect();
    let mut metadata = vec![1, 40];
    metadata.extend(0..=40);
    metadata.extend((0..40).map(|id| b'A' + id));
    let of = |ids: &[u8]| put(&[&[2, 40][..], ids, &[0; 40], &[2, 3 << 2, 1]].concat(), &metadata);
    assert!(of(&ids).is_ok());
    ids[39] = 39;
    assert_eq!(of(&ids), Err(("v.h".to_owned(), RejectReason::DuplicateMapKey)));
}

#[test]
fn names_have_1_to_65535_bytes() {
    let named = |length: usize| {
        let (value, metadata) = encode(&Sample::Object([("x".repeat(length), Sample::Null)].into()), Style::default());
        put(&value, &metadata).map_err(|(_, reason)| reason)
    };
    assert_eq!(named(0), Err(RejectReason::OutOfRange));
    assert!(named(1).is_ok());
    assert!(named(MAP_KEY_MAX_BYTES).is_ok());
    assert_eq!(named(MAP_KEY_MAX_BYTES + 1), Err(RejectReason::OutOfRange));
    let not_utf8 = put(&[2, 1, 0, 0, 1, 0], &[1, 1, 0, 1, 0xff]);
    assert_eq!(not_utf8, rejected(RejectReason::Malformed));
}

#[test]
fn nesting_ends_at_32_levels() {
    let nested = |levels: usize| {
        let sample = (0..levels).fold(Sample::Integer(1), |inner, _| Sample::Array(vec![inner]));
        encode(&sample, Style::default())
    };
    let (value, metadata) = nested(32);
    assert!(put(&value, &metadata).is_ok());
    let (value, metadata) = nested(33);
    assert_eq!(put(&value, &metadata), Err((format!("v{}", "[0]".repeat(32)), RejectReason::TooDeep)));
    let target = target(&Field::new("v", DataType::Variant, true));
    let (value, metadata) = nested(2);
    let below = |level| target.put_encoded(&mut ItemWriter::default(), &metadata, &value, level);
    assert!(below(31).is_ok());
    assert_eq!(below(32).unwrap_err().reason, RejectReason::TooDeep, "levels above the variant count");
}

#[test]
fn bytes_that_unfold_beyond_an_item_are_rejected_while_they_are_written() {
    // Thirty levels of 255 elements each, which are all the same next level: 255^30 values in eight kilobytes.
    let mut value = vec![3 << 2, 1];
    for _ in 0..30 {
        let width = if value.len() < 256 { 1 } else { 2 };
        let mut outer = vec![3 | (width as u8 - 1) << 2, 255];
        outer.resize(2 + 255 * width, 0);
        outer.extend(&(value.len() as u16).to_le_bytes()[..width]);
        outer.extend(&value);
        value = outer;
    }
    let target = target(&Field::new("v", DataType::Variant, true));
    let mut writer = ItemWriter::default();
    let reject = target.put_encoded(&mut writer, NO_NAMES, &value, 1).unwrap_err();
    assert_eq!(reject.reason, RejectReason::ItemTooLarge);
    assert!(writer.len() < 12 * ITEM_MAX_BYTES, "{}", writer.len());
    // Claims of four billion elements and names, in a few bytes.
    for value in [[3 | 0b100 << 2, 0xff, 0xff, 0xff, 0xff, 0, 0], [2 | 0b1_0000 << 2, 0xff, 0xff, 0xff, 0xff, 0, 0]] {
        assert_eq!(put(&value, NO_NAMES), rejected(RejectReason::Malformed));
    }
}

#[test]
fn a_variant_cut_at_any_byte_is_malformed() {
    let sample = object([
        ("a", Sample::Array(vec![Sample::Integer(70_000), Sample::Null, Sample::Decimal(15, 1)])),
        ("b", object([("c", Sample::Text("x".repeat(70))), ("d", Sample::Double(0.5))])),
        ("e", Sample::Binary(vec![1, 2, 3])),
    ]);
    for style in [Style::default(), Style { wider: 2, large: true, long_text: true, reversed: true }] {
        let (value, metadata) = encode(&sample, style);
        assert_eq!(put(&value, &metadata), Ok(stored(&sample)));
        for cut in 0..value.len() {
            let reason = put(&value[..cut], &metadata).map_err(|(_, reason)| reason);
            assert_eq!(reason, Err(RejectReason::Malformed), "the value cut at {cut}");
        }
        for cut in 0..metadata.len() {
            let reason = put(&value, &metadata[..cut]).map_err(|(_, reason)| reason);
            assert_eq!(reason, Err(RejectReason::Malformed), "the metadata cut at {cut}");
        }
    }
    for vector in SPARK {
        let (value, metadata) = (vector.value(), vector.metadata());
        for cut in 0..value.len() {
            assert!(put(&value[..cut], &metadata).is_err(), "{} cut at {cut}", vector.source);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, ..Default::default() })]

    #[test]
    fn any_value_in_any_encoding_is_stored_as_itself(sample in any_sample(), style in any_style()) {
        let (value, metadata) = encode(&sample, style);
        let expected = if let Sample::Null = sample { Value::Null } else { stored(&sample) };
        prop_assert_eq!(put(&value, &metadata), Ok(expected));
    }

    #[test]
    fn damaged_bytes_end_in_json_or_a_reject(
        sample in any_sample(),
        style in any_style(),
        damage in prop::collection::vec((any::<bool>(), any::<prop::sample::Index>(), any::<u8>()), 1..6),
    ) {
        let (mut value, mut metadata) = encode(&sample, style);
        for (of_metadata, at, byte) in damage {
            let bytes = if of_metadata { &mut metadata } else { &mut value };
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        // `put` reads back whatever was written as JSON.
        if let Err((path, _)) = put(&value, &metadata) {
            prop_assert!(path.starts_with('v'));
        }
    }

    #[test]
    fn bytes_of_no_encoding_end_in_json_or_a_reject(
        value in prop::collection::vec(any::<u8>(), 0..40),
        rest in prop::collection::vec(any::<u8>(), 0..20),
    ) {
        let metadata = [&[1][..], &rest].concat();
        if let Err((path, _)) = put(&value, &metadata) {
            prop_assert!(path.starts_with('v'));
        }
    }
}
