//! The process's memory budget for rows: a semaphore counted in KiB.
//!
//! A chunk's permit is held until the last of its rows has an outcome. Waiters are served in order of arrival, so a large
//! chunk is not starved by small ones.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::telemetry::Instruments;

/// Bytes per permit of the semaphore.
const UNIT_BYTES: usize = 1024;

/// The budget.
#[derive(Debug, Clone)]
pub struct MemoryBudget {
    semaphore: Arc<Semaphore>,
    total_units: u32,
    instruments: Arc<Instruments>,
}

/// Reserved memory; freed on drop.
#[derive(Debug)]
pub struct MemoryPermit {
    bytes: i64,
    instruments: Arc<Instruments>,
    _permit: OwnedSemaphorePermit,
}

impl MemoryBudget {
    /// A budget of so many bytes; at least one unit.
    pub fn new(total_bytes: usize, instruments: Arc<Instruments>) -> Self {
        let total_units = u32::try_from(total_bytes / UNIT_BYTES).unwrap_or(u32::MAX >> 4).clamp(1, u32::MAX >> 4);
        Self { semaphore: Arc::new(Semaphore::new(total_units as usize)), total_units, instruments }
    }

    /// Reserves memory, waiting for it where necessary. More than the whole budget counts as the whole budget: one chunk
    /// alone may always proceed.
    pub async fn reserve(&self, bytes: usize) -> MemoryPermit {
        let units = u32::try_from(bytes.div_ceil(UNIT_BYTES)).unwrap_or(u32::MAX).clamp(1, self.total_units);
        let permit = match Arc::clone(&self.semaphore).acquire_many_owned(units).await {
            Ok(permit) => permit,
            Err(_closed) => unreachable!("the semaphore is never closed"),
        };
        let bytes = i64::from(units) * UNIT_BYTES as i64;
        self.instruments.reserved_bytes.inc_by(bytes);
        MemoryPermit { bytes, instruments: Arc::clone(&self.instruments), _permit: permit }
    }

    /// Bytes that are not reserved.
    pub fn available_bytes(&self) -> usize {
        self.semaphore.available_permits() * UNIT_BYTES
    }
}

impl Drop for MemoryPermit {
    fn drop(&mut self) {
        self.instruments.reserved_bytes.dec_by(self.bytes);
    }
}
