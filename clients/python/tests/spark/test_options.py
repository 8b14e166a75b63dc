"""The data source's options: what is wrong is said on the driver, with its name; tokens are said nowhere."""

from __future__ import annotations

import pickle
from typing import Any, Dict

import pytest

from forebay.spark.options import Connection, Given, Rejects, WriteOptions, parse_rejects

BASE = {"endpoint": "http://127.0.0.1:50051", "path": "features"}


def parse(environment: "Dict[str, str]" = {}, **options: Any) -> WriteOptions:
    return WriteOptions.parse({**BASE, **options}, environment=environment)


def test_what_is_not_said_has_the_documented_default() -> None:
    options = parse()
    assert options.table == "features"
    assert options.mode == "put"
    assert options.rejects == Rejects(path=None, fail=True)
    assert options.priority == "interactive"
    assert options.retry_for == 300.0
    nothing = (
        options.batch_bytes,
        options.compression,
        options.store_assignment,
        options.on_missing,
        options.row_deadline,
    )
    assert nothing == (None,) * 5
    assert (options.producer_id, options.epoch, options.parallelism, options.atomic_by) == (None,) * 4
    assert not options.merge_schema


def test_names_are_found_in_any_case_and_with_underscores() -> None:
    assert parse(OPCOLUMN="op").op_column == "op"
    assert parse(op_column="op").op_column == "op"
    assert parse(opcolumn="op").mode is None


def test_values_are_read_as_they_are_written() -> None:
    options = parse(
        batchBytes="512k",
        rowDeadline="10m",
        retryFor="1.5h",
        compression="LZ4",
        storeAssignmentPolicy="ANSI",
        onMissing="LEAVEUNCHANGED",
        mode="merge",
        producerId="job",
        epoch="7",
        parallelism="4",
        mergeSchema="true",
        priority="bulk",
    )
    assert options.batch_bytes == 512 * 1024
    assert options.row_deadline == 600.0
    assert options.retry_for == 5400.0
    assert (options.compression, options.store_assignment, options.on_missing) == ("lz4", "ansi", "leave_unchanged")
    assert (options.mode, options.producer_id, options.epoch, options.parallelism) == ("merge", "job", 7, 4)
    assert options.merge_schema and options.priority == "bulk"
    assert parse(compression="none").compression is None


@pytest.mark.parametrize(
    ("option", "value", "expected"),
    [
        ("mode", "upsert", "one of put, merge, insert, delete"),
        ("batchBytes", "2x", "bytes, at least 1024"),
        ("batchBytes", "1", "bytes, at least 1024"),
        ("rowDeadline", "2h", "of at most 1h"),
        ("rowDeadline", "0", "seconds"),
        ("retryFor", "soon", "seconds"),
        ("compression", "gzip", "one of none, lz4, zstd"),
        ("storeAssignmentPolicy", "lenient", "one of strict, ansi, legacy"),
        ("onMissing", "keep", "one of leaveUnchanged, null, default"),
        ("priority", "high", "one of interactive, bulk"),
        ("mergeSchema", "yes", "true or false"),
        ("parallelism", "0", "a whole number from 1 on"),
        ("rejects", "rejected", "fail, report, or where rejected rows go"),
        ("rejects", "ftp://there/x", "fail, report, or where rejected rows go"),
    ],
)
def test_a_wrong_value_is_an_error_that_names_the_option_and_what_is_expected(
    option: str, value: str, expected: str
) -> None:
    with pytest.raises(ValueError) as error:
        parse(**{option: value})
    assert str(error.value).startswith(f"{option}: `{value}` is none; expected")
    assert expected in str(error.value)


@pytest.mark.parametrize("epoch", ["-1", "18446744073709551616", "1.5"])
def test_an_epoch_is_what_the_protocol_takes(epoch: str) -> None:
    with pytest.raises(ValueError, match="^epoch: .* expected a whole number from 0"):
        parse(producerId="job", epoch=epoch)
    assert parse(producerId="job", epoch="18446744073709551615").epoch == 2**64 - 1


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        ("reject", "rejects"),
        ("opColum", "opColumn"),
        ("mergeshema", "mergeSchema"),
        ("endpont", "endpoint"),
        ("epoc", "epoch"),
    ],
)
def test_an_unknown_option_is_an_error_that_names_the_nearest(given: str, meant: str) -> None:
    with pytest.raises(ValueError, match=f"{given}: no such option; did you mean `{meant}`"):
        parse(**{given: "x"})


def test_an_unknown_option_like_none_is_told_all_that_there_are() -> None:
    with pytest.raises(ValueError, match="zzz: no such option; expected one of table, endpoint"):
        parse(zzz="x")


def test_atomic_without_a_column_is_told_about_atomic_by() -> None:
    with pytest.raises(ValueError, match="atomic: no such option; expected `atomicBy`"):
        parse(atomic="true")


def test_what_spark_puts_beside_a_users_options_is_none_of_them() -> None:
    assert parse(checkpointLocation="/tmp/x").table == "features"


def test_options_that_contradict_each_other_are_errors() -> None:
    for wrong, message in [
        ({"mode": "put", "opColumn": "op"}, "^mode: opColumn says"),
        ({"epoch": "1"}, "^epoch: .*expected `producerId`"),
        ({"mode": "delete", "mergeSchema": "true"}, "^mergeSchema: a delete stores no columns"),
        ({"mode": "delete", "onMissing": "null"}, "^onMissing: a delete stores no columns"),
        ({"onMissing": "leaveUnchanged"}, "^onMissing: leaveUnchanged is for mode merge"),
        ({"token": "fb_a_b", "tokenEnv": "X"}, "^tokenEnv: token is given, too"),
        ({"table": "other"}, "^table: is `other`, and the path is `features`"),
        ({"clientCert": "/c.pem", "endpoint": "https://h"}, "^clientKey: missing; clientCert is given"),
        ({"ca": "/ca.pem"}, "^ca: of no use to an endpoint that begins with http://"),
        ({"producerId": " "}, "^producerId: is empty"),
    ]:
        with pytest.raises(ValueError, match=message):
            parse(**wrong)


def test_a_table_is_needed() -> None:
    with pytest.raises(ValueError, match=r'^table: missing; expected .*\.save\("features"\)'):
        WriteOptions.parse({"endpoint": "http://127.0.0.1:1"}, environment={})


def test_a_token_is_not_sent_in_the_clear_wherever_it_comes_from() -> None:
    for source in ({"token": "fb_a_b"}, {"tokenEnv": "MY_TOKEN"}, {"tokenFile": "/run/key"}):
        with pytest.raises(ValueError, match="^token: it would be sent in the clear to gateway.internal"):
            parse(endpoint="http://gateway.internal:50051", **source)
        parse(endpoint="http://gateway.internal:50051", allowPlaintextToken="true", **source)


def test_a_token_is_in_no_repr_and_in_no_error() -> None:
    options = parse(token="fb_secret_0123")
    assert "fb_secret_0123" not in repr(options)
    assert "fb_secret_0123" not in repr(options.connection.resolve({}))
    with pytest.raises(ValueError) as error:
        parse(token="fb_secret 0123")
    assert "fb_secret" not in str(error.value)


@pytest.mark.parametrize("token", ["fb_spark1_0123456789", "eyJh.eyJz.c2ln"])
def test_a_token_in_place_of_its_variable_is_not_shown(token: str) -> None:
    with pytest.raises(ValueError, match="^tokenEnv: expected the name of an environment variable") as error:
        parse(tokenEnv=token)
    assert token not in str(error.value)


def test_the_drivers_token_stays_with_the_driver() -> None:
    options = parse({"FOREBAY_TOKEN": "fb_driver_0", "FOREBAY_TOKEN_FILE": "/driver/key"})
    assert b"fb_driver_0" not in pickle.dumps(options)
    assert options.connection.resolve({}).token is None
    assert options.connection.resolve({"FOREBAY_TOKEN": "fb_executor_1"}).token == "fb_executor_1"
    found = options.connection.resolve({"FOREBAY_TOKEN": "x", "FOREBAY_TOKEN_FILE": "/executor/key"})
    assert (found.token, found.token_file) == (None, "/executor/key")


def test_the_drivers_environment_says_what_is_no_secret() -> None:
    options = WriteOptions.parse(
        {"path": "t"}, environment={"FOREBAY_ENDPOINT": "http://127.0.0.1:7", "FOREBAY_CA": ""}
    )
    assert options.connection.endpoint == "http://127.0.0.1:7"


def test_a_named_variable_must_be_there_on_the_executor() -> None:
    options = parse(tokenEnv="FEATURES_TOKEN")
    with pytest.raises(ValueError, match="^tokenEnv: the environment of this executor has no FEATURES_TOKEN"):
        options.connection.resolve({"FOREBAY_TOKEN": "fb_other_0"})
    assert options.connection.resolve({"FEATURES_TOKEN": "fb_mine_0"}).token == "fb_mine_0"


def test_options_travel_to_executors() -> None:
    options = parse(mode="merge", token="fb_a_b", rejects="/tmp/rejects")
    assert pickle.loads(pickle.dumps(options)) == options


@pytest.mark.parametrize(
    "path",
    ["/mnt/rejects", "dbfs:/rejects", "s3://bucket/rejects", "s3a://b/r", "gs://b/r", "file:///tmp/r", "abfss://c@a/r"],
)
def test_rejects_go_to_a_path(path: str) -> None:
    assert parse_rejects(path) == Rejects(path=path, fail=False)
    assert parse_rejects(path + "/") == Rejects(path=path, fail=False)


def test_other_sources_of_options_share_the_rules() -> None:
    given = Given({"ENDPOINT": "https://a,https://b"}, ("endpoint", "ca"))
    assert Connection.parse(given, {}).resolve({}).endpoints == ("https://a", "https://b")
