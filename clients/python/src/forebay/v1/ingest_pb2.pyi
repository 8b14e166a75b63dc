from forebay.v1 import types_pb2 as _types_pb2
from google.protobuf import duration_pb2 as _duration_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from typing import ClassVar as _ClassVar, Iterable as _Iterable, Mapping as _Mapping, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class WriteMode(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    WRITE_MODE_UNSPECIFIED: _ClassVar[WriteMode]
    WRITE_MODE_PUT: _ClassVar[WriteMode]
    WRITE_MODE_MERGE: _ClassVar[WriteMode]
    WRITE_MODE_INSERT: _ClassVar[WriteMode]
    WRITE_MODE_DELETE: _ClassVar[WriteMode]

class OnMissing(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    ON_MISSING_UNSPECIFIED: _ClassVar[OnMissing]
    ON_MISSING_LEAVE_UNCHANGED: _ClassVar[OnMissing]
    ON_MISSING_NULL: _ClassVar[OnMissing]
    ON_MISSING_DEFAULT: _ClassVar[OnMissing]

class Priority(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    PRIORITY_UNSPECIFIED: _ClassVar[Priority]
    PRIORITY_INTERACTIVE: _ClassVar[Priority]
    PRIORITY_BULK: _ClassVar[Priority]

class Evolve(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    EVOLVE_UNSPECIFIED: _ClassVar[Evolve]
    EVOLVE_OFF: _ClassVar[Evolve]
    EVOLVE_ADD_COLUMNS: _ClassVar[Evolve]

class RowStatus(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    ROW_STATUS_UNSPECIFIED: _ClassVar[RowStatus]
    ROW_STATUS_COMMITTED: _ClassVar[RowStatus]
    ROW_STATUS_SUPERSEDED: _ClassVar[RowStatus]
    ROW_STATUS_REJECTED: _ClassVar[RowStatus]
    ROW_STATUS_RETRYABLE: _ClassVar[RowStatus]
    ROW_STATUS_UNKNOWN: _ClassVar[RowStatus]

class RowReason(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    ROW_REASON_UNSPECIFIED: _ClassVar[RowReason]
    ROW_REASON_TYPE_MISMATCH: _ClassVar[RowReason]
    ROW_REASON_OUT_OF_RANGE: _ClassVar[RowReason]
    ROW_REASON_INEXACT: _ClassVar[RowReason]
    ROW_REASON_NULL_NOT_ALLOWED: _ClassVar[RowReason]
    ROW_REASON_NON_FINITE: _ClassVar[RowReason]
    ROW_REASON_TOO_LONG: _ClassVar[RowReason]
    ROW_REASON_UNKNOWN_FIELD: _ClassVar[RowReason]
    ROW_REASON_SURPLUS_VALUE: _ClassVar[RowReason]
    ROW_REASON_KEY_EMPTY: _ClassVar[RowReason]
    ROW_REASON_KEY_TOO_LONG: _ClassVar[RowReason]
    ROW_REASON_ITEM_TOO_LARGE: _ClassVar[RowReason]
    ROW_REASON_TOO_DEEP: _ClassVar[RowReason]
    ROW_REASON_DUPLICATE_MAP_KEY: _ClassVar[RowReason]
    ROW_REASON_MALFORMED: _ClassVar[RowReason]
    ROW_REASON_BACKEND_VALIDATION: _ClassVar[RowReason]
    ROW_REASON_ALREADY_EXISTS: _ClassVar[RowReason]
    ROW_REASON_STALE_MERGE: _ClassVar[RowReason]
    ROW_REASON_ATOMIC_PEER: _ClassVar[RowReason]
    ROW_REASON_PARTITION_THROTTLED: _ClassVar[RowReason]
    ROW_REASON_TABLE_THROTTLED: _ClassVar[RowReason]
    ROW_REASON_BACKEND_UNAVAILABLE: _ClassVar[RowReason]
    ROW_REASON_DUPLICATE_KEY: _ClassVar[RowReason]

class DrainReason(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    DRAIN_REASON_UNSPECIFIED: _ClassVar[DrainReason]
    DRAIN_REASON_SHUTDOWN: _ClassVar[DrainReason]
    DRAIN_REASON_CONNECTION_AGE: _ClassVar[DrainReason]
    DRAIN_REASON_TOKEN_EXPIRY: _ClassVar[DrainReason]
    DRAIN_REASON_REVOKED: _ClassVar[DrainReason]
WRITE_MODE_UNSPECIFIED: WriteMode
WRITE_MODE_PUT: WriteMode
WRITE_MODE_MERGE: WriteMode
WRITE_MODE_INSERT: WriteMode
WRITE_MODE_DELETE: WriteMode
ON_MISSING_UNSPECIFIED: OnMissing
ON_MISSING_LEAVE_UNCHANGED: OnMissing
ON_MISSING_NULL: OnMissing
ON_MISSING_DEFAULT: OnMissing
PRIORITY_UNSPECIFIED: Priority
PRIORITY_INTERACTIVE: Priority
PRIORITY_BULK: Priority
EVOLVE_UNSPECIFIED: Evolve
EVOLVE_OFF: Evolve
EVOLVE_ADD_COLUMNS: Evolve
ROW_STATUS_UNSPECIFIED: RowStatus
ROW_STATUS_COMMITTED: RowStatus
ROW_STATUS_SUPERSEDED: RowStatus
ROW_STATUS_REJECTED: RowStatus
ROW_STATUS_RETRYABLE: RowStatus
ROW_STATUS_UNKNOWN: RowStatus
ROW_REASON_UNSPECIFIED: RowReason
ROW_REASON_TYPE_MISMATCH: RowReason
ROW_REASON_OUT_OF_RANGE: RowReason
ROW_REASON_INEXACT: RowReason
ROW_REASON_NULL_NOT_ALLOWED: RowReason
ROW_REASON_NON_FINITE: RowReason
ROW_REASON_TOO_LONG: RowReason
ROW_REASON_UNKNOWN_FIELD: RowReason
ROW_REASON_SURPLUS_VALUE: RowReason
ROW_REASON_KEY_EMPTY: RowReason
ROW_REASON_KEY_TOO_LONG: RowReason
ROW_REASON_ITEM_TOO_LARGE: RowReason
ROW_REASON_TOO_DEEP: RowReason
ROW_REASON_DUPLICATE_MAP_KEY: RowReason
ROW_REASON_MALFORMED: RowReason
ROW_REASON_BACKEND_VALIDATION: RowReason
ROW_REASON_ALREADY_EXISTS: RowReason
ROW_REASON_STALE_MERGE: RowReason
ROW_REASON_ATOMIC_PEER: RowReason
ROW_REASON_PARTITION_THROTTLED: RowReason
ROW_REASON_TABLE_THROTTLED: RowReason
ROW_REASON_BACKEND_UNAVAILABLE: RowReason
ROW_REASON_DUPLICATE_KEY: RowReason
DRAIN_REASON_UNSPECIFIED: DrainReason
DRAIN_REASON_SHUTDOWN: DrainReason
DRAIN_REASON_CONNECTION_AGE: DrainReason
DRAIN_REASON_TOKEN_EXPIRY: DrainReason
DRAIN_REASON_REVOKED: DrainReason

class WriteRequest(_message.Message):
    __slots__ = ("open", "batch", "flush", "finish")
    OPEN_FIELD_NUMBER: _ClassVar[int]
    BATCH_FIELD_NUMBER: _ClassVar[int]
    FLUSH_FIELD_NUMBER: _ClassVar[int]
    FINISH_FIELD_NUMBER: _ClassVar[int]
    open: Open
    batch: Batch
    flush: Flush
    finish: Finish
    def __init__(self, open: _Optional[_Union[Open, _Mapping]] = ..., batch: _Optional[_Union[Batch, _Mapping]] = ..., flush: _Optional[_Union[Flush, _Mapping]] = ..., finish: _Optional[_Union[Finish, _Mapping]] = ...) -> None: ...

class WriteResponse(_message.Message):
    __slots__ = ("opened", "ack", "window", "schema_changed", "drain", "flushed", "finished")
    OPENED_FIELD_NUMBER: _ClassVar[int]
    ACK_FIELD_NUMBER: _ClassVar[int]
    WINDOW_FIELD_NUMBER: _ClassVar[int]
    SCHEMA_CHANGED_FIELD_NUMBER: _ClassVar[int]
    DRAIN_FIELD_NUMBER: _ClassVar[int]
    FLUSHED_FIELD_NUMBER: _ClassVar[int]
    FINISHED_FIELD_NUMBER: _ClassVar[int]
    opened: Opened
    ack: Ack
    window: Window
    schema_changed: SchemaChanged
    drain: Drain
    flushed: Flushed
    finished: Finished
    def __init__(self, opened: _Optional[_Union[Opened, _Mapping]] = ..., ack: _Optional[_Union[Ack, _Mapping]] = ..., window: _Optional[_Union[Window, _Mapping]] = ..., schema_changed: _Optional[_Union[SchemaChanged, _Mapping]] = ..., drain: _Optional[_Union[Drain, _Mapping]] = ..., flushed: _Optional[_Union[Flushed, _Mapping]] = ..., finished: _Optional[_Union[Finished, _Mapping]] = ...) -> None: ...

class Open(_message.Message):
    __slots__ = ("table", "columns", "arrow_schema", "spark_schema_json", "mode", "op_column", "producer_id", "epoch", "on_missing", "row_deadline", "priority", "validate_only", "evolve", "store_assignment")
    TABLE_FIELD_NUMBER: _ClassVar[int]
    COLUMNS_FIELD_NUMBER: _ClassVar[int]
    ARROW_SCHEMA_FIELD_NUMBER: _ClassVar[int]
    SPARK_SCHEMA_JSON_FIELD_NUMBER: _ClassVar[int]
    MODE_FIELD_NUMBER: _ClassVar[int]
    OP_COLUMN_FIELD_NUMBER: _ClassVar[int]
    PRODUCER_ID_FIELD_NUMBER: _ClassVar[int]
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    ON_MISSING_FIELD_NUMBER: _ClassVar[int]
    ROW_DEADLINE_FIELD_NUMBER: _ClassVar[int]
    PRIORITY_FIELD_NUMBER: _ClassVar[int]
    VALIDATE_ONLY_FIELD_NUMBER: _ClassVar[int]
    EVOLVE_FIELD_NUMBER: _ClassVar[int]
    STORE_ASSIGNMENT_FIELD_NUMBER: _ClassVar[int]
    table: str
    columns: _types_pb2.Schema
    arrow_schema: bytes
    spark_schema_json: str
    mode: WriteMode
    op_column: str
    producer_id: str
    epoch: int
    on_missing: OnMissing
    row_deadline: _duration_pb2.Duration
    priority: Priority
    validate_only: bool
    evolve: Evolve
    store_assignment: _types_pb2.StoreAssignment
    def __init__(self, table: _Optional[str] = ..., columns: _Optional[_Union[_types_pb2.Schema, _Mapping]] = ..., arrow_schema: _Optional[bytes] = ..., spark_schema_json: _Optional[str] = ..., mode: _Optional[_Union[WriteMode, str]] = ..., op_column: _Optional[str] = ..., producer_id: _Optional[str] = ..., epoch: _Optional[int] = ..., on_missing: _Optional[_Union[OnMissing, str]] = ..., row_deadline: _Optional[_Union[_duration_pb2.Duration, _Mapping]] = ..., priority: _Optional[_Union[Priority, str]] = ..., validate_only: bool = ..., evolve: _Optional[_Union[Evolve, str]] = ..., store_assignment: _Optional[_Union[_types_pb2.StoreAssignment, str]] = ...) -> None: ...

class Opened(_message.Message):
    __slots__ = ("session_id", "schema", "schema_version", "limits", "window")
    SESSION_ID_FIELD_NUMBER: _ClassVar[int]
    SCHEMA_FIELD_NUMBER: _ClassVar[int]
    SCHEMA_VERSION_FIELD_NUMBER: _ClassVar[int]
    LIMITS_FIELD_NUMBER: _ClassVar[int]
    WINDOW_FIELD_NUMBER: _ClassVar[int]
    session_id: str
    schema: _types_pb2.Schema
    schema_version: int
    limits: Limits
    window: Window
    def __init__(self, session_id: _Optional[str] = ..., schema: _Optional[_Union[_types_pb2.Schema, _Mapping]] = ..., schema_version: _Optional[int] = ..., limits: _Optional[_Union[Limits, _Mapping]] = ..., window: _Optional[_Union[Window, _Mapping]] = ...) -> None: ...

class Limits(_message.Message):
    __slots__ = ("max_message_bytes", "target_batch_bytes", "max_batch_rows")
    MAX_MESSAGE_BYTES_FIELD_NUMBER: _ClassVar[int]
    TARGET_BATCH_BYTES_FIELD_NUMBER: _ClassVar[int]
    MAX_BATCH_ROWS_FIELD_NUMBER: _ClassVar[int]
    max_message_bytes: int
    target_batch_bytes: int
    max_batch_rows: int
    def __init__(self, max_message_bytes: _Optional[int] = ..., target_batch_bytes: _Optional[int] = ..., max_batch_rows: _Optional[int] = ...) -> None: ...

class Batch(_message.Message):
    __slots__ = ("batch_seq", "rows", "arrow", "atomic")
    BATCH_SEQ_FIELD_NUMBER: _ClassVar[int]
    ROWS_FIELD_NUMBER: _ClassVar[int]
    ARROW_FIELD_NUMBER: _ClassVar[int]
    ATOMIC_FIELD_NUMBER: _ClassVar[int]
    batch_seq: int
    rows: _types_pb2.RowBatch
    arrow: _types_pb2.ArrowBatch
    atomic: bool
    def __init__(self, batch_seq: _Optional[int] = ..., rows: _Optional[_Union[_types_pb2.RowBatch, _Mapping]] = ..., arrow: _Optional[_Union[_types_pb2.ArrowBatch, _Mapping]] = ..., atomic: bool = ...) -> None: ...

class Flush(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class Finish(_message.Message):
    __slots__ = ("batches", "rows")
    BATCHES_FIELD_NUMBER: _ClassVar[int]
    ROWS_FIELD_NUMBER: _ClassVar[int]
    batches: int
    rows: int
    def __init__(self, batches: _Optional[int] = ..., rows: _Optional[int] = ...) -> None: ...

class Ack(_message.Message):
    __slots__ = ("committed_through", "committed_ranges", "superseded_count", "outcomes")
    COMMITTED_THROUGH_FIELD_NUMBER: _ClassVar[int]
    COMMITTED_RANGES_FIELD_NUMBER: _ClassVar[int]
    SUPERSEDED_COUNT_FIELD_NUMBER: _ClassVar[int]
    OUTCOMES_FIELD_NUMBER: _ClassVar[int]
    committed_through: int
    committed_ranges: _containers.RepeatedCompositeFieldContainer[BatchRange]
    superseded_count: int
    outcomes: _containers.RepeatedCompositeFieldContainer[RowOutcome]
    def __init__(self, committed_through: _Optional[int] = ..., committed_ranges: _Optional[_Iterable[_Union[BatchRange, _Mapping]]] = ..., superseded_count: _Optional[int] = ..., outcomes: _Optional[_Iterable[_Union[RowOutcome, _Mapping]]] = ...) -> None: ...

class BatchRange(_message.Message):
    __slots__ = ("first", "last")
    FIRST_FIELD_NUMBER: _ClassVar[int]
    LAST_FIELD_NUMBER: _ClassVar[int]
    first: int
    last: int
    def __init__(self, first: _Optional[int] = ..., last: _Optional[int] = ...) -> None: ...

class RowOutcome(_message.Message):
    __slots__ = ("batch_seq", "row_index", "status", "reason", "field_path", "message", "retry_after", "declared_type", "found_type", "hint", "value")
    BATCH_SEQ_FIELD_NUMBER: _ClassVar[int]
    ROW_INDEX_FIELD_NUMBER: _ClassVar[int]
    STATUS_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    FIELD_PATH_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    RETRY_AFTER_FIELD_NUMBER: _ClassVar[int]
    DECLARED_TYPE_FIELD_NUMBER: _ClassVar[int]
    FOUND_TYPE_FIELD_NUMBER: _ClassVar[int]
    HINT_FIELD_NUMBER: _ClassVar[int]
    VALUE_FIELD_NUMBER: _ClassVar[int]
    batch_seq: int
    row_index: int
    status: RowStatus
    reason: RowReason
    field_path: str
    message: str
    retry_after: _duration_pb2.Duration
    declared_type: str
    found_type: str
    hint: str
    value: str
    def __init__(self, batch_seq: _Optional[int] = ..., row_index: _Optional[int] = ..., status: _Optional[_Union[RowStatus, str]] = ..., reason: _Optional[_Union[RowReason, str]] = ..., field_path: _Optional[str] = ..., message: _Optional[str] = ..., retry_after: _Optional[_Union[_duration_pb2.Duration, _Mapping]] = ..., declared_type: _Optional[str] = ..., found_type: _Optional[str] = ..., hint: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...

class Window(_message.Message):
    __slots__ = ("max_unacked_bytes", "max_unacked_batches")
    MAX_UNACKED_BYTES_FIELD_NUMBER: _ClassVar[int]
    MAX_UNACKED_BATCHES_FIELD_NUMBER: _ClassVar[int]
    max_unacked_bytes: int
    max_unacked_batches: int
    def __init__(self, max_unacked_bytes: _Optional[int] = ..., max_unacked_batches: _Optional[int] = ...) -> None: ...

class SchemaChanged(_message.Message):
    __slots__ = ("schema", "schema_version")
    SCHEMA_FIELD_NUMBER: _ClassVar[int]
    SCHEMA_VERSION_FIELD_NUMBER: _ClassVar[int]
    schema: _types_pb2.Schema
    schema_version: int
    def __init__(self, schema: _Optional[_Union[_types_pb2.Schema, _Mapping]] = ..., schema_version: _Optional[int] = ...) -> None: ...

class Drain(_message.Message):
    __slots__ = ("reason", "deadline")
    REASON_FIELD_NUMBER: _ClassVar[int]
    DEADLINE_FIELD_NUMBER: _ClassVar[int]
    reason: DrainReason
    deadline: _duration_pb2.Duration
    def __init__(self, reason: _Optional[_Union[DrainReason, str]] = ..., deadline: _Optional[_Union[_duration_pb2.Duration, _Mapping]] = ...) -> None: ...

class Flushed(_message.Message):
    __slots__ = ("committed_through", "receipt")
    COMMITTED_THROUGH_FIELD_NUMBER: _ClassVar[int]
    RECEIPT_FIELD_NUMBER: _ClassVar[int]
    committed_through: int
    receipt: Receipt
    def __init__(self, committed_through: _Optional[int] = ..., receipt: _Optional[_Union[Receipt, _Mapping]] = ...) -> None: ...

class Finished(_message.Message):
    __slots__ = ("receipt",)
    RECEIPT_FIELD_NUMBER: _ClassVar[int]
    receipt: Receipt
    def __init__(self, receipt: _Optional[_Union[Receipt, _Mapping]] = ...) -> None: ...

class Receipt(_message.Message):
    __slots__ = ("batches", "rows", "committed_rows", "superseded_rows", "rejected_rows", "retryable_rows", "unknown_rows", "write_units", "throttled_attempts", "coercions", "rate_limited_for")
    class CoercionsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: int
        def __init__(self, key: _Optional[str] = ..., value: _Optional[int] = ...) -> None: ...
    BATCHES_FIELD_NUMBER: _ClassVar[int]
    ROWS_FIELD_NUMBER: _ClassVar[int]
    COMMITTED_ROWS_FIELD_NUMBER: _ClassVar[int]
    SUPERSEDED_ROWS_FIELD_NUMBER: _ClassVar[int]
    REJECTED_ROWS_FIELD_NUMBER: _ClassVar[int]
    RETRYABLE_ROWS_FIELD_NUMBER: _ClassVar[int]
    UNKNOWN_ROWS_FIELD_NUMBER: _ClassVar[int]
    WRITE_UNITS_FIELD_NUMBER: _ClassVar[int]
    THROTTLED_ATTEMPTS_FIELD_NUMBER: _ClassVar[int]
    COERCIONS_FIELD_NUMBER: _ClassVar[int]
    RATE_LIMITED_FOR_FIELD_NUMBER: _ClassVar[int]
    batches: int
    rows: int
    committed_rows: int
    superseded_rows: int
    rejected_rows: int
    retryable_rows: int
    unknown_rows: int
    write_units: float
    throttled_attempts: int
    coercions: _containers.ScalarMap[str, int]
    rate_limited_for: _duration_pb2.Duration
    def __init__(self, batches: _Optional[int] = ..., rows: _Optional[int] = ..., committed_rows: _Optional[int] = ..., superseded_rows: _Optional[int] = ..., rejected_rows: _Optional[int] = ..., retryable_rows: _Optional[int] = ..., unknown_rows: _Optional[int] = ..., write_units: _Optional[float] = ..., throttled_attempts: _Optional[int] = ..., coercions: _Optional[_Mapping[str, int]] = ..., rate_limited_for: _Optional[_Union[_duration_pb2.Duration, _Mapping]] = ...) -> None: ...

class WriteRowsRequest(_message.Message):
    __slots__ = ("open", "rows", "arrow", "atomic")
    OPEN_FIELD_NUMBER: _ClassVar[int]
    ROWS_FIELD_NUMBER: _ClassVar[int]
    ARROW_FIELD_NUMBER: _ClassVar[int]
    ATOMIC_FIELD_NUMBER: _ClassVar[int]
    open: Open
    rows: _types_pb2.RowBatch
    arrow: _types_pb2.ArrowBatch
    atomic: bool
    def __init__(self, open: _Optional[_Union[Open, _Mapping]] = ..., rows: _Optional[_Union[_types_pb2.RowBatch, _Mapping]] = ..., arrow: _Optional[_Union[_types_pb2.ArrowBatch, _Mapping]] = ..., atomic: bool = ...) -> None: ...

class WriteRowsResponse(_message.Message):
    __slots__ = ("outcomes", "receipt")
    OUTCOMES_FIELD_NUMBER: _ClassVar[int]
    RECEIPT_FIELD_NUMBER: _ClassVar[int]
    outcomes: _containers.RepeatedCompositeFieldContainer[RowOutcome]
    receipt: Receipt
    def __init__(self, outcomes: _Optional[_Iterable[_Union[RowOutcome, _Mapping]]] = ..., receipt: _Optional[_Union[Receipt, _Mapping]] = ...) -> None: ...
