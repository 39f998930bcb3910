"""The registry: versions, attributes, and that nothing newer than what was reviewed slips through."""

from __future__ import annotations

from types import ModuleType
from typing import Any

import numpy as np
import onnx
import onnx.defs
import pytest
from onnx import helper, parser

from onnx_numba import schemas
from onnx_numba.errors import UnsupportedError
from onnx_numba.importer import load
from onnx_numba.ir.graph import Graph, Node
from onnx_numba.ops.registry import Implementation, Registry, builtin, lookup, marked, op

HISTORY: dict[tuple[str, str], list[int]] = {}
for _schema in onnx.defs.get_all_schemas_with_history():
    HISTORY.setdefault((_schema.domain, _schema.name), []).append(_schema.since_version)

FOREIGN = {"SimplifiedLayerNormalization"}
"""Operators that other runtimes have put into the standard's own domain."""


@op("LeakyRelu", since=1, reviewed=5)
def old_leaky(b: Any, x: Any, *, alpha: float) -> Any:
    return ("old", x, alpha)


@op("LeakyRelu", since=6, reviewed=16)
@op("Elu", since=6)
def leaky(b: Any, x: Any, *, alpha: float) -> Any:
    return ("new", x, alpha)


@op("Clip", since=11, reviewed=13)
def clip(b: Any, x: Any, low: Any, high: Any) -> Any:
    return (x, low, high)


@op("Concat", since=4, reviewed=13)
def concat(b: Any, *xs: Any, axis: int) -> Any:
    return (xs, axis)


@op("Split", since=2, reviewed=18)
def split(b: Any, x: Any, sizes: Any, *, axis: int, split: Any, num_outputs: int = 7, node: Node) -> Any:
    return (axis, split, num_outputs, len(node.outputs))


@op("If", since=1, reviewed=25)
def if_(b: Any, condition: Any, *, then_branch: Graph, else_branch: Graph) -> Any:
    return (then_branch, else_branch)


@op("Thing", since=1, domain="com.acme")
def thing(b: Any, x: Any, *, k: int = 5, other: Any = None) -> Any:
    return (k, other)


REGISTRY = Registry([old_leaky, leaky, clip, concat, split, if_, thing])


def node(text: str, opset: int = 18) -> Node:
    header = f'<ir_version: 8, opset_import: ["" : {opset}, "com.acme" : 1]>'
    return load(parser.parse_model(f"{header} agraph (float[N] x, bool c) => (float[N] y) {{ {text} }}")).graph.nodes[0]


def call(text: str, opset: int = 18) -> Any:
    made = node(text, opset)
    record = REGISTRY.find(made)
    assert record is not None
    return record.call("builder", made, [name or None for name in made.inputs])


class TestLookup:
    @pytest.mark.parametrize(("version", "function"), [(1, old_leaky), (6, leaky), (16, leaky)])
    def test_greatest_not_above(self, version: int, function: Any) -> None:
        record = REGISTRY.lookup("", "LeakyRelu", version)
        assert record is not None and record.function is function

    def test_none(self) -> None:
        assert REGISTRY.lookup("", "Relu", 14) is None
        assert REGISTRY.lookup("", "Clip", 6) is None
        assert REGISTRY.lookup("ai.onnx.ml", "LeakyRelu", 6) is None

    def test_newer_than_reviewed(self) -> None:
        with pytest.raises(UnsupportedError, match=r"LeakyRelu of domain ai.onnx in version 17.*up to version 16"):
            REGISTRY.lookup("", "LeakyRelu", 17)
        with pytest.raises(UnsupportedError, match=r"version 22.*up to version 6"):
            REGISTRY.lookup("", "Elu", 22)

    def test_errors_name_the_node(self) -> None:
        with pytest.raises(UnsupportedError, match=r"node 'here'.*opset 22.*up to version 6"):
            REGISTRY.find(node("[here] y = Elu(x)", 22))

    def test_twice(self) -> None:
        @op("LeakyRelu", since=6)
        def one_more_leaky(b: Any, x: Any) -> Any:
            return x

        with pytest.raises(ValueError, match="LeakyRelu since 6 is implemented twice"):
            Registry([leaky, one_more_leaky])

    def test_reviewed_before_since(self) -> None:
        with pytest.raises(ValueError, match="reviewed=3 is before since=5"):
            op("Any", since=5, reviewed=3)

    def test_stacked(self) -> None:
        assert sorted(record.op for record in Registry([leaky])) == ["Elu", "LeakyRelu"]

    def test_extended_by_a_user(self) -> None:
        @op("Elu", since=6, reviewed=22)
        def mine(b: Any, x: Any, *, alpha: float) -> Any:
            return alpha

        extended = REGISTRY.extended([mine])
        assert extended.lookup("", "Elu", 22).function is mine
        assert extended.lookup("", "LeakyRelu", 6).function is leaky
        assert REGISTRY.lookup("", "Elu", 6).function is leaky

    def test_marked(self) -> None:
        module = ModuleType("family")
        module.first, module.other, module.plain = leaky, 3, lambda b, x: x
        assert marked(module) == [leaky]


class TestCall:
    def test_schema_defaults(self) -> None:
        assert call("y = LeakyRelu(x)") == ("new", "x", pytest.approx(0.01))
        assert call("y = LeakyRelu<alpha = 2.0>(x)") == ("new", "x", 2.0)

    def test_absent_inputs_are_none(self) -> None:
        assert call('y = Clip(x, "", x)') == ("x", None, "x")
        assert call("y = Clip(x)") == ("x", None, None)

    def test_variadic(self) -> None:
        assert call("y = Concat<axis = 1>(x, x, x)") == (("x", "x", "x"), 1)

    def test_attribute_without_default(self) -> None:
        assert call("y, z = Split(x)") == (0, None, 7, 2)
        assert call("y, z = Split<axis = 1, split = [1, 2]>(x)", 11) == (1, (1, 2), 7, 2)
        assert call("y, z = Split<num_outputs = 2>(x)") == (0, None, 2, 2)

    def test_without_schema(self) -> None:
        assert call("y = com.acme.Thing(x)") == (5, None)
        assert call("y = com.acme.Thing<k = 2>(x)") == (2, None)

    def test_bodies(self) -> None:
        then, other = call(
            "y = If(c) <then_branch = t () => (float[N] p) { p = Neg(x) }, else_branch = e () => (float[N] q) { q = Abs(x) }>"
        )
        assert (then.nodes[0].op, other.nodes[0].op) == ("Neg", "Abs")

    def test_attributes_that_nobody_reads_are_errors(self) -> None:
        with pytest.raises(UnsupportedError, match="'extra' = 3 is not supported"):
            call("y = com.acme.Thing<extra = 3>(x)")

        @op("AveragePool", since=1, reviewed=22)
        def pool(b: Any, x: Any, *, kernel_shape: Any) -> Any:
            return kernel_shape

        (record,) = Registry([pool])
        plain = node("y = AveragePool<kernel_shape = [2], ceil_mode = 0, count_include_pad = 0>(x)")
        assert record.call("builder", plain, ["x"]) == (2,)
        with pytest.raises(UnsupportedError, match=r"node 'here'.*'ceil_mode' = 1"):
            record.call("builder", node("[here] y = AveragePool<kernel_shape = [2], ceil_mode = 1>(x)"), ["x"])

    def test_too_many_inputs(self) -> None:
        record = Implementation("Clip", "", 11, 13, leaky)
        with pytest.raises(UnsupportedError, match="has 3 inputs, only 1"):
            record.call("builder", node("y = Clip(x, x, x)"), ["x", "x", "x"])


def decoded(value: Any) -> Any:
    """An attribute's value as this package has it."""
    if isinstance(value, list):
        return tuple(map(decoded, value))
    return value.decode() if isinstance(value, bytes) else value


class TestSchemas:
    def test_every_default_can_be_read(self) -> None:
        for raw in onnx.defs.get_all_schemas_with_history():
            schema = schemas.find(raw.name, raw.domain, raw.since_version)
            assert schema is not None and schema.since_version == raw.since_version
            for name, spec in schema.attributes.items():
                default = raw.attributes[name].default_value
                want = helper.get_attribute_value(default) if default.type else None
                assert spec.default == decoded(want)

    def test_tensors_as_attributes(self) -> None:
        made = node("y = ConstantOfShape<value = float[1] {2}>(x)")
        assert made.attributes["value"].dtype == np.float32


class TestBuiltin:
    def test_versions_are_real(self) -> None:
        """``since`` and ``reviewed`` are versions that the operator has, where it is one of the standard's."""
        wrong = []
        for record in builtin():
            versions = HISTORY.get((record.domain, record.op))
            before = versions and record.reviewed < min(versions)  # where other runtimes had it before the standard
            if versions and not before and not {record.since, record.reviewed} <= set(versions):
                wrong.append((record.domain, record.op, record.since, record.reviewed, versions))
            if versions is None and record.domain in schemas.newest_opsets() and record.op not in FOREIGN:
                wrong.append((record.domain, record.op))
        assert wrong == []

    def test_attributes_are_real(self) -> None:
        """Keywords are attributes of some version of the operator, or of one that the function was made for as well."""
        wrong = []
        for record in builtin():
            found = [schemas.find(record.op, record.domain, v) for v in HISTORY.get((record.domain, record.op), [])]
            known = {name for schema in found if schema for name in schema.attributes} | {"node", "consumed_inputs"}
            if found and not set(record._parameters[2]) <= known:
                wrong.append((record.op, sorted(set(record._parameters[2]) - known)))
        assert wrong == []

    def test_newest_versions_are_reviewed(self) -> None:
        """A new release of onnx fails here: what it changed has to be read, and ``reviewed`` raised."""
        stale = []
        for key in {(record.domain, record.op) for record in builtin()} & set(HISTORY):
            try:
                builtin().lookup(*key, max(HISTORY[key]))
            except UnsupportedError as error:
                stale.append(str(error))
        assert stale == []

    def test_no_gap_between_versions(self) -> None:
        """From the first version that is implemented on, every one is."""
        gaps = []
        for key in {(record.domain, record.op) for record in builtin()} & set(HISTORY):
            served = []
            for version in sorted(HISTORY[key]):
                try:
                    served.append(builtin().lookup(*key, version) is not None)
                except UnsupportedError:
                    served.append(False)
            if served != sorted(served):
                gaps.append((key, served))
        assert gaps == []

    def test_lookup(self) -> None:
        assert lookup("com.acme", "Thing", 1) is None
