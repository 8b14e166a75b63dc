//! Several columns in one DynamoDB key attribute: an unambiguous text that sorts as the columns do.
//!
//! Components are joined by U+0000. Inside a component U+0000 becomes U+0001 U+0001 and U+0001 becomes U+0001 U+0002, so no
//! component holds the separator, and because the separator is smaller than every escaped character, a shorter component
//! sorts first. Numbers are fixed-width hexadecimal of the value with its sign bit flipped. Callers: `plan`, `leaf`.

use super::item::ItemWriter;

/// Begins the attribute.
pub fn begin(writer: &mut ItemWriter) {
    writer.raw(b"{\"S\":\"");
}

/// Goes on to the next component.
pub fn separate(writer: &mut ItemWriter) {
    writer.raw(b"\\u0000");
    writer.count(1);
}

/// Ends the attribute.
pub fn end(writer: &mut ItemWriter) {
    writer.raw(b"\"}");
}

/// Appends a text component.
pub fn push_text(writer: &mut ItemWriter, text: &str) {
    let mut rest = text;
    while let Some(at) = rest.find(['\u{0}', '\u{1}']) {
        writer.escaped(&rest[..at]);
        writer.count(at + 2);
        // Both characters have one byte.
        writer.raw(if rest.as_bytes()[at] == 0 { b"\\u0001\\u0001" } else { b"\\u0001\\u0002" });
        rest = &rest[at + 1..];
    }
    writer.escaped(rest);
    writer.count(rest.len());
}

/// Appends an integer component: 16 hexadecimal digits.
pub fn push_integer(writer: &mut ItemWriter, value: i64) {
    push_binary(writer, &((value as u64) ^ (1 << 63)).to_be_bytes());
}

/// Appends a decimal component, given at its column's scale: 32 hexadecimal digits.
pub fn push_decimal(writer: &mut ItemWriter, unscaled: i128) {
    push_binary(writer, &((unscaled as u128) ^ (1 << 127)).to_be_bytes());
}

/// Appends a component of a finite double: 16 hexadecimal digits. A float's is that of the double that it is.
pub fn push_double(writer: &mut ItemWriter, value: f64) {
    // Zero has two forms and is one key.
    let bits = (value + 0.0).to_bits();
    // Negative ones sort by their bits the other way round.
    let ordered = if bits >> 63 == 0 { bits ^ (1 << 63) } else { !bits };
    push_binary(writer, &ordered.to_be_bytes());
}

/// Appends a binary component: two hexadecimal digits a byte.
pub fn push_binary(writer: &mut ItemWriter, bytes: &[u8]) {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    for byte in bytes {
        writer.raw(&[HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]]);
    }
    writer.count(bytes.len() * 2);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The attribute's text.
    fn text(write: impl FnOnce(&mut ItemWriter)) -> String {
        let mut writer = ItemWriter::default();
        begin(&mut writer);
        write(&mut writer);
        end(&mut writer);
        let json: serde_json::Value = serde_json::from_slice(writer.as_slice()).unwrap();
        let text = json["S"].as_str().unwrap().to_owned();
        assert_eq!(writer.item_bytes(), text.len());
        text
    }

    fn joined(a: &str, number: i64, b: &str) -> String {
        text(|writer| {
            push_text(writer, a);
            separate(writer);
            push_integer(writer, number);
            separate(writer);
            push_text(writer, b);
        })
    }

    /// The components of a joined text: what makes it unambiguous is that this can be written.
    fn split(joined: &str) -> Vec<String> {
        let unescaped = |part: &str| part.replace("\u{1}\u{1}", "\u{0}").replace("\u{1}\u{2}", "\u{1}");
        joined.split('\u{0}').map(unescaped).collect()
    }

    proptest! {
        /// Text made of the characters that could confuse the encoding.
        #[test]
        fn joined_keys_sort_as_their_columns(
            a in "[\u{0}\u{1}\u{2}a]{0,4}", n in -3i64..3, b in "[\u{0}\u{1}\u{2}a]{0,4}",
            c in "[\u{0}\u{1}\u{2}a]{0,4}", m in -3i64..3, d in "[\u{0}\u{1}\u{2}a]{0,4}",
        ) {
            let columns = (a.as_str(), n, b.as_str()).cmp(&(c.as_str(), m, d.as_str()));
            prop_assert_eq!(joined(&a, n, &b).cmp(&joined(&c, m, &d)), columns);
        }

        #[test]
        fn components_come_back_out_of_a_joined_key(a in any::<String>(), n in any::<i64>(), b in "[\u{0}-\u{3}]{0,6}") {
            let key = joined(&a, n, &b);
            let parts = split(&key);
            prop_assert_eq!(parts.len(), 3);
            prop_assert_eq!(&parts[0], &a);
            prop_assert_eq!(u64::from_str_radix(&parts[1], 16).unwrap() ^ (1 << 63), n as u64);
            prop_assert_eq!(&parts[2], &b);
        }

        #[test]
        fn decimal_components_sort_as_numbers(a in any::<i128>(), b in any::<i128>()) {
            let part = |value| text(|writer| push_decimal(writer, value));
            prop_assert_eq!(part(a).cmp(&part(b)), a.cmp(&b));
        }

        #[test]
        fn double_components_sort_as_numbers(
            a in prop::num::f64::NORMAL | prop::num::f64::ZERO | prop::num::f64::NEGATIVE | prop::num::f64::SUBNORMAL,
            b in prop::num::f64::NORMAL | prop::num::f64::ZERO | prop::num::f64::NEGATIVE | prop::num::f64::SUBNORMAL,
        ) {
            let part = |value| text(|writer| push_double(writer, value));
            prop_assert_eq!(part(a).cmp(&part(b)), a.partial_cmp(&b).unwrap());
        }
    }
}
