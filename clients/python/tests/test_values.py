"""Python values as the protocol's, and back."""

from __future__ import annotations

import math
import sys
from collections import namedtuple
from dataclasses import dataclass
from datetime import date, datetime, timedelta, timezone
from decimal import Decimal, localcontext
from pathlib import Path
from typing import Any, List, Tuple

import pytest

from forebay._decode import decoder, natural
from forebay._encode import encoder, set_natural
from forebay._schema import KeyEncoder, RowDecoder, ddl, row_encoder
from forebay._values import Misfit
from forebay.v1 import read_pb2, table_pb2
from forebay.v1 import types_pb2 as pb

sys.path.insert(0, str(Path(__file__).resolve().parent))
from random_values import pairs, primitive, same  # noqa: E402

INT = primitive(pb.PRIMITIVE_TYPE_INTEGER)
LONG = primitive(pb.PRIMITIVE_TYPE_LONG)
FLOAT = primitive(pb.PRIMITIVE_TYPE_FLOAT)
DOUBLE = primitive(pb.PRIMITIVE_TYPE_DOUBLE)
STRING = primitive(pb.PRIMITIVE_TYPE_STRING)
BINARY = primitive(pb.PRIMITIVE_TYPE_BINARY)
BOOLEAN = primitive(pb.PRIMITIVE_TYPE_BOOLEAN)
DATE = primitive(pb.PRIMITIVE_TYPE_DATE)
TIMESTAMP = primitive(pb.PRIMITIVE_TYPE_TIMESTAMP)
NTZ = primitive(pb.PRIMITIVE_TYPE_TIMESTAMP_NTZ)
DAYS = primitive(pb.PRIMITIVE_TYPE_DAY_TIME_INTERVAL)
MONTHS = primitive(pb.PRIMITIVE_TYPE_YEAR_MONTH_INTERVAL)
VARIANT = primitive(pb.PRIMITIVE_TYPE_VARIANT)
MONEY = pb.DataType(decimal=pb.DecimalType(precision=10, scale=2))


def array(element: pb.DataType) -> pb.DataType:
    return pb.DataType(array=pb.ArrayType(element=element, contains_null=True))


def map_(key: pb.DataType, value: pb.DataType) -> pb.DataType:
    return pb.DataType(map=pb.MapType(key=key, value=value, value_contains_null=True))


def struct(**fields: pb.DataType) -> pb.DataType:
    listed = [pb.Field(name=name, type=data_type, nullable=True) for name, data_type in fields.items()]
    return pb.DataType(struct=pb.StructType(fields=listed))


def encode(data_type: pb.DataType, value: Any, **options: bool) -> pb.Value:
    out = pb.Value()
    encoder(data_type, **options)(value, out)
    return out


def refused(data_type: pb.DataType, value: Any, **options: bool) -> Exception:
    with pytest.raises(Misfit) as caught:
        encode(data_type, value, **options)
    return caught.value.error("column")


@pytest.mark.parametrize("seed", range(20))
def test_what_is_read_back_is_what_was_written(seed: int) -> None:
    for data_type, value in pairs(seed, 100):
        wire = pb.Value.FromString(encode(data_type, value).SerializeToString())
        assert same(decoder(data_type)(wire), value), ddl(pb.Schema(fields=[pb.Field(name="x", type=data_type)]))


@pytest.mark.parametrize(
    "data_type, value, expected",
    [
        (INT, 7, pb.Value(int_value=7)),
        (INT, 3.0, pb.Value(double_value=3.0)),
        (INT, Decimal("3"), pb.Value(decimal_value="3")),
        (INT, 2**64, pb.Value(decimal_value=str(2**64))),
        (FLOAT, 0.1, pb.Value(float_value=0.1)),
        (FLOAT, 1e39, pb.Value(double_value=1e39)),
        (FLOAT, -math.inf, pb.Value(float_value=-math.inf)),
        (DOUBLE, 2, pb.Value(int_value=2)),
        (MONEY, Decimal("-12.50"), pb.Value(decimal_value="-12.50")),
        (MONEY, Decimal("1E+3"), pb.Value(decimal_value="1E+3")),
        (BINARY, bytearray(b"\x00\xff"), pb.Value(bytes_value=b"\x00\xff")),
        (BINARY, memoryview(b"ab"), pb.Value(bytes_value=b"ab")),
        (DATE, date(1969, 12, 31), pb.Value(date_days=-1)),
        (TIMESTAMP, datetime(1969, 12, 31, 23, 59, 59, 999999, timezone.utc), pb.Value(timestamp_micros=-1)),
        (TIMESTAMP, datetime(1970, 1, 1, 1, tzinfo=timezone(timedelta(hours=1))), pb.Value(timestamp_micros=0)),
        (NTZ, datetime(1970, 1, 1, 0, 0, 0, 1), pb.Value(timestamp_ntz_micros=1)),
        (DAYS, timedelta(days=-1, microseconds=1), pb.Value(day_time_interval_micros=-86_399_999_999)),
        (MONTHS, 14, pb.Value(year_month_interval_months=14)),
        (STRING, None, pb.Value()),
    ],
)
def test_a_value_has_the_kind_of_what_it_is(data_type: pb.DataType, value: Any, expected: pb.Value) -> None:
    assert encode(data_type, value) == expected


@pytest.mark.parametrize(
    "data_type, value, message",
    [
        (INT, "7", "expected an int for INT; found str"),
        (INT, True, "expected an int for INT; found bool"),
        (INT, [1], "expected an int for INT; found list"),
        (DOUBLE, "x", "expected a float or an int for DOUBLE; found str"),
        (MONEY, "1.50", "expected a Decimal, an int or a float for DECIMAL(10, 2); found str"),
        (STRING, 7, "expected a str for STRING; found int"),
        (STRING, b"x", "expected a str for STRING; found bytes"),
        (BINARY, "x", "expected bytes for BINARY; found str"),
        (BOOLEAN, 1, "expected a bool for BOOLEAN; found int"),
        (DATE, datetime(2024, 1, 1), "expected a date without time for DATE; found a naive datetime"),
        (DATE, "2024-01-01", "expected a date without time for DATE; found str"),
        (TIMESTAMP, datetime(2024, 1, 1), "expected an aware datetime (with a tzinfo) for TIMESTAMP; found a naive datetime"),
        (TIMESTAMP, 1700000000, "expected an aware datetime (with a tzinfo) for TIMESTAMP; found int"),
        (NTZ, datetime(2024, 1, 1, tzinfo=timezone.utc), "expected a naive datetime (without tzinfo) for TIMESTAMP_NTZ; found an aware datetime"),
        (DAYS, 5, "expected a timedelta for INTERVAL DAY TO SECOND; found int"),
        (MONTHS, timedelta(1), "expected an int of months for INTERVAL YEAR TO MONTH; found timedelta"),
        (array(INT), "abc", "expected a list, a tuple or a numpy array for ARRAY<INT>; found str"),
        (array(INT), {"a": 1}, "expected a list, a tuple or a numpy array for ARRAY<INT>; found dict"),
        (map_(STRING, INT), [1], "expected a dict for MAP<STRING, INT>; found list"),
        (struct(hr=INT), 5, "expected a dict with hr for STRUCT<hr: INT>; found int"),
        (STRING, object(), "expected a str for STRING; found object"),
        (VARIANT, object(), "expected a value that can be stored; found object"),
    ],
)
def test_a_wrong_type_is_named_with_what_was_expected(data_type: pb.DataType, value: Any, message: str) -> None:
    error = refused(data_type, value)
    assert isinstance(error, TypeError) and str(error) == f"column: {message}"


@pytest.mark.parametrize(
    "data_type, value, message",
    [
        (array(struct(hr=INT)), [{"hr": 1}, {"hr": "x"}], "column[1].hr: expected an int for INT; found str"),
        (map_(STRING, array(INT)), {"a": [1, "x"]}, "column{0}[1]: expected an int for INT; found str"),
        (map_(STRING, INT), {7: 1}, "column{key 0}: expected a str for STRING; found int"),
        (map_(STRING, INT), {None: 1}, "column{key 0}: expected a key that is not null"),
        (struct(a=struct(b=INT)), {"a": {"c": 1}}, "column.a.c: there is no such field; expected b"),
        (struct(a=INT, b=INT), (1,), "column: expected 2 values, one for each of a, b; found 1"),
        (VARIANT, {"a": [1, object()]}, "column.a[1]: expected a value that can be stored; found object"),
        (VARIANT, {1: 2}, "column: expected text as the key of a dict; found int"),
        (INT, 10**40, "column: expected an integer of at most 38 digits"),
        (MONEY, Decimal("NaN"), "column: expected a finite Decimal"),
        (STRING, "\ud800", "column: there is a surrogate in the text; expected what UTF-8 can carry"),
        (MONTHS, 2**31, "column: expected at most 2^31 months"),
        (DAYS, timedelta.max, "column: expected an interval of at most 2^63 microseconds"),
    ],
)
def test_the_place_is_named_and_the_value_is_not(data_type: pb.DataType, value: Any, message: str) -> None:
    assert str(refused(data_type, value)) == message


def test_nulls_are_nulls_at_every_depth() -> None:
    data_type = array(struct(a=map_(STRING, INT), b=INT))
    value = [None, {"a": None, "b": None}, {"a": {"k": None}, "b": 1}]
    assert decoder(data_type)(encode(data_type, value)) == value
    assert encode(array(INT), []).WhichOneof("kind") == "list_value", "an empty array is no null"
    assert encode(map_(STRING, INT), {}).WhichOneof("kind") == "map_value"
    assert encode(struct(a=INT), {}).WhichOneof("kind") == "struct_value"
    assert encode(VARIANT, []).WhichOneof("kind") == "list_value"


def test_structs_come_as_dicts_dataclasses_named_tuples_and_sequences() -> None:
    data_type = struct(a=INT, b=STRING)

    @dataclass
    class Pair:
        a: int
        b: str

    Named = namedtuple("Named", ["b", "a"])
    expected = {"a": 1, "b": "x"}
    for value in ({"b": "x", "a": 1}, Pair(1, "x"), Named("x", 1), (1, "x"), [1, "x"]):
        assert decoder(data_type)(encode(data_type, value)) == expected
    assert decoder(data_type)(encode(data_type, {"b": "x"})) == {"a": None, "b": "x"}


def test_long_arrays_are_what_short_ones_are() -> None:
    for data_type, values in (
        (FLOAT, [0.5, 0.0, -0.25]),
        (FLOAT, [0.5, 1e39]),
        (FLOAT, [0.5, None, 1]),
        (DOUBLE, [0.5, math.inf, -0.0]),
        (DOUBLE, [1, 2.5]),
        (INT, [2**63 - 1, 0, -(2**63)]),
        (INT, [1, 2**63]),
        (LONG, [1, None]),
        (STRING, ["", "x", None]),
    ):
        one_by_one = [encode(data_type, value) for value in values]
        together = encode(array(data_type), values)
        assert list(together.list_value.values) == one_by_one
        assert same(decoder(array(data_type))(together), [decoder(data_type)(value) for value in one_by_one])
        assert [type(value) for value in decoder(array(data_type))(together)] == [type(natural(value)) for value in one_by_one]
    assert str(refused(array(INT), [1, True])) == "column[1]: expected an int for INT; found bool"
    assert math.isnan(decoder(array(FLOAT))(encode(array(FLOAT), [1.0, math.nan]))[1])


def test_sets_and_arrays_of_tuples_are_arrays() -> None:
    assert sorted(decoder(array(INT))(encode(array(INT), {3, 1, 2}))) == [1, 2, 3]
    assert decoder(array(array(INT)))(encode(array(array(INT)), ((1, 2), ()))) == [[1, 2], []]


def test_a_table_that_coerces_gets_values_as_what_they_are() -> None:
    assert encode(INT, "12", lenient=True) == pb.Value(string_value="12")
    assert encode(STRING, 12, lenient=True) == pb.Value(int_value=12)
    assert encode(TIMESTAMP, date(1970, 1, 2), lenient=True) == pb.Value(date_days=1)
    assert encode(array(INT), ["1"], lenient=True).list_value.values[0] == pb.Value(string_value="1")
    assert isinstance(refused(INT, object(), lenient=True), TypeError)


def test_a_table_that_drops_unknown_fields_is_sent_them_by_name() -> None:
    value = encode(struct(a=INT), {"a": 1, "zz": [2]}, drop_unknown=True)
    assert natural(value) == {"a": 1, "zz": [2]}


def test_variants_keep_what_they_are() -> None:
    value = {"i": 2**62, "f": 0.5, "d": Decimal("1.50"), "t": "x", "n": None, "b": True, "l": [1, {"k": b"x"}], "big": 2**70}
    expected = {**value, "big": Decimal(2**70)}
    assert same(natural(encode(VARIANT, value)), expected)
    moment = datetime(2024, 1, 1, tzinfo=timezone.utc)
    assert natural(encode(VARIANT, [moment, date(2024, 1, 1), timedelta(1)])) == [moment, date(2024, 1, 1), timedelta(1)]


def test_decimals_come_with_the_scale_of_their_column_whatever_the_thread_rounds_to() -> None:
    wide = pb.DataType(decimal=pb.DecimalType(precision=38, scale=18))
    with localcontext() as context:
        context.prec = 3
        assert str(decoder(wide)(pb.Value(decimal_value="12345678901234567890.5"))) == "12345678901234567890.500000000000000000"
        assert str(decoder(MONEY)(pb.Value(decimal_value="7"))) == "7.00"
        negative = pb.DataType(decimal=pb.DecimalType(precision=5, scale=-2))
        assert decoder(negative)(pb.Value(decimal_value="1200")) == Decimal("12E+2")
        assert encode(MONEY, Decimal("12345678.91")) == pb.Value(decimal_value="12345678.91")


def test_what_python_cannot_have_names_its_column() -> None:
    schema = pb.Schema(fields=[pb.Field(name="days", type=array(DATE))])
    row = pb.Row(values=[pb.Value(list_value=pb.ListValue(values=[pb.Value(), pb.Value(date_days=10**7)]))])
    with pytest.raises(ValueError, match=r"^days\[1\]: the date is outside of the years 1 to 9999"):
        RowDecoder(schema).decode(row)
    for kind, data_type in (("timestamp_micros", TIMESTAMP), ("timestamp_ntz_micros", NTZ)):
        with pytest.raises(Misfit, match="the time is outside"):
            decoder(data_type)(pb.Value(**{kind: 2**62}))


def test_missing_trailing_values_are_nulls() -> None:
    schema = pb.Schema(fields=[pb.Field(name="a", type=INT), pb.Field(name="s", type=struct(x=INT, y=INT))])
    short = pb.Row(values=[pb.Value(int_value=1)])
    assert RowDecoder(schema).decode(short) == {"a": 1, "s": None}
    partly = pb.Value(struct_value=pb.StructValue(values=[pb.Value(int_value=2)]))
    assert RowDecoder(schema).decode(pb.Row(values=[pb.Value(), partly])) == {"a": None, "s": {"x": 2, "y": None}}


# Rows and keys.

TABLE = table_pb2.Table(
    name="readings",
    schema=pb.Schema(
        fields=[
            pb.Field(name="id", type=STRING),
            pb.Field(name="day", type=DATE),
            pb.Field(name="hr", type=INT, nullable=True),
        ]
    ),
    key=table_pb2.Key(partition=["id"], sort=["day"]),
)


def test_rows_name_the_column_and_their_place() -> None:
    rows = row_encoder(TABLE, ["id", "hr"])
    out = pb.Row()
    rows.encode({"hr": 5, "id": "a"}, out)
    assert [natural(value) for value in out.values] == ["a", 5]
    cases: List[Tuple[Any, type, str]] = [
        ({"id": "a", "hr": "x"}, TypeError, "rows[3].hr: expected an int for INT; found str"),
        ({"id": "a", "zz": 1}, ValueError, "rows[3].zz: there is no such column here; expected id, hr"),
        (("a",), ValueError, "rows[3].expected 2 values, one for each of id, hr; found 1"),
        ("text", TypeError, "rows[3].expected a dict or a sequence; found str"),
    ]
    for row, kind, message in cases:
        with pytest.raises(kind) as caught:
            rows.encode(row, pb.Row(), "rows[3].")
        assert str(caught.value) == message
    with pytest.raises(ValueError, match="^zz: the table `readings` has no such column; expected some of id, day, hr"):
        row_encoder(TABLE, ["zz"])


def test_a_merge_says_what_becomes_of_each_of_its_columns() -> None:
    rows = row_encoder(TABLE, all_required=True)
    with pytest.raises(ValueError, match="^hr: missing; a merge"):
        rows.encode({"id": "a", "day": date(2024, 1, 1)}, pb.Row())
    rows.encode({"id": "a", "day": date(2024, 1, 1), "hr": None}, pb.Row())


def test_a_key_is_a_tuple_or_a_dict_and_a_scalar_where_it_is_one_column() -> None:
    keys = KeyEncoder(TABLE)
    day = date(2024, 1, 5)
    for key in (("a", day), ["a", day], {"day": day, "id": "a"}):
        out = read_pb2.RowKey()
        keys.row_key(key, out)
        assert [natural(value) for value in out.values] == ["a", day]
    for partition in ("a", ("a",), {"id": "a"}):
        out = read_pb2.RowKey()
        keys.partition_key(partition, out)
        assert [natural(value) for value in out.values] == ["a"]
    out = read_pb2.RowKey()
    keys.sort_key(day, out, "sort_from")
    assert [natural(value) for value in out.values] == [day]


@pytest.mark.parametrize(
    "key, kind, message",
    [
        ("a", ValueError, "key: expected 2 values (id, day); found 1"),
        (("a", date(2024, 1, 5), 1), ValueError, "key: expected 2 values (id, day); found 3"),
        (("a", None), ValueError, "key.day: expected a value; a key has no nulls"),
        (("a", "2024-01-05"), TypeError, "key.day: expected a date without time for DATE; found str"),
        ({"id": "a"}, ValueError, "key.day: missing; expected id, day"),
        ({"id": "a", "hr": 1}, ValueError, "key.hr: no column of the key; expected id, day"),
    ],
)
def test_a_wrong_key_is_named(key: Any, kind: type, message: str) -> None:
    with pytest.raises(kind) as caught:
        KeyEncoder(TABLE).row_key(key, read_pb2.RowKey())
    assert str(caught.value) == message


def test_a_table_without_sort_key_has_no_bounds() -> None:
    table = table_pb2.Table()
    table.CopyFrom(TABLE)
    del table.key.sort[:]
    with pytest.raises(ValueError, match="sort_from: the table `readings` has no sort key"):
        KeyEncoder(table).sort_key(1, read_pb2.RowKey(), "sort_from")


# numpy and pandas.


def test_numpy_scalars_and_arrays_are_what_they_hold() -> None:
    np = pytest.importorskip("numpy")
    assert encode(INT, np.int16(-7)) == pb.Value(int_value=-7)
    assert encode(LONG, np.uint64(2**63)) == pb.Value(decimal_value=str(2**63))
    assert encode(FLOAT, np.float32(0.1)) == pb.Value(float_value=0.1)
    assert encode(DOUBLE, np.float64(0.1)) == pb.Value(double_value=0.1)
    assert encode(BOOLEAN, np.bool_(True)) == pb.Value(bool_value=True)
    assert encode(STRING, np.str_("x")) == pb.Value(string_value="x")
    assert encode(BINARY, np.bytes_(b"x")) == pb.Value(bytes_value=b"x")
    assert encode(DATE, np.datetime64("1970-01-02")) == pb.Value(date_days=1)
    assert encode(NTZ, np.datetime64("1969-12-31T23:59:59.999999")) == pb.Value(timestamp_ntz_micros=-1)
    assert encode(NTZ, np.datetime64("NaT")) == pb.Value()
    assert encode(DAYS, np.timedelta64(5, "ms")) == pb.Value(day_time_interval_micros=5000)
    assert decoder(array(FLOAT))(encode(array(FLOAT), np.array([0.5, 0.25], dtype="float32"))) == [0.5, 0.25]
    assert decoder(array(array(INT)))(encode(array(array(INT)), np.array([[1, 2], [3, 4]]))) == [[1, 2], [3, 4]]
    moments = np.array(["2024-01-01T00:00:00.000001", "NaT"], dtype="datetime64[ns]")
    assert decoder(array(NTZ))(encode(array(NTZ), moments)) == [datetime(2024, 1, 1, 0, 0, 0, 1), None]
    assert "nanoseconds" in str(refused(NTZ, np.datetime64("2024-01-01T00:00:00.000000001")))
    assert natural(encode(VARIANT, {"x": np.int64(1), "y": np.array([1.5])})) == {"x": 1, "y": [1.5]}
    assert isinstance(refused(INT, np.bool_(True)), TypeError)
    # One reads what was written, as numpy has it.
    assert np.float32(decoder(FLOAT)(pb.Value.FromString(encode(FLOAT, np.float32(0.1)).SerializeToString()))) == np.float32(0.1)


def test_pandas_timestamps_and_its_nulls() -> None:
    pd = pytest.importorskip("pandas")
    moment = pd.Timestamp("2024-01-01 01:00", tz="Europe/Berlin")
    assert encode(TIMESTAMP, moment) == encode(TIMESTAMP, datetime(2024, 1, 1, tzinfo=timezone.utc))
    assert encode(NTZ, pd.Timestamp("1970-01-01 00:00:00.000001")) == pb.Value(timestamp_ntz_micros=1)
    assert encode(DAYS, pd.Timedelta("1us")) == pb.Value(day_time_interval_micros=1)
    for null in (pd.NaT, pd.NA):
        for data_type in (TIMESTAMP, NTZ, STRING, INT, DAYS, VARIANT):
            assert encode(data_type, null) == pb.Value()
    for data_type, fine in ((NTZ, pd.Timestamp("2024-01-01 00:00:00.000000001")), (DAYS, pd.Timedelta("1ns"))):
        assert "nanoseconds" in str(refused(data_type, fine))


def test_natural_clears_what_was_there() -> None:
    out = pb.Value(int_value=1)
    set_natural(None, out)
    assert out == pb.Value()
