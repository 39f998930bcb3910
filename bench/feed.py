"""A case's inputs in a folder, where the processes that run it find them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np


def read_feed(folder: Path, name: str = "feed.npz") -> dict[str, Any]:
    """The inputs that the parent wrote."""
    with np.load(folder / name) as archive:
        return {name: array.astype(object) if array.dtype.kind == "U" else array for name, array in archive.items()}
