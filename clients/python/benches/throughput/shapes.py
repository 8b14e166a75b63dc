"""The rows that are written: as a table of Forebay and as a DataFrame that Spark makes.

Rows depend on their number only, so every way of writing gets the same ones. All digits of doubles are in use, as
measurements give them.
Callers: `spark_throughput`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Sequence

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

FIRST_SECOND = 1_767_225_600


@dataclass(frozen=True)
class Shape:
    """A kind of row."""

    name: str
    describes: str
    key: str
    ddl: str
    columns: Sequence[str]
    """SQL expressions over `id`, the number of the row."""

    def table_file(self, table: str) -> str:
        """The definition as `forebay tables apply` takes it."""
        lines = "".join(f"  {line.strip()}\n" for line in self.ddl.strip().splitlines())
        return f"name: {table}\nddl: |\n{lines}key: {self.key}\n"

    def data_frame(self, spark: SparkSession, rows: int, partitions: int) -> DataFrame:
        """So many rows, not computed yet."""
        return spark.range(0, rows, 1, partitions).selectExpr(*self.columns)


def _double(column: int, low: float, high: float, number: str = "id") -> str:
    """A double in a range, mixed from the row's number; 53 bits of it."""
    return (
        f"CAST(xxhash64({number}, {column}) & 9007199254740991 AS DOUBLE) / 9007199254740992D * {high - low}D + {low}D"
    )


def _int(column: int, low: int, high: int, number: str) -> str:
    return f"CAST(pmod(xxhash64({number}, {column}), {high - low}) + {low} AS INT)"


_DOUBLES = ("avg_7d", "avg_30d", "max_30d", "min_30d", "trend", "score")
_VECTOR = 8

FEATURES = Shape(
    name="features",
    describes="11 columns: 2 strings, 6 doubles, a long, a timestamp, an array of 8 doubles",
    key="id",
    ddl=f"""
        id STRING NOT NULL,
        segment STRING,
        {", ".join(f"{name} DOUBLE" for name in _DOUBLES)},
        orders BIGINT,
        at TIMESTAMP,
        emb ARRAY<DOUBLE>
    """,
    columns=(
        "format_string('customer-%09d', id) AS id",
        "concat('segment-', id % 9) AS segment",
        *(f"{_double(column, 0, 1000)} AS {name}" for column, name in enumerate(_DOUBLES)),
        "id * 1001 AS orders",
        f"timestamp_micros({FIRST_SECOND}000000 + id) AS at",
        f"array({', '.join(_double(len(_DOUBLES) + column, 0, 1000) for column in range(_VECTOR))}) AS emb",
    ),
)

READINGS = 24
"""Readings of a patient: a day of them, one an hour."""

_NUMBER = f"id * {READINGS} + i"
_READING = ", ".join(
    (
        f"'at', timestamp_seconds({FIRST_SECOND} + i * 3600)",
        f"'heart_rate', {_int(1, 50, 120, _NUMBER)}",
        f"'respiration', {_int(2, 10, 25, _NUMBER)}",
        f"'systolic', {_int(3, 90, 160, _NUMBER)}",
        f"'diastolic', {_int(4, 50, 100, _NUMBER)}",
        f"'spo2', {_double(5, 85, 100, _NUMBER)}",
        f"'temperature', {_double(6, 35, 41, _NUMBER)}",
    )
)

VITALS = Shape(
    name="vitals",
    describes=f"a patient's day: an array of {READINGS} structs of a timestamp, 4 ints and 2 doubles",
    key="patient_id",
    ddl="""
        patient_id STRING NOT NULL,
        ward STRING,
        updated_at TIMESTAMP,
        vitals ARRAY<STRUCT<
          at: TIMESTAMP, heart_rate: INT, respiration: INT, systolic: INT, diastolic: INT,
          spo2: DOUBLE, temperature: DOUBLE>>
    """,
    columns=(
        "format_string('patient-%09d', id) AS patient_id",
        "concat('ward-', id % 40) AS ward",
        f"timestamp_micros({FIRST_SECOND}000000 + id) AS updated_at",
        f"transform(sequence(0, {READINGS - 1}), i -> named_struct({_READING})) AS vitals",
    ),
)

SHAPES = {shape.name: shape for shape in (FEATURES, VITALS)}
