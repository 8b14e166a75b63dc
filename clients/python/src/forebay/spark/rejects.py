"""Rejected rows of one task: counted, the first ones told, and where a path is given kept with their reasons.

A file is written under a hidden name and gets its own when the task has flushed, so that a failed attempt leaves
nothing to be read and one that is made again replaces what the one before left. The name is made of the job, the
epoch and the partition. Row contents are in these files, which are the user's; they are nowhere else.

`add` is called by the writer's thread, everything else by the task's. Caller: `task`.
"""

from __future__ import annotations

import threading
from typing import Dict, List, Optional, Tuple

import pyarrow as pa

from ..results import Outcome, RowStatus
from .reject_file import RejectFile
from .report import FIRST_OUTCOMES, Rejected

ROWS_PER_WRITE = 1000


class Rejects:
    """See the module. `file` is None where rows are not kept."""

    def __init__(self, partition: int, file: Optional[RejectFile]) -> None:
        self._partition = partition
        self._file = file
        self._lock = threading.Lock()
        # First row in the partition of each batch; batches count from 1.
        self._starts: List[int] = []
        # Batches that may still get outcomes, where rows are kept.
        self._held: Dict[int, pa.RecordBatch] = {}
        self._released = 0
        self._waiting: List[Tuple[Rejected, pa.RecordBatch]] = []
        self.count = 0
        self.unwritten = 0
        self.stale_merges = 0
        self.reasons: Dict[str, int] = {}
        self.first: List[Rejected] = []
        self.first_unwritten: List[Outcome] = []

    def sending(self, batch: int, first_row: int, rows: pa.RecordBatch) -> None:
        """A batch is about to be sent."""
        with self._lock:
            if batch != len(self._starts) + 1:
                raise AssertionError("batches are numbered one after the other")
            self._starts.append(first_row)
            if self._file is not None:
                self._held[batch] = rows

    def acked_through(self, batches: int) -> None:
        """The first `batches` batches have all their outcomes. Writes what has come together."""
        with self._lock:
            for batch in range(self._released + 1, batches + 1):
                self._held.pop(batch, None)
            self._released = max(self._released, batches)
            waiting = self._waiting if len(self._waiting) >= ROWS_PER_WRITE else []
            if waiting:
                self._waiting = []
        self._write(waiting)

    def add(self, outcome: Outcome) -> None:
        """A row that is not plainly committed."""
        with self._lock:
            if outcome.status is RowStatus.SUPERSEDED:
                self.stale_merges += 1
                return
            if outcome.status is not RowStatus.REJECTED:
                self.unwritten += 1
                if len(self.first_unwritten) < FIRST_OUTCOMES:
                    self.first_unwritten.append(outcome)
                return
            row = self._starts[outcome.batch - 1] + outcome.row
            held = self._held.get(outcome.batch)
            self._count(Rejected(self._partition, row, outcome), None if held is None else held.slice(outcome.row, 1))

    def refuse(self, outcome: Outcome, first_row: int, rows: pa.RecordBatch) -> None:
        """Rows that cannot be sent at all."""
        with self._lock:
            for index in range(rows.num_rows):
                kept = rows.slice(index, 1) if self._file is not None else None
                self._count(Rejected(self._partition, first_row + index, outcome), kept)

    def _count(self, rejected: Rejected, row: Optional[pa.RecordBatch]) -> None:
        self.count += 1
        reason = rejected.outcome.reason
        self.reasons[reason] = self.reasons.get(reason, 0) + 1
        if len(self.first) < FIRST_OUTCOMES:
            self.first.append(rejected)
        if row is not None:
            # Taken, not sliced: a slice would keep its whole batch in memory.
            self._waiting.append((rejected, row.take(pa.array([0]))))

    def publish(self) -> Optional[str]:
        """Every row has its outcome: the file gets its name. Returns it, None where no row was rejected."""
        if self._file is None:
            return None
        with self._lock:
            waiting, self._waiting = self._waiting, []
        self._write(waiting)
        return self._file.publish()

    def discard(self) -> None:
        """The attempt has failed."""
        if self._file is not None:
            self._file.discard()

    def _write(self, waiting: List[Tuple[Rejected, pa.RecordBatch]]) -> None:
        if waiting and self._file is not None:
            self._file.write([rejected for rejected, _ in waiting], [row for _, row in waiting])
