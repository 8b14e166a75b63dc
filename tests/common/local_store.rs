//! The embedded DynamoDB, a table with the key (`id`, `n`), and the writes and reads of its items.

#![allow(dead_code, reason = "each test uses its own part")]

use bytes::Bytes;
use forebay::schema::table::{KeyDef, TableDef};
use forebay::schema::types::{DataType, Field, Schema};
use forebay::store::dynamodb::DynamoDb;
use forebay::store::embedded::Embedded;
use forebay::store::{Attr, BatchWrite, GetKeys, KeyAttrs, WriteItem, WriteOp};

/// A store and the emulator behind it.
pub(crate) struct Local {
    pub(crate) store: DynamoDb,
    pub(crate) embedded: Embedded,
}

pub(crate) async fn local() -> Local {
    let embedded = Embedded::start(None).unwrap();
    Local { store: DynamoDb::connect(&embedded.store_config()).await.unwrap(), embedded }
}

pub(crate) fn definition(table: &str) -> TableDef {
    let schema = Schema {
        fields: vec![
            Field::new("id", DataType::String, false),
            Field::new("n", DataType::Long, false),
            Field::new("until", DataType::Long, true),
        ],
    };
    let key = KeyDef {
        partition: vec!["id".to_owned()],
        sort: vec!["n".to_owned()],
        partition_attribute: "_pk".to_owned(),
        sort_attribute: "_sk".to_owned(),
    };
    TableDef::new(table, schema, key, table)
}

/// A put of the key (id, n) with more attributes, as JSON.
pub(crate) fn put(id: &str, n: i64, rest: &str) -> WriteItem {
    let key = key_json(id, n);
    WriteItem::new(WriteOp::Put, Bytes::from(format!("{{{key}{rest}}}")), key.len() as u32)
}

pub(crate) fn delete(id: &str, n: i64) -> WriteItem {
    WriteItem { op: WriteOp::Delete, ..put(id, n, "") }
}

pub(crate) fn key_json(id: &str, n: i64) -> String {
    format!(r#""id":{{"S":{}}},"n":{{"N":"{n}"}}"#, serde_json::Value::from(id))
}

pub(crate) fn key(id: &str, n: i64) -> KeyAttrs {
    vec![("id".to_owned(), Attr::S(id.to_owned())), ("n".to_owned(), Attr::N(n.to_string()))]
}

pub(crate) fn keys(table: &str, keys: Vec<KeyAttrs>, attributes: &[&str]) -> GetKeys {
    let attributes: Vec<String> = attributes.iter().map(|&name| name.to_owned()).collect();
    GetKeys { table: table.into(), keys, attributes: attributes.into(), strong: true }
}

pub(crate) fn batch(table: &str, items: Vec<WriteItem>) -> BatchWrite {
    BatchWrite { table: table.into(), items }
}
