//! Arrow batches as promises: what each type becomes, what is rejected, what is refused.

use std::sync::Arc;

use arrow_array::builder::*;
use arrow_array::types::*;
use arrow_array::*;
use arrow_buffer::{IntervalDayTime, IntervalMonthDayNano, OffsetBuffer, ScalarBuffer, i256};
use arrow_ipc::CompressionType;
use arrow_schema::{DataType as ArrowType, Field as ArrowField, Fields};
use serde_json::json;

use super::testing::{batch, ipc, open, rows, table};
use super::*;
use crate::payload::RejectReason as Reason;
use crate::schema::{DataType, Field, TableDef, UnknownFields};
use crate::store::WriteOp;

/// What became of a column's value in one row.
type Value = Result<serde_json::Value, Reason>;

/// The column `x` of each row; `null` where the attribute is absent.
fn column(declared: DataType, array: ArrayRef) -> Vec<Value> {
    let table = table(vec![Field::new("x", declared, true)]);
    let x = |row: Result<serde_json::Value, (String, Reason)>| match row {
        Ok(mut item) => Ok(item["x"].take()),
        Err((_, reason)) => Err(reason),
    };
    rows(&table, &batch(vec![("x", array)]), None).into_iter().map(x).collect()
}

fn n(text: &str) -> Value {
    Ok(json!({"N": text}))
}

fn s(text: &str) -> Value {
    Ok(json!({"S": text}))
}

fn null() -> Value {
    Ok(serde_json::Value::Null)
}

fn list_of(element: DataType) -> DataType {
    DataType::Array { element: Box::new(element), contains_null: true }
}

#[test]
fn every_scalar_type_has_its_stored_form() {
    let decimal = |precision, scale| DataType::Decimal { precision, scale };
    let b = |text: &str| Ok(json!({"B": text}));
    let day_time = |days, milliseconds| IntervalDayTime { days, milliseconds };
    let month_day_nano = |months, days, nanoseconds| IntervalMonthDayNano { months, days, nanoseconds };
    let dictionary: DictionaryArray<Int8Type> = vec![Some("a"), None, Some("b"), Some("a")].into_iter().collect();
    let wide = i256::from_i128(15).wrapping_mul(i256::from_i128(10_i128.pow(38)));
    let cases: Vec<(DataType, ArrayRef, Vec<Value>)> = vec![
        (
            DataType::Boolean,
            Arc::new(BooleanArray::from(vec![Some(true), None])),
            vec![Ok(json!({"BOOL": true})), null()],
        ),
        (DataType::Byte, Arc::new(Int8Array::from(vec![-128])), vec![n("-128")]),
        (DataType::Short, Arc::new(Int16Array::from(vec![-1])), vec![n("-1")]),
        (DataType::Integer, Arc::new(Int32Array::from(vec![Some(7), None])), vec![n("7"), null()]),
        (DataType::Byte, Arc::new(Int64Array::from(vec![127, 128])), vec![n("127"), Err(Reason::OutOfRange)]),
        (DataType::Long, Arc::new(Int64Array::from(vec![i64::MIN])), vec![n("-9223372036854775808")]),
        (DataType::Byte, Arc::new(UInt8Array::from(vec![127, 255])), vec![n("127"), Err(Reason::OutOfRange)]),
        (DataType::Integer, Arc::new(UInt16Array::from(vec![65_535])), vec![n("65535")]),
        (DataType::Long, Arc::new(UInt32Array::from(vec![u32::MAX])), vec![n("4294967295")]),
        (DataType::Long, Arc::new(UInt64Array::from(vec![1, u64::MAX])), vec![n("1"), Err(Reason::OutOfRange)]),
        (decimal(20, 0), Arc::new(UInt64Array::from(vec![u64::MAX])), vec![n("18446744073709551615")]),
        (
            DataType::Float,
            Arc::new(PrimitiveArray::<Float16Type>::from_iter_values(
                [0.5f32].map(<Float16Type as ArrowPrimitiveType>::Native::from_f32),
            )),
            vec![n("0.5")],
        ),
        (DataType::Float, Arc::new(Float32Array::from(vec![0.1])), vec![n("0.1")]),
        (DataType::Double, Arc::new(Float64Array::from(vec![0.1, f64::NAN])), vec![n("0.1"), Err(Reason::NonFinite)]),
        (DataType::Long, Arc::new(Float64Array::from(vec![3.0, 3.5])), vec![n("3"), Err(Reason::Inexact)]),
        (
            decimal(10, 2),
            Arc::new(Decimal128Array::from(vec![1250, -5]).with_precision_and_scale(10, 2).unwrap()),
            vec![n("12.5"), n("-0.05")],
        ),
        (
            decimal(9, 1),
            Arc::new(Decimal32Array::from(vec![15]).with_precision_and_scale(9, 1).unwrap()),
            vec![n("1.5")],
        ),
        (
            decimal(18, 1),
            Arc::new(Decimal64Array::from(vec![15]).with_precision_and_scale(18, 1).unwrap()),
            vec![n("1.5")],
        ),
        (
            decimal(38, 1),
            Arc::new(
                Decimal256Array::from(vec![wide, wide.wrapping_add(i256::ONE)])
                    .with_precision_and_scale(76, 39)
                    .unwrap(),
            ),
            vec![n("1.5"), Err(Reason::OutOfRange)],
        ),
        (DataType::String, Arc::new(StringArray::from(vec![Some(""), None, Some("ä")])), vec![s(""), null(), s("ä")]),
        (DataType::String, Arc::new(LargeStringArray::from(vec!["a"])), vec![s("a")]),
        (
            DataType::String,
            Arc::new(StringViewArray::from(vec![Some("short"), None, Some("a text that is longer than a view")])),
            vec![s("short"), null(), s("a text that is longer than a view")],
        ),
        (DataType::Varchar(2), Arc::new(StringArray::from(vec!["ab", "abc"])), vec![s("ab"), Err(Reason::TooLong)]),
        (DataType::Binary, Arc::new(BinaryArray::from(vec![b"ab".as_slice()])), vec![b("YWI=")]),
        (DataType::Binary, Arc::new(LargeBinaryArray::from(vec![b"ab".as_slice()])), vec![b("YWI=")]),
        (DataType::Binary, Arc::new(BinaryViewArray::from(vec![b"ab".as_slice()])), vec![b("YWI=")]),
        (
            DataType::Binary,
            Arc::new(FixedSizeBinaryArray::try_from_iter([b"ab"].into_iter()).unwrap()),
            vec![b("YWI=")],
        ),
        (DataType::Date, Arc::new(Date32Array::from(vec![-1])), vec![s("1969-12-31")]),
        (DataType::Date, Arc::new(Date64Array::from(vec![86_400_000, 1])), vec![s("1970-01-02"), Err(Reason::Inexact)]),
        (
            DataType::Timestamp,
            Arc::new(TimestampSecondArray::from(vec![-1, i64::MAX]).with_timezone("UTC")),
            vec![n("-1000000"), Err(Reason::OutOfRange)],
        ),
        (
            DataType::Timestamp,
            Arc::new(TimestampMillisecondArray::from(vec![5]).with_timezone("Europe/Zurich")),
            vec![n("5000")],
        ),
        (
            DataType::Timestamp,
            Arc::new(TimestampMicrosecondArray::from(vec![Some(5), None]).with_timezone("UTC")),
            vec![n("5"), null()],
        ),
        (
            DataType::Timestamp,
            Arc::new(TimestampNanosecondArray::from(vec![-5000, 5001]).with_timezone("UTC")),
            vec![n("-5"), Err(Reason::Inexact)],
        ),
        (
            DataType::TimestampNtz,
            Arc::new(TimestampMicrosecondArray::from(vec![0])),
            vec![s("1970-01-01T00:00:00.000000")],
        ),
        (DataType::DayTimeInterval, Arc::new(DurationSecondArray::from(vec![2])), vec![n("2000000")]),
        (DataType::DayTimeInterval, Arc::new(DurationMicrosecondArray::from(vec![-2])), vec![n("-2")]),
        (
            DataType::DayTimeInterval,
            Arc::new(IntervalDayTimeArray::from(vec![day_time(1, -1)])),
            vec![n("86399999000")],
        ),
        (
            DataType::DayTimeInterval,
            Arc::new(IntervalMonthDayNanoArray::from(vec![month_day_nano(0, 1, 1000), month_day_nano(1, 0, 0)])),
            vec![n("86400000001"), Err(Reason::Inexact)],
        ),
        (
            DataType::YearMonthInterval,
            Arc::new(IntervalMonthDayNanoArray::from(vec![month_day_nano(14, 0, 0), month_day_nano(1, 1, 0)])),
            vec![n("14"), Err(Reason::Inexact)],
        ),
        (DataType::YearMonthInterval, Arc::new(IntervalYearMonthArray::from(vec![-3])), vec![n("-3")]),
        (DataType::String, Arc::new(dictionary), vec![s("a"), null(), s("b"), s("a")]),
        (DataType::Long, Arc::new(NullArray::new(2)), vec![null(), null()]),
        (list_of(DataType::Long), Arc::new(NullArray::new(1)), vec![null()]),
    ];
    for (declared, array, expected) in cases {
        let what = format!("{} into {declared}", array.data_type());
        assert_eq!(column(declared, array), expected, "{what}");
    }
}

#[test]
fn every_kind_of_dictionary_key_is_read() {
    fn dictionary<K: ArrowDictionaryKeyType>() -> ArrayRef {
        Arc::new([Some("a"), None, Some("b")].into_iter().collect::<DictionaryArray<K>>())
    }
    let arrays = [
        dictionary::<Int8Type>(),
        dictionary::<Int16Type>(),
        dictionary::<Int32Type>(),
        dictionary::<Int64Type>(),
        dictionary::<UInt8Type>(),
        dictionary::<UInt16Type>(),
        dictionary::<UInt32Type>(),
        dictionary::<UInt64Type>(),
    ];
    for array in arrays {
        assert_eq!(column(DataType::String, array), [s("a"), null(), s("b")]);
    }
}

#[test]
fn every_kind_of_list_is_read() {
    let expected = [Ok(json!({"L": [{"N": "1"}, {"NULL": true}]})), null(), Ok(json!({"L": [{"N": "3"}, {"N": "4"}]}))];
    let values = || vec![Some(vec![Some(1), None]), None, Some(vec![Some(3), Some(4)])];
    let list = ListArray::from_iter_primitive::<Int32Type, _, _>(values());
    let large = LargeListArray::from_iter_primitive::<Int32Type, _, _>(values());
    let fixed = FixedSizeListArray::from_iter_primitive::<Int32Type, _, _>(values(), 2);
    let element = Arc::new(ArrowField::new_list_field(ArrowType::Int32, true));
    let elements: ArrayRef = Arc::new(Int32Array::from(vec![Some(3), Some(4), Some(1), None]));
    let nulls = Some(vec![true, false, true].into());
    let view = ListViewArray::new(
        element.clone(),
        ScalarBuffer::from(vec![2, 0, 0]),
        ScalarBuffer::from(vec![2, 0, 2]),
        elements.clone(),
        nulls.clone(),
    );
    let large_view = LargeListViewArray::new(
        element,
        ScalarBuffer::from(vec![2, 0, 0]),
        ScalarBuffer::from(vec![2, 0, 2]),
        elements,
        nulls,
    );
    let arrays: [ArrayRef; 5] =
        [Arc::new(list), Arc::new(large), Arc::new(fixed), Arc::new(view), Arc::new(large_view)];
    for array in arrays {
        let what = array.data_type().to_string();
        assert_eq!(column(list_of(DataType::Integer), array), expected, "{what}");
    }
}

/// A list of structs `{note, hr}`, and its declared type with the fields the other way round.
fn vitals() -> (DataType, ArrayRef) {
    let declared = list_of(DataType::Struct(vec![
        Field::new("hr", DataType::Integer, false),
        Field::new("note", DataType::String, true),
    ]));
    let fields = Fields::from(vec![
        ArrowField::new("note", ArrowType::Utf8, true),
        ArrowField::new("hr", ArrowType::Int64, true),
    ]);
    let notes: ArrayRef = Arc::new(StringArray::from(vec![Some("ok"), None, None, None]));
    let rates: ArrayRef = Arc::new(Int64Array::from(vec![Some(61), Some(62), Some(1 << 40), None]));
    let entries = StructArray::new(fields.clone(), vec![notes, rates], Some(vec![true, true, true, true].into()));
    let offsets = OffsetBuffer::new(vec![0, 2, 2, 3, 4].into());
    let list = ListArray::new(
        Arc::new(ArrowField::new_list_field(ArrowType::Struct(fields), true)),
        offsets,
        Arc::new(entries),
        None,
    );
    (declared, Arc::new(list))
}

#[test]
fn structs_are_matched_by_name_and_rejects_name_their_place() {
    let (declared, array) = vitals();
    let table = table(vec![Field::new("vitals", declared, true)]);
    let rows = rows(&table, &batch(vec![("vitals", array)]), None);
    let first = json!({
        "id": {"S": "0"},
        "vitals": {"L": [
            {"M": {"note": {"S": "ok"}, "hr": {"N": "61"}}}, {"M": {"note": {"NULL": true}, "hr": {"N": "62"}}},
        ]},
    });
    let expected = [
        Ok(first),
        Ok(json!({"id": {"S": "1"}, "vitals": {"L": []}})),
        Err(("vitals[0].hr".to_owned(), Reason::OutOfRange)),
        Err(("vitals[0].hr".to_owned(), Reason::NullNotAllowed)),
    ];
    assert_eq!(rows, expected);
}

#[test]
fn maps_are_checked_for_null_and_duplicate_keys() {
    let declared =
        DataType::Map { key: Box::new(DataType::String), value: Box::new(DataType::Long), value_contains_null: false };
    let mut builder = MapBuilder::new(None, StringBuilder::new(), Int64Builder::new());
    for entries in [&[("a", Some(1)), ("b", Some(2))][..], &[("a", Some(1)), ("a", Some(2))], &[("a", None)], &[]] {
        for (key, value) in entries {
            builder.keys().append_value(key);
            builder.values().append_option(*value);
        }
        builder.append(true).unwrap();
    }
    let table = table(vec![Field::new("m", declared, true)]);
    let rows = rows(&table, &batch(vec![("m", Arc::new(builder.finish()) as ArrayRef)]), None);
    let expected = [
        Ok(json!({"id": {"S": "0"}, "m": {"M": {"a": {"N": "1"}, "b": {"N": "2"}}}})),
        Err(("m[1].key".to_owned(), Reason::DuplicateMapKey)),
        Err(("m[0].value".to_owned(), Reason::NullNotAllowed)),
        Ok(json!({"id": {"S": "3"}, "m": {"M": {}}})),
    ];
    assert_eq!(rows, expected);
}

#[test]
fn a_set_is_deduplicated_and_takes_no_nulls() {
    let mut tags = Field::new("tags", list_of(DataType::String), true);
    tags.options.as_set = true;
    let mut builder = ListBuilder::new(StringBuilder::new());
    builder.append_value([Some("a"), Some("b"), Some("a")]);
    builder.append_value([Some("a"), None]);
    builder.append_value(Vec::<Option<&str>>::new());
    let table = table(vec![tags]);
    let rows = rows(&table, &batch(vec![("tags", Arc::new(builder.finish()) as ArrayRef)]), None);
    let expected = [
        Ok(json!({"id": {"S": "0"}, "tags": {"SS": ["a", "b"]}})),
        Err(("tags[1]".to_owned(), Reason::NullNotAllowed)),
        Ok(json!({"id": {"S": "2"}})),
    ];
    assert_eq!(rows, expected);
}

/// A batch with a bit of everything, 100 rows.
pub(super) fn mixed() -> (TableDef, RecordBatch) {
    let (declared, _) = vitals();
    let table = table(vec![
        Field::new("n", DataType::Long, true),
        Field::new("score", DataType::Double, true),
        Field::new("name", DataType::String, true),
        Field::new("list", list_of(DataType::Double), true),
        Field::new("vitals", declared, true),
        Field::new("flag", DataType::Boolean, true),
    ]);
    let rows = 100;
    let fields = Fields::from(vec![ArrowField::new("hr", ArrowType::Int64, true)]);
    let rates: ArrayRef = Arc::new(Int64Array::from_iter_values(0..rows));
    let structs = StructArray::new(fields.clone(), vec![rates], None);
    let vitals = ListArray::new(
        Arc::new(ArrowField::new_list_field(ArrowType::Struct(fields), true)),
        OffsetBuffer::from_lengths((0..rows).map(|_| 1)),
        Arc::new(structs),
        None,
    );
    let names: DictionaryArray<Int32Type> = (0..rows).map(|row| (row % 3 > 0).then_some("anna")).collect();
    let lists = (0..rows).map(|row| Some((0..row % 5).map(|x| Some(x as f64 / 2.0)).collect::<Vec<_>>()));
    let batch = batch(vec![
        ("n", Arc::new(Int64Array::from_iter((0..rows).map(|row| (row % 7 > 0).then_some(row)))) as ArrayRef),
        ("score", Arc::new(Float64Array::from_iter_values((0..rows).map(|row| row as f64 * 0.25)))),
        ("name", Arc::new(names)),
        ("list", Arc::new(ListArray::from_iter_primitive::<Float64Type, _, _>(lists))),
        ("vitals", Arc::new(vitals)),
        ("flag", Arc::new(BooleanArray::from_iter((0..rows).map(|row| Some(row % 2 == 0))))),
    ]);
    (table, batch)
}

#[test]
fn compressed_and_sliced_batches_give_the_same_rows() {
    let (table, batch) = mixed();
    let plain = rows(&table, &batch, None);
    assert_eq!(plain.iter().filter(|row| row.is_ok()).count(), 100);
    for codec in [CompressionType::LZ4_FRAME, CompressionType::ZSTD] {
        assert_eq!(rows(&table, &batch, Some(codec)), plain, "{codec:?}");
    }
    assert_eq!(rows(&table, &batch.slice(33, 20), None), plain[33..53]);
    assert_eq!(rows(&table, &batch.slice(99, 1), Some(CompressionType::ZSTD)), plain[99..]);
    assert_eq!(rows(&table, &batch.slice(50, 0), None), []);
}

#[test]
fn a_batch_at_any_place_in_memory_gives_the_same_rows() {
    let (table, batch) = mixed();
    let (schema, messages) = ipc(&batch, None);
    let (plan, arrow_plan) = open(&table, &schema);
    let encoded = |messages: Bytes| {
        let chunk = arrow_plan.decode(messages).unwrap().next_chunk(&plan, 1 << 20, 0).unwrap().unwrap();
        chunk.rows.iter().map(|row| row.item.json.clone()).collect::<Vec<_>>()
    };
    let expected = encoded(messages.clone());
    for shift in 1..16 {
        let moved = Bytes::from([&vec![0; shift][..], &messages].concat()).slice(shift..);
        assert_eq!(encoded(moved), expected);
    }
}

#[test]
fn a_schema_is_read_with_and_without_its_framing() {
    let (table, batch) = mixed();
    let (schema, messages) = ipc(&batch, None);
    let end_of_stream = [&schema[..], &[0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0]].concat();
    let without_marker = schema[4..].to_vec();
    for schema in [schema.to_vec(), end_of_stream, without_marker] {
        let (_, arrow_plan) = open(&table, &schema.into());
        assert_eq!(arrow_plan.decode(messages.clone()).unwrap().rows(), 100);
    }
    let errors = [
        (Vec::new(), "holds no message"),
        (messages.to_vec(), "a message of another kind"),
        ([&schema[..], &schema[..]].concat(), "a second message"),
        ([&schema[..], &[0; 4], &[1]].concat(), "follow the end-of-stream marker"),
        (schema[..100].to_vec(), "of metadata, but"),
    ];
    for (schema, why) in errors {
        let error = IncomingArrow::parse(&schema).unwrap_err().to_string();
        assert!(error.contains(why), "{error}");
    }
}

#[test]
fn a_batch_is_dictionaries_and_one_record_batch() {
    let (table, batch) = mixed();
    let (schema, messages) = ipc(&batch, None);
    let (_, arrow_plan) = open(&table, &schema);
    let mut at = 0;
    guard::read_message(&messages, &mut at).unwrap().unwrap();
    let dictionary = crate::payload::arrow::guard::check_batch(
        &messages,
        arrow_plan.incoming.arrow.fields(),
        &arrow_plan.incoming.dictionaries,
    );
    let (dictionary, rest) = messages.split_at(dictionary.unwrap().dictionaries[0].1.body.end);
    let eos = &[0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0][..];
    let rest = rest.strip_suffix(eos).unwrap();
    assert_eq!(arrow_plan.decode([dictionary, rest].concat().into()).unwrap().rows(), 100);
    assert_eq!(arrow_plan.decode([dictionary, rest, eos].concat().into()).unwrap().rows(), 100);
    let cases = [
        (vec![dictionary], "no record batch"),
        (vec![eos], "no record batch"),
        (vec![rest], "is missing; each batch carries those that it uses"),
        (vec![dictionary, dictionary, rest], "once, whole"),
        (vec![dictionary, rest, rest], "another message follows"),
        (vec![dictionary, rest, eos, rest], "follow the end-of-stream marker"),
        (vec![&schema, dictionary, rest], "belongs in Open"),
    ];
    for (parts, why) in cases {
        let error = arrow_plan.decode(parts.concat().into()).unwrap_err().to_string();
        assert!(error.contains(why), "{error}");
    }
}

#[test]
fn types_that_no_value_fits_are_refused_when_the_session_opens() {
    let refused = |declared: DataType, array: ArrayRef| {
        let table = table(vec![Field::new("x", declared, true)]);
        let (schema, _) = ipc(&batch(vec![("x", array)]), None);
        let incoming = IncomingArrow::parse(&schema).unwrap();
        let plan = Plan::compile(&table, incoming.schema(), WriteOp::Put, 1).unwrap();
        match ArrowPlan::compile(&plan, incoming) {
            Err(PlanError::TypeMismatch { path, .. }) => path,
            other => panic!("{other:?}"),
        }
    };
    let text: ArrayRef = Arc::new(StringArray::from(vec!["1"]));
    let fields = |name: &str| Fields::from(vec![ArrowField::new(name, ArrowType::Utf8, true)]);
    let in_struct = |name: &str| Arc::new(StructArray::new(fields(name), vec![text.clone()], None)) as ArrayRef;
    let in_list = |array: ArrayRef| {
        let element = Arc::new(ArrowField::new_list_field(array.data_type().clone(), true));
        Arc::new(ListArray::new(element, OffsetBuffer::from_lengths([array.len()]), array, None)) as ArrayRef
    };
    let of_hr = |data_type| DataType::Struct(vec![Field::new("hr", data_type, true)]);
    assert_eq!(refused(DataType::Long, text.clone()), "x");
    assert_eq!(refused(DataType::String, Arc::new(Int64Array::from(vec![1]))), "x");
    assert_eq!(refused(DataType::Timestamp, Arc::new(TimestampMicrosecondArray::from(vec![1]))), "x");
    assert_eq!(refused(DataType::Long, Arc::new(Time64MicrosecondArray::from(vec![1]))), "x");
    assert_eq!(refused(DataType::Long, in_list(Arc::new(Int64Array::from(vec![1])))), "x");
    assert_eq!(refused(list_of(DataType::Long), in_list(text.clone())), "x[]");
    assert_eq!(refused(list_of(of_hr(DataType::Long)), in_list(in_struct("hr"))), "x[].hr");
    assert_eq!(refused(of_hr(DataType::String), in_struct("other")), "x.other");
    let runs = RunArray::try_new(&Int32Array::from(vec![1]), &StringArray::from(vec!["a"])).unwrap();
    assert_eq!(refused(DataType::String, Arc::new(runs)), "x");
}

#[test]
fn a_key_of_another_type_is_refused_when_the_session_opens() {
    let table = table(vec![]);
    let schema = ArrowSchema::new(vec![ArrowField::new("id", ArrowType::Int64, true)]);
    let (schema, _) = ipc(&RecordBatch::new_empty(Arc::new(schema)), None);
    let incoming = IncomingArrow::parse(&schema).unwrap();
    let plan = Plan::compile(&table, incoming.schema(), WriteOp::Put, 1).unwrap();
    let error = ArrowPlan::compile(&plan, incoming).unwrap_err();
    assert_eq!(
        error.to_string(),
        "column `id`: Arrow's Int64 does not fit the declared type string; cast it before it is sent, or give the table or the session `store_assignment: ansi`"
    );
}

#[test]
fn columns_that_the_table_does_not_have_are_stepped_over_where_it_says_so() {
    let mut table = table(vec![Field::new("x", DataType::Long, true)]);
    table.unknown_fields = UnknownFields::Drop;
    let dictionary: DictionaryArray<Int32Type> = vec!["a", "b"].into_iter().collect();
    let union = {
        let fields = [(0, Arc::new(ArrowField::new("i", ArrowType::Int32, true)))].into_iter().collect();
        UnionArray::try_new(fields, vec![0i8, 0].into(), None, vec![Arc::new(Int32Array::from(vec![1, 2]))]).unwrap()
    };
    let runs = RunArray::try_new(&Int32Array::from(vec![1, 2]), &StringArray::from(vec!["a", "b"])).unwrap();
    let views = StringViewArray::from(vec!["a text that is longer than a view", "b"]);
    let batch = batch(vec![
        ("dictionary", Arc::new(dictionary) as ArrayRef),
        ("union", Arc::new(union)),
        ("runs", Arc::new(runs)),
        ("views", Arc::new(views)),
        ("list", Arc::new(ListArray::from_iter_primitive::<Int32Type, _, _>([Some([Some(1)]), None]))),
        ("x", Arc::new(Int64Array::from(vec![1, 2]))),
    ]);
    let expected = [Ok(json!({"id": {"S": "0"}, "x": {"N": "1"}})), Ok(json!({"id": {"S": "1"}, "x": {"N": "2"}}))];
    assert_eq!(rows(&table, &batch, None), expected);
}
