//! Schemas: the types that columns have, the tables that columns form, and the texts that schemas are written in.
//!
//! Nothing here does I/O. `types` and `table` are the model; `spark_json` and `ddl` read and print it; `evolve` says which
//! changes of a model are allowed, `add_columns` makes the one that a session may make.

pub mod add_columns;
#[cfg(test)]
pub(crate) mod arbitrary;
pub mod ddl;
pub mod evolve;
mod sequence;
pub mod sharding;
pub mod spark_json;
pub mod table;
pub mod types;

pub use table::{
    BillingMode, Coalesce, DynamoDbOptions, KeyDef, Lake, Ownership, SeriesLayout, StoreAssignment, StreamView,
    TableDef, UnknownFields,
};
pub use types::{ColumnOptions, DataType, Field, NonFinite, Schema, TimeEncoding};
