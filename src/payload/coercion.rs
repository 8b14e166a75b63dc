//! Which coercions a session's plan can do, and how often its rows had them.
//!
//! A value is coerced where it is stored as another type than the sender has it in, or where something of it is left out. The
//! plan gives every column a block of rule numbers when it is compiled ([`RuleBook`]); on the way through a row a number is
//! noted for each coercion, and counted when the row is kept ([`Tally`]). So a value that is not coerced costs one test of a
//! bit, and a rejected row counts nothing. Texts are made when somebody asks.

use super::cast::ValueKind;
use crate::schema::DataType;

/// Rules of one column: one for each kind of value, then those below.
const RULES_PER_COLUMN: u32 = 18;
const TRAILING_BLANKS: u32 = 12;
const DIGITS_ROUNDED: u32 = 13;
const NON_FINITE_TO_NULL: u32 = 14;
const NON_FINITE_TO_TEXT: u32 = 15;
const DUPLICATE: u32 = 16;
const UNKNOWN_FIELD: u32 = 17;

/// A rule of one column.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RuleId(u32);

/// The rules of one column.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ColumnRules(u32);

impl ColumnRules {
    /// A value of this kind was stored as the declared type.
    #[inline]
    pub fn cast(self, kind: ValueKind) -> RuleId {
        RuleId(self.0 + kind as u32)
    }

    /// Blanks at the end of text were cut off so that it fits.
    pub fn trailing_blanks(self) -> RuleId {
        RuleId(self.0 + TRAILING_BLANKS)
    }

    /// A decimal was rounded to its column's scale.
    pub fn digits_rounded(self) -> RuleId {
        RuleId(self.0 + DIGITS_ROUNDED)
    }

    /// NaN or an infinity became null.
    pub fn non_finite_to_null(self) -> RuleId {
        RuleId(self.0 + NON_FINITE_TO_NULL)
    }

    /// NaN or an infinity became text.
    pub fn non_finite_to_text(self) -> RuleId {
        RuleId(self.0 + NON_FINITE_TO_TEXT)
    }

    /// A set's element that was there already was left out.
    pub fn duplicate(self) -> RuleId {
        RuleId(self.0 + DUPLICATE)
    }
}

/// The rules of a plan.
#[derive(Debug, Default)]
pub struct RuleBook {
    columns: Vec<Column>,
}

#[derive(Debug)]
struct Column {
    path: Box<str>,
    /// The type's name as the session declared it, and the kind that its values have.
    incoming: Option<(Box<str>, Option<ValueKind>)>,
    declared: Box<str>,
}

impl RuleBook {
    /// Rules for a scalar column: its path, what the session declared for it, and its declared type.
    pub fn column(&mut self, path: &str, incoming: Option<&DataType>, declared: &str) -> ColumnRules {
        let incoming = incoming.map(|incoming| (incoming.to_string().into(), ValueKind::of(incoming)));
        self.push(Column { path: path.into(), incoming, declared: declared.into() })
    }

    /// The rule of a field that is left out.
    pub fn dropped(&mut self, path: &str) -> RuleId {
        let rules = self.push(Column { path: path.into(), incoming: None, declared: Box::default() });
        RuleId(rules.0 + UNKNOWN_FIELD)
    }

    fn push(&mut self, column: Column) -> ColumnRules {
        // Columns, and fields below them, are far fewer than 2^28: a schema is at most a message.
        let first = self.columns.len() as u32 * RULES_PER_COLUMN;
        self.columns.push(column);
        ColumnRules(first)
    }

    /// The path of a rule's column, and the rule: `("vitals[].hr", "int->bigint")`.
    pub fn describe(&self, rule: RuleId) -> (&str, String) {
        let Some(column) = self.columns.get((rule.0 / RULES_PER_COLUMN) as usize) else { return ("", String::new()) };
        let text = match rule.0 % RULES_PER_COLUMN {
            TRAILING_BLANKS => "trailing blanks->cut".to_owned(),
            DIGITS_ROUNDED => "digits->rounded".to_owned(),
            NON_FINITE_TO_NULL => "non-finite->null".to_owned(),
            NON_FINITE_TO_TEXT => "non-finite->string".to_owned(),
            DUPLICATE => "duplicate->dropped".to_owned(),
            UNKNOWN_FIELD => "unknown field->dropped".to_owned(),
            kind => {
                // The number is one of the twelve.
                let kind = ValueKind::ALL[kind as usize];
                let found = match &column.incoming {
                    Some((name, Some(natural))) if *natural == kind => name,
                    _ => kind.name(),
                };
                format!("{found}->{}", column.declared)
            }
        };
        (&column.path, text)
    }

    /// A tally's counts by path and rule, in the order of the columns.
    pub fn report(&self, tally: &Tally) -> Vec<(String, String, u64)> {
        let counted = tally.counts.iter().enumerate().filter(|(_, count)| **count > 0);
        counted
            .map(|(rule, count)| {
                let (path, rule) = self.describe(RuleId(rule as u32));
                (path.to_owned(), rule, *count)
            })
            .collect()
    }
}

/// How often each rule was used.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tally {
    /// By the rule's number.
    counts: Vec<u64>,
}

impl Tally {
    /// Counts what a row noted.
    pub fn count(&mut self, rules: &[RuleId]) {
        for rule in rules {
            let at = rule.0 as usize;
            if at >= self.counts.len() {
                self.counts.resize(at + 1, 0);
            }
            self.counts[at] += 1;
        }
    }

    /// Adds another tally of the same plan.
    pub fn add(&mut self, other: &Self) {
        if self.counts.len() < other.counts.len() {
            self.counts.resize(other.counts.len(), 0);
        }
        for (mine, others) in self.counts.iter_mut().zip(&other.counts) {
            *mine += others;
        }
    }

    /// Whether nothing was counted.
    pub fn is_empty(&self) -> bool {
        self.counts.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_are_named_by_what_the_session_declared_and_what_came() {
        let mut book = RuleBook::default();
        let id = book.column("id", Some(&DataType::Integer), "bigint");
        let score = book.column("score", Some(&DataType::Double), "double");
        let gone = book.dropped("s.gone");
        let mut tally = Tally::default();
        tally.count(&[id.cast(ValueKind::Integer), gone, score.cast(ValueKind::Integer), score.non_finite_to_null()]);
        tally.count(&[id.cast(ValueKind::Integer)]);
        let mut twice = tally.clone();
        twice.add(&tally);
        let row = |path: &str, rule: &str, count| (path.to_owned(), rule.to_owned(), count);
        assert_eq!(
            book.report(&twice),
            [
                row("id", "int->bigint", 4),
                row("score", "bigint->double", 2),
                row("score", "non-finite->null", 2),
                row("s.gone", "unknown field->dropped", 2),
            ]
        );
    }
}
