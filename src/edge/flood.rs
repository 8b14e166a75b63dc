//! How many frames of a connection may cost us something and carry nothing.
//!
//! Two purses for each connection. **Control**: PING, SETTINGS, PRIORITY, CONTINUATION, WINDOW_UPDATE, empty DATA, and what
//! HTTP/2 does not know. It fills slowly with time, and with each frame of an answer, since honest clients update windows and
//! measure bandwidth in proportion to what they are sent. **Resets**: of streams that have barely begun, by the client, or by
//! us, for what was wrong in them or because they were answered before their request had come. It fills slowly with time, and
//! with each stream that lived, since honest clients that cancel some reads finish others. A client that resets a stream which
//! was answered pays nothing. A purse that is empty ends the connection.
//!
//! The transport bounds memory (one PING or SETTINGS is answered before the next is read; CONTINUATION frames of a header list
//! are counted); this bounds work. Pure: time is passed in. Caller: `connection`.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::time::Instant;

use super::frames::FrameHead;
use crate::limits::{
    ANSWER_FRAME_MIN_BYTES, CONTROL_FRAMES_BURST, CONTROL_FRAMES_PER_ANSWER_FRAME, CONTROL_FRAMES_PER_SECOND,
    UNASKED_PONG_COST, YOUNG_RESETS_BURST, YOUNG_RESETS_PER_SECOND, YOUNG_STREAM_AGE,
};

/// Answers whose streams may still be reset for nothing: twice the streams that a connection may have open.
const ANSWERED_REMEMBERED: usize = 512;

/// How much of something there may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Allowance {
    /// At once.
    pub burst: u32,
    /// A second, beyond what is earned.
    pub per_second: u32,
}

/// What one connection may send that carries nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FloodLimits {
    /// Control frames.
    pub control: Allowance,
    /// Resets of streams that have barely begun.
    pub young_resets: Allowance,
}

impl Default for FloodLimits {
    fn default() -> Self {
        Self {
            control: Allowance { burst: CONTROL_FRAMES_BURST, per_second: CONTROL_FRAMES_PER_SECOND },
            young_resets: Allowance { burst: YOUNG_RESETS_BURST, per_second: YOUNG_RESETS_PER_SECOND },
        }
    }
}

/// A connection was over its limits; by the kind of the frame that was one too many.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Flood {
    Ping,
    Settings,
    Priority,
    Continuation,
    WindowUpdate,
    EmptyData,
    Unknown,
    /// Streams that the client resets.
    Reset,
    /// Streams that it makes us reset.
    Refused,
}

impl Flood {
    /// The reason, as a label.
    pub(super) fn reason(self) -> &'static str {
        match self {
            Self::Ping => "flood_ping",
            Self::Settings => "flood_settings",
            Self::Priority => "flood_priority",
            Self::Continuation => "flood_continuation",
            Self::WindowUpdate => "flood_window_update",
            Self::EmptyData => "flood_empty_data",
            Self::Unknown => "flood_unknown",
            Self::Reset => "flood_reset",
            Self::Refused => "flood_refused",
        }
    }
}

/// Frames that may still come.
#[derive(Debug)]
struct Purse {
    allowance: Allowance,
    left: f64,
    filled_at: Instant,
}

impl Purse {
    fn new(allowance: Allowance, now: Instant) -> Self {
        Self { allowance, left: f64::from(allowance.burst), filled_at: now }
    }

    /// Takes; false where it has not that much.
    fn take(&mut self, cost: u32, now: Instant) -> bool {
        let filled = now.saturating_duration_since(self.filled_at).as_secs_f64() * f64::from(self.allowance.per_second);
        self.filled_at = now;
        self.left = (self.left + filled).min(f64::from(self.allowance.burst)) - f64::from(cost);
        self.left >= 0.0
    }

    fn earn(&mut self, frames: u32) {
        self.left = (self.left + f64::from(frames)).min(f64::from(self.allowance.burst));
    }
}

/// Streams that began within one [`YOUNG_STREAM_AGE`].
#[derive(Debug, Clone, Copy, Default)]
struct Generation {
    /// The first of them. Identifiers only grow.
    first: u32,
    /// How many of them were not reset.
    living: u32,
}

/// Watches the frames of one connection.
#[derive(Debug)]
pub(super) struct Guard {
    control: Purse,
    resets: Purse,
    last_stream: u32,
    newest: Generation,
    newest_since: Instant,
    older: Generation,
    /// Pings of ours that are not answered.
    pings_sent: u32,
    /// Streams whose answers have ended of late, and that were not reset.
    answered: VecDeque<u32>,
}

impl Guard {
    pub(super) fn new(limits: FloodLimits, now: Instant) -> Self {
        Self {
            control: Purse::new(limits.control, now),
            resets: Purse::new(limits.young_resets, now),
            last_stream: 0,
            newest: Generation { first: 1, living: 0 },
            newest_since: now,
            older: Generation::default(),
            pings_sent: 0,
            answered: VecDeque::new(),
        }
    }

    /// The client has sent a frame.
    pub(super) fn received(&mut self, head: FrameHead, now: Instant) -> Result<(), Flood> {
        let (flood, cost) = match head.kind {
            FrameHead::DATA if head.length > 0 || head.has_first_flag() => return Ok(()),
            FrameHead::DATA => (Flood::EmptyData, 1),
            FrameHead::HEADERS => {
                self.age(now);
                if head.stream > self.last_stream {
                    self.last_stream = head.stream;
                    self.newest.living += 1;
                }
                return Ok(());
            }
            FrameHead::RST_STREAM => {
                return match self.answered.iter().rposition(|answered| *answered == head.stream) {
                    Some(at) => {
                        self.answered.remove(at);
                        Ok(())
                    }
                    None => self.reset(head.stream, Flood::Reset, now),
                };
            }
            FrameHead::PING if head.has_first_flag() && self.pings_sent > 0 => {
                self.pings_sent -= 1;
                return Ok(());
            }
            FrameHead::PING if head.has_first_flag() => (Flood::Ping, UNASKED_PONG_COST),
            FrameHead::PING => (Flood::Ping, 1),
            FrameHead::SETTINGS => (Flood::Settings, 1),
            FrameHead::PRIORITY => (Flood::Priority, 1),
            FrameHead::CONTINUATION => (Flood::Continuation, 1),
            FrameHead::WINDOW_UPDATE => (Flood::WindowUpdate, 1),
            _ => (Flood::Unknown, 1),
        };
        if self.control.take(cost, now) { Ok(()) } else { Err(flood) }
    }

    /// We have sent a frame.
    pub(super) fn sent(&mut self, head: FrameHead, now: Instant) -> Result<(), Flood> {
        if matches!(head.kind, FrameHead::HEADERS | FrameHead::DATA) && head.has_first_flag() {
            // Clients that had not sent all of their request reset the stream when its answer ends.
            if self.answered.len() == ANSWERED_REMEMBERED {
                self.answered.pop_front();
            }
            self.answered.push_back(head.stream);
        }
        match head.kind {
            FrameHead::HEADERS => self.control.earn(CONTROL_FRAMES_PER_ANSWER_FRAME),
            FrameHead::DATA if head.length >= ANSWER_FRAME_MIN_BYTES => {
                self.control.earn(CONTROL_FRAMES_PER_ANSWER_FRAME);
            }
            FrameHead::PING if !head.has_first_flag() => self.pings_sent += 1,
            FrameHead::RST_STREAM => return self.reset(head.stream, Flood::Refused, now),
            _ => {}
        }
        Ok(())
    }

    /// A stream was reset. One that lived costs nothing: what it did, it has earned.
    fn reset(&mut self, stream: u32, flood: Flood, now: Instant) -> Result<(), Flood> {
        self.age(now);
        if stream <= self.last_stream {
            for generation in [&mut self.newest, &mut self.older] {
                if stream >= generation.first {
                    generation.living = generation.living.saturating_sub(1);
                    break;
                }
            }
        }
        // An old stream's reset is paid by what the stream earned when it came of age.
        if self.resets.take(1, now) { Ok(()) } else { Err(flood) }
    }

    /// Lets streams come of age.
    fn age(&mut self, now: Instant) {
        let passed = now.saturating_duration_since(self.newest_since);
        if passed < YOUNG_STREAM_AGE {
            return;
        }
        // Those of the older generation have lived for a whole one and more; after two quiet ones, all have.
        self.resets.earn(self.older.living);
        if passed >= YOUNG_STREAM_AGE * 2 {
            self.resets.earn(self.newest.living);
            self.newest.living = 0;
        }
        self.older = self.newest;
        self.newest = Generation { first: self.last_stream.saturating_add(1), living: 0 };
        self.newest_since = now;
    }
}

/// A wait that grows with each flood from the same place, so that coming again at once is worth nothing.
pub(super) fn penalty(floods: u32, first: Duration, longest: Duration) -> Duration {
    match floods {
        0 => Duration::ZERO,
        floods => first.saturating_mul(1 << (floods - 1).min(16)).min(longest),
    }
}

#[cfg(test)]
#[path = "flood_tests.rs"]
mod tests;
