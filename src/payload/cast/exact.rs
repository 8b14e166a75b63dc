//! Which decimals are exactly a binary float, and the other way round.
//!
//! A float is an integer times a power of two. A decimal is one where its denominator, a power of ten, loses all its fives,
//! and what is left of the digits fits the mantissa.

use crate::payload::number::Decimal;

/// Bits of a double's mantissa.
pub(super) const DOUBLE_BITS: u32 = 53;
/// Bits of a float's mantissa.
pub(super) const FLOAT_BITS: u32 = 24;

/// Whether a decimal of at most 38 digits, and of no exponent beyond a float's range, is exactly a float of so many bits.
pub(super) fn is_binary(decimal: Decimal, mantissa_bits: u32) -> bool {
    let Decimal { unscaled, scale } = decimal.normalized();
    if unscaled == 0 {
        return true;
    }
    let mut digits = unscaled.unsigned_abs();
    if scale > 0 {
        for _ in 0..scale {
            if digits % 5 != 0 {
                return false;
            }
            digits /= 5;
        }
    } else {
        digits >>= digits.trailing_zeros();
        for _ in 0..-scale {
            // What grows past the mantissa cannot shrink again: fives are odd.
            if digits >> mantissa_bits != 0 {
                return false;
            }
            digits *= 5;
        }
    }
    (digits >> digits.trailing_zeros()) >> mantissa_bits == 0
}

/// The decimal that a finite double exactly is; `None` where it has more than an `i128` holds.
pub(super) fn decimal_of(value: f64) -> Option<Decimal> {
    if value == 0.0 {
        return Some(Decimal { unscaled: 0, scale: 0 });
    }
    let bits = value.to_bits();
    let (biased, fraction) = ((bits >> 52) & 0x7ff, bits & ((1 << 52) - 1));
    let (mut mantissa, mut exponent) = match biased {
        0 => (fraction, -1074),
        // At most 11 bits, so that it fits.
        biased => (fraction | 1 << 52, biased as i32 - 1075),
    };
    // Not zero, so that there is a last bit.
    let zeros = mantissa.trailing_zeros();
    mantissa >>= zeros;
    exponent += zeros as i32;
    let magnitude = i128::from(mantissa);
    let (unscaled, scale) = match u32::try_from(exponent) {
        Ok(exponent) if exponent < magnitude.leading_zeros() - 1 => (magnitude << exponent, 0),
        Ok(_) => return None,
        // m / 2^k = m * 5^k / 10^k.
        Err(_) => (magnitude.checked_mul(5i128.checked_pow(exponent.unsigned_abs())?)?, -exponent),
    };
    Some(Decimal { unscaled: if value < 0.0 { -unscaled } else { unscaled }, scale })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn decimal(text: &str) -> Decimal {
        Decimal::parse(text).unwrap()
    }

    #[test]
    fn decimals_that_are_binary_fractions_are_exact() {
        for text in ["0", "0.5", "-0.375", "9007199254740992", "1e22", "123456.015625", "0.0009765625"] {
            assert!(is_binary(decimal(text), DOUBLE_BITS), "{text}");
        }
        for text in ["0.1", "9007199254740993", "1e23", "0.3", "-1.1"] {
            assert!(!is_binary(decimal(text), DOUBLE_BITS), "{text}");
        }
        assert!(is_binary(decimal("16777216"), FLOAT_BITS));
        assert!(!is_binary(decimal("16777217"), FLOAT_BITS));
    }

    proptest! {
        #[test]
        fn a_double_that_is_a_decimal_is_that_decimal(mantissa in -(1i64 << 53)..(1i64 << 53), exponent in -20i32..30) {
            let value = mantissa as f64 * 2f64.powi(exponent);
            if let Some(exact) = decimal_of(value) {
                prop_assert!(is_binary(exact, DOUBLE_BITS));
                prop_assert_eq!(exact.plain_text().parse::<f64>().unwrap(), value);
            }
        }

        #[test]
        fn a_decimal_is_binary_just_where_its_nearest_double_is_it(unscaled in any::<i32>(), scale in 0i32..9) {
            let decimal = Decimal { unscaled: unscaled.into(), scale };
            let nearest: f64 = decimal.plain_text().parse().unwrap();
            let same = decimal_of(nearest).is_some_and(|exact| exact.normalized() == decimal.normalized());
            prop_assert_eq!(is_binary(decimal, DOUBLE_BITS), same);
        }
    }
}
