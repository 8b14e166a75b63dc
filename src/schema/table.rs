//! A table's definition: schema, key, policies, and how its DynamoDB table is made.
//!
//! Serialised as JSON into the control table by the catalog; converted from and to protobuf by `api::convert`.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::types::{DataType, Field, Schema, SchemaError};
use crate::limits::TOMBSTONE_RETENTION_DEFAULT;

/// Marks a tombstone in tables with `sequence_by`.
pub const TOMBSTONE_ATTRIBUTE: &str = "_deleted";
/// Holds a tombstone's expiry where the table has no TTL column.
pub const TOMBSTONE_EXPIRY_ATTRIBUTE: &str = "_expires_at";

/// A table's definition.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TableDef {
    /// The name that clients use.
    pub name: String,
    /// The columns.
    pub schema: Schema,
    /// What makes a row unique.
    pub key: KeyDef,
    /// The DynamoDB table's name.
    pub dynamodb_table: String,
    /// Who made the DynamoDB table.
    pub ownership: Ownership,
    /// What to do with fields that the schema does not have.
    #[serde(default)]
    pub unknown_fields: UnknownFields,
    /// How values are coerced.
    #[serde(default)]
    pub store_assignment: StoreAssignment,
    /// The column that orders writes to one key.
    #[serde(default)]
    pub sequence_by: Option<String>,
    /// How long a delete hides older rows, where it is not as by default.
    #[serde(default)]
    pub tombstone_retention: Option<Duration>,
    /// The column of DynamoDB's time-to-live.
    #[serde(default)]
    pub ttl_column: Option<String>,
    /// Whether newer rows replace waiting older ones.
    #[serde(default)]
    pub coalesce: Coalesce,
    /// Fixed write shards; 0 for none.
    #[serde(default)]
    pub write_shards: u32,
    /// Adaptive write sharding: the most shards; 0 for none.
    #[serde(default)]
    pub write_sharding_max_shards: u32,
    /// Whether a key is written once.
    #[serde(default)]
    pub append_only: bool,
    /// Time-series layout.
    #[serde(default)]
    pub series: Option<SeriesLayout>,
    /// Lake tee.
    #[serde(default)]
    pub lake: Option<Lake>,
    /// Ceiling of write units a second, for each gateway; 0 for none.
    #[serde(default)]
    pub max_write_units: u64,
    /// Whether outcomes may show values.
    #[serde(default)]
    pub show_values_in_outcomes: bool,
    /// How the DynamoDB table is made.
    #[serde(default)]
    pub dynamodb: DynamoDbOptions,
    /// Free text.
    #[serde(default)]
    pub comment: String,
}

/// What makes a row unique.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyDef {
    /// Columns of the partition key.
    pub partition: Vec<String>,
    /// Columns of the sort key; may be empty.
    #[serde(default)]
    pub sort: Vec<String>,
    /// Attribute name where there are several partition columns.
    #[serde(default = "default_partition_attribute")]
    pub partition_attribute: String,
    /// Attribute name where there are several sort columns.
    #[serde(default = "default_sort_attribute")]
    pub sort_attribute: String,
}

/// Default DynamoDB attribute of a joined partition key.
pub fn default_partition_attribute() -> String {
    "_pk".to_owned()
}

/// Default DynamoDB attribute of a joined sort key.
pub fn default_sort_attribute() -> String {
    "_sk".to_owned()
}

/// DynamoDB's three key attribute types.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum KeyAttributeType {
    /// Text.
    S,
    /// Number.
    N,
    /// Bytes.
    B,
}

/// One key attribute of the DynamoDB table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyAttribute {
    /// The attribute's name.
    pub name: String,
    /// Its type.
    pub kind: KeyAttributeType,
}

/// Who made the DynamoDB table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Ownership {
    /// Forebay.
    Created,
    /// Someone else.
    Bound,
}

/// What to do with fields that the schema does not have.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum UnknownFields {
    /// Reject.
    #[default]
    Reject,
    /// Leave out.
    Drop,
}

/// How values are coerced.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StoreAssignment {
    /// Exactly representable values only.
    #[default]
    Strict,
    /// Spark's ANSI store assignment.
    Ansi,
    /// Any cast.
    Legacy,
}

/// Whether newer rows replace waiting older ones.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Coalesce {
    /// They do.
    #[default]
    On,
    /// Every row is written.
    Off,
}

/// Time-series layout.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SeriesLayout {
    /// The timestamp column.
    pub time_column: String,
    /// The span of a chunk window.
    pub window: Duration,
    /// Compressed binary chunks.
    #[serde(default)]
    pub packed: bool,
}

/// Lake tee.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lake {
    /// Whether rows are teed.
    pub enabled: bool,
    /// Where.
    pub location: String,
    /// Whether acks go on with a full spool.
    #[serde(default)]
    pub best_effort: bool,
}

/// How the DynamoDB table is made.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DynamoDbOptions {
    /// How capacity is paid for.
    pub billing_mode: BillingMode,
    /// Read units a second.
    pub provisioned_read_units: u64,
    /// Write units a second.
    pub provisioned_write_units: u64,
    /// Maximum read units a second on demand; 0 for none.
    pub max_on_demand_read_units: u64,
    /// Maximum write units a second on demand; 0 for none.
    pub max_on_demand_write_units: u64,
    /// Point-in-time recovery.
    pub point_in_time_recovery: bool,
    /// KMS key; empty for DynamoDB's own.
    pub kms_key: String,
    /// Tags.
    pub tags: BTreeMap<String, String>,
    /// DynamoDB Streams.
    pub stream_view: Option<StreamView>,
    /// Deletion protection.
    pub deletion_protection: bool,
}

/// How capacity is paid for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BillingMode {
    /// Per request.
    #[default]
    OnDemand,
    /// Provisioned units.
    Provisioned,
}

/// What a stream record shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StreamView {
    /// The key.
    KeysOnly,
    /// The item after.
    NewImage,
    /// The item before.
    OldImage,
    /// Both.
    NewAndOldImages,
}

impl TableDef {
    /// A definition with default policies.
    pub fn new(name: impl Into<String>, schema: Schema, key: KeyDef, dynamodb_table: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            schema,
            key,
            dynamodb_table: dynamodb_table.into(),
            ownership: Ownership::Created,
            unknown_fields: UnknownFields::default(),
            store_assignment: StoreAssignment::default(),
            sequence_by: None,
            tombstone_retention: None,
            ttl_column: None,
            coalesce: Coalesce::default(),
            write_shards: 0,
            write_sharding_max_shards: 0,
            append_only: false,
            series: None,
            lake: None,
            max_write_units: 0,
            show_values_in_outcomes: false,
            dynamodb: DynamoDbOptions::default(),
            comment: String::new(),
        }
    }

    /// The attribute by which DynamoDB expires items: the TTL column, or the one in which tombstones expire.
    pub fn expiry_attribute(&self) -> Option<&str> {
        let of_tombstones = self.sequence_by.as_ref().map(|_| TOMBSTONE_EXPIRY_ATTRIBUTE);
        self.ttl_column.as_deref().or(of_tombstones)
    }

    /// How long a delete hides older rows of a table with `sequence_by`.
    pub fn tombstone_retention(&self) -> Duration {
        self.tombstone_retention.unwrap_or(TOMBSTONE_RETENTION_DEFAULT)
    }

    /// Partition columns, then sort columns.
    pub fn key_columns(&self) -> impl Iterator<Item = &str> {
        self.key.partition.iter().chain(&self.key.sort).map(String::as_str)
    }

    /// DynamoDB's partition key attribute.
    pub fn partition_attribute(&self) -> Result<KeyAttribute, SchemaError> {
        self.key_attribute(&self.key.partition, &self.key.partition_attribute)
    }

    /// DynamoDB's sort key attribute, where there is one.
    pub fn sort_attribute(&self) -> Result<Option<KeyAttribute>, SchemaError> {
        if self.key.sort.is_empty() {
            return Ok(None);
        }
        self.key_attribute(&self.key.sort, &self.key.sort_attribute).map(Some)
    }

    /// Whether a table can have this name.
    pub fn name_is_valid(name: &str) -> bool {
        (1..=200).contains(&name.len()) && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"_-.".contains(&b))
    }

    /// Checks everything that can be known without DynamoDB.
    pub fn validate(&self) -> Result<(), SchemaError> {
        if !Self::name_is_valid(&self.name) {
            let message =
                format!("the table name `{}` must be 1 to 200 characters of a-z, A-Z, 0-9, `_`, `-`, `.`", self.name);
            return Err(SchemaError::new("", message));
        }
        self.schema.validate()?;
        if self.key.partition.is_empty() {
            return Err(SchemaError::new("", "the key needs at least one partition column"));
        }
        let mut seen = std::collections::HashSet::new();
        for column in self.key_columns() {
            if !seen.insert(column) {
                return Err(SchemaError::new(column, "the column is in the key twice"));
            }
        }
        self.partition_attribute()?;
        self.sort_attribute()?;
        for (columns, attribute) in
            [(&self.key.partition, &self.key.partition_attribute), (&self.key.sort, &self.key.sort_attribute)]
        {
            if columns.len() > 1 && self.schema.field(attribute).is_some() {
                let message =
                    "the name is taken by the joined key's attribute; set partition_attribute or sort_attribute";
                return Err(SchemaError::new(attribute, message));
            }
        }
        if let Some(column) = &self.ttl_column {
            let field = self
                .schema
                .field(column)
                .ok_or_else(|| SchemaError::new(column, "`ttl_column` names a column that the schema does not have"))?;
            if !matches!(field.data_type, DataType::Timestamp | DataType::Date | DataType::Long | DataType::Integer) {
                let message = format!("a TTL column must be timestamp, date, bigint or int, not {}", field.data_type);
                return Err(SchemaError::new(column, message));
            }
            // A TTL is stored in seconds, a key as its type says: one attribute cannot be both.
            if self.key_columns().any(|key| key == column) {
                return Err(SchemaError::new(column, "a TTL column cannot be in the key"));
            }
        }
        super::sequence::validate(self)?;
        super::sharding::validate(self)
    }

    fn key_attribute(&self, columns: &[String], joined: &str) -> Result<KeyAttribute, SchemaError> {
        for column in columns {
            let field = self.key_field(column)?;
            if field.nullable {
                return Err(SchemaError::new(column, "a key column must be NOT NULL"));
            }
            key_type(field)?;
        }
        match columns {
            [column] => {
                let field = self.key_field(column)?;
                Ok(KeyAttribute { name: column.clone(), kind: key_type(field)? })
            }
            _ => Ok(KeyAttribute { name: joined.to_owned(), kind: KeyAttributeType::S }),
        }
    }

    fn key_field(&self, column: &str) -> Result<&Field, SchemaError> {
        self.schema.field(column).ok_or_else(|| {
            let names: Vec<_> = self.schema.fields.iter().map(|field| field.name.as_str()).collect();
            SchemaError::new(
                column,
                format!("the key names a column that does not exist; there are {}", names.join(", ")),
            )
        })
    }
}

/// The DynamoDB type that a key column of this type is stored as.
fn key_type(field: &Field) -> Result<KeyAttributeType, SchemaError> {
    let by_encoding = |default| match field.options.time_encoding {
        Some(super::TimeEncoding::Number) => KeyAttributeType::N,
        Some(super::TimeEncoding::String) => KeyAttributeType::S,
        None => default,
    };
    match &field.data_type {
        DataType::Byte | DataType::Short | DataType::Integer | DataType::Long | DataType::Decimal { .. } => {
            Ok(KeyAttributeType::N)
        }
        DataType::String | DataType::Char(_) | DataType::Varchar(_) => Ok(KeyAttributeType::S),
        DataType::Binary => Ok(KeyAttributeType::B),
        DataType::Date | DataType::TimestampNtz => Ok(by_encoding(KeyAttributeType::S)),
        DataType::Timestamp => Ok(by_encoding(KeyAttributeType::N)),
        DataType::Boolean if field.options.key_as_number => Ok(KeyAttributeType::N),
        DataType::Float | DataType::Double if field.options.float_key => Ok(KeyAttributeType::N),
        DataType::Float | DataType::Double => Err(SchemaError::new(
            &field.name,
            "a float is a key only with `float_key: true`: two computations of the same number may differ in its last digit",
        )),
        DataType::Boolean => {
            Err(SchemaError::new(&field.name, "a boolean can be a key only with `key_as_number: true`"))
        }
        other => Err(SchemaError::new(&field.name, format!("{other} cannot be a key"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(ttl_column: &str) -> TableDef {
        let fields = vec![
            Field::new("id", DataType::String, false),
            Field::new("at", DataType::Timestamp, false),
            Field::new("until", DataType::Timestamp, true),
            Field::new("note", DataType::String, true),
        ];
        let key = KeyDef {
            partition: vec!["id".to_owned()],
            sort: vec!["at".to_owned()],
            partition_attribute: default_partition_attribute(),
            sort_attribute: default_sort_attribute(),
        };
        let mut table = TableDef::new("t", Schema { fields }, key, "t");
        table.ttl_column = Some(ttl_column.to_owned());
        table
    }

    #[test]
    fn a_ttl_is_a_time_outside_the_key() {
        assert_eq!(table("until").validate(), Ok(()));
        for (column, words) in [
            ("at", "cannot be in the key"),
            ("note", "must be timestamp, date, bigint or int, not string"),
            ("gone", "does not have"),
        ] {
            let error = table(column).validate().unwrap_err();
            assert_eq!(error.path, column);
            assert!(error.message.contains(words), "{error}");
        }
    }
}
