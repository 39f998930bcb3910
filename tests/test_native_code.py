"""What the compiler makes of the names: vectors on this machine, and nothing but the C library's names undefined anywhere."""

from __future__ import annotations

import re

import pytest
from native_loops import Loop, compile_loops, loop

from onnx_numba.compile.bridge import define
from onnx_numba.compile.llvm import KERNEL_SIGNATURE, isolate, optimise
from onnx_numba.compile.numba_internals import compile_ir
from onnx_numba.compile.objects import ALLOWED, undefined_symbols
from onnx_numba.ir.types import DTYPES
from onnx_numba.native import RECORDS
from onnx_numba.target import TARGETS, Target

FUNCTIONS = (
    "exp", "exp2", "expm1", "sinh", "cosh", "tanh", "sigmoid", "log", "log1p", "softplus", "asinh", "acosh", "atanh",
    "sin", "cos", "tan", "asin", "acos", "atan", "erf",
)  # fmt: skip
SMALL = {name: dtype.compute for name, dtype in DTYPES.items() if dtype.stored != name}
SMALL_FLOATS = [name for name, compute in SMALL.items() if compute == "f32"]
AVX512 = Target(TARGETS["x86-64"].triple, "x86-64-v4")

REDUCTIONS = {
    "sum": "acc_add(s, a[i])", "product": "acc_mul(s, a[i])", "greatest": "max_(s, a[i])", "least": "min_(s, a[i])",
}  # fmt: skip
ELEMENTWISE: dict[str, Loop] = {
    **{f"{name}_{t}": loop(f"x[i] = {name}(a[i])", a=t, x=t) for name in FUNCTIONS for t in ("f32", "f64")},
    **{f"pow_{t}": loop("x[i] = pow_(a[i], b[i])", a=t, b=t, x=t) for t in ("f32", "f64")},
    **{f"cast_{t}": loop(f"x[i] = {t}(a[i])", a="f32", x=t) for t in ("i8", "i32", "i64", "u8", "u32", "u64", "f64")},
    "greater": loop("x[i] = max_(a[i], b[i])", a="f32", b="f32", x="f32"),
    "select": loop("x[i] = select(a[i] < b[i], a[i] * b[i], b[i])", a="f32", b="f32", x="f32"),
    "fma": loop("x[i] = fma(a[i], b[i], a[i])", a="f32", b="f32", x="f32"),
    "rint": loop("x[i] = rint(a[i])", a="f32", x="f32"),
    "round_f16": loop("x[i] = round_f16(a[i])", a="f32", x="f32"),
    "flags": loop("x[i] = (a[i] > f32(0.0)) & b[i]", a="f32", b="bool", x="bool"),
    "flagged": loop("x[i] = select(b[i], a[i], f32(0.0))", a="f32", b="bool", x="f32"),
    "shift": loop("x[i] = shr(a[i], b[i])", a="i32", b="i32", x="i32"),
    **{f"{kind}_{wide}": loop(f"x[i] = to_{kind}(a[i])", a=wide, x=kind) for kind in SMALL_FLOATS for wide in ("f32", "f64")},
    **{f"from_{kind}": loop(f"x[i] = from_{kind}(a[i])", a=kind, x=compute) for kind, compute in SMALL.items()},
    **{f"round_{name}": loop(f"x[i] = round_{name}(a[i])", a="f32", x="f32") for name in ("f8e8m0_up", "f8e8m0_down")},
    **{f"{kind}_{t}": loop(f"x[i] = to_{kind}({SMALL[kind]}(a[i]))", a=t, x=kind) for kind in ("i4", "u2") for t in ("f32", "i64")},
    **{f"odd_{kind}": loop("x[i] = odd_f64(a[i])", a=kind, x="f64") for kind in ("i64", "u64")},
}  # fmt: skip
SCALAR_ONLY = {
    "fmod": loop("x[i] = mod_(a[i], b[i])", a="f32", b="f32", x="f32"),
    "division": loop("x[i] = floordiv(a[i], b[i]) + imod(a[i], b[i])", a="i64", b="i64", x="i64"),
    "power": loop("x[i] = ipow(a[i], b[i])", a="i32", b="i32", x="i32"),
    "floor": loop("x[i] = floor(a[i]) + ceil(a[i]) + trunc(a[i]) + sqrt(a[i])", a="f64", x="f64"),
}


def ir_of(source: str, target: Target) -> str:
    """The optimised IR of a kernel."""
    import llvmlite.binding as llvm

    module, inner = compile_ir(define(source)["kernel"], KERNEL_SIGNATURE, target)
    module = llvm.parse_assembly(str(module))
    isolate(module, inner)
    optimise(module, target)
    return str(module)


def widest(text: str) -> int:
    """Bytes of the widest vector that is stored or computed."""
    sizes = {"float": 4, "double": 8, "i8": 1, "i16": 2, "i32": 4, "i64": 8}
    return max((int(n) * sizes[t] for n, t in re.findall(r"<(\d+) x (float|double|i8|i16|i32|i64)>", text)), default=0)


@pytest.mark.parametrize("name", ELEMENTWISE)
def test_loops_become_vectors(name):
    text = ir_of(ELEMENTWISE[name].source("k").replace("loop_k", "kernel"), AVX512)
    assert widest(text) >= 16
    assert "vector.body" in text


@pytest.mark.parametrize("name", REDUCTIONS)
def test_reductions_become_vectors(name):
    source = f"""
def kernel(ctx, bufs, dims, lo, hi):
    a = f32_p(bufs, 0)
    s = f32(1.0)
    for i in range(lo, hi):
        s = {REDUCTIONS[name]}
    f32_p(bufs, 1)[0] = s
    return 0
"""
    assert "llvm.vector.reduce" in ir_of(source, AVX512)


@pytest.mark.parametrize("target", TARGETS.values(), ids=list(TARGETS))
def test_nothing_but_the_c_library_is_needed(target):
    for name, data in compile_loops(ELEMENTWISE | SCALAR_ONLY, target).items():
        assert undefined_symbols(data) <= ALLOWED[target.system], name


def test_functions_are_covered():
    assert set(FUNCTIONS) < set(RECORDS)


def test_loops_written_by_hand_stay_as_they_are():
    source = """\
def kernel(ctx, bufs, dims, lo, hi):
    a, b, c = f32_p(bufs, 0), f32_p(bufs, 1), f32_p(bufs, 2)
    gemm_tile(6, 2, 16, 1, 1, dims[0], a, 1, 6, b, 0, 32, c, dims[1], dims[2], dims[3], dims[4])
    return 0
"""
    text = ir_of(source, AVX512)
    assert text.count("call <16 x float> @llvm.fma") == 12
    assert "vector.body" not in text
