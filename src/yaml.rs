//! YAML files that people write: read strictly, and every error one sentence with file, line, key and what was expected.
//!
//! Callers: the configuration file of `serve`, the access file, the table files of `forebay tables apply`.

use std::time::{Duration, SystemTime};

use serde::de::{DeserializeOwned, Error as _};
use serde::{Deserialize, Deserializer, Serializer};

/// What is wrong with a YAML file, and where.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{file}{}: {problem}{}", line_text(*line), if expected.is_empty() { String::new() } else { format!("; expected {expected}") })]
pub struct YamlError {
    /// The file, as the user named it.
    pub file: String,
    /// The line, from 1, where it is known.
    pub line: Option<u64>,
    /// What is wrong: "unknown key `foo`".
    pub problem: String,
    /// What was expected; may be empty.
    pub expected: String,
}

/// A value, and the line that it is on: for what can only be judged when all of the file is known.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Lined<T> {
    /// The value.
    pub value: T,
    /// From 1, where it is known.
    pub line: Option<u64>,
}

impl<T> Lined<T> {
    /// This value is wrong, for this reason.
    pub fn wrong(&self, file: &str, problem: impl Into<String>, expected: impl Into<String>) -> YamlError {
        YamlError { file: file.to_owned(), line: self.line, problem: problem.into(), expected: expected.into() }
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Lined<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let serde_saphyr::Spanned { value, referenced, .. } = serde_saphyr::Spanned::deserialize(deserializer)?;
        Ok(Self { value, line: Some(referenced.line()).filter(|line| *line > 0) })
    }
}

fn line_text(line: Option<u64>) -> String {
    line.map_or(String::new(), |line| format!(":{line}"))
}

/// Reads a file's text that is one YAML document.
pub fn document<T: DeserializeOwned>(file: &str, text: &str) -> Result<T, YamlError> {
    serde_saphyr::from_str(text).map_err(|error| explain(file, text, &error))
}

/// Reads a file's text that is any number of YAML documents, separated by `---`.
pub fn documents<T: DeserializeOwned>(file: &str, text: &str) -> Result<Vec<T>, YamlError> {
    serde_saphyr::from_multiple(text).map_err(|error| explain(file, text, &error))
}

/// Turns a parser's error into ours.
fn explain(file: &str, text: &str, error: &serde_saphyr::Error) -> YamlError {
    use serde_saphyr::Error;
    let error = error.without_snippet();
    let location = error.location().filter(|location| location.line() > 0);
    let line = location.as_ref().map(serde_saphyr::Location::line);
    let key = location.as_ref().and_then(|at| key_before(text, at.line(), at.column()));
    let of_key = key.map_or(String::new(), |key| format!(" for `{key}`"));
    let (problem, expected) = match error {
        Error::SerdeUnknownField { field, expected, .. } => (format!("unknown key `{field}`"), one_of(expected)),
        Error::SerdeUnknownVariant { variant, expected, .. } => {
            (format!("unknown value `{variant}`{of_key}"), one_of(expected))
        }
        Error::SerdeMissingField { field, .. } => (format!("the key `{field}` is missing"), String::new()),
        Error::DuplicateMappingKey { key: Some(key), .. } => (format!("the key `{key}` is there twice"), String::new()),
        Error::SerdeInvalidType { unexpected, expected, .. }
        | Error::SerdeInvalidValue { unexpected, expected, .. } => {
            (format!("wrong value{of_key}: {unexpected}"), expected.clone())
        }
        Error::SerdeInvalidLength { len, expected, .. } => {
            (format!("wrong number of values{of_key}: {len}"), expected.clone())
        }
        Error::InvalidScalar { ty, .. } => (format!("wrong value{of_key}"), plain(ty)),
        Error::InvalidBooleanStrict { .. } => (format!("wrong value{of_key}"), "true or false".to_owned()),
        Error::Unexpected { expected, .. } => (format!("wrong value{of_key}"), plain(expected)),
        Error::Message { msg, .. } => (format!("wrong value{of_key}: {msg}"), String::new()),
        Error::MultipleDocuments { .. } => ("more than one YAML document (`---`)".to_owned(), "one".to_owned()),
        Error::Eof { .. } => ("the file ends too early".to_owned(), String::new()),
        other => {
            let text = other.to_string();
            let first = text.lines().next().unwrap_or_default();
            let first = first.trim_start_matches("error: ").trim_start_matches(|c: char| {
                c.is_ascii_digit() || c == ':' || c == ' ' // "line 3 column 4: " in some of the parser's texts
            });
            (format!("not valid YAML: {first}"), String::new())
        }
    };
    YamlError { file: file.to_owned(), line, problem, expected }
}

/// The last key before a position on its line: the one whose value is meant.
fn key_before(text: &str, line: u64, column: u64) -> Option<&str> {
    let line = text.lines().nth(usize::try_from(line).ok()?.checked_sub(1)?)?;
    let column = usize::try_from(column).unwrap_or(usize::MAX);
    let end = line.char_indices().nth(column).map_or(line.len(), |(at, _)| at);
    let colon = line[..end].rfind(": ").or_else(|| line[..end].strip_suffix(':').map(str::len))?;
    let start = line[..colon].rfind(|c: char| c.is_whitespace() || "{,[".contains(c)).map_or(0, |at| at + 1);
    Some(line[start..colon].trim_matches(['"', '\'', '`'])).filter(|key| !key.is_empty())
}

/// The parser's and Rust's names for kinds of values, in words.
fn plain(kind: &str) -> String {
    match kind {
        "u8" | "u16" | "u32" | "u64" | "usize" => "a whole number in range",
        "i8" | "i16" | "i32" | "i64" | "isize" => "an integer in range",
        "f32" | "f64" => "a number",
        "bool" | "boolean" => "true or false",
        "string scalar" | "scalar" => "a single value",
        "sequence start" => "a list",
        "mapping start" => "a mapping of keys to values",
        other => other,
    }
    .to_owned()
}

fn one_of(names: &[&str]) -> String {
    let names: Vec<_> = names.iter().map(|name| format!("`{name}`")).collect();
    match names.as_slice() {
        [] => "nothing".to_owned(),
        [name] => name.clone(),
        names => format!("one of {}", names.join(", ")),
    }
}

/// Durations as people write them: `500ms`, `30s`, `15m`, `12h`, `7d`. For `#[serde(with = "crate::yaml::duration")]`.
pub mod duration {
    use super::*;

    const EXPECTED: &str = "a duration such as `500ms`, `30s`, `15m`, `12h` or `7d`";

    /// Reads a duration.
    pub fn parse(text: &str) -> Result<Duration, String> {
        let wrong = || format!("`{text}` is not {EXPECTED}");
        let digits = text.find(|c: char| !c.is_ascii_digit()).ok_or_else(wrong)?;
        let number: u64 = text[..digits].parse().map_err(|_| wrong())?;
        let millis = match text[digits..].trim_start() {
            "ms" => 1,
            "s" => 1_000,
            "m" => 60_000,
            "h" => 3_600_000,
            "d" => 86_400_000,
            _ => return Err(wrong()),
        };
        number.checked_mul(millis).map(Duration::from_millis).ok_or_else(wrong)
    }

    /// Writes a duration in the largest unit that is exact, to the millisecond.
    pub fn print(duration: Duration) -> String {
        let millis = duration.as_millis();
        let units = [(86_400_000, "d"), (3_600_000, "h"), (60_000, "m"), (1_000, "s")];
        match units.iter().find(|(size, _)| millis > 0 && millis.is_multiple_of(*size)) {
            Some((size, unit)) => format!("{}{unit}", millis / size),
            None => format!("{millis}ms"),
        }
    }

    /// For serde.
    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
        parse(&String::deserialize(deserializer)?).map_err(D::Error::custom)
    }

    /// For serde.
    pub fn serialize<S: Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&print(*duration))
    }
}

/// Moments as RFC 3339 writes them: `2027-01-01T00:00:00Z`, `2027-01-01T09:00:00+01:00`. For `#[serde(with =
/// "crate::yaml::moment")]`.
pub mod moment {
    use std::str::FromStr as _;

    use prost_types::Timestamp;

    use super::*;

    /// Reads a moment.
    pub fn parse(text: &str) -> Result<SystemTime, String> {
        // Without a zone it is another moment in another office.
        let clock = text.get(11..).unwrap_or_default();
        let has_zone = clock.ends_with(['Z', 'z']) || clock.contains(['+', '-']);
        let moment = Timestamp::from_str(text).ok().filter(|_| has_zone);
        moment.and_then(|moment| SystemTime::try_from(moment).ok()).ok_or_else(|| {
            format!("`{text}` is no moment; expected one such as `2027-01-01T00:00:00Z` or `2027-01-01T09:00:00+01:00`")
        })
    }

    /// Writes a moment, to the second.
    pub fn print(moment: SystemTime) -> String {
        Timestamp { nanos: 0, ..Timestamp::from(moment) }.to_string()
    }

    /// For serde.
    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<SystemTime, D::Error> {
        parse(&String::deserialize(deserializer)?).map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Example {
        #[allow(dead_code)]
        port: u16,
        #[serde(default)]
        #[allow(dead_code)]
        mode: Option<Mode>,
        #[serde(default, with = "duration")]
        #[allow(dead_code)]
        wait: Duration,
        #[serde(default)]
        #[allow(dead_code)]
        nested: Vec<u8>,
    }

    #[derive(Debug, Deserialize)]
    #[serde(rename_all = "snake_case")]
    enum Mode {
        On,
        Off,
    }

    fn refused(text: &str) -> String {
        document::<Example>("f.yaml", text).expect_err(text).to_string()
    }

    #[test]
    fn words_that_old_yaml_takes_for_booleans_are_words() {
        assert!(matches!(document::<Example>("f", "port: 1\nmode: off").unwrap().mode, Some(Mode::Off)));
        assert!(matches!(document::<Example>("f", "port: 1\nmode: on").unwrap().mode, Some(Mode::On)));
    }

    #[test]
    fn every_error_is_a_sentence_with_file_line_key_and_what_was_expected() {
        let cases = [
            ("port: 1\nprt: 2", "f.yaml:2: unknown key `prt`; expected one of `port`, `mode`, `wait`, `nested`"),
            ("port: 1\nmode: of", "f.yaml:2: unknown value `of` for `mode`; expected one of `on`, `off`"),
            ("mode: on", "f.yaml:1: the key `port` is missing"),
            ("port: 1\nport: 2", "f.yaml:2: the key `port` is there twice"),
            ("\nport: many", "f.yaml:2: wrong value for `port`; expected a whole number in range"),
            ("port: 70000", "f.yaml:1: wrong value for `port`; expected a whole number in range"),
            (
                "port: 1\nwait: 3 weeks",
                "f.yaml:2: wrong value for `wait`: `3 weeks` is not a duration such as `500ms`, `30s`, `15m`, `12h` or `7d`",
            ),
            ("port: 1\nnested: 7", "f.yaml:2: wrong value for `nested`; expected a list"),
        ];
        for (text, message) in cases {
            assert_eq!(refused(text), message, "{text}");
        }
        assert_eq!(refused("port: [1"), "f.yaml:1: wrong value for `port`; expected a single value");
        assert!(refused("port: 1\n\tmode: on").starts_with("f.yaml:1: not valid YAML: "));
        assert_eq!(refused(""), "f.yaml:1: the file ends too early");
    }

    #[test]
    fn moments_read_back_as_they_were_written_and_need_a_zone() {
        let new_year = SystemTime::UNIX_EPOCH + Duration::from_secs(1_798_761_600);
        for text in ["2027-01-01T00:00:00Z", "2027-01-01T09:30:00+09:30", "2026-12-31T19:00:00-05:00"] {
            assert_eq!(moment::parse(text), Ok(new_year), "{text}");
        }
        assert_eq!(moment::print(new_year + Duration::from_millis(999)), "2027-01-01T00:00:00Z");
        for bad in
            ["", "tomorrow", "2027-01-01", "2027-01-01T00:00:00", "2027-13-01T00:00:00Z", "2027-01-01T00:00:00+1"]
        {
            assert!(moment::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn durations_read_back_as_they_were_written() {
        for (text, millis) in
            [("500ms", 500), ("30s", 30_000), ("15m", 900_000), ("12h", 43_200_000), ("7d", 604_800_000)]
        {
            let duration = duration::parse(text).unwrap();
            assert_eq!((duration.as_millis(), duration::print(duration).as_str()), (millis, text));
        }
        assert_eq!(duration::print(Duration::ZERO), "0ms");
        assert!(duration::parse("7").is_err() && duration::parse("d").is_err() && duration::parse("-1s").is_err());
    }
}
