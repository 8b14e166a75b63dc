"""gRPC's errors as exceptions, and which of them are tried again."""

from __future__ import annotations

import pickle
from typing import Any, Optional, Tuple, Type

import grpc
import pytest

import forebay
from forebay._retry import BACKOFF_BASE_SECONDS, BACKOFF_MAX_SECONDS, Attempts, backoff
from forebay._status import Details, call_error, is_transient, parse_details
from forebay.errors import CallError


def _field(number: int, value: Any) -> bytes:
    if isinstance(value, int):
        return bytes((number << 3,)) + _varint(value)
    return bytes((number << 3 | 2,)) + _varint(len(value)) + value


def _varint(value: int) -> bytes:
    encoded = b""
    while value > 0x7F:
        encoded, value = encoded + bytes((value & 0x7F | 0x80,)), value >> 7
    return encoded + bytes((value,))


def _status(*details: Tuple[str, bytes]) -> bytes:
    body = _field(1, 3) + _field(2, b"a sentence")
    for name, detail in details:
        any_ = _field(1, f"type.googleapis.com/google.rpc.{name}".encode()) + _field(2, detail)
        body += _field(3, any_)
    return body


def _info(reason: str, domain: str = "forebay") -> Tuple[str, bytes]:
    return "ErrorInfo", _field(1, reason.encode()) + _field(2, domain.encode())


def _retry(seconds: int, nanos: int = 0) -> Tuple[str, bytes]:
    return "RetryInfo", _field(1, _field(1, seconds) + (_field(2, nanos) if nanos else b""))


class _Error(grpc.RpcError):
    def __init__(self, code: grpc.StatusCode, message: str = "a sentence", details: Optional[bytes] = None) -> None:
        self._code, self._message, self._details = code, message, details

    def code(self) -> grpc.StatusCode:
        return self._code

    def details(self) -> str:
        return self._message

    def trailing_metadata(self) -> Any:
        return () if self._details is None else (("x", "y"), ("grpc-status-details-bin", self._details))


def test_the_details_of_a_status_are_read() -> None:
    violation = _field(1, b"open.columns[3]") + _field(2, b"is wrong")
    quota = _field(1, b"principal/spark") + _field(2, b"used up")
    encoded = _status(
        _info("QUOTA"), _retry(2, 500_000_000), ("BadRequest", _field(1, violation)), ("QuotaFailure", _field(1, quota))
    )
    assert parse_details(encoded) == Details("QUOTA", 2.5, "open.columns[3]", "principal/spark")


def test_details_of_others_and_bytes_that_are_none_say_nothing() -> None:
    assert parse_details(_status(_info("THEIRS", domain="proxy"))) == Details()
    assert parse_details(b"") == Details()
    whole = _status(_info("QUOTA"), _retry(1))
    for cut in range(len(whole)):
        parse_details(whole[:cut])
    for garbage in (b"\xff" * 20, b"\x1a\xff\xff\xff\xff\x0f", b"<html>"):
        assert parse_details(garbage) == Details()


@pytest.mark.parametrize(
    "code, reason, expected",
    [
        ("INVALID_ARGUMENT", "INVALID_ARGUMENT", forebay.InvalidRequest),
        ("FAILED_PRECONDITION", "KEY_MISMATCH", forebay.InvalidRequest),
        ("UNIMPLEMENTED", "NOT_SUPPORTED", forebay.InvalidRequest),
        ("OUT_OF_RANGE", "TOO_LARGE", forebay.InvalidRequest),
        ("UNAUTHENTICATED", "UNAUTHENTICATED", forebay.Unauthenticated),
        ("PERMISSION_DENIED", "TABLE_DENIED", forebay.PermissionDenied),
        ("NOT_FOUND", "TABLE_NOT_FOUND", forebay.NotFound),
        ("ABORTED", "FENCED", forebay.Fenced),
        ("ABORTED", "CONTENDED", CallError),
        ("RESOURCE_EXHAUSTED", "QUOTA", forebay.RateLimited),
        ("UNAVAILABLE", "OVERLOADED", forebay.Unavailable),
        ("DEADLINE_EXCEEDED", "DEADLINE", forebay.DeadlineExceeded),
        ("INTERNAL", "INTERNAL", CallError),
        ("DATA_LOSS", "CATALOG_DAMAGED", CallError),
    ],
)
def test_each_code_has_the_exception_for_what_a_caller_does(code: str, reason: str, expected: Type[CallError]) -> None:
    error = call_error(_Error(grpc.StatusCode[code], "a sentence", _status(_info(reason))))
    assert type(error) is expected
    assert (error.code, error.reason, error.message) == (code, reason, "a sentence")


def test_internal_is_final_only_when_the_gateway_itself_says_it() -> None:
    assert not is_transient(call_error(_Error(grpc.StatusCode.INTERNAL, details=_status(_info("INTERNAL")))))
    assert is_transient(call_error(_Error(grpc.StatusCode.INTERNAL)))
    assert is_transient(call_error(_Error(grpc.StatusCode.UNKNOWN)))


def test_a_limit_is_tried_again_only_where_the_gateway_says_when() -> None:
    assert not is_transient(call_error(_Error(grpc.StatusCode.RESOURCE_EXHAUSTED)))
    later = call_error(_Error(grpc.StatusCode.RESOURCE_EXHAUSTED, details=_status(_info("QUOTA"), _retry(3))))
    assert is_transient(later) and later.retry_after == 3.0


def test_a_field_is_named_once() -> None:
    violation = _field(1, b"open.columns[3]") + _field(2, b"is wrong")
    details = _status(_info("INVALID_ARGUMENT"), ("BadRequest", _field(1, violation)))
    error = call_error(_Error(grpc.StatusCode.INVALID_ARGUMENT, "open.columns[3]: is wrong", details))
    assert str(error) == "open.columns[3]: is wrong (INVALID_ARGUMENT)"
    assert error.field_path == "open.columns[3]"


def test_errors_come_back_whole_from_executors() -> None:
    error = call_error(_Error(grpc.StatusCode.RESOURCE_EXHAUSTED, details=_status(_info("QUOTA"), _retry(3))))
    again = pickle.loads(pickle.dumps(error))
    assert type(again) is forebay.RateLimited and (again.reason, again.retry_after, str(again)) == ("QUOTA", 3.0, str(error))


def test_waits_double_up_to_the_maximum_and_the_gateways_wish_is_a_minimum() -> None:
    assert backoff(0, 1.0) == BACKOFF_BASE_SECONDS
    assert backoff(1, 1.0) == BACKOFF_BASE_SECONDS * 2
    assert backoff(1000, 1.0) == BACKOFF_MAX_SECONDS
    assert backoff(60, 0.0) == BACKOFF_MAX_SECONDS / 2
    assert backoff(0, 0.3, 7.0) == 7.0


def _unavailable(after: Optional[float] = None) -> CallError:
    return forebay.Unavailable("UNAVAILABLE", "gone", retry_after=after)


def test_a_gateway_that_is_gone_is_tried_for_retry_for_and_not_beyond_the_deadline() -> None:
    attempts = Attempts(100.0, timeout=30.0, retry_for=10.0)
    now, tries = 100.0, 0
    while True:
        wait = attempts.pause(_unavailable(), now, 1.0)
        if wait is None:
            break
        now, tries = now + wait, tries + 1
    assert 109.0 <= now <= 110.0 and tries > 5
    assert Attempts(0.0, timeout=0.05, retry_for=10.0).pause(_unavailable(), 0.0, 1.0) is None
    assert Attempts(0.0, timeout=30.0, retry_for=10.0).pause(_unavailable(11.0), 0.0, 1.0) is None


def test_a_limit_is_waited_for_as_long_as_the_deadline_allows() -> None:
    limited = forebay.RateLimited("RESOURCE_EXHAUSTED", "slow", reason="QUOTA", retry_after=12.0)
    assert Attempts(0.0, timeout=30.0, retry_for=10.0).pause(limited, 0.0, 1.0) == 12.0
    assert Attempts(0.0, timeout=11.0, retry_for=10.0).pause(limited, 0.0, 1.0) is None


@pytest.mark.parametrize("kind", [forebay.InvalidRequest, forebay.NotFound, forebay.Fenced, forebay.DeadlineExceeded])
def test_what_fails_again_is_not_tried_again(kind: Type[CallError]) -> None:
    assert Attempts(0.0, timeout=30.0, retry_for=10.0).pause(kind("X", "no"), 0.0, 0.5) is None


def test_the_time_that_is_left_is_never_negative() -> None:
    attempts = Attempts(5.0, timeout=2.0, retry_for=1.0)
    assert attempts.left(6.0) == 1.0 and attempts.left(50.0) == 0.0
