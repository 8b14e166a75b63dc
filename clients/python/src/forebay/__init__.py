"""Forebay's client: typed reads and writes of DynamoDB tables through a Forebay gateway."""

from __future__ import annotations

from . import aio
from ._version import __version__
from .client import Client, connect
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
from .results import Outcome, ReadStatus, Receipt, RowResult, RowStatus, WriteResult
from .tables import AppliedTable, Column, Table, TableSummary
from .writer import Writer

__all__ = [
    "AppliedTable",
    "CallError",
    "Client",
    "Column",
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
    "Table",
    "TableSummary",
    "Unauthenticated",
    "Unavailable",
    "WriteResult",
    "Writer",
    "__version__",
    "aio",
    "connect",
]
