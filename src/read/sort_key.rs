//! Sort keys in DynamoDB's own order: text and binaries by their bytes, numbers by value.
//!
//! Pure. What `range` merges by, and finds empty bounds with.

use std::cmp::Ordering;

use bytes::Bytes;

use crate::payload::number::Decimal;
use crate::store::Attr;

/// A sort key that compares as DynamoDB compares it. Those of one table are all of one kind.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum SortKey {
    Text(String),
    Number(Number),
    Bytes(Bytes),
}

impl SortKey {
    /// `None` for what no key is.
    pub(super) fn of(attr: &Attr) -> Option<Self> {
        Some(match attr {
            Attr::S(text) => Self::Text(text.clone()),
            Attr::N(number) => Self::Number(Number(Decimal::parse(number)?.normalized())),
            Attr::B(bytes) => Self::Bytes(bytes.clone()),
            _ => return None,
        })
    }
}

/// A normalized number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Number(Decimal);

impl Ord for Number {
    fn cmp(&self, other: &Self) -> Ordering {
        let (a, b) = (self.0, other.0);
        let signs = a.unscaled.signum().cmp(&b.unscaled.signum());
        if signs.is_ne() || a.unscaled == 0 {
            return signs;
        }
        // The exponents of the first digits tell most numbers apart.
        let leading = |number: Decimal| i64::from(number.digits()) - i64::from(number.scale);
        let magnitudes = leading(a).cmp(&leading(b)).then_with(|| {
            // Of two numbers that begin alike, the one with the smaller scale has fewer digits; zeros that make up for it
            // give it as many as the other has, so it fits as the other does.
            let scale = a.scale.max(b.scale);
            let digits = |number: Decimal| number.rescale(scale).unwrap_or(number).unscaled.unsigned_abs();
            digits(a).cmp(&digits(b))
        });
        if a.unscaled < 0 { magnitudes.reverse() } else { magnitudes }
    }
}

impl PartialOrd for Number {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn number(text: &str) -> SortKey {
        SortKey::of(&Attr::N(text.into())).unwrap()
    }

    #[test]
    fn numbers_of_every_size_are_in_order() {
        let nines = "9".repeat(38);
        let negative_nines = format!("-{nines}");
        let ascending = [
            "-9.9E+125",
            "-1E+38",
            &negative_nines,
            "-1E+30",
            "-12.5",
            "-12",
            "-1E-130",
            "0",
            "1E-130",
            "0.001",
            "0.0011",
            "12",
            "12.5",
            "1000",
            "1E+30",
            &nines,
            "1E+38",
            "9.9E+125",
        ];
        for pair in ascending.windows(2) {
            assert!(number(pair[0]) < number(pair[1]), "{pair:?}");
        }
        assert_eq!(number("1"), number("1.00"));
        assert_eq!(number("100"), number("1E+2"));
        assert_eq!(number("-0.0"), number("0"));
    }

    proptest! {
        #[test]
        fn numbers_compare_as_their_values(a in any::<i64>(), b in any::<i64>(), a_scale in 0usize..3, b_scale in 0usize..3) {
            // In thousandths, by integers.
            let text = |value: i64, scale: usize| format!("{value}E-{scale}");
            let thousandths = |value: i64, scale: usize| i128::from(value) * 10_i128.pow(3 - scale as u32);
            let expected = thousandths(a, a_scale).cmp(&thousandths(b, b_scale));
            prop_assert_eq!(number(&text(a, a_scale)).cmp(&number(&text(b, b_scale))), expected);
        }

        #[test]
        fn texts_compare_as_their_bytes(a in ".{0,5}", b in ".{0,5}") {
            let key = |text: &String| SortKey::of(&Attr::S(text.clone()));
            prop_assert_eq!(key(&a).cmp(&key(&b)), a.as_bytes().cmp(b.as_bytes()));
        }
    }
}
