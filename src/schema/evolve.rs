//! Which changes of a table's definition are allowed.
//!
//! The rule behind the list: every row that is stored must read back under the new definition, and every session that is
//! open must stay valid. Fields match by name; their order has no meaning, so the stored order stays and new fields go to
//! the end. Pure; the catalog is the caller.

use std::collections::HashSet;
use std::fmt;

use serde::Serialize;

use super::table::{Ownership, TableDef};
use super::types::{DataType, Field, NonFinite, TimeEncoding};

/// One allowed change, as a sentence: "column `score`: float becomes double".
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change(pub String);

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// One change that is not allowed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{path}`: {reason}")]
pub struct Forbidden {
    /// The column's path (`vitals[].hr`) or the option's name.
    pub path: String,
    /// Why.
    pub reason: String,
}

/// The changes that are not allowed: all of them, so that one look is enough.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))]
pub struct Refusal(pub Vec<Forbidden>);

/// An allowed evolution.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Evolution {
    /// The definition to store: the new one, with the stored order of fields.
    pub definition: TableDef,
    /// What changes; empty where nothing does.
    pub changes: Vec<Change>,
}

/// Compares a stored definition with a wanted one. `name` and `ownership` are the stored ones', whatever `new` says, and
/// so is `dynamodb_table` where `new` leaves it empty.
pub fn evolve(old: &TableDef, new: &TableDef) -> Result<Evolution, Refusal> {
    let mut diff = Diff { protected: protected(old), changes: Vec::new(), forbidden: Vec::new() };
    let mut definition = new.clone();
    definition.name.clone_from(&old.name);
    definition.ownership = old.ownership;
    if definition.dynamodb_table.is_empty() {
        definition.dynamodb_table.clone_from(&old.dynamodb_table);
    }
    diff.table(old, &mut definition);
    definition.schema.fields = diff.fields("", &old.schema.fields, &new.schema.fields);
    if diff.forbidden.is_empty() {
        Ok(Evolution { definition, changes: diff.changes })
    } else {
        Err(Refusal(diff.forbidden))
    }
}

/// The columns whose type and nullability can never change.
fn protected(table: &TableDef) -> HashSet<String> {
    let more = [&table.sequence_by, &table.ttl_column, &table.series.as_ref().map(|series| series.time_column.clone())];
    let more = more.into_iter().flatten().map(String::as_str);
    table.key_columns().chain(more).map(str::to_owned).collect()
}

struct Diff {
    protected: HashSet<String>,
    changes: Vec<Change>,
    forbidden: Vec<Forbidden>,
}

impl Diff {
    fn change(&mut self, sentence: String) {
        self.changes.push(Change(sentence));
    }

    fn forbid(&mut self, path: &str, reason: impl Into<String>) {
        self.forbidden.push(Forbidden { path: path.to_owned(), reason: reason.into() });
    }

    fn fixed<T: PartialEq + Serialize>(&mut self, option: &str, old: &T, new: &T, why: &str) {
        if old != new {
            self.forbid(option, format!("cannot change from {} to {}: {why}", text(old), text(new)));
        }
    }

    fn free<T: PartialEq + Serialize>(&mut self, option: &str, old: &T, new: &T) {
        if old != new {
            self.change(format!("`{option}` changes from {} to {}", text(old), text(new)));
        }
    }

    fn table(&mut self, old: &TableDef, new: &mut TableDef) {
        const PLACE: &str = "rows that are stored would not be found";
        self.fixed("key.partition", &old.key.partition, &new.key.partition, PLACE);
        self.fixed("key.sort", &old.key.sort, &new.key.sort, PLACE);
        if old.key.partition.len() > 1 {
            let (old, new) = (&old.key.partition_attribute, &new.key.partition_attribute);
            self.fixed("key.partition_attribute", old, new, PLACE);
        }
        if old.key.sort.len() > 1 {
            self.fixed("key.sort_attribute", &old.key.sort_attribute, &new.key.sort_attribute, PLACE);
        }
        self.fixed("dynamodb_table", &old.dynamodb_table, &new.dynamodb_table, PLACE);
        self.fixed("sequence_by", &old.sequence_by, &new.sequence_by, "rows that are stored carry the old order");
        self.fixed("ttl_column", &old.ttl_column, &new.ttl_column, "rows that are stored carry the old expiry");
        self.fixed("write_shards", &old.write_shards, &new.write_shards, PLACE);
        let (shards, new_shards) = (&old.write_sharding_max_shards, &new.write_sharding_max_shards);
        self.fixed("write_sharding", shards, new_shards, PLACE);
        self.fixed("series", &old.series, &new.series, "it says how rows are stored");
        match old.ownership {
            Ownership::Created => {
                let why = "Forebay does not change DynamoDB tables that exist; change it in DynamoDB, and keep the \
                           definition as it was";
                self.fixed("dynamodb", &old.dynamodb, &new.dynamodb, why);
            }
            // A bound table was not made by these options.
            Ownership::Bound => new.dynamodb = old.dynamodb.clone(),
        }
        self.free("unknown_fields", &old.unknown_fields, &new.unknown_fields);
        self.free("store_assignment", &old.store_assignment, &new.store_assignment);
        self.free("tombstone_retention", &old.tombstone_retention, &new.tombstone_retention);
        self.free("coalesce", &old.coalesce, &new.coalesce);
        self.free("append_only", &old.append_only, &new.append_only);
        self.free("lake", &old.lake, &new.lake);
        self.free("max_write_units", &old.max_write_units, &new.max_write_units);
        self.free("show_values_in_outcomes", &old.show_values_in_outcomes, &new.show_values_in_outcomes);
        self.free("comment", &old.comment, &new.comment);
    }

    /// Compares two field lists and gives the one to store.
    fn fields(&mut self, parent: &str, old: &[Field], new: &[Field]) -> Vec<Field> {
        let mut merged = Vec::with_capacity(new.len());
        for old_field in old {
            let path = join(parent, &old_field.name);
            match new.iter().find(|field| field.name == old_field.name) {
                Some(new_field) => merged.push(self.field(&path, old_field, new_field)),
                None => self.forbid(&path, "cannot be dropped or renamed: rows and open sessions carry it"),
            }
        }
        for new_field in new.iter().filter(|field| old.iter().all(|old| old.name != field.name)) {
            let path = join(parent, &new_field.name);
            let defaulted = parent.is_empty() && new_field.options.default_value.is_some();
            if new_field.nullable || defaulted {
                self.change(format!("column `{path}` is added: {}", new_field.data_type));
                merged.push(new_field.clone());
            } else {
                let what = if parent.is_empty() { "nullable or have a default" } else { "nullable" };
                self.forbid(&path, format!("a new column must be {what}: rows that are stored do not carry it"));
            }
        }
        merged
    }

    fn field(&mut self, path: &str, old: &Field, new: &Field) -> Field {
        let protected = self.protected.contains(path);
        if protected && old.data_type != new.data_type {
            let reason = format!(
                "cannot change from {} to {}: it is a key, sequence or TTL column",
                old.data_type, new.data_type
            );
            self.forbid(path, reason);
        }
        let data_type =
            if protected { old.data_type.clone() } else { self.data_type(path, &old.data_type, &new.data_type) };
        match (old.nullable, new.nullable) {
            (false, true) if protected => self.forbid(path, "a key, sequence or TTL column cannot become nullable"),
            (old, new) => self.nullability(path, old, new),
        }
        self.options(path, old, new);
        if old.comment != new.comment {
            self.change(format!("column `{path}`: the comment changes"));
        }
        Field { data_type, ..new.clone() }
    }

    fn nullability(&mut self, path: &str, old: bool, new: bool) {
        match (old, new) {
            (false, true) => self.change(format!("column `{path}` becomes nullable")),
            (true, false) => self.forbid(path, "cannot become NOT NULL: rows that are stored may have nulls"),
            _ => {}
        }
    }

    fn options(&mut self, path: &str, old: &Field, new: &Field) {
        const READ: &str = "it says how values are stored";
        let (was, is) = (&old.options, &new.options);
        self.fixed(&format!("{path}.as_set"), &was.as_set, &is.as_set, READ);
        self.fixed(&format!("{path}.key_as_number"), &was.key_as_number, &is.key_as_number, READ);
        let (was_time, is_time) = (time_encoding(old), time_encoding(new));
        self.fixed(&format!("{path}.time_encoding"), &was_time, &is_time, READ);
        let option = format!("{path}.non_finite");
        if was.non_finite == NonFinite::String {
            self.fixed(&option, &was.non_finite, &is.non_finite, "rows that are stored may carry the texts");
        } else {
            self.free(&option, &was.non_finite, &is.non_finite);
        }
        let default = format!("{path}.default_value");
        // A nullable column needs none; one that stays NOT NULL is relied on by sessions that do not carry it.
        if was.default_value.is_some() && is.default_value.is_none() && !old.nullable && !new.nullable {
            self.forbid(&default, "cannot be taken from a NOT NULL column: sessions that do not carry it need it");
        } else {
            self.free(&default, &was.default_value, &is.default_value);
        }
    }

    /// Compares two types and gives the one to store.
    fn data_type(&mut self, path: &str, old: &DataType, new: &DataType) -> DataType {
        match (old, new) {
            (
                DataType::Array { element: old, contains_null: was },
                DataType::Array { element: new, contains_null: is },
            ) => {
                let path = format!("{path}[]");
                self.nullability(&path, *was, *is);
                DataType::Array { element: Box::new(self.data_type(&path, old, new)), contains_null: *is }
            }
            (
                DataType::Map { key: old_key, value: old, value_contains_null: was },
                DataType::Map { key: new_key, value: new, value_contains_null: is },
            ) => {
                if old_key != new_key && !widens_as_map_key(old_key, new_key) {
                    self.forbid(path, format!("the map's key cannot change from {old_key} to {new_key}"));
                } else if old_key != new_key {
                    self.change(format!("column `{path}`: the map's key {old_key} becomes {new_key}"));
                }
                let path = format!("{path}{{}}");
                self.nullability(&path, *was, *is);
                let value = Box::new(self.data_type(&path, old, new));
                DataType::Map { key: new_key.clone(), value, value_contains_null: *is }
            }
            (DataType::Struct(old), DataType::Struct(new)) => DataType::Struct(self.fields(path, old, new)),
            _ => {
                if old == new {
                } else if widens(old, new) {
                    self.change(format!("column `{path}`: {old} becomes {new}"));
                } else {
                    let reason = format!("cannot change from {old} to {new}: values that are stored might not fit");
                    self.forbid(path, reason);
                }
                new.clone()
            }
        }
    }
}

/// An option's value in a message.
fn text<T: Serialize>(value: &T) -> String {
    match serde_json::to_value(value) {
        Ok(serde_json::Value::Null) | Err(_) => "unset".to_owned(),
        Ok(value) => value.to_string(),
    }
}

fn join(parent: &str, name: &str) -> String {
    if parent.is_empty() { name.to_owned() } else { format!("{parent}.{name}") }
}

/// The stored form of a date or time, with the type's default filled in.
fn time_encoding(field: &Field) -> Option<TimeEncoding> {
    let default = match field.data_type {
        DataType::Date | DataType::TimestampNtz => TimeEncoding::String,
        DataType::Timestamp => TimeEncoding::Number,
        _ => return field.options.time_encoding,
    };
    Some(field.options.time_encoding.unwrap_or(default))
}

/// Decimal digits that hold every value of an integral type.
fn integral_digits(data_type: &DataType) -> Option<i16> {
    match data_type {
        DataType::Byte => Some(3),
        DataType::Short => Some(5),
        DataType::Integer => Some(10),
        DataType::Long => Some(19),
        _ => None,
    }
}

/// Whether every stored value of a scalar type is a value of another one, read from the same stored form.
fn widens(old: &DataType, new: &DataType) -> bool {
    match (old, new) {
        (DataType::Float, DataType::Double) => true,
        (DataType::Char(old) | DataType::Varchar(old), DataType::Varchar(new)) => new >= old,
        (DataType::Char(old), DataType::Char(new)) => new >= old,
        (DataType::Char(_) | DataType::Varchar(_), DataType::String) => true,
        (DataType::Decimal { precision: old_precision, scale: old_scale }, DataType::Decimal { precision, scale }) => {
            scale >= old_scale && whole_digits(*precision, *scale) >= whole_digits(*old_precision, *old_scale)
        }
        (old, DataType::Decimal { precision, scale }) => {
            *scale >= 0 && integral_digits(old).is_some_and(|digits| whole_digits(*precision, *scale) >= digits)
        }
        _ => match (integral_digits(old), integral_digits(new)) {
            (Some(old), Some(new)) => new >= old,
            _ => false,
        },
    }
}

fn whole_digits(precision: u8, scale: i8) -> i16 {
    i16::from(precision) - i16::from(scale)
}

/// As [`widens`], for map keys: their canonical text must stay the same, too.
fn widens_as_map_key(old: &DataType, new: &DataType) -> bool {
    !matches!(new, DataType::Decimal { .. }) && widens(old, new)
}

#[cfg(test)]
mod tests {
    use super::super::table::{KeyDef, UnknownFields, default_partition_attribute, default_sort_attribute};
    use super::super::{Schema, ddl};
    use super::*;

    fn table(columns: &str) -> TableDef {
        let key = KeyDef {
            partition: vec!["id".to_owned()],
            sort: Vec::new(),
            partition_attribute: default_partition_attribute(),
            sort_attribute: default_sort_attribute(),
        };
        TableDef::new("t", ddl::parse(columns).unwrap(), key, "t")
    }

    fn allowed(old: &str, new: &str) -> Vec<String> {
        let (old, new) = (table(&format!("id STRING NOT NULL, {old}")), table(&format!("id STRING NOT NULL, {new}")));
        let evolution = evolve(&old, &new).unwrap_or_else(|refusal| panic!("{refusal}"));
        evolution.changes.iter().map(ToString::to_string).collect()
    }

    fn refused(old: &str, new: &str) -> String {
        let (old, new) = (table(&format!("id STRING NOT NULL, {old}")), table(&format!("id STRING NOT NULL, {new}")));
        evolve(&old, &new).expect_err("should be refused").to_string()
    }

    #[test]
    fn the_same_definition_changes_nothing_whatever_the_order_of_its_fields() {
        assert!(allowed("a INT, s STRUCT<x: INT, y: INT>", "s STRUCT<y: INT, x: INT>, a INT").is_empty());
        let old = table("id STRING NOT NULL, a INT, b INT");
        let new = table("new INT, b INT, a INT, id STRING NOT NULL");
        let names = |schema: &Schema| schema.fields.iter().map(|field| field.name.clone()).collect::<Vec<_>>();
        assert_eq!(names(&evolve(&old, &new).unwrap().definition.schema), ["id", "a", "b", "new"]);
    }

    #[test]
    fn widening_and_additions_are_allowed() {
        let cases = [
            ("a TINYINT", "a SMALLINT"),
            ("a INT", "a BIGINT"),
            ("a BIGINT", "a DECIMAL(19, 0)"),
            ("a FLOAT", "a DOUBLE"),
            ("a DECIMAL(10, 2)", "a DECIMAL(12, 3)"),
            ("a VARCHAR(5)", "a VARCHAR(6)"),
            ("a VARCHAR(5)", "a STRING"),
            ("a CHAR(5)", "a VARCHAR(5)"),
            ("a INT NOT NULL", "a INT"),
            ("a ARRAY<INT NOT NULL>", "a ARRAY<INT>"),
            ("a ARRAY<INT>", "a ARRAY<BIGINT>"),
            ("a MAP<INT, FLOAT>", "a MAP<INT, DOUBLE>"),
            ("a MAP<INT, FLOAT>", "a MAP<BIGINT, FLOAT>"),
            ("a STRUCT<x: INT>", "a STRUCT<x: INT, y: INT>"),
            ("a INT", "a INT, b STRING"),
            ("a INT", "a INT, b INT NOT NULL DEFAULT 0"),
            ("a INT", "a INT COMMENT 'age'"),
            ("a STRUCT<x: INT>", "a STRUCT<x: INT COMMENT 'inner'>"),
            ("a STRUCT<x: INT>", "a STRUCT<x: INT, y: STRUCT<z: INT NOT NULL>>"),
            ("a MAP<STRING, STRUCT<x: INT>>", "a MAP<STRING, STRUCT<x: INT, y: INT>>"),
            ("a MAP<VARCHAR(3), INT>", "a MAP<STRING, INT>"),
            ("a MAP<STRING, INT NOT NULL>", "a MAP<STRING, INT>"),
            ("a STRUCT<x: INT NOT NULL>", "a STRUCT<x: INT>"),
            ("a ARRAY<INT> OPTIONS (as_set = true)", "a ARRAY<BIGINT> OPTIONS (as_set = true)"),
            ("a ARRAY<FLOAT> OPTIONS (as_set = true)", "a ARRAY<DOUBLE> OPTIONS (as_set = true)"),
            ("a DECIMAL(5, -2)", "a DECIMAL(7, 0)"),
            ("a INT DEFAULT 1", "a INT DEFAULT 2"),
            ("a INT DEFAULT 1", "a INT"),
            ("a INT NOT NULL", "a INT NOT NULL DEFAULT 1"),
            ("a INT NOT NULL DEFAULT 1", "a INT NOT NULL DEFAULT 2"),
            ("a DOUBLE", "a DOUBLE OPTIONS (non_finite = null)"),
        ];
        for (old, new) in cases {
            assert_eq!(allowed(old, new).len(), 1, "{old} to {new}");
        }
        assert_eq!(
            allowed("a ARRAY<STRUCT<x: INT>>", "a ARRAY<STRUCT<x: BIGINT>>"),
            ["column `a[].x`: int becomes bigint"]
        );
        assert!(allowed("a DATE", "a DATE OPTIONS (time_encoding = string)").is_empty());
    }

    #[test]
    fn everything_else_is_refused_with_its_path() {
        let cases = [
            ("a INT, b INT", "a INT", "`b`: cannot be dropped"),
            ("a BIGINT", "a INT", "`a`: cannot change from bigint to int"),
            ("a INT", "a STRING", "`a`: cannot change from int to string"),
            ("a BIGINT", "a DECIMAL(18, 0)", "cannot change"),
            ("a DECIMAL(10, 2)", "a DECIMAL(10, 3)", "cannot change"),
            ("a STRING", "a VARCHAR(9)", "cannot change"),
            ("a INT", "a INT NOT NULL", "`a`: cannot become NOT NULL"),
            ("a INT", "a INT, b INT NOT NULL", "`b`: a new column must be nullable or have a default"),
            ("a STRUCT<x: INT>", "a STRUCT<x: INT, y: INT NOT NULL>", "`a.y`: a new column must be nullable"),
            ("a ARRAY<STRUCT<x: INT>>", "a ARRAY<STRUCT<x: STRING>>", "`a[].x`: cannot change from int to string"),
            ("a MAP<INT, INT>", "a MAP<STRING, INT>", "`a`: the map's key cannot change from int to string"),
            ("a MAP<INT, INT>", "a MAP<DECIMAL(12, 2), INT>", "`a`: the map's key cannot change"),
            ("a MAP<BIGINT, INT>", "a MAP<INT, INT>", "`a`: the map's key cannot change from bigint to int"),
            ("a MAP<STRING, STRUCT<x: INT>>", "a MAP<STRING, STRUCT<y: INT>>", "`a{}.x`: cannot be dropped"),
            ("a ARRAY<INT>", "a ARRAY<INT NOT NULL>", "`a[]`: cannot become NOT NULL"),
            ("a STRUCT<x: INT>", "a STRUCT<x: INT NOT NULL>", "`a.x`: cannot become NOT NULL"),
            ("a STRUCT<x: INT>", "a STRUCT<x: INT, y: INT NOT NULL DEFAULT 1>", "`a.y`: a new column must be nullable"),
            ("a VARCHAR(5)", "a CHAR(5)", "`a`: cannot change from varchar(5) to char(5)"),
            ("a CHAR(5)", "a VARCHAR(4)", "`a`: cannot change from char(5) to varchar(4)"),
            ("a DOUBLE", "a FLOAT", "`a`: cannot change from double to float"),
            ("a INT", "a DOUBLE", "`a`: cannot change from int to double"),
            ("a TIMESTAMP", "a TIMESTAMP_NTZ", "`a`: cannot change"),
            ("a INTERVAL DAY TO SECOND", "a INTERVAL YEAR TO MONTH", "`a`: cannot change"),
            ("a INTERVAL YEAR TO MONTH", "a INT", "`a`: cannot change"),
            ("a INT", "a ARRAY<INT>", "`a`: cannot change from int to array<int>"),
            ("a INT NOT NULL DEFAULT 1", "a INT NOT NULL", "`a.default_value`: cannot be taken from a NOT NULL column"),
            (
                "a STRUCT<d: DATE>",
                "a STRUCT<d: DATE OPTIONS (time_encoding = number)>",
                "`a.d.time_encoding`: cannot change",
            ),
            ("a DATE", "a DATE OPTIONS (time_encoding = number)", "`a.time_encoding`: cannot change"),
            ("a ARRAY<INT>", "a ARRAY<INT> OPTIONS (as_set = true)", "`a.as_set`: cannot change"),
            ("a DOUBLE OPTIONS (non_finite = string)", "a DOUBLE", "`a.non_finite`: cannot change"),
        ];
        for (old, new, reason) in cases {
            let message = refused(old, new);
            assert!(message.contains(reason), "{old} to {new}: {message}");
        }
        let both = refused("a INT, b INT", "a STRING");
        assert!(both.contains("`a`") && both.contains("`b`"), "{both}");
    }

    #[test]
    fn key_and_ttl_columns_stay_as_they_are() {
        let mut old = table("id INT NOT NULL, a INT, t TIMESTAMP");
        old.ttl_column = Some("t".to_owned());
        let mut new = old.clone();
        new.schema = ddl::parse("id BIGINT NOT NULL, a INT, t TIMESTAMP").unwrap();
        assert!(evolve(&old, &new).unwrap_err().to_string().contains("`id`: cannot change from int to bigint"));
        new = old.clone();
        new.key.sort = vec!["a".to_owned()];
        assert!(evolve(&old, &new).unwrap_err().to_string().starts_with("`key.sort`"));
        new = old.clone();
        new.ttl_column = None;
        assert!(evolve(&old, &new).unwrap_err().to_string().starts_with("`ttl_column`"));
    }

    #[test]
    fn policies_may_change_and_the_server_keeps_what_is_its_own() {
        let old = table("id INT NOT NULL");
        let mut new = old.clone();
        new.unknown_fields = UnknownFields::Drop;
        new.ownership = Ownership::Bound;
        new.dynamodb_table = String::new();
        let evolution = evolve(&old, &new).unwrap();
        assert_eq!(evolution.changes.len(), 1);
        assert_eq!(evolution.definition.ownership, Ownership::Created);
        assert_eq!(evolution.definition.dynamodb_table, "t");
        new.dynamodb.point_in_time_recovery = true;
        assert!(evolve(&old, &new).unwrap_err().to_string().contains("change it in DynamoDB"));
    }
}
