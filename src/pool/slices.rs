//! The slices of batches whose rows a lane holds: what is known of their outcomes, until all have one.
//!
//! Invariant: every row of a slice is recorded once; the last one reports the slice. The caller is `lane`.

use std::sync::Arc;

use slab::Slab;

use super::memory::MemoryPermit;
use super::outcome::{BatchTotals, Owed, RowFate, SessionLink, Trouble};
use super::queue::{Part, Report, Standing};
use crate::telemetry::Instruments;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Slices {
    slices: Slab<SliceState>,
    serials: u64,
}

/// Rows of one slice that have no outcome yet.
#[derive(Debug)]
struct SliceState {
    owed: Owed,
    table: Arc<str>,
    /// Places in the slab are used again; a serial is not.
    serial: u64,
    expired: bool,
    open: u32,
    totals: BatchTotals,
    fates: Vec<(u32, RowFate)>,
    /// Freed with the slice.
    _memory: Arc<MemoryPermit>,
}

/// Whether somebody still waits for the rows of a slice.
#[derive(Debug, Clone, Copy)]
pub(super) struct Standings<'a>(pub(super) &'a Slices);

impl Standings<'_> {
    pub(super) fn of(self, slice: usize) -> Standing {
        let slice = &self.0.slices[slice];
        match (slice.owed.session().is_cancelled(), slice.expired) {
            (true, _) => Standing::Dead,
            (false, true) => Standing::Expired,
            (false, false) => Standing::Live,
        }
    }
}

impl Slices {
    /// Takes a slice: its place, and its serial.
    pub(super) fn insert(&mut self, owed: Owed, table: Arc<str>, memory: Arc<MemoryPermit>) -> (usize, u64) {
        self.serials += 1;
        let serial = self.serials;
        let open = owed.rows();
        let (totals, fates) = (BatchTotals::default(), Vec::new());
        let state = SliceState { owed, table, serial, expired: false, open, totals, fates, _memory: memory };
        (self.slices.insert(state), serial)
    }

    /// The slice's time has passed; false where it has been reported already.
    pub(super) fn expire(&mut self, slice: usize, serial: u64) -> bool {
        let slice = self.slices.get_mut(slice).filter(|slice| slice.serial == serial);
        slice.map(|slice| slice.expired = true).is_some()
    }

    /// Whether a slice has rows that nobody waits for any more.
    pub(super) fn any_gone(&self) -> bool {
        self.slices.iter().any(|(_, slice)| slice.expired || slice.owed.session().is_cancelled())
    }

    /// Rows of slices that are not reported yet.
    pub(super) fn open_rows(&self) -> i64 {
        self.slices.iter().map(|(_, slice)| i64::from(slice.owed.rows())).sum()
    }

    /// Whose rows a slice has.
    pub(super) fn session(&self, slice: usize) -> &SessionLink {
        self.slices[slice].owed.session()
    }

    /// Tells the sessions with rows for a table what keeps them waiting.
    pub(super) fn note_all(&self, table: &Arc<str>, trouble: Trouble) {
        let waiting = self.slices.iter().filter(|(_, slice)| slice.table == *table);
        waiting.for_each(|(_, slice)| slice.owed.session().note(trouble));
    }

    /// An attempt on rows of a slice was throttled, or failed.
    pub(super) fn held_up(&mut self, slice: usize, throttled: bool, trouble: Option<Trouble>) -> &Owed {
        let state = &mut self.slices[slice];
        state.totals.throttled_attempts += u32::from(throttled);
        if let Some(trouble) = trouble {
            state.owed.session().note(trouble);
        }
        &state.owed
    }

    /// Notes one row's outcome with its slice, and reports the slice when it was the last.
    pub(super) fn record(&mut self, instruments: &Instruments, report: Report, refusal: Option<&RowFate>, units: f64) {
        let (part, fate) = match report {
            Report::Committed(part) => {
                let totals = &mut self.slices[part.slice].totals;
                totals.committed += 1;
                totals.write_units += units;
                (part, None)
            }
            Report::Superseded(part) => {
                self.slices[part.slice].totals.superseded += 1;
                (part, None)
            }
            Report::Stale(part) => (part, Some(RowFate::StaleMerge)),
            Report::Refused(part) => (part, refusal.cloned()),
            Report::Fated(part, fate) => (part, Some(fate)),
            Report::Dropped(part) => (part, None),
            Report::Expired(part) => {
                let trouble = self.slices[part.slice].owed.session().trouble();
                let fate = if part.unknown { RowFate::Unknown(trouble) } else { RowFate::Retryable(trouble) };
                (part, Some(fate))
            }
        };
        self.close(instruments, &part, fate);
    }

    fn close(&mut self, instruments: &Instruments, part: &Part, fate: Option<RowFate>) {
        let slice = &mut self.slices[part.slice];
        slice.fates.extend(fate.map(|fate| (part.row_index, fate)));
        slice.open -= 1;
        if slice.open > 0 {
            return;
        }
        let SliceState { owed, totals, fates, .. } = self.slices.remove(part.slice);
        let rows = owed.rows();
        let of = |wanted: fn(&RowFate) -> bool| fates.iter().filter(|(_, fate)| wanted(fate)).count() as u64;
        let stale = of(|fate| matches!(fate, RowFate::StaleMerge));
        let committed = u64::from(totals.committed);
        let superseded = u64::from(totals.superseded) + stale;
        instruments.queued_rows.dec_by(i64::from(rows));
        instruments.count_rows("committed", committed);
        instruments.count_rows("superseded", superseded);
        instruments.count_rejects(fates.iter().filter_map(|(_, fate)| match fate {
            RowFate::Rejected(reject) => Some(reject.reason.label()),
            _ => None,
        }));
        instruments.count_rows("retryable", of(|fate| matches!(fate, RowFate::Retryable(_))));
        instruments.count_rows("unknown", of(|fate| matches!(fate, RowFate::Unknown(_))));
        let listed = fates.len() as u64;
        instruments.count_rows("dropped", u64::from(rows) - committed - u64::from(totals.superseded) - listed);
        owed.report(totals, fates);
    }
}
