//! The layer before a service that answers with the caller's name.

use std::convert::Infallible;
use std::path::Path;

use http::{HeaderValue, Request, Response};
use tokio::sync::watch;
use tonic::body::Body;
use tonic::{Code, Status};
use tower::{Layer as _, ServiceExt as _, service_fn};

use super::*;
use crate::access::{KeyIdError, NewKey, Permission, Policy, parse_access_file};
use crate::telemetry::Instruments;
use crate::telemetry::instruments::ReasonLabel;

const METHOD: &str = "/forebay.v1.ReadService/GetRow";
/// Long after the tests run.
const LATER: Duration = Duration::from_secs(100 * 365 * 86_400);

fn key(id: &str, seed: u64) -> String {
    let mut random = fastrand::Rng::with_seed(seed);
    let key = NewKey::generate::<KeyIdError>(id, |bytes| {
        random.fill(bytes);
        Ok(())
    });
    key.unwrap().reveal().to_owned()
}

fn hash(key: &str) -> String {
    ShownKey::parse(key).unwrap().sha256().iter().map(|byte| format!("{byte:02x}")).collect()
}

fn policy() -> Policy {
    let text = format!(
        r#"
principals: {{spark: {{read: ["*"]}}, fraud: {{read: [x]}}}}
api_keys:
  - {{id: spark1, sha256: "{}", principal: spark}}
  - {{id: fraud1, sha256: "{}", principal: fraud}}
  - {{id: old, sha256: "{}", principal: spark, expires_at: 2020-01-01T00:00:00Z}}
client_certificates:
  - {{name: "uri:spiffe://cluster/fraud", principal: fraud}}
"#,
        hash(&key("spark1", 1)),
        hash(&key("fraud1", 2)),
        hash(&key("old", 3)),
    );
    parse_access_file(Path::new("access.yaml"), &text).unwrap()
}

/// Takes `good.token` for Spark's, `strange.token` for somebody's who is not there.
#[derive(Debug)]
struct Tokens;

impl VerifyTokens for Tokens {
    fn verify<'a>(&'a self, token: &'a str) -> Verification<'a> {
        Box::pin(async move {
            tokio::task::yield_now().await;
            let principal = match token {
                "good.token" => "spark",
                "strange.token" => "somebody",
                "later.token" => return Err(Refusal::Unverifiable { retry_after: Duration::from_secs(1) }),
                _ => return Err(Refusal::NotAccepted),
            };
            let credential = Credential::Token { issuer: "i".into(), claim: principal.into() };
            Ok(Identity { principal: principal.into(), credential, expires_at: None })
        })
    }
}

/// A layer, and whoever changes the policy.
struct Door {
    layer: AuthLayer,
    instruments: Arc<Instruments>,
    policy: watch::Sender<Arc<Policy>>,
}

/// Who came in, or why not.
type Answer = Result<String, &'static str>;

impl Door {
    fn new(tokens: Option<Arc<dyn VerifyTokens>>) -> Self {
        let (sender, policy) = watch::channel(Arc::new(policy()));
        let instruments = Arc::new(Instruments::new());
        let refusal = |refusal: Refusal| Status::new(Code::Unauthenticated, refusal.label());
        let layer = AuthLayer::new(Authenticator::new(policy, tokens), refusal, Arc::clone(&instruments));
        Self { layer, instruments, policy: sender }
    }

    async fn call(&self, request: Request<()>) -> Answer {
        call(&self.layer, request).await
    }

    async fn with(&self, authorization: &str) -> Answer {
        self.call(request(Some(authorization), None)).await
    }
}

async fn call(layer: &AuthLayer, request: Request<()>) -> Answer {
    let service = service_fn(|request: Request<()>| async move {
        assert!(!request.headers().contains_key(AUTHORIZATION), "no secret goes on");
        let mut response = Response::new(Body::empty());
        let name = Caller::of(request.extensions()).name();
        response.headers_mut().insert("caller", HeaderValue::from_str(&name).unwrap());
        Ok::<_, Infallible>(response)
    });
    let response = layer.layer(service).oneshot(request).await.unwrap();
    if let Some(status) = Status::from_header_map(response.headers()) {
        assert_eq!(status.code(), Code::Unauthenticated);
        let all = ["missing", "malformed", "not_accepted", "expired", "unverifiable"];
        return Err(all.into_iter().find(|reason| status.message() == format!("credential_{reason}")).unwrap());
    }
    Ok(response.headers()["caller"].to_str().unwrap().to_owned())
}

fn request(authorization: Option<&str>, certificate: Option<PeerCertificate>) -> Request<()> {
    let mut request = Request::builder().uri(METHOD);
    if let Some(value) = authorization {
        request = request.header(AUTHORIZATION, HeaderValue::from_bytes(value.as_bytes()).unwrap());
    }
    let peer = Peer { address: "127.0.0.1:1".parse().unwrap(), certificate: certificate.map(Arc::new) };
    request.extension(peer).body(()).unwrap()
}

fn certificate(names: &[&str], expires_at: SystemTime) -> PeerCertificate {
    PeerCertificate { names: names.iter().map(|name| Arc::from(*name)).collect(), expires_at }
}

#[tokio::test]
async fn a_key_lets_its_principal_in_and_whatever_differs_from_it_does_not() {
    let door = Door::new(None);
    let good = key("spark1", 1);
    assert_eq!(door.with(&format!("Bearer {good}")).await, Ok("spark".to_owned()));
    assert_eq!(door.with(&format!("bearer  {good}")).await, Ok("spark".to_owned()));
    let secret = good.strip_prefix("fb_spark1_").unwrap();
    let mut tampered = good.clone().into_bytes();
    let last = tampered.last_mut().unwrap();
    *last = if *last == b'a' { b'b' } else { b'a' };
    let swapped = |c: char| if c.is_ascii_lowercase() { c.to_ascii_uppercase() } else { c.to_ascii_lowercase() };
    let cases = [
        ("one character", String::from_utf8(tampered).unwrap()),
        ("cut", good[..good.len() - 1].to_owned()),
        ("longer", format!("{good}a")),
        ("other case", format!("fb_spark1_{}", secret.chars().map(swapped).collect::<String>())),
        ("another's id", format!("fb_fraud1_{secret}")),
        ("nobody's id", format!("fb_spark2_{secret}")),
        ("another's secret", key("spark1", 2)),
        ("the hash for the secret", format!("fb_spark1_{}", hash(&good))),
    ];
    for (what, wrong) in cases {
        assert_ne!(wrong, good, "{what}");
        assert_eq!(door.with(&format!("Bearer {wrong}")).await, Err("not_accepted"), "{what}");
    }
    let refused =
        door.instruments.calls_refused.get_or_create(&ReasonLabel { reason: "credential_not_accepted" }).get();
    assert_eq!(refused, 8);
}

#[tokio::test]
async fn what_is_no_credential_is_malformed_and_nothing_at_all_is_missing() {
    let door = Door::new(Some(Arc::new(Tokens)));
    let good = key("spark1", 1);
    let long_id = "i".repeat(33);
    let bad = [
        String::new(),
        "Bearer".to_owned(),
        "Bearer ".to_owned(),
        good.clone(),
        format!("Basic {good}"),
        format!("Bearer {good} {good}"),
        format!("Bearer {good},"),
        format!("Bearer fb_{}", &good["fb_spark1_".len()..]),
        format!("Bearer fb_{long_id}_{}", "s".repeat(43)),
        "Bearer fb_spark1_short".to_owned(),
        "Bearer tök.en".to_owned(),
    ];
    for authorization in &bad {
        assert_eq!(door.with(authorization).await, Err("malformed"), "{authorization}");
    }
    let mut twice = request(Some(&format!("Bearer {good}")), None);
    twice.headers_mut().append(AUTHORIZATION, HeaderValue::from_str(&format!("Bearer {good}")).unwrap());
    assert_eq!(door.call(twice).await, Err("malformed"));
    assert_eq!(door.call(request(None, None)).await, Err("missing"));
    let without_peer = Request::builder().uri(METHOD).body(()).unwrap();
    assert_eq!(door.call(without_peer).await, Err("missing"));
}

#[tokio::test]
async fn only_who_has_the_secret_hears_that_a_key_has_expired() {
    let door = Door::new(None);
    assert_eq!(door.with(&format!("Bearer {}", key("old", 3))).await, Err("expired"));
    assert_eq!(door.with(&format!("Bearer {}", key("old", 4))).await, Err("not_accepted"));
}

#[tokio::test]
async fn a_token_is_its_verifiers_to_judge_and_names_only_principals_that_are_there() {
    let door = Door::new(Some(Arc::new(Tokens)));
    assert_eq!(door.with("Bearer good.token").await, Ok("spark".to_owned()));
    assert_eq!(door.with("Bearer bad.token").await, Err("not_accepted"));
    assert_eq!(door.with("Bearer strange.token").await, Err("not_accepted"));
    assert_eq!(door.with("Bearer later.token").await, Err("unverifiable"));
    assert_eq!(Door::new(None).with("Bearer good.token").await, Err("not_accepted"));
}

#[tokio::test]
async fn a_certificate_speaks_for_its_principal_unless_a_credential_is_shown() {
    let door = Door::new(None);
    let later = SystemTime::UNIX_EPOCH + LATER;
    let known = || certificate(&["dns:pod", "uri:spiffe://cluster/fraud"], later);
    assert_eq!(door.call(request(None, Some(known()))).await, Ok("fraud".to_owned()));
    let unknown = certificate(&["uri:spiffe://cluster/other"], later);
    assert_eq!(door.call(request(None, Some(unknown.clone()))).await, Err("not_accepted"));
    let old = certificate(&["uri:spiffe://cluster/fraud"], SystemTime::UNIX_EPOCH);
    assert_eq!(door.call(request(None, Some(old))).await, Err("expired"));

    let good = format!("Bearer {}", key("spark1", 1));
    // A sidecar's certificate that nobody was given a principal for does not matter beside a key.
    for certificate in [known(), unknown] {
        assert_eq!(door.call(request(Some(&good), Some(certificate))).await, Ok("spark".to_owned()));
    }
    let wrong = format!("Bearer {}", key("spark1", 9));
    assert_eq!(door.call(request(Some(&wrong), Some(known()))).await, Err("not_accepted"));
    assert_eq!(door.call(request(Some("Basic x"), Some(known()))).await, Err("malformed"));
}

#[tokio::test]
async fn health_needs_no_credential_and_what_only_looks_like_it_does() {
    let door = Door::new(None);
    let at = |path: &str| Request::builder().uri(path).body(()).unwrap();
    assert_eq!(door.call(at("/grpc.health.v1.Health/Check")).await, Ok("anyone".to_owned()));
    assert_eq!(door.call(at("/grpc.health.v1.Health/Watch")).await, Ok("anyone".to_owned()));
    for path in
        ["/grpc.health.v1.Healthy/Check", "/x/grpc.health.v1.Health/Check", "/grpc.health.v1.Health", "/", METHOD]
    {
        assert_eq!(door.call(at(path)).await, Err("missing"), "{path}");
    }
    assert_eq!(call(&AuthLayer::open(), at(METHOD)).await, Ok("anyone".to_owned()));
}

#[tokio::test]
async fn a_policy_that_changes_counts_for_the_next_call() {
    let door = Door::new(None);
    let authorization = format!("Bearer {}", key("spark1", 1));
    assert_eq!(door.with(&authorization).await, Ok("spark".to_owned()));
    let mut next = policy();
    next.api_keys.remove("spark1");
    door.policy.send_replace(Arc::new(next));
    assert_eq!(door.with(&authorization).await, Err("not_accepted"));
    door.policy.send_replace(Arc::new(policy()));
    assert_eq!(door.with(&authorization).await, Ok("spark".to_owned()));
}

#[test]
fn callers_are_what_their_credential_says() {
    let (_sender, watch) = watch::channel(Arc::new(policy()));
    let authenticator = Authenticator::new(watch, None);
    let mut headers = HeaderMap::new();
    headers.insert(AUTHORIZATION, HeaderValue::from_str(&format!("Bearer {}", key("fraud1", 2))).unwrap());
    let shown = authenticator.shown(&headers, &Extensions::new(), SystemTime::now()).unwrap();
    let Shown::Good(identity) = shown else { panic!("{shown:?}") };
    let debug = format!("{identity:?}");
    assert!(debug.contains("fraud1") && !debug.contains(&key("fraud1", 2)), "{debug}");
    let caller = authenticator.caller(identity).unwrap();
    assert!(caller.may(Permission::Read, "x") && !caller.may(Permission::Read, "y"));
}

/// What is logged.
#[derive(Clone, Default)]
struct Lines(Arc<std::sync::Mutex<Vec<u8>>>);

impl std::io::Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn a_refused_call_is_logged_with_its_keys_id_and_not_with_its_secret() {
    let lines = Lines::default();
    let writer = lines.clone();
    let subscriber = tracing_subscriber::fmt().with_max_level(tracing::Level::TRACE).with_ansi(false);
    let _guard = tracing::subscriber::set_default(subscriber.with_writer(move || writer.clone()).finish());
    let door = Door::new(Some(Arc::new(Tokens)));
    let wrong = key("spark1", 9);
    assert_eq!(door.with(&format!("Bearer {wrong}")).await, Err("not_accepted"));
    assert_eq!(door.with("Bearer some.secret.token").await, Err("not_accepted"));
    assert_eq!(door.with(&format!("Basic {wrong}")).await, Err("malformed"));
    assert_eq!(door.with(&format!("Bearer {}", key("spark1", 1))).await, Ok("spark".to_owned()));
    let text = String::from_utf8(lines.0.lock().unwrap().clone()).unwrap();
    let refused: Vec<_> = text.lines().filter(|line| line.contains("a call is refused")).collect();
    assert_eq!(refused.len(), 3, "{text}");
    for part in [r#"reason="credential_not_accepted""#, r#"key="spark1""#, "peer=127.0.0.1:1"] {
        assert!(refused[0].contains(part), "no {part} in {text}");
    }
    assert!(!refused[2].contains("key="), "{text}");
    for secret in [&wrong[10..20], "secret", &key("spark1", 1)[10..20]] {
        assert!(!text.contains(secret), "{secret} in {text}");
    }
}
