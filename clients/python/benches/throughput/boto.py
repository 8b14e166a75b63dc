"""Writing with boto3, in three ways, from `foreachPartition`: what a team does without a gateway.

All of them send again what DynamoDB leaves unprocessed and raise what it refuses, so that no row is lost silently, as
none is by Forebay. Callers: `ways`; the functions run in Spark's Python workers.
"""

from __future__ import annotations

import itertools
import random
import time
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from datetime import datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Callable, Dict, Iterable, Iterator, List, Set

if TYPE_CHECKING:
    from pyspark.sql import Row

THREADS = 8
CALL_ROWS = 25
"""BatchWriteItem's limit."""
CHUNK_ROWS = 500
ATTEMPTS = 10


def plain_item(row: Row) -> Dict[str, Any]:
    """A row as the Table resource takes it: boto3 refuses floats and knows no times."""
    return {name: _plain(value) for name, value in row.asDict(recursive=True).items() if value is not None}


def _plain(value: Any) -> Any:
    if isinstance(value, float):
        return Decimal(str(value))
    if isinstance(value, datetime):
        return _micros(value)
    if isinstance(value, list):
        return [_plain(element) for element in value]
    if isinstance(value, dict):
        return {name: _plain(element) for name, element in value.items()}
    return value


def _micros(value: datetime) -> int:
    """Spark gives times in the worker's zone, without it; so does `timestamp` take them."""
    return round(value.timestamp() * 1_000_000)


def batch_writer(endpoint_url: str, table: str) -> Callable[[Iterator[Row]], None]:
    """boto3's own `batch_writer` with its default configuration."""

    def write(rows: Iterator[Row]) -> None:
        import boto3

        target = boto3.resource("dynamodb", endpoint_url=endpoint_url).Table(table)
        with target.batch_writer() as batch:
            for row in rows:
                batch.put_item(Item=plain_item(row))

    return write


def batch_writer_threads(endpoint_url: str, table: str) -> Callable[[Iterator[Row]], None]:
    """A `batch_writer` for each chunk, several at a time in threads: for a store that takes its time."""

    def write(rows: Iterator[Row]) -> None:
        import boto3
        from boto3.dynamodb.table import BatchWriter
        from botocore.config import Config

        config = Config(max_pool_connections=THREADS, retries={"mode": "standard", "max_attempts": ATTEMPTS})
        # Threads must not share a resource, but they may share its client.
        client = boto3.resource("dynamodb", endpoint_url=endpoint_url, config=config).meta.client

        def write_chunk(chunk: List[Row]) -> None:
            with BatchWriter(table, client) as batch:
                for row in chunk:
                    batch.put_item(Item=plain_item(row))

        _in_threads(rows, CHUNK_ROWS, write_chunk)

    return write


def tuned(endpoint_url: str, table: str) -> Callable[[Iterator[Row]], None]:
    """What an expert makes of boto3: the low-level client, values typed by hand, no validation, calls in threads."""

    def write(rows: Iterator[Row]) -> None:
        import boto3
        from botocore.config import Config

        config = Config(
            max_pool_connections=THREADS,
            parameter_validation=False,
            retries={"mode": "standard", "max_attempts": ATTEMPTS},
        )
        client = boto3.client("dynamodb", endpoint_url=endpoint_url, config=config)

        def write_call(chunk: List[Row]) -> None:
            left: Dict[str, Any] = {table: [{"PutRequest": {"Item": _typed_struct(row)}} for row in chunk]}
            for attempt in range(ATTEMPTS):
                left = client.batch_write_item(RequestItems=left)["UnprocessedItems"]
                if not left:
                    return
                time.sleep(random.uniform(0, min(0.05 * 2**attempt, 5.0)))
            raise RuntimeError(f"{sum(map(len, left.values()))} rows are unprocessed after {ATTEMPTS} attempts")

        _in_threads(rows, CALL_ROWS, write_call)

    return write


def _typed_struct(row: Row) -> Dict[str, Any]:
    return {name: _typed(value) for name, value in zip(row.__fields__, row) if value is not None}


def _typed(value: Any) -> Dict[str, Any]:
    """A value as DynamoDB's protocol has it, for the types that the shapes use."""
    kind = type(value)
    if kind is str:
        return {"S": value}
    if kind is float or kind is int:
        return {"N": repr(value)}
    if kind is datetime:
        return {"N": repr(_micros(value))}
    if kind is list:
        return {"L": [_typed(element) for element in value]}
    if value is None:
        return {"NULL": True}
    return {"M": _typed_struct(value)}


def _in_threads(rows: Iterable[Row], chunk_rows: int, write: Callable[[List[Row]], None]) -> None:
    """Writes chunks in threads; no more chunks are made than twice the threads, and the first failure is raised."""
    rows = iter(rows)
    with ThreadPoolExecutor(THREADS) as pool:
        running: Set[Future[None]] = set()
        for chunk in iter(lambda: list(itertools.islice(rows, chunk_rows)), []):
            running.add(pool.submit(write, chunk))
            if len(running) >= 2 * THREADS:
                done, running = wait(running, return_when=FIRST_COMPLETED)
                for future in done:
                    future.result()
        for future in running:
            future.result()
