//! Writing lists, maps, structs and sets: what both payload readers share.
//!
//! The readers differ in how they see an incoming value; how nested values are laid out in DynamoDB's JSON, what is a
//! duplicate and when an item has grown too large is said here once.

use std::hash::BuildHasher as _;

use smallvec::SmallVec;

use super::item::ItemWriter;
use super::leaf::{Leaf, Presence, Put};
use super::reject::{Reject, RejectReason};
use super::target::{StructTarget, Target, null_not_allowed};
use crate::limits::ITEM_MAX_BYTES;

/// Ends an item as soon as it is too large, so that a small message cannot unfold into a huge row before the row's end is
/// seen: elements that cost nothing on the wire (nulls, dictionary keys) cost bytes here.
#[inline]
pub(super) fn check_item_size(writer: &ItemWriter) -> Result<(), Box<Reject>> {
    if writer.item_bytes() <= ITEM_MAX_BYTES { Ok(()) } else { Err(item_too_large()) }
}

/// The reject of an item over DynamoDB's limit.
#[cold]
pub(super) fn item_too_large() -> Box<Reject> {
    let message =
        format!("the item has more than the {ITEM_MAX_BYTES} bytes that DynamoDB allows, by its own size rule");
    Reject::new(RejectReason::ItemTooLarge, message).hint("split the row, or keep large values elsewhere")
}

/// Writes a struct's fields in the order in which they come, and sees to it that none comes twice or is missing.
pub(super) struct StructWriter<'t> {
    target: &'t StructTarget,
    seen: SmallVec<[bool; 32]>,
    any: bool,
}

impl<'t> StructWriter<'t> {
    /// Opens the struct.
    pub(super) fn begin(target: &'t StructTarget, writer: &mut ItemWriter) -> Self {
        writer.raw(b"{\"M\":{");
        writer.count(3);
        Self { target, seen: SmallVec::from_elem(false, target.fields.len()), any: false }
    }

    /// Writes one field; a null one is stored as NULL.
    pub(super) fn put(
        &mut self,
        at: usize,
        writer: &mut ItemWriter,
        put: impl FnOnce(&Target, &mut ItemWriter) -> Put,
    ) -> Result<(), Box<Reject>> {
        let field = &self.target.fields[at];
        if std::mem::replace(&mut self.seen[at], true) {
            let reject = Reject::new(RejectReason::DuplicateMapKey, "the field comes twice");
            return Err(reject.hint("a struct has each of its fields once").in_field(&field.name));
        }
        if self.any {
            writer.raw(b",");
        }
        self.any = true;
        writer.raw(&field.name_json);
        writer.count(field.name.len() + 1);
        put(&field.target, writer)
            .and_then(|presence| end_element(presence, field.nullable, field.target.describe(), writer))
            .map_err(|reject| reject.in_field(&field.name))
    }

    /// Closes a struct whose fields came as the session declared them, those that are dropped among them.
    pub(super) fn finish_declared(self, writer: &mut ItemWriter) -> Put {
        for (_, rule) in &self.target.dropped {
            writer.coerced(*rule);
        }
        self.finish(writer)
    }

    /// Closes the struct.
    pub(super) fn finish(self, writer: &mut ItemWriter) -> Put {
        let missing = self.target.fields.iter().zip(&self.seen).find(|(field, seen)| !**seen && !field.nullable);
        if let Some((field, _)) = missing {
            return Err(null_not_allowed(field.target.describe()).in_field(&field.name));
        }
        writer.raw(b"}}");
        Ok(Presence::Written)
    }
}

/// Texts of one map or set that were written into the same buffer, to find those that come twice.
#[derive(Default)]
pub(super) struct Distinct {
    few: SmallVec<[(u32, u32); 16]>,
    many: hashbrown::HashTable<(u32, u32)>,
    hasher: foldhash::fast::RandomState,
}

impl Distinct {
    /// Enters the text that was written since `start`; false where it was there before.
    pub(super) fn insert(&mut self, start: usize, writer: &ItemWriter) -> bool {
        // A chunk's buffer is far below 4 GiB, so that its places fit 32 bits.
        let place = (start as u32, writer.len() as u32);
        let text = |(start, end): (u32, u32)| &writer.as_slice()[start as usize..end as usize];
        if self.many.is_empty() && self.few.len() < self.few.inline_size() {
            let is_new = !self.few.iter().any(|seen| text(*seen) == text(place));
            if is_new {
                self.few.push(place);
            }
            return is_new;
        }
        let hash = |place: (u32, u32)| self.hasher.hash_one(text(place));
        for seen in self.few.drain(..) {
            self.many.insert_unique(hash(seen), seen, |seen| hash(*seen));
        }
        if self.many.find(hash(place), |seen| text(*seen) == text(place)).is_some() {
            return false;
        }
        self.many.insert_unique(hash(place), place, |seen| hash(*seen));
        true
    }
}

/// Enters the key of a map's entry that was written since `start`.
pub(super) fn check_map_key(keys: &mut Distinct, start: usize, writer: &ItemWriter) -> Result<(), Box<Reject>> {
    match keys.insert(start, writer) {
        true => Ok(()),
        false => Err(Reject::new(RejectReason::DuplicateMapKey, "two keys of the map are the same text")
            .hint("keep one of the two entries; keys are compared as the text that they are stored as")),
    }
}

/// Ends an element: writes NULL for a null one where nulls are allowed, and checks that the item has not grown too large.
#[inline]
pub(super) fn end_element(
    presence: Presence,
    null_allowed: bool,
    declared: &str,
    writer: &mut ItemWriter,
) -> Result<(), Box<Reject>> {
    match presence {
        Presence::Written => {}
        Presence::Null if null_allowed => writer.null(),
        Presence::Null => return Err(null_not_allowed(declared)),
    }
    check_item_size(writer)
}

/// Writes a set without duplicates; DynamoDB has no empty sets, so without elements nothing is written.
///
/// `next` appends one element and says whether there was one; `leaf` is what it writes them with.
pub(super) fn write_set(
    writer: &mut ItemWriter,
    leaf: &Leaf,
    mut next: impl FnMut(&mut ItemWriter) -> Result<bool, Box<Reject>>,
) -> Put {
    let set = writer.mark();
    writer.raw(leaf.set_opening());
    let mut seen = Distinct::default();
    let mut any = false;
    loop {
        let element = writer.mark();
        if any {
            writer.raw(b",");
        }
        let start = writer.len();
        if !next(writer)? {
            writer.rewind(element);
            break;
        }
        if seen.insert(start, writer) {
            any = true;
            check_item_size(writer)?;
        } else {
            writer.rewind(element);
            writer.coerced(leaf.left_out());
        }
    }
    if !any {
        writer.rewind(set);
        return Ok(Presence::Null);
    }
    writer.raw(b"]}");
    Ok(Presence::Written)
}
