//! `forebay check FILE --table T`: what would become of a file's rows, from a sample of them; nothing is written.
//!
//! Rows are read as `load` reads them and go to the gateway in one message, because percentiles of parts do not add up: of a
//! sample that does not fit, the rows from its start that do are checked, and the summary says how many. Row numbers count
//! the file's rows from 1, without the header.

use std::collections::BTreeMap;

use arrow_array::{Array as _, RecordBatch};
use prost::Message as _;
use serde_json::json;

use super::load::{Content, InputArgs, LookedAt, Prepared, Rejected, Source, blocking, coercion_lines, existing};
use super::{CliError, ClientArgs, Exit, print_json, print_line, thousands};
use crate::client::{CheckRates, Sample};
use crate::limits::{BATCH_MAX_ROWS, MESSAGE_MAX_BYTES, WRITE_REQUEST_USD_PER_MILLION};
use crate::payload::reject::column_path;
use crate::payload::values::dropped::DroppedFields;
use crate::payload::values::{Misfit, reason_name};
use crate::proto::v1::{CheckRowsResponse, RowBatch};

/// Rows of a sample unless told otherwise.
const SAMPLE_ROWS: u32 = 10_000;
/// Rows that are read at once.
const BLOCK_ROWS: usize = 1_000;
/// Rejected rows that the summary shows.
const EXAMPLES: usize = 5;

/// Arguments of `check`.
#[derive(Debug, clap::Args)]
pub struct CheckArgs {
    #[command(flatten)]
    input: InputArgs,
    /// Rows from the file's start to check, as far as they fit a message of 16 MiB
    #[arg(long, value_name = "N", default_value_t = SAMPLE_ROWS, value_parser = clap::value_parser!(u32).range(1..=BATCH_MAX_ROWS as i64))]
    rows: u32,
    /// The rate to estimate capacity for
    #[arg(long, value_name = "ROWS_PER_SECOND", default_value_t = 1_000.0)]
    rate: f64,
    /// What a million write request units cost; by default what they do on demand in us-east-1
    #[arg(long, value_name = "USD", default_value_t = WRITE_REQUEST_USD_PER_MILLION)]
    price: f64,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    client: ClientArgs,
}

pub(super) async fn run(args: CheckArgs) -> Result<Exit, CliError> {
    let client = args.client.connect()?;
    let rows = args.rows as usize;
    let block_rows = BLOCK_ROWS.min(rows);
    let looked_at = LookedAt::open(&args.input, false, block_rows).await?;
    let table = existing(&client, &args.input.table).await?;
    let Prepared { name, open, source } = looked_at.prepare(&args.input, &table, block_rows, false)?;
    let Taken { sample, numbers, dropped, rejects } = blocking(move || take(source, rows as u64)).await?;
    let answer = match sample {
        None if rejects.is_empty() => return Err(CliError::usage(format!("{name} has no rows to check"))),
        // No row can be sent at all.
        None => CheckRowsResponse { usd_per_million_write_units: args.price, ..CheckRowsResponse::default() },
        Some(sample) => {
            let rates = CheckRates { rows_per_second: args.rate, usd_per_million_write_units: Some(args.price) };
            client.tables().check(open, sample, rates).await?
        }
    };
    let checked = Checked::new(answer, &numbers, dropped, rejects);
    match args.json {
        true => print_json(&checked.json(&args, &name))?,
        false => checked.lines(&args, &name).iter().try_for_each(|line| print_line(line))?,
    }
    Ok(if checked.rejected > 0 { Exit::Rejected } else { Exit::Ok })
}

/// The rows from the start of a file.
struct Taken {
    /// Those that can be sent; `None` where there are none.
    sample: Option<Sample>,
    /// Their numbers in the file.
    numbers: Vec<u64>,
    /// By number: the paths of the fields that were left out of them.
    dropped: BTreeMap<u64, Vec<String>>,
    /// Those that cannot.
    rejects: Vec<Rejected>,
}

fn take(mut source: Box<dyn Source>, last: u64) -> Result<Taken, CliError> {
    let (mut rows, mut batches, mut bytes) = (Vec::new(), Vec::new(), 0);
    let (mut numbers, mut dropped, mut rejects) = (Vec::<u64>::new(), BTreeMap::new(), Vec::new());
    let mut read = 0;
    // What is beyond a message is not checked anyway.
    while read < last && bytes < MESSAGE_MAX_BYTES {
        let Some(mut block) = source.next()? else { break };
        read += (block.content.rows() + block.rejects.len()) as u64;
        let wanted = block.origin.numbers.partition_point(|number| *number <= last);
        numbers.extend(&block.origin.numbers[..wanted]);
        dropped.append(&mut block.origin.dropped);
        rejects.extend(block.rejects.into_iter().filter(|rejected| rejected.number <= last));
        match block.content {
            Content::Rows(block) => {
                let start = rows.len();
                rows.extend(block.into_iter().take(wanted));
                bytes += rows[start..].iter().map(|row: &crate::proto::v1::Row| row.encoded_len()).sum::<usize>();
            }
            Content::Arrow(batch) => {
                let batch = batch.slice(0, wanted);
                bytes += batch_bytes(&batch)?;
                batches.push(batch);
            }
        }
    }
    let sample = match batches.first() {
        _ if numbers.is_empty() => None,
        None => Some(Sample::Rows(RowBatch { rows })),
        Some(first) => {
            let joined = arrow_select::concat::concat_batches(&first.schema(), &batches);
            Some(Sample::Arrow(joined.map_err(|error| CliError::usage(error.to_string()))?))
        }
    };
    Ok(Taken { sample, numbers, dropped, rejects })
}

fn batch_bytes(batch: &RecordBatch) -> Result<usize, CliError> {
    let bytes = batch.columns().iter().map(|column| column.to_data().get_slice_memory_size());
    bytes.sum::<Result<_, _>>().map_err(|error| CliError::usage(error.to_string()))
}

/// What the gateway and the reading of the file say together.
struct Checked {
    answer: CheckRowsResponse,
    rows: u64,
    /// Whether rows of the sample did not fit the message.
    cut: bool,
    rejected: u64,
    by_reason: Vec<Counted>,
    /// The first rejected rows, with their numbers in the file.
    examples: Vec<(u64, Misfit)>,
    coercions: BTreeMap<String, u64>,
}

/// Rejected rows of one column and reason.
struct Counted {
    field: String,
    reason: &'static str,
    count: u64,
    /// What to do about the first of them.
    hint: String,
}

impl Checked {
    fn new(
        mut answer: CheckRowsResponse,
        numbers: &[u64],
        mut dropped: BTreeMap<u64, Vec<String>>,
        mut rejects: Vec<Rejected>,
    ) -> Self {
        let sent =
            usize::try_from(answer.accepted_rows + answer.rejected_rows).unwrap_or(usize::MAX).min(numbers.len());
        let cut = sent < numbers.len();
        if cut {
            // Of the rows that were not sent, those behind the last one that was do not count either.
            rejects.retain(|rejected| rejected.number < numbers[sent]);
        }
        let mut by_reason: BTreeMap<_, (u64, String)> = BTreeMap::new();
        for counted in std::mem::take(&mut answer.rejects_by_reason) {
            let reason = reason_name(counted.reason());
            by_reason.insert((counted.field_path, reason), (counted.count, counted.hint));
        }
        let mut examples = Vec::new();
        for outcome in std::mem::take(&mut answer.rejected) {
            // An index beyond the sample would be the gateway's fault; there is no row to show for it.
            let Some(number) = numbers.get(outcome.row_index as usize) else { continue };
            // Nothing is dropped from what is not stored. Rejected rows beyond those that the answer lists count all the same.
            dropped.remove(number);
            examples.push((*number, Misfit::of_outcome(outcome)));
        }
        let rejected_here = rejects.len() as u64;
        for Rejected { number, misfit, .. } in rejects {
            let key = (column_path(&misfit.path), reason_name(misfit.reason));
            by_reason.entry(key).or_insert_with(|| (0, misfit.hint.to_string())).0 += 1;
            examples.push((number, misfit));
        }
        examples.sort_by_key(|(number, _)| *number);
        examples.truncate(EXAMPLES);
        let counted = by_reason.into_iter();
        let mut by_reason: Vec<_> =
            counted.map(|((field, reason), (count, hint))| Counted { field, reason, count, hint }).collect();
        by_reason.sort_by_key(|counted| std::cmp::Reverse(counted.count));
        let coercions = std::mem::take(&mut answer.coercions).into_iter();
        let mut coercions: BTreeMap<_, _> =
            coercions.map(|counted| (format!("{}: {}", counted.field_path, counted.rule), counted.count)).collect();
        let mut fields = DroppedFields::default();
        numbers[..sent].iter().filter_map(|number| dropped.get(number)).for_each(|paths| fields.count(paths));
        fields.add_to(&mut coercions);
        Self {
            rows: sent as u64 + rejected_here,
            cut,
            rejected: answer.rejected_rows + rejected_here,
            by_reason,
            examples,
            coercions,
            answer,
        }
    }

    fn json(&self, args: &CheckArgs, name: &str) -> serde_json::Value {
        let by_reason = self.by_reason.iter().map(|Counted { field, reason, count, hint }| {
            json!({ "field": field, "reason": reason, "count": count, "hint": hint })
        });
        let examples = self.examples.iter().map(|(number, misfit)| misfit.json(*number));
        let sizes = self.answer.item_bytes.as_ref();
        json!({
            "file": name,
            "table": args.input.table,
            "rows": self.rows,
            "cut_to_one_message": self.cut,
            "accepted": self.answer.accepted_rows,
            "rejected": self.rejected,
            "rejected_by_reason": by_reason.collect::<Vec<_>>(),
            "examples": examples.collect::<Vec<_>>(),
            "coercions": self.coercions,
            "item_bytes": sizes.map(|s| json!({ "min": s.min, "p50": s.p50, "p99": s.p99, "max": s.max })),
            "rows_per_second": args.rate,
            "write_units_per_second": self.answer.write_units_per_second,
            "write_units_per_million_rows": self.answer.write_units_per_million_rows,
            "usd_per_million_rows": self.answer.usd_per_million_rows,
            "usd_per_million_write_units": self.answer.usd_per_million_write_units,
            "repeated_key_rows": self.answer.repeated_key_rows,
        })
    }

    fn lines(&self, args: &CheckArgs, name: &str) -> Vec<String> {
        let answer = &self.answer;
        let cut = if self.cut { ", which is what fits one message" } else { "" };
        let mut lines = vec![format!(
            "{name} -> {}: {} rows checked{cut}, {} accepted, {} rejected; nothing was written",
            args.input.table,
            thousands(self.rows),
            thousands(answer.accepted_rows),
            thousands(self.rejected),
        )];
        for Counted { field, reason, count, hint } in &self.by_reason {
            let place = if field.is_empty() { "the row" } else { field };
            let hint = if hint.is_empty() { String::new() } else { format!(": {hint}") };
            lines.push(format!("  rejected {:>9}  {place}: {reason}{hint}", thousands(*count)));
        }
        for (number, misfit) in &self.examples {
            lines.push(format!("  row {number}{}", misfit.placed_sentence()));
        }
        lines.extend(coercion_lines(&self.coercions));
        if let Some(sizes) = &answer.item_bytes {
            let [min, p50, p99, max] = [sizes.min, sizes.p50, sizes.p99, sizes.max].map(thousands);
            lines.push(format!("  item bytes    {min} least, {p50} median, {p99} at the 99th percentile, {max} most"));
            lines.push(format!(
                "  write units   {:.1} a second at {} rows/s; {:.0} a million rows, which cost {:.2} USD at {} USD a million",
                answer.write_units_per_second,
                args.rate,
                answer.write_units_per_million_rows,
                answer.usd_per_million_rows,
                answer.usd_per_million_write_units,
            ));
            lines.push(format!("  repeated keys {} rows", thousands(answer.repeated_key_rows)));
        }
        lines
    }
}
