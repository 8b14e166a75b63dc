"""One gateway's calls for the readers of Spark: single attempts, whose errors are this package's. `fetch` makes them
again.

Callers: the tasks of `reader` and `by_key`.
"""

from __future__ import annotations

from typing import Any, Iterator

import grpc

from .._channel import open_channel
from .._status import call_error
from ..options import ConnectOptions
from ..v1 import read_pb2, read_pb2_grpc

# The generated stub has no types.
_READS: Any = read_pb2_grpc.ReadServiceStub


class Gateway:
    """A connection; a context manager, closed at its end. Threads may share it."""

    def __init__(self, options: ConnectOptions) -> None:
        self._timeout = options.timeout
        self._channel = open_channel(options)
        self._reads = _READS(self._channel)

    def batch_get_rows(self, request: read_pb2.BatchGetRowsRequest) -> read_pb2.BatchGetRowsResponse:
        """Rows by key."""
        try:
            answer: read_pb2.BatchGetRowsResponse = self._reads.BatchGetRows(request, timeout=self._timeout)
        except grpc.RpcError as error:
            raise call_error(error) from None
        return answer

    def read_range(self, request: read_pb2.ReadRangeRequest) -> Iterator[read_pb2.ReadRangeResponse]:
        """The rows of a range. Without a deadline: each of its pages has one at the gateway."""
        stream: Any = None
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
