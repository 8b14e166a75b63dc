"""What calls give back: outcomes of rows, receipts of sessions, results of reads."""

from __future__ import annotations

import enum
from dataclasses import dataclass, field
from typing import Any, Dict, Mapping, Optional, Tuple

from .errors import RowUnavailable


class RowStatus(str, enum.Enum):
    """What became of a written row that is not plainly committed."""

    SUPERSEDED = "SUPERSEDED"
    """Success: a newer row with the same key won. Listed only where its own columns are lost (STALE_MERGE)."""
    REJECTED = "REJECTED"
    """Never will be written as it is: mend the row."""
    RETRYABLE = "RETRYABLE"
    """Not written; send it again."""
    UNKNOWN = "UNKNOWN"
    """May or may not be written; send it again."""


class ReadStatus(str, enum.Enum):
    """What became of a key that was read."""

    FOUND = "FOUND"
    NOT_FOUND = "NOT_FOUND"
    EXPIRED = "EXPIRED"
    """There is a row, but its time to live has passed."""
    UNAVAILABLE = "UNAVAILABLE"
    """DynamoDB did not answer in time: it is not known whether the row is there."""
    DENIED = "DENIED"
    UNDECODABLE = "UNDECODABLE"
    """There is an item that does not fit the table's schema."""


@dataclass(frozen=True)
class Outcome:
    """What became of one row that is not plainly committed or superseded."""

    batch: int
    """The caller's batch: what `send` returned, from 1."""
    row: int
    """The row's index in that batch, from 0."""
    status: RowStatus
    reason: str
    """Stable, for programs: "TYPE_MISMATCH"."""
    field_path: str = ""
    """Where in the row: `vitals[3].hr`; empty where the row as a whole is meant."""
    message: str = ""
    declared_type: str = ""
    found_type: str = ""
    hint: str = ""
    """What to do about it, for people; may be empty."""
    value: Optional[str] = None
    """The value, shortened; only where the table has `show_values_in_outcomes`."""
    retry_after: Optional[float] = None
    """Seconds until a RETRYABLE row should be sent again."""

    def __str__(self) -> str:
        where = f" at {self.field_path}" if self.field_path else ""
        hint = f"; {self.hint}" if self.hint else ""
        return f"batch {self.batch}, row {self.row}{where}: {self.message}{hint} ({self.status.value}, {self.reason})"


@dataclass(frozen=True)
class Receipt:
    """Totals of a session over all its calls. Counts are of rows, if nothing else is said."""

    batches: int = 0
    rows: int = 0
    committed_rows: int = 0
    superseded_rows: int = 0
    """After a broken call an estimate: rows of a batch that was sent again may be counted twice."""
    rejected_rows: int = 0
    retryable_rows: int = 0
    unknown_rows: int = 0
    write_units: float = 0.0
    """DynamoDB write units, as far as the gateway reported them before a call broke."""
    throttled_attempts: int = 0
    coercions: Mapping[str, int] = field(default_factory=dict)
    """Values by field path and rule: "vitals[].hr: int->bigint"."""
    rate_limited_seconds: float = 0.0
    calls: int = 0
    """Calls that were opened; more than 1 after a reconnect."""

    def __add__(self, other: Receipt) -> Receipt:
        merged: Dict[str, int] = dict(self.coercions)
        for rule, count in other.coercions.items():
            merged[rule] = merged.get(rule, 0) + count
        return Receipt(
            batches=self.batches + other.batches,
            rows=self.rows + other.rows,
            committed_rows=self.committed_rows + other.committed_rows,
            superseded_rows=self.superseded_rows + other.superseded_rows,
            rejected_rows=self.rejected_rows + other.rejected_rows,
            retryable_rows=self.retryable_rows + other.retryable_rows,
            unknown_rows=self.unknown_rows + other.unknown_rows,
            write_units=self.write_units + other.write_units,
            throttled_attempts=self.throttled_attempts + other.throttled_attempts,
            coercions=merged,
            rate_limited_seconds=self.rate_limited_seconds + other.rate_limited_seconds,
            calls=self.calls + other.calls,
        )

    @property
    def unwritten_rows(self) -> int:
        """Rows that are not known to be written: rejected, retryable and unknown ones."""
        return self.rejected_rows + self.retryable_rows + self.unknown_rows


@dataclass(frozen=True)
class WriteResult:
    """What became of the rows of one `write`."""

    receipt: Receipt
    outcomes: Tuple[Outcome, ...] = ()
    """The rows that are not plainly committed or superseded: at most 10,000; the receipt counts all. Their `batch` is 1, their `row`
    the index in the data."""


@dataclass(frozen=True)
class RowResult:
    """What became of one key that was read: a typed result that is true where the row was found."""

    status: ReadStatus
    row: Optional[Dict[str, Any]] = None
    """The columns by name, as Python values; only when FOUND."""
    message: str = ""
    """Why, for UNAVAILABLE, DENIED and UNDECODABLE."""

    def __bool__(self) -> bool:
        return self.status is ReadStatus.FOUND

    def __getitem__(self, column: str) -> Any:
        row = self.value()
        if row is None:
            raise KeyError(f"{column}: there is no row ({self.status.value})")
        return row[column]

    def value(self) -> Optional[Dict[str, Any]]:
        """The row, or None where there is surely none (NOT_FOUND, EXPIRED).

        Raises `RowUnavailable` where it is not known: a throttled key never looks missing.
        """
        if self.status in (ReadStatus.FOUND, ReadStatus.NOT_FOUND, ReadStatus.EXPIRED):
            return self.row
        raise RowUnavailable(self.status.value, self.message)
