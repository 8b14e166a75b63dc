"""What a write session promises, whatever calls and gateways do: without a gateway, a connection or a clock."""

from __future__ import annotations

import random
from typing import Any, List, Optional, Sequence, Tuple

import pytest

from forebay._session import Part, Session, Violation
from forebay._wire import Payload, row_of_batch
from forebay.results import Outcome, RowStatus
from forebay.v1 import ingest_pb2 as pb
from forebay.v1 import types_pb2

ROWS = 3
RESEND = 300.0
PAUSE = 5.0
NOW = 1000.0


def row(number: int) -> bytes:
    return row_of_batch(types_pb2.Row(values=[types_pb2.Value(int_value=number)]))


def part(batch: int, *, first_row: int = 0, ends_batch: bool = True, atomic: bool = False) -> Part:
    rows = [row(batch * 100 + first_row + at) for at in range(ROWS)]
    return Part(batch, first_row, Payload.of_rows(rows, atomic=atomic), ends_batch)


def numbers(request: Optional[bytes]) -> Tuple[int, List[int]]:
    """The number of a sent batch, and what its rows hold."""
    assert request is not None
    batch = pb.WriteRequest.FromString(request).batch
    return batch.batch_seq, [found.values[0].int_value for found in batch.rows.rows]


class Told:
    """A session and what it has told."""

    def __init__(self, resend: float = RESEND) -> None:
        self.outcomes: List[Outcome] = []
        self.session = Session(resend, self.outcomes.append)
        self.session.begin_call()

    def send(self, *parts: Part) -> Session:
        for one in parts:
            self.session.accept(one)
            assert self.session.next_to_send(NOW) is not None
        return self.session

    @property
    def rows(self) -> List[Tuple[int, int]]:
        return [(outcome.batch, outcome.row) for outcome in self.outcomes]


def ack(through: int, outcomes: Sequence[pb.RowOutcome] = (), ranges: Sequence[Tuple[int, int]] = ()) -> pb.Ack:
    return pb.Ack(
        committed_through=through,
        outcomes=outcomes,
        committed_ranges=[pb.BatchRange(first=first, last=last) for first, last in ranges],
    )


def outcome(seq: int, index: int, status: Any = pb.ROW_STATUS_REJECTED) -> pb.RowOutcome:
    told = pb.RowOutcome(batch_seq=seq, row_index=index, status=status, reason=pb.ROW_REASON_TYPE_MISMATCH)
    if status != pb.ROW_STATUS_REJECTED:
        told.retry_after.seconds = int(PAUSE)
    return told


def window(bytes_: int, batches: int) -> pb.Window:
    return pb.Window(max_unacked_bytes=bytes_, max_unacked_batches=batches)


def test_the_window_stops_sending_and_an_ack_lets_it_go_on() -> None:
    told = Told()
    session = told.session
    session.set_window(window(1 << 20, 2))
    told.send(part(1), part(2))
    assert session.accepts()
    session.accept(part(3))
    assert session.next_to_send(NOW) is None
    assert not session.accepts(), "what is held is the window and one part"
    session.on_ack(ack(1), NOW)
    assert numbers(session.next_to_send(NOW))[0] == 3


def test_a_part_larger_than_the_window_goes_when_nothing_is_in_flight() -> None:
    told = Told()
    told.session.set_window(window(10, 2))
    told.send(part(1))
    told.session.accept(part(2))
    assert told.session.next_to_send(NOW) is None
    told.session.on_ack(ack(1), NOW)
    assert told.session.next_to_send(NOW) is not None


def test_a_window_that_shrinks_holds_back_what_comes_and_takes_back_nothing() -> None:
    told = Told()
    session = told.send(part(1), part(2), part(3))
    session.set_window(window(1 << 20, 1))
    session.accept(part(4))
    session.on_ack(ack(2), NOW)
    assert session.next_to_send(NOW) is None, "one is in flight, and one is the window"
    session.on_ack(ack(3), NOW)
    assert numbers(session.next_to_send(NOW))[0] == 4


def test_outcomes_of_a_batch_that_is_sent_again_are_told_once() -> None:
    told = Told()
    session = told.send(part(1), part(2))
    session.on_ack(ack(1, [outcome(1, 0), outcome(2, 2)]), NOW)
    assert (told.rows, session.acked_batches) == ([(1, 0)], 1)
    # The call breaks; batch 2 is batch 1 of the next one.
    session.begin_call()
    assert numbers(session.next_to_send(NOW)) == (1, [200, 201, 202])
    session.on_ack(ack(1, [outcome(1, 2)]), NOW)
    assert (told.rows, session.acked_batches) == ([(1, 0), (2, 2)], 2)
    receipt = session.receipt()
    assert (receipt.rows, receipt.rejected_rows, receipt.committed_rows, receipt.calls) == (6, 2, 4, 2)


def test_a_committed_range_is_not_sent_again_but_acked_in_order() -> None:
    told = Told()
    session = told.send(part(1), part(2), part(3))
    session.on_ack(ack(0, ranges=[(2, 3)]), NOW)
    assert session.acked_batches == 0
    session.begin_call()
    assert numbers(session.next_to_send(NOW)) == (1, [100, 101, 102])
    assert session.all_sent
    session.on_ack(ack(1), NOW)
    assert session.acked_batches == 3 and session.is_empty


def test_a_range_makes_room_in_the_window_for_its_bytes_and_not_for_its_number() -> None:
    told = Told()
    session = told.session
    session.set_window(window(2 * part(1).payload.message_bytes(1), 3))
    told.send(part(1), part(2))
    session.accept(part(3))
    assert session.next_to_send(NOW) is None
    session.on_ack(ack(0, ranges=[(2, 2)]), NOW)
    assert session.next_to_send(NOW) is not None
    session.accept(part(4))
    assert session.next_to_send(NOW) is None, "batches count from committed_through on"


def test_rows_that_were_not_written_in_time_go_again_alone_and_keep_their_numbers() -> None:
    told = Told()
    session = told.send(part(1), part(2))
    late = [outcome(1, 0), outcome(1, 2, pb.ROW_STATUS_RETRYABLE), outcome(1, 1, pb.ROW_STATUS_UNKNOWN)]
    session.on_ack(ack(2, late), NOW)
    assert (told.rows, session.acked_batches) == ([(1, 0)], 0)
    assert not session.accepts() and not session.all_sent and not session.has_in_flight
    assert session.next_to_send(NOW) is None and session.next_due(NOW) == NOW + PAUSE

    later = NOW + PAUSE
    assert numbers(session.next_to_send(later)) == (3, [101, 102])
    assert session.call_counts == (3, 2 * ROWS + 2)
    # One of the two once more, and the call breaks before it is sent.
    session.on_ack(ack(3, [outcome(3, 1, pb.ROW_STATUS_RETRYABLE)]), later)
    session.begin_call()
    assert numbers(session.next_to_send(later + PAUSE)) == (1, [102])
    session.on_ack(ack(1, [outcome(1, 0)]), later + PAUSE)
    assert told.rows == [(1, 0), (1, 2)], "the caller's own row 2"
    assert session.acked_batches == 2
    receipt = session.receipt()
    assert (receipt.rows, receipt.rejected_rows, receipt.committed_rows) == (6, 2, 4)
    assert (receipt.retryable_rows, receipt.unknown_rows) == (0, 0), "all of them came through"


def test_an_atomic_part_goes_again_as_a_whole() -> None:
    told = Told()
    session = told.send(part(1, atomic=True))
    session.on_ack(ack(1, [outcome(1, 1, pb.ROW_STATUS_RETRYABLE), outcome(1, 0)]), NOW)
    assert told.rows == [], "nothing of it is final"
    assert numbers(session.next_to_send(NOW + PAUSE)) == (2, [100, 101, 102])
    session.on_ack(ack(2, [outcome(2, 0)]), NOW + PAUSE)
    assert told.rows == [(1, 0)]
    assert session.receipt().rows == ROWS


def test_patience_ends_and_the_outcome_is_told() -> None:
    told = Told()
    session = told.send(part(1))
    session.on_ack(ack(1, [outcome(1, 1, pb.ROW_STATUS_RETRYABLE)]), NOW)
    session.next_to_send(NOW + PAUSE)
    session.on_ack(ack(2, [outcome(2, 0, pb.ROW_STATUS_UNKNOWN)]), NOW + RESEND + 1)
    assert [(told.batch, told.row, told.status) for told in told.outcomes] == [(1, 1, RowStatus.UNKNOWN)]
    receipt = session.receipt()
    assert (receipt.unknown_rows, receipt.committed_rows) == (1, 2)


def test_a_caller_may_see_to_late_rows_itself() -> None:
    told = Told(resend=0.0)
    session = told.send(part(1))
    session.on_ack(ack(1, [outcome(1, 0, pb.ROW_STATUS_RETRYABLE)]), NOW)
    assert (told.rows, session.is_empty) == ([(1, 0)], True)
    assert told.outcomes[0].retry_after == PAUSE


def test_rows_of_a_cut_batch_keep_the_callers_numbers() -> None:
    told = Told()
    session = told.send(part(7, ends_batch=False), part(7, first_row=ROWS))
    session.on_ack(ack(1, [outcome(2, 1)]), NOW)
    assert session.receipt().batches == 0
    session.on_ack(ack(2), NOW)
    assert (told.rows, session.receipt().batches) == ([(7, ROWS + 1)], 1)


@pytest.mark.parametrize(
    "wrong",
    [
        ack(3),
        ack(0, [outcome(1, ROWS)]),
        ack(0, [outcome(3, 0)]),
        ack(0, [outcome(0, 0)]),
        ack(2, [outcome(1, 0, pb.ROW_STATUS_UNSPECIFIED)]),
    ],
)
def test_an_ack_for_what_was_not_sent_breaks_the_protocol(wrong: pb.Ack) -> None:
    session = Told().send(part(1), part(2))
    with pytest.raises(Violation):
        session.on_ack(wrong, NOW)


def test_an_ack_never_goes_back() -> None:
    session = Told().send(part(1), part(2))
    session.on_ack(ack(2), NOW)
    with pytest.raises(Violation):
        session.on_ack(ack(1), NOW)
    with pytest.raises(Violation):
        session.on_ack(ack(2, [outcome(1, 0)]), NOW)


def test_a_receipt_adds_up_what_each_call_reported_and_counts_no_call_twice() -> None:
    told = Told()
    session = told.send(part(1))
    report = pb.Receipt(write_units=2.0, throttled_attempts=1, coercions={"n: int->bigint": 3})
    session.on_flushed(pb.Flushed(committed_through=1, receipt=report), NOW)
    assert session.receipt().write_units == 2.0
    session.begin_call()
    session.accept(part(2))
    session.next_to_send(NOW)
    session.on_ack(ack(1), NOW)
    session.on_finished(pb.Finished(receipt=pb.Receipt(write_units=1.5, coercions={"n: int->bigint": 1})), NOW)
    receipt = session.receipt()
    assert (receipt.write_units, receipt.throttled_attempts, dict(receipt.coercions)) == (3.5, 1, {"n: int->bigint": 4})


def test_finished_before_all_is_acked_breaks_the_protocol() -> None:
    session = Told().send(part(1))
    with pytest.raises(Violation):
        session.on_finished(pb.Finished(), NOW)


@pytest.mark.parametrize("seed", range(200))
def test_however_calls_break_every_batch_is_acked_once_in_order_and_every_outcome_told_once(seed: int) -> None:
    chance = random.Random(seed)
    told = Told()
    session = told.session
    now, accepted = NOW, 0
    # What the gateway has got in this call, as first rows of the caller's batches; what it has said.
    got: List[List[int]] = []
    through, covered, said, max_batches = 0, set(), set(), 64
    written: List[int] = []

    def outcomes_of(seq: int, flaky: bool) -> List[pb.RowOutcome]:
        """The gateway rejects every seventh row, whichever call brings it; and may be late with others."""
        found = []
        for at, value in enumerate(got[seq - 1]):
            if value % 7 == 0:
                found.append(outcome(seq, at))
            elif flaky and chance.random() < 0.2:
                found.append(outcome(seq, at, chance.choice([pb.ROW_STATUS_RETRYABLE, pb.ROW_STATUS_UNKNOWN])))
            else:
                written.append(value)
        said.add(seq)
        return found

    def step(kind: str, flaky: bool = True) -> None:
        nonlocal accepted, now, through, max_batches
        now += chance.random()
        if kind == "accept" and session.accepts():
            accepted += 1
            session.accept(part(accepted))
        elif kind == "send":
            request = session.next_to_send(now)
            if request is not None:
                in_flight = len(got) - through
                assert in_flight == 0 or in_flight < max_batches
                seq, values = numbers(request)
                assert seq == len(got) + 1
                got.append(values)
        elif kind == "ack" and len(got) > through:
            through = chance.randint(through + 1, len(got))
            told_now = [told for seq in range(1, through + 1) if seq not in said for told in outcomes_of(seq, flaky)]
            # Some come before they are covered.
            if through < len(got) and through + 1 not in said:
                told_now += outcomes_of(through + 1, flaky)
            session.on_ack(ack(through, told_now), now)
        elif kind == "range" and len(got) > through + 1:
            seq = chance.randint(through + 2, len(got))
            told_now = [] if seq in said else outcomes_of(seq, flaky)
            covered.add(seq)
            session.on_ack(ack(through, told_now, [(seq, seq)]), now)
        elif kind == "break":
            session.begin_call()
            got.clear()
            said.clear()
            covered.clear()
            through = 0
        elif kind == "window":
            max_batches = chance.randint(1, 8)
            session.set_window(window(1 << 20, max_batches))

    kinds = ["accept"] * 4 + ["send"] * 4 + ["ack"] * 3 + ["range", "break", "window"]
    for _ in range(chance.randint(1, 200)):
        step(chance.choice(kinds))
    step("break")
    for _ in range(1000):
        if session.is_empty:
            break
        now += PAUSE
        step("send")
        step("ack", flaky=False)
    assert session.is_empty and session.acked_batches == accepted

    rows = [(batch, at, batch * 100 + at) for batch in range(1, accepted + 1) for at in range(ROWS)]
    rejected = [(batch, at) for batch, at, value in rows if value % 7 == 0]
    assert sorted(told.rows) == rejected
    assert set(written) == {value for _, _, value in rows if value % 7}, "nothing is lost"
    receipt = session.receipt()
    assert (receipt.batches, receipt.rows) == (accepted, accepted * ROWS)
    assert (receipt.rejected_rows, receipt.committed_rows) == (len(rejected), len(rows) - len(rejected))
