//! Faults 9 and 35: a token that expires, a key and a grant that are taken away, while a stream is open.

use std::sync::Arc;
use std::time::Duration;

use forebay::client::{ConnectOptions, OpenOptions, Token};
use forebay::proto::v1::{self, DrainReason, write_response::Message as Answer};
use serde_json::json;
use tokio::time::Instant;
use tonic::{Code, Status};

use crate::bed::{Bed, Caller, RELOAD, api_key, issuer_line, key_line, said, some_rows};
use crate::gateway::{eventually, open, text};
use crate::issuer::{SigningKey, claims, in_seconds, key_set, with};
use crate::scripted_store::{Fate, ScriptedStore};

/// Every row of a batch of a stream has this many rows.
const ROWS: i64 = 3;

/// What a stream that was written to until its end has seen.
struct Seen {
    opened_at: Instant,
    /// When, why, and how long the call is still served.
    drains: Vec<(Instant, DrainReason, Duration)>,
    /// When, and through which batch.
    acks: Vec<(Instant, u64)>,
    end: Status,
    ended_at: Instant,
}

/// Writes batch after batch until the call ends.
async fn write_until_the_end(caller: &Caller, name: &str, mut meanwhile: impl FnMut(u64)) -> Seen {
    let mut session = caller.open(open("rows")).await.unwrap();
    let opened_at = Instant::now();
    let (mut drains, mut acks, mut sent) = (Vec::new(), Vec::new(), 0);
    let mut pace = tokio::time::interval(Duration::from_millis(20));
    loop {
        let answer = tokio::select! {
            answer = session.next() => answer,
            _ = pace.tick() => {
                sent += 1;
                session.send_rows(sent, some_rows(&format!("{name}{sent}"), ROWS)).await;
                meanwhile(sent);
                continue;
            }
        };
        match answer {
            Ok(Some(Answer::Ack(ack))) => acks.push((Instant::now(), ack.committed_through)),
            Ok(Some(Answer::Drain(drain))) => {
                let left = Duration::try_from(drain.deadline.unwrap()).unwrap();
                drains.push((Instant::now(), drain.reason(), left));
            }
            Ok(Some(other)) => panic!("{other:?}"),
            Ok(None) => panic!("a stream without Finish ended well"),
            Err(end) => return Seen { opened_at, drains, acks, end, ended_at: Instant::now() },
        }
    }
}

/// Nothing that was acked is missing, and nothing that was taken is unacked.
fn acks_are_honest(bed: &Bed, store: &ScriptedStore, name: &str, seen: &Seen) {
    let acked = seen.acks.last().expect("an ack").1;
    let stored = store.items("rows");
    for batch in 1..=acked {
        let rows = stored.keys().filter(|key| key.contains(&format!("\"{name}{batch}\""))).count();
        assert_eq!(rows, ROWS as usize, "batch {batch} of {acked}");
    }
    assert_eq!(bed.gateway.instruments().batches.get(), acked, "every batch that was taken is acked");
}

/// A store whose calls take a while, so that rows are always in flight.
fn slow_store() -> Arc<ScriptedStore> {
    ScriptedStore::with(|_| Fate::Written.after(Duration::from_millis(300)))
}

#[tokio::test(flavor = "multi_thread")]
async fn fault_9_a_token_that_expires_drains_its_stream_and_acks_what_it_took() {
    let key = SigningKey::ec("e1");
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("keys.json"), key_set(&[&key])).unwrap();
    let keys = format!("jwks_file: {}", folder.path().join("keys.json").display());
    let access = format!(
        "principals:\n  ana: {{write: [rows], read: [rows]}}\n  all: {{admin: [\"*\"]}}\napi_keys:\n{}issuers:\n{}",
        key_line("all", "all"),
        issuer_line(&keys)
    );
    let store = slow_store();
    let bed = Bed::over(store.clone(), &access).await;
    bed.caller(&api_key("all")).create("rows").await;
    // Clocks may be half a minute apart: that much of it is past.
    let caller = bed.caller(&key.token(&with(claims("ana"), "exp", json!(in_seconds(-30 + 4)))));
    let seen = write_until_the_end(&caller, "row", |_| {}).await;

    assert_eq!(said(&seen.end), (Code::Unauthenticated, "UNAUTHENTICATED".to_owned()), "{}", seen.end);
    let [(drained_at, DrainReason::TokenExpiry, left)] = seen.drains[..] else { panic!("{:?}", seen.drains) };
    let expires_at = drained_at + left;
    let lived = expires_at - seen.opened_at;
    assert!(lived > Duration::from_secs(2) && lived < Duration::from_secs(5), "{lived:?}");
    assert!(left <= lived / 3 && left >= lived / 6, "a quarter of {lived:?} before: {left:?}");
    assert!(seen.ended_at >= expires_at, "what comes before the end is still taken");
    let after = seen.acks.iter().filter(|(at, _)| *at > expires_at).count();
    assert!(after > 0, "what was in flight is acked: {:?}, {expires_at:?}", seen.acks.last());
    acks_are_honest(&bed, &store, "row", &seen);

    let again = caller.open(open("rows")).await.map(drop).unwrap_err();
    assert_eq!(said(&again), (Code::Unauthenticated, "UNAUTHENTICATED".to_owned()));
}

#[tokio::test(flavor = "multi_thread")]
async fn fault_9_a_writer_whose_token_file_has_a_new_token_goes_on_without_a_gap() {
    let key = SigningKey::ec("e1");
    let access = format!(
        "principals:\n  ana: {{write: [rows], admin: [rows]}}\nissuers:\n{}",
        issuer_line("jwks_file: keys.json")
    );
    let bed = Bed::start(&access, &[("keys.json", key_set(&[&key]))]).await;
    let lives_for = |seconds: i64| key.token(&with(claims("ana"), "exp", json!(in_seconds(-30 + seconds))));
    bed.caller(&lives_for(3)).create("rows").await;
    let file = bed.path("token");
    std::fs::write(&file, lives_for(3)).unwrap();
    let client = ConnectOptions::new(bed.gateway.endpoint()).token(Token::file(&file)).connect().unwrap();
    let mut writer = client.writer(OpenOptions::new("rows")).await.unwrap();
    let until = Instant::now() + Duration::from_secs(4);
    let mut batches = 0;
    while Instant::now() < until {
        if batches == 10 {
            std::fs::write(&file, lives_for(600)).unwrap();
        }
        writer.send_rows(some_rows(&format!("row{batches}"), ROWS)).await.unwrap();
        batches += 1;
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let receipt = writer.finish().await.unwrap();
    assert_eq!((receipt.batches, receipt.calls), (batches, 2));
    assert_eq!(receipt.committed_rows, batches * ROWS as u64);
}

#[tokio::test(flavor = "multi_thread")]
async fn fault_35_a_writer_whose_key_is_revoked_says_so_and_what_was_acked_is_there() {
    let access = |keys: &str| format!("principals:\n  ana: {{write: [rows], admin: [rows]}}\napi_keys:\n{keys}");
    let bed = Bed::start(&access(&(key_line("old", "ana") + &key_line("new", "ana"))), &[]).await;
    bed.caller(&api_key("new")).create("rows").await;
    let connect = ConnectOptions::new(bed.gateway.endpoint());
    let client = connect.token(Token::fixed(api_key("old"))).connect().unwrap();
    let mut writer = client.writer(OpenOptions::new("rows")).await.unwrap();
    writer.send_rows(some_rows("row", ROWS)).await.unwrap();
    assert_eq!(writer.flush().await.unwrap().committed_rows, ROWS as u64);
    bed.rewrite(&access(&key_line("new", "ana")));
    let fails = async {
        loop {
            tokio::time::sleep(Duration::from_millis(20)).await;
            if let Err(error) = writer.send_rows(some_rows("more", 1)).await {
                return error;
            }
        }
    };
    let error = tokio::time::timeout(Duration::from_secs(10), fails).await.unwrap();
    assert_eq!(error.to_string(), "the credential is not accepted (UNAUTHENTICATED)");
}

#[tokio::test(flavor = "multi_thread")]
async fn fault_35_a_key_or_a_grant_that_is_taken_away_ends_the_streams_that_were_opened_by_it() {
    let access = |principals: &str, keys: &[&str]| {
        let keys: String = keys.iter().map(|id| key_line(id, id)).collect();
        format!("principals:\n  all: {{admin: [\"*\"]}}\n{principals}api_keys:\n{keys}")
    };
    let both = "  ana: {write: [rows]}\n  bob: {write: [rows], read: [rows]}\n";
    let before = access(both, &["all", "ana", "bob"]);
    let cases = [
        ("the key", access(both, &["all", "bob"]), Code::Unauthenticated, "UNAUTHENTICATED"),
        (
            "the grant",
            access("  ana: {write: [other], read: [rows]}\n  bob: {write: [rows]}\n", &["all", "ana", "bob"]),
            Code::PermissionDenied,
            "TABLE_DENIED",
        ),
        (
            "every grant",
            access("  ana: {}\n  bob: {write: [rows]}\n", &["all", "ana", "bob"]),
            Code::PermissionDenied,
            "TABLE_DENIED",
        ),
    ];
    for (what, after, code, reason) in cases {
        let store = slow_store();
        let bed = Bed::over(store.clone(), &before).await;
        bed.caller(&api_key("all")).create("rows").await;
        let mut bobs = bed.caller(&api_key("bob")).open(open("rows")).await.unwrap();
        let ana = bed.caller(&api_key("ana"));
        let mut rewritten_at = Instant::now();
        let seen = write_until_the_end(&ana, "row", |sent| {
            if sent == 20 {
                bed.rewrite(&after);
                rewritten_at = Instant::now();
            }
        })
        .await;
        assert_eq!(said(&seen.end), (code, reason.to_owned()), "{what}: {}", seen.end);
        let [(drained_at, DrainReason::Revoked, _)] = seen.drains[..] else { panic!("{what}: {:?}", seen.drains) };
        let took = drained_at - rewritten_at;
        // A look, and a second one that finds the same.
        assert!(took < RELOAD + Duration::from_secs(1), "{what}: {took:?}");
        assert!(seen.acks.last().unwrap().0 > drained_at, "{what}: what was in flight is acked");
        acks_are_honest(&bed, &store, "row", &seen);
        assert_eq!(said(&ana.open(open("rows")).await.map(drop).unwrap_err()).0, code, "{what}");
        // Bob is not concerned.
        bobs.send_rows(1, some_rows("bob", 1)).await;
        assert!(matches!(bobs.next().await.unwrap(), Some(Answer::Ack(ack)) if ack.committed_through == 1), "{what}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn fault_35_a_range_ends_where_its_reader_may_not_read_any_more() {
    let access = |read: &str| {
        format!(
            "principals:\n  ana: {{write: [rows], read: [{read}], admin: [rows]}}\napi_keys:\n{}",
            key_line("ana", "ana")
        )
    };
    let bed = Bed::start(&access("rows"), &[]).await;
    let ana = bed.caller(&api_key("ana"));
    let key = v1::Key { partition: vec!["id".to_owned()], sort: vec!["at".to_owned()], ..v1::Key::default() };
    let ddl = "id STRING NOT NULL, at BIGINT NOT NULL, note STRING".to_owned();
    let table = v1::Table { name: "rows".to_owned(), ddl, key: Some(key), ..v1::Table::default() };
    ana.tables().apply_table(v1::ApplyTableRequest { table: Some(table), dry_run: false }).await.unwrap();
    // Several messages, more than the windows of HTTP/2 hold.
    for batch in 0..8 {
        let rows = (0..20).map(|row| {
            let values = vec![text("k"), crate::gateway::int(batch * 20 + row), text("x".repeat(100_000))];
            v1::Row { values }
        });
        let payload = Some(v1::write_rows_request::Payload::Rows(v1::RowBatch { rows: rows.collect() }));
        let request = v1::WriteRowsRequest { open: Some(open("rows")), payload, ..v1::WriteRowsRequest::default() };
        ana.ingest().write_rows(request).await.unwrap();
    }
    let partition = Some(v1::RowKey { values: vec![text("k")] });
    let request = v1::ReadRangeRequest { table: "rows".to_owned(), partition, ..v1::ReadRangeRequest::default() };
    let mut range = ana.read().read_range(request).await.unwrap().into_inner();
    assert!(range.message().await.unwrap().is_some());
    bed.rewrite(&access("other"));
    let instruments = Arc::clone(bed.gateway.instruments());
    let label = forebay::telemetry::instruments::OutcomeLabel { outcome: "applied" };
    eventually("the file is read", || instruments.access_reloads.get_or_create(&label).get() == 1).await;
    let end = async {
        let mut messages = 1;
        loop {
            match range.message().await {
                Ok(Some(_)) => messages += 1,
                Ok(None) => panic!("it came to its end after {messages} messages"),
                Err(status) => return status,
            }
        }
    };
    let status = end.await;
    assert_eq!(said(&status), (Code::PermissionDenied, "TABLE_DENIED".to_owned()));
    assert_eq!(status.message(), "no permission to read the table `rows`");
}
