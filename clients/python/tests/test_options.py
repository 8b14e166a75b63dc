"""How a gateway is reached: what is taken, from where, and what is refused."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any, Dict

import pytest

from forebay import ConnectOptions
from forebay._channel import AVOID_SECONDS, TOKEN_RECHECK_SECONDS, Rotation, TokenSource, check_files

SECRET = "fb_a_verysecret"


def test_several_endpoints_come_as_a_sequence_or_as_one_text() -> None:
    listed = ConnectOptions(["http://a:1", "http://b:2"])
    assert listed == ConnectOptions("http://a:1, http://b:2")
    assert listed.targets == (("a", 1), ("b", 2))
    assert ConnectOptions("https://[::1]:5").targets == (("::1", 5),)
    assert ConnectOptions("https://a").targets == (("a", 443),)


@pytest.mark.parametrize(
    "endpoint, wrong",
    [
        ("127.0.0.1:50051", "the scheme is missing"),
        ("localhost", "the scheme is missing"),
        ("ftp://x:1", "the scheme must be https or http"),
        ("http://a b:1", "there is a blank in it"),
        ("http://:1", "the host is missing"),
        ("http://a:port", "not a URL"),
        ("http://a:99999", "not a URL"),
        ("http://a:1/path", "it has more than scheme, host and port"),
        ("http://a:1,", "the scheme is missing"),
        ([], "none is given"),
        ("", "the scheme is missing"),
    ],
)
def test_a_bad_endpoint_is_named_with_what_is_wrong(endpoint: Any, wrong: str) -> None:
    with pytest.raises(ValueError, match=wrong) as caught:
        ConnectOptions(endpoint)
    assert "http://127.0.0.1:50051" in str(caught.value)


def test_one_scheme_holds_for_all_endpoints() -> None:
    with pytest.raises(ValueError, match="one of the two for all"):
        ConnectOptions("http://a:1,https://b:1")


@pytest.mark.parametrize(
    "here", ["http://127.0.0.1:1", "http://[::1]:1", "http://localhost:1", "http://LOCALHOST:1", "http://[::ffff:127.0.0.1]:1"]
)
def test_a_token_goes_in_the_clear_to_this_host(here: str) -> None:
    ConnectOptions(here, token=SECRET)


@pytest.mark.parametrize(
    "there",
    [
        "http://10.0.0.1:1",
        "http://forebay:1",
        "http://localhost.example.com:1",
        "http://127.0.0.1.nip.io:1",
        "http://127.0.0.1:1,http://forebay:1",
    ],
)
def test_a_token_goes_in_the_clear_to_no_other_host_but_when_told(there: str) -> None:
    for credential in ({"token": SECRET}, {"token_file": "/no/such/file"}):
        with pytest.raises(ValueError, match="^token: it would be sent in the clear") as caught:
            ConnectOptions(there, **credential)  # type: ignore[arg-type]
        assert "secret" not in str(caught.value)
        ConnectOptions(there, allow_plaintext_token=True, **credential)  # type: ignore[arg-type]


@pytest.mark.parametrize("tls", [{"ca": "x"}, {"client_cert": "x", "client_key": "y"}, {"server_name": "x"}])
def test_what_belongs_to_tls_is_an_error_without_it(tls: Dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="expected https://"):
        ConnectOptions("http://127.0.0.1:1", **tls)
    ConnectOptions("https://127.0.0.1:1", **tls)


def test_a_certificate_and_its_key_come_together() -> None:
    with pytest.raises(ValueError, match="^client_key: missing"):
        ConnectOptions("https://a:1", client_cert="x")
    with pytest.raises(ValueError, match="^client_cert: missing"):
        ConnectOptions("https://a:1", client_key="x")


@pytest.mark.parametrize("token", ["", " \n", "two words", "naïve", "a\u0007b"])
def test_what_is_no_token_is_found_at_once_and_not_shown(token: str) -> None:
    with pytest.raises(ValueError, match="^token: holds no token; expected") as caught:
        ConnectOptions("http://127.0.0.1:1", token=token)
    assert not token.strip() or token not in str(caught.value)


@pytest.mark.parametrize("seconds", [0, -1, float("nan"), float("inf"), True, "5"])
def test_times_are_seconds_above_0(seconds: Any) -> None:
    with pytest.raises(ValueError, match="^timeout: expected a number of seconds"):
        ConnectOptions(timeout=seconds)


def test_options_travel_to_executors_and_do_not_show_their_token() -> None:
    options = ConnectOptions("http://127.0.0.1:1", token=SECRET, timeout=5)
    again = pickle.loads(pickle.dumps(options))
    assert again == options and again.token == SECRET
    assert "secret" not in repr(options) and "secret" not in str(options)


def test_the_environment_fills_what_is_not_given() -> None:
    environment = {
        "FOREBAY_ENDPOINT": "https://a:1",
        "FOREBAY_TOKEN": SECRET,
        "FOREBAY_CA": "ca.pem",
        "FOREBAY_CLIENT_CERT": "cert.pem",
        "FOREBAY_CLIENT_KEY": "key.pem",
        "FOREBAY_SERVER_NAME": "gateway",
        "FOREBAY_ALLOW_PLAINTEXT_TOKEN": "true",
    }
    options = ConnectOptions.from_env(environment=environment, timeout=7, ca=None)
    assert options == ConnectOptions(
        "https://a:1",
        token=SECRET,
        ca="ca.pem",
        client_cert="cert.pem",
        client_key="key.pem",
        server_name="gateway",
        allow_plaintext_token=True,
        timeout=7,
    )
    assert ConnectOptions.from_env(environment={"FOREBAY_ENDPOINT": ""}) == ConnectOptions()


def test_a_token_that_is_given_sets_those_of_the_environment_aside() -> None:
    environment = {"FOREBAY_TOKEN": "one", "FOREBAY_TOKEN_FILE": "file"}
    options = ConnectOptions.from_env(environment=environment)
    assert (options.token, options.token_file) == (None, "file")
    options = ConnectOptions.from_env(environment=environment, token="given")
    assert (options.token, options.token_file) == ("given", None)
    options = ConnectOptions.from_env(environment=environment, token_file=Path("given"))
    assert (options.token, options.token_file) == (None, "given")


def test_a_flag_of_the_environment_is_a_word_for_yes_or_no() -> None:
    for text, means in (("1", True), ("TRUE", True), ("off", False), ("", False)):
        assert ConnectOptions.from_env(environment={"FOREBAY_ALLOW_PLAINTEXT_TOKEN": text}).allow_plaintext_token is means
    with pytest.raises(ValueError, match="^FOREBAY_ALLOW_PLAINTEXT_TOKEN: expected true or false"):
        ConnectOptions.from_env(environment={"FOREBAY_ALLOW_PLAINTEXT_TOKEN": "maybe"})


def test_files_that_cannot_be_used_are_named_before_the_first_call(tmp_path: Path) -> None:
    empty, missing = tmp_path / "empty.pem", tmp_path / "missing.pem"
    empty.write_text("")
    for path, wrong in ((empty, "holds no certificate; expected PEM"), (missing, "cannot be read")):
        for options in ({"ca": path}, {"client_cert": path, "client_key": path}):
            with pytest.raises(ValueError, match=wrong) as caught:
                check_files(ConnectOptions("https://127.0.0.1:1", **options))  # type: ignore[arg-type]
            assert str(path) in str(caught.value)
    with pytest.raises(ValueError, match="cannot be read"):
        check_files(ConnectOptions("http://127.0.0.1:1", token_file=missing))


def test_a_files_token_is_read_again_and_the_last_good_one_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "token"
    path.write_text("one\n")
    source = TokenSource(ConnectOptions("http://127.0.0.1:1", token_file=path))
    start = source._read_at

    def shown(seconds: float) -> str:
        return dict(source.metadata(start + seconds))["authorization"]

    assert shown(0) == "Bearer one"
    path.write_text("two")
    assert shown(TOKEN_RECHECK_SECONDS / 2) == "Bearer one", "not at every call"
    assert shown(TOKEN_RECHECK_SECONDS * 2) == "Bearer two"
    path.unlink()
    assert shown(TOKEN_RECHECK_SECONDS * 4) == "Bearer two"
    path.write_text("no token")
    assert shown(TOKEN_RECHECK_SECONDS * 6) == "Bearer two"
    path.write_text("three")
    assert shown(TOKEN_RECHECK_SECONDS * 8) == "Bearer three"


def test_endpoints_take_turns_and_one_that_failed_waits() -> None:
    rotation = Rotation(3)
    assert [rotation.pick(0) for _ in range(4)] == [0, 1, 2, 0]
    rotation.failed(1, now=10)
    assert [rotation.pick(10) for _ in range(4)] == [2, 0, 2, 0]
    assert 1 in [rotation.pick(10 + AVOID_SECONDS) for _ in range(3)]
    rotation.failed(1, now=20)
    rotation.answered(1)
    assert 1 in [rotation.pick(20) for _ in range(3)]


def test_where_all_endpoints_have_failed_the_oldest_failure_is_tried() -> None:
    rotation = Rotation(2)
    rotation.failed(1, now=0)
    rotation.failed(0, now=1)
    assert rotation.pick(1) == 1
    rotation.failed(1, now=1.5)
    assert rotation.pick(1.6) == 0
