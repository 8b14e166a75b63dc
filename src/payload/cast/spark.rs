//! Every pair of types in every mode, against what Spark itself stores.
//!
//! `tests/types/casts.tsv` was made by a real Spark (`tests/spark` makes it again and checks it); here every row of it goes
//! through a plan, the encoder and the decoder. Where Spark stores a value, the same must be read back; where it stores a null
//! or fails, the row must be rejected. What differs on purpose is in `tests/types/differences.tsv`, each with its reason, and
//! a reason that nothing needs any more fails the test.

use std::collections::{BTreeMap, HashMap};

use prost::Message as _;

use crate::payload::decode::{Decoded, RowDecoder};
use crate::payload::number::{Decimal, Plain};
use crate::payload::rows::{RowsCursor, RowsPlan};
use crate::payload::{Plan, PlanError};
use crate::proto::v1::value::Kind;
use crate::proto::v1::{Row, RowBatch, Value};
use crate::schema::{DataType, Field, KeyDef, Schema, StoreAssignment, TableDef, ddl};
use crate::store::WriteOp;

const CASTS: &str = include_str!("../../../tests/types/casts.tsv");
const DIFFERENCES: &str = include_str!("../../../tests/types/differences.tsv");

/// What became of a value.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Stored {
    /// The pair of types is refused when the session opens.
    Refused,
    /// The row is rejected.
    Rejected,
    /// This is read back.
    Value(String),
}

impl Stored {
    fn of_spark(text: &str) -> Self {
        match text {
            "refused" => Self::Refused,
            "error" | "null" => Self::Rejected,
            // Two writers of JSON escape different characters.
            text if text.starts_with('"') => {
                let text: String = serde_json::from_str(text).unwrap();
                Self::Value(serde_json::to_string(&text).unwrap())
            }
            value => Self::Value(value.to_owned()),
        }
    }

    fn name(&self) -> &str {
        match self {
            Self::Refused => "refused",
            Self::Rejected => "rejected",
            Self::Value(value) => value,
        }
    }
}

/// A difference that is intended. `*` stands for anything.
struct Difference {
    from: &'static str,
    to: &'static str,
    policy: &'static str,
    value: &'static str,
    spark: &'static str,
    forebay: &'static str,
    why: &'static str,
}

impl Difference {
    /// Whether this is why a case differs. `ansi` is what Spark's ANSI policy makes of the same value.
    fn covers(&self, case: &Case, stored: &Stored, ansi: Option<&Stored>) -> bool {
        let any_of = |pattern: &str, text: &str| pattern == "*" || pattern.split('|').any(|one| one == text);
        let result = |pattern: &str, stored: &Stored| {
            any_of(pattern, stored.name()) || (pattern == "a value" && matches!(stored, Stored::Value(_)))
        };
        let ours = match self.forebay {
            "unpadded" => {
                let text = |stored: &Stored| serde_json::from_str::<String>(stored.name()).ok();
                text(&case.spark).zip(text(stored)).is_some_and(|(spark, ours)| {
                    spark.ends_with(' ') && spark.trim_end_matches(' ') == ours.trim_end_matches(' ')
                })
            }
            "rejected as by ANSI" => *stored == Stored::Rejected && ansi == Some(&Stored::Rejected),
            "exact" => is_exact(case, stored, ansi),
            pattern => result(pattern, stored),
        };
        any_of(self.from, case.from)
            && any_of(self.to, case.to)
            && any_of(self.policy, case.policy)
            && any_of(self.value, case.value)
            && result(self.spark, &case.spark)
            && ours
    }
}

/// STRICT's own promise: what is stored is what ANSI stores, and only what ANSI would change, or refuse, is rejected.
fn is_exact(case: &Case, stored: &Stored, ansi: Option<&Stored>) -> bool {
    let is_float = |name: &str| matches!(name, "FLOAT" | "DOUBLE");
    let is_integer = |name: &str| matches!(name, "TINYINT" | "SMALLINT" | "INT" | "BIGINT");
    match (stored, ansi) {
        (Stored::Value(ours), Some(Stored::Value(theirs))) => ours == if theirs == "-0.0" { "0.0" } else { theirs },
        // The texts of binary fractions do not tell whether they are exact; `exact.rs` tests that.
        (Stored::Rejected, Some(Stored::Value(theirs)))
            if is_integer(case.to) || !(is_float(case.from) || is_float(case.to)) =>
        {
            Decimal::parse(case.value).map(Decimal::normalized) != Decimal::parse(theirs).map(Decimal::normalized)
        }
        (Stored::Rejected, _) => true,
        _ => false,
    }
}

struct Case {
    from: &'static str,
    value: &'static str,
    to: &'static str,
    policy: &'static str,
    spark: Stored,
}

fn columns<const N: usize>(line: &'static str) -> [&'static str; N] {
    let columns: Vec<_> = line.split('\t').collect();
    columns.try_into().unwrap_or_else(|columns| panic!("{columns:?} are not {N} columns"))
}

fn cases() -> impl Iterator<Item = Case> {
    CASTS.lines().skip(1).map(|line| {
        let [from, value, to, policy, spark] = columns(line);
        Case { from, value, to, policy, spark: Stored::of_spark(spark) }
    })
}

fn data_type(name: &str) -> DataType {
    ddl::parse(&format!("x {name}")).unwrap().fields.remove(0).data_type
}

/// The value of a neutral text.
fn value(data_type: &DataType, text: &str) -> Kind {
    match data_type {
        DataType::Byte | DataType::Short | DataType::Integer | DataType::Long => Kind::IntValue(text.parse().unwrap()),
        DataType::Float => Kind::FloatValue(text.parse().unwrap()),
        DataType::Double => Kind::DoubleValue(text.parse().unwrap()),
        DataType::Decimal { .. } => Kind::DecimalValue(text.to_owned()),
        DataType::Boolean => Kind::BoolValue(text.parse().unwrap()),
        DataType::Binary => {
            let byte = |at: usize| u8::from_str_radix(&text[at..at + 2], 16).unwrap();
            Kind::BytesValue((0..text.len()).step_by(2).map(byte).collect::<Vec<_>>().into())
        }
        DataType::Date => Kind::DateDays(text.parse().unwrap()),
        DataType::Timestamp => Kind::TimestampMicros(text.parse().unwrap()),
        DataType::TimestampNtz => Kind::TimestampNtzMicros(text.parse().unwrap()),
        DataType::DayTimeInterval => Kind::DayTimeIntervalMicros(text.parse().unwrap()),
        DataType::YearMonthInterval => Kind::YearMonthIntervalMonths(text.parse().unwrap()),
        _ => Kind::StringValue(serde_json::from_str(text).unwrap()),
    }
}

/// The neutral text of a value that was read.
fn neutral(kind: &Kind, scale: i32) -> String {
    match kind {
        Kind::BoolValue(value) => value.to_string(),
        Kind::IntValue(value) => value.to_string(),
        Kind::DoubleValue(value) => float_text(&format!("{value:?}")),
        Kind::FloatValue(value) => float_text(&format!("{value:?}")),
        Kind::StringValue(value) => serde_json::to_string(value).unwrap(),
        Kind::BytesValue(value) => value.iter().map(|byte| format!("{byte:02x}")).collect(),
        Kind::DecimalValue(value) => {
            Plain::of(Decimal::parse(value).unwrap().rescale(scale).unwrap()).as_str().to_owned()
        }
        Kind::TimestampMicros(value) | Kind::TimestampNtzMicros(value) | Kind::DayTimeIntervalMicros(value) => {
            value.to_string()
        }
        Kind::DateDays(value) => value.to_string(),
        Kind::YearMonthIntervalMonths(value) => value.to_string(),
        other => panic!("{other:?} is no scalar"),
    }
}

fn float_text(debug: &str) -> String {
    match debug {
        "inf" => "Infinity".to_owned(),
        "-inf" => "-Infinity".to_owned(),
        finite => finite.to_owned(),
    }
}

/// One table for each pair of types and policy, with all dates and times as numbers, so that no year is too large for them,
/// and with NaN and infinities as text.
struct Pair {
    table: TableDef,
    plan: Result<(Plan, RowsPlan), PlanError>,
    from: DataType,
    scale: i32,
}

impl Pair {
    fn new(case: &Case) -> Self {
        let (from, to) = (data_type(case.from), data_type(case.to));
        let mut field = Field::new("x", to.clone(), true);
        field.options.time_encoding = Some(crate::schema::TimeEncoding::Number);
        field.options.non_finite = crate::schema::NonFinite::String;
        let key = KeyDef {
            partition: vec!["id".into()],
            sort: vec![],
            partition_attribute: "_pk".into(),
            sort_attribute: "_sk".into(),
        };
        let id = Field::new("id", DataType::Long, false);
        let mut table = TableDef::new("t", Schema { fields: vec![id.clone(), field] }, key, "t");
        table.store_assignment = match case.policy {
            "STRICT" => StoreAssignment::Strict,
            "ANSI" => StoreAssignment::Ansi,
            "LEGACY" => StoreAssignment::Legacy,
            other => panic!("{other}"),
        };
        let session = Schema { fields: vec![id, Field::new("x", from.clone(), true)] };
        let plan = Plan::compile(&table, &session, WriteOp::Put, 0).and_then(|plan| {
            let rows = RowsPlan::compile(&plan)?;
            Ok((plan, rows))
        });
        let scale = if let DataType::Decimal { scale, .. } = to { i32::from(scale) } else { 0 };
        Self { table, plan, from, scale }
    }

    fn store(&self, text: &str) -> Stored {
        let Ok((plan, rows)) = &self.plan else { return Stored::Refused };
        let values = vec![Value { kind: Some(Kind::IntValue(1)) }, Value { kind: Some(value(&self.from, text)) }];
        let batch = RowBatch { rows: vec![Row { values }] }.encode_to_vec();
        let chunk = RowsCursor::new(&batch).next_chunk(plan, rows, 1 << 20, 0).unwrap().unwrap();
        let Some(row) = chunk.rows.first() else {
            let reject = &chunk.rejects[0].reject;
            assert!(reject.path == "x" && !reject.declared.is_empty() && !reject.found.is_empty(), "{reject:?}");
            assert!(!reject.hint.is_empty(), "{reject:?}");
            return Stored::Rejected;
        };
        let json = serde_json::from_slice(&row.item.json).unwrap();
        let decoder = RowDecoder::try_new(&self.table, &[]).unwrap();
        match decoder.decode(crate::payload::decode::item_of_json(&json), 0) {
            Ok(Decoded::Row(row)) => match &row.values[1].kind {
                Some(kind) => Stored::Value(neutral(kind, self.scale)),
                None => panic!("{text} became null"),
            },
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn every_value_is_stored_as_spark_stores_it_or_differs_for_a_written_reason() {
    let differences: Vec<Difference> = DIFFERENCES
        .lines()
        .skip(1)
        .map(|line| {
            let [from, to, policy, value, spark, forebay, why] = columns(line);
            assert!(!why.is_empty(), "{line}");
            Difference { from, to, policy, value, spark, forebay, why }
        })
        .collect();
    let mut used = vec![0usize; differences.len()];
    let mut pairs: HashMap<(&str, &str, &str), Pair> = HashMap::new();
    let mut unexplained: BTreeMap<(&str, &str, &str), Vec<String>> = BTreeMap::new();
    let mut compared = 0;
    let by_ansi: HashMap<_, _> = cases()
        .filter(|case| case.policy == "ANSI")
        .map(|case| ((case.from, case.to, case.value), case.spark))
        .collect();
    for case in cases() {
        let pair = pairs.entry((case.from, case.to, case.policy)).or_insert_with(|| Pair::new(&case));
        let stored = pair.store(case.value);
        compared += 1;
        if stored == case.spark {
            continue;
        }
        let ansi = by_ansi.get(&(case.from, case.to, case.value));
        match differences.iter().position(|difference| difference.covers(&case, &stored, ansi)) {
            Some(at) => used[at] += 1,
            None => {
                let line = format!("{} spark {} forebay {}", case.value, case.spark.name(), stored.name());
                unexplained.entry((case.from, case.to, case.policy)).or_default().push(line);
            }
        }
    }
    let report: Vec<String> = unexplained
        .iter()
        .map(|((from, to, policy), lines)| {
            format!("{from} -> {to} {policy} ({}): {}", lines.len(), lines[..lines.len().min(6)].join("; "))
        })
        .collect();
    assert!(report.is_empty(), "{} pairs differ from Spark:\n{}", report.len(), report.join("\n"));
    let unused = differences.iter().zip(&used).filter(|(_, used)| **used == 0).map(|(difference, _)| difference.why);
    assert_eq!(unused.collect::<Vec<_>>(), [""; 0], "differences that no row of the table has");
    assert!(compared > 40_000, "{compared} rows");
}
