"""Templates as kernels: what their constants leave out is not in the source that people read."""

from __future__ import annotations

import textwrap

import numpy as np
import pytest
from onnx import helper

from onnx_numba import backend
from onnx_numba.codegen.template import _decided

CASES = {
    "taken": ("if True:\n    # why\n    a = 1\nelse:\n    a = 2\nb = 3", "# why\na = 1\nb = 3"),
    "else": ("if not True:\n    a = 1\nelse:\n    a = 2\n    b = 3", "a = 2\nb = 3"),
    "dropped": ("a = 1\nif False and b:\n    a = 2\nb = 3", "a = 1\nb = 3"),
    "alone": ("for k in range(3):\n    if False:\n        a = 1", "for k in range(3):\n    pass"),
    "chain begins": ("if False:\n    a = 1\nelif b:\n    a = 2\nelse:\n    a = 3", "if b:\n    a = 2\nelse:\n    a = 3"),
    "chain ends": ("if b:\n    a = 1\nelif True:\n    # why\n    a = 2\nelse:\n    a = 3", "if b:\n    a = 1\nelse:\n    # why\n    a = 2"),
    "chain goes on": ("if b:\n    a = 1\nelif False:\n    a = 2\nelse:\n    a = 3", "if b:\n    a = 1\nelse:\n    a = 3"),
    "within": ("if True or b:\n    if False:\n        a = 1\n    a = 2", "a = 2"),
    "for the run to say": ("if b and True:\n    a = 1\nwhile True:\n    break", None),
}


@pytest.mark.parametrize("name", CASES)
def test_branches_that_constants_decide(name):
    text, expected = CASES[name]
    lines = textwrap.indent(text, "    ").splitlines()
    found = None
    while (shorter := _decided(lines)) is not None:
        lines = found = shorter
    assert (found and textwrap.dedent("\n".join(found))) == expected


def test_a_recurrence_says_nothing_of_what_it_does_not_do():
    x, w, r = (np.random.default_rng(1).standard_normal(shape).astype("f4") for shape in ((5, 2, 3), (1, 16, 3), (1, 16, 4)))
    node = helper.make_node("LSTM", ["x", "w", "r"], ["y"], hidden_size=4)
    values = [helper.make_tensor_value_info(name, 1, array.shape) for name, array in (("x", x), ("w", w), ("r", r))]
    graph = helper.make_graph([node], "g", values, [helper.make_empty_tensor_value_info("y")])
    rep = backend.prepare(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 22)]))
    for name in ("peep", "PEEPS", "scales", "SCALES"):
        assert name not in rep.source
    assert not any(line.lstrip().startswith(("if True", "if False", "elif")) for line in rep.source.splitlines())
    assert np.isfinite(rep.run([x, w, r])[0]).all()
