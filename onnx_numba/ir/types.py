"""Element types and value types, free of onnx and numba so that a warm process can load them.

A *storage* type says how an element lies in memory, a *compute* type what scalar expressions of it are made of: floats of 16
bits and fewer are computed as float32, integers of 4 and 2 bits as those of 8. Elements of less than a byte have one each.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from onnx_numba.record import record

if TYPE_CHECKING:
    from onnx_numba.ir.dims import Dim


@record
class DType:
    """One element type.

    Attributes
    ----------
    name : str
        Short name used in generated source: ``f32``, ``i64``, ``bool`` …
    onnx : int
        ``TensorProto.DataType`` number.
    onnx_name : str
        The name in ONNX type strings, as in ``tensor(float)``.
    kind : str
        ``b`` bool, ``i`` signed, ``u`` unsigned, ``f`` floating, ``c`` complex, ``s`` string.
    bits : int
        Bits that an element has; 0 for strings, which are Python objects.
    compute : str
        Name of the type that scalar expressions over it have.
    """

    name: str
    onnx: int
    onnx_name: str
    kind: str
    bits: int
    compute: str

    def __reduce__(self) -> tuple[Any, ...]:
        """A type out of the store is the one that this process has: types are compared by identity."""
        return _named, (self.name,)

    @property
    def numpy(self) -> np.dtype[Any]:
        """The NumPy dtype of arrays handed to and from users."""
        if self.name in _ML_DTYPES:
            import ml_dtypes

            return np.dtype(getattr(ml_dtypes, _ML_DTYPES[self.name]))
        return np.dtype(_NUMPY[self.name])

    @property
    def package(self) -> str:
        """The package that has its NumPy dtype, by its usual name."""
        return "ml_dtypes" if self.name in _ML_DTYPES else "np"

    @property
    def size(self) -> int:
        """Bytes per element in memory."""
        return (self.bits + 7) // 8

    @property
    def stored(self) -> str:
        """Name of the type that kernels read from memory and write there: what is not computed as it is stored, is bits to them."""
        return self.name if self.compute == self.name else f"u{8 * self.size}"

    @property
    def limits(self) -> tuple[int, int]:
        """The least and the greatest value of an integer type."""
        return (-(1 << self.bits - 1), (1 << self.bits - 1) - 1) if self.kind == "i" else (0, (1 << self.bits) - 1)

    @property
    def is_float(self) -> bool:
        """Whether it is a real floating type."""
        return self.kind == "f"

    @property
    def is_int(self) -> bool:
        """Whether it is a signed or unsigned integer."""
        return self.kind in "iu"

    def __repr__(self) -> str:
        return self.name


_ML_DTYPES = {
    "bf16": "bfloat16", "f8e4m3fn": "float8_e4m3fn", "f8e4m3fnuz": "float8_e4m3fnuz", "f8e5m2": "float8_e5m2",
    "f8e5m2fnuz": "float8_e5m2fnuz", "f8e8m0": "float8_e8m0fnu", "f6e2m3": "float6_e2m3fn", "f6e3m2": "float6_e3m2fn",
    "f4e2m1": "float4_e2m1fn", "i4": "int4", "u4": "uint4", "i2": "int2", "u2": "uint2",
}  # fmt: skip
_NUMPY = {
    "bool": "?", "i8": "i1", "i16": "i2", "i32": "i4", "i64": "i8", "u8": "u1", "u16": "u2", "u32": "u4", "u64": "u8",
    "f16": "f2", "f32": "f4", "f64": "f8", "c64": "c8", "c128": "c16", "string": "O",
}  # fmt: skip


def _named(name: str) -> DType:
    return DTYPES[name]


DTYPES: dict[str, DType] = {
    name: DType(name, onnx, onnx_name, kind, bits, compute)
    for name, onnx, onnx_name, kind, bits, compute in [
        ("f32", 1, "float", "f", 32, "f32"),
        ("u8", 2, "uint8", "u", 8, "u8"),
        ("i8", 3, "int8", "i", 8, "i8"),
        ("u16", 4, "uint16", "u", 16, "u16"),
        ("i16", 5, "int16", "i", 16, "i16"),
        ("i32", 6, "int32", "i", 32, "i32"),
        ("i64", 7, "int64", "i", 64, "i64"),
        ("string", 8, "string", "s", 0, "string"),
        ("bool", 9, "bool", "b", 8, "bool"),
        ("f16", 10, "float16", "f", 16, "f32"),
        ("f64", 11, "double", "f", 64, "f64"),
        ("u32", 12, "uint32", "u", 32, "u32"),
        ("u64", 13, "uint64", "u", 64, "u64"),
        ("c64", 14, "complex64", "c", 64, "c64"),
        ("c128", 15, "complex128", "c", 128, "c128"),
        ("bf16", 16, "bfloat16", "f", 16, "f32"),
        ("f8e4m3fn", 17, "float8e4m3fn", "f", 8, "f32"),
        ("f8e4m3fnuz", 18, "float8e4m3fnuz", "f", 8, "f32"),
        ("f8e5m2", 19, "float8e5m2", "f", 8, "f32"),
        ("f8e5m2fnuz", 20, "float8e5m2fnuz", "f", 8, "f32"),
        ("u4", 21, "uint4", "u", 4, "u8"),
        ("i4", 22, "int4", "i", 4, "i8"),
        ("f4e2m1", 23, "float4e2m1", "f", 4, "f32"),
        ("f8e8m0", 24, "float8e8m0", "f", 8, "f32"),
        ("u2", 25, "uint2", "u", 2, "u8"),
        ("i2", 26, "int2", "i", 2, "i8"),
        ("f6e2m3", 27, "float6e2m3", "f", 6, "f32"),
        ("f6e3m2", 28, "float6e3m2", "f", 6, "f32"),
    ]
}
BY_ONNX: dict[int, DType] = {t.onnx: t for t in DTYPES.values()}
BY_ONNX_NAME: dict[str, DType] = {t.onnx_name: t for t in DTYPES.values()}

BOOL, I8, I16, I32, I64 = (DTYPES[n] for n in ("bool", "i8", "i16", "i32", "i64"))
C64, C128 = DTYPES["c64"], DTYPES["c128"]
U8, U16, U32, U64 = (DTYPES[n] for n in ("u8", "u16", "u32", "u64"))
F16, BF16, F32, F64, STRING = (DTYPES[n] for n in ("f16", "bf16", "f32", "f64", "string"))


def dtype_of(array_dtype: np.dtype[Any]) -> DType | None:
    """The element type of a NumPy dtype in native byte order, or None when ONNX has none for it."""
    if array_dtype.kind in "OUST":
        return STRING
    for dtype in DTYPES.values():
        if dtype.kind != "s" and array_dtype == dtype.numpy:
            return dtype
    return None


Extent: TypeAlias = "Dim | int | str | None"
"""An extent of a type: a number, one that the run knows, a name, or nothing."""


@record
class TensorType:
    """A tensor: element type and shape; ``shape`` is None while even the rank is unknown."""

    dtype: DType
    shape: tuple[Extent, ...] | None = None

    def __str__(self) -> str:
        shape = "?" if self.shape is None else "×".join(map(str, self.shape)) or "scalar"
        return f"tensor({self.dtype.onnx_name}) {shape}"


@record
class SequenceType:
    """A sequence of values of one type."""

    element: ValueType

    def __str__(self) -> str:
        return f"seq({self.element})"


@record
class OptionalType:
    """A value that may be absent."""

    element: ValueType

    def __str__(self) -> str:
        return f"optional({self.element})"


@record
class MapType:
    """A map from keys of one element type to values."""

    key: DType
    value: ValueType

    def __str__(self) -> str:
        return f"map({self.key.onnx_name}, {self.value})"


ValueType = TensorType | SequenceType | OptionalType | MapType


def alike(one: ValueType, other: ValueType) -> bool:
    """Whether two types are equal but for the shapes of tensors, and for what may be absent in one of them."""
    one, other = (kind.element if isinstance(kind, OptionalType) else kind for kind in (one, other))
    if isinstance(one, TensorType) and isinstance(other, TensorType):
        return one.dtype is other.dtype
    if isinstance(one, MapType) and isinstance(other, MapType):
        return one.key is other.key and alike(one.value, other.value)
    return isinstance(one, SequenceType) and isinstance(other, SequenceType) and alike(one.element, other.element)
