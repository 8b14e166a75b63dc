"""The processes beside Spark, and what the system knows about all of them.

A process that was started here ends with its handle. Callers: `spark_throughput`.
"""

from __future__ import annotations

import json
import os
import subprocess
import threading
import urllib.request
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Dict, List, Mapping, Optional, Sequence, Tuple, Type

import psutil

STOP_TIMEOUT = 30.0
"""Seconds that a process gets to end when it is told to."""


class BenchError(Exception):
    """What was to be measured did not start, or did not do what it was told."""


def clean_environment() -> Dict[str, str]:
    """The caller's, without settings of Forebay or AWS, and with credentials that no store here looks at."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("FOREBAY_", "AWS_"))}
    # No profile of the caller's, and no asking the network for credentials.
    nothing = {
        "AWS_CONFIG_FILE": os.devnull,
        "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
        "AWS_EC2_METADATA_DISABLED": "true",
    }
    return {
        **kept,
        **nothing,
        "AWS_ACCESS_KEY_ID": "bench",
        "AWS_SECRET_ACCESS_KEY": "bench",
        "AWS_REGION": "us-east-1",
        "AWS_DEFAULT_REGION": "us-east-1",
    }


class _Process:
    """A child whose log is read to its end, lest it wait for room in the pipe."""

    def __init__(self, command: Sequence[str], *, core: Optional[int], ready: str) -> None:
        """Waits for the line that says that it is ready: that with these words."""
        pinned = [] if core is None else ["taskset", "--cpu-list", str(core)]
        self._child = subprocess.Popen(
            [*pinned, *command], env=clean_environment(), text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        )
        assert self._child.stdout is not None  # It is a pipe.
        stream: IO[str] = self._child.stdout
        self.process = psutil.Process(self._child.pid)
        last = ""
        for line in stream:
            last = line.strip()
            if ready in last:
                self.first_line = last
                threading.Thread(target=lambda: [None for _ in stream], daemon=True).start()
                return
        self.stop()
        raise BenchError(f"{command[0]} did not start: {last}")

    def cpu_seconds(self) -> float:
        """CPU time so far, of the process and of the kernel for it."""
        times = self.process.cpu_times()
        return float(times.user + times.system)

    def stop(self) -> None:
        self._child.terminate()
        try:
            self._child.wait(STOP_TIMEOUT)
        except subprocess.TimeoutExpired:
            self._child.kill()
            self._child.wait()

    def __enter__(self) -> Any:
        return self

    def __exit__(
        self, kind: Optional[Type[BaseException]], error: Optional[BaseException], trace: Optional[TracebackType]
    ) -> None:
        self.stop()


class Stub(_Process):
    """The stub DynamoDB: it parses every request to its last byte, counts, and answers."""

    def __init__(self, binary: Path, latency_ms: int, core: Optional[int]) -> None:
        super().__init__([str(binary), "--latency-ms", str(latency_ms)], core=core, ready="http://")
        self.url = self.first_line

    def take_stats(self) -> Mapping[str, Any]:
        """What it counted since the last time."""
        request = urllib.request.Request(f"{self.url}/stats", method="DELETE")
        with urllib.request.urlopen(request, timeout=10) as answer:
            stats: Mapping[str, Any] = json.load(answer)
        return stats


class Gateway(_Process):
    """`forebay serve`, over a DynamoDB or over the embedded store."""

    def __init__(self, binary: Path, dynamodb_url: Optional[str], core: Optional[int]) -> None:
        self._binary = binary
        store = ["--endpoint-url", dynamodb_url] if dynamodb_url else ["--embedded"]
        command = [str(binary), "serve", "--listen", "127.0.0.1:0", "--admin", "off", *store]
        super().__init__(command, core=core, ready="serving gRPC on ")
        address = self.first_line.partition("serving gRPC on ")[2].split(",")[0]
        self.url = f"http://{address}"
        self.dynamodb_url = dynamodb_url or self._embedded_url(address)

    def _embedded_url(self, address: str) -> str:
        """The embedded store's: it speaks DynamoDB's protocol on a loopback port that nobody is told.

        It is the other one on which the process listens.
        """
        listening = [
            socket.laddr for socket in self.process.net_connections("tcp") if socket.status == psutil.CONN_LISTEN
        ]
        others = [place for place in listening if f"{place.ip}:{place.port}" != address]
        if len(others) != 1:
            raise BenchError(f"the embedded store's port cannot be told among {others}")
        return f"http://{others[0].ip}:{others[0].port}"

    def apply_table(self, file: Path) -> None:
        """Makes a table."""
        command = [str(self._binary), "tables", "--endpoint", self.url, "apply", str(file)]
        done = subprocess.run(command, env=clean_environment(), capture_output=True, text=True)
        if done.returncode != 0:
            raise BenchError(f"forebay tables apply: {done.stderr.strip()}")


def jvm_and_python_cpu_seconds(jvm: psutil.Process) -> Tuple[float, float]:
    """CPU time so far of the driver's JVM, which holds the executor too, and of all the Python processes below it.

    Workers come and go: one that has gone is in the time of its parent's waited-for children.
    """
    times = jvm.cpu_times()
    python = times.children_user + times.children_system
    below: List[psutil.Process] = jvm.children(recursive=True)
    for process in below:
        try:
            child = process.cpu_times()
        except psutil.NoSuchProcess:
            continue  # It has gone since it was listed, and its parent has its time, at the latest by the next look.
        python += child.user + child.system + child.children_user + child.children_system
    return float(times.user + times.system), float(python)
