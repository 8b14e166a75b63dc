"""Measures writing a DataFrame from Spark: Forebay's data source against boto3, in one run.

Spark (local[2]), the gateway and the stub DynamoDB share the machine, so wall time is the machine's and CPU time is
each process's own. The ways of writing take turns within a round; ratios are of the same round, figures are medians
over rounds. Rows are made and cached before anything is measured. Of every write to the stub, the rows that it counted
must be the rows that were written, or the run fails.

`--quick` measures little, judges nothing and shows that all of it runs. A full run fails where the data source takes
more than 60 % of the task time of boto3's `batch_writer`.

    clients/python/benches/run GATEWAY STUB [--quick]
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import json
import os
import platform
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Iterator, List, Mapping, Optional, Sequence

import boto3
from pyspark.sql import DataFrame, SparkSession

from throughput import report, ways
from throughput.measure import Meter
from throughput.processes import BenchError, Gateway, Stub, clean_environment
from throughput.report import Setting
from throughput.shapes import SHAPES, Shape

SPARK_CORES = 2
WARM_UP_ROWS = 2_000


@dataclass(frozen=True)
class Store:
    """What rows are written to."""

    name: str
    label: str
    latency_ms: Optional[int]
    """Of the stub; None: the embedded store."""
    judged: bool


STORES = {
    store.name: store
    for store in (
        Store("stub", "stub that answers at once", 0, True),
        Store("stub-5ms", "stub that answers after 5 ms", 5, True),
        # One lock on SQLite is what it measures, whoever writes.
        Store("embedded", "embedded store", None, False),
    )
}


def main() -> int:
    options = parse()
    os.environ.update(clean_environment())  # For Spark's Python workers, and boto3 in them.
    if options.apart:
        # Inherited by the JVM and its workers. What is measured then is Spark's side with a core to itself.
        os.sched_setaffinity(0, {0})
    spark = start_spark(1 if options.apart else SPARK_CORES)
    try:
        ways.register(spark)
        settings = [setting for store in options.stores for setting in measure_store(spark, options, STORES[store])]
    finally:
        spark.stop()
    about = {
        "python": platform.python_version(),
        "spark": spark.version,
        "cores": os.cpu_count(),
        "rounds": options.rounds,
        "partitions": options.partitions,
        "apart": options.apart,
        "shapes": {name: SHAPES[name].describes for name in options.shapes},
    }
    if options.json:
        options.json.write_text(json.dumps(report.as_json(settings, about), indent=1) + "\n")
    return judge(settings, quick=options.quick)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--gateway", type=Path, required=True, help="the forebay binary")
    parser.add_argument("--stub", type=Path, required=True, help="the stub_dynamodb binary")
    parser.add_argument("--quick", action="store_true", help="little, to see that it runs; judges no figure")
    parser.add_argument(
        "--rows", type=int, help="feature rows a write; of vitals a tenth (default 100,000; quick: 4,000)"
    )
    parser.add_argument(
        "--embedded-rows", type=int, help="the same, to the embedded store (default 20,000; quick: 2,000)"
    )
    parser.add_argument("--rounds", type=int, help="rounds in which the ways take turns (default 5; quick: 1)")
    parser.add_argument("--partitions", type=int, default=4, help="of the DataFrame: tasks of a write")
    parser.add_argument("--apart", action="store_true", help="Spark on core 0, gateway and stub on core 1 (Linux)")
    parser.add_argument("--shapes", nargs="+", choices=SHAPES, default=list(SHAPES))
    parser.add_argument("--stores", nargs="+", choices=STORES, help="(default: all; quick: stub and embedded)")
    parser.add_argument("--ways", nargs="+", choices=[way.name for way in ways.WAYS], default=[], help="(default: all)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write everything that was measured")
    options = parser.parse_args()
    options.rows = options.rows or (4_000 if options.quick else 100_000)
    options.embedded_rows = options.embedded_rows or (2_000 if options.quick else 20_000)
    options.rounds = options.rounds or (1 if options.quick else 5)
    options.stores = options.stores or (["stub", "embedded"] if options.quick else list(STORES))
    return options


def start_spark(cores: int) -> SparkSession:
    os.environ.setdefault("PYSPARK_PYTHON", sys.executable)
    builder = SparkSession.Builder().master(f"local[{cores}]").appName("forebay-throughput")
    # The UI's REST interface has the tasks' times; it is on a free port.
    builder = (
        builder.config("spark.ui.enabled", "true")
        .config("spark.ui.port", "0")
        .config("spark.ui.showConsoleProgress", "false")
    )
    builder = (
        builder.config("spark.driver.host", "127.0.0.1")
        .config("spark.driver.bindAddress", "127.0.0.1")
        .config("spark.driver.memory", "2g")
    )
    spark = builder.config("spark.sql.session.timeZone", "UTC").getOrCreate()
    spark.sparkContext.setLogLevel("ERROR")
    return spark


def measure_store(spark: SparkSession, options: argparse.Namespace, store: Store) -> Iterator[Setting]:
    """A store's settings, one a shape, each with processes of its own."""
    for name in options.shapes:
        shape = SHAPES[name]
        rows = options.rows if store.latency_ms is not None else options.embedded_rows
        setting = Setting(
            shape.name, store.label, rows if shape.name == "features" else max(rows // 10, 1), store.judged
        )
        with contextlib.ExitStack() as stack:
            core = 1 if options.apart else None
            stub = None
            if store.latency_ms is not None:
                stub = stack.enter_context(Stub(options.stub, store.latency_ms, core))
            gateway = stack.enter_context(Gateway(options.gateway, stub.url if stub else None, core))
            measure_setting(spark, options, setting, shape, gateway, stub)
        print(report.markdown(setting, ways.WAYS), end="\n\n", flush=True)
        yield setting


def measure_setting(
    spark: SparkSession,
    options: argparse.Namespace,
    setting: Setting,
    shape: Shape,
    gateway: Gateway,
    stub: Optional[Stub],
) -> None:
    chosen = ways.chosen(options.ways)
    targets = {}
    for way in chosen:
        # A table for each way: the embedded store keeps rows, and a row that is there already is another write.
        table = f"{shape.name}-{way.name}"
        targets[way.name] = ways.Target(gateway.url, gateway.dynamodb_url, table)
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "table.yaml"
            file.write_text(shape.table_file(table))
            gateway.apply_table(file)
    meter = Meter(spark, gateway, stub)
    warm_up = cached(shape.data_frame(spark, min(WARM_UP_ROWS, setting.rows), options.partitions))
    frame = cached(shape.data_frame(spark, setting.rows, options.partitions))
    for way in chosen:
        way.write(warm_up, targets[way.name])
    for turn in range(options.rounds):
        # Another one begins each round, lest one always follow the same neighbour.
        for way in chosen[turn % len(chosen) :] + chosen[: turn % len(chosen)]:
            if stub:
                stub.take_stats()
            sample = meter.measure(setting.rows, functools.partial(way.write, frame, targets[way.name]))
            if stub:
                check_count(way, stub.take_stats(), setting)
            setting.samples.setdefault(way.name, []).append(sample)
            where = f"{setting.shape}, {setting.store}, round {turn + 1}, {way.name}"
            print(f"{where}: {sample.wall_seconds:.2f} s", file=sys.stderr, flush=True)
    if not stub:
        for way in chosen:
            check_stored(way, targets[way.name], setting.rows)
    warm_up.unpersist(blocking=True)
    frame.unpersist(blocking=True)


def cached(frame: DataFrame) -> DataFrame:
    frame = frame.persist()
    frame.count()
    return frame


def check_count(way: ways.Way, stats: Mapping[str, Any], setting: Setting) -> None:
    """Every row arrived once, and nothing was refused."""
    expected = setting.rows if way.writes else 0
    if stats["puts"] != expected or stats["refused"] != 0:
        counted = f"counted {stats['puts']} rows and refused {stats['refused']} calls"
        raise BenchError(f"{way.name}: the stub {counted}, not {expected} and 0")
    if way.writes:
        setting.request_bytes_a_row[way.name] = round(stats["write_bytes"] / setting.rows)


def check_stored(way: ways.Way, target: ways.Target, rows: int) -> None:
    """The same by what is stored, where nobody counts what comes."""
    pages = boto3.client("dynamodb", endpoint_url=target.dynamodb_url).get_paginator("scan")
    stored = sum(page["Count"] for page in pages.paginate(TableName=target.table, Select="COUNT"))
    expected = rows if way.writes else 0
    if stored != expected:
        raise BenchError(f"{way.name}: the embedded store has {stored} rows, not {expected}")


def judge(settings: Sequence[Setting], *, quick: bool) -> int:
    """The exit code."""
    broken: List[str] = []
    for setting in settings:
        ratio = setting.ratio(ways.PROMISED)
        if ratio is None:
            continue
        tuned = setting.ratio(ways.PROMISED, ways.TUNED)
        promise = f"promised: at most {report.PROMISE:.0%}" if setting.judged and not quick else "not judged"
        words = f"{setting.shape}, {setting.store}: {ratio:.1%} of the task time of boto3's batch_writer ({promise})"
        if tuned is not None:
            words += f", {tuned:.1%} of that of its client tuned by hand"
        print(words)
        if setting.kept is False:
            broken.append(words)
    return 1 if broken and not quick else 0


if __name__ == "__main__":
    sys.exit(main())
