//! Defaults: what a row stores in the columns that its session does not carry.
//!
//! A default is the JSON text that a row of a JSON file would carry. It is read by the column's declared type and written by
//! the column's own encoder, once per session (`Missing`, for `plan`), so that a row pays for a copy of ready bytes; and
//! once when a table is applied ([`check`], for `catalog`), so that a default that does not fit its column is never stored.
//! Only columns have defaults: not the key, which every row carries, and not fields of structs, which come with their
//! struct.

use serde_json::value::RawValue;

use super::cast::Mode;
use super::coercion::RuleBook;
use super::item::{ItemWriter, name_json};
use super::leaf::{Policies, Presence};
use super::modes::{OnMissing, Writes};
use super::nested::check_item_size;
use super::plan::compile_column;
use super::rows::put_alone;
use super::values::fit::Fit;
use super::values::json;
use crate::proto::v1::Value;
use crate::schema::{DataType, Field, StoreAssignment, TableDef};

/// A default that its column cannot have.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("column `{path}`: the default {message}")]
pub struct DefaultError {
    /// The path, into the default where it is nested: `tags[2]`.
    pub path: String,
    /// What is wrong: "does not fit: ...".
    pub message: String,
}

impl DefaultError {
    fn new(path: &str, message: impl Into<String>) -> Self {
        Self { path: path.to_owned(), message: message.into() }
    }
}

/// What stands for an attribute that a merge removes.
pub(super) const REMOVED: &[u8] = b"null";

/// What rows store in the columns that their session does not carry, as the tail of every row's text.
#[derive(Debug, Default)]
pub(super) struct Missing {
    tail: ItemWriter,
    /// Columns in the tail.
    pub(super) columns: usize,
}

impl Missing {
    /// Adds a column of a row that makes the whole item; false where it must be carried.
    pub(super) fn in_item(&mut self, table: &TableDef, field: &Field, writes: &Writes) -> Result<bool, DefaultError> {
        let stored = writes.on_missing != Some(OnMissing::Null) && self.add_default(table, field)?;
        Ok(stored || field.nullable)
    }

    /// Adds a column of a row that is merged; false where it must be carried.
    pub(super) fn in_merge(&mut self, table: &TableDef, field: &Field, writes: &Writes) -> Result<bool, DefaultError> {
        match writes.missing_in_merge() {
            OnMissing::LeaveUnchanged => return Ok(true),
            OnMissing::Default if self.add_default(table, field)? => return Ok(true),
            OnMissing::Default | OnMissing::Null => {}
        }
        if field.nullable {
            self.tail.raw(b",");
            self.tail.raw(&name_json(&field.name));
            self.tail.raw(REMOVED);
            self.columns += 1;
        }
        Ok(field.nullable)
    }

    /// Adds the column's default; false where it has none, or one that stores nothing.
    fn add_default(&mut self, table: &TableDef, field: &Field) -> Result<bool, DefaultError> {
        let Some(text) = &field.options.default_value else { return Ok(false) };
        let is_stored = put(table, field, text, &mut self.tail)? == Presence::Written;
        self.columns += usize::from(is_stored);
        Ok(is_stored)
    }

    /// Appends them to a row that has at least its key.
    #[inline]
    pub(super) fn write(&self, writer: &mut ItemWriter) {
        writer.raw(self.tail.as_slice());
        writer.count(self.tail.item_bytes());
    }
}

/// Checks every default of a table, and writes the nested ones in their one form, so that two texts of the same default are
/// no change of the table.
pub fn check(table: &mut TableDef) -> Result<(), DefaultError> {
    // One writer for all: together they must leave room in the item.
    let (mut canonical, mut all) = (Vec::new(), ItemWriter::default());
    for (at, field) in table.schema.fields.iter().enumerate() {
        refuse_within(&field.name, &field.data_type)?;
        let Some(text) = &field.options.default_value else { continue };
        if table.key_columns().any(|key| key == field.name) {
            return Err(DefaultError::new(&field.name, "has no use: every row carries its key"));
        }
        if put(table, field, text, &mut all)? == Presence::Null && !field.nullable {
            return Err(DefaultError::new(&field.name, "stores nothing, but the column is NOT NULL"));
        }
        if text.trim_start().starts_with(['[', '{']) {
            canonical.push((at, json::to_json(&read(field, text)?, Some(&field.data_type)).to_string()));
        }
    }
    for (at, text) in canonical {
        table.schema.fields[at].options.default_value = Some(text);
    }
    Ok(())
}

/// Appends `,"name":{...}`, or nothing where the default counts as null.
fn put(table: &TableDef, field: &Field, text: &str, writer: &mut ItemWriter) -> Result<Presence, DefaultError> {
    let value = read(field, text)?;
    // A default is written as its column's own type and coerced into nothing, so that nothing is counted.
    let mut rules = RuleBook::default();
    let mut policies = Policies {
        mode: Mode(StoreAssignment::Strict),
        unknown_fields: table.unknown_fields,
        show_values: false,
        rules: &mut rules,
    };
    let compiled = compile_column(table, field, &field.data_type, &mut policies);
    let compiled = compiled.map_err(|error| DefaultError::new(&field.name, error.to_string()))?;
    let mark = writer.mark();
    writer.raw(&compiled.lead);
    writer.count(compiled.name.len());
    let presence = put_alone(&value, &compiled.target, &field.data_type, writer)
        .map_err(|reject| reject.in_field(&field.name))
        .and_then(|presence| check_item_size(writer).map(|()| presence))
        .map_err(|reject| {
            let path = if reject.path.is_empty() { &field.name } else { &reject.path };
            DefaultError::new(path, format!("does not fit: {}", reject.message))
        })?;
    if presence == Presence::Null {
        writer.rewind(mark);
    }
    Ok(presence)
}

fn read(field: &Field, text: &str) -> Result<Value, DefaultError> {
    let raw: &RawValue = serde_json::from_str(text).map_err(|_| {
        DefaultError::new(&field.name, format!("`{text}` is not JSON; a text needs quotes: \"{text}\""))
    })?;
    json::from_raw(&field.name, raw, &field.data_type, Fit::STRICT)
        .map_err(|misfit| DefaultError::new(&misfit.path, format!("does not fit: {}", misfit.message)))
}

/// Refuses defaults of fields below a column.
fn refuse_within(path: &str, data_type: &DataType) -> Result<(), DefaultError> {
    match data_type {
        DataType::Array { element, .. } => refuse_within(&format!("{path}[]"), element),
        DataType::Map { value, .. } => refuse_within(&format!("{path}{{}}"), value),
        DataType::Struct(fields) => fields.iter().try_for_each(|field| {
            let path = format!("{path}.{}", field.name);
            if field.options.default_value.is_some() {
                let message = "belongs to a field of a struct; only columns of the table can have defaults";
                return Err(DefaultError::new(&path, message));
            }
            refuse_within(&path, &field.data_type)
        }),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::payload::Plan;
    use crate::payload::rows::{RowsCursor, RowsPlan};
    use crate::proto::v1::{Row, RowBatch, value::Kind};
    use crate::schema::table::{KeyDef, default_partition_attribute, default_sort_attribute};
    use crate::schema::{Schema, ddl};
    use crate::store::WriteOp;
    use prost::Message as _;

    fn table(columns: &str) -> TableDef {
        let key = KeyDef {
            partition: vec!["id".to_owned()],
            sort: Vec::new(),
            partition_attribute: default_partition_attribute(),
            sort_attribute: default_sort_attribute(),
        };
        TableDef::new("t", ddl::parse(&format!("id STRING NOT NULL, {columns}")).unwrap(), key, "t")
    }

    /// A row that carries the key alone, as DynamoDB's JSON.
    fn bare_row(table: &TableDef) -> Result<String, String> {
        row_with(table, None)
    }

    fn row_with(table: &TableDef, on_missing: Option<OnMissing>) -> Result<String, String> {
        let id = Schema { fields: vec![table.schema.fields[0].clone()] };
        let writes = Writes { on_missing, ..Writes::from(WriteOp::Put) };
        let plan = Plan::compile(table, &id, writes, 1).map_err(|error| error.to_string())?;
        let values = vec![Value { kind: Some(Kind::StringValue("k".to_owned())) }];
        let batch = RowBatch { rows: vec![Row { values }] }.encode_to_vec();
        let rows = RowsPlan::compile(&plan).unwrap();
        let chunk = RowsCursor::new(&batch).next_chunk(&plan, &rows, 1 << 20, 0).unwrap().unwrap();
        match chunk.rejects.first() {
            Some(reject) => Err(format!("{:?}", reject.reject.reason)),
            None => Ok(String::from_utf8(chunk.rows[0].item.json.to_vec()).unwrap()),
        }
    }

    #[test]
    fn a_default_is_stored_as_its_column_stores_values() {
        for (column, stored) in [
            ("c INT NOT NULL DEFAULT 7", r#","c":{"N":"7"}"#),
            ("c DECIMAL(5, 2) DEFAULT 0.10", r#","c":{"N":"0.1"}"#),
            ("c STRING DEFAULT 'a\"b'", r#","c":{"S":"a\"b"}"#),
            ("c DATE DEFAULT '1969-12-31'", r#","c":{"S":"1969-12-31"}"#),
            ("c DATE OPTIONS (time_encoding = number, default_value = '\"1969-12-31\"')", r#","c":{"N":"-1"}"#),
            ("c DOUBLE OPTIONS (non_finite = string, default_value = '\"NaN\"')", r#","c":{"S":"NaN"}"#),
            ("c ARRAY<INT> OPTIONS (default_value = '[1, null]')", r#","c":{"L":[{"N":"1"},{"NULL":true}]}"#),
            ("c ARRAY<INT> OPTIONS (as_set = true, default_value = '[2,2]')", r#","c":{"NS":["2"]}"#),
            ("c MAP<INT, BOOLEAN> OPTIONS (default_value = '{\"1\": true}')", r#","c":{"M":{"1":{"BOOL":true}}}"#),
            (
                "c STRUCT<x: INT, y: INT> OPTIONS (default_value = '{\"y\": 2}')",
                r#","c":{"M":{"x":{"NULL":true},"y":{"N":"2"}}}"#,
            ),
            ("c INT DEFAULT null", ""),
            ("c INT", ""),
        ] {
            let mut table = table(column);
            check(&mut table).unwrap_or_else(|error| panic!("{column}: {error}"));
            let expected = format!(r#"{{"id":{{"S":"k"}}{stored}}}"#);
            assert_eq!(bare_row(&table).as_deref(), Ok(expected.as_str()), "{column}");
        }
    }

    #[test]
    fn a_time_to_live_by_default_is_in_seconds() {
        let mut table = table("until TIMESTAMP DEFAULT '2026-01-31T12:00:00Z'");
        table.ttl_column = Some("until".to_owned());
        assert!(bare_row(&table).unwrap().ends_with(r#","until":{"N":"1769860800"}}"#));
    }

    #[test]
    fn a_default_that_does_not_fit_is_refused_with_its_path() {
        for (column, path, words) in [
            ("c TINYINT DEFAULT 300", "c", "outside the range of tinyint"),
            ("c INT DEFAULT 'x'", "c", "string does not fit the declared type int"),
            ("c VARCHAR(2) DEFAULT 'abc'", "c", "more than the 2 characters"),
            ("c DECIMAL(3, 1) DEFAULT 1.25", "c", "it has more digits after the point"),
            ("c DOUBLE OPTIONS (default_value = '\"NaN\"')", "c", "does not fit"),
            ("c INT NOT NULL DEFAULT null", "c", "the column is NOT NULL"),
            ("c ARRAY<INT> NOT NULL OPTIONS (as_set = true, default_value = '[]')", "c", "the column is NOT NULL"),
            ("c ARRAY<INT NOT NULL> OPTIONS (default_value = '[1, null]')", "c[1]", "no null here"),
            (
                "c ARRAY<INT> OPTIONS (default_value = '[1, \"x\"]')",
                "c[1]",
                "string does not fit the declared type int",
            ),
            ("c STRUCT<x: INT> OPTIONS (default_value = '{\"y\": 1}')", "c.y", "no such field"),
            ("c STRUCT<x: INT NOT NULL> OPTIONS (default_value = '{}')", "c.x", "no null here"),
            ("c STRUCT<x: INT DEFAULT 1>", "c.x", "only columns of the table"),
            ("c ARRAY<STRUCT<x: INT DEFAULT 1>>", "c[].x", "only columns of the table"),
            ("c STRING OPTIONS (default_value = 'bare')", "c", "a text needs quotes"),
        ] {
            let error = check(&mut table(column)).expect_err(column);
            assert_eq!(error.path, path, "{column}: {error}");
            assert!(error.message.contains(words), "{column}: {error}");
        }
        let mut keyed = table("c INT");
        keyed.schema.fields[0].options.default_value = Some("\"x\"".to_owned());
        assert!(check(&mut keyed).unwrap_err().to_string().contains("every row carries its key"));
        let mut huge = table("c STRING");
        huge.schema.fields[1].options.default_value = Some(format!("\"{}\"", "x".repeat(500_000)));
        assert!(check(&mut huge).unwrap_err().message.contains("DynamoDB allows"));
    }

    #[test]
    fn two_texts_of_one_nested_default_are_the_same() {
        let column = |text: &str| format!("c ARRAY<DECIMAL(4, 2)> OPTIONS (default_value = '{text}')");
        let (mut one, mut other) = (table(&column("[ 1.5,2 ]")), table(&column(r#"["1.50", 2.00]"#)));
        check(&mut one).unwrap();
        check(&mut other).unwrap();
        assert_eq!(one, other);
        let again = one.clone();
        check(&mut one).unwrap();
        assert_eq!(one, again);
    }

    #[test]
    fn defaults_count_towards_the_size_of_the_item() {
        let with = |bytes: usize| {
            let mut table = table("a STRING, b STRING");
            for field in &mut table.schema.fields[1..] {
                field.options.default_value = Some(format!("\"{}\"", "x".repeat(bytes)));
            }
            check(&mut table).map(|()| table)
        };
        assert_eq!(with(300_000).unwrap_err().path, "b", "two of them are too much");
        // Each with a name of one byte: they fit, but not beside the key's three bytes.
        let table = with(204_797).unwrap();
        assert!(bare_row(&table).is_ok());
        let table = with(204_799).unwrap();
        assert_eq!(bare_row(&table), Err("ItemTooLarge".to_owned()));
        assert_eq!(row_with(&table, Some(OnMissing::Null)).unwrap(), r#"{"id":{"S":"k"}}"#);
    }

    #[test]
    fn without_a_default_a_not_null_column_must_be_carried() {
        let table = table("c INT NOT NULL DEFAULT 1");
        assert!(bare_row(&table).is_ok());
        assert!(row_with(&table, Some(OnMissing::Null)).unwrap_err().contains("column `c`"));
    }
}
