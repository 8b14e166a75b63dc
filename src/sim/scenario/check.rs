//! What a scenario's keys must be to each other, beyond their types.

use std::time::Duration;

use super::{BillingKey, Event, Scenario, Table};
use crate::limits::ITEM_MAX_BYTES;
use crate::yaml::YamlError;

/// A row's frame: its key, its version and an empty filling.
const MIN_ITEM_BYTES: usize = 100;
/// Keys of a workload, at most (chosen: uneven ones take a few bytes of memory each).
const MAX_KEYS: usize = 10_000_000;

impl Scenario {
    pub(super) fn check(&self, file: &str) -> Result<(), YamlError> {
        let wrong = |line: Option<u64>, problem: &str, expected: &str| {
            let (problem, expected) = (problem.to_owned(), expected.to_owned());
            Err(YamlError { file: file.to_owned(), line, problem, expected })
        };
        let Table { billing, write_units, max_write_units, burst_filled, .. } = &self.table;
        match (billing, write_units) {
            (BillingKey::Provisioned, None) => {
                return wrong(None, "the key `write_units` is missing in `table`", "the provisioned units a second");
            }
            (_, Some(units)) if !(1.0..=1e9).contains(units) => {
                return wrong(None, "wrong value for `write_units` in `table`", "units a second from 1 to 1e9");
            }
            _ => {}
        }
        if max_write_units.is_some() && *billing == BillingKey::Provisioned {
            return wrong(None, "`max_write_units` in `table` is for `billing: on_demand`", "");
        }
        if !(0.0..=1.0).contains(burst_filled) {
            return wrong(None, "wrong value for `burst_filled` in `table`", "a share from 0 to 1");
        }
        if self.duration < Duration::from_secs(1) || self.warm_up >= self.duration {
            return wrong(None, "wrong value for `duration`", "at least a second, and longer than `warm_up`");
        }
        if self.workloads.is_empty() {
            return wrong(None, "`workloads` is empty", "who writes to the table");
        }
        for workload in &self.workloads {
            let (bytes, keys) = (&workload.item_bytes, &workload.keys);
            let at = |line: &serde_saphyr::Location| Some(line.line());
            if !(MIN_ITEM_BYTES..=ITEM_MAX_BYTES).contains(&bytes.value.from) || bytes.value.to > ITEM_MAX_BYTES {
                return wrong(at(&bytes.referenced), "wrong value for `item_bytes`", "100 to 409600 bytes");
            }
            if !(1..=MAX_KEYS).contains(&keys.value.count) {
                return wrong(at(&keys.referenced), "wrong value for `count` in `keys`", "1 to 10,000,000 keys");
            }
            if let Some(hot) = keys.value.hot
                && (!(0.0..=1.0).contains(&hot.share) || hot.sort_keys == 0)
            {
                let expected = "a `share` from 0 to 1, and at least one of `sort_keys`";
                return wrong(at(&keys.referenced), "wrong value for `hot` in `keys`", expected);
            }
            if keys.value.hot.is_some_and(|hot| hot.sort_keys > 1) && !self.table.sort_key {
                let expected = "`sort_key: true` in `table`";
                return wrong(at(&keys.referenced), "`sort_keys` in `keys`, but the table has no sort key", expected);
            }
            if let Some(rate) = &workload.rows_per_second
                && !(0.001..=1e7).contains(&rate.value)
            {
                let expected = "rows a second, or no such key for as fast as they are taken";
                return wrong(at(&rate.referenced), "wrong value for `rows_per_second`", expected);
            }
            if workload.sessions == 0 || workload.batch_rows == 0 {
                return wrong(
                    at(&keys.referenced),
                    "a workload needs `sessions` and `batch_rows`",
                    "at least 1 of each",
                );
            }
        }
        for event in &self.events {
            let line = Some(event.at.referenced.line());
            let Event { table_write_units, account_write_units, index, fault, .. } = event;
            let kinds = [table_write_units.is_some(), account_write_units.is_some(), index.is_some(), fault.is_some()];
            if kinds.iter().filter(|there| **there).count() != 1 {
                let expected = "one of `table_write_units`, `account_write_units`, `index`, `fault`";
                return wrong(line, "an event with none or several happenings", expected);
            }
            if let Some(index) = index
                && !self.table.indexes.iter().any(|known| known.name == index.name)
            {
                return wrong(line, &format!("the table has no index `{}`", index.name), "an index of `table`");
            }
        }
        Ok(())
    }
}
