"""Reads as pure state machines: which requests to send next, and what their answers mean.

No I/O and no clock: `client` and `aio` send what these give them, so that both do the same. A key whose value is not known is never
reported as missing: what was not answered is UNAVAILABLE.
"""

from __future__ import annotations

import threading
from typing import Any, Dict, List, Mapping, Optional, Sequence, Tuple

from ._schema import KeyEncoder, RowDecoder
from .errors import CallError
from .results import ReadStatus, RowResult
from .v1 import read_pb2
from .v1 import types_pb2 as pb

MAX_KEYS = 1000
# Calls of one `get_many` that are under way together (chosen: a few, so that one caller does not take a gateway for himself).
MAX_CALLS = 4
_MAX_DECODERS = 256

_STATUSES: Dict[int, ReadStatus] = {
    read_pb2.READ_STATUS_FOUND: ReadStatus.FOUND,
    read_pb2.READ_STATUS_NOT_FOUND: ReadStatus.NOT_FOUND,
    read_pb2.READ_STATUS_EXPIRED: ReadStatus.EXPIRED,
    read_pb2.READ_STATUS_UNAVAILABLE: ReadStatus.UNAVAILABLE,
    read_pb2.READ_STATUS_DENIED: ReadStatus.DENIED,
    read_pb2.READ_STATUS_UNDECODABLE: ReadStatus.UNDECODABLE,
}


class Decoders:
    """Row decoders by schema, because every answer brings its columns. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._by_schema: Dict[bytes, RowDecoder] = {}

    def of(self, schema: pb.Schema) -> RowDecoder:
        """The decoder for rows of this schema."""
        key = schema.SerializeToString(deterministic=True)
        found = self._by_schema.get(key)
        if found is None:
            found = RowDecoder(schema)
            with self._lock:
                if len(self._by_schema) >= _MAX_DECODERS:
                    self._by_schema.clear()
                self._by_schema[key] = found
        return found


def consistency(consistent: bool) -> Any:
    """The request's word for it."""
    return read_pb2.CONSISTENCY_STRONG if consistent else read_pb2.CONSISTENCY_EVENTUAL


def column_names(columns: Optional[Sequence[str]]) -> List[str]:
    """The columns of a request; none for all. Raises `TypeError` for a lone text, which is a sequence of letters."""
    if columns is None:
        return []
    if isinstance(columns, str) or not all(isinstance(name, str) for name in columns):
        raise TypeError("columns: expected a list of names")
    return list(columns)


def row_result(status: int, row: pb.Row, message: str, decoder: RowDecoder) -> RowResult:
    """What became of one key."""
    found = _STATUSES.get(status)
    if found is None:
        raise broken_protocol("a key was answered without a status")
    if found is not ReadStatus.FOUND:
        return RowResult(found, None, message)
    if len(row.values) > len(decoder.names):
        raise broken_protocol("a row has more values than columns")
    try:
        return RowResult(found, decoder.decode(row))
    except ValueError as error:
        # Such as the year 10000: the row is there, and Python cannot have it.
        return RowResult(ReadStatus.UNDECODABLE, None, str(error))


def broken_protocol(what: str) -> CallError:
    """The gateway said what the protocol does not allow."""
    return CallError("INTERNAL", f"the gateway broke the protocol: {what}", reason="PROTOCOL")


_Place = Tuple[int, int]


class ManyRead:
    """The keys of one or several tables, asked for in as many calls as it takes."""

    def __init__(
        self, requests: Sequence[Tuple[str, Sequence[Any], Optional[Sequence[str]]]], *, consistent: bool, decoders: Decoders
    ) -> None:
        self._tables = [table for table, _, _ in requests]
        self._keys = [list(keys) for _, keys, _ in requests]
        self._columns = [column_names(columns) for _, _, columns in requests]
        self._consistency = consistency(consistent)
        self._decoders = decoders
        self._encoded: List[List[read_pb2.RowKey]] = []
        self._results: List[List[Optional[RowResult]]] = [[None] * len(keys) for keys in self._keys]
        self._pending: List[_Place] = []
        self.answered = False
        """Whether any call was answered."""

    @property
    def tables(self) -> List[str]:
        """The tables whose keys are asked for, each once."""
        return list(dict.fromkeys(table for table, keys in zip(self._tables, self._keys) if keys))

    def encode(self, encoders: Mapping[str, KeyEncoder], denied: Mapping[str, str]) -> None:
        """Encodes the keys. `denied`: why, for tables that the caller may not see. Raises `ValueError` or `TypeError`."""
        several = len(self._tables) > 1
        for at, (table, keys) in enumerate(zip(self._tables, self._keys)):
            encoded: List[read_pb2.RowKey] = []
            if table in denied:
                self._results[at] = [RowResult(ReadStatus.DENIED, None, denied[table]) for _ in keys]
                self.answered = True
            else:
                for index, key in enumerate(keys):
                    row_key = read_pb2.RowKey()
                    where = f"requests[{at}].keys[{index}]" if several else f"keys[{index}]"
                    encoders[table].row_key(key, row_key, where)
                    encoded.append(row_key)
                self._pending.extend((at, index) for index in range(len(keys)))
            self._encoded.append(encoded)

    def next_chunks(self) -> List[List[_Place]]:
        """The keys of the next calls, which may be under way together; empty when all have been asked for."""
        taken, self._pending = self._pending[: MAX_KEYS * MAX_CALLS], self._pending[MAX_KEYS * MAX_CALLS :]
        return [taken[at : at + MAX_KEYS] for at in range(0, len(taken), MAX_KEYS)]

    def request(self, chunk: Sequence[_Place]) -> read_pb2.BatchGetRowsRequest:
        """The call for a chunk."""
        message = read_pb2.BatchGetRowsRequest(consistency=self._consistency)
        last: Optional[int] = None
        for at, index in chunk:
            if at != last:
                message.requests.add(table=self._tables[at], columns=self._columns[at])
                last = at
            message.requests[-1].keys.append(self._encoded[at][index])
        return message

    def take(self, chunk: Sequence[_Place], answer: read_pb2.BatchGetRowsResponse) -> None:
        """The answer to a chunk."""
        rows = [(result, row) for result in answer.results for row in result.rows]
        if len(rows) != len(chunk):
            raise broken_protocol("the answer has not one row for each key")
        self.answered = True
        decoder: Optional[RowDecoder] = None
        of: Any = None
        late: List[_Place] = []
        for (at, index), (result, row) in zip(chunk, rows):
            if decoder is None or of is not result:
                decoder, of = self._decoders.of(result.columns), result
            found = row_result(row.status, row.row, row.message, decoder)
            self._results[at][index] = found
            if found.status is ReadStatus.UNAVAILABLE:
                late.append((at, index))
        # One answer holds so many bytes, and keys beyond are reported: they are asked for again as long as that helps. What is
        # throttled has had its time by then: the gateway itself waits for it until the call's deadline.
        if len(late) < len(chunk):
            self._pending.extend(late)

    def give_up(self, why: str) -> None:
        """What has no answer is UNAVAILABLE."""
        self._pending = []
        for results in self._results:
            for index, result in enumerate(results):
                if result is None:
                    results[index] = RowResult(ReadStatus.UNAVAILABLE, None, why)

    def results(self) -> List[List[RowResult]]:
        """One for each key, in the order asked."""
        return [[result for result in results if result is not None] for results in self._results]


class RangeRead:
    """The rows under one partition key; after a broken call the rest is asked for, from the last row on."""

    def __init__(
        self,
        encoder: KeyEncoder,
        partition: Any,
        *,
        sort_from: Any,
        sort_to: Any,
        limit: Optional[int],
        descending: bool,
        columns: Optional[Sequence[str]],
        consistent: bool,
        decoders: Decoders,
    ) -> None:
        if limit is not None and (isinstance(limit, bool) or not isinstance(limit, int) or limit < 1):
            raise ValueError("limit: expected a number of rows above 0, or None")
        chosen = column_names(columns)
        sort_names = [name for name, _ in encoder.sort]
        # The last row's sort key says where to go on.
        self._added = [name for name in sort_names if name not in chosen] if chosen else []
        self._sort_names = sort_names
        self._request = read_pb2.ReadRangeRequest(
            table=encoder.table,
            limit=limit or 0,
            order=read_pb2.SORT_ORDER_DESCENDING if descending else read_pb2.SORT_ORDER_ASCENDING,
            columns=chosen + self._added,
            consistency=consistency(consistent),
        )
        encoder.partition_key(partition, self._request.partition)
        if sort_from is not None:
            encoder.sort_key(sort_from, self._request.sort_from, "sort_from")
        if sort_to is not None:
            encoder.sort_key(sort_to, self._request.sort_to, "sort_to")
        self._left = limit
        self._descending = descending
        self._decoders = decoders
        self._decoder: Optional[RowDecoder] = None
        self._last: Optional[read_pb2.RowKey] = None
        self._skip: Optional[read_pb2.RowKey] = None
        self._began = False

    def request(self) -> read_pb2.ReadRangeRequest:
        """The call to make, first or next."""
        self._began = False
        if self._last is None:
            return self._request
        rest = read_pb2.ReadRangeRequest()
        rest.CopyFrom(self._request)
        if self._descending:
            rest.sort_to.CopyFrom(self._last)
            rest.limit = self._left or 0
        else:
            # It is included in the range, and so comes again, if it is still there.
            rest.sort_from.CopyFrom(self._last)
            self._skip = self._last
            rest.limit = 0 if self._left is None else self._left + 1
        return rest

    @property
    def done(self) -> bool:
        """Whether the limit is reached."""
        return self._left == 0

    def take(self, message: read_pb2.ReadRangeResponse) -> List[Dict[str, Any]]:
        """The rows of one message. Raises `ValueError` where Python cannot have a value."""
        if not self._began:
            if not message.HasField("columns"):
                raise broken_protocol("a range began without its columns")
            self._decoder = self._decoders.of(message.columns)
            self._began = True
        decoder = self._decoder
        if decoder is None:
            raise broken_protocol("a range began without its columns")
        places = [decoder.names.index(name) for name in self._sort_names if name in decoder.names]
        rows: List[Dict[str, Any]] = []
        for row in message.rows:
            key = read_pb2.RowKey(values=[row.values[at] for at in places])
            skip, self._skip = self._skip, None
            if key == skip or self.done:
                continue
            decoded = decoder.decode(row)
            for name in self._added:
                del decoded[name]
            rows.append(decoded)
            self._last = key
            if self._left is not None:
                self._left -= 1
        return rows
