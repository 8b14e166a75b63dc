"""The protocol's values as Python's, by declared type.

`decoder(type)` gives a function that is made once for each column and called for each value. Invariants: nothing is rounded or cut; what
Python cannot have (the year 10000) is a `Misfit`, never another value. Callers: `_schema` (rows).
"""

from __future__ import annotations

from datetime import date, datetime, timedelta
from decimal import Context, Decimal
from typing import Any, Callable, Dict, List, Optional, Sequence, Tuple

from ._values import EPOCH, EPOCH_DAY, EPOCH_NAIVE, Misfit
from .v1 import types_pb2 as pb

Decode = Callable[[pb.Value], Any]

_WIDE = Context(prec=100)


def decoder(data_type: pb.DataType) -> Decode:
    """A function that gives the Python value of a Value of the type, or raises `Misfit` for what Python cannot have."""
    kind = data_type.WhichOneof("type")
    if kind == "primitive" and data_type.primitive in _FIELDS:
        return _FIELDS[data_type.primitive][0]
    if kind == "array":
        element = decoder(data_type.array.element)
        bulk = _FIELDS[data_type.array.element.primitive][1] if data_type.array.element.primitive in _FIELDS else None
        return lambda value: _list(value, element, bulk)
    if kind == "map":
        key, entry = decoder(data_type.map.key), decoder(data_type.map.value)
        return lambda value: _dict(value, key, entry)
    if kind == "struct":
        fields = [(field.name, decoder(field.type)) for field in data_type.struct.fields]
        return lambda value: _record(value, fields)
    if kind == "decimal":
        exponent = Decimal(1).scaleb(-data_type.decimal.scale)
        return lambda value: _scaled(value, exponent)
    return natural


def natural(value: pb.Value) -> Any:
    """The Python value by the kind of the Value alone."""
    kind = value.WhichOneof("kind")
    if kind is None:
        return None
    return _NATURAL[kind](getattr(value, kind))


def _date_from_days(days: int) -> date:
    try:
        return date.fromordinal(days + EPOCH_DAY)
    except (ValueError, OverflowError):
        raise Misfit(ValueError, "the date is outside of the years 1 to 9999, which Python has") from None


def _datetime(epoch: datetime) -> Callable[[int], datetime]:
    def convert(micros: int) -> datetime:
        try:
            return epoch + timedelta(microseconds=micros)
        except OverflowError:
            raise Misfit(ValueError, "the time is outside of the years 1 to 9999, which Python has") from None

    return convert


def _same(value: Any) -> Any:
    return value


_NATURAL: Dict[str, Callable[[Any], Any]] = {
    "bool_value": _same,
    "int_value": _same,
    "double_value": _same,
    "float_value": _same,
    "string_value": _same,
    "bytes_value": _same,
    "decimal_value": Decimal,
    "timestamp_micros": _datetime(EPOCH),
    "timestamp_ntz_micros": _datetime(EPOCH_NAIVE),
    "date_days": _date_from_days,
    "day_time_interval_micros": lambda micros: timedelta(microseconds=micros),
    "year_month_interval_months": _same,
    "list_value": lambda listed: [_at(f"[{at}]", natural, element) for at, element in enumerate(listed.values)],
    "struct_value": lambda struct: [_at(f"[{at}]", natural, element) for at, element in enumerate(struct.values)],
    "map_value": lambda mapped: {
        natural(entry.key): _at(f"{{{at}}}", natural, entry.value) for at, entry in enumerate(mapped.entries)
    },
}


def _at(step: str, decode: Decode, value: pb.Value) -> Any:
    try:
        return decode(value)
    except Misfit as misfit:
        raise misfit.under(step) from None


def _scaled(value: pb.Value, exponent: Decimal) -> Any:
    found = natural(value)
    if not isinstance(found, Decimal) or found.as_tuple().exponent == exponent.as_tuple().exponent:
        return found
    # 38 digits and as many zeros are more than the context of the thread may have.
    return found.quantize(exponent, context=_WIDE)


# The usual field of a type first: where it is not zero or empty, it is the kind that is set. One function for a value and one for many.
_Many = Callable[[Sequence[pb.Value]], List[Any]]
_FIELDS: Dict[int, Tuple[Decode, _Many]] = {
    pb.PRIMITIVE_TYPE_INTEGER: (
        lambda value: value.int_value or natural(value),
        lambda values: [value.int_value or natural(value) for value in values],
    ),
    pb.PRIMITIVE_TYPE_FLOAT: (
        lambda value: value.float_value or natural(value),
        lambda values: [value.float_value or natural(value) for value in values],
    ),
    pb.PRIMITIVE_TYPE_DOUBLE: (
        lambda value: value.double_value or natural(value),
        lambda values: [value.double_value or natural(value) for value in values],
    ),
    pb.PRIMITIVE_TYPE_STRING: (
        lambda value: value.string_value or natural(value),
        lambda values: [value.string_value or natural(value) for value in values],
    ),
}
_FIELDS[pb.PRIMITIVE_TYPE_LONG] = _FIELDS[pb.PRIMITIVE_TYPE_INTEGER]


def _list(value: pb.Value, element: Decode, bulk: Optional[_Many]) -> Any:
    if value.WhichOneof("kind") != "list_value":
        return natural(value)
    values = value.list_value.values
    if bulk is not None:
        return bulk(values)
    try:
        return [element(one) for one in values]
    except Misfit:
        # Again, for the path.
        return [_at(f"[{at}]", element, one) for at, one in enumerate(values)]


def _dict(value: pb.Value, key: Decode, entry: Decode) -> Any:
    if value.WhichOneof("kind") != "map_value":
        return natural(value)
    return {
        _at(f"{{key {at}}}", key, one.key): _at(f"{{{at}}}", entry, one.value)
        for at, one in enumerate(value.map_value.entries)
    }


def _record(value: pb.Value, fields: Sequence[Tuple[str, Decode]]) -> Any:
    kind = value.WhichOneof("kind")
    if kind == "struct_value":
        values = value.struct_value.values
        # Missing trailing values are null.
        return {
            name: _at(f".{name}", decode, values[at]) if at < len(values) else None
            for at, (name, decode) in enumerate(fields)
        }
    if kind == "map_value":
        by_name = {entry.key.string_value: entry.value for entry in value.map_value.entries}
        return {
            name: _at(f".{name}", decode, by_name[name]) if name in by_name else None for name, decode in fields
        }
    return natural(value)
