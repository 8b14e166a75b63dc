"""What can be said about a DataFrame's schema before a task starts. Callers: `source`, `helpers`."""

from __future__ import annotations

import difflib
from typing import Any, List

from .options import WriteOptions
from .storable import check_types

# `simpleString` of the types whose equality is plain. No floats: NaN equals nothing. Decimals, chars and varchars
# have arguments.
_GROUPABLE = (
    "string",
    "binary",
    "boolean",
    "tinyint",
    "smallint",
    "int",
    "bigint",
    "date",
    "timestamp",
    "timestamp_ntz",
)
_GROUPABLE_PREFIXES = ("decimal(", "char(", "varchar(", "string collate")


def check_schema(schema: Any, options: WriteOptions) -> None:
    """Raises `ValueError` for a DataFrame that cannot be written with these options."""
    names: List[str] = list(schema.names)
    if not names:
        raise ValueError("the DataFrame has no columns; expected at least those of the table's key")
    twice = [name for index, name in enumerate(names) if name in names[:index]]
    if twice:
        raise ValueError(
            f"the DataFrame has two columns named `{twice[0]}`; expected each name once: rename or drop one"
        )
    check_types(schema)
    if options.op_column is not None:
        kind = _type_of(schema, "opColumn", options.op_column)
        if not _is_text(kind):
            raise ValueError(
                f"opColumn: `{options.op_column}` is {kind}; expected a string column with put, merge, insert or delete"
            )
        if options.op_column in (options.atomic_by,):
            raise ValueError("atomicBy: is opColumn, too; expected another column")
    if options.atomic_by is not None:
        kind = _type_of(schema, "atomicBy", options.atomic_by)
        if kind not in _GROUPABLE and not kind.startswith(_GROUPABLE_PREFIXES):
            raise ValueError(
                f"atomicBy: `{options.atomic_by}` is {kind}; expected a column of text, bytes, whole numbers, decimals,"
                " booleans, dates or timestamps"
            )


def _type_of(schema: Any, option: str, column: str) -> str:
    if column not in schema.names:
        near = difflib.get_close_matches(column, schema.names, n=1, cutoff=0.6)
        expected = f"did you mean `{near[0]}`?" if near else f"expected one of {', '.join(schema.names)}"
        raise ValueError(f"{option}: the DataFrame has no column `{column}`; {expected}")
    return str(schema[column].dataType.simpleString())


def _is_text(kind: str) -> bool:
    return kind == "string" or kind.startswith(("char(", "varchar(", "string collate"))
