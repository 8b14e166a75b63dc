"""Both writers against a gateway that follows a script: broken calls, drains, windows, late rows, wrong answers."""

from __future__ import annotations

import asyncio
import sys
import threading
import time
from pathlib import Path
from typing import Any, Callable, Iterator, List

import grpc
import pytest

from forebay import CallError, ConnectOptions, Fenced, InvalidRequest, Outcome, SessionClosed, Unavailable
from forebay.aio_writer import AsyncWriter
from forebay.v1 import ingest_pb2 as pb
from forebay.writer import Writer

sys.path.insert(0, str(Path(__file__).resolve().parent))
from scripted_gateway import (  # noqa: E402
    Call,
    Script,
    ScriptedGateway,
    ack,
    drain,
    finished,
    flushed,
    opened,
    outcome,
    takes_all,
    window,
)

Responses = Iterator[pb.WriteResponse]


class BlockingAsyncWriter:
    """The asyncio writer in a loop of its own, with the blocking one's methods."""

    def __init__(self, options: ConnectOptions, table: str, **opening: Any) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever)
        self._thread.start()
        self._writer: AsyncWriter = self._run(self._make(options, table, opening))

    @staticmethod
    async def _make(options: ConnectOptions, table: str, opening: Any) -> AsyncWriter:
        return AsyncWriter(options, table, **opening)

    def _run(self, coroutine: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(30)

    def send(self, data: Any, **options: Any) -> int:
        sent: int = self._run(self._writer.send(data, **options))
        return sent

    def flush(self) -> Any:
        return self._run(self._writer.flush())

    def finish(self) -> Any:
        return self._run(self._writer.finish())

    def abort(self) -> None:
        if self._loop.is_closed():
            return
        self._run(self._writer.abort())
        left = self._run(self._tasks())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()
        assert left == [], "no task is left behind"

    @staticmethod
    async def _tasks() -> List[Any]:
        # Those of gRPC's own end by themselves.
        await asyncio.sleep(0)
        return [task for task in asyncio.all_tasks() if "aio_writer" in repr(task.get_coro())]

    @property
    def outcomes(self) -> List[Outcome]:
        return self._writer.outcomes

    @property
    def receipt(self) -> Any:
        return self._writer.receipt


class Scene:
    """Gateways and writers of one test."""

    def __init__(self, kind: Callable[..., Any]) -> None:
        self._kind = kind
        self._gateways: List[ScriptedGateway] = []
        self._writers: List[Any] = []

    def gateway(self, *scripts: Script) -> ScriptedGateway:
        self._gateways.append(ScriptedGateway(scripts))
        return self._gateways[-1]

    def writer(self, gateway: ScriptedGateway, **options: Any) -> Any:
        self._writers.append(self._kind(ConnectOptions(endpoint=gateway.endpoint), "t", **options))
        return self._writers[-1]

    def close(self) -> None:
        for writer in self._writers:
            writer.abort()
        for gateway in self._gateways:
            gateway.stop()


@pytest.fixture(params=[Writer, BlockingAsyncWriter], ids=["blocking", "asyncio"])
def scene(request: pytest.FixtureRequest) -> Iterator[Scene]:
    scene = Scene(request.param)
    yield scene
    scene.close()


def until(holds: Callable[[], bool]) -> None:
    """Waits for what happens elsewhere."""
    give_up = time.monotonic() + 20
    while not holds():
        assert time.monotonic() < give_up, "it did not happen"
        time.sleep(0.01)


def rows(*numbers: int) -> List[Any]:
    return [{"n": number} for number in numbers]


def test_what_a_broken_call_left_unacked_goes_again_in_order_and_nothing_else(scene: Scene) -> None:
    def breaks(call: Call) -> Responses:
        yield opened()
        call.batch(4)
        yield ack(2)
        call.end(grpc.StatusCode.UNAVAILABLE)

    gateway = scene.gateway(breaks, takes_all)
    writer = scene.writer(gateway)
    for number in range(1, 5):
        assert writer.send(rows(number)) == number
    receipt = writer.finish()
    gateway.check()
    assert gateway.calls[1].batches == [[3], [4]]
    assert (receipt.batches, receipt.rows, receipt.committed_rows, receipt.calls) == (4, 4, 4, 2)


def test_outcomes_of_a_broken_call_are_forgotten_where_their_batch_goes_again(scene: Scene) -> None:
    def breaks(call: Call) -> Responses:
        yield opened()
        call.batch(2)
        yield ack(1, [outcome(1, 0), outcome(2, 1)])
        call.end(grpc.StatusCode.UNAVAILABLE)

    def goes_on(call: Call) -> Responses:
        yield opened()
        call.batch()
        yield ack(1, [outcome(1, 1)])
        assert call.receive().WhichOneof("message") == "finish"
        yield finished()

    gateway = scene.gateway(breaks, goes_on)
    writer = scene.writer(gateway)
    writer.send(rows(1, 2))
    writer.send(rows(3, 4))
    receipt = writer.finish()
    gateway.check()
    assert [(told.batch, told.row) for told in writer.outcomes] == [(1, 0), (2, 1)]
    assert (receipt.rejected_rows, receipt.committed_rows) == (2, 2)


def test_committed_ranges_are_let_go_of(scene: Scene) -> None:
    def breaks(call: Call) -> Responses:
        yield opened()
        call.batch(3)
        yield ack(0, ranges=[(2, 3)])
        call.end(grpc.StatusCode.UNAVAILABLE)

    gateway = scene.gateway(breaks, takes_all)
    writer = scene.writer(gateway)
    for number in (1, 2, 3):
        writer.send(rows(number))
    receipt = writer.finish()
    gateway.check()
    assert gateway.calls[1].batches == [[1]]
    assert receipt.batches == 3


def test_late_rows_go_again_alone_after_the_time_that_the_gateway_names(scene: Scene) -> None:
    times: List[float] = []

    def is_late(call: Call) -> Responses:
        yield opened()
        call.batch(1)
        times.append(time.monotonic())
        late = [outcome(1, 1, pb.ROW_STATUS_RETRYABLE, 0.3), outcome(1, 2, pb.ROW_STATUS_UNKNOWN, 0.1)]
        yield ack(1, late)
        call.batch(1)
        times.append(time.monotonic())
        yield ack(2)
        finish = call.receive().finish
        assert (finish.batches, finish.rows) == (2, 5)
        yield finished()

    gateway = scene.gateway(is_late)
    writer = scene.writer(gateway)
    writer.send(rows(7, 8, 9))
    until(lambda: len(times) == 2)
    receipt = writer.finish()
    gateway.check()
    assert gateway.calls[0].batches == [[7, 8, 9], [8, 9]]
    assert times[1] - times[0] >= 0.29
    assert (receipt.rows, receipt.committed_rows, receipt.retryable_rows) == (3, 3, 0)


def test_rows_that_turn_out_late_after_finish_was_sent_go_in_another_call(scene: Scene) -> None:
    def is_late(call: Call) -> Responses:
        yield opened()
        call.batch(1)
        assert call.receive().WhichOneof("message") == "finish"
        yield ack(1, [outcome(1, 1, pb.ROW_STATUS_RETRYABLE, 0.1)])
        yield finished(write_units=1.0)

    gateway = scene.gateway(is_late, takes_all)
    writer = scene.writer(gateway)
    writer.send(rows(7, 8))
    receipt = writer.finish()
    gateway.check()
    assert gateway.calls[1].batches == [[8]]
    assert (receipt.rows, receipt.committed_rows, receipt.calls) == (2, 2, 2)


def test_a_flush_waits_for_late_rows_too(scene: Scene) -> None:
    def is_late(call: Call) -> Responses:
        yield opened()
        call.batch(1)
        assert call.receive().WhichOneof("message") == "flush"
        yield ack(1, [outcome(1, 0, pb.ROW_STATUS_RETRYABLE, 0.1)])
        yield flushed(1)
        call.batch(1)
        yield ack(2)
        assert call.receive().WhichOneof("message") == "flush"
        yield flushed(2, write_units=3.0)
        assert call.receive().WhichOneof("message") == "finish"
        yield finished(write_units=3.0)

    gateway = scene.gateway(is_late)
    writer = scene.writer(gateway)
    writer.send(rows(1))
    receipt = writer.flush()
    assert (receipt.committed_rows, receipt.write_units) == (1, 3.0)
    writer.finish()
    gateway.check()


def test_nothing_goes_out_above_the_window_and_send_waits(scene: Scene) -> None:
    may_ack = threading.Event()

    def is_slow(call: Call) -> Responses:
        yield opened(batches=2)
        call.batch(2)
        assert may_ack.wait(20)
        yield window(1)
        yield ack(2)
        call.batch(1)
        yield ack(3)
        call.batch(1)
        yield ack(4)
        assert call.receive().WhichOneof("message") == "finish"
        yield finished()

    gateway = scene.gateway(is_slow)
    writer = scene.writer(gateway)
    for number in (1, 2, 3):
        writer.send(rows(number))
    sent = threading.Thread(target=lambda: writer.send(rows(4)))
    sent.start()
    sent.join(0.3)
    assert sent.is_alive(), "the window is full, and one part waits for it already"
    assert gateway.calls[0].batches == [[1], [2]]
    may_ack.set()
    sent.join(20)
    assert not sent.is_alive()
    writer.finish()
    gateway.check()


def test_a_drained_call_is_finished_and_the_rest_goes_to_the_next(scene: Scene) -> None:
    def drains(call: Call) -> Responses:
        yield opened(batches=1)
        call.batch(1)
        yield drain(20.0)
        yield ack(1)
        finish = call.receive().finish
        assert (finish.batches, finish.rows) == (1, 1)
        yield finished(write_units=1.0)

    gateway = scene.gateway(drains, takes_all)
    writer = scene.writer(gateway)
    writer.send(rows(1))
    writer.send(rows(2))
    receipt = writer.finish()
    gateway.check()
    assert gateway.calls[1].batches == [[2]]
    assert (receipt.batches, receipt.write_units, receipt.calls) == (2, 1.0, 2)


def test_a_drain_that_is_over_ends_the_call_and_what_is_unacked_goes_again(scene: Scene) -> None:
    released = threading.Event()

    def hangs(call: Call) -> Responses:
        yield opened()
        call.batch(1)
        yield drain(0.2)
        released.wait(20)

    gateway = scene.gateway(hangs, takes_all)
    writer = scene.writer(gateway)
    writer.send(rows(1))
    writer.finish()
    released.set()
    gateway.check()
    assert gateway.calls[1].batches == [[1]]


def test_a_credential_that_ends_is_asked_for_again(scene: Scene) -> None:
    def expires(call: Call) -> Responses:
        yield opened()
        call.batch(1)
        yield drain(20.0, pb.DRAIN_REASON_TOKEN_EXPIRY)
        call.end(grpc.StatusCode.UNAUTHENTICATED)

    gateway = scene.gateway(expires, takes_all)
    writer = scene.writer(gateway)
    writer.send(rows(1))
    assert writer.finish().calls == 2
    gateway.check()


def test_a_gateway_that_drains_every_call_is_given_up(scene: Scene) -> None:
    def first(call: Call) -> Responses:
        yield opened()
        call.batch(1)
        call.end(grpc.StatusCode.UNAVAILABLE)

    def drains(call: Call) -> Responses:
        yield opened()
        yield drain(0.05)
        try:
            # A batch may have been on its way before the drain came.
            while call.receive().WhichOneof("message") == "batch":
                pass
        except StopIteration:
            return
        yield finished()

    gateway = scene.gateway(first, *[drains] * 100)
    writer = scene.writer(gateway, retry_for=1.0)
    writer.send(rows(1))
    with pytest.raises(CallError):
        writer.finish()
    assert len(gateway.calls) < 20, "not in a tight loop"


def test_finish_that_does_not_add_up_is_an_error_and_not_tried_again(scene: Scene) -> None:
    def counts_wrong(call: Call) -> Responses:
        yield opened()
        call.batch(1)
        yield ack(1)
        call.receive()
        call.end(grpc.StatusCode.DATA_LOSS, "2 rows were announced, 1 came")

    gateway = scene.gateway(counts_wrong)
    writer = scene.writer(gateway)
    writer.send(rows(1))
    with pytest.raises(CallError) as failed:
        writer.finish()
    assert failed.value.code == "DATA_LOSS"
    gateway.check()


def error_info(reason: str) -> bytes:
    """A google.rpc.Status with Forebay's ErrorInfo."""
    info = b"\x0a" + bytes((len(reason),)) + reason.encode() + b"\x12\x07forebay"
    kind = b"type.googleapis.com/google.rpc.ErrorInfo"
    detail = b"\x0a" + bytes((len(kind),)) + kind + b"\x12" + bytes((len(info),)) + info
    return b"\x1a" + bytes((len(detail),)) + detail


def test_a_fenced_run_ends_and_every_call_after_it_says_so(scene: Scene) -> None:
    def fences(call: Call) -> Responses:
        yield opened()
        call.batch(1)
        call.end(grpc.StatusCode.ABORTED, "a newer run", error_info("FENCED"))

    # grpc.aio may lose the status of a call that ends while it writes: the next call says it again.
    gateway = scene.gateway(*[fences] * 5)
    writer = scene.writer(gateway)
    writer.send(rows(1))
    for use in (writer.flush, lambda: writer.send(rows(2)), writer.finish):
        with pytest.raises(Fenced):
            use()
    assert gateway.failures == []


@pytest.mark.parametrize(
    "answers",
    [
        [opened(), opened()],
        [ack(0)],
        [opened(), ack(2)],
        [opened(), ack(1, [outcome(1, 5)])],
        [opened(), finished()],
        [opened(), pb.WriteResponse()],
        [opened(), flushed(0)],
    ],
    ids=["opened-twice", "no-opened", "acks-the-future", "no-such-row", "finished-unasked", "empty", "flushed-too-soon"],
)
def test_a_gateway_that_breaks_the_protocol_ends_the_session(scene: Scene, answers: List[pb.WriteResponse]) -> None:
    def breaks_it(call: Call) -> Responses:
        for at, answer in enumerate(answers):
            if at == 1:
                call.batch(1)
            yield answer
        time.sleep(1.0)

    gateway = scene.gateway(breaks_it)
    writer = scene.writer(gateway)
    with pytest.raises(CallError, match="broke the protocol"):
        writer.send(rows(1))
        writer.finish()


def test_aborted_sessions_never_send_finish(scene: Scene) -> None:
    over = threading.Event()
    ended: List[str] = []

    def watches(call: Call) -> Responses:
        call.context.add_callback(over.set)
        yield opened()
        call.batch(1)
        try:
            ended.append(str(call.receive().WhichOneof("message")))
        except (StopIteration, grpc.RpcError):
            pass

    gateway = scene.gateway(watches)
    writer = scene.writer(gateway)
    writer.send(rows(1))
    until(lambda: bool(gateway.calls and gateway.calls[0].batches))
    started = time.monotonic()
    writer.abort()
    assert time.monotonic() - started < 5.0
    assert over.wait(10), "the gateway hears of it"
    assert ended == []


def test_a_refused_session_says_why_at_once(scene: Scene) -> None:
    def refuses(call: Call) -> Responses:
        call.end(grpc.StatusCode.INVALID_ARGUMENT, "no such option", error_info("BAD_OPTION"))
        yield opened()

    gateway = scene.gateway(refuses)
    writer = scene.writer(gateway)
    with pytest.raises(InvalidRequest, match="no such option"):
        writer.send(rows(1))
    gateway.check()


def test_patience_is_for_a_session_without_progress_and_names_the_last_failure(scene: Scene) -> None:
    def breaks(call: Call) -> Responses:
        yield opened()
        call.batch(1)
        # All that the writer had to say: grpc.aio may lose the status of a call that ends while it writes.
        assert call.receive().WhichOneof("message") == "flush"
        call.end(grpc.StatusCode.UNAVAILABLE, "it is full")

    gateway = scene.gateway(*[breaks] * 100)
    writer = scene.writer(gateway, retry_for=3.0)
    writer.send(rows(1))
    with pytest.raises(Unavailable, match="gave up after .* s: it is full"):
        writer.flush()


def test_a_failing_on_outcome_ends_the_session_with_its_own_error(scene: Scene) -> None:
    def rejects(call: Call) -> Responses:
        yield opened()
        call.batch(1)
        yield ack(1, [outcome(1, 0)])
        time.sleep(1.0)

    def refuses(_: Outcome) -> None:
        raise KeyError("the report is full")

    writer = scene.writer(scene.gateway(rejects), on_outcome=refuses)
    writer.send(rows(1))
    with pytest.raises(KeyError, match="the report is full"):
        writer.finish()


def test_an_idle_session_that_lost_its_call_finishes_without_another(scene: Scene) -> None:
    def leaves(call: Call) -> Responses:
        yield opened()
        call.batch(1)
        yield ack(1)
        assert call.receive().WhichOneof("message") == "flush"
        yield flushed(1)
        call.end(grpc.StatusCode.UNAVAILABLE)

    gateway = scene.gateway(leaves)
    writer = scene.writer(gateway)
    writer.send(rows(1))
    writer.flush()
    time.sleep(0.5)
    assert writer.finish().committed_rows == 1
    gateway.check()


def test_a_bad_row_is_named_and_what_was_sliced_before_it_is_written(scene: Scene) -> None:
    gateway = scene.gateway(takes_all)
    writer = scene.writer(gateway)
    with pytest.raises(TypeError, match="row 2: n"):
        writer.send([{"n": 1}, {"n": 2}, {"n": "three"}])
    assert writer.send(rows(4)) == 2
    receipt = writer.finish()
    gateway.check()
    assert gateway.calls[0].batches == [[1, 2], [4]]
    assert (receipt.batches, receipt.rows) == (2, 3)


def test_after_the_end_there_is_a_clear_error(scene: Scene) -> None:
    writer = scene.writer(scene.gateway(takes_all))
    writer.send(rows(1))
    writer.finish()
    with pytest.raises(SessionClosed, match="finished"):
        writer.send(rows(1))
