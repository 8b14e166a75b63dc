//! Positional rows: walks a `RowBatch`'s wire bytes straight into DynamoDB's JSON.
//!
//! The bytes are `RowBatch { repeated Row rows = 1 }`, `Row { repeated Value values = 1 }`; a `Value` is a oneof whose field
//! numbers are `kind`'s. Structs by position follow the session's own declared order, so the walker is compiled from the
//! session's columns beside the table's. Bytes that are no protobuf end the call; values that do not fit reject their row.

mod variant;

use prost::Message as _;
use smallvec::SmallVec;

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

/// The session's view of its columns: where each position of a struct goes.
#[derive(Debug)]
pub struct RowsPlan {
    columns: Vec<Shape>,
}

/// How nested values by position map to the target; mirrors the target's tree.
#[derive(Debug)]
enum Shape {
    /// Nothing below is positional.
    Plain,
    /// A list or map whose elements have a shape.
    Elements(Box<Shape>),
    /// For each position of the session's struct: the target's field, `None` where the target has none.
    Struct(Vec<(Option<usize>, Shape)>),
    /// A value of any kind, and what the session says about it.
    Variant(Natural),
}

impl RowsPlan {
    /// Mirrors the plan's columns by the session's declared types.
    pub fn compile(plan: &Plan) -> Result<Self, PlanError> {
        let mut columns: Vec<Shape> = plan.incoming().fields.iter().map(|_| Shape::Plain).collect();
        for (position, name, target) in plan.used_columns() {
            let incoming = &plan.incoming().fields[position].data_type;
            match target {
                Used::Key(leaf) => check_leaf(leaf, incoming, name)?,
                Used::Column(target) => columns[position] = Shape::compile(target, incoming, name)?,
            }
        }
        Ok(Self { columns })
    }
}

impl Shape {
    fn compile(target: &Target, incoming: &DataType, path: &str) -> Result<Self, PlanError> {
        let mismatch = || PlanError::TypeMismatch {
            path: path.to_owned(),
            found: incoming.to_string(),
            declared: target.describe().to_owned(),
            hint: "",
        };
        match (target, incoming) {
            (Target::Variant(_), incoming) => Ok(Self::Variant(Natural::compile(incoming, path)?)),
            (Target::Leaf(leaf), _) => check_leaf(leaf, incoming, path).map(|()| Self::Plain),
            (Target::Set { element: leaf }, DataType::Array { element, .. }) => {
                check_leaf(leaf, element, &format!("{path}[]")).map(|()| Self::Plain)
            }
            (Target::List { element: target, .. }, DataType::Array { element, .. }) => {
                Ok(Self::Elements(Box::new(Self::compile(target, element, &format!("{path}[]"))?)))
            }
            (Target::Map { key: leaf, value: target, .. }, DataType::Map { key, value, .. }) => {
                check_leaf(leaf, key, &format!("{path}{{key}}"))?;
                Ok(Self::Elements(Box::new(Self::compile(target, value, &format!("{path}{{}}"))?)))
            }
            (Target::Struct(target), DataType::Struct(fields)) => {
                let positions = fields.iter().map(|field| {
                    let path = format!("{path}.{}", field.name);
                    match target.fields.iter().position(|declared| *declared.name == *field.name) {
                        Some(at) => Ok((Some(at), Self::compile(&target.fields[at].target, &field.data_type, &path)?)),
                        None if target.unknown_fields == UnknownFields::Drop => Ok((None, Self::Plain)),
                        None => Err(PlanError::unknown_field(path, target)),
                    }
                });
                Ok(Self::Struct(positions.collect::<Result<_, PlanError>>()?))
            }
            _ => Err(mismatch()),
        }
    }
}

/// Whether values of the type that the session declares can fit a scalar at all. Values of other kinds than declared are
/// checked when they come.
fn check_leaf(leaf: &Leaf, incoming: &DataType, path: &str) -> Result<(), PlanError> {
    let kind = ValueKind::of(incoming);
    if kind.is_some_and(|kind| leaf.accepts(kind)) {
        return Ok(());
    }
    Err(PlanError::TypeMismatch {
        path: path.to_owned(),
        found: incoming.to_string(),
        declared: leaf.declared().to_owned(),
        hint: kind.map_or("", |kind| leaf.hint(kind)),
    })
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

    /// Encodes rows until the chunk has about `target_bytes`; `None` at the end of the batch.
    pub fn next_chunk(
        &mut self,
        plan: &Plan,
        rows_plan: &RowsPlan,
        target_bytes: usize,
    ) -> Result<Option<Chunk>, PayloadError> {
        // Text grows by about two thirds on its way into DynamoDB's JSON; the rest of the batch bounds the guess.
        let guess = (self.wire.remaining() * 5 / 3 + 256).min(target_bytes + target_bytes / 8);
        let mut chunk = ChunkBuilder::with_capacity(guess);
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
                return Err(Reject::new(RejectReason::SurplusValue, message));
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
                return Err(Reject::new(RejectReason::TypeMismatch, "a struct's fields must be named by text"));
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

#[cfg(test)]
mod tests {
    use prost::Message as _;

    use super::*;
    use crate::proto::v1::{self, value::Kind};
    use crate::schema::{Field, KeyDef, Schema, TableDef};
    use crate::store::WriteOp;

    fn v(kind: Kind) -> v1::Value {
        v1::Value { kind: Some(kind) }
    }

    fn text(text: &str) -> v1::Value {
        v(Kind::StringValue(text.into()))
    }

    fn int(value: i64) -> v1::Value {
        v(Kind::IntValue(value))
    }

    fn null() -> v1::Value {
        v1::Value { kind: None }
    }

    fn list(values: Vec<v1::Value>) -> v1::Value {
        v(Kind::ListValue(v1::ListValue { values }))
    }

    fn fields(values: Vec<v1::Value>) -> v1::Value {
        v(Kind::StructValue(v1::StructValue { values }))
    }

    fn map(entries: Vec<(v1::Value, v1::Value)>) -> v1::Value {
        let entry = |(key, value)| v1::MapEntry { key: Some(key), value: Some(value) };
        v(Kind::MapValue(v1::MapValue { entries: entries.into_iter().map(entry).collect() }))
    }

    fn array(element: DataType) -> DataType {
        DataType::Array { element: Box::new(element), contains_null: true }
    }

    fn table() -> TableDef {
        let vitals = DataType::Struct(vec![
            Field::new("hr", DataType::Integer, false),
            Field::new("note", DataType::String, true),
        ]);
        let mut tags = Field::new("tags", array(DataType::String), true);
        tags.options.as_set = true;
        let counts = DataType::Map {
            key: Box::new(DataType::Integer),
            value: Box::new(DataType::Long),
            value_contains_null: false,
        };
        let schema = Schema {
            fields: vec![
                Field::new("score", DataType::Double, true),
                Field::new("id", DataType::String, false),
                Field::new("vitals", array(vitals), true),
                tags,
                Field::new("counts", counts, true),
                Field::new("at", DataType::Long, false),
            ],
        };
        let key = KeyDef {
            partition: vec!["id".into()],
            sort: vec!["at".into()],
            partition_attribute: crate::schema::table::default_partition_attribute(),
            sort_attribute: crate::schema::table::default_sort_attribute(),
        };
        TableDef::new("t", schema, key, "t")
    }

    fn encode(
        table: &TableDef,
        incoming: &Schema,
        op: WriteOp,
        rows: Vec<Vec<v1::Value>>,
    ) -> Result<Chunk, PayloadError> {
        let plan = Plan::compile(table, incoming, op, 1).unwrap();
        let rows_plan = RowsPlan::compile(&plan).unwrap();
        let rows = rows.into_iter().map(|values| v1::Row { values }).collect();
        let bytes = v1::RowBatch { rows }.encode_to_vec();
        Ok(RowsCursor::new(&bytes).next_chunk(&plan, &rows_plan, 1 << 20)?.unwrap_or_default())
    }

    fn json(chunk: &Chunk, row: usize) -> serde_json::Value {
        serde_json::from_slice(&chunk.rows[row].item.json).unwrap()
    }

    #[test]
    fn nested_rows_become_dynamodb_json_with_the_key_first() {
        let table = table();
        let row = vec![
            v(Kind::DoubleValue(0.5)),
            text("a\"b"),
            list(vec![fields(vec![int(61), text("ok")]), null(), fields(vec![int(62)])]),
            list(vec![text("x"), text("y"), text("x")]),
            map(vec![(int(7), int(70)), (int(-8), int(80))]),
            int(12),
        ];
        let chunk = encode(&table, &table.schema, WriteOp::Put, vec![row]).unwrap();
        assert_eq!(chunk.rejects, []);
        assert_eq!(chunk.rows[0].item.key_text(), br#""id":{"S":"a\"b"},"at":{"N":"12"}"#);
        let expected = serde_json::json!({
            "id": {"S": "a\"b"}, "at": {"N": "12"}, "score": {"N": "0.5"},
            "vitals": {"L": [
                {"M": {"hr": {"N": "61"}, "note": {"S": "ok"}}}, {"NULL": true}, {"M": {"hr": {"N": "62"}}},
            ]},
            "tags": {"SS": ["x", "y"]},
            "counts": {"M": {"7": {"N": "70"}, "-8": {"N": "80"}}},
        });
        assert_eq!(json(&chunk, 0), expected);
    }

    #[test]
    fn a_bad_row_is_rejected_with_its_place_and_its_neighbours_stay() {
        let table = table();
        let good = |id: &str| vec![null(), text(id), null(), null(), null(), int(1)];
        let with = |column: usize, value: v1::Value| {
            let mut row = good("x");
            row[column] = value;
            row
        };
        let cases = [
            (with(0, text("1.5")), "score", RejectReason::TypeMismatch),
            (with(1, null()), "id", RejectReason::NullNotAllowed),
            (with(1, text("")), "id", RejectReason::KeyEmpty),
            (with(1, text(&"k".repeat(2049))), "id", RejectReason::KeyTooLong),
            (
                with(2, list(vec![fields(vec![int(1)]), fields(vec![int(1 << 40)])])),
                "vitals[1].hr",
                RejectReason::OutOfRange,
            ),
            (with(2, list(vec![fields(vec![null()])])), "vitals[0].hr", RejectReason::NullNotAllowed),
            (with(2, list(vec![fields(vec![])])), "vitals[0].hr", RejectReason::NullNotAllowed),
            (
                with(2, list(vec![map(vec![(text("hr"), int(1)), (text("no"), int(1))])])),
                "vitals[0].no",
                RejectReason::UnknownField,
            ),
            (with(4, map(vec![(int(1), int(1)), (int(1), int(2))])), "counts[1].key", RejectReason::DuplicateMapKey),
            (with(4, map(vec![(int(1), null())])), "counts[0].value", RejectReason::NullNotAllowed),
            (with(3, text("t")), "tags", RejectReason::TypeMismatch),
            (with(2, list(vec![fields(vec![int(1), text(&"n".repeat(500_000))])])), "", RejectReason::ItemTooLarge),
            ([good("x"), vec![int(1)]].concat(), "", RejectReason::SurplusValue),
        ];
        let count = cases.len();
        let rows = cases.iter().flat_map(|(row, _, _)| [row.clone(), good("neighbour")]).collect();
        let chunk = encode(&table, &table.schema, WriteOp::Put, rows).unwrap();
        assert_eq!(chunk.rows.len(), count);
        for (case, (reject, (_, path, reason))) in chunk.rejects.iter().zip(&cases).enumerate() {
            let found = (reject.row_index as usize, reject.reject.path.as_str(), reject.reject.reason);
            assert_eq!(found, (2 * case, *path, *reason), "{}", reject.reject.message);
        }
        let neighbour = serde_json::json!({"id": {"S": "neighbour"}, "at": {"N": "1"}});
        assert!((0..count).all(|row| json(&chunk, row) == neighbour));
    }

    #[test]
    fn a_value_that_became_null_is_counted_wherever_it_stood() {
        let mut table = table();
        let mut readings = Field::new("readings", array(DataType::Double), true);
        for field in [&mut table.schema.fields[0], &mut readings] {
            field.options.non_finite = crate::schema::NonFinite::Null;
        }
        table.schema.fields.push(readings);
        let nan = || v(Kind::DoubleValue(f64::NAN));
        let row = vec![nan(), text("a"), null(), null(), null(), int(1), list(vec![nan()])];
        let plan = Plan::compile(&table, &table.schema, WriteOp::Put, 1).unwrap();
        let chunk = encode(&table, &table.schema, WriteOp::Put, vec![row]).unwrap();
        assert_eq!(chunk.rejects, []);
        assert!(json(&chunk, 0).get("score").is_none());
        let counted = plan.rules().report(&chunk.coercions);
        let rule = |path: &str| (path.to_owned(), "non-finite->null".to_owned(), 1);
        assert_eq!(counted, [rule("score"), rule("readings[]")]);
    }

    #[test]
    fn a_date_beyond_its_wire_type_ends_the_call() {
        let mut table = table();
        table.schema.fields[0] = Field::new("score", DataType::Date, true);
        let plan = Plan::compile(&table, &table.schema, WriteOp::Put, 1).unwrap();
        let rows_plan = RowsPlan::compile(&plan).unwrap();
        let batch = |days: i64| {
            let mut date = Vec::new();
            prost::encoding::sint64::encode(kind::DATE, &days, &mut date);
            let others = [text("a"), null(), null(), null(), int(1)].map(|value| value.encode_to_vec());
            let (mut row, mut batch) = (Vec::new(), Vec::new());
            for value in [date].iter().chain(&others) {
                prost::encoding::bytes::encode(1, value, &mut row);
            }
            prost::encoding::bytes::encode(1, &row, &mut batch);
            batch
        };
        let walk = |days| RowsCursor::new(&batch(days)).next_chunk(&plan, &rows_plan, 1 << 20);
        assert_eq!(json(&walk(1).unwrap().unwrap(), 0)["score"]["S"], "1970-01-02");
        for days in [i64::MAX, i64::MIN, 1 << 31] {
            assert!(walk(days).is_err(), "{days}");
        }
    }

    #[test]
    fn columns_and_fields_are_matched_by_name() {
        let table = table();
        let vitals = array(DataType::Struct(vec![
            Field::new("note", DataType::String, true),
            Field::new("hr", DataType::Integer, false),
        ]));
        let incoming = Schema {
            fields: vec![
                Field::new("at", DataType::Long, false),
                Field::new("vitals", vitals, true),
                Field::new("id", DataType::String, false),
            ],
        };
        let row = vec![int(5), list(vec![fields(vec![text("n"), int(3)])]), text("k")];
        let chunk = encode(&table, &incoming, WriteOp::Put, vec![row]).unwrap();
        let expected = serde_json::json!({
            "id": {"S": "k"}, "at": {"N": "5"}, "vitals": {"L": [{"M": {"note": {"S": "n"}, "hr": {"N": "3"}}}]},
        });
        assert_eq!(json(&chunk, 0), expected);
    }

    #[test]
    fn a_delete_carries_the_key_alone() {
        let table = table();
        let row = vec![v(Kind::DoubleValue(f64::NAN)), text("k"), null(), null(), null(), int(5)];
        let chunk = encode(&table, &table.schema, WriteOp::Delete, vec![row]).unwrap();
        assert_eq!(&chunk.rows[0].item.json[..], br#"{"id":{"S":"k"},"at":{"N":"5"}}"#);
    }

    #[test]
    fn several_key_columns_are_joined_and_kept() {
        let mut table = table();
        table.key.partition = vec!["id".into(), "at".into()];
        table.key.sort = Vec::new();
        let row = vec![null(), text("k"), null(), null(), null(), int(5)];
        let chunk = encode(&table, &table.schema, WriteOp::Put, vec![row]).unwrap();
        let expected = serde_json::json!({
            "_pk": {"S": "k\u{0}8000000000000005"}, "id": {"S": "k"}, "at": {"N": "5"},
        });
        assert_eq!(json(&chunk, 0), expected);
    }

    #[test]
    fn sessions_that_cannot_fit_are_refused_when_they_open() {
        let table = table();
        let open = |fields: Vec<Field>| Plan::compile(&table, &Schema { fields }, WriteOp::Put, 1);
        let (id, at) = (Field::new("id", DataType::String, false), Field::new("at", DataType::Long, false));
        assert!(matches!(open(vec![id.clone()]), Err(PlanError::MissingKeyColumn { column, .. }) if column == "at"));
        let unknown = vec![id.clone(), at.clone(), Field::new("nope", DataType::Long, true)];
        assert!(matches!(open(unknown), Err(PlanError::UnknownColumn { column, .. }) if column == "nope"));
        let plan = open(vec![id, at, Field::new("vitals", DataType::Long, true)]).unwrap();
        assert!(matches!(RowsPlan::compile(&plan), Err(PlanError::TypeMismatch { path, .. }) if path == "vitals"));
    }

    #[test]
    fn bytes_that_are_no_protobuf_end_the_call() {
        let table = table();
        let plan = Plan::compile(&table, &table.schema, WriteOp::Put, 1).unwrap();
        let rows_plan = RowsPlan::compile(&plan).unwrap();
        let row = vec![null(), text("k"), null(), null(), null(), int(5)];
        let good = v1::RowBatch { rows: vec![v1::Row { values: row }] }.encode_to_vec();
        for cut in 1..good.len() {
            let result = RowsCursor::new(&good[..cut]).next_chunk(&plan, &rows_plan, 1 << 20);
            assert!(matches!(result, Err(PayloadError::Malformed { .. })), "cut at {cut}: {result:?}");
        }
        let not_utf8 = b"\x0a\x09\x0a\x00\x0a\x05\x2a\x03\xff\xfe\xfd";
        let result = RowsCursor::new(not_utf8).next_chunk(&plan, &rows_plan, 1 << 20);
        assert!(matches!(result, Err(PayloadError::Malformed { .. })), "{result:?}");
    }

    #[test]
    fn a_large_batch_comes_in_chunks() {
        let table = table();
        let plan = Plan::compile(&table, &table.schema, WriteOp::Put, 1).unwrap();
        let rows_plan = RowsPlan::compile(&plan).unwrap();
        let row = |at| v1::Row { values: vec![null(), text("k"), null(), null(), null(), int(at)] };
        let bytes = v1::RowBatch { rows: (0..1000).map(row).collect() }.encode_to_vec();
        let mut cursor = RowsCursor::new(&bytes);
        let mut rows = Vec::new();
        while let Some(chunk) = cursor.next_chunk(&plan, &rows_plan, 4096).unwrap() {
            assert!(chunk.memory_bytes < 4096 * 12, "{}", chunk.memory_bytes);
            rows.extend(chunk.rows.iter().map(|row| row.row_index));
        }
        assert_eq!(rows, (0..1000).collect::<Vec<_>>());
    }
}
