//! What is written next of the rows that wait for one key. Pure. The caller is `queue`.
//!
//! Without `sequence_by`, rows fold in the order of arrival:
//!
//! | newer \ older | PUT | DELETE | MERGE | INSERT |
//! |---|---|---|---|---|
//! | PUT | the newer PUT | the newer PUT | the PUT | each on its own |
//! | DELETE | the DELETE | the newer DELETE | the DELETE | each on its own |
//! | MERGE | the PUT, patched | a PUT of the merge's columns | both columns, the newer winning | each on its own |
//! | INSERT | each on its own | each on its own | each on its own | each on its own |
//!
//! With `sequence_by` they go in the order of their sequences, and only what a PUT replaces wholly folds: the PUT with the
//! greatest sequence stands for everything before it. A merge is written on its own, because the item that it patches may
//! have a sequence between the two: MERGE 7 folded into PUT 5 would put row 5's columns over a stored row 6.
//!
//! Nothing folds across an INSERT, which needs an answer of its own, nor across a row of an atomic group.

use bytes::{BufMut as _, Bytes, BytesMut};

use super::queue::Part;
use crate::limits::ITEM_MAX_BYTES;
use crate::store::{WriteItem, WriteOp};

/// Merges that are folded at once: a hot key's line may have thousands, and each fold walks them all.
const MERGES_AT_ONCE: usize = 64;

/// The next write of a line of rows.
#[derive(Debug, Clone)]
pub(super) struct Fold {
    /// How many of the line's first rows it stands for.
    pub(super) rows: usize,
    /// Of those, the first whose columns are in it; those before it are superseded.
    pub(super) applied_from: usize,
    /// What is written.
    pub(super) item: WriteItem,
}

/// How a table's rows fold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct FoldRules {
    /// Whether they do at all.
    pub(super) coalesce: bool,
    /// Whether sequences order them.
    pub(super) sequenced: bool,
}

/// The next write of rows in their order; the line's first row is in no atomic group. `None` where there is no row.
pub(super) fn next<'a>(mut rows: impl Iterator<Item = &'a Part>, rules: FoldRules) -> Option<Fold> {
    let first = rows.next()?;
    let alone = || Fold { rows: 1, applied_from: 0, item: first.item.clone() };
    if !rules.coalesce || first.item.op == WriteOp::Insert {
        return Some(alone());
    }
    // The last row that replaces the whole item, and the merges after it.
    let mut base = (first.item.op != WriteOp::Merge).then_some((0, &first.item));
    let mut merges = Vec::new();
    if base.is_none() {
        merges.push(&first.item);
    }
    let foldable = rows.take_while(|row| row.group.is_none() && row.item.op != WriteOp::Insert);
    for (index, row) in foldable.enumerate() {
        if row.item.op == WriteOp::Merge {
            merges.push(&row.item);
        } else {
            base = Some((index + 1, &row.item));
            merges.clear();
        }
    }
    let (at, item) = match base {
        Some(base) => base,
        None if rules.sequenced => return Some(alone()),
        None => (0, merges.remove(0)),
    };
    let mut fold = Fold { rows: at + 1, applied_from: at, item: item.clone() };
    if rules.sequenced {
        return Some(fold);
    }
    for merge in merges.into_iter().take(MERGES_AT_ONCE) {
        let item = patch(&fold.item, merge);
        if item.json.len() > ITEM_MAX_BYTES {
            // It may be more than an item can hold; the next attempt goes on from here.
            break;
        }
        fold.item = item;
        fold.rows += 1;
    }
    Some(fold)
}

/// An older write with a merge's columns on it.
fn patch(older: &WriteItem, merge: &WriteItem) -> WriteItem {
    let key = older.key_text();
    let mut json = BytesMut::with_capacity(older.json.len() + merge.json.len());
    json.put_u8(b'{');
    json.put_slice(key);
    // What a merge removes is remembered only where a stored item may have it.
    let keeps_removals = older.op == WriteOp::Merge;
    let mut put = |text: &[u8]| {
        json.put_u8(b',');
        json.put_slice(text);
    };
    if older.op != WriteOp::Delete {
        for member in older.other_members() {
            if !merge.other_members().any(|newer| newer.name == member.name) {
                put(member.text);
            }
        }
    }
    for member in merge.other_members() {
        if keeps_removals || !member.is_removal() {
            put(member.text);
        }
    }
    json.put_u8(b'}');
    let op = if older.op == WriteOp::Merge { WriteOp::Merge } else { WriteOp::Put };
    WriteItem::new(op, Bytes::from(json), older.key_len)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn part(op: WriteOp, rest: &str) -> Part {
        let key = "\"k\":{\"S\":\"a\"}";
        let item = WriteItem::new(op, Bytes::from(format!("{{{key}{rest}}}")), key.len() as u32);
        Part { item, ..Part::of_test() }
    }

    fn fold(rows: &[Part], sequenced: bool) -> (usize, usize, WriteOp, String) {
        let fold = next(rows.iter(), FoldRules { coalesce: true, sequenced }).unwrap();
        let text = String::from_utf8(fold.item.json.to_vec()).unwrap();
        (fold.rows, fold.applied_from, fold.item.op, text.replace("{\"k\":{\"S\":\"a\"}", "{k"))
    }

    use WriteOp::{Delete, Insert, Merge, Put};

    #[test]
    fn puts_and_deletes_stand_for_everything_before_them() {
        let rows = [part(Merge, ",\"a\":1"), part(Put, ",\"a\":2"), part(Delete, ""), part(Put, ",\"a\":3")];
        assert_eq!(fold(&rows[..1], false), (1, 0, Merge, "{k,\"a\":1}".to_owned()));
        assert_eq!(fold(&rows[..2], false), (2, 1, Put, "{k,\"a\":2}".to_owned()));
        assert_eq!(fold(&rows[..3], false), (3, 2, Delete, "{k}".to_owned()));
        assert_eq!(fold(&rows, false), (4, 3, Put, "{k,\"a\":3}".to_owned()));
    }

    #[test]
    fn merges_unite_with_the_newer_column_winning() {
        let rows = [part(Merge, ",\"a\":1,\"b\":1"), part(Merge, ",\"b\":2,\"c\":null"), part(Merge, ",\"d\":4")];
        assert_eq!(fold(&rows, false), (3, 0, Merge, "{k,\"a\":1,\"b\":2,\"c\":null,\"d\":4}".to_owned()));
    }

    #[test]
    fn a_merge_patches_a_put_and_makes_one_of_a_delete() {
        let rows = [part(Put, ",\"a\":1,\"b\":1"), part(Merge, ",\"b\":null,\"c\":3")];
        assert_eq!(fold(&rows, false), (2, 0, Put, "{k,\"a\":1,\"c\":3}".to_owned()));
        let rows = [part(Delete, ""), part(Merge, ",\"b\":null,\"c\":3")];
        assert_eq!(fold(&rows, false), (2, 0, Put, "{k,\"c\":3}".to_owned()));
    }

    #[test]
    fn an_insert_folds_with_nothing() {
        let rows = [part(Put, ",\"a\":1"), part(Insert, ",\"a\":2"), part(Put, ",\"a\":3")];
        assert_eq!(fold(&rows, false), (1, 0, Put, "{k,\"a\":1}".to_owned()));
        assert_eq!(fold(&rows[1..], false), (1, 0, Insert, "{k,\"a\":2}".to_owned()));
    }

    #[test]
    fn with_sequences_only_what_is_replaced_wholly_folds() {
        let rows = [part(Merge, ",\"a\":1"), part(Put, ",\"a\":2"), part(Merge, ",\"b\":3"), part(Merge, ",\"c\":4")];
        assert_eq!(fold(&rows, true), (2, 1, Put, "{k,\"a\":2}".to_owned()));
        assert_eq!(fold(&rows[2..], true), (1, 0, Merge, "{k,\"b\":3}".to_owned()));
    }

    #[test]
    fn a_fold_stops_before_it_could_be_larger_than_an_item() {
        let large = format!(",\"a\":{{\"S\":\"{}\"}}", "x".repeat(300_000));
        let rows = [part(Put, &large), part(Merge, &large.replace("\"a\"", "\"b\"")), part(Merge, ",\"c\":1")];
        assert_eq!(fold(&rows, false).0, 1);
    }
}
