//! Domain types from and to protobuf: tables here, schemas in [`schema`].
//!
//! From protobuf everything is checked, and an error names the field's path in the request (`table.key.partition`). What
//! [`table_to_proto`] makes, [`table_from_proto`] reads back as the same definition. Callers: the handlers, and the CLI,
//! which sends table files.

pub mod schema;

use std::time::Duration;

use crate::proto::v1;
use crate::schema::table::{default_partition_attribute, default_sort_attribute};
use crate::schema::{
    BillingMode, Coalesce, DynamoDbOptions, KeyDef, Lake, Ownership, Schema, SeriesLayout, StoreAssignment, StreamView,
    TableDef, UnknownFields, ddl, spark_json,
};

pub use schema::{data_type_from_proto, data_type_to_proto, field_to_proto, schema_from_proto, schema_to_proto};

/// A field of a request that is wrong.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {message}")]
pub struct FieldError {
    /// The field's path: `table.schema.fields[2].type`.
    pub field: String,
    /// What is wrong and what is expected.
    pub message: String,
}

impl FieldError {
    /// An error at a path.
    pub fn new(field: impl Into<String>, message: impl Into<String>) -> Self {
        Self { field: field.into(), message: message.into() }
    }
}

/// Reads a coercion mode; `None` where none is said.
pub(super) fn store_assignment(path: &str, value: i32) -> Result<Option<StoreAssignment>, FieldError> {
    Ok(match choice(path, value)? {
        v1::StoreAssignment::Unspecified => None,
        v1::StoreAssignment::Strict => Some(StoreAssignment::Strict),
        v1::StoreAssignment::Ansi => Some(StoreAssignment::Ansi),
        v1::StoreAssignment::Legacy => Some(StoreAssignment::Legacy),
    })
}

/// Reads a definition. `ownership` is not looked at; an empty `dynamodb_table` stays empty, for the catalog to fill in.
pub fn table_from_proto(path: &str, table: &v1::Table) -> Result<TableDef, FieldError> {
    let at = |field: &str| format!("{path}.{field}");
    let schema = columns(path, table)?;
    let key = table.key.as_ref().ok_or_else(|| FieldError::new(at("key"), "is missing: name the key's columns"))?;
    let mut def = TableDef::new(&table.name, schema, key_from_proto(key), &table.dynamodb_table);
    def.unknown_fields = match choice(&at("unknown_fields"), table.unknown_fields)? {
        v1::UnknownFields::Unspecified | v1::UnknownFields::Reject => UnknownFields::Reject,
        v1::UnknownFields::Drop => UnknownFields::Drop,
    };
    def.store_assignment =
        store_assignment(&at("store_assignment"), table.store_assignment)?.unwrap_or(StoreAssignment::Strict);
    def.coalesce = match choice(&at("coalesce"), table.coalesce)? {
        v1::Coalesce::Unspecified | v1::Coalesce::On => Coalesce::On,
        v1::Coalesce::Off => Coalesce::Off,
    };
    def.sequence_by = optional_text(&table.sequence_by);
    def.tombstone_retention = match &table.tombstone_retention {
        Some(retention) => Some(duration(&at("tombstone_retention"), retention)?),
        None => None,
    };
    def.ttl_column = optional_text(&table.ttl_column);
    def.write_shards = table.write_shards;
    def.write_sharding_max_shards = match &table.write_sharding {
        Some(v1::WriteSharding { max_shards: 0 }) => {
            return Err(FieldError::new(at("write_sharding.max_shards"), "must be at least 1"));
        }
        Some(sharding) => sharding.max_shards,
        None => 0,
    };
    def.append_only = table.append_only;
    def.series = match &table.series {
        Some(series) => Some(series_from_proto(&at("series"), series)?),
        None => None,
    };
    def.lake = table.lake.as_ref().map(|lake| Lake {
        enabled: lake.enabled,
        location: lake.location.clone(),
        best_effort: lake.best_effort,
    });
    def.max_write_units = table.max_write_units;
    def.show_values_in_outcomes = table.show_values_in_outcomes;
    if let Some(options) = &table.dynamodb {
        def.dynamodb = dynamodb_from_proto(&at("dynamodb"), options)?;
    }
    def.comment.clone_from(&table.comment);
    Ok(def)
}

/// The columns, from whichever of the three forms was given.
fn columns(path: &str, table: &v1::Table) -> Result<Schema, FieldError> {
    let at = |field: &str| format!("{path}.{field}");
    match (&table.schema, table.spark_schema_json.as_str(), table.ddl.as_str()) {
        (Some(schema), "", "") => schema_from_proto(&at("schema"), schema),
        (None, json, "") if !json.is_empty() => {
            spark_json::parse(json).map_err(|error| FieldError::new(at("spark_schema_json"), error.to_string()))
        }
        (None, "", text) if !text.is_empty() => {
            ddl::parse(text).map_err(|error| FieldError::new(at("ddl"), error.to_string()))
        }
        (None, _, _) if table.ddl.is_empty() => {
            Err(FieldError::new(at("schema"), "is missing: give one of schema, spark_schema_json and ddl"))
        }
        _ => Err(FieldError::new(at("schema"), "give exactly one of schema, spark_schema_json and ddl, not several")),
    }
}

/// Writes a definition; the columns as `schema`.
pub fn table_to_proto(def: &TableDef) -> v1::Table {
    v1::Table {
        name: def.name.clone(),
        schema: Some(schema_to_proto(&def.schema)),
        spark_schema_json: String::new(),
        ddl: String::new(),
        key: Some(key_to_proto(&def.key)),
        dynamodb_table: def.dynamodb_table.clone(),
        ownership: ownership_to_proto(def.ownership).into(),
        unknown_fields: match def.unknown_fields {
            UnknownFields::Reject => v1::UnknownFields::Reject,
            UnknownFields::Drop => v1::UnknownFields::Drop,
        }
        .into(),
        store_assignment: match def.store_assignment {
            StoreAssignment::Strict => v1::StoreAssignment::Strict,
            StoreAssignment::Ansi => v1::StoreAssignment::Ansi,
            StoreAssignment::Legacy => v1::StoreAssignment::Legacy,
        }
        .into(),
        sequence_by: def.sequence_by.clone().unwrap_or_default(),
        tombstone_retention: def.tombstone_retention.map(duration_to_proto),
        ttl_column: def.ttl_column.clone().unwrap_or_default(),
        coalesce: match def.coalesce {
            Coalesce::On => v1::Coalesce::On,
            Coalesce::Off => v1::Coalesce::Off,
        }
        .into(),
        write_shards: def.write_shards,
        write_sharding: (def.write_sharding_max_shards > 0)
            .then_some(v1::WriteSharding { max_shards: def.write_sharding_max_shards }),
        append_only: def.append_only,
        series: def.series.as_ref().map(|series| v1::SeriesLayout {
            time_column: series.time_column.clone(),
            window: Some(duration_to_proto(series.window)),
            packed: series.packed,
        }),
        lake: def.lake.as_ref().map(|lake| v1::Lake {
            enabled: lake.enabled,
            location: lake.location.clone(),
            best_effort: lake.best_effort,
        }),
        max_write_units: def.max_write_units,
        show_values_in_outcomes: def.show_values_in_outcomes,
        dynamodb: Some(dynamodb_to_proto(&def.dynamodb)),
        comment: def.comment.clone(),
    }
}

/// Reads a key; attribute names that are empty get their defaults.
pub fn key_from_proto(key: &v1::Key) -> KeyDef {
    let or = |name: &str, default: fn() -> String| if name.is_empty() { default() } else { name.to_owned() };
    KeyDef {
        partition: key.partition.clone(),
        sort: key.sort.clone(),
        partition_attribute: or(&key.partition_attribute, default_partition_attribute),
        sort_attribute: or(&key.sort_attribute, default_sort_attribute),
    }
}

/// Writes a key; attribute names only where there is a joined attribute.
pub fn key_to_proto(key: &KeyDef) -> v1::Key {
    let joined = |columns: &[String], name: &str| if columns.len() > 1 { name.to_owned() } else { String::new() };
    v1::Key {
        partition: key.partition.clone(),
        sort: key.sort.clone(),
        partition_attribute: joined(&key.partition, &key.partition_attribute),
        sort_attribute: joined(&key.sort, &key.sort_attribute),
    }
}

/// Writes who made a DynamoDB table.
pub fn ownership_to_proto(ownership: Ownership) -> v1::Ownership {
    match ownership {
        Ownership::Created => v1::Ownership::Created,
        Ownership::Bound => v1::Ownership::Bound,
    }
}

fn series_from_proto(path: &str, series: &v1::SeriesLayout) -> Result<SeriesLayout, FieldError> {
    let window = series.window.as_ref();
    let window = window.ok_or_else(|| FieldError::new(format!("{path}.window"), "is missing: for example 1 hour"))?;
    Ok(SeriesLayout {
        time_column: series.time_column.clone(),
        window: duration(&format!("{path}.window"), window)?,
        packed: series.packed,
    })
}

fn dynamodb_from_proto(path: &str, options: &v1::DynamoDbOptions) -> Result<DynamoDbOptions, FieldError> {
    let at = |field: &str| format!("{path}.{field}");
    let billing_mode = match choice(&at("billing_mode"), options.billing_mode)? {
        v1::BillingMode::Unspecified | v1::BillingMode::OnDemand => BillingMode::OnDemand,
        v1::BillingMode::Provisioned => BillingMode::Provisioned,
    };
    let units = [
        ("provisioned_read_units", options.provisioned_read_units, BillingMode::Provisioned),
        ("provisioned_write_units", options.provisioned_write_units, BillingMode::Provisioned),
        ("max_on_demand_read_units", options.max_on_demand_read_units, BillingMode::OnDemand),
        ("max_on_demand_write_units", options.max_on_demand_write_units, BillingMode::OnDemand),
    ];
    for (field, value, belongs_to) in units {
        if belongs_to != billing_mode && value > 0 {
            let message = match belongs_to {
                BillingMode::Provisioned => "is only for `billing_mode` PROVISIONED",
                BillingMode::OnDemand => "is only for `billing_mode` ON_DEMAND",
            };
            return Err(FieldError::new(at(field), message));
        }
        if belongs_to == BillingMode::Provisioned && billing_mode == belongs_to && value == 0 {
            return Err(FieldError::new(at(field), "is missing: `billing_mode` PROVISIONED needs at least 1"));
        }
    }
    Ok(DynamoDbOptions {
        billing_mode,
        provisioned_read_units: options.provisioned_read_units,
        provisioned_write_units: options.provisioned_write_units,
        max_on_demand_read_units: options.max_on_demand_read_units,
        max_on_demand_write_units: options.max_on_demand_write_units,
        point_in_time_recovery: options.point_in_time_recovery,
        kms_key: options.kms_key.clone(),
        tags: options.tags.clone().into_iter().collect(),
        stream_view: match choice(&at("stream_view"), options.stream_view)? {
            v1::StreamView::Unspecified => None,
            v1::StreamView::KeysOnly => Some(StreamView::KeysOnly),
            v1::StreamView::NewImage => Some(StreamView::NewImage),
            v1::StreamView::OldImage => Some(StreamView::OldImage),
            v1::StreamView::NewAndOldImages => Some(StreamView::NewAndOldImages),
        },
        deletion_protection: options.deletion_protection,
    })
}

fn dynamodb_to_proto(options: &DynamoDbOptions) -> v1::DynamoDbOptions {
    v1::DynamoDbOptions {
        billing_mode: match options.billing_mode {
            BillingMode::OnDemand => v1::BillingMode::OnDemand,
            BillingMode::Provisioned => v1::BillingMode::Provisioned,
        }
        .into(),
        provisioned_read_units: options.provisioned_read_units,
        provisioned_write_units: options.provisioned_write_units,
        max_on_demand_read_units: options.max_on_demand_read_units,
        max_on_demand_write_units: options.max_on_demand_write_units,
        point_in_time_recovery: options.point_in_time_recovery,
        kms_key: options.kms_key.clone(),
        tags: options.tags.clone().into_iter().collect(),
        stream_view: match options.stream_view {
            None => v1::StreamView::Unspecified,
            Some(StreamView::KeysOnly) => v1::StreamView::KeysOnly,
            Some(StreamView::NewImage) => v1::StreamView::NewImage,
            Some(StreamView::OldImage) => v1::StreamView::OldImage,
            Some(StreamView::NewAndOldImages) => v1::StreamView::NewAndOldImages,
        }
        .into(),
        deletion_protection: options.deletion_protection,
    }
}

/// Reads an enum; a number that this server does not know is refused, never taken for the default.
pub fn choice<E: TryFrom<i32>>(path: &str, number: i32) -> Result<E, FieldError> {
    E::try_from(number).map_err(|_| FieldError::new(path, format!("this server does not know the value {number}")))
}

/// Reads a duration; negative ones are refused.
pub fn duration(path: &str, duration: &prost_types::Duration) -> Result<Duration, FieldError> {
    Duration::try_from(*duration).map_err(|_| FieldError::new(path, "must be a duration that is not negative"))
}

/// Writes a duration; one that is too long for protobuf becomes its longest.
pub fn duration_to_proto(duration: Duration) -> prost_types::Duration {
    prost_types::Duration::try_from(duration).unwrap_or(prost_types::Duration { seconds: 315_576_000_000, nanos: 0 })
}

fn optional_text(text: &str) -> Option<String> {
    (!text.is_empty()).then(|| text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn users() -> v1::Table {
        v1::Table {
            name: "users".to_owned(),
            ddl: "id STRING NOT NULL, tags ARRAY<STRING> OPTIONS (as_set = true), n INT DEFAULT 3".to_owned(),
            key: Some(v1::Key { partition: vec!["id".to_owned()], ..v1::Key::default() }),
            ..v1::Table::default()
        }
    }

    #[test]
    fn the_three_forms_of_a_schema_mean_the_same() {
        let from_ddl = table_from_proto("table", &users()).unwrap();
        let json = v1::Table { ddl: String::new(), spark_schema_json: spark_json::print(&from_ddl.schema), ..users() };
        assert_eq!(table_from_proto("table", &json).unwrap(), from_ddl);
        assert_eq!(table_from_proto("table", &table_to_proto(&from_ddl)).unwrap(), from_ddl);
    }

    #[test]
    fn every_option_survives_the_way_there_and_back() {
        let mut def = table_from_proto("table", &users()).unwrap();
        def.key.partition = vec!["id".to_owned(), "n".to_owned()];
        def.key.partition_attribute = "joined".to_owned();
        def.unknown_fields = UnknownFields::Drop;
        def.store_assignment = StoreAssignment::Legacy;
        def.sequence_by = Some("n".to_owned());
        def.tombstone_retention = Some(Duration::from_secs(7));
        def.ttl_column = Some("t".to_owned());
        def.coalesce = Coalesce::Off;
        def.write_shards = 4;
        def.write_sharding_max_shards = 8;
        def.append_only = true;
        let window = Duration::from_millis(1500);
        def.series = Some(SeriesLayout { time_column: "t".to_owned(), window, packed: true });
        def.lake = Some(Lake { enabled: true, location: "s3://x".to_owned(), best_effort: true });
        def.max_write_units = 9;
        def.show_values_in_outcomes = true;
        def.comment = "words".to_owned();
        def.dynamodb = DynamoDbOptions {
            billing_mode: BillingMode::Provisioned,
            provisioned_read_units: 1,
            provisioned_write_units: 2,
            point_in_time_recovery: true,
            kms_key: "alias/x".to_owned(),
            tags: [("team".to_owned(), "ml".to_owned())].into(),
            stream_view: Some(StreamView::NewAndOldImages),
            deletion_protection: true,
            ..DynamoDbOptions::default()
        };
        assert_eq!(table_from_proto("table", &table_to_proto(&def)).unwrap(), def);
    }

    #[test]
    fn errors_name_the_field() {
        let refused = |change: fn(&mut v1::Table)| {
            let mut table = users();
            change(&mut table);
            table_from_proto("table", &table).unwrap_err().to_string()
        };
        assert_eq!(
            refused(|table| table.ddl.clear()),
            "table.schema: is missing: give one of schema, spark_schema_json and ddl"
        );
        assert!(refused(|table| table.schema = Some(v1::Schema::default())).contains("exactly one of"));
        assert!(refused(|table| table.spark_schema_json = "{}".to_owned()).contains("exactly one of"));
        assert!(refused(|table| table.ddl = "id STRNG".to_owned()).starts_with("table.ddl: line 1, column 4"));
        assert!(refused(|table| table.key = None).starts_with("table.key: is missing"));
        assert_eq!(refused(|table| table.coalesce = 7), "table.coalesce: this server does not know the value 7");
        let units = |table: &mut v1::Table| {
            table.dynamodb = Some(v1::DynamoDbOptions { provisioned_read_units: 3, ..Default::default() });
        };
        assert!(refused(units).starts_with("table.dynamodb.provisioned_read_units: is only for"));
    }
}
