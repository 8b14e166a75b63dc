//! What a table holds, and what a write does to it: conditions, merges, deletes. Pure. The caller is [`model`](super::model).

use std::collections::BTreeMap;

use hashbrown::HashMap;
use serde_json::{Map, Value};

use super::partitions::Place;
use super::values::{JsonItem, attr, item_to_attrs, ordered_bytes, ordered_json, parse_item, stable_hash};
use crate::limits::ITEM_MAX_BYTES;
use crate::schema::table::{KeyAttribute, KeyAttributeType};
use crate::store::members::{Member, members};
use crate::store::{Attr, Item, KeyAttrs, QueryPage, QueryRange, SequenceRule, WriteItem, WriteOp};

/// The attribute that marks a tombstone.
const TOMBSTONE: &str = "_deleted";

/// A key in a form that equal keys share, whatever their text.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ItemKey {
    /// The partition key's value, in bytes that compare as DynamoDB compares.
    pub partition: Box<[u8]>,
    /// The sort key's; empty without one.
    pub sort: Box<[u8]>,
}

impl ItemKey {
    /// Where the item lies.
    pub fn place(&self) -> Place {
        Place::new(&self.partition, self.sort.clone())
    }
}

/// The key of a table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeySchema {
    /// Partition key.
    pub partition: KeyAttribute,
    /// Sort key.
    pub sort: Option<KeyAttribute>,
}

impl KeySchema {
    /// A text partition key of this name.
    pub fn text(partition: &str) -> Self {
        Self { partition: KeyAttribute { name: partition.to_owned(), kind: KeyAttributeType::S }, sort: None }
    }

    /// With a sort key.
    pub fn with_sort(self, name: &str, kind: KeyAttributeType) -> Self {
        Self { sort: Some(KeyAttribute { name: name.to_owned(), kind }), ..self }
    }

    /// A write's key, from its head.
    pub fn key_of_write(&self, item: &WriteItem) -> Option<ItemKey> {
        let mut members = members(&item.json[..1 + item.key_len as usize]);
        let partition = key_value(&self.partition, members.next()?)?;
        let sort = match &self.sort {
            Some(sort) => key_value(sort, members.next()?)?,
            None => Box::default(),
        };
        members.next().is_none().then_some(ItemKey { partition, sort })
    }

    /// A read's key.
    pub fn key_of_attrs(&self, key: &KeyAttrs) -> Option<ItemKey> {
        let value = |attribute: &KeyAttribute| {
            let (_, attr) = key.iter().find(|(name, _)| *name == attribute.name)?;
            let fits = matches!(
                (attribute.kind, attr),
                (KeyAttributeType::S, Attr::S(_))
                    | (KeyAttributeType::N, Attr::N(_))
                    | (KeyAttributeType::B, Attr::B(_))
            );
            ordered_bytes(attr).filter(|bytes| fits && !bytes.is_empty()).map(Vec::into_boxed_slice)
        };
        if key.len() != 1 + usize::from(self.sort.is_some()) {
            return None;
        }
        let sort = self.sort.as_ref().map_or(Some(Box::default()), value)?;
        Some(ItemKey { partition: value(&self.partition)?, sort })
    }
}

/// A key attribute's value in bytes that compare; `None` where it is of another type, or empty.
fn key_bytes(attribute: &KeyAttribute, attr: &Attr) -> Option<Box<[u8]>> {
    let fits = matches!(
        (attribute.kind, attr),
        (KeyAttributeType::S, Attr::S(_)) | (KeyAttributeType::N, Attr::N(_)) | (KeyAttributeType::B, Attr::B(_))
    );
    ordered_bytes(attr).filter(|bytes| fits && !bytes.is_empty()).map(Vec::into_boxed_slice)
}

/// The same from a write's text. Text without escapes, which most keys are, is taken as it stands.
fn key_value(attribute: &KeyAttribute, member: Member<'_>) -> Option<Box<[u8]>> {
    let name = member.name.get(1..member.name.len() - 1)?;
    let named = match name.contains(&b'\\') {
        false => name == attribute.name.as_bytes(),
        true => serde_json::from_slice::<String>(member.name).ok()? == attribute.name,
    };
    if !named {
        return None;
    }
    let plain = member.value.strip_prefix(br#"{"S":""#).and_then(|value| value.strip_suffix(br#""}"#));
    match plain {
        Some(text)
            if attribute.kind == KeyAttributeType::S && !text.iter().any(|byte| matches!(byte, b'\\' | b'"')) =>
        {
            (!text.is_empty()).then(|| text.into())
        }
        _ => key_bytes(attribute, &attr(&serde_json::from_slice(member.value).ok()?)?),
    }
}

/// Why a write is not done, other than for capacity.
#[derive(Debug, Clone, PartialEq)]
pub enum Refusal {
    /// Its condition is false.
    Condition {
        /// What is stored.
        existing: Option<Item>,
        /// What the look cost: bytes that are charged for.
        bytes: usize,
    },
    /// Its content is wrong.
    Validation(String),
}

/// What a write will do.
#[derive(Debug, Clone)]
pub struct Change {
    after: After,
    /// Bytes that are charged for: the larger of the item before and after.
    pub bytes: usize,
}

#[derive(Debug, Clone)]
enum After {
    Item(JsonItem, usize),
    Size(usize),
    Absent,
}

/// A table's items.
#[derive(Debug)]
pub enum Contents {
    /// All of them.
    Kept(BTreeMap<ItemKey, Stored>),
    /// Their sizes only, by a hash of the key: enough for capacity, and small. Takes no conditions and no merges.
    Sizes(HashMap<u64, u32>),
}

/// An item, with its size.
#[derive(Debug, Clone)]
pub struct Stored {
    /// The item.
    pub item: JsonItem,
    /// Bytes of its text, which stands for DynamoDB's size.
    pub bytes: usize,
}

fn wrong(message: &str) -> Refusal {
    Refusal::Validation(message.to_owned())
}

impl Contents {
    /// Nothing.
    pub fn new(keep_items: bool) -> Self {
        if keep_items { Self::Kept(BTreeMap::new()) } else { Self::Sizes(HashMap::new()) }
    }

    /// What a write would do now, or why it would not.
    pub fn evaluate(
        &self,
        key: &ItemKey,
        write: &WriteItem,
        sequence: Option<&SequenceRule>,
    ) -> Result<Change, Refusal> {
        if write.json.len() > ITEM_MAX_BYTES {
            return Err(wrong("Item size has exceeded the maximum allowed size"));
        }
        let items = match self {
            Self::Kept(items) => items,
            Self::Sizes(_) if sequence.is_some() || matches!(write.op, WriteOp::Merge | WriteOp::Insert) => {
                return Err(wrong("this model keeps sizes only, and cannot merge or look at conditions"));
            }
            Self::Sizes(sizes) => {
                let before = sizes.get(&hash_of(key)).copied().unwrap_or(0) as usize;
                let (after, bytes) = match write.op {
                    WriteOp::Delete => (After::Absent, before),
                    _ => (After::Size(write.json.len()), before.max(write.json.len())),
                };
                return Ok(Change { after, bytes });
            }
        };
        let existing = items.get(key);
        let before = existing.map_or(0, |stored| stored.bytes);
        let given = parse_item(&write.json).ok_or_else(|| wrong("the item is no JSON object"))?;
        if let Some((name, _)) =
            given.iter().find(|(_, value)| attr(value).is_none() && !(write.op == WriteOp::Merge && value.is_null()))
        {
            return Err(wrong(&format!("the attribute `{name}` is no typed value")));
        }
        if !condition_holds(existing.map(|stored| &stored.item), write, &given, sequence)? {
            let existing = existing.and_then(|stored| item_to_attrs(&stored.item));
            return Err(Refusal::Condition { existing, bytes: before });
        }
        let (after, size) = match write.op {
            WriteOp::Put | WriteOp::Insert => (given, write.json.len()),
            WriteOp::Delete => return Ok(Change { after: After::Absent, bytes: before }),
            WriteOp::Merge => {
                let item = merged(existing.map(|stored| &stored.item), given, sequence);
                let size = text_len(&item);
                (item, size)
            }
        };
        if size > ITEM_MAX_BYTES {
            return Err(wrong("Item size to update has exceeded the maximum allowed size"));
        }
        Ok(Change { after: After::Item(after, size), bytes: before.max(size) })
    }

    /// Does what was evaluated, which must still be so.
    pub fn apply(&mut self, key: &ItemKey, change: Change) {
        match (self, change.after) {
            (Self::Kept(items), After::Item(item, bytes)) => drop(items.insert(key.clone(), Stored { item, bytes })),
            (Self::Kept(items), After::Absent | After::Size(_)) => drop(items.remove(key)),
            (Self::Sizes(sizes), After::Size(bytes) | After::Item(_, bytes)) => {
                // Items are at most 400 KB.
                sizes.insert(hash_of(key), bytes as u32);
            }
            (Self::Sizes(sizes), After::Absent) => drop(sizes.remove(&hash_of(key))),
        }
    }

    /// The items, where they are kept.
    pub fn items(&self) -> Option<&BTreeMap<ItemKey, Stored>> {
        match self {
            Self::Kept(items) => Some(items),
            Self::Sizes(_) => None,
        }
    }

    /// One item, and its bytes.
    pub fn get(&self, key: &ItemKey, attributes: &[String]) -> Option<(Item, usize)> {
        let stored = self.items()?.get(key)?;
        Some((projected(&stored.item, attributes)?, stored.bytes))
    }

    /// A page of a range, and its bytes. `None` where the range is not one of this table.
    pub fn query(&self, schema: &KeySchema, range: &QueryRange) -> Option<(QueryPage, usize)> {
        let partition = ordered_bytes(&range.partition.1)?.into_boxed_slice();
        let bound = |attr: &Option<Attr>| attr.as_ref().map(ordered_bytes);
        let (from, to) = match &range.sort {
            Some(sort) => (bound(&sort.from), bound(&sort.to)),
            None => (None, None),
        };
        let from = from.map_or(Some(Vec::new()), |from| from)?;
        let to = to.map_or(Some(None), |to| to.map(Some))?;
        let after = range.after.as_ref().map(|key| schema.key_of_attrs(key));
        let after = after.map_or(Some(None), |key| key.map(Some))?;
        let start = ItemKey { partition: partition.clone(), sort: from.into_boxed_slice() };
        let inside = self.items()?.range(start..).take_while(|(key, _)| key.partition == partition);
        let inside = inside.filter(|(key, _)| to.as_ref().is_none_or(|to| *key.sort <= **to));
        let mut inside: Vec<_> = inside.collect();
        if range.descending {
            inside.reverse();
        }
        let beyond =
            |key: &ItemKey| after.as_ref().is_none_or(|after| if range.descending { key < after } else { key > after });
        inside.retain(|(key, _)| beyond(key));
        let limit = range.limit.map_or(usize::MAX, |limit| limit as usize);
        let (mut page, mut bytes) = (QueryPage::default(), 0);
        for (_, stored) in inside {
            if page.items.len() >= limit || bytes >= PAGE_MAX_BYTES {
                page.next = page.items.last().map(|item| key_attrs(schema, item));
                break;
            }
            bytes += stored.bytes;
            page.items.push(projected(&stored.item, &range.attributes)?);
        }
        Some((page, bytes))
    }
}

/// A page of a query (DynamoDB: 1 MB).
const PAGE_MAX_BYTES: usize = 1024 * 1024;

fn key_attrs(schema: &KeySchema, item: &Item) -> KeyAttrs {
    let attributes = [Some(&schema.partition), schema.sort.as_ref()].into_iter().flatten();
    attributes.filter_map(|key| Some((key.name.clone(), item.get(&key.name)?.clone()))).collect()
}

fn projected(item: &JsonItem, attributes: &[String]) -> Option<Item> {
    let mut item = item_to_attrs(item)?;
    if !attributes.is_empty() {
        item.retain(|name, _| attributes.contains(name));
    }
    Some(item)
}

fn hash_of(key: &ItemKey) -> u64 {
    stable_hash(&key.partition).rotate_left(1) ^ stable_hash(&key.sort)
}

fn text_len(item: &JsonItem) -> usize {
    // A map of JSON values always has a text; a length of nothing would only make it cheaper.
    serde_json::to_vec(item).map_or(0, |text| text.len())
}

/// The conditions of [`OneWrite`](crate::store::OneWrite).
fn condition_holds(
    existing: Option<&JsonItem>,
    write: &WriteItem,
    given: &JsonItem,
    sequence: Option<&SequenceRule>,
) -> Result<bool, Refusal> {
    let Some(rule) = sequence else {
        return Ok(write.op != WriteOp::Insert || existing.is_none());
    };
    let new = given.get(&*rule.attribute).ok_or_else(|| wrong("a write without a sequence to a table with one"))?;
    let Some(existing) = existing else { return Ok(true) };
    let stored = existing.get(&*rule.attribute);
    let not_newer = stored.is_some_and(|stored| not_greater(stored, new));
    Ok(match write.op {
        WriteOp::Insert => existing.contains_key(TOMBSTONE) && not_newer,
        WriteOp::Put | WriteOp::Merge | WriteOp::Delete => stored.is_none() || not_newer,
    })
}

/// `stored <= new`; values of different types do not compare.
fn not_greater(stored: &Value, new: &Value) -> bool {
    let kind = |value: &Value| value.as_object().and_then(|typed| typed.keys().next().cloned());
    match (ordered_json(stored), ordered_json(new)) {
        (Some(left), Some(right)) => kind(stored) == kind(new) && left <= right,
        _ => false,
    }
}

fn merged(existing: Option<&JsonItem>, given: JsonItem, sequence: Option<&SequenceRule>) -> JsonItem {
    let mut item = existing.cloned().unwrap_or_else(Map::new);
    if let Some(rule) = sequence {
        item.remove(TOMBSTONE);
        if let Some(expiry) = &rule.expiry_attribute {
            item.remove(&**expiry);
        }
    }
    for (name, value) in given {
        match value {
            Value::Null => drop(item.remove(&name)),
            value => drop(item.insert(name, value)),
        }
    }
    item
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use bytes::Bytes;

    use super::*;
    use crate::store::SortRange;

    fn write(op: WriteOp, rest: &str) -> WriteItem {
        let key = r#""k":{"S":"a"}"#;
        WriteItem::new(op, Bytes::from(format!("{{{key}{rest}}}")), key.len() as u32)
    }

    fn rule() -> SequenceRule {
        SequenceRule { attribute: "s".into(), expiry_attribute: Some("_expires_at".into()) }
    }

    struct Bed(Contents);

    impl Bed {
        fn new() -> Self {
            Self(Contents::new(true))
        }

        fn write(&mut self, write: WriteItem, sequence: Option<&SequenceRule>) -> Result<usize, Refusal> {
            let key = KeySchema::text("k").key_of_write(&write).unwrap();
            let change = self.0.evaluate(&key, &write, sequence)?;
            let bytes = change.bytes;
            self.0.apply(&key, change);
            Ok(bytes)
        }

        fn text(&self) -> String {
            let items = self.0.items().unwrap();
            items.values().next().map_or("nothing".to_owned(), |stored| Value::Object(stored.item.clone()).to_string())
        }
    }

    #[test]
    fn a_merge_sets_what_it_names_removes_what_is_null_and_leaves_the_rest() {
        let mut bed = Bed::new();
        bed.write(write(WriteOp::Put, r#","a":{"N":"1"},"b":{"N":"2"},"c":{"NULL":true}"#), None).unwrap();
        bed.write(write(WriteOp::Merge, r#","a":{"N":"9"},"b":null,"d":{"S":"new"}"#), None).unwrap();
        assert_eq!(bed.text(), r#"{"k":{"S":"a"},"a":{"N":"9"},"c":{"NULL":true},"d":{"S":"new"}}"#);
        bed.write(write(WriteOp::Delete, ""), None).unwrap();
        assert_eq!(bed.text(), "nothing");
        bed.write(write(WriteOp::Merge, r#","x":{"N":"1"}"#), None).unwrap();
        assert_eq!(bed.text(), r#"{"k":{"S":"a"},"x":{"N":"1"}}"#);
        assert!(matches!(bed.write(write(WriteOp::Put, r#","x":null"#), None), Err(Refusal::Validation(_))));
    }

    #[test]
    fn a_smaller_sequence_changes_nothing_and_hears_what_is_stored() {
        let mut bed = Bed::new();
        let put = |s: &str, v: &str| write(WriteOp::Put, &format!(r#","s":{{"N":"{s}"}},"v":{{"S":"{v}"}}"#));
        bed.write(put("10", "ten"), Some(&rule())).unwrap();
        let Err(Refusal::Condition { existing: Some(existing), .. }) = bed.write(put("9", "nine"), Some(&rule()))
        else {
            panic!("9 is smaller than 10, though not as text")
        };
        assert_eq!(existing["v"], Attr::S("ten".to_owned()));
        bed.write(put("10.0", "again"), Some(&rule())).unwrap();
        assert!(bed.text().contains("again"));
        assert!(matches!(bed.write(write(WriteOp::Put, ""), Some(&rule())), Err(Refusal::Validation(_))));
    }

    #[test]
    fn an_insert_takes_only_nothing_or_an_older_tombstone() {
        let mut bed = Bed::new();
        let insert = |s: u64| write(WriteOp::Insert, &format!(r#","s":{{"N":"{s}"}}"#));
        bed.write(insert(1), None).unwrap();
        assert!(matches!(bed.write(insert(2), None), Err(Refusal::Condition { existing: Some(_), .. })));
        assert!(matches!(bed.write(insert(2), Some(&rule())), Err(Refusal::Condition { .. })));
        let tombstone = r#","s":{"N":"5"},"_deleted":{"BOOL":true},"_expires_at":{"N":"99"}"#;
        bed.write(write(WriteOp::Put, tombstone), Some(&rule())).unwrap();
        assert!(matches!(bed.write(insert(4), Some(&rule())), Err(Refusal::Condition { .. })));
        bed.write(insert(5), Some(&rule())).unwrap();
        assert_eq!(bed.text(), r#"{"k":{"S":"a"},"s":{"N":"5"}}"#);
    }

    #[test]
    fn a_merge_over_a_tombstone_brings_the_item_back_without_its_marks() {
        let mut bed = Bed::new();
        let tombstone = r#","s":{"N":"5"},"_deleted":{"BOOL":true},"_expires_at":{"N":"99"}"#;
        bed.write(write(WriteOp::Put, tombstone), Some(&rule())).unwrap();
        bed.write(write(WriteOp::Merge, r#","s":{"N":"6"},"v":{"S":"x"}"#), Some(&rule())).unwrap();
        assert_eq!(bed.text(), r#"{"k":{"S":"a"},"s":{"N":"6"},"v":{"S":"x"}}"#);
    }

    #[test]
    fn a_write_is_charged_for_the_larger_of_before_and_after() {
        let mut bed = Bed::new();
        let large = format!(r#","v":{{"S":"{}"}}"#, "x".repeat(3_000));
        assert!(bed.write(write(WriteOp::Put, &large), None).unwrap() > 3_000);
        assert!(bed.write(write(WriteOp::Merge, r#","w":{"N":"1"}"#), None).unwrap() > 3_000);
        assert!(bed.write(write(WriteOp::Put, ""), None).unwrap() > 3_000);
        assert!(bed.write(write(WriteOp::Delete, ""), None).unwrap() < 100);
        assert_eq!(bed.write(write(WriteOp::Delete, ""), None), Ok(0));
    }

    #[test]
    fn a_key_that_is_not_the_tables_is_none() {
        let schema = KeySchema::text("k").with_sort("n", KeyAttributeType::N);
        let of = |key: &str| {
            let json = Bytes::from(format!("{{{key}}}"));
            schema.key_of_write(&WriteItem::new(WriteOp::Delete, json, key.len() as u32))
        };
        assert!(of(r#""k":{"S":"a"},"n":{"N":"1"}"#).is_some());
        assert_eq!(of(r#""k":{"S":"a"},"n":{"N":"1"}"#), of(r#""k":{"S":"\u0061"},"n":{"N":"1.0"}"#));
        for key in [r#""k":{"S":"a"}"#, r#""k":{"S":"a"},"n":{"S":"1"}"#, r#""k":{"S":""},"n":{"N":"1"}"#] {
            assert_eq!(of(key), None, "{key}");
        }
    }

    #[test]
    fn a_query_pages_through_a_partition_in_sort_order_both_ways() {
        let schema = KeySchema::text("k").with_sort("n", KeyAttributeType::N);
        let mut contents = Contents::new(true);
        for (partition, sort) in [("a", "10"), ("a", "9"), ("a", "-1"), ("b", "1"), ("a", "2.5")] {
            let key = format!(r#""k":{{"S":"{partition}"}},"n":{{"N":"{sort}"}}"#);
            let write = WriteItem::new(WriteOp::Put, Bytes::from(format!("{{{key}}}")), key.len() as u32);
            let key = schema.key_of_write(&write).unwrap();
            let change = contents.evaluate(&key, &write, None).unwrap();
            contents.apply(&key, change);
        }
        let number = |text: &str| Some(Attr::N(text.to_owned()));
        let mut range = QueryRange {
            table: "t".into(),
            partition: ("k".to_owned(), Attr::S("a".to_owned())),
            sort: None,
            attributes: Arc::new([]),
            strong: true,
            descending: false,
            limit: Some(3),
            after: None,
        };
        let sorts = |page: &QueryPage| page.items.iter().map(|item| item["n"].clone()).collect::<Vec<_>>();
        let expect = |texts: &[&str]| texts.iter().map(|text| Attr::N((*text).to_owned())).collect::<Vec<_>>();
        let (page, _) = contents.query(&schema, &range).unwrap();
        assert_eq!(sorts(&page), expect(&["-1", "2.5", "9"]));
        range.after = page.next;
        let (page, _) = contents.query(&schema, &range).unwrap();
        assert_eq!((sorts(&page), page.next), (expect(&["10"]), None));
        range = QueryRange { after: None, descending: true, ..range };
        range.sort = Some(SortRange { attribute: "n".to_owned(), from: number("2.5"), to: number("9") });
        let (page, _) = contents.query(&schema, &range).unwrap();
        assert_eq!((sorts(&page), page.next), (expect(&["9", "2.5"]), None));
    }
}
