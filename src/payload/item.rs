//! Writes DynamoDB's JSON and counts DynamoDB's item size on the way.
//!
//! One [`ItemWriter`] serves a whole chunk of rows: rows follow each other in its buffer, and a rejected row is cut off
//! again. Size rule (DynamoDB): UTF-8 lengths of names and text; a number as [`number_size`] says; a boolean or null one; a
//! list or map three, and one for each element; a set what its elements take.

use base64::Engine as _;

use super::coercion::RuleId;

/// Appends values in DynamoDB's JSON.
#[derive(Debug)]
pub struct ItemWriter {
    buffer: Vec<u8>,
    /// Where the item begun last starts.
    start: usize,
    sizes: Sizes,
    item_bytes: usize,
    coerced: Vec<RuleId>,
}

/// How an item's size is known while it is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sizes {
    /// By DynamoDB's rule, value by value.
    Exact,
    /// By the length of its text, which is never smaller: every value takes more bytes in JSON than the rule counts. That is
    /// enough for all but the largest items, and costs nothing.
    Bound,
}

impl Default for ItemWriter {
    fn default() -> Self {
        Self::with_capacity(0)
    }
}

/// A point to go back to.
#[derive(Debug, Clone, Copy)]
pub struct Mark {
    length: usize,
    item_bytes: usize,
    coerced: usize,
}

impl ItemWriter {
    /// A writer whose buffer starts at this capacity.
    pub fn with_capacity(bytes: usize) -> Self {
        Self { buffer: Vec::with_capacity(bytes), start: 0, sizes: Sizes::Exact, item_bytes: 0, coerced: Vec::new() }
    }

    /// Everything written so far.
    pub fn as_slice(&self) -> &[u8] {
        &self.buffer
    }

    /// Length of the buffer, in bytes.
    pub fn len(&self) -> usize {
        self.buffer.len()
    }

    /// Whether nothing was written.
    pub fn is_empty(&self) -> bool {
        self.buffer.is_empty()
    }

    /// The buffer itself.
    pub fn into_buffer(self) -> Vec<u8> {
        self.buffer
    }

    /// DynamoDB's size of the item begun last, in bytes; with [`Sizes::Bound`] no less than it.
    #[inline]
    pub fn item_bytes(&self) -> usize {
        match self.sizes {
            Sizes::Exact => self.item_bytes,
            Sizes::Bound => self.buffer.len() - self.start,
        }
    }

    /// Starts a new item.
    pub fn begin_item(&mut self, sizes: Sizes) {
        self.start = self.buffer.len();
        self.sizes = sizes;
        self.item_bytes = 0;
        self.coerced.clear();
    }

    /// What `write` adds to the item's size, by DynamoDB's rule.
    pub fn measured<T>(&mut self, write: impl FnOnce(&mut Self) -> T) -> (T, usize) {
        let (sizes, before) = (std::mem::replace(&mut self.sizes, Sizes::Exact), self.item_bytes);
        let written = write(self);
        self.sizes = sizes;
        (written, self.item_bytes - before)
    }

    /// Notes that a value of the item was coerced.
    #[inline]
    pub fn coerced(&mut self, rule: RuleId) {
        self.coerced.push(rule);
    }

    /// The coercions of the item begun last.
    pub fn coercions(&self) -> &[RuleId] {
        &self.coerced
    }

    /// Remembers this point.
    pub fn mark(&self) -> Mark {
        Mark { length: self.buffer.len(), item_bytes: self.item_bytes, coerced: self.coerced.len() }
    }

    /// Forgets everything since the mark.
    pub fn rewind(&mut self, mark: Mark) {
        self.buffer.truncate(mark.length);
        self.item_bytes = mark.item_bytes;
        self.coerced.truncate(mark.coerced);
    }

    /// Forgets what was written since the mark, but not what was coerced: a value that became null leaves no other trace.
    pub fn leave_out(&mut self, mark: Mark) {
        self.buffer.truncate(mark.length);
        self.item_bytes = mark.item_bytes;
    }

    /// Appends punctuation, or a name that was escaped beforehand; counts nothing.
    #[inline]
    pub fn raw(&mut self, text: &[u8]) {
        self.buffer.extend_from_slice(text);
    }

    /// Counts bytes of DynamoDB's size.
    #[inline]
    pub fn count(&mut self, bytes: usize) {
        if self.sizes == Sizes::Exact {
            self.item_bytes += bytes;
        }
    }

    /// Counts a number of this text.
    #[inline]
    fn count_number(&mut self, digits: &str) {
        if self.sizes == Sizes::Exact {
            self.item_bytes += number_size(digits.as_bytes());
        }
    }

    /// `{"S":"..."}`
    #[inline]
    pub fn text(&mut self, text: &str) {
        self.raw(b"{\"S\":\"");
        self.escaped(text);
        self.raw(b"\"}");
        self.count(text.len());
    }

    /// `{"S":"..."}` of ASCII text in which nothing is to be escaped.
    #[inline]
    pub fn plain(&mut self, text: &[u8]) {
        self.raw(b"{\"S\":\"");
        self.raw(text);
        self.raw(b"\"}");
        self.count(text.len());
    }

    /// `{"N":"..."}` of an integer.
    #[inline]
    pub fn integer(&mut self, value: i64) {
        let mut digits = itoa::Buffer::new();
        self.number(digits.format(value));
    }

    /// `{"N":"..."}` of a number's text.
    #[inline]
    pub fn number(&mut self, digits: &str) {
        self.raw(b"{\"N\":\"");
        self.raw(digits.as_bytes());
        self.raw(b"\"}");
        self.count_number(digits);
    }

    /// `"..."`, an element of a set of text.
    pub fn set_text(&mut self, text: &str) {
        self.raw(b"\"");
        self.escaped(text);
        self.raw(b"\"");
        self.count(text.len());
    }

    /// `"..."`, an element of a set of numbers.
    pub fn set_number(&mut self, digits: &str) {
        self.raw(b"\"");
        self.raw(digits.as_bytes());
        self.raw(b"\"");
        self.count_number(digits);
    }

    /// `"..."`, an element of a set of binaries.
    pub fn set_binary(&mut self, bytes: &[u8]) {
        self.raw(b"\"");
        self.base64(bytes);
        self.raw(b"\"");
        self.count(bytes.len());
    }

    /// `{"BOOL":...}`
    #[inline]
    pub fn boolean(&mut self, value: bool) {
        self.raw(if value { b"{\"BOOL\":true}" } else { b"{\"BOOL\":false}" });
        self.count(1);
    }

    /// `{"NULL":true}`
    #[inline]
    pub fn null(&mut self) {
        self.raw(b"{\"NULL\":true}");
        self.count(1);
    }

    /// `{"B":"..."}`
    #[inline]
    pub fn binary(&mut self, bytes: &[u8]) {
        self.raw(b"{\"B\":\"");
        self.base64(bytes);
        self.raw(b"\"}");
        self.count(bytes.len());
    }

    /// Base64 without quotes; counts nothing.
    pub fn base64(&mut self, bytes: &[u8]) {
        let start = self.buffer.len();
        self.buffer.resize(start + bytes.len().div_ceil(3) * 4, b'=');
        // The buffer was just given exactly the room that padded base64 takes.
        let written = base64::engine::general_purpose::STANDARD.encode_slice(bytes, &mut self.buffer[start..]);
        debug_assert_eq!(written.ok(), Some(self.buffer.len() - start));
    }

    /// Appends to the text that was written last, ASCII in which nothing is to be escaped: `{"S":"a"}` becomes `{"S":"a#00"}`.
    #[inline]
    pub fn extend_text(&mut self, ascii: &[u8]) {
        debug_assert!(self.buffer.ends_with(b"\"}"));
        self.buffer.truncate(self.buffer.len() - 2);
        self.raw(ascii);
        self.raw(b"\"}");
        self.count(ascii.len());
    }

    /// Writes over what was written before, byte by byte.
    #[inline]
    pub fn overwrite(&mut self, at: usize, bytes: &[u8]) {
        self.buffer[at..at + bytes.len()].copy_from_slice(bytes);
    }

    /// JSON text without quotes; counts nothing.
    #[inline]
    pub fn escaped(&mut self, text: &str) {
        escape_into(&mut self.buffer, text.as_bytes());
    }
}

/// Whether a byte must be escaped in JSON text.
const ESCAPE: [bool; 256] = {
    let mut table = [false; 256];
    let mut byte = 0;
    while byte < 0x20 {
        table[byte] = true;
        byte += 1;
    }
    table[b'"' as usize] = true;
    table[b'\\' as usize] = true;
    table
};

/// Finds the first byte to escape. Most text has none, so whole blocks are looked at first, which the compiler turns into
/// vector instructions.
#[inline]
fn first_escape(text: &[u8]) -> Option<usize> {
    let (blocks, _rest) = text.as_chunks::<16>();
    let clean = |block: &[u8; 16]| {
        !block.iter().fold(false, |any, &byte| any | (byte < 0x20) | (byte == b'"') | (byte == b'\\'))
    };
    let skipped = 16 * blocks.iter().take_while(|block| clean(block)).count();
    text[skipped..].iter().position(|&byte| ESCAPE[byte as usize]).map(|at| skipped + at)
}

fn escape_into(buffer: &mut Vec<u8>, text: &[u8]) {
    let mut rest = text;
    while let Some(at) = first_escape(rest) {
        buffer.extend_from_slice(&rest[..at]);
        match rest[at] {
            b'"' => buffer.extend_from_slice(b"\\\""),
            b'\\' => buffer.extend_from_slice(b"\\\\"),
            b'\n' => buffer.extend_from_slice(b"\\n"),
            b'\r' => buffer.extend_from_slice(b"\\r"),
            b'\t' => buffer.extend_from_slice(b"\\t"),
            control => {
                const HEX: &[u8; 16] = b"0123456789abcdef";
                buffer.extend_from_slice(b"\\u00");
                buffer.push(HEX[(control >> 4) as usize]);
                buffer.push(HEX[(control & 15) as usize]);
            }
        }
        rest = &rest[at + 1..];
    }
    buffer.extend_from_slice(rest);
}

/// A text as it stands in JSON, without quotes.
pub fn escaped(text: &str) -> Box<[u8]> {
    let mut json = Vec::with_capacity(text.len());
    escape_into(&mut json, text.as_bytes());
    json.into_boxed_slice()
}

/// A name as JSON text with quotes and a colon: `"name":`.
pub fn name_json(name: &str) -> Box<[u8]> {
    let mut json = Vec::with_capacity(name.len() + 3);
    json.push(b'"');
    escape_into(&mut json, name.as_bytes());
    json.extend_from_slice(b"\":");
    json.into_boxed_slice()
}

/// DynamoDB's size of a number, from its text: a byte for every two digits, counted from the point to both sides, without
/// the zeros at either end; one more, and one for a minus.
#[inline]
pub fn number_size(text: &[u8]) -> usize {
    let (sign, digits) = match text {
        [b'-', digits @ ..] => (1, digits),
        digits => (0, digits),
    };
    // An exponent is among the last five bytes: `e-130`.
    let tail = digits.len().saturating_sub(5);
    let exponent = digits[tail..].iter().position(|byte| matches!(byte, b'e' | b'E'));
    let (digits, exponent) = match exponent {
        None => (digits, 0),
        Some(at) => (&digits[..tail + at], exponent_of(&digits[tail + at + 1..])),
    };
    let whole = digits.iter().position(|byte| *byte == b'.').unwrap_or(digits.len());
    // From both ends, because digits that count have only a few others around them.
    let mut significant = digits;
    while let [b'0' | b'.', rest @ ..] = significant {
        significant = rest;
    }
    let skipped = digits.len() - significant.len();
    while let [rest @ .., b'0' | b'.'] = significant {
        significant = rest;
    }
    if significant.is_empty() {
        return 1;
    }
    let end = skipped + significant.len();
    let has_point = (skipped..end).contains(&whole);
    let count = significant.len() - usize::from(has_point);
    // Digits before the point, where the first significant one is not behind it; both are at most as long as the text.
    let before_point = whole as i64 - (skipped - usize::from(skipped > whole)) as i64 + exponent;
    let before_point = before_point.clamp(0, count as i64) as usize;
    before_point.div_ceil(2) + (count - before_point).div_ceil(2) + 1 + sign
}

/// Reads `+126`; digits only come from a number's own text.
fn exponent_of(text: &[u8]) -> i64 {
    let (negative, digits) = match text {
        [b'-', digits @ ..] => (true, digits),
        [b'+', digits @ ..] => (false, digits),
        digits => (false, digits),
    };
    let exponent = digits.iter().fold(0, |exponent, digit| exponent * 10 + i64::from(digit.wrapping_sub(b'0')));
    if negative { -exponent } else { exponent }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(write: impl FnOnce(&mut ItemWriter)) -> (String, usize) {
        let mut writer = ItemWriter::default();
        write(&mut writer);
        let bytes = writer.item_bytes();
        (String::from_utf8(writer.into_buffer()).unwrap(), bytes)
    }

    #[test]
    fn text_is_escaped_as_json_and_counted_in_utf8() {
        let (json, bytes) = written(|w| w.text("a\"\\\n\u{1}é"));
        assert_eq!(json, "{\"S\":\"a\\\"\\\\\\n\\u0001é\"}");
        assert_eq!(bytes, 7);
        let parsed: serde_json::Value = serde_json::from_str(&json).unwrap();
        assert_eq!(parsed["S"], "a\"\\\n\u{1}é");
    }

    #[test]
    fn every_byte_that_json_forbids_is_escaped_wherever_it_stands() {
        for character in (0u8..0x80).map(char::from) {
            for before in 0..40 {
                let text = format!("{}{character}{}", "a".repeat(before), "b".repeat(40 - before));
                let (json, _) = written(|w| w.text(&text));
                let parsed: serde_json::Value = serde_json::from_str(&json).unwrap();
                assert_eq!(parsed["S"], text);
            }
        }
    }

    #[test]
    fn numbers_cost_a_byte_for_two_digits() {
        for (text, bytes) in [
            ("0", 1),
            ("5", 2),
            ("12", 2),
            ("123", 3),
            ("-12", 3),
            ("1200", 2),
            ("0.0012", 2),
            ("1.5e-7", 2),
            ("-1.25e+100", 4),
            ("100.5", 4),
            ("10.5", 3),
            ("-0.5", 3),
            ("-0", 1),
            ("1.23e2", 3),
            ("0.012e1", 2),
            ("0.0", 1),
            ("1e126", 2),
            ("10e5", 2),
        ] {
            assert_eq!(number_size(text.as_bytes()), bytes, "{text}");
        }
    }

    #[test]
    fn binary_is_padded_base64() {
        for (bytes, text) in [(&b""[..], ""), (b"a", "YQ=="), (b"ab", "YWI="), (b"abc", "YWJj")] {
            assert_eq!(written(|w| w.binary(bytes)).0, format!("{{\"B\":\"{text}\"}}"));
        }
    }

    #[test]
    fn a_rewound_value_leaves_no_trace() {
        let mut writer = ItemWriter::default();
        writer.text("keep");
        let mark = writer.mark();
        writer.integer(17);
        writer.rewind(mark);
        assert_eq!((writer.as_slice(), writer.item_bytes()), (&b"{\"S\":\"keep\"}"[..], 4));
    }
}
