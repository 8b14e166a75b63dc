"""Gateways that go away, come back, and let in whom they know: the client's connections."""

from __future__ import annotations

import shutil
import subprocess
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Tuple

import pytest

import forebay
from forebay import ReadStatus

if TYPE_CHECKING:
    from conftest import Gateway

ACCESS = """
principals:
  writer: {write: ["*"], read: ["*"], admin: ["*"]}
  reader: {read: ["*"]}
api_keys:
"""
CERTIFICATES = """
client_certificates:
  - {name: "uri:spiffe://tests/writer", principal: writer}
"""


def _fill(client: forebay.Client, rows: int = 10) -> None:
    client.apply_table("rows", ddl="id INT NOT NULL, x INT", key="id")
    client.write("rows", ({"id": at, "x": at} for at in range(rows)))


# Away and back.


def test_a_gateway_that_is_not_there_is_named_when_the_time_is_over(free_port: int) -> None:
    with forebay.connect(f"http://127.0.0.1:{free_port}", retry_for=0.5) as client:
        started = time.monotonic()
        with pytest.raises(forebay.Unavailable, match="the gateway cannot be reached: .*Connection refused"):
            client.get("rows", 1)
        assert 0.2 < time.monotonic() - started < 3


def test_reads_wait_for_a_gateway_that_restarts(gateway: Gateway) -> None:
    # gRPC before 1.80 takes its time to find it again.
    with forebay.connect(gateway.endpoint, timeout=90, retry_for=60) as client:
        _fill(client)
        gateway.kill()
        starting = threading.Timer(0.5, gateway.start)
        starting.start()
        try:
            assert client.get("rows", 3)["x"] == 3
        finally:
            starting.join()
        gateway.restart()
        assert [result["x"] for result in client.get_many("rows", range(10))] == list(range(10))
        gateway.restart()
        client.write("rows", {"id": 3, "x": 33})
        assert client.get("rows", 3)["x"] == 33


def test_a_range_goes_on_where_its_gateway_died(gateway: Gateway) -> None:
    with forebay.connect(gateway.endpoint) as client:
        client.apply_table("range", ddl="id INT NOT NULL, at INT NOT NULL, x STRING", key=["id", "at"])
        padding = "x" * 20_000
        client.write("range", ({"id": 1, "at": at, "x": padding} for at in range(2000)))
        for options in ({}, {"descending": True}, {"limit": 1500}, {"columns": ["x", "at"]}):
            expected = list(range(2000))
            if options.get("descending"):
                expected.reverse()
            rows = client.get_range("range", 1, **options)  # type: ignore[arg-type]
            found = [next(rows)["at"] for _ in range(5)]
            gateway.restart()
            found += [row["at"] for row in rows]
            assert found == expected[: options.get("limit", 2000)]


# Several gateways.


def test_calls_go_on_while_one_of_two_gateways_is_gone(make_gateway: Any) -> None:
    one, two = make_gateway("one"), make_gateway("two")
    for gateway in (one, two):
        with forebay.connect(gateway.endpoint) as client:
            _fill(client)
    with forebay.connect([one.endpoint, two.endpoint]) as client:
        for victim in (one, two):
            for at in range(10):
                assert client.get("rows", at)["x"] == at
            victim.kill()
            slowest = 0.0
            for at in range(100):
                started = time.monotonic()
                assert client.get("rows", at % 10)["x"] == at % 10
                slowest = max(slowest, time.monotonic() - started)
            assert slowest < 1.0, "a call that met the dead gateway goes to the other at once"
            assert all(client.get_many("rows", range(10)))
            client.write("rows", {"id": 1, "x": 1})
            victim.start()
            time.sleep(2.5)


def test_both_gateways_are_used(make_gateway: Any) -> None:
    one, two = make_gateway("one"), make_gateway("two")
    for gateway in (one, two):
        with forebay.connect(gateway.endpoint) as client:
            client.apply_table("which", ddl="id INT NOT NULL, port STRING", key="id")
            client.write("which", {"id": 1, "port": gateway.endpoint})
    with forebay.connect(f"{one.endpoint},{two.endpoint}") as client:
        met = [client.get("which", 1)["port"] for _ in range(10)]
        assert met.count(one.endpoint) == met.count(two.endpoint) == 5


# Deadlines.


def test_a_deadline_is_an_error_where_nothing_was_answered(silent_port: int) -> None:
    with forebay.connect(f"http://127.0.0.1:{silent_port}") as client:
        started = time.monotonic()
        with pytest.raises((forebay.DeadlineExceeded, forebay.Unavailable)):
            client.get("rows", 1, timeout=0.5)
        with pytest.raises((forebay.DeadlineExceeded, forebay.Unavailable)):
            client.get_many("rows", [1], timeout=0.5)
        assert time.monotonic() - started < 3


def test_keys_without_an_answer_are_unavailable_and_never_missing(gateway: Gateway) -> None:
    with forebay.connect(gateway.endpoint, retry_for=0.2) as client:
        _fill(client)
        keys = list(range(9000))
        asked = 0
        real = client._reads.BatchGetRows

        class Dying:
            """Lets the first calls through and then kills the gateway."""

            def future(self, *args: Any, **options: Any) -> Any:
                nonlocal asked
                asked += 1
                if asked == 5:
                    gateway.kill()
                return real.future(*args, **options)

            def __call__(self, *args: Any, **options: Any) -> Any:
                return real(*args, **options)

        client._reads.BatchGetRows = Dying()
        results = client.get_many("rows", keys, timeout=5)
        statuses = [result.status for result in results]
        assert len(statuses) == 9000
        assert statuses[:10] == [ReadStatus.FOUND] * 10 and statuses[10:4000] == [ReadStatus.NOT_FOUND] * 3990
        assert set(statuses[4000:]) == {ReadStatus.UNAVAILABLE}
        with pytest.raises(forebay.RowUnavailable):
            results[-1].value()


# Who may come in.


def _keys(binary: str, folder: Path, **principals: str) -> Tuple[Path, dict[str, str]]:
    """An access file with a key for each principal, by the key's id."""
    entries, keys = [], {}
    for key_id, principal in principals.items():
        made = subprocess.run(
            [binary, "keys", "create", "--id", key_id, "--principal", principal], capture_output=True, text=True, check=True
        )
        keys[key_id] = made.stdout.strip()
        entries.append(next(line for line in made.stderr.splitlines() if line.strip().startswith("- {id:")))
    access = folder / "access.yaml"
    access.write_text(ACCESS + "\n".join(entries) + "\n" + CERTIFICATES)
    return access, keys


@pytest.fixture
def guarded(make_gateway: Any, forebay_bin: str, tmp_path: Path) -> Tuple[Gateway, dict[str, str]]:
    access, keys = _keys(forebay_bin, tmp_path, w1="writer", r1="reader")
    return make_gateway("guarded", ["--access", str(access)]), keys


def test_a_key_lets_in_and_a_wrong_one_or_none_does_not(guarded: Tuple[Gateway, dict[str, str]]) -> None:
    gateway, keys = guarded
    with forebay.connect(gateway.endpoint, token=keys["w1"]) as client:
        _fill(client)
        assert "fb_" not in repr(client) and keys["w1"] not in repr(client.options)
    with forebay.connect(gateway.endpoint) as client, pytest.raises(forebay.Unauthenticated, match="no credential"):
        client.list_tables()
    with forebay.connect(gateway.endpoint, token="fb_w1_" + "x" * 40) as client:
        with pytest.raises(forebay.Unauthenticated) as caught:
            client.get("rows", 1)
        assert "xxx" not in str(caught.value) and "xxx" not in repr(caught.value)


def test_what_is_not_granted_is_denied(guarded: Tuple[Gateway, dict[str, str]]) -> None:
    gateway, keys = guarded
    with forebay.connect(gateway.endpoint, token=keys["w1"]) as client:
        _fill(client)
    with forebay.connect(gateway.endpoint, token=keys["r1"]) as client:
        assert client.get("rows", 1)["x"] == 1
        with pytest.raises(forebay.PermissionDenied, match="no permission to write the table `rows`") as caught:
            client.write("rows", {"id": 1, "x": 2})
        assert caught.value.reason == "TABLE_DENIED"


def test_a_token_file_that_is_replaced_counts_for_the_next_calls(
    guarded: Tuple[Gateway, dict[str, str]], tmp_path: Path
) -> None:
    gateway, keys = guarded
    path = tmp_path / "token"
    path.write_text(keys["w1"] + "\n")
    with forebay.connect(gateway.endpoint, token_file=path) as client:
        _fill(client)
        client.write("rows", {"id": 1, "x": 2})
        path.write_text(keys["r1"])
        time.sleep(1.2)
        with pytest.raises(forebay.PermissionDenied):
            client.write("rows", {"id": 1, "x": 3})
        assert client.get("rows", 1)["x"] == 2


# TLS.


def _openssl(*arguments: str, folder: Path) -> None:
    subprocess.run(["openssl", *arguments], cwd=folder, check=True, capture_output=True)


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An authority, and certificates of a server (127.0.0.1, gateway.test) and of a client."""
    assert shutil.which("openssl"), "the tests of TLS need openssl"
    folder = tmp_path_factory.mktemp("certificates")
    _openssl(
        *("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2"),
        *("-keyout", "ca.key", "-out", "ca.pem", "-subj", "/CN=tests"),
        folder=folder,
    )
    for name, alternative in (("server", "IP:127.0.0.1,DNS:gateway.test"), ("client", "URI:spiffe://tests/writer")):
        _openssl(
            *("req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"),
            *("-keyout", f"{name}.key", "-out", f"{name}.csr", "-subj", f"/CN={name}"),
            folder=folder,
        )
        (folder / f"{name}.ext").write_text(f"subjectAltName={alternative}\nbasicConstraints=CA:FALSE\n")
        _openssl(
            *("x509", "-req", "-in", f"{name}.csr", "-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-days", "2"),
            *("-extfile", f"{name}.ext", "-out", f"{name}.pem"),
            folder=folder,
        )
    return folder


@pytest.fixture
def secure(make_gateway: Any, certificates: Path) -> Gateway:
    arguments = ["--tls-cert", str(certificates / "server.pem"), "--tls-key", str(certificates / "server.key")]
    return make_gateway("secure", arguments)


def test_tls_reaches_a_gateway_whose_authority_is_trusted(secure: Gateway, certificates: Path) -> None:
    endpoint = secure.endpoint.replace("http:", "https:")
    with forebay.connect(endpoint, ca=certificates / "ca.pem") as client:
        _fill(client)
        assert client.get("rows", 1)["x"] == 1
        with client.writer("rows") as writer:
            writer.send([{"id": 1, "x": 5}])
        assert client.get("rows", 1)["x"] == 5
    named = endpoint.replace("127.0.0.1", "localhost")
    with forebay.connect(named, ca=certificates / "ca.pem", server_name="gateway.test") as client:
        assert client.get("rows", 1)["x"] == 5


@pytest.mark.parametrize(
    "change, expected",
    [
        ({"ca": None}, "its certificate is of an authority that is not trusted here"),
        ({"server_name": "other.test"}, "its certificate is for another name"),
        ({"plain": True}, "where it speaks TLS, the endpoint begins with https://"),
    ],
)
def test_ends_that_do_not_agree_on_a_connection_say_so_at_once(
    secure: Gateway, certificates: Path, change: dict[str, Any], expected: str
) -> None:
    options: dict[str, Any] = {"ca": certificates / "ca.pem", **change}
    endpoint = secure.endpoint if options.pop("plain", False) else secure.endpoint.replace("http:", "https:")
    if endpoint.startswith("http:"):
        options = {}
    with forebay.connect(endpoint, retry_for=1, **options) as client:
        started = time.monotonic()
        with pytest.raises(forebay.Unavailable) as caught:
            client.list_tables(timeout=20)
        assert expected in str(caught.value)
        if not endpoint.startswith("http:"):
            assert caught.value.reason == "TLS"
            assert time.monotonic() - started < 3, "another attempt would not help"


def test_a_key_of_another_certificate_is_found_before_the_first_call(certificates: Path) -> None:
    with pytest.raises(ValueError, match="server.key: not the private key of the certificate in .*client.pem"):
        forebay.connect("https://127.0.0.1:1", client_cert=certificates / "client.pem", client_key=certificates / "server.key")


def test_tls_to_a_gateway_that_speaks_none_says_so(gateway: Gateway, certificates: Path) -> None:
    with forebay.connect(gateway.endpoint.replace("http:", "https:"), ca=certificates / "ca.pem") as client:
        started = time.monotonic()
        with pytest.raises(forebay.Unavailable) as caught:
            client.list_tables(timeout=20)
        assert caught.value.reason == "TLS" and "http://" in str(caught.value)
        assert time.monotonic() - started < 3


def test_a_client_certificate_lets_in(
    make_gateway: Any, certificates: Path, forebay_bin: str, tmp_path: Path
) -> None:
    access, _ = _keys(forebay_bin, tmp_path, w1="writer")
    arguments = ["--tls-cert", str(certificates / "server.pem"), "--tls-key", str(certificates / "server.key")]
    arguments += ["--tls-client-ca", str(certificates / "ca.pem"), "--access", str(access)]
    gateway = make_gateway("mutual", arguments)
    endpoint = gateway.endpoint.replace("http:", "https:")
    identity = {"client_cert": certificates / "client.pem", "client_key": certificates / "client.key"}
    with forebay.connect(endpoint, ca=certificates / "ca.pem", **identity) as client:  # type: ignore[arg-type]
        _fill(client)
        assert client.get("rows", 1)["x"] == 1
    with forebay.connect(endpoint, ca=certificates / "ca.pem", retry_for=1) as client:
        with pytest.raises(forebay.Unavailable):
            client.list_tables(timeout=5)


def test_a_client_that_is_closed_while_its_gateway_is_gone_leaves_nothing_behind(free_port: int) -> None:
    failed: list[Any] = []
    hook, threading.excepthook = threading.excepthook, failed.append
    try:
        for _ in range(3):
            with forebay.connect(f"http://127.0.0.1:{free_port}", retry_for=0.3) as client, pytest.raises(forebay.Unavailable):
                client.get("rows", 1)
        time.sleep(0.5)
    finally:
        threading.excepthook = hook
    assert failed == []
