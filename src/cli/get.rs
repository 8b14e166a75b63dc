//! `forebay get TABLE KEY...`: one row, or with `--range` the rows under a partition key; for people or as JSON.

use std::io::Write;
use std::num::NonZeroU64;

use serde_json::json;

use super::{CliError, ClientArgs, Exit};
use crate::api::convert::{schema_from_proto, table_from_proto};
use crate::client::{Client, Lookup, RangeOptions};
use crate::payload::values::{json, text};
use crate::proto::v1::Value;
use crate::schema::{Schema, TableDef};

/// Arguments of `get`.
#[derive(Debug, clap::Args)]
pub struct GetArgs {
    /// The table
    table: String,
    /// The key: one value for each key column, partition columns first; with --range the partition columns alone
    #[arg(required = true, allow_negative_numbers = true)]
    key: Vec<String>,
    /// Only these columns, in this order
    #[arg(long, value_delimiter = ',', value_name = "COLUMN,...")]
    columns: Vec<String>,
    /// See every confirmed write, at twice the price
    #[arg(long)]
    strong: bool,
    /// Print one JSON object: {"table", "status", "row"}; with --range the rows, one a line
    #[arg(long)]
    json: bool,
    /// All rows under the partition key, in the order of their sort key
    #[arg(long)]
    range: bool,
    /// Only rows from this sort key on; once for each sort column
    #[arg(long, requires = "range", value_name = "VALUE", allow_negative_numbers = true)]
    from: Vec<String>,
    /// Only rows before this sort key; once for each sort column
    #[arg(long, requires = "range", value_name = "VALUE", allow_negative_numbers = true)]
    to: Vec<String>,
    /// The greatest sort key first
    #[arg(long, requires = "range")]
    descending: bool,
    /// At most so many rows
    #[arg(long, requires = "range", value_name = "ROWS")]
    limit: Option<NonZeroU64>,
    #[command(flatten)]
    client: ClientArgs,
}

pub(super) async fn run(args: GetArgs) -> Result<Exit, CliError> {
    let client = args.client.connect()?;
    let table = client.tables().get(&args.table).await?.table.unwrap_or_default();
    let table = table_from_proto("table", &table).map_err(super::bad_answer)?;
    if args.range {
        return range(&client, &table, &args).await;
    }
    let key = parse_key("key", &table, table.key_columns(), &args.key)?;
    let columns: Vec<_> = args.columns.iter().map(String::as_str).collect();
    let read = client.reader().strong(args.strong).get_row(&args.table, key, &columns).await?;
    let (status, exit, message) = match &read.lookup {
        Lookup::Found(_) => ("FOUND", Exit::Ok, String::new()),
        Lookup::NotFound => ("NOT_FOUND", Exit::NotFound, "there is no such row".to_owned()),
        Lookup::Expired => ("EXPIRED", Exit::NotFound, "the row's time to live has passed".to_owned()),
        Lookup::Unavailable(message) => ("UNAVAILABLE", Exit::Gateway, message.clone()),
        Lookup::Denied(message) => ("DENIED", Exit::Gateway, message.clone()),
        Lookup::Undecodable(message) => ("UNDECODABLE", Exit::Gateway, message.clone()),
    };
    if let Lookup::Found(values) = &read.lookup {
        let schema = schema_from_proto("columns", &read.columns).map_err(super::bad_answer)?;
        let row = row_json(&schema, values);
        if args.json {
            super::print_json(&json!({ "table": args.table, "status": status, "row": row }))?;
        } else {
            write!(std::io::stdout().lock(), "{}", pretty(&row))?;
        }
        return Ok(exit);
    }
    if args.json {
        super::print_json(&json!({ "table": args.table, "status": status, "message": message }))?;
    }
    Err(CliError { exit, message: format!("{} {}: {message}", args.table, args.key.join(" ")) })
}

/// Prints the rows of a range as they come.
async fn range(client: &Client, table: &TableDef, args: &GetArgs) -> Result<Exit, CliError> {
    let parse = |part: &str, columns: &[String], texts: &[String]| {
        parse_key(part, table, columns.iter().map(String::as_str), texts)
    };
    let bound = |texts: &[String]| match texts {
        [] => Ok(None),
        texts => parse("sort key", &table.key.sort, texts).map(Some),
    };
    let options = RangeOptions {
        from: bound(&args.from)?,
        to: bound(&args.to)?,
        descending: args.descending,
        limit: args.limit,
        columns: args.columns.clone(),
    };
    let partition = parse("partition key", &table.key.partition, &args.key)?;
    let mut rows = client.reader().strong(args.strong).range(&args.table, partition, options).await?;
    let schema = schema_from_proto("columns", rows.columns()).map_err(super::bad_answer)?;
    let mut any = false;
    while let Some(values) = rows.next().await? {
        let row = row_json(&schema, &values);
        let mut out = std::io::stdout().lock();
        match args.json {
            true => writeln!(out, "{}", serde_json::Value::Object(row))?,
            // An empty line between two rows.
            false => write!(out, "{}{}", if any { "\n" } else { "" }, pretty(&row))?,
        }
        any = true;
    }
    if any {
        return Ok(Exit::Ok);
    }
    let message = format!("{} {}: there are no such rows", args.table, args.key.join(" "));
    Err(CliError { exit: Exit::NotFound, message })
}

/// The values of a key, or of a part of it, read as the declared types of its columns.
fn parse_key<'a>(
    part: &str,
    table: &TableDef,
    columns: impl Iterator<Item = &'a str>,
    texts: &[String],
) -> Result<Vec<Value>, CliError> {
    let columns: Vec<_> = columns.filter_map(|name| table.schema.field(name)).collect();
    if columns.len() != texts.len() {
        let names: Vec<_> = columns.iter().map(|field| format!("{} {}", field.name, field.data_type)).collect();
        return Err(CliError::usage(format!(
            "the {part} of {} has {} column{} ({}); {} value{} given",
            table.name,
            columns.len(),
            if columns.len() == 1 { "" } else { "s" },
            names.join(", "),
            texts.len(),
            if texts.len() == 1 { " is" } else { "s are" },
        )));
    }
    let parse = |(field, text): (&&crate::schema::Field, &String)| {
        text::parse(&field.name, text, &field.data_type)
            .map_err(|misfit| CliError::usage(format!("key column {}: `{text}`: {}", misfit.path, misfit.message)))
    };
    columns.iter().zip(texts).map(parse).collect()
}

/// A row as a JSON object, in the order of its columns.
pub(super) fn row_json(schema: &Schema, values: &[Value]) -> serde_json::Map<String, serde_json::Value> {
    let columns = schema.fields.iter().zip(values);
    columns.map(|(field, value)| (field.name.clone(), json::to_json(value, Some(&field.data_type)))).collect()
}

/// A column a line, values in line; nested values indented below their column.
fn pretty(row: &serde_json::Map<String, serde_json::Value>) -> String {
    let width = row.keys().map(|name| name.chars().count()).max().unwrap_or(0);
    let mut out = String::new();
    for (name, value) in row {
        let text = match value {
            serde_json::Value::String(text) => text.clone(),
            serde_json::Value::Array(_) | serde_json::Value::Object(_) => {
                let line = value.to_string();
                let room = 100_usize.saturating_sub(width);
                if line.len() <= room { line } else { format!("{value:#}") }
            }
            other => other.to_string(),
        };
        let indented = text.replace('\n', &format!("\n{:width$}  ", ""));
        out.push_str(&format!("{name:width$}  {indented}\n"));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::v1::value::Kind;
    use crate::schema::{DataType, Field, KeyDef};

    fn table() -> TableDef {
        let fields = vec![
            Field::new("card", DataType::String, false),
            Field::new("day", DataType::Date, false),
            Field::new("score", DataType::Double, true),
        ];
        let key = KeyDef {
            partition: vec!["card".to_owned()],
            sort: vec!["day".to_owned()],
            partition_attribute: "_pk".to_owned(),
            sort_attribute: "_sk".to_owned(),
        };
        TableDef::new("scores", Schema { fields }, key, "scores")
    }

    #[test]
    fn keys_are_read_as_the_key_columns_types() {
        let key =
            parse_key("key", &table(), table().key_columns(), &["17".to_owned(), "1970-01-02".to_owned()]).unwrap();
        let kinds: Vec<_> = key.into_iter().map(|value| value.kind.unwrap()).collect();
        assert_eq!(kinds, [Kind::StringValue("17".to_owned()), Kind::DateDays(1)]);
    }

    #[test]
    fn a_key_that_cannot_be_is_a_sentence() {
        let error = parse_key("key", &table(), table().key_columns(), &["17".to_owned()]).unwrap_err();
        assert_eq!(error.message, "the key of scores has 2 columns (card string, day date); 1 value is given");
        let error =
            parse_key("key", &table(), table().key_columns(), &["17".to_owned(), "soon".to_owned()]).unwrap_err();
        assert_eq!(error.message, "key column day: `soon`: the text is no date; expected YYYY-MM-DD");
    }

    #[test]
    fn rows_are_aligned() {
        let row = serde_json::json!({ "card": "17", "amounts": [1, 2], "x": null });
        assert_eq!(pretty(row.as_object().unwrap()), "card     17\namounts  [1,2]\nx        null\n");
    }
}
