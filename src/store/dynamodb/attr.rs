//! Attribute values between the SDK and the trait, and keys that can be compared.
//!
//! DynamoDB says what it did not process by returning the item or key, in any order and with numbers in a form of its own;
//! callers think in indices. So keys are compared by value, never by text.

use std::collections::HashMap;

use aws_sdk_dynamodb::primitives::Blob;
use aws_sdk_dynamodb::types::AttributeValue;
use base64::Engine as _;
use bytes::Bytes;

use crate::store::{Attr, Item, KeyAttrs};

/// An item in the SDK's form.
pub(super) type SdkItem = HashMap<String, AttributeValue>;

/// DynamoDB returned a kind of value that this build does not know.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the attribute `{attribute}` has a type that this version of Forebay does not know")]
pub(super) struct UnknownAttributeType {
    attribute: String,
}

pub(super) fn item_from_sdk(item: SdkItem) -> Result<Item, UnknownAttributeType> {
    item.into_iter()
        .map(|(name, value)| match attr_from_sdk(value) {
            Some(attr) => Ok((name, attr)),
            None => Err(UnknownAttributeType { attribute: name }),
        })
        .collect()
}

/// `None` for a type that the SDK does not know.
fn attr_from_sdk(value: AttributeValue) -> Option<Attr> {
    let bytes = |blob: Blob| Bytes::from(blob.into_inner());
    Some(match value {
        AttributeValue::S(text) => Attr::S(text),
        AttributeValue::N(number) => Attr::N(number),
        AttributeValue::B(blob) => Attr::B(bytes(blob)),
        AttributeValue::Bool(value) => Attr::Bool(value),
        AttributeValue::Null(_) => Attr::Null,
        AttributeValue::L(values) => Attr::L(values.into_iter().map(attr_from_sdk).collect::<Option<_>>()?),
        AttributeValue::M(values) => {
            Attr::M(values.into_iter().map(|(name, value)| Some((name, attr_from_sdk(value)?))).collect::<Option<_>>()?)
        }
        AttributeValue::Ss(texts) => Attr::Ss(texts),
        AttributeValue::Ns(numbers) => Attr::Ns(numbers),
        AttributeValue::Bs(blobs) => Attr::Bs(blobs.into_iter().map(bytes).collect()),
        _ => return None,
    })
}

pub(super) fn attr_to_sdk(attr: &Attr) -> AttributeValue {
    let blob = |bytes: &Bytes| Blob::new(bytes.to_vec());
    match attr {
        Attr::S(text) => AttributeValue::S(text.clone()),
        Attr::N(number) => AttributeValue::N(number.clone()),
        Attr::B(bytes) => AttributeValue::B(blob(bytes)),
        Attr::Bool(value) => AttributeValue::Bool(*value),
        Attr::Null => AttributeValue::Null(true),
        Attr::L(values) => AttributeValue::L(values.iter().map(attr_to_sdk).collect()),
        Attr::M(values) => {
            AttributeValue::M(values.iter().map(|(name, value)| (name.clone(), attr_to_sdk(value))).collect())
        }
        Attr::Ss(texts) => AttributeValue::Ss(texts.clone()),
        Attr::Ns(numbers) => AttributeValue::Ns(numbers.clone()),
        Attr::Bs(blobs) => AttributeValue::Bs(blobs.iter().map(blob).collect()),
    }
}

pub(super) fn key_to_sdk(key: &KeyAttrs) -> SdkItem {
    key.iter().map(|(name, value)| (name.clone(), attr_to_sdk(value))).collect()
}

/// A key whose values compare as DynamoDB compares them.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct ComparableKey(Vec<(String, KeyValue)>);

#[derive(Debug, PartialEq, Eq)]
enum KeyValue {
    Text(String),
    Number(Number),
    Bytes(Vec<u8>),
}

impl ComparableKey {
    /// The key of a write, from its canonical text (`"id":{"S":"a"}`). `None` where the text is not such a key.
    pub(super) fn from_text(key_text: &[u8]) -> Option<Self> {
        let mut json = Vec::with_capacity(key_text.len() + 2);
        json.push(b'{');
        json.extend_from_slice(key_text);
        json.push(b'}');
        let attributes: serde_json::Map<String, serde_json::Value> = serde_json::from_slice(&json).ok()?;
        let key: Option<Vec<_>> = attributes
            .into_iter()
            .map(|(name, typed)| {
                let (kind, value) = typed.as_object()?.iter().next()?;
                let text = value.as_str()?;
                let value = match kind.as_str() {
                    "S" => KeyValue::Text(text.to_owned()),
                    "N" => KeyValue::Number(Number::parse(text)?),
                    "B" => KeyValue::Bytes(base64::engine::general_purpose::STANDARD.decode(text).ok()?),
                    _ => return None,
                };
                Some((name, value))
            })
            .collect();
        key.filter(|key| !key.is_empty()).map(Self)
    }

    /// The key of a read. `None` where an attribute cannot be a key.
    pub(super) fn from_attrs(key: &KeyAttrs) -> Option<Self> {
        key.iter()
            .map(|(name, attr)| Some((name.clone(), KeyValue::from_sdk(&attr_to_sdk(attr))?)))
            .collect::<Option<_>>()
            .map(Self)
    }

    /// Whether a returned item or key has this key.
    pub(super) fn matches(&self, item: &SdkItem) -> bool {
        self.0.iter().all(|(name, value)| item.get(name).and_then(KeyValue::from_sdk).as_ref() == Some(value))
    }
}

impl KeyValue {
    fn from_sdk(value: &AttributeValue) -> Option<Self> {
        Some(match value {
            AttributeValue::S(text) => Self::Text(text.clone()),
            AttributeValue::N(number) => Self::Number(Number::parse(number)?),
            AttributeValue::B(blob) => Self::Bytes(blob.as_ref().to_vec()),
            _ => return None,
        })
    }
}

/// A decimal number in one form: no leading or trailing zeros, the exponent of the last digit.
#[derive(Debug, PartialEq, Eq)]
struct Number {
    negative: bool,
    digits: String,
    exponent: i64,
}

impl Number {
    fn parse(text: &str) -> Option<Self> {
        let (negative, rest) = match text.as_bytes().first()? {
            b'-' => (true, &text[1..]),
            b'+' => (false, &text[1..]),
            _ => (false, text),
        };
        let (mantissa, exponent) = match rest.split_once(['e', 'E']) {
            Some((mantissa, exponent)) => (mantissa, exponent.parse::<i64>().ok()?),
            None => (rest, 0),
        };
        let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
        if whole.is_empty() && fraction.is_empty() {
            return None;
        }
        if !whole.bytes().chain(fraction.bytes()).all(|byte| byte.is_ascii_digit()) {
            return None;
        }
        let all = format!("{whole}{fraction}");
        let significant = all.trim_start_matches('0').trim_end_matches('0');
        if significant.is_empty() {
            return Some(Self { negative: false, digits: String::new(), exponent: 0 });
        }
        let trailing_zeros = all.len() - all.trim_end_matches('0').len();
        let exponent = exponent.checked_sub(fraction.len() as i64)?.checked_add(trailing_zeros as i64)?;
        Some(Self { negative, digits: significant.to_owned(), exponent })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_compare_by_value_whatever_their_text() {
        for (left, right) in [
            ("1", "1.0"),
            ("100", "1E+2"),
            ("-0.50", "-5e-1"),
            ("0", "-0.00"),
            ("007", "7"),
            ("+3", "3"),
            (".5", "0.5"),
        ] {
            assert_eq!(Number::parse(left), Number::parse(right), "{left} and {right}");
        }
        for (left, right) in [("1", "10"), ("1", "-1"), ("0.1", "0.01")] {
            assert_ne!(Number::parse(left), Number::parse(right), "{left} and {right}");
        }
        for text in ["", "-", ".", "e5", "1e", "NaN", "1 "] {
            assert_eq!(Number::parse(text), None, "{text:?}");
        }
    }

    #[test]
    fn a_key_matches_an_item_that_has_other_attributes_and_other_spellings() {
        let key =
            ComparableKey::from_text(r#""id":{"S":"é\n"},"at":{"N":"1500"},"tag":{"B":"AQI="}"#.as_bytes()).unwrap();
        let item = HashMap::from([
            ("tag".to_owned(), AttributeValue::B(Blob::new([1, 2]))),
            ("other".to_owned(), AttributeValue::Bool(true)),
            ("at".to_owned(), AttributeValue::N("1.5E3".to_owned())),
            ("id".to_owned(), AttributeValue::S("é\n".to_owned())),
        ]);
        assert!(key.matches(&item));
        let mut other = item.clone();
        other.insert("at".to_owned(), AttributeValue::N("1501".to_owned()));
        assert!(!key.matches(&other));
        other.remove("at");
        assert!(!key.matches(&other));
    }

    #[test]
    fn text_that_is_no_key_is_not_taken_for_one_that_matches_everything() {
        assert_eq!(ComparableKey::from_text(b""), None);
        assert_eq!(ComparableKey::from_text(br#""id":{"BOOL":true}"#), None);
        assert_eq!(ComparableKey::from_text(br#""id":"#), None);
    }
}
