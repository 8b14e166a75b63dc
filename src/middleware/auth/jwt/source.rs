//! One issuer's keys: the task that fetches them, and the callers that wait for one. What is done when says [`JwksCache`].
//!
//! Only the task fetches, so that however many calls wait for a key there is one fetch at a time.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use jsonwebtoken::Algorithm;
use tokio::sync::{Notify, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::fetch::{FetchError, Fetcher};
use super::jwks_cache::{Answer, Good, JwksCache, KeyTiming};
use super::keys::{Key, KeySet, KeySetError};
use crate::access::IssuerConfig;
use crate::limits::JWKS_FETCH_TIMEOUT;
use crate::middleware::auth::Refusal;
use crate::telemetry::Instruments;
use crate::telemetry::instruments::OutcomeLabel;

/// An issuer, and its keys.
#[derive(Debug)]
pub(super) struct Source {
    pub(super) issuer: Arc<IssuerConfig>,
    cache: Mutex<JwksCache>,
    wanted: Notify,
    fetched: watch::Sender<()>,
    shared: Arc<Shared>,
}

/// What all sources of a gateway share.
#[derive(Debug)]
pub(super) struct Shared {
    /// Grows when keys change: what was verified by the old ones is verified again.
    pub(super) epoch: AtomicU64,
    pub(super) instruments: Arc<Instruments>,
}

/// Why a set is not taken.
#[derive(Debug, thiserror::Error)]
enum NotFetched {
    #[error(transparent)]
    Fetch(#[from] FetchError),
    #[error(transparent)]
    Set(#[from] KeySetError),
}

impl Source {
    /// Starts to fetch; ends with `stop`. The keys of a source for the same place hold until then.
    pub(super) fn start(
        issuer: Arc<IssuerConfig>,
        timing: KeyTiming,
        before: Option<&Self>,
        shared: Arc<Shared>,
        stop: CancellationToken,
    ) -> Arc<Self> {
        let before = before.filter(|before| before.issuer.keys == issuer.keys);
        let good = before.and_then(|before| before.lock().good().cloned()).and_then(|good| {
            // By what the issuer's configuration is now.
            let keys = KeySet::parse(&good.text, &issuer).ok()?;
            Some(Good { keys: Arc::new(keys), ..good })
        });
        let cache = Mutex::new(JwksCache::new(timing, good));
        let source = Self { issuer, cache, wanted: Notify::new(), fetched: watch::Sender::new(()), shared };
        let source = Arc::new(source);
        tokio::spawn(stop.run_until_cancelled_owned(Arc::clone(&source).run()));
        source
    }

    /// The key for a token, from the set or from the one that is being fetched.
    pub(super) async fn key(&self, id: Option<&str>, algorithm: Algorithm) -> Result<Arc<Key>, Refusal> {
        // From before the first look: a fetch that ends after it is seen.
        let mut fetched = self.fetched.subscribe();
        // A fetch may be under way that began before the key was there; then there is one more.
        let patience = Instant::now() + JWKS_FETCH_TIMEOUT * 2;
        loop {
            let answer = self.lock().find(id, algorithm, Instant::now());
            match answer {
                Answer::Key(key) => return Ok(key),
                Answer::None => return Err(Refusal::NotAccepted),
                Answer::Unknown { retry_after } => return Err(Refusal::Unverifiable { retry_after }),
                Answer::Wait => self.wanted.notify_one(),
            }
            match tokio::time::timeout_at(patience, fetched.changed()).await {
                Ok(Ok(())) => {}
                _ => return Err(Refusal::Unverifiable { retry_after: JWKS_FETCH_TIMEOUT }),
            }
        }
    }

    async fn run(self: Arc<Self>) {
        let fetcher = Fetcher::new(self.issuer.keys.clone());
        loop {
            let now = Instant::now();
            let next = self.lock().next_fetch(now);
            if next > now {
                tokio::select! {
                    () = tokio::time::sleep_until(next) => {}
                    () = self.wanted.notified() => {}
                }
                // Somebody may have asked for what has come meanwhile.
                continue;
            }
            self.lock().begin(now);
            let fetched = match fetcher.fetch().await {
                Ok(text) => self.parse(text).map_err(NotFetched::from),
                Err(error) => Err(error.into()),
            };
            self.take(fetched);
        }
    }

    fn parse(&self, text: Bytes) -> Result<Good, KeySetError> {
        let keys = Arc::new(KeySet::parse(&text, &self.issuer)?);
        Ok(Good { keys, text, fetched_at: Instant::now() })
    }

    fn take(&self, fetched: Result<Good, NotFetched>) {
        let mut cache = self.lock();
        let (had_failed, issuer) = (cache.has_failed(), &*self.issuer.issuer);
        let label = OutcomeLabel { outcome: if fetched.is_ok() { "ok" } else { "failed" } };
        self.shared.instruments.token_key_fetches.get_or_create(&label).inc();
        let changed = match fetched {
            Ok(good) => {
                let ignored = good.keys.ignored;
                let changed = cache.end(Some(good), Instant::now());
                if changed || had_failed {
                    tracing::info!(issuer, ignored_keys = ignored, "the keys of an issuer of tokens were read");
                }
                changed
            }
            Err(error) => {
                let holds = cache.good().is_some();
                // Once for each time that it fails; it is tried again and again.
                if !had_failed {
                    tracing::warn!(issuer, %error, last_keys_hold = holds, "the keys of an issuer of tokens cannot be read");
                }
                cache.end(None, Instant::now())
            }
        };
        drop(cache);
        if changed {
            self.shared.epoch.fetch_add(1, Ordering::AcqRel);
        }
        self.fetched.send_replace(());
    }

    fn lock(&self) -> MutexGuard<'_, JwksCache> {
        self.cache.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
