//! Items from DynamoDB's JSON, for tests that decode what the encoder wrote.

use crate::store::{Attr, Item};

/// DynamoDB's JSON as an attribute.
fn attr(json: &serde_json::Value) -> Attr {
    let (kind, content) = json.as_object().unwrap().iter().next().unwrap();
    let text = || content.as_str().unwrap().to_owned();
    let texts = || content.as_array().unwrap().iter().map(|text| text.as_str().unwrap().to_owned()).collect::<Vec<_>>();
    let bytes = |text: &str| base64::Engine::decode(&base64::engine::general_purpose::STANDARD, text).unwrap().into();
    match kind.as_str() {
        "S" => Attr::S(text()),
        "N" => Attr::N(text()),
        "B" => Attr::B(bytes(&text())),
        "BOOL" => Attr::Bool(content.as_bool().unwrap()),
        "NULL" => Attr::Null,
        "SS" => Attr::Ss(texts()),
        "NS" => Attr::Ns(texts()),
        "BS" => Attr::Bs(texts().iter().map(|text| bytes(text)).collect()),
        "L" => Attr::L(content.as_array().unwrap().iter().map(attr).collect()),
        "M" => Attr::M(item_of_json(content)),
        other => panic!("{other}"),
    }
}

/// An item from its JSON.
pub(in crate::payload) fn item_of_json(json: &serde_json::Value) -> Item {
    json.as_object().unwrap().iter().map(|(name, json)| (name.clone(), attr(json))).collect()
}
