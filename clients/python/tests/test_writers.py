"""Both writers against a gateway: rows and columns of every way in, restarts in the middle, forks, and what they leave behind."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Callable, Dict, List

import grpc
import pytest

import forebay
from forebay import ConnectOptions, NotFound, Outcome, RowStatus, Unavailable
from forebay.aio_writer import AsyncWriter
from forebay.writer import Writer

if TYPE_CHECKING:
    from conftest import Gateway

pa = pytest.importorskip("pyarrow")

ROWS = 600


def table(gateway: Gateway, name: str, extra: str = "") -> ConnectOptions:
    text = f"""
        name: {name}
        ddl: |
          id STRING NOT NULL,
          n INT
        key: id
    """
    gateway.apply(textwrap.dedent(text) + extra)
    return ConnectOptions(endpoint=gateway.endpoint)


def stored(gateway: Gateway, name: str, count: int = ROWS) -> Dict[str, Any]:
    """All rows of a table by key, as a reader of its own sees them."""
    with forebay.connect(gateway.endpoint) as client:
        keys = [f"k{at}" for at in range(count)]
        return {key: found["n"] for key, found in zip(keys, client.get_many(name, keys, consistent=True)) if found}


def dicts(start: int, stop: int) -> List[Dict[str, Any]]:
    return [{"id": f"k{at}", "n": at} for at in range(start, stop)]


def columns(start: int, stop: int) -> Any:
    return pa.RecordBatch.from_pydict(
        {"id": pa.array([f"k{at}" for at in range(start, stop)]), "n": pa.array(range(start, stop), pa.int32())}
    )


ALL = {f"k{at}": at for at in range(ROWS)}


def frame(start: int, stop: int) -> Any:
    return pytest.importorskip("pandas").DataFrame(dicts(start, stop))


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("dicts", dicts(0, ROWS)),
        ("generator", (row for row in dicts(0, ROWS))),
        ("tuples", [(f"k{at}", at) for at in range(ROWS)]),
        ("batch", columns(0, ROWS)),
        ("table", pa.Table.from_batches([columns(at, at + 100) for at in range(0, ROWS, 100)])),
        ("reader", pa.RecordBatchReader.from_batches(columns(0, 1).schema, [columns(0, 1), columns(1, ROWS)])),
        ("frame", None),
    ],
)
def test_whatever_rows_come_as_they_are_all_written(shared_gateway: Gateway, name: str, data: Any) -> None:
    options = table(shared_gateway, f"ways-{name}")
    with Writer(options, f"ways-{name}", batch_bytes=4096) as writer:
        assert writer.send(frame(0, ROWS) if name == "frame" else data) == 1
        receipt = writer.flush()
    assert (receipt.batches, receipt.rows, receipt.committed_rows) == (1, ROWS, ROWS)
    assert stored(shared_gateway, f"ways-{name}") == ALL


def test_rejected_rows_are_told_with_the_callers_numbers_and_stop_nobody(shared_gateway: Gateway) -> None:
    options = table(shared_gateway, "rejects")
    told: List[Outcome] = []
    rows = dicts(0, ROWS)
    for at in (0, 250, ROWS - 1):
        rows[at]["n"] = 2**40
    with Writer(options, "rejects", batch_bytes=2048, on_outcome=told.append) as writer:
        writer.send(dicts(0, 1))
        writer.send(rows)
        receipt = writer.finish()
    assert [(one.batch, one.row, one.status, one.reason, one.field_path) for one in told] == [
        (2, at, RowStatus.REJECTED, "OUT_OF_RANGE", "n") for at in (0, 250, ROWS - 1)
    ]
    assert (receipt.rejected_rows, receipt.committed_rows) == (3, ROWS + 1 - 3)
    assert stored(shared_gateway, "rejects") == {key: n for key, n in ALL.items() if n not in (250, ROWS - 1)}


def test_an_atomic_batch_is_written_as_a_whole_or_not_at_all(shared_gateway: Gateway) -> None:
    options = table(shared_gateway, "atomic")
    with Writer(options, "atomic") as writer:
        writer.send(dicts(0, 10), atomic=True)
        writer.send([*dicts(10, 19), {"id": "k19", "n": 2**40}], atomic=True)
        writer.finish()
    assert sorted(stored(shared_gateway, "atomic")) == sorted(f"k{at}" for at in range(10))
    assert {one.reason for one in writer.outcomes} == {"OUT_OF_RANGE", "ATOMIC_PEER"}
    assert len(writer.outcomes) == 10 and {one.batch for one in writer.outcomes} == {2}


def test_a_table_that_is_not_there_is_told_at_once_and_nothing_is_left_behind(shared_gateway: Gateway) -> None:
    before = threading.active_count()
    with pytest.raises(NotFound):
        Writer(ConnectOptions(endpoint=shared_gateway.endpoint), "nowhere", arrow_schema=columns(0, 1).schema)
    until(lambda: threading.active_count() <= before)


def test_a_gateway_that_is_not_there_is_told_when_patience_is_over() -> None:
    started = time.monotonic()
    with pytest.raises(Unavailable):
        Writer(ConnectOptions(endpoint="http://127.0.0.1:1"), "t", open_for=1.0)
    assert time.monotonic() - started < 10


def until(holds: Callable[[], bool]) -> None:
    give_up = time.monotonic() + 20
    while not holds():
        assert time.monotonic() < give_up, "it did not happen"
        time.sleep(0.02)


@pytest.mark.parametrize("ending", ["kill", "stop"])
@pytest.mark.parametrize("make", [dicts, columns], ids=["rows", "columns"])
def test_a_gateway_that_goes_away_in_the_middle_costs_no_row(gateway: Gateway, make: Any, ending: str) -> None:
    options = table(gateway, "restarts")
    starts = threading.Timer(0.3, gateway.start)
    with Writer(options, "restarts", batch_bytes=1024) as writer:
        for start in range(0, ROWS, 20):
            if start == 200:
                # Some of what was sent is not acked, and what comes now finds no gateway.
                getattr(gateway, ending)()
                starts.start()
            writer.send(make(start, start + 20))
        receipt = writer.finish()
    starts.join()
    assert receipt.calls >= 2, "the call broke"
    assert (receipt.batches, receipt.rows, receipt.committed_rows) == (ROWS // 20, ROWS, ROWS)
    assert stored(gateway, "restarts") == ALL


async def test_an_asyncio_writer_loses_no_row_either(gateway: Gateway) -> None:
    options = table(gateway, "restarts")
    loop = asyncio.get_running_loop()
    starts = threading.Timer(0.3, gateway.start)
    async with AsyncWriter(options, "restarts", batch_bytes=1024) as writer:
        for start in range(0, ROWS, 20):
            if start == 200:
                gateway.kill()
                starts.start()
            await writer.send(dicts(start, start + 20))
        receipt = await writer.finish()
    starts.join()
    assert receipt.calls >= 2, "the call broke"
    assert (receipt.rows, receipt.committed_rows) == (ROWS, ROWS)
    assert await loop.run_in_executor(None, stored, gateway, "restarts") == ALL


async def test_cancelling_what_waits_aborts_the_session_and_leaves_no_task(gateway: Gateway) -> None:
    options = table(gateway, "cancelled")
    writer = AsyncWriter(options, "cancelled")
    await writer.send(dicts(0, 1))
    gateway.kill()
    await writer.send(dicts(1, 2))
    with pytest.raises(asyncio.TimeoutError):
        await asyncio.wait_for(writer.flush(), 0.3)
    with pytest.raises(forebay.SessionClosed, match="a `flush` was cancelled"):
        await writer.send(dicts(2, 3))
    await writer.abort()
    assert [task for task in asyncio.all_tasks() if "aio_writer" in repr(task.get_coro())] == []


def test_a_block_that_raises_aborts_and_a_writer_leaves_no_thread(shared_gateway: Gateway) -> None:
    options = table(shared_gateway, "threads")
    before = threading.active_count()
    with pytest.raises(ZeroDivisionError), Writer(options, "threads") as writer:
        writer.send(dicts(0, 10))
        raise ZeroDivisionError
    with Writer(options, "threads") as writer:
        writer.send(dicts(0, 10))
    until(lambda: threading.active_count() <= before)
    with pytest.raises(forebay.SessionClosed):
        writer.send(dicts(0, 1))


def write_in_child(endpoint: str, failures: Any) -> None:
    """What a worker of PySpark does: it is a fork, and makes its own writer."""
    try:
        with Writer(ConnectOptions(endpoint=endpoint), "forks") as writer:
            writer.send(dicts(0, 50))
    except BaseException as error:  # noqa: BLE001 - told to the parent
        failures.put(repr(error))
        raise


# Before, gRPC's own handlers of forks hang or crash in a process that has open channels.
FORKS_WITH_CHANNELS = tuple(map(int, grpc.__version__.split(".")[:2])) >= (1, 80)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there are no forks here")
def test_a_writer_made_after_a_fork_works_and_one_made_before_says_so(shared_gateway: Gateway) -> None:
    # In a process of its own, which has not used gRPC before it forks: as PySpark's daemon has not.
    table(shared_gateway, "forks")
    script = f"""
        import multiprocessing, sys
        sys.path.insert(0, {str(Path(__file__).parent)!r})
        from test_writers import write_in_child, dicts, ConnectOptions, Writer
        forks = multiprocessing.get_context("fork")
        failures = forks.Queue()
        workers = [forks.Process(target=write_in_child, args=({shared_gateway.endpoint!r}, failures)) for _ in range(3)]
        for worker in workers: worker.start()
        for worker in workers: worker.join()
        codes = [worker.exitcode for worker in workers]
        assert codes == [0, 0, 0], (codes, failures.get())

        import os
        if not {FORKS_WITH_CHANNELS}:
            sys.exit()
        writer = Writer(ConnectOptions(endpoint={shared_gateway.endpoint!r}), "forks")
        writer.send(dicts(50, 60))
        child = os.fork()
        if child == 0:
            try:
                writer.send(dicts(60, 61))
            except RuntimeError as error:
                assert "fork" in str(error)
                writer.abort()
                os._exit(42)
            os._exit(1)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 42
        assert writer.finish().committed_rows == 10
    """
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)], capture_output=True, text=True, timeout=60, env=environment
    )
    assert done.returncode == 0, done.stderr
    written = 60 if FORKS_WITH_CHANNELS else 50
    assert stored(shared_gateway, "forks", 61) == {f"k{at}": at for at in range(written)}


def test_a_process_that_forgets_its_writer_ends_all_the_same(shared_gateway: Gateway) -> None:
    table(shared_gateway, "forgotten")
    script = f"""
        from forebay import ConnectOptions
        from forebay.writer import Writer
        writer = Writer(ConnectOptions(endpoint={shared_gateway.endpoint!r}), "forgotten")
        writer.send([{{"id": "a", "n": 1}}])
    """
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)], capture_output=True, text=True, timeout=30, env=environment
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_on_outcome_that_uses_its_writer_is_told_that_it_must_not(shared_gateway: Gateway) -> None:
    options = table(shared_gateway, "reentrant")
    writers: List[Writer] = []

    def reenters(_: Outcome) -> None:
        writers[0].flush()

    with Writer(options, "reentrant", on_outcome=reenters) as writer:
        writers.append(writer)
        writer.send({"id": "a", "n": 2**40})
        with pytest.raises(RuntimeError, match="on_outcome must not use its writer"):
            writer.flush()
        writer.abort()
