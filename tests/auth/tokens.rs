//! Fault 8: tokens that are not to be taken, for a stream and for a unary call.

use std::future::Future;

use jsonwebtoken::Algorithm;
use serde_json::{Value, json};
use tonic::{Code, Status};

use crate::bed::{Bed, api_key, issuer_line, key_line, said};
use crate::gateway::open;
use crate::issuer::{ISSUER, SigningKey, base64, claims, in_seconds, key_set, unsigned, with};

/// An issuer with two keys of one kind: a token has to say which.
const OTHER_ISSUER: &str = "https://other.example.com/";

struct Keys {
    rsa: SigningKey,
    ec: SigningKey,
    other: SigningKey,
}

async fn bed() -> (Bed, Keys) {
    let keys = Keys { rsa: SigningKey::rsa("r1"), ec: SigningKey::ec("e1"), other: SigningKey::ec("o1") };
    let access = format!(
        "principals:\n  ana: {{read: [\"*\"], write: [\"*\"], admin: [\"*\"]}}\n  root: {{read: [\"*\"]}}\n\
         api_keys:\n{}issuers:\n{}  - {{issuer: \"{OTHER_ISSUER}\", audiences: [forebay], jwks_file: other.json, \
         algorithms: [ES256], principal_claim: team, principals: {{fraud: ana}}}}\n",
        key_line("all", "ana"),
        issuer_line("jwks_file: keys.json"),
    );
    let second = SigningKey::ec("o2");
    let files = [("keys.json", key_set(&[&keys.rsa, &keys.ec])), ("other.json", key_set(&[&keys.other, &second]))];
    let bed = Bed::start(&access, &files).await;
    bed.caller(&api_key("all")).create("rows").await;
    (bed, keys)
}

/// A stream and a unary call with the token.
async fn both(bed: &Bed, headers: &[&str]) -> [Result<(), Status>; 2] {
    let caller = bed.caller_with(headers);
    let stream: &dyn Fn() -> _ = &|| async { caller.open(open("rows")).await.map(drop) };
    [run(stream()).await, run(async { caller.get_row("rows").await.map(drop) }).await]
}

async fn run(call: impl Future<Output = Result<(), Status>>) -> Result<(), Status> {
    call.await
}

fn claim(name: &str, value: Value) -> Value {
    with(claims("ana"), name, value)
}

#[tokio::test(flavor = "multi_thread")]
async fn good_tokens_are_taken() {
    let (bed, Keys { rsa, ec, other }) = bed().await;
    let team = |team: &str| with(with(claims("x"), "iss", json!(OTHER_ISSUER)), "team", json!(team));
    let ignored = |header: &mut Value| {
        let evil = SigningKey::ec("evil");
        header["jku"] = json!("https://evil.example.com/keys");
        header["x5u"] = json!("https://evil.example.com/chain");
        header["jwk"] = evil.jwk();
        header["x5c"] = json!(["AAAA"]);
        header["typ"] = json!("at+jwt");
    };
    let good = [
        ("RS256", rsa.token(&claims("ana"))),
        ("ES256", ec.token(&claims("ana"))),
        ("one audience of several", ec.token(&claim("aud", json!(["x", "forebay"])))),
        (
            "no kid, and only one key of that kind",
            rsa.token_with(|h| drop(h.as_object_mut().unwrap().remove("kid")), &claims("ana")),
        ),
        ("keys that the token brings are as if they were not there", ec.token_with(ignored, &claims("ana"))),
        ("not before a time that is past", ec.token(&claim("nbf", json!(in_seconds(-5))))),
        ("clocks that are apart", ec.token(&with(claim("exp", json!(in_seconds(-10))), "nbf", json!(in_seconds(10))))),
        ("an end that is no whole second", ec.token(&claim("exp", json!(in_seconds(60) as f64 + 0.5)))),
        ("a claim that is mapped", other.token(&team("fraud"))),
    ];
    for (what, token) in good {
        // Twice: the second time it is remembered.
        for _ in 0..2 {
            for answer in both(&bed, &[&format!("Bearer {token}")]).await {
                answer.unwrap_or_else(|status| panic!("{what}: {status}"));
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn fault_8_a_token_that_is_not_wholly_good_is_refused_with_few_words() {
    let (bed, Keys { rsa, ec, other }) = bed().await;
    let good = claims("ana");
    let header = |key: &SigningKey, name: &'static str, value: Value| {
        key.token_with(|header| header[name] = value, &claims("ana"))
    };
    let hmac = |secret: &[u8], kid: &str| {
        let key = jsonwebtoken::EncodingKey::from_secret(secret);
        let message = unsigned(&json!({"alg": "HS256", "kid": kid}), &claims("ana"));
        format!("{message}.{}", jsonwebtoken::crypto::sign(message.as_bytes(), &key, Algorithm::HS256).unwrap())
    };
    let tampered = |token: String, at: usize, part: String| {
        let mut parts: Vec<_> = token.split('.').map(str::to_owned).collect();
        parts[at] = part;
        parts.join(".")
    };
    // Same name, another key.
    let thief = SigningKey::ec("e1");
    let modulus = rsa.jwk()["n"].as_str().unwrap().to_owned();
    let team = |team: Value| with(with(claims("ana"), "iss", json!(OTHER_ISSUER)), "team", team);
    let no_kid = |header: &mut Value| drop(header.as_object_mut().unwrap().remove("kid"));

    let none = unsigned(&json!({"alg": "none", "kid": "r1"}), &good);
    let bad: Vec<(&str, String)> = vec![
        // The algorithm.
        ("alg none", format!("{none}.")),
        ("alg none with a signature", tampered(rsa.token(&good), 0, base64(br#"{"alg":"none","kid":"r1"}"#))),
        ("alg None", format!("{}.", unsigned(&json!({"alg": "None", "kid": "r1"}), &good))),
        ("no signature", format!("{}.", unsigned(&json!({"alg": "RS256", "kid": "r1"}), &good))),
        ("HMAC by the public modulus", hmac(modulus.as_bytes(), "r1")),
        ("HMAC by the public key", hmac(rsa.jwk().to_string().as_bytes(), "r1")),
        ("HMAC by nothing", hmac(b"", "r1")),
        ("an algorithm that the issuer does not use", rsa.signed_with(Algorithm::RS512, |_| {}, &good)),
        ("PSS with a key for PKCS1, which is one key", rsa.signed_with(Algorithm::PS256, |_| {}, &good)),
        ("an algorithm of another key", header(&rsa, "alg", json!("ES256"))),
        ("another key's name", header(&rsa, "kid", json!("e1"))),
        ("a signature of zeros", tampered(ec.token(&good), 2, base64(&[0; 64]))),
        // The key.
        ("an unknown kid", header(&ec, "kid", json!("nobody"))),
        ("a kid that is no text", header(&ec, "kid", json!(7))),
        ("a key that the token brings", thief.token_with(|header| header["jwk"] = thief.jwk(), &good)),
        ("a key of the same name", thief.token(&good)),
        ("no kid, and two keys", other.token_with(no_kid, &team(json!("fraud")))),
        ("something critical", header(&ec, "crit", json!(["exp"]))),
        ("nothing critical, said so", header(&ec, "crit", json!([]))),
        // The claims.
        ("another audience", ec.token(&claim("aud", json!("else")))),
        ("several other audiences", ec.token(&claim("aud", json!(["else", "forebay2"])))),
        ("no audience", ec.token(&claim("aud", Value::Null))),
        ("no audience in the list", ec.token(&claim("aud", json!([])))),
        ("an audience that is a number", ec.token(&claim("aud", json!(7)))),
        ("an issuer that is not ours", ec.token(&claim("iss", json!("https://evil.example.com/")))),
        ("an issuer's prefix", ec.token(&claim("iss", json!(ISSUER.trim_end_matches('/'))))),
        ("several issuers", ec.token(&claim("iss", json!([ISSUER])))),
        ("an issuer that is a number", ec.token(&claim("iss", json!(7)))),
        ("no issuer", ec.token(&claim("iss", Value::Null))),
        ("another issuer's key", other.token(&good)),
        ("expired", ec.token(&claim("exp", json!(in_seconds(-60))))),
        ("expired in 1970", ec.token(&claim("exp", json!(0)))),
        ("no end", ec.token(&claim("exp", Value::Null))),
        ("an end that is a text", ec.token(&claim("exp", json!(in_seconds(60).to_string())))),
        ("an end beyond time", ec.token(&claim("exp", json!(u64::MAX)))),
        ("not yet valid", ec.token(&claim("nbf", json!(in_seconds(60))))),
        ("valid from a text on", ec.token(&claim("nbf", json!("now")))),
        ("no subject", ec.token(&claim("sub", Value::Null))),
        ("a subject that is a number", ec.token(&claim("sub", json!(7)))),
        ("a subject that is nobody", ec.token(&claim("sub", json!("bob")))),
        ("a principal's name where claims are mapped", other.token(&team(json!("root")))),
        ("no claim to map", other.token(&team(Value::Null))),
        ("a claim that is a list", other.token(&team(json!(["fraud"])))),
        // The form.
        (
            "other claims under the signature",
            tampered(ec.token(&claim("sub", json!("root"))), 1, base64(good.to_string().as_bytes())),
        ),
        ("claims that are no JSON", tampered(ec.token(&good), 1, base64(b"{"))),
        ("four parts", format!("{}.AAAA", ec.token(&good))),
        ("two parts", none),
        ("a word", "secret".to_owned()),
        ("too long", ec.token(&claim("x", json!("x".repeat(8 * 1024))))),
    ];
    let words = [
        "the credential has no form that is known; expected `authorization: Bearer` with an API key or a token",
        "the credential is not accepted",
        "the credential has expired",
    ];
    let mut refused: Vec<(&str, Vec<String>)> =
        bad.into_iter().map(|(what, token)| (what, vec![format!("Bearer {token}")])).collect();
    let whole = format!("Bearer {}", ec.token(&good));
    refused.push(("a good one and another", vec![whole.clone(), whole.clone()]));
    refused.push(("no scheme", vec![ec.token(&good)]));
    refused.push(("another scheme", vec![whole.replace("Bearer", "Basic")]));
    refused.push(("nothing after the scheme", vec!["Bearer ".to_owned()]));
    for (what, headers) in &refused {
        let headers: Vec<_> = headers.iter().map(String::as_str).collect();
        for answer in both(&bed, &headers).await {
            let status = answer.expect_err(what);
            assert_eq!(said(&status), (Code::Unauthenticated, "UNAUTHENTICATED".to_owned()), "{what}: {status}");
            assert!(words.contains(&status.message()), "{what}: {}", status.message());
        }
    }
    // What is bad does not spoil what is good.
    for answer in both(&bed, &[&whole]).await {
        answer.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_file_that_changes_counts_and_one_that_is_spoilt_does_not() {
    let (bed, Keys { ec, .. }) = bed().await;
    let put = |content: &str| {
        std::fs::write(bed.path("new.json"), content).unwrap();
        std::fs::rename(bed.path("new.json"), bed.path("keys.json")).unwrap();
    };
    let new = SigningKey::ec("e2");
    let token = format!("Bearer {}", new.token(&claims("ana")));
    put("{\"keys\": [");
    tokio::time::sleep(std::time::Duration::from_millis(1100)).await;
    let [stream, unary] = both(&bed, &[&token]).await;
    for answer in [stream, unary] {
        // The file cannot be read now; whether the key is in the next one nobody knows.
        assert_eq!(said(&answer.unwrap_err()), (Code::Unavailable, "ISSUER_UNAVAILABLE".to_owned()));
    }
    for answer in both(&bed, &[&format!("Bearer {}", ec.token(&claims("ana")))]).await {
        answer.unwrap();
    }
    put(&key_set(&[&new]));
    tokio::time::sleep(std::time::Duration::from_millis(1100)).await;
    for answer in both(&bed, &[&token]).await {
        answer.unwrap();
    }
    // The old key is out, and with it what was remembered.
    for answer in both(&bed, &[&format!("Bearer {}", ec.token(&claims("ana")))]).await {
        assert_eq!(said(&answer.unwrap_err()).0, Code::Unauthenticated);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn fault_33_a_key_file_that_is_no_key_set_stops_the_start_and_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let access = format!("principals:\n  ana: {{}}\nissuers:\n{}", issuer_line("jwks_file: keys.json"));
    for (content, expected) in [
        (None, "cannot read"),
        (Some("<html>"), "it is no JSON Web Key Set"),
        (Some("{\"keys\": []}"), "none of its 0 keys"),
    ] {
        if let Some(content) = content {
            std::fs::write(folder.path().join("keys.json"), content).unwrap();
        }
        let settings = crate::bed::settings_with(&folder, &access, |_| {});
        let error = forebay::server::Gateway::start(settings).await.unwrap_err().to_string();
        assert!(error.starts_with(&format!("the keys of the issuer `{ISSUER}` cannot be used: ")), "{error}");
        assert!(error.contains("keys.json") && error.contains(expected), "{error}");
    }
}
