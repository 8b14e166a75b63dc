//! The columns that a session brings and the table does not have, added to the table's definition: Spark's `mergeSchema`.
//!
//! What is added is nullable, because rows that are stored do not carry it, and has the session's type, comment and storage
//! choices. What both have keeps the table's type: a session never widens a column, so its values are coerced or refused
//! as in any other session. A key column is never added, because the table has them all. Pure; the catalog stores the
//! result, and checks it first: names and limits are not looked at here.

use super::table::TableDef;
use super::types::{DataType, Field, Schema};

/// A definition with more columns.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Added {
    /// The table with the new columns at the end, and new fields at the end of their structs.
    pub definition: TableDef,
    /// The paths of what is new: `age`, `vitals[].hr`.
    pub paths: Vec<String>,
}

impl Added {
    /// Whether this path is new, or within something that is.
    pub fn contains(&self, path: &str) -> bool {
        let within = |new: &String| {
            path.strip_prefix(new.as_str()).is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[', '{']))
        };
        self.paths.iter().any(within)
    }
}

/// Adds the session's columns that the table does not have; `None` where it has them all.
pub fn add_columns(table: &TableDef, session: &Schema) -> Option<Added> {
    let mut paths = Vec::new();
    let mut definition = table.clone();
    add_fields("", &mut definition.schema.fields, &session.fields, &mut paths);
    (!paths.is_empty()).then_some(Added { definition, paths })
}

fn add_fields(parent: &str, table: &mut Vec<Field>, session: &[Field], paths: &mut Vec<String>) {
    for field in session {
        let path = if parent.is_empty() { field.name.clone() } else { format!("{parent}.{}", field.name) };
        match table.iter_mut().find(|known| known.name == field.name) {
            Some(known) => add_within(&path, &mut known.data_type, &field.data_type, paths),
            None => {
                table.push(Field { nullable: true, ..field.clone() });
                paths.push(path);
            }
        }
    }
}

/// Types of two kinds are left alone: whether the session's values fit is for its plan to say.
fn add_within(path: &str, table: &mut DataType, session: &DataType, paths: &mut Vec<String>) {
    match (table, session) {
        (DataType::Struct(table), DataType::Struct(session)) => add_fields(path, table, session, paths),
        (DataType::Array { element: table, .. }, DataType::Array { element: session, .. }) => {
            add_within(&format!("{path}[]"), table, session, paths);
        }
        (DataType::Map { value: table, .. }, DataType::Map { value: session, .. }) => {
            add_within(&format!("{path}{{}}"), table, session, paths);
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::super::table::{KeyDef, default_partition_attribute, default_sort_attribute};
    use super::super::{ddl, evolve};
    use super::*;
    use proptest::prelude::*;

    fn table(columns: &str) -> TableDef {
        let key = KeyDef {
            partition: vec!["id".to_owned()],
            sort: Vec::new(),
            partition_attribute: default_partition_attribute(),
            sort_attribute: default_sort_attribute(),
        };
        TableDef::new("t", ddl::parse(columns).unwrap(), key, "t")
    }

    fn added(old: &str, session: &str) -> Option<(Vec<String>, String)> {
        let added = add_columns(&table(old), &ddl::parse(session).unwrap())?;
        Some((added.paths, ddl::print(&added.definition.schema)))
    }

    #[test]
    fn new_columns_and_fields_are_added_as_nullable_at_any_depth() {
        let old = "id STRING NOT NULL, s STRUCT<a: INT>, l ARRAY<STRUCT<a: INT>>, m MAP<STRING, STRUCT<a: INT>>";
        let session = "z VARCHAR(3) NOT NULL COMMENT 'new', id STRING, s STRUCT<b: CHAR(2) NOT NULL>, \
                       l ARRAY<STRUCT<a: INT, b: DATE OPTIONS (time_encoding = number)>>, \
                       m MAP<STRING, STRUCT<b: STRUCT<x: INT NOT NULL>>>";
        let (paths, columns) = added(old, session).unwrap();
        assert_eq!(paths, ["z", "s.b", "l[].b", "m{}.b"]);
        let expected = "id STRING NOT NULL, s STRUCT<a: INT, b: CHAR(2)>, \
                        l ARRAY<STRUCT<a: INT, b: DATE OPTIONS (time_encoding = number)>>, \
                        m MAP<STRING, STRUCT<a: INT, b: STRUCT<x: INT NOT NULL>>>, z VARCHAR(3) COMMENT 'new'";
        assert_eq!(ddl::parse(&columns).unwrap(), ddl::parse(expected).unwrap(), "{columns}");
    }

    #[test]
    fn what_the_table_has_keeps_its_type_and_is_no_addition() {
        assert_eq!(added("id STRING NOT NULL, a INT, s STRUCT<x: INT>", "a BIGINT, s STRING, id STRING"), None);
        let (_, columns) = added("id STRING NOT NULL, a INT", "a BIGINT, b INT").unwrap();
        assert_eq!(ddl::parse(&columns).unwrap(), ddl::parse("id STRING NOT NULL, a INT, b INT").unwrap());
    }

    #[test]
    fn what_is_within_something_new_is_new() {
        let old = table("id STRING NOT NULL, s STRUCT<a: INT>");
        let session = ddl::parse("s STRUCT<b: ARRAY<INT>>, ab INT").unwrap();
        let added = add_columns(&old, &session).unwrap();
        for (path, new) in [("s.b", true), ("s.b[]", true), ("s", false), ("s.bc", false), ("ab", true), ("a", false)] {
            assert_eq!(added.contains(path), new, "{path}");
        }
    }

    proptest! {
        /// Whatever a session brings, the result is a change that an operator could have made, and nothing is left to add.
        #[test]
        fn an_addition_is_always_an_allowed_evolution(
            old in crate::schema::arbitrary::schema(),
            session in crate::schema::arbitrary::schema(),
        ) {
            let mut def = table("id STRING NOT NULL");
            def.schema.fields.extend(old.fields.into_iter().filter(|field| field.name != "id"));
            if let Some(added) = add_columns(&def, &session) {
                let evolution = evolve::evolve(&def, &added.definition).unwrap();
                prop_assert_eq!(evolution.changes.len(), added.paths.len());
                prop_assert_eq!(add_columns(&added.definition, &session), None);
            }
        }
    }
}
