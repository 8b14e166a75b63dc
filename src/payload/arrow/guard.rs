//! The memory guard: everything that an Arrow batch claims is checked before a byte is allocated for it.
//!
//! An IPC message says how long its buffers are and, where they are compressed, how long they will be; a reader that
//! believes it can be made to reserve gigabytes by a few bytes. So the guard walks the messages beside the schema first:
//! framing, offsets and lengths inside the body, node lengths, claimed sizes. It also refuses what arrow-ipc would panic
//! on: negative lengths, and buffers that are no whole number of values. What remains unchecked here (offsets, UTF-8,
//! dictionary keys, null counts) arrow-ipc validates itself, without allocating by it.
//!
//! The bound: the sum of all buffers, decompressed, of all messages, and one byte for every element of a list, because
//! elements of some types take no bytes at all.

use std::collections::{HashMap, HashSet};
use std::ops::Range;

use arrow_ipc::{BodyCompressionMethod, CompressionType, Message, MessageHeader, MetadataVersion};
use arrow_schema::{ArrowError, DataType as ArrowType, Field as ArrowField, UnionMode};
use flatbuffers::VerifierOptions;

use super::lz4::ALIGNMENT;
use super::schema::dictionary_id;
use crate::limits::{ARROW_BATCH_MAX_TABLES, ARROW_MAX_DECODED_BYTES, BATCH_MAX_ROWS};
use crate::payload::PayloadError;

/// Stands before a message's length since Arrow 0.15.
const CONTINUATION: [u8; 4] = [0xff; 4];
/// LZ4 cannot compress better than this: a length byte stands for at most 255 bytes.
const LZ4_MAX_RATIO: u64 = 255;
/// Longest detail that is passed on from arrow-ipc, in bytes: it may print whole types.
const DETAIL_MAX_BYTES: usize = 500;

/// Where one message lies in the payload.
#[derive(Debug, Clone)]
pub(super) struct Frame {
    metadata: Range<usize>,
    rest: usize,
}

/// A message whose claims were checked.
#[derive(Debug, Clone)]
pub(super) struct Checked {
    frame: Frame,
    /// Where its body lies in the payload.
    pub(super) body: Range<usize>,
}

/// A batch whose claims were checked.
#[derive(Debug)]
pub(super) struct CheckedMessages {
    /// The dictionaries, each with its id.
    pub(super) dictionaries: Vec<(i64, Checked)>,
    /// The rows.
    pub(super) record_batch: Checked,
    /// How many.
    pub(super) rows: u32,
    /// What all buffers take, decompressed.
    pub(super) decoded_bytes: u64,
}

/// An error about the payload's form.
pub(super) fn malformed(detail: impl Into<String>) -> PayloadError {
    PayloadError::Malformed { detail: detail.into() }
}

/// An error of arrow-ipc, cut to a readable length.
pub(super) fn arrow_error(error: ArrowError) -> PayloadError {
    let mut detail = error.to_string();
    if detail.len() > DETAIL_MAX_BYTES {
        detail.truncate(detail.floor_char_boundary(DETAIL_MAX_BYTES));
        detail.push_str("...");
    }
    malformed(detail)
}

fn too_large(claimed_bytes: u64) -> PayloadError {
    PayloadError::TooLarge { claimed_bytes, limit_bytes: ARROW_MAX_DECODED_BYTES as u64 }
}

/// Finds the message at `at` and moves behind its metadata; `None` at the end, or at the end-of-stream marker, behind which
/// nothing may follow.
pub(super) fn read_message(payload: &[u8], at: &mut usize) -> Result<Option<Frame>, PayloadError> {
    if *at == payload.len() {
        return Ok(None);
    }
    let mut word = || {
        let bytes = payload.get(*at..*at + 4).ok_or_else(|| malformed("the payload ends inside a message's length"))?;
        *at += 4;
        // A slice of four bytes was just taken.
        Ok::<[u8; 4], PayloadError>([bytes[0], bytes[1], bytes[2], bytes[3]])
    };
    let mut length = word()?;
    if length == CONTINUATION {
        length = word()?;
    }
    let length = u32::from_le_bytes(length) as usize;
    if length == 0 {
        return match payload.len() - *at {
            0 => Ok(None),
            bytes => Err(malformed(format!("{bytes} bytes follow the end-of-stream marker"))),
        };
    }
    let metadata = *at..at.saturating_add(length);
    if metadata.end > payload.len() {
        let held = payload.len() - metadata.start;
        return Err(malformed(format!("a message claims {length} bytes of metadata, but {held} follow")));
    }
    *at = metadata.end;
    Ok(Some(Frame { rest: payload.len() - metadata.end, metadata }))
}

impl Frame {
    /// The message itself, verified as a flatbuffer.
    pub(super) fn message<'p>(
        &self,
        payload: &'p [u8],
        options: &VerifierOptions,
    ) -> Result<Message<'p>, PayloadError> {
        let message = arrow_ipc::root_as_message_with_opts(options, &payload[self.metadata.clone()])
            // The verifier's own text is a trace of many lines.
            .map_err(|_| malformed("a message's metadata is no valid flatbuffer"))?;
        match message.version() {
            MetadataVersion::V4 | MetadataVersion::V5 => Ok(message),
            _ => Err(malformed("the Arrow metadata is of an unknown version; versions 4 and 5 can be read")),
        }
    }

    fn body(&self, message: &Message<'_>) -> Result<Range<usize>, PayloadError> {
        let claimed = message.bodyLength();
        match usize::try_from(claimed) {
            Ok(length) if length <= self.rest => Ok(self.metadata.end..self.metadata.end + length),
            _ => Err(malformed(format!("a message claims a body of {claimed} bytes, but {} follow", self.rest))),
        }
    }
}

impl Checked {
    /// The message again; it was verified before.
    pub(super) fn message<'p>(&self, payload: &'p [u8]) -> Result<Message<'p>, PayloadError> {
        self.frame.message(payload, &batch_options())
    }
}

fn batch_options() -> VerifierOptions {
    VerifierOptions { max_tables: ARROW_BATCH_MAX_TABLES, ..Default::default() }
}

/// Checks the claims of all messages of a batch: dictionary batches, then one record batch.
pub(super) fn check_batch(
    payload: &[u8],
    fields: &[std::sync::Arc<ArrowField>],
    dictionaries: &HashMap<i64, ArrowType>,
) -> Result<CheckedMessages, PayloadError> {
    let mut at = 0;
    let mut decoded_bytes = 0;
    let mut found = Vec::new();
    let mut ids = HashSet::new();
    loop {
        let Some(frame) = read_message(payload, &mut at)? else {
            return Err(malformed("the batch has no record batch"));
        };
        let message = frame.message(payload, &batch_options())?;
        let body = frame.body(&message)?;
        at = body.end;
        match message.header_type() {
            MessageHeader::DictionaryBatch => {
                let batch = message.header_as_dictionary_batch();
                let batch = batch.ok_or_else(|| malformed("a dictionary batch has no header"))?;
                let id = batch.id();
                let value_type = dictionaries
                    .get(&id)
                    .ok_or_else(|| malformed(format!("no column of the session's schema uses the dictionary {id}")))?;
                if batch.isDelta() || !ids.insert(id) {
                    return Err(malformed(format!(
                        "the dictionary {id} comes in pieces; a batch carries each of its dictionaries once, whole"
                    )));
                }
                let data = batch.data().ok_or_else(|| malformed(format!("the dictionary {id} has no data")))?;
                let mut walk = Walk::new(&payload[body.clone()], data, message.version(), &ids, &mut decoded_bytes)?;
                walk.claim_elements(&data)?;
                walk.array(&ArrowField::new("", value_type.clone(), true), Some(data.length()))?;
                walk.finish()?;
                found.push((id, Checked { frame, body }));
            }
            MessageHeader::RecordBatch => {
                let batch = message.header_as_record_batch();
                let batch = batch.ok_or_else(|| malformed("a record batch has no header"))?;
                let rows = usize::try_from(batch.length())
                    .map_err(|_| malformed("the record batch has a negative number of rows"))?;
                if rows > BATCH_MAX_ROWS {
                    return Err(PayloadError::TooManyRows { rows, limit: BATCH_MAX_ROWS });
                }
                let mut walk = Walk::new(&payload[body.clone()], batch, message.version(), &ids, &mut decoded_bytes)?;
                for field in fields {
                    walk.array(field, Some(batch.length()))?;
                }
                walk.finish()?;
                if read_message(payload, &mut at)?.is_some() {
                    return Err(malformed("another message follows the record batch; a batch has exactly one, last"));
                }
                return Ok(CheckedMessages {
                    dictionaries: found,
                    record_batch: Checked { frame, body },
                    // At most BATCH_MAX_ROWS.
                    rows: rows as u32,
                    decoded_bytes,
                });
            }
            MessageHeader::Schema => {
                return Err(malformed("the batch carries a schema message; it belongs in Open, once"));
            }
            _ => {
                return Err(malformed("the batch has a message that is neither a dictionary batch nor a record batch"));
            }
        }
    }
}

/// Walks a schema beside the nodes and buffers of one message, in the order in which arrow-ipc will.
struct Walk<'m> {
    body: &'m [u8],
    nodes: flatbuffers::VectorIter<'m, arrow_ipc::FieldNode>,
    buffers: flatbuffers::VectorIter<'m, arrow_ipc::Buffer>,
    variadic_counts: Option<flatbuffers::VectorIter<'m, i64>>,
    codec: Option<CompressionType>,
    version: MetadataVersion,
    dictionaries: &'m HashSet<i64>,
    decoded_bytes: &'m mut u64,
}

impl<'m> Walk<'m> {
    fn new(
        body: &'m [u8],
        batch: arrow_ipc::RecordBatch<'m>,
        version: MetadataVersion,
        dictionaries: &'m HashSet<i64>,
        decoded_bytes: &'m mut u64,
    ) -> Result<Self, PayloadError> {
        let codec = match batch.compression() {
            None => None,
            Some(compression) if compression.method() != BodyCompressionMethod::BUFFER => {
                return Err(malformed("the batch is compressed by an unknown method"));
            }
            Some(compression) => match compression.codec() {
                codec @ (CompressionType::LZ4_FRAME | CompressionType::ZSTD) => Some(codec),
                _ => {
                    return Err(malformed("the batch is compressed by an unknown codec; LZ4_FRAME and ZSTD are known"));
                }
            },
        };
        Ok(Self {
            body,
            nodes: batch.nodes().ok_or_else(|| malformed("a batch has no nodes"))?.iter(),
            buffers: batch.buffers().ok_or_else(|| malformed("a batch has no buffers"))?.iter(),
            variadic_counts: batch.variadicBufferCounts().map(|counts| counts.iter()),
            codec,
            version,
            dictionaries,
            decoded_bytes,
        })
    }

    fn finish(mut self) -> Result<(), PayloadError> {
        let counts_left = self.variadic_counts.as_mut().is_some_and(|counts| counts.next().is_some());
        if self.nodes.next().is_some() || self.buffers.next().is_some() || counts_left {
            return Err(malformed("a batch has more nodes or buffers than the session's schema"));
        }
        Ok(())
    }

    /// One array and what is below it. `length` is what its parent says; `None` where the parent does not.
    fn array(&mut self, field: &ArrowField, length: Option<i64>) -> Result<(), PayloadError> {
        let node = *self.nodes.next().ok_or_else(|| self.too_few(field))?;
        if node.length() < 0 || length.is_some_and(|length| length != node.length()) {
            return Err(self.at(field, format!("{} values claimed where its parent says otherwise", node.length())));
        }
        if !(0..=node.length()).contains(&node.null_count()) {
            return Err(self.at(field, format!("{} of {} values claimed null", node.null_count(), node.length())));
        }
        if length.is_none() {
            self.claim(node.length() as u64)?;
        }
        match field.data_type() {
            ArrowType::Null => {}
            ArrowType::Boolean => self.buffers(field, &[1, 1])?,
            ArrowType::Utf8 | ArrowType::Binary => self.buffers(field, &[1, 4, 1])?,
            ArrowType::LargeUtf8 | ArrowType::LargeBinary => self.buffers(field, &[1, 8, 1])?,
            ArrowType::Utf8View | ArrowType::BinaryView => {
                let count = self.variadic_counts.as_mut().and_then(Iterator::next);
                let count = count.and_then(|count| usize::try_from(count).ok());
                let count = count.ok_or_else(|| self.at(field, "its number of buffers is missing or negative"))?;
                self.buffers(field, &[1, 16])?;
                for _ in 0..count {
                    self.buffers(field, &[1])?;
                }
            }
            ArrowType::FixedSizeBinary(_) => self.buffers(field, &[1, 1])?,
            // A map's layout is a list's; it only occurs in dictionaries' values, where it is not relaxed away.
            ArrowType::List(element) | ArrowType::Map(element, _) => {
                self.buffers(field, &[1, 4])?;
                self.array(element, None)?;
            }
            ArrowType::LargeList(element) => {
                self.buffers(field, &[1, 8])?;
                self.array(element, None)?;
            }
            ArrowType::ListView(element) => {
                self.buffers(field, &[1, 4, 4])?;
                self.array(element, None)?;
            }
            ArrowType::LargeListView(element) => {
                self.buffers(field, &[1, 8, 8])?;
                self.array(element, None)?;
            }
            ArrowType::FixedSizeList(element, _) => {
                self.buffers(field, &[1])?;
                self.array(element, None)?;
            }
            ArrowType::Struct(fields) => {
                self.buffers(field, &[1])?;
                for child in fields {
                    self.array(child, Some(node.length()))?;
                }
            }
            ArrowType::Dictionary(key, _) => {
                self.buffers(field, &[1, key.primitive_width().unwrap_or(1)])?;
                let id = dictionary_id(field);
                if node.null_count() < node.length() && !self.dictionaries.contains(&id) {
                    let why = format!("the dictionary {id} is missing; each batch carries those that it uses");
                    return Err(self.at(field, why));
                }
            }
            // The two below are never decoded, only stepped over.
            ArrowType::RunEndEncoded(run_ends, values) => {
                self.array(run_ends, None)?;
                self.array(values, None)?;
            }
            ArrowType::Union(fields, mode) => {
                if self.version < MetadataVersion::V5 {
                    self.buffers(field, &[1])?;
                }
                self.buffers(field, if *mode == UnionMode::Dense { &[1, 4] } else { &[1] })?;
                for (_, child) in fields.iter() {
                    self.array(child, None)?;
                }
            }
            primitive => {
                // Every type that is left has a width.
                let width = primitive.primitive_width().unwrap_or(1);
                self.buffers(field, &[1, width])?;
            }
        }
        Ok(())
    }

    /// The next buffers, each a whole number of values so many bytes wide.
    fn buffers(&mut self, field: &ArrowField, widths: &[usize]) -> Result<(), PayloadError> {
        for &width in widths {
            let buffer = *self.buffers.next().ok_or_else(|| self.too_few(field))?;
            let decoded = self.decoded_length(field, &buffer)?;
            if decoded % width as u64 != 0 {
                return Err(self.at(field, format!("a buffer of {decoded} bytes for values of {width} bytes")));
            }
            // Decompressed buffers start at a multiple.
            self.claim(decoded.next_multiple_of(ALIGNMENT as u64))?;
        }
        Ok(())
    }

    /// The buffer's length when decompressed.
    fn decoded_length(&self, field: &ArrowField, buffer: &arrow_ipc::Buffer) -> Result<u64, PayloadError> {
        let range = usize::try_from(buffer.offset()).ok().zip(usize::try_from(buffer.length()).ok());
        let bytes = range
            .and_then(|(offset, length)| self.body.get(offset..offset.checked_add(length)?))
            .ok_or_else(|| self.at(field, "a buffer lies outside the message's body"))?;
        let Some(codec) = self.codec.filter(|_| !bytes.is_empty()) else { return Ok(bytes.len() as u64) };
        let (prefix, compressed) =
            bytes.split_first_chunk::<8>().ok_or_else(|| self.at(field, "a compressed buffer has no length"))?;
        let compressed = compressed.len() as u64;
        match i64::from_le_bytes(*prefix) {
            // Sent as it is, because compression did not pay.
            -1 => Ok(compressed),
            claimed @ 0.. => {
                let claimed = claimed as u64;
                if claimed > ARROW_MAX_DECODED_BYTES as u64 {
                    return Err(too_large(claimed));
                }
                if codec == CompressionType::LZ4_FRAME && claimed > compressed * LZ4_MAX_RATIO {
                    let why = format!("{compressed} bytes of LZ4 cannot unfold to the {claimed} bytes claimed");
                    return Err(self.at(field, why));
                }
                Ok(claimed)
            }
            claimed => Err(self.at(field, format!("a compressed buffer claims {claimed} bytes"))),
        }
    }

    /// The elements of a dictionary, which no parent bounds.
    fn claim_elements(&mut self, batch: &arrow_ipc::RecordBatch<'_>) -> Result<(), PayloadError> {
        match u64::try_from(batch.length()) {
            Ok(length) => self.claim(length),
            Err(_) => Err(malformed("a dictionary has a negative number of values")),
        }
    }

    fn claim(&mut self, bytes: u64) -> Result<(), PayloadError> {
        *self.decoded_bytes = self.decoded_bytes.saturating_add(bytes);
        match *self.decoded_bytes {
            claimed if claimed > ARROW_MAX_DECODED_BYTES as u64 => Err(too_large(claimed)),
            _ => Ok(()),
        }
    }

    #[cold]
    fn too_few(&self, field: &ArrowField) -> PayloadError {
        self.at(field, "a batch has fewer nodes or buffers than the session's schema")
    }

    #[cold]
    fn at(&self, field: &ArrowField, why: impl std::fmt::Display) -> PayloadError {
        malformed(format!("column `{}`: {why}", field.name()))
    }
}
