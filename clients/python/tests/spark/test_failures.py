"""What fails while Spark writes changes nothing in the end: the table has every row, once, with its newest values.

Real Spark, real gateways, and what goes wrong with them: tasks that fail and are tried again, workers that are killed,
gateways that die in the middle, queries that are stopped and restarted. Each test compares whole tables.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, Callable, Dict, Iterable, Iterator, List, Optional

import pytest

pytest.importorskip("pyspark", reason="pyspark is not installed: no failure of Spark's is tested")

import psutil  # noqa: E402
from pyspark.sql import functions as F  # noqa: E402

import forebay  # noqa: E402
from forebay.spark import write_dataframe  # noqa: E402

PLAIN = """
    name: {name}
    ddl: "id STRING NOT NULL, n BIGINT, at BIGINT, payload STRING"
    key: id
"""
ORDERED = """
    name: {name}
    ddl: "id STRING NOT NULL, n BIGINT, at BIGINT NOT NULL, payload STRING"
    key: id
    sequence_by: at
"""
PATIENCE_SECONDS = 60.0


def frame(spark: Any, rows: int, partitions: int = 2, at: int = 1) -> Any:
    """Rows of about 200 bytes."""
    return spark.range(0, rows, 1, partitions).select(
        F.format_string("k%06d", "id").alias("id"),
        (F.col("id") * at).alias("n"),
        F.lit(at).cast("bigint").alias("at"),
        F.repeat(F.lit("x"), 150).alias("payload"),
    )


def expected(rows: int, at: int = 1) -> Dict[str, Any]:
    return {f"k{number:06}": number * at for number in range(rows)}


def stored(endpoint: str, table: str, ids: Iterable[str], column: Optional[str] = "n") -> Dict[str, Any]:
    """The rows that are there, by id: one column, or all."""
    wanted = list(ids)
    with forebay.connect(endpoint) as client:
        found = client.get_many(table, wanted, consistent=True)
    return {
        one: (result.row if column is None else result[column]) for one, result in zip(wanted, found) if result.value()
    }


def save(df: Any, endpoint: str, table: str, **options: Any) -> None:
    # Spark looks data sources up in the thread's active session, which a thread of the test's own gets from this.
    df.sparkSession.createDataFrame([], "nothing INT")
    df.write.format("forebay").mode("append").option("endpoint", endpoint).options(**options).save(table)


def slowly(seconds: float) -> Callable[[Iterator[Any]], Iterator[Any]]:
    """Lets a partition's batches come one after the other, so that there is a middle in which something can happen."""

    def one_by_one(batches: Iterator[Any]) -> Iterator[Any]:
        for batch in batches:
            for begin in range(0, batch.num_rows, 500):
                yield batch.slice(begin, 500)
                time.sleep(seconds)

    return one_by_one


def slow(df: Any, seconds: float = 0.05) -> Any:
    return df.mapInArrow(slowly(seconds), df.schema)


def fails_once(markers: Path, at_row: int) -> Callable[[Iterator[Any]], Iterator[Any]]:
    """Fails in the middle of each partition, the first time that it is computed."""
    folder = str(markers)

    def fail(batches: Iterator[Any]) -> Iterator[Any]:
        from pyspark import TaskContext

        context = TaskContext.get()
        assert context is not None
        marker = os.path.join(folder, f"failed-{context.partitionId()}")
        seen = 0
        for batch in batches:
            seen += batch.num_rows
            if seen >= at_row and not os.path.exists(marker):
                with open(marker, "w"):
                    pass
                raise RuntimeError("a fault of the test's")
            yield batch

    return fail


def wait_until(true: Callable[[], bool], what: str, job: Optional[Future[Any]] = None) -> None:
    """Waits; not longer than the job runs."""
    until = time.monotonic() + PATIENCE_SECONDS
    while not true():
        if job is not None and job.done():
            job.result()
            raise AssertionError(f"the job was over before it came to this: {what}")
        assert time.monotonic() < until, f"it never came to this: {what}"
        time.sleep(0.05)


def some_are_stored(endpoint: str, table: str, ids: List[str]) -> Callable[[], bool]:
    """Whether the table has one of these rows: then the write is on its way."""

    def some() -> bool:
        try:
            return bool(stored(endpoint, table, ids))
        except (forebay.Unavailable, forebay.RowUnavailable):
            return False

    return some


def test_tasks_that_fail_in_the_middle_and_are_tried_again_leave_a_whole_table(
    spark: Any, source: None, small_batches: None, shared_gateway: Any, tmp_path: Path
) -> None:
    shared_gateway.apply(PLAIN.format(name="retried"))
    df = frame(spark, 4_000)
    df = df.mapInArrow(fails_once(tmp_path, at_row=1_000), df.schema)
    save(df, shared_gateway.endpoint, "retried", batchBytes="16k")
    assert len(list(tmp_path.glob("failed-*"))) == 2, "the tasks did not fail"
    assert stored(shared_gateway.endpoint, "retried", expected(4_000)) == expected(4_000)


def test_a_job_goes_on_when_its_gateway_is_killed_and_comes_back(spark: Any, source: None, gateway: Any) -> None:
    gateway.apply(PLAIN.format(name="killed"))
    with ThreadPoolExecutor(1) as pool:
        job = pool.submit(save, slow(frame(spark, 30_000)), gateway.endpoint, "killed")
        wait_until(some_are_stored(gateway.endpoint, "killed", ["k000000"]), "first rows", job)
        gateway.kill()
        assert not job.done(), "the job was over before its gateway was killed"
        time.sleep(1.0)
        gateway.start()
        job.result(timeout=PATIENCE_SECONDS)
    assert stored(gateway.endpoint, "killed", expected(30_000)) == expected(30_000)


def test_a_job_goes_on_with_the_other_gateway_when_one_dies(spark: Any, source: None, two_gateways: List[Any]) -> None:
    one, two = two_gateways
    one.apply(ORDERED.format(name="shared"))
    with ThreadPoolExecutor(1) as pool:
        endpoints = f"{one.endpoint},{two.endpoint}"
        job = pool.submit(write_dataframe, slow(frame(spark, 30_000)), endpoint=endpoints, table="shared")
        wait_until(some_are_stored(two.endpoint, "shared", ["k000000", "k015000"]), "first rows", job)
        one.kill()
        assert not job.done(), "the job was over before the gateway was killed"
        receipt = job.result(timeout=PATIENCE_SECONDS)
    assert receipt.calls > 2, "no session was open at the gateway that was killed"
    assert stored(two.endpoint, "shared", expected(30_000)) == expected(30_000)


def connected_workers(endpoint: str) -> List[Any]:
    """The Python workers of this process's Spark that have a connection to the gateway."""
    port = int(endpoint.rsplit(":", 1)[1])
    found = []
    for child in psutil.Process().children(recursive=True):
        try:
            if any(one.raddr and one.raddr.port == port for one in child.net_connections("tcp")):
                found.append(child)
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            continue
    return found


def test_a_worker_that_is_killed_in_the_middle_is_replaced_and_nothing_is_lost(
    spark: Any, source: None, shared_gateway: Any
) -> None:
    shared_gateway.apply(PLAIN.format(name="workers"))
    endpoint = shared_gateway.endpoint
    with ThreadPoolExecutor(1) as pool:
        job = pool.submit(save, slow(frame(spark, 20_000)), endpoint, "workers")
        wait_until(some_are_stored(endpoint, "workers", ["k000000"]), "first rows", job)
        workers = connected_workers(endpoint)
        assert workers, "no worker has a connection to the gateway"
        workers[0].send_signal(signal.SIGKILL)
        job.result(timeout=PATIENCE_SECONDS)
    assert stored(endpoint, "workers", expected(20_000)) == expected(20_000)


CLUSTER = """
    import os, sys, time
    import psutil
    from pyspark import TaskContext
    from pyspark.sql import SparkSession, functions as F
    from forebay.spark import ForebayDataSource

    endpoint, marker = sys.argv[1:]
    spark = (
        SparkSession.builder.master("local-cluster[2,1,1024]")
        .config("spark.ui.enabled", "false")
        .config("spark.speculation", "true")
        .config("spark.speculation.multiplier", "1.5")
        .config("spark.speculation.quantile", "0.5")
        .config("spark.speculation.interval", "200ms")
        .config("spark.sql.execution.arrow.maxRecordsPerBatch", "1000")
        .getOrCreate()
    )
    spark.sparkContext.setLogLevel("OFF")
    spark.dataSource.register(ForebayDataSource)

    def kill_the_executor(batches):
        for number, batch in enumerate(batches):
            if number == 3 and TaskContext.get().partitionId() == 1 and not os.path.exists(marker):
                open(marker, "w").close()
                process = psutil.Process()
                while "java" not in process.name():
                    process = process.parent()
                process.kill()
            # One task is much slower than the others: a copy of it is started.
            time.sleep(0.3 if TaskContext.get().partitionId() == 3 and TaskContext.get().attemptNumber() == 0 else 0.02)
            yield batch

    df = spark.range(0, 40000, 1, 4).select(
        F.format_string("k%06d", "id").alias("id"), F.col("id").alias("n"), F.lit(1).cast("bigint").alias("at"),
        F.repeat(F.lit("x"), 150).alias("payload"),
    )
    df = df.mapInArrow(kill_the_executor, df.schema)
    df.write.format("forebay").mode("append").option("endpoint", endpoint).save("cluster")
    spark.stop()
"""


def test_an_executor_that_is_killed_and_tasks_that_run_twice_leave_a_whole_table(
    shared_gateway: Any, tmp_path: Path
) -> None:
    """A Spark with executors of their own, one of which dies, and with speculation."""
    shared_gateway.apply(ORDERED.format(name="cluster"))
    script, marker = tmp_path / "job.py", tmp_path / "killed"
    script.write_text(textwrap.dedent(CLUSTER))
    sources = str(Path(__file__).resolve().parents[2] / "src")
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([sources, *filter(None, [os.environ.get("PYTHONPATH")])]),
        "PYSPARK_PYTHON": sys.executable,
        "SPARK_LOCAL_IP": "127.0.0.1",
        # Where the cluster keeps its executors' folders.
        "SPARK_WORKER_DIR": str(tmp_path),
    }
    command = [sys.executable, str(script), shared_gateway.endpoint, str(marker)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=180, cwd=tmp_path)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-6000:]
    assert marker.exists(), "no executor was killed"
    assert stored(shared_gateway.endpoint, "cluster", expected(40_000)) == expected(40_000)


def test_attempts_that_run_at_the_same_time_and_one_that_comes_too_late_leave_the_newest_rows(
    spark: Any, shared_gateway: Any
) -> None:
    """A speculative copy, and a zombie of an older batch, in a table with `sequence_by`."""
    shared_gateway.apply(ORDERED.format(name="twice"))
    endpoint = shared_gateway.endpoint

    def attempt(at: int) -> Any:
        return write_dataframe(slow(frame(spark, 4_000, 1, at), 0.02), endpoint=endpoint, table="twice")

    with ThreadPoolExecutor(3) as pool:
        receipts = [job.result(timeout=PATIENCE_SECONDS) for job in [pool.submit(attempt, at) for at in (7, 3, 7)]]
    assert stored(endpoint, "twice", expected(4_000)) == expected(4_000, at=7)
    # And long after.
    late = attempt(5)
    assert late.superseded_rows == 4_000
    assert late.unwritten_rows == 0 and all(receipt.unwritten_rows == 0 for receipt in receipts)
    assert stored(endpoint, "twice", expected(4_000)) == expected(4_000, at=7)


def batches_of_changes(spark: Any, folder: Path, more: bool = False) -> None:
    """Five files of changes to the same keys, each newer than the one before."""
    for number in range(1, 6):
        df = frame(spark, 600, 1, at=number).filter(F.col("id") <= f"k{number * 100:06}")
        # Spark's pipes hold 64 KiB back: with less, no row of a broken batch would come as far as the gateway.
        df = df.withColumn("payload", F.repeat(F.lit("x"), 3_000))
        if more:
            df = df.withColumn("extra", F.lit(number))
        df.write.mode("append").parquet(str(folder / f"{number}"))
        # The file source takes files in the order of their times.
        for file in (folder / f"{number}").glob("*.parquet"):
            os.utime(file, (1_700_000_000 + number, 1_700_000_000 + number))
            file.rename(folder / f"{number}.parquet")


def stream(
    spark: Any, folder: Path, checkpoint: Path, endpoint: str, table: str, through: Any = None, **options: str
) -> Any:
    df = spark.readStream.schema(spark.read.parquet(str(folder / "1.parquet")).schema)
    df = df.option("maxFilesPerTrigger", "1").parquet(f"{folder}/*.parquet")
    if through is not None:
        df = df.mapInArrow(through, df.schema)
    writer = df.writeStream.format("forebay").option("endpoint", endpoint).option("table", table).options(**options)
    return writer.option("checkpointLocation", str(checkpoint)).trigger(availableNow=True).start()


def fails_in_batch(markers: Path, at: int) -> Callable[[Iterator[Any]], Iterator[Any]]:
    """Lets the first 150 rows of a batch through and then fails, until a file says that it is over."""
    over = str(markers / "over")

    def fail(batches: Iterator[Any]) -> Iterator[Any]:
        seen = 0
        for batch in batches:
            if batch.num_rows and batch.column("at")[0].as_py() == at and not os.path.exists(over):
                if seen >= 150:
                    # So that the gateway has them.
                    time.sleep(0.5)
                    raise RuntimeError("a fault of the test's")
                seen += batch.num_rows
            yield batch

    return fail


@pytest.fixture
def small_batches(spark: Any) -> Iterator[None]:
    """Rows reach the sink in batches of 50 and not of 10,000: half of a small partition is there before the other."""
    spark.conf.set("spark.sql.execution.arrow.maxRecordsPerBatch", "50")
    yield
    spark.conf.unset("spark.sql.execution.arrow.maxRecordsPerBatch")


@pytest.mark.parametrize("kind", ["PLAIN", "ORDERED"])
def test_a_query_that_broke_in_a_batch_and_is_restarted_ends_in_the_table_of_one_that_did_not(
    spark: Any, source: None, small_batches: None, shared_gateway: Any, tmp_path: Path, kind: str
) -> None:
    definition = {"PLAIN": PLAIN, "ORDERED": ORDERED}[kind]
    whole, broken = f"whole_{kind.lower()}", f"broken_{kind.lower()}"
    shared_gateway.apply(definition.format(name=whole), definition.format(name=broken))
    endpoint = shared_gateway.endpoint
    changes = tmp_path / "changes"
    changes.mkdir()
    batches_of_changes(spark, changes)
    stream(spark, changes, tmp_path / "c1", endpoint, whole).awaitTermination(60)

    first = stream(spark, changes, tmp_path / "c2", endpoint, broken, fails_in_batch(tmp_path, at=3), batchBytes="1k")
    with pytest.raises(Exception, match="a fault of the test's"):
        first.awaitTermination(60)
    assert stored(endpoint, broken, ["k000050", "k000450"]) == {"k000050": 150}, "a part of the third batch"
    (tmp_path / "over").touch()
    second = stream(spark, changes, tmp_path / "c2", endpoint, broken, fails_in_batch(tmp_path, at=3))
    second.awaitTermination(60)
    assert second.exception() is None

    ids = list(expected(600))
    assert stored(endpoint, broken, ids, None) == stored(endpoint, whole, ids, None)
    assert len(stored(endpoint, whole, ids)) == 501


def test_a_query_that_goes_on_with_a_new_column_adds_it_and_leaves_older_rows_as_they_were(
    spark: Any, source: None, shared_gateway: Any, tmp_path: Path
) -> None:
    shared_gateway.apply(ORDERED.format(name="widened"))
    endpoint = shared_gateway.endpoint
    narrow, wide = tmp_path / "narrow", tmp_path / "wide"
    for folder, more in ((narrow, False), (wide, True)):
        folder.mkdir()
        batches_of_changes(spark, folder, more)
    stream(spark, narrow, tmp_path / "c1", endpoint, "widened").awaitTermination(60)
    refused = stream(spark, wide, tmp_path / "c2", endpoint, "widened")
    with pytest.raises(Exception, match="extra"):
        refused.awaitTermination(60)
    assert "extra" not in stored(endpoint, "widened", ["k000001"], None)["k000001"]
    stream(spark, wide, tmp_path / "c3", endpoint, "widened", mergeSchema="true").awaitTermination(60)
    rows = stored(endpoint, "widened", expected(600), None)
    assert len(rows) == 501
    assert all(row["extra"] == row["at"] == 5 for row in rows.values())


def test_a_column_that_another_session_adds_in_the_middle_of_a_write_disturbs_nothing(
    spark: Any, source: None, shared_gateway: Any
) -> None:
    shared_gateway.apply(ORDERED.format(name="between"))
    endpoint = shared_gateway.endpoint
    with ThreadPoolExecutor(1) as pool:
        job = pool.submit(save, slow(frame(spark, 10_000)), endpoint, "between")
        wait_until(some_are_stored(endpoint, "between", ["k000000"]), "first rows", job)
        wider = frame(spark, 100, 1, at=9).withColumn("nested", F.struct(F.lit(1).alias("a")))
        save(wider, endpoint, "between", mergeSchema="true")
        assert not job.done(), "the job was over before the column was added"
        job.result(timeout=PATIENCE_SECONDS)
    newer = expected(100, at=9)
    assert stored(endpoint, "between", expected(10_000)) == {**expected(10_000), **newer}
    rows = stored(endpoint, "between", ["k000001", "k009999"], "nested")
    assert rows == {"k000001": {"a": 1}, "k009999": None}


def with_bad_rows(spark: Any, rows: int) -> Any:
    """Every hundredth row has a key that is empty: no table takes it."""
    df = frame(spark, rows)
    return df.withColumn("id", F.when(F.col("n") % 100 == 99, F.lit("")).otherwise(F.col("id")))


@pytest.mark.parametrize("rejects", ["fail", "report", "path"])
def test_a_rejected_row_costs_itself_and_no_other_in_each_mode(
    spark: Any, source: None, shared_gateway: Any, tmp_path: Path, rejects: str
) -> None:
    name = f"rejects_{rejects}"
    shared_gateway.apply(PLAIN.format(name=name))
    option = str(tmp_path / "rejected") if rejects == "path" else rejects
    df = with_bad_rows(spark, 2_000)
    if rejects == "fail":
        with pytest.raises(
            Exception, match=r"20 of 2,?000 rows were rejected by the table `rejects_fail` \(KEY_EMPTY 20\)"
        ):
            save(df, shared_gateway.endpoint, name)
    else:
        save(df, shared_gateway.endpoint, name, rejects=option)
    good = {one: n for one, n in expected(2_000).items() if n % 100 != 99}
    assert stored(shared_gateway.endpoint, name, expected(2_000)) == good
    if rejects == "path":
        rejected = spark.read.parquet(option)
        assert rejected.count() == 20
        assert {row[0] for row in rejected.select("reason").distinct().collect()} == {"KEY_EMPTY"}


def test_a_write_with_a_wrong_endpoint_fails_in_the_time_that_it_was_given(spark: Any, source: None) -> None:
    began = time.monotonic()
    with pytest.raises(Exception, match="cannot be reached|could not be reached|UNAVAILABLE"):
        save(frame(spark, 10, 1), "http://127.0.0.1:1", "nowhere", retryFor="1s")
    # Three attempts of the task, and Spark's own time.
    assert time.monotonic() - began < 45


def test_a_job_that_is_cancelled_in_the_middle_ends_and_can_be_run_again(
    spark: Any, source: None, shared_gateway: Any
) -> None:
    shared_gateway.apply(PLAIN.format(name="cancelled"))
    endpoint = shared_gateway.endpoint
    group = "to-be-cancelled"
    failures: List[BaseException] = []

    def run() -> None:
        spark.sparkContext.setJobGroup(group, "cancelled by a test", interruptOnCancel=True)
        try:
            save(slow(frame(spark, 30_000), 0.1), endpoint, "cancelled")
        except Exception as error:
            failures.append(error)

    from pyspark import InheritableThread

    job: threading.Thread = InheritableThread(target=run)
    job.start()
    wait_until(some_are_stored(endpoint, "cancelled", ["k000000"]), "first rows")
    spark.sparkContext.cancelJobGroup(group)
    job.join(PATIENCE_SECONDS)
    assert not job.is_alive() and failures, "the job was not cancelled"
    assert not stored(endpoint, "cancelled", ["k014999", "k029999"]), "the job had written all when it was cancelled"
    save(frame(spark, 30_000), endpoint, "cancelled")
    assert stored(endpoint, "cancelled", expected(30_000)) == expected(30_000)
