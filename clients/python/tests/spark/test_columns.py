"""Values on the wire become Arrow columns: equal, whole, and never a null that was none."""

from __future__ import annotations

import datetime
import decimal
from typing import Any, List

import pytest

pa = pytest.importorskip("pyarrow")

from forebay.spark import variant  # noqa: E402
from forebay.spark.columns import RowsToArrow, arrow_type  # noqa: E402
from forebay.v1 import types_pb2 as pb  # noqa: E402

V = pb.Value
UTC = datetime.timezone.utc


def primitive(name: str) -> pb.DataType:
    return pb.DataType(primitive=pb.PrimitiveType.Value(f"PRIMITIVE_TYPE_{name}"))


def number(precision: int, scale: int) -> pb.DataType:
    return pb.DataType(decimal=pb.DecimalType(precision=precision, scale=scale))


def array(element: pb.DataType) -> pb.DataType:
    return pb.DataType(array=pb.ArrayType(element=element, contains_null=True))


def struct(**fields: pb.DataType) -> pb.DataType:
    return pb.DataType(
        struct=pb.StructType(fields=[pb.Field(name=n, type=t, nullable=True) for n, t in fields.items()])
    )


def items(*values: V) -> V:
    return V(list_value=pb.ListValue(values=values))


def entries(*pairs: Any) -> V:
    return V(map_value=pb.MapValue(entries=[pb.MapEntry(key=key, value=value) for key, value in pairs]))


def column(data_type: pb.DataType, *cells: V) -> Any:
    to_arrow = RowsToArrow(pb.Schema(fields=[pb.Field(name="c", type=data_type, nullable=True)]))
    batch = to_arrow.batch([pb.Row(values=[cell]) for cell in cells])
    batch.validate(full=True)
    return batch.column(0)


@pytest.mark.parametrize(
    "data_type, value, expected",
    [
        (primitive("BYTE"), V(int_value=-128), -128),
        (primitive("LONG"), V(int_value=-(2**63)), -(2**63)),
        (primitive("FLOAT"), V(float_value=1.5), 1.5),
        (primitive("DOUBLE"), V(double_value=5e-324), 5e-324),
        (primitive("STRING"), V(string_value=""), ""),
        (primitive("BOOLEAN"), V(bool_value=False), False),
        (primitive("BINARY"), V(bytes_value=b"\x00"), b"\x00"),
        (primitive("DATE"), V(date_days=-719162), datetime.date(1, 1, 1)),
        (primitive("TIMESTAMP"), V(timestamp_micros=-1), datetime.datetime(1969, 12, 31, 23, 59, 59, 999999, UTC)),
        (primitive("TIMESTAMP_NTZ"), V(timestamp_ntz_micros=1), datetime.datetime(1970, 1, 1, 0, 0, 0, 1)),
        (primitive("DAY_TIME_INTERVAL"), V(day_time_interval_micros=-1), datetime.timedelta(microseconds=-1)),
        (primitive("YEAR_MONTH_INTERVAL"), V(year_month_interval_months=-13), -13),
        (number(38, 38), V(decimal_value="0." + "9" * 38), decimal.Decimal("0." + "9" * 38)),
        (number(38, 0), V(decimal_value="-" + "9" * 38), decimal.Decimal("-" + "9" * 38)),
        (number(5, -2), V(decimal_value="1234500"), decimal.Decimal(1234500)),
        (number(10, 2), V(decimal_value="1E+3"), decimal.Decimal("1000.00")),
        (pb.DataType(char_length=3), V(string_value="a"), "a"),
        (pb.DataType(varchar_length=3), V(string_value="äöü"), "äöü"),
        (array(primitive("LONG")), items(V(int_value=1), V()), [1, None]),
        (array(array(primitive("STRING"))), items(items(), V(), items(V(string_value="x"))), [[], None, ["x"]]),
        (
            pb.DataType(map=pb.MapType(key=primitive("DATE"), value=primitive("BOOLEAN"), value_contains_null=True)),
            entries((V(date_days=0), V()), (V(date_days=1), V(bool_value=True))),
            [(datetime.date(1970, 1, 1), None), (datetime.date(1970, 1, 2), True)],
        ),
        (
            struct(a=primitive("INTEGER"), b=struct(c=array(number(3, 1)))),
            V(
                struct_value=pb.StructValue(
                    values=[V(), V(struct_value=pb.StructValue(values=[items(V(decimal_value="1.5"))]))]
                )
            ),
            {"a": None, "b": {"c": [decimal.Decimal("1.5")]}},
        ),
    ],
    ids=str,
)
def test_every_type_comes_out_as_the_value_that_it_is(data_type: pb.DataType, value: V, expected: Any) -> None:
    found = column(data_type, value, V(), value)
    assert found.to_pylist() == [expected, None, expected]
    assert found.type == arrow_type(data_type)


def test_empty_lists_maps_and_structs_are_not_nulls() -> None:
    assert column(array(primitive("LONG")), items(), V()).to_pylist() == [[], None]
    of_maps = pb.DataType(map=pb.MapType(key=primitive("STRING"), value=primitive("STRING")))
    assert column(of_maps, entries(), V()).to_pylist() == [[], None]
    empty = V(struct_value=pb.StructValue())
    assert column(struct(a=primitive("LONG")), empty, V()).to_pylist() == [{"a": None}, None]


def test_a_value_of_another_kind_is_an_error_with_the_columns_name_and_never_a_null() -> None:
    with pytest.raises(ValueError, match=r"column `c`: the gateway sent a string_value where a int_value was expected"):
        column(primitive("LONG"), V(int_value=1), V(string_value="secret"))
    with pytest.raises(ValueError, match=r"column `c\[\]\.a`") as raised:
        column(
            array(struct(a=primitive("LONG"))), items(V(struct_value=pb.StructValue(values=[V(string_value="secret")])))
        )
    assert "secret" not in str(raised.value)


def test_a_number_that_its_column_cannot_hold_is_an_error() -> None:
    with pytest.raises(pa.ArrowInvalid):
        column(primitive("BYTE"), V(int_value=128))
    with pytest.raises(pa.ArrowInvalid):
        column(number(3, 1), V(decimal_value="1.25"))
    with pytest.raises(ValueError, match="more than 38 digits"):
        column(number(38, -1), V(decimal_value="10"))


def test_rows_that_are_absent_or_short_have_nulls_and_long_ones_are_errors() -> None:
    fields = [pb.Field(name=name, type=primitive("LONG")) for name in "ab"]
    to_arrow = RowsToArrow(pb.Schema(fields=fields))
    rows = [pb.Row(values=[V(int_value=1)]), None, pb.Row(values=[V(int_value=2), V(int_value=3)])]
    assert [one.to_pylist() for one in to_arrow.arrays(rows)] == [[1, None, 2], [None, None, 3]]
    assert [one.to_pylist() for one in to_arrow.arrays([])] == [[], []]
    with pytest.raises(ValueError, match="3 values for 2 columns"):
        to_arrow.arrays([pb.Row(values=[V()] * 3)])


def variants() -> List[Any]:
    many = {f"k{at:03}": at for at in range(300)}
    texts = ["", "a" * 63, "a" * 64, "ä" * 40, "x" * 70_000]
    numbers = [0, -1, 127, 128, -129, 2**15, 2**31, 2**63 - 1, -(2**63), 0.1, -5e-324, 1e300]
    decimals = [decimal.Decimal(text) for text in ("1.5", "-0.000000001", "9" * 38, "0." + "1" * 38, "123456789012.5")]
    return [*texts, *numbers, *decimals, True, False, b"", b"\xff" * 300, [], {}, [None, [1, {"a": [2]}]], many,
            list(range(300)), {"z": 1, "a": {"z": 2}, "ä": None, "\U0001f600": 3, "\uff5e": 4}]  # fmt: skip


def as_value(found: Any) -> V:
    if found is None:
        return V()
    if isinstance(found, bool):
        return V(bool_value=found)
    for kind, wire in ((int, "int_value"), (float, "double_value"), (str, "string_value"), (bytes, "bytes_value")):
        if isinstance(found, kind):
            return V(**{wire: found})
    if isinstance(found, decimal.Decimal):
        return V(decimal_value=str(found))
    if isinstance(found, list):
        return items(*map(as_value, found))
    return entries(*((V(string_value=key), as_value(value)) for key, value in found.items()))


@pytest.mark.parametrize("found", variants(), ids=lambda found: f"{type(found).__name__}-{str(found)[:12]}")
def test_a_variant_is_read_by_spark_as_the_value_that_is_stored(found: Any) -> None:
    types = pytest.importorskip("pyspark.sql.types")
    encoded = variant.encode(as_value(found))
    assert encoded is not None
    # PySpark scales decimals in the thread's context, which has 28 digits.
    with decimal.localcontext(decimal.Context(prec=50)):
        assert types.VariantVal(*encoded).toPython() == found


def test_a_null_is_a_null_column_and_no_variant() -> None:
    assert column(primitive("VARIANT"), V(), V(bool_value=True)).is_null().to_pylist() == [True, False]


def test_a_number_that_no_variant_can_hold_is_refused_and_not_rounded() -> None:
    for text in ("1" * 39, "1E-39", "1E+60"):
        with pytest.raises(ValueError, match="column `c`: a stored number has more digits"):
            column(primitive("VARIANT"), V(decimal_value=text))
