//! Whether a stored item is the one that an insert wanted to write: then the insert was done before, by an attempt whose
//! answer was lost, or by a client that sends again. Pure. The caller is `verdict`.

use std::cmp::Ordering;

use base64::Engine as _;
use serde_json::Value;

use super::sequence::compare_numbers;
use crate::store::{Attr, Item, WriteItem};

/// Whether `stored` has exactly the attributes of `written`, with the same values as DynamoDB sees them.
pub(super) fn is_same_item(written: &WriteItem, stored: &Item) -> bool {
    let Ok(Value::Object(attributes)) = serde_json::from_slice::<Value>(&written.json) else { return false };
    attributes.len() == stored.len()
        && attributes.iter().all(|(name, value)| stored.get(name).is_some_and(|attr| is_same(value, attr)))
}

fn is_same(written: &Value, stored: &Attr) -> bool {
    let Some((kind, value)) = written.as_object().and_then(|typed| typed.iter().next()) else { return false };
    let elements = || value.as_array().into_iter().flatten();
    let bytes = |text: &Value| base64::engine::general_purpose::STANDARD.decode(text.as_str()?).ok();
    let number = |text: &Value, stored: &str| {
        text.as_str().is_some_and(|text| compare_numbers(text.as_bytes(), stored.as_bytes()) == Ordering::Equal)
    };
    let count = value.as_array().map_or(0, Vec::len);
    match (kind.as_str(), stored) {
        ("S", Attr::S(text)) => value.as_str() == Some(text),
        ("N", Attr::N(text)) => number(value, text),
        ("B", Attr::B(stored)) => bytes(value).is_some_and(|bytes| bytes == *stored),
        ("BOOL", Attr::Bool(stored)) => value.as_bool() == Some(*stored),
        ("NULL", Attr::Null) => true,
        ("L", Attr::L(stored)) => count == stored.len() && elements().zip(stored).all(|(a, b)| is_same(a, b)),
        ("M", Attr::M(stored)) => value.as_object().is_some_and(|fields| {
            fields.len() == stored.len()
                && fields.iter().all(|(name, value)| stored.get(name).is_some_and(|attr| is_same(value, attr)))
        }),
        // Sets have no order.
        ("SS", Attr::Ss(stored)) => {
            count == stored.len() && elements().all(|text| stored.iter().any(|other| text.as_str() == Some(other)))
        }
        ("NS", Attr::Ns(stored)) => {
            count == stored.len() && elements().all(|text| stored.iter().any(|other| number(text, other)))
        }
        ("BS", Attr::Bs(stored)) => {
            let is_there = |text: &Value| bytes(text).is_some_and(|bytes| stored.iter().any(|other| bytes == *other));
            count == stored.len() && elements().all(is_there)
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::store::WriteOp;

    #[test]
    fn an_item_is_the_same_as_dynamodb_sees_it_and_not_as_it_is_written() {
        let json = r#"{"k":{"S":"a"},"n":{"N":"1.50"},"s":{"NS":["1","2e1"]},"l":{"L":[{"BOOL":true},{"B":"YQ=="}]},"m":{"M":{"x":{"NULL":true}}}}"#;
        let written = WriteItem::new(WriteOp::Insert, Bytes::from_static(json.as_bytes()), 13);
        let stored = Item::from([
            ("k".to_owned(), Attr::S("a".to_owned())),
            ("n".to_owned(), Attr::N("1.5".to_owned())),
            ("s".to_owned(), Attr::Ns(vec!["20".to_owned(), "1".to_owned()])),
            ("l".to_owned(), Attr::L(vec![Attr::Bool(true), Attr::B(Bytes::from_static(b"a"))])),
            ("m".to_owned(), Attr::M(Item::from([("x".to_owned(), Attr::Null)]))),
        ]);
        assert!(is_same_item(&written, &stored));
        for (name, other) in [
            ("n", Attr::N("1.51".to_owned())),
            ("k", Attr::S("b".to_owned())),
            ("s", Attr::Ns(vec!["1".to_owned()])),
            ("l", Attr::L(vec![Attr::Bool(true)])),
            ("m", Attr::M(Item::new())),
        ] {
            let mut changed = stored.clone();
            changed.insert(name.to_owned(), other);
            assert!(!is_same_item(&written, &changed), "{name}");
        }
        let mut more = stored.clone();
        more.insert("new".to_owned(), Attr::Null);
        assert!(!is_same_item(&written, &more));
    }
}
