//! The ends of a range: a partition key, and bounds of its sort key, as they are stored.
//!
//! A bound is encoded by the encoder of keys, as the sort key of the row that would stand there. Callers: `api::read`.

use super::leaf::check_key_length;
use super::plan::PlanError;
use super::read_key::{KeyError, KeyPlan, KeysError, columns, key_fields};
use super::shard;
use crate::limits::PARTITION_KEY_MAX_BYTES;
use crate::proto::v1::RowKey;
use crate::schema::TableDef;
use crate::schema::sharding::Sharding;
use crate::store::Attr;

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
pub enum RangeKeyError {
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

/// Encodes a range's ends. A bound is encoded as the sort key of the row that would stand there.
pub fn encode_range(table: &TableDef, keys: RangeKeys) -> Result<RangeAttrs, RangeKeyError> {
    let (columns_of_key, sort_columns) = (key_fields(table), table.key.sort.len());
    let at_partition = |error: KeysError| RangeKeyError::End { end: RangeEnd::Partition, error };
    let broken = |error: PlanError| at_partition(error.into());
    let sort = table.sort_attribute().map_err(|error| broken(error.into()))?;
    let Some(sort) = sort else { return Err(RangeKeyError::NoSortKey { key: columns(&columns_of_key) }) };

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
        let wrong = |error: KeysError| RangeKeyError::End { end, error };
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::payload::read_key::tests::{key, table, text};
    use crate::proto::v1::value::Kind;
    use crate::schema::DataType;

    #[test]
    fn a_range_is_under_every_place_of_its_key_and_its_bounds_are_sort_keys() {
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
        let stored = KeyPlan::try_new(&sharded).unwrap().encode(vec![row]).unwrap().remove(0);
        let place = shard::place(br#"{"S":"8000000000000001\u00001970-01-01"}"#, 256);
        assert_eq!(stored[0], ("id".to_owned(), Attr::S(shard::stored("a", place))));

        let long = RangeKeys { partition: key([text(&"x".repeat(2046))]), ..RangeKeys::default() };
        assert!(encode_range(&plain_of(&sharded), long.clone()).is_ok());
        let error = encode_range(&sharded, long).unwrap_err().to_string();
        assert!(error.contains("key column `id`: the key has 2046 bytes"), "{error}");
    }

    fn plain_of(table: &TableDef) -> TableDef {
        TableDef { write_shards: 0, ..table.clone() }
    }
}
