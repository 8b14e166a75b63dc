"""Runs the lines of a document, as a reader would copy them: what it shows works, or CI says which line does not.

    FOREBAY_ENDPOINT=http://127.0.0.1:PORT python docs_runner.py README.md

The blocks of a document are one script, in order. A ```python block runs in the names that the blocks before it
left; a ```console block runs the lines that begin with "$ " by bash, and the lines between are output, which must
come in that order ("..." stands for any number of lines). A block whose first line is "# not run" is left out, and
so is every other kind of block. Documents say 127.0.0.1:50051, the gateway's default; here it is the gateway of
FOREBAY_ENDPOINT.

Called by `run docs`; the parsing is tested by test_docs_runner.py.
"""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Dict, List, Optional, Tuple

DEFAULT_ADDRESS = "127.0.0.1:50051"
NOT_RUN = "# not run"
RUN_LANGUAGES = ("python", "console")


class DocumentError(Exception):
    """The document is not what it should be, or does not do what it shows."""


@dataclass(frozen=True)
class Block:
    language: str
    line: int
    """Of the block's first line of text, from 1."""
    text: str

    @property
    def runs(self) -> bool:
        return self.language in RUN_LANGUAGES and not self.text.startswith(NOT_RUN)


def parse(document: str) -> List[Block]:
    """The fenced blocks of a Markdown document, in order."""
    blocks: List[Block] = []
    language: Optional[str] = None
    start = 0
    lines: List[str] = []
    for number, line in enumerate(document.splitlines(), start=1):
        if language is None:
            if line.startswith("```"):
                language, start, lines = line[3:].strip(), number + 1, []
            elif line.lstrip().startswith("```"):
                # It would be left out silently.
                raise DocumentError(f"line {number}: a fence must begin its line")
        elif line.rstrip() == "```":
            blocks.append(Block(language, start, "\n".join(lines) + "\n"))
            language = None
        else:
            lines.append(line)
    if language is not None:
        raise DocumentError(f"line {start - 1}: the block does not end")
    return blocks


def commands_and_output(text: str) -> Tuple[List[str], List[str]]:
    """The commands of a console block, each with its continued lines, and the lines of output that it shows."""
    commands: List[str] = []
    output: List[str] = []
    continued = False
    for line in text.splitlines():
        if continued:
            commands[-1] += "\n" + line
        elif line.startswith("$ "):
            commands.append(line[2:])
        else:
            output.append(line)
            continue
        continued = line.endswith("\\")
    if not commands:
        raise DocumentError("a console block without a line that begins with `$ `")
    return commands, output


def missing_line(shown: List[str], printed: List[str]) -> Optional[str]:
    """The first line that a document shows and that was not printed after those that it shows before it; or None."""
    at = 0
    anything = True
    for line in shown:
        if line.strip() == "...":
            anything = True
            continue
        places = range(at, len(printed)) if anything else range(at, min(at + 1, len(printed)))
        found = next((i for i in places if printed[i].rstrip() == line.rstrip()), None)
        if found is None:
            return line
        at, anything = found + 1, False
    return None


def run_console(text: str) -> None:
    commands, shown = commands_and_output(text)
    # One shell for the block, so that what a line exports is there in the next.
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", "\n".join(commands)],
        stdout=subprocess.PIPE,
        stdin=subprocess.DEVNULL,
        text=True,
    )
    print(done.stdout, end="")
    if done.returncode != 0:
        raise DocumentError(f"exit code {done.returncode}")
    missing = missing_line(shown, done.stdout.splitlines())
    if missing is not None:
        raise DocumentError(f"the line was not printed where it is shown: {missing}")


def run_python(text: str, line: int, path: Path, names: Dict[str, Any]) -> None:
    # Empty lines before it: errors then name the document's own lines.
    exec(compile("\n" * (line - 1) + text, str(path), "exec"), names)


def run(path: Path, address: str) -> Tuple[int, int]:
    """Runs a document. Returns how many blocks ran, and how many that could have did not, as they say."""
    blocks = [block for block in parse(path.read_text()) if block.language in RUN_LANGUAGES]
    names: Dict[str, Any] = {"__name__": "__main__"}
    for block in blocks:
        if not block.runs:
            continue
        print(f"--- {path.name}:{block.line} ({block.language})", flush=True)
        text = block.text.replace(DEFAULT_ADDRESS, address)
        try:
            if block.language == "python":
                run_python(text, block.line, path, names)
            else:
                run_console(text)
        except DocumentError as error:
            raise DocumentError(f"{path}:{block.line}: {error}") from error
        sys.stdout.flush()
    ran = sum(block.runs for block in blocks)
    if ran == 0:
        raise DocumentError(f"{path}: no block of it runs")
    return ran, len(blocks) - ran


def main() -> None:
    path, endpoint = Path(sys.argv[1]), os.environ["FOREBAY_ENDPOINT"]
    try:
        ran, left_out = run(path, endpoint.split("://")[-1])
    except DocumentError as error:
        sys.exit(str(error))
    print(f"{path.name}: {ran} passed, 0 failed, {left_out} skipped")


if __name__ == "__main__":
    main()
