//! Attribute values in DynamoDB's JSON: into the trait's form, and into bytes that compare as DynamoDB compares keys.
//!
//! Deliberately by another way than the gateway's own code goes: the model is its judge.

use std::hash::{BuildHasher as _, Hasher as _};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use serde_json::{Map, Value};

use crate::store::{Attr, Item, KeyAttrs};

/// An item as JSON: attribute name to typed value.
pub type JsonItem = Map<String, Value>;

/// An item from DynamoDB's JSON. `None` where it is none.
pub fn parse_item(json: &[u8]) -> Option<JsonItem> {
    match serde_json::from_slice(json) {
        Ok(Value::Object(item)) => Some(item),
        _ => None,
    }
}

/// In the trait's form. `None` where a value is no typed value.
pub fn item_to_attrs(item: &JsonItem) -> Option<Item> {
    item.iter().map(|(name, value)| Some((name.clone(), attr(value)?))).collect()
}

/// One typed value: `{"N":"17"}`.
pub fn attr(value: &Value) -> Option<Attr> {
    let (kind, value) = value.as_object().filter(|typed| typed.len() == 1)?.iter().next()?;
    let text = |value: &Value| value.as_str().map(str::to_owned);
    let bytes = |value: &Value| STANDARD.decode(value.as_str()?).ok().map(Bytes::from);
    let texts = || value.as_array()?.iter().map(text).collect::<Option<Vec<_>>>();
    Some(match kind.as_str() {
        "S" => Attr::S(text(value)?),
        "N" => Attr::N(text(value).filter(|text| number_bytes(text).is_some())?),
        "B" => Attr::B(bytes(value)?),
        "BOOL" => Attr::Bool(value.as_bool()?),
        "NULL" => Attr::Null,
        "L" => Attr::L(value.as_array()?.iter().map(attr).collect::<Option<_>>()?),
        "M" => Attr::M(item_to_attrs(value.as_object()?)?),
        "SS" => Attr::Ss(texts()?),
        "NS" => Attr::Ns(texts()?),
        "BS" => Attr::Bs(value.as_array()?.iter().map(bytes).collect::<Option<_>>()?),
        _ => return None,
    })
}

/// Bytes that compare as DynamoDB compares values of one type: text and bytes bytewise, numbers by value. `None` for what
/// cannot be a key.
pub fn ordered_bytes(attr: &Attr) -> Option<Vec<u8>> {
    match attr {
        Attr::S(text) => Some(text.as_bytes().to_vec()),
        Attr::B(bytes) => Some(bytes.to_vec()),
        Attr::N(number) => number_bytes(number),
        _ => None,
    }
}

/// Of a typed value.
pub fn ordered_json(value: &Value) -> Option<Vec<u8>> {
    ordered_bytes(&attr(value)?)
}

/// A number's sign, exponent and digits, so that they compare bytewise as the numbers do.
fn number_bytes(text: &str) -> Option<Vec<u8>> {
    let (negative, rest) = match text.as_bytes().first()? {
        b'-' => (true, &text[1..]),
        b'+' => (false, &text[1..]),
        _ => (false, text),
    };
    let (mantissa, exponent) = match rest.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, exponent.parse::<i32>().ok()?),
        None => (rest, 0),
    };
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let digits = format!("{whole}{fraction}");
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let significant = digits.trim_start_matches('0');
    if significant.is_empty() {
        return Some(vec![1]);
    }
    // The number is 0.DIGITS times ten to this.
    let leading_zeros = (digits.len() - significant.len()) as i32;
    let exponent = exponent.checked_add(whole.len() as i32 - leading_zeros)?;
    let mut bytes = vec![if negative { 0 } else { 2 }];
    let magnitude = (i64::from(exponent) + (1 << 31)) as u32;
    bytes.extend(magnitude.to_be_bytes());
    bytes.extend(significant.trim_end_matches('0').bytes());
    if negative {
        // The greater the magnitude, the smaller the number; and the longer of two that begin alike is the smaller.
        bytes[1..].iter_mut().for_each(|byte| *byte = !*byte);
        bytes.push(0xff);
    }
    Some(bytes)
}

/// A key in a form that equal keys share, whatever their text: names and ordered values.
pub fn key_of_attrs(key: &KeyAttrs) -> Option<Vec<(String, Vec<u8>)>> {
    key.iter().map(|(name, attr)| Some((name.clone(), ordered_bytes(attr)?))).collect()
}

/// A hash that does not change from run to run.
pub fn stable_hash(bytes: &[u8]) -> u64 {
    let mut hasher = foldhash::quality::FixedState::with_seed(0).build_hasher();
    hasher.write(bytes);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_compare_by_value_and_text_bytewise() {
        let number = |text: &str| ordered_bytes(&Attr::N(text.to_owned())).unwrap();
        let sorted = [
            "-9e125", "-1000", "-12.5", "-12", "-2", "-1.01", "-1", "-0.5", "-1e-130", "0", "1e-130", "0.09", "0.5",
            "1", "1.01", "2", "9", "10", "12", "12.5", "100", "1e3", "9e125",
        ];
        for pair in sorted.windows(2) {
            assert!(number(pair[0]) < number(pair[1]), "{pair:?}");
        }
        for (left, right) in [("1", "1.0"), ("100", "1E+2"), ("-0.50", "-5e-1"), ("0", "-0.00"), ("007", "7")] {
            assert_eq!(number(left), number(right), "{left} {right}");
        }
        for text in ["", "-", "x", "1 ", "NaN", "1e"] {
            assert_eq!(number_bytes(text), None, "{text:?}");
        }
        let text = |text: &str| ordered_bytes(&Attr::S(text.to_owned())).unwrap();
        assert!(text("Z") < text("a") && text("a") < text("ab") && text("z") < text("é"));
    }

    #[test]
    fn what_is_no_typed_value_is_none() {
        for json in [r#"{"S":1}"#, r#"{"N":"x"}"#, r#"{"S":"a","N":"1"}"#, r#""a""#, "null", r#"{"X":"a"}"#] {
            assert_eq!(attr(&serde_json::from_str(json).unwrap()), None, "{json}");
        }
    }
}
