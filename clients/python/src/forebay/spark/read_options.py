"""What a read of the data source, and `lookup`, are told by their options: parsed and checked on the driver.

As for writes, names are compared as Spark compares them, every error begins with the option's name, and none holds a
token. Keys are contents of rows: they are in no `repr`. Callers: `source` and `by_key`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Mapping, Optional, Tuple

from ..v1 import read_pb2
from .options import CONNECTION_OPTIONS, Connection, Given, _count, _seconds, _table

RETRY_FOR = 60.0
"""Seconds for which a read is tried again, unless told otherwise."""

READ_OPTIONS = (
    "table",
    *CONNECTION_OPTIONS,
    "columns",
    "consistent",
    "keys",
    "partition",
    "keysPerTask",
    "retryFor",
)
LOOKUP_OPTIONS = (*CONNECTION_OPTIONS, "retryFor")
_SECONDS = "seconds, or a time like 30s, 5m or 1h"


@dataclass(frozen=True)
class ReadOptions:
    """What a read is told. Picklable: it travels to executors."""

    connection: Connection
    table: str
    columns: Tuple[str, ...] = ()
    """Empty: all."""
    consistent: bool = False
    keys: Optional[str] = field(default=None, repr=False)
    """A JSON array of keys, each a value or an array of the values of all key columns."""
    partition: Optional[str] = field(default=None, repr=False)
    """A JSON value or array: the values of the partition columns."""
    keys_per_task: int = 10_000
    retry_for: float = RETRY_FOR

    @classmethod
    def parse(cls, options: Mapping[str, Any]) -> ReadOptions:
        """Checks everything that can be checked without a gateway. Raises `ValueError`."""
        given = Given(options, READ_OPTIONS)
        if given.text("keys") is not None and given.text("partition") is not None:
            raise ValueError("partition: keys is given, too; expected one of the two")
        return cls(
            connection=Connection.parse(given),
            table=_table(given),
            columns=given.parsed("columns", _names, "names with commas between them: id,score", ()),
            consistent=given.flag("consistent"),
            keys=given.text("keys"),
            partition=given.text("partition"),
            keys_per_task=given.parsed("keysPerTask", _count, "a whole number from 1 on", 10_000),
            retry_for=given.parsed("retryFor", _seconds, _SECONDS, RETRY_FOR),
        )

    @property
    def consistency(self) -> read_pb2.Consistency:
        """In the protocol's words."""
        return read_pb2.CONSISTENCY_STRONG if self.consistent else read_pb2.CONSISTENCY_EVENTUAL


def parse_lookup(options: Mapping[str, Any]) -> Tuple[Connection, float]:
    """How the gateway is reached, and for how many seconds a read is tried again. Raises `ValueError`."""
    given = Given(options, LOOKUP_OPTIONS)
    return Connection.parse(given), given.parsed("retryFor", _seconds, _SECONDS, RETRY_FOR)


def _names(text: str) -> Tuple[str, ...]:
    names = tuple(name.strip() for name in text.split(","))
    if not all(names):
        raise ValueError(text)
    return names
