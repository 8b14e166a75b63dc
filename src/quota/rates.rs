//! What things cost, and the rates that limit them, as the policy has them.

use std::num::NonZeroU32;

use super::refusal::{Subject, TooDear};
use crate::access::{Policy, Rate};

/// What rows do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Usage {
    /// They are written.
    Write,
    /// They are read: each key counts, found or not.
    Read,
}

/// What a batch or a call spends.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Cost {
    /// Rows or keys.
    pub rows: u32,
    /// Bytes, as they arrived. Counted in KiB, and each batch's rounded up.
    pub bytes: u64,
}

impl Cost {
    /// Rows alone: reads are not limited by bytes.
    pub fn rows(rows: usize) -> Self {
        Self { rows: u32::try_from(rows).unwrap_or(u32::MAX), bytes: 0 }
    }

    pub(super) fn kib(self) -> u32 {
        u32::try_from(self.bytes.div_ceil(1024)).unwrap_or(u32::MAX)
    }

    pub(super) fn and(self, other: Self) -> Self {
        Self { rows: self.rows.saturating_add(other.rows), bytes: self.bytes.saturating_add(other.bytes) }
    }
}

/// The rates that one subject has for one usage.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Rates {
    pub(super) rows: Option<Rate>,
    pub(super) kib: Option<Rate>,
}

impl Rates {
    pub(super) fn is_limited(&self) -> bool {
        self.rows.is_some() || self.kib.is_some()
    }

    pub(super) fn of_principal(policy: &Policy, name: &str, usage: Usage) -> (Self, NonZeroU32) {
        let Some(principal) = policy.principal(name) else { return (Self::default(), NonZeroU32::MIN) };
        let limits = &principal.limits;
        let rates = match usage {
            Usage::Write => Self { rows: limits.write_rows, kib: limits.write_kib },
            Usage::Read => Self { rows: limits.read_rows, kib: None },
        };
        (rates, limits.weight)
    }

    pub(super) fn of_table(policy: &Policy, table: &str, usage: Usage) -> Self {
        match (policy.limits_of_table(table), usage) {
            (None, _) => Self::default(),
            (Some(limits), Usage::Write) => Self { rows: limits.write_rows, kib: limits.write_kib },
            (Some(limits), Usage::Read) => Self { rows: limits.read_rows, kib: None },
        }
    }

    pub(super) fn check(&self, cost: Cost, usage: Usage, subject: impl Fn() -> Subject) -> Result<(), TooDear> {
        for (rate, cost, by_rows) in [(self.rows, cost.rows, true), (self.kib, cost.kib(), false)] {
            if let Some(burst) = rate.map(|rate| rate.burst.get()).filter(|burst| cost > *burst) {
                return Err(TooDear { subject: subject(), limit: limit_name(usage, by_rows), burst, cost });
            }
        }
        Ok(())
    }
}

/// The limit's key in the access file.
pub(super) fn limit_name(usage: Usage, by_rows: bool) -> &'static str {
    match (usage, by_rows) {
        (Usage::Write, true) => "write_rows",
        (Usage::Write, false) => "write_kib",
        (Usage::Read, _) => "read_rows",
    }
}

/// What may be sent at once, as far as limits go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bursts {
    /// Rows; `None` where they are not limited.
    pub rows: Option<u32>,
    /// KiB; `None` where they are not limited.
    pub kib: Option<u32>,
}
