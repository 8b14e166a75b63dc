//! DynamoDB's JSON, checked to the last byte and counted, without being built.

use std::borrow::Cow;
use std::fmt;

use serde::de::{self, Deserialize, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

/// A BatchWriteItem: how many puts and deletes.
#[derive(Debug, Default)]
pub(super) struct BatchWrite {
    pub(super) puts: usize,
    pub(super) deletes: usize,
}

/// A PutItem, UpdateItem or DeleteItem.
#[derive(Debug, serde::Deserialize)]
pub(super) struct Write<'a> {
    #[serde(rename = "TableName", borrow)]
    pub(super) table: Cow<'a, str>,
    #[serde(rename = "Item", alias = "Key")]
    _item: Item,
    #[serde(rename = "ConditionExpression", default, deserialize_with = "present")]
    pub(super) conditional: bool,
    #[serde(rename = "ExpressionAttributeValues", default)]
    _values: Option<Item>,
}

fn present<'de, D: Deserializer<'de>>(deserializer: D) -> Result<bool, D::Error> {
    IgnoredAny::deserialize(deserializer).map(|_| true)
}

impl<'de> Deserialize<'de> for BatchWrite {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(serde::Deserialize)]
        struct Whole {
            #[serde(rename = "RequestItems")]
            tables: Tables,
        }
        let Whole { tables: Tables(batch) } = Whole::deserialize(deserializer)?;
        Ok(batch)
    }
}

/// `{"table":[{"PutRequest":..},..]}`.
struct Tables(BatchWrite);

impl<'de> Deserialize<'de> for Tables {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visit;
        impl<'de> Visitor<'de> for Visit {
            type Value = Tables;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("tables with their requests")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Tables, A::Error> {
                let mut batch = BatchWrite::default();
                while map.next_key::<IgnoredAny>()?.is_some() {
                    let Requests { puts, deletes } = map.next_value()?;
                    batch.puts += puts;
                    batch.deletes += deletes;
                }
                Ok(Tables(batch))
            }
        }
        deserializer.deserialize_map(Visit)
    }
}

struct Requests {
    puts: usize,
    deletes: usize,
}

impl<'de> Deserialize<'de> for Requests {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visit;
        impl<'de> Visitor<'de> for Visit {
            type Value = Requests;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list of put and delete requests")
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Requests, A::Error> {
                let mut requests = Requests { puts: 0, deletes: 0 };
                while let Some(request) = list.next_element::<Request>()? {
                    match request {
                        Request::PutRequest { .. } => requests.puts += 1,
                        Request::DeleteRequest { .. } => requests.deletes += 1,
                    }
                }
                Ok(requests)
            }
        }
        deserializer.deserialize_seq(Visit)
    }
}

#[derive(serde::Deserialize)]
enum Request {
    PutRequest {
        #[serde(rename = "Item")]
        _item: Item,
    },
    DeleteRequest {
        #[serde(rename = "Key")]
        _key: Item,
    },
}

/// `{"name":{"S":".."},..}`.
#[derive(Debug)]
struct Item;

impl<'de> Deserialize<'de> for Item {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visit;
        impl<'de> Visitor<'de> for Visit {
            type Value = Item;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("attributes with their types")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Item, A::Error> {
                while map.next_key::<IgnoredAny>()?.is_some() {
                    map.next_value::<Attribute>()?;
                }
                Ok(Item)
            }
        }
        deserializer.deserialize_map(Visit)
    }
}

/// `{"N":"1"}`: exactly one type, and a value that fits it.
#[derive(serde::Deserialize)]
enum Attribute {
    S(Text),
    N(Text),
    B(Text),
    #[serde(rename = "BOOL")]
    Bool(bool),
    #[serde(rename = "NULL")]
    Null(bool),
    L(Vec<Attribute>),
    M(Item),
    #[serde(rename = "SS")]
    Ss(Vec<Text>),
    #[serde(rename = "NS")]
    Ns(Vec<Text>),
    #[serde(rename = "BS")]
    Bs(Vec<Text>),
}

/// A JSON string, not kept.
struct Text;

impl<'de> Deserialize<'de> for Text {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visit;
        impl Visitor<'_> for Visit {
            type Value = Text;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string")
            }
            fn visit_str<E: de::Error>(self, _: &str) -> Result<Text, E> {
                Ok(Text)
            }
        }
        deserializer.deserialize_str(Visit)
    }
}
