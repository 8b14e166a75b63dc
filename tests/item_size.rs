//! DynamoDB's size rule: around 400 KB the encoder's verdict is the store's.
//!
//! A row of arbitrary values is filled up with text to the limit and a few bytes around it. What the encoder takes the store
//! must take; what it rejects for its size the store must refuse, when it is sent all the same.

#![allow(clippy::unwrap_used, reason = "helpers of tests are tests")]

use bytes::Bytes;
use forebay::limits::ITEM_MAX_BYTES;
use forebay::payload::rows::{RowsCursor, RowsPlan};
use forebay::payload::{Chunk, Plan, RejectReason};
use forebay::proto::v1::value::Kind;
use forebay::proto::v1::{ListValue, MapEntry, MapValue, Row, RowBatch, StructValue, Value};
use forebay::schema::{KeyDef, TableDef, ddl};
use forebay::store::dynamodb::DynamoDb;
use forebay::store::embedded::Embedded;
use forebay::store::{OneWrite, Store as _, WriteError, WriteItem, WriteOp};
use proptest::prelude::*;
use proptest::strategy::ValueTree as _;
use proptest::test_runner::TestRunner;
use prost::Message as _;

const DDL: &str = "id STRING NOT NULL, filler STRING, `naïve` STRING, n BIGINT, d DOUBLE, m DECIMAL(38, 9), b BINARY, t BOOLEAN, \
                   list ARRAY<DOUBLE>, map MAP<STRING, BIGINT>, s STRUCT<a: STRING, b: DECIMAL(20, 3), c: ARRAY<BOOLEAN>>, \
                   texts ARRAY<STRING> OPTIONS (as_set = true), numbers ARRAY<BIGINT> OPTIONS (as_set = true), day DATE";
/// Rows; each is tried with several lengths.
const ROWS: usize = 20;
/// Bytes that the other values of a row take, at most.
const OTHERS_MAX_BYTES: usize = 2_048;
/// Bytes beyond the limit, and below it.
const AROUND: std::ops::RangeInclusive<i64> = -2..=2;

fn value(kind: Kind) -> Value {
    Value { kind: Some(kind) }
}

fn nullable(kind: impl Strategy<Value = Kind>) -> impl Strategy<Value = Value> {
    proptest::option::weighted(0.8, kind).prop_map(|kind| Value { kind })
}

fn list(element: impl Strategy<Value = Value>) -> impl Strategy<Value = Kind> {
    prop::collection::vec(element, 0..6).prop_map(|values| Kind::ListValue(ListValue { values }))
}

fn decimal(scale: u32) -> impl Strategy<Value = Kind> {
    // Numbers with many zeros at their ends are where the rule is easily got wrong.
    let digits = prop_oneof![any::<i64>(), (-999i64..999).prop_map(|n| n * 1_000_000), -5i64..5, Just(0)];
    digits.prop_map(move |n| {
        let (sign, digits) = (if n < 0 { "-" } else { "" }, n.unsigned_abs());
        let unit = 10u64.pow(scale);
        Kind::DecimalValue(format!("{sign}{}.{:0width$}", digits / unit, digits % unit, width = scale as usize))
    })
}

fn long() -> impl Strategy<Value = Kind> {
    prop_oneof![any::<i64>(), -100i64..100, (-100i64..100).prop_map(|n| n * 100_000)].prop_map(Kind::IntValue)
}

fn double() -> impl Strategy<Value = Kind> {
    let magnitude =
        prop_oneof![any::<i32>().prop_map(f64::from), -1.0f64..1.0, (-120i32..120).prop_map(|e| 10f64.powi(e))];
    magnitude.prop_map(Kind::DoubleValue)
}

fn text() -> impl Strategy<Value = Kind> {
    "[a-zé\"\\\\\u{1}🎈]{0,12}".prop_map(Kind::StringValue)
}

/// The values behind `id` and `filler`.
fn values() -> impl Strategy<Value = Vec<Value>> {
    let boolean = || any::<bool>().prop_map(Kind::BoolValue);
    let map = prop::collection::btree_map("[a-zé]{1,5}", nullable(long()), 0..5).prop_map(|entries| {
        let entry = |(key, value_of)| MapEntry { key: Some(value(Kind::StringValue(key))), value: Some(value_of) };
        Kind::MapValue(MapValue { entries: entries.into_iter().map(entry).collect() })
    });
    let nested = (nullable(text()), nullable(decimal(3)), nullable(list(nullable(boolean()))))
        .prop_map(|(a, b, c)| Kind::StructValue(StructValue { values: vec![a, b, c] }));
    let scalars = (
        nullable(text()),
        nullable(long()),
        nullable(double()),
        nullable(decimal(9)),
        nullable(any::<Vec<u8>>().prop_map(|bytes| Kind::BytesValue(bytes.into()))),
        nullable(boolean()),
    );
    let others = (
        nullable(list(nullable(double()))),
        nullable(map),
        nullable(nested),
        nullable(list(text().prop_map(value))),
        nullable(list(long().prop_map(value))),
        nullable((-700_000i32..2_900_000).prop_map(Kind::DateDays)),
    );
    (scalars, others).prop_map(|((a, b, c, d, e, f), (g, h, i, j, k, l))| vec![a, b, c, d, e, f, g, h, i, j, k, l])
}

struct Encoder {
    plan: Plan,
    rows: RowsPlan,
}

impl Encoder {
    fn new(table: &TableDef) -> Self {
        let plan = Plan::compile(table, &table.schema, WriteOp::Put, 0).unwrap();
        Self { rows: RowsPlan::compile(&plan).unwrap(), plan }
    }

    fn encode(&self, filler_bytes: usize, values: &[Value]) -> Chunk {
        let mut row =
            vec![value(Kind::StringValue("k".to_owned())), value(Kind::StringValue("x".repeat(filler_bytes)))];
        row.extend_from_slice(values);
        let batch = RowBatch { rows: vec![Row { values: row }] }.encode_to_vec();
        RowsCursor::new(&batch).next_chunk(&self.plan, &self.rows, 1 << 20, 0).unwrap().unwrap()
    }

    /// The longest filler that the encoder takes.
    fn longest(&self, values: &[Value]) -> usize {
        let (mut fits, mut does_not) = (ITEM_MAX_BYTES - OTHERS_MAX_BYTES, ITEM_MAX_BYTES + 1);
        while does_not - fits > 1 {
            let middle = fits.midpoint(does_not);
            match self.encode(middle, values).rows.is_empty() {
                false => fits = middle,
                true => does_not = middle,
            }
        }
        fits
    }
}

#[tokio::test]
async fn around_400_kb_the_encoders_verdict_is_the_stores() {
    let embedded = Embedded::start(None).unwrap();
    let store = DynamoDb::connect(&embedded.store_config()).await.unwrap();
    let key = KeyDef {
        partition: vec!["id".to_owned()],
        sort: Vec::new(),
        partition_attribute: "_pk".to_owned(),
        sort_attribute: "_sk".to_owned(),
    };
    let table = TableDef::new("sizes", ddl::parse(DDL).unwrap(), key, "sizes");
    store.create_table(&table).await.unwrap();
    let encoder = Encoder::new(&table);
    let mut runner = TestRunner::deterministic();
    for _ in 0..ROWS {
        let values = values().new_tree(&mut runner).unwrap().current();
        let longest = encoder.longest(&values);
        for around in AROUND {
            let filler = longest.checked_add_signed(around as isize).unwrap();
            let chunk = encoder.encode(filler, &values);
            let item = match chunk.rows.first() {
                Some(row) => row.item.clone(),
                None => {
                    assert_eq!(chunk.rejects[0].reject.reason, RejectReason::ItemTooLarge);
                    // The same item, written from one that fits.
                    let fitting = encoder.encode(longest, &values).rows[0].item.clone();
                    let longer = String::from_utf8(fitting.json.to_vec()).unwrap();
                    let longer = longer.replacen(&"x".repeat(longest), &"x".repeat(filler), 1);
                    WriteItem { json: Bytes::from(longer), ..fitting }
                }
            };
            let verdict = store.write_one(OneWrite { table: "sizes".into(), item, sequence: None }).await;
            match (around <= 0, &verdict) {
                (true, Ok(_)) | (false, Err(WriteError::Validation { .. })) => {}
                _ => panic!("{around} bytes from the limit the store says {verdict:?} of {values:?}"),
            }
        }
    }
}
