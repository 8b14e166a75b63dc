//! Who makes a call: the layer that turns a credential into a [`Caller`], or refuses the call.
//!
//! A credential is an API key or a token in `authorization: Bearer ...`; where there is none, the client certificate's
//! identity. One that is shown and wrong is refused, even where another would do: a client that sends an old key should hear
//! of it. The answer is coarse ([`Refusal`]): who is not known learns which form is expected, and nothing about what is there.
//!
//! Caller: `server`.

pub mod jwt;
mod layer;
mod reload;

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use http::header::AUTHORIZATION;
use http::{Extensions, HeaderMap};

use crate::access::{Caller, Credential, Identity, KEY_PREFIX, Peer, PeerCertificate, PolicyWatch, ShownKey};

pub use layer::{Auth, AuthLayer};
pub use reload::WatchedFile;

/// Why a call gets no caller. It is all that a client hears, and the label of `calls_refused`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// There is no credential.
    Missing,
    /// There is something that is no credential.
    Malformed,
    /// The credential is not taken: unknown, wrong or revoked.
    NotAccepted,
    /// The credential was good once.
    Expired,
    /// Whether the credential is good cannot be told now: its issuer's keys are not there.
    Unverifiable {
        /// When it may be.
        retry_after: Duration,
    },
}

impl Refusal {
    /// As a label of `calls_refused`.
    pub fn label(self) -> &'static str {
        match self {
            Self::Missing => "credential_missing",
            Self::Malformed => "credential_malformed",
            Self::NotAccepted => "credential_not_accepted",
            Self::Expired => "credential_expired",
            Self::Unverifiable { .. } => "credential_unverifiable",
        }
    }
}

/// The future of [`VerifyTokens::verify`].
pub type Verification<'a> = Pin<Box<dyn Future<Output = Result<Identity, Refusal>> + Send + 'a>>;

/// Checks tokens: that they are an issuer's, whole, for us, and of now.
pub trait VerifyTokens: fmt::Debug + Send + Sync {
    /// Whose token this is, by the policy in force. Whether there is such a principal is asked afterwards.
    fn verify<'a>(&'a self, token: &'a str) -> Verification<'a>;
}

/// Tells who shows a credential, by the policy in force.
#[derive(Debug, Clone)]
pub struct Authenticator {
    policy: PolicyWatch,
    tokens: Option<Arc<dyn VerifyTokens>>,
}

/// A credential, as far as it can be judged at once.
#[derive(Debug)]
enum Shown<'a> {
    /// It is good.
    Good(Identity),
    /// It is a token, whose keys may have to be fetched.
    Token(&'a str),
}

impl Authenticator {
    /// By this policy. Without somebody to verify tokens none is taken.
    pub fn new(policy: PolicyWatch, tokens: Option<Arc<dyn VerifyTokens>>) -> Self {
        Self { policy, tokens }
    }

    /// What a request shows.
    fn shown<'a>(
        &self,
        headers: &'a HeaderMap,
        extensions: &Extensions,
        now: SystemTime,
    ) -> Result<Shown<'a>, Refusal> {
        if let Some(text) = bearer(headers)? {
            return match text.starts_with(KEY_PREFIX) {
                true => self.key(text, now).map(Shown::Good),
                false => Ok(Shown::Token(text)),
            };
        }
        let certificate = extensions.get::<Peer>().and_then(|peer| peer.certificate.as_ref());
        self.certificate(certificate.ok_or(Refusal::Missing)?, now).map(Shown::Good)
    }

    fn key(&self, text: &str, now: SystemTime) -> Result<Identity, Refusal> {
        let shown = ShownKey::parse(text).map_err(|_| Refusal::Malformed)?;
        let key = self.policy.borrow().api_key(shown).cloned().ok_or(Refusal::NotAccepted)?;
        // Only who has the secret hears that it has expired.
        if key.is_over(now) {
            return Err(Refusal::Expired);
        }
        Ok(Identity {
            principal: Arc::clone(&key.principal),
            credential: Credential::ApiKey { id: Arc::clone(&key.id), sha256: key.sha256 },
            expires_at: key.expires_at,
        })
    }

    fn certificate(&self, certificate: &PeerCertificate, now: SystemTime) -> Result<Identity, Refusal> {
        let PeerCertificate { names, expires_at } = certificate;
        let principal = self.policy.borrow().certificate_principal(names).cloned().ok_or(Refusal::NotAccepted)?;
        // It was good when the connection was made; connections last for days.
        if *expires_at <= now {
            return Err(Refusal::Expired);
        }
        let credential = Credential::Certificate { names: Arc::clone(names) };
        Ok(Identity { principal, credential, expires_at: Some(*expires_at) })
    }

    async fn token(&self, token: &str) -> Result<Identity, Refusal> {
        self.tokens.as_ref().ok_or(Refusal::NotAccepted)?.verify(token).await
    }

    /// The caller with this identity. A token may name a principal that is not there: it may do nothing, and what it calls
    /// itself shall not become a label of metrics.
    fn caller(&self, identity: Identity) -> Result<Caller, Refusal> {
        match self.policy.borrow().principal(&identity.principal) {
            Some(_) => Ok(Caller::known(identity, self.policy.clone())),
            None => Err(Refusal::NotAccepted),
        }
    }
}

/// The id of the key that is shown, if it has the form of one: whoever shows it may have made it up.
fn key_id(headers: &HeaderMap) -> Option<&str> {
    let text = bearer(headers).ok().flatten()?;
    ShownKey::parse(text).ok().map(ShownKey::id)
}

/// An `authorization` that is not a scheme and a credential, or more than one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NoCredential;

/// The scheme and the credential of a request, if it has an `authorization` at all. The side port reads it, too.
///
/// # Errors
///
/// Where there is one of another form, or several.
pub fn authorization(headers: &HeaderMap) -> Result<Option<(&str, &str)>, NoCredential> {
    let mut values = headers.get_all(AUTHORIZATION).iter();
    let Some(value) = values.next() else { return Ok(None) };
    let text = value.to_str().ok().filter(|_| values.next().is_none()).ok_or(NoCredential)?;
    let (scheme, credential) = text.trim().split_once(' ').ok_or(NoCredential)?;
    Ok(Some((scheme, credential.trim_start())))
}

/// The text after `Bearer`, if there is an `authorization` at all.
fn bearer(headers: &HeaderMap) -> Result<Option<&str>, Refusal> {
    let shown = authorization(headers).map_err(|NoCredential| Refusal::Malformed)?;
    let Some((scheme, credential)) = shown else { return Ok(None) };
    let is_one = !credential.is_empty() && credential.bytes().all(|byte| byte.is_ascii_graphic());
    match scheme.eq_ignore_ascii_case("bearer") && is_one {
        true => Ok(Some(credential)),
        false => Err(Refusal::Malformed),
    }
}

#[cfg(test)]
mod tests;
