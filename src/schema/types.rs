//! The column types, with Spark SQL's names, and the schema that they form.
//!
//! Callers: everything above. Invariants are checked by [`Schema::validate`], which the catalog calls before it stores a
//! definition and a session before it compiles a plan.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A column type.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DataType {
    /// 8-bit signed integer.
    Byte,
    /// 16-bit signed integer.
    Short,
    /// 32-bit signed integer.
    Integer,
    /// 64-bit signed integer.
    Long,
    /// Single-precision float.
    Float,
    /// Double-precision float.
    Double,
    /// Exact decimal number.
    Decimal {
        /// Significant digits, 1 to 38.
        precision: u8,
        /// Digits after the point; may be negative.
        scale: i8,
    },
    /// UTF-8 text.
    String,
    /// Text of at most so many characters.
    Char(u32),
    /// Text of at most so many characters.
    Varchar(u32),
    /// Boolean.
    Boolean,
    /// Bytes.
    Binary,
    /// Days since 1970-01-01.
    Date,
    /// A point in time, in microseconds since the epoch.
    Timestamp,
    /// A wall-clock time without a zone, in microseconds.
    TimestampNtz,
    /// Microseconds.
    DayTimeInterval,
    /// Months.
    YearMonthInterval,
    /// Spark's variant.
    Variant,
    /// An array.
    Array {
        /// The element's type.
        element: Box<DataType>,
        /// Whether elements may be null.
        contains_null: bool,
    },
    /// A map.
    Map {
        /// The key's type.
        key: Box<DataType>,
        /// The value's type.
        value: Box<DataType>,
        /// Whether values may be null.
        value_contains_null: bool,
    },
    /// A struct.
    Struct(Vec<Field>),
}

impl fmt::Display for DataType {
    /// Spark's `simpleString`: `decimal(10,2)`, `array<struct<a:int>>`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Byte => f.write_str("tinyint"),
            Self::Short => f.write_str("smallint"),
            Self::Integer => f.write_str("int"),
            Self::Long => f.write_str("bigint"),
            Self::Float => f.write_str("float"),
            Self::Double => f.write_str("double"),
            Self::Decimal { precision, scale } => write!(f, "decimal({precision},{scale})"),
            Self::String => f.write_str("string"),
            Self::Char(n) => write!(f, "char({n})"),
            Self::Varchar(n) => write!(f, "varchar({n})"),
            Self::Boolean => f.write_str("boolean"),
            Self::Binary => f.write_str("binary"),
            Self::Date => f.write_str("date"),
            Self::Timestamp => f.write_str("timestamp"),
            Self::TimestampNtz => f.write_str("timestamp_ntz"),
            Self::DayTimeInterval => f.write_str("interval day to second"),
            Self::YearMonthInterval => f.write_str("interval year to month"),
            Self::Variant => f.write_str("variant"),
            Self::Array { element, .. } => write!(f, "array<{element}>"),
            Self::Map { key, value, .. } => write!(f, "map<{key},{value}>"),
            Self::Struct(fields) => {
                f.write_str("struct<")?;
                for (i, field) in fields.iter().enumerate() {
                    let comma = if i == 0 { "" } else { "," };
                    write!(f, "{comma}{}:{}", field.name, field.data_type)?;
                }
                f.write_str(">")
            }
        }
    }
}

/// A column of a table, or a field of a struct.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Field {
    /// The name, which is the DynamoDB attribute name.
    pub name: String,
    /// The type.
    pub data_type: DataType,
    /// Whether the value may be null.
    pub nullable: bool,
    /// Free text for people.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub comment: String,
    /// Storage choices.
    #[serde(default, skip_serializing_if = "ColumnOptions::is_default")]
    pub options: ColumnOptions,
}

impl Field {
    /// A field with default options.
    pub fn new(name: impl Into<String>, data_type: DataType, nullable: bool) -> Self {
        Self { name: name.into(), data_type, nullable, comment: String::new(), options: ColumnOptions::default() }
    }
}

/// Storage choices of one column.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ColumnOptions {
    /// What to do with NaN and infinities.
    pub non_finite: NonFinite,
    /// The stored form of date and time types; `None` is the type's default.
    pub time_encoding: Option<TimeEncoding>,
    /// Store an array as a DynamoDB set.
    pub as_set: bool,
    /// Store a boolean key as a number.
    pub key_as_number: bool,
    /// Let a float or double be a key, which only makes sense where its values are computed the same everywhere.
    pub float_key: bool,
    /// What a row stores when its session does not carry the column, as the JSON text that a row of a JSON file would carry.
    pub default_value: Option<String>,
}

impl ColumnOptions {
    /// Whether all choices are the defaults.
    pub fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

/// What to do with NaN and infinities.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NonFinite {
    /// Reject the row.
    #[default]
    Reject,
    /// Store a null.
    Null,
    /// Store text.
    String,
}

/// The stored form of date and time columns.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TimeEncoding {
    /// Epoch microseconds, or days for a date.
    Number,
    /// Text that sorts in time order.
    String,
}

/// Columns in order.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Schema {
    /// The columns.
    pub fields: Vec<Field>,
}

impl Schema {
    /// The column with this name.
    pub fn field(&self, name: &str) -> Option<&Field> {
        self.fields.iter().find(|field| field.name == name)
    }

    /// Checks names (not empty, not too long, unique within their struct), parameters of types, and the depth of nesting.
    pub fn validate(&self) -> Result<(), SchemaError> {
        if self.fields.is_empty() {
            return Err(SchemaError::new("", "the schema has no columns"));
        }
        if self.fields.len() > crate::limits::MAX_COLUMNS {
            return Err(SchemaError::new(
                "",
                format!("{} columns; at most {} are allowed", self.fields.len(), crate::limits::MAX_COLUMNS),
            ));
        }
        validate_fields("", &self.fields, 1)
    }
}

/// What is wrong with a schema, and where.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}{message}", if path.is_empty() { String::new() } else { format!("column `{path}`: ") })]
pub struct SchemaError {
    /// The path of the field; empty where the schema as a whole is meant.
    pub path: String,
    /// What is wrong and what is expected.
    pub message: String,
}

impl SchemaError {
    /// An error at a path.
    pub fn new(path: impl Into<String>, message: impl Into<String>) -> Self {
        Self { path: path.into(), message: message.into() }
    }
}

fn validate_fields(parent: &str, fields: &[Field], level: usize) -> Result<(), SchemaError> {
    let mut seen = std::collections::HashSet::with_capacity(fields.len());
    for field in fields {
        let path = if parent.is_empty() { field.name.clone() } else { format!("{parent}.{}", field.name) };
        if field.name.is_empty() {
            return Err(SchemaError::new(path, "the name is empty"));
        }
        if field.name.len() > crate::limits::COLUMN_NAME_MAX_BYTES {
            let message = format!("the name is longer than {} bytes", crate::limits::COLUMN_NAME_MAX_BYTES);
            return Err(SchemaError::new(path, message));
        }
        if !seen.insert(field.name.as_str()) {
            return Err(SchemaError::new(path, "the name occurs twice"));
        }
        validate_type(&path, &field.data_type, level)?;
        validate_options(&path, field)?;
        if field.options.as_set && !matches!(field.data_type, DataType::Array { .. }) {
            return Err(SchemaError::new(path, "`as_set` needs an array"));
        }
    }
    Ok(())
}

/// Refuses storage choices that say nothing about the column's type: they would be kept and do nothing.
fn validate_options(path: &str, field: &Field) -> Result<(), SchemaError> {
    let innermost = field.data_type.innermost();
    let needs =
        |option: &str, types: &str| Err(SchemaError::new(path, format!("`{option}` needs {types}, not {innermost}")));
    let is_float = matches!(innermost, DataType::Float | DataType::Double);
    let is_time = matches!(innermost, DataType::Date | DataType::Timestamp | DataType::TimestampNtz);
    if field.options.non_finite != NonFinite::Reject && !is_float && *innermost != DataType::Variant {
        return needs("non_finite", "float, double or variant");
    }
    if field.options.time_encoding.is_some() && !is_time {
        return needs("time_encoding", "date, timestamp or timestamp_ntz");
    }
    if field.options.key_as_number && *innermost != DataType::Boolean {
        return needs("key_as_number", "boolean");
    }
    if field.options.float_key && !is_float {
        return needs("float_key", "float or double");
    }
    Ok(())
}

fn validate_type(path: &str, data_type: &DataType, level: usize) -> Result<(), SchemaError> {
    if level > crate::limits::NESTING_MAX_LEVELS {
        let message = format!("nested deeper than {} levels", crate::limits::NESTING_MAX_LEVELS);
        return Err(SchemaError::new(path, message));
    }
    match data_type {
        DataType::Decimal { precision, scale } => {
            if !(1..=38).contains(precision) || *scale > *precision as i8 || *scale < -38 {
                return Err(SchemaError::new(
                    path,
                    format!(
                        "decimal({precision},{scale}): the precision must be 1 to 38 and the scale at most the precision"
                    ),
                ));
            }
            Ok(())
        }
        DataType::Char(0) | DataType::Varchar(0) => Err(SchemaError::new(path, "the length must be at least 1")),
        DataType::Array { element, .. } => validate_type(&format!("{path}[]"), element, level + 1),
        DataType::Map { key, value, .. } => {
            if !key.is_map_key() {
                return Err(SchemaError::new(
                    path,
                    format!("a map's key must be a string, integral, boolean, date or decimal type, not {key}"),
                ));
            }
            validate_type(&format!("{path}{{}}"), value, level + 1)
        }
        DataType::Struct(fields) => {
            if fields.is_empty() {
                return Err(SchemaError::new(path, "a struct needs at least one field"));
            }
            validate_fields(path, fields, level + 1)
        }
        _ => Ok(()),
    }
}

impl DataType {
    /// The type of the values in lists and maps, at whatever depth: the options of a column are those of its values.
    pub fn innermost(&self) -> &Self {
        match self {
            Self::Array { element: inner, .. } | Self::Map { value: inner, .. } => inner.innermost(),
            other => other,
        }
    }

    /// Whether the type can be a map's key.
    pub fn is_map_key(&self) -> bool {
        matches!(
            self,
            Self::Byte
                | Self::Short
                | Self::Integer
                | Self::Long
                | Self::Decimal { .. }
                | Self::String
                | Self::Char(_)
                | Self::Varchar(_)
                | Self::Boolean
                | Self::Date
        )
    }

    /// Whether the type is a number.
    pub fn is_number(&self) -> bool {
        matches!(
            self,
            Self::Byte | Self::Short | Self::Integer | Self::Long | Self::Float | Self::Double | Self::Decimal { .. }
        )
    }

    /// Whether the type is text.
    pub fn is_text(&self) -> bool {
        matches!(self, Self::String | Self::Char(_) | Self::Varchar(_))
    }
}

#[cfg(test)]
mod tests {
    use super::super::ddl;

    #[test]
    fn storage_choices_that_would_do_nothing_are_refused() {
        let check = |column: &str| ddl::parse(column).unwrap().validate();
        for (column, words) in [
            ("n INT OPTIONS (non_finite = string)", "column `n`: `non_finite` needs float, double or variant, not int"),
            ("n ARRAY<INT> OPTIONS (time_encoding = number)", "`time_encoding` needs date, timestamp or timestamp_ntz"),
            ("n INT OPTIONS (key_as_number = true)", "`key_as_number` needs boolean"),
            ("s STRUCT<n: INT OPTIONS (float_key = true)>", "column `s.n`: `float_key` needs float or double"),
        ] {
            let error = check(column).unwrap_err().to_string();
            assert!(error.contains(words), "{error}");
        }
        assert_eq!(check("f MAP<STRING, ARRAY<FLOAT>> OPTIONS (non_finite = null)"), Ok(()));
    }
}
