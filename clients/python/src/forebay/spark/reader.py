"""`spark.read.format("forebay")`: the rows of chosen keys, or of ranges of keys, as a DataFrame.

What to read comes from the query's filters (Spark 4.1 and later, `spark.sql.python.filterPushdown.enabled`), or from
the options `keys` or `partition`. A query that names no keys is refused while it is planned: a table is not scanned.
Filters only choose what is read; Spark looks at every row again with all of them.

`plan` makes the tasks on the driver; each holds its share of the keys or ranges, as serialized requests. The caller is
`source`.
"""

from __future__ import annotations

import json
from typing import Any, Iterable, Iterator, List, Optional, Sequence

import pyarrow as pa
from pyspark.sql import types as spark
from pyspark.sql.datasource import DataSourceReader, InputPartition

from .._encode import encoder
from .._values import Misfit
from ..client import Client
from ..errors import RowUnavailable
from ..v1 import read_pb2, table_pb2, types_pb2
from .columns import RowsToArrow
from .fetch import MAX_KEYS_A_CALL, rows_by_key, rows_of_range
from .filters import Chosen, FullScan, Key, KeyColumns, Range, choose
from .gateway import Gateway
from .read_options import ReadOptions
from .schema import readable, struct_type

RANGES_PER_TASK = 16
"""Ranges that one task reads, one after the other."""


class TableToRead:
    """A table's columns that a read gives: those asked for, and the key's, by which Spark filters again."""

    def __init__(self, table: table_pb2.Table, columns: Sequence[str]) -> None:
        self.key = KeyColumns(tuple(table.key.partition), tuple(table.key.sort))
        self._by_name = {field.name: field for field in table.schema.fields}
        for column in columns:
            if column not in self._by_name:
                raise ValueError(
                    f"columns: the table `{table.name}` has no column `{column}`; "
                    f"expected some of {', '.join(self._by_name)}"
                )
        wanted = set(columns or self._by_name) | set(self.key.all)
        self.columns = types_pb2.Schema(fields=[field for field in table.schema.fields if field.name in wanted])

    @property
    def names(self) -> List[str]:
        """The columns' names, in the table's order."""
        return [field.name for field in self.columns.fields]

    def spark_schema(self) -> spark.StructType:
        """The schema of the DataFrame; intervals of months are integers, since Python workers have no type for them."""
        schema: spark.StructType = readable(struct_type(self.columns), months=spark.IntegerType())
        return schema

    def row_key(self, columns: Sequence[str], values: Key) -> read_pb2.RowKey:
        """A key, or a part of one, as it goes to the gateway. Raises `ValueError` with the column's name."""
        row_key = read_pb2.RowKey()
        if len(values) != len(columns):
            raise ValueError(f"a key has {len(values)} values; expected {len(columns)}, of {', '.join(columns)}")
        for column, value in zip(columns, values):
            try:
                encoder(self._by_name[column].type)(value, row_key.values.add())
            except Misfit as misfit:
                raise ValueError(f"the key column {misfit.error(f'`{column}`')}") from None
        return row_key


def look_up_table(options: ReadOptions) -> TableToRead:
    """Asks a gateway for the table. Raises `errors.CallError`."""
    with Client(options.connection.resolve()) as client:
        return TableToRead(client.get_table(options.table).message, options.columns)


class _Part(InputPartition):
    """A task's share: serialized requests."""

    def __init__(self, keys: Optional[bytes] = None, ranges: Sequence[bytes] = ()) -> None:
        super().__init__(None)
        self.keys = keys
        self.ranges = list(ranges)

    def __repr__(self) -> str:
        # Keys are contents of rows.
        return "_Part(...)"


class KeyedReader(DataSourceReader):
    """Reads what the options `keys` or `partition` say. Has no `pushFilters`, which Spark may lack or have off."""

    def __init__(self, options: ReadOptions, schema: spark.StructType) -> None:
        self._options = options
        self._table = look_up_table(options)
        self._schema = _expected(self._table, schema, options.table)
        self._chosen = _chosen_by_options(options, self._table.key)

    def partitions(self) -> List[InputPartition]:
        """The tasks. Raises `FullScan` where nothing says which keys to read."""
        if self._chosen is None:
            arrive = hasattr(DataSourceReader, "pushFilters")
            raise FullScan(self._options.table, self._table.key, filters_arrive=arrive)
        option = (
            "keys" if self._options.keys is not None else "partition" if self._options.partition is not None else ""
        )
        try:
            return list(plan(self._chosen, self._table, self._options)) or [_Part()]
        except ValueError as error:
            raise ValueError(f"{option}: {error}" if option else str(error)) from None

    def read(self, partition: InputPartition) -> "Iterator[pa.RecordBatch]":
        """A task's rows. Fails where it is not known whether a key has a row."""
        if not isinstance(partition, _Part):
            raise TypeError("a partition of another reader")
        to_arrow = RowsToArrow(self._table.columns)
        with Gateway(self._options.connection.resolve()) as gateway:
            if partition.keys is not None:
                yield from self._read_keys(gateway, read_pb2.TableKeys.FromString(partition.keys), to_arrow)
            for serialized in partition.ranges:
                yield from self._read_range(gateway, read_pb2.ReadRangeRequest.FromString(serialized), to_arrow)

    def _read_keys(
        self, gateway: Gateway, wanted: read_pb2.TableKeys, to_arrow: RowsToArrow
    ) -> "Iterator[pa.RecordBatch]":
        options = self._options
        found_status = read_pb2.ReadStatus.READ_STATUS_FOUND
        absent = (read_pb2.ReadStatus.READ_STATUS_NOT_FOUND, read_pb2.ReadStatus.READ_STATUS_EXPIRED)
        for begin in range(0, len(wanted.keys), MAX_KEYS_A_CALL):
            some = wanted.keys[begin : begin + MAX_KEYS_A_CALL]
            keys = read_pb2.TableKeys(table=wanted.table, keys=some, columns=wanted.columns)
            answer = rows_by_key(gateway, keys, consistency=options.consistency, retry_for=options.retry_for)
            for result in answer.rows:
                if result.status != found_status and result.status not in absent:
                    status = read_pb2.ReadStatus.Name(result.status)[len("READ_STATUS_") :]
                    message = f"a row of the table `{options.table}` could not be read: {result.message}"
                    raise RowUnavailable(status, message)
            yield from self._batch(
                answer.columns, [one.row for one in answer.rows if one.status == found_status], to_arrow
            )

    def _read_range(
        self, gateway: Gateway, wanted: read_pb2.ReadRangeRequest, to_arrow: RowsToArrow
    ) -> "Iterator[pa.RecordBatch]":
        names = self._table.names
        sort = [names.index(column) for column in self._table.key.sort]
        for columns, rows in rows_of_range(gateway, wanted, sort=sort, retry_for=self._options.retry_for):
            yield from self._batch(columns, rows, to_arrow)

    def _batch(
        self, columns: types_pb2.Schema, rows: "List[types_pb2.Row]", to_arrow: RowsToArrow
    ) -> "Iterator[pa.RecordBatch]":
        if not rows:
            return
        if columns != self._table.columns and RowsToArrow(columns).schema != to_arrow.schema:
            raise ValueError(f"the table `{self._options.table}` has changed since this query was made; make it again")
        batch = to_arrow.batch(rows)
        # Spark may have been asked for fewer columns, or in another order.
        yield batch.select([field.name for field in self._schema.fields])


class FilteredReader(KeyedReader):
    """Reads what the query's filters say."""

    def pushFilters(self, filters: "List[Any]") -> "Iterable[Any]":
        """Takes the keys from the filters, and leaves all filters to Spark."""
        self._chosen = choose(filters, self._table.key, self._options.table)
        return filters


def make_reader(options: ReadOptions, schema: spark.StructType) -> DataSourceReader:
    """The reader for these options."""
    if options.keys is not None or options.partition is not None:
        return KeyedReader(options, schema)
    return FilteredReader(options, schema)


def plan(chosen: Chosen, table: TableToRead, options: ReadOptions) -> Iterator[InputPartition]:
    """The tasks that read what was chosen."""
    for begin in range(0, len(chosen.keys), options.keys_per_task):
        wanted = read_pb2.TableKeys(table=options.table, columns=table.names)
        wanted.keys.extend(
            table.row_key(table.key.all, key) for key in chosen.keys[begin : begin + options.keys_per_task]
        )
        yield _Part(keys=wanted.SerializeToString())
    for begin in range(0, len(chosen.ranges), RANGES_PER_TASK):
        some = chosen.ranges[begin : begin + RANGES_PER_TASK]
        yield _Part(ranges=[_range_request(one, table, options).SerializeToString() for one in some])


def _range_request(one: Range, table: TableToRead, options: ReadOptions) -> read_pb2.ReadRangeRequest:
    request = read_pb2.ReadRangeRequest(table=options.table, columns=table.names, consistency=options.consistency)
    request.partition.CopyFrom(table.row_key(table.key.partition, one.partition))
    if one.sort_from is not None:
        request.sort_from.CopyFrom(table.row_key(table.key.sort, one.sort_from))
    if one.sort_to is not None:
        request.sort_to.CopyFrom(table.row_key(table.key.sort, one.sort_to))
    return request


def _chosen_by_options(options: ReadOptions, key: KeyColumns) -> Optional[Chosen]:
    if options.keys is not None:
        found = _json("keys", options.keys)
        if not isinstance(found, list):
            raise ValueError('keys: expected a JSON array of keys: ["a", "b"], or [["a", 1], ["a", 2]]')
        return Chosen(keys=tuple(dict.fromkeys(_key(one) for one in found)))
    if options.partition is not None:
        if not key.sort:
            raise ValueError(f"partition: the table `{options.table}` has no sort key; expected the option keys")
        return Chosen(ranges=(Range(_key(_json("partition", options.partition))),))
    return None


def _key(one: Any) -> Key:
    return tuple(one) if isinstance(one, list) else (one,)


def _json(option: str, text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError as error:
        raise ValueError(f"{option}: is no JSON: {error.args[0]}") from None


def _expected(table: TableToRead, schema: spark.StructType, name: str) -> spark.StructType:
    """The schema that Spark wants, which a user may have given: some of the table's columns, with their types."""
    ours = {field.name: field.dataType for field in table.spark_schema().fields}
    for field in schema.fields:
        if field.name not in ours:
            raise ValueError(f"the table `{name}` has no column `{field.name}`; expected some of {', '.join(ours)}")
        theirs = readable(field.dataType)
        if theirs != ours[field.name]:
            raise ValueError(
                f"the column `{field.name}` of the table `{name}` is {ours[field.name].simpleString()} and not "
                f"{field.dataType.simpleString()}; leave the schema out and cast after reading"
            )
    return schema
