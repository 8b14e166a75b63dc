"""The rows of a file, in blocks that a writer sends: CSV and NDJSON as dicts, Parquet and Arrow as pyarrow record
batches.

Rows are counted from 1, without a header. Text is read as the declared type of its column, as an exact literal
(`_literals`); where the table coerces (`ansi`, `legacy`), what is none goes to the gateway as the text that it is. A
row that cannot be read is given to `reject` and left out; what is wrong with the file as a whole is a `ValueError`.

Invariants: files are read as they are sent, never whole; no error shows a value. Caller: `__main__`.
"""

from __future__ import annotations

import csv
import itertools
import json
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import (
    TYPE_CHECKING,
    Any,
    BinaryIO,
    Callable,
    Dict,
    Iterable,
    Iterator,
    List,
    Mapping,
    NoReturn,
    Sequence,
    TextIO,
    Tuple,
    Union,
)

from ._literals import NotALiteral, from_json, from_text
from ._types import type_name
from .v1 import types_pb2 as pb

if TYPE_CHECKING:
    import pyarrow

FORMATS = ("csv", "ndjson", "parquet", "arrow")
BLOCK_ROWS = 1_000
"""Of text: full batches of DynamoDB many times over. Parquet and Arrow come as they lie in the file, at most
`ARROW_BLOCK_ROWS`."""
ARROW_BLOCK_ROWS = 65_536

_SUFFIXES = {
    ".csv": "csv",
    ".ndjson": "ndjson",
    ".jsonl": "ndjson",
    ".parquet": "parquet",
    ".arrow": "arrow",
    ".arrows": "arrow",
    ".feather": "arrow",
    ".ipc": "arrow",
}
_ARROW_FILE = b"ARROW1"


@dataclass(frozen=True)
class Rejected:
    """A row that is not sent."""

    row: int
    """Its number in the file, from 1."""
    reason: str
    """A name of RowReason."""
    field: str
    message: str
    declared: str = ""


@dataclass(frozen=True)
class Block:
    """Rows to send at once."""

    data: Union[List[Dict[str, Any]], pyarrow.RecordBatch]
    rows: Sequence[int]
    """The numbers that its rows have in the file, in order."""


Reject = Callable[[Rejected], None]


@dataclass(frozen=True)
class Content:
    """A file that was opened: the columns that its rows carry, and the rows."""

    columns: List[str]
    arrow_schema: Union[pyarrow.Schema, None]
    """Where the blocks are record batches."""
    blocks: Iterator[Block]


def format_of(path: Path) -> str:
    """The format, by the file's name, else by its first bytes. Raises `ValueError` where neither says it."""
    found = _SUFFIXES.get(path.suffix.lower())
    if found is None:
        with path.open("rb") as file:
            start = file.read(6)
        found = "parquet" if start[:4] == b"PAR1" else "arrow" if start == _ARROW_FILE else None
    if found is None:
        raise ValueError(
            f"{path}: neither the name nor the first bytes say what it is; expected --format {'|'.join(FORMATS)}"
        )
    return found


def read_text(
    file: TextIO, name: str, format: str, types: Mapping[str, pb.DataType], *, lenient: bool, reject: Reject
) -> Content:
    """The rows of an open CSV or NDJSON file. `types` are those of the columns that it may have."""
    if format == "csv":
        columns, rows = _csv_rows(file, name, types, lenient, reject)
    else:
        columns, rows = _ndjson_rows(file, name, types, lenient, reject)
    return Content(columns, None, _in_blocks(rows))


def read_arrow(file: BinaryIO, name: str, format: str) -> Content:
    """The record batches of an open Parquet or Arrow file. Raises `ImportError` where pyarrow is missing."""
    import pyarrow as pa

    try:
        schema, batches = _parquet(file) if format == "parquet" else _arrow(file)
    except pa.ArrowException as error:
        raise ValueError(f"{name}: no {format} file ({type(error).__name__})") from error

    def blocks() -> Iterator[Block]:
        first = 1
        for batch in batches:
            for start in range(0, batch.num_rows, ARROW_BLOCK_ROWS):
                part = batch.slice(start, ARROW_BLOCK_ROWS)
                yield Block(part, range(first, first + part.num_rows))
                first += part.num_rows

    return Content(list(schema.names), schema, blocks())


def _parquet(file: BinaryIO) -> Tuple[pyarrow.Schema, Iterable[pyarrow.RecordBatch]]:
    import pyarrow.parquet as pq

    parquet = pq.ParquetFile(file)
    return parquet.schema_arrow, parquet.iter_batches(batch_size=ARROW_BLOCK_ROWS)


def _arrow(file: BinaryIO) -> Tuple[pyarrow.Schema, Iterable[pyarrow.RecordBatch]]:
    import pyarrow.ipc as ipc

    start = file.read(len(_ARROW_FILE))
    file.seek(0)
    if start != _ARROW_FILE:
        stream = ipc.open_stream(file)
        return stream.schema, stream
    whole = ipc.open_file(file)
    return whole.schema, (whole.get_batch(at) for at in range(whole.num_record_batches))


_Numbered = Tuple[int, Dict[str, Any]]


def _in_blocks(rows: Iterator[_Numbered]) -> Iterator[Block]:
    for block in iter(lambda: list(itertools.islice(rows, BLOCK_ROWS)), []):
        yield Block([row for _, row in block], [number for number, _ in block])


def _csv_rows(
    file: TextIO, name: str, types: Mapping[str, pb.DataType], lenient: bool, reject: Reject
) -> Tuple[List[str], Iterator[_Numbered]]:
    reader = csv.reader(file, strict=True)
    try:
        header = next(reader, None)
    except csv.Error as error:
        raise ValueError(f"{name}: line 1: {error}") from error
    if header is None:
        raise ValueError(f"{name}: empty; expected a header with the names of columns")
    columns = [column.lstrip("\ufeff").strip() for column in header]
    for column in columns:
        if column not in types:
            raise _unknown(name, column, types)
        if columns.count(column) > 1:
            raise ValueError(f"{name}: two columns are named `{column}`")

    def rows() -> Iterator[_Numbered]:
        number = 0
        while True:
            try:
                cells = next(reader)
            except StopIteration:
                return
            except csv.Error as error:
                raise ValueError(f"{name}: line {reader.line_num}: {error}") from error
            if not cells:
                continue  # an empty line
            number += 1
            if len(cells) != len(columns):
                reject(Rejected(number, "MALFORMED", "", f"expected {len(columns)} cells; found {len(cells)}"))
                continue
            row = _typed(number, dict(zip(columns, cells)), types, from_cell, lenient, reject)
            if row is not None:
                yield number, row

    return columns, rows()


def from_cell(cell: str, data_type: pb.DataType) -> Any:
    """A cell of CSV: an empty one is a null; arrays, maps, structs and variants are JSON."""
    if cell == "":
        return None
    kind = data_type.WhichOneof("type")
    if kind in ("array", "map", "struct") or data_type.primitive == pb.PRIMITIVE_TYPE_VARIANT:
        try:
            return from_json(_loads(cell), data_type)
        except NotALiteral:
            raise
        except ValueError:
            raise NotALiteral(data_type, "JSON") from None
    return from_text(cell, data_type)


def _ndjson_rows(
    file: TextIO, name: str, types: Mapping[str, pb.DataType], lenient: bool, reject: Reject
) -> Tuple[List[str], Iterator[_Numbered]]:
    lines = ((number, line) for number, line in enumerate((line for line in file if line.strip()), start=1))

    def objects() -> Iterator[_Numbered]:
        for number, line in lines:
            try:
                row = _loads(line)
            except ValueError as error:
                reject(Rejected(number, "MALFORMED", "", f"no JSON: {_place(error)}"))
                continue
            if isinstance(row, dict):
                yield number, row
            else:
                reject(Rejected(number, "MALFORMED", "", "expected a JSON object"))

    # A session says its columns before its rows: those of the first rows.
    parsed = objects()
    start = list(itertools.islice(parsed, BLOCK_ROWS))
    found = {column for _, row in start for column in row}
    for column in found:
        if column not in types:
            raise _unknown(name, column, types)
    columns = [column for column in types if column in found]
    if not columns:
        raise ValueError(f"{name}: no row with a column in its first {BLOCK_ROWS} lines")

    def rows() -> Iterator[_Numbered]:
        for number, row in itertools.chain(start, parsed):
            later = next((column for column in row if column not in found), None)
            if later is not None:
                message = (
                    f"the first {BLOCK_ROWS} rows of the file do not have the column; expected {', '.join(columns)}"
                )
                reject(Rejected(number, "UNKNOWN_FIELD", later, message))
                continue
            typed = _typed(number, row, types, from_json, lenient, reject)
            if typed is not None:
                yield number, typed

    return columns, rows()


def _typed(
    number: int,
    row: Mapping[str, Any],
    types: Mapping[str, pb.DataType],
    read: Callable[[Any, pb.DataType], Any],
    lenient: bool,
    reject: Reject,
) -> Union[Dict[str, Any], None]:
    typed: Dict[str, Any] = {}
    for column, value in row.items():
        try:
            typed[column] = read(value, types[column])
        except NotALiteral as error:
            if not lenient:
                reject(Rejected(number, "TYPE_MISMATCH", column + error.path, str(error), type_name(error.data_type)))
                return None
            typed[column] = value
    return typed


def _loads(text: str) -> Any:
    return json.loads(text, parse_float=Decimal, parse_constant=_no_constant)


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


def _place(error: ValueError) -> str:
    return f"{error.msg} at character {error.pos + 1}" if isinstance(error, json.JSONDecodeError) else str(error)


def _unknown(name: str, column: str, types: Mapping[str, pb.DataType]) -> ValueError:
    return ValueError(f"{name}: the table has no column `{column}`; expected some of {', '.join(types)}")
