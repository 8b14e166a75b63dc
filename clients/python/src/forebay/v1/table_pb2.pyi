from forebay.v1 import ingest_pb2 as _ingest_pb2
from forebay.v1 import types_pb2 as _types_pb2
from google.protobuf import duration_pb2 as _duration_pb2
from google.protobuf import timestamp_pb2 as _timestamp_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from typing import ClassVar as _ClassVar, Iterable as _Iterable, Mapping as _Mapping, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Ownership(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    OWNERSHIP_UNSPECIFIED: _ClassVar[Ownership]
    OWNERSHIP_CREATED: _ClassVar[Ownership]
    OWNERSHIP_BOUND: _ClassVar[Ownership]

class UnknownFields(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    UNKNOWN_FIELDS_UNSPECIFIED: _ClassVar[UnknownFields]
    UNKNOWN_FIELDS_REJECT: _ClassVar[UnknownFields]
    UNKNOWN_FIELDS_DROP: _ClassVar[UnknownFields]

class Coalesce(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    COALESCE_UNSPECIFIED: _ClassVar[Coalesce]
    COALESCE_ON: _ClassVar[Coalesce]
    COALESCE_OFF: _ClassVar[Coalesce]

class BillingMode(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    BILLING_MODE_UNSPECIFIED: _ClassVar[BillingMode]
    BILLING_MODE_ON_DEMAND: _ClassVar[BillingMode]
    BILLING_MODE_PROVISIONED: _ClassVar[BillingMode]

class StreamView(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    STREAM_VIEW_UNSPECIFIED: _ClassVar[StreamView]
    STREAM_VIEW_KEYS_ONLY: _ClassVar[StreamView]
    STREAM_VIEW_NEW_IMAGE: _ClassVar[StreamView]
    STREAM_VIEW_OLD_IMAGE: _ClassVar[StreamView]
    STREAM_VIEW_NEW_AND_OLD_IMAGES: _ClassVar[StreamView]

class ApplyResult(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    APPLY_RESULT_UNSPECIFIED: _ClassVar[ApplyResult]
    APPLY_RESULT_CREATED: _ClassVar[ApplyResult]
    APPLY_RESULT_BOUND: _ClassVar[ApplyResult]
    APPLY_RESULT_EVOLVED: _ClassVar[ApplyResult]
    APPLY_RESULT_UNCHANGED: _ClassVar[ApplyResult]
OWNERSHIP_UNSPECIFIED: Ownership
OWNERSHIP_CREATED: Ownership
OWNERSHIP_BOUND: Ownership
UNKNOWN_FIELDS_UNSPECIFIED: UnknownFields
UNKNOWN_FIELDS_REJECT: UnknownFields
UNKNOWN_FIELDS_DROP: UnknownFields
COALESCE_UNSPECIFIED: Coalesce
COALESCE_ON: Coalesce
COALESCE_OFF: Coalesce
BILLING_MODE_UNSPECIFIED: BillingMode
BILLING_MODE_ON_DEMAND: BillingMode
BILLING_MODE_PROVISIONED: BillingMode
STREAM_VIEW_UNSPECIFIED: StreamView
STREAM_VIEW_KEYS_ONLY: StreamView
STREAM_VIEW_NEW_IMAGE: StreamView
STREAM_VIEW_OLD_IMAGE: StreamView
STREAM_VIEW_NEW_AND_OLD_IMAGES: StreamView
APPLY_RESULT_UNSPECIFIED: ApplyResult
APPLY_RESULT_CREATED: ApplyResult
APPLY_RESULT_BOUND: ApplyResult
APPLY_RESULT_EVOLVED: ApplyResult
APPLY_RESULT_UNCHANGED: ApplyResult

class Table(_message.Message):
    __slots__ = ("name", "schema", "spark_schema_json", "ddl", "key", "dynamodb_table", "ownership", "unknown_fields", "store_assignment", "sequence_by", "tombstone_retention", "ttl_column", "coalesce", "write_shards", "write_sharding", "append_only", "series", "lake", "max_write_units", "show_values_in_outcomes", "dynamodb", "comment")
    NAME_FIELD_NUMBER: _ClassVar[int]
    SCHEMA_FIELD_NUMBER: _ClassVar[int]
    SPARK_SCHEMA_JSON_FIELD_NUMBER: _ClassVar[int]
    DDL_FIELD_NUMBER: _ClassVar[int]
    KEY_FIELD_NUMBER: _ClassVar[int]
    DYNAMODB_TABLE_FIELD_NUMBER: _ClassVar[int]
    OWNERSHIP_FIELD_NUMBER: _ClassVar[int]
    UNKNOWN_FIELDS_FIELD_NUMBER: _ClassVar[int]
    STORE_ASSIGNMENT_FIELD_NUMBER: _ClassVar[int]
    SEQUENCE_BY_FIELD_NUMBER: _ClassVar[int]
    TOMBSTONE_RETENTION_FIELD_NUMBER: _ClassVar[int]
    TTL_COLUMN_FIELD_NUMBER: _ClassVar[int]
    COALESCE_FIELD_NUMBER: _ClassVar[int]
    WRITE_SHARDS_FIELD_NUMBER: _ClassVar[int]
    WRITE_SHARDING_FIELD_NUMBER: _ClassVar[int]
    APPEND_ONLY_FIELD_NUMBER: _ClassVar[int]
    SERIES_FIELD_NUMBER: _ClassVar[int]
    LAKE_FIELD_NUMBER: _ClassVar[int]
    MAX_WRITE_UNITS_FIELD_NUMBER: _ClassVar[int]
    SHOW_VALUES_IN_OUTCOMES_FIELD_NUMBER: _ClassVar[int]
    DYNAMODB_FIELD_NUMBER: _ClassVar[int]
    COMMENT_FIELD_NUMBER: _ClassVar[int]
    name: str
    schema: _types_pb2.Schema
    spark_schema_json: str
    ddl: str
    key: Key
    dynamodb_table: str
    ownership: Ownership
    unknown_fields: UnknownFields
    store_assignment: _types_pb2.StoreAssignment
    sequence_by: str
    tombstone_retention: _duration_pb2.Duration
    ttl_column: str
    coalesce: Coalesce
    write_shards: int
    write_sharding: WriteSharding
    append_only: bool
    series: SeriesLayout
    lake: Lake
    max_write_units: int
    show_values_in_outcomes: bool
    dynamodb: DynamoDbOptions
    comment: str
    def __init__(self, name: _Optional[str] = ..., schema: _Optional[_Union[_types_pb2.Schema, _Mapping]] = ..., spark_schema_json: _Optional[str] = ..., ddl: _Optional[str] = ..., key: _Optional[_Union[Key, _Mapping]] = ..., dynamodb_table: _Optional[str] = ..., ownership: _Optional[_Union[Ownership, str]] = ..., unknown_fields: _Optional[_Union[UnknownFields, str]] = ..., store_assignment: _Optional[_Union[_types_pb2.StoreAssignment, str]] = ..., sequence_by: _Optional[str] = ..., tombstone_retention: _Optional[_Union[_duration_pb2.Duration, _Mapping]] = ..., ttl_column: _Optional[str] = ..., coalesce: _Optional[_Union[Coalesce, str]] = ..., write_shards: _Optional[int] = ..., write_sharding: _Optional[_Union[WriteSharding, _Mapping]] = ..., append_only: bool = ..., series: _Optional[_Union[SeriesLayout, _Mapping]] = ..., lake: _Optional[_Union[Lake, _Mapping]] = ..., max_write_units: _Optional[int] = ..., show_values_in_outcomes: bool = ..., dynamodb: _Optional[_Union[DynamoDbOptions, _Mapping]] = ..., comment: _Optional[str] = ...) -> None: ...

class Key(_message.Message):
    __slots__ = ("partition", "sort", "partition_attribute", "sort_attribute")
    PARTITION_FIELD_NUMBER: _ClassVar[int]
    SORT_FIELD_NUMBER: _ClassVar[int]
    PARTITION_ATTRIBUTE_FIELD_NUMBER: _ClassVar[int]
    SORT_ATTRIBUTE_FIELD_NUMBER: _ClassVar[int]
    partition: _containers.RepeatedScalarFieldContainer[str]
    sort: _containers.RepeatedScalarFieldContainer[str]
    partition_attribute: str
    sort_attribute: str
    def __init__(self, partition: _Optional[_Iterable[str]] = ..., sort: _Optional[_Iterable[str]] = ..., partition_attribute: _Optional[str] = ..., sort_attribute: _Optional[str] = ...) -> None: ...

class WriteSharding(_message.Message):
    __slots__ = ("max_shards",)
    MAX_SHARDS_FIELD_NUMBER: _ClassVar[int]
    max_shards: int
    def __init__(self, max_shards: _Optional[int] = ...) -> None: ...

class SeriesLayout(_message.Message):
    __slots__ = ("time_column", "window", "packed")
    TIME_COLUMN_FIELD_NUMBER: _ClassVar[int]
    WINDOW_FIELD_NUMBER: _ClassVar[int]
    PACKED_FIELD_NUMBER: _ClassVar[int]
    time_column: str
    window: _duration_pb2.Duration
    packed: bool
    def __init__(self, time_column: _Optional[str] = ..., window: _Optional[_Union[_duration_pb2.Duration, _Mapping]] = ..., packed: bool = ...) -> None: ...

class Lake(_message.Message):
    __slots__ = ("enabled", "location", "best_effort")
    ENABLED_FIELD_NUMBER: _ClassVar[int]
    LOCATION_FIELD_NUMBER: _ClassVar[int]
    BEST_EFFORT_FIELD_NUMBER: _ClassVar[int]
    enabled: bool
    location: str
    best_effort: bool
    def __init__(self, enabled: bool = ..., location: _Optional[str] = ..., best_effort: bool = ...) -> None: ...

class DynamoDbOptions(_message.Message):
    __slots__ = ("billing_mode", "provisioned_read_units", "provisioned_write_units", "max_on_demand_read_units", "max_on_demand_write_units", "point_in_time_recovery", "kms_key", "tags", "stream_view", "deletion_protection")
    class TagsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    BILLING_MODE_FIELD_NUMBER: _ClassVar[int]
    PROVISIONED_READ_UNITS_FIELD_NUMBER: _ClassVar[int]
    PROVISIONED_WRITE_UNITS_FIELD_NUMBER: _ClassVar[int]
    MAX_ON_DEMAND_READ_UNITS_FIELD_NUMBER: _ClassVar[int]
    MAX_ON_DEMAND_WRITE_UNITS_FIELD_NUMBER: _ClassVar[int]
    POINT_IN_TIME_RECOVERY_FIELD_NUMBER: _ClassVar[int]
    KMS_KEY_FIELD_NUMBER: _ClassVar[int]
    TAGS_FIELD_NUMBER: _ClassVar[int]
    STREAM_VIEW_FIELD_NUMBER: _ClassVar[int]
    DELETION_PROTECTION_FIELD_NUMBER: _ClassVar[int]
    billing_mode: BillingMode
    provisioned_read_units: int
    provisioned_write_units: int
    max_on_demand_read_units: int
    max_on_demand_write_units: int
    point_in_time_recovery: bool
    kms_key: str
    tags: _containers.ScalarMap[str, str]
    stream_view: StreamView
    deletion_protection: bool
    def __init__(self, billing_mode: _Optional[_Union[BillingMode, str]] = ..., provisioned_read_units: _Optional[int] = ..., provisioned_write_units: _Optional[int] = ..., max_on_demand_read_units: _Optional[int] = ..., max_on_demand_write_units: _Optional[int] = ..., point_in_time_recovery: bool = ..., kms_key: _Optional[str] = ..., tags: _Optional[_Mapping[str, str]] = ..., stream_view: _Optional[_Union[StreamView, str]] = ..., deletion_protection: bool = ...) -> None: ...

class ApplyTableRequest(_message.Message):
    __slots__ = ("table", "dry_run")
    TABLE_FIELD_NUMBER: _ClassVar[int]
    DRY_RUN_FIELD_NUMBER: _ClassVar[int]
    table: Table
    dry_run: bool
    def __init__(self, table: _Optional[_Union[Table, _Mapping]] = ..., dry_run: bool = ...) -> None: ...

class ApplyTableResponse(_message.Message):
    __slots__ = ("table", "schema_version", "result", "changes")
    TABLE_FIELD_NUMBER: _ClassVar[int]
    SCHEMA_VERSION_FIELD_NUMBER: _ClassVar[int]
    RESULT_FIELD_NUMBER: _ClassVar[int]
    CHANGES_FIELD_NUMBER: _ClassVar[int]
    table: Table
    schema_version: int
    result: ApplyResult
    changes: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, table: _Optional[_Union[Table, _Mapping]] = ..., schema_version: _Optional[int] = ..., result: _Optional[_Union[ApplyResult, str]] = ..., changes: _Optional[_Iterable[str]] = ...) -> None: ...

class GetTableRequest(_message.Message):
    __slots__ = ("name", "schema_version")
    NAME_FIELD_NUMBER: _ClassVar[int]
    SCHEMA_VERSION_FIELD_NUMBER: _ClassVar[int]
    name: str
    schema_version: int
    def __init__(self, name: _Optional[str] = ..., schema_version: _Optional[int] = ...) -> None: ...

class GetTableResponse(_message.Message):
    __slots__ = ("table", "schema_version", "applied_at")
    TABLE_FIELD_NUMBER: _ClassVar[int]
    SCHEMA_VERSION_FIELD_NUMBER: _ClassVar[int]
    APPLIED_AT_FIELD_NUMBER: _ClassVar[int]
    table: Table
    schema_version: int
    applied_at: _timestamp_pb2.Timestamp
    def __init__(self, table: _Optional[_Union[Table, _Mapping]] = ..., schema_version: _Optional[int] = ..., applied_at: _Optional[_Union[_timestamp_pb2.Timestamp, _Mapping]] = ...) -> None: ...

class ListTablesRequest(_message.Message):
    __slots__ = ("page_size", "page_token")
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    page_size: int
    page_token: str
    def __init__(self, page_size: _Optional[int] = ..., page_token: _Optional[str] = ...) -> None: ...

class ListTablesResponse(_message.Message):
    __slots__ = ("tables", "next_page_token")
    TABLES_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    tables: _containers.RepeatedCompositeFieldContainer[TableSummary]
    next_page_token: str
    def __init__(self, tables: _Optional[_Iterable[_Union[TableSummary, _Mapping]]] = ..., next_page_token: _Optional[str] = ...) -> None: ...

class TableSummary(_message.Message):
    __slots__ = ("name", "dynamodb_table", "ownership", "schema_version", "key", "column_count")
    NAME_FIELD_NUMBER: _ClassVar[int]
    DYNAMODB_TABLE_FIELD_NUMBER: _ClassVar[int]
    OWNERSHIP_FIELD_NUMBER: _ClassVar[int]
    SCHEMA_VERSION_FIELD_NUMBER: _ClassVar[int]
    KEY_FIELD_NUMBER: _ClassVar[int]
    COLUMN_COUNT_FIELD_NUMBER: _ClassVar[int]
    name: str
    dynamodb_table: str
    ownership: Ownership
    schema_version: int
    key: Key
    column_count: int
    def __init__(self, name: _Optional[str] = ..., dynamodb_table: _Optional[str] = ..., ownership: _Optional[_Union[Ownership, str]] = ..., schema_version: _Optional[int] = ..., key: _Optional[_Union[Key, _Mapping]] = ..., column_count: _Optional[int] = ...) -> None: ...

class DropTableRequest(_message.Message):
    __slots__ = ("name", "force")
    NAME_FIELD_NUMBER: _ClassVar[int]
    FORCE_FIELD_NUMBER: _ClassVar[int]
    name: str
    force: bool
    def __init__(self, name: _Optional[str] = ..., force: bool = ...) -> None: ...

class DropTableResponse(_message.Message):
    __slots__ = ("deleted",)
    DELETED_FIELD_NUMBER: _ClassVar[int]
    deleted: bool
    def __init__(self, deleted: bool = ...) -> None: ...

class CheckRowsRequest(_message.Message):
    __slots__ = ("table", "open", "rows", "arrow", "rows_per_second", "usd_per_million_write_units")
    TABLE_FIELD_NUMBER: _ClassVar[int]
    OPEN_FIELD_NUMBER: _ClassVar[int]
    ROWS_FIELD_NUMBER: _ClassVar[int]
    ARROW_FIELD_NUMBER: _ClassVar[int]
    ROWS_PER_SECOND_FIELD_NUMBER: _ClassVar[int]
    USD_PER_MILLION_WRITE_UNITS_FIELD_NUMBER: _ClassVar[int]
    table: str
    open: _ingest_pb2.Open
    rows: _types_pb2.RowBatch
    arrow: _types_pb2.ArrowBatch
    rows_per_second: float
    usd_per_million_write_units: float
    def __init__(self, table: _Optional[str] = ..., open: _Optional[_Union[_ingest_pb2.Open, _Mapping]] = ..., rows: _Optional[_Union[_types_pb2.RowBatch, _Mapping]] = ..., arrow: _Optional[_Union[_types_pb2.ArrowBatch, _Mapping]] = ..., rows_per_second: _Optional[float] = ..., usd_per_million_write_units: _Optional[float] = ...) -> None: ...

class CheckRowsResponse(_message.Message):
    __slots__ = ("accepted_rows", "rejected", "coercions", "item_bytes", "write_units_per_second", "write_units_per_million_rows", "repeated_key_rows", "rejected_rows", "rejects_by_reason", "usd_per_million_rows", "usd_per_million_write_units", "schema_version")
    ACCEPTED_ROWS_FIELD_NUMBER: _ClassVar[int]
    REJECTED_FIELD_NUMBER: _ClassVar[int]
    COERCIONS_FIELD_NUMBER: _ClassVar[int]
    ITEM_BYTES_FIELD_NUMBER: _ClassVar[int]
    WRITE_UNITS_PER_SECOND_FIELD_NUMBER: _ClassVar[int]
    WRITE_UNITS_PER_MILLION_ROWS_FIELD_NUMBER: _ClassVar[int]
    REPEATED_KEY_ROWS_FIELD_NUMBER: _ClassVar[int]
    REJECTED_ROWS_FIELD_NUMBER: _ClassVar[int]
    REJECTS_BY_REASON_FIELD_NUMBER: _ClassVar[int]
    USD_PER_MILLION_ROWS_FIELD_NUMBER: _ClassVar[int]
    USD_PER_MILLION_WRITE_UNITS_FIELD_NUMBER: _ClassVar[int]
    SCHEMA_VERSION_FIELD_NUMBER: _ClassVar[int]
    accepted_rows: int
    rejected: _containers.RepeatedCompositeFieldContainer[_ingest_pb2.RowOutcome]
    coercions: _containers.RepeatedCompositeFieldContainer[CoercionCount]
    item_bytes: SizeSummary
    write_units_per_second: float
    write_units_per_million_rows: float
    repeated_key_rows: int
    rejected_rows: int
    rejects_by_reason: _containers.RepeatedCompositeFieldContainer[RejectCount]
    usd_per_million_rows: float
    usd_per_million_write_units: float
    schema_version: int
    def __init__(self, accepted_rows: _Optional[int] = ..., rejected: _Optional[_Iterable[_Union[_ingest_pb2.RowOutcome, _Mapping]]] = ..., coercions: _Optional[_Iterable[_Union[CoercionCount, _Mapping]]] = ..., item_bytes: _Optional[_Union[SizeSummary, _Mapping]] = ..., write_units_per_second: _Optional[float] = ..., write_units_per_million_rows: _Optional[float] = ..., repeated_key_rows: _Optional[int] = ..., rejected_rows: _Optional[int] = ..., rejects_by_reason: _Optional[_Iterable[_Union[RejectCount, _Mapping]]] = ..., usd_per_million_rows: _Optional[float] = ..., usd_per_million_write_units: _Optional[float] = ..., schema_version: _Optional[int] = ...) -> None: ...

class RejectCount(_message.Message):
    __slots__ = ("field_path", "reason", "count", "hint")
    FIELD_PATH_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    COUNT_FIELD_NUMBER: _ClassVar[int]
    HINT_FIELD_NUMBER: _ClassVar[int]
    field_path: str
    reason: _ingest_pb2.RowReason
    count: int
    hint: str
    def __init__(self, field_path: _Optional[str] = ..., reason: _Optional[_Union[_ingest_pb2.RowReason, str]] = ..., count: _Optional[int] = ..., hint: _Optional[str] = ...) -> None: ...

class CoercionCount(_message.Message):
    __slots__ = ("field_path", "rule", "count")
    FIELD_PATH_FIELD_NUMBER: _ClassVar[int]
    RULE_FIELD_NUMBER: _ClassVar[int]
    COUNT_FIELD_NUMBER: _ClassVar[int]
    field_path: str
    rule: str
    count: int
    def __init__(self, field_path: _Optional[str] = ..., rule: _Optional[str] = ..., count: _Optional[int] = ...) -> None: ...

class SizeSummary(_message.Message):
    __slots__ = ("min", "p50", "p99", "max")
    MIN_FIELD_NUMBER: _ClassVar[int]
    P50_FIELD_NUMBER: _ClassVar[int]
    P99_FIELD_NUMBER: _ClassVar[int]
    MAX_FIELD_NUMBER: _ClassVar[int]
    min: int
    p50: int
    p99: int
    max: int
    def __init__(self, min: _Optional[int] = ..., p50: _Optional[int] = ..., p99: _Optional[int] = ..., max: _Optional[int] = ...) -> None: ...
