"""`forebay.spark.lookup`: a DataFrame of keys into a DataFrame of features; and `table_schema`.

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

from ..client import Client
from ..v1 import table_pb2, types_pb2
from .gateway import Gateway
from .lookup_task import Lookup
from .options import Connection
from .read_options import parse_lookup
from .schema import readable, struct_type

_MISSING = ("null", "drop", "fail")


def lookup(
    keys: DataFrame,
    table: str,
    *,
    columns: Optional[Sequence[str]] = None,
    key_columns: Optional[Mapping[str, str]] = None,
    missing: str = "null",
    status_column: Optional[str] = None,
    consistent: bool = False,
    calls_in_flight: int = 4,
    **options: Any,
) -> DataFrame:
    """The rows of a table for a DataFrame of keys: the same rows in the same order, with the table's columns.

    `keys` has the columns of the table's key, by their names or as `key_columns` says ({"user_id": "uid"}), and any
    others, which it keeps. `columns` are the table's columns to add; None for all that are not of the key.

    `missing` says what becomes of a key without a row: "null" (its columns are null), "drop" (its row is left out),
    "fail" (the job fails). A key of which it is not known whether it has a row fails the job: it never looks missing.
    With a `status_column`, that column says for each row what became of it (FOUND, NOT_FOUND, EXPIRED, UNAVAILABLE,
    DENIED, UNDECODABLE), and nothing fails but by `missing`.

    `consistent` sees every confirmed write, at twice the price. Each task has `calls_in_flight` calls of 1,000 keys
    under way. `options` are those of the data source for the connection (`endpoint`, `token_env`, `ca`, ...) and
    `retry_for`, the seconds for which a read is tried again (60).

    Raises `ValueError` for what cannot be, and `errors.CallError` where the table cannot be asked for.
    """
    connection, retry_for = parse_lookup(options)
    if missing not in _MISSING:
        raise ValueError(f"missing: `{missing}` is none; expected {', '.join(_MISSING)}")
    if calls_in_flight < 1:
        raise ValueError("calls_in_flight: expected at least 1")
    with Client(connection.resolve()) as client:
        definition = client.get_table(table).message
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
    _refuse_months(keys)
    wanted: spark.StructType = readable(struct_type(declared))
    arriving: spark.StructType = readable(struct_type(declared), months=spark.IntegerType())
    _refuse_collisions(keys, [*wanted.names, *([] if status_column is None else [status_column])])
    fields = [*keys.schema.fields, *arriving.fields]
    if status_column is not None:
        fields.append(spark.StructField(status_column, spark.StringType(), False))
    found = keys.mapInArrow(_Task(task, connection), spark.StructType(fields))
    return _with_intervals(found, wanted, arriving)


def table_schema(table: str, **options: Any) -> spark.StructType:
    """A table's columns as they are declared, as Spark's types: to make a DataFrame for it, or to cast one.

    `options` are those of the data source for the connection.
    """
    connection, _ = parse_lookup(options)
    with Client(connection.resolve()) as client:
        return struct_type(client.get_table(table).message.schema)


@dataclass(frozen=True)
class _Task:
    """The function that Spark calls for each partition of the keys."""

    lookup: Lookup
    connection: Connection

    def __call__(self, batches: "Iterator[pa.RecordBatch]") -> "Iterator[pa.RecordBatch]":
        with Gateway(self.connection.resolve()) as gateway:
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


def _refuse_months(keys: DataFrame) -> None:
    # Spark says so only when the job runs, and without the column's name.
    for field in keys.schema.fields:
        if readable(field.dataType, months=spark.IntegerType()) != readable(field.dataType):
            raise ValueError(
                f"the column `{field.name}` has intervals of months, which Spark's Python workers cannot carry; "
                "leave it out, or cast it to text before"
            )


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
