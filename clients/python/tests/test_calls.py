"""How often a call is made, when it is made again, and what it carries: against a gateway of Python that does as it is told."""

from __future__ import annotations

import asyncio
import threading
import time
from concurrent import futures
from typing import Any, Callable, Dict, Iterator, List, Optional, Tuple

import grpc
import pytest

import forebay
from forebay import ReadStatus, _writing, aio
from forebay.v1 import ingest_pb2, ingest_pb2_grpc, read_pb2, read_pb2_grpc, table_pb2, table_pb2_grpc
from forebay.v1 import types_pb2 as pb

LONG = pb.DataType(primitive=pb.PRIMITIVE_TYPE_LONG)
SCHEMA = pb.Schema(fields=[pb.Field(name="id", type=LONG), pb.Field(name="at", type=LONG)])
Step = Callable[[Any, grpc.ServicerContext], Any]


def _field(number: int, value: Any) -> bytes:
    if isinstance(value, int):
        return bytes((number << 3, value))
    return bytes((number << 3 | 2, len(value))) + value


def refusal(code: grpc.StatusCode, reason: str, retry_tenths: Optional[int] = None) -> Step:
    """Ends the call as the gateway does, with ErrorInfo and perhaps RetryInfo."""
    details = [("ErrorInfo", _field(1, reason.encode()) + _field(2, b"forebay"))]
    if retry_tenths is not None:
        nanos = retry_tenths * 100_000_000
        encoded = b""
        while nanos > 0x7F:
            encoded, nanos = encoded + bytes((nanos & 0x7F | 0x80,)), nanos >> 7
        details.append(("RetryInfo", _field(1, bytes((2 << 3,)) + encoded + bytes((nanos,)))))
    status = _field(1, code.value[0]) + _field(2, b"no")  # type: ignore[index]
    for name, detail in details:
        status += _field(3, _field(1, f"type.googleapis.com/google.rpc.{name}".encode()) + _field(2, detail))

    def refuse(request: Any, context: grpc.ServicerContext) -> Any:
        context.set_trailing_metadata((("grpc-status-details-bin", status),))
        context.abort(code, "no")

    return refuse


class Fake(table_pb2_grpc.TableServiceServicer, read_pb2_grpc.ReadServiceServicer, ingest_pb2_grpc.IngestServiceServicer):
    """A gateway: each call takes the next step, and answers well when there is none left."""

    def __init__(self) -> None:
        self.steps: List[Step] = []
        self.calls: List[Tuple[str, Any, Dict[str, Any], float]] = []
        self.lock = threading.Lock()

    def _call(self, name: str, request: Any, context: grpc.ServicerContext) -> Any:
        with self.lock:
            self.calls.append((name, request, dict(context.invocation_metadata()), context.time_remaining()))
            step = self.steps.pop(0) if self.steps and name != "GetTable" else None
        return None if step is None else step(request, context)

    def named(self, name: str) -> List[Any]:
        """The requests of one method."""
        return [request for called, request, _, _ in self.calls if called == name]

    def GetTable(self, request: Any, context: Any) -> Any:
        self._call("GetTable", request, context)
        table = table_pb2.Table(name=request.name, schema=SCHEMA, key=table_pb2.Key(partition=["id"], sort=["at"]))
        return table_pb2.GetTableResponse(table=table, schema_version=1)

    def GetRow(self, request: Any, context: Any) -> Any:
        step = self._call("GetRow", request, context)
        row = pb.Row(values=request.key.values)
        return step or read_pb2.GetRowResponse(status=read_pb2.READ_STATUS_FOUND, row=row, columns=SCHEMA)

    def BatchGetRows(self, request: Any, context: Any) -> Any:
        self._call("BatchGetRows", request, context)
        answer = read_pb2.BatchGetRowsResponse()
        for asked in request.requests:
            rows = answer.results.add(table=asked.table, columns=SCHEMA)
            for key in asked.keys:
                rows.rows.add(status=read_pb2.READ_STATUS_FOUND, row=pb.Row(values=key.values))
        return answer

    def ReadRange(self, request: Any, context: Any) -> Iterator[Any]:
        self._call("ReadRange", request, context)
        first = request.sort_from.values[0].int_value if request.HasField("sort_from") else 0
        yield read_pb2.ReadRangeResponse(columns=SCHEMA)
        for at in range(first, 9):
            yield read_pb2.ReadRangeResponse(rows=[pb.Row(values=[pb.Value(int_value=1), pb.Value(int_value=at)])])
            # Breaks after every third row that is new.
            if at and at % 3 == 0 and at != first:
                context.abort(grpc.StatusCode.UNAVAILABLE, "gone")

    def WriteRows(self, request: Any, context: Any) -> Any:
        self._call("WriteRows", request, context)
        rows = len(request.rows.rows)
        return ingest_pb2.WriteRowsResponse(receipt=ingest_pb2.Receipt(batches=1, rows=rows, committed_rows=rows))


@pytest.fixture
def fake() -> Iterator[Fake]:
    server = grpc.server(futures.ThreadPoolExecutor(8))
    fake = Fake()
    table_pb2_grpc.add_TableServiceServicer_to_server(fake, server)  # type: ignore[no-untyped-call]
    read_pb2_grpc.add_ReadServiceServicer_to_server(fake, server)  # type: ignore[no-untyped-call]
    ingest_pb2_grpc.add_IngestServiceServicer_to_server(fake, server)  # type: ignore[no-untyped-call]
    fake.endpoint = f"http://127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"  # type: ignore[attr-defined]
    server.start()
    yield fake
    server.stop(0)


class Sync:
    """The blocking client."""

    def __init__(self, endpoint: str, **options: Any) -> None:
        self._client = forebay.connect(endpoint, **options)

    def __call__(self, method: str, *args: Any, **options: Any) -> Any:
        found = getattr(self._client, method)(*args, **options)
        return list(found) if method == "get_range" else found

    def close(self) -> None:
        self._client.close()


class Async:
    """The asyncio client, in a loop of its own."""

    def __init__(self, endpoint: str, **options: Any) -> None:
        self._loop = asyncio.new_event_loop()
        self._client = self._loop.run_until_complete(self._connect(endpoint, options))

    async def _connect(self, endpoint: str, options: Dict[str, Any]) -> aio.AsyncClient:
        return aio.connect(endpoint, **options)

    async def _collect(self, rows: Any) -> List[Any]:
        return [row async for row in rows]

    def __call__(self, method: str, *args: Any, **options: Any) -> Any:
        found = getattr(self._client, method)(*args, **options)
        return self._loop.run_until_complete(self._collect(found) if method == "get_range" else found)

    def close(self) -> None:
        self._loop.run_until_complete(self._client.close())
        self._loop.close()


@pytest.fixture(params=[Sync, Async])
def call(request: pytest.FixtureRequest, fake: Fake) -> Iterator[Any]:
    client = request.param(fake.endpoint, token="fb_x_secret")  # type: ignore[attr-defined]
    yield client
    client.close()


LIMITED = grpc.StatusCode.RESOURCE_EXHAUSTED
GONE = grpc.StatusCode.UNAVAILABLE


def test_a_limit_is_waited_for_as_long_as_the_gateway_says(call: Any, fake: Fake) -> None:
    fake.steps = [refusal(LIMITED, "QUOTA", retry_tenths=4)]
    started = time.monotonic()
    assert call("get", "t", (1, 2)).value() == {"id": 1, "at": 2}
    assert time.monotonic() - started >= 0.4
    assert len(fake.named("GetRow")) == 2


def test_a_limit_beyond_the_deadline_is_an_error_at_once(call: Any, fake: Fake) -> None:
    fake.steps = [refusal(LIMITED, "QUOTA", retry_tenths=9)]
    started = time.monotonic()
    with pytest.raises(forebay.RateLimited) as caught:
        call("get", "t", (1, 2), timeout=0.5)
    assert (caught.value.reason, caught.value.retry_after) == ("QUOTA", 0.9)
    assert time.monotonic() - started < 0.5 and len(fake.named("GetRow")) == 1


def test_a_limit_without_a_time_is_final(call: Any, fake: Fake) -> None:
    fake.steps = [refusal(LIMITED, "TOO_LARGE")]
    with pytest.raises(forebay.RateLimited):
        call("get", "t", (1, 2))
    assert len(fake.named("GetRow")) == 1


@pytest.mark.parametrize("code", [grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.PERMISSION_DENIED, grpc.StatusCode.INTERNAL])
def test_what_would_fail_again_is_asked_once(call: Any, fake: Fake, code: grpc.StatusCode) -> None:
    fake.steps = [refusal(code, "SOME_REASON")]
    with pytest.raises(forebay.CallError) as caught:
        call("get", "t", (1, 2))
    assert (caught.value.code, caught.value.reason) == (code.name, "SOME_REASON")
    assert len(fake.named("GetRow")) == 1


def test_reads_and_writes_are_made_again_where_the_gateway_could_not_serve(call: Any, fake: Fake) -> None:
    fake.steps = [refusal(GONE, "OVERLOADED", retry_tenths=1), refusal(GONE, "SHUTTING_DOWN")]
    assert call("get", "t", (1, 2))
    assert len(fake.named("GetRow")) == 3
    fake.steps = [refusal(GONE, "BACKEND_UNAVAILABLE")] * 2
    assert call("write", "t", [{"id": 1, "at": 2}]).receipt.committed_rows == 1
    requests = fake.named("WriteRows")
    assert len(requests) == 3 and requests[0] == requests[1] == requests[2], "the same rows, each time"


def test_every_call_carries_the_token_and_the_time_that_is_left(call: Any, fake: Fake) -> None:
    fake.steps = [refusal(GONE, "OVERLOADED", retry_tenths=3)]
    call("get", "t", (1, 2), timeout=5)
    call("get_many", "t", [(1, 2)], timeout=5)
    call("get_range", "t", 1, timeout=5)
    call("write", "t", {"id": 1, "at": 2}, timeout=5)
    names = {name for name, _, _, _ in fake.calls}
    assert names == {"GetTable", "GetRow", "BatchGetRows", "ReadRange", "WriteRows"}
    for _, _, metadata, left in fake.calls:
        assert metadata["authorization"] == "Bearer fb_x_secret"
        assert metadata["user-agent"].startswith("forebay-python/")
        assert left <= 5.1
    first, second = (left for name, _, _, left in fake.calls if name == "GetRow")
    assert second < first - 0.25, "the second attempt has what the first left"


def test_the_tables_key_is_asked_for_once(call: Any, fake: Fake) -> None:
    for at in range(5):
        call("get", "t", (1, at))
    call("get_many", "t", [(1, 1)])
    call("write", "t", {"id": 1, "at": 2})
    assert len(fake.named("GetTable")) == 1


def test_keys_beyond_the_deadline_are_unavailable_and_those_before_are_there(call: Any, fake: Fake) -> None:
    def slow(request: Any, context: Any) -> None:
        time.sleep(1.0)

    call("get", "t", (1, 1))
    # Four thousand keys are under way together; the others follow, and come too late.
    fake.steps = [lambda request, context: None] * 4 + [slow] * 4
    started = time.monotonic()
    results = call("get_many", "t", [(1, at) for at in range(5000)], timeout=0.7)
    assert time.monotonic() - started < 2.0
    assert [result["at"] for result in results[:4000]] == list(range(4000))
    assert {result.status for result in results[4000:]} == {ReadStatus.UNAVAILABLE}
    with pytest.raises(forebay.RowUnavailable):
        results[4500].value()


def test_a_deadline_before_any_answer_is_an_error(call: Any, fake: Fake) -> None:
    call("get", "t", (1, 1))
    fake.steps = [lambda request, context: time.sleep(1.0)]
    with pytest.raises(forebay.DeadlineExceeded):
        call("get_many", "t", [(1, 1)], timeout=0.3)


def test_a_range_goes_on_after_every_break_without_gap_or_repetition(call: Any, fake: Fake) -> None:
    rows = call("get_range", "t", 1)
    assert [row["at"] for row in rows] == list(range(9))
    starts = [request.sort_from.values[0].int_value for request in fake.named("ReadRange")[1:]]
    assert starts == [3, 6]


def test_a_status_of_a_newer_gateway_is_named_and_no_key_error() -> None:
    answer = ingest_pb2.WriteRowsResponse(outcomes=[ingest_pb2.RowOutcome(batch_seq=1)])
    answer.outcomes[0].MergeFromString(b"\x18\x63")  # status: 99
    with pytest.raises(forebay.CallError, match="status 99"):
        _writing.result(answer)
