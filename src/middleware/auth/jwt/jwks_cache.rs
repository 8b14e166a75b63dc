//! When an issuer's keys are fetched, and what holds meanwhile. Pure: `source` fetches, and passes the time in.
//!
//! The last good set holds until its time is over, whatever the endpoint answers. A key that is not in it is asked for once
//! for all who wait, and not again for a while: a stranger who makes up key ids must not make us knock at the issuer's door.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use jsonwebtoken::Algorithm;
use tokio::time::Instant;

use super::keys::{Key, KeySet, NoKey};

/// How often keys are fetched.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KeyTiming {
    /// The set is fetched anew this long after it was.
    pub refresh: Duration,
    /// The shortest time between two fetches: after one that failed, and where a key is not in the set.
    pub pause: Duration,
    /// The last good set holds so long.
    pub keep: Duration,
}

/// A set that was fetched.
#[derive(Debug, Clone)]
pub(super) struct Good {
    pub(super) keys: Arc<KeySet>,
    /// As it came.
    pub(super) text: Bytes,
    pub(super) fetched_at: Instant,
}

/// What the cache knows of a key.
#[derive(Debug)]
pub(super) enum Answer {
    /// It is there.
    Key(Arc<Key>),
    /// The issuer has no such key.
    None,
    /// It may be among those that are being fetched.
    Wait,
    /// Nobody can tell now.
    Unknown {
        /// When somebody may.
        retry_after: Duration,
    },
}

/// See the module.
#[derive(Debug)]
pub(super) struct JwksCache {
    timing: KeyTiming,
    good: Option<Good>,
    /// When the last fetch began; where it failed, when it ended.
    tried_at: Option<Instant>,
    failed: bool,
    fetching: bool,
    /// Somebody waits for a fetch that has not begun.
    wanted: bool,
}

impl JwksCache {
    /// A cache with the set that an earlier one had, if there was one. It is fetched anew at once.
    pub(super) fn new(timing: KeyTiming, good: Option<Good>) -> Self {
        Self { timing, good, tried_at: None, failed: false, fetching: false, wanted: false }
    }

    /// The key for a token.
    pub(super) fn find(&mut self, id: Option<&str>, algorithm: Algorithm, now: Instant) -> Answer {
        let keep = self.timing.keep;
        let good = self.good.as_ref().filter(|good| now.saturating_duration_since(good.fetched_at) < keep);
        match good.map(|good| good.keys.find(id, algorithm)) {
            Some(Ok(key)) => return Answer::Key(key),
            Some(Err(NoKey::Unfit)) => return Answer::None,
            Some(Err(NoKey::UnknownId)) | None => {}
        }
        match self.tried_at.map(|at| (at + self.timing.pause).saturating_duration_since(now)) {
            _ if self.fetching => Answer::Wait,
            Some(left) if !left.is_zero() && self.failed => Answer::Unknown { retry_after: left },
            Some(left) if !left.is_zero() => Answer::None,
            _ => {
                self.wanted = true;
                Answer::Wait
            }
        }
    }

    /// When the set is to be fetched next.
    pub(super) fn next_fetch(&self, now: Instant) -> Instant {
        match self.tried_at {
            _ if self.wanted => now,
            None => now,
            Some(at) if self.failed => at + self.timing.pause,
            Some(at) => at + self.timing.refresh,
        }
    }

    /// A fetch begins.
    pub(super) fn begin(&mut self, now: Instant) {
        (self.tried_at, self.fetching, self.wanted) = (Some(now), true, false);
    }

    /// A fetch has ended. Says whether the set has changed.
    pub(super) fn end(&mut self, fetched: Option<Good>, now: Instant) -> bool {
        self.fetching = false;
        self.failed = fetched.is_none();
        let Some(fetched) = fetched else {
            self.tried_at = Some(now);
            return false;
        };
        let changed = self.good.as_ref().is_none_or(|good| good.text != fetched.text);
        self.good = Some(fetched);
        changed
    }

    /// The last good set.
    pub(super) fn good(&self) -> Option<&Good> {
        self.good.as_ref()
    }

    /// Whether the last fetch failed.
    pub(super) fn has_failed(&self) -> bool {
        self.failed
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::keys::tests::{issuer, rsa};
    use super::*;
    use crate::access::SignatureAlgorithm;

    const TIMING: KeyTiming = KeyTiming {
        refresh: Duration::from_secs(600),
        pause: Duration::from_secs(30),
        keep: Duration::from_secs(24 * 3600),
    };

    fn good(ids: &[&str], fetched_at: Instant) -> Good {
        let keys: Vec<_> = ids.iter().map(|id| rsa(id)).collect();
        let text = Bytes::from(json!({ "keys": keys }).to_string());
        Good { keys: Arc::new(KeySet::parse(&text, &issuer(&[SignatureAlgorithm::RS256])).unwrap()), text, fetched_at }
    }

    fn says(cache: &mut JwksCache, id: &str, now: Instant) -> String {
        match cache.find(Some(id), Algorithm::RS256, now) {
            Answer::Key(_) => "key".to_owned(),
            Answer::None => "none".to_owned(),
            Answer::Wait => "wait".to_owned(),
            Answer::Unknown { retry_after } => format!("unknown for {} s", retry_after.as_secs()),
        }
    }

    fn after(start: Instant, seconds: u64) -> Instant {
        start + Duration::from_secs(seconds)
    }

    #[test]
    fn fault_10_an_unknown_key_is_asked_for_once_and_not_again_for_a_while() {
        let start = Instant::now();
        let mut cache = JwksCache::new(TIMING, None);
        assert_eq!((says(&mut cache, "a", start), cache.next_fetch(start)), ("wait".to_owned(), start));
        cache.begin(start);
        assert_eq!(says(&mut cache, "a", start), "wait");
        assert!(cache.end(Some(good(&["a"], start)), start));
        assert_eq!(says(&mut cache, "a", after(start, 29)), "key");
        assert_eq!(says(&mut cache, "b", after(start, 29)), "none");
        assert_eq!(cache.next_fetch(after(start, 29)), after(start, 600));

        let later = after(start, 30);
        assert_eq!((says(&mut cache, "b", later), cache.next_fetch(later)), ("wait".to_owned(), later));
        cache.begin(later);
        assert!(!cache.end(Some(good(&["a"], later)), later), "the same set");
        assert_eq!(says(&mut cache, "b", later), "none");
        assert_eq!(says(&mut cache, "b", after(start, 59)), "none");
        assert_eq!(says(&mut cache, "b", after(start, 60)), "wait");
        cache.begin(after(start, 60));
        assert!(cache.end(Some(good(&["b"], after(start, 60))), after(start, 60)));
        assert_eq!(says(&mut cache, "b", after(start, 60)), "key");
        assert_eq!(says(&mut cache, "a", after(start, 60)), "none", "a key that was taken out is gone");
    }

    #[test]
    fn fault_10_while_the_endpoint_is_down_known_keys_hold_for_a_day_and_unknown_ones_cannot_be_told() {
        let start = Instant::now();
        let mut cache = JwksCache::new(TIMING, None);
        cache.begin(start);
        cache.end(Some(good(&["a"], start)), start);
        let mut now = after(start, 600);
        while now < after(start, 24 * 3600) {
            assert!(cache.next_fetch(now) <= now);
            cache.begin(now);
            assert!(!cache.end(None, now));
            assert_eq!(says(&mut cache, "a", now), "key");
            assert_eq!(says(&mut cache, "b", after(now, 10)), "unknown for 20 s");
            assert_eq!(cache.next_fetch(now), after(now, 30), "it is tried again sooner than a set is refreshed");
            now = after(now, 30);
        }
        assert_eq!(says(&mut cache, "a", now), "wait", "a day is over");
        cache.begin(now);
        cache.end(None, now);
        assert_eq!(says(&mut cache, "a", now), "unknown for 30 s");
        cache.begin(after(now, 30));
        cache.end(Some(good(&["a"], after(now, 30))), after(now, 30));
        assert_eq!(says(&mut cache, "a", after(now, 30)), "key");
        assert!(!cache.has_failed());
    }
}
