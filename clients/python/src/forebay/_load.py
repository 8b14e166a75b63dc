"""`python -m forebay write`: a file's rows into a table by one session, and what became of them.

Rows are known by their numbers in the file. Nothing is sent before the file's format and its columns are known to be
right. Invariant: every row of the file is in the totals, written or with a reason. Caller: `__main__`.
"""

from __future__ import annotations

import contextlib
import json
import sys
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List, Optional, Sequence, TextIO, Tuple, TypeVar

from ._files import Content, Rejected, format_of, read_arrow, read_text
from .client import Client
from .results import Outcome, Receipt, RowStatus
from .v1 import types_pb2 as pb

T = TypeVar("T")

STDIN = "-"
TEXT_FORMATS = ("csv", "ndjson")


class Report:
    """What became of a file's rows: counts, and the file of rejected rows. The writer's thread and the reader's both
    tell it."""

    def __init__(self, rejects: Optional[TextIO]) -> None:
        self._lock = threading.Lock()
        self._rejects = rejects
        self._rows_of: List[Sequence[int]] = []
        self.unsent_rows = 0
        self.reasons: Counter[str] = Counter()

    def sending(self, rows: Sequence[int]) -> None:
        """A batch is about to be sent; the numbers of its rows."""
        with self._lock:
            self._rows_of.append(rows)

    def rejected(self, rejected: Rejected) -> None:
        """A row is not sent."""
        with self._lock:
            self.unsent_rows += 1
            line = {
                "field": rejected.field,
                "message": rejected.message,
                "declared": rejected.declared,
                "found": "",
                "hint": "",
            }
            self._reject(rejected.row, RowStatus.REJECTED, rejected.reason, line)

    def outcome(self, outcome: Outcome) -> None:
        """A row was sent and is not plainly written."""
        if outcome.status is RowStatus.SUPERSEDED:
            return
        line: Dict[str, Any] = {
            "field": outcome.field_path,
            "message": outcome.message,
            "declared": outcome.declared_type,
            "found": outcome.found_type,
            "hint": outcome.hint,
        }
        if outcome.value is not None:
            line["value"] = outcome.value
        with self._lock:
            self._reject(self._rows_of[outcome.batch - 1][outcome.row], outcome.status, outcome.reason, line)

    def _reject(self, row: int, status: RowStatus, reason: str, line: Dict[str, Any]) -> None:
        self.reasons[reason] += 1
        if self._rejects is not None:
            print(
                json.dumps(
                    {"row": row, "status": status.value, "reason": reason, **line},
                    ensure_ascii=False,
                    separators=(",", ":"),
                ),
                file=self._rejects,
            )


def load(
    client: Client,
    file: str,
    table: str,
    *,
    format: Optional[str],
    mode: Optional[str],
    op_column: Optional[str],
    priority: str,
    rejects: Optional[str],
) -> Tuple[Dict[str, Any], bool]:
    """Writes a file. Returns the totals, for JSON, and whether every row was written. Raises `ValueError` where the
    file cannot be read."""
    started = time.monotonic()
    with contextlib.ExitStack() as stack:
        definition = client.get_table(table)
        types = {field.name: field.type for field in definition.message.schema.fields}
        if op_column is not None:
            types[op_column] = pb.DataType(primitive=pb.PRIMITIVE_TYPE_STRING)
        report = Report(None if rejects is None else stack.enter_context(_created(rejects)))
        lenient = definition.store_assignment != "STRICT"
        content = stack.enter_context(_opened(file, format, types, lenient, report))
        writer = client.writer(
            table,
            mode=mode,
            op_column=op_column,
            columns=content.columns if content.arrow_schema is None else None,
            arrow_schema=content.arrow_schema,
            priority=priority,
            on_outcome=report.outcome,
        )
        with writer:
            for block in content.blocks:
                report.sending(block.rows)
                writer.send(block.data)
    receipt = writer.receipt
    totals = _totals(report, receipt)
    totals = {
        "file": file,
        "table": table,
        **totals,
        "rejects_file": rejects,
        "seconds": round(time.monotonic() - started, 3),
    }
    return totals, report.unsent_rows == 0 and receipt.unwritten_rows == 0


@contextlib.contextmanager
def _opened(
    file: str, format: Optional[str], types: Dict[str, pb.DataType], lenient: bool, report: Report
) -> Iterator[Content]:
    if file == STDIN:
        if format not in TEXT_FORMATS:
            raise ValueError("standard input: expected --format csv or --format ndjson")
        yield read_text(sys.stdin, "standard input", format, types, lenient=lenient, reject=report.rejected)
        return
    path = Path(file)
    format = format or _reading(file, lambda: format_of(path))
    if format in TEXT_FORMATS:
        with _reading(file, lambda: path.open(encoding="utf-8", newline="")) as text:
            try:
                yield read_text(text, file, format, types, lenient=lenient, reject=report.rejected)
            except UnicodeDecodeError as error:
                raise ValueError(f"{file}: not UTF-8 ({error.reason})") from error
        return
    with _reading(file, lambda: path.open("rb")) as binary:
        try:
            content = read_arrow(binary, file, format)
        except ImportError as error:
            raise ValueError(f"{file}: Parquet and Arrow need pyarrow: pip install 'forebay[arrow]'") from error
        yield content


def _reading(file: str, read: Callable[[], T]) -> T:
    try:
        return read()
    except OSError as error:
        raise ValueError(f"{file}: cannot be read ({error.strerror})") from error


def _created(path: str) -> TextIO:
    try:
        return open(path, "w", encoding="utf-8")
    except OSError as error:
        raise ValueError(f"{path}: cannot be written ({error.strerror})") from error


def _totals(report: Report, receipt: Receipt) -> Dict[str, Any]:
    return {
        "rows": receipt.rows + report.unsent_rows,
        "acked": receipt.rows - receipt.unwritten_rows,
        "superseded": receipt.superseded_rows,
        "rejected": receipt.rejected_rows + report.unsent_rows,
        "retryable": receipt.retryable_rows,
        "unknown": receipt.unknown_rows,
        "rejected_by_reason": dict(sorted(report.reasons.items())),
        "coercions": dict(receipt.coercions),
        "write_units": receipt.write_units,
        "calls": receipt.calls,
    }
