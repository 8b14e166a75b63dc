//! 13, 17, 21, 22, 26: DynamoDB, its table, access to it, or the client is gone.

use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn faults_13_and_17_an_outage_bounds_the_memory_and_ends_within_five_seconds() {
    let bed = Bed::with(settings(|config| config.memory_mib = Some(64))).await;
    bed.create("id STRING NOT NULL, v BIGINT NOT NULL, pad STRING", "").await;
    let book = Book::default();
    let mut writer = bed.writer(rows(), 1, &book).await;
    let padded = |number: u64| {
        let mut row = put(format!("k{}", number % 5_000), number);
        row.values.push(text("x".repeat(1_000)));
        row
    };
    writer.send((0..500).map(padded).collect()).await.unwrap();
    writer.flush().await.unwrap();
    bed.proxy.set_away(true);
    let acked = book.counts().1;
    let feeder = tokio::spawn(async move {
        for batch in 1..60 {
            writer.send((batch * 500..(batch + 1) * 500).map(padded).collect()).await.unwrap();
        }
        writer.finish().await.unwrap()
    });
    let began = Instant::now();
    let (instruments, mut most) = (bed.gateway.instruments().clone(), 0);
    while bed.is_ready().await || began.elapsed() < Duration::from_millis(1_500) {
        assert!(began.elapsed() < Duration::from_secs(15), "still ready");
        most = most.max(instruments.reserved_bytes.get());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(book.counts().1, acked, "no ack during the outage");
    assert!(most > 0 && most <= 64 * 1024 * 1024, "{most} bytes");
    bed.proxy.set_away(false);
    let back = Instant::now();
    eventually("acks again", || book.counts().1 > acked).await;
    assert!(back.elapsed() <= Duration::from_secs(5), "{:?}", back.elapsed());
    assert_eq!(feeder.await.unwrap().rows, 30_000);
    bed.check(&book, None).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn fault_21_credentials_that_come_back_in_time_end_no_session() {
    let bed = Bed::start().await;
    bed.table(false).await;
    let mut left = 4;
    bed.proxy.script_writes(move |_| {
        left -= 1;
        if left >= 0 { Fault::refuse("ExpiredTokenException") } else { Fault::Pass }
    });
    let book = Book::default();
    let mut writer = bed.writer(rows(), 1, &book).await;
    writer.send((0..25).map(|number| put(format!("k{number}"), number + 1)).collect()).await.unwrap();
    let receipt = writer.finish().await.unwrap();
    assert_eq!((receipt.committed_rows, receipt.calls, book.reconnects()), (25, 1, 0));
    bed.check(&book, None).await;

    // Refused for good: the session ends, and with it the retries.
    bed.proxy.script(|_| Fault::refuse("AccessDeniedException"));
    let mut writer = bed.writer(rows().retry_for(Duration::from_millis(500)), 2, &book).await;
    writer.send(vec![put("refused", 1)]).await.unwrap();
    let error = writer.finish().await.unwrap_err();
    assert!(error.to_string().contains("DynamoDB refuses access"), "{error}");
    let began = Instant::now();
    while bed.is_ready().await {
        assert!(began.elapsed() < Duration::from_secs(15), "still ready");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    bed.proxy.pass();
    bed.check(&book, None).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn fault_22_a_deleted_table_ends_its_sessions_without_endless_retries() {
    for ordered in [false, true] {
        let bed = Bed::start().await;
        bed.table(ordered).await;
        let book = Book::default();
        let mut writer = bed.writer(rows(), 1, &book).await;
        writer.send(vec![put("k", 1)]).await.unwrap();
        writer.flush().await.unwrap();
        let direct = DynamoDb::connect(&bed.embedded.store_config()).await.unwrap();
        direct.delete_table("rows").await.unwrap();
        writer.send((0..100).map(|number| put(format!("k{number}"), 2)).collect()).await.unwrap();
        let error = writer.finish().await.unwrap_err();
        let ClientError::Refused { code, reason, .. } = &error else { panic!("{error}") };
        assert_eq!((*code, reason.as_str()), (Code::FailedPrecondition, "DYNAMODB_TABLE_MISSING"));
        eventually("no row waits", || bed.gateway.instruments().queued_rows.get() == 0).await;
        bed.proxy.settled().await;
        let writes = bed.proxy.writes();
        tokio::time::sleep(Duration::from_millis(500)).await;
        assert_eq!(bed.proxy.writes(), writes, "no retry for nobody");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn fault_26_what_a_client_that_is_gone_had_in_flight_stays_and_the_rest_is_dropped() {
    let bed = Bed::with(settings(|config| config.attempts_in_flight = Some(2))).await;
    bed.table(false).await;
    bed.proxy.script_writes(|_| Fault::Slow(Duration::from_millis(100)));
    let book = Book::default();
    let mut writer = bed.writer(rows(), 1, &book).await;
    for batch in 0..10u64 {
        let row = |number: u64| put(format!("k{number}"), number + 1);
        writer.send((batch * 500..(batch + 1) * 500).map(row).collect()).await.unwrap();
    }
    let instruments = bed.gateway.instruments().clone();
    eventually("rows wait", || instruments.queued_rows.get() > 2_000 && bed.proxy.writes() > 3).await;
    drop(writer);
    eventually("nothing is left of it", || instruments.sessions.get() == 0 && instruments.queued_rows.get() == 0).await;
    bed.proxy.settled().await;
    let writes = bed.proxy.writes();
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert_eq!(bed.proxy.writes(), writes, "what waited is never written");
    let stored = process::scan(&bed.embedded.endpoint_url(), "rows").len();
    assert!((50..4_000).contains(&stored), "{stored} rows stored");
    bed.check(&book, None).await;
}
