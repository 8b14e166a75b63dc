"""What a writer is told, checked and turned into the message that opens its session. Pure. Callers: `writer`, `aio_writer`, `client`."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING, Any, Iterator, Mapping, Optional, Sequence, Tuple, Union

from ._payload import COMPRESSIONS, ArrowSlicer, RowSlicer, SliceLimits, arrow_batches, as_rows, is_arrow_data
from ._schema import RowEncoder, row_encoder
from ._wire import Payload
from .v1 import ingest_pb2, table_pb2, types_pb2

if TYPE_CHECKING:
    import pyarrow

MODES = {
    "put": ingest_pb2.WRITE_MODE_PUT,
    "merge": ingest_pb2.WRITE_MODE_MERGE,
    "insert": ingest_pb2.WRITE_MODE_INSERT,
    "delete": ingest_pb2.WRITE_MODE_DELETE,
}
ON_MISSING = {
    "leave_unchanged": ingest_pb2.ON_MISSING_LEAVE_UNCHANGED,
    "null": ingest_pb2.ON_MISSING_NULL,
    "default": ingest_pb2.ON_MISSING_DEFAULT,
}
PRIORITIES = {"interactive": ingest_pb2.PRIORITY_INTERACTIVE, "bulk": ingest_pb2.PRIORITY_BULK}
STORE_ASSIGNMENTS = {
    "strict": types_pb2.STORE_ASSIGNMENT_STRICT,
    "ansi": types_pb2.STORE_ASSIGNMENT_ANSI,
    "legacy": types_pb2.STORE_ASSIGNMENT_LEGACY,
}


def choice(name: str, value: Optional[str], choices: Mapping[str, Any]) -> Any:
    """One of a few words, in any case; 0 where none is said. Raises `ValueError` that names the words."""
    if value is None:
        return 0
    found = choices.get(value.lower()) if isinstance(value, str) else None
    if found is None:
        raise ValueError(f"{name}: expected one of {', '.join(choices)}")
    return found


@dataclass(frozen=True)
class Opening:
    """The arguments of `Client.writer`, checked."""

    open: ingest_pb2.Open
    columns: Optional[Tuple[str, ...]]
    arrow_schema: Optional[pyarrow.Schema]
    batch_bytes: Optional[int]
    compression: Optional[str]

    @classmethod
    def try_new(
        cls,
        table: str,
        *,
        mode: Optional[str] = None,
        op_column: Optional[str] = None,
        columns: Optional[Sequence[str]] = None,
        arrow_schema: Optional[pyarrow.Schema] = None,
        spark_schema_json: Optional[str] = None,
        producer_id: Optional[str] = None,
        epoch: Optional[int] = None,
        on_missing: Optional[str] = None,
        row_deadline: Optional[float] = None,
        priority: Optional[str] = None,
        merge_schema: bool = False,
        store_assignment: Optional[str] = None,
        validate_only: bool = False,
        batch_bytes: Optional[int] = None,
        compression: Optional[str] = None,
    ) -> Opening:
        """Raises `ValueError` and `TypeError` that name the argument."""
        if not table or not isinstance(table, str):
            raise ValueError("table: expected a table's name")
        if columns is not None and (isinstance(columns, str) or not columns):
            raise ValueError("columns: expected a sequence of names")
        if op_column and mode is not None:
            raise ValueError("mode: with op_column each row says what it does; leave mode out")
        if batch_bytes is not None and batch_bytes <= 0:
            raise ValueError("batch_bytes: expected a number of bytes above 0")
        if compression is not None and compression not in COMPRESSIONS:
            raise ValueError(f"compression: expected one of {', '.join(COMPRESSIONS)}, or None")
        message = ingest_pb2.Open(
            table=table,
            mode=choice("mode", mode, MODES),
            op_column=op_column or "",
            spark_schema_json=spark_schema_json or "",
            producer_id=producer_id or "",
            on_missing=choice("on_missing", on_missing, ON_MISSING),
            priority=choice("priority", priority, PRIORITIES),
            validate_only=validate_only,
            evolve=ingest_pb2.EVOLVE_ADD_COLUMNS if merge_schema else ingest_pb2.EVOLVE_UNSPECIFIED,
            store_assignment=choice("store_assignment", store_assignment, STORE_ASSIGNMENTS),
        )
        if epoch is not None:
            if isinstance(epoch, bool) or not isinstance(epoch, int) or not 0 <= epoch < 2**64:
                raise ValueError("epoch: expected an int from 0 to 2^64 - 1")
            message.epoch = epoch
        if row_deadline is not None:
            if not math.isfinite(row_deadline) or row_deadline <= 0:
                raise ValueError("row_deadline: expected a number of seconds above 0")
            message.row_deadline.FromMicroseconds(round(row_deadline * 1_000_000))
        chosen = None if columns is None else tuple(columns)
        return cls(message, chosen, arrow_schema, batch_bytes, compression)

    @property
    def merges(self) -> bool:
        """Whether every row is a merge: one that lacks a column is an error then, because nobody has said that its column should go."""
        return self.open.mode == ingest_pb2.WRITE_MODE_MERGE

    def limits(self, opened: Optional[ingest_pb2.Opened]) -> SliceLimits:
        """How large batches are, by what the gateway said."""
        limits = ingest_pb2.Limits() if opened is None else opened.limits
        max_bytes = limits.max_message_bytes or 16 * 1024 * 1024
        target = self.batch_bytes or limits.target_batch_bytes or 2 * 1024 * 1024
        return SliceLimits(min(target, max_bytes), max_bytes, limits.max_batch_rows or 100_000)


class _Operations:
    """Rows that say themselves what they do: one that merges has all columns, because nobody has said that the others should go."""

    def __init__(self, encoder: RowEncoder, op_column: str) -> None:
        self._encoder = encoder
        self._op_column = op_column

    def encode(self, row: Any, out: types_pb2.Row, where: str = "") -> None:
        names = self._encoder.names
        if isinstance(row, Mapping) and len(row) < len(names):
            operation = row.get(self._op_column)
            if isinstance(operation, str) and operation.lower() == "merge":
                missing = next(name for name in names if name not in row)
                raise ValueError(
                    f"{where}{missing}: missing; a merge leaves alone only what no row of the session carries, and None removes"
                )
        self._encoder.encode(row, out, where)


class Form:
    """The form of a session's batches, which the first data decides: columns of rows or an Arrow schema."""

    def __init__(self, open_message: ingest_pb2.Open, slicer: Union[RowSlicer, ArrowSlicer]) -> None:
        self.open = open_message
        self._slicer = slicer

    @classmethod
    def of_arrow(cls, opening: Opening, schema: pyarrow.Schema) -> Form:
        """Arrow batches of a schema."""
        if opening.columns is not None:
            raise ValueError("columns: Arrow data and DataFrames have their own; leave it out, or select them before")
        slicer = ArrowSlicer(schema, opening.compression)
        message = ingest_pb2.Open()
        message.CopyFrom(opening.open)
        message.arrow_schema = slicer.schema_message
        return cls(message, slicer)

    @classmethod
    def of_rows(cls, opening: Opening, table: table_pb2.Table, first_row: Any) -> Form:
        """Positional rows of `opening.columns`, else of the keys of the first row, else (a sequence) of the table's columns."""
        columns = opening.columns
        if columns is None and isinstance(first_row, Mapping):
            columns = tuple(first_row)
        extra = []
        op_column = opening.open.op_column
        if op_column:
            text = types_pb2.DataType(primitive=types_pb2.PRIMITIVE_TYPE_STRING)
            extra.append(types_pb2.Field(name=op_column, type=text, nullable=True))
        encoder = row_encoder(
            table,
            columns,
            store_assignment=opening.open.store_assignment,
            extra=extra,
            all_required=opening.merges,
        )
        message = ingest_pb2.Open()
        message.CopyFrom(opening.open)
        message.columns.CopyFrom(types_pb2.Schema(fields=encoder.fields))
        return cls(message, RowSlicer(_Operations(encoder, op_column) if op_column else encoder))

    @classmethod
    def of_first(cls, opening: Opening, table: Optional[table_pb2.Table], data: Any) -> Tuple[Optional[Form], Any]:
        """The form that the first data of a session choose, and the data, whose first row may have been looked at; no form where there
        are no rows. `table` may be None for Arrow data alone."""
        if is_arrow_data(data):
            schema, batches = arrow_batches(data)
            import pyarrow as pa

            return cls.of_arrow(opening, schema), pa.RecordBatchReader.from_batches(schema, batches)
        rows = iter(as_rows(data))
        for first in rows:
            assert table is not None, "rows have the table's types"
            return cls.of_rows(opening, table, first), chain((first,), rows)
        return None, ()

    @property
    def arrow(self) -> bool:
        """Whether batches are Arrow's."""
        return isinstance(self._slicer, ArrowSlicer)

    def slices(self, data: Any, limits: SliceLimits, *, atomic: bool = False) -> Iterator[Payload]:
        """The payloads of data in this form, in order. Raises `TypeError` for data of the other form."""
        if isinstance(self._slicer, ArrowSlicer):
            if not is_arrow_data(data):
                raise TypeError(f"this session sends Arrow batches; found {type(data).__name__}")
            return self._slicer.slices(arrow_batches(data, self._slicer.schema)[1], limits, atomic=atomic)
        if is_arrow_data(data):
            raise TypeError("this session sends rows; expected a dict or an iterable of dicts")
        return self._slicer.slices(as_rows(data), limits, atomic=atomic)
