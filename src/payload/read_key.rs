//! Keys of reads: typed values into the key attributes of the stored item.
//!
//! A key to read is encoded by the very encoder that writes rows, so a key that was written is the key that is read, in every
//! type and for joined keys too. The ends of a range are encoded alike. Callers: `api::read`.

use base64::Engine as _;
use bytes::Bytes;
use prost::Message;

use super::modes::Writes;
use super::plan::{Plan, PlanError};
use super::rows::{RowsCursor, RowsPlan};
use super::{PayloadError, RowReject};
use crate::limits::CHUNK_TARGET_BYTES;
use crate::proto::v1::{Row, RowBatch, RowKey};
use crate::schema::{Field, Schema, TableDef};
use crate::store::{Attr, KeyAttrs};

/// How the keys of one table are encoded.
#[derive(Debug)]
pub struct KeyPlan {
    plan: Plan,
    rows: RowsPlan,
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
    /// The stored partition keys under which the rows are, the older ones first.
    pub places: Vec<Attr>,
    /// The sort key's attribute.
    pub sort_attribute: String,
    /// The bound that sorts first.
    pub from: Option<Attr>,
    /// The bound that sorts last.
    pub to: Option<Attr>,
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
        Ok(Self { plan, rows })
    }

    /// The key attributes of each key, in order.
    pub fn encode(&self, keys: Vec<RowKey>) -> Result<Vec<KeyAttrs>, KeysError> {
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

/// Encodes a range's ends. A bound is encoded as the sort key of the row that would stand there.
pub fn encode_range(table: &TableDef, keys: RangeKeys) -> Result<RangeAttrs, RangeError> {
    let (columns_of_key, sort_columns) = (key_fields(table), table.key.sort.len());
    let broken = |error: PlanError| RangeError::End { end: RangeEnd::Partition, error: error.into() };
    let sort = table.sort_attribute().map_err(|error| broken(error.into()))?;
    let Some(sort) = sort else { return Err(RangeError::NoSortKey { key: columns(&columns_of_key) }) };

    let mut partition_alone = table.clone();
    partition_alone.key.sort.clear();
    let partition_plan = KeyPlan::try_new(&partition_alone).map_err(broken)?;
    let partition = partition_plan.encode(vec![keys.partition.clone()]);
    let mut partition = partition.map_err(|error| RangeError::End { end: RangeEnd::Partition, error })?.remove(0);
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
    Ok(RangeAttrs { partition_attribute, places: vec![partition], sort_attribute: sort.name, from, to })
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
    fn empty_keys_are_refused() {
        let table = table(&[("id", DataType::String)], &[]);
        assert!(matches!(encode(&table, vec![key([text("")])]), Err(KeysError::Key(_))));
        assert!(matches!(encode(&table, vec![key([text(&"x".repeat(2049))])]), Err(KeysError::Key(_))));
        assert_eq!(encode(&table, vec![]), Ok(vec![]));
    }
}
