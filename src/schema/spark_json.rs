//! Spark's own schema text: what `df.schema.json()` prints.
//!
//! `char(n)` and `varchar(n)` are strings with a metadata entry in Spark; collations are accepted and ignored; a
//! user-defined type is read as its `sqlType`. Storage choices travel in a field's metadata under `forebay`, which Spark
//! keeps and ignores. [`print()`] then [`parse`] is the identity. Callers: `api::convert` and the CLI.

use serde_json::{Map, Value, json};

use super::ddl;
use super::types::{ColumnOptions, DataType, Field, Schema};

/// Spark's metadata key for the declared type of a `char` or `varchar` column.
const CHAR_VARCHAR: &str = "__CHAR_VARCHAR_TYPE_STRING";
/// Our metadata key for [`ColumnOptions`].
const OPTIONS: &str = "forebay";

/// What is wrong with a Spark schema, and where.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SparkJsonError {
    /// The text is not JSON.
    #[error("not JSON: line {line}, column {column}: {message}")]
    Syntax {
        /// The line, from 1.
        line: usize,
        /// The column, from 1.
        column: usize,
        /// What the JSON parser says.
        message: String,
    },
    /// The JSON is not a schema.
    #[error("at {path}: {message}")]
    Shape {
        /// Where: `fields[2].type.elementType`.
        path: String,
        /// What was found and what was expected.
        message: String,
    },
}

/// Reads `df.schema.json()`.
pub fn parse(text: &str) -> Result<Schema, SparkJsonError> {
    let value: Value = serde_json::from_str(text).map_err(|error| {
        let message = error.to_string();
        let message = message.split(" at line ").next().unwrap_or_default().to_owned();
        SparkJsonError::Syntax { line: error.line(), column: error.column(), message }
    })?;
    from_value(&value)
}

/// Reads the JSON of a struct type that is parsed already.
pub fn from_value(value: &Value) -> Result<Schema, SparkJsonError> {
    match value.get("type").and_then(Value::as_str) {
        Some("struct") => Ok(Schema { fields: struct_fields("", value)? }),
        _ => {
            Err(shape("the top", "expected {\"type\": \"struct\", \"fields\": [...]}, as `df.schema.json()` prints it"))
        }
    }
}

/// Writes a schema as Spark does.
pub fn print(schema: &Schema) -> String {
    struct_json(&schema.fields).to_string()
}

fn shape(path: impl Into<String>, message: impl Into<String>) -> SparkJsonError {
    SparkJsonError::Shape { path: path.into(), message: message.into() }
}

fn join(path: &str, name: &str) -> String {
    if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") }
}

/// A short name for a JSON value's kind, for messages.
fn kind(value: Option<&Value>) -> &'static str {
    match value {
        None => "nothing",
        Some(Value::Null) => "null",
        Some(Value::Bool(_)) => "a boolean",
        Some(Value::Number(_)) => "a number",
        Some(Value::String(_)) => "a text",
        Some(Value::Array(_)) => "an array",
        Some(Value::Object(_)) => "an object",
    }
}

fn member<'a, T>(
    path: &str,
    value: &'a Value,
    name: &str,
    expected: &str,
    as_type: impl Fn(&'a Value) -> Option<T>,
) -> Result<T, SparkJsonError> {
    let member = value.get(name);
    member
        .and_then(as_type)
        .ok_or_else(|| shape(join(path, name), format!("expected {expected}, found {}", kind(member))))
}

fn struct_fields(path: &str, value: &Value) -> Result<Vec<Field>, SparkJsonError> {
    let fields = member(path, value, "fields", "an array of fields", Value::as_array)?;
    fields.iter().enumerate().map(|(i, value)| field(&join(path, &format!("fields[{i}]")), value)).collect()
}

fn field(path: &str, value: &Value) -> Result<Field, SparkJsonError> {
    let name = member(path, value, "name", "a text", Value::as_str)?;
    let type_path = join(path, "type");
    let mut data_type = data_type(&type_path, member(path, value, "type", "a type", Some)?)?;
    let nullable = match value.get("nullable") {
        // PySpark's own reader treats a missing `nullable` as true.
        None => true,
        Some(_) => member(path, value, "nullable", "true or false", Value::as_bool)?,
    };
    let mut field = Field::new(name, DataType::String, nullable);
    if let Some(metadata) = value.get("metadata").filter(|metadata| !metadata.is_null()) {
        let metadata_path = join(path, "metadata");
        if !metadata.is_object() {
            return Err(shape(metadata_path, format!("expected an object, found {}", kind(Some(metadata)))));
        }
        if let Some(comment) = metadata.get("comment").and_then(Value::as_str) {
            comment.clone_into(&mut field.comment);
        }
        if let Some(text) = metadata.get(CHAR_VARCHAR).and_then(Value::as_str) {
            let path = join(&metadata_path, CHAR_VARCHAR);
            let declared = ddl::parse_type(text).map_err(|error| shape(&path, format!("`{text}`: {error}")))?;
            if !overlay(&mut data_type, &declared) {
                return Err(shape(path, format!("`{text}` does not match the type {data_type}")));
            }
        }
        if let Some(options) = metadata.get(OPTIONS) {
            field.options = serde_json::from_value::<ColumnOptions>(options.clone())
                .map_err(|error| shape(join(&metadata_path, OPTIONS), error.to_string()))?;
        }
    }
    field.data_type = data_type;
    Ok(field)
}

/// Puts the `char` and `varchar` of the declared type in the place of strings; false where the shapes differ.
fn overlay(data_type: &mut DataType, declared: &DataType) -> bool {
    match (data_type, declared) {
        (slot @ DataType::String, DataType::Char(_) | DataType::Varchar(_)) => {
            *slot = declared.clone();
            true
        }
        (DataType::Array { element, .. }, DataType::Array { element: declared, .. }) => overlay(element, declared),
        (DataType::Map { key, value, .. }, DataType::Map { key: declared_key, value: declared_value, .. }) => {
            overlay(key, declared_key) && overlay(value, declared_value)
        }
        (DataType::Struct(fields), DataType::Struct(declared)) => {
            fields.len() == declared.len()
                && fields.iter_mut().zip(declared).all(|(field, declared)| {
                    field.name == declared.name && overlay(&mut field.data_type, &declared.data_type)
                })
        }
        (data_type, declared) => data_type == declared,
    }
}

fn data_type(path: &str, value: &Value) -> Result<DataType, SparkJsonError> {
    if let Some(name) = value.as_str() {
        return simple_type(path, name);
    }
    match value.get("type").and_then(Value::as_str) {
        Some("struct") => Ok(DataType::Struct(struct_fields(path, value)?)),
        Some("array") => {
            let element = member(path, value, "elementType", "a type", Some)?;
            Ok(DataType::Array {
                element: Box::new(data_type(&join(path, "elementType"), element)?),
                contains_null: member(path, value, "containsNull", "true or false", Value::as_bool)?,
            })
        }
        Some("map") => {
            let key = member(path, value, "keyType", "a type", Some)?;
            let map_value = member(path, value, "valueType", "a type", Some)?;
            Ok(DataType::Map {
                key: Box::new(data_type(&join(path, "keyType"), key)?),
                value: Box::new(data_type(&join(path, "valueType"), map_value)?),
                value_contains_null: member(path, value, "valueContainsNull", "true or false", Value::as_bool)?,
            })
        }
        Some("udt") => {
            let sql_type = member(path, value, "sqlType", "the type that the user-defined type is stored as", Some)?;
            data_type(&join(path, "sqlType"), sql_type)
        }
        Some(other) => Err(shape(path, format!("unknown type `{other}`, expected struct, array, map or udt"))),
        None => {
            Err(shape(path, format!("expected a type's name or an object with `type`, found {}", kind(Some(value)))))
        }
    }
}

fn simple_type(path: &str, name: &str) -> Result<DataType, SparkJsonError> {
    Ok(match name {
        "byte" => DataType::Byte,
        "short" => DataType::Short,
        "integer" => DataType::Integer,
        "long" => DataType::Long,
        "float" => DataType::Float,
        "double" => DataType::Double,
        "string" => DataType::String,
        "boolean" => DataType::Boolean,
        "binary" => DataType::Binary,
        "date" => DataType::Date,
        "timestamp" => DataType::Timestamp,
        "timestamp_ntz" => DataType::TimestampNtz,
        "variant" => DataType::Variant,
        "void" | "null" => {
            return Err(shape(path, "a column of type void has only nulls; cast it to the type that it should have"));
        }
        "interval" | "calendarinterval" => {
            return Err(shape(path, "a calendar interval has no stored form; use a day-time or year-month interval"));
        }
        // These are written like DDL: decimal(10,2), varchar(5), interval day to second, string collate UNICODE.
        _ if ["decimal", "char(", "varchar(", "interval ", "string collate "].iter().any(|p| name.starts_with(p)) => {
            ddl::parse_type(name).map_err(|error| shape(path, format!("`{name}`: {error}")))?
        }
        _ => {
            let message = format!(
                "unknown type `{name}`, expected byte, short, integer, long, float, double, decimal(p,s), string, \
                 char(n), varchar(n), boolean, binary, date, timestamp, timestamp_ntz, interval ..., variant, or an \
                 object for struct, array, map and udt"
            );
            return Err(shape(path, message));
        }
    })
}

fn struct_json(fields: &[Field]) -> Value {
    json!({ "type": "struct", "fields": fields.iter().map(field_json).collect::<Vec<_>>() })
}

fn field_json(field: &Field) -> Value {
    let mut metadata = Map::new();
    if !field.comment.is_empty() {
        metadata.insert("comment".to_owned(), json!(field.comment));
    }
    let data_type = match &field.data_type {
        limited @ (DataType::Char(_) | DataType::Varchar(_)) => {
            metadata.insert(CHAR_VARCHAR.to_owned(), json!(limited.to_string()));
            json!("string")
        }
        other => type_json(other),
    };
    if !field.options.is_default() {
        metadata.insert(OPTIONS.to_owned(), json!(field.options));
    }
    json!({ "name": field.name, "type": data_type, "nullable": field.nullable, "metadata": metadata })
}

fn type_json(data_type: &DataType) -> Value {
    let name = match data_type {
        DataType::Byte => "byte",
        DataType::Short => "short",
        DataType::Integer => "integer",
        DataType::Long => "long",
        DataType::Array { element, contains_null } => {
            return json!({ "type": "array", "elementType": type_json(element), "containsNull": contains_null });
        }
        DataType::Map { key, value, value_contains_null } => {
            return json!({
                "type": "map",
                "keyType": type_json(key),
                "valueType": type_json(value),
                "valueContainsNull": value_contains_null,
            });
        }
        DataType::Struct(fields) => return struct_json(fields),
        // Everything else has the same name here as in `simpleString`.
        other => return json!(other.to_string()),
    };
    json!(name)
}

#[cfg(test)]
mod tests {
    use super::super::arbitrary;
    use super::*;
    use proptest::prelude::*;

    fn refused(text: &str) -> String {
        parse(text).expect_err(text).to_string()
    }

    /// Printed by PySpark for a table with a varchar column, a UDT, collations and every interval.
    const FROM_SPARK: &str = r#"{"type":"struct","fields":[
        {"name":"id","type":"string","nullable":false,"metadata":{"__CHAR_VARCHAR_TYPE_STRING":"varchar(12)"}},
        {"name":"price","type":"decimal(10,2)","nullable":true,"metadata":{"comment":"in euro"}},
        {"name":"vec","type":{"type":"udt","class":"org.apache.spark.ml.linalg.VectorUDT","pyClass":"pyspark.ml.linalg.VectorUDT",
          "sqlType":{"type":"struct","fields":[{"name":"size","type":"integer","nullable":true,"metadata":{}},
          {"name":"values","type":{"type":"array","elementType":"double","containsNull":false},"nullable":true,"metadata":{}}]}},
          "nullable":true,"metadata":{}},
        {"name":"tags","type":{"type":"map","keyType":"string","valueType":{"type":"array","elementType":"string","containsNull":true},
          "valueContainsNull":true},"nullable":true,"metadata":{"__CHAR_VARCHAR_TYPE_STRING":"map<string,array<char(2)>>"}},
        {"name":"name","type":"string","nullable":true,"metadata":{"__COLLATIONS":{"name":"spark.UTF8_LCASE"}}},
        {"name":"city","type":"string collate UNICODE_CI","nullable":true,"metadata":{}},
        {"name":"span","type":"interval day to second","nullable":true,"metadata":{}},
        {"name":"age","type":"interval year","nullable":true,"metadata":{}},
        {"name":"seen","type":"timestamp_ntz","nullable":true,"metadata":{}}]}"#;

    #[test]
    fn what_spark_prints_is_understood() {
        let schema = parse(FROM_SPARK).unwrap();
        let types: Vec<_> = schema.fields.iter().map(|field| field.data_type.to_string()).collect();
        let expected = [
            "varchar(12)",
            "decimal(10,2)",
            "struct<size:int,values:array<double>>",
            "map<string,array<char(2)>>",
            "string",
            "string",
            "interval day to second",
            "interval year to month",
            "timestamp_ntz",
        ];
        assert_eq!(types, expected);
        assert!(!schema.fields[0].nullable);
        assert_eq!(schema.fields[1].comment, "in euro");
    }

    #[test]
    fn errors_name_the_path_and_what_was_expected() {
        assert_eq!(refused("{\n\"type\": }"), "not JSON: line 2, column 9: expected value");
        assert!(refused("[]").starts_with("at the top: expected {\"type\": \"struct\""));
        let text = r#"{"type":"struct","fields":[{"name":"a","nullable":true,"metadata":{},
            "type":{"type":"array","elementType":"strng","containsNull":true}}]}"#;
        assert!(refused(text).starts_with("at fields[0].type.elementType: unknown type `strng`, expected byte, "));
        let text = r#"{"type":"struct","fields":[{"name":7,"type":"long"}]}"#;
        assert_eq!(refused(text), "at fields[0].name: expected a text, found a number");
        let text = r#"{"type":"struct","fields":[{"name":"a","type":"decimal(50,2)","nullable":true,"metadata":{}}]}"#;
        assert!(refused(text).contains("the precision must be 1 to 38"));
        let text = r#"{"type":"struct","fields":[{"name":"a","type":"void","nullable":true,"metadata":{}}]}"#;
        assert!(refused(text).contains("has only nulls"));
    }

    proptest! {
        #[test]
        fn what_is_printed_reads_back_as_the_same_schema(schema in arbitrary::schema()) {
            prop_assert_eq!(parse(&print(&schema)).unwrap(), schema);
        }
    }
}
