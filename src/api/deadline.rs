//! `grpc-timeout`: when a call must be answered.
//!
//! The handlers enforce it themselves and answer a little early, because the transport's own expiry answers CANCELLED, and
//! because an answer has to travel.

use std::time::Duration;

use tokio::time::Instant;
use tonic::metadata::MetadataMap;

use crate::limits::{CLIENT_TABLE_CHANGE_TIMEOUT, READ_DEADLINE_MARGIN, READ_TIMEOUT_DEFAULT, READ_TIMEOUT_MAX};
use crate::read::Patience;

/// The metadata key.
const GRPC_TIMEOUT: &str = "grpc-timeout";

/// A year, because a timer's wheel has an end and gRPC's time-outs reach ten thousand.
const LONGEST: Duration = Duration::from_secs(365 * 86_400);

/// When a call must be answered.
#[derive(Debug, Clone, Copy)]
pub(super) struct Deadline {
    /// Answer by then.
    pub(super) answer_by: Instant,
    /// Whether the client said so, or it is our own patience.
    pub(super) from_client: bool,
}

/// A `grpc-timeout` that is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the metadata `grpc-timeout` must be 1 to 8 digits and a unit of H, M, S, m, u, n: `250m`")]
pub(super) struct InvalidTimeout;

impl Deadline {
    /// The deadline of a read that starts now.
    pub(super) fn of_read(metadata: &MetadataMap) -> Result<Self, InvalidTimeout> {
        Self::within(metadata, READ_TIMEOUT_DEFAULT, READ_TIMEOUT_MAX)
    }

    /// The deadline of a call about definitions that starts now: DynamoDB may need minutes to make a table.
    pub(super) fn of_table_call(metadata: &MetadataMap) -> Result<Self, InvalidTimeout> {
        Self::within(metadata, CLIENT_TABLE_CHANGE_TIMEOUT, CLIENT_TABLE_CHANGE_TIMEOUT)
    }

    /// The patience of a streaming read that starts now. A stream may be long, and its reader slow: without a `grpc-timeout`
    /// it is only its pages that are waited for in vain.
    pub(super) fn of_range(metadata: &MetadataMap) -> Result<Patience, InvalidTimeout> {
        let asked = asked(metadata)?;
        Ok(Patience {
            page: asked.map_or(READ_TIMEOUT_DEFAULT, |_| READ_TIMEOUT_MAX),
            until: asked.map(|timeout| answer_by(timeout.min(LONGEST))),
        })
    }

    fn within(metadata: &MetadataMap, default: Duration, max: Duration) -> Result<Self, InvalidTimeout> {
        let asked = asked(metadata)?;
        let timeout = asked.unwrap_or(default).min(max);
        Ok(Self { answer_by: answer_by(timeout), from_client: asked.is_some() })
    }

    /// When a write that starts now must be answered; `None` where the client does not say.
    pub(super) fn of_write(metadata: &MetadataMap) -> Result<Option<Instant>, InvalidTimeout> {
        Ok(asked(metadata)?.map(|timeout| answer_by(timeout.min(LONGEST))))
    }
}

fn asked(metadata: &MetadataMap) -> Result<Option<Duration>, InvalidTimeout> {
    let Some(value) = metadata.get(GRPC_TIMEOUT) else { return Ok(None) };
    value.to_str().ok().and_then(parse).ok_or(InvalidTimeout).map(Some)
}

fn answer_by(timeout: Duration) -> Instant {
    // A fifth at most, so that a short time-out is not eaten up by its margin.
    Instant::now() + timeout - READ_DEADLINE_MARGIN.min(timeout / 5)
}

/// Reads gRPC's `Timeout`: `250m` is 250 milliseconds.
fn parse(text: &str) -> Option<Duration> {
    let unit = text.chars().next_back()?;
    let digits = text.strip_suffix(unit)?;
    if !(1..=8).contains(&digits.len()) || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let value: u64 = digits.parse().ok()?;
    // Eight digits of hours are 3.6E11 seconds: no overflow.
    Some(match unit {
        'H' => Duration::from_secs(value * 3600),
        'M' => Duration::from_secs(value * 60),
        'S' => Duration::from_secs(value),
        'm' => Duration::from_millis(value),
        'u' => Duration::from_micros(value),
        'n' => Duration::from_nanos(value),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn metadata(timeout: &'static str) -> MetadataMap {
        let mut metadata = MetadataMap::new();
        metadata.insert(GRPC_TIMEOUT, timeout.parse().unwrap());
        metadata
    }

    #[test]
    fn every_unit_is_read_and_nothing_else() {
        for (text, expected) in [
            ("1H", Duration::from_secs(3600)),
            ("2M", Duration::from_secs(120)),
            ("3S", Duration::from_secs(3)),
            ("250m", Duration::from_millis(250)),
            ("00000004u", Duration::from_micros(4)),
            ("99999999n", Duration::from_nanos(99_999_999)),
        ] {
            assert_eq!(parse(text), Some(expected), "{text}");
        }
        for text in ["", "S", "1", "1s", "-1S", "+1S", "1.5S", "123456789S", "1 S", "1é"] {
            assert_eq!(parse(text), None, "{text}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_is_due_before_the_client_stops_waiting() {
        let due_in = |timeout| {
            let deadline = Deadline::of_read(&metadata(timeout)).unwrap();
            assert!(deadline.from_client);
            deadline.answer_by - Instant::now()
        };
        assert_eq!(due_in("1S"), Duration::from_secs(1) - READ_DEADLINE_MARGIN);
        assert_eq!(due_in("10m"), Duration::from_millis(8));
        assert_eq!(due_in("99H"), READ_TIMEOUT_MAX - READ_DEADLINE_MARGIN);
        let patience = Deadline::of_read(&MetadataMap::new()).unwrap();
        assert!(!patience.from_client);
        assert_eq!(patience.answer_by - Instant::now(), READ_TIMEOUT_DEFAULT - READ_DEADLINE_MARGIN);
        assert_eq!(Deadline::of_read(&metadata("soon")).unwrap_err(), InvalidTimeout);
        let range = Deadline::of_range(&metadata("99H")).unwrap();
        assert_eq!(range.until.unwrap() - Instant::now(), Duration::from_secs(99 * 3600) - READ_DEADLINE_MARGIN);
        let range = Deadline::of_range(&MetadataMap::new()).unwrap();
        assert_eq!((range.page, range.until), (READ_TIMEOUT_DEFAULT, None), "a stream may last, a page may not");
    }
}
