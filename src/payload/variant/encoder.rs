//! An encoder of variants for tests: any value, in any of the widths and orders that the encoding allows.

use std::collections::BTreeMap;

use base64::Engine as _;
use proptest::prelude::*;
use serde_json::json;

use crate::payload::number::{self, Decimal};

/// A value that a variant can hold.
#[derive(Debug, Clone)]
pub(in crate::payload) enum Sample {
    Null,
    Boolean(bool),
    Integer(i64),
    Double(f64),
    Float(f32),
    Decimal(i128, u8),
    Text(String),
    Binary(Vec<u8>),
    Date(i32),
    Timestamp(i64),
    TimestampNtz(i64),
    Array(Vec<Sample>),
    Object(BTreeMap<String, Sample>),
}

/// The choices that the encoding leaves.
#[derive(Debug, Clone, Copy, Default)]
pub(in crate::payload) struct Style {
    /// Bytes of each offset and id beyond those needed.
    pub(in crate::payload) wider: usize,
    /// Sizes of four bytes, also where one is enough.
    pub(in crate::payload) large: bool,
    /// Long strings for short text.
    pub(in crate::payload) long_text: bool,
    /// Names in the dictionary, and values in objects, last to first.
    pub(in crate::payload) reversed: bool,
}

/// The value and its metadata.
pub(in crate::payload) fn encode(sample: &Sample, style: Style) -> (Vec<u8>, Vec<u8>) {
    let mut names = Vec::new();
    collect_names(sample, &mut names);
    names.sort_unstable();
    names.dedup();
    let sorted = !style.reversed;
    if style.reversed {
        names.reverse();
    }
    let length: usize = names.iter().map(|name| name.len()).sum();
    let width = width(length.max(names.len()), style);
    let mut metadata = vec![1 | u8::from(sorted) << 4 | (width as u8 - 1) << 6];
    number_into(&mut metadata, names.len(), width);
    let mut offset = 0;
    number_into(&mut metadata, offset, width);
    for name in &names {
        offset += name.len();
        number_into(&mut metadata, offset, width);
    }
    metadata.extend(names.concat().bytes());
    let mut value = Vec::new();
    value_into(&mut value, sample, &names, style);
    (value, metadata)
}

fn collect_names<'s>(sample: &'s Sample, names: &mut Vec<&'s str>) {
    match sample {
        Sample::Array(elements) => elements.iter().for_each(|element| collect_names(element, names)),
        Sample::Object(fields) => fields.iter().for_each(|(name, value)| {
            names.push(name);
            collect_names(value, names);
        }),
        _ => {}
    }
}

fn width(largest: usize, style: Style) -> usize {
    let needed = (1..=4).find(|width| largest < 1 << (8 * width)).unwrap();
    (needed + style.wider).min(4)
}

fn number_into(bytes: &mut Vec<u8>, number: usize, width: usize) {
    bytes.extend(&(number as u32).to_le_bytes()[..width]);
}

fn value_into(bytes: &mut Vec<u8>, sample: &Sample, names: &[&str], style: Style) {
    let mut primitive = |id: u8, content: &[u8]| {
        bytes.push(id << 2);
        bytes.extend(content);
    };
    match sample {
        Sample::Null => primitive(0, &[]),
        Sample::Boolean(true) => primitive(1, &[]),
        Sample::Boolean(false) => primitive(2, &[]),
        Sample::Integer(value) => {
            if let Ok(value) = i8::try_from(*value) {
                primitive(3, &value.to_le_bytes());
            } else if let Ok(value) = i16::try_from(*value) {
                primitive(4, &value.to_le_bytes());
            } else if let Ok(value) = i32::try_from(*value) {
                primitive(5, &value.to_le_bytes());
            } else {
                primitive(6, &value.to_le_bytes());
            }
        }
        Sample::Double(value) => primitive(7, &value.to_le_bytes()),
        Sample::Float(value) => primitive(14, &value.to_le_bytes()),
        Sample::Decimal(value, scale) => match value.unsigned_abs() {
            0..1_000_000_000 => primitive(8, &[&[*scale][..], &(*value as i32).to_le_bytes()].concat()),
            1_000_000_000..1_000_000_000_000_000_000 => {
                primitive(9, &[&[*scale][..], &(*value as i64).to_le_bytes()].concat())
            }
            _ => primitive(10, &[&[*scale][..], &value.to_le_bytes()].concat()),
        },
        Sample::Text(text) if text.len() < 64 && !style.long_text => {
            bytes.push(1 | (text.len() as u8) << 2);
            bytes.extend(text.bytes());
        }
        Sample::Text(text) => primitive(16, &[&(text.len() as u32).to_le_bytes(), text.as_bytes()].concat()),
        Sample::Binary(binary) => primitive(15, &[&(binary.len() as u32).to_le_bytes(), &binary[..]].concat()),
        Sample::Date(days) => primitive(11, &days.to_le_bytes()),
        Sample::Timestamp(micros) => primitive(12, &micros.to_le_bytes()),
        Sample::TimestampNtz(micros) => primitive(13, &micros.to_le_bytes()),
        Sample::Array(elements) => {
            let values: Vec<_> = elements.iter().collect();
            let (data, offsets) = values_into(&values, names, style);
            let (width, large) = (width(data.len(), style), style.large || elements.len() > 255);
            bytes.push(3 | (width as u8 - 1) << 2 | u8::from(large) << 4);
            number_into(bytes, elements.len(), if large { 4 } else { 1 });
            offsets.into_iter().for_each(|offset| number_into(bytes, offset, width));
            bytes.extend(data);
        }
        Sample::Object(fields) => {
            let values: Vec<_> = fields.values().collect();
            let (data, offsets) = values_into(&values, names, style);
            let (width, large) = (width(data.len(), style), style.large || fields.len() > 255);
            let id_width = self::width(names.len(), style);
            bytes.push(2 | (width as u8 - 1) << 2 | (id_width as u8 - 1) << 4 | u8::from(large) << 6);
            number_into(bytes, fields.len(), if large { 4 } else { 1 });
            for name in fields.keys() {
                number_into(bytes, names.iter().position(|known| known == name).unwrap(), id_width);
            }
            offsets.into_iter().for_each(|offset| number_into(bytes, offset, width));
            bytes.extend(data);
        }
    }
}

/// The values one after the other, and the offset of each; the last offset is the end.
fn values_into(values: &[&Sample], names: &[&str], style: Style) -> (Vec<u8>, Vec<usize>) {
    let mut data = Vec::new();
    let mut offsets = vec![0; values.len() + 1];
    let mut place = |at: usize, value: &Sample| {
        offsets[at] = data.len();
        value_into(&mut data, value, names, style);
    };
    if style.reversed {
        values.iter().enumerate().rev().for_each(|(at, value)| place(at, value));
    } else {
        values.iter().enumerate().for_each(|(at, value)| place(at, value));
    }
    offsets[values.len()] = data.len();
    (data, offsets)
}

/// What must be stored, in DynamoDB's JSON.
pub(in crate::payload) fn stored(sample: &Sample) -> serde_json::Value {
    match sample {
        Sample::Null => json!({ "NULL": true }),
        Sample::Boolean(value) => json!({ "BOOL": value }),
        Sample::Integer(value) => json!({ "N": value.to_string() }),
        Sample::Double(value) => json!({ "N": number::double_text(*value, &mut zmij::Buffer::new()) }),
        Sample::Float(value) => json!({ "N": number::float_text(*value, &mut zmij::Buffer::new()) }),
        Sample::Decimal(unscaled, scale) => {
            json!({ "N": Decimal { unscaled: *unscaled, scale: i32::from(*scale) }.canonical_text() })
        }
        Sample::Text(text) => json!({ "S": text }),
        Sample::Binary(bytes) => json!({ "B": base64::engine::general_purpose::STANDARD.encode(bytes) }),
        Sample::Date(days) => json!({ "S": number::date_text(i64::from(*days)).unwrap() }),
        Sample::Timestamp(micros) => json!({ "N": micros.to_string() }),
        Sample::TimestampNtz(micros) => json!({ "S": number::timestamp_text(*micros).unwrap() }),
        Sample::Array(elements) => json!({ "L": elements.iter().map(stored).collect::<Vec<_>>() }),
        Sample::Object(fields) => {
            let fields = fields.iter().map(|(name, value)| (name.clone(), stored(value)));
            json!({ "M": fields.collect::<serde_json::Map<_, _>>() })
        }
    }
}

/// Any way to encode.
pub(in crate::payload) fn any_style() -> impl Strategy<Value = Style> {
    (0usize..4, any::<bool>(), any::<bool>(), any::<bool>()).prop_map(|(wider, large, long_text, reversed)| Style {
        wider,
        large,
        long_text,
        reversed,
    })
}

/// Any value that DynamoDB can hold.
pub(in crate::payload) fn any_sample() -> impl Strategy<Value = Sample> {
    let text = || prop_oneof!["[a-cé\"\u{1}]{0,9}", "[x😀]{60,80}"];
    let in_range = |value: &f64| *value == 0.0 || (1e-130..1e126).contains(&value.abs());
    let day = -719_528i64..2_932_896;
    let micros = || (day.start * number::MICROS_PER_DAY)..(day.end * number::MICROS_PER_DAY);
    let scalar = prop_oneof![
        Just(Sample::Null),
        any::<bool>().prop_map(Sample::Boolean),
        prop_oneof![-200i64..200, -70_000i64..70_000, any::<i64>()].prop_map(Sample::Integer),
        any::<f64>().prop_filter("DynamoDB's range", in_range).prop_map(Sample::Double),
        any::<f32>().prop_filter("finite", |value| value.is_finite()).prop_map(Sample::Float),
        (any::<u128>(), 0u8..=38, any::<bool>()).prop_map(|(bits, scale, negative)| {
            let unscaled = (bits % 10u128.pow(u32::from(scale).max(1))) as i128;
            Sample::Decimal(if negative { -unscaled } else { unscaled }, scale)
        }),
        text().prop_map(Sample::Text),
        prop::collection::vec(any::<u8>(), 0..9).prop_map(Sample::Binary),
        (day.start as i32..day.end as i32).prop_map(Sample::Date),
        any::<i64>().prop_map(Sample::Timestamp),
        micros().prop_map(Sample::TimestampNtz),
    ];
    scalar.prop_recursive(4, 40, 5, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..6).prop_map(Sample::Array),
            prop::collection::btree_map("[a-cé]{1,3}", inner, 0..6).prop_map(Sample::Object),
        ]
    })
}
