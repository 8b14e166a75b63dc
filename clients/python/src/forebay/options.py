"""How a gateway is reached: endpoints, TLS, token, deadlines. Everything is checked when the options are made.

Invariants: the options are immutable and picklable, because they travel to Spark's executors; the token is in no `repr` and in no
error. A token is sent in the clear only to this host, or where that is allowed. Callers: `connect` (sync and asyncio), the Spark data
source, and whoever keeps options apart from a client.
"""

from __future__ import annotations

import ipaddress
import math
import os
from dataclasses import dataclass, field
from typing import Any, Mapping, Optional, Sequence, Tuple, Union
from urllib.parse import urlsplit

DEFAULT_ENDPOINT = "http://127.0.0.1:50051"
DEFAULT_TIMEOUT = 30.0
DEFAULT_RETRY_FOR = 10.0

_ENVIRONMENT = {
    "endpoint": "FOREBAY_ENDPOINT",
    "token": "FOREBAY_TOKEN",
    "token_file": "FOREBAY_TOKEN_FILE",
    "ca": "FOREBAY_CA",
    "client_cert": "FOREBAY_CLIENT_CERT",
    "client_key": "FOREBAY_CLIENT_KEY",
    "server_name": "FOREBAY_SERVER_NAME",
}
_ALLOW_PLAINTEXT_TOKEN = "FOREBAY_ALLOW_PLAINTEXT_TOKEN"

PathLike = Union[str, "os.PathLike[str]"]


@dataclass(frozen=True)
class ConnectOptions:
    """How a gateway is reached.

    `endpoint` is `http://host:port` or `https://host:port`; several (a sequence, or one text with commas) are used in turn. All
    must have one scheme. `timeout` and `retry_for` are in seconds. Raises `ValueError` for what cannot be, naming the option.
    """

    endpoint: Union[str, Sequence[str]] = DEFAULT_ENDPOINT
    token: Optional[str] = field(default=None, repr=False)
    """An API key or a JWT."""
    token_file: Optional[PathLike] = None
    """A file that holds the token; read again when it changes."""
    ca: Optional[PathLike] = None
    """The authorities whose gateways are trusted (PEM). Default: gRPC's own."""
    client_cert: Optional[PathLike] = None
    client_key: Optional[PathLike] = None
    server_name: Optional[str] = None
    """The name that the gateway's certificate must have. Default: the endpoint's host."""
    allow_plaintext_token: bool = False
    timeout: float = DEFAULT_TIMEOUT
    """The time that a call may take, with all its attempts."""
    retry_for: float = DEFAULT_RETRY_FOR
    """For how long a call is made again while no gateway can be reached or serve. Where a gateway says itself when to come back,
    only `timeout` counts. Writers have a `retry_for` of their own."""

    def __post_init__(self) -> None:
        endpoints = _endpoints(self.endpoint)
        schemes = {scheme for scheme, _, _ in map(_parse, endpoints)}
        if len(schemes) > 1:
            raise ValueError("endpoint: some begin with http:// and some with https://; expected one of the two for all")
        # One text: hashable, and the same however it was given.
        object.__setattr__(self, "endpoint", ",".join(endpoints))
        for name in ("token_file", "ca", "client_cert", "client_key"):
            value = getattr(self, name)
            if value is not None:
                object.__setattr__(self, name, os.fspath(value))
        for name in ("timeout", "retry_for"):
            _check_seconds(name, getattr(self, name))
        if self.token is not None and self.token_file is not None:
            raise ValueError("token: there is a token_file, too; expected one of the two")
        if self.token is not None:
            check_token("token", self.token)
        if (self.client_cert is None) != (self.client_key is None):
            given, missing = ("client_key", "client_cert") if self.client_cert is None else ("client_cert", "client_key")
            raise ValueError(f"{missing}: missing; {given} is given, and each needs the other")
        if not self.tls:
            self._refuse_in_the_clear()

    def _refuse_in_the_clear(self) -> None:
        # What belongs to TLS is an error without it: a certificate that is not used protects nobody.
        for name in ("ca", "client_cert", "server_name"):
            if getattr(self, name) is not None:
                raise ValueError(f"{name}: of no use to an endpoint that begins with http://; expected https://")
        if (self.token is None and self.token_file is None) or self.allow_plaintext_token:
            return
        for endpoint in self.endpoints:
            _, host, _ = _parse(endpoint)
            if not _is_loopback(host):
                raise ValueError(
                    f"token: it would be sent in the clear to {host}, since the endpoint begins with http://; expected https://, or"
                    " allow_plaintext_token=True"
                )

    @property
    def endpoints(self) -> Tuple[str, ...]:
        """The endpoints one by one."""
        return _endpoints(self.endpoint)

    @property
    def targets(self) -> Tuple[Tuple[str, int], ...]:
        """Host and port of each endpoint."""
        return tuple((host, port) for _, host, port in map(_parse, self.endpoints))

    @property
    def tls(self) -> bool:
        """Whether the endpoints are `https://`."""
        return _parse(self.endpoints[0])[0] == "https"

    @classmethod
    def from_env(cls, *, environment: Optional[Mapping[str, str]] = None, **overrides: Any) -> ConnectOptions:
        """Options from the variables that the command `forebay` reads (FOREBAY_ENDPOINT, FOREBAY_TOKEN, ...).

        `overrides` that are not None go first, by the names of the fields; a `token` or a `token_file` given here sets both variables
        aside, and of the two variables FOREBAY_TOKEN_FILE goes first. `environment` is `os.environ` unless given.
        """
        environment = os.environ if environment is None else environment
        chosen = {name: value for name, value in overrides.items() if value is not None}
        skipped = {"token", "token_file"} if chosen.keys() & {"token", "token_file"} else set()
        if not skipped and environment.get(_ENVIRONMENT["token_file"]):
            skipped = {"token"}
        for name, variable in _ENVIRONMENT.items():
            value = environment.get(variable, "")
            if value and name not in chosen and name not in skipped:
                chosen[name] = value
        if "allow_plaintext_token" not in chosen:
            chosen["allow_plaintext_token"] = _flag(_ALLOW_PLAINTEXT_TOKEN, environment.get(_ALLOW_PLAINTEXT_TOKEN, ""))
        return cls(**chosen)


def check_token(what: str, token: str) -> str:
    """The token without blanks around it. Raises `ValueError`, without the token, where it is none."""
    stripped = token.strip()
    if not stripped or not all("!" <= character <= "~" for character in stripped):
        raise ValueError(f"{what}: holds no token; expected one word of visible ASCII characters")
    return stripped


def _endpoints(given: Union[str, Sequence[str]]) -> Tuple[str, ...]:
    parts = given.split(",") if isinstance(given, str) else list(given)
    endpoints = tuple(part.strip() for part in parts)
    if not endpoints:
        raise ValueError(f"endpoint: none is given; expected something like {DEFAULT_ENDPOINT}")
    return endpoints


def _parse(endpoint: str) -> Tuple[str, str, int]:
    """Scheme, host (an IPv6 address without brackets) and port."""

    def bad(message: str) -> ValueError:
        # A password in it is not shown.
        shown = endpoint if "@" not in endpoint else "..." + endpoint.rsplit("@", 1)[1]
        return ValueError(f"endpoint: `{shown}` is none: {message}; expected something like {DEFAULT_ENDPOINT}")

    if "://" not in endpoint:
        raise bad("the scheme is missing")
    try:
        parts = urlsplit(endpoint)
        port = parts.port
    except ValueError as error:
        raise bad("not a URL") from error
    if parts.scheme not in ("http", "https"):
        raise bad("the scheme must be https or http")
    if not parts.hostname or any(character.isspace() for character in endpoint):
        raise bad("the host is missing" if not parts.hostname else "there is a blank in it")
    if parts.username is not None or parts.path not in ("", "/") or parts.query or parts.fragment:
        raise bad("it has more than scheme, host and port")
    if port is None:
        port = 443 if parts.scheme == "https" else 80
    return parts.scheme, parts.hostname, port


def _is_loopback(host: str) -> bool:
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return host.lower() == "localhost"
    mapped = getattr(address, "ipv4_mapped", None)
    return bool((mapped or address).is_loopback)


def _check_seconds(name: str, value: Any) -> None:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value) or value <= 0:
        raise ValueError(f"{name}: expected a number of seconds above 0")


def _flag(variable: str, text: str) -> bool:
    lowered = text.strip().lower()
    if lowered in ("", "0", "false", "no", "off", "n", "f"):
        return False
    if lowered in ("1", "true", "yes", "on", "y", "t"):
        return True
    raise ValueError(f"{variable}: expected true or false")
