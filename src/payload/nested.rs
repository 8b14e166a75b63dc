//! Writing lists, maps, structs and sets: what both payload readers share.
//!
//! The readers differ in how they see an incoming value; how nested values are laid out in DynamoDB's JSON, what is a
//! duplicate and when an item has grown too large is said here once.

use smallvec::SmallVec;

use super::item::ItemWriter;
use super::leaf::{Presence, Put};
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
    Reject::new(RejectReason::ItemTooLarge, message)
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
            return Err(Reject::new(RejectReason::DuplicateMapKey, "the field comes twice").in_field(&field.name));
        }
        if self.any {
            writer.raw(b",");
        }
        self.any = true;
        writer.raw(&field.name_json);
        writer.count(field.name.len() + 1);
        put(&field.target, writer)
            .and_then(|presence| end_element(presence, field.nullable, writer))
            .map_err(|reject| reject.in_field(&field.name))
    }

    /// Closes the struct.
    pub(super) fn finish(self, writer: &mut ItemWriter) -> Put {
        let missing = self.target.fields.iter().zip(&self.seen).find(|(field, seen)| !**seen && !field.nullable);
        if let Some((field, _)) = missing {
            return Err(null_not_allowed().in_field(&field.name));
        }
        writer.raw(b"}}");
        Ok(Presence::Written)
    }
}

/// Finds two keys of one map that are the same text.
#[derive(Default)]
pub(super) struct MapKeys {
    few: SmallVec<[(u32, u32); 16]>,
    many: hashbrown::HashSet<Box<[u8]>, foldhash::fast::RandomState>,
}

impl MapKeys {
    /// Checks the key that was written since `start`.
    pub(super) fn check(&mut self, start: usize, writer: &ItemWriter) -> Result<(), Box<Reject>> {
        let (written, end) = (writer.as_slice(), writer.len());
        // A chunk's buffer is far below 4 GiB, so that its places fit 32 bits.
        let text = |&(start, end): &(u32, u32)| &written[start as usize..end as usize];
        let duplicate = if self.many.is_empty() && self.few.len() < self.few.inline_size() {
            let duplicate = self.few.iter().any(|seen| *text(seen) == written[start..end]);
            self.few.push((start as u32, end as u32));
            duplicate
        } else {
            self.many.extend(self.few.drain(..).map(|seen| text(&seen).into()));
            !self.many.insert(written[start..end].into())
        };
        if duplicate {
            return Err(Reject::new(RejectReason::DuplicateMapKey, "two keys of the map are the same text"));
        }
        Ok(())
    }
}

/// Ends an element: writes NULL for a null one where nulls are allowed, and checks that the item has not grown too large.
#[inline]
pub(super) fn end_element(presence: Presence, null_allowed: bool, writer: &mut ItemWriter) -> Result<(), Box<Reject>> {
    match presence {
        Presence::Written => {}
        Presence::Null if null_allowed => writer.null(),
        Presence::Null => return Err(null_not_allowed()),
    }
    check_item_size(writer)
}

/// Writes a set without duplicates; DynamoDB has no empty sets, so without elements nothing is written.
///
/// `next` appends one element to a scratch writer as `{"S":"a"}` and says whether there was one; a leaf need not know that
/// it is in a set.
pub(super) fn write_set(
    writer: &mut ItemWriter,
    mut next: impl FnMut(&mut ItemWriter) -> Result<bool, Box<Reject>>,
) -> Result<Presence, Box<Reject>> {
    let mut seen = hashbrown::HashSet::<Box<[u8]>, foldhash::fast::RandomState>::default();
    let mut tag = None;
    loop {
        let mut scratch = ItemWriter::default();
        if !next(&mut scratch)? {
            break;
        }
        // `{"` then the tag, `":` then the value, then `}`.
        let json = scratch.as_slice();
        let (kind, value) = (json[2], &json[5..json.len() - 1]);
        match tag {
            None => {
                tag = Some(kind);
                writer.raw(b"{\"");
                writer.raw(&[kind]);
                writer.raw(b"S\":[");
            }
            Some(first) if first != kind => {
                return Err(Reject::new(RejectReason::TypeMismatch, "a set's elements must be of one type"));
            }
            Some(_) => {}
        }
        if !seen.contains(value) {
            if !seen.is_empty() {
                writer.raw(b",");
            }
            writer.raw(value);
            writer.count(scratch.item_bytes());
            seen.insert(value.into());
            check_item_size(writer)?;
        }
    }
    if tag.is_none() {
        return Ok(Presence::Null);
    }
    writer.raw(b"]}");
    writer.count(3);
    Ok(Presence::Written)
}
