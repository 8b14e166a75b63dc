//! 14 to 21 at once, by a seed; and the proof of the check itself.

use super::*;

/// Capacity as DynamoDB has it: units a second, and a few saved.
struct Capacity {
    units: f64,
    filled_at: Instant,
}

impl Capacity {
    const PER_SECOND: f64 = 300.0;

    fn new() -> Self {
        Self { units: 0.0, filled_at: Instant::now() }
    }

    /// How many of so many items it has a unit for.
    fn take(&mut self, items: usize) -> usize {
        let earned = self.filled_at.elapsed().as_secs_f64() * Self::PER_SECOND;
        self.filled_at = Instant::now();
        self.units = (self.units + earned).min(Self::PER_SECOND);
        let taken = items.min(self.units as usize);
        self.units -= taken as f64;
        taken
    }
}

/// Every fault, and a table that is short of capacity. Only with `late` are calls done behind later ones.
fn any_fault(rng: &mut fastrand::Rng, capacity: &mut Capacity, call: &Call, late: bool) -> Fault {
    let items = call.items().len();
    match rng.u32(..40) {
        0 => return Fault::LoseAnswer,
        1 => return Fault::FailAfter,
        2 => return Fault::Reset,
        3 => return Fault::BlackHole,
        4 => return Fault::internal(),
        5 => return Fault::throttled("TableWriteKeyRangeThroughputExceeded"),
        6 => return Fault::refuse("ExpiredTokenException"),
        7 => return Fault::Slow(ATTEMPT_TIMEOUT / 3),
        8 if late => return Fault::ApplyLate(Duration::from_millis(rng.u64(10..1_500))),
        _ => {}
    }
    match capacity.take(items) {
        taken if taken == items => Fault::Pass,
        0 => Fault::throttled("TableWriteProvisionedThroughputExceeded"),
        // DynamoDB does not leave the last ones.
        taken => {
            let mut left: Vec<usize> = (0..items).collect();
            rng.shuffle(&mut left);
            left.truncate(items - taken);
            Fault::Part { left }
        }
    }
}

/// Puts of many keys and of few hot ones by one client, puts and deletes of the same keys in turn by another, under faults
/// of every kind and an outage.
async fn everything_at_once(seed: u64, ordered: bool) {
    let began = Instant::now();
    let bed = Bed::start().await;
    bed.table(ordered).await;
    let (mut rng, mut capacity) = (fastrand::Rng::with_seed(seed), Capacity::new());
    bed.proxy.script_writes(move |call| any_fault(&mut rng, &mut capacity, call, ordered));
    let book = Book::default();
    let mut writers = tokio::task::JoinSet::new();
    for id in 1..=2u64 {
        let mut writer = bed.writer(rows(), id as u32, &book).await;
        writers.spawn(async move {
            // In a table with an order each row is a call.
            let size = if ordered { 12 } else { 40 };
            for batch in 0..25u64 {
                let key = |number: u64| {
                    if id == 1 { format!("w{}", number * 7919 % 901) } else { format!("h{}", number % 9) }
                };
                let row = |number: u64| put(key(number), number * 10 + id);
                writer.send((batch * size + 1..=(batch + 1) * size).map(row).collect()).await.unwrap();
                tokio::time::sleep(Duration::from_millis(30)).await;
            }
            writer.finish().await.unwrap();
        });
    }
    let (client, turns) = (bed.client.clone(), book.clone());
    writers.spawn(async move {
        for turn in 0..4u64 {
            let mut puts = Verifier::open(&client, rows(), 3, &turns).await.unwrap();
            puts.send((0..40).map(|key| put(format!("t{}", turn % 2 * 20 + key), turn * 100 + 10)).collect())
                .await
                .unwrap();
            puts.finish().await.unwrap();
            let delete = |key: u64| {
                let row = delete(format!("t{}", turn % 2 * 20 + key));
                let values =
                    if ordered { vec![row.values[0].clone(), int((turn * 100 + 50) as i64)] } else { row.values };
                Row { values, effects: row.effects }
            };
            let options = rows().mode(WriteMode::Delete);
            let mut deletes = Verifier::open(&client, options, 3, &turns).await.unwrap();
            deletes.send((0..30).map(delete).collect()).await.unwrap();
            deletes.finish().await.unwrap();
        }
    });
    tokio::time::sleep(Duration::from_millis(400)).await;
    bed.proxy.set_away(true);
    tokio::time::sleep(Duration::from_millis(400)).await;
    bed.proxy.set_away(false);
    while let Some(ended) = tokio::time::timeout(Duration::from_secs(60), writers.join_next()).await.expect("an end") {
        ended.unwrap();
    }
    let fired = bed.proxy.fired();
    eprintln!("seed {seed}, ordered {ordered}, {:?}: {fired:?}", began.elapsed());
    assert!(fired.len() >= 6, "{fired:?}");
    let (sent, acked) = book.counts();
    assert_eq!(sent, acked);
    assert!(book.outcomes().is_empty(), "{:?}", book.outcomes());
    bed.check(&book, None).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn faults_14_to_21_together_lose_nothing() {
    everything_at_once(1, false).await;
    everything_at_once(1, true).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "minutes; one seed is in the fast suite"]
async fn faults_14_to_21_together_lose_nothing_over_ten_seeds() {
    for seed in 2..=11 {
        everything_at_once(seed, false).await;
        everything_at_once(seed, true).await;
    }
}

/// The proof that the check finds what it is for: a store that says more than it did stands for a gateway that acks too early,
/// or that does not look at what came back as unprocessed.
#[tokio::test(flavor = "multi_thread")]
async fn the_check_finds_rows_that_were_acked_and_are_not_there() {
    let whole = |_: &Call| Fault::Lie { left: None };
    let part = |call: &Call| Fault::Lie {
        left: (call.operation == "BatchWriteItem").then(|| (0..call.items().len()).step_by(3).collect()),
    };
    let lies: [fn(&Call) -> Fault; 2] = [whole, part];
    for lie in lies {
        let bed = Bed::start().await;
        bed.table(false).await;
        let book = Book::default();
        let mut writer = bed.writer(rows(), 1, &book).await;
        writer.send((0..100).map(|number| put(format!("k{number}"), number + 1)).collect()).await.unwrap();
        writer.flush().await.unwrap();
        bed.check(&book, None).await;
        bed.proxy.script_writes(lie);
        writer.send((50..150).map(|number| put(format!("k{number}"), number + 1_000)).collect()).await.unwrap();
        writer.finish().await.unwrap();
        let broken = bed.broken(&book, None).await;
        assert!(broken.iter().any(|broken| matches!(broken, Broken::Lost { .. })), "{broken:?}");
        assert!(broken.iter().any(|broken| matches!(broken, Broken::Older { .. })), "{broken:?}");
    }
}
