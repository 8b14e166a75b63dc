"""Types with Spark SQL's words, from and to the protocol's messages.

Pure. Callers: `_encode` (messages), `_schema` (DDL).
"""

from __future__ import annotations

from .v1 import types_pb2 as pb

PRIMITIVE_NAMES = {
    pb.PRIMITIVE_TYPE_BYTE: "TINYINT",
    pb.PRIMITIVE_TYPE_SHORT: "SMALLINT",
    pb.PRIMITIVE_TYPE_INTEGER: "INT",
    pb.PRIMITIVE_TYPE_LONG: "BIGINT",
    pb.PRIMITIVE_TYPE_FLOAT: "FLOAT",
    pb.PRIMITIVE_TYPE_DOUBLE: "DOUBLE",
    pb.PRIMITIVE_TYPE_STRING: "STRING",
    pb.PRIMITIVE_TYPE_BOOLEAN: "BOOLEAN",
    pb.PRIMITIVE_TYPE_BINARY: "BINARY",
    pb.PRIMITIVE_TYPE_DATE: "DATE",
    pb.PRIMITIVE_TYPE_TIMESTAMP: "TIMESTAMP",
    pb.PRIMITIVE_TYPE_TIMESTAMP_NTZ: "TIMESTAMP_NTZ",
    pb.PRIMITIVE_TYPE_DAY_TIME_INTERVAL: "INTERVAL DAY TO SECOND",
    pb.PRIMITIVE_TYPE_YEAR_MONTH_INTERVAL: "INTERVAL YEAR TO MONTH",
    pb.PRIMITIVE_TYPE_VARIANT: "VARIANT",
}


def type_name(data_type: pb.DataType) -> str:
    """The type as DDL: `ARRAY<STRUCT<`hr`: TINYINT>>`. Names are quoted where DDL needs that."""
    kind = data_type.WhichOneof("type")
    if kind == "primitive":
        return PRIMITIVE_NAMES.get(data_type.primitive, "an unknown type")
    if kind == "decimal":
        return f"DECIMAL({data_type.decimal.precision}, {data_type.decimal.scale})"
    if kind == "char_length":
        return f"CHAR({data_type.char_length})"
    if kind == "varchar_length":
        return f"VARCHAR({data_type.varchar_length})"
    if kind == "array":
        inner = type_name(data_type.array.element)
        return f"ARRAY<{inner}>" if data_type.array.contains_null else f"ARRAY<{inner} NOT NULL>"
    if kind == "map":
        value = type_name(data_type.map.value) + ("" if data_type.map.value_contains_null else " NOT NULL")
        return f"MAP<{type_name(data_type.map.key)}, {value}>"
    if kind == "struct":
        fields = (
            f"{quoted(field.name)}: {type_name(field.type)}{'' if field.nullable else ' NOT NULL'}"
            for field in data_type.struct.fields
        )
        return f"STRUCT<{', '.join(fields)}>"
    return "an unknown type"


def quoted(name: str) -> str:
    """A name for DDL: in backticks unless it is a plain word."""
    if name.isascii() and name.replace("_", "a").isalnum() and not name[0].isdigit():
        return name
    return "`" + name.replace("`", "``") + "`"
