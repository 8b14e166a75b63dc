"""The asyncio writer: what `writer.Writer` is, to be awaited.

One task of its own opens calls and reads acks; beside it, each call has a task that sends. What they do is decided by `_exchange`. All of
it runs in the event loop in which the writer is first used, so that there is nothing to lock. Caller: `AsyncClient.writer`.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from typing import TYPE_CHECKING, Any, Callable, List, Optional, Type

import grpc
import grpc.aio

from ._channel import open_aio_channel
from ._exchange import OPEN_TIMEOUT_SECONDS, TRAILER_TIMEOUT_SECONDS, Barrier, End, Exchange
from ._opening import Form, Opening
from ._outcomes import Outcomes
from ._payload import is_arrow_data
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
from .writer import OPEN_FOR_SECONDS, WRITE_METHOD

if TYPE_CHECKING:
    from types import TracebackType

_log = logging.getLogger("forebay")


class AsyncWriter:
    """A session that writes rows to one table. `AsyncClient.writer` makes one and takes what `Client.writer` takes.

    It promises what `forebay.writer.Writer` promises. As an asynchronous context manager it finishes at the end of the block, and aborts
    where the block raises. Where `send`, `flush` or `finish` is cancelled, the session is aborted: rows that are not acked may or may
    not be written then. `on_outcome` is a plain function and called in the event loop; it should be quick.

    It belongs to one event loop and to one task at a time.
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
        self._open_for = open_for
        self._outcomes = Outcomes(on_outcome)
        session = Session(retry_for if resend else 0.0, self._outcomes.tell)
        self._exchange = Exchange(session, open_for, retry_for)
        self._form: Optional[Form] = None
        self._task: Optional[asyncio.Task[None]] = None
        self._failure: Optional[BaseException] = None
        self._closed: Optional[str] = None
        self._call: Any = None
        self._call_open = False
        self._last_batch = 0
        self._channel: Optional[grpc.aio.Channel] = None
        self._changed = _Changed()

    def __repr__(self) -> str:
        return f"forebay.aio.AsyncWriter({self._opening.open.table!r})"

    # What the caller sees.

    @property
    def opened_schema(self) -> Optional[types_pb2.Schema]:
        """The table's schema as the newest call was opened; None before the first."""
        return None if self._exchange.opened is None else self._exchange.opened.schema

    @property
    def receipt(self) -> Receipt:
        """Totals up to now."""
        return self._exchange.session.receipt()

    @property
    def outcomes(self) -> List[Outcome]:
        """The outcomes so far, in the order in which they became final; without `on_outcome`, and at most 10,000."""
        return list(self._outcomes.kept)

    @property
    def dropped_outcomes(self) -> int:
        """How many outcomes were not kept; the receipt counts them all."""
        return self._outcomes.dropped

    async def send(self, data: Any, *, atomic: bool = False) -> int:
        """As `Writer.send`: takes rows or columns, waits while the window is full, gives the batch's number."""
        self._raise_if_over()
        try:
            if self._form is None:
                table = None if is_arrow_data(data) else await self._get_table()
                form, data = Form.of_first(self._opening, table, data)
                if form is None:
                    return self._next_batch()
                self._start(form)
            await self._wait_until_open()
            batch = self._next_batch()
            assert self._form is not None, "the form was chosen"
            limits = self._opening.limits(self._exchange.opened)
            await self._send_parts(batch, iter(self._form.slices(data, limits, atomic=atomic)))
            return batch
        except asyncio.CancelledError:
            self._end("a `send` was cancelled")
            raise

    async def flush(self) -> Receipt:
        """Waits until every row sent so far has a final outcome."""
        return await self._reach(finish=False)

    async def finish(self) -> Receipt:
        """Waits until every row has a final outcome, and ends the session."""
        try:
            return await self._reach(finish=True)
        finally:
            await self._close("it was finished")

    async def abort(self) -> None:
        """Ends the session without Finish: rows that are not acked may or may not be written. Does nothing after `finish`."""
        await self._close("it was aborted")

    async def __aenter__(self) -> AsyncWriter:
        try:
            if self._opening.arrow_schema is not None and self._form is None:
                self._start(Form.of_arrow(self._opening, self._opening.arrow_schema))
                await self._wait_until_open()
        except BaseException:
            await self.abort()
            raise
        return self

    async def __aexit__(
        self,
        kind: Optional[Type[BaseException]],
        error: Optional[BaseException],
        trace: Optional[TracebackType],
    ) -> None:
        if error is None and self._closed is None:
            await self.finish()
        else:
            await self.abort()

    # The caller's side.

    def _next_batch(self) -> int:
        self._last_batch += 1
        return self._last_batch

    def _raise_if_over(self) -> None:
        if self._failure is not None:
            raise self._failure
        if self._closed is not None:
            raise SessionClosed(f"the writer takes nothing more: {self._closed}")

    def _open_channel(self) -> grpc.aio.Channel:
        if self._channel is None:
            self._channel = open_aio_channel(self._options)
        return self._channel

    async def _get_table(self) -> table_pb2.Table:
        get: Any = TableServiceStub(self._open_channel()).GetTable
        attempts = Attempts(time.monotonic(), self._options.timeout, self._open_for)
        request = table_pb2.GetTableRequest(name=self._opening.open.table)
        while True:
            try:
                answer = await get(request, timeout=attempts.left(time.monotonic()))
                found: table_pb2.Table = answer.table
                return found
            except grpc.RpcError as error:
                failed = call_error(error)
            pause = attempts.pause(failed, time.monotonic(), random.random())
            if pause is None:
                raise failed
            await asyncio.sleep(pause)

    def _start(self, form: Form) -> None:
        self._form = form
        self._task = asyncio.get_running_loop().create_task(self._run())

    async def _wait_until_open(self) -> None:
        while self._exchange.opened is None:
            self._raise_if_over()
            await self._changed.wait()
        self._raise_if_over()

    async def _send_parts(self, batch: int, payloads: Any) -> None:
        """Hands parts over one behind, so that the last one is known as such, also where making the next one fails."""
        first_row = 0
        waiting: Optional[Part] = None
        failure: Optional[Exception] = None
        while True:
            payload: Optional[Payload] = None
            try:
                payload = next(payloads, None)
            except Exception as error:  # Raised below, when the batch has its end.
                failure = error
            if waiting is not None:
                waiting.ends_batch = payload is None
                await self._accept(waiting)
                # Encoding takes its time: others of the loop come in between.
                await asyncio.sleep(0)
            if payload is None:
                break
            waiting = Part(batch, first_row, payload, ends_batch=False)
            first_row += payload.rows
        if failure is not None:
            raise failure

    async def _accept(self, part: Part) -> None:
        while not self._exchange.takes_parts:
            self._raise_if_over()
            await self._changed.wait()
        self._raise_if_over()
        self._exchange.accept(part)
        self._changed.notify()

    async def _reach(self, *, finish: bool) -> Receipt:
        self._raise_if_over()
        if self._task is None:
            return self._exchange.session.receipt()
        barrier = Barrier(finish)
        self._exchange.set_barrier(barrier)
        self._changed.notify()
        try:
            while barrier.receipt is None:
                self._raise_if_over()
                await self._changed.wait()
        except asyncio.CancelledError:
            self._end(f"a `{'finish' if finish else 'flush'}` was cancelled")
            raise
        return barrier.receipt

    def _end(self, why: str) -> None:
        """Ends the session, and waits for nothing."""
        if self._closed is None:
            self._closed = why
        if self._call is not None:
            # Of no effect on a call that has ended.
            self._call.cancel()
        self._changed.notify()

    async def _close(self, why: str) -> None:
        self._end(why)
        task, channel = self._task, self._channel
        if task is not None:
            # Its own failure is in `_failure`.
            await asyncio.wait({task})
        self._channel = None
        if channel is not None:
            await channel.close(None)

    # The writer's own task.

    async def _run(self) -> None:
        try:
            await self._run_calls()
        except Violation as violation:
            self._fail(broken_protocol(str(violation)))
        except Exception as error:  # noqa: BLE001 - the caller gets it, whatever it is
            self._fail(error)
        except BaseException:
            # The loop is being closed.
            self._end("its event loop ended it")
            raise

    def _fail(self, error: BaseException) -> None:
        if self._failure is None:
            self._failure = error
        self._changed.notify()

    async def _run_calls(self) -> None:
        exchange = self._exchange
        while True:
            end = await self._one_call()
            self._changed.notify()
            if self._closed is not None or end is End.FINISHED:
                return
            if end is End.BROKEN or exchange.drained_without_use:
                pause = exchange.pause(time.monotonic(), random.random())
                _log.info("forebay: a call broke (%s); the next attempt follows in %.1f s", exchange.last_error, pause)
                await self._wait_for(pause)
            while exchange.opened is not None and not exchange.needs_call:
                if exchange.settle_without_call() or self._closed is not None:
                    self._changed.notify()
                    return
                self._changed.notify()
                await self._changed.wait()
            if self._closed is not None:
                return
            if end is End.DRAINED and self._channel is not None:
                # The old connection leads to the gateway that asked us to go.
                channel, self._channel = self._channel, None
                await channel.close(None)

    async def _wait_for(self, seconds: float) -> None:
        until = time.monotonic() + seconds
        while self._closed is None and time.monotonic() < until:
            await self._changed.wait(until - time.monotonic())

    async def _one_call(self) -> End:
        assert self._form is not None, "a call is opened with a form"
        self._call_open = False
        write: Any = self._open_channel().stream_stream(WRITE_METHOD, None, ingest_pb2.WriteResponse.FromString)
        call = self._call = write()
        if self._closed is not None:
            call.cancel()
        loop = asyncio.get_running_loop()
        watchdog = _Watchdog(loop, call)
        watchdog.cancel_after(OPEN_TIMEOUT_SECONDS)
        sender = loop.create_task(self._send(call, open_request(self._form.open)))
        error: Optional[CallError] = None
        try:
            async for response in call:
                self._received(response, watchdog)
        except grpc.RpcError as broken:
            error = call_error(broken)
        except asyncio.CancelledError:
            # A call that is cancelled by us ends its reader so; the task itself may be meant, too.
            if not call.cancelled() or not (watchdog.fired or self._closed is not None):
                raise
            error = Unavailable("CANCELLED", "the call was cancelled")
        finally:
            watchdog.stop()
            call.cancel()
            self._call = None
            sender.cancel()
            await asyncio.wait({sender})
        failed = sender.exception() if not sender.cancelled() else None
        if failed is not None:
            raise failed
        if self._closed is not None:
            return End.DRAINED
        if not self._call_open and watchdog.fired:
            error = Unavailable("UNAVAILABLE", f"no answer to Open within {OPEN_TIMEOUT_SECONDS:.0f} s")
        if self._call_open and self._exchange.drain_passed(time.monotonic()):
            return End.DRAINED
        return self._exchange.on_end(error)

    def _received(self, response: ingest_pb2.WriteResponse, watchdog: _Watchdog) -> None:
        now = time.monotonic()
        kind = response.WhichOneof("message")
        if not self._call_open:
            if kind != "opened":
                raise Violation("the first message was not Opened")
            watchdog.stop()
            self._exchange.begin(response.opened)
            self._call_open = True
        else:
            self._exchange.on_response(response, now)
            if kind == "drain" and self._exchange.drain_until is not None:
                watchdog.cancel_after(max(self._exchange.drain_until - now, 0.0))
            elif kind == "finished":
                watchdog.cancel_after(TRAILER_TIMEOUT_SECONDS)
        self._changed.notify()

    async def _send(self, call: Any, first: bytes) -> None:
        """Sends the messages of one call, as they become due; cancelled with the call."""
        try:
            await call.write(first)
            while True:
                now = time.monotonic()
                request = self._exchange.next_request(now) if self._call_open else None
                if request is not None:
                    # There may be room for the caller's next part now.
                    self._changed.notify()
                    await call.write(request)
                    continue
                due = self._exchange.next_due(now) if self._call_open else None
                await self._changed.wait(None if due is None else max(due - now, 0.001))
        except (grpc.RpcError, asyncio.InvalidStateError):
            # The call has ended: its reader learns why. Where it ends in this very moment, grpc.aio may put an error of its own in the
            # place of the status: that is a broken call, and the next one is refused for the same reason.
            return
        except Exception:
            call.cancel()
            raise


class _Changed:
    """Wakes all who wait. What they wait for they look at themselves."""

    def __init__(self) -> None:
        self._waiters: List[asyncio.Future[None]] = []

    def notify(self) -> None:
        waiters, self._waiters = self._waiters, []
        for waiter in waiters:
            if not waiter.done():
                waiter.set_result(None)

    async def wait(self, seconds: Optional[float] = None) -> None:
        """Until the next `notify`, or so many seconds."""
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiters.append(waiter)
        await asyncio.wait({waiter}, timeout=seconds)


class _Watchdog:
    """Cancels a call when a time has passed."""

    def __init__(self, loop: asyncio.AbstractEventLoop, call: Any) -> None:
        self._loop = loop
        self._call = call
        self._timer: Optional[asyncio.TimerHandle] = None
        self.fired = False

    def cancel_after(self, seconds: float) -> None:
        """From now on; what was set before is forgotten."""
        self.stop()
        self._timer = self._loop.call_later(seconds, self._fire)

    def _fire(self) -> None:
        self.fired = True
        self._call.cancel()

    def stop(self) -> None:
        """Lets the call go on."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

