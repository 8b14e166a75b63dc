# %% [markdown]
# # Fraud scores: a stream of inferences, written together, read at once
#
# A payment service makes payments. Spark scores them in micro-batches and writes two rows for each **in one transaction**: the
# payment's score, and its account's newest features. The service waits for the scores: it polls Forebay by key.
#
# What is promised, and checked below: every payment's score is found; it is the score that the model gives; nobody ever sees a
# score whose account row is older. What is measured: the time from the payment to the first FOUND, and whose part of it is whose.
#
# Run it as a script (`examples/spark/run BINARY fraud` starts a gateway for it), or cell by cell in a notebook. It needs
# `pip install 'forebay[spark]'` and a gateway at `FOREBAY_ENDPOINT` (default `http://127.0.0.1:50051`).

# %%
from __future__ import annotations

import atexit
import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from datetime import datetime, timedelta, timezone
from decimal import Decimal
from pathlib import Path
from typing import Any, Dict, Iterator, List, Sequence

import numpy as np
import pyarrow as pa  # type: ignore[import-untyped]
import pyspark
from pyspark.ml.classification import LogisticRegression
from pyspark.ml.feature import VectorAssembler
from pyspark.sql import SparkSession
from pyspark.sql import functions as F

import forebay
from forebay.spark import foreach_batch

ENDPOINT = os.environ.get("FOREBAY_ENDPOINT", "http://127.0.0.1:50051")
PAYMENTS = int(os.environ.get("FRAUD_PAYMENTS", "1000"))
PER_SECOND = float(os.environ.get("FRAUD_PER_SECOND", "50"))
# The first payments make Spark compile code and start workers. They count for what is lost, and not for latency; the others are made
# when these are scored.
WARM_UP = int(os.environ.get("FRAUD_WARM_UP", "400"))
TARGET_MILLISECONDS = 120
# To try what another setting does: FRAUD_SPARK="spark.sql.streaming.pollingDelay=10ms spark.default.parallelism=2", and to write by
# `foreachBatch` instead of the data source: FRAUD_WRITE_BY=foreach_batch.
TRIED: "dict[str, str | bool | int | float | None]" = {}
for setting in os.environ.get("FRAUD_SPARK", "").split():
    name, _, value = setting.partition("=")
    TRIED[name] = value
WRITE_BY = os.environ.get("FRAUD_WRITE_BY", "format")
HERE = Path(__file__).resolve().parent

# %% [markdown]
# ## Spark, set for small batches
#
# What helps a stream without state whose batches are small; [the figures](../../docs/spark-examples.md) say how much each does:
#
# - one partition for each partition of the source (here one): a task costs more than a payment;
# - the next batch begins as soon as the last is done (`processingTime="0 seconds"`), and looks for data every millisecond;
# - the checkpoint is fast: two small files are written and renamed for each batch, and the batch waits for them. Here they are in
#   memory, which does for an example and for nothing else; and the file manager is the one that does not start a process for each
#   file's permissions, as the default one does on a local disk.

# %%
STREAMING = "org.apache.spark.sql.execution.streaming"
CHECKPOINT_FILES = (
    f"{STREAMING}.{'checkpointing.' if pyspark.__version__ >= '4.1' else ''}FileSystemBasedCheckpointFileManager"
)
spark = (
    SparkSession.builder.appName("fraud scores")
    .master(os.environ.get("SPARK_MASTER", "local[2]"))
    .config("spark.default.parallelism", "1")
    .config("spark.sql.shuffle.partitions", "1")
    .config("spark.sql.streaming.pollingDelay", "1ms")
    .config("spark.sql.streaming.checkpointFileManagerClass", CHECKPOINT_FILES)
    .config("spark.hadoop.fs.file.impl", "org.apache.hadoop.fs.RawLocalFileSystem")
    .config("spark.sql.adaptive.enabled", "false")
    .config("spark.ui.enabled", "false")
    .config("spark.sql.session.timeZone", "UTC")
    .config(map=TRIED)
    .getOrCreate()
)
spark.sparkContext.setLogLevel("ERROR")
memory = Path("/dev/shm")
workplace = tempfile.TemporaryDirectory(prefix="fraud-", dir=memory if memory.is_dir() else None)

# %% [markdown]
# ## The table
#
# Scores and accounts are in **one** table, because a transaction has one: two kinds of rows, told apart by the key. It has no
# `sequence_by`: a transaction is all or nothing, and a row that comes too late would keep its partner from being written. The
# order comes from the stream instead: the payments of an account are in one partition of the source, a partition is one task, and
# a task's rows take effect in their order.

# %%
client = forebay.connect(ENDPOINT)
applied = client.apply_table(
    "fraud",
    ddl="""
        kind STRING NOT NULL COMMENT 'score or account',
        id STRING NOT NULL COMMENT 'the payment or the account',
        payment_id STRING NOT NULL COMMENT 'of an account: its newest payment',
        account_id STRING NOT NULL,
        number BIGINT NOT NULL,
        score DOUBLE NOT NULL,
        flagged BOOLEAN NOT NULL,
        amount DECIMAL(12, 2),
        merchant_risk DOUBLE,
        happened_at TIMESTAMP NOT NULL,
        scored_at TIMESTAMP NOT NULL COMMENT 'when the model had said its word'
    """,
    key={"partition": ["kind", "id"]},
)
print(f"table fraud: {applied.result.lower()}")

# %% [markdown]
# ## A model
#
# Logistic regression, trained by Spark on payments of the past whose outcome is known (made up, by a rule with chance in it).

# %%
past = (
    spark.range(20_000)
    .select(
        F.round(F.exp(F.randn(1) * 1.2 + 3.5), 2).alias("amount"),
        F.rand(2).alias("merchant_risk"),
        (F.rand(3) < 0.1).alias("abroad"),
        F.rand(4).alias("chance"),
    )
    .selectExpr(
        "*", "cast(chance < 1 / (1 + exp(6 - amount / 80 - 3 * merchant_risk - 2 * int(abroad))) as double) as fraud"
    )
    .selectExpr("log1p(amount) as log_amount", "merchant_risk", "double(abroad) as abroad", "fraud")
)
features = VectorAssembler(inputCols=["log_amount", "merchant_risk", "abroad"], outputCol="features")
model = LogisticRegression(labelCol="fraud", maxIter=20).fit(features.transform(past))
WEIGHTS = [float(weight) for weight in model.coefficients]
INTERCEPT = float(model.intercept)
print(f"model: area under ROC {model.summary.areaUnderROC:.3f}, weights {[round(weight, 3) for weight in WEIGHTS]}")

# %% [markdown]
# ## Scoring
#
# The model is three weights, so executors score with numpy, on Arrow batches as they come. `scored_at` is taken when a batch is
# scored: everything before it is Spark's part. After it Spark hands the rows to the writer, and the rest is Forebay's.

# %%
SCORED = """
    payment_id string, number bigint, account_id string, amount double, merchant_risk double, abroad boolean,
    happened_at bigint, score double, scored_at bigint
"""


def scores(amount: np.ndarray, merchant_risk: np.ndarray, abroad: np.ndarray) -> np.ndarray:
    """The model. Element by element, so that a score does not depend on the batch that it is in."""
    margin = INTERCEPT + WEIGHTS[0] * np.log1p(amount) + WEIGHTS[1] * merchant_risk + WEIGHTS[2] * abroad
    result: np.ndarray = 1.0 / (1.0 + np.exp(-margin))
    return result


def score(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """Adds `score` and `scored_at`."""
    for batch in batches:
        values = [batch.column(name).to_numpy(zero_copy_only=False) for name in ("amount", "merchant_risk", "abroad")]
        scored = pa.array(scores(values[0], values[1], values[2].astype(float)))
        moment = pa.array(np.full(batch.num_rows, time.time_ns() // 1000))
        yield pa.RecordBatch.from_arrays(
            [*batch.columns, scored, moment], names=[*batch.schema.names, "score", "scored_at"]
        )


# A payment becomes two rows with one `payment_id`, which is what a transaction is made of.
ROWS = """inline(array(
    named_struct('kind', 'score', 'id', payment_id, 'payment_id', payment_id, 'account_id', account_id, 'number', number,
        'score', score, 'flagged', score > 0.5, 'amount', cast(amount as decimal(12, 2)), 'merchant_risk', merchant_risk,
        'happened_at', timestamp_micros(happened_at), 'scored_at', timestamp_micros(scored_at)),
    named_struct('kind', 'account', 'id', account_id, 'payment_id', payment_id, 'account_id', account_id, 'number', number,
        'score', score, 'flagged', score > 0.5, 'amount', cast(amount as decimal(12, 2)), 'merchant_risk', merchant_risk,
        'happened_at', timestamp_micros(happened_at), 'scored_at', timestamp_micros(scored_at))))"""
EVENT = """
    payment_id string, number bigint, account_id string, amount double, merchant_risk double, abroad boolean, happened_at bigint
"""

# %% [markdown]
# ## The service starts
#
# `payments.py` is a process of its own: it makes the payments, and it is the reader. It knows nothing of Spark.


# %%
def start_service(seed: int) -> "tuple[subprocess.Popen[str], int, Path]":
    """The process, the port at which it has payments, and the file that will have its results."""
    results = Path(workplace.name) / f"results-{seed}.jsonl"
    command = [sys.executable, str(HERE / "payments.py"), "--endpoint", ENDPOINT, "--seed", str(seed)]
    command += [
        "--payments",
        str(PAYMENTS),
        "--warm-up",
        str(WARM_UP),
        "--per-second",
        str(PER_SECOND),
        "--results",
        str(results),
    ]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    # Whatever becomes of this script: the service does not outlive it.
    atexit.register(process.kill)
    assert process.stdout is not None
    first = process.stdout.readline().split()
    if len(first) != 2 or first[0] != "port":
        raise SystemExit("payments.py did not start; its error is above")
    return process, int(first[1]), results


service, port, results_file = start_service(seed=int(time.time()))

# %% [markdown]
# ## The stream
#
# `atomicBy` says which rows are one transaction: those that follow each other with one value.

# %%
events = spark.readStream.format("socket").option("host", "127.0.0.1").option("port", port).load()
payments = events.select(F.from_json("value", EVENT).alias("event")).select("event.*")
rows = payments.mapInArrow(score, SCORED).selectExpr(ROWS)
if WRITE_BY == "foreach_batch":
    # For Spark before 4, and to compare.
    writer = rows.writeStream.foreachBatch(foreach_batch(endpoint=ENDPOINT, table="fraud", atomic_by="payment_id"))
else:
    writer = (
        rows.writeStream.format("forebay")
        .option("endpoint", ENDPOINT)
        .option("table", "fraud")
        .option("atomicBy", "payment_id")
    )
query = writer.option("checkpointLocation", f"{workplace.name}/checkpoint").trigger(processingTime="0 seconds").start()


def wait_for(process: "subprocess.Popen[str]") -> None:
    """Until the service has found everything. Fails when it did not, or when the stream has failed."""
    while process.poll() is None:
        failure = query.exception()
        if failure is not None:
            process.kill()
            raise SystemExit(f"the stream failed: {failure}")
        time.sleep(0.2)
    assert process.stdout is not None
    print(process.stdout.read().strip())
    if process.returncode != 0:
        raise SystemExit("a promise is broken: see the line above")


wait_for(service)
progress = query.recentProgress
query.stop()

# %% [markdown]
# ## Is it all there, and right?
#
# The service found every payment, or it would have failed. Here the scores are calculated anew, by Spark in one batch, and compared
# to the bit; and every account's row must be that of its last payment.


# %%
def read_results(file: Path) -> List[Dict[str, Any]]:
    """What the service found: a dict for each payment."""
    with open(file, encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]


def check(found: Sequence[Dict[str, Any]]) -> None:
    """Every row has the values that it must have."""
    batch = spark.createDataFrame([{k: v for k, v in f.items() if k not in ("found_at", "row")} for f in found], EVENT)
    expected = {row.payment_id: row.score for row in batch.mapInArrow(score, SCORED).collect()}
    assert len(expected) == len(found) == PAYMENTS
    last: Dict[str, Dict[str, Any]] = {}
    for payment in found:
        row = payment["row"]
        assert row["score"] == expected[payment["payment_id"]], f"another score: {payment['payment_id']}"
        for name in ("payment_id", "account_id", "number", "merchant_risk", "happened_at"):
            assert row[name] == payment[name], f"another {name}: {payment['payment_id']}"
        last[payment["account_id"]] = payment
    accounts = client.get_many("fraud", [("account", account) for account in last])
    for payment, account in zip(last.values(), accounts):
        assert account["payment_id"] == payment["payment_id"], f"not the last payment: {payment['account_id']}"
        assert account["score"] == expected[payment["payment_id"]]
    print(f"checked: {len(found)} scores and {len(last)} accounts are as they must be; none is lost")


found = read_results(results_file)
check(found)

# %% [markdown]
# ## How long did it take?


# %%
def percentile(values: Sequence[float], part: float) -> float:
    """The smallest value that `part` of all do not exceed."""
    return sorted(values)[max(0, int(np.ceil(part * len(values))) - 1)]


def figures(title: str, found: Sequence[Dict[str, Any]]) -> None:
    """Milliseconds from the source to the reader, and the two parts of the way."""
    warm = [payment for payment in found if payment["number"] >= WARM_UP]
    spans = {
        "source event -> first FOUND": [(p["found_at"] - p["happened_at"]) / 1000 for p in warm],
        "  source event -> scored": [(p["row"]["scored_at"] - p["happened_at"]) / 1000 for p in warm],
        "  scored -> first FOUND": [(p["found_at"] - p["row"]["scored_at"]) / 1000 for p in warm],
    }
    print(f"\n{title}: {len(warm)} payments after the warm-up, {PER_SECOND:g} a second; milliseconds")
    print(f"{'':32}{'p50':>8}{'p99':>8}{'most':>8}")
    for name, values in spans.items():
        print(f"{name:32}{percentile(values, 0.5):8.1f}{percentile(values, 0.99):8.1f}{max(values):8.1f}")
    whole = spans["source event -> first FOUND"]
    verdict = "beaten" if percentile(whole, 0.99) < TARGET_MILLISECONDS else "missed"
    share = sum(value < TARGET_MILLISECONDS for value in whole) / len(whole)
    print(f"{TARGET_MILLISECONDS} ms to beat: {verdict} at p99; {share:.1%} of the payments are below")


def phases(progress: Sequence[Any]) -> None:
    """What a micro-batch does with its time, as Spark says it: medians in milliseconds."""
    warm = [p for p in progress if p["numInputRows"] > 0][len(progress) // 2 :]
    names = ("latestOffset", "walCommit", "queryPlanning", "addBatch", "commitOffsets", "triggerExecution")
    medians = {name: statistics.median(p["durationMs"].get(name, 0) for p in warm) for name in names}
    rows = statistics.median(p["numInputRows"] for p in warm)
    print(
        f"a micro-batch has {rows:g} payments; median milliseconds: {', '.join(f'{n} {m:g}' for n, m in medians.items())}"
    )


figures("with Spark", found)
phases(progress)

# %% [markdown]
# ## And without Spark?
#
# The same payments, model, rows and transactions by a plain Python process: it reads the service's lines and sends each payment's
# two rows as a batch of their own. What is left of the latency is what everything but Spark takes.


# %%
def moment(micros: int) -> datetime:
    """Microseconds since 1970 as a moment."""
    return datetime(1970, 1, 1, tzinfo=timezone.utc) + timedelta(microseconds=micros)


def score_without_spark(port: int, count: int) -> None:
    """Scores `count` payments one by one, as they come."""
    with socket.create_connection(("127.0.0.1", port)) as connection, client.writer("fraud") as writer:
        for _, line in zip(range(count), connection.makefile("r", encoding="utf-8")):
            event = json.loads(line)
            values = (np.array([float(event[name])]) for name in ("amount", "merchant_risk", "abroad"))
            scored = float(scores(*values)[0])
            row = {
                "payment_id": event["payment_id"],
                "account_id": event["account_id"],
                "number": event["number"],
                "score": scored,
                "flagged": scored > 0.5,
                "amount": Decimal(str(event["amount"])),
                "merchant_risk": event["merchant_risk"],
                "happened_at": moment(event["happened_at"]),
                "scored_at": moment(time.time_ns() // 1000),
            }
            keys = ({"kind": "score", "id": event["payment_id"]}, {"kind": "account", "id": event["account_id"]})
            writer.send([{**key, **row} for key in keys], atomic=True)


service, port, results_file = start_service(seed=int(time.time()) + 1)
score_without_spark(port, PAYMENTS)
wait_for(service)
without = read_results(results_file)
check(without)
figures("without Spark", without)

# %%
client.close()
spark.stop()
workplace.cleanup()
