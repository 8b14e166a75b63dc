//! Fault 10: an issuer whose keys cannot be fetched.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use forebay::middleware::auth::jwt::KeyTiming;
use futures_util::future::join_all;
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tonic::Code;

use crate::bed::{Bed, api_key, issuer_line, key_line, retry_after, said};
use crate::issuer::{SigningKey, claims, key_set};

/// How the endpoint answers.
#[derive(Debug, Clone, PartialEq)]
enum Mood {
    Gives(String),
    /// A status, with a text that may be a key set.
    Says(&'static str, String),
    /// To somewhere else on the same server, where good keys are.
    Redirects(String),
    /// More than anybody wants.
    Floods,
    /// Says nothing, and keeps the connection.
    Hangs,
    /// Begins a good answer and breaks off.
    Breaks,
    /// Closes each connection.
    IsAway,
}

/// An HTTP server that counts.
struct Endpoint {
    url: String,
    mood: Arc<Mutex<Mood>>,
    requests: Arc<AtomicUsize>,
    /// How long an answer takes.
    slow: Arc<Mutex<Duration>>,
}

impl Endpoint {
    async fn start(mood: Mood) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/keys", listener.local_addr().unwrap());
        let endpoint = Self { url, mood: Arc::new(Mutex::new(mood)), requests: Arc::default(), slow: Arc::default() };
        let (mood, requests, slow) =
            (Arc::clone(&endpoint.mood), Arc::clone(&endpoint.requests), Arc::clone(&endpoint.slow));
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (mood, slow) = (mood.lock().unwrap().clone(), *slow.lock().unwrap());
                requests.fetch_add(1, Ordering::SeqCst);
                tokio::spawn(async move {
                    tokio::time::sleep(slow).await;
                    // A client that has gone away has heard enough.
                    let _gone = answer(stream, mood).await;
                });
            }
        });
        endpoint
    }

    fn set(&self, mood: Mood) {
        *self.mood.lock().unwrap() = mood;
    }

    fn requests(&self) -> usize {
        self.requests.load(Ordering::SeqCst)
    }
}

async fn answer(mut stream: TcpStream, mood: Mood) -> std::io::Result<()> {
    if mood == Mood::IsAway {
        return Ok(());
    }
    let mut request = Vec::new();
    while !request.ends_with(b"\r\n\r\n") {
        request.push(stream.read_u8().await?);
    }
    let redirected = request.starts_with(b"GET /elsewhere");
    let response = match mood {
        Mood::Gives(keys) => ok(&keys),
        Mood::Redirects(keys) if redirected => ok(&keys),
        Mood::Redirects(_) => {
            "HTTP/1.1 302 Found\r\nlocation: /elsewhere\r\ncontent-length: 0\r\nconnection: close\r\n\r\n".to_owned()
        }
        Mood::Says(status, body) => {
            format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}", body.len())
        }
        Mood::Breaks => ok(&"x".repeat(1000))[..500].to_owned(),
        Mood::Hangs => return std::future::pending().await,
        Mood::Floods => {
            stream.write_all(b"HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n{\"keys\": [").await?;
            loop {
                stream.write_all(&[b' '; 16 * 1024]).await?;
            }
        }
        Mood::IsAway => String::new(),
    };
    stream.write_all(response.as_bytes()).await
}

fn ok(body: &str) -> String {
    format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}", body.len())
}

/// Long enough that none is over by chance, short enough to wait for.
const PAUSE: Duration = Duration::from_millis(400);
const TIMING: KeyTiming =
    KeyTiming { refresh: Duration::from_secs(600), pause: PAUSE, keep: Duration::from_secs(24 * 3600) };

async fn bed(endpoint: &Endpoint, timing: KeyTiming) -> Bed {
    let bed = Bed::start_with_timing(&access(endpoint, "ana"), &[], timing).await;
    bed.caller(&api_key("all")).create("rows").await;
    bed
}

fn access(endpoint: &Endpoint, reader: &str) -> String {
    format!(
        "principals:\n  {reader}: {{read: [\"*\"]}}\n  all: {{admin: [\"*\"]}}\napi_keys:\n{}issuers:\n{}",
        key_line("all", "all"),
        issuer_line(&format!("jwks_url: \"{}\"", endpoint.url))
    )
}

/// What the caller of a token hears: a code, and whether it is told when to come back.
async fn hears(bed: &Bed, token: &str) -> (Code, bool) {
    match bed.caller(token).get_row("rows").await {
        Ok(_) => (Code::Ok, false),
        Err(status) => {
            let expected = if status.code() == Code::Unavailable { "ISSUER_UNAVAILABLE" } else { "UNAUTHENTICATED" };
            assert_eq!(said(&status).1, expected, "{status}");
            (status.code(), retry_after(&status).is_some())
        }
    }
}

const TAKEN: (Code, bool) = (Code::Ok, false);
const REFUSED: (Code, bool) = (Code::Unauthenticated, false);
const LATER: (Code, bool) = (Code::Unavailable, true);

#[tokio::test(flavor = "multi_thread")]
async fn fault_10_two_hundred_calls_with_an_unknown_key_make_one_fetch() {
    let (known, unknown) = (SigningKey::ec("known"), SigningKey::ec("unknown"));
    let endpoint = Endpoint::start(Mood::Gives(key_set(&[&known]))).await;
    // Room for a busy machine: the calls have to come within it.
    let pause = PAUSE * 6;
    let bed = bed(&endpoint, KeyTiming { pause, ..TIMING }).await;
    assert_eq!(hears(&bed, &known.token(&claims("ana"))).await, TAKEN);
    let before = endpoint.requests();
    assert_eq!(before, 1);
    tokio::time::sleep(pause).await;
    *endpoint.slow.lock().unwrap() = Duration::from_millis(100);
    // Each a token of its own, so that none is answered from memory.
    let calls = (0..200).map(|n| {
        let token = unknown.token(&crate::issuer::with(claims("ana"), "jti", json!(n)));
        let bed = &bed;
        async move { hears(bed, &token).await }
    });
    assert!(join_all(calls).await.iter().all(|heard| *heard == REFUSED));
    assert_eq!(endpoint.requests(), before + 1);
    // Nor for a while after it, and then once.
    assert_eq!(hears(&bed, &unknown.token(&claims("ana"))).await, REFUSED);
    assert_eq!(endpoint.requests(), before + 1);
    tokio::time::sleep(pause).await;
    endpoint.set(Mood::Gives(key_set(&[&known, &unknown])));
    let calls = (0..200).map(|n| {
        let token = unknown.token(&crate::issuer::with(claims("ana"), "jti", json!(n)));
        let bed = &bed;
        async move { hears(bed, &token).await }
    });
    assert!(join_all(calls).await.iter().all(|heard| *heard == TAKEN), "all waited for the one that has it");
    assert_eq!(endpoint.requests(), before + 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn fault_10_known_keys_hold_whatever_the_endpoint_answers_and_unknown_ones_are_for_later() {
    let (known, unknown) = (SigningKey::ec("known"), SigningKey::ec("unknown"));
    let good = key_set(&[&known, &unknown]);
    let moods = [
        Mood::IsAway,
        Mood::Says("500 Internal Server Error", good.clone()),
        Mood::Says("404 Not Found", good.clone()),
        Mood::Says("204 No Content", String::new()),
        Mood::Says("200 OK", "<html>login</html>".to_owned()),
        Mood::Says("200 OK", "{\"keys\": []}".to_owned()),
        Mood::Redirects(good.clone()),
        Mood::Floods,
        Mood::Breaks,
        Mood::Hangs,
    ];
    // Each with a gateway of its own: the one that hangs takes its time.
    let cases = moods.into_iter().map(|mood| async {
        let what = format!("{mood:?}");
        let endpoint = Endpoint::start(Mood::Gives(key_set(&[&known]))).await;
        let bed = bed(&endpoint, TIMING).await;
        assert_eq!(hears(&bed, &known.token(&claims("ana"))).await, TAKEN);
        endpoint.set(mood);
        tokio::time::sleep(PAUSE).await;
        assert_eq!(hears(&bed, &unknown.token(&claims("ana"))).await, LATER, "{what}");
        // Another token, so that the key is needed.
        let another = crate::issuer::with(claims("ana"), "jti", json!("another"));
        assert_eq!(hears(&bed, &known.token(&another)).await, TAKEN, "{what}");
        let tries = endpoint.requests();
        assert_eq!(hears(&bed, &unknown.token(&claims("ana"))).await, LATER, "{what}");
        assert_eq!(endpoint.requests(), tries, "{what}: it is not asked again at once");
        endpoint.set(Mood::Gives(good.clone()));
        // It is tried again by itself.
        let token = unknown.token(&claims("ana"));
        let recovers = async {
            while hears(&bed, &token).await != TAKEN {
                tokio::time::sleep(PAUSE / 8).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(10), recovers).await.expect(&what);
    });
    join_all(cases).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn fault_10_an_endpoint_that_is_away_at_the_start_stops_nobody_else() {
    let key = SigningKey::ec("known");
    let endpoint = Endpoint::start(Mood::IsAway).await;
    let bed = bed(&endpoint, TIMING).await;
    assert_eq!(hears(&bed, &key.token(&claims("ana"))).await, LATER);
    endpoint.set(Mood::Gives(key_set(&[&key])));
    tokio::time::sleep(PAUSE * 2).await;
    assert_eq!(hears(&bed, &key.token(&claims("ana"))).await, TAKEN);
}

#[tokio::test(flavor = "multi_thread")]
async fn fault_10_known_keys_do_not_hold_for_ever() {
    let key = SigningKey::ec("known");
    let endpoint = Endpoint::start(Mood::Gives(key_set(&[&key]))).await;
    let keep = Duration::from_millis(1500);
    let bed = bed(&endpoint, KeyTiming { refresh: PAUSE, pause: PAUSE, keep }).await;
    endpoint.set(Mood::IsAway);
    assert_eq!(hears(&bed, &key.token(&claims("ana"))).await, TAKEN);
    tokio::time::sleep(keep + PAUSE).await;
    let another = crate::issuer::with(claims("ana"), "jti", json!("another"));
    assert_eq!(hears(&bed, &key.token(&another)).await, LATER);
}

#[tokio::test(flavor = "multi_thread")]
async fn fault_10_a_change_of_the_access_file_does_not_lose_the_keys() {
    let key = SigningKey::ec("known");
    let endpoint = Endpoint::start(Mood::Gives(key_set(&[&key]))).await;
    let bed = bed(&endpoint, TIMING).await;
    assert_eq!(hears(&bed, &key.token(&claims("ana"))).await, TAKEN);
    endpoint.set(Mood::IsAway);
    let changed = access(&endpoint, "eve").replace("audiences: [forebay]", "audiences: [forebay, more]");
    bed.rewrite(&changed);
    let token = key.token(&crate::issuer::with(claims("eve"), "aud", json!("more")));
    let follows = async {
        while hears(&bed, &token).await != TAKEN {
            tokio::time::sleep(PAUSE / 8).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), follows).await.unwrap();
    assert_eq!(hears(&bed, &key.token(&claims("ana"))).await, REFUSED, "she is not in the file any more");
}
