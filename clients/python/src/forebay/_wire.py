"""A session's messages as bytes. Batches are encoded once, however often they are sent.

A `Payload` is the body of one `Batch`; its number is put before it when it is sent, because each call numbers anew. Callers: `_payload`
makes payloads, `_session` counts and selects, the writers send.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Optional, Sequence

from .v1 import ingest_pb2, types_pb2

# Field numbers of proto/forebay/v1/ingest.proto, as tags of length-delimited fields (or, for the varints, of varints).
_REQUEST_BATCH = 2 << 3 | 2
_BATCH_SEQ = 1 << 3
_BATCH_ROWS = 2 << 3 | 2
_BATCH_ARROW = 3 << 3 | 2
_BATCH_ATOMIC = 4 << 3
_ROW_BATCH_ROWS = 1 << 3 | 2
_ARROW_IPC_MESSAGES = 1 << 3 | 2


def varint(number: int) -> bytes:
    """Protobuf's variable-length form of a number that is not negative."""
    encoded = bytearray()
    while number > 0x7F:
        encoded.append(number & 0x7F | 0x80)
        number >>= 7
    encoded.append(number)
    return bytes(encoded)


def _delimited(tag: int, length: int) -> bytes:
    return bytes((tag,)) + varint(length)


def row_of_batch(row: types_pb2.Row) -> bytes:
    """A row as the field of a RowBatch that it becomes. Small messages of their own, joined, cost half of a RowBatch with all of them."""
    encoded = row.SerializeToString()
    return _delimited(_ROW_BATCH_ROWS, len(encoded)) + encoded


@dataclass(frozen=True)
class Payload:
    """The rows of one `Batch`, encoded."""

    body: bytes
    """A RowBatch or an ArrowBatch."""
    rows: int
    arrow: bool = False
    atomic: bool = False
    body_bytes: int = -1
    """Bytes of the body; known when the body itself is released."""

    def __post_init__(self) -> None:
        if self.body_bytes < 0:
            object.__setattr__(self, "body_bytes", len(self.body))

    @classmethod
    def of_rows(cls, rows: Sequence[bytes], *, atomic: bool = False) -> Payload:
        """Positional rows, each by `row_of_batch`."""
        return cls(b"".join(rows), len(rows), atomic=atomic)

    @classmethod
    def of_arrow(cls, ipc_messages: Sequence[bytes], rows: int, *, atomic: bool = False) -> Payload:
        """Encapsulated Arrow IPC messages."""
        length = sum(map(len, ipc_messages))
        return cls(b"".join((_delimited(_ARROW_IPC_MESSAGES, length), *ipc_messages)), rows, arrow=True, atomic=atomic)

    def _head(self, seq: int) -> bytes:
        return bytes((_BATCH_SEQ,)) + varint(seq) + _delimited(_BATCH_ARROW if self.arrow else _BATCH_ROWS, self.body_bytes)

    @property
    def _tail(self) -> bytes:
        return bytes((_BATCH_ATOMIC, 1)) if self.atomic else b""

    def message_bytes(self, seq: int) -> int:
        """The size of the Batch message under a number: what the window counts."""
        return len(self._head(seq)) + self.body_bytes + len(self._tail)

    def request(self, seq: int) -> bytes:
        """The WriteRequest that carries it."""
        head, tail = self._head(seq), self._tail
        length = len(head) + self.body_bytes + len(tail)
        return b"".join((_delimited(_REQUEST_BATCH, length), head, self.body, tail))

    def released(self) -> Payload:
        """The same without its bytes, for counting alone."""
        return replace(self, body=b"", body_bytes=self.body_bytes)

    def select(self, indices: Sequence[int]) -> Optional[Payload]:
        """Some of its rows alone; None where rows cannot be picked out (Arrow) or belong together (atomic)."""
        if self.arrow or self.atomic:
            return None
        rows = types_pb2.RowBatch.FromString(self.body).rows
        return Payload.of_rows([row_of_batch(rows[index]) for index in indices])


def open_request(message: ingest_pb2.Open) -> bytes:
    """The first message of a call."""
    return ingest_pb2.WriteRequest(open=message).SerializeToString()


FLUSH_REQUEST: bytes = ingest_pb2.WriteRequest(flush=ingest_pb2.Flush()).SerializeToString()
"""Asks for a barrier."""


def finish_request(batches: int, rows: int) -> bytes:
    """Ends a session."""
    return ingest_pb2.WriteRequest(finish=ingest_pb2.Finish(batches=batches, rows=rows)).SerializeToString()
