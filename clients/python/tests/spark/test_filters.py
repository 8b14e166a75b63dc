"""What a query's filters choose: the keys and ranges that they name, never less, and never a scan."""

from __future__ import annotations

import datetime
from dataclasses import dataclass
from typing import Any, Tuple

import pytest

from forebay.spark.filters import Chosen, FullScan, KeyColumns, Range, choose

ID = KeyColumns(("id",))
EVENTS = KeyColumns(("id",), ("at",))
JOINED = KeyColumns(("market", "sku"), ("day", "seq"))


@dataclass(frozen=True)
class Filter:
    attribute: Tuple[str, ...]
    value: Any = None


class EqualTo(Filter): ...


class EqualNullSafe(Filter): ...


class In(Filter): ...


class IsNotNull(Filter): ...


class GreaterThan(Filter): ...


class GreaterThanOrEqual(Filter): ...


class LessThan(Filter): ...


class LessThanOrEqual(Filter): ...


class StringStartsWith(Filter): ...


@dataclass(frozen=True)
class Not:
    child: Filter


def chosen(key: KeyColumns, *filters: Any) -> Chosen:
    return choose(filters, key, "t")


def test_equality_and_in_name_keys() -> None:
    assert chosen(ID, EqualTo(("id",), "a"), IsNotNull(("id",))).keys == (("a",),)
    assert chosen(ID, In(("id",), ("a", "b", "a"))).keys == (("a",), ("b",))
    assert chosen(ID, EqualNullSafe(("id",), "a")).keys == (("a",),)


def test_filters_that_contradict_each_other_choose_nothing_and_are_no_scan() -> None:
    assert chosen(ID, EqualTo(("id",), "a"), EqualTo(("id",), "b")) == Chosen()
    assert chosen(ID, In(("id",), ("a", "b")), In(("id",), ("b", "c"))).keys == (("b",),)


def test_nulls_and_empty_values_are_never_keys() -> None:
    assert chosen(ID, In(("id",), ("", None, "a"))).keys == (("a",),)
    assert chosen(ID, EqualTo(("id",), None)) == Chosen()


@pytest.mark.parametrize(
    "filters",
    [
        [],
        [IsNotNull(("id",))],
        [GreaterThan(("id",), "a")],
        [EqualTo(("other",), "a")],
        [Not(EqualTo(("id",), "a"))],
        [EqualTo(("id", "nested"), "a")],
    ],
    ids=str,
)
def test_a_query_that_names_no_key_is_refused_with_what_to_do(filters: Any) -> None:
    with pytest.raises(
        FullScan, match=r"full scan of the table `t`, which is refused.*Filter by `id` = .* or IN.*lookup"
    ):
        choose(filters, ID, "t")


def test_a_spark_that_passes_no_filters_is_not_told_to_filter() -> None:
    message = str(FullScan("t", ID, filters_arrive=False))
    assert "Filter by" not in message
    assert "This Spark passes no filters to data sources (4.1 and later do): give the option `keys`, or use" in message


def test_all_key_columns_together_name_single_rows() -> None:
    found = chosen(EVENTS, In(("id",), ("a", "b")), In(("at",), (1, 2)))
    assert found == Chosen(keys=(("a", 1), ("a", 2), ("b", 1), ("b", 2)))


def test_a_partition_key_alone_names_a_range() -> None:
    assert chosen(EVENTS, EqualTo(("id",), "a")) == Chosen(ranges=(Range(("a",)),))
    assert chosen(EVENTS, In(("id",), ("a", "b"))).ranges == (Range(("a",)), Range(("b",)))


@pytest.mark.parametrize(
    "filters, low, high",
    [
        ([GreaterThanOrEqual(("at",), 5)], 5, None),
        # Too much by one row, which Spark takes away.
        ([GreaterThan(("at",), 5)], 5, None),
        ([LessThan(("at",), 5)], None, 5),
        ([LessThanOrEqual(("at",), 5)], None, 6),
        ([GreaterThan(("at",), 5), GreaterThan(("at",), 7), LessThan(("at",), 9), LessThan(("at",), 8)], 7, 8),
        # The greatest of its type has no next one that the gateway would take.
        ([LessThanOrEqual(("at",), 2**63 - 1)], None, None),
        ([LessThanOrEqual(("at",), "b")], None, "b\0"),
        ([LessThanOrEqual(("at",), b"b")], None, b"b\0"),
        ([LessThanOrEqual(("at",), datetime.date(2024, 2, 28))], None, datetime.date(2024, 2, 29)),
        ([LessThanOrEqual(("at",), datetime.date.max)], None, None),
        (
            [LessThanOrEqual(("at",), datetime.datetime(2024, 1, 1))],
            None,
            datetime.datetime(2024, 1, 1, 0, 0, 0, 1),
        ),
        # Not known what comes next: no bound, and Spark filters.
        ([LessThanOrEqual(("at",), 1.5)], None, None),
        ([StringStartsWith(("at",), "2024-")], "2024-", "2024."),
        ([StringStartsWith(("at",), "a\U0010ffff")], "a\U0010ffff", "b"),
        ([StringStartsWith(("at",), "\ud7ff")], "\ud7ff", "\ue000"),
        ([GreaterThanOrEqual(("at",), "")], None, None),
    ],
    ids=str,
)
def test_bounds_of_the_sort_key_narrow_the_range_and_never_too_far(filters: Any, low: Any, high: Any) -> None:
    (found,) = chosen(EVENTS, EqualTo(("id",), "a"), *filters).ranges
    assert (found.sort_from, found.sort_to) == (None if low is None else (low,), None if high is None else (high,))


def test_the_last_of_several_sort_columns_has_bounds_when_the_others_are_known() -> None:
    partition = [EqualTo(("market",), "m"), EqualTo(("sku",), 7)]
    known = chosen(JOINED, *partition, In(("day",), (1, 2)), GreaterThanOrEqual(("seq",), 5), LessThan(("seq",), 9))
    assert known.ranges == (Range(("m", 7), (1, 5), (1, 9)), Range(("m", 7), (2, 5), (2, 9)))
    unknown = chosen(JOINED, *partition, GreaterThanOrEqual(("seq",), 5))
    assert unknown.ranges == (Range(("m", 7)),)
    with pytest.raises(FullScan, match="`market` = ... and `sku` = ..."):
        chosen(JOINED, EqualTo(("market",), "m"))


def test_too_many_keys_are_refused_before_they_are_made() -> None:
    thousand = tuple(range(1, 2001))
    with pytest.raises(ValueError, match="4,000,000 keys.*at most 1,000,000.*lookup"):
        chosen(EVENTS, In(("id",), thousand), In(("at",), thousand))


def test_keys_are_in_no_repr() -> None:
    assert "secret" not in repr(chosen(ID, EqualTo(("id",), "secret")))
    assert "secret" not in repr(chosen(EVENTS, EqualTo(("id",), "secret")).ranges)
