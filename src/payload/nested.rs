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
    /// A bit for each of the first 64 fields that has come.
    seen: u64,
    /// The same for the others.
    more_seen: SmallVec<[u64; 8]>,
    any: bool,
}

impl<'t> StructWriter<'t> {
    /// Opens the struct.
    #[inline]
    pub(super) fn begin(target: &'t StructTarget, writer: &mut ItemWriter) -> Self {
        writer.raw(b"{\"M\":{");
        writer.count(3);
        Self { target, seen: 0, more_seen: SmallVec::from_elem(0, target.required.len().saturating_sub(1)), any: false }
    }

    /// Writes one field; a null one is stored as NULL.
    #[inline]
    pub(super) fn put(
        &mut self,
        at: usize,
        writer: &mut ItemWriter,
        put: impl FnOnce(&Target, &mut ItemWriter) -> Put,
    ) -> Result<(), Box<Reject>> {
        let field = &self.target.fields[at];
        let (word, bit) = (at / 64, 1 << (at % 64));
        let seen = if word == 0 { &mut self.seen } else { &mut self.more_seen[word - 1] };
        let came_before = *seen & bit != 0;
        *seen |= bit;
        if came_before {
            let reject = Reject::new(RejectReason::DuplicateMapKey, "the field comes twice");
            return Err(reject.hint("a struct has each of its fields once").in_field(&field.name));
        }
        // Without the comma where nothing is before it.
        writer.raw(&field.lead[usize::from(!self.any)..]);
        self.any = true;
        writer.count(field.name.len() + 1);
        put(&field.target, writer)
            .and_then(|presence| end_element(presence, field.nullable, || field.target.describe(), writer))
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
        let seen = std::iter::once(&self.seen).chain(&self.more_seen);
        let mut required = self.target.required.iter().zip(seen).enumerate();
        if let Some((word, bits)) = required.find_map(|(word, (required, seen))| match required & !seen {
            0 => None,
            missing => Some((word, missing)),
        }) {
            let field = &self.target.fields[word * 64 + bits.trailing_zeros() as usize];
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
pub(super) fn check_map_key(
    keys: &mut Distinct,
    start: usize,
    leaf: &Leaf,
    writer: &ItemWriter,
) -> Result<(), Box<Reject>> {
    match keys.insert(start, writer) {
        true => Ok(()),
        false => Err(Reject::new(RejectReason::DuplicateMapKey, "two keys of the map are the same text")
            .of_types(leaf.declared(), leaf.declared())
            .hint("keep one of the two entries; keys are compared as the text that they are stored as")),
    }
}

/// Ends an element: writes NULL for a null one where nulls are allowed, and checks that the item has not grown too large.
#[inline]
pub(super) fn end_element<'d>(
    presence: Presence,
    null_allowed: bool,
    declared: impl FnOnce() -> &'d str,
    writer: &mut ItemWriter,
) -> Result<(), Box<Reject>> {
    match presence {
        Presence::Written => {}
        Presence::Null if null_allowed => writer.null(),
        Presence::Null => return Err(null_not_allowed(declared())),
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
            writer.coerced(leaf.duplicate());
        }
    }
    if !any {
        writer.rewind(set);
        return Ok(Presence::Null);
    }
    writer.raw(b"]}");
    Ok(Presence::Written)
}
