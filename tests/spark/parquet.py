"""Writes tests/types/spark.parquet: a file as Spark writes it, with the types that Parquet alone does not tell.

    .venv/bin/python tests/spark/parquet.py
"""

import os
import pathlib
import shutil
import tempfile

# Spark would look for an address of its own among the machine's networks.
os.environ.setdefault("SPARK_LOCAL_IP", "127.0.0.1")

from pyspark.sql import SparkSession

ROWS = """
    SELECT CAST(id AS STRING) AS id, CAST(id AS TINYINT) AS small, parse_json(concat('{"n":', id, ',"t":["x",1.5]}')) AS v,
           make_ym_interval(1, 2) AS ym, make_dt_interval(1, 2, 3, 4.5) AS dt,
           CAST('2024-02-29 12:00:00' AS TIMESTAMP_NTZ) AS ntz, TIMESTAMP '2024-02-29 12:00:00.123456Z' AS ts,
           array(TIMESTAMP '2024-02-29 12:00:00Z') AS tss, map('a', array(named_struct('hr', 60))) AS m,
           CAST(1.25 AS DECIMAL(10, 2)) AS d, DATE '1969-12-31' AS day, X'00ff' AS b
    FROM range(5)
"""


def main():
    spark = (
        SparkSession.builder.master("local[1]")
        .config("spark.ui.enabled", "false")
        .config("spark.sql.session.timeZone", "UTC")
        .config("spark.sql.variant.writeShredding.enabled", "false")
        .config("spark.sql.variant.inferShreddingSchema", "false")
        .getOrCreate()
    )
    with tempfile.TemporaryDirectory() as folder:
        spark.sql(ROWS).coalesce(1).write.mode("overwrite").parquet(folder)
        [part] = pathlib.Path(folder).glob("*.parquet")
        shutil.copy(part, pathlib.Path(__file__).parent.parent / "types" / "spark.parquet")
    spark.stop()


if __name__ == "__main__":
    main()
