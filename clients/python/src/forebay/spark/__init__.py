"""Forebay in Spark: the data source `forebay`, and helpers for where there is none.

- `ForebayDataSource`: `format("forebay")`, Spark 4. Installed with this package, it is found without registering.
- `write_dataframe`, `foreach_batch`: the same writes on Spark 3.3 and later, and inside `foreachBatch`.
- `lookup`, `table_schema`: features by a DataFrame of keys.

What needs pyspark or pyarrow is imported when it is used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .by_key import lookup as lookup
    from .by_key import table_schema as table_schema
    from .helpers import foreach_batch as foreach_batch
    from .helpers import write_dataframe as write_dataframe
    from .source import ForebayDataSource as ForebayDataSource

_WHERE = {
    "ForebayDataSource": "source",
    "foreach_batch": "helpers",
    "lookup": "by_key",
    "table_schema": "by_key",
    "write_dataframe": "helpers",
}

__all__ = ["ForebayDataSource", "foreach_batch", "lookup", "table_schema", "write_dataframe"]


def __getattr__(name: str) -> Any:
    module = _WHERE.get(name)
    if module is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f".{module}", __name__), name)
