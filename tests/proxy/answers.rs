//! 16, 18, 19: what was written although its answer was lost, or is written late.

use super::*;

/// Every third write loses its answer, every fifth is done and called an internal error.
fn lose_answers(call: &Call) -> Fault {
    match (call.number % 3, call.number % 5) {
        (0, _) => Fault::LoseAnswer,
        (_, 0) => Fault::FailAfter,
        _ => Fault::Pass,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn fault_18_a_put_or_delete_whose_answer_is_lost_is_written_again() {
    for ordered in [false, true] {
        let bed = Bed::start().await;
        bed.table(ordered).await;
        bed.proxy.script_writes(lose_answers);
        let book = Book::default();
        let mut writer = bed.writer(rows(), 1, &book).await;
        for batch in 0..12u64 {
            let row = |number: u64| put(format!("k{}", number % 150), number + 1);
            writer.send((batch * 50..(batch + 1) * 50).map(row).collect()).await.unwrap();
        }
        writer.finish().await.unwrap();
        let mut deleter = bed.writer(rows().mode(WriteMode::Delete), 1, &book).await;
        let row = |number: u64| match ordered {
            false => delete(format!("k{}", number * 2)),
            // With the sequence, by which it goes before what comes later only.
            true => Row {
                values: vec![text(format!("k{}", number * 2)), int(1_000_000)],
                ..delete(format!("k{}", number * 2))
            },
        };
        deleter.send((0..60).map(row).collect()).await.unwrap();
        deleter.finish().await.unwrap();
        assert!(bed.proxy.fired()["lost answer"] > 1, "{:?}", bed.proxy.fired());
        assert!(book.outcomes().is_empty(), "{:?}", book.outcomes());
        let living = process::scan(&bed.embedded.endpoint_url(), "rows")
            .iter()
            .filter(|item| item.get("_deleted").is_none())
            .count();
        assert_eq!(living, 90, "ordered {ordered}");
        bed.check(&book, None).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn fault_18_a_merge_whose_answer_is_lost_is_written_again_and_leaves_other_columns_alone() {
    let bed = Bed::start().await;
    bed.create("id STRING NOT NULL, a BIGINT, b BIGINT", "").await;
    bed.proxy.script_writes(lose_answers);
    let book = Book::default();
    let mut both = [bed.writer(merges("a"), 1, &book).await, bed.writer(merges("b"), 2, &book).await];
    for batch in 0..12u64 {
        for (writer, name) in both.iter_mut().zip(["a", "b"]) {
            let row = |number: u64| merge(&format!("k{}", number % 40), name, number);
            writer.send((batch * 30 + 1..=(batch + 1) * 30).map(row).collect()).await.unwrap();
        }
    }
    for writer in both {
        writer.finish().await.unwrap();
    }
    assert!(bed.proxy.fired()["lost answer"] > 1, "{:?}", bed.proxy.fired());
    assert!(book.outcomes().is_empty(), "{:?}", book.outcomes());
    bed.check(&book, Some(&["a", "b"])).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn faults_16_and_18_all_kinds_of_writes_of_one_key_keep_their_order() {
    let bed = Bed::start().await;
    bed.create("id STRING NOT NULL, a BIGINT, b BIGINT", "").await;
    let mut rng = fastrand::Rng::with_seed(18);
    bed.proxy.script_writes(move |call| match rng.u32(..3) {
        0 if call.operation == "BatchWriteItem" => {
            Fault::Part { left: (0..call.items().len()).filter(|_| rng.bool()).collect() }
        }
        1 => Fault::LoseAnswer,
        _ => Fault::Pass,
    });
    let schema = columns(&[
        ("op", v1::PrimitiveType::String),
        ("id", v1::PrimitiveType::String),
        ("a", v1::PrimitiveType::Long),
        ("b", v1::PrimitiveType::Long),
    ]);
    let book = Book::default();
    let mut writer = bed.writer(rows().op_column("op").columns(schema), 1, &book).await;
    let mut rng = fastrand::Rng::with_seed(180);
    let mut version = 0;
    for _ in 0..15 {
        let mut batch = Vec::new();
        for _ in 0..40 {
            version += 1;
            let key = format!("k{}", rng.u32(..12));
            let mut some = |chance: u32| (rng.u32(..chance) > 0).then_some(version);
            let (op, a, b) = match version % 5 {
                0 => ("delete", None, None),
                1 => ("put", Some(version), some(2)),
                _ => ("merge", some(3), some(3)),
            };
            let value = |version: Option<u64>| version.map_or_else(null, |version| int(version as i64));
            let effect = |column: &str, version: Option<u64>| {
                (format!("{key}/{column}"), version.map_or(Effect::Delete, Effect::Put))
            };
            let effects = vec![effect("a", a), effect("b", b)];
            batch.push(Row { values: vec![text(op), text(key.clone()), value(a), value(b)], effects });
        }
        writer.send(batch).await.unwrap();
    }
    writer.finish().await.unwrap();
    let fired = bed.proxy.fired();
    assert!(fired["part"] > 1 && fired["lost answer"] > 1, "{fired:?}");
    assert!(book.outcomes().is_empty(), "{:?}", book.outcomes());
    bed.check(&book, Some(&["a", "b"])).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn fault_18_an_insert_whose_answer_is_lost_does_not_take_itself_for_another() {
    for ordered in [false, true] {
        let bed = Bed::start().await;
        bed.table(ordered).await;
        let book = Book::default();
        let mut before = bed.writer(rows(), 1, &book).await;
        before.send(vec![put("taken", 1)]).await.unwrap();
        before.finish().await.unwrap();
        bed.proxy.script_writes(lose_answers);
        let mut writer = bed.writer(rows().mode(WriteMode::Insert), 2, &book).await;
        let mut sent: Vec<Row> = (0..200).map(|number| put(format!("k{number}"), number + 10)).collect();
        sent.push(put("taken", 5));
        writer.send(sent).await.unwrap();
        let receipt = writer.finish().await.unwrap();
        assert!(bed.proxy.fired()["lost answer"] > 10, "{:?}", bed.proxy.fired());
        assert_eq!((receipt.committed_rows, receipt.rejected_rows), (200, 1), "ordered {ordered}");
        let outcomes = book.outcomes();
        assert_eq!((outcomes.len(), outcomes[0].row, outcomes[0].status), (1, 200, RowStatus::Rejected));
        bed.check(&book, None).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn fault_19_a_late_apply_never_overtakes_in_a_table_with_an_order() {
    let bed = Bed::start().await;
    bed.table(true).await;
    let mut rng = fastrand::Rng::with_seed(19);
    bed.proxy.script_writes(move |_| match rng.u32(..5) {
        0 => Fault::ApplyLate(Duration::from_millis(rng.u64(20..900))),
        _ => Fault::Pass,
    });
    let book = Book::default();
    let mut writers = Vec::new();
    // Two writers of the same keys: which version is the newest is not a matter of arrival.
    for id in 0..2u64 {
        let mut writer = bed.writer(rows(), id as u32, &book).await;
        writers.push(tokio::spawn(async move {
            for batch in 0..10u64 {
                let row = |number: u64| put(format!("k{}", number % 40), number * 2 + id + 1);
                writer.send((batch * 60..(batch + 1) * 60).map(row).collect()).await.unwrap();
                tokio::time::sleep(Duration::from_millis(40)).await;
            }
            writer.finish().await.unwrap()
        }));
    }
    for writer in writers {
        writer.await.unwrap();
    }
    assert!(bed.proxy.fired()["late"] > 5, "{:?}", bed.proxy.fired());
    bed.check(&book, None).await;
    let (sent, acked) = book.counts();
    assert_eq!(sent, acked);
    // Stricter than the history is: the greatest of both writers.
    for item in process::scan(&bed.embedded.endpoint_url(), "rows") {
        let key: u64 = item["id"]["S"].as_str().unwrap()[1..].parse().unwrap();
        let stored: u64 = item["v"]["N"].as_str().unwrap().parse().unwrap();
        let greatest = (0..600).rev().find(|number| number % 40 == key).unwrap() * 2 + 2;
        assert_eq!(stored, greatest, "k{key}");
    }
}
