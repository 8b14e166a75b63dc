//! What a range promises: order, bounds and limit over pages and places, and that no failure looks like its end.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::payload::decode::RowDecoder;
use crate::store::SortRange;

/// Items by partition key and sort key.
type Shelves = BTreeMap<String, BTreeMap<i64, Item>>;

/// `id` and `at` are the key, `v` a value.
fn table() -> TableDef {
    let fields = vec![
        Field::new("id", DataType::String, false),
        Field::new("at", DataType::Long, false),
        Field::new("v", DataType::Long, true),
        Field::new("until", DataType::Long, true),
    ];
    let key = KeyDef {
        partition: vec!["id".into()],
        sort: vec!["at".into()],
        partition_attribute: "_pk".into(),
        sort_attribute: "_sk".into(),
    };
    let mut table = TableDef::new("events", Schema { fields }, key, "events");
    table.ttl_column = Some("until".into());
    table
}

fn item(id: &str, at: i64, v: i64) -> Item {
    // Another text of the number, as a store may answer.
    let at = Attr::N(format!("{at}.0"));
    Item::from([("id".to_owned(), Attr::S(id.into())), ("at".to_owned(), at), ("v".to_owned(), n(v))])
}

/// A shelf of the rows `at`, whose values are ten times as much.
fn shelf(rows: impl IntoIterator<Item = i64>) -> Shelves {
    let rows = rows.into_iter().map(|at| (at, item("a", at, at * 10))).collect();
    Shelves::from([("a".to_owned(), rows)])
}

/// Answers as DynamoDB does, in pages of so many items at most.
fn answer(shelves: &Shelves, range: &QueryRange, page_items: usize) -> QueryPage {
    let Attr::S(partition) = &range.partition.1 else { panic!("{:?}", range.partition) };
    let bound = |bound: fn(&SortRange) -> &Option<Attr>| match range.sort.as_ref().and_then(|sort| bound(sort).clone())
    {
        Some(Attr::N(number)) => Some(number.parse::<i64>().unwrap()),
        None => None,
        other => panic!("{other:?}"),
    };
    let (from, to) = (bound(|sort| &sort.from), bound(|sort| &sort.to));
    assert!(from.zip(to).is_none_or(|(from, to)| from <= to), "DynamoDB refuses such bounds");
    let after = range.after.as_ref().map(|key| number(&vec![key[1].clone()]));
    let empty = BTreeMap::new();
    let shelf = shelves.get(partition).unwrap_or(&empty);
    let within = |at: i64| from.is_none_or(|from| at >= from) && to.is_none_or(|to| at <= to);
    let behind = |at: i64| after.is_none_or(|after| if range.descending { at < after } else { at > after });
    let mut rows: Vec<_> = shelf.iter().filter(|(at, _)| within(**at) && behind(**at)).collect();
    if range.descending {
        rows.reverse();
    }
    let page_items = page_items.min(range.limit.map_or(usize::MAX, |limit| limit as usize));
    assert!(page_items > 0);
    let more = rows.len() > page_items;
    rows.truncate(page_items);
    let next = rows.last().filter(|_| more);
    let next = next.map(|(at, _)| vec![("id".to_owned(), range.partition.1.clone()), ("at".to_owned(), n(**at))]);
    QueryPage { items: rows.into_iter().map(|(_, item)| item.clone()).collect(), next }
}

fn read() -> RangeRead {
    RangeRead {
        dynamodb_table: "events".into(),
        partition_attribute: "id".into(),
        places: vec![Attr::S("a".into())],
        sort_attribute: "at".into(),
        from: None,
        to: None,
        descending: false,
        limit: None,
        attributes: Arc::default(),
        strong: false,
    }
}

const PATIENCE: Patience = Patience { page: Duration::from_secs(2), until: None };

/// Pulls a range to its end: the values of its rows, and how it ended.
async fn pull(store: &Arc<ScriptedStore>, read: RangeRead, table: &TableDef) -> (Vec<i64>, Option<RangeError>) {
    let decoder = RowDecoder::try_new(table, &["v".to_owned()]).unwrap();
    let mut range = PointReader::new(store.clone()).range(read);
    let mut values = Vec::new();
    loop {
        match range.next_rows(&decoder, PATIENCE, NOW).await {
            Ok(Some(rows)) => {
                assert!(!rows.is_empty());
                values.extend(rows.into_iter().map(|row| found(&ReadOutcome::Found(row))));
            }
            Ok(None) => return (values, None),
            Err(error) => {
                let again = range.next_rows(&decoder, PATIENCE, NOW).await;
                assert_eq!(again, Err(error.clone()), "a range that has failed has not ended");
                return (values, Some(error));
            }
        }
    }
}

/// The values of a whole range.
async fn whole(store: &Arc<ScriptedStore>, read: RangeRead) -> Vec<i64> {
    let (values, error) = pull(store, read, &table()).await;
    assert_eq!(error, None);
    values
}

#[tokio::test(start_paused = true)]
async fn rows_come_in_order_both_ways_within_their_bounds_and_limit() {
    let shelves = shelf(-3..20);
    let store = ScriptedStore::of_ranges(move |_, range| Ok(answer(&shelves, range, 4)));
    let tens = |rows: std::ops::Range<i64>| rows.map(|at| at * 10).collect::<Vec<_>>();
    assert_eq!(whole(&store, read()).await, tens(-3..20));
    let between = RangeRead { from: Some(n(5)), to: Some(n(11)), ..read() };
    assert_eq!(whole(&store, between.clone()).await, tens(5..11), "the first is in it, the last is not");
    let limited = RangeRead { limit: Some(3), ..between.clone() };
    assert_eq!(whole(&store, limited.clone()).await, tens(5..8));

    let backwards = |rows: std::ops::Range<i64>| rows.rev().map(|at| at * 10).collect::<Vec<_>>();
    assert_eq!(whole(&store, RangeRead { descending: true, ..between }).await, backwards(5..11));
    assert_eq!(whole(&store, RangeRead { descending: true, ..limited }).await, backwards(8..11));
    let nobody = RangeRead { places: vec![Attr::S("b".into())], ..read() };
    assert_eq!(whole(&store, nobody).await, tens(0..0));
}

#[tokio::test(start_paused = true)]
async fn there_is_nothing_between_bounds_that_are_the_wrong_way_round() {
    let store = ScriptedStore::of_ranges(|_, _| unreachable!("DynamoDB would refuse"));
    for (from, to) in [(5, 5), (10, 9)] {
        assert_eq!(whole(&store, RangeRead { from: Some(n(from)), to: Some(n(to)), ..read() }).await, [0; 0]);
    }
}

#[tokio::test(start_paused = true)]
async fn a_page_is_fetched_when_its_rows_are_wanted() {
    let shelves = shelf(0..12);
    let store = ScriptedStore::of_ranges(move |_, range| Ok(answer(&shelves, range, 4)));
    let table = table();
    let decoder = RowDecoder::try_new(&table, &[]).unwrap();
    let mut range = PointReader::new(store.clone()).range(read());
    for pages in 1..=3 {
        tokio::time::sleep(Duration::from_secs(3600)).await;
        assert_eq!(store.queries.lock().unwrap().len(), pages - 1);
        assert_eq!(range.next_rows(&decoder, PATIENCE, NOW).await.unwrap().unwrap().len(), 4);
    }
    assert_eq!(range.next_rows(&decoder, PATIENCE, NOW).await, Ok(None));
    assert_eq!(store.queries.lock().unwrap().len(), 3);
}

#[tokio::test(start_paused = true)]
async fn a_throttled_page_never_looks_like_the_end() {
    let shelves = shelf(0..12);
    let recovering = shelves.clone();
    let store = ScriptedStore::of_ranges(move |call, range| match call {
        1..4 => Err(THROTTLED),
        _ => Ok(answer(&recovering, range, 4)),
    });
    assert_eq!(whole(&store, read()).await.len(), 12);

    let store = ScriptedStore::of_ranges(move |call, range| match call {
        0 => Ok(answer(&shelves, range, 4)),
        _ => Err(THROTTLED),
    });
    let started = Instant::now();
    let (values, error) = pull(&store, read(), &table()).await;
    assert_eq!(values, [0, 10, 20, 30], "what came before is told");
    assert_eq!(error, Some(RangeError::Unavailable(THROTTLED.into())));
    assert!(store.queries.lock().unwrap().len() > 4, "it was tried for as long as a page may take");
    assert!(started.elapsed() <= PATIENCE.page + Duration::from_millis(10));
}

#[tokio::test(start_paused = true)]
async fn a_page_that_does_not_come_and_a_deadline_end_the_range_as_errors() {
    let shelves = shelf(0..12);
    let mut store = ScriptedStore::of_ranges(move |_, range| Ok(answer(&shelves, range, 4)));
    Arc::get_mut(&mut store).unwrap().latency = Duration::from_secs(60);
    let (values, error) = pull(&store, read(), &table()).await;
    assert_eq!((values, error), (vec![], Some(RangeError::Unavailable(Unavailable::Deadline))));

    let table = table();
    let decoder = RowDecoder::try_new(&table, &[]).unwrap();
    let until = Instant::now() + Duration::from_millis(300);
    let patience = Patience { page: Duration::from_secs(90), until: Some(until) };
    let mut range = PointReader::new(store).range(read());
    let error = range.next_rows(&decoder, patience, NOW).await.unwrap_err();
    assert_eq!(error, RangeError::Unavailable(Unavailable::Deadline));
    assert_eq!(Instant::now(), until);
    assert!(patience.is_over());
}

#[tokio::test(start_paused = true)]
async fn expired_and_deleted_rows_are_left_out_and_do_not_count() {
    let mut shelves = shelf(0..1_000);
    for (at, item) in shelves.get_mut("a").unwrap() {
        match at {
            3 | 10..900 => item.insert("until".into(), n(NOW)),
            4 => item.insert("until".into(), n(NOW + 1)),
            // A tombstone has the key and nothing that fits.
            5 => item.insert("_deleted".into(), Attr::Bool(true)).or(item.insert("v".into(), Attr::Null)),
            _ => None,
        };
    }
    let mut table = table();
    table.sequence_by = Some("v".into());
    let store = ScriptedStore::of_ranges(move |_, range| Ok(answer(&shelves, range, 1_000)));
    let limited = RangeRead { limit: Some(5), ..read() };
    assert_eq!(pull(&store, limited.clone(), &table).await, (vec![0, 10, 20, 40, 60], None));
    let decoder = RowDecoder::try_new(&table, &["v".to_owned()]).unwrap();
    assert!(decoder.attributes().contains(&"_deleted".to_owned()), "a tombstone is told by its attribute");

    store.queries.lock().unwrap().clear();
    let after_nine = RangeRead { from: Some(n(10)), limit: Some(1), ..limited };
    assert_eq!(pull(&store, after_nine, &table).await, (vec![9_000], None));
    assert!(store.queries.lock().unwrap().len() <= 11, "pages grow: {}", store.queries.lock().unwrap().len());
}

#[tokio::test(start_paused = true)]
async fn an_item_that_does_not_fit_ends_the_range_after_the_rows_before_it() {
    let mut shelves = shelf(0..9);
    shelves.get_mut("a").unwrap().get_mut(&6).unwrap().insert("v".into(), Attr::S("secret".into()));
    let store = ScriptedStore::of_ranges(move |_, range| Ok(answer(&shelves, range, 4)));
    let (values, error) = pull(&store, read(), &table()).await;
    assert_eq!(values, [0, 10, 20, 30, 40, 50]);
    let words =
        "the item after 6 rows of the range does not fit the schema: column `v`: expected bigint, found text (S)";
    assert_eq!(error.unwrap().to_string(), words);
}

#[tokio::test(start_paused = true)]
async fn a_message_holds_a_page_and_not_a_range() {
    let mut shelves = shelf(0..40);
    for item in shelves.get_mut("a").unwrap().values_mut() {
        item.insert("note".into(), Attr::S("x".repeat(100 * 1024)));
    }
    // More than DynamoDB's pages ever hold.
    let store = ScriptedStore::of_ranges(move |_, range| Ok(answer(&shelves, range, 40)));
    let table = table();
    let decoder = RowDecoder::try_new(&table, &[]).unwrap();
    let mut range = PointReader::new(store.clone()).range(read());
    let mut messages = Vec::new();
    while let Some(rows) = range.next_rows(&decoder, PATIENCE, NOW).await.unwrap() {
        messages.push(rows.len());
    }
    assert_eq!(messages, [11, 11, 11, 7]);
}

#[tokio::test(start_paused = true)]
async fn many_places_are_fetched_side_by_side_and_their_pages_share_the_memory() {
    let places: Vec<String> = (0..256).map(|place| format!("a#{place:02x}")).collect();
    let mut shelves = Shelves::new();
    for at in 0..20_000 {
        let place = &places[(at * 7_919 % 256) as usize];
        shelves.entry(place.clone()).or_default().insert(at, item(place, at, at));
    }
    let store = ScriptedStore::of_ranges(move |_, range| Ok(answer(&shelves, range, 10_000)));
    let read = RangeRead { places: places.into_iter().map(Attr::S).collect(), ..read() };
    let started = Instant::now();
    assert_eq!(whole(&store, read).await, (0..20_000).collect::<Vec<_>>());
    let queries = store.queries.lock().unwrap();
    assert!(queries.iter().all(|query| query.limit.is_some()));
    assert!(queries.len() < 2_000, "{}", queries.len());
    // A millisecond a query, had they waited for each other.
    let elapsed = started.elapsed();
    assert!(elapsed < Duration::from_millis(queries.len() as u64 / 4), "{elapsed:?} for {}", queries.len());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    /// Rows of one key in several places, some in two of them: one merged range, the newer place's copy winning.
    #[test]
    fn places_are_merged_in_order_without_repeats(
        rows in prop::collection::btree_map(-40i64..40, prop::collection::btree_set(0usize..4, 1..3), 0..60),
        places in 4usize..6, page_items in 1usize..7, descending in any::<bool>(),
        from in prop::option::of(-45i64..45), to in prop::option::of(-45i64..45), limit in prop::option::of(1u64..50),
    ) {
        let names: Vec<String> = (0..places).map(|place| format!("a#{place:02x}")).collect();
        let mut shelves = Shelves::new();
        for (&at, copies) in &rows {
            for &place in copies {
                let value = at * 10 + place as i64;
                shelves.entry(names[place].clone()).or_default().insert(at, item(&names[place], at, value));
            }
        }
        let within = |at: &i64| from.is_none_or(|from| *at >= from) && to.is_none_or(|to| *at < to);
        let newest = rows.iter().filter(|(at, _)| within(at)).map(|(at, copies)| at * 10 + *copies.last().unwrap() as i64);
        let mut expected: Vec<i64> = newest.collect();
        if descending {
            expected.reverse();
        }
        expected.truncate(limit.unwrap_or(u64::MAX) as usize);

        let store = ScriptedStore::of_ranges(move |_, range| Ok(answer(&shelves, range, page_items)));
        let places = names.into_iter().map(Attr::S).collect();
        let read = RangeRead { places, descending, from: from.map(n), to: to.map(n), limit, ..read() };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        prop_assert_eq!(runtime.block_on(whole(&store, read)), expected);
    }
}
