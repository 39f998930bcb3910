"""Objects: what they need from outside, on every platform, and that they and their sources are the same in every process.

For the host every object is checked when it is loaded. For ``cpu="generic"`` a tenth of onnx's node tests run, another one every day of
the year; ``ONNX_NUMBA_GENERIC=all`` takes all of them, a number from 0 to 9 the tenth that it names.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from functools import cache
from pathlib import Path

import numpy as np
import onnx
import pytest
from node_cases import CASES, due, value
from onnx.backend.test.runner import Runner
from sample_models import SAMPLES, iris

from onnx_numba import backend
from onnx_numba.artefact import Artefact, all_kernels
from onnx_numba.compile.compiler import compile_module, symbol_of
from onnx_numba.compile.objects import ALLOWED, check_symbols, undefined_symbols
from onnx_numba.compile.store import Store
from onnx_numba.options import Options
from onnx_numba.pipeline import Build
from onnx_numba.prepare import PreparedModel
from onnx_numba.target import LEVELS, TARGETS, Target, host_target

MODELS = {"iris": iris, **{name: sample.model for name, sample in SAMPLES.items()}}
ELSEWHERE = {name: target for name, target in TARGETS.items() if target.triple != host_target().triple}

MEMORY = {"memcpy", "memmove", "memset", "bzero"}
"""What LLVM makes of loops that copy or fill."""


@cache
def artefact(name: str) -> Artefact:
    """A sample as it is for the host: with objects, taken from the tests' store where it has them."""
    return Build(host_target(), Store(), Options()).artefact(MODELS[name]())[0]


def kernels(made: Artefact) -> dict[str, str]:
    """Digest by function name, one name for each."""
    return {name: digest for digest, name in {kernel.digest: kernel.name for kernel in all_kernels(made.plan)}.items()}


@pytest.mark.parametrize("name", MODELS)
def test_host(name: str) -> None:
    made = artefact(name)
    assert set(made.objects) == set(kernels(made).values())
    for symbol, data in made.objects.values():
        check_symbols(data, host_target(), symbol)
        if host_target().lanes > 4:
            # Rounding and multiply-add are instructions here, and the functions are our own.
            assert undefined_symbols(data) <= MEMORY | {"fmod", "fmodf"}


@pytest.mark.parametrize("target", [Target.generic(), *ELSEWHERE.values()], ids=["generic", *ELSEWHERE])
@pytest.mark.parametrize("name", MODELS)
def test_elsewhere(name: str, target: Target) -> None:
    made = artefact(name)
    objects = compile_module(made.source, kernels(made), target, Store())
    assert set(objects) == set(made.objects)
    for digest, data in objects.items():
        check_symbols(data, target, symbol_of(digest))
        assert undefined_symbols(data) <= ALLOWED[target.system]


@pytest.mark.parametrize("level", ["x86-64-v3", "x86-64-v4"])
@pytest.mark.parametrize("name", ["half", "math16"])
def test_half_precision_where_only_conversions_are_instructions(name: str, level: str) -> None:
    """From and to float32, that is: from float64 it takes a function of the compiler's library."""
    target, made = Target(TARGETS["x86-64"].triple, level, LEVELS[level]), artefact(name)
    for digest, data in compile_module(made.source, kernels(made), target, Store()).items():
        check_symbols(data, target, symbol_of(digest))


@pytest.mark.parametrize("name", due("ONNX_NUMBA_GENERIC"))
def test_generic_code_runs(name: str) -> None:
    """The suite's kernels, those of constants and of segments included, without what this processor has more than others."""
    case = CASES[name]
    options = Options(cpu="generic")
    made, stats = Build(Target.generic(), Store(), options).artefact(case.model)
    for _, data in made.objects.values():
        assert undefined_symbols(data) <= ALLOWED[host_target().system]
    prepared = PreparedModel(made, options, stats)
    for inputs, outputs in case.data_sets:
        got = prepared.run([value(given) for given in inputs])
        Runner.assert_similar_outputs([value(given) for given in outputs], list(got), case.rtol, case.atol)


# From process to process

CHILD = """
import hashlib, json, sys
sys.path.insert(0, sys.argv[1])
from sample_models import SAMPLES
from onnx_numba.options import Options
from onnx_numba.pipeline import Build
from onnx_numba.prepare import PreparedModel
from onnx_numba.target import host_target
made = {}
for name in sys.argv[3:]:
    artefact, _ = Build(host_target(), None, Options(jit=sys.argv[2] == "jit")).artefact(SAMPLES[name].model())
    objects = {digest: hashlib.sha256(data).hexdigest() for digest, (_, data) in artefact.objects.items()}
    made[name] = [hashlib.sha256(artefact.source.encode()).hexdigest(), objects]
print(json.dumps(made))
"""


def _child(seed: str, how: str, names: list[str]) -> dict[str, list[object]]:
    """Digests of sources and objects as a process of its own makes them, with another order of hashes."""
    here = str(Path(__file__).resolve().parent)
    command = [sys.executable, "-c", CHILD, here, how, *names]
    done = subprocess.run(command, env={**os.environ, "PYTHONHASHSEED": seed}, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_sources_do_not_depend_on_the_order_of_hashes() -> None:
    names = list(SAMPLES)
    one, other = (_child(seed, "source", names) for seed in ("1", "2"))
    assert {name for name in names if one[name] != other[name]} == set()


def test_objects_are_the_same_bits_in_every_process() -> None:
    names = ["branches", "integers"]
    one, other = (_child(seed, "jit", list(order)) for seed, order in (("3", names), ("4", reversed(names))))
    assert one == other
    assert all(objects for _, objects in one.values())


WARM = """
import json, sys
from onnx_numba import backend
rep = backend.prepare(sys.argv[1])
import numpy as np
outputs = rep.run(list(np.load(sys.argv[2]).values()))
print(json.dumps([rep.stats, sorted({"onnx", "numba", "google"} & set(sys.modules)), [o.tobytes().hex() for o in outputs]]))
"""


@pytest.mark.parametrize("name", ["mlp", "branches", "scatter"])
def test_a_second_process_compiles_nothing(name: str, tmp_path: Path) -> None:
    sample = SAMPLES[name]
    path, given = tmp_path / "model.onnx", tmp_path / "in.npz"
    onnx.save(sample.model(), path)
    feed = sample.feed()
    np.savez(given, *feed)
    outputs = backend.prepare(path).run(feed)
    done = subprocess.run([sys.executable, "-c", WARM, str(path), str(given)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    stats, imported, results = json.loads(done.stdout)
    assert stats["cached"]
    assert stats["compiled"] == 0
    assert imported == []
    assert results == [output.tobytes().hex() for output in outputs]
