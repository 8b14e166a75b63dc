//! Arrow into variant columns as promises: Spark's two binaries, and every other type.

use std::sync::Arc;

use arrow_array::builder::*;
use arrow_array::types::*;
use arrow_array::*;
use arrow_buffer::{NullBuffer, OffsetBuffer};
use arrow_ipc::CompressionType;
use arrow_schema::{DataType as ArrowType, Field as ArrowField, Fields};
use serde_json::{Value, json};

use super::testing::{batch, ipc, rows, table};
use super::*;
use crate::payload::RejectReason as Reason;
use crate::payload::variant::encoder::{Sample, Style, encode};
use crate::payload::variant::vectors::SPARK;
use crate::schema::{DataType, Field, Schema, TableDef};
use crate::store::WriteOp;

fn variants() -> TableDef {
    table(vec![Field::new("v", DataType::Variant, true)])
}

/// What became of a value.
type Outcome = Result<Value, (String, Reason)>;

/// A value and its metadata in Spark's encoding.
type Pair = (Vec<u8>, Vec<u8>);

/// The column `v` of each row; null where the attribute is absent, or the reject's path and reason.
fn stored(table: &TableDef, array: ArrayRef) -> Vec<Outcome> {
    let rows = rows(table, &batch(vec![("v", array)]), Some(CompressionType::ZSTD)).into_iter();
    rows.map(|row| row.map(|mut item| item["v"].take())).collect()
}

/// Variants as Spark gives them to Arrow: a struct of two binaries that are not null.
fn encoded(variants: Vec<Option<Pair>>) -> StructArray {
    let binaries = |of: fn(&Pair) -> &Vec<u8>| {
        let bytes = variants.iter().map(|variant| variant.as_ref().map_or(&[][..], |variant| of(variant)));
        Arc::new(BinaryArray::from_iter_values(bytes)) as ArrayRef
    };
    let fields = Fields::from(vec![
        ArrowField::new("value", ArrowType::Binary, false),
        ArrowField::new("metadata", ArrowType::Binary, false),
    ]);
    let nulls = NullBuffer::from_iter(variants.iter().map(Option::is_some));
    StructArray::new(fields, vec![binaries(|(value, _)| value), binaries(|(_, metadata)| metadata)], Some(nulls))
}

fn sample(sample: Sample) -> Option<Pair> {
    Some(encode(&sample, Style::default()))
}

/// A session with Spark's schema of the columns after `id`.
fn open_by_spark(table: &TableDef, batch: &RecordBatch, spark: Vec<Field>) -> Result<ArrowPlan, PlanError> {
    let (schema, _) = ipc(batch, None);
    let id = Field::new("id", DataType::String, false);
    let spark = Schema { fields: [vec![id], spark].concat() };
    let incoming = IncomingArrow::parse(&schema).unwrap().refine(&spark).unwrap();
    let plan = Plan::compile(table, incoming.schema(), WriteOp::Put, 1).unwrap();
    ArrowPlan::compile(&plan, incoming)
}

#[test]
fn what_spark_encodes_is_stored_as_its_value() {
    let mut variants_in: Vec<_> = SPARK.iter().map(|vector| Some((vector.value(), vector.metadata()))).collect();
    variants_in.push(None);
    let mut expected: Vec<_> = SPARK.iter().map(|vector| Ok(vector.stored())).collect();
    expected.push(Ok(Value::Null));
    assert_eq!(stored(&variants(), Arc::new(encoded(variants_in))), expected);
}

#[test]
fn the_two_binaries_come_in_any_order_and_layout() {
    let (value, metadata) = sample(Sample::Object([("a".into(), Sample::Integer(1))].into())).unwrap();
    let layouts: [fn(&[u8]) -> ArrayRef; 3] = [
        |bytes| Arc::new(BinaryArray::from_iter_values([bytes])),
        |bytes| Arc::new(LargeBinaryArray::from_iter_values([bytes])),
        |bytes| Arc::new(BinaryViewArray::from_iter_values([bytes])),
    ];
    for layout in layouts {
        for [first, second] in [["value", "metadata"], ["metadata", "value"]] {
            let of = |name: &str| layout(if name == "value" { &value } else { &metadata });
            let field = |name| Arc::new(ArrowField::new(name, of(name).data_type().clone(), true));
            let array = StructArray::from(vec![(field(first), of(first)), (field(second), of(second))]);
            assert_eq!(stored(&variants(), Arc::new(array)), [Ok(json!({"M": {"a": {"N": "1"}}}))]);
        }
    }
}

#[test]
fn a_variant_that_is_broken_rejects_its_row_and_no_other() {
    let nan = Sample::Object([("a".into(), Sample::Array(vec![Sample::Double(f64::NAN)]))].into());
    let array =
        encoded(vec![sample(Sample::Integer(1)), Some((vec![], vec![])), sample(nan), sample(Sample::Integer(2))]);
    let expected = [
        Ok(json!({"N": "1"})),
        Err(("v".to_owned(), Reason::Malformed)),
        Err(("v.a[0]".to_owned(), Reason::NonFinite)),
        Ok(json!({"N": "2"})),
    ];
    assert_eq!(stored(&variants(), Arc::new(array)), expected);
    // A null binary in a struct that is not null.
    let fields = Fields::from(vec![
        ArrowField::new("value", ArrowType::Binary, true),
        ArrowField::new("metadata", ArrowType::Binary, true),
    ]);
    let binary = |bytes: Option<&[u8]>| Arc::new(BinaryArray::from_iter([bytes])) as ArrayRef;
    let array = StructArray::new(fields, vec![binary(None), binary(Some(&[1, 0, 0]))], None);
    assert_eq!(stored(&variants(), Arc::new(array)), [Err(("v".to_owned(), Reason::Malformed))]);
}

#[test]
fn variants_stand_in_lists_structs_and_maps() {
    let list = DataType::Array { element: Box::new(DataType::Variant), contains_null: true };
    let elements = encoded(vec![sample(Sample::Integer(1)), None, sample(Sample::Null)]);
    let field = Arc::new(ArrowField::new_list_field(elements.data_type().clone(), true));
    let array = ListArray::new(field, OffsetBuffer::from_lengths([3]), Arc::new(elements), None);
    let lists = table(vec![Field::new("v", list, true)]);
    let nulls = json!({"L": [{"N": "1"}, {"NULL": true}, {"NULL": true}]});
    assert_eq!(stored(&lists, Arc::new(array.clone())), [Ok(nulls.clone())]);
    // The same list into a column that is itself a variant.
    assert_eq!(stored(&variants(), Arc::new(array.clone())), [Ok(nulls)]);

    let member = Field::new("of", DataType::Variant, false);
    let structs = table(vec![Field::new("v", DataType::Struct(vec![member]), true)]);
    let inner = encoded(vec![sample(Sample::Text("x".into())), None]);
    let field = Arc::new(ArrowField::new("of", inner.data_type().clone(), true));
    let array = StructArray::from(vec![(field, Arc::new(inner) as ArrayRef)]);
    let expected = [Ok(json!({"M": {"of": {"S": "x"}}})), Err(("v.of".to_owned(), Reason::NullNotAllowed))];
    assert_eq!(stored(&structs, Arc::new(array)), expected);

    let map = DataType::Map {
        key: Box::new(DataType::String),
        value: Box::new(DataType::Variant),
        value_contains_null: true,
    };
    let values = encoded(vec![sample(Sample::Boolean(true))]);
    let fields = Fields::from(vec![
        ArrowField::new("key", ArrowType::Utf8, false),
        ArrowField::new("value", values.data_type().clone(), true),
    ]);
    let keys: ArrayRef = Arc::new(StringArray::from(vec!["k"]));
    let entries = StructArray::new(fields.clone(), vec![keys, Arc::new(values)], None);
    let field = Arc::new(ArrowField::new("entries", ArrowType::Struct(fields), false));
    let array = MapArray::new(field, OffsetBuffer::from_lengths([1]), entries, None, false);
    for data_type in [map, DataType::Variant] {
        let table = table(vec![Field::new("v", data_type, true)]);
        assert_eq!(stored(&table, Arc::new(array.clone())), [Ok(json!({"M": {"k": {"BOOL": true}}}))]);
    }
}

#[test]
fn levels_around_a_variant_count() {
    let nested = |levels: usize| (0..levels).fold(Sample::Integer(1), |inner, _| Sample::Array(vec![inner]));
    let array = |levels| {
        let elements = encoded(vec![sample(nested(levels))]);
        let field = Arc::new(ArrowField::new_list_field(elements.data_type().clone(), true));
        Arc::new(ListArray::new(field, OffsetBuffer::from_lengths([1]), Arc::new(elements), None))
    };
    let list = DataType::Array { element: Box::new(DataType::Variant), contains_null: true };
    for data_type in [list, DataType::Variant] {
        let table = table(vec![Field::new("v", data_type, true)]);
        assert!(stored(&table, array(31))[0].is_ok());
        let reason = stored(&table, array(32)).remove(0).map_err(|(_, reason)| reason);
        assert_eq!(reason, Err(Reason::TooDeep));
    }
}

#[test]
fn scalars_are_stored_as_they_are() {
    let wide = arrow_buffer::i256::from_i128(15).wrapping_mul(arrow_buffer::i256::from_i128(10_i128.pow(38)));
    let words: DictionaryArray<Int8Type> = vec![Some("a"), None].into_iter().collect();
    let n = |text: &str| Ok(json!({ "N": text }));
    let s = |text: &str| Ok(json!({ "S": text }));
    let out_of_range = || Err(("v".to_owned(), Reason::OutOfRange));
    let decimals = Decimal128Array::from(vec![1250, 10_i128.pow(38)]);
    let cases: Vec<(ArrayRef, Vec<Outcome>)> = vec![
        (Arc::new(BooleanArray::from(vec![true])), vec![Ok(json!({"BOOL": true}))]),
        (Arc::new(Int8Array::from(vec![Some(-1), None])), vec![n("-1"), Ok(Value::Null)]),
        (Arc::new(Int64Array::from(vec![i64::MIN])), vec![n("-9223372036854775808")]),
        (Arc::new(UInt64Array::from(vec![u64::MAX])), vec![n("18446744073709551615")]),
        (Arc::new(Float32Array::from(vec![0.1])), vec![n("0.1")]),
        (
            Arc::new(Float64Array::from(vec![0.1, f64::NAN, 1e300])),
            vec![n("0.1"), Err(("v".to_owned(), Reason::NonFinite)), out_of_range()],
        ),
        (
            Arc::new(decimals.with_precision_and_scale(38, 2).unwrap()),
            vec![n("12.5"), n(&format!("1{}", "0".repeat(36)))],
        ),
        (Arc::new(Decimal256Array::from(vec![wide]).with_precision_and_scale(76, 39).unwrap()), vec![n("1.5")]),
        (
            Arc::new(StringViewArray::from(vec!["a text that is longer than a view"])),
            vec![s("a text that is longer than a view")],
        ),
        (Arc::new(words), vec![s("a"), Ok(Value::Null)]),
        (Arc::new(LargeBinaryArray::from(vec![b"ab".as_slice()])), vec![Ok(json!({"B": "YWI="}))]),
        (Arc::new(Date32Array::from(vec![-1])), vec![s("1969-12-31")]),
        (Arc::new(TimestampMillisecondArray::from(vec![5]).with_timezone("UTC")), vec![n("5000")]),
        (Arc::new(TimestampMicrosecondArray::from(vec![5])), vec![s("1970-01-01T00:00:00.000005")]),
        (Arc::new(DurationSecondArray::from(vec![2])), vec![n("2000000")]),
        (Arc::new(IntervalYearMonthArray::from(vec![-3])), vec![n("-3")]),
        (Arc::new(NullArray::new(1)), vec![Ok(Value::Null)]),
    ];
    for (array, expected) in cases {
        let what = array.data_type().to_string();
        assert_eq!(stored(&variants(), array), expected, "{what}");
    }
}

#[test]
fn structs_and_maps_become_objects_by_their_names() {
    let mut map = MapBuilder::new(None, StringBuilder::new(), Int64Builder::new());
    for (key, value) in [("b", Some(1)), ("a", None)] {
        map.keys().append_value(key);
        map.values().append_option(value);
    }
    map.append(true).unwrap();
    for _twice in 0..2 {
        map.keys().append_value("k");
        map.values().append_value(1);
    }
    map.append(true).unwrap();
    let map = map.finish();
    let texts: ArrayRef = Arc::new(StringArray::from(vec![Some("x"), None]));
    let member = |name: &str, array: &ArrayRef| Arc::new(ArrowField::new(name, array.data_type().clone(), true));
    let map: ArrayRef = Arc::new(map);
    let array = StructArray::from(vec![(member("text", &texts), texts.clone()), (member("map", &map), map.clone())]);
    let expected = [
        Ok(json!({"M": {"text": {"S": "x"}, "map": {"M": {"b": {"N": "1"}, "a": {"NULL": true}}}}})),
        Err(("v.map.k".to_owned(), Reason::DuplicateMapKey)),
    ];
    assert_eq!(stored(&variants(), Arc::new(array)), expected);
}

#[test]
fn sparks_schema_decides_what_two_binaries_are() {
    let array: ArrayRef = Arc::new(encoded(vec![sample(Sample::Integer(1))]));
    let batch = batch(vec![("v", array)]);
    let pair = || {
        DataType::Struct(vec![
            Field::new("value", DataType::Binary, false),
            Field::new("metadata", DataType::Binary, false),
        ])
    };
    let open = |declared: DataType, spark: DataType| {
        let table = table(vec![Field::new("v", declared, true)]);
        let opened = open_by_spark(&table, &batch, vec![Field::new("v", spark, true)]);
        opened.map(|_| ()).map_err(|error| error.to_string())
    };
    assert_eq!(open(DataType::Variant, DataType::Variant), Ok(()));
    assert_eq!(open(pair(), pair()), Ok(()));
    let refused = "column `v`: a struct of two binaries, which Spark's schema calls struct<value:binary,metadata:binary> \
                   and not variant, does not fit the declared type variant";
    assert_eq!(open(DataType::Variant, pair()), Err(refused.to_owned()));
    let refused = "column `v`: variant does not fit the declared type struct";
    assert_eq!(open(pair(), DataType::Variant), Err(refused.to_owned()));
    assert!(open(DataType::String, DataType::Variant).unwrap_err().contains("declared type string"));
}

#[test]
fn a_column_that_spark_marks_is_never_two_binaries() {
    let marked = ArrowField::new("metadata", ArrowType::Binary, false)
        .with_metadata([("variant".to_owned(), "true".to_owned())]);
    let binary = |bytes: &[u8]| Arc::new(BinaryArray::from_iter_values([bytes])) as ArrayRef;
    let fields = Fields::from(vec![ArrowField::new("value", ArrowType::Binary, false), marked]);
    let array: ArrayRef = Arc::new(StructArray::new(fields, vec![binary(&[4]), binary(&[1, 0, 0])], None));
    assert_eq!(stored(&variants(), array.clone()), [Ok(json!({"BOOL": true}))]);
    let fields = ["value", "metadata"].map(|name| Field::new(name, DataType::Binary, false)).to_vec();
    let table = table(vec![Field::new("v", DataType::Struct(fields), true)]);
    let (schema, _) = ipc(&batch(vec![("v", array)]), None);
    let incoming = IncomingArrow::parse(&schema).unwrap();
    let plan = Plan::compile(&table, incoming.schema(), WriteOp::Put, 1).unwrap();
    let error = ArrowPlan::compile(&plan, incoming).unwrap_err().to_string();
    assert_eq!(error, "column `v`: variant does not fit the declared type struct");
}

#[test]
fn sparks_schema_decides_inside_lists_structs_and_maps_too() {
    let pair = encoded(vec![sample(Sample::Integer(1))]);
    let field = Arc::new(ArrowField::new_list_field(pair.data_type().clone(), true));
    let list: ArrayRef = Arc::new(ListArray::new(field, OffsetBuffer::from_lengths([1]), Arc::new(pair), None));
    let member = Arc::new(ArrowField::new("of", list.data_type().clone(), true));
    let array: ArrayRef = Arc::new(StructArray::from(vec![(member, list)]));
    let batch = batch(vec![("v", array)]);
    let binaries = DataType::Struct(vec![
        Field::new("value", DataType::Binary, false),
        Field::new("metadata", DataType::Binary, false),
    ]);
    let nested = |of: DataType| {
        let list = DataType::Array { element: Box::new(of), contains_null: true };
        DataType::Struct(vec![Field::new("of", list, true)])
    };
    for declared in [DataType::Variant, nested(DataType::Variant)] {
        let table = table(vec![Field::new("v", declared, true)]);
        let open = |spark| open_by_spark(&table, &batch, vec![Field::new("v", spark, true)]).map(|_| ());
        assert_eq!(open(nested(DataType::Variant)), Ok(()));
        let error = open(nested(binaries.clone())).unwrap_err();
        assert!(matches!(&error, PlanError::TypeMismatch { path, .. } if path == "v.of[]"), "{error}");
    }
}

#[test]
fn types_that_no_value_has_are_refused_when_the_session_opens() {
    let refused = |array: ArrayRef| {
        let (schema, _) = ipc(&batch(vec![("v", array)]), None);
        let incoming = IncomingArrow::parse(&schema).unwrap();
        let plan = Plan::compile(&variants(), incoming.schema(), WriteOp::Put, 1).unwrap();
        ArrowPlan::compile(&plan, incoming).map(|_| ()).unwrap_err().to_string()
    };
    let time = refused(Arc::new(Time64MicrosecondArray::from(vec![1])));
    assert_eq!(time, "column `v`: Arrow's Time64(µs) does not fit the declared type variant");
    let mut map = MapBuilder::new(None, Int64Builder::new(), Int64Builder::new());
    map.keys().append_value(1);
    map.values().append_value(1);
    map.append(true).unwrap();
    let map = refused(Arc::new(map.finish()));
    assert!(map.ends_with("does not fit the declared type variant, whose maps have text for keys"), "{map}");
}
