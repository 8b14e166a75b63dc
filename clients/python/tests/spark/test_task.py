"""What one task does, with a writer that only records: when it finishes, and what it never does."""

from __future__ import annotations

import pickle
from dataclasses import replace
from pathlib import Path
from typing import Any, Callable, Iterator, List, Optional

import pytest

pa = pytest.importorskip("pyarrow", reason="pyarrow is not installed: nothing of Spark's tasks is tested")
import pyarrow.parquet as pq  # noqa: E402

from forebay.errors import RowsRejected, Unavailable  # noqa: E402
from forebay.results import Outcome, Receipt, RowStatus  # noqa: E402
from forebay.spark.fence import BATCH_ID, QUERY_ID  # noqa: E402
from forebay.spark.input_end import InputEnd, input_end  # noqa: E402
from forebay.spark.options import WriteOptions  # noqa: E402
from forebay.spark.reject_file import RejectFile  # noqa: E402
from forebay.spark.report import Summary, TaskReport  # noqa: E402
from forebay.spark.task import InputBroken, Job, TaskContext, write_task  # noqa: E402


class RecordingWriter:
    """Stands for `forebay.writer.Writer`: rejects rows whose `n` is negative, when it is flushed."""

    def __init__(self, connect: Any, table: str, **opening: Any) -> None:
        self.table = table
        self.opening = opening
        self.calls: List[str] = []
        self.sent: List[Any] = []
        self.atomic: List[bool] = []
        self.status = RowStatus.REJECTED
        self.fail_at_batch: Optional[int] = None
        self.receipt = Receipt()

    def send(self, batch: Any, *, atomic: bool = False) -> int:
        self.calls.append("send")
        self.sent.append(batch)
        self.atomic.append(atomic)
        if self.fail_at_batch == len(self.sent):
            raise Unavailable("UNAVAILABLE", "gone")
        return len(self.sent)

    def flush(self) -> Receipt:
        self.calls.append("flush")
        rejected = 0
        for number, batch in enumerate(self.sent, start=1):
            for row, value in enumerate(batch.column("n").to_pylist()):
                if value is not None and value < 0:
                    rejected += 1
                    self.opening["on_outcome"](Outcome(number, row, self.status, "OUT_OF_RANGE", "n", "below 0"))
        rows = sum(batch.num_rows for batch in self.sent)
        self.receipt = Receipt(
            batches=len(self.sent), rows=rows, committed_rows=rows - rejected, rejected_rows=rejected
        )
        return self.receipt

    def finish(self) -> Receipt:
        self.calls.append("finish")
        return self.receipt

    def abort(self) -> None:
        if "finish" not in self.calls:
            self.calls.append("abort")


class Run:
    """A task with a recording writer."""

    def __init__(
        self, end: InputEnd = InputEnd.WHOLE, properties: Any = None, partition: int = 3, **options: Any
    ) -> None:
        self.writers: List[RecordingWriter] = []
        self.end = end
        parsed = WriteOptions.parse({"endpoint": "http://127.0.0.1:1", "table": "t", **options}, environment={})
        self.job = Job(parsed, '{"type":"struct"}', "job")
        self.context = TaskContext(partition, (properties or {}).get)
        self.prepare: Callable[[RecordingWriter], None] = lambda writer: None

    def open(self, *args: Any, **opening: Any) -> RecordingWriter:
        writer = RecordingWriter(*args, **opening)
        self.prepare(writer)
        self.writers.append(writer)
        return writer

    def __call__(self, *batches: Any) -> TaskReport:
        return self.of(iter(batches))

    def of(self, batches: Iterator[Any]) -> TaskReport:
        return write_task(self.job, batches, self.context, open_writer=self.open, end_of_input=lambda: self.end)

    @property
    def calls(self) -> List[str]:
        return self.writers[0].calls


def batch(*n: Optional[int], **columns: Any) -> Any:
    ids = pa.array([f"k{index}" for index in range(len(n))])
    arrays = {"id": ids, "n": pa.array(n, pa.int64()), **{name: pa.array(values) for name, values in columns.items()}}
    return pa.RecordBatch.from_arrays(list(arrays.values()), names=list(arrays))


def test_a_whole_partition_is_flushed_and_finished() -> None:
    run = Run()
    report = run(batch(1, 2), batch(), batch(3))
    assert run.calls == ["send", "send", "flush", "finish"]
    assert (report.receipt.rows, report.rejected, report.finished, report.partition) == (3, 0, True, 3)


def test_an_exception_in_the_middle_ends_without_finish() -> None:
    def broken() -> Iterator[Any]:
        yield batch(1)
        raise RuntimeError("upstream")

    run = Run()
    with pytest.raises(RuntimeError, match="upstream"):
        run.of(broken())
    assert run.calls == ["send", "abort"]


@pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit, GeneratorExit])
def test_an_interrupt_ends_without_finish(kind: Any) -> None:
    def killed() -> Iterator[Any]:
        yield batch(1)
        raise kind()

    run = Run()
    with pytest.raises(kind):
        run.of(killed())
    assert run.calls == ["send", "abort"]


def test_an_input_that_only_stops_is_not_finished() -> None:
    run = Run(InputEnd.BROKEN)
    with pytest.raises(InputBroken, match="before all of its rows had come"):
        run(batch(1), batch(2))
    assert run.calls == ["send", "send", "abort"]


def test_an_empty_input_that_only_stops_is_an_error_too() -> None:
    with pytest.raises(InputBroken):
        Run(InputEnd.BROKEN)()


def test_where_nothing_proves_the_end_rows_are_flushed_but_not_finished() -> None:
    run = Run(InputEnd.UNKNOWN)
    report = run(batch(1))
    assert run.calls == ["send", "flush", "abort"]
    assert not report.finished
    assert "flushed_without_finish=1" in Summary("t", [report]).line("wrote")


def test_this_process_is_no_worker_whose_input_is_known() -> None:
    assert input_end() is InputEnd.UNKNOWN


def test_a_writer_that_fails_ends_without_finish() -> None:
    run = Run()
    run.prepare = lambda writer: setattr(writer, "fail_at_batch", 2)
    with pytest.raises(Unavailable):
        run(batch(1), batch(2), batch(3))
    assert run.calls == ["send", "send", "abort"]


def test_rows_that_dynamodb_did_not_take_fail_the_task_whatever_rejects_says(tmp_path: Path) -> None:
    for rejects in ("fail", "report", str(tmp_path)):
        for status in (RowStatus.RETRYABLE, RowStatus.UNKNOWN):
            run = Run(rejects=rejects)
            run.prepare = lambda writer, status=status: setattr(writer, "status", status)  # type: ignore[misc]
            with pytest.raises(RowsRejected):
                run(batch(1, -2))
            assert run.calls == ["send", "flush", "abort"]
    assert list(tmp_path.iterdir()) == []


def test_a_late_merge_is_counted_and_no_reject() -> None:
    run = Run()
    run.prepare = lambda writer: setattr(writer, "status", RowStatus.SUPERSEDED)
    report = run(batch(1, -2))
    assert (report.rejected, report.stale_merges) == (0, 1)


def test_a_task_without_rows_opens_no_session() -> None:
    run = Run()
    report = run(batch(), batch())
    assert run.writers == [] and report.receipt == Receipt()


def test_the_session_is_opened_as_the_options_say() -> None:
    run = Run(mode="merge", compression="lz4", batchBytes="64k", mergeSchema="true", onMissing="null", rowDeadline="5s")
    run(batch(1))
    opening = run.writers[0].opening
    assert opening["mode"] == "merge" and opening["compression"] == "lz4" and opening["batch_bytes"] == 65536
    assert opening["merge_schema"] is True and opening["on_missing"] == "null" and opening["row_deadline"] == 5.0
    assert opening["spark_schema_json"] == '{"type":"struct"}'
    assert opening["arrow_schema"] == batch(1).schema
    assert opening["producer_id"] is None and opening["epoch"] is None


def test_a_stream_is_fenced_by_its_query_and_batch() -> None:
    run = Run(properties={QUERY_ID: "query", BATCH_ID: "17"})
    run.job = replace(run.job, streaming=True)
    report = run(batch(1))
    opening = run.writers[0].opening
    assert (opening["producer_id"], opening["epoch"]) == ("query", 17)
    assert "producer=query epoch=17" in Summary("t", [report]).line("wrote")


def test_a_batch_write_is_fenced_only_by_options() -> None:
    run = Run(properties={QUERY_ID: "query", BATCH_ID: "17"})
    run(batch(1))
    assert run.writers[0].opening["producer_id"] is None
    run = Run(producerId="job", epoch="4")
    run(batch(1))
    assert (run.writers[0].opening["producer_id"], run.writers[0].opening["epoch"]) == ("job", 4)


def test_rejects_are_told_by_their_row_in_the_partition() -> None:
    report = Run()(batch(1, 2, -3), batch(-4, 5))
    assert report.rejected == 2 and report.reasons == {"OUT_OF_RANGE": 2}
    assert [(one.partition, one.row) for one in report.first] == [(3, 2), (3, 3)]
    assert report.receipt.committed_rows == 3


def test_the_line_and_the_error_of_the_driver_name_the_first_rejects() -> None:
    summary = Summary("t", [Run()(batch(1, -2)), None, Run(partition=1)(batch(*range(-9, 0)))])
    line = summary.line("wrote")
    assert line.startswith("forebay wrote: table=t rows=11 rejected=10 superseded=0 units=0.0 seconds=")
    assert line.count("partition 1, row") == 5 and "\n" not in line
    text = str(summary.failure())
    assert "10 of 11 rows were rejected by the table `t` (OUT_OF_RANGE 10); the others are written." in text
    assert "  partition 1, row 0 at n: below 0 (OUT_OF_RANGE)" in text


def test_reports_travel() -> None:
    report = Run()(batch(1, -2))
    assert pickle.loads(pickle.dumps(report)) == report
    failure = Summary("t", [report]).failure()
    assert str(pickle.loads(pickle.dumps(failure))) == str(failure)


# Rejects in files.


def rows_in(folder: Path) -> List[Any]:
    return [row for path in sorted(folder.glob("rejects-*.parquet")) for row in pq.read_table(path).to_pylist()]


def test_rejected_rows_go_to_a_file_with_their_reasons(tmp_path: Path) -> None:
    report = Run(rejects=str(tmp_path / "r"))(batch(1, -2), batch(-3))
    rows = rows_in(tmp_path / "r")
    assert [row["row"] for row in rows] == [{"id": "k1", "n": -2}, {"id": "k0", "n": -3}]
    assert [(row["partition"], row["partition_row"], row["reason"], row["field_path"]) for row in rows] == [
        (3, 1, "OUT_OF_RANGE", "n"),
        (3, 2, "OUT_OF_RANGE", "n"),
    ]
    assert report.file is not None and (tmp_path / "r" / report.file).exists()


def test_an_attempt_that_is_made_again_does_not_double_rejects(tmp_path: Path) -> None:
    run = Run(rejects=str(tmp_path))
    run(batch(1, -2))
    run(batch(1, -2))
    assert len(rows_in(tmp_path)) == 1


def test_a_failed_attempt_leaves_no_file(tmp_path: Path) -> None:
    def broken() -> Iterator[Any]:
        for _ in range(3):
            yield batch(*range(-1500, 0))
        raise RuntimeError("upstream")

    run = Run(rejects=str(tmp_path))

    def reject_at_once(writer: RecordingWriter) -> None:
        send = writer.send

        def send_and_reject(rows: Any, *, atomic: bool = False) -> int:
            number = send(rows, atomic=atomic)
            for row in range(rows.num_rows):
                writer.opening["on_outcome"](Outcome(number, row, RowStatus.REJECTED, "OUT_OF_RANGE"))
            writer.receipt = Receipt(batches=number)
            return number

        writer.send = send_and_reject  # type: ignore[method-assign]
        writer.flush = lambda: pytest.fail("a broken input is not flushed")  # type: ignore[method-assign]

    run.prepare = reject_at_once
    with pytest.raises(RuntimeError):
        run.of(broken())
    assert list(tmp_path.iterdir()) == []


def test_rejects_that_a_second_run_of_the_epoch_does_not_have_are_gone(tmp_path: Path) -> None:
    run = Run(rejects=str(tmp_path), producerId="job", epoch="1")
    run(batch(-1))
    assert len(rows_in(tmp_path)) == 1
    run(batch(1))
    assert rows_in(tmp_path) == []


def test_two_jobs_and_two_epochs_keep_their_own_files(tmp_path: Path) -> None:
    run = Run(rejects=str(tmp_path))
    run(batch(-1))
    run.job = replace(run.job, name="another")
    run(batch(-1))
    for epoch in ("1", "2"):
        Run(rejects=str(tmp_path), producerId="pro/ducer", epoch=epoch)(batch(-1))
    assert len(rows_in(tmp_path)) == 4


def test_every_column_type_of_a_rejected_row_is_kept(tmp_path: Path) -> None:
    rows = batch(-1, void=pa.nulls(1), many=[[{"a": 1, "b": b"x"}]])
    Run(rejects=str(tmp_path))(rows)
    (kept,) = rows_in(tmp_path)
    assert kept["row"] == {"id": "k0", "n": -1, "void": None, "many": [{"a": 1, "b": b"x"}]}


# Groups.


def test_rows_with_one_value_are_one_transaction_over_the_ends_of_batches() -> None:
    run = Run(atomicBy="tx")
    run(batch(1, 2, 3, tx=["a", "a", "b"]), batch(4, 5, tx=["b", "c"]))
    writer = run.writers[0]
    assert [(sent.column("n").to_pylist(), atomic) for sent, atomic in zip(writer.sent, writer.atomic)] == [
        ([1, 2], True),
        ([3, 4], True),
        ([5], False),
    ]


def test_groups_and_single_rows_keep_their_order_and_their_numbers() -> None:
    run = Run(atomicBy="tx")
    report = run(batch(1, 2, 3, 4, -5, 6, tx=["a", None, None, "b", "b", "c"]), batch(-7, tx=["d"]))
    writer = run.writers[0]
    assert [(sent.column("n").to_pylist(), atomic) for sent, atomic in zip(writer.sent, writer.atomic)] == [
        ([1, 2, 3], False),
        ([4, -5], True),
        ([6], False),
        ([-7], False),
    ]
    assert [one.row for one in report.first] == [4, 6]


def test_a_group_that_is_too_large_is_rejected_whole_and_the_others_are_written(tmp_path: Path) -> None:
    run = Run(atomicBy="tx", rejects=str(tmp_path))
    report = run(
        batch(*range(60), tx=["big"] * 60),
        batch(*range(60), tx=["big"] * 41 + ["next"] * 19),
        batch(*range(100), tx=["full"] * 100),
    )
    assert [(sent.num_rows, atomic) for sent, atomic in zip(run.writers[0].sent, run.writers[0].atomic)] == [
        (19, True),
        (100, True),
    ]
    assert (report.rejected, report.reasons) == (101, {"ATOMIC_GROUP_TOO_LARGE": 101})
    assert (report.receipt.rows, report.receipt.rejected_rows) == (220, 101)
    rows = rows_in(tmp_path)
    assert len(rows) == 101 and rows[100]["partition_row"] == 100


def test_a_value_that_comes_again_later_is_an_error_and_never_split_silently() -> None:
    run = Run(atomicBy="tx")
    with pytest.raises(ValueError, match="atomicBy: a value of this column comes again after other values") as error:
        run(batch(1, 2, 3, tx=["a", "b", "a"]))
    assert "sortWithinPartitions" in str(error.value)
    assert "finish" not in run.calls


def test_groups_by_any_batching_are_the_same() -> None:
    values = [None, "a", "a", "b", None, "c", "c", "c", "d", "e", "e"]
    whole = batch(*range(len(values)), tx=values)
    expected = None
    for size in range(1, len(values) + 1):
        run = Run(atomicBy="tx")
        run(*(whole.slice(begin, size) for begin in range(0, len(values), size)))
        groups = [
            sent.column("n").to_pylist() for sent, atomic in zip(run.writers[0].sent, run.writers[0].atomic) if atomic
        ]
        assert groups == [[1, 2], [5, 6, 7], [9, 10]]
        rows = [n for sent in run.writers[0].sent for n in sent.column("n").to_pylist()]
        assert rows == list(range(len(values)))
        expected = expected or groups


def test_numbers_with_one_hash_are_two_groups() -> None:
    run = Run(atomicBy="n")
    run(batch(-1, -2))
    assert sum(sent.num_rows for sent in run.writers[0].sent) == 2
    assert run.writers[0].atomic == [False, False]


def test_a_task_looks_for_a_gateway_for_as_long_as_retry_for_says() -> None:
    run = Run(retryFor="2m")
    run(batch(1))
    assert run.writers[0].opening["open_for"] == run.writers[0].opening["retry_for"] == 120.0


def test_groups_that_are_too_large_are_kept_in_the_file_and_not_in_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written: List[int] = []
    write = RejectFile.write

    def counted(file: RejectFile, rejected: Any, rows: Any) -> None:
        written.append(len(rows))
        write(file, rejected, rows)

    monkeypatch.setattr(RejectFile, "write", counted)
    run = Run(atomicBy="tx", rejects=str(tmp_path))
    run(*(batch(*range(1000), tx=[f"t{number}"] * 1000) for number in range(4)))
    assert len(rows_in(tmp_path)) == 4000
    assert max(written) <= 2000
