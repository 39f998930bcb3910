"""Images decoded by Pillow, which is imported when a step first runs."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]


def image_decoder(params: Mapping[str, Any], stream: Array) -> tuple[Array]:
    """Pixels, channels last; what cannot be decoded gives an image of no pixels, as the standard demands."""
    from PIL import Image

    mode = "L" if params["pixel_format"] == "Grayscale" else "RGB"
    try:
        with Image.open(io.BytesIO(stream.tobytes())) as image:
            pixels = np.asarray(image.convert(mode))
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):  # whatever Pillow's readers raise on broken files
        pixels = np.empty((0, 0) if mode == "L" else (0, 0, 3), np.uint8)
    if mode == "L":
        pixels = pixels[:, :, None]
    return (np.ascontiguousarray(pixels[:, :, ::-1] if params["pixel_format"] == "BGR" else pixels),)


HOSTS: Mapping[str, Callable[..., tuple[Any, ...]]] = {"image_decoder": image_decoder}
