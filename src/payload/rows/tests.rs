//! What positional rows become, and how those end that are none.

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
    let vitals =
        DataType::Struct(vec![Field::new("hr", DataType::Integer, false), Field::new("note", DataType::String, true)]);
    let mut tags = Field::new("tags", array(DataType::String), true);
    tags.options.as_set = true;
    let counts =
        DataType::Map { key: Box::new(DataType::Integer), value: Box::new(DataType::Long), value_contains_null: false };
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

fn encode(table: &TableDef, incoming: &Schema, op: WriteOp, rows: Vec<Vec<v1::Value>>) -> Result<Chunk, PayloadError> {
    let plan = Plan::compile(table, incoming, op, 1).unwrap();
    let rows_plan = RowsPlan::compile(&plan).unwrap();
    let rows = rows.into_iter().map(|values| v1::Row { values }).collect();
    let bytes = v1::RowBatch { rows }.encode_to_vec();
    Ok(RowsCursor::new(&bytes).next_chunk(&plan, &rows_plan, 1 << 20, 0)?.unwrap_or_default())
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
    let walk = |days| RowsCursor::new(&batch(days)).next_chunk(&plan, &rows_plan, 1 << 20, 0);
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
        let result = RowsCursor::new(&good[..cut]).next_chunk(&plan, &rows_plan, 1 << 20, 0);
        assert!(matches!(result, Err(PayloadError::Malformed { .. })), "cut at {cut}: {result:?}");
    }
    let not_utf8 = b"\x0a\x09\x0a\x00\x0a\x05\x2a\x03\xff\xfe\xfd";
    let result = RowsCursor::new(not_utf8).next_chunk(&plan, &rows_plan, 1 << 20, 0);
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
    while let Some(chunk) = cursor.next_chunk(&plan, &rows_plan, 4096, 0).unwrap() {
        assert!(chunk.memory_bytes < 4096 * 12, "{}", chunk.memory_bytes);
        rows.extend(chunk.rows.iter().map(|row| row.row_index));
    }
    assert_eq!(rows, (0..1000).collect::<Vec<_>>());
}

#[test]
fn a_row_with_write_shards_is_stored_at_the_place_that_its_sort_key_says() {
    let table = TableDef { write_shards: 16, ..table() };
    let row = |id: &str, at: i64| vec![null(), text(id), null(), null(), null(), int(at)];
    let rows: Vec<_> = (0..200).map(|at| row("a\"\u{e9}", at)).collect();
    let chunk = encode(&table, &table.schema, WriteOp::Put, rows).unwrap();
    assert_eq!(chunk.rejects, []);
    let mut places = std::collections::HashMap::new();
    for (at, row) in chunk.rows.iter().enumerate() {
        let place = crate::payload::shard::place(format!(r#"{{"N":"{at}"}}"#).as_bytes(), 16);
        let key = format!(r#""id":{{"S":"a\"é#0{place:x}"}},"at":{{"N":"{at}"}}"#);
        assert_eq!(std::str::from_utf8(row.item.key_text()).unwrap(), key);
        // Lanes are chosen by the stored key, so that the places of a key have lanes of their own.
        let hash = places.entry(place).or_insert(row.partition_hash);
        assert_eq!(*hash, row.partition_hash);
    }
    assert_eq!(places.len(), 16);
    assert_eq!(places.values().collect::<std::collections::HashSet<_>>().len(), 16);

    let plain = encode(&self::table(), &table.schema, WriteOp::Put, vec![row("a", 7)]).unwrap();
    let mut measuring = Plan::compile(&table, &table.schema, WriteOp::Put, 1).unwrap();
    measuring.measure();
    let rows_plan = RowsPlan::compile(&measuring).unwrap();
    let bytes = v1::RowBatch { rows: vec![v1::Row { values: row("a", 7) }] }.encode_to_vec();
    let measured = RowsCursor::new(&bytes).next_chunk(&measuring, &rows_plan, 1 << 20, 0).unwrap().unwrap();
    // `id`, `a`, the suffix, `at`, and a number of one digit.
    assert_eq!(measured.rows[0].item_bytes, 2 + 1 + 3 + 2 + 2);
    assert_eq!(measured.rows[0].item.json.len(), plain.rows[0].item.json.len() + 3);
}

#[test]
fn a_key_with_write_shards_leaves_room_for_its_suffix() {
    for (shards, longest) in [(0, 2048), (2, 2045)] {
        let table = TableDef { write_shards: shards, ..table() };
        let row = |length: usize| vec![null(), text(&"k".repeat(length)), null(), null(), null(), int(1)];
        let rows = vec![row(longest), row(longest + 1), row(0)];
        let chunk = encode(&table, &table.schema, WriteOp::Delete, rows).unwrap();
        let reasons: Vec<_> = chunk.rejects.iter().map(|reject| (reject.row_index, reject.reject.reason)).collect();
        assert_eq!(reasons, [(1, RejectReason::KeyTooLong), (2, RejectReason::KeyEmpty)], "{shards}");
    }
}

#[test]
fn a_joined_key_with_write_shards_ends_with_its_place_and_its_columns_do_not() {
    let mut table = TableDef { write_shards: 2, ..table() };
    table.key.partition = vec!["id".into(), "at".into()];
    table.key.sort = vec!["n".into()];
    table.schema = Schema {
        fields: vec![
            Field::new("id", DataType::String, false),
            Field::new("at", DataType::Long, false),
            Field::new("n", DataType::Long, false),
        ],
    };
    table.validate().unwrap();
    let chunk = encode(&table, &table.schema, WriteOp::Put, vec![vec![text("a"), int(1), int(2)]]).unwrap();
    let place = crate::payload::shard::place(br#"{"N":"2"}"#, 2);
    let key = format!("a\0{:016x}#0{place}", 1_u64 ^ (1 << 63));
    let expected = serde_json::json!({
        "_pk": {"S": key}, "n": {"N": "2"}, "id": {"S": "a"}, "at": {"N": "1"},
    });
    assert_eq!(json(&chunk, 0), expected);
}
