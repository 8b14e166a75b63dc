//! Batches that lie: whatever the bytes are, decoding ends in rows or in an error, quickly, and never in a panic.

use std::sync::Arc;

use arrow_array::builder::*;
use arrow_array::types::*;
use arrow_array::*;
use arrow_buffer::i256;
use arrow_ipc::CompressionType;
use proptest::prelude::*;

use super::testing::{batch, ipc, open, table};
use super::*;
use crate::limits::{ARROW_MAX_DECODED_BYTES, BATCH_MAX_ROWS};
use crate::payload::variant::vectors::SPARK;
use crate::schema::{DataType, Field, TableDef};

/// A table and a batch with a column of every layout.
fn every_layout() -> (TableDef, RecordBatch) {
    let list_of = |element| DataType::Array { element: Box::new(element), contains_null: true };
    let point =
        DataType::Struct(vec![Field::new("name", DataType::String, true), Field::new("at", DataType::Integer, true)]);
    let map =
        DataType::Map { key: Box::new(DataType::String), value: Box::new(DataType::Long), value_contains_null: true };
    let columns = [
        ("bool", DataType::Boolean),
        ("int", DataType::Integer),
        ("double", DataType::Double),
        ("decimal", DataType::Decimal { precision: 20, scale: 2 }),
        ("wide", DataType::Decimal { precision: 38, scale: 2 }),
        ("text", DataType::String),
        ("large", DataType::String),
        ("view", DataType::String),
        ("binary", DataType::Binary),
        ("fixed", DataType::Binary),
        ("at", DataType::Timestamp),
        ("word", DataType::String),
        ("nothing", DataType::Long),
        ("list", list_of(list_of(DataType::Long))),
        ("views", list_of(DataType::Long)),
        ("pair", list_of(DataType::Integer)),
        ("point", list_of(point)),
        ("map", map),
        ("variant", DataType::Variant),
        ("object", DataType::Variant),
    ];
    let table = table(columns.into_iter().map(|(name, data_type)| Field::new(name, data_type, true)).collect());

    let rows = 9usize;
    let present = |row: usize| row % 4 != 1;
    let text = |row: usize| present(row).then(|| "a text that is longer than a view".repeat(row % 3));
    let mut lists = ListBuilder::new(ListBuilder::new(Int64Builder::new()));
    let mut points = ListBuilder::new(StructBuilder::from_fields(
        vec![
            arrow_schema::Field::new("name", arrow_schema::DataType::Utf8, true),
            arrow_schema::Field::new("at", arrow_schema::DataType::Int32, true),
        ],
        rows,
    ));
    let mut map = MapBuilder::new(None, StringBuilder::new(), Int64Builder::new());
    for row in 0..rows {
        lists.values().append_value([Some(1), None]);
        lists.append(present(row));
        points.values().field_builder::<StringBuilder>(0).unwrap().append_option(text(row));
        points.values().field_builder::<Int32Builder>(1).unwrap().append_value(7);
        points.values().append(true);
        points.append(present(row));
        map.keys().append_value("k");
        map.values().append_value(5);
        map.append(present(row)).unwrap();
    }
    let views = ListViewArray::new(
        Arc::new(arrow_schema::Field::new_list_field(arrow_schema::DataType::Int64, true)),
        (0..rows as i32).collect::<Vec<_>>().into(),
        vec![2; rows].into(),
        Arc::new(Int64Array::from_iter_values(0..rows as i64 + 2)),
        None,
    );
    let decimals = Decimal128Array::from_iter((0..rows).map(|row| present(row).then_some(row as i128)));
    let wide = Decimal256Array::from_iter_values((0..rows).map(|row| i256::from_i128(row as i128)));
    let words: DictionaryArray<Int8Type> = (0..rows).map(|row| present(row).then_some("w")).collect();
    let pairs = FixedSizeListArray::from_iter_primitive::<Int32Type, _, _>(
        (0..rows).map(|row| present(row).then_some([Some(1), None])),
        2,
    );
    let stamps = TimestampNanosecondArray::from_iter_values((0..rows as i64).map(|row| row * 1000));
    let binary = BinaryArray::from_iter((0..rows).map(|row| text(row).map(String::into_bytes)));
    let fixed = FixedSizeBinaryArray::try_from_iter((0..rows).map(|_| b"abc")).unwrap();
    let (value, metadata): (Vec<_>, Vec<_>) =
        SPARK.iter().take(rows).map(|vector| (vector.value(), vector.metadata())).unzip();
    let binary_field = |name| Arc::new(arrow_schema::Field::new(name, arrow_schema::DataType::Binary, false));
    let variants = StructArray::from(vec![
        (binary_field("value"), Arc::new(BinaryArray::from_iter_values(value)) as ArrayRef),
        (binary_field("metadata"), Arc::new(BinaryArray::from_iter_values(metadata)) as ArrayRef),
    ]);
    let points = Arc::new(points.finish()) as ArrayRef;
    let objects = Arc::clone(&points);
    let batch = batch(vec![
        ("bool", Arc::new(BooleanArray::from_iter((0..rows).map(|row| present(row).then_some(true)))) as ArrayRef),
        ("int", Arc::new(Int32Array::from_iter((0..rows).map(|row| present(row).then_some(row as i32))))),
        ("double", Arc::new(Float64Array::from_iter_values((0..rows).map(|row| row as f64)))),
        ("decimal", Arc::new(decimals.with_precision_and_scale(20, 2).unwrap())),
        ("wide", Arc::new(wide.with_precision_and_scale(60, 2).unwrap())),
        ("text", Arc::new(StringArray::from_iter((0..rows).map(text)))),
        ("large", Arc::new(LargeStringArray::from_iter((0..rows).map(text)))),
        ("view", Arc::new(StringViewArray::from_iter((0..rows).map(text)))),
        ("binary", Arc::new(binary)),
        ("fixed", Arc::new(fixed)),
        ("at", Arc::new(stamps.with_timezone("UTC"))),
        ("word", Arc::new(words)),
        ("nothing", Arc::new(NullArray::new(rows))),
        ("list", Arc::new(lists.finish())),
        ("views", Arc::new(views)),
        ("pair", Arc::new(pairs)),
        ("point", points),
        ("map", Arc::new(map.finish())),
        ("variant", Arc::new(variants)),
        ("object", objects),
    ]);
    (table, batch)
}

const CODECS: [Option<CompressionType>; 3] = [None, Some(CompressionType::LZ4_FRAME), Some(CompressionType::ZSTD)];

/// Decodes and walks all rows; says how many there were.
fn walk(plan: &Plan, arrow_plan: &ArrowPlan, messages: Bytes) -> Result<u32, PayloadError> {
    let mut cursor = arrow_plan.decode(messages)?;
    let mut rows = 0;
    while let Some(chunk) = cursor.next_chunk(plan, 1 << 16, 0)? {
        rows += (chunk.rows.len() + chunk.rejects.len()) as u32;
    }
    assert_eq!(rows, cursor.rows());
    Ok(rows)
}

#[test]
fn a_batch_cut_at_any_byte_is_malformed() {
    let (table, batch) = every_layout();
    for codec in CODECS {
        let (schema, messages) = ipc(&batch, codec);
        let (plan, arrow_plan) = open(&table, &schema);
        assert_eq!(walk(&plan, &arrow_plan, messages.clone()), Ok(9));
        // Without the end-of-stream marker the batch is whole.
        let whole = messages.len() - 8;
        for cut in 0..messages.len() {
            let result = walk(&plan, &arrow_plan, messages.slice(..cut));
            match cut == whole {
                true => assert_eq!(result, Ok(9)),
                false => assert!(matches!(result, Err(PayloadError::Malformed { .. })), "cut at {cut}: {result:?}"),
            }
        }
        for cut in 0..schema.len() {
            assert!(IncomingArrow::parse(&schema[..cut]).is_err());
        }
    }
}

/// What is done to the bytes.
#[derive(Debug, Clone)]
enum Damage {
    Byte(prop::sample::Index, u8),
    /// Flatbuffers and buffers are full of aligned words; a damaged one is read as a length or an offset.
    Word(prop::sample::Index, i32),
    LongWord(prop::sample::Index, i64),
}

fn damage() -> impl Strategy<Value = Vec<Damage>> {
    let word = prop_oneof![-2i32..20, Just(i32::MAX), Just(i32::MIN), any::<i32>()];
    let long = prop_oneof![-2i64..80, Just(i64::MAX), Just(i64::MIN), Just(1 << 40), Just(1 << 26), any::<i64>()];
    let one = prop_oneof![
        (any::<prop::sample::Index>(), any::<u8>()).prop_map(|(at, byte)| Damage::Byte(at, byte)),
        (any::<prop::sample::Index>(), word).prop_map(|(at, word)| Damage::Word(at, word)),
        (any::<prop::sample::Index>(), long).prop_map(|(at, word)| Damage::LongWord(at, word)),
    ];
    prop::collection::vec(one, 1..4)
}

fn damaged(bytes: &Bytes, damage: &[Damage]) -> Bytes {
    let mut bytes = bytes.to_vec();
    for one in damage {
        match one {
            Damage::Byte(at, byte) => {
                let at = at.index(bytes.len());
                bytes[at] = *byte;
            }
            Damage::Word(at, word) => {
                let at = at.index(bytes.len() / 4) * 4;
                bytes[at..at + 4].copy_from_slice(&word.to_le_bytes());
            }
            Damage::LongWord(at, word) => {
                let at = at.index(bytes.len() / 8) * 8;
                bytes[at..at + 8].copy_from_slice(&word.to_le_bytes());
            }
        }
    }
    bytes.into()
}

/// Damages batches and schemas so many times; a panic fails the test.
fn damage_many(cases: u32) {
    let (table, batch) = every_layout();
    for codec in CODECS {
        let (schema, messages) = ipc(&batch, codec);
        let (plan, arrow_plan) = open(&table, &schema);
        let mut runner = proptest::test_runner::TestRunner::new(ProptestConfig {
            cases,
            failure_persistence: None,
            ..Default::default()
        });
        let outcome = runner.run(&(damage(), any::<bool>()), |(damage, of_schema)| {
            if !of_schema {
                let _rows_or_error = walk(&plan, &arrow_plan, damaged(&messages, &damage));
                return Ok(());
            }
            // A schema that lies about the batch: whatever still compiles must not break decoding.
            let Ok(incoming) = IncomingArrow::parse(&damaged(&schema, &damage)) else { return Ok(()) };
            let Ok(plan) = Plan::compile(&table, incoming.schema(), crate::store::WriteOp::Put, 1) else {
                return Ok(());
            };
            let Ok(arrow_plan) = ArrowPlan::compile(&plan, incoming) else { return Ok(()) };
            let _rows_or_error = walk(&plan, &arrow_plan, messages.clone());
            Ok(())
        });
        outcome.unwrap();
    }
}

#[test]
fn damaged_batches_and_schemas_never_panic() {
    damage_many(3_000);
}

#[test]
#[ignore = "takes minutes; run it after a change of arrow-ipc's version"]
fn damaged_batches_and_schemas_never_panic_for_long() {
    damage_many(200_000);
}

/// The batch with one of its 64-bit words replaced, once for every place where that word is found.
fn with_word(messages: &Bytes, from: i64, to: i64) -> Vec<Bytes> {
    let found = (0..messages.len() / 8).map(|word| word * 8).filter(|at| messages[*at..at + 8] == from.to_le_bytes());
    let replaced = found.map(|at| [&messages[..at], &to.to_le_bytes(), &messages[at + 8..]].concat().into());
    replaced.collect()
}

#[test]
fn claims_beyond_the_limits_are_refused_as_too_large() {
    let table = table(vec![Field::new("x", DataType::Long, true)]);
    let rows = 1234;
    let numbers: ArrayRef = Arc::new(Int64Array::from_iter_values(0..rows));
    let batch = batch(vec![("x", numbers)]);
    for codec in [CompressionType::LZ4_FRAME, CompressionType::ZSTD] {
        let (schema, messages) = ipc(&batch, Some(codec));
        let (_, arrow_plan) = open(&table, &schema);
        let claimed = 1 << 40;
        let lies = with_word(&messages, rows * 8, claimed);
        assert!(!lies.is_empty());
        for lie in lies {
            let expected =
                PayloadError::TooLarge { claimed_bytes: claimed as u64, limit_bytes: ARROW_MAX_DECODED_BYTES as u64 };
            assert_eq!(arrow_plan.check(lie).unwrap_err(), expected);
        }
    }
    let (schema, messages) = ipc(&batch, None);
    let (_, arrow_plan) = open(&table, &schema);
    let lies = with_word(&messages, rows, BATCH_MAX_ROWS as i64 + 1);
    assert!(lies.len() >= 3, "the batch and both columns");
    for (index, lie) in lies.into_iter().enumerate() {
        let error = arrow_plan.check(lie);
        // One of them is the batch's own length; the others contradict it.
        assert!(matches!(error, Err(PayloadError::TooManyRows { .. } | PayloadError::Malformed { .. })), "{index}");
    }
}

#[test]
fn a_null_count_that_is_no_count_is_malformed() {
    // Negative counts would make arrow-ipc ignore the nulls, and read what lies under them.
    let table = table(vec![Field::new("x", DataType::Long, true)]);
    let numbers: ArrayRef = Arc::new(Int64Array::from_iter((0..1234).map(|row| (row % 2 == 0).then_some(row))));
    let (schema, messages) = ipc(&batch(vec![("x", numbers)]), None);
    let (_, arrow_plan) = open(&table, &schema);
    for count in [-1, i64::MIN, 1235, 1] {
        let lies = with_word(&messages, 617, count);
        assert!(!lies.is_empty());
        for lie in lies {
            assert!(matches!(arrow_plan.decode(lie), Err(PayloadError::Malformed { .. })));
        }
    }
}

#[test]
fn many_small_claims_add_up() {
    // Sixty columns of 800 KB each by their claims, which compress to next to nothing.
    let columns: Vec<String> = (0..60).map(|column| format!("c{column}")).collect();
    let table = table(columns.iter().map(|name| Field::new(name, DataType::Long, true)).collect());
    let zeros: ArrayRef = Arc::new(Int64Array::from(vec![0; 100_000]));
    let batch = batch(columns.iter().map(|name| (name.as_str(), zeros.clone())).collect());
    let (schema, messages) = ipc(&batch, Some(CompressionType::ZSTD));
    assert!(messages.len() < 600_000, "{}", messages.len());
    let (_, arrow_plan) = open(&table, &schema);
    let checked = arrow_plan.check(messages).unwrap();
    assert!(checked.decoded_bytes() > 60 * 800_000 && checked.decoded_bytes() < ARROW_MAX_DECODED_BYTES as u64);

    let columns: Vec<String> = (0..90).map(|column| format!("c{column}")).collect();
    let batch = super::testing::batch(columns.iter().map(|name| (name.as_str(), zeros.clone())).collect());
    let (schema, messages) = ipc(&batch, Some(CompressionType::ZSTD));
    let table = super::testing::table(columns.iter().map(|name| Field::new(name, DataType::Long, true)).collect());
    let (_, arrow_plan) = open(&table, &schema);
    assert!(matches!(arrow_plan.check(messages), Err(PayloadError::TooLarge { .. })));
}

#[test]
fn a_row_that_unfolds_beyond_an_item_is_rejected_while_it_is_written() {
    // Rows that view one another's elements: each has the same 200,000 long texts.
    let word: ArrayRef = Arc::new(StringArray::from(vec!["x".repeat(100_000)]));
    let elements = DictionaryArray::new(Int8Array::from(vec![0; 200_000]), word);
    let field = arrow_schema::Field::new_list_field(elements.data_type().clone(), true);
    let rows = 50;
    let views =
        ListViewArray::new(Arc::new(field), vec![0; rows].into(), vec![200_000; rows].into(), Arc::new(elements), None);
    let list = DataType::Array { element: Box::new(DataType::String), contains_null: true };
    let table = table(vec![Field::new("x", list, true)]);
    let (schema, messages) = ipc(&batch(vec![("x", Arc::new(views))]), None);
    let (plan, arrow_plan) = open(&table, &schema);
    let mut cursor = arrow_plan.decode(messages).unwrap();
    let mut rejected = 0;
    while let Some(chunk) = cursor.next_chunk(&plan, 1 << 20, 0).unwrap() {
        assert_eq!(chunk.rows.len(), 0);
        assert!(chunk.rejects.len() <= 3, "a chunk of work is handed on, whatever became of the rows");
        assert!(chunk.memory_bytes < 4 << 20, "{}", chunk.memory_bytes);
        rejected += chunk.rejects.len();
        let reject = &chunk.rejects[0].reject;
        assert_eq!((reject.reason, reject.path.as_str()), (crate::payload::RejectReason::ItemTooLarge, ""));
    }
    assert_eq!(rejected, rows);
}
