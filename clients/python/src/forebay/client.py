"""The blocking client: reads, writes and tables of a gateway. `forebay.connect` makes one.

Thin: requests and answers are made by `_reading`, `_schema` and `tables`, which `aio` uses, too. A client may be shared between
threads; make it after a fork, not before.
"""

from __future__ import annotations

import random
import time
from typing import Any, Callable, Dict, Iterator, List, Optional, Sequence, Tuple, Union

import grpc

from . import _writing, tables
from ._channel import open_channel
from ._opening import Opening
from ._payload import is_arrow_data
from ._reading import Decoders, ManyRead, RangeRead, column_names, consistency, row_result
from ._retry import Attempts
from ._schema import KeyEncoder, KnownTables
from ._status import call_error
from .errors import CallError, DeadlineExceeded, InvalidRequest, NotFound, PermissionDenied, RateLimited, Unavailable
from .options import ConnectOptions, PathLike
from .results import Outcome, Receipt, RowResult, WriteResult
from .v1 import read_pb2, table_pb2
from .v1.ingest_pb2_grpc import IngestServiceStub
from .v1.read_pb2_grpc import ReadServiceStub
from .v1.table_pb2_grpc import TableServiceStub
from .writer import Writer

TABLE_CHANGE_TIMEOUT_SECONDS = 240.0
"""Making or dropping a table may take this long, with all attempts."""

Key = Any
"""A scalar where the key is one column, a tuple of the key's columns in order, or a dict of them."""


def connect(
    endpoint: Union[str, Sequence[str], None] = None,
    *,
    token: Optional[str] = None,
    token_file: Optional[PathLike] = None,
    ca: Optional[PathLike] = None,
    client_cert: Optional[PathLike] = None,
    client_key: Optional[PathLike] = None,
    server_name: Optional[str] = None,
    allow_plaintext_token: Optional[bool] = None,
    timeout: Optional[float] = None,
    retry_for: Optional[float] = None,
) -> Client:
    """A client of the gateway at `endpoint`: `http://host:port` or `https://host:port`, or several of them, used in turn.

    What is not given is taken from the environment, by the names that the command `forebay` has (FOREBAY_ENDPOINT, FOREBAY_TOKEN,
    FOREBAY_TOKEN_FILE, FOREBAY_CA, ...), and else has the defaults of `ConnectOptions`, which says what each option is. Nothing is
    sent yet: the connection is made by the first call, and again whenever it breaks. Raises `ValueError` for options that cannot be.
    """
    return Client(
        ConnectOptions.from_env(
            endpoint=endpoint,
            token=token,
            token_file=token_file,
            ca=ca,
            client_cert=client_cert,
            client_key=client_key,
            server_name=server_name,
            allow_plaintext_token=allow_plaintext_token,
            timeout=timeout,
            retry_for=retry_for,
        )
    )


class Client:
    """A gateway, or several. A context manager; `close` ends its connections.

    Every method raises a `CallError` (`Unavailable`, `DeadlineExceeded`, `PermissionDenied`, ...) where its call fails, and
    `ValueError` or `TypeError` for wrong arguments before anything is sent. `timeout` is in seconds and for the call with all its
    attempts; None means the client's.
    """

    def __init__(self, options: ConnectOptions) -> None:
        self.options = options
        self._channel = open_channel(options)
        self._reads: Any = ReadServiceStub(self._channel)
        self._tables: Any = TableServiceStub(self._channel)
        self._ingest: Any = IngestServiceStub(self._channel)
        self._decoders = Decoders()
        self._known = KnownTables()

    def __repr__(self) -> str:
        return f"forebay.Client({self.options.endpoint!r})"

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def close(self) -> None:
        """Ends the connections. Calls that are under way end, too."""
        self._channel.close()

    # Reads.

    def get(
        self,
        table: str,
        key: Key,
        *,
        columns: Optional[Sequence[str]] = None,
        consistent: bool = False,
        timeout: Optional[float] = None,
    ) -> RowResult:
        """Reads one row.

        `key` is a scalar where the key is one column, a tuple of the key's columns (partition columns first), or a dict of them.
        `columns` are those to return; None for all. `consistent` sees every confirmed write, at twice the price.

        That there is no row is no error: the result is false then, and its `status` says why.
        """
        attempts = attempts_of(self.options, timeout)
        request = read_pb2.GetRowRequest(
            table=table, columns=column_names(columns), consistency=consistency(consistent)
        )
        self._key_encoder(table, attempts).row_key(key, request.key)
        answer = self._read(self._reads.GetRow, request, attempts)
        return row_result(answer.status, answer.row, answer.message, self._decoders.of(answer.columns))

    def get_many(
        self,
        table: str,
        keys: Sequence[Key],
        *,
        columns: Optional[Sequence[str]] = None,
        consistent: bool = False,
        timeout: Optional[float] = None,
    ) -> List[RowResult]:
        """Reads any number of rows of one table, 1,000 in a call; one result for each key, in the order of the keys.

        When the time is over, or the gateways are gone, after some keys were answered, the others are UNAVAILABLE. A table that is
        not there, or not the caller's to read, makes its keys DENIED.
        """
        requests = [(table, keys, columns)]
        return self.get_batch(requests, consistent=consistent, timeout=timeout)[0]

    def get_batch(
        self,
        requests: Sequence[Tuple[str, Sequence[Key], Optional[Sequence[str]]]],
        *,
        consistent: bool = False,
        timeout: Optional[float] = None,
    ) -> List[List[RowResult]]:
        """As `get_many`, for several tables at once: `(table, keys, columns)` each, with None for all columns."""
        attempts = attempts_of(self.options, timeout)
        many = ManyRead(requests, consistent=consistent, decoders=self._decoders)
        encoders: Dict[str, KeyEncoder] = {}
        denied: Dict[str, str] = {}
        for table in many.tables:
            try:
                encoders[table] = self._key_encoder(table, attempts)
            except (PermissionDenied, NotFound) as error:
                denied[table] = error.message
        many.encode(encoders, denied)
        while True:
            chunks = many.next_chunks()
            if not chunks:
                return many.results()
            # One call is made at once; several are under way together.
            start = self._reads.BatchGetRows.future
            several = chunks if len(chunks) > 1 else []
            calls = [start(many.request(chunk), timeout=self._left(attempts)) for chunk in several]
            try:
                for at, chunk in enumerate(chunks):
                    many.take(chunk, self._answer(calls[at] if calls else None, many.request(chunk), attempts))
            except (DeadlineExceeded, RateLimited, Unavailable) as error:
                if not many.answered:
                    raise
                many.give_up(str(error))
            finally:
                for call in calls:
                    call.cancel()

    def _answer(self, call: Any, request: read_pb2.BatchGetRowsRequest, attempts: Attempts) -> Any:
        """The answer of a call that is under way; another call is made where it fails and that may help."""
        if call is not None:
            try:
                return call.result()
            except grpc.RpcError as error:
                self._pause(error, attempts)
        return self._read(self._reads.BatchGetRows, request, attempts)

    def get_range(
        self,
        table: str,
        partition: Key,
        *,
        sort_from: Optional[Key] = None,
        sort_to: Optional[Key] = None,
        limit: Optional[int] = None,
        descending: bool = False,
        columns: Optional[Sequence[str]] = None,
        consistent: bool = False,
        timeout: Optional[float] = None,
    ) -> Iterator[Dict[str, Any]]:
        """The rows under one partition key, in the order of their sort keys, as dicts; fetched as they are asked for.

        `sort_from` is included, `sort_to` is not, also with `descending`. `partition` and both bounds have the forms of a key. Rows
        whose time to live has passed are left out. After a broken call the iterator goes on from the last row; an iterator that ends
        without an exception is whole. `timeout` is for the range as a whole; None for none: then each page has 2 seconds.
        """
        encoder = self._key_encoder(table, attempts_of(self.options, None))
        read = RangeRead(
            encoder,
            partition,
            sort_from=sort_from,
            sort_to=sort_to,
            limit=limit,
            descending=descending,
            columns=columns,
            consistent=consistent,
            decoders=self._decoders,
        )
        return self._range(read, None if timeout is None else time.monotonic() + timeout)

    def _range(self, read: RangeRead, until: Optional[float]) -> Iterator[Dict[str, Any]]:
        attempts = attempts_of(self.options, None)
        while not read.done:
            left = None if until is None else max(until - time.monotonic(), 0.0)
            call = self._reads.ReadRange(read.request(), timeout=left)
            try:
                for message in call:
                    yield from read.take(message)
                    attempts = attempts_of(self.options, None)
                return
            except grpc.RpcError as error:
                self._pause(error, attempts)
            finally:
                # Whoever stops reading stops the gateway's reading, too.
                call.cancel()

    # Writes.

    def write(
        self,
        table: str,
        data: Any,
        *,
        mode: Optional[str] = None,
        atomic: bool = False,
        rejects: str = "raise",
        timeout: Optional[float] = None,
        **options: Any,
    ) -> WriteResult:
        """Writes rows and waits until each has an outcome.

        `data` is a dict, an iterable of dicts, a pandas DataFrame, or a pyarrow RecordBatch, Table or RecordBatchReader. Up to 1,000 rows
        are one call, which `timeout` bounds; more open a session, which goes on for as long as it makes progress (`retry_for`). Dicts
        have the keys of the first one; one that lacks a key has a null there, but for `mode="merge"`, where that is an error.

        `mode` is put (the default), merge, insert or delete; `atomic` writes all rows or none (at most 100). The other options are
        those of `writer`. Raises `RowsRejected` where rows were not written; with `rejects="return"` they are in the result instead.

        A call that breaks is made again with the same rows: that is safe in every mode, also where they were written the first time. In a
        table without `sequence_by` they may then come after a newer row that another writer has sent meanwhile, and stay.
        """
        _writing.check_rejects(rejects)
        attempts = attempts_of(self.options, timeout)
        opening = Opening.try_new(table, mode=mode, **_writing.without_session_options(options))
        few, data = _writing.is_few(data)
        if few and _writing.is_empty(data):
            return WriteResult(Receipt())
        request = None
        if few:
            definition = None
            if not is_arrow_data(data):
                definition = self._table(table, attempts)
                if _writing.unknown_columns(data, definition):
                    definition = self._table(table, attempts, fresh=True)
            request = _writing.request(opening, definition, data, atomic=atomic)
        if request is not None:
            return _writing.settle(_writing.result(self._unary(self._ingest.WriteRows, request, attempts)), rejects)
        with Writer(self.options, table, mode=mode, **options) as writer:
            writer.send(data, atomic=atomic)
            receipt = writer.finish()
        return _writing.settle(WriteResult(receipt, tuple(writer.outcomes)), rejects)

    def writer(
        self,
        table: str,
        *,
        mode: Optional[str] = None,
        op_column: Optional[str] = None,
        columns: Optional[Sequence[str]] = None,
        arrow_schema: Any = None,
        spark_schema_json: Optional[str] = None,
        producer_id: Optional[str] = None,
        epoch: Optional[int] = None,
        on_missing: Optional[str] = None,
        row_deadline: Optional[float] = None,
        priority: Optional[str] = None,
        merge_schema: bool = False,
        store_assignment: Optional[str] = None,
        validate_only: bool = False,
        batch_bytes: Optional[int] = None,
        compression: Optional[str] = None,
        retry_for: float = 300.0,
        resend: bool = True,
        on_outcome: Optional[Callable[[Outcome], None]] = None,
    ) -> Writer:
        """Opens a session that writes rows to one table, over a connection of its own. A context manager:

            with client.writer("card_features") as writer:
                for batch in batches:
                    writer.send(batch)

        - `mode`: what a row does: put (default), merge, insert or delete; or `op_column`, a column of the rows that says it row by row.
        - `columns`: the columns of the rows; else the keys of the first dict, or those of the Arrow data.
        - `arrow_schema`, `spark_schema_json`: the schema of the Arrow batches that will come, and Spark's own words for it.
        - `producer_id`, `epoch`: who writes, across restarts; an older epoch is fenced (`Fenced`).
        - `on_missing`: what becomes of columns that the session does not carry: leave_unchanged, null or default.
        - `row_deadline`: seconds that a row may wait for DynamoDB. `priority`: interactive (default) or bulk.
        - `merge_schema`: adds columns that the table does not have. `store_assignment`: strict, ansi or legacy; None for the table's.
        - `validate_only`: checks every row, writes none.
        - `batch_bytes`: the size of a message; None for what the gateway suggests. `compression` of Arrow batches: lz4 or zstd.
        - `retry_for`: seconds without progress after which the session gives up. `resend`: rows that were not written by their deadline
          are sent again.
        - `on_outcome`: called for each row that is not plainly committed; without it outcomes are kept in `writer.outcomes`.
        """
        return Writer(
            self.options,
            table,
            mode=mode,
            op_column=op_column,
            columns=columns,
            arrow_schema=arrow_schema,
            spark_schema_json=spark_schema_json,
            producer_id=producer_id,
            epoch=epoch,
            on_missing=on_missing,
            row_deadline=row_deadline,
            priority=priority,
            merge_schema=merge_schema,
            store_assignment=store_assignment,
            validate_only=validate_only,
            batch_bytes=batch_bytes,
            compression=compression,
            retry_for=retry_for,
            resend=resend,
            on_outcome=on_outcome,
        )

    # Tables.

    def apply_table(
        self, table: tables.Definition, *, dry_run: bool = False, timeout: Optional[float] = None, **definition: Any
    ) -> tables.AppliedTable:
        """Makes the table be as described: creates it, binds a DynamoDB table that is there, or evolves the schema. Doing it twice
        changes nothing; `dry_run` only says what would change.

        `table` is its name, with the definition as keywords, or a dict that has all of it, by the keys of a table file (`ddl` or
        `schema`, `key`, `sequence_by`, `ttl_column`, ...), or the protocol's message:

            client.apply_table("card_features", ddl="card STRING NOT NULL, score DOUBLE", key="card")

        `schema` may be a pyarrow schema, a pyspark StructType, or the JSON of one. Raises `InvalidRequest` with the field's path
        where the gateway refuses.
        """
        request = table_pb2.ApplyTableRequest(table=tables.definition(table, definition), dry_run=dry_run)
        answer = self._unary(
            self._tables.ApplyTable, request, attempts_of(self.options, timeout, TABLE_CHANGE_TIMEOUT_SECONDS)
        )
        return tables.applied(answer)

    def get_table(
        self, name: str, *, schema_version: Optional[int] = None, timeout: Optional[float] = None
    ) -> tables.Table:
        """A table's definition, the newest or that of a version.

        Raises `NotFound`, or `PermissionDenied` where the caller may not even know that.
        """
        request = table_pb2.GetTableRequest(name=name, schema_version=schema_version or 0)
        return tables.got(self._unary(self._tables.GetTable, request, attempts_of(self.options, timeout)))

    def list_tables(self, *, timeout: Optional[float] = None) -> List[tables.TableSummary]:
        """The tables that the caller may see, by name."""
        attempts = attempts_of(self.options, timeout)
        request = table_pb2.ListTablesRequest()
        found: List[tables.TableSummary] = []
        while True:
            page = self._unary(self._tables.ListTables, request, attempts)
            found.extend(tables.summaries(page))
            if not page.next_page_token:
                return found
            request = table_pb2.ListTablesRequest(page_token=page.next_page_token)

    def drop_table(self, name: str, *, force: bool = False, timeout: Optional[float] = None) -> bool:
        """Drops a table; whether its DynamoDB table was deleted.

        One that was there before Forebay is only unbound. One that Forebay created is deleted with all its rows, which needs `force`.
        """
        request = table_pb2.DropTableRequest(name=name, force=force)
        attempts = attempts_of(self.options, timeout, TABLE_CHANGE_TIMEOUT_SECONDS)
        deleted = self._unary(self._tables.DropTable, request, attempts).deleted
        self._known.forget()
        return bool(deleted)

    # Calls.

    def _key_encoder(self, table: str, attempts: Attempts) -> KeyEncoder:
        found = self._known.keys(table)
        return KeyEncoder(self._table(table, attempts, fresh=True)) if found is None else found

    def _table(self, table: str, attempts: Attempts, *, fresh: bool = False) -> table_pb2.Table:
        """The table's definition, at most a little old unless `fresh`."""
        found = None if fresh else self._known.table(table, time.monotonic())
        if found is None:
            answer = self._unary(self._tables.GetTable, table_pb2.GetTableRequest(name=table), attempts)
            found = self._known.learn(answer.table, time.monotonic())
        return found

    def _read(self, method: Callable[..., Any], request: Any, attempts: Attempts) -> Any:
        try:
            return self._unary(method, request, attempts)
        except (InvalidRequest, NotFound, PermissionDenied):
            # The table may have been dropped and made anew, with another key.
            self._known.forget()
            raise

    def _unary(self, method: Callable[..., Any], request: Any, attempts: Attempts) -> Any:
        while True:
            try:
                return method(request, timeout=self._left(attempts))
            except grpc.RpcError as error:
                self._pause(error, attempts)

    @staticmethod
    def _left(attempts: Attempts) -> float:
        return attempts.left(time.monotonic())

    @staticmethod
    def _pause(error: grpc.RpcError, attempts: Attempts) -> None:
        """Waits until the call is to be made again, or raises."""
        failed: CallError = call_error(error)
        pause = attempts.pause(failed, time.monotonic(), random.random())
        if pause is None:
            raise failed from None
        time.sleep(pause)


def attempts_of(options: ConnectOptions, timeout: Optional[float], otherwise: Optional[float] = None) -> Attempts:
    """The attempts of a call that begins now. Raises `ValueError` for a `timeout` that is none."""
    if timeout is None:
        timeout = otherwise or options.timeout
    elif isinstance(timeout, bool) or not isinstance(timeout, (int, float)) or not timeout > 0:
        raise ValueError("timeout: expected a number of seconds above 0")
    return Attempts(time.monotonic(), timeout, options.retry_for)
