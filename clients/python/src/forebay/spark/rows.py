"""Arrow batches from whatever a Spark hands to its sinks: batches as they are, rows converted by Spark's own code.

Spark 4.0 has no Arrow writer for streams by name; runtimes that give rows get them converted here. Caller: `sink`.
"""

from __future__ import annotations

from itertools import chain, islice
from typing import TYPE_CHECKING, Any, Iterator

import pyarrow as pa

if TYPE_CHECKING:
    from pyspark.sql.types import StructType

ROWS_PER_BATCH = 10_000


def as_batches(items: Iterator[Any], schema: StructType) -> Iterator[pa.RecordBatch]:
    """The batches of an iterator of RecordBatches, or of Rows of this schema."""
    first = next(items, None)
    if first is None:
        return
    items = chain((first,), items)
    if isinstance(first, pa.RecordBatch):
        yield from items
        return
    convert = _converter()
    while True:
        rows = list(islice(items, ROWS_PER_BATCH))
        if not rows:
            return
        yield from convert(rows, schema, False).to_batches()


def _converter() -> Any:
    try:
        from pyspark.sql.conversion import LocalDataToArrowConversion
    except ImportError:
        # Spark 4.0.
        from pyspark.sql.connect import conversion

        return conversion.LocalDataToArrowConversion.convert  # type: ignore[attr-defined, unused-ignore]
    return LocalDataToArrowConversion.convert
