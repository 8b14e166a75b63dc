"""Writing from Spark, batch and streaming, with a real Spark and a real gateway."""

from __future__ import annotations

import datetime
import decimal
import re
import urllib.request
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List

import pytest

pytest.importorskip("pyspark", reason="pyspark is not installed: nothing of writing from Spark is tested")

from pyspark.sql import functions as F  # noqa: E402

import forebay  # noqa: E402
from forebay.spark import foreach_batch, write_dataframe  # noqa: E402

TABLE = """
    name: {name}
    ddl: "id STRING NOT NULL, n BIGINT, small TINYINT, at BIGINT NOT NULL, tx STRING, note STRING"
    key: id
    {more}
"""


@pytest.fixture
def table(shared_gateway: Any, request: pytest.FixtureRequest) -> Iterator[Callable[..., str]]:
    """Makes a table with a name of the test's own."""
    made: List[str] = []

    def make(more: str = "", suffix: str = "") -> str:
        name = re.sub(r"[^a-z0-9_]", "_", request.node.name.lower())[:90] + suffix
        shared_gateway.apply(TABLE.format(name=name, more=more))
        made.append(name)
        return name

    yield make


@pytest.fixture
def client(shared_gateway: Any) -> Iterator[Any]:
    with forebay.connect(shared_gateway.endpoint) as client:
        yield client


@pytest.fixture
def sessions(shared_gateway: Any) -> Callable[[], Dict[str, float]]:
    """How many sessions have ended since, by how."""
    before = ended_sessions(shared_gateway)

    def since() -> Dict[str, float]:
        now = ended_sessions(shared_gateway)
        return {how: count - before.get(how, 0.0) for how, count in now.items() if count != before.get(how, 0.0)}

    return since


def ended_sessions(gateway: Any) -> Dict[str, float]:
    with urllib.request.urlopen(f"{gateway.admin}/metrics", timeout=5) as answer:
        text = answer.read().decode()
    return {m[1]: float(m[2]) for m in re.finditer(r"(?m)^(forebay_\S*session\S*) (\S+)$", text)}


def frame(spark: Any, rows: int, partitions: int = 2) -> Any:
    return spark.range(0, rows, 1, partitions).select(
        F.format_string("k%05d", "id").alias("id"),
        F.col("id").alias("n"),
        (F.col("id") % 100).cast("tinyint").alias("small"),
        F.col("id").alias("at"),
    )


def write(df: Any, gateway: Any, table: str, **options: Any) -> None:
    df.write.format("forebay").mode("append").option("endpoint", gateway.endpoint).options(**options).save(table)


def test_an_unregistered_session_finds_the_source(spark: Any, shared_gateway: Any, table: Any, client: Any) -> None:
    name = table()
    write(frame(spark, 5000), shared_gateway, name)
    assert client.get(name, "k00000")["n"] == 0
    assert client.get(name, "k04999")["n"] == 4999

