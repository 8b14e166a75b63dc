//! How a leaf comes about: from the declared type, the session's, and the table's policies.

use super::*;

impl Leaf {
    /// Compiles a scalar type; `None` for arrays, maps, structs and variants. `path` is the column's, `incoming` what the
    /// session declares for it.
    pub fn compile(
        field: &Field,
        path: &str,
        role: Role,
        incoming: Option<&DataType>,
        policies: &mut Policies<'_>,
    ) -> Option<Self> {
        let encoding = field.options.time_encoding;
        let non_finite = field.options.non_finite;
        let kind = match &field.data_type {
            integer @ (DataType::Byte | DataType::Short | DataType::Integer | DataType::Long) => {
                let (min, max) = integer_range(integer);
                Kind::Integer { min, max }
            }
            DataType::Float => Kind::Float { non_finite },
            DataType::Double => Kind::Double { non_finite },
            DataType::Decimal { precision, scale } => Kind::Decimal { precision: *precision, scale: *scale },
            DataType::String => Kind::Text { max_characters: None },
            DataType::Char(length) | DataType::Varchar(length) => Kind::Text { max_characters: Some(*length) },
            DataType::Boolean if field.options.key_as_number => Kind::BooleanAsNumber,
            DataType::Boolean => Kind::Boolean,
            DataType::Binary => Kind::Binary,
            DataType::Date => Kind::Date { as_number: encoding == Some(TimeEncoding::Number) },
            DataType::Timestamp => Kind::Timestamp { as_text: encoding == Some(TimeEncoding::String) },
            DataType::TimestampNtz => Kind::TimestampNtz { as_number: encoding == Some(TimeEncoding::Number) },
            DataType::DayTimeInterval => Kind::DayTime,
            DataType::YearMonthInterval => Kind::YearMonth,
            DataType::Variant | DataType::Array { .. } | DataType::Map { .. } | DataType::Struct(_) => return None,
        };
        Self::of_kind(kind, field, path, role, incoming, policies)
    }

    /// Compiles the table's time-to-live column: stored in epoch seconds whatever its declared type.
    pub fn compile_ttl(field: &Field, incoming: Option<&DataType>, policies: &mut Policies<'_>) -> Option<Self> {
        let from = match &field.data_type {
            DataType::Timestamp => TtlFrom::Timestamp,
            DataType::Date => TtlFrom::Date,
            integer @ (DataType::Long | DataType::Integer) => {
                let (min, max) = integer_range(integer);
                TtlFrom::Seconds { min, max }
            }
            _ => return None,
        };
        Self::of_kind(Kind::Ttl(from), field, &field.name, Role::Value, incoming, policies)
    }

    fn of_kind(
        kind: Kind,
        field: &Field,
        path: &str,
        role: Role,
        incoming: Option<&DataType>,
        policies: &mut Policies<'_>,
    ) -> Option<Self> {
        let own = ValueKind::of(&field.data_type)?;
        let declared = field.data_type.to_string();
        let (mut allowed, mut counted): (u16, u16) = (0, 0);
        for found in ValueKind::ALL {
            let is_coerced = match incoming.map(|incoming| (ValueKind::of(incoming), incoming)) {
                Some((Some(natural), incoming)) if natural == found => !same_values(incoming, &field.data_type),
                _ => found != own,
            };
            allowed |= u16::from(policies.mode.allows(found, own)) << found as u16;
            counted |= u16::from(is_coerced) << found as u16;
        }
        let rules = policies.rules.column(path, incoming, &declared);
        let incoming = incoming.and_then(|incoming| {
            let width_bytes = match incoming {
                DataType::Byte => 1,
                DataType::Short => 2,
                DataType::Integer => 4,
                _ => 8,
            };
            let kind = ValueKind::of(incoming)?;
            let scale = if let DataType::Decimal { scale, .. } = incoming { Some((*scale).into()) } else { None };
            Some(Box::new(Incoming { kind, name: incoming.to_string().into(), width_bytes, scale }))
        });
        let (mode, show_values) = (policies.mode, policies.show_values);
        Some(Self { kind, own, role, mode, allowed, counted, rules, declared: declared.into(), incoming, show_values })
    }
}

fn integer_range(data_type: &DataType) -> (i64, i64) {
    match data_type {
        DataType::Byte => (i8::MIN.into(), i8::MAX.into()),
        DataType::Short => (i16::MIN.into(), i16::MAX.into()),
        DataType::Integer => (i32::MIN.into(), i32::MAX.into()),
        _ => (i64::MIN, i64::MAX),
    }
}

/// Whether a value of one type is stored as another without any coercion: the same type, or text of whatever length.
fn same_values(incoming: &DataType, declared: &DataType) -> bool {
    incoming == declared || (incoming.is_text() && declared.is_text())
}
