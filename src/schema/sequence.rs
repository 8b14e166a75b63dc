//! What a table with `sequence_by` must be: rows of one key are ordered by a column, whatever the order of their arrival.
//!
//! DynamoDB compares the stored values, so their order must be the column's own. Caller: [`TableDef::validate`].

use super::table::{TOMBSTONE_ATTRIBUTE, TOMBSTONE_EXPIRY_ATTRIBUTE, TableDef};
use super::types::{DataType, SchemaError};
use crate::limits::{TOMBSTONE_RETENTION_MAX, TOMBSTONE_RETENTION_MIN};

/// Checks `sequence_by` and what belongs to it.
pub(super) fn validate(table: &TableDef) -> Result<(), SchemaError> {
    let Some(column) = &table.sequence_by else {
        return match table.tombstone_retention {
            None => Ok(()),
            Some(_) => {
                let message = "`tombstone_retention` belongs to `sequence_by`: deletes of other tables leave nothing";
                Err(SchemaError::new("", message))
            }
        };
    };
    let refuse = |message: String| Err(SchemaError::new(column, message));
    let Some(field) = table.schema.field(column) else {
        return refuse("`sequence_by` names a column that the schema does not have".to_owned());
    };
    if !sorts_as_stored(&field.data_type) {
        let message = format!(
            "a sequence must be an integer, decimal, date, timestamp or text, whose stored form sorts, not {}",
            field.data_type
        );
        return refuse(message);
    }
    if field.nullable {
        return refuse("a sequence column must be NOT NULL: a row without one has no place in the order".to_owned());
    }
    if table.key_columns().any(|key| key == column) {
        return refuse("a sequence column cannot be in the key: it orders the rows of one key".to_owned());
    }
    if table.ttl_column.as_ref() == Some(column) {
        return refuse("a sequence column cannot be the TTL column: a tombstone has an expiry of its own".to_owned());
    }
    if field.options.default_value.is_some() {
        return refuse("a sequence column can have no default: rows with the same one have no order".to_owned());
    }
    for name in [TOMBSTONE_ATTRIBUTE, TOMBSTONE_EXPIRY_ATTRIBUTE] {
        let joined =
            [(&table.key.partition, &table.key.partition_attribute), (&table.key.sort, &table.key.sort_attribute)];
        if table.schema.field(name).is_some()
            || joined.iter().any(|(columns, joined)| columns.len() > 1 && *joined == name)
        {
            let message = "the name is taken: tombstones of a table with `sequence_by` carry an attribute of that name";
            return Err(SchemaError::new(name, message));
        }
    }
    match table.tombstone_retention {
        Some(retention) if !(TOMBSTONE_RETENTION_MIN..=TOMBSTONE_RETENTION_MAX).contains(&retention) => {
            let message = format!(
                "`tombstone_retention` must be from {} hour to {} days",
                TOMBSTONE_RETENTION_MIN.as_secs() / 3600,
                TOMBSTONE_RETENTION_MAX.as_secs() / 86_400
            );
            Err(SchemaError::new("", message))
        }
        _ => Ok(()),
    }
}

/// Whether the stored values of a type have the order of the values, in either encoding of a time.
fn sorts_as_stored(data_type: &DataType) -> bool {
    matches!(
        data_type,
        DataType::Byte
            | DataType::Short
            | DataType::Integer
            | DataType::Long
            | DataType::Decimal { .. }
            | DataType::Date
            | DataType::Timestamp
            | DataType::TimestampNtz
            | DataType::String
            | DataType::Char(_)
            | DataType::Varchar(_)
    )
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::schema::ddl;
    use crate::schema::table::{KeyDef, default_sort_attribute};

    fn table(columns: &str, sequence_by: &str) -> TableDef {
        let key = KeyDef {
            partition: vec!["id".to_owned()],
            sort: vec!["day".to_owned()],
            partition_attribute: "_deleted".to_owned(),
            sort_attribute: default_sort_attribute(),
        };
        let schema = ddl::parse(&format!("id STRING NOT NULL, day DATE NOT NULL, {columns}")).unwrap();
        TableDef { sequence_by: Some(sequence_by.to_owned()), ..TableDef::new("t", schema, key, "t") }
    }

    #[test]
    fn a_sequence_is_of_a_type_that_sorts_as_it_is_stored() {
        for data_type in ["TINYINT", "BIGINT", "DECIMAL(38, 9)", "DATE", "TIMESTAMP", "TIMESTAMP_NTZ", "STRING"] {
            let table = table(&format!("v {data_type} NOT NULL"), "v");
            assert_eq!(table.validate(), Ok(()), "{data_type}");
        }
        for encoding in ["number", "string"] {
            let table = table(&format!("v TIMESTAMP NOT NULL OPTIONS (time_encoding = {encoding})"), "v");
            assert_eq!(table.validate(), Ok(()), "{encoding}");
        }
        for (column, words) in [
            ("v FLOAT NOT NULL", "not float"),
            ("v DOUBLE NOT NULL", "not double"),
            ("v BOOLEAN NOT NULL", "not boolean"),
            ("v BINARY NOT NULL", "not binary"),
            ("v ARRAY<INT> NOT NULL", "not array"),
            ("v BIGINT", "must be NOT NULL"),
            ("v BIGINT NOT NULL DEFAULT 1", "no default"),
            ("w BIGINT NOT NULL", "does not have"),
        ] {
            let error = table(column, "v").validate().unwrap_err();
            assert_eq!(error.path, "v", "{column}");
            assert!(error.message.contains(words), "{column}: {error}");
        }
    }

    #[test]
    fn a_sequence_is_neither_key_nor_expiry() {
        assert!(table("v INT", "day").validate().unwrap_err().message.contains("cannot be in the key"));
        let mut table = table("v TIMESTAMP NOT NULL", "v");
        table.ttl_column = Some("v".to_owned());
        assert!(table.validate().unwrap_err().message.contains("cannot be the TTL column"));
    }

    #[test]
    fn no_column_takes_a_name_that_tombstones_need() {
        for name in [TOMBSTONE_ATTRIBUTE, TOMBSTONE_EXPIRY_ATTRIBUTE] {
            let columns = format!("v BIGINT NOT NULL, {name} BOOLEAN");
            assert_eq!(table(&columns, "v").validate().unwrap_err().path, name);
            let unordered = TableDef { sequence_by: None, ..table(&columns, "v") };
            assert_eq!(unordered.validate(), Ok(()), "other tables have no tombstones");
        }
        let mut joined = table("v BIGINT NOT NULL", "v");
        joined.key.partition = vec!["id".to_owned(), "day".to_owned()];
        joined.key.sort = Vec::new();
        assert_eq!(joined.validate().unwrap_err().path, "_deleted");
    }

    #[test]
    fn tombstones_outlive_every_row_that_waits() {
        let mut table = table("v BIGINT NOT NULL", "v");
        assert_eq!(table.tombstone_retention(), Duration::from_secs(7 * 86_400));
        for (retention, fits) in [
            (TOMBSTONE_RETENTION_MIN, true),
            (TOMBSTONE_RETENTION_MIN - Duration::from_secs(1), false),
            (TOMBSTONE_RETENTION_MAX + Duration::from_secs(1), false),
        ] {
            table.tombstone_retention = Some(retention);
            assert_eq!(table.validate().is_ok(), fits, "{retention:?}");
        }
        table.tombstone_retention = Some(TOMBSTONE_RETENTION_MIN);
        table.sequence_by = None;
        assert!(table.validate().unwrap_err().message.contains("belongs to `sequence_by`"));
    }

    #[test]
    fn tombstones_expire_by_the_ttl_column_where_there_is_one() {
        let mut table = table("v BIGINT NOT NULL, until TIMESTAMP", "v");
        assert_eq!(table.expiry_attribute(), Some("_expires_at"));
        table.ttl_column = Some("until".to_owned());
        assert_eq!(table.expiry_attribute(), Some("until"));
        table.sequence_by = None;
        assert_eq!(table.expiry_attribute(), Some("until"));
        table.ttl_column = None;
        assert_eq!(table.expiry_attribute(), None);
    }
}
