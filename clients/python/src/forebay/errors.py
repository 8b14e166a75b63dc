"""What can go wrong, as exceptions: one class for each thing that a caller would do differently.

Every error says where and what was expected. None holds a secret or a row's values (but for those that the table itself lets
outcomes show, `show_values_in_outcomes`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Optional, Sequence

if TYPE_CHECKING:
    from .results import Outcome, Receipt


class ForebayError(Exception):
    """Everything that this package raises on purpose, but for wrong arguments (`ValueError`, `TypeError`)."""


class CallError(ForebayError):
    """A call ended with an error.

    `code` is gRPC's status code by name ("NOT_FOUND"); `reason` Forebay's own ("FENCED", "TABLE_NOT_FOUND"), stable, "" where it
    gave none; `field_path` where in the request (`columns[3].type`), "" where it is the request as a whole; `retry_after` in
    seconds, where the gateway says that and when a retry can help.
    """

    def __init__(
        self, code: str, message: str, *, reason: str = "", field_path: str = "", retry_after: Optional[float] = None
    ) -> None:
        super().__init__(code, message, reason, field_path, retry_after)
        self.code = code
        self.message = message
        self.reason = reason
        self.field_path = field_path
        self.retry_after = retry_after

    def __str__(self) -> str:
        where = f"{self.field_path}: " if self.field_path else ""
        why = f" ({self.code}, {self.reason})" if self.reason not in ("", self.code) else f" ({self.code})"
        return f"{where}{self.message}{why}"

    def __reduce__(self):  # type: ignore[no-untyped-def]
        # Exceptions travel from Spark's executors to its driver.
        return (_call_error, (type(self), self.code, self.message, self.reason, self.field_path, self.retry_after))


def _call_error(cls, code, message, reason, field_path, retry_after):  # type: ignore[no-untyped-def]
    return cls(code, message, reason=reason, field_path=field_path, retry_after=retry_after)


class InvalidRequest(CallError):
    """INVALID_ARGUMENT, OUT_OF_RANGE, UNIMPLEMENTED, FAILED_PRECONDITION: the same request will fail again."""


class Unauthenticated(CallError):
    """The credential is missing, wrong or has expired."""


class PermissionDenied(CallError):
    """The caller may not do this; also where the table does not exist and the caller may not know."""


class NotFound(CallError):
    """There is no such table."""


class Fenced(CallError):
    """A newer run of the same producer has written to this table: this run is over."""


class RateLimited(CallError):
    """RESOURCE_EXHAUSTED, after the retries that the gateway suggested."""


class Unavailable(CallError):
    """No gateway could be reached, or it could not serve, for as long as the caller was willing to retry."""


class DeadlineExceeded(CallError):
    """The caller's deadline passed. What was sent may still be written."""


class RowsRejected(ForebayError):
    """Rows were not written. `outcomes` names up to `MAX_LISTED` of them; `receipt` has the counts."""

    MAX_LISTED = 100

    def __init__(self, outcomes: Sequence[Outcome], receipt: Receipt) -> None:
        super().__init__(outcomes, receipt)
        self.outcomes = list(outcomes)
        self.receipt = receipt

    def __str__(self) -> str:
        lost = self.receipt.rejected_rows + self.receipt.retryable_rows + self.receipt.unknown_rows
        first = f"; the first: {self.outcomes[0]}" if self.outcomes else ""
        return f"{lost} of {self.receipt.rows} rows were not written{first}"


class RowUnavailable(ForebayError):
    """A read got no value where one may be: UNAVAILABLE, DENIED or UNDECODABLE, never "there is none"."""

    def __init__(self, status: str, message: str) -> None:
        super().__init__(status, message)
        self.status = status
        self.message = message

    def __str__(self) -> str:
        return f"{self.message} ({self.status})"


class SessionClosed(ForebayError):
    """The writer was finished, aborted or has failed before; its first error is the cause."""
