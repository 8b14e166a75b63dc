//! The plan of a session: the table's columns, matched by name to the columns that the session's rows carry.
//!
//! Compiled once when the session opens; per row there is no name lookup. The order of a written row: key attributes first
//! (so that the head of the row's text is its canonical key), then the other columns in the table's order, then what the
//! operation stores in those that the session does not carry: defaults, and in a merge bare nulls.

use std::hash::{BuildHasher, Hasher};
use std::sync::Arc;

use arc_swap::ArcSwap;

use super::cast::Mode;
use super::chunk::{ChunkBuilder, RowShape};
use super::coercion::{RuleBook, RuleId};
use super::defaults::{DefaultError, Missing, REMOVED};
use super::item::{ItemWriter, Sizes, name_json};
use super::key;
use super::leaf::{Leaf, Policies, Presence, Put, Role, check_key_length};
use super::modes::{OnMissing, OpColumn, RowMode, Tombstone, Writes};
use super::nested::{check_item_size, item_too_large};
use super::reject::{Reject, RejectReason};
use super::shard::{self, ShardCounts};
use super::target::{StructTarget, Target, TargetField, UnsupportedType, null_not_allowed};
use crate::limits::{MERGE_MAX_COLUMNS, PARTITION_KEY_MAX_BYTES, SORT_KEY_MAX_BYTES};
use crate::schema::sharding::Sharding;
use crate::schema::{DataType, Field, Schema, TableDef, UnknownFields};
use crate::store::{Span, WriteOp};

/// The values of one incoming row, by the position of their column.
pub trait RowSource {
    /// Appends a column's value as the target says.
    fn put(&self, column: usize, target: &Target, writer: &mut ItemWriter) -> Put;
    /// Appends a scalar column's value as the leaf says.
    fn put_leaf(&self, column: usize, leaf: &Leaf, writer: &mut ItemWriter) -> Put;
}

/// A session's plan.
#[derive(Debug)]
pub struct Plan {
    operation: Operation,
    keys: Vec<KeyAttributePlan>,
    /// How many places a partition key has, where the stored key says the place.
    shards: Option<Shards>,
    columns: Vec<ColumnPlan>,
    /// Where the sequence column is among the columns.
    sequence: Option<usize>,
    /// What a put stores in columns that the session does not carry.
    missing_in_put: Missing,
    /// What a merge stores in them.
    missing_in_merge: Missing,
    /// What a delete leaves behind, in tables with `sequence_by`.
    tombstone: Option<Tombstone>,
    incoming: Schema,
    /// The session's columns that the table does not have and whose values are dropped, each with its rule.
    unknown_columns: Vec<(String, RuleId)>,
    rules: RuleBook,
    hasher: foldhash::fast::FixedState,
    sizes: Sizes,
}

#[derive(Debug)]
enum Shards {
    Fixed(u32),
    /// It changes while the session runs.
    Adaptive(ArcSwap<ShardCounts>),
}

#[derive(Debug)]
enum Operation {
    Each(WriteOp),
    ByColumn(OpColumn),
}

#[derive(Debug)]
struct KeyAttributePlan {
    name: Box<str>,
    name_json: Box<[u8]>,
    limit_bytes: usize,
    parts: Vec<KeyPart>,
}

#[derive(Debug)]
struct KeyPart {
    column_name: Box<str>,
    incoming: usize,
    leaf: Leaf,
}

#[derive(Debug)]
struct ColumnPlan {
    incoming: usize,
    field: TargetField,
}

/// What an incoming column is used for.
#[derive(Debug, Clone, Copy)]
pub enum Used<'p> {
    /// A key attribute, a part of one, or the row's operation.
    Key(&'p Leaf),
    /// An attribute.
    Column(&'p Target),
}

/// Why a session's columns do not fit the table.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PlanError {
    /// A column that the table does not have.
    #[error("the table `{table}` has no column `{column}`; it has {known}")]
    UnknownColumn {
        /// The table.
        table: String,
        /// The session's column.
        column: String,
        /// The table's columns.
        known: String,
    },
    /// A key column that the session does not carry.
    #[error("the rows do not carry the key column `{column}` of the table `{table}`")]
    MissingKeyColumn {
        /// The table.
        table: String,
        /// The column.
        column: String,
    },
    /// A column without default that must not be null.
    #[error("the rows do not carry the column `{column}`, which the table `{table}` declares NOT NULL")]
    MissingColumn {
        /// The table.
        table: String,
        /// The column.
        column: String,
    },
    /// The sequence column, which every row of its table must carry.
    #[error("the rows do not carry the column `{column}`, by which the table `{table}` orders writes (`sequence_by`)")]
    MissingSequence {
        /// The table.
        table: String,
        /// The column.
        column: String,
    },
    /// The TTL column of a table in which tombstones expire by it.
    #[error(
        "rows that are merged into the table `{table}` must carry its TTL column `{column}`: merged over a deleted row, \
         they would keep the expiry of its tombstone; carry it, or let on_missing be NULL or DEFAULT"
    )]
    MergeWithoutExpiry {
        /// The table.
        table: String,
        /// The column.
        column: String,
    },
    /// More columns than one update can change.
    #[error("a merge into the table `{table}` would change {columns} columns; DynamoDB allows {limit} in one update")]
    TooManyMerged {
        /// The table.
        table: String,
        /// How many.
        columns: usize,
        /// How many there may be.
        limit: usize,
    },
    /// A column of operations that cannot be one.
    #[error("op_column `{column}` {problem}")]
    OpColumn {
        /// The column.
        column: String,
        /// What is wrong.
        problem: String,
    },
    /// A column that occurs twice, or a schema that is none.
    #[error("the session's columns are not usable: {0}")]
    Schema(#[from] crate::schema::types::SchemaError),
    /// A default that cannot be stored.
    #[error(transparent)]
    Default(#[from] DefaultError),
    /// A type that cannot be written.
    #[error(transparent)]
    Unsupported(#[from] UnsupportedType),
    /// An incoming type that no value of can fit.
    #[error("column `{path}`: {found} does not fit the declared type {declared}{}{hint}", if hint.is_empty() { "" } else { "; " })]
    TypeMismatch {
        /// The path.
        path: String,
        /// What the session carries.
        found: String,
        /// What the table declares.
        declared: String,
        /// What to do about it; may be empty.
        hint: &'static str,
    },
}

impl PlanError {
    /// The error of a struct's field that the table does not declare.
    pub(super) fn unknown_field(path: String, target: &StructTarget) -> Self {
        Self::TypeMismatch {
            path,
            found: "a field that the table does not have".to_owned(),
            declared: format!(
                "struct of {}",
                target.fields.iter().map(|field| &*field.name).collect::<Vec<_>>().join(", ")
            ),
            hint: "leave it out, add it to the table, or let the table have `unknown_fields: drop`",
        }
    }
}

impl Plan {
    /// Matches the session's columns to the table's. `hash_seed` must be the same for all plans of a process.
    pub fn compile(
        table: &TableDef,
        incoming: &Schema,
        writes: impl Into<Writes>,
        hash_seed: u64,
    ) -> Result<Self, PlanError> {
        let writes = writes.into();
        incoming.validate()?;
        let mut rules = RuleBook::default();
        let operation = match &writes.mode {
            RowMode::Each(op) => Operation::Each(*op),
            RowMode::ByColumn(name) => Operation::ByColumn(OpColumn::compile(table, incoming, name, &mut rules)?),
            // A key is looked for by what a delete carries.
            RowMode::Keys => Operation::Each(WriteOp::Delete),
        };
        let position = |name: &str| incoming.fields.iter().position(|field| field.name == name);
        let known = |name: &str| table.schema.field(name).is_some() || writes.op_column() == Some(name);
        let unknown_columns: Vec<String> =
            incoming.fields.iter().filter(|field| !known(&field.name)).map(|field| field.name.clone()).collect();
        if let (UnknownFields::Reject, Some(column)) = (table.unknown_fields, unknown_columns.first()) {
            let names: Vec<&str> = table.schema.fields.iter().map(|field| field.name.as_str()).collect();
            return Err(PlanError::UnknownColumn {
                table: table.name.clone(),
                column: column.clone(),
                known: names.join(", "),
            });
        }

        let unknown_columns = unknown_columns.into_iter().map(|name| {
            let rule = rules.dropped(&name);
            (name, rule)
        });
        let unknown_columns = unknown_columns.collect();
        let mut policies = Policies {
            mode: Mode(writes.store_assignment.unwrap_or(table.store_assignment)),
            unknown_fields: table.unknown_fields,
            show_values: table.show_values_in_outcomes,
            rules: &mut rules,
        };
        let mut keys = Vec::with_capacity(2);
        keys.push(key_attribute(table, &table.key.partition, true, incoming, &mut policies)?);
        if !table.key.sort.is_empty() {
            keys.push(key_attribute(table, &table.key.sort, false, incoming, &mut policies)?);
        }

        let shards = match table.sharding() {
            Sharding::None => None,
            Sharding::Fixed { shards } => Some(Shards::Fixed(shards)),
            Sharding::Adaptive { .. } => Some(Shards::Adaptive(ArcSwap::default())),
        };
        let sequence_by = table.sequence_by.as_deref().filter(|_| writes.mode != RowMode::Keys);
        let (mut columns, mut sequence) = (Vec::new(), None);
        let (mut missing_in_put, mut missing_in_merge) = (Missing::default(), Missing::default());
        for field in &table.schema.fields {
            if table.key.partition == [field.name.as_str()] || table.key.sort == [field.name.as_str()] {
                continue;
            }
            let is_sequence = sequence_by == Some(field.name.as_str());
            if !writes.stores_columns() && !is_sequence {
                continue;
            }
            match position(&field.name) {
                Some(at) => {
                    let field = compile_column(table, field, &incoming.fields[at].data_type, &mut policies)?;
                    sequence = sequence.or_else(|| is_sequence.then_some(columns.len()));
                    columns.push(ColumnPlan { incoming: at, field });
                }
                None if is_sequence => {
                    let (table, column) = (table.name.clone(), field.name.clone());
                    return Err(PlanError::MissingSequence { table, column });
                }
                None => {
                    let missing = || PlanError::MissingColumn { table: table.name.clone(), column: field.name.clone() };
                    if writes.makes_items() && !missing_in_put.in_item(table, field, &writes)? {
                        return Err(missing());
                    }
                    if writes.merges() && !missing_in_merge.in_merge(table, field, &writes)? {
                        return Err(missing());
                    }
                }
            }
        }
        if writes.merges() {
            check_merge(table, incoming, &writes, columns.len() + missing_in_merge.columns)?;
        }
        let tombstone = sequence_by
            .and(table.expiry_attribute())
            .filter(|_| writes.deletes())
            .map(|expiry_attribute| Tombstone::compile(table, expiry_attribute));
        Ok(Self {
            operation,
            keys,
            shards,
            columns,
            sequence,
            missing_in_put,
            missing_in_merge,
            tombstone,
            incoming: incoming.clone(),
            unknown_columns,
            rules,
            hasher: foldhash::fast::FixedState::with_seed(hash_seed),
            sizes: Sizes::Bound,
        })
    }

    /// How many places the partition keys of an adaptive table have, for rows that are encoded from now on. It is one each
    /// before; other tables do not care.
    pub fn use_shards(&self, counts: Arc<ShardCounts>) {
        if let Some(Shards::Adaptive(current)) = &self.shards {
            current.store(counts);
        }
    }

    /// Lets every row know its item's size by DynamoDB's own rule, which costs time for each value.
    pub fn measure(&mut self) {
        self.sizes = Sizes::Exact;
    }

    /// The session's columns, in order.
    pub fn incoming(&self) -> &Schema {
        &self.incoming
    }

    /// The session's columns that the table does not have and whose values are dropped.
    pub fn unknown_columns(&self) -> impl Iterator<Item = &str> {
        self.unknown_columns.iter().map(|(name, _)| name.as_str())
    }

    /// The coercions that rows of the session can have.
    pub fn rules(&self) -> &RuleBook {
        &self.rules
    }

    /// For each incoming column that is used: its position, the table's name of it, and what it is used for. The column of
    /// a joined key comes twice.
    pub fn used_columns(&self) -> impl Iterator<Item = (usize, &str, Used<'_>)> {
        let keys = self.keys.iter().flat_map(|key| &key.parts);
        let keys = keys.map(|part| (part.incoming, &*part.column_name, Used::Key(&part.leaf)));
        let operations = match &self.operation {
            Operation::Each(_) => None,
            Operation::ByColumn(column) => Some((column.incoming, &*column.name, Used::Key(&column.leaf))),
        };
        let columns = self.columns.iter();
        keys.chain(operations)
            .chain(columns.map(|column| (column.incoming, &*column.field.name, Used::Column(&column.field.target))))
    }

    /// Appends one row to the chunk, or its reject.
    pub fn encode_row(&self, row_index: u32, source: &impl RowSource, chunk: &mut ChunkBuilder) {
        let (mark, start) = (chunk.writer.mark(), chunk.writer.len());
        chunk.writer.begin_item(self.sizes);
        let now = chunk.now_epoch_seconds;
        let mut row = self.write_row(source, &mut chunk.writer, start, now);
        let too_large = matches!(&row, Err(reject) if reject.reason == RejectReason::ItemTooLarge);
        if too_large && self.sizes == Sizes::Bound {
            // Its text is longer than an item may be large; only now does it pay to know the size itself.
            chunk.writer.rewind(mark);
            chunk.writer.begin_item(Sizes::Exact);
            row = self.write_row(source, &mut chunk.writer, start, now);
        }
        chunk.finish_row(row_index, mark, start, row);
    }

    fn write_row(
        &self,
        source: &impl RowSource,
        writer: &mut ItemWriter,
        start: usize,
        now_epoch_seconds: u64,
    ) -> Result<RowShape, Box<Reject>> {
        let op = match &self.operation {
            Operation::Each(op) => *op,
            Operation::ByColumn(column) => column.read(source, writer)?,
        };
        writer.raw(b"{");
        let (mut partition_len, mut partition_value) = (0, 0);
        for (index, key) in self.keys.iter().enumerate() {
            if index > 0 {
                writer.raw(b",");
            }
            let value_start = key.write(source, writer)?;
            match &self.shards {
                // The place is known when the sort key is written.
                Some(_) if index == 0 => writer.extend_text(&shard::suffix(0)),
                Some(shards) => {
                    // The partition key's text ends with the suffix, a quote and a brace, and begins with `{"S":"`.
                    let suffix_start = start + 1 + partition_len - 2 - shard::SUFFIX_BYTES;
                    let shards = shards.of(&writer.as_slice()[partition_value + 6..suffix_start]);
                    let place = shard::place(&writer.as_slice()[value_start..], shards);
                    writer.overwrite(suffix_start, &shard::suffix(place));
                }
                None => {}
            }
            if index == 0 {
                (partition_len, partition_value) = (writer.len() - start - 1, value_start);
            }
        }
        let key_len = writer.len() - start - 1;
        let mut sequence = None;
        let columns = match op {
            WriteOp::Delete => self.columns_of_delete(),
            WriteOp::Put | WriteOp::Merge | WriteOp::Insert => 0..self.columns.len(),
        };
        for index in columns {
            let value_start = self.columns[index].write(source, op, writer)?;
            if self.sequence == Some(index) {
                // A row is at most a message of text, escaped at most sixfold.
                sequence = Some(Span { start: (value_start - start) as u32, end: (writer.len() - start) as u32 });
            }
        }
        let stored_as = match (op, &self.tombstone) {
            (WriteOp::Delete, Some(tombstone)) => {
                tombstone.write(now_epoch_seconds, writer);
                WriteOp::Put
            }
            (WriteOp::Delete, None) => WriteOp::Delete,
            (WriteOp::Merge, _) => {
                self.missing_in_merge.write(writer);
                WriteOp::Merge
            }
            (WriteOp::Put | WriteOp::Insert, _) => {
                self.missing_in_put.write(writer);
                op
            }
        };
        for (_, rule) in &self.unknown_columns {
            writer.coerced(*rule);
        }
        writer.raw(b"}");
        check_item_size(writer)?;
        let key = &writer.as_slice()[start + 1..start + 1 + key_len];
        Ok(RowShape {
            op: stored_as,
            // A key is at most 3 KB of text, escaped at most sixfold.
            key_len: key_len as u32,
            sequence,
            partition_hash: self.hash(&key[..partition_len]),
            key_hash: self.hash(key),
            // It, or its bound, was just seen to be at most 400 KB.
            item_bytes: writer.item_bytes() as u32,
        })
    }

    /// The columns that a delete carries: the sequence, where there is one.
    fn columns_of_delete(&self) -> std::ops::Range<usize> {
        self.sequence.map_or(0..0, |at| at..at + 1)
    }

    fn hash(&self, bytes: &[u8]) -> u64 {
        let mut hasher = self.hasher.build_hasher();
        hasher.write(bytes);
        hasher.finish()
    }
}

impl ColumnPlan {
    /// Appends the column, or what the operation makes of a null; says where the value starts.
    #[inline]
    fn write(&self, source: &impl RowSource, op: WriteOp, writer: &mut ItemWriter) -> Result<usize, Box<Reject>> {
        let field = &self.field;
        let mark = writer.mark();
        writer.raw(&field.lead);
        writer.count(field.name.len());
        let start = writer.len();
        let put = match &field.target {
            Target::Leaf(leaf) => source.put_leaf(self.incoming, leaf, writer),
            target => source.put(self.incoming, target, writer),
        };
        match put {
            Ok(Presence::Written) => Ok(start),
            Ok(Presence::Null) if field.nullable => {
                writer.leave_out(mark);
                if op == WriteOp::Merge {
                    writer.raw(&field.lead);
                    writer.raw(REMOVED);
                }
                Ok(start)
            }
            Ok(Presence::Null) => Err(null_not_allowed(field.target.describe()).in_field(&field.name)),
            // It is the item that is too large, wherever that was seen first.
            Err(reject) if reject.reason == RejectReason::ItemTooLarge => Err(item_too_large()),
            Err(reject) => Err(reject.in_field(&field.name)),
        }
    }
}

impl Shards {
    #[inline]
    fn of(&self, partition_json: &[u8]) -> u32 {
        match self {
            Self::Fixed(shards) => *shards,
            Self::Adaptive(counts) => counts.load().of_json(partition_json),
        }
    }
}

impl KeyAttributePlan {
    /// Appends the attribute, and says where its value starts.
    fn write(&self, source: &impl RowSource, writer: &mut ItemWriter) -> Result<usize, Box<Reject>> {
        writer.raw(&self.name_json);
        writer.count(self.name.len());
        let value_start = writer.len();
        let put_part = |part: &KeyPart, writer: &mut ItemWriter| {
            match source.put_leaf(part.incoming, &part.leaf, writer) {
                Ok(Presence::Written) => Ok(()),
                Ok(Presence::Null) => Err(Reject::new(RejectReason::NullNotAllowed, "a key must not be null")
                    .of_types(part.leaf.declared(), "null")
                    .hint("every row needs its whole key")),
                Err(reject) => Err(reject),
            }
            .map_err(|reject| reject.in_field(&part.column_name))
        };
        if let [part] = &self.parts[..] {
            return put_part(part, writer).map(|()| value_start);
        }
        key::begin(writer);
        let (parts, length_bytes) = writer.measured(|writer| {
            self.parts.iter().enumerate().try_for_each(|(index, part)| {
                if index > 0 {
                    key::separate(writer);
                }
                put_part(part, writer)
            })
        });
        parts?;
        key::end(writer);
        let checked = check_key_length(length_bytes, self.limit_bytes);
        checked.map(|()| value_start).map_err(|reject| reject.in_field(&self.name))
    }
}

/// Refuses merges that DynamoDB could not do, or that would leave a tombstone's expiry behind.
fn check_merge(table: &TableDef, incoming: &Schema, writes: &Writes, columns: usize) -> Result<(), PlanError> {
    if columns > MERGE_MAX_COLUMNS {
        return Err(PlanError::TooManyMerged { table: table.name.clone(), columns, limit: MERGE_MAX_COLUMNS });
    }
    if table.sequence_by.is_some()
        && let Some(column) = &table.ttl_column
        && incoming.fields.iter().all(|field| field.name != *column)
        && writes.missing_in_merge() == OnMissing::LeaveUnchanged
    {
        return Err(PlanError::MergeWithoutExpiry { table: table.name.clone(), column: column.clone() });
    }
    Ok(())
}

/// Compiles a column off the key's single attributes.
pub(super) fn compile_column(
    table: &TableDef,
    field: &Field,
    incoming: &DataType,
    policies: &mut Policies<'_>,
) -> Result<TargetField, PlanError> {
    if table.ttl_column.as_deref() == Some(&field.name)
        && let Some(leaf) = Leaf::compile_ttl(field, Some(incoming), policies)
    {
        return Ok(TargetField::new(field, Target::Leaf(leaf)));
    }
    Ok(TargetField::compile(field, "", Some(incoming), policies)?)
}

fn key_attribute(
    table: &TableDef,
    columns: &[String],
    partition: bool,
    incoming: &Schema,
    policies: &mut Policies<'_>,
) -> Result<KeyAttributePlan, PlanError> {
    let (attribute, limit_bytes) = if partition {
        let suffix_bytes = if table.sharding() == Sharding::None { 0 } else { shard::SUFFIX_BYTES };
        (Some(table.partition_attribute()?), PARTITION_KEY_MAX_BYTES - suffix_bytes)
    } else {
        (table.sort_attribute()?, SORT_KEY_MAX_BYTES)
    };
    let name = attribute.map(|attribute| attribute.name).unwrap_or_default();
    let role = if columns.len() == 1 { Role::Key { limit_bytes } } else { Role::JoinedPart };
    let parts = columns.iter().map(|column| {
        let missing = || PlanError::MissingKeyColumn { table: table.name.clone(), column: column.clone() };
        let field = table.schema.field(column).ok_or_else(missing)?;
        let at = incoming.fields.iter().position(|field| field.name == *column).ok_or_else(missing)?;
        let sent = &incoming.fields[at].data_type;
        let leaf = Leaf::compile(field, column, role, Some(sent), policies).ok_or_else(|| UnsupportedType {
            path: column.clone(),
            data_type: field.data_type.to_string(),
            place: "as a key",
        })?;
        Ok(KeyPart { column_name: column.as_str().into(), incoming: at, leaf })
    });
    let parts = parts.collect::<Result<Vec<_>, PlanError>>()?;
    Ok(KeyAttributePlan { name_json: name_json(&name), name: name.into(), limit_bytes, parts })
}
