# %% [markdown]
# # Flights: nested and windowed features, from Spark to a service
#
# A table of departures becomes features that a service reads by key: the day of a carrier with structs and maps, the last flights of
# every aircraft as an array, the routes of every airport as a map, and hours of an airport with what was before them. Everything that
# is written is read back by key and compared with what Spark calculated, every row and every field of it.
#
# Run it as a script (`examples/spark/run BINARY flights` starts a gateway for it), or cell by cell in a notebook. It needs
# `pip install 'forebay[spark]'` and a gateway at `FOREBAY_ENDPOINT` (default `http://127.0.0.1:50051`).
#
# The flights are a Parquet file with the columns of `nycflights13` (all departures from New York's airports in 2013) and a unique
# `flight_id`: the script's argument, or `flights.parquet` in the folder that `FOREBAY_TEST_DATA` names. Without it a sample is made
# up, with the same columns.

# %%
from __future__ import annotations

import math
import os
import shutil
import sys
import tempfile
import time
from datetime import date, datetime, timezone
from pathlib import Path
from typing import Any, Optional, Sequence

from pyspark.sql import DataFrame, Row, SparkSession, Window
from pyspark.sql import functions as F
from pyspark.sql.types import StructField, StructType

import forebay

ENDPOINT = os.environ.get("FOREBAY_ENDPOINT", "http://127.0.0.1:50051")

spark = (
    SparkSession.builder.appName("flights")
    .master(os.environ.get("SPARK_MASTER", "local[2]"))
    .config("spark.sql.shuffle.partitions", "2")
    .config("spark.sql.session.timeZone", "UTC")
    .config("spark.ui.enabled", "false")
    .getOrCreate()
)
spark.sparkContext.setLogLevel("ERROR")
client = forebay.connect(ENDPOINT)

# %% [markdown]
# ## The flights


# %%
def flights_file() -> Optional[Path]:
    """The file of flights, if there is one."""
    if len(sys.argv) > 1 and sys.argv[1].endswith(".parquet"):
        return Path(sys.argv[1])
    folder = os.environ.get("FOREBAY_TEST_DATA")
    file = Path(folder) / "flights.parquet" if folder else None
    return file if file is not None and file.is_file() else None


def made_up_flights(days: int = 28, flights_a_day: int = 300) -> DataFrame:
    """Flights with the same columns, by a hash of their number: skewed, some cancelled, some without an aircraft's number."""

    def chance(salt: int) -> Any:
        return F.pmod(F.xxhash64("id", F.lit(salt)), F.lit(10_000)) / F.lit(10_000.0)

    def pick(salt: int, choices: Sequence[str]) -> Any:
        # The first choices are the frequent ones.
        place = F.floor(chance(salt) * chance(salt + 1) * len(choices)).cast("int")
        return F.element_at(F.array(*map(F.lit, choices)), place + 1)

    carriers = ["UA", "B6", "EV", "DL", "AA", "MQ", "US", "9E", "WN", "VX"]
    airports = [
        "ORD",
        "ATL",
        "LAX",
        "BOS",
        "MCO",
        "CLT",
        "SFO",
        "FLL",
        "MIA",
        "DCA",
        "DTW",
        "DFW",
        "RDU",
        "TPA",
        "DEN",
        "IAH",
    ]
    return (
        spark.range(days * flights_a_day)
        .withColumn(
            "at", F.timestamp_seconds(F.lit(1_357_034_400) + (F.col("id") / flights_a_day).cast("bigint") * 86_400)
        )
        .withColumn("hour", (5 + F.floor(chance(1) * 18)).cast("int"))
        .withColumn("minute", (F.floor(chance(2) * 12) * 5).cast("int"))
        .withColumn("carrier", pick(3, carriers))
        .withColumn("origin", pick(5, ["EWR", "JFK", "LGA"]))
        .withColumn("dest", pick(7, airports))
        .withColumn("distance", (200 + F.pmod(F.hash("origin", "dest"), F.lit(2400))).cast("int"))
        .withColumn("cancelled", chance(9) < 0.03)
        .withColumn(
            "dep_delay", F.expr("if(cancelled, null, int(-10 + 3 / (0.02 + pmod(xxhash64(id, 10), 10000) / 10000.0)))")
        )
        .withColumn("arr_delay", F.expr("if(cancelled, null, dep_delay + int(pmod(xxhash64(id, 11), 40)) - 25)"))
        .withColumn("air_time", F.expr("if(cancelled, null, 20 + distance div 8)"))
        .withColumn(
            "tailnum", F.when(chance(12) > 0.01, F.concat(F.lit("N"), F.floor(chance(13) * chance(14) * 400) + 100))
        )
        .withColumn("flight", (F.col("id") % 6000 + 1).cast("int"))
        .withColumn("sched_dep_time", F.col("hour") * 100 + F.col("minute"))
        .withColumn("sched_arr_time", F.expr("(hour * 100 + minute + 300) % 2400"))
        .selectExpr(
            "concat(date_format(at, 'yyyyMMdd'), '-', carrier, flight, '-', origin) as flight_id",
            *(
                "int(date_part('YEAR', at)) as year",
                "int(date_part('MONTH', at)) as month",
                "int(date_part('DAY', at)) as day",
            ),
            *("if(cancelled, null, sched_dep_time) as dep_time", "sched_dep_time", "dep_delay"),
            *("if(cancelled, null, sched_arr_time) as arr_time", "sched_arr_time", "arr_delay"),
            *("carrier", "flight", "tailnum", "origin", "dest", "air_time", "distance", "hour", "minute"),
            "timestampadd(HOUR, hour - 5, date_trunc('DAY', at)) as time_hour",
        )
    )


file = flights_file()
if file is None:
    print("!!! no file of flights (FOREBAY_TEST_DATA names no folder with flights.parquet): a sample is made up")
    flights = made_up_flights()
else:
    flights = spark.read.parquet(str(file))
flights = flights.withColumn("date", F.make_date("year", "month", "day")).cache()
print(f"{flights.count():,} flights, {flights.where('dep_time is null').count():,} of them cancelled")

# %% [markdown]
# ## Writing and reading back
#
# A table is made from the DataFrame's schema. `write` is the data source as everybody uses it; what follows is this example's proof.


# %%
def make_table(name: str, features: DataFrame, key: Sequence[str], **policies: Any) -> None:
    """Makes a table for a DataFrame, by its own schema."""
    not_null = {*key, policies.get("sequence_by")}
    # Key columns and the sequence are NOT NULL, which Spark cannot know of an aggregate.
    schema = StructType(
        [StructField(f.name, f.dataType, f.nullable and f.name not in not_null) for f in features.schema]
    )
    applied = client.apply_table(name, schema=schema, key=list(key), **policies)
    print(f"table {name}: {applied.result.lower()}, {', '.join(f'{c.name} {c.type}' for c in applied.table.columns)}")


def write(features: DataFrame, table: str, **options: str) -> None:
    """Writes a DataFrame, and says how long that took."""
    began = time.monotonic()
    features.write.format("forebay").option("endpoint", ENDPOINT).options(**options).mode("append").save(table)
    print(f"table {table}: written in {time.monotonic() - began:.1f} s")


def same(ours: Any, sparks: Any) -> bool:
    """Whether a value that was read is the one that Spark has. An entry that Spark has as null is null or absent here."""
    if isinstance(sparks, Row):
        return isinstance(ours, dict) and all(same(ours.get(name), value) for name, value in sparks.asDict().items())
    if isinstance(sparks, dict):
        return (
            isinstance(ours, dict) and ours.keys() == sparks.keys() and all(same(ours[k], v) for k, v in sparks.items())
        )
    if isinstance(sparks, list):
        return isinstance(ours, list) and len(ours) == len(sparks) and all(map(same, ours, sparks))
    if isinstance(sparks, datetime):
        # Spark's are naive, in this process's zone; ours are aware.
        return isinstance(ours, datetime) and ours.timestamp() == sparks.timestamp()
    if isinstance(sparks, float):
        return isinstance(ours, float) and (ours == sparks or math.isnan(ours) and math.isnan(sparks))
    return type(ours) is type(sparks) and bool(ours == sparks)


def key_value(value: Any) -> Any:
    """A key's value as the client takes it: Spark's moments are naive, in this process's zone."""
    return value.astimezone(timezone.utc) if isinstance(value, datetime) else value


def compare(features: DataFrame, table: str, key: Sequence[str]) -> None:
    """Reads the row of every key, and compares every column with Spark's."""
    expected = features.collect()
    results = client.get_many(table, [tuple(key_value(row[name]) for name in key) for row in expected])
    for row, result in zip(expected, results):
        for name, value in row.asDict(recursive=False).items():
            if not same(result[name], value):
                raise SystemExit(f"{table}: another value of {name} in {[row[name] for name in key]}")
    print(f"table {table}: {len(expected):,} rows read by key, all equal to Spark's")


# %% [markdown]
# ## The day of a carrier: structs and maps
#
# `as_of` is the table's sequence: of two versions of a day the newer one stays, whichever comes last.

# %%
delays = F.struct(
    F.count("dep_delay").alias("flights"),
    F.avg("dep_delay").alias("mean"),
    F.percentile_approx("dep_delay", [0.5, 0.9, 0.99]).alias("p50_p90_p99"),
    F.max("dep_delay").alias("worst"),
)
by_origin = flights.groupBy("carrier", "date", "origin").agg(delays.alias("delays"))
carrier_days = (
    flights.groupBy("carrier", "date")
    .agg(
        F.count("*").alias("planned"),
        F.count_if(F.col("dep_time").isNull()).alias("cancelled"),
        delays.alias("delays"),
        F.sum("distance").alias("miles"),
        F.max_by(F.struct("flight_id", "dest", "dep_delay"), F.struct("dep_delay", "flight_id")).alias("worst"),
    )
    .join(
        by_origin.groupBy("carrier", "date").agg(
            F.map_from_entries(F.collect_list(F.struct("origin", "delays"))).alias("origins")
        ),
        ["carrier", "date"],
    )
    .withColumn("as_of", F.lit("2014-01-02 06:00:00").cast("timestamp"))
    .cache()
)
make_table("carrier_days", carrier_days, ["carrier", "date"], sequence_by="as_of")
write(carrier_days, "carrier_days")
compare(carrier_days, "carrier_days", ["carrier", "date"])

# %% [markdown]
# A service reads it in two lines:

# %%
features = forebay.connect(ENDPOINT)
day = features.get("carrier_days", ("UA", date(2013, 1, 4)))

# %%
print(f"UA on 4 January 2013: {day['planned']} flights, {day['cancelled']} cancelled, delays {day['delays']}")

# %% [markdown]
# A job of yesterday that comes late changes nothing. Its rows are written under the condition that nothing newer is there, so they
# count as superseded, which is a success.

# %%
late = carrier_days.withColumn("as_of", F.lit("2014-01-01 06:00:00").cast("timestamp")).withColumn(
    "planned", F.lit(0).cast("bigint")
)
write(late, "carrier_days")
compare(carrier_days, "carrier_days", ["carrier", "date"])

# %% [markdown]
# ## The last flights of an aircraft: an array of structs
#
# Some flights were cancelled before they had an aircraft: their `tailnum` is null. They are one group, whose key is null, and so its
# row is rejected. `rejects` says where such rows go, with their reasons; without it the job fails, which is the default.

# %%
newest_first = Window.partitionBy("tailnum").orderBy(F.desc("time_hour"), F.desc("flight_id"))
last_five = flights.withColumn("place", F.row_number().over(newest_first)).where("place <= 5")
aircraft = (
    last_five.groupBy("tailnum")
    .agg(
        F.sort_array(F.collect_list(F.struct("place", "flight_id", "origin", "dest", "time_hour", "arr_delay"))).alias(
            "last_flights"
        )
    )
    .withColumn("flights", F.size("last_flights"))
    .cache()
)
rejects = tempfile.mkdtemp(prefix="rejects-")
make_table("aircraft", aircraft, ["tailnum"])
write(aircraft, "aircraft", rejects=rejects)
compare(aircraft.where("tailnum is not null"), "aircraft", ["tailnum"])

# %% [markdown]
# What was rejected is a DataFrame, with the reasons and the rows themselves:

# %%
rejected = spark.read.parquet(rejects)
rejected.select("reason", "field_path", "message", "row.tailnum", "row.flights").show(truncate=False)
lost = aircraft.where("tailnum is null").select("flights", "last_flights").collect()
if rejected.select("row.flights", "row.last_flights").collect() != lost:
    raise SystemExit(f"aircraft: {rejected.count()} rows were rejected; expected the {len(lost)} without a tailnum")

# %% [markdown]
# ## The routes of an airport: a map of structs
#
# One row for each airport, with an entry for each of its destinations.

# %%
routes = (
    flights.groupBy("origin", "dest")
    .agg(
        F.count("*").alias("flights"),
        F.collect_set("carrier").alias("carriers"),
        F.avg("air_time").alias("mean_air_time"),
        F.max("distance").alias("distance"),
    )
    .groupBy("origin")
    .agg(
        F.map_from_entries(
            F.collect_list(
                F.struct(
                    "dest", F.struct("flights", F.sort_array("carriers").alias("carriers"), "mean_air_time", "distance")
                )
            )
        ).alias("routes")
    )
    .cache()
)
make_table("routes", routes, ["origin"])
write(routes, "routes")
compare(routes, "routes", ["origin"])

# %% [markdown]
# ## Hours of an airport: tumbling windows by put, sliding ones by merge
#
# Two jobs fill one table. The first puts a row for each hour. The second merges what the three hours before its end were like into
# the same rows, and leaves the first one's columns alone.

# %%
hours = (
    flights.groupBy("origin", F.window("time_hour", "1 hour"))
    .agg(F.count("*").alias("planned"), F.avg("dep_delay").alias("mean_delay"), F.max("dep_delay").alias("worst_delay"))
    .select("origin", F.col("window.end").alias("until"), "planned", "mean_delay", "worst_delay")
    .cache()
)
three_hours = (
    flights.groupBy("origin", F.window("time_hour", "3 hours", "1 hour"))
    .agg(
        F.struct(
            F.count("*").alias("planned"),
            F.count_if(F.col("dep_delay") > 15).alias("late"),
            F.avg("dep_delay").alias("mean_delay"),
            F.array_sort(F.collect_set("carrier")).alias("carriers"),
        ).alias("last_3_hours")
    )
    .select("origin", F.col("window.end").alias("until"), "last_3_hours")
    .cache()
)
make_table("airport_hours", hours.join(three_hours, ["origin", "until"], "full_outer"), ["origin", "until"])
write(hours, "airport_hours")
write(three_hours, "airport_hours", mode="merge")
# A merge makes the row where there is none: the hours without a departure that still look back on some.
compare(hours.join(three_hours, ["origin", "until"], "full_outer").cache(), "airport_hours", ["origin", "until"])

# %% [markdown]
# A service asks for the evening of an airport, in order:

# %%
evening = datetime(2013, 1, 4, 22, tzinfo=timezone.utc)
for hour in features.get_range("airport_hours", "EWR", sort_from=evening, limit=3):
    print(f"EWR until {hour['until']:%H:%M} UTC: {hour['planned']} planned, before that {hour['last_3_hours']}")

# %%
features.close()
client.close()
spark.stop()
shutil.rmtree(rejects)
