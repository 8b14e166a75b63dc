"""Reads as state machines: what is asked for next, and what answers mean. Without a gateway."""

from __future__ import annotations

from typing import Any, List, Optional, Sequence

import pytest

from forebay import CallError, ReadStatus
from forebay._reading import MAX_CALLS, MAX_KEYS, Decoders, ManyRead, RangeRead
from forebay._schema import MAX_KNOWN_TABLES, TABLE_GOOD_FOR_SECONDS, KeyEncoder, KnownTables
from forebay.v1 import read_pb2, table_pb2
from forebay.v1 import types_pb2 as pb

LONG = pb.DataType(primitive=pb.PRIMITIVE_TYPE_LONG)
SCHEMA = pb.Schema(fields=[pb.Field(name="id", type=LONG), pb.Field(name="at", type=LONG), pb.Field(name="x", type=LONG)])
ENCODER = KeyEncoder(table_pb2.Table(name="t", schema=SCHEMA, key=table_pb2.Key(partition=["id"], sort=["at"])))
FOUND, MISSING, LATE = read_pb2.READ_STATUS_FOUND, read_pb2.READ_STATUS_NOT_FOUND, read_pb2.READ_STATUS_UNAVAILABLE


def row(*values: Optional[int]) -> pb.Row:
    return pb.Row(values=[pb.Value() if value is None else pb.Value(int_value=value) for value in values])


def many(keys: Sequence[Any], **denied: str) -> ManyRead:
    read = ManyRead([("t", keys, None)], consistent=False, decoders=Decoders())
    read.encode({} if denied else {"t": ENCODER}, denied)
    return read


def answer(request: read_pb2.BatchGetRowsRequest, statuses: Sequence[int]) -> read_pb2.BatchGetRowsResponse:
    message = read_pb2.BatchGetRowsResponse()
    left = iter(statuses)
    for asked in request.requests:
        rows = message.results.add(table=asked.table, columns=SCHEMA)
        for key in asked.keys:
            status = next(left)
            number = key.values[1].int_value
            found = row(1, number, number * 10) if status == FOUND else None
            rows.rows.add(status=status, row=found, message="" if found else "why")  # type: ignore[arg-type]
    return message


def test_keys_go_a_thousand_in_a_call_and_results_keep_their_order() -> None:
    count = MAX_KEYS * MAX_CALLS + 5
    read = many([(1, at) for at in range(count)])
    sizes: List[int] = []
    while True:
        chunks = read.next_chunks()
        if not chunks:
            break
        sizes.append(len(chunks))
        # Answers may come in any order.
        for chunk in reversed(chunks):
            request = read.request(chunk)
            read.take(chunk, answer(request, [FOUND] * len(chunk)))
    assert sizes == [MAX_CALLS, 1]
    assert [result["x"] for result in read.results()[0]] == [at * 10 for at in range(count)]


def test_keys_that_did_not_fit_into_an_answer_are_asked_for_again_while_that_helps() -> None:
    read = many([(1, at) for at in range(4)])
    (chunk,) = read.next_chunks()
    read.take(chunk, answer(read.request(chunk), [FOUND, LATE, MISSING, LATE]))
    (chunk,) = read.next_chunks()
    assert [key.values[1].int_value for key in read.request(chunk).requests[0].keys] == [1, 3]
    read.take(chunk, answer(read.request(chunk), [LATE, LATE]))
    assert read.next_chunks() == [], "nothing came of it"
    statuses = [result.status for result in read.results()[0]]
    assert statuses == [ReadStatus.FOUND, ReadStatus.UNAVAILABLE, ReadStatus.NOT_FOUND, ReadStatus.UNAVAILABLE]


def test_giving_up_makes_unanswered_keys_unavailable_and_never_missing() -> None:
    read = many([(1, at) for at in range(3)])
    (chunk,) = read.next_chunks()
    read.take(chunk[:1], answer(read.request(chunk[:1]), [FOUND]))
    read.give_up("the time is over")
    results = read.results()[0]
    assert [result.status for result in results] == [ReadStatus.FOUND, ReadStatus.UNAVAILABLE, ReadStatus.UNAVAILABLE]
    assert results[1].message == "the time is over" and read.next_chunks() == []


def test_a_denied_table_is_not_asked_for() -> None:
    read = many([1, 2], t="no table `t`")
    assert read.next_chunks() == []
    assert [(result.status, result.message) for result in read.results()[0]] == [(ReadStatus.DENIED, "no table `t`")] * 2


def test_an_answer_that_does_not_fit_is_an_error_and_no_row() -> None:
    read = many([(1, 1), (1, 2)])
    (chunk,) = read.next_chunks()
    short = answer(read.request(chunk[:1]), [FOUND])
    with pytest.raises(CallError, match="not one row for each key"):
        read.take(chunk, short)
    unset = answer(read.request(chunk), [0, 0])
    with pytest.raises(CallError, match="without a status"):
        read.take(chunk, unset)
    wide = answer(read.request(chunk), [FOUND, FOUND])
    wide.results[0].rows[0].row.values.add()
    with pytest.raises(CallError, match="more values than columns"):
        read.take(chunk, wide)


def test_a_row_that_python_cannot_have_is_undecodable_and_spoils_no_other() -> None:
    schema = pb.Schema(fields=[*SCHEMA.fields, pb.Field(name="day", type=pb.DataType(primitive=pb.PRIMITIVE_TYPE_DATE))])
    read = many([(1, 1), (1, 2)])
    (chunk,) = read.next_chunks()
    message = read_pb2.BatchGetRowsResponse()
    rows = message.results.add(table="t", columns=schema)
    for days in (10**7, 1):
        values = [*row(1, 1, 1).values, pb.Value(date_days=days)]
        rows.rows.add(status=FOUND, row=pb.Row(values=values))
    read.take(chunk, message)
    first, second = read.results()[0]
    assert first.status is ReadStatus.UNDECODABLE and first.message.startswith("day: the date is outside")
    assert second.status is ReadStatus.FOUND


# Ranges.


def range_read(**options: Any) -> RangeRead:
    chosen: Any = {"sort_from": None, "sort_to": None, "limit": None, "descending": False, "columns": None, **options}
    return RangeRead(ENCODER, 1, consistent=False, decoders=Decoders(), **chosen)


def page(*numbers: int, columns: bool = True) -> read_pb2.ReadRangeResponse:
    message = read_pb2.ReadRangeResponse(rows=[row(1, at, at * 10) for at in numbers])
    if columns:
        message.columns.CopyFrom(SCHEMA)
    return message


def test_a_broken_range_goes_on_from_its_last_row_once() -> None:
    read = range_read(sort_from=0, sort_to=9)
    assert read.request().sort_from.values[0].int_value == 0
    assert [found["at"] for found in read.take(page(1, 2))] == [1, 2]
    assert [found["at"] for found in read.take(page(3, columns=False))] == [3]
    rest = read.request()
    assert (rest.sort_from.values[0].int_value, rest.sort_to.values[0].int_value) == (3, 9)
    # The last row comes again, because the bound is included.
    assert [found["at"] for found in read.take(page(3, 4))] == [4]


def test_a_range_whose_last_row_was_deleted_meanwhile_leaves_out_nothing() -> None:
    read = range_read()
    read.request()
    read.take(page(1, 2))
    read.request()
    assert [found["at"] for found in read.take(page(3, 4))] == [3, 4]


def test_a_descending_range_goes_on_below_its_last_row() -> None:
    read = range_read(descending=True, sort_to=9)
    read.request()
    read.take(page(8, 7))
    rest = read.request()
    assert rest.sort_to.values[0].int_value == 7 and not rest.HasField("sort_from")
    assert [found["at"] for found in read.take(page(6))] == [6]


@pytest.mark.parametrize("descending", [False, True])
def test_a_limit_holds_over_all_calls(descending: bool) -> None:
    read = range_read(limit=3, descending=descending)
    assert read.request().limit == 3
    read.take(page(1, 2))
    assert not read.done
    assert read.request().limit == (1 if descending else 2)
    assert [found["at"] for found in read.take(page(3, 4))] == [3]
    assert read.done


def test_the_sort_key_is_asked_for_and_left_out_again() -> None:
    read = range_read(columns=["x"])
    assert list(read.request().columns) == ["x", "at"]
    message = read_pb2.ReadRangeResponse(rows=[row(50, 5)])
    message.columns.CopyFrom(pb.Schema(fields=[SCHEMA.fields[2], SCHEMA.fields[1]]))
    assert read.take(message) == [{"x": 50}]
    assert read.request().sort_from.values[0].int_value == 5


def test_a_range_that_begins_without_columns_is_an_error() -> None:
    read = range_read()
    read.request()
    with pytest.raises(CallError, match="without its columns"):
        read.take(page(1, columns=False))


# What a client knows of tables.


def test_a_definition_is_good_for_a_while_and_keys_until_a_call_is_refused() -> None:
    known = KnownTables()
    table = table_pb2.Table(name="t", schema=SCHEMA, key=table_pb2.Key(partition=["id"]))
    assert known.table("t", 0.0) is None and known.keys("t") is None
    known.learn(table, 0.0)
    assert known.table("t", TABLE_GOOD_FOR_SECONDS - 1) is table
    assert known.table("t", TABLE_GOOD_FOR_SECONDS) is None
    assert known.keys("t") is not None
    known.forget()
    assert known.keys("t") is None


def test_a_client_of_very_many_tables_does_not_grow_without_end() -> None:
    known = KnownTables()
    for at in range(MAX_KNOWN_TABLES + 10):
        known.learn(table_pb2.Table(name=f"t{at}", schema=SCHEMA, key=table_pb2.Key(partition=["id"])), 0.0)
    assert known.keys("t0") is None and known.keys(f"t{MAX_KNOWN_TABLES + 9}") is not None
