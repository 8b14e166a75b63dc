//! Keys of reads: typed values into the key attributes of the stored item.
//!
//! A key to read is encoded by the very encoder that writes rows, so a key that was written is the key that is read, in every
//! type and for joined keys too. The ends of a range are encoded alike. Callers: `api::read`.

use std::sync::Arc;

use base64::Engine as _;
use bytes::Bytes;
use prost::Message;

use super::leaf::check_key_length;
use super::modes::Writes;
use super::plan::{Plan, PlanError};
use super::rows::{RowsCursor, RowsPlan};
use super::shard::{self, ShardCounts};
use super::{PayloadError, RowReject};
use crate::limits::{CHUNK_TARGET_BYTES, PARTITION_KEY_MAX_BYTES};
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

/// The values of a range's ends.
#[derive(Debug, Clone, Default)]
pub struct RangeKeys {
    /// Of the partition columns.
    pub partition: RowKey,
    /// Of the sort columns.
    pub from: Option<RowKey>,
    /// Of the sort columns.
    pub to: Option<RowKey>,
}

/// A range's ends, as they are stored.
#[derive(Debug, Clone, PartialEq)]
pub struct RangeAttrs {
    /// The partition key's attribute.
    pub partition_attribute: String,
    /// The partition key.
    pub partition: RangePartition,
    /// The sort key's attribute.
    pub sort_attribute: String,
    /// The bound that sorts first.
    pub from: Option<Attr>,
    /// The bound that sorts last.
    pub to: Option<Attr>,
}

/// The partition key of a range.
#[derive(Debug, Clone, PartialEq)]
pub enum RangePartition {
    /// As it is stored.
    Alone(Attr),
    /// Without the write shard that its stored forms end with.
    Sharded(String),
}

impl RangePartition {
    /// The stored partition keys of so many shards.
    pub fn places(self, shards: u32) -> Vec<Attr> {
        match self {
            Self::Alone(partition) => vec![partition],
            Self::Sharded(partition) => {
                let places = 0..=u8::try_from(shards.saturating_sub(1)).unwrap_or(u8::MAX);
                places.map(|place| Attr::S(shard::stored(&partition, place))).collect()
            }
        }
    }
}

/// Which of a range's ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RangeEnd {
    /// The partition.
    Partition,
    /// The bound that sorts first.
    From,
    /// The bound that sorts last.
    To,
}

/// Why a range's ends cannot be encoded.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RangeError {
    /// Every key has one row at most.
    #[error("the table has no sort key, so it has no ranges; its key is {key}")]
    NoSortKey {
        /// The key's columns and types.
        key: String,
    },
    /// One of the ends is wrong.
    #[error("{error}")]
    End {
        /// Which.
        end: RangeEnd,
        /// What is wrong with it.
        error: KeysError,
    },
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
    fn encode(&self, keys: Vec<RowKey>) -> Result<Vec<KeyAttrs>, KeysError> {
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

    fn error(&self, index: usize, message: String) -> KeyError {
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

/// Encodes a range's ends. A bound is encoded as the sort key of the row that would stand there.
pub fn encode_range(table: &TableDef, keys: RangeKeys) -> Result<RangeAttrs, RangeError> {
    let (columns_of_key, sort_columns) = (key_fields(table), table.key.sort.len());
    let at_partition = |error: KeysError| RangeError::End { end: RangeEnd::Partition, error };
    let broken = |error: PlanError| at_partition(error.into());
    let sort = table.sort_attribute().map_err(|error| broken(error.into()))?;
    let Some(sort) = sort else { return Err(RangeError::NoSortKey { key: columns(&columns_of_key) }) };

    // Without sort key and shards the key is what all its places begin with.
    let mut partition_alone = TableDef { write_shards: 0, write_sharding_max_shards: 0, ..table.clone() };
    partition_alone.key.sort.clear();
    let partition_plan = KeyPlan::try_new(&partition_alone).map_err(broken)?;
    let partition = partition_plan.encode(vec![keys.partition.clone()]);
    let mut partition = partition.map_err(at_partition)?.remove(0);
    let (partition_attribute, partition) = partition.remove(0);

    let whole_plan = KeyPlan::try_new(table).map_err(broken)?;
    let bound = |end: RangeEnd, bound: Option<RowKey>| {
        let Some(bound) = bound else { return Ok(None) };
        let wrong = |error: KeysError| RangeError::End { end, error };
        let values = bound.values.len();
        if values != sort_columns {
            let plural = if values == 1 { "" } else { "s" };
            let expected = columns(&columns_of_key[columns_of_key.len() - sort_columns..]);
            let message = format!("the sort key has {values} value{plural}");
            return Err(wrong(KeyError { index: 0, message, expected }.into()));
        }
        let key = RowKey { values: keys.partition.values.iter().cloned().chain(bound.values).collect() };
        let encoded = whole_plan.encode(vec![key]).map_err(wrong)?.remove(0);
        Ok(encoded.into_iter().find(|(name, _)| *name == sort.name).map(|(_, attr)| attr))
    };
    let (from, to) = (bound(RangeEnd::From, keys.from)?, bound(RangeEnd::To, keys.to)?);
    let partition = match (table.sharding(), partition) {
        (Sharding::None, partition) => RangePartition::Alone(partition),
        (_, Attr::S(text)) => {
            check_key_length(text.len(), PARTITION_KEY_MAX_BYTES - shard::SUFFIX_BYTES).map_err(|reject| {
                let message = format!("key column `{}`: {}", table.key.partition.join("`, `"), reject.message);
                at_partition(partition_plan.error(0, message).into())
            })?;
            RangePartition::Sharded(text)
        }
        // Only a table with a text key can have write shards.
        (_, other) => return Err(at_partition(KeysError::Encoding(format!("{other:?} cannot have write shards")))),
    };
    Ok(RangeAttrs { partition_attribute, partition, sort_attribute: sort.name, from, to })
}

/// The key's columns: partition columns, then sort columns.
fn key_fields(table: &TableDef) -> Vec<Field> {
    table.key_columns().filter_map(|column| table.schema.field(column)).cloned().collect()
}

/// `(id bigint, day date)`.
fn columns(fields: &[Field]) -> String {
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
mod tests {
    use super::*;
    use crate::proto::v1::Value;
    use crate::proto::v1::value::Kind;
    use crate::schema::{DataType, KeyDef};

    fn table(partition: &[(&str, DataType)], sort: &[(&str, DataType)]) -> TableDef {
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

    fn key(kinds: impl IntoIterator<Item = Kind>) -> RowKey {
        RowKey { values: kinds.into_iter().map(|kind| Value { kind: Some(kind) }).collect() }
    }

    fn text(text: &str) -> Kind {
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
    fn a_range_is_under_every_place_of_its_key_and_its_bounds_are_sort_keys() {
        use crate::payload::shard;
        let plain = table(&[("id", DataType::String)], &[("n", DataType::Long), ("day", DataType::Date)]);
        let keys = || RangeKeys {
            partition: key([text("a")]),
            from: Some(key([Kind::IntValue(1), Kind::DateDays(0)])),
            to: Some(key([Kind::IntValue(2), Kind::DateDays(0)])),
        };
        let ends = encode_range(&plain, keys()).unwrap();
        let bound = |n: u64| Some(Attr::S(format!("{:016x}\u{0}1970-01-01", n ^ (1 << 63))));
        assert_eq!((ends.partition_attribute.as_str(), ends.sort_attribute.as_str()), ("id", "_sk"));
        assert_eq!((ends.from, ends.to), (bound(1), bound(2)));
        assert_eq!(ends.partition.places(1), [Attr::S("a".to_owned())]);

        let sharded = TableDef { write_shards: 256, ..plain };
        let ends = encode_range(&sharded, keys()).unwrap();
        assert_eq!((ends.from, ends.to), (bound(1), bound(2)));
        let places = ends.partition.places(256);
        assert_eq!(places.len(), 256);
        assert_eq!((&places[0], &places[255]), (&Attr::S("a#00".to_owned()), &Attr::S("a#ff".to_owned())));
        // A row's own place is among them.
        let row = key([text("a"), Kind::IntValue(1), Kind::DateDays(0)]);
        let stored = encode(&sharded, vec![row]).unwrap().remove(0);
        let place = shard::place(br#"{"S":"8000000000000001\u00001970-01-01"}"#, 256);
        assert_eq!(stored[0], ("id".to_owned(), Attr::S(shard::stored("a", place))));

        let long = RangeKeys { partition: key([text(&"x".repeat(2046))]), ..RangeKeys::default() };
        assert!(encode_range(&plain_of(&sharded), long.clone()).is_ok());
        let error = encode_range(&sharded, long).unwrap_err().to_string();
        assert!(error.contains("key column `id`: the key has 2046 bytes"), "{error}");
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

    fn plain_of(table: &TableDef) -> TableDef {
        TableDef { write_shards: 0, ..table.clone() }
    }

    #[test]
    fn empty_keys_are_refused() {
        let table = table(&[("id", DataType::String)], &[]);
        assert!(matches!(encode(&table, vec![key([text("")])]), Err(KeysError::Key(_))));
        assert!(matches!(encode(&table, vec![key([text(&"x".repeat(2049))])]), Err(KeysError::Key(_))));
        assert_eq!(encode(&table, vec![]), Ok(vec![]));
    }
}
