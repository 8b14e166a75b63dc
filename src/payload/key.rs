//! Several columns in one DynamoDB key attribute: an unambiguous text that sorts as the columns do.
//!
//! Components are joined by U+0000. Inside a component U+0000 becomes U+0001 U+0001 and U+0001 becomes U+0001 U+0002, so no
//! component holds the separator, and because the separator is smaller than every escaped character, a shorter component
//! sorts first. Numbers are fixed-width hexadecimal of the value with its sign bit flipped. Callers: `leaf`.

/// Between two components.
pub const SEPARATOR: char = '\u{0}';

/// Appends a text component.
pub fn push_text(out: &mut String, text: &str) {
    for character in text.chars() {
        match character {
            '\u{0}' => out.push_str("\u{1}\u{1}"),
            '\u{1}' => out.push_str("\u{1}\u{2}"),
            other => out.push(other),
        }
    }
}

/// Appends an integer component: 16 hexadecimal digits.
pub fn push_integer(out: &mut String, value: i64) {
    push_hex(out, &((value as u64) ^ (1 << 63)).to_be_bytes());
}

/// Appends a decimal component, given at its column's scale: 32 hexadecimal digits.
pub fn push_decimal(out: &mut String, unscaled: i128) {
    push_hex(out, &((unscaled as u128) ^ (1 << 127)).to_be_bytes());
}

/// Appends a binary component: two hexadecimal digits a byte.
pub fn push_binary(out: &mut String, bytes: &[u8]) {
    push_hex(out, bytes);
}

fn push_hex(out: &mut String, bytes: &[u8]) {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    for byte in bytes {
        out.push(HEX[(byte >> 4) as usize] as char);
        out.push(HEX[(byte & 15) as usize] as char);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn joined(a: &str, number: i64, b: &str) -> String {
        let mut out = String::new();
        push_text(&mut out, a);
        out.push(SEPARATOR);
        push_integer(&mut out, number);
        out.push(SEPARATOR);
        push_text(&mut out, b);
        out
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
        fn decimal_components_sort_as_numbers(a in any::<i128>(), b in any::<i128>()) {
            let (mut x, mut y) = (String::new(), String::new());
            push_decimal(&mut x, a);
            push_decimal(&mut y, b);
            prop_assert_eq!(x.cmp(&y), a.cmp(&b));
        }
    }
}
