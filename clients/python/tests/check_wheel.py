"""Looks into a wheel and imports it, in an environment that holds the wheel and nothing that it does not ask for.

    python check_wheel.py DIST/forebay-0.1.0-py3-none-any.whl

Not a pytest: the point is the environment that it runs in. `run wheel` starts it in a new one.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import importlib.util
import sys
import zipfile
from pathlib import Path

OPTIONAL = ("pyarrow", "pandas", "pyspark", "numpy")
"""What only some callers need: `import forebay` must do without."""
MODULES = ("forebay", "forebay.aio", "forebay.errors", "forebay.results", "forebay.v1.ingest_pb2_grpc")


def expect(holds: bool, what: str) -> None:
    if not holds:
        sys.exit(f"the wheel: {what}")


def check_files(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        metadata = next(name for name in names if name.endswith(".dist-info/METADATA"))
        text = archive.read(metadata).decode()
    folders = {name.split("/")[0] for name in names}
    info = metadata.split("/")[0]
    expect(folders == {"forebay", "pyspark_forebay", info}, f"it holds {sorted(folders)}")
    expect("forebay/py.typed" in names, "without py.typed no type checker reads it")
    expect(f"{info}/licenses/LICENSE" in names, "the licence is missing")
    expect(
        not [name for name in names if name.endswith((".pyc", ".proto", ".log"))], "it holds what was only lying about"
    )
    for line in ("License-Expression: Apache-2.0", "Requires-Python: >=3.9", "Description-Content-Type: text/markdown"):
        expect(line in text.splitlines(), f"its metadata lacks `{line}`")
    expect("# Forebay" in text, "its description is not the README")
    print(f"{wheel.name}: {len(names)} files")


def check_imports() -> None:
    for name in OPTIONAL:
        expect(importlib.util.find_spec(name) is None, f"{name} is importable here, so that this shows nothing")
    for name in MODULES:
        importlib.import_module(name)
    forebay = importlib.import_module("forebay")
    expect(
        forebay.__version__ == importlib.metadata.version("forebay"),
        f"__version__ is {forebay.__version__}, the metadata's {importlib.metadata.version('forebay')}",
    )
    for name in forebay.__all__:
        expect(hasattr(forebay, name), f"forebay.__all__ names {name}, which is not there")
    print(f"imported without {', '.join(OPTIONAL)}: {', '.join(MODULES)}")


if __name__ == "__main__":
    check_files(Path(sys.argv[1]))
    check_imports()
