"""Rows on the wire into Arrow columns, as Spark's Python workers hand them to the JVM.

Built column by column: the builders are compiled once for a schema, and each then takes all cells of a column, so that
what is done for a cell is one look at its value. A null is a `Value` with no kind set. Everything is nullable, nested
too, as in Spark's own file sources: what an old row lacks reads as null even where the schema says NOT NULL today. A
value that is not of its column's type is a `ValueError` that names the column and not the value: it never becomes a
null.

Year-month intervals are INT months here, because pyarrow has no type for them; `keys` casts them back to intervals in
Spark. Callers: `reader` and `keys`.
"""

from __future__ import annotations

from itertools import accumulate, chain
from typing import Any, Callable, Iterable, List, Optional, Sequence, Tuple

import pyarrow as pa

from ..v1 import types_pb2
from . import variant

Cells = Sequence[types_pb2.Value]
Builder = Callable[[Cells], "pa.Array"]

NULL = types_pb2.Value()

_P = types_pb2.PrimitiveType
_ZONE = "UTC"
_DECIMAL_DIGITS = 38

# The type in Arrow; the kind of its values on the wire; the type in which those come, where it is another.
_PRIMITIVES: "dict[int, Tuple[pa.DataType, str, Optional[pa.DataType]]]" = {
    _P.PRIMITIVE_TYPE_BYTE: (pa.int8(), "int_value", None),
    _P.PRIMITIVE_TYPE_SHORT: (pa.int16(), "int_value", None),
    _P.PRIMITIVE_TYPE_INTEGER: (pa.int32(), "int_value", None),
    _P.PRIMITIVE_TYPE_LONG: (pa.int64(), "int_value", None),
    _P.PRIMITIVE_TYPE_FLOAT: (pa.float32(), "float_value", None),
    _P.PRIMITIVE_TYPE_DOUBLE: (pa.float64(), "double_value", None),
    _P.PRIMITIVE_TYPE_STRING: (pa.string(), "string_value", None),
    _P.PRIMITIVE_TYPE_BOOLEAN: (pa.bool_(), "bool_value", None),
    _P.PRIMITIVE_TYPE_BINARY: (pa.binary(), "bytes_value", None),
    _P.PRIMITIVE_TYPE_DATE: (pa.date32(), "date_days", pa.int32()),
    _P.PRIMITIVE_TYPE_TIMESTAMP: (pa.timestamp("us", tz=_ZONE), "timestamp_micros", pa.int64()),
    _P.PRIMITIVE_TYPE_TIMESTAMP_NTZ: (pa.timestamp("us"), "timestamp_ntz_micros", pa.int64()),
    _P.PRIMITIVE_TYPE_DAY_TIME_INTERVAL: (pa.duration("us"), "day_time_interval_micros", pa.int64()),
    _P.PRIMITIVE_TYPE_YEAR_MONTH_INTERVAL: (pa.int32(), "year_month_interval_months", None),
}

_VARIANT = pa.struct(
    [
        pa.field("value", pa.binary(), nullable=False),
        # By this mark Spark knows a variant from a struct.
        pa.field("metadata", pa.binary(), nullable=False, metadata={b"variant": b"true"}),
    ]
)


def decimal_digits(declared: types_pb2.DecimalType) -> Tuple[int, int]:
    """The precision and scale in Spark, which has no negative scales: decimal(5,-2) is decimal(7,0) there."""
    precision, scale = declared.precision, declared.scale
    if scale >= 0:
        return precision, scale
    if precision - scale > _DECIMAL_DIGITS:
        raise ValueError(f"decimal({precision},{scale}) has numbers of more than 38 digits, which Spark cannot hold")
    return precision - scale, 0


def arrow_type(data_type: types_pb2.DataType) -> "pa.DataType":
    """The Arrow type in which Spark wants values of a declared type."""
    kind = data_type.WhichOneof("type")
    if kind == "primitive":
        if data_type.primitive == _P.PRIMITIVE_TYPE_VARIANT:
            return _VARIANT
        known = _PRIMITIVES.get(data_type.primitive)
        if known is not None:
            return known[0]
    elif kind == "decimal":
        return pa.decimal128(*decimal_digits(data_type.decimal))
    elif kind in ("char_length", "varchar_length"):
        return pa.string()
    elif kind == "array":
        return pa.list_(pa.field("element", arrow_type(data_type.array.element), nullable=True))
    elif kind == "map":
        key = pa.field("key", arrow_type(data_type.map.key), nullable=False)
        return pa.map_(key, pa.field("value", arrow_type(data_type.map.value), nullable=True))
    elif kind == "struct":
        return pa.struct([arrow_field(field) for field in data_type.struct.fields])
    raise ValueError("the gateway sent a type that this version of the package does not know; update it")


def arrow_field(field: types_pb2.Field) -> "pa.Field":
    """A column, or a field of a struct."""
    try:
        return pa.field(field.name, arrow_type(field.type), nullable=True)
    except ValueError as error:
        raise ValueError(f"`{field.name}`: {error}") from None


class RowsToArrow:
    """Turns rows of one schema into record batches. Compiled once; holds no rows."""

    def __init__(self, columns: types_pb2.Schema) -> None:
        self.fields = [arrow_field(field) for field in columns.fields]
        self.schema = pa.schema(self.fields)
        self._builders = [_builder(field.name, field.type) for field in columns.fields]

    def arrays(self, rows: Sequence[Optional[types_pb2.Row]]) -> "List[pa.Array]":
        """One array for each column; a row that is None has nulls."""
        width = len(self._builders)
        nothing = (NULL,) * width
        cells: Iterable[Cells]
        if rows:
            # Transposed by `zip`: no Python code runs for a cell here.
            cells = zip(*[nothing if row is None else _full(row.values, width) for row in rows])
        else:
            cells = [()] * width
        return [builder(column) for builder, column in zip(self._builders, cells)]

    def batch(self, rows: Sequence[types_pb2.Row]) -> "pa.RecordBatch":
        """A record batch of rows."""
        return pa.RecordBatch.from_arrays(self.arrays(rows), schema=self.schema)


def _full(values: Any, width: int) -> Cells:
    if len(values) == width:
        return values  # type: ignore[no-any-return]
    if len(values) > width:
        raise ValueError(f"the gateway sent a row of {len(values)} values for {width} columns")
    return [*values, *(NULL,) * (width - len(values))]


def _builder(path: str, data_type: types_pb2.DataType) -> Builder:
    kind = data_type.WhichOneof("type")
    if kind == "array":
        return _list_builder(path, data_type)
    if kind == "map":
        return _map_builder(path, data_type)
    if kind == "struct":
        return _struct_builder(path, data_type)
    if kind == "primitive" and data_type.primitive == _P.PRIMITIVE_TYPE_VARIANT:
        return _variant_builder(path)
    arrow = arrow_type(data_type)
    if kind == "primitive":
        _, wire_kind, wire_type = _PRIMITIVES[data_type.primitive]
    elif kind == "decimal":
        # Parsed by Arrow, exactly, for the whole column.
        wire_kind, wire_type = "decimal_value", pa.string()
    else:
        wire_kind, wire_type = "string_value", None
    pick = _picker(path, wire_kind)
    if wire_type is None:
        return lambda cells: pa.array(pick(cells), arrow)
    return lambda cells: pa.array(pick(cells), wire_type).cast(arrow)


def _picker(path: str, kind: str) -> Callable[[Cells], List[Any]]:
    """What is in a column's cells, all of which must be of this kind or null."""

    def pick(cells: Cells) -> List[Any]:
        kinds = {cell.WhichOneof("kind") for cell in cells}
        if kinds <= {kind}:
            return [getattr(cell, kind) for cell in cells]
        if kinds <= {kind, None}:
            return [getattr(cell, kind) if cell.HasField(kind) else None for cell in cells]
        other = sorted(found for found in kinds if found not in (kind, None))[0]
        raise ValueError(f"column `{path}`: the gateway sent a {other} where a {kind} was expected")

    return pick


def _variant_builder(path: str) -> Builder:
    def build(cells: Cells) -> "pa.Array":
        try:
            encoded = [variant.encode(cell) for cell in cells]
        except ValueError as error:
            raise ValueError(f"column `{path}`: {error}") from None
        values = pa.array([b"" if one is None else one[0] for one in encoded], pa.binary())
        metadata = pa.array([b"" if one is None else one[1] for one in encoded], pa.binary())
        return _struct([values, metadata], _VARIANT, [one is None for one in encoded])

    return build


def _list_builder(path: str, data_type: types_pb2.DataType) -> Builder:
    arrow = arrow_type(data_type)
    pick = _picker(path, "list_value")
    build_elements = _builder(f"{path}[]", data_type.array.element)

    def build(cells: Cells) -> "pa.Array":
        lists = [None if one is None else one.values for one in pick(cells)]
        elements = build_elements(_flat(lists))
        return pa.ListArray.from_arrays(_offsets(lists), elements, type=arrow)

    return build


def _map_builder(path: str, data_type: types_pb2.DataType) -> Builder:
    arrow = arrow_type(data_type)
    pick = _picker(path, "map_value")
    build_keys = _builder(f"{path}{{}}", data_type.map.key)
    build_values = _builder(f"{path}{{}}", data_type.map.value)

    def build(cells: Cells) -> "pa.Array":
        maps = [None if one is None else one.entries for one in pick(cells)]
        entries = _flat(maps)
        keys, values = build_keys([entry.key for entry in entries]), build_values([entry.value for entry in entries])
        return pa.MapArray.from_arrays(_offsets(maps), keys, values, type=arrow)

    return build


def _struct_builder(path: str, data_type: types_pb2.DataType) -> Builder:
    arrow = arrow_type(data_type)
    pick = _picker(path, "struct_value")
    width = len(data_type.struct.fields)
    builders = [_builder(f"{path}.{field.name}", field.type) for field in data_type.struct.fields]
    nothing = (NULL,) * width

    def build(cells: Cells) -> "pa.Array":
        structs = pick(cells)
        rows = [nothing if one is None else _full(one.values, width) for one in structs]
        columns: Iterable[Cells] = zip(*rows) if rows else [()] * width
        arrays = [builder(column) for builder, column in zip(builders, columns)]
        return _struct(arrays, arrow, [one is None for one in structs])

    return build


def _struct(arrays: "List[pa.Array]", arrow: "pa.DataType", nulls: List[bool]) -> "pa.Array":
    fields = [arrow.field(i) for i in range(arrow.num_fields)]
    return pa.StructArray.from_arrays(arrays, fields=fields, mask=pa.array(nulls, pa.bool_()))


def _flat(lists: Sequence[Optional[Sequence[Any]]]) -> List[Any]:
    return list(chain.from_iterable(one for one in lists if one is not None))


def _offsets(lists: Sequence[Optional[Sequence[Any]]]) -> "pa.Array":
    """Where each list begins among the elements of all; Arrow takes a null there for a null list."""
    begins = list(accumulate((0 if one is None else len(one) for one in lists), initial=0))
    return pa.array([None if one is None else begin for begin, one in zip(begins, lists)] + begins[-1:], pa.int32())
