//! The session's view of its columns, compiled beside the table's: where each position of a struct goes, and which pairs of
//! types no value could bridge.

use super::*;

/// The session's view of its columns: where each position of a struct goes.
#[derive(Debug)]
pub struct RowsPlan {
    pub(super) columns: Vec<Shape>,
}

/// How nested values by position map to the target; mirrors the target's tree.
#[derive(Debug)]
pub(super) enum Shape {
    /// Nothing below is positional.
    Plain,
    /// A list or map whose elements have a shape.
    Elements(Box<Shape>),
    /// For each position of the session's struct: the target's field, `None` where the target has none.
    Struct(Vec<(Option<usize>, Shape)>),
    /// A value of any kind, and what the session says about it.
    Variant(Natural),
}

impl RowsPlan {
    /// Mirrors the plan's columns by the session's declared types.
    pub fn compile(plan: &Plan) -> Result<Self, PlanError> {
        let mut columns: Vec<Shape> = plan.incoming().fields.iter().map(|_| Shape::Plain).collect();
        for (position, name, target) in plan.used_columns() {
            let incoming = &plan.incoming().fields[position].data_type;
            match target {
                Used::Key(leaf) => check_leaf(leaf, incoming, name)?,
                Used::Column(target) => columns[position] = Shape::compile(target, incoming, name)?,
            }
        }
        Ok(Self { columns })
    }
}

impl Shape {
    pub(super) fn compile(target: &Target, incoming: &DataType, path: &str) -> Result<Self, PlanError> {
        let mismatch = || PlanError::TypeMismatch {
            path: path.to_owned(),
            found: incoming.to_string(),
            declared: target.describe().to_owned(),
            hint: "",
        };
        match (target, incoming) {
            (Target::Variant(_), incoming) => Ok(Self::Variant(Natural::compile(incoming, path)?)),
            (Target::Leaf(leaf), _) => check_leaf(leaf, incoming, path).map(|()| Self::Plain),
            (Target::Set { element: leaf }, DataType::Array { element, .. }) => {
                check_leaf(leaf, element, &format!("{path}[]")).map(|()| Self::Plain)
            }
            (Target::List { element: target, .. }, DataType::Array { element, .. }) => {
                Ok(Self::Elements(Box::new(Self::compile(target, element, &format!("{path}[]"))?)))
            }
            (Target::Map { key: leaf, value: target, .. }, DataType::Map { key, value, .. }) => {
                check_leaf(leaf, key, &format!("{path}{{key}}"))?;
                Ok(Self::Elements(Box::new(Self::compile(target, value, &format!("{path}{{}}"))?)))
            }
            (Target::Struct(target), DataType::Struct(fields)) => {
                let positions = fields.iter().map(|field| {
                    let path = format!("{path}.{}", field.name);
                    match target.fields.iter().position(|declared| *declared.name == *field.name) {
                        Some(at) => Ok((Some(at), Self::compile(&target.fields[at].target, &field.data_type, &path)?)),
                        None if target.unknown_fields == UnknownFields::Drop => Ok((None, Self::Plain)),
                        None => Err(PlanError::unknown_field(path, target)),
                    }
                });
                Ok(Self::Struct(positions.collect::<Result<_, PlanError>>()?))
            }
            _ => Err(mismatch()),
        }
    }
}

/// Whether values of the type that the session declares can fit a scalar at all. Values of other kinds than declared are
/// checked when they come.
fn check_leaf(leaf: &Leaf, incoming: &DataType, path: &str) -> Result<(), PlanError> {
    let kind = ValueKind::of(incoming);
    if kind.is_some_and(|kind| leaf.accepts(kind)) {
        return Ok(());
    }
    Err(PlanError::TypeMismatch {
        path: path.to_owned(),
        found: incoming.to_string(),
        declared: leaf.declared().to_owned(),
        hint: kind.map_or("", |kind| leaf.hint(kind)),
    })
}
