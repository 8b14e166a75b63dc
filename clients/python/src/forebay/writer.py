"""The writer: a session that writes rows to one table, over as many calls as it takes.

Two threads work for it: its own, which opens calls and reads acks, and gRPC's, which asks for the next message to send. What they do is
decided by `_exchange`, under one lock. Callers: `Client.writer`, and the Spark sink.
"""

from __future__ import annotations

import logging
import os
import random
import threading
import time
from typing import TYPE_CHECKING, Any, Callable, Iterator, List, Optional, Type

import grpc

from ._channel import open_channel
from ._exchange import OPEN_TIMEOUT_SECONDS, TRAILER_TIMEOUT_SECONDS, Barrier, End, Exchange
from ._opening import Form, Opening
from ._outcomes import Outcomes
from ._reading import broken_protocol
from ._retry import Attempts
from ._session import Part, Session, Violation
from ._status import call_error
from ._wire import Payload, open_request
from .errors import CallError, SessionClosed, Unavailable
from .options import ConnectOptions
from .results import Outcome, Receipt
from .v1 import ingest_pb2, table_pb2, types_pb2
from .v1.table_pb2_grpc import TableServiceStub

if TYPE_CHECKING:
    from types import TracebackType

OPEN_FOR_SECONDS = 10.0
WRITE_METHOD = "/forebay.v1.IngestService/Write"
_log = logging.getLogger("forebay")


class Writer:
    """A session that writes rows to one table. `Client.writer` makes one and says what the arguments are.

    - Rows of one key take effect in the order in which they were sent.
    - `send` returns when the writer has taken the rows, not when they are written; it waits while the gateway's window is full. `flush`
      and `finish` return when every row has a final outcome.
    - When a call breaks, everything that is not acked is sent again, in order, in a new one. Memory is bounded by the window.
    - In tables with `sequence_by`, rows that were not written by their deadline are sent again, too (`resend`).
    - Rejected rows are outcomes, not errors: they never stop the others. `on_outcome` gets each, from one thread; without it they are
      kept in `outcomes`.
    - As a context manager it finishes at the end of the block, and aborts where the block raises: without `finish` the gateway takes
      the session for aborted, and rows that are not acked may or may not be written.
    - It belongs to the process that made it, and to one thread at a time. Make it after a fork, not before.

    The session opens with the first data, which say which columns it has, or at once where `arrow_schema` does. Once a call has failed
    for good, every method raises that error.
    """

    def __init__(
        self,
        options: ConnectOptions,
        table: str,
        *,
        retry_for: float = 300.0,
        open_for: float = OPEN_FOR_SECONDS,
        resend: bool = True,
        on_outcome: Optional[Callable[[Outcome], None]] = None,
        **opening: Any,
    ) -> None:
        self._opening = Opening.try_new(table, **opening)
        self._options = options
        self._retry_for = retry_for
        self._open_for = open_for
        self._outcomes = Outcomes(on_outcome)
        self._pid = os.getpid()
        self._changed = threading.Condition()
        session = Session(retry_for if resend else 0.0, self._outcomes.tell)
        self._exchange = Exchange(session, open_for, retry_for)
        self._form: Optional[Form] = None
        self._thread: Optional[threading.Thread] = None
        self._failure: Optional[BaseException] = None
        self._closed: Optional[str] = None
        self._call: Any = None
        # Of the call that gRPC asks messages for; None between calls.
        self._call_token: Optional[object] = None
        self._call_open = False
        self._last_batch = 0
        self._channel = open_channel(options)
        try:
            self._table = None if self._opening.arrow_schema is not None else self._get_table()
            if self._opening.arrow_schema is not None:
                self._start(Form.of_arrow(self._opening, self._opening.arrow_schema))
                self._wait_until_open()
        except BaseException:
            self.abort()
            raise

    # What the caller sees.

    @property
    def opened_schema(self) -> Optional[types_pb2.Schema]:
        """The table's schema as the newest call was opened; None before the first."""
        with self._changed:
            return None if self._exchange.opened is None else self._exchange.opened.schema

    @property
    def receipt(self) -> Receipt:
        """Totals up to now."""
        with self._changed:
            return self._exchange.session.receipt()

    @property
    def outcomes(self) -> List[Outcome]:
        """The outcomes so far, in the order in which they became final; without `on_outcome`, and at most 10,000."""
        with self._changed:
            return list(self._outcomes.kept)

    @property
    def dropped_outcomes(self) -> int:
        """How many outcomes were not kept; the receipt counts them all."""
        with self._changed:
            return self._outcomes.dropped

    def send(self, data: Any, *, atomic: bool = False) -> int:
        """Takes a dict, an iterable of dicts or sequences, a pandas DataFrame, or a pyarrow RecordBatch, Table or RecordBatchReader.

        Waits while the window is full. Returns the batch's number, from 1, by which outcomes name it. With `atomic` the rows are one
        DynamoDB transaction: all or none; at most 100, with different keys.

        Raises `TypeError` or `ValueError` for rows that cannot be sent, naming row and column; the rows before it are sent.
        """
        self._check_open()
        if self._form is None:
            form, data = Form.of_first(self._opening, self._table, data)
            if form is None:
                return self._next_batch()
            self._start(form)
        assert self._form is not None, "the form was chosen"
        self._wait_until_open()
        batch = self._next_batch()
        payloads = self._form.slices(data, self._opening.limits(self._exchange.opened), atomic=atomic)
        self._send_parts(batch, payloads)
        return batch

    def flush(self) -> Receipt:
        """Waits until every row sent so far has a final outcome."""
        return self._reach(finish=False)

    def finish(self) -> Receipt:
        """Waits until every row has a final outcome, and ends the session."""
        try:
            return self._reach(finish=True)
        finally:
            # Interrupted or failed, it is an abort.
            self._close("it was finished")

    def abort(self) -> None:
        """Ends the session without Finish: rows that are not acked may or may not be written. Does nothing after `finish`."""
        self._close("it was aborted")

    def __enter__(self) -> Writer:
        return self

    def __exit__(
        self,
        kind: Optional[Type[BaseException]],
        error: Optional[BaseException],
        trace: Optional[TracebackType],
    ) -> None:
        if error is None and self._closed is None:
            self.finish()
        else:
            self.abort()

    # The caller's thread.

    def _next_batch(self) -> int:
        self._last_batch += 1
        return self._last_batch

    def _check_caller(self) -> None:
        if os.getpid() != self._pid:
            # Its threads and its connection are the other process's.
            raise RuntimeError("this writer was made before the process was forked; make it after the fork")
        if threading.current_thread() is self._thread:
            raise RuntimeError("on_outcome must not use its writer: it would wait for itself")

    def _check_open(self) -> None:
        self._check_caller()
        with self._changed:
            self._raise_if_over()

    def _raise_if_over(self) -> None:
        if self._failure is not None:
            raise self._failure
        if self._closed is not None:
            raise SessionClosed(f"the writer takes nothing more: {self._closed}")

    def _get_table(self) -> table_pb2.Table:
        get: Any = TableServiceStub(self._channel).GetTable
        attempts = Attempts(time.monotonic(), self._options.timeout, self._open_for)
        request = table_pb2.GetTableRequest(name=self._opening.open.table)
        while True:
            try:
                found: table_pb2.Table = get(request, timeout=attempts.left(time.monotonic())).table
                return found
            except grpc.RpcError as error:
                failed = call_error(error)
            pause = attempts.pause(failed, time.monotonic(), random.random())
            if pause is None:
                raise failed
            time.sleep(pause)

    def _start(self, form: Form) -> None:
        self._form = form
        self._thread = threading.Thread(target=self._run, name=f"forebay-{self._opening.open.table}", daemon=True)
        self._thread.start()

    def _wait_until_open(self) -> None:
        with self._changed:
            while self._exchange.opened is None:
                self._raise_if_over()
                self._changed.wait()
            self._raise_if_over()

    def _send_parts(self, batch: int, payloads: Iterator[Payload]) -> None:
        """Hands parts over one behind, so that the last one is known as such, also where making the next one fails."""
        first_row = 0
        waiting: Optional[Part] = None
        failure: Optional[Exception] = None
        while True:
            payload: Optional[Payload] = None
            try:
                payload = next(payloads, None)
            except Exception as error:  # noqa: BLE001 - raised below, when the batch has its end
                failure = error
            if waiting is not None:
                waiting.ends_batch = payload is None
                self._accept(waiting)
            if payload is None:
                break
            waiting = Part(batch, first_row, payload, ends_batch=False)
            first_row += payload.rows
        if failure is not None:
            raise failure

    def _accept(self, part: Part) -> None:
        with self._changed:
            while not self._exchange.takes_parts:
                self._raise_if_over()
                self._changed.wait()
            self._raise_if_over()
            self._exchange.accept(part)
            self._changed.notify_all()

    def _reach(self, *, finish: bool) -> Receipt:
        self._check_caller()
        with self._changed:
            self._raise_if_over()
            if self._thread is None:
                return self._exchange.session.receipt()
            barrier = Barrier(finish)
            self._exchange.set_barrier(barrier)
            self._changed.notify_all()
            while barrier.receipt is None:
                self._raise_if_over()
                self._changed.wait()
            return barrier.receipt

    def _close(self, why: str) -> None:
        if os.getpid() != self._pid:
            # What there is to end is the other process's.
            return
        with self._changed:
            if self._closed is None:
                self._closed = why
            call = self._call
            self._changed.notify_all()
        if call is not None:
            # Of no effect on a call that has ended.
            call.cancel()
        thread = self._thread
        if thread is not None and thread is not threading.current_thread():
            thread.join()
        self._channel.close()

    # The writer's own thread.

    def _run(self) -> None:
        try:
            self._run_calls()
        except BaseException as error:  # noqa: BLE001 - the caller gets it, whatever it is
            self._fail(error)

    def _fail(self, error: BaseException) -> None:
        if isinstance(error, Violation):
            error = broken_protocol(str(error))
        with self._changed:
            if self._failure is None:
                self._failure = error
            call = self._call
            self._changed.notify_all()
        if call is not None:
            call.cancel()

    def _run_calls(self) -> None:
        while True:
            end = self._one_call()
            with self._changed:
                if self._closed is not None or self._failure is not None or end is End.FINISHED:
                    self._changed.notify_all()
                    return
                if end is End.BROKEN or self._exchange.drained_without_use:
                    pause = self._exchange.pause(time.monotonic(), random.random())
                    _log.info("forebay: a call broke (%s); the next attempt follows in %.1f s", self._exchange.last_error, pause)
                    self._wait_for(pause)
                while self._exchange.opened is not None and not self._exchange.needs_call:
                    if self._exchange.settle_without_call() or self._closed is not None:
                        self._changed.notify_all()
                        return
                    self._changed.notify_all()
                    self._changed.wait()
                if self._closed is not None:
                    return
            if end is End.DRAINED:
                # The old connection leads to the gateway that asked us to go.
                self._channel.close()
                self._channel = open_channel(self._options)

    def _wait_for(self, seconds: float) -> None:
        until = time.monotonic() + seconds
        while self._closed is None and time.monotonic() < until:
            self._changed.wait(until - time.monotonic())

    def _one_call(self) -> End:
        token = object()
        write: Any = self._channel.stream_stream(WRITE_METHOD, None, ingest_pb2.WriteResponse.FromString)
        with self._changed:
            if self._closed is not None:
                return End.DRAINED
            self._call_open = False
            self._call_token = token
        call: Any = write(self._requests(token))
        with self._changed:
            self._call = call
            if self._closed is not None:
                call.cancel()
        error: Optional[CallError] = None
        watchdog = _Watchdog(call)
        watchdog.cancel_after(OPEN_TIMEOUT_SECONDS)
        try:
            for response in call:
                self._received(response, watchdog)
        except grpc.RpcError as broken:
            error = call_error(broken)
        finally:
            watchdog.stop()
            with self._changed:
                # The thread that asks for messages ends.
                self._call_token = None
                self._changed.notify_all()
            call.cancel()
        with self._changed:
            if self._closed is not None or self._failure is not None:
                return End.DRAINED
            if watchdog.fired and not self._call_open:
                error = Unavailable("UNAVAILABLE", f"no answer to Open within {OPEN_TIMEOUT_SECONDS:.0f} s")
            if self._exchange.drain_passed(time.monotonic()) and self._call_open:
                return End.DRAINED
            end = self._exchange.on_end(error)
            self._changed.notify_all()
            return end

    def _received(self, response: ingest_pb2.WriteResponse, watchdog: _Watchdog) -> None:
        now = time.monotonic()
        with self._changed:
            if not self._call_open:
                if response.WhichOneof("message") != "opened":
                    raise Violation("the first message was not Opened")
                watchdog.stop()
                self._exchange.begin(response.opened)
                self._call_open = True
            else:
                self._exchange.on_response(response, now)
                kind = response.WhichOneof("message")
                if kind == "drain" and self._exchange.drain_until is not None:
                    watchdog.cancel_after(max(self._exchange.drain_until - now, 0.0))
                elif kind == "finished":
                    watchdog.cancel_after(TRAILER_TIMEOUT_SECONDS)
            self._changed.notify_all()

    # gRPC's thread.

    def _requests(self, token: object) -> Iterator[bytes]:
        """The messages of one call, as they become due; ends with the call."""
        assert self._form is not None, "a call is opened with a form"
        yield open_request(self._form.open)
        while True:
            try:
                request = self._next_request(token)
            except BaseException as error:  # noqa: BLE001 - the caller gets it, whatever it is
                self._fail(error)
                return
            if request is None:
                return
            yield request

    def _next_request(self, token: object) -> Optional[bytes]:
        with self._changed:
            while self._call_token is token and self._closed is None and self._failure is None:
                due: Optional[float] = None
                if self._call_open:
                    now = time.monotonic()
                    request = self._exchange.next_request(now)
                    if request is not None:
                        # There may be room for the caller's next part now.
                        self._changed.notify_all()
                        return request
                    next_due = self._exchange.next_due(now)
                    due = None if next_due is None else max(next_due - now, 0.001)
                self._changed.wait(due)
        return None


class _Watchdog:
    """Cancels a call when a time has passed."""

    def __init__(self, call: Any) -> None:
        self._call = call
        self._timer: Optional[threading.Timer] = None
        self.fired = False

    def cancel_after(self, seconds: float) -> None:
        """From now on; what was set before is forgotten."""
        self.stop()
        self._timer = threading.Timer(seconds, self._fire)
        self._timer.daemon = True
        self._timer.start()

    def _fire(self) -> None:
        self.fired = True
        self._call.cancel()

    def stop(self) -> None:
        """Lets the call go on."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
