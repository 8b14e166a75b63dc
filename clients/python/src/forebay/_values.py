"""What encoding and decoding of values share: the epochs, what counts as null, numpy's scalars, and what does not fit.

Pure; numpy is used only where a value is numpy's. Callers: `_encode`, `_decode`, `_schema`.
"""

from __future__ import annotations

import sys
from datetime import date, datetime, timedelta, timezone
from typing import Any, Type

EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)
EPOCH_NAIVE = datetime(1970, 1, 1)
EPOCH_DAY = date(1970, 1, 1).toordinal()


class Misfit(Exception):
    """A value that cannot be encoded or decoded: where in its column, and why. Turned into `TypeError` or `ValueError` with the
    column's name where the column is known."""

    def __init__(self, kind: Type[Exception], message: str, path: str = "") -> None:
        super().__init__(kind, message, path)
        self.kind = kind
        self.message = message
        self.path = path

    def under(self, step: str) -> Misfit:
        """The same, seen from one level above: `[3]`, `.hr`."""
        return Misfit(self.kind, self.message, step + self.path)

    def error(self, column: str) -> Exception:
        """The exception for the caller."""
        return self.kind(f"{column}{self.path}: {self.message}")


def found(value: Any) -> str:
    """What was found, for an error: the type, never the value."""
    kind = type(value)
    if kind is datetime:
        return "an aware datetime" if value.tzinfo is not None else "a naive datetime"
    module = "" if kind.__module__ in ("builtins", "datetime", "decimal") else f"{kind.__module__}."
    return module + kind.__name__


def wrong(expected: str, value: Any) -> Misfit:
    """The error for a value of another type."""
    return Misfit(TypeError, f"expected {expected}; found {found(value)}")


def is_null(value: Any) -> bool:
    """None, and what pandas has for it (`NaT`, `NA`). NaN is a number."""
    if value is None:
        return True
    kind = type(value)
    return kind.__name__ in ("NaTType", "NAType") and kind.__module__.startswith("pandas.")


def plain(value: Any) -> Any:
    """A numpy scalar as the Python value that it is; everything else as it is."""
    if type(value).__module__ != "numpy" or not hasattr(value, "dtype") or getattr(value, "shape", None) != ():
        return value
    kind = value.dtype.kind
    if kind in "mM":
        return _numpy_time(value)
    return value.item()


def _numpy_time(value: Any) -> Any:
    if str(value) == "NaT":
        return None
    numpy = sys.modules["numpy"]
    unit = numpy.datetime_data(value.dtype)[0]
    if value.dtype.kind == "M" and unit in ("Y", "M", "W", "D"):
        return value.astype("datetime64[D]").item()
    micros = value.astype("datetime64[us]" if value.dtype.kind == "M" else "timedelta64[us]")
    if micros != value:
        raise Misfit(ValueError, "there are nanoseconds in it; expected whole microseconds")
    return micros.item()


def check_whole_microseconds(value: Any) -> None:
    """Raises `Misfit` where there are nanoseconds."""
    # pandas' Timestamp and Timedelta are a datetime and a timedelta with more digits.
    if getattr(value, "nanosecond", 0) or (type(value) is not timedelta and getattr(value, "nanoseconds", 0)):
        raise Misfit(ValueError, "there are nanoseconds in it; expected whole microseconds: `.floor('us')`")
