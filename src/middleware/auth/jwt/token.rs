//! One token: what it says of itself, and what it is worth. Pure, but for the clock that the library asks.
//!
//! What a token says of itself ([`Hint`]) only chooses among the keys of configured issuers; nothing else of its header is
//! looked at. Keys that it brings or points to (`jwk`, `jku`, `x5c`, `x5u`) are as if they were not there; what it calls
//! critical is not understood here, and so refused.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use jsonwebtoken::errors::ErrorKind;
use jsonwebtoken::{Algorithm, dangerous, decode, decode_header};
use serde::Deserialize;
use serde_json::{Map, Value};

use super::keys::Key;
use crate::access::{Credential, Identity, IssuerConfig};
use crate::limits::{TOKEN_LEEWAY, TOKEN_MAX_BYTES};
use crate::middleware::auth::Refusal;

/// What a token says of itself. Nothing of it is checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Hint {
    pub(super) issuer: String,
    pub(super) key_id: Option<String>,
    pub(super) algorithm: Algorithm,
}

#[derive(Deserialize)]
struct IssuerClaim {
    iss: String,
}

impl Hint {
    /// Reads the header, and whose token it says it is.
    pub(super) fn read(token: &str) -> Result<Self, Refusal> {
        if token.len() > TOKEN_MAX_BYTES {
            return Err(Refusal::Malformed);
        }
        // Also where its algorithm is `none`, or one that nobody knows.
        let header = decode_header(token).map_err(|_| Refusal::Malformed)?;
        if header.crit.is_some() {
            return Err(Refusal::NotAccepted);
        }
        let IssuerClaim { iss } = dangerous::insecure_decode_claims(token).map_err(|_| Refusal::Malformed)?;
        Ok(Self { issuer: iss, key_id: header.kid, algorithm: header.alg })
    }
}

/// Whose token it is, if it was signed with the key, by the issuer, for us, and holds now.
pub(super) fn verify(token: &str, key: &Key, issuer: &IssuerConfig, now: SystemTime) -> Result<Identity, Refusal> {
    let token = decode::<Map<String, Value>>(token, &key.decoding, &key.validation);
    let claims = match token {
        Ok(token) => token.claims,
        // The signature is checked first: only who has a token that was good hears this.
        Err(error) if *error.kind() == ErrorKind::ExpiredSignature => return Err(Refusal::Expired),
        Err(_) => return Err(Refusal::NotAccepted),
    };
    // The library takes several issuers for one that is among them.
    let texts = ["iss", "sub"].map(|name| claims.get(name).and_then(Value::as_str));
    let claim = claims.get(&issuer.principal_claim).and_then(Value::as_str);
    let (Some(claim), [Some(_), Some(_)]) = (claim, texts) else { return Err(Refusal::NotAccepted) };
    let principal = issuer.principal_of(claim).ok_or(Refusal::NotAccepted)?;
    let expires_at = claims.get("exp").and_then(date).ok_or(Refusal::NotAccepted)?;
    if expires_at <= now {
        return Err(Refusal::Expired);
    }
    Ok(Identity {
        principal: principal.into(),
        credential: Credential::Token { issuer: issuer.issuer.clone(), claim: claim.into() },
        expires_at: Some(expires_at),
    })
}

/// The end of a token, with what clocks may be apart. `None` where that is no time.
fn date(value: &Value) -> Option<SystemTime> {
    let seconds = Duration::try_from_secs_f64(value.as_f64()?).ok()?;
    UNIX_EPOCH.checked_add(seconds)?.checked_add(TOKEN_LEEWAY)
}

#[cfg(test)]
mod tests {
    use base64::Engine as _;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;

    use super::*;

    fn unsigned(header: &str, claims: &str) -> String {
        format!("{}.{}.AAAA", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(claims))
    }

    #[test]
    fn a_token_says_whose_it_is_and_which_key_to_try() {
        let token = unsigned(r#"{"alg":"RS256","kid":"k","jku":"http://evil","typ":"at+jwt"}"#, r#"{"iss":"i","x":1}"#);
        let expected = Hint { issuer: "i".into(), key_id: Some("k".into()), algorithm: Algorithm::RS256 };
        assert_eq!(Hint::read(&token), Ok(expected));
    }

    #[test]
    fn fault_8_what_is_no_token_or_not_understood_is_refused_before_any_key_is_looked_for() {
        let long = unsigned(r#"{"alg":"RS256"}"#, &format!(r#"{{"iss":"i","x":"{}"}}"#, "x".repeat(TOKEN_MAX_BYTES)));
        let malformed = [
            String::new(),
            "a.b".to_owned(),
            "a.b.c.d".to_owned(),
            long,
            unsigned(r#"{"alg":"none"}"#, r#"{"iss":"i"}"#),
            unsigned(r#"{"alg":"None"}"#, r#"{"iss":"i"}"#),
            unsigned(r#"{"kid":"k"}"#, r#"{"iss":"i"}"#),
            unsigned(r#"{"alg":"RS256","kid":7}"#, r#"{"iss":"i"}"#),
            unsigned(r#"{"alg":"RS256"}"#, r#"{"iss":["i"]}"#),
            unsigned(r#"{"alg":"RS256"}"#, r#"{"iss":7}"#),
            unsigned(r#"{"alg":"RS256"}"#, r#"{}"#),
            unsigned(r#"{"alg":"RS256"}"#, r#"{"iss":"i","iss":"j"}"#),
        ];
        for token in malformed {
            assert_eq!(Hint::read(&token), Err(Refusal::Malformed), "{token}");
        }
        let critical = unsigned(r#"{"alg":"RS256","crit":["b64"],"b64":false}"#, r#"{"iss":"i"}"#);
        assert_eq!(Hint::read(&critical), Err(Refusal::NotAccepted));
    }

    #[test]
    fn a_date_beyond_time_is_none() {
        assert_eq!(date(&Value::from(10)), Some(UNIX_EPOCH + Duration::from_secs(40)));
        assert_eq!(date(&Value::from(10.5)), Some(UNIX_EPOCH + Duration::from_millis(40_500)));
        for value in [Value::from(1e300), Value::from(u64::MAX), Value::from(-1), Value::from("10"), Value::Null] {
            assert_eq!(date(&value), None, "{value}");
        }
    }
}
