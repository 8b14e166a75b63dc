"""Random types and values of them, from a seed: for tests that want more cases than people think of."""

from __future__ import annotations

import random
import struct
import string
from datetime import date, datetime, timedelta, timezone
from decimal import Decimal
from typing import Any, Tuple

from forebay.v1 import types_pb2 as pb

ZONES = [timezone.utc, timezone(timedelta(hours=5, minutes=30)), timezone(timedelta(hours=-8))]
WIDTHS = {
    pb.PRIMITIVE_TYPE_BYTE: 8,
    pb.PRIMITIVE_TYPE_SHORT: 16,
    pb.PRIMITIVE_TYPE_INTEGER: 32,
    pb.PRIMITIVE_TYPE_LONG: 64,
}
SCALARS = [
    *WIDTHS,
    pb.PRIMITIVE_TYPE_FLOAT,
    pb.PRIMITIVE_TYPE_DOUBLE,
    pb.PRIMITIVE_TYPE_STRING,
    pb.PRIMITIVE_TYPE_BOOLEAN,
    pb.PRIMITIVE_TYPE_BINARY,
    pb.PRIMITIVE_TYPE_DATE,
    pb.PRIMITIVE_TYPE_TIMESTAMP,
    pb.PRIMITIVE_TYPE_TIMESTAMP_NTZ,
    pb.PRIMITIVE_TYPE_DAY_TIME_INTERVAL,
    pb.PRIMITIVE_TYPE_YEAR_MONTH_INTERVAL,
]


def primitive(of: int) -> pb.DataType:
    """A type without parameters."""
    return pb.DataType(primitive=of)  # type: ignore[arg-type]


def random_type(chance: random.Random, depth: int = 3) -> pb.DataType:
    """A type, nested up to `depth`."""
    kind = chance.choice(["scalar", "scalar", "decimal", "varchar", "array", "map", "struct"] if depth else ["scalar"])
    if kind == "decimal":
        precision = chance.randint(1, 38)
        return pb.DataType(decimal=pb.DecimalType(precision=precision, scale=chance.randint(0, precision)))
    if kind == "varchar":
        return pb.DataType(varchar_length=100)
    if kind == "array":
        return pb.DataType(array=pb.ArrayType(element=random_type(chance, depth - 1), contains_null=True))
    if kind == "map":
        key = primitive(chance.choice([pb.PRIMITIVE_TYPE_STRING, pb.PRIMITIVE_TYPE_LONG, pb.PRIMITIVE_TYPE_DATE]))
        return pb.DataType(map=pb.MapType(key=key, value=random_type(chance, depth - 1), value_contains_null=True))
    if kind == "struct":
        fields = [
            pb.Field(name=f"f{at}", type=random_type(chance, depth - 1), nullable=True)
            for at in range(chance.randint(1, 4))
        ]
        return pb.DataType(struct=pb.StructType(fields=fields))
    return primitive(chance.choice(SCALARS))


def random_value(chance: random.Random, data_type: pb.DataType, *, nulls: bool = True) -> Any:
    """A value of the type as Python has it; sometimes None."""
    if nulls and chance.random() < 0.15:
        return None
    kind = data_type.WhichOneof("type")
    if kind == "decimal":
        digits = chance.randint(1, data_type.decimal.precision)
        # As a tuple: arithmetic would round to the context's 28 digits. A zero has no sign in a table.
        number = chance.randrange(10**digits)
        negative = chance.choice([0, 1]) if number else 0
        return Decimal((negative, tuple(map(int, str(number))), -data_type.decimal.scale))
    if kind in ("varchar_length", "char_length"):
        return random_text(chance)
    if kind == "array":
        return [random_value(chance, data_type.array.element) for _ in range(chance.randint(0, 4))]
    if kind == "map":
        keys = [random_value(chance, data_type.map.key, nulls=False) for _ in range(chance.randint(0, 4))]
        return {key: random_value(chance, data_type.map.value) for key in keys}
    if kind == "struct":
        return {field.name: random_value(chance, field.type) for field in data_type.struct.fields}
    return _scalar(chance, data_type.primitive)


def random_text(chance: random.Random) -> str:
    """Text of 1 to 20 characters of several planes."""
    return "".join(chance.choice(string.printable + "äß€漢😀") for _ in range(chance.randint(1, 20)))


def _scalar(chance: random.Random, of: int) -> Any:
    if of in WIDTHS:
        bits = chance.randint(1, WIDTHS[of])
        return chance.randrange(-(2 ** (bits - 1)), 2 ** (bits - 1))
    if of == pb.PRIMITIVE_TYPE_FLOAT:
        return struct.unpack("f", struct.pack("f", chance.uniform(-1, 1) * 10.0 ** chance.randint(-30, 30)))[0]
    if of == pb.PRIMITIVE_TYPE_DOUBLE:
        return chance.uniform(-1, 1) * 10.0 ** chance.randint(-100, 100)
    if of == pb.PRIMITIVE_TYPE_STRING:
        return random_text(chance)
    if of == pb.PRIMITIVE_TYPE_BOOLEAN:
        return chance.random() < 0.5
    if of == pb.PRIMITIVE_TYPE_BINARY:
        return bytes(chance.randrange(256) for _ in range(chance.randint(1, 20)))
    if of == pb.PRIMITIVE_TYPE_DATE:
        return date.fromordinal(chance.randint(1, date.max.toordinal()))
    if of == pb.PRIMITIVE_TYPE_YEAR_MONTH_INTERVAL:
        return chance.randint(-(2**31), 2**31 - 1)
    if of == pb.PRIMITIVE_TYPE_DAY_TIME_INTERVAL:
        return timedelta(microseconds=chance.randint(-(2**63), 2**63 - 1))
    # Away from the ends, where a zone would lead out of the years that Python has.
    moment = datetime(2, 1, 1) + timedelta(microseconds=chance.randint(0, 9990 * 365 * 86_400 * 10**6))
    return moment.replace(tzinfo=chance.choice(ZONES)) if of == pb.PRIMITIVE_TYPE_TIMESTAMP else moment


def same(one: Any, other: Any) -> bool:
    """Equal in value and in type, all the way down; a Decimal with its scale, a datetime with or without a zone."""
    if type(one) is not type(other):
        return False
    if isinstance(one, dict):
        return list(one) == list(other) and all(same(one[name], other[name]) for name in one)
    if isinstance(one, list):
        return len(one) == len(other) and all(map(same, one, other))
    if isinstance(one, Decimal):
        return one.as_tuple()[1:] == other.as_tuple()[1:] and one == other
    if isinstance(one, datetime):
        return (one.tzinfo is None) == (other.tzinfo is None) and one == other
    if isinstance(one, float):
        return one == other or (one != one and other != other)
    return bool(one == other)


def pairs(seed: int, count: int) -> Tuple[Tuple[pb.DataType, Any], ...]:
    """Types with a value of each."""
    chance = random.Random(seed)
    types = [random_type(chance) for _ in range(count)]
    return tuple((data_type, random_value(chance, data_type)) for data_type in types)
