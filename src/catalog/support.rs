//! What a definition may ask for on this server. An option that is not supported is refused, never ignored.

use super::CatalogError;
use crate::payload::defaults;
use crate::schema::types::SchemaError;
use crate::schema::{DataType, Field, TableDef};

/// Refuses the options that this server does not carry out, and defaults that do not fit.
pub(super) fn check(def: &mut TableDef) -> Result<(), CatalogError> {
    let unsupported: [(bool, &str, &str); 2] = [
        (def.series.is_some(), "series", "the time-series layout is not supported yet; rows are stored one by one"),
        (def.lake.is_some(), "lake", "teeing rows into a lake table is not supported yet"),
    ];
    if let Some((_, option, reason)) = unsupported.into_iter().find(|(asked, ..)| *asked) {
        return Err(CatalogError::Unsupported { option: option.to_owned(), reason: reason.to_owned() });
    }
    fields("", &def.schema.fields)?;
    let checked = defaults::check(def);
    checked.map_err(|error| SchemaError::new(error.path, format!("the default {}", error.message)).into())
}

fn fields(parent: &str, columns: &[Field]) -> Result<(), CatalogError> {
    for field in columns {
        let path = if parent.is_empty() { field.name.clone() } else { format!("{parent}.{}", field.name) };
        if field.options.as_set
            && let DataType::Array { element, .. } = &field.data_type
            && matches!(
                **element,
                DataType::Variant | DataType::Array { .. } | DataType::Map { .. } | DataType::Struct(_)
            )
        {
            let message = format!("a set's elements must be texts, numbers or binaries, not {element}");
            return Err(SchemaError::new(path, message).into());
        }
        data_type(&path, &field.data_type)?;
    }
    Ok(())
}

fn data_type(path: &str, value: &DataType) -> Result<(), CatalogError> {
    match value {
        DataType::Array { element, .. } => data_type(&format!("{path}[]"), element),
        DataType::Map { value, .. } => data_type(&format!("{path}{{}}"), value),
        DataType::Struct(inner) => fields(path, inner),
        _ => Ok(()),
    }
}
