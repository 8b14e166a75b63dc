//! CSV and NDJSON: looked at beforehand for structure, columns and types; then read row by row into the declared
//! types, by the table's mode.
//!
//! A file whose structure is broken is refused before anything is sent. Of a stream only the start can be looked at: a broken
//! line further on ends the load there. A cell that does not fit its type only rejects its row.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Lines};
use std::sync::Arc;

use arrow_schema::SchemaRef;
use serde_json::value::RawValue;

use super::infer::{JsonColumn, TextColumn, schema_of, see_members};
use super::input::{ByteSource, Input};
use super::prepare::{Merges, Settings, Survey};
use super::source::{Block, Content, Kept, Origin, Rejected, RowText, Source, rows_to_arrow};
use crate::cli::CliError;
use crate::payload::values::fit::Fit;
use crate::payload::values::json::{self, Members, UNKNOWN_FIELD};
use crate::payload::values::{Misfit, text};
use crate::proto::v1::{Row, RowReason, Value, value::Kind};
use crate::schema::{Field, Schema};

fn csv_reader(bytes: ByteSource) -> csv::Reader<ByteSource> {
    csv::ReaderBuilder::new().buffer_capacity(256 * 1024).from_reader(bytes)
}

fn headers(name: &str, reader: &mut csv::Reader<ByteSource>) -> Result<Vec<String>, CliError> {
    let record = reader.headers().map_err(|error| csv_error(name, &error))?;
    let mut headers: Vec<String> = record.iter().map(str::to_owned).collect();
    if let Some(first) = headers.first_mut() {
        // Spreadsheets put a byte-order mark in front.
        *first = first.trim_start_matches('\u{feff}').to_owned();
    }
    if headers.iter().all(String::is_empty) {
        return Err(CliError::usage(format!("{name} has no header line")));
    }
    for (at, header) in headers.iter().enumerate() {
        if header.is_empty() {
            return Err(CliError::usage(format!("{name} line 1: column {} of the header has no name", at + 1)));
        }
        if headers[..at].contains(header) {
            return Err(CliError::usage(format!("{name} line 1: the header has the column `{header}` twice")));
        }
    }
    Ok(headers)
}

fn csv_error(name: &str, error: &csv::Error) -> CliError {
    let line = error.position().map(|position| format!(" line {}", position.line())).unwrap_or_default();
    CliError::usage(match error.kind() {
        csv::ErrorKind::UnequalLengths { expected_len, len, .. } => {
            format!("{name}{line}: {len} field{}, the header has {expected_len}", if *len == 1 { "" } else { "s" })
        }
        csv::ErrorKind::Utf8 { err, .. } => format!("{name}{line}: field {} is not UTF-8", err.field() + 1),
        csv::ErrorKind::Io(error) => format!("{name}{line} cannot be read: {error}"),
        _ => format!("{name}{line}: {error}"),
    })
}

/// Looks at a CSV file.
pub(super) fn survey_csv(input: &Input, infer: bool) -> Result<Survey, CliError> {
    let mut reader = csv_reader(input.sample()?);
    let headers = headers(&input.name, &mut reader)?;
    let mut columns = vec![TextColumn::default(); headers.len()];
    let mut record = csv::StringRecord::new();
    let mut rows = 0;
    loop {
        match reader.read_record(&mut record) {
            Ok(true) => {}
            Ok(false) => break,
            Err(error) if input.is_seen_whole() => return Err(csv_error(&input.name, &error)),
            // The cut at the end of a stream's start can be in the middle of a record; reading it all will tell.
            Err(_) => break,
        }
        rows += 1;
        if infer {
            for (column, cell) in columns.iter_mut().zip(&record) {
                if !cell.is_empty() {
                    column.see(cell);
                }
            }
        }
    }
    let field = |(name, column): (&String, &TextColumn)| Field::new(name, column.data_type(), true);
    let schema = Schema { fields: headers.iter().zip(&columns).map(field).collect() };
    Ok(Survey {
        columns: headers,
        own: schema.clone(),
        schema,
        spark: None,
        arrow: None,
        rows: input.is_seen_whole().then_some(rows),
    })
}

/// Looks at an NDJSON file.
pub(super) fn survey_ndjson(input: &Input) -> Result<Survey, CliError> {
    let mut columns: Vec<(String, JsonColumn)> = Vec::new();
    let mut lines = JsonLines::new(&input.name, input.sample()?);
    let mut rows = 0;
    while let Some((number, line)) = lines.next_line()? {
        let members = members(&input.name, number, &line)?;
        see_members(&mut columns, &members);
        rows += 1;
    }
    let names = columns.iter().map(|(name, _)| name.clone()).collect();
    let schema = schema_of(&columns);
    Ok(Survey {
        columns: names,
        own: schema.clone(),
        schema,
        spark: None,
        arrow: None,
        rows: input.is_seen_whole().then_some(rows),
    })
}

fn members<'a>(name: &str, line_number: u64, line: &'a str) -> Result<Members<'a>, CliError> {
    serde_json::from_str(line).map_err(|error| {
        let message = error.to_string();
        // serde counts within the line.
        let message = message.rsplit_once(" at line ").map_or(message.as_str(), |(message, _)| message);
        CliError::usage(format!(
            "{name} line {line_number}, column {}: {message}; expected one JSON object",
            error.column()
        ))
    })
}

/// Lines that are not blank, with their numbers.
struct JsonLines {
    name: String,
    lines: Lines<BufReader<ByteSource>>,
    number: u64,
}

impl JsonLines {
    fn new(name: &str, bytes: ByteSource) -> Self {
        Self { name: name.to_owned(), lines: BufReader::with_capacity(256 * 1024, bytes).lines(), number: 0 }
    }

    fn next_line(&mut self) -> Result<Option<(u64, String)>, CliError> {
        for line in self.lines.by_ref() {
            self.number += 1;
            let line = line.map_err(|error| CliError::usage(format!("{} line {}: {error}", self.name, self.number)))?;
            if !line.trim().is_empty() {
                return Ok(Some((self.number, line)));
            }
        }
        Ok(None)
    }
}

/// Reads rows of a text format.
pub(super) struct TextSource {
    lines: TextLines,
    name: String,
    /// The session's columns: the header's for CSV, the table's for NDJSON, or those of them that were seen.
    fields: Vec<Field>,
    fit: Fit,
    merges: Merges,
    /// Set where rows go as Arrow.
    arrow: Option<SchemaRef>,
    keep: bool,
    batch_rows: usize,
    rows: u64,
    /// Comes after the rows before it.
    broken: Option<CliError>,
}

enum TextLines {
    Csv { reader: csv::Reader<ByteSource>, headers: Arc<[String]> },
    Ndjson(JsonLines),
}

/// One row: its values or why not, and what to keep of it.
struct Line {
    values: Result<Vec<Value>, Misfit>,
    /// Paths of the fields that were left out.
    dropped: Vec<String>,
    record: Option<csv::StringRecord>,
    line: Option<String>,
}

impl TextSource {
    pub(super) fn csv(input: Input, fields: Vec<Field>, settings: &Settings) -> Result<Self, CliError> {
        let name = input.name.clone();
        let mut reader = csv_reader(input.into_reader()?);
        let headers = headers(&name, &mut reader)?.into();
        Ok(Self::new(TextLines::Csv { reader, headers }, name, fields, settings))
    }

    pub(super) fn ndjson(input: Input, fields: Vec<Field>, settings: &Settings) -> Result<Self, CliError> {
        let name = input.name.clone();
        let lines = JsonLines::new(&name, input.into_reader()?);
        Ok(Self::new(TextLines::Ndjson(lines), name, fields, settings))
    }

    fn new(lines: TextLines, name: String, fields: Vec<Field>, settings: &Settings) -> Self {
        Self {
            lines,
            name,
            fields,
            fit: settings.fit,
            merges: settings.merges,
            arrow: settings.arrow.clone(),
            keep: settings.keep,
            batch_rows: settings.batch_rows,
            rows: 0,
            broken: None,
        }
    }

    fn next_row(&mut self) -> Result<Option<Line>, CliError> {
        match &mut self.lines {
            TextLines::Csv { reader, .. } => {
                let mut record = csv::StringRecord::new();
                if !reader.read_record(&mut record).map_err(|error| csv_error(&self.name, &error))? {
                    return Ok(None);
                }
                let (fit, mut dropped) = (self.fit, Vec::new());
                let cell = |(field, cell): (&Field, &str)| match cell {
                    "" => Ok(Value::default()),
                    cell => text::read(&field.name, cell, &field.data_type, fit, &mut dropped),
                };
                let values = self.fields.iter().zip(&record).map(cell).collect();
                Ok(Some(Line { values, dropped, record: self.keep.then_some(record), line: None }))
            }
            TextLines::Ndjson(lines) => {
                let Some((number, line)) = lines.next_line()? else { return Ok(None) };
                let members = members(&self.name, number, &line)?;
                let mut dropped = Vec::new();
                let values = row_values(&self.fields, &members, self.fit, self.merges, &mut dropped);
                Ok(Some(Line { values, dropped, record: None, line: self.keep.then_some(line) }))
            }
        }
    }
}

/// A row of JSON by the session's columns.
fn row_values(
    fields: &[Field],
    Members(members): &Members<'_>,
    fit: Fit,
    merges: Merges,
    dropped: &mut Vec<String>,
) -> Result<Vec<Value>, Misfit> {
    let mut values = vec![None; fields.len()];
    for (at, (name, raw)) in members.iter().enumerate() {
        let known = match fields.get(at) {
            Some(field) if field.name == *name => Some(at),
            _ => fields.iter().position(|field| field.name == *name),
        };
        let raw: &RawValue = raw;
        match known {
            Some(at) if values[at].is_some() => {
                return Err(json::comes_twice(name, "a row has each of its columns once"));
            }
            Some(at) => values[at] = Some(json::read(name, raw, &fields[at].data_type, fit, dropped)?),
            None if fit.drop_unknown => dropped.push(name.clone()),
            None => {
                let misfit = Misfit::new(name, RowReason::UnknownField, "the table has no such column");
                return Err(misfit.hint(UNKNOWN_FIELD));
            }
        }
    }
    if is_merged(merges, &values)
        && let Some(absent) = values.iter().position(Option::is_none)
    {
        let message = "the line lacks the column, which other lines have: a merge would remove it";
        let misfit = Misfit::new(&fields[absent].name, RowReason::NullNotAllowed, message);
        return Err(misfit.hint("write null to remove it, or load lines with other columns on their own"));
    }
    Ok(values.into_iter().map(Option::unwrap_or_default).collect())
}

/// Whether a row is merged.
fn is_merged(merges: Merges, values: &[Option<Value>]) -> bool {
    match merges {
        Merges::None => false,
        Merges::All => true,
        Merges::ByColumn(at) => match values.get(at) {
            Some(Some(Value { kind: Some(Kind::StringValue(operation)) })) => operation.eq_ignore_ascii_case("merge"),
            // The gateway says what is wrong with it.
            _ => false,
        },
    }
}

impl Source for TextSource {
    fn next(&mut self) -> Result<Option<Block>, CliError> {
        if let Some(error) = self.broken.take() {
            return Err(error);
        }
        let (mut rows, mut rejects) = (Vec::with_capacity(self.batch_rows), Vec::new());
        let (mut numbers, mut records, mut lines) = (Vec::with_capacity(self.batch_rows), Vec::new(), Vec::new());
        let mut dropped = BTreeMap::new();
        while rows.len() + rejects.len() < self.batch_rows {
            let line = match self.next_row() {
                Ok(Some(line)) => line,
                Ok(None) => break,
                Err(error) => {
                    self.broken = Some(error);
                    break;
                }
            };
            self.rows += 1;
            match line.values {
                Ok(values) => {
                    rows.push(Row { values });
                    numbers.push(self.rows);
                    if !line.dropped.is_empty() {
                        dropped.insert(self.rows, line.dropped);
                    }
                    records.extend(line.record);
                    lines.extend(line.line);
                }
                Err(misfit) => {
                    let values = match (&self.lines, line.record, line.line) {
                        (TextLines::Csv { headers, .. }, Some(record), _) => Some(RowText::record(headers, &record)),
                        (_, _, Some(line)) => Some(RowText::line(line)),
                        _ => None,
                    };
                    rejects.push(Rejected { number: self.rows, misfit, values });
                }
            }
        }
        if rows.is_empty() && rejects.is_empty() {
            return self.broken.take().map_or(Ok(None), Err);
        }
        let kept = match &self.lines {
            _ if !self.keep => Kept::Nothing,
            TextLines::Csv { headers, .. } => Kept::Records { headers: Arc::clone(headers), records },
            TextLines::Ndjson(_) => Kept::Lines(lines),
        };
        let mut origin = Origin { numbers, kept, dropped };
        let content = match &self.arrow {
            None => Content::Rows(rows),
            Some(schema) => Content::Arrow(rows_to_arrow(schema, rows, &mut origin, &mut rejects)?),
        };
        Ok(Some(Block { content, origin, rejects }))
    }
}
