use bytes::Bytes;
use proptest::prelude::*;

use super::*;

const ROWS: usize = 3;
const RESEND: Duration = Duration::from_secs(300);

fn part(batch: u64, now: Instant) -> Part {
    let payload = wire::Payload::Rows(Bytes::from(vec![batch as u8; 100]));
    Part { batch, first_row: 0, rows: ROWS, ends_batch_of: Some(ROWS), payload, accepted_at: now }
}

fn session(parts: u64) -> (Session, Instant) {
    let now = Instant::now();
    let mut session = Session::new(RESEND);
    session.begin_call(now);
    for batch in 1..=parts {
        session.accept(part(batch, now));
        session.next_to_send(now).unwrap();
    }
    (session, now)
}

fn ack(through: u64, outcomes: Vec<v1::RowOutcome>) -> v1::Ack {
    v1::Ack { committed_through: through, outcomes, ..v1::Ack::default() }
}

fn rejected(batch_seq: u64, row_index: u32) -> v1::RowOutcome {
    v1::RowOutcome { batch_seq, row_index, status: RowStatus::Rejected.into(), ..v1::RowOutcome::default() }
}

fn acked(events: &[Event]) -> Vec<u64> {
    events.iter().filter_map(|event| if let Event::Acked(acked) = event { Some(acked.batch) } else { None }).collect()
}

fn outcomes(events: &[Event]) -> Vec<(u64, usize)> {
    let rows = events.iter().filter_map(|event| match event {
        Event::Outcome(outcome) => Some((outcome.batch, outcome.row)),
        _ => None,
    });
    rows.collect()
}

#[test]
fn the_window_stops_sending_and_an_ack_lets_it_go_on() {
    let now = Instant::now();
    let mut session = Session::new(RESEND);
    session.begin_call(now);
    session.set_window(&v1::Window { max_unacked_bytes: 1 << 20, max_unacked_batches: 2 });
    for batch in 1..=2 {
        assert!(session.accepts());
        session.accept(part(batch, now));
        assert!(session.next_to_send(now).is_some());
    }
    session.accept(part(3, now));
    assert!(session.next_to_send(now).is_none());
    assert!(!session.accepts(), "what is held is the window and one part");
    session.on_ack(ack(1, vec![]), now).unwrap();
    assert_eq!(session.next_to_send(now).unwrap().0, 3);
}

#[test]
fn a_part_larger_than_the_window_goes_when_nothing_is_in_flight() {
    let now = Instant::now();
    let mut session = Session::new(RESEND);
    session.begin_call(now);
    session.set_window(&v1::Window { max_unacked_bytes: 10, max_unacked_batches: 2 });
    session.accept(part(1, now));
    assert!(session.next_to_send(now).is_some());
    session.accept(part(2, now));
    assert!(!session.can_send(now));
}

#[test]
fn outcomes_of_a_batch_that_is_sent_again_are_told_once() {
    let (mut session, now) = session(2);
    let events = session.on_ack(ack(1, vec![rejected(1, 0), rejected(2, 2)]), now).unwrap();
    assert_eq!((outcomes(&events), acked(&events)), (vec![(1, 0)], vec![1]));
    // The call breaks; batch 2 is batch 1 of the next one.
    session.begin_call(now);
    assert_eq!(session.next_to_send(now).unwrap().0, 1);
    let events = session.on_ack(ack(1, vec![rejected(1, 2)]), now).unwrap();
    assert_eq!((outcomes(&events), acked(&events)), (vec![(2, 2)], vec![2]));
    let receipt = session.receipt();
    assert_eq!((receipt.rows, receipt.rejected_rows, receipt.committed_rows, receipt.calls), (6, 2, 4, 2));
}

#[test]
fn a_committed_range_is_not_sent_again_but_acked_in_order() {
    let (mut session, now) = session(3);
    let ranges = vec![v1::BatchRange { first: 2, last: 3 }];
    let events = session.on_ack(v1::Ack { committed_ranges: ranges, ..v1::Ack::default() }, now).unwrap();
    assert_eq!(acked(&events), Vec::<u64>::new());
    session.begin_call(now);
    assert_eq!(session.next_to_send(now).unwrap().0, 1);
    assert!(session.all_sent());
    assert_eq!(acked(&session.on_ack(ack(1, vec![]), now).unwrap()), [1, 2, 3]);
    assert!(session.is_empty());
}

/// A part of rows that can be told apart.
fn rows_part(batch: u64, now: Instant) -> Part {
    let mut buffer = wire::RowsBuffer::default();
    for row in 0..ROWS {
        let value = v1::Value { kind: Some(v1::value::Kind::IntValue(row as i64)) };
        buffer.push(&v1::Row { values: vec![value] });
    }
    Part { payload: buffer.take(), ..part(batch, now) }
}

fn waited(batch_seq: u64, row_index: u32, status: RowStatus) -> v1::RowOutcome {
    let retry_after = Some(prost_types::Duration { seconds: 5, nanos: 0 });
    v1::RowOutcome { batch_seq, row_index, status: status.into(), retry_after, ..v1::RowOutcome::default() }
}

fn again(events: &[Event]) -> Vec<(u64, usize)> {
    let rows = events.iter().filter_map(|event| match event {
        Event::SendingAgain { batch, rows, .. } => Some((*batch, *rows)),
        _ => None,
    });
    rows.collect()
}

const PAUSE: Duration = Duration::from_secs(5);

#[test]
fn rows_that_were_not_written_in_time_are_sent_again_alone_and_keep_their_numbers() {
    let now = Instant::now();
    let mut session = Session::new(RESEND);
    session.begin_call(now);
    session.accept(rows_part(1, now));
    let (_, whole) = session.next_to_send(now).unwrap();
    session.accept(rows_part(2, now));
    session.next_to_send(now).unwrap();
    let told = vec![rejected(1, 0), waited(1, 2, RowStatus::Retryable), waited(1, 1, RowStatus::Unknown)];
    let events = session.on_ack(ack(2, told), now).unwrap();
    assert_eq!((outcomes(&events), again(&events), acked(&events)), (vec![(1, 0)], vec![(1, 2)], vec![]));
    assert!(!session.accepts() && !session.all_sent() && !session.has_in_flight());
    assert_eq!((session.can_send(now), session.next_due()), (false, Some(now + PAUSE)));

    let later = now + PAUSE;
    let (seq, payload) = session.next_to_send(later).unwrap();
    assert_eq!((seq, Some(payload)), (3, whole.select(&[1, 2])));
    assert_eq!(session.call_counts(), (3, 2 * ROWS as u64 + 2));
    // One of the two once more, and the call breaks before it is sent.
    let events = session.on_ack(ack(3, vec![waited(3, 1, RowStatus::Retryable)]), later).unwrap();
    assert_eq!((again(&events), acked(&events)), (vec![(1, 1)], vec![]));
    session.begin_call(later);
    let (seq, payload) = session.next_to_send(later + PAUSE).unwrap();
    assert_eq!((seq, Some(payload)), (1, whole.select(&[2])));
    let events = session.on_ack(ack(1, vec![rejected(1, 0)]), later + PAUSE).unwrap();
    assert_eq!((outcomes(&events), acked(&events)), (vec![(1, 2)], vec![1, 2]), "the caller's own row 2");
    let receipt = session.receipt();
    assert_eq!((receipt.rows, receipt.rejected_rows, receipt.committed_rows), (6, 2, 4));
    assert_eq!((receipt.retryable_rows, receipt.unknown_rows), (0, 0), "all of them came through");
}

#[test]
fn patience_ends_and_the_outcome_is_told() {
    let (mut session, now) = session(1);
    let once = vec![waited(1, 1, RowStatus::Retryable)];
    let events = session.on_ack(ack(1, once), now).unwrap();
    assert_eq!(again(&events), [(1, 1)]);
    session.next_to_send(now + PAUSE).unwrap();
    let late = now + RESEND + Duration::from_secs(1);
    let twice = vec![waited(2, 0, RowStatus::Retryable), waited(2, 1, RowStatus::Unknown)];
    let events = session.on_ack(ack(2, twice), late).unwrap();
    assert_eq!((again(&events), outcomes(&events), acked(&events)), (vec![], vec![(1, 0), (1, 1)], vec![1]));
    let receipt = session.receipt();
    assert_eq!((receipt.retryable_rows, receipt.unknown_rows, receipt.committed_rows), (1, 1, 1));
}

#[test]
fn a_caller_may_see_to_late_rows_itself() {
    let now = Instant::now();
    let mut session = Session::new(Duration::ZERO);
    session.begin_call(now);
    session.accept(rows_part(1, now));
    session.next_to_send(now).unwrap();
    let events = session.on_ack(ack(1, vec![waited(1, 0, RowStatus::Retryable)]), now).unwrap();
    assert_eq!((outcomes(&events), acked(&events)), (vec![(1, 0)], vec![1]));
}

#[test]
fn a_range_makes_room_in_the_window_for_its_bytes() {
    let now = Instant::now();
    let mut session = Session::new(RESEND);
    session.begin_call(now);
    let message_bytes = part(1, now).payload.message_bytes(1) as u64;
    session.set_window(&v1::Window { max_unacked_bytes: 2 * message_bytes, max_unacked_batches: 3 });
    for batch in 1..=2 {
        session.accept(part(batch, now));
        session.next_to_send(now).unwrap();
    }
    session.accept(part(3, now));
    assert!(!session.can_send(now));
    let ranges = vec![v1::BatchRange { first: 2, last: 2 }];
    session.on_ack(v1::Ack { committed_ranges: ranges, ..v1::Ack::default() }, now).unwrap();
    session.next_to_send(now).unwrap();
    session.accept(part(4, now));
    assert!(!session.can_send(now), "batches count from committed_through on");
}

#[test]
fn rows_of_a_cut_batch_keep_the_callers_numbers() {
    let now = Instant::now();
    let mut session = Session::new(RESEND);
    session.begin_call(now);
    session.accept(Part { ends_batch_of: None, ..part(7, now) });
    session.accept(Part { first_row: ROWS, ends_batch_of: Some(2 * ROWS), ..part(7, now) });
    while session.next_to_send(now).is_some() {}
    assert_eq!(acked(&session.on_ack(ack(1, vec![rejected(2, 1)]), now).unwrap()), Vec::<u64>::new());
    let events = session.on_ack(ack(2, vec![]), now).unwrap();
    assert_eq!((outcomes(&events), acked(&events)), (vec![(7, ROWS + 1)], vec![7]));
    assert_eq!(session.receipt().batches, 1);
}

#[test]
fn an_ack_for_what_was_not_sent_breaks_the_protocol() {
    let (mut session, now) = session(2);
    assert!(session.on_ack(ack(3, vec![]), now).is_err());
    assert!(session.on_ack(ack(0, vec![rejected(1, ROWS as u32)]), now).is_err());
    session.on_ack(ack(2, vec![]), now).unwrap();
    assert!(session.on_ack(ack(1, vec![]), now).is_err());
    assert!(session.on_ack(ack(2, vec![rejected(1, 0)]), now).is_err());
}

/// What happens to a session, from outside.
#[derive(Debug, Clone)]
enum Step {
    Accept,
    Send,
    /// Commit this share of what is in flight, with outcomes for some of the rest.
    Ack(u8),
    /// Commit a range above.
    Range(u8),
    Break,
    Window(u8),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => Just(Step::Accept),
        4 => Just(Step::Send),
        3 => any::<u8>().prop_map(Step::Ack),
        1 => any::<u8>().prop_map(Step::Range),
        1 => Just(Step::Break),
        1 => any::<u8>().prop_map(Step::Window),
    ]
}

/// The gateway rejects row 0 of every third batch, whichever call brings it.
fn is_rejected(batch: u64) -> bool {
    batch.is_multiple_of(3)
}

proptest! {
    #[test]
    fn however_calls_break_every_batch_is_acked_once_in_order_and_every_outcome_told_once(
        steps in proptest::collection::vec(step(), 1..200)
    ) {
        let now = Instant::now();
        let mut session = Session::new(RESEND);
        session.begin_call(now);
        let mut accepted = 0;
        let mut events = Vec::new();
        // What the gateway got in this call, by batch_seq; and what it said.
        let mut got: Vec<u64> = Vec::new();
        let (mut through, mut told, mut max_batches) = (0_usize, Vec::<u64>::new(), 64_u32);
        let mut last_steps = vec![Step::Window(200), Step::Break];
        last_steps.extend(std::iter::repeat_n([Step::Send, Step::Ack(255)], 300).flatten());
        for step in steps.into_iter().chain(last_steps) {
            match step {
                Step::Accept if session.accepts() => {
                    accepted += 1;
                    session.accept(part(accepted, now));
                }
                Step::Accept => {}
                Step::Send => {
                    let in_flight = got.len() - through;
                    if let Some((seq, payload)) = session.next_to_send(now) {
                        prop_assert!(in_flight == 0 || in_flight < max_batches as usize);
                        prop_assert_eq!(seq, got.len() as u64 + 1);
                        let wire::Payload::Rows(bytes) = payload else { panic!("released") };
                        let batch = u64::from(bytes[0]);
                        prop_assert!(got.last().is_none_or(|last| *last < batch), "the caller's order");
                        got.push(batch);
                    }
                }
                Step::Ack(share) => {
                    let target = through + (got.len() - through) * usize::from(share) / 255;
                    // Outcomes come with or before the ack that covers them; here also some far ahead.
                    let ahead = (target + 2).min(got.len());
                    let mut outcomes = Vec::new();
                    for seq in 1..=ahead as u64 {
                        let batch = got[seq as usize - 1];
                        if is_rejected(batch) && !told.contains(&seq) {
                            told.push(seq);
                            outcomes.push(rejected(seq, 0));
                        }
                    }
                    through = target;
                    events.extend(session.on_ack(ack(through as u64, outcomes), now).unwrap());
                }
                Step::Range(pick) if got.len() > through + 1 => {
                    let seq = (through + 2 + usize::from(pick) % (got.len() - through - 1)) as u64;
                    let batch = got[seq as usize - 1];
                    let mut outcomes = Vec::new();
                    if is_rejected(batch) && !told.contains(&seq) {
                        told.push(seq);
                        outcomes.push(rejected(seq, 0));
                    }
                    let committed_ranges = vec![v1::BatchRange { first: seq, last: seq }];
                    let ack = v1::Ack { committed_ranges, ..ack(through as u64, outcomes) };
                    events.extend(session.on_ack(ack, now).unwrap());
                }
                Step::Range(_) => {}
                Step::Break => {
                    events.extend(session.begin_call(now));
                    (through, told, got) = (0, Vec::new(), Vec::new());
                }
                Step::Window(size) => {
                    max_batches = u32::from(size).max(1);
                    session.set_window(&v1::Window { max_unacked_bytes: 1 << 20, max_unacked_batches: max_batches });
                }
            }
        }
        prop_assert!(session.is_empty());
        prop_assert_eq!(acked(&events), (1..=accepted).collect::<Vec<_>>());
        let mut outcomes = outcomes(&events);
        outcomes.sort_unstable();
        let expected: Vec<_> = (1..=accepted).filter(|batch| is_rejected(*batch)).map(|batch| (batch, 0)).collect();
        prop_assert_eq!(&outcomes, &expected);
        let receipt = session.receipt();
        prop_assert_eq!((receipt.batches, receipt.rows), (accepted, accepted * ROWS as u64));
        prop_assert_eq!(receipt.rejected_rows, expected.len() as u64);
    }
}
