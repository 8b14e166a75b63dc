"""gRPC channels of a `ConnectOptions`: credentials, keep-alive, several gateways in turn, and the token of each call.

`open_channel` and `open_aio_channel` give channels for the generated stubs. Over the gRPC channels, one for each endpoint, they do two
things at each call: they choose the endpoint (in turn, and not one that has just failed while another is left; behind one name gRPC
takes all of its addresses in turn), and they add the token. The token is therefore in every call, and nowhere else.

Invariants: nothing is sent before the first call; `Rotation` and `TokenSource` are pure but for reading the token's file, time is
passed in. Callers: `client`, `aio`, the writers (a channel for each call that is opened anew resolves names again).
"""

from __future__ import annotations

import asyncio
import json
import logging
import random
import ssl
import threading
import time
from pathlib import Path
from typing import Any, Callable, List, Optional, Sequence, Set, Tuple

import grpc
import grpc.aio

from ._version import __version__
from .options import ConnectOptions, check_token

MESSAGE_MAX_BYTES = 16 * 1024 * 1024
KEEPALIVE_INTERVAL_SECONDS = 20.0
KEEPALIVE_TIMEOUT_SECONDS = 10.0
# Before gRPC 1.80 the time to connect is the least time between attempts, too: with 5 s, a gateway that was restarted was found after 10
# to 30 s, and with 1 s after 5 s. Since then it is found in about a second.
CONNECT_TIMEOUT_SECONDS = 5.0 if tuple(map(int, grpc.__version__.split(".")[:2])) >= (1, 80) else 1.0
TOKEN_RECHECK_SECONDS = 1.0
# How long an endpoint that failed is passed over while there is another (chosen: gRPC itself tries to connect again within that).
AVOID_SECONDS = 2.0

# How long a connection is worked on after a call failed; the next call that fails begins anew (chosen: a gateway that starts).
DRIVE_SECONDS = 60.0
_HEALTH_CHECK = "/grpc.health.v1.Health/Check"

_log = logging.getLogger("forebay")
_Metadata = Tuple[Tuple[str, str], ...]


def open_channel(options: ConnectOptions) -> grpc.Channel:
    """A channel for blocking calls; safe to share between threads. Raises `ValueError` where a file cannot be used."""
    credentials = _credentials(options)
    channels: List[Any] = []
    for host, port in options.targets:
        target = _target(host, port)
        if credentials is None:
            channels.append(grpc.insecure_channel(target, options=_channel_options(options)))
        else:
            channels.append(grpc.secure_channel(target, credentials, options=_channel_options(options)))
    return _Channel(channels, TokenSource(options))


def open_aio_channel(options: ConnectOptions) -> grpc.aio.Channel:
    """A channel for asyncio; belongs to the running loop. Raises `ValueError` where a file cannot be used."""
    credentials = _credentials(options)
    channels: List[Any] = []
    for host, port in options.targets:
        target = _target(host, port)
        if credentials is None:
            channels.append(grpc.aio.insecure_channel(target, options=_channel_options(options)))
        else:
            channels.append(grpc.aio.secure_channel(target, credentials, options=_channel_options(options)))
    return _AioChannel(channels, TokenSource(options))


def check_files(options: ConnectOptions) -> None:
    """Raises `ValueError` where a file that the options name cannot be used."""
    _credentials(options)
    TokenSource(options)


def _target(host: str, port: int) -> str:
    return f"dns:///[{host}]:{port}" if ":" in host else f"dns:///{host}:{port}"


def _channel_options(options: ConnectOptions) -> List[Tuple[str, Any]]:
    chosen: List[Tuple[str, Any]] = [
        ("grpc.primary_user_agent", f"forebay-python/{__version__}"),
        ("grpc.max_receive_message_length", MESSAGE_MAX_BYTES),
        ("grpc.max_send_message_length", MESSAGE_MAX_BYTES),
        ("grpc.keepalive_time_ms", int(KEEPALIVE_INTERVAL_SECONDS * 1000)),
        ("grpc.keepalive_timeout_ms", int(KEEPALIVE_TIMEOUT_SECONDS * 1000)),
        # A connection that died while nothing was asked is found before the next call needs it.
        ("grpc.keepalive_permit_without_calls", 1),
        ("grpc.http2.max_pings_without_data", 0),
        # gRPC's own are 1 to 120 s: a gateway that restarts is back within a second. The "minimum" is the time to connect.
        ("grpc.initial_reconnect_backoff_ms", 100),
        ("grpc.max_reconnect_backoff_ms", 2000),
        ("grpc.min_reconnect_backoff_ms", int(CONNECT_TIMEOUT_SECONDS * 1000)),
        # Two clients of one process are to have two connections; behind a balancer they may have two gateways.
        ("grpc.use_local_subchannel_pool", 1),
        ("grpc.service_config", json.dumps({"loadBalancingConfig": [{"round_robin": {}}]})),
    ]
    if options.server_name is not None:
        chosen.append(("grpc.ssl_target_name_override", options.server_name))
    return chosen


def _credentials(options: ConnectOptions) -> Optional[grpc.ChannelCredentials]:
    if not options.tls:
        return None
    ca = None if options.ca is None else _pem(str(options.ca), b"CERTIFICATE", "no certificate")
    cert = key = None
    if options.client_cert is not None and options.client_key is not None:
        cert = _pem(str(options.client_cert), b"CERTIFICATE", "no certificate")
        key = _pem(str(options.client_key), b"PRIVATE KEY", "no private key")
        if b"ENCRYPTED" in key:
            raise ValueError(f"{options.client_key}: the private key is encrypted; expected an unencrypted one, as PEM")
        try:
            # gRPC itself would say so at the first call, or, in older versions, never.
            ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_cert_chain(options.client_cert, options.client_key)
        except ssl.SSLError as error:
            raise ValueError(f"{options.client_key}: not the private key of the certificate in {options.client_cert}") from error
    return grpc.ssl_channel_credentials(ca, key, cert)


def _pem(path: str, label: bytes, missing: str) -> bytes:
    try:
        content = Path(path).read_bytes()
    except OSError as error:
        raise ValueError(f"{path}: cannot be read ({error.strerror})") from error
    if b"-----BEGIN " not in content or label + b"-----" not in content:
        raise ValueError(f"{path}: holds {missing}; expected PEM (BEGIN {label.decode()})")
    return content


class TokenSource:
    """The token as metadata of a call. A file is read again from time to time; its last good token stays."""

    def __init__(self, options: ConnectOptions) -> None:
        self._path = None if options.token_file is None else str(options.token_file)
        self._lock = threading.Lock()
        self._read_at = time.monotonic()
        self._metadata: _Metadata = ()
        if options.token is not None:
            self._metadata = _authorization(check_token("token", options.token))
        elif self._path is not None:
            self._metadata = self._read(self._path)

    def metadata(self, now: float) -> _Metadata:
        """The metadata at `now`, in seconds of `time.monotonic`."""
        if self._path is None or now - self._read_at < TOKEN_RECHECK_SECONDS:
            return self._metadata
        with self._lock:
            if now - self._read_at >= TOKEN_RECHECK_SECONDS:
                self._read_at = now
                try:
                    self._metadata = self._read(self._path)
                except ValueError as error:
                    # The last one may still be good; the gateway says when it is not.
                    _log.warning("the token is not read again: %s", error)
        return self._metadata

    @staticmethod
    def _read(path: str) -> _Metadata:
        try:
            content = Path(path).read_text(encoding="utf-8")
        except OSError as error:
            raise ValueError(f"{path}: cannot be read ({error.strerror})") from error
        except UnicodeDecodeError as error:
            raise ValueError(f"{path}: holds no token; expected one word of visible ASCII characters") from error
        return _authorization(check_token(path, content))


def _authorization(token: str) -> _Metadata:
    return (("authorization", f"Bearer {token}"),)


class Rotation:
    """Which of several endpoints a call takes: in turn, those that have just failed last. Thread-safe."""

    def __init__(self, endpoints: int, first: int = 0) -> None:
        """`first` is where to begin: chosen by chance, so that many tasks with one call each do not all meet at one gateway."""
        self._lock = threading.Lock()
        self._avoid_until = [float("-inf")] * endpoints
        self._next = first

    def pick(self, now: float) -> int:
        """The index of the endpoint for a call at `now`, in seconds of `time.monotonic`."""
        with self._lock:
            count = len(self._avoid_until)
            turn = [(self._next + step) % count for step in range(count)]
            # Where all have failed, the one whose failure is the oldest.
            chosen = next((at for at in turn if self._avoid_until[at] <= now), None)
            if chosen is None:
                chosen = min(turn, key=self._avoid_until.__getitem__)
            self._next = (chosen + 1) % count
            return chosen

    def failed(self, endpoint: int, now: float) -> None:
        """A call to the endpoint ended UNAVAILABLE."""
        with self._lock:
            self._avoid_until[endpoint] = now + AVOID_SECONDS

    def answered(self, endpoint: int) -> None:
        """A call to the endpoint ended in another way."""
        self._avoid_until[endpoint] = float("-inf")


class _Calls:
    """What a blocking and an asyncio channel have in common: a multi-callable for each endpoint."""

    def __init__(self, channels: Sequence[Any], token: TokenSource) -> None:
        self._channels = channels
        self._token = token
        self._rotation = Rotation(len(channels), random.randrange(len(channels)))

    def multi_callable(self, kind: str, method: str, serializer: Any, deserializer: Any) -> Callable[..., Any]:
        calls = [
            getattr(channel, kind)(method, request_serializer=serializer, response_deserializer=deserializer)
            for channel in self._channels
        ]
        return _MultiCallable(calls, self._token, self._rotation, self)

    def watch(self, call: Any, endpoint: int) -> None:
        """Sees to it that the rotation hears how a call ends."""
        raise NotImplementedError

    def outcome(self, endpoint: int, code: Any) -> None:
        if code is grpc.StatusCode.UNAVAILABLE:
            self._rotation.failed(endpoint, time.monotonic())
        else:
            self._rotation.answered(endpoint)


class _MultiCallable:
    """Calls one method at the endpoint whose turn it is. Has the shape of all four kinds of gRPC's."""

    def __init__(self, calls: Sequence[Any], token: TokenSource, rotation: Rotation, channel: _Calls) -> None:
        self._calls = calls
        self._token = token
        self._rotation = rotation
        self._channel = channel

    def _prepare(self, options: Any) -> Tuple[int, Any]:
        now = time.monotonic()
        options["metadata"] = tuple(options.get("metadata") or ()) + self._token.metadata(now)
        endpoint = self._rotation.pick(now) if len(self._calls) > 1 else 0
        return endpoint, self._calls[endpoint]

    def __call__(self, *args: Any, **options: Any) -> Any:
        endpoint, call = self._prepare(options)
        try:
            started = call(*args, **options)
        except grpc.RpcError as error:
            self._failed(error, endpoint)
            raise
        self._channel.watch(started, endpoint)
        return started

    def _failed(self, error: grpc.RpcError, endpoint: int) -> None:
        if isinstance(error, grpc.Call):
            self._channel.outcome(endpoint, error.code())

    def with_call(self, *args: Any, **options: Any) -> Any:
        endpoint, call = self._prepare(options)
        try:
            answer, finished = call.with_call(*args, **options)
        except grpc.RpcError as error:
            self._failed(error, endpoint)
            raise
        self._channel.watch(finished, endpoint)
        return answer, finished

    def future(self, *args: Any, **options: Any) -> Any:
        endpoint, call = self._prepare(options)
        started = call.future(*args, **options)
        self._channel.watch(started, endpoint)
        return started


class _Channel(_Calls, grpc.Channel):
    def __init__(self, channels: Sequence[Any], token: TokenSource) -> None:
        super().__init__(channels, token)
        self._driven: Set[int] = set()
        self._driving = threading.Lock()

    def outcome(self, endpoint: int, code: Any) -> None:
        super().outcome(endpoint, code)
        if code is grpc.StatusCode.UNAVAILABLE:
            self._drive(endpoint)

    def _drive(self, endpoint: int) -> None:
        """Has the connection made again, by a health check that waits for it (and needs no token).

        gRPC 1.62 works on a connection only while a call waits for it: with calls that fail at once and pauses between them, a gateway
        that is back would not be found."""
        with self._driving:
            if endpoint in self._driven:
                return
            self._driven.add(endpoint)
        try:
            check = self._channels[endpoint].unary_unary(_HEALTH_CHECK)
            call = check.future(b"", timeout=DRIVE_SECONDS, wait_for_ready=True)
        except ValueError:
            # The channel was closed meanwhile.
            return
        call.add_done_callback(lambda _: self._driven.discard(endpoint))

    def watch(self, call: Any, endpoint: int) -> None:
        if isinstance(call, grpc.Call):
            if not call.add_callback(lambda: self.outcome(endpoint, call.code())):
                self.outcome(endpoint, call.code())
        else:
            # The answer of a unary call.
            self._rotation.answered(endpoint)

    def unary_unary(self, method, request_serializer=None, response_deserializer=None, _registered_method=False):  # type: ignore[no-untyped-def]
        return self.multi_callable("unary_unary", method, request_serializer, response_deserializer)

    def unary_stream(self, method, request_serializer=None, response_deserializer=None, _registered_method=False):  # type: ignore[no-untyped-def]
        return self.multi_callable("unary_stream", method, request_serializer, response_deserializer)

    def stream_unary(self, method, request_serializer=None, response_deserializer=None, _registered_method=False):  # type: ignore[no-untyped-def]
        return self.multi_callable("stream_unary", method, request_serializer, response_deserializer)

    def stream_stream(self, method, request_serializer=None, response_deserializer=None, _registered_method=False):  # type: ignore[no-untyped-def]
        return self.multi_callable("stream_stream", method, request_serializer, response_deserializer)

    def subscribe(self, callback: Any, try_to_connect: bool = False) -> None:
        for channel in self._channels:
            channel.subscribe(callback, try_to_connect)

    def unsubscribe(self, callback: Any) -> None:
        for channel in self._channels:
            channel.unsubscribe(callback)

    def close(self) -> None:
        for channel in self._channels:
            channel.close()

    def __enter__(self) -> _Channel:
        return self

    def __exit__(self, *exc_info: Any) -> None:
        self.close()


class _AioChannel(_Calls, grpc.aio.Channel):
    def watch(self, call: Any, endpoint: int) -> None:
        if len(self._channels) > 1:
            call.add_done_callback(lambda over: asyncio.ensure_future(self._over(over, endpoint)))

    async def _over(self, call: Any, endpoint: int) -> None:
        if not call.cancelled():
            self.outcome(endpoint, await call.code())

    def unary_unary(self, method, request_serializer=None, response_deserializer=None, _registered_method=False):  # type: ignore[no-untyped-def]
        return self.multi_callable("unary_unary", method, request_serializer, response_deserializer)

    def unary_stream(self, method, request_serializer=None, response_deserializer=None, _registered_method=False):  # type: ignore[no-untyped-def]
        return self.multi_callable("unary_stream", method, request_serializer, response_deserializer)

    def stream_unary(self, method, request_serializer=None, response_deserializer=None, _registered_method=False):  # type: ignore[no-untyped-def]
        return self.multi_callable("stream_unary", method, request_serializer, response_deserializer)

    def stream_stream(self, method, request_serializer=None, response_deserializer=None, _registered_method=False):  # type: ignore[no-untyped-def]
        return self.multi_callable("stream_stream", method, request_serializer, response_deserializer)

    async def close(self, grace: Optional[float] = None) -> None:
        for channel in self._channels:
            await channel.close(grace)

    async def channel_ready(self) -> None:
        await asyncio.gather(*(channel.channel_ready() for channel in self._channels))

    def get_state(self, try_to_connect: bool = False) -> grpc.ChannelConnectivity:
        """The best state of the channels to the endpoints."""
        order = ("READY", "IDLE", "CONNECTING", "TRANSIENT_FAILURE", "SHUTDOWN")
        states: List[grpc.ChannelConnectivity] = [channel.get_state(try_to_connect) for channel in self._channels]
        return min(states, key=lambda state: order.index(state.name))

    async def wait_for_state_change(self, last_observed_state: grpc.ChannelConnectivity) -> None:
        while self.get_state() is last_observed_state:
            waits = [
                asyncio.ensure_future(channel.wait_for_state_change(channel.get_state())) for channel in self._channels
            ]
            try:
                await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for wait in waits:
                    wait.cancel()

    async def __aenter__(self) -> _AioChannel:
        return self

    async def __aexit__(self, *exc_info: Any) -> None:
        await self.close()
