"""Makes or checks the table of what Spark stores where a value of one type is written into a column of another.

    casts.py            writes tests/types/casts.tsv
    casts.py --check    lists the rows in which that file and Spark differ, and fails if there is one

Nothing here knows a rule of Spark's. For every pair of types and every policy an INSERT is analysed. What it makes of the
column (the cast, with the checks around it) is then run on each value alone, which tells the values that fail. The others
are really inserted, all at once, and the answer is what the table holds afterwards. Of the values that fail, one of each
pair, policy and kind of error is really inserted, too, and must fail in the same way.

The columns and the neutral text of values are described in README.md.
"""

import argparse
import collections
import contextlib
import json
import logging
import struct
import sys
import tempfile
from pathlib import Path

from pyspark.errors.exceptions.captured import CapturedException
from pyspark.sql import SparkSession
from py4j.protocol import Py4JJavaError

from values import TYPES, VALUES, json_text

TABLE = Path(__file__).resolve().parent.parent / "types" / "casts.tsv"
HEADER = ["from", "value", "to", "policy", "spark"]
POLICIES = ["STRICT", "ANSI", "LEGACY"]

# What an analysis says that refuses the pair: by policy, and because there is no such cast at all. Any other failure of an
# analysis is a fault of this script.
REFUSALS = ("INCOMPATIBLE_DATA_FOR_TABLE.CANNOT_SAFELY_CAST", "DATATYPE_MISMATCH.CAST_WITHOUT_SUGGESTION")

# How a column of a type is made from its neutral text, without a cast between the types of the table.
FROM_TEXT = {
    "STRING": "text",
    "BINARY": "unhex(text)",
    "DATE": "date_from_unix_date(INT(text))",
    "TIMESTAMP": "timestamp_micros(BIGINT(text))",
    "TIMESTAMP_NTZ": "TIMESTAMP_NTZ '1970-01-01' + (timestamp_micros(BIGINT(text)) - timestamp_micros(0))",
    "INTERVAL DAY TO SECOND": "timestamp_micros(BIGINT(text)) - timestamp_micros(0)",
    "INTERVAL YEAR TO MONTH": "make_ym_interval(0, INT(text))",
}

# One row of the table but for its last column; `value` is the index in VALUES.
Case = collections.namedtuple("Case", ["source", "target", "policy", "value"])


class Disagreement(Exception):
    """Two ways to ask Spark gave two answers, or Spark failed in a way that this script does not expect."""


def short_text(digits):
    """Python's text of a number in Rust's spelling: 1e+300 is 1e300 and 1e-05 is 1e-5."""
    mantissa, mark, exponent = digits.partition("e")
    return f"{mantissa}e{int(exponent)}" if mark else digits


def double_text(value):
    names = {"inf": "Infinity", "-inf": "-Infinity", "nan": "NaN"}
    return names.get(repr(value)) or short_text(repr(value))


def float_text(value):
    """The shortest digits that give the same 32 bits again."""
    # The value comes as Java's digits, read as a double: first back to what those 32 bits are exactly.
    bits = struct.pack("<f", value)
    (value,) = struct.unpack("<f", bits)
    for precision in range(1, 10):
        shorter = float(f"{value:.{precision}g}")
        with contextlib.suppress(OverflowError):
            if struct.pack("<f", shorter) == bits:
                return double_text(shorter)
    return double_text(value)


def string_text(utf8_string):
    raw = bytes(utf8_string.getBytes())
    try:
        return json_text(raw.decode())
    except UnicodeDecodeError:
        return f"not-utf8:{raw.hex()}"


def neutral_text(spark_type, value):
    """The neutral text of a value as Spark holds it inside."""
    if value is None:
        return "null"
    if spark_type == "FLOAT":
        return float_text(value)
    if spark_type == "DOUBLE":
        return double_text(value)
    if spark_type.startswith("DECIMAL"):
        return f"{value.toJavaBigDecimal():f}"
    if spark_type in ("STRING", "CHAR(5)", "VARCHAR(5)"):
        return string_text(value)
    if spark_type == "BINARY":
        return bytes(value).hex()
    if spark_type == "BOOLEAN":
        return "true" if value else "false"
    return str(value)


def kind_of(error):
    """The class and the error condition of the deepest cause: the same whether a task, a write or a cast has failed."""
    throwable = error.java_exception if isinstance(error, Py4JJavaError) else error._origin
    while throwable.getCause() is not None:
        throwable = throwable.getCause()
    name = throwable.getClass().getName()
    return f"{name} {throwable.getCondition()}" if name.startswith("org.apache.spark.") else name


def escaped(text):
    """A text as the inside of a SQL string."""
    return "".join(f"\\u{ord(c):04x}" if c < " " or c == "\x7f" else f"\\{c}" if c in "\\'" else c for c in text)


class Spark:
    """A session, with a table `column_N` of one column `v` for every type, and a table `source_N` of `id` and `v` that
    holds the values of every type that has some."""

    def __init__(self, directory):
        settings = {
            "spark.driver.memory": "2g",
            "spark.driver.host": "127.0.0.1",
            "spark.driver.bindAddress": "127.0.0.1",
            "spark.local.dir": f"{directory}/local",
            "spark.sql.warehouse.dir": f"{directory}/warehouse",
            "spark.ui.enabled": "false",
            "spark.ui.showConsoleProgress": "false",
            "spark.sql.session.timeZone": "UTC",
            "spark.sql.shuffle.partitions": "2",
            # Parquet is only the way here: every timestamp and date must pass it unchanged.
            "spark.sql.parquet.outputTimestampType": "TIMESTAMP_MICROS",
            "spark.sql.parquet.datetimeRebaseModeInWrite": "CORRECTED",
            "spark.sql.parquet.datetimeRebaseModeInRead": "CORRECTED",
        }
        builder = SparkSession.builder.master("local[2]").appName("casts")
        for name, value in settings.items():
            builder = builder.config(name, value)
        self.session = builder.getOrCreate()
        # Failures are expected by the hundred; those that matter are raised.
        self.session.sparkContext.setLogLevel("OFF")
        logging.getLogger("SQLQueryContextLogger").setLevel(logging.CRITICAL + 1)
        self.state = self.session._jsparkSession.sessionState()
        self.mode = getattr(self.state, "executePlan$default$2")()
        self.jvm = self.session._jvm
        self.projections = self.jvm.org.apache.spark.sql.catalyst.expressions.UnsafeProjection
        self.apply = self.method_apply()

        for n, spark_type in enumerate(TYPES):
            self.sql(f"CREATE TABLE column_{n} (v {spark_type}) USING parquet")
            if spark_type in VALUES:
                self.make_source(n, spark_type)

    def sql(self, text):
        return self.session.sql(text)

    def arguments(self, *values):
        """An Object[], as reflection takes the arguments of a call."""
        array = self.session.sparkContext._gateway.new_array(self.jvm.java.lang.Object, len(values))
        for n, value in enumerate(values):
            array[n] = value
        return array

    def method_apply(self):
        """`UnsafeProjection.apply`, to be called by reflection: py4j finds methods by the name of the object's class, and
        every compiled projection has the same name but is a class of its own."""
        loader = self.jvm.java.lang.Thread.currentThread().getContextClassLoader()
        projection = loader.loadClass("org.apache.spark.sql.catalyst.expressions.UnsafeProjection")

        def takes_a_row(method):
            return [of.getSimpleName() for of in method.getParameterTypes()] == ["InternalRow"]

        methods = [method for method in projection.getDeclaredMethods() if method.getName() == "apply"]
        (method,) = filter(takes_a_row, methods)
        return method

    def set_policy(self, policy):
        self.session.conf.set("spark.sql.storeAssignmentPolicy", policy)

    def make_source(self, n, spark_type):
        texts = VALUES[spark_type]
        if len(set(texts)) != len(texts):
            raise Disagreement(f"a value of {spark_type} stands twice in the list")
        # A STRING's neutral text is JSON.
        plain = [json.loads(text) for text in texts] if spark_type == "STRING" else texts
        rows = ", ".join(f"({id}, '{escaped(text)}')" for id, text in enumerate(plain))
        made = FROM_TEXT.get(spark_type, f"CAST(text AS {spark_type})")
        self.sql(f"CREATE TABLE source_{n} USING parquet AS SELECT id, {made} AS v FROM VALUES {rows} AS _(id, text)")
        for id, (value,) in self.read(f"SELECT id, v FROM source_{n}", [spark_type]).items():
            if value != texts[id]:
                raise Disagreement(f"{spark_type} {texts[id]} is {value} in its table")

    def rows(self, query):
        """The rows of a query as Spark holds them inside, with the types of their columns."""
        frame = self.sql(query)
        types = [field.dataType() for field in frame._jdf.schema().fields()]
        return frame._jdf.queryExecution().executedPlan().executeCollect(), types

    def read(self, query, spark_types):
        """The neutral texts of a query's columns after its first, which is the id that they are found by."""
        rows, types = self.rows(query)
        columns = list(enumerate(zip(types[1:], spark_types, strict=True), start=1))
        return {
            row.getInt(0): [neutral_text(name, row.get(at, inner)) for at, (inner, name) in columns] for row in rows
        }

    def store_assignment(self, source, target):
        """What an INSERT of `source` into `target` makes of a row (given as `arguments`), or None if it is refused."""
        statement = f"INSERT INTO column_{target} SELECT v FROM source_{source}"
        execution = self.state.executePlan(self.state.sqlParser().parsePlan(statement), self.mode)
        try:
            execution.assertAnalyzed()
        except CapturedException as error:
            if error.getCondition() in REFUSALS:
                return None
            raise
        project = execution.analyzed().query()
        assign = self.projections.create(project.projectList(), project.child().output())
        return lambda row: self.apply.invoke(assign, row)


def failures(spark, source, target, policy):
    """The values that cannot be stored, each with its kind of error, or None if the pair is refused."""
    spark.set_policy(policy)
    assign = spark.store_assignment(source, target)
    if assign is None:
        return None
    failed = {}
    for row, id in spark.source_rows:
        try:
            assign(row)
        except (CapturedException, Py4JJavaError) as error:
            failed[id] = kind_of(error)
    return failed


def insert_the_rest(spark, source, policy, failed):
    """Inserts all values that can be stored, a column for each type; returns what the table then holds, by id."""
    spark.set_policy(policy)
    targets = [target for target in range(len(TYPES)) if target in failed]
    columns = ", ".join(f"c{target} {TYPES[target]}" for target in targets)
    values = ", ".join(
        f"CASE WHEN id NOT IN ({', '.join(map(str, failed[target]))}) THEN v END" if failed[target] else "v"
        for target in targets
    )
    spark.sql(f"CREATE TABLE stored (id INT, {columns}) USING parquet")
    try:
        spark.sql(f"INSERT INTO stored SELECT id, {values} FROM source_{source}")
        stored = spark.read("SELECT * FROM stored", [TYPES[target] for target in targets])
    finally:
        spark.sql("DROP TABLE stored")
    return {id: dict(zip(targets, texts, strict=True)) for id, texts in stored.items()}


def insert_one_of_each(spark, source, target, policy, failed):
    """Really inserts one value of each kind of error. Returns how many."""
    spark.set_policy(policy)
    samples = {kind: id for id, kind in failed.items()}
    for kind, id in samples.items():
        what = f"{TYPES[source]} {VALUES[TYPES[source]][id]} into {TYPES[target]}, {policy}"
        try:
            spark.sql(f"INSERT INTO column_{target} SELECT v FROM source_{source} WHERE id = {id}")
        except (CapturedException, Py4JJavaError) as error:
            if kind_of(error) != kind:
                raise Disagreement(f"{what}: {kind} expected, but the INSERT gave {kind_of(error)}") from error
        else:
            raise Disagreement(f"{what}: {kind} expected, but the INSERT succeeded")
    return len(samples)


def answers(spark):
    """Every row of the table, in its order."""
    found = {}
    proven = collections.Counter()
    for source, source_type in enumerate(TYPES):
        if source_type not in VALUES:
            continue
        rows, _ = spark.rows(f"SELECT v, id FROM source_{source}")
        spark.source_rows = [(spark.arguments(row), row.getInt(1)) for row in rows]
        for policy in POLICIES:
            by_target = {target: failures(spark, source, target, policy) for target in range(len(TYPES))}
            accepted = {target: failed for target, failed in by_target.items() if failed is not None}
            stored = insert_the_rest(spark, source, policy, accepted)
            for target, failed in by_target.items():
                if failed:
                    proven["failing"] += insert_one_of_each(spark, source, target, policy, failed)
                for id in range(len(VALUES[source_type])):
                    if failed is None:
                        answer = "refused"
                    elif id in failed:
                        answer = "error"
                    else:
                        answer = stored[id][target]
                        proven["stored"] += 1
                    found[Case(source, target, policy, id)] = answer
        print(f"{source_type}: {len(spark.source_rows)} values", file=sys.stderr)
    print(f"{proven['stored']} values were stored and read; {proven['failing']} really failed", file=sys.stderr)
    order = sorted(found, key=lambda case: (case.source, case.target, POLICIES.index(case.policy), case.value))
    for case in order:
        source_type = TYPES[case.source]
        yield [source_type, VALUES[source_type][case.value], TYPES[case.target], case.policy, found[case]]


def table_text(rows):
    return "".join("\t".join(row) + "\n" for row in [HEADER, *rows])


def differences(kept, made):
    """One line for every row in which two texts of the table differ."""
    by_case = []
    for text in (kept, made):
        lines = (line.rsplit("\t", 1) for line in text.splitlines())
        by_case.append({case: answer for case, answer in lines})
    kept_rows, made_rows = by_case
    for case in {**made_rows, **kept_rows}:
        says, is_true = kept_rows.get(case, "no such row"), made_rows.get(case, "no such row")
        if says != is_true:
            yield f"{' | '.join(case.split(chr(9)))}: the table says {says}, Spark says {is_true}"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="compare with the file instead of writing it")
    check = parser.parse_args().check
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as directory:
        spark = Spark(directory)
        java = spark.session._jvm.java.lang.System.getProperty("java.version")
        print(f"Spark {spark.session.version}, Java {java}", file=sys.stderr)
        made = table_text(answers(spark))
        spark.session.stop()
    if not check:
        TABLE.write_text(made, encoding="utf-8", newline="")
        return
    kept = TABLE.read_bytes().decode()
    if kept == made:
        print(f"{TABLE.name}: {len(made.splitlines()) - 1} rows, and Spark says the same of each")
        return
    lines = list(differences(kept, made)) or ["the same rows, in another order or with other line ends"]
    print("\n".join(lines))
    sys.exit(f"{TABLE.name}: {len(lines)} differences")


if __name__ == "__main__":
    main()
