use std::time::{Duration, UNIX_EPOCH};

use super::*;
use crate::access::{Permission, Rate, SignatureAlgorithm};

const GOOD: &str = r#"
principals:
  spark-prod:
    write: ["card_*"]
    read: ["*"]
    limits: {write_rows: {per_second: 50000, burst: 100000}, write_kib: 20480, streams: 200, weight: 2}
  fraud: {read: [card_features]}
  ops: {admin: ["*"], operator: true}
api_keys:
  - {id: spark1, sha256: "ABababababababababababababababababababababababababababababababab", principal: spark-prod}
  - {id: spark2, sha256: "1212121212121212121212121212121212121212121212121212121212121212", principal: spark-prod, expires_at: 2027-01-01T01:00:00+01:00}
issuers:
  - {issuer: "https://login.example.com/", audiences: [forebay], jwks_url: "https://login.example.com/keys", algorithms: [RS256, ES256], principals: {"claim value": fraud}}
  - {issuer: cluster, audiences: [a, b], jwks_file: keys.json, algorithms: [EdDSA], principal_claim: name}
client_certificates:
  - {name: "uri:spiffe://cluster/ns/ml/sa/fraud", principal: fraud}
  - {name: "ip:0:0::1", principal: ops}
  - {name: "dns:Fraud.ML.svc", principal: fraud}
tables:
  - {tables: "card_*", limits: {write_rows: 80000, read_rows: 20000}}
"#;

fn parse(text: &str) -> Result<Policy, AccessFileError> {
    parse_access_file(Path::new("conf/access.yaml"), text)
}

fn rate(per_second: u32, burst: u32) -> Option<Rate> {
    let number = |number| NonZeroU32::new(number).unwrap();
    Some(Rate { per_second: number(per_second), burst: number(burst) })
}

#[test]
fn a_good_file_says_who_may_do_what_and_how_each_is_known() {
    let policy = parse(GOOD).unwrap();
    let spark = policy.principal("spark-prod").unwrap();
    assert!(
        spark.grants.allow(Permission::Write, "card_scores") && !spark.grants.allow(Permission::Admin, "card_scores")
    );
    assert!(!spark.operator && policy.principal("ops").unwrap().operator);
    let expected = Limits {
        write_rows: rate(50_000, 100_000),
        write_kib: rate(20_480, 20_480),
        streams: NonZeroU32::new(200),
        weight: NonZeroU32::new(2).unwrap(),
        ..Limits::default()
    };
    assert_eq!(spark.limits, expected);
    assert_eq!(policy.principal("fraud").unwrap().limits, Limits::default());
    let key = &policy.api_keys["spark1"];
    assert_eq!((key.sha256, &*key.principal, key.expires_at), ([0xab; 32], "spark-prod", None));
    let new_year = UNIX_EPOCH + Duration::from_secs(1_798_761_600);
    assert_eq!(policy.api_keys["spark2"].expires_at, Some(new_year));
    let login = policy.issuer("https://login.example.com/").unwrap();
    assert_eq!(login.keys, JwksSource::Url("https://login.example.com/keys".parse().unwrap()));
    assert_eq!(login.algorithms, [SignatureAlgorithm::RS256, SignatureAlgorithm::ES256]);
    assert_eq!((login.principal_claim.as_str(), login.principal_of("claim value")), ("sub", Some("fraud")));
    let cluster = policy.issuer("cluster").unwrap();
    assert_eq!(cluster.keys, JwksSource::File("conf/keys.json".into()));
    assert_eq!((cluster.principal_claim.as_str(), cluster.principal_of("ops")), ("name", Some("ops")));
    let name = |name: &str| Arc::<str>::from(name);
    assert_eq!(policy.certificate_principal(&[name("dns:x"), name("ip:::1")]), Some(&name("ops")));
    assert_eq!(policy.certificate_principal(&[name("dns:fraud.ml.svc")]), Some(&name("fraud")));
    assert_eq!(policy.certificate_principal(&[name("uri:spiffe://cluster/ns/ml/sa/FRAUD")]), None);
    let table = policy.limits_of_table("card_scores").unwrap();
    assert_eq!(
        (table.write_rows, table.write_kib, table.read_rows),
        (rate(80_000, 80_000), None, rate(20_000, 20_000))
    );
}

#[test]
fn a_file_that_cannot_be_meant_is_refused_with_line_key_and_what_was_expected() {
    let hash = "ab".repeat(32);
    let key = |rest: &str| format!("principals: {{a: {{}}, b: {{}}}}\napi_keys:\n  - {rest}");
    let issuer = |rest: &str| format!("principals: {{a: {{}}}}\nissuers:\n  - issuer: i\n    {rest}");
    let sound = "audiences: [x]\n    algorithms: [ES256]";
    let certificate = |rest: &str| format!("principals: {{a: {{}}}}\nclient_certificates:\n  - {rest}");
    let cases = [
        ("# nothing\n\n".to_owned(), ": the file says nothing; expected `principals`, and how each is known"),
        ("api_keys: []".to_owned(), ":1: the key `principals` is missing"),
        ("principals: {}".to_owned(), ":1: `principals` names nobody; expected at least one"),
        ("principals:\n  a: {}\n  a: {}".to_owned(), ":3: the key `a` is there twice"),
        (
            "principals:\n  a: {}\n  anyone: {}".to_owned(),
            ":3: no principal can be called `anyone`: metrics call callers so that need no credential; expected another name",
        ),
        ("principals:\n  \"\": {}".to_owned(), ":2: wrong value: \"\" is no name; expected 1 to 256 bytes of text"),
        (
            "principals:\n  a: {reads: [x]}".to_owned(),
            ":2: unknown key `reads`; expected one of `read`, `write`, `admin`, `operator`, `limits`",
        ),
        ("principals:\n  a: {read: x}".to_owned(), ":2: wrong value for `read`; expected a list"),
        (
            "principals:\n  a:\n    read: [x, 'card/*']".to_owned(),
            ":3: wrong value for `read`: `card/*` is no pattern of table names; expected letters, digits, `_`, `-`, `.` and \
             `*`, such as `card_*`",
        ),
        (
            "principals:\n  a: {limits: {write_row: 1}}".to_owned(),
            ":2: unknown key `write_row`; expected one of `write_rows`, `write_kib`, `read_rows`, `stream_opens`, `streams`, \
             `weight`",
        ),
        (
            "principals:\n  a: {limits: {write_rows: 0}}".to_owned(),
            ":2: wrong value for `write_rows`: `0` is no rate; expected a whole number from 1 on, or `{per_second: 50000, burst: \
             100000}`",
        ),
        (
            "principals:\n  a: {limits: {write_rows: -5}}".to_owned(),
            ":2: wrong value for `write_rows`: `-5` is no rate; expected a whole number from 1 on, or `{per_second: 50000, \
             burst: 100000}`",
        ),
        (
            "principals:\n  a: {limits: {write_rows: fast}}".to_owned(),
            ":2: wrong value for `write_rows`: `fast` is no rate; expected a whole number from 1 on, or `{per_second: 50000, \
             burst: 100000}`",
        ),
        (
            "principals:\n  a: {limits: {write_rows: {per_second: 5, burst: 0}}}".to_owned(),
            ":2: wrong value for `burst`: `0` is too few; expected a whole number from 1 on",
        ),
        (
            "principals:\n  a: {limits: {streams: 0}}".to_owned(),
            ":2: wrong value for `streams`: `0` is too few; expected a whole number from 1 on",
        ),
        (
            key(&format!("{{id: k, sha256: {hash}, principal: c}}")),
            ":3: wrong value for `principal`: there is no principal `c`; expected one of `a`, `b`",
        ),
        (
            key(&format!("{{id: Spark_1, sha256: {hash}, principal: a}}")),
            ":3: wrong value for `id`: `Spark_1` is no id of a key; expected 1 to 32 of a-z, 0-9 and `-`, such as `spark1`",
        ),
        (
            key("{id: k, sha256: abc, principal: a}"),
            ":3: wrong value for `sha256`: no SHA-256; expected the 64 hexadecimal digits that `forebay keys hash` prints",
        ),
        (
            key(&format!("{{id: k, sha256: {}g, principal: a}}", &hash[1..])),
            ":3: wrong value for `sha256`: no SHA-256; expected the 64 hexadecimal digits that `forebay keys hash` prints",
        ),
        (
            key("{id: k, sha256: fb_k_secret, principal: a}"),
            ":3: wrong value for `sha256`: this is a whole key, which must not be kept; expected the 64 hexadecimal digits that \
             `forebay keys hash` prints",
        ),
        (key(&format!("{{id: k, sha256: {hash}}}")), ":3: the key `principal` is missing"),
        (
            key(&format!("{{id: k, sha256: {hash}, principal: a}}\n  - {{id: k, sha256: {hash}, principal: a}}")),
            ":4: wrong value for `id`: the key `k` is there twice; expected another id",
        ),
        (
            key(&format!("{{id: k, sha256: {hash}, principal: a}}\n  - {{id: l, sha256: {hash}, principal: a}}")),
            ":4: wrong value for `sha256`: another key has it, too; expected what `forebay keys create` printed for this id",
        ),
        (
            key(&format!("{{id: k, sha256: {hash}, principal: a, expires_at: tomorrow}}")),
            ":3: wrong value for `expires_at`: `tomorrow` is no moment; expected one such as `2027-01-01T00:00:00Z` or \
             `2027-01-01T09:00:00+01:00`",
        ),
        (
            key(&format!("{{id: k, sha256: {hash}, principal: a, expires_at: 2027-01-01T00:00:00}}")),
            ":3: wrong value for `expires_at`: `2027-01-01T00:00:00` is no moment; expected one such as \
             `2027-01-01T00:00:00Z` or `2027-01-01T09:00:00+01:00`",
        ),
        (issuer(sound), ":3: the issuer `i` has no keys; expected `jwks_url` or `jwks_file`"),
        (
            issuer(&format!("jwks_url: https://x/k\n    jwks_file: k\n    {sound}")),
            ":3: the issuer `i` has both `jwks_url` and `jwks_file`; expected one of them",
        ),
        (
            issuer(&format!("jwks_url: http://example.com/k\n    {sound}")),
            ":4: wrong value for `jwks_url`: `http://example.com/k` is no address of keys; expected https://..., or http on \
             loopback",
        ),
        (
            issuer("jwks_file: k\n    audiences: []\n    algorithms: [ES256]"),
            ":5: wrong value for `audiences`: an empty list; expected at least one",
        ),
        (
            issuer("jwks_file: k\n    audiences: [x]\n    algorithms: []"),
            ":6: wrong value for `algorithms`: an empty list; expected at least one",
        ),
        (
            issuer("jwks_file: k\n    audiences: [x]\n    algorithms: [HS256]"),
            ":6: unknown value `HS256` for `algorithms`; expected one of `RS256`, `RS384`, `RS512`, `PS256`, `PS384`, `PS512`, \
             `ES256`, `ES384`, `EdDSA`",
        ),
        (
            issuer(&format!("jwks_file: k\n    {sound}\n  - issuer: i\n    jwks_file: k\n    {sound}")),
            ":7: wrong value for `issuer`: `i` is there twice; expected each once",
        ),
        (
            issuer(&format!("jwks_file: k\n    {sound}\n    principals:\n      someone: b")),
            ":8: wrong value for `principal`: there is no principal `b`; expected `a`",
        ),
        (
            certificate("{name: fraud.ml.svc, principal: a}"),
            ":3: wrong value for `name`: `fraud.ml.svc` is no name of a certificate; expected one such as \
             `uri:spiffe://cluster/ns/ml/sa/fraud`, `dns:fraud.ml.svc`, `email:fraud@example.com` or `ip:10.0.0.7`",
        ),
        (
            certificate("{name: \"dns:x\", principal: a}\n  - {name: \"dns:x\", principal: a}"),
            ":4: wrong value for `name`: `dns:x` is there twice; expected each name once",
        ),
        (
            "principals: {a: {}}\ntables:\n  - {tables: x, limits: {}}\n  - {tables: x, limits: {}}".to_owned(),
            ":4: wrong value for `tables`: the pattern is there twice, and only the first counts; expected each pattern once",
        ),
        (
            "principals: {a: {}}\ntables:\n  - {tables: x, limits: {streams: 1}}".to_owned(),
            ":3: unknown key `streams`; expected one of `write_rows`, `write_kib`, `read_rows`",
        ),
        (
            "principals: {a: {}}\nkeys: []".to_owned(),
            ":2: unknown key `keys`; expected one of `principals`, `api_keys`, `issuers`, `client_certificates`, `tables`",
        ),
    ];
    for (text, message) in cases {
        let error = parse(&text).expect_err(&text).to_string();
        assert_eq!(error.strip_prefix("conf/access.yaml"), Some(message), "{text}");
    }
}

#[test]
fn a_key_that_was_pasted_instead_of_its_hash_is_not_repeated() {
    let secret = "S3cret".repeat(8);
    for wrong in
        [format!("fb_k_{secret}"), format!("[fb_k_{secret}]"), format!("{{fb_k_{secret}: 1}}"), format!("x{secret}")]
    {
        let text = format!("principals: {{a: {{}}}}\napi_keys:\n  - {{id: k, principal: a, sha256: {wrong}}}");
        let error = parse(&text).unwrap_err();
        assert!(!format!("{error} {error:?}").contains("S3cret"), "{error:?}");
    }
}

#[test]
fn a_file_that_is_not_there_or_far_too_large_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("access.yaml");
    let error = read_access_file(&path).unwrap_err();
    assert!(error.to_string().starts_with(&format!("cannot read the access file {}: ", path.display())), "{error}");
    let file = std::fs::File::create(&path).unwrap();
    file.set_len(ACCESS_FILE_MAX_BYTES + 1).unwrap();
    assert!(matches!(read_access_file(&path), Err(AccessFileError::TooLarge { .. })));
}

#[test]
fn the_example_and_those_of_the_page_are_good_files() {
    let example = parse(include_str!("../../../examples/access.yaml")).unwrap();
    assert_eq!(example.principals.len(), 4);
    let page = include_str!("../../../docs/access.md");
    let blocks: Vec<_> = page.split("```yaml\n").skip(1).map(|rest| rest.split("```").next().unwrap()).collect();
    assert_eq!(blocks.len(), 6);
    for block in blocks {
        parse(block).expect(block);
    }
}
