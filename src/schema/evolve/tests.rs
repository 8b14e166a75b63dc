//! Every allowed change and every refused one.

use super::*;
use crate::schema::table::{KeyDef, UnknownFields, default_partition_attribute, default_sort_attribute};
use crate::schema::{Schema, ddl};

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

#[test]
fn what_orders_rows_never_changes() {
    let of = |sequence_by: Option<&str>| {
        let table = table("id STRING NOT NULL, v BIGINT NOT NULL, w BIGINT NOT NULL");
        TableDef { sequence_by: sequence_by.map(str::to_owned), ..table }
    };
    for (old, new) in [(None, Some("v")), (Some("v"), None), (Some("v"), Some("w"))] {
        let refusal = evolve(&of(old), &of(new)).unwrap_err();
        assert_eq!(refusal.0[0].path, "sequence_by", "{refusal}");
    }
    let wider = table("id STRING NOT NULL, v DECIMAL(20, 0) NOT NULL, w BIGINT NOT NULL");
    let wider = TableDef { sequence_by: Some("v".to_owned()), ..wider };
    assert!(evolve(&of(Some("v")), &wider).unwrap_err().to_string().contains("sequence"), "nor does its type");
    let retention = Some(std::time::Duration::from_secs(86_400));
    let kept = TableDef { tombstone_retention: retention, ..of(Some("v")) };
    assert_eq!(evolve(&of(Some("v")), &kept).unwrap().changes.len(), 1);
}
