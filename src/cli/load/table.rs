//! The table that a file is loaded into: found or made, compared with the file's columns, and turned into the session's.

use tonic::Code;

use super::LoadArgs;
use super::prepare::{Does, Looked, LookedAt, Mode, Survey};
use crate::api::convert::{schema_to_proto, table_from_proto};
use crate::cli::{CliError, bad_answer};
use crate::client::{Client, ClientError};
use crate::proto::v1;
use crate::schema::{DataType, Field, TableDef, UnknownFields};

pub(in crate::cli) async fn existing(client: &Client, name: &str) -> Result<TableDef, CliError> {
    let table = match client.tables().get(name).await {
        Err(error @ ClientError::Refused { code: Code::NotFound, .. }) => {
            let CliError { exit, message } = error.into();
            let message = format!("{message}; make it by `forebay tables apply FILE`");
            return Err(CliError { exit, message });
        }
        answer => answer?.table.unwrap_or_default(),
    };
    table_from_proto("table", &table).map_err(bad_answer)
}

/// The table, made if it is not there. One that is there must have the same key; its columns stay as they are.
pub(super) async fn existing_or_new(
    client: &Client,
    args: &LoadArgs,
    LookedAt { name, survey, .. }: &LookedAt,
) -> Result<TableDef, CliError> {
    for column in &args.key {
        if !survey.columns.contains(column) {
            return Err(CliError::usage(format!(
                "the key column `{column}` is not in {name}, which has {}",
                survey.columns.join(", ")
            )));
        }
    }
    let table = match client.tables().get(&args.input.table).await {
        Err(ClientError::Refused { code: Code::NotFound, .. }) => {
            let is_variant =
                |name: &&String| survey.schema.field(name).is_some_and(|field| field.data_type == DataType::Variant);
            if let Some(column) = args.key.iter().find(is_variant) {
                return Err(CliError::usage(format!(
                    "{name}: the key column `{column}` holds values of several types, and a key must have one"
                )));
            }
            let table = new_table(args, survey);
            client.tables().apply(table, false).await?.table
        }
        answer => answer?.table,
    };
    let table = table_from_proto("table", &table.unwrap_or_default()).map_err(bad_answer)?;
    let key: Vec<_> = table.key_columns().collect();
    if key != args.key {
        return Err(CliError::usage(format!(
            "the table {} is there with the key {}, not {}",
            args.input.table,
            key.join(","),
            args.key.join(",")
        )));
    }
    Ok(table)
}

fn new_table(args: &LoadArgs, survey: &Survey) -> v1::Table {
    let mut schema = survey.schema.clone();
    for field in &mut schema.fields {
        field.nullable = !args.key.contains(&field.name);
    }
    let (partition, sort) = args.key.split_at(args.key.len().min(1));
    let key = v1::Key { partition: partition.to_vec(), sort: sort.to_vec(), ..v1::Key::default() };
    v1::Table {
        name: args.input.table.clone(),
        schema: Some(schema_to_proto(&schema)),
        key: Some(key),
        ..v1::Table::default()
    }
}

/// Whether the file's columns are the table's, and the key's are among them.
pub(super) fn check_columns(name: &str, survey: &Survey, table: &TableDef, does: Does<'_>) -> Result<(), CliError> {
    let is_unknown = |column: &&String| table.schema.field(column).is_none() && !does.is_operation(column);
    let unknown: Vec<_> = survey.columns.iter().filter(is_unknown).collect();
    if let [first, ..] = unknown[..]
        && table.unknown_fields == UnknownFields::Reject
    {
        let known: Vec<_> = table.schema.fields.iter().map(|field| field.name.as_str()).collect();
        let more = if unknown.len() > 1 { format!(" and {} more", unknown.len() - 1) } else { String::new() };
        return Err(CliError::usage(format!(
            "{name} has the column `{first}`{more}, which the table {} does not have; it has {}",
            table.name,
            known.join(", ")
        )));
    }
    // An empty NDJSON file has no columns at all.
    if survey.columns.is_empty() {
        return Ok(());
    }
    let needed = |field: &&Field| match does {
        Does::Each(Mode::Delete | Mode::Merge) => false,
        Does::Each(Mode::Put | Mode::Insert) | Does::ByColumn(_) => !field.nullable,
    };
    let key = table.key_columns().map(|column| (column, "key column"));
    let key = key.chain(table.sequence_by.as_deref().map(|column| (column, "sequence column")));
    let key = key.chain(match does {
        Does::ByColumn(column) => Some((column, "operation column")),
        Does::Each(_) => None,
    });
    let others = table.schema.fields.iter().filter(needed).map(|field| (field.name.as_str(), "NOT NULL column"));
    match key.chain(others).find(|(column, _)| !survey.columns.iter().any(|known| known == column)) {
        Some((column, what)) => Err(CliError::usage(format!(
            "{name} lacks the {what} `{column}` of the table {}; it has {}",
            table.name,
            survey.columns.join(", ")
        ))),
        None => Ok(()),
    }
}

/// The columns of the session with the table's types, everything nullable: what may not be null is for the gateway to say,
/// row by row.
pub(super) fn session_fields(looked: &Looked, survey: &Survey, table: &TableDef, does: Does<'_>) -> Vec<Field> {
    let of_table = |name: &String| match table.schema.field(name) {
        Some(field) => field.clone(),
        // The rows' operations, or dropped by the gateway, as the table's policy says.
        None => Field::new(name, DataType::String, true),
    };
    let mut fields: Vec<Field> = match looked {
        Looked::Csv(_) => survey.columns.iter().map(of_table).collect(),
        Looked::Ndjson(_) => match does {
            Does::Each(Mode::Put | Mode::Insert | Mode::Delete) => table.schema.fields.clone(),
            // A column that no line has is none to remove.
            Does::Each(Mode::Merge) | Does::ByColumn(_) => survey
                .columns
                .iter()
                .filter(|column| table.schema.field(column).is_some() || does.is_operation(column))
                .map(of_table)
                .collect(),
        },
        Looked::Columnar(_) => survey.own.fields.clone(),
    };
    fields.iter_mut().for_each(relax);
    fields
}

fn relax(field: &mut Field) {
    field.nullable = true;
    field.options = Default::default();
    relax_type(&mut field.data_type);
}

fn relax_type(data_type: &mut DataType) {
    match data_type {
        DataType::Array { element, contains_null } => {
            *contains_null = true;
            relax_type(element);
        }
        DataType::Map { value, value_contains_null, .. } => {
            *value_contains_null = true;
            relax_type(value);
        }
        DataType::Struct(fields) => fields.iter_mut().for_each(relax),
        _ => {}
    }
}
