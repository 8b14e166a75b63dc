"""Schemas: rows as dicts and back, keys in their three forms, Arrow schemas, DDL.

Pure; pyarrow is imported only by what needs it. Callers: `client`, `aio`, `tables`, `_payload`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Dict, Iterable, List, Mapping, Optional, Sequence, Tuple

from ._decode import Decode, decoder
from ._encode import Encode, encoder
from ._types import quoted, type_name
from ._values import Misfit, is_null
from .v1 import read_pb2, table_pb2
from .v1 import types_pb2 as pb

if TYPE_CHECKING:
    import pyarrow

TABLE_GOOD_FOR_SECONDS = 60.0
MAX_KNOWN_TABLES = 1000
_LENIENT = (pb.STORE_ASSIGNMENT_ANSI, pb.STORE_ASSIGNMENT_LEGACY)


def names(schema: pb.Schema) -> List[str]:
    """The columns' names in order."""
    return [field.name for field in schema.fields]


def ddl(schema: pb.Schema) -> str:
    """The columns as Spark SQL DDL, without storage options: `id STRING NOT NULL, score DOUBLE`."""
    return ", ".join(
        f"{quoted(field.name)} {type_name(field.type)}{'' if field.nullable else ' NOT NULL'}" for field in schema.fields
    )


class RowDecoder:
    """Rows of one schema as dicts."""

    def __init__(self, schema: pb.Schema) -> None:
        self.names = names(schema)
        self._columns: List[Tuple[str, Decode]] = [(field.name, decoder(field.type)) for field in schema.fields]

    def decode(self, row: pb.Row) -> Dict[str, Any]:
        """The row's columns by name. Raises `ValueError` that names the column where Python cannot have a value."""
        values = row.values
        decoded: Dict[str, Any] = {}
        for at, (name, decode) in enumerate(self._columns):
            try:
                # Missing trailing values are null.
                decoded[name] = decode(values[at]) if at < len(values) else None
            except Misfit as misfit:
                raise misfit.error(name) from None
        return decoded


class RowEncoder:
    """Dicts (or sequences in the order of the columns) as rows of chosen columns of a table."""

    def __init__(
        self,
        fields: Iterable[pb.Field],
        *,
        lenient: bool = False,
        drop_unknown: bool = False,
        all_required: bool = False,
    ) -> None:
        """`all_required`: a dict that lacks a column is an error and not a null, for mode merge."""
        self.fields = list(fields)
        self.names = [field.name for field in self.fields]
        self._known = frozenset(self.names)
        self._all_required = all_required
        self._columns: List[Tuple[str, Encode]] = [
            (field.name, encoder(field.type, lenient=lenient, drop_unknown=drop_unknown)) for field in self.fields
        ]

    def encode(self, row: Any, out: pb.Row, where: str = "") -> None:
        """Fills `out`. Raises `TypeError` or `ValueError` that names the column, after `where` ("rows[3]."), never a value."""
        if isinstance(row, Mapping):
            values = self._by_name(row, where)
        elif isinstance(row, (list, tuple)):
            if len(row) != len(self.names):
                raise ValueError(
                    f"{where or 'row: '}expected {len(self.names)} values, one for each of {', '.join(self.names)};"
                    f" found {len(row)}"
                )
            values = row
        else:
            raise TypeError(f"{where or 'row: '}expected a dict or a sequence; found {type(row).__name__}")
        add = out.values.add
        for (name, encode), value in zip(self._columns, values):
            try:
                encode(value, add())
            except Misfit as misfit:
                raise misfit.error(f"{where}{name}") from None

    def _by_name(self, row: Mapping[Any, Any], where: str) -> Sequence[Any]:
        if not self._known.issuperset(row):
            unknown = next(name for name in row if name not in self._known)
            raise ValueError(f"{where}{unknown}: there is no such column here; expected {', '.join(self.names)}")
        if self._all_required and len(row) != len(self.names):
            missing = next(name for name in self.names if name not in row)
            raise ValueError(f"{where}{missing}: missing; a merge leaves alone only what no row of it carries, and None removes")
        get = row.get
        return [get(name) for name in self.names]


def row_encoder(
    table: table_pb2.Table,
    columns: Optional[Sequence[str]] = None,
    *,
    store_assignment: int = pb.STORE_ASSIGNMENT_UNSPECIFIED,
    extra: Sequence[pb.Field] = (),
    all_required: bool = False,
) -> RowEncoder:
    """For rows of a table with `columns` (all unless given). `extra` are columns that the table does not have (`op_column`)."""
    by_name = {field.name: field for field in [*table.schema.fields, *extra]}
    chosen = list(by_name) if columns is None else list(columns)
    for name in chosen:
        if name not in by_name:
            raise ValueError(f"{name}: the table `{table.name}` has no such column; expected some of {', '.join(by_name)}")
    assignment = store_assignment or table.store_assignment
    return RowEncoder(
        [by_name[name] for name in chosen],
        lenient=assignment in _LENIENT,
        drop_unknown=table.unknown_fields == table_pb2.UNKNOWN_FIELDS_DROP,
        all_required=all_required,
    )


class KeyEncoder:
    """Keys of one table: a scalar (where the key is one column), a tuple of all columns in order, or a dict of them."""

    def __init__(self, table: table_pb2.Table) -> None:
        fields = {field.name: field for field in table.schema.fields}
        self.table = table.name
        self.partition = [(name, encoder(fields[name].type)) for name in table.key.partition]
        self.sort = [(name, encoder(fields[name].type)) for name in table.key.sort]

    def row_key(self, key: Any, out: read_pb2.RowKey, where: str = "key") -> None:
        """Fills `out` with the whole key. Raises `TypeError` or `ValueError` that names the column."""
        self._fill(self.partition + self.sort, key, out, where)

    def partition_key(self, key: Any, out: read_pb2.RowKey) -> None:
        """Fills `out` with the partition columns."""
        self._fill(self.partition, key, out, "partition")

    def sort_key(self, key: Any, out: read_pb2.RowKey, where: str) -> None:
        """Fills `out` with the sort columns."""
        if not self.sort:
            raise ValueError(f"{where}: the table `{self.table}` has no sort key")
        self._fill(self.sort, key, out, where)

    def _fill(self, columns: Sequence[Tuple[str, Encode]], key: Any, out: read_pb2.RowKey, where: str) -> None:
        wanted = [name for name, _ in columns]
        if isinstance(key, Mapping):
            for name in key:
                if name not in wanted:
                    raise ValueError(f"{where}.{name}: no column of the key; expected {', '.join(wanted)}")
            for name in wanted:
                if name not in key:
                    raise ValueError(f"{where}.{name}: missing; expected {', '.join(wanted)}")
            values = [key[name] for name in wanted]
        elif isinstance(key, (tuple, list)):
            values = list(key)
        else:
            values = [key]
        if len(values) != len(wanted):
            raise ValueError(f"{where}: expected {len(wanted)} values ({', '.join(wanted)}); found {len(values)}")
        for (name, encode), value in zip(columns, values):
            if is_null(value):
                raise ValueError(f"{where}.{name}: expected a value; a key has no nulls")
            try:
                encode(value, out.values.add())
            except Misfit as misfit:
                raise misfit.error(f"{where}.{name}") from None


class KnownTables:
    """Definitions that a client has asked for. Times are seconds of one clock.

    Columns of a key never change while there is the table, so that keys are good until a call says otherwise; for rows that are to be
    written, a definition is good for a while, since its columns grow.
    """

    def __init__(self) -> None:
        self._tables: Dict[str, Tuple[float, table_pb2.Table]] = {}
        self._keys: Dict[str, KeyEncoder] = {}

    def keys(self, table: str) -> Optional[KeyEncoder]:
        """How the table's keys are encoded, if it is known."""
        return self._keys.get(table)

    def table(self, table: str, now: float) -> Optional[table_pb2.Table]:
        """The definition, if it is known and young."""
        learned, found = self._tables.get(table, (float("-inf"), None))
        return found if now - learned < TABLE_GOOD_FOR_SECONDS else None

    def learn(self, table: table_pb2.Table, now: float) -> table_pb2.Table:
        """Keeps a definition, and gives it back."""
        if len(self._tables) >= MAX_KNOWN_TABLES:
            self.forget()
        self._keys[table.name] = KeyEncoder(table)
        self._tables[table.name] = (now, table)
        return table

    def forget(self) -> None:
        """A call was refused: a table may have been dropped, and made anew with another key."""
        self._keys.clear()
        self._tables.clear()


def arrow_schema(schema: pb.Schema) -> pyarrow.Schema:
    """The pyarrow schema. Raises `TypeError` for a variant, which Arrow does not have, and `ImportError` without pyarrow."""
    import pyarrow as pa

    return pa.schema([_arrow_field(field, field.name) for field in schema.fields])


def _arrow_field(field: pb.Field, path: str) -> pyarrow.Field:
    import pyarrow as pa

    return pa.field(field.name, _arrow_type(field.type, path), nullable=field.nullable)


def _arrow_type(data_type: pb.DataType, path: str) -> pyarrow.DataType:
    import pyarrow as pa

    kind = data_type.WhichOneof("type")
    if kind == "primitive":
        simple = {
            pb.PRIMITIVE_TYPE_BYTE: pa.int8,
            pb.PRIMITIVE_TYPE_SHORT: pa.int16,
            pb.PRIMITIVE_TYPE_INTEGER: pa.int32,
            pb.PRIMITIVE_TYPE_LONG: pa.int64,
            pb.PRIMITIVE_TYPE_FLOAT: pa.float32,
            pb.PRIMITIVE_TYPE_DOUBLE: pa.float64,
            pb.PRIMITIVE_TYPE_STRING: pa.string,
            pb.PRIMITIVE_TYPE_BOOLEAN: pa.bool_,
            pb.PRIMITIVE_TYPE_BINARY: pa.binary,
            pb.PRIMITIVE_TYPE_DATE: pa.date32,
            pb.PRIMITIVE_TYPE_TIMESTAMP: lambda: pa.timestamp("us", "UTC"),
            pb.PRIMITIVE_TYPE_TIMESTAMP_NTZ: lambda: pa.timestamp("us"),
            pb.PRIMITIVE_TYPE_DAY_TIME_INTERVAL: lambda: pa.duration("us"),
            # pyarrow cannot make Arrow's own interval of months; the gateway takes the number.
            pb.PRIMITIVE_TYPE_YEAR_MONTH_INTERVAL: pa.int32,
        }.get(data_type.primitive)
        if simple is None:
            raise TypeError(f"{path}: {type_name(data_type)} has no Arrow type; send rows as dicts")
        return simple()
    if kind == "decimal":
        return pa.decimal128(data_type.decimal.precision, data_type.decimal.scale)
    if kind in ("char_length", "varchar_length"):
        return pa.string()
    if kind == "array":
        element = _arrow_type(data_type.array.element, f"{path}[]")
        return pa.list_(pa.field("item", element, nullable=data_type.array.contains_null))
    if kind == "map":
        value = pa.field("value", _arrow_type(data_type.map.value, f"{path}{{}}"), nullable=data_type.map.value_contains_null)
        return pa.map_(_arrow_type(data_type.map.key, f"{path}{{}}"), value)
    if kind == "struct":
        return pa.struct([_arrow_field(field, f"{path}.{field.name}") for field in data_type.struct.fields])
    raise TypeError(f"{path}: the type is not known to this version of forebay")


def schema_from_arrow(schema: pyarrow.Schema) -> pb.Schema:
    """The schema of an Arrow schema, for a table that is to be made. Raises `TypeError` where a type has no counterpart."""
    return pb.Schema(fields=[_field_from_arrow(field, field.name) for field in schema])


def _field_from_arrow(field: pyarrow.Field, path: str) -> pb.Field:
    return pb.Field(name=field.name, type=_type_from_arrow(field.type, path), nullable=field.nullable)


def _type_from_arrow(arrow: pyarrow.DataType, path: str) -> pb.DataType:
    import pyarrow.types as is_

    tests = (
        (is_.is_boolean, pb.PRIMITIVE_TYPE_BOOLEAN),
        (is_.is_int8, pb.PRIMITIVE_TYPE_BYTE),
        (is_.is_int16, pb.PRIMITIVE_TYPE_SHORT),
        (is_.is_uint8, pb.PRIMITIVE_TYPE_SHORT),
        (is_.is_int32, pb.PRIMITIVE_TYPE_INTEGER),
        (is_.is_uint16, pb.PRIMITIVE_TYPE_INTEGER),
        (is_.is_int64, pb.PRIMITIVE_TYPE_LONG),
        (is_.is_uint32, pb.PRIMITIVE_TYPE_LONG),
        (is_.is_float16, pb.PRIMITIVE_TYPE_FLOAT),
        (is_.is_float32, pb.PRIMITIVE_TYPE_FLOAT),
        (is_.is_float64, pb.PRIMITIVE_TYPE_DOUBLE),
        (is_.is_string, pb.PRIMITIVE_TYPE_STRING),
        (is_.is_large_string, pb.PRIMITIVE_TYPE_STRING),
        (is_.is_binary, pb.PRIMITIVE_TYPE_BINARY),
        (is_.is_large_binary, pb.PRIMITIVE_TYPE_BINARY),
        (is_.is_fixed_size_binary, pb.PRIMITIVE_TYPE_BINARY),
        (is_.is_date, pb.PRIMITIVE_TYPE_DATE),
        (is_.is_duration, pb.PRIMITIVE_TYPE_DAY_TIME_INTERVAL),
    )
    for fits, primitive in tests:
        if fits(arrow):
            return pb.DataType(primitive=primitive)
    if is_.is_uint64(arrow):
        return pb.DataType(decimal=pb.DecimalType(precision=20, scale=0))
    if is_.is_timestamp(arrow):
        ntz = arrow.tz is None
        return pb.DataType(primitive=pb.PRIMITIVE_TYPE_TIMESTAMP_NTZ if ntz else pb.PRIMITIVE_TYPE_TIMESTAMP)
    if is_.is_decimal(arrow) and arrow.precision <= 38:
        return pb.DataType(decimal=pb.DecimalType(precision=arrow.precision, scale=arrow.scale))
    if is_.is_dictionary(arrow):
        return _type_from_arrow(arrow.value_type, path)
    if is_.is_map(arrow):
        return pb.DataType(
            map=pb.MapType(
                key=_type_from_arrow(arrow.key_type, f"{path}{{}}"),
                value=_type_from_arrow(arrow.item_type, f"{path}{{}}"),
                value_contains_null=arrow.item_field.nullable,
            )
        )
    if is_.is_list(arrow) or is_.is_large_list(arrow) or is_.is_fixed_size_list(arrow):
        element = _type_from_arrow(arrow.value_type, f"{path}[]")
        return pb.DataType(array=pb.ArrayType(element=element, contains_null=arrow.value_field.nullable))
    if is_.is_struct(arrow):
        fields = [arrow.field(at) for at in range(arrow.num_fields)]
        return pb.DataType(
            struct=pb.StructType(fields=[_field_from_arrow(field, f"{path}.{field.name}") for field in fields])
        )
    raise TypeError(f"{path}: the Arrow type {arrow} is not one that a table can have")
