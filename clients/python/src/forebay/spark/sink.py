"""Spark's writers: tasks send their rows (`task`), the driver adds up their reports and says one line (`report`).

With `rejects` = `fail` it is the driver's commit that fails the job, when every task has written its good rows: a
task that failed for rows that are rejected for good would only be run again and again. Caller: `source`.
"""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from typing import Any, Iterator, List, Optional, Sequence

from pyspark.sql import datasource as spark_datasource
from pyspark.sql.datasource import DataSourceArrowWriter, DataSourceStreamWriter, WriterCommitMessage
from pyspark.sql.types import StructType

from .options import WriteOptions
from .report import Summary, TaskReport, log_line
from .rows import as_batches
from .schema_check import check_schema
from .task import Job, TaskContext, write_task


@dataclass
class CommitMessage(WriterCommitMessage):
    """A task's report on its way to the driver."""

    report: TaskReport


class _Sink:
    """What batch and stream writers have in common. Spark pickles it to the tasks."""

    def __init__(self, options: WriteOptions, schema: StructType, *, streaming: bool) -> None:
        check_schema(schema, options)
        self._schema = schema
        self._job = Job(options, schema.json(), uuid.uuid4().hex, streaming)

    def _write(self, items: Iterator[Any]) -> CommitMessage:
        batches = as_batches(items, self._schema)
        return CommitMessage(write_task(self._job, batches, TaskContext.of_spark()))

    def _commit(self, messages: Sequence[Optional[WriterCommitMessage]], what: str) -> None:
        options = self._job.options
        summary = Summary(options.table, _reports(messages))
        log_line(summary.line(f"wrote{what}"), warning=summary.rejected > 0)
        if options.rejects.fail and summary.rejected:
            raise summary.failure()

    def _abort(self, messages: Sequence[Optional[WriterCommitMessage]], what: str) -> None:
        summary = Summary(self._job.options.table, _reports(messages))
        log_line(summary.line(f"failed{what}, after these were written by tasks that ended well"), warning=True)


def _reports(messages: Sequence[Optional[WriterCommitMessage]]) -> List[Optional[TaskReport]]:
    return [message.report if isinstance(message, CommitMessage) else None for message in messages]


class BatchWriter(_Sink, DataSourceArrowWriter):
    """`df.write`."""

    def __init__(self, options: WriteOptions, schema: StructType) -> None:
        super().__init__(options, schema, streaming=False)

    def write(self, iterator: Iterator[Any]) -> WriterCommitMessage:
        """One task. Returns when all of its rows have their outcomes."""
        return self._write(iterator)

    def commit(self, messages: List[Optional[WriterCommitMessage]]) -> None:
        """Says what was written. Raises where rejects fail the job."""
        self._commit(messages, "")

    def abort(self, messages: List[Optional[WriterCommitMessage]]) -> None:
        """Says what was written before the job failed; it stays."""
        self._abort(messages, "")


# Spark 4.0 has no Arrow writer for streams by name, but gives Arrow batches to whatever is a DataSourceArrowWriter.
_STREAM_BASES: Any = (
    (spark_datasource.DataSourceStreamArrowWriter,)
    if hasattr(spark_datasource, "DataSourceStreamArrowWriter")
    else (DataSourceStreamWriter, DataSourceArrowWriter)
)


class StreamWriter(_Sink, *_STREAM_BASES):  # type: ignore[misc]
    """`df.writeStream`."""

    def __init__(self, options: WriteOptions, schema: StructType) -> None:
        super().__init__(options, schema, streaming=True)

    def write(self, iterator: Iterator[Any]) -> WriterCommitMessage:
        """One task of a micro-batch."""
        return self._write(iterator)

    def commit(self, messages: List[Optional[WriterCommitMessage]], batchId: int) -> None:
        """Says what was written. Raises where rejects fail the query."""
        self._commit(messages, f" batch {batchId}")

    def abort(self, messages: List[Optional[WriterCommitMessage]], batchId: int) -> None:
        """Says what was written before the micro-batch failed; it stays, and the batch is written again."""
        self._abort(messages, f" batch {batchId}")
