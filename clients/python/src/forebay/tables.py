"""Tables as Python sees them: definitions to apply, and what the gateway says of them.

Pure. Callers: `client` and `aio`; their users get `Table`, `AppliedTable` and `TableSummary`.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any, Dict, List, Mapping, Optional, Sequence, Tuple, Union

from ._schema import arrow_schema, ddl, schema_from_arrow
from ._types import type_name
from .v1 import table_pb2
from .v1 import types_pb2 as pb

if TYPE_CHECKING:
    import pyarrow


@dataclass(frozen=True)
class Column:
    """A column of a table."""

    name: str
    type: str
    """With Spark SQL's words: `ARRAY<FLOAT>`."""
    nullable: bool
    comment: str = ""


@dataclass(frozen=True)
class Table:
    """A table's definition."""

    name: str
    columns: Tuple[Column, ...]
    partition: Tuple[str, ...]
    """The columns of the partition key."""
    sort: Tuple[str, ...]
    """The columns of the sort key; may be empty."""
    schema_version: int
    dynamodb_table: str
    ownership: str
    """CREATED, or BOUND where the DynamoDB table was there before."""
    sequence_by: str
    ttl_column: str
    store_assignment: str
    """STRICT, ANSI or LEGACY."""
    applied_at: Optional[datetime]
    comment: str
    message: table_pb2.Table = field(repr=False, compare=False)
    """All of it, as the protocol has it."""

    @property
    def ddl(self) -> str:
        """The columns as Spark SQL DDL, without storage options."""
        return ddl(self.message.schema)

    def arrow_schema(self) -> pyarrow.Schema:
        """The columns as a pyarrow schema. Raises `TypeError` where a column is a variant, which Arrow does not have."""
        return arrow_schema(self.message.schema)


@dataclass(frozen=True)
class AppliedTable:
    """What `apply_table` did."""

    table: Table
    result: str
    """CREATED, BOUND, EVOLVED or UNCHANGED."""
    changes: Tuple[str, ...]
    """A sentence for each change."""


@dataclass(frozen=True)
class TableSummary:
    """A line of `list_tables`."""

    name: str
    dynamodb_table: str
    ownership: str
    schema_version: int
    partition: Tuple[str, ...]
    sort: Tuple[str, ...]
    column_count: int


def _word(enum: Any, prefix: str, value: int) -> str:
    return str(enum.Name(value))[len(prefix) + 1 :] if value in enum.values() else "UNKNOWN"


def table_from(message: table_pb2.Table, version: int, applied_at: Optional[datetime] = None) -> Table:
    """The answer's table. A policy that is not set is the default."""
    assignment = message.store_assignment or pb.STORE_ASSIGNMENT_STRICT
    return Table(
        name=message.name,
        columns=tuple(Column(f.name, type_name(f.type), f.nullable, f.comment) for f in message.schema.fields),
        partition=tuple(message.key.partition),
        sort=tuple(message.key.sort),
        schema_version=version,
        dynamodb_table=message.dynamodb_table,
        ownership=_word(table_pb2.Ownership, "OWNERSHIP", message.ownership),
        sequence_by=message.sequence_by,
        ttl_column=message.ttl_column,
        store_assignment=_word(pb.StoreAssignment, "STORE_ASSIGNMENT", assignment),
        applied_at=applied_at,
        comment=message.comment,
        message=message,
    )


def got(answer: table_pb2.GetTableResponse) -> Table:
    """The answer to GetTable."""
    applied_at = None
    if answer.HasField("applied_at"):
        applied_at = answer.applied_at.ToDatetime().replace(tzinfo=timezone.utc)
    return table_from(answer.table, answer.schema_version, applied_at)


def applied(answer: table_pb2.ApplyTableResponse) -> AppliedTable:
    """The answer to ApplyTable."""
    return AppliedTable(
        table=table_from(answer.table, answer.schema_version),
        result=_word(table_pb2.ApplyResult, "APPLY_RESULT", answer.result),
        changes=tuple(answer.changes),
    )


def summaries(answer: table_pb2.ListTablesResponse) -> List[TableSummary]:
    """A page of ListTables."""
    return [
        TableSummary(
            name=line.name,
            dynamodb_table=line.dynamodb_table,
            ownership=_word(table_pb2.Ownership, "OWNERSHIP", line.ownership),
            schema_version=line.schema_version,
            partition=tuple(line.key.partition),
            sort=tuple(line.key.sort),
            column_count=line.column_count,
        )
        for line in answer.tables
    ]


# Definitions.

_ENUMS: Dict[str, Tuple[Any, str]] = {
    "unknown_fields": (table_pb2.UnknownFields, "UNKNOWN_FIELDS"),
    "store_assignment": (pb.StoreAssignment, "STORE_ASSIGNMENT"),
    "coalesce": (table_pb2.Coalesce, "COALESCE"),
}
_DYNAMODB_ENUMS: Dict[str, Tuple[Any, str]] = {
    "billing_mode": (table_pb2.BillingMode, "BILLING_MODE"),
    "stream_view": (table_pb2.StreamView, "STREAM_VIEW"),
}
_TEXTS = ("dynamodb_table", "sequence_by", "ttl_column", "comment")
_NUMBERS = ("write_shards", "max_write_units")
_FLAGS = ("append_only", "show_values_in_outcomes")
_OTHERS = ("name", "ddl", "schema", "key", "columns", "tombstone_retention", "write_sharding", "dynamodb")
_KNOWN = (*_OTHERS, *_ENUMS, *_TEXTS, *_NUMBERS, *_FLAGS)

Definition = Union[str, Mapping[str, Any], table_pb2.Table]


def definition(table: Definition, options: Mapping[str, Any]) -> table_pb2.Table:
    """The message for a name and options, or for a dict with the keys of a table file, or for a message as it is.

    Raises `ValueError` or `TypeError` that names the key.
    """
    if isinstance(table, table_pb2.Table):
        if options:
            raise ValueError(f"{next(iter(options))}: expected nothing beside a Table message")
        return table
    if isinstance(table, str):
        given: Dict[str, Any] = {"name": table, **options}
    elif isinstance(table, Mapping):
        twice = next((name for name in options if name in table), None)
        if twice is not None:
            raise ValueError(f"{twice}: given twice")
        given = {**table, **options}
    else:
        raise TypeError(f"table: expected a name, a dict or a Table message; found {type(table).__name__}")
    given = {name: value for name, value in given.items() if value is not None}
    for name in given:
        if name not in _KNOWN:
            raise ValueError(f"{name}: no key of a table; expected one of {', '.join(_KNOWN)}")
    message = table_pb2.Table(name=_typed(given, "name", str, "a name"))
    _set_columns(given, message)
    _set_key(given, message)
    for name, (enum, prefix) in _ENUMS.items():
        if name in given:
            setattr(message, name, _enum(name, given[name], enum, prefix))
    for name in _TEXTS:
        if name in given:
            setattr(message, name, _typed(given, name, str, "text"))
    for name in _NUMBERS:
        if name in given:
            setattr(message, name, _number(name, given[name]))
    for name in _FLAGS:
        if name in given:
            setattr(message, name, _typed(given, name, bool, "True or False"))
    if "tombstone_retention" in given:
        message.tombstone_retention.FromTimedelta(_span("tombstone_retention", given["tombstone_retention"]))
    if "write_sharding" in given:
        sharding = _typed(given, "write_sharding", Mapping, "a dict with max_shards")
        _only("write_sharding", sharding, ("max_shards",))
        message.write_sharding.max_shards = _number("write_sharding.max_shards", sharding.get("max_shards"))
    if "dynamodb" in given:
        _set_dynamodb(_typed(given, "dynamodb", Mapping, "a dict"), message.dynamodb)
    return message


def _set_columns(given: Mapping[str, Any], message: table_pb2.Table) -> None:
    if ("ddl" in given) == ("schema" in given):
        raise ValueError("ddl: expected exactly one of ddl and schema")
    options = _typed(given, "columns", Mapping, "a dict of columns") if "columns" in given else {}
    if "ddl" in given:
        if options:
            raise ValueError("columns: expected in the ddl itself, as `tags ARRAY<STRING> OPTIONS (as_set = true)`")
        message.ddl = _typed(given, "ddl", str, "text")
        return
    schema = given["schema"]
    if isinstance(schema, pb.Schema):
        message.schema.CopyFrom(schema)
    elif type(schema).__module__.startswith("pyarrow"):
        message.schema.CopyFrom(schema_from_arrow(schema))
    else:
        message.spark_schema_json = _spark_json(schema, options)
        return
    if options:
        _set_options(options, message.schema)


_COLUMN_OPTIONS = ("non_finite", "time_encoding", "as_set", "key_as_number", "float_key", "comment")


def _set_options(options: Mapping[str, Any], schema: pb.Schema) -> None:
    by_name = {column.name: column for column in schema.fields}
    for name, chosen in options.items():
        if name not in by_name:
            raise ValueError(f"columns.{name}: there is no such column; expected some of {', '.join(by_name)}")
        _only(f"columns.{name}", chosen, _COLUMN_OPTIONS)
        column = by_name[name]
        for option, value in chosen.items():
            where = f"columns.{name}.{option}"
            if option == "comment":
                column.comment = value
            elif option == "non_finite":
                column.options.non_finite = _enum(where, value, pb.NonFinite, "NON_FINITE")  # type: ignore[assignment]
            elif option == "time_encoding":
                column.options.time_encoding = _enum(where, value, pb.TimeEncoding, "TIME_ENCODING")  # type: ignore[assignment]
            elif isinstance(value, bool):
                setattr(column.options, option, value)
            else:
                raise TypeError(f"{where}: expected True or False")


def _spark_json(schema: Any, options: Mapping[str, Any]) -> str:
    """`df.schema`, its JSON as text, or that as a dict."""
    to_json = getattr(schema, "json", None)
    if callable(to_json):
        schema = to_json()
    if isinstance(schema, str):
        try:
            schema = json.loads(schema)
        except ValueError as error:
            raise ValueError(f"schema: no JSON: {error}") from error
    if not isinstance(schema, Mapping) or not isinstance(schema.get("fields"), list):
        raise TypeError("schema: expected a pyarrow schema, a pyspark StructType, or the JSON of one")
    # A copy: the caller's is not changed.
    spark = json.loads(json.dumps(schema))
    columns = {column.get("name"): column for column in spark["fields"] if isinstance(column, dict)}
    for name, chosen in options.items():
        if name not in columns:
            raise ValueError(f"columns.{name}: there is no such column; expected some of {', '.join(map(str, columns))}")
        metadata = columns[name].setdefault("metadata", {})
        metadata.setdefault("forebay", {}).update(chosen)
    return json.dumps(spark)


def _set_key(given: Mapping[str, Any], message: table_pb2.Table) -> None:
    if "key" not in given:
        raise ValueError("key: missing; expected a column, a list of columns, or a dict with partition and sort")
    key = given["key"]
    if isinstance(key, Mapping):
        _only("key", key, ("partition", "sort", "partition_attribute", "sort_attribute"))
        message.key.partition.extend(_columns("key.partition", key.get("partition", ())))
        message.key.sort.extend(_columns("key.sort", key.get("sort", ())))
        message.key.partition_attribute = key.get("partition_attribute", "")
        message.key.sort_attribute = key.get("sort_attribute", "")
        return
    # As in a table file: the first is the partition key, the others are the sort key.
    listed = _columns("key", key)
    message.key.partition.extend(listed[:1])
    message.key.sort.extend(listed[1:])


def _columns(where: str, given: Any) -> List[str]:
    if isinstance(given, str):
        return [given]
    if isinstance(given, Sequence) and all(isinstance(name, str) for name in given):
        return list(given)
    raise TypeError(f"{where}: expected a column or a list of columns")


def _set_dynamodb(given: Mapping[str, Any], options: table_pb2.DynamoDbOptions) -> None:
    known = [described.name for described in options.DESCRIPTOR.fields]
    _only("dynamodb", given, known)
    for name, value in given.items():
        where = f"dynamodb.{name}"
        if name in _DYNAMODB_ENUMS:
            enum, prefix = _DYNAMODB_ENUMS[name]
            setattr(options, name, _enum(where, value, enum, prefix))
        elif name == "tags":
            if not isinstance(value, Mapping) or not all(isinstance(text, str) for pair in value.items() for text in pair):
                raise TypeError(f"{where}: expected a dict of text to text")
            options.tags.update(value)
        else:
            try:
                setattr(options, name, value)
            except (TypeError, ValueError) as error:
                raise type(error)(f"{where}: {error}") from error


def _only(where: str, given: Any, known: Sequence[str]) -> None:
    if not isinstance(given, Mapping):
        raise TypeError(f"{where}: expected a dict with {', '.join(known)}")
    for name in given:
        if name not in known:
            raise ValueError(f"{where}.{name}: no such key; expected one of {', '.join(known)}")


def _typed(given: Mapping[str, Any], name: str, kind: Any, expected: str) -> Any:
    value = given.get(name)
    if not isinstance(value, kind):
        raise TypeError(f"{name}: expected {expected}; found {type(value).__name__}")
    return value


def _number(where: str, value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise TypeError(f"{where}: expected a number that is not negative")
    return value


def _enum(where: str, value: Any, enum: Any, prefix: str) -> int:
    words = [name[len(prefix) + 1 :].lower() for name in enum.keys() if not name.endswith("_UNSPECIFIED")]
    # YAML's `coalesce: off` is a boolean to many parsers.
    word = {True: "on", False: "off"}.get(value) if isinstance(value, bool) else value
    if not isinstance(word, str) or word.lower() not in words:
        raise ValueError(f"{where}: expected one of {', '.join(words)}")
    return int(enum.Value(f"{prefix}_{word.upper()}"))


_UNITS = {"ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


def _span(where: str, value: Any) -> timedelta:
    """`14d`, a timedelta, or seconds."""
    if isinstance(value, timedelta):
        return value
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return timedelta(seconds=value)
    if isinstance(value, str):
        digits = value.rstrip("abcdefghijklmnopqrstuvwxyz")
        unit = _UNITS.get(value[len(digits) :])
        if unit is not None and digits.isdigit():
            return timedelta(seconds=int(digits) * unit)
    raise ValueError(f"{where}: expected something like 14d, a timedelta, or seconds")
