"""A Spark for tests: one session for all of them, in threads of this process's JVM, with Python workers of its own.

Tests that need Spark are skipped where pyspark cannot be imported, and say so; `FOREBAY_NEED_SPARK=1`, which CI sets,
makes that a failure. Its tasks may fail twice and be tried again, its clock is in a zone that is not UTC, and filters
reach data sources.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any, Iterator

import pytest

SOURCES = Path(__file__).resolve().parents[2] / "src"
ZONE = "America/New_York"


if os.environ.get("FOREBAY_NEED_SPARK") == "1":
    # Before modules of tests skip themselves.
    import pyspark  # noqa: F401


@pytest.fixture(scope="session")
def spark() -> Iterator[Any]:
    """A SparkSession."""
    pytest.importorskip("pyspark", reason="pyspark is not installed: the data source is not tested")
    from pyspark.sql import SparkSession

    os.environ.setdefault("SPARK_LOCAL_IP", "127.0.0.1")
    # Python workers are processes of their own: they find the package where this one does.
    os.environ["PYTHONPATH"] = os.pathsep.join([str(SOURCES), *filter(None, [os.environ.get("PYTHONPATH")])])
    os.environ["PYSPARK_PYTHON"] = sys.executable
    session = (
        SparkSession.builder.master("local[2,3]")
        .appName("forebay-tests")
        .config("spark.ui.enabled", "false")
        .config("spark.sql.session.timeZone", ZONE)
        .config("spark.sql.shuffle.partitions", "2")
        .config("spark.sql.python.filterPushdown.enabled", "true")
        .config("spark.sql.streaming.metricsEnabled", "false")
        .getOrCreate()
    )
    session.sparkContext.setLogLevel("ERROR")
    try:
        yield session
    finally:
        session.stop()


@pytest.fixture(scope="session")
def source(spark: Any) -> None:
    """The data source, registered: `format("forebay")`."""
    from forebay.spark import ForebayDataSource

    spark.dataSource.register(ForebayDataSource)
