"""The runner of the documents finds what is to run, and notices what does not do what it shows."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent))

import docs_runner  # noqa: E402

DOCUMENT = """# Title

```python
x = 20
```

```console
$ echo 1; echo 2
1
2
```

```yaml
name: not a script
```

```python
# not run: needs a cluster
fail()
```

```python
assert x + 1 == 21
y = "127.0.0.1:50051"
```
"""


def write(folder: Path, text: str) -> Path:
    path = folder / "doc.md"
    path.write_text(text)
    return path


def test_blocks_of_both_kinds_run_in_one_script_and_the_others_do_not(tmp_path: Path) -> None:
    assert docs_runner.run(write(tmp_path, DOCUMENT), "127.0.0.1:1234") == (3, 1)


def test_the_default_address_becomes_the_gateways(tmp_path: Path) -> None:
    text = '```python\nassert "127.0.0.1:50051".endswith(":12" + "34")\n```\n'
    docs_runner.run(write(tmp_path, text), "127.0.0.1:1234")


def test_an_error_names_the_line_of_the_document(tmp_path: Path) -> None:
    path = write(tmp_path, "a\n\n```python\nx = 1\nraise KeyError(x)\n```\n")
    with pytest.raises(KeyError) as caught:
        docs_runner.run(path, "unused")
    assert (caught.traceback[-1].path, caught.traceback[-1].lineno + 1) == (path, 5)


@pytest.mark.parametrize(
    "block, complaint",
    [
        ("$ false", "exit code 1"),
        ("$ false | true", "exit code 1"),
        ("$ echo one\ntwo", "the line was not printed where it is shown: two"),
        ("$ printf 'a\\nb\\nc\\n'\na\nc", "shown: c"),
        ("$ printf 'a\\nb\\n'\nb\na", "shown: a"),
        ("only output", "without a line that begins with"),
    ],
)
def test_a_console_block_that_does_not_do_what_it_shows_fails(block: str, complaint: str, tmp_path: Path) -> None:
    with pytest.raises(docs_runner.DocumentError, match=complaint):
        docs_runner.run(write(tmp_path, f"```console\n{block}\n```\n"), "unused")


@pytest.mark.parametrize(
    "block",
    [
        "$ printf 'a\\nb\\nc\\n'\na\n...\nc",
        "$ echo a \\\n    b\na b",
        "$ export A=1\n$ echo $A\n1",
        "$ printf 'before\\na\\nafter\\n'\na",
    ],
)
def test_a_console_block_that_does_what_it_shows_passes(block: str, tmp_path: Path) -> None:
    assert docs_runner.run(write(tmp_path, f"```console\n{block}\n```\n"), "unused") == (1, 0)


@pytest.mark.parametrize(
    "text",
    ["# nothing\n", "```python\nx = 1\n", "- item\n  ```python\n  x = 1\n  ```\n", "```python\n# not run\n```\n"],
)
def test_a_document_of_which_nothing_would_run_is_an_error(text: str, tmp_path: Path) -> None:
    with pytest.raises(docs_runner.DocumentError):
        docs_runner.run(write(tmp_path, text), "unused")
