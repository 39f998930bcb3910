"""A progress bar, on terminals only."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import TextIO

_WIDTH = 30


def bar(stream: TextIO | None = None, unit: str = "kernels") -> Callable[[int, int], None] | None:
    """A function to call as ``f(done, total)``, or None where nobody watches.

    Parameters
    ----------
    stream : file, optional
        Where to draw, stderr by default.
    unit : str
        What is counted.
    """
    out = sys.stderr if stream is None else stream
    if not out.isatty():
        return None

    def draw(done: int, total: int) -> None:
        filled = _WIDTH * done // max(total, 1)
        # \x1b[K clears what a longer line left behind.
        line = "" if done >= total else f"[{'█' * filled}{'·' * (_WIDTH - filled)}] {done}/{total} {unit}"
        out.write(f"\r{line}\x1b[K")
        out.flush()

    return draw
