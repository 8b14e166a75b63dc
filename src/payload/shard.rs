//! Write shards: where among the places of its partition key a row is.
//!
//! The stored partition key of a table with write shards ends with `#` and two hexadecimal digits. They are calculated from
//! the text of the sort key's stored value, so whoever knows a row's key knows its place; and they are always there, so
//! that what was stored can be told from its suffix. The calculation is for ever: another one would not find the rows
//! that are stored. Callers: `plan` (writes, and keys of reads), `read_key`, `decode`.

use twox_hash::XxHash64;

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

/// The partition key of a stored one; `None` where it has no suffix.
pub fn strip(stored: &str) -> Option<&str> {
    let (partition, suffix) = stored.split_at_checked(stored.len().checked_sub(SUFFIX_BYTES)?)?;
    let digit = |byte: &u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
    matches!(suffix.as_bytes(), [b'#', digits @ ..] if digits.iter().all(digit)).then_some(partition)
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
            assert_eq!(strip(text), None, "{text}");
        }
        assert_eq!(strip("#00"), Some(""));
    }

    proptest! {
        #[test]
        fn a_stored_key_gives_its_partition_key_back(partition in ".{0,8}(#[0-9a-f]{2})?", place in any::<u8>()) {
            let stored = stored(&partition, place);
            prop_assert_eq!(strip(&stored), Some(partition.as_str()));
        }

        #[test]
        fn more_places_keep_a_row_or_move_it_up(sort_text in prop::collection::vec(any::<u8>(), 0..40), doublings in 0u32..8) {
            let (fewer, more) = (place(&sort_text, 1 << doublings), place(&sort_text, 2 << doublings));
            prop_assert!(u32::from(fewer) < 1 << doublings && u32::from(more) < 2 << doublings);
            prop_assert_eq!(u32::from(more) % (1 << doublings), u32::from(fewer));
        }
    }
}
