"""Loads the generated stubs, and sends a message through bytes and back, under the protobuf runtime that is
importable here.

    python load_stubs.py [VERSION]     VERSION: what the runtime must be, so that none is taken for another

Not a pytest: the point is the interpreter that it runs in. `run runtimes` starts it once for each.
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "src"))

import google.protobuf
from google.protobuf import duration_pb2
from google.protobuf.internal import api_implementation

from forebay.v1 import ingest_pb2, ingest_pb2_grpc, read_pb2, read_pb2_grpc, table_pb2, table_pb2_grpc, types_pb2


def main() -> None:
    if len(sys.argv) > 1 and google.protobuf.__version__ != sys.argv[1]:
        sys.exit(f"protobuf is {google.protobuf.__version__}; expected {sys.argv[1]}")

    row = types_pb2.Row(
        values=[types_pb2.Value(string_value="é"), types_pb2.Value(int_value=-(2**63)), types_pb2.Value()]
    )
    sent = ingest_pb2.WriteRowsRequest(
        open=ingest_pb2.Open(table="t", mode=ingest_pb2.WRITE_MODE_PUT, row_deadline=duration_pb2.Duration(seconds=5)),
        rows=types_pb2.RowBatch(rows=[row]),
    )
    received = ingest_pb2.WriteRowsRequest.FromString(sent.SerializeToString())
    if received != sent or received.rows.rows[0].values[1].int_value != -(2**63):
        sys.exit("a message came back as another")
    if received.rows.rows[0].values[2].WhichOneof("kind") is not None or received.WhichOneof("payload") != "rows":
        sys.exit("a oneof came back as another")
    receipt = ingest_pb2.Receipt(coercions={"a: int->bigint": 2})
    if dict(ingest_pb2.Receipt.FromString(receipt.SerializeToString()).coercions) != {"a: int->bigint": 2}:
        sys.exit("a map came back as another")
    for service in (ingest_pb2_grpc.IngestServiceStub, read_pb2_grpc.ReadServiceStub, table_pb2_grpc.TableServiceStub):
        if not callable(service):
            sys.exit(f"{service} is no stub")
    if read_pb2.ReadStatus.Name(1) != "READ_STATUS_FOUND" or table_pb2.OWNERSHIP_BOUND != 2:
        sys.exit("an enum has other names")
    python = ".".join(map(str, sys.version_info[:3]))
    print(f"Python {python}, protobuf {google.protobuf.__version__} ({api_implementation.Type()}): the stubs load")


if __name__ == "__main__":
    main()
