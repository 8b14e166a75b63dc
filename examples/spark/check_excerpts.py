"""Whether the code that a document shows is in the scripts: each block of Python must be, line for line.

    python check_excerpts.py DOCUMENT SCRIPT...

Exit code 1 where one is not. Called by `run`.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path


def main() -> int:
    document = Path(sys.argv[1])
    scripts = [Path(name).read_text(encoding="utf-8") for name in sys.argv[2:]]
    blocks = re.findall(r"^```python\n(.*?)^```$", document.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)
    if not blocks or not scripts:
        print(f"{document}: expected blocks of Python, and scripts to compare them with", file=sys.stderr)
        return 1
    missing = [block for block in blocks if not any(block in script for script in scripts)]
    for block in missing:
        print(f"{document}: this code is in no script any more:\n{block}", file=sys.stderr)
    return 1 if missing else 0


if __name__ == "__main__":
    sys.exit(main())
