"""Whether a task's input has ended, or has only stopped coming.

Spark feeds a Python worker an Arrow stream. When something before the sink fails, or the task is killed, Spark just
closes the worker's input, and Arrow takes that for the stream's end: the iterator that a sink reads ends exactly as
it does when all rows have come. Finish would then call a failed attempt a whole one.

After a whole stream Spark sends a word more, which the worker reads once the sink is done; after a broken one there
is nothing. So this module looks, without taking anything, whether something follows. The worker's input is a local of
its `main`; Spark offers no other way to it. The caller is `task`.
"""

from __future__ import annotations

import enum
import sys
from types import FrameType
from typing import Any, Optional


class InputEnd(enum.Enum):
    """What is known about the end of the input."""

    WHOLE = "whole"
    BROKEN = "broken"
    UNKNOWN = "unknown"
    """This Spark keeps the worker's input elsewhere."""


def input_end() -> InputEnd:
    """To be called in the thread of the task, once its iterator has ended."""
    infile = _worker_input(sys._getframe(1))
    if infile is None:
        return InputEnd.UNKNOWN
    try:
        # Waits for at least one byte, or for the end.
        following = infile.peek(1)
    except (OSError, ValueError):
        # Reset, or closed.
        return InputEnd.BROKEN
    return InputEnd.WHOLE if following else InputEnd.BROKEN


def _worker_input(frame: Optional[FrameType]) -> Any:
    while frame is not None:
        # The worker's module has one name when it is imported, another when it is run.
        if frame.f_code.co_name == "main" and frame.f_code.co_filename.replace("\\", "/").endswith("pyspark/worker.py"):
            infile = frame.f_locals.get("infile")
            return infile if hasattr(infile, "peek") else None
        frame = frame.f_back
    return None
