"""gRPC's errors as this package's: the one place where a status becomes an exception and where it is decided whether it passes.

The details of google.rpc (`grpc-status-details-bin`) are read here without a dependency on googleapis: four small messages of which
a few fields count. Bytes that are none are taken as no details, because they may come from a proxy. Callers: `client`, `aio`, the
writers.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, Iterator, List, Optional, Tuple, Union

import grpc

from .errors import (
    CallError,
    DeadlineExceeded,
    Fenced,
    InvalidRequest,
    NotFound,
    PermissionDenied,
    RateLimited,
    Unauthenticated,
    Unavailable,
)

DOMAIN = "forebay"
_DETAILS_KEY = "grpc-status-details-bin"

_CLASSES = {
    "INVALID_ARGUMENT": InvalidRequest,
    "OUT_OF_RANGE": InvalidRequest,
    "UNIMPLEMENTED": InvalidRequest,
    "FAILED_PRECONDITION": InvalidRequest,
    "ALREADY_EXISTS": InvalidRequest,
    "UNAUTHENTICATED": Unauthenticated,
    "PERMISSION_DENIED": PermissionDenied,
    "NOT_FOUND": NotFound,
    "RESOURCE_EXHAUSTED": RateLimited,
    "UNAVAILABLE": Unavailable,
    "DEADLINE_EXCEEDED": DeadlineExceeded,
}
# Without the gateway's own ErrorInfo these are what a broken connection looks like.
_BROKEN = ("UNKNOWN", "INTERNAL", "CANCELLED")


@dataclass(frozen=True)
class Details:
    """What the details of a status say; empty where there are none."""

    reason: str = ""
    retry_after: Optional[float] = None
    """Seconds."""
    field_path: str = ""
    quota_subject: str = ""
    """Whose limit: `principal/NAME`, `table/NAME`."""


def call_error(error: BaseException) -> CallError:
    """The exception for a `grpc.RpcError`, of a sync or an asyncio call that is over."""
    code = _code_name(error)
    message = _message(error)
    details = parse_details(_details_bytes(error))
    kind = _CLASSES.get(code, CallError)
    if code == "ABORTED" and details.reason == "FENCED":
        kind = Fenced
    elif code in _BROKEN and not details.reason:
        kind = Unavailable
    reason = details.reason
    if kind is Unavailable and not reason:
        disagreement = _tls_sentence(message)
        reason = TLS_REASON if disagreement else ""
        message = disagreement or _transport_sentence(message)
    # The gateway's sentence begins with the path where it is about a field; `CallError` says it by itself.
    if details.field_path and message.startswith(f"{details.field_path}: "):
        message = message[len(details.field_path) + 2 :]
    return kind(
        code, message, reason=reason, field_path=details.field_path, retry_after=details.retry_after
    )


def is_transient(error: BaseException) -> bool:
    """Whether the same call may succeed later."""
    if isinstance(error, Unavailable):
        return error.reason != TLS_REASON
    return isinstance(error, RateLimited) and error.retry_after is not None


TLS_REASON = "TLS"
"""The reason of `Unavailable` where the two ends do not agree on a secure connection: another attempt does not help."""


def _code_name(error: BaseException) -> str:
    code = getattr(error, "code", None)
    found = code() if callable(code) else code
    return found.name if isinstance(found, grpc.StatusCode) else "UNKNOWN"


def _message(error: BaseException) -> str:
    details = getattr(error, "details", None)
    found = details() if callable(details) else details
    return str(found) if found else "the gateway gave no message"


def _details_bytes(error: BaseException) -> bytes:
    trailing = getattr(error, "trailing_metadata", None)
    metadata: Any = trailing() if callable(trailing) else trailing
    for key, value in metadata or ():
        if key == _DETAILS_KEY and isinstance(value, bytes):
            return value
    return b""


# What gRPC says of a handshake, and what that means for people. A wrong guess changes one sentence, and whether it is tried again.
_OTHER_NAME = "its certificate is for another name than the endpoint's host or `server_name`"
_DISAGREEMENTS = (
    (
        "CERTIFICATE_VERIFY_FAILED",
        "its certificate is of an authority that is not trusted here, or is not valid now; expected one of the platform's, or that `ca`"
        " names",
    ),
    ("Hostname Verification Check failed", _OTHER_NAME),
    ("is not in peer certificate", _OTHER_NAME),
    ("WRONG_VERSION_NUMBER", "it does not speak TLS; the endpoint of a gateway without begins with http://"),
    ("CERTIFICATE_REQUIRED", "it asks for a client certificate"),
    ("TSI_DATA_CORRUPTED", "it asks for a client certificate, or does not take the one it was shown"),
)


def _tls_sentence(message: str) -> str:
    """Why the two ends do not agree on a secure connection; empty where that is not what is wrong."""
    for words, sentence in _DISAGREEMENTS:
        if words in message:
            return f"no secure connection to the gateway: {sentence}"
    return ""


def _transport_sentence(message: str) -> str:
    """gRPC's own text about a connection, shortened to what is wrong."""
    found = re.search(r"last error: (?:[A-Z_]+: )?(.*)", message, re.DOTALL)
    if found is None:
        return message
    hint = "; where it speaks TLS, the endpoint begins with https://" if "Socket closed" in message else ""
    return f"the gateway cannot be reached: {found.group(1).strip()}{hint}"


def parse_details(encoded: bytes) -> Details:
    """Reads a serialized google.rpc.Status."""
    try:
        return _parse(encoded)
    except _Malformed:
        return Details()


def _parse(encoded: bytes) -> Details:
    reason, retry_after, field_path, subject = "", None, "", ""
    for detail in _messages(encoded, 3):
        kind = b"".join(_messages(detail, 1)).rsplit(b"/", 1)[-1]
        body = b"".join(_messages(detail, 2))
        if kind == b"google.rpc.ErrorInfo":
            if _text(body, 2) == DOMAIN:
                reason = _text(body, 1)
        elif kind == b"google.rpc.RetryInfo":
            for delay in _messages(body, 1):
                retry_after = _number(delay, 1) + _number(delay, 2) / 1e9
        elif kind == b"google.rpc.BadRequest":
            for violation in _messages(body, 1):
                field_path = field_path or _text(violation, 1)
        elif kind == b"google.rpc.QuotaFailure":
            for violation in _messages(body, 1):
                subject = subject or _text(violation, 1)
    return Details(reason, retry_after, field_path, subject)


class _Malformed(Exception):
    pass


def _varint(encoded: bytes, at: int) -> Tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        if at >= len(encoded):
            raise _Malformed
        byte = encoded[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
    raise _Malformed


def _fields(encoded: bytes) -> Iterator[Tuple[int, Union[int, bytes]]]:
    at = 0
    while at < len(encoded):
        tag, at = _varint(encoded, at)
        number, wire = tag >> 3, tag & 7
        if wire == 0:
            value, at = _varint(encoded, at)
            yield number, value
            continue
        if wire == 2:
            length, at = _varint(encoded, at)
        elif wire in (1, 5):
            length = 8 if wire == 1 else 4
        else:
            raise _Malformed
        if at + length > len(encoded):
            raise _Malformed
        yield number, encoded[at : at + length]
        at += length


def _messages(encoded: bytes, number: int) -> List[bytes]:
    return [value for found, value in _fields(encoded) if found == number and isinstance(value, bytes)]


def _text(encoded: bytes, number: int) -> str:
    return b"".join(_messages(encoded, number)[-1:]).decode("utf-8", "replace")


def _number(encoded: bytes, number: int) -> int:
    value = 0
    for found, candidate in _fields(encoded):
        if found == number and isinstance(candidate, int):
            value = candidate
    return value
