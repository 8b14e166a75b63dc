from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from typing import ClassVar as _ClassVar, Iterable as _Iterable, Mapping as _Mapping, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class PrimitiveType(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    PRIMITIVE_TYPE_UNSPECIFIED: _ClassVar[PrimitiveType]
    PRIMITIVE_TYPE_BYTE: _ClassVar[PrimitiveType]
    PRIMITIVE_TYPE_SHORT: _ClassVar[PrimitiveType]
    PRIMITIVE_TYPE_INTEGER: _ClassVar[PrimitiveType]
    PRIMITIVE_TYPE_LONG: _ClassVar[PrimitiveType]
    PRIMITIVE_TYPE_FLOAT: _ClassVar[PrimitiveType]
    PRIMITIVE_TYPE_DOUBLE: _ClassVar[PrimitiveType]
    PRIMITIVE_TYPE_STRING: _ClassVar[PrimitiveType]
    PRIMITIVE_TYPE_BOOLEAN: _ClassVar[PrimitiveType]
    PRIMITIVE_TYPE_BINARY: _ClassVar[PrimitiveType]
    PRIMITIVE_TYPE_DATE: _ClassVar[PrimitiveType]
    PRIMITIVE_TYPE_TIMESTAMP: _ClassVar[PrimitiveType]
    PRIMITIVE_TYPE_TIMESTAMP_NTZ: _ClassVar[PrimitiveType]
    PRIMITIVE_TYPE_DAY_TIME_INTERVAL: _ClassVar[PrimitiveType]
    PRIMITIVE_TYPE_YEAR_MONTH_INTERVAL: _ClassVar[PrimitiveType]
    PRIMITIVE_TYPE_VARIANT: _ClassVar[PrimitiveType]

class NonFinite(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    NON_FINITE_UNSPECIFIED: _ClassVar[NonFinite]
    NON_FINITE_REJECT: _ClassVar[NonFinite]
    NON_FINITE_NULL: _ClassVar[NonFinite]
    NON_FINITE_STRING: _ClassVar[NonFinite]

class TimeEncoding(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    TIME_ENCODING_UNSPECIFIED: _ClassVar[TimeEncoding]
    TIME_ENCODING_NUMBER: _ClassVar[TimeEncoding]
    TIME_ENCODING_STRING: _ClassVar[TimeEncoding]

class StoreAssignment(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    STORE_ASSIGNMENT_UNSPECIFIED: _ClassVar[StoreAssignment]
    STORE_ASSIGNMENT_STRICT: _ClassVar[StoreAssignment]
    STORE_ASSIGNMENT_ANSI: _ClassVar[StoreAssignment]
    STORE_ASSIGNMENT_LEGACY: _ClassVar[StoreAssignment]
PRIMITIVE_TYPE_UNSPECIFIED: PrimitiveType
PRIMITIVE_TYPE_BYTE: PrimitiveType
PRIMITIVE_TYPE_SHORT: PrimitiveType
PRIMITIVE_TYPE_INTEGER: PrimitiveType
PRIMITIVE_TYPE_LONG: PrimitiveType
PRIMITIVE_TYPE_FLOAT: PrimitiveType
PRIMITIVE_TYPE_DOUBLE: PrimitiveType
PRIMITIVE_TYPE_STRING: PrimitiveType
PRIMITIVE_TYPE_BOOLEAN: PrimitiveType
PRIMITIVE_TYPE_BINARY: PrimitiveType
PRIMITIVE_TYPE_DATE: PrimitiveType
PRIMITIVE_TYPE_TIMESTAMP: PrimitiveType
PRIMITIVE_TYPE_TIMESTAMP_NTZ: PrimitiveType
PRIMITIVE_TYPE_DAY_TIME_INTERVAL: PrimitiveType
PRIMITIVE_TYPE_YEAR_MONTH_INTERVAL: PrimitiveType
PRIMITIVE_TYPE_VARIANT: PrimitiveType
NON_FINITE_UNSPECIFIED: NonFinite
NON_FINITE_REJECT: NonFinite
NON_FINITE_NULL: NonFinite
NON_FINITE_STRING: NonFinite
TIME_ENCODING_UNSPECIFIED: TimeEncoding
TIME_ENCODING_NUMBER: TimeEncoding
TIME_ENCODING_STRING: TimeEncoding
STORE_ASSIGNMENT_UNSPECIFIED: StoreAssignment
STORE_ASSIGNMENT_STRICT: StoreAssignment
STORE_ASSIGNMENT_ANSI: StoreAssignment
STORE_ASSIGNMENT_LEGACY: StoreAssignment

class Value(_message.Message):
    __slots__ = ("bool_value", "int_value", "double_value", "float_value", "string_value", "bytes_value", "decimal_value", "timestamp_micros", "timestamp_ntz_micros", "date_days", "day_time_interval_micros", "year_month_interval_months", "list_value", "struct_value", "map_value")
    BOOL_VALUE_FIELD_NUMBER: _ClassVar[int]
    INT_VALUE_FIELD_NUMBER: _ClassVar[int]
    DOUBLE_VALUE_FIELD_NUMBER: _ClassVar[int]
    FLOAT_VALUE_FIELD_NUMBER: _ClassVar[int]
    STRING_VALUE_FIELD_NUMBER: _ClassVar[int]
    BYTES_VALUE_FIELD_NUMBER: _ClassVar[int]
    DECIMAL_VALUE_FIELD_NUMBER: _ClassVar[int]
    TIMESTAMP_MICROS_FIELD_NUMBER: _ClassVar[int]
    TIMESTAMP_NTZ_MICROS_FIELD_NUMBER: _ClassVar[int]
    DATE_DAYS_FIELD_NUMBER: _ClassVar[int]
    DAY_TIME_INTERVAL_MICROS_FIELD_NUMBER: _ClassVar[int]
    YEAR_MONTH_INTERVAL_MONTHS_FIELD_NUMBER: _ClassVar[int]
    LIST_VALUE_FIELD_NUMBER: _ClassVar[int]
    STRUCT_VALUE_FIELD_NUMBER: _ClassVar[int]
    MAP_VALUE_FIELD_NUMBER: _ClassVar[int]
    bool_value: bool
    int_value: int
    double_value: float
    float_value: float
    string_value: str
    bytes_value: bytes
    decimal_value: str
    timestamp_micros: int
    timestamp_ntz_micros: int
    date_days: int
    day_time_interval_micros: int
    year_month_interval_months: int
    list_value: ListValue
    struct_value: StructValue
    map_value: MapValue
    def __init__(self, bool_value: bool = ..., int_value: _Optional[int] = ..., double_value: _Optional[float] = ..., float_value: _Optional[float] = ..., string_value: _Optional[str] = ..., bytes_value: _Optional[bytes] = ..., decimal_value: _Optional[str] = ..., timestamp_micros: _Optional[int] = ..., timestamp_ntz_micros: _Optional[int] = ..., date_days: _Optional[int] = ..., day_time_interval_micros: _Optional[int] = ..., year_month_interval_months: _Optional[int] = ..., list_value: _Optional[_Union[ListValue, _Mapping]] = ..., struct_value: _Optional[_Union[StructValue, _Mapping]] = ..., map_value: _Optional[_Union[MapValue, _Mapping]] = ...) -> None: ...

class ListValue(_message.Message):
    __slots__ = ("values",)
    VALUES_FIELD_NUMBER: _ClassVar[int]
    values: _containers.RepeatedCompositeFieldContainer[Value]
    def __init__(self, values: _Optional[_Iterable[_Union[Value, _Mapping]]] = ...) -> None: ...

class StructValue(_message.Message):
    __slots__ = ("values",)
    VALUES_FIELD_NUMBER: _ClassVar[int]
    values: _containers.RepeatedCompositeFieldContainer[Value]
    def __init__(self, values: _Optional[_Iterable[_Union[Value, _Mapping]]] = ...) -> None: ...

class MapValue(_message.Message):
    __slots__ = ("entries",)
    ENTRIES_FIELD_NUMBER: _ClassVar[int]
    entries: _containers.RepeatedCompositeFieldContainer[MapEntry]
    def __init__(self, entries: _Optional[_Iterable[_Union[MapEntry, _Mapping]]] = ...) -> None: ...

class MapEntry(_message.Message):
    __slots__ = ("key", "value")
    KEY_FIELD_NUMBER: _ClassVar[int]
    VALUE_FIELD_NUMBER: _ClassVar[int]
    key: Value
    value: Value
    def __init__(self, key: _Optional[_Union[Value, _Mapping]] = ..., value: _Optional[_Union[Value, _Mapping]] = ...) -> None: ...

class Row(_message.Message):
    __slots__ = ("values",)
    VALUES_FIELD_NUMBER: _ClassVar[int]
    values: _containers.RepeatedCompositeFieldContainer[Value]
    def __init__(self, values: _Optional[_Iterable[_Union[Value, _Mapping]]] = ...) -> None: ...

class RowBatch(_message.Message):
    __slots__ = ("rows",)
    ROWS_FIELD_NUMBER: _ClassVar[int]
    rows: _containers.RepeatedCompositeFieldContainer[Row]
    def __init__(self, rows: _Optional[_Iterable[_Union[Row, _Mapping]]] = ...) -> None: ...

class ArrowBatch(_message.Message):
    __slots__ = ("ipc_messages",)
    IPC_MESSAGES_FIELD_NUMBER: _ClassVar[int]
    ipc_messages: bytes
    def __init__(self, ipc_messages: _Optional[bytes] = ...) -> None: ...

class DataType(_message.Message):
    __slots__ = ("primitive", "decimal", "char_length", "varchar_length", "array", "map", "struct")
    PRIMITIVE_FIELD_NUMBER: _ClassVar[int]
    DECIMAL_FIELD_NUMBER: _ClassVar[int]
    CHAR_LENGTH_FIELD_NUMBER: _ClassVar[int]
    VARCHAR_LENGTH_FIELD_NUMBER: _ClassVar[int]
    ARRAY_FIELD_NUMBER: _ClassVar[int]
    MAP_FIELD_NUMBER: _ClassVar[int]
    STRUCT_FIELD_NUMBER: _ClassVar[int]
    primitive: PrimitiveType
    decimal: DecimalType
    char_length: int
    varchar_length: int
    array: ArrayType
    map: MapType
    struct: StructType
    def __init__(self, primitive: _Optional[_Union[PrimitiveType, str]] = ..., decimal: _Optional[_Union[DecimalType, _Mapping]] = ..., char_length: _Optional[int] = ..., varchar_length: _Optional[int] = ..., array: _Optional[_Union[ArrayType, _Mapping]] = ..., map: _Optional[_Union[MapType, _Mapping]] = ..., struct: _Optional[_Union[StructType, _Mapping]] = ...) -> None: ...

class DecimalType(_message.Message):
    __slots__ = ("precision", "scale")
    PRECISION_FIELD_NUMBER: _ClassVar[int]
    SCALE_FIELD_NUMBER: _ClassVar[int]
    precision: int
    scale: int
    def __init__(self, precision: _Optional[int] = ..., scale: _Optional[int] = ...) -> None: ...

class ArrayType(_message.Message):
    __slots__ = ("element", "contains_null")
    ELEMENT_FIELD_NUMBER: _ClassVar[int]
    CONTAINS_NULL_FIELD_NUMBER: _ClassVar[int]
    element: DataType
    contains_null: bool
    def __init__(self, element: _Optional[_Union[DataType, _Mapping]] = ..., contains_null: bool = ...) -> None: ...

class MapType(_message.Message):
    __slots__ = ("key", "value", "value_contains_null")
    KEY_FIELD_NUMBER: _ClassVar[int]
    VALUE_FIELD_NUMBER: _ClassVar[int]
    VALUE_CONTAINS_NULL_FIELD_NUMBER: _ClassVar[int]
    key: DataType
    value: DataType
    value_contains_null: bool
    def __init__(self, key: _Optional[_Union[DataType, _Mapping]] = ..., value: _Optional[_Union[DataType, _Mapping]] = ..., value_contains_null: bool = ...) -> None: ...

class StructType(_message.Message):
    __slots__ = ("fields",)
    FIELDS_FIELD_NUMBER: _ClassVar[int]
    fields: _containers.RepeatedCompositeFieldContainer[Field]
    def __init__(self, fields: _Optional[_Iterable[_Union[Field, _Mapping]]] = ...) -> None: ...

class Field(_message.Message):
    __slots__ = ("name", "type", "nullable", "comment", "options")
    NAME_FIELD_NUMBER: _ClassVar[int]
    TYPE_FIELD_NUMBER: _ClassVar[int]
    NULLABLE_FIELD_NUMBER: _ClassVar[int]
    COMMENT_FIELD_NUMBER: _ClassVar[int]
    OPTIONS_FIELD_NUMBER: _ClassVar[int]
    name: str
    type: DataType
    nullable: bool
    comment: str
    options: ColumnOptions
    def __init__(self, name: _Optional[str] = ..., type: _Optional[_Union[DataType, _Mapping]] = ..., nullable: bool = ..., comment: _Optional[str] = ..., options: _Optional[_Union[ColumnOptions, _Mapping]] = ...) -> None: ...

class ColumnOptions(_message.Message):
    __slots__ = ("non_finite", "time_encoding", "as_set", "key_as_number", "float_key", "default_value")
    NON_FINITE_FIELD_NUMBER: _ClassVar[int]
    TIME_ENCODING_FIELD_NUMBER: _ClassVar[int]
    AS_SET_FIELD_NUMBER: _ClassVar[int]
    KEY_AS_NUMBER_FIELD_NUMBER: _ClassVar[int]
    FLOAT_KEY_FIELD_NUMBER: _ClassVar[int]
    DEFAULT_VALUE_FIELD_NUMBER: _ClassVar[int]
    non_finite: NonFinite
    time_encoding: TimeEncoding
    as_set: bool
    key_as_number: bool
    float_key: bool
    default_value: Value
    def __init__(self, non_finite: _Optional[_Union[NonFinite, str]] = ..., time_encoding: _Optional[_Union[TimeEncoding, str]] = ..., as_set: bool = ..., key_as_number: bool = ..., float_key: bool = ..., default_value: _Optional[_Union[Value, _Mapping]] = ...) -> None: ...

class Schema(_message.Message):
    __slots__ = ("fields",)
    FIELDS_FIELD_NUMBER: _ClassVar[int]
    fields: _containers.RepeatedCompositeFieldContainer[Field]
    def __init__(self, fields: _Optional[_Iterable[_Union[Field, _Mapping]]] = ...) -> None: ...
