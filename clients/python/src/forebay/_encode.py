"""Python values as the protocol's, by declared type.

`encoder(type)` gives a function that is made once for each column and called for each value. What a value is not (text for a number) is
found here, before anything is sent; whether it fits (300 into a TINYINT, the digits of a decimal) the gateway decides, row by row, so
that one bad value costs its row and not the call.

Invariants: nothing is rounded, cut or nulled; no error shows a value. Callers: `_schema` (rows and keys).
"""

from __future__ import annotations

import dataclasses
import math
from datetime import date, datetime, timedelta
from decimal import Decimal
from typing import Any, Callable, Dict, List, Mapping, Optional, Sequence, Tuple

from ._types import type_name
from ._values import EPOCH, EPOCH_DAY, EPOCH_NAIVE, Misfit, check_whole_microseconds, is_null, plain, wrong
from .v1 import types_pb2 as pb

Encode = Callable[[Any, pb.Value], None]

# Beyond it doubles round to an infinite float.
_FLOAT_MAX = 3.4028235677973366e38
_MICROSECOND = timedelta(microseconds=1)
_INT64 = range(-(2**63), 2**63)
_INT32 = range(-(2**31), 2**31)


# Scalars. Each fills a Value or raises a Misfit.


def _set_int(value: int, out: pb.Value) -> None:
    if value in _INT64:
        out.int_value = value
    elif abs(value) < 10**38:
        # It fits decimal columns; elsewhere the gateway rejects the row.
        out.decimal_value = str(value)
    else:
        raise Misfit(ValueError, "expected an integer of at most 38 digits")


def _set_decimal(value: Decimal, out: pb.Value) -> None:
    if not value.is_finite():
        raise Misfit(ValueError, "expected a finite Decimal")
    out.decimal_value = str(value)


def _set_text(value: str, out: pb.Value) -> None:
    try:
        out.string_value = value
    except UnicodeEncodeError as error:
        raise Misfit(ValueError, "there is a surrogate in the text; expected what UTF-8 can carry") from error


def _micros(value: timedelta) -> int:
    return value // _MICROSECOND


def _set_timestamp(value: datetime, out: pb.Value) -> None:
    check_whole_microseconds(value)
    out.timestamp_micros = _micros(value - EPOCH)


def _set_timestamp_ntz(value: datetime, out: pb.Value) -> None:
    check_whole_microseconds(value)
    out.timestamp_ntz_micros = _micros(value - EPOCH_NAIVE)


def _set_interval(value: timedelta, out: pb.Value) -> None:
    check_whole_microseconds(value)
    micros = _micros(value)
    if micros not in _INT64:
        raise Misfit(ValueError, "expected an interval of at most 2^63 microseconds")
    out.day_time_interval_micros = micros


def set_natural(value: Any, out: pb.Value) -> None:
    """Fills `out` by what the value itself is: for variants, and for columns whose table coerces (`ansi`, `legacy`)."""
    value = plain(value)
    if is_null(value):
        # The field may be one of a list: it has to be there, without a kind.
        out.ClearField("kind")
    elif isinstance(value, bool):
        out.bool_value = value
    elif isinstance(value, int):
        _set_int(int(value), out)
    elif isinstance(value, float):
        out.double_value = value
    elif isinstance(value, str):
        _set_text(value, out)
    elif isinstance(value, Decimal):
        _set_decimal(value, out)
    elif isinstance(value, (bytes, bytearray, memoryview)):
        out.bytes_value = bytes(value)
    elif isinstance(value, datetime):
        if value.tzinfo is None:
            _set_timestamp_ntz(value, out)
        else:
            _set_timestamp(value, out)
    elif isinstance(value, date):
        out.date_days = value.toordinal() - EPOCH_DAY
    elif isinstance(value, timedelta):
        _set_interval(value, out)
    elif isinstance(value, Mapping):
        _set_mapping(value, out)
    elif dataclasses.is_dataclass(value) or _row_names(value) is not None:
        _set_mapping(_by_name(value), out)
    else:
        out.list_value.SetInParent()
        for at, element in enumerate(_elements(value, "a value that can be stored")):
            try:
                set_natural(element, out.list_value.values.add())
            except Misfit as misfit:
                raise misfit.under(f"[{at}]") from None


def _set_mapping(value: Mapping[Any, Any], out: pb.Value) -> None:
    out.map_value.SetInParent()
    for name, element in value.items():
        if not isinstance(name, str):
            raise wrong("text as the key of a dict", name)
        entry = out.map_value.entries.add()
        try:
            _set_text(name, entry.key)
            set_natural(element, entry.value)
        except Misfit as misfit:
            raise misfit.under(f".{name}") from None


def _row_names(value: Any) -> Optional[Sequence[str]]:
    """The names of a named tuple or of a pyspark Row; None for anything else."""
    if not isinstance(value, tuple):
        return None
    names = getattr(value, "__fields__", None) or getattr(value, "_fields", None)
    return names if isinstance(names, (list, tuple)) else None


def _by_name(value: Any) -> Mapping[str, Any]:
    names = _row_names(value)
    if names is not None:
        return dict(zip(names, value))
    return {member.name: getattr(value, member.name) for member in dataclasses.fields(value)}


def _elements(value: Any, expected: str) -> Sequence[Any]:
    if isinstance(value, (list, tuple)):
        return value
    if isinstance(value, (set, frozenset)):
        return list(value)
    if type(value).__module__ == "numpy" and getattr(value, "shape", ()) != () and hasattr(value, "dtype"):
        # Times are looked at one by one: `tolist` would make integers of nanoseconds.
        return list(value) if value.dtype.kind in "mM" else value.tolist()
    raise wrong(expected, value)


def encoder(data_type: pb.DataType, *, lenient: bool = False, drop_unknown: bool = False) -> Encode:
    """A function that fills a Value with a Python value of the type, or raises `Misfit`.

    `lenient`: what is not of the type is sent as what it is, for tables that coerce (`ansi`, `legacy`). `drop_unknown`: fields that
    a struct does not have are sent and left to the gateway, for tables that drop them.
    """
    strict, expected = _strict_encoder(data_type, lenient, drop_unknown)

    def encode(value: Any, out: pb.Value) -> None:
        if value is None or strict(value, out):
            return
        found = plain(value)
        if is_null(found) or (found is not value and strict(found, out)):
            return
        if not lenient:
            raise wrong(f"{expected} for {type_name(data_type)}", value)
        set_natural(found, out)

    quick = _QUICK.get(data_type.primitive) if data_type.WhichOneof("type") == "primitive" else None
    return encode if quick is None else quick(encode)


# Nearly every value of a row is a float, an int or a str where that is expected. Each of these takes it at once, for a third less time
# than the general way, and leaves everything else to that.


def _quick_double(encode: Encode) -> Encode:
    def quick(value: Any, out: pb.Value) -> None:
        if type(value) is float:
            out.double_value = value
        else:
            encode(value, out)

    return quick


def _quick_int(encode: Encode) -> Encode:
    def quick(value: Any, out: pb.Value) -> None:
        if type(value) is int and value in _INT64:
            out.int_value = value
        else:
            encode(value, out)

    return quick


def _quick_text(encode: Encode) -> Encode:
    def quick(value: Any, out: pb.Value) -> None:
        if type(value) is str and value.isascii():
            # No surrogate to be told about.
            out.string_value = value
        else:
            encode(value, out)

    return quick


_QUICK: Dict[int, Callable[[Encode], Encode]] = {
    pb.PRIMITIVE_TYPE_BYTE: _quick_int,
    pb.PRIMITIVE_TYPE_SHORT: _quick_int,
    pb.PRIMITIVE_TYPE_INTEGER: _quick_int,
    pb.PRIMITIVE_TYPE_LONG: _quick_int,
    pb.PRIMITIVE_TYPE_DOUBLE: _quick_double,
    pb.PRIMITIVE_TYPE_STRING: _quick_text,
}


# Each gives whether the value is one of the type, and what is expected.
_Strict = Callable[[Any, pb.Value], bool]


def _strict_encoder(data_type: pb.DataType, lenient: bool, drop_unknown: bool) -> Tuple[_Strict, str]:
    kind = data_type.WhichOneof("type")
    if kind == "primitive":
        found = _PRIMITIVES.get(data_type.primitive)
        if found is None:
            raise ValueError(f"the type {data_type.primitive} is not known to this version of forebay")
        return found
    if kind == "decimal":
        return _integer, "a Decimal, an int or a float"
    if kind in ("char_length", "varchar_length"):
        return _text, "a str"
    if kind == "array":
        encode = encoder(data_type.array.element, lenient=lenient, drop_unknown=drop_unknown)
        return _array(encode, data_type.array.element.primitive)
    if kind == "map":
        return _map(
            encoder(data_type.map.key, lenient=lenient, drop_unknown=drop_unknown),
            encoder(data_type.map.value, lenient=lenient, drop_unknown=drop_unknown),
        )
    if kind == "struct":
        return _struct(data_type.struct, lenient, drop_unknown)
    raise ValueError("a column has no type that is known to this version of forebay")


def _boolean(value: Any, out: pb.Value) -> bool:
    if isinstance(value, bool):
        out.bool_value = value
        return True
    return False


def _integer(value: Any, out: pb.Value) -> bool:
    if isinstance(value, bool):
        return False
    if isinstance(value, int):
        _set_int(int(value), out)
    elif isinstance(value, float):
        out.double_value = value
    elif isinstance(value, Decimal):
        _set_decimal(value, out)
    else:
        return False
    return True


def _single(value: Any, out: pb.Value) -> bool:
    if isinstance(value, float):
        if math.isfinite(value) and abs(value) > _FLOAT_MAX:
            # As a float it would be an infinity; as a double the gateway rejects the row.
            out.double_value = value
        else:
            out.float_value = value
        return True
    return _integer(value, out)


def _double(value: Any, out: pb.Value) -> bool:
    if isinstance(value, float):
        out.double_value = value
        return True
    return _integer(value, out)


def _text(value: Any, out: pb.Value) -> bool:
    if isinstance(value, str):
        _set_text(value, out)
        return True
    return False


def _binary(value: Any, out: pb.Value) -> bool:
    if isinstance(value, (bytes, bytearray, memoryview)):
        out.bytes_value = bytes(value)
        return True
    return False


def _date(value: Any, out: pb.Value) -> bool:
    if isinstance(value, date) and not isinstance(value, datetime):
        out.date_days = value.toordinal() - EPOCH_DAY
        return True
    return False


def _timestamp(value: Any, out: pb.Value) -> bool:
    if isinstance(value, datetime) and value.tzinfo is not None and not is_null(value):
        _set_timestamp(value, out)
        return True
    return False


def _timestamp_ntz(value: Any, out: pb.Value) -> bool:
    if isinstance(value, datetime) and value.tzinfo is None and not is_null(value):
        _set_timestamp_ntz(value, out)
        return True
    return False


def _day_time_interval(value: Any, out: pb.Value) -> bool:
    if isinstance(value, timedelta) and not is_null(value):
        _set_interval(value, out)
        return True
    return False


def _year_month_interval(value: Any, out: pb.Value) -> bool:
    if isinstance(value, int) and not isinstance(value, bool):
        if value not in _INT32:
            raise Misfit(ValueError, "expected at most 2^31 months")
        out.year_month_interval_months = value
        return True
    return False


def _variant(value: Any, out: pb.Value) -> bool:
    set_natural(value, out)
    return True


_INT = (_integer, "an int")
_PRIMITIVES: Dict[int, Tuple[_Strict, str]] = {
    pb.PRIMITIVE_TYPE_BYTE: _INT,
    pb.PRIMITIVE_TYPE_SHORT: _INT,
    pb.PRIMITIVE_TYPE_INTEGER: _INT,
    pb.PRIMITIVE_TYPE_LONG: _INT,
    pb.PRIMITIVE_TYPE_FLOAT: (_single, "a float or an int"),
    pb.PRIMITIVE_TYPE_DOUBLE: (_double, "a float or an int"),
    pb.PRIMITIVE_TYPE_STRING: (_text, "a str"),
    pb.PRIMITIVE_TYPE_BOOLEAN: (_boolean, "a bool"),
    pb.PRIMITIVE_TYPE_BINARY: (_binary, "bytes"),
    pb.PRIMITIVE_TYPE_DATE: (_date, "a date without time"),
    pb.PRIMITIVE_TYPE_TIMESTAMP: (_timestamp, "an aware datetime (with a tzinfo)"),
    pb.PRIMITIVE_TYPE_TIMESTAMP_NTZ: (_timestamp_ntz, "a naive datetime (without tzinfo)"),
    pb.PRIMITIVE_TYPE_DAY_TIME_INTERVAL: (_day_time_interval, "a timedelta"),
    pb.PRIMITIVE_TYPE_YEAR_MONTH_INTERVAL: (_year_month_interval, "an int of months"),
    pb.PRIMITIVE_TYPE_VARIANT: (_variant, "a value that can be stored"),
}


def _fill_floats(elements: Sequence[Any], add: Callable[[], pb.Value]) -> None:
    for element in elements:
        add().float_value = element


def _fill_doubles(elements: Sequence[Any], add: Callable[[], pb.Value]) -> None:
    for element in elements:
        add().double_value = element


def _fill_ints(elements: Sequence[Any], add: Callable[[], pb.Value]) -> None:
    for element in elements:
        add().int_value = element


# Embeddings are arrays of hundreds of numbers: three times as fast where all are of one type and within its bounds.
_BULK: Dict[int, Tuple[type, float, float, Callable[[Sequence[Any], Callable[[], pb.Value]], None]]] = {
    pb.PRIMITIVE_TYPE_FLOAT: (float, -_FLOAT_MAX, _FLOAT_MAX, _fill_floats),
    pb.PRIMITIVE_TYPE_DOUBLE: (float, -math.inf, math.inf, _fill_doubles),
    pb.PRIMITIVE_TYPE_INTEGER: (int, -(2**63), 2**63 - 1, _fill_ints),
    pb.PRIMITIVE_TYPE_LONG: (int, -(2**63), 2**63 - 1, _fill_ints),
}


def _array(encode: Encode, primitive: int) -> Tuple[_Strict, str]:
    bulk = _BULK.get(primitive)
    expected = "a list, a tuple or a numpy array"

    def array(value: Any, out: pb.Value) -> bool:
        if isinstance(value, (str, bytes, bytearray, memoryview, Mapping)):
            return False
        try:
            elements = _elements(value, expected)
        except Misfit:
            return False
        out.list_value.SetInParent()
        add = out.list_value.values.add
        if bulk is not None and elements:
            kind, least, most, fill = bulk
            # A NaN that comes first is within no bounds, and one that comes later hides none that are not.
            if set(map(type, elements)) == {kind} and min(elements) >= least and max(elements) <= most:
                fill(elements, add)
                return True
        for at, element in enumerate(elements):
            try:
                encode(element, add())
            except Misfit as misfit:
                raise misfit.under(f"[{at}]") from None
        return True

    return array, expected


def _map(encode_key: Encode, encode_value: Encode) -> Tuple[_Strict, str]:
    def map_(value: Any, out: pb.Value) -> bool:
        if not isinstance(value, Mapping):
            return False
        out.map_value.SetInParent()
        for at, (key, element) in enumerate(value.items()):
            entry = out.map_value.entries.add()
            # A key may be anything that the caller keeps to himself: its place is shown instead.
            try:
                if is_null(key):
                    raise Misfit(ValueError, "expected a key that is not null")
                encode_key(key, entry.key)
            except Misfit as misfit:
                raise misfit.under(f"{{key {at}}}") from None
            try:
                encode_value(element, entry.value)
            except Misfit as misfit:
                raise misfit.under(f"{{{at}}}") from None
        return True

    return map_, "a dict"


def _struct(struct: pb.StructType, lenient: bool, drop_unknown: bool) -> Tuple[_Strict, str]:
    fields = [
        (field.name, encoder(field.type, lenient=lenient, drop_unknown=drop_unknown)) for field in struct.fields
    ]
    names = [name for name, _ in fields]
    known = frozenset(names)

    def struct_(value: Any, out: pb.Value) -> bool:
        if isinstance(value, Mapping):
            by_name: Mapping[Any, Any] = value
        elif isinstance(value, tuple) and _row_names(value) is None or isinstance(value, list):
            if len(value) != len(names):
                raise Misfit(ValueError, f"expected {len(names)} values, one for each of {', '.join(names)}; found {len(value)}")
            by_name = dict(zip(names, value))
        elif isinstance(value, tuple) or (dataclasses.is_dataclass(value) and not isinstance(value, type)):
            by_name = _by_name(value)
        else:
            return False
        unknown = [name for name in by_name if name not in known]
        if unknown and not drop_unknown:
            raise Misfit(ValueError, f"there is no such field; expected {', '.join(names)}", f".{unknown[0]}")
        if unknown:
            _named_struct(by_name, fields, unknown, out)
            return True
        out.struct_value.SetInParent()
        add = out.struct_value.values.add
        for name, encode in fields:
            try:
                encode(by_name.get(name), add())
            except Misfit as misfit:
                raise misfit.under(f".{name}") from None
        return True

    return struct_, f"a dict with {', '.join(names)}"


def _named_struct(
    by_name: Mapping[Any, Any], fields: Sequence[Tuple[str, Encode]], unknown: Sequence[Any], out: pb.Value
) -> None:
    # By name, so that the gateway sees, counts and drops what the struct does not have.
    out.map_value.SetInParent()
    encodes: List[Tuple[Any, Encode]] = [(name, encode) for name, encode in fields if name in by_name]
    encodes += [(name, set_natural) for name in unknown]
    for name, encode in encodes:
        if not isinstance(name, str):
            raise wrong("text as the name of a field", name)
        entry = out.map_value.entries.add()
        try:
            _set_text(name, entry.key)
            encode(by_name[name], entry.value)
        except Misfit as misfit:
            raise misfit.under(f".{name}") from None
