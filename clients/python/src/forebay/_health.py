"""Whether a gateway serves: one call of `grpc.health.v1`, read by hand, so that nobody needs its stubs.

Caller: `__main__`.
"""

from __future__ import annotations

import grpc

from ._channel import open_channel
from ._status import call_error
from .options import ConnectOptions

_CHECK = "/grpc.health.v1.Health/Check"
_STATUS_NAMES = {0: "UNKNOWN", 1: "SERVING", 2: "NOT_SERVING", 3: "SERVICE_UNKNOWN"}


def check_health(options: ConnectOptions, *, service: str = "") -> str:
    """SERVING, NOT_SERVING (the gateway is stopping, or its store is not there) or UNKNOWN; for all services, or one
    by its full name.

    Asks once, without retries. Raises a `CallError`: `Unavailable` where there is no gateway, `NotFound` where it
    has no such service.
    """
    name = service.encode()
    # A message with one text, and the length of that in one byte.
    if len(name) > 127:
        raise ValueError("service: expected at most 127 bytes")
    request = b"\x0a" + bytes([len(name)]) + name if name else b""
    with open_channel(options) as channel:
        check = channel.unary_unary(_CHECK, request_serializer=_same, response_deserializer=_same)
        try:
            answer = check(request, timeout=options.timeout)
        except grpc.RpcError as error:
            raise call_error(error) from None
    return _status_name(answer)


def _status_name(answer: bytes) -> str:
    # A message with one enum, which is left out where it is 0.
    status = answer[1] if len(answer) == 2 and answer[0] == 0x08 else 0
    return _STATUS_NAMES.get(status, "UNKNOWN")


def _same(message: bytes) -> bytes:
    return message
