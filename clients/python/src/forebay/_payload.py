"""What callers have (dicts, sequences, Arrow, pandas) as payloads of about the size that the gateway asks for.

`RowSlicer` makes positional rows, `ArrowSlicer` Arrow IPC; a session has one of the two, by the first data that it is given. Arrow data
costs per batch, not per row. Callers: `writer`, `aio_writer`, `client`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Iterable, Iterator, List, Mapping, Optional, Protocol, Tuple

from ._wire import Payload, row_of_batch
from .v1 import types_pb2

if TYPE_CHECKING:
    import pyarrow

COMPRESSIONS = ("lz4", "zstd")
ATOMIC_MAX_ROWS = 100
# The end-of-stream marker of Arrow IPC: a continuation and a length of zero.
_END_OF_STREAM_BYTES = 8
# What a message has beside its rows: numbers and lengths.
_ENVELOPE_BYTES = 64


@dataclass(frozen=True)
class SliceLimits:
    """How large payloads are: about `target_bytes`, never above `max_bytes` or `max_rows`."""

    target_bytes: int
    max_bytes: int
    max_rows: int


def is_arrow_data(data: Any) -> bool:
    """Whether it is columns: pyarrow's, pandas', or anything that exports an Arrow stream (polars)."""
    module = type(data).__module__.partition(".")[0]
    return module in ("pyarrow", "pandas") or hasattr(data, "__arrow_c_stream__")


def arrow_batches(
    data: Any, schema: Optional[pyarrow.Schema] = None
) -> Tuple[pyarrow.Schema, Iterator[pyarrow.RecordBatch]]:
    """The schema and the record batches of columns. `schema` is the session's, where it has one: what pandas has becomes its types.

    Raises `TypeError` for what has no columns, `ValueError` for a DataFrame that Arrow cannot have."""
    import pyarrow as pa

    if isinstance(data, pa.RecordBatch):
        return data.schema, iter((data,))
    if isinstance(data, pa.RecordBatchReader):
        return data.schema, iter(data)
    if isinstance(data, pa.Table):
        return data.schema, iter(data.to_batches())
    if type(data).__module__.partition(".")[0] == "pandas":
        if not hasattr(data, "columns"):
            raise TypeError(f"expected a DataFrame; found a {type(data).__name__}")
        table = _of_pandas(data, schema)
        return table.schema, iter(table.to_batches())
    if hasattr(data, "__arrow_c_stream__") and hasattr(pa.RecordBatchReader, "from_stream"):
        reader = pa.RecordBatchReader.from_stream(data)
        return reader.schema, iter(reader)
    raise TypeError(f"expected a pyarrow RecordBatch, Table or RecordBatchReader; found {type(data).__name__}")


def _of_pandas(frame: Any, schema: Optional[pyarrow.Schema]) -> pyarrow.Table:
    import pyarrow as pa

    found = list(frame.columns)
    for name in found:
        if not isinstance(name, str):
            raise ValueError(f"the DataFrame has a column named {name!r}; expected text")
    if schema is not None and found != schema.names:
        raise ValueError(f"the DataFrame has the columns {', '.join(found)}; the session has {', '.join(schema.names)}")
    columns = []
    for at, name in enumerate(found):
        wanted = None if schema is None else schema.field(name).type
        try:
            columns.append(pa.Array.from_pandas(frame.iloc[:, at], type=wanted))
        except (pa.ArrowException, TypeError, ValueError, OverflowError):
            # Arrow's own sentence shows the value.
            expected = "expected values of one type that Arrow has" if wanted is None else f"the session has {wanted}"
            raise ValueError(f"column {name}: the DataFrame has a value of another type; {expected}") from None
    return pa.table(columns, names=found) if schema is None else pa.table(columns, schema=schema)


def as_rows(data: Any) -> Iterable[Any]:
    """Rows of what is one dict or an iterable of them."""
    if isinstance(data, Mapping):
        return (data,)
    if isinstance(data, (str, bytes)) or not isinstance(data, Iterable):
        raise TypeError(f"expected a dict, an iterable of dicts, a DataFrame or Arrow data; found {type(data).__name__}")
    return data


class Encodes(Protocol):
    """What rows are encoded by: `_schema.RowEncoder`."""

    def encode(self, row: Any, out: types_pb2.Row, where: str = "") -> None:
        """Fills `out`. Raises `TypeError` or `ValueError` that begins with `where`."""


class RowSlicer:
    """Dicts or sequences as RowBatches."""

    def __init__(self, encoder: Encodes) -> None:
        self._encoder = encoder

    def slices(self, rows: Iterable[Any], limits: SliceLimits, *, atomic: bool = False) -> Iterator[Payload]:
        """The payloads, in order. Raises `TypeError` and `ValueError` for a row that is none; rows before it come out first."""
        batch: List[bytes] = []
        size = 0
        for index, row in enumerate(rows):
            encoded = types_pb2.Row()
            try:
                self._encoder.encode(row, encoded, f"row {index}: ")
                encoded_row = row_of_batch(encoded)
                row_bytes = len(encoded_row)
                if row_bytes > limits.max_bytes - _ENVELOPE_BYTES:
                    raise ValueError(f"row {index}: has {row_bytes} bytes; a message has at most {limits.max_bytes}")
            except (TypeError, ValueError):
                if batch and not atomic:
                    yield Payload.of_rows(batch)
                raise
            if batch and not atomic and (size + row_bytes > limits.target_bytes or len(batch) >= limits.max_rows):
                yield Payload.of_rows(batch)
                batch, size = [], 0
            batch.append(encoded_row)
            size += row_bytes
            if atomic and (len(batch) > ATOMIC_MAX_ROWS or size > limits.max_bytes - _ENVELOPE_BYTES):
                raise _too_large_for_atomic()
        if batch:
            yield Payload.of_rows(batch, atomic=atomic)


class ArrowSlicer:
    """Record batches of one schema as ArrowBatches."""

    def __init__(self, schema: pyarrow.Schema, compression: Optional[str] = None) -> None:
        import pyarrow as pa

        # What Spark or pandas keep about themselves is of no use to the gateway.
        self.schema = schema.remove_metadata()
        self.schema_message: bytes = self.schema.serialize().to_pybytes()
        self._options = pa.ipc.IpcWriteOptions(compression=compression)
        # Without compression and dictionaries a record batch is one message, made without a stream around it.
        self._plain = compression is None and not any(_has_dictionary(field.type) for field in schema)

    def slices(
        self, batches: Iterable[pyarrow.RecordBatch], limits: SliceLimits, *, atomic: bool = False
    ) -> Iterator[Payload]:
        """The payloads, in order. Raises `ValueError` for a batch of another schema and for a row that no message can carry."""
        if atomic:
            yield from self._atomic(list(batches), limits)
            return
        for batch in _gathered((self._of_session(batch) for batch in batches), limits):
            yield from self._cut(batch, limits)

    def _atomic(self, batches: List[pyarrow.RecordBatch], limits: SliceLimits) -> Iterator[Payload]:
        batches = [self._of_session(batch) for batch in batches if batch.num_rows]
        if not batches:
            return
        if sum(batch.num_rows for batch in batches) > ATOMIC_MAX_ROWS:
            raise _too_large_for_atomic()
        batch = _joined(batches)
        payload = Payload.of_arrow(self._messages(batch), batch.num_rows, atomic=True)
        if payload.body_bytes > limits.max_bytes - _ENVELOPE_BYTES:
            raise _too_large_for_atomic()
        yield payload

    def _of_session(self, batch: pyarrow.RecordBatch) -> pyarrow.RecordBatch:
        import pyarrow as pa

        if batch.schema.equals(self.schema, check_metadata=False):
            return batch
        if batch.schema.names != self.schema.names:
            raise ValueError(
                f"the batch has the columns {', '.join(batch.schema.names)}; the session has {', '.join(self.schema.names)}"
            )
        for ours, theirs in zip(self.schema, batch.schema):
            if ours.type != theirs.type:
                raise ValueError(f"column {ours.name}: the batch has {theirs.type}; the session has {ours.type}")
        # Only whether nulls may be differs.
        return pa.RecordBatch.from_arrays(batch.columns, schema=self.schema)

    def _cut(self, batch: pyarrow.RecordBatch, limits: SliceLimits) -> Iterator[Payload]:
        rows = batch.num_rows
        step = min(rows, limits.max_rows, max(1, rows * limits.target_bytes // max(batch.nbytes, 1)))
        for start in range(0, rows, step):
            yield from self._encode(batch.slice(start, step), limits)

    def _encode(self, batch: pyarrow.RecordBatch, limits: SliceLimits) -> Iterator[Payload]:
        payload = Payload.of_arrow(self._messages(batch), batch.num_rows)
        if payload.body_bytes <= limits.max_bytes - _ENVELOPE_BYTES:
            yield payload
            return
        # Rows differ in size: this part has the large ones.
        if batch.num_rows == 1:
            raise ValueError(f"a row has {payload.body_bytes} bytes; a message has at most {limits.max_bytes}")
        half = batch.num_rows // 2
        yield from self._encode(batch.slice(0, half), limits)
        yield from self._encode(batch.slice(half), limits)

    def _with_small_dictionaries(self, batch: pyarrow.RecordBatch) -> pyarrow.RecordBatch:
        """The same, where a slice of few rows would carry a dictionary of many: with the values alone that it uses."""
        import pyarrow as pa

        columns = []
        for column in batch.columns:
            if pa.types.is_dictionary(column.type) and len(column.dictionary) > len(column):
                used = column.dictionary_decode().dictionary_encode()
                column = pa.DictionaryArray.from_arrays(
                    used.indices.cast(column.type.index_type), used.dictionary, ordered=column.type.ordered
                )
            columns.append(column)
        return pa.RecordBatch.from_arrays(columns, schema=batch.schema)

    def _messages(self, batch: pyarrow.RecordBatch) -> List[Any]:
        """The encapsulated messages after the schema's: dictionaries, then the record batch."""
        import pyarrow as pa

        if self._plain:
            return [batch.serialize()]
        batch = self._with_small_dictionaries(batch)
        sink = pa.BufferOutputStream()
        with pa.ipc.new_stream(sink, self.schema, options=self._options) as stream:
            stream.write_batch(batch)
        stream_bytes = memoryview(sink.getvalue()).cast("B")
        head = len(self.schema_message)
        if stream_bytes[:head] != self.schema_message:
            raise RuntimeError("pyarrow wrote another schema message into the stream than alone")
        return [stream_bytes[head : len(stream_bytes) - _END_OF_STREAM_BYTES]]


def _gathered(batches: Iterable[pyarrow.RecordBatch], limits: SliceLimits) -> Iterator[pyarrow.RecordBatch]:
    """The same rows in batches that are worth a message: small ones in a row become one."""
    kept: List[pyarrow.RecordBatch] = []
    size = rows = 0
    for batch in batches:
        if not batch.num_rows:
            continue
        if kept and (size + batch.nbytes > limits.target_bytes or rows + batch.num_rows > limits.max_rows):
            yield _joined(kept)
            kept, size, rows = [], 0, 0
        kept.append(batch)
        size += batch.nbytes
        rows += batch.num_rows
    if kept:
        yield _joined(kept)


def _joined(batches: List[pyarrow.RecordBatch]) -> pyarrow.RecordBatch:
    import pyarrow as pa

    if len(batches) == 1:
        return batches[0]
    table = pa.Table.from_batches(batches).unify_dictionaries().combine_chunks()
    return pa.RecordBatch.from_arrays([column.chunk(0) for column in table.columns], schema=table.schema)


def _has_dictionary(data_type: pyarrow.DataType) -> bool:
    import pyarrow as pa

    if pa.types.is_dictionary(data_type):
        return True
    return any(_has_dictionary(data_type.field(at).type) for at in range(data_type.num_fields))


def _too_large_for_atomic() -> ValueError:
    return ValueError(f"an atomic batch has at most {ATOMIC_MAX_ROWS} rows, in one message; send less at once")
