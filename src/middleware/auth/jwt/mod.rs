//! Tokens (JWT): whose they are, by the keys of the issuers that the access file names.
//!
//! `token` reads and verifies one, `keys` are an issuer's public keys, `jwks_cache` says when they are fetched, `source` does
//! it by `fetch`, and `verified` remembers tokens for a while. The algorithm, the key and what is checked follow from the
//! configuration and the issuer's key set; a token only chooses among them.
//!
//! Caller: the layer, by [`VerifyTokens`].

mod fetch;
mod jwks_cache;
mod keys;
mod source;
mod token;
mod verified;

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use sha2::{Digest as _, Sha256};
use tokio_util::sync::{CancellationToken, DropGuard};

use self::keys::KeySet;
use self::source::{Shared, Source};
use self::token::Hint;
use self::verified::{TokenHash, Verified};
use super::{Refusal, Verification, VerifyTokens};
use crate::access::{Identity, IssuerConfig, JwksSource, Policy, PolicyWatch};
use crate::limits::{
    JWKS_FILE_INTERVAL, JWKS_FILE_PAUSE, JWKS_KEEP, JWKS_PAUSE, JWKS_REFRESH, TOKEN_REMEMBERED, TOKENS_REMEMBERED,
};
use crate::telemetry::Instruments;

pub use jwks_cache::KeyTiming;

/// How often keys are fetched that are not in a file.
impl Default for KeyTiming {
    fn default() -> Self {
        Self { refresh: JWKS_REFRESH, pause: JWKS_PAUSE, keep: JWKS_KEEP }
    }
}

/// How often keys in a file are read. Nobody else is asked, and what is there holds until something better is.
const FILE_TIMING: KeyTiming = KeyTiming { refresh: JWKS_FILE_INTERVAL, pause: JWKS_FILE_PAUSE, keep: Duration::MAX };

/// A key file that gives no keys.
#[derive(Debug, thiserror::Error)]
#[error("the keys of the issuer `{issuer}` cannot be used: {path}: {message}", path = path.display())]
pub struct KeyFileError {
    /// Whose keys.
    pub issuer: Arc<str>,
    /// The file.
    pub path: PathBuf,
    /// What is wrong with it.
    pub message: String,
}

/// Looks at the key files that a policy names, for the start: what is wrong later is logged, and the last keys hold.
///
/// # Errors
///
/// Where one cannot be read or has no key for its issuer.
pub fn check_key_files(policy: &Policy) -> Result<(), KeyFileError> {
    for issuer in &policy.issuers {
        let JwksSource::File(path) = &issuer.keys else { continue };
        let wrong = |message| KeyFileError { issuer: issuer.issuer.clone(), path: path.clone(), message };
        let text = fetch::read(path).map_err(|error| wrong(error.to_string()))?;
        KeySet::parse(&text, issuer).map_err(|error| wrong(error.to_string()))?;
    }
    Ok(())
}

/// Verifies tokens by the policy in force.
#[derive(Debug)]
pub struct Tokens {
    policy: PolicyWatch,
    timing: KeyTiming,
    stop: CancellationToken,
    issuers: Mutex<Issuers>,
    shared: Arc<Shared>,
    verified: Mutex<Verified>,
}

/// The issuers of a policy.
#[derive(Debug)]
struct Issuers {
    of: Arc<Policy>,
    sources: HashMap<Arc<str>, Running>,
}

/// A source, whose task ends when it is dropped.
#[derive(Debug)]
struct Running {
    source: Arc<Source>,
    _stop: DropGuard,
}

impl Tokens {
    /// Starts to fetch the keys of all issuers, and follows the policy until `stop`. An endpoint that does not answer is a
    /// warning.
    pub fn start(
        policy: PolicyWatch,
        timing: KeyTiming,
        instruments: Arc<Instruments>,
        stop: CancellationToken,
    ) -> Arc<Self> {
        let tokens = Arc::new(Self {
            issuers: Mutex::new(Issuers { of: Arc::default(), sources: HashMap::new() }),
            policy: policy.clone(),
            timing,
            stop: stop.clone(),
            shared: Arc::new(Shared { epoch: AtomicU64::new(0), instruments }),
            verified: Mutex::new(Verified::new(TOKENS_REMEMBERED)),
        });
        tokio::spawn(stop.run_until_cancelled_owned(Arc::clone(&tokens).follow(policy)));
        tokens
    }

    /// Fetches the keys of new issuers before somebody waits for them, and forgets those that are gone.
    async fn follow(self: Arc<Self>, mut policy: PolicyWatch) {
        loop {
            policy.mark_unchanged();
            self.with_issuers(|_| ());
            if policy.changed().await.is_err() {
                return;
            }
        }
    }

    /// The issuers of the policy in force.
    fn with_issuers<T>(&self, look: impl FnOnce(&Issuers) -> T) -> T {
        let mut issuers = self.issuers.lock().unwrap_or_else(PoisonError::into_inner);
        // Under the lock: whoever has it looks at no older policy than the one before.
        let policy = Arc::clone(&self.policy.borrow());
        if !Arc::ptr_eq(&issuers.of, &policy) {
            let mut before = std::mem::take(&mut issuers.sources);
            issuers.of = Arc::clone(&policy);
            issuers.sources = policy
                .issuers
                .iter()
                .map(|issuer| {
                    let running = match before.remove(&issuer.issuer) {
                        Some(same) if same.source.issuer == *issuer => same,
                        before => self.run(issuer, before.as_ref().map(|running| &*running.source)),
                    };
                    (Arc::clone(&issuer.issuer), running)
                })
                .collect();
            self.shared.epoch.fetch_add(1, Ordering::AcqRel);
        }
        look(&issuers)
    }

    fn run(&self, issuer: &Arc<IssuerConfig>, before: Option<&Source>) -> Running {
        let timing = match issuer.keys {
            JwksSource::Url(_) => self.timing,
            JwksSource::File(_) => FILE_TIMING,
        };
        let stop = self.stop.child_token();
        let source = Source::start(Arc::clone(issuer), timing, before, Arc::clone(&self.shared), stop.clone());
        Running { source, _stop: stop.drop_guard() }
    }

    async fn identity(&self, token: &str) -> Result<Identity, Refusal> {
        let hash: TokenHash = Sha256::digest(token.as_bytes()).into();
        // Of before the keys are looked at: what is verified by older ones is not taken for verified by newer ones.
        let epoch = self.with_issuers(|_| self.shared.epoch.load(Ordering::Acquire));
        let verified = self.verified().get(&hash, epoch, SystemTime::now());
        if let Some(identity) = verified {
            return Ok(identity);
        }
        let hint = Hint::read(token)?;
        let source =
            self.with_issuers(|issuers| issuers.sources.get(&*hint.issuer).map(|running| Arc::clone(&running.source)));
        let source = source.ok_or(Refusal::NotAccepted)?;
        if !source.issuer.algorithms.iter().any(|allowed| keys::named(*allowed) == hint.algorithm) {
            return Err(Refusal::NotAccepted);
        }
        let key = source.key(hint.key_id.as_deref(), hint.algorithm).await?;
        let now = SystemTime::now();
        let identity = token::verify(token, &key, &source.issuer, now)?;
        let until = identity.expires_at.map_or(now, |at| at.min(now + TOKEN_REMEMBERED));
        self.verified().put(hash, identity.clone(), epoch, until);
        Ok(identity)
    }

    fn verified(&self) -> std::sync::MutexGuard<'_, Verified> {
        self.verified.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl VerifyTokens for Tokens {
    fn verify<'a>(&'a self, token: &'a str) -> Verification<'a> {
        Box::pin(self.identity(token))
    }
}
