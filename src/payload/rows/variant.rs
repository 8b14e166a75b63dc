//! Positional values into variant columns: each is stored as what it is.
//!
//! A struct by position has no names of its own. A session that declares the column as a struct gives them; one that
//! declares it as variant, or as a struct of the binaries `value` and `metadata`, may send Spark's encoding as a struct; any
//! other struct rejects its row.

use super::{Kinded, Positional, entry_parts, kind, value_kind};
use crate::payload::item::ItemWriter;
use crate::payload::leaf::{Leaf, Presence, Put};
use crate::payload::plan::PlanError;
use crate::payload::reject::{Reject, RejectReason};
use crate::payload::variant::{ListWriter, ObjectWriter, VariantTarget, check_level};
use crate::payload::wire::{Wire, WireError, WireValue};
use crate::schema::{DataType, Field};

/// What the session's declared type says about values that go into a variant.
#[derive(Debug)]
pub(super) enum Natural {
    /// Nothing: values say what they are.
    Any,
    /// A variant: a struct is Spark's pair of binaries, the value and the metadata.
    Pair,
    /// A struct of the binaries `metadata` and `value`: the pair, the other way round.
    PairReversed,
    /// What it says about the elements of a list or the values of a map.
    Elements(Box<Natural>),
    /// The names of a struct's fields by position.
    Struct(Vec<(Box<str>, Natural)>),
}

impl Natural {
    /// Compiles the session's declared type of a column that the table declares as variant.
    pub(super) fn compile(incoming: &DataType, path: &str) -> Result<Self, PlanError> {
        Ok(match incoming {
            DataType::Variant => Self::Pair,
            DataType::Array { element, .. } => Self::Elements(Box::new(Self::compile(element, &format!("{path}[]"))?)),
            DataType::Map { key, value, .. } if key.is_text() => {
                Self::Elements(Box::new(Self::compile(value, &format!("{path}{{}}"))?))
            }
            DataType::Map { .. } => {
                return Err(PlanError::TypeMismatch {
                    path: path.to_owned(),
                    found: incoming.to_string(),
                    declared: "variant, whose maps have text for keys".to_owned(),
                    hint: "",
                });
            }
            // Arrow's rule, so that the same rows are stored the same, whichever way they come.
            DataType::Struct(fields) if let Some(pair) = Self::pair(fields) => pair,
            DataType::Struct(fields) => {
                let field = |field: &Field| {
                    let natural = Self::compile(&field.data_type, &format!("{path}.{}", field.name))?;
                    Ok((field.name.as_str().into(), natural))
                };
                Self::Struct(fields.iter().map(field).collect::<Result<_, PlanError>>()?)
            }
            _ => Self::Any,
        })
    }

    /// The two fields that Spark's variants have outside Spark; `None` for any other struct.
    fn pair(fields: &[Field]) -> Option<Self> {
        match fields {
            [first, second] if first.data_type == DataType::Binary && second.data_type == DataType::Binary => {
                match (first.name.as_str(), second.name.as_str()) {
                    ("value", "metadata") => Some(Self::Pair),
                    ("metadata", "value") => Some(Self::PairReversed),
                    _ => None,
                }
            }
            _ => None,
        }
    }

    fn element(&self) -> &Self {
        match self {
            Self::Elements(natural) => natural,
            _ => &Self::Any,
        }
    }

    fn field(&self, name: &str) -> &Self {
        match self {
            Self::Elements(natural) => natural,
            Self::Struct(fields) => {
                fields.iter().find(|(field, _)| **field == *name).map_or(&Self::Any, |(_, natural)| natural)
            }
            Self::Any | Self::Pair | Self::PairReversed => &Self::Any,
        }
    }
}

impl<'a> Positional<'a, '_> {
    /// Appends a value of any kind.
    pub(super) fn put_variant(
        &self,
        value: Kinded<'a>,
        target: &VariantTarget,
        natural: &Natural,
        level: usize,
        writer: &mut ItemWriter,
    ) -> Put {
        let Some((number, value)) = value else { return Ok(Presence::Null) };
        match (number, value) {
            (kind::LIST, WireValue::Bytes(message)) => {
                check_level(level)?;
                let mut list = ListWriter::begin(writer);
                let mut wire = Wire::new(message);
                while let Some(value) = self.note(wire.next_message())? {
                    let value = self.note(value_kind(value))?;
                    list.put(writer, |w| self.put_variant(value, target, natural.element(), level + 1, w))?;
                }
                list.finish(writer)
            }
            (kind::MAP, WireValue::Bytes(message)) => {
                check_level(level)?;
                let mut object = ObjectWriter::begin(target, writer);
                let mut wire = Wire::new(message);
                while let Some(entry) = self.note(wire.next_message())? {
                    let (key, value) = self.note(entry_parts(entry))?;
                    let Some((kind::STRING, WireValue::Bytes(name))) = key else {
                        return Err(mismatch("a variant's maps must have text for keys", "map"));
                    };
                    let name = self.utf8(name)?;
                    object.put(writer, name, |w| self.put_variant(value, target, natural.field(name), level + 1, w))?;
                }
                object.finish(writer)
            }
            (kind::STRUCT, WireValue::Bytes(message)) => match natural {
                Natural::Struct(fields) => self.put_named(message, target, fields, level, writer),
                Natural::Pair => {
                    let [value, metadata] = self.pair(message)?;
                    target.put_encoded(writer, metadata, value, level)
                }
                Natural::PairReversed => {
                    let [metadata, value] = self.pair(message)?;
                    target.put_encoded(writer, metadata, value, level)
                }
                Natural::Any | Natural::Elements(_) => Err(mismatch("a struct has no names in a variant", "struct")),
            },
            (kind::DECIMAL, WireValue::Bytes(text)) => target.put_decimal_text(writer, self.utf8(text)?),
            _ => match scalar(target, number) {
                Some(leaf) => self.put_scalar(leaf, number, value, writer),
                None => self.note(Err(WireError("a value's kind"))),
            },
        }
    }

    /// A struct whose names the session has declared.
    fn put_named(
        &self,
        message: &'a [u8],
        target: &VariantTarget,
        fields: &[(Box<str>, Natural)],
        level: usize,
        writer: &mut ItemWriter,
    ) -> Put {
        check_level(level)?;
        // The session's schema was checked to have no name twice.
        let mut object = ObjectWriter::begin_distinct(target, writer);
        let mut wire = Wire::new(message);
        let mut declared = fields.iter();
        while let Some(value) = self.note(wire.next_message())? {
            let Some((name, natural)) = declared.next() else {
                let message = format!("the struct has more values than its {} declared fields", fields.len());
                return Err(Reject::new(RejectReason::SurplusValue, message));
            };
            let value = self.note(value_kind(value))?;
            object.put(writer, name, |w| self.put_variant(value, target, natural, level + 1, w))?;
        }
        object.finish(writer)
    }

    /// The two binaries of Spark's encoding.
    fn pair(&self, message: &'a [u8]) -> Result<[&'a [u8]; 2], Box<Reject>> {
        let mut wire = Wire::new(message);
        let mut binaries = [None; 2];
        for binary in &mut binaries {
            if let Some(value) = self.note(wire.next_message())?
                && let Some((kind::BYTES, WireValue::Bytes(bytes))) = self.note(value_kind(value))?
            {
                *binary = Some(bytes);
            }
        }
        match (binaries, self.note(wire.next_message())?) {
            ([Some(first), Some(second)], None) => Ok([first, second]),
            _ => Err(mismatch(
                "a struct in a variant must be Spark's two binaries, the value and its metadata",
                "struct",
            )),
        }
    }
}

#[cold]
fn mismatch(message: &str, found: &str) -> Box<Reject> {
    Reject::new(RejectReason::TypeMismatch, message)
        .of_types("variant", found)
        .hint("send what has names as a map with text keys")
}

/// The leaf of a scalar kind; `None` for a number that is no such kind.
fn scalar(target: &VariantTarget, number: u32) -> Option<&Leaf> {
    Some(match number {
        kind::BOOL => &target.boolean,
        kind::INT => &target.integer,
        kind::DOUBLE => &target.double,
        kind::FLOAT => &target.float,
        kind::STRING => &target.text,
        kind::BYTES => &target.binary,
        kind::TIMESTAMP => &target.timestamp,
        kind::TIMESTAMP_NTZ => &target.timestamp_ntz,
        kind::DATE => &target.date,
        kind::DAY_TIME => &target.day_time,
        kind::YEAR_MONTH => &target.year_month,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use prost::Message as _;
    use serde_json::json;

    use super::*;
    use crate::payload::plan::Plan;
    use crate::payload::rows::{RowsCursor, RowsPlan};
    use crate::payload::variant::encoder::{any_sample, any_style, encode, stored};
    use crate::payload::variant::vectors::SPARK;
    use crate::proto::v1::{self, value::Kind};
    use crate::schema::{KeyDef, Schema, TableDef};
    use crate::store::WriteOp;

    type Outcome = Result<serde_json::Value, (String, RejectReason)>;

    fn v(kind: Kind) -> v1::Value {
        v1::Value { kind: Some(kind) }
    }

    fn text(text: &str) -> v1::Value {
        v(Kind::StringValue(text.into()))
    }

    fn int(value: i64) -> v1::Value {
        v(Kind::IntValue(value))
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

    fn pair(value: Vec<u8>, metadata: Vec<u8>) -> v1::Value {
        fields(vec![v(Kind::BytesValue(value.into())), v(Kind::BytesValue(metadata.into()))])
    }

    fn list_of(element: DataType) -> DataType {
        DataType::Array { element: Box::new(element), contains_null: true }
    }

    fn schema(data_type: DataType) -> Schema {
        Schema { fields: vec![Field::new("id", DataType::String, false), Field::new("v", data_type, true)] }
    }

    fn plan(table: DataType, session: DataType) -> Result<(Plan, RowsPlan), PlanError> {
        let key = KeyDef {
            partition: vec!["id".into()],
            sort: vec![],
            partition_attribute: "_pk".into(),
            sort_attribute: "_sk".into(),
        };
        let table = TableDef::new("t", schema(table), key, "t");
        let plan = Plan::compile(&table, &schema(session), WriteOp::Put, 1)?;
        let rows_plan = RowsPlan::compile(&plan)?;
        Ok((plan, rows_plan))
    }

    /// What becomes of a value that a session of this type sends into a column of that type.
    fn put_as(table: DataType, session: DataType, value: v1::Value) -> Outcome {
        let (plan, rows_plan) = plan(table, session).unwrap();
        let bytes = v1::RowBatch { rows: vec![v1::Row { values: vec![text("k"), value] }] }.encode_to_vec();
        let mut chunk = RowsCursor::new(&bytes).next_chunk(&plan, &rows_plan, 1 << 20, 0).unwrap().unwrap();
        match chunk.rejects.pop() {
            Some(row) => Err((row.reject.path, row.reject.reason)),
            None => Ok(serde_json::from_slice::<serde_json::Value>(&chunk.rows[0].item.json).unwrap()["v"].take()),
        }
    }

    fn put(value: v1::Value) -> Outcome {
        put_as(DataType::Variant, DataType::Variant, value)
    }

    #[test]
    fn every_kind_of_value_is_stored_as_it_is() {
        let n = |text: &str| json!({ "N": text });
        for (kind, expected) in [
            (Kind::BoolValue(true), json!({"BOOL": true})),
            (Kind::IntValue(i64::MIN), n("-9223372036854775808")),
            (Kind::DoubleValue(0.1), n("0.1")),
            (Kind::DoubleValue(3.0), n("3")),
            (Kind::FloatValue(0.1), n("0.1")),
            (Kind::StringValue(String::new()), json!({"S": ""})),
            (Kind::BytesValue("ab".into()), json!({"B": "YWI="})),
            (Kind::DecimalValue("-12.50".into()), n("-12.5")),
            (Kind::DecimalValue("1e125".into()), n(&format!("1{}", "0".repeat(125)))),
            (Kind::TimestampMicros(-1), n("-1")),
            (Kind::TimestampNtzMicros(0), json!({"S": "1970-01-01T00:00:00.000000"})),
            (Kind::DateDays(-1), json!({"S": "1969-12-31"})),
            (Kind::DayTimeIntervalMicros(7), n("7")),
            (Kind::YearMonthIntervalMonths(14), n("14")),
        ] {
            let inside = json!({"L": [expected.clone(), {"NULL": true}]});
            assert_eq!(put(list(vec![v(kind.clone()), v1::Value::default()])), Ok(inside));
            assert_eq!(put(v(kind)), Ok(expected));
        }
        assert_eq!(put(v1::Value::default()), Ok(json!(null)), "a null is an absent attribute");
        let nested = map(vec![(text("b"), list(vec![map(vec![])])), (text("a"), int(1))]);
        assert_eq!(put(nested), Ok(json!({"M": {"b": {"L": [{"M": {}}]}, "a": {"N": "1"}}})));
    }

    #[test]
    fn what_does_not_fit_is_rejected_with_its_place_inside_the_variant() {
        use RejectReason as Reason;
        let nested = |levels: usize| (0..levels).fold(int(1), |inner, _| list(vec![inner]));
        assert!(put(nested(32)).is_ok());
        for (value, path, reason) in [
            (map(vec![(text("a"), list(vec![v(Kind::DoubleValue(f64::NAN))]))]), "v.a[0]", Reason::NonFinite),
            (v(Kind::DoubleValue(1e300)), "v", Reason::OutOfRange),
            (v(Kind::DecimalValue("1e126".into())), "v", Reason::OutOfRange),
            (v(Kind::DecimalValue("12345e2147483647".into())), "v", Reason::OutOfRange),
            (v(Kind::DecimalValue("1".repeat(39))), "v", Reason::OutOfRange),
            (v(Kind::DecimalValue("x".into())), "v", Reason::OutOfRange),
            (map(vec![(text("a"), int(1)), (text("a"), int(1))]), "v.a", Reason::DuplicateMapKey),
            (map(vec![(text(""), int(1))]), "v", Reason::OutOfRange),
            (list(vec![map(vec![(int(1), int(1))])]), "v[0]", Reason::TypeMismatch),
            (list(vec![fields(vec![int(1)])]), "v[0]", Reason::TypeMismatch),
            (list(vec![pair(vec![0], vec![1, 0, 0])]), "v[0]", Reason::TypeMismatch),
            (fields(vec![int(1)]), "v", Reason::TypeMismatch),
            (fields(vec![]), "v", Reason::TypeMismatch),
            (pair(vec![4], vec![]), "v", Reason::Malformed),
            (list(vec![text(&"x".repeat(300_000)), text(&"x".repeat(300_000))]), "", Reason::ItemTooLarge),
        ] {
            assert_eq!(put(value), Err((path.to_owned(), reason)), "{path}");
        }
        let reason = put(nested(33)).map_err(|(_, reason)| reason);
        assert_eq!(reason, Err(Reason::TooDeep));
        let surplus = fields(vec![v(Kind::BytesValue("".into())); 3]);
        assert_eq!(put(surplus), Err(("v".to_owned(), Reason::TypeMismatch)));
    }

    #[test]
    fn a_session_may_send_sparks_two_binaries() {
        let variants = list_of(DataType::Variant);
        for vector in SPARK {
            let value = || pair(vector.value(), vector.metadata());
            assert_eq!(put(value()), Ok(vector.stored()), "{}", vector.source);
            let stored = if vector.stored().is_null() { json!({"NULL": true}) } else { vector.stored() };
            let in_list = put_as(variants.clone(), variants.clone(), list(vec![value()]));
            assert_eq!(in_list, Ok(json!({ "L": [stored] })), "{}", vector.source);
        }
    }

    #[test]
    fn a_session_may_declare_what_it_sends() {
        let point =
            DataType::Struct(vec![Field::new("x", DataType::Long, true), Field::new("of", DataType::Variant, true)]);
        let points = list_of(point);
        let put_points = |value| put_as(DataType::Variant, points.clone(), value);
        let value = list(vec![fields(vec![int(1), pair(vec![5, b'a'], vec![1, 0, 0])]), fields(vec![int(2)])]);
        let expected = json!({"L": [{"M": {"x": {"N": "1"}, "of": {"S": "a"}}}, {"M": {"x": {"N": "2"}}}]});
        assert_eq!(put_points(value), Ok(expected));
        let by_name = list(vec![map(vec![(text("of"), pair(vec![4], vec![1, 0, 0])), (text("more"), int(1))])]);
        assert_eq!(put_points(by_name), Ok(json!({"L": [{"M": {"of": {"BOOL": true}, "more": {"N": "1"}}}]})));
        let surplus = put_points(list(vec![fields(vec![int(1), int(1), int(1)])]));
        assert_eq!(surplus, Err(("v[0]".to_owned(), RejectReason::SurplusValue)));
        assert_eq!(put_as(DataType::Variant, DataType::Long, text("x")), Ok(json!({"S": "x"})));
        let counts =
            DataType::Map { key: Box::new(DataType::Long), value: Box::new(DataType::Long), value_contains_null: true };
        let error = plan(DataType::Variant, list_of(counts)).map(|_| ()).unwrap_err();
        let expected = "column `v[]`: map<bigint,bigint> does not fit the declared type variant, whose maps have text \
                        for keys";
        assert_eq!(error.to_string(), expected);
        let error = plan(DataType::Long, DataType::Array { element: Box::new(DataType::Variant), contains_null: true });
        assert!(matches!(error, Err(PlanError::TypeMismatch { .. })));
    }

    #[test]
    fn sparks_two_binaries_are_known_by_their_names_too() {
        let of = |[first, second]: [&str; 2]| {
            let binary = |name| Field::new(name, DataType::Binary, false);
            DataType::Struct(vec![binary(first), binary(second)])
        };
        let (value, metadata) = (vec![5, b'a'], vec![1, 0, 0]);
        let stored = Ok(json!({"S": "a"}));
        let sent = pair(value.clone(), metadata.clone());
        assert_eq!(put_as(DataType::Variant, of(["value", "metadata"]), sent.clone()), stored);
        assert_eq!(put_as(DataType::Variant, of(["metadata", "value"]), pair(metadata, value)), stored);
        let others = json!({"M": {"value": {"B": "BWE="}, "other": {"B": "AQAA"}}});
        assert_eq!(put_as(DataType::Variant, of(["value", "other"]), sent), Ok(others));
    }

    #[test]
    fn a_field_that_only_the_table_has_takes_any_value_by_name() {
        let of = |fields: &[&str]| {
            DataType::Struct(fields.iter().map(|name| Field::new(*name, DataType::Variant, true)).collect())
        };
        let value = map(vec![(text("b"), list(vec![int(1)]))]);
        let outcome = put_as(of(&["a", "b"]), of(&["a"]), value);
        assert_eq!(outcome, Ok(json!({"M": {"b": {"L": [{"N": "1"}]}}})));
    }

    #[test]
    fn a_value_of_no_protobuf_ends_the_call() {
        let (plan, rows_plan) = plan(DataType::Variant, DataType::Variant).unwrap();
        // A row of one value, in which the kind of a list, or of text, is something else.
        for value in [&[0x68, 1][..], &[0x6a, 3, 0x0a, 5, 1], &[0x2a, 2, 0xff, 0xfe]] {
            let key = text("k").encode_to_vec();
            let field = |bytes: &[u8]| [&[0x0a, bytes.len() as u8], bytes].concat();
            let batch = field(&[field(&key), field(value)].concat());
            let result = RowsCursor::new(&batch).next_chunk(&plan, &rows_plan, 1 << 20, 0);
            assert!(matches!(result, Err(crate::payload::PayloadError::Malformed { .. })), "{value:?}: {result:?}");
        }
    }

    proptest! {
        #[test]
        fn any_variant_of_sparks_is_stored_as_itself(sample in any_sample(), style in any_style()) {
            let (value, metadata) = encode(&sample, style);
            let stored = stored(&sample);
            let expected = if stored == json!({"NULL": true}) { json!(null) } else { stored };
            prop_assert_eq!(put(pair(value, metadata)), Ok(expected));
        }
    }
}
