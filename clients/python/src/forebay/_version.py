"""The package's version: that of its distribution, and of the user agent. Callers: `__init__`, `_channel`."""

from __future__ import annotations

__version__ = "0.1.0"
