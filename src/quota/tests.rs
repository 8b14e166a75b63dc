use std::collections::{BTreeMap, HashSet};
use std::num::NonZeroU32;
use std::time::SystemTime;

use proptest::prelude::*;
use tokio::sync::watch;
use tokio::time::{sleep, timeout};

use super::*;
use crate::access::{Credential, Glob, Grants, Identity, Limits, Principal, TableLimits};

fn rate(per_second: u32, burst: u32) -> Rate {
    Rate { per_second: per_second.try_into().unwrap(), burst: burst.try_into().unwrap() }
}

fn writes(rate: Rate) -> Limits {
    Limits { write_rows: Some(rate), ..Limits::default() }
}

fn weighs(weight: u32) -> Limits {
    Limits { weight: weight.try_into().unwrap(), ..Limits::default() }
}

fn table(write_rows: Rate) -> TableLimits {
    let tables = Glob::try_new("*").unwrap();
    TableLimits { tables, write_rows: Some(write_rows), write_kib: None, read_rows: None }
}

fn policy(principals: &[(&str, Limits)], table_limits: Vec<TableLimits>) -> Arc<Policy> {
    let principal = |&(name, limits): &(&str, Limits)| {
        let name: Arc<str> = name.into();
        (Arc::clone(&name), Arc::new(Principal { name, grants: Grants::default(), limits, operator: false }))
    };
    let principals = principals.iter().map(principal).collect();
    Arc::new(Policy { principals, table_limits, ..Policy::default() })
}

fn caller(name: &str, policy: &PolicyWatch) -> Caller {
    let credential = Credential::Certificate { names: Arc::from([]) };
    Caller::known(Identity { principal: name.into(), credential, expires_at: None::<SystemTime> }, policy.clone())
}

/// Quotas, the way to change them, and a caller for each principal.
struct World {
    quotas: Quotas,
    policy: watch::Sender<Arc<Policy>>,
    watch: PolicyWatch,
}

impl World {
    fn new(principals: &[(&str, Limits)], tables: Vec<TableLimits>) -> Self {
        let (sender, watch) = watch::channel(policy(principals, tables));
        Self { quotas: Quotas::new(), policy: sender, watch }
    }

    fn caller(&self, name: &str) -> Caller {
        caller(name, &self.watch)
    }

    async fn write(&self, name: &str, table: &str, rows: u32) -> Result<(), TooDear> {
        self.quotas.acquire(Usage::Write, &self.caller(name), table, Cost { rows, bytes: 0 }).await
    }

    fn try_write(&self, name: &str, table: &str, rows: u32) -> Result<(), Refusal> {
        self.quotas.try_acquire(Usage::Write, &self.caller(name), &[(table, Cost { rows, bytes: 0 })])
    }

    /// A task that writes so many rows once, and the time that it took.
    fn spawn(&self, name: &str, table: &str, rows: u32) -> tokio::task::JoinHandle<Duration> {
        let (quotas, caller, table) = (self.quotas.clone(), self.caller(name), table.to_owned());
        tokio::spawn(async move {
            let began = Instant::now();
            quotas.acquire(Usage::Write, &caller, &table, Cost { rows, bytes: 0 }).await.unwrap();
            began.elapsed()
        })
    }
}

async fn settle() {
    for _ in 0..10 {
        tokio::task::yield_now().await;
    }
}

fn about(found: Duration, expected_ms: u64) {
    // The timer wheel has milliseconds.
    let found = found.as_secs_f64() * 1e3;
    assert!((found - expected_ms as f64).abs() <= 3.0, "{found} ms; expected {expected_ms} ms");
}

#[tokio::test(start_paused = true)]
async fn a_stream_goes_at_its_rate_after_its_burst() {
    let world = World::new(&[("p", writes(rate(1000, 1000)))], vec![]);
    let began = Instant::now();
    for _ in 0..6 {
        world.write("p", "t", 500).await.unwrap();
    }
    about(began.elapsed(), 2000);
}

#[tokio::test(start_paused = true)]
async fn bytes_are_limited_in_kib_of_each_batch_rounded_up() {
    let limits = Limits { write_kib: Some(rate(10, 10)), ..Limits::default() };
    let world = World::new(&[("p", limits)], vec![]);
    let write =
        |bytes| world.quotas.try_acquire(Usage::Write, &caller("p", &world.watch), &[("t", Cost { rows: 1, bytes })]);
    for _ in 0..5 {
        write(1025).unwrap();
    }
    let Err(Refusal::UsedUp(used_up)) = write(1) else { panic!("ten are used up") };
    assert_eq!((used_up.limit, used_up.retry_after), ("write_kib", Duration::from_millis(100)));
}

#[tokio::test(start_paused = true)]
async fn a_large_batch_is_not_starved_by_small_ones_of_the_same_principal() {
    let world = World::new(&[("p", writes(rate(1000, 1000)))], vec![]);
    world.write("p", "t", 1000).await.unwrap();
    let large = world.spawn("p", "t", 1000);
    settle().await;
    // Small ones come all the time, in the same table, in another, and as unary calls.
    let end = Instant::now() + Duration::from_secs(10);
    let small = ["t", "u", "u", "v"].map(|table| {
        let (quotas, caller) = (world.quotas.clone(), world.caller("p"));
        tokio::spawn(async move {
            while Instant::now() < end {
                quotas.acquire(Usage::Write, &caller, table, Cost::rows(10)).await.unwrap();
            }
        })
    });
    about(large.await.unwrap(), 1000);
    for small in small {
        small.await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn unary_calls_delay_a_waiting_batch_once_at_most() {
    let world = World::new(&[("p", writes(rate(1000, 1000)))], vec![]);
    world.write("p", "t", 1000).await.unwrap();
    let large = world.spawn("p", "t", 1000);
    settle().await;
    let (mut taken, mut refused) = (0, 0);
    while !large.is_finished() {
        match world.try_write("p", "t", 1) {
            Ok(()) => taken += 1,
            Err(_) => refused += 1,
        }
        sleep(Duration::from_millis(1)).await;
    }
    let waited = large.await.unwrap();
    assert!(waited > Duration::from_millis(1500) && waited <= Duration::from_millis(2003), "{waited:?}");
    assert!(taken > 500 && refused > 500, "they share: {taken} and {refused}");
}

#[tokio::test(start_paused = true)]
async fn nothing_is_spent_where_one_of_two_limits_refuses() {
    let world = World::new(&[("p", writes(rate(1, 100)))], vec![table(rate(1, 50))]);
    world.try_write("p", "t", 40).unwrap();
    for _ in 0..100 {
        let Err(Refusal::UsedUp(refusal)) = world.try_write("p", "t", 40) else { panic!("the table has 10") };
        assert_eq!((refusal.subject, refusal.limit), (Subject::Table("t".into()), "write_rows"));
        assert_eq!(refusal.retry_after, Duration::from_secs(30));
    }
    // The principal has its 60 still, for another table; and the table its 10.
    world.try_write("p", "u", 50).unwrap();
    world.try_write("p", "t", 10).unwrap();
    let Err(Refusal::UsedUp(refusal)) = world.try_write("p", "v", 1) else { panic!("the principal has none") };
    assert_eq!(refusal.subject, Subject::Principal("p".into()));
    sleep(refusal.retry_after).await;
    world.try_write("p", "v", 1).unwrap();
}

#[tokio::test(start_paused = true)]
async fn keys_of_several_tables_are_one_decision() {
    let limits = Limits { read_rows: Some(rate(10, 100)), ..Limits::default() };
    let tables = TableLimits { read_rows: Some(rate(10, 20)), ..table(rate(1, 1)) };
    let world = World::new(&[("p", limits)], vec![tables]);
    let read = |of: &[(&str, usize)]| {
        let of: Vec<_> = of.iter().map(|&(table, keys)| (table, Cost::rows(keys))).collect();
        world.quotas.try_acquire(Usage::Read, &world.caller("p"), &of)
    };
    read(&[("t", 15), ("u", 20)]).unwrap();
    for _ in 0..10 {
        // The second is named twice, and together they are too many.
        assert!(
            matches!(read(&[("v", 20), ("t", 3), ("t", 3)]), Err(Refusal::UsedUp(refusal)) if refusal.subject == Subject::Table("t".into()))
        );
    }
    read(&[("v", 20), ("t", 5)]).unwrap();
}

#[tokio::test(start_paused = true)]
async fn fault_12_what_is_above_a_burst_can_never_go_and_the_limit_is_named() {
    let world = World::new(&[("p", writes(rate(1000, 100)))], vec![table(rate(1000, 50))]);
    let error = world.write("p", "t", 101).await.unwrap_err();
    let expected = TooDear { subject: Subject::Principal("p".into()), limit: "write_rows", burst: 100, cost: 101 };
    assert_eq!(error, expected);
    assert_eq!(
        error.to_string(),
        "101 rows at once are more than the limit `write_rows` of principal/p ever lets through: its burst is 100; send \
         less at once, or have the burst raised"
    );
    let error = world.try_write("p", "t", 51).unwrap_err();
    let Refusal::TooDear(TooDear { subject, burst: 50, .. }) = error else { panic!("{error}") };
    assert_eq!(subject.to_string(), "table/t");
    // A batch that waits hears of a burst that has become too small.
    world.write("p", "t", 50).await.unwrap();
    let waiting = tokio::spawn({
        let (quotas, caller) = (world.quotas.clone(), world.caller("p"));
        async move { quotas.acquire(Usage::Write, &caller, "t", Cost::rows(50)).await }
    });
    settle().await;
    world.policy.send_replace(policy(&[("p", writes(rate(1000, 10)))], vec![]));
    assert_eq!(waiting.await.unwrap().unwrap_err().burst, 10);
}

#[tokio::test(start_paused = true)]
async fn weights_share_a_tables_limit() {
    let world = World::new(&[("one", weighs(1)), ("three", weighs(3))], vec![table(rate(1000, 100))]);
    // The principal with the smaller weight has more streams, and larger batches.
    let written = [("one", 100), ("one", 90), ("one", 37), ("three", 20)].map(|(name, rows)| {
        let (quotas, caller) = (world.quotas.clone(), world.caller(name));
        tokio::spawn(async move {
            let (mut written, end) = (0, Instant::now() + Duration::from_secs(60));
            while Instant::now() < end {
                quotas.acquire(Usage::Write, &caller, "t", Cost::rows(rows)).await.unwrap();
                written += rows;
            }
            written
        })
    });
    let [a, b, c, three] = written;
    let one = a.await.unwrap() + b.await.unwrap() + c.await.unwrap();
    let three = three.await.unwrap();
    assert!((59_000..61_000).contains(&(one + three)), "nothing is left unused: {one} + {three}");
    let ratio = three as f64 / one as f64;
    assert!((2.9..3.1).contains(&ratio), "{three} to {one}: {ratio}");
}

#[tokio::test(start_paused = true)]
async fn who_waits_for_its_own_limit_does_not_hold_the_tables_turn() {
    let world = World::new(&[("slow", writes(rate(10, 100))), ("fast", weighs(1))], vec![table(rate(1000, 100))]);
    world.write("slow", "t", 100).await.unwrap();
    let slow = world.spawn("slow", "t", 100);
    settle().await;
    let began = Instant::now();
    for _ in 0..50 {
        world.write("fast", "t", 100).await.unwrap();
    }
    about(began.elapsed(), 5000);
    about(slow.await.unwrap(), 10_000);
}

#[tokio::test(start_paused = true)]
async fn who_waits_for_one_table_may_go_on_with_another() {
    let tables = TableLimits { tables: Glob::try_new("slow").unwrap(), ..table(rate(1, 100)) };
    let world = World::new(&[("p", writes(rate(1000, 1000)))], vec![tables]);
    world.write("p", "slow", 100).await.unwrap();
    let slow = world.spawn("p", "slow", 100);
    settle().await;
    let began = Instant::now();
    for _ in 0..20 {
        world.write("p", "quick", 500).await.unwrap();
    }
    about(began.elapsed(), 9_100);
    about(slow.await.unwrap(), 100_000);
}

#[tokio::test(start_paused = true)]
async fn a_place_that_is_given_up_spends_nothing_and_lets_the_next_go() {
    let world = World::new(&[("p", writes(rate(100, 100)))], vec![table(rate(100, 100))]);
    world.write("p", "t", 100).await.unwrap();
    let first = world.spawn("p", "t", 100);
    settle().await;
    let second = world.spawn("p", "t", 10);
    sleep(Duration::from_millis(50)).await;
    first.abort();
    about(second.await.unwrap(), 100);
    // And one in the middle of the line.
    let first = world.spawn("p", "t", 10);
    settle().await;
    assert!(timeout(Duration::from_millis(1), world.write("p", "t", 100)).await.is_err());
    about(first.await.unwrap(), 100);
    assert!(world.quotas.0.writes.lock().bells.is_empty());
}

#[tokio::test(start_paused = true)]
async fn who_waits_takes_a_new_limit_at_once() {
    let world = World::new(&[("p", writes(rate(1, 100)))], vec![]);
    world.write("p", "t", 100).await.unwrap();
    let waiting = world.spawn("p", "t", 100);
    sleep(Duration::from_secs(10)).await;
    assert!(!waiting.is_finished(), "90 s are left");
    // 90 rows are missing; at 90 a second they take one more second.
    world.policy.send_replace(policy(&[("p", writes(rate(90, 100)))], vec![]));
    about(waiting.await.unwrap(), 11_000);
    let waiting = world.spawn("p", "t", 100);
    settle().await;
    world.policy.send_replace(policy(&[("p", Limits::default())], vec![]));
    about(waiting.await.unwrap(), 0);
}

#[tokio::test(start_paused = true)]
async fn whom_no_limit_names_leaves_no_trace() {
    let world = World::new(&[("p", weighs(5))], vec![]);
    for who in [Caller::anyone(), world.caller("p"), world.caller("unheard-of")] {
        world.quotas.acquire(Usage::Write, &who, "t", Cost::rows(1_000_000)).await.unwrap();
        world.quotas.try_acquire(Usage::Read, &who, &[("t", Cost::rows(1_000_000))]).unwrap();
        assert!(!world.quotas.limit(Usage::Write, &who, "t"));
    }
    assert_eq!(world.quotas.remembered(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_hundred_thousand_principals_that_came_once_are_forgotten() {
    let names: Vec<String> = (0..100_000).map(|index| format!("p{index}")).collect();
    let principals: Vec<_> = names.iter().map(|name| (&**name, writes(rate(10, 100)))).collect();
    let world = World::new(&principals, vec![]);
    for name in &names {
        world.try_write(name, "t", 100).unwrap();
    }
    let stop = CancellationToken::new();
    let sweeping = tokio::spawn(world.quotas.clone().forget_loop(stop.clone()));
    settle().await;
    assert_eq!(world.quotas.remembered(), 100_000, "what they have spent still counts");
    let late = world.spawn("p1", "t", 100);
    sleep(QUOTA_IDLE_SWEEP + Duration::from_secs(1)).await;
    about(late.await.unwrap(), 10_000);
    assert_eq!(world.quotas.remembered(), 0);
    stop.cancel();
    sweeping.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn streams_are_limited_at_once_and_a_second() {
    let limits = Limits { streams: NonZeroU32::new(2), stream_opens: Some(rate(1, 3)), ..Limits::default() };
    let world = World::new(&[("p", limits), ("q", Limits::default())], vec![]);
    let open = |name| world.quotas.try_open_stream(&world.caller(name));
    let (first, _second) = (open("p").unwrap(), open("p").unwrap());
    assert_eq!(open("p").unwrap_err().limit, "streams");
    drop(first);
    let third = open("p").unwrap();
    drop(third);
    let refused = open("p").unwrap_err();
    assert_eq!((refused.limit, refused.retry_after), ("stream_opens", Duration::from_secs(1)));
    let _other = open("q").unwrap();
    sleep(refused.retry_after).await;
    let _fourth = open("p").unwrap();
}

// The book alone, against whatever happens.

#[derive(Debug, Clone)]
enum Step {
    Join { principal: usize, table: usize, rows: u32 },
    TrySpend { principal: usize, table: usize, rows: u32 },
    Leave { which: usize },
    Pass { millis: u64 },
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        4 => (0..3usize, 0..3usize, 1..100u32).prop_map(|(principal, table, rows)| Step::Join { principal, table, rows }),
        1 => (0..3usize, 0..3usize, 1..100u32)
            .prop_map(|(principal, table, rows)| Step::TrySpend { principal, table, rows }),
        1 => any::<usize>().prop_map(|which| Step::Leave { which }),
        2 => (0..500u64).prop_map(|millis| Step::Pass { millis }),
    ];
    prop::collection::vec(step, 1..80)
}

/// Principals 0 and 1 are limited, and tables 0 and 1.
const OWN: [Option<(u32, u32)>; 3] = [Some((100, 100)), Some((500, 120)), None];
const TABLES: [Option<(u32, u32)>; 3] = [Some((150, 100)), Some((1000, 200)), None];

fn rates(of: Option<(u32, u32)>) -> Rates {
    Rates { rows: of.map(|(per_second, burst)| rate(per_second, burst)), kib: None }
}

#[derive(Default)]
struct Run {
    book: Book,
    now: Time,
    waiting: BTreeMap<Ticket, (usize, usize, Terms)>,
    /// When somebody asks again by itself.
    timers: BTreeMap<Ticket, Time>,
    /// What went: when, whose, where, how much.
    spent: Vec<(Time, usize, usize, u32)>,
    went: Vec<(usize, usize, Ticket)>,
}

impl Run {
    fn name(principal: usize) -> Arc<str> {
        format!("p{principal}").into()
    }

    fn ask(&mut self, ticket: Ticket) {
        let Some((principal, table, terms)) = self.waiting.get(&ticket).cloned() else { return };
        self.timers.remove(&ticket);
        match self.book.ask(ticket, &terms, self.now) {
            Answer::Go => {
                self.waiting.remove(&ticket);
                self.spent.push((self.now, principal, table, terms.cost.rows));
                self.went.push((principal, table, ticket));
            }
            Answer::AskAt(time) => {
                assert!(time > self.now, "a timer in the past would spin");
                self.timers.insert(ticket, time);
            }
            Answer::Wait => {}
        }
    }

    fn answer_bells(&mut self) {
        for _ in 0..1000 {
            let woken: HashSet<Ticket> = self.book.take_woken().into_iter().collect();
            if woken.is_empty() {
                return;
            }
            for ticket in woken {
                self.ask(ticket);
            }
        }
        panic!("they wake each other for ever");
    }

    fn pass(&mut self, nanos: u64) {
        let until = self.now + nanos;
        while let Some((&ticket, &time)) =
            self.timers.iter().min_by_key(|(_, time)| **time).filter(|(_, time)| **time <= until)
        {
            self.now = time;
            self.ask(ticket);
            self.answer_bells();
        }
        self.now = until;
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    /// Whatever comes, leaves or is refused: nobody waits for ever, no limit lets more through than its burst and its rate,
    /// and batches of one principal for one table go in their order.
    #[test]
    fn everybody_goes_in_order_and_within_the_limits(steps in steps()) {
        let mut run = Run::default();
        for step in steps {
            match step {
                Step::Join { principal, table, rows } => {
                    let weight = (principal as u32 + 1).try_into().unwrap();
                    let cost = Cost { rows, bytes: 0 };
                    let terms = Terms { own: rates(OWN[principal]), table: rates(TABLES[table]), weight, cost };
                    let ticket = run.book.join(&Run::name(principal), &format!("t{table}"));
                    run.waiting.insert(ticket, (principal, table, terms));
                    run.ask(ticket);
                }
                Step::TrySpend { principal, table, rows } => {
                    let cost = Cost { rows, bytes: 0 };
                    let name = format!("t{table}");
                    let tables = [(&*name, rates(TABLES[table]), cost)];
                    if run.book.try_spend((&Run::name(principal), rates(OWN[principal]), cost), &tables, run.now).is_ok() {
                        run.spent.push((run.now, principal, table, rows));
                    }
                }
                Step::Leave { which } => {
                    if let Some(&ticket) = run.waiting.keys().nth(which % run.waiting.len().max(1)) {
                        run.waiting.remove(&ticket);
                        run.timers.remove(&ticket);
                        run.book.leave(ticket, run.now);
                    }
                }
                Step::Pass { millis } => run.pass(millis * 1_000_000),
            }
            run.answer_bells();
        }
        // At 100 rows a second the most that can be waiting takes less than two minutes.
        run.pass(120_000_000_000);
        prop_assert!(run.waiting.is_empty(), "{:?} wait for ever", run.waiting.keys());

        for (index, limits) in [OWN, TABLES].into_iter().enumerate() {
            for (subject, limit) in limits.into_iter().enumerate() {
                let Some((per_second, burst)) = limit else { continue };
                let of = |&&(_, principal, table, _): &&(Time, usize, usize, u32)| [principal, table][index] == subject;
                let spent: Vec<_> = run.spent.iter().filter(of).collect();
                for (first, start) in spent.iter().enumerate() {
                    let mut sum = 0;
                    for end in &spent[first..] {
                        sum += u64::from(end.3);
                        let most = f64::from(burst) + f64::from(per_second) * (end.0 - start.0) as f64 / 1e9 + 1.0;
                        prop_assert!(sum as f64 <= most, "{sum} within {} ns", end.0 - start.0);
                    }
                }
            }
        }
        let mut last = BTreeMap::new();
        for (principal, table, ticket) in &run.went {
            let before = last.insert((principal, table), ticket);
            prop_assert!(before.is_none_or(|before| before < ticket), "{ticket} overtook {before:?}");
        }
        run.book.forget_idle(run.now);
        prop_assert_eq!(run.book.len(), 0);
    }
}
