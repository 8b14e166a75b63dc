//! Keys of reads: typed values into the key attributes of the stored item.
//!
//! A key to read is encoded by the very encoder that writes rows, so a key that was written is the key that is read, in every
//! type and for joined keys too. Callers: `api::read`, and `range_key` for the ends of ranges.

use std::sync::Arc;

use base64::Engine as _;
use bytes::Bytes;
use prost::Message;

use super::modes::Writes;
use super::plan::{Plan, PlanError};
use super::rows::{RowsCursor, RowsPlan};
use super::shard::{self, ShardCounts};
use super::{PayloadError, RowReject};
use crate::limits::CHUNK_TARGET_BYTES;
use crate::proto::v1::{Row, RowBatch, RowKey};
use crate::schema::sharding::Sharding;
use crate::schema::{Field, Schema, TableDef};
use crate::store::{Attr, KeyAttrs};

/// How the keys of one table are encoded.
#[derive(Debug)]
pub struct KeyPlan {
    plan: Plan,
    rows: RowsPlan,
    /// Whether a key's rows may be at places that depend on when they were written.
    adaptive: bool,
}

/// A key to read.
#[derive(Debug, Clone, PartialEq)]
pub struct PlacedKey {
    /// Where its row is written now.
    pub newest: KeyAttrs,
    /// Where it was written before its partition key had as many shards, the newer places first.
    pub older: Vec<KeyAttrs>,
}

/// A key that no row of the table can have.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}; the key is {expected}")]
pub struct KeyError {
    /// Which of the keys.
    pub index: usize,
    /// What is wrong, with the column's name.
    pub message: String,
    /// The key's columns and types: `(id bigint, day date)`.
    pub expected: String,
}

/// Why keys cannot be encoded.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeysError {
    /// One of them is wrong.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// The stored definition is broken.
    #[error("the table's key cannot be encoded: {0}")]
    Plan(#[from] PlanError),
    /// What the encoder wrote is not what is expected of it; a fault of ours.
    #[error("the key's encoding cannot be read: {0}")]
    Encoding(String),
}

impl From<PayloadError> for KeysError {
    fn from(error: PayloadError) -> Self {
        Self::Encoding(error.to_string())
    }
}

impl KeyPlan {
    /// The plan of a table's keys.
    pub fn try_new(table: &TableDef) -> Result<Self, PlanError> {
        let fields = key_fields(table);
        // Hashes choose lanes; a read has none.
        let plan = Plan::compile(table, &Schema { fields }, Writes::keys(), 0)?;
        let rows = RowsPlan::compile(&plan)?;
        let adaptive = matches!(table.sharding(), Sharding::Adaptive { .. });
        Ok(Self { plan, rows, adaptive })
    }

    /// The key attributes of each key, in order, at each of its places. `shards` says how many places keys of an adaptive
    /// table have; others have one.
    pub fn encode_placed(&self, keys: Vec<RowKey>, shards: &ShardCounts) -> Result<Vec<PlacedKey>, KeysError> {
        if !self.adaptive {
            let placed = |newest| PlacedKey { newest, older: Vec::new() };
            return Ok(self.encode(keys)?.into_iter().map(placed).collect());
        }
        // The place among the most tells those among fewer.
        self.plan.use_shards(Arc::new(ShardCounts::most()));
        self.encode(keys)?.into_iter().map(|key| placed(key, shards)).collect()
    }

    /// The key attributes of each key, in order. In an adaptive table, where the first rows were.
    pub(super) fn encode(&self, keys: Vec<RowKey>) -> Result<Vec<KeyAttrs>, KeysError> {
        let columns = &self.plan.incoming().fields;
        if let Some((index, key)) = keys.iter().enumerate().find(|(_, key)| key.values.len() != columns.len()) {
            let values = key.values.len();
            let plural = if values == 1 { "" } else { "s" };
            return Err(self.error(index, format!("the key has {values} value{plural}")).into());
        }
        let mut encoded = Vec::with_capacity(keys.len());
        let rows = keys.into_iter().map(|key| Row { values: key.values }).collect();
        let batch = RowBatch { rows }.encode_to_vec();
        let mut cursor = RowsCursor::new(&batch);
        while let Some(chunk) = cursor.next_chunk(&self.plan, &self.rows, CHUNK_TARGET_BYTES, 0)? {
            if let Some(RowReject { row_index, reject }) = chunk.rejects.into_iter().next() {
                let message = match reject.path.as_str() {
                    "" => reject.message,
                    column => format!("key column `{column}`: {}", reject.message),
                };
                return Err(self.error(row_index as usize, message).into());
            }
            for row in chunk.rows {
                encoded.push(key_attributes(&row.item.json)?);
            }
        }
        Ok(encoded)
    }

    pub(super) fn error(&self, index: usize, message: String) -> KeyError {
        KeyError { index, message, expected: columns(&self.plan.incoming().fields) }
    }
}

/// The places of a key that is encoded for the one among the most.
fn placed(key: KeyAttrs, shards: &ShardCounts) -> Result<PlacedKey, KeysError> {
    let unexpected = || KeysError::Encoding("a key of an adaptive table has no write shard".to_owned());
    let Some((_, Attr::S(stored))) = key.first() else { return Err(unexpected()) };
    let (partition, place) = shard::split(stored).ok_or_else(unexpected)?;
    let doublings = shards.of(partition).ilog2();
    let mut places: Vec<u8> = (0..=doublings).rev().map(|n| shard::place_among_fewer(place, 1 << n)).collect();
    // Fewer shards keep a place or move it down.
    places.dedup();
    let at = |place: u8| {
        let mut at = key.clone();
        at[0].1 = Attr::S(shard::stored(partition, place));
        at
    };
    let mut places = places.into_iter().map(at);
    // One shard is a place, too.
    let newest = places.next().ok_or_else(unexpected)?;
    Ok(PlacedKey { newest, older: places.collect() })
}

/// The key's columns: partition columns, then sort columns.
pub(super) fn key_fields(table: &TableDef) -> Vec<Field> {
    table.key_columns().filter_map(|column| table.schema.field(column)).cloned().collect()
}

/// `(id bigint, day date)`.
pub(super) fn columns(fields: &[Field]) -> String {
    let column = |field: &Field| format!("{} {}", field.name, field.data_type);
    format!("({})", fields.iter().map(column).collect::<Vec<_>>().join(", "))
}

/// Reads `{"id":{"S":"a"},"at":{"N":"1"}}`.
fn key_attributes(json: &[u8]) -> Result<KeyAttrs, KeysError> {
    let unexpected = || KeysError::Encoding("a key attribute is no text, number or bytes".to_owned());
    let object: serde_json::Map<String, serde_json::Value> =
        serde_json::from_slice(json).map_err(|error| KeysError::Encoding(error.to_string()))?;
    let attribute = |(name, typed): (String, serde_json::Value)| {
        let (kind, value) = typed.as_object().and_then(|typed| typed.iter().next()).ok_or_else(unexpected)?;
        let text = value.as_str().ok_or_else(unexpected)?;
        let attr = match kind.as_str() {
            "S" => Attr::S(text.to_owned()),
            "N" => Attr::N(text.to_owned()),
            "B" => {
                let bytes = base64::engine::general_purpose::STANDARD.decode(text).map_err(|_| unexpected())?;
                Attr::B(Bytes::from(bytes))
            }
            _ => return Err(unexpected()),
        };
        Ok((name, attr))
    };
    object.into_iter().map(attribute).collect()
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::proto::v1::Value;
    use crate::proto::v1::value::Kind;
    use crate::schema::{DataType, KeyDef};

    pub(in crate::payload) fn table(partition: &[(&str, DataType)], sort: &[(&str, DataType)]) -> TableDef {
        let columns = partition.iter().chain(sort);
        let fields = columns.map(|(name, data_type)| {
            let mut field = Field::new(*name, data_type.clone(), false);
            field.options.key_as_number = *data_type == DataType::Boolean;
            field
        });
        let fields = fields.chain([Field::new("other", DataType::Double, false)]).collect();
        let names = |columns: &[(&str, DataType)]| columns.iter().map(|(name, _)| name.to_string()).collect();
        let key = KeyDef {
            partition: names(partition),
            sort: names(sort),
            partition_attribute: "_pk".into(),
            sort_attribute: "_sk".into(),
        };
        let table = TableDef::new("t", Schema { fields }, key, "t");
        table.validate().unwrap();
        table
    }

    pub(in crate::payload) fn key(kinds: impl IntoIterator<Item = Kind>) -> RowKey {
        RowKey { values: kinds.into_iter().map(|kind| Value { kind: Some(kind) }).collect() }
    }

    pub(in crate::payload) fn text(text: &str) -> Kind {
        Kind::StringValue(text.into())
    }

    fn encode(table: &TableDef, keys: Vec<RowKey>) -> Result<Vec<KeyAttrs>, KeysError> {
        KeyPlan::try_new(table).unwrap().encode(keys)
    }

    #[test]
    fn every_key_type_becomes_its_stored_form() {
        use DataType as T;
        let decimal = T::Decimal { precision: 10, scale: 2 };
        for (data_type, value, expected) in [
            (T::String, text("a\"\u{1}\u{e9}"), Attr::S("a\"\u{1}\u{e9}".into())),
            (T::Varchar(3), text("abc"), Attr::S("abc".into())),
            (T::Byte, Kind::IntValue(-7), Attr::N("-7".into())),
            (T::Long, Kind::IntValue(i64::MIN), Attr::N(i64::MIN.to_string())),
            (T::Long, Kind::DoubleValue(3.0), Attr::N("3".into())),
            (decimal.clone(), Kind::DecimalValue("12.50".into()), Attr::N("12.5".into())),
            (decimal, Kind::IntValue(100), Attr::N("100".into())),
            (T::Binary, Kind::BytesValue("\0\u{1}".into()), Attr::B("\0\u{1}".into())),
            (T::Date, Kind::DateDays(-1), Attr::S("1969-12-31".into())),
            (T::Timestamp, Kind::TimestampMicros(-1), Attr::N("-1".into())),
            (T::TimestampNtz, Kind::TimestampNtzMicros(1), Attr::S("1970-01-01T00:00:00.000001".into())),
            (T::Boolean, Kind::BoolValue(true), Attr::N("1".into())),
        ] {
            let encoded = encode(&table(&[("k", data_type.clone())], &[]), vec![key([value])]);
            assert_eq!(encoded, Ok(vec![vec![("k".to_owned(), expected)]]), "{data_type}");
        }
    }

    #[test]
    fn several_columns_are_joined_as_rows_are_written() {
        let table = table(&[("a", DataType::String), ("b", DataType::Integer)], &[("c", DataType::Long)]);
        let keys = vec![key([text("x#"), Kind::IntValue(1), Kind::IntValue(2)]); 2];
        let encoded = encode(&table, keys).unwrap();
        let pk = "x#\u{0}8000000000000001".to_owned();
        assert_eq!(encoded[1], [("_pk".to_owned(), Attr::S(pk)), ("c".to_owned(), Attr::N("2".into()))]);
        assert_eq!(encoded.len(), 2);
    }

    #[test]
    fn wrong_keys_are_refused_with_their_column_and_the_keys_types() {
        let table = table(&[("id", DataType::Integer)], &[("day", DataType::Date)]);
        let good = || key([Kind::IntValue(1), Kind::DateDays(1)]);
        let refusal = |bad: RowKey| match encode(&table, vec![good(), bad]) {
            Err(KeysError::Key(error)) => {
                assert_eq!((error.index, error.expected.as_str()), (1, "(id int, day date)"));
                error.message
            }
            other => panic!("{other:?}"),
        };
        assert_eq!(refusal(key([Kind::IntValue(1)])), "the key has 1 value");
        let surplus = key([Kind::IntValue(1), Kind::DateDays(1), Kind::DateDays(1)]);
        assert_eq!(refusal(surplus), "the key has 3 values");
        let typed = refusal(key([text("1"), Kind::DateDays(1)]));
        assert_eq!(typed, "key column `id`: string does not fit the declared type int");
        let null = RowKey { values: vec![Value { kind: Some(Kind::IntValue(1)) }, Value { kind: None }] };
        assert_eq!(refusal(null), "key column `day`: a key must not be null");
        assert!(refusal(key([Kind::IntValue(1 << 40), Kind::DateDays(1)])).starts_with("key column `id`"));
    }

    #[test]
    fn a_key_of_an_adaptive_table_is_at_its_newest_place_or_where_it_was_before() {
        let mut table = table(&[("id", DataType::String)], &[("n", DataType::Long)]);
        (table.write_sharding_max_shards, table.append_only) = (64, true);
        table.validate().unwrap();
        let plan = KeyPlan::try_new(&table).unwrap();
        let keys: Vec<_> = (0..100).map(|n| key([text("hot"), Kind::IntValue(n)])).collect();
        let cold = plan.encode_placed(vec![key([text("cold"), Kind::IntValue(7)])], &ShardCounts::new([("hot", 8)]));
        let at = |partition: &str, n: i64| {
            vec![("id".to_owned(), Attr::S(partition.to_owned())), ("n".to_owned(), Attr::N(n.to_string()))]
        };
        assert_eq!(cold, Ok(vec![PlacedKey { newest: at("cold#00", 7), older: vec![] }]));

        let placed = plan.encode_placed(keys, &ShardCounts::new([("hot", 8)])).unwrap();
        for (n, placed) in placed.into_iter().enumerate() {
            // What writers did while the key had so many shards.
            let mut places =
                [8, 4, 2, 1].map(|shards| shard::place(format!(r#"{{"N":"{n}"}}"#).as_bytes(), shards)).to_vec();
            places.dedup();
            let expected: Vec<_> = places.into_iter().map(|place| at(&format!("hot#0{place}"), n as i64)).collect();
            assert_eq!(placed.newest, expected[0]);
            assert_eq!(placed.older, expected[1..]);
        }
    }

    #[test]
    fn empty_keys_are_refused() {
        let table = table(&[("id", DataType::String)], &[]);
        assert!(matches!(encode(&table, vec![key([text("")])]), Err(KeysError::Key(_))));
        assert!(matches!(encode(&table, vec![key([text(&"x".repeat(2049))])]), Err(KeysError::Key(_))));
        assert_eq!(encode(&table, vec![]), Ok(vec![]));
    }
}
