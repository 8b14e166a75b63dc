"""Every type that Spark can produce is written through the data source and read back equal, or refused by its name."""

from __future__ import annotations

import datetime
import decimal
from dataclasses import dataclass
from typing import Any, Dict, List, Optional, Tuple

import pytest

pytest.importorskip("pyspark", reason="pyspark is not installed: no type is written from Spark")

from pyspark.sql import functions as F  # noqa: E402
from pyspark.sql import types as T  # noqa: E402

import forebay  # noqa: E402
from forebay.spark import lookup, write_dataframe  # noqa: E402

D = decimal.Decimal
UTC = datetime.timezone.utc
date, dt, delta = datetime.date, datetime.datetime, datetime.timedelta


@dataclass(frozen=True)
class Case:
    """A column: its type, expressions for its values, and what those are in Python, read by the client."""

    type: str
    values: Tuple[Tuple[str, Any], ...]
    in_spark: Optional[Tuple[Any, ...]] = None
    """What Spark reads, where it is not what Spark wrote: a variant keeps its values, not their types."""


def case(type_: str, *values: Tuple[str, Any], in_spark: Optional[Tuple[Any, ...]] = None) -> Case:
    return Case(type_, values, in_spark)


def interval(fields: str, *texts: Tuple[str, delta]) -> Case:
    return case(f"INTERVAL {fields}", *((f"INTERVAL '{text}' {fields}", value) for text, value in texts))


def variants() -> Case:
    """JSON and typed values. Numbers, dates and times come back as what is stored: by value."""
    pairs: List[Tuple[str, Any]] = [
        ("""parse_json('{"a": [1, -2.5, "ä", true, null, {}], "b": {"c": 1e125, " ": []}}')""",
         {"a": [1, -2.5, "ä", True, None, {}], "b": {"c": 1e125, " ": []}}),
        ("to_variant_object(named_struct('d', DATE'2024-02-29', 't', TIMESTAMP'2024-01-01 00:00:00Z', 'x', X'00FF'))",
         {"d": "2024-02-29", "t": 1704067200000000, "x": b"\x00\xff"}),
        ("CAST(9223372036854775807L AS VARIANT)", 2**63 - 1),
        ("CAST(CAST('12345678901234567890123456789.123456789' AS DECIMAL(38, 9)) AS VARIANT)",
         D("12345678901234567890123456789.123456789")),
        ("CAST('text' AS VARIANT)", "text"),
    ]  # fmt: skip
    return case("VARIANT", *pairs, in_spark=tuple(value for _, value in pairs))


CASES: Dict[str, Case] = {
    "byte": case("TINYINT", ("-128Y", -128), ("127Y", 127)),
    "short": case("SMALLINT", ("-32768S", -32768), ("32767S", 32767)),
    "integer": case("INT", ("-2147483648", -(2**31)), ("2147483647", 2**31 - 1)),
    "long": case("BIGINT", ("-9223372036854775808L", -(2**63)), ("9223372036854775807L", 2**63 - 1)),
    "float": case(
        "FLOAT",
        ("1.4E-45F", 1.401298464324817e-45),
        ("-3.4028234663852886E38F", -3.4028234663852886e38),
        ("0.1F", 0.10000000149011612),
        ("-0.0F", 0.0),
    ),
    "double": case(
        "DOUBLE",
        ("1.0E-130D", 1e-130),
        ("9.999999999999998E125D", 9.999999999999998e125),
        ("-9.999999999999998E125D", -9.999999999999998e125),
        ("0.1D", 0.1),
        ("-0.0D", 0.0),
        ("1.7976931348623157E100D", 1.7976931348623157e100),
    ),
    "decimal_10_2": case(
        "DECIMAL(10, 2)", ("-99999999.99BD", D("-99999999.99")), ("1.10BD", D("1.10")), ("0BD", D("0.00"))
    ),
    "decimal_38_0": case("DECIMAL(38, 0)", (f"{'9' * 38}BD", D("9" * 38)), (f"-{'9' * 38}BD", D("-" + "9" * 38))),
    "decimal_38_38": case("DECIMAL(38, 38)", (f"0.{'9' * 38}BD", D("0." + "9" * 38)), ("-1E-38BD", D("-1E-38"))),
    "decimal_38_18": case("DECIMAL(38, 18)", (f"{'1' * 20}.{'2' * 18}BD", D(f"{'1' * 20}.{'2' * 18}"))),
    "string": case(
        "STRING",
        ("''", ""),
        ("'äöü😀'", "äöü😀"),
        ("concat('a', char(0), 'b')", "a\0b"),
        ("repeat('x', 9000)", "x" * 9000),
    ),
    "collated": case("STRING COLLATE UNICODE_CI", ("'Mixed Case'", "Mixed Case"), ("''", "")),
    "boolean": case("BOOLEAN", ("true", True), ("false", False)),
    "binary": case("BINARY", ("X''", b""), ("X'00FF10'", b"\x00\xff\x10")),
    "date": case(
        "DATE",
        ("DATE'0001-01-01'", date(1, 1, 1)),
        ("DATE'1969-12-31'", date(1969, 12, 31)),
        ("DATE'1582-10-10'", date(1582, 10, 10)),
        ("DATE'9999-12-31'", date(9999, 12, 31)),
    ),
    "timestamp": case(
        "TIMESTAMP",
        # The session's zone is New York: behind the gap in spring, in the hour that is twice in autumn, before zones.
        ("TIMESTAMP'2024-03-10 03:30:00'", dt(2024, 3, 10, 7, 30, tzinfo=UTC)),
        ("TIMESTAMP'2024-11-03 01:30:00'", dt(2024, 11, 3, 5, 30, tzinfo=UTC)),
        ("TIMESTAMP'1883-01-01 00:00:00'", dt(1883, 1, 1, 4, 56, 2, tzinfo=UTC)),
        ("TIMESTAMP'1969-12-31 23:59:59.999999Z'", dt(1969, 12, 31, 23, 59, 59, 999999, UTC)),
        ("TIMESTAMP'0001-01-02 00:00:00Z'", dt(1, 1, 2, tzinfo=UTC)),
        ("TIMESTAMP'9999-12-31 23:59:59.999999Z'", dt(9999, 12, 31, 23, 59, 59, 999999, UTC)),
    ),
    "timestamp_ntz": case(
        "TIMESTAMP_NTZ",
        ("TIMESTAMP_NTZ'2024-03-10 02:30:00'", dt(2024, 3, 10, 2, 30)),
        ("TIMESTAMP_NTZ'1969-12-31 23:59:59.999999'", dt(1969, 12, 31, 23, 59, 59, 999999)),
        ("TIMESTAMP_NTZ'0001-01-01 00:00:00'", dt(1, 1, 1)),
        ("TIMESTAMP_NTZ'9999-12-31 23:59:59.999999'", dt(9999, 12, 31, 23, 59, 59, 999999)),
    ),
    "interval_day": interval("DAY", ("-3", delta(days=-3)), ("106751990", delta(days=106751990))),
    "interval_day_hour": interval("DAY TO HOUR", ("1 02", delta(days=1, hours=2))),
    "interval_day_minute": interval("DAY TO MINUTE", ("1 02:03", delta(days=1, hours=2, minutes=3))),
    "interval_day_second": interval(
        "DAY TO SECOND",
        ("1 02:03:04.000005", delta(days=1, hours=2, minutes=3, seconds=4, microseconds=5)),
        ("-106751991 04:00:54.775807", -delta(days=106751991, hours=4, seconds=54, microseconds=775807)),
    ),
    "interval_hour": interval("HOUR", ("5", delta(hours=5))),
    "interval_hour_minute": interval("HOUR TO MINUTE", ("-05:06", -delta(hours=5, minutes=6))),
    "interval_hour_second": interval("HOUR TO SECOND", ("05:06:07.8", delta(hours=5, minutes=6, seconds=7.8))),
    "interval_minute": interval("MINUTE", ("61", delta(minutes=61))),
    "interval_minute_second": interval("MINUTE TO SECOND", ("05:06.7", delta(minutes=5, seconds=6.7))),
    "interval_second": interval("SECOND", ("-0.000001", delta(microseconds=-1))),
    "array_of_int": case("ARRAY<INT>", ("array(1, NULL, -1)", [1, None, -1]), ("array()", [])),
    "array_of_array": case(
        "ARRAY<ARRAY<STRING>>", ("array(array('a', NULL), NULL, array())", [["a", None], None, []])
    ),
    "map_string": case("MAP<STRING, INT>", ("map('a', 1, 'ä b', NULL)", {"a": 1, "ä b": None}), ("map()", {})),
    "map_byte": case("MAP<TINYINT, STRING>", ("map(-128Y, 'a', 127Y, 'b')", {-128: "a", 127: "b"})),
    "map_short": case("MAP<SMALLINT, STRING>", ("map(-1S, 'a')", {-1: "a"})),
    "map_int": case("MAP<INT, STRING>", ("map(0, 'a', 2147483647, NULL)", {0: "a", 2**31 - 1: None})),
    "map_long": case("MAP<BIGINT, STRING>", ("map(-9223372036854775808L, 'a')", {-(2**63): "a"})),
    "map_boolean": case("MAP<BOOLEAN, INT>", ("map(true, 1, false, 0)", {True: 1, False: 0})),
    "map_date": case("MAP<DATE, INT>", ("map(DATE'1969-12-31', 1)", {date(1969, 12, 31): 1})),
    "map_decimal": case("MAP<DECIMAL(5, 2), INT>", ("map(-1.50BD, 1, 0.00BD, 2)", {D("-1.50"): 1, D("0.00"): 2})),
    "struct": case(
        "STRUCT<a: INT, b: STRUCT<c: ARRAY<STRUCT<d: DATE>>, e: MAP<INT, STRING>>>",
        (
            "named_struct('a', 1, 'b', "
            "named_struct('c', array(named_struct('d', DATE'2024-01-01'), NULL), 'e', map(1, 'x')))",
            {"a": 1, "b": {"c": [{"d": date(2024, 1, 1)}, None], "e": {1: "x"}}},
        ),
        ("named_struct('a', NULL, 'b', NULL)", {"a": None, "b": None}),
    ),
    "struct_of_times": case(
        "STRUCT<t: TIMESTAMP, n: TIMESTAMP_NTZ, i: INTERVAL DAY TO SECOND>",
        (
            "named_struct('t', TIMESTAMP'2024-07-01 00:00:00', 'n', TIMESTAMP_NTZ'2024-07-01 00:00:00', 'i', "
            "INTERVAL '0 00:00:01' DAY TO SECOND)",
            {"t": dt(2024, 7, 1, 4, tzinfo=UTC), "n": dt(2024, 7, 1), "i": delta(seconds=1)},
        ),
    ),
    "variant": variants(),
    "array_of_variant": case(
        "ARRAY<VARIANT>",
        ("""array(parse_json('{"a": 1}'), NULL, parse_json('"x"'))""", [{"a": 1}, None, "x"]),
        in_spark=([{"a": 1}, None, "x"],),
    ),
    "map_of_struct_of_variant": case(
        "MAP<STRING, STRUCT<v: VARIANT>>",
        ("map('k', named_struct('v', parse_json('[1, 2]')))", {"k": {"v": [1, 2]}}),
        in_spark=({"k": {"v": [1, 2]}},),
    ),
}  # fmt: skip
ROWS = max(len(one.values) for one in CASES.values()) + 1
"""One more than values: each column has a null, too."""


def typed(one: Case, row: int) -> str:
    expression = one.values[row][0] if row < len(one.values) else "NULL"
    return f"CAST({expression} AS {one.type})"


def plain(value: Any) -> Any:
    """What Spark collects, in the words of this package's client."""
    if isinstance(value, T.VariantVal):
        # PySpark scales decimals in the thread's context, which has 28 digits.
        with decimal.localcontext(decimal.Context(prec=50)):
            return value.toPython()
    if isinstance(value, T.Row):
        return {name: plain(inner) for name, inner in value.asDict().items()}
    if isinstance(value, dict):
        return {key: plain(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [plain(inner) for inner in value]
    return bytes(value) if isinstance(value, bytearray) else value


def by_id(frame: Any) -> Dict[str, Dict[str, Any]]:
    return {row["id"]: {name: plain(value) for name, value in row.asDict().items()} for row in frame.collect()}


@dataclass
class Written:
    """The frame with all types, and what three readers give for it."""

    frame: Dict[str, Dict[str, Any]]
    client: Dict[str, Any]
    lookup: Dict[str, Dict[str, Any]]
    load: Dict[str, Dict[str, Any]]
    types: Dict[str, Dict[str, str]]


@pytest.fixture(scope="module")
def written(spark: Any, source: None, shared_gateway: Any) -> Written:
    selects = [
        f"SELECT 'r{row}' AS id, " + ", ".join(f"{typed(one, row)} AS {name}" for name, one in CASES.items())
        for row in range(ROWS)
    ]
    frame = spark.sql(" UNION ALL ".join(selects)).coalesce(1)
    endpoint = shared_gateway.endpoint
    ids = [f"r{row}" for row in range(ROWS)]
    with forebay.connect(endpoint) as client:
        client.apply_table("all_types", schema=frame.schema, key="id")
        frame.write.format("forebay").mode("append").option("endpoint", endpoint).save("all_types")
        results = dict(zip(ids, client.get_many("all_types", ids)))
    looked_up = lookup(frame.select("id"), "all_types", endpoint=endpoint)
    loaded = spark.read.format("forebay").option("endpoint", endpoint).load("all_types").filter(F.col("id").isin(ids))
    types = {
        where: {field.name: field.dataType.simpleString() for field in one.schema.fields}
        for where, one in (("frame", frame), ("lookup", looked_up), ("load", loaded))
    }
    return Written(by_id(frame), results, by_id(looked_up), by_id(loaded), types)


@pytest.mark.parametrize("name", CASES)
def test_a_type_is_read_back_equal_by_the_client(written: Written, name: str) -> None:
    one = CASES[name]
    for row in range(ROWS):
        expected = one.values[row][1] if row < len(one.values) else None
        found = written.client[f"r{row}"][name]
        assert found == expected, f"row {row}"
        assert type(found) is type(expected), f"row {row}: {type(found)}"
        if isinstance(expected, decimal.Decimal) and name != "variant":
            assert found.as_tuple().exponent == expected.as_tuple().exponent, "the declared scale"


@pytest.mark.parametrize("reader", ["lookup", "load"])
@pytest.mark.parametrize("name", CASES)
def test_a_type_is_read_back_equal_by_spark(written: Written, name: str, reader: str) -> None:
    one = CASES[name]
    for row in range(ROWS):
        expected = written.frame[f"r{row}"][name]
        if one.in_spark is not None and row < len(one.values):
            expected = one.in_spark[row]
        found = getattr(written, reader)[f"r{row}"][name]
        assert found == expected, f"row {row}"
        if row >= len(one.values):
            assert found is None
    declared = "interval day to second" if name.startswith("interval_") else written.types["frame"][name]
    found_type = written.types[reader][name]
    assert found_type == declared.replace(" collate UNICODE_CI", "")


def test_the_other_way_of_writing_writes_the_same(spark: Any, shared_gateway: Any, written: Written) -> None:
    """Without the data source: by `mapInArrow`."""
    selects = [
        f"SELECT 'r{row}' AS id, " + ", ".join(f"{typed(one, row)} AS {name}" for name, one in CASES.items())
        for row in range(ROWS)
    ]
    frame = spark.sql(" UNION ALL ".join(selects)).coalesce(1)
    ids = [f"r{row}" for row in range(ROWS)]
    with forebay.connect(shared_gateway.endpoint) as client:
        client.apply_table("all_types_again", schema=frame.schema, key="id")
        write_dataframe(frame, endpoint=shared_gateway.endpoint, table="all_types_again")
        assert [one.row for one in client.get_many("all_types_again", ids)] == [
            one.row for one in written.client.values()
        ]


def test_char_and_varchar_columns_of_a_table_keep_their_types(
    spark: Any, source: None, shared_gateway: Any, tmp_path: Any
) -> None:
    spark.sql(f"CREATE TABLE limited (id STRING, c CHAR(5), v VARCHAR(5)) USING parquet LOCATION '{tmp_path}/limited'")
    try:
        spark.sql("INSERT INTO limited VALUES ('a', 'ab', 'äöü'), ('b', NULL, '')")
        frame = spark.table("limited")
        with forebay.connect(shared_gateway.endpoint) as client:
            client.apply_table("limited", ddl="id STRING NOT NULL, c CHAR(5), v VARCHAR(5)", key="id")
            frame.write.format("forebay").mode("append").option("endpoint", shared_gateway.endpoint).save("limited")
            # Spark fills a CHAR up; the table takes it as it comes.
            assert client.get("limited", "a").row == {"id": "a", "c": "ab   ", "v": "äöü"}
            assert client.get("limited", "b").row == {"id": "b", "c": None, "v": ""}
        assert by_id(lookup(frame.select("id"), "limited", endpoint=shared_gateway.endpoint)) == by_id(frame)
    finally:
        spark.sql("DROP TABLE limited")


def test_vectors_and_other_types_of_users_are_stored_as_what_they_are_made_of(
    spark: Any, source: None, shared_gateway: Any
) -> None:
    linalg = pytest.importorskip("pyspark.ml.linalg")
    vectors = {"dense": linalg.Vectors.dense([1.0, -2.5]), "sparse": linalg.Vectors.sparse(3, [1], [5.0])}
    frame = spark.createDataFrame(
        list(vectors.items()),
        T.StructType([T.StructField("id", T.StringType(), False), T.StructField("v", linalg.VectorUDT())]),
    )
    with forebay.connect(shared_gateway.endpoint) as client:
        client.apply_table("vectors", schema=frame.schema, key="id")
        frame.write.format("forebay").mode("append").option("endpoint", shared_gateway.endpoint).save("vectors")
        assert client.get("vectors", "dense")["v"] == {"type": 1, "size": None, "indices": None, "values": [1.0, -2.5]}
        assert client.get("vectors", "sparse")["v"] == {"type": 0, "size": 3, "indices": [1], "values": [5.0]}
    found = by_id(lookup(frame.select("id"), "vectors", endpoint=shared_gateway.endpoint))
    assert found["sparse"]["v"] == {"type": 0, "size": 3, "indices": [1], "values": [5.0]}


def test_a_time_that_python_cannot_have_is_not_lost_to_spark(spark: Any, source: None, shared_gateway: Any) -> None:
    """New York's last evening of 9999 is in the year 10000 in UTC."""
    frame = spark.sql("SELECT 'late' AS id, TIMESTAMP'9999-12-31 23:00:00' AS t")
    with forebay.connect(shared_gateway.endpoint) as client:
        client.apply_table("late", schema=frame.schema, key="id")
        frame.write.format("forebay").mode("append").option("endpoint", shared_gateway.endpoint).save("late")
        found = client.get("late", "late")
        assert found.status is forebay.ReadStatus.UNDECODABLE
        assert "t: the time is outside of the years 1 to 9999" in found.message
    looked_up = lookup(frame.select("id"), "late", endpoint=shared_gateway.endpoint)
    assert looked_up.select(F.col("t").cast("string")).first()[0] == "9999-12-31 23:00:00"


@pytest.mark.parametrize(
    "expression, reason",
    [
        ("4.9E-324D", "OUT_OF_RANGE"),
        ("1.7976931348623157E308D", "OUT_OF_RANGE"),
        ("double('NaN')", "NON_FINITE"),
        ("double('-Infinity')", "NON_FINITE"),
    ],
)
def test_doubles_that_dynamodb_cannot_hold_are_rejected_and_never_rounded_or_null(
    spark: Any, source: None, shared_gateway: Any, expression: str, reason: str
) -> None:
    frame = spark.sql(f"SELECT 'bad' AS id, {expression} AS c UNION ALL SELECT 'good', 1.5D").coalesce(1)
    with forebay.connect(shared_gateway.endpoint) as client:
        client.apply_table("doubles", schema=frame.schema, key="id")
        with pytest.raises(Exception, match=f"c: .*{reason}"):
            frame.write.format("forebay").mode("append").option("endpoint", shared_gateway.endpoint).save("doubles")
        assert not client.get("doubles", "bad")
        assert client.get("doubles", "good")["c"] == 1.5
        client.drop_table("doubles", force=True)


@pytest.mark.parametrize(
    "expression, column, message",
    [
        ("NULL", "c", "has only nulls"),
        ("array()", r"c\[\]", "has only nulls"),
        ("named_struct('a', 1, 'b', NULL)", r"c\.b", "has only nulls"),
        ("TIME'10:00:00.5'", "c", "is a TIME"),
        ("map('k', array(TIME'10:00:00'))", r"c\{\}\[\]", "is a TIME"),
        ("INTERVAL '1-2' YEAR TO MONTH", "c", "is an interval of months"),
        ("INTERVAL '1' YEAR", "c", "is an interval of months"),
        ("array(INTERVAL '1' MONTH)", r"c\[\]", "is an interval of months"),
        ("st_geomfromwkb(X'0101000000000000000000F03F0000000000000040')", "c", "is a geometry"),
        ("st_geogfromwkb(X'0101000000000000000000F03F0000000000000040')", "c", "is a geography"),
        ("map(TIMESTAMP'2024-01-01 00:00:00', 1)", "c", "has keys of type timestamp"),
        ("map(1.5D, 1)", "c", "has keys of type double"),
        ("map(X'00', 1)", "c", "has keys of type binary"),
        ("map(named_struct('a', 1), 1)", "c", "has keys of type struct<a:int>"),
    ],
)
def test_a_type_that_cannot_be_stored_is_refused_by_its_columns_name_before_any_task(
    spark: Any, source: None, shared_gateway: Any, expression: str, column: str, message: str
) -> None:
    shared_gateway.apply("{name: refusing, ddl: 'id STRING NOT NULL', key: id}")
    frame = spark.sql(f"SELECT 'a' AS id, {expression} AS c")
    writer = frame.write.format("forebay").mode("append").option("endpoint", shared_gateway.endpoint)
    with pytest.raises(Exception, match=f"column `{column}`: {message}"):
        writer.option("mergeSchema", "true").save("refusing")
    with pytest.raises(ValueError, match=f"column `{column}`: {message}"):
        write_dataframe(frame, endpoint=shared_gateway.endpoint, table="refusing", merge_schema=True)
    with forebay.connect(shared_gateway.endpoint) as client:
        assert not client.get("refusing", "a")


def test_a_calendar_interval_is_refused_by_spark_or_here(spark: Any, source: None, shared_gateway: Any) -> None:
    frame = spark.sql("SELECT 'a' AS id, make_interval(1, 2, 0, 3) AS c")
    with pytest.raises(ValueError, match="column `c`: is a calendar interval"):
        write_dataframe(frame, endpoint=shared_gateway.endpoint, table="any")
    with pytest.raises(Exception, match='"INTERVAL"|calendar interval'):
        frame.write.format("forebay").mode("append").option("endpoint", shared_gateway.endpoint).save("any")


def test_months_are_written_as_the_advice_says(spark: Any, source: None, shared_gateway: Any) -> None:
    frame = spark.sql("SELECT 'a' AS id, INTERVAL '1-2' YEAR TO MONTH AS c")
    months = frame.withColumn("c", F.col("c").cast("interval month").cast("int"))
    with forebay.connect(shared_gateway.endpoint) as client:
        client.apply_table("months", ddl="id STRING NOT NULL, c INTERVAL YEAR TO MONTH", key="id")
        writer = months.write.format("forebay").mode("append").option("endpoint", shared_gateway.endpoint)
        writer.option("storeAssignmentPolicy", "legacy").save("months")
        assert client.get("months", "a")["c"] == 14
    found = lookup(frame.select("id"), "months", endpoint=shared_gateway.endpoint)
    assert found.select(F.col("c").cast("string")).first()[0] == "INTERVAL '1-2' YEAR TO MONTH"
