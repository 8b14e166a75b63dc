//! What can go wrong with a table's definition.

use crate::schema::evolve::Refusal;
use crate::schema::types::SchemaError;
use crate::store::ControlError;

/// Why a catalog call failed. `api::status` maps each to a gRPC status.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CatalogError {
    /// The definition contradicts itself.
    #[error("{0}")]
    Invalid(#[from] SchemaError),
    /// The definition asks for something that this server does not do yet.
    #[error("`{option}`: {reason}")]
    Unsupported {
        /// The option's name.
        option: String,
        /// Why, and what to do.
        reason: String,
    },
    /// The DynamoDB table's name is not one that DynamoDB accepts, or it is the catalog's own.
    #[error("`{dynamodb_table}` cannot be the DynamoDB table: {reason}")]
    DynamoDbName {
        /// The name.
        dynamodb_table: String,
        /// Why not.
        reason: &'static str,
    },
    /// A newer run of the same producer has recorded its epoch.
    #[error("producer `{producer}` has epoch {newest} in table `{name}` now; {epoch} is an older run")]
    Fenced {
        /// The table.
        name: String,
        /// Who writes.
        producer: String,
        /// The refused epoch.
        epoch: u64,
        /// The recorded one.
        newest: u64,
    },
    /// There is no such table.
    #[error("there is no table `{name}`")]
    NotFound {
        /// The table.
        name: String,
    },
    /// There is no such version of the table.
    #[error("table `{name}` has no schema version {version}; the newest is {newest}")]
    VersionNotFound {
        /// The table.
        name: String,
        /// The version asked for.
        version: u64,
        /// The newest one.
        newest: u64,
    },
    /// The table exists and cannot become as the new definition says.
    #[error("table `{name}` cannot change so: {refusal}")]
    Refused {
        /// The table.
        name: String,
        /// Every change that is not allowed.
        refusal: Refusal,
    },
    /// A table with write shards cannot be bound to a DynamoDB table.
    #[error(
        "table `{name}` cannot have write shards: the DynamoDB table `{dynamodb_table}` exists already, and its other readers and \
         writers would not know the keys with shards; leave them out, or let a new DynamoDB table be created"
    )]
    ShardedBinding {
        /// The table.
        name: String,
        /// The DynamoDB table.
        dynamodb_table: String,
    },
    /// The DynamoDB table exists with another key schema.
    #[error("the DynamoDB table `{dynamodb_table}` has the key ({found}), but table `{name}` needs ({needed})")]
    KeyMismatch {
        /// The table.
        name: String,
        /// The DynamoDB table.
        dynamodb_table: String,
        /// What the definition needs: `id S, day N`, the partition key first.
        needed: String,
        /// What is there.
        found: String,
    },
    /// Another table of the catalog keeps its rows in the same DynamoDB table under another key.
    #[error(
        "the DynamoDB table `{dynamodb_table}` holds the rows of table `{other}` with the key ({other_key}), which \
         clashes with the key ({key}) of table `{name}`"
    )]
    KeyClash {
        /// The table.
        name: String,
        /// Its key columns.
        key: String,
        /// The other table.
        other: String,
        /// The other's key columns.
        other_key: String,
        /// The DynamoDB table.
        dynamodb_table: String,
    },
    /// The DynamoDB table of a bound table is gone.
    #[error(
        "table `{name}` is bound to the DynamoDB table `{dynamodb_table}`, which does not exist any more; drop the table \
         before applying it again"
    )]
    BoundTableGone {
        /// The table.
        name: String,
        /// The DynamoDB table.
        dynamodb_table: String,
    },
    /// The DynamoDB table is being created or deleted.
    #[error("the DynamoDB table `{dynamodb_table}` is not active yet; try again in a moment")]
    NotActive {
        /// The DynamoDB table.
        dynamodb_table: String,
    },
    /// Dropping would delete rows.
    #[error(
        "dropping table `{name}` deletes the DynamoDB table `{dynamodb_table}` with all its rows; that needs force"
    )]
    NeedsForce {
        /// The table.
        name: String,
        /// The DynamoDB table.
        dynamodb_table: String,
    },
    /// The DynamoDB table is protected.
    #[error(
        "the DynamoDB table `{dynamodb_table}` of table `{name}` has deletion protection; switch it off in DynamoDB first"
    )]
    DeletionProtected {
        /// The table.
        name: String,
        /// The DynamoDB table.
        dynamodb_table: String,
    },
    /// Another table is bound to the DynamoDB table that would be deleted.
    #[error(
        "the DynamoDB table `{dynamodb_table}` of table `{name}` also holds the rows of table `{other}`; drop that first"
    )]
    Shared {
        /// The table.
        name: String,
        /// The other table.
        other: String,
        /// The DynamoDB table.
        dynamodb_table: String,
    },
    /// A drop was begun and not finished.
    #[error("table `{name}` is being dropped; drop it again, with force, to finish that")]
    BeingDropped {
        /// The table.
        name: String,
    },
    /// Others kept changing the same table.
    #[error("table `{name}` is being changed by others; try again")]
    Contended {
        /// The table.
        name: String,
    },
    /// A record of the control table cannot be read.
    #[error("the record {sk} of table `{name}` in the control table is damaged: {message}")]
    Damaged {
        /// The table.
        name: String,
        /// The record's number.
        sk: u64,
        /// What is wrong.
        message: String,
    },
    /// DynamoDB failed.
    #[error(transparent)]
    Store(#[from] ControlError),
}
