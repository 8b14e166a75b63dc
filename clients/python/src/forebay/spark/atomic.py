"""Rows that belong together: adjacent rows with one value in the `atomicBy` column become one DynamoDB transaction.

Invariants: the rows' order stays; a group goes on over the ends of Arrow batches; a row that is alone needs no
transaction (it is atomic by itself, at half the price) and travels with its neighbours; a null belongs to nothing. A
group is never split silently: one that is larger than a transaction is handed back whole as too large, and a value
that comes again after others is an error, because its rows could only be written as two transactions. Pure. Caller:
`task`.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import Any, Iterable, Iterator, List, Set

import pyarrow as pa
import pyarrow.compute as pc

MAX_GROUP_ROWS = 100


class Kind(enum.Enum):
    """What is to be done with a piece."""

    PLAIN = "plain"
    """Rows that belong to nothing."""
    ATOMIC = "atomic"
    """A group: 2 to 100 rows."""
    TOO_LARGE = "too large"
    """Rows of a group that has more than 100."""


@dataclass(frozen=True)
class Piece:
    """Rows that follow each other in the partition."""

    kind: Kind
    rows: pa.RecordBatch


def pieces(batches: Iterable[pa.RecordBatch], column: str) -> Iterator[Piece]:
    """The pieces of a partition, in order. Raises `ValueError` for a value that comes again after others."""
    groups = _Groups()
    for batch in batches:
        if batch.num_rows:
            yield from groups.add(batch, batch.schema.get_field_index(column))
    yield from groups.end()


class _Groups:
    def __init__(self) -> None:
        # The last group, which may go on in the next batch.
        self._open: List[pa.RecordBatch] = []
        self._open_rows = 0
        self._open_value: Any = None
        self._open_is_too_large = False
        self._began: Set[Any] = set()

    def add(self, batch: pa.RecordBatch, index: int) -> Iterator[Piece]:
        values = batch.column(index)
        begins = _run_begins(values)
        plain_from = 0
        for position, begin in enumerate(begins):
            end = begins[position + 1] if position + 1 < len(begins) else batch.num_rows
            value = values[begin].as_py()
            if begin == 0 and value is not None and self._open_rows and value == self._open_value:
                yield from self._go_on(batch.slice(0, end))
                plain_from = end
                if end < batch.num_rows:
                    yield from self.end()
                continue
            if begin == 0:
                yield from self.end()
            self._refuse_again(value)
            goes_on = end == batch.num_rows and value is not None
            if not goes_on and (value is None or end - begin == 1):
                # Alone: goes with its neighbours, those in one stretch as one piece.
                continue
            if plain_from < begin:
                yield Piece(Kind.PLAIN, batch.slice(plain_from, begin - plain_from))
            plain_from = end
            self._open_value = value
            yield from self._go_on(batch.slice(begin, end - begin))
            if not goes_on:
                yield from self.end()
        if plain_from < batch.num_rows:
            yield Piece(Kind.PLAIN, batch.slice(plain_from, batch.num_rows - plain_from))

    def _go_on(self, rows: pa.RecordBatch) -> Iterator[Piece]:
        self._open.append(rows)
        self._open_rows += rows.num_rows
        if self._open_rows > MAX_GROUP_ROWS:
            self._open_is_too_large = True
            for part in self._open:
                yield Piece(Kind.TOO_LARGE, part)
            self._open = []

    def end(self) -> Iterator[Piece]:
        """The open group is whole."""
        parts, rows, too_large = self._open, self._open_rows, self._open_is_too_large
        self._open, self._open_rows, self._open_is_too_large, self._open_value = [], 0, False, None
        if rows and not too_large:
            merged = parts[0] if len(parts) == 1 else pa.Table.from_batches(parts).combine_chunks().to_batches()[0]
            yield Piece(Kind.ATOMIC if rows > 1 else Kind.PLAIN, merged)

    def _refuse_again(self, value: Any) -> None:
        if value is None:
            return
        known = len(self._began)
        # Of texts 64 bits are kept; numbers stay as they are, since -1 and -2 have one hash.
        self._began.add(hash(value) if isinstance(value, (str, bytes)) else value)
        if len(self._began) == known:
            raise ValueError(
                "atomicBy: a value of this column comes again after other values, so its rows cannot be one"
                " transaction; expected equal values next to each other:"
                " df.repartition(column).sortWithinPartitions(column)"
            )


def _run_begins(values: Any) -> List[int]:
    """Where runs of equal values begin. Each null is a run of its own."""
    if len(values) == 1:
        return [0]
    # By name, because pyarrow makes its functions when it is imported, where no type checker sees them.
    differs = pc.call_function("not_equal", [values.slice(1), values.slice(0, len(values) - 1)])
    begins = pc.call_function("indices_nonzero", [pc.fill_null(differs, True)])
    return [0, *(index + 1 for index in begins.to_pylist())]
