//! Which tables can have write shards: several stored partition keys for one, so that its writes are not one partition's.
//!
//! The stored partition key ends with a suffix calculated from the sort key, so both must be there, and the first must be
//! text. Whether the DynamoDB table is ours only the catalog knows. Caller: [`TableDef::validate`].

use super::table::{KeyAttributeType, TableDef};
use super::types::SchemaError;
use crate::limits::WRITE_SHARDS_MAX;

/// How a table spreads the writes of one partition key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sharding {
    /// Not at all: the stored key is the key.
    None,
    /// Over so many places, always.
    Fixed {
        /// A power of two.
        shards: u32,
    },
    /// Over as many places as its heat has asked for.
    Adaptive {
        /// At most; a power of two.
        max_shards: u32,
    },
}

impl TableDef {
    /// How the table spreads the writes of one partition key.
    pub fn sharding(&self) -> Sharding {
        match (self.write_shards, self.write_sharding_max_shards) {
            (0, 0) => Sharding::None,
            (0, max_shards) => Sharding::Adaptive { max_shards },
            (shards, _) => Sharding::Fixed { shards },
        }
    }
}

/// Checks `write_shards`, `write_sharding` and what they need.
pub(super) fn validate(table: &TableDef) -> Result<(), SchemaError> {
    let (option, shards) = match table.sharding() {
        Sharding::None => return Ok(()),
        Sharding::Fixed { shards } => ("write_shards", shards),
        Sharding::Adaptive { max_shards } => ("write_sharding.max_shards", max_shards),
    };
    let refuse = |message: String| Err(SchemaError::new("", message));
    if table.write_shards > 0 && table.write_sharding_max_shards > 0 {
        return refuse("a table has either `write_shards` or `write_sharding`, not both".to_owned());
    }
    if !shards.is_power_of_two() || !(2..=WRITE_SHARDS_MAX).contains(&shards) {
        return refuse(format!("`{option}` must be a power of two from 2 to {WRITE_SHARDS_MAX}, not {shards}"));
    }
    if table.key.sort.is_empty() {
        return refuse(format!("`{option}` needs a sort key: a row's shard is calculated from it"));
    }
    let partition = table.partition_attribute()?;
    if partition.kind != KeyAttributeType::S {
        let message =
            format!("`{option}` needs a partition key that is stored as text (S), because the shard is a part of it");
        return Err(SchemaError::new(partition.name, message));
    }
    if table.write_sharding_max_shards > 0 && !table.append_only {
        return refuse(
            "`write_sharding` is for tables with `append_only: true`: a row that is written again would be in two places; \
             `write_shards` is for all tables"
                .to_owned(),
        );
    }
    if table.write_sharding_max_shards > 0 && table.sequence_by.is_some() {
        return refuse(
            "`write_sharding` and `sequence_by` cannot be together: the sequence of a row at an older place is not seen".to_owned(),
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schema::{DataType, Field, KeyDef, Schema};

    fn table(partition: &[(&str, DataType)], sort: &[&str]) -> TableDef {
        let fields = partition.iter().map(|(name, data_type)| Field::new(*name, data_type.clone(), false));
        let fields = fields.chain([Field::new("at", DataType::Timestamp, false)]).collect();
        let key = KeyDef {
            partition: partition.iter().map(|(name, _)| name.to_string()).collect(),
            sort: sort.iter().map(|name| name.to_string()).collect(),
            partition_attribute: "_pk".to_owned(),
            sort_attribute: "_sk".to_owned(),
        };
        TableDef::new("t", Schema { fields }, key, "t")
    }

    fn refusal(table: &TableDef) -> String {
        table.validate().unwrap_err().to_string()
    }

    #[test]
    fn shards_are_a_power_of_two_of_a_text_key_with_a_sort_key() {
        let text = [("id", DataType::String)];
        for good in [2, 4, 256] {
            let fixed = TableDef { write_shards: good, ..table(&text, &["at"]) };
            assert_eq!((fixed.validate(), fixed.sharding()), (Ok(()), Sharding::Fixed { shards: good }));
            let adaptive = TableDef { write_sharding_max_shards: good, append_only: true, ..table(&text, &["at"]) };
            assert_eq!((adaptive.validate(), adaptive.sharding()), (Ok(()), Sharding::Adaptive { max_shards: good }));
        }
        for bad in [1, 3, 6, 512, u32::MAX] {
            let words = refusal(&TableDef { write_shards: bad, ..table(&text, &["at"]) });
            assert!(words.contains("`write_shards` must be a power of two from 2 to 256"), "{words}");
        }
        let words = refusal(&TableDef { write_shards: 4, ..table(&text, &[]) });
        assert!(words.contains("needs a sort key"), "{words}");
        let words = refusal(&TableDef { write_shards: 4, ..table(&[("id", DataType::Long)], &["at"]) });
        assert!(words.contains("`id`") && words.contains("stored as text (S)"), "{words}");
        let joined = [("a", DataType::Long), ("b", DataType::Long)];
        assert_eq!(TableDef { write_shards: 4, ..table(&joined, &["at"]) }.validate(), Ok(()));

        let words = refusal(&TableDef { write_sharding_max_shards: 4, ..table(&text, &["at"]) });
        assert!(words.contains("append_only"), "{words}");
        let both =
            TableDef { write_shards: 4, write_sharding_max_shards: 4, append_only: true, ..table(&text, &["at"]) };
        assert!(refusal(&both).contains("not both"));
        let mut ordered = TableDef { write_sharding_max_shards: 4, append_only: true, ..table(&text, &["at"]) };
        ordered.schema.fields.push(Field::new("version", DataType::Long, false));
        ordered.sequence_by = Some("version".to_owned());
        assert!(refusal(&ordered).contains("cannot be together"));
    }
}
