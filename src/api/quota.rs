//! What calls that do not wait are charged, and how a caller hears that a limit does not let it through.
//!
//! Unary calls spend before they do anything, all or nothing, and are refused with the time to come back. A range's first
//! row is spent when the call begins, the others of each page before the page is sent. A dry run spends its bytes from the
//! principal's limit: it costs the gateway what writing would, and the table nothing.
//!
//! Callers: the handlers. Write sessions wait instead: `ingest::quota`.

use std::sync::Arc;

use tokio::time::Instant;
use tonic::Status;

use super::status;
use crate::access::Caller;
use crate::quota::{Cost, Quotas, Refusal, Usage};
use crate::telemetry::Instruments;
use crate::telemetry::instruments::PrincipalLabel;

/// What metrics call a key whose row was found.
pub(super) const FOUND: &str = "found";

/// Charges calls, and counts what they were charged for.
#[derive(Debug, Clone)]
pub struct Charges {
    quotas: Quotas,
    instruments: Arc<Instruments>,
}

impl Charges {
    /// By these limits.
    pub fn new(quotas: Quotas, instruments: Arc<Instruments>) -> Self {
        Self { quotas, instruments }
    }

    /// Charges a call that writes. `cost` is asked for only where something limits it. `field` has the rows.
    pub(super) fn write(
        &self,
        caller: &Caller,
        table: &str,
        field: &str,
        cost: impl FnOnce() -> Cost,
    ) -> Result<(), Status> {
        match self.quotas.limit(Usage::Write, caller, table) {
            true => self.settle(caller, field, self.quotas.try_acquire(Usage::Write, caller, &[(table, cost())])),
            false => Ok(()),
        }
    }

    /// Charges a dry run.
    pub(super) fn check(&self, caller: &Caller, bytes: usize) -> Result<(), Status> {
        let cost = Cost { rows: 0, bytes: bytes as u64 };
        self.settle(caller, "payload", self.quotas.try_acquire_own(Usage::Write, caller, cost))
    }

    /// Charges a call that reads so many keys of each table. `field` has the keys.
    pub(super) fn read(&self, caller: &Caller, field: &str, keys: &[(&str, usize)]) -> Result<(), Status> {
        let costs: Vec<_> = keys.iter().map(|(table, keys)| (*table, Cost::rows(*keys))).collect();
        self.settle(caller, field, self.quotas.try_acquire(Usage::Read, caller, &costs))?;
        self.count_reads(caller, keys.iter().map(|(_, keys)| keys).sum());
        Ok(())
    }

    /// Waits until the rows of a range's page may go.
    pub(super) async fn read_page(&self, caller: &Caller, table: &str, rows: usize) {
        let began = Instant::now();
        self.quotas.acquire_in_parts(Usage::Read, caller, table, rows).await;
        let label = PrincipalLabel::of(&caller.name());
        self.instruments.rate_limited_seconds.get_or_create(&label).inc_by(began.elapsed().as_secs_f64());
        self.count_reads(caller, rows);
    }

    /// Counts what became of the keys of a call that began then.
    pub(super) fn answered(&self, began: Instant, outcomes: impl Iterator<Item = &'static str>) {
        self.instruments.read_seconds.observe(began.elapsed().as_secs_f64());
        self.instruments.count_reads(outcomes);
    }

    /// Counts rows of a range: it has no keys that are not found.
    pub(super) fn found(&self, rows: usize) {
        self.instruments.count_reads(std::iter::repeat_n(FOUND, rows));
    }

    fn count_reads(&self, caller: &Caller, keys: usize) {
        let label = PrincipalLabel::of(&caller.name());
        self.instruments.principal_reads.get_or_create(&label).inc_by(keys as u64);
    }

    fn settle(&self, caller: &Caller, field: &str, charged: Result<(), Refusal>) -> Result<(), Status> {
        charged.map_err(|refusal| {
            let label = PrincipalLabel::of(&caller.name());
            self.instruments.rate_limited_calls.get_or_create(&label).inc();
            match refusal {
                Refusal::TooDear(error) => status::too_dear(field, &error),
                Refusal::UsedUp(error) => status::quota_used_up(&error),
            }
        })
    }
}
