//! Table files: definitions in YAML, a document for each table.
//!
//! [`parse`] reads a file into checked definitions; [`print()`] writes one that reads back as the same definition. Unknown
//! keys are errors. The format is documented in `docs/tables.md`; its keys are those of the protobuf `Table`. Caller:
//! `forebay tables`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::de::value::MapAccessDeserializer;
use serde::de::{Error as _, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Map, Value, json};
use serde_saphyr::{Location, Spanned};

use crate::api::convert;
use crate::schema::table::{default_partition_attribute, default_sort_attribute};
use crate::schema::{
    Coalesce, DynamoDbOptions, KeyDef, Lake, NonFinite, Schema, SeriesLayout, StoreAssignment, TableDef, TimeEncoding,
    UnknownFields, ddl, spark_json,
};
use crate::yaml::{self, YamlError};

/// One document of a table file.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    name: Spanned<String>,
    ddl: Option<Spanned<String>>,
    schema: Option<Spanned<Value>>,
    schema_file: Option<Spanned<PathBuf>>,
    #[serde(default)]
    columns: BTreeMap<String, Spanned<Column>>,
    key: Key,
    #[serde(default)]
    dynamodb_table: String,
    #[serde(default)]
    unknown_fields: UnknownFields,
    #[serde(default)]
    store_assignment: StoreAssignment,
    sequence_by: Option<String>,
    tombstone_retention: Option<Span>,
    ttl_column: Option<String>,
    #[serde(default)]
    coalesce: Coalesce,
    #[serde(default)]
    write_shards: u32,
    write_sharding: Option<WriteSharding>,
    #[serde(default)]
    append_only: bool,
    series: Option<Series>,
    lake: Option<LakeEntry>,
    #[serde(default)]
    max_write_units: u64,
    #[serde(default)]
    show_values_in_outcomes: bool,
    #[serde(default)]
    dynamodb: DynamoDbOptions,
    #[serde(default)]
    comment: String,
}

/// Storage choices for a top-level column, over what the schema says.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Column {
    #[serde(default, deserialize_with = "non_finite")]
    non_finite: Option<NonFinite>,
    time_encoding: Option<TimeEncoding>,
    as_set: Option<bool>,
    key_as_number: Option<bool>,
    float_key: Option<bool>,
    default_value: Option<Value>,
    comment: Option<String>,
}

/// The choice `null` is a text, and YAML's own null is easily written for it: that must not mean that nothing was chosen.
fn non_finite<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<NonFinite>, D::Error> {
    let chosen = Option::deserialize(deserializer)?;
    let null = || D::Error::custom("YAML's own null is none; to store a null, write \"null\" in quotes");
    chosen.ok_or_else(null).map(Some)
}

/// A duration in words.
#[derive(Debug, Serialize, Deserialize)]
struct Span(#[serde(with = "yaml::duration")] Duration);

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct WriteSharding {
    max_shards: u32,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Series {
    time_column: String,
    window: Span,
    #[serde(default)]
    packed: bool,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct LakeEntry {
    #[serde(default = "yes")]
    enabled: bool,
    location: String,
    #[serde(default)]
    best_effort: bool,
}

fn yes() -> bool {
    true
}

/// `key: id`, `key: [user, day]` (the first is the partition key, the others the sort key), or in full.
#[derive(Debug)]
struct Key(KeyDef);

impl<'de> Deserialize<'de> for Key {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Full {
            partition: Columns,
            #[serde(default)]
            sort: Columns,
            #[serde(default = "default_partition_attribute")]
            partition_attribute: String,
            #[serde(default = "default_sort_attribute")]
            sort_attribute: String,
        }
        struct KeyVisitor;
        impl<'de> Visitor<'de> for KeyVisitor {
            type Value = Key;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a column, a list of columns, or `partition` and `sort`")
            }

            fn visit_str<E>(self, column: &str) -> Result<Key, E> {
                Ok(Key(key(vec![column.to_owned()], Vec::new())))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Key, A::Error> {
                let mut columns = Vec::new();
                while let Some(column) = list.next_element::<String>()? {
                    columns.push(column);
                }
                let sort = if columns.len() > 1 { columns.split_off(1) } else { Vec::new() };
                Ok(Key(key(columns, sort)))
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Key, A::Error> {
                let full = Full::deserialize(MapAccessDeserializer::new(map))?;
                let Full { partition, sort, partition_attribute, sort_attribute } = full;
                Ok(Key(KeyDef { partition: partition.0, sort: sort.0, partition_attribute, sort_attribute }))
            }
        }
        deserializer.deserialize_any(KeyVisitor)
    }
}

fn key(partition: Vec<String>, sort: Vec<String>) -> KeyDef {
    let (partition_attribute, sort_attribute) = (default_partition_attribute(), default_sort_attribute());
    KeyDef { partition, sort, partition_attribute, sort_attribute }
}

/// One column or a list of columns.
#[derive(Debug, Default)]
struct Columns(Vec<String>);

impl<'de> Deserialize<'de> for Columns {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct ColumnsVisitor;
        impl<'de> Visitor<'de> for ColumnsVisitor {
            type Value = Columns;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a column or a list of columns")
            }

            fn visit_str<E>(self, column: &str) -> Result<Columns, E> {
                Ok(Columns(vec![column.to_owned()]))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Columns, A::Error> {
                let mut columns = Vec::new();
                while let Some(column) = list.next_element::<String>()? {
                    columns.push(column);
                }
                Ok(Columns(columns))
            }
        }
        deserializer.deserialize_any(ColumnsVisitor)
    }
}

/// Reads a file.
pub fn read(path: &Path) -> Result<Vec<TableDef>, YamlError> {
    let file = path.display().to_string();
    let text = std::fs::read_to_string(path).map_err(|error| YamlError {
        file: file.clone(),
        line: None,
        problem: format!("cannot be read: {error}"),
        expected: String::new(),
    })?;
    parse(&file, &text, path.parent().unwrap_or(Path::new("")))
}

/// Reads a file's text. `schema_file` is relative to `folder`.
pub fn parse(file: &str, text: &str, folder: &Path) -> Result<Vec<TableDef>, YamlError> {
    let entries: Vec<Entry> = yaml::documents(file, text).map_err(|error| in_table(text, error))?;
    if entries.is_empty() {
        let problem = "there is no table in the file".to_owned();
        let expected = "`name`, `ddl` and `key` at least".to_owned();
        return Err(YamlError { file: file.to_owned(), line: None, problem, expected });
    }
    let mut seen = std::collections::HashSet::new();
    let mut tables = Vec::with_capacity(entries.len());
    for entry in entries {
        let (name, name_at) = (entry.name.value.clone(), entry.name.referenced);
        let wrong = |at: Location, problem: String| YamlError {
            file: file.to_owned(),
            line: Some(at.line()),
            problem: format!("table `{name}`: {problem}"),
            expected: String::new(),
        };
        if !seen.insert(name.clone()) {
            return Err(wrong(name_at, "the name is there twice".to_owned()));
        }
        tables.push(define(entry, folder).map_err(|(at, problem)| wrong(at.unwrap_or(name_at), problem))?);
    }
    Ok(tables)
}

/// Says in which table a key is wrong: the last `name:` above the line in the same document.
fn in_table(text: &str, mut error: YamlError) -> YamlError {
    let Some(line) = error.line.and_then(|line| usize::try_from(line).ok()) else { return error };
    let lines: Vec<_> = text.lines().collect();
    let above = &lines[..line.min(lines.len())];
    let start = above.iter().rposition(|line| line.starts_with("---")).unwrap_or(0);
    let end = lines[start + 1..].iter().position(|line| line.starts_with("---"));
    let document = &lines[start..end.map_or(lines.len(), |end| start + 1 + end)];
    if let Some(name) = document.iter().find_map(|line| line.strip_prefix("name:")) {
        error.problem = format!("{} in table `{}`", error.problem, name.trim().trim_matches(['"', '\'']));
    }
    error
}

type Problem = (Option<Location>, String);

fn define(entry: Entry, folder: &Path) -> Result<TableDef, Problem> {
    let mut schema = columns(&entry, folder)?;
    for (name, column) in entry.columns {
        let at = Some(column.referenced);
        let Some(field) = schema.fields.iter_mut().find(|field| field.name == name) else {
            return Err((at, format!("`columns` names `{name}`, which the schema does not have")));
        };
        let Column { non_finite, time_encoding, as_set, key_as_number, float_key, default_value, comment } =
            column.value;
        let options = &mut field.options;
        options.non_finite = non_finite.unwrap_or(options.non_finite);
        options.time_encoding = time_encoding.or(options.time_encoding);
        options.as_set = as_set.unwrap_or(options.as_set);
        options.key_as_number = key_as_number.unwrap_or(options.key_as_number);
        options.float_key = float_key.unwrap_or(options.float_key);
        options.default_value = default_value.map(|value| value.to_string()).or(options.default_value.take());
        field.comment = comment.unwrap_or(std::mem::take(&mut field.comment));
    }
    let def = TableDef {
        unknown_fields: entry.unknown_fields,
        store_assignment: entry.store_assignment,
        sequence_by: entry.sequence_by,
        tombstone_retention: entry.tombstone_retention.map(|span| span.0),
        ttl_column: entry.ttl_column,
        coalesce: entry.coalesce,
        write_shards: entry.write_shards,
        write_sharding_max_shards: entry.write_sharding.map_or(0, |sharding| sharding.max_shards),
        append_only: entry.append_only,
        series: entry.series.map(|series| SeriesLayout {
            time_column: series.time_column,
            window: series.window.0,
            packed: series.packed,
        }),
        lake: entry.lake.map(|lake| Lake {
            enabled: lake.enabled,
            location: lake.location,
            best_effort: lake.best_effort,
        }),
        max_write_units: entry.max_write_units,
        show_values_in_outcomes: entry.show_values_in_outcomes,
        dynamodb: entry.dynamodb,
        comment: entry.comment,
        ..TableDef::new(entry.name.value, schema, entry.key.0, entry.dynamodb_table)
    };
    def.validate().map_err(|error| (None, error.to_string()))?;
    // What the server would refuse in the request's shape is found here, where the file's line is known.
    convert::table_from_proto("", &convert::table_to_proto(&def))
        .map_err(|error| (None, format!("{}: {}", error.field.trim_start_matches('.'), error.message)))?;
    Ok(def)
}

fn columns(entry: &Entry, folder: &Path) -> Result<Schema, Problem> {
    match (&entry.ddl, &entry.schema, &entry.schema_file) {
        (Some(text), None, None) => {
            ddl::parse(&text.value).map_err(|error| (Some(text.referenced), format!("in `ddl`, {error}")))
        }
        (None, Some(schema), None) => {
            let read = match &schema.value {
                Value::String(text) => spark_json::parse(text),
                value => spark_json::from_value(value),
            };
            read.map_err(|error| (Some(schema.referenced), format!("in `schema`, {error}")))
        }
        (None, None, Some(file)) => {
            let path = folder.join(&file.value);
            let problem = |error: String| (Some(file.referenced), format!("{}: {error}", path.display()));
            let text = std::fs::read_to_string(&path).map_err(|error| problem(error.to_string()))?;
            spark_json::parse(&text).map_err(|error| problem(error.to_string()))
        }
        (None, None, None) => Err((None, "has no columns: give `ddl`, `schema` or `schema_file`".to_owned())),
        _ => Err((None, "give only one of `ddl`, `schema` and `schema_file`".to_owned())),
    }
}

/// Writes a table file that reads back as the same definition. What is as by default is left out.
pub fn print(def: &TableDef) -> Result<String, serde_saphyr::SerializeError> {
    let mut out = serde_saphyr::to_string(&json!({ "name": def.name }))?;
    out.push_str("ddl: |\n");
    for line in ddl::print_lines(&def.schema).lines() {
        out.push_str("  ");
        out.push_str(line);
        out.push('\n');
    }
    out.push_str(&serde_saphyr::to_string(&options(def))?);
    Ok(out)
}

/// The key and everything that is not as by default, by the keys of a table file.
pub fn options(def: &TableDef) -> Map<String, Value> {
    let default = TableDef::new(&def.name, Schema::default(), def.key.clone(), "");
    let mut key = Map::new();
    key.insert("partition".to_owned(), json!(def.key.partition));
    if !def.key.sort.is_empty() {
        key.insert("sort".to_owned(), json!(def.key.sort));
    }
    if def.key.partition.len() > 1 && def.key.partition_attribute != default_partition_attribute() {
        key.insert("partition_attribute".to_owned(), json!(def.key.partition_attribute));
    }
    if def.key.sort.len() > 1 && def.key.sort_attribute != default_sort_attribute() {
        key.insert("sort_attribute".to_owned(), json!(def.key.sort_attribute));
    }
    let mut out = Map::new();
    let mut put = |name: &str, value: Value, default: Value| {
        if value != default {
            out.insert(name.to_owned(), value);
        }
    };
    put("key", Value::Object(key), Value::Null);
    put("dynamodb_table", json!(def.dynamodb_table), json!(default.dynamodb_table));
    put("comment", json!(def.comment), json!(default.comment));
    put("unknown_fields", json!(def.unknown_fields), json!(default.unknown_fields));
    put("store_assignment", json!(def.store_assignment), json!(default.store_assignment));
    put("sequence_by", json!(def.sequence_by), Value::Null);
    put("tombstone_retention", json!(def.tombstone_retention.map(Span)), Value::Null);
    put("ttl_column", json!(def.ttl_column), Value::Null);
    put("coalesce", json!(def.coalesce), json!(default.coalesce));
    put("write_shards", json!(def.write_shards), json!(0));
    let sharding = (def.write_sharding_max_shards > 0).then(|| json!({ "max_shards": def.write_sharding_max_shards }));
    put("write_sharding", json!(sharding), Value::Null);
    put("append_only", json!(def.append_only), json!(false));
    let series = def.series.as_ref().map(
        |series| json!({ "time_column": series.time_column, "window": Span(series.window), "packed": series.packed }),
    );
    put("series", json!(series), Value::Null);
    put("lake", json!(def.lake), Value::Null);
    put("max_write_units", json!(def.max_write_units), json!(0));
    put("show_values_in_outcomes", json!(def.show_values_in_outcomes), json!(false));
    put("dynamodb", dynamodb(&def.dynamodb), json!({}));
    out
}

fn dynamodb(options: &DynamoDbOptions) -> Value {
    let (value, default) = (json!(options), json!(DynamoDbOptions::default()));
    match value {
        Value::Object(all) => {
            Value::Object(all.into_iter().filter(|(name, value)| default.get(name) != Some(value)).collect())
        }
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(text: &str) -> TableDef {
        parse("t.yaml", text, Path::new("")).unwrap_or_else(|error| panic!("{error}")).remove(0)
    }

    fn refused(text: &str) -> String {
        parse("t.yaml", text, Path::new("")).expect_err(text).to_string()
    }

    const FULL: &str = r#"
name: events
comment: what users did
ddl: |
  user_id STRING NOT NULL COMMENT 'who: "she" or he',
  at TIMESTAMP NOT NULL,
  day DATE,
  until TIMESTAMP,
  tags ARRAY<STRING>,
  score DOUBLE
key:
  partition: user_id
  sort: [at]
columns:
  tags: { as_set: true }
  score: { non_finite: "null", default_value: 0.5 }
  day: { time_encoding: number, comment: epoch days }
dynamodb_table: prod-events
unknown_fields: drop
ttl_column: until
coalesce: off
append_only: true
write_sharding: { max_shards: 8 }
show_values_in_outcomes: true
dynamodb:
  billing_mode: provisioned
  provisioned_read_units: 5
  provisioned_write_units: 10
  point_in_time_recovery: true
  tags: { team: ml }
  stream_view: new_image
  deletion_protection: true
"#;

    #[test]
    fn every_key_is_understood_and_what_is_printed_reads_back_the_same() {
        let def = one(FULL);
        assert_eq!(def.key.partition, ["user_id"]);
        assert_eq!(def.key.sort, ["at"]);
        assert_eq!(def.coalesce, Coalesce::Off);
        assert_eq!(def.write_sharding_max_shards, 8);
        assert!(def.schema.field("tags").unwrap().options.as_set);
        assert_eq!(def.schema.field("score").unwrap().options.default_value.as_deref(), Some("0.5"));
        let printed = print(&def).unwrap();
        assert_eq!(one(&printed), def, "{printed}");
    }

    #[test]
    fn rarer_options_can_be_written_and_printed_too() {
        let def = one("name: s\nddl: id STRING NOT NULL, n BIGINT NOT NULL, t TIMESTAMP\nkey: id\nsequence_by: n\n\
                       tombstone_retention: 36h\nlake: {location: s3://b/x}\n\
                       series: {time_column: t, window: 1h}\n");
        assert_eq!(def.tombstone_retention, Some(Duration::from_secs(36 * 3600)));
        assert_eq!(one(&print(&def).unwrap()), def);
        let def = one("name: s\nddl: id STRING NOT NULL, t TIMESTAMP NOT NULL\nkey: {partition: id, sort: t}\n\
                       append_only: true\nwrite_sharding: {max_shards: 8}\n");
        assert_eq!(one(&print(&def).unwrap()), def);
    }

    #[test]
    fn a_file_holds_several_tables_and_several_forms_of_keys() {
        let text = "name: a\nddl: x STRING NOT NULL, y INT NOT NULL, z INT NOT NULL\nkey: x\n---\n\
                    name: b\nddl: x STRING NOT NULL, y INT NOT NULL, z INT NOT NULL\nkey: [x, y, z]\n---\n\
                    name: c\nddl: x STRING NOT NULL, y INT NOT NULL, z INT NOT NULL\nkey: {partition: [x, y], sort: z}\n";
        let tables = parse("t.yaml", text, Path::new("")).unwrap();
        let keys: Vec<_> = tables.iter().map(|def| (def.key.partition.join("+"), def.key.sort.join("+"))).collect();
        let expected = [("x", ""), ("x", "y+z"), ("x+y", "z")].map(|(p, s)| (p.to_owned(), s.to_owned()));
        assert_eq!(keys, expected);
    }

    #[test]
    fn spark_json_may_be_text_a_mapping_or_a_file() {
        let json = r#"{"type":"struct","fields":[{"name":"id","type":"string","nullable":false,"metadata":{}}]}"#;
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("schema.json"), json).unwrap();
        let forms = [format!("schema: {json}"), format!("schema: '{json}'"), "schema_file: schema.json".to_owned()];
        for form in forms {
            let text = format!("name: t\n{form}\nkey: id\n");
            let tables = parse("t.yaml", &text, folder.path()).unwrap();
            assert_eq!(tables[0].schema.fields[0].name, "id", "{form}");
        }
    }

    #[test]
    fn errors_name_file_line_key_table_and_what_was_expected() {
        let message = refused("name: x\nddl: id STRING NOT NULL\nkey: id\nfoo: 1\n");
        assert!(
            message.starts_with("t.yaml:4: unknown key `foo` in table `x`; expected one of `name`, `ddl`, "),
            "{message}"
        );
        let second = "name: x\nddl: id STRING NOT NULL\nkey: id\n---\nname: y\nddl: id STRING NOT NULL\nkey: id\n";
        let cases = [
            (
                format!("{second}coalesce: maybe"),
                "t.yaml:8: unknown value `maybe` for `coalesce` in table `y`; expected one of `on`, `off`",
            ),
            (
                format!("{second}dynamodb: {{tag: 1}}"),
                "t.yaml:8: unknown key `tag` in table `y`; expected one of `billing_mode`, ",
            ),
            (
                format!("{second}---\nname: x\nddl: id STRING NOT NULL\nkey: id"),
                "t.yaml:9: table `x`: the name is there twice",
            ),
            (
                "name: x\nkey: id".to_owned(),
                "t.yaml:1: table `x`: has no columns: give `ddl`, `schema` or `schema_file`",
            ),
            (
                "name: x\nddl: id STRNG\nkey: id".to_owned(),
                "t.yaml:2: table `x`: in `ddl`, line 1, column 4: expected a type",
            ),
            (
                "name: x\nddl: id STRING\nkey: id".to_owned(),
                "t.yaml:1: table `x`: column `id`: a key column must be NOT NULL",
            ),
            (
                "name: x\nddl: id STRING NOT NULL\nkey: idd".to_owned(),
                "t.yaml:1: table `x`: column `idd`: the key names a column that does not exist; there are id",
            ),
            (
                "name: x\nddl: id STRING NOT NULL\nkey: {partition: id, sorted: id}".to_owned(),
                "t.yaml:3: unknown key `sorted` in table `x`; expected one of `partition`, `sort`",
            ),
            ("name: x\nddl: id STRING NOT NULL".to_owned(), "t.yaml:2: the key `key` is missing in table `x`"),
            (
                "name: x\nddl: id STRING NOT NULL\nkey: id\ncolumns: {no: {as_set: true}}".to_owned(),
                "t.yaml:4: table `x`: `columns` names `no`",
            ),
            (
                "name: x\nddl: id STRING NOT NULL\nkey: id\ndynamodb: {billing_mode: provisioned}".to_owned(),
                "t.yaml:1: table `x`: dynamodb.provisioned_read_units: is missing",
            ),
            (String::new(), "t.yaml: there is no table in the file; expected `name`"),
        ];
        for (text, expected) in cases {
            let message = refused(&text);
            assert!(message.starts_with(expected), "{message}\nexpected\n{expected}");
        }
    }

    #[test]
    fn an_unquoted_null_is_not_taken_for_no_choice() {
        let file = |value: &str| {
            format!("name: x\nddl: id STRING NOT NULL, d DOUBLE\nkey: id\ncolumns:\n  d:\n    non_finite: {value}\n")
        };
        for null in ["null", "~", ""] {
            assert_eq!(
                refused(&file(null)),
                "t.yaml:6: wrong value for `non_finite`: YAML's own null is none; to store a null, write \"null\" in quotes \
                 in table `x`"
            );
        }
        for (value, choice) in [("'null'", NonFinite::Null), ("string", NonFinite::String)] {
            assert_eq!(one(&file(value)).schema.field("d").unwrap().options.non_finite, choice);
        }
    }

    #[test]
    fn the_examples_are_valid() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/tables");
        let mut count = 0;
        for file in std::fs::read_dir(folder).unwrap() {
            let path = file.unwrap().path();
            if path.extension().is_some_and(|extension| extension == "yaml") {
                count += read(&path).unwrap_or_else(|error| panic!("{error}")).len();
            }
        }
        assert!(count >= 3);
    }
}
