//! What is done about connections that are refused: counted by reason, logged where somebody should look, and, after a flood,
//! remembered by their address for a while.
//!
//! Callers: `accept`, `connection`.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::caps::Origin;
use super::flood::penalty;
use crate::limits::{FLOOD_ADDRESSES_MAX, FLOOD_MEMORY, FLOOD_PENALTY, FLOOD_PENALTY_MAX};
use crate::telemetry::Instruments;
use crate::telemetry::instruments::ReasonLabel;

/// Log lines of one kind are this far apart.
const LOG_INTERVAL: Duration = Duration::from_secs(1);

/// Counts, logs and remembers.
#[derive(Debug)]
pub(super) struct Refusals {
    instruments: Arc<Instruments>,
    logged: Mutex<Debounce>,
    floods: Mutex<Floods>,
}

impl Refusals {
    pub(super) fn new(instruments: Arc<Instruments>) -> Arc<Self> {
        Arc::new(Self { instruments, logged: Mutex::default(), floods: Mutex::default() })
    }

    /// A connection was refused or ended. At most one line a second tells of it.
    pub(super) fn count(&self, reason: &'static str, peer: Option<SocketAddr>, why: &dyn std::fmt::Display) {
        self.instruments.connections_refused.get_or_create(&ReasonLabel { reason }).inc();
        let suppressed = {
            let mut logged = self.logged.lock().unwrap_or_else(PoisonError::into_inner);
            logged.line(Instant::now())
        };
        if let Some(suppressed) = suppressed {
            let peer = peer.map(tracing::field::display);
            tracing::warn!(reason, peer, suppressed, "connection refused: {why}");
        }
    }

    /// A connection from there was closed for a flood.
    pub(super) fn flooded(&self, origin: Origin) {
        self.floods.lock().unwrap_or_else(PoisonError::into_inner).add(origin, Instant::now());
    }

    /// How long a new connection from there waits before it is served.
    pub(super) fn penalty(&self, origin: Origin) -> Duration {
        let floods = self.floods.lock().unwrap_or_else(PoisonError::into_inner).of(origin, Instant::now());
        penalty(floods, FLOOD_PENALTY, FLOOD_PENALTY_MAX)
    }
}

/// One line in a while, which says how many were left out.
#[derive(Debug, Default)]
struct Debounce {
    last: Option<Instant>,
    suppressed: u64,
}

impl Debounce {
    /// `None`: no line now. Else the number of lines that were left out before.
    fn line(&mut self, now: Instant) -> Option<u64> {
        if self.last.is_some_and(|last| now.saturating_duration_since(last) < LOG_INTERVAL) {
            self.suppressed += 1;
            return None;
        }
        self.last = Some(now);
        Some(std::mem::take(&mut self.suppressed))
    }
}

/// Who flooded lately.
#[derive(Debug, Default)]
struct Floods(HashMap<Origin, (u32, Instant)>);

impl Floods {
    fn add(&mut self, origin: Origin, now: Instant) {
        if self.0.len() >= FLOOD_ADDRESSES_MAX && !self.0.contains_key(&origin) {
            self.0.retain(|_, (_, last)| now.saturating_duration_since(*last) < FLOOD_MEMORY);
            // So many attackers at once: whoever was quiet for longest makes room.
            if self.0.len() >= FLOOD_ADDRESSES_MAX
                && let Some(oldest) = self.0.iter().min_by_key(|(_, (_, last))| *last).map(|(origin, _)| *origin)
            {
                self.0.remove(&oldest);
            }
        }
        let floods = self.of(origin, now).saturating_add(1);
        self.0.insert(origin, (floods, now));
    }

    fn of(&self, origin: Origin, now: Instant) -> u32 {
        match self.0.get(&origin) {
            Some((floods, last)) if now.saturating_duration_since(*last) < FLOOD_MEMORY => *floods,
            _ => 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr};

    use super::*;

    fn origin(number: u32) -> Origin {
        Origin::of(IpAddr::V4(Ipv4Addr::from(number)))
    }

    #[test]
    fn an_address_is_remembered_until_it_was_quiet_for_a_while() {
        let (mut floods, now) = (Floods::default(), Instant::now());
        floods.add(origin(1), now);
        floods.add(origin(1), now + Duration::from_secs(1));
        assert_eq!(floods.of(origin(1), now + FLOOD_MEMORY), 2);
        assert_eq!(floods.of(origin(2), now), 0);
        assert_eq!(floods.of(origin(1), now + Duration::from_secs(1) + FLOOD_MEMORY), 0);
        floods.add(origin(1), now + FLOOD_MEMORY * 3);
        assert_eq!(floods.of(origin(1), now + FLOOD_MEMORY * 3), 1);
    }

    #[test]
    fn the_memory_of_floods_is_bounded_and_the_quietest_is_forgotten_first() {
        let (mut floods, now) = (Floods::default(), Instant::now());
        for number in 0..FLOOD_ADDRESSES_MAX as u32 + 10 {
            floods.add(origin(number), now + Duration::from_millis(u64::from(number)));
        }
        assert_eq!(floods.0.len(), FLOOD_ADDRESSES_MAX);
        let now = now + Duration::from_secs(10);
        assert_eq!((floods.of(origin(9), now), floods.of(origin(10), now)), (0, 1));
    }

    #[test]
    fn a_log_line_says_how_many_were_left_out() {
        let (mut lines, now) = (Debounce::default(), Instant::now());
        assert_eq!(lines.line(now), Some(0));
        assert_eq!([lines.line(now), lines.line(now + LOG_INTERVAL / 2)], [None, None]);
        assert_eq!(lines.line(now + LOG_INTERVAL), Some(2));
        assert_eq!(lines.line(now + LOG_INTERVAL * 2), Some(0));
    }
}
