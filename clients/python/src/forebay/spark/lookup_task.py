"""What a Spark task does for `forebay.spark.lookup`: Arrow batches of keys in, the same batches with features out.

A few calls at a time, 1,000 keys a call, in the order of the keys. A key whose row is not known to be there or not
(throttled, say) fails the task, or is marked in the status column: it never looks missing. The caller is `by_key`, on
the executors.
"""

from __future__ import annotations

from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Deque, Iterator, List, Optional, Sequence, Tuple

import pyarrow as pa

from ..errors import ForebayError, RowUnavailable
from ..results import ReadStatus
from ..v1 import read_pb2, types_pb2
from .columns import RowsToArrow
from .fetch import MAX_KEYS_A_CALL, Calls, rows_by_key
from .row_keys import row_keys

_NOT_THERE = (ReadStatus.NOT_FOUND, ReadStatus.EXPIRED)
_STATUSES = {
    number: ReadStatus(name[len("READ_STATUS_") :])
    for name, number in read_pb2.ReadStatus.items()
    if number != read_pb2.ReadStatus.READ_STATUS_UNSPECIFIED
}


class KeyNotFound(ForebayError):
    """A key has no row, and `missing="fail"` said that each must have one."""


@dataclass(frozen=True)
class Lookup:
    """What a task does with its keys. Picklable: it travels to the executors."""

    table: str
    key: Tuple[str, ...]
    """The DataFrame's columns that hold the key, in the order of the table's key."""
    declared: bytes
    """The columns to add, a serialized `v1.Schema`: the DataFrame's types are those of when it was made."""
    asked: Tuple[str, ...]
    """The names of the columns to ask for: those to add, or the key's where only the status is of interest."""
    status_column: Optional[str]
    missing: str
    consistent: bool
    calls_in_flight: int
    retry_for: float

    def batches(self, calls: Calls, keys: "Iterator[pa.RecordBatch]") -> "Iterator[pa.RecordBatch]":
        """The batches with their features; slices of at most `MAX_KEYS_A_CALL` rows, in order."""
        to_arrow = RowsToArrow(types_pb2.Schema.FromString(self.declared))
        waiting: "Deque[Future[pa.RecordBatch]]" = deque()
        with ThreadPoolExecutor(self.calls_in_flight, thread_name_prefix="forebay-lookup") as pool:
            try:
                for batch in keys:
                    for begin in range(0, batch.num_rows, MAX_KEYS_A_CALL):
                        if len(waiting) == self.calls_in_flight:
                            yield waiting.popleft().result()
                        piece = batch.slice(begin, MAX_KEYS_A_CALL)
                        waiting.append(pool.submit(self._piece, calls, to_arrow, piece))
                while waiting:
                    yield waiting.popleft().result()
            finally:
                # The task has failed, or Spark needs no more rows: nobody waits for these.
                for future in waiting:
                    future.cancel()

    def _piece(self, calls: Calls, to_arrow: RowsToArrow, batch: "pa.RecordBatch") -> "pa.RecordBatch":
        keys = row_keys([batch.column(batch.schema.get_field_index(name)) for name in self.key], self.key)
        asked = [(at, key) for at, key in enumerate(keys) if key is not None]
        statuses = [ReadStatus.NOT_FOUND] * len(keys)
        rows: List[Optional[types_pb2.Row]] = [None] * len(keys)
        if asked:
            wanted = read_pb2.TableKeys(table=self.table, keys=[key for _, key in asked], columns=self.asked)
            strong, eventual = read_pb2.Consistency.CONSISTENCY_STRONG, read_pb2.Consistency.CONSISTENCY_EVENTUAL
            consistency = strong if self.consistent else eventual
            answer = rows_by_key(calls, wanted, consistency=consistency, retry_for=self.retry_for)
            self._check_types(to_arrow, answer.columns)
            for (at, _), result in zip(asked, answer.rows):
                statuses[at] = self._status(result)
                if statuses[at] is ReadStatus.FOUND:
                    rows[at] = result.row
        return self._joined(batch, to_arrow, statuses, rows)

    def _check_types(self, to_arrow: RowsToArrow, answered: types_pb2.Schema) -> None:
        if not to_arrow.fields or answered.SerializeToString() == self.declared:
            return
        for ours, theirs in zip(to_arrow.fields, RowsToArrow(answered).fields):
            if ours != theirs:
                raise ValueError(
                    f"the type of the column `{ours.name}` of the table `{self.table}` has changed since this query "
                    "was made; make the DataFrame again"
                )

    def _status(self, result: read_pb2.RowResult) -> ReadStatus:
        status = _STATUSES.get(result.status)
        if status is None:
            raise ValueError(f"the gateway sent a read status that this version does not know: {result.status}")
        if status in _NOT_THERE:
            if self.missing == "fail":
                raise KeyNotFound(
                    f"a key has no row in the table `{self.table}` ({status.value}), and `missing` is 'fail'; "
                    "'null' keeps such keys, 'drop' leaves them out"
                )
        elif status is not ReadStatus.FOUND and self.status_column is None:
            raise RowUnavailable(status.value, f"a row of the table `{self.table}` could not be read: {result.message}")
        return status

    def _joined(
        self,
        batch: "pa.RecordBatch",
        to_arrow: RowsToArrow,
        statuses: Sequence[ReadStatus],
        rows: "List[Optional[types_pb2.Row]]",
    ) -> "pa.RecordBatch":
        if self.missing == "drop" and any(status in _NOT_THERE for status in statuses):
            kept = [at for at, status in enumerate(statuses) if status not in _NOT_THERE]
            batch = batch.take(pa.array(kept, pa.int64()))
            statuses, rows = [statuses[at] for at in kept], [rows[at] for at in kept]
        arrays = batch.columns
        fields = list(batch.schema)
        if to_arrow.fields:
            arrays = arrays + to_arrow.arrays(rows)
            fields = fields + to_arrow.fields
        if self.status_column is not None:
            arrays = arrays + [pa.array([status.value for status in statuses], pa.string())]
            fields = fields + [pa.field(self.status_column, pa.string(), nullable=False)]
        return pa.RecordBatch.from_arrays(arrays, schema=pa.schema(fields))
