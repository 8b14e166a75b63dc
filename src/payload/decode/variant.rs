//! Variants as they are read: every stored value is of its own natural kind.
//!
//! N is an integer where it is one of 64 bits, else a double where the double's shortest text is that very number, else a
//! decimal. A map's keys are text, in order; a set is a list.

use super::{DecodeError, NULL, value};
use crate::payload::number::{self, Decimal};
use crate::proto::v1::value::Kind;
use crate::proto::v1::{ListValue, MapEntry, MapValue, Value};
use crate::schema::DataType;
use crate::store::{Attr, Item};

/// Decodes a stored value without a schema.
pub(super) fn decode(attr: Attr) -> Result<Value, DecodeError> {
    Ok(value(match attr {
        Attr::Null => return Ok(NULL),
        Attr::S(text) => Kind::StringValue(text),
        Attr::N(number) => {
            let kind = number_kind(&number);
            kind.ok_or_else(|| DecodeError::new(&DataType::Variant, "a number (N) with more digits"))?
        }
        Attr::B(bytes) => Kind::BytesValue(bytes),
        Attr::Bool(boolean) => Kind::BoolValue(boolean),
        Attr::L(elements) => list(elements)?,
        Attr::Ss(texts) => list(texts.into_iter().map(Attr::S))?,
        Attr::Ns(numbers) => list(numbers.into_iter().map(Attr::N))?,
        Attr::Bs(binaries) => list(binaries.into_iter().map(Attr::B))?,
        Attr::M(item) => map(item)?,
    }))
}

fn list(elements: impl IntoIterator<Item = Attr>) -> Result<Kind, DecodeError> {
    let decode_one = |(index, attr)| decode(attr).map_err(|error| error.within(&format!("[{index}]")));
    let values = elements.into_iter().enumerate().map(decode_one).collect::<Result<_, _>>()?;
    Ok(Kind::ListValue(ListValue { values }))
}

fn map(item: Item) -> Result<Kind, DecodeError> {
    let mut stored: Vec<_> = item.into_iter().collect();
    // An item's map has no order; a stable one lets equal rows look equal.
    stored.sort_unstable_by(|(a, _), (b, _)| a.cmp(b));
    let decode_one = |(key, attr)| {
        let decoded = decode(attr).map_err(|error| error.within("{}"))?;
        Ok(MapEntry { key: Some(value(Kind::StringValue(key))), value: Some(decoded) })
    };
    let entries = stored.into_iter().map(decode_one).collect::<Result<_, DecodeError>>()?;
    Ok(Kind::MapValue(MapValue { entries }))
}

/// The natural kind of a number; `None` for more digits than DynamoDB holds.
fn number_kind(number: &str) -> Option<Kind> {
    let exact = Decimal::parse(number)?.normalized();
    if let Some(whole) = exact.rescale(0)
        && let Ok(integer) = i64::try_from(whole.unscaled)
    {
        return Some(Kind::IntValue(integer));
    }
    // The stored text may be another text of the same number: 1E+30 for 1e30.
    if let Ok(double) = number.parse::<f64>()
        && double.is_finite()
        && Decimal::parse(number::double_text(double, &mut zmij::Buffer::new()))?.normalized() == exact
    {
        return Some(Kind::DoubleValue(double));
    }
    exact.fits_dynamodb().then(|| Kind::DecimalValue(exact.canonical_text()))
}
