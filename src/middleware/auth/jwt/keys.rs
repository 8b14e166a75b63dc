//! An issuer's public keys, and which of them a token may have been signed with. Pure.
//!
//! Invariant: what a key may be used for is decided here, from the set and the issuer's configuration, and never by a token.
//! Each key has the [`Validation`] for its tokens, which names only algorithms that fit the key; a secret is no key here, so
//! that a public key cannot be taken for one.

use std::sync::Arc;

use jsonwebtoken::jwk::{AlgorithmParameters, EllipticCurve, Jwk, KeyOperations, PublicKeyUse};
use jsonwebtoken::{Algorithm, DecodingKey, DecodingKeyKind, Validation};
use serde::Deserialize;

use crate::access::{IssuerConfig, SignatureAlgorithm};
use crate::limits::{RSA_KEY_MIN_BYTES, TOKEN_LEEWAY};

/// A key, and what tokens signed with it must be.
#[derive(Debug)]
pub(super) struct Key {
    id: Option<String>,
    pub(super) decoding: DecodingKey,
    pub(super) validation: Validation,
}

/// The keys of one issuer that can be used.
#[derive(Debug)]
pub(super) struct KeySet {
    keys: Vec<Arc<Key>>,
    /// Keys of the set that are for something else, or that nobody here understands.
    pub(super) ignored: usize,
}

/// Why there is no key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum NoKey {
    /// The set has no key of that id.
    UnknownId,
    /// It has keys, and none that is surely the one.
    Unfit,
}

/// Why something is no set of keys.
#[derive(Debug, thiserror::Error)]
pub(super) enum KeySetError {
    /// It is something else.
    #[error("it is no JSON Web Key Set: {0}; expected `{{\"keys\": [...]}}`")]
    Json(#[from] serde_json::Error),
    /// It has no key for us.
    #[error("none of its {0} keys is a public key for a signature that the issuer's `algorithms` allow")]
    NoneFits(usize),
}

#[derive(Deserialize)]
struct Written {
    keys: Vec<serde_json::Value>,
}

impl KeySet {
    /// Reads a JSON Web Key Set (RFC 7517). Keys that do not fit are left out, as the RFC has it.
    pub(super) fn parse(json: &[u8], issuer: &IssuerConfig) -> Result<Self, KeySetError> {
        let written: Written = serde_json::from_slice(json)?;
        let all = written.keys.len();
        let fits = |key| serde_json::from_value::<Jwk>(key).ok().and_then(|jwk| Key::of(&jwk, issuer));
        let keys: Vec<_> = written.keys.into_iter().filter_map(fits).map(Arc::new).collect();
        if keys.is_empty() {
            return Err(KeySetError::NoneFits(all));
        }
        Ok(Self { ignored: all - keys.len(), keys })
    }

    /// The key that a token with this header must have been signed with. A token that names none has one only where there is
    /// no choice.
    pub(super) fn find(&self, id: Option<&str>, algorithm: Algorithm) -> Result<Arc<Key>, NoKey> {
        let named = |key: &&Arc<Key>| id.is_none() || key.id.as_deref() == id;
        if id.is_some() && !self.keys.iter().any(|key| named(&key)) {
            return Err(NoKey::UnknownId);
        }
        let mut fitting = self.keys.iter().filter(named).filter(|key| key.validation.algorithms.contains(&algorithm));
        match (fitting.next(), fitting.next()) {
            (Some(key), None) => Ok(Arc::clone(key)),
            _ => Err(NoKey::Unfit),
        }
    }
}

impl Key {
    /// The key, where it is one for signatures that the issuer makes.
    fn of(jwk: &Jwk, issuer: &IssuerConfig) -> Option<Self> {
        let common = &jwk.common;
        let signs = common.public_key_use.as_ref().is_none_or(|used| *used == PublicKeyUse::Signature);
        let verifies = common.key_operations.as_ref().is_none_or(|may| may.contains(&KeyOperations::Verify));
        if !signs || !verifies {
            return None;
        }
        let mut algorithms: Vec<Algorithm> = issuer.algorithms.iter().map(|algorithm| named(*algorithm)).collect();
        algorithms.retain(|algorithm| fits(&jwk.algorithm, *algorithm));
        if let Some(only) = common.key_algorithm {
            algorithms.retain(|algorithm| Algorithm::try_from(only).is_ok_and(|only| only == *algorithm));
        }
        let decoding = DecodingKey::from_jwk(jwk).ok()?;
        let is_weak =
            matches!(decoding.kind(), DecodingKeyKind::RsaModulusExponent { n, .. } if n.len() < RSA_KEY_MIN_BYTES);
        let mut validation = Validation::new(*algorithms.first()?);
        if is_weak {
            return None;
        }
        validation.algorithms = algorithms;
        validation.leeway = TOKEN_LEEWAY.as_secs();
        validation.validate_nbf = true;
        validation.set_issuer(&[&*issuer.issuer]);
        validation.set_audience(&issuer.audiences);
        validation.set_required_spec_claims(&["exp", "iss", "aud", "sub"]);
        Some(Self { id: common.key_id.clone(), decoding, validation })
    }
}

/// Whether a key of this kind can make such signatures.
fn fits(key: &AlgorithmParameters, algorithm: Algorithm) -> bool {
    use Algorithm::{ES256, ES384, EdDSA, PS256, PS384, PS512, RS256, RS384, RS512};
    match key {
        AlgorithmParameters::RSA(_) => matches!(algorithm, RS256 | RS384 | RS512 | PS256 | PS384 | PS512),
        AlgorithmParameters::EllipticCurve(key) => match key.curve {
            EllipticCurve::P256 => algorithm == ES256,
            EllipticCurve::P384 => algorithm == ES384,
            _ => false,
        },
        AlgorithmParameters::OctetKeyPair(key) => key.curve == EllipticCurve::Ed25519 && algorithm == EdDSA,
        // Secrets, and what is not known.
        _ => false,
    }
}

/// The library's name of an algorithm.
pub(super) fn named(algorithm: SignatureAlgorithm) -> Algorithm {
    match algorithm {
        SignatureAlgorithm::RS256 => Algorithm::RS256,
        SignatureAlgorithm::RS384 => Algorithm::RS384,
        SignatureAlgorithm::RS512 => Algorithm::RS512,
        SignatureAlgorithm::PS256 => Algorithm::PS256,
        SignatureAlgorithm::PS384 => Algorithm::PS384,
        SignatureAlgorithm::PS512 => Algorithm::PS512,
        SignatureAlgorithm::ES256 => Algorithm::ES256,
        SignatureAlgorithm::ES384 => Algorithm::ES384,
        SignatureAlgorithm::EdDSA => Algorithm::EdDSA,
    }
}

#[cfg(test)]
pub(super) mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::access::JwksSource;

    /// A modulus of the right length; nothing is verified with it.
    pub(in super::super) fn rsa(id: &str) -> Value {
        json!({"kty": "RSA", "kid": id, "n": format!("{}A", "x".repeat(341)), "e": "AQAB"})
    }

    fn ec(id: &str, curve: &str) -> Value {
        json!({"kty": "EC", "kid": id, "crv": curve, "x": "AA", "y": "AA"})
    }

    pub(in super::super) fn issuer(algorithms: &[SignatureAlgorithm]) -> IssuerConfig {
        IssuerConfig {
            issuer: "https://login".into(),
            audiences: vec!["forebay".to_owned()],
            keys: JwksSource::File("keys.json".into()),
            algorithms: algorithms.to_vec(),
            principal_claim: "sub".to_owned(),
            principals: None,
        }
    }

    fn set(keys: Vec<Value>, algorithms: &[SignatureAlgorithm]) -> Result<KeySet, KeySetError> {
        KeySet::parse(json!({ "keys": keys }).to_string().as_bytes(), &issuer(algorithms))
    }

    fn with(mut key: Value, name: &str, value: Value) -> Value {
        key[name] = value;
        key
    }

    use SignatureAlgorithm::{ES256, PS256, RS256, RS512};

    #[test]
    fn fault_8_a_key_serves_only_algorithms_that_fit_it_and_the_issuer() {
        let keys = vec![rsa("r"), ec("e", "P-256"), with(rsa("r512"), "alg", json!("RS512")), ec("e3", "P-384")];
        let set = set(keys, &[RS256, RS512, ES256]).unwrap();
        assert_eq!(set.ignored, 1, "ES384 is not the issuer's");
        let find = |id, algorithm| set.find(Some(id), algorithm).map(|key| key.id.clone().unwrap());
        assert_eq!(find("r", Algorithm::RS256), Ok("r".to_owned()));
        assert_eq!(find("e", Algorithm::ES256), Ok("e".to_owned()));
        assert_eq!(find("r512", Algorithm::RS512), Ok("r512".to_owned()));
        for (id, algorithm) in [
            ("r", Algorithm::HS256),
            ("r", Algorithm::ES256),
            ("r", Algorithm::PS256),
            ("e", Algorithm::RS256),
            ("r512", Algorithm::RS256),
        ] {
            assert_eq!(find(id, algorithm), Err(NoKey::Unfit), "{id} {algorithm:?}");
        }
        assert_eq!(find("other", Algorithm::RS256), Err(NoKey::UnknownId));
        assert_eq!(find("e3", Algorithm::ES384), Err(NoKey::UnknownId));
    }

    #[test]
    fn fault_8_a_token_that_names_no_key_has_one_only_where_there_is_no_choice() {
        let two = set(vec![rsa("a"), rsa("b"), ec("e", "P-256")], &[RS256, ES256]).unwrap();
        assert_eq!(two.find(None, Algorithm::RS256).unwrap_err(), NoKey::Unfit);
        assert_eq!(two.find(None, Algorithm::ES256).unwrap().id.as_deref(), Some("e"));
        assert_eq!(two.find(None, Algorithm::PS256).unwrap_err(), NoKey::Unfit);
        let same_id = set(vec![rsa("a"), rsa("a")], &[RS256]).unwrap();
        assert_eq!(same_id.find(Some("a"), Algorithm::RS256).unwrap_err(), NoKey::Unfit);
    }

    #[test]
    fn keys_for_something_else_are_left_out_and_do_not_spoil_the_others() {
        let others = vec![
            json!({"kty": "oct", "kid": "s", "k": "c2VjcmV0"}),
            with(rsa("enc"), "use", json!("enc")),
            with(rsa("signs"), "key_ops", json!(["sign"])),
            with(rsa("oaep"), "alg", json!("RSA-OAEP")),
            with(rsa("short"), "n", json!(format!("{}A", "x".repeat(170)))),
            json!({"kty": "AKP", "kid": "new", "pub": "..."}),
            ec("k1", "secp256k1"),
            json!("no key at all"),
        ];
        let count = others.len();
        assert!(matches!(set(others.clone(), &[RS256, PS256, ES256]), Err(KeySetError::NoneFits(n)) if n == count));
        let mut keys = others;
        keys.push(with(with(rsa("good"), "use", json!("sig")), "key_ops", json!(["verify"])));
        let set = set(keys, &[RS256]).unwrap();
        assert_eq!((set.keys.len(), set.ignored), (1, count));
        set.find(Some("good"), Algorithm::RS256).unwrap();
    }

    #[test]
    fn what_is_no_set_says_so() {
        for text in ["", "<html>", "[]", "{\"keys\": 7}", "{}"] {
            let error = KeySet::parse(text.as_bytes(), &issuer(&[RS256])).unwrap_err();
            assert!(error.to_string().starts_with("it is no JSON Web Key Set"), "{error}");
        }
    }
}
