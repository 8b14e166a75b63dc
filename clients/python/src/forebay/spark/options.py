"""The data source's options: from Spark's texts to checked values, on the driver, before any task starts.

Invariants: every error names the option, what was expected and, for a name that is not known, the nearest one; no
error and no `repr` holds a token. Options are picklable: they travel to executors, which look up the token themselves
where it was not given as an option. Names are compared as Spark compares them, in any case; the helpers' keyword
arguments may have underscores. Callers: `source`, `helpers`.
"""

from __future__ import annotations

import difflib
import os
import re
from dataclasses import dataclass, field
from typing import Any, Callable, Dict, Iterable, Mapping, Optional, Tuple
from urllib.parse import urlsplit

from ..options import ConnectOptions

CONNECTION_OPTIONS = (
    "endpoint",
    "token",
    "tokenFile",
    "tokenEnv",
    "ca",
    "clientCert",
    "clientKey",
    "serverName",
    "allowPlaintextToken",
)
WRITE_OPTIONS = (
    "table",
    *CONNECTION_OPTIONS,
    "mode",
    "opColumn",
    "atomicBy",
    "mergeSchema",
    "storeAssignmentPolicy",
    "onMissing",
    "rejects",
    "batchBytes",
    "compression",
    "priority",
    "rowDeadline",
    "producerId",
    "epoch",
    "retryFor",
    "parallelism",
)
# What Spark itself puts beside a user's options.
_SPARKS_OWN = ("path", "checkpointLocation")
_TOKEN_ENV = "FOREBAY_TOKEN"
_TOKEN_FILE_ENV = "FOREBAY_TOKEN_FILE"
# A token that is sent nowhere: it stands for one that only executors have while the driver checks the other options.
_TOKEN_OF_EXECUTORS = "of-the-executor"

MIN_BATCH_BYTES = 1024
MAX_ROW_DEADLINE = 3600.0
MAX_PRODUCER_ID_BYTES = 512

MODES = ("put", "merge", "insert", "delete")
REJECT_SCHEMES = ("file", "dbfs", "s3", "s3a", "gs", "hdfs", "abfs", "abfss")


def canonical(name: str) -> str:
    """A name as names are compared: `opColumn`, `OPCOLUMN` and `op_column` are one."""
    return name.replace("_", "").lower()


class Given:
    """The options as they were given, by canonical name. Says which are not known."""

    def __init__(self, options: Mapping[str, Any], known: Iterable[str]) -> None:
        self._names = {canonical(name): name for name in known}
        ignored = {canonical(name) for name in _SPARKS_OWN}
        self.path: Optional[str] = None
        self._values: Dict[str, str] = {}
        for name, value in options.items():
            key = canonical(name)
            if value is None or (key in ignored and key not in self._names):
                if key == "path" and value is not None:
                    self.path = str(value)
                continue
            if key not in self._names:
                raise ValueError(self._unknown(name))
            self._values[key] = _text(value)

    def _unknown(self, name: str) -> str:
        key = canonical(name)
        if key == "atomic":
            return "atomic: no such option; expected `atomicBy`, the column whose equal values belong together"
        near = difflib.get_close_matches(key, list(self._names), n=1, cutoff=0.6)
        expected = (
            f"did you mean `{self._names[near[0]]}`?" if near else f"expected one of {', '.join(self._names.values())}"
        )
        return f"{name}: no such option; {expected}"

    def text(self, name: str) -> Optional[str]:
        """The option's text, None where it was not given. An empty one is an error: often a variable without value."""
        value = self._values.get(canonical(name))
        if value is not None and not value.strip():
            raise ValueError(f"{name}: is empty; expected a value, or leave the option out")
        return value

    def parsed(self, name: str, parse: Callable[[str], Any], expected: str, default: Any = None) -> Any:
        """The option's value. `parse` raises ValueError for what is none; the error then says what was `expected`."""
        value = self.text(name)
        if value is None:
            return default
        try:
            return parse(value.strip())
        except ValueError:
            raise ValueError(f"{name}: `{value}` is none; expected {expected}") from None

    def choice(self, name: str, choices: Tuple[str, ...], default: Optional[str] = None) -> Optional[str]:
        """One of some words, in any case."""
        by_key = {canonical(word): word for word in choices}

        def parse(text: str) -> str:
            if canonical(text) not in by_key:
                raise ValueError(text)
            return by_key[canonical(text)]

        value: Optional[str] = self.parsed(name, parse, f"one of {', '.join(choices)}", default)
        return value

    def flag(self, name: str) -> bool:
        """`true` or `false`."""
        return bool(self.parsed(name, _flag, "true or false", False))


@dataclass(frozen=True)
class Connection:
    """How executors reach a gateway. The token is looked up where it is used, unless it was given as an option."""

    endpoint: str
    token: Optional[str] = field(default=None, repr=False)
    token_file: Optional[str] = None
    token_env: Optional[str] = None
    """Given: the variable must be there. None: FOREBAY_TOKEN_FILE or FOREBAY_TOKEN is used where there is one."""
    ca: Optional[str] = None
    client_cert: Optional[str] = None
    client_key: Optional[str] = None
    server_name: Optional[str] = None
    allow_plaintext_token: bool = False

    @classmethod
    def parse(cls, given: Given, environment: Optional[Mapping[str, str]] = None) -> Connection:
        """The options, and for those that are no secret the driver's FOREBAY_* variables. Raises `ValueError`."""
        environment = os.environ if environment is None else environment
        token = given.text("token")
        sources = [name for name in ("token", "tokenFile", "tokenEnv") if given.text(name) is not None]
        if len(sources) > 1:
            raise ValueError(f"{sources[1]}: {sources[0]} is given, too; expected one of token, tokenFile and tokenEnv")
        token_env = given.text("tokenEnv")
        if token_env is not None and not _is_variable(token_env):
            # Not shown: it may be the token.
            raise ValueError(
                "tokenEnv: expected the name of an environment variable that holds the token, not the token"
            )
        try:
            # A token of the driver's environment stays here; of the rest, what was not said is the environment's.
            checked = ConnectOptions.from_env(
                environment={k: v for k, v in environment.items() if k not in (_TOKEN_ENV, _TOKEN_FILE_ENV)},
                endpoint=given.text("endpoint"),
                token=_TOKEN_OF_EXECUTORS if token_env is not None else token,
                token_file=given.text("tokenFile"),
                ca=given.text("ca"),
                client_cert=given.text("clientCert"),
                client_key=given.text("clientKey"),
                server_name=given.text("serverName"),
                allow_plaintext_token=True if given.flag("allowPlaintextToken") else None,
            )
        except ValueError as error:
            raise ValueError(_in_options_words(str(error))) from None
        return cls(
            endpoint=",".join(checked.endpoints),
            token=token,
            token_file=given.text("tokenFile"),
            token_env=token_env,
            ca=_path(checked.ca),
            client_cert=_path(checked.client_cert),
            client_key=_path(checked.client_key),
            server_name=checked.server_name,
            allow_plaintext_token=checked.allow_plaintext_token,
        )

    def resolve(self, environment: Optional[Mapping[str, str]] = None) -> ConnectOptions:
        """What a connection from here needs, with the token. Raises `ValueError` where a promised token is missing."""
        environment = os.environ if environment is None else environment
        token, token_file = self.token, self.token_file
        if self.token_env is not None:
            token = environment.get(self.token_env) or None
            if token is None:
                raise ValueError(
                    f"tokenEnv: the environment of this executor has no {self.token_env}; expected it to hold the token"
                    f" (spark.executorEnv.{self.token_env}, or the cluster's environment variables)"
                )
        elif token is None and token_file is None:
            token_file = environment.get(_TOKEN_FILE_ENV) or None
            token = None if token_file is not None else environment.get(_TOKEN_ENV) or None
        try:
            return ConnectOptions(
                endpoint=self.endpoint,
                token=token,
                token_file=token_file,
                ca=self.ca,
                client_cert=self.client_cert,
                client_key=self.client_key,
                server_name=self.server_name,
                allow_plaintext_token=self.allow_plaintext_token,
            )
        except ValueError as error:
            raise ValueError(_in_options_words(str(error))) from None


@dataclass(frozen=True)
class Rejects:
    """What happens to rows that the table does not take."""

    path: Optional[str] = None
    """Where they go, with reasons."""
    fail: bool = True
    """Whether they fail the job, once the others are written."""


@dataclass(frozen=True)
class WriteOptions:
    """What a write is told by its options."""

    connection: Connection
    table: str
    mode: Optional[str] = "put"
    """None where `op_column` says it row by row."""
    op_column: Optional[str] = None
    atomic_by: Optional[str] = None
    merge_schema: bool = False
    store_assignment: Optional[str] = None
    """None: as the table says."""
    on_missing: Optional[str] = None
    rejects: Rejects = Rejects()
    batch_bytes: Optional[int] = None
    """None: as the gateway says."""
    compression: Optional[str] = None
    priority: str = "interactive"
    row_deadline: Optional[float] = None
    """Seconds. None: the gateway's 10 minutes."""
    producer_id: Optional[str] = None
    epoch: Optional[int] = None
    retry_for: float = 300.0
    """Seconds."""
    parallelism: Optional[int] = None

    @classmethod
    def parse(cls, options: Mapping[str, Any], *, environment: Optional[Mapping[str, str]] = None) -> WriteOptions:
        """Checks what can be checked without a gateway. Raises `ValueError` that begins with the option's name."""
        given = Given(options, WRITE_OPTIONS)
        op_column = given.text("opColumn")
        mode = given.choice("mode", MODES)
        if op_column is not None and mode is not None:
            raise ValueError("mode: opColumn says for each row what it does; expected one of the two")
        on_missing = given.choice("onMissing", ("leaveUnchanged", "null", "default"))
        producer_id = given.parsed("producerId", _producer_id, f"a name of at most {MAX_PRODUCER_ID_BYTES} bytes", None)
        epoch = given.parsed(
            "epoch", _epoch, "a whole number from 0 to 18446744073709551615, which grows from run to run"
        )
        if epoch is not None and producer_id is None:
            raise ValueError("epoch: it counts the runs of a producer; expected `producerId`, too")
        write = cls(
            connection=Connection.parse(given, environment),
            table=_table(given),
            mode=None if op_column is not None else mode or "put",
            op_column=op_column,
            atomic_by=given.text("atomicBy"),
            merge_schema=given.flag("mergeSchema"),
            store_assignment=given.choice("storeAssignmentPolicy", ("strict", "ansi", "legacy")),
            on_missing=None
            if on_missing is None
            else {"leaveUnchanged": "leave_unchanged"}.get(on_missing, on_missing),
            rejects=parse_rejects(given.text("rejects")),
            batch_bytes=given.parsed(
                "batchBytes", _bytes, f"bytes, at least {MIN_BATCH_BYTES}, like 1048576, 512k or 2m"
            ),
            compression=_unless_none(given.choice("compression", ("none", "lz4", "zstd"))),
            priority=given.choice("priority", ("interactive", "bulk")) or "interactive",
            row_deadline=given.parsed(
                "rowDeadline", _row_deadline, "seconds, or a time like 30s or 10m, of at most 1h"
            ),
            producer_id=producer_id,
            epoch=epoch,
            retry_for=given.parsed("retryFor", _seconds, "seconds, or a time like 30s, 5m or 1h", 300.0),
            parallelism=given.parsed("parallelism", _count, "a whole number from 1 on"),
        )
        write._refuse_contradictions()
        return write

    def _refuse_contradictions(self) -> None:
        if self.mode == "delete" and self.on_missing is not None:
            raise ValueError("onMissing: a delete stores no columns; leave the option out")
        if self.mode == "delete" and self.merge_schema:
            raise ValueError("mergeSchema: a delete stores no columns; leave the option out")
        if self.on_missing == "leave_unchanged" and self.mode in ("put", "insert"):
            raise ValueError(
                f"onMissing: leaveUnchanged is for mode merge; a row of mode {self.mode} is the whole item"
            )


def parse_rejects(text: Optional[str]) -> Rejects:
    """`fail`, `report` or a path that every executor can write."""
    if text is None or text.strip().lower() == "fail":
        return Rejects()
    path = text.strip()
    if path.lower() == "report":
        return Rejects(fail=False)
    scheme = urlsplit(path).scheme.lower()
    if not path.startswith("/") and scheme not in REJECT_SCHEMES:
        raise ValueError(
            f"rejects: `{path}` is none; expected fail, report, or where rejected rows go: a path that begins with /"
            f" or with one of {', '.join(f'{known}:' for known in REJECT_SCHEMES)}"
        )
    return Rejects(path=path.rstrip("/") or "/", fail=False)


def _table(given: Given) -> str:
    table = given.text("table")
    if table is not None and given.path is not None and table != given.path:
        raise ValueError(f"table: is `{table}`, and the path is `{given.path}`; expected one of the two")
    chosen = table if table is not None else given.path
    if not chosen:
        raise ValueError(
            'table: missing; expected the name of a table: .option("table", "features") or .save("features")'
        )
    return chosen


def _text(value: Any) -> str:
    # Helpers take Python's values: True is `true` to Spark.
    return str(value).lower() if isinstance(value, bool) else str(value)


def _path(value: Any) -> Optional[str]:
    return None if value is None else os.fspath(value)


def _flag(text: str) -> bool:
    if text.lower() not in ("true", "false"):
        raise ValueError(text)
    return text.lower() == "true"


def _is_variable(text: str) -> bool:
    # Keys of Forebay could be names of variables.
    return re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", text) is not None and not text.startswith("fb_")


def _count(text: str) -> int:
    if not re.fullmatch(r"[0-9]+", text) or int(text) < 1:
        raise ValueError(text)
    return int(text)


def _epoch(text: str) -> int:
    if not re.fullmatch(r"[0-9]+", text) or int(text) >= 2**64:
        raise ValueError(text)
    return int(text)


def _producer_id(text: str) -> str:
    if len(text.encode()) > MAX_PRODUCER_ID_BYTES:
        raise ValueError(text)
    return text


def _bytes(text: str) -> int:
    match = re.fullmatch(r"([0-9]+) *([kmKM]?)[bB]?", text)
    if match is None:
        raise ValueError(text)
    size = int(match[1]) * {"": 1, "k": 1 << 10, "m": 1 << 20}[match[2].lower()]
    if size < MIN_BATCH_BYTES:
        raise ValueError(text)
    return size


def _seconds(text: str) -> float:
    match = re.fullmatch(r"([0-9]+(?:\.[0-9]+)?) *(s|m|h|)", text.lower())
    if match is None or float(match[1]) <= 0:
        raise ValueError(text)
    return float(match[1]) * {"": 1, "s": 1, "m": 60, "h": 3600}[match[2]]


def _row_deadline(text: str) -> float:
    seconds = _seconds(text)
    if seconds > MAX_ROW_DEADLINE:
        raise ValueError(text)
    return seconds


def _unless_none(word: Optional[str]) -> Optional[str]:
    return None if word == "none" else word


# Longest names first, so that `token_file` is not taken for `token`.
_FIELDS = {
    "allow_plaintext_token=True": "allowPlaintextToken true",
    "allow_plaintext_token": "allowPlaintextToken",
    "client_cert": "clientCert",
    "client_key": "clientKey",
    "server_name": "serverName",
    "token_file": "tokenFile",
}


def _in_options_words(message: str) -> str:
    for name, option in _FIELDS.items():
        message = re.sub(rf"(?<![\w/]){re.escape(name)}(?!\w)", option, message)
    return message
