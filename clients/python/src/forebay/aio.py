"""The asyncio client: the methods of `forebay.Client`, to be awaited.

    client = forebay.aio.connect("http://127.0.0.1:50051")
    row = await client.get("card_features", "4711")

Thin: requests and answers are made by `_reading`, `_schema` and `tables`, which `client` uses, too. A client belongs to the event loop in
which it is made.
"""

from __future__ import annotations

import asyncio
import random
import time
from typing import Any, AsyncIterator, Callable, Dict, List, Optional, Sequence, Tuple, Union

import grpc

from . import _writing, tables
from ._channel import open_aio_channel
from ._opening import Opening
from ._payload import is_arrow_data
from ._reading import Decoders, ManyRead, RangeRead, column_names, consistency, row_result
from ._retry import Attempts
from ._schema import KeyEncoder, KnownTables
from ._status import call_error
from .aio_writer import AsyncWriter
from .client import TABLE_CHANGE_TIMEOUT_SECONDS, Key, attempts_of
from .errors import CallError, DeadlineExceeded, InvalidRequest, NotFound, PermissionDenied, RateLimited, Unavailable
from .options import ConnectOptions, PathLike
from .results import Outcome, Receipt, RowResult, WriteResult
from .v1 import read_pb2, table_pb2
from .v1.ingest_pb2_grpc import IngestServiceStub
from .v1.read_pb2_grpc import ReadServiceStub
from .v1.table_pb2_grpc import TableServiceStub


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
) -> AsyncClient:
    """As `forebay.connect`, for asyncio: with the same arguments, the environment included. Needs a running event loop."""
    return AsyncClient(
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


class AsyncClient:
    """A gateway, or several. An asynchronous context manager; `close` ends its connections.

    The methods take what those of `forebay.Client` take, give what they give, and raise what they raise.
    """

    def __init__(self, options: ConnectOptions) -> None:
        self.options = options
        self._channel = open_aio_channel(options)
        self._reads: Any = ReadServiceStub(self._channel)
        self._tables: Any = TableServiceStub(self._channel)
        self._ingest: Any = IngestServiceStub(self._channel)
        self._decoders = Decoders()
        self._known = KnownTables()

    def __repr__(self) -> str:
        return f"forebay.aio.AsyncClient({self.options.endpoint!r})"

    async def __aenter__(self) -> AsyncClient:
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Ends the connections. Calls that are under way end, too."""
        await self._channel.close(None)

    # Reads.

    async def get(
        self,
        table: str,
        key: Key,
        *,
        columns: Optional[Sequence[str]] = None,
        consistent: bool = False,
        timeout: Optional[float] = None,
    ) -> RowResult:
        """As `forebay.Client.get`."""
        attempts = attempts_of(self.options, timeout)
        request = read_pb2.GetRowRequest(
            table=table, columns=column_names(columns), consistency=consistency(consistent)
        )
        (await self._key_encoder(table, attempts)).row_key(key, request.key)
        answer = await self._read(self._reads.GetRow, request, attempts)
        return row_result(answer.status, answer.row, answer.message, self._decoders.of(answer.columns))

    async def get_many(
        self,
        table: str,
        keys: Sequence[Key],
        *,
        columns: Optional[Sequence[str]] = None,
        consistent: bool = False,
        timeout: Optional[float] = None,
    ) -> List[RowResult]:
        """As `forebay.Client.get_many`."""
        requests = [(table, keys, columns)]
        return (await self.get_batch(requests, consistent=consistent, timeout=timeout))[0]

    async def get_batch(
        self,
        requests: Sequence[Tuple[str, Sequence[Key], Optional[Sequence[str]]]],
        *,
        consistent: bool = False,
        timeout: Optional[float] = None,
    ) -> List[List[RowResult]]:
        """As `forebay.Client.get_batch`."""
        attempts = attempts_of(self.options, timeout)
        many = ManyRead(requests, consistent=consistent, decoders=self._decoders)
        encoders: Dict[str, KeyEncoder] = {}
        denied: Dict[str, str] = {}
        for table in many.tables:
            try:
                encoders[table] = await self._key_encoder(table, attempts)
            except (PermissionDenied, NotFound) as error:
                denied[table] = error.message
        many.encode(encoders, denied)
        while True:
            chunks = many.next_chunks()
            if not chunks:
                return many.results()
            answers = await asyncio.gather(
                *(self._read(self._reads.BatchGetRows, many.request(chunk), attempts) for chunk in chunks),
                return_exceptions=True,
            )
            for chunk, answer in zip(chunks, answers):
                if not isinstance(answer, BaseException):
                    many.take(chunk, answer)
            for failed in answers:
                if isinstance(failed, BaseException):
                    if not many.answered or not isinstance(failed, (DeadlineExceeded, RateLimited, Unavailable)):
                        raise failed
                    many.give_up(str(failed))

    async def get_range(
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
    ) -> AsyncIterator[Dict[str, Any]]:
        """As `forebay.Client.get_range`: `async for row in client.get_range(...)`."""
        until = None if timeout is None else time.monotonic() + timeout
        attempts = attempts_of(self.options, None)
        read = RangeRead(
            await self._key_encoder(table, attempts),
            partition,
            sort_from=sort_from,
            sort_to=sort_to,
            limit=limit,
            descending=descending,
            columns=columns,
            consistent=consistent,
            decoders=self._decoders,
        )
        while not read.done:
            left = None if until is None else max(until - time.monotonic(), 0.0)
            call = self._reads.ReadRange(read.request(), timeout=left)
            try:
                async for message in call:
                    for row in read.take(message):
                        yield row
                    attempts = attempts_of(self.options, None)
                return
            except grpc.RpcError as error:
                await self._pause(error, attempts)
            finally:
                # Whoever stops reading stops the gateway's reading, too.
                call.cancel()

    # Writes.

    async def write(
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
        """As `forebay.Client.write`. Data are taken as they are there: an iterable, not an asynchronous one."""
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
                definition = await self._table(table, attempts)
                if _writing.unknown_columns(data, definition):
                    definition = await self._table(table, attempts, fresh=True)
            request = _writing.request(opening, definition, data, atomic=atomic)
        if request is not None:
            answer = await self._unary(self._ingest.WriteRows, request, attempts)
            return _writing.settle(_writing.result(answer), rejects)
        async with self.writer(table, mode=mode, **options) as writer:
            await writer.send(data, atomic=atomic)
            receipt = await writer.finish()
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
    ) -> AsyncWriter:
        """Opens a session that writes rows to one table, over a connection of its own: as `forebay.Client.writer`.

            async with client.writer("card_features") as writer:
                await writer.send(rows)
        """
        return AsyncWriter(
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

    async def apply_table(
        self, table: tables.Definition, *, dry_run: bool = False, timeout: Optional[float] = None, **definition: Any
    ) -> tables.AppliedTable:
        """As `forebay.Client.apply_table`."""
        request = table_pb2.ApplyTableRequest(table=tables.definition(table, definition), dry_run=dry_run)
        answer = await self._unary(
            self._tables.ApplyTable, request, attempts_of(self.options, timeout, TABLE_CHANGE_TIMEOUT_SECONDS)
        )
        return tables.applied(answer)

    async def get_table(
        self, name: str, *, schema_version: Optional[int] = None, timeout: Optional[float] = None
    ) -> tables.Table:
        """As `forebay.Client.get_table`."""
        request = table_pb2.GetTableRequest(name=name, schema_version=schema_version or 0)
        return tables.got(await self._unary(self._tables.GetTable, request, attempts_of(self.options, timeout)))

    async def list_tables(self, *, timeout: Optional[float] = None) -> List[tables.TableSummary]:
        """As `forebay.Client.list_tables`."""
        attempts = attempts_of(self.options, timeout)
        request = table_pb2.ListTablesRequest()
        found: List[tables.TableSummary] = []
        while True:
            page = await self._unary(self._tables.ListTables, request, attempts)
            found.extend(tables.summaries(page))
            if not page.next_page_token:
                return found
            request = table_pb2.ListTablesRequest(page_token=page.next_page_token)

    async def drop_table(self, name: str, *, force: bool = False, timeout: Optional[float] = None) -> bool:
        """As `forebay.Client.drop_table`."""
        request = table_pb2.DropTableRequest(name=name, force=force)
        attempts = attempts_of(self.options, timeout, TABLE_CHANGE_TIMEOUT_SECONDS)
        answer = await self._unary(self._tables.DropTable, request, attempts)
        self._known.forget()
        return bool(answer.deleted)

    # Calls.

    async def _key_encoder(self, table: str, attempts: Attempts) -> KeyEncoder:
        found = self._known.keys(table)
        return KeyEncoder(await self._table(table, attempts, fresh=True)) if found is None else found

    async def _table(self, table: str, attempts: Attempts, *, fresh: bool = False) -> table_pb2.Table:
        """The table's definition, at most a little old unless `fresh`."""
        found = None if fresh else self._known.table(table, time.monotonic())
        if found is None:
            answer = await self._unary(self._tables.GetTable, table_pb2.GetTableRequest(name=table), attempts)
            found = self._known.learn(answer.table, time.monotonic())
        return found

    async def _read(self, method: Callable[..., Any], request: Any, attempts: Attempts) -> Any:
        try:
            return await self._unary(method, request, attempts)
        except (InvalidRequest, NotFound, PermissionDenied):
            # The table may have been dropped and made anew, with another key.
            self._known.forget()
            raise

    async def _unary(self, method: Callable[..., Any], request: Any, attempts: Attempts) -> Any:
        while True:
            try:
                return await method(request, timeout=attempts.left(time.monotonic()))
            except grpc.RpcError as error:
                await self._pause(error, attempts)

    @staticmethod
    async def _pause(error: grpc.RpcError, attempts: Attempts) -> None:
        """Waits until the call is to be made again, or raises."""
        failed: CallError = call_error(error)
        pause = attempts.pause(failed, time.monotonic(), random.random())
        if pause is None:
            raise failed from None
        await asyncio.sleep(pause)
