"""Reads by key for Spark: asked until it is known what became of each key, and no longer than told."""

from __future__ import annotations

from typing import Callable, Iterator, List, Sequence

import pytest

from forebay.errors import CallError, DeadlineExceeded, InvalidRequest, PermissionDenied, Unavailable
from forebay.spark.fetch import Clock, rows_by_key, rows_of_range
from forebay.v1 import read_pb2, types_pb2

FOUND = read_pb2.ReadStatus.READ_STATUS_FOUND
MISSING = read_pb2.ReadStatus.READ_STATUS_NOT_FOUND
UNAVAILABLE = read_pb2.ReadStatus.READ_STATUS_UNAVAILABLE
EVENTUAL = read_pb2.Consistency.CONSISTENCY_EVENTUAL


class Time:
    def __init__(self) -> None:
        self.now = 0.0
        self.waits: List[float] = []

    def clock(self) -> Clock:
        return Clock(now=lambda: self.now, sleep=self.sleep, jitter=lambda: 1.0)

    def sleep(self, seconds: float) -> None:
        self.waits.append(seconds)
        self.now += seconds


class Gateway:
    """Answers each key by a function of the key and of how many calls there were."""

    def __init__(self, status: Callable[[int, int], int]) -> None:
        self.status = status
        self.asked: List[List[int]] = []
        self.failures: List[CallError] = []

    def batch_get_rows(self, request: read_pb2.BatchGetRowsRequest) -> read_pb2.BatchGetRowsResponse:
        if self.failures:
            raise self.failures.pop(0)
        (table,) = request.requests
        keys = [key.values[0].int_value for key in table.keys]
        self.asked.append(keys)
        results = []
        for key in keys:
            status = self.status(key, len(self.asked))
            row = types_pb2.Row(values=[types_pb2.Value(int_value=key)]) if status == FOUND else None
            results.append(read_pb2.RowResult(status=status, row=row))
        return read_pb2.BatchGetRowsResponse(results=[read_pb2.TableRows(table=table.table, rows=results)])

    def read_range(self, request: read_pb2.ReadRangeRequest) -> Iterator[read_pb2.ReadRangeResponse]:
        raise NotImplementedError


def keys(numbers: Sequence[int]) -> read_pb2.TableKeys:
    wanted = [read_pb2.RowKey(values=[types_pb2.Value(int_value=number)]) for number in numbers]
    return read_pb2.TableKeys(table="t", keys=wanted, columns=["k"])


def read(gateway: Gateway, time: Time, numbers: Sequence[int], retry_for: float = 10.0) -> List[int]:
    answer = rows_by_key(gateway, keys(numbers), consistency=EVENTUAL, retry_for=retry_for, clock=time.clock())
    for number, result in zip(numbers, answer.rows):
        assert result.status != FOUND or result.row.values[0].int_value == number, "an answer at another key's place"
    return [result.status for result in answer.rows]


def test_a_throttled_key_is_asked_for_again_alone_and_never_looks_missing() -> None:
    gateway = Gateway(lambda key, call: UNAVAILABLE if key == 2 and call < 4 else MISSING if key == 3 else FOUND)
    assert read(gateway, Time(), [1, 2, 3]) == [FOUND, FOUND, MISSING]
    assert gateway.asked == [[1, 2, 3], [2], [2], [2]]


def test_an_answer_that_was_full_is_asked_on_at_once() -> None:
    # Two rows fit into an answer.
    seen: List[int] = []

    def status(key: int, call: int) -> int:
        if seen.count(call) == 2:
            return UNAVAILABLE
        seen.append(call)
        return FOUND

    time = Time()
    assert read(Gateway(status), time, range(9)) == [FOUND] * 9
    assert time.waits == []


def test_a_key_that_stays_unavailable_is_reported_so_after_retry_for() -> None:
    time = Time()
    gateway = Gateway(lambda key, call: UNAVAILABLE if key == 2 else FOUND)
    assert read(gateway, time, [1, 2], retry_for=3.0) == [FOUND, UNAVAILABLE]
    assert 1.0 < time.now <= 3.0
    assert time.waits == sorted(time.waits), "waits that do not grow"


def test_a_gateway_that_is_away_is_tried_again_until_it_is_back() -> None:
    time = Time()
    gateway = Gateway(lambda key, call: FOUND)
    gateway.failures = [
        Unavailable("UNAVAILABLE", "away", retry_after=1.5),
        DeadlineExceeded("DEADLINE_EXCEEDED", "late"),
    ]
    assert read(gateway, time, [1]) == [FOUND]
    assert time.waits[0] == 1.5, "the gateway's word for when to come back"


def test_a_gateway_that_stays_away_is_an_error_after_retry_for() -> None:
    time = Time()
    gateway = Gateway(lambda key, call: FOUND)
    gateway.failures = [Unavailable("UNAVAILABLE", "away")] * 1000
    with pytest.raises(Unavailable):
        read(gateway, time, [1], retry_for=3.0)
    assert 1.0 < time.now <= 3.0


@pytest.mark.parametrize(
    "error", [InvalidRequest("INVALID_ARGUMENT", "no"), PermissionDenied("PERMISSION_DENIED", "no")]
)
def test_what_cannot_pass_is_an_error_at_once(error: CallError) -> None:
    time = Time()
    gateway = Gateway(lambda key, call: FOUND)
    gateway.failures = [error]
    with pytest.raises(type(error)):
        read(gateway, time, [1])
    assert time.waits == []


def test_patience_begins_anew_with_each_success() -> None:
    """A gateway that fails before each answer: in all it is waited for longer than `retry_for`."""

    class Flaky(Gateway):
        def batch_get_rows(self, request: read_pb2.BatchGetRowsRequest) -> read_pb2.BatchGetRowsResponse:
            self.failures = [] if self.failed else [Unavailable("UNAVAILABLE", "away", retry_after=0.9)]
            self.failed = not self.failed
            return super().batch_get_rows(request)

        failed = False

    time = Time()
    assert (
        read(Flaky(lambda key, call: FOUND if key <= call else UNAVAILABLE), time, [1, 2, 3], retry_for=1.0)
        == [FOUND] * 3
    )
    assert time.waits == [0.9] * 3


class Range:
    """A range of numbers in messages of two rows, whose stream breaks after so many messages."""

    def __init__(self, last: int, breaks: Sequence[int]) -> None:
        self.last = last
        self.breaks = list(breaks)
        self.began: List[int] = []

    def batch_get_rows(self, request: read_pb2.BatchGetRowsRequest) -> read_pb2.BatchGetRowsResponse:
        raise NotImplementedError

    def read_range(self, request: read_pb2.ReadRangeRequest) -> Iterator[read_pb2.ReadRangeResponse]:
        first = request.sort_from.values[0].int_value if request.HasField("sort_from") else 0
        self.began.append(first)
        messages = self.breaks.pop(0) if self.breaks else None
        columns = types_pb2.Schema(fields=[types_pb2.Field(name="p"), types_pb2.Field(name="s")])
        for sent, begin in enumerate(range(first, self.last, 2)):
            if sent == messages:
                raise Unavailable("UNAVAILABLE", "throttled")
            rows = [
                types_pb2.Row(values=[types_pb2.Value(string_value="p"), types_pb2.Value(int_value=number)])
                for number in range(begin, min(begin + 2, self.last))
            ]
            yield read_pb2.ReadRangeResponse(columns=columns if sent == 0 else None, rows=rows)


@pytest.mark.parametrize("breaks", [[], [0], [1], [3, 1, 2], [1, 1, 1, 1, 1, 1, 1, 1, 1]], ids=str)
def test_a_range_that_breaks_goes_on_behind_its_last_row(breaks: Sequence[int]) -> None:
    gateway = Range(11, breaks)
    found: List[int] = []
    request = read_pb2.ReadRangeRequest(table="t", columns=["p", "s"])
    for columns, rows in rows_of_range(gateway, request, sort=[1], retry_for=10.0, clock=Time().clock()):
        assert [field.name for field in columns.fields] == ["p", "s"]
        found += [row.values[1].int_value for row in rows]
    assert found == list(range(11))
    assert not request.HasField("sort_from"), "the caller's request was changed"


def test_a_range_that_stays_broken_is_an_error_and_not_an_end() -> None:
    request = read_pb2.ReadRangeRequest(table="t")
    with pytest.raises(Unavailable):
        for _ in rows_of_range(Range(11, [0] * 1000), request, sort=[1], retry_for=2.0, clock=Time().clock()):
            pass
