"""Text and JSON as Python values of a declared type, and Python values as JSON: what the command line and its files
speak.

A literal is exact: what text or JSON is no literal of the type is a `NotALiteral`, and nothing is guessed. JSON has
numbers, text and booleans; decimals, times and bytes are text there. The forms are those of the command `forebay`.

Pure. Invariant: no error shows the value. Callers: `__main__` (keys, rows for people), `_files` (cells of CSV, lines
of NDJSON).
"""

from __future__ import annotations

import base64
import binascii
import math
import re
import struct
from datetime import date, datetime, timedelta, timezone
from decimal import Decimal, InvalidOperation
from typing import Any, Callable, Dict, Iterable, Mapping, Optional

from ._types import type_name
from .v1 import types_pb2 as pb

_WHOLE = re.compile(r"[+-]?[0-9]{1,100}")
_NUMBER = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?")
_TIME = re.compile(r"(\d{4}-\d\d-\d\d)[T ](\d\d:\d\d)(:\d\d)?(\.\d{1,6})?0*(Z|[+-]\d\d:\d\d)?")
_NON_FINITE = {"nan": math.nan, "infinity": math.inf, "+infinity": math.inf, "-infinity": -math.inf}


class NotALiteral(ValueError):
    """The text is none of the type. `path` is where in its column: `[3].hr`, "" at its top; the message says what is
    expected."""

    def __init__(self, data_type: pb.DataType, expected: str, path: str = "") -> None:
        super().__init__(f"no {type_name(data_type)}; expected {expected}")
        self.data_type = data_type
        self.expected = expected
        self.path = path

    def under(self, step: str) -> NotALiteral:
        """The same, seen from one level above."""
        return NotALiteral(self.data_type, self.expected, step + self.path)


def from_text(text: str, data_type: pb.DataType) -> Any:
    """A text (a cell, a key) as a value of the type. Arrays, maps, structs and variants have no such form."""
    kind = data_type.WhichOneof("type")
    if kind in ("char_length", "varchar_length"):
        return text
    if kind == "decimal":
        return _number(text, data_type)
    found = _FROM_TEXT.get(data_type.primitive) if kind == "primitive" else None
    if found is None:
        raise NotALiteral(data_type, "another format: as text there is none of this type")
    return found(text, data_type)


def from_json(value: Any, data_type: pb.DataType) -> Any:
    """What `json.loads(..., parse_float=Decimal)` gave, as a value of the type."""
    kind = data_type.WhichOneof("type")
    if value is None:
        return None
    if kind == "array":
        return [
            _step(f"[{at}]", one, data_type.array.element)
            for at, one in enumerate(_a(list, value, data_type, "an array"))
        ]
    if kind == "struct":
        types = {field.name: field.type for field in data_type.struct.fields}
        members = _a(dict, value, data_type, "an object")
        unknown = next((name for name in members if name not in types), None)
        if unknown is not None:
            raise NotALiteral(data_type, "no such field", f".{unknown}")
        return {name: _step(f".{name}", one, types[name]) for name, one in members.items()}
    if kind == "map":
        members = _a(dict, value, data_type, "an object").items()
        key, entry = data_type.map.key, data_type.map.value
        try:
            keys = [from_text(name, key) for name, _ in members]
        except NotALiteral as error:
            raise error.under(".key") from None
        return {at: _step("[...]", one, entry) for at, (_, one) in zip(keys, members)}
    if kind == "primitive" and data_type.primitive == pb.PRIMITIVE_TYPE_VARIANT:
        return value
    return _scalar_from_json(value, data_type)


def _scalar_from_json(value: Any, data_type: pb.DataType) -> Any:
    primitive = data_type.primitive
    if data_type.WhichOneof("type") == "decimal":
        if isinstance(value, str):
            return from_text(value, data_type)
        return _a((int, Decimal), value, data_type, "a number, or text with its digits")
    if primitive in _WHOLE_TYPES:
        number = _a((int, Decimal), value, data_type, "a whole number")
        if isinstance(number, Decimal) and number != number.to_integral_value():
            raise NotALiteral(data_type, "a whole number")
        return int(number)
    if primitive in (pb.PRIMITIVE_TYPE_FLOAT, pb.PRIMITIVE_TYPE_DOUBLE):
        if isinstance(value, str):
            if value.lower() in _NON_FINITE:
                return _NON_FINITE[value.lower()]
            raise NotALiteral(data_type, "a number")
        number = _a((int, Decimal), value, data_type, "a number")
        return float(number) if isinstance(number, Decimal) else number
    if primitive == pb.PRIMITIVE_TYPE_BOOLEAN:
        return _a(bool, value, data_type, "true or false")
    # What JSON has no form of its own for is text, and so is text.
    return from_text(_a(str, value, data_type, "text"), data_type)


def _a(kind: Any, value: Any, data_type: pb.DataType, expected: str) -> Any:
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
        raise NotALiteral(data_type, expected)
    return value


def _step(step: str, value: Any, data_type: pb.DataType) -> Any:
    try:
        return from_json(value, data_type)
    except NotALiteral as error:
        raise error.under(step) from None


def _whole(text: str, data_type: pb.DataType) -> int:
    if not _WHOLE.fullmatch(text.strip()):
        raise NotALiteral(data_type, "a whole number")
    return int(text)


def _interval(text: str, data_type: pb.DataType) -> timedelta:
    if not _WHOLE.fullmatch(text.strip()):
        raise NotALiteral(data_type, "a number of microseconds")
    try:
        return timedelta(microseconds=int(text))
    except OverflowError:
        raise NotALiteral(data_type, "a number of microseconds of 64 bits") from None


def _double(text: str, data_type: pb.DataType) -> float:
    bare = text.strip()
    if bare.lower() in _NON_FINITE:
        return _NON_FINITE[bare.lower()]
    if not _NUMBER.fullmatch(bare):
        raise NotALiteral(data_type, "a number")
    return float(bare)


def _number(text: str, data_type: pb.DataType) -> Decimal:
    bare = text.strip()
    try:
        if _NUMBER.fullmatch(bare):
            return Decimal(bare)
    except InvalidOperation:
        pass
    raise NotALiteral(data_type, "a number")


def _boolean(text: str, data_type: pb.DataType) -> bool:
    found = {"true": True, "1": True, "false": False, "0": False}.get(text.strip().lower())
    if found is None:
        raise NotALiteral(data_type, "true or false")
    return found


def _binary(text: str, data_type: pb.DataType) -> bytes:
    try:
        return base64.b64decode(text.strip(), validate=True)
    except (binascii.Error, ValueError):
        raise NotALiteral(data_type, "base64") from None


def _date(text: str, data_type: pb.DataType) -> date:
    try:
        return date.fromisoformat(text.strip())
    except ValueError:
        raise NotALiteral(data_type, "YYYY-MM-DD") from None


def _time(text: str, data_type: pb.DataType, with_zone: bool) -> datetime:
    expected = (
        "a time with its zone, like 2026-01-31T12:00:00Z"
        if with_zone
        else "a time without a zone, like 2026-01-31T12:00:00"
    )
    found = _TIME.fullmatch(text.strip())
    if found is None or (found[5] is not None) != with_zone or (found[4] and not found[3]):
        raise NotALiteral(data_type, expected)
    day, minutes, seconds, fraction, zone = found.groups()
    # In the one form that every Python reads.
    micros = (fraction or ".").ljust(7, "0")
    offset = (zone or "").replace("Z", "+00:00")
    try:
        return datetime.fromisoformat(f"{day}T{minutes}{seconds or ':00'}{micros}{offset}")
    except ValueError:
        raise NotALiteral(data_type, expected) from None


_WHOLE_TYPES = (
    pb.PRIMITIVE_TYPE_BYTE,
    pb.PRIMITIVE_TYPE_SHORT,
    pb.PRIMITIVE_TYPE_INTEGER,
    pb.PRIMITIVE_TYPE_LONG,
    pb.PRIMITIVE_TYPE_YEAR_MONTH_INTERVAL,
)
_FROM_TEXT: Dict[int, Callable[[str, pb.DataType], Any]] = {
    **{primitive: _whole for primitive in _WHOLE_TYPES},
    pb.PRIMITIVE_TYPE_DAY_TIME_INTERVAL: _interval,
    pb.PRIMITIVE_TYPE_FLOAT: _double,
    pb.PRIMITIVE_TYPE_DOUBLE: _double,
    pb.PRIMITIVE_TYPE_STRING: lambda text, data_type: text,
    pb.PRIMITIVE_TYPE_BOOLEAN: _boolean,
    pb.PRIMITIVE_TYPE_BINARY: _binary,
    pb.PRIMITIVE_TYPE_DATE: _date,
    pb.PRIMITIVE_TYPE_TIMESTAMP: lambda text, data_type: _time(text, data_type, True),
    pb.PRIMITIVE_TYPE_TIMESTAMP_NTZ: lambda text, data_type: _time(text, data_type, False),
}


def to_json(value: Any, data_type: Optional[pb.DataType] = None) -> Any:
    """A value that was read, as `json.dumps` takes it: decimals as text, so that no reader rounds them; times in ISO
    8601; bytes as base64; day-time intervals in microseconds. With its type a float has its own digits: 0.1, not
    0.10000000149011612."""
    if value is None or isinstance(value, (bool, int, str)):
        return value
    if isinstance(value, float):
        if math.isfinite(value):
            single = data_type is not None and data_type.primitive == pb.PRIMITIVE_TYPE_FLOAT
            return _shortest_single(value) if single else value
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    if isinstance(value, Decimal):
        return format(value, "f")
    if isinstance(value, (bytes, bytearray, memoryview)):
        return base64.b64encode(value).decode()
    if isinstance(value, datetime):
        if value.tzinfo is None:
            return value.isoformat()
        return value.astimezone(timezone.utc).replace(tzinfo=None).isoformat() + "Z"
    if isinstance(value, date):
        return value.isoformat()
    if isinstance(value, timedelta):
        return value // timedelta(microseconds=1)
    kind = None if data_type is None else data_type.WhichOneof("type")
    if isinstance(value, Mapping):
        if data_type is not None and kind == "struct":
            return row_to_json(value, data_type.struct.fields)
        entry = data_type.map.value if data_type is not None and kind == "map" else None
        return {_name(key): to_json(one, entry) for key, one in value.items()}
    if isinstance(value, (list, tuple)):
        element = data_type.array.element if data_type is not None and kind == "array" else None
        return [to_json(one, element) for one in value]
    raise TypeError(f"a {type(value).__name__} has no form in JSON")


def row_to_json(row: Mapping[str, Any], fields: Iterable[pb.Field]) -> Dict[str, Any]:
    """A row, or a struct, by the types of its fields."""
    types = {field.name: field.type for field in fields}
    return {name: to_json(value, types.get(name)) for name, value in row.items()}


def _shortest_single(value: float) -> float:
    for digits in range(6, 10):
        short = float(f"{value:.{digits}g}")
        if struct.pack("f", short) == struct.pack("f", value):
            return short
    return value


def _name(key: Any) -> str:
    found = to_json(key)
    if isinstance(found, bool):
        return "true" if found else "false"
    return found if isinstance(found, str) else str(found)
