"""Operators of domains that onnx does not know: resolved from the registry, held to what their functions' signatures say."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import AttributeProto, helper, parser

import onnx_numba.backend as backend
from onnx_numba import cli
from onnx_numba.errors import ModelError, UnsupportedError
from onnx_numba.importer import load
from onnx_numba.lower import lower
from onnx_numba.ops.registry import builtin, op
from onnx_numba.ops.signature import schema_of
from onnx_numba.options import Options

MS = "com.microsoft"


@op("Bend", since=1, reviewed=2, domain="com.acme")
def bend(
    b: Any, x: Any, weight: Any | None, bias: Any, extra: Any = None, *, strength: float, kind: str = "soft", steps: Any = (1,)
) -> Any:
    return b.map(lambda v: v * strength, x)


@op("Bend", since=3, domain="com.acme")
def bend_3(b: Any, x: Any, *, strength: float = 2.0) -> Any:
    return b.map(lambda v: v + strength, x)


@op("Join", since=1, domain="com.acme")
def join(b: Any, *xs: Any, axis: int | None = None) -> Any:
    return b.concat(xs, axis or 0)


CUSTOM = builtin().extended([bend, bend_3, join])


def model(body: str, opset: int = 1, domain: str = "com.acme") -> onnx.ModelProto:
    header = f'<ir_version: 8, opset_import: ["" : 18, "{domain}" : {opset}]>'
    return parser.parse_model(f"{header} agraph (float[N] x) => (float[M] y) {{ {body} }}")


def first(body: str, opset: int = 1) -> Any:
    return load(model(body, opset), registry=CUSTOM).graph.nodes[0]


class TestSignature:
    def test_inputs(self) -> None:
        schema = schema_of(bend, "Bend", "com.acme", 1)
        assert schema.inputs == range(3, 5) and schema.needed == (0, 2)
        assert schema_of(join, "Join", "com.acme", 1).inputs.start == 0

    def test_attributes(self) -> None:
        specs = schema_of(bend, "Bend", "com.acme", 1).attributes
        assert [(s.name, s.type, s.required, s.default) for s in specs.values()] == [
            ("strength", AttributeProto.FLOAT, True, None), ("kind", AttributeProto.STRING, False, "soft"), ("steps", None, False, (1,)),
        ]  # fmt: skip
        assert schema_of(join, "Join", "com.acme", 1).attributes["axis"].type == AttributeProto.INT

    def test_types_of_defaults_serve_where_nothing_is_annotated(self) -> None:
        def plain(b, x, y=None, *, alpha=0.5, beta):  # type: ignore[no-untyped-def]
            return x

        schema = schema_of(plain, "Plain", "com.acme", 1)
        assert schema.inputs == range(1, 3) and schema.needed == (0,)
        assert (schema.attributes["alpha"].type, schema.attributes["beta"].type) == (AttributeProto.FLOAT, None)


class TestImport:
    @pytest.mark.parametrize(("opset", "since"), [(1, 1), (2, 1), (3, 3)])
    def test_versions(self, opset: int, since: int) -> None:
        inputs = "x" if opset == 3 else 'x, "", x'
        assert first(f"y = com.acme.Bend<strength = 1.0>({inputs})", opset).since_version == since

    def test_a_domain_is_known_up_to_its_newest_version(self) -> None:
        assert first("y = com.acme.Join(x, x)", 3).since_version == 1
        graph = load(model("y = com.acme.Join(x, x)", 4), registry=CUSTOM).graph
        with pytest.raises(UnsupportedError, match=r"Join.*com\.acme, opset 4.*up to version 1"):
            lower(graph, Options(), CUSTOM)

    def test_integers_where_floats_are_declared(self) -> None:
        strength = first('y = com.acme.Bend<strength = 2>(x, "", x)').attributes["strength"]
        assert strength == 2.0 and isinstance(strength, float)

    @pytest.mark.parametrize(
        ("body", "words"),
        [
            ('[here] y = com.acme.Bend(x, "", x)', "node 'here'.* lacks its attribute 'strength'"),
            ('[here] y = com.acme.Bend<strength = "a">(x, "", x)', "node 'here'.*'strength' is of type STRING, FLOAT is expected"),
            ("[here] y = com.acme.Bend<strength = 1.0>(x)", "node 'here'.*has 1 inputs, at least 3"),
            ("[here] y = com.acme.Bend<strength = 1.0>(x, x, x, x, x)", "node 'here'.*has 5 inputs, at most 4"),
            ('[here] y = com.acme.Bend<strength = 1.0>(x, x, "", x)', "node 'here'.*input 2 must be given"),
        ],
        ids=["attribute", "type", "few", "many", "left out"],
    )
    def test_what_breaks_the_signature(self, body: str, words: str) -> None:
        with pytest.raises(ModelError, match=words):
            first(body)

    def test_attributes_that_nobody_takes(self) -> None:
        graph = load(model("[here] y = com.acme.Join<odd = 3>(x, x)"), registry=CUSTOM).graph
        with pytest.raises(UnsupportedError, match=r"node 'here'.*'odd' = 3 is not supported"):
            lower(graph, Options(), CUSTOM)

    def test_custom_operators_in_functions_and_graphs(self) -> None:
        text = """<ir_version: 8, opset_import: ["" : 18, "com.acme" : 3, "f" : 1]>
        agraph (float[2] x) => (float[2] y) { y = f.outer(x) }
        <domain: "f", opset_import: ["com.acme" : 3]> outer (p) => (q) { q = com.acme.Bend(p) }"""
        graph = load(parser.parse_model(text), registry=CUSTOM).graph
        assert lower(graph, Options(), CUSTOM).served == [(graph.nodes[0].name, "Bend", "com.acme", 3, "map")]


class TestMicrosoft:
    def test_unknown_operators(self) -> None:
        with pytest.raises(UnsupportedError, match=r"node 'here' \(Fancy of domain com.microsoft, opset 1\).*no such operator"):
            backend.prepare(model("[here] y = com.microsoft.Fancy(x)", domain=MS))
        with pytest.raises(UnsupportedError, match="did you mean 'QuickGelu'"):
            backend.prepare(model("[here] y = com.microsoft.QuikGelu(x)", domain=MS))

    def test_inspect(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        onnx.save(model("y = com.microsoft.QuickGelu(x)", domain=MS), tmp_path / "m.onnx")
        assert cli.main(["inspect", str(tmp_path / "m.onnx")]) == 0
        assert ["1", "×", "QuickGelu", MS, "version", "1", "map"] in [line.split() for line in capsys.readouterr().out.splitlines()]

    def test_defaults(self) -> None:
        x = np.array([-2.0, 0.0, 1.5], np.float32)
        (y,) = backend.prepare(model("y = com.microsoft.QuickGelu(x)", domain=MS)).run(x)
        np.testing.assert_allclose(y, x / (1 + np.exp(-1.702 * x)), 1e-6)

    def test_signatures_take_what_onnxruntime_takes(self) -> None:
        """All its inputs and attributes, of its types and with its defaults; nothing is demanded that it does not demand."""
        from onnxruntime.capi.onnxruntime_pybind11_state import get_all_operator_schema

        theirs = {(s.domain, s.name): s for s in get_all_operator_schema() if s.domain == MS}
        wrong = []
        for record in (r for r in builtin() if r.domain == MS):
            wrong += _differences(record, theirs[MS, record.op]) if (MS, record.op) in theirs else [(record.op, "unknown to onnxruntime")]
        assert wrong == []


def _differences(record: Any, schema: Any) -> list[tuple[Any, ...]]:
    own, found = record.schema, []
    formal = schema.inputs
    variadic = bool(formal) and formal[-1].option.name == "Variadic"
    if own.inputs.stop - 1 < len(formal) or (not variadic and own.inputs.stop - 1 > len(formal)):
        found.append((record.op, "inputs", own.inputs, len(formal)))
    needed = tuple(k for k, f in enumerate(formal) if f.option.name == "Single")
    if not set(own.needed) <= set(needed):
        found.append((record.op, "needed", own.needed, needed))
    for name, theirs in schema.attributes.items():
        if name not in own.attributes:
            found.append((record.op, name, "is not taken"))
            continue
        spec = own.attributes[name]
        if spec.type not in (None, AttributeProto.AttributeType.Value(theirs.type.name.upper())):
            found.append((record.op, name, spec.type, theirs.type))
        default = AttributeProto.FromString(theirs._default_value) if theirs._default_value else None
        if default is not None and default.type and not _equal(spec.default, helper.get_attribute_value(default)):
            found.append((record.op, name, spec.default, helper.get_attribute_value(default)))
        if spec.required and not theirs.required:
            found.append((record.op, name, "is demanded"))
    return found


def _equal(mine: Any, theirs: Any) -> bool:
    theirs = theirs.decode() if isinstance(theirs, bytes) else theirs
    return mine == (pytest.approx(theirs) if isinstance(theirs, float) else tuple(theirs) if isinstance(theirs, list) else theirs)
