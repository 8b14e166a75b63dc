"""Reads by key for a Spark task: rows as they come on the wire, asked for until it is known what became of each key.

A gateway answers UNAVAILABLE for keys that DynamoDB throttled, and for those that did not fit into its answer. They are
asked for again, alone: at once while each answer brings some of them, else after a wait, until `retry_for` has passed.
A range that breaks goes on behind its last row. Time comes from outside. Callers: `reader` and `lookup_task`.
"""

from __future__ import annotations

import random
import time
from dataclasses import dataclass, field
from typing import Callable, Iterator, List, Optional, Protocol, Sequence, Tuple, TypeVar

from .._status import is_transient
from ..errors import CallError, DeadlineExceeded
from ..v1 import read_pb2, types_pb2

MAX_KEYS_A_CALL = 1_000
"""What a gateway takes in one call."""
_FIRST_WAIT_SECONDS = 0.05
_LONGEST_WAIT_SECONDS = 5.0


class Calls(Protocol):
    """The calls of a gateway, each one attempt that raises `errors.CallError`."""

    def batch_get_rows(self, request: read_pb2.BatchGetRowsRequest) -> read_pb2.BatchGetRowsResponse:
        """Rows by key."""
        ...

    def read_range(self, request: read_pb2.ReadRangeRequest) -> Iterator[read_pb2.ReadRangeResponse]:
        """The rows of a range."""
        ...


@dataclass
class Clock:
    """Where time comes from."""

    now: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep
    jitter: Callable[[], float] = random.random


class _Patience:
    """When to try again, and until when: `retry_for` seconds from the first failure without a success between."""

    def __init__(self, retry_for: float, clock: Clock) -> None:
        self._retry_for = retry_for
        self._clock = clock
        self.succeeded()

    def succeeded(self) -> None:
        self._wait = _FIRST_WAIT_SECONDS
        self._until: Optional[float] = None

    def wait(self, at_least: Optional[float] = None) -> bool:
        """Waits for the next attempt; False, at once, where its time would be too late."""
        now = self._clock.now()
        # From the first failure on: how long the caller takes between rows is no fault of the gateway.
        self._until = now + self._retry_for if self._until is None else self._until
        pause = max(self._wait * (0.5 + self._clock.jitter() / 2), at_least or 0.0)
        if now + pause > self._until:
            return False
        self._clock.sleep(pause)
        self._wait = min(self._wait * 2, _LONGEST_WAIT_SECONDS)
        return True


T = TypeVar("T")


def _answered(call: Callable[[], T], retry_for: float, clock: Clock) -> T:
    """The answer of a call, which is made again for `retry_for` seconds where its failure may pass."""
    patience = _Patience(retry_for, clock)
    while True:
        try:
            return call()
        except CallError as error:
            if not _passes(error) or not patience.wait(error.retry_after):
                raise


def _passes(error: CallError) -> bool:
    # A read has no effect, so that one of which nothing was heard in time may be made again.
    return is_transient(error) or isinstance(error, DeadlineExceeded)


@dataclass
class Answer:
    """What became of some keys, in the order asked."""

    columns: types_pb2.Schema
    rows: List[read_pb2.RowResult] = field(repr=False)


def rows_by_key(
    calls: Calls,
    wanted: read_pb2.TableKeys,
    *,
    consistency: read_pb2.Consistency,
    retry_for: float,
    clock: Optional[Clock] = None,
) -> Answer:
    """Reads at most `MAX_KEYS_A_CALL` keys of one table.

    A key is UNAVAILABLE in the answer only when it still was after `retry_for` seconds. Raises `errors.CallError`.
    """
    clock = clock or Clock()

    def ask(keys: Sequence[read_pb2.RowKey]) -> read_pb2.TableRows:
        table_keys = read_pb2.TableKeys(table=wanted.table, keys=keys, columns=wanted.columns)
        request = read_pb2.BatchGetRowsRequest(requests=[table_keys], consistency=consistency)
        response = _answered(lambda: calls.batch_get_rows(request), retry_for, clock)
        if len(response.results) != 1 or len(response.results[0].rows) != len(keys):
            raise ValueError("the gateway's answer has not one result for each key")
        return response.results[0]

    first = ask(wanted.keys)
    rows = list(first.rows)
    patience = _Patience(retry_for, clock)
    left = _unavailable(rows, range(len(rows)))
    stuck = False
    while left and (not stuck or patience.wait()):
        again = ask([wanted.keys[at] for at in left])
        for at, result in zip(left, again.rows):
            rows[at] = result
        before, left = left, _unavailable(rows, left)
        stuck = len(left) == len(before)
        if not stuck:
            patience.succeeded()
    return Answer(first.columns, rows)


def _unavailable(rows: Sequence[read_pb2.RowResult], among: Sequence[int]) -> List[int]:
    return [at for at in among if rows[at].status == read_pb2.ReadStatus.READ_STATUS_UNAVAILABLE]


def rows_of_range(
    calls: Calls,
    wanted: read_pb2.ReadRangeRequest,
    *,
    sort: Sequence[int],
    retry_for: float,
    clock: Optional[Clock] = None,
) -> Iterator[Tuple[types_pb2.Schema, List[types_pb2.Row]]]:
    """The rows of a range in ascending order, some at a time.

    `sort` says where the sort columns are among the columns asked for. Raises `errors.CallError` where the range cannot
    be read, or nothing came for `retry_for` seconds.
    """
    patience = _Patience(retry_for, clock or Clock())
    request = read_pb2.ReadRangeRequest()
    request.CopyFrom(wanted)
    last: Optional[read_pb2.RowKey] = None
    while True:
        columns = types_pb2.Schema()
        try:
            for message in calls.read_range(request):
                if message.HasField("columns"):
                    columns = message.columns
                rows = list(message.rows)
                # The bound is included: what a broken stream gave last comes once more.
                if last is not None and rows and _sort_key(rows[0], sort) == last:
                    del rows[0]
                if rows:
                    last = _sort_key(rows[-1], sort)
                    patience.succeeded()
                    yield columns, rows
            return
        except CallError as error:
            if not _passes(error) or not patience.wait(error.retry_after):
                raise
            if last is not None:
                request.sort_from.CopyFrom(last)


def _sort_key(row: types_pb2.Row, sort: Sequence[int]) -> read_pb2.RowKey:
    return read_pb2.RowKey(values=[row.values[at] for at in sort])
