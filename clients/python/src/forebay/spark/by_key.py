"""`forebay.spark.lookup`: a DataFrame of keys into a DataFrame of features.

The driver asks for the table's schema once; `lookup_task` does the rest on the executors. Works on every Spark with
`mapInArrow`, on Spark Connect, too. Callers: users, by `forebay.spark`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Iterator, List, Mapping, Optional, Sequence, Tuple

import pyarrow as pa
from pyspark.sql import DataFrame
from pyspark.sql import functions as F
from pyspark.sql import types as spark

from ..options import ConnectOptions
from ..v1 import table_pb2, types_pb2
from .fetch import answered
from .gateway import Gateway
from .lookup_task import Lookup
from .schema import readable, struct_type

_MISSING = ("null", "drop", "fail")


def lookup_with(
    keys: DataFrame,
    table: str,
    connect: ConnectOptions,
    *,
    columns: Optional[Sequence[str]] = None,
    key_columns: Optional[Mapping[str, str]] = None,
    missing: str = "null",
    status_column: Optional[str] = None,
    consistent: bool = False,
    calls_in_flight: int = 4,
    retry_for: float = 60.0,
) -> DataFrame:
    """`lookup` with options that are parsed."""
    if missing not in _MISSING:
        raise ValueError(f"missing: `{missing}` is none; expected {', '.join(_MISSING)}")
    if calls_in_flight < 1:
        raise ValueError("calls_in_flight: expected at least 1")
    with Gateway(connect) as gateway:
        definition = answered(lambda: gateway.get_table(table), retry_for=connect.retry_for)
    key = _key_in_frame(keys, definition, key_columns or {})
    features = _features(keys, definition, key, columns)
    declared = types_pb2.Schema(fields=features)
    task = Lookup(
        table=table,
        key=tuple(key.values()),
        declared=declared.SerializeToString(),
        asked=tuple(field.name for field in features) or tuple(key),
        status_column=status_column,
        missing=missing,
        consistent=consistent,
        calls_in_flight=calls_in_flight,
        retry_for=retry_for,
    )
    wanted: spark.StructType = readable(struct_type(declared))
    arriving: spark.StructType = readable(struct_type(declared), months=spark.IntegerType())
    _refuse_collisions(keys, [*wanted.names, *([] if status_column is None else [status_column])])
    fields = [*keys.schema.fields, *arriving.fields]
    if status_column is not None:
        fields.append(spark.StructField(status_column, spark.StringType(), False))
    found = keys.mapInArrow(_Task(task, connect), spark.StructType(fields))
    return _with_intervals(found, wanted, arriving)


@dataclass(frozen=True)
class _Task:
    """The function that Spark calls for each partition of the keys."""

    lookup: Lookup
    connect: ConnectOptions

    def __call__(self, batches: "Iterator[pa.RecordBatch]") -> "Iterator[pa.RecordBatch]":
        with Gateway(self.connect) as gateway:
            yield from self.lookup.batches(gateway, batches)


def _same_name(keys: DataFrame) -> Any:
    """How this session compares the names of columns."""
    sensitive = keys.sparkSession.conf.get("spark.sql.caseSensitive", "false") == "true"
    return (lambda name: name) if sensitive else str.lower


def _key_in_frame(keys: DataFrame, table: table_pb2.Table, given: Mapping[str, str]) -> "dict[str, str]":
    """For each column of the table's key, the DataFrame's column with its values."""
    same = _same_name(keys)
    frame = {same(name): name for name in keys.columns}
    key = [*table.key.partition, *table.key.sort]
    unknown = [name for name in given if name not in key]
    if unknown:
        raise ValueError(
            f"key_columns: `{unknown[0]}` is no key column of the table `{table.name}`; expected {', '.join(key)}"
        )
    found = {}
    for column in key:
        name = given.get(column, column)
        if same(name) not in frame:
            raise ValueError(
                f"the DataFrame has no column `{name}` for the key of the table `{table.name}` ({', '.join(key)}); "
                f'rename one of its columns, or say which it is: key_columns={{"{column}": ...}}'
            )
        found[column] = frame[same(name)]
    return found


def _features(
    keys: DataFrame, table: table_pb2.Table, key: Mapping[str, str], columns: Optional[Sequence[str]]
) -> List[types_pb2.Field]:
    by_name = {field.name: field for field in table.schema.fields}
    if isinstance(columns, str):
        raise TypeError("columns: expected a sequence of names, found a str")
    for column in columns or ():
        if column not in by_name:
            raise ValueError(
                f"columns: the table `{table.name}` has no column `{column}`; expected some of {', '.join(by_name)}"
            )
    same = _same_name(keys)
    wanted = list(by_name) if columns is None else list(dict.fromkeys(columns))
    # The key is in the DataFrame already; under another name it is there only when it is asked for.
    there = {column for column, name in key.items() if columns is None or same(name) == same(column)}
    return [by_name[column] for column in wanted if column not in there]


def _refuse_collisions(keys: DataFrame, added: Sequence[str]) -> None:
    same = _same_name(keys)
    taken = {same(name) for name in keys.columns}
    for name in added:
        if same(name) in taken:
            raise ValueError(
                f"`{name}` would be in the DataFrame twice; rename it there, or choose other columns by `columns`"
            )
        taken.add(same(name))


def _with_intervals(frame: DataFrame, wanted: spark.StructType, arriving: spark.StructType) -> DataFrame:
    """Makes months intervals again: first of one field and then of two, since Spark has no cast for both at once."""
    one_field: Tuple[int, int] = (spark.YearMonthIntervalType.MONTH, spark.YearMonthIntervalType.MONTH)
    casts = {
        field.name: F.col(_quoted(field.name))
        .cast(readable(field.dataType, months=spark.YearMonthIntervalType(*one_field)))
        .cast(field.dataType)
        for field, came in zip(wanted.fields, arriving.fields)
        if field.dataType != came.dataType
    }
    return frame.withColumns(casts) if casts else frame


def _quoted(name: str) -> str:
    return "`" + name.replace("`", "``") + "`"
