"""Images from files."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Any

from onnx_numba.ir.loop import Tensor
from onnx_numba.ir.types import U8
from onnx_numba.ops.builder import Builder
from onnx_numba.ops.common import tensor_type
from onnx_numba.ops.registry import op

_CHANNELS = {"RGB": 3, "BGR": 3, "Grayscale": 1}


@op("ImageDecoder", since=20)
def image_decoder(b: Builder, stream: Tensor, *, pixel_format: str) -> Any:
    """The pixels ``[height, width, channels]`` of an encoded image; no pixels where it cannot be decoded. A step of Pillow."""
    if stream.rank != 1:
        b.fail(f"the encoded stream must have one axis, it has {stream.rank}")
    if pixel_format not in _CHANNELS:
        b.fail(f"pixel_format must be one of {', '.join(_CHANNELS)}, not {pixel_format!r}")
    if find_spec("PIL") is None:
        b.unsupported("images are decoded by Pillow, which is not installed; pip install 'onnx-numba[images]'")
    pixels = tensor_type(U8, (None, None, _CHANNELS[pixel_format]))
    return b.host("image_decoder", [stream], [pixels], pixel_format=pixel_format)
