//! Spark's binary encoding of a variant, straight into DynamoDB's JSON.
//!
//! The encoding is the open one of Parquet's specification (VariantEncoding.md, version 1), which is also what Spark holds
//! in memory. A variant is two byte strings. The metadata is a dictionary of field names: a header, the number of names,
//! their offsets, their text. The value starts with a byte of two bits for the basic type and six for what that needs; an
//! array has offsets to its elements, an object field ids (places in the dictionary) and offsets to their values. All
//! numbers are little-endian.
//!
//! The bytes come from outside, and nothing in them is believed: every offset is checked where it is used, nothing is
//! allocated by a claimed size, and values lie strictly inside the value that refers to them, so that a walk ends. Two
//! offsets may name one value; an item's size is therefore checked with every element, which bounds the walk by the largest
//! item and not by what the bytes could unfold to. Bytes that break the encoding reject the row as malformed.

use super::{ListWriter, ObjectWriter, VARIANT, VariantTarget, check_level};
use crate::payload::item::ItemWriter;
use crate::payload::leaf::{Presence, Put};
use crate::payload::number::{self, Decimal, MICROS_PER_DAY};
use crate::payload::reject::{Reject, RejectReason};

/// The version of the encoding that this module reads.
const VERSION: u8 = 1;
/// A decimal's longest scale, by the specification.
const DECIMAL_MAX_SCALE: u8 = 38;
const NANOS_PER_MICRO: i64 = 1000;

/// The two lowest bits of a value's first byte.
mod basic {
    pub(super) const PRIMITIVE: u8 = 0;
    pub(super) const SHORT_STRING: u8 = 1;
    pub(super) const OBJECT: u8 = 2;
}

/// The other six bits of a primitive value's first byte.
mod primitive {
    pub(super) const NULL: u8 = 0;
    pub(super) const TRUE: u8 = 1;
    pub(super) const FALSE: u8 = 2;
    pub(super) const INT8: u8 = 3;
    pub(super) const INT16: u8 = 4;
    pub(super) const INT32: u8 = 5;
    pub(super) const INT64: u8 = 6;
    pub(super) const DOUBLE: u8 = 7;
    pub(super) const DECIMAL4: u8 = 8;
    pub(super) const DECIMAL8: u8 = 9;
    pub(super) const DECIMAL16: u8 = 10;
    pub(super) const DATE: u8 = 11;
    pub(super) const TIMESTAMP: u8 = 12;
    pub(super) const TIMESTAMP_NTZ: u8 = 13;
    pub(super) const FLOAT: u8 = 14;
    pub(super) const BINARY: u8 = 15;
    pub(super) const STRING: u8 = 16;
    pub(super) const TIME: u8 = 17;
    pub(super) const TIMESTAMP_NANOS: u8 = 18;
    pub(super) const TIMESTAMP_NTZ_NANOS: u8 = 19;
    pub(super) const UUID: u8 = 20;
}

/// Appends the value.
pub(super) fn put(target: &VariantTarget, writer: &mut ItemWriter, metadata: &[u8], value: &[u8], level: usize) -> Put {
    Decoder { target, dictionary: Dictionary::parse(metadata)? }.put(writer, value, level)
}

/// The names of all fields of one variant. Only those that are used are looked at.
struct Dictionary<'a> {
    offsets: Numbers<'a>,
    text: &'a [u8],
}

impl<'a> Dictionary<'a> {
    fn parse(metadata: &'a [u8]) -> Result<Self, Box<Reject>> {
        let mut bytes = Bytes(metadata);
        let [header] = bytes.array("the metadata is empty")?;
        if header & 0x0f != VERSION {
            let message = format!("the variant's encoding has the version {}, expected {VERSION}", header & 0x0f);
            return Err(reject_bytes(message));
        }
        let width = usize::from(header >> 6) + 1;
        let size = bytes.number(width, "the dictionary's size ends early")?;
        let offsets = bytes.numbers(size.saturating_add(1), width, "the dictionary's offsets end early")?;
        Ok(Self { offsets, text: bytes.0 })
    }

    /// A name's bytes, which nobody has checked to be text.
    fn name(&self, id: usize) -> Option<&'a [u8]> {
        let (start, end) = (self.offsets.get(id)?, self.offsets.get(id.checked_add(1)?)?);
        self.text.get(start..end)
    }
}

/// One variant's decoder.
struct Decoder<'a> {
    target: &'a VariantTarget,
    dictionary: Dictionary<'a>,
}

impl<'a> Decoder<'a> {
    fn put(&self, writer: &mut ItemWriter, value: &'a [u8], level: usize) -> Put {
        let mut bytes = Bytes(value);
        let [first] = bytes.array("a value has no bytes")?;
        let header = first >> 2;
        match first & 0b11 {
            basic::PRIMITIVE => self.put_primitive(writer, header, bytes),
            basic::SHORT_STRING => self.put_text(writer, bytes.take(usize::from(header), TEXT_ENDS)?),
            basic::OBJECT => self.put_object(writer, header, bytes, level),
            _ => self.put_array(writer, header, bytes, level),
        }
    }

    fn put_primitive(&self, writer: &mut ItemWriter, id: u8, mut bytes: Bytes<'a>) -> Put {
        const ENDS: &str = "a value ends early";
        let target = self.target;
        match id {
            primitive::NULL => Ok(Presence::Null),
            primitive::TRUE => target.boolean.put_boolean(writer, true),
            primitive::FALSE => target.boolean.put_boolean(writer, false),
            primitive::INT8 => target.integer.put_integer(writer, i8::from_le_bytes(bytes.array(ENDS)?).into()),
            primitive::INT16 => target.integer.put_integer(writer, i16::from_le_bytes(bytes.array(ENDS)?).into()),
            primitive::INT32 => target.integer.put_integer(writer, i32::from_le_bytes(bytes.array(ENDS)?).into()),
            primitive::INT64 => target.integer.put_integer(writer, i64::from_le_bytes(bytes.array(ENDS)?)),
            primitive::DOUBLE => target.double.put_double(writer, f64::from_le_bytes(bytes.array(ENDS)?)),
            primitive::FLOAT => target.float.put_float(writer, f32::from_le_bytes(bytes.array(ENDS)?)),
            primitive::DECIMAL4 => {
                let [scale] = bytes.array(ENDS)?;
                self.put_decimal(writer, i32::from_le_bytes(bytes.array(ENDS)?).into(), scale, 9)
            }
            primitive::DECIMAL8 => {
                let [scale] = bytes.array(ENDS)?;
                self.put_decimal(writer, i64::from_le_bytes(bytes.array(ENDS)?).into(), scale, 18)
            }
            primitive::DECIMAL16 => {
                let [scale] = bytes.array(ENDS)?;
                self.put_decimal(writer, i128::from_le_bytes(bytes.array(ENDS)?), scale, 38)
            }
            primitive::DATE => target.date.put_date(writer, i32::from_le_bytes(bytes.array(ENDS)?).into()),
            primitive::TIMESTAMP => target.timestamp.put_timestamp(writer, i64::from_le_bytes(bytes.array(ENDS)?)),
            primitive::TIMESTAMP_NTZ => {
                target.timestamp_ntz.put_timestamp_ntz(writer, i64::from_le_bytes(bytes.array(ENDS)?))
            }
            primitive::TIMESTAMP_NANOS => {
                target.timestamp.put_timestamp(writer, micros(i64::from_le_bytes(bytes.array(ENDS)?))?)
            }
            primitive::TIMESTAMP_NTZ_NANOS => {
                target.timestamp_ntz.put_timestamp_ntz(writer, micros(i64::from_le_bytes(bytes.array(ENDS)?))?)
            }
            primitive::TIME => self.put_time(writer, i64::from_le_bytes(bytes.array(ENDS)?)),
            primitive::UUID => self.put_uuid(writer, u128::from_be_bytes(bytes.array(ENDS)?)),
            primitive::BINARY => {
                let length = bytes.number(4, ENDS)?;
                target.binary.put_binary(writer, bytes.take(length, "bytes end early")?)
            }
            primitive::STRING => {
                let length = bytes.number(4, ENDS)?;
                self.put_text(writer, bytes.take(length, TEXT_ENDS)?)
            }
            _ => Err(reject_bytes(format!("the variant has a value of the unknown type {id}"))),
        }
    }

    fn put_decimal(&self, writer: &mut ItemWriter, unscaled: i128, scale: u8, max_digits: u32) -> Put {
        let value = Decimal { unscaled, scale: i32::from(scale) };
        if scale > DECIMAL_MAX_SCALE || value.digits() > max_digits {
            return Err(malformed("a decimal has more digits than its type holds"));
        }
        self.target.put_decimal(writer, value)
    }

    fn put_text(&self, writer: &mut ItemWriter, text: &[u8]) -> Put {
        let text = std::str::from_utf8(text).map_err(|_| malformed("text that is not UTF-8"))?;
        self.target.text.put_text(writer, text)
    }

    /// A time of day has no column type of its own; its text sorts.
    fn put_time(&self, writer: &mut ItemWriter, micros: i64) -> Put {
        let text = number::timestamp_text(micros).filter(|_| (0..MICROS_PER_DAY).contains(&micros));
        let text = text.ok_or_else(|| malformed("a time of day is outside the day"))?;
        let (_epoch, time) = text.split_once('T').unwrap_or_default();
        self.target.text.put_text(writer, time)
    }

    fn put_uuid(&self, writer: &mut ItemWriter, uuid: u128) -> Put {
        let hex = format!("{uuid:032x}");
        let text = [&hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]].join("-");
        self.target.text.put_text(writer, &text)
    }

    fn put_array(&self, writer: &mut ItemWriter, header: u8, mut bytes: Bytes<'a>, level: usize) -> Put {
        check_level(level)?;
        let count = bytes.number(count_width(header & 0b100 != 0), "an array's size ends early")?;
        let values = Values::parse(bytes, count, header)?;
        let mut list = ListWriter::begin(writer);
        for index in 0..count {
            list.put(writer, |writer| self.put(writer, values.get(index)?, level + 1))?;
        }
        list.finish(writer)
    }

    fn put_object(&self, writer: &mut ItemWriter, header: u8, mut bytes: Bytes<'a>, level: usize) -> Put {
        check_level(level)?;
        let count = bytes.number(count_width(header & 0b1_0000 != 0), "an object's size ends early")?;
        let ids = bytes.numbers(count, usize::from((header >> 2) & 0b11) + 1, "an object's field ids end early")?;
        let values = Values::parse(bytes, count, header)?;
        // Names come in order, and then they differ; where they do not, each is compared with all others.
        let mut object = match self.is_ascending(&ids, count) {
            true => ObjectWriter::begin_distinct(self.target, writer),
            false => ObjectWriter::begin(self.target, writer),
        };
        for index in 0..count {
            let name = ids.get(index).and_then(|id| self.dictionary.name(id));
            let name = name.ok_or_else(|| malformed("a field's name is not in the dictionary"))?;
            let name = std::str::from_utf8(name).map_err(|_| malformed("a field's name is not UTF-8"))?;
            object.put(writer, name, |writer| self.put(writer, values.get(index)?, level + 1))?;
        }
        object.finish(writer)
    }

    fn is_ascending(&self, ids: &Numbers<'a>, count: usize) -> bool {
        let mut last: Option<&[u8]> = None;
        (0..count).all(|index| match ids.get(index).and_then(|id| self.dictionary.name(id)) {
            Some(name) => last.replace(name).is_none_or(|last| last < name),
            None => false,
        })
    }
}

const TEXT_ENDS: &str = "text ends early";

/// The bytes of an object's or array's size.
fn count_width(is_large: bool) -> usize {
    if is_large { 4 } else { 1 }
}

fn micros(nanos: i64) -> Result<i64, Box<Reject>> {
    if nanos % NANOS_PER_MICRO == 0 {
        return Ok(nanos / NANOS_PER_MICRO);
    }
    Err(Reject::new(RejectReason::Inexact, "the time in the variant is not a whole number of microseconds")
        .of_types(VARIANT, "timestamp")
        .hint("round it before it is sent"))
}

/// The values of an object or array, in the order of their offsets' places.
struct Values<'a> {
    offsets: Numbers<'a>,
    data: &'a [u8],
}

impl<'a> Values<'a> {
    fn parse(mut bytes: Bytes<'a>, count: usize, header: u8) -> Result<Self, Box<Reject>> {
        let width = usize::from(header & 0b11) + 1;
        let offsets = bytes.numbers(count.saturating_add(1), width, "the offsets of values end early")?;
        // The last offset is where the last value ends.
        let data = offsets.get(count).and_then(|end| bytes.0.get(..end));
        Ok(Self { offsets, data: data.ok_or_else(|| malformed("values end early"))? })
    }

    /// A value, and what may follow it.
    fn get(&self, index: usize) -> Result<&'a [u8], Box<Reject>> {
        let value = self.offsets.get(index).and_then(|start| self.data.get(start..));
        value.ok_or_else(|| malformed("a value's offset is outside"))
    }
}

/// Unsigned numbers of 1 to 4 bytes each.
struct Numbers<'a> {
    bytes: &'a [u8],
    width: usize,
}

impl Numbers<'_> {
    #[inline]
    fn get(&self, index: usize) -> Option<usize> {
        let start = index.checked_mul(self.width)?;
        self.bytes.get(start..start.checked_add(self.width)?).map(unsigned)
    }
}

#[inline]
fn unsigned(bytes: &[u8]) -> usize {
    bytes.iter().rev().fold(0, |number, byte| (number << 8) | usize::from(*byte))
}

/// What is left to read.
struct Bytes<'a>(&'a [u8]);

impl<'a> Bytes<'a> {
    #[inline]
    fn take(&mut self, length: usize, ends: &'static str) -> Result<&'a [u8], Box<Reject>> {
        let (taken, rest) = self.0.split_at_checked(length).ok_or_else(|| malformed(ends))?;
        self.0 = rest;
        Ok(taken)
    }

    #[inline]
    fn array<const N: usize>(&mut self, ends: &'static str) -> Result<[u8; N], Box<Reject>> {
        let (taken, rest) = self.0.split_first_chunk().ok_or_else(|| malformed(ends))?;
        self.0 = rest;
        Ok(*taken)
    }

    fn number(&mut self, width: usize, ends: &'static str) -> Result<usize, Box<Reject>> {
        self.take(width, ends).map(unsigned)
    }

    fn numbers(&mut self, count: usize, width: usize, ends: &'static str) -> Result<Numbers<'a>, Box<Reject>> {
        Ok(Numbers { bytes: self.take(count.saturating_mul(width), ends)?, width })
    }
}

#[cold]
fn malformed(what: &str) -> Box<Reject> {
    reject_bytes(format!("the variant's bytes are not what its encoding says: {what}"))
}

#[cold]
fn reject_bytes(message: String) -> Box<Reject> {
    Reject::new(RejectReason::Malformed, message)
        .of_types("variant", "binary")
        .of_types(VARIANT, VARIANT)
        .hint("send the value and its metadata just as Spark encodes them, from one and the same row")
}
