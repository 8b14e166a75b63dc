"""What one Spark task does: a session for its rows, ended by Finish only if all of them came.

Invariants: an attempt that fails sends no Finish, however it fails: by an exception, by being killed, or by an input
that Spark closed in the middle, which looks like the end (`input_end`). Rows that DynamoDB did not take in time fail
the task, and Spark tries it again; rows that the table rejects are the option `rejects`'s matter. A task without rows
opens no session. Callers: `sink`, `helpers`.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any, Callable, Iterator, Optional, Tuple

import pyarrow as pa

from ..errors import ForebayError, RowsRejected
from ..results import Outcome, Receipt, RowStatus
from ..writer import Writer
from .atomic import MAX_GROUP_ROWS, Kind, Piece, pieces
from .fence import Fence, fence_of_task
from .input_end import InputEnd, input_end
from .options import WriteOptions
from .reject_file import RejectFile, file_name
from .rejects import Rejects
from .report import TaskReport, with_own_rejects
from .slots import slot

_TOO_LARGE = Outcome(
    batch=0,
    row=0,
    status=RowStatus.REJECTED,
    reason="ATOMIC_GROUP_TOO_LARGE",
    message=f"more than {MAX_GROUP_ROWS} rows have this value in the atomicBy column; a transaction takes no more",
    hint="write smaller groups, or these rows without atomicBy",
)


class InputBroken(ForebayError):
    """Spark ended the task's input before all of its rows had come: something else failed, or the task was killed."""


@dataclass(frozen=True)
class TaskContext:
    """What a task knows about itself."""

    partition: int
    local_property: Callable[[str], Optional[str]]

    @classmethod
    def of_spark(cls) -> TaskContext:
        """In a Spark worker."""
        from pyspark import TaskContext as SparkTaskContext

        context = SparkTaskContext.get()
        if context is None:
            raise RuntimeError("this is no Spark task")
        return cls(context.partitionId(), context.getLocalProperty)


@dataclass(frozen=True)
class Job:
    """What all tasks of one write have in common. Picklable."""

    options: WriteOptions
    schema_json: str
    """The DataFrame's schema, as Spark writes it."""
    name: str
    """Unique."""
    streaming: bool = False


def write_task(
    job: Job,
    batches: Iterator[pa.RecordBatch],
    context: TaskContext,
    *,
    open_writer: Callable[..., Any] = Writer,
    end_of_input: Callable[[], InputEnd] = input_end,
) -> TaskReport:
    """Writes a partition. Returns when every row has its outcome."""
    began, started = time.time(), time.monotonic()
    fence = fence_of_task(job.options, streaming=job.streaming, local_property=context.local_property)
    rejects = Rejects(context.partition, _reject_file(job, fence, context.partition))
    task = _Task(job, fence, rejects, open_writer, end_of_input)
    try:
        receipt, finished, file = task.run(batches)
    except BaseException:
        rejects.discard()
        raise
    return TaskReport(
        partition=context.partition,
        receipt=receipt,
        began=began,
        seconds=time.monotonic() - started,
        fence=fence,
        rejected=rejects.count,
        reasons=dict(rejects.reasons),
        first=tuple(rejects.first),
        stale_merges=rejects.stale_merges,
        finished=finished,
        file=file,
    )


def _reject_file(job: Job, fence: Fence, partition: int) -> Optional[RejectFile]:
    options = job.options
    if options.rejects.path is None:
        return None
    # With an epoch the name is the same when the epoch is run again.
    run = job.name if fence.epoch is None or fence.producer_id is None else fence.producer_id
    name = file_name(options.table, options.mode or "op", run, fence.epoch, partition)
    return RejectFile(options.rejects.path, name)


class _Task:
    def __init__(
        self,
        job: Job,
        fence: Fence,
        rejects: Rejects,
        open_writer: Callable[..., Any],
        end_of_input: Callable[[], InputEnd],
    ) -> None:
        self._job = job
        self._fence = fence
        self._rejects = rejects
        self._open_writer = open_writer
        self._end_of_input = end_of_input
        self._writer: Any = None
        self._sent = 0
        self._row = 0
        self._refused = 0

    def run(self, batches: Iterator[pa.RecordBatch]) -> Tuple[Receipt, bool, Optional[str]]:
        """The receipt, whether Finish was sent, and the file of rejected rows."""
        first = next(batches, None)
        # Spark may give a batch without rows.
        while first is not None and first.num_rows == 0:
            first = next(batches, None)
        if first is None:
            self._check_whole()
            return Receipt(), True, self._rejects.publish()
        options = self._job.options
        with slot(options.parallelism, options.connection.endpoint, options.table):
            self._writer = self._open(first.schema)
            try:
                return self._write(first, batches)
            finally:
                # Of no effect after Finish.
                self._writer.abort()

    def _open(self, schema: pa.Schema) -> Any:
        options = self._job.options
        return self._open_writer(
            options.connection.resolve(),
            options.table,
            mode=options.mode,
            op_column=options.op_column,
            arrow_schema=schema,
            spark_schema_json=self._job.schema_json,
            producer_id=self._fence.producer_id,
            epoch=self._fence.epoch,
            on_missing=options.on_missing,
            row_deadline=options.row_deadline,
            priority=options.priority,
            merge_schema=options.merge_schema,
            store_assignment=options.store_assignment,
            batch_bytes=options.batch_bytes,
            compression=options.compression,
            retry_for=options.retry_for,
            open_for=options.retry_for,
            on_outcome=self._rejects.add,
        )

    def _write(self, first: pa.RecordBatch, rest: Iterator[pa.RecordBatch]) -> Tuple[Receipt, bool, Optional[str]]:
        for piece in self._pieces(_chained(first, rest)):
            if piece.kind is Kind.TOO_LARGE:
                self._rejects.refuse(_TOO_LARGE, self._row, piece.rows)
                self._refused += piece.rows.num_rows
                self._row += piece.rows.num_rows
                # Where no group can be sent, nothing else writes them to the file.
                self._rejects.acked_through(0)
            else:
                self._send(piece.rows, atomic=piece.kind is Kind.ATOMIC)
        whole = self._check_whole()
        receipt = self._writer.flush()
        self._rejects.acked_through(self._sent)
        if self._rejects.unwritten:
            raise RowsRejected(self._rejects.first_unwritten, receipt)
        file = self._rejects.publish()
        if whole:
            receipt = self._writer.finish()
        return with_own_rejects(receipt, self._refused), whole, file

    def _pieces(self, batches: Iterator[pa.RecordBatch]) -> Iterator[Piece]:
        if self._job.options.atomic_by is not None:
            yield from pieces(batches, self._job.options.atomic_by)
            return
        for batch in batches:
            if batch.num_rows:
                yield Piece(Kind.PLAIN, batch)

    def _send(self, rows: pa.RecordBatch, *, atomic: bool) -> None:
        self._sent += 1
        # Before it is sent: its outcomes may come first.
        self._rejects.sending(self._sent, self._row, rows)
        self._row += rows.num_rows
        number = self._writer.send(rows, atomic=atomic)
        if number != self._sent:
            raise AssertionError(f"the writer called batch {self._sent} {number}")
        if self._job.options.rejects.path is not None:
            self._rejects.acked_through(self._writer.receipt.batches)

    def _check_whole(self) -> bool:
        """Whether it is known that all rows came. Raises `InputBroken` where it is known that they did not."""
        end = self._end_of_input()
        if end is InputEnd.BROKEN:
            raise InputBroken(
                "Spark ended this task's input before all of its rows had come, because something before it failed"
                " or the task was killed; that error is the cause. The session was not finished"
            )
        return end is InputEnd.WHOLE


def _chained(first: pa.RecordBatch, rest: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    yield first
    yield from rest
