"""What text and JSON are as values of a type, and values as JSON: exact, or refused without showing the value."""

from __future__ import annotations

import math
from datetime import date, datetime, timedelta, timezone
from decimal import Decimal
from typing import Any

import pytest

from forebay._literals import NotALiteral, from_json, from_text, to_json
from forebay.v1 import types_pb2 as pb


def primitive(name: str) -> pb.DataType:
    return pb.DataType(primitive=pb.PrimitiveType.Value(f"PRIMITIVE_TYPE_{name}"))


DECIMAL = pb.DataType(decimal=pb.DecimalType(precision=10, scale=2))
NUMBERS = pb.DataType(array=pb.ArrayType(element=primitive("DOUBLE"), contains_null=True))
PLACE = pb.DataType(
    struct=pb.StructType(fields=[pb.Field(name="day", type=primitive("DATE")), pb.Field(name="at", type=NUMBERS)])
)
BY_DAY = pb.DataType(map=pb.MapType(key=primitive("DATE"), value=PLACE))


@pytest.mark.parametrize(
    "text, kind, value",
    [
        (" 17 ", primitive("INTEGER"), 17),
        ("-0", primitive("LONG"), 0),
        (" 17 ", primitive("STRING"), " 17 "),
        ("x", pb.DataType(varchar_length=3), "x"),
        ("1e3", primitive("DOUBLE"), 1000.0),
        ("-Infinity", primitive("DOUBLE"), -math.inf),
        ("12.50", DECIMAL, Decimal("12.50")),
        ("TRUE", primitive("BOOLEAN"), True),
        ("0", primitive("BOOLEAN"), False),
        ("AP8=", primitive("BINARY"), b"\x00\xff"),
        ("2026-01-31", primitive("DATE"), date(2026, 1, 31)),
        ("2026-01-31T12:00Z", primitive("TIMESTAMP"), datetime(2026, 1, 31, 12, tzinfo=timezone.utc)),
        ("2026-01-31 14:00:00.5+02:00", primitive("TIMESTAMP"), datetime(2026, 1, 31, 12, 0, 0, 500000, timezone.utc)),
        ("2026-01-31T12:00:00.123456000", primitive("TIMESTAMP_NTZ"), datetime(2026, 1, 31, 12, 0, 0, 123456)),
        ("-5", primitive("DAY_TIME_INTERVAL"), timedelta(microseconds=-5)),
        ("14", primitive("YEAR_MONTH_INTERVAL"), 14),
    ],
)
def test_an_exact_literal_is_read(text: str, kind: pb.DataType, value: Any) -> None:
    found = from_text(text, kind)
    assert found == value and type(found) is type(value)


@pytest.mark.parametrize(
    "text, kind",
    [
        ("1.5", primitive("INTEGER")),
        ("1" * 5000, primitive("LONG")),
        ("1_000", primitive("DOUBLE")),
        ("0x10", primitive("DOUBLE")),
        ("12,5", DECIMAL),
        ("yes", primitive("BOOLEAN")),
        ("AP8", primitive("BINARY")),
        ("31.01.2026", primitive("DATE")),
        ("2027-01-31T12:00:00", primitive("TIMESTAMP")),
        ("2027-01-31T12:00:00Z", primitive("TIMESTAMP_NTZ")),
        ("2026-01-31T25:00:00Z", primitive("TIMESTAMP")),
        ("2026-01-31T12:00:00.1234567Z", primitive("TIMESTAMP")),
        ("9" * 30, primitive("DAY_TIME_INTERVAL")),
        ("[1]", NUMBERS),
    ],
)
def test_what_is_no_literal_is_refused_and_not_shown(text: str, kind: pb.DataType) -> None:
    with pytest.raises(NotALiteral) as caught:
        from_text(text, kind)
    assert text not in str(caught.value) and "expected" in str(caught.value)


def test_json_keeps_every_digit_and_reads_text_where_json_has_no_form() -> None:
    value = {"2026-01-01": {"day": "2026-01-02", "at": [1, None, Decimal("2.5")]}}
    assert from_json(value, BY_DAY) == {date(2026, 1, 1): {"day": date(2026, 1, 2), "at": [1, None, 2.5]}}
    assert from_json(Decimal("0.10"), DECIMAL) == Decimal("0.10")
    assert from_json(2**60, primitive("LONG")) == 2**60
    assert from_json(Decimal("17.0"), primitive("LONG")) == 17


@pytest.mark.parametrize(
    "value, kind, path",
    [
        ({"2026-01-01": {"at": [1, "two"]}}, BY_DAY, "[...].at[1]"),
        ({"2026-01-01": {"zip": 1}}, BY_DAY, "[...].zip"),
        ({"someday": {}}, BY_DAY, ".key"),
        (True, primitive("INTEGER"), ""),
        ("17", primitive("INTEGER"), ""),
        (17, primitive("STRING"), ""),
        (Decimal("1.5"), primitive("INTEGER"), ""),
        (1, primitive("BOOLEAN"), ""),
        ({}, NUMBERS, ""),
    ],
)
def test_json_of_another_type_is_refused_with_its_place(value: Any, kind: pb.DataType, path: str) -> None:
    with pytest.raises(NotALiteral) as caught:
        from_json(value, kind)
    assert caught.value.path == path


@pytest.mark.parametrize(
    "value, kind, json",
    [
        (0.10000000149011612, primitive("FLOAT"), 0.1),
        (0.10000000149011612, primitive("DOUBLE"), 0.10000000149011612),
        ([0.10000000149011612], pb.DataType(array=pb.ArrayType(element=primitive("FLOAT"))), [0.1]),
        (math.nan, None, "NaN"),
        (-math.inf, None, "-Infinity"),
        (Decimal("1E+2"), None, "100"),
        (Decimal("12.50"), None, "12.50"),
        (b"\x00\xff", None, "AP8="),
        (datetime(2026, 1, 31, 14, tzinfo=timezone(timedelta(hours=2))), None, "2026-01-31T12:00:00Z"),
        (datetime(2026, 1, 31, 14), None, "2026-01-31T14:00:00"),
        (timedelta(seconds=-1), None, -1_000_000),
        ({True: 1, date(2026, 1, 1): 2, 3: None}, None, {"true": 1, "2026-01-01": 2, "3": None}),
    ],
)
def test_values_are_json_of_the_commands_forms(value: Any, kind: Any, json: Any) -> None:
    assert to_json(value, kind) == json
