"""Which of Spark's types cannot be stored, or cannot reach a Python worker at all: found before a task starts, by the
column's name.

The gateway refuses such types, too, when a session opens; but then tasks have started, and what it names is a place in
the schema's JSON. Types are known by their classes' names, because older Sparks lack some. The caller is
`schema_check`.
"""

from __future__ import annotations

from typing import Any, Iterator, Tuple

_ADVICE = {
    "NullType": "has only nulls (type void); cast it to the type that it should have, or drop it",
    "CalendarIntervalType": "is a calendar interval, which has no stored form; use a day-time interval",
    "TimeType": "is a TIME, which has no stored form; cast it to text, or to a day-time interval since midnight",
    "GeometryType": "is a geometry, which has no stored form; write st_asbinary(...) of it",
    "GeographyType": "is a geography, which has no stored form; write st_asbinary(...) of it",
    "YearMonthIntervalType": (
        "is an interval of months, which Spark's Python workers cannot carry; write the months, "
        "cast(cast(... as interval month) as int), with storeAssignmentPolicy legacy where the table has an interval"
    ),
}
_MAP_KEYS = (
    "StringType",
    "CharType",
    "VarcharType",
    "ByteType",
    "ShortType",
    "IntegerType",
    "LongType",
    "BooleanType",
    "DateType",
    "DecimalType",
)


def check_types(schema: Any) -> None:
    """Raises `ValueError` for the first column with a type that cannot be stored: its path, why, and what to do."""
    for field in schema.fields:
        for path, problem in _problems(field.name, field.dataType):
            raise ValueError(f"column `{path}`: {problem}")


def _problems(path: str, data_type: Any) -> Iterator[Tuple[str, str]]:
    kind = type(data_type).__name__
    if kind in _ADVICE:
        yield path, _ADVICE[kind]
    elif kind == "ArrayType":
        yield from _problems(f"{path}[]", data_type.elementType)
    elif kind == "MapType":
        key = data_type.keyType
        if type(key).__name__ not in _MAP_KEYS:
            yield (
                path,
                f"has keys of type {key.simpleString()}; expected text, whole numbers, decimals, booleans or dates, "
                "which have one text each",
            )
        yield from _problems(f"{path}{{}}", data_type.valueType)
    elif kind == "StructType":
        for field in data_type.fields:
            yield from _problems(f"{path}.{field.name}", field.dataType)
    elif hasattr(data_type, "sqlType"):
        # A user-defined type is stored as what it is made of.
        yield from _problems(path, data_type.sqlType())
