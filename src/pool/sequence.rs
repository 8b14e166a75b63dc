//! Which of two sequences is greater: as DynamoDB compares the values of one attribute, numbers by value and text by its
//! UTF-8 bytes. Pure. Callers: `queue` and `fold`.

use std::borrow::Cow;
use std::cmp::Ordering;

/// Compares two values of one sequence column, as DynamoDB's JSON: `{"N":"17"}`. A row without a sequence comes first.
pub(super) fn compare(a: Option<&[u8]>, b: Option<&[u8]>) -> Ordering {
    match (a.and_then(value), b.and_then(value)) {
        (Some((true, a)), Some((true, b))) => compare_numbers(a, b),
        (Some((_, a)), Some((_, b))) => texts(a, b),
        (a, b) => a.is_some().cmp(&b.is_some()),
    }
}

/// Whether it is a number, and what is between the quotes.
fn value(text: &[u8]) -> Option<(bool, &[u8])> {
    let inner = text.strip_suffix(b"\"}")?;
    match inner {
        [b'{', b'"', b'N', b'"', b':', b'"', digits @ ..] => Some((true, digits)),
        [b'{', b'"', _, b'"', b':', b'"', text @ ..] => Some((false, text)),
        _ => None,
    }
}

fn texts(a: &[u8], b: &[u8]) -> Ordering {
    plain(a).cmp(&plain(b))
}

/// The text behind JSON's escapes.
fn plain(text: &[u8]) -> Cow<'_, [u8]> {
    if !text.contains(&b'\\') {
        return Cow::Borrowed(text);
    }
    let quoted = [b"\"", text, b"\""].concat();
    match serde_json::from_slice::<String>(&quoted) {
        Ok(plain) => Cow::Owned(plain.into_bytes()),
        // The encoder writes nothing that cannot be read; were it otherwise, the text itself still has an order.
        Err(_) => Cow::Borrowed(text),
    }
}

/// A decimal number as its sign, the exponent of its first digit, and its digits.
#[derive(PartialEq, Eq)]
struct Decimal {
    negative: bool,
    /// `None` for zero.
    exponent: Option<i64>,
    digits: Vec<u8>,
}

/// Compares two decimal numbers by value.
pub(super) fn compare_numbers(a: &[u8], b: &[u8]) -> Ordering {
    if let (Some(a), Some(b)) = (integer(a), integer(b)) {
        return a.cmp(&b);
    }
    let (a, b) = (decimal(a), decimal(b));
    let magnitude = |a: &Decimal, b: &Decimal| {
        // Zero has no exponent, and `None` is the smallest.
        a.exponent.cmp(&b.exponent).then_with(|| a.digits.cmp(&b.digits))
    };
    match (a.negative, b.negative) {
        (false, false) => magnitude(&a, &b),
        (true, true) => magnitude(&b, &a),
        (a, b) => b.cmp(&a),
    }
}

/// Most sequences are integers: versions, and points in time.
fn integer(text: &[u8]) -> Option<i64> {
    std::str::from_utf8(text).ok()?.parse().ok()
}

fn decimal(text: &[u8]) -> Decimal {
    let (negative, text) = match text {
        [b'-', rest @ ..] => (true, rest),
        rest => (false, rest),
    };
    let at = text.iter().position(|byte| matches!(byte, b'e' | b'E')).unwrap_or(text.len());
    let shift = std::str::from_utf8(&text[at..]).ok().and_then(|text| text.get(1..)?.parse::<i64>().ok()).unwrap_or(0);
    let point = text[..at].iter().position(|byte| *byte == b'.').unwrap_or(at);
    let mut digits: Vec<u8> = text[..at].iter().copied().filter(u8::is_ascii_digit).collect();
    let zeros = digits.iter().take_while(|digit| **digit == b'0').count();
    digits.drain(..zeros);
    while digits.last() == Some(&b'0') {
        digits.pop();
    }
    let exponent = (!digits.is_empty()).then(|| point as i64 - zeros as i64 + shift);
    Decimal { negative: negative && exponent.is_some(), exponent, digits }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn number(text: &str) -> String {
        format!("{{\"N\":\"{text}\"}}")
    }

    fn of(a: &str, b: &str) -> Ordering {
        compare(Some(a.as_bytes()), Some(b.as_bytes()))
    }

    #[test]
    fn numbers_compare_by_value_whatever_their_form() {
        let rising =
            ["-1e20", "-12.5", "-12.4", "-3", "-0.001", "0", "0.0001", "0.5", "1", "9", "10", "10.01", "1e3", "2e125"];
        for (i, a) in rising.iter().enumerate() {
            for (j, b) in rising.iter().enumerate() {
                assert_eq!(of(&number(a), &number(b)), i.cmp(&j), "{a} {b}");
            }
        }
        for (a, b) in [("1000", "1e3"), ("0.50", "5e-1"), ("-0", "0"), ("007", "7"), ("1.2300", "1.23")] {
            assert_eq!(of(&number(a), &number(b)), Ordering::Equal, "{a} {b}");
        }
        let long = "12345678901234567890123456789012345678";
        assert_eq!(of(&number(long), &number(&long.replace("78", "79"))), Ordering::Less);
    }

    #[test]
    fn texts_compare_by_their_bytes_and_not_by_their_escapes() {
        let text = |text: &str| serde_json::json!({ "S": text }).to_string();
        let rising = ["", "!", "\"", "#", "2026-01-01", "2026-01-02", "A", "\\", "a", "é", "\u{10000}"];
        for (i, a) in rising.iter().enumerate() {
            for (j, b) in rising.iter().enumerate() {
                assert_eq!(of(&text(a), &text(b)), i.cmp(&j), "{a} {b}");
            }
        }
    }

    #[test]
    fn a_row_without_a_sequence_comes_first() {
        assert_eq!(compare(None, Some(b"{\"N\":\"0\"}")), Ordering::Less);
        assert_eq!(compare(None, None), Ordering::Equal);
    }
}
