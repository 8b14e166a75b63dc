"""Variants: from values on the wire into Spark's binary encoding of a variant.

Spark's encoding is two binaries: the value, and the metadata, which is the dictionary of all names in it (the format is
that of `org.apache.spark.types.variant`, version 1). What comes from a gateway is what is stored: integers of 64 bits,
doubles, decimals, text, bytes, booleans, lists and maps with text keys. A number that no variant can hold is a
`ValueError`: it is not rounded.

The caller is `columns`.
"""

from __future__ import annotations

import decimal
import struct
from typing import Callable, Dict, List, Optional, Tuple

from ..v1 import types_pb2

Encoded = Tuple[bytes, bytes]
"""The value, and then the metadata."""

_SHORT_TEXT_MAX_BYTES = 0x3F
_VERSION = 1
_DECIMAL_DIGITS = 38
# Enough for every number of DynamoDB's, so that what is read is never rounded on the way.
_EXACT = decimal.Context(prec=400, Emax=10_000, Emin=-10_000, traps=[decimal.InvalidOperation, decimal.Inexact])

# Basic types, the lowest two bits of a header.
_PRIMITIVE, _SHORT_TEXT, _OBJECT, _ARRAY = 0, 1, 2, 3
# What a primitive is, the other six bits.
_NULL, _TRUE, _FALSE, _INT1, _INT2, _INT4, _INT8, _DOUBLE = 0, 1, 2, 3, 4, 5, 6, 7
_DECIMAL4, _DECIMAL8, _DECIMAL16, _BINARY, _LONG_TEXT = 8, 9, 10, 15, 16


def encode(value: types_pb2.Value) -> Optional[Encoded]:
    """The two binaries of a value; None for a null, which is a null column and no variant."""
    if value.WhichOneof("kind") is None:
        return None
    names: Dict[str, int] = {}
    encoded = _value(value, names)
    return encoded, _metadata(list(names))


def _value(value: types_pb2.Value, names: Dict[str, int]) -> bytes:
    kind = value.WhichOneof("kind")
    if kind is None:
        return _header(_NULL)
    encoder = _ENCODERS.get(kind)
    if encoder is None:
        raise ValueError(f"a variant cannot hold a {kind}")
    return encoder(value, names)


def _header(kind: int) -> bytes:
    return bytes((kind << 2 | _PRIMITIVE,))


def _bool(value: types_pb2.Value, _: Dict[str, int]) -> bytes:
    return _header(_TRUE if value.bool_value else _FALSE)


def _int(value: types_pb2.Value, _: Dict[str, int]) -> bytes:
    number = value.int_value
    for kind, size in ((_INT1, 1), (_INT2, 2), (_INT4, 4)):
        if -(1 << (size * 8 - 1)) <= number < 1 << (size * 8 - 1):
            return _header(kind) + number.to_bytes(size, "little", signed=True)
    return _header(_INT8) + number.to_bytes(8, "little", signed=True)


def _double(value: types_pb2.Value, _: Dict[str, int]) -> bytes:
    return _header(_DOUBLE) + struct.pack("<d", value.double_value)


def _decimal(value: types_pb2.Value, _: Dict[str, int]) -> bytes:
    number = _EXACT.create_decimal(value.decimal_value)
    exponent = number.as_tuple().exponent
    scale = max(0, -exponent) if isinstance(exponent, int) else 0
    unscaled = int(number.scaleb(scale, _EXACT))
    if scale > _DECIMAL_DIGITS or abs(unscaled) >= 10**_DECIMAL_DIGITS:
        raise ValueError("a stored number has more digits than a variant's decimal can hold, which are 38")
    for kind, size, digits in ((_DECIMAL4, 4, 9), (_DECIMAL8, 8, 18)):
        if scale <= digits and abs(unscaled) < 10**digits:
            return _header(kind) + bytes((scale,)) + unscaled.to_bytes(size, "little", signed=True)
    return _header(_DECIMAL16) + bytes((scale,)) + unscaled.to_bytes(16, "little", signed=True)


def _text(value: types_pb2.Value, _: Dict[str, int]) -> bytes:
    text = value.string_value.encode()
    if len(text) <= _SHORT_TEXT_MAX_BYTES:
        return bytes((len(text) << 2 | _SHORT_TEXT,)) + text
    return _header(_LONG_TEXT) + len(text).to_bytes(4, "little") + text


def _bytes(value: types_pb2.Value, _: Dict[str, int]) -> bytes:
    content = value.bytes_value
    return _header(_BINARY) + len(content).to_bytes(4, "little") + content


def _list(value: types_pb2.Value, names: Dict[str, int]) -> bytes:
    elements = [_value(element, names) for element in value.list_value.values]
    offsets, offset_size = _offsets(elements)
    large = len(elements) > 0xFF
    header = (large << 2 | (offset_size - 1)) << 2 | _ARRAY
    size = len(elements).to_bytes(4 if large else 1, "little")
    return bytes((header,)) + size + _integers(offsets, offset_size) + b"".join(elements)


def _map(value: types_pb2.Value, names: Dict[str, int]) -> bytes:
    fields: List[Tuple[bytes, int, bytes]] = []
    for entry in value.map_value.entries:
        name = entry.key.string_value
        # Readers look fields up by bisection, in the order of the JVM's texts: by UTF-16 units.
        order = name.encode("utf-16-be")
        fields.append((order, names.setdefault(name, len(names)), _value(entry.value, names)))
    fields.sort(key=lambda field: field[0])
    contents = [content for _, _, content in fields]
    ids = [number for _, number, _ in fields]
    offsets, offset_size = _offsets(contents)
    id_size = _width(max(ids, default=0))
    large = len(fields) > 0xFF
    header = (large << 4 | (id_size - 1) << 2 | (offset_size - 1)) << 2 | _OBJECT
    size = len(fields).to_bytes(4 if large else 1, "little")
    return bytes((header,)) + size + _integers(ids, id_size) + _integers(offsets, offset_size) + b"".join(contents)


_ENCODERS: Dict[str, Callable[[types_pb2.Value, Dict[str, int]], bytes]] = {
    "bool_value": _bool,
    "int_value": _int,
    "double_value": _double,
    "decimal_value": _decimal,
    "string_value": _text,
    "bytes_value": _bytes,
    "list_value": _list,
    "map_value": _map,
}


def _metadata(names: List[str]) -> bytes:
    texts = [name.encode() for name in names]
    offsets, offset_size = _offsets(texts)
    offset_size = max(offset_size, _width(len(texts)))
    header = (offset_size - 1) << 6 | _VERSION
    size = len(texts).to_bytes(offset_size, "little")
    return bytes((header,)) + size + _integers(offsets, offset_size) + b"".join(texts)


def _offsets(parts: List[bytes]) -> Tuple[List[int], int]:
    """Where each part begins, and the last one's end; and how many bytes each of these numbers takes."""
    offsets = [0]
    for part in parts:
        offsets.append(offsets[-1] + len(part))
    return offsets, _width(offsets[-1])


def _width(number: int) -> int:
    return max(1, (number.bit_length() + 7) // 8)


def _integers(numbers: List[int], size: int) -> bytes:
    return b"".join(number.to_bytes(size, "little") for number in numbers)
