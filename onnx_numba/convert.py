"""From ``GraphProto`` and ``FunctionProto`` to `Graph` and `Function`: scopes, unique names, order, operator versions."""

from __future__ import annotations

import heapq
from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from onnx import AttributeProto, FunctionProto, GraphProto, NodeProto, OperatorSetIdProto, ValueInfoProto

from onnx_numba import decode, schemas
from onnx_numba.decode import ExternalData, plain_attribute, sparse, tensor, value_type
from onnx_numba.errors import ModelError, UnsupportedError
from onnx_numba.ir.graph import GRADIENT, Function, FunctionKey, Graph, Initializer, Node, Value, describe, reads
from onnx_numba.ir.types import TensorType, ValueType
from onnx_numba.ops.registry import Registry, builtin
from onnx_numba.record import record
from onnx_numba.schemas import Schema


@dataclass
class Context:
    """What the conversion of one model, or of one function, knows and collects.

    Attributes
    ----------
    opsets : mapping
        Version by domain.
    functions : container of FunctionKey
        The model-local functions there are.
    files : ExternalData
        Where external data is.
    defaults : bool
        Whether an initializer that is also an input can be overridden by callers.
    notes : dict
        Remarks on what was tolerated, in order, each once.
    calls : dict
        The functions that were called, in order.
    registry : Registry or None
        Has the operators that onnx does not know; None for those that come with this package.
    """

    opsets: Mapping[str, int]
    functions: Container[FunctionKey] = ()
    files: ExternalData = field(default_factory=ExternalData)
    defaults: bool = False
    notes: dict[str, None] = field(default_factory=dict)
    calls: dict[FunctionKey, None] = field(default_factory=dict)
    used: set[str] = field(default_factory=set)
    registry: Registry | None = None

    def fresh(self, name: str) -> str:
        """A name like this one that nothing else has."""
        unique, number = name, 1
        while unique in self.used:
            unique, number = f"{name}_{number}", number + 1
        self.used.add(unique)
        return unique


class Scope:
    """The names visible at one level; those of subgraphs that hide an outer name are made unique."""

    def __init__(self, context: Context, outer: Scope | None = None) -> None:
        self._context = context
        self._outer = outer
        self._names: dict[str, str] = {}

    def define(self, name: str, by: str) -> str:
        """Make a name known, defined by what ``by`` says."""
        if not name:
            return ""
        if decode.name(name, by) in self._names:
            raise ModelError(f"{by}: {name!r} is defined a second time")
        self._names[name] = self._context.fresh(name)
        return self._names[name]

    def __contains__(self, name: str) -> bool:
        return name in self._names

    def own(self, name: str) -> str:
        """The unique name of something defined at this level."""
        return self._names[name] if name else ""

    def find(self, name: str) -> str | None:
        """The unique name of something visible here."""
        if not name:
            return ""
        scope: Scope | None = self
        while scope is not None:
            if name in scope._names:
                return scope._names[name]
            scope = scope._outer
        return None


def opset_versions(imports: Iterable[OperatorSetIdProto], notes: dict[str, None]) -> dict[str, int]:
    """Version by domain; where a domain is imported twice the last one counts, as in other runtimes."""
    versions: dict[str, int] = {}
    for entry in imports:
        domain = schemas.normal_domain(entry.domain)
        if versions.get(domain, entry.version) != entry.version:
            where = domain or "ai.onnx"
            notes[f"domain {where} is imported as {versions[domain]} and {entry.version}; the latter is used"] = None
        versions[domain] = entry.version
    return versions


def convert_graph(proto: GraphProto, context: Context, outer: Scope | None = None) -> Graph:
    """A graph and, in it, its subgraphs.

    Raises
    ------
    ModelError
        A name is defined twice or never, or nodes depend on each other in a circle.
    """
    scope = Scope(context, outer)
    constants = _initializers(proto, context)
    inputs = _inputs(proto.input, constants, scope, context)
    initializers = []
    for name, constant in constants.items():
        unique = scope.define(name, f"initializer {name!r}")
        initializers.append(Initializer(unique, constant.dtype, constant.array))
    nodes = convert_nodes(proto.node, scope, context)
    outputs = tuple(_output(value, scope, proto.name) for value in proto.output)
    return Graph(inputs, outputs, tuple(initializers), nodes, proto.name)


def convert_function(proto: FunctionProto, context: Context) -> Function:
    """A function's body, which sees no names but its own."""
    key = (schemas.normal_domain(proto.domain), proto.name, proto.overload)
    scope = Scope(context)
    where = f"function {proto.domain}.{proto.name}"
    inputs = tuple(scope.define(name, where) for name in proto.input)
    nodes = convert_nodes(proto.node, scope, context)
    outputs = []
    for name in proto.output:
        outputs.append(scope.find(name) or "")
    defaults = {a.name: plain_attribute(a, context.files) for a in proto.attribute_proto}
    return Function(key, inputs, tuple(outputs), defaults, context.opsets, nodes)


def convert_nodes(protos: Sequence[NodeProto], scope: Scope, context: Context) -> tuple[Node, ...]:
    """Nodes in an order in which every value is defined before it is used, the given order where possible."""
    headers = [_Header.of(proto, number, context) for number, proto in enumerate(protos)]
    for header in headers:
        for name in header.proto.output:
            scope.define(name, str(header))
    return _sorted([_node(header, scope, context) for header in headers])


@record
class _Header:
    """What a node is, before its values are looked at."""

    proto: NodeProto
    name: str
    domain: str
    opset: int

    @classmethod
    def of(cls, proto: NodeProto, number: int, context: Context) -> _Header:
        op = decode.name(proto.op_type, f"operator of node {number}")
        name = decode.name(proto.name, f"node {number}") or f"{op}#{number}"
        domain = schemas.normal_domain(decode.name(proto.domain, f"domain of node {name!r}"))
        return cls(proto, name, domain, context.opsets.get(domain, 0))

    def __str__(self) -> str:
        return describe(self.name, self.proto.op_type, self.domain, self.opset)


def _initializers(proto: GraphProto, context: Context) -> dict[str, Initializer]:
    found: dict[str, Initializer] = {}
    dense = ((t.name, tensor, t) for t in proto.initializer)
    scattered = ((t.values.name, sparse, t) for t in proto.sparse_initializer)
    read: Any
    for name, read, source in (*dense, *scattered):
        if name in found:
            context.notes[f"initializer {name!r} is given twice; the latter is used"] = None
        dtype, array = read(source, context.files, f"initializer {name!r}")
        found[name] = Initializer(name, dtype, array)
    return found


def _inputs(
    protos: Sequence[ValueInfoProto], constants: dict[str, Initializer], scope: Scope, context: Context
) -> tuple[Value, ...]:
    """The inputs; takes those initializers out of ``constants`` that become an input's default.

    Before IR version 4 every initializer had to be listed as an input: there such an input is a plain constant, as in other
    runtimes, since the list says nothing about what callers may want to override.
    """
    inputs = []
    for proto in protos:
        if proto.name in constants and not context.defaults:
            continue
        kind = value_type(proto.type, f"input {proto.name!r}")
        default = constants.get(proto.name)
        if default is not None:
            _check_default(default, kind, proto.name)
            if not _fits(default, kind):
                context.notes[f"input {proto.name!r} is a constant, for its initializer has another shape"] = None
                continue
            del constants[proto.name]
        name = scope.define(proto.name, f"input {proto.name!r}")
        inputs.append(Value(name, kind, Initializer(name, default.dtype, default.array) if default else None))
    return tuple(inputs)


def _check_default(default: Initializer, kind: ValueType | None, name: str) -> None:
    if kind is not None and not (isinstance(kind, TensorType) and kind.dtype is default.dtype):
        raise ModelError(f"input {name!r} is declared as {kind}, but its initializer is a tensor({default.dtype.onnx_name})")


def _fits(default: Initializer, kind: ValueType | None) -> bool:
    """Whether a default has the rank and the fixed dims of its input."""
    if not isinstance(kind, TensorType) or kind.shape is None:
        return True
    shape = default.array.shape
    return len(shape) == len(kind.shape) and all(x == n for x, n in zip(kind.shape, shape, strict=True) if isinstance(x, int))


def _output(proto: ValueInfoProto, scope: Scope, graph: str) -> Value:
    name = scope.find(proto.name)
    if not name:
        raise ModelError(f"output {proto.name!r} of graph {graph!r} is never defined")
    return Value(name, value_type(proto.type, f"output {proto.name!r}"))


def _node(header: _Header, scope: Scope, context: Context) -> Node:
    proto, where = header.proto, str(header)
    key = (header.domain, proto.op_type, proto.overload)
    if key in context.functions:
        context.calls[key] = None
        schema, since = None, 0
    else:
        schema = _schema(header, context)
        since = schema.since_version if schema else max(header.opset, 1)
    inputs = _resolved(proto, scope, where)
    outputs = tuple(scope.own(name) for name in proto.output)
    if schema:
        _check_counts(schema, inputs, outputs, where)
        _check_needed(schema, inputs, where)
    attributes, bodies = _attributes(proto, schema, scope, context, where)
    if (header.domain, proto.op_type) == GRADIENT and schema:
        inputs += _named_values(inputs, outputs, attributes, scope, where)
    return Node(
        proto.op_type, header.domain, since, header.opset, inputs, outputs, attributes, header.name, proto.doc_string, bodies,
        proto.overload,
    )  # fmt: skip


def _schema(header: _Header, context: Context) -> Schema | None:
    if schemas.newest_opset(header.domain) is not None and header.domain not in context.opsets:
        raise ModelError(f"{header}: the model imports no opset of domain {header.domain or 'ai.onnx'}")
    op, domain, opset = header.proto.op_type, header.domain, header.opset
    if schemas.find(op, domain, opset) is None:
        # Also operators that other runtimes have put into the standard's own domain.
        own = (context.registry or builtin()).schema(domain, op, max(opset, 1))
        if own is not None:
            return own
    return schemas.resolve(header.name, op, domain, opset)


def _resolved(proto: NodeProto, scope: Scope, where: str) -> tuple[str, ...]:
    inputs = []
    for name in proto.input:
        unique = scope.find(name)
        if unique is None:
            raise ModelError(f"{where}: input {name!r} is never defined")
        inputs.append(unique)
    while inputs and not inputs[-1]:
        inputs.pop()
    return tuple(inputs)


def _named_values(
    inputs: tuple[str, ...], outputs: tuple[str, ...], attributes: Mapping[str, Any], scope: Scope, where: str
) -> tuple[str, ...]:
    """What a Gradient node names in its attributes: the values ``xs``, ``zs`` and ``y``, on which it depends like on inputs."""
    independent = (*attributes["xs"], *attributes.get("zs", ()))
    if len(independent) != len(inputs):
        raise ModelError(f"{where}: {len(inputs)} inputs are given for the {len(independent)} values that 'xs' and 'zs' name")
    if len(set(independent)) < len(independent):
        raise ModelError(f"{where}: 'xs' and 'zs' name a value twice: {', '.join(map(repr, independent))}")
    if len(outputs) > len(attributes["xs"]):
        raise ModelError(f"{where}: {len(outputs)} outputs are asked for, 'xs' names {len(attributes['xs'])} values")
    found = []
    for name in (*independent, attributes["y"]):
        unique = scope.find(name)
        if not unique:
            raise ModelError(f"{where}: its attributes name {name!r}, which is never defined")
        found.append(unique)
    return tuple(found)


def _check_counts(schema: Schema, inputs: tuple[str, ...], outputs: tuple[str, ...], where: str) -> None:
    for what, names, allowed in (("inputs", inputs, schema.inputs), ("outputs", outputs, schema.outputs)):
        if len(names) not in allowed:
            limit = f"at least {allowed.start}" if len(names) < allowed.start else f"at most {allowed.stop - 1}"
            raise ModelError(f"{where} has {len(names)} {what}, {limit} are expected")


def _check_needed(schema: Schema, inputs: tuple[str, ...], where: str) -> None:
    for position in schema.needed:
        if not inputs[position]:
            raise ModelError(f"{where}: input {position} must be given")


def _attributes(
    proto: NodeProto, schema: Schema | None, scope: Scope, context: Context, where: str
) -> tuple[dict[str, Any], dict[str, Graph]]:
    attributes: dict[str, Any] = {}
    bodies: dict[str, Graph] = {}
    for attribute in proto.attribute:
        what = f"{where}: attribute {decode.name(attribute.name, where)!r}"
        spec = schema.attributes.get(attribute.name) if schema else None
        if schema and schema.onnx and not spec:
            _check_foreign(attribute, schema, context, what)
            continue
        declared = spec.type if spec else None
        if attribute.HasField("g") and not attribute.ref_attr_name:
            bodies[attribute.name] = convert_graph(attribute.g, context, scope)
        elif attribute.graphs:
            raise UnsupportedError(f"{what}: lists of graphs are not supported")
        else:
            attributes[attribute.name] = plain_attribute(attribute, context.files, declared, what)
    if schema:
        _check_required(schema, attributes, bodies, where)
    return attributes, bodies


def _check_foreign(attribute: AttributeProto, schema: Schema, context: Context, what: str) -> None:
    """Let an attribute of another version of the operator pass that says what its absence means; refuse any other."""
    known = schemas.elsewhere(schema.op, schema.domain, attribute.name)
    versions = ", ".join(map(str, sorted(known)))
    if not known:
        raise ModelError(f"{what} is one that no version of the operator has")
    if attribute.name not in schemas.HINTS:
        spec = known[max(known)]
        value = None if attribute.HasField("g") or attribute.graphs else plain_attribute(attribute, context.files, spec.type, what)
        if spec.default is None or not schemas.same(value, spec.default):
            raise ModelError(f"{what} is one of version {versions} of the operator, the model's opset has version {schema.since_version}")
    context.notes[f"{what} is one of version {versions} of the operator, not of the model's opset, and is ignored"] = None


def _check_required(schema: Schema, attributes: dict[str, Any], bodies: dict[str, Graph], where: str) -> None:
    for spec in schema.attributes.values():
        if spec.required and spec.name not in attributes and spec.name not in bodies:
            raise ModelError(f"{where} lacks its attribute {spec.name!r}")


def _sorted(nodes: list[Node]) -> tuple[Node, ...]:
    """Stable topological order: of the nodes that can run, always the one that stands first in the file."""
    maker = {name: number for number, node in enumerate(nodes) for name in node.outputs if name}
    waiting = [{maker[name] for name in reads(node) if name in maker} for node in nodes]
    users: list[list[int]] = [[] for _ in nodes]
    for number, needed in enumerate(waiting):
        for other in needed:
            users[other].append(number)
    ready = [number for number, needed in enumerate(waiting) if not needed]
    order = []
    while ready:
        number = heapq.heappop(ready)
        order.append(number)
        for user in users[number]:
            waiting[user].discard(number)
            if not waiting[user]:
                heapq.heappush(ready, user)
    if len(order) < len(nodes):
        raise ModelError(f"nodes depend on each other in a circle: {', '.join(_circle(nodes, waiting))}")
    return tuple(nodes[number] for number in order)


def _circle(nodes: list[Node], waiting: list[set[int]]) -> list[str]:
    """Names of the nodes of one circle, walked along what each still waits for."""
    path: list[int] = []
    number = next(k for k, needed in enumerate(waiting) if needed)
    while number not in path:
        path.append(number)
        number = min(waiting[number])
    return [repr(nodes[k].name) for k in reversed(path[path.index(number) :])]
