"""Writing from Spark, batch and streaming, with a real Spark and a real gateway."""

from __future__ import annotations

import re
import subprocess
import sys
import threading
import time
import urllib.request
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List, Tuple

import pytest

pytest.importorskip("pyspark", reason="pyspark is not installed: nothing of writing from Spark is tested")

from pyspark.sql import functions as F  # noqa: E402

import forebay  # noqa: E402
from forebay.spark import foreach_batch, write_dataframe  # noqa: E402

TABLE = """
    name: {name}
    ddl: "id STRING NOT NULL, n BIGINT, small TINYINT, at BIGINT NOT NULL, tx STRING"
    key: id
    {more}
"""
SESSIONS = (
    'rpc_server_call_duration_seconds_count{rpc_method="forebay.v1.IngestService/Write",rpc_response_status_code="'
)


@pytest.fixture
def table(shared_gateway: Any, request: pytest.FixtureRequest) -> Callable[..., str]:
    """Makes a table with a name of the test's own."""

    def make(more: str = "", suffix: str = "") -> str:
        name = re.sub(r"[^a-z0-9_]", "_", request.node.name.lower())[:90] + suffix
        shared_gateway.apply(TABLE.format(name=name, more=more))
        return name

    return make


@pytest.fixture
def client(shared_gateway: Any) -> Iterator[Any]:
    with forebay.connect(shared_gateway.endpoint) as client:
        yield client


class Sessions:
    """How the sessions ended that began since this was made."""

    def __init__(self, gateway: Any) -> None:
        self._gateway = gateway
        self._before = self._read()

    def _read(self) -> Tuple[float, float, float]:
        with urllib.request.urlopen(f"{self._gateway.admin}/metrics", timeout=5) as answer:
            text = answer.read().decode()
        ended = {m[1]: float(m[2]) for m in re.finditer(rf"(?m)^{re.escape(SESSIONS)}([A-Z_]+)\"[^}}]*}} (\S+)$", text)}
        opened = re.search(r"(?m)^forebay_write_sessions_opened_total (\S+)$", text)
        open_now = re.search(r"(?m)^forebay_write_sessions (\S+)$", text)
        assert open_now is not None
        return 0.0 if opened is None else float(opened[1]), ended.get("OK", 0.0), float(open_now[1])

    def opened(self) -> int:
        return int(self._read()[0] - self._before[0])

    def opened_and_finished(self) -> Tuple[int, int]:
        """Waits until none is open: a killed worker's connection may take a while to end."""
        until = time.monotonic() + 60
        while True:
            opened, finished, open_now = self._read()
            if open_now == 0 or time.monotonic() > until:
                assert open_now == 0, "a session stays open"
                return int(opened - self._before[0]), int(finished - self._before[1])
            time.sleep(0.1)


@pytest.fixture
def sessions(shared_gateway: Any) -> Sessions:
    return Sessions(shared_gateway)


def frame(spark: Any, rows: int, partitions: int = 2, start: int = 0) -> Any:
    return spark.range(start, start + rows, 1, partitions).select(
        F.format_string("k%05d", "id").alias("id"),
        F.col("id").alias("n"),
        (F.col("id") % 100).cast("tinyint").alias("small"),
        F.col("id").alias("at"),
    )


def with_bad_rows(df: Any) -> Any:
    """Every tenth row has a `small` that is too large."""
    return df.withColumn("small", F.when(F.col("n") % 10 == 3, F.lit(1000)).otherwise(F.col("small").cast("int")))


def writing(df: Any, gateway: Any, **options: Any) -> Any:
    return df.write.format("forebay").mode("append").option("endpoint", gateway.endpoint).options(**options)


def stored(client: Any, table: str, rows: int) -> Dict[str, Any]:
    keys = [f"k{number:05d}" for number in range(rows)]
    results = zip(keys, client.get_many(table, keys, consistent=True))
    return {key: found.row for key, found in results if found.value() is not None}


# Batch.


def test_an_installed_package_is_found_without_registering(
    spark: Any, shared_gateway: Any, table: Any, client: Any
) -> None:
    # Another session of the same Spark, so that no other test has registered the source.
    df = frame(spark.newSession(), 400)
    writing(df, shared_gateway).save(table())
    found = stored(client, table(), 400)
    assert len(found) == 400 and found["k00399"] == {"id": "k00399", "n": 399, "small": 99, "at": 399, "tx": None}


def test_a_registered_source_is_the_same(spark: Any, shared_gateway: Any, table: Any, client: Any) -> None:
    from forebay.spark import ForebayDataSource

    session = spark.newSession()
    try:
        session.dataSource.register(ForebayDataSource)
    except Exception as error:
        # Spark 4.0 refuses to register what it has found itself.
        assert "DATA_SOURCE_ALREADY_EXISTS" in str(error) and spark.version.startswith("4.0.")
    df = frame(session, 10)
    df.write.format("Forebay").mode("append").option("ENDPOINT", shared_gateway.endpoint).option(
        "table", table()
    ).save()
    assert len(stored(client, table(), 10)) == 10


def test_each_task_is_one_finished_session(spark: Any, shared_gateway: Any, table: Any, sessions: Sessions) -> None:
    writing(frame(spark, 100, partitions=3), shared_gateway).save(table())
    assert sessions.opened_and_finished() == (3, 3)


def test_an_empty_dataframe_is_written(spark: Any, shared_gateway: Any, table: Any, sessions: Sessions) -> None:
    writing(frame(spark, 0), shared_gateway).save(table())
    assert sessions.opened_and_finished() == (0, 0)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"mod": "merge"}, "mod: no such option; did you mean `mode`?"),
        ({"mode": "upsert"}, "mode: `upsert` is none; expected one of put, merge, insert, delete"),
        ({"opColumn": "nn"}, "opColumn: the DataFrame has no column `nn`; did you mean `n`?"),
        ({"opColumn": "n"}, "opColumn: `n` is bigint; expected a string column"),
        ({"atomicBy": "tx"}, "atomicBy: the DataFrame has no column `tx`"),
        ({"table": "other"}, "table: is `other`, and the path is"),
    ],
)
def test_wrong_options_are_errors_before_any_task_starts(
    spark: Any, shared_gateway: Any, options: Any, message: str, request: pytest.FixtureRequest
) -> None:
    group = request.node.name
    spark.sparkContext.setJobGroup(group, "")
    try:
        with pytest.raises(Exception) as error:
            writing(frame(spark, 10), shared_gateway, **options).save("features")
    finally:
        spark.sparkContext.setLocalProperty("spark.jobGroup.id", None)
    assert message in str(error.value)
    assert list(spark.sparkContext.statusTracker().getJobIdsForGroup(group)) == []


def test_overwriting_is_refused_with_what_to_do(spark: Any, shared_gateway: Any) -> None:
    with pytest.raises(Exception, match="which Forebay does not do; expected .mode"):
        frame(spark, 1).write.format("forebay").mode("overwrite").option("endpoint", shared_gateway.endpoint).save("t")


def test_a_token_is_in_no_error(spark: Any, shared_gateway: Any, table: Any) -> None:
    with pytest.raises(Exception) as error:
        writing(frame(spark, 1), shared_gateway, token="fb_spark_0123456789", mode="upsert").save(table())
    assert "fb_spark" not in str(error.value)
    with pytest.raises(Exception) as error:
        writing(frame(spark, 1), shared_gateway, token="fb_spark_0123456789").save("there_is_no_such_table")
    assert "fb_spark" not in str(error.value)


def test_modes_do_what_they_say(spark: Any, shared_gateway: Any, table: Any, client: Any) -> None:
    name = table()
    writing(frame(spark, 20), shared_gateway).save(name)
    writing(frame(spark, 5).select("id", "at", F.lit(-1).cast("long").alias("n")), shared_gateway, mode="merge").save(
        name
    )
    writing(frame(spark, 5, start=10).select("id", "at"), shared_gateway, mode="delete").save(name)
    with pytest.raises(Exception, match=r"2 of 4 rows were rejected.*\(ALREADY_EXISTS 2\)"):
        writing(frame(spark, 4, start=18).withColumn("n", -F.col("n")), shared_gateway, mode="insert").save(name)
    found = stored(client, name, 30)
    assert (found["k00000"]["n"], found["k00000"]["small"]) == (-1, 0)
    assert "k00012" not in found and found["k00015"]["n"] == 15
    assert (found["k00019"]["n"], found["k00020"]["n"]) == (19, -20)


def test_a_change_feed_says_it_row_by_row(spark: Any, shared_gateway: Any, table: Any, client: Any) -> None:
    name = table()
    writing(frame(spark, 4), shared_gateway).save(name)
    changes = frame(spark, 4).withColumn(
        "op", F.element_at(F.array(*map(F.lit, ["delete", "PUT", "merge", "put"])), F.col("n").cast("int") + 1)
    )
    writing(changes.withColumn("n", F.col("n") + 100), shared_gateway, opColumn="op").save(name)
    found = stored(client, name, 4)
    assert {key: row["n"] for key, row in found.items()} == {"k00001": 101, "k00002": 102, "k00003": 103}


@pytest.mark.parametrize("compression", ["none", "lz4", "zstd"])
def test_batches_are_sliced_by_bytes_and_compressed(
    spark: Any, shared_gateway: Any, table: Any, client: Any, compression: str
) -> None:
    name = table()
    wide = frame(spark, 60, partitions=1).withColumn("tx", F.repeat(F.lit("x"), 1000))
    writing(wide, shared_gateway, batchBytes="4k", compression=compression).save(name)
    assert len(stored(client, name, 60)) == 60


# Rejects.


def test_rejects_fail_the_job_when_the_good_rows_are_written(
    spark: Any, shared_gateway: Any, table: Any, client: Any, sessions: Sessions
) -> None:
    name = table()
    with pytest.raises(Exception) as error:
        writing(with_bad_rows(frame(spark, 100)), shared_gateway).save(name)
    text = str(error.value)
    assert f"10 of 100 rows were rejected by the table `{name}` (OUT_OF_RANGE 10); the others are written" in text
    assert "partition 0, row 3 at small:" in text
    assert len(stored(client, name, 100)) == 90
    # No task failed, so none was run again.
    assert sessions.opened_and_finished() == (2, 2)


def test_rejects_that_are_reported_let_the_job_go_on(spark: Any, shared_gateway: Any, table: Any, client: Any) -> None:
    name = table()
    writing(with_bad_rows(frame(spark, 100)), shared_gateway, rejects="report").save(name)
    assert len(stored(client, name, 100)) == 90


def test_rejects_in_a_path_are_a_dataframe(
    spark: Any, shared_gateway: Any, table: Any, client: Any, tmp_path: Path
) -> None:
    name = table()
    path = str(tmp_path / "rejects")
    rows = with_bad_rows(frame(spark, 100))
    writing(rows, shared_gateway, rejects=path).save(name)
    rejected = spark.read.parquet(path).orderBy("row.id").collect()
    assert [row["row"]["id"] for row in rejected] == [f"k{number:05d}" for number in range(3, 100, 10)]
    first = rejected[0]
    assert (first["reason"], first["field_path"], first["row"]["small"]) == ("OUT_OF_RANGE", "small", 1000)
    assert (first["partition"], first["partition_row"]) == (0, 3)
    assert len(stored(client, name, 100)) == 90
    # What is mended goes back in.
    writing(spark.read.parquet(path).select("row.*").withColumn("small", F.lit(1)), shared_gateway).save(name)
    assert len(stored(client, name, 100)) == 100


# Attempts that fail.


def fails_first(spark: Any, marks: Path, row: int) -> Any:
    """A UDF that fails at a row in its first attempt."""
    from pyspark import TaskContext

    folder = str(marks)

    @F.udf("long")
    def fail_once(n: int) -> int:
        context = TaskContext.get()
        assert context is not None
        if n == row and context.attemptNumber() == 0:
            Path(folder, f"failed-{context.partitionId()}").touch()
            raise RuntimeError("this attempt fails")
        return n

    return fail_once


def test_a_task_that_is_run_again_ends_in_the_same_state(
    spark: Any, shared_gateway: Any, table: Any, client: Any, sessions: Sessions, tmp_path: Path
) -> None:
    name = table("sequence_by: at")
    small_batches(spark)
    df = frame(spark, 600).withColumn("n", fails_first(spark, tmp_path, 550)("n"))
    writing(df, shared_gateway).save(name)
    assert (tmp_path / "failed-1").exists()
    found = stored(client, name, 600)
    assert len(found) == 600 and all(row["n"] == row["at"] for row in found.values())
    _, finished = sessions.opened_and_finished()
    assert finished == 2


def small_batches(spark: Any) -> None:
    """Several Arrow batches in each task."""
    spark.conf.set("spark.sql.execution.arrow.maxRecordsPerBatch", "50")


def waits_for_the_sink(gateway: Any, row: int, *, fails: bool = False, seconds: float = 0.0) -> Any:
    """A UDF that stops at a row until the sink behind it has opened a session, and then for `seconds`."""
    admin = gateway.admin

    @F.udf("long")
    def wait(n: int) -> int:
        if n == row:
            until = time.monotonic() + 60
            while True:
                with urllib.request.urlopen(f"{admin}/metrics", timeout=5) as answer:
                    text = answer.read().decode()
                if re.search(r"(?m)^forebay_write_sessions [1-9]", text):
                    break
                if time.monotonic() > until:
                    raise RuntimeError("the rows before this one never came to the sink: nothing is proved")
                time.sleep(0.05)
            time.sleep(seconds)
            if fails:
                raise RuntimeError("broken")
        return n

    return wait


def broken_midway(spark: Any, gateway: Any, upstream: str) -> Any:
    """40,000 rows, of which the last ten never come; to Arrow the sink's input just ends."""
    small_batches(spark)
    df = frame(spark, 40_000, partitions=1).withColumn(
        "n", waits_for_the_sink(gateway, 39_990, fails=upstream == "python")("n")
    )
    if upstream == "jvm":
        df = df.withColumn("n", F.when(F.col("n") == 39_990, F.raise_error(F.lit("broken"))).otherwise(F.col("n")))
    return df


@pytest.mark.parametrize("upstream", ["jvm", "python"])
def test_a_task_that_fails_midway_sends_no_finish(
    spark: Any, shared_gateway: Any, table: Any, sessions: Sessions, upstream: str
) -> None:
    with pytest.raises(Exception, match="broken"):
        writing(broken_midway(spark, shared_gateway, upstream), shared_gateway).save(table())
    opened, finished = sessions.opened_and_finished()
    assert opened >= 1 and finished == 0


def test_a_job_that_is_cancelled_sends_no_finish(
    spark: Any, shared_gateway: Any, table: Any, sessions: Sessions
) -> None:
    small_batches(spark)
    df = frame(spark, 40_000, partitions=1).withColumn("n", waits_for_the_sink(shared_gateway, 39_990, seconds=30)("n"))

    def cancel() -> None:
        until = time.monotonic() + 60
        while sessions.opened() == 0 and time.monotonic() < until:
            time.sleep(0.05)
        spark.sparkContext.cancelAllJobs()

    canceller = threading.Thread(target=cancel)
    canceller.start()
    with pytest.raises(Exception, match="(?i)cancel"):
        writing(df, shared_gateway).save(table())
    canceller.join()
    assert sessions.opened_and_finished() == (1, 0)


def test_a_gateway_that_is_killed_in_the_middle_loses_nothing(spark: Any, gateway: Any) -> None:
    gateway.apply(TABLE.format(name="ttt", more="sequence_by: at"))
    small_batches(spark)

    def restart() -> None:
        with forebay.connect(gateway.endpoint) as client:
            until = time.monotonic() + 60
            while client.get("ttt", "k00050").value() is None:
                assert time.monotonic() < until, "nothing was written"
                time.sleep(0.05)
        gateway.restart()

    killer = threading.Thread(target=restart)
    killer.start()
    writing(frame(spark, 3000), gateway).save("ttt")
    killer.join()
    with forebay.connect(gateway.endpoint) as client:
        assert len(stored(client, "ttt", 3000)) == 3000


def test_the_driver_says_one_line_for_a_write(spark: Any, shared_gateway: Any, table: Any) -> None:
    # A Spark of its own, whose standard error can be read to its end.
    name = table()
    script = f"""
from pyspark.sql import SparkSession
spark = SparkSession.builder.master("local[1]").config("spark.ui.enabled", "false").getOrCreate()
rows = spark.createDataFrame([("a", 1, 7), ("b", 1000, 7)], "id string, small int, at bigint")
write = rows.write.format("forebay").mode("append").option("endpoint", "{shared_gateway.endpoint}")
write.option("rejects", "report").option("token", "fb_spark_0123456789").save("{name}")
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=180)
    assert done.returncode == 0, done.stderr
    lines = [line for line in (done.stdout + done.stderr).splitlines() if "forebay wrote" in line]
    assert len(lines) == 1
    assert re.search(
        rf"WARNING forebay\.spark: forebay wrote: table={name} rows=2 rejected=1 superseded=0 units=1\.0"
        r" seconds=[0-9.]+ tasks=1 \[OUT_OF_RANGE 1\] the first: partition 0, row 1 at small: ",
        lines[0],
    )
    assert "fb_spark" not in done.stdout + done.stderr and "1000" not in lines[0]


# Schemas, groups, helpers.


def test_new_columns_are_added_between_batches_with_merge_schema(
    spark: Any, shared_gateway: Any, table: Any, client: Any
) -> None:
    name = table()
    writing(frame(spark, 10), shared_gateway).save(name)
    wider = frame(spark, 10).withColumn("score", F.col("n") / 4)
    with pytest.raises(Exception, match="score"):
        writing(wider, shared_gateway).save(name)
    writing(wider, shared_gateway, mergeSchema="true").save(name)
    writing(frame(spark, 10, start=10), shared_gateway, mergeSchema="true").save(name)
    found = stored(client, name, 20)
    assert (found["k00007"]["score"], found["k00015"]["score"]) == (1.75, None)


def test_groups_are_written_together_or_not_at_all(spark: Any, shared_gateway: Any, table: Any, client: Any) -> None:
    name = table()
    rows = with_bad_rows(frame(spark, 100)).withColumn("tx", F.format_string("t%02d", (F.col("n") / 5).cast("int")))
    grouped = rows.repartition(2, "tx").sortWithinPartitions("tx", "n")
    writing(grouped, shared_gateway, atomicBy="tx", rejects="report").save(name)
    found = stored(client, name, 100)
    # Row 3 of every second group is bad, and takes its group with it.
    assert sorted({row["tx"] for row in found.values()}) == [f"t{group:02d}" for group in range(1, 20, 2)]
    assert len(found) == 50


def test_parallelism_bounds_the_sessions_of_a_machine(spark: Any, shared_gateway: Any, table: Any, client: Any) -> None:
    name = table()
    writing(frame(spark, 40, partitions=4), shared_gateway, parallelism="1").save(name)
    assert len(stored(client, name, 40)) == 40


def test_write_dataframe_gives_the_receipt_and_raises_for_rejects(
    spark: Any, shared_gateway: Any, table: Any, client: Any, sessions: Sessions
) -> None:
    name = table()
    receipt = write_dataframe(frame(spark, 60, 3), endpoint=shared_gateway.endpoint, table=name, parallelism=2)
    assert (receipt.rows, receipt.committed_rows, receipt.rejected_rows) == (60, 60, 0)
    assert receipt.write_units == 60.0
    assert sessions.opened_and_finished() == (2, 2)
    with pytest.raises(forebay.RowsRejected) as error:
        write_dataframe(with_bad_rows(frame(spark, 60)), endpoint=shared_gateway.endpoint, table=name)
    assert error.value.receipt.rejected_rows == 6 and len(error.value.outcomes) == 5
    receipt = write_dataframe(
        with_bad_rows(frame(spark, 60)), endpoint=shared_gateway.endpoint, table=name, rejects="report"
    )
    assert (receipt.rejected_rows, receipt.committed_rows) == (6, 54)
    with pytest.raises(ValueError, match="op_colum: no such option; did you mean `opColumn`"):
        write_dataframe(frame(spark, 1), table=name, op_colum="x")


def test_write_dataframe_sends_no_finish_when_its_input_stops(
    spark: Any, shared_gateway: Any, table: Any, sessions: Sessions
) -> None:
    with pytest.raises(Exception, match="broken"):
        write_dataframe(broken_midway(spark, shared_gateway, "jvm"), endpoint=shared_gateway.endpoint, table=table())
    opened, finished = sessions.opened_and_finished()
    assert opened >= 1 and finished == 0


# Streams.


def arrive(spark: Any, folder: Path, number: int, df: Any) -> None:
    """A file of rows for a stream: streams of files take one file a batch."""
    df.coalesce(1).write.mode("overwrite").parquet(str(folder.parent / "staging"))
    (part,) = (folder.parent / "staging").glob("*.parquet")
    folder.mkdir(exist_ok=True)
    part.rename(folder / f"{number}.parquet")


def stream(spark: Any, folder: Path, schema: Any) -> Any:
    return spark.readStream.schema(schema).option("maxFilesPerTrigger", 1).parquet(str(folder))


def run_stream(df: Any, gateway: Any, table: str, checkpoint: Path, **options: Any) -> str:
    query = (
        df.writeStream.format("forebay")
        .option("endpoint", gateway.endpoint)
        .option("table", table)
        .options(**options)
        .option("checkpointLocation", str(checkpoint))
        .trigger(availableNow=True)
        .start()
    )
    query.awaitTermination(120)
    return str(query.id)


def test_a_stream_goes_on_after_a_restart_and_fences_older_runs(
    spark: Any, shared_gateway: Any, table: Any, client: Any, sessions: Sessions, tmp_path: Path
) -> None:
    name = table("sequence_by: at")
    source, checkpoint = tmp_path / "in", tmp_path / "checkpoint"
    schema = frame(spark, 0).schema
    arrive(spark, source, 0, frame(spark, 30))
    arrive(spark, source, 1, frame(spark, 30, start=30))
    query = run_stream(stream(spark, source, schema), shared_gateway, name, checkpoint)
    assert len(stored(client, name, 100)) == 60
    arrive(spark, source, 2, frame(spark, 40, start=60))
    assert run_stream(stream(spark, source, schema), shared_gateway, name, checkpoint) == query
    assert len(stored(client, name, 100)) == 100
    assert sessions.opened_and_finished() == (3, 3)
    row = {"id": "k00000", "n": -1, "at": 0}
    with pytest.raises(forebay.Fenced):
        with client.writer(name, producer_id=query, epoch=1) as older:
            older.send(row)
    with client.writer(name, producer_id=query, epoch=2) as same:
        same.send(row)


def test_a_batch_of_a_stream_that_is_run_again_doubles_nothing(
    spark: Any, shared_gateway: Any, table: Any, client: Any, tmp_path: Path
) -> None:
    name = table("sequence_by: at")
    source, checkpoint, rejects = tmp_path / "in", tmp_path / "checkpoint", tmp_path / "rejects"
    rows = with_bad_rows(frame(spark, 50))
    arrive(spark, source, 0, rows)
    df = stream(spark, source, rows.schema)
    run_stream(df, shared_gateway, name, checkpoint, rejects=str(rejects))
    assert spark.read.parquet(str(rejects)).count() == 5
    # As if the driver had died between the sink's commit and its own note of it.
    for note in (checkpoint / "commits").iterdir():
        note.unlink()
    run_stream(df, shared_gateway, name, checkpoint, rejects=str(rejects))
    assert spark.read.parquet(str(rejects)).count() == 5
    assert len(stored(client, name, 50)) == 45


def test_rejects_fail_a_query_when_the_batch_is_written(
    spark: Any, shared_gateway: Any, table: Any, client: Any, tmp_path: Path
) -> None:
    name = table()
    rows = with_bad_rows(frame(spark, 50))
    arrive(spark, tmp_path / "in", 0, rows)
    df = stream(spark, tmp_path / "in", rows.schema)
    with pytest.raises(Exception, match=r"5 of 50 rows were rejected"):
        run_stream(df, shared_gateway, name, tmp_path / "checkpoint")
    assert len(stored(client, name, 50)) == 45
    run_stream(df, shared_gateway, name, tmp_path / "checkpoint", rejects="report")


def test_a_complete_output_is_refused(spark: Any, shared_gateway: Any, tmp_path: Path) -> None:
    arrive(spark, tmp_path / "in", 0, frame(spark, 5))
    counts = stream(spark, tmp_path / "in", frame(spark, 0).schema).groupBy("id").count()
    writer = counts.writeStream.format("forebay").outputMode("complete").option("endpoint", shared_gateway.endpoint)
    with pytest.raises(Exception, match="complete"):
        query = writer.option("checkpointLocation", str(tmp_path / "c")).trigger(availableNow=True).start("t")
        query.awaitTermination(60)


def test_foreach_batch_is_fenced_by_its_query_and_batch(
    spark: Any, shared_gateway: Any, table: Any, client: Any, tmp_path: Path
) -> None:
    name = table("sequence_by: at")
    source = tmp_path / "in"
    arrive(spark, source, 0, frame(spark, 30))
    arrive(spark, source, 1, frame(spark, 30, start=30))
    write_batch = foreach_batch(endpoint=shared_gateway.endpoint, table=name)
    query = (
        stream(spark, source, frame(spark, 0).schema)
        .writeStream.foreachBatch(write_batch)
        .option("checkpointLocation", str(tmp_path / "c"))
        .trigger(availableNow=True)
        .start()
    )
    query.awaitTermination(120)
    assert len(stored(client, name, 60)) == 60
    with pytest.raises(forebay.Fenced):
        with client.writer(name, producer_id=str(query.id), epoch=0) as older:
            older.send({"id": "k00000", "at": 0})


def test_foreach_batch_options_are_checked_at_once() -> None:
    with pytest.raises(ValueError, match="^epoch: a stream's epoch is its batch id"):
        foreach_batch(table="t", producer_id="p", epoch=3)
    with pytest.raises(ValueError, match="^mode: `x` is none"):
        foreach_batch(table="t", mode="x")
