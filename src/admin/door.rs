//! Who may look at the status page: the side port's own authentication.
//!
//! With an access file an operator's API key is needed, as the password of HTTP Basic, so that a browser can ask for it, or as
//! a Bearer. Only API keys: whoever looks is a person or a script, and neither has a client certificate here. Without an
//! access file the page is open on loopback, and elsewhere only where the public port is open to anyone, too.
//!
//! Wrong keys are answered late, a few at a time; a right one never waits for them. What was shown is never logged.
//! Caller: the side port.

use std::time::{Duration, SystemTime};

use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use tokio::sync::Semaphore;

use crate::access::{PolicyWatch, ShownKey};
use crate::middleware::auth::{NoCredential, authorization};

/// How late a wrong key is answered (chosen: a person does not mind).
const WRONG_KEY_DELAY: Duration = Duration::from_millis(500);
/// So many wrong keys wait at once; one more is told at once to come again. No brake on guessing, which 256 bits need not: it
/// keeps a script with an old key from being busy.
const WRONG_KEYS_AT_ONCE: usize = 4;
static WRONG_KEYS: Semaphore = Semaphore::const_new(WRONG_KEYS_AT_ONCE);

/// Who is let in.
#[derive(Debug, Clone)]
pub enum Door {
    /// Who shows the API key of a principal that is an operator.
    Operators(PolicyWatch),
    /// Anyone, by the address or a name of this machine: a page of another site, whose name was made to lead here, is not
    /// let in with the browser that shows it.
    OpenOnLoopback,
    /// Anyone: that was decided for the public port.
    OpenToAnyone,
    /// Nobody: there is no access file, and the address is not loopback.
    Closed,
}

/// Why somebody is not let in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Refusal {
    /// Nothing was shown.
    Missing,
    /// What was shown is no key, not one of ours, or its time is over.
    Wrong,
    /// Too many wrong keys come at once.
    TooMany,
    /// The key is good, and its principal is no operator.
    NoOperator { principal: String },
    /// The page is asked for by a name that is not this machine's.
    OtherHost,
    /// See [`Door::Closed`].
    Closed,
}

impl Door {
    /// Judges what a request shows, at once.
    fn judge(&self, headers: &HeaderMap, now: SystemTime) -> Result<(), Refusal> {
        match self {
            Self::OpenToAnyone => Ok(()),
            Self::OpenOnLoopback if is_this_machine(headers) => Ok(()),
            Self::OpenOnLoopback => Err(Refusal::OtherHost),
            Self::Closed => Err(Refusal::Closed),
            Self::Operators(policy) => {
                let text = shown(headers)?;
                let policy = policy.borrow();
                let key = ShownKey::parse(&text).ok().and_then(|shown| policy.api_key(shown)).ok_or(Refusal::Wrong)?;
                if key.is_over(now) {
                    return Err(Refusal::Wrong);
                }
                match policy.principal(&key.principal).is_some_and(|principal| principal.operator) {
                    true => Ok(()),
                    false => Err(Refusal::NoOperator { principal: key.principal.to_string() }),
                }
            }
        }
    }

    /// Lets a request in, or says why not. A wrong key hears of it late.
    pub(super) async fn enter(&self, headers: &HeaderMap) -> Result<(), Refusal> {
        let judged = self.judge(headers, SystemTime::now());
        if judged == Err(Refusal::Wrong) {
            let Ok(_place) = WRONG_KEYS.try_acquire() else { return Err(Refusal::TooMany) };
            tokio::time::sleep(WRONG_KEY_DELAY).await;
        }
        judged
    }
}

/// The password of Basic, or the text of Bearer.
fn shown(headers: &HeaderMap) -> Result<String, Refusal> {
    let shown = authorization(headers).map_err(|NoCredential| Refusal::Wrong)?;
    let (scheme, credential) = shown.ok_or(Refusal::Missing)?;
    if scheme.eq_ignore_ascii_case("bearer") {
        return Ok(credential.to_owned());
    }
    if !scheme.eq_ignore_ascii_case("basic") {
        return Err(Refusal::Wrong);
    }
    let decoded = STANDARD.decode(credential).ok().and_then(|bytes| String::from_utf8(bytes).ok());
    let decoded = decoded.ok_or(Refusal::Wrong)?;
    // Any user will do: the key says whose it is.
    decoded.split_once(':').map(|(_user, password)| password.to_owned()).ok_or(Refusal::Wrong)
}

/// Whether the host that was asked for is an address, or `localhost`.
fn is_this_machine(headers: &HeaderMap) -> bool {
    let host = headers.get(header::HOST).and_then(|host| host.to_str().ok());
    // HTTP/1.0 has none; browsers always say one.
    let Some(host) = host else { return true };
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host,
    };
    let address = name.trim_start_matches('[').trim_end_matches(']');
    name.eq_ignore_ascii_case("localhost") || address.parse::<std::net::IpAddr>().is_ok()
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        const BASIC: &str = r#"Basic realm="Forebay status", charset="UTF-8""#;
        let challenge = |bearer: &'static str| {
            let value = |text| (header::WWW_AUTHENTICATE, HeaderValue::from_static(text));
            // Browsers take the first one that they know.
            axum::response::AppendHeaders([value(BASIC), value(bearer)])
        };
        let retry: (HeaderName, HeaderValue) = (header::RETRY_AFTER, HeaderValue::from_static("1"));
        match self {
            Self::Missing => {
                let message = "the API key of an operator is needed: as the password of HTTP Basic, with any user, or as a Bearer\n";
                (StatusCode::UNAUTHORIZED, challenge(r#"Bearer realm="Forebay status""#), message).into_response()
            }
            Self::Wrong => {
                let message = "this is no API key that is taken here\n";
                let bearer = r#"Bearer realm="Forebay status", error="invalid_token""#;
                (StatusCode::UNAUTHORIZED, challenge(bearer), message).into_response()
            }
            Self::TooMany => (StatusCode::TOO_MANY_REQUESTS, [retry], "too many wrong keys at once\n").into_response(),
            Self::NoOperator { principal } => {
                let message =
                    format!("the key is good, but its principal `{principal}` is no operator (`operator: true`)\n");
                (StatusCode::FORBIDDEN, message).into_response()
            }
            Self::OtherHost => {
                let message = "ask for this page by an address of this machine, or by `localhost`\n";
                (StatusCode::FORBIDDEN, message).into_response()
            }
            Self::Closed => {
                let message =
                    "the status page needs an access file (`access`) here, because this address is not loopback\n";
                (StatusCode::FORBIDDEN, message).into_response()
            }
        }
    }
}

#[cfg(test)]
mod tests;
