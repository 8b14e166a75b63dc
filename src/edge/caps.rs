//! How many connections there may be, in all and from one address.
//!
//! A [`Slot`] is one connection; it counts until it is dropped. IPv6 addresses count by their first 64 bits, which is what one
//! host is given. Callers: `accept`, `connection`.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};

use crate::telemetry::Instruments;

/// Where a connection comes from, as far as addresses tell hosts apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Origin(IpAddr);

impl Origin {
    pub(super) fn of(address: IpAddr) -> Self {
        match address.to_canonical() {
            IpAddr::V6(v6) => Self(IpAddr::V6((u128::from(v6) & !u128::from(u64::MAX)).into())),
            v4 => Self(v4),
        }
    }
}

/// Why there is no slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Full {
    /// There are too many connections.
    Total,
    /// There are too many from this address.
    Address,
}

impl Full {
    /// The reason, as a label.
    pub(super) fn reason(self) -> &'static str {
        match self {
            Self::Total => "max_connections",
            Self::Address => "max_connections_per_address",
        }
    }
}

/// The connections that are open.
#[derive(Debug)]
pub(super) struct Caps {
    most: usize,
    most_per_address: Option<usize>,
    open: Mutex<Open>,
    instruments: Arc<Instruments>,
}

#[derive(Debug, Default)]
struct Open {
    total: usize,
    /// Counted only where there is a cap.
    by_origin: HashMap<Origin, usize>,
}

impl Caps {
    pub(super) fn new(most: usize, most_per_address: Option<usize>, instruments: Arc<Instruments>) -> Arc<Self> {
        Arc::new(Self { most, most_per_address, open: Mutex::default(), instruments })
    }

    /// A slot for a connection, if there is one.
    pub(super) fn take(self: &Arc<Self>, origin: Origin) -> Result<Slot, Full> {
        // Nothing in here panics while it holds the lock, and the counts would be right even then.
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if open.total >= self.most {
            return Err(Full::Total);
        }
        if let Some(most) = self.most_per_address {
            let from_there = open.by_origin.entry(origin).or_default();
            if *from_there >= most {
                return Err(Full::Address);
            }
            *from_there += 1;
        }
        open.total += 1;
        self.instruments.connections.inc();
        Ok(Slot { caps: Arc::clone(self), origin })
    }
}

/// A connection that counts.
#[derive(Debug)]
pub(super) struct Slot {
    caps: Arc<Caps>,
    origin: Origin,
}

impl Drop for Slot {
    fn drop(&mut self) {
        let mut open = self.caps.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.total -= 1;
        if let Some(from_there) = open.by_origin.get_mut(&self.origin) {
            *from_there -= 1;
            if *from_there == 0 {
                open.by_origin.remove(&self.origin);
            }
        }
        self.caps.instruments.connections.dec();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn origin(address: &str) -> Origin {
        Origin::of(address.parse().unwrap())
    }

    #[test]
    fn a_slot_counts_until_it_is_dropped() {
        let instruments = Arc::new(Instruments::new());
        let caps = Caps::new(3, Some(2), Arc::clone(&instruments));
        let (here, there) = (origin("10.0.0.1"), origin("10.0.0.2"));
        let slots = [caps.take(here).unwrap(), caps.take(here).unwrap()];
        assert_eq!(caps.take(here).unwrap_err(), Full::Address);
        let other = caps.take(there).unwrap();
        assert_eq!(caps.take(there).unwrap_err(), Full::Total);
        assert_eq!(instruments.connections.get(), 3);
        drop(slots);
        assert_eq!(instruments.connections.get(), 1);
        let _again = [caps.take(here).unwrap(), caps.take(here).unwrap()];
        drop(other);
        // An address without connections takes no memory.
        assert_eq!(caps.open.lock().unwrap().by_origin.len(), 1);
    }

    #[test]
    fn addresses_that_one_host_has_count_together() {
        assert_eq!(origin("2001:db8::1"), origin("2001:db8::ffff:1"));
        assert_ne!(origin("2001:db8::1"), origin("2001:db8:0:1::1"));
        assert_eq!(origin("::ffff:10.0.0.1"), origin("10.0.0.1"));
        assert_ne!(origin("10.0.0.1"), origin("10.0.0.2"));
    }
}
