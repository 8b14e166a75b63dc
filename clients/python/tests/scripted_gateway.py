"""A gateway that does what a script says, for what a real one does once in a month. Used by the tests of the writers.

A script is a generator function for one call: it gets the call, yields answers, and may end it with a status.
"""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Callable, Iterator, List, Sequence

import grpc

from forebay.v1 import ingest_pb2, ingest_pb2_grpc, table_pb2, table_pb2_grpc
from forebay.v1 import types_pb2 as pb

Script = Callable[["Call"], Iterator[ingest_pb2.WriteResponse]]
LONG = pb.DataType(primitive=pb.PRIMITIVE_TYPE_LONG)
SCHEMA = pb.Schema(fields=[pb.Field(name="n", type=LONG)])


class Call:
    """One call of a writer, from the gateway's side."""

    def __init__(self, requests: Iterator[ingest_pb2.WriteRequest], context: Any) -> None:
        self._requests = requests
        self.context = context
        self.batches: List[List[int]] = []
        """What came so far: column `n` of each batch's rows."""
        self.kinds: List[str] = []

    def receive(self) -> ingest_pb2.WriteRequest:
        """The next message. Raises `StopIteration` where the writer has ended the call."""
        request = next(self._requests)
        kind = request.WhichOneof("message")
        assert kind is not None
        self.kinds.append(kind)
        if kind == "batch":
            assert request.batch.batch_seq == len(self.batches) + 1, "numbered from 1, one more each"
            self.batches.append([row.values[0].int_value for row in request.batch.rows.rows])
        return request

    def batch(self, count: int = 1) -> List[List[int]]:
        """The next batches; fails where something else comes."""
        first = len(self.batches)
        for _ in range(count):
            assert self.receive().WhichOneof("message") == "batch"
        return self.batches[first:]

    def end(self, code: grpc.StatusCode, message: str = "as the script says", details: bytes = b"") -> None:
        """Ends the call with a status."""
        if details:
            self.context.set_trailing_metadata((("grpc-status-details-bin", details),))
        self.context.abort(code, message)


class ScriptedGateway(ingest_pb2_grpc.IngestServiceServicer, table_pb2_grpc.TableServiceServicer):
    """Serves one script after another, a call each; a call too many fails the test that asks `check`."""

    def __init__(self, scripts: Sequence[Script]) -> None:
        self._scripts = list(scripts)
        self._lock = threading.Lock()
        self.calls: List[Call] = []
        self.failures: List[BaseException] = []
        self._server = grpc.server(ThreadPoolExecutor(8))
        ingest_pb2_grpc.add_IngestServiceServicer_to_server(self, self._server)
        table_pb2_grpc.add_TableServiceServicer_to_server(self, self._server)
        port = self._server.add_insecure_port("127.0.0.1:0")
        self.endpoint = f"http://127.0.0.1:{port}"
        self._server.start()

    def Write(self, request_iterator: Any, context: Any) -> Iterator[ingest_pb2.WriteResponse]:
        call = Call(request_iterator, context)
        with self._lock:
            script = self._scripts.pop(0) if self._scripts else None
            self.calls.append(call)
        if script is None:
            self.failures.append(AssertionError("a call too many"))
            context.abort(grpc.StatusCode.INVALID_ARGUMENT, "a call too many")
            return
        try:
            assert call.receive().WhichOneof("message") == "open"
            yield from script(call)
        except AssertionError as failure:
            self.failures.append(failure)
            context.abort(grpc.StatusCode.INVALID_ARGUMENT, str(failure))

    def GetTable(self, request: Any, context: Any) -> table_pb2.GetTableResponse:
        table = table_pb2.Table(name=request.name, schema=SCHEMA, key=table_pb2.Key(partition=["n"]))
        return table_pb2.GetTableResponse(table=table, schema_version=1)

    def check(self) -> None:
        """Fails where a script was not followed."""
        for failure in self.failures:
            raise failure
        assert not self._scripts, f"{len(self._scripts)} calls did not come"

    def stop(self) -> None:
        self._server.stop(0).wait()


def opened(batches: int = 64, size: int = 1 << 20) -> ingest_pb2.WriteResponse:
    window = ingest_pb2.Window(max_unacked_bytes=size, max_unacked_batches=batches)
    return ingest_pb2.WriteResponse(opened=ingest_pb2.Opened(session_id="s", schema=SCHEMA, window=window))


def window(batches: int, size: int = 1 << 20) -> ingest_pb2.WriteResponse:
    return ingest_pb2.WriteResponse(window=ingest_pb2.Window(max_unacked_bytes=size, max_unacked_batches=batches))


def ack(
    through: int, outcomes: Sequence[ingest_pb2.RowOutcome] = (), ranges: Sequence[Any] = ()
) -> ingest_pb2.WriteResponse:
    found = [ingest_pb2.BatchRange(first=first, last=last) for first, last in ranges]
    return ingest_pb2.WriteResponse(
        ack=ingest_pb2.Ack(committed_through=through, outcomes=outcomes, committed_ranges=found)
    )


def outcome(seq: int, row: int, status: Any = ingest_pb2.ROW_STATUS_REJECTED, after: float = 0.0) -> ingest_pb2.RowOutcome:
    told = ingest_pb2.RowOutcome(batch_seq=seq, row_index=row, status=status, reason=ingest_pb2.ROW_REASON_INEXACT)
    if status != ingest_pb2.ROW_STATUS_REJECTED:
        told.retry_after.FromMicroseconds(int(after * 1e6))
    return told


def drain(seconds: float, reason: Any = ingest_pb2.DRAIN_REASON_SHUTDOWN) -> ingest_pb2.WriteResponse:
    answer = ingest_pb2.WriteResponse(drain=ingest_pb2.Drain(reason=reason))
    answer.drain.deadline.FromMicroseconds(int(seconds * 1e6))
    return answer


def flushed(through: int, **receipt: Any) -> ingest_pb2.WriteResponse:
    return ingest_pb2.WriteResponse(
        flushed=ingest_pb2.Flushed(committed_through=through, receipt=ingest_pb2.Receipt(**receipt))
    )


def finished(**receipt: Any) -> ingest_pb2.WriteResponse:
    return ingest_pb2.WriteResponse(finished=ingest_pb2.Finished(receipt=ingest_pb2.Receipt(**receipt)))


def takes_all(call: Call) -> Iterator[ingest_pb2.WriteResponse]:
    """Acks every batch at once, flushes and finishes."""
    yield opened()
    while True:
        try:
            request = call.receive()
        except StopIteration:
            return
        kind = request.WhichOneof("message")
        if kind == "batch":
            yield ack(len(call.batches))
        elif kind == "flush":
            yield flushed(len(call.batches))
        else:
            finish = request.finish
            assert (finish.batches, finish.rows) == (len(call.batches), sum(map(len, call.batches)))
            yield finished()
            return
