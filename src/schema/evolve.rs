//! Which changes of a table's definition are allowed.
//!
//! The rule behind the list: every row that is stored must read back under the new definition, and every session that is
//! open must stay valid. Fields match by name; their order has no meaning, so the stored order stays and new fields go to
//! the end. Pure; the catalog is the caller.

#[cfg(test)]
mod tests;

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
        self.free(&format!("{path}.float_key"), &was.float_key, &is.float_key);
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
