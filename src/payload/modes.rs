//! What the rows of a session do: one operation for all, or each its own by a column of the session.
//!
//! Here are the choices ([`Writes`]), the column that carries operations (`OpColumn`), and what a delete leaves behind in a
//! table with `sequence_by` (`Tombstone`). `plan` is the caller.

#[cfg(test)]
mod tests;

use super::cast::Mode;
use super::coercion::RuleBook;
use super::item::ItemWriter;
use super::leaf::{Leaf, Policies, Presence, Role};
use super::plan::{PlanError, RowSource};
use super::reject::{Reject, RejectReason};
use crate::schema::table::TOMBSTONE_ATTRIBUTE;
use crate::schema::{DataType, Field, Schema, StoreAssignment, TableDef};
use crate::store::WriteOp;

/// What the rows of a session do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Writes {
    /// The operation.
    pub mode: RowMode,
    /// What happens to table columns that the session does not carry; `None` for the operation's own.
    pub on_missing: Option<OnMissing>,
    /// How values are coerced; `None` for the table's own.
    pub store_assignment: Option<StoreAssignment>,
}

/// The operation of a session's rows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RowMode {
    /// All rows do the same.
    Each(WriteOp),
    /// This column of the session says what each row does.
    ByColumn(String),
    /// Rows are keys to look for; nothing is written.
    Keys,
}

/// What happens to table columns that a session does not carry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnMissing {
    /// What is stored stays. Only a merge can.
    LeaveUnchanged,
    /// The attribute is absent afterwards.
    Null,
    /// The default is stored; without one, the attribute is absent afterwards.
    Default,
}

impl From<WriteOp> for Writes {
    fn from(op: WriteOp) -> Self {
        Self { mode: RowMode::Each(op), on_missing: None, store_assignment: None }
    }
}

impl Writes {
    /// Keys to look for.
    pub fn keys() -> Self {
        Self { mode: RowMode::Keys, on_missing: None, store_assignment: None }
    }

    /// Whether some row replaces, or makes, the whole item.
    pub fn makes_items(&self) -> bool {
        !matches!(self.mode, RowMode::Keys | RowMode::Each(WriteOp::Delete | WriteOp::Merge))
    }

    /// Whether some row is a merge.
    pub fn merges(&self) -> bool {
        matches!(self.mode, RowMode::ByColumn(_) | RowMode::Each(WriteOp::Merge))
    }

    /// Whether some row is a delete.
    pub fn deletes(&self) -> bool {
        matches!(self.mode, RowMode::ByColumn(_) | RowMode::Each(WriteOp::Delete))
    }

    /// Whether some row stores columns.
    pub fn stores_columns(&self) -> bool {
        self.makes_items() || self.merges()
    }

    /// The column of the session that carries operations.
    pub fn op_column(&self) -> Option<&str> {
        match &self.mode {
            RowMode::ByColumn(column) => Some(column),
            RowMode::Each(_) | RowMode::Keys => None,
        }
    }

    /// What a merge does with table columns that the session does not carry.
    pub(super) fn missing_in_merge(&self) -> OnMissing {
        self.on_missing.unwrap_or(OnMissing::LeaveUnchanged)
    }
}

/// The words of an operation column, in any case.
const OPERATIONS: [(&[u8], WriteOp); 4] =
    [(b"put", WriteOp::Put), (b"merge", WriteOp::Merge), (b"insert", WriteOp::Insert), (b"delete", WriteOp::Delete)];
const EXPECTED: &str = "send put, merge, insert or delete";

/// The column of a session that says what each row does.
#[derive(Debug)]
pub(super) struct OpColumn {
    pub(super) incoming: usize,
    pub(super) name: Box<str>,
    /// Reads the text, from whatever form the rows have.
    pub(super) leaf: Leaf,
}

impl OpColumn {
    /// Finds the column among the session's.
    pub(super) fn compile(
        table: &TableDef,
        incoming: &Schema,
        name: &str,
        rules: &mut RuleBook,
    ) -> Result<Self, PlanError> {
        let wrong = |problem: &str| PlanError::OpColumn { column: name.to_owned(), problem: problem.to_owned() };
        if table.schema.field(name).is_some() {
            return Err(wrong("is a column of the table; operations need a column of their own"));
        }
        let at = incoming.fields.iter().position(|field| field.name == name);
        let at = at.ok_or_else(|| wrong("is not among the columns that the rows carry"))?;
        let sent = &incoming.fields[at].data_type;
        if !sent.is_text() {
            return Err(wrong(&format!("must be a string column, not {sent}")));
        }
        let mut policies = Policies {
            mode: Mode(StoreAssignment::Strict),
            unknown_fields: table.unknown_fields,
            show_values: table.show_values_in_outcomes,
            rules,
        };
        let field = Field::new(name, DataType::String, false);
        let leaf = Leaf::compile(&field, name, Role::Value, Some(sent), &mut policies);
        let leaf = leaf.ok_or_else(|| wrong("must be a string column"))?;
        Ok(Self { incoming: at, name: name.into(), leaf })
    }

    /// The row's operation. What is written on the way is taken back.
    #[inline]
    pub(super) fn read(&self, source: &impl RowSource, writer: &mut ItemWriter) -> Result<WriteOp, Box<Reject>> {
        let (mark, start) = (writer.mark(), writer.len());
        let put = source.put_leaf(self.incoming, &self.leaf, writer);
        let op = match put {
            Ok(Presence::Written) => {
                let word =
                    writer.as_slice()[start..].strip_prefix(b"{\"S\":\"").and_then(|rest| rest.strip_suffix(b"\"}"));
                let word = word.unwrap_or_default();
                OPERATIONS.iter().find(|(known, _)| word.eq_ignore_ascii_case(known)).map(|(_, op)| *op).ok_or_else(
                    || {
                        Reject::new(
                            RejectReason::OutOfRange,
                            "the row's operation is none of put, merge, insert and delete",
                        )
                        .of_types("string", "string")
                        .hint(EXPECTED)
                    },
                )
            }
            Ok(Presence::Null) => Err(Reject::new(RejectReason::NullNotAllowed, "the row does not say its operation")
                .of_types("string", "null")
                .hint(EXPECTED)),
            Err(reject) => Err(reject),
        };
        writer.rewind(mark);
        op.map_err(|reject| reject.in_field(&self.name))
    }
}

/// What a delete leaves in a table with `sequence_by`, beside key and sequence.
#[derive(Debug)]
pub(super) struct Tombstone {
    /// `,"_deleted":{"BOOL":true},"_expires_at":`
    lead: Box<[u8]>,
    /// The size of what is always the same.
    counted_bytes: usize,
    retention_seconds: u64,
}

impl Tombstone {
    /// Of a table with an attribute for expiries.
    pub(super) fn compile(table: &TableDef, expiry_attribute: &str) -> Self {
        let mut lead = ItemWriter::default();
        lead.raw(b",");
        lead.raw(&super::item::name_json(TOMBSTONE_ATTRIBUTE));
        lead.count(TOMBSTONE_ATTRIBUTE.len());
        lead.boolean(true);
        lead.raw(b",");
        lead.raw(&super::item::name_json(expiry_attribute));
        lead.count(expiry_attribute.len());
        let (counted_bytes, retention_seconds) = (lead.item_bytes(), table.tombstone_retention().as_secs());
        Self { lead: lead.into_buffer().into(), counted_bytes, retention_seconds }
    }

    /// Appends it to a row of key and sequence.
    pub(super) fn write(&self, now_epoch_seconds: u64, writer: &mut ItemWriter) {
        writer.raw(&self.lead);
        writer.count(self.counted_bytes);
        // Both are far below 2^63 seconds: a clock's, and at most ten years.
        writer.integer((now_epoch_seconds + self.retention_seconds) as i64);
    }
}
