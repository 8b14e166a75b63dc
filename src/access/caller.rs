//! The caller of a call: a credential that was shown, and what it is worth now.

use std::sync::{Arc, LazyLock};
use std::time::{Duration, SystemTime};

use super::file::ANYONE;
use super::grants::Permission;
use super::policy::{Limits, Policy, PolicyWatch};

/// By what a caller is known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Credential {
    /// An API key: it must be in the policy, with this secret.
    ApiKey {
        /// Its id.
        id: Arc<str>,
        /// Of the whole key.
        sha256: [u8; 32],
    },
    /// A token: its issuer must be in the policy, and give the claim's value to the same principal.
    Token {
        /// Its issuer.
        issuer: Arc<str>,
        /// The value of the issuer's [`principal_claim`](super::IssuerConfig::principal_claim).
        claim: Arc<str>,
    },
    /// A client certificate: one of its names must be in the policy.
    Certificate {
        /// Its subject alternative names, as in [`Policy::certificates`].
        names: Arc<[Arc<str>]>,
    },
}

/// Who shows a credential.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// The principal's name.
    pub principal: Arc<str>,
    /// How it is known.
    pub credential: Credential,
    /// The credential is worth nothing from then on.
    pub expires_at: Option<SystemTime>,
}

/// How a caller loses what it had.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Loss {
    /// The credential's time is over.
    Expired,
    /// The credential is not taken any more, or belongs to somebody else now.
    Revoked,
    /// The credential is good, but the principal may not do this any more.
    GrantRemoved,
}

/// [`ANYONE`], made once: a batch asks for its caller's name several times.
static NOBODY: LazyLock<Arc<str>> = LazyLock::new(|| ANYONE.into());

/// Who makes a call. A part of the request's extensions; clones are cheap.
#[derive(Debug, Clone)]
pub struct Caller(Option<Arc<Known>>);

#[derive(Debug)]
struct Known {
    identity: Identity,
    policy: PolicyWatch,
}

impl Caller {
    /// Anyone, where nobody has to say who they are: may do everything.
    pub fn anyone() -> Self {
        Self(None)
    }

    /// Somebody who has shown a credential that is good by the policy in force.
    pub fn known(identity: Identity, policy: PolicyWatch) -> Self {
        Self(Some(Arc::new(Known { identity, policy })))
    }

    /// Who a request comes from. The authentication layer has put that there; without the layer it is anyone.
    pub fn of(extensions: &http::Extensions) -> Self {
        extensions.get().cloned().unwrap_or_else(Self::anyone)
    }

    /// The principal's name.
    pub fn name(&self) -> Arc<str> {
        match &self.0 {
            Some(known) => Arc::clone(&known.identity.principal),
            None => Arc::clone(&NOBODY),
        }
    }

    /// Whether the caller may do this with this table, now.
    pub fn may(&self, permission: Permission, table: &str) -> bool {
        self.refusal(permission, table).is_none()
    }

    /// Why the caller may not do this with this table now, if it may not.
    pub fn refusal(&self, permission: Permission, table: &str) -> Option<Loss> {
        let known = self.0.as_ref()?;
        known.loss(&known.policy.borrow(), SystemTime::now(), permission, table)
    }

    /// Whether the caller may know that this table exists.
    pub fn may_see(&self, table: &str) -> bool {
        match &self.0 {
            Some(known) => known
                .policy
                .borrow()
                .principal(&known.identity.principal)
                .is_some_and(|principal| principal.grants.show(table)),
            None => true,
        }
    }

    /// How fast the caller may go; `None` where nobody has to say who they are.
    pub fn limits(&self) -> Option<Limits> {
        let known = self.0.as_ref()?;
        Some(known.policy.borrow().principal(&known.identity.principal).map(|p| p.limits).unwrap_or_default())
    }

    /// The policy in force, where there is one.
    pub fn policy(&self) -> Option<Arc<Policy>> {
        self.0.as_ref().map(|known| Arc::clone(&known.policy.borrow()))
    }

    /// The policy in force and the next ones, where there are any.
    pub fn policy_changes(&self) -> Option<PolicyWatch> {
        self.0.as_ref().map(|known| known.policy.clone())
    }

    /// When the credential ends by itself, as far as is known now: an API key's time may be changed.
    pub fn expires_at(&self) -> Option<SystemTime> {
        self.0.as_ref().and_then(|known| known.expires_at(&known.policy.borrow()))
    }

    /// Resolves when the caller may not do this any more, and says why. Never does where nobody has to say who they are.
    pub async fn lost(&self, permission: Permission, table: &str) -> Loss {
        match &self.0 {
            Some(known) => known.lost(SystemTime::now, permission, table).await,
            None => std::future::pending().await,
        }
    }
}

impl Known {
    /// When the credential ends: a key's time is the policy's to say, another's is part of it.
    fn expires_at(&self, policy: &Policy) -> Option<SystemTime> {
        match &self.identity.credential {
            Credential::ApiKey { id, .. } => policy.api_keys.get(id).and_then(|key| key.expires_at),
            Credential::Token { .. } | Credential::Certificate { .. } => self.identity.expires_at,
        }
    }

    async fn lost(&self, clock: impl Fn() -> SystemTime, permission: Permission, table: &str) -> Loss {
        let mut policy = self.policy.clone();
        loop {
            let now = clock();
            let left = {
                let policy = policy.borrow_and_update();
                if let Some(loss) = self.loss(&policy, now, permission, table) {
                    return loss;
                }
                self.expires_at(&policy).map(|at| at.duration_since(now).unwrap_or_default())
            };
            // The wall clock may be set: it is asked again at the latest after a while.
            const LOOK_AGAIN: Duration = Duration::from_secs(60);
            let wait = left.unwrap_or(LOOK_AGAIN).min(LOOK_AGAIN);
            tokio::select! {
                changed = policy.changed() => if changed.is_err() {
                    // Nobody changes the policy any more, at the end of the process: only the clock counts.
                    tokio::time::sleep(wait).await;
                },
                () = tokio::time::sleep(wait) => {}
            }
        }
    }

    /// Why the caller may not do this, if so.
    fn loss(&self, policy: &Policy, now: SystemTime, permission: Permission, table: &str) -> Option<Loss> {
        let Identity { principal, credential, .. } = &self.identity;
        let is_good = match credential {
            Credential::ApiKey { id, sha256 } => {
                policy.api_keys.get(id).is_some_and(|key| key.sha256 == *sha256 && key.principal == *principal)
            }
            Credential::Token { issuer, claim } => {
                policy.issuer(issuer).is_some_and(|issuer| issuer.principal_of(claim) == Some(&**principal))
            }
            Credential::Certificate { names } => policy.certificate_principal(names) == Some(principal),
        };
        // A token's principal may be gone while its issuer is still trusted.
        let Some(principal) = policy.principal(principal).filter(|_| is_good) else { return Some(Loss::Revoked) };
        if self.expires_at(policy).is_some_and(|at| at <= now) {
            return Some(Loss::Expired);
        }
        (!principal.grants.allow(permission, table)).then_some(Loss::GrantRemoved)
    }
}

#[cfg(test)]
mod tests;
