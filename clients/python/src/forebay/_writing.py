"""Few rows in one call: the request and what its answer means. Pure. Callers: `Client.write` and its asyncio twin, which open a session
for more."""

from __future__ import annotations

from itertools import chain, islice
from typing import Any, Dict, Iterable, List, Mapping, Optional, Tuple

from ._opening import Form, Opening
from ._payload import arrow_batches, as_rows, is_arrow_data
from ._reading import broken_protocol
from ._session import is_status, outcome_from
from .errors import RowsRejected
from .results import Outcome, Receipt, RowStatus, WriteResult
from .v1 import ingest_pb2, table_pb2

MAX_ROWS = 1000
REJECTS = ("raise", "return")


def without_session_options(options: Mapping[str, Any]) -> Dict[str, Any]:
    """What opens a write, without what only a session has."""
    return {name: value for name, value in options.items() if name not in ("retry_for", "resend")}


def is_few(data: Any) -> Tuple[bool, Any]:
    """Whether the data are few enough for one call, and the data themselves, whose first rows may have been looked at.

    Raises `TypeError` for what is no rows."""
    if is_arrow_data(data):
        # A reader does not say how many rows it will give.
        rows = getattr(data, "num_rows", None)
        if rows is None and hasattr(data, "columns") and hasattr(data, "__len__"):
            rows = len(data)
        return rows is not None and rows <= MAX_ROWS, data
    rest = iter(as_rows(data))
    first = list(islice(rest, MAX_ROWS + 1))
    return (True, first) if len(first) <= MAX_ROWS else (False, chain(first, rest))


def is_empty(data: Any) -> bool:
    """Whether few data are none at all."""
    return not is_arrow_data(data) and not data


def unknown_columns(data: Any, table: table_pb2.Table) -> bool:
    """Whether the first row has a column that is not known of the table: it may have one more by now."""
    if is_arrow_data(data) or not isinstance(data[0], dict):
        return False
    return not {field.name for field in table.schema.fields}.issuperset(data[0])


def request(
    opening: Opening, table: Optional[table_pb2.Table], data: Any, *, atomic: bool
) -> Optional[ingest_pb2.WriteRowsRequest]:
    """The call for few data; None where they are too large for one message. `table` is needed for rows, not for Arrow data.

    Raises `TypeError` and `ValueError` that name the row and the column."""
    if is_arrow_data(data):
        form = Form.of_arrow(opening, arrow_batches(data)[0])
    else:
        assert table is not None, "the types of rows are the table's"
        form = Form.of_rows(opening, table, data[0])
    payloads = list(islice(form.slices(data, opening.limits(None), atomic=atomic), 2))
    if len(payloads) > 1:
        return None
    message = ingest_pb2.WriteRowsRequest(open=form.open, atomic=atomic)
    if form.arrow:
        message.arrow.ParseFromString(payloads[0].body if payloads else b"")
    else:
        message.rows.ParseFromString(payloads[0].body)
    return message


def result(answer: ingest_pb2.WriteRowsResponse) -> WriteResult:
    """What the answer says. Raises `CallError` for a status that is not known."""
    unknown = next((one.status for one in answer.outcomes if not is_status(one.status)), None)
    if unknown is not None:
        raise broken_protocol(f"an outcome with the status {unknown}, which is not one")
    outcomes = tuple(outcome_from(outcome, 1, outcome.row_index) for outcome in answer.outcomes)
    totals = answer.receipt
    receipt = Receipt(
        batches=totals.batches,
        rows=totals.rows,
        committed_rows=totals.committed_rows,
        superseded_rows=totals.superseded_rows,
        rejected_rows=totals.rejected_rows,
        retryable_rows=totals.retryable_rows,
        unknown_rows=totals.unknown_rows,
        write_units=totals.write_units,
        throttled_attempts=totals.throttled_attempts,
        coercions=dict(totals.coercions),
        rate_limited_seconds=totals.rate_limited_for.ToTimedelta().total_seconds(),
        calls=1,
    )
    return WriteResult(receipt, outcomes)


def check_rejects(rejects: str) -> None:
    """Raises `ValueError` for a word that is none."""
    if rejects not in REJECTS:
        raise ValueError(f"rejects: expected one of {', '.join(REJECTS)}")


def settle(written: WriteResult, rejects: str) -> WriteResult:
    """The result, or `RowsRejected` where rows were not written and that is to be an error."""
    if rejects == "raise" and written.receipt.unwritten_rows:
        raise RowsRejected(_unwritten(written.outcomes), written.receipt)
    return written


def _unwritten(outcomes: Iterable[Outcome]) -> List[Outcome]:
    lost = (outcome for outcome in outcomes if outcome.status is not RowStatus.SUPERSEDED)
    return list(islice(lost, RowsRejected.MAX_LISTED))
