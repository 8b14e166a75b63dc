"""A gateway for tests: the release binary over its embedded store, on free ports of loopback.

`FOREBAY_BIN` names the binary; without it, the repository's own release build is taken. A test that needs a gateway fails where there is
none: it is never skipped, because a suite that skips what it is for proves nothing.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import textwrap
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Callable, Iterator, List, Optional

import pytest

START_SECONDS = 20.0
STOP_SECONDS = 40.0


class Gateway:
    """One gateway process that can be stopped, killed and started again on the same ports, with the same data."""

    def __init__(
        self,
        binary: Path,
        folder: Path,
        arguments: Optional[List[str]] = None,
        *,
        backend: Optional[List[str]] = None,
    ) -> None:
        """`backend` are the arguments that choose the store: the embedded one, in the folder, unless given."""
        self._binary = binary
        self._folder = folder
        self._backend = ["--embedded", str(folder / "data")] if backend is None else backend
        self._arguments = [] if arguments is None else arguments
        self._port = _free_port()
        self._admin_port = _free_port()
        self._process: Optional[subprocess.Popen[bytes]] = None
        self._applied = 0
        self.log = folder / "gateway.log"

    @property
    def target(self) -> str:
        """`host:port`, as gRPC's own channels want it."""
        return f"127.0.0.1:{self._port}"

    @property
    def endpoint(self) -> str:
        """`http://host:port`, as `forebay.connect` wants it."""
        return f"http://{self.target}"

    @property
    def admin(self) -> str:
        """The side port: /metrics, /readyz."""
        return f"http://127.0.0.1:{self._admin_port}"

    def start(self) -> None:
        """Starts it and waits until it is ready."""
        assert self._process is None, "it is running"
        command = [str(self._binary), "serve", *self._backend]
        command += ["--listen", self.target, "--admin", f"127.0.0.1:{self._admin_port}", "--drain-seconds", "5"]
        environment = {name: value for name, value in os.environ.items() if not name.startswith("FOREBAY_")}
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                command + self._arguments, stdout=log, stderr=log, stdin=subprocess.DEVNULL, env=environment
            )
        until = time.monotonic() + START_SECONDS
        while not self._is_ready():
            if self._process.poll() is not None or time.monotonic() > until:
                code = self._process.poll()
                self.kill()
                raise AssertionError(f"the gateway is not ready (exit code {code}):\n{self.log.read_text()}")
            time.sleep(0.02)

    def stop(self) -> None:
        """Lets it drain and end, as a deployment does."""
        if self._process is not None:
            self._process.send_signal(signal.SIGTERM)
            try:
                self._process.wait(STOP_SECONDS)
            finally:
                self.kill()

    def kill(self) -> None:
        """Ends it at once, as a lost machine does."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def restart(self) -> None:
        """Kills it and starts it again."""
        self.kill()
        self.start()

    def apply(self, *tables: str) -> None:
        """Creates or evolves tables, given as table files are written (YAML, may be indented)."""
        for table in tables:
            self._applied += 1
            path = self._folder / f"table-{self._applied}.yaml"
            path.write_text(textwrap.dedent(table))
            command = [str(self._binary), "tables", "--endpoint", self.endpoint, "apply", str(path)]
            environment = {name: value for name, value in os.environ.items() if not name.startswith("FOREBAY_")}
            done = subprocess.run(command, capture_output=True, text=True, timeout=60, env=environment)
            assert done.returncode == 0, f"the table was not applied:\n{done.stdout}{done.stderr}"

    def _is_ready(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.admin}/readyz", timeout=1) as answer:
                return bool(answer.status == 200)
        except (urllib.error.URLError, OSError):
            return False


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def _binary() -> Path:
    named = os.environ.get("FOREBAY_BIN")
    binary = Path(named) if named else Path(__file__).resolve().parents[3] / "target" / "release" / "forebay"
    found = shutil.which(str(binary))
    assert found, f"{binary} is no program: build it (cargo build --release) or name one in FOREBAY_BIN"
    return Path(found).resolve()


@pytest.fixture
def gateway(tmp_path: Path) -> Iterator[Gateway]:
    """A gateway of the test's own."""
    folder = tmp_path / "gateway"
    folder.mkdir()
    gateway = Gateway(_binary(), folder)
    gateway.start()
    try:
        yield gateway
    finally:
        gateway.kill()


@pytest.fixture
def two_gateways(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[List[Gateway]]:
    """Two gateways over one store: the stub DynamoDB, which keeps its items in memory.

    `FOREBAY_STUB_BIN` names it; without it, it is the example `stub_dynamodb` that was built beside the gateway.
    """
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "none")
    monkeypatch.setenv("AWS_REGION", "eu-central-1")
    stub = subprocess.Popen(
        [str(_stub()), "--keep-items"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, stdin=subprocess.DEVNULL
    )
    gateways: List[Gateway] = []
    try:
        assert stub.stdout is not None
        url = stub.stdout.readline().decode().strip()
        for name in ("one", "two"):
            (tmp_path / name).mkdir()
            gateways.append(Gateway(_binary(), tmp_path / name, backend=["--endpoint-url", url]))
            gateways[-1].start()
        yield gateways
    finally:
        for gateway in gateways:
            gateway.kill()
        stub.kill()
        stub.wait()


def _stub() -> Path:
    named = os.environ.get("FOREBAY_STUB_BIN")
    beside = _binary().parent
    tried = [Path(named)] if named else [beside / "examples" / "stub_dynamodb", beside / "stub_dynamodb"]
    found = [path for path in tried if shutil.which(str(path))]
    assert found, (
        f"{tried[0]} is no program: build it (cargo build --release --example stub_dynamodb), "
        "or name one in FOREBAY_STUB_BIN"
    )
    return found[0].resolve()


@pytest.fixture(scope="module")
def shared_gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """A gateway for all tests of a module, which leave it running and name their tables apart."""
    gateway = Gateway(_binary(), tmp_path_factory.mktemp("gateway"))
    gateway.start()
    try:
        yield gateway
    finally:
        gateway.kill()


MakeGateway = Callable[..., Gateway]


@pytest.fixture
def make_gateway(tmp_path: Path) -> Iterator[MakeGateway]:
    """Makes gateways of the test's own: `make_gateway("one", ["--access", path])`."""
    made: List[Gateway] = []

    def make(name: str, arguments: Optional[List[str]] = None) -> Gateway:
        folder = tmp_path / name
        folder.mkdir()
        gateway = Gateway(_binary(), folder, arguments)
        made.append(gateway)
        gateway.start()
        return gateway

    try:
        yield make
    finally:
        for gateway in made:
            gateway.kill()


@pytest.fixture(scope="session")
def forebay_bin() -> str:
    """The program."""
    return str(_binary())


@pytest.fixture
def free_port() -> int:
    """A port on which nobody listens."""
    return _free_port()


@pytest.fixture
def silent_port() -> Iterator[int]:
    """A port that takes connections and never answers."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(16)
        yield int(listener.getsockname()[1])
