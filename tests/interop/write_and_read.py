"""Writes rows by a streaming session and reads them back, with nothing but grpcio and the protos.

The stubs are made by grpcio-tools (see `run`). Every value is compared; the first difference ends the script.
"""

import argparse
import threading

import grpc
from forebay.v1 import ingest_pb2, ingest_pb2_grpc, read_pb2, read_pb2_grpc, table_pb2, table_pb2_grpc
from forebay.v1.types_pb2 import ListValue, MapEntry, MapValue, Row, RowBatch, StructValue, Value

TABLE = "interop"
DDL = """
    id STRING NOT NULL, n BIGINT, ratio DOUBLE, small FLOAT, price DECIMAL(10,2), ok BOOLEAN, raw BINARY,
    at TIMESTAMP, local TIMESTAMP_NTZ, day DATE, tags ARRAY<STRING>, vitals MAP<STRING, DOUBLE>,
    place STRUCT<city: STRING, zip: INT>, note STRING
"""
ROWS = 1_000
ROWS_PER_BATCH = 250
DEADLINE_SECONDS = 60


def text(value):
    return Value(string_value=value)


def key(i):
    return text(f"row-{i}")


def row(i):
    """A row of every kind of value; its last column is null."""
    return Row(
        values=[
            key(i),
            Value(int_value=i),
            Value(double_value=i / 7),
            Value(float_value=i / 8),
            Value(decimal_value=f"{i}.50"),
            Value(bool_value=i % 2 == 0),
            Value(bytes_value=bytes([i % 256, 0, 255])),
            Value(timestamp_micros=1_700_000_000_123_456 + i),
            Value(timestamp_ntz_micros=-i),
            Value(date_days=i - 500),
            Value(list_value=ListValue(values=[text("é"), text(str(i))])),
            Value(map_value=MapValue(entries=[MapEntry(key=text("hr"), value=Value(double_value=60.5))])),
            Value(struct_value=StructValue(values=[text("Basel"), Value(int_value=4000 + i)])),
            Value(),
        ]
    )


def batches():
    """The batches of the session. Row 0 of the last has text where a number is declared."""
    for start in range(0, ROWS, ROWS_PER_BATCH):
        yield [row(i) for i in range(start, start + ROWS_PER_BATCH)]
    yield [Row(values=[text("bad"), text("seven")]), row(ROWS)]


def expect(actual, expected, what):
    if actual != expected:
        raise SystemExit(f"{what}: expected {expected!r}, got {actual!r}")


def write(ingest, mode, all_batches):
    """One session from Open to Finish. Returns the outcomes that are not plain, and the receipt."""
    finished = threading.Event()
    counts = {"batches": 0, "rows": 0}

    def requests():
        yield ingest_pb2.WriteRequest(open=ingest_pb2.Open(table=TABLE, mode=mode))
        for seq, rows in enumerate(all_batches, start=1):
            batch = ingest_pb2.Batch(batch_seq=seq, rows=RowBatch(rows=rows))
            counts["batches"], counts["rows"] = seq, counts["rows"] + len(rows)
            yield ingest_pb2.WriteRequest(batch=batch)
        yield ingest_pb2.WriteRequest(flush=ingest_pb2.Flush())
        yield ingest_pb2.WriteRequest(finish=ingest_pb2.Finish(**counts))
        # The stream stays open until the server has said its last word.
        finished.wait(DEADLINE_SECONDS)

    outcomes, kinds, committed_through, receipt = [], [], 0, None
    try:
        for response in ingest.Write(requests(), timeout=DEADLINE_SECONDS):
            kind = response.WhichOneof("message")
            kinds.append(kind)
            if kind == "ack":
                outcomes.extend(response.ack.outcomes)
                committed_through = max(committed_through, response.ack.committed_through)
            elif kind == "flushed":
                expect(response.flushed.committed_through, counts["batches"], "flushed.committed_through")
            elif kind == "finished":
                receipt = response.finished.receipt
                finished.set()
    finally:
        finished.set()
    expect(kinds[0], "opened", "the first message")
    expect(kinds[-1], "finished", "the last message")
    expect("flushed" in kinds, True, "a Flushed for the Flush")
    expect(committed_through, counts["batches"], "committed_through")
    expect((receipt.batches, receipt.rows), (counts["batches"], counts["rows"]), "the receipt's counts")
    return outcomes, receipt


def get(read, row_key, columns=()):
    request = read_pb2.GetRowRequest(
        table=TABLE, key=read_pb2.RowKey(values=[row_key]), columns=columns, consistency=read_pb2.CONSISTENCY_STRONG
    )
    return read.GetRow(request, timeout=DEADLINE_SECONDS)


def expect_code(call, code):
    try:
        call()
    except grpc.RpcError as error:
        expect(error.code(), code, f"the status ({error.details()})")
    else:
        raise SystemExit(f"expected the status {code}, and the call succeeded")


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--endpoint", required=True, help="host:port of a gateway")
    endpoint = parser.parse_args().endpoint

    with grpc.insecure_channel(endpoint) as channel:
        grpc.channel_ready_future(channel).result(timeout=DEADLINE_SECONDS)
        tables = table_pb2_grpc.TableServiceStub(channel)
        ingest = ingest_pb2_grpc.IngestServiceStub(channel)
        read = read_pb2_grpc.ReadServiceStub(channel)

        table = table_pb2.Table(name=TABLE, ddl=DDL, key=table_pb2.Key(partition=["id"]))
        applied = tables.ApplyTable(table_pb2.ApplyTableRequest(table=table), timeout=DEADLINE_SECONDS)
        expect(applied.result, table_pb2.APPLY_RESULT_CREATED, "ApplyTable")

        outcomes, receipt = write(ingest, ingest_pb2.WRITE_MODE_PUT, batches())
        expect((receipt.committed_rows, receipt.rejected_rows), (ROWS + 1, 1), "rows committed and rejected")
        expect(len(outcomes), 1, "rows with an outcome of their own")
        [bad] = outcomes
        expect((bad.batch_seq, bad.row_index), (ROWS // ROWS_PER_BATCH + 1, 0), "the rejected row")
        expect(bad.status, ingest_pb2.ROW_STATUS_REJECTED, "the rejected row's status")
        expect(bad.reason, ingest_pb2.ROW_REASON_TYPE_MISMATCH, "the rejected row's reason")
        expect(bad.field_path, "n", "the rejected row's field")

        for i in (0, 1, 7, 500, ROWS - 1, ROWS):
            answer = get(read, key(i))
            expect(answer.status, read_pb2.READ_STATUS_FOUND, f"row {i}")
            expect(list(answer.row.values), list(row(i).values), f"row {i}")
        expect(get(read, text("bad")).status, read_pb2.READ_STATUS_NOT_FOUND, "the rejected row")
        expect(list(get(read, key(3), ["day", "n"]).row.values), [row(3).values[9], row(3).values[1]], "two columns")

        outcomes, receipt = write(ingest, ingest_pb2.WRITE_MODE_DELETE, [[Row(values=[key(i)]) for i in (1, 2)]])
        expect((len(outcomes), receipt.committed_rows), (0, 2), "deletes")
        wanted = [read_pb2.RowKey(values=[key(i)]) for i in (0, 1, 0, 2, 3)]
        request = read_pb2.BatchGetRowsRequest(
            requests=[
                read_pb2.TableKeys(table=TABLE, keys=wanted, columns=["n"]),
                read_pb2.TableKeys(table="nowhere", keys=wanted[:1]),
            ],
            consistency=read_pb2.CONSISTENCY_STRONG,
        )
        answer = read.BatchGetRows(request, timeout=DEADLINE_SECONDS)
        found, missing = read_pb2.READ_STATUS_FOUND, read_pb2.READ_STATUS_NOT_FOUND
        statuses = [result.status for result in answer.results[0].rows]
        expect(statuses, [found, missing, found, missing, found], "a batch in request order")
        expect([result.status for result in answer.results[1].rows], [read_pb2.READ_STATUS_DENIED], "no such table")

        nowhere = read_pb2.GetRowRequest(table="nowhere", key=wanted[0])
        expect_code(lambda: read.GetRow(nowhere, timeout=DEADLINE_SECONDS), grpc.StatusCode.NOT_FOUND)
        expect_code(lambda: get(read, Value(int_value=1)), grpc.StatusCode.INVALID_ARGUMENT)

    print(f"grpcio {grpc.__version__}: {ROWS + 2} rows written by a session, read back equal; deletes and errors as promised")


if __name__ == "__main__":
    main()
