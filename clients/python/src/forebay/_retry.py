"""When a call is made again: a pure function of attempts, time and chance.

What may be made again: every call that this package retries is idempotent. Reads change nothing; applying and dropping a table twice
is applying and dropping it once; rows of every mode are the same row when they come twice (an INSERT finds its very own row, an atomic
batch its own transaction or its own values). What a second write can do is put its row over a newer one that another writer sent in
between, in tables without `sequence_by`: the same as any late arrival there.

What is made again: calls that ended UNAVAILABLE or with a broken connection, and those over a limit (RESOURCE_EXHAUSTED) where the
gateway says when to come back. Callers: `client`, `aio`, the writers (`backoff`).
"""

from __future__ import annotations

from typing import Optional

from ._status import is_transient
from .errors import CallError

BACKOFF_BASE_SECONDS = 0.1
BACKOFF_MAX_SECONDS = 10.0
# The waits of unary calls stay short: somebody waits for the answer.
CALL_BACKOFF_MAX_SECONDS = 1.0


def backoff(
    attempt: int, chance: float, asked: Optional[float] = None, *, longest: float = BACKOFF_MAX_SECONDS
) -> float:
    """The wait in seconds before repetition number `attempt` (from 0): between half and all of the doubled base, never less than
    what the gateway asked for. `chance` is in 0..1."""
    full = min(BACKOFF_BASE_SECONDS * 2.0 ** min(attempt, 16), longest)
    return max(full * (0.5 + 0.5 * min(max(chance, 0.0), 1.0)), asked or 0.0)


class Attempts:
    """The attempts of one call. Times are seconds of one clock."""

    def __init__(self, started: float, timeout: float, retry_for: float) -> None:
        self._until = started + timeout
        self._retry_until = started + retry_for
        self._repeated = 0

    def left(self, now: float) -> float:
        """Seconds until the call's deadline; never negative."""
        return max(self._until - now, 0.0)

    def pause(self, error: CallError, now: float, chance: float) -> Optional[float]:
        """How long to wait before the call is made again; None where it is not."""
        if not is_transient(error):
            return None
        wait = backoff(self._repeated, chance, error.retry_after, longest=CALL_BACKOFF_MAX_SECONDS)
        self._repeated += 1
        # A limit says itself when another attempt can help.
        until = self._until if error.code == "RESOURCE_EXHAUSTED" else min(self._until, self._retry_until)
        return wait if now + wait < until else None
