"""What goes over the wire: the bytes are protobuf's, slices keep their limits, and no row is lost or changed by cutting."""

from __future__ import annotations

from typing import Any, Iterator, List

import pytest

from forebay._opening import Form, Opening
from forebay._payload import ArrowSlicer, RowSlicer, SliceLimits, arrow_batches
from forebay._schema import RowEncoder
from forebay._wire import Payload, finish_request, row_of_batch
from forebay.v1 import ingest_pb2, table_pb2
from forebay.v1 import types_pb2 as pb

pa = pytest.importorskip("pyarrow")

LONG = pb.DataType(primitive=pb.PRIMITIVE_TYPE_LONG)
TEXT = pb.DataType(primitive=pb.PRIMITIVE_TYPE_STRING)
FIELDS = [pb.Field(name="id", type=TEXT), pb.Field(name="n", type=LONG, nullable=True)]
LIMITS = SliceLimits(target_bytes=4096, max_bytes=16 * 1024, max_rows=100)


def batch_of(payload: Payload, seq: int = 1) -> ingest_pb2.Batch:
    return ingest_pb2.WriteRequest.FromString(payload.request(seq)).batch


def read_back(schema_message: bytes, payload: Payload) -> Any:
    """As the gateway reads it: the session's schema message, then the messages of one payload alone."""
    stream = schema_message + batch_of(payload).arrow.ipc_messages
    return pa.ipc.open_stream(stream).read_next_batch()


def sample(rows: int) -> Any:
    return pa.RecordBatch.from_pydict(
        {
            "n": pa.array(range(rows)),
            "t": pa.array([f"row {at}" for at in range(rows)]),
            "d": pa.array([("even", "odd")[at % 2] for at in range(rows)]).dictionary_encode(),
            "l": pa.array([[at] * (at % 3) for at in range(rows)]),
        }
    )


@pytest.mark.parametrize("seq", [1, 127, 128, 2**64 - 1])
@pytest.mark.parametrize("atomic", [False, True])
def test_batches_have_the_bytes_that_protobuf_would_write(seq: int, atomic: bool) -> None:
    rows = [pb.Row(values=[pb.Value(int_value=at - 20)] * 3) for at in range(40)] + [pb.Row()]
    ipc = bytes(300)
    for payload, expected in (
        (Payload.of_rows([row_of_batch(row) for row in rows], atomic=atomic), {"rows": pb.RowBatch(rows=rows)}),
        (Payload.of_arrow([ipc], 7, atomic=atomic), {"arrow": pb.ArrowBatch(ipc_messages=ipc)}),
    ):
        batch = ingest_pb2.Batch(batch_seq=seq, atomic=atomic, **expected)
        assert payload.request(seq) == ingest_pb2.WriteRequest(batch=batch).SerializeToString()
        assert payload.message_bytes(seq) == payload.released().message_bytes(seq) == batch.ByteSize()


def test_some_rows_of_a_payload_are_what_they_would_be_alone() -> None:
    rows = [row_of_batch(pb.Row(values=[pb.Value(int_value=at << at)])) for at in (0, 1, 2, 3, 40)]
    assert Payload.of_rows(rows).select([1, 4]) == Payload.of_rows([rows[1], rows[4]])
    assert Payload.of_rows(rows, atomic=True).select([1]) is None
    assert Payload.of_arrow([b"ipc"], 5).select([1]) is None


def test_finish_says_what_was_sent() -> None:
    assert ingest_pb2.WriteRequest.FromString(finish_request(3, 70)).finish == ingest_pb2.Finish(batches=3, rows=70)


@pytest.mark.parametrize("compression", [None, "lz4", "zstd"])
@pytest.mark.parametrize("columns", [["n", "t", "l"], ["n", "t", "d", "l"]], ids=["plain", "dictionary"])
def test_every_arrow_slice_stands_alone_keeps_the_limits_and_loses_nothing(compression: Any, columns: List[str]) -> None:
    batch = sample(3000).select(columns)
    slicer = ArrowSlicer(batch.schema, compression)
    limits = SliceLimits(8 * 1024, 16 * 1024, 500)
    payloads = list(slicer.slices([batch], limits))
    assert len(payloads) >= 6
    at = 0
    for payload in payloads:
        assert payload.message_bytes(1) <= limits.max_bytes and payload.rows <= limits.max_rows
        found = read_back(slicer.schema_message, payload)
        assert found.to_pylist() == batch.slice(at, payload.rows).to_pylist()
        at += payload.rows
    assert at == batch.num_rows


def test_small_batches_in_a_row_share_a_message() -> None:
    batch = sample(5)
    pieces = [batch.slice(at, 1) for at in range(5)]
    slicer = ArrowSlicer(batch.schema)
    (payload,) = slicer.slices(pieces, SliceLimits(1 << 20, 1 << 24, 100))
    assert read_back(slicer.schema_message, payload).to_pylist() == batch.to_pylist()


def test_dictionaries_that_differ_become_one() -> None:
    first, second = (pa.RecordBatch.from_pydict({"d": pa.array(words).dictionary_encode()}) for words in (["a", "b"], ["c", "a"]))
    slicer = ArrowSlicer(first.schema)
    (payload,) = slicer.slices([first, second], LIMITS)
    assert read_back(slicer.schema_message, payload).column(0).to_pylist() == ["a", "b", "c", "a"]


def test_a_slice_of_few_rows_does_not_carry_the_dictionary_of_many() -> None:
    words = pa.array([f"word {at:0100}" for at in range(2000)])
    column = pa.DictionaryArray.from_arrays(pa.array(range(2000), pa.int16()), words, ordered=True)
    batch = pa.RecordBatch.from_pydict({"d": column})
    slicer = ArrowSlicer(batch.schema)
    payloads = list(slicer.slices([batch], LIMITS))
    assert max(payload.message_bytes(1) for payload in payloads) <= LIMITS.max_bytes
    found = [value for payload in payloads for value in read_back(slicer.schema_message, payload).column(0).to_pylist()]
    assert found == words.to_pylist()


def test_an_arrow_row_that_no_message_carries_is_named_by_its_size() -> None:
    batch = pa.RecordBatch.from_pydict({"t": pa.array(["x", "y" * 20_000])})
    with pytest.raises(ValueError, match="a message has at most 16384"):
        list(ArrowSlicer(batch.schema).slices([batch], LIMITS))


@pytest.mark.parametrize(
    ("other", "message"),
    [
        ({"n": ["1"], "t": ["a"]}, "column n: the batch has string; the session has int64"),
        ({"t": ["a"], "n": [1]}, "the batch has the columns t, n; the session has n, t"),
    ],
)
def test_a_batch_of_another_schema_is_refused_by_name(other: Any, message: str) -> None:
    slicer = ArrowSlicer(pa.schema([("n", pa.int64()), ("t", pa.string())]))
    with pytest.raises(ValueError, match=message):
        list(slicer.slices([pa.RecordBatch.from_pydict(other)], LIMITS))


def rows(count: int) -> Iterator[Any]:
    return ({"id": f"{at:05}", "n": at} for at in range(count))


def test_rows_are_cut_by_bytes_and_number_as_they_come() -> None:
    slicer = RowSlicer(RowEncoder(FIELDS))
    payloads = list(slicer.slices(rows(1000), LIMITS))
    assert all(payload.rows <= 100 and payload.body_bytes <= LIMITS.target_bytes for payload in payloads)
    found = [row.values[1].int_value for payload in payloads for row in batch_of(payload).rows.rows]
    assert found == list(range(1000))
    wide = list(slicer.slices([{"id": "x" * 3000, "n": at} for at in range(3)], LIMITS))
    assert [payload.rows for payload in wide] == [1, 1, 1]


def test_a_row_that_no_message_carries_is_named() -> None:
    with pytest.raises(ValueError, match="row 1: .* a message has at most 16384"):
        list(RowSlicer(RowEncoder(FIELDS)).slices([{"id": "a", "n": 1}, {"id": "x" * 20_000, "n": 1}], LIMITS))


def test_an_atomic_batch_is_one_message_or_an_error() -> None:
    slicer = RowSlicer(RowEncoder(FIELDS))
    (payload,) = slicer.slices(rows(100), SliceLimits(100, 16 * 1024, 10), atomic=True)
    assert payload.rows == 100 and batch_of(payload).atomic
    with pytest.raises(ValueError, match="at most 100 rows"):
        list(slicer.slices(rows(101), LIMITS, atomic=True))
    arrow = ArrowSlicer(sample(3).schema)
    (payload,) = arrow.slices([sample(60), sample(40)], LIMITS, atomic=True)
    assert payload.rows == 100 and batch_of(payload).atomic
    with pytest.raises(ValueError, match="at most 100 rows"):
        list(arrow.slices([sample(60), sample(41)], LIMITS, atomic=True))


TABLE = table_pb2.Table(name="t", schema=pb.Schema(fields=FIELDS), key=table_pb2.Key(partition=["id"]))


def test_the_keys_of_the_first_row_are_the_sessions_columns() -> None:
    form, data = Form.of_first(Opening.try_new("t"), TABLE, [{"n": 1, "id": "a"}, {"id": "b"}])
    assert form is not None and [field.name for field in form.open.columns.fields] == ["n", "id"]
    (payload,) = form.slices(data, LIMITS)
    first, second = batch_of(payload).rows.rows
    assert (first.values[0].int_value, first.values[1].string_value) == (1, "a")
    assert second.values[0].WhichOneof("kind") is None, "a key that is missing is a null"
    with pytest.raises(ValueError, match="row 0: n: there is no such column here; expected id"):
        form, data = Form.of_first(Opening.try_new("t", columns=["id"]), TABLE, {"id": "a", "n": 1})
        assert form is not None
        list(form.slices(data, LIMITS))


def test_a_row_that_merges_lacks_no_column() -> None:
    form, _ = Form.of_first(Opening.try_new("t", mode="merge"), TABLE, {"id": "a", "n": 1})
    assert form is not None
    with pytest.raises(ValueError, match="n: missing"):
        list(form.slices([{"id": "a"}], LIMITS))
    form, _ = Form.of_first(Opening.try_new("t", op_column="op"), TABLE, {"op": "put", "id": "a", "n": 1})
    assert form is not None
    assert len(list(form.slices([{"op": "delete", "id": "a"}], LIMITS))) == 1
    with pytest.raises(ValueError, match="row 0: n: missing"):
        list(form.slices([{"op": "Merge", "id": "a"}], LIMITS))


def test_a_data_frame_becomes_the_sessions_types_and_an_error_shows_no_value() -> None:
    pd = pytest.importorskip("pandas")
    schema = pa.schema([("n", pa.int32()), ("t", pa.string())])
    frame = pd.DataFrame({"n": [1.0, None], "t": ["a", None]})
    (batch,) = arrow_batches(frame, schema)[1]
    assert batch.schema == schema and batch.to_pylist() == [{"n": 1, "t": "a"}, {"n": None, "t": None}]
    with pytest.raises(ValueError) as failed:
        arrow_batches(pd.DataFrame({"n": ["secret"], "t": ["a"]}), schema)
    assert str(failed.value) == "column n: the DataFrame has a value of another type; the session has int32"
    assert failed.value.__cause__ is None
    with pytest.raises(ValueError, match="the session has n, t"):
        arrow_batches(pd.DataFrame({"t": ["a"]}), schema)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"mode": "upsert"}, "mode: expected one of put"),
        ({"mode": "put", "op_column": "op"}, "mode: with op_column"),
        ({"columns": "id"}, "columns: "),
        ({"epoch": -1}, "epoch: "),
        ({"row_deadline": 0.0}, "row_deadline: "),
        ({"priority": "high"}, "priority: "),
        ({"compression": "gzip"}, "compression: "),
        ({"batch_bytes": 0}, "batch_bytes: "),
        ({"store_assignment": "lax"}, "store_assignment: "),
    ],
)
def test_an_option_that_cannot_be_is_named(wrong: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Opening.try_new("t", **wrong)


@pytest.mark.parametrize("data", ["text", b"bytes", 7, None])
def test_what_is_no_data_is_refused(data: Any) -> None:
    with pytest.raises(TypeError, match="expected a dict"):
        Form.of_first(Opening.try_new("t"), TABLE, data)
