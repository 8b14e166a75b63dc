//! 30 with the store behind a proxy that loses answers.

use super::*;

/// What a writer of [`survives_kills`] sends: its options, and its rows by their number.
type Writes = (OpenOptions, fn(u64) -> Row);

/// The gateway is a process that is killed twice, with its DynamoDB behind a proxy that loses answers all the while.
async fn survives_kills(sequence_by: &str, ddl: &str, columns: Option<&[&str]>, writes: Vec<Writes>, batches: u64) {
    let embedded = Embedded::start(None).unwrap();
    let proxy = FaultProxy::start(&embedded.endpoint_url()).await;
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("forebay.yaml");
    std::fs::write(&config, format!("write_attempt_timeout_seconds: {}\n", ATTEMPT_TIMEOUT.as_secs_f64())).unwrap();
    let settings = [("FOREBAY_LOG", "warn"), ("FOREBAY_CONFIG", config.to_str().unwrap())];
    let mut served = Served::start_before(&proxy.endpoint_url(), &settings).await;
    let client = client::connect(&served.endpoint()).unwrap();
    create(&client, ddl, sequence_by).await;
    proxy.script_writes(|call| match call.number % 17 {
        0 => Fault::LoseAnswer,
        1 => Fault::BlackHole,
        2 => Fault::FailAfter,
        _ => Fault::Pass,
    });
    let book = Book::default();
    let mut writers = tokio::task::JoinSet::new();
    for (id, (options, row)) in (1..).zip(writes) {
        let mut writer = Verifier::open(&client, options, id, &book).await.unwrap();
        writers.spawn(async move {
            for batch in 0..batches {
                writer.send((batch * 250 + 1..=(batch + 1) * 250).map(row).collect()).await.unwrap();
            }
            writer.finish().await.unwrap();
        });
    }
    for kill in 1..=2 {
        let enough = book.counts().1 + 400;
        let flows = async {
            loop {
                let (sent, acked) = book.counts();
                if acked >= enough && sent - acked >= UNACKED_AT_KILL {
                    return;
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(60), flows).await.expect("rows flow");
        served.kill();
        assert_eq!(broken(&proxy, &embedded, &book, columns).await, [], "after kill {kill}");
        served.restart().await;
    }
    while let Some(ended) = writers.join_next().await {
        ended.unwrap();
    }
    assert!(book.reconnects() >= 2, "{} reconnects", book.reconnects());
    let (sent, acked) = book.counts();
    assert_eq!(sent, acked);
    assert_eq!(broken(&proxy, &embedded, &book, columns).await, []);
}

#[tokio::test(flavor = "multi_thread")]
async fn fault_30_acked_merges_and_coalesced_rows_survive_kills_behind_lost_answers() {
    let ddl = "id STRING NOT NULL, a BIGINT, b BIGINT";
    let writes: Vec<Writes> = vec![
        (merges("a"), |number| merge(&format!("k{}", number % 997), "a", number)),
        (merges("b"), |number| merge(&format!("k{}", number % 13), "b", number)),
    ];
    survives_kills("", ddl, Some(&["a", "b"]), writes, 16).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn fault_30_acked_rows_of_a_table_with_an_order_survive_kills_behind_lost_answers() {
    let writes: Vec<Writes> = vec![
        (rows(), |number| put(format!("w{}", number % 1_499), number)),
        (rows(), |number| put(format!("h{}", number % 11), number)),
    ];
    survives_kills("v", "id STRING NOT NULL, v BIGINT NOT NULL", None, writes, 16).await;
}
