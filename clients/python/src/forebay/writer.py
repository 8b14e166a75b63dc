"""The writer: a session that writes rows to one table, over as many calls as it takes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Callable, List, Optional, Sequence, Type

from .options import ConnectOptions
from .results import Outcome, Receipt

if TYPE_CHECKING:
    from types import TracebackType

    import pyarrow as pa

    from .v1 import types_pb2


class Writer:
    """See `Client.writer`, whose arguments it takes after the options of the connection."""

    def __init__(
        self,
        options: ConnectOptions,
        table: str,
        *,
        mode: Optional[str] = None,
        op_column: Optional[str] = None,
        columns: Optional[Sequence[str]] = None,
        arrow_schema: Optional[pa.Schema] = None,
        spark_schema_json: Optional[str] = None,
        producer_id: Optional[str] = None,
        epoch: Optional[int] = None,
        on_missing: Optional[str] = None,
        row_deadline: Optional[float] = None,
        priority: str = "interactive",
        merge_schema: bool = False,
        store_assignment: Optional[str] = None,
        validate_only: bool = False,
        batch_bytes: Optional[int] = None,
        compression: Optional[str] = None,
        retry_for: float = 300.0,
        resend: bool = True,
        on_outcome: Optional[Callable[[Outcome], None]] = None,
    ) -> None:
        raise NotImplementedError

    @property
    def opened_schema(self) -> types_pb2.Schema:
        """The table's schema as the session was opened."""
        raise NotImplementedError

    @property
    def receipt(self) -> Receipt:
        """Totals up to now."""
        raise NotImplementedError

    @property
    def outcomes(self) -> List[Outcome]:
        """The outcomes so far, without `on_outcome`; at most 10,000."""
        raise NotImplementedError

    def send(self, data: Any, *, atomic: bool = False) -> int:
        """Takes a dict, an iterable of dicts or sequences, a pandas DataFrame, or a pyarrow RecordBatch, Table or RecordBatchReader.
        Waits while the window is full; returns the batch's number, from 1."""
        raise NotImplementedError

    def flush(self) -> Receipt:
        """Waits until every row sent so far has a final outcome."""
        raise NotImplementedError

    def finish(self) -> Receipt:
        """The same, and ends the session."""
        raise NotImplementedError

    def abort(self) -> None:
        """Ends the session without Finish: rows that are not acked may or may not be written."""
        raise NotImplementedError

    def __enter__(self) -> Writer:
        return self

    def __exit__(
        self,
        kind: Optional[Type[BaseException]],
        error: Optional[BaseException],
        trace: Optional[TracebackType],
    ) -> None:
        if error is None:
            self.finish()
        else:
            self.abort()
