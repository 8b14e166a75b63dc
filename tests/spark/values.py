"""The types and the values of the table of casts, in the table's neutral text (see README.md).

Every list holds what is in range, at the edge and just out of range of every target. A value whose cast depends on the day
on which it runs (a time without a date) has no place here.
"""

import json

# In the order of the table's rows. CHAR and VARCHAR are types of columns only: a value of either is a STRING.
TYPES = [
    "TINYINT",
    "SMALLINT",
    "INT",
    "BIGINT",
    "FLOAT",
    "DOUBLE",
    "DECIMAL(10,2)",
    "DECIMAL(38,0)",
    "STRING",
    "CHAR(5)",
    "VARCHAR(5)",
    "BOOLEAN",
    "BINARY",
    "DATE",
    "TIMESTAMP",
    "TIMESTAMP_NTZ",
    "INTERVAL DAY TO SECOND",
    "INTERVAL YEAR TO MONTH",
]

# The last second that fits in a BIGINT of microseconds, and the seconds of the years that four digits can write.
MAX_SECOND = 9223372036854
YEAR_1 = -62135596800
YEAR_10000 = 253402300800


def json_text(value):
    """A STRING's neutral text. What cannot be seen on a page is escaped; other letters stand as they are."""
    text = json.dumps(value, ensure_ascii=False)
    return "".join(c if c.isprintable() else f"\\u{ord(c):04x}" for c in text)


def edges(bits):
    """The least and the greatest integer of a width, with their neighbours on both sides."""
    high = 1 << (bits - 1)
    return [-high - 1, -high, -high + 1, high - 2, high - 1, high]


def integers(bits, more):
    """What fits in `bits`, of every width's edges and of `more`, in ascending order."""
    high = 1 << (bits - 1)
    every = {0, 1, -1, 2, 5, 12, 59, -12, 99, 100, *edges(8), *edges(16), *edges(32), *edges(64), *more}
    return [str(value) for value in sorted(every) if -high <= value < high]


# Exact in a FLOAT up to 2^24, in a DOUBLE up to 2^53; DECIMAL(10,2) holds eight digits before the point.
INT_EDGES = [(1 << 24) - 1, 1 << 24, (1 << 24) + 1, -(1 << 24) - 1, 99999999, 100000000, -99999999, -100000000]
# Seconds at the ends of the years that four digits can write and of a BIGINT of microseconds; years of INT months.
BIGINT_EDGES = [
    (1 << 53) - 1,
    1 << 53,
    (1 << 53) + 1,
    -(1 << 53) - 1,
    9999999999,
    1704067200,
    178956970,
    178956971,
    YEAR_1 - 1,
    YEAR_1,
    YEAR_10000 - 1,
    YEAR_10000,
    MAX_SECOND,
    MAX_SECOND + 1,
    -MAX_SECOND,
    -MAX_SECOND - 1,
    -MAX_SECOND - 2,
]

FRACTIONS = """NaN Infinity -Infinity -0.0 0.0 1.0 -1.0 0.1 0.5 -0.5 0.9 -0.9 1.5 2.5 -2.5 0.005 0.015 0.125 0.001 0.0001
    123456.78 1234567.0 10000000.0 12345678.0 127.0 127.9 128.0 -128.0 -128.9 -129.0 32767.0 32767.9 32768.0 -32768.9
    -32769.0""".split()
FLOATS = FRACTIONS + """16777216.0 16777218.0 99999990.0 100000000.0 2147483500.0 2147483600.0 -2147483600.0 -2147484000.0
    9.223371e18 9.223372e18 -9.223372e18 -9.223373e18 9.3e18 10000000000.0 1e30 1e38 3.4028235e38 -3.4028235e38 1.1754944e-38
    1e-45 9223372000000.0""".split()
DOUBLES = FRACTIONS + """16777217.0 9007199254740991.0 9007199254740992.0 9007199254740994.0 99999999.99 99999999.994
    99999999.995 99999999.996 100000000.0 -99999999.994 -99999999.996 1.005 1.015 2147483647.0 2147483647.9 2147483648.0
    -2147483648.9 -2147483649.0 10000000000.0 1.23456789e16 9.223372036854775e18 9.223372036854776e18 -9.223372036854776e18
    -9.223372036854778e18 9.3e18 1e37 9.99999999999999e37 1e38 3.4028234663852886e38 3.4028235677973366e38 3.5e38
    -3.5e38 1e126 1e300 1e-45 1e-46 1e-130 1e-131 1.7976931348623157e308 -1.7976931348623157e308 2.2250738585072014e-308
    5e-324 9223372036854.0 9223372036854.775 9223372036855.0 1704067200.123456 1704067200.1234567 -1e-6 -1e-7
    1e-7""".split()

DECIMALS_10_2 = """0.00 0.01 -0.01 0.10 0.49 0.50 0.51 -0.49 -0.50 -0.51 1.00 -1.00 1.20 1.49 1.50 2.50 -1.50 -2.50 12.00
    99.99 100.00 127.00 127.49 127.50 127.99 128.00 -128.00 -128.50 -128.99 -129.00 255.00 32767.99 32768.00 -32768.99
    -32769.00 16777217.00 99999999.49 99999999.50 99999999.99 -99999999.99""".split()
DECIMALS_38_0 = [
    *integers(64, [*INT_EDGES, *BIGINT_EDGES]),
    "9223372036854775808",
    "-9223372036854775809",
    "18446744073709551615",
    "18446744073709551616",
    "10000000000000000000000000000000000000",
    "99999999999999999999999999999999999999",
    "-99999999999999999999999999999999999999",
]

NUMBER_TEXTS = """0 1 -1 +5 -0 12.5 12.50 0.5 -0.5 .5 5. . - + -- --1 00012 127 128 -128 -129 127.9 -128.9 128.5 32767 32768
    2147483647 2147483648 -2147483648 -2147483649 9223372036854775807 9223372036854775808 -9223372036854775808
    -9223372036854775809 9223372036854775807.9 99999999.99 99999999.994 99999999.995 100000000 0.005 0.004 -0.005
    99999999999999999999999999999999999999 100000000000000000000000000000000000000 0.00000000000000000000000000000000000000001
    1e3 1E3 1e+3 1.5e1 1e-3 1e 1e38 1e39 3.5e38 1e308 1e309 1e-324 1e-400 -1e400 1e99999999999 NaN nan NAN inf Inf INF -inf
    +inf Infinity infinity -Infinity +Infinity -infinity Infinit 1.0d 1.0D 1.0f 1d 5L 5S 5Y 1.0bd 0x10 0x1p3 1_000 1,000
    0.1 1.5.5 12.x 16777217 9007199254740993 1.1754943508222875e-38 1234567890123.456789""".split()
BLANK_TEXTS = [
    " 12 ",
    "  7",
    "7  ",
    "\t12\n",
    " 12.5 ",
    " NaN ",
    " true ",
    "1 2",
    "- 5",
    " ",
    # What counts as blank: control characters; not the spaces of Unicode. Then digits that are not ASCII's.
    "\u000012\u0000",
    "\u007f12",
    "\u00a012",
    "\u200b12",
    "１２",
]
WORD_TEXTS = """abc hello hello! true TRUE True T t tru yes YES y Y on false FALSE F f no NO n off epoch äöüéñ äöüéñ! 日本語日本
    日本語日本語 🎈🎈🎈🎈🎈 🎈🎈🎈🎈🎈🎈""".split()
PADDED_TEXTS = ["", "abc   ", "ab   ", "hello ", "hello   ", "     ", "      ", " abc", "  abc   ", "äöüéñ ", "hello\t"]
DATE_TEXTS = """2020 2020-1 2020-01 2020-1-5 2020-01-05 2020-01-05T 2020-01-05T00 2020-01-05Tx 2020-01-05x 2020-02-29 2020-02-30
    2021-02-29 2020-13-01 2020-00-10 2020-01-00 2020-001-05 2020-01-005 0000-01-01 0001-01-01 -0001-01-01 +2020-01-05
    -2020-01-05 +12345-01-01 12345-01-01 0012345-01-01 00012345-01-01 1582-10-04 1582-10-10 1582-10-15 1969-12-31 1970-01-01
    9999-12-31 10000-01-01 294247-01-10 294247-01-11 5881580-07-11 5881580-07-12 +5881580-07-11 -5877641-06-23
    -5877641-06-22 99999999-01-01 20200105 2020/01/05 20-01-05 202-01-05 02020-01-05 01/05/2020 2020-01-05-06 2020-
    2020-01-""".split()
BLANK_DATE_TEXTS = [
    "  2020-01-05",
    "\t2020-01-05\n",
    "\u007f2020-01-05",
    "\u00a02020-01-05",
    "2020-01-05 ",
    " 2020-01-05 ",
    "2020-01-05 x",
    "2020-01-05 12:34:56",
    "2020-01-05 25:99",
    "Jan 5, 2020",
]
TIMESTAMP_TEXTS = """2020-01-05T12 2020-01-05T12:34 2020-01-05T12:34:56 2020-01-05T1:2:3 2020-01-05T12:34:56. 2020-01-05T12:34:56.7
    2020-01-05T12:34:56.789012 2020-01-05T12:34:56.789012345 2020-01-05T12:34:56.7890126 2020-01-05T12:34:56,789
    2020-01-05T24:00:00 2020-01-05T23:59:60 2020-01-05T12:60:00 2020-01-05T12:34:56Z 2020-01-05T12:34:56z
    2020-01-05T12:34:56.5+01:00 2020-01-05T12:34:56+01:00 2020-01-05T12:34:56-03:30 2020-01-05T12:34:56+1
    2020-01-05T12:34:56+01 2020-01-05T12:34:56+1:30 2020-01-05T12:34:56+1:3 2020-01-05T12:34:56+0130
    2020-01-05T12:34:56+01:00:30 2020-01-05T12:34:56+18:00 2020-01-05T12:34:56+19:00 2020-01-05T12:34:56UTC
    2020-01-05T12:34:56UTC+3 2020-01-05T12:34:56UTC+03:00 2020-01-05T12:34:56GMT-5 2020-01-05T12:34:56UT+1
    2020-01-05T12:34:56Europe/Berlin 2020-07-05T12:34:56Europe/Berlin 2020-01-05T12:34:56CET 2020-01-05T12:34:56PST
    2020-01-05T12:34:56EST 2020-01-05T12:34:56Mars/Olympus 2020-01-05Z 2020-01-05T12:34Z 2020-01-05T12Z
    0001-01-01T00:00:00 9999-12-31T23:59:59.999999 -0001-01-01T00:00:00 +12345-01-01T00:00:00 1969-12-31T23:59:59.999999
    294247-01-10T04:00:54.775807 294247-01-10T04:00:54.775808 -290308-12-21T19:59:05.224192 -290308-12-21T19:59:05.224191
    2020-02-30T00:00:00 2020-1-5T12:34:56 2020-01T12:34:56 2020T12:34:56""".split()
BLANK_TIMESTAMP_TEXTS = [
    "2020-01-05 12:34:56.0",
    "2020-01-05  12:34:56",
    " 2020-01-05 12:34:56 ",
    "2020-01-05 12:34:56.789",
    "2020-01-05 12:34:56 Z",
    "2020-01-05 12:34:56 +01:00",
    "2020-01-05 12:34:56 UTC+3",
    "2020-01-05 12:34:56 Europe/Berlin",
    # The hour that summer time leaves out, and the one that is there twice.
    "2020-03-29 02:30:00 Europe/Berlin",
    "2020-10-25 02:30:00 Europe/Berlin",
    "2020-01-05 1:00 PM",
]
INTERVAL_TEXTS = [
    "INTERVAL '1 02:03:04.5' DAY TO SECOND",
    "INTERVAL '-1 02:03:04.5' DAY TO SECOND",
    "INTERVAL -'1 02:03:04.5' DAY TO SECOND",
    "interval '1 02:03:04.5' day to second",
    "INTERVAL '1' DAY",
    "INTERVAL '1 02' DAY TO HOUR",
    "INTERVAL '02:03:04' HOUR TO SECOND",
    "INTERVAL '90' SECOND",
    "INTERVAL 1 DAY",
    "1 day",
    "1 02:03:04",
    "1 02:03:04.5",
    "1 02:03:04.123456789",
    " 1 02:03:04 ",
    "-1 02:03:04",
    "+1 02:03:04",
    "1 2:3:4",
    "1 24:00:00",
    "1 23:60:00",
    "1 02",
    "1 02:03",
    "106751991 04:00:54.775807",
    "106751991 04:00:54.775808",
    "-106751991 04:00:54.775808",
    "-106751991 04:00:54.775809",
    "P1DT2H3M4S",
    "INTERVAL '1-2' YEAR TO MONTH",
    "INTERVAL '-1-2' YEAR TO MONTH",
    "INTERVAL -'1-2' YEAR TO MONTH",
    "interval '1-2' year to month",
    "INTERVAL '1' YEAR",
    "INTERVAL '14' MONTH",
    "1-2",
    "-1-2",
    "+1-2",
    " 1-2 ",
    "1-11",
    "1-12",
    "178956970-7",
    "178956970-8",
    "-178956970-8",
    "-178956970-9",
    "P1Y2M",
]
STRINGS = [
    json_text(value)
    for value in [
        *NUMBER_TEXTS,
        *BLANK_TEXTS,
        *WORD_TEXTS,
        *PADDED_TEXTS,
        *DATE_TEXTS,
        *BLANK_DATE_TEXTS,
        *TIMESTAMP_TEXTS,
        *BLANK_TIMESTAMP_TEXTS,
        *INTERVAL_TEXTS,
    ]
]

BINARIES = [
    value.hex()
    for value in [
        b"",
        b"\x00",
        b"\x01",
        b"12",
        b"true",
        b"hello",
        b"hello!",
        b"abc   ",
        "äöüéñ".encode(),
        "äöüéñ!".encode(),
        # Not UTF-8: bytes that never stand there, a cut character, an overlong slash, a surrogate.
        b"\xff",
        b"\xff\xfe\x00",
        b"abc\xc3",
        b"\xc0\xaf",
        b"\xed\xa0\x80",
    ]
]

# Days since the epoch: the least and the greatest of DATE, year 0 and 1, the calendar's change in 1582, the last day of 9999.
DATES = """-2147483648 -106751992 -106751991 -719529 -719528 -719163 -719162 -141428 -141427 -1 0 1 127 128 19782 2932896
    2932897 106751990 106751991 106751992 2147483647""".split()

MICROS = [
    -(1 << 63),
    YEAR_1 * 1_000_000 - 1,
    YEAR_1 * 1_000_000,
    -86_400_000_001,
    -86_400_000_000,
    -2147483649_000_000,
    -2147483648_000_001,
    -2147483648_000_000,
    -1_500_000,
    -1_000_000,
    -999_999,
    -1,
    0,
    1,
    999_999,
    1_000_000,
    1_500_000,
    127_999_999,
    128_000_000,
    32767_000_000,
    32768_000_000,
    16777217_000_000,
    99999999_994_999,
    99999999_995_000,
    100000000_000_000,
    1704067200_000_000,
    1704067200_120_000,
    1709210096_789_012,  # 2024-02-29T12:34:56.789012
    2147483647_999_999,
    2147483648_000_000,
    YEAR_10000 * 1_000_000 - 1,
    YEAR_10000 * 1_000_000,
    (1 << 63) - 1,
]
TIMESTAMPS = [str(value) for value in MICROS]

DAY_TIME_INTERVALS = [
    str(value)
    for value in sorted(
        {
            *(value for value in MICROS if abs(value) not in {YEAR_10000 * 1_000_000, -YEAR_1 * 1_000_000}),
            -(1 << 63) + 1,
            (1 << 63) - 2,
            3_600_000_000,
            86_399_999_999,
            86_400_000_000,
            93_784_500_000,
            -93_784_500_000,
        }
    )
]
YEAR_MONTH_INTERVALS = integers(32, [11, 13, -11, -13, 14, 24, *INT_EDGES])

VALUES = {
    "TINYINT": integers(8, []),
    "SMALLINT": integers(16, []),
    "INT": integers(32, INT_EDGES + [1704067200, 178956970, 178956971]),
    "BIGINT": integers(64, INT_EDGES + BIGINT_EDGES),
    "FLOAT": FLOATS,
    "DOUBLE": DOUBLES,
    "DECIMAL(10,2)": DECIMALS_10_2,
    "DECIMAL(38,0)": DECIMALS_38_0,
    "STRING": STRINGS,
    "BOOLEAN": ["false", "true"],
    "BINARY": BINARIES,
    "DATE": DATES,
    "TIMESTAMP": TIMESTAMPS,
    "TIMESTAMP_NTZ": TIMESTAMPS,
    "INTERVAL DAY TO SECOND": DAY_TIME_INTERVALS,
    "INTERVAL YEAR TO MONTH": YEAR_MONTH_INTERVALS,
}
