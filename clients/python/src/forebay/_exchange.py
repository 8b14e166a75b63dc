"""What a writer does next: the calls of a session, its barriers, and what a broken call means. Pure: no I/O, time passed in.

Invariants
- A call is opened, then batches and flushes go out as the session allows, then at most one Finish.
- Finish goes out only for the caller's `finish`, or to end a call that the gateway drains, with everything acked. A writer that is
  aborted never sends one.
- After Drain no more batches go out on that call; the next call sends them.

Callers: `writer` (threads) and `aio_writer` (asyncio), which own the connection and the clock.
"""

from __future__ import annotations

import enum
from typing import Optional

from . import _wire
from ._retry import backoff
from ._session import Part, Session, Violation
from ._status import is_transient
from .errors import CallError, PermissionDenied, Unauthenticated, Unavailable
from .results import Receipt
from .v1 import ingest_pb2

OPEN_TIMEOUT_SECONDS = 30.0
"""How long a gateway may take to answer Open."""
TRAILER_TIMEOUT_SECONDS = 5.0
"""How long the status may take after Finished."""


class End(enum.Enum):
    """How a call ended."""

    FINISHED = "finished"
    """The caller's Finish is answered."""
    DRAINED = "drained"
    """The gateway asked for it, or the caller needs no call now."""
    BROKEN = "broken"
    """It broke; another may do."""


class Barrier:
    """What `flush` and `finish` wait for."""

    def __init__(self, finish: bool) -> None:
        self.finish = finish
        self.receipt: Optional[Receipt] = None


class Exchange:
    """See the module."""

    def __init__(self, session: Session, open_for: float, retry_for: float) -> None:
        self.session = session
        self.opened: Optional[ingest_pb2.Opened] = None
        self.barrier: Optional[Barrier] = None
        self._open_for = open_for
        self._retry_for = retry_for
        # Since when nothing has gone forward, and how often was tried.
        self._trouble_since: Optional[float] = None
        self._attempts = 0
        self.last_error: Optional[CallError] = None
        # Of the current call.
        self.drain_until: Optional[float] = None
        self._flush_sent = False
        # The last batch before the Flush that is under way.
        self._flush_through = 0
        self._finish_sent = False
        self._finished_came = False
        self._was_of_use = False

    # The caller's side.

    @property
    def takes_parts(self) -> bool:
        """Whether `accept` may be called."""
        return self.barrier is None and self.session.accepts()

    def accept(self, part: Part) -> None:
        """Takes a part of the caller."""
        if self.session.is_empty:
            # With nothing to send, no time was lost by a call that broke.
            self._trouble_since = None
            self._attempts = 0
        self.session.accept(part)

    def set_barrier(self, barrier: Barrier) -> None:
        """The caller waits for all that it has sent. There is one at a time: the caller waits."""
        self.barrier = barrier

    @property
    def needs_call(self) -> bool:
        """Whether another call is to be opened: with nothing to send there is no need for one."""
        return not self.session.is_empty

    def settle_without_call(self) -> bool:
        """Answers a barrier for which no call is needed; True where the session is over by it."""
        barrier = self.barrier
        if barrier is None or not self.session.is_empty:
            return False
        self._reach(barrier)
        return barrier.finish

    def _reach(self, barrier: Barrier) -> None:
        barrier.receipt = self.session.receipt()
        self.barrier = None

    # The gateway's side.

    def begin(self, opened: ingest_pb2.Opened) -> None:
        """A call was opened."""
        self.opened = opened
        self.session.begin_call()
        self.session.set_window(opened.window)
        self.drain_until = None
        if self.session.is_empty:
            self._went_forward()
        self._flush_sent = self._finish_sent = self._finished_came = self._was_of_use = False

    def next_request(self, now: float) -> Optional[bytes]:
        """The next message to send, if one is due."""
        control = self._control()
        if control is not None:
            return control
        if self.drain_until is not None or self._finish_sent:
            return None
        return self.session.next_to_send(now)

    def next_due(self, now: float) -> Optional[float]:
        """When to ask `next_request` again, if nothing else happens."""
        if self.drain_until is not None or self._finish_sent:
            return None
        return self.session.next_due(now)

    def _control(self) -> Optional[bytes]:
        if self._finish_sent:
            return None
        if self.drain_until is not None:
            return None if self.session.has_in_flight else self._finish()
        barrier = self.barrier
        if barrier is None or not self.session.all_sent:
            return None
        if barrier.finish:
            return self._finish()
        if self._flush_sent:
            return None
        self._flush_sent = True
        self._flush_through = self.session.call_counts[0]
        return _wire.FLUSH_REQUEST

    def _finish(self) -> bytes:
        self._finish_sent = True
        return _wire.finish_request(*self.session.call_counts)

    def on_response(self, response: ingest_pb2.WriteResponse, now: float) -> None:
        """Takes one message of the gateway after Opened. Raises `Violation`."""
        if self._finished_came:
            raise Violation("a message came after Finished")
        kind = response.WhichOneof("message")
        if kind == "ack":
            if self.session.on_ack(response.ack, now):
                self._went_forward()
        elif kind == "window":
            self.session.set_window(response.window)
        elif kind == "schema_changed":
            # Old columns stay valid, and ours do not change within a session.
            pass
        elif kind == "drain":
            self.drain_until = now + response.drain.deadline.ToTimedelta().total_seconds()
        elif kind == "flushed":
            self._on_flushed(response.flushed, now)
        elif kind == "finished":
            if not self._finish_sent:
                raise Violation("Finished came without Finish")
            # A gateway that drains every call at once answers with Finished, too: that is no progress.
            if self.session.on_finished(response.finished, now):
                self._went_forward()
            self._finished_came = True
        elif kind == "opened":
            raise Violation("Opened came twice")
        else:
            raise Violation("an empty message, or one that this version does not know")

    def _on_flushed(self, flushed: ingest_pb2.Flushed, now: float) -> None:
        if not self._flush_sent:
            raise Violation("Flushed came without Flush")
        if self.session.on_flushed(flushed, now):
            self._went_forward()
        self._flush_sent = False
        # Rows that are sent again may have gone out after it.
        if flushed.committed_through < self._flush_through:
            raise Violation("Flushed came before every batch was acked")
        # Where rows are sent again, the barrier comes after them.
        if self.session.is_empty and self.barrier is not None and not self.barrier.finish:
            self._reach(self.barrier)

    def _went_forward(self) -> None:
        self._trouble_since = None
        self._attempts = 0
        self._was_of_use = True

    def on_end(self, error: Optional[CallError]) -> End:
        """The call is over, with an error or without. Raises what ends the session."""
        self.last_error = None
        if self._finished_came:
            # Everything is acked: a connection that breaks now takes nothing with it.
            if error is not None and not _passes(error):
                raise error
            if self.session.is_empty and self.drain_until is None and self.barrier is not None and self.barrier.finish:
                self._reach(self.barrier)
                return End.FINISHED
            return End.DRAINED
        if error is None:
            self.last_error = Unavailable("UNAVAILABLE", "the call ended before Finished")
            return End.BROKEN
        if self.drain_until is not None and isinstance(error, (Unauthenticated, PermissionDenied)):
            # It had said that the credential ends. Whether there is a better one is seen when the next call is opened.
            return End.DRAINED
        if not _passes(error):
            raise error
        self.last_error = error
        return End.BROKEN

    def drain_passed(self, now: float) -> bool:
        """Whether the time is over that the gateway gave this call."""
        return self.drain_until is not None and now >= self.drain_until

    @property
    def drained_without_use(self) -> bool:
        """Whether nothing of the call that ended became final though there is something: a gateway that drains whatever call it gets
        must not be called in a tight loop, nor for ever."""
        return not self._was_of_use and not self.session.is_empty

    def pause(self, now: float, chance: float) -> float:
        """Seconds to wait after a call that came to nothing, `chance` being in 0..1. Raises why, where patience is over."""
        error = self.last_error or Unavailable("UNAVAILABLE", "the gateway takes no new calls")
        since = now if self._trouble_since is None else self._trouble_since
        pause = backoff(self._attempts, chance, error.retry_after)
        patience = self._retry_for if self.opened is not None else self._open_for
        if now + pause - since > patience:
            raise _gave_up(error, now - since)
        self._trouble_since = since
        self._attempts += 1
        return pause


def _passes(error: CallError) -> bool:
    """Whether another call may do. A deadline is none of ours: without the gateway's own reason it is what a proxy makes of a long call."""
    return is_transient(error) or (error.code == "DEADLINE_EXCEEDED" and not error.reason)


def _gave_up(error: CallError, after: float) -> CallError:
    # The first failure of a call that was to be opened says more without "gave up".
    message = error.message if after < 1.0 else f"gave up after {after:.0f} s: {error.message}"
    return type(error)(
        error.code, message, reason=error.reason, field_path=error.field_path, retry_after=error.retry_after
    )
