"""A table's columns as Spark's types.

`struct_type` is the schema as it was declared, for whoever wants to make or cast a DataFrame for a table: what it
prints as JSON (`.json()`) is the same schema to a gateway. `readable` is the form in which rows come into a DataFrame:
as in Spark's own file sources everything is nullable, and `char` and `varchar` are strings, because values are never
filled up with blanks.

Callers: `reader` and `keys`, and users by `forebay.spark.table_schema`.
"""

from __future__ import annotations

from typing import Any, Dict, Optional

from pyspark.sql import types as spark

from ..v1 import types_pb2
from .columns import decimal_digits

_P = types_pb2.PrimitiveType

_PRIMITIVES: Dict[int, str] = {
    _P.PRIMITIVE_TYPE_BYTE: "ByteType",
    _P.PRIMITIVE_TYPE_SHORT: "ShortType",
    _P.PRIMITIVE_TYPE_INTEGER: "IntegerType",
    _P.PRIMITIVE_TYPE_LONG: "LongType",
    _P.PRIMITIVE_TYPE_FLOAT: "FloatType",
    _P.PRIMITIVE_TYPE_DOUBLE: "DoubleType",
    _P.PRIMITIVE_TYPE_STRING: "StringType",
    _P.PRIMITIVE_TYPE_BOOLEAN: "BooleanType",
    _P.PRIMITIVE_TYPE_BINARY: "BinaryType",
    _P.PRIMITIVE_TYPE_DATE: "DateType",
    _P.PRIMITIVE_TYPE_TIMESTAMP: "TimestampType",
    _P.PRIMITIVE_TYPE_TIMESTAMP_NTZ: "TimestampNTZType",
    _P.PRIMITIVE_TYPE_DAY_TIME_INTERVAL: "DayTimeIntervalType",
    _P.PRIMITIVE_TYPE_YEAR_MONTH_INTERVAL: "YearMonthIntervalType",
    _P.PRIMITIVE_TYPE_VARIANT: "VariantType",
}


def struct_type(columns: types_pb2.Schema) -> spark.StructType:
    """The declared schema, with `char`, `varchar`, NOT NULL and comments.

    Raises `ValueError`, naming the column, for a type that this version of Spark does not have.
    """
    return spark.StructType([_field(field) for field in columns.fields])


def _field(field: types_pb2.Field) -> spark.StructField:
    try:
        data_type = _data_type(field.type)
    except ValueError as error:
        raise ValueError(f"`{field.name}`: {error}") from None
    metadata = {"comment": field.comment} if field.comment else None
    return spark.StructField(field.name, data_type, field.nullable, metadata)


def _data_type(data_type: types_pb2.DataType) -> spark.DataType:
    kind = data_type.WhichOneof("type")
    if kind == "primitive" and data_type.primitive in _PRIMITIVES:
        name = _PRIMITIVES[data_type.primitive]
        # Looked up by name: Spark 3 has no VariantType.
        made: Any = getattr(spark, name, None)
        if made is None:
            raise ValueError(f"Spark's {name} needs a newer version of Spark than this one")
        return made()  # type: ignore[no-any-return]
    if kind == "decimal":
        return spark.DecimalType(*decimal_digits(data_type.decimal))
    if kind == "char_length":
        return spark.CharType(data_type.char_length)
    if kind == "varchar_length":
        return spark.VarcharType(data_type.varchar_length)
    if kind == "array":
        return spark.ArrayType(_data_type(data_type.array.element), data_type.array.contains_null)
    if kind == "map":
        key, value = _data_type(data_type.map.key), _data_type(data_type.map.value)
        return spark.MapType(key, value, data_type.map.value_contains_null)
    if kind == "struct":
        return spark.StructType([_field(field) for field in data_type.struct.fields])
    raise ValueError("the gateway sent a type that this version of the package does not know; update it")


def readable(data_type: spark.DataType, *, months: Optional[spark.DataType] = None) -> Any:
    """The form of a type in which rows come into a DataFrame.

    `months` takes the place of year-month intervals: they come out of Python workers as integers.
    """
    if isinstance(data_type, spark.StructType):
        return spark.StructType(
            [
                spark.StructField(field.name, readable(field.dataType, months=months), True, field.metadata)
                for field in data_type.fields
            ]
        )
    if isinstance(data_type, spark.ArrayType):
        return spark.ArrayType(readable(data_type.elementType, months=months), True)
    if isinstance(data_type, spark.MapType):
        key, value = (readable(inner, months=months) for inner in (data_type.keyType, data_type.valueType))
        return spark.MapType(key, value, True)
    if isinstance(data_type, (spark.CharType, spark.VarcharType)):
        return spark.StringType()
    if isinstance(data_type, spark.YearMonthIntervalType) and months is not None:
        return months
    return data_type
