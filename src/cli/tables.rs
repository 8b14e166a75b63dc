//! `forebay tables apply|get|list|drop`.

use std::io::{BufRead as _, IsTerminal as _, Write as _};
use std::path::PathBuf;

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::{CliError, ClientArgs, Exit, print_json, table_file};
use crate::api::convert;
use crate::client::Client;
use crate::proto::v1;
use crate::schema::{TableDef, ddl, spark_json};

/// Arguments of `tables`.
#[derive(Debug, Args)]
pub struct TablesArgs {
    #[command(flatten)]
    client: ClientArgs,
    #[command(subcommand)]
    command: TablesCommand,
}

/// The subcommands of `tables`.
#[derive(Debug, Subcommand)]
pub(super) enum TablesCommand {
    /// Create, bind or evolve tables from YAML files; applying the same again changes nothing
    Apply {
        /// The table files
        #[arg(required = true, value_name = "FILE")]
        files: Vec<PathBuf>,
        /// Say what would change, and change nothing
        #[arg(long)]
        dry_run: bool,
        /// Print one JSON object
        #[arg(long)]
        json: bool,
    },
    /// Show a table as a file that `apply` accepts
    Get {
        /// The table
        name: String,
        /// Print one JSON object, with the columns as Spark's JSON
        #[arg(long, conflicts_with = "ddl")]
        json: bool,
        /// Print the columns alone, as DDL
        #[arg(long)]
        ddl: bool,
    },
    /// List the tables
    List {
        /// Print one JSON object
        #[arg(long)]
        json: bool,
    },
    /// Drop a table: unbind a bound one, delete one that Forebay created
    Drop {
        /// The table
        name: String,
        /// Delete the DynamoDB table and all its rows, where Forebay created it
        #[arg(long)]
        force: bool,
        /// Do not ask
        #[arg(long)]
        yes: bool,
        /// Print one JSON object
        #[arg(long)]
        json: bool,
    },
}

/// Runs the command.
pub(super) async fn run(args: TablesArgs) -> Result<Exit, CliError> {
    let client = || args.client.connect();
    match args.command {
        TablesCommand::Apply { files, dry_run, json } => apply(client, &files, dry_run, json).await,
        TablesCommand::Get { name, json, ddl } => get(&client()?, &name, json, ddl).await,
        TablesCommand::List { json } => list(&client()?, json).await,
        TablesCommand::Drop { name, force, yes, json } => drop_table(&client()?, &name, force, yes, json).await,
    }
}

async fn apply(
    client: impl Fn() -> Result<Client, CliError>,
    files: &[PathBuf],
    dry_run: bool,
    json: bool,
) -> Result<Exit, CliError> {
    // All files are read before the first table is sent, so that a mistake in the last leaves nothing half done.
    let mut tables: Vec<TableDef> = Vec::new();
    for file in files {
        for def in table_file::read(file).map_err(|error| CliError::usage(error.to_string()))? {
            if tables.iter().any(|other| other.name == def.name) {
                return Err(CliError::usage(format!("{}: table `{}` is in two files", file.display(), def.name)));
            }
            tables.push(def);
        }
    }
    let client = client()?.tables();
    let mut results = Vec::new();
    let mut failed = None;
    for def in &tables {
        match client.apply(convert::table_to_proto(def), dry_run).await {
            Ok(answer) if json => results.push(applied_json(def, &answer)),
            Ok(answer) => print(&applied_text(def, &answer, dry_run))?,
            Err(error) => {
                let error = CliError::from(error);
                let named = error.message.contains(&format!("`{}`", def.name));
                let message = if named { error.message } else { format!("table `{}`: {}", def.name, error.message) };
                failed = Some(CliError { message, ..error });
                break;
            }
        }
    }
    if json {
        print_json(&json!({ "dry_run": dry_run, "tables": results }))?;
    }
    failed.map_or(Ok(Exit::Ok), Err)
}

fn applied_json(def: &TableDef, answer: &v1::ApplyTableResponse) -> Value {
    json!({
        "name": def.name,
        "result": result_name(answer.result()),
        "schema_version": answer.schema_version,
        "dynamodb_table": answer.table.as_ref().map(|table| &table.dynamodb_table),
        "changes": answer.changes,
    })
}

fn applied_text(def: &TableDef, answer: &v1::ApplyTableResponse, dry_run: bool) -> String {
    let dynamodb = answer.table.as_ref().map_or("", |table| table.dynamodb_table.as_str());
    let (name, version) = (&def.name, answer.schema_version);
    let would = if dry_run { "would be " } else { "" };
    let mut text = match answer.result() {
        v1::ApplyResult::Created => {
            format!("{would}created: `{name}`, version {version}, in the new DynamoDB table `{dynamodb}`")
        }
        v1::ApplyResult::Bound => {
            format!("{would}bound: `{name}`, version {version}, to the DynamoDB table `{dynamodb}`")
        }
        v1::ApplyResult::Evolved => format!("{would}changed: `{name}`, now version {version}"),
        v1::ApplyResult::Unchanged | v1::ApplyResult::Unspecified => format!("unchanged: `{name}`, version {version}"),
    };
    for change in &answer.changes {
        text.push_str("\n  ");
        text.push_str(change);
    }
    text
}

fn result_name(result: v1::ApplyResult) -> &'static str {
    match result {
        v1::ApplyResult::Created => "created",
        v1::ApplyResult::Bound => "bound",
        v1::ApplyResult::Evolved => "evolved",
        v1::ApplyResult::Unchanged => "unchanged",
        v1::ApplyResult::Unspecified => "unspecified",
    }
}

async fn get(client: &Client, name: &str, json: bool, as_ddl: bool) -> Result<Exit, CliError> {
    let answer = client.tables().get(name).await?;
    let table = answer.table.clone().unwrap_or_default();
    let ownership = table.ownership();
    let unreadable = |problem: String| CliError {
        exit: Exit::Gateway,
        message: format!("the gateway's answer for table `{name}` cannot be read: {problem}"),
    };
    let def = convert::table_from_proto("table", &table).map_err(|error| unreadable(error.to_string()))?;
    if as_ddl {
        print(&ddl::print_lines(&def.schema))?;
    } else if json {
        let schema: Value =
            serde_json::from_str(&spark_json::print(&def.schema)).map_err(|error| unreadable(error.to_string()))?;
        let mut all = serde_json::Map::new();
        all.insert("name".to_owned(), json!(def.name));
        all.insert("schema_version".to_owned(), json!(answer.schema_version));
        all.insert("applied_at".to_owned(), json!(answer.applied_at.map(|at| at.to_string())));
        all.insert("ownership".to_owned(), json!(ownership_name(ownership)));
        all.extend(table_file::options(&def));
        all.insert("schema".to_owned(), schema);
        print_json(&Value::Object(all))?;
    } else {
        let text = table_file::print(&def).map_err(|error| unreadable(error.to_string()))?;
        let applied = answer.applied_at.map_or(String::new(), |at| format!(" of {at}"));
        let ownership = ownership_name(ownership);
        print(&format!("# version {}{applied}; the DynamoDB table is {ownership}", answer.schema_version))?;
        print(text.trim_end())?;
    }
    Ok(Exit::Ok)
}

async fn list(client: &Client, json: bool) -> Result<Exit, CliError> {
    let tables = client.tables().list().await?;
    if json {
        let rows = tables.iter().map(|table| {
            let key = table.key.clone().unwrap_or_default();
            json!({
                "name": table.name,
                "schema_version": table.schema_version,
                "columns": table.column_count,
                "key": { "partition": key.partition, "sort": key.sort },
                "dynamodb_table": table.dynamodb_table,
                "ownership": ownership_name(table.ownership()),
            })
        });
        print_json(&json!({ "tables": rows.collect::<Vec<_>>() }))?;
        return Ok(Exit::Ok);
    }
    let head = ["TABLE", "VERSION", "COLUMNS", "KEY", "DYNAMODB TABLE", "OWNERSHIP"].map(str::to_owned);
    let rows = tables.iter().map(|table| {
        [
            table.name.clone(),
            table.schema_version.to_string(),
            table.column_count.to_string(),
            key_text(table.key.as_ref()),
            table.dynamodb_table.clone(),
            ownership_name(table.ownership()).to_owned(),
        ]
    });
    let rows: Vec<_> = std::iter::once(head).chain(rows).collect();
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths: [usize; 6] = std::array::from_fn(width);
    for row in &rows {
        let cells = row.iter().zip(widths).map(|(cell, width)| format!("{cell:width$}"));
        print(cells.collect::<Vec<_>>().join("  ").trim_end())?;
    }
    Ok(Exit::Ok)
}

/// `user_id, at` or `(market, sku), valid_from`.
fn key_text(key: Option<&v1::Key>) -> String {
    let Some(key) = key else { return String::new() };
    let join = |columns: &[String]| match columns {
        [one] => one.clone(),
        several => format!("({})", several.join(", ")),
    };
    if key.sort.is_empty() { join(&key.partition) } else { format!("{}, {}", join(&key.partition), join(&key.sort)) }
}

fn ownership_name(ownership: v1::Ownership) -> &'static str {
    match ownership {
        v1::Ownership::Created => "created",
        v1::Ownership::Bound => "bound",
        v1::Ownership::Unspecified => "unknown",
    }
}

async fn drop_table(client: &Client, name: &str, force: bool, yes: bool, json: bool) -> Result<Exit, CliError> {
    let tables = client.tables();
    if !yes {
        let table = tables.get(name).await?.table.unwrap_or_default();
        if !confirmed(&table, force)? {
            return Err(CliError::usage(format!("table `{name}` was not dropped")));
        }
    }
    let deleted = tables.drop(name, force).await?.deleted;
    if json {
        print_json(&json!({ "name": name, "deleted": deleted }))?;
    } else if deleted {
        print(&format!("dropped: `{name}`, and its DynamoDB table was deleted"))?;
    } else {
        print(&format!("dropped: `{name}`; its DynamoDB table was not touched"))?;
    }
    Ok(Exit::Ok)
}

/// Asks on the terminal; where there is none, `--yes` has to be said.
fn confirmed(table: &v1::Table, force: bool) -> Result<bool, CliError> {
    let (name, dynamodb) = (&table.name, &table.dynamodb_table);
    if !std::io::stdin().is_terminal() {
        return Err(CliError::usage(format!("dropping table `{name}` needs --yes where nobody can be asked")));
    }
    let what = match table.ownership() {
        v1::Ownership::Created if force => format!("and DELETE the DynamoDB table `{dynamodb}` with all its rows"),
        _ => format!("and leave the DynamoDB table `{dynamodb}` as it is"),
    };
    let mut terminal = std::io::stderr().lock();
    write!(terminal, "Drop table `{name}` {what}? [y/N] ")?;
    terminal.flush()?;
    let mut answer = String::new();
    std::io::stdin().lock().read_line(&mut answer)?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}

fn print(text: &str) -> Result<(), CliError> {
    Ok(writeln!(std::io::stdout().lock(), "{text}")?)
}
