"""The blocking client against a gateway: tables, every type, every status, errors, deadlines."""

from __future__ import annotations

import math
import random
import sys
import threading
import time
from datetime import date, datetime, timedelta, timezone
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any, Dict, Iterator, List, Tuple

import pytest

import forebay
from forebay import ReadStatus
from forebay._schema import ddl
from forebay._types import type_name
from forebay.v1 import types_pb2 as pb

sys.path.insert(0, str(Path(__file__).resolve().parent))
from random_values import primitive, random_type, random_value, same  # noqa: E402

if TYPE_CHECKING:
    from conftest import Gateway

UTC = timezone.utc


@pytest.fixture(scope="module")
def client(shared_gateway: Gateway) -> Iterator[forebay.Client]:
    with forebay.connect(shared_gateway.endpoint) as client:
        yield client


def readings(client: forebay.Client, name: str, rows: int = 0) -> str:
    client.apply_table(name, ddl="id STRING NOT NULL, day DATE NOT NULL, hr INT", key=["id", "day"])
    if rows:
        client.write(name, ({"id": "a", "day": date(2024, 1, 1) + timedelta(at), "hr": at} for at in range(rows)))
    return name


# Types.

MONEY = "DECIMAL(10, 2)"
TYPES: List[Tuple[str, List[Any]]] = [
    ("TINYINT", [-128, 0, 127]),
    ("SMALLINT", [-(2**15), 2**15 - 1]),
    ("INT", [-(2**31), 2**31 - 1]),
    ("BIGINT", [-(2**63), 2**63 - 1]),
    ("FLOAT", [0.5, -(2.0**70), 1.401298464324817e-45, 0.10000000149011612]),
    ("DOUBLE", [0.1, 1 / 3, 2.0**53, 1.7976931348623157e125, -5e-129]),
    (MONEY, [Decimal("12.50"), Decimal("-0.01"), Decimal("99999999.99"), Decimal("0.00")]),
    ("DECIMAL(38, 0)", [Decimal(10**38 - 1), Decimal(-1)]),
    ("DECIMAL(38, 38)", [Decimal((0, (1,), -38)), Decimal((1, (9,) * 38, -38))]),
    ("STRING", ["", "text", "äß€漢😀\u0000\n", "x" * 10_000]),
    ("CHAR(3)", ["abc"]),
    ("VARCHAR(5)", ["", "abcde"]),
    ("BOOLEAN", [True, False]),
    ("BINARY", [b"", b"\x00\xff"]),
    ("DATE", [date(1, 1, 1), date(1969, 12, 31), date(2024, 2, 29), date(9999, 12, 31)]),
    ("TIMESTAMP", [datetime(1, 1, 1, tzinfo=UTC), datetime(1969, 12, 31, 23, 59, 59, 999999, UTC), datetime(9999, 12, 31, 23, 59, 59, 999999, UTC)]),
    ("TIMESTAMP_NTZ", [datetime(1, 1, 1), datetime(1969, 12, 31, 23, 59, 59, 999999), datetime(9999, 12, 31, 23, 59, 59, 999999)]),
    ("INTERVAL DAY TO SECOND", [timedelta(0), timedelta(-1, 5, 7), timedelta(microseconds=2**63 - 1)]),
    ("INTERVAL YEAR TO MONTH", [-14, 0, 2**31 - 1]),
    ("ARRAY<INT>", [[], [1, None, 3]]),
    ("ARRAY<ARRAY<STRING>>", [[[], ["a", None], None]]),
    ("MAP<STRING, DOUBLE>", [{}, {"a": 0.5, "b": None}]),
    ("MAP<BIGINT, STRING>", [{-5: "x", 7: "y"}]),
    ("MAP<DATE, INT>", [{date(1969, 1, 1): 1}]),
    (f"MAP<{MONEY}, INT>", [{Decimal("1.50"): 1}]),
    ("MAP<BOOLEAN, INT>", [{False: 2, True: 1}]),
    (f"STRUCT<a: INT, b: STRUCT<c: {MONEY}, d: TIMESTAMP>>", [{"a": None, "b": {"c": Decimal("1.50"), "d": datetime(2024, 1, 1, tzinfo=UTC)}}, {"a": 1, "b": None}]),
    ("ARRAY<STRUCT<at: TIMESTAMP_NTZ, tags: MAP<STRING, ARRAY<FLOAT>>>>", [[{"at": datetime(2024, 1, 1), "tags": {"x": [0.5]}}, None]]),
    ("VARIANT", [1, 2**62, -0.5, "text", True, b"x", [1, "a", None, {"k": [True]}], {"a": 1, "b": {"c": None}}]),
]


@pytest.mark.parametrize("index", range(len(TYPES)), ids=[kind for kind, _ in TYPES])
def test_every_type_reads_back_as_the_value_and_the_type_that_was_written(client: forebay.Client, index: int) -> None:
    kind, values = TYPES[index]
    table = f"types-{index}"
    client.apply_table(table, ddl=f"id INT NOT NULL, x {kind}", key="id")
    rows = [{"id": at, "x": value} for at, value in enumerate([*values, None])]
    client.write(table, rows)
    assert client.get_table(table).columns[1].type == kind
    for row in rows:
        found = client.get(table, row["id"]).value()
        assert found is not None and same(found["x"], row["x"]), row
    several = client.get_many(table, [row["id"] for row in rows])
    assert [result["x"] for result in several] == [row["x"] for row in rows]


def test_random_rows_of_random_types_read_back_equal(client: forebay.Client) -> None:
    chance = random.Random(7)
    for table_number in range(6):
        table = f"random-{table_number}"
        fields = [pb.Field(name="id", type=primitive(pb.PRIMITIVE_TYPE_INTEGER))]
        fields += [pb.Field(name=f"c{at}", type=random_type(chance), nullable=True) for at in range(8)]
        client.apply_table(table, schema=pb.Schema(fields=fields), key="id")
        rows: List[Dict[str, Any]] = []
        for at in range(40):
            row: Dict[str, Any] = {"id": at}
            row.update((field.name, random_value(chance, field.type)) for field in fields[1:])
            rows.append(row)
        client.write(table, rows)
        for row, found in zip(rows, client.get_many(table, range(40))):
            for field in fields:
                assert _equal(found[field.name], row[field.name]), f"{type_name(field.type)}: {row[field.name]!r}"


def _equal(found: Any, written: Any) -> bool:
    """`same`, but for the order of a map's entries, which a table does not keep."""
    if isinstance(written, dict) and isinstance(found, dict):
        if set(found) != set(written):
            return False
        return all(_equal(found[name], written[name]) for name in written)
    if isinstance(written, list) and isinstance(found, list):
        return len(found) == len(written) and all(map(_equal, found, written))
    return same(found, written)


def test_sets_come_back_as_lists_without_order(client: forebay.Client) -> None:
    columns = "id INT NOT NULL, s ARRAY<STRING> OPTIONS (as_set = true), n ARRAY<BIGINT> OPTIONS (as_set = true)"
    client.apply_table("sets", ddl=columns, key="id")
    client.write("sets", [{"id": 1, "s": {"b", "a"}, "n": [3, 1, 3]}, {"id": 2, "s": set(), "n": None}])
    assert sorted(client.get("sets", 1)["s"]) == ["a", "b"]
    assert sorted(client.get("sets", 1)["n"]) == [1, 3]
    assert client.get("sets", 2)["s"] is None, "an empty set is absent"


def test_nan_is_what_the_columns_option_says(client: forebay.Client) -> None:
    columns = "id INT NOT NULL, r DOUBLE, s DOUBLE OPTIONS (non_finite = 'string')"
    client.apply_table("nan", ddl=columns, key="id")
    client.write("nan", {"id": 1, "r": None, "s": math.nan})
    assert math.isnan(client.get("nan", 1)["s"])
    with pytest.raises(forebay.RowsRejected) as caught:
        client.write("nan", {"id": 1, "r": math.inf})
    assert caught.value.outcomes[0].reason == "NON_FINITE"


def test_variants_keep_big_numbers_exactly(client: forebay.Client) -> None:
    client.apply_table("variants", ddl="id INT NOT NULL, x VARIANT", key="id")
    client.write("variants", {"id": 1, "x": {"big": 2**70, "d": Decimal("1.5"), "at": datetime(2024, 1, 1, tzinfo=UTC)}})
    assert client.get("variants", 1)["x"] == {"big": Decimal(2**70), "d": 1.5, "at": 1704067200000000}


# Reads.


def test_a_key_that_is_not_there_is_no_error(client: forebay.Client) -> None:
    table = readings(client, "not-found", rows=1)
    missing = client.get(table, ("a", date(1999, 1, 1)))
    assert not missing and missing.status is ReadStatus.NOT_FOUND and missing.value() is None
    with pytest.raises(KeyError, match="hr: there is no row"):
        missing["hr"]
    assert client.get(table, ("a", date(2024, 1, 1)), consistent=True)["hr"] == 0


def test_an_expired_row_is_told_from_one_that_never_was(client: forebay.Client) -> None:
    client.apply_table("expired", ddl="id INT NOT NULL, until TIMESTAMP", key="id", ttl_column="until")
    client.write("expired", [{"id": 1, "until": datetime(2020, 1, 1, tzinfo=UTC)}, {"id": 2, "until": datetime(2120, 1, 1, tzinfo=UTC)}])
    assert [result.status for result in client.get_many("expired", [1, 2, 3])] == [
        ReadStatus.EXPIRED,
        ReadStatus.FOUND,
        ReadStatus.NOT_FOUND,
    ]


def test_a_key_has_three_forms(client: forebay.Client) -> None:
    table = readings(client, "forms", rows=2)
    day = date(2024, 1, 2)
    for key in (("a", day), ["a", day], {"day": day, "id": "a"}):
        assert client.get(table, key)["hr"] == 1
    assert [result["hr"] for result in client.get_many(table, [("a", day), {"id": "a", "day": date(2024, 1, 1)}])] == [1, 0]


def test_only_the_columns_that_are_asked_for_come(client: forebay.Client) -> None:
    table = readings(client, "some-columns", rows=1)
    key = ("a", date(2024, 1, 1))
    assert client.get(table, key, columns=["hr", "id"]).value() == {"hr": 0, "id": "a"}
    assert client.get_many(table, [key], columns=["hr"])[0].value() == {"hr": 0}
    with pytest.raises(forebay.InvalidRequest, match="no column `zz`") as caught:
        client.get(table, key, columns=["zz"])
    assert caught.value.field_path == "columns"
    with pytest.raises(TypeError, match="columns: expected a list of names"):
        client.get(table, key, columns="hr")


def test_any_number_of_keys_comes_back_in_their_order(client: forebay.Client) -> None:
    table = readings(client, "many", rows=1500)
    order = list(range(5500))
    random.Random(1).shuffle(order)
    order += order[:500]
    results = client.get_many(table, [("a", date(2024, 1, 1) + timedelta(at)) for at in order])
    assert [result["hr"] if result else None for result in results] == [at if at < 1500 else None for at in order]
    assert client.get_many(table, []) == []


def test_several_tables_are_one_call_and_a_foreign_one_spoils_nothing(client: forebay.Client) -> None:
    one, other = readings(client, "batch-one", rows=2), readings(client, "batch-other", rows=1)
    first = ("a", date(2024, 1, 1))
    found = client.get_batch([(one, [first], ["hr"]), ("no-such-table", [1, 2], None), (other, [first, ("b", first[1])], None)])
    assert found[0][0].value() == {"hr": 0}
    assert [result.status for result in found[1]] == [ReadStatus.DENIED] * 2
    with pytest.raises(forebay.RowUnavailable, match="no table `no-such-table`"):
        found[1][0].value()
    assert [bool(result) for result in found[2]] == [True, False]


def test_large_rows_take_as_many_answers_as_they_need(client: forebay.Client) -> None:
    client.apply_table("large", ddl="id INT NOT NULL, x BINARY", key="id")
    client.write("large", ({"id": at, "x": bytes(300_000)} for at in range(120)))
    results = client.get_many("large", range(120))
    assert [len(result["x"]) for result in results] == [300_000] * 120


def test_a_range_comes_in_order_between_its_bounds(client: forebay.Client) -> None:
    table = readings(client, "range", rows=3000)
    start = date(2024, 1, 1)

    def numbers(**options: Any) -> List[int]:
        return [row["hr"] for row in client.get_range(table, "a", **options)]

    assert numbers() == list(range(3000))
    bounds = {"sort_from": start + timedelta(10), "sort_to": start + timedelta(15)}
    assert numbers(**bounds) == [10, 11, 12, 13, 14]
    assert numbers(**bounds, descending=True, limit=2) == [14, 13]
    assert numbers(descending=True, limit=1) == [2999]
    assert list(client.get_range(table, "a", columns=["hr"], limit=1)) == [{"hr": 0}]
    assert list(client.get_range(table, {"id": "b"})) == []
    for wrong in (0, -1, True, 1.5):
        with pytest.raises(ValueError, match="^limit: expected"):
            client.get_range(table, "a", limit=wrong)  # type: ignore[arg-type]


def test_a_range_that_nobody_reads_to_its_end_leaves_the_client_usable(client: forebay.Client) -> None:
    table = readings(client, "range-left", rows=1500)
    for _ in range(5):
        rows = client.get_range(table, "a")
        assert next(rows)["hr"] == 0
        rows.close()  # type: ignore[attr-defined]
    assert client.get(table, ("a", date(2024, 1, 1)))["hr"] == 0


# Errors.


def test_errors_carry_reason_and_field_path(client: forebay.Client) -> None:
    with pytest.raises(forebay.NotFound, match="there is no table `nope`") as missing:
        client.get("nope", 1)
    assert (missing.value.code, missing.value.reason) == ("NOT_FOUND", "TABLE_NOT_FOUND")
    with pytest.raises(forebay.InvalidRequest, match="expected a type") as wrong:
        client.apply_table("wrong", ddl="id STRING NOT NULL, x FOO", key="id")
    assert wrong.value.field_path == "table.ddl"
    table = readings(client, "refusals")
    with pytest.raises(forebay.InvalidRequest) as forced:
        client.drop_table(table)
    assert forced.value.reason == "FORCE_NEEDED"


def test_a_wrong_python_type_is_named_before_anything_is_sent(client: forebay.Client) -> None:
    table = readings(client, "wrong-types", rows=1)
    with pytest.raises(TypeError, match=r"^key.day: expected a date without time for DATE; found str"):
        client.get(table, ("a", "2024-01-01"))
    with pytest.raises(TypeError, match=r"^keys\[1\].id: expected a str for STRING; found int"):
        client.get_many(table, [("a", date(2024, 1, 1)), (5, date(2024, 1, 1))])
    with pytest.raises(TypeError, match=r"hr: expected an int for INT; found str"):
        client.write(table, [{"id": "b", "day": date(2024, 1, 1), "hr": 1}, {"id": "c", "day": date(2024, 1, 1), "hr": "x"}])
    assert not client.get(table, ("b", date(2024, 1, 1))), "nothing was sent"
    with pytest.raises(ValueError, match="zz"):
        client.write(table, {"id": "b", "day": date(2024, 1, 1), "zz": 1})


@pytest.mark.parametrize("timeout", [0, -1, float("nan"), True, "5"])
def test_a_timeout_is_seconds_above_0(client: forebay.Client, timeout: Any) -> None:
    with pytest.raises(ValueError, match="^timeout: expected a number of seconds above 0"):
        client.list_tables(timeout=timeout)


def test_a_table_that_was_made_anew_with_another_key_is_learned(client: forebay.Client) -> None:
    client.apply_table("anew", ddl="id STRING NOT NULL, x INT", key="id")
    client.write("anew", {"id": "a", "x": 1})
    assert client.get("anew", "a")["x"] == 1
    with forebay.connect(client.options.endpoint) as other:
        other.drop_table("anew", force=True)
        other.apply_table("anew", ddl="n BIGINT NOT NULL, x INT", key="n")
        other.write("anew", {"n": 5, "x": 2})
    with pytest.raises(forebay.InvalidRequest):
        client.get("anew", "a")
    assert client.get("anew", 5)["x"] == 2


# Writes.


def test_rejected_rows_are_an_error_or_a_result(client: forebay.Client) -> None:
    table = readings(client, "rejects")
    rows = [{"id": "a", "day": date(2024, 1, 1), "hr": hr} for hr in (1, 2**40, 3)]
    with pytest.raises(forebay.RowsRejected) as caught:
        client.write(table, rows)
    outcome = caught.value.outcomes[0]
    assert (outcome.batch, outcome.row, outcome.reason, outcome.field_path) == (1, 1, "OUT_OF_RANGE", "hr")
    assert caught.value.receipt.rejected_rows == 1 and str(caught.value).startswith("1 of 3 rows were not written")
    written = client.write(table, rows, rejects="return")
    assert written.receipt.rows == 3 and [found.row for found in written.outcomes] == [1]
    assert client.get(table, ("a", date(2024, 1, 1)))["hr"] == 3, "its neighbours are written"
    with pytest.raises(ValueError, match="^rejects: expected one of raise, return"):
        client.write(table, rows, rejects="ignore")


def test_modes_do_what_they_say(client: forebay.Client) -> None:
    client.apply_table("modes", ddl="id INT NOT NULL, a INT, b INT", key="id")
    client.write("modes", {"id": 1, "a": 1, "b": 1})
    client.write("modes", {"id": 1, "b": 2}, mode="merge")
    assert client.get("modes", 1).value() == {"id": 1, "a": 1, "b": 2}
    with pytest.raises(forebay.RowsRejected, match="ALREADY_EXISTS"):
        client.write("modes", {"id": 1, "a": 9}, mode="insert")
    client.write("modes", {"id": 1, "a": 5})
    assert client.get("modes", 1).value() == {"id": 1, "a": 5, "b": None}
    client.write("modes", [{"id": 1}], mode="delete")
    assert not client.get("modes", 1)
    client.write("modes", [{"op": "put", "id": 2, "a": 1}, {"op": "delete", "id": 2, "a": None}], op_column="op")
    assert not client.get("modes", 2)
    with pytest.raises(ValueError, match="^b: missing|b: missing"):
        client.write("modes", [{"id": 1, "b": 1}, {"id": 2}], mode="merge")


def test_an_atomic_write_is_all_or_nothing(client: forebay.Client) -> None:
    client.apply_table("atomic", ddl="id INT NOT NULL, a TINYINT", key="id")
    with pytest.raises(forebay.RowsRejected) as caught:
        client.write("atomic", [{"id": 1, "a": 1}, {"id": 2, "a": 1000}], atomic=True)
    assert {outcome.reason for outcome in caught.value.outcomes} == {"OUT_OF_RANGE", "ATOMIC_PEER"}
    assert not client.get("atomic", 1)
    client.write("atomic", [{"id": at, "a": 1} for at in range(100)], atomic=True)
    assert all(client.get_many("atomic", range(100)))


def test_what_writes_nothing_makes_no_call(client: forebay.Client) -> None:
    assert client.write("no-such-table", []).receipt.rows == 0


def test_a_new_column_is_written_as_soon_as_the_table_has_it(client: forebay.Client) -> None:
    client.apply_table("grown", ddl="id INT NOT NULL, a INT", key="id")
    client.write("grown", {"id": 1, "a": 1})
    with forebay.connect(client.options.endpoint) as other:
        other.apply_table("grown", ddl="id INT NOT NULL, a INT, b STRING", key="id")
    client.write("grown", {"id": 1, "b": "x"})
    assert client.get("grown", 1)["b"] == "x"


def test_a_table_that_coerces_takes_text_for_numbers(client: forebay.Client) -> None:
    client.apply_table("legacy", ddl="id INT NOT NULL, a INT, s STRING", key="id", store_assignment="legacy")
    client.write("legacy", {"id": 1, "a": "12", "s": 5})
    assert client.get("legacy", 1).value() == {"id": 1, "a": 12, "s": "5"}


@pytest.mark.parametrize("rows", [3, 1200])
def test_frames_and_arrow_tables_are_written(client: forebay.Client, rows: int) -> None:
    pa = pytest.importorskip("pyarrow")
    pd = pytest.importorskip("pandas")
    table = f"arrow-{rows}"
    client.apply_table(table, ddl="id BIGINT NOT NULL, x DOUBLE, at TIMESTAMP", key="id")
    at = pd.Timestamp("2024-01-01", tz="UTC").as_unit("us")
    frame = pd.DataFrame({"id": range(rows), "x": 0.0, "at": [at] * rows})

    def arrow(x: float) -> Any:
        return pa.Table.from_pandas(frame.assign(x=x), preserve_index=False)

    forms = [frame.assign(x=1.0), arrow(2.0), arrow(3.0).to_batches()[0], arrow(4.0).to_reader()]
    for x, data in enumerate(forms, start=1):
        receipt = client.write(table, data).receipt
        assert receipt.committed_rows == receipt.rows == rows
        assert client.get(table, rows - 1).value() == {"id": rows - 1, "x": float(x), "at": datetime(2024, 1, 1, tzinfo=UTC)}


# Tables.


def test_applying_twice_changes_nothing_and_a_dry_run_never(client: forebay.Client) -> None:
    definition = {"ddl": "id STRING NOT NULL, x INT", "key": "id", "sequence_by": "x"}
    definition["ddl"] = "id STRING NOT NULL, x INT NOT NULL"
    assert client.apply_table("applied", dry_run=True, **definition).result == "CREATED"
    with pytest.raises(forebay.NotFound):
        client.get_table("applied")
    assert client.apply_table("applied", **definition).result == "CREATED"
    assert client.apply_table({"name": "applied", **definition}).result == "UNCHANGED"
    evolved = client.apply_table("applied", **{**definition, "ddl": "id STRING NOT NULL, x INT NOT NULL, y DATE"})
    assert (evolved.result, evolved.table.schema_version, len(evolved.changes)) == ("EVOLVED", 2, 1)
    table = client.get_table("applied")
    assert (table.ddl, table.partition, table.sort) == ("id STRING NOT NULL, x INT NOT NULL, y DATE", ("id",), ())
    assert (table.sequence_by, table.ownership, table.store_assignment) == ("x", "CREATED", "STRICT")
    assert table.applied_at is not None and abs(datetime.now(UTC) - table.applied_at) < timedelta(minutes=1)
    assert len(client.get_table("applied", schema_version=1).columns) == 2
    assert client.apply_table(table.message).result == "UNCHANGED", "what is got can be applied"


def test_tables_are_listed_by_name_and_dropped(client: forebay.Client) -> None:
    for at in range(3):
        readings(client, f"listed-{at}")
    listed = [table for table in client.list_tables() if table.name.startswith("listed-")]
    assert [(table.name, table.partition, table.sort, table.column_count) for table in listed] == [
        (f"listed-{at}", ("id",), ("day",), 3) for at in range(3)
    ]
    assert client.drop_table("listed-1", force=True) is True
    assert "listed-1" not in [table.name for table in client.list_tables()]


def test_every_key_of_a_definition_arrives(client: forebay.Client) -> None:
    applied = client.apply_table(
        {
            "name": "whole",
            "ddl": "a STRING NOT NULL, b STRING NOT NULL, c BIGINT NOT NULL, until TIMESTAMP, seq BIGINT NOT NULL",
            "key": {"partition": ["a", "b"], "sort": ["c"], "partition_attribute": "pk", "sort_attribute": ""},
            "ttl_column": "until",
            "sequence_by": "seq",
            "tombstone_retention": "14d",
            "unknown_fields": "drop",
            "store_assignment": "ansi",
            "coalesce": "off",
            "max_write_units": 500,
            "show_values_in_outcomes": True,
            "comment": "for tests",
            "dynamodb": {"billing_mode": "on_demand", "tags": {"team": "x"}},
        }
    )
    message = applied.table.message
    assert (list(message.key.partition), message.key.partition_attribute) == (["a", "b"], "pk")
    assert message.tombstone_retention.seconds == 14 * 86400
    assert (message.max_write_units, message.show_values_in_outcomes, message.comment) == (500, True, "for tests")
    assert applied.table.store_assignment == "ANSI" and dict(message.dynamodb.tags) == {"team": "x"}


def test_schemas_come_from_arrow_and_go_back(client: forebay.Client) -> None:
    pa = pytest.importorskip("pyarrow")
    schema = pa.schema(
        [
            pa.field("id", pa.string(), nullable=False),
            pa.field("n", pa.int64()),
            pa.field("f", pa.float32()),
            pa.field("d", pa.decimal128(10, 2)),
            pa.field("at", pa.timestamp("us", "UTC")),
            pa.field("tags", pa.list_(pa.string())),
            pa.field("m", pa.map_(pa.string(), pa.int32())),
            pa.field("s", pa.struct([pa.field("x", pa.date32()), pa.field("y", pa.binary())])),
            pa.field("i", pa.duration("us")),
        ]
    )
    applied = client.apply_table("from-arrow", schema=schema, key="id", columns={"tags": {"as_set": True, "comment": "words"}})
    assert applied.table.arrow_schema() == schema
    assert applied.table.message.schema.fields[5].options.as_set
    assert applied.table.columns[5].comment == "words"
    with pytest.raises(TypeError, match="^u: the Arrow type"):
        client.apply_table("wrong", schema=pa.schema([pa.field("u", pa.time64("us"))]), key="u")


def test_sparks_json_is_a_schema(client: forebay.Client) -> None:
    spark = {
        "type": "struct",
        "fields": [
            {"name": "id", "type": "string", "nullable": False, "metadata": {}},
            {"name": "tags", "type": {"type": "array", "elementType": "string", "containsNull": False}, "nullable": True, "metadata": {}},
        ],
    }
    applied = client.apply_table("from-spark", schema=spark, key="id", columns={"tags": {"as_set": True}})
    assert ddl(applied.table.message.schema) == "id STRING NOT NULL, tags ARRAY<STRING NOT NULL>"
    assert applied.table.message.schema.fields[1].options.as_set
    assert spark["fields"][1]["metadata"] == {}, "the caller's own is not changed"  # type: ignore[index]


@pytest.mark.parametrize(
    "definition, message",
    [
        ({"key": "id"}, "ddl: expected exactly one of ddl and schema"),
        ({"ddl": "id INT", "schema": {}, "key": "id"}, "ddl: expected exactly one of ddl and schema"),
        ({"ddl": "id INT"}, "key: missing; expected a column"),
        ({"ddl": "id INT", "key": 5}, "key: expected a column or a list of columns"),
        ({"ddl": "id INT", "key": {"partitions": "id"}}, "key.partitions: no such key; expected one of partition, sort"),
        ({"ddl": "id INT", "key": "id", "foo": 1}, "foo: no key of a table; expected one of name, ddl"),
        ({"ddl": "id INT", "key": "id", "coalesce": "maybe"}, "coalesce: expected one of on, off"),
        ({"ddl": "id INT", "key": "id", "append_only": 1}, "append_only: expected True or False; found int"),
        ({"ddl": "id INT", "key": "id", "write_shards": "8"}, "write_shards: expected a number"),
        ({"ddl": "id INT", "key": "id", "tombstone_retention": "soon"}, "tombstone_retention: expected something like 14d"),
        ({"ddl": "id INT", "key": "id", "dynamodb": {"foo": 1}}, "dynamodb.foo: no such key"),
        ({"ddl": "id INT", "key": "id", "dynamodb": {"billing_mode": "free"}}, "dynamodb.billing_mode: expected one of"),
        ({"ddl": "id INT", "key": "id", "columns": {"x": {}}}, "columns: expected in the ddl itself"),
        ({"schema": "no json", "key": "id"}, "schema: no JSON"),
        ({"schema": 5, "key": "id"}, "schema: expected a pyarrow schema"),
    ],
)
def test_a_wrong_definition_names_its_key(client: forebay.Client, definition: Dict[str, Any], message: str) -> None:
    with pytest.raises((TypeError, ValueError)) as caught:
        client.apply_table("wrong-definition", **definition)
    assert str(caught.value).startswith(message)


# One client, many threads.


def test_a_client_is_shared_between_threads(client: forebay.Client) -> None:
    table = readings(client, "threads", rows=200)
    wrong: List[Any] = []

    def read() -> None:
        for at in range(200):
            if client.get(table, ("a", date(2024, 1, 1) + timedelta(at)))["hr"] != at:
                wrong.append(at)

    threads = [threading.Thread(target=read) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_closing_ends_what_is_under_way(shared_gateway: Gateway) -> None:
    client = forebay.connect(shared_gateway.endpoint)
    client.list_tables()
    client.close()
    started = time.monotonic()
    with pytest.raises((forebay.ForebayError, ValueError)):
        client.list_tables()
    assert time.monotonic() - started < 5
