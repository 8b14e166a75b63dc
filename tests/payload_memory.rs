//! Fault 5: an Arrow batch that claims huge buffers, LZ4 frames, dictionaries or schemas is refused before memory is
//! reserved for it. An allocator that counts says how much was.
//!
//! One test function, so that no neighbour's allocations are counted.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use arrow_array::types::Int32Type;
use arrow_array::{ArrayRef, DictionaryArray, Int64Array, RecordBatch, StringArray};
use arrow_ipc::CompressionType;
use arrow_ipc::writer::{IpcWriteOptions, StreamWriter};
use bytes::Bytes;
use forebay::limits::{ARROW_MAX_DECODED_BYTES, BATCH_MAX_ROWS};
use forebay::payload::arrow::{ArrowPlan, IncomingArrow};
use forebay::payload::{PayloadError, Plan};
use forebay::schema::{DataType, Field, KeyDef, Schema, TableDef};
use forebay::store::WriteOp;

/// Counts bytes that are allocated, and the most there were at once.
struct Counting;

static NOW: AtomicUsize = AtomicUsize::new(0);
static PEAK: AtomicUsize = AtomicUsize::new(0);

// Safety: every call is passed on to the system's allocator unchanged.
#[allow(unsafe_code)]
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let now = NOW.fetch_add(layout.size(), Ordering::Relaxed) + layout.size();
        PEAK.fetch_max(now, Ordering::Relaxed);
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        NOW.fetch_sub(layout.size(), Ordering::Relaxed);
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// The most bytes that were allocated at once while it ran, beyond those before.
fn peak<T>(run: impl FnOnce() -> T) -> (T, usize) {
    let before = NOW.load(Ordering::Relaxed);
    PEAK.store(before, Ordering::Relaxed);
    let result = run();
    (result, PEAK.load(Ordering::Relaxed) - before)
}

/// Bytes of text in the dictionary.
const DICTIONARY_BYTES: i64 = 3330;
/// What an error may cost.
const SMALL: usize = 64 * 1024;

fn ipc(batch: &RecordBatch, compression: Option<CompressionType>) -> (Bytes, Bytes) {
    let options = IpcWriteOptions::default().try_with_compression(compression).unwrap();
    let mut writer = StreamWriter::try_new_with_options(Vec::new(), &batch.schema(), options).unwrap();
    let schema_bytes = writer.get_ref().len();
    writer.write(batch).unwrap();
    let bytes = Bytes::from(writer.into_inner().unwrap());
    (bytes.slice(..schema_bytes), bytes.slice(schema_bytes..))
}

fn open(schema: &Bytes) -> ArrowPlan {
    let fields = vec![Field::new("id", DataType::String, false), Field::new("x", DataType::Long, true)];
    let key = KeyDef {
        partition: vec!["id".into()],
        sort: Vec::new(),
        partition_attribute: forebay::schema::table::default_partition_attribute(),
        sort_attribute: forebay::schema::table::default_sort_attribute(),
    };
    let table = TableDef::new("t", Schema { fields }, key, "t");
    let incoming = IncomingArrow::parse(schema).unwrap();
    let plan = Plan::compile(&table, incoming.schema(), WriteOp::Put, 1).unwrap();
    ArrowPlan::compile(&plan, incoming).unwrap()
}

/// The bytes with each place that holds the word `from` overwritten by `to`, one place at a time.
fn lies(messages: &Bytes, from: i64, to: i64) -> Vec<Bytes> {
    let found = (0..messages.len() / 8).map(|word| word * 8).filter(|at| messages[*at..at + 8] == from.to_le_bytes());
    let lies: Vec<Bytes> =
        found.map(|at| [&messages[..at], &to.to_le_bytes(), &messages[at + 8..]].concat().into()).collect();
    assert!(!lies.is_empty(), "{from} is not found");
    lies
}

/// A schema message whose one column is a struct of two fields that are the same struct of two fields, and so on: few
/// bytes, but two to the power of the depth fields when unfolded.
fn schema_bomb(depth: usize) -> Vec<u8> {
    use arrow_ipc::{FieldBuilder, MessageBuilder, SchemaBuilder, Struct_Builder, Type};
    let mut flatbuffer = flatbuffers::FlatBufferBuilder::new();
    let name = flatbuffer.create_string("x");
    let mut field = None;
    for _ in 0..depth {
        let children: Vec<_> = field.into_iter().chain(field).collect();
        let children = flatbuffer.create_vector(&children);
        let of_type = Struct_Builder::new(&mut flatbuffer).finish();
        let mut builder = FieldBuilder::new(&mut flatbuffer);
        builder.add_name(name);
        builder.add_type_type(Type::Struct_);
        builder.add_type_(of_type.as_union_value());
        builder.add_children(children);
        field = Some(builder.finish());
    }
    let fields = flatbuffer.create_vector(&[field.unwrap()]);
    let mut builder = SchemaBuilder::new(&mut flatbuffer);
    builder.add_fields(fields);
    let schema = builder.finish();
    let mut message = MessageBuilder::new(&mut flatbuffer);
    message.add_version(arrow_ipc::MetadataVersion::V5);
    message.add_header_type(arrow_ipc::MessageHeader::Schema);
    message.add_header(schema.as_union_value());
    let message = message.finish();
    flatbuffer.finish(message, None);
    let metadata = flatbuffer.finished_data();
    [&[0xff; 4][..], &(metadata.len() as u32).to_le_bytes(), metadata].concat()
}

#[test]
fn what_a_batch_claims_is_not_reserved() {
    let rows = 1233i64;
    let words = ["a", "b", "c"].map(|letter| letter.repeat(DICTIONARY_BYTES as usize / 3));
    let ids = (0..rows).map(|row| words[row as usize % 3].as_str()).collect::<DictionaryArray<Int32Type>>();
    let ids: ArrayRef = Arc::new(ids);
    let numbers: ArrayRef = Arc::new(Int64Array::from_iter_values(0..rows));
    let batch = RecordBatch::try_from_iter([("id", ids), ("x", numbers)]).unwrap();
    let refused = |plan: &ArrowPlan, messages: Bytes| {
        let (result, bytes) = peak(|| plan.decode(messages).map(|cursor| cursor.rows()));
        assert!(bytes < SMALL, "{bytes} bytes were allocated for {result:?}");
        result.unwrap_err()
    };

    // Compressed buffers that say they unfold to a terabyte.
    for codec in [CompressionType::LZ4_FRAME, CompressionType::ZSTD] {
        let (schema, messages) = ipc(&batch, Some(codec));
        let plan = open(&schema);
        for lie in lies(&messages, rows * 8, 1 << 40) {
            assert!(matches!(refused(&plan, lie), PayloadError::TooLarge { .. }));
        }
        for lie in lies(&messages, DICTIONARY_BYTES, 1 << 40) {
            assert!(matches!(refused(&plan, lie), PayloadError::TooLarge { .. }));
        }
        // Within the limit, but more than LZ4 can unfold to.
        if codec == CompressionType::LZ4_FRAME {
            for lie in lies(&messages, rows * 8, ARROW_MAX_DECODED_BYTES as i64 / 2) {
                assert!(matches!(refused(&plan, lie), PayloadError::Malformed { .. }));
            }
        }
    }

    // Buffers, bodies, metadata, rows and nodes that are longer than what is there.
    let (schema, messages) = ipc(&batch, None);
    let plan = open(&schema);
    for huge in [1 << 30, 1 << 40, i64::MAX, -1, i64::MIN] {
        for lie in lies(&messages, rows * 8, huge).into_iter().chain(lies(&messages, rows * 4, huge)) {
            assert!(matches!(refused(&plan, lie), PayloadError::Malformed { .. }));
        }
        for lie in lies(&messages, rows, huge) {
            let error = refused(&plan, lie);
            assert!(matches!(error, PayloadError::Malformed { .. } | PayloadError::TooManyRows { .. }), "{error}");
        }
        let word = u32::try_from(huge & 0xffff_fff0).unwrap();
        let metadata = [&[0xff; 4][..], &word.to_le_bytes(), &messages[8..]].concat();
        assert!(matches!(refused(&plan, metadata.into()), PayloadError::Malformed { .. }));
    }

    // More rows than a batch may have, honestly.
    let many = BATCH_MAX_ROWS + 1;
    let ids: ArrayRef = Arc::new(StringArray::from_iter_values(std::iter::repeat_n("", many)));
    let numbers: ArrayRef = Arc::new(Int64Array::from(vec![0; many]));
    let (schema, messages) = ipc(&RecordBatch::try_from_iter([("id", ids), ("x", numbers)]).unwrap(), None);
    let limit = BATCH_MAX_ROWS;
    assert_eq!(refused(&open(&schema), messages), PayloadError::TooManyRows { rows: many, limit });

    // A schema that unfolds to more fields than fit into memory.
    let bomb = schema_bomb(24);
    assert!(bomb.len() < 4096);
    let (result, bytes) = peak(|| IncomingArrow::parse(&bomb).map(|_| ()));
    assert!(matches!(result, Err(PayloadError::Malformed { .. })), "{result:?}");
    assert!(bytes < SMALL, "{bytes}");
    // The same form is a schema where it is small enough; its twin names are refused when it is compiled.
    assert_eq!(IncomingArrow::parse(&schema_bomb(3)).map(|incoming| incoming.schema().fields.len()), Ok(1));
}
