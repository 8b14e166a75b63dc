"""The ways of writing a DataFrame that are compared, and three that drop it: what Spark takes to hand rows to Python.

Callers: `spark_throughput`. The data sources' classes run in Spark's Python workers.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Callable, Iterator, List, Optional, Sequence

from forebay.spark.source import ForebayDataSource
from pyspark.sql import Row
from pyspark.sql.datasource import DataSource, DataSourceArrowWriter, DataSourceWriter, WriterCommitMessage
from pyspark.sql.types import StructType

from . import boto
from .dicts import write_dicts

if TYPE_CHECKING:
    import pyarrow as pa  # type: ignore[import-untyped, unused-ignore]
    from pyspark.sql import DataFrame, SparkSession


@dataclass(frozen=True)
class Target:
    """Where rows go."""

    gateway_url: str
    dynamodb_url: str
    table: str


@dataclass(frozen=True)
class Way:
    """A way of writing."""

    name: str
    label: str
    write: Callable[[DataFrame, Target], None]
    writes: bool = True
    """Whether rows arrive anywhere."""


def register(spark: SparkSession) -> None:
    """Makes the sources known that are the bench's own; `forebay` is found by its package."""
    for source in (DropArrow, DropRows, ForebayByRows):
        spark.dataSource.register(source)


class _DropArrowWriter(DataSourceArrowWriter):
    def write(self, iterator: Iterator[pa.RecordBatch]) -> WriterCommitMessage:
        for _ in iterator:
            pass
        return WriterCommitMessage()


class _DropRowsWriter(DataSourceWriter):
    def write(self, iterator: Iterator[Row]) -> WriterCommitMessage:
        for _ in iterator:
            pass
        return WriterCommitMessage()


class DropArrow(DataSource):
    """Takes Arrow batches and drops them."""

    @classmethod
    def name(cls) -> str:
        return "drop_arrow"

    def writer(self, schema: StructType, overwrite: bool) -> DataSourceWriter:
        return _DropArrowWriter()


class DropRows(DataSource):
    """Takes rows and drops them."""

    @classmethod
    def name(cls) -> str:
        return "drop_rows"

    def writer(self, schema: StructType, overwrite: bool) -> DataSourceWriter:
        return _DropRowsWriter()


class _ForebayByRowsWriter(DataSourceWriter):
    """Forebay's own writer behind Spark's interface of rows: Spark makes rows of Arrow, Forebay Arrow of rows."""

    def __init__(self, writer: DataSourceWriter) -> None:
        self._writer = writer

    def write(self, iterator: Iterator[Row]) -> WriterCommitMessage:
        return self._writer.write(iterator)

    def commit(self, messages: List[Optional[WriterCommitMessage]]) -> None:
        self._writer.commit(messages)

    def abort(self, messages: List[Optional[WriterCommitMessage]]) -> None:
        self._writer.abort(messages)


class ForebayByRows(DataSource):
    """The data source as it is where Spark has no Arrow writers."""

    @classmethod
    def name(cls) -> str:
        return "forebay_by_rows"

    def writer(self, schema: StructType, overwrite: bool) -> DataSourceWriter:
        return _ForebayByRowsWriter(ForebayDataSource(self.options).writer(schema, overwrite))


def _source(name: str) -> Callable[[DataFrame, Target], None]:
    def write(frame: DataFrame, target: Target) -> None:
        frame.write.format(name).mode("append").save()

    return write


def _drop_pickled(frame: DataFrame, target: Target) -> None:
    def drop(rows: Iterator[Row]) -> None:
        for _ in rows:
            pass

    frame.foreachPartition(drop)


def _foreach_partition(
    writer: Callable[[str, str], Callable[[Iterator[Row]], None]],
) -> Callable[[DataFrame, Target], None]:
    def write(frame: DataFrame, target: Target) -> None:
        frame.foreachPartition(writer(target.dynamodb_url, target.table))

    return write


def _forebay(name: str) -> Callable[[DataFrame, Target], None]:
    def write(frame: DataFrame, target: Target) -> None:
        frame.write.format(name).mode("append").option("endpoint", target.gateway_url).save(target.table)

    return write


def _forebay_dicts(frame: DataFrame, target: Target) -> None:
    frame.foreachPartition(write_dicts(target.gateway_url, target.table))


BASELINE = "boto3"
PROMISED = "forebay"
TUNED = "boto3-tuned"

WAYS: Sequence[Way] = (
    Way(PROMISED, "`forebay`, Arrow", _forebay("forebay")),
    Way("forebay-rows", "`forebay`, rows", _forebay("forebay_by_rows")),
    Way("forebay-dicts", "`forebay` client, dicts in `foreachPartition`", _forebay_dicts),
    Way(BASELINE, "boto3 `batch_writer`", _foreach_partition(boto.batch_writer)),
    Way(
        "boto3-threads", f"boto3 `batch_writer`, {boto.THREADS} threads", _foreach_partition(boto.batch_writer_threads)
    ),
    Way(TUNED, f"boto3 client by hand, {boto.THREADS} threads", _foreach_partition(boto.tuned)),
    Way("drop-arrow", "Arrow to Python, dropped", _source("drop_arrow"), writes=False),
    Way("drop-rows", "Arrow to Python's rows, dropped", _source("drop_rows"), writes=False),
    Way("drop-pickled", "`foreachPartition`, dropped", _drop_pickled, writes=False),
)


def chosen(names: List[str]) -> List[Way]:
    """The ways of these names, in the order of `WAYS`; all without names."""
    return [way for way in WAYS if not names or way.name in names]
