"""`python -m forebay` against a gateway: JSON on standard output, and an exit code that says how it went."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any, List, Tuple

import pytest

from forebay.__main__ import DONE, GATEWAY, NOT_FOUND, REJECTED, USAGE, main
from forebay._health import _status_name

if TYPE_CHECKING:
    from conftest import Gateway

EVENTS = """
    name: {name}
    ddl: card STRING NOT NULL, at TIMESTAMP NOT NULL, amount DECIMAL(10,2), tags ARRAY<STRING>, f FLOAT
    key: [card, at]
"""
CSV = """card,at,amount,tags,f
c1,2026-01-31T12:00:00Z,12.50,"[""é""]",0.1
c1,2026-01-31T12:00:01.5Z,1,,
c2,2026-01-31T12:00:00Z,3,,
"""
FIRST = {"card": "c1", "at": "2026-01-31T12:00:00Z", "amount": "12.50", "tags": ["é"], "f": 0.1}
NOBODY = "http://127.0.0.1:1"


class Command:
    """The command line, with what it prints."""

    def __init__(self, gateway: Gateway, capsys: pytest.CaptureFixture[str], folder: Path, table: str) -> None:
        self._capsys = capsys
        self.endpoint = gateway.endpoint
        self.folder = folder
        self.table = table
        self.error = ""
        gateway.apply(EVENTS.format(name=table))

    def __call__(self, *arguments: str) -> Tuple[int, List[Any]]:
        """The exit code, and each line of standard output as JSON."""
        code = main(arguments)
        printed = self._capsys.readouterr()
        self.error = printed.err
        return code, [json.loads(line) for line in printed.out.splitlines()]

    def file(self, name: str, text: str) -> str:
        path = self.folder / name
        path.write_text(text)
        return str(path)

    def write(self, name: str, text: str, *more: str) -> Tuple[int, Any]:
        code, printed = self("write", self.file(name, text), "--table", self.table, *more)
        return code, printed[0] if printed else None


@pytest.fixture
def command(
    shared_gateway: Gateway,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    request: pytest.FixtureRequest,
    monkeypatch: pytest.MonkeyPatch,
) -> Command:
    monkeypatch.setenv("FOREBAY_ENDPOINT", shared_gateway.endpoint)
    # A table of the test's own, in a gateway that all share.
    return Command(shared_gateway, capsys, tmp_path, "cli_" + str(abs(hash(request.node.name))))


def test_what_is_written_from_a_file_is_read_by_its_key(command: Command) -> None:
    code, totals = command.write("events.csv", CSV)
    assert code == DONE
    assert (totals["rows"], totals["acked"], totals["rejected"], totals["rejected_by_reason"]) == (3, 3, 0, {})

    code, [answer] = command("get", command.table, "c1", "2026-01-31T12:00:00Z", "--strong")
    assert (code, answer) == (DONE, {"table": command.table, "status": "FOUND", "row": FIRST})
    code, [answer] = command("get", command.table, "c1", "2026-01-31T12:00:00Z", "--strong", "--columns", "f,card")
    assert (code, list(answer["row"].items())) == (DONE, [("f", 0.1), ("card", "c1")])
    code, [answer] = command("get", command.table, "c3", "2026-01-31T12:00:00Z")
    assert (code, answer["status"]) == (NOT_FOUND, "NOT_FOUND")


def test_a_range_is_one_row_a_line_in_order(command: Command) -> None:
    command.write("events.csv", CSV)
    code, rows = command("range", command.table, "c1", "--strong")
    assert (code, [row["amount"] for row in rows]) == (DONE, ["12.50", "1.00"])
    code, rows = command(
        "range", command.table, "c1", "--strong", "--descending", "--limit", "1", "--columns", "amount"
    )
    assert (code, rows) == (DONE, [{"amount": "1.00"}])
    code, rows = command("range", command.table, "c1", "--strong", "--from", "2026-01-31T12:00:01Z")
    assert (code, len(rows)) == (DONE, 1)
    code, rows = command("range", command.table, "c1", "--strong", "--to", "2026-01-31T12:00:01Z")
    assert (code, rows) == (DONE, [FIRST])
    assert command("range", command.table, "c9") == (NOT_FOUND, [])
    assert "there are no such rows" in command.error


@pytest.mark.parametrize("format", ["parquet", "arrow"])
def test_parquet_and_arrow_are_written_too(command: Command, format: str) -> None:
    pa = pytest.importorskip("pyarrow")
    parquet, feather = pytest.importorskip("pyarrow.parquet"), pytest.importorskip("pyarrow.feather")
    rows = pa.table(
        {"card": ["p"] * 500, "at": [datetime.fromtimestamp(at, timezone.utc) for at in range(500)], "f": [0.5] * 500}
    )
    path = str(command.folder / f"events.{format}")
    if format == "parquet":
        parquet.write_table(rows, path)
    else:
        feather.write_feather(rows, path, compression="lz4")
    code, [totals] = command("write", path, "--table", command.table)
    assert (code, totals["acked"]) == (DONE, 500)
    assert len(command("range", command.table, "p", "--strong")[1]) == 500


def test_rejected_rows_are_exit_code_1_and_kept_with_their_numbers(command: Command) -> None:
    rejects = command.folder / "rejects.ndjson"
    # Row 2 is found here, row 4 by the gateway; the others are written.
    time = "2026-01-01T00:00:00Z"
    text = f"card,at,amount\na,{time},1\nb,soon,1\nc,{time},2\nd,{time},99999999999\n"
    code, totals = command.write("events.csv", text, "--rejects", str(rejects))
    assert code == REJECTED
    assert (totals["rows"], totals["acked"], totals["rejected"]) == (4, 2, 2)
    assert totals["rejected_by_reason"] == {"OUT_OF_RANGE": 1, "TYPE_MISMATCH": 1}
    lines = [json.loads(line) for line in rejects.read_text().splitlines()]
    assert sorted((line["row"], line["status"], line["reason"], line["field"]) for line in lines) == [
        (2, "REJECTED", "TYPE_MISMATCH", "at"),
        (4, "REJECTED", "OUT_OF_RANGE", "amount"),
    ]
    assert "99999999999" not in rejects.read_text() and "soon" not in rejects.read_text()
    assert command("get", command.table, "c", "2026-01-01T00:00:00Z", "--strong")[0] == DONE


def test_modes_and_the_op_column_do_what_they_say(command: Command) -> None:
    command.write("events.csv", CSV)
    key = "card,at{}\nc1,2026-01-31T12:00:00Z{}\n"
    assert command.write("merge.csv", key.format(",f", ",2.5"), "--mode", "merge")[0] == DONE
    row = command("get", command.table, "c1", "2026-01-31T12:00:00Z", "--strong")[1][0]["row"]
    assert row == {**FIRST, "f": 2.5}
    code, totals = command.write("insert.csv", key.format(",f", ",1"), "--mode", "insert")
    assert (code, totals["rejected_by_reason"]) == (REJECTED, {"ALREADY_EXISTS": 1})
    assert (
        command.write("feed.ndjson", '{"card":"c1","at":"2026-01-31T12:00:00Z","op":"delete"}\n', "--op-column", "op")[
            0
        ]
        == DONE
    )
    assert command("get", command.table, "c1", "2026-01-31T12:00:00Z", "--strong")[0] == NOT_FOUND
    assert command.write("feed.csv", key.format(",op", ",put"), "--op-column", "op", "--mode", "put")[0] == USAGE


def test_tables_and_health_are_json(command: Command) -> None:
    code, [answer] = command("tables")
    assert code == DONE
    [table] = [table for table in answer["tables"] if table["name"] == command.table]
    assert table == {
        "name": command.table,
        "schema_version": 1,
        "columns": 5,
        "key": {"partition": ["card"], "sort": ["at"]},
        "dynamodb_table": command.table,
        "ownership": "created",
    }
    assert command("health") == (DONE, [{"endpoint": command.endpoint, "service": "", "status": "SERVING"}])
    assert command("health", "--service", "forebay.v1.IngestService")[0] == DONE
    assert command("health", "--service", "nobody.Knows")[0] == NOT_FOUND


@pytest.mark.parametrize(
    "arguments, code, complaint",
    [
        (("get", "{table}", "c1"), USAGE, "2 columns (card STRING, at TIMESTAMP); 1 given"),
        (("get", "{table}", "c1", "soon"), USAGE, "key column at"),
        (("get", "nowhere", "c1"), NOT_FOUND, "nowhere"),
        (("get", "{table}", "c1", "2026-01-31T12:00:00Z", "--columns", "nothing"), USAGE, "nothing"),
        (("tables", "--endpoint", NOBODY), GATEWAY, "cannot be reached"),
        (("health", "--endpoint", NOBODY), GATEWAY, "cannot be reached"),
        (("health", "--endpoint", "gateway:50051"), USAGE, "endpoint"),
        (("tables", "--token-file", "/nowhere"), USAGE, "/nowhere"),
        (("write", "/nowhere.csv", "--table", "{table}"), USAGE, "/nowhere.csv: cannot be read"),
        (("write", "-", "--table", "{table}"), USAGE, "expected --format csv"),
        (("write", "x.csv", "--table", "nowhere"), NOT_FOUND, "nowhere"),
    ],
)
def test_what_goes_wrong_is_a_sentence_and_an_exit_code(
    command: Command, arguments: Tuple[str, ...], code: int, complaint: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if NOBODY in arguments:
        arguments += ("--timeout", "1")
    found = command(*(argument.format(table=command.table) for argument in arguments))
    assert found == (code, [])
    assert command.error.startswith("forebay: error: ") and complaint in command.error


def test_a_reader_that_has_enough_ends_the_command_quietly(command: Command) -> None:
    command.write("events.csv", CSV)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    script = f"'{sys.executable}' -m forebay range {command.table} c1 | head -n 1; exit ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", script], env=environment, capture_output=True, text=True)
    assert (done.returncode, done.stderr, len(done.stdout.splitlines())) == (DONE, "", 1)


@pytest.mark.parametrize("arguments", [(), ("--help",), ("write", "--help"), ("dance",), ("get",)])
def test_help_and_wrong_usage_need_no_gateway(arguments: Tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    helped = "--help" in arguments
    assert caught.value.code == (DONE if helped else USAGE)
    printed = capsys.readouterr()
    assert "Exit codes" in printed.out if helped else "usage:" in printed.err


@pytest.mark.parametrize(
    "answer, name",
    [
        (b"", "UNKNOWN"),
        (b"\x08\x01", "SERVING"),
        (b"\x08\x02", "NOT_SERVING"),
        (b"\x08\x09", "UNKNOWN"),
        (b"\x12\x01a", "UNKNOWN"),
    ],
)
def test_only_what_says_that_it_serves_serves(answer: bytes, name: str) -> None:
    assert _status_name(answer) == name
