//! Items from DynamoDB's JSON, for tests that decode what the encoder wrote.

use crate::store::{Attr, Item};

/// DynamoDB's JSON as an attribute.
fn attr(json: &serde_json::Value) -> Attr {
    let (kind, content) = json.as_object().unwrap().iter().next().unwrap();
    let text = || content.as_str().unwrap().to_owned();
    match kind.as_str() {
        "S" => Attr::S(text()),
        "N" => Attr::N(text()),
        "B" => {
            let bytes = base64::Engine::decode(&base64::engine::general_purpose::STANDARD, text()).unwrap();
            Attr::B(bytes.into())
        }
        "BOOL" => Attr::Bool(content.as_bool().unwrap()),
        "NULL" => Attr::Null,
        "L" => Attr::L(content.as_array().unwrap().iter().map(attr).collect()),
        "M" => Attr::M(item_of_json(content)),
        other => panic!("{other}"),
    }
}

/// An item from its JSON.
pub(in crate::payload) fn item_of_json(json: &serde_json::Value) -> Item {
    json.as_object().unwrap().iter().map(|(name, json)| (name.clone(), attr(json))).collect()
}
