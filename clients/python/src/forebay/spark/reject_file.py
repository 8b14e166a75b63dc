"""A Parquet file of rejected rows and why: written under a hidden name, published by a rename.

Its folder is a local path or one of an object store.

Columns: `partition`, `partition_row`, `reason`, `field_path`, `message`, `hint`, `declared_type`, `found_type`, and
`row`, a struct of the user's columns. Caller: `rejects`.
"""

from __future__ import annotations

import hashlib
import os
import re
import uuid
from typing import Any, List, Optional, Sequence
from urllib.parse import urlsplit

import pyarrow as pa
import pyarrow.parquet as pq

from .report import Rejected

_REASONS = (
    pa.field("partition", pa.int32(), nullable=False),
    pa.field("partition_row", pa.int64(), nullable=False),
    pa.field("reason", pa.string(), nullable=False),
    pa.field("field_path", pa.string(), nullable=False),
    pa.field("message", pa.string(), nullable=False),
    pa.field("hint", pa.string(), nullable=False),
    pa.field("declared_type", pa.string(), nullable=False),
    pa.field("found_type", pa.string(), nullable=False),
)


def file_name(table: str, mode: str, job: str, epoch: Optional[int], partition: int) -> str:
    """The same for every attempt of a task, and for every run of an epoch."""
    run = "" if epoch is None else f"-{epoch:020d}"
    return f"rejects-{_plain(table)}-{_plain(mode)}-{_plain(job)}{run}-part-{partition:05d}.parquet"


def _plain(name: str) -> str:
    plain = re.sub(r"[^A-Za-z0-9._-]", "_", name)[:64]
    # What was changed could be another name's plain form.
    return plain if plain == name else f"{plain}.{hashlib.sha256(name.encode()).hexdigest()[:12]}"


class RejectFile:
    """See the module. Nothing is made before the first row."""

    def __init__(self, directory: str, name: str) -> None:
        self._store = _store_of(directory)
        self._name = name
        self._hidden = f".{name}.{uuid.uuid4().hex}.tmp"
        self._sink: Any = None
        self._writer: Optional[pq.ParquetWriter] = None
        self._schema: Optional[pa.Schema] = None

    def write(self, rejected: Sequence[Rejected], rows: List[pa.RecordBatch]) -> None:
        """Rows, each a batch of one, and why they were rejected."""
        table = pa.Table.from_batches(rows)
        struct = pa.struct([pa.field(f.name, _readable(f.type), f.nullable) for f in table.schema])
        columns = [_as_readable(column.combine_chunks()) for column in table.columns]
        kept = pa.StructArray.from_arrays(columns, fields=list(struct))
        outcomes = [one.outcome for one in rejected]
        if self._writer is None:
            self._schema = pa.schema([*_REASONS, pa.field("row", struct, nullable=False)])
            self._sink = self._store.create(self._hidden)
            self._writer = pq.ParquetWriter(self._sink, self._schema, store_schema=False)
        values = [
            pa.array([one.partition for one in rejected], pa.int32()),
            pa.array([one.row for one in rejected], pa.int64()),
            pa.array([one.reason for one in outcomes], pa.string()),
            pa.array([one.field_path for one in outcomes], pa.string()),
            pa.array([one.message for one in outcomes], pa.string()),
            pa.array([one.hint for one in outcomes], pa.string()),
            pa.array([one.declared_type for one in outcomes], pa.string()),
            pa.array([one.found_type for one in outcomes], pa.string()),
            kept,
        ]
        self._writer.write_table(pa.Table.from_arrays(values, schema=self._schema))

    def publish(self) -> Optional[str]:
        """Gives the file its name, in place of an earlier attempt's; without a row it removes that."""
        if self._writer is None:
            self._store.remove(self._name)
            return None
        self._writer.close()
        self._sink.close()
        self._writer = self._sink = None
        self._store.rename(self._hidden, self._name)
        return self._name

    def discard(self) -> None:
        """Removes what was not published."""
        if self._writer is None:
            return
        try:
            self._writer.close()
            self._sink.close()
        finally:
            self._writer = self._sink = None
            self._store.remove(self._hidden)


def _store_of(directory: str) -> Any:
    scheme = urlsplit(directory).scheme.lower()
    if scheme == "dbfs":
        # Where Databricks mounts it.
        return _LocalStore("/dbfs/" + directory.split(":", 1)[1].lstrip("/"))
    if scheme in ("", "file"):
        return _LocalStore(urlsplit(directory).path if scheme else directory)
    from pyarrow import fs

    uri = re.sub(r"^s3a:", "s3:", directory, flags=re.IGNORECASE)
    found, path = fs.FileSystem.from_uri(uri)
    return FilesystemStore(found, path)


class _LocalStore:
    """A folder that this machine has: its own, a network's, or a mounted store."""

    def __init__(self, directory: str) -> None:
        self._directory = directory

    def create(self, name: str) -> Any:
        os.makedirs(self._directory, exist_ok=True)
        return open(os.path.join(self._directory, name), "wb")

    def rename(self, old: str, new: str) -> None:
        os.replace(os.path.join(self._directory, old), os.path.join(self._directory, new))

    def remove(self, name: str) -> None:
        try:
            os.remove(os.path.join(self._directory, name))
        except FileNotFoundError:
            pass


class FilesystemStore:
    """A folder of a pyarrow file system: S3, Google Cloud Storage, Azure, HDFS."""

    def __init__(self, filesystem: Any, directory: str) -> None:
        self._filesystem = filesystem
        self._directory = directory.rstrip("/")

    def create(self, name: str) -> Any:
        # Object stores have no folders, and making one there may need a right that writing a file does not.
        if self._filesystem.type_name in ("hdfs", "abfs", "local"):
            self._filesystem.create_dir(self._directory, recursive=True)
        return self._filesystem.open_output_stream(self._at(name))

    def rename(self, old: str, new: str) -> None:
        # Not every file system renames over a file.
        self.remove(new)
        self._filesystem.move(self._at(old), self._at(new))

    def remove(self, name: str) -> None:
        from pyarrow import fs

        if self._filesystem.get_file_info(self._at(name)).type == fs.FileType.File:
            self._filesystem.delete_file(self._at(name))

    def _at(self, name: str) -> str:
        return f"{self._directory}/{name}"


def _readable(kind: pa.DataType) -> pa.DataType:
    """The type that Spark can read from a Parquet file: void becomes text, without a value."""
    return pa.string() if pa.types.is_null(kind) else kind


def _as_readable(column: Any) -> Any:
    array = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    return array.cast(pa.string()) if pa.types.is_null(array.type) else array
