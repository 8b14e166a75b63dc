"""One gateway's calls for the readers of Spark: single attempts, whose errors are this package's. `fetch` makes them
again.

Callers: `reader`, `by_key` (the driver: GetTable) and their tasks.
"""

from __future__ import annotations

from typing import Any, Iterator, Optional

import grpc

from .._channel import open_channel
from .._status import call_error
from ..options import ConnectOptions
from ..v1 import read_pb2, read_pb2_grpc, table_pb2, table_pb2_grpc

# The generated stubs have no types.
_READS: Any = read_pb2_grpc.ReadServiceStub
_TABLES: Any = table_pb2_grpc.TableServiceStub


class Gateway:
    """A connection; a context manager, closed at its end. Threads may share it."""

    def __init__(self, options: ConnectOptions) -> None:
        self._timeout = options.timeout
        self._channel = open_channel(options)
        self._reads = _READS(self._channel)
        self._tables = _TABLES(self._channel)

    def get_table(self, table: str) -> table_pb2.Table:
        """A table's definition."""
        try:
            answer = self._tables.GetTable(table_pb2.GetTableRequest(name=table), timeout=self._timeout)
        except grpc.RpcError as error:
            raise call_error(error) from None
        found: table_pb2.Table = answer.table
        return found

    def batch_get_rows(self, request: read_pb2.BatchGetRowsRequest) -> read_pb2.BatchGetRowsResponse:
        """Rows by key."""
        try:
            answer: read_pb2.BatchGetRowsResponse = self._reads.BatchGetRows(request, timeout=self._timeout)
        except grpc.RpcError as error:
            raise call_error(error) from None
        return answer

    def read_range(self, request: read_pb2.ReadRangeRequest) -> Iterator[read_pb2.ReadRangeResponse]:
        """The rows of a range. Without a deadline: each of its pages has one at the gateway."""
        stream: Optional[Any] = None
        try:
            stream = self._reads.ReadRange(request)
            yield from stream
        except grpc.RpcError as error:
            raise call_error(error) from None
        finally:
            # A reader that needs no more rows leaves in the middle.
            if stream is not None:
                stream.cancel()

    def close(self) -> None:
        """Ends the connection and what is under way on it."""
        self._channel.close()

    def __enter__(self) -> Gateway:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()
