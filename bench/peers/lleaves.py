"""lleaves: LightGBM's trees as LLVM code, compiled once per model.

Version 1.3 compiles with a pass manager that llvmlite has had no more since 0.45 (github.com/siboehm/lleaves/pull/97), and numba needs a
newer one. So another Python compiles, that which ``LLEAVES_PYTHON`` names; the object file that it leaves is loaded and called here, by
lleaves' own ``predict``.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from bench import peers
from bench.peers import treelite

MODULES = ("lleaves",)
_PYTHON = "LLEAVES_PYTHON"
_COMPILE = "import sys, lleaves; lleaves.Model(sys.argv[1]).compile(cache=sys.argv[2])"
MOST_LEAVES = 40_000
"""Of a whole ensemble: 63,000 take more than four minutes to compile."""


def applies(folder: Path) -> bool:
    return peers.has_source(folder, "lightgbm")


class _Runner(peers.OneOutput):
    def bind(self, feed: dict[str, Any]) -> Callable[[], Any]:
        """On doubles, which are all that it computes with: others it converts at every call."""
        return super().bind({name: np.ascontiguousarray(array, np.float64) for name, array in feed.items()})


def load(folder: Path, threads: int) -> peers.OneOutput:
    source, code = peers.source(folder, "lightgbm"), folder / "lleaves.o"
    text = folder / "lightgbm.txt"
    if not code.exists():
        if _PYTHON not in os.environ:
            raise ValueError(f"{_PYTHON} names no Python with lleaves and llvmlite before 0.45")
        treelite.check_size(folder, MOST_LEAVES)
        source.what.save_model(text)
        subprocess.run([os.environ[_PYTHON], "-c", _COMPILE, text, code], check=True, capture_output=True)
    return _Runner(partial(_loaded(text, code).predict, n_jobs=threads), source.output)


def _loaded(text: Path, code: Path) -> Any:
    """What ``lleaves.Model.compile`` makes of a cached object file, without the passes that this llvmlite has no more."""
    import llvmlite.binding as llvm
    from lleaves import Model
    from lleaves.lleaves import get_entry_func_type

    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    machine = llvm.Target.from_default_triple().create_target_machine(reloc="pic", codemodel="large")
    engine = llvm.create_mcjit_compiler(llvm.parse_assembly(""), machine)
    engine.add_object_file(str(code))
    engine.finalize_object()
    model = Model(str(text))
    model._execution_engine = engine
    model._c_entry_func = get_entry_func_type(model.use_fp64)(engine.get_function_address("forest_root"))
    model.is_compiled = True
    return model
