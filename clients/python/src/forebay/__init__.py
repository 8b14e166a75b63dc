"""Forebay's client: typed reads and writes of DynamoDB tables through a Forebay gateway."""

from __future__ import annotations

from ._version import __version__
from .errors import (
    CallError,
    DeadlineExceeded,
    Fenced,
    ForebayError,
    InvalidRequest,
    NotFound,
    PermissionDenied,
    RateLimited,
    RowsRejected,
    RowUnavailable,
    SessionClosed,
    Unauthenticated,
    Unavailable,
)
from .options import ConnectOptions
from .results import Outcome, ReadStatus, Receipt, RowResult, RowStatus

__all__ = [
    "CallError",
    "ConnectOptions",
    "DeadlineExceeded",
    "Fenced",
    "ForebayError",
    "InvalidRequest",
    "NotFound",
    "Outcome",
    "PermissionDenied",
    "RateLimited",
    "ReadStatus",
    "Receipt",
    "RowResult",
    "RowStatus",
    "RowUnavailable",
    "RowsRejected",
    "SessionClosed",
    "Unauthenticated",
    "Unavailable",
    "__version__",
]
