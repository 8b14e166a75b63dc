//! What reads of keys with several places promise: the newest place first, and no place that is silent makes a key missing.

use super::*;
use crate::payload::read_key::PlacedKey;

/// A key whose row may be at these numbers, the newest first.
fn placed(places: &[i64]) -> PlacedKey {
    let key = |id: &i64| vec![("id".to_owned(), n(*id))];
    PlacedKey { newest: key(&places[0]), older: places[1..].iter().map(key).collect() }
}

fn placed_read<'a>(table: &'a TableDef, keys: &[&[i64]]) -> PlacedRead<'a> {
    PlacedRead {
        dynamodb_table: table.dynamodb_table.as_str().into(),
        decoder: RowDecoder::try_new(table, &["v".to_owned()]).unwrap(),
        keys: keys.iter().map(|places| placed(places)).collect(),
    }
}

async fn get(store: &Arc<ScriptedStore>, places: &[i64]) -> ReadOutcome {
    let table = table("a");
    let decoder = RowDecoder::try_new(&table, &["v".to_owned()]).unwrap();
    PointReader::new(store.clone()).get_placed_row("a".into(), &decoder, placed(places), second()).await
}

#[tokio::test(start_paused = true)]
async fn a_row_is_looked_for_where_it_was_written_before() {
    // Odd numbers have no row.
    let store = ScriptedStore::new(|_, tables| Ok(everything(tables)));
    assert_eq!(found(&get(&store, &[4, 1, 2]).await), 40);
    assert_eq!(store.calls().len(), 1, "where rows are written now, one read is enough");
    assert_eq!(found(&get(&store, &[3, 1, 2]).await), 20);
    assert_eq!(get(&store, &[3, 1, 5]).await, ReadOutcome::NotFound);
}

#[tokio::test(start_paused = true)]
async fn a_place_that_is_throttled_makes_no_key_look_missing() {
    let store = ScriptedStore::new(|_, tables| match number(&tables[0].keys[0]) {
        7 => Err(THROTTLED),
        _ => Ok(everything(tables)),
    });
    let throttled = ReadOutcome::Unavailable(Unavailable::Store(THROTTLED));
    assert_eq!(get(&store, &[3, 7, 5]).await, throttled);
    assert_eq!(found(&get(&store, &[4, 7]).await), 40);
    // Nor does it take the time of the others.
    assert_eq!(found(&get(&store, &[7, 2]).await), 20);
    assert_eq!(found(&get(&store, &[7, 3, 2]).await), 20);
}

#[tokio::test(start_paused = true)]
async fn a_batch_asks_older_places_for_the_keys_that_were_not_found_alone() {
    let store = ScriptedStore::new(|_, tables| Ok(everything(tables)));
    let (a, b) = (table("a"), table("b"));
    let reads =
        vec![placed_read(&a, &[&[4, 6], &[1, 3, 8], &[5], &[7, 9]]), placed_read(&b, &[&[2]]), placed_read(&a, &[])];
    let outcomes = PointReader::new(store.clone()).batch_get_placed(reads, second()).await;
    assert_eq!((found(&outcomes[0][0]), found(&outcomes[0][1]), found(&outcomes[1][0])), (40, 80, 20));
    assert_eq!(outcomes[0][2..], [ReadOutcome::NotFound, ReadOutcome::NotFound]);
    assert_eq!(outcomes[2], []);
    let asked: Vec<Vec<i64>> = store.calls().iter().map(|call| call[0].keys.iter().map(number).collect()).collect();
    assert_eq!(asked, [vec![4, 1, 5, 7], vec![3, 8, 9]]);
}

#[tokio::test(start_paused = true)]
async fn a_batch_never_calls_a_key_missing_whose_place_did_not_answer() {
    let store = ScriptedStore::new(|_, tables| Ok(without(tables, |id| id == 7)));
    let table = table("a");
    let reads = vec![placed_read(&table, &[&[7, 1], &[1, 7], &[7, 2], &[1, 3]])];
    let outcomes = PointReader::new(store).batch_get_placed(reads, second()).await.remove(0);
    assert!(matches!(outcomes[0], ReadOutcome::Unavailable(_)) && matches!(outcomes[1], ReadOutcome::Unavailable(_)));
    assert_eq!((found(&outcomes[2]), &outcomes[3]), (20, &ReadOutcome::NotFound));
}

#[tokio::test(start_paused = true)]
async fn both_rounds_together_fit_into_one_answer() {
    const BIG: usize = 390 * 1024;
    let store = ScriptedStore::new(|_, tables| {
        let mut done = everything(tables);
        for item in done.items.iter_mut().flatten() {
            item.insert("w".into(), Attr::B(vec![0; BIG].into()));
        }
        Ok(done)
    });
    let table = table("a");
    let mut read = placed_read(&table, &[]);
    read.decoder = RowDecoder::try_new(&table, &[]).unwrap();
    read.keys =
        (0..30).map(|id| placed(&[2 * id])).chain((0..30).map(|id| placed(&[2 * id + 1, 1_000 + 2 * id]))).collect();
    let outcomes = PointReader::new(store).batch_get_placed(vec![read], second()).await.remove(0);
    let fitting = READ_MAX_ANSWER_BYTES / (BIG + 20);
    assert!(outcomes[..fitting].iter().all(|outcome| matches!(outcome, ReadOutcome::Found(_))));
    let full = ReadOutcome::Unavailable(Unavailable::ANSWER_FULL);
    assert!(outcomes[fitting..].iter().all(|outcome| *outcome == full));
}
