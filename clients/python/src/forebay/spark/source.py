"""The data source `forebay`. Light: Spark imports it to find out that it is there (`pyspark_forebay`).

Callers: Spark, by `pyspark_forebay.DefaultSource` or `spark.dataSource.register(ForebayDataSource)`.
"""

from __future__ import annotations

from typing import Any, Dict

from pyspark.sql.datasource import DataSource, DataSourceReader, DataSourceStreamWriter, DataSourceWriter
from pyspark.sql.types import StructType


class ForebayDataSource(DataSource):
    """`df.write.format("forebay")`, `df.writeStream.format("forebay")`, `spark.read.format("forebay")`."""

    @classmethod
    def name(cls) -> str:
        """What `format` is called with."""
        return "forebay"

    def writer(self, schema: StructType, overwrite: bool) -> DataSourceWriter:
        """For `df.write`, save mode append. Raises `ValueError` for options that cannot be."""
        from .options import WriteOptions
        from .sink import BatchWriter

        if overwrite:
            raise ValueError(
                'the save mode "overwrite" would have to empty the table first, which Forebay does not do; expected'
                ' .mode("append"), with the option `mode` saying what rows do to items that are there'
            )
        return BatchWriter(WriteOptions.parse(self._given()), schema)

    def streamWriter(self, schema: StructType, overwrite: bool) -> DataSourceStreamWriter:
        """For `df.writeStream`, output modes append and update."""
        from .options import WriteOptions
        from .sink import StreamWriter

        if overwrite:
            raise ValueError(
                'the output mode "complete" would have to empty the table first, which Forebay does not do; expected'
                ' .outputMode("update") or .outputMode("append")'
            )
        options = WriteOptions.parse(self._given())
        if options.epoch is not None:
            raise ValueError("epoch: a stream's epoch is its batch id; leave the option out")
        writer: Any = StreamWriter(options, schema)
        return writer  # type: ignore[no-any-return]

    def schema(self) -> StructType:
        """For `spark.read`: the table's columns. Asks a gateway."""
        from .read_options import ReadOptions
        from .reader import look_up_table

        return look_up_table(ReadOptions.parse(self._given())).spark_schema()

    def reader(self, schema: StructType) -> DataSourceReader:
        """For `spark.read`, by keys."""
        from .read_options import ReadOptions
        from .reader import make_reader

        return make_reader(ReadOptions.parse(self._given()), schema)

    def _given(self) -> Dict[str, str]:
        # Spark's own mapping is case-insensitive by lower-casing names.
        return dict(self.options.items())

    def __repr__(self) -> str:
        # Without options: one of them may be a token.
        return "ForebayDataSource()"
