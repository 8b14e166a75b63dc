//! Positional rows: walks a `RowBatch`'s wire bytes straight into DynamoDB's JSON.
//!
//! The bytes are `RowBatch { repeated Row rows = 1 }`, `Row { repeated Value values = 1 }`; a `Value` is a oneof whose field
//! numbers are `kind`'s. Structs by position follow the session's own declared order, so the walker is compiled from the
//! session's columns beside the table's. Bytes that are no protobuf end the call; values that do not fit reject their row.

mod shape;
#[cfg(test)]
mod tests;
mod variant;

use prost::Message as _;
use smallvec::SmallVec;

pub use self::shape::RowsPlan;
use self::shape::Shape;
use self::variant::Natural;
use super::PayloadError;
use super::chunk::{Chunk, ChunkBuilder};
use super::item::ItemWriter;
use super::leaf::{Leaf, Presence, Put, ValueKind};
use super::nested::{Distinct, StructWriter, check_map_key, end_element, write_set};
use super::plan::{Plan, PlanError, RowSource, Used};
use super::reject::{Reject, RejectReason};
use super::target::{StructTarget, Target, null_not_allowed};
use super::wire::{Wire, WireError, WireValue, zigzag};
use crate::limits::{BATCH_MAX_ROWS, NESTING_MAX_LEVELS};
use crate::proto::v1::Value;
use crate::schema::{DataType, UnknownFields};

/// Field numbers of `Value.kind` in `types.proto`.
mod kind {
    pub(super) const BOOL: u32 = 1;
    pub(super) const INT: u32 = 2;
    pub(super) const DOUBLE: u32 = 3;
    pub(super) const FLOAT: u32 = 4;
    pub(super) const STRING: u32 = 5;
    pub(super) const BYTES: u32 = 6;
    pub(super) const DECIMAL: u32 = 7;
    pub(super) const TIMESTAMP: u32 = 8;
    pub(super) const TIMESTAMP_NTZ: u32 = 9;
    pub(super) const DATE: u32 = 10;
    pub(super) const DAY_TIME: u32 = 11;
    pub(super) const YEAR_MONTH: u32 = 12;
    pub(super) const LIST: u32 = 13;
    pub(super) const STRUCT: u32 = 14;
    pub(super) const MAP: u32 = 15;
}

/// Walks one batch.
#[derive(Debug)]
pub struct RowsCursor<'a> {
    wire: Wire<'a>,
    next_row: u32,
}

/// How far a batch has been walked, for a walk that pauses between chunks.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RowsPosition {
    /// Bytes walked.
    pub offset: usize,
    /// Rows walked.
    pub rows: u32,
}

/// Rows of a batch, without a look at their values.
pub fn count(row_batch: &[u8]) -> Result<u32, WireError> {
    let (mut wire, mut rows) = (Wire::new(row_batch), 0);
    while wire.next_message()?.is_some() {
        rows += 1;
    }
    Ok(rows)
}

impl<'a> RowsCursor<'a> {
    /// At the start of a batch.
    pub fn new(row_batch: &'a [u8]) -> Self {
        Self { wire: Wire::new(row_batch), next_row: 0 }
    }

    /// Where an earlier walk of the same batch paused.
    pub fn resume(row_batch: &'a [u8], position: RowsPosition) -> Self {
        Self { wire: Wire::new(&row_batch[position.offset.min(row_batch.len())..]), next_row: position.rows }
    }

    /// How far the walk is; `row_batch_len` is the batch's length.
    pub fn position(&self, row_batch_len: usize) -> RowsPosition {
        RowsPosition { offset: row_batch_len - self.wire.remaining(), rows: self.next_row }
    }

    /// Rows seen so far.
    pub fn rows(&self) -> u32 {
        self.next_row
    }

    /// Encodes rows until the chunk has about `target_bytes`; `None` at the end of the batch. Tombstones expire some time
    /// after `now_epoch_seconds`.
    pub fn next_chunk(
        &mut self,
        plan: &Plan,
        rows_plan: &RowsPlan,
        target_bytes: usize,
        now_epoch_seconds: u64,
    ) -> Result<Option<Chunk>, PayloadError> {
        // Text grows by about two thirds on its way into DynamoDB's JSON; the rest of the batch bounds the guess.
        let guess = (self.wire.remaining() * 5 / 3 + 256).min(target_bytes + target_bytes / 8);
        let mut chunk = ChunkBuilder::with_capacity(guess, now_epoch_seconds);
        let fault = std::cell::Cell::new(None);
        while !chunk.is_full(target_bytes) {
            let Some(row) = self.wire.next_message()? else { break };
            if self.next_row as usize >= BATCH_MAX_ROWS {
                return Err(PayloadError::TooManyRows { rows: self.next_row as usize + 1, limit: BATCH_MAX_ROWS });
            }
            let row_index = self.next_row;
            self.next_row += 1;
            let row = Positional::split(row, plan.incoming().fields.len(), rows_plan, &fault)?;
            match row {
                Some(row) => plan.encode_row(row_index, &row, &mut chunk),
                None => {
                    let declared = plan.incoming().fields.len();
                    let message = format!("the row has more values than the {declared} declared columns");
                    let hint = "declare every column in Open, in the order of the values";
                    let reject = Err(Reject::new(RejectReason::SurplusValue, message).hint(hint));
                    let (mark, start) = (chunk.writer.mark(), chunk.writer.len());
                    chunk.finish_row(row_index, mark, start, reject);
                }
            }
            if let Some(fault) = fault.take() {
                return Err(fault);
            }
        }
        Ok((!chunk.is_empty()).then(|| chunk.finish()))
    }
}

/// Writes a value that came in no row, as a row's column would be written. `data_type` is the target's own.
pub(super) fn put_alone(value: &Value, target: &Target, data_type: &DataType, writer: &mut ItemWriter) -> Put {
    let shape = Shape::compile(target, data_type, "");
    let shape = shape.map_err(|error| Reject::new(RejectReason::TypeMismatch, error.to_string()))?;
    let bytes = value.encode_to_vec();
    // What was just encoded cannot be malformed; if it were, the reject would say so.
    let (rows_plan, fault) = (RowsPlan { columns: vec![shape] }, std::cell::Cell::new(None));
    let row = Positional { values: smallvec::smallvec![&bytes[..]], rows_plan: &rows_plan, fault: &fault };
    row.put(0, target, writer)
}

/// One row, split into its values.
struct Positional<'a, 'f> {
    values: SmallVec<[&'a [u8]; 32]>,
    rows_plan: &'a RowsPlan,
    /// Where a malformed value is noted: it ends the call, while a reject only ends the row.
    fault: &'f std::cell::Cell<Option<PayloadError>>,
}

impl<'a, 'f> Positional<'a, 'f> {
    /// `None` when there are more values than columns.
    fn split(
        row: &'a [u8],
        columns: usize,
        rows_plan: &'a RowsPlan,
        fault: &'f std::cell::Cell<Option<PayloadError>>,
    ) -> Result<Option<Self>, PayloadError> {
        let mut values = SmallVec::new();
        let mut wire = Wire::new(row);
        while let Some(value) = wire.next_message()? {
            values.push(value);
        }
        Ok((values.len() <= columns).then_some(Self { values, rows_plan, fault }))
    }

    /// The column's kind and content; `None` for null.
    fn value(&self, column: usize) -> Result<Option<(u32, WireValue<'a>)>, Box<Reject>> {
        match self.values.get(column) {
            Some(value) => self.note(value_kind(value)),
            None => Ok(None),
        }
    }

    #[inline]
    fn note<T>(&self, result: Result<T, WireError>) -> Result<T, Box<Reject>> {
        result.map_err(|fault| self.fault(fault))
    }

    #[cold]
    fn fault(&self, fault: WireError) -> Box<Reject> {
        let fault = PayloadError::from(fault);
        let reject = Reject::new(RejectReason::TypeMismatch, fault.to_string());
        self.fault.set(Some(fault));
        reject
    }

    fn put_scalar(&self, leaf: &Leaf, number: u32, value: WireValue<'a>, writer: &mut ItemWriter) -> Put {
        match (number, value) {
            (kind::INT, WireValue::Varint(v)) => leaf.put_integer(writer, zigzag(v)),
            (kind::STRING, WireValue::Bytes(v)) => leaf.put_text(writer, self.utf8(v)?),
            (kind::DOUBLE, WireValue::Fixed64(v)) => leaf.put_double(writer, f64::from_bits(v)),
            (kind::TIMESTAMP, WireValue::Varint(v)) => leaf.put_timestamp(writer, zigzag(v)),
            (kind::BOOL, WireValue::Varint(v)) => leaf.put_boolean(writer, v != 0),
            (kind::FLOAT, WireValue::Fixed32(v)) => leaf.put_float(writer, f32::from_bits(v)),
            (kind::BYTES, WireValue::Bytes(v)) => leaf.put_binary(writer, v),
            (kind::DECIMAL, WireValue::Bytes(v)) => leaf.put_decimal_text(writer, self.utf8(v)?),
            (kind::TIMESTAMP_NTZ, WireValue::Varint(v)) => leaf.put_timestamp_ntz(writer, zigzag(v)),
            (kind::DATE, WireValue::Varint(v)) => match i32::try_from(zigzag(v)) {
                Ok(days) => leaf.put_date(writer, days.into()),
                Err(_) => self.note(Err(WireError("a date"))),
            },
            (kind::DAY_TIME, WireValue::Varint(v)) => leaf.put_day_time(writer, zigzag(v)),
            (kind::YEAR_MONTH, WireValue::Varint(v)) => match i32::try_from(zigzag(v)) {
                Ok(months) => leaf.put_year_month(writer, months),
                Err(_) => self.note(Err(WireError("a year-month interval"))),
            },
            (kind::LIST, _) => Err(leaf.mismatch("a list")),
            (kind::STRUCT, _) => Err(leaf.mismatch("a struct")),
            (kind::MAP, _) => Err(leaf.mismatch("a map")),
            _ => self.note(Err(WireError("a value's kind"))),
        }
    }

    fn utf8(&self, bytes: &'a [u8]) -> Result<&'a str, Box<Reject>> {
        self.note(std::str::from_utf8(bytes).map_err(|_| WireError("text that is not UTF-8")))
    }

    fn put_value(
        &self,
        value: Option<(u32, WireValue<'a>)>,
        target: &Target,
        shape: &Shape,
        level: usize,
        writer: &mut ItemWriter,
    ) -> Put {
        let Some((number, value)) = value else { return Ok(Presence::Null) };
        if let Target::Leaf(leaf) = target {
            return self.put_scalar(leaf, number, value, writer);
        }
        if let Target::Variant(target) = target {
            // Only a field that the session did not declare has another shape.
            let natural = if let Shape::Variant(natural) = shape { natural } else { &Natural::Any };
            return self.put_variant(Some((number, value)), target, natural, level, writer);
        }
        if level > NESTING_MAX_LEVELS {
            return Err(Reject::new(RejectReason::TooDeep, format!("nested deeper than {NESTING_MAX_LEVELS} levels")));
        }
        let WireValue::Bytes(message) = value else { return Err(target.mismatch(kind_name(number))) };
        match (target, number, shape) {
            (Target::List { element, contains_null }, kind::LIST, Shape::Elements(shape)) => {
                self.put_list(message, element, *contains_null, shape, level, writer)
            }
            (Target::Set { element }, kind::LIST, _) => self.put_set(message, element, writer),
            (Target::Map { key, value, value_contains_null }, kind::MAP, Shape::Elements(shape)) => {
                self.put_map(message, (key, value, *value_contains_null), shape, level, writer)
            }
            (Target::Struct(target), kind::STRUCT, Shape::Struct(positions)) => {
                self.put_struct(message, target, positions, level, writer)
            }
            (Target::Struct(target), kind::MAP, Shape::Struct(positions)) => {
                self.put_struct_by_name(message, target, positions, level, writer)
            }
            _ => Err(target.mismatch(kind_name(number))),
        }
    }

    fn put_list(
        &self,
        message: &'a [u8],
        element: &Target,
        contains_null: bool,
        shape: &Shape,
        level: usize,
        writer: &mut ItemWriter,
    ) -> Put {
        writer.raw(b"{\"L\":[");
        writer.count(3);
        let mut wire = Wire::new(message);
        let mut index = 0;
        while let Some(value) = self.note(wire.next_message())? {
            if index > 0 {
                writer.raw(b",");
            }
            writer.count(1);
            self.note(value_kind(value))
                .and_then(|value| self.put_value(value, element, shape, level + 1, writer))
                .and_then(|presence| end_element(presence, contains_null, || element.describe(), writer))
                .map_err(|reject| reject.in_element(index))?;
            index += 1;
        }
        writer.raw(b"]}");
        Ok(Presence::Written)
    }

    fn put_set(&self, message: &'a [u8], element: &Leaf, writer: &mut ItemWriter) -> Put {
        let mut wire = Wire::new(message);
        let mut index = 0;
        write_set(writer, element, |writer| {
            let Some(value) = self.note(wire.next_message())? else { return Ok(false) };
            let put = match self.note(value_kind(value))? {
                Some((number, value)) => self.put_scalar(element, number, value, writer),
                None => Ok(Presence::Null),
            };
            index += 1;
            match put {
                Ok(Presence::Written) => Ok(true),
                Ok(Presence::Null) => Err(null_not_allowed(element.declared()).in_element(index - 1)),
                Err(reject) => Err(reject.in_element(index - 1)),
            }
        })
    }

    fn put_map(
        &self,
        message: &'a [u8],
        (key_leaf, value_target, contains_null): (&Leaf, &Target, bool),
        shape: &Shape,
        level: usize,
        writer: &mut ItemWriter,
    ) -> Put {
        writer.raw(b"{\"M\":{");
        writer.count(3);
        let mut keys = Distinct::default();
        let mut wire = Wire::new(message);
        let mut index = 0;
        while let Some(entry) = self.note(wire.next_message())? {
            if index > 0 {
                writer.raw(b",");
            }
            writer.count(1);
            let (key, value) = self.note(entry_parts(entry))?;
            let start = writer.len();
            let put = match key {
                Some((number, key)) => self.put_scalar(key_leaf, number, key, writer),
                None => Ok(Presence::Null),
            };
            put.and_then(|presence| match presence {
                Presence::Written => check_map_key(&mut keys, start, key_leaf, writer),
                Presence::Null => Err(null_not_allowed(key_leaf.declared())),
            })
            .map_err(|reject| reject.in_field("key").in_element(index))?;
            self.put_value(value, value_target, shape, level + 1, writer)
                .and_then(|presence| end_element(presence, contains_null, || value_target.describe(), writer))
                .map_err(|reject| reject.in_field("value").in_element(index))?;
            index += 1;
        }
        writer.raw(b"}}");
        Ok(Presence::Written)
    }

    fn put_struct(
        &self,
        message: &'a [u8],
        target: &StructTarget,
        positions: &[(Option<usize>, Shape)],
        level: usize,
        writer: &mut ItemWriter,
    ) -> Put {
        let mut fields = StructWriter::begin(target, writer);
        let mut wire = Wire::new(message);
        let mut position = 0;
        while let Some(value) = self.note(wire.next_message())? {
            let Some((at, shape)) = positions.get(position) else {
                let message = format!("the struct has more values than its {} declared fields", positions.len());
                let hint = "declare every field of the struct in Open, in the order of the values";
                return Err(Reject::new(RejectReason::SurplusValue, message).hint(hint));
            };
            position += 1;
            let Some(at) = *at else { continue };
            let value = self.note(value_kind(value))?;
            fields.put(at, writer, |target, writer| self.put_value(value, target, shape, level + 1, writer))?;
        }
        fields.finish_declared(writer)
    }

    fn put_struct_by_name(
        &self,
        message: &'a [u8],
        target: &StructTarget,
        positions: &[(Option<usize>, Shape)],
        level: usize,
        writer: &mut ItemWriter,
    ) -> Put {
        let mut fields = StructWriter::begin(target, writer);
        let mut wire = Wire::new(message);
        while let Some(entry) = self.note(wire.next_message())? {
            let (key, value) = self.note(entry_parts(entry))?;
            let Some((kind::STRING, WireValue::Bytes(name))) = key else {
                let reject = Reject::new(RejectReason::TypeMismatch, "a struct's fields must be named by text");
                return Err(reject.hint("send a map with keys of text, or a struct by position"));
            };
            let name = self.utf8(name)?;
            let Some(at) = target.fields.iter().position(|field| *field.name == *name) else {
                if target.unknown_fields == UnknownFields::Drop {
                    writer.coerced(target.undeclared);
                    continue;
                }
                let reject = Reject::new(RejectReason::UnknownField, "the struct has no such field");
                let hint = "leave it out, add it to the table, or let the table have `unknown_fields: drop`";
                return Err(reject.hint(hint).in_field(name));
            };
            let shape = positions.iter().find(|(position, _)| *position == Some(at)).map(|(_, shape)| shape);
            // A field that the session did not declare can still be given by name where it holds nothing positional.
            let shape = shape.unwrap_or(&Shape::Plain);
            fields.put(at, writer, |target, writer| self.put_value(value, target, shape, level + 1, writer))?;
        }
        fields.finish(writer)
    }
}

impl RowSource for Positional<'_, '_> {
    fn put(&self, column: usize, target: &Target, writer: &mut ItemWriter) -> Put {
        self.put_value(self.value(column)?, target, &self.rows_plan.columns[column], 1, writer)
    }

    fn put_leaf(&self, column: usize, leaf: &Leaf, writer: &mut ItemWriter) -> Put {
        match self.value(column)? {
            Some((number, value)) => self.put_scalar(leaf, number, value, writer),
            None => Ok(Presence::Null),
        }
    }
}

/// The kind that a `Value` has; the last one where there are several, as protobuf says.
#[inline]
fn value_kind(value: &[u8]) -> Result<Kinded<'_>, WireError> {
    // Nearly always: nothing, or one field.
    match value {
        [] => return Ok(None),
        [KEY_OF_DOUBLE, bits @ ..] if let Ok(bits) = <[u8; 8]>::try_from(bits) => {
            return Ok(Some((kind::DOUBLE, WireValue::Fixed64(u64::from_le_bytes(bits)))));
        }
        _ => {}
    }
    let mut wire = Wire::new(value);
    let mut found = None;
    while let Some((number, value)) = wire.next_field()? {
        if (kind::BOOL..=kind::MAP).contains(&number) {
            found = Some((number, value));
        }
    }
    Ok(found)
}

/// The double's field, eight bytes wide.
const KEY_OF_DOUBLE: u8 = (kind::DOUBLE as u8) << 3 | 1;

type Kinded<'a> = Option<(u32, WireValue<'a>)>;

/// `MapEntry { Value key = 1; Value value = 2; }`
fn entry_parts(entry: &[u8]) -> Result<(Kinded<'_>, Kinded<'_>), WireError> {
    let (mut key, mut value) = (None, None);
    let mut wire = Wire::new(entry);
    while let Some((number, content)) = wire.next_field()? {
        match (number, content) {
            (1, WireValue::Bytes(message)) => key = value_kind(message)?,
            (2, WireValue::Bytes(message)) => value = value_kind(message)?,
            _ => {}
        }
    }
    Ok((key, value))
}

fn kind_name(number: u32) -> &'static str {
    match number {
        kind::BOOL => "a boolean",
        kind::INT => "an integer",
        kind::DOUBLE => "a double",
        kind::FLOAT => "a float",
        kind::STRING => "text",
        kind::BYTES => "binary",
        kind::DECIMAL => "a decimal",
        kind::TIMESTAMP => "a timestamp",
        kind::TIMESTAMP_NTZ => "a timestamp without time zone",
        kind::DATE => "a date",
        kind::DAY_TIME => "a day-time interval",
        kind::YEAR_MONTH => "a year-month interval",
        kind::LIST => "a list",
        kind::STRUCT => "a struct",
        _ => "a map",
    }
}
