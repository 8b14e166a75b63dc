//! What a reader promises when the store is slow, throttled, partly broken or out of order.

mod placed;
mod range;

use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::time::Instant;

use super::*;
use crate::limits::READ_MAX_ANSWER_BYTES;
use crate::payload::decode::RowDecoder;
use crate::proto::v1::Row;
use crate::proto::v1::value::Kind;
use crate::schema::{DataType, Field, KeyDef, Schema, TableDef};
use crate::store::{
    Attr, BatchGetDone, BatchWrite, ControlError, ControlRecord, GetKeys, Item, KeyAttrs, OneWrite, QueryPage,
    QueryRange, ReadError, Store, StoreFuture, TableDescription, ThrottleReason, WriteDone, WriteError,
};

const NOW: i64 = 1_700_000_000;
const THROTTLED: ReadError = ReadError::Throttled { reason: ThrottleReason::KeyRange };

type Answer = Result<BatchGetDone, ReadError>;
/// What is answered to the nth call.
type Script = Box<dyn Fn(usize, &[GetKeys]) -> Answer + Send + Sync>;
/// What is answered to the nth query.
type RangeScript = Box<dyn Fn(usize, &QueryRange) -> Result<QueryPage, ReadError> + Send + Sync>;

/// A store that answers as a test says, after a latency, and remembers what it was asked.
struct ScriptedStore {
    answer: Script,
    latency: Duration,
    calls: Mutex<Vec<Vec<GetKeys>>>,
    range_answer: RangeScript,
    queries: Mutex<Vec<QueryRange>>,
}

impl ScriptedStore {
    fn new(answer: impl Fn(usize, &[GetKeys]) -> Answer + Send + Sync + 'static) -> Arc<Self> {
        Self::slow(Duration::from_millis(1), answer)
    }

    fn slow(latency: Duration, answer: impl Fn(usize, &[GetKeys]) -> Answer + Send + Sync + 'static) -> Arc<Self> {
        let range_answer = Box::new(|_: usize, _: &QueryRange| unreachable!("nobody asks for ranges"));
        let (answer, calls, queries) = (Box::new(answer), Mutex::default(), Mutex::default());
        Arc::new(Self { answer, latency, calls, range_answer, queries })
    }

    fn of_ranges(
        answer: impl Fn(usize, &QueryRange) -> Result<QueryPage, ReadError> + Send + Sync + 'static,
    ) -> Arc<Self> {
        let no_keys = Box::new(|_: usize, _: &[GetKeys]| unreachable!("nobody asks for keys"));
        let (calls, queries) = (Mutex::default(), Mutex::default());
        let latency = Duration::from_millis(1);
        Arc::new(Self { answer: no_keys, latency, calls, range_answer: Box::new(answer), queries })
    }

    fn calls(&self) -> Vec<Vec<GetKeys>> {
        self.calls.lock().unwrap().clone()
    }

    async fn call(&self, tables: Vec<GetKeys>) -> Answer {
        let number = {
            let mut calls = self.calls.lock().unwrap();
            calls.push(tables.clone());
            calls.len() - 1
        };
        tokio::time::sleep(self.latency).await;
        (self.answer)(number, &tables)
    }
}

impl Store for ScriptedStore {
    fn get(&self, keys: GetKeys) -> StoreFuture<'_, Option<Item>, ReadError> {
        Box::pin(async move { Ok(self.call(vec![keys]).await?.items.remove(0).pop()) })
    }
    fn batch_get(&self, tables: Vec<GetKeys>) -> StoreFuture<'_, BatchGetDone, ReadError> {
        Box::pin(self.call(tables))
    }
    fn query(&self, range: QueryRange) -> StoreFuture<'_, QueryPage, ReadError> {
        Box::pin(async move {
            let number = {
                let mut queries = self.queries.lock().unwrap();
                queries.push(range.clone());
                queries.len() - 1
            };
            tokio::time::sleep(self.latency).await;
            (self.range_answer)(number, &range)
        })
    }
    fn batch_write(&self, _: BatchWrite) -> StoreFuture<'_, WriteDone, WriteError> {
        unreachable!("a reader writes nothing")
    }
    fn write_one(&self, _: OneWrite) -> StoreFuture<'_, WriteDone, WriteError> {
        unreachable!("a reader writes nothing")
    }
    fn describe_table<'a>(&'a self, _: &'a str) -> StoreFuture<'a, Option<TableDescription>, ControlError> {
        unreachable!("a reader controls nothing")
    }
    fn create_table<'a>(&'a self, _: &'a TableDef) -> StoreFuture<'a, (), ControlError> {
        unreachable!("a reader controls nothing")
    }
    fn delete_table<'a>(&'a self, _: &'a str) -> StoreFuture<'a, (), ControlError> {
        unreachable!("a reader controls nothing")
    }
    fn ensure_control_table<'a>(&'a self, _: &'a str) -> StoreFuture<'a, (), ControlError> {
        unreachable!("a reader controls nothing")
    }
    fn put_record<'a>(&'a self, _: &'a str, _: ControlRecord, _: bool) -> StoreFuture<'a, (), ControlError> {
        unreachable!("a reader controls nothing")
    }
    fn get_record<'a>(
        &'a self,
        _: &'a str,
        _: &'a str,
        _: Option<u64>,
    ) -> StoreFuture<'a, Option<ControlRecord>, ControlError> {
        unreachable!("a reader controls nothing")
    }
    fn scan_records<'a>(&'a self, _: &'a str) -> StoreFuture<'a, Vec<ControlRecord>, ControlError> {
        unreachable!("a reader controls nothing")
    }
}

/// Keys are numbers; even ones have a row, odd ones have none.
fn everything(tables: &[GetKeys]) -> BatchGetDone {
    let items_of = |table: &GetKeys| {
        // Backwards: DynamoDB answers in any order.
        let even = table.keys.iter().rev().filter(|key| number(key) % 2 == 0);
        even.map(|key| {
            // Another text of the same number, as a store may answer.
            let item =
                [("id".to_owned(), Attr::N(format!("{}.0", number(key)))), ("v".to_owned(), n(number(key) * 10))];
            Item::from(item)
        })
        .collect()
    };
    BatchGetDone {
        items: tables.iter().map(items_of).collect(),
        unprocessed: tables.iter().map(|_| Vec::new()).collect(),
    }
}

/// As `everything`, but without the keys for which `left_out` says so.
fn without(tables: &[GetKeys], left_out: impl Fn(i64) -> bool) -> BatchGetDone {
    let mut done = BatchGetDone::default();
    for table in tables {
        let (out, kept): (Vec<_>, Vec<_>) = table.keys.iter().enumerate().partition(|(_, key)| left_out(number(key)));
        let kept = GetKeys { keys: kept.into_iter().map(|(_, key)| key.clone()).collect(), ..table.clone() };
        done.items.extend(everything(&[kept]).items);
        done.unprocessed.push(out.into_iter().map(|(index, _)| index).collect());
    }
    done
}

fn n(number: i64) -> Attr {
    Attr::N(number.to_string())
}

fn number(key: &KeyAttrs) -> i64 {
    match &key[0].1 {
        Attr::N(number) => number.parse().unwrap(),
        other => panic!("{other:?}"),
    }
}

fn table(name: &str) -> TableDef {
    let fields = vec![
        Field::new("id", DataType::Long, false),
        Field::new("v", DataType::Long, true),
        Field::new("w", DataType::Binary, true),
    ];
    let key = KeyDef {
        partition: vec!["id".into()],
        sort: vec![],
        partition_attribute: "_pk".into(),
        sort_attribute: "_sk".into(),
    };
    TableDef::new(name, Schema { fields }, key, name)
}

fn read<'a>(table: &'a TableDef, columns: &[&str], keys: impl IntoIterator<Item = i64>) -> TableRead<'a> {
    let columns: Vec<_> = columns.iter().map(|column| column.to_string()).collect();
    TableRead {
        dynamodb_table: table.dynamodb_table.as_str().into(),
        decoder: RowDecoder::try_new(table, &columns).unwrap(),
        keys: keys.into_iter().map(|id| vec![("id".to_owned(), n(id))]).collect(),
    }
}

fn within(timeout: Duration) -> ReadOptions {
    ReadOptions { strong: false, answer_by: Instant::now() + timeout, now_epoch_seconds: NOW }
}

fn second() -> ReadOptions {
    within(Duration::from_secs(1))
}

/// What `v` of a found row is.
fn found(outcome: &ReadOutcome) -> i64 {
    match outcome {
        ReadOutcome::Found(Row { values }) => match values[0].kind {
            Some(Kind::IntValue(v)) => v,
            ref other => panic!("{other:?}"),
        },
        other => panic!("{other:?}"),
    }
}

#[tokio::test(start_paused = true)]
async fn many_keys_of_several_tables_come_back_in_request_order_and_duplicates_are_read_once() {
    let store = ScriptedStore::new(|_, tables| Ok(everything(tables)));
    let (a, b) = (table("a"), table("b"));
    let tables = [read(&a, &["v"], (0..250).rev()), read(&b, &["v"], [4, 5, 4]), read(&a, &["v"], [248, 1_000, 248])];
    let outcomes = PointReader::new(store.clone()).batch_get(&tables, second()).await;

    assert_eq!(outcomes.iter().map(Vec::len).collect::<Vec<_>>(), [250, 3, 3]);
    for (outcome, id) in outcomes[0].iter().zip((0..250).rev()) {
        match id % 2 {
            0 => assert_eq!(found(outcome), id * 10),
            _ => assert_eq!(*outcome, ReadOutcome::NotFound),
        }
    }
    assert_eq!((found(&outcomes[1][0]), &outcomes[1][1]), (40, &ReadOutcome::NotFound));
    assert_eq!((found(&outcomes[1][2]), found(&outcomes[2][0]), found(&outcomes[2][2])), (40, 2_480, 2_480));
    assert_eq!(found(&outcomes[2][1]), 10_000);

    let calls = store.calls();
    let mut asked: Vec<_> = calls
        .iter()
        .flatten()
        .flat_map(|table| table.keys.iter().map(|key| (table.table.to_string(), number(key))))
        .collect();
    assert_eq!(asked.len(), 253, "250 and 1 of a, 2 of b");
    asked.sort();
    asked.dedup();
    assert_eq!(asked.len(), 253, "none twice");
    assert_eq!(calls.len(), 3, "as few calls as 100 keys a call allow");
    for call in calls {
        assert!(call.iter().map(|table| table.keys.len()).sum::<usize>() <= 100);
        let mut names: Vec<_> = call.iter().map(|table| table.table.clone()).collect();
        names.dedup();
        assert_eq!(names.len(), call.len(), "each table once in a call");
        assert_eq!(call[0].attributes[..], ["v", "id"], "the key comes along, to tell the items apart");
    }
}

#[tokio::test(start_paused = true)]
async fn unprocessed_keys_alone_are_asked_for_again() {
    let store = ScriptedStore::new(|call, tables| match call {
        0 => Ok(without(tables, |id| id >= 3)),
        1 => Err(THROTTLED),
        2 => Ok(without(tables, |id| id >= 5)),
        _ => Ok(everything(tables)),
    });
    let table = table("a");
    let outcomes = PointReader::new(store.clone()).batch_get(&[read(&table, &["v"], 0..8)], second()).await;
    assert_eq!((found(&outcomes[0][0]), found(&outcomes[0][4]), found(&outcomes[0][6])), (0, 40, 60));
    assert_eq!(outcomes[0][7], ReadOutcome::NotFound);
    let asked: Vec<Vec<i64>> = store.calls().iter().map(|call| call[0].keys.iter().map(number).collect()).collect();
    assert_eq!(asked, [vec![0, 1, 2, 3, 4, 5, 6, 7], vec![3, 4, 5, 6, 7], vec![3, 4, 5, 6, 7], vec![5, 6, 7]]);
}

#[tokio::test(start_paused = true)]
async fn a_throttled_key_never_looks_missing_and_its_neighbours_are_answered_in_time() {
    let store = ScriptedStore::new(|_, tables| Ok(without(tables, |id| id == 7)));
    let table = table("a");
    let options = second();
    let outcomes = PointReader::new(store.clone()).batch_get(&[read(&table, &["v"], 0..8)], options).await;
    assert!(Instant::now() <= options.answer_by);
    assert!(store.calls().len() > 3, "it was tried until the end: {}", store.calls().len());
    assert!(matches!(outcomes[0][7], ReadOutcome::Unavailable(Unavailable::Store(ReadError::Throttled { .. }))));
    assert_eq!(outcomes[0][5], ReadOutcome::NotFound);
    assert_eq!(found(&outcomes[0][6]), 60);
}

#[tokio::test(start_paused = true)]
async fn a_batch_answers_with_what_it_has_at_its_deadline() {
    let store = ScriptedStore::new(|_, tables| Ok(everything(tables)));
    let slow = ScriptedStore::slow(Duration::from_secs(600), |_, tables| Ok(everything(tables)));
    let table = table("a");
    let options = second();
    let outcomes = PointReader::new(slow).batch_get(&[read(&table, &["v"], 0..4)], options).await;
    assert_eq!(outcomes[0], vec![ReadOutcome::Unavailable(Unavailable::Deadline); 4]);
    assert_eq!(Instant::now(), options.answer_by);

    let past = ReadOptions { answer_by: Instant::now(), ..options };
    let outcomes = PointReader::new(store).batch_get(&[read(&table, &["v"], 0..1)], past).await;
    assert_eq!(outcomes[0], [ReadOutcome::Unavailable(Unavailable::Deadline)]);
}

#[tokio::test(start_paused = true)]
async fn one_tables_fault_does_not_become_its_neighbours() {
    let store = ScriptedStore::new(|_, tables| match tables.iter().find(|table| &*table.table == "gone") {
        Some(_) => Err(ReadError::TableMissing { table: "gone".into() }),
        None => Ok(everything(tables)),
    });
    let (a, gone, b) = (table("a"), table("gone"), table("b"));
    let tables = [read(&a, &["v"], [2]), read(&gone, &["v"], [2]), read(&b, &["v"], [4])];
    let outcomes = PointReader::new(store).batch_get(&tables, second()).await;
    assert_eq!((found(&outcomes[0][0]), found(&outcomes[2][0])), (20, 40));
    let missing = ReadError::TableMissing { table: "gone".into() };
    assert_eq!(outcomes[1], [ReadOutcome::Unavailable(Unavailable::Store(missing))]);
}

#[tokio::test(start_paused = true)]
async fn an_unreachable_store_is_said_at_once() {
    let unreachable = ReadError::Unavailable { message: "connection refused".into() };
    let store = ScriptedStore::new(move |_, _| Err(unreachable.clone()));
    let table = table("a");
    let outcomes = PointReader::new(store.clone()).batch_get(&[read(&table, &[], 0..2)], second()).await;
    assert!(matches!(outcomes[0][1], ReadOutcome::Unavailable(Unavailable::Store(ReadError::Unavailable { .. }))));
    assert_eq!(store.calls().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn requests_for_different_columns_of_one_table_share_their_fetch() {
    let store = ScriptedStore::new(|_, tables| Ok(everything(tables)));
    let table = table("a");
    let tables = [read(&table, &["v"], [2]), read(&table, &["w"], [2]), read(&table, &["v"], [4])];
    let outcomes = PointReader::new(store.clone()).batch_get(&tables, second()).await;
    assert_eq!((found(&outcomes[0][0]), found(&outcomes[2][0])), (20, 40));
    let ReadOutcome::Found(row) = &outcomes[1][0] else { panic!("{:?}", outcomes[1]) };
    assert_eq!(row.values, [crate::proto::v1::Value { kind: None }]);
    assert_eq!(store.calls().len(), 1);
    assert_eq!(store.calls()[0][0].attributes[..], ["v", "id", "w"]);

    let tables = [read(&table, &["v"], [2]), read(&table, &[], [2])];
    PointReader::new(store.clone()).batch_get(&tables, second()).await;
    assert!(store.calls()[1][0].attributes.is_empty(), "all columns for one is all for both");
}

#[tokio::test(start_paused = true)]
async fn rows_that_do_not_fit_into_one_answer_are_reported() {
    const BIG: usize = 390 * 1024;
    let store = ScriptedStore::new(|_, tables| {
        let mut done = everything(tables);
        for item in done.items.iter_mut().flatten() {
            item.insert("w".into(), Attr::B(vec![0; BIG].into()));
        }
        Ok(done)
    });
    let table = table("a");
    let keys = std::iter::repeat_n(2, 60);
    let outcomes = PointReader::new(store).batch_get(&[read(&table, &[], keys)], second()).await;
    let fitting = READ_MAX_ANSWER_BYTES / (BIG + 20);
    assert!(outcomes[0][..fitting].iter().all(|outcome| matches!(outcome, ReadOutcome::Found(_))));
    let limit_bytes = READ_MAX_ANSWER_BYTES;
    for outcome in &outcomes[0][fitting..] {
        assert_eq!(*outcome, ReadOutcome::Unavailable(Unavailable::AnswerFull { limit_bytes }));
    }
}

#[tokio::test(start_paused = true)]
async fn what_does_not_fit_the_schema_and_what_has_expired_are_told_apart() {
    let store = ScriptedStore::new(|_, tables| {
        let mut done = everything(tables);
        for item in &mut done.items[0] {
            match item["v"] {
                Attr::N(ref v) if v == "20" => item.insert("v".into(), Attr::S("secret".into())),
                Attr::N(ref v) if v == "40" => item.insert("v".into(), n(NOW)),
                _ => item.insert("v".into(), n(NOW + 1)),
            };
        }
        Ok(done)
    });
    let mut table = table("a");
    table.ttl_column = Some("v".into());
    let outcomes = PointReader::new(store).batch_get(&[read(&table, &["v"], [2, 4, 6, 7])], second()).await;
    let ReadOutcome::Undecodable(error) = &outcomes[0][0] else { panic!("{:?}", outcomes[0][0]) };
    assert_eq!(error.to_string(), "column `v`: expected bigint, found text (S)");
    assert_eq!(outcomes[0][1], ReadOutcome::Expired);
    assert_eq!(found(&outcomes[0][2]), NOW + 1);
    assert_eq!(outcomes[0][3], ReadOutcome::NotFound);
}

#[tokio::test(start_paused = true)]
async fn items_without_the_keys_asked_for_make_no_key_look_missing() {
    let store = ScriptedStore::new(|_, tables| {
        let mut done = everything(tables);
        done.items[0][0].remove("id");
        Ok(done)
    });
    let table = table("a");
    let outcomes = PointReader::new(store).batch_get(&[read(&table, &["v"], [2])], second()).await;
    assert!(matches!(outcomes[0][0], ReadOutcome::Unavailable(_)));
}

#[tokio::test(start_paused = true)]
async fn one_row_waits_throttling_out_until_the_deadline() {
    let table = table("a");
    let request = read(&table, &["v"], [2]);
    let get = async |store: Arc<ScriptedStore>, options| {
        let reader = PointReader::new(store);
        reader.get_row("a".into(), &request.decoder, request.keys[0].clone(), options).await
    };
    let recovering = ScriptedStore::new(|call, tables| if call < 3 { Err(THROTTLED) } else { Ok(everything(tables)) });
    assert_eq!(found(&get(recovering, second()).await), 20);

    let throttled = ScriptedStore::new(|_, _| Err(THROTTLED));
    let options = second();
    assert_eq!(get(throttled, options).await, ReadOutcome::Unavailable(Unavailable::Store(THROTTLED)));
    assert!(Instant::now() <= options.answer_by);

    let hanging = ScriptedStore::slow(Duration::from_secs(600), |_, tables| Ok(everything(tables)));
    assert_eq!(get(hanging, second()).await, ReadOutcome::Unavailable(Unavailable::Deadline));
}
