//! What honest clients do is never a flood; what attackers do soon is.

use super::*;

const MILLISECOND: Duration = Duration::from_millis(1);

fn frame(kind: u8, stream: u32) -> FrameHead {
    FrameHead { length: 8, kind, flags: 0, stream }
}

fn guard() -> (Guard, Instant) {
    let now = Instant::now();
    (Guard::new(FloodLimits::default(), now), now)
}

/// How many frames go through before the flood is seen.
fn frames_until_flood(mut send: impl FnMut(&mut Guard, u32, Instant) -> Result<(), Flood>) -> (u32, Flood) {
    let (mut guard, start) = guard();
    for at in 0..100_000 {
        // A frame every 10 µs: 100,000 a second.
        if let Err(flood) = send(&mut guard, at, start + Duration::from_micros(u64::from(at) * 10)) {
            return (at, flood);
        }
    }
    panic!("it was never seen");
}

#[test]
fn each_kind_of_flood_is_seen_within_its_burst_and_little_more() {
    let empty = FrameHead { length: 0, ..frame(FrameHead::DATA, 1) };
    let cases = [
        (frame(FrameHead::PING, 0), Flood::Ping),
        (frame(FrameHead::SETTINGS, 0), Flood::Settings),
        (frame(FrameHead::PRIORITY, 3), Flood::Priority),
        (frame(FrameHead::CONTINUATION, 1), Flood::Continuation),
        (frame(FrameHead::WINDOW_UPDATE, 0), Flood::WindowUpdate),
        (frame(FrameHead::GOAWAY, 0), Flood::Unknown),
        (frame(0xbe, 0), Flood::Unknown),
        (empty, Flood::EmptyData),
    ];
    for (head, flood) in cases {
        let (frames, seen) = frames_until_flood(|guard, _, now| guard.received(head, now));
        assert_eq!(seen, flood);
        assert!((CONTROL_FRAMES_BURST..CONTROL_FRAMES_BURST * 11 / 10).contains(&frames), "{flood:?}: {frames}");
    }
}

#[test]
fn a_rapid_reset_is_seen_whoever_resets() {
    let by_client = frames_until_flood(|guard, at, now| {
        guard.received(frame(FrameHead::HEADERS, at * 2 + 1), now)?;
        guard.received(frame(FrameHead::RST_STREAM, at * 2 + 1), now)
    });
    let by_us = frames_until_flood(|guard, at, now| {
        guard.received(frame(FrameHead::HEADERS, at * 2 + 1), now)?;
        guard.sent(frame(FrameHead::RST_STREAM, at * 2 + 1), now)
    });
    for ((frames, seen), flood) in [(by_client, Flood::Reset), (by_us, Flood::Refused)] {
        assert_eq!(seen, flood);
        assert!((YOUNG_RESETS_BURST..YOUNG_RESETS_BURST * 11 / 10).contains(&frames), "{flood:?}: {frames}");
    }
}

#[test]
fn resets_of_one_stream_over_and_over_are_a_flood() {
    let (frames, flood) = frames_until_flood(|guard, at, now| {
        if at == 0 {
            guard.received(frame(FrameHead::HEADERS, 1), now)?;
        }
        guard.received(frame(FrameHead::RST_STREAM, 1), now)
    });
    assert_eq!(flood, Flood::Reset);
    assert!(frames < YOUNG_RESETS_BURST * 11 / 10, "{frames}");
}

#[test]
fn a_client_whose_every_read_times_out_is_no_flood() {
    let (mut guard, start) = guard();
    // 256 streams at once, each cancelled after 11 ms, for ten seconds: 21,000 cancels a second.
    for round in 0..830_u32 {
        let begun = start + round * 12 * MILLISECOND;
        for stream in 0..256 {
            guard.received(frame(FrameHead::HEADERS, (round * 256 + stream) * 2 + 1), begun).unwrap();
        }
        for stream in 0..256 {
            let id = (round * 256 + stream) * 2 + 1;
            guard.received(frame(FrameHead::RST_STREAM, id), begun + 11 * MILLISECOND).unwrap();
        }
    }
}

#[test]
fn a_client_that_hedges_its_reads_is_no_flood() {
    let (mut guard, start) = guard();
    // 10,000 reads a second for ten seconds; one in twenty is the loser of a hedge, cancelled after two milliseconds.
    for read in 0..100_000_u32 {
        let now = start + Duration::from_micros(u64::from(read) * 100);
        guard.received(frame(FrameHead::HEADERS, read * 2 + 1), now).unwrap();
        if read % 20 == 0 {
            guard.received(frame(FrameHead::RST_STREAM, read * 2 + 1), now + 2 * MILLISECOND).unwrap();
        }
    }
}

#[test]
fn a_client_that_measures_its_bandwidth_is_no_flood() {
    let (mut guard, start) = guard();
    // A small ack every 200 µs for ten seconds; the client pings and updates both windows for each.
    for at in 0..50_000_u32 {
        let now = start + Duration::from_micros(u64::from(at) * 200);
        guard.sent(FrameHead { length: 9, ..frame(FrameHead::DATA, 1) }, now).unwrap();
        for (kind, stream) in [(FrameHead::PING, 0), (FrameHead::WINDOW_UPDATE, 0), (FrameHead::WINDOW_UPDATE, 1)] {
            guard.received(frame(kind, stream), now).unwrap();
        }
    }
}

#[test]
fn a_window_that_is_opened_by_single_bytes_is_a_flood() {
    let (frames, flood) = frames_until_flood(|guard, _, now| {
        guard.received(frame(FrameHead::WINDOW_UPDATE, 1), now)?;
        guard.sent(FrameHead { length: 1, ..frame(FrameHead::DATA, 1) }, now)
    });
    assert_eq!(flood, Flood::WindowUpdate);
    assert!(frames < CONTROL_FRAMES_BURST * 11 / 10, "{frames}");
}

#[test]
fn answers_to_our_pings_are_free_and_others_are_dear() {
    let (mut guard, now) = guard();
    let pong = FrameHead { flags: FrameHead::FIRST_FLAG, ..frame(FrameHead::PING, 0) };
    for _ in 0..10_000 {
        guard.sent(frame(FrameHead::PING, 0), now).unwrap();
        guard.received(pong, now).unwrap();
    }
    let unasked = (0..100).find_map(|at| guard.received(pong, now).err().map(|flood| (at, flood)));
    assert_eq!(unasked, Some((CONTROL_FRAMES_BURST / UNASKED_PONG_COST, Flood::Ping)));
}

#[test]
fn data_and_the_ends_of_streams_cost_nothing() {
    let (mut guard, now) = guard();
    let end = FrameHead { length: 0, flags: FrameHead::FIRST_FLAG, ..frame(FrameHead::DATA, 1) };
    for _ in 0..100_000 {
        guard.received(frame(FrameHead::DATA, 1), now).unwrap();
        guard.received(end, now).unwrap();
    }
}

#[test]
fn penalties_double_up_to_the_longest() {
    let penalty = |floods| penalty(floods, 100 * MILLISECOND, 2000 * MILLISECOND).as_millis();
    assert_eq!([0, 1, 2, 3, 9, u32::MAX].map(penalty), [0, 100, 200, 400, 2000, 2000]);
}

#[test]
fn a_stream_that_was_answered_is_reset_for_nothing() {
    let (mut guard, start) = guard();
    for call in 0..5_000 {
        let now = start + MILLISECOND * call;
        let stream = call * 2 + 1;
        guard.received(frame(FrameHead::HEADERS, stream), now).unwrap();
        // A status without a body; the client gives up on the rest of its request.
        guard.sent(FrameHead { flags: FrameHead::FIRST_FLAG, ..frame(FrameHead::HEADERS, stream) }, now).unwrap();
        guard.received(frame(FrameHead::RST_STREAM, stream), now).unwrap();
    }
}
