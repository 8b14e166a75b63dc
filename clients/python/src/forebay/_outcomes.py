"""Where a writer's outcomes go: to the caller's function, or into a list that cannot grow without end. Callers: the writers."""

from __future__ import annotations

from typing import Callable, List, Optional

from .results import Outcome

MAX_KEPT = 10_000


class Outcomes:
    """`tell` is called for each outcome, once, in the order in which they become final."""

    def __init__(self, on_outcome: Optional[Callable[[Outcome], None]]) -> None:
        self._on_outcome = on_outcome
        self.kept: List[Outcome] = []
        self.dropped = 0

    def tell(self, outcome: Outcome) -> None:
        """An exception of the caller's function passes through: it ends the session, because nobody would know what is lost."""
        if self._on_outcome is not None:
            self._on_outcome(outcome)
        elif len(self.kept) < MAX_KEPT:
            self.kept.append(outcome)
        else:
            self.dropped += 1
