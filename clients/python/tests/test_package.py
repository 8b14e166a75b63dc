"""What the package says about itself, in several places that must agree."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parent
PROJECT = (HERE.parent / "pyproject.toml").read_text()
CARGO = HERE.parent.parent.parent / "Cargo.toml"


def test_the_version_is_that_of_the_gateway() -> None:
    version = re.search(r'^version = "(.+)"$', PROJECT, re.MULTILINE)
    gateways = re.search(r'^version = "(.+)"$', CARGO.read_text(), re.MULTILINE)
    assert version and gateways and version[1] == gateways[1]


@pytest.mark.parametrize("package", ["grpcio", "protobuf", "pyarrow", "pandas"])
def test_the_lower_bounds_are_what_is_tested_as_the_oldest(package: str) -> None:
    bound = min(
        re.findall(rf'"{package}>=([0-9.]+)"', PROJECT), key=lambda text: [int(part) for part in text.split(".")]
    )
    tested = re.search(rf"^{package}==([0-9.]+)$", (HERE / "requirements" / "oldest.txt").read_text(), re.MULTILINE)
    assert tested and (tested[1] == bound or tested[1].startswith(f"{bound}.0"))


def test_the_licence_in_the_wheel_is_the_projects() -> None:
    assert (HERE.parent / "LICENSE").read_text() == (CARGO.parent / "LICENSE").read_text()
