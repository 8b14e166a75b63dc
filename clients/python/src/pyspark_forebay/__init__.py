"""How Spark 4 finds `format("forebay")` without being told: by `DefaultSource` in modules named `pyspark_*`.

Spark imports this whenever a session first uses any Python data source, so it must be light and must not fail for
want of a library. Caller: Spark.
"""

from forebay.spark.source import ForebayDataSource as DefaultSource

__all__ = ["DefaultSource"]
