"""A tenth of many cases, another one every day of the year, for tests that would take too long over all of them."""

from __future__ import annotations

import os
import time
import zlib

PARTS = 10


def part(variable: str) -> str:
    """The part that is due: today's, or what an environment variable says, a number from 0 to 9 or ``all``."""
    return os.environ.get(variable) or str(time.gmtime().tm_yday % PARTS)


def belongs(name: str, part: str) -> bool:
    """Whether a case is of a part."""
    return part == "all" or zlib.crc32(name.encode()) % PARTS == int(part)
