"""Files as blocks of rows: a bad row is left out with its number and place, a bad file is an error before anything
is sent."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any, Dict, List

import pytest

from forebay import _files
from forebay._files import Content, Rejected, format_of, read_arrow, read_text
from forebay.v1 import types_pb2 as pb

TYPES: Dict[str, pb.DataType] = {
    "id": pb.DataType(primitive=pb.PRIMITIVE_TYPE_STRING),
    "score": pb.DataType(primitive=pb.PRIMITIVE_TYPE_DOUBLE),
    "tags": pb.DataType(array=pb.ArrayType(element=pb.DataType(primitive=pb.PRIMITIVE_TYPE_STRING))),
}


class Read:
    """A text file that was read to its end."""

    def __init__(self, format: str, text: str, *, lenient: bool = False) -> None:
        self.rejected: List[Rejected] = []
        file = io.StringIO(text, newline="")
        content: Content = read_text(file, "f", format, TYPES, lenient=lenient, reject=self.rejected.append)
        self.columns = content.columns
        self.blocks = list(content.blocks)
        self.rows: List[Any] = [row for block in self.blocks for row in block.data]
        self.numbers = [number for block in self.blocks for number in block.rows]


def test_csv_cells_have_the_types_of_their_columns() -> None:
    read = Read("csv", 'id,score,tags\n007,1,"[""a""]"\n,,\n\n"a,b",2.5,\n')
    assert read.columns == ["id", "score", "tags"]
    assert read.rows == [
        {"id": "007", "score": 1.0, "tags": ["a"]},
        {"id": None, "score": None, "tags": None},
        {"id": "a,b", "score": 2.5, "tags": None},
    ]
    assert not read.rejected


@pytest.mark.parametrize(
    "format, text",
    [
        ("csv", "id,score\na,1\nb,high\nc,2,3\nd,4\n"),
        ("ndjson", '{"id":"a","score":1}\n{"id":"b","score":"high"}\n{"id":"c"\n{"id":"d","score":4}\n'),
    ],
)
def test_a_bad_row_is_left_out_with_its_number_and_its_neighbours_are_kept(format: str, text: str) -> None:
    read = Read(format, text)
    assert [row["id"] for row in read.rows] == ["a", "d"]
    assert read.numbers == [1, 4]
    # NDJSON looks ahead for its columns: what is no JSON is found first.
    assert sorted((rejected.row, rejected.reason, rejected.field) for rejected in read.rejected) == [
        (2, "TYPE_MISMATCH", "score"),
        (3, "MALFORMED", ""),
    ]
    assert "high" not in str(read.rejected)


def test_where_the_table_coerces_the_gateway_gets_the_text_as_it_is() -> None:
    read = Read("csv", "id,score\nb,high\n", lenient=True)
    assert read.rows == [{"id": "b", "score": "high"}] and not read.rejected


@pytest.mark.parametrize(
    "format, text, complaint",
    [
        ("csv", "", "expected a header"),
        ("csv", "id,colour\n", "no column `colour`; expected some of id, score, tags"),
        ("csv", "id,id\n", "two columns are named `id`"),
        ("csv", 'id\n"a\n', "line"),
        ("ndjson", '{"colour":1}\n', "no column `colour`"),
        ("ndjson", "\n\n", "no row with a column"),
    ],
)
def test_a_bad_file_is_an_error_that_names_it(format: str, text: str, complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint) as caught:
        Read(format, text)
    assert str(caught.value).startswith("f: ")


def test_a_column_that_comes_late_in_ndjson_is_never_dropped_silently(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_files, "BLOCK_ROWS", 2)
    read = Read("ndjson", '{"id":"a"}\n{"id":"b"}\n{"id":"c","score":1}\n{"id":"d"}\n')
    assert read.columns == ["id"]
    assert [(rejected.row, rejected.reason, rejected.field) for rejected in read.rejected] == [
        (3, "UNKNOWN_FIELD", "score")
    ]
    assert [list(block.rows) for block in read.blocks] == [[1, 2], [4]]


@pytest.mark.parametrize("kind", ["parquet", "file", "stream"])
def test_parquet_and_arrow_come_as_record_batches(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    pa = pytest.importorskip("pyarrow")
    monkeypatch.setattr(_files, "ARROW_BLOCK_ROWS", 2)
    table = pa.table({"id": ["a", "b", "c"], "score": [1.0, 2.0, None]})
    file = io.BytesIO()
    if kind == "parquet":
        import pyarrow.parquet

        pyarrow.parquet.write_table(table, file)
    else:
        new = pa.ipc.new_file if kind == "file" else pa.ipc.new_stream
        with new(file, table.schema) as writer:
            writer.write_table(table)
    file.seek(0)
    content = read_arrow(file, "f", "parquet" if kind == "parquet" else "arrow")
    blocks = list(content.blocks)
    assert content.arrow_schema == table.schema and content.columns == ["id", "score"]
    assert [list(block.rows) for block in blocks] == [[1, 2], [3]]
    assert pa.Table.from_batches([block.data for block in blocks]) == table


@pytest.mark.parametrize("format", ["parquet", "arrow"])
def test_what_is_no_such_file_is_an_error_that_names_it(format: str) -> None:
    pytest.importorskip("pyarrow")
    with pytest.raises(ValueError, match=f"^f: no {format} file"):
        read_arrow(io.BytesIO(b"id,score\n" * 10), "f", format)


def test_the_format_is_told_by_the_name_or_else_by_the_first_bytes(tmp_path: Path) -> None:
    assert format_of(Path("a.CSV")) == "csv"
    assert format_of(Path("a.jsonl")) == "ndjson"
    for start, format in ((b"PAR1....", "parquet"), (b"ARROW1\0\0", "arrow")):
        path = tmp_path / "data"
        path.write_bytes(start)
        assert format_of(path) == format
    path.write_bytes(b"id,score")
    with pytest.raises(ValueError, match="expected --format csv|ndjson|parquet|arrow"):
        format_of(path)
