"""Writing where the data source is not: inside `foreachBatch`, and on Spark 3.3 to 3.5, by `mapInArrow`.

The same tasks, reports and options as the data source. Executors need this package, too. Callers: users, by
`forebay.spark`.
"""

from __future__ import annotations

import pickle
import uuid
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Callable, Iterator, List, Optional

from .fence import QUERY_ID
from .options import WriteOptions
from .report import Summary, TaskReport, log_line
from .schema_check import check_schema
from .task import Job, TaskContext, write_task

if TYPE_CHECKING:
    import pyarrow as pa
    from pyspark.sql import DataFrame

    from ..results import Receipt

_REPORT = "report"


def write_dataframe(df: DataFrame, **options: Any) -> Receipt:
    """Writes a DataFrame and returns the receipt: rows by what became of them, write units.

    `options` are the data source's, in its spelling or Python's: `table="features", mode="merge", op_column=...`.
    With `parallelism` the DataFrame is coalesced, so that there are at most so many sessions in all. Raises
    `ValueError` for wrong options before a task starts, `RowsRejected` where rows are rejected and `rejects` is
    `fail` (the others are written), and Spark's own error where a task fails for good.
    """
    return _write(df, WriteOptions.parse(options))


def foreach_batch(**options: Any) -> Callable[[DataFrame, int], None]:
    """A function for `DataStreamWriter.foreachBatch`: writes each micro-batch as `write_dataframe` does.

    The epoch is the batch's id; the producer's name is the option `producer_id`, else the query's id. A batch that is
    run again after a restart has the same epoch. `options` are checked at once, but for what depends on the
    DataFrame.
    """
    parsed = WriteOptions.parse(options)
    if parsed.epoch is not None:
        raise ValueError("epoch: a stream's epoch is its batch id; leave the option out")
    return _ForeachBatch(parsed)


@dataclass(frozen=True)
class _ForeachBatch:
    """Picklable: Spark Connect carries it to the server."""

    options: WriteOptions

    def __call__(self, df: DataFrame, batch_id: int) -> None:
        producer_id = self.options.producer_id or _query_id(df)
        if producer_id is None:
            raise ValueError(
                "producerId: this Spark does not say the query's id; expected a name that stays over restarts"
            )
        _write(df, replace(self.options, producer_id=producer_id, epoch=int(batch_id)), f" batch {batch_id}")


def _query_id(df: DataFrame) -> Optional[str]:
    # Spark Connect has no contexts.
    session = getattr(df, "sparkSession", None)
    context = getattr(session, "_sc", None)
    return None if context is None else context.getLocalProperty(QUERY_ID)


def _write(df: DataFrame, options: WriteOptions, what: str = "") -> Receipt:
    check_schema(df.schema, options)
    job = Job(options, df.schema.json(), uuid.uuid4().hex)
    if options.parallelism is not None:
        df = df.coalesce(options.parallelism)
        job = replace(job, options=replace(options, parallelism=None))
    rows = df.mapInArrow(_Tasks(job), f"{_REPORT} binary").collect()
    reports: List[TaskReport] = [pickle.loads(row[_REPORT]) for row in rows]
    summary = Summary(options.table, reports)
    log_line(summary.line(f"wrote{what}"), warning=summary.rejected > 0)
    if options.rejects.fail and summary.rejected:
        raise summary.failure()
    return summary.receipt


@dataclass(frozen=True)
class _Tasks:
    """What `mapInArrow` calls for each partition."""

    job: Job

    def __call__(self, batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        import pyarrow as pa

        report = write_task(self.job, iter(batches), TaskContext.of_spark())
        yield pa.RecordBatch.from_arrays([pa.array([pickle.dumps(report)], pa.binary())], names=[_REPORT])
