"""Reading in Spark, by a DataFrame of keys and by filters, with a real Spark and a real gateway."""

from __future__ import annotations

import datetime
import decimal
import threading
from pathlib import Path
from typing import Any, Iterator

import pytest

pytest.importorskip("pyspark", reason="pyspark is not installed: nothing of reading in Spark is tested")

from pyspark.sql import functions as F  # noqa: E402

import forebay  # noqa: E402
from forebay.spark import lookup, table_schema  # noqa: E402

FEATURES = """
    name: features
    ddl: |
      id STRING NOT NULL, n BIGINT, score DOUBLE COMMENT 'of today', code CHAR(4), tag VARCHAR(9) NOT NULL,
      age INTERVAL YEAR TO MONTH, price DECIMAL(10, 2), vitals ARRAY<STRUCT<hr: TINYINT, span: INTERVAL YEAR TO MONTH>>
    key: id
"""
EVENTS = """
    name: events
    ddl: "device STRING NOT NULL, at BIGINT NOT NULL, value DOUBLE"
    key: [device, at]
"""
PRICES = """
    name: prices
    ddl: "market STRING NOT NULL, sku INT NOT NULL, day DATE NOT NULL, price DECIMAL(8, 2)"
    key: {partition: [market, sku], sort: day}
"""


@pytest.fixture(scope="module")
def tables(shared_gateway: Any) -> Iterator[Any]:
    """Three tables with rows."""
    shared_gateway.apply(FEATURES, EVENTS, PRICES)
    with forebay.connect(shared_gateway.endpoint) as client:
        client.write("features", [feature(number) for number in range(500)])
        client.write("events", [{"device": f"d{at % 3}", "at": at - 450, "value": at / 4} for at in range(900)])
        days = [datetime.date(2024, 1, 1) + datetime.timedelta(days=day) for day in range(31)]
        client.write(
            "prices",
            [
                {"market": market, "sku": sku, "day": day, "price": decimal.Decimal(sku)}
                for market in ("eu", "us")
                for sku in (1, 2)
                for day in days
            ],
        )
    yield shared_gateway


def feature(number: int) -> dict[str, Any]:
    return {
        "id": f"u{number}",
        "n": number,
        "score": number / 8,
        "code": "ab",
        "tag": "t",
        "age": number,
        "price": decimal.Decimal(number) / 4,
        "vitals": [{"hr": 60, "span": 13}, None],
    }


def keys(spark: Any, *numbers: int) -> Any:
    ids = spark.createDataFrame([(number,) for number in numbers], "number BIGINT")
    return ids.select("number", F.concat(F.lit("u"), "number").alias("id"))


def test_keys_become_features_beside_what_the_frame_had(spark: Any, tables: Any) -> None:
    found = lookup(keys(spark, 3, 9999), "features", endpoint=tables.endpoint, columns=["n", "price", "code"])
    assert found.columns == ["number", "id", "n", "price", "code"]
    assert sorted(map(tuple, found.collect())) == [
        (3, "u3", 3, decimal.Decimal("0.75"), "ab"),
        (9999, "u9999", None, None, None),
    ]


def test_many_keys_are_read_by_many_tasks(spark: Any, tables: Any) -> None:
    many = spark.range(0, 5000, numPartitions=4).select(F.concat(F.lit("u"), (F.col("id") % 1000)).alias("id"))
    found = lookup(many, "features", endpoint=tables.endpoint, columns=["n"], status_column="status")
    counts = {row.status: (row["count"], row.total) for row in found.groupBy("status").agg(
        F.count("*").alias("count"), F.sum("n").alias("total")).collect()}  # fmt: skip
    assert counts == {"FOUND": (2500, 5 * sum(range(500))), "NOT_FOUND": (2500, None)}


def test_all_columns_come_with_their_types_and_intervals_are_intervals(spark: Any, tables: Any) -> None:
    found = lookup(keys(spark, 14).select("id"), "features", endpoint=tables.endpoint)
    types = {field.name: field.dataType.simpleString() for field in found.schema.fields}
    assert types == {
        "id": "string",
        "n": "bigint",
        "score": "double",
        "code": "string",
        "tag": "string",
        "age": "interval year to month",
        "price": "decimal(10,2)",
        "vitals": "array<struct<hr:tinyint,span:interval year to month>>",
    }
    row = found.select(F.col("age").cast("string").alias("age"), F.col("vitals").cast("string").alias("vitals")).first()
    assert row.age == "INTERVAL '1-2' YEAR TO MONTH"
    assert row.vitals == "[{60, INTERVAL '1-1' YEAR TO MONTH}, null]"


def test_missing_keys_are_kept_dropped_or_fail_the_job(spark: Any, tables: Any) -> None:
    frame = keys(spark, 1, 9999)
    options = {"endpoint": tables.endpoint, "columns": ["n"]}
    assert lookup(frame, "features", missing="drop", **options).collect()[0].n == 1
    assert lookup(frame, "features", missing="drop", **options).count() == 1
    with pytest.raises(Exception, match=r"KeyNotFound: a key has no row in the table `features` \(NOT_FOUND\)"):
        lookup(frame, "features", missing="fail", **options).collect()


def test_the_key_may_have_other_names_and_several_columns(spark: Any, tables: Any) -> None:
    frame = spark.sql("select 'eu' as m, 2Y as sku, date'2024-01-03' as at union all select 'eu', 3Y, date'2024-01-03'")
    names = {"market": "m", "day": "at"}
    found = lookup(frame, "prices", endpoint=tables.endpoint, key_columns=names, missing="drop")
    assert [tuple(row) for row in found.collect()] == [("eu", 2, datetime.date(2024, 1, 3), decimal.Decimal("2.00"))]


@pytest.mark.parametrize(
    "change, message",
    [
        ({"columns": ["scor"]}, "columns: the table `features` has no column `scor`; expected some of id, n"),
        ({"columns": "n"}, "columns: expected a sequence of names"),
        ({"key_columns": {"n": "id"}}, "key_columns: `n` is no key column of the table `features`; expected id"),
        ({"key_columns": {"id": "uid"}}, "the DataFrame has no column `uid` for the key"),
        ({"missing": "keep"}, "missing: `keep` is none; expected null, drop, fail"),
        ({"status_column": "N", "columns": ["n"]}, "`N` would be in the DataFrame twice"),
        ({"status_column": "number"}, "`number` would be in the DataFrame twice"),
        ({"calls_in_flight": 0}, "calls_in_flight: expected at least 1"),
        ({"tabel": "x"}, "tabel: no such option"),
    ],
    ids=str,
)
def test_wrong_arguments_are_refused_before_any_job(spark: Any, tables: Any, change: Any, message: str) -> None:
    with pytest.raises((ValueError, TypeError), match=message):
        lookup(keys(spark, 1), "features", endpoint=tables.endpoint, **change)


def test_intervals_of_months_beside_the_keys_are_refused_by_name(spark: Any, tables: Any) -> None:
    frame = spark.sql("select 'u1' as id, interval '1-2' year to month as span")
    with pytest.raises(ValueError, match="the column `span` has intervals of months"):
        lookup(frame, "features", endpoint=tables.endpoint)


def test_a_table_that_is_not_there_is_refused_before_any_job(spark: Any, tables: Any) -> None:
    with pytest.raises(forebay.NotFound, match="nowhere"):
        lookup(keys(spark, 1), "nowhere", endpoint=tables.endpoint)


def test_a_keys_value_of_a_wrong_type_fails_the_job_with_the_columns_name(spark: Any, tables: Any) -> None:
    frame = spark.sql("select 7 as id")
    with pytest.raises(Exception, match="key column `id`: bigint does not fit the declared type string"):
        lookup(frame, "features", endpoint=tables.endpoint).collect()


def test_a_gateway_that_is_away_for_a_moment_does_not_fail_the_job(spark: Any, gateway: Any) -> None:
    gateway.apply(FEATURES)
    with forebay.connect(gateway.endpoint) as client:
        client.write("features", [feature(number) for number in range(500)])
    frame = spark.range(0, 500, numPartitions=2).select(F.concat(F.lit("u"), "id").alias("id"))
    found = lookup(frame, "features", endpoint=gateway.endpoint, columns=["n"], missing="fail")
    gateway.kill()
    starting = threading.Timer(2.0, gateway.start)
    starting.start()
    try:
        assert found.agg(F.sum("n")).first()[0] == sum(range(500))
    finally:
        starting.join()


def test_the_declared_schema_is_what_the_table_says(spark: Any, tables: Any) -> None:
    schema = table_schema("features", endpoint=tables.endpoint)
    assert [field.dataType.simpleString() for field in schema.fields][3:5] == ["char(4)", "varchar(9)"]
    assert [field.nullable for field in schema.fields][:5] == [False, True, True, True, False]
    assert schema["score"].metadata == {"comment": "of today"}


def test_keys_of_a_stream_get_their_features_batch_by_batch(spark: Any, tables: Any, tmp_path: Path) -> None:
    for number in (1, 2):
        keys(spark, number, number + 10).coalesce(1).write.mode("append").parquet(str(tmp_path / "keys"))
    stream = spark.readStream.schema("number BIGINT, id STRING").option("maxFilesPerTrigger", "1")
    found = lookup(stream.parquet(str(tmp_path / "keys")), "features", endpoint=tables.endpoint, columns=["n"])
    query = found.writeStream.format("memory").queryName("found").trigger(availableNow=True).start()
    query.awaitTermination(60)
    assert query.exception() is None
    rows = sorted(map(tuple, spark.table("found").collect()))
    assert rows == [(number, f"u{number}", number) for number in (1, 2, 11, 12)]


def test_where_filters_are_off_spark_says_what_to_set_and_keys_work_without(
    spark: Any, tables: Any, source: None
) -> None:
    spark.conf.set("spark.sql.python.filterPushdown.enabled", "false")
    try:
        with pytest.raises(Exception, match="spark.sql.python.filterPushdown.enabled"):
            load(spark, tables, "features").filter("id = 'u1'").count()
        assert load(spark, tables, "features", keys='["u1"]').filter("n = 1").count() == 1
    finally:
        spark.conf.set("spark.sql.python.filterPushdown.enabled", "true")


def load(spark: Any, tables: Any, table: str, **options: str) -> Any:
    reader = spark.read.format("forebay").option("endpoint", tables.endpoint).option("table", table)
    for name, value in options.items():
        reader = reader.option(name, value)
    return reader.load()


def test_filters_on_the_key_read_single_rows(spark: Any, tables: Any, source: None) -> None:
    found = load(spark, tables, "features").filter("id in ('u1', 'u2', 'nobody') and n > 1").select("id", "n", "age")
    assert [tuple(row) for row in found.collect()] == [("u2", 2, 2)]


def test_a_filter_on_the_partition_key_reads_its_range(spark: Any, tables: Any, source: None) -> None:
    events = load(spark, tables, "events")
    assert events.filter("device = 'd1'").count() == 300
    assert events.filter("device in ('d0', 'd2', 'd7')").count() == 600
    between = events.filter("device = 'd1' and at > -20 and at <= 40").orderBy("at")
    assert [row.at for row in between.collect()] == [at for at in range(-19, 41) if (at + 450) % 3 == 1]
    assert [tuple(row) for row in events.filter("device = 'd0' and at = 0").collect()] == [("d0", 0, 112.5)]


def test_dates_and_joined_keys_are_filtered_by_what_they_are(spark: Any, tables: Any, source: None) -> None:
    prices = load(spark, tables, "prices")
    chosen = prices.filter("market = 'eu' and sku in (1, 2) and day between '2024-01-30' and '2024-02-02'")
    assert chosen.count() == 4
    with pytest.raises(Exception, match="Filter by `market` = ... and `sku` = ..."):
        prices.filter("market = 'eu'").count()


@pytest.mark.parametrize("query", ["n = 1", "id > 'u1'", "id = 'u1' or n = 2", "1 = 1"])
def test_a_query_that_names_no_key_is_refused_with_what_to_do(
    spark: Any, tables: Any, source: None, query: str
) -> None:
    with pytest.raises(Exception, match="full scan of the table `features`, which is refused.*Filter by .*`id` = ..."):
        load(spark, tables, "features").filter(query).count()


def test_keys_and_partitions_may_be_options(spark: Any, tables: Any, source: None) -> None:
    assert load(spark, tables, "features", keys='["u1", "u2"]', keysPerTask="1").rdd.getNumPartitions() == 2
    assert load(spark, tables, "features", keys='["u1", "u2", "x"]').count() == 2
    assert load(spark, tables, "events", partition='"d1"').count() == 300
    assert load(spark, tables, "events", keys='[["d0", 0], ["d0", 1]]').count() == 1
    assert load(spark, tables, "features", keys="[]").count() == 0


def test_chosen_columns_come_with_the_key(spark: Any, tables: Any, source: None) -> None:
    found = load(spark, tables, "features", columns="score,n").filter("id = 'u8'")
    assert found.columns == ["id", "n", "score"]
    assert [tuple(row) for row in found.select("score").collect()] == [(1.0,)]


@pytest.mark.parametrize(
    "options, message",
    [
        ({"columns": "scor"}, "columns: the table `features` has no column `scor`"),
        ({"keys": "u1"}, "keys: is no JSON"),
        ({"keys": '"u1"'}, "keys: expected a JSON array of keys"),
        ({"keys": "[7]"}, "keys: .*`id`: expected a str"),
        ({"keys": '[["u1", 7]]'}, "keys: a key has 2 values; expected 1"),
        ({"partition": '"u1"'}, "partition: .*has no sort key"),
        ({"keys": "[]", "partition": "1"}, "partition: keys is given, too"),
        ({"consistant": "true"}, "consistant: no such option; did you mean `consistent`"),
    ],
    ids=str,
)
def test_wrong_options_are_refused_by_name(spark: Any, tables: Any, source: None, options: Any, message: str) -> None:
    with pytest.raises(Exception, match=message):
        load(spark, tables, "features", **options).count()


def test_a_schema_of_the_users_chooses_columns_and_must_fit(spark: Any, tables: Any, source: None) -> None:
    reader = spark.read.format("forebay").option("endpoint", tables.endpoint).option("keys", '["u8"]')
    assert reader.schema("score DOUBLE, id STRING").load("features").collect()[0].asDict() == {"score": 1.0, "id": "u8"}
    with pytest.raises(Exception, match="column `score` of the table `features` is double and not float"):
        reader.schema("score FLOAT").load("features").count()
