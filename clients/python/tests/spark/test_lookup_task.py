"""What a task of `forebay.spark.lookup` does with its batches of keys, against a gateway in memory."""

from __future__ import annotations

import datetime
import decimal
import pickle
import threading
from typing import Any, Dict, Iterator, List, Optional

import pytest

pa = pytest.importorskip("pyarrow")

from forebay.errors import RowUnavailable  # noqa: E402
from forebay.spark.lookup_task import KeyNotFound, Lookup  # noqa: E402
from forebay.spark.row_keys import row_keys  # noqa: E402
from forebay.v1 import read_pb2  # noqa: E402
from forebay.v1 import types_pb2 as pb

COLUMNS = pb.Schema(fields=[pb.Field(name="n", type=pb.DataType(primitive=pb.PRIMITIVE_TYPE_LONG), nullable=True)])


class Gateway:
    """Has rows for even numbers; other statuses by key."""

    def __init__(self, statuses: Optional[Dict[int, int]] = None) -> None:
        self.statuses = statuses or {}
        self.requests: List[read_pb2.BatchGetRowsRequest] = []
        self.columns = COLUMNS
        self.lock = threading.Lock()

    def batch_get_rows(self, request: read_pb2.BatchGetRowsRequest) -> read_pb2.BatchGetRowsResponse:
        with self.lock:
            self.requests.append(request)
        results = []
        for key in request.requests[0].keys:
            number = key.values[0].int_value
            missing = read_pb2.ReadStatus.READ_STATUS_NOT_FOUND
            status = self.statuses.get(number, read_pb2.ReadStatus.READ_STATUS_FOUND if number % 2 == 0 else missing)
            row = pb.Row(values=[pb.Value(int_value=number * 10)]) if status == 1 else None
            results.append(read_pb2.RowResult(status=status, row=row, message="why"))
        return read_pb2.BatchGetRowsResponse(results=[read_pb2.TableRows(columns=self.columns, rows=results)])

    def read_range(self, request: read_pb2.ReadRangeRequest) -> Iterator[read_pb2.ReadRangeResponse]:
        raise NotImplementedError


def lookup(**changes: Any) -> Lookup:
    options: Dict[str, Any] = {
        "table": "t",
        "key": ("id",),
        "declared": COLUMNS.SerializeToString(),
        "asked": ("n",),
        "status_column": None,
        "missing": "null",
        "consistent": False,
        "calls_in_flight": 3,
        "retry_for": 0.2,
    }
    return Lookup(**{**options, **changes})


def batch(ids: List[Optional[int]]) -> Any:
    extra = [f"x{one}" for one in ids]
    return pa.RecordBatch.from_pydict({"extra": extra, "id": pa.array(ids, pa.int64())})


def run(task: Lookup, gateway: Gateway, *batches: Any) -> List[Dict[str, Any]]:
    return [row for found in task.batches(gateway, iter(batches)) for row in found.to_pylist()]


def test_features_come_beside_the_keys_in_their_order_with_all_other_columns() -> None:
    ids: List[Optional[int]] = [4, 1, 2, 4]
    found = run(lookup(), Gateway(), batch(ids))
    assert found == [
        {"extra": f"x{one}", "id": one, "n": None if one == 1 else one * 10} for one in ids if one is not None
    ]


def test_any_number_of_keys_is_asked_in_calls_of_at_most_a_thousand() -> None:
    gateway = Gateway()
    found = run(lookup(), gateway, batch(list(range(2500))), batch([]), batch(list(range(700))))
    assert [row["id"] for row in found] == [*range(2500), *range(700)]
    assert [row["n"] for row in found] == [one * 10 if one % 2 == 0 else None for one in [*range(2500), *range(700)]]
    assert sorted(len(request.requests[0].keys) for request in gateway.requests) == [500, 700, 1000, 1000]


def test_a_null_key_is_missing_and_nobody_is_asked() -> None:
    gateway = Gateway()
    found = run(lookup(status_column="status"), gateway, batch([None, 2]))
    assert [(row["n"], row["status"]) for row in found] == [(None, "NOT_FOUND"), (20, "FOUND")]
    assert len(gateway.requests[0].requests[0].keys) == 1
    assert run(lookup(), Gateway(), batch([None])) == [{"extra": "xNone", "id": None, "n": None}]


def test_missing_drop_leaves_out_what_is_surely_not_there() -> None:
    gateway = Gateway({6: read_pb2.ReadStatus.READ_STATUS_EXPIRED})
    assert [row["id"] for row in run(lookup(missing="drop"), gateway, batch([1, 2, 6, None, 4]))] == [2, 4]
    assert run(lookup(missing="drop"), gateway, batch([1, 3])) == []


def test_missing_fail_fails_and_says_how_not_to() -> None:
    with pytest.raises(KeyNotFound, match=r"table `t` \(NOT_FOUND\).*'null' keeps.*'drop'"):
        run(lookup(missing="fail"), Gateway(), batch([2, 1]))


@pytest.mark.parametrize("missing", ["null", "drop", "fail"])
@pytest.mark.parametrize("status", ["UNAVAILABLE", "DENIED", "UNDECODABLE"])
def test_a_key_of_which_nothing_is_known_fails_the_task_and_never_looks_missing(missing: str, status: str) -> None:
    gateway = Gateway({2: read_pb2.ReadStatus.Value(f"READ_STATUS_{status}")})
    with pytest.raises(RowUnavailable, match=f"{status}"):
        run(lookup(missing=missing), gateway, batch([4, 2]))


def test_with_a_status_column_such_a_key_is_marked_and_kept_even_where_missing_ones_are_dropped() -> None:
    gateway = Gateway({2: read_pb2.ReadStatus.READ_STATUS_UNAVAILABLE})
    found = run(lookup(missing="drop", status_column="status"), gateway, batch([4, 2, 1]))
    assert [(row["id"], row["n"], row["status"]) for row in found] == [(4, 40, "FOUND"), (2, None, "UNAVAILABLE")]


def test_no_columns_give_the_status_alone() -> None:
    gateway = Gateway()
    task = lookup(declared=b"", asked=("id",), status_column="status")
    assert run(task, gateway, batch([2]))[0] == {"extra": "x2", "id": 2, "status": "FOUND"}
    assert list(gateway.requests[0].requests[0].columns) == ["id"]


def test_consistent_reads_are_asked_for() -> None:
    gateway = Gateway()
    run(lookup(consistent=True), gateway, batch([2]))
    assert gateway.requests[0].consistency == read_pb2.Consistency.CONSISTENCY_STRONG


def test_a_column_whose_type_changed_since_the_query_was_made_is_an_error() -> None:
    gateway = Gateway()
    gateway.columns = pb.Schema(fields=[pb.Field(name="n", type=pb.DataType(primitive=pb.PRIMITIVE_TYPE_DOUBLE))])
    with pytest.raises(
        ValueError, match="type of the column `n` of the table `t` has changed.*make the DataFrame again"
    ):
        run(lookup(), gateway, batch([2]))


def test_few_calls_are_under_way_however_many_keys_come() -> None:
    """Batches are taken as answers are handed on: a task's memory does not grow with its keys."""
    taken = 0

    def batches() -> Iterator[Any]:
        nonlocal taken
        for _ in range(100):
            taken += 1
            yield batch([2] * 1000)

    found = lookup(calls_in_flight=3).batches(Gateway(), batches())
    next(found)
    assert taken == 4
    found.close()  # type: ignore[attr-defined]


def test_the_task_travels_to_executors() -> None:
    assert pickle.loads(pickle.dumps(lookup())) == lookup()


def test_keys_of_every_type_go_as_what_they_are() -> None:
    when = datetime.datetime(2024, 1, 2, 3, 4, 5, 6)
    zone = pa.timestamp("us", tz="America/New_York")
    columns = [
        pa.array([1], pa.int8()),
        pa.array(["a"]),
        pa.array([b"a"]),
        pa.array([True]),
        pa.array([datetime.date(1969, 12, 31)]),
        pa.array([when], pa.timestamp("us")),
        pa.array([when.replace(tzinfo=datetime.timezone.utc)], zone),
        pa.array([decimal.Decimal("1.50")]),
        pa.array([1.5], pa.float64()),
        pa.array([1.5], pa.float32()),
    ]
    (key,) = row_keys(columns, [f"c{at}" for at in range(len(columns))])
    assert key is not None
    micros = (when - datetime.datetime(1970, 1, 1)) // datetime.timedelta(microseconds=1)
    assert [(value.WhichOneof("kind"), getattr(value, value.WhichOneof("kind"))) for value in key.values] == [
        ("int_value", 1),
        ("string_value", "a"),
        ("bytes_value", b"a"),
        ("bool_value", True),
        ("date_days", -1),
        ("timestamp_ntz_micros", micros),
        ("timestamp_micros", micros),
        ("decimal_value", "1.50"),
        ("double_value", 1.5),
        ("float_value", 1.5),
    ]


def test_a_type_that_is_none_of_a_key_is_refused_by_name() -> None:
    with pytest.raises(ValueError, match="column `id` cannot be a key: its type is list"):
        row_keys([pa.array([[1]])], ["id"])


def test_empty_texts_are_keys_that_no_row_has() -> None:
    assert row_keys([pa.array(["", "a"]), pa.array([1, None])], ["a", "b"]) == [None, None]
