//! The auth matrix of the side port, without a network.

use std::sync::Arc;

use sha2::{Digest as _, Sha256};
use tokio::sync::watch;
use tokio::time::Instant;

use super::*;
use crate::access::{ApiKey, Grants, Limits, Policy, Principal};

const OPERATOR: &str = "fb_ops_0123456789abcdefghijABCDEFGHIJ01234";
const WRITER: &str = "fb_spark_0123456789abcdefghijABCDEFGHIJ01234";
const OLD: &str = "fb_old_0123456789abcdefghijABCDEFGHIJ01234";

fn policy() -> Policy {
    let mut policy = Policy::default();
    for (key, id, name, operator) in
        [(OPERATOR, "ops", "ops", true), (WRITER, "spark", "spark", false), (OLD, "old", "ops", true)]
    {
        let name: Arc<str> = name.into();
        let principal =
            Principal { name: Arc::clone(&name), grants: Grants::default(), limits: Limits::default(), operator };
        policy.principals.insert(Arc::clone(&name), Arc::new(principal));
        let expires_at = (id == "old").then_some(SystemTime::UNIX_EPOCH);
        let key = ApiKey { id: id.into(), sha256: Sha256::digest(key).into(), principal: name, expires_at };
        policy.api_keys.insert(id.into(), Arc::new(key));
    }
    policy
}

fn headers(authorization: &str) -> HeaderMap {
    HeaderMap::from_iter([(header::AUTHORIZATION, HeaderValue::from_str(authorization).unwrap())])
}

fn basic(user: &str, password: &str) -> HeaderMap {
    headers(&format!("Basic {}", STANDARD.encode(format!("{user}:{password}"))))
}

fn judge(door: &Door, headers: &HeaderMap) -> Result<(), Refusal> {
    door.judge(headers, SystemTime::now())
}

#[test]
fn only_an_operators_key_of_today_opens_the_page() {
    let (_policy, watch) = watch::channel(Arc::new(policy()));
    let door = Door::Operators(watch);
    let spark = || Err(Refusal::NoOperator { principal: "spark".to_owned() });
    let cases = [
        (HeaderMap::new(), Err(Refusal::Missing)),
        (basic("anna", OPERATOR), Ok(())),
        (basic("", OPERATOR), Ok(())),
        (headers(&format!("Bearer {OPERATOR}")), Ok(())),
        (headers(&format!("bearer  {OPERATOR}")), Ok(())),
        (basic("anna", WRITER), spark()),
        (headers(&format!("Bearer {WRITER}")), spark()),
        (basic("anna", OLD), Err(Refusal::Wrong)),
        (basic("anna", &OPERATOR.replace('4', "5")), Err(Refusal::Wrong)),
        (basic("anna", &OPERATOR.replace("ops", "none")), Err(Refusal::Wrong)),
        (basic(OPERATOR, "x"), Err(Refusal::Wrong)),
        (basic("anna", ""), Err(Refusal::Wrong)),
        (headers("Basic %%%"), Err(Refusal::Wrong)),
        (headers("Digest x"), Err(Refusal::Wrong)),
        (headers(OPERATOR), Err(Refusal::Wrong)),
        (headers("Bearer eyJhbGciOiJub25lIn0.e30."), Err(Refusal::Wrong)),
    ];
    for (headers, expected) in cases {
        assert_eq!(judge(&door, &headers), expected, "{headers:?}");
    }
    let mut twice = basic("anna", OPERATOR);
    twice.append(header::AUTHORIZATION, HeaderValue::from_static("Bearer x"));
    assert_eq!(judge(&door, &twice), Err(Refusal::Wrong), "which of them counts would depend on who reads");
}

#[test]
fn a_key_that_was_taken_away_opens_nothing_any_more() {
    let (sender, watch) = watch::channel(Arc::new(policy()));
    let door = Door::Operators(watch);
    assert_eq!(judge(&door, &basic("", OPERATOR)), Ok(()));
    sender.send(Arc::new(Policy::default())).unwrap();
    assert_eq!(judge(&door, &basic("", OPERATOR)), Err(Refusal::Wrong));
}

#[test]
fn without_an_access_file_only_loopback_is_open_and_only_by_its_own_names() {
    let by = |host: &'static str| HeaderMap::from_iter([(header::HOST, HeaderValue::from_static(host))]);
    for host in ["127.0.0.1:9464", "localhost:9464", "LocalHost", "[::1]:9464", "[::1]"] {
        assert_eq!(judge(&Door::OpenOnLoopback, &by(host)), Ok(()), "{host}");
    }
    for host in ["evil.example:9464", "localhost.evil.example", "127.0.0.1.nip.io:9464", ""] {
        assert_eq!(judge(&Door::OpenOnLoopback, &by(host)), Err(Refusal::OtherHost), "{host}");
    }
    assert_eq!(judge(&Door::OpenToAnyone, &by("gateway.internal")), Ok(()));
    assert_eq!(judge(&Door::Closed, &by("127.0.0.1")), Err(Refusal::Closed));
}

#[test]
fn a_refusal_asks_for_what_is_missing_and_for_nothing_where_that_would_not_help() {
    let asks = |refusal: Refusal| {
        let response = refusal.into_response();
        let challenges = response.headers().get_all(header::WWW_AUTHENTICATE).iter();
        let challenges: Vec<_> = challenges.map(|value| value.to_str().unwrap().to_owned()).collect();
        (response.status().as_u16(), challenges)
    };
    let (status, challenges) = asks(Refusal::Missing);
    assert_eq!(status, 401);
    assert!(challenges[0].starts_with("Basic realm=") && challenges[1].starts_with("Bearer realm="), "{challenges:?}");
    let (status, challenges) = asks(Refusal::Wrong);
    assert!(status == 401 && challenges[1].contains(r#"error="invalid_token""#), "{challenges:?}");
    assert_eq!(asks(Refusal::NoOperator { principal: "spark".into() }), (403, vec![]));
    assert_eq!(asks(Refusal::Closed), (403, vec![]));
    assert_eq!(asks(Refusal::TooMany), (429, vec![]));
}

#[tokio::test(start_paused = true)]
async fn wrong_keys_are_answered_late_and_a_few_at_a_time_and_the_right_one_at_once() {
    let (_policy, watch) = watch::channel(Arc::new(policy()));
    let door = Door::Operators(watch);
    let start = Instant::now();
    let wrong = basic("", &OPERATOR.replace('4', "5"));
    let (a, b, c, d, e, right, missing) = tokio::join!(
        door.enter(&wrong),
        door.enter(&wrong),
        door.enter(&wrong),
        door.enter(&wrong),
        door.enter(&wrong),
        async { (door.enter(&basic("", OPERATOR)).await, start.elapsed()) },
        async { (door.enter(&HeaderMap::new()).await, start.elapsed()) },
    );
    assert_eq!([a, b, c, d].map(Result::unwrap_err), [const { Refusal::Wrong }; 4]);
    assert_eq!(e, Err(Refusal::TooMany));
    assert_eq!(start.elapsed(), WRONG_KEY_DELAY);
    assert_eq!(right, (Ok(()), Duration::ZERO));
    assert_eq!(missing, (Err(Refusal::Missing), Duration::ZERO), "a browser that has not asked yet");
}
