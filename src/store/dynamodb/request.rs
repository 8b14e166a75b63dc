//! The bodies of write requests, put together from the items' own text.
//!
//! Names and values of expressions are copied as well: `#0` and `:0` stand for the first attribute of a merge, `#s` and
//! `:s` for the sequence, `#k` for a key attribute, `#d` for the mark of a tombstone, `#x` for its expiry.
//!
//! Invariant: what is built is what was asked for, or [`Unfit`]; nothing is left out. Caller: `write`.

use smallvec::SmallVec;

use crate::schema::table::TOMBSTONE_ATTRIBUTE;
use crate::store::members::Member;
use crate::store::{BatchWrite, OneWrite, SequenceRule, TransactWrite, WriteItem, WriteOp};

const PUT_OPEN: &[u8] = br#"{"PutRequest":{"Item":"#;
const DELETE_OPEN: &[u8] = br#"{"DeleteRequest":{"Key":"#;
const REQUEST_CLOSE: &[u8] = b"}}";
const CAPACITY: &[u8] = br#","ReturnConsumedCapacity":"TOTAL"}"#;
const NAMES_OPEN: &[u8] = br#","ExpressionAttributeNames":{"#;
const VALUES_OPEN: &[u8] = br#","ExpressionAttributeValues":{"#;
const RETURN_EXISTING: &[u8] = br#","ReturnValuesOnConditionCheckFailure":"ALL_OLD""#;
/// That no greater sequence is stored. An equal one is written again, so that a repetition finds itself.
const NOT_NEWER: &[u8] = br##","ConditionExpression":"attribute_not_exists(#s) OR #s <= :s""##;
/// What a member's name, value and punctuation take beside its own text: `#12=:12,"#12":` and `":12":,`.
const MEMBER_OVERHEAD: usize = 32;
/// What conditions, names and the rest of a request take at most, without the table's name.
const REQUEST_OVERHEAD: usize = 512;
/// Removed by a merge that changes nothing where an expression must be: an attribute that nobody has.
const NO_ATTRIBUTE: &[u8] = b"\"\\u0000forebay:none\"";

/// A write that this kind of request cannot carry: a mistake of the caller's, found before anything is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum Unfit {
    /// Only puts and deletes without a condition go together.
    #[error("a BatchWriteItem takes puts and deletes without a sequence only")]
    Batch,
    /// The table has `sequence_by`, the item has no sequence; or the other way round.
    #[error("a row has a sequence exactly where its table has `sequence_by`")]
    Sequence,
    /// It would forget the sequence.
    #[error("a delete in a table with `sequence_by` is written as a tombstone")]
    Delete,
    /// The item's text is not what the encoder writes.
    #[error("the encoded row is no whole JSON object")]
    Text,
}

/// The body of one BatchWriteItem.
pub(super) fn batch_write(request: &BatchWrite) -> Result<Vec<u8>, Unfit> {
    let items: usize =
        request.items.iter().map(|item| item.json.len() + DELETE_OPEN.len() + REQUEST_CLOSE.len() + 1).sum();
    let mut body = Vec::with_capacity(items + request.table.len() + 64);
    body.extend_from_slice(br#"{"RequestItems":{"#);
    push_json_text(&mut body, &request.table);
    body.extend_from_slice(b":[");
    for (index, item) in request.items.iter().enumerate() {
        if index > 0 {
            body.push(b',');
        }
        body.extend_from_slice(match item.op {
            WriteOp::Put if item.sequence.is_none() => PUT_OPEN,
            WriteOp::Delete if item.sequence.is_none() => DELETE_OPEN,
            WriteOp::Put | WriteOp::Delete | WriteOp::Merge | WriteOp::Insert => return Err(Unfit::Batch),
        });
        body.extend_from_slice(&item.json);
        body.extend_from_slice(REQUEST_CLOSE);
    }
    body.extend_from_slice(b"]}");
    body.extend_from_slice(CAPACITY);
    Ok(body)
}

/// The body of one PutItem, UpdateItem or DeleteItem.
pub(super) fn write_one(request: &OneWrite) -> Result<Vec<u8>, Unfit> {
    let mut body = Vec::with_capacity(room(&request.item, &request.table));
    push_write(&mut body, &request.table, &request.item, request.sequence.as_deref(), false)?;
    body.extend_from_slice(CAPACITY);
    Ok(body)
}

/// The body of one TransactWriteItems.
pub(super) fn transact_write(request: &TransactWrite) -> Result<Vec<u8>, Unfit> {
    let items: usize = request.items.iter().map(|item| room(item, &request.table)).sum();
    let mut body = Vec::with_capacity(items + request.token.len() + 64);
    body.extend_from_slice(br#"{"TransactItems":["#);
    for (index, item) in request.items.iter().enumerate() {
        if index > 0 {
            body.push(b',');
        }
        body.extend_from_slice(match item.op {
            WriteOp::Put | WriteOp::Insert => br#"{"Put":"#,
            WriteOp::Merge => br#"{"Update":"#,
            WriteOp::Delete => br#"{"Delete":"#,
        });
        push_write(&mut body, &request.table, item, request.sequence.as_deref(), true)?;
        body.extend_from_slice(b"}}");
    }
    body.extend_from_slice(br#"],"ClientRequestToken":"#);
    push_json_text(&mut body, &request.token);
    body.extend_from_slice(CAPACITY);
    Ok(body)
}

/// About what a write takes, so that the body grows once.
fn room(item: &WriteItem, table: &str) -> usize {
    let members = if item.op == WriteOp::Merge { item.json.len() + 16 * MEMBER_OVERHEAD } else { 0 };
    item.json.len() + members + table.len() + REQUEST_OVERHEAD
}

/// One write with its condition, open at its end: `{"TableName":..,"Item":..`.
fn push_write(
    body: &mut Vec<u8>,
    table: &str,
    item: &WriteItem,
    rule: Option<&SequenceRule>,
    transaction: bool,
) -> Result<(), Unfit> {
    let sequence = match (rule, item.sequence_text()) {
        (None, None) => None,
        (Some(_), _) if item.op == WriteOp::Delete => return Err(Unfit::Delete),
        (Some(rule), Some(value)) => Some(Sequence { rule, value }),
        _ => return Err(Unfit::Sequence),
    };
    body.extend_from_slice(br#"{"TableName":"#);
    push_json_text(body, table);
    match item.op {
        WriteOp::Put | WriteOp::Insert => {
            body.extend_from_slice(br#","Item":"#);
            body.extend_from_slice(&item.json);
        }
        WriteOp::Delete => {
            body.extend_from_slice(br#","Key":"#);
            body.extend_from_slice(&item.json);
        }
        WriteOp::Merge => {
            body.extend_from_slice(br#","Key":{"#);
            body.extend_from_slice(item.key_text());
            body.push(b'}');
        }
    }
    match (item.op, sequence) {
        (WriteOp::Merge, sequence) => push_merge(body, item, sequence, transaction),
        (WriteOp::Insert, sequence) => push_insert(body, item, sequence),
        (WriteOp::Put | WriteOp::Delete, Some(sequence)) => {
            body.extend_from_slice(NOT_NEWER);
            body.extend_from_slice(NAMES_OPEN);
            sequence.push_name(body);
            close_values(body, &sequence);
            Ok(())
        }
        (WriteOp::Put | WriteOp::Delete, None) => Ok(()),
    }
}

/// An insert's condition: there is no item, or a tombstone that is not newer.
fn push_insert(body: &mut Vec<u8>, item: &WriteItem, sequence: Option<Sequence<'_>>) -> Result<(), Unfit> {
    let key = item.key_members().next().ok_or(Unfit::Text)?;
    let condition: &[u8] = match sequence {
        None => br#","ConditionExpression":"attribute_not_exists(#k)""#,
        Some(_) => br##","ConditionExpression":"attribute_not_exists(#k) OR (attribute_exists(#d) AND #s <= :s)""##,
    };
    body.extend_from_slice(condition);
    body.extend_from_slice(NAMES_OPEN);
    push_pair(body, b"\"#k\":", key.name);
    match sequence {
        None => {
            body.push(b'}');
            body.extend_from_slice(RETURN_EXISTING);
        }
        Some(sequence) => {
            body.extend_from_slice(br##","#d":"##);
            push_json_text(body, TOMBSTONE_ATTRIBUTE);
            body.push(b',');
            sequence.push_name(body);
            close_values(body, &sequence);
        }
    }
    Ok(())
}

/// A merge's expression, and with a sequence its condition and the end of a tombstone.
///
/// A merge that changes nothing has no expression, so that it makes the item if there is none; in a transaction, where there
/// must be one, it removes an attribute that nobody has.
fn push_merge(
    body: &mut Vec<u8>,
    item: &WriteItem,
    sequence: Option<Sequence<'_>>,
    transaction: bool,
) -> Result<(), Unfit> {
    let mut others = item.other_members();
    let members: SmallVec<[Member<'_>; 32]> = others.by_ref().collect();
    if !others.is_whole() {
        return Err(Unfit::Text);
    }
    let expiry = sequence.and_then(|sequence| sequence.rule.expiry_attribute.as_deref());
    let nothing = members.is_empty() && sequence.is_none();
    if nothing && !transaction {
        return Ok(());
    }
    let numbered = || (0_usize..).zip(&members);
    body.extend_from_slice(br#","UpdateExpression":""#);
    let mut lead: &[u8] = b"SET ";
    for (index, _) in numbered().filter(|(_, member)| !member.is_removal()) {
        body.extend_from_slice(lead);
        push_place(body, b"#", index);
        push_place(body, b"=:", index);
        lead = b",";
    }
    // Without anything set before it, no space may lead.
    let remove: &[u8] = if lead == b"," { b" REMOVE " } else { b"REMOVE " };
    lead = remove;
    for (index, _) in numbered().filter(|(_, member)| member.is_removal()) {
        body.extend_from_slice(lead);
        push_place(body, b"#", index);
        lead = b",";
    }
    let marks =
        [(sequence.is_some(), b"#d".as_slice()), (expiry.is_some(), b"#x".as_slice()), (nothing, b"#n".as_slice())];
    for (_, mark) in marks.into_iter().filter(|(present, _)| *present) {
        body.extend_from_slice(lead);
        body.extend_from_slice(mark);
        lead = b",";
    }
    body.push(b'"');
    if sequence.is_some() {
        body.extend_from_slice(NOT_NEWER);
    }

    body.extend_from_slice(NAMES_OPEN);
    let mut comma: &[u8] = b"";
    for (index, member) in numbered() {
        body.extend_from_slice(comma);
        push_place(body, b"\"#", index);
        push_pair(body, b"\":", member.name);
        comma = b",";
    }
    if nothing {
        push_pair(body, b"\"#n\":", NO_ATTRIBUTE);
    }
    if let Some(sequence) = sequence {
        body.extend_from_slice(comma);
        body.extend_from_slice(br##""#d":"##);
        push_json_text(body, TOMBSTONE_ATTRIBUTE);
        if let Some(expiry) = expiry {
            body.extend_from_slice(br##","#x":"##);
            push_json_text(body, expiry);
        }
        body.push(b',');
        sequence.push_name(body);
    }
    body.push(b'}');

    let mut lead: &[u8] = VALUES_OPEN;
    for (index, member) in numbered().filter(|(_, member)| !member.is_removal()) {
        body.extend_from_slice(lead);
        push_place(body, b"\":", index);
        push_pair(body, b"\":", member.value);
        lead = b",";
    }
    if let Some(sequence) = sequence {
        body.extend_from_slice(lead);
        sequence.push_value(body);
        lead = b",";
    }
    // Nothing set: DynamoDB refuses empty values.
    if lead == b"," {
        body.push(b'}');
    }
    if sequence.is_some() {
        body.extend_from_slice(RETURN_EXISTING);
    }
    Ok(())
}

/// The sequence of a row, and its table's rule.
#[derive(Clone, Copy)]
struct Sequence<'a> {
    rule: &'a SequenceRule,
    value: &'a [u8],
}

impl Sequence<'_> {
    fn push_name(&self, body: &mut Vec<u8>) {
        body.extend_from_slice(br##""#s":"##);
        push_json_text(body, &self.rule.attribute);
    }

    fn push_value(&self, body: &mut Vec<u8>) {
        push_pair(body, b"\":s\":", self.value);
    }
}

/// Ends the names; then the sequence as the only value, and what to return.
fn close_values(body: &mut Vec<u8>, sequence: &Sequence<'_>) {
    body.push(b'}');
    body.extend_from_slice(VALUES_OPEN);
    sequence.push_value(body);
    body.push(b'}');
    body.extend_from_slice(RETURN_EXISTING);
}

fn push_pair(body: &mut Vec<u8>, name: &[u8], value: &[u8]) {
    body.extend_from_slice(name);
    body.extend_from_slice(value);
}

fn push_place(body: &mut Vec<u8>, sign: &[u8], index: usize) {
    body.extend_from_slice(sign);
    body.extend_from_slice(itoa::Buffer::new().format(index).as_bytes());
}

fn push_json_text(out: &mut Vec<u8>, text: &str) {
    // A table name is of [a-zA-Z0-9_.-], or an ARN; DynamoDB refuses any other. This keeps one from breaking the JSON, and
    // writes attribute names, which may be any text.
    out.push(b'"');
    for character in text.chars() {
        match character {
            '"' | '\\' => out.extend_from_slice(&[b'\\', character as u8]),
            control if control < ' ' => out.extend_from_slice(format!("\\u{:04x}", control as u32).as_bytes()),
            other => out.extend_from_slice(other.encode_utf8(&mut [0; 4]).as_bytes()),
        }
    }
    out.push(b'"');
}

#[cfg(test)]
mod tests;
