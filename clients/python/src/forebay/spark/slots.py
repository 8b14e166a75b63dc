"""`parallelism`: at most so many sessions to a table at once from one machine.

A sink cannot choose how many tasks Spark runs. What it can do is wait before it opens a session, and that is what
this does, by locks on files, which go with the process that holds them, however it ends. A waiting task holds its
core. Caller: `task`.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import tempfile
import time
from typing import IO, Iterator, Optional

_POLL_SECONDS = 0.05


@contextlib.contextmanager
def slot(parallelism: Optional[int], endpoint: str, table: str, directory: Optional[str] = None) -> Iterator[None]:
    """Waits for one of `parallelism` slots, and holds it. None: no bound."""
    if parallelism is None:
        yield
        return
    held = _wait_for_one(_folder(endpoint, table, directory), parallelism)
    try:
        yield
    finally:
        held.close()


def _folder(endpoint: str, table: str, directory: Optional[str]) -> str:
    name = hashlib.sha256(f"{endpoint}\n{table}".encode()).hexdigest()[:16]
    # Of this user: another one's locks could not be opened.
    user = os.getuid() if hasattr(os, "getuid") else "all"
    folder = os.path.join(directory or tempfile.gettempdir(), f"forebay-slots-{user}", name)
    os.makedirs(folder, mode=0o700, exist_ok=True)
    return folder


def _wait_for_one(folder: str, parallelism: int) -> IO[bytes]:
    try:
        import fcntl
    except ImportError:
        raise ValueError(
            "parallelism: this system has no file locks; leave the option out, and coalesce the DataFrame"
        ) from None
    while True:
        for number in range(parallelism):
            file = open(os.path.join(folder, str(number)), "ab")
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return file
            except BlockingIOError:
                file.close()
            except BaseException:
                file.close()
                raise
        time.sleep(_POLL_SECONDS)
