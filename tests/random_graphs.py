"""Random graphs of operators whose fusion, views and shapes can go wrong together, from a seed."""

from __future__ import annotations

import numpy as np
from onnx import ModelProto, TensorProto, helper, numpy_helper


class Maker:
    """Grows a graph node by node; values are (name, shape) with sizes as they are in the run, ``N`` standing for the first input's rows."""

    def __init__(self, seed: int) -> None:
        self.random = np.random.default_rng(seed)
        self.nodes: list = []
        self.constants: list = []
        self.values: list[tuple[str, tuple[int, ...]]] = []
        self.rows = int(self.random.integers(1, 5))

    def name(self) -> str:
        return f"v{len(self.nodes) + len(self.constants)}"

    def constant(self, array: np.ndarray) -> str:
        name = f"c{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(array, name))
        return name

    def node(self, op: str, inputs: list[str], shape: tuple[int, ...], **attributes) -> None:
        name = f"v{len(self.nodes)}"
        self.nodes.append(helper.make_node(op, inputs, [name], **attributes))
        self.values.append((name, shape))

    def pick(self) -> tuple[str, tuple[int, ...]]:
        recent = self.values[-4:] if self.random.random() < 0.7 else self.values
        return recent[int(self.random.integers(len(recent)))]

    def step(self) -> None:
        kinds = [self.unary, self.binary, self.binary, self.reduce, self.softmax, self.transpose, self.reshape, self.slice, self.concat,
                 self.matmul, self.norm, self.pad, self.gather, self.where]  # fmt: skip
        kinds[int(self.random.integers(len(kinds)))]()

    def unary(self) -> None:
        name, shape = self.pick()
        self.node(str(self.random.choice(["Relu", "Tanh", "Sigmoid", "Neg", "Abs", "Exp", "Floor"])), [name], shape)
        if self.nodes[-1].op_type == "Exp":  # keep values small
            inner, _ = self.values[-1]
            self.node("Tanh", [inner], shape)

    def binary(self) -> None:
        name, shape = self.pick()
        fitting = [n for n, s in self.values if _broadcast(s, shape) is not None and np.prod(_broadcast(s, shape)) <= 4000]
        if not fitting:
            return
        other = str(self.random.choice(fitting))
        result = _broadcast(dict(self.values)[other], shape)
        self.node(str(self.random.choice(["Add", "Sub", "Mul", "Max", "Min"])), [other, name], result)

    def where(self) -> None:
        name, shape = self.pick()
        zero = self.constant(np.float32(0.1).reshape(()))
        condition = f"m{len(self.nodes)}"
        self.nodes.append(helper.make_node("Greater", [name, zero], [condition]))
        other = str(self.random.choice([n for n, s in self.values if s == shape]))
        self.node("Where", [condition, name, other], shape)

    def reduce(self) -> None:
        name, shape = self.pick()
        if not shape:
            return
        count = int(self.random.integers(1, len(shape) + 1))
        axes = sorted(int(a) for a in self.random.choice(len(shape), count, replace=False))
        keep = int(self.random.random() < 0.7)
        out = tuple(1 if k in axes else s for k, s in enumerate(shape)) if keep else tuple(s for k, s in enumerate(shape) if k not in axes)
        op = str(self.random.choice(["ReduceSum", "ReduceMean", "ReduceMax", "ReduceMin"]))
        self.node(op, [name, self.constant(np.array(axes, np.int64))], out, keepdims=keep)

    def softmax(self) -> None:
        name, shape = self.pick()
        if shape:
            self.node("Softmax", [name], shape, axis=int(self.random.integers(-len(shape), len(shape))))

    def norm(self) -> None:
        name, shape = self.pick()
        if len(shape) >= 2:
            scale = self.constant(self.random.standard_normal(shape[-1]).astype(np.float32))
            self.node("LayerNormalization", [name, scale], shape, axis=-1)

    def transpose(self) -> None:
        name, shape = self.pick()
        order = [int(a) for a in self.random.permutation(len(shape))]
        if not order:
            return
        self.node("Transpose", [name], tuple(shape[a] for a in order), perm=order)

    def reshape(self) -> None:
        name, shape = self.pick()
        size = int(np.prod(shape))
        if not size:
            return
        divisors = [k for k in range(1, size + 1) if size % k == 0]
        first = int(self.random.choice(divisors))
        rest = size // first
        new = [(size,), (first, rest), (1, first, rest)][int(self.random.integers(3))]
        dims = np.array(new, np.int64)
        if self.random.random() < 0.5:
            dims[-1] = -1
        self.node("Reshape", [name, self.constant(dims)], new)

    def slice(self) -> None:
        name, shape = self.pick()
        axes = [k for k, s in enumerate(shape) if s > 1]
        if not axes:
            return
        axis = int(self.random.choice(axes))
        step = int(self.random.choice([1, 2, -1]))
        indices = range(shape[axis])[1::step] if step > 0 else range(shape[axis])[::step]
        start, end = (1, shape[axis]) if step > 0 else (shape[axis] - 1, -shape[axis] - 1)
        out = (*shape[:axis], len(indices), *shape[axis + 1 :])
        self.node("Slice", [name, *(self.constant(np.array([v], np.int64)) for v in (start, end, axis, step))], out)

    def concat(self) -> None:
        name, shape = self.pick()
        if not shape:
            return
        axis = int(self.random.integers(len(shape)))
        rest = (*shape[:axis], *shape[axis + 1 :])
        same = [(n, s) for n, s in self.values if len(s) == len(shape) and (*s[:axis], *s[axis + 1 :]) == rest]
        parts = [same[int(self.random.integers(len(same)))] for _ in range(int(self.random.integers(1, 3)))] + [(name, shape)]
        total = sum(s[axis] for _, s in parts)
        self.node("Concat", [n for n, _ in parts], (*shape[:axis], total, *shape[axis + 1 :]), axis=axis)

    def pad(self) -> None:
        name, shape = self.pick()
        pads = self.random.integers(0, 3, 2 * len(shape))
        out = tuple(int(s + pads[k] + pads[len(shape) + k]) for k, s in enumerate(shape))
        if shape and np.prod(out) <= 4000:
            self.node("Pad", [name, self.constant(pads.astype(np.int64))], out)

    def gather(self) -> None:
        name, shape = self.pick()
        if not shape:
            return
        axis = int(self.random.integers(len(shape)))
        indices = self.random.integers(-shape[axis], shape[axis], int(self.random.integers(1, 5)))
        self.node("Gather", [name, self.constant(indices)], (*shape[:axis], len(indices), *shape[axis + 1 :]), axis=axis)

    def matmul(self) -> None:
        name, shape = self.pick()
        if len(shape) < 2:
            return
        columns = int(self.random.integers(1, 9))
        weight = self.constant(self.random.standard_normal((shape[-1], columns)).astype(np.float32) / np.float32(np.sqrt(shape[-1])))
        self.node("MatMul", [name, weight], (*shape[:-1], columns))


def _broadcast(a: tuple[int, ...], b: tuple[int, ...]) -> tuple[int, ...] | None:
    try:
        return np.broadcast_shapes(a, b)
    except ValueError:
        return None


def random_model(seed: int, steps: int = 12) -> tuple[ModelProto, dict[str, np.ndarray]]:
    """A model and its feed; some of its input dims are symbols."""
    maker = Maker(seed)
    feed = {}
    inputs = []
    for number in range(2):
        shape = (maker.rows, *(int(s) for s in maker.random.integers(1, 7, int(maker.random.integers(1, 4)))))
        name = f"x{number}"
        feed[name] = maker.random.standard_normal(shape).astype(np.float32)
        symbolic = maker.random.random() < 0.5
        # Reshapes are written for these sizes; a symbol only says that the model does not know.
        declared = ["N" if symbolic else shape[0], *(f"{name}_{k}" if symbolic and k == 1 else s for k, s in enumerate(shape[1:], 1))]
        inputs.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, declared))
        maker.values.append((name, shape))
    for _ in range(steps):
        maker.step()
    used = {name for node in maker.nodes for name in node.input}
    outputs = [name for node in maker.nodes for name in node.output if name not in used] or [maker.values[-1][0]]
    some = [name for node in maker.nodes for name in node.output if name.startswith("v")]
    outputs = list(dict.fromkeys([*outputs, str(maker.random.choice(some))] if some else outputs))
    graph = helper.make_graph(
        maker.nodes, f"random{seed}", inputs, [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs],
        maker.constants,
    )  # fmt: skip
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9), feed
