//! Reads the texts that scalars are stored as: DynamoDB's numbers, dates and times.
//!
//! Pure parsing, exact or refused: nothing is rounded but floats, which by nature are.

/// A decimal number, exact, in one form: no trailing zeros in `digits`, and zero is `(false, 0, 0)`.
///
/// Two texts of one number (`1`, `1.0`, `1E0`) are equal as `Number`s, as they are equal to DynamoDB.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Number {
    negative: bool,
    digits: u128,
    exponent: i32,
}

impl Number {
    /// Reads `-12.50`, `1E+2`, `.5`; `None` for anything else and for more than 38 significant digits.
    pub fn parse(text: &str) -> Option<Self> {
        let (mantissa, exponent) = match text.split_once(['e', 'E']) {
            Some((mantissa, exponent)) => (mantissa, exponent.parse::<i32>().ok()?),
            None => (text, 0),
        };
        let (negative, mantissa) = match mantissa.strip_prefix('-') {
            Some(rest) => (true, rest),
            None => (false, mantissa.strip_prefix('+').unwrap_or(mantissa)),
        };
        let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
        if whole.is_empty() && fraction.is_empty() {
            return None;
        }
        let (mut digits, mut trailing_zeros, mut significant) = (0u128, 0i32, 0usize);
        for byte in whole.bytes().chain(fraction.bytes()) {
            match byte {
                b'0' => trailing_zeros += 1,
                b'1'..=b'9' => {
                    let gap = if digits == 0 { 0 } else { trailing_zeros as usize };
                    significant += gap + 1;
                    if significant > crate::limits::NUMBER_MAX_DIGITS {
                        return None;
                    }
                    // 38 digits fit in a u128, so neither factor nor sum can overflow.
                    digits = digits * 10u128.pow(gap as u32 + 1) + u128::from(byte - b'0');
                    trailing_zeros = 0;
                }
                _ => return None,
            }
        }
        if digits == 0 {
            return Some(Self { negative: false, digits: 0, exponent: 0 });
        }
        let fraction_digits = i32::try_from(fraction.len()).ok()?;
        let exponent = exponent.checked_sub(fraction_digits)?.checked_add(trailing_zeros)?;
        Some(Self { negative, digits, exponent })
    }

    /// The number as an integer, if it is one that fits.
    pub fn to_integer<T: TryFrom<i128>>(self) -> Option<T> {
        let scale = 10u128.checked_pow(u32::try_from(self.exponent).ok()?)?;
        let magnitude = i128::try_from(self.digits.checked_mul(scale)?).ok()?;
        T::try_from(if self.negative { -magnitude } else { magnitude }).ok()
    }

    /// The plain text of the number as a `decimal(precision, scale)`, trailing zeros restored, if it is one exactly.
    pub fn to_decimal(self, precision: u8, scale: i8) -> Option<String> {
        let shift = u32::try_from(self.exponent.checked_add(i32::from(scale))?).ok();
        let unscaled = match (self.digits, shift) {
            (0, _) => "0".to_owned(),
            (digits, shift) => digits.checked_mul(10u128.checked_pow(shift?)?)?.to_string(),
        };
        if unscaled.len() > usize::from(precision) {
            return None;
        }
        let sign = if self.negative { "-" } else { "" };
        Some(match usize::try_from(scale) {
            Ok(0) => format!("{sign}{unscaled}"),
            Ok(scale) => {
                let padded = format!("{unscaled:0>width$}", width = scale + 1);
                let (whole, fraction) = padded.split_at(padded.len() - scale);
                format!("{sign}{whole}.{fraction}")
            }
            Err(_) if self.digits == 0 => "0".to_owned(),
            Err(_) => format!("{sign}{unscaled}{}", "0".repeat(usize::from(scale.unsigned_abs()))),
        })
    }
}

/// Seconds in a day.
pub(super) const SECONDS_PER_DAY: i64 = 86_400;
/// Microseconds in a second.
pub(super) const MICROS_PER_SECOND: i64 = 1_000_000;

/// Days since the epoch of `YYYY-MM-DD`.
pub(super) fn date_days(text: &str) -> Option<i32> {
    let bytes = text.as_bytes();
    if bytes.len() != 10 || bytes[4] != b'-' || bytes[7] != b'-' {
        return None;
    }
    let (year, month, day) = (digits(&bytes[..4])?, u32::try_from(digits(&bytes[5..7])?).ok()?, digits(&bytes[8..])?);
    let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let month_days = match month {
        1 | 3 | 5 | 7 | 8 | 10 | 12 => 31,
        4 | 6 | 9 | 11 => 30,
        2 if leap => 29,
        2 => 28,
        _ => return None,
    };
    if !(1..=month_days).contains(&day) {
        return None;
    }
    // Years start in March, so that the leap day is the last; 719,468 days lie between 0000-03-01 and the epoch.
    let year = if month > 2 { year } else { year - 1 };
    let (era, year_of_era) = (year.div_euclid(400), year.rem_euclid(400));
    let day_of_year = (153 * i64::from((month + 9) % 12) + 2) / 5 + day - 1;
    let days = era * 146_097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year - 719_468;
    i32::try_from(days).ok()
}

/// Microseconds since the epoch of `YYYY-MM-DDTHH:MM:SS`, with up to six digits of fraction and without a zone.
pub(super) fn wall_clock_micros(text: &str) -> Option<i64> {
    let (date, time) = text.split_once('T')?;
    let days = i64::from(date_days(date)?);
    let (time, fraction) = match time.split_once('.') {
        Some((time, fraction)) if (1..=6).contains(&fraction.len()) => (time, fraction),
        Some(_) => return None,
        None => (time, ""),
    };
    let bytes = time.as_bytes();
    if bytes.len() != 8 || bytes[2] != b':' || bytes[5] != b':' {
        return None;
    }
    let (hour, minute, second) = (digits(&bytes[..2])?, digits(&bytes[3..5])?, digits(&bytes[6..])?);
    if hour > 23 || minute > 59 || second > 59 {
        return None;
    }
    let micros = digits(fraction.as_bytes())? * 10i64.pow(6 - fraction.len() as u32);
    let seconds = days * SECONDS_PER_DAY + hour * 3600 + minute * 60 + second;
    seconds.checked_mul(MICROS_PER_SECOND)?.checked_add(micros)
}

/// Microseconds since the epoch of a UTC time: as [`wall_clock_micros`], with a trailing `Z`.
pub(super) fn utc_micros(text: &str) -> Option<i64> {
    wall_clock_micros(text.strip_suffix('Z')?)
}

/// The value of at most 18 ASCII digits; 0 for none.
fn digits(bytes: &[u8]) -> Option<i64> {
    bytes.iter().try_fold(0i64, |value, byte| byte.is_ascii_digit().then(|| value * 10 + i64::from(byte - b'0')))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decimal(text: &str, precision: u8, scale: i8) -> Option<String> {
        Number::parse(text)?.to_decimal(precision, scale)
    }

    #[test]
    fn all_texts_of_a_number_are_one_number() {
        let one_hundred = Number::parse("100").unwrap();
        for text in ["1E2", "1e+2", "100.0", "+100", "0100.00", "10000E-2", "1.00E+2"] {
            assert_eq!(Number::parse(text), Some(one_hundred), "{text}");
        }
        for text in ["0", "-0", "0.000", "0E+10", "-0.0"] {
            assert_eq!(Number::parse(text), Number::parse("0"), "{text}");
        }
    }

    #[test]
    fn what_is_no_number_is_refused() {
        for text in ["", "-", ".", "1.2.3", "1E", "E5", "NaN", "1 ", "0x10", "--1", "1E9999999999", "+-1"] {
            assert_eq!(Number::parse(text), None, "{text}");
        }
        assert!(Number::parse(&"9".repeat(38)).is_some());
        assert!(Number::parse(&"9".repeat(39)).is_none());
        assert!(Number::parse(&format!("1{}", "0".repeat(120))).is_some());
    }

    #[test]
    fn integers_are_exact_and_within_their_width() {
        assert_eq!(Number::parse("-128").unwrap().to_integer::<i8>(), Some(-128));
        assert_eq!(Number::parse("128").unwrap().to_integer::<i8>(), None);
        assert_eq!(Number::parse("9223372036854775807").unwrap().to_integer::<i64>(), Some(i64::MAX));
        assert_eq!(Number::parse("-9223372036854775808").unwrap().to_integer::<i64>(), Some(i64::MIN));
        assert_eq!(Number::parse("9223372036854775808").unwrap().to_integer::<i64>(), None);
        assert_eq!(Number::parse("1.5").unwrap().to_integer::<i64>(), None);
        assert_eq!(Number::parse("1E+3").unwrap().to_integer::<i64>(), Some(1000));
        assert_eq!(Number::parse("1E+125").unwrap().to_integer::<i64>(), None);
    }

    #[test]
    fn decimals_get_their_trailing_zeros_back() {
        for (stored, precision, scale, expected) in [
            ("12.5", 10, 2, Some("12.50")),
            ("-12.5", 10, 2, Some("-12.50")),
            ("0", 10, 2, Some("0.00")),
            ("0.01", 10, 2, Some("0.01")),
            ("1E-2", 10, 2, Some("0.01")),
            ("7", 10, 0, Some("7")),
            ("1E+3", 10, 2, Some("1000.00")),
            ("12300", 5, -2, Some("12300")),
            ("1.23E+4", 5, -2, Some("12300")),
            ("0", 5, -2, Some("0")),
            ("12.345", 10, 2, None),
            ("12350", 5, -2, None),
            ("123456", 5, 0, None),
            ("1000", 5, 2, None),
        ] {
            let restored = decimal(stored, precision, scale);
            assert_eq!(restored.as_deref(), expected, "{stored} as decimal({precision},{scale})");
        }
        assert_eq!(decimal(&"9".repeat(38), 38, 0), Some("9".repeat(38)));
    }

    #[test]
    fn dates_are_right_before_1970_and_in_leap_years() {
        for (text, days) in [
            ("1970-01-01", Some(0)),
            ("1969-12-31", Some(-1)),
            ("2000-02-29", Some(11_016)),
            ("0001-01-01", Some(-719_162)),
            ("9999-12-31", Some(2_932_896)),
            ("1900-02-29", None),
            ("2023-02-29", None),
            ("2023-13-01", None),
            ("2023-00-10", None),
            ("2023-04-31", None),
            ("2023-4-01", None),
            ("20230401", None),
            ("2023-04-0é", None),
        ] {
            assert_eq!(date_days(text), days, "{text}");
        }
    }

    #[test]
    fn times_keep_their_microseconds() {
        assert_eq!(wall_clock_micros("1970-01-01T00:00:00.000001"), Some(1));
        assert_eq!(wall_clock_micros("1969-12-31T23:59:59.999999"), Some(-1));
        assert_eq!(wall_clock_micros("2024-02-29T12:34:56.5"), Some(1_709_210_096_500_000));
        assert_eq!(utc_micros("2024-02-29T12:34:56Z"), Some(1_709_210_096_000_000));
        assert_eq!(utc_micros("2024-02-29T12:34:56.500000"), None, "no zone");
        for text in [
            "2024-02-29",
            "2024-02-29T24:00:00",
            "2024-02-29T12:60:00",
            "2024-02-29T12:00:00.",
            "2024-02-29T12:00:00.1234567",
            "2024-02-29T12:00:00Z",
        ] {
            assert_eq!(wall_clock_micros(text), None, "{text}");
        }
    }
}
