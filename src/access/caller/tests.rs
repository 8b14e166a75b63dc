use std::collections::HashMap;
use std::path::Path;

use tokio::sync::watch;
use tokio::time::Instant;

use super::*;
use crate::access::{ApiKey, parse_access_file};

const FILE: &str = r#"
principals:
  spark: {write: ["card_*"], read: [cards]}
  fraud: {read: ["*"]}
api_keys:
  - {id: one, sha256: "0101010101010101010101010101010101010101010101010101010101010101", principal: spark}
issuers:
  - {issuer: login, audiences: [forebay], jwks_file: keys.json, algorithms: [ES256], principals: {job: spark, ana: fraud}}
  - {issuer: plain, audiences: [forebay], jwks_file: keys.json, algorithms: [ES256]}
client_certificates:
  - {name: "dns:spark", principal: spark}
"#;

fn policy() -> Policy {
    parse_access_file(Path::new("access.yaml"), FILE).unwrap()
}

fn identity(credential: Credential) -> Identity {
    Identity { principal: "spark".into(), credential, expires_at: None }
}

fn key() -> Identity {
    identity(Credential::ApiKey { id: "one".into(), sha256: [1; 32] })
}

fn token(issuer: &str, claim: &str) -> Identity {
    identity(Credential::Token { issuer: issuer.into(), claim: claim.into() })
}

fn certificate() -> Identity {
    let names: Vec<Arc<str>> = vec!["ip:10.0.0.7".into(), "dns:spark".into()];
    identity(Credential::Certificate { names: names.into() })
}

/// A caller, and whoever changes the policy.
fn caller(identity: Identity) -> (Caller, watch::Sender<Arc<Policy>>) {
    let (sender, receiver) = watch::channel(Arc::new(policy()));
    (Caller::known(identity, receiver), sender)
}

/// A clock that goes with tokio's, which tests pause.
fn clock() -> impl Fn() -> SystemTime {
    let (epoch, started) = (SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000), Instant::now());
    move || epoch + started.elapsed()
}

fn change(sender: &watch::Sender<Arc<Policy>>, change: impl FnOnce(&mut Policy)) {
    sender.send_modify(|policy| {
        let mut next = Policy::clone(policy);
        change(&mut next);
        *policy = Arc::new(next);
    });
}

fn change_key(policy: &mut Policy, change: impl FnOnce(&mut ApiKey)) {
    let mut key = ApiKey::clone(&policy.api_keys["one"]);
    change(&mut key);
    policy.api_keys.insert("one".into(), Arc::new(key));
}

#[test]
fn what_is_not_granted_is_denied_by_whatever_credential() {
    for identity in [key(), token("login", "job"), token("plain", "spark"), certificate()] {
        let (caller, _sender) = caller(identity);
        for (permission, table, allowed) in [
            (Permission::Write, "card_scores", true),
            (Permission::Write, "cards", false),
            (Permission::Read, "cards", true),
            (Permission::Read, "card_scores", false),
            (Permission::Admin, "cards", false),
        ] {
            assert_eq!(caller.may(permission, table), allowed, "{caller:?} {permission:?} {table}");
        }
        assert!(caller.may_see("card_scores") && caller.may_see("cards") && !caller.may_see("others"));
        assert_eq!(&*caller.name(), "spark");
    }
}

#[test]
fn anyone_may_do_everything_and_has_no_limits() {
    let caller = Caller::of(&http::Extensions::new());
    assert!(caller.may(Permission::Admin, "t") && caller.may_see("t"));
    assert_eq!((&*caller.name(), caller.limits(), caller.expires_at()), ("anyone", None, None));
}

#[test]
fn a_change_of_the_policy_counts_for_the_next_question() {
    let (caller, sender) = caller(key());
    change(&sender, |policy| {
        let mut spark = super::super::Principal::clone(policy.principal("spark").unwrap());
        spark.grants.read = spark.grants.write.split_off(0);
        policy.principals.insert("spark".into(), Arc::new(spark));
    });
    assert!(caller.may(Permission::Read, "card_scores") && !caller.may(Permission::Write, "card_scores"));
}

/// What is lost, and how the policy changes.
type Change = (Identity, fn(&mut Policy), Option<Loss>);

#[test]
fn a_credential_is_lost_with_what_it_stands_on_and_with_nothing_else() {
    let changes: [Change; 14] = [
        (key(), |policy| policy.api_keys.clear(), Some(Loss::Revoked)),
        (key(), |policy| change_key(policy, |key| key.sha256 = [2; 32]), Some(Loss::Revoked)),
        (key(), |policy| change_key(policy, |key| key.principal = "fraud".into()), Some(Loss::Revoked)),
        (key(), |policy| change_key(policy, |key| key.expires_at = Some(SystemTime::UNIX_EPOCH)), Some(Loss::Expired)),
        (key(), |policy| policy.issuers.clear(), None),
        (key(), |policy| policy.certificates.clear(), None),
        (token("login", "job"), |policy| policy.issuers.clear(), Some(Loss::Revoked)),
        (token("login", "job"), |policy| drop(policy.issuers.remove(0)), Some(Loss::Revoked)),
        (token("login", "ana"), |_| {}, Some(Loss::Revoked)),
        (token("login", "spark"), |_| {}, Some(Loss::Revoked)),
        (token("login", "job"), |policy| policy.api_keys.clear(), None),
        (token("plain", "spark"), |policy| policy.principals = HashMap::new(), Some(Loss::Revoked)),
        (certificate(), |policy| policy.certificates.clear(), Some(Loss::Revoked)),
        (certificate(), |policy| policy.certificates[0].1 = "fraud".into(), Some(Loss::Revoked)),
    ];
    for (identity, change, expected) in changes {
        let mut policy = policy();
        change(&mut policy);
        let (_sender, watch) = watch::channel(Arc::new(policy.clone()));
        let known = Known { identity, policy: watch };
        let loss = known.loss(&policy, clock()(), Permission::Write, "card_scores");
        assert_eq!(loss, expected, "{:?}", known.identity);
    }
}

#[tokio::test(start_paused = true)]
async fn a_stream_hears_of_a_revoked_key_at_once_and_of_a_removed_grant() {
    let clear: fn(&mut Policy) = |policy| policy.api_keys.clear();
    let deny: fn(&mut Policy) = |policy| {
        let mut spark = super::super::Principal::clone(policy.principal("spark").unwrap());
        spark.grants.write.clear();
        policy.principals.insert("spark".into(), Arc::new(spark));
    };
    for (what, loss) in [(clear, Loss::Revoked), (deny, Loss::GrantRemoved)] {
        let (caller, sender) = caller(key());
        let listener = tokio::spawn(async move { caller.lost(Permission::Write, "card_scores").await });
        // A change that does not touch the caller wakes it, and no more.
        change(&sender, |policy| policy.certificates.clear());
        tokio::task::yield_now().await;
        assert!(!listener.is_finished());
        let changed = Instant::now();
        change(&sender, what);
        assert_eq!(listener.await.unwrap(), loss);
        assert_eq!(changed.elapsed(), Duration::ZERO);
    }
}

#[tokio::test(start_paused = true)]
async fn fault_9_a_credential_is_lost_when_its_time_is_over() {
    let clock = clock();
    let (_sender, watch) = watch::channel(Arc::new(policy()));
    let expires_at = Some(clock() + Duration::from_secs(3_600));
    let known = Known { identity: Identity { expires_at, ..certificate() }, policy: watch };
    let started = Instant::now();
    let loss = known.lost(&clock, Permission::Write, "card_scores").await;
    assert_eq!(loss, Loss::Expired);
    let over = started.elapsed();
    assert!((3_600..3_601).contains(&over.as_secs()), "{over:?}");
}

#[tokio::test(start_paused = true)]
async fn a_keys_time_may_be_changed_while_a_stream_is_open() {
    let clock = clock();
    let (sender, watch) = watch::channel(Arc::new(policy()));
    change(&sender, |policy| change_key(policy, |key| key.expires_at = Some(clock() + Duration::from_secs(100))));
    let known = Arc::new(Known { identity: key(), policy: watch });
    let (listening, started) = (Arc::clone(&known), Instant::now());
    let epoch = clock();
    let listener =
        tokio::spawn(
            async move { listening.lost(|| epoch + started.elapsed(), Permission::Write, "card_scores").await },
        );
    tokio::time::sleep(Duration::from_secs(50)).await;
    change(&sender, |policy| change_key(policy, |key| key.expires_at = Some(epoch + Duration::from_secs(200))));
    assert_eq!(listener.await.unwrap(), Loss::Expired);
    assert_eq!(started.elapsed().as_secs(), 200);
    assert_eq!(Caller(Some(known)).expires_at(), Some(epoch + Duration::from_secs(200)));
}

#[tokio::test(start_paused = true)]
async fn a_wall_clock_that_is_set_is_noticed_within_a_minute() {
    let (_sender, watch) = watch::channel(Arc::new(policy()));
    let (epoch, started) = (SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000), Instant::now());
    let expires_at = Some(epoch + Duration::from_secs(86_400));
    let known = Known { identity: Identity { expires_at, ..certificate() }, policy: watch };
    // After ten seconds somebody sets it two days ahead.
    let clock = || match started.elapsed().as_secs() {
        0..10 => epoch + started.elapsed(),
        _ => epoch + Duration::from_secs(2 * 86_400),
    };
    assert_eq!(known.lost(clock, Permission::Write, "card_scores").await, Loss::Expired);
    assert_eq!(started.elapsed().as_secs(), 60);
}

#[tokio::test(start_paused = true)]
async fn when_nobody_changes_the_policy_any_more_the_clock_still_counts() {
    let clock = clock();
    let (sender, watch) = watch::channel(Arc::new(policy()));
    drop(sender);
    let expires_at = Some(clock() + Duration::from_secs(90));
    let known = Known { identity: Identity { expires_at, ..certificate() }, policy: watch };
    assert_eq!(known.lost(&clock, Permission::Write, "card_scores").await, Loss::Expired);
}
