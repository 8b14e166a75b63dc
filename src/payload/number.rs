//! Exact decimals and the civil calendar: the arithmetic behind number, date and time columns.
//!
//! Pure functions. Decimals are an unscaled `i128` and a scale (digits after the point), which holds DynamoDB's 38 digits.

use smallvec::SmallVec;

use crate::limits::{NUMBER_MAX_DIGITS, NUMBER_MAX_EXPONENT, NUMBER_MIN_EXPONENT};

/// A decimal number: `unscaled * 10^-scale`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Decimal {
    /// The digits.
    pub unscaled: i128,
    /// How many of them stand after the point; negative: zeros that follow.
    pub scale: i32,
}

/// No number of any column has more digits after its point, or zeros before it: a double's smallest is 4.9E-324. It bounds
/// what the few bytes of an exponent can unfold to.
const SCALE_MAX: u32 = 400;

/// Years that the calendar's arithmetic is asked for: the dates of 32 bits of days, and more.
const YEAR_MAX: u64 = 10_000_000;

/// Microseconds in a day.
pub const MICROS_PER_DAY: i64 = 86_400_000_000;
/// Microseconds in a second.
pub const MICROS_PER_SECOND: i64 = 1_000_000;

impl Decimal {
    /// Reads `-12.50`, `1e3`, `.5`; `None` where the text is no number or has more than 38 significant digits.
    pub fn parse(text: &str) -> Option<Self> {
        Self::read(text, None)
    }

    /// As [`parse`](Self::parse), but rounded to a scale where the text has more digits, halves away from zero. Digits beyond the
    /// one that decides are not looked at, so that there may be any number of them.
    pub fn parse_rounded(text: &str, scale: i32) -> Option<Self> {
        Self::read(text, Some(scale))
    }

    fn read(text: &str, round_to: Option<i32>) -> Option<Self> {
        let (mantissa, exponent) = match text.find(['e', 'E']) {
            Some(at) => (&text[..at], text[at + 1..].parse::<i32>().ok()?),
            None => (text, 0),
        };
        let (negative, digits) = match mantissa.as_bytes().first()? {
            b'-' => (true, &mantissa[1..]),
            b'+' => (false, &mantissa[1..]),
            _ => (false, mantissa),
        };
        let round_to = round_to.map_or(i64::MAX, i64::from);
        // The scale of a number that ends with the digit at hand; before the point it counts up to 0.
        let mut at = -(digits.find('.').unwrap_or(digits.len()) as i64) - i64::from(exponent);
        let mut unscaled: i128 = 0;
        let (mut scale, mut shift, mut after_point, mut any, mut up) = (0i64, 0i32, false, false, false);
        for byte in digits.bytes() {
            match byte {
                b'.' if !after_point => after_point = true,
                b'0'..=b'9' => {
                    any = true;
                    at += 1;
                    if at > round_to {
                        up |= at == round_to + 1 && byte >= b'5';
                        continue;
                    }
                    // Zeros wait for a digit to follow them: a store may write 1E+90 as ninety of them.
                    shift += 1;
                    if byte != b'0' {
                        if unscaled != 0 {
                            unscaled = unscaled.checked_mul(power_of_ten(shift)?)?;
                        }
                        unscaled = unscaled.checked_add(i128::from(byte - b'0'))?;
                        (scale, shift) = (at, 0);
                    }
                }
                _ => return None,
            }
        }
        if !any {
            return None;
        }
        // However the exponent of zero is written, it is zero.
        let scale = i32::try_from(scale).ok().filter(|scale| scale.unsigned_abs() <= SCALE_MAX)?;
        let mut read = Self { unscaled, scale };
        if up {
            // Only a rounded number has digits to round by.
            read = read.rescale(i32::try_from(round_to).ok()?)?;
            read.unscaled = read.unscaled.checked_add(1)?;
        }
        Some(if negative { Self { unscaled: -read.unscaled, ..read } } else { read })
    }

    /// The same value with exactly this scale; `None` where digits would be lost or the value is too large.
    pub fn rescale(self, scale: i32) -> Option<Self> {
        if self.unscaled == 0 {
            return Some(Self { unscaled: 0, scale });
        }
        let shift = scale.checked_sub(self.scale)?;
        let unscaled = if shift >= 0 {
            self.unscaled.checked_mul(power_of_ten(shift)?)?
        } else {
            let divisor = power_of_ten(-shift)?;
            if self.unscaled % divisor != 0 {
                return None;
            }
            self.unscaled / divisor
        };
        Some(Self { unscaled, scale })
    }

    /// The same value without trailing zeros in its digits.
    pub fn normalized(self) -> Self {
        if self.unscaled == 0 {
            return Self { unscaled: 0, scale: 0 };
        }
        let Self { mut unscaled, mut scale } = self;
        while unscaled % 10 == 0 {
            unscaled /= 10;
            scale -= 1;
        }
        Self { unscaled, scale }
    }

    /// The value without its digits after the point, and whether it had none but zeros.
    pub fn truncated(self) -> Option<(i128, bool)> {
        if self.scale <= 0 {
            return Some((self.rescale(0)?.unscaled, true));
        }
        // A divisor that no `i128` holds is above every value.
        let Some(divisor) = power_of_ten(self.scale) else { return Some((0, self.unscaled == 0)) };
        Some((self.unscaled / divisor, self.unscaled % divisor == 0))
    }

    /// The value rounded to a scale, halves away from zero; `None` where it is too large.
    pub fn rounded_half_up(self, scale: i32) -> Option<Self> {
        let shift = self.scale.checked_sub(scale)?;
        if shift <= 0 {
            return self.rescale(scale);
        }
        let Some(divisor) = power_of_ten(shift) else { return Some(Self { unscaled: 0, scale }) };
        let (quotient, rest) = (self.unscaled / divisor, self.unscaled % divisor);
        // `2 * rest` could overflow; a half is compared from the other side.
        let up = rest.unsigned_abs() >= divisor.unsigned_abs() - rest.unsigned_abs();
        let unscaled = if up { quotient + self.unscaled.signum() } else { quotient };
        Some(Self { unscaled, scale })
    }

    /// Significant digits, at least 1.
    pub fn digits(self) -> u32 {
        self.unscaled.unsigned_abs().checked_ilog10().unwrap_or(0) + 1
    }

    /// Whether DynamoDB can hold the number exactly.
    pub fn fits_dynamodb(self) -> bool {
        let normalized = self.normalized();
        let leading = (normalized.digits() as i32 - 1).saturating_sub(normalized.scale);
        normalized.unscaled == 0
            || (normalized.digits() as usize <= NUMBER_MAX_DIGITS
                && (NUMBER_MIN_EXPONENT..=NUMBER_MAX_EXPONENT).contains(&leading))
    }

    /// The one canonical text of the value: no exponent, no trailing zeros after the point, no leading `+`.
    pub fn canonical_text(self) -> String {
        self.normalized().plain_text()
    }

    /// The text without exponent, with as many digits after the point as the scale says.
    pub fn plain_text(self) -> String {
        Plain::of(self).as_str().to_owned()
    }
}

/// A short ASCII text on the stack.
#[derive(Debug, Default)]
pub struct Plain(SmallVec<[u8; 96]>);

impl Plain {
    /// A decimal's text without exponent, with as many digits after the point as its scale says.
    pub fn of(value: Decimal) -> Self {
        let mut text = Self::default();
        if value.unscaled < 0 {
            text.0.push(b'-');
        }
        let mut buffer = itoa::Buffer::new();
        let digits = buffer.format(value.unscaled.unsigned_abs()).as_bytes();
        let zeros = |text: &mut Self, count: usize| text.0.resize(text.0.len() + count, b'0');
        if value.scale <= 0 {
            text.0.extend_from_slice(digits);
            zeros(&mut text, if value.unscaled == 0 { 0 } else { value.scale.unsigned_abs() as usize });
            return text;
        }
        let scale = value.scale as usize;
        if digits.len() > scale {
            let (whole, fraction) = digits.split_at(digits.len() - scale);
            text.0.extend_from_slice(whole);
            text.0.push(b'.');
            text.0.extend_from_slice(fraction);
        } else {
            text.0.extend_from_slice(b"0.");
            zeros(&mut text, scale - digits.len());
            text.0.extend_from_slice(digits);
        }
        text
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        // Only ASCII, or a `str` as a whole, is ever written.
        std::str::from_utf8(&self.0).unwrap_or_default()
    }
}

impl std::fmt::Write for Plain {
    fn write_str(&mut self, text: &str) -> std::fmt::Result {
        self.0.extend_from_slice(text.as_bytes());
        Ok(())
    }
}

/// `10^exponent` where an `i128` holds it.
pub fn power_of_ten(exponent: i32) -> Option<i128> {
    u32::try_from(exponent).ok().and_then(|exponent| 10i128.checked_pow(exponent))
}

/// The shortest text that gives the same double back, in a form without `.0`; the value must be finite.
pub fn double_text(value: f64, buffer: &mut zmij::Buffer) -> &str {
    shortest(buffer.format_finite(value))
}

/// The shortest text that gives the same float back, in a form without `.0`; the value must be finite.
pub fn float_text(value: f32, buffer: &mut zmij::Buffer) -> &str {
    shortest(buffer.format_finite(value))
}

fn shortest(text: &str) -> &str {
    match text.strip_suffix(".0").unwrap_or(text) {
        "-0" => "0",
        other => other,
    }
}

/// A day of the proleptic Gregorian calendar: year, month 1 to 12, day 1 to 31.
pub fn civil_from_days(days: i64) -> (i64, u32, u32) {
    // Howard Hinnant's algorithm: eras of 400 years that start on 1 March of year 0.
    let shifted = days + 719_468;
    let era = shifted.div_euclid(146_097);
    let day_of_era = shifted.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = (day_of_year - (153 * shifted_month + 2) / 5 + 1) as u32;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 } as u32;
    (year_of_era + era * 400 + i64::from(month <= 2), month, day)
}

/// Days since 1970-01-01 of a civil day; `None` where there is no such day.
pub fn days_from_civil(year: i64, month: u32, day: u32) -> Option<i64> {
    if !(1..=12).contains(&month) || !(1..=31).contains(&day) || year.unsigned_abs() > YEAR_MAX {
        return None;
    }
    let shifted_year = year - i64::from(month <= 2);
    let era = shifted_year.div_euclid(400);
    let year_of_era = shifted_year.rem_euclid(400);
    let shifted_month = i64::from((month + 9) % 12);
    let day_of_year = (153 * shifted_month + 2) / 5 + i64::from(day) - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    let days = era * 146_097 + day_of_era - 719_468;
    (civil_from_days(days) == (year, month, day)).then_some(days)
}

/// `YYYY-MM-DD`; `None` outside the years 0 to 9999, whose text would not sort.
pub fn date_ascii(days: i64) -> Option<[u8; 10]> {
    let (year, month, day) = civil_from_days(days);
    if !(0..=9999).contains(&year) {
        return None;
    }
    let mut text = *b"0000-00-00";
    // In range, as was just seen.
    two_digits(&mut text[0..2], year as u32 / 100);
    two_digits(&mut text[2..4], year as u32 % 100);
    two_digits(&mut text[5..7], month);
    two_digits(&mut text[8..10], day);
    Some(text)
}

/// `YYYY-MM-DDTHH:MM:SS.ffffffZ`; `None` outside the years 0 to 9999. Without its last byte it has no zone.
pub fn timestamp_ascii(micros: i64) -> Option<[u8; 27]> {
    let mut text = *b"0000-00-00T00:00:00.000000Z";
    text[..10].copy_from_slice(&date_ascii(micros.div_euclid(MICROS_PER_DAY))?);
    let in_day = micros.rem_euclid(MICROS_PER_DAY);
    // Below 86,400 and 1,000,000.
    let (seconds, fraction) = ((in_day / MICROS_PER_SECOND) as u32, (in_day % MICROS_PER_SECOND) as u32);
    two_digits(&mut text[11..13], seconds / 3600);
    two_digits(&mut text[14..16], seconds / 60 % 60);
    two_digits(&mut text[17..19], seconds % 60);
    two_digits(&mut text[20..22], fraction / 10_000);
    two_digits(&mut text[22..24], fraction / 100 % 100);
    two_digits(&mut text[24..26], fraction % 100);
    Some(text)
}

/// Writes a number below 100.
fn two_digits(text: &mut [u8], number: u32) {
    text[0] = b'0' + (number / 10) as u8;
    text[1] = b'0' + (number % 10) as u8;
}

/// [`date_ascii`] as text.
pub fn date_text(days: i64) -> Option<String> {
    date_ascii(days).map(|text| String::from_utf8_lossy(&text).into_owned())
}

/// [`timestamp_ascii`] as text, without zone.
pub fn timestamp_text(micros: i64) -> Option<String> {
    timestamp_ascii(micros).map(|text| String::from_utf8_lossy(&text[..26]).into_owned())
}

/// Reads `YYYY-MM-DD`.
pub fn parse_date(text: &str) -> Option<i64> {
    let bytes = text.as_bytes();
    if bytes.len() != 10 || bytes[4] != b'-' || bytes[7] != b'-' {
        return None;
    }
    days_from_civil(i64::from(digits(&bytes[..4])?), digits(&bytes[5..7])?, digits(&bytes[8..])?)
}

/// Reads `YYYY-MM-DDTHH:MM:SS[.f{1,6}]`, also with a blank instead of the `T`; no zone.
pub fn parse_timestamp(text: &str) -> Option<i64> {
    let days = parse_date(text.get(..10)?)?;
    let bytes = text.as_bytes();
    if bytes.len() < 19 || !matches!(bytes[10], b'T' | b' ') || bytes[13] != b':' || bytes[16] != b':' {
        return None;
    }
    let (hour, minute, second) = (digits(&bytes[11..13])?, digits(&bytes[14..16])?, digits(&bytes[17..19])?);
    if hour > 23 || minute > 59 || second > 59 {
        return None;
    }
    let micros = match &bytes[19..] {
        [] => 0,
        [b'.', fraction @ ..] if (1..=6).contains(&fraction.len()) => {
            digits(fraction)? * 10u32.pow(6 - fraction.len() as u32)
        }
        _ => return None,
    };
    let seconds = i64::from(hour * 3600 + minute * 60 + second);
    days.checked_mul(MICROS_PER_DAY)?.checked_add(seconds * MICROS_PER_SECOND + i64::from(micros))
}

fn digits(text: &[u8]) -> Option<u32> {
    text.iter().try_fold(0u32, |number, byte| {
        byte.is_ascii_digit().then(|| number.checked_mul(10)?.checked_add(u32::from(byte - b'0')))?
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn decimals_are_read_and_written_exactly() {
        for (text, canonical) in
            [("12.50", "12.5"), ("-0.00", "0"), ("1e3", "1000"), (".5", "0.5"), ("100", "100"), ("-1.5E-3", "-0.0015")]
        {
            assert_eq!(Decimal::parse(text).unwrap().canonical_text(), canonical, "{text}");
        }
        for text in ["", "-", ".", "1.2.3", "1e", "abc", "1 ", "NaN", "--1", "+-1", "0x10", "1e9999999999"] {
            assert_eq!(Decimal::parse(text), None, "{text}");
        }
        let long = Decimal::parse(&format!("12{}", "0".repeat(89))).unwrap();
        assert_eq!(long.normalized(), Decimal { unscaled: 12, scale: -89 });
        assert_eq!(Decimal { unscaled: 5, scale: -2 }.plain_text(), "500");
    }

    #[test]
    fn an_exponent_of_a_few_bytes_unfolds_to_few_bytes() {
        for text in ["0e-2147483647", "-0e2147483647", "0.0e-999999999", "0e401"] {
            assert_eq!(Decimal::parse(text).unwrap().plain_text(), "0", "{text}");
        }
        assert_eq!(Decimal::parse("1e-401"), None);
    }

    #[test]
    fn rounding_while_reading_looks_at_the_one_digit_that_decides() {
        let (ones, twos, zeros) = ("1".repeat(38), "2".repeat(38), "0".repeat(40));
        for (text, scale, rounded) in [
            (format!("{ones}.9"), 0, format!("{}2", "1".repeat(37))),
            (format!("-{twos}.5"), 0, format!("-{}3", "2".repeat(37))),
            (format!("{twos}.4{}", "9".repeat(99)), 0, twos.clone()),
            (format!("1.{zeros}1"), 2, "1".to_owned()),
            (format!("1{}.5", "0".repeat(37)), 0, format!("1{}1", "0".repeat(36))),
            ("1.005".to_owned(), 2, "1.01".to_owned()),
            ("9.99".to_owned(), 1, "10".to_owned()),
            ("0.004".to_owned(), 2, "0".to_owned()),
            ("-0.5".to_owned(), 0, "-1".to_owned()),
            ("123456e-4".to_owned(), 1, "12.3".to_owned()),
            ("5e-1".to_owned(), 0, "1".to_owned()),
            ("5e-2147483648".to_owned(), 0, "0".to_owned()),
            ("1250".to_owned(), -2, "1300".to_owned()),
        ] {
            let read = Decimal::parse_rounded(&text, scale);
            assert_eq!(read.map(Decimal::canonical_text), Some(rounded), "{text}");
        }
        assert_eq!(Decimal::parse_rounded("1x", 0), None);
        assert_eq!(Decimal::parse_rounded("1.99x", 0), None);
    }

    #[test]
    fn dynamodb_takes_38_digits_from_1e_minus_130_to_10e125() {
        let digits_38 = "9".repeat(38);
        assert!(Decimal::parse(&digits_38).unwrap().fits_dynamodb());
        assert!(Decimal { unscaled: 1, scale: 130 }.fits_dynamodb());
        assert!(!Decimal { unscaled: 1, scale: 131 }.fits_dynamodb());
        assert!(Decimal { unscaled: 1, scale: -125 }.fits_dynamodb());
        assert!(!Decimal { unscaled: 1, scale: -126 }.fits_dynamodb());
        assert!(!Decimal { unscaled: i128::MAX, scale: 0 }.fits_dynamodb());
    }

    #[test]
    fn floats_take_their_shortest_text() {
        let mut buffer = zmij::Buffer::new();
        for (value, text) in [(0.1, "0.1"), (1.0, "1"), (-0.0, "0"), (1.5e300, "1.5e+300"), (1e-7, "1e-7")] {
            let written = double_text(value, &mut buffer).to_owned();
            assert_eq!(written.parse::<f64>().unwrap(), value);
            assert!(written.len() <= text.len(), "{written} is longer than {text}");
        }
        assert_eq!(float_text(0.1f32, &mut buffer), "0.1");
    }

    proptest! {
        #[test]
        fn a_date_survives_its_text(days in -719_528i64..2_932_896) {
            prop_assert_eq!(parse_date(&date_text(days).unwrap()), Some(days));
        }

        #[test]
        fn a_timestamp_survives_its_text(micros in -62_167_219_200_000_000i64..253_402_300_799_999_999) {
            prop_assert_eq!(parse_timestamp(&timestamp_text(micros).unwrap()), Some(micros));
        }

        #[test]
        fn rounding_while_reading_is_rounding_afterwards(unscaled in any::<i64>(), scale in -10i32..30, to in -12i32..32) {
            let text = Decimal { unscaled: i128::from(unscaled), scale }.plain_text();
            let afterwards = Decimal::parse(&text).unwrap().rounded_half_up(to).map(Decimal::normalized);
            let read = Decimal::parse_rounded(&text, to).map(Decimal::normalized);
            prop_assert!(afterwards.is_none() || read == afterwards, "{read:?} {afterwards:?}");
        }

        #[test]
        fn a_decimal_survives_its_text(unscaled in any::<i64>(), scale in -10i32..30) {
            let value = Decimal { unscaled: i128::from(unscaled), scale };
            prop_assert_eq!(Decimal::parse(&value.canonical_text()).unwrap().normalized(), value.normalized());
        }
    }
}
