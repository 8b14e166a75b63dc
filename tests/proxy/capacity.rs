//! 14, 15, 16: short of capacity, in one partition, in the table, or for some items.

use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn fault_14_one_hot_partition_holds_up_its_own_rows_only() {
    for ordered in [false, true] {
        let bed = Bed::start().await;
        bed.table(ordered).await;
        bed.proxy.script_writes(|call| {
            let items = call.items();
            let hot: Vec<usize> = (0..items.len()).filter(|&index| is_of(items[index], "hot")).collect();
            match hot.len() {
                0 => Fault::Pass,
                some if some == items.len() => Fault::throttled("TableWriteKeyRangeThroughputExceeded"),
                _ => Fault::Part { left: hot },
            }
        });
        let book = Book::default();
        let (mut hot, mut cool) = (bed.writer(rows(), 1, &book).await, bed.writer(rows(), 2, &book).await);
        hot.send((0..20).map(|number| put("hot", number + 1)).collect()).await.unwrap();
        // In a table with an order each row is a call, and the emulator does one after the other.
        let size = if ordered { 10 } else { 100 };
        for batch in 0..20u64 {
            let row = |number: u64| put(format!("cool{}", number % 700), number + 1);
            cool.send((batch * size..(batch + 1) * size).map(row).collect()).await.unwrap();
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        cool.finish().await.unwrap();
        assert_eq!(book.acks(1), [], "the hot partition is still throttled");
        let mut latencies: Vec<Duration> = book.acks(2).into_iter().map(|ack| ack.1).collect();
        latencies.sort_unstable();
        // Far below what it would take to wait for the hot ones, and far above what a busy machine does to it.
        assert!(latencies[10] < Duration::from_secs(5), "ordered {ordered}: {latencies:?}");
        bed.proxy.pass();
        hot.finish().await.unwrap();
        let fired = bed.proxy.fired();
        assert!(fired["ProvisionedThroughputExceededException"] > 2, "{fired:?}");
        bed.check(&book, None).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn fault_15_a_throttled_table_is_asked_less_and_named_with_its_index() {
    let bed = Bed::start().await;
    bed.table(false).await;
    let index = ("IndexWriteProvisionedThroughputExceeded", "arn:aws:dynamodb:us-east-1:1:table/rows/index/by_v");
    bed.proxy.script_writes(move |call| match call.number % 4 {
        0 => Fault::Pass,
        _ => Fault::Refuse { status: 400, kind: "ProvisionedThroughputExceededException", reasons: vec![index] },
    });
    let book = Book::default();
    let mut writer = bed.writer(rows(), 1, &book).await;
    for batch in 0..30u64 {
        let row = |number: u64| put(format!("k{}", number % 2_000), number + 1);
        writer.send((batch * 200..(batch + 1) * 200).map(row).collect()).await.unwrap();
    }
    let instruments = bed.gateway.instruments().clone();
    let window = || {
        let label = TableLabel { dynamodb_table: "rows".to_owned() };
        instruments.window.get_or_create(&label).get()
    };
    eventually("the window shrinks", || (1..16).contains(&window())).await;
    bed.proxy.pass();
    writer.finish().await.unwrap();
    let throttle = ThrottleLabel { dynamodb_table: "rows".to_owned(), index: "by_v".to_owned(), reason: "provisioned" };
    assert!(instruments.throttles.get_or_create(&throttle).get() > 0);
    bed.check(&book, None).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn fault_16_only_unprocessed_items_are_sent_again() {
    let bed = Bed::start().await;
    bed.table(false).await;
    let done: Arc<Mutex<BTreeMap<String, u32>>> = Arc::default();
    let (count, mut rng) = (Arc::clone(&done), fastrand::Rng::with_seed(16));
    bed.proxy.script_writes(move |call| {
        let items = call.items();
        let left: Vec<usize> = match call.operation.as_str() {
            "BatchWriteItem" => (0..items.len()).filter(|_| rng.u32(..3) == 0).collect(),
            _ => Vec::new(),
        };
        let mut count = count.lock().unwrap();
        for (index, item) in items.iter().enumerate() {
            if !left.contains(&index) {
                *count.entry(item.to_string()).or_default() += 1;
            }
        }
        if left.is_empty() { Fault::Pass } else { Fault::Part { left } }
    });
    let book = Book::default();
    let mut writer = bed.writer(rows(), 1, &book).await;
    for batch in 0..10u64 {
        let row = |number: u64| put(format!("k{}", number % 400), number + 1);
        writer.send((batch * 100..(batch + 1) * 100).map(row).collect()).await.unwrap();
    }
    writer.finish().await.unwrap();
    assert!(bed.proxy.fired()["part"] > 5, "{:?}", bed.proxy.fired());
    let done = done.lock().unwrap().clone();
    let again: Vec<_> = done.iter().filter(|(_, times)| **times > 1).collect();
    assert!(again.is_empty(), "written twice: {again:?}");
    bed.check(&book, None).await;
}
