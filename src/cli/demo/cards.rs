//! The demo's data: payments by card, each of which carries the card's features as they are after it.
//!
//! Everything follows from the card's and the payment's number, so that what must be stored is known without keeping it.
//! Payments of one card come close together, as they do in life: that is what coalescing is for.

use crate::proto::v1::value::Kind;
use crate::proto::v1::{ListValue, MapEntry, MapValue, Row, StructValue, Value};

/// Payments of one card.
pub(super) const PAYMENTS_PER_CARD: u64 = 8;
/// Cards that pay at the same time.
pub(super) const ACTIVE_CARDS: u64 = 2_000;
/// One row in so many is one that must be rejected.
pub(super) const ONE_BAD_ROW_IN: u64 = 4_000;
/// Amounts that a card remembers.
const REMEMBERED: u64 = 5;
/// 2026-01-01T00:00:00Z.
const START_MICROS: i64 = 1_767_225_600_000_000;

/// The table's columns.
pub(super) const DDL: &str = "\
    card_id STRING NOT NULL COMMENT 'the key', \
    score DOUBLE COMMENT 'risk, 0 to 1', \
    payments BIGINT, \
    balance DECIMAL(12,2), \
    last_seen TIMESTAMP, \
    blocked BOOLEAN, \
    merchant STRUCT<id: BIGINT, name: STRING, country: STRING> COMMENT 'of the last payment', \
    recent_amounts ARRAY<DECIMAL(12,2)>, \
    by_category MAP<STRING, BIGINT> COMMENT 'payments by category'";

const MERCHANTS: [(&str, &str, &str); 6] = [
    ("Corner Bakery", "NL", "food"),
    ("Night Taxi", "DE", "travel"),
    ("Old Bookshop", "GB", "books"),
    ("Harbour Fuel", "DK", "fuel"),
    ("Sky Tickets", "FR", "travel"),
    ("Green Grocer", "BE", "food"),
];

/// The key of a card.
pub(super) fn card_id(card: u64) -> String {
    format!("card-{card:06}")
}

/// Which card and which of its payments the demo's row `number` is; payments of a card come in order.
pub(super) fn payment(number: u64, rows: u64) -> (u64, u64) {
    // Groups of cards that pay in turn; the last group may be smaller.
    let group_rows = ACTIVE_CARDS * PAYMENTS_PER_CARD;
    let (group, within) = (number / group_rows, number % group_rows);
    let left = rows - group * group_rows;
    let active = (left.min(group_rows) / PAYMENTS_PER_CARD).max(1);
    (group * ACTIVE_CARDS + within % active, within / active)
}

/// Whether row `number` is one that must be rejected.
pub(super) fn is_bad(number: u64) -> bool {
    number % ONE_BAD_ROW_IN == ONE_BAD_ROW_IN / 2
}

fn value(kind: Kind) -> Value {
    Value { kind: Some(kind) }
}

fn text(text: &str) -> Value {
    value(Kind::StringValue(text.to_owned()))
}

fn amount_cents(card: u64, payment: u64) -> u64 {
    100 + fastrand::Rng::with_seed(card << 8 | payment).u64(0..20_000)
}

fn money(cents: u64) -> Value {
    value(Kind::DecimalValue(format!("{}.{:02}", cents / 100, cents % 100)))
}

fn merchant_of(card: u64, payment: u64) -> usize {
    ((card * 7 + payment * 3) % MERCHANTS.len() as u64) as usize
}

/// A card's features after one of its payments.
pub(super) fn features(card: u64, payment: u64) -> Row {
    let merchant = merchant_of(card, payment);
    let (name, country, _) = MERCHANTS[merchant];
    let first = (payment + 1).saturating_sub(REMEMBERED);
    let recent = (first..=payment).rev().map(|payment| money(amount_cents(card, payment))).collect();
    let mut by_category: Vec<(&str, i64)> = Vec::new();
    for payment in 0..=payment {
        let category = MERCHANTS[merchant_of(card, payment)].2;
        match by_category.iter_mut().find(|(known, _)| *known == category) {
            Some((_, count)) => *count += 1,
            None => by_category.push((category, 1)),
        }
    }
    let entry = |(category, count): (&str, i64)| MapEntry {
        key: Some(text(category)),
        value: Some(value(Kind::IntValue(count))),
    };
    let spent: u64 = (0..=payment).map(|payment| amount_cents(card, payment)).sum();
    let seconds = (card % 86_400 + payment * 600) as i64;
    Row {
        values: vec![
            text(&card_id(card)),
            value(Kind::DoubleValue(((card * 31 + payment * 17) % 1000) as f64 / 1000.0)),
            value(Kind::IntValue(payment as i64 + 1)),
            money(spent),
            value(Kind::TimestampMicros(START_MICROS + seconds * 1_000_000)),
            // Most cards were never looked at.
            if card.is_multiple_of(10) { value(Kind::BoolValue(card.is_multiple_of(50))) } else { Value::default() },
            value(Kind::StructValue(StructValue {
                values: vec![value(Kind::IntValue(merchant as i64 + 1)), text(name), text(country)],
            })),
            value(Kind::ListValue(ListValue { values: recent })),
            value(Kind::MapValue(MapValue { entries: by_category.into_iter().map(entry).collect() })),
        ],
    }
}

/// A row as broken programs send them, in one of several ways.
pub(super) fn bad_row(number: u64) -> Row {
    let mut row = features(number, 0);
    match number / ONE_BAD_ROW_IN % 6 {
        0 => row.values[1] = value(Kind::DoubleValue(f64::NAN)),
        1 => row.values[0] = text(""),
        2 => row.values[2] = text("many"),
        3 => row.values[3] = value(Kind::DecimalValue("0.005".to_owned())),
        4 => row.values[0] = Value::default(),
        _ => {
            let name = text(&"x".repeat(410 * 1024));
            row.values[6] = value(Kind::StructValue(StructValue { values: vec![Value::default(), name] }));
        }
    }
    row
}

/// Row `number` of the demo.
pub(super) fn row(number: u64, rows: u64) -> Row {
    if is_bad(number) {
        return bad_row(number);
    }
    let (card, payment) = payment(number, rows);
    features(card, payment)
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;

    #[test]
    fn payments_of_a_card_come_in_order_and_close_together() {
        for rows in [1, 7, 8, 100, 16_000, 50_000, 200_000] {
            let mut last: HashMap<u64, (u64, u64)> = HashMap::new();
            for number in 0..rows {
                let (card, payment) = payment(number, rows);
                let expected = last.get(&card).map_or(0, |(payment, _)| payment + 1);
                assert_eq!(payment, expected, "card {card} at row {number} of {rows}");
                if let Some((_, before)) = last.insert(card, (payment, number)) {
                    assert!(number - before <= ACTIVE_CARDS);
                }
            }
        }
    }
}
