//! `CheckRows`: a sample of rows through a session's plan, with nothing written.
//!
//! The plan, the walk and the limits are those of a session, so that what is accepted here is accepted there. [`Tally`] keeps
//! the books and is pure. Memory: the message is bounded by a write session's slot, what it unfolds to and the sample's keys
//! are reserved in one piece, chunks are dropped as soon as they are counted. The caller is `table`.

use std::collections::{HashMap, HashSet};

use prost::Message as _;
use tonic::Status;

use super::convert::choice;
use super::ingest::encoding::{Payload, Walk, decoded_bytes};
use super::ingest::ends::encoding_status;
use super::ingest::open::{open, unsupported};
use super::ingest::reply::row_outcome;
use super::status;
use super::table::Checks;
use crate::access::Caller;
use crate::catalog::Catalog;
use crate::limits::{
    CHECK_MAX_KEY_BYTES, CHECK_MAX_LISTED_BYTES, CHECK_MAX_OUTCOMES, RECEIPT_MAX_COERCIONS,
    WRITE_REQUEST_USD_PER_MILLION, WRITE_UNIT_BYTES,
};
use crate::payload::reject::column_path;
use crate::payload::values::row_reason;
use crate::payload::{Chunk, RejectReason, RuleBook, Tally as Coercions};
use crate::pool::RowFate;
use crate::proto::server::CheckRowsRequest;
use crate::proto::server::check_rows_request::Payload as WirePayload;
use crate::proto::v1;
use crate::store::WriteOp;

const MILLION: f64 = 1e6;

/// Checks the sample.
pub(super) async fn check_rows(
    catalog: &Catalog,
    checks: &Checks,
    request: CheckRowsRequest,
    caller: &Caller,
) -> Result<v1::CheckRowsResponse, Status> {
    let rates = Rates::of(&request)?;
    let first = v1::Open { table: request.table, ..request.open.unwrap_or_default() };
    if choice::<v1::Evolve>("open.evolve", first.evolve)? == v1::Evolve::AddColumns {
        return Err(unsupported("evolve ADD_COLUMNS in CheckRows", "a check changes no table: add the columns before"));
    }
    let payload = match request.payload {
        Some(WirePayload::Rows(rows)) => Payload::Rows(rows),
        Some(WirePayload::Arrow(arrow)) => Payload::Arrow(arrow.ipc_messages),
        None => return Err(status::invalid_argument("payload", "is missing: send rows or arrow")),
    };
    let mut opened = open(catalog, first, checks.hash_seed, caller).await?;
    checks.charges.check(caller, payload.wire_bytes())?;
    opened.plan.measure();

    let decoded = decoded_bytes(&opened, &payload).map_err(encoding_status)?;
    let decoded = usize::try_from(decoded).unwrap_or(usize::MAX);
    let memory = checks.decode_memory.reserve(decoded.saturating_add(CHECK_MAX_KEY_BYTES)).await;
    let mut walk = Walk::begin(&opened, payload, Some(memory)).map_err(encoding_status)?;
    let mut tally = Tally::default();
    while let Some(chunk) = walk.next_chunk(&opened).map_err(status::payload_error)? {
        tally.count(chunk).map_err(|error| {
            status::resource_exhausted(status::reason::TOO_LARGE, "sample", error.to_string(), None)
        })?;
        // Others first: a large sample must not keep a thread for itself.
        tokio::task::yield_now().await;
    }
    if tally.is_empty() {
        return Err(status::invalid_argument("payload", "the sample has no rows"));
    }
    Ok(tally.report(opened.plan.rules(), opened.table.version, rates))
}

/// What the estimate is for.
#[derive(Debug, Clone, Copy)]
struct Rates {
    rows_per_second: f64,
    usd_per_million_units: f64,
}

impl Rates {
    fn of(request: &CheckRowsRequest) -> Result<Self, Status> {
        let rates = Self {
            rows_per_second: request.rows_per_second,
            usd_per_million_units: request.usd_per_million_write_units.unwrap_or(WRITE_REQUEST_USD_PER_MILLION),
        };
        for (field, value) in
            [("rows_per_second", rates.rows_per_second), ("usd_per_million_write_units", rates.usd_per_million_units)]
        {
            if !value.is_finite() || value < 0.0 {
                return Err(status::invalid_argument(field, "must be a number from 0"));
            }
        }
        Ok(rates)
    }
}

/// What was seen of the sample.
#[derive(Debug, Default)]
struct Tally {
    /// Items of the accepted rows.
    sizes_bytes: Vec<u32>,
    units: u64,
    keys: Keys,
    rejected: u64,
    /// The first rejected rows.
    listed: Vec<v1::RowOutcome>,
    listed_bytes: usize,
    /// By column and reason: how many, and the first one's hint.
    by_reason: HashMap<(String, RejectReason), (u64, String)>,
    coercions: Coercions,
}

impl Tally {
    fn is_empty(&self) -> bool {
        self.sizes_bytes.is_empty() && self.rejected == 0
    }

    fn count(&mut self, chunk: Chunk) -> Result<(), TooManyKeys> {
        self.coercions.add(&chunk.coercions);
        for row in &chunk.rows {
            self.sizes_bytes.push(row.item_bytes);
            self.units += match row.item.op {
                // A merge takes as much as the item that it is merged into, which nobody has read: what it carries is the least.
                WriteOp::Put | WriteOp::Merge | WriteOp::Insert => u64::from(row.item_bytes.div_ceil(WRITE_UNIT_BYTES)),
                // As much as the item that is deleted, which nobody has read.
                WriteOp::Delete => 1,
            };
            // The key follows the brace.
            self.keys.see(&row.item.json[1..1 + row.item.key_len as usize])?;
        }
        for rejected in chunk.rejects {
            self.rejected += 1;
            let mut path = column_path(&rejected.reject.path);
            if self.by_reason.len() >= CHECK_MAX_OUTCOMES {
                // Names within variants are the rows' own, and there may be as many as rows; columns are few.
                path.truncate(path.find(['.', '[', '{']).unwrap_or(path.len()));
            }
            let key = (path, rejected.reject.reason);
            self.by_reason.entry(key).or_insert_with(|| (0, rejected.reject.hint.to_string())).0 += 1;
            if self.listed.len() < CHECK_MAX_OUTCOMES && self.listed_bytes < CHECK_MAX_LISTED_BYTES {
                let outcome = row_outcome(1, rejected.row_index, RowFate::Rejected(rejected.reject));
                self.listed_bytes += outcome.encoded_len();
                self.listed.push(outcome);
            }
        }
        Ok(())
    }

    fn report(mut self, rules: &RuleBook, schema_version: u64, rates: Rates) -> v1::CheckRowsResponse {
        self.sizes_bytes.sort_unstable();
        let accepted = self.sizes_bytes.len();
        let units_per_row = if accepted == 0 { 0.0 } else { self.units as f64 / accepted as f64 };
        let coercions = rules.report(&self.coercions).into_iter().take(RECEIPT_MAX_COERCIONS);
        let units_per_million = units_per_row * MILLION;
        v1::CheckRowsResponse {
            accepted_rows: accepted as u64,
            rejected: self.listed,
            coercions: coercions
                .map(|(field_path, rule, count)| v1::CoercionCount { field_path, rule, count })
                .collect(),
            item_bytes: summary(&self.sizes_bytes),
            write_units_per_second: units_per_row * rates.rows_per_second,
            write_units_per_million_rows: units_per_million,
            repeated_key_rows: self.keys.repeated,
            rejected_rows: self.rejected,
            rejects_by_reason: most_frequent(self.by_reason),
            usd_per_million_rows: units_per_million / MILLION * rates.usd_per_million_units,
            usd_per_million_write_units: rates.usd_per_million_units,
            schema_version,
        }
    }
}

/// Keys that were seen. Equal keys have equal text.
#[derive(Debug, Default)]
struct Keys {
    seen: HashSet<Box<[u8]>>,
    bytes: usize,
    repeated: u64,
}

/// What a key takes beside its text: an estimate, in bytes.
const KEY_OVERHEAD_BYTES: usize = 48;

/// More keys than memory was reserved for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the keys of the sample take more than {CHECK_MAX_KEY_BYTES} bytes; send fewer rows")]
struct TooManyKeys;

impl Keys {
    fn see(&mut self, key: &[u8]) -> Result<(), TooManyKeys> {
        if self.seen.contains(key) {
            self.repeated += 1;
            return Ok(());
        }
        self.bytes += key.len() + KEY_OVERHEAD_BYTES;
        if self.bytes > CHECK_MAX_KEY_BYTES {
            return Err(TooManyKeys);
        }
        self.seen.insert(key.into());
        Ok(())
    }
}

/// Sizes at ranks: the p-th percentile is the smallest size that at least p percent of all are not above.
fn summary(sorted: &[u32]) -> Option<v1::SizeSummary> {
    let (min, max) = (*sorted.first()?, *sorted.last()?);
    // The rank is from 1 to the number of sizes.
    let percentile = |percent: usize| sorted[(sorted.len() * percent).div_ceil(100) - 1];
    let [min, p50, p99, max] = [min, percentile(50), percentile(99), max].map(u64::from);
    Some(v1::SizeSummary { min, p50, p99, max })
}

fn most_frequent(by_reason: HashMap<(String, RejectReason), (u64, String)>) -> Vec<v1::RejectCount> {
    let counted = by_reason.into_iter().map(|((field_path, reason), (count, hint))| v1::RejectCount {
        field_path,
        reason: row_reason(reason).into(),
        count,
        hint,
    });
    let mut counts: Vec<_> = counted.collect();
    counts.sort_unstable_by(|a, b| {
        b.count.cmp(&a.count).then_with(|| a.field_path.cmp(&b.field_path)).then_with(|| a.reason.cmp(&b.reason))
    });
    let mut listed_bytes = 0;
    let fits = |count: &v1::RejectCount| {
        listed_bytes += count.encoded_len();
        listed_bytes <= CHECK_MAX_LISTED_BYTES
    };
    counts.into_iter().take(CHECK_MAX_OUTCOMES).take_while(fits).collect()
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::payload::{EncodedRow, Reject, RowReject};
    use crate::store::WriteItem;

    fn row(key: &str, op: WriteOp, item_bytes: u32) -> EncodedRow {
        let json = Bytes::from(format!("{{{key}}}"));
        let (partition_hash, key_hash) = (7, 7);
        EncodedRow {
            row_index: 0,
            item: WriteItem::new(op, json, key.len() as u32),
            partition_hash,
            key_hash,
            item_bytes,
        }
    }

    fn chunk(rows: Vec<EncodedRow>, rejects: Vec<RowReject>) -> Chunk {
        Chunk { rows, rejects, ..Chunk::default() }
    }

    const RATES: Rates = Rates { rows_per_second: 10.0, usd_per_million_units: 2.0 };

    #[test]
    fn units_are_started_kilobytes_and_a_delete_counts_as_one() {
        let put = |key, bytes| row(key, WriteOp::Put, bytes);
        let mut tally = Tally::default();
        tally.count(chunk(vec![put("a", 1024), put("b", 1025), put("a", 1)], vec![])).unwrap();
        tally.count(chunk(vec![row("b", WriteOp::Delete, 2000)], vec![])).unwrap();
        let answer = tally.report(&RuleBook::default(), 3, RATES);
        // 1 + 2 + 1 + 1 units for 4 rows.
        assert_eq!(answer.write_units_per_second, 12.5);
        assert_eq!(answer.write_units_per_million_rows, 1_250_000.0);
        assert_eq!(answer.usd_per_million_rows, 2.5);
        assert_eq!((answer.accepted_rows, answer.repeated_key_rows, answer.schema_version), (4, 2, 3));
        assert_eq!(answer.item_bytes, Some(v1::SizeSummary { min: 1, p50: 1024, p99: 2000, max: 2000 }));
    }

    #[test]
    fn a_percentile_is_a_size_that_occurs() {
        let sizes: Vec<u32> = (1..=200).collect();
        assert_eq!(summary(&sizes), Some(v1::SizeSummary { min: 1, p50: 100, p99: 198, max: 200 }));
        assert_eq!(summary(&[5]), Some(v1::SizeSummary { min: 5, p50: 5, p99: 5, max: 5 }));
        assert_eq!(summary(&[]), None);
    }

    #[test]
    fn all_rejects_are_counted_by_column_and_the_first_thousand_are_listed() {
        let reject = |row_index, path: &str, hint: &'static str| {
            let mut reject = *Reject::new(RejectReason::OutOfRange, "no").hint(hint);
            reject.path = path.to_owned();
            RowReject { row_index, reject }
        };
        let mut tally = Tally::default();
        for row in 0..1500 {
            let rejects = vec![reject(row, &format!("vitals[{row}].hr"), if row == 0 { "first" } else { "later" })];
            tally.count(chunk(vec![], rejects)).unwrap();
        }
        tally.count(chunk(vec![], vec![reject(1500, "id", "")])).unwrap();
        let answer = tally.report(&RuleBook::default(), 1, RATES);
        assert_eq!((answer.accepted_rows, answer.rejected_rows, answer.rejected.len()), (0, 1501, 1000));
        assert_eq!((answer.write_units_per_second, answer.item_bytes), (0.0, None));
        let counted: Vec<_> = answer.rejects_by_reason.iter().map(|count| (&*count.field_path, count.count)).collect();
        assert_eq!(counted, [("vitals[].hr", 1500), ("id", 1)]);
        assert_eq!(answer.rejects_by_reason[0].hint, "first");
    }

    #[test]
    fn keys_are_bounded_by_what_was_reserved_for_them() {
        let mut keys = Keys::default();
        let long = |number: usize| format!("{number:>3000}").into_bytes();
        let most = CHECK_MAX_KEY_BYTES / (3000 + KEY_OVERHEAD_BYTES);
        for number in 0..most {
            keys.see(&long(number)).unwrap();
        }
        assert_eq!(keys.see(&long(0)), Ok(()), "a repeated key takes nothing");
        assert_eq!((keys.see(&long(most)), keys.repeated), (Err(TooManyKeys), 1));
    }
}
