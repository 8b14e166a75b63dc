"""`python -m forebay`: reads rows, writes files, lists tables, asks for a gateway's health. Results are JSON on
standard output.

The same options, variables and exit codes as the command `forebay` has, which does more: it makes tables, checks
files, serves.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from typing import Any, Callable, Dict, List, Optional, Sequence, Tuple

from . import Client, ConnectOptions, ReadStatus, __version__
from ._files import FORMATS
from ._health import check_health
from ._literals import NotALiteral, from_text, row_to_json
from ._load import load
from ._types import type_name
from .errors import ForebayError, InvalidRequest, NotFound
from .tables import Table
from .v1 import types_pb2 as pb

DONE, REJECTED, USAGE, NOT_FOUND, GATEWAY = range(5)
EXIT_CODES = (
    "Exit codes: 0 done; 1 done, but some rows were rejected; 2 wrong usage, configuration or input; 3 not found;"
    " 4 the gateway cannot be reached or refused. FOREBAY_TOKEN may hold a token."
)
MODES = ("put", "merge", "insert", "delete")


def main(arguments: Optional[Sequence[str]] = None) -> int:
    """Runs the command line. Returns the exit code."""
    args = parser().parse_args(arguments)
    run: Callable[[argparse.Namespace], int] = args.run
    try:
        code = run(args)
        sys.stdout.flush()
        return code
    except BrokenPipeError:
        # Whoever reads the rows has enough: `| head`. Python would complain once more when it ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return DONE
    except (ValueError, TypeError, InvalidRequest) as error:
        return fail(USAGE, error)
    except NotFound as error:
        return fail(NOT_FOUND, error)
    except ForebayError as error:
        return fail(GATEWAY, error)
    except KeyboardInterrupt:
        return 130


def fail(code: int, error: object) -> int:
    print(f"forebay: error: {error}", file=sys.stderr)
    return code


def parser() -> argparse.ArgumentParser:
    """The command line."""
    connection = argparse.ArgumentParser(add_help=False)
    group = connection.add_argument_group("connection (each may be a variable: FOREBAY_ENDPOINT, ...)")
    group.add_argument(
        "--endpoint", metavar="URL", help="the gateway, or several with commas; default http://127.0.0.1:50051"
    )
    group.add_argument("--token-file", metavar="FILE", help="a file with an API key or a token")
    group.add_argument("--ca", metavar="FILE", help="the authorities whose gateways are trusted (PEM)")
    group.add_argument("--client-cert", metavar="FILE", help="this client's certificate and its chain (PEM)")
    group.add_argument("--client-key", metavar="FILE", help="the certificate's private key (PEM)")
    group.add_argument("--server-name", metavar="NAME", help="the name that the gateway's certificate must have")
    group.add_argument(
        "--allow-plaintext-token",
        action="store_true",
        default=None,
        help="send the token without TLS, to other hosts, too",
    )
    group.add_argument("--timeout", metavar="SECONDS", type=float, help="the time that a call may take; default 30")

    top = argparse.ArgumentParser(
        prog="python -m forebay", description="Reads and writes tables through a Forebay gateway.", epilog=EXIT_CODES
    )
    top.add_argument("--version", action="version", version=f"forebay {__version__}")
    commands = top.add_subparsers(title="commands", metavar="COMMAND", required=True)

    def command(name: str, run: Callable[[argparse.Namespace], int], about: str) -> argparse.ArgumentParser:
        added = commands.add_parser(name, parents=[connection], help=about, description=about, epilog=EXIT_CODES)
        added.set_defaults(run=run)
        return added

    def reading(added: argparse.ArgumentParser) -> None:
        added.add_argument("table", metavar="TABLE")
        added.add_argument(
            "key",
            metavar="KEY",
            nargs="+",
            help="one value for each column of the key, or of its partition part for `range`",
        )
        added.add_argument("--columns", metavar="COLUMN,...", type=_listed, help="only these columns, in this order")
        added.add_argument("--strong", action="store_true", help="see every confirmed write, at twice the price")

    reading(command("get", get, "Reads one row by its key. Prints {table, status, row}."))

    ranged = command(
        "range", get_range, "Reads the rows under a partition key in the order of their sort key. Prints one a line."
    )
    reading(ranged)
    ranged.add_argument(
        "--from",
        dest="sort_from",
        metavar="VALUE",
        action="append",
        help="only rows from this sort key on; once for each sort column",
    )
    ranged.add_argument(
        "--to",
        dest="sort_to",
        metavar="VALUE",
        action="append",
        help="only rows before this sort key; once for each sort column",
    )
    ranged.add_argument("--descending", action="store_true", help="the greatest sort key first")
    ranged.add_argument("--limit", metavar="ROWS", type=int, help="at most so many rows")

    writing = command("write", write, "Writes a file's rows into a table. Prints the totals.")
    writing.add_argument(
        "file",
        metavar="FILE",
        help="CSV with a header, NDJSON, Parquet or Arrow IPC; `-` for standard input (CSV, NDJSON)",
    )
    writing.add_argument("--table", required=True)
    writing.add_argument("--format", choices=FORMATS, help="by default told from the file's name or its first bytes")
    writing.add_argument("--mode", choices=MODES, help="what rows do; default put")
    writing.add_argument(
        "--op-column", metavar="COLUMN", help="the column that says what each row does: put, merge, insert or delete"
    )
    writing.add_argument(
        "--priority", choices=("interactive", "bulk"), default="bulk", help="whether rows yield to others; default bulk"
    )
    writing.add_argument(
        "--rejects",
        metavar="FILE",
        help="write the rows that were not accepted, with their reasons, to this NDJSON file",
    )

    command("tables", tables, "Lists the tables.")
    health = command("health", show_health, "Asks whether the gateway serves.")
    health.add_argument(
        "--service", default="", help="one of its services, by full name (forebay.v1.IngestService); default: all"
    )
    return top


def _listed(text: str) -> List[str]:
    return [part.strip() for part in text.split(",")]


def options(args: argparse.Namespace) -> ConnectOptions:
    """The connection's options, from arguments and variables."""
    names = (
        "endpoint",
        "token_file",
        "ca",
        "client_cert",
        "client_key",
        "server_name",
        "allow_plaintext_token",
        "timeout",
    )
    return ConnectOptions.from_env(**{name: getattr(args, name) for name in names})


def print_json(value: Any) -> None:
    print(json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":")))


# Reading.


def key_values(part: str, table: Table, columns: Sequence[str], texts: Sequence[str]) -> Tuple[Any, ...]:
    """The values of a key, or of a part of it, as the declared types of its columns."""
    types = column_types(table)
    if len(columns) != len(texts):
        named = ", ".join(f"{column} {type_name(types[column])}" for column in columns)
        raise ValueError(f"the {part} of {table.name} has {len(columns)} columns ({named}); {len(texts)} given")
    values = []
    for column, text in zip(columns, texts):
        try:
            values.append(from_text(text, types[column]))
        except NotALiteral as error:
            raise ValueError(f"key column {column}: `{text}`: {error}") from None
    return tuple(values)


def sort_key(table: Table, texts: Optional[Sequence[str]]) -> Optional[Tuple[Any, ...]]:
    """A bound of a range; None where there is none."""
    return None if texts is None else key_values("sort key", table, table.sort, texts)


def column_types(table: Table) -> Dict[str, pb.DataType]:
    return {field.name: field.type for field in table.message.schema.fields}


def get(args: argparse.Namespace) -> int:
    """`get TABLE KEY...`"""
    with Client(options(args)) as client:
        table = client.get_table(args.table)
        key = key_values("key", table, table.partition + table.sort, args.key)
        read = client.get(args.table, key, columns=args.columns, consistent=args.strong)
    answer: Dict[str, Any] = {"table": args.table, "status": read.status.value}
    if read.status is ReadStatus.FOUND:
        print_json({**answer, "row": row_to_json(read.row or {}, table.message.schema.fields)})
        return DONE
    print_json({**answer, "message": read.message} if read.message else answer)
    return NOT_FOUND if read.status in (ReadStatus.NOT_FOUND, ReadStatus.EXPIRED) else GATEWAY


def get_range(args: argparse.Namespace) -> int:
    """`range TABLE KEY...`"""
    rows = 0
    with Client(options(args)) as client:
        table = client.get_table(args.table)
        partition = key_values("partition key", table, table.partition, args.key)
        found = client.get_range(
            args.table,
            partition,
            sort_from=sort_key(table, args.sort_from),
            sort_to=sort_key(table, args.sort_to),
            limit=args.limit,
            descending=args.descending,
            columns=args.columns,
            consistent=args.strong,
        )
        for row in found:
            print_json(row_to_json(row, table.message.schema.fields))
            rows += 1
    if rows == 0:
        return fail(NOT_FOUND, f"{args.table} {' '.join(args.key)}: there are no such rows")
    return DONE


def write(args: argparse.Namespace) -> int:
    """`write FILE --table T`"""
    if args.mode and args.op_column:
        raise ValueError("--mode: --op-column says what each row does; expected one of the two")
    with Client(options(args)) as client:
        totals, whole = load(
            client,
            args.file,
            args.table,
            format=args.format,
            mode=args.mode,
            op_column=args.op_column,
            priority=args.priority,
            rejects=args.rejects,
        )
    print_json(totals)
    return DONE if whole else REJECTED


# The gateway.


def tables(args: argparse.Namespace) -> int:
    """`tables`"""
    with Client(options(args)) as client:
        listed = [
            {
                "name": table.name,
                "schema_version": table.schema_version,
                "columns": table.column_count,
                "key": {"partition": table.partition, "sort": table.sort},
                "dynamodb_table": table.dynamodb_table,
                "ownership": table.ownership.lower(),
            }
            for table in client.list_tables()
        ]
    print_json({"tables": listed})
    return DONE


def show_health(args: argparse.Namespace) -> int:
    """`health`"""
    chosen = options(args)
    status = check_health(chosen, service=args.service)
    print_json({"endpoint": chosen.endpoint, "service": args.service, "status": status})
    return DONE if status == "SERVING" else GATEWAY


if __name__ == "__main__":
    sys.exit(main())
