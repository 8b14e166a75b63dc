//! Write shards: where among the places of its partition key a row is.
//!
//! The stored partition key of a table with write shards ends with `#` and two hexadecimal digits. They are calculated from
//! the text of the sort key's stored value, so whoever knows a row's key knows its place; and they are always there, so
//! that what was stored can be told from its suffix. The calculation is for ever: another one would not find the rows
//! that are stored. How many places a key has, [`ShardCounts`] says where the table has no fixed number. Callers: `plan`
//! (writes, and keys of reads), `read_key`, `decode`; the catalog makes the counts.

use hashbrown::HashMap;
use twox_hash::XxHash64;

use super::item;
use crate::limits::WRITE_SHARDS_MAX;

/// What the suffix takes of a key's length.
pub const SUFFIX_BYTES: usize = 3;

/// The place of a row among so many, which are a power of two and at most 256. `sort_text` is the stored value of the sort
/// key in DynamoDB's JSON: `{"N":"17"}`.
pub fn place(sort_text: &[u8], shards: u32) -> u8 {
    // XXH64 with the seed 0 is specified byte by byte, unlike the hashes of hash maps.
    (XxHash64::oneshot(0, sort_text) % u64::from(shards.clamp(1, 256))) as u8
}

/// How a place is written at the end of the key.
pub fn suffix(place: u8) -> [u8; SUFFIX_BYTES] {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    [b'#', HEX[usize::from(place >> 4)], HEX[usize::from(place & 15)]]
}

/// The stored form of a partition key at a place.
pub fn stored(partition: &str, place: u8) -> String {
    let mut stored = String::with_capacity(partition.len() + SUFFIX_BYTES);
    stored.push_str(partition);
    stored.extend(suffix(place).map(char::from));
    stored
}

/// The partition key and the place of a stored one; `None` where it has no suffix.
pub fn split(stored: &str) -> Option<(&str, u8)> {
    let (partition, suffix) = stored.split_at_checked(stored.len().checked_sub(SUFFIX_BYTES)?)?;
    let digits =
        suffix.strip_prefix('#').filter(|digits| digits.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')))?;
    Some((partition, u8::from_str_radix(digits, 16).ok()?))
}

/// The place among fewer that a place among more comes from; both numbers are powers of two.
pub fn place_among_fewer(place: u8, shards: u32) -> u8 {
    (u32::from(place) % shards.max(1)) as u8
}

/// How many places each partition key of an adaptive table has; one, if nothing else is known.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ShardCounts {
    /// By the key's text as it stands in JSON.
    by_key: HashMap<Box<[u8]>, u32, foldhash::fast::FixedState>,
    /// Of the keys that are not among them.
    others: Others,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Others {
    #[default]
    One,
    Most,
}

impl ShardCounts {
    /// The counts of these keys.
    pub fn new<'a>(counts: impl IntoIterator<Item = (&'a str, u32)>) -> Self {
        let by_key = counts.into_iter().map(|(key, shards)| (item::escaped(key), shards)).collect();
        Self { by_key, others: Others::One }
    }

    /// As many as there can be, for every key.
    pub fn most() -> Self {
        Self { others: Others::Most, ..Self::default() }
    }

    /// The places of a key.
    pub fn of(&self, key: &str) -> u32 {
        // Most tables have no hot key.
        if self.by_key.is_empty() { self.of_others() } else { self.of_json(&item::escaped(key)) }
    }

    /// The places of a key, given by its text as it stands in JSON.
    #[inline]
    pub fn of_json(&self, key: &[u8]) -> u32 {
        if self.by_key.is_empty() {
            return self.of_others();
        }
        self.by_key.get(key).copied().unwrap_or(self.of_others())
    }

    fn of_others(&self) -> u32 {
        match self.others {
            Others::One => 1,
            Others::Most => WRITE_SHARDS_MAX,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// These places are where rows are stored. If this test fails, the change is wrong, not the test.
    #[test]
    fn places_never_change() {
        // The algorithm's own test vectors.
        assert_eq!(XxHash64::oneshot(0, b""), 0xef46_db37_51d8_e999);
        assert_eq!(XxHash64::oneshot(0, b"abc"), 0x44bc_2cf5_ad77_0999);
        for (sort_text, expected) in [
            (r#"{"N":"0"}"#, [1, 1, 13, 109]),
            (r#"{"N":"1700000000123456"}"#, [1, 1, 1, 177]),
            (r#"{"N":"-1.5"}"#, [0, 0, 8, 40]),
            (r#"{"S":"2024-01-31"}"#, [1, 3, 11, 91]),
            (r#"{"S":"a\u0000b \"é\""}"#, [0, 2, 14, 254]),
            (r#"{"B":"AAEC"}"#, [1, 3, 15, 175]),
        ] {
            let places = [2, 4, 16, 256].map(|shards| place(sort_text.as_bytes(), shards));
            assert_eq!(places, expected, "{sort_text}");
        }
        assert_eq!((&suffix(0), &suffix(0x0a), &suffix(255)), (b"#00", b"#0a", b"#ff"));
    }

    #[test]
    fn rows_spread_evenly_over_their_places() {
        for shards in [2, 8, 256] {
            let mut rows = vec![0; shards as usize];
            for second in 0..64 * shards {
                let sort_text = format!(r#"{{"N":"{}"}}"#, 1_700_000_000_000_000_u64 + u64::from(second) * 1_000_000);
                rows[usize::from(place(sort_text.as_bytes(), shards))] += 1;
            }
            assert!(rows.iter().all(|rows| (32..112).contains(rows)), "{shards}: {rows:?}");
        }
    }

    #[test]
    fn what_has_no_suffix_is_no_stored_key() {
        for text in ["", "#0", "a#0", "a#0g", "a#0A", "a-00", "é00", "\u{1F600}"] {
            assert_eq!(split(text), None, "{text}");
        }
        assert_eq!(split("#00"), Some(("", 0)));
    }

    #[test]
    fn counts_are_found_by_the_key_and_by_its_text_in_json() {
        let counts = ShardCounts::new([("a\"\u{1}", 4), ("b", 2)]);
        assert_eq!((counts.of("a\"\u{1}"), counts.of_json(br#"a\"\u0001"#)), (4, 4));
        assert_eq!((counts.of("b"), counts.of_json(b"b"), counts.of("c")), (2, 2, 1));
        assert_eq!((ShardCounts::default().of("b"), ShardCounts::most().of_json(b"b")), (1, 256));
    }

    proptest! {
        #[test]
        fn a_stored_key_gives_its_partition_key_back(partition in ".{0,8}(#[0-9a-f]{2})?", place in any::<u8>()) {
            let stored = stored(&partition, place);
            prop_assert_eq!(split(&stored), Some((partition.as_str(), place)));
        }

        #[test]
        fn more_places_keep_a_row_or_move_it_up(sort_text in prop::collection::vec(any::<u8>(), 0..40), doublings in 0u32..8) {
            let (fewer, more) = (place(&sort_text, 1 << doublings), place(&sort_text, 2 << doublings));
            prop_assert!(u32::from(fewer) < 1 << doublings && u32::from(more) < 2 << doublings);
            prop_assert_eq!(place_among_fewer(more, 1 << doublings), fewer);
        }
    }
}
