"""The Python client in `foreachPartition`, given dicts: what replaces boto3 line by line.

Callers: `ways`; the functions run in Spark's Python workers.
"""

from __future__ import annotations

import itertools
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any, Callable, Dict, Iterator

if TYPE_CHECKING:
    from pyspark.sql import Row

SEND_ROWS = 500
"""Rows that are handed to the client at once."""


def write_dicts(gateway_url: str, table: str) -> Callable[[Iterator[Row]], None]:
    """A session for each partition."""

    def write(rows: Iterator[Row]) -> None:
        import forebay

        with forebay.connect(gateway_url) as client, client.writer(table) as writer:
            for chunk in iter(lambda: list(itertools.islice(rows, SEND_ROWS)), []):
                writer.send([aware_item(row) for row in chunk])
        if writer.receipt.unwritten_rows:
            raise RuntimeError(f"{writer.receipt.unwritten_rows} rows were not written: {writer.outcomes[0]}")

    return write


def aware_item(row: Row) -> Dict[str, Any]:
    """A row with the zone of its times, which Spark leaves out."""
    return {name: _aware(value) for name, value in zip(row.__fields__, row)}


def _aware(value: Any) -> Any:
    if isinstance(value, datetime):
        return value.astimezone(timezone.utc)
    if isinstance(value, list):
        return [_aware(element) for element in value]
    if isinstance(value, tuple):
        return aware_item(value)  # type: ignore[arg-type]
    return value
