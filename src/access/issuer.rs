//! Whose tokens are taken, and how a token names a principal.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;

/// How a token may be signed. Only with a private key that the issuer keeps: who could check a shared secret could sign, too,
/// and `none` signs nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Deserialize)]
pub enum SignatureAlgorithm {
    /// RSASSA-PKCS1-v1_5 with SHA-256.
    RS256,
    /// RSASSA-PKCS1-v1_5 with SHA-384.
    RS384,
    /// RSASSA-PKCS1-v1_5 with SHA-512.
    RS512,
    /// RSASSA-PSS with SHA-256.
    PS256,
    /// RSASSA-PSS with SHA-384.
    PS384,
    /// RSASSA-PSS with SHA-512.
    PS512,
    /// ECDSA on P-256 with SHA-256.
    ES256,
    /// ECDSA on P-384 with SHA-384.
    ES384,
    /// Ed25519.
    EdDSA,
}

/// Where an issuer's public keys are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum JwksSource {
    /// Fetched from here: `https`, or `http` on loopback.
    Url(http::Uri),
    /// In this file. A relative path is one beside the access file, and is resolved already.
    File(PathBuf),
}

/// Whose tokens are taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IssuerConfig {
    /// What a token's `iss` must be, to the letter. There is one configuration for an issuer.
    pub issuer: Arc<str>,
    /// One of these must be in a token's `aud`. Never empty.
    pub audiences: Vec<String>,
    /// Its keys.
    pub keys: JwksSource,
    /// How its tokens may be signed. Never empty.
    pub algorithms: Vec<SignatureAlgorithm>,
    /// The claim that names the principal, such as `sub`.
    pub principal_claim: String,
    /// Principals by the claim's value; where it is absent, the value is the principal's name.
    pub principals: Option<HashMap<Arc<str>, Arc<str>>>,
}

impl IssuerConfig {
    /// Whom a token names whose claim has this value. Whether the policy knows that principal is another question.
    pub fn principal_of<'a>(&'a self, claim: &'a str) -> Option<&'a str> {
        match &self.principals {
            Some(principals) => principals.get(claim).map(AsRef::as_ref),
            None => Some(claim),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_claim_is_a_principals_name_unless_the_issuer_maps_it() {
        let mut issuer = IssuerConfig {
            issuer: "https://login".into(),
            audiences: vec!["forebay".to_owned()],
            keys: JwksSource::File("keys.json".into()),
            algorithms: vec![SignatureAlgorithm::ES256],
            principal_claim: "sub".to_owned(),
            principals: None,
        };
        assert_eq!(issuer.principal_of("ana"), Some("ana"));
        issuer.principals = Some(HashMap::from([("ana".into(), "fraud".into())]));
        assert_eq!(issuer.principal_of("ana"), Some("fraud"));
        assert_eq!(issuer.principal_of("fraud"), None);
    }
}
