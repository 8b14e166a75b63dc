"""A writer's state without its I/O: what is unacked, how the caller's batches map to the numbers of the current call, what the window
allows, and which outcomes are final.

Invariants
- The queue holds parts of the caller's batches in the caller's order; they are sent in that order, in every call.
- A part leaves the queue only when the gateway's `committed_through` or a committed range covers it.
- Outcomes are final only when their part is covered; those of a part that has to be sent again are forgotten, because the new call
  reports them again.
- A covered part with rows to send again keeps its place in the queue with those rows, and is sent again under a new number. Such rows
  are of tables with `sequence_by`, where the order of sending has no meaning.

Times are seconds of one clock that never goes back, and are passed in. Caller: `_exchange`.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import Callable, Deque, Dict, List, Optional, Sequence, Tuple

from ._wire import Payload
from .results import Outcome, Receipt, RowStatus
from .v1 import ingest_pb2

# What the window is until the gateway has said it, by the protocol.
INITIAL_UNACKED_BYTES = 8 * 1024 * 1024
INITIAL_UNACKED_BATCHES = 64
# A pause before rows are sent again for which the gateway named none.
RESEND_PAUSE_SECONDS = 10.0

_AGAIN = (ingest_pb2.ROW_STATUS_RETRYABLE, ingest_pb2.ROW_STATUS_UNKNOWN)
_STATUSES = {
    ingest_pb2.ROW_STATUS_SUPERSEDED: RowStatus.SUPERSEDED,
    ingest_pb2.ROW_STATUS_REJECTED: RowStatus.REJECTED,
    ingest_pb2.ROW_STATUS_RETRYABLE: RowStatus.RETRYABLE,
    ingest_pb2.ROW_STATUS_UNKNOWN: RowStatus.UNKNOWN,
}


class Violation(Exception):
    """The gateway broke the protocol."""


@dataclass
class Part:
    """A part of a caller's batch: one `Batch` message."""

    batch: int
    """The caller's batch."""
    first_row: int
    """Index of its first row in the caller's batch."""
    payload: Payload
    ends_batch: bool = True


@dataclass
class _Again:
    """Since when, and until when not, a part's rows are sent again; `rows` are those left, by their index in the caller's part."""

    since: float
    not_before: float
    rows: Optional[List[int]]


@dataclass
class _Entry:
    part: Part
    rows: int
    seq: int = 0
    """Its number in the current call; 0: not sent in it."""
    done: bool = False
    """Covered: final, only waiting for those before it."""
    outcomes: List[ingest_pb2.RowOutcome] = field(default_factory=list)
    again: Optional[_Again] = None

    @property
    def is_unsent(self) -> bool:
        return self.seq == 0 and not self.done

    def is_due(self, now: float) -> bool:
        return self.is_unsent and (self.again is None or self.again.not_before <= now)

    def row_in_part(self, row_index: int) -> int:
        left = self.again.rows if self.again else None
        return left[row_index] if left else row_index


@dataclass
class _Totals:
    """A `Receipt` in the making."""

    batches: int = 0
    rows: int = 0
    superseded_rows: int = 0
    rejected_rows: int = 0
    retryable_rows: int = 0
    unknown_rows: int = 0
    write_units: float = 0.0
    throttled_attempts: int = 0
    coercions: Dict[str, int] = field(default_factory=dict)
    rate_limited_seconds: float = 0.0
    calls: int = 0


class Session:
    """See the module. `on_outcome` gets each outcome once, when it is final."""

    def __init__(self, resend_seconds: float, on_outcome: Callable[[Outcome], None]) -> None:
        self._resend_seconds = resend_seconds
        self._on_outcome = on_outcome
        self._queue: Deque[_Entry] = deque()
        self._max_unacked_bytes = INITIAL_UNACKED_BYTES
        self._max_unacked_batches = INITIAL_UNACKED_BATCHES
        self._committed_through = 0
        self._last_seq = 0
        self._in_flight_bytes = 0
        self._call_rows = 0
        self._totals = _Totals()
        self._call_receipt: Optional[ingest_pb2.Receipt] = None
        self._acked_batches = 0

    # What goes out.

    def begin_call(self) -> None:
        """A new call was opened: everything unacked is to be sent again, numbered from 1."""
        self._book_call()
        self._totals.calls += 1
        self._committed_through = self._last_seq = self._in_flight_bytes = self._call_rows = 0
        for entry in self._queue:
            entry.seq = 0
            if not entry.done:
                entry.outcomes.clear()

    def set_window(self, window: ingest_pb2.Window) -> None:
        """The window that the gateway set."""
        self._max_unacked_bytes = window.max_unacked_bytes
        self._max_unacked_batches = window.max_unacked_batches

    def accepts(self) -> bool:
        """Whether the caller's next part may come in: only when all before it are sent, so that what is held is the window and one
        part. Rows that wait to be sent again keep it out, too."""
        return not any(entry.is_unsent for entry in self._queue)

    def accept(self, part: Part) -> None:
        """Takes a part of the caller."""
        self._queue.append(_Entry(part, part.payload.rows))

    def next_to_send(self, now: float) -> Optional[bytes]:
        """The next batch to send, where there is one and the window has room."""
        entry = next((entry for entry in self._queue if entry.is_due(now)), None)
        if entry is None or not self._fits(entry.part.payload):
            return None
        self._last_seq += 1
        entry.seq = self._last_seq
        self._in_flight_bytes += entry.part.payload.message_bytes(entry.seq)
        self._call_rows += entry.rows
        return entry.part.payload.request(entry.seq)

    def next_due(self, now: float) -> Optional[float]:
        """When the next of the rows that are sent again is due, if that is later."""
        times = [entry.again.not_before for entry in self._queue if entry.is_unsent and entry.again]
        return min((time for time in times if time > now), default=None)

    def _fits(self, payload: Payload) -> bool:
        in_flight = self._last_seq - self._committed_through
        # A batch is always admitted when nothing is in flight.
        return in_flight == 0 or (
            in_flight < self._max_unacked_batches
            and self._in_flight_bytes + payload.message_bytes(self._last_seq + 1) <= self._max_unacked_bytes
        )

    @property
    def all_sent(self) -> bool:
        """Whether everything accepted has been sent in this call."""
        return not any(entry.is_unsent for entry in self._queue)

    @property
    def is_empty(self) -> bool:
        """Whether everything accepted has a final outcome."""
        return not self._queue

    @property
    def has_in_flight(self) -> bool:
        """Whether something sent in this call waits for its ack."""
        return any(entry.seq != 0 and not entry.done for entry in self._queue)

    @property
    def call_counts(self) -> Tuple[int, int]:
        """Batches and rows sent in this call, for `Finish`."""
        return self._last_seq, self._call_rows

    @property
    def acked_batches(self) -> int:
        """The caller's batches whose rows all have final outcomes, with none before them that have not."""
        return self._acked_batches

    # What comes in.

    def on_ack(self, ack: ingest_pb2.Ack, now: float) -> bool:
        """Takes an ack; gives whether anything became final by it."""
        by_seq = {entry.seq: entry for entry in self._queue if entry.seq and not entry.done} if ack.outcomes else {}
        for outcome in ack.outcomes:
            entry = by_seq.get(outcome.batch_seq)
            if entry is None or outcome.row_index >= entry.rows:
                raise Violation(
                    f"an outcome for row {outcome.row_index} of batch {outcome.batch_seq}, which is not waiting for one"
                )
            entry.outcomes.append(outcome)
        self._totals.superseded_rows += ack.superseded_count
        ranges = [(found.first, found.last) for found in ack.committed_ranges]
        return self._commit(ack.committed_through, ranges, now)

    def on_flushed(self, flushed: ingest_pb2.Flushed, now: float) -> bool:
        """Takes the answer to `Flush`."""
        progressed = self._commit(flushed.committed_through, (), now)
        if flushed.HasField("receipt"):
            self._call_receipt = flushed.receipt
        return progressed

    def on_finished(self, finished: ingest_pb2.Finished, now: float) -> bool:
        """Takes the last message of a call."""
        if self.has_in_flight:
            raise Violation("Finished came before every batch was acked")
        progressed = self._commit(self._last_seq, (), now)
        if finished.HasField("receipt"):
            self._call_receipt = finished.receipt
        self._book_call()
        return progressed

    def receipt(self) -> Receipt:
        """Totals up to now."""
        totals, call = self._totals, self._call_receipt
        other = totals.rejected_rows + totals.retryable_rows + totals.unknown_rows
        superseded = min(totals.superseded_rows, max(totals.rows - other, 0))
        receipt = Receipt(
            batches=totals.batches,
            rows=totals.rows,
            committed_rows=max(totals.rows - other - superseded, 0),
            superseded_rows=superseded,
            rejected_rows=totals.rejected_rows,
            retryable_rows=totals.retryable_rows,
            unknown_rows=totals.unknown_rows,
            write_units=totals.write_units,
            throttled_attempts=totals.throttled_attempts,
            coercions=dict(totals.coercions),
            rate_limited_seconds=totals.rate_limited_seconds,
            calls=totals.calls,
        )
        return receipt if call is None else receipt + _of_call(call)

    def _book_call(self) -> None:
        """Books what only the gateway knows of the call that is over; the rows are our own count."""
        if self._call_receipt is None:
            return
        call, totals = _of_call(self._call_receipt), self._totals
        self._call_receipt = None
        totals.write_units += call.write_units
        totals.throttled_attempts += call.throttled_attempts
        totals.rate_limited_seconds += call.rate_limited_seconds
        for rule, count in call.coercions.items():
            totals.coercions[rule] = totals.coercions.get(rule, 0) + count

    def _commit(self, through: int, ranges: Sequence[Tuple[int, int]], now: float) -> bool:
        if not self._committed_through <= through <= self._last_seq:
            raise Violation(
                f"committed_through is {through}; it was {self._committed_through} and {self._last_seq} batches were sent"
            )
        progressed = False
        for entry in self._queue:
            if entry.seq == 0 or entry.done:
                continue
            if entry.seq > through and not any(first <= entry.seq <= last for first, last in ranges):
                continue
            progressed = True
            self._in_flight_bytes -= entry.part.payload.message_bytes(entry.seq)
            if self._send_again(entry, now):
                continue
            entry.done = True
            # The window is about bytes that we hold as much as about what the gateway holds.
            entry.part.payload = entry.part.payload.released()
            self._totals.rows += entry.rows
            self._tell_outcomes(entry)
        self._committed_through = through
        while self._queue and self._queue[0].done:
            part = self._queue.popleft().part
            if part.ends_batch:
                self._totals.batches += 1
                self._acked_batches = part.batch
        return progressed

    def _send_again(self, entry: _Entry, now: float) -> bool:
        """Where rows are to be sent again and there is patience left: makes the part one of those rows, unsent. False where all
        outcomes are final."""
        waiting = [outcome for outcome in entry.outcomes if outcome.status in _AGAIN]
        since = entry.again.since if entry.again else now
        if not waiting or self._resend_seconds <= 0 or now - since > self._resend_seconds:
            return False
        pauses = [outcome.retry_after.ToTimedelta().total_seconds() for outcome in waiting if outcome.HasField("retry_after")]
        indices = sorted({outcome.row_index for outcome in waiting})
        payload = entry.part.payload.select(indices)
        rows: Optional[List[int]] = None
        if payload is None:
            # All rows of the part: in such tables those that are written already are written again to no effect.
            entry.outcomes.clear()
        else:
            rows = [entry.row_in_part(index) for index in indices]
            entry.outcomes = [outcome for outcome in entry.outcomes if outcome.status not in _AGAIN]
            self._totals.rows += entry.rows - len(rows)
            self._tell_outcomes(entry)
            entry.rows = len(rows)
            entry.part.payload = payload
        entry.seq = 0
        entry.again = _Again(since, now + max(pauses, default=RESEND_PAUSE_SECONDS), rows)
        return True

    def _tell_outcomes(self, entry: _Entry) -> None:
        """Gives the outcomes that a part has, which are final, in the caller's numbers."""
        totals, outcomes = self._totals, entry.outcomes
        entry.outcomes = []
        for outcome in outcomes:
            status = _STATUSES.get(outcome.status)
            if status is None:
                raise Violation(f"an outcome with the status {outcome.status}, which is not one")
            if status is RowStatus.REJECTED:
                totals.rejected_rows += 1
            elif status is RowStatus.RETRYABLE:
                totals.retryable_rows += 1
            elif status is RowStatus.UNKNOWN:
                totals.unknown_rows += 1
            else:
                totals.superseded_rows += 1
            self._on_outcome(_outcome(entry, outcome, status))


def _outcome(entry: _Entry, outcome: ingest_pb2.RowOutcome, status: RowStatus) -> Outcome:
    return outcome_from(outcome, entry.part.batch, entry.part.first_row + entry.row_in_part(outcome.row_index), status)


def outcome_from(
    outcome: ingest_pb2.RowOutcome, batch: int, row: int, status: Optional[RowStatus] = None
) -> Outcome:
    """A message as an `Outcome`, under the caller's numbers."""
    return Outcome(
        batch=batch,
        row=row,
        status=status or _STATUSES[outcome.status],
        reason=reason_name(outcome.reason),
        field_path=outcome.field_path,
        message=outcome.message,
        declared_type=outcome.declared_type,
        found_type=outcome.found_type,
        hint=outcome.hint,
        value=outcome.value if outcome.HasField("value") else None,
        retry_after=outcome.retry_after.ToTimedelta().total_seconds() if outcome.HasField("retry_after") else None,
    )


def is_status(status: int) -> bool:
    """Whether it is one that an outcome may have."""
    return status in _STATUSES


def reason_name(reason: int) -> str:
    """A reason's stable name ("TYPE_MISMATCH"); one that this version does not know by its number."""
    try:
        return ingest_pb2.RowReason.Name(reason)[len("ROW_REASON_") :]
    except ValueError:
        return str(reason)


def _of_call(call: ingest_pb2.Receipt) -> Receipt:
    return Receipt(
        write_units=call.write_units,
        throttled_attempts=call.throttled_attempts,
        coercions=dict(call.coercions),
        rate_limited_seconds=call.rate_limited_for.ToTimedelta().total_seconds() if call.HasField("rate_limited_for") else 0.0,
    )
