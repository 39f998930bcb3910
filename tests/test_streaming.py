"""Results too large for the caches: which loops say that theirs may be, and the stores that go around them."""

from __future__ import annotations

import re

import numpy as np
import pytest
from onnx import parser
from template_kernels import check_guards, guarded, run

from onnx_numba import backend
from onnx_numba.compile.bridge import define
from onnx_numba.compile.numba_internals import compile_each
from onnx_numba.ir.plan import AROUND
from onnx_numba.options import Options
from onnx_numba.pipeline import Build
from onnx_numba.target import LEVELS, TARGETS, Target, host_target, level

HEAD = '<ir_version: 9, opset_import: ["" : 20]>\n'
RANDOM = np.random.default_rng(11)
TYPES = {"u8": np.uint8, "i16": np.int16, "f16": np.float16, "f32": np.float32, "f64": np.float64, "i64": np.int64}
LARGE = AROUND // 4


def source(kind: str, value: str = "x[i]", then: str = "") -> str:
    """A kernel that writes ``value`` to the elements of its range, and then, in the same loop, more."""
    return f"""\
def kernel(ctx, bufs, dims, lo, hi):
    x = {kind}_p(bufs, 0)
    out = {kind}_p(bufs, 1)
    last = {kind}_p(bufs, 2)
    for i in range(lo, hi):
        streams()
        out[i] = {value}
        {then or 'pass'}
    return 0
"""


def able() -> list[Target]:
    """The levels of the architecture that run here, and this machine."""
    levels = [level(name) for name in LEVELS] if host_target().arch == "x86_64" else []
    return [*(target for target in levels if target.runs_on(host_target())), host_target()]


@pytest.mark.parametrize("target", able(), ids=lambda target: target.cpu)
@pytest.mark.parametrize("kind", TYPES)
def test_elements_at_any_place_are_what_they_are_through_the_caches(kind, target):
    element = TYPES[kind]
    bits = np.dtype(f"u{np.dtype(element).itemsize}")
    stored = {"f16": "u16"}.get(kind, kind)
    for offset, count in [(0, 1000), (1, 999), (3, 300), (0, 0), (5, 64), (8, 1), (16, 257)]:
        x = RANDOM.integers(0, 256, (count + offset) * bits.itemsize, dtype=np.uint8).view(bits)
        for then in ("", "last[i] = x[i]"):
            results = []
            for around in (0, 1):
                memory = np.full(2 * (count + offset) + 256, 123, bits)
                out, last = memory[64 : 64 + count + offset], memory[128 + count + offset : 128 + 2 * (count + offset)]
                run(source(stored, then=then), [x, out, last], [], [(offset, count + offset)], target=target, around=around)
                check_guards(memory)
                results.append(memory)
            np.testing.assert_array_equal(*results)
            np.testing.assert_array_equal(out[offset:], x[offset:])
            assert (out[:offset] == 123).all()


def assembly(text: str, target: Target) -> str:
    """The assembly of a kernel with a choice of stores."""
    import llvmlite.binding as llvm

    from onnx_numba.compile.llvm import KERNEL_SIGNATURE, isolate, optimise, target_machine, wrapper_text
    from onnx_numba.compile.numba_internals import compile_ir
    from onnx_numba.compile.streaming import with_streaming

    module, inner = compile_ir(define(text)["kernel"], KERNEL_SIGNATURE, target)
    made = llvm.parse_assembly(str(module) + wrapper_text("k", inner, KERNEL_SIGNATURE))
    isolate(made, "k")
    optimise(made, target)
    return target_machine(target).emit_assembly(with_streaming(made, "k", target))


@pytest.mark.parametrize("name", ["x86-64", "x86_64-windows"])
def test_vectors_can_go_either_way(name):
    text = assembly(source("f32", "x[i] + f32(1.0)"), TARGETS[name])
    assert 0 < text.count("movntps") <= text.count("movups")
    assert text.count("sfence") == 1


@pytest.mark.parametrize("kind", ["f16", "bf16"])
@pytest.mark.parametrize("more", ["", ",+avx512fp16", ",+avx512bf16"])
def test_vectors_of_small_floats_go_around_too(kind, more):
    target = Target(TARGETS["x86-64"].triple, "x86-64-v4", LEVELS["x86-64-v4"] + more)
    text = assembly(source(kind, f"to_{kind}(exp(from_{kind}(x[i])))"), target)
    assert re.search(r"vmovnt\w+\s+%[yz]mm", text), text


@pytest.mark.parametrize("target", [*(level(name) for name in LEVELS), host_target()], ids=lambda target: target.cpu)
@pytest.mark.skipif(host_target().arch != "x86_64", reason="the host has no stores that go around the caches")
def test_vectors_of_float16_that_fit_no_register_go_into_the_caches(target):
    """Numbers that lie side by side make one vector of three times as many."""
    lines = [f"out[3 * i + {k}] = to_f16(from_f16(x[3 * i + {2 - k}]) * f32({k + 2}))" for k in range(3)]
    text = source("f16", "x[i]").replace("out[i] = x[i]", lines[0]).replace("pass", "\n        ".join(["apart()", *lines[1:]]))
    assert assembly(text, target)


def test_two_vectors_of_four_are_decided_on_together():
    text = assembly(source("f32", "exp(x[i])").replace("streams()", "streams()\n        interleave(0)"), level_of("x86-64-v3"))
    assert re.search(r"(vmovntps[^\n]*\n\s*){4}", text), text


def level_of(name: str) -> Target:
    return Target(TARGETS["x86-64"].triple, name, LEVELS[name])


def test_there_is_no_choice_where_nothing_can_go_around():
    alone = source("f32", "x[i] if x[i] > 0 else last[i64(x[i])]", "if x[i] > 3:\n            last[i] = x[i]")
    assert "movnt" not in assembly(source("f32").replace("streams()", "pass"), TARGETS["x86-64"])
    assert "sfence" not in assembly(alone, TARGETS["x86-64"])
    assert "stnp" not in assembly(source("f32"), TARGETS["aarch64-linux"])


def fetching(value: str = "exp(x[i])") -> str:
    """A kernel that asks for what it will read."""
    return source("f32", value).replace("streams()", "fetches()")


@pytest.mark.parametrize("name", ["x86-64-v3", "x86-64-v4"])
def test_each_line_of_what_is_read_is_asked_for_once(name):
    text = assembly(fetching("x[i] * x[i] + f32(1.0)"), level_of(name))
    loop = max(text.split("LBB"), key=lambda block: block.count("prefetcht0"))
    registers = len(re.findall(r"\svmulps\s", loop))
    assert registers * level_of(name).lanes * 4 == 64 * loop.count("prefetcht0") > 0, loop
    assert "movnt" not in text


@pytest.mark.parametrize("cpu", ["znver4", "generic"])
def test_nothing_is_asked_for_where_it_does_not_pay(cpu):
    target = TARGETS["aarch64-linux"] if cpu == "generic" else Target(TARGETS["x86-64"].triple, cpu, LEVELS["x86-64-v4"])
    text = assembly(fetching(), target)
    assert "prefetch" not in text and "prfm" not in text


@pytest.mark.parametrize("target", able(), ids=lambda target: target.cpu)
@pytest.mark.parametrize("kind", ["f32", "u16", "i64"])
def test_what_asks_for_more_than_there_is_reads_what_there_is(kind, target):
    for offset, count in [(0, 1000), (1, 999), (5, 3), (0, 0)]:
        x = RANDOM.integers(0, 256, count + offset).astype({"u16": np.uint16}.get(kind) or TYPES[kind])
        out = np.zeros_like(x)
        run(source(kind).replace("streams()", "streams()\n        fetches()"), [x, out, out], [], [(offset, count + offset)], target=target)
        np.testing.assert_array_equal(out[offset:], x[offset:])


def generated(text: str, **options) -> str:
    return backend.prepare(parser.parse_model(HEAD + text), jit=False, **options).source


@pytest.mark.skipif(not host_target().streams, reason="the host has no stores that go around the caches")
@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("g (float[N] x) => (float[N] y) { y=Relu(x) }", True),
        (f"g (float[{LARGE}] x) => (float[{LARGE}] y) {{ y=Relu(x) }}", True),
        (f"g (float[{LARGE - 1}] x) => (float[{LARGE - 1}] y) {{ y=Relu(x) }}", False),
        ("g (float[N,M] x, float[M] s, float[M] b) => (float[N,M] y) { y=LayerNormalization(x,s,b) }", True),
        ("g (float[N,M] x) => (float[N] y) { a=Constant<value_ints=[1]>() y=ReduceSum<keepdims=0>(x,a) }", False),
        ("g (float[N,M] x) => (float[N,M] y) { y=Softmax(x) }", False),  # exponentials wait where the result will be
        ("g (float[N,200] x) => (float[N,200] y) { y=Softmax(x) }", True),  # or elsewhere
        ("g (float[9,100] x) => (float[9,100] y) { y=Softmax(x) }", False),
        ("g (float[N,M] x, float[M] s) => (float[M,N] y, float[M,N] z) { y=Transpose<perm=[1,0]>(x) z=Relu(y) }", True),  # both ways
        ("g (float[N,M,8] x) => (float[M,N,8] y) { t=Transpose<perm=[1,0,2]>(x) y=Relu(t) }", True),
    ],
)
def test_loops_say_so_where_results_may_be_large_and_nothing_waits_in_them(text, says):
    assert ("streams()" in generated(text)) == says


MEGABYTE = 1 << 18


@pytest.mark.skipif(not host_target().fetches, reason="the host's processor reads ahead of itself")
@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("g (float[N] x) => (float[N] y) { y=Exp(x) }", True),
        (f"g (float[{MEGABYTE}] x) => (float[{MEGABYTE}] y) {{ y=Exp(x) }}", True),
        (f"g (float[{MEGABYTE - 1}] x) => (float[{MEGABYTE - 1}] y) {{ y=Exp(x) }}", False),
        ("g (float16[N] x) => (float16[N] y) { y=Exp(x) }", True),
        ("g (float[N,M] x, float[M] s, float[M] b) => (float[N,M] y) { y=LayerNormalization(x,s,b) }", True),
        ("g (float[N,200] x) => (float[N,200] y) { y=Softmax(x) }", False),  # its last loop reads what waits in an array of its own
        ("g (float[N] x, int64[M] i) => (float[M] y) { y=Gather(x,i) }", True),  # the indices
        ("g (float[N,M] x) => (float[M,N] y) { t=Transpose(x) y=Relu(t) }", False),
    ],
)
def test_loops_say_so_that_read_more_than_caches_may_hold(text, says):
    assert ("fetches()" in generated(text)) == says


def test_processors_that_need_no_telling_are_told_nothing():
    model = parser.parse_model(HEAD + "g (float[N] x) => (float[N] y) { y=Relu(x) }")
    artefact, _ = Build(TARGETS["aarch64-linux"], None, Options(cache=False)).artefact(model)
    assert "streams()" not in artefact.source and "fetches()" not in artefact.source


@pytest.mark.parametrize("columns", [1024, 1001])
def test_large_results_are_the_same_whatever_the_threads(columns):
    rows = AROUND // 4 // columns + 3
    text = """g (float[N,M] x, float[N,M] r, float[M] s) => (float[N,M] y, float[N,M] z, float[M,N] t)
        { z=Add(x,r) n=LayerNormalization(z,s) t=Transpose(x) y=Relu(n) }"""
    x, r = RANDOM.standard_normal((2, rows, columns)).astype(np.float32)
    s = RANDOM.standard_normal(columns).astype(np.float32)
    one, two = (backend.prepare(parser.parse_model(HEAD + text), num_threads=threads).run([x, r, s]) for threads in (1, 2))
    for a, b in zip(one, two, strict=True):
        np.testing.assert_array_equal(a, b)
    np.testing.assert_array_equal(one[1], x + r)
    np.testing.assert_array_equal(one[2], x.T)
    wide = (x + r).astype(np.float64)
    norm = (wide - wide.mean(1, keepdims=True)) / np.sqrt(wide.var(1, keepdims=True) + 1e-5)
    np.testing.assert_allclose(one[0], np.maximum(norm * s, 0), rtol=1e-4, atol=1e-5)


COPIES = """\
def kernel(ctx, bufs, dims, lo, hi):
    for p in range(lo, hi):
        {call}
    settle()
    return 0
"""


@pytest.mark.parametrize("python", [False, True], ids=["compiled", "python"])
@pytest.mark.parametrize("call", ["copy_around({size}, {to}, {source}, dims[2])", "move_around(ctx, {size}, {to}, {source}, dims[2])"])
@pytest.mark.parametrize("kind", TYPES)
def test_copies_from_anywhere_to_anywhere(kind, call, python):
    element = np.dtype({"f16": "u2"}.get(kind, TYPES[kind]))
    stored = {"f16": "u16"}.get(kind, kind)
    source, to = (f"{stored}_at({stored}_p(bufs, {k}), dims[{1 - k}])" for k in range(2))
    names = {"size": element.itemsize, "to": to, "source": source}
    for to, start, count in [(0, 0, 0), (1, 5, 1), (0, 0, 64), (3, 1, 64), (32, 0, 512), (7, 3, 700), (0, 9, 20_000), (5, 0, 20_001)]:
        x = RANDOM.integers(0, 100, count + start).astype(element)
        memory, out = guarded(count + to + 9, element)
        out[:] = 7
        run(COPIES.format(call=call.format(**names)), [x, out], [to, start, count], [(0, 1)], python=python, around=1)
        np.testing.assert_array_equal(out[to : to + count], x[start:])
        assert (out[:to] == 7).all() and (out[to + count :] == 7).all()
        check_guards(memory)


@pytest.mark.parametrize("target", ["aarch64-linux", "arm64-macos", "x86_64-windows"])
def test_copies_are_emitted_for_other_targets(target):
    names = {"size": 4, "to": "f32_p(bufs, 1)", "source": "f32_p(bufs, 0)"}
    text = COPIES.format(call="move_around(ctx, {size}, {to}, {source}, dims[2])".format(**names))
    assert dict(compile_each(text, ["kernel"], {"kernel": "kernel_for_others"}, TARGETS[target]))["kernel"]


@pytest.mark.parametrize("known", [False, True])
@pytest.mark.parametrize("columns", [2048, 1023])
def test_large_copies(columns, known):
    rows = AROUND // 4 // columns + 5
    dims = {"N": rows, "M": columns} if known else {"N": "N", "M": "M"}
    text = """g (float[{N},{M}] x, int64[K] i) => (float[A,B] c, float[C,D] r, float[K,{M}] g, float[E,F] s) <
        int64[2] first = {{1, 0}}, int64[2] last = {{9999999, 9999999}}> {{
        c=Concat<axis=1>(x,x) r=Concat<axis=0>(x,x) g=Gather(x,i) s=Slice(x,first,last) }}""".format(**dims)
    x, i = RANDOM.standard_normal((rows, columns)).astype(np.float32), RANDOM.permutation(rows)
    for threads in (1, 3):
        c, r, g, s = backend.prepare(parser.parse_model(HEAD + text), num_threads=threads).run([x, i])
        np.testing.assert_array_equal(c, np.concatenate([x, x], 1))
        np.testing.assert_array_equal(r, np.concatenate([x, x], 0))
        np.testing.assert_array_equal(g, x[i])
        np.testing.assert_array_equal(s, x[1:])
