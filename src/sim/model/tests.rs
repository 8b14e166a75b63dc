//! Promises of the model as a whole.

use bytes::Bytes;

use super::*;
use crate::store::{Attr, ThrottleReason, WriteOp};

const SECOND: Duration = Duration::from_secs(1);

fn model(config: ModelConfig, capacity: CapacityConfig) -> Model {
    let mut model = Model::new(config);
    model.add_table("t", KeySchema::text("k"), capacity, Duration::ZERO);
    model
}

fn put(key: impl std::fmt::Display, rest: &str) -> WriteItem {
    let key = format!(r#""k":{{"S":"{key}"}}"#);
    WriteItem::new(WriteOp::Put, Bytes::from(format!("{{{key}{rest}}}")), key.len() as u32)
}

fn batch(items: Vec<WriteItem>) -> BatchWrite {
    BatchWrite { table: "t".into(), items }
}

fn one(item: WriteItem) -> OneWrite {
    OneWrite { table: "t".into(), item, sequence: None }
}

fn transaction(items: Vec<WriteItem>, token: &str) -> TransactWrite {
    TransactWrite { table: "t".into(), items, sequence: None, token: token.into() }
}

fn depart(model: &mut Model, at: Duration, kind: CallKind) -> Journey {
    model.depart(at, Call { table: "t", bytes: 100, kind })
}

fn write(model: &mut Model, at: Duration, item: WriteItem) -> Result<WriteDone, WriteError> {
    let journey = depart(model, at, CallKind::One);
    model.write_one(at + journey.there, &journey, &one(item))
}

fn stored(model: &Model, key: &str) -> Option<u64> {
    let key = KeySchema::text("k").key_of_attrs(&vec![("k".to_owned(), Attr::S(key.to_owned()))]).unwrap();
    let (item, _) = model.contents("t").unwrap().get(&key, &[])?;
    match item.get("v") {
        Some(Attr::N(number)) => number.parse().ok(),
        _ => None,
    }
}

fn version(v: u64) -> String {
    format!(r#","v":{{"N":"{v}"}}"#)
}

#[test]
fn a_batch_that_is_throttled_in_part_says_which_items_and_never_why() {
    let mut model = model(ModelConfig::new(1), CapacityConfig::provisioned(10.0));
    let journey = depart(&mut model, Duration::ZERO, CallKind::Batch);
    let request = batch((0..25).map(|key| put(key, "")).collect());
    let done = model.batch_write(Duration::ZERO, &journey, &request).unwrap();
    assert_eq!((done.unprocessed.len(), done.write_units), (15, 10.0));
    assert_ne!(done.unprocessed, (10..25).collect::<Vec<_>>(), "not simply the last");
    let error = model.batch_write(Duration::ZERO, &journey, &request).unwrap_err();
    assert_eq!(error, WriteError::Throttled { reason: ThrottleReason::Provisioned, index: None });
    let totals = model.totals();
    assert_eq!((totals.calls, totals.throttled_calls, totals.items, totals.throttled_items), (2, 2, 50, 40));
    assert_eq!(model.contents("t").unwrap().items().unwrap().len(), 10);
}

#[test]
fn a_batch_with_a_twin_a_condition_or_a_wrong_key_is_refused_whole() {
    let mut model = model(ModelConfig::new(1), CapacityConfig::on_demand());
    let journey = depart(&mut model, Duration::ZERO, CallKind::Batch);
    let merge = WriteItem { op: WriteOp::Merge, ..put("b", "") };
    let no_key = WriteItem::new(WriteOp::Put, Bytes::from_static(br#"{"x":{"S":"a"}}"#), 13);
    for items in [
        vec![put("a", ""), put("a", "")],
        vec![put("a", ""), merge],
        vec![put("a", ""), no_key],
        Vec::new(),
        (0..26).map(|key| put(key, "")).collect(),
    ] {
        let refused = model.batch_write(Duration::ZERO, &journey, &batch(items));
        assert!(matches!(refused, Err(WriteError::Validation { .. })), "{refused:?}");
    }
    assert_eq!(model.contents("t").unwrap().items().unwrap().len(), 0);
}

#[test]
fn a_single_write_hears_its_reason_and_a_false_condition_costs() {
    let mut model = model(ModelConfig::new(1), CapacityConfig::provisioned(3.0));
    write(&mut model, Duration::ZERO, put("a", "")).unwrap();
    let insert = WriteItem { op: WriteOp::Insert, ..put("a", "") };
    let exists = write(&mut model, Duration::ZERO, insert.clone());
    assert!(matches!(exists, Err(WriteError::Condition { existing: Some(_) })), "{exists:?}");
    write(&mut model, Duration::ZERO, put("b", "")).unwrap();
    let short = write(&mut model, Duration::ZERO, insert).unwrap_err();
    assert_eq!(short, WriteError::Throttled { reason: ThrottleReason::Provisioned, index: None });
    assert_eq!(model.capacity("t").unwrap().seconds()[0].consumed_units, 3.0);
}

#[test]
fn a_transaction_is_all_or_nothing_costs_double_and_its_token_makes_it_once() {
    let mut model = model(ModelConfig::new(1), CapacityConfig::provisioned(10.0));
    let journey = depart(&mut model, Duration::ZERO, CallKind::Transact);
    let three = transaction(["a", "b", "c"].map(|key| put(key, &version(1))).to_vec(), "token");
    assert_eq!(model.transact_write(Duration::ZERO, &journey, &three).unwrap().write_units, 6.0);
    write(&mut model, Duration::ZERO, put("a", &version(2))).unwrap();
    assert!(model.transact_write(Duration::ZERO, &journey, &three).is_ok());
    assert_eq!(stored(&model, "a"), Some(2), "the repetition did nothing");
    let other = transaction(vec![put("z", "")], "token");
    assert!(matches!(model.transact_write(Duration::ZERO, &journey, &other), Err(WriteError::Validation { .. })));
    // Three units are left, and four are asked for.
    let error = model.transact_write(Duration::ZERO, &journey, &transaction(vec![put("x", ""), put("y", "")], "new"));
    let throttled = CancelReason::Throttled(ThrottleReason::Provisioned);
    assert_eq!(error, Err(WriteError::Cancelled { reasons: vec![CancelReason::None, throttled] }));
    assert!(model.contents("t").unwrap().items().unwrap().len() == 3);
    assert_eq!(model.capacity("t").unwrap().seconds()[0].consumed_units, 7.0, "given back");
    // Ten minutes later the token is as good as new.
    model.transact_write(601 * SECOND, &journey, &three).unwrap();
    assert_eq!(stored(&model, "a"), Some(1));
}

#[test]
fn a_transactions_false_condition_names_its_item_and_cancels_the_others() {
    let mut model = model(ModelConfig::new(1), CapacityConfig::on_demand());
    write(&mut model, Duration::ZERO, put("b", &version(7))).unwrap();
    let journey = depart(&mut model, Duration::ZERO, CallKind::Transact);
    let insert = WriteItem { op: WriteOp::Insert, ..put("b", &version(8)) };
    let request = transaction(vec![put("a", ""), insert], "token");
    let Err(WriteError::Cancelled { reasons }) = model.transact_write(Duration::ZERO, &journey, &request) else {
        panic!("b exists")
    };
    assert!(matches!(&reasons[..], [CancelReason::None, CancelReason::Condition { existing: Some(_) }]), "{reasons:?}");
    assert_eq!((stored(&model, "a"), stored(&model, "b")), (None, Some(7)));
}

#[test]
fn an_outage_does_nothing_and_a_lost_answer_hides_what_was_done() {
    let faults = vec![
        Fault::during(FaultKind::Refused, Duration::ZERO, SECOND),
        Fault::during(FaultKind::BlackHole, SECOND, 2 * SECOND),
        Fault::during(FaultKind::LostAnswer, 2 * SECOND, 3 * SECOND),
    ];
    let mut model = model(ModelConfig { faults, ..ModelConfig::new(1) }, CapacityConfig::on_demand());
    assert!(matches!(write(&mut model, Duration::ZERO, put("a", "")), Err(WriteError::NotSent { .. })));
    let journey = depart(&mut model, SECOND, CallKind::One);
    assert_eq!(journey.there + journey.back, 5 * SECOND, "the time-out");
    assert!(matches!(model.write_one(SECOND, &journey, &one(put("b", ""))), Err(WriteError::Unknown { .. })));
    assert!(matches!(write(&mut model, 2 * SECOND, put("c", &version(3))), Err(WriteError::Unknown { .. })));
    assert_eq!(model.contents("t").unwrap().items().unwrap().len(), 1);
    assert_eq!(stored(&model, "c"), Some(3));
    let counts: Vec<_> = model.faults().iter().filter(|(_, count)| *count > 0).collect();
    assert_eq!(counts, [("refused", 1), ("black_hole", 1), ("lost_answer", 1)]);
}

#[test]
fn a_delayed_write_lands_over_a_newer_one() {
    let faults = vec![Fault::during(FaultKind::DelayedApply { by: 10 * SECOND }, Duration::ZERO, SECOND)];
    let mut model = model(ModelConfig { faults, ..ModelConfig::new(1) }, CapacityConfig::on_demand());
    assert!(matches!(write(&mut model, Duration::ZERO, put("a", &version(1))), Err(WriteError::Unknown { .. })));
    assert_eq!((stored(&model, "a"), model.late_writes()), (None, 1));
    write(&mut model, SECOND, put("a", &version(2))).unwrap();
    model.finish_late_writes();
    assert_eq!((stored(&model, "a"), model.late_writes()), (Some(1), 0));
}

#[test]
fn a_call_that_takes_longer_than_the_time_out_is_done_and_not_known_to_be() {
    let slow = FaultKind::Slow { factor: 1.0, more: 6 * SECOND };
    let faults = vec![Fault::during(slow, Duration::ZERO, SECOND)];
    let mut model = model(ModelConfig { faults, ..ModelConfig::new(1) }, CapacityConfig::on_demand());
    let journey = depart(&mut model, Duration::ZERO, CallKind::One);
    assert_eq!((&journey.end, journey.there + journey.back), (&JourneyEnd::Lost, 5 * SECOND));
    assert!(model.write_one(journey.there, &journey, &one(put("a", &version(1)))).is_err());
    assert_eq!(stored(&model, "a"), Some(1));
}

#[test]
fn throttling_with_a_reason_a_missing_table_and_refused_access_are_as_the_schedule_says() {
    let throttle = FaultKind::Throttle { reason: ThrottleReason::Account, index: Some("by_day".into()) };
    let faults = vec![
        Fault::during(throttle, Duration::ZERO, SECOND),
        Fault::during(FaultKind::TableDeleted, SECOND, 2 * SECOND),
        Fault::during(FaultKind::AccessDenied, 2 * SECOND, 3 * SECOND),
        Fault::during(FaultKind::Unprocessed { share: 1.0 }, 3 * SECOND, 4 * SECOND),
    ];
    let mut model = model(ModelConfig { faults, ..ModelConfig::new(1) }, CapacityConfig::on_demand());
    let index = Some("by_day".into());
    let throttled = Err(WriteError::Throttled { reason: ThrottleReason::Account, index });
    assert_eq!(write(&mut model, Duration::ZERO, put("a", "")), throttled);
    let missing = Err(WriteError::TableMissing { table: "t".to_owned() });
    assert_eq!(write(&mut model, SECOND, put("a", "")), missing);
    assert!(matches!(write(&mut model, 2 * SECOND, put("a", "")), Err(WriteError::Access { .. })));
    let journey = depart(&mut model, 3 * SECOND, CallKind::Batch);
    let nothing = model.batch_write(3 * SECOND, &journey, &batch(vec![put("a", "")])).unwrap_err();
    assert_eq!(nothing, WriteError::Throttled { reason: ThrottleReason::Unknown, index: None });
    assert_eq!(model.totals().throttled_calls, 2);
    assert_eq!(model.faults().kinds(), 4);
}

#[test]
fn whoever_watches_sees_writes_in_the_order_in_which_they_took_effect() {
    type Writes = Vec<(Vec<u8>, bool)>;
    struct Seen(Arc<std::sync::Mutex<Writes>>);
    impl Observer for Seen {
        fn applied(&mut self, applied: &Applied<'_>) {
            self.0.lock().unwrap().push((applied.item.key_text().to_vec(), applied.heard_at.is_some()));
        }
    }
    let faults = vec![Fault::during(FaultKind::LostAnswer, SECOND, 2 * SECOND)];
    let mut model = model(ModelConfig { faults, ..ModelConfig::new(1) }, CapacityConfig::on_demand());
    let seen = Arc::new(std::sync::Mutex::new(Vec::new()));
    model.observe(Box::new(Seen(Arc::clone(&seen))));
    write(&mut model, Duration::ZERO, put("a", "")).unwrap();
    write(&mut model, SECOND, put("b", "")).unwrap_err();
    let key = |key| format!(r#""k":{{"S":"{key}"}}"#).into_bytes();
    assert_eq!(*seen.lock().unwrap(), [(key("a"), true), (key("b"), false)]);
}

#[test]
fn the_same_seed_gives_the_same_trace_and_another_one_does_not() {
    let run = |seed| {
        let faults = crate::sim::fault::random_schedule(&mut fastrand::Rng::with_seed(seed), 60 * SECOND);
        let mut model = model(ModelConfig { faults, ..ModelConfig::new(seed) }, CapacityConfig::provisioned(100.0));
        for step in 0..2_000u32 {
            let at = step * SECOND / 40;
            let journey = depart(&mut model, at, CallKind::Batch);
            let items = (0..5).map(|index| put((step * 5 + index) % 97, &version(step.into()))).collect();
            model.batch_write(at + journey.there, &journey, &batch(items)).ok();
        }
        (model.trace().hash(), model.trace().count())
    };
    assert_eq!(run(3), run(3));
    assert_ne!(run(3).0, run(4).0);
}
