"""What a writer does from call to call, message by message: barriers, drains, broken calls, patience. No connection, no clock."""

from __future__ import annotations

from typing import List, Optional

import pytest

from forebay import CallError, Unauthenticated, Unavailable
from forebay._exchange import Barrier, End, Exchange
from forebay._session import Part, Session, Violation
from forebay._wire import Payload, row_of_batch
from forebay.v1 import ingest_pb2 as pb
from forebay.v1 import types_pb2

NOW = 1000.0
RETRY_FOR = 60.0
BROKEN = Unavailable("UNAVAILABLE", "it is full")


def exchange(parts: int = 0) -> Exchange:
    """One with an open call and so many parts accepted."""
    made = Exchange(Session(0.0, lambda _: None), 10.0, RETRY_FOR)
    begin(made)
    for batch in range(1, parts + 1):
        accept(made, batch)
    return made


def begin(made: Exchange, batches: int = 64) -> None:
    made.begin(pb.Opened(window=pb.Window(max_unacked_bytes=1 << 20, max_unacked_batches=batches)))


def accept(made: Exchange, batch: int) -> None:
    made.accept(Part(batch, 0, Payload.of_rows([row_of_batch(types_pb2.Row())])))


def sent(made: Exchange) -> List[str]:
    """The kinds of what goes out now, until nothing does."""
    kinds: List[str] = []
    while True:
        request: Optional[bytes] = made.next_request(NOW)
        if request is None:
            return kinds
        kinds.append(str(pb.WriteRequest.FromString(request).WhichOneof("message")))


def ack(made: Exchange, through: int) -> None:
    made.on_response(pb.WriteResponse(ack=pb.Ack(committed_through=through)), NOW)


def drain(made: Exchange, seconds: int = 20) -> None:
    answer = pb.WriteResponse(drain=pb.Drain())
    answer.drain.deadline.seconds = seconds
    made.on_response(answer, NOW)


def finished(made: Exchange) -> None:
    made.on_response(pb.WriteResponse(finished=pb.Finished()), NOW)


def test_after_drain_no_batch_goes_out_and_finish_waits_for_the_last_ack() -> None:
    made = exchange(parts=2)
    assert sent(made) == ["batch", "batch"]
    accept(made, 3)
    drain(made)
    assert sent(made) == []
    ack(made, 1)
    assert sent(made) == [], "one is in flight: Finish would lose its ack"
    ack(made, 2)
    assert sent(made) == ["finish"]
    finished(made)
    assert made.on_end(None) is End.DRAINED
    assert made.needs_call and not made.drained_without_use
    begin(made)
    assert sent(made) == ["batch"]


def test_a_barrier_goes_out_after_all_that_was_accepted_before_it_and_once() -> None:
    made = exchange()
    begin(made, batches=1)
    accept(made, 1)
    assert sent(made) == ["batch"]
    accept(made, 2)
    barrier = Barrier(finish=False)
    made.set_barrier(barrier)
    assert not made.takes_parts
    assert sent(made) == [], "the window is full, and a batch goes first"
    ack(made, 1)
    assert sent(made) == ["batch", "flush"]
    made.on_response(pb.WriteResponse(flushed=pb.Flushed(committed_through=2)), NOW)
    assert barrier.receipt is not None and barrier.receipt.batches == 2
    assert made.takes_parts and sent(made) == []


def test_a_barrier_that_a_broken_call_took_with_it_goes_out_again() -> None:
    made = exchange(parts=1)
    barrier = Barrier(finish=True)
    made.set_barrier(barrier)
    assert sent(made) == ["batch", "finish"]
    assert made.on_end(BROKEN) is End.BROKEN
    begin(made)
    assert sent(made) == ["batch", "finish"]
    ack(made, 1)
    finished(made)
    assert made.on_end(None) is End.FINISHED
    assert barrier.receipt is not None and barrier.receipt.calls == 2


def test_finish_without_anything_unacked_needs_no_call() -> None:
    made = exchange(parts=1)
    sent(made)
    ack(made, 1)
    assert made.on_end(BROKEN) is End.BROKEN
    assert not made.needs_call
    barrier = Barrier(finish=True)
    made.set_barrier(barrier)
    assert made.settle_without_call()
    assert barrier.receipt is not None and barrier.receipt.committed_rows == 1


def test_a_connection_that_breaks_after_finished_takes_nothing_with_it() -> None:
    made = exchange(parts=1)
    made.set_barrier(Barrier(finish=True))
    sent(made)
    ack(made, 1)
    finished(made)
    assert made.on_end(BROKEN) is End.FINISHED


def test_what_would_fail_again_is_raised_and_not_tried_again() -> None:
    lost = CallError("DATA_LOSS", "2 rows were announced, 1 came")
    with pytest.raises(CallError) as raised:
        exchange(parts=1).on_end(lost)
    assert raised.value is lost
    refused = Unauthenticated("UNAUTHENTICATED", "the token has expired")
    with pytest.raises(Unauthenticated):
        exchange(parts=1).on_end(refused)
    made = exchange(parts=1)
    drain(made)
    assert made.on_end(refused) is End.DRAINED, "it was announced: the next call has another token, or fails"


def test_a_drained_call_by_which_nothing_became_final_is_a_failure() -> None:
    made = exchange(parts=1)
    assert sent(made) == ["batch"]
    drain(made, seconds=0)
    assert made.drain_passed(NOW) and made.drained_without_use
    begin(made)
    assert sent(made) == ["batch"]
    ack(made, 1)
    accept(made, 2)
    assert not made.drained_without_use


def test_a_gateway_that_drains_every_call_is_given_up_when_patience_is_over() -> None:
    made = exchange(parts=1)
    now, calls = NOW, 0
    with pytest.raises(Unavailable, match="gave up after .* s: the gateway takes no new calls"):
        while calls < 1000:
            begin(made)
            drain(made)
            assert sent(made) == ["finish"]
            finished(made)
            assert made.on_end(None) is End.DRAINED and made.drained_without_use
            now += made.pause(now, 0.5)
            calls += 1
    assert 5 < calls < 30 and now - NOW <= RETRY_FOR


def test_pauses_double_and_begin_anew_when_something_became_final() -> None:
    made = exchange(parts=1)
    pauses = []
    now = NOW
    for _ in range(5):
        made.on_end(BROKEN)
        pauses.append(made.pause(now, 1.0))
        now += pauses[-1]
        begin(made)
        sent(made)
    assert pauses == pytest.approx([0.1, 0.2, 0.4, 0.8, 1.6])
    ack(made, 1)
    accept(made, 2)
    made.on_end(BROKEN)
    assert made.pause(now, 1.0) == pytest.approx(0.1)


def test_the_gateways_own_time_is_waited_for_and_patience_names_the_last_failure() -> None:
    made = exchange(parts=1)
    made.on_end(Unavailable("UNAVAILABLE", "later", retry_after=7.0))
    assert made.pause(NOW, 0.0) == 7.0
    made.on_end(BROKEN)
    with pytest.raises(Unavailable, match="gave up after 60 s: it is full"):
        made.pause(NOW + RETRY_FOR, 0.0)


def test_a_deadline_that_is_not_the_gateways_is_a_broken_call() -> None:
    made = exchange(parts=1)
    assert made.on_end(CallError("DEADLINE_EXCEEDED", "a proxy's longest call")) is End.BROKEN
    with pytest.raises(CallError):
        made.on_end(CallError("DEADLINE_EXCEEDED", "the gateway's own", reason="ROW_DEADLINE"))


def test_rows_that_are_sent_again_before_flushed_comes_do_not_end_the_session() -> None:
    made = Exchange(Session(60.0, lambda _: None), 10.0, RETRY_FOR)
    begin(made)
    accept(made, 1)
    accept(made, 2)
    barrier = Barrier(finish=False)
    made.set_barrier(barrier)
    assert sent(made) == ["batch", "batch", "flush"]
    late = pb.RowOutcome(batch_seq=1, status=pb.ROW_STATUS_RETRYABLE)
    late.retry_after.seconds = 0
    made.on_response(pb.WriteResponse(ack=pb.Ack(committed_through=1, outcomes=[late])), NOW)
    assert sent(made) == ["batch"], "it need not wait for the other row, which may be as slow"
    made.on_response(pb.WriteResponse(flushed=pb.Flushed(committed_through=2)), NOW)
    assert barrier.receipt is None, "the row that was sent again has no outcome yet"
    assert sent(made) == ["flush"]
    made.on_response(pb.WriteResponse(flushed=pb.Flushed(committed_through=3)), NOW)
    assert barrier.receipt is not None and barrier.receipt.committed_rows == 2


def test_flushed_with_a_batch_before_it_unacked_breaks_the_protocol() -> None:
    made = exchange(parts=2)
    made.set_barrier(Barrier(finish=False))
    assert sent(made) == ["batch", "batch", "flush"]
    with pytest.raises(Violation, match="Flushed came before"):
        made.on_response(pb.WriteResponse(flushed=pb.Flushed(committed_through=1)), NOW)


def test_patience_does_not_count_the_time_in_which_there_was_nothing_to_send() -> None:
    made = exchange()
    assert made.on_end(BROKEN) is End.BROKEN
    made.pause(NOW, 0.0)
    assert not made.needs_call
    accept(made, 1)
    later = NOW + 3600.0
    assert made.on_end(BROKEN) is End.BROKEN
    assert made.pause(later, 0.0) < 1.0
    with pytest.raises(Unavailable, match="gave up after"):
        made.pause(later + RETRY_FOR, 0.0)


def test_flushed_that_was_not_asked_for_breaks_the_protocol() -> None:
    made = exchange(parts=1)
    assert sent(made) == ["batch"]
    with pytest.raises(Violation, match="without Flush"):
        made.on_response(pb.WriteResponse(flushed=pb.Flushed(committed_through=1)), NOW)
