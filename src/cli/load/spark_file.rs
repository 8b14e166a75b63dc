//! What Spark writes into a Parquet file about its own types.
//!
//! Parquet alone does not say that an integer is an interval, that two binaries are a variant, or, with the INT96 that Spark
//! writes by default, that a timestamp is a point in time. Spark's schema, which Spark puts into the file, does. It goes with
//! the Arrow schema to the gateway, which reads the columns by it.

use std::sync::Arc;

use arrow_schema::{DataType as ArrowType, Field as ArrowField, FieldRef, Fields, Schema as ArrowSchema, TimeUnit};

use crate::payload::arrow::{SparkError, refine};
use crate::schema::{DataType, Field, Schema, spark_json};

/// Where Spark puts it.
const KEY: &str = "org.apache.spark.sql.parquet.row.metadata";

/// Spark's schema of a file.
#[derive(Debug, Clone)]
pub(super) struct SparkFile {
    /// As Spark wrote it.
    pub(super) json: String,
    schema: Schema,
}

impl SparkFile {
    /// Spark's schema, where the file has one that can be read; an older or newer Spark's may say what is not known here,
    /// and then the file's own types are what there is.
    pub(super) fn of(arrow: &ArrowSchema) -> Option<Self> {
        let json = arrow.metadata().get(KEY)?;
        match spark_json::parse(json) {
            Ok(schema) => Some(Self { json: json.clone(), schema }),
            Err(error) => {
                tracing::debug!(%error, "the schema that Spark has put into the file cannot be read");
                None
            }
        }
    }

    /// The schema to read the file with: timestamps without a zone that Spark says are points in time get UTC, in which
    /// Parquet counts them.
    pub(super) fn read_as(&self, arrow: &ArrowSchema) -> ArrowSchema {
        ArrowSchema::new(fields(&self.schema.fields, arrow.fields()))
    }

    /// The columns with Spark's types.
    pub(super) fn refined(&self, arrow: &ArrowSchema) -> Result<Schema, SparkError> {
        refine(&self.schema, arrow).map(|(schema, _)| schema)
    }
}

fn fields(spark: &[Field], arrow: &Fields) -> Fields {
    let field = |arrow: &FieldRef| match spark.iter().find(|field| field.name == *arrow.name()) {
        Some(field) => with_type(arrow, instant(&field.data_type, arrow.data_type())),
        None => Arc::clone(arrow),
    };
    arrow.iter().map(field).collect()
}

fn with_type(field: &ArrowField, data_type: ArrowType) -> FieldRef {
    Arc::new(field.clone().with_data_type(data_type))
}

fn instant(spark: &DataType, arrow: &ArrowType) -> ArrowType {
    match (spark, arrow) {
        (DataType::Timestamp, ArrowType::Timestamp(_, None)) => {
            ArrowType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()))
        }
        (DataType::Array { element: spark, .. }, ArrowType::List(element)) => {
            ArrowType::List(with_type(element, instant(spark, element.data_type())))
        }
        (DataType::Map { value: spark, .. }, ArrowType::Map(entries, sorted)) => match entries.data_type() {
            ArrowType::Struct(pair) if pair.len() == 2 => {
                let value = with_type(&pair[1], instant(spark, pair[1].data_type()));
                let pair = ArrowType::Struct(vec![Arc::clone(&pair[0]), value].into());
                ArrowType::Map(with_type(entries, pair), *sorted)
            }
            _ => arrow.clone(),
        },
        (DataType::Struct(spark), ArrowType::Struct(arrow)) => ArrowType::Struct(fields(spark, arrow)),
        _ => arrow.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn points_in_time_get_the_zone_that_parquet_does_not_say() {
        let plain = ArrowType::Timestamp(TimeUnit::Nanosecond, None);
        let element = Arc::new(ArrowField::new("element", plain.clone(), true));
        let arrow = ArrowSchema::new(vec![
            ArrowField::new("at", plain.clone(), true),
            ArrowField::new("wall", plain.clone(), true),
            ArrowField::new("list", ArrowType::List(element), true),
        ]);
        let json = r#"{"type":"struct","fields":[
            {"name":"at","type":"timestamp","nullable":true,"metadata":{}},
            {"name":"wall","type":"timestamp_ntz","nullable":true,"metadata":{}},
            {"name":"list","type":{"type":"array","elementType":"timestamp","containsNull":true},"nullable":true,"metadata":{}}]}"#;
        let arrow = arrow.with_metadata([(KEY.to_owned(), json.to_owned())]);
        let spark = SparkFile::of(&arrow).unwrap();
        let read = spark.read_as(&arrow);
        let utc = ArrowType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()));
        assert_eq!(read.field(0).data_type(), &utc);
        assert_eq!(read.field(1).data_type(), &plain);
        assert!(matches!(read.field(2).data_type(), ArrowType::List(element) if *element.data_type() == utc));
        assert!(SparkFile::of(&ArrowSchema::empty()).is_none());
    }
}
