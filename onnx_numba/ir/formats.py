"""The floating formats of 16 bits and fewer: what their bits mean, from which all their conversions follow.

Sources: IEEE 754 (float16), the OCP 8-bit Floating Point and Microscaling Formats specifications, ONNX's pages on float8 and float4.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from onnx_numba.record import record


@record
class Format:
    """A sign (but for scales), an exponent and a fraction, from the highest bit down.

    Attributes
    ----------
    exponent, fraction : int
        How many bits each has.
    bias : int
        What the exponent's bits are above the exponent.
    special : str
        What is not a finite number: ``ieee``, infinities and NaN in the greatest exponent; ``fn``, NaN where all bits but the sign
        are ones; ``fnuz``, NaN in place of -0; ``finite``, nothing; ``scale``, powers of two without zero or sign, NaN where all
        bits are ones.
    """

    exponent: int
    fraction: int
    bias: int
    special: str

    @property
    def is_scale(self) -> bool:
        """Whether it has powers of two only."""
        return self.special == "scale"

    @property
    def sign(self) -> int:
        """The bit of the sign, 0 if there is none."""
        return 0 if self.is_scale else 1 << (self.exponent + self.fraction)

    @property
    def magnitude(self) -> int:
        """All bits but the sign."""
        return (1 << (self.exponent + self.fraction)) - 1

    @property
    def top(self) -> int:
        """The bits of the greatest finite number."""
        unused = {"ieee": 1 << self.fraction, "fn": 1, "scale": 1}
        return self.magnitude - unused.get(self.special, 0)

    @property
    def overflow(self) -> int:
        """The bits, but for the sign, of what is beyond the greatest number: infinity, NaN, or that number."""
        return {"fnuz": self.sign, "finite": self.top}.get(self.special, self.top + 1)

    @property
    def nan(self) -> int:
        """The bits of NaN; 0 in a format without, as the standard's tests have it (its page on float4 says the greatest number)."""
        quiet = self.top + 1 + (1 << (self.fraction - 1)) if self.special == "ieee" else self.magnitude
        return {"fnuz": self.sign, "finite": 0}.get(self.special, quiet)

    @property
    def greatest(self) -> float:
        """The greatest finite number."""
        exponent, fraction = self.top >> self.fraction, self.top & ((1 << self.fraction) - 1)
        return float(2.0 ** (exponent - self.bias - self.fraction) * ((1 << self.fraction) + fraction))

    @property
    def lowest(self) -> float:
        """The number furthest below."""
        return 2.0**-self.bias if self.is_scale else -self.greatest


FORMATS: Mapping[str, Format] = MappingProxyType({
    "f16": Format(5, 10, 15, "ieee"),
    "bf16": Format(8, 7, 127, "ieee"),
    "f8e4m3fn": Format(4, 3, 7, "fn"),
    "f8e4m3fnuz": Format(4, 3, 8, "fnuz"),
    "f8e5m2": Format(5, 2, 15, "ieee"),
    "f8e5m2fnuz": Format(5, 2, 16, "fnuz"),
    "f8e8m0": Format(8, 0, 127, "scale"),
    "f6e2m3": Format(2, 3, 1, "finite"),
    "f6e3m2": Format(3, 2, 3, "finite"),
    "f4e2m1": Format(2, 1, 1, "finite"),
})  # fmt: skip
"""By the name of the element type."""
