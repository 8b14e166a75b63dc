//! Spark SQL DDL: `id STRING NOT NULL, score DOUBLE COMMENT 'risk', s STRUCT<a: INT NOT NULL, b: ARRAY<DOUBLE>>`.
//!
//! The grammar is Spark's column list, case-insensitive, with its type aliases. Two additions let a printed schema carry
//! everything a [`Schema`] has: `NOT NULL` inside `ARRAY<...>` and `MAP<...>` (Flink writes it so), and
//! `OPTIONS (as_set = true)` after a column for its storage choices. [`print()`] then [`parse`] is the identity.
//! Callers: `api::convert`, the CLI, and `spark_json` for types written as text.

use super::types::{ColumnOptions, DataType, Field, NonFinite, Schema, TimeEncoding};
use crate::limits::NESTING_MAX_LEVELS;

/// What is wrong with a DDL text, and where.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line}, column {column}: {message}")]
pub struct DdlError {
    /// The line, from 1.
    pub line: usize,
    /// The character in the line, from 1.
    pub column: usize,
    /// What was found and what was expected.
    pub message: String,
}

/// Reads a column list.
pub fn parse(text: &str) -> Result<Schema, DdlError> {
    let mut parser = Parser::new(text);
    let mut fields = vec![parser.field("a column name", 0)?];
    while parser.eat(',') {
        fields.push(parser.field("a column name", 0)?);
    }
    parser.end("`,` or the end")?;
    Ok(Schema { fields })
}

/// Reads a single type, such as `array<int>`.
pub fn parse_type(text: &str) -> Result<DataType, DdlError> {
    let mut parser = Parser::new(text);
    let data_type = parser.data_type(0)?;
    parser.end("the end")?;
    Ok(data_type)
}

/// Writes a schema on one line.
pub fn print(schema: &Schema) -> String {
    print_separated(schema, ", ")
}

/// Writes a schema with a line for each column.
pub fn print_lines(schema: &Schema) -> String {
    print_separated(schema, ",\n")
}

fn print_separated(schema: &Schema, separator: &str) -> String {
    let mut out = String::new();
    for (i, field) in schema.fields.iter().enumerate() {
        if i > 0 {
            out.push_str(separator);
        }
        print_field(&mut out, field, " ");
    }
    out
}

fn print_field(out: &mut String, field: &Field, separator: &str) {
    print_name(out, &field.name);
    out.push_str(separator);
    print_type(out, &field.data_type);
    if !field.nullable {
        out.push_str(" NOT NULL");
    }
    if !field.comment.is_empty() {
        out.push_str(" COMMENT ");
        print_text(out, &field.comment);
    }
    print_options(out, &field.options);
}

fn print_name(out: &mut String, name: &str) {
    let plain = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_') && name.chars().all(is_word);
    if plain {
        out.push_str(name);
    } else {
        out.push('`');
        out.push_str(&name.replace('`', "``"));
        out.push('`');
    }
}

fn print_text(out: &mut String, text: &str) {
    out.push('\'');
    for c in text.chars() {
        match c {
            '\'' | '\\' => out.extend(['\\', c]),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            c => out.push(c),
        }
    }
    out.push('\'');
}

fn print_type(out: &mut String, data_type: &DataType) {
    match data_type {
        DataType::Array { element, contains_null } => {
            out.push_str("ARRAY<");
            print_type(out, element);
            out.push_str(if *contains_null { ">" } else { " NOT NULL>" });
        }
        DataType::Map { key, value, value_contains_null } => {
            out.push_str("MAP<");
            print_type(out, key);
            out.push_str(", ");
            print_type(out, value);
            out.push_str(if *value_contains_null { ">" } else { " NOT NULL>" });
        }
        DataType::Struct(fields) => {
            out.push_str("STRUCT<");
            for (i, field) in fields.iter().enumerate() {
                if i > 0 {
                    out.push_str(", ");
                }
                print_field(out, field, ": ");
            }
            out.push('>');
        }
        scalar => out.push_str(&scalar.to_string().to_ascii_uppercase()),
    }
}

fn print_options(out: &mut String, options: &ColumnOptions) {
    let mut pairs: Vec<(&str, Option<&str>)> = Vec::new();
    match options.non_finite {
        NonFinite::Reject => {}
        NonFinite::Null => pairs.push(("non_finite", Some("null"))),
        NonFinite::String => pairs.push(("non_finite", Some("string"))),
    }
    match options.time_encoding {
        None => {}
        Some(TimeEncoding::Number) => pairs.push(("time_encoding", Some("number"))),
        Some(TimeEncoding::String) => pairs.push(("time_encoding", Some("string"))),
    }
    if options.as_set {
        pairs.push(("as_set", None));
    }
    if options.key_as_number {
        pairs.push(("key_as_number", None));
    }
    if options.float_key {
        pairs.push(("float_key", None));
    }
    if let Some(value) = &options.default_value {
        pairs.push(("default_value", Some(value)));
    }
    if pairs.is_empty() {
        return;
    }
    out.push_str(" OPTIONS (");
    for (i, (name, text)) in pairs.into_iter().enumerate() {
        if i > 0 {
            out.push_str(", ");
        }
        out.push_str(name);
        out.push_str(" = ");
        match text {
            Some(text) => print_text(out, text),
            None => out.push_str("true"),
        }
    }
    out.push(')');
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

const TYPES: &str = "a type (BOOLEAN, TINYINT, SMALLINT, INT, BIGINT, FLOAT, DOUBLE, DECIMAL(p, s), STRING, CHAR(n), \
                     VARCHAR(n), BINARY, DATE, TIMESTAMP, TIMESTAMP_NTZ, INTERVAL ..., VARIANT, ARRAY<...>, MAP<...>, \
                     STRUCT<...>)";

/// A cursor over the text. Positions are byte offsets; errors translate them into lines and columns.
struct Parser<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Parser<'a> {
    fn new(text: &'a str) -> Self {
        Self { text, at: 0 }
    }

    fn error_at(&self, at: usize, message: impl Into<String>) -> DdlError {
        let before = &self.text[..at];
        let line = before.matches('\n').count() + 1;
        let column = before.rsplit('\n').next().map_or(0, |last| last.chars().count()) + 1;
        DdlError { line, column, message: message.into() }
    }

    /// "expected X, found Y" at the next token.
    fn expected<T>(&mut self, what: &str) -> Result<T, DdlError> {
        self.skip_space();
        let rest = &self.text[self.at..];
        let word: String = rest.chars().take_while(|c| is_word(*c)).take(40).collect();
        let found = match rest.chars().next() {
            None => "the end".to_owned(),
            Some(_) if !word.is_empty() => format!("`{word}`"),
            Some(c) => format!("`{c}`"),
        };
        Err(self.error_at(self.at, format!("expected {what}, found {found}")))
    }

    fn skip_space(&mut self) {
        let rest = &self.text[self.at..];
        self.at += rest.len() - rest.trim_start().len();
    }

    fn peek(&mut self) -> Option<char> {
        self.skip_space();
        self.text[self.at..].chars().next()
    }

    fn eat(&mut self, c: char) -> bool {
        let found = self.peek() == Some(c);
        if found {
            self.at += c.len_utf8();
        }
        found
    }

    fn expect(&mut self, c: char) -> Result<(), DdlError> {
        if self.eat(c) { Ok(()) } else { self.expected(&format!("`{c}`")) }
    }

    fn end(&mut self, what: &str) -> Result<(), DdlError> {
        match self.peek() {
            None => Ok(()),
            Some(_) => self.expected(what),
        }
    }

    /// The next bare word, without consuming it.
    fn peek_word(&mut self) -> &'a str {
        self.skip_space();
        let rest = &self.text[self.at..];
        &rest[..rest.find(|c| !is_word(c)).unwrap_or(rest.len())]
    }

    fn eat_word(&mut self, word: &str) -> bool {
        let next = self.peek_word();
        let found = next.eq_ignore_ascii_case(word);
        if found {
            self.at += next.len();
        }
        found
    }

    fn expect_word(&mut self, word: &str) -> Result<(), DdlError> {
        if self.eat_word(word) { Ok(()) } else { self.expected(&format!("`{word}`")) }
    }

    fn name(&mut self, what: &str) -> Result<String, DdlError> {
        if self.peek() == Some('`') {
            return self.quoted('`');
        }
        let word = self.peek_word();
        if word.is_empty() {
            return self.expected(what);
        }
        self.at += word.len();
        Ok(word.to_owned())
    }

    /// A quoted text; a doubled quote stands for itself. In backticks a backslash is an ordinary character.
    fn quoted(&mut self, quote: char) -> Result<String, DdlError> {
        let start = self.at;
        let mut chars = self.text[start + quote.len_utf8()..].char_indices().peekable();
        let mut out = String::new();
        while let Some((offset, c)) = chars.next() {
            if c == quote {
                if chars.next_if(|(_, next)| *next == quote).is_none() {
                    self.at = start + quote.len_utf8() + offset + quote.len_utf8();
                    return Ok(out);
                }
                out.push(quote);
            } else if c == '\\' && quote != '`' {
                match chars.next() {
                    Some((_, 'n')) => out.push('\n'),
                    Some((_, 'r')) => out.push('\r'),
                    Some((_, 't')) => out.push('\t'),
                    Some((_, other)) => out.push(other),
                    None => break,
                }
            } else {
                out.push(c);
            }
        }
        Err(self.error_at(start, format!("the quote {quote} that opens here is never closed")))
    }

    fn text_literal(&mut self, what: &str) -> Result<String, DdlError> {
        match self.peek() {
            Some(quote @ ('\'' | '"')) => self.quoted(quote),
            _ => self.expected(what),
        }
    }

    fn field(&mut self, what: &str, level: usize) -> Result<Field, DdlError> {
        let name = self.name(what)?;
        // Spark writes `a: INT` in structs and `a INT` at the top, and reads both in both.
        self.eat(':');
        let data_type = self.data_type(level)?;
        let mut field = Field::new(name, data_type, true);
        loop {
            let at = self.at;
            if self.not_null()? {
                field.nullable = false;
            } else if self.eat_word("COMMENT") {
                field.comment = self.text_literal("a quoted comment")?;
            } else if self.eat_word("DEFAULT") {
                field.options.default_value = Some(self.default_literal()?);
            } else if self.eat_word("OPTIONS") {
                self.options(&mut field.options)?;
            } else if self.eat_word("GENERATED") {
                return Err(self.error_at(at, "generated columns are not supported"));
            } else if !matches!(self.peek(), None | Some(',' | '>')) {
                return self.expected("`NOT NULL`, `COMMENT`, `DEFAULT`, `OPTIONS` or `,`");
            } else {
                return Ok(field);
            }
        }
    }

    fn not_null(&mut self) -> Result<bool, DdlError> {
        let found = self.eat_word("NOT");
        if found {
            self.expect_word("NULL")?;
        }
        Ok(found)
    }

    /// A literal after `DEFAULT`, as JSON text.
    fn default_literal(&mut self) -> Result<String, DdlError> {
        const EXPECTED: &str = "a literal: a number, a quoted text, TRUE, FALSE or NULL";
        match self.peek() {
            Some(quote @ ('\'' | '"')) => Ok(serde_json::Value::String(self.quoted(quote)?).to_string()),
            Some(c) if c == '-' || c.is_ascii_digit() => {
                let rest = &self.text[self.at..];
                let len = rest.find(|c: char| !c.is_ascii_alphanumeric() && !"+-.".contains(c)).unwrap_or(rest.len());
                if serde_json::from_str::<serde_json::Number>(&rest[..len]).is_err() {
                    return self.expected(EXPECTED);
                }
                self.at += len;
                Ok(rest[..len].to_owned())
            }
            _ => {
                let word = self.peek_word().to_ascii_lowercase();
                if !matches!(word.as_str(), "true" | "false" | "null") {
                    return self.expected(EXPECTED);
                }
                self.at += word.len();
                Ok(word)
            }
        }
    }

    fn options(&mut self, options: &mut ColumnOptions) -> Result<(), DdlError> {
        const NAMES: &str = "`non_finite`, `time_encoding`, `as_set`, `key_as_number`, `float_key` or `default_value`";
        self.expect('(')?;
        loop {
            self.skip_space();
            let at = self.at;
            let name = self.name(NAMES)?.to_ascii_lowercase();
            self.expect('=')?;
            match name.as_str() {
                "non_finite" => {
                    options.non_finite = self.choice(&[
                        ("reject", NonFinite::Reject),
                        ("null", NonFinite::Null),
                        ("string", NonFinite::String),
                    ])?;
                }
                "time_encoding" => {
                    options.time_encoding =
                        Some(self.choice(&[("number", TimeEncoding::Number), ("string", TimeEncoding::String)])?);
                }
                "as_set" => options.as_set = self.choice(&[("true", true), ("false", false)])?,
                "key_as_number" => options.key_as_number = self.choice(&[("true", true), ("false", false)])?,
                "float_key" => options.float_key = self.choice(&[("true", true), ("false", false)])?,
                "default_value" => options.default_value = Some(self.text_literal("the value's JSON text in quotes")?),
                _ => return Err(self.error_at(at, format!("unknown option `{name}`, expected {NAMES}"))),
            }
            if !self.eat(',') {
                return self.expect(')');
            }
        }
    }

    /// One of some words, quoted or not.
    fn choice<T: Copy>(&mut self, choices: &[(&str, T)]) -> Result<T, DdlError> {
        let start = self.at;
        let word = match self.peek() {
            Some(quote @ ('\'' | '"')) => self.quoted(quote)?,
            _ => self.name("a value")?,
        };
        match choices.iter().find(|(name, _)| name.eq_ignore_ascii_case(&word)) {
            Some((_, value)) => Ok(*value),
            None => {
                let names: Vec<_> = choices.iter().map(|(name, _)| format!("`{name}`")).collect();
                self.at = start;
                self.expected(&names.join(" or "))
            }
        }
    }

    fn data_type(&mut self, level: usize) -> Result<DataType, DdlError> {
        if level > NESTING_MAX_LEVELS {
            return Err(self.error_at(self.at, format!("nested deeper than {NESTING_MAX_LEVELS} levels")));
        }
        let word = self.peek_word();
        let at = self.at;
        self.at += word.len();
        Ok(match word.to_ascii_uppercase().as_str() {
            "BOOLEAN" => DataType::Boolean,
            "TINYINT" | "BYTE" => DataType::Byte,
            "SMALLINT" | "SHORT" => DataType::Short,
            "INT" | "INTEGER" => DataType::Integer,
            "BIGINT" | "LONG" => DataType::Long,
            "FLOAT" | "REAL" => DataType::Float,
            "DOUBLE" => DataType::Double,
            "DECIMAL" | "DEC" | "NUMERIC" => self.decimal(at)?,
            "STRING" => {
                if self.eat_word("COLLATE") {
                    // Keys are compared as bytes whatever the collation; Spark applies it when it reads the values.
                    self.name("a collation")?;
                    while self.eat('.') {
                        self.name("a collation")?;
                    }
                }
                DataType::String
            }
            "CHAR" | "CHARACTER" => DataType::Char(self.length()?),
            "VARCHAR" => DataType::Varchar(self.length()?),
            "BINARY" => DataType::Binary,
            "DATE" => DataType::Date,
            "TIMESTAMP" | "TIMESTAMP_LTZ" => DataType::Timestamp,
            "TIMESTAMP_NTZ" => DataType::TimestampNtz,
            "VARIANT" => DataType::Variant,
            "INTERVAL" => self.interval()?,
            "ARRAY" => {
                self.expect('<')?;
                let element = Box::new(self.data_type(level + 1)?);
                let contains_null = !self.not_null()?;
                self.expect('>')?;
                DataType::Array { element, contains_null }
            }
            "MAP" => {
                self.expect('<')?;
                let key = Box::new(self.data_type(level + 1)?);
                self.expect(',')?;
                let value = Box::new(self.data_type(level + 1)?);
                let value_contains_null = !self.not_null()?;
                self.expect('>')?;
                DataType::Map { key, value, value_contains_null }
            }
            "STRUCT" => {
                self.expect('<')?;
                let mut fields = vec![self.field("a field name", level + 1)?];
                while self.eat(',') {
                    fields.push(self.field("a field name", level + 1)?);
                }
                self.expect('>')?;
                DataType::Struct(fields)
            }
            _ => {
                self.at = at;
                return self.expected(TYPES);
            }
        })
    }

    fn decimal(&mut self, at: usize) -> Result<DataType, DdlError> {
        let (mut precision, mut scale) = (10, 0);
        if self.eat('(') {
            precision = self.number("the precision, 1 to 38")?;
            if self.eat(',') {
                scale = self.number("the scale")?;
            }
            self.expect(')')?;
        }
        decimal(precision, scale).map_err(|message| self.error_at(at, message))
    }

    fn length(&mut self) -> Result<u32, DdlError> {
        self.expect('(')?;
        self.skip_space();
        let at = self.at;
        let length = self.number("a length")?;
        let length = u32::try_from(length).ok().filter(|n| *n > 0);
        let length = length.ok_or_else(|| self.error_at(at, "the length must be 1 to 4294967295"))?;
        self.expect(')')?;
        Ok(length)
    }

    fn number(&mut self, what: &str) -> Result<i64, DdlError> {
        self.skip_space();
        let start = self.at;
        let negative = self.eat('-');
        let digits = self.peek_word();
        match digits.parse::<i64>() {
            Ok(value) => {
                self.at += digits.len();
                Ok(if negative { -value } else { value })
            }
            Err(_) => {
                self.at = start;
                self.expected(what)
            }
        }
    }

    fn interval(&mut self) -> Result<DataType, DdlError> {
        const DAY_TIME: [&str; 4] = ["DAY", "HOUR", "MINUTE", "SECOND"];
        const YEAR_MONTH: [&str; 2] = ["YEAR", "MONTH"];
        for (units, data_type) in
            [(&DAY_TIME[..], DataType::DayTimeInterval), (&YEAR_MONTH[..], DataType::YearMonthInterval)]
        {
            let Some(from) = units.iter().position(|unit| self.eat_word(unit)) else { continue };
            if self.eat_word("TO") && !units[from + 1..].iter().any(|unit| self.eat_word(unit)) {
                return self.expected(&format!("a smaller unit than {}", units[from]));
            }
            return Ok(data_type);
        }
        self.expected("the interval's units, such as `DAY TO SECOND` or `YEAR TO MONTH`")
    }
}

/// A decimal type whose parameters are in range.
pub(super) fn decimal(precision: i64, scale: i64) -> Result<DataType, String> {
    let wrong =
        || format!("decimal({precision},{scale}): the precision must be 1 to 38 and the scale -38 to the precision");
    if !(1..=38).contains(&precision) || !(-38..=precision).contains(&scale) {
        return Err(wrong());
    }
    let (Ok(precision), Ok(scale)) = (u8::try_from(precision), i8::try_from(scale)) else { return Err(wrong()) };
    Ok(DataType::Decimal { precision, scale })
}

#[cfg(test)]
mod tests {
    use super::super::arbitrary;
    use super::*;
    use proptest::prelude::*;

    fn refused(text: &str) -> String {
        parse(text).expect_err(text).to_string()
    }

    #[test]
    fn a_column_list_is_read_with_comments_nesting_and_backticks() {
        let text =
            "id STRING NOT NULL, `odd ``name` double COMMENT 'it\\'s', s STRUCT<a: INT NOT NULL, b: array<DOUBLE>>";
        let schema = parse(text).unwrap();
        assert_eq!(schema.fields[0], Field::new("id", DataType::String, false));
        assert_eq!(schema.fields[1].name, "odd `name");
        assert_eq!(schema.fields[1].comment, "it's");
        let doubles = DataType::Array { element: Box::new(DataType::Double), contains_null: true };
        let inner = vec![Field::new("a", DataType::Integer, false), Field::new("b", doubles, true)];
        assert_eq!(schema.fields[2].data_type, DataType::Struct(inner));
    }

    #[test]
    fn aliases_name_the_same_types() {
        let pairs = [
            ("int", "INTEGER"),
            ("bigint", "Long"),
            ("tinyint", "byte"),
            ("smallint", "short"),
            ("float", "real"),
            ("decimal(4,2)", "numeric(4, 2)"),
            ("decimal", "dec(10)"),
            ("char(3)", "CHARACTER(3)"),
            ("timestamp", "timestamp_ltz"),
            ("interval day to second", "INTERVAL HOUR"),
            ("interval year to month", "INTERVAL MONTH"),
            ("string", "STRING COLLATE UTF8_LCASE"),
        ];
        for (one, other) in pairs {
            assert_eq!(parse_type(one).unwrap(), parse_type(other).unwrap(), "{one} {other}");
        }
    }

    #[test]
    fn errors_say_where_and_what_was_expected() {
        assert!(refused("id STRNG").starts_with("line 1, column 4: expected a type (BOOLEAN, "));
        assert!(refused("id STRNG").ends_with("found `STRNG`"));
        assert_eq!(refused("id STRING,\n  x ARRAY INT"), "line 2, column 11: expected `<`, found `INT`");
        assert_eq!(refused("id STRING NOT, x INT"), "line 1, column 14: expected `NULL`, found `,`");
        assert_eq!(refused("id STRING, "), "line 1, column 12: expected a column name, found the end");
        assert!(refused("d DECIMAL(39,2)").contains("the precision must be 1 to 38"));
        assert!(refused("d VARCHAR(0)").contains("the length must be 1"));
        assert!(refused("`d INT").contains("never closed"));
        assert!(refused("d INTERVAL").contains("the interval's units"));
        assert!(refused("id INT OPTIONS (as_sett = true)").contains("unknown option `as_sett`"));
        let deep = format!("a {}INT{}", "ARRAY<".repeat(100_000), ">".repeat(100_000));
        assert!(refused(&deep).contains("nested deeper than 32 levels"));
    }

    #[test]
    fn literals_after_default_become_json_text() {
        let schema =
            parse("a INT DEFAULT -3, b STRING DEFAULT 'x\"y', c BOOLEAN DEFAULT TRUE, d INT DEFAULT null").unwrap();
        let defaults: Vec<_> = schema.fields.iter().map(|field| field.options.default_value.as_deref()).collect();
        assert_eq!(defaults, [Some("-3"), Some("\"x\\\"y\""), Some("true"), Some("null")]);
        assert!(refused("a INT DEFAULT rand()").contains("expected a literal"));
    }

    proptest! {
        #[test]
        fn what_is_printed_reads_back_as_the_same_schema(schema in arbitrary::schema()) {
            let text = print(&schema);
            prop_assert_eq!(parse(&text).map_err(|e| TestCaseError::fail(format!("{e} in {text}")))?, schema);
        }

        #[test]
        fn no_text_makes_the_parser_panic(text in "[a-z<>(),:`'\\\\ ARRYINTé0-9-]{0,60}") {
            let _either = parse(&text);
        }
    }
}
