from forebay.v1 import types_pb2 as _types_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from typing import ClassVar as _ClassVar, Iterable as _Iterable, Mapping as _Mapping, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Consistency(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    CONSISTENCY_UNSPECIFIED: _ClassVar[Consistency]
    CONSISTENCY_EVENTUAL: _ClassVar[Consistency]
    CONSISTENCY_STRONG: _ClassVar[Consistency]

class ReadStatus(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    READ_STATUS_UNSPECIFIED: _ClassVar[ReadStatus]
    READ_STATUS_FOUND: _ClassVar[ReadStatus]
    READ_STATUS_NOT_FOUND: _ClassVar[ReadStatus]
    READ_STATUS_EXPIRED: _ClassVar[ReadStatus]
    READ_STATUS_UNAVAILABLE: _ClassVar[ReadStatus]
    READ_STATUS_DENIED: _ClassVar[ReadStatus]
    READ_STATUS_UNDECODABLE: _ClassVar[ReadStatus]

class SortOrder(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    SORT_ORDER_UNSPECIFIED: _ClassVar[SortOrder]
    SORT_ORDER_ASCENDING: _ClassVar[SortOrder]
    SORT_ORDER_DESCENDING: _ClassVar[SortOrder]
CONSISTENCY_UNSPECIFIED: Consistency
CONSISTENCY_EVENTUAL: Consistency
CONSISTENCY_STRONG: Consistency
READ_STATUS_UNSPECIFIED: ReadStatus
READ_STATUS_FOUND: ReadStatus
READ_STATUS_NOT_FOUND: ReadStatus
READ_STATUS_EXPIRED: ReadStatus
READ_STATUS_UNAVAILABLE: ReadStatus
READ_STATUS_DENIED: ReadStatus
READ_STATUS_UNDECODABLE: ReadStatus
SORT_ORDER_UNSPECIFIED: SortOrder
SORT_ORDER_ASCENDING: SortOrder
SORT_ORDER_DESCENDING: SortOrder

class RowKey(_message.Message):
    __slots__ = ("values",)
    VALUES_FIELD_NUMBER: _ClassVar[int]
    values: _containers.RepeatedCompositeFieldContainer[_types_pb2.Value]
    def __init__(self, values: _Optional[_Iterable[_Union[_types_pb2.Value, _Mapping]]] = ...) -> None: ...

class GetRowRequest(_message.Message):
    __slots__ = ("table", "key", "columns", "consistency")
    TABLE_FIELD_NUMBER: _ClassVar[int]
    KEY_FIELD_NUMBER: _ClassVar[int]
    COLUMNS_FIELD_NUMBER: _ClassVar[int]
    CONSISTENCY_FIELD_NUMBER: _ClassVar[int]
    table: str
    key: RowKey
    columns: _containers.RepeatedScalarFieldContainer[str]
    consistency: Consistency
    def __init__(self, table: _Optional[str] = ..., key: _Optional[_Union[RowKey, _Mapping]] = ..., columns: _Optional[_Iterable[str]] = ..., consistency: _Optional[_Union[Consistency, str]] = ...) -> None: ...

class GetRowResponse(_message.Message):
    __slots__ = ("status", "row", "columns", "message")
    STATUS_FIELD_NUMBER: _ClassVar[int]
    ROW_FIELD_NUMBER: _ClassVar[int]
    COLUMNS_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    status: ReadStatus
    row: _types_pb2.Row
    columns: _types_pb2.Schema
    message: str
    def __init__(self, status: _Optional[_Union[ReadStatus, str]] = ..., row: _Optional[_Union[_types_pb2.Row, _Mapping]] = ..., columns: _Optional[_Union[_types_pb2.Schema, _Mapping]] = ..., message: _Optional[str] = ...) -> None: ...

class BatchGetRowsRequest(_message.Message):
    __slots__ = ("requests", "consistency")
    REQUESTS_FIELD_NUMBER: _ClassVar[int]
    CONSISTENCY_FIELD_NUMBER: _ClassVar[int]
    requests: _containers.RepeatedCompositeFieldContainer[TableKeys]
    consistency: Consistency
    def __init__(self, requests: _Optional[_Iterable[_Union[TableKeys, _Mapping]]] = ..., consistency: _Optional[_Union[Consistency, str]] = ...) -> None: ...

class TableKeys(_message.Message):
    __slots__ = ("table", "keys", "columns")
    TABLE_FIELD_NUMBER: _ClassVar[int]
    KEYS_FIELD_NUMBER: _ClassVar[int]
    COLUMNS_FIELD_NUMBER: _ClassVar[int]
    table: str
    keys: _containers.RepeatedCompositeFieldContainer[RowKey]
    columns: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, table: _Optional[str] = ..., keys: _Optional[_Iterable[_Union[RowKey, _Mapping]]] = ..., columns: _Optional[_Iterable[str]] = ...) -> None: ...

class BatchGetRowsResponse(_message.Message):
    __slots__ = ("results",)
    RESULTS_FIELD_NUMBER: _ClassVar[int]
    results: _containers.RepeatedCompositeFieldContainer[TableRows]
    def __init__(self, results: _Optional[_Iterable[_Union[TableRows, _Mapping]]] = ...) -> None: ...

class TableRows(_message.Message):
    __slots__ = ("table", "columns", "rows")
    TABLE_FIELD_NUMBER: _ClassVar[int]
    COLUMNS_FIELD_NUMBER: _ClassVar[int]
    ROWS_FIELD_NUMBER: _ClassVar[int]
    table: str
    columns: _types_pb2.Schema
    rows: _containers.RepeatedCompositeFieldContainer[RowResult]
    def __init__(self, table: _Optional[str] = ..., columns: _Optional[_Union[_types_pb2.Schema, _Mapping]] = ..., rows: _Optional[_Iterable[_Union[RowResult, _Mapping]]] = ...) -> None: ...

class RowResult(_message.Message):
    __slots__ = ("status", "row", "message")
    STATUS_FIELD_NUMBER: _ClassVar[int]
    ROW_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    status: ReadStatus
    row: _types_pb2.Row
    message: str
    def __init__(self, status: _Optional[_Union[ReadStatus, str]] = ..., row: _Optional[_Union[_types_pb2.Row, _Mapping]] = ..., message: _Optional[str] = ...) -> None: ...

class ReadRangeRequest(_message.Message):
    __slots__ = ("table", "partition", "sort_from", "sort_to", "limit", "order", "columns", "consistency")
    TABLE_FIELD_NUMBER: _ClassVar[int]
    PARTITION_FIELD_NUMBER: _ClassVar[int]
    SORT_FROM_FIELD_NUMBER: _ClassVar[int]
    SORT_TO_FIELD_NUMBER: _ClassVar[int]
    LIMIT_FIELD_NUMBER: _ClassVar[int]
    ORDER_FIELD_NUMBER: _ClassVar[int]
    COLUMNS_FIELD_NUMBER: _ClassVar[int]
    CONSISTENCY_FIELD_NUMBER: _ClassVar[int]
    table: str
    partition: RowKey
    sort_from: RowKey
    sort_to: RowKey
    limit: int
    order: SortOrder
    columns: _containers.RepeatedScalarFieldContainer[str]
    consistency: Consistency
    def __init__(self, table: _Optional[str] = ..., partition: _Optional[_Union[RowKey, _Mapping]] = ..., sort_from: _Optional[_Union[RowKey, _Mapping]] = ..., sort_to: _Optional[_Union[RowKey, _Mapping]] = ..., limit: _Optional[int] = ..., order: _Optional[_Union[SortOrder, str]] = ..., columns: _Optional[_Iterable[str]] = ..., consistency: _Optional[_Union[Consistency, str]] = ...) -> None: ...

class ReadRangeResponse(_message.Message):
    __slots__ = ("columns", "rows")
    COLUMNS_FIELD_NUMBER: _ClassVar[int]
    ROWS_FIELD_NUMBER: _ClassVar[int]
    columns: _types_pb2.Schema
    rows: _containers.RepeatedCompositeFieldContainer[_types_pb2.Row]
    def __init__(self, columns: _Optional[_Union[_types_pb2.Schema, _Mapping]] = ..., rows: _Optional[_Iterable[_Union[_types_pb2.Row, _Mapping]]] = ...) -> None: ...

class ReadSeriesRequest(_message.Message):
    __slots__ = ("table", "key", "from_micros", "to_micros", "limit", "order", "columns")
    TABLE_FIELD_NUMBER: _ClassVar[int]
    KEY_FIELD_NUMBER: _ClassVar[int]
    FROM_MICROS_FIELD_NUMBER: _ClassVar[int]
    TO_MICROS_FIELD_NUMBER: _ClassVar[int]
    LIMIT_FIELD_NUMBER: _ClassVar[int]
    ORDER_FIELD_NUMBER: _ClassVar[int]
    COLUMNS_FIELD_NUMBER: _ClassVar[int]
    table: str
    key: RowKey
    from_micros: int
    to_micros: int
    limit: int
    order: SortOrder
    columns: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, table: _Optional[str] = ..., key: _Optional[_Union[RowKey, _Mapping]] = ..., from_micros: _Optional[int] = ..., to_micros: _Optional[int] = ..., limit: _Optional[int] = ..., order: _Optional[_Union[SortOrder, str]] = ..., columns: _Optional[_Iterable[str]] = ...) -> None: ...

class ReadSeriesResponse(_message.Message):
    __slots__ = ("columns", "points")
    COLUMNS_FIELD_NUMBER: _ClassVar[int]
    POINTS_FIELD_NUMBER: _ClassVar[int]
    columns: _types_pb2.Schema
    points: _containers.RepeatedCompositeFieldContainer[_types_pb2.Row]
    def __init__(self, columns: _Optional[_Union[_types_pb2.Schema, _Mapping]] = ..., points: _Optional[_Iterable[_Union[_types_pb2.Row, _Mapping]]] = ...) -> None: ...
