"""One write, measured: Spark's own figures of its tasks, and the CPU time of every process that takes part.

Callers: `spark_throughput`.
"""

from __future__ import annotations

import json
import time
import urllib.request
import uuid
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Callable, Dict, List, Optional

import psutil

from .processes import BenchError, Gateway, Stub, jvm_and_python_cpu_seconds

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

SETTLE_TIMEOUT = 20.0
"""Seconds that Spark's listeners get to write down the end of a job."""


@dataclass(frozen=True)
class Sample:
    """What one write of some rows took."""

    rows: int
    wall_seconds: float
    tasks: int
    task_seconds: float
    """Spark's executorRunTime, summed over tasks: what a cluster is paid for."""
    task_cpu_seconds: float
    """Spark's executorCpuTime, summed over tasks: the JVM's own threads, without Python."""
    jvm_cpu_seconds: float
    """The whole JVM: driver, executor, compiler and garbage collector."""
    python_cpu_seconds: float
    """The Python workers."""
    gateway_cpu_seconds: float
    """The gateway; with it the embedded store, where there is one."""
    store_cpu_seconds: float
    """The stub, where there is one."""

    @property
    def cpu_seconds(self) -> float:
        """All of them together."""
        spark = self.jvm_cpu_seconds + self.python_cpu_seconds
        return spark + self.gateway_cpu_seconds + self.store_cpu_seconds


class Meter:
    """Measures writes of one session, beside one gateway and perhaps a stub."""

    def __init__(self, spark: SparkSession, gateway: Gateway, stub: Optional[Stub]) -> None:
        self._spark, self._gateway, self._stub = spark, gateway, stub
        self._jvm = psutil.Process(int(spark._jvm.ProcessHandle.current().pid()))  # type: ignore[union-attr]

    def measure(self, rows: int, write: Callable[[], None]) -> Sample:
        group = f"bench-{uuid.uuid4()}"  # One that no other meter of the session has used.
        self._spark.sparkContext.setJobGroup(group, group)
        before, started = self._cpu(), time.monotonic()
        write()
        wall_seconds, after = time.monotonic() - started, self._cpu()
        stages = self._stages(group)
        took = {part: after[part] - before[part] for part in after}
        return Sample(
            rows=rows,
            wall_seconds=wall_seconds,
            tasks=sum(stage["numCompleteTasks"] for stage in stages),
            task_seconds=sum(stage["executorRunTime"] for stage in stages) / 1e3,
            task_cpu_seconds=sum(stage["executorCpuTime"] for stage in stages) / 1e9,
            jvm_cpu_seconds=took["jvm"],
            python_cpu_seconds=took["python"],
            gateway_cpu_seconds=took["gateway"],
            store_cpu_seconds=took["store"],
        )

    def _cpu(self) -> Dict[str, float]:
        jvm, python = jvm_and_python_cpu_seconds(self._jvm)
        store = self._stub.cpu_seconds() if self._stub else 0.0
        return {"jvm": jvm, "python": python, "gateway": self._gateway.cpu_seconds(), "store": store}

    def _stages(self, group: str) -> List[Dict[str, Any]]:
        """The stages of a job group, once Spark has written down that they ended."""
        deadline = time.monotonic() + SETTLE_TIMEOUT
        while True:
            jobs = [job for job in self._get("jobs") if job.get("jobGroup") == group]
            if jobs and all(job["status"] == "SUCCEEDED" for job in jobs):
                numbers = {number for job in jobs for number in job["stageIds"]}
                stages = [stage for number in sorted(numbers) for stage in self._get(f"stages/{number}?details=false")]
                if all(stage["status"] in ("COMPLETE", "SKIPPED") for stage in stages):
                    return stages
            if time.monotonic() > deadline:
                raise BenchError(f"Spark has no figures of {group}: {[job['status'] for job in jobs]}")
            time.sleep(0.05)

    def _get(self, path: str) -> List[Dict[str, Any]]:
        context = self._spark.sparkContext
        url = f"{context.uiWebUrl}/api/v1/applications/{context.applicationId}/{path}"
        with urllib.request.urlopen(url, timeout=SETTLE_TIMEOUT) as answer:
            found: List[Dict[str, Any]] = json.load(answer)
        return found
