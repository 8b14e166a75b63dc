"""What tasks tell the driver, and what it says about a write: one line, and the error where rejects fail the job.

Reports are picklable and hold no row's contents. Callers: `task` makes them, `sink` and `helpers` add them up.
"""

from __future__ import annotations

import logging
import sys
from dataclasses import dataclass, field, replace
from typing import Dict, List, Mapping, Optional, Sequence, Tuple

from ..errors import RowsRejected
from ..results import Outcome, Receipt
from .fence import Fence

FIRST_OUTCOMES = 5
"""Outcomes that a task tells, and that the driver shows."""


@dataclass(frozen=True)
class Rejected:
    """A rejected row, without its contents."""

    partition: int
    row: int
    """Its index in the partition, from 0."""
    outcome: Outcome

    def __str__(self) -> str:
        outcome = self.outcome
        where = f" at {outcome.field_path}" if outcome.field_path else ""
        hint = f"; {outcome.hint}" if outcome.hint else ""
        return f"partition {self.partition}, row {self.row}{where}: {outcome.message}{hint} ({outcome.reason})"


@dataclass(frozen=True)
class TaskReport:
    """What one task wrote."""

    partition: int
    receipt: Receipt
    began: float
    """Seconds since 1970, by the executor's clock."""
    seconds: float
    fence: Fence = Fence()
    rejected: int = 0
    reasons: Mapping[str, int] = field(default_factory=dict)
    """Rejected rows by reason."""
    first: Tuple[Rejected, ...] = ()
    stale_merges: int = 0
    finished: bool = True
    """False: everything was flushed, but no Finish was sent, because nothing proved that the input was whole."""
    file: Optional[str] = None
    """Where the task's rejected rows are."""


class RejectsFailedTheJob(RowsRejected):
    """Rows were rejected, and `rejects` is `fail`. All others are written."""

    def __init__(self, outcomes: Sequence[Outcome], receipt: Receipt, text: str) -> None:
        super().__init__(outcomes, receipt)
        self.args = (outcomes, receipt, text)
        self.text = text

    def __str__(self) -> str:
        return self.text


class Summary:
    """Several tasks' reports as one. Tasks without a report wrote nothing that is known."""

    def __init__(self, table: str, reports: Sequence[Optional[TaskReport]]) -> None:
        self.table = table
        self.reports = [report for report in reports if report is not None]
        self.receipt = sum((report.receipt for report in self.reports), Receipt())
        self.rejected = sum(report.rejected for report in self.reports)
        self.reasons: Dict[str, int] = {}
        for report in self.reports:
            for reason, count in report.reasons.items():
                self.reasons[reason] = self.reasons.get(reason, 0) + count

    @property
    def seconds(self) -> float:
        """From the first task's begin to the last one's end; at least the longest task, as clocks may differ."""
        if not self.reports:
            return 0.0
        ends = max(report.began + report.seconds for report in self.reports)
        return max(ends - min(r.began for r in self.reports), *(r.seconds for r in self.reports), 0.0)

    @property
    def first(self) -> List[Rejected]:
        """The first rejected rows."""
        ordered = sorted(self.reports, key=lambda report: report.partition)
        return [one for report in ordered for one in report.first][:FIRST_OUTCOMES]

    def _by_reason(self) -> str:
        return ", ".join(
            f"{reason} {count}" for reason, count in sorted(self.reasons.items(), key=lambda item: -item[1])
        )

    def line(self, done: str) -> str:
        """One line: `done` is `wrote` or what else became of it."""
        receipt = self.receipt
        parts = [
            f"forebay {done}: table={self.table} rows={receipt.rows} rejected={self.rejected}",
            f"superseded={receipt.superseded_rows} units={receipt.write_units:.1f} seconds={self.seconds:.3f}",
            f"tasks={len(self.reports)}",
        ]
        fence = next((report.fence for report in self.reports if report.fence.epoch is not None), None)
        if fence is not None:
            parts.append(f"producer={fence.producer_id} epoch={fence.epoch}")
        stale = sum(report.stale_merges for report in self.reports)
        if stale:
            parts.append(f"stale_merges={stale}")
        unfinished = sum(not report.finished for report in self.reports)
        if unfinished:
            parts.append(f"flushed_without_finish={unfinished}")
        files = sum(report.file is not None for report in self.reports)
        if files:
            parts.append(f"reject_files={files}")
        text = " ".join(parts)
        if self.rejected:
            text += f" [{self._by_reason()}] the first: " + " | ".join(map(str, self.first))
        # A field's path is made of names that users chose.
        return " ".join(text.splitlines())

    def failure(self) -> RejectsFailedTheJob:
        """The error where rejects fail the job."""
        text = (
            f"{self.rejected} of {self.receipt.rows} rows were rejected by the table `{self.table}`"
            f" ({self._by_reason()}); the others are written. To go on nevertheless, set the option `rejects` to"
            " `report` or to a path. The first:"
        )
        lines = [text, *(f"  {one}" for one in self.first)]
        return RejectsFailedTheJob([one.outcome for one in self.first], self.receipt, "\n".join(lines))


def log_line(text: str, *, warning: bool = False) -> None:
    """One line in the driver's log."""
    logger = logging.getLogger("forebay.spark")
    if not logger.hasHandlers():
        # A process of Spark's own, which has set up no logging: its standard error is in the driver's log.
        handler = logging.StreamHandler(sys.stderr)
        handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s", "%y/%m/%d %H:%M:%S"))
        logger.addHandler(handler)
    if logger.level == logging.NOTSET:
        logger.setLevel(logging.INFO)
    logger.log(logging.WARNING if warning else logging.INFO, "%s", text)


def with_own_rejects(receipt: Receipt, rows: int) -> Receipt:
    """The receipt with rows that were rejected before they were sent."""
    return replace(receipt, rows=receipt.rows + rows, rejected_rows=receipt.rejected_rows + rows)
