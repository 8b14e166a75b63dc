//! Fields that a file has and its table has not, where the table leaves such fields out: noted while a row is read, counted
//! when it is known to be stored.
//!
//! The gateway never sees them, so whoever reads the file counts them, in the gateway's words. Callers: `load` and `check`.

use std::collections::BTreeMap;

use crate::limits::RECEIPT_MAX_COERCIONS;
use crate::payload::reject::column_path;

/// The gateway's name of what happens to such a field.
const RULE: &str = "unknown field->dropped";

/// Fields that were left out, by path.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct DroppedFields {
    counts: BTreeMap<String, u64>,
    /// Those beyond the paths that are listed: a file may have other names in every row.
    others: u64,
}

impl DroppedFields {
    /// Counts what was left out of a row that is stored.
    pub(crate) fn count(&mut self, paths: &[String]) {
        for path in paths {
            let path = column_path(path);
            let full = self.counts.len() >= RECEIPT_MAX_COERCIONS;
            match self.counts.get_mut(&path) {
                Some(count) => *count += 1,
                None if full => self.others += 1,
                None => drop(self.counts.insert(path, 1)),
            }
        }
    }

    /// Adds the counts to those of the gateway, as `o.zz: unknown field->dropped`.
    pub(crate) fn add_to(&self, coercions: &mut BTreeMap<String, u64>) {
        for (path, count) in &self.counts {
            *coercions.entry(format!("{path}: {RULE}")).or_default() += count;
        }
        if self.others > 0 {
            *coercions.entry(format!("*: {RULE}")).or_default() += self.others;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::payload::RuleBook;

    #[test]
    fn dropped_fields_are_counted_by_path_in_the_gateways_words() {
        let mut dropped = DroppedFields::default();
        dropped.count(&["list[0].zz".to_owned(), "list[12].zz".to_owned(), "zz".to_owned()]);
        let mut coercions = BTreeMap::from([("zz: unknown field->dropped".to_owned(), 5)]);
        dropped.add_to(&mut coercions);
        let mut rules = RuleBook::default();
        let rule = rules.dropped("list[].zz");
        let (path, rule) = rules.describe(rule);
        let expected = BTreeMap::from([(format!("{path}: {rule}"), 2), (format!("zz: {rule}"), 6)]);
        assert_eq!(coercions, expected);
    }

    #[test]
    fn a_file_with_other_names_in_every_row_takes_no_more_room_than_a_receipt() {
        let mut dropped = DroppedFields::default();
        (0..RECEIPT_MAX_COERCIONS + 7).for_each(|at| dropped.count(&[format!("name {at}")]));
        dropped.count(&["name 0".to_owned()]);
        let mut coercions = BTreeMap::new();
        dropped.add_to(&mut coercions);
        assert_eq!(coercions.len(), RECEIPT_MAX_COERCIONS + 1);
        assert_eq!((coercions["*: unknown field->dropped"], coercions["name 0: unknown field->dropped"]), (7, 2));
    }
}
