"""ImageDecoder beyond onnx's own tests: modes of files, broken files, the missing library."""

from __future__ import annotations

import io
import sys

import numpy as np
import pytest
from onnx import parser
from PIL import Image

from onnx_numba import backend, errors

rng = np.random.default_rng(7)
PIXELS = rng.integers(0, 256, (5, 4, 3), np.uint8)


def decoder(pixel_format: str = "RGB"):
    return backend.prepare(parser.parse_model(f"""
        <ir_version: 10, opset_import: ["" : 20]>
        decode (uint8[n] x) => (uint8[h, w, c] y) {{ y = ImageDecoder<pixel_format = "{pixel_format}">(x) }}"""))


def encoded(image: Image.Image, kind: str = "png") -> np.ndarray:
    stream = io.BytesIO()
    image.save(stream, kind)
    return np.frombuffer(stream.getvalue(), np.uint8)


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "L", "P", "1"])
def test_every_mode_of_a_file_gives_the_format_asked_for(mode: str) -> None:
    image = Image.fromarray(PIXELS).convert(mode)
    wanted = np.asarray(image.convert("RGB"))
    np.testing.assert_array_equal(decoder().run(encoded(image)).y, wanted)
    np.testing.assert_array_equal(decoder("BGR").run(encoded(image)).y, wanted[:, :, ::-1])
    np.testing.assert_array_equal(decoder("Grayscale").run(encoded(image)).y, np.asarray(image.convert("L"))[:, :, None])


@pytest.mark.parametrize(("pixel_format", "channels"), [("RGB", 3), ("BGR", 3), ("Grayscale", 1)])
@pytest.mark.parametrize("size", [0, 10, 40])
def test_what_cannot_be_decoded_gives_no_pixels(pixel_format: str, channels: int, size: int) -> None:
    got = decoder(pixel_format).run(encoded(Image.fromarray(PIXELS))[:size]).y
    assert (got.dtype, got.shape) == (np.uint8, (0, 0, channels))


def test_other_formats_are_refused() -> None:
    with pytest.raises(errors.ModelError, match=r"ImageDecoder.*pixel_format.*RGB, BGR, Grayscale.*'CMYK'"):
        decoder("CMYK")


def test_a_missing_library_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "PIL", None)
    with pytest.raises(errors.UnsupportedError, match=r"ImageDecoder.*Pillow.*onnx-numba\[images\]"):
        backend.prepare(parser.parse_model("""
            <ir_version: 10, opset_import: ["" : 20]>
            missing (uint8[n] stream) => (uint8[h, w, c] y) { y = ImageDecoder(stream) }"""))
