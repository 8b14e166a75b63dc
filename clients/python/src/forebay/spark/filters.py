"""What a query's filters say about keys: which rows to read by key, which ranges, or that it is neither.

Pure: no I/O, and no Spark either, whose filters are known by the names of their classes (Spark has them since 4.1).
Filters only choose what is read. Spark looks at every row again with every filter, so what is chosen here may be too
much, but never too little; and a filter that is not understood is no filter here.

The caller is `reader`.
"""

from __future__ import annotations

import datetime
from dataclasses import dataclass
from itertools import product
from typing import Any, Dict, Iterable, List, Optional, Sequence, Tuple

MAX_KEYS = 1_000_000
"""The most keys, and the most ranges, that one query may name: they are all in the plan of the query."""

Key = Tuple[Any, ...]


@dataclass(frozen=True)
class KeyColumns:
    """The names of a table's key columns, in order."""

    partition: Tuple[str, ...]
    sort: Tuple[str, ...] = ()

    @property
    def all(self) -> Tuple[str, ...]:
        """Partition columns, and then sort columns."""
        return self.partition + self.sort


@dataclass(frozen=True)
class Range:
    """The rows under one partition key, or some of them. A bound has values of all sort columns; None is no bound."""

    partition: Key
    sort_from: Optional[Key] = None
    """Included."""
    sort_to: Optional[Key] = None
    """Excluded."""

    def __repr__(self) -> str:
        return "Range(...)"


@dataclass(frozen=True)
class Chosen:
    """What to read: keys, or ranges. Both are empty where the filters contradict each other."""

    keys: Tuple[Key, ...] = ()
    ranges: Tuple[Range, ...] = ()

    def __repr__(self) -> str:
        return f"Chosen({len(self.keys)} keys, {len(self.ranges)} ranges)"


class FullScan(ValueError):
    """Nothing says which keys to read."""

    def __init__(self, table: str, key: KeyColumns, *, filters_arrive: bool = True) -> None:
        """`filters_arrive`: whether this Spark passes filters to data sources at all."""
        partition = " and ".join(f"`{column}` = ..." for column in key.partition)
        whole = (
            f" (and {', '.join(f'`{column}`' for column in key.sort)} for single rows or a range)" if key.sort else ""
        )
        by_filter = (
            f"Filter by {partition} or IN (...){whole}, give the option `keys`"
            if filters_arrive
            else "This Spark passes no filters to data sources (4.1 and later do): give the option `keys`"
        )
        super().__init__(
            f"this would be a full scan of the table `{table}`, which is refused: it is read by its key. {by_filter}, "
            "or use forebay.spark.lookup(keys_df, ...) for a DataFrame of keys"
        )


def choose(filters: Iterable[Any], key: KeyColumns, table: str) -> Chosen:
    """What to read for filters that all have to hold.

    Raises `FullScan` where a partition column has no equality or IN, and `ValueError` for more than `MAX_KEYS` keys.
    """
    filters = list(filters)
    sets = _value_sets(filters, set(key.all))
    if any(column not in sets for column in key.partition):
        raise FullScan(table, key)
    named = [column for column in key.all if column in sets]
    count = 1
    for column in named:
        count *= len(sets[column])
    if count > MAX_KEYS:
        raise ValueError(
            f"the filters name {count:,} keys of the table `{table}`; at most {MAX_KEYS:,} can be. "
            "Use forebay.spark.lookup with a DataFrame of keys"
        )
    partitions = list(product(*(sets[column] for column in key.partition)))
    if all(column in sets for column in key.sort):
        sorts = list(product(*(sets[column] for column in key.sort)))
        return Chosen(keys=tuple(partition + sort for partition in partitions for sort in sorts))
    bounds = _bounds(filters, key.sort, sets)
    return Chosen(ranges=tuple(Range(partition, *bound) for partition in partitions for bound in bounds))


def _value_sets(filters: Sequence[Any], columns: Iterable[str]) -> Dict[str, List[Any]]:
    """For each column that is tied to values, those values; what two filters have in common, where there are two."""
    sets: Dict[str, List[Any]] = {}
    for one in filters:
        name, column = type(one).__name__, _column(one)
        if column is None or column not in columns:
            continue
        if name in ("EqualTo", "EqualNullSafe"):
            values = [one.value]
        elif name == "In":
            values = list(one.value)
        else:
            continue
        # A key is never null and never empty: no row can have such a one.
        values = [value for value in values if value is not None and value != "" and value != b""]
        values = list(dict.fromkeys(values))
        before = sets.get(column)
        sets[column] = values if before is None else [value for value in before if value in values]
    return sets


Bound = Tuple[Optional[Key], Optional[Key]]


def _bounds(filters: Sequence[Any], sort: Tuple[str, ...], sets: Dict[str, List[Any]]) -> List[Bound]:
    """The bounds of the ranges: those of the last sort column, for each of the values of the ones before it."""
    before, last = sort[:-1], sort[-1]
    if any(column not in sets for column in before):
        return [(None, None)]
    low: Any = None
    high: Any = None
    for one in filters:
        if _column(one) != last:
            continue
        name = type(one).__name__
        if name in ("GreaterThan", "GreaterThanOrEqual") and one.value is not None:
            low = one.value if low is None else max(low, one.value)
        elif name in ("LessThan", "LessThanOrEqual") and one.value is not None:
            end = one.value if name == "LessThan" else _next(one.value)
            if end is not None:
                high = end if high is None else min(high, end)
        elif name == "StringStartsWith" and one.value:
            low = one.value if low is None else max(low, one.value)
            end = _after_prefix(one.value)
            if end is not None:
                high = end if high is None else min(high, end)
    # An empty text is no key, and no bound of one.
    low, high = (None if bound in ("", b"") else bound for bound in (low, high))
    return [
        (None if low is None else values + (low,), None if high is None else values + (high,))
        for values in product(*(sets[column] for column in before))
    ]


def _next(value: Any) -> Any:
    """The smallest value after this one; None where there is none, or none that is known."""
    if isinstance(value, bool):
        return None
    if isinstance(value, int):
        # A bound must be of the column's type, which may end here: 127 of a TINYINT has no next.
        return value + 1 if value + 1 not in (1 << 7, 1 << 15, 1 << 31, 1 << 63) else None
    if isinstance(value, str):
        return value + "\0"
    if isinstance(value, (bytes, bytearray)):
        return bytes(value) + b"\0"
    try:
        if isinstance(value, datetime.datetime):
            return value + datetime.timedelta(microseconds=1)
        if isinstance(value, datetime.date):
            return value + datetime.timedelta(days=1)
    except OverflowError:
        return None
    return None


def _after_prefix(prefix: str) -> Optional[str]:
    """The smallest text after all that begin with this; DynamoDB orders text as Python does, by code points."""
    for at in range(len(prefix) - 1, -1, -1):
        point = ord(prefix[at]) + 1
        if point == 0xD800:
            point = 0xE000
        if point <= 0x10FFFF:
            return prefix[:at] + chr(point)
    return None


def _column(one: Any) -> Optional[str]:
    """The column that a filter is about; None for fields within columns, and for negations."""
    attribute = getattr(one, "attribute", None)
    return attribute[0] if isinstance(attribute, tuple) and len(attribute) == 1 else None
