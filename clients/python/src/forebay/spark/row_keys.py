"""Key columns of Arrow batches into keys as they go to a gateway.

A key goes as the type that its column has; the gateway judges whether it fits the declared type, by the rule of STRICT
writes (an INT is fine for a BIGINT key, a text is not). A key with a null or with an empty text is one that no row can
have: it is None here, and nobody is asked about it. The caller is `lookup_task`.
"""

from __future__ import annotations

from typing import Any, List, Optional, Sequence, Tuple

import pyarrow as pa

from ..v1 import read_pb2, types_pb2


def row_keys(arrays: "Sequence[pa.Array]", columns: Sequence[str]) -> List[Optional[read_pb2.RowKey]]:
    """The keys in these columns, which have these names. Raises `ValueError` for a type that is none of a key."""
    parts = [_values(array, column) for array, column in zip(arrays, columns)]
    keys: List[Optional[read_pb2.RowKey]] = []
    for values in zip(*parts):
        whole = [value for value in values if value is not None]
        keys.append(read_pb2.RowKey(values=whole) if len(whole) == len(values) else None)
    return keys


def _values(array: "pa.Array", column: str) -> List[Optional[types_pb2.Value]]:
    """A key column's values as they go to the gateway, which judges whether they fit; None for nulls and empty ones."""
    arrow = array.type
    kind, content = _key_content(array, arrow)
    if kind is None:
        raise ValueError(f"the column `{column}` cannot be a key: its type is {arrow}")
    empty = {"string_value": "", "bytes_value": b""}.get(kind)
    value = types_pb2.Value
    return [None if one is None or one == empty else value(**{kind: one}) for one in content]


def _key_content(array: "pa.Array", arrow: "pa.DataType") -> Tuple[Optional[str], Sequence[Any]]:
    types = pa.types
    if types.is_integer(arrow):
        return "int_value", array.to_pylist()
    if types.is_string(arrow) or types.is_large_string(arrow):
        return "string_value", array.to_pylist()
    if types.is_binary(arrow) or types.is_large_binary(arrow):
        return "bytes_value", array.to_pylist()
    if types.is_boolean(arrow):
        return "bool_value", array.to_pylist()
    if types.is_float32(arrow):
        return "float_value", array.to_pylist()
    if types.is_float64(arrow):
        return "double_value", array.to_pylist()
    if types.is_date32(arrow):
        return "date_days", array.cast(pa.int32()).to_pylist()
    if types.is_timestamp(arrow):
        micros = array.cast(pa.timestamp("us", tz=arrow.tz)).cast(pa.int64()).to_pylist()
        return ("timestamp_ntz_micros" if arrow.tz is None else "timestamp_micros"), micros
    if types.is_decimal(arrow):
        return "decimal_value", [None if one is None else str(one) for one in array.to_pylist()]
    return None, ()
