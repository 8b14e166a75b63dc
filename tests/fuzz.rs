//! Whatever bytes come, the decoders end in rows, in rejects or in an error, and never in a panic.
//!
//! Entry points: the Arrow schema and batch, positional rows, keys of reads, stored items, tokens. Inputs are valid samples, damaged:
//! bits turned, words replaced by numbers that are often wrong, pieces cut out, doubled and exchanged. What is new in a
//! sample's outcome makes it a sample, too, so that damage adds up. Coverage-guided fuzzers do this better and need a
//! nightly compiler; this needs nothing.
//!
//! A second in `cargo test`; FOREBAY_FUZZ_SECONDS for each entry point, and FOREBAY_FUZZ_SEED, make it longer and another.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]
#![allow(clippy::disallowed_methods, clippy::print_stdout, reason = "it runs for a time, and says how far it came")]

#[path = "common/issuer.rs"]
mod issuer;

use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use arrow_array::builder::{
    Decimal128Builder, Int64Builder, ListBuilder, MapBuilder, StringBuilder, StringDictionaryBuilder,
};
use arrow_array::types::Int8Type;
use arrow_array::{ArrayRef, BinaryArray, Date32Array, RecordBatch, StringArray, StringViewArray, StructArray};
use arrow_ipc::CompressionType;
use arrow_ipc::writer::{IpcWriteOptions, StreamWriter};
use arrow_schema::{DataType as ArrowType, Field as ArrowField};
use bytes::Bytes;
use forebay::access::parse_access_file;
use forebay::middleware::auth::VerifyTokens as _;
use forebay::middleware::auth::jwt::{KeyTiming, Tokens};
use forebay::payload::arrow::{ArrowPlan, IncomingArrow};
use forebay::payload::decode::RowDecoder;
use forebay::payload::read_key::KeyPlan;
use forebay::payload::rows::{RowsCursor, RowsPlan};
use forebay::payload::shard::ShardCounts;
use forebay::payload::{Chunk, Plan};
use forebay::proto::v1::value::Kind;
use forebay::proto::v1::{ListValue, MapEntry, MapValue, Row, RowBatch, RowKey, StructValue, Value};
use forebay::schema::{KeyDef, StoreAssignment, TableDef, ddl};
use forebay::store::{Attr, Item, WriteOp};
use issuer::SigningKey;
use prost::Message as _;
use serde_json::json;
use tokio_util::sync::CancellationToken;

const DDL: &str = "id STRING NOT NULL, n BIGINT NOT NULL, d DOUBLE, m DECIMAL(20, 3), b BINARY, yes BOOLEAN, day DATE, at TIMESTAMP, \
                   wall TIMESTAMP_NTZ, word VARCHAR(30), list ARRAY<ARRAY<BIGINT>>, map MAP<STRING, BIGINT>, \
                   s STRUCT<a: STRING, b: ARRAY<STRUCT<c: DOUBLE>>>, texts ARRAY<STRING> OPTIONS (as_set = true), v VARIANT, \
                   dt INTERVAL DAY TO SECOND, ym INTERVAL YEAR TO MONTH";
/// Samples that are kept of one entry point.
const MOST_SAMPLES: usize = 400;
/// The longest input, in bytes.
const LONGEST: usize = 16 * 1024;

fn table(mode: StoreAssignment) -> TableDef {
    let key = KeyDef {
        partition: vec!["id".to_owned(), "n".to_owned()],
        sort: vec!["day".to_owned()],
        partition_attribute: "_pk".to_owned(),
        sort_attribute: "_sk".to_owned(),
    };
    let mut schema = ddl::parse(DDL).unwrap();
    schema.fields.iter_mut().find(|field| field.name == "day").unwrap().nullable = false;
    let mut table = TableDef::new("t", schema, key, "t");
    table.store_assignment = mode;
    table.validate().unwrap();
    table
}

fn value(kind: Kind) -> Value {
    Value { kind: Some(kind) }
}

fn text(text: &str) -> Value {
    value(Kind::StringValue(text.to_owned()))
}

fn list(values: Vec<Value>) -> Value {
    value(Kind::ListValue(ListValue { values }))
}

fn sample_row(at: i64) -> Row {
    let entry = |key: &str| MapEntry { key: Some(text(key)), value: Some(value(Kind::IntValue(at))) };
    let object = value(Kind::MapValue(MapValue { entries: vec![entry("k"), entry("é")] }));
    let point = value(Kind::StructValue(StructValue { values: vec![value(Kind::DoubleValue(0.5))] }));
    Row {
        values: vec![
            text(&format!("id\u{1}{at}")),
            value(Kind::IntValue(at)),
            value(Kind::DoubleValue(-1.5e-7)),
            value(Kind::DecimalValue("-12.300".to_owned())),
            value(Kind::BytesValue(vec![0, 255, 7].into())),
            value(Kind::BoolValue(true)),
            value(Kind::DateDays(-1)),
            value(Kind::TimestampMicros(1_700_000_000_000_000)),
            value(Kind::TimestampNtzMicros(-1)),
            text(" 2024-02-29T12:00:00+01:00 "),
            list(vec![list(vec![value(Kind::IntValue(1)), Value::default()]), list(vec![])]),
            object.clone(),
            value(Kind::StructValue(StructValue { values: vec![text("a\"\\"), list(vec![point])] })),
            list(vec![text("x"), text("y"), text("x")]),
            list(vec![object, text("v"), value(Kind::FloatValue(0.1))]),
            value(Kind::DayTimeIntervalMicros(-1)),
            value(Kind::YearMonthIntervalMonths(14)),
        ],
    }
}

/// A sum of what became of an input: inputs with another outcome than all before are worth damaging further.
type Outcome = u64;

fn outcome_of(text: &str) -> Outcome {
    // Numbers are what damage changes all the time.
    let words: String = text.chars().filter(|character| !character.is_ascii_digit()).collect();
    foldhash_of(words.as_bytes())
}

fn foldhash_of(bytes: &[u8]) -> u64 {
    use std::hash::BuildHasher as _;
    foldhash::fast::FixedState::with_seed(7).hash_one(bytes)
}

fn outcome_of_chunk(chunk: &Chunk) -> Outcome {
    // Every row that is taken is JSON of an item that DynamoDB takes for its size.
    for row in &chunk.rows {
        serde_json::from_slice::<serde_json::Value>(&row.item.json).expect("rows are written as JSON");
    }
    let rejects = chunk.rejects.iter().map(|row| outcome_of(&format!("{:?} {}", row.reject.reason, row.reject.path)));
    rejects.fold(chunk.rows.len() as u64, |sum, reject| sum.rotate_left(7) ^ reject)
}

/// An entry point, with what it needs.
type Entry = Box<dyn Fn(&[u8]) -> Outcome>;

fn rows_entry(mode: StoreAssignment) -> Entry {
    let table = table(mode);
    let plan = Plan::compile(&table, &table.schema, WriteOp::Put, 1).unwrap();
    let rows_plan = RowsPlan::compile(&plan).unwrap();
    Box::new(move |input| {
        let mut cursor = RowsCursor::new(input);
        let mut outcome = 0;
        loop {
            match cursor.next_chunk(&plan, &rows_plan, 1 << 16, 0) {
                Ok(Some(chunk)) => outcome ^= outcome_of_chunk(&chunk),
                Ok(None) => return outcome,
                Err(error) => return outcome ^ outcome_of(&error.to_string()),
            }
        }
    })
}

/// A schema message and a batch, with the schema's length before them.
fn joined(schema: &[u8], batch: &[u8]) -> Vec<u8> {
    [&(schema.len() as u32).to_le_bytes()[..], schema, batch].concat()
}

fn arrow_entry(mode: StoreAssignment) -> Entry {
    let table = table(mode);
    Box::new(move |input| {
        let Some((length, rest)) = input.split_first_chunk::<4>() else { return 0 };
        let Some((schema, batch)) = rest.split_at_checked(u32::from_le_bytes(*length) as usize) else { return 1 };
        let incoming = match IncomingArrow::parse(schema) {
            Ok(incoming) => incoming,
            Err(error) => return outcome_of(&error.to_string()),
        };
        let plan = match Plan::compile(&table, incoming.schema(), WriteOp::Put, 1) {
            Ok(plan) => plan,
            Err(error) => return outcome_of(&error.to_string()),
        };
        let arrow = match ArrowPlan::compile(&plan, incoming) {
            Ok(arrow) => arrow,
            Err(error) => return outcome_of(&error.to_string()),
        };
        let mut cursor = match arrow.decode(Bytes::copy_from_slice(batch)) {
            Ok(cursor) => cursor,
            Err(error) => return outcome_of(&error.to_string()),
        };
        let mut outcome = 2;
        loop {
            match cursor.next_chunk(&plan, 1 << 16, 0) {
                Ok(Some(chunk)) => outcome ^= outcome_of_chunk(&chunk),
                Ok(None) => return outcome,
                Err(error) => return outcome ^ outcome_of(&error.to_string()),
            }
        }
    })
}

fn key_entry() -> Entry {
    let keys = KeyPlan::try_new(&table(StoreAssignment::Strict)).unwrap();
    Box::new(move |input| match RowKey::decode(input) {
        Ok(key) => match keys.encode_placed(vec![key], &ShardCounts::default()) {
            Ok(encoded) => encoded.len() as u64,
            Err(error) => outcome_of(&error.to_string()),
        },
        Err(_) => 1,
    })
}

/// DynamoDB's JSON as an item: what no item is, is none.
fn item_of(json: &serde_json::Value) -> Option<Item> {
    json.as_object()?.iter().map(|(name, attr)| Some((name.clone(), attr_of(attr)?))).collect()
}

fn attr_of(json: &serde_json::Value) -> Option<Attr> {
    let (kind, content) = json.as_object()?.iter().next()?;
    let texts = || content.as_array()?.iter().map(|text| Some(text.as_str()?.to_owned())).collect::<Option<Vec<_>>>();
    Some(match kind.as_str() {
        "S" => Attr::S(content.as_str()?.to_owned()),
        "N" => Attr::N(content.as_str()?.to_owned()),
        "B" => Attr::B(content.as_str()?.as_bytes().to_vec().into()),
        "BOOL" => Attr::Bool(content.as_bool()?),
        "NULL" => Attr::Null,
        "SS" => Attr::Ss(texts()?),
        "NS" => Attr::Ns(texts()?),
        "L" => Attr::L(content.as_array()?.iter().map(attr_of).collect::<Option<_>>()?),
        "M" => Attr::M(item_of(content)?),
        _ => return None,
    })
}

fn item_entry() -> Entry {
    let table = table(StoreAssignment::Strict);
    Box::new(move |input| {
        let Some(item) = serde_json::from_slice(input).ok().as_ref().and_then(item_of) else { return 0 };
        match RowDecoder::try_new(&table, &[]).unwrap().decode(item, 0) {
            Ok(_) => 1,
            Err(error) => outcome_of(&error.to_string()),
        }
    })
}

/// A token's header and claims, each on a line; they are signed after the damage, so that the claims are looked at, too.
fn token_entry() -> Entry {
    let key = SigningKey::ec("k");
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("keys.json"), issuer::key_set(&[&key])).unwrap();
    let access = format!(
        "principals: {{ana: {{}}}}\nissuers: [{{issuer: \"{}\", audiences: [{}], jwks_file: keys.json, algorithms: [ES256]}}]",
        issuer::ISSUER,
        issuer::AUDIENCE
    );
    let policy = parse_access_file(&folder.path().join("access.yaml"), &access).unwrap();
    let (sender, policy) = tokio::sync::watch::channel(Arc::new(policy));
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let tokens = {
        let _inside = runtime.enter();
        Tokens::start(policy, KeyTiming::default(), Arc::default(), CancellationToken::new())
    };
    let verify = move |token: &str| runtime.block_on(tokens.verify(token));
    assert!(verify(&key.token(&issuer::claims("ana"))).is_ok(), "the sample itself is a good token");
    Box::new(move |input| {
        let _kept = (&sender, &folder);
        let mut lines = input.splitn(2, |byte| *byte == b'\n').map(issuer::base64);
        let (header, claims) = (lines.next().unwrap_or_default(), lines.next().unwrap_or_default());
        match verify(&key.signed(&format!("{header}.{claims}"))) {
            Ok(_) => 1,
            Err(refusal) => outcome_of(refusal.label()),
        }
    })
}

fn token_samples() -> Vec<Vec<u8>> {
    let claims = issuer::claims("ana");
    let more = [
        (json!({"alg": "ES256", "kid": "k"}), claims.clone()),
        (
            json!({"alg": "ES256", "typ": "JWT", "jwk": {"kty": "EC", "crv": "P-256", "x": "AA", "y": "AA"}, "x5c": ["AA"]}),
            claims.clone(),
        ),
        (json!({"alg": "none", "crit": ["b64"], "b64": false}), claims.clone()),
        (
            json!({"alg": "ES256"}),
            issuer::with(issuer::with(claims, "aud", json!(["forebay", "x"])), "nbf", json!(1.5)),
        ),
    ];
    more.iter().map(|(header, claims)| format!("{header}\n{claims}").into_bytes()).collect()
}

fn arrow_samples() -> Vec<Vec<u8>> {
    let rows = 5i64;
    let mut list = ListBuilder::new(ListBuilder::new(Int64Builder::new()));
    let mut map = MapBuilder::new(None, StringBuilder::new(), Int64Builder::new());
    let mut words = StringDictionaryBuilder::<Int8Type>::new();
    let mut money = Decimal128Builder::new().with_precision_and_scale(20, 3).unwrap();
    for row in 0..rows {
        list.values().values().append_value(row);
        list.values().append(true);
        list.append(row % 2 == 0);
        map.keys().append_value(format!("k{row}"));
        map.values().append_value(row);
        map.append(true).unwrap();
        words.append_value(["one", "two"][row as usize % 2]);
        money.append_option((row % 3 != 0).then_some(i128::from(row) * 1_001));
    }
    let binary = |bytes: &[u8]| -> ArrayRef { Arc::new(BinaryArray::from_iter_values(vec![bytes; rows as usize])) };
    let pair = |name: &str| Arc::new(ArrowField::new(name, ArrowType::Binary, true));
    // The variant 7, as Spark writes it.
    let variant = StructArray::from(vec![(pair("value"), binary(&[12, 7])), (pair("metadata"), binary(&[1, 0, 0]))]);
    let columns: Vec<(&str, ArrayRef)> = vec![
        ("id", Arc::new(StringArray::from_iter_values((0..rows).map(|row| format!("id{row}"))))),
        ("n", Arc::new(arrow_array::Int32Array::from_iter_values(0..rows as i32))),
        ("day", Arc::new(Date32Array::from_iter_values(0..rows as i32))),
        ("word", Arc::new(words.finish())),
        ("m", Arc::new(money.finish())),
        ("list", Arc::new(list.finish())),
        ("map", Arc::new(map.finish())),
        ("v", Arc::new(variant)),
    ];
    let views: Vec<(&str, ArrayRef)> = vec![
        ("id", Arc::new(StringViewArray::from_iter_values(["a text that is longer than a view", "b"]))),
        ("n", Arc::new(arrow_array::UInt64Array::from(vec![1, u64::MAX]))),
        ("day", Arc::new(arrow_array::Date64Array::from(vec![0, 86_400_000]))),
        ("d", Arc::new(arrow_array::Float32Array::from(vec![f32::NAN, 1.0]))),
    ];
    let mut samples = Vec::new();
    for (columns, codec) in [
        (columns.clone(), None),
        (columns.clone(), Some(CompressionType::LZ4_FRAME)),
        (columns, Some(CompressionType::ZSTD)),
        (views, None),
    ] {
        let batch = RecordBatch::try_from_iter(columns).unwrap();
        let options = IpcWriteOptions::default().try_with_compression(codec).unwrap();
        let mut writer = StreamWriter::try_new_with_options(Vec::new(), &batch.schema(), options).unwrap();
        let schema_bytes = writer.get_ref().len();
        writer.write(&batch).unwrap();
        let bytes = writer.into_inner().unwrap();
        samples.push(joined(&bytes[..schema_bytes], &bytes[schema_bytes..]));
    }
    samples
}

fn row_samples() -> Vec<Vec<u8>> {
    vec![RowBatch { rows: (0..3).map(sample_row).collect() }.encode_to_vec(), sample_row(i64::MIN).encode_to_vec()]
}

fn key_samples() -> Vec<Vec<u8>> {
    let key = |values: Vec<Value>| RowKey { values }.encode_to_vec();
    vec![key(vec![text("id\u{0}"), value(Kind::IntValue(-1)), value(Kind::DateDays(3))]), key(vec![])]
}

fn item_samples() -> Vec<Vec<u8>> {
    let table = table(StoreAssignment::Strict);
    let plan = Plan::compile(&table, &table.schema, WriteOp::Put, 1).unwrap();
    let rows_plan = RowsPlan::compile(&plan).unwrap();
    let batch = RowBatch { rows: vec![sample_row(1)] }.encode_to_vec();
    let chunk = RowsCursor::new(&batch).next_chunk(&plan, &rows_plan, 1 << 20, 0).unwrap().unwrap();
    assert_eq!(chunk.rejects, [], "the sample itself is a good row");
    vec![chunk.rows[0].item.json.to_vec()]
}

/// Damages an input.
fn damage(random: &mut fastrand::Rng, input: &mut Vec<u8>, other: &[u8]) {
    const WORDS: [i64; 12] = [0, 1, -1, 2, 7, 127, 255, 4096, i32::MAX as i64, i32::MIN as i64, i64::MAX, i64::MIN];
    for _ in 0..random.usize(1..4) {
        if input.is_empty() {
            input.push(random.u8(..));
        }
        let at = random.usize(..input.len());
        let length = random.usize(..=(input.len() - at).min(32));
        match random.u8(..7) {
            0 => input[at] ^= 1 << random.u8(..8),
            1 => input[at] = random.u8(..),
            2 => {
                let width = [1, 2, 4, 8][random.usize(..4)].min(input.len() - at);
                let word = WORDS[random.usize(..WORDS.len())].to_le_bytes();
                input[at..at + width].copy_from_slice(&word[..width]);
            }
            3 => input.truncate(at),
            4 => drop(input.drain(at..at + length)),
            5 => {
                let piece = input[at..at + length].to_vec();
                input.splice(at..at, piece);
            }
            _ => {
                let from = random.usize(..other.len().max(1)).min(other.len());
                let piece = &other[from..other.len().min(from + length)];
                input.splice(at..at + piece.len().min(input.len() - at), piece.iter().copied());
            }
        }
    }
    input.truncate(LONGEST);
}

fn fuzz(name: &str, entry: &Entry, mut samples: Vec<Vec<u8>>) {
    let number = |name: &str, default: u64| {
        std::env::var(name)
            .map_or(default, |text| text.parse().unwrap_or_else(|_| panic!("{name}={text} is no number")))
    };
    let (seconds, seed) = (number("FOREBAY_FUZZ_SECONDS", 1), number("FOREBAY_FUZZ_SEED", 1));
    let mut random = fastrand::Rng::with_seed(seed);
    let mut seen: HashSet<Outcome> = samples.iter().map(|sample| entry(sample)).collect();
    let (until, mut inputs) = (Instant::now() + Duration::from_secs(seconds), 0u64);
    while Instant::now() < until {
        for _ in 0..64 {
            let mut input = samples[random.usize(..samples.len())].clone();
            let other = random.usize(..samples.len());
            damage(&mut random, &mut input, &samples[other]);
            inputs += 1;
            let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| entry(&input)));
            let outcome = outcome.unwrap_or_else(|_| {
                let hex: String = input.iter().map(|byte| format!("{byte:02x}")).collect();
                panic!("{name} panics on the input {hex} (seed {seed}, input {inputs})");
            });
            if seen.insert(outcome) && samples.len() < MOST_SAMPLES {
                samples.push(input);
            }
        }
    }
    println!("{name}: {inputs} inputs, {} outcomes", seen.len());
    assert!(seen.len() > 2, "{name}: damage that changes nothing tests nothing");
}

#[test]
fn damaged_positional_rows_never_panic() {
    for mode in [StoreAssignment::Strict, StoreAssignment::Legacy] {
        fuzz("rows", &rows_entry(mode), row_samples());
    }
}

#[test]
fn damaged_arrow_schemas_and_batches_never_panic() {
    for mode in [StoreAssignment::Strict, StoreAssignment::Legacy] {
        fuzz("arrow", &arrow_entry(mode), arrow_samples());
    }
}

#[test]
fn damaged_keys_never_panic() {
    fuzz("keys", &key_entry(), key_samples());
}

#[test]
fn damaged_tokens_never_panic() {
    fuzz("tokens", &token_entry(), token_samples());
}

#[test]
fn damaged_items_never_panic() {
    fuzz("items", &item_entry(), item_samples());
}
