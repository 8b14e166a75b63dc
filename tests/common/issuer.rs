//! Somebody who issues tokens: keys that are made for the tests, key sets of them, and tokens of every kind, good and bad.

#![allow(unreachable_pub, missing_docs, reason = "a module of test binaries")]
#![allow(dead_code, reason = "each test binary uses its own part")]

use std::sync::OnceLock;
use std::time::{SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::jwk::Jwk;
use jsonwebtoken::{Algorithm, EncodingKey};
use serde_json::{Value, json};

pub const ISSUER: &str = "https://login.example.com/";
pub const AUDIENCE: &str = "forebay";

/// A key that tokens are signed with.
#[derive(Clone)]
pub struct SigningKey {
    pub id: String,
    pub algorithm: Algorithm,
    encoding: EncodingKey,
}

impl SigningKey {
    /// An RSA key. It takes a while to make one, so all are the same but for the name.
    pub fn rsa(id: &str) -> Self {
        static DER: OnceLock<Vec<u8>> = OnceLock::new();
        let der = DER.get_or_init(|| {
            let pkcs8 = rcgen::KeyPair::generate_for(&rcgen::PKCS_RSA_SHA256).unwrap().serialize_der();
            // The key itself is the last of what PKCS#8 wraps around it.
            const WRAPPING_BYTES: usize = 26;
            pkcs8[WRAPPING_BYTES..].to_vec()
        });
        Self { id: id.to_owned(), algorithm: Algorithm::RS256, encoding: EncodingKey::from_rsa_der(der) }
    }

    /// A key on P-256, each another.
    pub fn ec(id: &str) -> Self {
        let der = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).unwrap().serialize_der();
        Self { id: id.to_owned(), algorithm: Algorithm::ES256, encoding: EncodingKey::from_ec_der(&der) }
    }

    /// The public key, as key sets have it.
    pub fn jwk(&self) -> Value {
        let mut jwk = serde_json::to_value(Jwk::from_encoding_key(&self.encoding, self.algorithm).unwrap()).unwrap();
        jwk["kid"] = json!(self.id);
        jwk["use"] = json!("sig");
        // What a key is for follows from its kind, too.
        jwk.as_object_mut().unwrap().remove("alg");
        jwk
    }

    /// A token with these claims.
    pub fn token(&self, claims: &Value) -> String {
        self.token_with(|_| {}, claims)
    }

    /// A token whose header is another than usual. It is signed as the key signs, whatever the header says.
    pub fn token_with(&self, header: impl FnOnce(&mut Value), claims: &Value) -> String {
        self.signed_with(self.algorithm, header, claims)
    }

    pub fn signed_with(&self, algorithm: Algorithm, header: impl FnOnce(&mut Value), claims: &Value) -> String {
        let mut head = json!({ "alg": format!("{algorithm:?}"), "typ": "JWT", "kid": self.id });
        header(&mut head);
        let message = unsigned(&head, claims);
        self.signed_by(algorithm, &message)
    }

    /// A message that may be no token, with its signature.
    pub fn signed(&self, message: &str) -> String {
        self.signed_by(self.algorithm, message)
    }

    fn signed_by(&self, algorithm: Algorithm, message: &str) -> String {
        let signature = jsonwebtoken::crypto::sign(message.as_bytes(), &self.encoding, algorithm).unwrap();
        format!("{message}.{signature}")
    }
}

/// A set of these keys.
pub fn key_set(keys: &[&SigningKey]) -> String {
    json!({ "keys": keys.iter().map(|key| key.jwk()).collect::<Vec<_>>() }).to_string()
}

/// Header and claims, without a signature.
pub fn unsigned(header: &Value, claims: &Value) -> String {
    format!("{}.{}", base64(header.to_string().as_bytes()), base64(claims.to_string().as_bytes()))
}

pub fn base64(bytes: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

/// Seconds since 1970, so much later than now.
pub fn in_seconds(seconds: i64) -> i64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    i64::try_from(now.as_secs()).unwrap() + seconds
}

/// Good claims of somebody, for ten minutes.
pub fn claims(subject: &str) -> Value {
    json!({ "iss": ISSUER, "aud": AUDIENCE, "sub": subject, "iat": in_seconds(0), "exp": in_seconds(600) })
}

/// The claims with one of them changed; `Null` takes it out.
pub fn with(mut claims: Value, name: &str, value: Value) -> Value {
    let object = claims.as_object_mut().unwrap();
    match value {
        Value::Null => drop(object.remove(name)),
        value => drop(object.insert(name.to_owned(), value)),
    }
    claims
}
