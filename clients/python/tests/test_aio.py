"""The asyncio client against a gateway: the same answers as the blocking one, many calls at once."""

from __future__ import annotations

import asyncio
import inspect
import time
from datetime import date, datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any, AsyncIterator, List

import pytest
import pytest_asyncio

import forebay
from forebay import ReadStatus, aio

if TYPE_CHECKING:
    from conftest import Gateway


@pytest_asyncio.fixture
async def client(shared_gateway: Gateway) -> AsyncIterator[aio.AsyncClient]:
    async with aio.connect(shared_gateway.endpoint) as client:
        yield client


async def readings(client: aio.AsyncClient, name: str, rows: int = 0) -> str:
    await client.apply_table(name, ddl="id STRING NOT NULL, day DATE NOT NULL, hr INT", key=["id", "day"])
    listed = [{"id": "a", "day": date(2024, 1, 1) + timedelta(at), "hr": at} for at in range(rows)]
    if listed:
        await client.write(name, listed)
    return name


def test_both_clients_have_the_same_methods_with_the_same_arguments() -> None:
    for name, method in inspect.getmembers(forebay.Client, inspect.isfunction):
        if name.startswith("_"):
            continue
        twin = getattr(aio.AsyncClient, name)
        ours = {found: one.default for found, one in inspect.signature(method).parameters.items()}
        theirs = {found: one.default for found, one in inspect.signature(twin).parameters.items()}
        assert ours == theirs, name
    assert list(inspect.signature(aio.connect).parameters) == list(inspect.signature(forebay.connect).parameters)


async def test_reads_and_writes_as_the_blocking_client_does(client: aio.AsyncClient) -> None:
    table = await readings(client, "aio-reads", rows=800)
    assert (await client.get(table, ("a", date(2024, 1, 3)), columns=["hr"])).value() == {"hr": 2}
    missing = await client.get(table, {"id": "b", "day": date(2024, 1, 1)}, consistent=True)
    assert missing.status is ReadStatus.NOT_FOUND
    keys = [("a", date(2024, 1, 1) + timedelta(at)) for at in range(4500)]
    results = await client.get_many(table, keys)
    assert [result["hr"] for result in results if result] == list(range(800))
    assert len(results) == 4500
    found = [row["hr"] async for row in client.get_range(table, "a", limit=700, descending=True)]
    assert found == list(range(799, 99, -1))
    several = await client.get_batch([(table, keys[:1], ["hr"]), ("no-such-table", [1], None)])
    assert several[0][0].value() == {"hr": 0} and several[1][0].status is ReadStatus.DENIED


async def test_rejected_rows_are_an_error_or_a_result(client: aio.AsyncClient) -> None:
    table = await readings(client, "aio-rejects")
    rows = [{"id": "a", "day": date(2024, 1, 1), "hr": hr} for hr in (1, 2**40)]
    with pytest.raises(forebay.RowsRejected, match="OUT_OF_RANGE"):
        await client.write(table, rows)
    written = await client.write(table, rows, rejects="return")
    assert [outcome.row for outcome in written.outcomes] == [1]


async def test_tables_are_applied_listed_and_dropped(client: aio.AsyncClient) -> None:
    table = await readings(client, "aio-tables")
    assert (await client.get_table(table)).partition == ("id",)
    assert table in [summary.name for summary in await client.list_tables()]
    assert await client.drop_table(table, force=True)
    with pytest.raises(forebay.NotFound) as caught:
        await client.get_table(table)
    assert caught.value.reason == "TABLE_NOT_FOUND"


async def test_a_wrong_argument_is_named_before_anything_is_sent(client: aio.AsyncClient) -> None:
    table = await readings(client, "aio-wrong")
    with pytest.raises(TypeError, match="^key.day: expected a date"):
        await client.get(table, ("a", datetime(2024, 1, 1)))
    with pytest.raises(ValueError, match="^timeout: expected"):
        await client.get(table, ("a", date(2024, 1, 1)), timeout=-1)
    with pytest.raises(TypeError, match="hr: expected an int"):
        await client.write(table, {"id": "a", "day": date(2024, 1, 1), "hr": "x"})


async def test_hundreds_of_reads_are_under_way_at_once(client: aio.AsyncClient) -> None:
    table = await readings(client, "aio-many", rows=300)
    keys = [("a", date(2024, 1, 1) + timedelta(at)) for at in range(300)]
    results = await asyncio.gather(*(client.get(table, key) for key in keys))
    assert [result["hr"] for result in results] == list(range(300))


async def test_a_task_that_is_cancelled_stops_waiting(silent_port: int) -> None:
    async with aio.connect(f"http://127.0.0.1:{silent_port}") as client:
        task = asyncio.ensure_future(client.get("rows", 1))
        await asyncio.sleep(0.2)
        started = time.monotonic()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert time.monotonic() - started < 1


async def test_a_range_that_is_left_early_ends_its_call(client: aio.AsyncClient) -> None:
    table = await readings(client, "aio-left", rows=1000)
    rows = client.get_range(table, "a")
    async for row in rows:
        assert row["hr"] == 0
        break
    await rows.aclose()  # type: ignore[attr-defined]
    assert (await client.get(table, ("a", date(2024, 1, 1))))["hr"] == 0


async def test_a_deadline_is_kept(silent_port: int) -> None:
    async with aio.connect(f"http://127.0.0.1:{silent_port}") as client:
        started = time.monotonic()
        with pytest.raises((forebay.DeadlineExceeded, forebay.Unavailable)):
            await client.get_many("rows", [1], timeout=0.5)
        assert time.monotonic() - started < 2


async def test_calls_go_on_while_one_of_two_gateways_is_gone(make_gateway: Any) -> None:
    one, two = make_gateway("one"), make_gateway("two")
    for gateway in (one, two):
        async with aio.connect(gateway.endpoint) as client:
            await client.apply_table("rows", ddl="id INT NOT NULL, x INT", key="id")
            await client.write("rows", [{"id": at, "x": at} for at in range(10)])
    async with aio.connect([one.endpoint, two.endpoint]) as client:
        for at in range(10):
            assert (await client.get("rows", at))["x"] == at
        two.kill()
        slowest = 0.0
        for at in range(100):
            started = time.monotonic()
            assert (await client.get("rows", at % 10))["x"] == at % 10
            slowest = max(slowest, time.monotonic() - started)
        assert slowest < 1.0
        two.start()


async def test_a_gateway_that_restarts_is_waited_for(gateway: Gateway) -> None:
    async with aio.connect(gateway.endpoint) as client:
        await client.apply_table("rows", ddl="id INT NOT NULL, at INT NOT NULL, x STRING", key=["id", "at"])
        await client.write("rows", [{"id": 1, "at": at, "x": "x" * 20_000} for at in range(900)])
        found: List[int] = []
        async for row in client.get_range("rows", 1):
            found.append(row["at"])
            if len(found) == 5:
                await asyncio.get_running_loop().run_in_executor(None, gateway.restart)
        assert found == list(range(900))


async def test_times_come_back_with_their_zone(client: aio.AsyncClient) -> None:
    await client.apply_table("aio-times", ddl="id INT NOT NULL, at TIMESTAMP", key="id")
    moment = datetime(1969, 7, 20, 20, 17, 40, 1, timezone.utc)
    await client.write("aio-times", {"id": 1, "at": moment})
    found = (await client.get("aio-times", 1))["at"]
    assert found == moment and found.tzinfo is not None


async def test_many_rows_are_a_session(client: aio.AsyncClient) -> None:
    table = await readings(client, "aio-session")
    rows = ({"id": "s", "day": date(2024, 1, 1) + timedelta(at), "hr": at if at != 1100 else 2**40} for at in range(1500))
    with pytest.raises(forebay.RowsRejected, match="1 of 1500 rows were not written") as caught:
        await client.write(table, rows)
    assert [(outcome.row, outcome.reason) for outcome in caught.value.outcomes] == [(1100, "OUT_OF_RANGE")]
    assert len([row async for row in client.get_range(table, "s")]) == 1499


async def test_a_writer_writes_what_it_is_sent(client: aio.AsyncClient) -> None:
    table = await readings(client, "aio-writer")
    async with client.writer(table) as writer:
        for at in range(5):
            await writer.send([{"id": "w", "day": date(2024, 1, 1) + timedelta(at), "hr": at}])
    assert writer.receipt.committed_rows == 5
    assert [row["hr"] async for row in client.get_range(table, "w")] == list(range(5))
